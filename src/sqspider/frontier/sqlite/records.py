"""How URLs are recorded, each once, and how records are found again by their keys.

The statements, here and beside: one that reads a table which grows names its index: should that not serve, SQLite
refuses to prepare it, instead of reading the whole table. ``tests/frontier/test_sqlite_plans.py`` knows each by its
name. Batches go in as one JSON array, so that each is one statement; of records as [number of the key, key].
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from sqspider.crawl import CrawlRef
from sqspider.crawls import encode_settings
from sqspider.frontier.answers import counted, enqueued_in_order, first_of_each, has_fewer_redirects, is_due
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.keys import new_key_of, with_keys
from sqspider.frontier.sqlite.reopening import reopen
from sqspider.frontier.sqlite.rows import FRESH, STATUSES, Belonging, belonging_of, unpack_kept
from sqspider.frontier.values import Entry
from sqspider.record import DEFAULT_CRAWL, Kept, Status, record_key

# One that is being removed takes no more records.
FIND_CRAWL: Final = "SELECT id FROM crawl WHERE settings = ? AND (name IS NULL OR row IS NOT NULL)"
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
    coalesce(r.visit, 0), r.meta, r.validators, r.changed_at
FROM json_each(?) AS e CROSS JOIN record AS r INDEXED BY record_key
ON r.key = e.value ->> 0 AND r.url = e.value ->> 1
"""
INSERT_RECORD: Final = """
INSERT INTO record (key, crawl, queue, depth, parent, url, redirects, lastmod, enqueued_at, meta)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
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
    """Record what is not known, with a place in the queue; the keys that were new."""
    new = record(transaction, entries, FRESH)
    transaction.count({"messages": len(new)})
    return new


def record(transaction: Transaction, entries: Iterable[Entry], queue: int | None) -> set[str]:
    """Insert records for what is not known, in their order; the keys that were new.

    What is of a crawl that is not there is not recorded.
    """
    by_key = first_of_each(entries)
    if not by_key:
        return set()
    connection, now = transaction.connection, transaction.now
    keys = {key: new_key_of(key) for key in by_key}
    parent_keys = _parent_keys(by_key.values())
    known = _known(transaction, by_key, keys, parent_keys.values())
    parents = {of: known.get(key, of[1]) for of, key in parent_keys.items()}
    crawls = _CrawlIds(connection)  # for this transaction: another process may clear the table after it
    rows: list[tuple[Any, ...]] = []
    for key, entry in by_key.items():
        if key in known:
            continue
        crawl = crawls.of(entry)
        if crawl is None:
            continue
        parent = parents.get((entry.crawl, entry.parent))
        place = (keys[key], crawl, queue, entry.depth, parent, key)
        rows.append((*place, entry.redirects, entry.lastmod, now, entry.meta))
    connection.executemany(INSERT_RECORD, rows)
    for crawl, count in Counter(row[1] for row in rows).items():
        transaction.count_records(crawls.names[crawl], counted(None, Status.QUEUED, count=count))
    return {row[5] for row in rows}


def _parent_keys(entries: Iterable[Entry]) -> dict[tuple[CrawlRef | None, str | None], str]:
    """By what the records of pages are found on which entries were: of each crawl its own."""
    found = dict.fromkeys((entry.crawl, entry.parent) for entry in entries)
    return {
        (crawl, parent): parent if crawl is None else record_key(parent, crawl.name)
        for crawl, parent in found
        if parent is not None
    }


def _known(
    transaction: Transaction, by_key: Mapping[str, Entry], keys: Mapping[str, int], parents: Iterable[str]
) -> dict[str, int]:
    """The ids of records that are there, by key, those of parents too; of open ones the fewest redirects hold now, and
    those are reopened that have changed since."""
    connection, now = transaction.connection, transaction.now
    asked = [*by_key, *(parent for parent in parents if parent not in by_key)]
    known: dict[str, int] = {}
    fewer, due = [], []
    for index, id_, redirects, number, finished_at in connection.execute(KNOWN, (with_keys(asked, keys),)):
        key = asked[index]
        known[key] = id_
        if (entry := by_key.get(key)) is None:
            continue
        status = _STATUS_BY_NUMBER.get(number, Status.DONE)
        if has_fewer_redirects(entry, status, redirects):
            fewer.append((entry.redirects, id_))
        elif entry.lastmod is not None and is_due(entry.lastmod, status, finished_at, now):
            due.append((entry.lastmod, id_, key))
    connection.executemany(FEWER_REDIRECTS, fewer)
    if due:
        connection.executemany(LATER_LASTMOD, [(lastmod, id_) for lastmod, id_, _ in due])
        reopen(transaction, [key for *_, key in due], if_changed=True)
    return known


class _CrawlIds:
    """The ids of the rows that entries' records refer to."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.names: dict[int, str] = {}  # of the crawls whose records they are, by id
        self._connection = connection
        self._by_identity: dict[int, int | None] = {}  # the links of a page share one object: it is put into words once
        self._by_text: dict[str, int | None] = {}

    def of(self, entry: Entry) -> int | None:
        """The id of an entry's crawl or settings; none: that crawl is not there."""
        of = id(entry.crawl or entry.settings)
        if of not in self._by_identity:
            self._by_identity[of] = self._found(entry)
        return self._by_identity[of]

    def _found(self, entry: Entry) -> int | None:
        ref = entry.crawl
        text = encode_settings(entry.settings) if ref is None else str(ref)
        if text not in self._by_text:
            found = self._connection.execute(FIND_CRAWL, (text,)).fetchone()
            if found is None and ref is None:
                found = (self._connection.execute(ADD_CRAWL, (text,)).lastrowid,)
            self._by_text[text] = found[0] if found else None
        id_ = self._by_text[text]
        if id_ is not None:
            self.names[id_] = DEFAULT_CRAWL if ref is None else ref.name
        return id_


def is_there(connection: sqlite3.Connection, ref: CrawlRef) -> bool:
    """Whether there is the very crawl that is named."""
    return connection.execute(FIND_CRAWL, (str(ref),)).fetchone() is not None


def belongings(connection: sqlite3.Connection, crawls: Iterable[int]) -> dict[int, Belonging]:
    """What records go by, by the ids of some rows of crawls, those that can be read."""
    found = {}
    for id_, text in connection.execute(CRAWLS, (json.dumps(list(crawls)),)):
        with contextlib.suppress(msgspec.MsgspecError, TypeError, ValueError, AttributeError):
            found[id_] = belonging_of(text)
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
    meta: str | None
    validators: bytes | None
    changed_at: float | None

    @property
    def status(self) -> Status:
        return STATUSES[self.number]

    @property
    def kept(self) -> Kept | None:
        return unpack_kept(self.validators, self.changed_at)


def held(connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Held]:
    """What is known of the claims of some records; unknown ones are left out."""
    rows = connection.execute(HELD, (with_keys(keys),))
    return {keys[index]: Held(*row) for index, *row in rows}
