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
from sqspider.crawl_settings import CrawlSettings
from sqspider.record import Reason, Status, UrlRecord
from sqspider.url import Scope
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.worker import Mode, Worker
from tests.crawl.test_clearing import opened
from tests.sites import Answer, Asked, Site

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


# Only what has changed.

DATE = "Mon, 30 Nov 2026 12:00:00 GMT"


class Page:
    """A page as servers have it that know its versions."""

    def __init__(self, *, etag: bool = True, dated: bool = False) -> None:
        self.version = 1
        self.is_down = False
        self.asked: list[tuple[str | None, str | None]] = []  # If-None-Match, If-Modified-Since
        self._etag, self._dated = etag, dated

    def __call__(self, asked: Asked) -> Answer:
        conditions = asked.headers.get("If-None-Match"), asked.headers.get("If-Modified-Since")
        self.asked.append(conditions)
        if self.is_down:
            return 404, {}
        headers = ({"ETag": self.etag} if self._etag else {}) | ({"Last-Modified": DATE} if self._dated else {})
        if conditions == (headers.get("ETag"), headers.get("Last-Modified")) and any(conditions):
            return 304, headers
        return 200, {**headers, "Content-Type": "text/html", "X-Version": str(self.version)}

    @property
    def etag(self) -> str:
        return f'"v{self.version}"'


async def crawl_again(path: Path, choice: Choice | None = None, *, if_changed: bool = True) -> None:
    async with opened(path) as frontier, Fetcher(FETCH) as fetcher:
        if choice is not None:
            await put_back(frontier, choice, if_changed=if_changed)
        await Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random()).run(Mode.UNTIL_EMPTY)


async def record_at(path: Path, url: str) -> UrlRecord:
    async with opened(path) as frontier:
        return (await frontier.get([url]))[url]


@pytest.mark.parametrize(("etag", "dated"), [(True, False), (False, True), (True, True)])
async def test_a_page_that_has_not_changed_stays_as_it_was(
    site: Site, tmp_path: Path, *, etag: bool, dated: bool
) -> None:
    path, page = tmp_path / "f.db", Page(etag=etag, dated=dated)
    site.bodies["/"] = page
    async with opened(path) as frontier:
        await produce(frontier, [site.url], AT_ONCE, on_refused=print)
    await crawl_again(path)
    first = await record_at(path, site.url)
    assert first.outcome is not None
    for visit in (1, 2):
        await crawl_again(path, Choice())
        record = await record_at(path, site.url)
        assert record.outcome is not None
        assert (record.status, record.visit, record.outcome.unchanged) == (Status.DONE, visit, True)
        assert (record.outcome.http_status, record.outcome.digest) == (200, first.outcome.digest)
        assert record.kept == first.kept
    conditions = (page.etag if etag else None, DATE if dated else None)
    assert page.asked == [(None, None), conditions, conditions]
    async with opened(path) as frontier:
        assert (await frontier.counts()).by_status[Status.DONE] == 1
    await crawl_again(path, Choice(), if_changed=False)
    assert page.asked[3:] == [(None, None)], "who wants the whole gets it"


async def test_a_page_that_has_changed_says_when_and_how_often(site: Site, tmp_path: Path) -> None:
    path, bodies = tmp_path / "f.db", [b"one", b"one", b"two", b"<a href=/new>x</a>"]
    site.bodies |= {"/": lambda _: bodies[min(len(site.requests) - 2, 3)], "/new": b"new"}
    site.bodies["/robots.txt"] = (404, {})
    async with opened(path) as frontier:
        await produce(frontier, [site.url], AT_ONCE, on_refused=print)
    changes = []
    for visit in range(4):
        await crawl_again(path, Choice() if visit else None)
        record = await record_at(path, site.url)
        assert record.visit == visit
        changes.append(record.kept.changes if record.kept is not None else 0)
        if visit == 2:
            assert record.kept is not None
            assert record.kept.changed_at == pytest.approx(record.finished_at, abs=5)
    assert changes == [0, 0, 1, 2]
    assert (await record_at(path, f"{site.url}new")).status is Status.DONE, "what is new on it is followed"


async def test_a_visit_that_fails_loses_nothing_of_the_last_good_one(site: Site, tmp_path: Path) -> None:
    path, page = tmp_path / "f.db", Page()
    site.bodies["/"] = page
    async with opened(path) as frontier:
        await produce(frontier, [site.url], AT_ONCE, on_refused=print)
    await crawl_again(path)
    good = (await record_at(path, site.url)).outcome
    page.is_down = True
    await crawl_again(path, Choice())
    record = await record_at(path, site.url)
    assert record.kept is not None
    assert (record.status, record.kept.good, record.kept.etag) == (Status.FAILED, good, page.etag)
    page.is_down = False
    await crawl_again(path, Choice())
    record = await record_at(path, site.url)
    assert record.outcome is not None
    assert (record.status, record.outcome.unchanged, record.outcome.digest) == (Status.DONE, True, good and good.digest)
    assert page.asked == [(None, None), (page.etag, None), (page.etag, None)]


async def test_a_304_that_nobody_asked_for_is_no_answer(site: Site, tmp_path: Path) -> None:
    path = tmp_path / "f.db"
    site.bodies["/"] = (304, {"ETag": '"v1"'})
    async with opened(path) as frontier:
        await produce(frontier, [site.url], AT_ONCE, on_refused=print)
    await crawl_again(path)
    record = await record_at(path, site.url)
    assert record.outcome is not None
    assert (record.status, record.outcome.reason) == (Status.FAILED, Reason.UNEXPECTED_STATUS)
