"""Crawls by their rows: whose settings hold, who fetches, what a worker does not do for a row alone."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sqspider.crawl import Crawl, CrawlRef, Identity, Limits, State
from sqspider.crawls import CrawlSettings
from sqspider.frontier import Entry, Frontier, FrontierSettings, open_frontier
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.message import Message, encode_message
from sqspider.record import Reason, Status, UrlRecord, record_key
from sqspider.url import Scope
from sqspider.web.fetch import Fetcher, FetchOptions
from sqspider.work.allowed import Allowed
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.secrets import Secrets
from sqspider.work.worker import Mode, Worker
from tests.sites import Site

FETCH = FetchOptions(timeout_seconds=30.0)
AT_HOME = FetchOptions(timeout_seconds=30.0, allow_private=True)
SETTINGS = CrawlSettings(scope=Scope.HOST, delay_seconds=0.0)
OPTIONS = WorkerOptions(worker_id="tester", first_retry_seconds=0.05, poll_seconds=0.05, lease_seconds=60.0)
LOCAL = Identity(allow_private=True)
replace = msgspec.structs.replace


@pytest.fixture(params=["memory", "sqlite"])
async def frontier(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Frontier]:
    opened: Frontier
    if request.param == "memory":
        opened = MemoryFrontier(MemoryStore(), FrontierSettings(), clock=time.time)
    else:
        opened = await open_frontier(f"sqlite:{tmp_path / 'f.db'}", FrontierSettings(), clock=time.time)
    yield opened
    await opened.close()


@pytest.fixture
def host() -> Any:
    site = Site()
    yield site
    site.close()


async def made(
    frontier: Frontier, name: str = "news", settings: CrawlSettings = SETTINGS, identity: Identity = LOCAL, **more: Any
) -> Crawl:
    crawl = Crawl(
        name=name, id=f"{random.getrandbits(48):x}", settings=settings, identity=identity, created_at=time.time(), **more
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


async def test_a_crawl_goes_by_its_row(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page("a", "http://elsewhere.invalid/"), "/a": page("b"), "/b": page("c"), "/c": b"c"}
    crawl = await made(frontier, settings=replace(SETTINGS, max_depth=2))
    await put_in(frontier, crawl, host.url)
    await work(frontier)
    records = await records_of(frontier)
    assert set(records) == {record_key(host.url + path, "news") for path in ("", "a", "b")}
    assert all(record.status is Status.DONE and record.crawl == "news" for record in records.values())
    assert (await frontier.counts(crawl="news")).by_status[Status.DONE] == 3
    assert (await frontier.counts(crawl="default")).total == 0
    assert sorted(host.paths) == ["/", "/a", "/b", "/robots.txt"]


async def test_the_same_url_in_two_crawls_is_two_records(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page("a"), "/a": b"a"}
    for name in ("one", "two"):
        await put_in(frontier, await made(frontier, name), host.url)
    await produce(frontier, [host.url], SETTINGS, on_refused=print)
    await work(frontier)
    records = await records_of(frontier)
    assert len(records) == 6
    assert all(record.status is Status.DONE for record in records.values())
    assert host.paths.count("/a") == 3


async def test_a_scope_is_measured_from_all_seeds(frontier: Frontier, host: Site) -> None:
    one, two, three = (host.url_of(f"127.0.0.{number}") for number in (1, 2, 3))
    host.bodies = {"/": page(f"{one}a", f"{two}b", f"{three}c"), "/a": b"", "/b": b"", "/c": b""}
    crawl = await made(frontier)
    await put_in(frontier, crawl, one, two)
    await work(frontier)
    urls = {record.url for record in (await records_of(frontier)).values()}
    assert urls == {one, two, f"{one}a", f"{two}b"}


async def test_folders_of_seeds_are_all_in_scope(frontier: Frontier, host: Site) -> None:
    links = page("/x/1", "/y/1", "/z/1", "/x1")
    host.bodies = {"/x/": links, "/y/": links, "/x/1": b"", "/y/1": b""}
    crawl = await made(frontier, settings=replace(SETTINGS, scope=Scope.PREFIX))
    await put_in(frontier, crawl, f"{host.url}x/", f"{host.url}y/")
    await work(frontier)
    assert {path for path in host.paths if path != "/robots.txt"} == {"/x/", "/y/", "/x/1", "/y/1"}


async def test_where_a_seed_redirects_to_is_a_seed(frontier: Frontier, host: Site) -> None:
    """Within its own site: here by another folder."""
    host.bodies = {"/old/": (301, {"Location": "/new/"}), "/new/": page("/new/1", "/old/1", "/other"), "/new/1": b"", "/old/1": b""}
    crawl = await made(frontier, settings=replace(SETTINGS, scope=Scope.PREFIX))
    await put_in(frontier, crawl, f"{host.url}old/")
    await work(frontier)
    assert {path for path in host.paths if path != "/robots.txt"} == {"/old/", "/new/", "/new/1", "/old/1"}
    assert (await row_of(frontier)).seeds_version == 2  # of the first seed, and of this one


async def test_another_site_that_a_seed_redirects_to_is_fetched_and_no_seed(frontier: Frontier, host: Site) -> None:
    there = host.url_of("127.0.0.2")
    host.bodies = {"127.0.0.1/": (302, {"Location": there}), "127.0.0.2/": page(f"{there}a", f"{host.url}b"), "/b": b""}
    crawl = await made(frontier)
    await put_in(frontier, crawl, host.url)
    await work(frontier)
    records = await records_of(frontier)
    assert {record.url for record in records.values()} == {host.url, there, f"{host.url}b"}


async def test_a_row_that_is_changed_holds_for_what_is_queued(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page("a/1", "a/2", "b/1"), "/a/1": page("/a/1/1"), "/a/2": b"", "/b/1": b"", "/a/1/1": b""}
    crawl = await made(frontier)
    await put_in(frontier, crawl, host.url)
    entries = [("a/1", 1), ("b/1", 1), ("a/1/1", 2)]
    await frontier.enqueue([Entry(url=host.url + path, depth=depth, crawl=crawl.ref) for path, depth in entries])
    await changed(frontier, settings=replace(crawl.settings, max_depth=1, exclude=("/b/",)))
    await work(frontier)
    found = {record.url.removeprefix(host.url): record for record in (await records_of(frontier)).values()}
    reasons = {path: record.outcome and record.outcome.reason for path, record in found.items()}
    assert reasons == {
        "": None, "a/1": None, "a/2": None, "b/1": Reason.EXCLUDED, "a/1/1": Reason.DEPTH_LIMIT,
    }  # fmt: skip
    assert not {"/b/1", "/a/1/1"} & set(host.paths)


async def test_a_scope_that_is_narrowed_holds_for_what_is_queued(frontier: Frontier, host: Site) -> None:
    there = host.url_of("127.0.0.2")
    host.bodies = {"/": b""}
    crawl = await made(frontier)
    await put_in(frontier, crawl, host.url)
    await frontier.enqueue([Entry(url=there, depth=1, crawl=crawl.ref)])
    await work(frontier)
    record = (await records_of(frontier))[record_key(there, "news")]
    assert record.outcome is not None
    assert (record.status, record.outcome.reason) == (Status.BLOCKED, Reason.OUT_OF_SCOPE)
