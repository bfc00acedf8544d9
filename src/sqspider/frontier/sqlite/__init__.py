"""The embedded frontier: queue, URL records and host rows in one SQLite file.

Several processes may share the file. Every operation is one write transaction for its whole batch,
so there is no half-way: an operation that dies has not happened. WAL with ``synchronous=FULL``:
what was answered survives a loss of power.

One connection in one thread of its own; the caller's event loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec

from sqspider.crawls import CrawlSettings, encode_settings
from sqspider.figures import COUNTED, KEPT_SECONDS, Point, Sample
from sqspider.frontier import (
    CHANCE,
    LONGEST_LOOK_AGAIN_SECONDS,
    Admission,
    ClaimRequest,
    Clock,
    Counts,
    DeadLetter,
    Deferral,
    Delivery,
    Entrance,
    Entry,
    Exit,
    Finish,
    FrontierError,
    FrontierSettings,
    FrontierUnavailableError,
    Lost,
    LostReason,
    QueueStats,
    Retry,
    RobotsRow,
    SlotDemand,
    Traits,
    Won,
    WorkerRow,
    first_of_each,
)
from sqspider.frontier.sqlite.clock import (
    TOLERATED_SECONDS,
    keep_time,
    notice_time,
    raise_generation,
    seconds_ahead,
)
from sqspider.frontier.sqlite.file import (
    Identity,
    classify,
    damaged,
    identity_of,
    leave_no_log,
    open_to_look,
    open_to_work,
)
from sqspider.frontier.sqlite.rows import (
    FRESH,
    HOST_COLUMNS,
    IN_FLIGHT,
    NO_OUTCOME,
    PARENT,
    PUT_OFF,
    QUEUED,
    STATUS_NUMBERS,
    Parameters,
    Waiting,
    dicts,
    host_row,
    key_of,
    key_or_none,
    keys_of_host,
    letter_row,
    pack,
    packed_robots,
    record_of,
    robots_row,
    settings_of,
    worker_row,
)
from sqspider.host import SUMS, HostRow, HostState, entered, left, reserved, saved, sums_of
from sqspider.incident import is_in_trouble
from sqspider.message import BadBody, decode_message, encode_message
from sqspider.record import Reason, Status, UrlRecord
from sqspider.url import host_of

T = TypeVar("T")
W = TypeVar("W")
HostChange = Callable[[HostState], tuple[HostState, T]]

SCAN_BATCH: Final = 1000
STEP: Final = 1000  # rows that one transaction of a longer piece of work looks at, before others get their turn
MESSAGE_MARK: Final = "m"  # in the ids of deliveries of what is no record's place
POLL_SECONDS: Final = (0.02, 0.25)  # between two looks for messages of other processes

# The statements. One that reads a table which grows names its index: should that not serve, SQLite refuses
# to prepare it, instead of reading the whole table. `tests/frontier/test_sqlite_plans.py` knows each by its name.

FIND_CRAWL: Final = "SELECT id FROM crawl WHERE settings = ?"
ADD_CRAWL: Final = "INSERT INTO crawl (settings) VALUES (?)"
CRAWLS: Final = """
SELECT c.id, c.settings FROM json_each(?) AS e CROSS JOIN crawl AS c NOT INDEXED ON c.id = e.value
"""
ADD_SAMPLE: Final = "INSERT INTO sample (at, sample, visible, in_flight, oldest_age) VALUES (?, ?, ?, ?, ?)"
END_OLD_SAMPLES: Final = "DELETE FROM sample INDEXED BY sample_at WHERE at < ?"
POINTS: Final = f"""
SELECT
    CAST(at / :period AS INTEGER) * :period AS at, avg(visible) AS visible, avg(in_flight) AS in_flight,
    max(oldest_age) AS oldest_age_seconds, {", ".join(f"sum(sample ->> '{name}') AS {name}" for name in COUNTED)},
    sum(sample ->> 'fetch_seconds') / nullif(sum(sample ->> 'fetches'), 0) AS fetch_seconds
FROM sample INDEXED BY sample_at WHERE at >= :since AND at < :until GROUP BY 1 ORDER BY 1
"""

# Batches go in as one JSON array, so that each is one statement; of URLs as [key, URL].

KNOWN: Final = """
SELECT e.key, r.id, r.redirects, r.lease_until IS NOT NULL
FROM json_each(?) AS e CROSS JOIN record AS r INDEXED BY record_key
ON r.key = e.value ->> 0 AND r.url = e.value ->> 1
"""
HELD: Final = """
SELECT e.key, r.id, r.status, r.queue, r.attempt, r.unended, r.tries, r.worker_id, r.claim_id, r.lease_until
FROM json_each(?) AS e CROSS JOIN record AS r INDEXED BY record_key
ON r.key = e.value ->> 0 AND r.url = e.value ->> 1
"""
INSERT_RECORD: Final = """
INSERT INTO record (key, crawl, queue, depth, parent, url, redirects, lastmod, enqueued_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
FEWER_REDIRECTS: Final = "UPDATE record NOT INDEXED SET redirects = ? WHERE id = ?"
INSERT_MESSAGE: Final = """
INSERT INTO sent (key, url, body, sent_at, queue, visible_at, receives) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
# The first comes first: what a worker lost, then what has its time (a slot is good for its moment only), then the rest.
TIMED: Final = """
SELECT id FROM record INDEXED BY record_timed WHERE queue = ? AND visible_at <= ? ORDER BY visible_at LIMIT ?
"""
FRESH_ONES: Final = "SELECT id FROM record INDEXED BY record_place WHERE queue = 0 ORDER BY id LIMIT ?"
RECEIVE: Final = """
UPDATE record NOT INDEXED SET receives = receives + 1, delivery = delivery + 1, queue = 2, visible_at = :hidden_until
WHERE id IN (SELECT value FROM json_each(:ids))
RETURNING id, delivery, url, depth,
    CASE typeof(parent) WHEN 'integer' THEN (SELECT p.url FROM record AS p NOT INDEXED WHERE p.id = record.parent)
        ELSE parent END,
    crawl, redirects, lastmod, slot, slot_generation, receives, enqueued_at, lease_until IS NULL
"""
RECEIVE_MESSAGES: Final = """
UPDATE sent NOT INDEXED SET
    receives = receives + (receives < :most), delivery = delivery + 1,
    queue = CASE WHEN receives < :most THEN 2 END, visible_at = CASE WHEN receives < :most THEN :hidden_until END
WHERE id IN (
    SELECT id FROM sent INDEXED BY sent_visible WHERE visible_at <= :now ORDER BY visible_at LIMIT :limit
)
RETURNING id, delivery, url, body, receives, sent_at, queue IS NULL
"""
NEXT_VISIBLE: Final = """
SELECT
    EXISTS (SELECT 1 FROM record INDEXED BY record_place WHERE queue = 0),
    (SELECT min(at) FROM (
        SELECT min(visible_at) AS at FROM record INDEXED BY record_timed WHERE queue = 1 AND visible_at IS NOT NULL
        UNION ALL
        SELECT min(visible_at) FROM record INDEXED BY record_timed WHERE queue = 2 AND visible_at IS NOT NULL
        UNION ALL
        SELECT min(visible_at) FROM sent INDEXED BY sent_visible WHERE visible_at IS NOT NULL
    ))
"""
CLAIM: Final = """
UPDATE record NOT INDEXED SET
    status = 1, attempt = attempt + 1, unended = unended + 1, worker_id = :worker, claim_id = :claim,
    lease_until = :lease, claimed_at = :now, due_at = CASE WHEN queue IS NULL THEN :due END
WHERE id IN (SELECT value FROM json_each(:ids)) AND lease_until < :now
RETURNING id, attempt, unended, tries
"""
# The message by which a claim was won becomes its record's place: nothing else brings the URL back then.
TAKE_OVER: Final = "DELETE FROM sent NOT INDEXED WHERE id = ? AND queue IS NOT NULL RETURNING visible_at, receives"
TAKE_PLACE: Final = """
UPDATE record NOT INDEXED SET queue = 2, visible_at = ?, receives = ?, delivery = delivery + 1, due_at = NULL
WHERE id = ?
"""
FINISH: Final = """
UPDATE record NOT INDEXED SET
    status = :status, outcome = :outcome, digest = :digest, redirect_to = :redirect_to, finished_at = :now,
    lease_until = NULL, due_at = NULL, unended = 0, claim_id = NULL,
    queue = CASE WHEN :leaves_it THEN queue END, visible_at = CASE WHEN :leaves_it THEN visible_at END,
    receives = CASE WHEN :leaves_it THEN receives ELSE 0 END, slot = NULL, slot_generation = NULL
WHERE id = :id AND attempt = :attempt AND worker_id = :worker AND claim_id = :claim AND status = 1
"""
DELETE_COPIES: Final = """
DELETE FROM sent NOT INDEXED WHERE id IN (
    SELECT m.id FROM json_each(?) AS e CROSS JOIN sent AS m INDEXED BY sent_key
    ON m.key = e.value ->> 0 AND m.url = e.value ->> 1 WHERE m.visible_at IS NOT NULL
)
"""
# Fenced by the claim, not by the delivery: that may have run out, and another worker have received the URL in vain.
# Whatever that one does with its own delivery is stale now.
RETRY: Final = """
UPDATE record NOT INDEXED SET
    status = 0, lease_until = 0, unended = CASE WHEN :is_unused THEN unended - 1 ELSE 0 END, tries = tries + :tried,
    outcome = coalesce(:outcome, outcome), digest = CASE WHEN :outcome IS NULL THEN digest ELSE :digest END,
    redirect_to = CASE WHEN :outcome IS NULL THEN redirect_to ELSE :redirect_to END,
    queue = 1, visible_at = :at, receives = 0, delivery = delivery + 1, slot = NULL, slot_generation = NULL,
    due_at = NULL
WHERE id = :id AND attempt = :attempt AND worker_id = :worker AND claim_id = :claim AND status = 1
"""
DEFER: Final = """
UPDATE record NOT INDEXED SET
    queue = 1, visible_at = :until, receives = 0, slot = CASE WHEN :says_more THEN :slot ELSE slot END,
    slot_generation = CASE WHEN :says_more THEN :slot_generation ELSE slot_generation END
WHERE id = :id AND delivery = :delivery AND queue = 2
"""
DEFER_MESSAGE: Final = """
UPDATE sent NOT INDEXED SET queue = 1, visible_at = :until, body = coalesce(:body, body), receives = 0
WHERE id = :id AND delivery = :delivery AND queue = 2
"""
DELETE: Final = """
UPDATE record NOT INDEXED SET
    queue = NULL, visible_at = NULL, receives = 0, slot = NULL, slot_generation = NULL,
    due_at = max(lease_until, :now) + :due_seconds
WHERE id = :id AND delivery = :delivery AND queue = 2
"""
DELETE_MESSAGE: Final = "DELETE FROM sent NOT INDEXED WHERE id = :id AND delivery = :delivery AND queue = 2"
LOSE_PLACES: Final = """
UPDATE record NOT INDEXED SET
    queue = NULL, visible_at = NULL, receives = 0, slot = NULL, slot_generation = NULL,
    due_at = max(lease_until, :now) + :due_seconds
WHERE id IN (SELECT value FROM json_each(:ids))
"""
# A record without a place is an orphan if no message for it waits; dead letters do not wait. What a sweep puts back
# is claimed by its URL: a record that its own URL does not lead to, or that no claim can win, has no way back.
PAST_DUE: Final = """
SELECT r.id, EXISTS (
    SELECT 1 FROM sent AS m INDEXED BY sent_key
    WHERE m.key = r.key AND m.url = r.url AND m.visible_at IS NOT NULL
)
FROM record AS r INDEXED BY record_due WHERE r.due_at < :before ORDER BY r.due_at LIMIT :limit
"""
ORPHANS: Final = """
SELECT r.id, r.url, r.key, c.id IS NOT NULL AND r.lease_until IS NOT NULL AND r.id IS (
    SELECT found.id FROM record AS found INDEXED BY record_key WHERE found.key = r.key AND found.url = r.url
)
FROM json_each(?) AS e CROSS JOIN record AS r NOT INDEXED ON r.id = e.value
LEFT JOIN crawl AS c NOT INDEXED ON c.id = r.crawl
"""
PUT_BACK: Final = """
UPDATE record NOT INDEXED SET
    queue = 1, visible_at = ?, receives = 0, slot = NULL, slot_generation = NULL, due_at = NULL
WHERE id = ?
"""
MOVE_DUE_ON: Final = """
UPDATE record NOT INDEXED SET due_at = :now + max(:seconds, min(:now - enqueued_at - :seconds, :longest))
WHERE id = :id
"""
COUNTERS: Final = "SELECT name, number FROM counter"
NUMBER: Final = "SELECT number FROM counter WHERE name = ?"
ADD_TO_COUNTER: Final = """
INSERT INTO counter (name, number) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET number = number + excluded.number
"""
ADD_TO_HOST: Final = f"""
INSERT INTO host (host, {", ".join(SUMS)}) VALUES (:host, {", ".join(f":{name}" for name in SUMS)})
ON CONFLICT (host) DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)}
"""
HOSTS: Final = f"SELECT {', '.join(HOST_COLUMNS)} FROM host WHERE host IN (SELECT value FROM json_each(?))"
ALL_HOSTS: Final = f"SELECT {', '.join(HOST_COLUMNS)} FROM host ORDER BY host"
SAVE_HOST: Final = f"""
INSERT INTO host ({", ".join(HOST_COLUMNS)}, was_in_trouble)
VALUES ({", ".join(f":{name}" for name in HOST_COLUMNS)}, :was_in_trouble)
ON CONFLICT (host) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in (*HOST_COLUMNS[1:], "was_in_trouble"))}
"""
HOSTS_IN_TROUBLE: Final = f"""
SELECT {", ".join(HOST_COLUMNS)} FROM host INDEXED BY host_trouble WHERE was_in_trouble = 1 ORDER BY host
"""
BEGIN_REQUEST: Final = "INSERT OR REPLACE INTO request (host, token, until) VALUES (?, ?, ?)"
END_REQUEST: Final = "DELETE FROM request WHERE host = ? AND token = ?"
REQUESTS: Final = "SELECT host, token, until FROM request WHERE host IN (SELECT value FROM json_each(?))"
ROBOTS: Final = "SELECT origin, row FROM robots WHERE row IS NOT NULL AND origin IN (SELECT value FROM json_each(?))"
LEASE_ROBOTS: Final = """
INSERT INTO robots (origin, lease_until) VALUES (:origin, :until)
ON CONFLICT (origin) DO UPDATE SET lease_until = :until WHERE lease_until < :now
"""
SAVE_ROBOTS: Final = """
INSERT INTO robots (origin, row) VALUES (?, ?) ON CONFLICT (origin) DO UPDATE SET row = excluded.row, lease_until = 0
"""
PUT_OFF_OF_HOST: Final = """
SELECT id, key, url, visible_at > :now FROM record INDEXED BY record_put_off
WHERE queue = 1 AND key >= :after AND key <= :last AND (key > :after OR id > :after_id) ORDER BY key, id LIMIT :limit
"""
RELEASE: Final = """
UPDATE record NOT INDEXED SET visible_at = :now
WHERE id IN (SELECT value FROM json_each(:ids)) AND queue = 1 AND visible_at > :now
"""
GET: Final = f"""
SELECT r.*, {PARENT} FROM json_each(?) AS e CROSS JOIN record AS r INDEXED BY record_key
ON r.key = e.value ->> 0 AND r.url = e.value ->> 1
"""
SCAN: Final = f"""
SELECT r.*, {PARENT} FROM record AS r NOT INDEXED
WHERE r.id > :after_id AND (:status IS NULL OR r.status = :status) ORDER BY r.id LIMIT :limit
"""
SCAN_HOST: Final = f"""
SELECT r.*, {PARENT} FROM record AS r INDEXED BY record_key
WHERE r.key >= :after AND r.key <= :last AND (r.key > :after OR r.id > :after_id)
AND (:status IS NULL OR r.status = :status) ORDER BY r.key, r.id LIMIT :limit
"""
# What is put off is the most there can be, and is counted as it happens; the others are few. Records are numbered as
# they come: of each kind the first has waited longest.
QUEUE_STATS: Final = """
SELECT
    (SELECT number FROM counter WHERE name = 'messages'),
    (SELECT number FROM counter WHERE name = 'put_off'),
    (SELECT number FROM counter WHERE name = 'dead'),
    (SELECT count(*) FROM record INDEXED BY record_timed WHERE queue = 1 AND visible_at <= :now),
    (SELECT count(*) FROM record INDEXED BY record_timed WHERE queue = 2 AND visible_at > :now),
    (SELECT count(*) FROM sent INDEXED BY sent_visible WHERE visible_at > :now),
    (SELECT total(queue = 2) FROM sent INDEXED BY sent_visible WHERE visible_at > :now),
    (SELECT min(at) FROM (
        SELECT * FROM (SELECT enqueued_at AS at FROM record INDEXED BY record_place WHERE queue = 0 ORDER BY id LIMIT 1)
        UNION ALL
        SELECT * FROM (SELECT enqueued_at FROM record INDEXED BY record_place WHERE queue = 1 ORDER BY id LIMIT 1)
        UNION ALL
        SELECT * FROM (SELECT enqueued_at FROM record INDEXED BY record_place WHERE queue = 2 ORDER BY id LIMIT 1)
        UNION ALL
        SELECT min(sent_at) FROM sent INDEXED BY sent_age WHERE visible_at IS NOT NULL
    ))
"""
DEAD_LETTERS: Final = """
SELECT id, body, receives, sent_at FROM sent INDEXED BY sent_dead WHERE visible_at IS NULL ORDER BY id LIMIT ?
"""
REDRIVE: Final = """
UPDATE sent NOT INDEXED SET receives = 0, queue = 0, visible_at = :now
WHERE id IN (SELECT id FROM sent INDEXED BY sent_dead WHERE visible_at IS NULL ORDER BY id LIMIT :limit)
"""
CHECK_IN: Final = """
INSERT INTO worker (worker_id, session, started_at, seen_at, expires_at) VALUES (:id, :session, :now, :now, :expires)
ON CONFLICT (worker_id) DO UPDATE SET
    session = excluded.session, seen_at = excluded.seen_at, expires_at = excluded.expires_at,
    started_at = CASE WHEN session = excluded.session THEN started_at ELSE excluded.started_at END
WHERE session = excluded.session OR expires_at < :now
"""
CHECK_OUT: Final = "DELETE FROM worker WHERE worker_id = ? AND session = ?"
WORKERS: Final = "SELECT worker_id, started_at, seen_at FROM worker WHERE expires_at >= ? ORDER BY worker_id"
# SQLite empties a whole table without a look at its rows: by the page, not by the row.
PURGE_MESSAGES: Final = "DELETE FROM sent"
ALL_TIMED: Final = "SELECT id FROM record INDEXED BY record_timed WHERE queue = ? AND visible_at IS NOT NULL LIMIT ?"
PLACES: Final = f"""
SELECT r.id, r.delivery, r.url, r.depth, {PARENT}, r.crawl, r.redirects, r.lastmod, r.slot, r.slot_generation,
    r.receives, r.enqueued_at, 0, coalesce(r.visible_at, r.enqueued_at)
FROM json_each(?) AS e CROSS JOIN record AS r NOT INDEXED ON r.id = e.value
"""
CLEAR_RECORDS: Final = "DELETE FROM record"
CLEAR_THE_REST: Final = (
    "DELETE FROM crawl",
    "DELETE FROM host",
    "DELETE FROM request",
    "DELETE FROM robots",
    "DELETE FROM sample",
    "DELETE FROM counter WHERE name NOT IN ('messages', 'dead', 'generation')",
)


class Runner(Protocol):
    """Runs what waits for the disk, one piece of work after the other."""

    async def run(self, work: Callable[[], T]) -> T: ...

    def close(self) -> None:
        """There is no more to come."""


class Thread:
    """A thread of its own: the event loop never waits for the disk."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="frontier")

    async def run(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def close(self) -> None:
        self._thread.shutdown()


class _Orphan(NamedTuple):
    """A record without a place in the queue, for which no message waits either."""

    id: int
    url: str
    has_way_back: bool  # what is put back is found by whoever receives it


class _Held(NamedTuple):
    """What a record says of its claims, as :data:`HELD` reads it."""

    id: int
    status: int
    queue: int | None
    attempt: int
    unended: int
    tries: int
    worker_id: str | None
    claim_id: str | None
    lease_until: float | None


class _Receipt(NamedTuple):
    """Which delivery of what: a record by its id, or a message that somebody sent."""

    id: int
    delivery: int
    is_message: bool
    generation: int  # of the frontier, if it is a record: another one by that id is none of its business


_json_encoder = msgspec.json.Encoder()


class SqliteFrontier:
    """The :class:`~sqspider.frontier.Frontier` in a SQLite file. Made by :meth:`open`."""

    def __init__(
        self,
        path: str,
        settings: FrontierSettings,
        *,
        clock: Clock,
        runner: Runner | None = None,
    ) -> None:
        self._path = path
        self._settings = settings
        self._clock = clock
        self._runner = runner or Thread()
        self._connection: sqlite3.Connection
        self._file = os.path.abspath(path)  # wherever this process goes
        self._identity: Identity | None = None
        self._sent = asyncio.Event()  # something was sent from this process
        self.generation = 0

    @classmethod
    async def open(
        cls,
        path: str,
        settings: FrontierSettings,
        *,
        clock: Clock,
        rng: random.Random = CHANCE,  # noqa: ARG003 - as all adapters are opened; nothing is left to chance here
        runner: Runner | None = None,
        looking: bool = False,
    ) -> SqliteFrontier:
        """Open a file, made if it is absent; ``:memory:`` for none. See :mod:`sqspider.frontier.sqlite.file`.

        ``runner`` runs what waits for the disk; none: a thread. ``looking``: nothing will be written; the
        file must be there. Raises :class:`FrontierUnavailableError` if it is no frontier, of another
        version, damaged, or cannot be opened or written.
        """
        frontier = cls(path, settings, clock=clock, runner=runner)
        try:
            await frontier._in_thread(frontier._look if looking else frontier._open)
        except FrontierError as error:
            frontier._runner.close()
            raise FrontierUnavailableError(str(error)) from error
        return frontier

    def _open(self) -> None:
        self._connection = open_to_work(self._path, self._clock())
        self._identity = identity_of(self._path)
        notice_time(self._connection, self._clock)

    def _look(self) -> None:
        self._connection = open_to_look(self._path)
        self._identity = identity_of(self._path)

    async def close(self) -> None:
        await self._runner.run(self._close)
        self._runner.close()

    def _close(self) -> None:
        if self._is_elsewhere():
            leave_no_log(self._connection)
        self._connection.close()

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await self._runner.run(lambda: self._classified(work))

    def _classified(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.Error as error:
            raise classify(error, self._path) from error
        except msgspec.ValidationError as error:  # a number that is none, say
            raise damaged(self._path, str(error)) from error

    def _is_elsewhere(self) -> bool:
        """Whether the file that was opened lies at its path no more. Looking costs microseconds."""
        return self._identity is not None and identity_of(self._file) != self._identity

    def _see_that_it_is_here(self, connection: sqlite3.Connection) -> None:
        """Raise if another file, or none, lies where ours was: what goes on there is none of our business."""
        if not self._is_elsewhere():
            return
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        leave_no_log(connection)
        raise FrontierUnavailableError(
            f"{self._path} was {'replaced' if os.path.exists(self._file) else 'moved away or deleted'} while it was in "
            "use: this ends here, so that the two are not mixed up. What was done so far is in the file that lay there"
        )

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def reading() -> T:
            self._see_that_it_is_here(self._connection)
            return work(self._connection)

        return await self._in_thread(reading)

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run one write transaction; whatever goes wrong, it has not happened."""

        def transaction() -> T:
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                self._see_that_it_is_here(connection)
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

        return await self._in_thread(transaction)

    async def _rows(self, statement: str, parameters: Parameters = ()) -> list[Any]:
        """What one statement reads."""
        return await self._read(lambda connection: connection.execute(statement, parameters).fetchall())

    async def _change(self, statement: str, parameters: Parameters = ()) -> int:
        """Run one statement that changes rows, as a transaction; how many it changed."""
        return await self._write(lambda connection: connection.execute(statement, parameters).rowcount)

    # Work.

    @property
    def place(self) -> str:
        return f"sqlite:{self._path}"

    @property
    def traits(self) -> Traits:
        return Traits()

    def now(self) -> float:
        return self._clock()

    async def enqueue(self, entries: Sequence[Entry]) -> list[bool]:
        new = await self._write(lambda connection: self._enqueue(connection, entries))
        self._sent.set()
        seen: set[str] = set()
        answers = []
        for entry in entries:
            answers.append(entry.url in new and entry.url not in seen)
            seen.add(entry.url)
        return answers

    def _enqueue(self, connection: sqlite3.Connection, entries: Iterable[Entry]) -> set[str]:
        """Record what is not known, with a place in the queue; the URLs that were new."""
        new = self._record(connection, entries, FRESH)
        _count(connection, {"messages": len(new)})
        return new

    def _record(self, connection: sqlite3.Connection, entries: Iterable[Entry], queue: int | None) -> set[str]:
        """Insert records for what is not known, in their order; the URLs that were new."""
        by_url = first_of_each(entries)
        if not by_url:
            return set()
        now = self._clock()
        keys = {url: key_of(url) for url in by_url}
        parents = {entry.parent: None for entry in by_url.values() if entry.parent is not None}
        asked = [*by_url, *(parent for parent in parents if parent not in by_url)]
        known: dict[str, int] = {}
        fewer = []
        for index, record, redirects, is_open in connection.execute(KNOWN, (_asked(asked, keys),)):
            url = asked[index]
            known[url] = record
            if is_open and url in by_url and by_url[url].redirects < redirects:
                fewer.append((by_url[url].redirects, record))
        connection.executemany(FEWER_REDIRECTS, fewer)
        crawls: dict[str, int] = {}  # for this transaction: another process may clear the table after it
        rows = []
        for url, entry in by_url.items():
            if url in known:
                continue
            settings = encode_settings(entry.settings)
            if settings not in crawls:
                crawls[settings] = _crawl_id(connection, settings)
            parent = known.get(entry.parent, entry.parent) if entry.parent is not None else None
            rows.append(
                (keys[url], crawls[settings], queue, entry.depth, parent, url, entry.redirects, entry.lastmod, now)
            )
        connection.executemany(INSERT_RECORD, rows)
        _count(connection, {"status:queued": len(rows)})
        return {row[5] for row in rows}

    async def send(self, bodies: Sequence[str]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            now = self._clock()
            rows = []
            for sent in bodies:
                body = sent.encode("utf-8", "replace").decode()  # a lone surrogate cannot be stored
                message = decode_message(body)
                url = None if isinstance(message, BadBody) else message.url
                rows.append((url and key_of(url), url, body, now, FRESH, now, 0))
            connection.executemany(INSERT_MESSAGE, rows)
            _count(connection, {"messages": len(rows)})

        await self._write(work)
        self._sent.set()

    async def receive(self, limit: int, *, wait_seconds: float = 0.0) -> list[Delivery]:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + wait_seconds
        pause, longest = POLL_SECONDS
        while True:
            self._sent.clear()
            next_visible = await self._read(self._next_visible)
            if next_visible is not None and next_visible <= self._clock():
                deliveries = await self._write(lambda connection: self._receive(connection, limit))
                if deliveries:
                    return deliveries
                if limit > 0:  # what there was has died, or somebody else has it: there may be more behind it
                    continue
            left = give_up_at - loop.time()
            if left <= 0:
                return []
            wait = min(pause, left)
            if next_visible is not None:
                wait = min(wait, max(next_visible - self._clock(), 0.001))
            try:
                async with asyncio.timeout(wait):
                    await self._sent.wait()
            except TimeoutError:
                pause = min(pause * 2, longest)

    def _next_visible(self, connection: sqlite3.Connection) -> float | None:
        self.generation = _number(connection, "generation")
        is_any_fresh, at = connection.execute(NEXT_VISIBLE).fetchone()
        return 0.0 if is_any_fresh else at

    def _receive(self, connection: sqlite3.Connection, limit: int) -> list[Delivery]:
        now = self._clock()
        self.generation = _number(connection, "generation")
        deliveries = self._receive_messages(connection, now, limit)
        limit -= len(deliveries)
        ids = [id_ for (id_,) in connection.execute(TIMED, (IN_FLIGHT, now, limit))]
        lost = len(ids)
        ids += [id_ for (id_,) in connection.execute(TIMED, (PUT_OFF, now, limit - lost))]
        _count(connection, {"put_off": lost - len(ids)})
        ids += [id_ for (id_,) in connection.execute(FRESH_ONES, (limit - len(ids),))]
        return deliveries + self._receive_records(connection, now, ids)

    def _receive_messages(self, connection: sqlite3.Connection, now: float, limit: int) -> list[Delivery]:
        """What anybody sent. It is little: whoever wins its URL makes a record's place of it."""
        parameters = {"most": self._settings.max_receives, "now": now, "limit": limit, **self._hidden(now)}
        rows = connection.execute(RECEIVE_MESSAGES, parameters).fetchall()
        if not rows:
            return []
        died = sum(row[6] for row in rows)
        _count(connection, {"messages": -died, "dead": died})
        held = self._held(connection, [url for url in (row[2] for row in rows) if url is not None])
        return [
            Delivery(
                message_id=f"{MESSAGE_MARK}{id_}",
                receipt=str(delivery),
                body=body,
                receive_count=receives,
                sent_at=sent_at,
                is_finished=url in held and held[url].lease_until is None,
            )
            for id_, delivery, url, body, receives, sent_at, is_dead in sorted(rows)
            if not is_dead
        ]

    def _receive_records(self, connection: sqlite3.Connection, now: float, ids: Sequence[int]) -> list[Delivery]:
        if not ids:
            return []
        rows = connection.execute(RECEIVE, {"ids": json.dumps(ids), **self._hidden(now)}).fetchall()
        by_id = {row[0]: Waiting(*row) for row in rows}  # what is returned has no order
        if by_id.keys() != set(ids):
            raise damaged(self._path, "an index names URLs that wait and are not there")
        settings = self._settings_of(connection, {waiting.crawl for waiting in by_id.values()})
        deliveries, dead = [], []
        for waiting in map(by_id.__getitem__, ids):
            if waiting.crawl not in settings:
                raise damaged(self._path, f"the settings are gone with which {waiting.url} was recorded")
            body = encode_message(waiting.message(settings[waiting.crawl]))
            if waiting.receives > self._settings.max_receives:
                dead.append((waiting, body))
                continue
            deliveries.append(
                Delivery(
                    message_id=str(waiting.id),
                    receipt=f"{self.generation}.{waiting.delivery}",
                    body=body,
                    receive_count=waiting.receives,
                    sent_at=waiting.enqueued_at,
                    is_finished=bool(waiting.is_finished),
                )
            )
        if dead:
            self._bury(connection, now, dead)
        return deliveries

    def _hidden(self, now: float) -> dict[str, float]:
        return {"hidden_until": now + self._settings.visibility_seconds}

    def _bury(self, connection: sqlite3.Connection, now: float, dead: Sequence[tuple[Waiting, str]]) -> None:
        """Make dead letters of what was received too often. A sweep may put their records back."""
        most = self._settings.max_receives
        letters = [(key_of(w.url), w.url, body, w.enqueued_at, None, None, most) for w, body in dead]
        connection.executemany(INSERT_MESSAGE, letters)
        self._lose_places(connection, [waiting.id for waiting, _ in dead], now)
        _count(connection, {"messages": -len(dead), "dead": len(dead)})

    def _lose_places(self, connection: sqlite3.Connection, ids: Sequence[int], now: float) -> None:
        parameters = {"ids": json.dumps(ids), "now": now, "due_seconds": self._settings.due_seconds}
        connection.execute(LOSE_PLACES, parameters)

    def _settings_of(self, connection: sqlite3.Connection, crawls: Iterable[int]) -> dict[int, CrawlSettings]:
        """The settings of some crawls, those that can be read."""
        found = {}
        for id_, body in connection.execute(CRAWLS, (json.dumps(list(crawls)),)):
            with contextlib.suppress(msgspec.MsgspecError, TypeError):
                found[id_] = settings_of(body)
        return found

    def _held(self, connection: sqlite3.Connection, urls: Sequence[str]) -> dict[str, _Held]:
        """What is known of the claims of some URLs; unknown ones are left out."""
        rows = connection.execute(HELD, (_asked(urls, {}),))
        return {urls[index]: _Held(*row) for index, *row in rows}

    async def claim(
        self, requests: Sequence[ClaimRequest], *, worker_id: str, claim_id: str, lease_seconds: float
    ) -> list[Won | Lost]:
        def work(connection: sqlite3.Connection) -> list[Won | Lost]:
            now = self._clock()
            lease_until = now + lease_seconds
            by_url = {request.message.url: request for request in reversed(requests)}  # the first of each counts
            held = self._held_or_recorded(connection, by_url)
            parameters = {
                "worker": worker_id,
                "claim": claim_id,
                "lease": lease_until,
                "now": now,
                "due": lease_until + self._settings.due_seconds,
                "ids": json.dumps([record.id for record in held.values()]),
            }
            won = {row[0]: row[1:] for row in connection.execute(CLAIM, parameters).fetchall()}
            fresh = sum(record.id in won and record.status == QUEUED for record in held.values())
            counters = Counter({"status:queued": -fresh, "status:processing": fresh})
            answers: dict[str, Won | Lost] = {}
            for url, record in held.items():
                if record.id in won:
                    answers[url] = self._won(url, won[record.id], worker_id, claim_id, lease_until)
                    self._take_over(connection, by_url[url].delivery, record, lease_until, counters)
                elif record.lease_until is None:
                    answers[url] = Lost(url=url, why=LostReason.FINISHED)
                elif (record.worker_id, record.claim_id) == (worker_id, claim_id):  # its answer was lost
                    numbers = (record.attempt, record.unended, record.tries)
                    answers[url] = self._won(url, numbers, worker_id, claim_id, record.lease_until)
                else:
                    answers[url] = Lost(url=url, why=LostReason.HELD, lease_until=record.lease_until)
            _count(connection, counters)
            return _once([answers[request.message.url] for request in requests])

        return await self._write(work)

    def _won(self, url: str, numbers: Sequence[Any], worker_id: str, claim_id: str, lease_until: float) -> Won:
        """A claim, from what its record says. Raises where the record is damaged: then it is nobody's to work on."""
        fields = dict(zip(("attempt", "unended", "tries"), numbers, strict=True))
        fence = {"worker_id": worker_id, "claim_id": claim_id, "lease_until": lease_until}
        try:
            return msgspec.convert({"url": url, **fields, **fence}, Won)
        except msgspec.ValidationError as error:
            raise damaged(self._path, f"the record of {url} says {fields} ({error})") from None

    def _held_or_recorded(self, connection: sqlite3.Connection, by_url: dict[str, ClaimRequest]) -> dict[str, _Held]:
        """What is known of the claims of some URLs. A message whose URL has no record is a way in."""
        held = self._held(connection, list(by_url))
        if missing := [url for url in by_url if url not in held]:
            self._record(connection, (Entry.of(by_url[url].message) for url in missing), None)
            held |= self._held(connection, missing)
        return held

    def _take_over(
        self,
        connection: sqlite3.Connection,
        delivery: Delivery,
        record: _Held,
        lease_until: float,
        counters: Counter[str],
    ) -> None:
        """Make the message by which a claim was won its record's place in the queue, if it is still there."""
        receipt = _receipt(delivery)
        if not receipt.is_message:
            return
        taken = connection.execute(TAKE_OVER, (receipt.id,)).fetchone()
        if taken is None:
            if record.queue == FRESH:  # its message died meanwhile: nobody shall be given what is being worked on
                connection.execute(TAKE_PLACE, (lease_until, 0, record.id))
            return
        connection.execute(TAKE_PLACE, (*taken, record.id))
        counters["messages"] -= record.queue is not None
        counters["put_off"] -= record.queue == PUT_OFF

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        def work(connection: sqlite3.Connection) -> list[bool]:
            now = self._clock()
            answers = []
            counters: Counter[str] = Counter()
            hosts: defaultdict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(SUMS, 0))
            links: list[Entry] = []
            ended: list[str] = []  # with their messages
            held = self._held(connection, list({finish.claim.url: None for finish in finishes}))
            for finish in finishes:
                claim, outcome = finish.claim, finish.outcome
                record = held.get(claim.url)
                is_made = record is not None and self._finish(connection, record.id, finish, now)
                answers.append(is_made)
                if record is None or not is_made:
                    continue
                links.extend(finish.links)
                if finish.delivery is not None:
                    ended.append(claim.url)
                    counters["messages"] -= record.queue is not None
                    counters["put_off"] -= record.queue == PUT_OFF
                counters[f"status:{outcome.status}"] += 1
                counters["status:processing"] -= 1
                counters["bytes"] += outcome.bytes
                counters["redirects"] += outcome.is_redirect
                if outcome.reason is not None:
                    counters[f"reason:{outcome.reason}"] += 1
                sums = hosts[host_of(claim.url)]
                for name, number in sums_of(outcome).items():
                    sums[name] += number
            self._enqueue(connection, links)
            connection.executemany(ADD_TO_HOST, [{"host": host, **sums} for host, sums in hosts.items()])
            # Every message of a finished URL has nothing more to say, copies too.
            counters["messages"] -= connection.execute(DELETE_COPIES, (_asked(ended, {}),)).rowcount
            _count(connection, counters)
            return answers

        answers = await self._write(work)
        self._sent.set()
        return answers

    def _finish(self, connection: sqlite3.Connection, record: int, finish: Finish, now: float) -> bool:
        parameters = {
            **_fence(record, finish.claim),
            **pack(finish.outcome)._asdict(),
            "status": STATUS_NUMBERS[finish.outcome.status],
            "now": now,
            "leaves_it": finish.delivery is None,
        }
        return connection.execute(FINISH, parameters).rowcount == 1

    async def retry(self, retries: Sequence[Retry]) -> list[bool]:
        def work(connection: sqlite3.Connection) -> list[bool]:
            now = self._clock()
            answers = []
            counters: Counter[str] = Counter()
            held = self._held(connection, list({retry.claim.url: None for retry in retries}))
            for retry in retries:
                record = held.get(retry.claim.url)
                is_made = record is not None and self._retry(connection, record.id, retry, now)
                answers.append(is_made)
                if record is None or not is_made:
                    continue
                counters["messages"] += record.queue is None
                counters["put_off"] += record.queue != PUT_OFF
                counters["status:processing"] -= 1
                counters["status:queued"] += 1
            _count(connection, counters)
            return answers

        answers = await self._write(work)
        self._sent.set()
        return answers

    def _retry(self, connection: sqlite3.Connection, record: int, retry: Retry, now: float) -> bool:
        outcome = pack(retry.outcome) if retry.outcome else NO_OUTCOME
        parameters = {
            **_fence(record, retry.claim),
            **outcome._asdict(),
            "is_unused": retry.is_unused,
            "tried": retry.tried,
            "at": _not_before(now, retry.at),
        }
        return connection.execute(RETRY, parameters).rowcount == 1

    async def defer(self, deferrals: Sequence[Deferral]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            now, generation = self._clock(), _number(connection, "generation")
            records, messages = [], []
            for deferral in deferrals:
                message, receipt = deferral.message, _receipt(deferral.delivery)
                until = {"until": _not_before(now, deferral.until), **receipt._asdict()}
                if receipt.is_message:
                    messages.append({"body": encode_message(message) if message else None, **until})
                elif receipt.generation == generation:
                    # What else the message says is its record's.
                    slot = (True, message.slot, message.generation) if message else (False, None, None)
                    records.append({**dict(zip(("says_more", "slot", "slot_generation"), slot, strict=True)), **until})
            connection.executemany(DEFER_MESSAGE, messages)
            _count(connection, {"put_off": _changed(connection, DEFER, records)})

        await self._write(work)
        self._sent.set()

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            due = {"now": self._clock(), "due_seconds": self._settings.due_seconds}
            generation = _number(connection, "generation")
            receipts = [_receipt(delivery) for delivery in deliveries]
            messages = [receipt._asdict() for receipt in receipts if receipt.is_message]
            records = [{**r._asdict(), **due} for r in receipts if not r.is_message and r.generation == generation]
            deleted = _changed(connection, DELETE_MESSAGE, messages) + _changed(connection, DELETE, records)
            _count(connection, {"messages": -deleted})

        await self._write(work)

    async def lease_sweep(self, *, until: float, by_schedule: bool = False) -> bool:  # noqa: ARG002 - the port's signature
        return True

    async def sweep(self, limit: int = 1000) -> int:
        if abs(await self._read(lambda connection: seconds_ahead(connection, self._clock()))) > TOLERATED_SECONDS:
            await self._write(lambda connection: keep_time(connection, self._clock))
        now, released = self._clock(), 0
        while released < limit and await self._rows(PAST_DUE, _due(now, 1)):
            sweep_some = partial(self._sweep, now=now, limit=limit - released)
            released += await self._write(sweep_some)
        if released:
            self._sent.set()
        else:
            await self._read(self._see_a_way_back)
        return released

    def _sweep(self, connection: sqlite3.Connection, now: float, limit: int) -> int:
        """Look at some records that are past their time, and move on those that stay; how many were released."""
        looked_at = connection.execute(PAST_DUE, _due(now, STEP)).fetchall()
        missing = [record for record, has_message in looked_at if not has_message][:limit]
        orphans = _orphans(connection, missing)
        released = [(now, orphan.id) for orphan in orphans if orphan.has_way_back]
        connection.executemany(PUT_BACK, released)
        _count(connection, {"messages": len(released), "put_off": len(released)})
        # What waits long is looked at ever more seldom. What nothing brings back is looked at again as soon as ever.
        waiting = [(record, LONGEST_LOOK_AGAIN_SECONDS) for record, has_message in looked_at if has_message]
        lost = [(orphan.id, 0.0) for orphan in orphans if not orphan.has_way_back]
        seconds = self._settings.due_seconds
        moves = [{"id": id_, "now": now, "seconds": seconds, "longest": longest} for id_, longest in waiting + lost]
        connection.executemany(MOVE_DUE_ON, moves)
        return len(released)

    def _see_a_way_back(self, connection: sqlite3.Connection) -> None:
        """Raise if records are open and nothing that is there will ever end them: the file is damaged."""
        connection.execute("BEGIN")  # all of it as of one moment: another worker may just end the last record
        try:
            left = _left(connection)
            lost = _lost(connection) if left else None
        finally:
            connection.execute("ROLLBACK")
        if lost is not None:
            named = f" ({', '.join(lost[:3])})" if lost else ""
            raise damaged(
                self._path, f"URLs that are not finished, and that nothing there brings back: {left:,}{named}"
            )

    # Politeness.

    async def hosts(self, hosts: Sequence[str]) -> dict[str, HostRow]:
        def work(connection: sqlite3.Connection) -> dict[str, HostRow]:
            self.generation = _number(connection, "generation")  # first: what is read after it is as new or newer
            return self._hosts(connection, hosts)

        return await self._read(work)

    def _hosts(self, connection: sqlite3.Connection, hosts: Sequence[str]) -> dict[str, HostRow]:
        known = {row.host: row for row in self._host_rows(connection.execute(HOSTS, (json.dumps(hosts),)).fetchall())}
        return {host: known.get(host) or HostRow(host=host) for host in hosts}

    async def hosts_in_trouble(self) -> list[HostRow]:
        now = self._clock()
        return [row for row in self._host_rows(await self._rows(HOSTS_IN_TROUBLE)) if is_in_trouble(row, now)]

    async def scan_hosts(self) -> list[HostRow]:
        return self._host_rows(await self._rows(ALL_HOSTS))

    def _host_rows(self, rows: Sequence[tuple[Any, ...]]) -> list[HostRow]:
        return self._whole(host_row, rows, "host")

    def _whole(self, read: Callable[[tuple[Any, ...]], T], rows: Sequence[tuple[Any, ...]], what: str) -> list[T]:
        """Rows as what they stand for. Raises where one is damaged."""
        found = []
        for row in rows:
            try:
                found.append(read(row))
            except ValueError as error:
                raise damaged(self._path, f"the row of the {what} {row[0]!r} says {error}") from None
        return found

    async def save_hosts(self, rows: Sequence[HostRow]) -> list[bool]:
        return await self._change_hosts([(row.host, self._as_of_then(saved, row)) for row in rows])

    async def _change_hosts(self, changes: Sequence[tuple[str, HostChange[T]]]) -> list[T]:
        """Change the states of hosts, one change after the other, in one transaction; their answers."""

        def work(connection: sqlite3.Connection) -> list[T]:
            old = self._host_states(connection, list(dict.fromkeys(host for host, _ in changes)))
            new, answers = dict(old), []
            for host, change in changes:
                new[host], answer = change(new[host])
                answers.append(answer)
            self._save_host_states(connection, old, new)
            return answers

        return await self._write(work)

    def _as_of_then(self, change: Callable[[HostState, W, float], tuple[HostState, T]], what: W) -> HostChange[T]:
        """A change as of when it happens, not of when it was asked for: others may have been waited for."""
        return lambda state: change(state, what, self._clock())

    def _host_states(self, connection: sqlite3.Connection, hosts: Sequence[str]) -> dict[str, HostState]:
        requests: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for host, token, until in connection.execute(REQUESTS, (json.dumps(hosts),)):
            requests[host][token] = until
        rows = self._hosts(connection, hosts)
        return {host: HostState(row=row, requests=requests[host]) for host, row in rows.items()}

    def _save_host_states(
        self, connection: sqlite3.Connection, old: dict[str, HostState], new: dict[str, HostState]
    ) -> None:
        now = self._clock()
        rows = [state.row for host, state in new.items() if state.row is not old[host].row]
        saves = [{**msgspec.structs.asdict(row), "was_in_trouble": is_in_trouble(row, now)} for row in rows]
        connection.executemany(SAVE_HOST, saves)
        ended, begun = [], []
        for host, state in new.items():
            before, after = old[host].requests, state.requests
            ended += [(host, token) for token in before.keys() - after.keys()]
            begun += [(host, token, after[token]) for token in after.keys() - before.keys()]
        connection.executemany(END_REQUEST, ended)
        connection.executemany(BEGIN_REQUEST, begun)

    async def release_host(self, host: str) -> int:
        now, released = self._clock(), 0
        first, last = keys_of_host(host)
        place = {"after": first, "after_id": 0, "last": last, "now": now, "limit": STEP}
        while rows := await self._rows(PUT_OFF_OF_HOST, place):
            place["after_id"], place["after"], *_ = rows[-1]
            if put_off := [record for record, _, url, is_put_off in rows if is_put_off and host_of(url) == host]:
                released += await self._change(RELEASE, {"ids": json.dumps(put_off), "now": now})
        self._sent.set()
        return released

    async def reserve(self, demands: Sequence[SlotDemand]) -> list[float | None]:
        return await self._change_hosts([(d.host, self._as_of_then(reserved, d)) for d in demands])

    async def enter(self, entrances: Sequence[Entrance]) -> list[Admission]:
        return await self._change_hosts([(e.host, self._as_of_then(entered, e)) for e in entrances])

    async def leave(self, exits: Sequence[Exit]) -> None:
        await self._change_hosts([(end.host, partial(left, end=end)) for end in exits])

    async def robots(self, origins: Sequence[str]) -> dict[str, RobotsRow]:
        rows = await self._rows(ROBOTS, (json.dumps(origins),))
        known = {origin: robots_row(packed) for origin, packed in rows}
        return {origin: row for origin, row in known.items() if row is not None}

    async def lease_robots(self, origin: str, *, until: float) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            parameters = {"origin": origin, "until": until, "now": self._clock()}
            return connection.execute(LEASE_ROBOTS, parameters).rowcount == 1

        return await self._write(work)

    async def save_robots(self, row: RobotsRow) -> None:
        await self._change(SAVE_ROBOTS, (row.origin, packed_robots(row)))

    # Looking.

    async def get(self, urls: Sequence[str]) -> dict[str, UrlRecord]:
        parameters = (_asked(urls, {}),)
        rows = await self._read(lambda connection: dicts(connection, GET, parameters))
        return {record.url: record for record in self._records(rows)}

    async def scan(self, *, status: Status | None = None, host: str | None = None) -> AsyncIterator[list[UrlRecord]]:
        place: dict[str, Any] = {"after": None, "after_id": 0, "limit": SCAN_BATCH}
        place["status"] = None if status is None else STATUS_NUMBERS[status]
        statement = SCAN
        if host is not None:
            statement = SCAN_HOST
            place["after"], place["last"] = keys_of_host(host)
        while rows := await self._read(lambda connection: dicts(connection, statement, place)):
            place["after"], place["after_id"] = rows[-1]["key"], rows[-1]["id"]
            records = self._records(rows)
            yield [record for record in records if host is None or record.unreadable or record.host == host]

    def _records(self, rows: Sequence[dict[str, Any]]) -> list[UrlRecord]:
        return [record_of(row, self._settings.due_seconds) for row in rows]

    async def counts(self, *, exact: bool = False) -> Counts:  # noqa: ARG002 - they always are
        numbers = await self._read(_sums)
        return Counts(
            by_status={status: numbers.get(f"status:{status}", 0) for status in Status},
            by_reason={reason: n for reason in Reason if (n := numbers.get(f"reason:{reason}", 0))},
            bytes=numbers.get("bytes", 0),
            redirects=numbers.get("redirects", 0),
        )

    async def queue_stats(self) -> QueueStats:
        return await self._read(self._queue_stats)

    def _queue_stats(self, connection: sqlite3.Connection) -> QueueStats:
        now = self._clock()
        row = connection.execute(QUEUE_STATS, {"now": now}).fetchone()
        numbers, oldest = [number or 0 for number in row[:-1]], row[-1]
        live, put_off, dead, due, in_flight, hidden, received = msgspec.convert(numbers, list[int], strict=False)
        oldest = msgspec.convert(oldest, float | None)
        delayed = put_off - due + hidden - received
        return QueueStats(
            visible=live - in_flight - received - delayed,
            in_flight=in_flight + received,
            delayed=delayed,
            dead=dead,
            oldest_age_seconds=None if oldest is None else max(0.0, now - oldest),
        )

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        rows = await self._rows(DEAD_LETTERS, (limit,))
        return self._whole(letter_row, rows, "message")

    async def redrive(self, limit: int = 1000) -> int:
        def work(connection: sqlite3.Connection) -> int:
            revived = connection.execute(REDRIVE, {"now": self._clock(), "limit": limit}).rowcount
            _count(connection, {"messages": revived, "dead": -revived})
            return revived

        revived = await self._write(work)
        self._sent.set()
        return revived

    # Workers.

    async def check_in(self, worker_id: str, *, session: str, ttl_seconds: float) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            keep_time(connection, self._clock)
            now = self._clock()
            parameters = {"id": worker_id, "session": session, "now": now, "expires": now + ttl_seconds}
            return connection.execute(CHECK_IN, parameters).rowcount == 1

        return await self._write(work)

    async def check_out(self, worker_id: str, *, session: str) -> None:
        await self._change(CHECK_OUT, (worker_id, session))

    async def workers(self) -> list[WorkerRow]:
        rows = await self._rows(WORKERS, (self._clock(),))
        return self._whole(worker_row, rows, "worker")

    # What it took, over time.

    async def save_sample(self, sample: Sample) -> None:
        def work(connection: sqlite3.Connection) -> None:
            stats = self._queue_stats(connection)
            body = msgspec.json.encode(sample).decode()
            row = (sample.at, body, stats.visible, stats.in_flight, stats.oldest_age_seconds)
            connection.execute(ADD_SAMPLE, row)
            connection.execute(END_OLD_SAMPLES, (sample.at - KEPT_SECONDS,))

        await self._write(work)

    async def points(self, *, since: float, until: float, period_seconds: int) -> list[Point]:
        parameters = {"since": since, "until": until, "period": period_seconds}
        rows = await self._read(lambda connection: dicts(connection, POINTS, parameters))
        return [Point(**row) for row in rows]

    async def bill(self) -> None:
        return None

    # Clearing.

    async def purge_queue(self) -> int:
        removed = await self._write(self._purge_messages)
        for queue in (FRESH, PUT_OFF, IN_FLIGHT):
            purge_some = partial(self._purge_some, queue=queue)
            while some := await self._write(purge_some):
                removed += some
                if some < STEP:
                    break
        return removed

    def _purge_messages(self, connection: sqlite3.Connection) -> int:
        dead = _number(connection, "dead")
        removed = connection.execute(PURGE_MESSAGES).rowcount
        _count(connection, {"messages": dead - removed, "dead": -dead})
        return removed

    def _purge_some(self, connection: sqlite3.Connection, queue: int) -> int:
        places = _places(connection, queue)
        self._lose_places(connection, places, self._clock())
        _count(connection, {"messages": -len(places), "put_off": -len(places) if queue == PUT_OFF else 0})
        return len(places)

    async def clear_table(self, on_removed: Callable[[int], None] = lambda _: None) -> int:
        def work(connection: sqlite3.Connection) -> int:
            while self._send_some(connection):
                pass  # what others have queued since
            removed = connection.execute(CLEAR_RECORDS).rowcount
            for statement in CLEAR_THE_REST:
                connection.execute(statement)
            raise_generation(connection)
            return removed

        while await self._write(self._send_some) == STEP:
            pass
        removed = await self._write(work)
        on_removed(removed)
        return removed

    def _send_some(self, connection: sqlite3.Connection) -> int:
        """Make messages of some records' places, so that they outlive their records; of each kind, how many at most."""
        return max(self._send_places(connection, queue) for queue in (FRESH, PUT_OFF, IN_FLIGHT))

    def _send_places(self, connection: sqlite3.Connection, queue: int) -> int:
        places = _places(connection, queue)
        rows = connection.execute(PLACES, (json.dumps(places),)).fetchall()
        waiting = [Waiting(*row[:-1]) for row in rows]
        settings = self._settings_of(connection, {w.crawl for w in waiting})
        messages = []
        for w, visible_at in zip(waiting, (row[-1] for row in rows), strict=True):
            body = encode_message(w.message(settings.get(w.crawl, CrawlSettings())))
            messages.append((key_of(w.url), w.url, body, w.enqueued_at, queue, visible_at, w.receives))
        connection.executemany(INSERT_MESSAGE, messages)
        self._lose_places(connection, places, self._clock())
        _count(connection, {"put_off": -len(places) if queue == PUT_OFF else 0})
        return len(places)


def _due(before: float, limit: int) -> dict[str, float]:
    return {"before": before, "limit": limit}


def _orphans(connection: sqlite3.Connection, records: Sequence[int]) -> list[_Orphan]:
    """Records for which nothing waits, by their ids."""
    rows = connection.execute(ORPHANS, (json.dumps(records),))
    return [_Orphan(id_, url, bool(is_found) and key == key_or_none(url)) for id_, url, key, is_found in rows]


def _asked(urls: Iterable[str], keys: dict[str, int]) -> str:
    """URLs as the statements take them that look for several; their keys, if they are known already."""
    return _json_encoder.encode([(keys.get(url) or key_of(url), url) for url in urls]).decode()


def _receipt(delivery: Delivery) -> _Receipt:
    if delivery.message_id.startswith(MESSAGE_MARK):
        return _Receipt(int(delivery.message_id.removeprefix(MESSAGE_MARK)), int(delivery.receipt), True, 0)
    generation, _, number = delivery.receipt.partition(".")
    return _Receipt(int(delivery.message_id), int(number), False, int(generation))


def _fence(record: int, claim: Won) -> dict[str, Any]:
    return {"id": record, "attempt": claim.attempt, "worker": claim.worker_id, "claim": claim.claim_id}


def _once(answers: Sequence[Won | Lost]) -> list[Won | Lost]:
    """Of several requests for one URL only the first can win."""
    won: set[str] = set()
    once: list[Won | Lost] = []
    for answer in answers:
        if isinstance(answer, Won) and answer.url in won:
            once.append(Lost(url=answer.url, why=LostReason.HELD, lease_until=answer.lease_until))
            continue
        won.add(answer.url)
        once.append(answer)
    return once


def _not_before(now: float, moment: float) -> float:
    return moment if moment > now else now  # NaN, too, is now


def _changed(connection: sqlite3.Connection, statement: str, parameters: Sequence[dict[str, Any]]) -> int:
    """Run a statement for each; how many rows it changed."""
    return connection.executemany(statement, parameters).rowcount if parameters else 0


def _places(connection: sqlite3.Connection, queue: int) -> list[int]:
    """Some records that have a place of this kind in the queue, by their ids."""
    rows = connection.execute(FRESH_ONES, (STEP,)) if queue == FRESH else connection.execute(ALL_TIMED, (queue, STEP))
    return [id_ for (id_,) in rows]


def _number(connection: sqlite3.Connection, name: str) -> int:
    """One of the sums that are kept. Raises ``msgspec.ValidationError`` if it is no number."""
    row = connection.execute(NUMBER, (name,)).fetchone()
    return msgspec.convert(row[0], int) if row else 0


def _sums(connection: sqlite3.Connection) -> dict[str, int]:
    """The sums that are kept, by name. Raises ``msgspec.ValidationError`` for one that is no number."""
    return msgspec.convert(dict(connection.execute(COUNTERS).fetchall()), dict[str, int])


def _left(connection: sqlite3.Connection) -> int:
    """How many records are open, by the sums."""
    numbers = _sums(connection)
    return sum(numbers.get(f"status:{status}", 0) for status in Status if not status.is_final)


def _lost(connection: sqlite3.Connection) -> list[str] | None:
    """The URLs that are not finished, if nothing brings any of them back; none if something does."""
    is_any_fresh, at = connection.execute(NEXT_VISIBLE).fetchone()
    if is_any_fresh or at is not None:
        return None
    lost: list[str] = []
    due = connection.execute(PAST_DUE, _due(math.inf, -1))  # no limit: the first that has a way back ends it
    while some := due.fetchmany(STEP):
        # None waits by the indexes that URLs are received by: one that is there all the same never comes.
        orphans = _orphans(connection, [record for record, _ in some])
        has_message = dict(some)
        if any(orphan.has_way_back and not has_message[orphan.id] for orphan in orphans):
            return None
        lost += [orphan.url for orphan in orphans]
    return lost


def _crawl_id(connection: sqlite3.Connection, settings: str) -> int:
    found = connection.execute(FIND_CRAWL, (settings,)).fetchone()
    return int(found[0]) if found else int(connection.execute(ADD_CRAWL, (settings,)).lastrowid or 0)


def _count(connection: sqlite3.Connection, changes: dict[str, int]) -> None:
    connection.executemany(ADD_TO_COUNTER, [(name, number) for name, number in changes.items() if number])
