"""Which captures nothing refers to any more: their worker died between the write and the record's end.

Told apart from what is worth keeping by what records say, so carefully that only a part of them is found: a URL whose
record is at its first visit, and met no trouble on the way, was answered once; what else there is of it from the time
when it waited is an orphan. Of a URL that was visited again, or tried again, each capture may be one of these visits; a
URL that no record knows may be of another crawl; robots.txt has no record; and what a revisit refers to is needed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final
from urllib.parse import urlsplit

from sqspider.archive.dates import microseconds
from sqspider.archive.errors import ArchiveError
from sqspider.archive.scratch import key_of
from sqspider.record import CapturePlace, UrlRecord

ROBOTS_PATH: Final = "/robots.txt"
_BATCH: Final = 10_000
_SLACK_SECONDS: Final = 1.0  # that the clocks of a frontier and of its workers may differ by

_TABLES: Final = """
CREATE TABLE visited (url BLOB, since REAL, until REAL, once INTEGER);
CREATE TABLE needed (capture BLOB PRIMARY KEY) WITHOUT ROWID;
"""
_INDEX: Final = "CREATE INDEX visited_url ON visited (url)"
_VISITED: Final = "INSERT INTO visited VALUES (?, ?, ?, ?)"
_NEEDED: Final = "INSERT OR IGNORE INTO needed VALUES (?)"
_OF_URL: Final = "SELECT min(once), max(since <= ?2 AND until > ?2) FROM visited WHERE url = ?1"
_IS_NEEDED: Final = "SELECT 1 FROM needed WHERE capture = ?"


class Orphans:
    """What is known of a frontier's captures. Takes about 100 bytes of disk for each record."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        connection.executescript(_TABLES)

    def take_records(self, batches: Iterable[list[UrlRecord]]) -> None:
        """Learn what records say: all of a frontier."""
        for records in batches:
            try:
                self._connection.execute("BEGIN")
                self._connection.executemany(_VISITED, map(_visited, records))
                self._connection.executemany(_NEEDED, [(key,) for record in records for key in _named(record)])
                self._connection.execute("COMMIT")
            except sqlite3.OperationalError as error:
                raise ArchiveError(
                    f"the folder for temporary files (TMPDIR) cannot take what is needed: {error}"
                ) from error
        self._connection.execute(_INDEX)

    def take_references(self, references: Iterable[tuple[str, float]]) -> None:
        """Learn what revisits refer to, by URL and date: of all files."""
        iterator = iter(references)
        while batch := list(islice(iterator, _BATCH)):
            self._connection.execute("BEGIN")
            self._connection.executemany(_NEEDED, [(key_of(url, microseconds(at)),) for url, at in batch])
            self._connection.execute("COMMIT")

    def is_orphan(self, url: str, at: float) -> bool:
        """Whether nothing refers to a capture."""
        if urlsplit(url).path == ROBOTS_PATH:
            return False
        once, is_before = self._connection.execute(_OF_URL, (key_of(url), at)).fetchone()
        if not once or not is_before:
            return False
        return self._connection.execute(_IS_NEEDED, (key_of(url, microseconds(at)),)).fetchone() is None


def _visited(record: UrlRecord) -> tuple[bytes, float, float, bool]:
    outcome = record.outcome
    once = (
        record.status.is_final
        and not record.unreadable
        and record.visit == 0
        and record.tries == 0
        and outcome is not None
        and outcome.capture is not None
    )
    until = outcome.capture.at if once and outcome is not None and outcome.capture is not None else 0.0
    return key_of(record.url), record.enqueued_at - _SLACK_SECONDS, until, once


def _named(record: UrlRecord) -> Iterator[bytes]:
    good = record.kept.good if record.kept is not None else None
    for outcome in filter(None, (record.outcome, good)):
        place: CapturePlace | None = outcome.capture
        while place is not None:
            yield key_of(place.url or record.url, microseconds(place.at))
            place = place.payload
