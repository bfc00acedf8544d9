"""What is visible of one crawl, for who works for that alone: found by a read, and then taken by a write.

What others wait for is passed once, and up to where is remembered: what is fresh lies in the order of its ids, and what
has a time has one that lay ahead when it was written. What comes back by an id of before is counted.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from sqspider.frontier.sqlite import counters
from sqspider.frontier.sqlite.clock import TOLERATED_SECONDS
from sqspider.frontier.sqlite.connection import OpenFile, Passed
from sqspider.frontier.sqlite.keys import keys_of_crawl
from sqspider.frontier.sqlite.rows import IN_FLIGHT, PUT_OFF
from sqspider.record import record_key

LAST_FRESH: Final = "SELECT max(id) FROM record INDEXED BY record_place WHERE queue = 0"
FRESH_OF_CRAWL: Final = """
SELECT id FROM record INDEXED BY record_place
WHERE queue = 0 AND id > :after AND id <= :last AND url >= :first_key AND url < :end_key ORDER BY id LIMIT :limit
"""
TIMED_OF_CRAWL: Final = """
SELECT id, visible_at FROM record INDEXED BY record_timed
WHERE queue = :queue AND visible_at >= :since AND visible_at <= :until AND url >= :first_key AND url < :end_key
ORDER BY visible_at LIMIT :limit
"""
MESSAGES_OF_CRAWL: Final = """
SELECT id, visible_at FROM sent INDEXED BY sent_visible
WHERE visible_at >= :since AND visible_at <= :until AND url >= :first_key AND url < :end_key
ORDER BY visible_at LIMIT :limit
"""

RETURNED: Final = "returned"  # the sum of URLs that came back to where they were in the queue
LOOK_ANEW_SECONDS: Final = 600.0  # all is looked at again: an older version that works on the file counts no returns
_AT_ONCE: Final = 1000  # ids behind the first one of a crawl that are looked at along with it
_ALONG_SECONDS: Final = 1.0  # the same, of what has a time


class Chosen(NamedTuple):
    """What is to be taken, by ids: what comes first stands first."""

    messages: Sequence[int] = ()
    records: Sequence[int] = ()


def choose(file: OpenFile, crawl: str, limit: int, connection: sqlite3.Connection) -> Chosen:
    """Up to so many messages of a crawl that are visible, and of each kind one at least if there are any."""
    now = file.clock()
    file.generation = counters.number(connection, "generation")
    state = (file.generation, counters.number(connection, record_key(RETURNED, crawl)))
    passed = file.passed.get(crawl)
    if passed is None or passed[:2] != state or not 0 <= now - passed.looked_at < LOOK_ANEW_SECONDS:
        passed = Passed(*state, looked_at=now)
    last = connection.execute(LAST_FRESH).fetchone()[0] or 0  # before the look: what is recorded meanwhile is behind it
    look = _Look(connection, crawl, limit)
    messages = look.timed(MESSAGES_OF_CRAWL, passed.moment, now)
    lost = look.timed(TIMED_OF_CRAWL, passed.moment, now, queue=IN_FLIGHT)
    put_off = look.timed(TIMED_OF_CRAWL, passed.moment, now, queue=PUT_OFF)
    fresh = look.fresh(passed.id, last)
    # Clocks are put back a little now and then, and who waits for others to write has looked at its clock before.
    moment = min(messages.since, lost.since, put_off.since) - TOLERATED_SECONDS
    file.passed[crawl] = passed._replace(id=int(fresh.since), moment=moment)
    return Chosen(messages.ids, [*lost.ids, *put_off.ids, *fresh.ids][:limit])


class _Found(NamedTuple):
    """What was found of a crawl, and up to where there is nothing of it."""

    ids: list[int]
    since: float


class _Look:
    """A look for what is visible of one crawl: for the first, and then behind it, but not far."""

    def __init__(self, connection: sqlite3.Connection, crawl: str, limit: int) -> None:
        self._connection = connection
        self._limit = limit
        self._keys = dict(zip(("first_key", "end_key"), keys_of_crawl(crawl), strict=True))

    def _rows(self, statement: str, limit: int, **between: float) -> list[tuple[int, float]]:
        return self._connection.execute(statement, {**self._keys, **between, "limit": limit}).fetchall()

    def timed(self, statement: str, since: float, now: float, **place: int) -> _Found:
        first = self._rows(statement, 1, since=since, until=now, **place)
        if not first:
            return _Found([], now)
        at = first[0][1]
        rows = self._rows(statement, self._limit, since=at, until=min(now, at + _ALONG_SECONDS), **place)
        return _Found([id_ for id_, _ in rows], at)

    def fresh(self, after: int, last: int) -> _Found:
        first = self._rows(FRESH_OF_CRAWL, 1, after=after, last=last)
        if not first:
            return _Found([], max(after, last))
        after = first[0][0] - 1
        rows = self._rows(FRESH_OF_CRAWL, self._limit, after=after, last=min(last, after + _AT_ONCE))
        return _Found([id_ for id_, *_ in rows], after)
