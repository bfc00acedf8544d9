"""An operator's order holds at once: after it nothing is asked of the host (docs/politeness.md).

The server holds its answers back until as many requests are in flight as there can be. What is in flight when the
order is given is known by that, to the last request: whatever else arrives later is one too many.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Frontier, FrontierSettings, open_frontier
from sqspider.host import HostRow, with_orders
from sqspider.message import Message
from sqspider.politeness import PROMPT_SECONDS, Asked, Busy, Politeness, Postponed, Request
from sqspider.record import Reason, Status
from sqspider.scope import Blocked
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.sitemaps import SitemapReport, discover
from sqspider.work.worker import Mode, Worker
from tests.conftest import Run
from tests.crawl.test_politeness import judged
from tests.sites import HeldSite, Site

HOST = "127.0.0.1"
URLS = 30
FETCH = FetchOptions(allow_private=True, timeout_seconds=30.0)
OPTIONS = WorkerOptions(worker_id="tester", concurrency=6, lease_seconds=60.0)


@pytest.fixture
async def held() -> AsyncIterator[HeldSite]:
    site = HeldSite()
    async with site.running():
        yield site


@asynccontextmanager
async def opened(path: Path, clock: Callable[[], float] = time.time) -> AsyncIterator[Frontier]:
    frontier = await open_frontier(f"sqlite:{path}", FrontierSettings(), clock=clock)
    try:
        yield frontier
    finally:
        await frontier.close()


@asynccontextmanager
async def at_work(path: Path, number: int = 1, clock: Callable[[], float] = time.time) -> AsyncIterator[None]:
    """So many workers, each with a frontier of its own in the same file."""
    async with AsyncExitStack() as stack:
        workers, tasks = [], []
        for n in range(number):
            own = await stack.enter_async_context(opened(path, clock))
            fetcher = await stack.enter_async_context(Fetcher(FETCH))
            options = msgspec.structs.replace(OPTIONS, worker_id=f"tester-{n}")
            workers.append(Worker(own, fetcher, options, clock=clock, rng=random.Random(n)))
            tasks.append(asyncio.create_task(workers[-1].run(Mode.CONTINUOUS)))
        try:
            yield
        finally:
            for worker in workers:
                worker.stop()
            await asyncio.gather(*tasks)


async def until_put_off(frontier: Frontier) -> int:
    """Wait until whatever is left waits for its time; how much that is."""
    while True:
        stats, counts = await frontier.queue_stats(), await frontier.counts()
        if counts.open == stats.delayed:
            return counts.open
        await asyncio.sleep(0.01)


async def until_done(frontier: Frontier) -> None:
    while (await frontier.counts()).open:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("order", ["--pause", "--block"])
@pytest.mark.parametrize(
    ("delay", "per_host", "workers", "in_flight"),
    [(0.2, 1, 1, 1), (0.05, 4, 1, 4), (0, 1, 1, 6), (0.2, 1, 2, 1), (0.05, 4, 2, 4), (0, 1, 2, 12)],
    ids=lambda value: f"{value:g}",
)
async def test_after_an_order_nothing_is_asked_of_its_host(
    sqspider: Run,
    held: HeldSite,
    tmp_path: Path,
    order: str,
    delay: float,
    per_host: int,
    workers: int,
    in_flight: int,
) -> None:
    path = tmp_path / "sqspider.db"
    settings = CrawlSettings(delay_seconds=delay, per_host=per_host, obey_robots=False)
    async with opened(path) as frontier:
        await produce(frontier, [held.url(str(n)) for n in range(URLS)], settings, on_refused=print)
        async with at_work(path, workers):
            await held.until_in_flight(in_flight)
            assert (await asyncio.to_thread(sqspider, "hosts", "set", HOST, order)).returncode == 0
            asked = len(held.requests)
            await asyncio.sleep(PROMPT_SECONDS)  # an order holds within that
            held.may_answer.set()
            if order == "--block":
                await until_done(frontier)
                assert len(held.requests) == asked == in_flight
                counts = await frontier.counts()
                assert counts.by_reason == {Reason.HOST_BLOCKED: URLS - asked}
            else:
                assert await until_put_off(frontier) == URLS - asked
                assert len(held.requests) == asked == in_flight
                assert (await asyncio.to_thread(sqspider, "hosts", "set", HOST, "--resume")).returncode == 0
                await until_done(frontier)
                counts = await frontier.counts()
                assert counts.by_status[Status.DONE] == URLS == len(held.requests)
        records = [record async for batch in frontier.scan() for record in batch]
    assert {record.tries for record in records} == {0}


async def test_an_order_holds_for_robots_txt_too(held: HeldSite, tmp_path: Path) -> None:
    """By a clock that hardly moves the worker's copy of the host's row is good for all but for this."""
    now = time.time()
    path = tmp_path / "f.db"
    settings = CrawlSettings(delay_seconds=0)
    async with opened(path, lambda: now) as frontier, at_work(path, clock=lambda: now):
        await produce(frontier, [held.url("1")], settings, on_refused=print)
        await held.until_in_flight(1)
        await order(frontier, is_paused=True)
        now += 2 * PROMPT_SECONDS
        await produce(frontier, [held.url("2", port=1)], settings, on_refused=print)
        while (await frontier.queue_stats()).delayed == 0:
            await asyncio.sleep(0.01)
        held.may_answer.set()
        assert await until_put_off(frontier) == 2
        assert held.requests == ["/robots.txt"]  # of the first port


@pytest.mark.parametrize("delay", [0, 0.01])
async def test_an_order_holds_for_sitemaps_too(held: HeldSite, tmp_path: Path, delay: float) -> None:
    now = time.time()
    children = "".join(f"<sitemap><loc>{held.url(f'{n}.xml')}</loc></sitemap>" for n in range(5))
    held.bodies["/index.xml"] = f"<sitemapindex>{children}</sitemapindex>"
    reports: list[SitemapReport] = []
    async with opened(tmp_path / "f.db", lambda: now) as frontier:
        discovering = asyncio.create_task(
            discover(
                frontier,
                FETCH,
                CrawlSettings(delay_seconds=delay, obey_robots=False),
                sitemaps=[held.url("index.xml")],
                clock=lambda: now,
                rng=random.Random(0),
                stopping=asyncio.Event(),
                on_report=reports.append,
            )
        )
        await held.until_in_flight(1)
        await order(frontier, is_blocked=True)
        now += 2 * PROMPT_SECONDS
        held.may_answer.set()
        await discovering
    assert held.requests == ["/index.xml"]
    assert [report.trouble.partition(":")[0] for report in reports] == ["", *["host_blocked"] * 5]


async def test_what_was_put_off_by_an_order_comes_back_when_it_ends(
    sqspider: Run, held: HeldSite, tmp_path: Path
) -> None:
    """And what waits far away for its slot ends at once if its host is blocked."""
    path = tmp_path / "sqspider.db"
    held.may_answer.set()
    settings = CrawlSettings(delay_seconds=1000, obey_robots=False)
    async with opened(path) as frontier, at_work(path):
        await produce(frontier, [held.url(str(n)) for n in range(URLS)], settings, on_refused=print)
        assert await until_put_off(frontier) == URLS - 1
        assert (await asyncio.to_thread(sqspider, "hosts", "set", HOST, "--block")).returncode == 0
        await until_done(frontier)
        assert (await frontier.counts()).by_reason == {Reason.HOST_BLOCKED: URLS - 1}
    assert len(held.requests) == 1


async def order(frontier: Frontier, *, is_paused: bool | None = None, is_blocked: bool | None = None) -> None:
    row = (await frontier.hosts([HOST]))[HOST]
    assert all(await frontier.save_hosts([with_orders(row, delay=None, is_paused=is_paused, is_blocked=is_blocked)]))


async def test_an_order_to_resume_is_heard_by_who_waits_for_robots_txt() -> None:
    """A worker that knew for itself when to ask for it again would wait for the end of a rest that is over."""
    site, now = Site(), time.time()
    probed = HostRow(host=HOST, rests=8, trouble_since=now, trouble=Reason.TIMEOUT, penalty_since=now)
    message = Message(url=f"{site.url}no", settings=CrawlSettings(delay_seconds=0))
    site.bodies = {"/robots.txt": lambda _: None}
    frontier = await open_frontier("sqlite::memory:", FrontierSettings(), clock=lambda: now)
    assert await frontier.save_hosts([probed]) == [True]
    async with Fetcher(FETCH) as fetcher:
        politeness = Politeness(
            frontier, fetcher, clock=lambda: now, rng=random.Random(), stopping=asyncio.Event(),
            request_seconds=30, robots_grace_seconds=86_400, linger_seconds=0,
        )  # fmt: skip
        put_off = await judged(politeness, message)
        assert isinstance(put_off, Postponed)
        assert put_off.until > now + 1000
        (row,) = (await frontier.hosts(["127.0.0.1"])).values()
        resumed = with_orders(row, delay=None, is_paused=False, is_blocked=None)
        assert await frontier.save_hosts([resumed]) == [True]
        site.bodies = {"/robots.txt": b"User-agent: *\nDisallow: /no"}
        now += 3
        assert isinstance(await judged(politeness, message), Blocked)
        await politeness.close()
    await frontier.close()
    site.close()


@pytest.mark.parametrize("is_noted", [False, True], ids=["read", "noted"])
async def test_an_order_holds_within_a_moment_of_what_is_known_of_its_host(is_noted: bool) -> None:
    """What was read of a host's row is good for a twentieth of a second, and not read again; so is what a turn of the
    frontier brought along. Time that has gone back makes no copy young."""
    site, now = Site(), time.time()
    site.bodies = {"/": b"x"}
    request = Request(site.url, CrawlSettings(delay_seconds=0))
    frontier = await open_frontier("sqlite::memory:", FrontierSettings(), clock=lambda: now)
    async with Fetcher(FETCH) as fetcher:
        politeness = Politeness(
            frontier, fetcher, clock=lambda: now, rng=random.Random(), stopping=asyncio.Event(),
            request_seconds=30, robots_grace_seconds=86_400, linger_seconds=0,
        )  # fmt: skip
        if is_noted:
            politeness.note_rows(await frontier.hosts([HOST]), now)
        else:
            assert isinstance(await politeness.fetch(request), Asked)
        await order(frontier, is_paused=True)
        asked = len(site.requests)
        now += 0.9 * PROMPT_SECONDS
        assert isinstance(await politeness.fetch(request), Asked)
        for seconds in (0.2 * PROMPT_SECONDS, -3600):
            now += seconds
            busy = await politeness.fetch(request)
            assert isinstance(busy, Busy)
            assert busy.is_stopped
            await order(frontier, is_paused=False)
            assert isinstance(await politeness.fetch(request), Asked)
            await order(frontier, is_paused=True)
        await politeness.close()
    assert len(site.requests) == asked + 3
    await frontier.close()
    site.close()
