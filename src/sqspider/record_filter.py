"""Which records are meant: by what came of them, where they lie, and when they ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Final, NamedTuple, TypeVar

import msgspec

from sqspider.crawl_settings import keeps_type
from sqspider.frontier import Looking
from sqspider.record import Reason, Status, UrlRecord

T = TypeVar("T")


class Between(NamedTuple):
    """Numbers from one to another, both included."""

    least: int
    most: int


class RecordFilter(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of records, all of it at once; of several values any one. Nothing said: all of them."""

    statuses: tuple[Status, ...] = ()
    reasons: tuple[Reason, ...] = ()
    http_statuses: tuple[Between, ...] = ()
    content_types: tuple[str, ...] = ()  # ``text/html``, ``image/*``
    hosts: tuple[str, ...] = ()
    depths: tuple[Between, ...] = ()
    crawls: tuple[str, ...] = ()  # their names
    since: float | None = None  # the last visit's end: at this moment or later
    until: float | None = None  # and before this one
    is_final: bool = False

    def scan(self, frontier: Looking) -> AsyncIterator[list[UrlRecord]]:
        """Records, as few as the frontier can find by itself: each is to be asked about with :meth:`takes`."""
        return frontier.scan(status=_one(self.statuses), host=_one(self.hosts), crawl=_one(self.crawls))

    def takes(self, record: UrlRecord) -> bool:
        """Whether a record is meant. One that cannot be read is: nobody knows."""
        if record.unreadable:
            return True
        return (
            _is_in(record.status, self.statuses)
            and _is_in(record.host, self.hosts)
            and _is_in(record.crawl, self.crawls)
            and (record.status.is_final or not self.is_final)
            and _is_between(None if record.is_requisite else record.depth, self.depths)
            and self._was_in_time(record.finished_at)
            and self._came_so(record)
        )

    def _was_in_time(self, finished_at: float | None) -> bool:
        if self.since is None and self.until is None:
            return True
        return finished_at is not None and (self.since or 0.0) <= finished_at < (self.until or float("inf"))

    def _came_so(self, record: UrlRecord) -> bool:
        if not (self.reasons or self.http_statuses or self.content_types):
            return True
        outcome = record.outcome
        return (
            outcome is not None
            and _is_in(outcome.reason, self.reasons)
            and _is_between(outcome.http_status, self.http_statuses)
            and keeps_type(self.content_types, (outcome.content_type or "").lower())
        )


EVERY_RECORD: Final = RecordFilter()


def _one(values: Sequence[T]) -> T | None:
    return values[0] if len(values) == 1 else None


def _is_in(value: T | None, values: Sequence[T]) -> bool:
    return not values or value in values


def _is_between(value: int | None, ranges: Sequence[Between]) -> bool:
    return not ranges or (value is not None and any(each.least <= value <= each.most for each in ranges))
