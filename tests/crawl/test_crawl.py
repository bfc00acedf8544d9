"""Whole crawls of the demo site: what is fetched, what is recorded, what survives being killed."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

import sqspider
from sqspider.crawl_settings import CrawlSettings
from sqspider.demo_site import DemoSite
from sqspider.frontier import (
    Admission,
    ClaimRequest,
    Ends,
    Entered,
    Entrance,
    Frontier,
    FrontierBusyError,
    FrontierSettings,
    Taking,
    Turned,
    Won,
    open_frontier,
)
from sqspider.frontier.sqlite import SqliteFrontier
from sqspider.host import Exit
from sqspider.message import Message, decode_message
from sqspider.record import Outcome, Reason, Status, UrlRecord
from sqspider.url import Scope, host_of
from sqspider.web.fetch import Fetched, Fetcher, FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.worker import Mode, Worker
from tests.sites import Site

FETCH = FetchOptions(allow_private=True, timeout_seconds=30.0)
SETTINGS = CrawlSettings(scope=Scope.HOST, delay_seconds=0.0)
OPTIONS = WorkerOptions(worker_id="tester", first_retry_seconds=0.05, poll_seconds=0.1, lease_seconds=60.0)


@asynccontextmanager
async def opened(path: Path | str, clock: Callable[[], float] = time.time) -> AsyncIterator[Frontier]:
    frontier = await open_frontier(f"sqlite:{path}", FrontierSettings(), clock=clock)
    try:
        yield frontier
    finally:
        await frontier.close()


async def crawl(
    frontier: Frontier,
    *seeds: str,
    settings: CrawlSettings = SETTINGS,
    options: WorkerOptions = OPTIONS,
) -> Worker:
    await produce(frontier, seeds, settings, on_refused=print)
    async with Fetcher(FETCH, connections=8) as fetcher:
        worker = Worker(frontier, fetcher, options, clock=time.time, rng=random.Random())
        await worker.run(Mode.UNTIL_EMPTY)
    return worker


async def records_of(frontier: Frontier) -> dict[str, UrlRecord]:
    return {record.url: record async for batch in frontier.scan() for record in batch}


def outcome_at(records: dict[str, UrlRecord], site: DemoSite, path: str) -> Outcome:
    outcome = records[site.url + path].outcome
    assert outcome is not None
    return outcome


async def test_a_site_is_crawled_whole_and_every_url_once(site: DemoSite) -> None:
    async with opened(":memory:") as frontier:
        await crawl(frontier, site.url)
        records = await records_of(frontier)
        counts = await frontier.counts()
        assert counts.open == 0
        assert (await frontier.queue_stats()).is_empty
    assert all(record.status.is_final for record in records.values())
    assert all(f"{site.url}page/{number}" in records for number in range(site.pages))
    assert outcome_at(records, site, "missing").reason is Reason.CLIENT_ERROR
    away = outcome_at(records, site, "away")
    assert (away.status, away.redirect_to) == (Status.DONE, "http://elsewhere.invalid/")
    assert away.detail == "redirected to http://elsewhere.invalid/: that lies outside of the crawl"
    assert "http://elsewhere.invalid/" not in records
    assert outcome_at(records, site, "huge").truncated
    assert outcome_at(records, site, "latin1").title == "Café"
    assert outcome_at(records, site, "redirect/0").redirect_to == f"{site.url}page/1"
    robots = outcome_at(records, site, "private/diary")
    assert (robots.status, robots.reason, robots.detail) == (
        Status.BLOCKED, Reason.ROBOTS, "robots.txt line 2: Disallow: /private/",
    )  # fmt: skip
    flaky = records[f"{site.url}flaky/0"]
    assert (flaky.status, flaky.tries, flaky.attempt) == (Status.DONE, 1, 2)
    seen = Counter(request.path for request in site.requests)
    assert seen["/robots.txt"] == 1
    assert not any(path.startswith("/private") for path in seen)
    again = {path for path, times in seen.items() if times > 1}
    assert again == {"/flaky/0", "/flaky/1"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (CrawlSettings(delay_seconds=0), {""}),
        (CrawlSettings(delay_seconds=0, scope=Scope.HOST, max_depth=0), {""}),
        (CrawlSettings(delay_seconds=0, scope=Scope.HOST, include=("/page/4$",)), {"", "page/4"}),
        (CrawlSettings(delay_seconds=0, scope=Scope.HOST, include=("/page/",), exclude=(r"\d",)), {""}),
    ],
)
async def test_scope_depth_and_patterns_bound_the_crawl(
    site: DemoSite, settings: CrawlSettings, expected: set[str]
) -> None:
    async with opened(":memory:") as frontier:
        await crawl(frontier, site.url, settings=settings)
        assert set(await records_of(frontier)) == {site.url + path for path in expected}


async def test_the_page_limit_stops_and_leaves_the_rest_queued(site: DemoSite) -> None:
    async with opened(":memory:") as frontier:
        await crawl(frontier, site.url, options=msgspec.structs.replace(OPTIONS, max_pages=10))
        counts = await frontier.counts()
        assert counts.by_status[Status.DONE] + counts.by_status[Status.FAILED] == 10
        assert counts.by_status[Status.QUEUED] > 0
        await crawl(frontier)
        assert (await frontier.counts()).open == 0


async def test_budgets_and_traps_are_named(site: DemoSite) -> None:
    settings = msgspec.structs.replace(SETTINGS, max_repeats=2, max_parameters=0)
    async with opened(":memory:") as frontier:
        await crawl(frontier, site.url, settings=settings)
        reasons = (await frontier.counts()).by_reason
        assert reasons[Reason.REPEATING_PATH] == 1
        assert reasons[Reason.ENDLESS_QUERY] == 1
    async with opened(":memory:") as frontier:
        await crawl(frontier, site.url, settings=msgspec.structs.replace(SETTINGS, host_pages=12))
        counts = await frontier.counts()
        assert counts.by_status[Status.DONE] + counts.by_status[Status.FAILED] == 12
        assert counts.by_reason[Reason.HOST_PAGE_LIMIT] > 0


async def test_a_host_where_nobody_listens_is_probed_and_then_given_up() -> None:
    async with DemoSite(2) as site, opened(":memory:") as frontier:
        url = site.url
    async with opened(":memory:") as frontier:  # nobody listens there any more
        settings = CrawlSettings(delay_seconds=0, obey_robots=False)
        options = msgspec.structs.replace(OPTIONS, first_rest_seconds=0.01, new_host_grace_seconds=0.0)
        worker = await crawl(frontier, url, settings=settings, options=options)
        record = (await frontier.get([url]))[url]
        assert record.outcome is not None
        assert (record.status, record.outcome.reason, record.tries) == (
            Status.FAILED, Reason.CONNECTION_REFUSED, 0,
        )  # fmt: skip
        assert "the host was given up: 5 probes" in record.outcome.detail
        assert worker.tally.retried == 0


class FailingFetcher(Fetcher):
    """Has a fault of its own for one page."""

    async def fetch(self, url: str, **more: Any) -> Fetched:
        if url.endswith("/page/4"):
            raise ZeroDivisionError("a fault of ours")
        return await super().fetch(url, **more)


async def test_a_fault_in_one_urls_work_stops_no_other(site: DemoSite, capsys: pytest.CaptureFixture[str]) -> None:
    async with opened(":memory:") as frontier:
        await produce(frontier, [site.url], SETTINGS, on_refused=print)
        async with FailingFetcher(FETCH, connections=8) as fetcher:
            worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random())
            await worker.run(Mode.UNTIL_EMPTY)
        records = await records_of(frontier)
    assert outcome_at(records, site, "page/4").reason is Reason.INTERNAL_ERROR
    assert outcome_at(records, site, "page/8").status is Status.DONE
    assert "ZeroDivisionError" in capsys.readouterr().out


async def test_a_busy_frontier_is_no_lost_race(site: DemoSite, monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = 0.0
    async with opened(":memory:", clock=lambda: time.time() + ahead) as frontier:
        assert isinstance(frontier, SqliteFrontier)
        claim, turn, failures = frontier.claim, frontier.turn, 3

        async def busy(*arguments: Any, **more: Any) -> Any:
            nonlocal failures, ahead
            if failures:
                failures -= 1
                ahead += 61  # what was received comes back
                raise FrontierBusyError("locked")
            return await claim(*arguments, **more)

        async def claiming_nothing(ends: Ends, taking: Taking) -> Turned:  # or it wins what was to be claimed
            return await turn(ends, msgspec.structs.replace(taking, claims=lambda _: False))

        monkeypatch.setattr(frontier, "claim", busy)
        monkeypatch.setattr(frontier, "turn", claiming_nothing)
        worker = await crawl(frontier, f"{site.url}page/1", settings=CrawlSettings(delay_seconds=0))
        assert failures == 0
        assert worker.tally.lost == 0
        assert (await frontier.counts()).by_status[Status.DONE] == 1


async def test_what_waits_long_for_a_busy_host_goes_back_before_it_comes_back(
    site: DemoSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or one delivery after the other would count a receive, until its message is a dead letter."""
    ahead, is_busy = 0.0, asyncio.Event()
    # With a budget its host is entered by a call of its own: without one it would wait in the queue.
    settings = CrawlSettings(delay_seconds=0.01, obey_robots=False, host_pages=100)
    async with opened(":memory:", clock=lambda: time.time() + ahead) as frontier:
        enter, host = frontier.enter, host_of(site.url)
        other = Entrance(
            host=host, token="other", delay_seconds=0.01, per_host=1, generation=None, until=frontier.now() + 60
        )
        assert [answer.entered for answer in await enter([other])] == [Entered.YES]

        async def seen(entrances: Sequence[Entrance]) -> list[Admission]:
            answers = await enter(entrances)
            if any(answer.entered is Entered.BUSY for answer in answers):
                is_busy.set()
            return answers

        monkeypatch.setattr(frontier, "enter", seen)
        await produce(frontier, [f"{site.url}nowhere"], settings, on_refused=print)
        async with Fetcher(FETCH, connections=8) as fetcher:
            worker = Worker(frontier, fetcher, OPTIONS, clock=frontier.now, rng=random.Random())
            running = asyncio.create_task(worker.run(Mode.CONTINUOUS))
            await is_busy.wait()
            assert worker.tally.deferred == 0
            ahead += 11
            while worker.tally.deferred == 0:
                await asyncio.sleep(0.01)
            assert (await frontier.counts()).open == 1
            await frontier.leave([Exit(host=host, token="other", requested_at=frontier.now(), latency_seconds=None)])
            while (await frontier.counts()).open:
                await asyncio.sleep(0.01)
            worker.stop()
            await running
            assert worker.tally.fetches == 1


async def test_a_claim_that_a_busy_frontier_did_not_let_end_is_given_back(
    site: DemoSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not left to its lease: then it would count as one that its URL had killed."""
    unended: list[int] = []
    async with opened(":memory:") as frontier:
        assert isinstance(frontier, SqliteFrontier)
        claim, turn, failures = frontier.claim, frontier.turn, 2

        async def seen(*arguments: Any, **more: Any) -> Any:
            answers = await claim(*arguments, **more)
            unended.extend(answer.unended for answer in answers if isinstance(answer, Won))
            return answers

        async def busy(ends: Ends, taking: Taking) -> Turned:
            nonlocal failures
            if failures and ends.finishes:
                failures -= 1
                raise FrontierBusyError("locked")
            turned = await turn(ends, taking)
            unended.extend(taken.claim.unended for taken in turned.taken if isinstance(taken.claim, Won))
            return turned

        monkeypatch.setattr(frontier, "claim", seen)
        monkeypatch.setattr(frontier, "turn", busy)
        settings = CrawlSettings(delay_seconds=0, obey_robots=False)
        async with asyncio.timeout(30):  # a lease takes a minute
            await crawl(frontier, f"{site.url}page/1", settings=settings)
        assert (await frontier.counts()).by_status[Status.DONE] == 1
    assert unended == [1, 1, 1]


@pytest.mark.parametrize("operation", ["turn", "share"])
async def test_a_busy_frontier_ends_no_worker(site: DemoSite, monkeypatch: pytest.MonkeyPatch, operation: str) -> None:
    """Nor does one that is busy when a fault in a URL's work is to be told, or a budget looked at."""
    async with opened(":memory:") as frontier:
        real, failures = getattr(frontier, operation), 2

        async def busy(*arguments: Any, **more: Any) -> Any:
            nonlocal failures
            if failures:
                failures -= 1
                raise FrontierBusyError("locked")
            return await real(*arguments, **more)

        async def broken(*arguments: Any, **more: Any) -> Any:
            raise RuntimeError(f"a fault of ours: {arguments} {more}")

        monkeypatch.setattr(frontier, operation, busy)
        if operation == "turn":
            monkeypatch.setattr(Fetcher, "fetch", broken)
        settings = CrawlSettings(delay_seconds=0, obey_robots=False)
        options = msgspec.structs.replace(OPTIONS, max_pages=1)
        async with asyncio.timeout(30):
            await crawl(frontier, f"{site.url}page/1", settings=settings, options=options)
        assert failures == 0
        assert (await frontier.counts()).open == 0


@pytest.mark.parametrize("failures", [0, 1])
async def test_a_url_that_kills_its_workers_is_given_up_unfetched(
    site: DemoSite, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """Where the frontier is too busy for that it stays as suspect as it was."""
    now = time.time()
    url = f"{site.url}page/1"
    frontier = await open_frontier("sqlite::memory:", FrontierSettings(), clock=lambda: now)
    await produce(frontier, [url], CrawlSettings(delay_seconds=0), on_refused=print)
    for n in range(3):
        now += 100
        (delivery,) = await frontier.receive(1)
        message = decode_message(delivery.body)
        assert isinstance(message, Message)
        request = ClaimRequest(delivery=delivery, message=message)
        (won,) = await frontier.claim([request], worker_id="dying", claim_id=str(n), lease_seconds=60)
        assert isinstance(won, Won)
    now += 100
    assert isinstance(frontier, SqliteFrontier)
    turn = frontier.turn

    async def busy(ends: Ends, taking: Taking) -> Turned:
        nonlocal failures
        if failures and ends.finishes:
            failures -= 1
            raise FrontierBusyError("locked")
        return await turn(ends, taking)

    monkeypatch.setattr(frontier, "turn", busy)
    async with Fetcher(FETCH) as fetcher:
        worker = Worker(frontier, fetcher, OPTIONS, clock=lambda: now, rng=random.Random())
        await worker.run(Mode.UNTIL_EMPTY)
    record = (await frontier.get([url]))[url]
    await frontier.close()
    assert failures == 0
    assert record.outcome is not None
    assert (record.status, record.outcome.reason) == (Status.FAILED, Reason.CRASHED)
    assert [request.path for request in site.requests] == ["/robots.txt"]


async def test_stopping_gives_back_what_is_in_flight_and_loses_nothing(tmp_path: Path) -> None:
    async with DemoSite(30, page_seconds=0.3) as site, opened(tmp_path / "f.db") as frontier:
        await produce(frontier, [f"{site.url}page/{n}" for n in range(30)], SETTINGS, on_refused=print)
        async with Fetcher(FETCH, connections=8) as fetcher:
            worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random())
            running = asyncio.create_task(worker.run(Mode.CONTINUOUS))
            while worker.tally.in_flight == 0:
                await asyncio.sleep(0.01)
            worker.stop()
            await running
        counts = await frontier.counts()
        assert counts.by_status[Status.PROCESSING] == 0
        assert counts.open > 0
        await crawl(frontier)
        assert (await frontier.counts()).open == 0


def test_a_lease_that_ends_before_its_fetch_is_refused() -> None:
    with pytest.raises(ValueError, match="too short"):
        OPTIONS.check(55.0)


async def test_a_delay_holds_between_requests_of_several_workers(tmp_path: Path) -> None:
    delay = 0.2
    settings = CrawlSettings(delay_seconds=delay)
    site = Site()
    site.bodies = {f"/page/{n}": b"a page" for n in range(12)}
    site.bodies |= {f"/redirect/{n}": (302, {"Location": f"/redirect/{n - 1}"}) for n in (1, 2)}
    site.bodies["/redirect/0"] = (302, {"Location": "/page/1"})
    async with opened(tmp_path / "f.db") as frontier:
        urls = [f"{site.url}page/{n}" for n in range(12)] + [f"{site.url}redirect/2"]
        await produce(frontier, urls, settings, on_refused=print)
        async with opened(tmp_path / "f.db") as second, Fetcher(FETCH) as a, Fetcher(FETCH) as b:
            workers = [
                Worker(
                    handle,
                    fetcher,
                    msgspec.structs.replace(OPTIONS, worker_id=name),
                    clock=time.time,
                    rng=random.Random(),
                )
                for handle, fetcher, name in ((frontier, a, "a"), (second, b, "b"))
            ]
            await asyncio.gather(*(worker.run(Mode.UNTIL_EMPTY) for worker in workers))
        counts = await frontier.counts()
        assert (counts.by_status[Status.DONE], counts.redirects) == (len(urls) + 2, 3)
    site.close()
    times = [request.at for request in site.requests]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(gaps) > delay - 0.02, gaps  # the server is told in milliseconds when a request came
    assert len(times) == len(urls) + 3  # robots.txt, and where the redirect leads


async def test_pages_can_be_iterated_over(site: DemoSite) -> None:
    pages = [page async for page in sqspider.crawl(f"{site.url}page/1", depth=0, delay_seconds=0, allow_private=True)]
    (page,) = pages
    assert (page.http_status, page.title, page.status) == (200, "Page 1", Status.DONE)
    assert page.header("content-type") == "text/html; charset=utf-8"
    assert b"<h1>Page 1</h1>" in page.body
    assert f"{site.url}page/2" in page.links


def test_a_plain_loop_works_too_and_may_be_left(served_site: str) -> None:
    seen = []
    for page in sqspider.crawl(served_site, delay_seconds=0, allow_private=True, exclude=["slow", "huge"]):
        seen.append(page.url)
        if len(seen) == 5:
            break
    assert len(set(seen)) == 5
    with pytest.raises(ValueError, match="neither http nor https"):
        list(sqspider.crawl("ftp://example.com/"))


COMPARED = (
    "status",
    "reason",
    "http_status",
    "final_url",
    "content_type",
    "bytes",
    "truncated",
    "digest",
    "title",
    "host",
)


def exported(folder: Path, name: str) -> dict[str, tuple[Any, ...]]:
    command = [sys.executable, "-m", "sqspider", "--frontier", f"sqlite:{name}", "export"]
    lines = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.splitlines()
    rows = [json.loads(line) for line in lines]
    assert len({row["url"] for row in rows}) == len(rows)
    return {row["url"]: tuple(row[field] for field in COMPARED) for row in rows}


@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_random_moments_it_loses_nothing(served_site: str, tmp_path: Path, workers: int) -> None:
    rng = random.Random(workers)

    def command(name: str) -> list[str]:
        return [
            sys.executable, "-m", "sqspider", "--frontier", f"sqlite:{name}", "crawl", served_site, "--delay", "0",
            "--allow-private", "--quiet", "--lease", "26", "--timeout", "10", "--exclude", "flaky",
            "--workers", str(workers), "--concurrency", "4",
        ]  # fmt: skip

    calm = subprocess.run(command("calm.db"), cwd=tmp_path, capture_output=True, check=False)
    assert calm.returncode == 0, calm.stderr
    for _ in range(5):
        process = subprocess.Popen(
            command("killed.db"), cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=rng.uniform(0.5, 1.1))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
    final = subprocess.run(command("killed.db"), cwd=tmp_path, capture_output=True, check=False)
    assert final.returncode == 0, final.stderr
    assert exported(tmp_path, "killed.db") == exported(tmp_path, "calm.db")
