"""The nearest way wins: whatever is found first, records say the fewest links and the fewest redirects, and what lies
behind them is recorded as far as a breadth-first walk comes."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping
from typing import Final, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.crawl_settings import MAX_DEPTH, CrawlSettings
from sqspider.frontier import Delivery, Entry, Finish, Frontier, Onward, Outlinks, Won
from sqspider.frontier.aws import AwsFrontier
from sqspider.frontier.ways import (
    OUTSIDE,
    Consequence,
    Fall,
    Way,
    consequence,
    fallen,
    handed_on,
    is_within_depth,
    nearest_of_each,
    way_on,
)
from sqspider.message import Message
from sqspider.record import REQUISITE_DEPTH, Outcome, Reason, Status, UrlRecord
from sqspider.url import Scope
from tests.aws.store import AwsStore

from .kit import (
    A_LITTLE,
    DONE,
    GONE,
    LEASE,
    VISIBILITY,
    Store,
    all_records,
    assert_counts_are_exact,
    claim_all,
    finish_one,
    message_of,
    record_of,
    retry_one,
    take_one,
    try_claim,
    url,
    win,
)

replace = msgspec.structs.replace
MOST_REDIRECTS: Final = 10
LIMITED: Final = CrawlSettings(max_depth=3, scope=Scope.ANY)
WITHOUT_LIMIT: Final = CrawlSettings(scope=Scope.ANY)
LED: Final = Outcome(status=Status.DONE, http_status=301, redirect_to=url("there"))
TOO_DEEP: Final = Outcome(status=Status.BLOCKED, reason=Reason.DEPTH_LIMIT)
TOO_MANY: Final = Outcome(status=Status.FAILED, reason=Reason.TOO_MANY_REDIRECTS, http_status=301)

KEEPING: Final = CrawlSettings(scope=Scope.ANY, keep_skipped=True)


def cut_off(reason: Reason) -> Outcome:
    return Outcome(status=Status.BLOCKED, reason=reason)


# The rules.

names = st.sampled_from([url(name) for name in "abc"])
ways = st.builds(Way, st.integers(0, 5), st.integers(0, 5))


@given(
    st.lists(
        st.builds(
            Entry,
            url=names,
            redirects=st.integers(0, 5),
            depth=st.integers(0, 5),
            parent=names,
            is_skipped=st.booleans(),
        )
    )
)
def test_of_entries_for_one_url_the_nearest_way_counts(entries: list[Entry]) -> None:
    nearest = nearest_of_each(entries)
    assert list(nearest) == list(dict.fromkeys(entry.url for entry in entries))
    for name, entry in nearest.items():
        of_url = [e for e in entries if e.url == name]
        first_nearest = min(of_url, key=lambda e: e.depth)
        assert (entry.depth, entry.parent) == (first_nearest.depth, first_nearest.parent)
        assert entry == replace(
            of_url[0],
            depth=entry.depth,
            parent=entry.parent,
            redirects=min(e.redirects for e in of_url),
            is_skipped=all(e.is_skipped for e in of_url),
        )


@given(ways, ways, st.sampled_from(Status), st.sampled_from([LIMITED, WITHOUT_LIMIT]))
def test_a_way_only_comes_nearer(told: Way, way: Way, status: Status, settings: CrawlSettings) -> None:
    entry = Entry(url=url("a"), depth=told.depth, redirects=told.redirects, settings=settings)
    fall = fallen(entry, status, *way)
    nearest = Way(min(told.depth, way.depth), min(told.redirects, way.redirects))
    is_asked_for = not status.is_final or settings is LIMITED
    assert fall == (Fall(way, nearest) if nearest != way and is_asked_for else None)


@given(st.sampled_from(Onward), ways, ways)
def test_what_is_nearer_leads_no_farther(onward: Onward, one: Way, other: Way) -> None:
    """So it is all the same in what order ways are found."""
    nearest = Way(min(one.depth, other.depth), min(one.redirects, other.redirects))
    for way in (one, other):
        assert all(a <= b for a, b in zip(way_on(onward, nearest), way_on(onward, way), strict=True))
    assert way_on(onward, Way(0, 0)).depth == (onward is Onward.LINK)


KEPT: Final = Outlinks((url("b"),))
OTHER: Final = Outlinks((url("b"),), is_other_for_seeds=True)
TO: Final = Outlinks((url("b"),), Onward.REDIRECT)


@pytest.mark.parametrize(
    ("outcome", "outlinks", "before", "now", "follows"),
    [
        (DONE, KEPT, (2, 0), (1, 0), Consequence.HAND_ON),
        (DONE, KEPT, (2, 3), (2, 0), Consequence.NONE),  # its links are as far
        (DONE, None, (2, 0), (1, 0), Consequence.VISIT),
        (DONE, None, (2, 3), (2, 0), Consequence.NONE),
        (DONE, OTHER, (2, 0), (1, 0), Consequence.HAND_ON),
        (DONE, OTHER, (2, 0), (0, 0), Consequence.VISIT),
        (LED, TO, (2, 3), (2, 1), Consequence.HAND_ON),
        (LED, None, (2, 3), (2, 1), Consequence.VISIT),
        (GONE, None, (2, 3), (0, 0), Consequence.NONE),
        (TOO_MANY, None, (2, 10), (1, 10), Consequence.NONE),
        (TOO_MANY, None, (2, 10), (2, 1), Consequence.VISIT),
        (cut_off(Reason.DEPTH_LIMIT), None, (4, 0), (4, 0), Consequence.NONE),
        (cut_off(Reason.DEPTH_LIMIT), None, (4, 0), (3, 0), Consequence.VISIT),
        (cut_off(Reason.OUT_OF_SCOPE), None, (2, 0), (1, 0), Consequence.NONE),  # it is no more within by that
        (cut_off(Reason.OUT_OF_SCOPE), None, (2, 0), (0, 0), Consequence.VISIT),
        (cut_off(Reason.EXCLUDED), None, OUTSIDE, (2, 0), Consequence.VISIT),
        (cut_off(Reason.ROBOTS), None, OUTSIDE, (2, 0), Consequence.NONE),
    ],
)
def test_what_follows_once_a_nearer_way_is_found(
    outcome: Outcome, outlinks: Outlinks | None, before: tuple[int, int], now: tuple[int, int], follows: Consequence
) -> None:
    assert consequence(outcome, outlinks, Fall(Way(*before), Way(*now))) is follows


def test_what_is_handed_on_is_as_deep_as_it_may_be() -> None:
    of = Message(url=url("a"), depth=2, settings=LIMITED)
    (entry,) = handed_on(KEPT, of)
    assert (entry.url, entry.depth, entry.redirects, entry.parent) == (url("b"), 3, 0, url("a"))
    assert entry.settings == replace(LIMITED, seed=url("a"))
    assert handed_on(KEPT, replace(of, depth=3)) == []
    (entry,) = handed_on(TO, replace(of, depth=3, redirects=1))
    assert (entry.depth, entry.redirects) == (3, 2)
    assert is_within_depth(Way(10**6, 0), None)
    assert not is_within_depth(Way(10**6 + 1, 0), None)


# What every frontier does.


def seen(record: UrlRecord) -> tuple[int, int, str | None]:
    return record.depth, record.redirects, record.parent


@pytest.mark.parametrize("settings", [LIMITED, WITHOUT_LIMIT])
async def test_a_nearer_way_to_an_open_record_is_told(frontier: Frontier, settings: CrawlSettings) -> None:
    far = Entry(url=url("a"), depth=3, redirects=2, parent=url("far"), settings=settings)
    await frontier.enqueue([far])
    delivery = await take_one(frontier)
    told = [
        (replace(far, depth=4, redirects=3, parent=url("x")), (3, 2, url("far"))),
        (replace(far, depth=2, redirects=3, parent=url("near")), (2, 2, url("near"))),
        (replace(far, depth=3, redirects=1, parent=url("x")), (2, 1, url("near"))),
        (replace(far, depth=2, redirects=1, parent=url("x")), (2, 1, url("near"))),
    ]
    for entry, held in told:
        assert await frontier.enqueue([entry]) == [False]
        assert seen(await record_of(frontier, url("a"))) == held
    claim = await win(frontier, delivery)
    assert (claim.depth, claim.redirects) == (2, 1), "it holds over what the message says"
    assert await frontier.enqueue([Entry(url=url("a"), settings=settings)]) == [False]  # somebody asks for it by itself
    assert seen(await record_of(frontier, url("a"))) == (0, 0, None)
    again = await try_claim(frontier, delivery)  # whose answer was lost
    assert isinstance(again, Won)
    assert (again.attempt, again.depth, again.redirects) == (claim.attempt, 0, 0)
    assert await finish_one(frontier, claim, delivery)
    assert seen(await record_of(frontier, url("a"))) == (0, 0, None)
    await assert_counts_are_exact(frontier)


async def test_without_a_limit_of_depth_a_final_record_stays_as_it_is(frontier: Frontier) -> None:
    entry = Entry(url=url("a"), depth=3, parent=url("far"), settings=WITHOUT_LIMIT)
    await frontier.enqueue([entry])
    delivery = await take_one(frontier)
    assert await finish_one(frontier, await win(frontier, delivery), delivery)
    before = await record_of(frontier, url("a"))
    assert await frontier.enqueue([replace(entry, depth=1)]) == [False]
    assert await record_of(frontier, url("a")) == before
    assert (await frontier.queue_stats()).is_empty


@pytest.mark.parametrize("outcome", [GONE, Outcome(status=Status.BLOCKED, reason=Reason.ROBOTS)])
async def test_what_led_nowhere_is_told_a_nearer_way_and_no_more(frontier: Frontier, outcome: Outcome) -> None:
    entry = Entry(url=url("a"), depth=3, parent=url("far"), settings=LIMITED)
    await frontier.enqueue([entry])
    delivery = await take_one(frontier)
    assert await finish_one(frontier, await win(frontier, delivery), delivery, outcome)
    await frontier.enqueue([replace(entry, depth=1, parent=url("near"))])
    record = await record_of(frontier, url("a"))
    assert (seen(record), record.status, record.visit) == ((1, 0, url("near")), outcome.status, 0)
    await assert_counts_are_exact(frontier)


@pytest.mark.parametrize("settings", [KEEPING, replace(KEEPING, max_depth=3)])
@pytest.mark.parametrize("reason", [Reason.OUT_OF_SCOPE, Reason.EXCLUDED, Reason.DEPTH_LIMIT, Reason.ROBOTS])
async def test_what_was_kept_for_lying_outside_is_visited_when_it_lies_within(
    frontier: Frontier, settings: CrawlSettings, reason: Reason
) -> None:
    """Once a link to it is followed, or it is given by itself; not for one more that is not."""
    kept = Entry(url=url("a"), depth=2, parent=url("p"), settings=settings, is_skipped=True)
    await frontier.enqueue([kept])
    for number, entry in enumerate((replace(kept, is_skipped=False), Entry(url=url("a"), settings=settings))):
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery, claim=f"c{number}")
        assert await finish_one(frontier, claim, delivery, cut_off(reason))
        before = await record_of(frontier, url("a"))
        assert await frontier.enqueue([kept]) == [False]
        assert await record_of(frontier, url("a")) == before
        assert await frontier.enqueue([kept, entry]) == [False, False]
        record = await record_of(frontier, url("a"))
        comes = reason is not Reason.ROBOTS
        assert (record.status.is_final, record.visit) == (not comes, (number + 1) * comes)
        assert record.depth == min(entry.depth, 2)
        await assert_counts_are_exact(frontier)
        if not comes:
            return


CHECKING: Final = CrawlSettings(scope=Scope.HOST, check_external=True, max_depth=3)


@pytest.mark.parametrize("settings", [CHECKING, replace(CHECKING, max_depth=None)])
@pytest.mark.parametrize("outcome", [DONE, GONE, LED], ids=["there", "gone", "led on"])
async def test_what_was_checked_for_lying_outside_is_visited_when_it_lies_within(
    frontier: Frontier, settings: CrawlSettings, outcome: Outcome
) -> None:
    """By a link that is no nearer than that by which it was checked, or by itself; not for one more that is not."""
    checked = Entry(url=url("a"), depth=2, parent=url("p"), settings=settings, is_skipped=True)
    await frontier.enqueue([checked])
    for number, entry in enumerate((replace(checked, is_skipped=False), Entry(url=url("a"), settings=settings))):
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery, claim=f"c{number}")
        assert await finish_one(frontier, claim, delivery, replace(outcome, checked=True))
        before = await record_of(frontier, url("a"))
        assert before.outcome is not None
        assert before.outcome.checked
        assert await frontier.enqueue([checked]) == [False]
        assert await record_of(frontier, url("a")) == before
        assert await frontier.enqueue([checked, entry]) == [False, False]
        record = await record_of(frontier, url("a"))
        assert (record.status.is_final, record.visit, record.depth) == (False, number + 1, min(entry.depth, 2))
        await assert_counts_are_exact(frontier)


async def test_a_nearer_way_is_handed_on_to_what_is_checked(frontier: Frontier) -> None:
    """A link further than the crawl goes, too: pages at its limit have such."""
    led_to = {
        url("a"): Outlinks((url("deep"),), outside=(url("x"),)),
        url("x"): Outlinks((), Onward.REDIRECT, outside=(url("y"),)),
    }
    await frontier.enqueue([Entry(url=url("a"), depth=3, parent=url("far"), settings=LIMITED)])
    for number in range(3):
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery, claim=f"c{number}")
        outcome = replace(LED if claim.url == url("x") else DONE, checked=claim.url != url("a"))
        assert await finish_with(frontier, claim, delivery, led_to.get(claim.url), outcome)
    depths = {name: record.depth for name, record in (await all_records(frontier)).items()}
    assert depths == {url("a"): 3, url("x"): 4, url("y"): 4}
    await frontier.enqueue([Entry(url=url("a"), depth=2, parent=url("near"), settings=LIMITED)])
    await visit_again(frontier, led_to | {url("deep"): Outlinks()})
    depths = {name: record.depth for name, record in (await all_records(frontier)).items()}
    assert depths == {url("a"): 2, url("deep"): 3, url("x"): 3, url("y"): 3}


async def test_who_gives_a_url_that_is_about_to_end_outside_has_it_visited(frontier: Frontier) -> None:
    """It was judged by the way before."""
    entry = Entry(url=url("a"), depth=2, parent=url("p"), settings=KEEPING, is_skipped=True)
    await frontier.enqueue([entry])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    await frontier.enqueue([Entry(url=url("a"), settings=KEEPING)])
    is_ended = await finish_one(frontier, claim, delivery, cut_off(Reason.OUT_OF_SCOPE))
    record = await record_of(frontier, url("a"))
    assert (record.depth, record.status) == (0, Status.QUEUED if is_ended else Status.PROCESSING)
    assert is_ended is not isinstance(frontier, AwsFrontier)  # there it comes back, with its lease


async def finish_with(
    frontier: Frontier, claim: Won, delivery: Delivery, led_to: Outlinks | None, outcome: Outcome = DONE
) -> bool:
    """End a claim as a worker does, by the way that the claim says."""
    of = Message(url=claim.url, depth=claim.depth, redirects=claim.redirects, settings=LIMITED)
    links = tuple(handed_on(led_to, of)) if led_to is not None else ()
    finish = Finish(claim=claim, delivery=delivery, outcome=outcome, links=links, outlinks=led_to)
    return (await frontier.finish([finish]))[0]


async def visit_again(frontier: Frontier, led_to: Mapping[str, Outlinks]) -> None:
    """On AWS what led further is visited once more, until nothing is left."""
    while isinstance(frontier, AwsFrontier) and (await frontier.counts()).open:
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery, claim=f"again {delivery.message_id}")
        assert await finish_with(frontier, claim, delivery, led_to.get(claim.url))


async def test_a_nearer_way_to_a_final_record_is_handed_on(frontier: Frontier) -> None:
    """Through pages that were cut by nothing, to what was too deep."""
    led_to = {url("a"): Outlinks((url("b"),)), url("b"): Outlinks((url("c"), url("a")))}
    await frontier.enqueue([Entry(url=url("a"), depth=2, parent=url("far"), settings=LIMITED)])
    for number in range(2):
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery, claim=f"c{number}")
        assert await finish_with(frontier, claim, delivery, led_to[claim.url])
    assert {name: record.depth for name, record in (await all_records(frontier)).items()} == {url("a"): 2, url("b"): 3}
    assert await frontier.enqueue([Entry(url=url("a"), depth=1, parent=url("near"), settings=LIMITED)]) == [False]
    await visit_again(frontier, led_to | {url("c"): Outlinks()})
    records = await all_records(frontier)
    found = {name: (record.depth, record.parent) for name, record in records.items()}
    assert found == {url("a"): (1, url("near")), url("b"): (2, url("a")), url("c"): (3, url("b"))}
    assert records[url("c")].attempt == isinstance(frontier, AwsFrontier)
    if not isinstance(frontier, AwsFrontier):
        assert [records[url(name)].visit for name in "ab"] == [0, 0], "it took no request"
        assert message_of(await take_one(frontier)) == Message(
            url=url("c"), depth=3, parent=url("b"), settings=replace(LIMITED, seed=url("a"))
        )
    await assert_counts_are_exact(frontier)


@pytest.mark.parametrize("redirects", [0, 2])
async def test_a_nearer_way_that_is_found_meanwhile_holds_for_what_is_ended(
    frontier: Frontier, other: Frontier, redirects: int
) -> None:
    far = Entry(url=url("a"), depth=3, redirects=redirects, parent=url("far"), settings=LIMITED)
    await frontier.enqueue([far])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery, lease=60)
    await other.enqueue([replace(far, depth=2, parent=url("near"))])
    assert claim.depth == 3
    assert await finish_with(frontier, claim, delivery, Outlinks((url("b"),)))
    records = await all_records(frontier)
    assert {name: (r.depth, r.status, r.visit) for name, r in records.items()} == {
        url("a"): (2, Status.DONE, 0),
        url("b"): (3, Status.QUEUED, 0),
    }
    assert not await finish_with(frontier, claim, delivery, Outlinks((url("c"),)))
    assert url("c") not in await all_records(frontier)
    await assert_counts_are_exact(frontier, other)


@pytest.mark.parametrize(
    ("limit", "ways"),
    [
        (TOO_MANY, (Way(1, 10), Way(1, 4), Way(1, 3))),
        (TOO_DEEP, (Way(5, 0), Way(4, 0), Way(3, 0))),
        (TOO_DEEP, (Way(5, 2), Way(4, 2), Way(3, 2))),
    ],
)
async def test_what_ended_for_a_limit_of_its_way_is_visited_again_by_a_nearer_one(
    frontier: Frontier, other: Frontier, store: Store, limit: Outcome, ways: tuple[Way, Way, Way]
) -> None:
    far, near, nearest = (
        Entry(url=url("a"), depth=way.depth, redirects=way.redirects, parent=url("far"), settings=LIMITED)
        for way in ways
    )
    await frontier.enqueue([far])
    delivery = await take_one(frontier)
    assert await finish_with(frontier, await win(frontier, delivery), delivery, None, limit)
    await frontier.enqueue([near])
    record = await record_of(frontier, url("a"))
    assert (record.status, record.depth, record.redirects, record.visit) == (Status.QUEUED, *ways[1], 1)
    # That was known to be too far only by a way that holds no more.
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery, claim="c2")
    await other.enqueue([nearest])
    await finish_with(frontier, claim, delivery, None, limit)
    await store.elapse(max(LEASE, VISIBILITY) + A_LITTLE)
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery, claim="c3")
    assert (claim.depth, claim.redirects) == ways[2]
    assert await finish_with(frontier, claim, delivery, Outlinks((url("b"),), Onward.REDIRECT), LED)
    assert seen(await record_of(frontier, url("b"))) == (*way_on(Onward.REDIRECT, ways[2]), url("a"))


async def test_what_a_redirect_leads_to_comes_nearer_with_it(frontier: Frontier) -> None:
    led_to = {url("a"): Outlinks((url("b"),), Onward.REDIRECT), url("b"): Outlinks((url("c"),))}
    await frontier.enqueue([Entry(url=url("a"), depth=3, redirects=2, parent=url("far"), settings=LIMITED)])
    for number in range(2):
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery, claim=f"c{number}")
        assert await finish_with(frontier, claim, delivery, led_to[claim.url], LED if number == 0 else DONE)
    await frontier.enqueue([Entry(url=url("a"), depth=2, parent=url("near"), settings=LIMITED)])
    await visit_again(frontier, led_to)
    records = await all_records(frontier)
    assert {name: (record.depth, record.redirects) for name, record in records.items()} == {
        url("a"): (2, 0),
        url("b"): (2, 1),
        url("c"): (3, 0),
    }


async def test_of_several_who_tell_nearer_ways_at_once_the_nearest_holds(store: Store) -> None:
    """Of those who record it at once, too."""
    handles = [await store.open() for _ in range(4)]
    for number in range(12):
        name = url(number)
        told = [[(4, 5), (3, 2), (5, 7), (3, 4)], [(3, 5), (3, 2), (3, 7), (3, 4)], [(4, 0), (3, 0), (5, 0), (7, 0)]][
            number % 3
        ]
        nearest = min(told)
        random.Random(number).shuffle(told)
        far = Entry(url=name, depth=9, redirects=9, parent=url("far"), settings=LIMITED)
        was_known = number % 4 == 0 and sum(await handles[0].enqueue([far]))
        entries = [replace(far, depth=depth, redirects=redirects, parent=url(depth)) for depth, redirects in told]
        asked = (handle.enqueue([entry]) for handle, entry in zip(handles, entries, strict=True))
        answers = await asyncio.gather(*asked)
        assert sum(is_new for (is_new,) in answers) + was_known == 1
        assert seen(await record_of(handles[0], name)) == (*nearest, url(nearest[0]))
    assert (await handles[0].queue_stats()).visible == 12


async def test_what_was_kept_of_a_visit_before_is_not_handed_on(frontier: Frontier) -> None:
    await frontier.enqueue([Entry(url=url("a"), depth=3, parent=url("far"), settings=LIMITED)])
    for number, led_to in enumerate((Outlinks((url("b"),)), None)):
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery, claim=f"c{number}")
        assert await finish_with(frontier, claim, delivery, led_to)
        if led_to is not None:
            assert await frontier.reopen([url("a")]) == [True]
    await frontier.enqueue([Entry(url=url("a"), depth=2, parent=url("near"), settings=LIMITED)])
    records = await all_records(frontier)
    assert [(record.url, record.status) for record in records.values()] == [(url("a"), Status.QUEUED)]


async def test_what_was_kept_of_a_visit_goes_with_the_table(frontier: Frontier) -> None:
    """Though the next visit says that nothing has changed: by what was kept elsewhere."""
    for led_to, outcome in ((Outlinks((url("b"),)), DONE), (None, replace(DONE, unchanged=True))):
        await frontier.clear_table()
        await frontier.enqueue([Entry(url=url("a"), depth=3, parent=url("x"), settings=LIMITED)])
        delivery = await take_one(frontier)
        assert await finish_with(frontier, await win(frontier, delivery), delivery, led_to, outcome)
    await frontier.enqueue([Entry(url=url("a"), settings=LIMITED)])
    assert url("b") not in await all_records(frontier)
    assert (await record_of(frontier, url("a"))).status is Status.QUEUED, "to be visited: nothing is kept of this one"


# Random graphs.


class Graph(NamedTuple):
    """Pages that link, and URLs that redirect; some are gone."""

    links: dict[str, tuple[str, ...]]
    targets: dict[str, str]
    gone: frozenset[str]
    seeds: tuple[str, ...]

    @classmethod
    def of(cls, rng: random.Random) -> Graph:
        size = rng.randint(8, 40)
        urls = [url(number) for number in range(size)]
        is_redirect = rng.choice((0.0, 0.2, 0.5, 0.8))
        targets = {name: rng.choice(urls) for name in urls if rng.random() < is_redirect}
        links = {name: tuple(rng.sample(urls, rng.choice((0, 1, 1, 2, 3)))) for name in urls if name not in targets}
        if rng.random() < 0.5:  # a chain, so that there are ways of many links
            for one, other in itertools.pairwise(urls):
                if one in links:
                    links[one] = (*links[one], other)
        gone = frozenset(name for name in urls[1:] if rng.random() < rng.choice((0.0, 0.1)))
        targets = {name: to for name, to in targets.items() if to != name and name not in gone}
        return cls(links, targets, gone, (urls[0],))

    def outlinks(self, name: str) -> Outlinks | None:
        if name in self.gone:
            return None
        if name in self.targets:
            return Outlinks((self.targets[name],), Onward.REDIRECT)
        return Outlinks(self.links.get(name, ()))

    def outcome(self, claim: Won) -> Outcome:
        if claim.url in self.gone:
            return GONE
        if claim.url in self.targets:
            is_too_many = claim.redirects >= MOST_REDIRECTS
            return TOO_MANY if is_too_many else replace(LED, redirect_to=self.targets[claim.url])
        return DONE

    def walked(self, max_depth: int) -> dict[str, int]:
        """How deep each URL is, level by level. Which redirects are too many is found by walking until that is known,
        too."""
        redirects = dict.fromkeys(self.seeds, 0)
        while True:
            depths = self._levels(max_depth, redirects)
            fewest = dict.fromkeys(self.seeds, 0)
            pages = [name for name in depths if name in self.links and name not in self.gone]
            fewest |= {to: 0 for name in pages if depths[name] < max_depth for to in self.links[name]}
            for count in range(MOST_REDIRECTS):
                for name in [name for name, of in fewest.items() if of == count and name in self.targets]:
                    if name in depths:
                        fewest.setdefault(self.targets[name], count + 1)
            if fewest == redirects:
                return depths
            redirects = fewest

    def _levels(self, max_depth: int, redirects: Mapping[str, int]) -> dict[str, int]:
        depths: dict[str, int] = {}
        level = list(self.seeds)
        for depth in range(max_depth + 1):
            below: list[str] = []
            for name in level:  # which grows
                if name in depths:
                    continue
                depths[name] = depth
                if name in self.gone:
                    continue
                if name not in self.targets:
                    below += self.links.get(name, ())
                elif redirects.get(name, MOST_REDIRECTS - 1) < MOST_REDIRECTS:
                    level.append(self.targets[name])
            level = below
        return depths


class Crew:
    """Who visits a graph through several handles, in an order by chance: many claims are held at the same time, and
    some given back."""

    def __init__(self, handles: list[Frontier], graph: Graph, rng: random.Random) -> None:
        self.visits = 0
        self._handles, self._graph, self._rng = handles, graph, rng
        self._hand: list[tuple[Won, Delivery]] = []

    async def crawl(self, settings: CrawlSettings) -> None:
        await self._handles[0].enqueue([Entry(url=name, settings=settings) for name in self._graph.seeds])
        while self._hand or (await self._handles[0].counts()).open:
            await self._take()
            self._rng.shuffle(self._hand)
            count = self._rng.randint(0, min(len(self._hand), 3))
            ended, self._hand = self._hand[:count], self._hand[count:]
            parts = [ended[number :: len(self._handles)] for number in range(len(self._handles))]
            await asyncio.gather(*(self._end(*each, settings) for each in zip(self._handles, parts, strict=True)))

    async def _take(self) -> None:
        frontier = self._rng.choice(self._handles)
        deliveries = await frontier.receive(self._rng.randint(1, 4))
        claims = await claim_all(frontier, deliveries, claim=f"{self._rng.random()}", lease=10_000)
        for claim, delivery in zip(claims, deliveries, strict=True):
            if isinstance(claim, Won):
                self._hand.append((claim, delivery))
            else:
                await frontier.delete([delivery])

    async def _end(self, frontier: Frontier, ended: list[tuple[Won, Delivery]], settings: CrawlSettings) -> None:
        finishes = []
        for claim, delivery in ended:
            if self._rng.random() < 0.2:
                assert await retry_one(frontier, claim, delivery, at=0, tried=True)
                continue
            outcome, outlinks = self._graph.outcome(claim), self._graph.outlinks(claim.url)
            if outcome.status is not Status.DONE:
                outlinks = None
            of = Message(url=claim.url, depth=claim.depth, redirects=claim.redirects, settings=settings)
            links = tuple(handed_on(outlinks, of)) if outlinks is not None else ()
            finishes.append(Finish(claim=claim, delivery=delivery, outcome=outcome, links=links, outlinks=outlinks))
        self.visits += len(finishes)
        for finish, is_ended in zip(finishes, await frontier.finish(finishes), strict=True):
            if not is_ended:  # for its many redirects, on AWS: by a way that holds no more
                assert isinstance(frontier, AwsFrontier)
                assert finish.outcome == TOO_MANY
                assert finish.delivery is not None
                assert await retry_one(frontier, finish.claim, finish.delivery, at=0)


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_comes_first_a_crawl_finds_what_a_breadth_first_walk_does(
    frontier: Frontier, other: Frontier, store: Store, seed: int
) -> None:
    for number in range(1 if isinstance(store, AwsStore) else 8):
        rng = random.Random(f"{seed} {number}")
        graph, max_depth = Graph.of(rng), rng.randint(1, 6)
        crew = Crew([frontier, other], graph, rng)
        await crew.crawl(replace(LIMITED, max_depth=max_depth))
        records = await all_records(frontier)
        walked = graph.walked(max_depth)
        assert {name: record.depth for name, record in records.items()} == walked, f"{seed} {number}"
        for name, record in records.items():
            if name in graph.gone:
                assert record.status is Status.FAILED
            elif not isinstance(frontier, AwsFrontier):
                assert record.visit <= (name in graph.targets), "no page is asked for again"
        await assert_counts_are_exact(frontier, other)
        await frontier.clear_table()


@pytest.mark.parametrize("settings", [LIMITED, WITHOUT_LIMIT])
async def test_what_a_page_needs_is_a_page_once_it_is_found_as_one(frontier: Frontier, settings: CrawlSettings) -> None:
    """Once it has ended as well; and never the other way round."""
    needed = Entry(url=url("a"), depth=REQUISITE_DEPTH, parent=url("p"), settings=settings)
    linked = Entry(url=url("a"), depth=2, parent=url("q"), settings=settings)
    await frontier.enqueue([needed])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    assert claim.depth == REQUISITE_DEPTH
    assert await finish_one(frontier, claim, delivery)
    await frontier.enqueue([needed])
    assert (await record_of(frontier, url("a"))).status is Status.DONE
    for entry in (linked, needed):
        await frontier.enqueue([entry])
        record = await record_of(frontier, url("a"))
        assert (record.status, record.depth, record.parent) == (Status.QUEUED, 2, url("q"))
    delivery = await take_one(frontier)
    assert (await win(frontier, delivery)).depth == 2


@pytest.mark.parametrize("settings", [LIMITED, WITHOUT_LIMIT])
async def test_what_waits_as_needed_by_a_page_is_claimed_as_the_page_that_it_was_found_as(
    frontier: Frontier, settings: CrawlSettings
) -> None:
    await frontier.enqueue(
        [Entry(url=url("a"), depth=REQUISITE_DEPTH, parent=url("p"), redirects=3, settings=settings)]
    )
    await frontier.enqueue([Entry(url=url("a"), depth=MAX_DEPTH, parent=url("q"), settings=settings)])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    assert (claim.depth, claim.redirects) == (MAX_DEPTH, 0)
    assert (await record_of(frontier, url("a"))).parent == url("q")
    assert await finish_one(frontier, claim, delivery)
    record = await record_of(frontier, url("a"))
    assert (record.status, record.is_requisite) == (Status.DONE, False)


@pytest.mark.parametrize("settings", [LIMITED, WITHOUT_LIMIT])
async def test_what_is_found_as_a_page_while_it_is_fetched_as_needed_is_visited_again(
    frontier: Frontier, settings: CrawlSettings
) -> None:
    await frontier.enqueue([Entry(url=url("a"), depth=REQUISITE_DEPTH, settings=settings)])
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    await frontier.enqueue([Entry(url=url("a"), depth=2, settings=settings)])
    await finish_one(frontier, claim, delivery)
    record = await record_of(frontier, url("a"))
    assert not record.status.is_final, "its links are known to nobody"
    assert record.depth == 2


def test_what_ended_as_needed_by_a_page_is_visited_as_one() -> None:
    fall = Fall(Way(REQUISITE_DEPTH, 0), Way(MAX_DEPTH, 0))
    gone = Outcome(status=Status.FAILED, reason=Reason.CLIENT_ERROR, http_status=404)
    for outcome in (DONE, LED, TOO_MANY, gone, cut_off(Reason.OUT_OF_SCOPE)):
        assert consequence(outcome, None, fall) is Consequence.VISIT
        assert consequence(outcome, None, Fall(fall.before, fall.before)) is Consequence.NONE
    assert consequence(cut_off(Reason.ROBOTS), None, fall) is Consequence.NONE
    assert OUTSIDE.depth > REQUISITE_DEPTH == MAX_DEPTH + 1
