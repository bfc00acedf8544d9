"""The three verbs of politeness as their callers meet them: what is awaited, what is begun, what is left behind."""

from __future__ import annotations

import asyncio
import gc
import random
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import (
    Entered,
    Entrance,
    Frontier,
    FrontierBusyError,
    FrontierError,
    FrontierSettings,
    RobotsRow,
    open_frontier,
)
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.host import Admission, HostRow, RobotsAccess
from sqspider.message import Message
from sqspider.politeness import Asked, Awaited, Busy, Politeness, Postponed, Request, Turn
from sqspider.politeness.entering import PROLONG_SECONDS
from sqspider.record import Reason
from sqspider.scope import Blocked
from sqspider.transport.names import Resolver
from sqspider.url import origin_of
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from tests.crawl.test_orders import HOST, held
from tests.frontier.kit import FakeClock
from tests.sites import HeldSite

__all__ = ["held"]  # a fixture

FETCH = FetchOptions(allow_private=True, timeout_seconds=30.0)
AT_ONCE = CrawlSettings(delay_seconds=0)


@pytest.fixture
async def frontier(tmp_path: Path) -> AsyncIterator[Frontier]:
    frontier = await open_frontier(f"sqlite:{tmp_path / 'f.db'}", FrontierSettings(), clock=time.time)
    yield frontier
    await frontier.close()


@asynccontextmanager
async def keeper(
    frontier: Frontier,
    *,
    clock: Callable[[], float] = time.time,
    stopping: asyncio.Event | None = None,
    robots_at_a_time: int = 16,
) -> AsyncIterator[Politeness]:
    async with Fetcher(FETCH) as fetcher:
        politeness = Politeness(
            frontier, fetcher, clock=clock, rng=random.Random(), stopping=stopping or asyncio.Event(),
            request_seconds=30, robots_grace_seconds=0, linger_seconds=0, robots_at_a_time=robots_at_a_time,
        )  # fmt: skip
        yield politeness
        await politeness.close()


async def awaited(politeness: Politeness, url: str) -> asyncio.Future[None]:
    verdict = await politeness.judge(Message(url=url, settings=AT_ONCE))
    assert isinstance(verdict, Awaited)
    return verdict.future


# robots.txt, asked for by one for all.


async def test_one_asks_for_robots_txt_for_all_and_each_waits_for_himself(frontier: Frontier, held: HeldSite) -> None:
    async with keeper(frontier) as politeness:
        first, second, third = [await awaited(politeness, held.url(path)) for path in "abc"]
        await held.until_in_flight(1)
        first.cancel()  # he waits no longer, and nobody else is disturbed by that
        held.bodies["/robots.txt"] = "User-agent: *\nDisallow: /c"
        held.may_answer.set()
        await asyncio.gather(second, third)
        assert await politeness.judge(Message(url=held.url("b"), settings=AT_ONCE)) is None
        verdict = await politeness.judge(Message(url=held.url("c"), settings=AT_ONCE))
        assert isinstance(verdict, Blocked)
        assert verdict.reason is Reason.ROBOTS
    assert held.requests == ["/robots.txt"]


async def test_no_more_robots_txt_are_asked_for_at_a_time_than_may_be(frontier: Frontier, held: HeldSite) -> None:
    """Servers that say nothing would have all connections, and whoever waits for one is out of time by our fault."""
    async with keeper(frontier, robots_at_a_time=1) as politeness:
        futures = [await awaited(politeness, held.url("a", port=port)) for port in (0, 1)]
        await held.until_in_flight(1)
        # Nobody asks for the second: its lease is to be had.
        assert await frontier.lease_robots([origin_of(held.url(port=1))], until=time.time()) == [True]
        held.may_answer.set()
        await asyncio.gather(*futures)
    assert held.requests == ["/robots.txt", "/robots.txt"]


@asynccontextmanager
async def without_robots(path: Path) -> AsyncIterator[None]:
    """So that a frontier cannot say what it knows of robots.txt."""
    with sqlite3.connect(path / "f.db") as connection:
        connection.execute("ALTER TABLE robots RENAME TO away")
        connection.commit()
        yield
        connection.execute("ALTER TABLE away RENAME TO robots")
    connection.close()


async def test_what_ails_the_frontier_reaches_all_who_wait_for_robots_txt(
    frontier: Frontier, held: HeldSite, tmp_path: Path
) -> None:
    """And nobody else: not him who waits no longer, nor the loop as what nobody asked about."""
    unheard: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    held.may_answer.set()
    async with keeper(frontier) as politeness:
        async with without_robots(tmp_path):
            futures = [await awaited(politeness, held.url(path)) for path in "abc"]
            futures.pop().cancel()
            with capture_logs() as logs:
                found = await asyncio.gather(*futures, return_exceptions=True)
        assert [isinstance(error, FrontierError) for error in found] == [True, True]
        assert logs == []
        await awaited(politeness, held.url("a"))  # it is asked for anew, and not for ever in trouble
        (task,) = politeness._robots._tasks
        await task
        assert await politeness.judge(Message(url=held.url("a"), settings=AT_ONCE)) is None
    del futures, found
    gc.collect()
    assert unheard == []


async def test_what_went_wrong_while_nobody_waits_is_said(frontier: Frontier, held: HeldSite, tmp_path: Path) -> None:
    unheard: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unheard.append(context))
    async with keeper(frontier) as politeness, without_robots(tmp_path):
        (await awaited(politeness, held.url("a"))).cancel()
        (task,) = politeness._robots._tasks
        with capture_logs() as logs:
            await asyncio.wait((task,))
    assert [(line["event"], line["origin"]) for line in logs] == [("robots_lost", held.url().rstrip("/"))]
    del task
    gc.collect()
    assert unheard == []


async def test_who_is_told_to_stop_ends_what_he_asked_for_robots_txt(frontier: Frontier, held: HeldSite) -> None:
    """So that no other worker waits for the end of a lease."""
    stopping = asyncio.Event()
    async with keeper(frontier, stopping=stopping) as politeness:
        future = await awaited(politeness, held.url("a"))
        await held.until_in_flight(1)
        stopping.set()
        closing = asyncio.create_task(politeness.close())
        await asyncio.sleep(0)
        assert not closing.done()
        held.may_answer.set()
        await closing
        assert future.done()
        assert (await frontier.robots([origin_of(held.url())])).popitem()[1].access is RobotsAccess.OBEY
        assert politeness._robots._tasks == set()


async def test_who_breaks_off_leaves_what_he_asked_for_robots_txt(frontier: Frontier, held: HeldSite) -> None:
    async with keeper(frontier) as politeness:
        future = await awaited(politeness, held.url("a"))
        await held.until_in_flight(1)
        await politeness.close()
        assert future.cancelled()
        assert politeness._robots._tasks == set()
    assert await frontier.robots([origin_of(held.url())]) == {}


# What is begun.


async def test_what_is_begun_has_its_hosts_permission(frontier: Frontier, held: HeldSite) -> None:
    """Nobody else is let in between, and what is not begun is not asked for, nor holds it."""
    request = Request(held.url("a"), CrawlSettings(delay_seconds=0.01))
    held.may_answer.set()
    found: list[object] = []
    async with keeper(frontier) as politeness, keeper(frontier) as other:

        async def begin() -> None:
            found.append(await other.fetch(request))

        assert await politeness.fetch(request, begin=begin) is None
        assert isinstance(found[0], Busy)
        assert held.requests == []
        await politeness.pause_until(found[0].again_at)
        assert isinstance(await other.fetch(request), Asked)
    assert held.requests == ["/a"]


@pytest.mark.parametrize("delay", [0, 0.01])
async def test_nothing_is_asked_after_the_latest_moment_at_which_it_may_begin(
    frontier: Frontier, held: HeldSite, delay: float
) -> None:
    request = Request(held.url("a"), CrawlSettings(delay_seconds=delay))

    async def begin() -> float:
        return time.time() - 0.001

    async with keeper(frontier) as politeness:
        assert isinstance(await politeness.fetch(request, begin=begin), Busy)
    assert held.requests == []


async def test_a_permission_that_was_begun_too_late_is_asked_for_anew(frontier: Frontier, held: HeldSite) -> None:
    """The distance is kept from the second one, and what the first one kept away is let in no sooner."""
    ahead = 0.0
    held.may_answer.set()
    request = Request(held.url("a"), CrawlSettings(delay_seconds=0.01))

    def clock() -> float:
        return time.time() + ahead

    async def begin() -> float:
        nonlocal ahead
        ahead += 30
        return clock() + 60

    async with keeper(frontier, clock=clock) as politeness:
        started_at = clock()
        asked = await politeness.fetch(request, begin=begin)
        assert isinstance(asked, Asked)
        assert asked.asked_at >= started_at + 30
    assert held.requests == ["/a"]


class LetsInForAWhile(MemoryFrontier):
    """It lets a request in for half a second, and is too busy to say that it may go on."""

    async def enter(self, entrances: Sequence[Entrance]) -> list[Admission]:
        if not entrances[0].delay_seconds:  # it is to go on
            raise FrontierBusyError("not now")
        until = self.now() + PROLONG_SECONDS
        return [msgspec.structs.replace(answer, lapses_at=until) for answer in await super().enter(entrances)]


@asynccontextmanager
async def lapsing(resolver: Resolver | None = None) -> AsyncIterator[tuple[Politeness, FakeClock]]:
    clock = FakeClock()
    frontier = LetsInForAWhile(MemoryStore(), FrontierSettings(), clock=clock, rng=random.Random())
    async with Fetcher(FETCH, resolver=resolver) as fetcher:
        politeness = Politeness(
            frontier, fetcher, clock=clock, rng=random.Random(), stopping=asyncio.Event(), request_seconds=30,
            robots_grace_seconds=0, linger_seconds=0,
        )  # fmt: skip
        yield politeness, clock
        await politeness.close()


async def test_a_request_whose_permission_lapsed_after_it_was_written_was_made(held: HeldSite) -> None:
    """It is not given back as if it had not been, and nobody is to blame for it."""
    async with lapsing() as (politeness, clock):
        asked: Asked | Busy | None = None
        while not held.requests:  # half a second may not be enough to connect
            clock.now += 1
            asked = await politeness.fetch(Request(held.url("a"), CrawlSettings(delay_seconds=0.1)))
        assert isinstance(asked, Asked)
        assert (asked.fetched.reason, asked.fetched.is_broken_off) == (Reason.TIMEOUT, True)
        assert not asked.learned.counts
        again = await politeness.fetch(Request(held.url("a"), CrawlSettings(delay_seconds=0.1)))
        assert again == Busy(clock() + 0.1)  # as after any request that was made


async def test_a_request_whose_permission_lapsed_before_it_was_written_was_not_made() -> None:
    class Silent:
        async def resolve(self, name: str) -> list[str]:
            await asyncio.Event().wait()
            return [name]

    async with lapsing(Silent()) as (politeness, clock):
        request = Request("http://site.example/a", CrawlSettings(delay_seconds=0.1))
        assert await politeness.fetch(request) == Busy(clock())


# What is free.


FREE = HostRow(host=HOST)


@pytest.mark.parametrize(
    ("row", "settings", "is_free"),
    [
        ({}, {}, True),
        ({}, {"delay_seconds": 1.0}, False),
        ({}, {"obey_robots": True}, False),
        ({"is_paused": True}, {}, False),
        ({"is_blocked": True}, {}, False),
        ({"delay_seconds": 1.0}, {}, False),
        ({"rest_until": 2e9}, {}, False),
        ({"rests": 1, "trouble": Reason.TIMEOUT, "penalty_since": 2e9}, {}, False),
        ({"penalty_seconds": 1.0, "trouble": Reason.TIMEOUT, "penalty_since": 2e9}, {}, False),
    ],
)
async def test_a_url_is_free_if_nothing_that_is_known_stands_against_it(
    frontier: Frontier, row: dict[str, Any], settings: dict[str, Any], is_free: bool
) -> None:
    """Asked from another thread, as the frontier does in the middle of a turn."""
    message = Message(
        url=f"http://{HOST}/a", settings=CrawlSettings(**{"delay_seconds": 0, "obey_robots": False} | settings)
    )
    now = time.time()
    async with keeper(frontier, clock=lambda: now) as politeness:
        assert not await asyncio.to_thread(politeness.is_free, message)  # nothing is known of its host
        politeness.note_rows({HOST: msgspec.structs.replace(FREE, **row)}, now)
        assert await asyncio.to_thread(politeness.is_free, message) is is_free
        politeness.network.failed(Reason.PROXY_UNUSABLE, "no", asked_at=now, now=now)
        assert not politeness.is_free(message)
        politeness.network.answered("another", now)
        now += 3
        assert not politeness.is_free(message)  # what is known is too old


async def test_a_url_is_free_once_its_robots_txt_is_known(frontier: Frontier) -> None:
    now = time.time()
    rules = RobotsRow(origin=f"http://{HOST}", access=RobotsAccess.OBEY, good_at=now, expires_at=now + 60)
    await frontier.save_robots([rules])
    message = Message(url=f"http://{HOST}/a", settings=AT_ONCE)
    async with keeper(frontier) as politeness:
        await awaited(politeness, message.url)
        assert not politeness.is_free(message)
        (task,) = politeness._robots._tasks
        await task
        assert await politeness.judge(message) is None
        under_no_rules = Message(url=message.url, settings=CrawlSettings(delay_seconds=0, obey_robots=False))
        assert [politeness.is_free(each) for each in (message, under_no_rules)] == [True, True]
        await frontier.clear_table()
        await frontier.hosts([HOST])  # by which it is heard of
        assert [politeness.is_free(each) for each in (message, under_no_rules)] == [False, False]
        politeness.note_rows(await frontier.hosts([HOST]), time.time())
        assert [politeness.is_free(each) for each in (message, under_no_rules)] == [False, True]


@pytest.mark.parametrize(
    ("row", "settings", "delay_seconds"),
    [
        ({}, {}, 1.0),
        ({"delay_seconds": 3.0}, {}, 3.0),
        ({"crawl_delay_seconds": 5.0}, {}, 5.0),
        ({"penalty_seconds": 4.0, "trouble": Reason.TIMEOUT, "penalty_since": 2e9}, {}, 4.0),
        ({}, {"delay_seconds": 0.0}, None),
        ({}, {"per_host": 2}, None),
        ({}, {"obey_robots": True}, None),
        ({"is_paused": True}, {}, None),
        ({"is_blocked": True}, {}, None),
        ({"rest_until": 2e9}, {}, None),
        ({"rests": 1, "trouble": Reason.TIMEOUT, "penalty_since": 2e9}, {}, None),
        ({"next_slot": 2e9, "slot_spacing_seconds": 60.0}, {}, None),
    ],
)
async def test_a_host_that_is_well_and_has_a_delay_may_be_entered_with_what_is_taken(
    frontier: Frontier, row: dict[str, Any], settings: dict[str, Any], delay_seconds: float | None
) -> None:
    """All else is asked first, by whoever has it in hand. From another thread, too."""
    message = Message(url=f"http://{HOST}/a", settings=CrawlSettings(**{"obey_robots": False} | settings))
    host, now = msgspec.structs.replace(FREE, **row), time.time()
    async with keeper(frontier, clock=lambda: now) as politeness:
        passage = await asyncio.to_thread(politeness.passage, message, host)
        assert (passage and passage.delay_seconds) == delay_seconds
        if passage is not None:
            assert passage.spacing_seconds > passage.delay_seconds
            assert passage.until >= now + 30
        politeness.network.failed(Reason.PROXY_UNUSABLE, "no", asked_at=now, now=now)
        assert politeness.passage(message, host) is None


async def test_a_host_is_entered_for_what_its_robots_txt_is_known_to_allow(frontier: Frontier) -> None:
    now = time.time()
    rules = RobotsRow(
        origin=f"http://{HOST}", access=RobotsAccess.OBEY, body=b"User-agent: *\nDisallow: /no", good_at=now,
        expires_at=now + 60,
    )  # fmt: skip
    await frontier.save_robots([rules])
    allowed, forbidden = [Message(url=f"http://{HOST}/{path}") for path in ("a", "no")]
    async with keeper(frontier) as politeness:
        assert politeness.passage(allowed, FREE) is None
        await awaited(politeness, allowed.url)
        (task,) = politeness._robots._tasks
        await task
        assert politeness.passage(allowed, FREE) is not None
        assert politeness.passage(forbidden, FREE) is None  # it takes nobody's turn


async def never() -> None:
    raise AssertionError("nothing is to be begun")


async def enters(frontier: Frontier) -> Entered:
    entrance = Entrance(host=HOST, token="t", delay_seconds=0.001, per_host=1, generation=None, until=time.time() + 60)
    return (await frontier.enter([entrance]))[0].entered


@pytest.mark.parametrize("is_down", [False, True])
async def test_a_permission_that_is_not_used_is_given_back(frontier: Frontier, is_down: bool) -> None:
    now = time.time()
    entrance = Entrance(host=HOST, token="mine", delay_seconds=0.001, per_host=1, generation=0, until=now + 60)
    assert [answer.entered for answer in await frontier.enter([entrance])] == [Entered.YES]
    async with keeper(frontier) as politeness:
        permission = politeness.permitted(HOST, "mine", now)
        assert politeness._permissions.under_way == 1
        if is_down:  # our own network: nothing is asked, and the host is not to blame
            politeness.network.failed(Reason.PROXY_UNUSABLE, "no", asked_at=now, now=now)
            request = Request(f"http://{HOST}/a", CrawlSettings(), 0)
            assert isinstance(await politeness.fetch(request, begin=never, permission=permission), Busy)
        else:
            politeness.forgo(permission)
        assert politeness._permissions.under_way == 0
    await asyncio.sleep(0.002)  # the delay
    assert await enters(frontier) is Entered.YES


# When.


async def test_who_is_crowded_is_put_off_sooner(frontier: Frontier) -> None:
    message = Message(url=f"http://{HOST}/a", settings=CrawlSettings(delay_seconds=2))
    async with keeper(frontier) as politeness:
        assert isinstance(await politeness.turn(message, is_crowded=True), Turn)  # its turn is now
        crowded = await politeness.turn(message, is_crowded=True)
        assert isinstance(crowded, Postponed)
        turn = await politeness.turn(crowded.message)
        assert isinstance(turn, Turn)
        assert turn.at == crowded.message.slot
