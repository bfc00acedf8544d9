"""A redirect is an answer: where it leads is a URL like any other, and is fetched once whoever leads there."""

from __future__ import annotations

import asyncio
import json
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from types import NoneType
from typing import Any, cast

import msgspec
import pytest

from sqspider import crawl as sqspider_crawl
from sqspider.chains import MAX_CHAIN, chains_of
from sqspider.crawl_settings import CrawlSettings
from sqspider.export import row_of
from sqspider.frontier import Ends, Entry, FrontierSettings, Taking, Turned, TurningFrontier
from sqspider.frontier.memory import MemoryFrontier
from sqspider.frontier.memory.store import MemoryStore
from sqspider.frontier.shares import Ask, Portion
from sqspider.host import HostRow
from sqspider.message import Message
from sqspider.politeness import BEGIN_SECONDS, MAX_HOPS, Politeness, Postponed
from sqspider.record import Outcome, Reason, Status, UrlRecord, decode_outcome
from sqspider.scope import Blocked, Measure
from sqspider.url import Scope
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from sqspider.work.cookie_wall import MAX_WALLS
from sqspider.work.producer import produce
from sqspider.work.redirects import MAX_REDIRECTS, led
from sqspider.work.worker import Mode, Worker
from tests.conftest import Run
from tests.crawl.test_politeness import FETCH, LATE, OPTIONS, crawl, gaps_of, judged, opened, outcome_of, records_of
from tests.sites import Asked, Site

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


async def test_the_way_with_the_fewest_redirects_counts_while_a_url_is_open(host: Site) -> None:
    """Though the worker that finds it has recorded the URL itself."""
    host.bodies = {"/9": to("/10"), "/10": to("/page"), "/page": b"x", "/": b"<a href=/10>x</a>"}
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        await frontier.enqueue(
            [Entry(url=f"{host.url}9", redirects=9, depth=1, settings=AT_HOME), Entry(url=host.url, settings=AT_HOME)]
        )
        worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random())
        seen = []
        for _ in range(2):
            await worker.work_on(await frontier.receive(1), until=time.time() + 60)
            seen.append((await frontier.get([f"{host.url}10"]))[f"{host.url}10"].redirects)
        await worker.run(Mode.UNTIL_EMPTY)
        records = await records_of(frontier)
    assert seen == [10, 0]
    assert [records[host.url + path].status for path in ("10", "page")] == [Status.DONE] * 2


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
        ({"scope": Scope.DOMAIN}, {"depth": 1}, "http://www.example.com/", (Scope.DOMAIN, SEED)),
        ({"scope": Scope.HOST, "include": ("/y",)}, {"depth": 1}, "http://example.com/x", None),
        ({"scope": Scope.HOST, "include": ("/x",)}, {"depth": 1}, "http://example.com/x", (Scope.HOST, SEED)),
        ({}, {"depth": 3}, "http://example.org/", (Scope.PAGE, None)),
    ],
)  # fmt: skip
def test_what_a_redirect_leads_to(
    settings: dict[str, Any], more: dict[str, Any], target: str, expected: tuple[Scope, str | None] | None
) -> None:
    message = Message(url=SEED, settings=CrawlSettings(**settings), **more)
    way = led(message, target, Measure.of(message.settings, message.seed))
    assert (way.to, way.reason) == (target, None)
    entry = way.entry
    assert (None if entry is None else (entry.settings.scope, entry.settings.seed)) == expected
    if entry is not None:
        assert (entry.url, entry.depth, entry.parent, entry.redirects) == (target, message.depth, SEED, 1)


def test_campaign_parameters_are_taken_out_of_a_target_as_out_of_a_link() -> None:
    message = Message(url=SEED, settings=CrawlSettings(drop_tracking=True))
    measure = Measure.of(message.settings, message.seed)
    assert led(message, "http://example.com/x?utm_source=a&b=1", measure).to == "http://example.com/x?b=1"
    assert led(message, f"{SEED}?utm_source=a", measure).reason is Reason.REDIRECT_LOOP


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


async def test_on_the_way_to_a_robots_txt_five_redirects_are_followed(host: Site) -> None:
    """And a chain that is longer leads to none (RFC 9309 section 2.3.1.2)."""
    host.bodies = {"/robots.txt": to("/0"), "/page": b"x", **{f"/{n}": to(f"/{n + 1}") for n in range(30)}}
    for last, status in ((MAX_HOPS - 1, Status.BLOCKED), (MAX_HOPS, Status.DONE)):
        host.bodies[f"/{last}"] = b"User-agent: *\nDisallow: /"
        host.requests.clear()
        records = await crawled(host, "page", settings=CrawlSettings(delay_seconds=0))
        assert records["page"].status is status
        assert host.paths[: MAX_HOPS + 1] == ["/robots.txt", *(f"/{n}" for n in range(MAX_HOPS))]
        host.bodies[f"/{last}"] = to(f"/{last + 1}")


async def test_the_way_to_a_robots_txt_goes_on_where_it_was_broken_off(host: Site) -> None:
    """Else a host with a long delay would be asked for its first part again and again."""
    ahead = 0.0
    host.bodies = {"/robots.txt": to("/rules"), "/rules": b"User-agent: *\nDisallow: /no"}
    settings = CrawlSettings(delay_seconds=20)

    def clock() -> float:
        return time.time() + ahead

    async with opened(clock) as frontier, Fetcher(FETCH) as fetcher:
        politeness = Politeness(
            frontier, fetcher, clock=clock, rng=random.Random(), stopping=asyncio.Event(),
            request_seconds=30, robots_grace_seconds=0, linger_seconds=0,
        )  # fmt: skip
        verdicts = []
        for path in ("yes", "yes", "no"):
            verdicts.append(type(await judged(politeness, Message(url=host.url + path, settings=settings))))
            ahead += 60
        await politeness.close()
    assert verdicts == [Postponed, NoneType, Blocked]
    assert host.paths == ["/robots.txt", "/rules"]


async def test_the_way_to_a_robots_txt_begins_anew_when_it_has_led_to_trouble(host: Site) -> None:
    """Else whoever had been sent to a dead host would ask that one for ever."""
    ahead = 0.0
    host.bodies = {"127.0.0.1/robots.txt": to(f"{host.url_of('127.0.0.2')}rules"), "/rules": lambda _: None}

    def clock() -> float:
        return time.time() + ahead

    async with opened(clock) as frontier, Fetcher(FETCH) as fetcher:
        politeness = Politeness(
            frontier, fetcher, clock=clock, rng=random.Random(), stopping=asyncio.Event(),
            request_seconds=30, robots_grace_seconds=3600, linger_seconds=0,
        )  # fmt: skip
        message = Message(url=f"{host.url}no", settings=CrawlSettings(delay_seconds=0))
        assert isinstance(await judged(politeness, message), Postponed)
        host.bodies = {"127.0.0.1/robots.txt": b"User-agent: *\nDisallow: /no"}
        ahead = 60.0
        assert isinstance(await judged(politeness, message), Blocked)
        await politeness.close()


async def test_trouble_that_lasts_where_a_robots_txt_leads_is_not_that_of_the_urls(host: Site) -> None:
    there = host.url_of("127.0.0.2").replace("http:", "https:") + "rules"  # it speaks no TLS
    host.bodies = {"/robots.txt": to(there), "/": b"x"}
    ended = outcome_of((await crawled(host, "", settings=CrawlSettings(delay_seconds=0)))[""])
    assert (ended.status, ended.reason) == (Status.BLOCKED, Reason.ROBOTS_UNREACHABLE)
    assert f"redirected to {there}: the TLS handshake failed" in ended.detail


async def test_a_robots_txt_that_leads_to_a_blocked_host_is_none(host: Site) -> None:
    there = "127.0.0.2"
    host.bodies = {"127.0.0.1/robots.txt": to(f"{host.url_of(there)}robots.txt"), "127.0.0.1/": b"x"}
    async with opened() as frontier:
        await frontier.save_hosts([HostRow(host=there, is_blocked=True)])
        records = await crawl(frontier, [host.url], CrawlSettings(delay_seconds=0))
    assert records[host.url].status is Status.DONE
    assert {request.host for request in host.requests} == {"127.0.0.1"}


async def test_hops_to_a_file_keep_the_distance_of_their_hosts(host: Site) -> None:
    host.bodies = {"/robots.txt": to("/1"), "/1": to("/2"), "/2": b"", "/": b"x"}
    await crawled(host, "", settings=CrawlSettings(delay_seconds=0.3))
    assert host.paths == ["/robots.txt", "/1", "/2", "/"]
    assert min(gaps_of(host.requests)) > 0.3 - LATE


@pytest.mark.parametrize("settings", [CrawlSettings(delay_seconds=0.1, obey_robots=False, per_host=n) for n in (1, 2)])
async def test_a_permission_that_is_late_is_asked_for_anew(
    host: Site, monkeypatch: pytest.MonkeyPatch, settings: CrawlSettings
) -> None:
    """Where a turn or a claim takes long, others may have been let in: the request waits for a moment of its own."""
    host.bodies = {f"/{n}": b"x" for n in range(3)}
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        turning = cast(TurningFrontier, frontier)
        claim, enter, turn = frontier.claim, frontier.enter, turning.turn
        entered: list[float] = []

        async def slow_claim(*arguments: Any, **more: Any) -> Any:
            claimed = await claim(*arguments, **more)
            await asyncio.sleep(BEGIN_SECONDS + 0.1)
            return claimed

        async def slow_turn(ends: Ends, taking: Taking) -> Turned:
            turned = await turn(ends, taking)
            if any(taken.token for taken in turned.taken):
                entered.append(time.monotonic())
                await asyncio.sleep(BEGIN_SECONDS + 0.1)
            return turned

        async def noted_enter(entrances: Any) -> Any:
            entered.append(time.monotonic())
            return await enter(entrances)

        monkeypatch.setattr(frontier, "claim", slow_claim)
        monkeypatch.setattr(frontier, "enter", noted_enter)
        monkeypatch.setattr(frontier, "turn", slow_turn)
        await produce(frontier, [f"{host.url}0"], settings, on_refused=print)
        worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random())
        await worker.run(Mode.UNTIL_EMPTY)
        (record,) = (await records_of(frontier)).values()
    assert (record.status, record.attempt) == (Status.DONE, 1)
    assert len(entered) >= 2
    assert host.requests[0].at - entered[-1] < BEGIN_SECONDS


# Looking.


@pytest.fixture
def ways(host: Site) -> Site:
    """A page at which two redirects end, a circle, what leads to nothing, and what leads elsewhere."""
    host.bodies = {
        "/": b"".join(b"<a href=/%s>x</a>" % path for path in (b"a", b"r", b"gone", b"away")),
        "/a": to("/b", 301),
        "/b": to("/page"),
        "/page": b"x",
        "/r": to("/o"),
        "/o": to("/r"),
        "/gone": to("/404"),
        "/away": to("http://elsewhere.invalid/"),
    }
    return host


def rows_of(printed: str, host: Site) -> dict[str, dict[str, Any]]:
    rows = [json.loads(line) for line in printed.splitlines()]
    return {row["url"].removeprefix(host.url): row for row in rows}


FLAGS = ("--delay", "0", "--allow-private", "--ignore-robots", "--quiet")


def test_export_and_show_say_where_redirects_end(sqspider: Run, ways: Site) -> None:
    done = sqspider("crawl", ways.url, *FLAGS, "--json", "--output", "rows.jsonl")
    summary = json.loads(done.stdout)
    assert (done.returncode, summary["done"], summary["redirects"]) == (0, 8, 6)
    status = sqspider("status", "--json")
    assert json.loads(status.stdout)["redirects"] == 6
    assert re.search(r"6 +redirects", sqspider("status").stdout)
    rows = rows_of(sqspider("export").stdout, ways)
    where = {
        path: (row["redirect_to"], row["final_url"], row["status"], row["http_status"]) for path, row in rows.items()
    }
    page, url = f"{ways.url}page", ways.url
    assert where == {
        "": (None, url, "done", 200),
        "a": (f"{url}b", page, "done", 301),
        "b": (page, page, "done", 302),
        "page": (None, page, "done", 200),
        "r": (f"{url}o", None, "done", 302),
        "o": (f"{url}r", None, "done", 302),
        "gone": (f"{url}404", f"{url}404", "done", 302),
        "404": (None, f"{url}404", "failed", 404),
        "away": ("http://elsewhere.invalid/", "http://elsewhere.invalid/", "done", 302),
    }
    assert (
        sqspider("export", "--format", "csv")
        .stdout.splitlines()[0]
        .endswith(
            ",error,redirect_to,meta,crawl,visits,unchanged,changes,changed_at,links_skipped"
            ",capture_file,capture_offset,capture_length,payload_digest,checked,requisite"
        )
    )
    for path, way in (
        ("a", f"{url}a → {url}b → {page} (done)"),
        ("r", f"{url}r → {url}o → {url}r: a loop"),
        ("gone", f"{url}gone → {url}404 (failed: client_error)"),
        ("away", f"{url}away → http://elsewhere.invalid/ (not recorded)"),
    ):
        assert f"chain              {way}\n" in sqspider("show", url + path).stdout
    assert "chain" not in sqspider("show", page).stdout
    assert json.loads(sqspider("show", "--json", f"{url}a").stdout)["final_url"] == page


async def test_chains_are_looked_up_together_and_end() -> None:
    """However many there are, and however long one is."""
    lookups: list[int] = []

    class Counted(MemoryFrontier):
        async def get(self, urls: Sequence[str]) -> dict[str, UrlRecord]:
            lookups.append(len(urls))
            return await super().get(urls)

    store = MemoryStore()
    firsts = []
    for name in range(50):
        for number in range(MAX_CHAIN + 5):
            outcome = Outcome(status=Status.DONE, http_status=302, redirect_to=f"http://e.com/{name}/{number + 1}")
            record = UrlRecord(url=f"http://e.com/{name}/{number}", status=Status.DONE, outcome=outcome)
            store.put(record)
            firsts += [record] if number == 0 else []
    frontier = Counted(store, FrontierSettings(), clock=time.time)
    chains = await chains_of(frontier, firsts)
    assert len(chains) == 50
    assert lookups == [50] * MAX_CHAIN
    assert all(chain.is_cut and chain.end is None and len(chain.urls) == MAX_CHAIN + 1 for chain in chains.values())
    assert str(chains["http://e.com/7/0"]).endswith(f"→ http://e.com/7/{MAX_CHAIN} → …")


def test_a_url_that_redirects_to_itself_ends_nowhere() -> None:
    outcome = Outcome(status=Status.FAILED, reason=Reason.REDIRECT_LOOP, http_status=302)
    assert row_of(UrlRecord(url=SEED, status=Status.FAILED, outcome=outcome))["final_url"] is None


def test_an_outcome_of_an_earlier_version_says_what_it_said() -> None:
    url, final_url = "http://e.com/", "https://e.com/"
    for there, redirect_to in ((final_url, final_url), (url, None), (None, None)):
        stored = json.dumps({"status": "done", "http_status": 200, "final_url": there, "bytes": 5})
        outcome = decode_outcome(stored, url)
        expected = Outcome(status=Status.DONE, http_status=200, redirect_to=redirect_to, bytes=5)
        assert (type(outcome), outcome, outcome.is_redirect) == (Outcome, expected, False)
        row = row_of(UrlRecord(url=url, status=Status.DONE, outcome=outcome))
        assert (row["final_url"], row["redirect_to"]) == (there or url, None)


# Whether a crawl went well, and when it is over.


def test_a_seed_is_as_good_as_where_its_redirects_end(sqspider: Run, ways: Site) -> None:
    assert sqspider("crawl", f"{ways.url}a", *FLAGS, "--depth", "0").returncode == 0
    for path, why in (
        ("gone", f"redirects to {ways.url}404: failed: client_error: HTTP status 404"),
        ("r", f"its redirects lead nowhere: {ways.url}r → {ways.url}o → {ways.url}r: a loop"),
    ):
        for _ in range(2):  # also where nothing is left to do
            done = sqspider("crawl", f"{ways.url}{path}", *FLAGS, "--depth", "0")
            assert done.returncode == 1
            assert f"{ways.url}{path}: {why}\n" in done.stderr
    (lost,) = (line for line in sqspider("crawl", *FLAGS).stderr.splitlines() if line.startswith(f"{ways.url}404: "))
    assert lost == f"{ways.url}404: failed: client_error: HTTP status 404"


async def test_redirects_are_no_pages_to_a_limit(host: Site) -> None:
    host.bodies = {"/": b"".join(b"<a href=/%d>x</a>" % n for n in range(40))}
    host.bodies |= {f"/{n}": to(f"/page{n}") for n in range(20)}
    host.bodies |= {f"/page{n}": b"x" for n in range(20)} | {f"/{n}": b"x" for n in range(20, 40)}
    async with opened() as frontier:
        await crawl(frontier, [host.url], AT_HOME, msgspec.structs.replace(OPTIONS, max_pages=31))
        counts = await frontier.counts()
    assert counts.by_status[Status.DONE] - counts.redirects == 31
    assert counts.redirects > 0
    assert counts.open > 0


async def test_what_ends_while_a_limit_is_looked_up_leaves_room_if_it_is_no_page(
    host: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.bodies = {"/": b"".join(b"<a href=/%d>x</a>" % n for n in range(20))}
    host.bodies |= {f"/{n}": to("/") if n % 2 else b"x" for n in range(20)}
    async with opened() as frontier:
        share = frontier.share

        async def after_all_in_hand_has_ended(asks: Sequence[Ask]) -> list[Portion]:
            while (await frontier.counts()).by_status[Status.PROCESSING]:
                await asyncio.sleep(0.001)
            return await share(asks)

        monkeypatch.setattr(frontier, "share", after_all_in_hand_has_ended)
        await crawl(frontier, [host.url], AT_HOME, msgspec.structs.replace(OPTIONS, max_pages=8))
        counts = await frontier.counts()
    assert counts.by_status[Status.DONE] - counts.redirects == 8


def test_whoever_iterates_gets_pages_and_no_redirects(ways: Site) -> None:
    pages = list(sqspider_crawl(f"{ways.url}a", delay_seconds=0, allow_private=True, obey_robots=False))
    assert [(page.url, page.http_status, page.depth, page.parent, page.redirects) for page in pages] == [
        (f"{ways.url}page", 200, 0, f"{ways.url}b", 2)
    ]


# Cookie walls.


def wall(location: str, cookie: str, *, page: bytes = b"<title>in</title>") -> Callable[[Asked], Any]:
    """Leads to a location, with a cookie, whoever does not bring it; the page for the others."""
    return lambda asked: (
        page
        if cookie in asked.headers.get("Cookie", "")
        else (302, {"Location": location, "Set-Cookie": f"{cookie}; Path=/; HttpOnly"})
    )


async def test_a_url_that_redirects_to_itself_with_a_cookie_is_asked_again_with_it(host: Site) -> None:
    host.bodies = {"/self": wall("/self", "seen=1"), "/": b"<a href=/self>x</a><a href=/other>x</a>", "/other": b"x"}
    found = await crawled(host, "")
    assert outcome_of(found["self"]).title == "in"
    assert [request.headers.get("Cookie") for request in host.requests if request.path == "/self"] == [None, "seen=1"]
    # No other request gets it.
    assert all("Cookie" not in request.headers for request in host.requests if request.path != "/self")


async def test_two_walls_one_behind_the_other_are_passed_and_a_third_kind_of_loop_ends(host: Site) -> None:
    numbers = iter(range(1000))
    host.bodies = {
        "/two": lambda asked: (
            wall("/two", "b=2")(asked) if "a=1" in asked.headers.get("Cookie", "") else wall("/two", "a=1")(asked)
        ),
        "/same": lambda _: (302, {"Location": "/same", "Set-Cookie": "x=1"}),
        "/new": lambda _: (302, {"Location": "/new", "Set-Cookie": f"x={next(numbers)}"}),
        "/deleted": lambda _: (302, {"Location": "/deleted", "Set-Cookie": "x=1; Max-Age=0"}),
        "/elsewhere": lambda _: (302, {"Location": "/elsewhere", "Set-Cookie": "x=1; Path=/shop"}),
    }
    found = await crawled(host, "two", "same", "new", "deleted", "elsewhere")
    assert outcome_of(found["two"]).title == "in"
    looped = {name for name, record in found.items() if outcome_of(record).reason is Reason.REDIRECT_LOOP}
    assert looped == {"same", "new", "deleted", "elsewhere"}
    asked = Counter(host.paths)
    assert (asked["/two"], asked["/same"], asked["/new"]) == (3, 2, 1 + MAX_WALLS)
    assert (asked["/deleted"], asked["/elsewhere"]) == (1, 1)


async def test_a_target_of_the_same_host_gets_the_cookie_that_led_there(host: Site) -> None:
    host.bodies = {"/gate": wall("/gated", "seen=1"), "/gated": wall("/gate", "seen=1")}
    found = await crawled(host, "gate")
    assert (outcome_of(found["gated"]).title, outcome_of(found["gate"]).http_status) == ("in", 302)


async def test_a_cookie_goes_to_no_other_host(host: Site) -> None:
    other = host.url_of("127.0.0.2")
    host.bodies = {"/gate": wall(f"{other}gated", "seen=1"), "/gated": b"x"}
    await crawled(host, "gate")
    assert [request.headers.get("Cookie") for request in host.requests] == [None, None]


async def test_the_hosts_delay_holds_before_a_cookie_is_brought_back(host: Site) -> None:
    host.bodies = {"/self": wall("/self", "seen=1")}
    found = await crawled(host, "self", settings=msgspec.structs.replace(AT_HOME, delay_seconds=0.3))
    assert outcome_of(found["self"]).title == "in"
    first, second = (request.at for request in host.requests)
    assert second - first >= 0.3 - LATE


async def test_a_wall_behind_a_delay_beyond_the_lease_ends_and_is_not_asked_for_ever(host: Site) -> None:
    host.bodies = {"/self": wall("/self", "seen=1")}
    found = await crawled(host, "self", settings=msgspec.structs.replace(AT_HOME, delay_seconds=3600))
    assert outcome_of(found["self"]).reason is Reason.REDIRECT_LOOP
    assert len(host.requests) == 1
