"""The frontier in memory: the words of the port that it is the first to keep, and what it has for simulators."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import pytest

from sqspider.figures import Counted, Point, Sample
from sqspider.frontier import Deferral, Ends, Entry, Finish, Retry, Taking, Won
from sqspider.frontier.memory import MemoryFrontier, MemoryStore

from .kit import (
    A_LITTLE,
    DONE,
    DUE,
    MAX_RECEIVES,
    SETTINGS,
    VISIBILITY,
    FakeClock,
    SqliteStore,
    claim_all,
    entries,
    message_of,
    record_of,
    take,
    take_one,
    url,
)

T = TypeVar("T")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def state() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def frontier(state: MemoryStore, clock: FakeClock) -> MemoryFrontier:
    return MemoryFrontier(state, SETTINGS, clock=clock)


@pytest.fixture
def other(state: MemoryStore, clock: FakeClock) -> MemoryFrontier:
    return MemoryFrontier(state, SETTINGS, clock=clock)


# Sweeps.


async def test_what_waits_long_is_looked_at_ever_more_seldom_until_it_is_lost(
    frontier: MemoryFrontier, clock: FakeClock
) -> None:
    await frontier.enqueue([Entry(url=url("a"))])

    async def looked_at_after(seconds: float) -> float:
        """In how many seconds a sweep, so long after the one before, has the record looked at again."""
        clock.now += seconds
        assert await frontier.sweep() == 0
        return ((await record_of(frontier, url("a"))).due_at or 0) - clock()

    assert await looked_at_after(DUE + A_LITTLE) == pytest.approx(DUE)
    assert await looked_at_after(600) == pytest.approx(600 + A_LITTLE)
    assert await looked_at_after(10 * 3600) == pytest.approx(3600)
    await frontier.purge_queue()
    clock.now += DUE + A_LITTLE
    assert await frontier.sweep() == 1


# A frontier whose time is a simulator's.


class Dying:
    """Runs each step of a worker, that dies at some moment: before the step, or after it."""

    def __init__(self) -> None:
        self.dies_before = self.dies_after = False

    async def run(self, work: Callable[[], T], end: Callable[[], None] | None = None) -> T:  # noqa: ARG002 - no disk
        await self._go_on(self.dies_before)
        answer = work()
        await self._go_on(self.dies_after)
        return answer

    def close(self) -> None: ...

    async def _go_on(self, dies: bool) -> None:
        if dies:
            await asyncio.Event().wait()
        await asyncio.sleep(0)


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("is_done", [False, True])
async def test_a_step_of_a_worker_that_dies_has_happened_or_not(
    state: MemoryStore, frontier: MemoryFrontier, clock: FakeClock, is_done: bool
) -> None:
    dying = Dying()
    dying.dies_before, dying.dies_after = not is_done, is_done
    dead = asyncio.create_task(MemoryFrontier(state, SETTINGS, clock=clock, runner=dying).enqueue(entries(2)))
    await turns()
    assert not dead.done()
    assert len(await frontier.receive(10)) == (await frontier.counts()).total == 2 * is_done
    dead.cancel()


async def test_a_worker_that_dies_while_it_waits_takes_nothing_along(
    state: MemoryStore, frontier: MemoryFrontier, clock: FakeClock
) -> None:
    dying = Dying()
    dead = asyncio.create_task(MemoryFrontier(state, SETTINGS, clock=clock, runner=dying).receive(10, wait_seconds=60))
    await turns()
    dying.dies_before = True
    await frontier.send([url("a")])
    await turns()
    assert (await frontier.receive(10))[0].receive_count == 1
    dead.cancel()


async def test_two_that_wait_are_both_woken(state: MemoryStore, frontier: MemoryFrontier, clock: FakeClock) -> None:
    waiting = [
        asyncio.create_task(MemoryFrontier(state, SETTINGS, clock=clock).receive(1, wait_seconds=60)) for _ in range(2)
    ]
    await turns()
    await frontier.send([url("a"), url("b")])
    assert {delivery.body for [delivery] in await asyncio.gather(*waiting)} == {url("a"), url("b")}


async def test_a_receive_that_waits_is_woken_by_what_is_sent_and_by_time(state: MemoryStore) -> None:
    loop = asyncio.get_running_loop()
    frontier = MemoryFrontier(state, SETTINGS, clock=loop.time)
    waits = asyncio.create_task(frontier.receive(10, wait_seconds=60))
    await asyncio.sleep(0.01)
    assert not waits.done()
    await frontier.send([url("a")])
    [delivery] = await waits
    await frontier.defer([Deferral(delivery=delivery, until=loop.time() + 0.05)])
    assert (await frontier.receive(10, wait_seconds=60))[0].message_id == delivery.message_id


async def test_what_a_turn_sends_wakes_who_waits(frontier: MemoryFrontier, other: MemoryFrontier) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    [delivery] = await frontier.receive(1)
    [claim] = await claim_all(frontier, [delivery])
    assert isinstance(claim, Won)
    waits = asyncio.create_task(other.receive(1, wait_seconds=60))
    await turns()
    assert not waits.done()
    finish = Finish(claim=claim, delivery=delivery, outcome=DONE, links=(Entry(url=url("link")),))
    taking = Taking(limit=0, worker_id="w", claim_id="t", lease_seconds=1.0, claims=lambda _: True)
    await frontier.turn(Ends(finishes=[finish]), taking)
    await turns()
    assert waits.done()
    assert message_of((await waits)[0]).url == url("link")


async def test_what_is_put_off_to_one_moment_twice_comes_once(frontier: MemoryFrontier, clock: FakeClock) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    later = clock() + 5
    for _ in range(2):
        await frontier.defer([Deferral(delivery=await take_one(frontier), until=later)])
        await frontier.release_host("example.com")
    await frontier.defer([Deferral(delivery=await take_one(frontier), until=later)])
    clock.now = later
    assert [delivery.receive_count for delivery in await frontier.receive(10)] == [1]


# Costs.

BATCH = 10


async def lines_of_a_life(waiting: int) -> Counter[str]:
    """The lines that each operation on a few URLs runs, while so many others wait: fresh, or put off to later."""
    clock, state, lines = FakeClock(), MemoryStore(), Counter[str]()
    frontier = MemoryFrontier(state, SETTINGS, clock=clock)
    others = [Entry(url=url(n, f"h{n % 50}.example")) for n in range(waiting)]
    await frontier.enqueue(others[: waiting // 2])
    await frontier.defer([Deferral(delivery=d, until=clock() + 3600) for d in await take(frontier, waiting // 2)])
    await frontier.enqueue(entries(2 * BATCH + 1, host="mine.example"))
    await frontier.enqueue(others[waiting // 2 :])
    clock.now += DUE + A_LITTLE
    await frontier.sweep()  # looks at all of them once
    await take_one(frontier)  # and this passes once over what heaps hold of the past

    async def count(name: str, work: Coroutine[Any, Any, T]) -> T:
        def trace(frame: FrameType, event: str, _: object) -> Any:
            if "/sqspider/frontier/" not in frame.f_code.co_filename:
                return None
            lines[name] += event == "line"
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            return await work
        finally:
            sys.settrace(before)

    deliveries = await count("receive", frontier.receive(BATCH)) + await count("receive", frontier.receive(BATCH))
    assert all("mine.example" in delivery.body for delivery in deliveries)
    claims = [claim for claim in await count("claim", claim_all(frontier, deliveries)) if isinstance(claim, Won)]
    pairs = list(zip(claims, deliveries, strict=True))
    links = tuple(entries(2 * BATCH, host="new.example"))
    await count(
        "finish", frontier.finish([Finish(claim=c, delivery=d, outcome=DONE, links=links) for c, d in pairs[5:]])
    )
    late = [Retry(claim=c, delivery=d, at=clock() + 60, tried=True) for c, d in pairs[:5]]
    await count("retry", frontier.retry(late))
    assert await count("release_host", frontier.release_host("mine.example")) == 5
    assert await count("sweep", frontier.sweep()) == 0
    await count("counts", frontier.counts())
    return lines


async def test_what_a_url_costs_does_not_grow_with_what_waits() -> None:
    few, many = await lines_of_a_life(100), await lines_of_a_life(2_000)
    assert min(few.values()) > 0
    assert {name: (few[name], many[name]) for name in few if many[name] > 1.1 * few[name]} == {}


# Samples.


async def test_points_are_the_same_as_in_a_file(frontier: MemoryFrontier, clock: FakeClock, tmp_path: Path) -> None:
    file = SqliteStore(tmp_path)
    in_file = await file.open()
    parts = {
        70: {"news": Counted(done=1), "2024": Counted(received=2, fetches=1, fetch_seconds=0.5), "default": Counted()},
        120: {"news": Counted(done=2, bytes=7), "default": Counted(fetches=4, fetch_seconds=1.0)},
    }
    for at, fetches in ((60, 0), (70, 2), (119, 3), (120, 4), (250, 1), (360, 9)):
        sample = Sample(
            at=clock() + at, seconds=10, received=fetches, done=1, fetches=fetches, fetch_seconds=fetches / 2,
            crawls=parts.get(at, {}),
        )  # fmt: skip
        for handle in (frontier, in_file):
            await handle.enqueue([Entry(url=url(at))])
            await handle.receive(1)
            await handle.save_sample(sample)
        await file.elapse(1)
        clock.now += 1
    since, until = clock.now, clock.now + 300
    points = await frontier.points(since=since, until=until, period_seconds=60)
    assert [point.oldest_age_seconds for point in points] == [1, 3, 4]  # since the first message was sent
    assert points == await in_file.points(since=since, until=until, period_seconds=60)
    assert sum(point.done or 0 for point in points) == 5  # the last came too late
    of: dict[str, list[Point]] = {}
    for crawl in ("news", "2024", "default", "other"):
        of[crawl] = await frontier.points(since=since, until=until, period_seconds=60, crawl=crawl)
        assert of[crawl] == await in_file.points(since=since, until=until, period_seconds=60, crawl=crawl)
    assert [(point.done, point.bytes, point.visible) for point in of["news"]] == [(1, 0, None), (2, 7, None)]
    assert [(point.received, point.fetch_seconds) for point in of["2024"]] == [(2, 0.5)]
    assert [(point.done, point.fetch_seconds) for point in of["default"]] == [(1, None), (1, 2.5 / 7), (1, 0.5)]
    assert of["other"] == []
    await file.close()


# Dead letters.


async def test_dead_letters_come_back_with_what_they_said(frontier: MemoryFrontier, clock: FakeClock) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    for _ in range(MAX_RECEIVES):
        await take_one(frontier)
        clock.now += VISIBILITY + A_LITTLE
    assert await frontier.receive(1) == []
    clock.now += DUE
    assert await frontier.sweep() == 1  # a dead letter is no way back
    assert await frontier.redrive() == 1
    assert [message_of(d).url for d in await take(frontier, 2)] == [url("a")] * 2
