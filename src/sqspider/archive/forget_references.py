"""Which revisits had their payload in captures that are erased, and which of them becomes the full response.

Kept in a scratch database: of an archive that is erased in large part it does not fit into memory.
"""

from __future__ import annotations

import sqlite3
from typing import Final, NamedTuple

from sqspider.archive.dates import microseconds, seconds_of
from sqspider.archive.records import Record, without_brackets
from sqspider.archive.scratch import key_of, no_room
from sqspider.record import CapturePlace

_TABLES: Final = """
CREATE TABLE file (id INTEGER PRIMARY KEY, name TEXT UNIQUE);
CREATE TABLE erased (id INTEGER PRIMARY KEY, file INTEGER, offset INTEGER);
CREATE TABLE erased_key (key BLOB, erased INTEGER);
CREATE TABLE revisit (
    id INTEGER PRIMARY KEY, file INTEGER, offset INTEGER, at INTEGER, url TEXT, date TEXT, identity TEXT, digest TEXT
);
CREATE TABLE refers (key BLOB, revisit INTEGER);
"""
_JOIN: Final = """
CREATE INDEX erased_by_key ON erased_key (key);
CREATE TABLE hit AS
    SELECT refers.revisit, min(erased_key.erased) AS erased
    FROM refers JOIN erased_key ON erased_key.key = refers.key GROUP BY refers.revisit;
CREATE TABLE first (erased INTEGER PRIMARY KEY, revisit INTEGER);
INSERT INTO first
    SELECT erased, revisit FROM (
        SELECT hit.erased, hit.revisit, row_number() OVER (PARTITION BY hit.erased ORDER BY revisit.at, revisit.id) AS n
        FROM hit JOIN revisit ON revisit.id = hit.revisit
    ) WHERE n = 1;
CREATE INDEX revisit_by_file ON revisit (file);
CREATE INDEX hit_by_revisit ON hit (revisit);
"""
_REMADE: Final = """
SELECT r.offset, of.name, e.offset, r.id = f.id, ff.name, f.offset, f.url, f.date, f.identity, f.digest
FROM file JOIN revisit AS r ON r.file = file.id JOIN hit ON hit.revisit = r.id
    JOIN erased AS e ON e.id = hit.erased JOIN file AS of ON of.id = e.file
    JOIN first ON first.erased = e.id JOIN revisit AS f ON f.id = first.revisit JOIN file AS ff ON ff.id = f.file
WHERE file.name = ?
"""
_FILES: Final = "SELECT DISTINCT name FROM hit JOIN revisit AS r ON r.id = hit.revisit JOIN file ON file.id = r.file"


class Original(NamedTuple):
    """What a revisit referred to, and what is there in place of that."""

    file: str  # where the erased payload lies
    offset: int
    is_first: bool  # the revisit itself becomes the full response
    first_file: str  # else the one that does: where it lies
    first_offset: int
    first_url: str
    first_date: str  # as it is written
    first_identity: str
    first_digest: str

    def place_of_first(self, now: CapturePlace) -> CapturePlace:
        """Of the full response, once it is known where it lies now."""
        digest = self.first_digest.removeprefix("sha1:")
        return CapturePlace(
            now.file, now.offset, now.length, digest, seconds_of(self.first_date) or 0.0, self.first_url
        )


class References:
    """Takes what is erased, and all revisits that stay; then tells which of these need something else."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._ids: dict[str, int] = {}
        connection.executescript(_TABLES)
        connection.execute("BEGIN")  # of a database that is thrown away: one transaction is the quickest

    def erase(self, record: Record) -> None:
        """A capture with a payload goes. Raises :class:`ArchiveError` where there is no room to note it."""
        erased = self._insert("INSERT INTO erased (file, offset) VALUES (?, ?)", self._id(record.file), record.offset)
        at = record.at
        keys = [key_of("id", record.identity), key_of("digest", record.field("warc-payload-digest"))]
        if at is not None:
            keys.append(key_of("capture", record.url, microseconds(at)))
        for key in keys:
            self._insert("INSERT INTO erased_key VALUES (?, ?)", key, erased)

    def revisit(self, record: Record) -> None:
        """A revisit stays. Raises as :meth:`erase`."""
        revisit = self._insert(
            "INSERT INTO revisit (file, offset, at, url, date, identity, digest) VALUES (?, ?, ?, ?, ?, ?, ?)",
            self._id(record.file),
            record.offset,
            microseconds(record.at or 0.0),
            record.url,
            record.field("warc-date") or "",
            record.identity,
            record.field("warc-payload-digest") or "",
        )
        keys = []
        if identity := without_brackets(record.field("warc-refers-to") or ""):
            keys.append(key_of("id", identity))
        if (at := seconds_of(record.field("warc-refers-to-date") or "")) is not None:
            url = without_brackets(record.field("warc-refers-to-target-uri") or "") or record.url
            keys.append(key_of("capture", url, microseconds(at)))
        if not keys and (digest := record.field("warc-payload-digest")):
            keys.append(key_of("digest", digest))  # as the first tools wrote them
        for key in keys:
            self._insert("INSERT INTO refers VALUES (?, ?)", key, revisit)

    def join(self) -> None:
        """All is told."""
        try:
            self._connection.execute("COMMIT")
            self._connection.executescript(_JOIN)
        except sqlite3.Error as error:
            raise no_room(error) from error

    def files(self) -> set[str]:
        """The files that have revisits whose payload goes."""
        return {name for (name,) in self._connection.execute(_FILES)}

    def promoted(self) -> int:
        """How many revisits become full responses."""
        number: int = self._connection.execute("SELECT count(*) FROM first").fetchone()[0]
        return number

    def remade(self, file: str) -> dict[int, Original]:
        """The revisits of a file whose payload goes, by their offsets."""
        return {
            offset: Original(of, at, bool(is_first), *first)
            for offset, of, at, is_first, *first in self._connection.execute(_REMADE, (file,))
        }

    def _id(self, file: str) -> int:
        if file not in self._ids:
            self._ids[file] = self._insert("INSERT INTO file (name) VALUES (?)", file)
        return self._ids[file]

    def _insert(self, statement: str, *values: object) -> int:
        try:
            return self._connection.execute(statement, values).lastrowid or 0
        except sqlite3.Error as error:
            raise no_room(error) from error
