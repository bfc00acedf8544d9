"""How a frontier is cleared: its queue, or its records and all else."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Final

from sqspider.frontier.sqlite import counters
from sqspider.frontier.sqlite.clock import raise_generation
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.keys import key_of
from sqspider.frontier.sqlite.messages import FRESH_ONES, INSERT_MESSAGE, lose_places
from sqspider.frontier.sqlite.records import belongings
from sqspider.frontier.sqlite.rows import ASIDE, FRESH, IN_FLIGHT, NO_SETTINGS, NOT_YET, PARENT, PUT_OFF, STEP, Waiting
from sqspider.message import encode_message

# SQLite empties a whole table without a look at its rows: by the page, not by the row.
PURGE_MESSAGES: Final = "DELETE FROM sent"
ALL_TIMED: Final = "SELECT id FROM record INDEXED BY record_timed WHERE queue = ? AND visible_at IS NOT NULL LIMIT ?"
ALL_ASIDE: Final = "SELECT id FROM record INDEXED BY record_place WHERE queue = 3 ORDER BY id LIMIT ?"
PLACES: Final = f"""
SELECT r.id, r.key, r.delivery, r.url, r.depth, {PARENT}, r.crawl, r.redirects, r.lastmod, r.slot, r.slot_generation,
    r.receives, r.enqueued_at, 0, coalesce(r.visible_at, r.enqueued_at)
FROM json_each(?) AS e CROSS JOIN record AS r NOT INDEXED ON r.id = e.value
"""
CLEAR_RECORDS: Final = "DELETE FROM record"
CLEAR_THE_REST: Final = (
    "DELETE FROM crawl",
    "DELETE FROM seed",
    "DELETE FROM run",
    "DELETE FROM outlinks",
    "DELETE FROM capture_file",
    "DELETE FROM host",
    "DELETE FROM request",
    "DELETE FROM robots",
    "DELETE FROM sample",
    "DELETE FROM counter WHERE name NOT IN ('messages', 'dead', 'generation')",
)


class Clearing(Part):
    """Clears the queue, or the tables."""

    async def purge_queue(self) -> int:
        removed = await self._file.write(_purge_messages)
        for queue in (FRESH, PUT_OFF, IN_FLIGHT, ASIDE):
            while some := await self._file.write(partial(_purge_some, queue=queue)):
                removed += some
                if some < STEP:
                    break
        return removed

    async def clear_table(self, on_removed: Callable[[int], None] = lambda _: None) -> int:
        while await self._file.write(_send_some) == STEP:
            pass
        removed = await self._file.write(_clear)
        on_removed(removed)
        return removed


def _purge_messages(transaction: Transaction) -> int:
    dead = counters.number(transaction.connection, "dead")
    removed = transaction.connection.execute(PURGE_MESSAGES).rowcount
    transaction.count({"messages": dead - removed, "dead": -dead})
    return removed


def _purge_some(transaction: Transaction, queue: int) -> int:
    places = _places(transaction, queue)
    lose_places(transaction, places)
    transaction.count({"messages": -len(places), "put_off": -len(places) if queue in NOT_YET else 0})
    return len(places)


def _places(transaction: Transaction, queue: int) -> list[int]:
    """Some records that have a place of this kind in the queue, by their ids."""
    if queue == FRESH:
        rows = transaction.connection.execute(FRESH_ONES, (STEP,))
    elif queue == ASIDE:
        rows = transaction.connection.execute(ALL_ASIDE, (STEP,))
    else:
        rows = transaction.connection.execute(ALL_TIMED, (queue, STEP))
    return [id_ for (id_,) in rows]


def _clear(transaction: Transaction) -> int:
    while _send_some(transaction):
        pass  # what others have queued since
    transaction.write_counts()  # before the sums are cleared
    removed = transaction.connection.execute(CLEAR_RECORDS).rowcount
    for statement in CLEAR_THE_REST:
        transaction.connection.execute(statement)
    raise_generation(transaction.connection)
    return removed


def _send_some(transaction: Transaction) -> int:
    """Make messages of some records' places, so that they outlive their records; of each kind, how many at most."""
    return max(_send_places(transaction, queue) for queue in (FRESH, PUT_OFF, IN_FLIGHT, ASIDE))


def _send_places(transaction: Transaction, queue: int) -> int:
    connection, places = transaction.connection, _places(transaction, queue)
    rows = connection.execute(PLACES, (json.dumps(places),)).fetchall()
    waiting = [(Waiting(*row[:-1]), row[-1]) for row in rows]
    sent_as = FRESH if queue == ASIDE else queue  # its crawl goes now: whoever receives it ends it
    found = belongings(connection, {place.crawl for place, _ in waiting})
    messages = []
    for place, visible_at in waiting:
        body = encode_message(place.message(found.get(place.crawl, NO_SETTINGS)))
        messages.append((key_of(place.url), place.url, body, place.enqueued_at, sent_as, visible_at, place.receives))
    connection.executemany(INSERT_MESSAGE, messages)
    lose_places(transaction, places)
    transaction.count({"put_off": -len(places) if queue in NOT_YET else 0})
    return len(places)
