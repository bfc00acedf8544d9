"""Finds the captures that revisits refer to, in any archive: by its index, or by looking through it once.

What a revisit says of its original is asked in this order: its id (``WARC-Refers-To``, as wget writes it), its URL and
date, and the payload's digest. An index knows URLs alone, and may be older than what is there. What it does not find is
looked for in a scratch database of all captures, which is made when it is first needed: one pass over the archive, and
some 150 bytes a capture in the folder for temporary files. An original was written before what refers to it, so more is
read only for a revisit that lies beyond what was read.
"""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import chain
from typing import Final, NamedTuple

from sqspider.archive.cdxj import Index, payload_digest_of, seconds_of_digits
from sqspider.archive.dates import seconds_of
from sqspider.archive.digests import Check, normal, same
from sqspider.archive.errors import NoArchiveError
from sqspider.archive.files import FileInfo, Files, warc_files
from sqspider.archive.records import Fields, Record, RecordError, measured, records_of, without_brackets
from sqspider.archive.scratch import key_of, no_room, opened_scratch

_PAYLOADS: Final = ("response", "resource")  # kinds of captures that have one
_UNMODIFIED: Final = "server-not-modified"  # at the end of the profile
_WHOLE: Final = (1 << 63) - 1  # offset of a file that nothing more is to be read of
_BATCH: Final = 1000

_TABLES: Final = """
CREATE TABLE file (id INTEGER PRIMARY KEY, name TEXT UNIQUE, reached INTEGER NOT NULL);
CREATE TABLE capture (file INTEGER, offset INTEGER, at REAL, url INTEGER, digest INTEGER, identity INTEGER);
"""
_INDEXES: Final = """
CREATE INDEX IF NOT EXISTS capture_by_identity ON capture (identity);
CREATE INDEX IF NOT EXISTS capture_by_url ON capture (url, at);
CREATE INDEX IF NOT EXISTS capture_by_digest ON capture (digest, at);
"""
_HOW_FAR: Final = "SELECT reached FROM file WHERE name = ?"
_REACHED: Final = (
    "INSERT INTO file (name, reached) VALUES (?, ?)"
    " ON CONFLICT (name) DO UPDATE SET reached = excluded.reached RETURNING id"
)
_ADD: Final = "INSERT INTO capture VALUES (?, ?, ?, ?, ?, ?)"
_FOUND: Final = "SELECT name, offset, at FROM capture JOIN file ON file.id = capture.file WHERE "
_BY_IDENTITY: Final = "SELECT name, offset FROM capture JOIN file ON file.id = capture.file WHERE identity = ? LIMIT 2"
_BEFORE: Final = _FOUND + "{} AND at <= :at ORDER BY at DESC LIMIT 1"
_AFTER: Final = _FOUND + "{} AND at > :at ORDER BY at LIMIT 1"


class Spot(NamedTuple):
    """Where a capture lies."""

    file: str
    offset: int


class Reference(NamedTuple):
    """What a revisit says of the capture whose payload it has."""

    url: str
    at: float | None  # none: it does not say
    digest: str | None  # of the payload; none: it says nothing of it
    identity: str
    own_at: float  # of the revisit
    is_unmodified: bool  # the server said so: the payload is that of the same URL before

    @classmethod
    def of(cls, fields: Fields) -> Reference:
        said = {name.lower(): value for name, value in reversed(fields)}
        own = without_brackets(said.get("warc-target-uri", ""))
        is_unmodified = said.get("warc-profile", "").rstrip("/>").endswith(_UNMODIFIED)
        digest = said.get("warc-payload-digest")
        return cls(
            without_brackets(said.get("warc-refers-to-target-uri", "")) or own,
            seconds_of(said.get("warc-refers-to-date", "")),
            None if is_unmodified and digest and _is_of_nothing(digest) else digest,
            without_brackets(said.get("warc-refers-to", "")),
            seconds_of(said.get("warc-date", "")) or 0.0,
            is_unmodified,
        )

    def is_to(self, digest: str | None) -> bool:
        """Whether a capture with such a payload may be meant."""
        return self.digest is None or digest is None or same(self.digest, digest)

    def away_from(self, at: float) -> tuple[bool, float]:
        """How far a capture is from the one that is meant: without its date, that is the last before the revisit."""
        if self.at is None:
            return at > self.own_at, abs(at - self.own_at)
        return False, abs(at - self.at)


class Originals:
    """Of one archive. Raises :class:`sqspider.archive.errors.ArchiveError`."""

    def __init__(self, files: Files) -> None:
        self.on_record: Callable[[FileInfo], None] = lambda _: None  # is told of each record that is looked at
        self._files = weakref.ref(files)  # which has this
        self._held: sqlite3.Connection | None = None
        self._reading = threading.Lock()  # one pass, also where captures are handed to several threads

    def spots(self, reference: Reference, revisit: Spot) -> Iterator[Spot]:
        """Where the original of a revisit may lie, which itself lies at a spot: the likeliest first."""
        seen = set[Spot]()
        for spot in chain(self._in_index(reference), self._in_scratch(reference, revisit)):
            if spot not in seen:
                seen.add(spot)
                yield spot

    def spot(self, reference: Reference, revisit: Spot) -> Spot | None:
        """The likeliest alone."""
        return next(self.spots(reference, revisit), None)

    @property
    def _archive(self) -> Files:
        files = self._files()
        assert files is not None
        return files

    def _in_index(self, reference: Reference) -> Iterator[Spot]:
        """Those that an index tells with certainty: by their payload, or their date."""
        index = Index.of(self._archive)
        if index is None:
            return
        found = [
            (reference.away_from(seconds_of_digits(line.time) or 0.0), Spot(line.file, line.offset))
            for line in index.find(reference.url)
            if line.mime != "warc/revisit" and reference.is_to(line.digest)
        ]
        for (_, away), spot in sorted(found):
            is_certain = reference.digest is not None or (reference.at is not None and away < 1.0)
            if is_certain and self._archive.info(spot.file) is not None:  # else packed since
                yield spot

    def _in_scratch(self, reference: Reference, revisit: Spot) -> list[Spot]:
        """Those that a database of all captures tells, which is made once it is asked."""
        try:
            return list(self._looked_up(reference, revisit))
        except sqlite3.Error as error:
            raise no_room(error) from error

    def _looked_up(self, reference: Reference, revisit: Spot) -> Iterator[Spot]:
        with self._reading:
            connection = self._connection()
            (reached,) = connection.execute(_HOW_FAR, (revisit.file,)).fetchone() or (0,)
            if reached <= revisit.offset:
                self._read_on(connection)
        if reference.identity:
            for spot in connection.execute(_BY_IDENTITY, (_number("id", reference.identity),)).fetchall():
                yield Spot(*spot)
        digest = None if reference.digest is None else _number("digest", normal(reference.digest))
        yield from _nearest(connection, reference, url=_number("url", reference.url), digest=digest)
        if digest is not None and not reference.is_unmodified:
            yield from _nearest(connection, reference, digest=digest)

    def _read_on(self, connection: sqlite3.Connection) -> None:
        """Note the captures that were not looked at yet."""
        files = self._archive
        for info in warc_files(files, may_be_none=True):
            known = connection.execute(_HOW_FAR, (info.name,)).fetchone()
            if known is None or known[0] < (info.size if info.is_open else _WHOLE):
                connection.execute("BEGIN")
                try:
                    with suppress(NoArchiveError):  # packed since: then it lies in a file that comes
                        self._read_file(connection, files, info, 0 if known is None else known[0])
                finally:
                    connection.execute("COMMIT")
        connection.executescript(_INDEXES)  # by themselves: each is sorted once, and not changed row by row

    def _read_file(self, connection: sqlite3.Connection, files: Files, info: FileInfo, begin: int) -> None:
        """Whoever reads captures tells what is damaged; here it ends the file."""
        reached = begin
        (number,) = connection.execute(_REACHED, (info.name, reached)).fetchone()
        rows: list[tuple[object, ...]] = []
        with files.opened(info.name, begin) as stream:
            try:
                for record, noted in measured(records_of(stream, info.name, begin), _noted):
                    self.on_record(info)
                    reached = record.offset + record.length
                    if noted is not None:
                        rows.append((number, record.offset, *noted))
                    if len(rows) >= _BATCH:
                        connection.executemany(_ADD, rows)
                        rows.clear()
            except RecordError:
                pass
        connection.executemany(_ADD, rows)
        connection.execute(_REACHED, (info.name, reached if info.is_open else _WHOLE))

    def _connection(self) -> sqlite3.Connection:
        if self._held is None:
            self._held = opened_scratch()
            weakref.finalize(self, self._held.close)
            self._held.executescript(_TABLES)
        return self._held


def originals_of(files: Files) -> Originals:
    """Those of an archive: one for all that is read of it by the same hands."""
    found = _known.get(files)
    if found is None:
        found = _known[files] = Originals(files)
    return found


_known: Final[weakref.WeakKeyDictionary[Files, Originals]] = weakref.WeakKeyDictionary()


def _nearest(
    connection: sqlite3.Connection, reference: Reference, *, digest: int | None, url: int | None = None
) -> Iterator[Spot]:
    """The nearest before and after what is meant, of those with this URL and digest."""
    wanted = {name: value for name, value in (("url", url), ("digest", digest)) if value is not None}
    where = " AND ".join(f"{name} = :{name}" for name in wanted)
    at = reference.own_at if reference.at is None else reference.at
    found = [
        (reference.away_from(row[2]), Spot(*row[:2]))
        for side in (_BEFORE, _AFTER)
        for row in connection.execute(side.format(where), {**wanted, "at": at})
    ]
    yield from (spot for _, spot in sorted(found))


def _noted(record: Record) -> tuple[float, int, int, int] | None:
    """When, and the numbers by which a capture is found; none: nobody can refer to it, or say where it lies."""
    if record.kind not in _PAYLOADS or not record.url or not record.is_first:
        return None
    digest = record.field("warc-payload-digest") or payload_digest_of(record)
    named = (_number("url", record.url), _number("digest", normal(digest)), _number("id", record.identity))
    return (record.at or 0.0, *named)


def _number(*what: str) -> int:
    """A short name, as small as SQLite's own numbers: what is found by it is held against what was asked for."""
    return int.from_bytes(key_of(*what)[:8], "big", signed=True)


def _is_of_nothing(digest: str) -> bool:
    """Whether it is that of no bytes: of a 304, that says nothing of the payload that is meant."""
    check = Check(digest)
    return check.is_needed and check.is_right
