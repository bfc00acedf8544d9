"""Where captures come from, and whether they count: of a frontier's archive, those that its records name.

Of each capture that may have a row, its record is asked, by the crawl that its metadata names. No history loses or
doubles a row:

| history | what the record says | row |
|---|---|---|
| fetched and ended | it is final, and names the capture | of its visit |
| killed between storing and ending | it is open, so the capture waits; then it names the second one | of the second |
| 503, and 200 at the next try | open in between, so the 503 waits; then it names the 200 | of the 200 |
| `--again`, read before that visit's end | it is open, and keeps the visit before | of the visit before |
| `--again`, read after it | it names the second visit's | of the second: earlier visits have the rows made by then |
| `--again` failed | it keeps the last good visit's | of that, with the number that its capture says |
| `--again`: the same, or 304 | it names a revisit, and where its original lies | of the second, with that body |
| `crawls remove` | there is none | none; rows that were made stay |

A capture is known by URL and date, for ``archive pack`` may have moved it: a record's place says both.
"""

from __future__ import annotations

import enum
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from sqspider.archive.dates import microseconds
from sqspider.archive.reading import Captured
from sqspider.extract.selection import crawl_of
from sqspider.frontier import Frontier, FrontierSettings, open_frontier
from sqspider.record import CapturePlace, Outcome, UrlRecord, record_key

if TYPE_CHECKING:
    import asyncio


class Standing(enum.Enum):
    """What a record says of a capture that it does not name."""

    OPEN = "open"  # it may come to name it
    OTHER = "other"  # it never will


class Named(NamedTuple):
    """That a record names a capture."""

    place: CapturePlace  # where it lies now
    crawl: str
    visit: int | None  # none: of the last good one, and others followed that failed; the capture says which it was


def key_of_record(captured: Captured) -> str:
    """The key of the record that a capture would be of."""
    return record_key(captured.url, crawl_of(captured))


def standing_of(record: UrlRecord | None, at: int) -> Named | Standing:
    """What a record says of a capture of its URL. ``at``: when it was made, microseconds since the epoch."""
    if record is None or record.unreadable:
        return Standing.OTHER
    good = record.kept.good if record.kept is not None else None
    place, good_place = _place_in(record.outcome, at), _place_in(good, at)
    before = 0 if record.visit == 1 else None  # the last good visit: of several, the record does not say which
    if record.status.is_final:
        if place is not None:
            return Named(place, record.crawl, record.visit)
        return Standing.OTHER if good_place is None else Named(good_place, record.crawl, before)
    was_tried = record.visit == 0 or record.tries > 0  # then its outcome is of a try of the visit that has not ended
    if place is not None and not was_tried:
        return Named(place, record.crawl, record.visit - 1)
    if good_place is not None:
        return Named(good_place, record.crawl, before)
    return Standing.OPEN


def _place_in(outcome: Outcome | None, at: int) -> CapturePlace | None:
    place = outcome.capture if outcome is not None else None
    return place if place is not None and microseconds(place.at) == at else None


class Asked:
    """A frontier that is asked for records, by who has no loop of his own."""

    def __init__(self, runner: asyncio.Runner, frontier: Frontier) -> None:
        self._runner = runner
        self._frontier = frontier

    def records(self, keys: Iterable[str]) -> dict[str, UrlRecord]:
        """Records by their keys, as they are now. Raises :class:`sqspider.frontier.FrontierError`."""
        asked = list(dict.fromkeys(keys))
        return self._runner.run(self._frontier.get(asked)) if asked else {}

    def standings(self, captures: Sequence[tuple[str, int]]) -> Iterator[Named | Standing]:
        """What records say of captures, by their keys and dates."""
        records = self.records(key for key, _ in captures)
        return (standing_of(records.get(key), at) for key, at in captures)


@contextmanager
def asked(address: str) -> Iterator[Asked]:
    """A frontier, opened to look. Raises :class:`sqspider.frontier.FrontierError`."""
    import asyncio  # here: of an archive that stands alone nobody is asked

    with asyncio.Runner() as runner:
        frontier = runner.run(open_frontier(address, FrontierSettings(), clock=time.time, looking=True))
        try:
            yield Asked(runner, frontier)
        finally:
            runner.run(frontier.close())
