"""The waiting room: who waits holds no runner, is due at its moment, and is never lost."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any, NamedTuple

import pytest

from sqspider.cli.worker import run_loop
from sqspider.work.waiting import CROWD, FULL_HOUSE, WaitingRoom
from tests.simulation.loop import VirtualLoop


class Guest(NamedTuple):
    number: int
    host: str = "h"


def virtually(coroutine: Any) -> Any:
    """Run something where waits take no time."""
    loop = VirtualLoop(most_seconds=1e6, most_events=1_000_000)
    asyncio.set_event_loop(loop)
    try:
        return loop.run_until_complete(coroutine)
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def now() -> float:
    return 1e9 + asyncio.get_running_loop().time()


def test_guests_come_at_their_moments_and_what_is_due_at_once_before_them() -> None:
    async def play() -> list[tuple[int, float]]:
        room: WaitingRoom[Guest] = WaitingRoom(now)
        begin = now()
        for number, seconds in ((1, 3.0), (2, 1.0), (3, 2.0), (4, -5.0)):
            room.put(Guest(number), at=begin + seconds)
        room.put(Guest(5))
        assert room.waiting == 3
        return [((await room.next()).number, round(now() - begin, 3)) for _ in range(5)]

    assert virtually(play()) == [(4, 0.0), (5, 0.0), (2, 1.0), (3, 2.0), (1, 3.0)]


def test_who_waits_for_a_word_comes_when_it_is_told_or_at_its_moment() -> None:
    async def play() -> list[tuple[int, float]]:
        room: WaitingRoom[Guest] = WaitingRoom(now)
        loop, begin = asyncio.get_running_loop(), now()
        word: asyncio.Future[None] = loop.create_future()
        room.put(Guest(1), told=word)
        room.put(Guest(2), told=word, at=begin + 1)
        room.put(Guest(3), told=word, at=begin + 9)
        loop.call_later(4, word.set_result, None)
        came = [((await room.next()).number, round(now() - begin, 3)) for _ in range(3)]
        await asyncio.sleep(10)  # the moment of the third passes
        room.put(Guest(4), told=word)
        assert (await room.next()).number == 4
        assert room.waiting == 0
        return came

    assert virtually(play()) == [(2, 1.0), (1, 4.0), (3, 4.0)]


@pytest.mark.parametrize("seconds", [0.0002, 0.002])
def test_waits_shorter_than_a_tick_end_on_the_loop_that_commands_run_on_too(seconds: float) -> None:
    async def play() -> int:
        loop = asyncio.get_running_loop()
        room: WaitingRoom[Guest] = WaitingRoom(loop.time)
        for number in range(3):
            room.put(Guest(number), at=loop.time() + seconds)
        came = [(await asyncio.wait_for(room.next(), 10)).number for _ in range(3)]
        assert sorted(came) == [0, 1, 2]
        return 0

    assert run_loop(play()) == 0


def test_a_word_for_a_wait_that_is_over_ends_no_later_one() -> None:
    async def play() -> float:
        room: WaitingRoom[Guest] = WaitingRoom(now)
        guest, begin = Guest(1), now()
        word: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        room.put(guest, told=word, at=begin + 1)
        assert await room.next() == guest
        room.put(guest, at=begin + 5)
        word.set_result(None)
        assert await room.next() == guest
        return now() - begin

    assert virtually(play()) == pytest.approx(5)


def test_a_clock_that_is_put_back_makes_no_wait_longer() -> None:
    async def play() -> float:
        skew = 0.0
        room: WaitingRoom[Guest] = WaitingRoom(lambda: now() + skew)
        begin = now()
        room.put(Guest(1), at=begin + 2)
        skew = -3600
        await room.next()
        return now() - begin

    assert virtually(play()) == pytest.approx(2)


def test_closing_sends_everybody_away_and_lets_nobody_wait() -> None:
    async def play() -> None:
        room: WaitingRoom[Guest] = WaitingRoom(now)
        word: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        room.put(Guest(1), at=now() + 100)
        room.put(Guest(2), told=word)
        room.put(Guest(3))
        assert sorted(guest.number for guest in room.close()) == [1, 2, 3]
        assert (room.waiting, room.due) == (0, 0)
        word.set_result(None)
        room.put(Guest(4), at=now() + 100)
        assert (await asyncio.wait_for(room.next(), 1)).number == 4
        room.open()
        room.put(Guest(5), at=now() + 100)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(room.next(), 90)
        assert (await room.next()).number == 5

    virtually(play())


def test_a_crowd_is_told_by_host_and_by_all() -> None:
    async def play() -> None:
        room: WaitingRoom[Guest] = WaitingRoom(now)
        for number in range(CROWD):
            assert not room.is_crowded("a")
            room.put(Guest(number, "a"), at=now() + 1)
        assert room.is_crowded("a")
        assert not room.is_crowded("b")
        for number in range(CROWD, FULL_HOUSE):
            room.put(Guest(number, str(number)), at=now() + 2)
        assert room.is_crowded("b")
        for _ in range(CROWD):
            await room.next()
        assert not room.is_crowded("a")
        assert not room.is_crowded("b")

    virtually(play())


@pytest.mark.parametrize("when", ["while it waits", "when it has just got one"])
def test_a_runner_that_is_cancelled_loses_nobody(when: str) -> None:
    async def play() -> None:
        room: WaitingRoom[Guest] = WaitingRoom(now)
        runner = asyncio.ensure_future(room.next())
        await asyncio.sleep(0)
        if when == "when it has just got one":
            room.put(Guest(1))
        runner.cancel()
        await asyncio.wait([runner])
        assert runner.cancelled()
        room.put(Guest(1 if when == "while it waits" else 2))
        assert (await room.next()).number == 1

    virtually(play())


@pytest.mark.parametrize("seed", range(30))
def test_whatever_comes_everybody_is_due_once_and_never_before_the_time(seed: int) -> None:
    rng = random.Random(seed)

    async def play() -> Counter[int]:
        room: WaitingRoom[Guest] = WaitingRoom(now)
        taken: Counter[int] = Counter()
        earliest: dict[int, float] = {}

        async def run() -> None:
            while True:
                guest = await room.next()
                assert now() >= earliest[guest.number] - 1e-6
                taken[guest.number] += 1
                if rng.random() < 0.5:
                    await asyncio.sleep(rng.uniform(0, 2))

        loop = asyncio.get_running_loop()
        runners = [loop.create_task(run()) for _ in range(rng.randint(1, 4))]
        for number in range(100):
            at = now() + rng.uniform(-1, 5)
            word: asyncio.Future[None] | None = None
            earliest[number] = max(at, now())
            if rng.random() < 0.3:
                word = loop.create_future()
                told_at = rng.uniform(0, 5)
                earliest[number] = min(earliest[number], now() + told_at)
                loop.call_later(told_at, word.set_result, None)
            room.put(Guest(number, str(number % 3)), at=at, told=word)
            await asyncio.sleep(rng.uniform(0, 0.2))
        await asyncio.sleep(300)
        assert room.waiting == 0
        for runner in runners:
            runner.cancel()
        await asyncio.wait(runners)
        assert not any(runner.exception() for runner in runners if not runner.cancelled())
        return taken

    assert virtually(play()) == Counter(range(100))
