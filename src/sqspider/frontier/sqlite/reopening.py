"""How records that are final are put back into the queue, for one visit more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from sqspider.frontier.answers import counted, done_in_order, reopened
from sqspider.frontier.sqlite.captures import CaptureFiles
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.keys import with_keys
from sqspider.frontier.sqlite.of_crawl import RETURNED
from sqspider.frontier.sqlite.rows import NOT_YET, STATUSES, PackedOutcome, pack_kept, unpack, unpack_kept
from sqspider.record import Kept, Outcome, Status, split_key

# One without the settings with which it was recorded could be received by nobody.
FINAL: Final = """
SELECT e.key, r.id, r.status, r.queue, coalesce(r.visit, 0), r.outcome, r.digest, r.redirect_to, r.capture,
    r.validators, r.changed_at
FROM json_each(?) AS e CROSS JOIN record AS r INDEXED BY record_key
ON r.key = e.value ->> 0 AND r.url = e.value ->> 1
CROSS JOIN crawl AS c NOT INDEXED ON c.id = r.crawl
"""
# A place that was left to it by its last end is taken from whoever has that in hand.
REOPEN: Final = """
UPDATE record NOT INDEXED SET
    status = 0, visit = :visit, validators = :validators, unended = :unended, tries = :tries, lease_until = 0,
    enqueued_at = :now, queue = 0, visible_at = NULL, receives = 0, slot = NULL, slot_generation = NULL, due_at = NULL
WHERE id = :id
"""


_STATUS_BY_NUMBER: Final = dict(enumerate(STATUSES))


class Reopening(Part):
    """URLs in, once more."""

    async def reopen(self, keys: Sequence[str], *, if_changed: bool = False) -> list[bool]:
        done = await self._file.write(lambda transaction: reopen(transaction, keys, if_changed=if_changed))
        self._file.news.set()
        return done_in_order(keys, done)


class _Row(NamedTuple):
    """What a record says of its visits, as :data:`FINAL` reads it."""

    id: int
    status: int
    queue: int | None
    visit: int
    outcome: bytes | None
    digest: Any  # bytes or a text
    redirect_to: str | None
    capture: bytes | None
    validators: bytes | None
    changed_at: float | None


class _Ended(NamedTuple):
    """The same as what it stands for."""

    status: Status
    visit: int
    outcome: Outcome
    kept: Kept | None


def reopen(transaction: Transaction, keys: Sequence[str], *, if_changed: bool) -> list[str]:
    """Put back what is final, with a place in the queue; the keys of those that were. By its id it comes first of
    all that is fresh."""
    asked = list(dict.fromkeys(keys))
    done, rows = [], []
    for index, *columns in transaction.connection.execute(FINAL, (with_keys(asked),)).fetchall():
        row = _Row(*columns)
        ended = _sound(row, transaction.files)
        if ended is None or (anew := reopened(ended, if_changed=if_changed)) is None:
            continue
        crawl, _ = split_key(asked[index])
        transaction.count_records(crawl, {**counted(ended.status, Status.QUEUED, ended.outcome), RETURNED: 1})
        transaction.count({"messages": int(row.queue is None), "put_off": -(row.queue in NOT_YET)})
        kept = pack_kept(anew.kept, transaction.files)
        rows.append({"id": row.id, "now": transaction.now, "validators": kept, **anew._asdict()})
        done.append(asked[index])
    transaction.change_each(REOPEN, rows)
    return done


def _sound(row: _Row, files: CaptureFiles) -> _Ended | None:
    """How a record ended; none if it is open, or damaged: nobody could take that out of the sums."""
    try:
        msgspec.convert(tuple(row), _Row)
        outcome = unpack(PackedOutcome(row.outcome, row.digest, row.redirect_to, row.capture), files)
    except (msgspec.MsgspecError, ValueError, TypeError):
        return None
    status = _STATUS_BY_NUMBER.get(row.status)
    if outcome is None or status is None or outcome.status is not status:
        return None
    return _Ended(status, row.visit, outcome, unpack_kept(row.validators, row.changed_at, files))
