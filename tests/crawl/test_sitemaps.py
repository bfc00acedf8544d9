"""Sitemaps as a user meets them: found, fetched as politely as pages, followed, enqueued, and told about."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Frontier, FrontierSettings, open_frontier
from sqspider.politeness import MAX_HOPS
from sqspider.record import UrlRecord
from sqspider.url import Scope
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.sitemaps import BATCH, MAX_LEVELS, SitemapReport, discover
from sqspider.work.worker import Mode, Worker
from tests.conftest import Run
from tests.sites import Answer, Site

SELF = ("--delay", "0", "--allow-private")
FETCH = FetchOptions(allow_private=True, timeout_seconds=30.0)


@pytest.fixture
def maps() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def urlset(*urls: str, lastmod: str = "2020-02-03") -> bytes:
    entries = "".join(f"<url><loc>{url}</loc><lastmod>{lastmod}</lastmod></url>" for url in urls)
    return f"<urlset>{entries}</urlset>".encode()


def index(*urls: str) -> bytes:
    return f"<sitemapindex>{''.join(f'<sitemap><loc>{url}</loc></sitemap>' for url in urls)}</sitemapindex>".encode()


async def discovered(
    frontier: Frontier, settings: CrawlSettings, *, seeds: tuple[str, ...] = (), sitemaps: tuple[str, ...] = ()
) -> list[SitemapReport]:
    reports: list[SitemapReport] = []
    await discover(
        frontier, FETCH, settings, seeds=seeds, sitemaps=sitemaps, clock=time.time, rng=random.Random(),
        stopping=asyncio.Event(), on_report=reports.append,
    )  # fmt: skip
    return reports


async def opened() -> Frontier:
    return await open_frontier("sqlite::memory:", FrontierSettings(), clock=time.time)


async def records_of(frontier: Frontier) -> dict[str, UrlRecord]:
    return {record.url: record async for batch in frontier.scan() for record in batch}


def test_a_crawl_begins_with_what_the_sitemaps_list(sqspider: Run, maps: Site, tmp_path: Path) -> None:
    url = maps.url
    maps.bodies = {
        "/robots.txt": f"Sitemap: {url}maps.xml.gz\nSitemap: /feed\n".encode(),
        "/maps.xml.gz": gzip.compress(index(f"{url}1.xml", f"{url}2.txt", f"{url}maps.xml.gz")),
        "/1.xml": urlset(f"{url}a", f"{url}b", "http://elsewhere.invalid/", "ftp://e.com/"),
        "/2.txt": f"{url}b\n{url}c\n".encode(),
        "/feed": f"<rss><channel><item><link>{url}d</link></item></channel></rss>".encode(),
        "/sitemap.xml": urlset(f"{url}e", url),
        **dict.fromkeys(("/", "/a", "/b", "/c", "/d", "/e"), b"a page"),
    }
    done = sqspider("crawl", url, "--sitemaps", *SELF, "--json", "--output", "rows.jsonl")
    assert done.returncode == 0, done.stderr
    rows = {row["url"]: row for row in map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())}
    assert {path.removeprefix(url) for path in rows} == {"", "a", "b", "c", "d", "e"}
    assert (rows[f"{url}a"]["depth"], rows[f"{url}a"]["parent"]) == (1, f"{url}1.xml")
    assert rows[url]["depth"] == 0
    assert sorted(maps.paths) == sorted({*maps.bodies})  # each once, robots.txt too
    assert f"sitemap {url}1.xml: 3 listed, 2 new, 1 out of scope, 1 refused: 1 bad_scheme" in done.stderr
    assert f"sitemap {url}maps.xml.gz: 0 listed, 0 new" in done.stderr


def test_sitemaps_that_are_not_there_or_bad_are_told(sqspider: Run, maps: Site) -> None:
    url = maps.url
    maps.bodies = {"/": b"a page", "/private.xml": b"no", "/broken.xml": urlset(f"{url}a?b&c=1", "/d", "e.com")[:-3]}
    none = sqspider("crawl", url, "--sitemaps", *SELF)
    assert none.returncode == 0, none.stderr  # nobody said that there is one
    assert f"sitemap {url}sitemap.xml: client_error: HTTP status 404" in none.stderr

    maps.bodies["/robots.txt"] = b"User-agent: *\nDisallow: /private\n"
    done = sqspider(
        "enqueue", "--json", *SELF, *(f"--sitemap={url}{name}" for name in ("none.xml", "private.xml", "broken.xml"))
    )
    assert done.returncode == 1
    assert "none.xml: client_error: HTTP status 404" in done.stderr
    assert "broken.xml: it ends too early" in done.stderr
    assert "(1 listed, 1 new, 2 refused: 2 no_scheme)" in done.stderr
    summary = json.loads(done.stdout)
    assert (summary["new"], summary["known"], summary["refused"], summary["reasons"]) == (1, 0, 3, {"no_scheme": 3})
    by_url = {sitemap["url"].removeprefix(url): sitemap["refused"] for sitemap in summary["sitemaps"]}
    assert by_url == {"none.xml": {}, "private.xml": {"no_scheme": 1}, "broken.xml": {"no_scheme": 2}}
    maps.bodies |= {"/alien.txt": b"e.com/1\ne.com/2\n", "/some.txt": f"e.com/1\n{url}1\n".encode()}
    nothing = sqspider("enqueue", *SELF, f"--sitemap={url}alien.txt")
    assert (nothing.returncode, nothing.stdout) == (1, "0 new, 0 known, 2 refused\n")
    assert "alien.txt: nothing in it can be crawled (0 listed, 0 new, 2 refused: 2 no_scheme)" in nothing.stderr
    something = sqspider("enqueue", *SELF, f"--sitemap={url}some.txt")
    assert (something.returncode, something.stdout) == (0, "1 new, 0 known, 1 refused\n")
    sqspider("cleanup", "--all", "--yes")
    forbidden = sqspider("enqueue", *SELF, f"--sitemap={url}private.xml")  # with a robots.txt that is read anew
    assert forbidden.returncode == 1
    assert "private.xml: robots: robots.txt line 2: Disallow: /private" in forbidden.stderr
    assert "/private.xml" not in maps.paths[maps.paths.index("/robots.txt", 2) :]


def test_a_sitemap_reaches_no_private_address_and_must_be_a_url(sqspider: Run, maps: Site) -> None:
    maps.bodies = {"/sitemap.xml": urlset(maps.url)}
    done = sqspider("enqueue", "--delay", "0", "--ignore-robots", f"--sitemap={maps.url}sitemap.xml")
    assert done.returncode == 1
    assert "private_address" in done.stderr
    assert maps.requests == []
    refused = sqspider("enqueue", "--sitemap", "file:///etc/passwd")
    assert (refused.returncode, "neither http nor https" in refused.stderr) == (2, True)
    aimless = sqspider("crawl", "--sitemaps")
    assert (aimless.returncode, "name the URLs" in aimless.stderr) == (2, True)


async def test_what_a_sitemap_says_of_a_page_is_kept(maps: Site) -> None:
    url = maps.url
    maps.bodies = {"/sitemap.xml": urlset(f"{url}a?utm_source=x", f"{url}folder/b", f"http://localhost:{maps.port}/c")}
    frontier = await opened()
    settings = CrawlSettings(delay_seconds=0, drop_tracking=True, exclude=("folder", "utm_"))
    (report,) = await discovered(frontier, settings, sitemaps=(f"{url}sitemap.xml",))
    assert report == SitemapReport(f"{url}sitemap.xml", 3, 1, 2, {}, "", is_guess=False)
    (record,) = (await records_of(frontier)).values()
    assert (record.url, record.lastmod, record.depth) == (f"{url}a", 1580688000.0, 1)
    (report,) = await discovered(frontier, CrawlSettings(delay_seconds=0, scope=Scope.ANY), sitemaps=(report.url,))
    assert (report.new, report.out_of_scope) == (3, 0)
    await frontier.close()


async def test_a_site_that_moved_has_its_sitemap_where_it_went(maps: Site) -> None:
    there = f"http://localhost:{maps.port}/"
    maps.bodies = {
        "/sitemap.xml": (301, {"Location": f"{there}map"}),
        "/map": urlset(f"{there}a", f"{maps.url}b", "http://elsewhere.invalid/"),
    }
    frontier = await opened()
    settings = CrawlSettings(delay_seconds=0, scope=Scope.HOST, obey_robots=False)
    (report,) = await discovered(frontier, settings, seeds=(maps.url,))
    assert (report.new, report.out_of_scope, report.trouble) == (2, 1, "")
    await frontier.close()


async def test_a_sitemap_is_followed_through_five_redirects(maps: Site) -> None:
    maps.bodies = {f"/{n}": (302, {"Location": f"/{n + 1}"}) for n in range(30)}
    frontier = await opened()
    settings = CrawlSettings(delay_seconds=0, scope=Scope.HOST, obey_robots=False)
    (report,) = await discovered(frontier, settings, sitemaps=(f"{maps.url}0",))
    assert (report.trouble, report.new) == ("too_many_redirects: more than 5 redirects", 0)
    assert maps.paths == [f"/{n}" for n in range(MAX_HOPS + 1)]
    maps.bodies["/5"] = urlset(f"{maps.url}a")
    (report,) = await discovered(frontier, settings, sitemaps=(f"{maps.url}0",))
    assert (report.trouble, report.new) == ("", 1)
    await frontier.close()


async def test_a_page_that_a_sitemap_lists_may_redirect(maps: Site) -> None:
    maps.bodies = {"/s": urlset(f"{maps.url}a"), "/a": (301, {"Location": "/b"}), "/b": b"x"}
    frontier = await opened()
    settings = CrawlSettings(delay_seconds=0, obey_robots=False)
    await discovered(frontier, settings, sitemaps=(f"{maps.url}s",))
    async with Fetcher(FETCH) as fetcher:
        options = WorkerOptions(worker_id="tester")
        await Worker(frontier, fetcher, options, clock=time.time, rng=random.Random()).run(Mode.UNTIL_EMPTY)
    records = await records_of(frontier)
    assert {url: record.depth for url, record in records.items()} == {f"{maps.url}a": 1, f"{maps.url}b": 1}
    await frontier.close()


async def test_indexes_without_end_are_ended(maps: Site) -> None:
    names = [f"{number}.xml" for number in range(12)]
    maps.bodies = {f"/{name}": index(maps.url + after) for name, after in itertools.pairwise(names)}
    frontier = await opened()
    settings = CrawlSettings(delay_seconds=0, obey_robots=False)
    reports = await discovered(frontier, settings, sitemaps=(f"{maps.url}0.xml",))
    assert maps.paths == [f"/{name}" for name in names[:MAX_LEVELS]]
    assert (reports[-1].url, reports[-1].trouble) == (
        f"{maps.url}{MAX_LEVELS}.xml", f"indexes lie more than {MAX_LEVELS} deep",
    )  # fmt: skip
    await frontier.close()


async def test_sitemaps_keep_their_distance_and_wait_for_nobody_too_long(maps: Site) -> None:
    delay = 0.2
    url = maps.url
    maps.bodies = {
        "/sitemap.xml": index(f"{url}1.xml", f"{url}2.xml", f"{url}moved.xml", f"{url}busy.xml", f"{url}3.xml"),
        "/1.xml": urlset(f"{url}a"),
        "/2.xml": urlset(f"{url}b"),
        "/moved.xml": (302, {"Location": "/2.xml"}),
        "/busy.xml": (503, {"Retry-After": "3600"}),
        "/3.xml": urlset(f"{url}c"),
    }
    frontier = await opened()
    settings = CrawlSettings(delay_seconds=delay, scope=Scope.HOST)
    reports = await discovered(frontier, settings, seeds=(url,))
    times = [request.at for request in maps.requests]
    assert maps.paths == ["/robots.txt", "/sitemap.xml", "/1.xml", "/2.xml", "/moved.xml", "/2.xml", "/busy.xml"]
    # The server looks at its clock a little later than we do: when it reads a request.
    assert min(later - earlier for earlier, later in itertools.pairwise(times)) > delay - 0.05
    troubles = {report.url.removeprefix(url): report.trouble for report in reports}
    assert troubles["busy.xml"] == "server_error: HTTP status 503"
    assert "its host may not be asked for another 3,6" in troubles["3.xml"] or "3,59" in troubles["3.xml"]
    assert set(await records_of(frontier)) == {f"{url}a", f"{url}b"}
    await frontier.close()


async def test_a_sitemap_that_failed_once_is_tried_again(maps: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqspider.work.sitemaps.FIRST_RETRY_SECONDS", 0.01)

    answers: Iterator[Answer] = iter([(500, {}), urlset(f"{maps.url}a")])
    maps.bodies = {"/s": lambda _: next(answers)}
    frontier = await opened()
    (report,) = await discovered(
        frontier, CrawlSettings(delay_seconds=0, obey_robots=False), sitemaps=(f"{maps.url}s",)
    )
    assert (report.new, report.trouble, len(maps.requests)) == (1, "", 2)
    await frontier.close()


async def test_patterns_that_take_too_long_end_their_sitemap_and_no_other(maps: Site) -> None:
    """As they end a page with such links; what was recorded before stays."""
    good, bad = [f"{maps.url}{n}" for n in range(BATCH)], f"{maps.url}{'a' * 40}!"
    maps.bodies = {"/1": urlset(*good, bad, f"{maps.url}z"), "/2": urlset(f"{maps.url}b")}
    frontier = await opened()
    settings = CrawlSettings(delay_seconds=0, obey_robots=False, include=("/(a+)+$", "/[0-9b]+$"))
    first, second = sorted(await discovered(frontier, settings, sitemaps=(f"{maps.url}1", f"{maps.url}2")))
    assert first.trouble.startswith("internal_error: a regular expression takes longer than 2 s")
    assert (first.listed, first.new, first.out_of_scope) == (BATCH + 2, BATCH, 0)
    assert (second.trouble, second.new) == ("", 1)
    assert set(await records_of(frontier)) == {*good, f"{maps.url}b"}
    await frontier.close()
