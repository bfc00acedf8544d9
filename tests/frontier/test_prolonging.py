"""A claim whose end has to wait is prolonged: it stays who has it, and its message stays hidden."""

from __future__ import annotations

import pytest

from sqspider.frontier import Delivery, Entry, Frontier, Hold, LostReason, Won
from sqspider.record import Status
from tests.simulation.fake_store import FakeAwsStore

from .kit import (
    A_LITTLE,
    DONE,
    DUE,
    LEASE,
    VISIBILITY,
    Store,
    assert_counts_are_exact,
    assert_lost,
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

LONG = LEASE * 3


async def prolong_one(frontier: Frontier, claim: Won, delivery: Delivery, *, lease: float = LONG) -> Hold | None:
    return (await frontier.prolong([Hold(claim=claim, delivery=delivery)], lease_seconds=lease))[0]


async def hold_one(frontier: Frontier, claim: Won, delivery: Delivery, *, lease: float = LONG) -> Hold:
    hold = await prolong_one(frontier, claim, delivery, lease=lease)
    assert hold is not None
    return hold


async def test_a_prolonged_claim_holds_past_its_first_lease(frontier: Frontier, other: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    hold = await hold_one(frontier, claim, delivery)
    assert hold.claim.lease_until == pytest.approx(store.clock() + LONG, abs=1)
    assert (await record_of(frontier, url("a"))).lease_until == hold.claim.lease_until

    await store.elapse(max(LEASE, VISIBILITY, DUE) + A_LITTLE)
    assert await other.sweep() == 0
    assert await other.receive(10) == []
    await other.send([url("a")])
    lost = assert_lost(await try_claim(other, await take_one(other), worker="two", claim="c2"), LostReason.HELD)
    assert lost.lease_until == hold.claim.lease_until

    assert await finish_one(frontier, hold.claim, hold.delivery)
    assert (await record_of(frontier, url("a"))).status is Status.DONE
    await assert_counts_are_exact(frontier, other)


async def test_what_is_prolonged_can_be_given_back_at_once(frontier: Frontier, other: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    hold = await hold_one(frontier, await win(frontier, delivery), delivery)
    await store.elapse(max(LEASE, VISIBILITY) + A_LITTLE)
    assert await retry_one(frontier, hold.claim, hold.delivery, at=store.clock())
    again = await take_one(other)
    assert again.receive_count == 1
    assert (await win(other, again, worker="two", claim="c2")).attempt == 2
    await assert_counts_are_exact(frontier, other)


async def test_a_prolonged_claim_that_nobody_ends_comes_back(frontier: Frontier, other: Frontier, store: Store) -> None:
    await frontier.send([url("a")])
    delivery = await take_one(frontier)
    await hold_one(frontier, await win(frontier, delivery), delivery, lease=LEASE)
    await store.elapse(max(LEASE, VISIBILITY) + A_LITTLE)
    claim = await win(other, await take_one(other), worker="two", claim="c2")
    assert (claim.attempt, claim.unended) == (2, 2)


async def test_a_stale_claim_cannot_be_prolonged(frontier: Frontier, other: Frontier, store: Store) -> None:
    await frontier.send([url("a")])
    delivery = await take_one(frontier)
    stale = await win(frontier, delivery)
    await store.elapse(max(LEASE, VISIBILITY) + A_LITTLE)
    newer_delivery = await take_one(other)
    newer = await win(other, newer_delivery, worker="two", claim="c2")
    before = await record_of(frontier, url("a"))
    assert await prolong_one(frontier, stale, delivery) is None
    assert await record_of(frontier, url("a")) == before

    assert await finish_one(other, newer, newer_delivery)
    assert await prolong_one(frontier, stale, delivery) is None
    assert await prolong_one(other, newer, newer_delivery) is None
    record = await record_of(frontier, url("a"))
    assert (record.status, record.lease_until, record.due_at) == (Status.DONE, None, None)


async def test_a_claim_that_was_given_back_cannot_be_prolonged(frontier: Frontier, store: Store) -> None:
    await frontier.send([url("a")])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    assert await retry_one(frontier, claim, delivery, at=store.clock())
    assert await prolong_one(frontier, claim, delivery) is None
    assert (await win(frontier, await take_one(frontier), claim="c2")).attempt == 2


async def test_a_lease_that_ran_out_holds_again_if_nobody_came(
    frontier: Frontier, other: Frontier, store: Store
) -> None:
    await frontier.send([url("a")])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    await store.elapse(max(LEASE, VISIBILITY) + A_LITTLE)
    hold = await hold_one(frontier, claim, delivery)
    await other.send([url("a")])
    for copy in await other.receive(10, wait_seconds=5):  # the message itself may have come, too: in vain
        assert_lost(await try_claim(other, copy, worker="two", claim="c2"), LostReason.HELD)
    assert await finish_one(frontier, hold.claim, hold.delivery)


async def test_answers_keep_their_order(frontier: Frontier, other: Frontier) -> None:
    await frontier.enqueue([Entry(url=url(name)) for name in "abc"])
    deliveries = sorted(await take(frontier, 3), key=lambda delivery: message_of(delivery).url)
    holds = [Hold(claim=await win(frontier, it, claim=it.receipt[-8:]), delivery=it) for it in deliveries]
    assert await finish_one(frontier, holds[1].claim, holds[1].delivery, DONE)
    answers = await frontier.prolong(holds, lease_seconds=LONG)
    assert [None if it is None else it.claim.url for it in answers] == [url("a"), None, url("c")]
    assert await frontier.prolong([], lease_seconds=LONG) == []
    await assert_counts_are_exact(frontier, other)


async def test_sqs_hides_a_message_for_twelve_hours_and_the_claim_holds_on() -> None:
    store = FakeAwsStore()
    frontier, other = await store.open(), await store.open()
    await frontier.enqueue([Entry(url=url("a"))])
    delivery = await take_one(frontier)
    hold = Hold(claim=await win(frontier, delivery, lease=3600), delivery=delivery)
    hold = await hold_one(frontier, hold.claim, hold.delivery, lease=3600)
    for _ in range(30):
        await store.elapse(1800)
        hold = await hold_one(frontier, hold.claim, hold.delivery, lease=3600)
    in_vain = await take_one(other)  # by now it shows
    assert_lost(await try_claim(other, in_vain, worker="two", claim="c2"), LostReason.HELD)
    assert await finish_one(frontier, hold.claim, hold.delivery)
    await store.close()
