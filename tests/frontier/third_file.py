"""Files as the third version made them: a row for each URL, and no crawls with rows of their own."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Final

from sqspider.frontier.sqlite.file import APPLICATION_ID
from sqspider.frontier.sqlite.keys import key_of

SCHEMA: Final = """
CREATE TABLE crawl (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    settings TEXT NOT NULL UNIQUE
);
CREATE TABLE record (
    id INTEGER PRIMARY KEY,
    key INTEGER NOT NULL,
    crawl INTEGER NOT NULL REFERENCES crawl (id),
    status INTEGER NOT NULL DEFAULT 0,
    queue INTEGER,
    depth INTEGER NOT NULL DEFAULT 0,
    parent,
    url TEXT NOT NULL,
    enqueued_at REAL NOT NULL,
    visible_at REAL,
    receives INTEGER NOT NULL DEFAULT 0,
    delivery INTEGER NOT NULL DEFAULT 0,
    redirects INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0,
    unended INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    lease_until REAL DEFAULT 0,
    worker_id TEXT,
    claim_id TEXT,
    due_at REAL,
    slot REAL,
    slot_generation INTEGER,
    lastmod REAL,
    claimed_at REAL,
    finished_at REAL,
    outcome BLOB,
    digest BLOB,
    redirect_to TEXT,
    capture BLOB,
    validators BLOB,
    visit INTEGER,
    changed_at REAL,
    cut INTEGER
);
CREATE INDEX record_key ON record (key);
CREATE INDEX record_place ON record (queue) WHERE queue IS NOT NULL;
CREATE INDEX record_timed ON record (queue, visible_at) WHERE visible_at IS NOT NULL;
CREATE INDEX record_put_off ON record (key) WHERE queue = 1;
CREATE INDEX record_due ON record (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE sent (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key INTEGER,
    url TEXT,
    body TEXT NOT NULL,
    sent_at REAL NOT NULL,
    queue INTEGER,
    visible_at REAL,
    receives INTEGER NOT NULL DEFAULT 0,
    delivery INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX sent_key ON sent (key) WHERE key IS NOT NULL;
CREATE INDEX sent_visible ON sent (visible_at, queue) WHERE visible_at IS NOT NULL;
CREATE INDEX sent_age ON sent (sent_at) WHERE visible_at IS NOT NULL;
CREATE INDEX sent_dead ON sent (visible_at) WHERE visible_at IS NULL;
CREATE TABLE counter (
    name TEXT PRIMARY KEY,
    number INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE clock (
    latest REAL NOT NULL
);
INSERT INTO clock (latest) VALUES (0);
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
    rests INTEGER NOT NULL DEFAULT 0,
    rested_at REAL NOT NULL DEFAULT 0,
    trouble_since REAL NOT NULL DEFAULT 0,
    given_up_at REAL NOT NULL DEFAULT 0,
    trouble TEXT,
    is_paused INTEGER NOT NULL DEFAULT 0,
    is_blocked INTEGER NOT NULL DEFAULT 0,
    done INTEGER NOT NULL DEFAULT 0,
    failed INTEGER NOT NULL DEFAULT 0,
    blocked INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    busy_seconds REAL NOT NULL DEFAULT 0,
    answered INTEGER NOT NULL DEFAULT 0,
    slot_spacing_seconds REAL NOT NULL DEFAULT 0,
    was_in_trouble INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX host_trouble ON host (was_in_trouble) WHERE was_in_trouble = 1;
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
CREATE TABLE sample (
    at REAL NOT NULL,
    sample TEXT NOT NULL,
    visible INTEGER NOT NULL,
    in_flight INTEGER NOT NULL,
    oldest_age REAL
);
CREATE INDEX sample_at ON sample (at);
CREATE VIEW urls AS
SELECT r.id, r.url,
    CASE r.status WHEN 0 THEN 'queued' WHEN 1 THEN 'processing' WHEN 2 THEN 'done' WHEN 3 THEN 'failed'
        ELSE 'blocked' END AS status,
    CASE r.queue WHEN 0 THEN 'fresh' WHEN 1 THEN 'put off' WHEN 2 THEN 'in flight' END AS place,
    datetime(r.visible_at, 'unixepoch') AS visible_at, r.depth, r.redirects, r.attempt, r.tries, r.worker_id,
    datetime(r.enqueued_at, 'unixepoch') AS enqueued_at, datetime(r.finished_at, 'unixepoch') AS finished_at,
    r.redirect_to, CASE typeof(r.parent) WHEN 'integer' THEN p.url ELSE r.parent END AS parent
FROM record AS r LEFT JOIN record AS p ON typeof(r.parent) = 'integer' AND p.id = r.parent;
"""


def make_third_file(path: Path, urls: Sequence[str], *, now: float, settings: str) -> None:
    """A file with some URLs in its queue, as that version left it."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript(SCHEMA)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("PRAGMA user_version = 3")
        connection.execute("BEGIN")
        connection.execute("INSERT INTO crawl (id, settings) VALUES (7, ?)", (settings,))
        connection.executemany(
            "INSERT INTO record (key, crawl, queue, parent, url, enqueued_at) VALUES (?, 7, 0, ?, ?, ?)",
            [(key_of(url), 1 if number else None, url, now) for number, url in enumerate(urls)],
        )
        connection.executemany(
            "INSERT INTO counter VALUES (?, ?)", [("status:queued", len(urls)), ("messages", len(urls))]
        )
        connection.execute("COMMIT")
