"""When a batch of captures goes to the store: as few writes as can be, and none too late."""

from __future__ import annotations

import asyncio
import math
import random
import time
import tracemalloc
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sqspider.capture import Capture, StoreError
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import ClaimRequest, Clock, Delivery, Frontier, FrontierSettings, Won
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.message import Message, decode_message
from sqspider.record import CapturePlace, Status
from sqspider.url import Scope
from sqspider.web.fetch import Fetched, Fetcher, FetchOptions
from sqspider.work.desk import Batch, Wishes
from sqspider.work.keeping import MOST_AT_ONCE, MOST_GATHERED, Keeping, Kept
from sqspider.work.options import END_SECONDS, LEAST_GATHER_SECONDS, WRITE_SECONDS, WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.suspects import SUSPECTED_AFTER
from sqspider.work.worker import Worker
from tests.crawl.journal import Journal
from tests.crawl.test_crew import records_of, until, working
from tests.sites import HeldSite, Site

FETCH = FetchOptions(allow_private=True, timeout_seconds=10.0, captures=True)
AT_ONCE = CrawlSettings(delay_seconds=0, obey_robots=False, scope=Scope.PAGE)
OPTIONS = WorkerOptions(worker_id="tester", concurrency=8, poll_seconds=0.05)
LONG = 3600.0  # longer than any test

replace = msgspec.structs.replace


def capture_of(number: int, payload: bytes = b"x") -> Capture:
    url = f"http://h.test/{number}"
    fetched = Fetched(
        url=url, http_status=200, headers=(), body=payload, truncated=False, reason=None, detail="",
        elapsed_seconds=0.1, sent_seconds=0.0, payload=payload,
    )  # fmt: skip
    return Capture(url=url, fetched=fetched, at=1.0)


class Others:
    """Those whose captures are kept: more may come as long as it is said."""

    def __init__(self) -> None:
        self.may_come = True
        self.learned: list[StoreError] = []

    def may_more_come(self) -> bool:
        return self.may_come

    def learn(self, error: StoreError) -> None:
        self.learned.append(error)


class Trial:
    """A keeping, and its store."""

    def __init__(self, file: Path, *, linger_seconds: float = LONG, **store: Any) -> None:
        self.others = Others()
        self.store = Journal(file, **store)
        self.now = 1000.0
        self.keeping = Keeping(self.store, self.others, clock=lambda: self.now, linger_seconds=linger_seconds)

    def put(self, *numbers: int, size: int = 1, **more: Any) -> list[asyncio.Future[Kept]]:
        return [self.keeping.put(capture_of(number, b"x" * size), **more) for number in numbers]

    async def settled(self) -> list[int]:
        """How many captures went together, once nothing is being written."""
        while self.keeping._call is not None:
            await asyncio.sleep(0)
        return [len(batch) for batch in self.store.writes]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal"


async def test_each_is_told_its_own_place(file: Path) -> None:
    trial = Trial(file, linger_seconds=0.0)
    trial.put(*range(3))
    trial.keeping.hurry()
    answers = trial.put(*range(3, 9))
    await asyncio.wait(answers)
    for number, answer in zip(range(3, 9), answers, strict=True):
        place = answer.result()
        assert isinstance(place, CapturePlace)
        assert trial.store.read(place)["url"] == f"http://h.test/{number}"
    assert await trial.settled() == [3, 6]


async def test_where_nothing_is_gathered_for_long_what_comes_soon_after_it_goes_along(file: Path) -> None:
    trial = Trial(file, linger_seconds=0.02)
    answers = trial.put(0, 1)
    await asyncio.sleep(0)
    await asyncio.wait([*answers, *trial.put(2)])
    assert await trial.settled() == [3]


async def test_one_batch_is_written_at_a_time_and_others_gather_meanwhile(file: Path) -> None:
    """The journal itself says that nobody else is to call it."""
    trial = Trial(file)
    trial.store.may_write.clear()
    trial.put(0)
    trial.keeping.hurry()
    for number in range(1, 6):
        trial.put(number, is_urgent=True)
        trial.keeping.look()
        await asyncio.sleep(0)
    trial.store.may_write.set()
    assert await trial.settled() == [1, 5]


@pytest.mark.parametrize(("gather_seconds", "most"), [(0.0, MOST_AT_ONCE), (LONG, MOST_GATHERED)])
async def test_so_many_make_a_batch(file: Path, gather_seconds: float, most: int) -> None:
    trial = Trial(file, gather_seconds=gather_seconds)
    trial.put(*range(most - 1))
    trial.keeping.look()
    assert await trial.settled() == []
    trial.put(most)
    trial.keeping.look()
    assert await trial.settled() == [most]


async def test_so_many_bytes_make_a_batch_and_more_are_not_taken_in(file: Path) -> None:
    trial = Trial(file, gather_seconds=LONG, most_bytes=1000)
    trial.store.may_write.clear()
    trial.put(0, size=999)
    trial.keeping.look()
    assert (trial.store.calls, trial.keeping.resting) == (0, 1)
    trial.put(1)
    trial.keeping.look()
    await asyncio.sleep(0)
    assert (trial.store.calls, trial.keeping.resting, trial.keeping.is_full) == (1, 0, False)
    trial.put(2, 3, 4, size=500)
    assert trial.keeping.is_full
    trial.store.may_write.set()
    assert await trial.settled() == [2, 2, 1], "what is left of them has waited for the others"
    assert not trial.keeping.is_full


async def test_the_oldest_waits_no_longer_than_it_may(file: Path) -> None:
    trial = Trial(file, gather_seconds=0.05)
    first = trial.put(0)
    trial.keeping.look()
    await asyncio.sleep(0)
    await asyncio.wait([*first, *trial.put(1)])
    assert await trial.settled() == [2]


async def test_who_has_less_time_gives_the_oldest_no_more(file: Path) -> None:
    trial = Trial(file, gather_seconds=0.3)
    keep_by = trial.now + LONG
    answers = trial.put(0, keep_by=keep_by)
    number = 0
    while not answers[0].done():
        number += 1
        trial.put(number, keep_by=keep_by - number)
        trial.keeping.look()
        await asyncio.sleep(0.005)
    assert number < MOST_GATHERED // 2


@pytest.mark.parametrize("gather_seconds", [LONG, math.inf])
async def test_a_lease_that_is_near_its_end_lets_a_batch_go(file: Path, gather_seconds: float) -> None:
    trial = Trial(file, gather_seconds=gather_seconds)
    answers = [*trial.put(0, keep_by=trial.now + LONG), *trial.put(1, keep_by=trial.now + 0.02), *trial.put(2)]
    await asyncio.wait(answers)
    assert await trial.settled() == [3]


async def test_a_batch_goes_when_nobody_can_come_any_more(file: Path) -> None:
    trial = Trial(file, gather_seconds=LONG)
    trial.put(0, 1)
    trial.keeping.look()
    assert await trial.settled() == []
    trial.others.may_come = False
    trial.keeping.look()
    assert await trial.settled() == [2]


async def test_nothing_waits_for_others_once_the_worker_stops(file: Path) -> None:
    trial = Trial(file, gather_seconds=LONG, linger_seconds=0.0)
    trial.put(0)
    trial.keeping.leave()
    assert await trial.settled() == [1]
    await asyncio.wait(trial.put(1))
    trial.keeping.begin_anew()
    trial.put(2)
    trial.keeping.look()
    assert await trial.settled() == [1, 1]


async def test_notes_go_along_or_by_themselves(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = Trial(file, most_bytes=1000)
    trial.keeping.note(capture_of(0))
    trial.others.may_come = False
    trial.keeping.look()
    assert await trial.settled() == [], "nobody waits for them"
    trial.put(1)
    trial.keeping.look()
    assert await trial.settled() == [2]
    trial.keeping.note(capture_of(2, b"x" * 1000))  # they are in memory
    assert await trial.settled() == [2, 1]
    trial.keeping.note(capture_of(3))
    await trial.keeping.close()
    assert await trial.settled() == [2, 1, 1]
    monkeypatch.setattr("sqspider.work.keeping.NOTES_SECONDS", 0.02)
    trial.keeping.note(capture_of(4))
    while len(trial.store.writes) < 4:
        await asyncio.sleep(0.005)
    await trial.keeping.close()
    assert await trial.settled() == [2, 1, 1, 1]


async def test_while_a_store_is_left_alone_whoever_comes_is_told_at_once(file: Path) -> None:
    """For longer, each time that it fails again."""
    trial = Trial(file, linger_seconds=0.0)
    error = trial.store.error = StoreError("no space left")
    waits = []
    for _ in range(9):
        (answer,) = trial.put(0)
        await asyncio.wait([answer])
        assert answer.result() is error
        (answer,) = trial.put(1)
        assert answer.done(), "nobody is asked"
        waits.append(trial.keeping.again_at - trial.now)
        trial.now = trial.keeping.again_at
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert trial.store.calls == len(trial.others.learned) == 9
    trial.store.error = None
    await asyncio.wait(trial.put(2))
    assert trial.keeping.error is None
    trial.store.error = error
    await asyncio.wait(trial.put(3))
    assert trial.keeping.again_at - trial.now == 5


async def test_notes_leave_a_store_alone_that_failed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages would wait the longer for the next try."""
    monkeypatch.setattr("sqspider.work.keeping.NOTES_SECONDS", 0.01)
    trial = Trial(file, most_bytes=1000)
    trial.store.error = StoreError("no space left")
    answers = trial.put(0, is_urgent=True)
    trial.keeping.look()
    await asyncio.wait(answers)
    await trial.settled()
    again_at = trial.keeping.again_at
    trial.keeping.note(capture_of(2, b"x" * 1000))
    timer = trial.keeping._notes_timer
    while trial.keeping._notes_timer is timer:
        await asyncio.sleep(0.005)
    assert (await trial.settled(), trial.store.calls, trial.keeping.again_at) == ([], 1, again_at)
    trial.now, trial.store.error = again_at, None
    while not trial.store.writes:
        await asyncio.sleep(0.005)
    await trial.keeping.close()
    assert trial.store.writes == [["http://h.test/2"]]


async def test_what_gathered_meanwhile_is_told_too(file: Path) -> None:
    trial = Trial(file, gather_seconds=LONG)
    trial.store.may_write.clear()
    trial.store.error = StoreError("no space left")
    first = trial.put(0, is_urgent=True)
    trial.keeping.look()
    others = trial.put(1, 2)
    trial.store.may_write.set()
    await asyncio.wait([*first, *others])
    assert {answer.result() for answer in (*first, *others)} == {trial.store.error}
    assert trial.store.calls == 1
    trial.now, trial.store.error, trial.store.gather_seconds = trial.keeping.again_at, None, 0.02
    await asyncio.wait(trial.put(3))
    assert await trial.settled() == [1]


async def test_a_store_that_does_not_answer_is_not_waited_for_at_the_end_of_an_invocation(file: Path) -> None:
    trial = Trial(file, gather_seconds=math.inf)
    trial.store.may_write.clear()
    first = trial.put(0, is_urgent=True)
    trial.keeping.look()
    others = trial.put(1)
    await trial.keeping.close(0.05)
    for answer in (*first, *others):
        assert isinstance(answer.result(), StoreError)
    assert trial.keeping._call is None


async def test_what_cannot_be_answered_rightly_is_answered_to_nobody(file: Path) -> None:
    trial = Trial(file)

    async def too_few(_: Sequence[Capture]) -> list[CapturePlace | None]:
        return []

    trial.store.keep = too_few  # type: ignore[method-assign,assignment]
    answers = trial.put(0, 1)
    trial.keeping.hurry()
    await asyncio.wait(answers)
    assert [type(answer.exception()) for answer in answers] == [ValueError, ValueError]


def test_a_lease_is_long_enough_for_a_store_that_gathers() -> None:
    needed = OPTIONS.lease_needed(10.0)
    assert needed == 10.0 + END_SECONDS
    assert OPTIONS.lease_needed(10.0, 5.0) == needed + 5.0 + WRITE_SECONDS
    assert OPTIONS.lease_needed(10.0, math.inf) == needed + LEAST_GATHER_SECONDS + WRITE_SECONDS
    short = replace(OPTIONS, lease_seconds=needed + 6.0)
    short.check(10.0)
    with pytest.raises(ValueError, match="a lease of 26 s is too short"):
        short.check(10.0, 5.0)


# By a worker.


@asynccontextmanager
async def invoked(
    store: Journal, options: WorkerOptions = OPTIONS, clock: Clock = time.time
) -> AsyncIterator[tuple[Frontier, Worker]]:
    """A worker as behind the door of Lambda."""
    frontier = MemoryFrontier(MemoryStore(), FrontierSettings(), clock=clock)
    async with Fetcher(FETCH, connections=options.concurrency) as fetcher:
        yield frontier, Worker(frontier, fetcher, options, clock=clock, rng=random.Random(), store=store)


async def received(frontier: Frontier, urls: Sequence[str], settings: CrawlSettings = AT_ONCE) -> list[Delivery]:
    await produce(frontier, urls, settings, on_refused=print)
    return await frontier.receive(10)


async def test_an_invocation_makes_one_write_however_long_its_host_has_it_wait(host: Site, file: Path) -> None:
    store = Journal(file, gather_seconds=math.inf)
    host.bodies = {"/robots.txt": b"", **{f"/{n}": b"x" for n in range(10)}}
    async with invoked(store) as (frontier, worker):
        delay = replace(AT_ONCE, delay_seconds=0.1, obey_robots=True)
        deliveries = await received(frontier, [f"{host.url}{n}" for n in range(10)], delay)
        await worker.work_on(deliveries, until=time.time() + 60)
        assert worker.unended == {}
        counts = (await frontier.counts()).by_status
    assert (counts[Status.DONE], len(store.writes)) == (10, 1)
    assert len(store.writes[0]) == 11


async def test_at_the_end_of_an_invocation_what_is_gathered_waits_for_nobody(host: Site, file: Path) -> None:
    held, store = HeldSite(), Journal(file, gather_seconds=math.inf)
    host.bodies = {"/a": b"x"}
    async with held.running(), invoked(store) as (frontier, worker):
        deliveries = await received(frontier, [f"{host.url}a", held.url("b")])
        working = asyncio.create_task(worker.work_on(deliveries, until=time.time() + LONG))
        await held.until_in_flight(1)
        while not worker._storing.resting:
            await asyncio.sleep(0.005)
        assert store.writes == []
        worker.stop()  # as it does when its time is over
        while not store.writes:
            await asyncio.sleep(0.005)
        assert held.in_flight == ["/b"]
        held.may_answer.set()
        await working
        assert (await frontier.counts()).by_status[Status.DONE] == 2
    assert len(store.writes) == 2


async def test_what_an_invocation_cannot_keep_comes_back_in_a_minute_uncounted(host: Site, file: Path) -> None:
    store = Journal(file, gather_seconds=math.inf)
    store.error = StoreError("access denied")
    host.bodies = {f"/{n}": b"x" for n in range(10)}
    passed = 0.0
    async with invoked(store, clock=lambda: time.time() + passed) as (frontier, worker):
        deliveries = await received(frontier, [f"{host.url}{n}" for n in range(10)])
        await worker.work_on(deliveries, until=time.time() + LONG)
        assert worker.unended == {}
        records = await records_of(frontier)
        assert {(r.status, r.unended, r.tries) for r in records} == {(Status.QUEUED, 0, 0)}
        passed += 30
        assert await frontier.receive(10) == []
        passed += 60
        store.error = None
        deliveries = await frontier.receive(10)
        await worker.work_on(deliveries, until=time.time() + LONG)
        assert worker.unended == {}
    assert len(store.lines()) == 10


async def test_an_invocation_ends_in_time_though_the_store_does_not_answer(
    host: Site, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqspider.work.worker.STORE_SECONDS", 0.1)
    store = Journal(file, gather_seconds=math.inf)
    store.may_write.clear()
    host.bodies = {"/0": b"x"}
    options = replace(OPTIONS, lease_seconds=60.0)
    async with invoked(store, options) as (frontier, worker):
        deliveries = await received(frontier, [f"{host.url}0"])
        working = asyncio.create_task(worker.work_on(deliveries, until=time.time() + 1.0))
        monkeypatch.setattr(worker, "_fetch_seconds", -2.0)
        await working
        (record,) = await records_of(frontier)
    assert (worker.unended, record.status, record.unended, record.tries) == ({}, Status.QUEUED, 0, 0)


async def test_large_bodies_are_let_go_as_soon_as_they_are_kept(host: Site, file: Path) -> None:
    """Though nothing else lets their batch go: the next one wants its space. And so ten of them are never in memory."""
    size = 5_000_000
    body = b"x" * size
    host.bodies = {f"/{n}": body for n in range(10)}
    store = Journal(file, gather_seconds=math.inf, most_bytes=8_000_000)
    async with invoked(store, replace(OPTIONS, large_bodies=1, concurrency=10)) as (frontier, worker):
        deliveries = await received(frontier, [f"{host.url}{n}" for n in range(10)])
        tracemalloc.start()
        try:
            await worker.work_on(deliveries, until=time.time() + 60)
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        done = (await frontier.counts()).by_status[Status.DONE]
    assert done == 10
    assert most < 4 * size


async def test_who_waits_to_be_alone_is_not_kept_waiting_by_what_is_gathered(host: Site, file: Path) -> None:
    passed = 0.0
    frontier = MemoryFrontier(MemoryStore(), FrontierSettings(), clock=lambda: time.time() + passed)
    await produce(frontier, [f"{host.url}suspect"], AT_ONCE, on_refused=print)
    for number in range(SUSPECTED_AFTER):
        (delivery,) = await frontier.receive(1)
        message = decode_message(delivery.body)
        assert isinstance(message, Message)
        request = ClaimRequest(delivery=delivery, message=message)
        (won,) = await frontier.claim([request], worker_id="dead", claim_id=str(number), lease_seconds=60)
        assert isinstance(won, Won)
        passed += 61
    await produce(frontier, [f"{host.url}{n}" for n in range(5)], AT_ONCE, on_refused=print)
    store = Journal(file, gather_seconds=LONG)
    async with working(frontier, OPTIONS, frontier.now, FETCH, store=store):
        await until(frontier, failed=6)


async def test_what_is_gathered_while_more_is_taken_in_waits_for_that(host: Site, file: Path) -> None:
    """Ten messages a poll, and no write for each."""
    host.bodies = {f"/{n}": b"x" for n in range(100)}
    frontier = MemoryFrontier(MemoryStore(), FrontierSettings(), clock=time.time)
    await produce(frontier, [f"{host.url}{n}" for n in range(100)], AT_ONCE, on_refused=print)
    store = Journal(file, gather_seconds=LONG)
    async with working(frontier, replace(OPTIONS, concurrency=10), fetch=FETCH, store=store) as worker:
        take = worker._desk.take

        async def late(limit: int, wishes: Wishes) -> Batch:
            while worker._storing.resting < len(worker._hand.visits):
                await asyncio.sleep(0)
            return await take(limit, wishes)

        worker._desk.take = late  # type: ignore[method-assign]
        await until(frontier, done=100)
    assert len(store.writes) < 5  # of ten polls: what ends just before one begins may go by itself


async def test_a_crawl_goes_on_though_all_that_it_knows_is_gathered(host: Site, file: Path) -> None:
    links = "".join(f"<a href=/{n}>x</a>" for n in range(50)).encode()
    host.bodies = {f"/{n}": links for n in range(50)}
    frontier = MemoryFrontier(MemoryStore(), FrontierSettings(), clock=time.time)
    await produce(frontier, [f"{host.url}0"], replace(AT_ONCE, scope=Scope.HOST), on_refused=print)
    store = Journal(file, gather_seconds=LONG)
    async with working(frontier, OPTIONS, fetch=FETCH, store=store):
        await until(frontier, done=50)
    assert len(store.writes) <= 4
