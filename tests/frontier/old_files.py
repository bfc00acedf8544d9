"""Files as the first and the second version made them, and what those versions asked of them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final

from sqspider.frontier.sqlite.file import APPLICATION_ID
from sqspider.url import host_of

TABLES: Final = """
CREATE TABLE settings (
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
    lease_until REAL DEFAULT 0,
    due_at REAL,
    enqueued_at REAL NOT NULL,
    claimed_at REAL,
    finished_at REAL,
    outcome TEXT
);
CREATE INDEX record_due ON record (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE message (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    url TEXT,
    host TEXT,
    body TEXT NOT NULL,
    sent_at REAL NOT NULL,
    visible_at REAL NOT NULL,
    receive_count INTEGER NOT NULL DEFAULT 0,
    receipt TEXT,
    is_dead INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX message_url ON message (url);
CREATE TABLE counter (
    name TEXT PRIMARY KEY,
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
CREATE TABLE request (
    host TEXT NOT NULL,
    token TEXT NOT NULL,
    until REAL NOT NULL,
    PRIMARY KEY (host, token)
) WITHOUT ROWID;
CREATE TABLE robots (
    origin TEXT PRIMARY KEY,
    lease_until REAL NOT NULL DEFAULT 0,
    row BLOB
);
CREATE TABLE worker (
    worker_id TEXT PRIMARY KEY,
    session TEXT NOT NULL,
    started_at REAL NOT NULL,
    seen_at REAL NOT NULL,
    expires_at REAL NOT NULL
) WITHOUT ROWID;
"""
OF_THE_FIRST: Final = "CREATE INDEX message_visible ON message (is_dead, visible_at, id);"
OF_THE_SECOND: Final = """
ALTER TABLE message ADD COLUMN is_deferred INTEGER NOT NULL DEFAULT 0;
CREATE INDEX message_visible ON message (is_dead, is_deferred, visible_at, id);
CREATE INDEX message_in_flight ON message (visible_at) WHERE is_dead = 0 AND receipt IS NOT NULL;
CREATE TABLE sample (
    at REAL NOT NULL,
    sample TEXT NOT NULL,
    visible INTEGER NOT NULL,
    in_flight INTEGER NOT NULL,
    oldest_age REAL
);
CREATE INDEX sample_at ON sample (at);
"""


def make_old_file(
    path: Path, version: int, urls: Sequence[str], *, now: float, settings: dict[str, Any] | None = None
) -> None:
    """A file with some URLs in its queue, as that version left it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(TABLES + (OF_THE_FIRST if version == 1 else OF_THE_SECOND))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("BEGIN")
        body = json.dumps(settings or {})
        connection.execute("INSERT INTO settings (id, body) VALUES (7, ?)", (body,))
        connection.executemany(
            "INSERT INTO record (url, status, host, depth, parent, settings, enqueued_at, due_at) VALUES (?, 'queued', ?, 0, ?, 7, ?, ?)",
            [(url, host_of(url), urls[n // 50] if n else None, now, now + 120) for n, url in enumerate(urls)],
        )
        connection.executemany(
            "INSERT INTO message (url, host, body, sent_at, visible_at) VALUES (?, ?, ?, ?, ?)",
            [
                (url, host_of(url), json.dumps({"url": url, **({"settings": settings} if settings else {})}), now, now)
                for url in urls
            ],
        )
        connection.executemany(
            "INSERT INTO counter VALUES (?, ?)", [("status:queued", len(urls)), ("messages", len(urls))]
        )
        connection.execute("COMMIT")


OLD_TRANSACTIONS: Final[dict[str, tuple[str, ...]]] = {
    "enqueue": ("INSERT INTO record (url, status, host, depth, parent, settings, lastmod, enqueued_at, due_at) VALUES ('u', 'queued', 'h', 0, NULL, 1, NULL, 1, 2)",),
    "send": ("INSERT INTO message (url, host, body, sent_at, visible_at) VALUES (NULL, NULL, '', 1, 1)",),
    "receive": ("UPDATE message NOT INDEXED SET receive_count = receive_count + 1, visible_at = 9, receipt = 'r' WHERE id IN (SELECT id FROM message)",),
    "claim": ("UPDATE record INDEXED BY sqlite_autoindex_record_1 SET status = 'processing', attempt = attempt + 1 WHERE url = 'u' AND lease_until < 1",),
    "finish": ("UPDATE record INDEXED BY sqlite_autoindex_record_1 SET status = 'done', outcome = '{}' WHERE url = 'u'", "DELETE FROM message INDEXED BY message_url WHERE url = 'u'"),
    "retry": ("UPDATE record INDEXED BY sqlite_autoindex_record_1 SET status = 'queued', lease_until = 0 WHERE url = 'u'",),
    "defer": ("UPDATE message NOT INDEXED SET visible_at = 9, receipt = NULL WHERE id = 1",),
    "delete": ("DELETE FROM message NOT INDEXED WHERE id = 1 AND receipt = 'r'",),
    "redrive": ("UPDATE message NOT INDEXED SET is_dead = 0, receive_count = 0 WHERE is_dead = 1",),
    "purge": ("DELETE FROM message", "DELETE FROM counter WHERE name = 'messages'"),
    "clear": ("DELETE FROM record", "DELETE FROM settings"),
}  # fmt: skip
"""What the first two versions did to records and messages, each as one transaction."""
