"""Crawls that rest, are gone, or ask for more than a worker's start allows; and when a worker has done enough."""

from __future__ import annotations

import asyncio
import itertools
import random
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
import structlog

from sqspider import report
from sqspider.crawl_row import CrawlRef, Identity, Limits, State
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Counts, Delivery, Entry, Frontier, FrontierBusyError, FrontierSettings, open_frontier
from sqspider.frontier.aws import AwsFrontier
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.frontier.shares import Run
from sqspider.message import Message, encode_message
from sqspider.record import Reason, Status
from sqspider.web.fetch import Fetcher
from sqspider.work import rules, upkeep
from sqspider.work.allowed import Allowed
from sqspider.work.crawls import COPY_SECONDS
from sqspider.work.producer import produce
from sqspider.work.worker import Mode
from tests.crawl.crawl_rows import (
    AT_HOME,
    FETCH,
    OPTIONS,
    SETTINGS,
    changed,
    made,
    page,
    put_in,
    records_of,
    until,
    work,
    worker_on,
    working,
)
from tests.simulation.fake_aws import ENVIRONMENT, FakeAws, FakeTransport
from tests.sites import Answer, Asked, Site

replace = msgspec.structs.replace


async def status_of(frontier: Frontier, crawl: str = "news") -> Counter[Status]:
    return Counter(record.status for record in (await records_of(frontier, crawl)).values())


async def test_a_message_of_a_crawl_that_is_gone_is_deleted_and_counted(frontier: Frontier, host: Site) -> None:
    await frontier.send([encode_message(Message(url=host.url, crawl=CrawlRef("news", "abc")))])
    worker = await work(frontier)
    assert worker.tally.dropped == 1
    assert (await frontier.queue_stats()).is_empty
    assert not host.requests
    assert not await records_of(frontier)


async def test_a_crawl_that_is_removed_while_it_runs_ends(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page(*map(str, range(50))), **{f"/{number}": b"" for number in range(50)}}
    crawl = await made(frontier, settings=replace(SETTINGS, delay_seconds=0.05))
    await put_in(frontier, crawl, host.url)
    async with working(frontier):
        await until(lambda: len(host.requests) > 5)
        await frontier.remove_crawl(crawl.ref)
        while not (await frontier.queue_stats()).is_empty:
            await asyncio.sleep(0.05)
    assert len(host.requests) < 50


@pytest.mark.parametrize("is_redirect", [False, True])
async def test_a_crawl_that_is_removed_while_a_page_is_under_way_is_no_fault(
    frontier: Frontier, host: Site, is_redirect: bool
) -> None:
    asked, removed = threading.Event(), threading.Event()

    def slow(_: Asked) -> Answer:
        asked.set()
        removed.wait(10)
        time.sleep(COPY_SECONDS)
        return (302, {"Location": "/a"}) if is_redirect else page("a")

    host.bodies = {"/": slow, "/a": b""}
    crawl = await made(frontier)
    await put_in(frontier, crawl, host.url)
    with structlog.testing.capture_logs() as lines:
        async with working(frontier) as worker:
            await until(asked.is_set)
            await frontier.remove_crawl(crawl.ref)
            removed.set()
            await until(lambda: worker.tally.done or any(line["event"] == "stale_claim" for line in lines))
    assert "internal_error" not in {line["event"] for line in lines}
    assert not await records_of(frontier)


@pytest.mark.parametrize("crawl", ["news", None])
async def test_who_works_on_a_crawl_whose_removal_died_half_way_ends(
    tmp_path: Path, host: Site, crawl: str | None
) -> None:
    """Its records stay open until somebody goes on with the removal."""
    frontier = await open_frontier(f"sqlite:{tmp_path / 'f.db'}", FrontierSettings(), clock=time.time)
    await put_in(frontier, await made(frontier), host.url)
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection, connection:
        connection.execute("UPDATE crawl SET row = NULL")  # as a removal begins
    async with Fetcher(AT_HOME) as fetcher, asyncio.timeout(30):
        await worker_on(frontier, fetcher).run(Mode.UNTIL_EMPTY, crawl=crawl)
    assert (await frontier.counts(crawl="news")).open == 1
    await frontier.close()


@pytest.mark.parametrize("damage", ["'{'", "json_set(row, '$.settings.new', 1)"])
async def test_a_crawl_whose_row_cannot_be_read_waits_and_others_go_on(tmp_path: Path, host: Site, damage: str) -> None:
    """Damaged, or written by a later version. What waits is fetched once the row can be read again."""
    host.bodies = {"/": page("a"), "/a": b"", "/b": b""}
    frontier = await open_frontier(f"sqlite:{tmp_path / 'f.db'}", FrontierSettings(), clock=time.time)
    await put_in(frontier, await made(frontier, settings=replace(SETTINGS, delay_seconds=9.0)), f"{host.url}b")
    await put_in(frontier, await made(frontier, "other"), host.url)
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection, connection:
        (row,) = connection.execute("SELECT row FROM crawl WHERE name = 'news'").fetchone()
        connection.execute(f"UPDATE crawl SET row = {damage} WHERE name = 'news'")
    with structlog.testing.capture_logs() as lines:
        await work(frontier)
        await work(frontier)
    told = [line for line in lines if line["event"] == "crawl_waits"]
    assert [(line["crawl"], line["why"][:20]) for line in told] == [("news", "its row cannot be re")] * 2
    assert await status_of(frontier, "other") == {Status.DONE: 2}
    assert (await frontier.hosts(["127.0.0.1"]))["127.0.0.1"].slot_spacing_seconds == 0, "nobody knows its delay"
    news = list((await records_of(frontier, "news")).values())
    assert [(record.status, record.attempt) for record in news] == [(Status.QUEUED, 0)]
    with closing(sqlite3.connect(tmp_path / "f.db")) as connection, connection:
        connection.execute("UPDATE crawl SET row = ? WHERE name = 'news'", (row,))
        connection.execute("UPDATE record SET visible_at = 0 WHERE queue = 1")
    await work(frontier)
    assert await status_of(frontier) == {Status.DONE: 1}
    await frontier.close()


async def test_a_crawl_that_is_made_just_before_its_message_comes_is_found(frontier: Frontier, host: Site) -> None:
    """However lately all rows were read."""
    host.bodies = {"/": b"", "/1": b"", "/2": b""}
    async with working(frontier):
        for number in range(3):
            crawl = await made(frontier, f"c{number}")
            await put_in(frontier, crawl, host.url)
            while host.paths.count("/") <= number:
                await asyncio.sleep(0.01)


async def test_a_paused_crawl_rests_and_others_do_not(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page("a"), "/a": b""}
    resting, running = await made(frontier), await made(frontier, "other")
    await changed(frontier, state=State.PAUSED)
    await put_in(frontier, resting, host.url)
    await put_in(frontier, running, host.url)
    await work(frontier)
    assert await status_of(frontier) == {Status.QUEUED: 1}
    assert await status_of(frontier, "other") == {Status.DONE: 2}
    await changed(frontier, state=State.RUNNING)
    await work(frontier)
    assert await status_of(frontier) == {Status.DONE: 2}


async def test_a_crawl_is_paused_and_resumed_while_it_runs(frontier: Frontier, host: Site) -> None:
    """By its row alone: nobody tells the worker."""
    host.bodies = {"/": page(*map(str, range(100))), **{f"/{number}": b"" for number in range(100)}}
    crawl = await made(frontier, settings=replace(SETTINGS, delay_seconds=0.05))
    await put_in(frontier, crawl, host.url)
    async with working(frontier):
        await until(lambda: len(host.requests) > 5)
        await changed(frontier, state=State.PAUSED)
        while (await frontier.counts(crawl="news")).by_status[Status.PROCESSING] or (
            await frontier.queue_stats()
        ).visible:
            await asyncio.sleep(0.05)
        before = len(host.requests)
        assert before < 100
        await changed(frontier, state=State.RUNNING)
        await until(lambda: len(host.requests) > before)


async def test_settings_are_changed_while_it_runs(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page(*map(str, range(300))), **{f"/{number}": page(f"/x{number}") for number in range(300)}}
    crawl = await made(frontier, settings=replace(SETTINGS, delay_seconds=0.05))
    await put_in(frontier, crawl, host.url)
    async with working(frontier):
        await until(lambda: len(host.requests) > 5)
        await changed(frontier, settings=replace(SETTINGS, exclude=(r"/\d+$",)))
        while (await frontier.counts(crawl="news")).open:
            await asyncio.sleep(0.05)
    reasons = (await frontier.counts(crawl="news")).by_reason
    assert reasons[Reason.EXCLUDED] > 100


async def test_what_is_under_way_as_a_row_changes_goes_by_it(frontier: Frontier, host: Site) -> None:
    """A page that was asked for before its crawl went deeper: nobody would go into it again."""
    asked, changes = threading.Event(), threading.Event()

    def slow(_: Asked) -> bytes:
        asked.set()
        changes.wait(10)
        time.sleep(COPY_SECONDS)
        return page("a")

    host.bodies = {"/": slow, "/a": b""}
    crawl = await made(frontier, settings=replace(SETTINGS, max_depth=0))
    await put_in(frontier, crawl, host.url)
    async with working(frontier):
        await until(asked.is_set)
        await changed(frontier, settings=replace(SETTINGS, max_depth=1))
        changes.set()
        while not (await frontier.counts(crawl="news")).by_status[Status.DONE]:
            await asyncio.sleep(0.05)
    assert len(await records_of(frontier, "news")) == 2


@pytest.mark.parametrize(
    ("identity", "told"),
    [
        (Identity(allow_private=True), "it asks for private addresses; start the worker with --allow-private"),
        (Identity(allow_any_port=True), "it asks for ports of other services; start the worker with --allow-any-port"),
        (Identity(proxy="http://127.0.0.1:1"), "it asks for the proxy http://127.0.0.1:1; start the worker with --proxy"),
        (Identity(client_cert="/etc/key"), "it asks for the file /etc/key; start the worker with --client-cert"),
        (
            Identity(bearer="env:SQSPIDER_SECRET_T", origins=("http://127.0.0.1",)),
            "it sends secrets to http://127.0.0.1; start the worker with --send-to http://127.0.0.1",
        ),
    ],
)  # fmt: skip
async def test_what_a_row_asks_for_alone_is_not_done(
    frontier: Frontier, host: Site, identity: Identity, told: str
) -> None:
    """A stranger who can write to the frontier gains nothing."""
    crawl = await made(frontier, identity=identity)
    await put_in(frontier, crawl, host.url)
    with structlog.testing.capture_logs() as lines:
        await work(frontier, FETCH)
    [line] = [line for line in lines if line["event"] == "crawl_waits"]
    assert (line["why"], line["its_urls"]) == (told, "are looked at again every 60 s")
    assert not host.requests
    assert await status_of(frontier) == {Status.QUEUED: 1}


async def test_while_a_worker_lives_it_is_told_what_its_start_does_not_let_it_work_on(
    frontier: Frontier, host: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For who looks: its own log alone would say it. And no secret with it."""
    monkeypatch.setattr(upkeep, "CHECK_IN_EVERY_SECONDS", 0.1)
    monkeypatch.setenv("SQSPIDER_SECRET_PROXY", "HushHushHush")
    identity, allowed = (
        Identity(proxy="env:SQSPIDER_SECRET_PROXY"),
        Allowed(proxies=frozenset({"env:SQSPIDER_SECRET_PROXY"})),
    )
    await put_in(frontier, await made(frontier, "private"), host.url)
    await put_in(frontier, await made(frontier, "proxied", identity=identity), host.url)
    await made(frontier, "open", identity=Identity())

    async def barred() -> dict[str, str]:
        return {name: why for row in await frontier.workers() for name, why in row.barred.items()}

    async with working(frontier, FETCH, allowed=allowed):
        while "proxied" not in (told := await barred()):
            await asyncio.sleep(0.01)
        assert told["private"] == "it asks for private addresses; start the worker with --allow-private"
        assert told["proxied"].startswith("its row cannot be followed here: proxy: ")
        assert "HushHush" not in str(told)
        assert told.keys() == {"private", "proxied"}
        hindered = (await report.state_of(frontier)).as_json()["crawls_waiting"]
        assert hindered["private"] == f"{OPTIONS.worker_id} may not work on it: {told['private']}"
        await changed(frontier, "private", identity=Identity())
        while "private" in await barred():
            await asyncio.sleep(0.01)
    assert (await report.state_of(frontier)).as_json()["crawls_waiting"] == {}, "of a worker that is gone"


async def test_a_crawl_of_which_nothing_waits_is_not_said_to(frontier: Frontier, host: Site) -> None:
    """As one that is finished, whatever its row asks for, and whichever limit it has reached."""
    await made(frontier, "private", identity=Identity(allow_private=True))
    await made(frontier, "long", limits=Limits(seconds=1))
    await changed(frontier, "long", created_at=time.time() - 10)
    host.bodies = {"/": b""}
    await put_in(frontier, await made(frontier, identity=Identity()), host.url)
    with structlog.testing.capture_logs() as lines:
        await work(frontier, FETCH)
    assert [line for line in lines if line["event"] == "crawl_waits"] == []


async def test_a_crawl_that_waits_keeps_no_other_waiting(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page("a"), "/a": b""}
    barred = await made(frontier, "barred", identity=Identity(allow_private=True, allow_any_port=True))
    await put_in(frontier, barred, *(f"{host.url}{number}" for number in range(20)))
    await put_in(frontier, await made(frontier), host.url)
    await work(frontier)
    assert await status_of(frontier) == {Status.DONE: 2}
    assert await status_of(frontier, "barred") == {Status.QUEUED: 20}


async def test_a_row_without_the_wish_gets_no_private_address(frontier: Frontier, host: Site) -> None:
    """Though the worker's start allows it."""
    crawl = await made(frontier, identity=Identity())
    await put_in(frontier, crawl, host.url)
    await work(frontier, AT_HOME)
    (record,) = (await records_of(frontier)).values()
    assert record.outcome is not None
    assert record.outcome.reason is Reason.PRIVATE_ADDRESS
    assert not host.requests


async def test_a_limit_that_is_reached_lets_a_crawl_rest(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page("a"), "/a": page("b"), "/b": page("c"), "/c": b""}
    crawl = await made(frontier, limits=Limits(pages=2), settings=replace(SETTINGS, max_depth=1))
    await put_in(frontier, crawl, host.url)
    await work(frontier)
    await put_in(frontier, crawl, f"{host.url}b")
    await work(frontier)
    assert await status_of(frontier) == {Status.DONE: 2, Status.QUEUED: 1}
    await changed(frontier, limits=Limits(pages=10))
    await work(frontier)
    assert await status_of(frontier) == {Status.DONE: 4}


async def test_seconds_are_a_limit(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": b""}
    crawl = await made(frontier, limits=Limits(seconds=1))
    await changed(frontier, created_at=time.time() - 10)
    await put_in(frontier, crawl, host.url)
    await work(frontier)
    assert not host.requests


async def test_a_worker_ends_with_its_crawl(frontier: Frontier, host: Site) -> None:
    """Whatever else is in the queue, and may be for ever."""
    host.bodies = {"/": page("a"), "/a": b""}
    other = await made(frontier, "other", settings=replace(SETTINGS, delay_seconds=1.0))
    await put_in(frontier, other, *(host.url_of("127.0.0.2") + str(number) for number in range(100)))
    await put_in(frontier, await made(frontier), host.url)
    await work(frontier, crawl="news")
    assert await status_of(frontier) == {Status.DONE: 2}
    assert (await frontier.counts(crawl="other")).open


async def test_a_worker_for_loose_urls_does_not_wait_for_what_rests(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page("a"), "/a": b""}
    await put_in(frontier, await made(frontier), host.url)
    await changed(frontier, state=State.STOPPED)
    await produce(frontier, [host.url], SETTINGS, on_refused=print)
    await work(frontier)
    await work(frontier)  # what is put aside is seen by nobody, and the end is found all the same
    assert await status_of(frontier, "default") == {Status.DONE: 2}


async def test_who_works_for_one_crawl_receives_nothing_of_others_that_wait(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page("a"), "/a": b""}
    other, crawl = await made(frontier, "other"), await made(frontier)
    await frontier.enqueue([Entry(url=f"{host.url}{number}", crawl=other.ref) for number in range(5_000)])
    await put_in(frontier, crawl, host.url)
    worker = await work(frontier, crawl="news", only="news")
    assert host.paths == ["/robots.txt", "/", "/a"]
    assert (worker.tally.received, worker.tally.deferred) == (2, 0)
    queue = await frontier.queue_stats()
    assert (queue.visible, queue.in_flight, queue.delayed) == (5_000, 0, 0)


async def test_where_crawls_are_not_told_apart_messages_of_others_are_put_off(
    host: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "others_wait", lambda number: 600.0 + number)
    host.bodies = {"/": b""}
    aws = FakeAws(clock=time.time, rng=random.Random(1))
    frontier = await AwsFrontier.open(
        FrontierSettings(), clock=time.time, environment=ENVIRONMENT, transport=FakeTransport(aws)
    )
    assert not frontier.traits.tells_crawls_apart
    other, crawl = await made(frontier, "other"), await made(frontier)
    await put_in(frontier, other, *(f"{host.url}{number}" for number in range(5)))
    await put_in(frontier, crawl, host.url)
    async with Fetcher(AT_HOME) as fetcher:
        worker = worker_on(frontier, fetcher, only="news")
        await worker.run(Mode.ONCE)
    assert host.paths == ["/robots.txt", "/"]
    assert (worker.tally.received, worker.tally.deferred) == (6, 5)
    assert {record.attempt for record in (await records_of(frontier, "other")).values()} == {0}
    assert (await frontier.queue_stats()).dead == 0
    await frontier.close()


async def test_the_largest_delay_of_crawls_at_work_holds(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/a": b"", "/b": b"", "/c": b""}
    slow = await made(frontier, "slow", settings=replace(SETTINGS, delay_seconds=0.5))
    quick = await made(frontier, "quick")
    await put_in(frontier, slow, *(f"{host.url}a?{number}" for number in range(2)))
    await put_in(frontier, quick, *(f"{host.url}b?{number}" for number in range(2)))
    await work(frontier)
    at = sorted(asked.at for asked in host.requests)
    assert min(later - sooner for sooner, later in itertools.pairwise(at)) > 0.4


async def test_a_limit_of_pages_is_exact_over_workers(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page(*map(str, range(100))), **{f"/{number}": b"" for number in range(100)}}
    crawl = await made(frontier)
    await put_in(frontier, crawl, host.url)
    options = [replace(OPTIONS, worker_id=f"w{number}", run="one", max_pages=30) for number in range(4)]
    await work(frontier, crawl="news", options=replace(OPTIONS, run="first", max_pages=1))
    async with Fetcher(AT_HOME, connections=8) as fetcher:
        workers = [worker_on(frontier, fetcher, one) for one in options]
        await asyncio.gather(*(worker.run(Mode.UNTIL_EMPTY, crawl="news") for worker in workers))
    assert (await frontier.counts(crawl="news")).by_status[Status.DONE] == 31


class _SlowToPutAside(MemoryFrontier):
    """What is to be put aside is, once its crawl was resumed and unparked."""

    def __init__(self) -> None:
        super().__init__(MemoryStore(), FrontierSettings(), clock=time.time)
        self.asked, self.unparked = asyncio.Event(), asyncio.Event()

    async def park(self, deliveries: Sequence[Delivery]) -> None:
        self.asked.set()
        await self.unparked.wait()
        await super().park(deliveries)

    async def unpark(self, ref: CrawlRef) -> int:
        if self.asked.is_set():
            self.unparked.set()
        return await super().unpark(ref)


async def test_what_is_put_aside_while_its_crawl_is_resumed_comes_back(host: Site) -> None:
    host.bodies = {"/": b""}
    frontier = _SlowToPutAside()
    crawl = await made(frontier)
    await changed(frontier, state=State.PAUSED)
    await put_in(frontier, crawl, host.url)
    async with working(frontier), asyncio.timeout(20):
        await frontier.asked.wait()
        await changed(frontier, state=State.RUNNING)
        while (await frontier.counts(crawl="news")).open:
            await asyncio.sleep(0.05)


class _Counted(MemoryFrontier):
    def __init__(self) -> None:
        super().__init__(MemoryStore(), FrontierSettings(), clock=time.time)
        self.asked: list[tuple[str | None, bool]] = []

    async def counts(self, *, exact: bool = False, roughly: bool = False, crawl: str | None = None) -> Counts:
        self.asked.append((crawl, roughly))
        return await super().counts(exact=exact, roughly=roughly, crawl=crawl)


async def test_what_a_worker_counts_every_few_seconds_is_counted_roughly(host: Site) -> None:
    """On AWS to count the last open records of a crawl reads all that are open of others."""
    host.bodies = {"/": b""}
    frontier = _Counted()
    await made(frontier, "slow", settings=replace(SETTINGS, delay_seconds=9.0))
    await put_in(frontier, await made(frontier, limits=Limits(pages=9)), host.url)
    await work(frontier)
    assert {each for each in frontier.asked if each[0]} == {("slow", True), ("news", True)}


async def test_of_many_crawls_none_is_counted_whose_delay_is_no_more_than_that_of_one_at_work(host: Site) -> None:
    host.bodies = {"/": b""}
    frontier = _Counted()
    crawls = [await made(frontier, f"c{n}", settings=replace(SETTINGS, delay_seconds=n / 1000)) for n in range(200)]
    await put_in(frontier, crawls[-2], host.url)
    await work(frontier)
    assert {name for name, _ in frontier.asked if name} == {"c199", "c198"}


async def test_what_many_crawls_took_of_their_limits_is_asked_together(
    host: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.bodies = {"/": b""}
    frontier, asked = _Counted(), list[int]()

    async def runs(names: Sequence[str]) -> dict[str, Run]:
        asked.append(len(names))
        return await MemoryFrontier.runs(frontier, names)

    monkeypatch.setattr(frontier, "runs", runs)
    crawls = [await made(frontier, f"c{n}", limits=Limits(pages=9)) for n in range(50)]
    await put_in(frontier, crawls[7], host.url)
    await work(frontier)
    assert asked
    assert set(asked) == {50}


async def test_what_never_rested_is_not_looked_through_at_each_start(host: Site) -> None:
    """On AWS to call back what was put aside reads all that is put aside of others."""
    host.bodies = {"/": b""}
    frontier = _SlowToPutAside()
    frontier.asked.set()
    crawl = await made(frontier)
    await put_in(frontier, crawl, host.url)
    await work(frontier)
    assert not frontier.unparked.is_set()
    await changed(frontier, settings=replace(SETTINGS, max_depth=3))
    await work(frontier)
    assert frontier.unparked.is_set()


async def test_a_shorter_delay_holds_though_the_frontier_was_busy_as_it_was_seen(
    frontier: Frontier, monkeypatch: pytest.MonkeyPatch
) -> None:
    await made(frontier, settings=replace(SETTINGS, delay_seconds=30.0))
    said: list[float] = []

    async def busy_once(settings: CrawlSettings) -> None:
        said.append(settings.delay_seconds)
        if len(said) == 1:
            raise FrontierBusyError("somebody writes")

    async with Fetcher(FETCH, connections=1) as fetcher:
        worker = worker_on(frontier, fetcher)
        monkeypatch.setattr(worker._politeness, "take_back_slots", busy_once)
        crawls = worker._intake._crawls
        await crawls.refresh(0.0)
        await changed(frontier, settings=replace(SETTINGS, delay_seconds=1.0))
        with pytest.raises(FrontierBusyError):
            await crawls.refresh(0.0)
        for _ in range(2):
            await crawls.refresh(0.0)
        await worker._close()
    assert said == [1.0, 1.0]
