"""Life over visits: what is final is put back for one visit more, and nothing of an earlier visit ends a later one."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Deferral, Entry, Finish, Frontier, LostReason
from sqspider.frontier.aws import AwsFrontier
from sqspider.message import Message
from sqspider.record import Kept, Outcome, Status

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

LED = Outcome(status=Status.DONE, http_status=301, redirect_to=url("there"))
SETTINGS = CrawlSettings(max_depth=2)


async def end(frontier: Frontier, outcome: Outcome, *, claim: str = "c1") -> None:
    """Whatever is received next ends so."""
    delivery = await take_one(frontier)
    assert await finish_one(frontier, await win(frontier, delivery, claim=claim), delivery, outcome)


@pytest.mark.parametrize("outcome", [DONE, LED, GONE, FORBIDDEN, TROUBLE])
async def test_what_is_final_is_visited_once_more(frontier: Frontier, store: Store, outcome: Outcome) -> None:
    entry = Entry(url=url("a"), depth=2, parent=url("p"), settings=SETTINGS, redirects=1, lastmod=5.0)
    await frontier.enqueue([entry])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    assert await retry_one(frontier, claim, delivery, at=store.clock(), tried=True, outcome=TROUBLE)
    await end(frontier, outcome, claim="c2")
    ended = await record_of(frontier, url("a"))
    await store.elapse(A_LITTLE)

    assert await frontier.reopen([url("a")]) == [True]
    record = await record_of(frontier, url("a"))
    assert (record.status, record.visit, record.tries, record.unended) == (Status.QUEUED, 1, 0, 0)
    assert (record.attempt, record.outcome, record.finished_at) == (2, outcome, ended.finished_at)
    assert (record.depth, record.parent, record.redirects, record.lastmod) == (2, url("p"), 1, 5.0)
    assert record.lease_until == 0
    assert record.enqueued_at == pytest.approx(store.clock(), abs=1)
    assert record.enqueued_at > ended.enqueued_at
    counts = await frontier.counts()
    assert (counts.by_reason, counts.bytes, counts.redirects) == ({}, 0, 0), "it is counted when it has ended"
    await assert_counts_are_exact(frontier)

    delivery = await take_one(frontier)
    assert message_of(delivery) == entry.to_message()
    assert (delivery.receive_count, delivery.is_finished) == (1, False)
    again = await win(frontier, delivery, claim="c3")
    assert (again.attempt, again.unended, again.tries, again.visit) == (3, 1, 0, 1)
    assert await finish_one(frontier, again, delivery, GONE)
    record = await record_of(frontier, url("a"))
    assert (record.status, record.outcome, record.visit) == (Status.FAILED, GONE, 1)
    await assert_counts_are_exact(frontier)
    await store.elapse(VISIBILITY + A_LITTLE)
    assert await frontier.receive(10) == []


async def test_only_what_is_final_is_reopened_and_once(frontier: Frontier) -> None:
    await frontier.enqueue(entries(4))
    deliveries = {message_of(delivery).url: delivery for delivery in await take(frontier, 3)}
    names = list(deliveries)
    for number, name in enumerate(names[:2]):
        claim = await win(frontier, deliveries[name], claim=f"c{number}")
        assert await finish_one(frontier, claim, deliveries[name])
    await win(frontier, deliveries[names[2]], claim="c3", lease=60)
    (waiting,) = {url(i) for i in range(4)} - set(names)
    before = [await record_of(frontier, name) for name in (names[2], waiting)]

    asked = [names[2], names[0], url("unknown"), waiting, names[0], names[1]]
    assert await frontier.reopen(asked) == [False, True, False, False, False, True]
    assert await frontier.reopen(asked) == [False] * 6
    assert [await record_of(frontier, name) for name in (names[2], waiting)] == before
    assert url("unknown") not in await frontier.get([url("unknown")])
    assert {message_of(delivery).url for delivery in await take(frontier, 3)} == {names[0], names[1], waiting}
    assert await frontier.receive(10) == []
    assert await frontier.reopen([]) == []
    await assert_counts_are_exact(frontier)


async def test_of_two_who_reopen_at_once_one_does(frontier: Frontier, other: Frontier) -> None:
    await frontier.enqueue(entries(30))
    names = [url(i) for i in range(30)]
    for number in range(3):
        deliveries = await take(frontier, 10)
        for delivery, claim in zip(
            deliveries, await claim_all(frontier, deliveries, claim=f"c{number}", lease=60), strict=True
        ):
            assert await finish_one(frontier, claim, delivery)  # type: ignore[arg-type] # all are won
    answers = await asyncio.gather(frontier.reopen(names), other.reopen(names), frontier.reopen(names))
    assert [sum(of_url) for of_url in zip(*answers, strict=True)] == [1] * 30
    records = await frontier.get(names)
    assert {(record.status, record.visit) for record in records.values()} == {(Status.QUEUED, 1)}
    await take(frontier, 30)
    assert await frontier.receive(10) == []
    await assert_counts_are_exact(frontier, other)


async def test_nothing_of_an_earlier_visit_ends_a_later_one(frontier: Frontier, other: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    first = await take_one(frontier)
    claim = await win(frontier, first)
    assert await finish_one(frontier, claim, None)  # its delivery is still somebody's
    assert await frontier.reopen([url("a")]) == [True]

    async def end_the_first_again() -> None:
        before = await record_of(frontier, url("a"))
        assert not await finish_one(frontier, claim, first, GONE)
        assert not await retry_one(frontier, claim, first, at=store.clock())
        await frontier.delete([first])
        await frontier.defer([Deferral(delivery=first, until=store.clock())])
        assert await record_of(frontier, url("a")) == before

    await end_the_first_again()
    delivery = await take_one(other)
    again = await win(other, delivery, worker="two", claim="c2", lease=60)
    await end_the_first_again()
    assert await finish_one(other, again, delivery)
    assert_lost(await try_claim(frontier, first, claim="c3"), LostReason.FINISHED)
    await assert_counts_are_exact(frontier, other)


async def test_a_reopened_url_whose_message_is_lost_is_swept_back(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"), depth=2, settings=SETTINGS)])
    await end(frontier, GONE)
    assert await frontier.reopen([url("a")]) == [True]
    await frontier.purge_queue()
    await store.elapse(DUE + A_LITTLE)
    assert await frontier.sweep() == 1
    delivery = await take_one(frontier)
    assert message_of(delivery) == Message(url=url("a"), depth=2, settings=SETTINGS)
    assert (await win(frontier, delivery, claim="c2")).visit == 1


async def test_a_visit_that_nobody_ended_is_the_same_visit(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    await end(frontier, DONE)
    await frontier.reopen([url("a")])
    await win(frontier, await take_one(frontier), claim="c2")
    await store.elapse(max(LEASE, VISIBILITY) + A_LITTLE)
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery, claim="c3")
    assert (claim.visit, claim.attempt, claim.unended) == (1, 3, 2)
    assert await retry_one(frontier, claim, delivery, at=store.clock())
    assert (await record_of(frontier, url("a"))).outcome == DONE, "until the next end, or trouble, says otherwise"
    await end(frontier, GONE, claim="c4")
    assert await frontier.reopen([url("a")]) == [True]
    assert (await record_of(frontier, url("a"))).visit == 2
    await assert_counts_are_exact(frontier)


async def test_the_sums_of_a_host_are_what_was_asked_of_it(frontier: Frontier, other: Frontier) -> None:
    """They stay when a page is put back: they were spent."""
    await frontier.enqueue([Entry(url=url("a"))])
    await end(frontier, DONE)
    await frontier.reopen([url("a")])
    await end(frontier, GONE, claim="c2")
    if isinstance(frontier, AwsFrontier):
        await frontier.flush(all_hosts=True)
    row = (await other.hosts(["example.com"]))["example.com"]
    assert (row.done, row.failed, row.bytes) == (1, 1, DONE.bytes + GONE.bytes)


# What is kept from visit to visit.

KEPT = Kept(etag='"é"', last_modified="Mon", changes=2, changed_at=1_600_000_000.5)


async def end_with(frontier: Frontier, outcome: Outcome, kept: Kept | None, *, claim: str) -> Kept | None:
    """Whatever is received next ends so; what its claim had been told."""
    delivery = await take_one(frontier)
    won = await win(frontier, delivery, claim=claim)
    assert await frontier.finish([Finish(claim=won, delivery=delivery, outcome=outcome, kept=kept)]) == [True]
    return won.kept


@pytest.mark.parametrize("good", [DONE, LED, msgspec.structs.replace(DONE, digest="sha256:" + "ab" * 32, title="T")])
async def test_what_is_kept_is_told_to_the_next_visit(frontier: Frontier, good: Outcome) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    assert await end_with(frontier, good, KEPT, claim="c1") is None
    assert (await record_of(frontier, url("a"))).kept == KEPT
    assert await frontier.reopen([url("a")], if_changed=True) == [True]
    kept = msgspec.structs.replace(KEPT, good=good)
    assert (await record_of(frontier, url("a"))).kept == kept
    assert await end_with(frontier, GONE, kept, claim="c2") == kept
    assert (await record_of(frontier, url("a"))).kept == kept, "a visit that fails takes nothing with it"

    assert await frontier.reopen([url("a")]) == [True]
    whole = Kept(changes=2, changed_at=KEPT.changed_at, good=good)
    assert await end_with(frontier, good, None, claim="c3") == whole, "the whole answer is wanted"
    record = await record_of(frontier, url("a"))
    assert (record.kept, record.visit) == (None, 2)
    await assert_counts_are_exact(frontier)


async def test_trouble_within_a_visit_leaves_what_is_kept(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url("a"))])
    await end_with(frontier, DONE, KEPT, claim="c1")
    await frontier.reopen([url("a")], if_changed=True)
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery, claim="c2")
    assert await retry_one(frontier, claim, delivery, at=store.clock(), tried=True, outcome=TROUBLE)
    record = await record_of(frontier, url("a"))
    assert (record.outcome, record.kept) == (TROUBLE, msgspec.structs.replace(KEPT, good=DONE))
    assert (await win(frontier, await take_one(frontier), claim="c3")).kept == record.kept


@pytest.mark.parametrize("name", ["later", "earlier", "none", "future", "open"])
async def test_a_sitemap_that_says_that_a_url_has_changed_since_its_visit_reopens_it(
    frontier: Frontier, store: Store, name: str
) -> None:
    first = Entry(url=url("a"), depth=2, parent=url("p"), settings=SETTINGS)
    await frontier.enqueue([first])
    if name != "open":
        await end_with(frontier, DONE, KEPT, claim="c1")
    await store.elapse(1.0)
    lastmod = {"earlier": -3600.0, "none": None, "future": 3600.0}.get(name, 0.0)
    lastmod = None if lastmod is None else store.clock() - A_LITTLE + lastmod
    said = Entry(url=url("a"), depth=1, parent=url("sitemap.xml"), lastmod=lastmod)
    assert await frontier.enqueue([said, Entry(url=url("b"), parent=url("p"))]) == [False, True]
    record = await record_of(frontier, url("a"))
    if name == "later":
        assert (record.status, record.visit, record.lastmod) == (Status.QUEUED, 1, lastmod)
        assert record.kept == msgspec.structs.replace(KEPT, good=DONE)
        messages = {m.url: m for m in map(message_of, await take(frontier, 2))}
        wanted = msgspec.structs.replace(first.to_message(), lastmod=lastmod)
        assert messages[url("a")] == wanted, "all but what the sitemap says is as it was"
    else:
        assert (record.status, record.visit) == (Status.QUEUED if name == "open" else Status.DONE, 0)
        assert record.lastmod is None
    assert await frontier.enqueue([said]) == [False]
    assert (await record_of(frontier, url("a"))).visit == (name == "later")
    await assert_counts_are_exact(frontier)
