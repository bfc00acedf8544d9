"""Ways to a URL: which one is nearer, and what follows once a nearer one is found. Pure functions, for all adapters.

The nearest way counts: the fewest links from a seed, and the fewest redirects from a page, each by itself. (Of the two
taken together, one of fewer links and ten redirects would hide another, by which the URL leads on.) So what a crawl
with a limit of depth comes to is the same in whatever order answers come: that of a breadth-first walk.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Final, NamedTuple

import msgspec

from sqspider.crawl_settings import MAX_DEPTH, measured_from
from sqspider.frontier.values import Entry, Onward, Outlinks
from sqspider.message import Message
from sqspider.record import CUTTING_REASONS, REQUISITE_DEPTH, Outcome, Reason, Status, record_key
from sqspider.scope import is_within_reach


class Way(NamedTuple):
    """How far a URL is away. Smaller is nearer, in each of them."""

    depth: int  # links from a seed
    redirects: int  # from the last page


OUTSIDE: Final = Way(REQUISITE_DEPTH + 1, 0)
"""The way to what lies outside of its crawl: any within is nearer."""


def way_on(onward: Onward, way: Way) -> Way:
    """The way to what a visit leads to, by the way to its URL."""
    match onward:
        case Onward.LINK:
            return Way(way.depth + 1, 0)
        case Onward.REDIRECT:
            return Way(way.depth, way.redirects + 1)
        case Onward.REFRESH:  # or redirects and refreshes in turn would lead on without end
            return Way(way.depth, way.redirects and way.redirects + 1)


def is_within_depth(way: Way, max_depth: int | None) -> bool:
    """Whether a crawl goes so far."""
    return way.depth <= (MAX_DEPTH if max_depth is None else max_depth)


def nearest_of_each(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Entries by key, in their order: the first of each, on the nearest of their ways, within its crawl if one is."""
    by_key: dict[str, Entry] = {}
    for entry in entries:
        crawl = entry.crawl  # as `Entry.key` has it, without a call of it: there are as many as links
        key = entry.url if crawl is None else record_key(entry.url, crawl.name)
        first = by_key.setdefault(key, entry)
        if entry.depth < first.depth or entry.redirects < first.redirects or entry.is_skipped < first.is_skipped:
            nearer = entry if entry.depth < first.depth else first
            by_key[key] = msgspec.structs.replace(
                first,
                depth=nearer.depth,
                parent=nearer.parent,
                redirects=min(entry.redirects, first.redirects),
                is_skipped=entry.is_skipped and first.is_skipped,
            )
    return by_key


class Fall(NamedTuple):
    """The way to a record changes, now that an entry names another."""

    before: Way
    now: Way
    is_within: bool = False  # it may have been asked for only to see whether it is there, and lies within its crawl now


def fallen(entry: Entry, status: Status, depth: int, redirects: int) -> Fall | None:
    """How the way to a record that is known changes by an entry; none: the record stays as it is. (Asked for
    each link that is known: nothing is made for most of them.)

    Where no depth is too deep, nobody asks for that of a record that is final; but what is blocked, where such are
    recorded as lie outside of their crawl, may have lain there, and now it lies within; so may what was checked there.
    And what pages only needed to be shown was not gone into.
    """
    settings = entry.settings
    was_outside = status is Status.BLOCKED and settings.keep_skipped and not entry.is_skipped
    is_within = settings.check_external and status.is_final and not entry.is_skipped
    if not (was_outside or is_within):
        if entry.depth >= depth and entry.redirects >= redirects:
            return None
        if status.is_final and settings.max_depth is None and not depth == REQUISITE_DEPTH > entry.depth:
            return None
    now = Way(min(entry.depth, depth), min(entry.redirects, redirects))
    return Fall(OUTSIDE if was_outside else Way(depth, redirects), now, is_within)


class Consequence(enum.Enum):
    """What follows for a record that is final."""

    NONE = enum.auto()  # it led nowhere, or as far
    HAND_ON = enum.auto()  # where it led is kept, and nearer now: see :func:`handed_on`
    VISIT = enum.auto()  # it is to be visited once more, to tell where it leads now


def is_by_way(outcome: Outcome) -> bool:
    """Whether a visit might have ended otherwise by a nearer way; or, for all that is known of its links, have led
    elsewhere: of what has not changed they were not read."""
    if outcome.unchanged or outcome.checked:
        return True
    return outcome.reason is Reason.TOO_MANY_REDIRECTS or outcome.reason in CUTTING_REASONS


def consequence(outcome: Outcome, outlinks: Outlinks | None, fall: Fall) -> Consequence:
    """What follows from a nearer way, by what came of a visit that was judged by the one before."""
    before, now, is_within = fall
    if before.depth == REQUISITE_DEPTH > now.depth:  # as a page it may lead anywhere
        is_blocked = outcome.status is Status.BLOCKED and not is_by_way(outcome)
        return Consequence.NONE if is_blocked else Consequence.VISIT
    if outcome.checked:  # it has led on only where it redirects; as a page it may lead anywhere
        if is_within or now.depth == 0 < before.depth:
            return Consequence.VISIT
        if not outcome.is_redirect and outcome.reason is not Reason.TOO_MANY_REDIRECTS:
            return Consequence.NONE
    if outcome.reason is Reason.TOO_MANY_REDIRECTS:
        return Consequence.VISIT if now.redirects < before.redirects else Consequence.NONE
    if outcome.reason is Reason.DEPTH_LIMIT:
        return Consequence.VISIT if now.depth < before.depth else Consequence.NONE
    if outcome.reason in CUTTING_REASONS:  # scope and patterns are for links: what is asked for by itself goes by none
        return Consequence.VISIT if before == OUTSIDE or now.depth == 0 < before.depth else Consequence.NONE
    if outcome.status is not Status.DONE:
        return Consequence.NONE
    if outlinks is None:
        is_nearer = now.depth < before.depth or (outcome.is_redirect and now.redirects < before.redirects)
        return Consequence.VISIT if is_nearer else Consequence.NONE
    if outlinks.is_other_for_seeds and now.depth == 0 < before.depth:
        return Consequence.VISIT
    is_nearer = way_on(outlinks.onward, now) != way_on(outlinks.onward, before)
    return Consequence.HAND_ON if is_nearer else Consequence.NONE


def handed_on(outlinks: Outlinks, of: Message) -> list[Entry]:
    """What a visit led to, as it is to be recorded by the way that its record's own message says. That of a crawl has
    the settings of its row."""
    way = way_on(outlinks.onward, Way(of.depth, of.redirects))
    within = outlinks.urls if is_within_depth(way, of.settings.max_depth) else ()
    outside = outlinks.outside if is_within_reach(way.depth, of.settings) else ()
    settings = of.settings if of.crawl is not None else measured_from(of.settings, of.seed)
    return [
        Entry(
            url=url,
            depth=way.depth,
            parent=of.url,
            settings=settings,
            redirects=way.redirects,
            crawl=of.crawl,
            is_skipped=is_skipped,
        )
        for urls, is_skipped in ((within, False), (outside, True))
        for url in urls
    ]
