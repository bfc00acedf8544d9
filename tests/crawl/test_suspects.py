"""A page that kills its workers takes nobody along: suspects are tried alone (docs/guarantees.md)."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import ClaimRequest, Delivery, Frontier, FrontierSettings, Won, open_frontier
from sqspider.host import with_orders
from sqspider.message import Message, decode_message
from sqspider.record import Reason, Status, UrlRecord
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.worker import Worker
from tests.sites import HeldSite

INNOCENT = 31
TOGETHER = INNOCENT + 1
SETTINGS = CrawlSettings(delay_seconds=0, obey_robots=False)
FETCH = FetchOptions(allow_private=True, timeout_seconds=10.0)
OPTIONS = WorkerOptions(worker_id="tester", concurrency=48, lease_seconds=60.0)
LEASE_ENDS = 100.0  # seconds after which whatever a dead worker held is free

LIFE = """
import asyncio, random, sys, time
from tests.crawl.test_suspects import FETCH, OPTIONS, later
from sqspider.frontier import FrontierSettings, open_frontier
from sqspider.web.fetch import Fetcher
from sqspider.work.worker import Mode, Worker

async def main():
    clock = later(float(sys.argv[2]))
    frontier = await open_frontier("sqlite:" + sys.argv[1], FrontierSettings(), clock=clock)
    async with Fetcher(FETCH, connections=OPTIONS.concurrency) as fetcher:
        await Worker(frontier, fetcher, OPTIONS, clock=clock, rng=random.Random()).run(Mode.UNTIL_EMPTY)
    await frontier.close()

asyncio.run(main())
"""


def later(seconds: float) -> Callable[[], float]:
    """A clock that is so many seconds ahead: the leases of those who died before are over."""
    return lambda: time.time() + seconds


class Killer:
    """A site with one page that kills whoever asks for it; twice not before all others are asked for, too."""

    def __init__(self) -> None:
        self.url = ""
        self.process: asyncio.subprocess.Process | None = None
        self.lives = 0
        self.asked: Counter[str] = Counter()
        self.in_flight: set[str] = set()
        self.most_in_flight = 0
        self._all_are_here = asyncio.Event()

    def begin_life(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lives += 1
        self.most_in_flight = 0
        self._all_are_here.clear()

    async def answer(self, request: web.Request) -> web.Response:
        path = request.path
        self.asked[path] += 1
        self.in_flight.add(path)
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        try:
            if len(self.in_flight) == TOGETHER:
                self._all_are_here.set()
            if self.lives <= 2:
                await self._all_are_here.wait()
            if path == "/poison":
                assert self.process is not None
                self.process.kill()
            if path == "/poison" or self.lives <= 2:
                await asyncio.Event().wait()  # until the connection is gone
            return web.Response(text="fine")
        finally:
            self.in_flight.discard(path)


@asynccontextmanager
async def killer_site() -> AsyncIterator[Killer]:
    killer = Killer()
    app = web.Application()
    app.router.add_get("/{path:.*}", killer.answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    killer.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/"  # type: ignore[attr-defined]
    try:
        yield killer
    finally:
        await runner.cleanup()


async def live(killer: Killer, path: Path) -> int:
    """One worker, from its start to its death or end; its exit status."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", LIFE, path, str(killer.lives * LEASE_ENDS))
    killer.begin_life(process)
    return await process.wait()


async def test_a_page_that_kills_its_worker_is_given_up_and_takes_nobody_along(tmp_path: Path) -> None:
    path = tmp_path / "f.db"
    async with killer_site() as killer:
        innocent = [f"{killer.url}page/{n}" for n in range(INNOCENT)]
        poison = f"{killer.url}poison"
        frontier = await open_frontier(f"sqlite:{path}", FrontierSettings(), clock=time.time)
        await produce(frontier, [poison, *innocent], SETTINGS, on_refused=print)
        for _ in range(2):
            assert await live(killer, path) == -signal.SIGKILL
            assert killer.most_in_flight == TOGETHER
        assert await live(killer, path) == -signal.SIGKILL
        assert killer.most_in_flight == 1  # suspects are asked for one after the other
        assert await live(killer, path) == 0
        records = {record.url: record async for batch in frontier.scan() for record in batch}
        await frontier.close()
    assert {records[url].status for url in innocent} == {Status.DONE}
    outcome = records[poison].outcome
    assert outcome is not None
    assert (records[poison].status, outcome.reason) == (Status.FAILED, Reason.CRASHED)
    assert killer.asked["/poison"] == 3


# One worker, in the test's own process.


class Queue:
    """A frontier whose clock can be put forward, and the worker that gets its deliveries from it by hand."""

    def __init__(self, frontier: Frontier, fetcher: Fetcher, clock: Callable[[], float]) -> None:
        self.frontier = frontier
        self._fetcher = fetcher
        self.clock = clock
        self._received: dict[str, Delivery] = {}

    def worker(self) -> Worker:
        return Worker(self.frontier, self._fetcher, OPTIONS, clock=self.clock, rng=random.Random())

    async def received(self, *urls: str) -> list[Delivery]:
        """Messages for these URLs, in this order; they are there."""
        while deliveries := await self.frontier.receive(10):
            self._received |= {message_of(delivery).url: delivery for delivery in deliveries}
        return [self._received.pop(url) for url in urls]

    @property
    def left(self) -> list[str]:
        """What was received, and nobody works on."""
        return list(self._received)

    async def record(self, url: str) -> UrlRecord:
        return (await self.frontier.get([url]))[url]


def message_of(delivery: Delivery) -> Message:
    message = decode_message(delivery.body)
    assert isinstance(message, Message)
    return message


@pytest.fixture
async def held() -> AsyncIterator[HeldSite]:
    site = HeldSite()
    async with site.running():
        yield site


@pytest.fixture
async def queue(held: HeldSite) -> AsyncIterator[Queue]:
    """Nine pages, and one that has killed two workers already."""
    passed = 0.0
    frontier = await open_frontier("sqlite::memory:", FrontierSettings(), clock=lambda: time.time() + passed)
    await produce(frontier, [held.url("suspect")], SETTINGS, on_refused=print)
    for n in range(2):
        (delivery,) = await frontier.receive(1)
        request = ClaimRequest(delivery=delivery, message=message_of(delivery))
        (won,) = await frontier.claim([request], worker_id="dead", claim_id=str(n), lease_seconds=60)
        assert isinstance(won, Won)
        passed += LEASE_ENDS
    await produce(frontier, [held.url(str(n)) for n in range(9)], SETTINGS, on_refused=print)
    async with Fetcher(FETCH) as fetcher:
        yield Queue(frontier, fetcher, lambda: time.time() + passed)
    await frontier.close()


async def test_a_suspect_in_a_batch_is_given_back_and_harms_nobody(held: HeldSite, queue: Queue) -> None:
    """And then has the worker for itself: others begin when it has ended."""
    worker, suspect = queue.worker(), held.url("suspect")
    batch = await queue.received(suspect, *(held.url(str(n)) for n in range(9)))
    working = asyncio.create_task(worker.work_on(batch, until=queue.clock() + 30))
    await held.until_in_flight(9)
    while (await queue.frontier.queue_stats()).visible == 0:  # it is there for anybody, unclaimed
        await asyncio.sleep(0.01)
    record = await queue.record(suspect)
    assert (record.status, record.unended, record.tries) == (Status.QUEUED, 2, 0)
    held.may_answer.set()
    await working
    assert (worker.unended, worker.tally.finished[Status.DONE]) == ({}, 9)
    assert "/suspect" not in held.requests

    held.may_answer.clear()
    await produce(queue.frontier, [held.url("later")], SETTINGS, on_refused=print)
    batch = await queue.received(suspect, held.url("later"))
    working = asyncio.create_task(worker.work_on(batch, until=queue.clock() + 30))
    await held.until_in_flight(1)
    assert (await queue.record(held.url("later"))).status is Status.QUEUED
    assert held.in_flight == ["/suspect"]
    held.may_answer.set()
    await working
    record = await queue.record(suspect)
    assert (record.status, record.unended, record.tries) == (Status.DONE, 0, 0)
    assert (await queue.frontier.counts()).open == 0


async def test_a_suspect_holds_no_lease_while_it_waits_and_is_given_back_at_a_stop(
    held: HeldSite, queue: Queue
) -> None:
    worker, suspect = queue.worker(), held.url("suspect")
    await worker.work_on(await queue.received(suspect), until=queue.clock() + 30)
    batch = await queue.received(held.url("0"), held.url("1"), suspect)
    working = asyncio.create_task(worker.work_on(batch, until=queue.clock() + 30))
    await held.until_in_flight(2)
    record = await queue.record(suspect)
    assert (record.status, record.unended) == (Status.QUEUED, 2)
    worker.stop()
    while (await queue.frontier.queue_stats()).visible == 0:
        await asyncio.sleep(0.01)
    assert sorted(held.in_flight) == ["/0", "/1"]  # they have not ended yet
    held.may_answer.set()
    await working
    assert worker.unended == {}
    assert "/suspect" not in held.requests
    await queue.worker().work_on(await queue.received(suspect), until=queue.clock() + 30)  # another that knows nothing
    await worker.work_on(await queue.received(suspect), until=queue.clock() + 30)
    assert (await queue.record(suspect)).status is Status.DONE


@pytest.mark.parametrize("who", ["who waits to be alone", "who waits for one who is"])
async def test_nobody_waits_at_the_gate_until_its_message_comes_back(
    held: HeldSite, queue: Queue, monkeypatch: pytest.MonkeyPatch, who: str
) -> None:
    """Somebody may have the page of one who is inside for long."""
    worker, suspect, other = queue.worker(), held.url("suspect"), held.url("0")
    await worker.work_on(await queue.received(suspect), until=queue.clock() + 30)
    first, second = (other, suspect) if who == "who waits to be alone" else (suspect, other)
    batch = await queue.received(first, second)
    monkeypatch.setattr(worker._visits, "_lease_needed", 0.5)
    working = asyncio.create_task(worker.work_on(batch, until=queue.clock() + 30))
    await held.until_in_flight(1)
    async with asyncio.timeout(30):
        while (await queue.frontier.queue_stats()).in_flight > 1 + len(queue.left):
            await asyncio.sleep(0.01)
    assert held.in_flight == [f"/{first.rpartition('/')[2]}"]  # it has not ended yet
    record = await queue.record(second)
    assert (record.status, record.tries) == (Status.QUEUED, 0)
    held.may_answer.set()
    await working
    assert worker.unended == {}
    monkeypatch.undo()
    while (await queue.frontier.queue_stats()).delayed:
        await asyncio.sleep(0.01)
    await worker.work_on(await queue.received(second), until=queue.clock() + 30)
    assert (await queue.record(second)).status is Status.DONE


async def test_each_worker_hands_a_suspect_on_once(held: HeldSite, queue: Queue) -> None:
    held.may_answer.set()
    workers, suspect = [queue.worker() for _ in range(4)], held.url("suspect")
    for worker in workers:
        await worker.work_on(await queue.received(suspect), until=queue.clock() + 30)
        record = await queue.record(suspect)
        assert (record.status, record.unended) == (Status.QUEUED, 2)
    await workers[1].work_on(await queue.received(suspect), until=queue.clock() + 30)
    record = await queue.record(suspect)
    assert (record.status, record.unended, record.attempt) == (Status.DONE, 0, 2 + 4 + 1)
    assert held.requests == ["/suspect"]


async def test_what_is_not_fetched_at_all_needs_no_trial(held: HeldSite, queue: Queue) -> None:
    """An operator's word ends it, however many workers it has killed."""
    row = (await queue.frontier.hosts(["127.0.0.1"]))["127.0.0.1"]
    await queue.frontier.save_hosts([with_orders(row, delay=None, is_paused=None, is_blocked=True)])
    suspect = held.url("suspect")
    await queue.worker().work_on(await queue.received(suspect), until=queue.clock() + 30)
    record = await queue.record(suspect)
    assert record.outcome is not None
    assert (record.status, record.outcome.reason, record.attempt) == (Status.BLOCKED, Reason.HOST_BLOCKED, 3)
    assert held.requests == []
