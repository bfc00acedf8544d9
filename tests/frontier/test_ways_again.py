"""The nearest way wins over visits: also where the next one asks for what has changed alone, and what is kept of where
a visit led stays and goes with what it is of."""

from __future__ import annotations

from typing import Final

import msgspec
import pytest

from sqspider.crawl_row import Crawl
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Delivery, Entry, Finish, Frontier, Outlinks
from sqspider.record import Kept, Outcome, Status, record_key
from sqspider.url import Scope

from .kit import DONE, Store, all_records, assert_counts_are_exact, record_of, take_one, url, win

replace = msgspec.structs.replace
LIMITED: Final = CrawlSettings(max_depth=3, scope=Scope.ANY)
FAR, NEAR = (Entry(url=url("p"), depth=depth, parent=url("x"), settings=LIMITED) for depth in (3, 1))
VALIDATED: Final = Kept(etag='"v1"', changes=2)
UNCHANGED: Final = replace(DONE, unchanged=True)


async def end(
    frontier: Frontier, delivery: Delivery, outcome: Outcome = DONE, outlinks: Outlinks | None = None
) -> list[bool]:
    claim = await win(frontier, delivery, claim=delivery.receipt)
    return await frontier.finish(
        [Finish(claim=claim, delivery=delivery, outcome=outcome, outlinks=outlinks, kept=VALIDATED)]
    )


async def visited(frontier: Frontier) -> None:
    """A page three links away that leads to another, too deep, and is to be visited again if it has changed."""
    await frontier.enqueue([FAR])
    assert await end(frontier, await take_one(frontier), outlinks=Outlinks((url("q"),))) == [True]
    assert await frontier.reopen([url("p")], if_changed=True) == [True]


async def test_what_is_nearer_before_its_next_visit_is_asked_for_as_a_whole(frontier: Frontier) -> None:
    await visited(frontier)
    await frontier.enqueue([NEAR])
    claim = await win(frontier, await take_one(frontier))
    assert (claim.depth, claim.visit) == (1, 1)
    assert claim.kept == Kept(changes=2, good=DONE), "no validators; what else is known of it stays"


async def test_what_is_nearer_while_it_is_found_unchanged_is_gone_into(frontier: Frontier, store: Store) -> None:
    await visited(frontier)
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    assert claim.kept == replace(VALIDATED, good=DONE)
    await frontier.enqueue([NEAR])
    finish = Finish(claim=claim, delivery=delivery, outcome=UNCHANGED, kept=VALIDATED)
    assert await frontier.finish([finish]) == [store.has_own_queue]
    if store.has_own_queue:
        assert (await record_of(frontier, url("q"))).depth == 2
    else:  # it comes back, and is asked for as a whole
        record = await record_of(frontier, url("p"))
        assert (record.status, record.kept) == (Status.PROCESSING, Kept(changes=2, good=DONE))
    await assert_counts_are_exact(frontier)


async def test_where_it_led_is_known_of_what_has_not_changed(frontier: Frontier, store: Store) -> None:
    await visited(frontier)
    assert await end(frontier, await take_one(frontier), UNCHANGED) == [True]
    await frontier.enqueue([NEAR])
    records = await all_records(frontier)
    assert records[url("p")].status is (Status.DONE if store.has_own_queue else Status.QUEUED)
    assert (url("q") in records) is store.has_own_queue


async def test_where_it_led_is_forgotten_of_what_leads_nowhere_any_more(frontier: Frontier) -> None:
    await visited(frontier)
    assert await end(frontier, await take_one(frontier)) == [True]
    await frontier.enqueue([NEAR])
    records = await all_records(frontier)
    assert (records[url("p")].status, url("q") in records) == (Status.QUEUED, False)


async def test_what_is_nearer_and_has_changed_is_asked_for_as_a_whole(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([FAR])
    assert await end(frontier, await take_one(frontier)) == [True]
    finished_at = (await record_of(frontier, url("p"))).finished_at
    assert finished_at is not None
    await store.elapse(5)
    await frontier.enqueue([replace(NEAR, lastmod=finished_at + 1)])
    assert (await record_of(frontier, url("p"))).lastmod == finished_at + 1
    claim = await win(frontier, await take_one(frontier), claim="next")
    assert (claim.depth, claim.kept) == (1, Kept(changes=2, good=DONE))


async def test_where_it_led_goes_with_its_crawl(frontier: Frontier) -> None:
    """Another that is made after it has other pages, though they may lie in the same place."""
    before, after = (Crawl(name="news", id=id_, settings=LIMITED) for id_ in ("a1", "a2"))
    for crawl, leads in ((before, Outlinks((url("q"),))), (after, None)):
        assert await frontier.save_crawl(crawl)
        await frontier.enqueue([replace(FAR, crawl=crawl.ref)])
        assert await end(frontier, await take_one(frontier), outlinks=leads) == [True]
        if crawl is before:
            assert await frontier.remove_crawl(crawl.ref) == 1
    await frontier.enqueue([replace(NEAR, crawl=after.ref)])
    records = await all_records(frontier)
    assert {key: record.status for key, record in records.items()} == {record_key(url("p"), "news"): Status.QUEUED}


@pytest.mark.parametrize(("max_depth", "is_led_to"), [(1, False), (2, True)])
async def test_what_is_nearer_once_it_was_claimed_is_gone_into_by_the_limit_in_its_crawl_s_row(
    frontier: Frontier, max_depth: int, is_led_to: bool
) -> None:
    settings = replace(LIMITED, max_depth=max_depth)
    crawl = Crawl(name="news", id="a1", settings=settings)
    assert await frontier.save_crawl(crawl)
    await frontier.enqueue([replace(FAR, crawl=crawl.ref)])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    await frontier.enqueue([replace(NEAR, crawl=crawl.ref, settings=settings)])
    finish = Finish(claim=claim, delivery=delivery, outcome=DONE, outlinks=Outlinks((url("q"),)))
    assert await frontier.finish([finish]) == [True]
    records = await frontier.get([record_key(url(name), "news") for name in "pq"])
    assert [record.depth for record in records.values()] == ([1, 2] if is_led_to else [1])
