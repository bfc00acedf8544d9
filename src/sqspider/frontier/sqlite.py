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
import zlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeVar

import msgspec

from sqspider.frontier import (
    CHANCE,
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
    Won,
    WorkerRow,
)
from sqspider.frontier.sqlite_file import (
    Identity,
    classify,
    damaged,
    identity_of,
    leave_no_log,
    open_to_look,
    open_to_work,
)
from sqspider.frontier.sqlite_rows import (
    HOST_COLUMNS,
    Parameters,
    dicts,
    host_row,
    letter_row,
    record_of,
    robots_row,
    worker_row,
)
from sqspider.host import SUMS, HostRow, HostState, entered, is_in_trouble, left, reserved, saved, sums_of
from sqspider.message import (
    BadBody,
    Message,
    decode_message,
    decode_settings,
    encode_message,
    encode_settings,
)
from sqspider.metrics import COUNTED, KEPT_SECONDS, Point, Sample
from sqspider.record import Reason, Status, UrlRecord
from sqspider.url import host_of

T = TypeVar("T")

SCAN_BATCH: Final = 1000
STEP: Final = 1000  # rows that one transaction of a longer piece of work looks at, before others get their turn
LONGEST_LOOK_AGAIN_SECONDS: Final = 3600.0  # between two looks at a record whose message waits
POLL_SECONDS: Final = (0.02, 0.25)  # between two looks for messages of other processes

# The statements. One that reads a table which grows names its index: should that not serve, SQLite refuses
# to prepare it, instead of reading the whole table. `tests/frontier/test_sqlite_plans.py` knows each by its name.

FIND_SETTINGS: Final = "SELECT id FROM settings WHERE body = ?"
ADD_SETTINGS: Final = "INSERT INTO settings (body) VALUES (?)"
ADD_SAMPLE: Final = "INSERT INTO sample (at, sample, visible, in_flight, oldest_age) VALUES (?, ?, ?, ?, ?)"
END_OLD_SAMPLES: Final = "DELETE FROM sample INDEXED BY sample_at WHERE at < ?"
POINTS: Final = f"""
SELECT
    CAST(at / :period AS INTEGER) * :period AS at, avg(visible) AS visible, avg(in_flight) AS in_flight,
    max(oldest_age) AS oldest_age_seconds, {", ".join(f"sum(sample ->> '{name}') AS {name}" for name in COUNTED)},
    sum(sample ->> 'fetch_seconds') / nullif(sum(sample ->> 'fetches'), 0) AS fetch_seconds
FROM sample INDEXED BY sample_at WHERE at >= :since AND at < :until GROUP BY 1 ORDER BY 1
"""

# Batches go in as one JSON array, so that each is one statement.

INSERT_RECORDS: Final = """
INSERT INTO record (url, status, host, depth, parent, settings, redirects, lastmod, enqueued_at, due_at)
SELECT
    e.value ->> 0, 'queued', e.value ->> 1, e.value ->> 2, e.value ->> 3, e.value ->> 4, e.value ->> 5, e.value ->> 6,
    :now, :due
FROM json_each(:entries) AS e WHERE true
ON CONFLICT (url) DO NOTHING
RETURNING url
"""
INSERT_MESSAGE: Final = "INSERT INTO message (url, host, body, sent_at, visible_at) VALUES (?, ?, ?, ?, ?)"
# What was deferred has a slot that is good for its moment only: behind a long backlog it would lose it.
# A column of what is returned has no affinity: without the CAST the index would be read from end to end.
RECEIVE: Final = """
UPDATE message NOT INDEXED SET
    receive_count = receive_count + (receive_count < :most),
    is_dead = receive_count >= :most,
    visible_at = :hidden_until,
    receipt = :receipt || ':' || id
WHERE id IN (
    SELECT id FROM (
        SELECT id FROM message INDEXED BY message_visible
        WHERE is_dead = 0 AND is_deferred = 1 AND visible_at <= :now ORDER BY visible_at, id LIMIT :limit
    )
    UNION ALL
    SELECT id FROM (
        SELECT id FROM message INDEXED BY message_visible
        WHERE is_dead = 0 AND is_deferred = 0 AND visible_at <= :now ORDER BY visible_at, id LIMIT :limit
    )
    LIMIT :limit
)
RETURNING id, receipt, body, receive_count, sent_at, is_dead,
    EXISTS (
        SELECT 1 FROM record INDEXED BY sqlite_autoindex_record_1
        WHERE record.url = CAST(message.url AS TEXT) AND record.lease_until IS NULL
    )
"""
NEXT_VISIBLE: Final = """
SELECT min(at) FROM (
    SELECT min(visible_at) AS at FROM message INDEXED BY message_visible WHERE is_dead = 0 AND is_deferred = 0
    UNION ALL SELECT min(visible_at) FROM message INDEXED BY message_visible WHERE is_dead = 0 AND is_deferred = 1
)
"""
CLAIM: Final = """
UPDATE record INDEXED BY sqlite_autoindex_record_1 SET
    status = 'processing', attempt = attempt + 1, unended = unended + 1, worker_id = :worker,
    claim_id = :claim, lease_until = :lease, claimed_at = :now, due_at = :due
WHERE url IN (SELECT value FROM json_each(:urls)) AND lease_until < :now
RETURNING url, attempt, unended, tries
"""
LOSERS: Final = """
SELECT url, attempt, unended, tries, worker_id, claim_id, lease_until
FROM record INDEXED BY sqlite_autoindex_record_1 WHERE url IN (SELECT value FROM json_each(?))
"""
KNOWN: Final = (
    "SELECT url FROM record INDEXED BY sqlite_autoindex_record_1 WHERE url IN (SELECT value FROM json_each(?))"
)
FINISH: Final = """
UPDATE record INDEXED BY sqlite_autoindex_record_1 SET
    status = ?, outcome = ?, finished_at = ?, lease_until = NULL, due_at = NULL, unended = 0
WHERE url = ? AND attempt = ? AND worker_id = ? AND claim_id = ? AND status = 'processing'
"""
DELETE_MESSAGES_OF: Final = """
DELETE FROM message INDEXED BY message_url WHERE url IN (SELECT value FROM json_each(?)) AND is_dead = 0
"""
RETRY: Final = """
UPDATE record INDEXED BY sqlite_autoindex_record_1 SET
    status = 'queued', lease_until = 0, unended = CASE WHEN ? THEN unended - 1 ELSE 0 END,
    tries = tries + ?, due_at = ?, outcome = coalesce(?, outcome)
WHERE url = ? AND attempt = ? AND worker_id = ? AND claim_id = ? AND status = 'processing'
"""
DEFER: Final = """
UPDATE message NOT INDEXED SET
    visible_at = ?, body = coalesce(?, body), receipt = NULL, receive_count = 0, is_deferred = 1
WHERE id = ? AND receipt = ?
"""
DELETE: Final = "DELETE FROM message NOT INDEXED WHERE id = ? AND receipt = ?"
# A record past its time is an orphan if no message for it waits; dead letters do not wait. What a sweep sends is
# claimed by its URL: a record that its own URL does not lead to, or that no claim can win, has no way back.
PAST_DUE: Final = """
SELECT r.id, EXISTS (
    SELECT 1 FROM message AS m INDEXED BY message_url WHERE m.url = r.url AND m.is_dead = 0
)
FROM record AS r INDEXED BY record_due WHERE r.due_at < :before ORDER BY r.due_at LIMIT :limit
"""
ORPHANS: Final = """
SELECT r.id, r.url, r.depth, r.parent, s.body, r.redirects, r.lastmod, r.lease_until IS NOT NULL AND r.id IS (
    SELECT found.id FROM record AS found INDEXED BY sqlite_autoindex_record_1 WHERE found.url = r.url
)
FROM json_each(?) AS e CROSS JOIN record AS r NOT INDEXED ON r.id = e.value
LEFT JOIN settings AS s NOT INDEXED ON s.id = r.settings
"""
MOVE_DUE_ON: Final = """
UPDATE record NOT INDEXED SET due_at = :now + max(:seconds, min(:now - enqueued_at - :seconds, :longest))
WHERE id = :id
"""
# After every message is gone, what was moved on while one waited is due as if it had just been recorded.
MOVED_ON: Final = "SELECT id FROM record INDEXED BY record_due WHERE due_at > ? AND lease_until = 0 LIMIT ?"
MOVE_DUE_UP: Final = "UPDATE record NOT INDEXED SET due_at = ? WHERE id = ?"
COUNTERS: Final = "SELECT name, number FROM counter"
GENERATION: Final = "SELECT number FROM counter WHERE name = 'generation'"
ADD_TO_COUNTER: Final = """
INSERT INTO counter (name, number) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET number = number + excluded.number
"""
ADD_TO_HOST: Final = f"""
INSERT INTO host (host, {", ".join(SUMS)}) VALUES (:host, {", ".join(f":{name}" for name in SUMS)})
ON CONFLICT (host) DO UPDATE SET {", ".join(f"{name} = {name} + excluded.{name}" for name in SUMS)}
"""
HOSTS: Final = f"SELECT {', '.join(HOST_COLUMNS)} FROM host WHERE host IN (SELECT value FROM json_each(?))"
ALL_HOSTS: Final = f"SELECT {', '.join(HOST_COLUMNS)} FROM host ORDER BY host"
ADD_HOST: Final = "INSERT INTO host (host) VALUES (?) ON CONFLICT DO NOTHING"
SAVE_HOST: Final = f"""
UPDATE host SET {", ".join(f"{name} = :{name}" for name in HOST_COLUMNS if name != "host")} WHERE host = :host
"""
BEGIN_REQUEST: Final = "INSERT OR REPLACE INTO request (host, token, until) VALUES (?, ?, ?)"
END_REQUEST: Final = "DELETE FROM request WHERE host = ? AND token = ?"
REQUESTS: Final = "SELECT token, until FROM request WHERE host = ?"
ROBOTS: Final = "SELECT origin, row FROM robots WHERE row IS NOT NULL AND origin IN (SELECT value FROM json_each(?))"
LEASE_ROBOTS: Final = """
INSERT INTO robots (origin, lease_until) VALUES (:origin, :until)
ON CONFLICT (origin) DO UPDATE SET lease_until = :until WHERE lease_until < :now
"""
SAVE_ROBOTS: Final = """
INSERT INTO robots (origin, row) VALUES (?, ?) ON CONFLICT (origin) DO UPDATE SET row = excluded.row, lease_until = 0
"""
# There is no index by host, but one by URL, and the URLs of a host lie together there.
MESSAGES_OF_HOST: Final = """
SELECT id, url, host = :host AND is_dead = 0 AND receipt IS NULL AND visible_at > :now
FROM message INDEXED BY message_url WHERE url >= :after AND url < :end AND (url > :after OR id > :after_id)
ORDER BY url, id LIMIT :limit
"""
RELEASE: Final = """
UPDATE message NOT INDEXED SET visible_at = :now
WHERE id IN (SELECT value FROM json_each(:ids)) AND is_dead = 0 AND receipt IS NULL AND visible_at > :now
"""
GET: Final = "SELECT * FROM record INDEXED BY sqlite_autoindex_record_1 WHERE url IN (SELECT value FROM json_each(?))"
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
    (SELECT count(*) FROM message INDEXED BY message_visible
        WHERE is_dead = 0 AND is_deferred IN (0, 1) AND visible_at > :now),
    (SELECT count(*) FROM message INDEXED BY message_visible WHERE is_dead = 1),
    (SELECT sent_at FROM message NOT INDEXED WHERE is_dead = 0 ORDER BY id LIMIT 1)
"""
# In the order in which they died: `visible_at` is not touched after that.
DEAD_LETTERS: Final = """
SELECT id, body, receive_count, sent_at, visible_at FROM message INDEXED BY message_visible
WHERE is_dead = 1 AND is_deferred = 0
UNION ALL
SELECT id, body, receive_count, sent_at, visible_at FROM message INDEXED BY message_visible
WHERE is_dead = 1 AND is_deferred = 1
ORDER BY visible_at, id LIMIT ?
"""
REDRIVE: Final = """
UPDATE message NOT INDEXED SET is_dead = 0, receive_count = 0, receipt = NULL, visible_at = :now
WHERE id IN (SELECT id FROM message INDEXED BY message_visible WHERE is_dead = 1 LIMIT :limit)
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
PURGE: Final = "DELETE FROM message"
PURGE_COUNTER: Final = "DELETE FROM counter WHERE name = 'messages'"
CLEAR_RECORDS: Final = "DELETE FROM record"
CLEAR_THE_REST: Final = (
    "DELETE FROM settings",
    "DELETE FROM host",
    "DELETE FROM request",
    "DELETE FROM robots",
    "DELETE FROM sample",
    "DELETE FROM counter WHERE name NOT IN ('messages', 'generation')",
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
    """A record without a message."""

    url: str
    message: Message | None  # what brings it back; none: nothing does


_outcome_encoder = msgspec.json.Encoder()


class SqliteFrontier:
    """The :class:`~sqspider.frontier.Frontier` in a SQLite file. Made by :meth:`open`."""

    def __init__(
        self,
        path: str,
        settings: FrontierSettings,
        *,
        clock: Clock,
        rng: random.Random = CHANCE,
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
        self._receipts = 0
        self._receipt_prefix = f"{rng.getrandbits(48):012x}"
        self.generation = 0

    @classmethod
    async def open(
        cls,
        path: str,
        settings: FrontierSettings,
        *,
        clock: Clock,
        rng: random.Random = CHANCE,
        runner: Runner | None = None,
        looking: bool = False,
    ) -> SqliteFrontier:
        """Open a file, made if it is absent; ``:memory:`` for none. See :mod:`sqspider.frontier.sqlite_file`.

        ``runner`` runs what waits for the disk; none: a thread. ``looking``: nothing will be written; the
        file must be there. Raises :class:`FrontierUnavailableError` if it is no frontier, of another
        version, damaged, or cannot be opened or written.
        """
        frontier = cls(path, settings, clock=clock, rng=rng, runner=runner)
        try:
            await frontier._in_thread(lambda: frontier._open(open_to_look if looking else open_to_work))
        except FrontierError as error:
            frontier._runner.close()
            raise FrontierUnavailableError(str(error)) from error
        return frontier

    def _open(self, opener: Callable[[str], sqlite3.Connection]) -> None:
        self._connection = opener(self._path)
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
        new = self._record(connection, by_url.values(), now)
        self._send(connection, (by_url[url].to_message() for url in new), now)
        return set(new)

    def _record(self, connection: sqlite3.Connection, entries: Iterable[Entry], now: float) -> list[str]:
        """Insert records for what is not known; the URLs that were new."""
        settings_ids: dict[str, int] = {}  # for this transaction: another process may clear the table after it
        rows = []
        for entry in entries:
            settings = encode_settings(entry.settings)
            if settings not in settings_ids:
                settings_ids[settings] = _settings_id(connection, settings)
            host = host_of(entry.url)
            known = (entry.depth, entry.parent, settings_ids[settings], entry.redirects, entry.lastmod)
            rows.append((entry.url, host, *known))
        parameters = {"entries": json.dumps(rows), "now": now, "due": now + self._settings.due_seconds}
        new = [url for (url,) in connection.execute(INSERT_RECORDS, parameters)]
        _count(connection, {"status:queued": len(new)})
        return new

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
            next_visible = await self._read(self._next_visible)
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

    def _next_visible(self, connection: sqlite3.Connection) -> float | None:
        self._see_generation(connection)
        at: float | None = connection.execute(NEXT_VISIBLE).fetchone()[0]
        return at

    def _see_generation(self, connection: sqlite3.Connection) -> None:
        found = connection.execute(GENERATION).fetchone()
        self.generation = found[0] if found else 0

    def _receive(self, connection: sqlite3.Connection, limit: int) -> list[Delivery]:
        self._see_generation(connection)
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
            Delivery(
                message_id=str(row[0]),
                receipt=row[1],
                body=row[2],
                receive_count=row[3],
                sent_at=row[4],
                is_finished=bool(row[6]),
            )
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
            for url in (request.message.url for request in requests):
                if url not in losers:
                    answers.append(self._won(url, won.get(url), worker_id, claim_id, lease_until))
                    losers[url] = Lost(url=url, why=LostReason.HELD, lease_until=lease_until)
                else:
                    answers.append(losers[url])
            return answers

        return await self._write(work)

    def _won(self, url: str, numbers: tuple[Any, ...] | None, worker_id: str, claim_id: str, lease_until: float) -> Won:
        """A claim, from what its record says. Raises where the record is damaged: then it is nobody's to work on."""
        if numbers is None:
            raise damaged(self._path, f"the URL {url} leads to the record of another one")
        fields = dict(zip(("attempt", "unended", "tries"), numbers, strict=True))
        fence = {"worker_id": worker_id, "claim_id": claim_id, "lease_until": lease_until}
        try:
            return msgspec.convert({"url": url, **fields, **fence}, Won)
        except msgspec.ValidationError as error:
            raise damaged(self._path, f"the record of {url} says {fields} ({error})") from None

    def _record_missing(
        self, connection: sqlite3.Connection, urls: list[str], requests: Sequence[ClaimRequest]
    ) -> None:
        """A message whose URL has no record is a way in."""
        known = {url for (url,) in connection.execute(KNOWN, (json.dumps(urls),))}
        if len(known) == len(urls):
            return
        missing = {r.message.url: r.message for r in reversed(requests) if r.message.url not in known}
        self._record(connection, map(Entry.of, missing.values()), self._clock())

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        def work(connection: sqlite3.Connection) -> list[bool]:
            now = self._clock()
            answers = []
            counters: Counter[str] = Counter()
            hosts: defaultdict[str, dict[str, float]] = defaultdict(lambda: dict.fromkeys(SUMS, 0))
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
                counters["redirects"] += outcome.is_redirect
                if outcome.reason is not None:
                    counters[f"reason:{outcome.reason}"] += 1
                sums = hosts[host_of(claim.url)]
                for name, number in sums_of(outcome).items():
                    sums[name] += number
            self._enqueue(connection, links)
            connection.executemany(ADD_TO_HOST, [{"host": host, **sums} for host, sums in hosts.items()])
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
                changed = connection.execute(RETRY, (retry.is_unused, retry.tried, due, outcome, *fence)).rowcount
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
        """Look at some records that are past their time, and move them on; how many were released."""
        looked_at = connection.execute(PAST_DUE, _due(now, STEP)).fetchall()
        missing = [record for record, has_message in looked_at if not has_message][:limit]
        orphans = _orphans(connection, missing)
        messages = [orphan.message for orphan in orphans if orphan.message is not None]
        self._send(connection, messages, now)
        # What waits long is looked at ever more seldom. What does not wait is looked at again as soon as ever.
        for records, longest in (
            ([record for record, has_message in looked_at if has_message], LONGEST_LOOK_AGAIN_SECONDS),
            (missing, 0.0),
        ):
            seconds = self._settings.due_seconds
            moves = [{"id": record, "now": now, "seconds": seconds, "longest": longest} for record in records]
            connection.executemany(MOVE_DUE_ON, moves)
        return len(messages)

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
        def work(connection: sqlite3.Connection) -> list[Any]:
            self._see_generation(connection)
            return connection.execute(HOSTS, (json.dumps(hosts),)).fetchall()

        known = {row.host: row for row in self._host_rows(await self._read(work))}
        return {host: known.get(host) or HostRow(host=host) for host in hosts}

    async def hosts_in_trouble(self) -> list[HostRow]:
        now = self._clock()
        return [row for row in await self.scan_hosts() if is_in_trouble(row, now)]

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
        return await self._change_hosts([(row.host, partial(saved, row=row, now=self._clock())) for row in rows])

    async def _change_hosts(self, changes: Sequence[tuple[str, Callable[[HostState], tuple[HostState, T]]]]) -> list[T]:
        def work(connection: sqlite3.Connection) -> list[T]:
            answers = []
            for host, change in changes:
                old = self._host_state(connection, host)
                new, answer = change(old)
                answers.append(answer)
                if new.row is not old.row:
                    connection.execute(ADD_HOST, (host,))
                    connection.execute(SAVE_HOST, msgspec.structs.asdict(new.row))
                for token in old.requests.keys() - new.requests.keys():
                    connection.execute(END_REQUEST, (host, token))
                for token in new.requests.keys() - old.requests.keys():
                    connection.execute(BEGIN_REQUEST, (host, token, new.requests[token]))
            return answers

        return await self._write(work)

    def _host_state(self, connection: sqlite3.Connection, host: str) -> HostState:
        rows = self._host_rows(connection.execute(HOSTS, (json.dumps([host]),)).fetchall())
        requests = dict(connection.execute(REQUESTS, (host,)).fetchall())
        return HostState(row=rows[0] if rows else HostRow(host=host), requests=requests)

    async def release_host(self, host: str) -> int:
        now, released = self._clock(), 0
        # A URL may write its host with a dot at the end.
        for origin in (f"{scheme}://{host}{dot}" for scheme in ("http", "https") for dot in ("", ".")):
            # A path or a port comes next: "/" to ":", in the order of characters.
            place = {"after": f"{origin}/", "after_id": 0, "end": f"{origin};"}
            while rows := await self._rows(MESSAGES_OF_HOST, {**place, "host": host, "now": now, "limit": STEP}):
                place["after_id"], place["after"], _ = rows[-1]
                if put_off := [message for message, _, is_put_off in rows if is_put_off]:
                    released += await self._change(RELEASE, {"ids": json.dumps(put_off), "now": now})
        self._sent.set()
        return released

    async def reserve(self, demands: Sequence[SlotDemand]) -> list[float | None]:
        return await self._change_hosts([(d.host, partial(reserved, demand=d, now=self._clock())) for d in demands])

    async def enter(self, entrances: Sequence[Entrance]) -> list[Admission]:
        return await self._change_hosts([(e.host, partial(entered, entrance=e, now=self._clock())) for e in entrances])

    async def leave(self, exits: Sequence[Exit]) -> None:
        await self._change_hosts([(end.host, partial(left, end=end)) for end in exits])

    async def robots(self, origins: Sequence[str]) -> dict[str, RobotsRow]:
        rows = await self._rows(ROBOTS, (json.dumps(origins),))
        known = {origin: robots_row(packed) for origin, packed in rows}
        return {origin: row for origin, row in known.items() if row is not None}

    async def lease_robots(self, origin: str, *, until: float) -> bool:
        parameters = {"origin": origin, "until": until, "now": self._clock()}
        return await self._change(LEASE_ROBOTS, parameters) == 1

    async def save_robots(self, row: RobotsRow) -> None:
        body = zlib.compress(msgspec.json.encode(row), 1)
        await self._change(SAVE_ROBOTS, (row.origin, body))

    # Looking.

    async def get(self, urls: Sequence[str]) -> dict[str, UrlRecord]:
        parameters = (json.dumps(urls),)
        rows = await self._read(lambda connection: dicts(connection, GET, parameters))
        return {record.url: record for record in map(record_of, rows)}

    async def scan(self, *, status: Status | None = None, host: str | None = None) -> AsyncIterator[list[UrlRecord]]:
        parameters: dict[str, Any] = {"after": 0, "status": status, "host": host, "limit": SCAN_BATCH}
        while rows := await self._read(lambda connection: dicts(connection, SCAN, parameters)):
            parameters["after"] = rows[-1]["id"]
            yield [record_of(row) for row in rows]

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
        live, in_flight, hidden, dead, oldest = msgspec.convert(row, tuple[int | None, int, int, int, float | None])
        return QueueStats(
            visible=(live or 0) - hidden,
            in_flight=in_flight,
            delayed=hidden - in_flight,
            dead=dead,
            oldest_age_seconds=None if oldest is None else max(0.0, now - oldest),
        )

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        rows = await self._rows(DEAD_LETTERS, (limit,))
        return self._whole(letter_row, rows, "message")

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
        return await self._change(CHECK_IN, parameters) == 1

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
        def work(connection: sqlite3.Connection) -> int:
            removed = connection.execute(PURGE).rowcount
            connection.execute(PURGE_COUNTER)
            return removed

        def move_up(connection: sqlite3.Connection) -> int:
            moved_on = connection.execute(MOVED_ON, (due, STEP)).fetchall()
            return connection.executemany(MOVE_DUE_UP, [(due, record) for (record,) in moved_on]).rowcount

        removed = await self._write(work)
        due = self._clock() + self._settings.due_seconds
        while await self._write(move_up) > 0:
            pass
        return removed

    async def clear_table(self, on_removed: Callable[[int], None] = lambda _: None) -> int:
        def work(connection: sqlite3.Connection) -> int:
            removed = connection.execute(CLEAR_RECORDS).rowcount
            for statement in CLEAR_THE_REST:
                connection.execute(statement)
            _count(connection, {"generation": 1})
            return removed

        removed = await self._write(work)
        on_removed(removed)
        return removed


def _due(before: float, limit: int) -> dict[str, float]:
    return {"before": before, "limit": limit}


def _orphans(connection: sqlite3.Connection, records: Sequence[int]) -> list[_Orphan]:
    """Records that have no message, by their ids, with what would bring them back."""
    orphans = []
    for _, url, depth, parent, body, redirects, lastmod, is_found in connection.execute(
        ORPHANS, (json.dumps(records),)
    ):
        message = None
        with contextlib.suppress(msgspec.MsgspecError, TypeError):  # its settings are gone or damaged
            if is_found:
                settings = decode_settings(body)
                message = Message(
                    url=url, depth=depth, parent=parent, settings=settings, redirects=redirects, lastmod=lastmod
                )
        orphans.append(_Orphan(url, message))
    return orphans


def _sums(connection: sqlite3.Connection) -> dict[str, int]:
    """The sums that are kept, by name. Raises ``msgspec.ValidationError`` for one that is no number."""
    return msgspec.convert(dict(connection.execute(COUNTERS).fetchall()), dict[str, int])


def _left(connection: sqlite3.Connection) -> int:
    """How many records are open, by the sums."""
    numbers = _sums(connection)
    return sum(numbers.get(f"status:{status}", 0) for status in Status if not status.is_final)


def _lost(connection: sqlite3.Connection) -> list[str] | None:
    """The URLs that are not finished, if nothing brings any of them back; none if something does."""
    if connection.execute(NEXT_VISIBLE).fetchone()[0] is not None:
        return None
    lost: list[str] = []
    due = connection.execute(PAST_DUE, _due(math.inf, -1))  # no limit: the first that has a way back ends it
    while some := due.fetchmany(STEP):
        # None waits by the index that messages are received by: one that is there all the same never comes.
        missing = [record for record, has_message in some if not has_message]
        if any(orphan.message is not None for orphan in _orphans(connection, missing)):
            return None
        lost += [orphan.url for orphan in _orphans(connection, [record for record, _ in some])]
    return lost


def _settings_id(connection: sqlite3.Connection, body: str) -> int:
    found = connection.execute(FIND_SETTINGS, (body,)).fetchone()
    return int(found[0]) if found else int(connection.execute(ADD_SETTINGS, (body,)).lastrowid or 0)


def _count(connection: sqlite3.Connection, changes: dict[str, int]) -> None:
    connection.executemany(ADD_TO_COUNTER, [(name, number) for name, number in changes.items() if number])
