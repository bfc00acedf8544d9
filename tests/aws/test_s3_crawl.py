"""Crawls that keep their pages in a bucket which throttles, fails, loses answers and refuses: no record is final
without its capture, and none ends twice."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack

import pytest

from sqspider.archive.bucket import Bucket
from sqspider.archive.bucket_sink import BucketSink
from sqspider.archive.coding import Coding
from sqspider.archive.reading import capture_at
from sqspider.archive.s3_place import S3Place
from sqspider.archive.store import ArchiveStore
from sqspider.archive.warc import Origin
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import FrontierSettings
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.orders.start import ArchivePlace, Start
from sqspider.orders.store import store_opened
from sqspider.record import Status, UrlRecord
from sqspider.url import Scope
from sqspider.web.fetch import FetchOptions
from sqspider.work.allowed import Allowed
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from tests.archive.captures import capture_of
from tests.crawl.test_crew import records_of, until, working
from tests.sites import Site

from . import s3_faults
from .buckets import bucket
from .engines import Engines
from .s3_faults import S3Proxy
from .store import AwsStore

PAGES = 40
FETCH = FetchOptions(allow_private=True, captures=True)
SETTINGS = CrawlSettings(delay_seconds=0, scope=Scope.HOST)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    links = b"".join(b"<a href=/%d>x</a>" % number for number in range(PAGES))
    site.bodies = {f"/{number}": b"<title>%d</title>" % number + links for number in range(PAGES)}
    yield site
    site.close()


@pytest.fixture
async def proxy(engines: Engines) -> AsyncIterator[S3Proxy]:
    async with S3Proxy(engines.ministack(), seed=2) as proxy:
        yield proxy


def are_kept(place: S3Place, environment: dict[str, str], records: list[UrlRecord]) -> bool:
    """Whether each record has its capture, which has its URL and digest."""
    files = Bucket.at(str(place), environment)
    for record in records:
        assert record.outcome is not None
        assert record.outcome.capture is not None, record
        assert b"<title>" in capture_at(files, record.outcome.capture, record.url).body()
    files.close()
    return True


@pytest.mark.parametrize("name", list(s3_faults.ALL))
async def test_no_record_is_final_without_its_capture_and_none_ends_twice(
    site: Site, proxy: S3Proxy, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sqspider.work.keeping.FIRST_WAIT_SECONDS", 0.1)
    memory = MemoryStore()
    frontiers = [MemoryFrontier(memory, FrontierSettings(), clock=time.time) for _ in range(2)]
    upstream = {**proxy.environment, "AWS_ENDPOINT_URL_S3": proxy.upstream}
    async with bucket(upstream) as place, AsyncExitStack() as stack:
        proxy.fault, proxy.chance = s3_faults.ALL[name], 0.3
        await produce(frontiers[0], [f"{site.url}0"], SETTINGS, on_refused=print)
        workers = []
        for number, frontier in enumerate(frontiers):
            sink = BucketSink.at(
                str(place), Coding.GZIP, Origin("host"), environment=proxy.environment, gather_seconds=0.1
            )
            store = ArchiveStore(sink)
            stack.push_async_callback(store.close)
            options = WorkerOptions(worker_id=f"worker-{number}", concurrency=4, poll_seconds=0.05)
            workers.append(await stack.enter_async_context(working(frontier, options, fetch=FETCH, store=store)))
        await until(frontiers[0], done=PAGES)
        proxy.fault = None
        records = await records_of(frontiers[0])
        assert sum(worker.tally.done for worker in workers) == PAGES
        assert await asyncio.to_thread(are_kept, place, upstream, records)
    assert proxy.injected > 0
    assert Counter(record.status for record in records) == {Status.DONE: PAGES}
    assert {record.unended for record in records} == {0}
    for frontier in frontiers:
        await frontier.close()


async def test_what_is_put_is_on_the_bill_of_a_frontier_on_aws(
    store: AwsStore, monkeypatch: pytest.MonkeyPatch, proxy: S3Proxy
) -> None:
    for name, value in proxy.environment.items():
        monkeypatch.setenv(name, value)
    frontier = await store.open()
    async with bucket(proxy.environment) as place:
        start = Start(fetch=FETCH, allowed=Allowed.by(FETCH), archive=ArchivePlace(address=str(place)))
        async with store_opened(start, frontier) as opened:
            assert opened is not None
            assert await opened.keep([capture_of()])
        assert (frontier.usage.s3_writes, frontier.usage.s3_reads) == (1, 0)
        assert frontier.usage.archived_bytes > 0
