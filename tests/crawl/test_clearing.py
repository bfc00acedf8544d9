"""What was cleared away is forgotten by whoever works on it: the next crawl is whole (docs/guarantees.md)."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Frontier, FrontierSettings, open_frontier
from sqspider.host import with_orders
from sqspider.record import Status
from sqspider.url import Scope
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.worker import Mode, Worker
from tests.conftest import Run
from tests.sites import Site

PAGES = 60
FETCH = FetchOptions(allow_private=True, timeout_seconds=30.0)
OPTIONS = WorkerOptions(worker_id="tester", lease_seconds=60.0)
AT_ONCE = CrawlSettings(scope=Scope.HOST, delay_seconds=0)


@pytest.fixture
def pages() -> Iterator[Site]:
    """So many pages, each of which links to all."""
    site = Site()
    links = b"".join(b"<a href=/%d>x</a>" % n for n in range(PAGES))
    site.bodies = {f"/{n}": links for n in range(PAGES)}
    yield site
    site.close()


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Frontier]:
    frontier = await open_frontier(f"sqlite:{path}", FrontierSettings(), clock=time.time)
    try:
        yield frontier
    finally:
        await frontier.close()


async def until_all_is_done(frontier: Frontier) -> int:
    """Wait until nothing is left to do; how many pages were fetched."""
    while (await frontier.counts()).open or not (await frontier.queue_stats()).is_empty:
        await asyncio.sleep(0.02)
    counts = await frontier.counts()
    assert counts.total == counts.by_status[Status.DONE]
    return counts.total


async def test_a_crawl_after_cleanup_is_whole_though_the_consumer_went_on(
    pages: Site, sqspider: Run, tmp_path: Path
) -> None:
    path = tmp_path / "sqspider.db"
    async with opened(path) as shared, opened(path) as own, Fetcher(FETCH) as fetcher:
        worker = Worker(own, fetcher, OPTIONS, clock=time.time, rng=random.Random())
        working = asyncio.create_task(worker.run(Mode.CONTINUOUS))
        for _ in range(3):
            await produce(shared, [f"{pages.url}0"], AT_ONCE, on_refused=print)
            assert await until_all_is_done(shared) == PAGES
            assert (await asyncio.to_thread(sqspider, "cleanup", "--all", "--yes")).returncode == 0
        worker.stop()
        await working
    assert [pages.paths.count(f"/{n}") for n in range(PAGES)] == [3] * PAGES
    assert pages.paths.count("/robots.txt") == 3


async def test_a_worker_that_is_handed_its_deliveries_forgets_too(pages: Site, tmp_path: Path) -> None:
    """As a Lambda function that is kept warm: it asks for no messages, so it hears of it by the host's row."""
    settings = CrawlSettings(scope=Scope.HOST, delay_seconds=0.001)
    async with opened(tmp_path / "f.db") as shared, opened(tmp_path / "f.db") as own, Fetcher(FETCH) as fetcher:
        worker = Worker(own, fetcher, OPTIONS, clock=time.time, rng=random.Random())
        for _ in range(3):
            await produce(shared, [f"{pages.url}0"], settings, on_refused=print)
            while (await shared.counts()).open:
                await worker.work_on(await shared.receive(10), until=time.time() + 30)
            assert (await shared.counts()).by_status[Status.DONE] == PAGES
            await shared.clear_table()
            await shared.purge_queue()
    assert [pages.paths.count(f"/{n}") for n in range(PAGES)] == [3] * PAGES
    assert pages.paths.count("/robots.txt") == 3


async def test_orders_and_rules_that_were_cleared_hold_no_more(pages: Site, tmp_path: Path) -> None:
    """By a clock that stands still no copy is ever too old: only the clearing ends it."""
    now = time.time()
    pages.bodies["/robots.txt"] = b"User-agent: *\nDisallow: /1"
    async with opened(tmp_path / "f.db") as shared, Fetcher(FETCH) as fetcher:
        own = await open_frontier(f"sqlite:{tmp_path / 'f.db'}", FrontierSettings(), clock=lambda: now)
        worker = Worker(own, fetcher, OPTIONS, clock=lambda: now, rng=random.Random())

        async def crawled() -> dict[str, Status]:
            await produce(own, [f"{pages.url}1", f"{pages.url}2"], AT_ONCE, on_refused=print)
            while deliveries := await own.receive(10):
                await worker.work_on(deliveries, until=now + 30)
            found = [record async for batch in own.scan() for record in batch if record.depth == 0]
            return {record.url.removeprefix(pages.url): record.status for record in found}

        assert await crawled() == {"1": Status.BLOCKED, "2": Status.DONE}
        await shared.clear_table()
        await shared.purge_queue()
        pages.bodies["/robots.txt"] = b"User-agent: *\nDisallow: /2"
        assert await crawled() == {"1": Status.DONE, "2": Status.BLOCKED}
        await shared.clear_table()
        await shared.purge_queue()
        (row,) = (await shared.hosts(["127.0.0.1"])).values()
        await shared.save_hosts([with_orders(row, delay=None, is_paused=None, is_blocked=True)])
        assert await crawled() == {"1": Status.BLOCKED, "2": Status.BLOCKED}
        await own.close()
