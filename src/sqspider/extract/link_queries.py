"""What is asked of a link table: who links where, with what words. What became of targets is in ``link_records``."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from sqspider.extract.linked_page import unpacked
from sqspider.extract.page_links import LinkKind
from sqspider.record import Reason

ALL_KINDS: Final = frozenset(LinkKind)


class Link(NamedTuple):
    """A link, as the table has it."""

    page: str  # where it stands
    target: str  # canonical; where there is a reason, as it is written
    kind: LinkKind
    rel: str
    text: str
    fragment: str
    reason: Reason | None  # why it is no URL that can be asked for
    http_status: int | None  # of the page


class Page(NamedTuple):
    """A URL that was captured: the latest answer."""

    url: str
    at: float  # seconds since the epoch
    http_status: int | None
    media_type: str
    title: str
    links: int  # how many


_LINKS: Final = """
SELECT source.url, target.url, kind, coalesce(rels.text, ''), coalesce(words.text, ''), coalesce(fragments.text, ''),
    target.reason, pages.http_status
FROM links JOIN urls AS source ON source.id = links.page JOIN urls AS target ON target.id = links.target
    JOIN pages ON pages.url = links.page
    LEFT JOIN texts AS rels ON rels.id = rel LEFT JOIN texts AS words ON words.id = links.text
    LEFT JOIN texts AS fragments ON fragments.id = fragment
"""
_TO: Final = f"{_LINKS} WHERE links.target = (SELECT id FROM urls WHERE url = ?)"
_FROM: Final = f"{_LINKS} WHERE links.page = (SELECT id FROM urls WHERE url = ?) ORDER BY number"
_ALL: Final = f"{_LINKS} ORDER BY links.page, number"
_COUNT_TO: Final = "SELECT kind, count(*) FROM links WHERE target = (SELECT id FROM urls WHERE url = ?) GROUP BY kind"
_PAGE: Final = """
SELECT urls.url, at, http_status, coalesce(media_type, ''), coalesce(title, ''), links
FROM pages JOIN urls ON urls.id = pages.url"""
_UNREAD: Final = "SELECT count(*) FROM pages WHERE read_at IS NULL"
_REDIRECTS: Final = """
SELECT source.url, target.url FROM links INDEXED BY links_redirects
    JOIN urls AS source ON source.id = page JOIN urls AS target ON target.id = links.target
WHERE kind = 'redirect' AND target.reason IS NULL"""
_UNCAPTURED: Final = """
SELECT urls.url FROM (SELECT DISTINCT target FROM links INDEXED BY links_by_target) JOIN urls ON urls.id = target
WHERE reason IS NULL AND NOT EXISTS (SELECT 1 FROM pages WHERE pages.url = target)"""
_UNLINKED: Final = f"""
{_PAGE} WHERE http_status BETWEEN 200 AND 299 AND anchors IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM links INDEXED BY links_by_target
    WHERE target = pages.url AND page <> pages.url AND kind <> 'sitemap')"""
_FRAGMENTS: Final = """
SELECT DISTINCT urls.url, texts.text FROM links INDEXED BY links_by_target
    JOIN urls ON urls.id = target JOIN texts ON texts.id = fragment
WHERE fragment IS NOT NULL AND reason IS NULL ORDER BY target, fragment"""

_TARGETS: Final = """
SELECT urls.url, number FROM (SELECT target, count(*) AS number FROM links {} GROUP BY target)
    JOIN urls ON urls.id = target WHERE reason IS NULL"""


class LinkTable:
    """Reads a link table. Answers come one after the other, as they are asked for; raises ``sqlite3.Error``."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def links_to(self, url: str, kinds: Collection[LinkKind] = ALL_KINDS) -> Iterator[Link]:
        """All links to a URL, or to what was written so and is none."""
        return _of_kinds(self._links(_TO, url), kinds)

    def links_from(self, url: str, kinds: Collection[LinkKind] = ALL_KINDS) -> Iterator[Link]:
        """All links of a page, in document order."""
        return _of_kinds(self._links(_FROM, url), kinds)

    def unread(self) -> int:
        """URLs of which there is a revisit alone: the answer that it refers to was not found, and so no link of it."""
        (number,) = self._connection.execute(_UNREAD).fetchone()
        return int(number)

    def all_links(self, kinds: Collection[LinkKind] = ALL_KINDS) -> Iterator[Link]:
        """All links, page by page."""
        return _of_kinds(self._links(_ALL), kinds)

    def count_to(self, url: str, kinds: Collection[LinkKind] = ALL_KINDS) -> int:
        """How many links there are to a URL."""
        return sum(number for kind, number in self._connection.execute(_COUNT_TO, (url,)) if kind in kinds)

    def page(self, url: str) -> Page | None:
        """What was captured of a URL."""
        row = self._connection.execute(f"{_PAGE} WHERE urls.url = ?", (url,)).fetchone()
        return Page(*row) if row else None

    def pages_by_status(self, least: int, most: int) -> Iterator[Page]:
        """What was answered with one of these HTTP statuses."""
        rows = self._connection.execute(f"{_PAGE} WHERE http_status BETWEEN ? AND ?", (least, most))
        return (Page(*row) for row in rows)

    def unlinked(self) -> Iterator[Page]:
        """Pages to which no other page has a link; that a sitemap lists them does not count."""
        return (Page(*row) for row in self._connection.execute(_UNLINKED))

    def refused(self) -> Iterator[tuple[str, Reason]]:
        """What is written in links and is no URL, each once."""
        rows = self._connection.execute("SELECT url, reason FROM urls WHERE reason IS NOT NULL ORDER BY reason, url")
        return ((url, Reason(reason)) for url, reason in rows)

    def redirects(self) -> Iterator[tuple[str, str]]:
        """URLs that redirect, and where they lead."""
        return iter(self._connection.execute(_REDIRECTS))

    def uncaptured(self) -> Iterator[str]:
        """URLs that links lead to and of which no answer is kept: what was never asked for, or only checked."""
        return (url for (url,) in self._connection.execute(_UNCAPTURED))

    def redirect_of(self, url: str) -> str | None:
        """Where a URL leads, if it redirects."""
        return next((link.target for link in self.links_from(url, {LinkKind.REDIRECT}) if link.reason is None), None)

    def fragments(self) -> Iterator[tuple[str, str]]:
        """The fragments that links name, each once, target by target."""
        return iter(self._connection.execute(_FRAGMENTS))

    def anchors(self, url: str) -> frozenset[str] | None:
        """The places in a page that a fragment may name; none: it is not known which there are."""
        row = self._connection.execute(
            "SELECT anchors FROM pages WHERE url = (SELECT id FROM urls WHERE url = ?)", (url,)
        ).fetchone()
        return unpacked(row[0]) if row and row[0] is not None else None

    def targets(self, kinds: Collection[LinkKind] = ALL_KINDS) -> Iterator[tuple[str, int]]:
        """URLs that links of these kinds lead to, and how many do."""
        chosen = "" if len(kinds) == len(ALL_KINDS) else "WHERE kind IN (SELECT value FROM json_each(?1))"
        values = (json.dumps(sorted(kinds)),) if chosen else ()
        return iter(self._connection.execute(_TARGETS.format(chosen), values))

    def nodes(self) -> Iterator[tuple[int, str, int | None, str | None]]:
        """URLs with their numbers; what was answered, and the title, where one was captured."""
        rows = self._connection.execute(
            "SELECT id, urls.url, http_status, title FROM urls LEFT JOIN pages ON pages.url = id ORDER BY id"
        )
        return iter(rows)

    def edges(self, kinds: Collection[LinkKind] = ALL_KINDS) -> Iterator[tuple[int, int, str, str | None]]:
        """Links between those numbers, with kind and text."""
        rows = self._connection.execute(
            "SELECT page, target, kind, texts.text FROM links LEFT JOIN texts ON texts.id = links.text"
            " ORDER BY page, number"
        )
        return (row for row in rows if row[2] in kinds)

    def counts(self) -> tuple[int, int]:
        """How many URLs were captured, and how many links they have."""
        captured, links = self._connection.execute("SELECT count(*), coalesce(sum(links), 0) FROM pages").fetchone()
        return captured, links

    def _links(self, statement: str, *values: str) -> Iterator[Link]:
        for page, target, kind, rel, text, fragment, reason, http_status in self._connection.execute(statement, values):
            why = None if reason is None else Reason(reason)
            yield Link(page, target, LinkKind(kind), rel, text, fragment, why, http_status)


def _of_kinds(links: Iterator[Link], kinds: Collection[LinkKind]) -> Iterator[Link]:
    return (link for link in links if link.kind in kinds)


class Sources:
    """The links to a target: asked for when they are gone through, for a page that all others link to has many."""

    def __init__(self, table: LinkTable, target: str, kinds: Collection[LinkKind]) -> None:
        self._table = table
        self._target = target
        self._kinds = kinds

    def __len__(self) -> int:
        return self._table.count_to(self._target, self._kinds)

    def __iter__(self) -> Iterator[Link]:
        return self._table.links_to(self._target, self._kinds)
