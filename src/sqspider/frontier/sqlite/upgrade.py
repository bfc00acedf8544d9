"""Brings a frontier's file of an older version up to date, in one transaction.

In the first two a record, its message and the text of both lay in two tables; since then they are one row. The third
knew no crawls with rows of their own, and kept no outlinks: it gets the tables for them. What was recorded stays loose,
and goes by its own settings. The fourth knew no archive: whoever works with it would leave a capture where another
visit has made its own. Whoever is killed on the way leaves the file as it was.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from sqspider.frontier.sqlite.captures import CaptureFiles
from sqspider.frontier.sqlite.keys import key_of
from sqspider.frontier.sqlite.rows import (
    FRESH,
    IN_FLIGHT,
    NO_OUTCOME,
    PUT_OFF,
    STATUS_NUMBERS,
    PackedOutcome,
    dicts,
    pack,
)
from sqspider.frontier.sqlite.schema import SCHEMA, statements_of
from sqspider.frontier.values import FrontierUnavailableError
from sqspider.log import get_logger
from sqspider.record import decode_outcome
from sqspider.url import host_of

STEP: Final = 10_000  # rows between two looks at the time
SAID_AFTER_SECONDS: Final = 2.0  # nobody needs to hear of less
SAID_EVERY_SECONDS: Final = 5.0
ROOM: Final = 1.3  # times the size of the file, for what is written anew before the old is given up
AHEAD_SECONDS: Final = 60.0  # a worker that was seen later than this is none: the clock was put back

log = get_logger(__name__)

TABLES: Final = ("settings", "record", "message", "counter", "host", "request", "robots", "worker", "sample")
OLD_INDEXES: Final = ("record_due", "sent_visible", "message_in_flight", "sample_at")
FIRST_HAS_NOT: Final = (
    "CREATE TABLE sample (at, sample, visible, in_flight, oldest_age)",
    "ALTER TABLE message ADD COLUMN is_deferred INTEGER NOT NULL DEFAULT 0",
)
FOURTH_HAD_NOT: Final = "ALTER TABLE worker ADD COLUMN barred TEXT"
THIRD_HAS_NOT: Final = (
    "ALTER TABLE crawl ADD COLUMN name TEXT",
    "ALTER TABLE crawl ADD COLUMN row TEXT",
    "ALTER TABLE record ADD COLUMN meta TEXT",
    "DROP VIEW urls",
)
NEW_IN_FOURTH: Final = (
    " INDEX crawl_name ", " INDEX record_aside ", " TABLE seed ", " TABLE run ", " TABLE outlinks ", " VIEW urls ",
)  # fmt: skip
NEW_IN_FIFTH: Final = (" TABLE capture_file ",)
AT_WORK: Final = "SELECT worker_id FROM worker WHERE expires_at >= :now AND seen_at <= :now + :ahead ORDER BY worker_id"
RECORDS: Final = """
SELECT r.*, p.id AS parent_id, m.id AS message, m.visible_at, m.receive_count, m.receipt, m.is_deferred,
    CASE WHEN json_valid(m.body) THEN m.body ->> 'slot' END AS slot,
    CASE WHEN json_valid(m.body) THEN m.body ->> 'generation' END AS slot_generation
FROM old_record AS r
LEFT JOIN old_record AS p ON p.url = r.parent
LEFT JOIN old_message AS m ON m.id = (
    SELECT min(x.id) FROM old_message AS x INDEXED BY message_url WHERE x.url = r.url AND x.is_dead = 0
)
WHERE r.id > ? ORDER BY r.id LIMIT ?
"""
COLUMNS: Final = (
    "id", "key", "crawl", "status", "queue", "depth", "parent", "url", "enqueued_at", "visible_at", "receives",
    "attempt", "unended", "tries", "lease_until", "worker_id", "claim_id", "due_at", "slot", "slot_generation",
    "lastmod", "claimed_at", "finished_at", "outcome", "digest", "redirect_to", "capture",
)  # fmt: skip
ADD_RECORD: Final = f"INSERT INTO record ({', '.join(COLUMNS)}) VALUES ({', '.join(f':{name}' for name in COLUMNS)})"
# The first message that waits for a record became its place. Dead letters, copies, and what has no record stay.
MESSAGES: Final = """
SELECT m.* FROM old_message AS m WHERE m.id > :after AND m.id <= :last AND (
    m.is_dead = 1 OR m.url IS NULL OR NOT EXISTS (SELECT 1 FROM old_record AS r WHERE r.url = m.url) OR EXISTS (
        SELECT 1 FROM old_message AS x INDEXED BY message_url WHERE x.url = m.url AND x.is_dead = 0 AND x.id < m.id
    )
)
ORDER BY m.id
"""
ADD_MESSAGE: Final = """
INSERT INTO sent (id, key, url, body, sent_at, queue, visible_at, receives) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
RECORD_IDS: Final = "SELECT coalesce(min(id), 1) - 1, coalesce(max(id), 0) FROM old_record"
MESSAGE_IDS: Final = "SELECT coalesce(min(id), 1) - 1, coalesce(max(id), 0) FROM old_message"
NEXT_MESSAGE: Final = "SELECT min(id) FROM old_message WHERE id > ?"
HOST_COLUMNS: Final = (
    "host, version, generation, next_slot, last_request, latency_seconds, delay_seconds, crawl_delay_seconds, "
    "penalty_seconds, penalty_since, rest_until, failures, trouble, is_paused, is_blocked, done, failed, blocked, "
    "bytes, busy_seconds"
)
# Whether a host ever answered was not counted: one that gave a page has.
THE_REST: Final = (
    "INSERT INTO crawl (id, settings) SELECT id, body FROM old_settings",
    f"""
    INSERT INTO host ({HOST_COLUMNS}, answered, was_in_trouble)
    SELECT {HOST_COLUMNS}, done, trouble IS NOT NULL OR rest_until > 0 OR penalty_seconds > 0 FROM old_host
    """,
    "INSERT INTO request (host, token, until) SELECT host, token, until FROM old_request",
    "INSERT INTO robots (origin, lease_until, row) SELECT origin, lease_until, row FROM old_robots",
    """
    INSERT INTO worker (worker_id, session, started_at, seen_at, expires_at)
    SELECT worker_id, session, started_at, seen_at, expires_at FROM old_worker
    """,
    """
    INSERT INTO sample (at, sample, visible, in_flight, oldest_age)
    SELECT at, sample, visible, in_flight, oldest_age FROM old_sample
    """,
    "INSERT INTO counter (name, number) SELECT name, number FROM old_counter",
    "INSERT INTO counter (name, number) SELECT 'put_off', count(*) FROM record WHERE queue = 1",
    "INSERT INTO counter (name, number) SELECT 'dead', count(*) FROM sent WHERE visible_at IS NULL",
)


def upgrade(connection: sqlite3.Connection, path: str, version: int, now: float) -> None:
    """Make the tables of this version of those of an older one, in the transaction that is open.

    Raises :class:`FrontierUnavailableError` while a worker of the older version is at work there, or if the disk has
    no room for both.
    """
    _refuse_workers(connection, path, now)
    if version in (3, 4):
        third = (*THIRD_HAS_NOT, *_made_by_schema(NEW_IN_FOURTH)) if version == 3 else ()
        for statement in (*third, *_made_by_schema(NEW_IN_FIFTH)):
            connection.execute(statement)
        _Progress(path).end()
        return
    _refuse_without_room(path)
    for statement in FIRST_HAS_NOT if version == 1 else ():
        connection.execute(statement)
    for index in OLD_INDEXES:
        connection.execute(f"DROP INDEX IF EXISTS {index}")
    for table in TABLES:
        connection.execute(f"ALTER TABLE {table} RENAME TO old_{table}")
    indexes = _made_by_schema((" INDEX record_",))
    for statement in statements_of(SCHEMA):
        if statement not in indexes:
            connection.execute(statement)
    progress, files = _Progress(path), CaptureFiles(connection)
    _move(connection, RECORD_IDS, partial(_move_records, files), progress, "records")
    for statement in indexes:  # afterwards: sorted, their pages are full
        connection.execute(statement)
    _move(connection, MESSAGE_IDS, _move_messages, progress, "messages")
    for statement in THE_REST:
        connection.execute(statement)
    for table in TABLES:
        connection.execute(f"DROP TABLE old_{table}")
    progress.end()


def complete(connection: sqlite3.Connection) -> None:
    """Add what this version had not from its beginning, in the transaction that is open. Whoever knows nothing of it
    works on beside others who do: so no other version is written for it."""
    connection.execute(FOURTH_HAD_NOT)


def _made_by_schema(names: Sequence[str]) -> list[str]:
    """The statements that make some things of a new file."""
    return [statement for statement in statements_of(SCHEMA) if any(name in statement for name in names)]


def _refuse_workers(connection: sqlite3.Connection, path: str, now: float) -> None:
    names = [name for (name,) in connection.execute(AT_WORK, {"now": now, "ahead": AHEAD_SECONDS})]
    if names:
        raise FrontierUnavailableError(
            f"{path} was written by an older sqspider, and a worker of it is at work there or was killed lately "
            f"({', '.join(map(str, names))}): end it, or wait half a minute, and do this again"
        )


def _refuse_without_room(path: str) -> None:
    size = sum(os.path.getsize(name) for name in (path, f"{path}-wal") if os.path.exists(name))
    free = shutil.disk_usage(os.path.dirname(os.path.abspath(path))).free
    if free < ROOM * size:
        raise FrontierUnavailableError(
            f"{path} was written by an older sqspider; to bring it up to date takes {ROOM * size / 1e6:,.0f} MB beside "
            f"it, and the disk has {free / 1e6:,.0f} MB left: make room, or copy the file to a larger disk"
        )


class _Progress:
    """Tells whoever waits how far it is."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._started = time.monotonic()
        self._next = self._started + SAID_AFTER_SECONDS

    def at(self, what: str, done: int, of: int) -> None:
        if time.monotonic() >= self._next:
            log.warning("file_is_brought_up_to_date", file=self._path, moved=f"{done:,} of {of:,} {what}")
            self._next = time.monotonic() + SAID_EVERY_SECONDS

    def end(self) -> None:
        """Said of every file: there is no way back."""
        log.warning(
            "file_is_up_to_date",
            file=self._path,
            seconds=round(time.monotonic() - self._started),
            older_versions="cannot open it any more",
        )


def _move(
    connection: sqlite3.Connection,
    ids: str,
    move_some: Callable[[sqlite3.Connection, int, int], int],
    progress: _Progress,
    what: str,
) -> None:
    """Move rows in the order of their ids, and tell of it."""
    after, last = connection.execute(ids).fetchone()
    while after < last:
        after = move_some(connection, after, last)
        progress.at(what, min(after, last), last)


def _move_records(files: CaptureFiles, connection: sqlite3.Connection, after: int, last: int) -> int:
    """Move some records; the id of the last of them."""
    rows = dicts(connection, RECORDS, (after, STEP))
    connection.executemany(ADD_RECORD, [_record(row, files) for row in rows])
    return rows[-1]["id"] if rows else last


def _move_messages(connection: sqlite3.Connection, after: int, last: int) -> int:
    """Move some of what stays a message; up to which id."""
    first: int = connection.execute(NEXT_MESSAGE, (after,)).fetchone()[0]
    end = min(first - 1 + STEP, last)  # ids may have gaps of any size
    rows = dicts(connection, MESSAGES, {"after": after, "last": end})
    connection.executemany(ADD_MESSAGE, map(_message, rows))
    return end


def _record(row: dict[str, Any], files: CaptureFiles) -> dict[str, Any]:
    """A record and its message as one row. What is damaged stays as it is, and is told by whoever reads it.

    One without a URL has no place in the queue: whoever received it could do nothing with it, for ever.
    """
    row = _readable(row)
    is_url = _is_url(row["url"])
    queue = _queue(row) if is_url else None
    packed = _outcome(row["outcome"], row["url"], files)
    return {
        **row,
        "key": key_of(row["url"]) if is_url else 0,
        "crawl": row["settings"],
        "status": STATUS_NUMBERS.get(row["status"], row["status"]),
        "queue": queue,
        "parent": row["parent_id"] or row["parent"],
        "visible_at": row["visible_at"] if queue in (PUT_OFF, IN_FLIGHT) else None,
        "receives": row["receive_count"] or 0,
        "claim_id": row["claim_id"] if row["lease_until"] is not None else None,
        "due_at": row["due_at"] if is_url and queue is None else None,
        **packed._asdict(),
    }


def _readable(row: dict[str, Any]) -> dict[str, Any]:
    """A row without what is no UTF-8: it would keep whoever reads it from all that is beside it."""
    return {name: value.decode(errors="replace") if isinstance(value, bytes) else value for name, value in row.items()}


def _is_url(url: Any) -> bool:
    try:
        host_of(url)
    except (AttributeError, IndexError, TypeError, ValueError):
        return False
    return "\N{REPLACEMENT CHARACTER}" not in url


def _queue(row: dict[str, Any]) -> int | None:
    """The place in the queue that the message of a record is."""
    if row["message"] is None:
        return None
    if row["receipt"] is not None:
        return IN_FLIGHT
    # A record that was claimed has no fresh place.
    return PUT_OFF if row["is_deferred"] or row["status"] != "queued" else FRESH


def _outcome(stored: Any, url: str, files: CaptureFiles) -> PackedOutcome:
    if stored is None:
        return NO_OUTCOME
    try:
        return pack(decode_outcome(stored, url), files)
    except (msgspec.MsgspecError, TypeError):
        return PackedOutcome(stored, None, None)


def _message(row: dict[str, Any]) -> tuple[Any, ...]:
    row = _readable(row)
    is_dead = bool(row["is_dead"])
    url = row["url"] if _is_url(row["url"]) else None
    queue = IN_FLIGHT if row["receipt"] is not None else PUT_OFF if row["is_deferred"] else FRESH
    return (
        row["id"],
        key_of(url) if url is not None else None,
        url,
        row["body"],
        row["sent_at"],
        None if is_dead else queue,
        None if is_dead else row["visible_at"],
        row["receive_count"],
    )
