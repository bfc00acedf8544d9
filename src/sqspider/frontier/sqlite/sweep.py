"""How what nothing brings back is found, and put back into the queue.

A record without a place is an orphan if no message for it waits; dead letters do not wait. What a sweep puts back is
claimed by its URL: a record that its own URL does not lead to, or that no claim can win, has no way back.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

from sqspider.frontier.answers import next_look
from sqspider.frontier.sqlite import counters
from sqspider.frontier.sqlite.clock import TOLERATED_SECONDS, keep_time, seconds_ahead
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.errors import damaged
from sqspider.frontier.sqlite.keys import key_or_none
from sqspider.frontier.sqlite.messages import next_visible
from sqspider.frontier.sqlite.rows import END_OF_TIME, STEP

PAST_DUE: Final = """
SELECT r.id, r.enqueued_at, EXISTS (
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
# What is put aside comes back when its crawl runs again: it is not lost.
IS_ANY_ASIDE: Final = f"""
SELECT EXISTS (SELECT 1 FROM record INDEXED BY record_place WHERE queue = 3)
    OR EXISTS (SELECT 1 FROM sent INDEXED BY sent_visible WHERE visible_at >= {END_OF_TIME:.0f})
"""
PUT_BACK: Final = """
UPDATE record NOT INDEXED SET
    queue = 1, visible_at = ?, receives = 0, slot = NULL, slot_generation = NULL, due_at = NULL
WHERE id = ?
"""
MOVE_DUE_ON: Final = "UPDATE record NOT INDEXED SET due_at = ? WHERE id = ?"


class Sweeps(Part):
    """Sweeps."""

    async def lease_sweep(self, *, until: float, by_schedule: bool = False) -> bool:  # noqa: ARG002 - the port's signature
        return True

    async def sweep(self, limit: int = 1000) -> int:
        file = self._file
        if abs(await file.read(lambda connection: seconds_ahead(connection, file.clock()))) > TOLERATED_SECONDS:
            await file.write(lambda transaction: keep_time(transaction.connection, file.clock))
        now, released = file.clock(), 0
        while released < limit and await file.rows(PAST_DUE, _due(now, 1)):
            released += await file.write(partial(_sweep_some, now=now, limit=limit - released))
        if released:
            file.news.set()
        else:
            await file.read(self._see_a_way_back)
        return released

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
                self._file.path, f"URLs that are not finished, and that nothing there brings back: {left:,}{named}"
            )


class _Orphan(NamedTuple):
    """A record without a place in the queue, for which no message waits either."""

    id: int
    url: str
    has_way_back: bool  # what is put back is found by whoever receives it


def _due(before: float, limit: int) -> dict[str, float]:
    return {"before": before, "limit": limit}


def _sweep_some(transaction: Transaction, now: float, limit: int) -> int:
    """Look at some records that are past their time, and move on those that stay; how many were released."""
    connection = transaction.connection
    looked_at = connection.execute(PAST_DUE, _due(now, STEP)).fetchall()
    missing = [id_ for id_, _, has in looked_at if not has][:limit]
    orphans = _orphans(connection, missing)
    # Not from when the sweep began: who works for one crawl alone has passed what became visible long ago.
    released = [(transaction.now, orphan.id) for orphan in orphans if orphan.has_way_back]
    connection.executemany(PUT_BACK, released)
    transaction.count({"messages": len(released), "put_off": len(released)})
    # What nothing brings back is looked at again as soon as ever.
    seconds = transaction.settings.due_seconds
    lost = [(next_look(now, seconds), orphan.id) for orphan in orphans if not orphan.has_way_back]
    waiting = [
        (next_look(now, seconds, waits_since=since), id_) for id_, since, has_message in looked_at if has_message
    ]
    connection.executemany(MOVE_DUE_ON, waiting + lost)
    return len(released)


def _orphans(connection: sqlite3.Connection, ids: Sequence[int]) -> list[_Orphan]:
    """Records for which nothing waits, by their ids."""
    rows = connection.execute(ORPHANS, (json.dumps(ids),))
    return [_Orphan(id_, url, bool(is_found) and key == key_or_none(url)) for id_, url, key, is_found in rows]


def _left(connection: sqlite3.Connection) -> int:
    """How many records are open, by the sums."""
    return counters.records(connection).open


def _lost(connection: sqlite3.Connection) -> list[str] | None:
    """The URLs that are not finished, if nothing brings any of them back; none if something does."""
    if next_visible(connection) is not None or connection.execute(IS_ANY_ASIDE).fetchone()[0]:
        return None
    lost: list[str] = []
    due = connection.execute(PAST_DUE, _due(math.inf, -1))  # no limit: the first that has a way back ends it
    while some := due.fetchmany(STEP):
        # None waits by the indexes that URLs are received by: one that is there all the same never comes.
        orphans = _orphans(connection, [id_ for id_, *_ in some])
        has_message = {id_: has for id_, _, has in some}
        if any(orphan.has_way_back and not has_message[orphan.id] for orphan in orphans):
            return None
        lost += [orphan.url for orphan in orphans]
    return lost
