"""Where captures lie is kept with what came of their visits, from visit to visit, and moved when the archive is."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Final

import msgspec
import pytest

from sqspider.crawl_row import Crawl
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Delivery, Entry, Finish, Frontier, Won
from sqspider.frontier.aws.attributes import n, plain, typed
from sqspider.frontier.aws.items import encode_kept, encode_outcome
from sqspider.record import CapturePlace, Kept, Outcome
from sqspider.revisit import after_visit, unchanged
from tests.simulation.fake_store import FakeAwsStore

from .kit import (
    DONE,
    FORBIDDEN,
    GONE,
    TROUBLE,
    SqliteStore,
    Store,
    all_records,
    assert_counts_are_exact,
    entries,
    finish_one,
    made,
    record_of,
    retry_one,
    take_one,
    url,
    win,
)

FIRST: Final = CapturePlace("crawl-20261130120000-00000-host-1a2b3c4d.warc.gz", 417, 8_123, "A" * 32, 1764504000.123456)
SECOND: Final = CapturePlace(
    "crawl-20261130120000-00001-host-5e6f7a8b.warc.gz", 5_000_000_000, 902, "B" * 32, 1764504001.5
)
SAME: Final = msgspec.structs.replace(SECOND, payload=FIRST)  # a revisit of the first
ELSEWHERE: Final = msgspec.structs.replace(SECOND, payload=msgspec.structs.replace(FIRST, url=url("another")))
NEW: Final = CapturePlace("packed-00000.warc.gz", 77, 8_000, "", 0.0)
UNKEPT: Final = msgspec.structs.replace(DONE, unkept=True)


def stored(outcome: Outcome, capture: CapturePlace | None) -> Outcome:
    return msgspec.structs.replace(outcome, capture=capture)


def at(place: CapturePlace, to: CapturePlace) -> CapturePlace:
    """A place whose capture lies elsewhere by now."""
    return msgspec.structs.replace(place, file=to.file, offset=to.offset, length=to.length)


def where(place: CapturePlace) -> tuple[str, int]:
    return place.file, place.offset


async def visit(frontier: Frontier, outcome: Outcome, kept: Kept | None = None) -> Won:
    """End the one visit that waits."""
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    assert await frontier.finish([Finish(claim=claim, delivery=delivery, outcome=outcome, kept=kept)]) == [True]
    return claim


async def good_of(frontier: Frontier, name: str) -> Outcome:
    record = await record_of(frontier, name)
    assert record.kept is not None
    assert record.kept.good is not None
    return record.kept.good


@pytest.mark.parametrize(
    "outcome",
    [
        stored(DONE, FIRST),
        stored(GONE, FIRST),
        stored(DONE, SAME),
        stored(DONE, ELSEWHERE),
        stored(DONE, msgspec.structs.replace(FIRST, digest="no SHA-1", file="ä b/c.warc.gz")),
        UNKEPT,
        DONE,
        FORBIDDEN,
    ],
    ids=["page", "error", "revisit", "revisit of another URL", "odd", "unkept", "none", "blocked"],
)
async def test_a_place_is_read_as_it_was_written(store: Store, outcome: Outcome) -> None:
    frontier = await store.open()
    await frontier.enqueue(entries(1))
    await visit(frontier, outcome)
    another = await store.open()
    assert (await record_of(another, url(0))).outcome == outcome
    assert (await all_records(another))[url(0)].outcome == outcome


async def test_a_retry_says_where_its_answer_lies(frontier: Frontier) -> None:
    await frontier.enqueue(entries(1))
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    assert await retry_one(frontier, claim, delivery, at=frontier.now(), tried=True, outcome=stored(TROUBLE, FIRST))
    assert (await record_of(frontier, url(0))).outcome == stored(TROUBLE, FIRST)
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery, claim="c2")
    assert await retry_one(frontier, claim, delivery, at=frontier.now(), tried=False)
    assert (await record_of(frontier, url(0))).outcome == stored(TROUBLE, FIRST), "nothing was fetched since"
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery, claim="c3")
    assert await retry_one(frontier, claim, delivery, at=frontier.now(), tried=True, outcome=TROUBLE)
    assert (await record_of(frontier, url(0))).outcome == TROUBLE, "and now there was no answer"


@pytest.mark.parametrize("if_changed", [True, False])
async def test_the_next_visit_is_told_what_it_may_refer_to(frontier: Frontier, if_changed: bool) -> None:
    """Also where one in between has failed."""
    await frontier.enqueue(entries(1))
    good = stored(DONE, SAME)
    await visit(frontier, good)
    await frontier.reopen([url(0)], if_changed=if_changed)
    assert (await record_of(frontier, url(0))).outcome == good
    claim = await visit(frontier, stored(GONE, SECOND), Kept(good=good))
    assert claim.kept == Kept(good=good)
    record = await record_of(frontier, url(0))
    assert (record.outcome, record.kept) == (stored(GONE, SECOND), Kept(good=good))
    await frontier.reopen([url(0)], if_changed=if_changed)
    delivery = await take_one(frontier)
    assert (await win(frontier, delivery)).kept == Kept(good=good)


async def test_a_try_that_met_trouble_takes_nothing_of_the_good_visit_before(frontier: Frontier) -> None:
    await frontier.enqueue(entries(1))
    good = stored(DONE, FIRST)
    await visit(frontier, good)
    await frontier.reopen([url(0)], if_changed=True)
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    trouble = stored(TROUBLE, SECOND)
    assert await retry_one(frontier, claim, delivery, at=frontier.now(), tried=True, outcome=trouble)
    record = await record_of(frontier, url(0))
    assert (record.outcome, record.kept) == (trouble, Kept(good=good))
    assert (await win(frontier, await take_one(frontier), claim="c2")).kept == Kept(good=good)


async def test_what_was_not_kept_is_told_to_the_next_visit(frontier: Frontier) -> None:
    await frontier.enqueue(entries(1))
    await visit(frontier, UNKEPT)
    await frontier.reopen([url(0)])
    assert (await win(frontier, await take_one(frontier))).kept == Kept(good=UNKEPT)


async def test_what_has_not_changed_has_a_capture_of_its_own(frontier: Frontier) -> None:
    await frontier.enqueue(entries(1))
    await visit(frontier, stored(DONE, FIRST))
    await frontier.reopen([url(0)], if_changed=True)
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    assert claim.kept is not None
    assert claim.kept.good is not None
    outcome = unchanged(claim.kept.good, 5)
    assert outcome.capture is None, "it is yet to be made"
    outcome = stored(outcome, SAME)
    kept = after_visit(claim.kept, outcome, [], frontier.now())
    assert await frontier.finish([Finish(claim=claim, delivery=delivery, outcome=outcome, kept=kept)]) == [True]
    assert (await record_of(frontier, url(0))).outcome == outcome
    await frontier.reopen([url(0)])
    assert (await good_of(frontier, url(0))).capture == SAME


async def test_a_nearer_way_leaves_the_place(frontier: Frontier) -> None:
    """To what is final, and to what is to be asked for whole once that is known."""
    settings = CrawlSettings(max_depth=9)
    await frontier.enqueue([Entry(url=url(0), depth=5, parent=url("far"), settings=settings)])
    await visit(frontier, stored(GONE, FIRST))
    await frontier.enqueue([Entry(url=url(0), depth=3, parent=url("near"), settings=settings)])
    assert (await record_of(frontier, url(0))).outcome == stored(GONE, FIRST)

    await frontier.enqueue([Entry(url=url(1), depth=5, parent=url("far"), settings=settings)])
    kept = Kept(etag='"x"')
    await visit(frontier, stored(DONE, SECOND), kept)
    await frontier.reopen([url(1)], if_changed=True)
    assert (await record_of(frontier, url(1))).kept == Kept(etag='"x"', good=stored(DONE, SECOND))
    await frontier.enqueue([Entry(url=url(1), depth=3, parent=url("near"), settings=settings)])
    assert (await record_of(frontier, url(1))).kept == Kept(good=stored(DONE, SECOND))


async def test_who_clears_or_removes_takes_the_places_along(frontier: Frontier) -> None:
    crawl = Crawl(name="news", id="a1")
    await made(frontier, crawl)
    await frontier.enqueue([Entry(url=url(0), crawl=crawl.ref)])
    await visit(frontier, stored(DONE, FIRST))
    assert await frontier.remove_crawl(crawl.ref) == 1
    await frontier.enqueue(entries(2))
    for _ in range(2):
        await visit(frontier, stored(DONE, FIRST))
    assert await frontier.clear_table() == 2
    await frontier.enqueue(entries(1))
    assert (await record_of(frontier, url(0))).outcome is None
    await visit(frontier, stored(DONE, SECOND))
    assert (await record_of(frontier, url(0))).outcome == stored(DONE, SECOND)


# The archive is put in order.


async def test_what_was_packed_is_found_where_it_lies_now(frontier: Frontier) -> None:
    """The capture of the last visit, what that refers to, and that of the good visit before."""
    moves = {where(FIRST): NEW}
    outcomes = [stored(DONE, FIRST), stored(DONE, ELSEWHERE), stored(DONE, SECOND), UNKEPT, FORBIDDEN]
    await frontier.enqueue(entries(len(outcomes)))
    found = {}
    for outcome in outcomes:
        found[(await visit(frontier, outcome)).url] = outcome
    expected = {
        url: msgspec.structs.replace(outcome, capture=moved(outcome.capture, moves)) for url, outcome in found.items()
    }
    assert await frontier.move_places(moves) == 2
    records = await all_records(frontier)
    assert {url: record.outcome for url, record in records.items()} == expected
    assert await frontier.move_places(moves) == 0, "nothing lies there any more"
    await assert_counts_are_exact(frontier)


def moved(place: CapturePlace | None, moves: Mapping[tuple[str, int], CapturePlace]) -> CapturePlace | None:
    if place is None:
        return None
    if place.payload is not None and where(place.payload) in moves:
        place = msgspec.structs.replace(place, payload=at(place.payload, moves[where(place.payload)]))
    return at(place, moves[where(place)]) if where(place) in moves else place


async def test_what_the_next_visit_refers_to_is_moved_too(frontier: Frontier) -> None:
    await frontier.enqueue(entries(1))
    await visit(frontier, stored(DONE, FIRST), Kept(etag='"x"', changes=2, changed_at=7.5))
    await frontier.reopen([url(0)], if_changed=True)
    delivery = await take_one(frontier)
    assert await frontier.move_places({where(FIRST): NEW}) == 1
    good = stored(DONE, at(FIRST, NEW))
    record = await record_of(frontier, url(0))
    assert record.outcome == good
    assert record.kept == Kept(etag='"x"', changes=2, changed_at=7.5, good=good)
    claim = await win(frontier, delivery)
    assert claim.kept == record.kept
    assert await finish_one(frontier, claim, delivery, stored(GONE, SECOND)), "its claim is as good as before"


async def test_what_was_erased_is_not_kept(frontier: Frontier) -> None:
    await frontier.enqueue(entries(1))
    await visit(frontier, stored(DONE, FIRST))
    await frontier.reopen([url(0)])
    assert await frontier.move_places({where(FIRST): None}) == 1
    record = await record_of(frontier, url(0))
    assert (record.outcome, record.kept) == (UNKEPT, Kept(good=UNKEPT))


async def test_a_revisit_outlives_the_payload_that_it_refers_to(frontier: Frontier) -> None:
    await frontier.enqueue(entries(1))
    await visit(frontier, stored(DONE, SAME))
    assert await frontier.move_places({where(FIRST): None}) == 1
    assert (await record_of(frontier, url(0))).outcome == stored(DONE, SECOND)


class Watched(Mapping[tuple[str, int], CapturePlace | None]):
    """Moves that do something when they are first asked about."""

    def __init__(self, moves: Mapping[tuple[str, int], CapturePlace | None], at_first: Callable[[], None]) -> None:
        self._moves, self._at_first = moves, at_first
        self.asked = 0

    def __getitem__(self, key: tuple[str, int]) -> CapturePlace | None:
        self.asked += 1
        if self.asked == 1:
            self._at_first()
        return self._moves[key]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        raise NotImplementedError("there may be millions of them")

    def __len__(self) -> int:
        raise NotImplementedError("there may be millions of them")


async def test_a_record_that_is_visited_meanwhile_keeps_its_own_place_in_a_file(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    frontier = await store.open()
    await frontier.enqueue(entries(2))
    places = {(await visit(frontier, stored(DONE, place))).url: place for place in (FIRST, SECOND)}
    [first] = [name for name, place in places.items() if place == FIRST]
    with closing(sqlite3.connect(tmp_path / "frontier.db")) as connection:
        (second,) = connection.execute("SELECT capture FROM record WHERE url != ?", (first,)).fetchone()

        def at_first() -> None:
            connection.execute("UPDATE record SET capture = ?", (second,))
            connection.commit()

        moves = Watched({where(FIRST): NEW}, at_first)
        assert await frontier.move_places(moves) == 0
    assert moves.asked
    assert (await record_of(frontier, first)).outcome == stored(DONE, SECOND)
    await store.close()


@pytest.mark.parametrize("what", ["visited", "reopened", "asked for whole"])
async def test_a_record_that_is_changed_meanwhile_keeps_what_it_says_on_aws(what: str) -> None:
    """It is read again, and told what is true of it by then."""
    store = FakeAwsStore()
    frontier = await store.open()
    await frontier.enqueue(entries(1))
    await visit(frontier, stored(DONE, FIRST))
    if what == "asked for whole":
        await frontier.reopen([url(0)], if_changed=True)
    item = store.aws.table.items[url(0)]

    def at_first() -> None:
        if what == "visited":
            item["attempt"], item["outcome"] = n(2), encode_outcome(stored(DONE, SECOND))
        elif what == "reopened":
            item["status"], item["visit"] = typed("queued"), n(1)
        else:
            item["kept"] = typed(encode_kept(Kept(changes=9, good=stored(DONE, FIRST))))

    moves = Watched({where(FIRST): NEW}, at_first)
    assert await frontier.move_places(moves) == (what != "visited")
    record = await record_of(frontier, url(0))
    assert record.outcome == stored(DONE, SECOND if what == "visited" else at(FIRST, NEW))
    if what == "asked for whole":
        assert record.kept is not None
        assert record.kept.changes == 9
    await store.close()


async def test_a_claim_that_is_held_remembers_where_it_was(frontier: Frontier) -> None:
    """What is written back at its end is moved by doing it once more."""
    await frontier.enqueue(entries(1))
    await visit(frontier, stored(DONE, FIRST))
    await frontier.reopen([url(0)])
    delivery: Delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    moves = {where(FIRST): NEW}
    assert await frontier.move_places(moves) == 1
    kept = after_visit(claim.kept, GONE, [], frontier.now())
    assert await frontier.finish([Finish(claim=claim, delivery=delivery, outcome=GONE, kept=kept)]) == [True]
    assert (await good_of(frontier, url(0))).capture == FIRST
    assert await frontier.move_places(moves) == 1
    assert (await good_of(frontier, url(0))).capture == at(FIRST, NEW)


class OldOutcome(msgspec.Struct, kw_only=True, omit_defaults=True):
    """As workers of the version before read it from the table, or a part of it."""

    status: str
    http_status: int | None = None
    links_skipped: dict[str, int] = {}


def test_an_older_worker_reads_the_record_and_knows_nothing_of_its_capture() -> None:
    """In the table several versions may work together. Where one of those ends a visit, there is no capture of it."""
    written = encode_outcome(stored(DONE, ELSEWHERE))
    read = msgspec.convert(plain(written), OldOutcome)
    assert (read.status, read.http_status, read.links_skipped) == ("done", 200, {"out_of_scope": 12, "depth_limit": 1})
    kept = encode_kept(Kept(etag="x", good=stored(DONE, ELSEWHERE)))
    assert msgspec.json.decode(kept, type=OldKept).good == read
    assert msgspec.json.decode(kept, type=Kept) == Kept(etag="x", good=stored(DONE, ELSEWHERE))


class OldKept(msgspec.Struct, kw_only=True):
    """The same of what it keeps from visit to visit."""

    good: OldOutcome | None = None


def test_a_record_without_a_capture_says_nothing_of_it() -> None:
    assert not {"capture", "unkept"} & encode_outcome(DONE)["M"].keys()


def test_a_place_is_no_longer_than_it_must_be() -> None:
    assert [next(iter(value)) for value in encode_outcome(stored(DONE, FIRST))["M"]["capture"]["L"]] == list("SNNSN")
