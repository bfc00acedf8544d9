"""The link table: which page refers to what, as a SQLite file of its own beside the archive.

It is derived from captures, and can be made anew from them. Of a URL the latest capture counts: its links take the
place of those before. URLs and texts are kept once, with a number. What is asked of it is in ``link_queries``.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from sqspider.archive.files import Files
    from sqspider.extract.linked_page import LinkedPage

FILE: Final = "links.db"  # its name in an archive's folder
VERSION: Final = 2
TABLES: Final = frozenset({"urls", "texts", "pages", "links"})  # by which it is known, in every version

_SCHEMA: Final = """
CREATE TABLE urls (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL UNIQUE,  -- canonical; where there is a reason, as it was written
    reason TEXT  -- why it is no URL that can be asked for
) STRICT;
CREATE INDEX urls_refused ON urls (reason) WHERE reason IS NOT NULL;
CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE) STRICT;
CREATE TABLE pages (  -- what was captured, pages or not: of each URL the latest
    url INTEGER PRIMARY KEY REFERENCES urls,
    at REAL NOT NULL,  -- seconds since the epoch
    read_at REAL,  -- of the capture that all else is of, which may be earlier; none was read
    http_status INTEGER,
    media_type TEXT,
    title TEXT,
    anchors BLOB,  -- ids and names in it, as ``linked_page`` packs them
    links INTEGER NOT NULL  -- how many
) STRICT;
CREATE TABLE links (
    page INTEGER NOT NULL REFERENCES pages,
    number INTEGER NOT NULL,  -- in document order
    target INTEGER NOT NULL REFERENCES urls,
    kind TEXT NOT NULL,
    rel INTEGER REFERENCES texts,
    text INTEGER REFERENCES texts,
    fragment INTEGER REFERENCES texts,
    PRIMARY KEY (page, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX links_redirects ON links (page, target) WHERE kind = 'redirect';
CREATE VIEW all_links AS  -- for people
    SELECT source.url AS page, target.url AS target, kind, rels.text AS rel, words.text AS text,
        fragments.text AS fragment, target.reason AS reason
    FROM links JOIN urls AS source ON source.id = page JOIN urls AS target ON target.id = target
        LEFT JOIN texts AS rels ON rels.id = rel LEFT JOIN texts AS words ON words.id = links.text
        LEFT JOIN texts AS fragments ON fragments.id = fragment;
"""

# By itself: while it is there, each link of a page changes another part of the file. So it is made once all was read.
_INDEX: Final = "CREATE INDEX IF NOT EXISTS links_by_target ON links (target, fragment)"
_ADD_URL: Final = "INSERT INTO urls (url, reason) VALUES (?, ?) ON CONFLICT DO NOTHING"
_ADD_TEXT: Final = "INSERT INTO texts (text) VALUES (?) ON CONFLICT DO NOTHING"
_URL_IDS: Final = "SELECT url, urls.id FROM json_each(?) JOIN urls ON url = value"
_TEXT_IDS: Final = "SELECT text, texts.id FROM json_each(?) JOIN texts ON text = value"
_READ: Final = "SELECT url, read_at FROM json_each(?) JOIN pages ON url = value WHERE read_at IS NOT NULL"
_SEEN: Final = """
INSERT INTO pages (url, at, links) VALUES (?, ?, 0) ON CONFLICT (url) DO UPDATE SET at = max(at, excluded.at)"""
_FORGET_LINKS: Final = "DELETE FROM links WHERE page = ?"
_ADD_PAGE: Final = """
UPDATE pages SET read_at = ?2, http_status = ?3, media_type = ?4, title = ?5, anchors = ?6, links = ?7
WHERE url = ?1"""
_ADD_LINK: Final = "INSERT INTO links VALUES (?, ?, ?, ?, ?, ?, ?)"


def prepare(connection: sqlite3.Connection) -> None:
    """Make the tables, within a transaction. Raises ``sqlite3.Error``."""
    for statement in _SCHEMA.split(";\n")[:-1]:
        connection.execute(statement)


def remove_links(files: Files) -> None:
    """Remove the table of an archive, which is made anew when it is asked. Whoever reads it just now keeps his."""
    for ending in ("-wal", "-shm", ""):
        files.remove(f"{FILE}{ending}")


def index(connection: sqlite3.Connection) -> None:
    """Have links found by their targets, which all questions rely on."""
    connection.execute(_INDEX)


class LinkWriter:
    """Adds captures to the table, within a transaction of its caller's; whoever rolls back says :meth:`forget`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._urls = _Numbers(connection, _URL_IDS)
        self._texts = _Numbers(connection, _TEXT_IDS)

    def forget(self) -> None:
        """What was remembered of numbers may not be true any more."""
        self._urls.known.clear()
        self._texts.known.clear()

    def add(self, pages: Collection[LinkedPage]) -> None:
        """Take captures, in whatever order: of each URL the latest that was read counts, and the latest of all says
        when. One that was taken before changes nothing."""
        read: dict[str, LinkedPage] = {}
        for page in pages:
            if page.links is not None and (page.url not in read or read[page.url].at < page.at):
                read[page.url] = page
        self._urls.add(_ADD_URL, dict(_urls_of(read.values(), pages)))
        self._texts.add(_ADD_TEXT, dict.fromkeys(_texts_of(read.values())))
        ids, write = self._urls.known, self._connection.executemany
        write(_SEEN, [(ids[page.url], page.at) for page in pages])
        new = self._newer(read.values())
        write(_FORGET_LINKS, [(ids[page.url],) for page in new])
        write(_ADD_PAGE, map(self._page_row, new))
        write(_ADD_LINK, (row for page in new for row in self._link_rows(page)))
        self._urls.bound()
        self._texts.bound()

    def _newer(self, pages: Collection[LinkedPage]) -> list[LinkedPage]:
        ids = self._urls.known
        known = dict(self._connection.execute(_READ, (json.dumps([ids[page.url] for page in pages]),)))
        return [page for page in pages if known.get(ids[page.url], float("-inf")) < page.at]

    def _page_row(self, page: LinkedPage) -> tuple[object, ...]:
        return (
            self._urls.known[page.url],
            page.at,
            page.http_status,
            page.media_type or None,
            page.title or None,
            page.anchors,
            len(page.links or ()),
        )

    def _link_rows(self, page: LinkedPage) -> Iterable[tuple[object, ...]]:
        urls, texts, source = self._urls.known, self._texts.known, self._urls.known[page.url]
        for number, link in enumerate(page.links or ()):
            yield (
                source,
                number,
                urls[link.to or link.written],
                link.kind.value,
                texts[link.rel] if link.rel else None,
                texts[link.text] if link.text else None,
                texts[link.fragment] if link.fragment else None,
            )


def _urls_of(read: Iterable[LinkedPage], pages: Iterable[LinkedPage]) -> Iterable[tuple[str, str | None]]:
    for page in read:
        for link in page.links or ():
            yield link.to or link.written, link.reason
    for page in pages:
        yield page.url, None


def _texts_of(read: Iterable[LinkedPage]) -> Iterable[str]:
    for page in read:
        for link in page.links or ():
            yield from filter(None, (link.rel, link.text, link.fragment))


class _Numbers:
    """The numbers of URLs, or of texts: those that were asked for lately are remembered."""

    MOST: Final = 200_000  # that are remembered from batch to batch

    def __init__(self, connection: sqlite3.Connection, ids: str) -> None:
        self.known: dict[str, int] = {}
        self._connection = connection
        self._ids = ids

    def add(self, statement: str, wanted: Mapping[str, str | None]) -> None:
        """All of these are known then: with numbers of old, or new ones."""
        missing = {text: more for text, more in wanted.items() if text not in self.known}
        if not missing:
            return
        texts = json.dumps(list(missing))
        self.known.update(self._connection.execute(self._ids, (texts,)))
        new = [text for text in missing if text not in self.known]
        rows = [(text, missing[text])[: statement.count("?")] for text in new]
        self._connection.executemany(statement, rows)
        self.known.update(self._connection.execute(self._ids, (json.dumps(new),)))

    def bound(self) -> None:
        if len(self.known) > self.MOST:
            self.known.clear()
