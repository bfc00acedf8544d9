"""How URLs are recorded, each once, and how records are found again by their URLs.

The statements, here and beside: one that reads a table which grows names its index: should that not serve, SQLite
refuses to prepare it, instead of reading the whole table. ``tests/frontier/test_sqlite_plans.py`` knows each by its
name. Batches go in as one JSON array, so that each is one statement; of URLs as [key, URL].
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Final, NamedTuple

import msgspec

from sqspider.crawls import CrawlSettings, encode_settings
from sqspider.frontier.answers import counted, enqueued_in_order, first_of_each, has_fewer_redirects, is_due
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.keys import key_of, with_keys
from sqspider.frontier.sqlite.reopening import reopen
from sqspider.frontier.sqlite.rows import FRESH, STATUSES, settings_of, unpack_kept
from sqspider.frontier.values import Entry
from sqspider.record import Kept, Status

FIND_CRAWL: Final = "SELECT id FROM crawl WHERE settings = ?"
ADD_CRAWL: Final = "INSERT INTO crawl (settings) VALUES (?)"
CRAWLS: Final = """
SELECT c.id, c.settings FROM json_each(?) AS e CROSS JOIN crawl AS c NOT INDEXED ON c.id = e.value
"""
KNOWN: Final = """
SELECT e.key, r.id, r.redirects, r.status, r.finished_at
FROM json_each(?) AS e CROSS JOIN record AS r INDEXED BY record_key
ON r.key = e.value ->> 0 AND r.url = e.value ->> 1
"""
HELD: Final = """
SELECT e.key, r.id, r.status, r.queue, r.attempt, r.unended, r.tries, r.worker_id, r.claim_id, r.lease_until,
    coalesce(r.visit, 0), r.validators, r.changed_at
FROM json_each(?) AS e CROSS JOIN record AS r INDEXED BY record_key
ON r.key = e.value ->> 0 AND r.url = e.value ->> 1
"""
INSERT_RECORD: Final = """
INSERT INTO record (key, crawl, queue, depth, parent, url, redirects, lastmod, enqueued_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
FEWER_REDIRECTS: Final = "UPDATE record NOT INDEXED SET redirects = ? WHERE id = ?"
LATER_LASTMOD: Final = "UPDATE record NOT INDEXED SET lastmod = ? WHERE id = ?"


_STATUS_BY_NUMBER: Final = dict(enumerate(STATUSES))  # one that is damaged is left as it is


class Records(Part):
    """URLs in."""

    async def enqueue(self, entries: Sequence[Entry]) -> list[bool]:
        new = await self._file.write(lambda transaction: enqueue(transaction, entries))
        self._file.news.set()
        return enqueued_in_order(entries, new)


def enqueue(transaction: Transaction, entries: Iterable[Entry]) -> set[str]:
    """Record what is not known, with a place in the queue; the URLs that were new."""
    new = record(transaction, entries, FRESH)
    transaction.count({"messages": len(new)})
    return new


def record(transaction: Transaction, entries: Iterable[Entry], queue: int | None) -> set[str]:
    """Insert records for what is not known, in their order; the URLs that were new."""
    by_url = first_of_each(entries)
    if not by_url:
        return set()
    connection, now = transaction.connection, transaction.now
    keys = {url: key_of(url) for url in by_url}
    known = _known(transaction, by_url, keys)
    crawls: dict[str, int] = {}  # for this transaction: another process may clear the table after it
    rows = []
    for url, entry in by_url.items():
        if url in known:
            continue
        settings = encode_settings(entry.settings)
        if settings not in crawls:
            crawls[settings] = _crawl_id(connection, settings)
        parent = known.get(entry.parent, entry.parent) if entry.parent is not None else None
        rows.append((keys[url], crawls[settings], queue, entry.depth, parent, url, entry.redirects, entry.lastmod, now))
    connection.executemany(INSERT_RECORD, rows)
    transaction.count_records(counted(None, Status.QUEUED, count=len(rows)))
    return by_url.keys() - known.keys()


def _known(transaction: Transaction, by_url: Mapping[str, Entry], keys: Mapping[str, int]) -> dict[str, int]:
    """The ids of records that are there, by URL, those of parents too; of open ones the fewest redirects hold now, and
    those are reopened that have changed since."""
    connection, now = transaction.connection, transaction.now
    parents = {entry.parent: None for entry in by_url.values() if entry.parent is not None}
    asked = [*by_url, *(parent for parent in parents if parent not in by_url)]
    known: dict[str, int] = {}
    fewer, due = [], []
    for index, id_, redirects, number, finished_at in connection.execute(KNOWN, (with_keys(asked, keys),)):
        url = asked[index]
        known[url] = id_
        if (entry := by_url.get(url)) is None:
            continue
        status = _STATUS_BY_NUMBER.get(number, Status.DONE)
        if has_fewer_redirects(entry, status, redirects):
            fewer.append((entry.redirects, id_))
        elif entry.lastmod is not None and is_due(entry.lastmod, status, finished_at, now):
            due.append((entry.lastmod, id_, url))
    connection.executemany(FEWER_REDIRECTS, fewer)
    if due:
        connection.executemany(LATER_LASTMOD, [(lastmod, id_) for lastmod, id_, _ in due])
        reopen(transaction, [url for *_, url in due], if_changed=True)
    return known


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
    validators: bytes | None
    changed_at: float | None

    @property
    def status(self) -> Status:
        return STATUSES[self.number]

    @property
    def kept(self) -> Kept | None:
        return unpack_kept(self.validators, self.changed_at)


def held(connection: sqlite3.Connection, urls: Sequence[str]) -> dict[str, Held]:
    """What is known of the claims of some URLs; unknown ones are left out."""
    rows = connection.execute(HELD, (with_keys(urls),))
    return {urls[index]: Held(*row) for index, *row in rows}
