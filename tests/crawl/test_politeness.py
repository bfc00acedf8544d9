"""What a site owner is promised (docs/politeness.md), seen from the site owner's side."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import NoneType
from typing import Any

import msgspec
import pytest
from bench.politeness import LET_GO_SECONDS, judge, many_hosts, one_big_host

from sqspider import crawl as sqspider_crawl
from sqspider import host as hosts
from sqspider import host_trouble
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Deferral, Frontier, FrontierSettings, RobotsRow, SlotDemand, open_frontier
from sqspider.host import HostRow, RobotsAccess, with_orders
from sqspider.host_trouble import FAILURES_TO_REST, GIVE_UP_PROBES, Stage, stage_of
from sqspider.message import Message, decode_message, encode_message
from sqspider.politeness import (
    SOON_SECONDS,
    Awaited,
    Busy,
    Politeness,
    Postponed,
    Request,
    Turn,
)
from sqspider.politeness.robots_judge import CACHE_BYTES
from sqspider.record import Outcome, Reason, Status, UrlRecord
from sqspider.scope import Blocked
from sqspider.url import Scope
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from sqspider.web.robots_rules import MAX_ROBOTS_BYTES
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.worker import Mode, NothingReachedError, Worker
from tests.conftest import Run
from tests.sites import Answer, Asked, Site

LATE = 0.02  # the server is told in milliseconds when a request came
FETCH = FetchOptions(allow_private=True, timeout_seconds=30.0)
OPTIONS = WorkerOptions(worker_id="tester", first_retry_seconds=0.05, lease_seconds=60.0)
AT_ONCE = CrawlSettings(delay_seconds=0)


@pytest.fixture
def host() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


@asynccontextmanager
async def opened(clock: Any = time.time) -> AsyncIterator[Frontier]:
    frontier = await open_frontier("sqlite::memory:", FrontierSettings(), clock=clock)
    try:
        yield frontier
    finally:
        await frontier.close()


async def crawl(
    frontier: Frontier,
    urls: Sequence[str],
    settings: CrawlSettings = AT_ONCE,
    options: WorkerOptions = OPTIONS,
    fetch: FetchOptions = FETCH,
    clock: Any = time.time,
) -> dict[str, UrlRecord]:
    await produce(frontier, urls, settings, on_refused=print)
    async with Fetcher(fetch) as fetcher:
        worker = Worker(frontier, fetcher, options, clock=clock, rng=random.Random())
        await worker.run(Mode.UNTIL_EMPTY)
    return await records_of(frontier)


async def records_of(frontier: Frontier) -> dict[str, UrlRecord]:
    return {record.url: record async for batch in frontier.scan() for record in batch}


def outcome_of(record: UrlRecord) -> Outcome:
    assert record.outcome is not None
    return record.outcome


def gaps_of(requests: Sequence[Asked]) -> list[float]:
    return [later.at - earlier.at for earlier, later in itertools.pairwise(requests)]


# Several workers, seen by the server.


@pytest.mark.parametrize(
    ("hosts", "workers", "requests"),
    [(15, 3, 8), pytest.param(200, 4, 60, marks=[pytest.mark.prove, pytest.mark.timeout(3600)])],
)
async def test_several_workers_keep_their_distance_from_every_host(
    tmp_path: Path, hosts: int, workers: int, requests: int
) -> None:
    verdict, deliveries = await many_hosts(tmp_path, hosts=hosts, workers=workers, requests=requests, delay=0.4)
    assert verdict.too_close == 0, verdict
    assert verdict.at_once == 0, verdict
    assert deliveries.too_many == []
    assert verdict.robots == hosts  # one for each host, whichever worker asks


async def test_so_many_requests_at_a_time_and_no_more(tmp_path: Path) -> None:
    """Though an answer takes longer than the delay."""
    one, _ = await many_hosts(tmp_path, hosts=6, workers=3, requests=6, delay=0.2, answer_seconds=0.7)
    assert (one.at_once, one.too_close) == (0, 0), one
    three, _ = await many_hosts(tmp_path, hosts=3, workers=3, requests=12, delay=0.2, per_host=3, answer_seconds=0.7)
    assert three.at_once == 0, three
    assert three.overlapping > 5, three


@pytest.mark.parametrize("per_host", [1, 2])
async def test_the_distance_counts_from_when_a_request_has_left(
    host: Site, per_host: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not from when it was permitted: the claim of the first one takes nearly as long as the delay."""
    delay = 0.6

    def slowly(_: Asked) -> Answer:
        time.sleep(1.0 if per_host > 1 else 0.0)
        return b"x"

    host.bodies = {f"/{n}": slowly for n in range(2)}
    async with opened() as frontier:
        claim, is_first = frontier.claim, True

        async def slow_claim(*arguments: Any, **more: Any) -> Any:
            nonlocal is_first
            claims = await claim(*arguments, **more)
            if is_first:
                is_first = False
                await asyncio.sleep(delay * 0.9)
            return claims

        monkeypatch.setattr(frontier, "claim", slow_claim)
        settings = CrawlSettings(delay_seconds=delay, per_host=per_host, obey_robots=False)
        await crawl(frontier, [f"{host.url}{n}" for n in range(2)], settings)
    assert len(host.requests) == 2
    # With several at a time the distance is kept between permissions; the request follows at once, or anew.
    assert gaps_of(host.requests)[0] > delay - (LATE if per_host == 1 else LET_GO_SECONDS)


@pytest.mark.parametrize("keeps_connections", [False, True])
async def test_a_page_at_which_the_host_hangs_up_is_asked_for_as_seldom_as_any(keeps_connections: bool) -> None:
    """Every counted try is one request. One more is free, by which a kept connection is found broken."""
    site = Site(keeps_connections=keeps_connections)
    try:
        site.bodies = {"/": b"", "/bad": lambda _: None, "/good": b""}
        settings = CrawlSettings(delay_seconds=0.3, obey_robots=False)
        async with opened() as frontier:
            records = await crawl(frontier, [f"{site.url}{path}" for path in ("", "bad", "good")], settings)
    finally:
        site.close()
    assert (records[f"{site.url}bad"].status, records[f"{site.url}bad"].tries) == (Status.FAILED, 2)
    assert (records[f"{site.url}good"].status, records[f"{site.url}good"].tries) == (Status.DONE, 0)
    assert site.paths.count("/bad") == (4 if keeps_connections else 3)
    assert min(gaps_of(site.requests)) > 0.3 - LATE


async def test_a_big_host_holds_up_no_other(tmp_path: Path) -> None:
    before, _, verdict, deliveries = await one_big_host(tmp_path, pages=2000, small=30, workers=3, delay=0.5)
    assert before < 200  # of the 2,000 that were enqueued before any of the others
    assert (verdict.too_close, verdict.at_once) == (0, 0), verdict
    assert deliveries.too_many == []


def test_the_servers_log_is_judged_rightly() -> None:
    """The judge itself finds what is impolite."""
    from bench.politeness import Request

    def log(*times: tuple[float, float]) -> list[Request]:
        return [Request("h", "/", began, ended) for began, ended in times]

    assert judge(log((0, 0.1), (1, 1.1), (2, 2.1)), 1.0)[-4:] == (0, 0, 0, 0)
    assert judge(log((0, 0.1), (0.5, 0.6)), 1.0).too_close == 1
    assert judge(log((0, 1.5), (1, 1.1)), 1.0).at_once == 1
    assert judge(log((0, 3), (1, 3), (2, 3)), 1.0, per_host=2).at_once == 1


def test_the_distance_is_kept_across_restarts(sqspider: Run, host: Site) -> None:
    host.bodies = {"/a": b"a", "/b": b"b"}
    for path in ("a", "b"):
        assert sqspider("crawl", host.url + path, "--allow-private", "--delay", "3").returncode == 0
    assert host.paths == ["/robots.txt", "/a", "/b"]
    assert min(gaps_of(host.requests)) > 3 - LATE


def keeper(frontier: Frontier, fetcher: Fetcher) -> Politeness:
    return Politeness(
        frontier, fetcher, clock=time.time, rng=random.Random(), stopping=asyncio.Event(),
        request_seconds=30, robots_grace_seconds=0, linger_seconds=0,
    )  # fmt: skip


async def judged(politeness: Politeness, message: Message) -> Blocked | Postponed | None:
    """What is said of a URL when its robots.txt was asked for."""
    while isinstance(verdict := await politeness.judge(message), Awaited):
        await verdict.future
    return verdict


async def test_a_slot_whose_moment_has_passed_is_reserved_anew(host: Site) -> None:
    """At the end of the line: a fleet that was stopped does not burst when it starts again."""
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        politeness = keeper(frontier, fetcher)
        settings = CrawlSettings(delay_seconds=60)
        now = time.time()
        first = await politeness.turn(Message(url=host.url, settings=settings))
        assert isinstance(first, Turn)
        for slot in (None, now - 300):
            late = await politeness.turn(Message(url=host.url, settings=settings, slot=slot))
            assert isinstance(late, Postponed)
            assert late.message.slot is not None
            assert late.message.slot > now + 59
        await politeness.close()


# robots.txt.


@pytest.mark.parametrize(
    ("robots", "reason"),
    [
        (b"User-agent: *\nDisallow: /page", Reason.ROBOTS),
        (b"User-agent: sqspider\nAllow: /\n\nUser-agent: *\nDisallow: /", None),
        (b"<!doctype html><title>Not found</title>", None),
        (b"", None),
        ((204, {}), None),
        ((401, {}), None),
        ((404, {}), None),
        ((451, {}), None),
        ((301, {"Location": "file:///etc/passwd"}), None),
        ((301, {"Location": "/robots.txt"}), None),
        ((429, {}), Reason.ROBOTS_UNREACHABLE),
        ((500, {}), Reason.ROBOTS_UNREACHABLE),
        ((503, {}), Reason.ROBOTS_UNREACHABLE),
    ],
)
async def test_robots_txt_means_what_its_answer_says(host: Site, robots: Answer, reason: Reason | None) -> None:
    host.bodies = {"/robots.txt": robots, "/page": b"a page"}
    options = msgspec.structs.replace(OPTIONS, robots_grace_seconds=0.0)
    async with opened() as frontier:
        (record,) = (await crawl(frontier, [f"{host.url}page"], options=options)).values()
    assert outcome_of(record).reason is reason
    assert ("/page" in host.paths) is (reason is None)


async def test_while_robots_txt_cannot_be_had_its_host_waits(host: Site) -> None:
    host.bodies = {"/robots.txt": (503, {}), "/page": b"a page"}
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        await produce(frontier, [f"{host.url}page"], AT_ONCE, on_refused=print)
        worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random())
        await worker.run(Mode.ONCE)
        (record,) = (await records_of(frontier)).values()
        assert (record.status, record.tries, record.attempt) == (Status.QUEUED, 0, 0)  # uncounted
        assert (await frontier.queue_stats()).delayed == 1
    assert host.paths == ["/robots.txt"]


async def test_a_good_robots_txt_is_kept_for_a_day_and_while_there_is_trouble(host: Site) -> None:
    now = time.time()

    def clock() -> float:
        return now

    host.bodies = {"/robots.txt": b"User-agent: *\nDisallow: /private", "/a": b"a", "/b": b"b", "/c": b"c"}
    options = msgspec.structs.replace(OPTIONS, robots_grace_seconds=0.0)
    async with opened(clock) as frontier:
        await crawl(frontier, [f"{host.url}a"], options=options, clock=clock)
        now += 23 * 3600
        await crawl(frontier, [f"{host.url}b"], options=options, clock=clock)
        assert host.paths == ["/robots.txt", "/a", "/b"]
        host.bodies["/robots.txt"] = (500, {})
        now += 2 * 3600
        records = await crawl(frontier, [f"{host.url}c", f"{host.url}private"], options=options, clock=clock)
    assert host.paths[3] == "/robots.txt"
    assert records[f"{host.url}c"].status is Status.DONE
    assert outcome_of(records[f"{host.url}private"]).reason is Reason.ROBOTS
    assert "/private" not in host.paths


async def test_a_robots_txt_elsewhere_is_that_of_the_host_that_sent_us_there(host: Site) -> None:
    there = host.url_of("127.0.0.2")
    host.bodies = {
        "127.0.0.1/robots.txt": (302, {"Location": f"{there}1"}),
        **{f"/{hop}": (307, {"Location": f"{there}{hop + 1}"}) for hop in range(1, 5)},
        "/5": gzip.compress(b"User-agent: *\nDisallow: /page"),
        "/page": b"a page",
    }
    host.bodies["/5"] = b"User-agent: *\nDisallow: /page"
    async with opened() as frontier:
        records = await crawl(frontier, [f"{host.url}page", f"{there}page"])
    assert outcome_of(records[f"{host.url}page"]).reason is Reason.ROBOTS
    assert records[f"{there}page"].status is Status.DONE


async def test_origins_of_one_host_have_rules_of_their_own(host: Site) -> None:
    other = Site()
    try:
        host.bodies = {"/robots.txt": b"User-agent: *\nDisallow: /", "/": b"a page"}
        other.bodies = {"/": b"a page"}
        async with opened() as frontier:
            records = await crawl(frontier, [host.url, other.url])
        assert outcome_of(records[host.url]).reason is Reason.ROBOTS
        assert records[other.url].status is Status.DONE
    finally:
        other.close()


async def test_a_rule_in_the_first_500_kib_of_an_endless_file_holds(host: Site) -> None:
    host.bodies = {
        "/robots.txt": b"#" * 400_000 + b"\nUser-agent: *\nDisallow: /page\n" + b"#" * 20_000_000,
        "/page": b"a page",
    }
    async with opened() as frontier:
        (record,) = (await crawl(frontier, [f"{host.url}page"])).values()
        (kept,) = (await frontier.robots([host.url.rstrip("/")])).values()
    assert outcome_of(record).reason is Reason.ROBOTS
    assert len(kept.body) == MAX_ROBOTS_BYTES + 1  # the last one says that it goes on


async def test_a_rule_that_is_cut_off_forbids_nothing(host: Site) -> None:
    """`Disallow: /archive/` must not become `Disallow: /` because the rest lies beyond 500 KiB."""
    rule = b"\nUser-agent: *\nDisallow: /archive/\n"
    host.bodies = {"/robots.txt": b"#" * (MAX_ROBOTS_BYTES + 9 - len(rule)) + rule, "/page": b"a page"}
    async with opened() as frontier:
        (record,) = (await crawl(frontier, [f"{host.url}page"])).values()
    assert record.status is Status.DONE


def kept_robots(origin: str, body: bytes) -> RobotsRow:
    now = time.time()
    return RobotsRow(origin=origin, access=RobotsAccess.OBEY, body=body, good_at=now, expires_at=now + 3600)


async def test_a_long_robots_txt_is_read_once_and_in_a_thread() -> None:
    """It may take a quarter of a second: nobody else is to be held up, and no other URL of the host."""
    rules = b"User-agent: *\n" + b"".join(b"Allow:*a%05d*b\n" % i for i in range(34_000))
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1, thread_name_prefix="reader"))

    def readers() -> int:
        return sum(thread.name.startswith("reader") for thread in threading.enumerate())

    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        politeness = keeper(frontier, fetcher)
        await frontier.save_robots([kept_robots("http://short.example", b"User-agent: *\nDisallow: /y")])
        await frontier.save_robots([kept_robots("http://long.example", rules)])
        assert await judged(politeness, Message(url="http://short.example/x")) is None
        assert readers() == 0
        assert await judged(politeness, Message(url="http://long.example/x")) is None
        assert readers() == 1
        await frontier.save_robots([kept_robots("http://long.example", b"User-agent: *\nDisallow: /")])
        assert await judged(politeness, Message(url="http://long.example/x")) is None  # it is not read again
        await politeness.close()


async def test_the_rules_of_many_long_files_are_not_all_kept() -> None:
    origins = [f"http://{number}.example" for number in range(11)]
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        politeness = keeper(frontier, fetcher)
        for origin in origins:
            await frontier.save_robots([kept_robots(origin, b"#" * (CACHE_BYTES // 10))])
            assert await judged(politeness, Message(url=f"{origin}/")) is None
        for origin in origins:
            await frontier.save_robots([kept_robots(origin, b"User-agent: *\nDisallow: /")])
        assert await judged(politeness, Message(url=f"{origins[-1]}/")) is None
        assert isinstance(await judged(politeness, Message(url=f"{origins[0]}/")), Blocked)  # it is read again
        await politeness.close()


async def test_what_another_worker_fetches_is_waited_for(host: Site) -> None:
    """Not sent away and delivered again: a fetch of robots.txt is soon over."""

    def slowly(_: Asked) -> Answer:
        time.sleep(0.7)
        return b""

    host.bodies = {"/robots.txt": slowly}
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        workers = [keeper(frontier, fetcher) for _ in range(3)]
        verdicts = await asyncio.gather(*(judged(worker, Message(url=host.url)) for worker in workers))
        for worker in workers:
            await worker.close()
    assert verdicts == [None, None, None]
    assert host.paths == ["/robots.txt"]


async def test_a_crawl_delay_holds(host: Site) -> None:
    host.bodies = {"/robots.txt": b"User-agent: *\nCrawl-delay: 0.7", **{f"/{n}": b"x" for n in range(3)}}
    async with opened() as frontier:
        await crawl(frontier, [f"{host.url}{n}" for n in range(3)], CrawlSettings(delay_seconds=0.1))
    assert len(host.requests) == 4
    assert min(gaps_of(host.requests)) > 0.7 - LATE


def test_a_long_crawl_delay_is_kept_in_part_and_that_is_said(
    sqspider: Run, host: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    host.bodies = {"/robots.txt": b"User-agent: *\nCrawl-delay: 9999999999999", **{f"/{n}": b"x" for n in range(3)}}
    urls = [f"{host.url}{n}" for n in range(3)]
    delays = ("--delay", "0.1", "--max-crawl-delay", "0.7")
    done = sqspider("--log-level", "info", "crawl", *urls, "--allow-private", *delays)
    assert done.returncode == 0
    assert len(host.requests) == 4
    assert min(gaps_of(host.requests)) > 0.7 - LATE
    assert "crawl_delay_capped" in done.stderr
    (row,) = map(json.loads, sqspider("hosts", "--json").stdout.splitlines())
    assert (row["crawl_delay_seconds"], row["effective_delay_seconds"]) == (86_400, 60)
    said = "86400 s asked for, 60 s kept, or as much as --max-crawl-delay says"
    assert said in sqspider("show", urls[0]).stdout
    assert said in " ".join(sqspider("hosts").stdout.split())


async def test_a_far_moment_to_enter_a_host_is_not_waited_for_here(host: Site) -> None:
    """Its delivery goes back: else it would be held for longer than it is hidden from others."""
    settings = CrawlSettings(delay_seconds=1)
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        politeness = keeper(frontier, fetcher)
        turn = await politeness.turn(Message(url=host.url, settings=settings))
        assert isinstance(turn, Turn)
        again_at = time.time() + 12
        postponed = await politeness.turn(turn.message, not_before=again_at)
        assert isinstance(postponed, Postponed)
        assert postponed.until == again_at - SOON_SECONDS
        await politeness.close()


async def test_a_redirect_asks_the_robots_txt_of_where_it_leads(host: Site) -> None:
    there = host.url_of("127.0.0.2")
    host.bodies = {
        "127.0.0.1/": (301, {"Location": f"{there}private"}),
        "127.0.0.2/robots.txt": b"User-agent: *\nDisallow: /private",
        "127.0.0.2/private": b"secret",
    }
    async with opened() as frontier:
        records = await crawl(frontier, [host.url])
    record = records[f"{there}private"]
    assert (record.status, outcome_of(record).reason) == (Status.BLOCKED, Reason.ROBOTS)
    assert records[host.url].status is Status.DONE
    assert [request.path for request in host.requests if request.host == "127.0.0.2"] == ["/robots.txt"]


async def test_where_a_redirect_leads_has_a_distance_of_its_own(host: Site) -> None:
    there = host.url_of("127.0.0.2")
    host.bodies = {
        **{f"127.0.0.1/{n}": (302, {"Location": f"{there}{n}"}) for n in range(3)},
        **{f"127.0.0.2/{n}": b"x" for n in range(6)},
    }
    settings = CrawlSettings(delay_seconds=0.3)
    async with opened() as frontier:
        records = await crawl(
            frontier, [f"{host.url}{n}" for n in range(3)] + [f"{there}{n}" for n in range(3, 6)], settings
        )
    assert all(record.status is Status.DONE for record in records.values())
    for address in ("127.0.0.1", "127.0.0.2"):
        requests = [request for request in host.requests if request.host == address]
        assert min(gaps_of(requests)) > 0.3 - LATE


async def test_not_even_robots_txt_is_asked_of_a_private_address(host: Site) -> None:
    async with opened() as frontier:
        (record,) = (await crawl(frontier, [host.url], fetch=FetchOptions())).values()
    assert (record.status, outcome_of(record).reason, record.tries) == (Status.BLOCKED, Reason.PRIVATE_ADDRESS, 0)
    assert host.requests == []


@pytest.mark.parametrize("flag", [False, True])
async def test_pages_may_ask_not_to_be_followed(host: Site, flag: bool) -> None:
    host.bodies = {
        "/": b"<a href=/1>1</a><a href=/2 rel=nofollow>2</a>",
        "/1": b"<meta name=robots content=nofollow><a href=/3>3</a>",
        "/2": b"2",
        "/3": b"3",
    }
    settings = CrawlSettings(delay_seconds=0, scope=Scope.HOST, obey_nofollow=not flag)
    async with opened() as frontier:
        records = await crawl(frontier, [host.url], settings)
    assert {url.removeprefix(host.url) for url in records} == ({"", "1", "2", "3"} if flag else {"", "1"})


async def test_a_meta_refresh_loop_is_a_link_and_ends(host: Site) -> None:
    host.bodies = {
        "/": b"<meta http-equiv=refresh content='0; url=/x'>",
        "/x": b"<meta http-equiv=refresh content='0; url=/'>",
    }
    settings = CrawlSettings(delay_seconds=0, scope=Scope.HOST, meta_refresh=True)
    async with opened() as frontier:
        await crawl(frontier, [host.url], settings)
    assert host.paths == ["/robots.txt", "/", "/x"]


def test_we_say_who_we_are_and_are_found_by_that_name(sqspider: Run, host: Site) -> None:
    host.bodies = {"/robots.txt": b"User-agent: mybot\nDisallow: /no\n", "/": b"yes", "/no": b"no"}
    who = ("--user-agent", "mybot/2.0 (+https://example.com/bot)", "--contact", "bot@example.com")
    done = sqspider("crawl", host.url, f"{host.url}no", "--allow-private", "--delay", "0", *who)
    assert "robots.txt line 2: Disallow: /no" in done.stderr
    assert host.paths == ["/robots.txt", "/"]
    for request in host.requests:
        assert (request.headers["User-Agent"], request.headers["From"]) == (who[1], who[3])


async def test_who_crawls_from_python_is_found_by_the_name_that_was_given(host: Site) -> None:
    rules = b"User-agent: sqspider\nDisallow: /a\n\nUser-agent: MyBot/1.0\nDisallow: /b\n"
    host.bodies = {"/robots.txt": rules, "/": b'<a href="a">a</a><a href="b">b</a>', "/a": b"a", "/b": b"b"}
    pages = sqspider_crawl(host.url, delay_seconds=0, allow_private=True, user_agent="MyBot/2.0")
    assert {page.url async for page in pages if page.http_status == 200} == {host.url, f"{host.url}a"}
    assert sorted(host.paths) == ["/", "/a", "/robots.txt"]


@pytest.mark.parametrize(
    ("user_agent", "token"),
    [
        (FetchOptions().user_agent, "sqspider"), ("MyBot/2.0", "MyBot"), (" My_Bot-x (+http://e.com)", "My_Bot-x"),
        ("Mozilla/5.0 (compatible; MyBot/2.0; +http://e.com)", "MyBot"), ("Mozilla/5.0 (X11) Gecko", "Mozilla"),
        ("MyBot2/1.0", "MyBot"), ("2bot", "*"),
    ],
)  # fmt: skip
def test_a_user_agent_has_one_product_token(user_agent: str, token: str) -> None:
    assert FetchOptions(user_agent=user_agent).product_token == token


# A second message of a finished URL.


@pytest.mark.parametrize("is_told", [True, False], ids=["the frontier says it", "the worker remembers it"])
async def test_what_is_finished_takes_no_slot(host: Site, is_told: bool) -> None:
    """It is lost at once, not after the host's delay, and those that wait for the host are not held up."""
    host.bodies = {"/a": b"a"}
    settings = CrawlSettings(delay_seconds=60, obey_robots=False)
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random())
        await produce(frontier, [f"{host.url}a"], settings, on_refused=print)
        await worker.work_on(await frontier.receive(1), until=time.time() + 30)
        (before,) = await frontier.scan_hosts()
        await frontier.send([encode_message(Message(url=f"{host.url}a", settings=settings))])
        (second,) = await frontier.receive(1)
        assert second.is_finished
        if is_told:
            worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random())
        else:
            second = msgspec.structs.replace(second, is_finished=False)
        await worker.work_on([second], until=time.time() + 30)
        assert (worker.tally.lost, worker.tally.deferred, worker.unended) == (1, 0, {})
        (after,) = await frontier.scan_hosts()
        assert after.next_slot == before.next_slot
        assert (await frontier.queue_stats()).is_empty
    assert host.paths == ["/a"]


async def test_what_was_finished_and_cleared_away_is_fetched_again_at_its_time(host: Site) -> None:
    host.bodies = {"/a": b"a"}
    settings = CrawlSettings(delay_seconds=0.5, obey_robots=False)
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random())
        for _ in range(2):
            await produce(frontier, [f"{host.url}a"], settings, on_refused=print)
            while deliveries := await frontier.receive(1):
                await worker.work_on(deliveries, until=time.time() + 30)
            (record,) = (await records_of(frontier)).values()
            assert record.status is Status.DONE
            await frontier.clear_table()
    assert host.paths == ["/a", "/a"]


# Trouble.


async def test_hosts_shows_the_delay_that_holds(sqspider: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    now = time.time()
    slowed = HostRow(
        host="slowed.example", crawl_delay_seconds=1, penalty_seconds=64, penalty_since=now, failures=2,
        trouble=Reason.RATE_LIMITED,
    )  # fmt: skip
    long_ago = msgspec.structs.replace(slowed, host="forgiven.example", penalty_since=now - 4000)
    ordered = msgspec.structs.replace(slowed, host="ordered.example", delay_seconds=0)
    resting = HostRow(host="resting.example", rest_until=now + 5000, trouble=Reason.TIMEOUT, penalty_since=now)
    frontier = await open_frontier(f"sqlite:{tmp_path / 'sqspider.db'}", FrontierSettings(), clock=time.time)
    assert all(await frontier.save_hosts([slowed, long_ago, ordered, resting]))
    await frontier.close()
    rows = {row["host"]: row for row in map(json.loads, sqspider("hosts", "--json").stdout.splitlines())}
    assert {host.partition(".")[0]: row["effective_delay_seconds"] for host, row in rows.items()} == {
        "slowed": 64, "forgiven": 1, "ordered": 0, "resting": 0,
    }  # fmt: skip
    in_trouble = [host for host, row in rows.items() if row["is_in_trouble"]]
    assert in_trouble == ["ordered.example", "resting.example", "slowed.example"]
    listed = {line.split()[0]: line for line in sqspider("hosts").stdout.splitlines()}
    day = datetime.fromtimestamp(now, UTC).date().isoformat()
    assert " 64 s " in listed["slowed.example"]
    assert f"slowed to 64 s, 2 failures in a row (rate_limited at {day}" in listed["slowed.example"]
    assert "rate_limited" not in listed["forgiven.example"]
    assert f"(timeout at {day}" in listed["resting.example"]
    status = json.loads(sqspider("status", "--json").stdout)["hosts_in_trouble"]
    assert [row["host"] for row in status] == in_trouble
    assert all(row["trouble_at"].startswith(day) for row in status)


async def test_a_crawl_that_ends_with_a_bad_page_leaves_no_host_in_trouble(
    sqspider: Run, host: Site, tmp_path: Path
) -> None:
    host.bodies = {"/": b'<a href="bad">bad</a>', "/bad": (500, {})}
    frontier = await open_frontier(f"sqlite:{tmp_path / 'sqspider.db'}", FrontierSettings(), clock=time.time)
    await crawl(frontier, [host.url], CrawlSettings(delay_seconds=0, scope=Scope.HOST))
    await frontier.close()
    (row,) = map(json.loads, sqspider("hosts", "--json").stdout.splitlines())
    assert (row["trouble"], row["failures"], row["is_in_trouble"]) == ("server_error", 3, False)
    assert json.loads(sqspider("status", "--json").stdout)["hosts_in_trouble"] == []


def in_seconds(seconds: float, form: str) -> str:
    """``Retry-After`` in one of its forms; dates have whole seconds only."""
    if form == "seconds":
        return str(int(seconds))
    when = datetime.now(UTC) + timedelta(seconds=seconds)
    return str(
        when.strftime({"date": "%a, %d %b %Y %H:%M:%S GMT", "old": "%A, %d-%b-%y %H:%M:%S GMT", "c": "%c"}[form])
    )


@pytest.mark.parametrize(("status", "form"), [(503, "seconds"), (429, "date"), (429, "old"), (503, "c")])
async def test_a_host_that_asks_for_a_rest_gets_it(host: Site, status: int, form: str) -> None:
    """The whole host, and no URL loses a try by waiting."""
    asked_for_rest: list[float] = []

    def busy_once(asked: Asked) -> Answer:
        if asked_for_rest:
            return b"x"
        asked_for_rest.append(asked.at)
        return status, {"Retry-After": in_seconds(4, form)}

    host.bodies = {f"/{n}": busy_once for n in range(3)}
    settings = CrawlSettings(delay_seconds=0.1)
    async with opened() as frontier:
        records = await crawl(frontier, [f"{host.url}{n}" for n in range(3)], settings)
    later = [request.at for request in host.requests if request.at > asked_for_rest[0]]
    assert min(later) - asked_for_rest[0] > 3 - LATE  # a date may be up to a second earlier
    assert [record.status for record in records.values()] == [Status.DONE] * 3
    assert sorted(record.tries for record in records.values()) == [0, 0, 1]
    assert min(gaps_of(host.requests[2:])) > 2 - LATE  # and it is asked less often from then on


def test_a_rest_is_remembered_across_restarts(sqspider: Run, host: Site) -> None:
    host.bodies = {"/a": (503, {"Retry-After": "3600"}), "/b": b"b"}
    url = host.url
    sqspider("enqueue", f"{url}a", "--delay", "0")
    sqspider("consume", "--allow-private")
    sqspider("enqueue", f"{url}b", "--delay", "0")
    sqspider("consume", "--allow-private")
    assert host.paths == ["/robots.txt", "/a"]
    row = json.loads(sqspider("hosts", "--json").stdout)
    assert row["trouble"] == "server_error"
    assert json.loads(sqspider("status", "--json").stdout)["queue"]["delayed"] == 2


@asynccontextmanager
async def working(
    frontier: Frontier, options: WorkerOptions = OPTIONS, fetch: FetchOptions = FETCH, clock: Any = time.time
) -> AsyncIterator[Worker]:
    """A worker at work, stopped in good order at the end."""
    async with Fetcher(fetch) as fetcher:
        worker = Worker(frontier, fetcher, options, clock=clock, rng=random.Random())
        running = asyncio.create_task(worker.run(Mode.CONTINUOUS))
        try:
            yield worker
        finally:
            worker.stop()
            await running


async def until(is_so: Callable[[], Awaitable[bool]]) -> None:
    while not await is_so():
        await asyncio.sleep(0.01)


async def enqueued(frontier: Frontier, url: str, number: int, settings: CrawlSettings) -> list[str]:
    urls = [f"{url}{n}" for n in range(number)]
    await produce(frontier, urls, settings, on_refused=print)
    return urls


async def host_row(frontier: Frontier, host: str = "127.0.0.1") -> HostRow:
    return (await frontier.hosts([host]))[host]


async def test_a_host_in_trouble_is_rested_and_its_urls_lose_no_try(host: Site) -> None:
    """Requests that were made are tries, up to the one that rests the host."""
    host.bodies = {f"/{n}": lambda _: None for n in range(30)}  # hangs up
    settings = CrawlSettings(delay_seconds=0.02, obey_robots=False)
    options = msgspec.structs.replace(OPTIONS, first_retry_seconds=30.0, first_rest_seconds=60.0)
    async with opened() as frontier:
        await enqueued(frontier, host.url, 30, settings)

        async def all_wait() -> bool:  # for the end of the rest, and not for their slots
            return (await host_row(frontier)).rests == 1 and (await frontier.queue_stats()).delayed == 30

        async with working(frontier, options):
            await until(all_wait)
        records = await records_of(frontier)
        row = await host_row(frontier)
    asked = Counter(host.paths)
    assert len(asked) == FAILURES_TO_REST
    assert Counter(record.tries for record in records.values()) == {1: FAILURES_TO_REST - 1, 0: 31 - FAILURES_TO_REST}
    assert (row.rests, row.trouble) == (1, Reason.CONNECTION_RESET)


@pytest.mark.parametrize(
    ("answer", "reason"), [((500, {}), Reason.SERVER_ERROR), (None, Reason.CONNECTION_RESET)], ids=["500", "hangs up"]
)
async def test_trouble_is_tried_again_and_then_final(host: Site, answer: Answer | None, reason: Reason) -> None:
    """One bad page of a well host pays for itself: three requests, and never again."""
    host.bodies = {"/": b"a page", "/bad": lambda _: answer}
    async with opened() as frontier:
        records = await crawl(frontier, [host.url, f"{host.url}bad"], AT_ONCE)
        row = await host_row(frontier)
        assert (await frontier.queue_stats()).is_empty
    bad = records[f"{host.url}bad"]
    assert (bad.status, outcome_of(bad).reason, bad.tries, bad.attempt) == (Status.FAILED, reason, 2, 3)
    assert records[host.url].status is Status.DONE
    assert (row.rests, host.paths.count("/bad") >= 3) == (0, True)


async def test_urls_that_a_host_never_serves_end_though_nothing_else_of_it_is_left(
    host: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosts, "PROBE_DELAY_SECONDS", 0.01)
    host.bodies = {"/": b"a page", **{f"/bad{n}": (500, {}) for n in range(FAILURES_TO_REST)}}
    options = msgspec.structs.replace(OPTIONS, first_rest_seconds=0.01)
    monkeypatch.setattr(host_trouble, "MAX_DOUBTED_REST_SECONDS", 0.02)
    async with opened() as frontier:
        urls = [host.url, *(f"{host.url}bad{n}" for n in range(FAILURES_TO_REST))]
        records = await crawl(frontier, urls, AT_ONCE, options)
    bad = [record for record in records.values() if record.url != host.url]
    assert {(record.status, outcome_of(record).reason, record.tries) for record in bad} == {
        (Status.FAILED, Reason.SERVER_ERROR, 2)
    }
    assert host.paths.count("/bad0") >= 3


def dead_site() -> Site:
    """One that nobody serves any more: its port refuses."""
    site = Site()
    site.close()
    return site


QUICK = msgspec.structs.replace(OPTIONS, first_rest_seconds=0.05, new_host_grace_seconds=0.0)


@pytest.mark.parametrize(("obey_robots", "workers"), [(True, 1), (False, 2)])
async def test_a_dead_host_is_given_up_and_its_urls_end_unasked_without_a_try(obey_robots: bool, workers: int) -> None:
    """By one of its URLs, or its robots.txt, probing for all; whoever is at work."""
    site = dead_site()
    async with opened() as frontier:
        await enqueued(frontier, site.url, 60, CrawlSettings(delay_seconds=0, obey_robots=obey_robots))
        async with Fetcher(FETCH) as fetcher:
            fleet = [
                Worker(
                    frontier,
                    fetcher,
                    msgspec.structs.replace(QUICK, worker_id=f"w{number}"),
                    clock=time.time,
                    rng=random.Random(),
                )
                for number in range(workers)
            ]
            await asyncio.gather(*(worker.run(Mode.UNTIL_EMPTY) for worker in fleet))
        records = await records_of(frontier)
        row = await host_row(frontier)
    assert {record.status for record in records.values()} == {Status.FAILED}
    assert {record.tries for record in records.values()} == {0}
    assert {outcome_of(record).reason for record in records.values()} == {Reason.CONNECTION_REFUSED}
    assert all("the host was given up: 5 probes" in outcome_of(record).detail for record in records.values())
    assert (row.rests, stage_of(row, time.time())) == (GIVE_UP_PROBES, Stage.GIVEN_UP)
    if obey_robots:
        assert sum(worker.tally.fetches for worker in fleet) == 0


async def test_a_port_where_robots_txt_has_no_answer_is_no_trouble_of_a_host_that_answers_at_another(
    host: Site,
) -> None:
    """Somebody listens there, and hangs up."""
    host.bodies = {f"/{n}": b"x" for n in range(5)}
    options = msgspec.structs.replace(QUICK, host_grace_seconds=0.0)
    mute = Site()
    mute.bodies = {"/robots.txt": lambda _: None}
    try:
        async with opened() as frontier:
            await crawl(frontier, [f"{host.url}0"], AT_ONCE, options)
            records = await crawl(
                frontier, [f"{mute.url}a", *(f"{host.url}{n}" for n in range(1, 5))], AT_ONCE, options
            )
            row = await host_row(frontier)
    finally:
        mute.close()
    (end,) = (record for record in records.values() if record.status is Status.FAILED)
    assert (end.url, end.tries, outcome_of(end).reason) == (f"{mute.url}a", 0, Reason.CONNECTION_RESET)
    assert (row.rested_at, row.trouble, row.done) == (0.0, None, 5)


async def test_a_port_where_nobody_listens_is_no_trouble_of_a_host_that_answers_at_another(host: Site) -> None:
    """``https`` of a site that has none, say: the site is asked on as ever, and what is not there is given up."""
    host.bodies = {f"/{n}": b"x" for n in range(5)}
    options = msgspec.structs.replace(QUICK, host_grace_seconds=0.0)
    dead = dead_site().url
    async with opened() as frontier:
        await crawl(frontier, [f"{host.url}0"], AT_ONCE, options)
        records = await crawl(frontier, [f"{dead}a", *(f"{host.url}{n}" for n in range(1, 5))], AT_ONCE, options)
        row = await host_row(frontier)
    (end,) = (record for record in records.values() if record.status is Status.FAILED)
    assert (end.url, end.tries, outcome_of(end).reason) == (f"{dead}a", 0, Reason.CONNECTION_REFUSED)
    assert outcome_of(end).detail == f"robots.txt of {dead.rstrip('/')}: nobody listens there"
    assert (row.rested_at, row.trouble, row.done) == (0.0, None, 5)


async def test_a_host_that_comes_back_is_found_by_one_probe_and_nothing_is_lost(
    host: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One request for its robots.txt a rest, none for any URL, and no try of theirs."""
    monkeypatch.setattr(hosts, "PROBE_DELAY_SECONDS", 0.01)
    down_until = GIVE_UP_PROBES + 2  # requests for robots.txt that meet no answer

    def robots(_: Asked) -> Answer | None:
        return (404, {}) if host.paths.count("/robots.txt") > down_until else None

    host.bodies = {"/robots.txt": robots, **{f"/{n}": b"x" for n in range(20)}}
    options = msgspec.structs.replace(OPTIONS, first_rest_seconds=0.01)
    async with opened() as frontier:
        records = await crawl(frontier, [f"{host.url}{n}" for n in range(20)], AT_ONCE, options)
        row = await host_row(frontier)
    assert {(record.status, record.tries) for record in records.values()} == {(Status.DONE, 0)}
    first_page = next(at for at, path in enumerate(host.paths) if path != "/robots.txt")
    assert first_page == down_until + 1
    assert (row.rests, row.failures, row.trouble) == (0, 0, None)


async def test_a_robots_txt_that_cannot_be_had_for_too_long_is_said(host: Site) -> None:
    """Though its host is not given up: that it did answer is known."""
    host.bodies = {"/robots.txt": lambda _: None, "/0": b"x"}
    options = msgspec.structs.replace(OPTIONS, first_rest_seconds=0.05, robots_grace_seconds=0.0)
    async with opened() as frontier:
        (record,) = (await crawl(frontier, [f"{host.url}0"], AT_ONCE, options)).values()
    assert outcome_of(record).reason is Reason.ROBOTS_UNREACHABLE
    assert "hung up" in outcome_of(record).detail
    assert "/0" not in host.paths


@pytest.mark.parametrize("answer", ["refuses", "wants a password"])
async def test_a_proxy_that_cannot_be_used_costs_no_url_and_no_host(host: Site, answer: str) -> None:
    """One URL probes for all; when the proxy works, all are fetched. What it said is nobody's robots.txt."""
    if answer == "refuses":
        host.close()
    is_well = False
    host.bodies = {
        f"http://h{n}.invalid{path}": lambda _: b"x" if is_well else (407, {"Proxy-Authenticate": "Basic"})
        for n in range(12) for path in ("/", "/robots.txt")
    }  # fmt: skip
    fetch = msgspec.structs.replace(FETCH, proxy=host.url.rstrip("/"))
    urls = [f"http://h{n}.invalid/" for n in range(12)]
    proxy = host
    async with opened() as frontier:
        await produce(frontier, urls, AT_ONCE, on_refused=print)
        async with working(frontier, msgspec.structs.replace(OPTIONS, concurrency=4), fetch) as worker:

            async def is_probing() -> bool:
                return (
                    worker.trouble is not None
                    and worker._politeness.network.again_at > (worker._politeness.network.since or 0) + 1.5
                )

            await until(is_probing)  # a probe failed
            assert "proxy" in (worker.trouble or "")
            assert (await frontier.counts()).open == 12
            if answer == "refuses":
                proxy = Site(host.port)
                proxy.bodies = dict.fromkeys(host.bodies, b"x")
            else:
                assert len(host.requests) <= 5  # those of the first moment, and a probe
                assert await frontier.robots([url.rstrip("/") for url in urls]) == {} or all(
                    row.access is RobotsAccess.UNREACHABLE
                    for row in (await frontier.robots([url.rstrip("/") for url in urls])).values()
                )
            is_well = True

            async def is_over() -> bool:
                return (await frontier.counts()).open == 0

            await until(is_over)
            assert worker.trouble is None
        records = await records_of(frontier)
        rows = await frontier.scan_hosts()
    if proxy is not host:
        proxy.close()
    assert {(record.status, record.tries) for record in records.values()} == {(Status.DONE, 0)}
    assert {(row.rests, row.failures, row.trouble) for row in rows} == {(0, 0, None)}


async def test_what_cannot_be_asked_by_a_batch_is_given_back_untried(host: Site) -> None:
    """As on Lambda, where nobody waits: it comes back when a probe is due."""
    host.close()
    urls = [f"http://h{n}.invalid/" for n in range(10)]
    fetch = msgspec.structs.replace(FETCH, proxy=host.url.rstrip("/"))
    async with opened() as frontier, Fetcher(fetch) as fetcher:
        await produce(frontier, urls, CrawlSettings(delay_seconds=0, obey_robots=False), on_refused=print)
        worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random())
        await worker.work_on(await frontier.receive(10), until=time.time() + 3)
        assert worker.unended == {}
        stats = await frontier.queue_stats()
        assert (stats.visible + stats.delayed, stats.in_flight) == (10, 0)
        records = await records_of(frontier)
    assert {(record.status, record.tries) for record in records.values()} == {(Status.QUEUED, 0)}


async def test_while_nothing_can_be_asked_one_request_at_a_time_probes() -> None:
    """Whatever waits here for its slot, and with robots.txt and sitemaps as with pages."""
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        politeness = keeper(frontier, fetcher)
        past = time.time() - 5
        politeness.network.failed(Reason.PROXY_UNUSABLE, "no", asked_at=past, now=past)
        one, other = (Request(f"http://{name}.example/", AT_ONCE) for name in "ab")
        found: list[object] = []

        async def begin() -> None:
            found.append(await politeness.fetch(other, begin=refuse))
            found.append(await politeness.fetch(other))

        assert await politeness.fetch(one, begin=begin) is None
        assert [type(answer) for answer in found] == [Busy, Busy]
        assert await politeness.fetch(other, begin=refuse) is None  # the probe is over
        await politeness.close()


async def refuse() -> None:
    """What is let in and asks for nothing."""


async def test_after_a_shortage_half_as_many_requests_are_made_at_a_time() -> None:
    """Though more URLs than that are in hand already."""
    now = 1000.0
    async with opened(lambda: now) as frontier, Fetcher(FETCH) as fetcher:
        politeness = Politeness(
            frontier, fetcher, clock=lambda: now, rng=random.Random(), stopping=asyncio.Event(),
            request_seconds=30, robots_grace_seconds=0, linger_seconds=0,
        )  # fmt: skip
        network = politeness.network
        network.failed(Reason.OWN_SHORTAGE, "no descriptors", asked_at=now, now=now, in_flight=4)
        network.answered("another", now)
        first, second, third = (Request(f"http://127.0.0.{n}/", AT_ONCE) for n in range(1, 4))
        found: list[object] = []

        async def begin() -> None:
            nonlocal now
            found.append(await politeness.fetch(third, begin=refuse))
            now += 61
            found.append(await politeness.fetch(third, begin=refuse))

        async def begin_another() -> None:
            found.append(await politeness.fetch(second, begin=begin))

        assert await politeness.fetch(first, begin=begin_another) is None
        assert [type(answer) for answer in found] == [Busy, NoneType, NoneType]
        await politeness.close()


async def test_a_worker_that_reached_nothing_for_a_day_ends_and_loses_nothing(host: Site) -> None:
    host.close()
    fetch = msgspec.structs.replace(FETCH, proxy=host.url.rstrip("/"))
    async with opened() as frontier, Fetcher(fetch) as fetcher:
        await produce(frontier, ["http://h.invalid/"], AT_ONCE, on_refused=print)
        worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random())
        worker._network._waited = 86_399.0
        with pytest.raises(NothingReachedError, match="proxy_unusable"):
            await worker.run(Mode.UNTIL_EMPTY)
        (record,) = (await records_of(frontier)).values()
    assert (record.status, record.tries) == (Status.QUEUED, 0)


def test_a_shortage_of_descriptors_costs_no_url_and_no_host(sqspider: Run, tmp_path: Path) -> None:
    """Connections that are kept use them up: fewer at a time go on, and it is said whose trouble it is."""
    site = Site(keeps_connections=True)
    site.bodies = {"/": b"x"}
    try:
        urls = [site.url_of(f"127.0.1.{h}") for h in range(1, 33)]
        (tmp_path / "urls").write_text("\n".join(urls))
        assert sqspider("enqueue", "-f", "urls", "--delay", "0.1").returncode == 0
        command = f"ulimit -n 48; exec {sys.executable} -m sqspider crawl --allow-private --quiet"
        done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    finally:
        site.close()
    assert done.returncode == 0, done.stderr
    assert "concurrency_capped" in done.stderr
    rows = [json.loads(line) for line in sqspider("export").stdout.splitlines()]
    assert {(row["status"], row["tries"]) for row in rows} == {("done", 0)}
    assert len(rows) == 32
    hosts = [json.loads(line) for line in sqspider("hosts", "--json").stdout.splitlines()]
    assert not any(row["is_in_trouble"] for row in hosts)


async def test_what_was_slept_through_is_no_latency(host: Site) -> None:
    asleep = 0.0

    def nap(_: Asked) -> Answer:
        nonlocal asleep
        asleep += 3600
        return b"x"

    host.bodies = {"/0": nap, "/1": b"x", "/2": b"x"}
    settings = CrawlSettings(delay_seconds=0.05, obey_robots=False)
    async with opened(lambda: time.time() + asleep) as frontier:
        await crawl(frontier, [f"{host.url}{n}" for n in range(3)], settings, clock=lambda: time.time() + asleep)
        row = await host_row(frontier)
    assert row.latency_seconds < 5
    # The lease ended in the nap, too: what was asked for in it may be asked for again.
    assert Counter(host.paths).keys() == {"/0", "/1", "/2"}


async def test_slots_that_lie_too_far_are_taken_back(host: Site) -> None:
    """As after trouble that slowed the host: what waits for them is fetched at the distance that holds now."""
    host.bodies = {f"/{n}": b"x" for n in range(5)}
    async with opened() as frontier:
        urls = await enqueued(frontier, host.url, 5, CrawlSettings(delay_seconds=0.05, obey_robots=False))
        now = time.time()
        demand = SlotDemand(host="127.0.0.1", count=100, spacing_seconds=60.0, generation=0)
        assert await frontier.reserve([demand]) == [pytest.approx(now, abs=5)]
        for delivery in await frontier.receive(4):
            message = decode_message(delivery.body)
            assert isinstance(message, Message)
            message = msgspec.structs.replace(message, slot=now + 3000, generation=0)
            await frontier.defer([Deferral(delivery=delivery, until=now + 3000, message=message)])
        records = await crawl(frontier, [], options=msgspec.structs.replace(OPTIONS, worker_id="other"))
    assert {records[url].status for url in urls} == {Status.DONE}
    assert min(gaps_of(host.requests)) > 0.05 - LATE


async def test_two_crawls_of_one_host_do_not_take_back_each_others_slots_again_and_again(host: Site) -> None:
    """Each time all that waits would come back, to wait for a slot that is as far."""
    fast = CrawlSettings(delay_seconds=1, obey_robots=False)
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        politeness = Politeness(
            frontier, fetcher, clock=time.time, rng=random.Random(), stopping=asyncio.Event(),
            request_seconds=30, robots_grace_seconds=0, linger_seconds=0,
        )  # fmt: skip
        for generation in (0, 1, 1):
            slow = SlotDemand(host="127.0.0.1", count=100, spacing_seconds=10.0, generation=generation)
            assert await frontier.reserve([slow]) != [None]
            politeness.look_anew()
            await politeness.turn(Message(url=host.url, settings=fast))
        await politeness.close()
        assert (await frontier.hosts(["127.0.0.1"]))["127.0.0.1"].generation == 1


async def test_an_order_to_resume_forgives_a_host_that_was_given_up(sqspider: Run, host: Site, tmp_path: Path) -> None:
    host.bodies = {"/a": b"a"}
    now = time.time()
    frontier = await open_frontier(f"sqlite:{tmp_path / 'sqspider.db'}", FrontierSettings(), clock=time.time)
    dead = HostRow(
        host="127.0.0.1", rests=5, rested_at=now, trouble_since=now - 76, given_up_at=now, rest_until=now + 3600,
        penalty_since=now, trouble=Reason.CONNECTION_REFUSED,
    )  # fmt: skip
    assert await frontier.save_hosts([dead]) == [True]
    await frontier.close()
    (row,) = map(json.loads, sqspider("hosts", "--json").stdout.splitlines())
    assert (row["stage"], row["probes_failed"], row["is_in_trouble"]) == ("given up", 5, True)
    said = "given up until "
    assert said in sqspider("hosts").stdout.replace("\n", " ")
    in_a_narrow_terminal = "".join(sqspider("hosts").stdout.split())
    assert f"givenupuntil{row['rest_until']}(connection_refused:asked5timesinvain" in in_a_narrow_terminal
    assert said in sqspider("status").stdout
    assert sqspider("enqueue", f"{host.url}a", "--delay", "0").returncode == 0
    assert said in sqspider("show", f"{host.url}a").stdout
    assert sqspider("hosts", "set", "127.0.0.1", "--resume").returncode == 0
    assert sqspider("crawl", f"{host.url}a", "--allow-private", "--delay", "0").returncode == 0
    assert "/a" in host.paths


async def test_who_redirects_is_not_blamed_for_a_host_that_rests(host: Site) -> None:
    there = "127.0.0.2"
    host.bodies = {"127.0.0.1/": (302, {"Location": host.url_of(there)})}
    settings = CrawlSettings(delay_seconds=0.1, obey_robots=False)
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        assert await frontier.save_hosts([HostRow(host=there, rest_until=time.time() + 3600)]) == [True]
        await produce(frontier, [host.url], settings, on_refused=print)
        worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random())
        await worker.run(Mode.ONCE)
        await worker.run(Mode.ONCE)
        row = (await frontier.hosts(["127.0.0.1"]))["127.0.0.1"]
        records = await records_of(frontier)
    assert (row.penalty_seconds, row.failures, row.trouble) == (0, 0, None)
    assert {url: (record.status, record.tries) for url, record in records.items()} == {
        host.url: (Status.DONE, 0),
        host.url_of(there): (Status.QUEUED, 0),
    }
    assert [request.host for request in host.requests] == ["127.0.0.1"]


# Orders.


def test_a_paused_host_is_left_alone_until_it_is_resumed(sqspider: Run, host: Site, tmp_path: Path) -> None:
    host.bodies = {"/": b"a page"}
    assert sqspider("hosts", "set", "127.0.0.1", "--pause").returncode == 0
    command = [sys.executable, "-m", "sqspider", "crawl", host.url, "--allow-private", "--delay", "0", "--quiet"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL)
    try:
        while json.loads(sqspider("status", "--json").stdout)["queue"]["delayed"] == 0:
            assert process.poll() is None
        assert host.requests == []
        assert sqspider("hosts", "set", "127.0.0.1", "--resume").returncode == 0
        assert process.wait() == 0
    finally:
        process.kill()
        process.wait()
    assert host.paths == ["/robots.txt", "/"]


async def test_an_order_to_go_slower_holds_at_once(host: Site) -> None:
    host.bodies = {f"/{n}": b"x" for n in range(8)}
    settings = CrawlSettings(delay_seconds=0.1, obey_robots=False)
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        await produce(frontier, [f"{host.url}{n}" for n in range(8)], settings, on_refused=print)
        worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random())
        working = asyncio.create_task(worker.run(Mode.UNTIL_EMPTY))
        while len(host.requests) < 2:
            await asyncio.sleep(0.005)
        saved = False
        while not saved:
            row = (await frontier.hosts(["127.0.0.1"]))["127.0.0.1"]
            (saved,) = await frontier.save_hosts([with_orders(row, delay=1.0, is_paused=None, is_blocked=None)])
        ordered_at = time.monotonic()
        await working
    after = [request for request in host.requests if request.at > ordered_at]
    assert len(after) >= 3
    assert min(gaps_of(after[1:])) > 1.0 - LATE  # the first may have been on its way


# Budgets.


async def test_the_byte_budget_of_a_host_is_named(host: Site) -> None:
    host.bodies = {f"/{n}": b"x" * 1000 for n in range(24)}
    settings = CrawlSettings(delay_seconds=0.05, host_bytes=2500, obey_robots=False)
    async with opened() as frontier:
        records = await crawl(
            frontier, [f"{host.url}{n}" for n in range(24)], settings, msgspec.structs.replace(OPTIONS, concurrency=1)
        )
    reasons = Counter(outcome_of(record).reason for record in records.values())
    assert reasons[Reason.HOST_BYTE_LIMIT] >= 1
    assert reasons[None] >= 3
