"""What comes back when a crawl's limit is widened."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from sqspider.crawl_row import Crawl, Identity, Widening
from sqspider.crawl_settings import CrawlSettings
from sqspider.record import Outcome, Reason, Status, UrlRecord
from sqspider.url import Scope
from sqspider.widening import SEEN_SECONDS, comes_back, widened

NOW: Final = 1000.0
CRAWL: Final = Crawl(name="news", id="1", settings=CrawlSettings(scope=Scope.HOST, max_depth=1))


def changed(crawl: Crawl = CRAWL, identity: Identity | None = None, **settings: Any) -> Crawl:
    return msgspec.structs.replace(
        crawl, settings=msgspec.structs.replace(crawl.settings, **settings), identity=identity or crawl.identity
    )


def record(status: Status, depth: int = 1, reason: Reason | None = None, **more: Any) -> UrlRecord:
    outcome = Outcome(status=status, reason=reason, **more)
    return UrlRecord(
        url="http://e.com/", status=status, depth=depth, claimed_at=NOW - 2, finished_at=NOW - 1, outcome=outcome
    )


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ({"max_depth": 1}, {"max_depth": 2}, Reason.DEPTH_LIMIT),
        ({"max_depth": 1}, {"max_depth": None}, Reason.DEPTH_LIMIT),
        ({"scope": Scope.PREFIX}, {"scope": Scope.HOST}, Reason.OUT_OF_SCOPE),
        ({"include": ("a",)}, {"include": ()}, Reason.EXCLUDED),
        ({"exclude": ("a",)}, {"exclude": ("b",)}, Reason.EXCLUDED),
        ({"host_pages": 1}, {"host_pages": 2}, Reason.HOST_PAGE_LIMIT),
        ({"host_bytes": 1}, {"host_bytes": None}, Reason.HOST_BYTE_LIMIT),
        ({"max_repeats": 1}, {"max_repeats": 2}, Reason.REPEATING_PATH),
        ({"max_parameters": 1}, {"max_parameters": 2}, Reason.ENDLESS_QUERY),
        ({"obey_robots": True}, {"obey_robots": False}, Reason.ROBOTS),
        ({"obey_robots": True}, {"obey_robots": False}, Reason.ROBOTS_UNREACHABLE),
        ({}, {"identity": Identity(allow_private=True)}, Reason.PRIVATE_ADDRESS),
        ({}, {"identity": Identity(allow_any_port=True)}, Reason.BAD_PORT),
    ],
)
def test_what_a_limit_cut_comes_back_when_it_widens_and_not_when_it_narrows(
    before: dict[str, Any], after: dict[str, Any], reason: Reason
) -> None:
    narrow, wide = changed(**before), changed(**after)
    blocked = record(Status.BLOCKED, reason=reason)
    assert comes_back(blocked, widened(narrow, wide, NOW))
    narrowed = widened(wide, narrow, NOW)
    if reason is not Reason.EXCLUDED:  # which of two patterns lets in more is not to be told: each URL is judged anew
        assert narrowed == narrow
        assert not comes_back(blocked, narrowed)
    for other in set(Reason) - {reason, Reason.ROBOTS, Reason.ROBOTS_UNREACHABLE}:
        assert not comes_back(record(Status.BLOCKED, reason=other), widened(narrow, wide, NOW))


def test_what_is_as_it_was_brings_nothing_back() -> None:
    assert widened(CRAWL, changed(delay_seconds=3.0), NOW).widening is None


@pytest.mark.parametrize(
    ("depth", "most", "returns"), [(0, 3, False), (1, 3, True), (2, 3, True), (3, 3, False), (1, None, True)]
)
def test_pages_at_the_old_limit_are_gone_into_again(depth: int, most: int | None, returns: bool) -> None:
    wide = widened(CRAWL, changed(max_depth=most), NOW)
    assert comes_back(record(Status.DONE, depth), wide) is returns
    redirect = record(Status.DONE, depth, redirect_to="http://e.com/b", http_status=301)
    assert not comes_back(redirect, wide)
    assert not comes_back(record(Status.FAILED, depth, Reason.TIMEOUT), wide)


def test_what_was_checked_comes_back_where_the_scope_is_wider_and_it_is_not_too_deep() -> None:
    checking = changed(check_external=True, max_depth=2)
    wide = widened(checking, changed(checking, scope=Scope.ANY), NOW)
    for status in (Status.DONE, Status.FAILED):
        assert comes_back(record(status, 2, checked=True), wide)
        assert not comes_back(record(status, 3, checked=True), wide), "a link of the deepest page"
    assert not comes_back(record(Status.DONE, 2), wide)


def test_what_was_kept_for_a_pattern_is_checked_without_it_and_nothing_is_checked_twice() -> None:
    checking = changed(check_external=True, keep_skipped=True, exclude=("/old/",))
    wide = widened(checking, changed(checking, exclude=()), NOW)
    assert comes_back(record(Status.BLOCKED, 1, Reason.OUT_OF_SCOPE), wide)
    assert not comes_back(record(Status.DONE, 1, checked=True), wide)


def test_what_is_too_deep_even_now_stays() -> None:
    wide = widened(CRAWL, changed(max_depth=2), NOW)
    assert comes_back(record(Status.BLOCKED, 2, Reason.DEPTH_LIMIT), wide)
    assert not comes_back(record(Status.BLOCKED, 3, Reason.DEPTH_LIMIT), wide)


@pytest.mark.parametrize(
    ("claimed", "ended", "returns"),
    [
        (-1.0, 1.0, True),
        (-1.0, SEEN_SECONDS + 1, True),  # by a page that was long under way
        (SEEN_SECONDS - 1, SEEN_SECONDS - 0.5, True),  # by who did not know it yet
        (SEEN_SECONDS + 1, SEEN_SECONDS + 2, False),
    ],
)
def test_what_was_claimed_after_all_know_of_the_change_went_by_it(claimed: float, ended: float, returns: bool) -> None:
    wide = widened(CRAWL, changed(max_depth=2), NOW)
    later = msgspec.structs.replace(record(Status.DONE, 1), claimed_at=NOW + claimed, finished_at=NOW + ended)
    assert comes_back(later, wide) is returns


def test_a_widening_that_nobody_saw_through_is_part_of_the_next() -> None:
    once = widened(CRAWL, changed(max_depth=3), NOW)
    twice = widened(once, changed(once, max_depth=5, host_pages=None, scope=Scope.ANY), NOW + 9)
    assert twice.widening == Widening(
        at=NOW + 9 + SEEN_SECONDS, reasons=(Reason.DEPTH_LIMIT, Reason.OUT_OF_SCOPE), pages_from_depth=1
    )
    narrowed = widened(once, changed(once, max_depth=2), NOW + 9)
    assert narrowed.widening == once.widening  # it still lets in what is two deep
