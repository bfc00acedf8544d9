"""The life of a record: claimed once, finished once, never lost."""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections import Counter
from pathlib import Path

import pytest

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Deferral, Delivery, Entry, Finish, Frontier, Lost, LostReason, Won
from sqspider.message import Message, encode_message
from sqspider.record import LIFE, Operation, Outcome, Reason, Status

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
    Store,
    all_records,
    assert_counts_are_exact,
    assert_lost,
    claim_all,
    entries,
    finish_one,
    message_of,
    record_of,
    retry_one,
    take,
    take_one,
    try_claim,
    url,
    win,
)
from .racer import RACER_LEASE

CRAWL = CrawlSettings(max_depth=2)
FAR = 7200.0  # longer than SQS can delay a message: the record waits without one

# Claims.


async def test_a_claim_marks_the_record(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    claim = await win(frontier, await take_one(frontier), worker="w", claim="c")
    assert (claim.url, claim.attempt, claim.unended, claim.tries) == (url("a"), 1, 1, 0)
    assert (claim.worker_id, claim.claim_id) == ("w", "c")
    assert claim.lease_until == pytest.approx(store.clock() + LEASE, abs=1)

    record = await record_of(frontier, url("a"))
    assert (record.status, record.attempt, record.unended, record.worker_id) == (Status.PROCESSING, 1, 1, "w")
    assert record.lease_until == claim.lease_until
    assert record.claimed_at == pytest.approx(store.clock(), abs=1)


async def test_a_live_lease_holds(frontier: Frontier, other: Frontier) -> None:
    await frontier.send([url("a")] * 2)
    first, second = await take(frontier, 2)
    claim = await win(frontier, first)
    lost = assert_lost(await try_claim(other, second, worker="two", claim="c2"), LostReason.HELD)
    assert lost.lease_until == claim.lease_until
    assert (await record_of(frontier, url("a"))).attempt == 1


async def test_a_finished_record_cannot_be_claimed(frontier: Frontier, other: Frontier) -> None:
    await frontier.send([url("a")] * 2)
    first, second = await take(frontier, 2)
    await finish_one(frontier, await win(frontier, first), None)
    before = await record_of(frontier, url("a"))
    assert_lost(await try_claim(other, second, worker="two", claim="c2"), LostReason.FINISHED)
    assert await record_of(frontier, url("a")) == before


async def test_an_own_claim_whose_answer_was_lost_is_won_again(frontier: Frontier, store: Store) -> None:
    await frontier.send([url("a")])
    delivery = await take_one(frontier)
    first = await win(frontier, delivery, worker="w", claim="c")
    await store.elapse(0.1)
    assert await win(frontier, delivery, worker="w", claim="c") == first  # its lease, too, is what the record says
    # Neither another claim of the same worker nor the same claim id of another is mine.
    assert_lost(await try_claim(frontier, delivery, worker="w", claim="d"), LostReason.HELD)
    assert_lost(await try_claim(frontier, delivery, worker="v", claim="c"), LostReason.HELD)


async def test_a_message_without_a_record_makes_one(frontier: Frontier) -> None:
    settings = CrawlSettings(max_depth=2)
    await frontier.send([url("a"), encode_message(Message(url=url("b"), depth=1, parent=url("a"), settings=settings))])
    answers = await claim_all(frontier, await take(frontier, 2))
    assert all(isinstance(answer, Won) for answer in answers)
    record = await record_of(frontier, url("b"))
    assert (record.depth, record.parent) == (1, url("a"))
    await assert_counts_are_exact(frontier)


async def test_two_deliveries_of_one_url_in_a_batch_win_once(frontier: Frontier) -> None:
    await frontier.send([url("a"), url("b"), url("a")])
    answers = await claim_all(frontier, await take(frontier, 3))
    won = Counter(answer.url for answer in answers if isinstance(answer, Won))
    assert won == {url("a"): 1, url("b"): 1}
    assert [answer.why for answer in answers if isinstance(answer, Lost)] == [LostReason.HELD]


async def test_answers_keep_the_order_of_a_mixed_batch(frontier: Frontier, other: Frontier) -> None:
    await frontier.enqueue(entries(10))
    deliveries = sorted(await take(frontier, 10), key=lambda d: message_of(d).url)
    await claim_all(other, deliveries[:3], worker="two", claim="x")
    for delivery in deliveries[3:6]:
        await finish_one(other, await win(other, delivery, worker="two", claim="y"), None)
    answers = await claim_all(frontier, deliveries)
    assert [answer.url for answer in answers] == [message_of(d).url for d in deliveries]
    kinds = [answer.why if isinstance(answer, Lost) else "won" for answer in answers]
    assert kinds == ["held"] * 3 + ["finished"] * 3 + ["won"] * 4


async def test_after_the_lease_anybody_may_claim_with_the_next_attempt(
    frontier: Frontier, other: Frontier, store: Store
) -> None:
    await frontier.send([url("a")])
    await win(frontier, await take_one(frontier))
    await store.elapse(max(LEASE, VISIBILITY) + A_LITTLE)
    claim = await win(other, await take_one(other), worker="two", claim="c2")
    assert (claim.attempt, claim.unended, claim.worker_id) == (2, 2, "two")


async def test_claims_that_nobody_ended_are_counted_until_one_is_ended(frontier: Frontier, store: Store) -> None:
    await frontier.send([url("a")])
    for number in range(1, 3):
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery, claim=f"c{number}")
        assert (claim.attempt, claim.unended) == (number, number)
        await store.elapse(max(LEASE, VISIBILITY) + A_LITTLE)
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery, claim="c3")
    assert await retry_one(frontier, claim, delivery, at=store.clock())
    claim = await win(frontier, await take_one(frontier), claim="c4")
    assert (claim.attempt, claim.unended) == (4, 1)


# Ends.


@pytest.mark.parametrize("outcome", [DONE, GONE, FORBIDDEN, TROUBLE])
async def test_a_finish_ends_record_and_message(frontier: Frontier, store: Store, outcome: Outcome) -> None:
    await frontier.send([url("a")])
    delivery = await take_one(frontier)
    assert await finish_one(frontier, await win(frontier, delivery), delivery, outcome)

    record = await record_of(frontier, url("a"))
    assert (record.status, record.outcome) == (outcome.status, outcome)
    assert (record.lease_until, record.due_at, record.unended) == (None, None, 0)
    assert record.finished_at == pytest.approx(store.clock(), abs=5)
    await store.elapse(VISIBILITY + A_LITTLE)
    assert await frontier.receive(10) == []
    await assert_counts_are_exact(frontier)


async def test_a_stale_claim_cannot_finish(frontier: Frontier, other: Frontier, store: Store) -> None:
    await frontier.send([url("a")])
    stale_delivery = await take_one(frontier)
    stale = await win(frontier, stale_delivery)
    await store.elapse(max(LEASE, VISIBILITY) + A_LITTLE)
    delivery = await take_one(other)
    claim = await win(other, delivery, worker="two", claim="c2", lease=60)
    before = await record_of(frontier, url("a"))

    assert not await finish_one(frontier, stale, stale_delivery, GONE, links=(Entry(url=url("link")),))

    assert await record_of(frontier, url("a")) == before
    assert await finish_one(other, claim, delivery, DONE)
    assert not await finish_one(frontier, stale, stale_delivery, GONE)
    assert (await record_of(frontier, url("a"))).outcome == DONE
    await assert_counts_are_exact(frontier, other)


async def test_a_stale_claim_cannot_be_given_back(frontier: Frontier, other: Frontier, store: Store) -> None:
    await frontier.send([url("a")])
    stale_delivery = await take_one(frontier)
    stale = await win(frontier, stale_delivery)
    await store.elapse(max(LEASE, VISIBILITY) + A_LITTLE)
    await win(other, await take_one(other), worker="two", claim="c2", lease=60)
    before = await record_of(frontier, url("a"))
    assert not await retry_one(frontier, stale, stale_delivery, at=store.clock(), tried=True, outcome=TROUBLE)
    assert await record_of(frontier, url("a")) == before
    assert await frontier.receive(10) == []


async def test_a_finish_happens_once(frontier: Frontier) -> None:
    await frontier.send([url("a")])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    answers = await asyncio.gather(*(finish_one(frontier, claim, delivery, outcome) for outcome in (DONE, GONE)))
    assert sorted(answers) == [False, True]
    expected = DONE if answers[0] else GONE
    assert (await record_of(frontier, url("a"))).outcome == expected
    await assert_counts_are_exact(frontier)


async def test_a_batch_of_finishes_ends_what_it_may(frontier: Frontier) -> None:
    await frontier.enqueue(entries(6))
    deliveries = await take(frontier, 6)
    claims = [c for c in await claim_all(frontier, deliveries) if isinstance(c, Won)]
    await finish_one(frontier, claims[2], None, GONE)
    finishes = [Finish(claim=c, delivery=d, outcome=DONE) for c, d in zip(claims, deliveries, strict=True)]
    assert await frontier.finish(finishes) == [True, True, False, True, True, True]
    await assert_counts_are_exact(frontier)


async def test_links_are_recorded_and_queued_once(frontier: Frontier) -> None:
    await frontier.enqueue(entries(2))
    deliveries = await take(frontier, 2)
    claims = [c for c in await claim_all(frontier, deliveries) if isinstance(c, Won)]
    links = tuple(
        Entry(url=url(name), depth=1, parent=claims[0].url) for name in ["x", "y", "x", 0]
    )  # one twice, one known
    finishes = [Finish(claim=c, delivery=d, outcome=DONE, links=links) for c, d in zip(claims, deliveries, strict=True)]
    assert await frontier.finish(finishes) == [True, True]

    found = await take(frontier, 2)
    assert {message_of(d).url for d in found} == {url("x"), url("y")}
    assert await frontier.receive(10) == []
    record = await record_of(frontier, url("x"))
    assert (record.depth, record.parent, record.status) == (1, claims[0].url, Status.QUEUED)
    await assert_counts_are_exact(frontier)


async def test_a_page_with_thousands_of_links_is_finished(frontier: Frontier) -> None:
    await frontier.send([url("hub")])
    delivery = await take_one(frontier)
    links = tuple(entries(1500))
    assert await finish_one(frontier, await win(frontier, delivery, lease=60), delivery, DONE, links)
    assert (await frontier.counts()).by_status[Status.QUEUED] == len(links)
    assert len({message_of(d).url for d in await take(frontier, 300)}) == 300


async def test_a_retry_comes_back_at_its_time(frontier: Frontier, store: Store) -> None:
    await frontier.send([url("a")])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    assert await retry_one(frontier, claim, delivery, at=store.clock() + 2, tried=True, outcome=TROUBLE)
    record = await record_of(frontier, url("a"))
    assert (record.status, record.tries, record.unended, record.lease_until) == (Status.QUEUED, 1, 0, 0.0)
    assert record.outcome == TROUBLE
    assert await frontier.receive(10) == []

    await store.elapse(2 + A_LITTLE)

    back = await take_one(frontier)
    assert back.receive_count == 1
    assert (await win(frontier, back, claim="c2")).tries == 1
    await assert_counts_are_exact(frontier)


async def test_a_retry_without_a_moment_comes_back_at_once(frontier: Frontier, store: Store) -> None:
    await frontier.send([url("a")])
    delivery = await take_one(frontier)
    assert await retry_one(frontier, await win(frontier, delivery), delivery, at=float("nan"))
    due_at = (await record_of(frontier, url("a"))).due_at
    assert due_at == pytest.approx(store.clock() + DUE, abs=5)
    await take_one(frontier)


async def test_a_claim_that_is_given_back_with_a_stale_delivery_brings_its_url_back_once(
    frontier: Frontier, other: Frontier, store: Store
) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    stale = await take_one(frontier)
    claim = await win(frontier, stale, lease=60)
    await store.elapse(VISIBILITY + A_LITTLE)
    in_vain = await take_one(other)
    assert_lost(await try_claim(other, in_vain, worker="two", claim="c2"), LostReason.HELD)
    assert await retry_one(frontier, claim, stale, at=store.clock())
    await other.defer([Deferral(delivery=in_vain, until=store.clock())])
    delivery = await take_one(frontier)
    assert await frontier.receive(10) == []
    assert await finish_one(frontier, await win(frontier, delivery, claim="c3"), delivery)
    await store.elapse(VISIBILITY + A_LITTLE)
    assert await frontier.receive(10) == []
    await assert_counts_are_exact(frontier, other)


async def test_giving_back_uses_up_nothing(frontier: Frontier, store: Store) -> None:
    await frontier.send([url("a")])
    for number in range(1, MAX_RECEIVES + 3):
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery, claim=f"c{number}")
        assert (claim.attempt, claim.unended, claim.tries, delivery.receive_count) == (number, 1, 0, 1)
        assert await retry_one(frontier, claim, delivery, at=store.clock())


async def test_a_finish_without_its_delivery_leaves_the_message(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    assert await finish_one(frontier, await win(frontier, await take_one(frontier)), None)
    await store.elapse(VISIBILITY + A_LITTLE)
    assert_lost(await try_claim(frontier, await take_one(frontier), claim="c2"), LostReason.FINISHED)


@pytest.mark.parametrize("way", ["retry", "defer", "defer unrecorded"])
async def test_what_waits_for_hours_comes_back_once_at_its_time(frontier: Frontier, store: Store, way: str) -> None:
    message = Message(url=url("a"), depth=1, settings=CRAWL, slot=store.clock() + FAR)
    if way == "defer unrecorded":
        await frontier.send([url("a")])
    else:
        await frontier.enqueue([Entry(url=url("a"), depth=1, settings=CRAWL)])
    delivery = await take_one(frontier)
    if way == "retry":
        claim = await win(frontier, delivery)
        assert await retry_one(frontier, claim, delivery, at=store.clock() + FAR, tried=True, outcome=TROUBLE)
    else:
        await frontier.defer([Deferral(delivery=delivery, until=store.clock() + FAR, message=message)])

    for _ in range(6):
        await store.elapse(FAR / 8)
        await frontier.sweep()
        assert await frontier.receive(10) == []
    await store.elapse(FAR / 4 - 20)
    await frontier.sweep()
    assert await frontier.receive(10) == []
    await store.elapse(20 + A_LITTLE)
    await frontier.sweep()
    again = await take_one(frontier)
    assert again.receive_count == 1
    assert message_of(again).url == url("a")
    if way != "retry":
        assert message_of(again) == message
    assert await frontier.receive(10) == []
    claim = await win(frontier, again, claim="c2")
    assert await finish_one(frontier, claim, again)
    await store.elapse(FAR)
    assert await frontier.sweep() == 0


async def test_a_far_deferral_of_a_url_that_another_works_on_loses_nothing(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    await frontier.send([url("a")])
    first, second = await take(frontier, 2)
    claim = await win(frontier, first)
    await frontier.defer([Deferral(delivery=second, until=store.clock() + FAR)])
    assert await finish_one(frontier, claim, first)
    record = await record_of(frontier, url("a"))
    await store.elapse(FAR + A_LITTLE)
    await frontier.sweep()
    for delivery in await frontier.receive(10):
        assert_lost(await try_claim(frontier, delivery, claim="c2"), LostReason.FINISHED)
    assert await record_of(frontier, url("a")) == record


# Nothing is lost: sweeps.


async def test_a_record_without_a_message_is_swept_back(frontier: Frontier, other: Frontier, store: Store) -> None:
    await frontier.enqueue(entries(3))
    await frontier.purge_queue()  # as by hand: the records stay
    assert await frontier.sweep() == 0  # not due yet
    await store.elapse(DUE + A_LITTLE)
    assert await frontier.sweep() == 3
    assert await other.sweep() == 0
    due = [record.due_at for record in (await all_records(frontier)).values()]
    assert all(due_at is not None and due_at > store.clock() for due_at in due)
    assert {message_of(d).url for d in await take(frontier, 3)} == {url(0), url(1), url(2)}
    assert await frontier.receive(10) == []


async def test_two_sweeps_at_once_send_one_message(frontier: Frontier, other: Frontier, store: Store) -> None:
    await frontier.enqueue(entries(20))
    await frontier.purge_queue()
    await store.elapse(DUE + A_LITTLE)
    swept = await asyncio.gather(frontier.sweep(), other.sweep(), frontier.sweep(), other.sweep())
    assert sum(swept) == 20
    await take(frontier, 20)
    assert await frontier.receive(10) == []


async def test_a_claim_whose_worker_died_without_a_message_is_swept_back(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    await win(frontier, delivery)
    await frontier.delete([delivery])
    await store.elapse(LEASE + DUE + A_LITTLE)
    assert await frontier.sweep() == 1
    assert (await win(frontier, await take_one(frontier), claim="c2")).attempt == 2


async def test_a_sweep_steals_nothing_that_is_being_worked_on(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery, lease=60)
    await frontier.purge_queue()
    await store.elapse(DUE + A_LITTLE)
    assert await frontier.sweep() == 0
    assert await frontier.receive(10) == []
    assert await finish_one(frontier, claim, delivery)


async def test_a_backlog_is_not_sent_twice(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue(entries(30))
    await store.elapse(DUE + A_LITTLE)
    assert await frontier.sweep() == 0
    await take(frontier, 30)
    assert await frontier.receive(10) == []


async def test_a_finished_record_is_never_swept(frontier: Frontier, store: Store) -> None:
    await frontier.send([url("a")])
    delivery = await take_one(frontier)
    await finish_one(frontier, await win(frontier, delivery), delivery)
    await store.elapse(DUE + A_LITTLE)
    assert await frontier.sweep() == 0


async def test_a_sweep_keeps_to_its_limit(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue(entries(12))
    await frontier.purge_queue()
    await store.elapse(DUE + A_LITTLE)
    assert await frontier.sweep(limit=5) == 5
    await take(frontier, 5)
    assert await frontier.receive(10) == []


# Histories.

STEPS = (
    "receive", "claim", "finish", "retry", "defer", "delete", "enqueue", "send", "sweep", "elapse", "die", "reopen",
)  # fmt: skip


def moves_of(step: str) -> set[tuple[Status | None, Status]]:
    """What one step of a history may make of a record: by its own operation, and a finish records links."""
    operations = {"send": ["enqueue"], "finish": ["finish", "enqueue"]}.get(step, [step])
    tables = [LIFE[Operation(name)] for name in operations if name in set(Operation)]
    return {(before, after) for table in tables for before, afters in table.items() for after in afters}


@pytest.mark.parametrize("seed", range(4))
async def test_any_history_ends_with_every_url_finished_once(
    frontier: Frontier, other: Frontier, store: Store, seed: int
) -> None:
    """A random walk through the port: whoever dies between any two steps, all is finished once a visit, and no record
    becomes anything but what the table of its life says."""
    rng = random.Random(seed)  # a failure replays from its seed
    known: set[str] = set()
    finished: Counter[str] = Counter()
    reopened: Counter[str] = Counter()
    held: list[Delivery] = []
    claims: list[tuple[Won, Delivery]] = []
    number = 0
    lease = LEASE

    async def step(name: str, handle: Frontier) -> None:
        nonlocal number
        number += 1
        match name:
            case "enqueue":
                batch = [Entry(url=url(rng.randrange(40))) for _ in range(rng.randrange(1, 6))]
                known.update(entry.url for entry in batch)
                await handle.enqueue(batch)
            case "send":
                body = url(rng.randrange(40))
                known.add(body)
                await handle.send([body])
                # A bare message is all there is of its URL until it is claimed.
                await handle.enqueue([Entry(url=body)])
            case "receive":
                held.extend(await handle.receive(rng.randrange(1, 11)))
            case "claim" if held:
                some = [held.pop(rng.randrange(len(held))) for _ in range(min(len(held), rng.randrange(1, 6)))]
                answers = await claim_all(handle, some, worker=f"w{number}", claim=f"c{number}", lease=lease)
                for answer, delivery in zip(answers, some, strict=True):
                    if isinstance(answer, Won):
                        claims.append((answer, delivery))
                    elif answer.why is LostReason.FINISHED:
                        await handle.delete([delivery])
                    else:
                        # Not for as long as nobody dies any more: while a message waits, AWS sweeps nothing back.
                        until = min(answer.lease_until, store.clock() + LEASE)
                        await handle.defer([Deferral(delivery=delivery, until=until)])
            case "finish" if claims:
                claim, delivery = claims.pop(rng.randrange(len(claims)))
                links = tuple(Entry(url=url(rng.randrange(60)), depth=1) for _ in range(rng.randrange(3)))
                outcome = rng.choice((DONE, GONE, FORBIDDEN, TROUBLE))
                if await finish_one(handle, claim, delivery, outcome, links):
                    finished[claim.url] += 1
                    known.update(link.url for link in links)
            case "retry" if claims:
                claim, delivery = claims.pop(rng.randrange(len(claims)))
                await retry_one(handle, claim, delivery, at=store.clock() + rng.random(), tried=rng.random() < 0.5)
            case "defer" if held:
                delivery = held.pop(rng.randrange(len(held)))
                await handle.defer([Deferral(delivery=delivery, until=store.clock() + rng.random())])
            case "reopen":
                asked = [url(rng.randrange(60)) for _ in range(8)]
                done = await handle.reopen(asked)
                reopened.update(name for name, is_done in zip(asked, done, strict=True) if is_done)
            case "sweep":
                await handle.sweep()
            case "elapse":
                await store.elapse(rng.choice((0.01, 0.1, VISIBILITY)) if rng.random() < 0.3 else 0.01)
            case "die":  # whatever is in hand is forgotten
                if rng.random() < 0.2:
                    held.clear()
                    claims.clear()
            case _:
                pass

    was: dict[str, Status] = {}
    for _ in range(150):
        name = rng.choice(STEPS)
        await step(name, rng.choice((frontier, other)))
        now = {record.url: record.status for record in (await frontier.get(sorted(known))).values()}
        changed = {(was.get(name), status) for name, status in now.items() if was.get(name) is not status}
        assert changed <= moves_of(name), name
        was = now
    held.clear()
    claims.clear()
    rounds = 0
    lease = 600.0  # nobody dies any more, however long a busy machine takes from claim to finish
    while (await frontier.counts()).open:
        rounds += 1
        assert rounds < 40, "the queue should drain when the trouble ends"
        await store.elapse(max(VISIBILITY, LEASE, DUE) + A_LITTLE)
        await frontier.sweep()
        for _ in range(30):
            await step("receive", frontier)
            await step("claim", frontier)
            while claims:
                await step("finish", frontier)

    records = await all_records(frontier)
    assert records.keys() == known
    assert finished == {name: 1 + reopened[name] for name in known}
    assert {name: record.visit for name, record in records.items()} == {name: reopened[name] for name in known}
    assert all(record.status.is_final for record in records.values())
    await assert_counts_are_exact(frontier, other)


# Races of processes.

RACERS = 4
RACE_URLS = 60


async def _start_racer(store: Store, name: str, folder: Path) -> asyncio.subprocess.Process:
    if not store.address:
        pytest.skip("this engine lives in one process alone")
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.frontier.racer"),
        *(store.address, name, folder / f"{name}.log", str(store.clock())),
        env=store.environment,
    )


async def test_of_many_processes_one_wins_each_url(frontier: Frontier, store: Store, tmp_path: Path) -> None:
    urls = [url(i) for i in range(RACE_URLS)]
    await frontier.send([u for u in urls for _ in range(RACERS)])
    racers = [await _start_racer(store, f"racer-{i}", tmp_path) for i in range(RACERS)]
    assert [await racer.wait() for racer in racers] == [0] * RACERS

    lines = [line.split() for i in range(RACERS) for line in (tmp_path / f"racer-{i}.log").read_text().splitlines()]
    assert Counter(line[1] for line in lines if line[0] == "WON") == dict.fromkeys(urls, 1)
    assert {line[0] for line in lines} <= {"WON", "LOST", "FINISHED"}
    assert Counter(line[1] for line in lines if line[0] == "FINISHED") == dict.fromkeys(urls, 1)
    assert all(r.attempt == 1 and r.status is Status.DONE for r in (await all_records(frontier)).values())
    await assert_counts_are_exact(frontier, exact=True)


async def test_processes_that_are_killed_lose_nothing(frontier: Frontier, store: Store, tmp_path: Path) -> None:
    urls = [url(i) for i in range(RACE_URLS)]
    await frontier.enqueue([Entry(url=u) for u in urls])
    rng = random.Random(5)
    for number in range(3):
        racer = await _start_racer(store, f"victim-{number}", tmp_path)
        log = tmp_path / f"victim-{number}.log"
        wanted = rng.randrange(1, 12)
        while not log.exists() or log.read_text().count("WON") < wanted:
            await asyncio.sleep(0.005)
            assert racer.returncode is None
        racer.kill()
        assert await racer.wait() == -signal.SIGKILL
    rounds = 0
    while (await frontier.counts()).open:
        rounds += 1
        assert rounds < 10
        await store.elapse(RACER_LEASE + DUE + A_LITTLE)
        await frontier.sweep()
        while deliveries := await frontier.receive(10):
            for delivery in deliveries:
                claim = await try_claim(frontier, delivery, worker="rescuer", claim=f"c{rounds}", lease=60)
                if isinstance(claim, Won):
                    assert await finish_one(frontier, claim, delivery)
                elif claim.why is LostReason.FINISHED:
                    await frontier.delete([delivery])

    records = await all_records(frontier)
    assert records.keys() == set(urls)
    assert all(record.status is Status.DONE for record in records.values())
    await assert_counts_are_exact(frontier, exact=True)


async def test_a_crashed_record_is_what_the_reason_says(frontier: Frontier) -> None:
    """The worker finishes what killed its workers; the port takes it as any outcome."""
    await frontier.send([url("a")])
    delivery = await take_one(frontier)
    crashed = Outcome(status=Status.FAILED, reason=Reason.CRASHED, detail="3 claims in a row were not ended")
    assert await finish_one(frontier, await win(frontier, delivery), delivery, crashed)
    assert (await frontier.counts()).by_reason == {Reason.CRASHED: 1}
