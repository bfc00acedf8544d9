"""The embedded frontier: queue, URL records and host rows in one SQLite file.

Several processes may share the file. Every operation is one write transaction for its whole batch,
so there is no half-way: an operation that dies has not happened. WAL with ``synchronous=FULL``:
what was answered survives a loss of power.

One connection in one thread of its own; the caller's event loop never waits for the disk.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import zlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import msgspec

from sqspider.frontier import (
    Admission,
    ClaimRequest,
    Clock,
    Counts,
    DeadLetter,
    Deferral,
    Delivery,
    Entered,
    Entrance,
    Entry,
    Exit,
    Finish,
    FrontierBusyError,
    FrontierError,
    FrontierSettings,
    FrontierUnavailableError,
    Lost,
    LostReason,
    QueueStats,
    Retry,
    RobotsRow,
    SlotDemand,
    Won,
    WorkerRow,
)
from sqspider.host import HostRow, delay_of, is_in_trouble
from sqspider.message import (
    BadBody,
    Message,
    decode_message,
    decode_settings,
    encode_message,
    encode_settings,
)
from sqspider.metrics import COUNTED, KEPT_SECONDS, Point, Sample
from sqspider.record import Outcome, Reason, Status, UrlRecord
from sqspider.url import host_of

T = TypeVar("T")

APPLICATION_ID: Final = 0x73717370  # "sqsp"
SCHEMA_VERSION: Final = 2
BUSY_SECONDS: Final = 30.0  # how long to wait for other processes' transactions
SCAN_BATCH: Final = 1000
POLL_SECONDS: Final = (0.02, 0.25)  # between two looks for messages of other processes
OLDEST_SQLITE: Final = (3, 35, 0)  # RETURNING

SCHEMA: Final = """
CREATE TABLE settings (            -- of crawls, each once: records refer to them
    id INTEGER PRIMARY KEY,
    body TEXT NOT NULL UNIQUE
);
CREATE TABLE record (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL UNIQUE,
    status TEXT NOT NULL,
    host TEXT NOT NULL,
    depth INTEGER NOT NULL,
    parent TEXT,
    settings INTEGER NOT NULL REFERENCES settings (id),
    lastmod REAL,
    attempt INTEGER NOT NULL DEFAULT 0,
    unended INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    worker_id TEXT,
    claim_id TEXT,
    lease_until REAL DEFAULT 0,    -- NULL when finished: then no comparison with it is true
    due_at REAL,
    enqueued_at REAL NOT NULL,
    claimed_at REAL,
    finished_at REAL,
    outcome TEXT                   -- JSON
);
CREATE INDEX record_due ON record (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    url TEXT,                      -- NULL: the body is no message
    host TEXT,
    body TEXT NOT NULL,
    sent_at REAL NOT NULL,
    visible_at REAL NOT NULL,
    receive_count INTEGER NOT NULL DEFAULT 0,
    receipt TEXT,                  -- of the last delivery; NULL: none since it was sent or deferred
    is_deferred INTEGER NOT NULL DEFAULT 0, -- it has a time to come back at, so it goes before fresh ones
    is_dead INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX message_url ON message (url);
CREATE TABLE counter (             -- kept up to date by every transaction: counting costs nothing
    name TEXT PRIMARY KEY,         -- "status:done", "reason:robots", "bytes", "messages"
    number INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE host (
    host TEXT PRIMARY KEY,
    version INTEGER NOT NULL DEFAULT 0,
    generation INTEGER NOT NULL DEFAULT 0,
    next_slot REAL NOT NULL DEFAULT 0,
    last_request REAL NOT NULL DEFAULT 0,
    latency_seconds REAL NOT NULL DEFAULT 0,
    delay_seconds REAL,
    crawl_delay_seconds REAL NOT NULL DEFAULT 0,
    penalty_seconds REAL NOT NULL DEFAULT 0,
    penalty_since REAL NOT NULL DEFAULT 0,
    rest_until REAL NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    trouble TEXT,
    is_paused INTEGER NOT NULL DEFAULT 0,
    is_blocked INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    blocked INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    busy_seconds REAL NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE request (             -- requests to hosts that are under way
    host TEXT NOT NULL,
    token TEXT NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (host, token)
) WITHOUT ROWID;
CREATE TABLE robots (
    origin TEXT PRIMARY KEY,
    lease_until REAL NOT NULL DEFAULT 0,
    row BLOB                       -- JSON, compressed; NULL: not fetched yet
);
CREATE TABLE worker (
    worker_id TEXT PRIMARY KEY,
    session TEXT NOT NULL,
    started_at REAL NOT NULL,
    seen_at REAL NOT NULL,
    expires_at REAL NOT NULL
) WITHOUT ROWID;
"""
# What the second version of the file has beyond the first.
SECOND: Final = """
CREATE INDEX message_visible ON message (is_dead, is_deferred, visible_at, id);
CREATE INDEX message_in_flight ON message (visible_at) WHERE is_dead = 0 AND receipt IS NOT NULL;
CREATE TABLE sample (              -- what workers did in a while, and the queue at its end
    at REAL NOT NULL,
    sample TEXT NOT NULL,          -- JSON
    visible INTEGER NOT NULL,
    in_flight INTEGER NOT NULL,
    oldest_age REAL
);
CREATE INDEX sample_at ON sample (at);
"""
TO_SECOND: Final = """
DROP INDEX message_visible;
ALTER TABLE message ADD COLUMN is_deferred INTEGER NOT NULL DEFAULT 0;
"""

ADD_SAMPLE: Final = "INSERT INTO sample (at, sample, visible, in_flight, oldest_age) VALUES (?, ?, ?, ?, ?)"
POINTS: Final = f"""
SELECT
    CAST(at / :period AS INTEGER) * :period AS at, avg(visible) AS visible, avg(in_flight) AS in_flight,
    max(oldest_age) AS oldest_age_seconds, {", ".join(f"sum(sample ->> '{name}') AS {name}" for name in COUNTED)},
    sum(sample ->> 'fetch_seconds') / nullif(sum(sample ->> 'fetches'), 0) AS fetch_seconds
FROM sample WHERE at >= :since AND at < :until GROUP BY 1 ORDER BY 1
"""

# Batches go in as one JSON array, so that each is one statement.

INSERT_RECORDS: Final = """
INSERT INTO record (url, status, host, depth, parent, settings, lastmod, enqueued_at, due_at)
SELECT e.value ->> 0, 'queued', e.value ->> 1, e.value ->> 2, e.value ->> 3, e.value ->> 4, e.value ->> 5, :now, :due
FROM json_each(:entries) AS e WHERE true
ON CONFLICT (url) DO NOTHING
RETURNING url
"""
INSERT_MESSAGE: Final = "INSERT INTO message (url, host, body, sent_at, visible_at) VALUES (?, ?, ?, ?, ?)"
# What was deferred has a slot that is good for its moment only: behind a long backlog it would lose it.
RECEIVE: Final = """
UPDATE message SET
    receive_count = receive_count + (receive_count < :most),
    is_dead = receive_count >= :most,
    visible_at = :hidden_until,
    receipt = :receipt || ':' || id
WHERE id IN (
    SELECT id FROM (
        SELECT id FROM message WHERE is_dead = 0 AND is_deferred = 1 AND visible_at <= :now
        ORDER BY visible_at, id LIMIT :limit
    )
    UNION ALL
    SELECT id FROM (
        SELECT id FROM message WHERE is_dead = 0 AND is_deferred = 0 AND visible_at <= :now
        ORDER BY visible_at, id LIMIT :limit
    )
    LIMIT :limit
)
RETURNING id, receipt, body, receive_count, sent_at, is_dead
"""
NEXT_VISIBLE: Final = """
SELECT min(at) FROM (
    SELECT min(visible_at) AS at FROM message WHERE is_dead = 0 AND is_deferred = 0
    UNION ALL SELECT min(visible_at) FROM message WHERE is_dead = 0 AND is_deferred = 1
)
"""
CLAIM: Final = """
UPDATE record SET
    status = 'processing', attempt = attempt + 1, unended = unended + 1, worker_id = :worker,
    claim_id = :claim, lease_until = :lease, claimed_at = :now, due_at = :due
WHERE url IN (SELECT value FROM json_each(:urls)) AND lease_until < :now
RETURNING url, attempt, unended, tries
"""
LOSERS: Final = """
SELECT url, attempt, unended, tries, worker_id, claim_id, lease_until
FROM record WHERE url IN (SELECT value FROM json_each(?))
"""
KNOWN: Final = "SELECT url FROM record WHERE url IN (SELECT value FROM json_each(?))"
FINISH: Final = """
UPDATE record SET
    status = ?, outcome = ?, finished_at = ?, lease_until = NULL, due_at = NULL, unended = 0
WHERE url = ? AND attempt = ? AND worker_id = ? AND claim_id = ? AND status = 'processing'
"""
DELETE_MESSAGES_OF: Final = "DELETE FROM message WHERE url IN (SELECT value FROM json_each(?)) AND is_dead = 0"
RETRY: Final = """
UPDATE record SET
    status = 'queued', lease_until = 0, unended = 0, tries = tries + ?, due_at = ?, outcome = coalesce(?, outcome)
WHERE url = ? AND attempt = ? AND worker_id = ? AND claim_id = ? AND status = 'processing'
"""
DEFER: Final = """
UPDATE message SET visible_at = ?, body = coalesce(?, body), receipt = NULL, receive_count = 0, is_deferred = 1
WHERE id = ? AND receipt = ?
"""
DELETE: Final = "DELETE FROM message WHERE id = ? AND receipt = ?"
# A record that is past its time is an orphan if no message for it waits; dead letters do not wait.
ORPHANS: Final = """
SELECT r.url, r.depth, r.parent, s.body, r.lastmod, r.host
FROM record AS r JOIN settings AS s ON s.id = r.settings
WHERE r.due_at < :now AND NOT EXISTS (SELECT 1 FROM message AS m WHERE m.url = r.url AND m.is_dead = 0)
ORDER BY r.due_at LIMIT :limit
"""
MOVE_DUE_ON: Final = "UPDATE record SET due_at = ? WHERE url = ?"
ADD_TO_COUNTER: Final = """
INSERT INTO counter (name, number) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET number = number + excluded.number
"""
ADD_TO_HOST: Final = """
INSERT INTO host (host, done, failed, blocked, bytes, busy_seconds) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (host) DO UPDATE SET
    done = done + excluded.done, failed = failed + excluded.failed, blocked = blocked + excluded.blocked,
    bytes = bytes + excluded.bytes, busy_seconds = busy_seconds + excluded.busy_seconds
"""
HOSTS: Final = "SELECT * FROM host WHERE host IN (SELECT value FROM json_each(?))"
ALL_HOSTS: Final = "SELECT * FROM host ORDER BY host"
ADD_HOST: Final = "INSERT INTO host (host) VALUES (?) ON CONFLICT DO NOTHING"
SAVE_HOST: Final = """
UPDATE host SET
    version = version + 1, generation = :generation, delay_seconds = :delay_seconds,
    crawl_delay_seconds = :crawl_delay_seconds, penalty_seconds = :penalty_seconds,
    penalty_since = :penalty_since, rest_until = :rest_until, failures = :failures, trouble = :trouble,
    is_paused = :is_paused, is_blocked = :is_blocked,
    next_slot = CASE WHEN generation < :generation THEN :first_slot ELSE next_slot END
WHERE host = :host AND version = :version
"""
RESERVE: Final = """
UPDATE host SET next_slot = max(:now, next_slot, rest_until) + :length
WHERE host = :host AND generation = :generation
RETURNING next_slot - :length
"""
REQUESTS: Final = "SELECT count(*), min(until) FROM request WHERE host = ?"
RELEASE_HOST: Final = """
UPDATE message SET visible_at = :now WHERE host = :host AND is_dead = 0 AND receipt IS NULL AND visible_at > :now
"""
GET: Final = "SELECT * FROM record WHERE url IN (SELECT value FROM json_each(?))"
SCAN: Final = """
SELECT * FROM record
WHERE id > :after AND (:status IS NULL OR status = :status) AND (:host IS NULL OR host = :host)
ORDER BY id LIMIT :limit
"""
QUEUE_STATS: Final = """
SELECT
    (SELECT number FROM counter WHERE name = 'messages'),
    (SELECT count(*) FROM message INDEXED BY message_in_flight
        WHERE is_dead = 0 AND receipt IS NOT NULL AND visible_at > :now),
    (SELECT count(*) FROM message WHERE is_dead = 0 AND is_deferred IN (0, 1) AND visible_at > :now),
    (SELECT count(*) FROM message WHERE is_dead = 1),
    (SELECT sent_at FROM message NOT INDEXED WHERE is_dead = 0 ORDER BY id LIMIT 1)
"""
DEAD_LETTERS: Final = "SELECT id, body, receive_count, sent_at FROM message WHERE is_dead = 1 ORDER BY id LIMIT ?"
REDRIVE: Final = """
UPDATE message SET is_dead = 0, receive_count = 0, receipt = NULL, visible_at = :now
WHERE id IN (SELECT id FROM message WHERE is_dead = 1 ORDER BY id LIMIT :limit)
"""
CHECK_IN: Final = """
INSERT INTO worker (worker_id, session, started_at, seen_at, expires_at) VALUES (:id, :session, :now, :now, :expires)
ON CONFLICT (worker_id) DO UPDATE SET
    session = excluded.session, seen_at = excluded.seen_at, expires_at = excluded.expires_at,
    started_at = CASE WHEN session = excluded.session THEN started_at ELSE excluded.started_at END
WHERE session = excluded.session OR expires_at < :now
"""
CLEARED_TABLES: Final = ("record", "settings", "host", "request", "robots", "sample")

_outcome_encoder = msgspec.json.Encoder()
_outcome_decoder = msgspec.json.Decoder(Outcome)
_robots_decoder = msgspec.json.Decoder(RobotsRow)
_HOST_COLUMNS: Final = HostRow.__struct_fields__


class SqliteFrontier:
    """The :class:`~sqspider.frontier.Frontier` in a SQLite file. Made by :meth:`open`."""

    def __init__(self, path: str, settings: FrontierSettings, clock: Clock) -> None:
        self._path = path
        self._settings = settings
        self._clock = clock
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="frontier")
        self._connection: sqlite3.Connection
        self._settings_ids: dict[str, int] = {}
        self._sent = asyncio.Event()  # something was sent from this process
        self._receipts = 0
        self._receipt_prefix = os.urandom(6).hex()

    @classmethod
    async def open(cls, path: str, settings: FrontierSettings, *, clock: Clock) -> SqliteFrontier:
        """Open a file, made if it is absent; ``:memory:`` for none.

        Raises :class:`FrontierUnavailableError` if it is no frontier, of a newer version, cannot
        be written or lies in no folder.
        """
        frontier = cls(path, settings, clock)
        try:
            await frontier._in_thread(frontier._open)
        except FrontierError as error:
            frontier._thread.shutdown()
            raise FrontierUnavailableError(str(error)) from error
        return frontier

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
        self._thread.shutdown()

    def _open(self) -> None:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            oldest = ".".join(map(str, OLDEST_SQLITE))
            raise FrontierUnavailableError(
                f"this Python's SQLite is {sqlite3.sqlite_version}; sqspider needs {oldest} or later"
            )
        self._connection = connection = sqlite3.connect(
            self._path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA foreign_keys = OFF")
            version = connection.execute("PRAGMA user_version").fetchone()[0]
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            is_new = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0
            if not is_new and application != APPLICATION_ID:
                raise FrontierUnavailableError(
                    f"{self._path} is a SQLite database, but not of sqspider: name another file"
                )
            if version > SCHEMA_VERSION:
                raise FrontierUnavailableError(
                    f"{self._path} was written by a newer sqspider (schema {version}, this one knows "
                    f"{SCHEMA_VERSION}): use that version, or name another file"
                )
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA cache_size = -32768")  # KiB: bounded, whatever the file's size
            if is_new:
                self._create(connection)
            elif version < SCHEMA_VERSION:
                self._bring_up_to_date(connection)
            # A file that cannot be written is found out here, not in the middle of a crawl.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            connection.close()
            raise

    def _create(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
            _execute(connection, SCHEMA + SECOND)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")

    def _bring_up_to_date(self, connection: sqlite3.Connection) -> None:
        """Take a file of the first version to the second; dying half-way leaves it as it was."""
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] < SCHEMA_VERSION:  # nobody else has just done it
            _execute(connection, TO_SECOND + SECOND)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")

    async def _in_thread(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._classified, work)

    def _classified(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except sqlite3.Error as error:
            raise _classify(error, self._path) from error

    async def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        return await self._in_thread(lambda: work(self._connection))

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run one write transaction; whatever goes wrong, it has not happened."""

        def transaction() -> T:
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return result

        return await self._in_thread(transaction)

    # Work.

    @property
    def place(self) -> str:
        return f"sqlite:{self._path}"

    @property
    def lag_seconds(self) -> float:
        return 0.0

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
        """Insert records and messages for what is not known; the URLs that were new."""
        by_url: dict[str, Entry] = {}
        for entry in entries:
            by_url.setdefault(entry.url, entry)
        if not by_url:
            return set()
        now = self._clock()
        rows = [
            (
                url,
                host_of(url),
                entry.depth,
                entry.parent,
                self._settings_id(connection, entry),
                entry.lastmod,
            )
            for url, entry in by_url.items()
        ]
        new = connection.execute(
            INSERT_RECORDS, {"entries": json.dumps(rows), "now": now, "due": now + self._settings.due_seconds}
        ).fetchall()
        self._send(connection, (by_url[url].to_message() for (url,) in new), now)
        _count(connection, {"status:queued": len(new)})
        return {url for (url,) in new}

    def _settings_id(self, connection: sqlite3.Connection, entry: Entry) -> int:
        body = encode_settings(entry.settings)
        known = self._settings_ids.get(body)
        if known is None:
            connection.execute("INSERT INTO settings (body) VALUES (?) ON CONFLICT DO NOTHING", (body,))
            known = int(connection.execute("SELECT id FROM settings WHERE body = ?", (body,)).fetchone()[0])
            # Remembered only from a later transaction on: this one may be rolled back.
            if connection.execute("SELECT 1 FROM record WHERE settings = ? LIMIT 1", (known,)).fetchone():
                self._settings_ids[body] = known
        return known

    def _send(self, connection: sqlite3.Connection, messages: Iterable[Message], now: float) -> None:
        rows = [(message.url, host_of(message.url), encode_message(message), now, now) for message in messages]
        connection.executemany(INSERT_MESSAGE, rows)
        _count(connection, {"messages": len(rows)})

    async def send(self, bodies: Sequence[str]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            now = self._clock()
            for sent in bodies:
                body = sent.encode("utf-8", "replace").decode()  # a lone surrogate cannot be stored
                message = decode_message(body)
                url = None if isinstance(message, BadBody) else message.url
                connection.execute(INSERT_MESSAGE, (url, host_of(url) if url else None, body, now, now))
            _count(connection, {"messages": len(bodies)})

        await self._write(work)
        self._sent.set()

    async def receive(self, limit: int, *, wait_seconds: float = 0.0) -> list[Delivery]:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + wait_seconds
        pause, longest = POLL_SECONDS
        while True:
            self._sent.clear()
            next_visible = await self._read(lambda c: c.execute(NEXT_VISIBLE).fetchone()[0])
            if next_visible is not None and next_visible <= self._clock():
                deliveries = await self._write(lambda connection: self._receive(connection, limit))
                if deliveries:
                    return deliveries
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

    def _receive(self, connection: sqlite3.Connection, limit: int) -> list[Delivery]:
        now = self._clock()
        self._receipts += 1
        rows = connection.execute(
            RECEIVE,
            {
                "most": self._settings.max_receives,
                "hidden_until": now + self._settings.visibility_seconds,
                "receipt": f"{self._receipt_prefix}:{self._receipts}",
                "now": now,
                "limit": limit,
            },
        ).fetchall()
        died = sum(row[5] for row in rows)
        _count(connection, {"messages": -died})
        return [
            Delivery(message_id=str(row[0]), receipt=row[1], body=row[2], receive_count=row[3], sent_at=row[4])
            for row in sorted(rows)
            if not row[5]
        ]

    async def claim(
        self, requests: Sequence[ClaimRequest], *, worker_id: str, claim_id: str, lease_seconds: float
    ) -> list[Won | Lost]:
        def work(connection: sqlite3.Connection) -> list[Won | Lost]:
            now = self._clock()
            lease_until = now + lease_seconds
            urls = list(dict.fromkeys(request.message.url for request in requests))
            self._record_missing(connection, urls, requests)
            parameters = {
                "worker": worker_id,
                "claim": claim_id,
                "lease": lease_until,
                "now": now,
                "due": lease_until + self._settings.due_seconds,
                "urls": json.dumps(urls),
            }
            won = {row[0]: row[1:] for row in connection.execute(CLAIM, parameters).fetchall()}
            # A claim that nobody ended was in `processing` before; all others were in `queued`.
            fresh = sum(unended == 1 for _, unended, _ in won.values())
            _count(connection, {"status:queued": -fresh, "status:processing": fresh})
            losers: dict[str, Lost] = {}
            if len(won) < len(urls):
                lost = json.dumps([url for url in urls if url not in won])
                for url, attempt, unended, tries, worker, claim, lease in connection.execute(LOSERS, (lost,)):
                    if lease is None:
                        losers[url] = Lost(url=url, why=LostReason.FINISHED)
                    elif (worker, claim) == (worker_id, claim_id):  # my own, its answer was lost
                        won[url] = (attempt, unended, tries)
                    else:
                        losers[url] = Lost(url=url, why=LostReason.HELD, lease_until=lease)
            answers: list[Won | Lost] = []
            for request in requests:
                url = request.message.url
                if url in losers:
                    answers.append(losers[url])
                    continue
                attempt, unended, tries = won[url]
                answers.append(
                    Won(
                        url=url,
                        attempt=attempt,
                        unended=unended,
                        tries=tries,
                        worker_id=worker_id,
                        claim_id=claim_id,
                        lease_until=lease_until,
                    )
                )
                losers[url] = Lost(url=url, why=LostReason.HELD, lease_until=lease_until)
            return answers

        return await self._write(work)

    def _record_missing(
        self, connection: sqlite3.Connection, urls: list[str], requests: Sequence[ClaimRequest]
    ) -> None:
        """A message whose URL has no record is a way in."""
        known = {url for (url,) in connection.execute(KNOWN, (json.dumps(urls),))}
        if len(known) == len(urls):
            return
        now = self._clock()
        missing = {r.message.url: r.message for r in reversed(requests) if r.message.url not in known}
        rows = [
            (url, host_of(url), m.depth, m.parent, self._settings_id(connection, Entry.of(m)), m.lastmod)
            for url, m in missing.items()
        ]
        connection.execute(
            INSERT_RECORDS, {"entries": json.dumps(rows), "now": now, "due": now + self._settings.due_seconds}
        ).fetchall()
        _count(connection, {"status:queued": len(rows)})

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        def work(connection: sqlite3.Connection) -> list[bool]:
            now = self._clock()
            answers = []
            counters: Counter[str] = Counter()
            hosts: defaultdict[str, list[float]] = defaultdict(lambda: [0, 0, 0, 0, 0.0])
            links: list[Entry] = []
            finished: list[str] = []
            for finish in finishes:
                claim, outcome = finish.claim, finish.outcome
                body = _outcome_encoder.encode(outcome).decode()
                changed = connection.execute(
                    FINISH,
                    (outcome.status, body, now, claim.url, claim.attempt, claim.worker_id, claim.claim_id),
                ).rowcount
                answers.append(changed == 1)
                if not changed:
                    continue
                links.extend(finish.links)
                if finish.delivery is not None:
                    finished.append(claim.url)
                counters[f"status:{outcome.status}"] += 1
                counters["status:processing"] -= 1
                counters["bytes"] += outcome.bytes
                if outcome.reason is not None:
                    counters[f"reason:{outcome.reason}"] += 1
                sums = hosts[host_of(claim.url)]
                sums[_HOST_SUMS[outcome.status]] += 1
                sums[3] += outcome.bytes
                sums[4] += (outcome.elapsed_ms or 0) / 1000
            self._enqueue(connection, links)
            connection.executemany(ADD_TO_HOST, [(host, *sums) for host, sums in hosts.items()])
            # Every message of a finished URL has nothing more to say, duplicates too.
            counters["messages"] -= connection.execute(DELETE_MESSAGES_OF, (json.dumps(finished),)).rowcount
            _count(connection, counters)
            return answers

        answers = await self._write(work)
        self._sent.set()
        return answers

    async def retry(self, retries: Sequence[Retry]) -> list[bool]:
        def work(connection: sqlite3.Connection) -> list[bool]:
            answers = []
            for retry in retries:
                claim = retry.claim
                outcome = _outcome_encoder.encode(retry.outcome).decode() if retry.outcome else None
                due = max(retry.at, self._clock()) + self._settings.due_seconds
                fence = (claim.url, claim.attempt, claim.worker_id, claim.claim_id)
                changed = connection.execute(RETRY, (retry.tried, due, outcome, *fence)).rowcount
                answers.append(changed == 1)
                if changed:
                    delivery = retry.delivery
                    connection.execute(DEFER, (retry.at, None, int(delivery.message_id), delivery.receipt))
            moved = sum(answers)
            _count(connection, {"status:processing": -moved, "status:queued": moved})
            return answers

        answers = await self._write(work)
        self._sent.set()
        return answers

    async def defer(self, deferrals: Sequence[Deferral]) -> None:
        now = self._clock()
        rows = [
            (
                deferral.until if deferral.until > now else now,  # NaN, too, is now
                encode_message(deferral.message) if deferral.message else None,
                int(deferral.delivery.message_id),
                deferral.delivery.receipt,
            )
            for deferral in deferrals
        ]
        await self._write(lambda connection: connection.executemany(DEFER, rows))
        self._sent.set()

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            rows = [(int(delivery.message_id), delivery.receipt) for delivery in deliveries]
            _count(connection, {"messages": -connection.executemany(DELETE, rows).rowcount})

        await self._write(work)

    async def lease_sweep(self, *, until: float, by_schedule: bool = False) -> bool:  # noqa: ARG002 - the port's signature
        return True

    async def sweep(self, limit: int = 1000) -> int:
        def work(connection: sqlite3.Connection) -> int:
            now = self._clock()
            orphans = connection.execute(ORPHANS, {"now": now, "limit": limit}).fetchall()
            messages = [
                Message(url=url, depth=depth, parent=parent, settings=decode_settings(body), lastmod=lastmod)
                for url, depth, parent, body, lastmod, _ in orphans
            ]
            self._send(connection, messages, now)
            due = now + self._settings.due_seconds
            connection.executemany(MOVE_DUE_ON, [(due, message.url) for message in messages])
            return len(messages)

        if not await self._read(lambda c: c.execute(ORPHANS, {"now": self._clock(), "limit": 1}).fetchone()):
            return 0
        released = await self._write(work)
        self._sent.set()
        return released

    # Politeness.

    async def hosts(self, hosts: Sequence[str]) -> dict[str, HostRow]:
        names = json.dumps(hosts)
        rows = await self._read(lambda connection: connection.execute(HOSTS, (names,)).fetchall())
        known = {row[0]: _host_row(row) for row in rows}
        return {host: known.get(host) or HostRow(host=host) for host in hosts}

    async def hosts_in_trouble(self) -> list[HostRow]:
        now = self._clock()
        return [row for row in await self.scan_hosts() if is_in_trouble(row, now)]

    async def scan_hosts(self) -> list[HostRow]:
        rows = await self._read(lambda connection: connection.execute(ALL_HOSTS).fetchall())
        return [_host_row(row) for row in rows]

    async def save_hosts(self, rows: Sequence[HostRow]) -> list[bool]:
        def work(connection: sqlite3.Connection) -> list[bool]:
            now = self._clock()
            answers = []
            for row in rows:
                connection.execute(ADD_HOST, (row.host,))
                first_slot = max(now + delay_of(row), row.rest_until)
                parameters = {**msgspec.structs.asdict(row), "first_slot": first_slot}
                answers.append(connection.execute(SAVE_HOST, parameters).rowcount == 1)
            return answers

        return await self._write(work)

    async def release_host(self, host: str) -> int:
        parameters = {"host": host, "now": self._clock()}
        released = await self._write(lambda connection: connection.execute(RELEASE_HOST, parameters).rowcount)
        self._sent.set()
        return released

    async def reserve(self, demands: Sequence[SlotDemand]) -> list[float | None]:
        def work(connection: sqlite3.Connection) -> list[float | None]:
            slots: list[float | None] = []
            for demand in demands:
                connection.execute(ADD_HOST, (demand.host,))
                parameters = {
                    "now": self._clock(),
                    "length": demand.count * demand.spacing_seconds,
                    "host": demand.host,
                    "generation": demand.generation,
                }
                row = connection.execute(RESERVE, parameters).fetchone()
                slots.append(row[0] if row else None)
            return slots

        return await self._write(work)

    async def enter(self, entrances: Sequence[Entrance]) -> list[Admission]:
        return await self._write(lambda c: [self._admit(c, entrance) for entrance in entrances])

    def _admit(self, connection: sqlite3.Connection, entrance: Entrance) -> Admission:
        now, host = self._clock(), entrance.host
        connection.execute(ADD_HOST, (host,))
        generation, rest_until, last_request, next_slot = connection.execute(
            "SELECT generation, rest_until, last_request, next_slot FROM host WHERE host = ?", (host,)
        ).fetchone()
        if entrance.generation is not None and entrance.generation != generation:
            return Admission(entered=Entered.VOID)
        again_at = max(rest_until, last_request + entrance.delay_seconds)
        if again_at > now:
            return Admission(entered=Entered.BUSY, again_at=again_at)
        connection.execute("DELETE FROM request WHERE host = ? AND until < ?", (host, now))
        under_way, first_end = connection.execute(REQUESTS, (host,)).fetchone()
        if under_way >= entrance.per_host:
            again_at = min(first_end, now + min(max(entrance.delay_seconds / 4, 0.02), 0.5))
            return Admission(entered=Entered.BUSY, again_at=again_at)
        connection.execute(
            "INSERT OR REPLACE INTO request (host, token, until) VALUES (?, ?, ?)",
            (host, entrance.token, entrance.until),
        )
        if entrance.generation is None:
            next_slot = max(now, next_slot) + entrance.delay_seconds
        connection.execute("UPDATE host SET last_request = ?, next_slot = ? WHERE host = ?", (now, next_slot, host))
        return Admission(entered=Entered.YES)

    async def leave(self, exits: Sequence[Exit]) -> None:
        def work(connection: sqlite3.Connection) -> None:
            for end in exits:
                connection.execute("DELETE FROM request WHERE host = ? AND token = ?", (end.host, end.token))
                connection.execute(
                    "UPDATE host SET last_request = max(last_request, ?), "
                    "latency_seconds = 0.7 * latency_seconds + 0.3 * ? WHERE host = ?",
                    (end.requested_at, end.latency_seconds, end.host),
                )

        await self._write(work)

    async def robots(self, origins: Sequence[str]) -> dict[str, RobotsRow]:
        rows = await self._read(
            lambda connection: connection.execute(
                "SELECT origin, row FROM robots WHERE row IS NOT NULL AND origin IN (SELECT value FROM json_each(?))",
                (json.dumps(origins),),
            ).fetchall()
        )
        return {origin: _robots_decoder.decode(zlib.decompress(row)) for origin, row in rows}

    async def lease_robots(self, origin: str, *, until: float) -> bool:
        def work(connection: sqlite3.Connection) -> bool:
            return (
                connection.execute(
                    "INSERT INTO robots (origin, lease_until) VALUES (:origin, :until) "
                    "ON CONFLICT (origin) DO UPDATE SET lease_until = :until WHERE lease_until < :now",
                    {"origin": origin, "until": until, "now": self._clock()},
                ).rowcount
                == 1
            )

        return await self._write(work)

    async def save_robots(self, row: RobotsRow) -> None:
        body = zlib.compress(msgspec.json.encode(row), 1)
        await self._write(
            lambda connection: connection.execute(
                "INSERT INTO robots (origin, row) VALUES (?, ?) "
                "ON CONFLICT (origin) DO UPDATE SET row = excluded.row, lease_until = 0",
                (row.origin, body),
            )
        )

    # Looking.

    async def get(self, urls: Sequence[str]) -> dict[str, UrlRecord]:
        names = json.dumps(urls)
        rows = await self._read(lambda connection: _dicts(connection.execute(GET, (names,))))
        return {row["url"]: _record(row) for row in rows}

    async def scan(self, *, status: Status | None = None, host: str | None = None) -> AsyncIterator[list[UrlRecord]]:
        parameters: dict[str, Any] = {"after": 0, "status": status, "host": host, "limit": SCAN_BATCH}
        while rows := await self._read(lambda connection: _dicts(connection.execute(SCAN, parameters))):
            parameters["after"] = rows[-1]["id"]
            yield [_record(row) for row in rows]

    async def counts(self, *, exact: bool = False) -> Counts:  # noqa: ARG002 - they always are
        rows = await self._read(lambda c: c.execute("SELECT name, number FROM counter").fetchall())
        numbers: dict[str, int] = dict(rows)
        return Counts(
            by_status={status: numbers.get(f"status:{status}", 0) for status in Status},
            by_reason={reason: n for reason in Reason if (n := numbers.get(f"reason:{reason}", 0))},
            bytes=numbers.get("bytes", 0),
        )

    async def queue_stats(self) -> QueueStats:
        return await self._read(self._queue_stats)

    def _queue_stats(self, connection: sqlite3.Connection) -> QueueStats:
        now = self._clock()
        live, in_flight, hidden, dead, oldest = connection.execute(QUEUE_STATS, {"now": now}).fetchone()
        return QueueStats(
            visible=(live or 0) - hidden,
            in_flight=in_flight,
            delayed=hidden - in_flight,
            dead=dead,
            oldest_age_seconds=None if oldest is None else max(0.0, now - oldest),
        )

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        rows = await self._read(lambda connection: connection.execute(DEAD_LETTERS, (limit,)).fetchall())
        return [DeadLetter(message_id=str(row[0]), body=row[1], receive_count=row[2], sent_at=row[3]) for row in rows]

    async def redrive(self, limit: int = 1000) -> int:
        def work(connection: sqlite3.Connection) -> int:
            revived = connection.execute(REDRIVE, {"now": self._clock(), "limit": limit}).rowcount
            _count(connection, {"messages": revived})
            return revived

        revived = await self._write(work)
        self._sent.set()
        return revived

    # Workers.

    async def check_in(self, worker_id: str, *, session: str, ttl_seconds: float) -> bool:
        now = self._clock()
        parameters = {"id": worker_id, "session": session, "now": now, "expires": now + ttl_seconds}
        return await self._write(lambda connection: connection.execute(CHECK_IN, parameters).rowcount == 1)

    async def check_out(self, worker_id: str, *, session: str) -> None:
        await self._write(
            lambda connection: connection.execute(
                "DELETE FROM worker WHERE worker_id = ? AND session = ?", (worker_id, session)
            )
        )

    async def workers(self) -> list[WorkerRow]:
        rows = await self._read(
            lambda connection: connection.execute(
                "SELECT worker_id, started_at, seen_at FROM worker WHERE expires_at >= ? ORDER BY worker_id",
                (self._clock(),),
            ).fetchall()
        )
        return [WorkerRow(worker_id=row[0], started_at=row[1], seen_at=row[2]) for row in rows]

    # What it took, over time.

    async def save_sample(self, sample: Sample) -> None:
        def work(connection: sqlite3.Connection) -> None:
            stats = self._queue_stats(connection)
            body = msgspec.json.encode(sample).decode()
            row = (sample.at, body, stats.visible, stats.in_flight, stats.oldest_age_seconds)
            connection.execute(ADD_SAMPLE, row)
            connection.execute("DELETE FROM sample WHERE at < ?", (sample.at - KEPT_SECONDS,))

        await self._write(work)

    async def points(self, *, since: float, until: float, period_seconds: int) -> list[Point]:
        parameters = {"since": since, "until": until, "period": period_seconds}
        rows = await self._read(lambda connection: _dicts(connection.execute(POINTS, parameters)))
        return [Point(**row) for row in rows]

    async def bill(self) -> None:
        return None

    # Clearing.

    async def purge_queue(self) -> int:
        def work(connection: sqlite3.Connection) -> int:
            removed = connection.execute("DELETE FROM message").rowcount
            connection.execute("DELETE FROM counter WHERE name = 'messages'")
            return removed

        return await self._write(work)

    async def clear_table(self, on_removed: Callable[[int], None] = lambda _: None) -> int:
        def work(connection: sqlite3.Connection) -> int:
            removed = int(connection.execute("SELECT count(*) FROM record").fetchone()[0])
            for table in CLEARED_TABLES:
                connection.execute(f"DELETE FROM {table}")
            connection.execute("DELETE FROM counter WHERE name != 'messages'")
            return removed

        removed = await self._write(work)
        self._settings_ids.clear()
        on_removed(removed)
        return removed


_HOST_SUMS: Final = {Status.DONE: 0, Status.FAILED: 1, Status.BLOCKED: 2}


def _execute(connection: sqlite3.Connection, script: str) -> None:
    """Run the statements of a script inside of the transaction that is open."""
    for statement in script.split(";\n"):
        if statement.strip():
            connection.execute(statement)


def _count(connection: sqlite3.Connection, changes: dict[str, int]) -> None:
    connection.executemany(ADD_TO_COUNTER, [(name, number) for name, number in changes.items() if number])


def _host_row(row: tuple[Any, ...]) -> HostRow:
    values = dict(zip(_HOST_COLUMNS, row, strict=True))
    values["trouble"] = Reason(values["trouble"]) if values["trouble"] else None
    values["is_paused"], values["is_blocked"] = bool(values["is_paused"]), bool(values["is_blocked"])
    return HostRow(**values)


def _dicts(cursor: sqlite3.Cursor) -> list[dict[str, Any]]:
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _record(row: dict[str, Any]) -> UrlRecord:
    return UrlRecord(
        url=row["url"],
        status=Status(row["status"]),
        depth=row["depth"],
        parent=row["parent"],
        host=row["host"],
        lastmod=row["lastmod"],
        attempt=row["attempt"],
        unended=row["unended"],
        tries=row["tries"],
        worker_id=row["worker_id"],
        claim_id=row["claim_id"],
        lease_until=row["lease_until"],
        due_at=row["due_at"],
        enqueued_at=row["enqueued_at"],
        claimed_at=row["claimed_at"],
        finished_at=row["finished_at"],
        outcome=_outcome_decoder.decode(row["outcome"]) if row["outcome"] else None,
    )


def _classify(error: sqlite3.Error, path: str) -> FrontierError:
    """What a fault of SQLite means, and what to do. https://sqlite.org/rescode.html"""
    code = getattr(error, "sqlite_errorname", "") or ""
    if code.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return FrontierBusyError(
            f"{path} was locked by another process for {BUSY_SECONDS:g} s: see what holds it, or try again"
        )
    if code.startswith("SQLITE_NOTADB"):
        return FrontierUnavailableError(f"{path} is no SQLite database: name another file")
    if code.startswith("SQLITE_READONLY"):
        return FrontierUnavailableError(f"{path} cannot be written: see its permissions, or name another file")
    if code.startswith("SQLITE_CANTOPEN"):
        return FrontierUnavailableError(f"{path} cannot be opened: {_why_not_opened(path)}")
    if code.startswith("SQLITE_FULL"):
        return FrontierUnavailableError(
            f"the disk that holds {path} is full: make room and go on with the same command; nothing is lost"
        )
    if code.startswith("SQLITE_CORRUPT"):
        return FrontierUnavailableError(f"{path} is damaged ({error}): restore it, or name another file")
    if code.startswith("SQLITE_IOERR"):
        return FrontierUnavailableError(f"reading or writing {path} failed ({error}, {code}): see the disk")
    return FrontierError(f"{path}: {error} ({code or type(error).__name__})")


def _why_not_opened(path: str) -> str:
    folder = os.path.dirname(os.path.abspath(path))
    if os.path.isdir(path):
        return "it is a folder; name a file"
    if not os.path.isdir(folder):
        return f"there is no folder {folder}"
    return "see its permissions and those of its folder"
