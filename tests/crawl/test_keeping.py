"""`--keep-skipped`: what is not followed has a record that says why, and whatever is fetched is what would be without."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from typing import Final

import msgspec
import pytest

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Frontier
from sqspider.record import UrlRecord
from sqspider.url import Scope
from tests.conftest import Run
from tests.crawl.crawl_rows import SETTINGS, made, page, put_in, records_of, work, working
from tests.sites import Asked, Site

replace = msgspec.structs.replace
KEEPING: Final = replace(SETTINGS, keep_skipped=True)


def ends(records: dict[str, UrlRecord], host: Site) -> dict[str, str]:
    """How records ended, by path, those of the other host by their whole URLs."""
    return {
        record.url.removeprefix(host.url): record.outcome.reason or record.status
        for record in records.values()
        if record.outcome is not None
    }


async def test_what_is_not_followed_ends_for_its_reason_without_a_request(frontier: Frontier, host: Site) -> None:
    away = host.url_of("127.0.0.2")
    host.bodies = {
        "/": page("a", "old/b", f"{away}x", f"{away}old/y", "mailto:x") + b"<a rel=nofollow href=/n>n</a>",
        "/a": page("deep", f"{away}x", "moved"),
        "/moved": (302, {"Location": f"{away}moved"}),
    }
    settings = replace(KEEPING, exclude=("/old/",), max_depth=2)
    await put_in(frontier, await made(frontier, settings=settings), host.url)
    await work(frontier)
    records = await records_of(frontier)
    assert ends(records, host) == {
        "": "done", "a": "done", "old/b": "excluded", f"{away}x": "out_of_scope", f"{away}old/y": "out_of_scope",
        "deep": "client_error", "moved": "done", f"{away}moved": "out_of_scope",
    }  # fmt: skip
    assert {asked.host for asked in host.requests} == {"127.0.0.1"}
    assert sorted(host.paths) == ["/", "/a", "/deep", "/moved", "/robots.txt"]
    assert all(record.attempt == 1 for record in records.values())
    home = next(record for record in records.values() if record.url == host.url)
    assert home.outcome is not None
    assert home.outcome.links_skipped == {"out_of_scope": 2, "excluded": 1, "nofollow": 1}


async def test_no_turn_of_a_host_is_used_up_for_what_is_not_asked_for(frontier: Frontier, host: Site) -> None:
    asked_at: list[float] = []

    def home(_: Asked) -> bytes:
        asked_at.append(time.time())
        return page(*(f"old/{number}" for number in range(20)))

    host.bodies = {"/": home}
    settings = replace(KEEPING, exclude=("/old/",), delay_seconds=0.1, obey_robots=False)
    await put_in(frontier, await made(frontier, settings=settings), host.url)
    await work(frontier)
    assert len(await records_of(frontier)) == 21
    assert (await frontier.hosts(["127.0.0.1"]))["127.0.0.1"].last_request <= asked_at[-1]


async def test_what_is_too_deep_is_kept_and_visited_by_a_nearer_way(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page("a", "b"), "/a": page("c"), "/b": page("d"), "/d": page("e"), "/e": page("c")}
    crawl = await made(frontier, settings=replace(KEEPING, max_depth=1, delay_seconds=0.0))
    await put_in(frontier, crawl, host.url)
    await work(frontier)
    assert ends(await records_of(frontier), host) == {
        "": "done", "a": "done", "b": "done", "c": "depth_limit", "d": "depth_limit",
    }  # fmt: skip
    await put_in(frontier, crawl, f"{host.url}d")
    await work(frontier)
    found = ends(await records_of(frontier), host)
    assert found == {"": "done", "a": "done", "b": "done", "c": "depth_limit", "d": "done", "e": "done"}


@pytest.mark.parametrize("remembers", [False, True])
async def test_a_site_that_is_given_later_is_crawled_with_what_was_kept_of_it(
    frontier: Frontier, host: Site, *, remembers: bool
) -> None:
    """By the URL that was given, which is known, and by a link to what is; also by the worker that recorded it."""
    away = host.url_of("127.0.0.2")
    host.bodies = {
        "127.0.0.1/": page(away, f"{away}x", f"{away}y"), "127.0.0.2/": page("x"), "127.0.0.2/x": b"x",
        "127.0.0.2/y": b"y",
    }  # fmt: skip
    crawl = await made(frontier, settings=KEEPING)

    async def crawled(url: str) -> dict[str, str]:
        await put_in(frontier, crawl, url)
        if not remembers:
            await work(frontier)
        while (await frontier.counts()).open:
            await asyncio.sleep(0.01)
        return ends(await records_of(frontier), host)

    async with working(frontier) if remembers else contextlib.nullcontext():
        kept = dict.fromkeys((away, f"{away}x", f"{away}y"), "out_of_scope")
        assert await crawled(host.url) == {"": "done", **kept}
        assert await crawled(away) == {"": "done", **kept, away: "done", f"{away}x": "done"}


async def test_where_a_seed_leads_by_itself_is_held_to_the_scope(frontier: Frontier, host: Site) -> None:
    """It is as deep as a seed, and so would be judged as one."""
    away = host.url_of("127.0.0.2")
    host.bodies = {
        "127.0.0.1/": f"<meta http-equiv=refresh content='0; url={away}'>".encode(), "127.0.0.2/": b"x",
    }  # fmt: skip
    await put_in(frontier, await made(frontier, settings=KEEPING), host.url)
    await work(frontier)
    assert ends(await records_of(frontier), host) == {"": "done"}
    assert {asked.host for asked in host.requests} == {"127.0.0.1"}


@pytest.mark.parametrize("seed", range(4))
async def test_what_is_fetched_is_what_would_be_without(frontier: Frontier, host: Site, seed: int) -> None:
    """Over sites by chance, with redirects and refreshes; and every link has a record."""
    rng = random.Random(seed)
    names = [
        f"{at}{name}" for at in (host.url, host.url_of("127.0.0.2")) for name in ("", *"abcdefg", "old/h", "old/i")
    ]
    linked = set(names[:1])
    for name in names:
        to = rng.sample(names, 3)
        path = name.removeprefix("http://").replace(f":{host.port}", "")
        if name in names[1:] and rng.random() < 0.25:
            host.bodies[path] = (302, {"Location": to[0]})
        elif rng.random() < 0.1:
            host.bodies[path] = f"<meta http-equiv=refresh content='0; url={to[0]}'>".encode()
        else:
            host.bodies[path] = page(*to)
    settings = CrawlSettings(
        scope=rng.choice([Scope.HOST, Scope.PREFIX, Scope.PAGE]), max_depth=rng.choice([None, 2]), exclude=("/old/",),
        delay_seconds=0.0, obey_robots=False,
    )  # fmt: skip
    fetched, found = [], []
    for name, keeps in (("without", False), ("with", True)):
        await put_in(frontier, await made(frontier, name, replace(settings, keep_skipped=keeps)), names[0], names[3])
        await work(frontier, crawl=name)
        records = await records_of(frontier, name)
        assert all(record.status.is_final for record in records.values())
        by_answer = {r.url for r in records.values() if r.outcome is not None and r.outcome.http_status is not None}
        fetched.append(by_answer)
        found.append({record.url for record in records.values()})
    assert fetched[0] == fetched[1]
    assert found[0] <= found[1]
    assert linked <= found[1]


def test_show_says_why_and_a_wider_limit_brings_it_back(sqspider: Run, host: Site) -> None:
    away = f"{host.url_of('127.0.0.2')}x"
    host.bodies = {"/": page("a", "old/b", away), "/a": b"a", "/old/b": b"b", "/x": b"x"}
    options = ("--allow-private", "--delay", "0", "--quiet", "--keep-skipped", "--exclude", "/old/")
    done = sqspider("crawl", host.url, *options)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 pages in "), "what is kept is none"
    shown = sqspider("show", f"{host.url}old/b").stdout
    assert "blocked" in shown
    assert "by the crawl's patterns" in shown
    listed = [json.loads(row) for row in sqspider("export", "--status", "blocked").stdout.splitlines()]
    assert {row["url"]: row["reason"] for row in listed} == {f"{host.url}old/b": "excluded", away: "out_of_scope"}
    unknown = sqspider("explain", f"{host.url}old/new", "--from", host.url, "--json")
    assert json.loads(unknown.stdout)["fate"] == "blocked"
    assert sqspider("crawl", "--unset", "exclude", "--quiet").returncode == 0
    assert host.paths.count("/old/b") == 1
    assert sqspider("crawl", "--scope", "any", "--quiet").returncode == 0
    assert [asked.host for asked in host.requests if asked.path == "/x"] == ["127.0.0.2"]
    assert sqspider("export", "--status", "blocked").stdout == ""


def test_what_a_sitemap_lists_is_fetched_where_no_link_is_followed(sqspider: Run, host: Site) -> None:
    listed = f"<urlset><url><loc>{host.url}a</loc></url></urlset>"
    host.bodies = {"/": page("b"), "/a": b"a", "/sitemap.xml": listed.encode()}
    options = ("--allow-private", "--delay", "0", "--quiet", "--keep-skipped", "--depth", "0", "--sitemaps")
    done = sqspider("crawl", host.url, *options)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(row) for row in sqspider("export").stdout.splitlines()]
    assert {row["url"]: row["reason"] for row in rows} == {
        host.url: None,
        f"{host.url}a": None,
        f"{host.url}b": "depth_limit",
    }
