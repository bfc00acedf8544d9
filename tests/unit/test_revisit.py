"""What one visit leaves to the next."""

from __future__ import annotations

import msgspec
import pytest

from sqspider.record import CapturePlace, Kept, Outcome, Reason, Status
from sqspider.revisit import (
    MAX_VALIDATOR_CHARACTERS,
    Revisit,
    after_visit,
    at_reopening,
    conditions_of,
    revisit_of,
    unchanged,
)

NOW = 1_700_000_000.0
ONE = Outcome(status=Status.DONE, http_status=200, bytes=5, digest="sha256:01", title="One")
TWO = msgspec.structs.replace(ONE, digest="sha256:02", title="Two")
MOVED = Outcome(status=Status.DONE, http_status=301, redirect_to="https://example.com/there")
CHECKED = Outcome(status=Status.DONE, http_status=200, checked=True)
DOWN = Outcome(status=Status.FAILED, reason=Reason.TIMEOUT, elapsed_ms=9)
UNFETCHED = Outcome(status=Status.FAILED, reason=Reason.UNREACHABLE, detail="its host was given up")
FORBIDDEN = Outcome(status=Status.BLOCKED, reason=Reason.ROBOTS)
ETAG, DATE = '"v1"', "Mon, 30 Nov 2026 12:00:00 GMT"
BOTH = (("ETag", ETAG), ("Last-Modified", DATE))

replace = msgspec.structs.replace


def visited(
    kept: Kept | None, last: Outcome | None, *visits: tuple[Outcome, tuple[tuple[str, str], ...]]
) -> Kept | None:
    """What is kept after some visits, each a second after the one before."""
    for number, (outcome, headers) in enumerate(visits):
        if number or last is not None:
            kept = at_reopening(kept, last, if_changed=True)
        kept, last = after_visit(kept, outcome, headers, NOW + number), outcome
    return kept


def test_of_a_good_visit_the_validators_are_kept() -> None:
    assert visited(None, None, (ONE, BOTH)) == Kept(etag=ETAG, last_modified=DATE)
    assert visited(None, None, (ONE, ())) is None
    assert visited(None, None, (DOWN, BOTH)) is None


@pytest.mark.parametrize(
    ("last", "outcome", "told"),
    [
        (ONE, ONE, Revisit.UNCHANGED),
        (ONE, TWO, Revisit.CHANGED),
        (ONE, DOWN, Revisit.FAILED),
        (DOWN, ONE, Revisit.CHANGED),
        (CHECKED, CHECKED, Revisit.UNCHANGED),
        (CHECKED, ONE, Revisit.CHANGED),  # the first that is read
        (ONE, CHECKED, Revisit.UNCHANGED),  # for all that is known
        (MOVED, CHECKED, Revisit.CHANGED),
        (DOWN, DOWN, Revisit.FAILED),
        (FORBIDDEN, ONE, None),
        (FORBIDDEN, DOWN, None),
        (FORBIDDEN, FORBIDDEN, None),
    ],
)
def test_what_was_only_blocked_is_not_visited_again(last: Outcome, outcome: Outcome, told: Revisit | None) -> None:
    assert revisit_of(at_reopening(None, last, if_changed=False), outcome) is told


def test_a_visit_that_finds_something_else_is_a_change() -> None:
    assert visited(None, None, (ONE, ()), (ONE, ())) is None, "the same again is none"
    assert visited(None, None, (ONE, ()), (TWO, ())) == Kept(changes=1, changed_at=NOW + 1)
    assert visited(None, None, (ONE, ()), (TWO, ()), (TWO, ())) == Kept(changes=1, changed_at=NOW + 1)
    assert visited(None, None, (ONE, ()), (TWO, ()), (ONE, ())) == Kept(changes=2, changed_at=NOW + 2)
    assert visited(None, None, (ONE, ()), (MOVED, ())) == Kept(changes=1, changed_at=NOW + 1)
    assert visited(None, None, (DOWN, ()), (ONE, ())) is None, "the first good visit is no change"
    assert visited(None, None, (ONE, ()), (CHECKED, ()), (TWO, ())) is None, "what was not read says of none"
    assert visited(None, None, (CHECKED, ()), (MOVED, ())) == Kept(changes=1, changed_at=NOW + 1)


def test_a_visit_that_fails_takes_nothing_with_it() -> None:
    kept = visited(None, None, (ONE, BOTH), (DOWN, ()))
    assert kept == Kept(etag=ETAG, last_modified=DATE, good=ONE)
    assert conditions_of(at_reopening(kept, DOWN, if_changed=True)) == (
        f"If-None-Match: {ETAG}",
        f"If-Modified-Since: {DATE}",
    )
    assert visited(kept, DOWN, (DOWN, ()), (ONE, BOTH)) == Kept(etag=ETAG, last_modified=DATE)
    assert visited(kept, DOWN, (DOWN, ()), (TWO, ())) == Kept(changes=1, changed_at=NOW + 1)


def test_what_has_not_changed_is_as_it_was() -> None:
    same = unchanged(ONE, 7)
    assert same == replace(ONE, unchanged=True, elapsed_ms=7)
    place = CapturePlace(file="f", offset=1, length=2, digest="D", at=3.0)
    assert unchanged(replace(ONE, capture=place), 7) == same, "its own capture is yet to be made"
    assert unchanged(replace(ONE, unkept=True), 7) == same
    kept = visited(None, None, (ONE, BOTH), (same, ()))
    assert kept == Kept(etag=ETAG, last_modified=DATE), "a 304 need not say them again"
    assert visited(None, None, (ONE, BOTH), (same, (("etag", '"v2"'),))) == Kept(etag='"v2"', last_modified=DATE)
    assert visited(None, None, (ONE, BOTH), (same, ()), (same, ()), (TWO, ())) == Kept(changes=1, changed_at=NOW + 3)


def test_who_wants_the_whole_asks_for_it() -> None:
    kept = at_reopening(Kept(etag=ETAG, last_modified=DATE, changes=3, changed_at=1.0), ONE, if_changed=False)
    assert kept == Kept(changes=3, changed_at=1.0, good=ONE)
    assert conditions_of(kept) == ()
    assert at_reopening(None, FORBIDDEN, if_changed=True) is None
    assert conditions_of(None) == conditions_of(Kept(etag=ETAG)) == ()
    assert conditions_of(Kept(etag=ETAG, good=replace(ONE, truncated=True))) == (), "a limit may be another one by now"


@pytest.mark.parametrize(
    ("ends", "was_counted"),
    [
        ([FORBIDDEN], False),
        ([DOWN], True),
        ([UNFETCHED, FORBIDDEN], False),
        ([UNFETCHED, DOWN], True),
        ([ONE], True),
        ([DOWN, FORBIDDEN], True),
        ([ONE, DOWN, FORBIDDEN], True),
        ([DOWN, ONE, FORBIDDEN], True),
        ([FORBIDDEN, DOWN, FORBIDDEN, FORBIDDEN], True),
    ],
)
@pytest.mark.parametrize("if_changed", [False, True])
def test_what_was_fetched_once_says_so_ever_after(ends: list[Outcome], was_counted: bool, if_changed: bool) -> None:
    kept = None
    for end in ends:
        kept = at_reopening(after_visit(kept, end, (), NOW), end, if_changed=if_changed)
    assert (kept is not None and kept.was_counted) is was_counted


@pytest.mark.parametrize(
    "value", ["", "a\nX-Other: b", "a\r", "tab\tin it", "é", "\x00", "x" * (MAX_VALIDATOR_CHARACTERS + 1)]
)
def test_what_cannot_be_sent_back_is_not_kept(value: str) -> None:
    assert visited(None, None, (ONE, (("ETag", value), ("Last-Modified", value)))) is None
