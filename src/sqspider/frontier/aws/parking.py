"""Messages that wait longer than SQS can delay them: they are kept in their records, and a sweep sends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqspider.frontier.aws.attributes import n, s
from sqspider.frontier.aws.items import shard_of
from sqspider.frontier.aws.outgoing import MAX_DELAY_SECONDS, encoded
from sqspider.frontier.aws.records import Parked, Records
from sqspider.frontier.aws.table import Statement
from sqspider.frontier.values import Deferral, Entry
from sqspider.message import Message, decode_message

MAX_PARKED_BYTES: Final = 180_000  # of a body
MAX_PARKED_SECONDS: Final = 30 * 86_400.0  # then it is looked at again, however far its moment is
PARK: Final = """
UPDATE "{table}" SET "due_at" = ? SET "due_shard" = ? SET "parked_body" = ?{more}
WHERE "url" = ? AND "status" = 'queued'
"""


class Parking(Records):
    """Records that keep their own message."""

    async def _park(self, deferrals: Sequence[Deferral], *, are_aside: bool = False) -> set[str]:
        """Keep far deferrals in their records; receipts of those whose message need not wait. ``are_aside``: they are
        put aside, see ``aside``.

        A record that is being worked on is not parked: its message waits as long as SQS lets it.
        """
        now = self._clock()
        receipts: dict[str, str] = {}
        messages: dict[str, Message] = {}
        parked: dict[str, Parked] = {}
        for deferral in deferrals:
            message = deferral.message or decode_message(deferral.delivery.body)
            if isinstance(message, Message):
                key = message.key
                receipts[key] = deferral.delivery.receipt
                messages[key] = message
                parked[key] = Parked(parked_until(deferral.until, now), body_of(deferral), are_aside)
        written = await self._table.write([self._parks(url, it) for url, it in parked.items()])
        kept = {url for url, w in zip(parked, written, strict=True) if w.is_done}
        others = await self._table.read(url for url in parked if url not in kept)
        kept |= {url for url, item in others.items() if "lease_until" not in item}  # finished
        missing = [Entry.of(messages[url]) for url in parked if url not in kept and url not in others]
        if missing:
            kept |= set((await self._insert(missing, parked=parked)).new)
        return {receipts[url] for url in kept}

    def _parks(self, url: str, parked: Parked) -> Statement:
        aside = [n(parked.until)] if parked.is_aside else []
        text = PARK.format(table=self._table.name, more=' SET "aside" = ?' if aside else "")
        return Statement(url, text, [n(parked.until), s(shard_of(url, is_parked=True)), s(parked.body), *aside, s(url)])


def is_parked(moment: float, now: float, body: str) -> bool:
    """Whether a message is kept in its record until a moment: SQS cannot delay it so long, and it fits there."""
    return moment > now + MAX_DELAY_SECONDS and len(body.encode()) <= MAX_PARKED_BYTES


def parked_until(moment: float, now: float) -> float:
    """Until when it is kept there."""
    return min(moment, now + MAX_PARKED_SECONDS)


def body_of(deferral: Deferral) -> str:
    """What a message says when it comes back."""
    return encoded(deferral.message) if deferral.message is not None else deferral.delivery.body
