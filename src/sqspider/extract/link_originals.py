"""Which bodies lie where, and which revisits wait for theirs: tables of the link table's file.

A revisit has the links of the capture whose body it has, at its own URL. That capture may lie in another file, be read
later, or be moved. So of each capture that has a body it is remembered where it lies; a revisit waits until that of its
body is known, and as long as no later answer of its URL was read. What `archive pack` has moved is looked at again
where it lies now.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from sqspider.archive.scratch import key_of
from sqspider.record import CapturePlace

if TYPE_CHECKING:
    from sqspider.archive.gathering import Sight
    from sqspider.extract.cursor import Step

TABLES: Final = """
CREATE TABLE files (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE bodies (  -- captures that have one
    capture BLOB PRIMARY KEY,
    digest TEXT NOT NULL,
    file INTEGER NOT NULL REFERENCES files,
    offset INTEGER NOT NULL,
    length INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX bodies_digest ON bodies (digest);
CREATE TABLE revisits (  -- later than what was read of their page
    page INTEGER NOT NULL REFERENCES pages,
    at REAL NOT NULL,
    capture BLOB NOT NULL,
    digest TEXT NOT NULL,
    original BLOB,  -- the capture that it means; none: any with this body
    file INTEGER NOT NULL REFERENCES files,
    offset INTEGER NOT NULL,
    PRIMARY KEY (page, at, capture)
) STRICT, WITHOUT ROWID;
CREATE INDEX revisits_capture ON revisits (capture);
"""
_ADD_FILE: Final = "INSERT INTO files (name) VALUES (?) ON CONFLICT DO NOTHING"
_FILE: Final = "(SELECT id FROM files WHERE name = ?)"
_LIES: Final = f"INSERT OR REPLACE INTO bodies VALUES (?, ?, {_FILE}, ?, ?)"
_MOVED: Final = f"UPDATE revisits SET file = {_FILE}, offset = ? WHERE capture = ?"
_WAITS: Final = f"""
INSERT OR REPLACE INTO revisits
SELECT pages.url, ?2, ?3, ?4, ?5, {_FILE.replace("?", "?6")}, ?7 FROM urls JOIN pages ON pages.url = urls.id
WHERE urls.url = ?1 AND (read_at IS NULL OR read_at < ?2)"""
_FOUND: Final = """
SELECT page, urls.url, max(revisits.at), revisits.capture, own.name, revisits.offset,
    theirs.name, bodies.offset, bodies.length, bodies.digest
FROM revisits CROSS JOIN bodies ON bodies.capture = coalesce(
        original, (SELECT capture FROM bodies AS one WHERE one.digest = revisits.digest LIMIT 1))
    JOIN urls ON urls.id = page JOIN files AS own ON own.id = revisits.file
    JOIN files AS theirs ON theirs.id = bodies.file
WHERE page > ? GROUP BY page ORDER BY page LIMIT ?"""


class Revisit(NamedTuple):
    """A capture whose body is that of another one, which may lie anywhere in the archive."""

    capture: bytes  # its key
    url: str
    at: float  # seconds since the epoch
    file: str
    offset: int
    digest: str  # of the body, as places have it
    original: bytes | None  # key of the capture that it means; none: any with this body


class Found(NamedTuple):
    """A revisit, and where the capture lies that has its body."""

    page: int  # number of its URL
    url: str
    at: float
    capture: bytes
    file: str
    offset: int
    place: CapturePlace


class Originals:
    """Keeps them, within transactions of its caller's."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def see(self, sights: Iterable[tuple[Sight, Step]]) -> None:
        """Remember where captures lie that were looked at."""
        bodies: list[tuple[object, ...]] = []
        moved: list[tuple[object, ...]] = []
        files = set[str]()
        for sight, step in sights:
            if not sight.is_first:  # it cannot be found by its place
                continue
            if sight.kind != "revisit" and sight.digest is not None:
                key = capture_key(sight.identity)
                bodies.append((key, bare(sight.digest), step.file, sight.offset, sight.length))
                files.add(step.file)
            elif sight.kind == "revisit" and not step.origin:
                moved.append((step.file, sight.offset, capture_key(sight.identity)))
                files.add(step.file)
        self._add_files(files)
        self._connection.executemany(_LIES, bodies)
        self._connection.executemany(_MOVED, moved)

    def wait(self, revisits: Iterable[Revisit]) -> None:
        """Let some wait. Their pages are there."""
        revisits = list(revisits)
        self._add_files({each.file for each in revisits})
        rows = [
            (each.url, each.at, each.capture, each.digest, each.original, each.file, each.offset) for each in revisits
        ]
        self._connection.executemany(_WAITS, rows)

    def found(self, most: int) -> Iterator[list[Found]]:
        """Of each page the latest revisit whose body's place is known, so many at a time."""
        after = -1
        while rows := self._connection.execute(_FOUND, (after, most)).fetchall():
            after = rows[-1][0]
            yield [
                Found(page, url, at, capture, file, offset, CapturePlace(where, begin, length, digest, 0.0))
                for page, url, at, capture, file, offset, where, begin, length, digest in rows
            ]

    def _add_files(self, names: Iterable[str]) -> None:
        self._connection.executemany(_ADD_FILE, [(name,) for name in names])


def capture_key(identity: str) -> bytes:
    """What a capture is known by, wherever it lies: of its WARC-Record-ID, without brackets."""
    return key_of(identity)


def bare(digest: str) -> str:
    """A digest as places have it."""
    return digest.removeprefix("sha1:")
