"""Checks a whole frontier's file: SQLite's own structure, and what its tables must say of each other."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any, Final

import msgspec

from sqspider.frontier.answers import counted, counted_for
from sqspider.frontier.shares import decode_run
from sqspider.frontier.sqlite.captures import CaptureFiles
from sqspider.frontier.sqlite.counters import COUNTERS, stored_name
from sqspider.frontier.sqlite.errors import classify
from sqspider.frontier.sqlite.file import SOUND, open_to_look
from sqspider.frontier.sqlite.keys import key_of
from sqspider.frontier.sqlite.of_crawl import RETURNED
from sqspider.frontier.sqlite.rows import FRESH, PARENT, dicts, record_of
from sqspider.record import Status, UrlRecord, split_key

BATCH: Final = 1000
MOST_NAMED: Final = 5  # of one kind of fault

# All of them read everything: that is what a check is.
ALL_RECORDS: Final = f"SELECT r.*, {PARENT} FROM record AS r NOT INDEXED WHERE r.id > ? ORDER BY r.id LIMIT ?"
HOST_SUMS: Final = "SELECT host, done, failed, blocked FROM host"
RUNS: Final = "SELECT name, row FROM run"
PLACES: Final = "SELECT count(queue), total(queue IN (1, 3)) FROM record NOT INDEXED"
MESSAGES: Final = "SELECT count(visible_at), count(*) FROM sent NOT INDEXED"
WITHOUT_SETTINGS: Final = """
SELECT url FROM record WHERE lease_until IS NOT NULL AND crawl NOT IN (SELECT id FROM crawl)
"""
WITHOUT_WAY_BACK: Final = """
SELECT url FROM record AS r WHERE lease_until IS NOT NULL AND due_at IS NULL AND (
    queue IS NULL OR visible_at IS NULL AND queue NOT IN (0, 3)
) AND NOT EXISTS (
    SELECT 1 FROM sent AS m INDEXED BY sent_key
    WHERE m.key = r.key AND m.url = r.url AND m.visible_at IS NOT NULL
)
"""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What a check has found."""

    records: int  # that could be read or named
    faults: tuple[str, ...]  # a line each for a person; none: the file is sound


def check_file(path: str) -> Finding:
    """Read all of a file, as it is at one moment, and say what is wrong with it. Writes nothing.

    Takes seconds for a hundred thousand records and minutes for ten million. Raises
    :class:`~sqspider.frontier.FrontierUnavailableError` if the file cannot be opened.
    """
    try:
        with closing(open_to_look(path)) as connection:
            connection.execute("BEGIN")
            seen = _Seen()
            parts = (
                _structure(connection),
                seen.read(connection),
                seen.compare(connection),
                _lost(connection),
                _shares_that_cannot_be_read(connection),
            )
            faults = [fault for part in parts for fault in _as_far_as_it_can_be_read(part)]
            return Finding(records=seen.records, faults=tuple(dict.fromkeys(faults)))
    except sqlite3.Error as error:
        raise classify(error, path) from error


def _as_far_as_it_can_be_read(part: Iterator[str]) -> Iterator[str]:
    try:
        yield from part
    except sqlite3.DatabaseError as error:
        yield f"reading ended early: {error}"


def _structure(connection: sqlite3.Connection) -> Iterator[str]:
    for (text,) in connection.execute("PRAGMA integrity_check"):
        yield from (f"structure: {line}" for line in text.splitlines() if line != SOUND)


def _lost(connection: sqlite3.Connection) -> Iterator[str]:
    yield from _named("its crawl's settings are gone", connection.execute(WITHOUT_SETTINGS))
    yield from _named("not finished, and nothing brings it back", connection.execute(WITHOUT_WAY_BACK))


def _shares_that_cannot_be_read(connection: sqlite3.Connection) -> Iterator[str]:
    for name, row in connection.execute(RUNS):
        try:
            decode_run(row)
        except msgspec.DecodeError as error:
            yield f"its share cannot be read: {name}: {error}"


def _named(what: str, rows: Iterator[tuple[Any, ...]]) -> Iterator[str]:
    for number, (url,) in enumerate(rows):
        if number == MOST_NAMED:
            yield f"{what}: and more"
            return
        yield f"{what}: {url}"


def _are_at_least(sums: Sequence[object], found: Sequence[int]) -> bool:
    return all(isinstance(much, int) and much >= least for much, least in zip(sums, found, strict=True))


def _shown(number: object) -> str:
    return f"{number:,}" if isinstance(number, int) else repr(number)  # a damaged one may be anything


class _Seen:
    """What the records say, counted."""

    def __init__(self) -> None:
        self.records = 0
        self._sums: Counter[str] = Counter()
        self._hosts: defaultdict[str, Counter[Status]] = defaultdict(Counter)  # by what their records say now
        self._visits: Counter[str] = Counter()  # that have ended, by host

    def read(self, connection: sqlite3.Connection) -> Iterator[str]:
        """Read every record; what is wrong with one by itself."""
        after, files = 0, CaptureFiles(connection)
        while rows := dicts(connection, ALL_RECORDS, (after, BATCH)):
            after = rows[-1]["id"]
            self.records += len(rows)
            for row in rows:
                record = record_of(row, 0.0, files)
                if fault := record.unreadable or _fault_of(record, row):
                    yield f"{record.key}: {fault}"
                if not record.unreadable:
                    self._count(record)

    def _count(self, record: UrlRecord) -> None:
        for name, number in counted_for(record.crawl, counted(None, record.status, record.outcome)).items():
            self._sums[stored_name(name)] += number
        if record.status.is_final:
            self._hosts[record.host][record.status] += 1
        self._visits[record.host] += record.visit + record.status.is_final

    def compare(self, connection: sqlite3.Connection) -> Iterator[str]:
        """Hold the sums that are kept against what was read."""
        stored = dict(connection.execute(COUNTERS).fetchall())
        places, put_off = connection.execute(PLACES).fetchone()
        live, messages = connection.execute(MESSAGES).fetchone()
        self._sums |= {"messages": places + live, "put_off": int(put_off), "dead": messages - live}
        stored = {name: much for name, much in stored.items() if not _is_of_no_rows(name)}
        for name in sorted(stored.keys() | self._sums.keys()):
            if stored.get(name, 0) != self._sums[name]:
                yield f"the sum {name} is {_shown(stored.get(name, 0))}, the rows say {self._sums[name]:,}"
        kept = {host: tuple(sums) for host, *sums in connection.execute(HOST_SUMS)}
        for host in sorted(kept.keys() | self._visits.keys()):
            found = tuple(self._hosts[host][status] for status in (Status.DONE, Status.FAILED, Status.BLOCKED))
            # What a host has given a crawl that was removed was given, all the same; and each visit counts.
            sums = kept.get(host, (0, 0, 0))
            if not _are_at_least(sums, found) or sum(sums) < self._visits[host]:
                yield f"the sums of {host} are {sums}, the rows say {found} of {self._visits[host]:,} visits"


def _is_of_no_rows(name: str) -> bool:
    """Whether a sum tells of what has happened, and not of what is there."""
    return name == "generation" or split_key(name)[1] == RETURNED


def _fault_of(record: UrlRecord, row: dict[str, Any]) -> str:
    """What is wrong with a record that can be read; nothing, if it is as it should be."""
    if row["key"] != key_of(record.key):
        return "it is not found by its own URL"
    if not record.status.is_final:
        is_held = record.status is Status.PROCESSING
        if is_held != bool(record.lease_until):
            return f"{record.status} with a lease of {record.lease_until}"
        return f"{record.status}, and in the queue as if it were fresh" if is_held and row["queue"] == FRESH else ""
    if record.outcome is None or record.outcome.status is not record.status:
        return f"{record.status}, and its outcome says something else"
    if record.lease_until is not None or record.due_at is not None:
        return f"{record.status}, and yet to be looked at again"
    return ""
