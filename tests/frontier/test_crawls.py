"""What every frontier promises of crawls: their rows, seeds, records and counts, and what is put aside of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Final

import msgspec
import pytest

from sqspider.crawl_row import Crawl, CrawlRef, Limits, State
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Deferral, Delivery, Entry, Frontier, LostReason, Taking, Won
from sqspider.frontier.port import TurningFrontier
from sqspider.frontier.shares import Ask, Most
from sqspider.frontier.sqlite.check import check_file
from sqspider.frontier.values import Ends
from sqspider.message import encode_message
from sqspider.record import Status, record_key, split_key
from sqspider.url import Scope

from .kit import (
    A_LITTLE,
    DONE,
    DUE,
    GONE,
    LEASE,
    VISIBILITY,
    Store,
    assert_counts_are_exact,
    assert_lost,
    finish_one,
    made,
    message_of,
    of,
    record_of,
    retry_one,
    take,
    take_one,
    try_claim,
    url,
    win,
)

replace = msgspec.structs.replace


@pytest.fixture(autouse=True)
def has_crawls(frontier: Frontier) -> None:
    if not hasattr(frontier, "save_crawl"):
        pytest.skip("this adapter has no crawls yet")


NEWS: Final = Crawl(
    name="news", id="a1", settings=CrawlSettings(scope=Scope.HOST, max_depth=3), limits=Limits(pages=7), created_at=5.0
)
SHOP: Final = Crawl(name="shop", id="b2")
DEFAULT: Final = Crawl(name="default", id="c3")


async def keys_of(frontier: Frontier, *, crawl: str | None = None, status: Status | None = None) -> set[str]:
    return {record.key async for batch in frontier.scan(crawl=crawl, status=status) for record in batch}


async def by_key(frontier: Frontier, count: int) -> dict[str, Delivery]:
    return {message_of(delivery).key: delivery for delivery in await take(frontier, count)}


# Rows.


async def test_a_crawl_is_kept_as_it_is(frontier: Frontier, other: Frontier) -> None:
    await made(frontier, SHOP, NEWS)
    assert await other.crawls() == [replace(NEWS, version=1), replace(SHOP, version=1)]


async def test_there_are_no_crawls_at_first(frontier: Frontier) -> None:
    await frontier.enqueue([Entry(url=url(1))])
    assert await frontier.crawls() == []
    assert await frontier.seeds(NEWS.ref, ["example.com"]) == {}


async def test_a_row_that_has_changed_is_not_written_over(frontier: Frontier, other: Frontier) -> None:
    await made(frontier, NEWS)
    read = (await other.crawls())[0]
    assert await frontier.save_crawl(replace(read, state=State.PAUSED))
    assert not await other.save_crawl(replace(read, state=State.STOPPED))
    assert await other.crawls() == [replace(NEWS, version=2, state=State.PAUSED)]


async def test_of_two_who_write_a_row_at_once_one_succeeds(frontier: Frontier, other: Frontier) -> None:
    assert sorted(await asyncio.gather(frontier.save_crawl(NEWS), other.save_crawl(replace(NEWS, id="a2")))) == [
        False,
        True,
    ]
    row = (await frontier.crawls())[0]
    answers = await asyncio.gather(frontier.save_crawl(row), other.save_crawl(row))
    assert sorted(answers) == [False, True]


async def test_a_name_is_one_crawl_s(frontier: Frontier) -> None:
    await made(frontier, NEWS)
    assert not await frontier.save_crawl(replace(NEWS, id="f0"))
    assert not await frontier.save_crawl(replace(NEWS, id="f0", version=1))
    assert not await frontier.save_crawl(replace(SHOP, version=1))
    assert await frontier.crawls() == [replace(NEWS, version=1)]


# Records.


async def test_one_url_in_two_crawls_is_two_records(frontier: Frontier) -> None:
    await made(frontier, NEWS, SHOP)
    page = Entry(url=url("p"))
    assert await frontier.enqueue([page, *of(NEWS, "p"), *of(SHOP, "p"), *of(NEWS, "p")]) == [True, True, True, False]
    assert await frontier.enqueue([*of(SHOP, "p"), page]) == [False, False]
    keys = {url("p"), f"@news {url('p')}", f"@shop {url('p')}"}
    assert await keys_of(frontier) == keys
    assert await keys_of(frontier, crawl="news") == {f"@news {url('p')}"}
    assert await keys_of(frontier, crawl="default") == {url("p")}
    records = await frontier.get([*keys, "@none https://example.com/p"])
    assert {key: (r.url, r.crawl, r.host) for key, r in records.items()} == {
        record_key(url("p"), name): (url("p"), name, "example.com") for name in ("default", "news", "shop")
    }


async def test_crawls_do_not_end_each_other_s_urls(frontier: Frontier) -> None:
    await made(frontier, NEWS, SHOP)
    await frontier.enqueue([Entry(url=url("p")), *of(NEWS, "p"), *of(SHOP, "p")])
    taken = await by_key(frontier, 3)
    claims = {key: await win(frontier, delivery) for key, delivery in taken.items()}
    news = f"@news {url('p')}"
    assert await finish_one(frontier, claims.pop(news), taken.pop(news), GONE)
    assert await keys_of(frontier, status=Status.FAILED) == {news}
    for key, claim in claims.items():
        assert await finish_one(frontier, claim, taken[key], DONE)
    assert (await frontier.queue_stats()).is_empty
    assert await keys_of(frontier, status=Status.DONE) == set(claims)


async def test_a_message_names_its_crawl(frontier: Frontier, store: Store) -> None:
    await made(frontier, NEWS)
    settings = CrawlSettings(scope=Scope.ANY)
    entry = Entry(url=url("p"), crawl=NEWS.ref, depth=2, parent=url("parent"), settings=settings, lastmod=3.0)
    await frontier.enqueue([entry, Entry(url=url("loose"), settings=settings)])
    for _ in range(2):  # the second time from what a retry put back
        taken = await by_key(frontier, 2)
        loose, message = message_of(taken[url("loose")]), message_of(taken[entry.key])
        assert (loose.crawl, loose.settings) == (None, settings)
        assert (message.crawl, message.settings, message.depth, message.lastmod) == (NEWS.ref, CrawlSettings(), 2, 3.0)
        assert message.parent == url("parent")
        for delivery in taken.values():
            assert await retry_one(frontier, await win(frontier, delivery), delivery, at=store.clock())


async def test_links_are_recorded_in_the_crawl_of_their_page(frontier: Frontier) -> None:
    await made(frontier, NEWS)
    await frontier.enqueue([*of(NEWS, "p"), Entry(url=url("q"))])
    taken = await by_key(frontier, 2)
    links = tuple(of(NEWS, "q", "r", parent=url("p")))
    claim = await win(frontier, taken[f"@news {url('p')}"])
    assert await finish_one(frontier, claim, taken[f"@news {url('p')}"], DONE, links)
    assert await keys_of(frontier, crawl="news") == {f"@news {url(name)}" for name in "pqr"}
    assert (await record_of(frontier, f"@news {url('q')}")).parent == url("p")
    assert (await record_of(frontier, url("q"))).parent is None
    assert {message_of(delivery).parent for delivery in await take(frontier, 2)} == {url("p")}


async def test_a_crawl_named_default_has_bare_keys(frontier: Frontier) -> None:
    await made(frontier, DEFAULT)
    await frontier.enqueue(of(DEFAULT, "p"))
    assert await keys_of(frontier, crawl="default") == {url("p")}
    delivery = await take_one(frontier)
    assert message_of(delivery).crawl == DEFAULT.ref
    assert await frontier.enqueue([Entry(url=url("p"))]) == [False]
    assert await finish_one(frontier, await win(frontier, delivery), delivery)


async def test_a_message_of_a_crawl_without_a_record_is_a_way_in(frontier: Frontier) -> None:
    await made(frontier, NEWS)
    await frontier.send([encode_message(of(NEWS, "p")[0].to_message())])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    assert await finish_one(frontier, claim, delivery)
    assert await keys_of(frontier, crawl="news") == {f"@news {url('p')}"}
    assert (await frontier.queue_stats()).is_empty


async def test_a_sweep_brings_a_crawl_s_url_back(frontier: Frontier, store: Store) -> None:
    await made(frontier, NEWS)
    await frontier.enqueue(of(NEWS, "p"))
    await frontier.purge_queue()
    await store.elapse(DUE + VISIBILITY + 1)
    assert await frontier.sweep() == 1
    message = message_of(await take_one(frontier))
    assert (message.crawl, message.url) == (NEWS.ref, url("p"))


# Counts.


async def test_each_crawl_is_counted_by_itself(frontier: Frontier) -> None:
    await made(frontier, NEWS, SHOP, replace(NEWS, name="new", id="d4"))
    await frontier.enqueue([Entry(url=url("p")), *of(NEWS, "p", "q"), *of(SHOP, "p"), *of(SHOP, "q", "r")])
    taken = await by_key(frontier, 6)
    for key in (f"@news {url('p')}", f"@shop {url('q')}", f"@shop {url('r')}"):
        assert await finish_one(frontier, await win(frontier, taken[key]), taken[key], GONE)
    await win(frontier, taken[url("p")])
    given_back = f"@news {url('q')}"
    assert await retry_one(frontier, await win(frontier, taken[given_back]), taken[given_back], at=frontier.now() + 60)
    await assert_counts_are_exact(frontier)
    for name in ("default", "news", "shop", "new", "unknown"):
        await assert_counts_are_exact(frontier, crawl=name)
    assert (await frontier.counts(crawl="shop")).by_status[Status.FAILED] == 2
    assert (await frontier.counts(crawl="default")).by_status[Status.PROCESSING] == 1


# Removing.


async def test_a_crawl_is_removed_with_all_it_has(frontier: Frontier, store: Store) -> None:
    await made(frontier, NEWS, SHOP)
    await frontier.enqueue([Entry(url=url("p")), *of(NEWS, "p", "q", "r"), *of(SHOP, "p")])
    taken = await by_key(frontier, 5)
    await finish_one(frontier, await win(frontier, taken[f"@news {url('p')}"]), taken[f"@news {url('p')}"])
    claim = await win(frontier, taken[f"@news {url('q')}"])
    await frontier.park([taken[f"@news {url('r')}"]])
    await frontier.add_seeds(NEWS.ref, {"example.com": ()})
    await frontier.add_seeds(SHOP.ref, {"example.com": ()})
    told: list[int] = []
    assert await frontier.remove_crawl(NEWS.ref, told.append) == 3
    assert told[-1:] == [3]
    assert await frontier.crawls() == [replace(SHOP, version=1)]
    assert await keys_of(frontier) == {url("p"), f"@shop {url('p')}"}
    assert await frontier.seeds(NEWS.ref, ["example.com"]) == {}
    assert await frontier.seeds(SHOP.ref, ["example.com"]) == {"example.com": frozenset()}
    await assert_counts_are_exact(frontier)
    assert (await frontier.counts(crawl="news")).total == 0
    assert not await finish_one(frontier, claim, taken[f"@news {url('q')}"], links=tuple(of(NEWS, "s")))
    assert await frontier.remove_crawl(NEWS.ref) == 0
    await store.elapse(DUE + VISIBILITY + 1)
    await frontier.sweep()
    assert await keys_of(frontier) == {url("p"), f"@shop {url('p')}"}


async def test_a_crawl_of_the_same_name_begins_anew(frontier: Frontier) -> None:
    await made(frontier, NEWS)
    await frontier.enqueue(of(NEWS, "p"))
    await frontier.remove_crawl(NEWS.ref)
    again = replace(NEWS, id="e5")
    await made(frontier, again)
    assert await frontier.enqueue(of(again, "p")) == [True]
    assert await frontier.remove_crawl(NEWS.ref) == 0
    assert await keys_of(frontier) == {f"@news {url('p')}"}
    assert await frontier.crawls() == [replace(again, version=1)]


async def test_loose_urls_are_not_the_default_crawl_s_own(frontier: Frontier, store: Store) -> None:
    await made(frontier, DEFAULT)
    await frontier.enqueue([*of(DEFAULT, "p"), Entry(url=url("loose"))])
    assert await frontier.remove_crawl(DEFAULT.ref) == 1
    assert await keys_of(frontier) == {url("loose")}
    await assert_counts_are_exact(frontier)
    assert (await frontier.counts(crawl="default")).total == 1
    assert await frontier.enqueue([Entry(url=url("p"))]) == [True]
    await frontier.purge_queue()
    await store.elapse(DUE + VISIBILITY + 1)
    assert await frontier.sweep() == 2
    assert {message_of(delivery).crawl for delivery in await take(frontier, 2)} == {None}


async def test_a_loose_message_stays_when_the_default_crawl_goes(frontier: Frontier) -> None:
    await made(frontier, DEFAULT)
    await frontier.enqueue(of(DEFAULT, "p"))
    delivery = await take_one(frontier)
    await frontier.send([url("p")])
    await frontier.remove_crawl(DEFAULT.ref)
    await frontier.delete([delivery])
    loose = await take_one(frontier)
    assert message_of(loose).crawl is None
    assert await finish_one(frontier, await win(frontier, loose), loose)


async def test_who_remembers_what_is_recorded_forgets_it_when_a_crawl_goes(frontier: Frontier, other: Frontier) -> None:
    await made(frontier, NEWS)
    await other.hosts(["example.com"])
    before = other.generation
    await frontier.remove_crawl(NEWS.ref)
    await other.hosts(["example.com"])
    assert other.generation > before


async def test_clearing_removes_crawls_and_seeds_and_shares(frontier: Frontier) -> None:
    until = frontier.now() + 60
    ask = Ask(run="r", most=Most(3), worker_id="one", wanted=3, until=until)
    assert (await frontier.share([ask]))[0].pages == 3
    await made(frontier, NEWS)
    await frontier.add_seeds(NEWS.ref, {"example.com": ()})
    await frontier.enqueue(of(NEWS, "p"))
    await frontier.purge_queue()
    await frontier.clear_table()
    assert await frontier.crawls() == []
    assert await frontier.seeds(NEWS.ref, ["example.com"]) == {}
    assert (await frontier.counts(crawl="news")).total == 0
    assert (await frontier.share([replace(ask, worker_id="two")]))[0].pages == 3
    await made(frontier, NEWS)
    assert await frontier.enqueue(of(NEWS, "p")) == [True]


async def test_messages_outlive_their_records_and_name_their_crawl(frontier: Frontier, store: Store) -> None:
    """Whoever receives one sees that the crawl is gone, and ends it: those that were put aside, too."""
    await made(frontier, NEWS)
    await frontier.enqueue(of(NEWS, "p", "q", "r"))
    taken = await by_key(frontier, 2)
    parked = taken[f"@news {url('p')}"]
    if store.has_own_queue:
        await frontier.park([parked])
    else:
        await frontier.defer([Deferral(delivery=parked, until=store.clock())])
    await frontier.clear_table()
    assert await frontier.enqueue([Entry(url=url("p"))]) == [True]
    await store.elapse(VISIBILITY + A_LITTLE)
    left = [message_of(delivery) for delivery in await take(frontier, 4)]
    assert {(message.crawl, message.url) for message in left} == {
        (None, url("p")),
        *((NEWS.ref, url(name)) for name in "pqr"),
    }


# Seeds.


async def test_seeds_are_noted_once(frontier: Frontier, other: Frontier) -> None:
    await made(frontier, NEWS, SHOP)
    assert await frontier.add_seeds(NEWS.ref, {"a.example": (), "b.example": ["https://b.example/x/"]})
    assert not await other.add_seeds(NEWS.ref, {"a.example": (), "b.example": ["https://b.example/x/"]})
    assert await other.add_seeds(NEWS.ref, {"b.example": ["https://b.example/x/", "https://b.example/y/"]})
    assert await frontier.add_seeds(SHOP.ref, {"a.example": ()})
    assert await frontier.seeds(NEWS.ref, ["a.example", "b.example", "c.example"]) == {
        "a.example": frozenset(),
        "b.example": frozenset({"https://b.example/x/", "https://b.example/y/"}),
    }
    assert not await frontier.add_seeds(NEWS.ref, {})
    assert await frontier.seeds(SHOP.ref, ["b.example"]) == {}


# What is put aside.


def kept_in_queue(store: Store, count: int) -> int:
    """How many of so many messages that are put aside are in the queue: SQS cannot keep them, their records do."""
    return count if store.has_own_queue else 0


async def test_what_is_put_aside_is_received_by_nobody(frontier: Frontier, other: Frontier, store: Store) -> None:
    await made(frontier, NEWS, SHOP)
    await frontier.enqueue([*of(NEWS, "p", "q"), *of(SHOP, "p")])
    taken = await by_key(frontier, 3)
    parked = [taken[f"@news {url('p')}"], taken[f"@news {url('q')}"]]
    await frontier.park(parked)
    await frontier.delete([taken[f"@shop {url('p')}"]])
    await frontier.park(parked)  # their receipts are stale now
    stats = await frontier.queue_stats()
    assert (stats.visible, stats.in_flight, stats.delayed) == (0, 0, kept_in_queue(store, 2))
    await store.elapse(VISIBILITY + 1)
    assert await other.receive(10) == []
    assert await frontier.unpark(SHOP.ref) == 0
    assert await other.receive(10) == []
    await frontier.unpark(NEWS.ref)
    again = await by_key(other, 2)
    assert set(again) == {f"@news {url('p')}", f"@news {url('q')}"}
    assert {delivery.receive_count for delivery in again.values()} == {1}
    assert await frontier.unpark(NEWS.ref) == 0
    for delivery in again.values():
        assert await finish_one(other, await win(other, delivery), delivery)
    assert (await frontier.queue_stats()).is_empty


async def test_what_anybody_sent_is_put_aside_too(frontier: Frontier, store: Store) -> None:
    await made(frontier, NEWS)
    await frontier.send([encode_message(entry.to_message()) for entry in of(NEWS, "p", "q")])
    taken = await by_key(frontier, 2)
    await frontier.park(list(taken.values()))
    await store.elapse(VISIBILITY + 1)
    stats = await frontier.queue_stats()
    assert (stats.visible, stats.in_flight, stats.delayed, stats.dead) == (0, 0, kept_in_queue(store, 2), 0)
    assert await frontier.receive(10) == []
    await frontier.unpark(NEWS.ref)
    for delivery in (await by_key(frontier, 2)).values():
        assert await finish_one(frontier, await win(frontier, delivery), delivery)
    assert (await frontier.queue_stats()).is_empty


async def test_a_sweep_leaves_aside_what_is_put_aside(frontier: Frontier, store: Store) -> None:
    await made(frontier, NEWS)
    await frontier.enqueue(of(NEWS, "p"))
    await frontier.park([await take_one(frontier)])
    await store.elapse(DUE + VISIBILITY + 1)
    assert await frontier.sweep() == 0
    assert await frontier.receive(10) == []
    assert (await frontier.counts()).open == 1
    assert await frontier.unpark(NEWS.ref) == 1


async def test_a_url_that_is_put_aside_can_end_by_another_message(frontier: Frontier) -> None:
    """One that was sent besides: the record's own message goes with its end."""
    await made(frontier, NEWS)
    await frontier.enqueue(of(NEWS, "p"))
    await frontier.park([await take_one(frontier)])
    await frontier.send([encode_message(of(NEWS, "p")[0].to_message())])
    delivery = await take_one(frontier)
    assert await finish_one(frontier, await win(frontier, delivery), delivery)
    assert (await frontier.queue_stats()).is_empty
    assert await frontier.unpark(NEWS.ref) == 0


# What is of no crawl that is there.


async def test_a_crawl_that_is_not_there_takes_no_urls(frontier: Frontier, store: Store) -> None:
    await made(frontier, NEWS)
    stale = CrawlRef("news", "0")
    if store.has_own_queue:  # it costs a read elsewhere: whoever works asks before
        assert await frontier.enqueue([Entry(url=url("p"), crawl=stale), *of(SHOP, "p")]) == [False, False]
        assert await frontier.add_seeds(stale, {"example.com": ()}) is False
    await frontier.send([encode_message(Entry(url=url("p"), crawl=stale).to_message())])
    await frontier.enqueue(of(NEWS, "p"))
    for delivery in await take(frontier, 2):
        if message_of(delivery).crawl == stale:
            lost = assert_lost(await try_claim(frontier, delivery), LostReason.REFUSED)
            assert "news.0" in lost.detail
        else:
            await win(frontier, delivery)
    assert await keys_of(frontier) == {f"@news {url('p')}"}


# Histories.


@pytest.mark.parametrize("seed", range(4))
async def test_any_history_keeps_the_crawls_apart(frontier: Frontier, other: Frontier, store: Store, seed: int) -> None:
    """A random walk: whatever becomes of one crawl, another's records and sums are its own, and nothing is lost."""
    rng = random.Random(seed)
    known: dict[str, set[str]] = {"default": set()}
    crawls: dict[str, Crawl] = {}
    held: list[Delivery] = []
    number = 0

    async def removed(name: str) -> None:
        crawl = crawls.pop(name)
        assert await rng.choice((frontier, other)).remove_crawl(crawl.ref) == len(known.pop(name))

    async def step(name: str, handle: Frontier) -> None:
        match name:
            case "make":
                crawl = Crawl(name=rng.choice(("news", "shop", "new")), id=f"{number:x}")
                if crawl.name in crawls:
                    await removed(crawl.name)
                assert await handle.save_crawl(crawl)
                crawls[crawl.name], known[crawl.name] = crawl, set()
            case "enqueue":
                batch = [_entry(rng, crawls) for _ in range(rng.randrange(1, 6))]
                before = {(each.crawl.name if each.crawl else "default", each.url) for each in batch}
                new = await handle.enqueue(batch)
                assert sum(new) == sum(address not in known[of] for of, address in before)
                for of, address in before:
                    known[of].add(address)
            case "receive":
                held.extend(await handle.receive(rng.randrange(1, 11)))
            case "finish" | "retry" if held:
                delivery = held.pop(rng.randrange(len(held)))
                if not store.has_own_queue and _is_of_none(delivery, crawls):  # whoever works asks before, there
                    await handle.delete([delivery])
                elif not isinstance(claim := await try_claim(handle, delivery, claim=f"c{number}"), Won):
                    assert claim.why is not LostReason.REFUSED or _is_of_none(delivery, crawls)
                    await handle.delete([delivery])
                elif name == "finish":
                    assert await finish_one(handle, claim, delivery, rng.choice((DONE, GONE)))
                else:
                    assert await retry_one(handle, claim, delivery, at=store.clock())
            case "park" if held and message_of(held[0]).crawl is not None:
                await handle.park([held.pop(0)])
            case "unpark" if crawls:
                await handle.unpark(rng.choice(list(crawls.values())).ref)
            case "elapse":
                await store.elapse(rng.choice((0.01, VISIBILITY, DUE)))
                await handle.sweep()
            case _:
                pass

    steps = ("make", *["enqueue", "receive", "finish"] * 4, "retry", "park", "park", "unpark", "elapse")
    while number < (150 if store.has_own_queue else 40):
        number += 1
        await step(rng.choice(steps), rng.choice((frontier, other)))
    found = {name: {split_key(key)[1] for key in await keys_of(frontier, crawl=name)} for name in known}
    assert found == known
    for name in known:
        await assert_counts_are_exact(frontier, other, crawl=name)
    await assert_counts_are_exact(frontier)
    if store.address.startswith("sqlite:"):
        assert check_file(store.address.removeprefix("sqlite:")).faults == ()
    for crawl in list(crawls.values()):
        await frontier.unpark(crawl.ref)
    rounds = 0
    while (await frontier.counts()).open:
        rounds += 1
        assert rounds < 20, "something is lost"
        # SQS lets nothing wait longer than that: no sweep looks for what may be there.
        await store.elapse(DUE + LEASE + VISIBILITY if store.has_own_queue else 900)
        await frontier.sweep()
        while deliveries := await frontier.receive(10):
            for delivery in deliveries:
                if not store.has_own_queue and _is_of_none(delivery, crawls):
                    await frontier.delete([delivery])
                elif isinstance(claim := await try_claim(frontier, delivery, claim=f"d{rounds}"), Won):
                    await finish_one(frontier, claim, delivery)
                else:
                    await frontier.delete([delivery])


def _is_of_none(delivery: Delivery, crawls: dict[str, Crawl]) -> bool:
    """Whether it is of a crawl that was removed."""
    ref = message_of(delivery).crawl
    return ref is not None and ref not in {crawl.ref for crawl in crawls.values()}


def _entry(rng: random.Random, crawls: dict[str, Crawl]) -> Entry:
    crawl = rng.choice((None, *crawls.values()))
    return Entry(url=url(rng.randrange(15)), crawl=crawl.ref if crawl else None, parent=url(rng.randrange(15)))


# Turns.


async def test_a_turn_takes_urls_of_several_crawls(frontier: Frontier, store: Store) -> None:
    if not store.has_own_queue:
        return
    turning: TurningFrontier = frontier  # type: ignore[assignment]  # its traits say so
    await made(frontier, NEWS, SHOP)
    await frontier.enqueue([Entry(url=url("p")), *of(NEWS, "p"), *of(SHOP, "p")])
    taking = Taking(
        limit=10, worker_id="one", claim_id="c1", lease_seconds=5, claims=lambda message: bool(message.crawl)
    )
    taken = (await turning.turn(Ends(), taking)).taken
    won: Sequence[str] = [each.claim.url for each in taken if each.claim is not None]
    assert sorted(won) == [f"@news {url('p')}", f"@shop {url('p')}"]
    assert len(taken) == 3
