"""How messages are sent, received, put off and deleted: those of records, which are places of theirs, and all others.

What anybody sent, copies and dead letters lie in a table of their own. They are few: whoever wins the URL of one makes
its record's place of it.
"""

from __future__ import annotations

import asyncio
import json
import math
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

from sqspider.frontier.answers import MOST_LOOKED_AT, is_dead, not_before
from sqspider.frontier.sqlite import counters
from sqspider.frontier.sqlite.connection import OpenFile, Part, Transaction
from sqspider.frontier.sqlite.errors import damaged
from sqspider.frontier.sqlite.keys import key_of
from sqspider.frontier.sqlite.of_crawl import Chosen, choose
from sqspider.frontier.sqlite.receipts import MESSAGE_MARK, receipt_of
from sqspider.frontier.sqlite.records import belongings, held
from sqspider.frontier.sqlite.rows import END_OF_TIME, FRESH, IN_FLIGHT, PUT_OFF, Belonging, Waiting
from sqspider.frontier.values import Deferral, Delivery
from sqspider.message import BadBody, Message, decode_message, encode_message

POLL_SECONDS: Final = (0.01, 0.25)  # between two looks for messages of other processes: the first, the longest

INSERT_MESSAGE: Final = """
INSERT INTO sent (key, url, body, sent_at, queue, visible_at, receives) VALUES (?, ?, ?, ?, ?, ?, ?)
"""
# What is put aside is not visible, ever: it is called back.
NEXT_VISIBLE: Final = f"""
SELECT
    EXISTS (SELECT 1 FROM record INDEXED BY record_place WHERE queue = 0),
    (SELECT min(at) FROM (
        SELECT min(visible_at) AS at FROM record INDEXED BY record_timed WHERE queue = 1 AND visible_at IS NOT NULL
        UNION ALL
        SELECT min(visible_at) FROM record INDEXED BY record_timed WHERE queue = 2 AND visible_at IS NOT NULL
        UNION ALL
        SELECT min(visible_at) FROM sent INDEXED BY sent_visible WHERE visible_at < {END_OF_TIME:.0f}
    ))
"""
# The first comes first: what a worker lost, then what has its time (a slot is good for its moment only), then the rest.
TIMED: Final = """
SELECT id FROM record INDEXED BY record_timed WHERE queue = ? AND visible_at <= ? ORDER BY visible_at LIMIT ?
"""
STILL_VISIBLE: Final = """
SELECT r.id, r.queue FROM json_each(:ids) AS e CROSS JOIN record AS r NOT INDEXED ON r.id = e.value
WHERE r.queue = 0 OR (r.queue IN (1, 2) AND r.visible_at <= :now)
"""
FRESH_ONES: Final = "SELECT id FROM record INDEXED BY record_place WHERE queue = 0 ORDER BY id LIMIT ?"
# What they will say once they are received: that may decide whether they are.
LOOK_AT: Final = """
SELECT id, key, delivery + 1, url, depth,
    CASE typeof(parent) WHEN 'integer' THEN (SELECT p.url FROM record AS p NOT INDEXED WHERE p.id = r.parent)
        ELSE parent END,
    crawl, redirects, lastmod, slot, slot_generation, receives + 1, enqueued_at, lease_until IS NULL
FROM record AS r NOT INDEXED WHERE id IN (SELECT value FROM json_each(?))
"""
RECEIVE: Final = """
UPDATE record NOT INDEXED SET receives = receives + 1, delivery = delivery + 1, queue = 2, visible_at = :hidden_until
WHERE id IN (SELECT value FROM json_each(:ids))
"""
PUT_OFF_UNTIL: Final = """
UPDATE record NOT INDEXED SET queue = 1, visible_at = :until, slot = :slot, slot_generation = :generation WHERE id = :id
"""
VISIBLE_MESSAGES: Final = (
    "SELECT id FROM sent INDEXED BY sent_visible WHERE visible_at <= ? ORDER BY visible_at LIMIT ?"
)
RECEIVE_MESSAGES: Final = """
UPDATE sent NOT INDEXED SET receives = receives + 1, delivery = delivery + 1, queue = 2, visible_at = :hidden_until
WHERE id IN (SELECT value FROM json_each(:ids)) AND visible_at <= :now
RETURNING id, delivery, url, body, receives, sent_at
"""
BURY: Final = "UPDATE sent NOT INDEXED SET receives = ?, queue = NULL, visible_at = NULL WHERE id = ?"
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


class Messages(Part):
    """Messages in and out."""

    async def send(self, bodies: Sequence[str]) -> None:
        await self._file.write(lambda transaction: send(transaction, bodies))
        self._file.news.set()

    async def receive(self, limit: int, *, wait_seconds: float = 0.0, crawl: str | None = None) -> list[Delivery]:
        file, loop = self._file, asyncio.get_running_loop()
        give_up_at = loop.time() + wait_seconds
        pause = POLL_SECONDS[0]
        while True:
            file.news.clear()
            chosen, next_at = await self._look_for(crawl, limit)
            if next_at is not None and next_at <= file.clock():
                received = await file.write(partial(receive, limit=limit, chosen=chosen))
                if received:
                    return [each.delivery for each in received]
                if limit > 0:  # what there was has died, or somebody else has it: there may be more behind it
                    continue
            left = give_up_at - loop.time()
            if left <= 0:
                return []
            pause = await self._wait_for_news(min(pause, left), pause, next_at)

    async def _look_for(self, crawl: str | None, limit: int) -> tuple[Chosen | None, float | None]:
        """What is to be taken, where that is of one crawl alone, and when the next message can be had; none: nothing
        waits. When one of a crawl alone can would cost a look at all that others wait for: as soon as any other can."""
        next_at = await self._file.read(partial(look, self._file))
        if crawl is None or next_at is None:
            return None, next_at
        chosen = await self._file.read(partial(choose, self._file, crawl, limit))
        if any(chosen):
            return chosen, 0.0
        now = self._file.clock()
        return chosen, max(next_at, now + POLL_SECONDS[0]) if next_at > now else math.inf

    async def wait(self, seconds: float, *, crawl: str | None = None) -> None:
        file, loop = self._file, asyncio.get_running_loop()
        give_up_at, pause = loop.time() + seconds, POLL_SECONDS[0]
        were_some = False
        while True:
            file.news.clear()
            _, next_at = await self._look_for(crawl, 1)
            left = give_up_at - loop.time()
            if left <= 0 or (were_some if next_at is None else next_at <= file.clock()):
                return
            were_some = next_at is not None
            pause = await self._wait_for_news(min(pause, left), pause, next_at)

    async def _wait_for_news(self, seconds: float, pause: float, next_at: float | None) -> float:
        """Wait so long, until a moment, or until something comes of this process; the next pause after this one."""
        file = self._file
        if next_at is not None:
            seconds = min(seconds, max(next_at - file.clock(), 0.001))
        try:
            async with asyncio.timeout(seconds):
                await file.news.wait()
        except TimeoutError:
            return min(pause * 2, POLL_SECONDS[1])
        return pause

    async def defer(self, deferrals: Sequence[Deferral]) -> None:
        await self._file.write(lambda transaction: defer(transaction, deferrals))
        self._file.news.set()

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        await self._file.write(lambda transaction: delete(transaction, deliveries))


def send(transaction: Transaction, bodies: Iterable[str]) -> None:
    """Put what anybody sends into the queue."""
    now, rows = transaction.now, []
    for sent in bodies:
        body = sent.encode("utf-8", "replace").decode()  # a lone surrogate cannot be stored
        message = decode_message(body)
        key = None if isinstance(message, BadBody) else message.key
        rows.append((key and key_of(key), key, body, now, FRESH, now, 0))
    transaction.connection.executemany(INSERT_MESSAGE, rows)
    transaction.count({"messages": len(rows)})


def look(file: OpenFile, connection: sqlite3.Connection) -> float | None:
    """When the next message can be had, and what generation it is, for a read's price; none: nothing waits."""
    file.generation = counters.number(connection, "generation")
    return next_visible(connection)


def next_visible(connection: sqlite3.Connection) -> float | None:
    """When the next message can be had; none: nothing waits."""
    is_any_fresh, at = connection.execute(NEXT_VISIBLE).fetchone()
    return 0.0 if is_any_fresh else at


class Received(NamedTuple):
    """A delivery, and what is known of its message without a look into its body."""

    delivery: Delivery
    own: Message | None = None  # of a record, if it is sound

    def message(self) -> Message | BadBody:
        """What it says. A record's own needs not be decoded."""
        return self.own or decode_message(self.delivery.body)


class Seen(NamedTuple):
    """A record that is visible, as it will be once it is received."""

    place: Waiting
    belonging: Belonging
    message: Message | None  # none: it is damaged; whoever receives it is told


Sift = Callable[[Sequence[Seen]], Sequence[Seen]]
"""Which of some records are to be taken; it puts the others off."""


def receive(
    transaction: Transaction, limit: int, sift: Sift | None = None, chosen: Chosen | None = None
) -> list[Received]:
    """Take what is visible, and what a sieve lets through; of what was ``chosen``, if anything was. None: there is
    nothing, or what there was has died."""
    messages = _visible_messages(transaction, limit) if chosen is None else chosen.messages[:limit]
    received = _receive_messages(transaction, messages)
    looked_at = 0
    while (room := limit - len(received)) > 0:
        seen = _look_at(transaction, _visible(transaction, room, chosen))
        let_through = seen if sift is None else sift(seen)
        received += _receive_records(transaction, let_through)
        looked_at += len(seen)
        if len(let_through) == len(seen) or looked_at >= MOST_LOOKED_AT or chosen is not None:
            break
    return received


def _visible_messages(transaction: Transaction, limit: int) -> list[int]:
    return [id_ for (id_,) in transaction.connection.execute(VISIBLE_MESSAGES, (transaction.now, limit))]


def _visible(transaction: Transaction, limit: int, chosen: Chosen | None) -> list[int]:
    """Records that are visible: they are put off no more, whatever becomes of them."""
    connection, now = transaction.connection, transaction.now
    if chosen is not None:
        parameters = {"ids": json.dumps(chosen.records[:limit]), "now": now}
        places = connection.execute(STILL_VISIBLE, parameters).fetchall()
        transaction.count({"put_off": -sum(queue == PUT_OFF for _, queue in places)})
        return [id_ for id_, _ in places]
    ids = [id_ for (id_,) in connection.execute(TIMED, (IN_FLIGHT, now, limit))]
    lost = len(ids)
    ids += [id_ for (id_,) in connection.execute(TIMED, (PUT_OFF, now, limit - lost))]
    transaction.count({"put_off": lost - len(ids)})
    ids += [id_ for (id_,) in connection.execute(FRESH_ONES, (limit - len(ids),))]
    return ids


def _look_at(transaction: Transaction, ids: Sequence[int]) -> list[Seen]:
    """What records say that are visible, in their order."""
    if not ids:
        return []
    rows = transaction.connection.execute(LOOK_AT, (json.dumps(ids),)).fetchall()
    by_id = {place.id: place for place in (Waiting(*row) for row in rows)}  # what is read has no order
    if by_id.keys() != set(ids):
        raise damaged(transaction.path, "an index names URLs that wait and are not there")
    found = belongings(transaction.connection, {place.crawl for place in by_id.values()})
    seen = []
    for place in map(by_id.__getitem__, ids):
        if place.crawl not in found:
            raise damaged(transaction.path, f"the settings are gone with which {place.url} was recorded")
        seen.append(Seen(place, found[place.crawl], place.sound_message(found[place.crawl])))
    return seen


def put_off_until(transaction: Transaction, puts: Sequence[tuple[int, float, float, int]]) -> None:
    """Let records wait in the queue until a moment, with a slot: id, moment, slot and its generation."""
    names = ("id", "until", "slot", "generation")
    transaction.change_each(PUT_OFF_UNTIL, [dict(zip(names, put, strict=True)) for put in puts])
    transaction.count({"put_off": len(puts)})


def _hidden_until(transaction: Transaction) -> float:
    return transaction.now + transaction.settings.visibility_seconds


def _receive_messages(transaction: Transaction, ids: Sequence[int]) -> list[Received]:
    """Take what anybody sent."""
    if not ids:
        return []
    parameters = {"ids": json.dumps(ids), "now": transaction.now, "hidden_until": _hidden_until(transaction)}
    rows = sorted(transaction.connection.execute(RECEIVE_MESSAGES, parameters).fetchall())
    dead = [row for row in rows if _has_died(transaction, row[4])]
    transaction.change_each(BURY, [(receives - 1, id_) for id_, _, _, _, receives, _ in dead])
    transaction.count({"messages": -len(dead), "dead": len(dead)})
    known = held(transaction.connection, [url for _, _, url, *_ in rows if url is not None])
    return [
        Received(
            Delivery(
                message_id=f"{MESSAGE_MARK}{id_}",
                receipt=str(delivery),
                body=body,
                receive_count=receives,
                sent_at=sent_at,
                is_finished=url in known and known[url].lease_until is None,
            )
        )
        for id_, delivery, url, body, receives, sent_at in rows
        if not _has_died(transaction, receives)
    ]


def _has_died(transaction: Transaction, receives: int) -> bool:
    """Whether what was just received is dead instead, by how often it was, this time included."""
    return is_dead(receives - 1, transaction.settings.max_receives)


def _receive_records(transaction: Transaction, chosen: Sequence[Seen]) -> list[Received]:
    """Take records by their places in the queue."""
    if not chosen:
        return []
    ids = json.dumps([seen.place.id for seen in chosen])
    transaction.connection.execute(RECEIVE, {"ids": ids, "hidden_until": _hidden_until(transaction)})
    received, dead = [], []
    for seen in chosen:
        delivery = _delivery_of(transaction, seen)
        if _has_died(transaction, seen.place.receives):
            dead.append((seen.place, delivery.body))
        else:
            received.append(Received(delivery, seen.message))
    _bury(transaction, dead)
    return received


def _delivery_of(transaction: Transaction, seen: Seen) -> Delivery:
    place = seen.place
    return Delivery(
        message_id=str(place.id),
        receipt=f"{transaction.generation}.{place.delivery}",
        body=encode_message(seen.message or place.message(seen.belonging)),
        receive_count=place.receives,
        sent_at=place.enqueued_at,
        is_finished=bool(place.is_finished),
    )


def _bury(transaction: Transaction, dead: Sequence[tuple[Waiting, str]]) -> None:
    """Make dead letters of what was received too often. A sweep may put their records back."""
    if not dead:
        return
    most = transaction.settings.max_receives
    letters = [(key_of(w.url), w.url, body, w.enqueued_at, None, None, most) for w, body in dead]
    transaction.connection.executemany(INSERT_MESSAGE, letters)
    lose_places(transaction, [place.id for place, _ in dead])
    transaction.count({"messages": -len(dead), "dead": len(dead)})


def lose_places(transaction: Transaction, ids: Sequence[int]) -> None:
    """Take the places in the queue from records. What their going changes in the sums is the caller's to count."""
    parameters = {"ids": json.dumps(ids), "now": transaction.now, "due_seconds": transaction.settings.due_seconds}
    transaction.connection.execute(LOSE_PLACES, parameters)


def defer(transaction: Transaction, deferrals: Sequence[Deferral]) -> None:
    """Put deliveries off; what a record says beside its slot is the record's."""
    records, messages = [], []
    for deferral in deferrals:
        message, receipt = deferral.message, receipt_of(deferral.delivery)
        until = {"until": not_before(transaction.now, deferral.until), **receipt._asdict()}
        if receipt.is_message:
            messages.append({"body": encode_message(message) if message else None, **until})
        elif receipt.generation == transaction.generation:
            slot, generation = (message.slot, message.generation) if message else (None, None)
            records.append({"says_more": bool(message), "slot": slot, "slot_generation": generation, **until})
    transaction.change_each(DEFER_MESSAGE, messages)
    transaction.count({"put_off": transaction.change_each(DEFER, records)})


def delete(transaction: Transaction, deliveries: Sequence[Delivery]) -> None:
    """End deliveries without more ado."""
    due = {"now": transaction.now, "due_seconds": transaction.settings.due_seconds}
    receipts = [receipt_of(delivery) for delivery in deliveries]
    messages = [receipt._asdict() for receipt in receipts if receipt.is_message]
    records = [
        {**receipt._asdict(), **due}
        for receipt in receipts
        if not receipt.is_message and receipt.generation == transaction.generation
    ]
    deleted = transaction.change_each(DELETE_MESSAGE, messages) + transaction.change_each(DELETE, records)
    transaction.count({"messages": -deleted})
