"""What every frontier promises of the fields that a list has beside a URL."""

from __future__ import annotations

from typing import Final, cast

import pytest

from sqspider.frontier import Entry, Finish, Frontier, Taking, Won
from sqspider.frontier.port import TurningFrontier
from sqspider.frontier.values import Ends
from sqspider.meta import MAX_META_BYTES, encode_meta

from .kit import DONE, GONE, LEASE, Store, finish_one, record_of, retry_one, take_one, try_claim, url, win

META: Final = encode_meta({"name": "Bücher \x07\u2028", "number": 10**20, "of": ["a", None]})
LONGEST: Final = '{"a":"' + "b" * (MAX_META_BYTES - 8) + '"}'


async def test_what_a_list_says_is_kept_on_the_record_and_told_to_who_claims_it(
    frontier: Frontier, other: Frontier
) -> None:
    assert await frontier.enqueue([Entry(url=url(1), meta=META)]) == [True]
    assert (await record_of(other, url(1))).meta == META
    assert [record.meta async for batch in other.scan() for record in batch] == [META]
    delivery = await take_one(other)
    assert "name" not in delivery.body  # no message carries it
    claim = await win(other, delivery)
    assert claim.meta == META
    await finish_one(other, claim, delivery, DONE)
    assert (await record_of(frontier, url(1))).meta == META


async def test_what_is_known_keeps_what_it_has(frontier: Frontier) -> None:
    await frontier.enqueue([Entry(url=url(1), meta=META), Entry(url=url(1), meta=LONGEST), Entry(url=url(2))])
    assert await frontier.enqueue([Entry(url=url(n), meta=LONGEST) for n in (1, 2, 3)]) == [False, False, True]
    assert [(await record_of(frontier, url(n))).meta for n in (1, 2, 3)] == [META, None, LONGEST]


async def test_it_stays_through_a_retry_a_claim_anew_and_every_end(frontier: Frontier, store: Store) -> None:
    await frontier.enqueue([Entry(url=url(1), meta=META)])
    delivery = await take_one(frontier)
    await retry_one(frontier, await win(frontier, delivery), delivery, at=store.clock(), outcome=GONE)
    delivery = await take_one(frontier)
    await win(frontier, delivery, worker="dies")
    await store.elapse(LEASE + 1)
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery, worker="lives")
    assert claim.meta == META
    await finish_one(frontier, claim, delivery, GONE)
    assert (await record_of(frontier, url(1))).meta == META


async def test_links_do_not_inherit_it(frontier: Frontier) -> None:
    await frontier.enqueue([Entry(url=url(1), meta=META)])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    link = Entry(url=url(2), parent=url(1), depth=1)
    assert await frontier.finish([Finish(claim=claim, delivery=delivery, outcome=DONE, links=(link,))]) == [True]
    assert (await record_of(frontier, url(2))).meta is None


async def test_a_turn_tells_it_too(frontier: Frontier) -> None:
    if not frontier.traits.has_turns:
        pytest.skip("it has no turns")
    frontier = cast(TurningFrontier, frontier)
    await frontier.enqueue([Entry(url=url(1), meta=META), Entry(url=url(2))])
    taking = Taking(limit=5, worker_id="w", claim_id="c", lease_seconds=LEASE, claims=lambda _: True)
    turned = await frontier.turn(Ends(), taking)
    won = [taken.claim for taken in turned.taken if isinstance(taken.claim, Won)]
    assert {claim.url: claim.meta for claim in won} == {url(1): META, url(2): None}


async def test_a_claim_whose_answer_was_lost_tells_it(frontier: Frontier) -> None:
    await frontier.enqueue([Entry(url=url(1), meta=META)])
    delivery = await take_one(frontier)
    first = await win(frontier, delivery)
    assert await try_claim(frontier, delivery) == first
    assert first.meta == META


async def test_what_is_asked_for_once_more_keeps_it(frontier: Frontier) -> None:
    await frontier.enqueue([Entry(url=url(1), meta=META)])
    delivery = await take_one(frontier)
    await finish_one(frontier, await win(frontier, delivery), delivery, GONE)
    assert await frontier.reopen([url(1)]) == [True]
    assert (await win(frontier, await take_one(frontier), claim="c2")).meta == META
