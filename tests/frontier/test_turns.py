"""Turns: what a worker has ended and what it takes next, in one step. For engines that have them."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import msgspec
import pytest

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import (
    ClaimRequest,
    Deferral,
    Ends,
    Entered,
    Entrance,
    Entry,
    Exit,
    Finish,
    Frontier,
    Lost,
    LostReason,
    Retry,
    Taken,
    Taking,
    Turned,
    TurningFrontier,
    Won,
    no_passage,
)
from sqspider.frontier.answers import MOST_LOOKED_AT
from sqspider.host import HostRow, HostState, Passage, Passed, passed
from sqspider.message import BadBody, Message, decode_message, encode_message
from sqspider.record import Outcome, Status
from sqspider.url import host_of

from .dying_turn import KILLED
from .kit import (
    A_LITTLE,
    DONE,
    DUE,
    FORBIDDEN,
    GONE,
    LEASE,
    MAX_RECEIVES,
    TROUBLE,
    VISIBILITY,
    InMemoryStore,
    SqliteStore,
    Store,
    all_records,
    assert_counts_are_exact,
    assert_lost,
    entries,
    finish_one,
    message_of,
    record_of,
    take,
    take_one,
    url,
    win,
)

HOST: Final = "example.com"


def everything(_: Message) -> bool:
    return True


def nothing(_: Message) -> bool:
    return False


def taking(
    limit: int = 10,
    *,
    claims: Callable[[Message], bool] = everything,
    worker: str = "one",
    claim: str = "t1",
    lease: float = LEASE,
    passes: Callable[[Message, HostRow], Passage | None] = no_passage,
) -> Taking:
    return Taking(limit=limit, worker_id=worker, claim_id=claim, lease_seconds=lease, claims=claims, passes=passes)


def claims_of(turned: Turned) -> list[Won]:
    return [each.claim for each in turned.taken if isinstance(each.claim, Won)]


ENGINES: Final = ("memory", "sqlite")


def made(engine: str, folder: Path) -> Store:
    return InMemoryStore() if engine == "memory" else SqliteStore(folder)


@pytest.fixture(params=ENGINES)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    store = made(request.param, tmp_path)
    yield store
    await store.close()


@pytest.fixture
async def frontier(store: Store) -> TurningFrontier:
    return await turning(store)


@pytest.fixture
async def other(store: Store) -> TurningFrontier:
    return await turning(store)


async def turning(store: Store) -> TurningFrontier:
    handle = await store.open()
    assert handle.traits.has_turns  # or no worker would make any
    return cast(TurningFrontier, handle)


# What is taken.


async def test_a_turn_takes_reads_and_claims(frontier: TurningFrontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"), settings=CrawlSettings(max_depth=3), depth=1, parent=url("p"))])
    turned = await frontier.turn(Ends(), taking(claim="t7", worker="w"))
    assert (turned.finished, turned.retried) == ([], [])
    [taken] = turned.taken
    assert taken.message == message_of(taken.delivery)
    assert taken.message == Message(url=url("a"), settings=CrawlSettings(max_depth=3), depth=1, parent=url("p"))
    assert (taken.delivery.receive_count, taken.delivery.is_finished) == (1, False)
    assert isinstance(taken.claim, Won)
    assert (taken.claim.url, taken.claim.attempt, taken.claim.unended, taken.claim.tries) == (url("a"), 1, 1, 0)
    assert (taken.claim.worker_id, taken.claim.claim_id) == ("w", "t7")
    assert taken.claim.lease_until == store.clock() + LEASE
    record = await record_of(frontier, url("a"))
    assert (record.status, record.claim_id, record.lease_until) == (Status.PROCESSING, "t7", taken.claim.lease_until)
    assert await finish_one(frontier, taken.claim, taken.delivery)
    assert (await frontier.queue_stats()).is_empty
    await assert_counts_are_exact(frontier)


async def test_a_turn_claims_only_what_it_shall(frontier: TurningFrontier, other: Frontier) -> None:
    await frontier.enqueue(entries(4))
    wanted = {url(1), url(3)}
    asked: list[str] = []

    def is_wanted(message: Message) -> bool:
        asked.append(message.url)
        return message.url in wanted

    turned = await frontier.turn(Ends(), taking(claims=is_wanted))
    assert sorted(asked) == [url(i) for i in range(4)]  # each once
    assert {claim.url for claim in claims_of(turned)} == wanted
    left = [each for each in turned.taken if each.claim is None]
    assert {message_of(each.delivery).url for each in left} == {url(0), url(2)}
    for each in left:  # it is in hand, and anybody's to claim
        assert (await record_of(frontier, message_of(each.delivery).url)).status is Status.QUEUED
        await win(other, each.delivery, worker="two", claim="c")


async def test_a_turn_takes_no_more_than_its_limit_and_waits_for_nothing(frontier: TurningFrontier) -> None:
    await frontier.enqueue(entries(5))
    taken = [len((await frontier.turn(Ends(), taking(limit, claim=str(limit)))).taken) for limit in (2, 0, 10, 10)]
    assert taken == [2, 0, 3, 0]


async def test_a_turn_that_takes_nothing_ends_what_was_done(frontier: TurningFrontier, store: Store) -> None:
    await frontier.enqueue(entries(4))
    first = await frontier.turn(Ends(), taking())
    (done, again, late, gone), won = [each.delivery for each in first.taken], claims_of(first)
    ends = Ends(
        finishes=[Finish(claim=won[0], delivery=done, outcome=DONE, links=(Entry(url=url("link")),))],
        retries=[Retry(claim=won[1], delivery=again, at=store.clock() + 1, tried=True, outcome=TROUBLE)],
        deferrals=[Deferral(delivery=late, until=store.clock() + 5)],
        deletions=[gone],
    )
    turned = await frontier.turn(ends, taking(0, claims=nothing, claim="t2"))
    assert turned == Turned(finished=[True], retried=[True], taken=[], hosts={})
    assert (await record_of(frontier, won[0].url)).status is Status.DONE
    back = await record_of(frontier, won[1].url)
    assert (back.status, back.tries, back.outcome) == (Status.QUEUED, 1, TROUBLE)
    stats = await frontier.queue_stats()
    assert (stats.visible, stats.in_flight, stats.delayed) == (1, 0, 2)  # the link, and what was put off
    assert message_of(await take_one(frontier)).url == url("link")
    await assert_counts_are_exact(frontier)


async def test_what_a_turn_ends_can_be_taken_by_it(frontier: TurningFrontier, store: Store) -> None:
    await frontier.enqueue(entries(3))
    first = await frontier.turn(Ends(), taking())
    deliveries, won = [each.delivery for each in first.taken], claims_of(first)
    ends = Ends(
        finishes=[Finish(claim=won[0], delivery=deliveries[0], outcome=DONE, links=(Entry(url=url("link"), depth=1),))],
        retries=[Retry(claim=won[1], delivery=deliveries[1], at=store.clock(), tried=False, is_unused=True)],
        deferrals=[Deferral(delivery=deliveries[2], until=0)],
    )
    turned = await frontier.turn(ends, taking(claim="t2"))
    assert {message_of(each.delivery).url for each in turned.taken} == {url("link"), won[1].url, won[2].url}
    assert all(each.delivery.receive_count == 1 for each in turned.taken)
    answers = {each.claim.url: each.claim for each in turned.taken if each.claim is not None}
    again = answers[won[1].url]
    assert isinstance(again, Won)
    assert (again.attempt, again.unended) == (2, 1)
    assert_lost(answers[won[2].url], LostReason.HELD)  # its claim was not ended, only its delivery
    await assert_counts_are_exact(frontier)


async def test_a_message_that_a_turn_puts_off_says_what_it_was_given(frontier: TurningFrontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    slot = msgspec.structs.replace(message_of(delivery), slot=store.clock() + 1.5, generation=4)
    await frontier.turn(Ends(deferrals=[Deferral(delivery=delivery, until=store.clock(), message=slot)]), taking(0))
    [taken] = (await frontier.turn(Ends(), taking(claims=nothing))).taken
    assert taken.message == slot


# Fences.


async def test_a_claim_that_is_over_is_not_ended_by_a_turn(
    frontier: TurningFrontier, other: Frontier, store: Store
) -> None:
    await frontier.enqueue(entries(2))
    first = await frontier.turn(Ends(), taking())
    await store.elapse(max(LEASE, VISIBILITY) + A_LITTLE)
    later = {message_of(d).url: (await win(other, d, worker="two", claim="c2"), d) for d in await take(other, 2)}
    (one, two), claims = [each.delivery for each in first.taken], claims_of(first)
    ends = Ends(
        finishes=[Finish(claim=claims[0], delivery=one, outcome=DONE, links=(Entry(url=url("no")),))],
        retries=[Retry(claim=claims[1], delivery=two, at=store.clock(), tried=True)],
        deletions=[one, two],  # stale: nothing changes
        deferrals=[Deferral(delivery=two, until=store.clock())],
    )
    turned = await frontier.turn(ends, taking(claim="t2"))
    assert (turned.finished, turned.retried, turned.taken) == ([False], [False], [])
    records = await all_records(frontier)
    assert {name: record.worker_id for name, record in records.items()} == {url(0): "two", url(1): "two"}
    for claim, delivery in later.values():
        assert await finish_one(other, claim, delivery)
    assert (await frontier.queue_stats()).is_empty


async def test_a_claim_is_ended_once_in_a_turn(frontier: TurningFrontier, store: Store) -> None:
    await frontier.enqueue(entries(2))
    first = await frontier.turn(Ends(), taking())
    (one, two), (a, b) = [each.delivery for each in first.taken], claims_of(first)
    ends = Ends(
        finishes=[Finish(claim=a, delivery=one, outcome=DONE), Finish(claim=a, delivery=one, outcome=GONE)],
        retries=[
            Retry(claim=a, delivery=one, at=store.clock(), tried=True),
            Retry(claim=b, delivery=two, at=store.clock(), tried=True),
            Retry(claim=b, delivery=two, at=store.clock(), tried=True),
        ],
    )
    turned = await frontier.turn(ends, taking(0))
    assert (turned.finished, turned.retried) == ([True, False], [False, True, False])
    assert (await record_of(frontier, a.url)).status is Status.DONE
    assert (await record_of(frontier, b.url)).tries == 1
    await assert_counts_are_exact(frontier)


async def test_what_a_turn_puts_off_it_does_not_delete(frontier: TurningFrontier) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    await frontier.turn(Ends(deferrals=[Deferral(delivery=delivery, until=0)], deletions=[delivery]), taking(0))
    assert message_of(await take_one(frontier)).url == url("a")


# Equals, finished ones, foreign bodies.


async def test_of_equals_in_a_turn_the_first_wins(frontier: TurningFrontier) -> None:
    await frontier.send([url("a"), url("b"), url("a"), url("a")])
    turned = await frontier.turn(Ends(), taking())
    answers = [each.claim for each in turned.taken if message_of(each.delivery).url == url("a")]
    assert isinstance(answers[0], Won)
    assert [assert_lost(cast(Lost, answer), LostReason.HELD).lease_until for answer in answers[1:]] == [
        answers[0].lease_until
    ] * 2
    assert {claim.url for claim in claims_of(turned)} == {url("a"), url("b")}


async def test_what_is_finished_is_said_to_be(frontier: TurningFrontier, store: Store) -> None:
    await frontier.send([url("a")] * 2)
    first, _ = await take(frontier, 2)
    assert await finish_one(frontier, await win(frontier, first), None)
    await store.elapse(VISIBILITY + A_LITTLE)
    turned = await frontier.turn(Ends(), taking())
    assert [each.delivery.is_finished for each in turned.taken] == [True] * 2
    for each in turned.taken:
        assert_lost(cast(Lost, each.claim), LostReason.FINISHED)
    await frontier.turn(Ends(deletions=[each.delivery for each in turned.taken]), taking(0))
    assert (await frontier.queue_stats()).is_empty


async def test_foreign_bodies_are_taken_and_left_to_die(frontier: TurningFrontier, store: Store) -> None:
    bodies = ["", "mailto:me@example.com", '{"url": 1}', "x" * 300_000]
    await frontier.send([*bodies, url("good")])

    def claims(message: Message) -> bool:
        assert message.url == url("good"), "only what is well-formed is asked about"
        return True

    for number in range(1, MAX_RECEIVES + 1):
        turned = await frontier.turn(Ends(), taking(claims=claims, claim=f"t{number}"))
        bad = [each for each in turned.taken if isinstance(each.message, BadBody)]
        assert sorted(each.delivery.body for each in bad) == sorted(bodies)
        assert [each.claim for each in bad] == [None] * len(bodies)
        assert {each.message for each in bad} == {decode_message(body) for body in bodies}
        assert {each.delivery.receive_count for each in bad} == {number}
        assert set(turned.hosts) <= {HOST}
        if number == 1:
            [good] = [each for each in turned.taken if each.claim is not None]
            assert isinstance(good.claim, Won)
            assert await finish_one(frontier, good.claim, good.delivery)
        await store.elapse(VISIBILITY + A_LITTLE)
    assert (await frontier.turn(Ends(), taking(claims=claims, claim="last"))).taken == []
    assert sorted(letter.body for letter in await frontier.dead_letters()) == sorted(bodies)
    assert (await frontier.queue_stats()).dead == len(bodies)


async def test_what_died_hides_nothing_from_a_turn(frontier: TurningFrontier, store: Store) -> None:
    await frontier.send(["no url"] * 15)
    for _ in range(MAX_RECEIVES):
        await take(frontier, 15)
        await store.elapse(VISIBILITY + A_LITTLE)
    await frontier.send([url("a")])
    assert [each.delivery.body for each in (await frontier.turn(Ends(), taking(2))).taken] == [url("a")]
    assert (await frontier.queue_stats()).dead == 15


# Hosts, and the generation.


async def test_the_rows_of_hosts_are_those_of_the_turns_end(frontier: TurningFrontier) -> None:
    row = HostRow(host="b.example", delay_seconds=7.0, is_paused=True)
    assert await frontier.save_hosts([row]) == [True]
    await frontier.enqueue([Entry(url=url("a", "a.example"))])
    [first] = (await frontier.turn(Ends(), taking(1))).taken
    assert isinstance(first.claim, Won)
    await frontier.enqueue([Entry(url=url("b", "b.example"))])
    finish = Finish(claim=first.claim, delivery=first.delivery, outcome=DONE)
    await frontier.enqueue([Entry(url=url("c", "a.example"))])
    turned = await frontier.turn(Ends(finishes=[finish]), taking())
    assert turned.hosts.keys() == {"a.example", "b.example"}
    assert (turned.hosts["a.example"].done, turned.hosts["a.example"].bytes) == (1, DONE.bytes)  # its own end is there
    assert (turned.hosts["b.example"].delay_seconds, turned.hosts["b.example"].is_paused) == (7.0, True)
    assert turned.hosts == await frontier.hosts(list(turned.hosts))


async def test_a_turn_tells_of_a_clearing(frontier: TurningFrontier, other: TurningFrontier) -> None:
    await other.turn(Ends(), taking())
    before = other.generation
    await frontier.clear_table()
    assert other.generation == before
    await other.turn(Ends(), taking(0))
    assert other.generation > before


# Hosts that are entered along with what is taken.


def passing(
    store: Store, *, delay: float = 1.0, spacing: float = 1.05, late: float = 15.0, request: float = 30.0
) -> Callable[[Message, HostRow], Passage]:
    def passes(_: Message, __: HostRow) -> Passage:
        return Passage(delay_seconds=delay, spacing_seconds=spacing, late_seconds=late, until=store.clock() + request)

    return passes


def end_of(taken: Taken, requested_at: float) -> Exit:
    assert taken.token is not None
    assert isinstance(taken.message, Message)
    host = host_of(taken.message.url)
    return Exit(host=host, token=taken.token, requested_at=requested_at, latency_seconds=None)


def wish(store: Store, taken: Taken, token: str = "other") -> Entrance:
    """To enter the host of what was taken as well."""
    assert isinstance(taken.message, Message)
    return Entrance(
        host=host_of(taken.message.url), token=token, delay_seconds=1.0, per_host=1,
        generation=taken.message.generation, until=store.clock() + 60,
    )  # fmt: skip


async def test_of_each_host_one_url_comes_and_its_host_is_entered_for_it(
    frontier: TurningFrontier, other: TurningFrontier, store: Store
) -> None:
    """The others wait in the queue for their slots, and were never delivered."""
    now = store.clock()
    await frontier.enqueue([*entries(3, host="a.example"), *entries(2, host="b.example")])
    turned = await frontier.turn(Ends(), taking(passes=passing(store), claims=nothing))
    assert [each.message for each in turned.taken] == [
        Message(url=url(0, host), slot=now, generation=0) for host in ("a.example", "b.example")
    ]
    assert turned.put_off == 3
    assert {claim.url for claim in claims_of(turned)} == {url(0, "a.example"), url(0, "b.example")}
    assert len({each.token for each in turned.taken} - {None}) == 2
    stats = await frontier.queue_stats()
    assert (stats.visible, stats.in_flight, stats.delayed) == (0, 2, 3)
    row = turned.hosts["a.example"]
    assert (row.last_request, row.slot_spacing_seconds) == (now, 1.05)
    assert row.next_slot == pytest.approx(now + 3 * 1.05)
    assert turned.hosts == await other.hosts(list(turned.hosts))
    [busy] = await other.enter([wish(store, turned.taken[0])])
    assert busy.entered is Entered.BUSY
    assert (await other.turn(Ends(), taking(passes=passing(store)))).taken == []
    await assert_counts_are_exact(frontier)


async def test_a_host_is_asked_again_after_its_delay_and_by_one_alone(
    frontier: TurningFrontier, other: TurningFrontier, store: Store
) -> None:
    await frontier.enqueue(entries(3))
    passes = passing(store)
    [first] = (await frontier.turn(Ends(), taking(passes=passes))).taken
    await store.elapse(1.05)
    turned = await other.turn(Ends(), taking(passes=passes))  # its slot is there, but the host is being asked
    assert (turned.taken, turned.put_off) == ([], 1)
    left_at = store.clock()
    await frontier.turn(Ends(exits=[end_of(first, left_at)]), taking(0))
    await store.elapse(0.9)
    assert (await other.turn(Ends(), taking(passes=passes))).taken == []
    await store.elapse(0.1 + A_LITTLE)
    [second] = (await other.turn(Ends(), taking(passes=passes, claim="t2"))).taken
    assert isinstance(second.claim, Won)
    assert isinstance(second.message, Message)
    assert second.delivery.receive_count == 1
    assert (await other.hosts([HOST]))[HOST].last_request == store.clock() >= left_at + 1


async def test_what_is_ended_lets_the_next_one_enter_in_the_same_turn(frontier: TurningFrontier, store: Store) -> None:
    await frontier.enqueue(entries(2))
    [first] = (await frontier.turn(Ends(), taking(passes=passing(store)))).taken
    asked_at = store.clock()
    await store.elapse(1.5)
    ends = Ends(exits=[end_of(first, asked_at)])
    [second] = (await frontier.turn(ends, taking(passes=passing(store), claim="t2"))).taken
    assert isinstance(second.claim, Won)
    assert second.token is not None


async def test_who_loses_a_claim_leaves_the_host(frontier: TurningFrontier, other: Frontier, store: Store) -> None:
    await frontier.enqueue(entries(1))
    held = await win(other, await take_one(other), worker="two", lease=60)
    await store.elapse(VISIBILITY + A_LITTLE)
    [taken] = (await frontier.turn(Ends(), taking(passes=passing(store)))).taken
    assert_lost(cast(Lost, taken.claim), LostReason.HELD)
    assert taken.token is None
    await store.elapse(1)
    [admission] = await other.enter([wish(store, taken)])
    assert admission.entered is Entered.YES  # nobody is there, and the delay is over
    assert held.url == url(0)


async def test_what_died_holds_no_host(frontier: TurningFrontier, other: Frontier, store: Store) -> None:
    await frontier.enqueue(entries(1))
    for _ in range(MAX_RECEIVES):
        await take_one(frontier)
        await store.elapse(VISIBILITY + A_LITTLE)
    assert (await frontier.turn(Ends(), taking(passes=passing(store)))).taken == []
    assert (await frontier.queue_stats()).dead == 1
    await store.elapse(1)
    entrance = Entrance(host=HOST, token="t", delay_seconds=1, per_host=1, generation=None, until=store.clock() + 60)
    assert [answer.entered for answer in await other.enter([entrance])] == [Entered.YES]


async def test_what_was_put_off_keeps_its_slot_whoever_takes_it(
    frontier: TurningFrontier, other: Frontier, store: Store
) -> None:
    now = store.clock()
    await frontier.enqueue(entries(2))
    turned = await frontier.turn(Ends(), taking(passes=passing(store)))
    assert turned.put_off == 1
    assert await other.receive(10) == []
    await store.elapse(1.05 + A_LITTLE)
    delivery = await take_one(other)
    assert message_of(delivery) == Message(url=url(1), slot=now + 1.05, generation=0)
    assert delivery.receive_count == 1


async def test_a_message_that_needs_no_passage_comes_as_ever(frontier: TurningFrontier, store: Store) -> None:
    """It is asked of each by its host's row; of what is finished, or is no record's, there is nothing to ask."""
    await frontier.save_hosts([HostRow(host="slow.example", delay_seconds=7.0)])
    await frontier.enqueue([*entries(2, host="slow.example"), *entries(2, host="quick.example")])
    asked: list[tuple[str, float | None]] = []

    def passes(message: Message, row: HostRow) -> Passage | None:
        asked.append((message.url, row.delay_seconds))
        return None if row.delay_seconds is None else passing(store)(message, row)

    turned = await frontier.turn(Ends(), taking(passes=passes, claims=lambda message: message.url.endswith("1")))
    assert sorted(asked) == [
        *((url(i, "quick.example"), None) for i in (0, 1)),
        *((url(i, "slow.example"), 7.0) for i in (0, 1)),
    ]
    found = {message_of(each.delivery).url: each for each in turned.taken}
    assert found.keys() == {url(0, "slow.example"), *(url(i, "quick.example") for i in (0, 1))}
    assert [found[url(i, "quick.example")].claim is not None for i in (0, 1)] == [False, True]
    assert all(found[url(i, "quick.example")].token is None for i in (0, 1))


async def test_a_turn_looks_at_so_many_that_wait_and_no_more(frontier: TurningFrontier, store: Store) -> None:
    """A host of ten thousand URLs keeps nobody from writing for long, and none from being found behind it."""
    await frontier.enqueue([*entries(3 * MOST_LOOKED_AT), Entry(url=url("behind", "b.example"))])
    counts = []
    for number in range(4):
        turned = await frontier.turn(Ends(), taking(passes=passing(store), claim=f"t{number}"))
        assert turned.put_off <= MOST_LOOKED_AT + 10
        counts.append(len(turned.taken))
    assert counts == [1, 0, 0, 1] or sum(counts) == 2
    assert (await frontier.queue_stats()).delayed == 3 * MOST_LOOKED_AT - 1


async def test_a_passage_that_breaks_a_turn_leaves_no_trace(frontier: TurningFrontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url(i, f"h{i % 2}.example")) for i in range(6)])
    before = await seen(frontier)
    asked = 0

    def breaks(message: Message, row: HostRow) -> Passage:
        nonlocal asked
        asked += 1
        if asked == 5:
            raise BrokenError(message.url)
        return passing(store)(message, row)

    with pytest.raises(BrokenError):
        await frontier.turn(Ends(), taking(passes=breaks))
    assert await seen(frontier) == before
    assert len((await frontier.turn(Ends(), taking(passes=passing(store)))).taken) == 2


async def test_a_wait_ends_when_something_is_visible(frontier: TurningFrontier) -> None:
    waiting = asyncio.create_task(frontier.wait(600))
    await asyncio.sleep(0)
    await frontier.enqueue(entries(1))
    await waiting
    await frontier.wait(600)  # it is still there: nothing was taken
    assert len(await take(frontier, 1)) == 1
    await frontier.wait(0.01)  # nothing comes, and that is all


async def test_a_wait_ends_when_the_last_message_is_gone(frontier: TurningFrontier) -> None:
    """By then whoever waits may end, too."""
    await frontier.enqueue(entries(2))
    first, last = (await frontier.turn(Ends(), taking())).taken
    waiting = asyncio.create_task(frontier.wait(600))
    await asyncio.sleep(0)  # its first look comes before what is asked for from now on
    for taken in (first, last):
        assert not waiting.done()
        assert isinstance(taken.claim, Won)
        end = Finish(claim=taken.claim, delivery=taken.delivery, outcome=Outcome(status=Status.DONE))
        await frontier.turn(Ends(finishes=[end]), taking(limit=0))
    await waiting


# How a turn of a host is passed: the rule itself.


PASSAGE: Final = Passage(delay_seconds=1.0, spacing_seconds=1.05, late_seconds=15.0, until=1e9)


def test_who_cannot_enter_before_the_next_slot_gets_one_at_the_end_of_the_line() -> None:
    now = 1000.0
    state = HostState(row=HostRow(host=HOST, last_request=now - 0.2, next_slot=now + 40.0))
    soon, found = passed(state, PASSAGE, (now - 0.1, 0), "t", now)
    assert found == Passed(now - 0.1, 0, now + 0.8)  # it keeps its slot, and waits for the delay
    assert soon is state
    late, found = passed(state, PASSAGE, (now - 5.0, 0), "t", now)
    assert found == Passed(now + 40.0, 0, now + 40.0)
    assert late.row.next_slot == now + 41.05


@pytest.mark.parametrize("slot", [None, (990.0, 3), (1000.0 - 15.1, 4), (1010.0, 3)])
def test_a_slot_that_is_not_good_is_reserved_anew(slot: tuple[float, int] | None) -> None:
    now = 1000.0
    state = HostState(row=HostRow(host=HOST, generation=4, next_slot=now + 2.0))
    after, found = passed(state, PASSAGE, slot, "t", now)
    assert found == Passed(now + 2.0, 4, now + 2.0)
    assert after.row.next_slot == now + 3.05
    assert after.requests == {}


# All or nothing.


async def seen(frontier: Frontier) -> dict[str, Any]:
    """All that a frontier tells of its state."""
    stats = await frontier.queue_stats()
    rows = {
        row.host: msgspec.structs.replace(row, busy_seconds=round(row.busy_seconds, 6))
        for row in await frontier.scan_hosts()
    }
    return {
        "records": await all_records(frontier),
        "counts": await frontier.counts(),
        "stats": stats,
        "dead": [letter.body for letter in await frontier.dead_letters()],
        "hosts": rows,
    }


async def drained(frontier: Frontier, store: Store) -> list[tuple[str, int, bool]]:
    """What is delivered, as time passes, and how often it was before."""
    found = await frontier.receive(100)
    await store.elapse(1 + A_LITTLE)  # less than the visibility timeout
    found += await frontier.receive(100)
    return sorted((d.body, d.receive_count, d.is_finished) for d in found)


class BrokenError(Exception):
    """What the claims of a turn raise."""


async def test_a_turn_that_fails_has_not_happened(frontier: TurningFrontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url(i, f"h{i % 3}.example"), redirects=5) for i in range(12)])
    deliveries = await take(frontier, 8)
    await frontier.send(["no url", url("sent", "h0.example"), url(0, "h0.example")])
    claims = [await win(frontier, d, claim=f"c{i}") for i, d in enumerate(deliveries[:6])]
    await frontier.defer([Deferral(delivery=deliveries[6], until=store.clock() + 1)])
    pairs = list(zip(claims, deliveries, strict=False))
    new = Entry(url=url("new", "new.example"))
    shorter = Entry(url=url(11, "h2.example"), redirects=1)
    ends = Ends(
        finishes=[
            Finish(claim=c, delivery=d, outcome=o, links=(new, shorter))
            for (c, d), o in zip(pairs[:3], (DONE, GONE, FORBIDDEN), strict=True)
        ],
        retries=[Retry(claim=c, delivery=d, at=store.clock(), tried=True, outcome=TROUBLE) for c, d in pairs[3:5]],
        deferrals=[
            Deferral(delivery=deliveries[7], until=store.clock() + 1, message=message_of(deliveries[7])),
        ],
        deletions=[deliveries[5]],
    )
    before = await seen(frontier)
    asked = 0

    def breaks(message: Message) -> bool:
        nonlocal asked
        asked += 1
        if asked == 4:
            raise BrokenError(message.url)
        return True

    with pytest.raises(BrokenError):
        await frontier.turn(ends, taking(100, claims=breaks))
    assert await seen(frontier) == before
    turned = await frontier.turn(ends, taking(0))  # no receipt and no claim was used up
    assert (turned.finished, turned.retried) == ([True] * 3, [True] * 2)
    await assert_counts_are_exact(frontier)
    found = await drained(frontier, store)
    assert all(count == 1 for _, count, _ in found)  # nothing was received by the turn that failed
    bodies = [body for body, _, _ in found]
    assert "no url" in bodies
    assert len(bodies) == len(set(bodies))


async def test_a_turn_whose_process_is_killed_has_not_happened(
    frontier: TurningFrontier, store: Store, tmp_path: Path
) -> None:
    if not store.address:
        pytest.skip("this engine lives in one process alone")
    await frontier.enqueue(entries(5))
    [taken, *_] = (await frontier.turn(Ends(), taking(1))).taken
    assert isinstance(taken.claim, Won)
    before = await seen(frontier)
    handed = tmp_path / "handed"
    handed.write_bytes(msgspec.msgpack.encode((store.address, store.clock(), taken.claim, taken.delivery)))
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.frontier.dying_turn", str(handed))
    assert await child.wait() == KILLED
    assert await seen(frontier) == before
    assert await finish_one(frontier, taken.claim, taken.delivery)
    assert {delivery.receive_count for delivery in await take(frontier, 4)} == {1}


# As the calls, one after the other.


async def turn_by_calls(frontier: Frontier, ends: Ends, taking: Taking) -> Turned:
    """What a turn does, by the calls that it stands for."""
    finished, retried = await frontier.finish(ends.finishes), await frontier.retry(ends.retries)
    await frontier.defer(ends.deferrals)
    await frontier.delete(ends.deletions)
    deliveries = await frontier.receive(taking.limit) if taking.limit else []
    read = [(delivery, decode_message(delivery.body)) for delivery in deliveries]
    wanted = [(d, m) for d, m in read if isinstance(m, Message) and taking.claims(m)]
    answers = await frontier.claim(
        [ClaimRequest(delivery=d, message=m) for d, m in wanted],
        worker_id=taking.worker_id,
        claim_id=taking.claim_id,
        lease_seconds=taking.lease_seconds,
    )
    claims = {d.receipt + d.message_id: answer for (d, _), answer in zip(wanted, answers, strict=True)}
    hosts = [host_of(m.url) for _, m in read if isinstance(m, Message)]
    return Turned(
        finished=finished,
        retried=retried,
        taken=[Taken(delivery=d, message=m, claim=claims.get(d.receipt + d.message_id)) for d, m in read],
        hosts=await frontier.hosts(list(dict.fromkeys(hosts))),
    )


Turn = Callable[[Frontier, Ends, Taking], Any]


async def by_turn(frontier: Frontier, ends: Ends, taking: Taking) -> Turned:
    return await cast(TurningFrontier, frontier).turn(ends, taking)


class History:
    """A random history of workers, from its seed alone: the same ends, the same takings, whatever runs them."""

    def __init__(self, seed: int, store: Store, turn: Turn) -> None:
        self._rng = random.Random(seed)
        self._store, self._turn = store, turn
        self._hands: list[Taken] = []
        self.answers: list[Turned] = []

    async def play(self, steps: int) -> Frontier:
        rng = self._rng
        handles = [await self._store.open() for _ in range(2)]
        await handles[0].enqueue([Entry(url=self._url(), redirects=rng.randrange(4)) for _ in range(10)])
        for number in range(steps):
            handle = rng.choice(handles)
            if rng.random() < 0.3:
                sent = [self._url(), "no url", encode_message(Message(url=self._url(), redirects=rng.randrange(4)))]
                await handle.send([rng.choice(sent)])
            if rng.random() < 0.2:
                await self._store.elapse(rng.choice([0.1, VISIBILITY, DUE]) + A_LITTLE)
                await handle.sweep()
            odd = rng.random() < 0.5
            some = taking(
                rng.choice([0, 1, 3, 10]),
                claims=partial(is_odd, odd=odd),
                worker=f"w{number}",
                claim=f"t{number}",
            )
            turned = await self._turn(handle, self._ends(), some)
            self._hands += turned.taken
            self.answers.append(turned)
        return handles[0]

    def _url(self) -> str:
        number = self._rng.randrange(40)
        return url(number, f"h{number % 3}.example")

    def _ends(self) -> Ends:
        """Of what is in hand some is ended, in one way or another, some twice; some is forgotten."""
        rng, now = self._rng, self._store.clock()
        finishes, retries, deferrals, deletions = [], [], [], []
        for each in [
            self._hands.pop(rng.randrange(len(self._hands))) for _ in range(rng.randrange(len(self._hands) + 1))
        ]:
            if rng.random() < 0.25:
                self._hands.append(each)
            way, until = rng.randrange(5), now + rng.choice([-1.0, 0.0, 0.5, VISIBILITY])
            if isinstance(each.claim, Won) and way < 2:
                links = tuple(
                    Entry(url=self._url(), depth=1, redirects=rng.randrange(4)) for _ in range(rng.randrange(3))
                )
                delivery = None if rng.random() < 0.1 else each.delivery
                outcome = rng.choice((DONE, GONE, FORBIDDEN, TROUBLE))
                finishes.append(Finish(claim=each.claim, delivery=delivery, outcome=outcome, links=links))
            elif isinstance(each.claim, Won) and way < 4:
                retries.append(
                    Retry(
                        claim=each.claim,
                        delivery=each.delivery,
                        at=until,
                        tried=rng.random() < 0.5,
                        outcome=rng.choice([None, TROUBLE]),
                        is_unused=rng.random() < 0.5,
                    )
                )
            elif isinstance(each.claim, Lost) and each.claim.why is LostReason.FINISHED:
                deletions.append(each.delivery)
            elif isinstance(each.message, Message):
                slot = msgspec.structs.replace(each.message, slot=until if until > 0 else None, generation=way)
                deferrals.append(Deferral(delivery=each.delivery, until=until, message=rng.choice([None, slot])))
        return Ends(finishes=finishes, retries=retries, deferrals=deferrals, deletions=deletions)


def is_odd(message: Message, odd: bool) -> bool:
    """The same in every process."""
    return sum(message.url.encode()) % 2 == odd


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("engine", ENGINES)
async def test_a_history_by_turns_is_the_same_by_calls(
    engine: str, seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    played = []
    for turn in (by_turn, turn_by_calls):
        store = made(engine, tmp_path_factory.mktemp("history"))
        await turning(store)
        history = History(seed, store, turn)
        frontier = await history.play(90)
        told = [(t.finished, t.retried, [without_receipt(each) for each in t.taken], t.hosts) for t in history.answers]
        played.append((told, await seen(frontier), await drained(frontier, store)))
        await store.close()
    (told, last, left), (told_by_calls, last_by_calls, left_by_calls) = played
    for number, (one, two) in enumerate(zip(told, told_by_calls, strict=True)):
        assert one == two, number
    assert last == last_by_calls
    assert left == left_by_calls
    assert sum(len(taken) for _, _, taken, _ in told) > 40
    assert any(False in [*finished, *retried] for finished, retried, _, _ in told)  # fences were met


def without_receipt(taken: Taken) -> Taken:
    """Receipts are an engine's own, and so are the ids of messages."""
    return msgspec.structs.replace(taken, delivery=msgspec.structs.replace(taken.delivery, receipt="", message_id=""))
