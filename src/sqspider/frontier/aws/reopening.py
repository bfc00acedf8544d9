"""How records that are final are put back into the queue, for one visit more.

First the record, then its message: who dies in between leaves it to a sweep. A mark that stays on the record says
whose write it was, so that one whose answer was lost is neither made nor counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec

from sqspider.frontier.answers import Reopened, counted, done_in_order, reopened
from sqspider.frontier.aws.attributes import Item, n, s, text
from sqspider.frontier.aws.batches import ENQUEUE_BATCH, batches
from sqspider.frontier.aws.doubts import Doubt
from sqspider.frontier.aws.items import entry_of, record_of, shard_of
from sqspider.frontier.aws.outgoing import Outgoing, outgoing
from sqspider.frontier.aws.part import Part
from sqspider.frontier.aws.table import Statement, mark_by
from sqspider.record import Outcome, Status

# The attempt is that of its last visit: once that is over, only a later visit's end can be meant.
REOPEN: Final = """
UPDATE "{table}"
SET "status" = 'queued' SET "visit" = ? SET "unended" = ? SET "tries" = ? SET "lease_until" = 0 SET "reopened_by" = ?
SET "enqueued_at" = ? SET "due_at" = ? SET "due_shard" = ?
WHERE "url" = ? AND "attempt" = ? AND "status" = ?
"""


class _Final(NamedTuple):
    """A record that is to be reopened."""

    url: str
    attempt: int
    outcome: Outcome  # of its last visit
    anew: Reopened
    message: Outgoing


class Reopening(Part):
    """URLs in, once more."""

    async def reopen(self, urls: Sequence[str]) -> list[bool]:
        done: list[str] = []
        for part in batches(list(dict.fromkeys(urls)), ENQUEUE_BATCH):
            done += await self._reopen(part)
        await self._flush_if_due()
        return done_in_order(urls, done)

    async def _reopen(self, urls: Sequence[str]) -> list[str]:
        items = await self._table.read(urls)
        finals = [final for item in items.values() if (final := _final(item)) is not None]
        mark = mark_by(self._rng)

        def is_own(item: Item) -> bool:
            return text(item, "reopened_by") == mark

        with self._doubts.unless_answered(Doubt(it.url, is_own, partial(self._count_reopened, it)) for it in finals):
            written = await self._table.write([self._reopens(final, mark) for final in finals])
            unsure = [it.url for it, w in zip(finals, written, strict=True) if w.is_unsure and not w.is_done]
            own = {url for url, item in (await self._table.read(unsure)).items() if is_own(item)}
        done = [it for it, w in zip(finals, written, strict=True) if w.is_done or it.url in own]
        for final in done:
            self._count_reopened(final)
        await self._queue.send([final.message for final in done])
        return [final.url for final in done]

    def _reopens(self, final: _Final, mark: str) -> Statement:
        now, anew = self._clock(), final.anew
        numbers = [n(anew.visit), n(anew.unended), n(anew.tries), s(mark), n(now), n(now + self._settings.due_seconds)]
        shard = s(shard_of(final.url, is_parked=False))
        where = [s(final.url), n(final.attempt), s(final.outcome.status)]
        return self._table.statement(REOPEN, final.url, [*numbers, shard, *where])

    def _count_reopened(self, final: _Final, _: Item | None = None) -> None:
        self._sums.add(counted(final.outcome.status, Status.QUEUED, final.outcome))


def _final(item: Item) -> _Final | None:
    """A record that is final; none if it is open, or damaged: nobody could go on from it."""
    record = record_of(item)
    anew = reopened(record.status, record.visit)
    if record.unreadable or record.outcome is None or record.outcome.status is not record.status or anew is None:
        return None
    try:
        message = outgoing(entry_of(item).to_message())
    except (msgspec.MsgspecError, KeyError, ValueError):
        return None
    return _Final(record.url, record.attempt, record.outcome, anew, message)
