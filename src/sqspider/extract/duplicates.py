"""Pages with the same content, and with nearly the same: in a database of its own, which is gone with it.

What a crawl has is taken page by page: a digest, and where the content lies. Nothing but the database grows, about 300
bytes a page in the folder for temporary files; what is held in memory is 8 bytes for each content that has a
fingerprint. Each content is read once, however many pages have it.
"""

from __future__ import annotations

import sqlite3
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Final, NamedTuple

import msgspec

from sqspider.extract.simhash import BITS, masks
from sqspider.record import CapturePlace

_ALGORITHM: Final = "sha256:"
_CACHE_KIB: Final = 128 * 1024  # of the database, in memory
_MOST_COMPARED: Final = 500  # fingerprints behind one that agree with it in a mask: of those that agree by chance

_TABLES: Final = """
CREATE TABLE content (
    id INTEGER PRIMARY KEY,
    digest BLOB NOT NULL UNIQUE, -- a SHA-256 as its bytes, others as text
    place BLOB, -- where one capture of it lies: packed so that their order is that of the archive; none: nowhere
    url TEXT NOT NULL, -- of that capture
    canonical TEXT, -- as it says of itself
    fingerprint INTEGER, -- signed
    grouped INTEGER NOT NULL DEFAULT 0 -- the content that its group is named by
);
CREATE TABLE page (content INTEGER NOT NULL, url TEXT NOT NULL, crawl TEXT NOT NULL, at REAL NOT NULL);
"""
_ADD_CONTENT: Final = (
    "INSERT INTO content (digest, place, url) VALUES (?, ?, ?) ON CONFLICT (digest) "
    "DO UPDATE SET place = excluded.place, url = excluded.url WHERE place IS NULL AND excluded.place IS NOT NULL"
)
_NOWHERE: Final = (
    "SELECT min(url) FROM page WHERE content IN (SELECT id FROM content WHERE place IS NULL) GROUP BY content"
)
_ADD_PAGE: Final = "INSERT INTO page SELECT id, ?, ?, ? FROM content WHERE digest = ?"
# SQLite takes what stands beside a maximum from the row that has it.
_KEEP_LAST: Final = (
    "DELETE FROM page WHERE rowid NOT IN (SELECT id FROM (SELECT rowid AS id, max(at) FROM page GROUP BY url, crawl))"
)
_PLACES: Final = "SELECT id, url, place FROM content WHERE place IS NOT NULL {} ORDER BY place"
_READ: Final = "UPDATE content SET canonical = ?, fingerprint = ? WHERE id = ?"
_ALIKE: Final = (
    "SELECT id, fingerprint FROM content WHERE fingerprint IS NOT NULL ORDER BY fingerprint & ?, fingerprint"
)
_GROUPS: Final = """
SELECT grouped, count(*) AS pages, count(DISTINCT content) FROM page JOIN content ON content.id = page.content
GROUP BY grouped HAVING pages > 1 ORDER BY pages DESC, grouped
"""
# First the page that all say is meant, then short URLs: a group is told by its first.
_PAGES: Final = """
SELECT page.url, crawl, canonical, fingerprint, digest FROM content JOIN page ON page.content = content.id
WHERE grouped = ? ORDER BY canonical IS page.url DESC, length(page.url), page.url, crawl
"""


class Answer(NamedTuple):
    """What is taken of a page."""

    url: str
    crawl: str
    digest: str  # with its algorithm before it
    place: CapturePlace | None  # where the content lies
    at: float = 0.0  # when, in seconds since the epoch, where it may have several


class Page(NamedTuple):
    """A page in a group."""

    url: str
    crawl: str
    canonical: str | None  # what its content says is meant
    distance: int  # bits in which its fingerprint differs from that of the first; 0 where the content is the same
    digest: str


class Group(NamedTuple):
    """Pages that are alike."""

    number: int  # how many pages
    contents: int  # how many of them differ
    pages: Iterator[Page]  # once


class Content(NamedTuple):
    """What is read of a content."""

    canonical: str | None
    fingerprint: int | None


Read = Callable[[str, CapturePlace], Content | None]


class Duplicates:
    """Takes pages, and tells those that are alike. A context manager."""

    def __init__(self) -> None:
        # A file without a name in the folder for temporary files (TMPDIR): whatever ends the process, nothing stays.
        self._connection = sqlite3.connect("", isolation_level=None)
        self._connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._connection.execute("PRAGMA journal_mode = OFF")
        self._connection.executescript(_TABLES)

    def __enter__(self) -> Duplicates:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def add(self, answers: Iterable[Answer]) -> None:
        """Take answers."""
        self._connection.execute("BEGIN")
        for url, crawl, digest, place, at in answers:
            key = bytes.fromhex(digest.removeprefix(_ALGORITHM)) if digest.startswith(_ALGORITHM) else digest
            packed = None if place is None else msgspec.msgpack.encode(place)
            self._connection.execute(_ADD_CONTENT, (key, packed, url))
            self._connection.execute(_ADD_PAGE, (url, crawl, at, key))
        self._connection.execute("COMMIT")

    def keep_last_of_each(self) -> None:
        """Of a page's answers, keep the last."""
        self._connection.execute(_KEEP_LAST)

    def nowhere(self) -> Iterator[str]:
        """A URL of each content that does not lie in the archive, only what refers to it."""
        for (url,) in self._connection.execute(_NOWHERE):
            yield url

    def group_same(self, read: Read | None = None) -> None:
        """A group is what has the same digest. ``read``: what of each group is read, for its canonical."""
        self._connection.execute("UPDATE content SET grouped = id")
        self._index()
        if read is not None:
            self._connection.execute("CREATE TEMP TABLE several AS SELECT grouped FROM (" + _GROUPS + ")")
            self._read_contents(read, "AND id IN (SELECT grouped FROM several)")

    def group_near(self, most: int, read: Read) -> None:
        """A group is what is reached by steps of so many bits. Every content is read, in the order of the archive."""
        self._read_contents(read, "")
        (contents,) = self._connection.execute("SELECT coalesce(max(id), 0) FROM content").fetchone()
        joined = _Joined(contents + 1)
        for mask in masks(most):
            for one, other in self._agreeing(mask, most):
                joined.join(one, other)
        self._connection.create_function("root_of", 1, joined.root, deterministic=True)
        self._connection.execute("UPDATE content SET grouped = root_of(id)")
        self._index()

    def groups(self) -> Iterator[Group]:
        """Groups of two pages or more, the largest first."""
        for grouped, number, contents in self._connection.execute(_GROUPS):
            yield Group(number, contents, self._pages(grouped))

    def _pages(self, grouped: int) -> Iterator[Page]:
        first: tuple[bytes | str, int] | None = None
        for url, crawl, canonical, fingerprint, digest in self._connection.execute(_PAGES, (grouped,)):
            first = first or (digest, fingerprint)
            away = 0 if digest == first[0] else _distance(fingerprint, first[1])
            said = digest if isinstance(digest, str) else _ALGORITHM + digest.hex()
            yield Page(url, crawl, canonical, away, said)

    def _index(self) -> None:
        self._connection.execute("CREATE INDEX page_content ON page (content)")
        self._connection.execute("CREATE INDEX content_grouped ON content (grouped)")

    def _read_contents(self, read: Read, which: str) -> None:
        found = self._connection.execute(_PLACES.format(which))
        while batch := found.fetchmany(1000):
            answers = []
            for number, url, place in batch:
                content = read(url, msgspec.msgpack.decode(place, type=CapturePlace))
                if content is not None:
                    answers.append((content.canonical, _signed(content.fingerprint), number))
            self._connection.execute("BEGIN")
            self._connection.executemany(_READ, answers)
            self._connection.execute("COMMIT")

    def _agreeing(self, mask: int, most: int) -> Iterator[tuple[int, int]]:
        """Contents whose fingerprints agree in a mask, and differ in no more bits than ``most``."""
        found = self._connection.execute(_ALIKE, (_signed(mask),))
        for _, run in groupby(found, key=lambda row: row[1] & mask):
            before: deque[tuple[int, int]] = deque(maxlen=_MOST_COMPARED)
            for one, fingerprint in run:
                for other, others in before:
                    if _distance(fingerprint, others) <= most:
                        yield one, other
                before.append((one, fingerprint))


_ALL: Final = (1 << BITS) - 1


def _signed(bits: int | None) -> int | None:
    """As SQLite keeps 64 bits."""
    return bits if bits is None or bits >> (BITS - 1) == 0 else bits - (1 << BITS)


def _distance(one: int, other: int) -> int:
    return ((one ^ other) & _ALL).bit_count()


class _Joined:
    """Numbers, joined into groups. Eight bytes a number."""

    def __init__(self, size: int) -> None:
        self._above = array("q", range(size))

    def root(self, number: int) -> int:
        above = self._above
        while above[number] != number:
            above[number] = number = above[above[number]]
        return number

    def join(self, one: int, other: int) -> None:
        one, other = self.root(one), self.root(other)
        self._above[max(one, other)] = min(one, other)
