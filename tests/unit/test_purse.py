"""A worker's share, however its asks and its ends come between each other."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given
from hypothesis import strategies as st

from sqspider.frontier.shares import Ask, Most, Portion, Run, Spent, after, shared
from sqspider.work.purse import REFUSED_SECONDS, Purse

NOW = 1_700_000_000.0


class Row:
    """The row of a run, where each operation takes its time before and after it is made."""

    def __init__(self, chance: random.Random, most: int) -> None:
        self.run: Run | None = None
        self.most = Most(most)
        self.spent = 0
        self._chance = chance

    async def pass_time(self) -> None:
        for _ in range(self._chance.randint(0, 3)):
            await asyncio.sleep(0)

    async def ask(self, ask: Ask) -> Portion:
        await self.pass_time()
        self.run, portion = shared(self.run, ask, NOW)
        await self.pass_time()
        return portion

    async def fetch(self, purse: Purse, worker_id: str) -> bool:
        """Take a page, and end it: done, or given back. Whether there was one."""
        await self.pass_time()
        if not await purse.take(self.most, Spent()):
            return False
        await self.pass_time()
        if self._chance.random() < 0.7:
            assert self.run is not None
            assert self.run.shares[worker_id].pages >= 1, "it has what it takes"
            self.run = after(self.run, {worker_id: Spent(1)})
            await self.pass_time()
            self.spent += 1
            purse.settle(1)
        purse.in_hand -= 1
        return True


@given(st.randoms(use_true_random=False), st.integers(1, 12), st.integers(1, 30))
def test_no_more_is_taken_than_there_is_and_all_is_given_back(chance: random.Random, most: int, urls: int) -> None:
    async def main() -> None:
        row = Row(chance, most)
        purses = {name: Purse(row.ask, "r", worker_id=name, seconds=60, clock=lambda: NOW) for name in ("one", "two")}
        fetches = [row.fetch(purses[name], name) for name in chance.choices(list(purses), k=urls)]
        were_taken = await asyncio.gather(*fetches)
        for purse in purses.values():
            assert await purse.give_back()
        assert row.run is not None
        assert not row.run.shares
        assert row.run.spent == row.spent <= most
        assert any(were_taken)

    asyncio.run(main())


async def test_who_was_refused_asks_again_after_a_while_or_for_another_most() -> None:
    now, asks = NOW, []

    async def ask(ask: Ask) -> Portion:
        asks.append(ask)
        return Portion(0, Spent(3), 2)

    purse = Purse(ask, "r", worker_id="one", seconds=60, clock=lambda: now)
    for _ in range(3):
        assert not await purse.take(Most(5), Spent())
    assert len(asks) == 1
    now = purse.refused_until
    assert not await purse.take(Most(5), Spent())
    assert not await purse.take(Most(6), Spent())
    assert [ask.most.pages for ask in asks] == [5, 5, 6]


async def test_a_refusal_after_more_was_had_is_a_first_one() -> None:
    now, free = NOW, 0

    async def ask(ask: Ask) -> Portion:
        return Portion(min(ask.wanted, free), Spent(), 0)

    purse = Purse(ask, "r", worker_id="one", seconds=3600, clock=lambda: now)
    assert not await purse.take(Most(5), Spent())
    now, free = purse.refused_until, 1
    assert await purse.take(Most(5), Spent())
    now += 600
    assert not await purse.take(Most(5), Spent())
    assert purse.refused_until == now + REFUSED_SECONDS[0]


async def test_a_narrower_most_holds_for_what_is_shared_out_already() -> None:
    row = Row(random.Random(0), 10)
    purse = Purse(row.ask, "r", worker_id="one", seconds=60, clock=lambda: NOW)
    assert await purse.want(4, Most(10)) == 4
    assert [await purse.take(Most(2), Spent()) for _ in range(3)] == [True, True, False]


async def test_a_share_that_has_run_out_is_spent_no_more() -> None:
    now, row = NOW, Row(random.Random(0), 10)
    purse = Purse(row.ask, "r", worker_id="one", seconds=60, clock=lambda: now)
    assert await purse.want(4, Most(10)) == 4
    now += 61
    assert purse.left == 0
    assert await purse.want(4, Most(10)) == 4


async def test_a_share_of_before_the_clock_was_put_back_is_asked_for_anew() -> None:
    now, row = NOW, Row(random.Random(0), 10)
    purse = Purse(row.ask, "r", worker_id="one", seconds=60, clock=lambda: now)
    assert await purse.want(4, Most(10)) == 4
    assert not purse.is_due
    now -= 3600
    assert purse.left == 0, "by now others may have it"
    assert purse.is_due
    assert await purse.want(4, Most(10)) == 4
    assert not purse.is_due


async def test_a_refusal_of_before_the_clock_was_put_back_holds_nobody_up() -> None:
    now, others = NOW, 2

    async def ask(ask: Ask) -> Portion:
        return Portion(ask.wanted if not others else 0, Spent(3), others)

    purse = Purse(ask, "r", worker_id="one", seconds=60, clock=lambda: now)
    assert not await purse.take(Most(5), Spent())
    assert purse.is_refused
    now, others = NOW - 3600, 0
    assert not purse.is_refused
    assert await purse.take(Most(5), Spent())
