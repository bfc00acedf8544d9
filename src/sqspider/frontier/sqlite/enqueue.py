"""URLs in: each is recorded once, and what follows once a nearer way to it is found (:mod:`sqspider.frontier.ways`).

Where a visit led is kept beside its record, in a crawl with a limit of depth. So a nearer way is handed on in the very
transaction that finds it, and no page is asked for again.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from sqspider.frontier.answers import enqueued_in_order
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.records import record, rules_of
from sqspider.frontier.sqlite.reopening import reopen
from sqspider.frontier.sqlite.rows import FRESH, PackedOutcome, bare, unpack
from sqspider.frontier.values import Entry, Finish, Outlinks
from sqspider.frontier.ways import Consequence, Fall, consequence, handed_on, nearest_of_each
from sqspider.message import Message

KEEP_OUTLINKS: Final = """
INSERT INTO outlinks (record, led) VALUES (?, ?) ON CONFLICT (record) DO UPDATE SET led = excluded.led
"""
FORGET_OUTLINKS: Final = "DELETE FROM outlinks WHERE record = ?"
LED: Final = """
SELECT r.id, r.url, r.depth, r.redirects, r.crawl, r.outcome, r.digest, r.redirect_to, o.led
FROM json_each(?) AS e CROSS JOIN record AS r NOT INDEXED ON r.id = e.value LEFT JOIN outlinks AS o ON o.record = r.id
"""

_packer = msgspec.msgpack.Encoder()
_unpacker = msgspec.msgpack.Decoder(Outlinks)


class Records(Part):
    """URLs in."""

    async def enqueue(self, entries: Sequence[Entry]) -> list[bool]:
        new = await self._file.write(lambda transaction: enqueue(transaction, entries))
        self._file.news.set()
        return enqueued_in_order(entries, new)


def enqueue(transaction: Transaction, entries: Iterable[Entry]) -> set[str]:
    """Record what is not known, with a place in the queue, and hand on what is nearer now; the keys that were new."""
    new: set[str] = set()
    while by_key := nearest_of_each(entries):
        recorded = record(transaction, by_key, FRESH)
        new |= recorded.new
        entries = follow(transaction, recorded.final)
    transaction.count({"messages": len(new)})
    return new


class _Led(NamedTuple):
    """A record that is final, and where its visit led, as :data:`LED` reads it."""

    id: int
    key: str
    depth: int
    redirects: int
    crawl: int
    outcome: bytes | None
    digest: Any  # bytes or a text
    redirect_to: str | None
    led: bytes | None


def keep(transaction: Transaction, ended: Mapping[int, Finish]) -> None:
    """Keep where visits led, by the ids of their records. What was kept of a visit before is forgotten, unless nothing
    has changed since."""
    kept = [(id_, _packed(end.outlinks)) for id_, end in ended.items() if end.outlinks is not None]
    transaction.change_each(KEEP_OUTLINKS, kept)
    others = [
        (id_,) for id_, end in ended.items() if end.outlinks is None and end.claim.visit and not end.outcome.unchanged
    ]
    transaction.change_each(FORGET_OUTLINKS, others)


def follow(transaction: Transaction, fallen: Mapping[int, Fall]) -> list[Entry]:
    """What is to be recorded for records that are final and nearer now, by their ids and how their ways changed; what
    has to be visited for that is put back into the queue."""
    if not fallen:
        return []
    rows = [_Led(*row) for row in transaction.connection.execute(LED, (json.dumps(list(fallen)),))]
    rules = rules_of(transaction.connection, {row.crawl for row in rows})
    entries: list[Entry] = []
    visits = []
    for row in rows:
        try:
            outcome = unpack(PackedOutcome(row.outcome, row.digest, row.redirect_to), transaction.files)
            outlinks = None if row.led is None else _unpacker.decode(zlib.decompress(row.led))
        except (zlib.error, msgspec.MsgspecError, ValueError, TypeError):
            continue  # it is damaged: nobody could go on from it
        if outcome is None or row.crawl not in rules:
            continue
        match consequence(outcome, outlinks, fallen[row.id]):
            case Consequence.HAND_ON if outlinks is not None:
                crawl, settings = rules[row.crawl]
                of = Message(
                    url=bare(row.key), depth=row.depth, redirects=row.redirects, settings=settings, crawl=crawl
                )
                entries += handed_on(outlinks, of)
            case Consequence.VISIT:
                visits.append(row.key)
    if visits:
        reopen(transaction, visits, if_changed=False)
    return entries


def _packed(outlinks: Outlinks) -> bytes:
    return zlib.compress(_packer.encode(outlinks), 1)
