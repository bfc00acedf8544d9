"""URL records: a claim is won by one, ended by its holder alone, and given up only by time."""

from __future__ import annotations

import asyncio

import pytest

from sqspider.frontier import ClaimRequest, Deferral, Entry, Finish, Frontier, LostReason, Retry, Won
from sqspider.message import CrawlSettings, Message, encode_message
from sqspider.record import Outcome, Status
from sqspider.url import Scope

from .kit import (
    A_LITTLE,
    DONE,
    DUE,
    FORBIDDEN,
    GONE,
    LEASE,
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

CRAWL = CrawlSettings(scope=Scope.HOST, seed=url("seed"), max_depth=3)
FAR = 3 * 3600.0  # no message waits so long on SQS: the record is parked


async def test_a_claim_marks_its_record(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    claim = await win(frontier, await take_one(frontier), worker="w", claim="c")
    assert (claim.url, claim.attempt, claim.unended, claim.tries) == (url("a"), 1, 1, 0)
    assert claim.lease_until == pytest.approx(store.clock() + LEASE, abs=1)

    record = await record_of(frontier, url("a"))
    assert (record.status, record.attempt, record.unended) == (Status.PROCESSING, 1, 1)
    assert (record.worker_id, record.claim_id, record.lease_until) == ("w", "c", claim.lease_until)
    assert record.claimed_at == pytest.approx(store.clock(), abs=1)
    await assert_counts_are_exact(frontier)


async def test_of_many_that_claim_at_once_one_wins(frontier: Frontier, other: Frontier, store: Store) -> None:
    await frontier.enqueue(entries(30))
    deliveries = await take(frontier, 30)
    third = await store.open()
    answers = await asyncio.gather(
        *(
            claim_all(handle, deliveries, worker=worker, claim=f"{worker}-1")
            for handle, worker in ((frontier, "a"), (other, "b"), (third, "c"))
        )
    )
    for of_one_url in zip(*answers, strict=True):
        assert sum(isinstance(answer, Won) for answer in of_one_url) == 1
        for answer in of_one_url:
            if not isinstance(answer, Won):
                assert assert_lost(answer, LostReason.HELD).lease_until > store.clock()


async def test_a_lost_claim_says_why(frontier: Frontier) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    held = assert_lost(await try_claim(frontier, delivery, worker="two", claim="c2"), LostReason.HELD)
    assert held.lease_until == claim.lease_until
    assert await finish_one(frontier, claim, delivery)
    assert_lost(await try_claim(frontier, delivery, worker="two", claim="c3"), LostReason.FINISHED)


async def test_an_own_claim_is_won_again(frontier: Frontier, other: Frontier) -> None:
    """As when its answer was lost on the way."""
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    assert await win(other, delivery) == await win(frontier, delivery)


async def test_of_two_requests_for_a_url_in_a_batch_the_first_wins(frontier: Frontier) -> None:
    await frontier.send([url("a"), url("b"), url("a")])
    by_body = sorted(await take(frontier, 3), key=lambda delivery: delivery.body)
    first, second, third = await claim_all(frontier, by_body)
    assert isinstance(first, Won)
    assert assert_lost(second, LostReason.HELD).lease_until == first.lease_until
    assert isinstance(third, Won)
    assert await claim_all(frontier, []) == []


async def test_a_message_whose_url_has_no_record_is_a_way_in(frontier: Frontier, other: Frontier) -> None:
    body = encode_message(Message(url=url("b"), depth=2, parent=url("p"), settings=CRAWL, lastmod=5.0))
    await frontier.send([url("a"), body])
    deliveries = await take(frontier, 2)
    answers = await asyncio.gather(
        claim_all(frontier, deliveries, claim="c1"), claim_all(other, deliveries, claim="c2")
    )
    assert [sum(isinstance(answer, Won) for answer in pair) for pair in zip(*answers, strict=True)] == [1, 1]
    record = await record_of(frontier, url("b"))
    assert (record.depth, record.parent, record.lastmod, record.host) == (2, url("p"), 5.0, "example.com")
    await assert_counts_are_exact(frontier)


async def test_a_claim_after_the_lease_wins_with_the_next_attempt(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    for attempt in range(1, 4):
        claim = await win(frontier, delivery, worker=f"w{attempt}", claim=f"c{attempt}")
        assert (claim.attempt, claim.unended) == (attempt, attempt)
        await store.elapse(LEASE + A_LITTLE)
    await assert_counts_are_exact(frontier)


@pytest.mark.parametrize("outcome", [DONE, GONE, FORBIDDEN])
async def test_a_finish_is_final(frontier: Frontier, store: Store, outcome: Outcome) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    assert await finish_one(frontier, claim, delivery, outcome)

    record = await record_of(frontier, url("a"))
    assert (record.status, record.outcome) == (outcome.status, outcome)
    assert (record.lease_until, record.due_at, record.unended) == (None, None, 0)
    assert record.finished_at == pytest.approx(store.clock(), abs=1)
    await assert_counts_are_exact(frontier)

    assert not await finish_one(frontier, claim, delivery, GONE)
    assert not await retry_one(frontier, claim, delivery, at=store.clock())
    await store.elapse(max(VISIBILITY, DUE, LEASE) + A_LITTLE)
    assert await frontier.sweep() == 0
    assert await frontier.receive(10) == []
    assert await record_of(frontier, url("a")) == record


async def test_a_stale_claim_cannot_end_anything(frontier: Frontier, other: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    old_delivery = await take_one(frontier)
    old = await win(frontier, old_delivery, worker="slow", claim="c1")
    await store.elapse(max(LEASE, VISIBILITY) + A_LITTLE)
    delivery = await take_one(other)
    new = await win(other, delivery, worker="quick", claim="c2")

    link = Entry(url=url("link"))
    assert not await finish_one(frontier, old, old_delivery, links=(link,))
    assert not await retry_one(frontier, old, old_delivery, at=store.clock())
    assert set(await all_records(frontier)) == {url("a")}

    assert await finish_one(other, new, delivery)
    assert (await record_of(frontier, url("a"))).worker_id == "quick"


async def test_a_finish_in_a_batch_with_a_stale_one_is_made(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue(entries(2))
    deliveries = sorted(await take(frontier, 2), key=lambda d: d.body)
    stale = await win(frontier, deliveries[0], claim="c1")
    await store.elapse(max(LEASE, VISIBILITY) + A_LITTLE)
    deliveries = sorted(await take(frontier, 2), key=lambda d: message_of(d).url)
    await win(frontier, deliveries[0], claim="c2")
    good = await win(frontier, deliveries[1], claim="c3")
    answers = await frontier.finish(
        [
            Finish(claim=stale, delivery=deliveries[0], outcome=DONE, links=(Entry(url=url("lost")),)),
            Finish(claim=good, delivery=deliveries[1], outcome=DONE, links=(Entry(url=url("kept")),)),
        ]
    )
    assert answers == [False, True]
    assert url("kept") in await all_records(frontier)
    assert url("lost") not in await all_records(frontier)


async def test_links_are_recorded_once_and_queued(frontier: Frontier) -> None:
    await frontier.enqueue(entries(2))
    deliveries = await take(frontier, 2)
    claims = [await win(frontier, delivery) for delivery in deliveries]
    links = tuple(Entry(url=url(f"link{i}"), depth=1, parent=url(0), settings=CRAWL) for i in range(60))
    links += (Entry(url=url(0)), Entry(url=url(1)))
    answers = await frontier.finish(
        [
            Finish(claim=claim, delivery=delivery, outcome=DONE, links=links)
            for claim, delivery in zip(claims, deliveries, strict=True)
        ]
    )
    assert answers == [True, True]
    found = await take(frontier, 60)
    assert sorted(message_of(d).url for d in found) == sorted(link.url for link in links[:60])
    assert {(message_of(d).depth, message_of(d).settings) for d in found} == {(1, CRAWL)}
    assert await frontier.receive(10) == []
    await assert_counts_are_exact(frontier)


async def test_a_finish_without_its_delivery_leaves_the_message(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    assert await finish_one(frontier, await win(frontier, await take_one(frontier)), None)
    await store.elapse(VISIBILITY + A_LITTLE)
    assert_lost(await try_claim(frontier, await take_one(frontier), claim="c2"), LostReason.FINISHED)


@pytest.mark.parametrize("tried", [True, False])
async def test_a_retry_gives_the_url_back(frontier: Frontier, store: Store, tried: bool) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    outcome = TROUBLE if tried else None
    assert await retry_one(frontier, claim, delivery, at=store.clock() + 2, tried=tried, outcome=outcome)

    record = await record_of(frontier, url("a"))
    assert (record.status, record.unended, record.tries, record.lease_until) == (Status.QUEUED, 0, int(tried), 0)
    assert record.outcome == outcome
    await assert_counts_are_exact(frontier)
    assert not await retry_one(frontier, claim, delivery, at=store.clock())
    assert not await finish_one(frontier, claim, delivery)
    assert await frontier.receive(10) == []

    await store.elapse(2 + A_LITTLE)
    again = await take_one(frontier)
    assert again.receive_count == 1
    claim = await win(frontier, again, claim="c2")
    assert (claim.attempt, claim.unended, claim.tries) == (2, 1, int(tried))


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


async def test_sweep_brings_back_what_was_purged(frontier: Frontier, other: Frontier, store: Store) -> None:
    await frontier.enqueue(entries(30, settings=CRAWL))
    claimed = await take_one(frontier)
    claim = await win(frontier, claimed, lease=DUE + 2)
    await frontier.purge_queue()
    assert await frontier.sweep() == 0  # not yet due

    await store.elapse(DUE + A_LITTLE)
    released = await asyncio.gather(frontier.sweep(), other.sweep())
    # The one that is being worked on has a lease: its holder will end it.
    found = await take(frontier, 29)
    assert sum(released) == 29
    assert message_of(claimed).url not in {message_of(d).url for d in found}
    assert {message_of(d).settings for d in found} == {CRAWL}
    assert await frontier.sweep() == 0
    assert await finish_one(frontier, claim, claimed)


async def test_sweep_brings_back_what_a_dead_worker_had_claimed(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    await win(frontier, await take_one(frontier))
    await frontier.purge_queue()
    await store.elapse(LEASE + DUE + A_LITTLE)
    assert await frontier.sweep() == 1
    assert (await win(frontier, await take_one(frontier), claim="c2")).attempt == 2


async def test_sweep_sends_no_copy_of_what_waits_its_turn(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue(entries(20))
    await store.elapse(DUE + A_LITTLE)
    assert await frontier.sweep() == 0
    await take(frontier, 20)
    assert await frontier.receive(10) == []


async def test_sweep_takes_no_more_than_its_limit(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue(entries(5))
    await frontier.purge_queue()
    await store.elapse(DUE + A_LITTLE)
    assert await frontier.sweep(limit=2) == 2


async def test_one_retry_of_a_batch_may_be_stale(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue(entries(2))
    deliveries = await take(frontier, 2)
    claims = [await win(frontier, delivery) for delivery in deliveries]
    assert await finish_one(frontier, claims[0], deliveries[0])
    retries = [
        Retry(claim=claim, delivery=delivery, at=store.clock(), tried=True, outcome=TROUBLE)
        for claim, delivery in zip(claims, deliveries, strict=True)
    ]
    assert await frontier.retry(retries) == [False, True]
    assert message_of(await take_one(frontier)).url == claims[1].url
    assert await frontier.receive(10) == []


async def test_get_and_scan_find_what_there_is(frontier: Frontier) -> None:
    await frontier.enqueue(entries(150) + entries(3, host="other.example"))
    deliveries = await take(frontier, 12)
    answers = await frontier.claim(
        [ClaimRequest(delivery=d, message=message_of(d)) for d in deliveries],
        worker_id="w",
        claim_id="c",
        lease_seconds=60,
    )
    assert all(isinstance(answer, Won) for answer in answers)
    names = [url(i) for i in range(150)]
    assert set(await frontier.get([*names, url("unknown")])) == set(names)
    assert len(await all_records(frontier)) == 153
    found = [r async for batch in frontier.scan(status=Status.PROCESSING) for r in batch]
    assert {record.url for record in found} == {message_of(d).url for d in deliveries}
    found = [r async for batch in frontier.scan(host="other.example") for r in batch]
    assert {record.url for record in found} == {url(i, "other.example") for i in range(3)}


async def test_sums_of_two_workers_agree_with_a_scan(frontier: Frontier, other: Frontier, store: Store) -> None:
    await frontier.enqueue(entries(9))
    deliveries = await take(frontier, 9)
    for i, (delivery, outcome) in enumerate(zip(deliveries, [DONE, GONE, FORBIDDEN] * 3, strict=True)):
        handle = (frontier, other)[i % 2]
        claim = await win(handle, delivery, claim=f"c{i}")
        if i < 7:
            assert await finish_one(handle, claim, delivery, outcome)
        elif i < 8:
            assert await retry_one(handle, claim, delivery, at=store.clock())
    await other.counts()  # writes what it has gathered
    await assert_counts_are_exact(frontier)
    assert (await frontier.counts()).open == 2
    assert (await frontier.counts()).total == 9


async def test_queue_stats_tell_kinds_apart(frontier: Frontier, store: Store) -> None:
    assert (await frontier.queue_stats()).is_empty
    await frontier.enqueue(entries(5))
    first, second, _ = await take(frontier, 3)
    await frontier.defer([Deferral(delivery=first, until=store.clock() + 60)])
    stats = await frontier.queue_stats()
    assert (stats.visible, stats.in_flight, stats.delayed, stats.dead) == (2, 2, 1, 0)
    await frontier.delete([second])
    assert (await frontier.queue_stats()).in_flight == 1
