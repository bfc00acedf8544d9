"""The crew and its desks: what is claimed ahead, handed in and not yet committed.

A frontier with turns is worked on by them, another by single calls; most promises are held to both.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import (
    ClaimRequest,
    Ends,
    Entered,
    Entrance,
    Exit,
    Finish,
    Frontier,
    FrontierBusyError,
    FrontierError,
    FrontierSettings,
    Taking,
    Traits,
    Turned,
    Won,
)
from sqspider.frontier.sqlite import SqliteFrontier
from sqspider.message import Message, decode_message
from sqspider.politeness import Asked
from sqspider.politeness.entering import PROMPT_SECONDS
from sqspider.record import Outcome, Reason, Status, UrlRecord
from sqspider.url import Scope
from sqspider.web.fetch import Fetched, Fetcher, FetchOptions
from sqspider.work.desk import CallDesk, Wishes
from sqspider.work.gate import Gate
from sqspider.work.hand import Visit
from sqspider.work.intake import Intake
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.suspects import SUSPECTED_AFTER
from sqspider.work.turn_desk import TurnDesk
from sqspider.work.visit import Visits
from sqspider.work.worker import Mode, Worker
from tests.sites import HeldSite, Site

FETCH = FetchOptions(allow_private=True, timeout_seconds=30.0)
AT_ONCE = CrawlSettings(delay_seconds=0, obey_robots=False, scope=Scope.HOST)
NOTHING = Fetched(
    url="http://h.test/0", http_status=200, headers=(), body=b"", truncated=False, reason=None, detail="",
    elapsed_seconds=0.1, sent_seconds=0.0,
)  # fmt: skip
OPTIONS = WorkerOptions(worker_id="tester", concurrency=1, first_retry_seconds=0.05)


@pytest.fixture(params=["turns", "calls"])
def _both_desks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deal with a frontier by turns, and by calls."""
    if request.param == "calls":
        monkeypatch.setattr(SqliteFrontier, "traits", Traits(has_turns=False))


@asynccontextmanager
async def opened(clock: Callable[[], float] = time.time) -> AsyncIterator[SqliteFrontier]:
    frontier = await SqliteFrontier.open(":memory:", FrontierSettings(), clock=clock)
    try:
        yield frontier
    finally:
        await frontier.close()


@asynccontextmanager
async def working(
    frontier: Frontier,
    options: WorkerOptions = OPTIONS,
    clock: Callable[[], float] = time.time,
    fetch: FetchOptions = FETCH,
    *,
    connections: int | None = None,
    **more: Any,
) -> AsyncIterator[Worker]:
    """A worker that works until the block ends; then it is told to stop, and waited for."""
    async with Fetcher(fetch, connections=connections or options.concurrency) as fetcher:
        worker = Worker(frontier, fetcher, options, clock=clock, rng=random.Random(), **more)
        running = asyncio.create_task(worker.run(Mode.CONTINUOUS))
        try:
            yield worker
        finally:
            worker.stop()
            await running


async def until(frontier: Frontier, **numbers: int) -> None:
    """Wait until there are so many records of some statuses."""
    while True:
        counts = (await frontier.counts()).by_status
        if all(counts[Status(status)] == number for status, number in numbers.items()):
            return
        await asyncio.sleep(0.005)


async def records_of(frontier: Frontier) -> list[UrlRecord]:
    return [record async for batch in frontier.scan() for record in batch]


@pytest.fixture
async def held() -> AsyncIterator[HeldSite]:
    site = HeldSite()
    async with site.running():
        yield site


@pytest.fixture
def pages() -> Iterator[Site]:
    """Some pages that all lead to all of them."""
    site = Site()
    links = b"".join(b"<a href=/%d>x</a>" % n for n in range(20))
    site.bodies = {f"/{n}": links for n in range(20)}
    yield site
    site.close()


# Claimed ahead.


TOTAL = 80
AHEAD = OPTIONS.concurrency  # no more for later than for now


async def claimed_ahead(frontier: SqliteFrontier, held: HeldSite) -> int:
    """Wait until one URL is asked for, and as many are claimed ahead as may be; how many are done by then."""
    held.may_answer.set()
    while len(held.requests) < 2 * AHEAD:  # what came first was not claimed: nothing was known of its host
        await asyncio.sleep(0)
    held.may_answer.clear()
    await held.until_in_flight(1)
    await until(frontier, processing=1 + AHEAD)
    return (await frontier.counts()).by_status[Status.DONE]


@asynccontextmanager
async def ahead_of(held: HeldSite, clock: Callable[[], float] = time.time) -> AsyncIterator[SqliteFrontier]:
    async with opened(clock) as frontier:
        await produce(frontier, [held.url(str(n)) for n in range(TOTAL)], AT_ONCE, on_refused=print)
        yield frontier


async def test_what_is_claimed_ahead_is_given_back_unused_at_a_stop(held: HeldSite) -> None:
    async with ahead_of(held) as frontier:
        async with working(frontier) as worker:
            done = await claimed_ahead(frontier, held)
            worker.stop()
            await until(frontier, processing=1)  # though one is asked for still
            assert len(held.in_flight) == 1
            held.may_answer.set()
        records = await records_of(frontier)
    assert Counter((record.status, record.attempt) for record in records) == {
        (Status.DONE, 1): done + 1,
        (Status.QUEUED, 1): AHEAD,
        (Status.QUEUED, 0): TOTAL - done - 1 - AHEAD,
    }
    assert {(record.unended, record.tries) for record in records} == {(0, 0)}
    assert len(held.requests) == done + 1


async def test_a_claim_that_has_waited_too_long_is_given_back_unused(held: HeldSite) -> None:
    """Its lease would not last as long as a fetch may, and what is to be done after it."""
    passed = 0.0
    clock = lambda: time.time() + passed  # noqa: E731
    async with ahead_of(held, clock) as frontier:
        async with working(frontier, clock=clock):
            await claimed_ahead(frontier, held)
            passed += OPTIONS.lease_seconds - OPTIONS.lease_needed(FETCH.timeout_seconds) + 1
            held.may_answer.set()
            await until(frontier, done=TOTAL)
        records = await records_of(frontier)
    assert Counter(record.attempt for record in records) == {1: TOTAL - AHEAD, 2: AHEAD}
    assert Counter(held.requests) == {f"/{n}": 1 for n in range(TOTAL)}


async def test_what_no_runner_takes_up_is_given_back_before_its_lease_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """Something may hold all runners for long. No claim runs out, for it would count as one that killed its worker;
    and none is claimed ahead again meanwhile."""
    held, may_go_on, is_held = HeldSite(), asyncio.Event(), asyncio.Event()
    held.may_answer.set()
    fetch = msgspec.structs.replace(FETCH, timeout_seconds=1.0)
    options = msgspec.structs.replace(OPTIONS, lease_seconds=13.5)
    conclude = Visits._conclude

    async def slow(self: Visits, visit: Visit, asked: Asked) -> None:
        await conclude(self, visit, asked)
        if len(held.requests) > AHEAD:
            is_held.set()
            await may_go_on.wait()

    monkeypatch.setattr(Visits, "_conclude", slow)
    async with held.running(), opened() as frontier:
        await produce(frontier, [held.url(str(n)) for n in range(TOTAL)], AT_ONCE, on_refused=print)
        async with working(frontier, options, fetch=fetch), asyncio.timeout(60):
            await is_held.wait()
            await until(frontier, processing=AHEAD)
            done = (await frontier.counts()).by_status[Status.DONE]
            await until(frontier, processing=0)
            records = await records_of(frontier)
            assert Counter((record.status, record.attempt) for record in records) == {
                (Status.DONE, 1): done,
                (Status.QUEUED, 1): AHEAD,
                (Status.QUEUED, 0): TOTAL - done - AHEAD,
            }
            may_go_on.set()
            await until(frontier, done=TOTAL)
        records = await records_of(frontier)
    assert Counter(record.attempt for record in records) == {1: TOTAL - AHEAD, 2: AHEAD}
    assert Counter(held.requests) == {f"/{n}": 1 for n in range(TOTAL)}


async def test_an_order_holds_for_what_is_claimed_ahead(held: HeldSite) -> None:
    passed = 0.0
    clock = lambda: time.time() + passed  # noqa: E731
    async with ahead_of(held, clock) as frontier, working(frontier, clock=clock):
        done = await claimed_ahead(frontier, held)
        (row,) = (await frontier.hosts(["127.0.0.1"])).values()
        assert await frontier.save_hosts([msgspec.structs.replace(row, is_blocked=True)]) == [True]
        passed += PROMPT_SECONDS
        held.may_answer.set()
        await until(frontier, done=done + 1, blocked=TOTAL - done - 1)
    assert len(held.requests) == done + 1


async def test_a_suspect_that_is_claimed_ahead_is_given_back_before_it_waits(
    held: HeldSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else whatever kills the worker before its turn leaves a third claim unended, though it was never alone."""
    passed = 0.0
    clock = lambda: time.time() + passed  # noqa: E731
    suspect = held.url("suspect")
    monkeypatch.setattr(Intake, "_may_be_claimed", lambda intake, message: message.url not in intake._memories.suspects)
    async with opened(clock) as frontier:
        await produce(frontier, [suspect], AT_ONCE, on_refused=print)
        for seconds in (100, 50):  # two have died of it, as it seems
            taking = Taking(limit=1, worker_id="dead", claim_id="0", lease_seconds=60, claims=lambda _: True)
            (taken,) = (await frontier.turn(Ends(), taking)).taken
            assert isinstance(taken.claim, Won)
            passed += seconds
        await produce(frontier, [held.url("a"), held.url("b")], AT_ONCE, on_refused=print)
        async with working(frontier, clock=clock):
            await held.until_in_flight(1)
            await until(frontier, processing=3)
            passed += 15  # it is there again
            held.may_answer.set()
            while "/a" in held.in_flight:
                await asyncio.sleep(0)
            held.may_answer.clear()
            await held.until_in_flight(1)
            while (
                record := (await frontier.get([suspect]))[suspect]
            ).attempt < 3 or record.status is not Status.QUEUED:
                await asyncio.sleep(0.005)
            assert (record.unended, held.in_flight) == (2, ["/b"])
            held.may_answer.set()
            await until(frontier, done=3)


async def test_nothing_is_claimed_beside_one_who_is_alone_or_waits_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a suspect is: what kills its worker would take along whatever is claimed."""
    rng, may_end, gate = random.Random(), asyncio.Event(), Gate()
    async with opened() as frontier:
        await produce(frontier, [f"http://h.test/{n}" for n in range(10)], AT_ONCE, on_refused=print)
        calls = CallDesk(frontier, OPTIONS, rng, asyncio.Event())
        desk, turn = TurnDesk(frontier, calls, OPTIONS, rng, gate), frontier.turn

        async def held_up(ends: Ends, taking: Taking) -> Turned:
            turned = await turn(ends, taking)
            await may_end.wait()
            return turned

        async def claimed() -> int:
            batch = await desk.take(2, Wishes(lambda _: True))
            assert len(batch.taken) == 2
            return sum(isinstance(taken.claim, Won) for taken in batch.taken)

        monkeypatch.setattr(frontier, "turn", held_up)
        first = asyncio.create_task(claimed())
        await asyncio.sleep(0)
        alone = gate.enter(alone=True)
        await asyncio.sleep(0.05)
        assert not alone.done()  # it is not known yet what was claimed
        may_end.set()
        assert await first == 2
        assert not alone.done()
        assert await claimed() == 0  # it waits
        gate.leave()
        gate.leave()
        assert await alone
        assert await claimed() == 0
        gate.leave()
        assert await claimed() == 2
        await desk.close()


async def test_who_waits_to_be_alone_holds_no_runner(pages: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what is claimed beside it, and wants a runner, would never end."""
    ahead = 0.0
    async with opened(lambda: time.time() + ahead) as frontier:
        await produce(frontier, [f"{pages.url}0"], AT_ONCE, on_refused=print)
        for n in range(SUSPECTED_AFTER):
            (delivery,) = await frontier.receive(1)
            message = decode_message(delivery.body)
            assert isinstance(message, Message)
            request = ClaimRequest(delivery=delivery, message=message)
            (won,) = await frontier.claim([request], worker_id="dying", claim_id=str(n), lease_seconds=60)
            assert isinstance(won, Won)
            ahead += 61

        monkeypatch.setattr(TurnDesk, "ahead", property(lambda _: AHEAD, lambda *_: None), raising=False)
        await produce(frontier, [f"{pages.url}{n}" for n in range(1, 20)], AT_ONCE, on_refused=print)
        async with working(frontier, clock=frontier.now), asyncio.timeout(30):
            await until(frontier, done=20)


# Handed in, and not committed.


async def test_links_are_known_only_when_their_page_was_ended(pages: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the frontier is busy just then, the page comes back and brings them once more."""
    failures = 3
    async with opened() as frontier:
        turn = frontier.turn

        async def busy(ends: Ends, taking: Taking) -> Turned:
            nonlocal failures
            if failures and any(finish.links for finish in ends.finishes):
                failures -= 1
                raise FrontierBusyError("locked")
            return await turn(ends, taking)

        monkeypatch.setattr(frontier, "turn", busy)
        await produce(frontier, [f"{pages.url}0"], AT_ONCE, on_refused=print)
        async with working(frontier) as worker, asyncio.timeout(60):
            await until(frontier, done=20)
        records = await records_of(frontier)
    assert failures == 0
    assert worker.tally.finished[Status.DONE] == 20
    assert {(record.unended, record.tries) for record in records} == {(0, 0)}
    assert pages.paths.count("/0") == 4


async def test_a_fault_of_ours_in_an_end_costs_its_urls_a_try_and_ends_no_worker(
    pages: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened() as frontier:
        turn, failures = frontier.turn, 1

        async def faulty(ends: Ends, taking: Taking) -> Turned:
            nonlocal failures
            if failures and ends.finishes:
                failures -= 1
                raise ZeroDivisionError("a fault of ours")
            return await turn(ends, taking)

        monkeypatch.setattr(frontier, "turn", faulty)
        await produce(frontier, [f"{pages.url}0"], AT_ONCE, on_refused=print)
        async with working(frontier), asyncio.timeout(60):
            await until(frontier, done=20)
        records = {record.url: record for record in await records_of(frontier)}
    assert records[f"{pages.url}0"].tries == 1


@pytest.mark.usefixtures("_both_desks")
async def test_a_host_that_does_not_answer_for_robots_txt_keeps_no_other_from_being_taken_in(held: HeldSite) -> None:
    waits = CrawlSettings(delay_seconds=0, scope=Scope.HOST)
    async with opened() as frontier, working(frontier, connections=2), asyncio.timeout(20):
        await produce(frontier, [held.url("a")], waits, on_refused=print)
        await held.until_in_flight(1)
        assert held.in_flight == ["/robots.txt"]
        await produce(frontier, [held.url("b", port=1)], AT_ONCE, on_refused=print)
        await held.until_in_flight(2)
        assert held.in_flight == ["/robots.txt", "/b"]
        held.may_answer.set()


async def test_what_makes_work_impossible_is_raised_though_it_is_met_after_all_have_left(
    pages: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An end that is answered so late is heard of, too."""
    have_left = asyncio.Event()
    close = TurnDesk.close

    async def told(desk: TurnDesk) -> None:
        have_left.set()
        await close(desk)

    monkeypatch.setattr(TurnDesk, "close", told)
    monkeypatch.setattr("sqspider.work.worker.STOP_MARGIN_SECONDS", 0.0)
    async with opened() as frontier:
        await produce(frontier, [pages.url], AT_ONCE, on_refused=print)
        turn = frontier.turn

        async def late(ends: Ends, taking: Taking) -> Turned:
            if ends.finishes:
                worker.stop()
                await have_left.wait()
                raise FrontierError("the table is gone")
            return await turn(ends, taking)

        monkeypatch.setattr(frontier, "turn", late)
        async with Fetcher(msgspec.structs.replace(FETCH, timeout_seconds=0.1), connections=1) as fetcher:
            worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random())
            with pytest.raises(FrontierError, match="the table is gone"):
                await worker.run(Mode.ONCE)


# When what was ended goes.


PATIENT = WorkerOptions(worker_id="tester", concurrency=10, linger_seconds=60.0)


@asynccontextmanager
async def desk_of_turns(options: WorkerOptions, number: int = 2) -> AsyncIterator[tuple[SqliteFrontier, TurnDesk]]:
    async with opened() as frontier:
        await produce(frontier, [f"http://h.test/{n}" for n in range(number)], AT_ONCE, on_refused=print)
        calls = CallDesk(frontier, options, random.Random(), asyncio.Event())
        yield frontier, TurnDesk(frontier, calls, options, random.Random(), Gate())


async def taken_by(desk: TurnDesk, limit: int) -> list[Finish]:
    """Take and claim some, as what would end them."""
    batch = await desk.take(limit, Wishes(lambda _: True))
    outcome = Outcome(status=Status.BLOCKED, reason=Reason.ROBOTS)
    claims = [(taken, taken.claim) for taken in batch.taken if isinstance(taken.claim, Won)]
    return [Finish(claim=claim, delivery=taken.delivery, outcome=outcome) for taken, claim in claims]


async def test_what_was_ended_waits_for_nobody_once_all_that_is_claimed_has_ended() -> None:
    async with desk_of_turns(PATIENT) as (frontier, desk):
        first, last = await taken_by(desk, 2)
        ended = [desk.finish(first)]
        assert (await frontier.counts()).by_status[Status.BLOCKED] == 0  # it is gathered with others
        ended.append(desk.finish(last))
        async with asyncio.timeout(PATIENT.linger_seconds / 2):  # the time to gather is far from over
            assert [await answer for answer in ended] == [True, True]
        await desk.close()


async def test_what_ends_in_the_midst_of_a_turn_goes_with_what_is_taken_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And not by itself: each turn is written to the disk, and keeps other processes from writing."""
    async with desk_of_turns(msgspec.structs.replace(PATIENT, linger_seconds=0.0), 3) as (frontier, desk):
        dones = await taken_by(desk, 1)
        turn, turns, begun, may_end = frontier.turn, list[Ends](), asyncio.Event(), asyncio.Event()

        async def held(ends: Ends, taking: Taking) -> Turned:
            turns.append(ends)
            begun.set()
            await may_end.wait()
            return await turn(ends, taking)

        monkeypatch.setattr(frontier, "turn", held)

        async def take_twice() -> None:
            await taken_by(desk, 1)
            await taken_by(desk, 1)

        taking = asyncio.create_task(take_twice())
        await begun.wait()
        ended = desk.finish(dones[0])
        asyncio.get_running_loop().call_later(0.02, may_end.set)  # by then it would have gone by itself
        await taking
        assert await ended is True
        await desk.close()
    assert [len(ends.finishes) for ends in turns] == [0, 1]


@pytest.mark.parametrize(("asked", "by_calls", "by_turns"), [(None, 10, 40), (3, 3, 3)])
async def test_a_turn_takes_what_there_is_room_for(asked: int | None, by_calls: int, by_turns: int) -> None:
    options = WorkerOptions(worker_id="tester", concurrency=40, batch_size=asked)
    async with desk_of_turns(options) as (frontier, desk):
        calls = CallDesk(frontier, options, random.Random(), asyncio.Event())
        assert (calls.most, desk.most) == (by_calls, by_turns)


async def test_a_host_is_left_with_the_next_turn_and_again_while_the_frontier_is_busy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Else nobody would ask it before the time of that request is over."""
    rng = random.Random()
    async with opened() as frontier:
        entrance = Entrance(host="h.test", token="t", delay_seconds=0.001, per_host=1, generation=0, until=2e9)
        assert [answer.entered for answer in await frontier.enter([entrance])] == [Entered.YES]
        calls = CallDesk(frontier, OPTIONS, rng, asyncio.Event())
        desk, turn, turns = TurnDesk(frontier, calls, OPTIONS, rng, Gate()), frontier.turn, 0

        async def busy_at_first(ends: Ends, taking: Taking) -> Turned:
            nonlocal turns
            turns += 1
            if turns <= 2:
                raise FrontierBusyError("try again")
            return await turn(ends, taking)

        monkeypatch.setattr(frontier, "turn", busy_at_first)
        await desk.leave(Exit(host="h.test", token="t", requested_at=0.0, latency_seconds=None))
        await desk.close()
        again = msgspec.structs.replace(entrance, token="other")
        assert [answer.entered for answer in await frontier.enter([again])] == [Entered.YES]
    assert turns == 3
