"""What a worker holds for who takes the pages: bounded, prolonged, given back, and lost only to another claim."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator

import msgspec
import pytest
import structlog

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import ClaimRequest, Entry, Finish, Hold, Traits, Won
from sqspider.frontier.sqlite import SqliteFrontier
from sqspider.message import Message, decode_message
from sqspider.record import Status
from sqspider.under_way import Added
from sqspider.url import Scope
from sqspider.web.fetch import FetchOptions
from sqspider.work import prolonging, visit
from sqspider.work.hand import AHEAD
from sqspider.work.holding import MOST_HELD, Held
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.worker import Worker
from tests.crawl.test_crew import _both_desks, opened, records_of, until, working
from tests.sites import Asked, Site

__all__ = ["_both_desks"]  # a fixture

PAGES = 150
AT_ONCE = CrawlSettings(delay_seconds=0, obey_robots=False)
OPTIONS = WorkerOptions(worker_id="tester", concurrency=8)
FETCH = FetchOptions(allow_private=True, timeout_seconds=10.0)
MOST_CLAIMED = 8 + 2  # by eight runners, and ahead of them


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    site.bodies = {f"/{n}": b"" for n in range(PAGES)}
    yield site
    site.close()


async def holds(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


def rests(worker: Worker) -> bool:
    """No runner has anything to do, and nothing is on its way to the frontier."""
    waiting = worker._hand.waiting
    return not waiting.at_work and not waiting.due and not worker._endings.under_way


async def seed(frontier: SqliteFrontier, site: Site, count: int) -> None:
    await produce(frontier, [f"{site.url}{n}" for n in range(count)], AT_ONCE, on_refused=print)


@pytest.mark.usefixtures("_both_desks")
async def test_who_takes_no_pages_stops_the_worker_and_who_does_lets_it_go_on(site: Site) -> None:
    taken: list[Held] = []
    async with opened() as frontier:
        await seed(frontier, site, PAGES)
        async with working(frontier, OPTIONS, fetch=FETCH, take=taken.append) as worker:
            await holds(lambda: len(taken) >= MOST_HELD and rests(worker))
            assert len(taken) <= MOST_HELD + MOST_CLAIMED
            assert (await frontier.counts()).by_status[Status.DONE] == 0
            for at in range(PAGES):
                await holds(lambda at=at: len(taken) > at)  # type: ignore[misc]
                taken[at].finish()
                assert len(taken) - at - 1 <= MOST_HELD + MOST_CLAIMED
            await until(frontier, done=PAGES)
        assert {record.attempt for record in await records_of(frontier)} == {1}
    assert len(site.paths) == len(taken) == PAGES


@pytest.mark.usefixtures("_both_desks")
async def test_what_is_held_is_given_back_unused_at_a_stop(site: Site) -> None:
    taken: list[Held] = []
    async with opened() as frontier:
        await seed(frontier, site, PAGES)
        async with working(frontier, OPTIONS, fetch=FETCH, take=taken.append) as worker:
            await holds(lambda: len(taken) >= MOST_HELD and rests(worker))
            taken[0].finish()
        records = await records_of(frontier)
        taken[1].finish()  # said too late
        await worker._desk.close()
        assert await records_of(frontier) == records
        assert [record.url for record in records if record.status is Status.DONE] == [taken[0].message.url]
        left = [record for record in records if record.status is not Status.DONE]
        assert {(record.status, record.unended, record.tries) for record in left} == {(Status.QUEUED, 0, 0)}


async def test_what_is_given_back_comes_again(site: Site) -> None:
    taken: list[Held] = []
    async with opened() as frontier:
        await seed(frontier, site, 1)
        async with working(frontier, OPTIONS, fetch=FETCH, take=taken.append):
            await holds(lambda: len(taken) == 1)
            taken[0].give_back()
            taken[0].finish()  # once is enough
            await holds(lambda: len(taken) == 2)
            taken[1].finish()
            await until(frontier, done=1)


async def lease_of(frontier: SqliteFrontier) -> float:
    ((record,),) = [batch async for batch in frontier.scan()]
    return record.lease_until or 0.0


async def test_a_page_is_held_for_many_leases(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prolonging, "LOOK_SECONDS", 0.01)
    passed = 0.0
    clock: Callable[[], float] = lambda: time.time() + passed  # noqa: E731
    taken: list[Held] = []
    async with opened(clock) as frontier:
        await seed(frontier, site, 1)
        async with working(frontier, OPTIONS, clock, FETCH, take=taken.append), asyncio.timeout(30):
            await holds(lambda: len(taken) == 1)
            for _ in range(8):
                passed += OPTIONS.lease_seconds / 2
                while await lease_of(frontier) < clock() + OPTIONS.lease_seconds * 2 / 3:
                    await asyncio.sleep(0.005)
                assert await frontier.receive(10) == []
            taken[0].finish()
            await until(frontier, done=1)
        (record,) = await records_of(frontier)
    assert (record.attempt, len(site.paths)) == (1, 1)


async def test_only_what_is_old_enough_is_prolonged(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prolonging, "LOOK_SECONDS", 0.01)
    passed, asked = 0.0, list[int]()
    clock: Callable[[], float] = lambda: time.time() + passed  # noqa: E731
    taken: list[Held] = []
    async with opened(clock) as frontier:
        prolong = frontier.prolong

        async def counted(holds: list[Hold], *, lease_seconds: float) -> list[Hold | None]:
            asked.append(len(holds))
            return await prolong(holds, lease_seconds=lease_seconds)

        monkeypatch.setattr(frontier, "prolong", counted)
        await seed(frontier, site, 3)
        async with working(frontier, OPTIONS, clock, FETCH, take=taken.append):
            await holds(lambda: len(taken) == 3)
            passed += OPTIONS.lease_seconds / 2
            await holds(lambda: bool(asked))
            for held in taken:
                held.finish()
            await until(frontier, done=3)
    assert asked == [3]


async def test_what_another_has_claimed_meanwhile_is_lost_and_not_finished(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a night in which this process was asleep."""
    monkeypatch.setattr(prolonging, "LOOK_SECONDS", 0.01)
    is_asleep = asyncio.Event()
    passed = 0.0
    clock: Callable[[], float] = lambda: time.time() + passed  # noqa: E731
    taken: list[Held] = []
    async with opened(clock) as frontier:
        prolong, may_prolong = frontier.prolong, asyncio.Event()

        async def slow(holds: list[Hold], *, lease_seconds: float) -> list[Hold | None]:
            is_asleep.set()
            await may_prolong.wait()
            return await prolong(holds, lease_seconds=lease_seconds)

        monkeypatch.setattr(frontier, "prolong", slow)
        await seed(frontier, site, 1)
        options = msgspec.structs.replace(OPTIONS, batch_size=1, concurrency=1)
        async with working(frontier, options, clock, FETCH, take=taken.append) as worker, asyncio.timeout(30):
            await holds(lambda: len(taken) == 1)
            claim = worker._hand.visits.copy().pop().claim
            assert claim is not None
            takes_nothing = asyncio.Event()

            async def nothing(*_: object) -> int:
                takes_nothing.set()
                return await _nothing()

            monkeypatch.setattr(worker._intake, "_take", nothing)
            await takes_nothing.wait()  # what was under way before could take it itself
            passed += 2 * OPTIONS.lease_seconds
            await is_asleep.wait()
            (delivery,) = await frontier.receive(1)
            message = decode_message(delivery.body)
            assert isinstance(message, Message)
            request = ClaimRequest(delivery=delivery, message=message)
            (won,) = await frontier.claim([request], worker_id="other", claim_id="x", lease_seconds=60)
            assert isinstance(won, Won)
            with structlog.testing.capture_logs() as logs:
                may_prolong.set()
                await holds(lambda: taken[0].is_lost)
            assert [entry["event"] for entry in logs] == ["lease_lost"]
            assert worker._hand.is_empty
            taken[0].finish()
            (record,) = await records_of(frontier)
            assert (record.status, record.worker_id) == (Status.PROCESSING, "other")
            end = Finish(claim=won, delivery=delivery, outcome=taken[0].end.outcome)
            assert await frontier.finish([end]) == [True]


async def _nothing(*_: object) -> int:
    await asyncio.sleep(0.01)
    return 0


async def test_a_pages_links_are_recorded_before_it_is_handed_out(site: Site) -> None:
    """Whoever deals with it may take long."""
    site.bodies["/start"] = b'<a href="/1">x</a>'
    taken: list[Held] = []
    async with opened() as frontier:
        settings = msgspec.structs.replace(AT_ONCE, scope=Scope.HOST)
        await frontier.enqueue([Entry(url=f"{site.url}start", settings=settings)])
        async with working(frontier, OPTIONS, fetch=FETCH, take=taken.append):
            await holds(lambda: len(taken) == 2)
            assert (await frontier.counts()).by_status[Status.PROCESSING] == 2


def unclaimed(worker: Worker) -> int:
    """Visits in hand that have no claim."""
    return sum(visit.claim is None for visit in worker._hand.visits)


async def test_what_waits_for_its_turn_goes_back_where_nobody_takes_pages(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is in hand already, and is for others now."""
    monkeypatch.setattr(SqliteFrontier, "traits", Traits(has_turns=False))
    monkeypatch.setattr(visit, "BUSY_SECONDS", 0.2)
    taken: list[Held] = []
    settings = msgspec.structs.replace(AT_ONCE, delay_seconds=0.01)
    async with opened() as frontier:
        await produce(frontier, [f"{site.url}{n}" for n in range(PAGES)], settings, on_refused=print)
        async with working(frontier, OPTIONS, fetch=FETCH, take=taken.append) as worker:
            await holds(lambda: len(taken) >= MOST_HELD and not unclaimed(worker) and rests(worker))
            assert len(taken) <= MOST_HELD + MOST_CLAIMED + AHEAD
            counts = (await frontier.counts()).by_status
            assert counts[Status.QUEUED] == PAGES - len(taken)
            for held in taken:  # and comes again
                held.finish()
            await holds(lambda: len(taken) > 2 * MOST_HELD)


async def test_what_is_fetched_after_a_stop_is_given_back_and_handed_to_nobody(site: Site) -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def slow(_: Asked) -> bytes:
        asked.set()
        may_answer.wait()
        return b""

    site.bodies["/0"] = slow
    taken: list[Held] = []
    async with opened() as frontier:
        await seed(frontier, site, 1)
        async with working(frontier, OPTIONS, fetch=FETCH, take=taken.append) as worker:
            await holds(asked.is_set)
            worker.stop()
            may_answer.set()
        (record,) = await records_of(frontier)
    assert taken == []
    assert (record.status, record.unended, record.tries) == (Status.QUEUED, 0, 0)


async def test_what_is_added_while_two_loops_record_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them may find that the other was first."""
    added = Added("default", AT_ONCE)
    async with opened() as frontier:
        enqueue = frontier.enqueue

        async def and_more(entries: list[Entry]) -> list[bool]:
            monkeypatch.setattr(frontier, "enqueue", enqueue)
            await added.record(frontier)  # the other loop
            added.put(["http://h.test/later"])
            return await enqueue(entries)

        monkeypatch.setattr(frontier, "enqueue", and_more)
        added.put(["http://h.test/1", "http://h.test/2"])
        await added.record(frontier)
        assert not added
        assert {record.url for record in await records_of(frontier)} == {
            f"http://h.test/{name}" for name in ("1", "2", "later")
        }
