"""A URL that has ended is visited once more, also by a worker that remembers what it did."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sqspider.again import Choice, put_back
from sqspider.crawls import CrawlSettings
from sqspider.record import Reason, Status
from sqspider.url import Scope
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.worker import Mode, Worker
from tests.crawl.test_clearing import opened
from tests.sites import Site

FETCH = FetchOptions(allow_private=True, timeout_seconds=30.0)
OPTIONS = WorkerOptions(worker_id="tester")
AT_ONCE = CrawlSettings(scope=Scope.HOST, delay_seconds=0)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    site.bodies = {"/": b"<a href=/1>x</a><a href=/private>x</a>", "/1": b"<a href=/>x</a>", "/robots.txt": (404, {})}
    yield site
    site.close()


async def until_none_is_open(path: Path) -> Counter[Status]:
    async with opened(path) as frontier:
        while (await frontier.counts()).open or not (await frontier.queue_stats()).is_empty:
            await asyncio.sleep(0.02)
        return Counter((await frontier.counts()).by_status)


async def test_a_worker_that_remembers_what_it_finished_visits_it_once_more(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "f.db"
    async with opened(path) as shared, opened(path) as own, Fetcher(FETCH) as fetcher:
        worker = Worker(own, fetcher, OPTIONS, clock=time.time, rng=random.Random())
        working = asyncio.create_task(worker.run(Mode.CONTINUOUS))
        await produce(shared, [site.url], AT_ONCE, on_refused=print)
        first = await until_none_is_open(path)
        assert (first[Status.DONE], first[Status.FAILED]) == (2, 1)
        while f"{site.url}1" not in worker._endings._memories.finished:
            await asyncio.sleep(0.01)  # it is told a moment later
        for visits in (2, 3):
            assert (await put_back(shared, Choice())).kinds.total() == 3
            assert await until_none_is_open(path) == first
            assert Counter(site.paths) == {"/robots.txt": 1, "/": visits, "/1": visits, "/private": visits}
        records = await shared.get([f"{site.url}{name}" for name in ("", "1", "private")])
        assert {record.visit for record in records.values()} == {2}
        worker.stop()
        await working


async def test_what_robots_txt_forbade_is_judged_by_it_as_it_is_then(site: Site, tmp_path: Path) -> None:
    async def crawl() -> None:
        async with opened(path) as frontier, Fetcher(FETCH) as fetcher:
            await Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random()).run(Mode.UNTIL_EMPTY)

    path = tmp_path / "f.db"
    site.bodies |= {"/private": b"", "/robots.txt": b"User-agent: *\nDisallow: /private"}
    async with opened(path) as frontier:
        await produce(frontier, [site.url], AT_ONCE, on_refused=print)
        await crawl()
        assert (await frontier.counts()).by_reason == {Reason.ROBOTS: 1}
        site.bodies["/robots.txt"] = b""
        assert (await put_back(frontier, Choice(reasons=frozenset({Reason.ROBOTS})))).kinds.total() == 1
        await crawl()
        assert (await frontier.counts()).by_reason == {}
    assert site.paths.count("/private") == 1
    assert site.paths.count("/robots.txt") == 2
