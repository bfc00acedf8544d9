"""What tests of crawls by their rows share."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec

from sqspider.crawl_row import Crawl, Identity
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Frontier
from sqspider.record import UrlRecord
from sqspider.url import Scope
from sqspider.web.fetch import Fetcher, FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.worker import Mode, Worker

FETCH = FetchOptions(timeout_seconds=30.0)
AT_HOME = FetchOptions(timeout_seconds=30.0, allow_private=True)
SETTINGS = CrawlSettings(scope=Scope.HOST, delay_seconds=0.0)
OPTIONS = WorkerOptions(worker_id="tester", first_retry_seconds=0.05, poll_seconds=0.05, lease_seconds=60.0)
LOCAL = Identity(allow_private=True)
replace = msgspec.structs.replace


async def made(
    frontier: Frontier, name: str = "news", settings: CrawlSettings = SETTINGS, identity: Identity = LOCAL, **more: Any
) -> Crawl:
    crawl = Crawl(
        name=name,
        id=f"{random.getrandbits(48):x}",
        settings=settings,
        identity=identity,
        created_at=time.time(),
        **more,
    )
    assert await frontier.save_crawl(crawl)
    return replace(crawl, version=1)


async def row_of(frontier: Frontier, name: str = "news") -> Crawl:
    return next(crawl for crawl in await frontier.crawls() if crawl.name == name)


async def changed(frontier: Frontier, name: str = "news", **fields: Any) -> Crawl:
    row = await row_of(frontier, name)
    assert await frontier.save_crawl(replace(row, **fields))
    return await row_of(frontier, name)


def worker_on(frontier: Frontier, fetcher: Fetcher, options: WorkerOptions = OPTIONS, **more: Any) -> Worker:
    return Worker(frontier, fetcher, options, clock=time.time, rng=random.Random(), **more)


async def work(
    frontier: Frontier, fetch: FetchOptions = AT_HOME, *, crawl: str | None = None, options: WorkerOptions = OPTIONS,
    **more: Any,
) -> Worker:  # fmt: skip
    async with Fetcher(fetch, connections=8) as fetcher:
        worker = worker_on(frontier, fetcher, options, **more)
        await worker.run(Mode.UNTIL_EMPTY, crawl=crawl)
    return worker


@asynccontextmanager
async def working(frontier: Frontier, fetch: FetchOptions = AT_HOME, **more: Any) -> AsyncIterator[Worker]:
    """A worker that goes on while something is done."""
    async with Fetcher(fetch, connections=8) as fetcher:
        worker = worker_on(frontier, fetcher, **more)
        running = asyncio.create_task(worker.run(Mode.CONTINUOUS))
        try:
            yield worker
        finally:
            worker.stop()
            await running


async def until(holds: Callable[[], Any]) -> None:
    while not holds():
        await asyncio.sleep(0.01)


async def put_in(frontier: Frontier, crawl: Crawl, *urls: str) -> None:
    await produce(frontier, urls, crawl.settings, crawl=crawl.ref, on_refused=print)


async def records_of(frontier: Frontier, crawl: str | None = None) -> dict[str, UrlRecord]:
    return {record.key: record async for batch in frontier.scan(crawl=crawl) for record in batch}


def page(*links: str) -> bytes:
    return "".join(f'<a href="{link}">x</a>' for link in links).encode()
