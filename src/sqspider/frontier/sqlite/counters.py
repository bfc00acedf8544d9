"""The sums that every transaction keeps, so that counting costs nothing: records by status and reason, messages."""

from __future__ import annotations

import functools
import sqlite3
from collections.abc import Mapping
from typing import Final

import msgspec

from sqspider.frontier.answers import counts_of, sums_in
from sqspider.frontier.values import Counts
from sqspider.record import Status, record_key, split_key

COUNTERS: Final = "SELECT name, number FROM counter"
NUMBER: Final = "SELECT number FROM counter WHERE name = ?"
ADD_TO_COUNTER: Final = """
INSERT INTO counter (name, number) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET number = number + excluded.number
"""


_STATUS: Final = "status:"
_STORED_NAMES: Final = {status.value: f"{_STATUS}{status}" for status in Status}


@functools.lru_cache(maxsize=1024)
def stored_name(name: str) -> str:
    """A sum's name in the file, by that which :func:`sqspider.frontier.answers.counted_for` has for it."""
    crawl, own = split_key(name)
    return record_key(_STORED_NAMES.get(own, own), crawl)


def number(connection: sqlite3.Connection, name: str) -> int:
    """One of the sums. Raises ``msgspec.ValidationError`` if it is no number."""
    row = connection.execute(NUMBER, (name,)).fetchone()
    return msgspec.convert(row[0], int) if row else 0


def sums(connection: sqlite3.Connection) -> dict[str, int]:
    """The sums by name. Raises ``msgspec.ValidationError`` for one that is no number."""
    return msgspec.convert(dict(connection.execute(COUNTERS).fetchall()), dict[str, int])


def records(connection: sqlite3.Connection, crawl: str | None = None) -> Counts:
    """How many records there are of each kind, in all or of one crawl.

    Raises ``msgspec.ValidationError`` for a sum that is no number.
    """
    by_name = {name.replace(_STATUS, "", 1): number for name, number in sums(connection).items()}
    return counts_of(by_name if crawl is None else sums_in(by_name, crawl))


def add(connection: sqlite3.Connection, changes: Mapping[str, int]) -> None:
    """Move the sums."""
    connection.executemany(ADD_TO_COUNTER, [(name, change) for name, change in changes.items() if change])
