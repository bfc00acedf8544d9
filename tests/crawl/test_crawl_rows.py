"""Crawls by their rows: whose settings hold, from where a scope is measured, what is narrowed meanwhile."""

from __future__ import annotations

import asyncio
import time

import msgspec
import structlog

from sqspider.figures import OF_CRAWLS, Joined, Point
from sqspider.frontier import Entry, Frontier
from sqspider.record import Reason, Status, record_key
from sqspider.url import Scope
from sqspider.work.producer import produce
from tests.crawl.crawl_rows import (
    OPTIONS,
    SETTINGS,
    changed,
    made,
    page,
    put_in,
    records_of,
    row_of,
    until,
    work,
    working,
)
from tests.sites import Site

replace = msgspec.structs.replace


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


async def test_what_a_worker_did_is_told_of_each_crawl(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page("a", "b"), "/a": b"one", "/b": (500, {})}
    news, shop = await made(frontier), await made(frontier, "shop")
    since, options = time.time(), replace(OPTIONS, first_retry_seconds=0.01)

    async def points_of(crawl: str | None) -> Point:
        [point] = await frontier.points(since=0, until=2 * since, period_seconds=round(since) * 2, crawl=crawl)
        return point

    await frontier.send([f"{host.url}a"])  # of no crawl
    await work(frontier, options=options)
    assert await points_of("default") == replace(
        await points_of(None), visible=None, in_flight=None, oldest_age_seconds=None
    )
    assert await frontier.points(since=0, until=2 * since, period_seconds=60, crawl="news") == []

    await put_in(frontier, news, host.url)
    await put_in(frontier, shop, f"{host.url}a")
    await work(frontier, options=options)
    told = {crawl: await points_of(crawl) for crawl in (None, "default", "news", "shop")}
    assert {crawl: (point.done, point.failed) for crawl, point in told.items()} == {
        None: (4, 1), "default": (1, 0), "news": (2, 1), "shop": (1, 0),
    }  # fmt: skip
    assert (told["news"].retried or 0) > 0
    for figure in OF_CRAWLS:
        if figure.joined is Joined.SUM:
            whole, *parts = (getattr(point, figure.name) for point in told.values())
            assert whole == sum(parts), figure.name
    assert (told["shop"].bytes, told["shop"].visible, told["shop"].oldest_age_seconds) == (3, None, None)
    assert (told["shop"].received or 0) >= 1
    assert (told["shop"].fetch_seconds or 0) > 0


async def test_what_is_known_of_one_crawl_hides_nothing_of_another(frontier: Frontier, host: Site) -> None:
    """Though it is one worker that remembers it."""
    host.bodies = {"/": page("a"), "/a": b"a"}
    async with working(frontier):
        await produce(frontier, [host.url], SETTINGS, on_refused=print)
        await until(lambda: host.paths.count("/a") == 1)
        for number, name in enumerate(("one", "two"), 2):
            await put_in(frontier, await made(frontier, name), host.url)
            while (await frontier.counts(crawl=name)).by_status[Status.DONE] < 2:
                await asyncio.sleep(0.01)
            assert host.paths.count("/a") == number


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
    host.bodies = {
        "/old/": (301, {"Location": "/new/"}),
        "/new/": page("/new/1", "/old/1", "/other"),
        "/new/1": b"",
        "/old/1": b"",
    }
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
    crawl = await made(frontier, settings=replace(SETTINGS, scope=Scope.ANY))
    await put_in(frontier, crawl, host.url)
    await frontier.enqueue([Entry(url=there, depth=1, crawl=crawl.ref)])
    await changed(frontier, settings=SETTINGS)
    await work(frontier)
    record = (await records_of(frontier))[record_key(there, "news")]
    assert record.outcome is not None
    assert (record.status, record.outcome.reason) == (Status.BLOCKED, Reason.OUT_OF_SCOPE)


async def test_a_scope_of_another_kind_is_measured_from_the_same_seeds(frontier: Frontier, host: Site) -> None:
    """What is noted of seeds is of one kind of scope: the worker that meets another notes them anew."""
    host.bodies = {"/x/": page("/x/1", "/y"), "/x/1": page("/x/2", "/y"), "/x/2": b"", "/y": b""}
    crawl = await made(frontier, settings=replace(SETTINGS, max_depth=1))
    await put_in(frontier, crawl, f"{host.url}x/")
    await changed(frontier, settings=replace(SETTINGS, scope=Scope.PREFIX))
    await work(frontier)
    assert {path for path in host.paths if path != "/robots.txt"} == {"/x/", "/x/1", "/x/2"}
    await changed(frontier, settings=replace(SETTINGS, scope=Scope.DOMAIN))
    await frontier.enqueue([Entry(url=f"{host.url}y", depth=1, crawl=crawl.ref)])
    await work(frontier)
    assert "/y" in host.paths


async def test_what_is_logged_names_urls_and_not_their_records(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page("a", "ftp://nowhere/"), "/a": b""}
    crawl = await made(frontier)
    await put_in(frontier, crawl, host.url)
    with structlog.testing.capture_logs() as lines:
        await work(frontier)
    finished = {line["url"] for line in lines if line["event"] == "finished"}
    assert finished == {host.url, f"{host.url}a"}
    assert not [line for line in lines if str(line.get("url", "")).startswith("@")]
