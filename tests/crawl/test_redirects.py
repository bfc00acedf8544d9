"""A redirect is an answer: where it leads is a URL like any other, and is fetched once whoever leads there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from sqspider.message import CrawlSettings, Message
from sqspider.record import Reason, Status, UrlRecord
from sqspider.redirects import MAX_REDIRECTS, led
from sqspider.url import Scope
from sqspider.web.options import FetchOptions
from tests.crawl.test_politeness import FETCH, crawl, opened, outcome_of
from tests.sites import Site

AT_HOME = CrawlSettings(delay_seconds=0, obey_robots=False, scope=Scope.HOST)


@pytest.fixture
def host() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def to(location: str, http_status: int = 302) -> tuple[int, dict[str, str]]:
    return http_status, {"Location": location}


async def crawled(
    host: Site, *paths: str, settings: CrawlSettings = AT_HOME, fetch: FetchOptions = FETCH
) -> dict[str, UrlRecord]:
    """The records of a crawl from some paths, by path or, elsewhere, by URL."""
    async with opened() as frontier:
        records = await crawl(frontier, [host.url + path for path in paths], settings, fetch=fetch)
    return {url.removeprefix(host.url): record for url, record in records.items()}


# Once.


async def test_where_many_redirects_meet_is_fetched_once(host: Site) -> None:
    host.bodies = {"/": b"<a href=/there>x</a>" + b"".join(b"<a href=/%d>x</a>" % n for n in range(20))}
    host.bodies |= {"/there": b"x", **{f"/{n}": to("/there", status) for n in range(20) for status in (301, 308)}}
    async with opened() as frontier:
        records = await crawl(frontier, [host.url], AT_HOME)
        counts = await frontier.counts()
    assert Counter(host.paths).most_common(1) == [(host.paths[0], 1)]
    assert (counts.by_status[Status.DONE], counts.redirects) == (22, 20)
    one = outcome_of(records[f"{host.url}7"])
    assert (one.status, one.http_status, one.redirect_to) == (Status.DONE, 308, f"{host.url}there")
    assert (one.bytes, one.digest, one.is_redirect) == (0, None, True)
    assert not outcome_of(records[f"{host.url}there"]).is_redirect


async def test_a_target_has_the_depth_of_what_leads_there(host: Site) -> None:
    host.bodies = {"/": b"<a href=/a>x</a>", "/a": to("/b#x"), "/b": to("/c"), "/c": b"<a href=/d>x</a>", "/d": b"x"}
    records = await crawled(host, "", settings=CrawlSettings(delay_seconds=0, scope=Scope.HOST, max_depth=1))
    seen = {path: (record.depth, record.redirects, record.parent) for path, record in records.items()}
    assert seen == {
        "": (0, 0, None),
        "a": (1, 0, host.url),
        "b": (1, 1, f"{host.url}a"),
        "c": (1, 2, f"{host.url}b"),
    }


async def test_links_of_where_a_redirect_leads_begin_to_count_anew(host: Site) -> None:
    host.bodies = {"/": to("/a"), "/a": b"<a href=/b>x</a>", "/b": b"x"}
    records = await crawled(host, "")
    assert (records["a"].redirects, records["b"].redirects, records["b"].depth) == (1, 0, 1)


# Ends.


async def test_a_chain_of_redirects_has_ten_of_them_at_most(host: Site) -> None:
    host.bodies = {f"/{n}": to(f"/{n + 1}") for n in range(30)}
    records = await crawled(host, "0")
    assert len(records) == MAX_REDIRECTS + 1
    last = outcome_of(records[str(MAX_REDIRECTS)])
    assert (last.status, last.reason, last.redirect_to) == (Status.FAILED, Reason.TOO_MANY_REDIRECTS, None)
    assert f"{host.url}11" in last.detail
    host.bodies["/10"] = b"x"
    assert (await crawled(host, "0"))["10"].status is Status.DONE


@pytest.mark.parametrize("location", ["/", "#x", "", " "])
async def test_a_redirect_to_itself_is_a_loop(host: Site, location: str) -> None:
    host.bodies = {"/": to(location)}
    (record,) = (await crawled(host, "")).values()
    reason = Reason.REDIRECT_LOOP if location.strip() else Reason.BAD_REDIRECT
    assert (record.status, outcome_of(record).reason, record.attempt) == (Status.FAILED, reason, 1)
    assert host.paths == ["/"]


async def test_redirects_in_a_circle_are_each_asked_once(host: Site) -> None:
    host.bodies = {"/a": to("/b"), "/b": to("/c"), "/c": to("/a")}
    records = await crawled(host, "a")
    assert {path: record.status for path, record in records.items()} == dict.fromkeys("abc", Status.DONE)
    assert sorted(host.paths) == ["/a", "/b", "/c"]


# What belongs to the crawl.


async def test_a_links_redirect_keeps_to_the_crawl(host: Site) -> None:
    elsewhere = host.url_of("127.0.0.2")
    host.bodies = {
        "/": b"<a href=/away>1</a><a href=/excluded>2</a><a href=/in>3</a>",
        "/away": to(elsewhere),
        "/excluded": to("/no/x"),
        "/in": to("/yes"),
        "/yes": b"x",
    }
    settings = CrawlSettings(delay_seconds=0, obey_robots=False, scope=Scope.HOST, exclude=("/no/",))
    records = await crawled(host, "", settings=settings)
    assert set(records) == {"", "away", "excluded", "in", "yes"}
    for path, target in (("away", elsewhere), ("excluded", f"{host.url}no/x")):
        outcome = outcome_of(records[path])
        assert (outcome.status, outcome.reason, outcome.redirect_to) == (Status.DONE, None, target)
        assert "outside of the crawl" in outcome.detail
    assert outcome_of(records["in"]).detail == ""


SEED = "http://example.com/docs/"


@pytest.mark.parametrize(
    ("settings", "more", "target", "expected"),
    [
        # a seed of its own site: what the scope is measured from
        ({"scope": Scope.HOST}, {}, "https://www.example.com/", (Scope.HOST, "https://www.example.com/")),
        ({"scope": Scope.PREFIX}, {}, "http://example.com/en/docs/", (Scope.PREFIX, "http://example.com/en/docs/")),
        ({"scope": Scope.HOST, "exclude": ("www",)}, {}, "http://www.example.com/", (Scope.HOST, "http://www.example.com/")),
        # elsewhere: it is fetched, and the scope stays
        ({"scope": Scope.HOST}, {}, "http://example.org/", (Scope.HOST, SEED)),
        ({"scope": Scope.DOMAIN}, {}, "http://example.org/", (Scope.DOMAIN, SEED)),
        ({"scope": Scope.ANY}, {}, "http://example.org/", (Scope.ANY, SEED)),
        ({}, {}, "http://example.org/", (Scope.PAGE, None)),
        # further on
        ({"scope": Scope.HOST}, {"depth": 1}, "http://www.example.com/", None),
        ({"scope": Scope.DOMAIN}, {"depth": 1}, "http://www.example.com/", (Scope.DOMAIN, None)),
        ({"scope": Scope.HOST, "include": ("/y",)}, {"depth": 1}, "http://example.com/x", None),
        ({"scope": Scope.HOST, "include": ("/x",)}, {"depth": 1}, "http://example.com/x", (Scope.HOST, None)),
        ({}, {"depth": 3}, "http://example.org/", (Scope.PAGE, None)),
    ],
)  # fmt: skip
def test_what_a_redirect_leads_to(
    settings: dict[str, Any], more: dict[str, Any], target: str, expected: tuple[Scope, str | None] | None
) -> None:
    message = Message(url=SEED, settings=CrawlSettings(**settings), **more)
    way = led(message, target)
    assert (way.to, way.reason) == (target, None)
    entry = way.entry
    assert (None if entry is None else (entry.settings.scope, entry.settings.seed)) == expected
    if entry is not None:
        assert (entry.url, entry.depth, entry.parent, entry.redirects) == (target, message.depth, SEED, 1)


def test_campaign_parameters_are_taken_out_of_a_target_as_out_of_a_link() -> None:
    message = Message(url=SEED, settings=CrawlSettings(drop_tracking=True))
    assert led(message, "http://example.com/x?utm_source=a&b=1").to == "http://example.com/x?b=1"
    assert led(message, f"{SEED}?utm_source=a").reason is Reason.REDIRECT_LOOP


async def test_a_seeds_redirect_is_a_seed_of_its_own_site_alone(host: Site) -> None:
    """Elsewhere it is fetched, and what it links to is not, but for what belongs to the seed."""
    there = Site()
    try:
        elsewhere = host.url_of("127.0.0.2")
        host.bodies = {"127.0.0.1/": to(there.url), "127.0.0.1/away": to(elsewhere), "127.0.0.2/": b"<a href=/x>x</a>"}
        there.bodies = {"/": b"<a href=/here>x</a>", "/here": b"x"}
        assert set(await crawled(host, "")) == {"", there.url, f"{there.url}here"}  # another port of the same name
        records = await crawled(host, "away")
        assert set(records) == {"away", elsewhere}
        assert "another site" in outcome_of(records["away"]).detail
    finally:
        there.close()


async def test_a_seed_that_redirects_to_a_page_that_is_only_a_refresh_costs_no_depth(host: Site) -> None:
    now = b"<meta http-equiv=refresh content='0; url=/home'>"
    host.bodies = {"/": to("/start"), "/start": now, "/home": b"<a href=/x>x</a>"}
    settings = CrawlSettings(delay_seconds=0, obey_robots=False, scope=Scope.HOST, max_depth=0)
    assert set(await crawled(host, "", settings=settings)) == {"", "start", "home"}


async def test_redirects_and_refreshes_in_turn_end(host: Site) -> None:
    """Though neither costs depth at a seed."""
    host.bodies = {f"/{n}": to(f"/{n + 1}") for n in range(1, 80, 2)}
    host.bodies |= {f"/{n}": b"<meta http-equiv=refresh content='0; url=/%d'>" % (n + 1) for n in range(0, 80, 2)}
    settings = CrawlSettings(delay_seconds=0, obey_robots=False, scope=Scope.HOST, max_depth=0)
    assert len(await crawled(host, "0", settings=settings)) <= MAX_REDIRECTS + 3


# Guarded, polite, and nobody else's fault.


async def test_what_a_redirect_leads_to_is_guarded_like_any_url(host: Site) -> None:
    """The record of the target says so; the one that leads there has done well."""
    host.bodies = {"/": to("http://127.0.0.1:22/"), "/ftp": to("ftp://example.com/"), "/user": to("http://a:b@e.com/")}
    records = await crawled(host, "", "ftp", "user")
    assert outcome_of(records[""]).is_redirect
    assert outcome_of(records["http://127.0.0.1:22/"]).reason is Reason.BAD_PORT
    assert (records["ftp"].status, outcome_of(records["ftp"]).reason) == (Status.BLOCKED, Reason.BAD_SCHEME)
    assert (records["user"].status, outcome_of(records["user"]).reason) == (Status.BLOCKED, Reason.USER_INFO)
