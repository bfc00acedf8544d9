"""What is answered is kept, and then its record ends: in that order, whoever dies or fails in between."""

from __future__ import annotations

import asyncio
import gzip
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import structlog

from sqspider.archive.store import open_store
from sqspider.capture import Capture, FullError, StoreError
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import ClaimRequest, Frontier, FrontierSettings, Traits, Won
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.message import Message, decode_message
from sqspider.record import CapturePlace, Reason, Status, UrlRecord
from sqspider.url import Scope
from sqspider.web.fetch import Fetcher, FetchOptions
from sqspider.work import prolonging
from sqspider.work.hand import AHEAD, Visit
from sqspider.work.holding import MOST_HELD, Held
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.visit import Visits
from sqspider.work.worker import Mode, Worker
from tests.crawl.journal import Journal
from tests.crawl.test_crew import opened, records_of, until, working
from tests.crawl.test_holding import MOST_CLAIMED
from tests.sites import Answer, Asked, Site

FETCH = FetchOptions(allow_private=True, timeout_seconds=10.0, captures=True)
AT_ONCE = CrawlSettings(delay_seconds=0, obey_robots=False, scope=Scope.HOST)
OPTIONS = WorkerOptions(worker_id="tester", concurrency=8, first_retry_seconds=0.05, poll_seconds=0.05)
PAGES = 20

replace = msgspec.structs.replace


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "journal")


@pytest.fixture
def site(host: Site) -> Site:
    """Some pages that all lead to all of them, and to one that is not there."""
    links = b"".join(b"<a href=/%d>x</a>" % n for n in (*range(PAGES), 404))
    host.bodies = {f"/{n}": links for n in range(PAGES)}
    return host


async def record_of(frontier: Frontier, url: str) -> UrlRecord:
    return (await frontier.get([url]))[url]


def place_of(record: UrlRecord) -> CapturePlace:
    assert record.outcome is not None
    assert record.outcome.capture is not None
    return record.outcome.capture


async def put_in(frontier: Frontier, *urls: str, settings: CrawlSettings = AT_ONCE) -> None:
    await produce(frontier, urls, settings, on_refused=print)


# In this order.


async def test_every_record_says_where_its_answer_lies_and_none_is_final_before(
    frontier: Frontier, site: Site, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    statuses: set[Status] = set()
    write = journal.keep

    async def looked_at(captures: Sequence[Capture]) -> list[CapturePlace | None]:
        records = await frontier.get([capture.url for capture in captures])
        statuses.update(record.status for record in records.values())
        return await write(captures)

    monkeypatch.setattr(journal, "keep", looked_at)
    await put_in(frontier, f"{site.url}0")
    async with working(frontier, OPTIONS, fetch=FETCH, store=journal):
        await until(frontier, done=PAGES, failed=1)
    assert statuses == {Status.PROCESSING}
    records = await records_of(frontier)
    assert len(records) == PAGES + 1
    for record in records:
        line = journal.read(place_of(record))
        assert (line["url"], line["status"]) == (record.url, record.outcome and record.outcome.http_status)
    assert len(journal.lines()) == PAGES + 1


async def test_no_record_ends_while_its_capture_is_being_written(
    frontier: Frontier, site: Site, journal: Journal
) -> None:
    journal.may_write.clear()
    await put_in(frontier, *(f"{site.url}{n}" for n in range(4)), f"{site.url}404")
    async with working(frontier, OPTIONS, fetch=FETCH, store=journal) as worker:
        await asked_for(site, 5)
        while journal.calls != 1 or worker._endings.under_way < 5:
            await asyncio.sleep(0.005)
        await until(frontier, done=0, failed=0)
        journal.may_write.set()
        await until(frontier, done=PAGES, failed=1)


async def asked_for(site: Site, number: int) -> None:
    while len(site.requests) < number:
        await asyncio.sleep(0.005)


async def test_what_ends_together_is_written_together(frontier: Frontier, site: Site, journal: Journal) -> None:
    """And while something is written, others gather."""
    journal.may_write.clear()
    urls = [f"{site.url}{n}" for n in range(PAGES)]
    await put_in(frontier, *urls, settings=replace(AT_ONCE, max_depth=0))
    options = replace(OPTIONS, concurrency=PAGES)
    async with working(frontier, options, fetch=FETCH, store=journal) as worker:
        while worker._endings.under_way < PAGES:
            await asyncio.sleep(0.005)
        journal.may_write.set()
        await until(frontier, done=PAGES)
    assert len(journal.writes) <= 2
    assert sorted(url for batch in journal.writes for url in batch) == sorted(urls)


async def test_nothing_is_kept_without_a_store_or_by_a_fetcher_that_does_not_capture(
    frontier: Frontier, site: Site, journal: Journal
) -> None:
    await put_in(frontier, f"{site.url}0")
    async with working(frontier, OPTIONS, fetch=FETCH):
        await until(frontier, done=PAGES, failed=1)
    await frontier.reopen([f"{site.url}1"])
    async with working(frontier, OPTIONS, fetch=replace(FETCH, captures=False), store=journal):
        await until(frontier, done=PAGES, failed=1)
    outcomes = [record.outcome for record in await records_of(frontier)]
    assert {(outcome.capture, outcome.unkept) for outcome in outcomes if outcome is not None} == {(None, False)}
    assert journal.lines() == []


# Every answer.


async def test_answers_of_tries_are_kept_too(frontier: Frontier, site: Site, journal: Journal) -> None:
    answers: Iterator[Answer] = iter([(500, {}), (500, {}), b"good"])
    site.bodies = {"/0": lambda _: next(answers)}
    await put_in(frontier, f"{site.url}0")
    async with working(frontier, OPTIONS, fetch=FETCH, store=journal):
        await until(frontier, done=1)
    record = await record_of(frontier, f"{site.url}0")
    assert record.tries == 2
    assert [line["status"] for line in journal.lines()] == [500, 500, 200]
    assert journal.read(place_of(record))["status"] == 200


async def test_what_is_to_be_tried_again_says_where_its_last_answer_lies(
    frontier: Frontier, site: Site, journal: Journal
) -> None:
    """Also where the trouble is its host's by then, and costs no try."""
    site.bodies = {f"/{n}": (500, {}) for n in range(PAGES)}
    await put_in(frontier, *(f"{site.url}{n}" for n in range(PAGES)))
    options = replace(OPTIONS, first_retry_seconds=3600.0, concurrency=1)

    async def tried() -> list[UrlRecord]:
        return [record for record in await records_of(frontier) if record.outcome is not None]

    async with working(frontier, options, fetch=FETCH, store=journal):
        while {record.tries for record in await tried()} != {0, 1}:
            await asyncio.sleep(0.005)
    for record in await tried():
        assert record.status is Status.QUEUED
        assert journal.read(place_of(record))["status"] == 500


async def test_of_what_was_not_answered_nothing_is_kept(frontier: Frontier, site: Site, journal: Journal) -> None:
    site.bodies = {"/0": lambda _: None}
    await put_in(frontier, f"{site.url}0", settings=AT_ONCE)
    async with working(frontier, OPTIONS, fetch=FETCH, store=journal):
        while not (record := await record_of(frontier, f"{site.url}0")).tries:
            await asyncio.sleep(0.005)
    assert record.outcome is not None
    assert (record.outcome.capture, record.outcome.unkept) == (None, False)
    assert journal.lines() == []


async def test_what_its_crawl_does_not_keep_is_known_by_that(frontier: Frontier, site: Site, journal: Journal) -> None:
    site.bodies = {"/0": b"x"}
    site.with_bytes = {"Content-Type": journal.unkept_type}
    await put_in(frontier, f"{site.url}0")
    async with working(frontier, OPTIONS, fetch=FETCH, store=journal):
        await until(frontier, done=1)
    outcome = (await record_of(frontier, f"{site.url}0")).outcome
    assert outcome is not None
    assert (outcome.capture, outcome.unkept) == (None, True)


async def put_in_unchanging(frontier: Frontier, site: Site) -> str:
    """Put in a page that never changes, and says so to who asks; its URL."""

    def unchanged(asked: Asked) -> bytes | tuple[int, dict[str, str]]:
        return (304, {}) if asked.headers["If-None-Match"] else b"x"

    site.bodies, site.with_bytes = {"/0": unchanged}, {"ETag": '"1"'}
    url = f"{site.url}0"
    await put_in(frontier, url)
    return url


async def test_a_visit_that_finds_nothing_new_has_a_capture_of_its_own(
    frontier: Frontier, site: Site, journal: Journal
) -> None:
    url = await put_in_unchanging(frontier, site)
    async with working(frontier, OPTIONS, fetch=FETCH, store=journal):
        await until(frontier, done=1)
        first = place_of(await record_of(frontier, url))
        assert await frontier.reopen([url], if_changed=True) == [True]
        await until(frontier, done=0)
        await until(frontier, done=1)
    record = await record_of(frontier, url)
    assert record.outcome is not None
    assert record.outcome.unchanged
    place = place_of(record)
    assert (journal.read(place)["status"], journal.read(first)["status"]) == (304, 200)
    assert place.payload == first


async def test_what_the_archive_has_not_is_asked_for_whole(frontier: Frontier, site: Site, tmp_path: Path) -> None:
    """What has not changed since a visit that nobody kept, or that is gone, could be read by nobody."""
    url = await put_in_unchanging(frontier, site)
    statuses = []
    for store in (None, Journal(tmp_path / "a"), Journal(tmp_path / "a"), Journal(tmp_path / "b"), None):
        fetch = replace(FETCH, captures=store is not None)
        async with working(frontier, OPTIONS, fetch=fetch, store=store):
            await until(frontier, done=1)
        record = await record_of(frontier, url)
        assert record.outcome is not None
        statuses.append("unchanged" if record.outcome.unchanged else "whole")
        assert await frontier.reopen([url], if_changed=True) == [True]
    assert statuses == ["whole", "whole", "unchanged", "whole", "unchanged"]


async def test_a_page_from_before_there_was_an_archive_is_asked_for_whole(
    frontier: Frontier, site: Site, journal: Journal
) -> None:
    """That it has not changed would refer to nothing. Once it is there, what has changed alone is asked for."""
    url = await put_in_unchanging(frontier, site)
    async with working(frontier, OPTIONS, fetch=FETCH):
        await until(frontier, done=1)
    async with working(frontier, OPTIONS, fetch=FETCH, store=journal):
        for _ in range(2):
            assert await frontier.reopen([url], if_changed=True) == [True]
            await until(frontier, done=0)
            await until(frontier, done=1)
    place = place_of(await record_of(frontier, url))
    assert [line["status"] for line in journal.lines()] == [200, 304]
    assert place.payload is not None
    assert journal.read(place.payload)["status"] == 200


async def test_a_store_may_take_many_leases(site: Site, journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else gets meanwhile what is being stored, and no URL is given up for it."""
    monkeypatch.setattr(prolonging, "LOOK_SECONDS", 0.01)
    passed = 0.0
    clock: Callable[[], float] = lambda: time.time() + passed  # noqa: E731
    site.bodies = {"/0": b"x"}
    url = f"{site.url}0"
    journal.may_write.clear()
    async with opened(clock) as frontier:
        await put_in(frontier, url)
        async with working(frontier, OPTIONS, clock, FETCH, store=journal), asyncio.timeout(30):
            while not journal.calls:
                await asyncio.sleep(0.005)
            for _ in range(6):
                passed += OPTIONS.lease_seconds * 0.8
                while ((await record_of(frontier, url)).lease_until or 0.0) < clock() + OPTIONS.lease_seconds / 3:
                    await asyncio.sleep(0.005)
                assert await frontier.receive(10) == []
            journal.may_write.set()
            await until(frontier, done=1)
        record = await record_of(frontier, url)
    assert (record.attempt, site.paths) == (1, ["/0"])
    assert journal.read(place_of(record))["url"] == url


async def test_the_wall_of_a_cookie_is_kept_before_what_is_behind_it(
    frontier: Frontier, site: Site, journal: Journal
) -> None:
    def wall(asked: Asked) -> bytes | tuple[int, dict[str, str]]:
        return b"x" if asked.headers["Cookie"] else (302, {"Location": "/0", "Set-Cookie": "a=b"})

    site.bodies = {"/0": wall}
    await put_in(frontier, f"{site.url}0")
    async with working(frontier, OPTIONS, fetch=FETCH, store=journal):
        await until(frontier, done=1)
    assert [line["status"] for line in journal.lines()] == [302, 200]
    assert journal.read(place_of(await record_of(frontier, f"{site.url}0")))["status"] == 200


async def test_a_robots_file_is_kept_even_where_it_lets_nothing_in(
    frontier: Frontier, site: Site, journal: Journal
) -> None:
    site.bodies["/robots.txt"] = b"User-agent: *\nDisallow: /\n"
    await put_in(frontier, f"{site.url}0", settings=CrawlSettings(delay_seconds=0))
    async with working(frontier, OPTIONS, fetch=FETCH, store=journal):
        await until(frontier, blocked=1)
    assert [(line["url"], line["hop"]) for line in journal.lines()] == [(f"{site.url}robots.txt", "P")]


async def test_what_was_noted_is_in_the_archive_when_an_invocation_ends(site: Site, tmp_path: Path) -> None:
    """Its process may be frozen then, and never go on."""
    site.bodies["/robots.txt"] = b"User-agent: *\nDisallow: /\n"
    frontier = MemoryFrontier(MemoryStore(), FrontierSettings(), clock=time.time)
    await put_in(frontier, f"{site.url}0", settings=CrawlSettings(delay_seconds=0))
    store = open_store(str(tmp_path / "archive"))
    async with Fetcher(FETCH, connections=OPTIONS.concurrency) as fetcher:
        worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random(), store=store)
        await worker.work_on(await frontier.receive(1), until=time.time() + 60)
        (file,) = (tmp_path / "archive").glob("*.warc.gz.open")
        assert f"WARC-Target-URI: {site.url}robots.txt\r\n".encode() in gzip.decompress(file.read_bytes())
    await store.close()
    assert worker.unended == {}


# A store that fails.


@pytest.fixture
def _soon_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqspider.work.keeping.FIRST_WAIT_SECONDS", 0.2)


async def costs_nothing(frontier: Frontier, worker: Worker) -> None:
    records = await records_of(frontier)
    assert {(record.unended, record.tries) for record in records} == {(0, 0)}
    assert worker.tally.retried == 0


@pytest.mark.usefixtures("_soon_again")
async def test_what_could_not_be_kept_comes_back_and_nobody_pays(
    frontier: Frontier, site: Site, journal: Journal
) -> None:
    """Not even a run's limit of pages."""
    journal.error = StoreError("no space left")
    await put_in(frontier, f"{site.url}0")
    options = replace(OPTIONS, max_pages=PAGES + 1)
    with structlog.testing.capture_logs() as logs:
        async with working(frontier, options, fetch=FETCH, store=journal) as worker:
            while journal.calls < 3:
                await asyncio.sleep(0.005)
            trouble = worker.trouble
            await until(frontier, done=0, failed=0)
            journal.error = None
            await until(frontier, done=PAGES, failed=1)
            assert worker.trouble is None
    assert trouble is not None
    assert trouble.startswith("the archive cannot be written (no space left), again in ")
    told = [log for log in logs if log["event"] in ("not_stored", "stored_again")]
    assert [log["event"] for log in told] == ["not_stored", "stored_again"]
    assert told[0]["error"] == "no space left"
    await costs_nothing(frontier, worker)
    assert len(journal.lines()) == PAGES + 1


async def test_what_could_not_be_kept_is_no_claim_that_nobody_ended(site: Site, journal: Journal) -> None:
    """Not even for a URL that had such: it was fetched, and did its worker no harm."""
    passed = 0.0
    frontier = MemoryFrontier(MemoryStore(), FrontierSettings(), clock=lambda: time.time() + passed)
    await put_in(frontier, f"{site.url}0")
    (delivery,) = await frontier.receive(1)
    message = decode_message(delivery.body)
    assert isinstance(message, Message)
    request = ClaimRequest(delivery=delivery, message=message)
    (won,) = await frontier.claim([request], worker_id="dead", claim_id="1", lease_seconds=60)
    assert isinstance(won, Won)
    passed += 61
    journal.error = StoreError("no space left")
    async with working(frontier, OPTIONS, frontier.now, FETCH, store=journal) as worker:
        while not journal.calls or not worker._hand.is_empty:
            await asyncio.sleep(0.005)
    record = await record_of(frontier, f"{site.url}0")
    assert (record.attempt, record.unended, record.tries) == (2, 0, 0)


async def test_while_nothing_can_be_kept_one_url_at_a_time_is_fetched_to_see(
    frontier: Frontier, site: Site, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever else is in hand goes back, unfetched."""
    monkeypatch.setattr("sqspider.work.keeping.FIRST_WAIT_SECONDS", 0.3)
    journal.error = StoreError("no space left")
    asked_at: list[float] = []

    def answer(asked: Asked) -> bytes:
        asked_at.append(asked.at)
        return b""

    site.bodies = {f"/{n}": answer for n in range(200)}
    await put_in(frontier, *(f"{site.url}{n}" for n in range(200)))
    async with working(frontier, OPTIONS, fetch=FETCH, store=journal) as worker:
        while journal.calls < 3:
            await asyncio.sleep(0.005)
        # What was under way as it failed first, and one for each of the others; by turns what was claimed along.
        probes = sorted(asked_at)[-(journal.calls - 1) :]
        assert len(asked_at) <= 3 * OPTIONS.concurrency + journal.calls
        assert probes[1] - probes[0] >= 0.5
        journal.error = None
        await until(frontier, done=200)
    await costs_nothing(frontier, worker)


async def test_nothing_is_taken_in_while_nothing_can_be_kept(frontier: Frontier, site: Site, journal: Journal) -> None:
    journal.error = StoreError("no space left")
    site.bodies = {f"/{n}": b"" for n in range(200)}
    await put_in(frontier, *(f"{site.url}{n}" for n in range(200)))
    async with working(frontier, OPTIONS, fetch=FETCH, store=journal) as worker:
        while not journal.calls or not worker._hand.is_empty:
            await asyncio.sleep(0.005)
        received = worker.tally.received
        assert received < 100
        await asyncio.sleep(0.3)  # time for some polls
        assert worker.tally.received == received
    await costs_nothing(frontier, worker)


async def test_what_a_runner_was_looking_at_as_the_store_failed_is_not_fetched_in_vain(
    frontier: Frontier, site: Site, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_go_on, has_its_turn = asyncio.Event(), Visits._has_its_turn

    async def slow(self: Visits, visit: Visit) -> bool:
        if visit.message.url.endswith("/late"):
            await may_go_on.wait()
        return await has_its_turn(self, visit)

    monkeypatch.setattr(Visits, "_has_its_turn", slow)
    journal.error = StoreError("no space left")
    await put_in(frontier, f"{site.url}late", f"{site.url}0")
    async with working(frontier, OPTIONS, fetch=FETCH, store=journal) as worker:
        while not journal.calls:
            await asyncio.sleep(0.005)
        may_go_on.set()
        while not worker._hand.is_empty:
            await asyncio.sleep(0.005)
    assert site.paths == ["/0"]
    await costs_nothing(frontier, worker)


@pytest.mark.usefixtures("_soon_again")
async def test_a_crawl_that_is_to_end_waits_for_its_archive(frontier: Frontier, site: Site, journal: Journal) -> None:
    journal.error = StoreError("no space left")
    await put_in(frontier, f"{site.url}0")

    def heal() -> None:
        journal.error = None

    asyncio.get_running_loop().call_later(0.5, heal)
    worker = await ran(frontier, journal)
    assert (await frontier.counts()).open == 0
    assert worker.stopped_by is None
    await costs_nothing(frontier, worker)


async def ran(frontier: Frontier, store: Journal, **more: Any) -> Worker:
    """A worker that ends by itself."""
    async with Fetcher(FETCH, connections=OPTIONS.concurrency) as fetcher:
        worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random(), store=store, **more)
        await worker.run(Mode.UNTIL_EMPTY)
    return worker


async def test_where_there_is_no_room_any_more_the_worker_stops(
    frontier: Frontier, site: Site, journal: Journal
) -> None:
    await put_in(frontier, *(f"{site.url}{n}" for n in range(PAGES)))
    keep = journal.keep

    async def until_full(captures: Sequence[Capture]) -> list[CapturePlace | None]:
        if len(journal.lines()) >= 5:
            journal.error = FullError("the archive's limit is reached")
        return await keep(captures)

    journal.keep = until_full  # type: ignore[method-assign]
    worker = await ran(frontier, journal)
    assert worker.stopped_by == "the archive's limit is reached"
    counts = (await frontier.counts()).by_status
    assert counts[Status.PROCESSING] == 0
    assert counts[Status.QUEUED] > 0
    assert counts[Status.DONE] == len(journal.lines())
    await costs_nothing(frontier, worker)


async def test_a_fault_of_ours_in_keeping_one_answer_costs_no_other(
    frontier: Frontier, site: Site, journal: Journal
) -> None:
    keep = journal.keep

    async def faulty(captures: Sequence[Capture]) -> list[CapturePlace | None]:
        if any(capture.url.endswith("/3") for capture in captures):
            raise RuntimeError("cannot")
        return await keep(captures)

    journal.keep = faulty  # type: ignore[method-assign]
    await put_in(frontier, *(f"{site.url}{n}" for n in range(5)))
    async with working(frontier, OPTIONS, fetch=FETCH, store=journal):
        await until(frontier, done=PAGES - 1, failed=2)
    for record in await records_of(frontier):
        assert record.outcome is not None
        is_faulty = record.url.endswith("/3")
        assert (record.outcome.reason is Reason.INTERNAL_ERROR) == is_faulty
        assert (record.outcome.capture is None) == is_faulty
        assert record.tries == is_faulty


# Held.


@pytest.mark.usefixtures("_soon_again")
async def test_a_page_that_is_handed_out_is_durable_and_knows_where(
    frontier: Frontier, site: Site, journal: Journal
) -> None:
    held: list[Held] = []

    def take(one: Held) -> None:
        capture = one.end.outcome.capture
        assert capture is not None
        assert journal.read(capture)["url"] == one.message.url
        assert one.end.visited is not None
        assert one.end.visited.outcome.capture == capture
        held.append(one)
        asyncio.get_running_loop().call_soon(one.finish)

    journal.error = StoreError("no space left")
    await put_in(frontier, f"{site.url}0")
    async with working(frontier, OPTIONS, fetch=FETCH, store=journal, take=take) as worker:
        while journal.calls < 2:
            await asyncio.sleep(0.005)
        assert held == []
        journal.error = None
        await until(frontier, done=PAGES, failed=1)
    await costs_nothing(frontier, worker)
    assert Counter(one.message.url for one in held) == {record.url: 1 for record in await records_of(frontier)}
    for record in await records_of(frontier):
        assert journal.read(place_of(record))["url"] == record.url


@pytest.mark.parametrize("delay_seconds", [0.0, 0.02])
@pytest.mark.parametrize("has_turns", [True, False])
async def test_no_more_are_held_than_may_be_though_many_wait_for_the_store(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, has_turns: bool, delay_seconds: float
) -> None:
    """And who waits for room there is not waited for."""
    monkeypatch.setattr(MemoryFrontier, "traits", Traits(has_turns=has_turns))
    frontier = MemoryFrontier(MemoryStore(), FrontierSettings(), clock=time.time)
    held: list[Held] = []
    site.bodies = {f"/{n}": b"" for n in range(100)}
    settings = replace(AT_ONCE, delay_seconds=delay_seconds)
    await put_in(frontier, *(f"{site.url}{n}" for n in range(100)), settings=settings)
    store = Journal(tmp_path / "journal", gather_seconds=3600.0)
    async with working(frontier, OPTIONS, fetch=FETCH, store=store, take=held.append) as worker:
        done = 0
        while done < 100:
            assert len(held) <= MOST_HELD + MOST_CLAIMED + AHEAD
            if held:
                held.pop().finish()
                done += 1
            await asyncio.sleep(0)
        await until(frontier, done=100)
    assert worker.tally.deferred < 50  # else they wait until they give up


async def test_a_page_that_is_handed_out_still_has_its_body(frontier: Frontier, site: Site, journal: Journal) -> None:
    bodies: list[bytes] = []

    def take(one: Held) -> None:
        assert one.end.visited is not None
        bodies.append(one.end.visited.fetched.body)
        asyncio.get_running_loop().call_soon(one.finish)

    site.bodies = {"/0": b"whole"}
    await put_in(frontier, f"{site.url}0")
    async with working(frontier, OPTIONS, fetch=FETCH, store=journal, take=take):
        await until(frontier, done=1)
    assert bodies == [b"whole"]
