"""Messages that wait longer than SQS can delay them: they are kept in their records, and a sweep sends them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from sqspider.frontier.aws.attributes import n, s
from sqspider.frontier.aws.crawl_rows import CrawlRows
from sqspider.frontier.aws.items import of_crawl, shard_of
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


class Parking(Records, CrawlRows):
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
        written = await self._table.write([self._parks(messages[url], it) for url, it in parked.items()])
        kept = {url for url, w in zip(parked, written, strict=True) if w.is_done}
        others = await self._table.read(url for url in parked if url not in kept)
        kept |= {url for url, item in others.items() if "lease_until" not in item}  # finished
        missing = [messages[url] for url in parked if url not in kept and url not in others]
        gone = await self._of_no_crawl(missing)
        if missing:
            entries = [Entry.of(message) for message in missing if message.key not in gone]
            kept |= set((await self._insert(entries, parked=parked)).new)
        return {receipts[url] for url in kept}

    def _parks(self, message: Message, parked: Parked) -> Statement:
        url, text = message.key, PARK.format(table=self._table.name, more=' SET "aside" = ?' if parked.is_aside else "")
        parameters = [n(parked.until), s(shard_of(url, is_parked=True)), s(parked.body)]
        parameters += [n(parked.until)] if parked.is_aside else []
        where, crawl = of_crawl(message)
        return Statement(url, text + where, [*parameters, s(url), *crawl])

    async def _of_no_crawl(self, messages: Sequence[Message]) -> set[str]:
        """The keys of messages whose crawl is not there: they are no way in. One read, if any names a crawl."""
        if all(message.crawl is None for message in messages):
            return set()
        there = {row.ref for row in await self.crawls()}
        return {message.key for message in messages if message.crawl is not None and message.crawl not in there}


def is_parked(moment: float, now: float, body: str) -> bool:
    """Whether a message is kept in its record until a moment: SQS cannot delay it so long, and it fits there."""
    return moment > now + MAX_DELAY_SECONDS and len(body.encode()) <= MAX_PARKED_BYTES


def parked_until(moment: float, now: float) -> float:
    """Until when it is kept there."""
    return min(moment, now + MAX_PARKED_SECONDS)


def body_of(deferral: Deferral) -> str:
    """What a message says when it comes back."""
    return encoded(deferral.message) if deferral.message is not None else deferral.delivery.body
