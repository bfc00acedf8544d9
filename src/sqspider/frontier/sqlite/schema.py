"""The tables of a frontier's SQLite file, and what their columns mean."""

from __future__ import annotations

from typing import Final

SCHEMA: Final = """
CREATE TABLE crawl (               -- how to go on from a URL, each once: records refer to it
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice
    settings TEXT NOT NULL UNIQUE, -- of loose URLs: JSON; of a crawl that has a row: NAME.ID
    name TEXT,                     -- of a crawl that has, or had, a row
    row TEXT                       -- JSON; NULL beside a name: what is left of the crawl is being removed
);
CREATE UNIQUE INDEX crawl_name ON crawl (name) WHERE name IS NOT NULL;
CREATE TABLE seed (                -- where the scope of a crawl is measured from
    crawl INTEGER NOT NULL REFERENCES crawl (id),
    site TEXT NOT NULL,
    folder TEXT NOT NULL,          -- '': that the site is noted, whether it has folders or not
    PRIMARY KEY (crawl, site, folder)
) WITHOUT ROWID;
CREATE TABLE run (                 -- what a run may take, shared among its workers
    name TEXT PRIMARY KEY,
    row TEXT NOT NULL              -- JSON: see frontier/shares.py
) WITHOUT ROWID;
CREATE TABLE record (              -- a URL, and its place in the queue
    id INTEGER PRIMARY KEY,        -- in the order of recording
    key INTEGER NOT NULL,          -- of its host and itself: see keys.key_of
    crawl INTEGER NOT NULL REFERENCES crawl (id),
    status INTEGER NOT NULL DEFAULT 0, -- 0 queued, 1 processing, 2 done, 3 failed, 4 blocked
    queue INTEGER,                 -- NULL no place, 0 fresh, 1 put off until visible_at, 2 in flight until then,
                                   -- 3 put aside: its crawl does not run
    depth INTEGER NOT NULL DEFAULT 0,
    parent,                        -- the id of its record, of the same crawl's name; the URL where it has none
    url TEXT NOT NULL,             -- the record's key: in a crawl with a name of its own "@NAME URL"
    enqueued_at REAL NOT NULL,     -- when it was put in: recorded, or reopened
    visible_at REAL,               -- of a place that is put off or in flight
    receives INTEGER NOT NULL DEFAULT 0, -- of this place, since it was sent, put off or given back
    delivery INTEGER NOT NULL DEFAULT 0, -- only rises: a receipt names it
    redirects INTEGER NOT NULL DEFAULT 0,
    attempt INTEGER NOT NULL DEFAULT 0,
    unended INTEGER NOT NULL DEFAULT 0,
    tries INTEGER NOT NULL DEFAULT 0,
    lease_until REAL DEFAULT 0,    -- NULL when finished: then no comparison with it is true
    worker_id TEXT,
    claim_id TEXT,                 -- NULL when finished
    due_at REAL,                   -- of an open record that has no place
    slot REAL,                     -- what was reserved for it when it was put off
    slot_generation INTEGER,
    lastmod REAL,
    claimed_at REAL,
    finished_at REAL,
    outcome BLOB,                  -- MessagePack: see rows.pack; without what the next two hold
    digest BLOB,                   -- of the payload: 32 bytes of SHA-256, or a text of another kind
    redirect_to TEXT,
    capture BLOB,                  -- where the archive has it: see captures.py; empty: it is not to be archived
    validators BLOB,               -- ETag and Last-Modified of the last good answer (MessagePack)
    visit INTEGER,                 -- visits that ended before this one; NULL: none
    changed_at REAL,               -- when a visit last found another payload
    cut INTEGER,                   -- the limit that kept it from being fetched
    meta TEXT                      -- JSON object: what a list said of it
);
CREATE INDEX record_key ON record (key);
CREATE INDEX record_place ON record (queue) WHERE queue IS NOT NULL;
CREATE INDEX record_timed ON record (queue, visible_at) WHERE visible_at IS NOT NULL;
CREATE INDEX record_put_off ON record (key) WHERE queue = 1;
CREATE INDEX record_aside ON record (crawl) WHERE queue = 3;
CREATE INDEX record_due ON record (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE capture_file (        -- names of the archive's files, each once: records refer to them
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice
    name TEXT NOT NULL UNIQUE
);
CREATE TABLE outlinks (            -- where visits led, in crawls with a limit of depth: whatever its depth
    record INTEGER PRIMARY KEY,    -- the id of what was visited last
    led BLOB NOT NULL              -- MessagePack, compressed: see enqueue.keep
);
CREATE TABLE sent (                -- what anybody sent, copies, dead letters
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key INTEGER,                   -- as the record's; NULL: the body is no message
    url TEXT,                      -- the same
    body TEXT NOT NULL,
    sent_at REAL NOT NULL,
    queue INTEGER,                 -- as the record's; NULL: it is dead
    visible_at REAL,               -- NULL: it is dead; the end of time: it is put aside
    receives INTEGER NOT NULL DEFAULT 0,
    delivery INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX sent_key ON sent (key) WHERE key IS NOT NULL;
CREATE INDEX sent_visible ON sent (visible_at, queue) WHERE visible_at IS NOT NULL;
CREATE INDEX sent_age ON sent (sent_at) WHERE visible_at IS NOT NULL;
CREATE INDEX sent_dead ON sent (visible_at) WHERE visible_at IS NULL;
CREATE TABLE counter (             -- kept up to date by every transaction: counting costs nothing
    name TEXT PRIMARY KEY,         -- "status:done", "reason:robots", "bytes", "redirects", and the same of each crawl
    number INTEGER NOT NULL        -- as "@NAME bytes"; "messages" (that live), "put_off" (records, those that are put
                                   -- aside too), "dead"; "generation"
) WITHOUT ROWID;
CREATE TABLE clock (               -- one row
    latest REAL NOT NULL           -- the latest moment at which somebody worked here
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
    was_in_trouble INTEGER NOT NULL DEFAULT 0 -- when it was written: it may be forgotten since, never the other way
) WITHOUT ROWID;
CREATE INDEX host_trouble ON host (was_in_trouble) WHERE was_in_trouble = 1;
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
    expires_at REAL NOT NULL,
    barred TEXT                    -- JSON: crawls that its start does not let it work on, and why; NULL: none
) WITHOUT ROWID;
CREATE TABLE sample (              -- what workers did in a while, and the queue at its end
    at REAL NOT NULL,
    sample TEXT NOT NULL,          -- JSON
    visible INTEGER NOT NULL,
    in_flight INTEGER NOT NULL,
    oldest_age REAL
);
CREATE INDEX sample_at ON sample (at);
CREATE VIEW urls AS                -- for a person with the program sqlite3
SELECT r.id, iif(r.url LIKE '@%', substr(r.url, instr(r.url, ' ') + 1), r.url) AS url,
    iif(r.url LIKE '@%', substr(r.url, 2, instr(r.url, ' ') - 2), 'default') AS crawl,
    CASE r.status WHEN 0 THEN 'queued' WHEN 1 THEN 'processing' WHEN 2 THEN 'done' WHEN 3 THEN 'failed'
        ELSE 'blocked' END AS status,
    CASE r.queue WHEN 0 THEN 'fresh' WHEN 1 THEN 'put off' WHEN 2 THEN 'in flight'
        WHEN 3 THEN 'put aside' END AS place,
    datetime(r.visible_at, 'unixepoch') AS visible_at, r.depth, r.redirects, r.attempt, r.tries, r.worker_id,
    datetime(r.enqueued_at, 'unixepoch') AS enqueued_at, datetime(r.finished_at, 'unixepoch') AS finished_at,
    r.redirect_to, CASE WHEN typeof(r.parent) != 'integer' THEN r.parent
        WHEN p.url LIKE '@%' THEN substr(p.url, instr(p.url, ' ') + 1) ELSE p.url END AS parent
FROM record AS r LEFT JOIN record AS p ON typeof(r.parent) = 'integer' AND p.id = r.parent;
"""


def statements_of(script: str) -> list[str]:
    """The statements of a script, to be run one by one inside of a transaction."""
    return [statement for statement in script.split(";\n") if statement.strip()]
