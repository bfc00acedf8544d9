"""The nearest way wins in a crawl with a name, too: by the limit of depth in its row, whoever of its workers finds it."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from sqspider.crawl_row import Crawl, CrawlRef
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Delivery, Entry, Frontier
from sqspider.message import Message, decode_message
from sqspider.record import Status, UrlRecord, record_key
from sqspider.url import Scope
from sqspider.web.fetch import Fetcher
from sqspider.work.worker import Worker
from tests.crawl.crawl_rows import AT_HOME, OPTIONS, changed, made, page, put_in, records_of
from tests.frontier.kit import InMemoryStore, SqliteStore, Store
from tests.simulation.fake_store import FakeAwsStore
from tests.sites import Answer, Site

replace = msgspec.structs.replace
LIMITED = CrawlSettings(delay_seconds=0, obey_robots=False, scope=Scope.HOST, max_depth=3)
DIAMOND: dict[str, Answer] = {  # to /p: by /near, and by /b and /c
    "/": page("/near", "/b"),
    "/near": page("/p"),
    "/b": page("/c"),
    "/c": page("/p"),
    "/p": page("/q", "/"),
    "/q": page("/deeper"),
}


@pytest.fixture(params=["memory", "sqlite", "fake-aws"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    store: Store
    if request.param == "sqlite":
        store = SqliteStore(tmp_path)
    else:
        store = InMemoryStore() if request.param == "memory" else FakeAwsStore()
    yield store
    await store.close()


class AtWork(NamedTuple):
    """A worker, and what it holds."""

    frontier: Frontier
    worker: Worker


class Crew:
    """Two workers on one store, each of which is given what is named, in that order, and then the rest."""

    def __init__(self, store: Store, host: Site, workers: Sequence[AtWork]) -> None:
        self.workers = workers
        self._clock, self._host = store.clock, host
        self._hand: dict[str, Delivery] = {}

    async def take(self, path: str) -> None:
        while path not in self._hand:
            for delivery in await self.workers[0].frontier.receive(1):
                self._hand[_message_of(delivery).url.removeprefix(self._host.url)] = delivery

    async def visit(self, *visits: tuple[int, str]) -> None:
        for number, path in visits:
            worker = self.workers[number].worker
            await self.take(path)
            await worker.work_on([self._hand.pop(path)], until=self._clock() + 60)

    async def rest(self, crawl: str = "news") -> dict[str, UrlRecord]:
        """Visit what is left, in turns; all records by path."""
        hand, number = list(self._hand.values()), 0
        self._hand.clear()
        while hand := hand or list(await self.workers[number].frontier.receive(10)):
            await self.workers[number].worker.work_on(hand, until=self._clock() + 60)
            hand, number = [], 1 - number
        records = await records_of(self.workers[0].frontier, crawl)
        return {record.url.removeprefix(self._host.url): record for record in records.values()}


def _message_of(delivery: Delivery) -> Message:
    message = decode_message(delivery.body)
    assert isinstance(message, Message)
    return message


@pytest.fixture
async def crew(store: Store, host: Site) -> AsyncIterator[Crew]:
    async with Fetcher(AT_HOME, connections=2) as fetcher:
        workers = []
        for number in range(2):
            frontier, options = await store.open(), replace(OPTIONS, worker_id=f"w{number}")
            workers.append(AtWork(frontier, Worker(frontier, fetcher, options, clock=store.clock, rng=random.Random())))
        yield Crew(store, host, workers)


def depths(records: dict[str, UrlRecord]) -> dict[str, int]:
    return {path: record.depth for path, record in records.items()}


@pytest.mark.parametrize("finder", [0, 1])
@pytest.mark.parametrize("last", ["near", "p"])
async def test_the_nearest_way_wins_by_the_row(store: Store, crew: Crew, host: Site, finder: int, last: str) -> None:
    host.bodies = dict(DIAMOND)
    frontier = crew.workers[0].frontier
    await put_in(frontier, await made(frontier, settings=LIMITED), host.url)
    first = "p" if last == "near" else "near"
    await crew.visit((0, ""), (0, "b"), (0, "c"), (0, first), (finder, last))
    records = await crew.rest()
    assert depths(records) == {"": 0, "near": 1, "b": 1, "c": 2, "p": 2, "q": 3}
    assert records["p"].parent == f"{host.url}near"
    assert all(record.status.is_final and record.crawl == "news" for record in records.values())
    visits_more = int(not store.has_own_queue and last == "near")
    assert (host.paths.count("/p"), records["p"].visit) == (1 + visits_more, visits_more)
    assert await frontier.get([host.url]) == {}, "what is handed on is of the crawl"


async def test_the_limit_is_the_row_s_of_now(crew: Crew, host: Site) -> None:
    """Not that of when a page was visited."""
    host.bodies = dict(DIAMOND)
    frontier = crew.workers[0].frontier
    await put_in(frontier, await made(frontier, settings=LIMITED), host.url)
    await crew.visit((0, ""), (0, "b"), (0, "c"), (0, "p"))
    await changed(frontier, settings=replace(LIMITED, max_depth=2))
    await crew.visit((1, "near"))
    assert depths(await crew.rest()) == {"": 0, "near": 1, "b": 1, "c": 2, "p": 2}


async def test_a_crawl_s_ways_are_its_own(crew: Crew, host: Site) -> None:
    host.bodies = dict(DIAMOND)
    frontier = crew.workers[0].frontier
    news, other = await made(frontier, settings=LIMITED), await made(frontier, "other", settings=LIMITED)
    await put_in(frontier, news, host.url)
    await crew.visit((0, ""), (0, "b"), (0, "c"), (0, "p"))
    await frontier.enqueue([_seed(host.url + "p", other)])
    assert (await frontier.get([record_key(host.url + "p", "news")])).popitem()[1].depth == 3
    assert depths(await crew.rest())["p"] == 2
    assert depths(await crew.rest("other")) == {"p": 0, "q": 1, "": 1, "deeper": 2, "near": 2, "b": 2, "c": 3}


async def test_what_was_cut_off_for_its_depth_is_visited_by_a_nearer_way(crew: Crew, host: Site) -> None:
    host.bodies = dict(DIAMOND)
    frontier = crew.workers[0].frontier
    await put_in(frontier, await made(frontier, settings=LIMITED), host.url)
    await crew.visit((0, ""), (0, "b"), (0, "c"))
    await changed(frontier, settings=replace(LIMITED, max_depth=2))
    await crew.visit((1, "p"))
    key = record_key(host.url + "p", "news")
    assert (await frontier.get([key]))[key].status is Status.BLOCKED
    await crew.visit((1, "near"))
    records = await crew.rest()
    assert (records["p"].depth, records["p"].status) == (2, Status.DONE)


async def test_what_was_too_deep_when_it_was_sent_is_judged_by_what_its_record_says(crew: Crew, host: Site) -> None:
    host.bodies = dict(DIAMOND)
    frontier = crew.workers[0].frontier
    await put_in(frontier, await made(frontier, settings=LIMITED), host.url)
    await crew.visit((0, ""), (0, "b"), (0, "c"))
    await crew.take("p")
    await changed(frontier, settings=replace(LIMITED, max_depth=2))
    await crew.visit((1, "near"), (1, "p"))
    record = (await crew.rest())["p"]
    assert (record.depth, record.status, record.visit) == (2, Status.DONE, 0)


def _seed(url: str, crawl: Crawl) -> Entry:
    ref: CrawlRef = crawl.ref
    return Entry(url=url, settings=crawl.settings, crawl=ref)
