"""How records that are final are put back into the queue, for one visit more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from sqspider.frontier.answers import counted, done_in_order, reopened
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.keys import with_keys
from sqspider.frontier.sqlite.rows import PUT_OFF, STATUSES, PackedOutcome, unpack
from sqspider.record import Outcome, Status

# One without the settings with which it was recorded could be received by nobody.
FINAL: Final = """
SELECT e.key, r.id, r.status, r.queue, coalesce(r.visit, 0), r.outcome, r.digest, r.redirect_to
FROM json_each(?) AS e CROSS JOIN record AS r INDEXED BY record_key
ON r.key = e.value ->> 0 AND r.url = e.value ->> 1
CROSS JOIN crawl AS c NOT INDEXED ON c.id = r.crawl
"""
# A place that was left to it by its last end is taken from whoever has that in hand.
REOPEN: Final = """
UPDATE record NOT INDEXED SET
    status = 0, visit = :visit, unended = :unended, tries = :tries, lease_until = 0, enqueued_at = :now,
    queue = 0, visible_at = NULL, receives = 0, slot = NULL, slot_generation = NULL,
    due_at = NULL
WHERE id = :id
"""


_STATUS_BY_NUMBER: Final = dict(enumerate(STATUSES))


class Reopening(Part):
    """URLs in, once more."""

    async def reopen(self, urls: Sequence[str]) -> list[bool]:
        done = await self._file.write(lambda transaction: reopen(transaction, urls))
        self._file.news.set()
        return done_in_order(urls, done)


class _Ended(NamedTuple):
    """What a record says of its last visit, as :data:`FINAL` reads it."""

    id: int
    status: int
    queue: int | None
    visit: int
    outcome: bytes | None
    digest: Any  # bytes or a text
    redirect_to: str | None


def reopen(transaction: Transaction, urls: Sequence[str]) -> list[str]:
    """Put back what is final, with a place in the queue; the URLs that were. Whoever is first by its id comes first of
    all that is fresh."""
    asked = list(dict.fromkeys(urls))
    done, rows = [], []
    for index, *columns in transaction.connection.execute(FINAL, (with_keys(asked),)).fetchall():
        ended = _Ended(*columns)
        found = _sound(ended)
        if found is None or (anew := reopened(found.status, ended.visit)) is None:
            continue
        transaction.count_records(counted(found.status, Status.QUEUED, found))
        transaction.count({"messages": int(ended.queue is None), "put_off": -(ended.queue == PUT_OFF)})
        rows.append({"id": ended.id, "now": transaction.now, **anew._asdict()})
        done.append(asked[index])
    transaction.change_each(REOPEN, rows)
    return done


def _sound(ended: _Ended) -> Outcome | None:
    """What came of a record; none if it is open, or damaged: nobody could take that out of the sums."""
    try:
        msgspec.convert(tuple(ended), _Ended)
        outcome = unpack(PackedOutcome(ended.outcome, ended.digest, ended.redirect_to))
    except (msgspec.MsgspecError, ValueError, TypeError):
        return None
    is_of_status = outcome is not None and _STATUS_BY_NUMBER.get(ended.status) is outcome.status
    return outcome if is_of_status else None
