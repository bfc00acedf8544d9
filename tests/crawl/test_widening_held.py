"""A crawl's row is changed while a page waits for its end: for who takes the pages, or for the store. It ends by the
rules of by then."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Entry, Frontier, FrontierSettings, open_frontier
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.record import Reason, Status, record_key
from sqspider.url import Scope
from sqspider.widening import SEEN_SECONDS, widened
from sqspider.work.crawl_orders import change_crawl
from sqspider.work.holding import Held
from sqspider.work.widening import Returned, bring_back
from sqspider.work.worker import Worker
from tests.crawl.crawl_rows import SETTINGS, made, page, put_in, records_of, replace, row_of, until
from tests.crawl.journal import Journal
from tests.crawl.test_crew import working
from tests.crawl.test_holding import FETCH, OPTIONS
from tests.sites import Site

AT_ONCE = replace(SETTINGS, obey_robots=False)


class Crawling:
    """A crawl, and a worker whose pages somebody takes; the clock of both can be put forward."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.taken: list[Held] = []

    def clock(self) -> float:
        return time.time() + self.passed

    async def page(self, number: int = 1) -> Held:
        """The page of a number, when it is in hand."""
        async with asyncio.timeout(30):
            await until(lambda: len(self.taken) >= number)
        return self.taken[number - 1]

    async def change(self, frontier: Frontier, **settings: Any) -> Returned:
        """Change the row, and bring back what that lets in, when every worker is said to know it."""
        before = await row_of(frontier)
        after = replace(before, settings=replace(before.settings, **settings))
        row = await change_crawl(frontier, before, lambda _: widened(before, after, frontier.now()))
        self.passed += SEEN_SECONDS + 1
        return await bring_back(frontier, row)

    async def ended(self, frontier: Frontier, number: int = 1) -> None:
        """So many records are final."""
        async with asyncio.timeout(30):
            while sum(record.status.is_final for record in (await records_of(frontier)).values()) < number:
                await asyncio.sleep(0.01)


@pytest.fixture
def crawling() -> Crawling:
    return Crawling()


@pytest.fixture(params=["memory", "sqlite"])
async def frontier(request: pytest.FixtureRequest, crawling: Crawling) -> AsyncIterator[Frontier]:
    opened: Frontier
    if request.param == "memory":
        opened = MemoryFrontier(MemoryStore(), FrontierSettings(), clock=crawling.clock)
    else:
        opened = await open_frontier("sqlite::memory:", FrontierSettings(), clock=crawling.clock)
    yield opened
    await opened.close()


@asynccontextmanager
async def worked_on(frontier: Frontier, crawling: Crawling) -> AsyncIterator[Worker]:
    async with working(frontier, OPTIONS, crawling.clock, FETCH, take=crawling.taken.append) as worker:
        yield worker


@asynccontextmanager
async def storing_at_a_word(frontier: Frontier, crawling: Crawling, folder: Path) -> AsyncIterator[Journal]:
    """A worker whose store, which is given, writes nothing before it may."""
    store = Journal(folder / "journal")
    store.may_write.clear()
    async with working(frontier, OPTIONS, crawling.clock, replace(FETCH, captures=True), store=store):
        try:
            yield store
        finally:
            store.may_write.set()


WIDENED: list[tuple[CrawlSettings, dict[str, Any]]] = [
    (replace(AT_ONCE, max_depth=0), {"max_depth": 1}),
    (replace(AT_ONCE, max_depth=0), {"max_depth": None}),
    (replace(AT_ONCE, scope=Scope.PAGE), {"scope": Scope.HOST}),
    (replace(AT_ONCE, exclude=("/a$",)), {"exclude": ()}),
    (replace(AT_ONCE, include=("/b$",), max_depth=4), {"include": ()}),
]


@pytest.mark.parametrize(("before", "wider"), WIDENED, ids=[str(wider) for _, wider in WIDENED])
async def test_a_page_that_is_held_meanwhile_leads_as_far_as_the_wider_row_says(
    frontier: Frontier, crawling: Crawling, host: Site, before: CrawlSettings, wider: dict[str, Any]
) -> None:
    host.bodies = {"/": page("a"), "/a": b""}
    await put_in(frontier, await made(frontier, settings=before), host.url)
    async with worked_on(frontier, crawling):
        held = await crawling.page()
        assert await crawling.change(frontier, **wider) == (0, 0, 0)
        held.finish()
        (await crawling.page(2)).finish()
        await crawling.ended(frontier, 2)
        records = await records_of(frontier)
    link, start = (records[record_key(host.url + path, "news")] for path in ("a", ""))
    assert (link.status, link.depth) == (Status.DONE, 1)
    assert start.outcome is not None
    assert (start.visit, start.attempt, start.outcome.links_skipped) == (0, 1, {})
    assert host.paths == ["/", "/a"]  # nobody gets a page twice


@pytest.mark.parametrize(("before", "wider"), WIDENED, ids=[str(wider) for _, wider in WIDENED])
async def test_a_page_that_is_stored_meanwhile_leads_as_far_as_the_wider_row_says(
    frontier: Frontier,
    crawling: Crawling,
    host: Site,
    tmp_path: Path,
    before: CrawlSettings,
    wider: dict[str, Any],
) -> None:
    """Nobody takes the pages: it is the store that takes its time."""
    host.bodies = {"/": page("a"), "/a": b""}
    await put_in(frontier, await made(frontier, settings=before), host.url)
    async with storing_at_a_word(frontier, crawling, tmp_path) as store:
        await until(lambda: store.calls == 1)
        assert await crawling.change(frontier, **wider) == (0, 0, 0)
        store.may_write.set()
        await crawling.ended(frontier, 2)
        records = await records_of(frontier)
    link, start = (records[record_key(host.url + path, "news")] for path in ("a", ""))
    assert (link.status, link.depth) == (Status.DONE, 1)
    assert start.outcome is not None
    assert start.outcome.capture is not None
    assert store.read(start.outcome.capture)["url"] == host.url
    assert (start.visit, start.attempt, start.outcome.links_skipped) == (0, 1, {})
    assert host.paths == ["/", "/a"]


async def test_what_a_page_leads_to_by_the_row_of_then_is_kept_for_a_nearer_way(
    frontier: Frontier, crawling: Crawling, host: Site
) -> None:
    """And no more of it is recorded than that allows."""
    host.bodies = {"/": page("a"), "/a": page("b"), "/b": b""}
    await put_in(frontier, await made(frontier, settings=replace(AT_ONCE, max_depth=4, exclude=("/b$",))), host.url)
    async with worked_on(frontier, crawling):
        (await crawling.page()).finish()
        held = await crawling.page(2)
        await crawling.change(frontier, exclude=(), max_depth=1)
        held.finish()
        await crawling.ended(frontier, 2)
        row = await row_of(frontier)
        assert len(await records_of(frontier)) == 2
        await frontier.enqueue([Entry(url=f"{host.url}a", settings=row.settings, crawl=row.ref)])
        (await crawling.page(3)).finish()
        await crawling.ended(frontier, 3)
    assert record_key(f"{host.url}b", "news") in await records_of(frontier)


async def test_what_was_blocked_and_is_held_meanwhile_is_judged_anew(
    frontier: Frontier, crawling: Crawling, host: Site
) -> None:
    """What the wider row lets in; what is too deep still ends."""
    host.bodies = {"/": page("a"), "/a": b""}
    await made(frontier, settings=replace(AT_ONCE, scope=Scope.ANY, max_depth=4))
    await crawling.change(frontier, max_depth=1)
    crawl = await row_of(frontier)
    for depth in (2, 3):
        entry = Entry(
            url=f"{host.url}a?{depth}", settings=crawl.settings, crawl=crawl.ref, depth=depth, parent=host.url
        )
        host.bodies[f"/a?{depth}"] = b""
        await frontier.enqueue([entry])
    async with worked_on(frontier, crawling):
        await crawling.page(2)
        both = list(crawling.taken)
        assert {held.end.outcome.reason for held in both} == {Reason.DEPTH_LIMIT}
        await crawling.change(frontier, max_depth=2)
        for held in both:
            held.finish()
        (await crawling.page(3)).finish()
        await crawling.ended(frontier, 2)
        records = await records_of(frontier)
    assert host.paths == ["/a?2"]
    assert [records[record_key(f"{host.url}a?{depth}", "news")].status for depth in (2, 3)] == [
        Status.DONE,
        Status.BLOCKED,
    ]


async def test_a_link_that_is_kept_as_left_out_comes_back_though_all_is_held(
    frontier: Frontier, crawling: Crawling, host: Site
) -> None:
    host.bodies = {"/": page("a"), "/a": b""}
    settings = replace(AT_ONCE, exclude=("/a$",), keep_skipped=True)
    await put_in(frontier, await made(frontier, settings=settings), host.url)
    async with worked_on(frontier, crawling):
        await crawling.page(2)
        assert await crawling.change(frontier, exclude=()) == (0, 0, 0)
        for held in list(crawling.taken):
            held.finish()
        (await crawling.page(3)).finish()
        await crawling.ended(frontier, 2)
        records = await records_of(frontier)
    assert {record.status for record in records.values()} == {Status.DONE}
    assert host.paths == ["/", "/a"]


async def test_what_was_dealt_with_just_before_a_stop_ends(
    frontier: Frontier, crawling: Crawling, host: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though it is still asked what has become of the row."""
    host.bodies = {"/": page("a"), "/a": b""}
    await put_in(frontier, await made(frontier, settings=replace(AT_ONCE, max_depth=0)), host.url)
    may_answer, asked = asyncio.Event(), asyncio.Event()
    crawls = frontier.crawls

    async def slow() -> Any:
        asked.set()
        await may_answer.wait()
        return await crawls()

    async with worked_on(frontier, crawling) as worker:
        held = await crawling.page()
        await crawling.change(frontier, max_depth=1)
        monkeypatch.setattr(frontier, "crawls", slow)
        held.finish()
        await asked.wait()
        worker.stop()
        may_answer.set()
    monkeypatch.undo()
    records = await records_of(frontier)
    assert {record.url: record.status for record in records.values()} == {
        host.url: Status.DONE,
        f"{host.url}a": Status.QUEUED,
    }
