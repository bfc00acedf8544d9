"""What an unused claim leaves, what a clearing tells, redirects, and whose turn it is."""

from __future__ import annotations

import msgspec
import pytest

from sqspider.frontier import Deferral, Entry, Frontier, Retry
from sqspider.record import Outcome, Status

from .kit import (
    A_LITTLE,
    DUE,
    LEASE,
    VISIBILITY,
    Store,
    assert_counts_are_exact,
    entries,
    finish_one,
    message_of,
    record_of,
    take,
    take_one,
    url,
    win,
)

REDIRECT = Outcome(status=Status.DONE, http_status=301, redirect_to=url("target"))


async def test_an_unused_claim_leaves_unended_as_it_was(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    await win(frontier, await take_one(frontier), claim="died")
    await store.elapse(max(LEASE, VISIBILITY) + A_LITTLE)
    for number in range(2):
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery, claim=f"unused{number}")
        assert claim.unended == 2
        unused = Retry(claim=claim, delivery=delivery, at=store.clock(), tried=False, is_unused=True)
        assert await frontier.retry([unused]) == [True]
        record = await record_of(frontier, url("a"))
        assert (record.status, record.unended, record.tries) == (Status.QUEUED, 1, 0)
        await assert_counts_are_exact(frontier)
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery, claim="used")
    assert claim.unended == 2
    assert await finish_one(frontier, claim, delivery)
    assert (await record_of(frontier, url("a"))).unended == 0
    await assert_counts_are_exact(frontier)


async def generation_of(frontier: Frontier) -> int:
    await frontier.hosts(["example.com"])
    return frontier.generation


async def test_a_clearing_raises_the_generation_for_all(frontier: Frontier, other: Frontier, store: Store) -> None:
    before = await generation_of(frontier)
    assert await generation_of(other) == before
    for _ in range(2):
        await frontier.clear_table()
        assert other.generation == before  # as of its last look
        raised = await generation_of(other)
        assert raised > before
        assert await generation_of(frontier) == raised
        before = raised
    assert await generation_of(await store.open()) == before
    await frontier.purge_queue()
    assert await generation_of(frontier) == before  # no record was forgotten


@pytest.mark.parametrize("is_made_by_claim", [False, True])
async def test_who_wins_a_claim_knows_of_the_clearings_before_its_record(
    frontier: Frontier, other: Frontier, store: Store, is_made_by_claim: bool
) -> None:
    """Though it has asked for nothing else since: or it would leave out links that are recorded no more."""
    await frontier.enqueue([Entry(url=url("a"))])
    await generation_of(other)
    await frontier.clear_table()
    if not is_made_by_claim:
        await frontier.purge_queue()
        await store.elapse(A_LITTLE)
        await frontier.enqueue([Entry(url=url("a"))])
    await win(other, await take_one(frontier))
    assert other.generation == await generation_of(frontier)


async def test_a_record_and_its_messages_say_how_many_redirects_led_there(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"), redirects=3)])
    await frontier.purge_queue()
    await store.elapse(DUE + A_LITTLE)
    assert await frontier.sweep() == 1
    delivery = await take_one(frontier)
    assert message_of(delivery).redirects == 3
    link = Entry(url=url("b"), redirects=4)
    assert await finish_one(frontier, await win(frontier, delivery), delivery, REDIRECT, links=(link,))
    assert message_of(await take_one(frontier)).redirects == 4
    records = await frontier.get([url("a"), url("b")])
    assert [record.redirects for record in records.values()] == [3, 4]
    assert records[url("a")].outcome == REDIRECT


async def test_the_fewest_redirects_hold_until_a_record_is_final(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"), redirects=5)])
    delivery = await take_one(frontier)
    for redirects, held in ((7, 5), (2, 2), (3, 2)):
        assert await frontier.enqueue([Entry(url=url("a"), redirects=redirects)]) == [False]
        assert (await record_of(frontier, url("a"))).redirects == held
    await frontier.defer([Deferral(delivery=delivery, until=0)])
    delivery = await take_one(frontier)
    if store.has_own_queue:
        assert message_of(delivery).redirects == 2  # what was sent before says so, too
    claim = await win(frontier, delivery)
    assert claim.redirects == 2
    assert await finish_one(frontier, claim, delivery)
    await frontier.enqueue([Entry(url=url("a"), redirects=0)])
    assert (await record_of(frontier, url("a"))).redirects == 2
    await assert_counts_are_exact(frontier)


async def test_of_one_url_twice_in_a_batch_the_fewest_redirects_hold(frontier: Frontier) -> None:
    twice = [Entry(url=url("a"), redirects=redirects, depth=depth) for redirects, depth in ((5, 1), (2, 3), (4, 2))]
    assert await frontier.enqueue(twice) == [True, False, False]
    record = await record_of(frontier, url("a"))
    assert (record.redirects, record.depth) == (2, 1)
    assert message_of(await take_one(frontier)).redirects == 2


async def test_redirects_are_counted_apart(frontier: Frontier) -> None:
    outcomes = [
        REDIRECT,
        msgspec.structs.replace(REDIRECT, http_status=200),
        msgspec.structs.replace(REDIRECT, status=Status.FAILED),
        Outcome(status=Status.DONE, http_status=304),
    ]
    await frontier.enqueue(entries(len(outcomes)))
    for outcome in outcomes:
        delivery = await take_one(frontier)
        assert await finish_one(frontier, await win(frontier, delivery), delivery, outcome)
    for exact in (False, True):
        counts = await frontier.counts(exact=exact)
        assert (counts.redirects, counts.by_status[Status.DONE]) == (1, 3)
    await frontier.clear_table()
    assert (await frontier.counts()).redirects == 0


async def test_what_nobody_ended_comes_first_then_what_was_put_off(frontier: Frontier, store: Store) -> None:
    if not store.has_own_queue:
        pytest.skip("SQS keeps no order")
    await frontier.enqueue(entries(2))
    put_off, expired = await take(frontier, 2)
    await frontier.enqueue([Entry(url=url("fresh"))])
    await frontier.defer([Deferral(delivery=put_off, until=store.clock())])
    await store.elapse(VISIBILITY + A_LITTLE)
    found = [(await take_one(frontier)).body for _ in range(3)]
    assert found[:2] == [expired.body, put_off.body]
