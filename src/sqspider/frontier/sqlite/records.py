"""How URLs are recorded, each once, by the nearest way, and how records are found again by their keys.

The statements, here and beside: one that reads a table which grows names its index: should that not serve, SQLite
refuses to prepare it, instead of reading the whole table. ``tests/frontier/test_sqlite_plans.py`` knows each by its
name. Batches go in as one JSON array, so that each is one statement; of records as [number of the key, key].
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from sqspider.crawl_row import CrawlRef, decode_crawl
from sqspider.crawl_settings import CrawlSettings, encode_settings
from sqspider.frontier.answers import counted, is_due
from sqspider.frontier.sqlite.connection import Transaction
from sqspider.frontier.sqlite.keys import new_key_of, with_keys
from sqspider.frontier.sqlite.reopening import reopen
from sqspider.frontier.sqlite.rows import STATUSES, Belonging, belonging_of, pack_kept, unpack_kept
from sqspider.frontier.values import Entry
from sqspider.frontier.ways import Fall, Way, fallen
from sqspider.record import DEFAULT_CRAWL, Kept, Status, record_key
from sqspider.revisit import for_all

# One that is being removed takes no more records.
FIND_CRAWL: Final = "SELECT id FROM crawl WHERE settings = ? AND (name IS NULL OR row IS NOT NULL)"
ADD_CRAWL: Final = "INSERT INTO crawl (settings) VALUES (?)"
CRAWLS: Final = """
SELECT c.id, c.settings FROM json_each(?) AS e CROSS JOIN crawl AS c NOT INDEXED ON c.id = e.value
"""
CRAWL_RULES: Final = """
SELECT c.id, c.settings, c.row FROM json_each(?) AS e CROSS JOIN crawl AS c NOT INDEXED ON c.id = e.value
"""
KNOWN: Final = """
SELECT e.key, r.id, r.depth, r.redirects, r.status, r.finished_at
FROM json_each(?) AS e CROSS JOIN record AS r INDEXED BY record_key
ON r.key = e.value ->> 0 AND r.url = e.value ->> 1
"""
HELD: Final = """
SELECT e.key, r.id, r.status, r.queue, r.attempt, r.unended, r.tries, r.worker_id, r.claim_id, r.lease_until,
    coalesce(r.visit, 0), r.meta, r.validators, r.changed_at, r.depth, r.redirects
FROM json_each(?) AS e CROSS JOIN record AS r INDEXED BY record_key
ON r.key = e.value ->> 0 AND r.url = e.value ->> 1
"""
INSERT_RECORD: Final = """
INSERT INTO record (key, crawl, queue, depth, parent, url, redirects, lastmod, enqueued_at, meta)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
COME_NEARER: Final = """
UPDATE record NOT INDEXED SET
    depth = :depth, redirects = :redirects, parent = CASE WHEN :depth < depth THEN :parent ELSE parent END
WHERE id = :id
"""
# Of those that are open, for one visit more.
VALIDATORS: Final = """
SELECT r.id, r.validators, r.changed_at
FROM json_each(?) AS e CROSS JOIN record AS r NOT INDEXED ON r.id = e.value
WHERE r.validators IS NOT NULL AND r.lease_until IS NOT NULL
"""
ASK_FOR_ALL: Final = "UPDATE record NOT INDEXED SET validators = ? WHERE id = ?"
LATER_LASTMOD: Final = "UPDATE record NOT INDEXED SET lastmod = ? WHERE id = ?"


_STATUS_BY_NUMBER: Final = dict(enumerate(STATUSES))  # one that is damaged is left as it is


class Recorded(NamedTuple):
    """What became of entries."""

    new: Set[str]  # keys
    final: Mapping[int, Fall]  # records that are final and nearer now, by their ids: how their ways changed


def record(transaction: Transaction, by_key: Mapping[str, Entry], queue: int | None) -> Recorded:
    """Insert records for what is not known, in their order; of what is known the nearest way holds.

    What is of a crawl that is not there is not recorded.
    """
    if not by_key:
        return Recorded(set(), {})
    connection, now = transaction.connection, transaction.now
    keys = {key: new_key_of(key) for key in by_key}
    parent_keys = _parent_keys(by_key.values())
    known = _known(transaction, by_key, keys, parent_keys.values())
    parents = {of: known.ids.get(key, of[1]) for of, key in parent_keys.items()}
    if known.nearer:
        _come_nearer(transaction, by_key, known, parents)
    if known.due:
        _reopen_due(transaction, by_key, known)
    crawls = _CrawlIds(connection)  # for this transaction: another process may clear the table after it
    rows: list[tuple[Any, ...]] = []
    for key, entry in by_key.items():
        if key in known.ids:
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
    return Recorded({row[5] for row in rows}, known.final)


_Found = tuple[CrawlRef | None, str | None]  # of which crawl, and on which page


def _parent_keys(entries: Iterable[Entry]) -> dict[_Found, str]:
    """By what the records of pages are found on which entries were: of each crawl its own."""
    found = dict.fromkeys((entry.crawl, entry.parent) for entry in entries)
    return {
        (crawl, parent): parent if crawl is None else record_key(parent, crawl.name)
        for crawl, parent in found
        if parent is not None
    }


class _Known(NamedTuple):
    """What is known of some entries, by their keys."""

    ids: dict[str, int]  # of those that have records, and of parents
    nearer: dict[str, Way]  # ways to them that are nearer than what their records say
    due: list[str]  # what has changed since its last visit
    final: dict[int, Fall]  # see :class:`Recorded`


def _known(
    transaction: Transaction, by_key: Mapping[str, Entry], keys: Mapping[str, int], parents: Iterable[str]
) -> _Known:
    known, now = _Known({}, {}, [], {}), transaction.now
    asked = [*by_key, *(parent for parent in parents if parent not in by_key)]
    rows = transaction.connection.execute(KNOWN, (with_keys(asked, keys),))
    for index, id_, depth, redirects, number, finished_at in rows:
        key = asked[index]
        known.ids[key] = id_
        if (entry := by_key.get(key)) is None:
            continue
        status = _STATUS_BY_NUMBER.get(number, Status.DONE)
        try:
            fall = fallen(entry, status, depth, redirects)
        except TypeError:  # it is damaged, and left as it is
            continue
        if fall is not None:
            if fall.now != fall.before:
                known.nearer[key] = fall.now
            if status.is_final:
                known.final[id_] = fall
        if entry.lastmod is not None and is_due(entry.lastmod, status, finished_at, now):
            known.due.append(key)
    return known


def _come_nearer(
    transaction: Transaction,
    by_key: Mapping[str, Entry],
    known: _Known,
    parents: Mapping[_Found, int | str | None],
) -> None:
    """Write nearer ways. What is open asks for the whole: nothing else tells where it leads."""
    rows, connection, files = [], transaction.connection, transaction.files
    for key, way in known.nearer.items():
        entry = by_key[key]
        rows.append({"id": known.ids[key], "parent": parents.get((entry.crawl, entry.parent)), **way._asdict()})
    connection.executemany(COME_NEARER, rows)
    visits = [known.ids[key] for key in known.nearer if known.ids[key] not in known.final]
    validators = connection.execute(VALIDATORS, (json.dumps(visits),)).fetchall() if visits else ()
    anew = [
        (pack_kept(for_all(unpack_kept(packed, changed_at, files)), files), id_)
        for id_, packed, changed_at in validators
    ]
    connection.executemany(ASK_FOR_ALL, anew)


def _reopen_due(transaction: Transaction, by_key: Mapping[str, Entry], known: _Known) -> None:
    """Reopen what has changed; what is nearer, too, asks for the whole."""
    transaction.change_each(LATER_LASTMOD, [(by_key[key].lastmod, known.ids[key]) for key in known.due])
    for if_changed in (True, False):
        reopen(
            transaction, [key for key in known.due if (key in known.nearer) is not if_changed], if_changed=if_changed
        )


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


def rules_of(connection: sqlite3.Connection, crawls: Iterable[int]) -> dict[int, tuple[CrawlRef | None, CrawlSettings]]:
    """By which settings records go, and of which crawl they are, by the ids of some rows of crawls: those that can be
    read, and that are there still."""
    found: dict[int, tuple[CrawlRef | None, CrawlSettings]] = {}
    for id_, text, row in connection.execute(CRAWL_RULES, (json.dumps(list(crawls)),)):
        with contextlib.suppress(msgspec.MsgspecError, TypeError, ValueError, AttributeError):
            belonging = belonging_of(text)
            if not isinstance(belonging, CrawlRef):
                found[id_] = None, belonging
            elif row is not None:
                found[id_] = belonging, decode_crawl(row).settings
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
    depth: int
    redirects: int
    kept: Kept | None = None  # of ``validators``, where somebody asks for it

    @property
    def status(self) -> Status:
        return STATUSES[self.number]


def held(connection: sqlite3.Connection, keys: Sequence[str]) -> dict[str, Held]:
    """What is known of the claims of some records; unknown ones are left out."""
    rows = connection.execute(HELD, (with_keys(keys),))
    return {keys[index]: Held(*row) for index, *row in rows}
