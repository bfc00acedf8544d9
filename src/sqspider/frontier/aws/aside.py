"""Messages of crawls that do not run: they are put aside in their records, and come back when their crawl runs again.

SQS cannot keep a message hidden for so long; a record that is parked can (see ``parking``). That it is put aside, and
does not wait for a moment of its own, is told by ``aside``: the ``due_at`` that it was given then.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from sqspider.crawl_row import CrawlRef
from sqspider.frontier.answers import next_look, not_before
from sqspider.frontier.aws.attributes import Item, n, number, s, text
from sqspider.frontier.aws.batches import batches, together
from sqspider.frontier.aws.items import PARKED_SHARDS, entry_of, shard_of
from sqspider.frontier.aws.messages import Messages, is_stale
from sqspider.frontier.aws.outgoing import MAX_DELAY_SECONDS, Outgoing, delay_until, outgoing, outgoing_raw
from sqspider.frontier.aws.parking import is_parked
from sqspider.frontier.aws.table import READ_BATCH, Statement
from sqspider.frontier.values import Deferral, Delivery
from sqspider.log import get_logger
from sqspider.message import Message, decode_message
from sqspider.record import split_key
from sqspider.url import host_of

ASIDE_SECONDS: Final = 86_400.0  # then a sweep brings it back, and it is put aside again: six write units
MOVE_DUE_ON: Final = """
UPDATE "{table}" SET "due_at" = ? SET "due_shard" = ? REMOVE "parked_body"
WHERE "url" = ? AND "due_at" = ?
"""

log = get_logger(__name__)


class Release(NamedTuple):
    """What becomes of a record that is due."""

    statement: Statement  # moves ``due_at`` on
    message: Outgoing | None  # none: it is being worked on, or cannot be read


class Aside(Messages):
    """What is put aside, and how records get their messages back."""

    async def park(self, deliveries: Sequence[Delivery]) -> None:
        now = self._clock()
        until = now + ASIDE_SECONDS
        live = [delivery for delivery in deliveries if _is_of_crawl(delivery) and not is_stale(delivery, now)]
        rests = [Deferral(delivery=it, until=until) for it in live if is_parked(until, now, it.body)]
        kept = await self._park(rests, are_aside=True)
        # What is being worked on besides has a message that waits as long as SQS lets it.
        await self._resend(
            [(it, None if it.receipt in kept else outgoing_raw(it.body, MAX_DELAY_SECONDS)) for it in live]
        )

    async def unpark(self, ref: CrawlRef) -> int:
        """What was put aside in this moment may be missing in the index: sweeps look again for a while."""
        return sum(await together(self._unpark(shard, ref) for shard in PARKED_SHARDS))

    async def _unpark(self, shard: str, ref: CrawlRef) -> int:
        unparked = 0
        async for found in self._table.walk(shard):
            keys = [key for key, _ in found if split_key(key)[0] == ref.name]
            for part in batches(keys, READ_BATCH):
                now, items = self._clock(), (await self._table.read(part)).values()
                own = [item for item in items if _is_aside(item) and text(item, "crawl") == str(ref)]
                unparked += await self._release_all([self._release(item, now, at=now) for item in own])
        return unparked

    def _release(self, item: Item, now: float, *, at: float) -> Release:
        """Give a record its message back, visible at a moment; who works on it is looked at again after its lease."""
        url, due_at, held_until = item["url"]["S"], number(item, "due_at"), number(item, "lease_until")
        looked_at, message = now, None
        if held_until >= now:
            looked_at = held_until
        elif "parked_body" in item:
            looked_at = not_before(now, at)
            message = Outgoing(item["parked_body"]["S"], host_of(url), delay_until(at, now))
        else:
            message = _message_of(item)
        next_due = next_look(looked_at, self._settings.due_seconds)
        parameters: list[dict[str, Any]] = [n(next_due), s(shard_of(url, is_parked=False)), s(url), n(due_at)]
        return Release(self._table.statement(MOVE_DUE_ON, url, parameters), message)

    async def _release_all(self, releases: Sequence[Release]) -> int:
        """First the new ``due_at``, then the message: who dies in between is found again later. How many were sent.

        Where an answer was lost the message may be sent twice, which does no harm; else it would be late.
        """
        written = await self._table.write([it.statement for it in releases])
        over = [it for it, w in zip(releases, written, strict=True) if w.is_done or w.is_unsure]
        messages = [it.message for it in over if it.message is not None]
        await self._queue.send(messages)
        return len(messages)


def _is_of_crawl(delivery: Delivery) -> bool:
    """Whether a delivery is of a crawl: what is loose always runs."""
    message = decode_message(delivery.body)
    return isinstance(message, Message) and message.crawl is not None


def _is_aside(item: Item) -> bool:
    return "aside" in item and number(item, "aside") == number(item, "due_at")


def _message_of(item: Item) -> Outgoing | None:
    """The message of a record that has lost it; none if the record is damaged, or a later version's."""
    try:
        return outgoing(entry_of(item).to_message())
    except (msgspec.MsgspecError, KeyError, ValueError) as error:
        log.warning("record_unreadable", url=item["url"]["S"], why=str(error))
        return None
