"""The queue: messages are hidden while somebody has them, come back, wait, and die."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Deferral, Entry, Frontier
from sqspider.message import Message, encode_message
from sqspider.record import Status
from sqspider.url import Scope

from .kit import (
    A_LITTLE,
    DONE,
    MAX_RECEIVES,
    VISIBILITY,
    Store,
    all_records,
    entries,
    finish_one,
    message_of,
    record_of,
    take,
    take_one,
    url,
    win,
)

CRAWL = CrawlSettings(scope=Scope.HOST, seed=url("seed"), max_depth=3, delay_seconds=0.0)


async def test_a_new_url_gets_a_record_and_one_message(frontier: Frontier, store: Store) -> None:
    entry = Entry(url=url("a"), depth=2, parent=url("p"), settings=CRAWL, lastmod=1_600_000_000.0)
    assert await frontier.enqueue([entry]) == [True]

    record = await record_of(frontier, url("a"))
    assert (record.status, record.depth, record.parent, record.host) == (Status.QUEUED, 2, url("p"), "example.com")
    assert (record.attempt, record.unended, record.tries, record.lease_until) == (0, 0, 0, 0.0)
    assert record.lastmod == 1_600_000_000.0
    assert record.enqueued_at == pytest.approx(store.clock(), abs=5)
    assert record.due_at is not None
    assert record.due_at > store.clock()

    delivery = await take_one(frontier)
    assert message_of(delivery) == Message(
        url=url("a"), depth=2, parent=url("p"), settings=CRAWL, lastmod=1_600_000_000.0
    )
    assert delivery.receive_count == 1
    assert delivery.sent_at == pytest.approx(store.clock(), abs=5)
    assert await frontier.receive(10) == []


async def test_enqueue_answers_in_order_and_knows_what_is_known(frontier: Frontier) -> None:
    await frontier.enqueue([Entry(url=url("known"))])
    batch = [Entry(url=url("a")), Entry(url=url("known"), depth=5), Entry(url=url("b")), Entry(url=url("a"))]
    assert await frontier.enqueue(batch) == [True, False, True, False]
    assert await frontier.enqueue([]) == []

    assert (await record_of(frontier, url("known"))).depth == 0
    assert {message_of(d).url for d in await take(frontier, 3)} == {url("known"), url("a"), url("b")}
    assert await frontier.receive(10) == []


async def test_a_url_enqueued_by_two_workers_at_once_is_new_to_one(frontier: Frontier, other: Frontier) -> None:
    batch = entries(20)
    first, second = await asyncio.gather(frontier.enqueue(batch), other.enqueue(batch[::-1]))
    assert [a + b for a, b in zip(first, second[::-1], strict=True)] == [True] * 20
    await take(frontier, 20)
    assert await frontier.receive(10) == []


@pytest.mark.parametrize("ending", ["queued", "processing", "finished"])
async def test_enqueueing_a_known_url_again_changes_nothing(frontier: Frontier, ending: str) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    if ending != "queued":
        claim = await win(frontier, delivery)
        if ending == "finished":
            assert await finish_one(frontier, claim, delivery)
    before = await record_of(frontier, url("a"))

    assert await frontier.enqueue([Entry(url=url("a"), depth=1, settings=CRAWL)]) == [False]

    assert await record_of(frontier, url("a")) == before
    assert await frontier.receive(10) == []


async def test_two_crawls_keep_their_own_settings(frontier: Frontier) -> None:
    await frontier.enqueue([Entry(url=url("a"), settings=CRAWL), Entry(url=url("b"))])
    settings = {message_of(d).url: message_of(d).settings for d in await take(frontier, 2)}
    assert settings == {url("a"): CRAWL, url("b"): CrawlSettings()}


async def test_anybody_may_send_a_url(frontier: Frontier) -> None:
    body = encode_message(Message(url=url("b"), depth=1, settings=CRAWL))
    await frontier.send([url("a"), body])
    assert await all_records(frontier) == {}
    assert {d.body for d in await take(frontier, 2)} == {url("a"), body}


async def test_receive_gives_no_more_than_asked_and_each_message_to_one(frontier: Frontier, other: Frontier) -> None:
    await frontier.enqueue(entries(12))
    taken = await asyncio.gather(*(handle.receive(2) for handle in [frontier, other] * 3))
    assert all(len(some) <= 2 for some in taken)
    ids = [delivery.message_id for some in taken for delivery in some]
    assert len(ids) == len(set(ids))


async def test_a_delivery_says_that_its_url_is_finished_where_that_costs_nothing(
    frontier: Frontier, store: Store
) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    await frontier.send([url("a")])  # while it is being worked on
    second = await take_one(frontier)
    assert (delivery.is_finished, second.is_finished) == (False, False)
    await frontier.delete([second])
    assert await finish_one(frontier, claim, delivery)
    await frontier.send([url("a"), url("b"), "no url"])
    told = {delivery.body: delivery.is_finished for delivery in await take(frontier, 3)}
    if store.has_own_queue:
        assert told == {url("a"): True, url("b"): False, "no url": False}
    else:
        assert not any(told.values())


async def test_older_messages_come_first(frontier: Frontier, store: Store) -> None:
    for name in "abc":
        await frontier.enqueue([Entry(url=url(name))])
        await store.elapse(0.01)
    assert [message_of(d).url for d in await take(frontier, 3)] == [url("a"), url("b"), url("c")]


async def test_what_nobody_ended_comes_back_and_is_counted(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    first = await take_one(frontier)
    assert await frontier.receive(10) == []

    await store.elapse(VISIBILITY + A_LITTLE)

    second = await take_one(frontier)
    assert (second.message_id, second.body, second.receive_count) == (first.message_id, first.body, 2)
    assert second.receipt != first.receipt


async def test_a_deleted_message_does_not_come_back(frontier: Frontier, store: Store) -> None:
    await frontier.send([url("a"), url("b")])
    await frontier.delete(await take(frontier, 2))
    await store.elapse(VISIBILITY + A_LITTLE)
    assert await frontier.receive(10) == []


async def test_a_stale_receipt_changes_nothing(frontier: Frontier, store: Store) -> None:
    await frontier.send([url("a")])
    stale = await take_one(frontier)
    await store.elapse(VISIBILITY + A_LITTLE)
    live = await take_one(frontier)

    await frontier.delete([stale])
    await frontier.defer([Deferral(delivery=stale, until=store.clock())])
    assert await frontier.receive(10) == []

    await store.elapse(VISIBILITY + A_LITTLE)
    assert (await take_one(frontier)).message_id == live.message_id


async def test_ending_a_delivery_twice_is_harmless(frontier: Frontier, store: Store) -> None:
    await frontier.send([url("a"), url("b")])
    gone, kept = await take(frontier, 2)
    await frontier.delete([gone])
    await frontier.delete([gone, kept])  # the one that is gone does not harm the other
    await frontier.delete([kept])
    await frontier.defer([Deferral(delivery=gone, until=store.clock())])
    await store.elapse(VISIBILITY + A_LITTLE)
    # SQS cannot say that a message is gone: what is deferred in vain may come once more.
    assert {d.body for d in await frontier.receive(10)} <= {url("a")}


async def test_a_deferred_message_comes_back_at_its_time(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    before = await record_of(frontier, url("a"))

    await frontier.defer([Deferral(delivery=delivery, until=store.clock() + 3)])

    assert await frontier.receive(10) == []
    await store.elapse(1)
    assert await frontier.receive(10) == []
    await store.elapse(2 + A_LITTLE)
    back = await take_one(frontier)
    assert back.body == delivery.body
    assert await record_of(frontier, url("a")) == before


async def test_a_message_deferred_to_the_past_is_visible_at_once(frontier: Frontier, store: Store) -> None:
    await frontier.send([url("a"), url("b")])
    first, second = await take(frontier, 2)
    await frontier.defer(
        [
            Deferral(delivery=first, until=store.clock() - 100),
            Deferral(delivery=second, until=float("nan")),
        ]
    )
    assert {d.body for d in await take(frontier, 2)} == {url("a"), url("b")}


async def test_a_deferred_message_may_say_something_new(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    slot = store.clock() + 1
    message = Message(url=url("a"), slot=slot, generation=4)
    await frontier.defer([Deferral(delivery=await take_one(frontier), until=slot, message=message)])
    await store.elapse(1 + A_LITTLE)
    assert message_of(await take_one(frontier)) == message


async def test_being_deferred_counts_no_receives(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    for _ in range(MAX_RECEIVES + 2):
        delivery = await take_one(frontier)
        assert delivery.receive_count == 1
        await frontier.defer([Deferral(delivery=delivery, until=store.clock())])
    assert await frontier.dead_letters() == []


async def test_a_delayed_message_does_not_hold_up_fresh_ones(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("late"))])
    await frontier.defer([Deferral(delivery=await take_one(frontier), until=store.clock() + 60)])
    await frontier.enqueue([Entry(url=url("fresh"))])
    assert message_of(await take_one(frontier)).url == url("fresh")
    assert await frontier.receive(10) == []


async def test_a_delay_holds_for_a_handle_that_is_opened_later(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("late"))])
    await frontier.defer([Deferral(delivery=await take_one(frontier), until=store.clock() + 2)])
    later = await store.open()
    assert await later.receive(10) == []
    await store.elapse(2 + A_LITTLE)
    await take_one(later)


async def test_the_oldest_has_waited_since_it_was_sent_wherever_it_is(frontier: Frontier, store: Store) -> None:
    if frontier.traits.lag_seconds:
        pytest.skip("figures are behind there, and what is put off is sent anew")

    async def age() -> float | None:
        return (await frontier.queue_stats()).oldest_age_seconds

    assert await age() is None
    await frontier.enqueue([Entry(url=url("a"))])
    await store.elapse(1)
    await frontier.send([url("b")])
    await store.elapse(1)
    assert await age() == pytest.approx(2)
    first = await take_one(frontier)
    second = await take_one(frontier)
    a, b = sorted((first, second), key=lambda delivery: message_of(delivery).url)
    await store.elapse(1)
    assert await age() == pytest.approx(3)  # in flight
    await frontier.defer([Deferral(delivery=d, until=store.clock() + 50) for d in (a, b)])
    await store.elapse(51)
    assert await age() == pytest.approx(54)  # put off
    a, b = sorted(await take(frontier, 2), key=lambda delivery: message_of(delivery).url)
    await store.elapse(VISIBILITY + A_LITTLE)  # lost
    assert await age() == pytest.approx(54 + VISIBILITY + A_LITTLE)
    claim = await win(frontier, a)
    assert await finish_one(frontier, claim, a)
    assert await age() == pytest.approx(53 + VISIBILITY + A_LITTLE)
    await frontier.purge_queue()
    assert await age() is None


async def test_receive_waits_for_what_comes(frontier: Frontier, other: Frontier) -> None:
    for sender in (frontier, other):
        waiting = asyncio.ensure_future(frontier.receive(10, wait_seconds=20))
        await asyncio.sleep(0)
        assert not waiting.done()
        await sender.enqueue([Entry(url=url(id(sender)))])
        assert len(await waiting) == 1


async def test_receive_waits_no_longer_than_asked(frontier: Frontier) -> None:
    assert await frontier.receive(10, wait_seconds=0.2) == []


async def test_a_receive_that_is_cancelled_loses_nothing(frontier: Frontier, store: Store) -> None:
    await frontier.send([url("a"), url("b")])
    for _ in range(MAX_RECEIVES - 1):
        receiving = asyncio.ensure_future(frontier.receive(10))
        await asyncio.sleep(0)
        receiving.cancel()
        with contextlib.suppress(asyncio.CancelledError):  # on loopback an answer may be there at once
            await receiving
    await store.elapse(VISIBILITY + A_LITTLE)  # what it took along comes back then
    assert {d.body for d in await take(frontier, 2)} == {url("a"), url("b")}


async def test_a_body_that_is_no_message_stays_and_dies(frontier: Frontier, store: Store) -> None:
    bad = ["{}", '{"url": 3}', "ftp://example.com/", "not a url", '{"url"', "é" * 3000]
    await frontier.send([*bad, url("good")])
    for receive_count in range(1, MAX_RECEIVES + 1):
        deliveries = await take(frontier, len(bad) + (receive_count == 1))
        assert {d.receive_count for d in deliveries} == {receive_count}
        await frontier.delete([d for d in deliveries if d.body == url("good")])
        await store.elapse(VISIBILITY + A_LITTLE)

    assert await frontier.receive(10) == []
    dead = await frontier.dead_letters()
    assert sorted(letter.body for letter in dead) == sorted(bad)
    assert {letter.receive_count for letter in dead} == {MAX_RECEIVES}
    assert len(await frontier.dead_letters(limit=2)) == 2


async def test_the_dying_do_not_hide_the_living(frontier: Frontier, store: Store) -> None:
    await frontier.send(["bad"] * 3)
    for _ in range(MAX_RECEIVES):
        await take(frontier, 3)
        await store.elapse(VISIBILITY + A_LITTLE)
    await frontier.send([url("good")])
    if store.has_own_queue:  # a look that finds nobody but the dying is no answer
        assert [delivery.body for delivery in await frontier.receive(3)] == [url("good")]
    else:
        assert (await take_one(frontier)).body == url("good")


async def test_redriven_letters_begin_anew(frontier: Frontier, store: Store) -> None:
    await frontier.send(["bad", "worse"])
    for _ in range(MAX_RECEIVES):
        await take(frontier, 2)
        await store.elapse(VISIBILITY + A_LITTLE)
    assert await frontier.receive(10) == []

    assert await frontier.redrive(limit=1) == 1
    assert await frontier.redrive() == 1
    assert await frontier.redrive() == 0

    assert await frontier.dead_letters() == []
    again = await take(frontier, 2)
    assert {(d.body, d.receive_count) for d in again} == {("bad", 1), ("worse", 1)}


async def test_a_body_that_cannot_be_stored_as_it_is_harms_nobody(frontier: Frontier) -> None:
    await frontier.send(["\ud800", "a\x00b", "", url("a")])
    assert url("a") in {d.body for d in await take(frontier, 4)}


async def test_a_released_host_is_visible_at_once(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue(entries(2) + entries(1, host="other.example"))
    deliveries = await take(frontier, 3)
    in_hand = next(d for d in deliveries if message_of(d).url == url(1))
    await frontier.defer([Deferral(delivery=d, until=store.clock() + 50) for d in deliveries if d is not in_hand])

    released = await frontier.release_host("example.com")

    assert [message_of(d).url for d in await frontier.receive(10)] == [url(0)] * released
    assert released == store.has_own_queue  # SQS cannot look for them


async def test_purging_removes_every_message_and_no_record(frontier: Frontier, store: Store) -> None:
    await frontier.send(["bad"])
    for _ in range(MAX_RECEIVES):
        await take(frontier, 1)
        await store.elapse(VISIBILITY + A_LITTLE)
    assert await frontier.receive(1) == []  # now it is dead
    await frontier.enqueue(entries(3))
    visible, delayed, in_flight = await take(frontier, 3)
    await frontier.defer(
        [Deferral(delivery=visible, until=store.clock()), Deferral(delivery=delayed, until=store.clock() + 1)]
    )

    assert await frontier.purge_queue() == 4

    await store.elapse(VISIBILITY + A_LITTLE)
    assert await frontier.receive(10) == []
    assert await frontier.dead_letters() == []
    assert len(await all_records(frontier)) == 3
    await frontier.delete([in_flight])


async def test_clearing_forgets_records_and_hosts_and_leaves_messages(frontier: Frontier, other: Frontier) -> None:
    await frontier.enqueue([Entry(url=url("a"), settings=CRAWL), Entry(url=url("b"))])
    await other.enqueue([Entry(url=url("c"), settings=CRAWL)])
    delivery = await take_one(frontier)
    await finish_one(frontier, await win(frontier, delivery), delivery, DONE)

    assert await frontier.clear_table() == 3

    assert await all_records(frontier) == {}
    assert (await frontier.counts()).total == (await frontier.counts()).bytes == 0
    assert await frontier.scan_hosts() == []
    assert len(await take(frontier, 2)) == 2
    assert await other.enqueue([Entry(url=url("a"), settings=CRAWL)]) == [True]
    assert message_of(await take_one(other)).settings == CRAWL
