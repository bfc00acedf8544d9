"""What becomes of a page's links: how many, how long, and where a refresh leads."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import FrontierSettings, open_frontier
from sqspider.record import Status
from sqspider.url import MAX_URL_BYTES, Scope
from sqspider.web.fetch import Fetcher
from sqspider.work.memories import LINKS_AT_A_TIME
from sqspider.work.producer import produce
from sqspider.work.worker import Worker
from tests.conftest import Run
from tests.crawl.test_politeness import FETCH, OPTIONS, crawl, opened
from tests.sites import Answer, Asked, Site

FLAGS = ("--delay", "0", "--allow-private", "--quiet", "--ignore-robots")


@pytest.fixture
def host() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def page_of(links: int) -> bytes:
    return b"".join(b"<a href=/%d>" % number for number in range(links))


# Many.


async def test_every_link_of_a_page_is_recorded(host: Site) -> None:
    links = 50_500  # more than a file of anything else may list, and not a multiple of what is recorded together
    host.bodies = {"/": page_of(links)}
    async with opened() as frontier:
        await produce(frontier, [host.url], CrawlSettings(delay_seconds=0, scope=Scope.HOST), on_refused=print)
        async with Fetcher(FETCH) as fetcher:
            worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random())
            await worker.work_on(await frontier.receive(1), until=time.time() + 3600)
        counts = await frontier.counts()
    assert (counts.by_status[Status.DONE], counts.by_status[Status.QUEUED]) == (1, links)


async def test_what_dies_while_links_are_recorded_is_done_again(host: Site, tmp_path: Path) -> None:
    """The links are in, the page is not done: it comes back, and its other links with it."""
    links = 20 * LINKS_AT_A_TIME
    host.bodies = {"/": page_of(links)}
    settings, address = CrawlSettings(delay_seconds=0, scope=Scope.HOST), f"sqlite:{tmp_path / 'crawl.db'}"
    clock = time.time
    for is_last in (False, True):
        frontier = await open_frontier(address, FrontierSettings(), clock=clock)
        await produce(frontier, [host.url], settings, on_refused=print)
        async with Fetcher(FETCH) as fetcher:
            worker = Worker(frontier, fetcher, OPTIONS, clock=clock, rng=random.Random())
            # What is in the queue after the first time is, for the most part, links.
            deliveries = await frontier.receive(links + 1)
            page = [delivery for delivery in deliveries if json.loads(delivery.body)["url"] == host.url]
            work = asyncio.create_task(worker.work_on(page, until=clock() + 3600))
            while not is_last and (await frontier.counts()).total <= LINKS_AT_A_TIME:
                assert not work.done()
            if is_last:
                await work
            else:
                work.cancel()
                await asyncio.wait([work])
        counts, record = await frontier.counts(), (await frontier.get([host.url]))[host.url]
        await frontier.close()
        assert (record.status, record.attempt) == ((Status.DONE, 2) if is_last else (Status.PROCESSING, 1))
        assert counts.total == links + 1 if is_last else LINKS_AT_A_TIME < counts.total <= links
        clock = lambda: time.time() + 3600  # noqa: E731 - when leases have ended


# Long.


def test_links_that_are_left_out_are_counted_and_long_ones_are_named(sqspider: Run, host: Site) -> None:
    long = "q?" + "x" * MAX_URL_BYTES
    host.bodies = {
        "/": f"<a href=/{long}>1</a><a href=/{long}y>2</a><a href='http://['>3</a><a href=/ok>4</a>".encode(),
        "/ok": b"x",
    }
    done = sqspider("--log-level", "info", "crawl", host.url, *FLAGS)
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "links_left_out" in line]
    assert len(said) == 1
    assert "bad_url=1" in said[0]
    assert "url_too_long=2" in said[0]
    rows = [json.loads(line) for line in sqspider("export").stdout.splitlines()]
    assert [row["links_left_out"] for row in rows if row["url"] == host.url] == [3]
    cut = [row for row in rows if row["url"].startswith(f"{host.url}q?")]
    assert [(row["status"], row["reason"], row["parent"]) for row in cut] == [("blocked", "url_too_long", host.url)] * 2
    assert host.paths == ["/", "/ok"]
    assert "links_left_out" in sqspider("show", host.url).stdout
    assert ",links_left_out," in sqspider("export", "--format", "csv").stdout.splitlines()[0]


def test_a_link_to_a_host_that_is_too_long_keeps_no_crawl_running(sqspider: Run, host: Site) -> None:
    host.bodies = {"/": f"<a href='http://{'a' * 300}.example/'>1</a><a href=/ok>2</a>".encode(), "/ok": b"x"}
    done = sqspider("crawl", host.url, *FLAGS, "--scope", "any", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(sqspider("status", "--json").stdout)["records"]["done"] == 2


# A refresh that is the only way on.

NOW = b"<meta http-equiv=refresh content='0; url=%s'>"


async def found(host: Site, **settings: Any) -> list[str]:
    """Depth and address of every record of a crawl."""
    async with opened() as frontier:
        chosen = {"delay_seconds": 0, "obey_robots": False, "scope": Scope.HOST, **settings}
        records = await crawl(frontier, [host.url], CrawlSettings(**chosen))
        return sorted(f"{record.depth} {url.removeprefix('http://')}" for url, record in records.items())


@pytest.mark.parametrize("header", [False, True])
async def test_a_seed_that_is_only_a_refresh_costs_no_depth(host: Site, header: bool) -> None:
    host.bodies = {
        "/": (200, {"Content-Type": "text/html", "Refresh": "0; url=/home"}) if header else NOW % b"/home",
        "/home": b"<a href=/1>1</a>",
        "/1": b"<a href=/2>2</a>",
    }
    place = f"127.0.0.1:{host.port}"
    assert await found(host, max_depth=0) == [f"0 {place}/", f"0 {place}/home"]
    assert await found(host, max_depth=1) == [f"0 {place}/", f"0 {place}/home", f"1 {place}/1"]


async def test_further_on_a_refresh_is_a_link_like_any_other(host: Site) -> None:
    """So that a chain of them, which may have no end, ends at the depth limit."""
    host.bodies = {f"/{n}" if n else "/": NOW % b"/%d" % (n + 1) for n in range(20)}
    assert await found(host, max_depth=3) == [f"{max(0, n - 1)} 127.0.0.1:{host.port}/{n or ''}" for n in range(5)]


async def test_a_refresh_keeps_to_the_scope_and_to_nofollow(host: Site) -> None:
    elsewhere = host.url_of("127.0.0.2").encode()
    home = f"0 127.0.0.1:{host.port}/"
    host.bodies = {"127.0.0.1/": NOW % elsewhere, "127.0.0.2/": b"<a href=/x>x</a>"}
    assert await found(host) == [home]
    assert len(await found(host, scope=Scope.ANY, max_depth=0)) == 2
    host.bodies = {"/": NOW % b"/home", "/home": b"x"}
    assert await found(host, scope=Scope.PAGE) == [home]
    assert await found(host, exclude=("home",)) == [home]
    host.bodies["/"] = b"<meta name=robots content=nofollow>" + NOW % b"/home"
    assert await found(host) == [home]
    assert len(await found(host, obey_nofollow=False)) == 2


async def test_a_seed_that_is_only_a_refresh_means_the_place_where_it_leads(host: Site) -> None:
    """Of its own domain, that is: to www, or to another port."""
    there = Site()
    try:
        host.bodies = {"/": NOW % f"{there.url}home".encode()}
        there.bodies = {"/home": b"<a href=/1>1</a>", "/1": b"x"}
        # Of the two ports either may be the greater one.
        assert sorted(line.partition("/")[2] for line in await found(host)) == ["", "1", "home"]
    finally:
        there.close()


async def test_refreshes_in_a_circle_end(host: Site) -> None:
    host.bodies = {"/": NOW % b"/x", "/x": NOW % b"/"}
    await found(host)
    assert host.paths == ["/", "/x"]


@pytest.mark.parametrize("scope", Scope)
def test_a_link_to_a_host_that_cannot_be_costs_a_page_nothing(sqspider: Run, host: Site, scope: Scope) -> None:
    host.bodies = {"/": f"<a href=http://{'a' * 2100}/>1</a><a href=/ok>2</a>".encode(), "/ok": b"x"}
    done = sqspider("crawl", host.url, *FLAGS, "--scope", scope)
    assert done.returncode == 0, done.stderr
    rows = {json.loads(line)["url"]: json.loads(line)["status"] for line in sqspider("export").stdout.splitlines()}
    followed = {} if scope is Scope.PAGE else {f"{host.url}ok": "done"}
    assert rows == {host.url: "done", **followed}


# Not followed.


def test_links_that_are_not_followed_are_counted_by_why(sqspider: Run, host: Site) -> None:
    """And a visit that brings nothing new says what the one before did."""
    page = "<a href=/a>1</a><a href=/old/b>2</a><a href=http://x.invalid/>3</a><a href=/n rel=nofollow>4</a>"

    def unless_known(asked: Asked) -> Answer:
        return (304, {"ETag": '"1"'}) if asked.headers["If-None-Match"] == '"1"' else page.encode()

    host.bodies = {"/": unless_known, "/a": b"<a href=/c>1</a><a href=http://x.invalid/>2</a>"}
    host.with_bytes = {"ETag": '"1"'}
    assert sqspider("crawl", host.url, *FLAGS, "--depth", "1", "--exclude", "/old/").returncode == 0
    for is_again in (False, True):
        rows = {row["url"]: row for row in map(json.loads, sqspider("export").stdout.splitlines())}
        assert rows[host.url]["unchanged"] is is_again
        assert rows[host.url]["links_skipped"] == {"out_of_scope": 1, "excluded": 1, "nofollow": 1}
        assert rows[f"{host.url}a"]["links_skipped"] == {"depth_limit": 2}
        assert len(rows) == 2
        assert sqspider("crawl", "--again", "--quiet").returncode == 0
    shown = sqspider("show", f"{host.url}a").stdout
    assert [line for line in shown.splitlines() if "skipped" in line] == ["links_skipped      2 depth_limit"]
