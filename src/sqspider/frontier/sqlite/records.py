"""How URLs are recorded, each once, by the nearest way, and how records are found again by their URLs.

The statements, here and beside: one that reads a table which grows names its index: should that not serve, SQLite
refuses to prepare it, instead of reading the whole table. ``tests/frontier/test_sqlite_plans.py`` knows each by its
name. Batches go in as one JSON array, so that each is one statement; of URLs as [key, URL].
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Annotated, Final, NamedTuple

import msgspec

from sqspider.crawls import CrawlSettings, encode_settings
from sqspider.frontier.answers import counted
from sqspider.frontier.sqlite.connection import Transaction
from sqspider.frontier.sqlite.keys import key_of, with_keys
from sqspider.frontier.sqlite.rows import STATUSES, settings_of
from sqspider.frontier.values import Entry
from sqspider.frontier.ways import Way, fallen
from sqspider.record import Status

FIND_CRAWL: Final = "SELECT id FROM crawl WHERE settings = ?"
ADD_CRAWL: Final = "INSERT INTO crawl (settings) VALUES (?)"
CRAWLS: Final = """
SELECT c.id, c.settings FROM json_each(?) AS e CROSS JOIN crawl AS c NOT INDEXED ON c.id = e.value
"""
KNOWN: Final = """
SELECT e.key, r.id, r.depth, r.redirects, r.status
FROM json_each(?) AS e CROSS JOIN record AS r INDEXED BY record_key
ON r.key = e.value ->> 0 AND r.url = e.value ->> 1
"""
HELD: Final = """
SELECT e.key, r.id, r.status, r.queue, r.attempt, r.unended, r.tries, r.worker_id, r.claim_id, r.lease_until,
    coalesce(r.visit, 0), r.depth, r.redirects
FROM json_each(?) AS e CROSS JOIN record AS r INDEXED BY record_key
ON r.key = e.value ->> 0 AND r.url = e.value ->> 1
"""
INSERT_RECORD: Final = """
INSERT INTO record (key, crawl, queue, depth, parent, url, redirects, lastmod, enqueued_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
COME_NEARER: Final = """
UPDATE record NOT INDEXED SET
    depth = :depth, redirects = :redirects, parent = CASE WHEN :depth < depth THEN :parent ELSE parent END
WHERE id = :id
"""


_STATUS_BY_NUMBER: Final = dict(enumerate(STATUSES))  # one that is damaged is left as it is


class Recorded(NamedTuple):
    """What became of entries."""

    new: Set[str]  # URLs
    final: Mapping[int, Way]  # records that are final and nearer now, by their ids: the ways before


def record(transaction: Transaction, by_url: Mapping[str, Entry], queue: int | None) -> Recorded:
    """Insert records for what is not known, in their order; of what is known the nearest way holds."""
    connection, now = transaction.connection, transaction.now
    keys = {url: key_of(url) for url in by_url}
    known, final = _known(connection, by_url, keys)
    crawls: dict[str, int] = {}  # for this transaction: another process may clear the table after it
    rows = []
    for url, entry in by_url.items():
        if url in known:
            continue
        settings = encode_settings(entry.settings)
        if settings not in crawls:
            crawls[settings] = _crawl_id(connection, settings)
        parent, redirects = _parent(entry, known), entry.redirects
        rows.append((keys[url], crawls[settings], queue, entry.depth, parent, url, redirects, entry.lastmod, now))
    connection.executemany(INSERT_RECORD, rows)
    transaction.count_records(counted(None, Status.QUEUED, count=len(rows)))
    return Recorded(by_url.keys() - known.keys(), final)


def _known(
    connection: sqlite3.Connection, by_url: Mapping[str, Entry], keys: Mapping[str, int]
) -> tuple[dict[str, int], dict[int, Way]]:
    """The ids of records that are there, by URL, those of parents too. The nearest way to them holds now; where such a
    record is final, by its id the way before."""
    parents = {entry.parent: None for entry in by_url.values() if entry.parent is not None}
    asked = [*by_url, *(parent for parent in parents if parent not in by_url)]
    known: dict[str, int] = {}
    nearer: dict[str, Way] = {}
    final: dict[int, Way] = {}
    for index, id_, depth, redirects, number in connection.execute(KNOWN, (with_keys(asked, keys),)):
        url = asked[index]
        known[url] = id_
        if (entry := by_url.get(url)) is None:
            continue
        status = _STATUS_BY_NUMBER.get(number, Status.DONE)
        try:
            way = fallen(entry, status, depth, redirects)
        except TypeError:  # it is damaged, and left as it is
            continue
        if way is None:
            continue
        nearer[url] = way
        if status.is_final:
            final[id_] = Way(depth, redirects)
    if nearer:
        rows = [{"id": known[url], "parent": _parent(by_url[url], known), **w._asdict()} for url, w in nearer.items()]
        connection.executemany(COME_NEARER, rows)
    return known, final


def _parent(entry: Entry, known: Mapping[str, int]) -> int | str | None:
    """The page where an entry was found, as a record names it."""
    return known.get(entry.parent, entry.parent) if entry.parent is not None else None


def _crawl_id(connection: sqlite3.Connection, settings: str) -> int:
    found = connection.execute(FIND_CRAWL, (settings,)).fetchone()
    return int(found[0]) if found else int(connection.execute(ADD_CRAWL, (settings,)).lastrowid or 0)


def settings_by_crawl(connection: sqlite3.Connection, crawls: Iterable[int]) -> dict[int, CrawlSettings]:
    """The settings of some crawls by their ids, those that can be read."""
    found = {}
    for id_, body in connection.execute(CRAWLS, (json.dumps(list(crawls)),)):
        with contextlib.suppress(msgspec.MsgspecError, TypeError):
            found[id_] = settings_of(body)
    return found


class Held(NamedTuple):
    """What a record says of its claims, as :data:`HELD` reads it."""

    id: int
    number: Annotated[int, msgspec.Meta(ge=0, lt=len(STATUSES))]  # of its status
    queue: int | None
    attempt: int
    unended: int
    tries: int
    worker_id: str | None
    claim_id: str | None
    lease_until: float | None
    visit: int
    depth: int
    redirects: int

    @property
    def status(self) -> Status:
        return STATUSES[self.number]


def held(connection: sqlite3.Connection, urls: Sequence[str]) -> dict[str, Held]:
    """What is known of the claims of some URLs; unknown ones are left out."""
    rows = connection.execute(HELD, (with_keys(urls),))
    return {urls[index]: Held(*row) for index, *row in rows}
