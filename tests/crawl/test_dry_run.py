"""A look ahead: what it tells of links is what a crawl then does with them."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest

from sqspider import dry_run
from sqspider.crawl_row import Crawl, Identity, Limits
from sqspider.crawl_settings import CrawlSettings
from sqspider.dry_run import Look, Page, look_ahead
from sqspider.explain import Fate
from sqspider.frontier import Frontier, FrontierSettings
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.orders.start import start_of
from sqspider.record import Reason, Status, UrlRecord
from sqspider.url import Scope
from sqspider.work.options import WorkerOptions
from tests.crawl.crawl_rows import OPTIONS, changed, made, page, put_in, records_of, work
from tests.sites import Answer, Asked, Site

HOSTS: Final = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
RULES: Final = b"User-agent: *\nDisallow: /c\nDisallow: /*?no\n\nUser-agent: mine\nDisallow: /d\n"
NAMES: Final = ("a", "b", "c", "d", "e", "x/x/x", "a?no", "b?1&2&3", "dir/a", "dir/c")


def in_memory() -> Frontier:
    return MemoryFrontier(MemoryStore(), FrontierSettings(), clock=time.time)


async def looked(
    crawl: Callable[..., Any], *urls: str, options: WorkerOptions = OPTIONS, **more: Any
) -> tuple[Look, list[Page], Frontier]:
    """What is seen from some URLs, in a frontier of its own; and what was told on the way."""
    frontier, told = in_memory(), list[Page]()
    row = await crawl(frontier, **more)
    await put_in(frontier, row, *urls)
    return await look_ahead(frontier, row, start_of(row, None), options, told.append), told, frontier


def fates(look: Look) -> dict[str, tuple[Fate, str | None]]:
    return {link.told.url: (link.told.fate, link.told.decided and link.told.decided.rule) for link in look.links}


# As a crawl.


def site_by_chance(rng: random.Random, host: Site) -> list[str]:
    """A page, what it links to and what is there; its seeds."""
    urls = [f"{host.url_of(name)}{path}" for name in HOSTS for path in NAMES]
    written = []
    for url in rng.sample(urls, 18):
        rel = rng.choice(['rel="nofollow"', "rel=next", ""])
        written.append(f"<a {rel} href='{url}'>x</a>")
    written += [f"<img src='{url}'>" for url in rng.sample(urls, 6)]
    seeds = [f"{host.url}seed/", f"{host.url_of(HOSTS[1])}other"]
    body = "".join(written).encode()
    host.bodies = {"/robots.txt": RULES, "127.0.0.1/seed/": body, "/other": b"<a href='/late'>x</a>" + body}
    if rng.random() < 0.2:
        host.bodies["127.0.0.2/other"] = (302, {"Location": "/there"})
        host.bodies["/there"] = b"<meta name=robots content=nofollow>" + body
    for path in NAMES:
        host.bodies[f"/{path}"] = page("/deeper")
    answers: list[Answer] = [RULES, (404, {}), b"User-agent: *\nDisallow: /"]
    host.bodies["127.0.0.3/robots.txt"] = rng.choice(answers)
    return seeds


def crawl_by_chance(rng: random.Random) -> tuple[CrawlSettings, Identity]:
    settings = CrawlSettings(
        delay_seconds=0,
        scope=rng.choice([*Scope, Scope.HOST, Scope.HOST, Scope.ANY]),
        max_depth=0 if rng.random() < 0.1 else 1,
        include=rng.choice([(), (), ("a", "d$")]),
        exclude=rng.choice([(), ("/b", "e$")]),
        max_repeats=rng.choice([None, 2]),
        max_parameters=rng.choice([None, 2]),
        obey_robots=rng.random() < 0.8,
        obey_nofollow=rng.random() < 0.7,
        assets=rng.random() < 0.5,
        only=rng.choice([(), (), ("application/pdf",)]),
    )
    return settings, Identity(allow_private=True, user_agent=rng.choice([None, "mine/1"]))


def became(record: UrlRecord | None) -> tuple[Fate, Reason | None]:
    """What a crawl has made of a link."""
    if record is None:
        return Fate.LEFT_OUT, None
    outcome = record.outcome
    assert outcome is not None
    assert record.status.is_final
    return (Fate.BLOCKED, outcome.reason) if record.status is Status.BLOCKED else (Fate.FETCHED, None)


@pytest.mark.parametrize("seed", range(12))
async def test_what_is_told_is_what_a_crawl_does(host: Site, seed: int) -> None:
    rng = random.Random(seed)
    seeds, (settings, identity) = site_by_chance(rng, host), crawl_by_chance(rng)
    look, _, _ = await looked(made, *seeds, settings=settings, identity=identity)
    asked_for = [asked.path for asked in host.requests]
    assert set(asked_for) <= {"/robots.txt", "/seed/", "/other", "/there"}
    frontier = in_memory()
    await put_in(frontier, await made(frontier, settings=settings, identity=identity), *seeds)
    await work(frontier)
    records = await records_of(frontier)
    of_crawl = {record.url: record for record in records.values()}
    assert look.links
    for link in look.links:
        told = link.told
        if told.fate is Fate.FINISHED:
            assert told.url in {page.url for page in look.pages}
            continue
        reason = told.decided.reason if told.decided and told.fate is Fate.BLOCKED else None
        assert (told.url, told.fate, reason) == (told.url, *became(of_crawl.get(told.url)))
        if record := of_crawl.get(told.url):
            assert link.is_requisite == record.is_requisite
    found = {url for url, record in of_crawl.items() if record.depth == 1 or record.is_requisite}
    assert not found - {link.told.url for link in look.links}


# What is looked at.


async def test_only_the_first_pages_are_asked_for(host: Site) -> None:
    host.bodies = {
        "/": (301, {"Location": "/home"}), "/home": page("/a", "/b", host.url_of("127.0.0.9")), "/a": page("/deep"),
    }  # fmt: skip
    look, told, frontier = await looked(made, host.url)
    assert sorted(host.paths) == ["/", "/home", "/robots.txt"]
    assert told == look.pages
    assert [(page.url, page.led_by) for page in told] == [(f"{host.url}home", host.url)]
    assert fates(look) == {
        f"{host.url}a": (Fate.FETCHED, None),
        f"{host.url}b": (Fate.FETCHED, None),
        host.url_of("127.0.0.9"): (Fate.LEFT_OUT, "scope"),
    }
    assert look.links[0].as_json()["found_on"] == f"{host.url}home"
    assert {record.url for record in (await records_of(frontier)).values()} == {host.url, f"{host.url}home"}


async def test_a_limit_of_the_whole_crawl_ends_no_look(host: Site) -> None:
    async def reached(frontier: Frontier) -> Crawl:
        await made(frontier, limits=Limits(seconds=1))
        return await changed(frontier, created_at=1.0)

    host.bodies = {"/": b""}
    look, _, _ = await looked(reached, host.url)
    assert (len(look.pages), look.waiting) == (1, {})


@pytest.mark.parametrize(
    ("obeys", "body", "followed", "left_out"),
    [
        (True, b"<a href=a>a</a><a rel='nofollow ugc' href=b>b</a><a rel=nofollow href=a>again</a>", {"a"}, {"b"}),
        (False, b"<a href=a>a</a><a rel='nofollow ugc' href=b>b</a>", {"a", "b"}, set()),
        (True, b"<meta name=robots content=nofollow><a href=a>a</a><a rel=nofollow href=b>b</a>", set(), {"a", "b"}),
        (False, b"<meta name=robots content=nofollow><a href=a>a</a><a rel=nofollow href=b>b</a>", {"a", "b"}, set()),
    ],
)
async def test_links_marked_nofollow_are_told_of(
    host: Site, obeys: bool, body: bytes, followed: set[str], left_out: set[str]
) -> None:
    host.bodies = {"/": body}
    settings = CrawlSettings(scope=Scope.HOST, delay_seconds=0, obey_nofollow=obeys)
    look, _, _ = await looked(made, host.url, settings=settings)
    assert fates(look) == {
        **{f"{host.url}{name}": (Fate.FETCHED, None) for name in followed},
        **{f"{host.url}{name}": (Fate.LEFT_OUT, "nofollow") for name in left_out},
    }


async def test_a_link_that_one_page_marks_and_another_does_not_is_followed(host: Site) -> None:
    host.bodies = {"/1": b"<a rel=nofollow href=/a>a</a>", "/2": b"<a href=/a>a</a>"}
    look, _, _ = await looked(made, f"{host.url}1", f"{host.url}2")
    assert [(link.told.url, link.told.fate, link.found_on) for link in look.links] == [
        (f"{host.url}a", Fate.FETCHED, f"{host.url}2")
    ]


async def test_what_is_no_url_is_counted_and_what_is_too_long_is_named(host: Site) -> None:
    host.bodies = {"/": page("http://[bad", "mailto:a@b.c", "/" + "l" * 3000, "http://h:99999/")}
    look, _, frontier = await looked(made, host.url)
    assert look.pages[0].left_out == {Reason.BAD_URL: 2}
    assert [(link.told.fate, link.told.decided and link.told.decided.reason) for link in look.links] == [
        (Fate.BLOCKED, Reason.URL_TOO_LONG)
    ]
    record = (await records_of(frontier, "news"))[f"@news {host.url}"]
    assert record.outcome is not None
    assert record.outcome.links_left_out == 3


# robots.txt of other origins.


async def test_robots_txt_is_asked_of_so_many_other_origins_and_no_more(
    host: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "MOST_ORIGINS", 2)
    names = [f"127.0.0.{number}" for number in range(2, 6)]
    host.bodies = {"/robots.txt": RULES, "/": page(*(f"{host.url_of(name)}c" for name in names), "/c", "/a")}
    settings = CrawlSettings(scope=Scope.ANY, delay_seconds=0, exclude=("127.0.0.3",))
    look, _, _ = await looked(made, host.url, settings=settings)
    asked = sorted(asked.host for asked in host.requests if asked.path == "/robots.txt")
    assert asked == ["127.0.0.1", "127.0.0.2", "127.0.0.4"]  # nobody is asked for what is left out
    unknown = [link.told.url for link in look.links if link.is_unknown]
    assert unknown == [f"{host.url_of('127.0.0.5')}c"]
    assert fates(look)[unknown[0]] == (Fate.FETCHED, None)
    assert fates(look)[f"{host.url_of('127.0.0.2')}c"] == (Fate.BLOCKED, "robots.txt")


async def test_robots_txt_that_is_not_obeyed_is_not_asked_for(host: Site) -> None:
    host.bodies = {"/": page(f"{host.url_of('127.0.0.2')}c")}
    settings = CrawlSettings(scope=Scope.ANY, delay_seconds=0, obey_robots=False)
    look, _, _ = await looked(made, host.url, settings=settings)
    assert host.paths == ["/"]
    assert [link.is_unknown for link in look.links] == [False]


# Trouble.


async def test_what_is_in_trouble_is_waited_for_and_then_told(host: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "TROUBLE_SECONDS", 0.3)
    monkeypatch.setattr(dry_run, "LOOK_SECONDS", 0.05)
    host.bodies = {"/good": b"", "/bad": (500, {}), "127.0.0.2/robots.txt": (503, {}), "127.0.0.2/x": b""}
    options = WorkerOptions(worker_id="one", first_retry_seconds=60, poll_seconds=0.05)
    urls = [f"{host.url}bad", f"{host.url_of('127.0.0.2')}x", f"{host.url}good"]
    look, told, _ = await looked(made, *urls, options=options)
    assert [page.url for page in told] == [urls[2]]
    assert look.waiting.keys() == set(urls[:2])
    assert look.waiting[urls[0]] == "server_error: HTTP status 500"
    assert "HTTP status 503" in look.waiting[urls[1]]


async def test_what_is_well_after_all_is_looked_at(host: Site) -> None:
    answers: Iterator[Answer] = iter([(500, {})])

    def first_bad(_: Asked) -> Answer:
        return next(answers, b"<a href=a>a</a>")

    host.bodies = {"/": first_bad}
    look, _, _ = await looked(made, host.url)
    assert (look.waiting, len(look.links)) == ({}, 1)


async def test_a_delay_is_waited_for_as_long_as_it_takes(host: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run, "TROUBLE_SECONDS", 0.2)
    monkeypatch.setattr(dry_run, "LOOK_SECONDS", 0.05)
    host.bodies = {f"/{number}": b"" for number in range(3)}
    settings = CrawlSettings(scope=Scope.HOST, delay_seconds=0.5)
    look, _, _ = await looked(made, *(f"{host.url}{number}" for number in range(3)), settings=settings)
    assert (len(look.pages), look.waiting) == (3, {})
    times = [asked.at for asked in host.requests]
    assert all(later - earlier >= 0.45 for earlier, later in itertools.pairwise(times))
