"""How records that are final are put back into the queue, for one visit more.

First the record, then its message: who dies in between leaves it to a sweep. A mark that stays on the record says
whose write it was, so that one whose answer was lost is neither made nor counted twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec

from sqspider.frontier.answers import Reopened, counted, done_in_order, reopened
from sqspider.frontier.aws.attributes import Item, n, s, text
from sqspider.frontier.aws.batches import batches
from sqspider.frontier.aws.doubts import Doubt
from sqspider.frontier.aws.items import encode_kept, entry_of, record_of, shard_of
from sqspider.frontier.aws.outgoing import Outgoing, outgoing
from sqspider.frontier.aws.part import Part
from sqspider.frontier.aws.table import Statement, mark_by
from sqspider.record import Outcome, Status

REOPEN_BATCH: Final = 500  # URLs under way at a time
# The attempt is that of its last visit: once that is over, only a later visit's end can be meant.
REOPEN: Final = """
UPDATE "{table}"
SET "status" = 'queued' SET "visit" = ? SET "unended" = ? SET "tries" = ? SET "lease_until" = 0
SET "reopened_by" = ?{more} SET "enqueued_at" = ? SET "due_at" = ? SET "due_shard" = ?{less}
WHERE "url" = ? AND "attempt" = ? AND "status" = ?
"""

# What came of a good visit stands in what is kept of it from then on: twice would be a write unit more.
STANDS_THERE: Final = ' REMOVE "outcome"'

_NONE: Final[Mapping[str, float]] = {}

replace = msgspec.structs.replace


class _Final(NamedTuple):
    """A record that is to be reopened."""

    key: str
    attempt: int
    outcome: Outcome  # of its last visit
    anew: Reopened
    message: Outgoing
    lastmod: float | None  # what a sitemap says of it by now; none: nothing new


class Reopening(Part):
    """URLs in, once more."""

    async def reopen(self, keys: Sequence[str], *, if_changed: bool = False) -> list[bool]:
        done: list[str] = []
        for part in batches(list(dict.fromkeys(keys)), REOPEN_BATCH):
            done += await self._reopen(part, if_changed=if_changed)
        await self._flush_if_due()
        return done_in_order(keys, done)

    async def _reopen(
        self, keys: Iterable[str], *, if_changed: bool, lastmods: Mapping[str, float] = _NONE
    ) -> list[str]:
        """``lastmods``: by key, what a sitemap says of it by now."""
        items = await self._table.read(keys)
        finals = [
            it
            for key, item in items.items()
            if (it := _final(item, if_changed=if_changed, lastmod=lastmods.get(key))) is not None
        ]
        mark = mark_by(self._rng)

        def is_own(item: Item) -> bool:
            return text(item, "reopened_by") == mark

        with self._doubts.unless_answered(Doubt(it.key, is_own, partial(self._count_reopened, it)) for it in finals):
            written = await self._table.write([self._reopens(final, mark) for final in finals])
            unsure = [it.key for it, w in zip(finals, written, strict=True) if w.is_unsure and not w.is_done]
            own = {key for key, item in (await self._table.read(unsure)).items() if is_own(item)}
        done = [it for it, w in zip(finals, written, strict=True) if w.is_done or it.key in own]
        for final in done:
            self._count_reopened(final)
        await self._queue.send([final.message for final in done])
        return [final.key for final in done]

    def _reopens(self, final: _Final, mark: str) -> Statement:
        now, anew = self._clock(), final.anew
        more = {} if final.lastmod is None else {"lastmod": n(final.lastmod)}
        if anew.kept is not None:
            more["kept"] = s(encode_kept(anew.kept))
        claims = [n(anew.unended), n(anew.tries), s(mark)]
        due = [n(now), n(now + self._settings.due_seconds), s(shard_of(final.key, is_parked=False))]
        where = [s(final.key), n(final.attempt), s(final.outcome.status)]
        less = STANDS_THERE if anew.kept is not None and anew.kept.good == final.outcome else ""
        text = REOPEN.format(table=self._table.name, more="".join(f' SET "{name}" = ?' for name in more), less=less)
        return Statement(final.key, text, [n(anew.visit), *claims, *more.values(), *due, *where])

    def _count_reopened(self, final: _Final, _: Item | None = None) -> None:
        self._sums.add(final.key, counted(final.outcome.status, Status.QUEUED, final.outcome))


def _final(item: Item, *, if_changed: bool, lastmod: float | None) -> _Final | None:
    """A record that is final; none if it is open, or damaged: nobody could go on from it."""
    record = record_of(item)
    anew = reopened(record, if_changed=if_changed)
    if record.unreadable or record.outcome is None or record.outcome.status is not record.status or anew is None:
        return None
    try:
        entry = entry_of(item)
        message = outgoing((entry if lastmod is None else replace(entry, lastmod=lastmod)).to_message())
    except (msgspec.MsgspecError, KeyError, ValueError):
        return None
    return _Final(record.key, record.attempt, record.outcome, anew, message, lastmod)
