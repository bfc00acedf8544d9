"""Messages in memory: sent, received, deferred, deleted."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
from collections.abc import Sequence

import msgspec

from sqspider.frontier.answers import not_before
from sqspider.frontier.memory.part import Part, operation
from sqspider.frontier.memory.queue import Sift, Stored
from sqspider.frontier.values import Deferral, Delivery
from sqspider.message import Message, encode_message
from sqspider.record import UrlRecord


class Messages(Part):
    """What the queue holds, and who has it in hand."""

    def _send(self, body: str) -> bool:
        self._store.queue.send(body, self._clock())
        self._store.tell()
        return True

    @operation
    def send(self, bodies: Sequence[str]) -> None:
        for body in bodies:
            self._send(body)

    async def receive(self, limit: int, *, wait_seconds: float = 0.0, crawl: str | None = None) -> list[Delivery]:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + wait_seconds
        while True:
            deliveries, next_visible, news = await self._run(functools.partial(self._receive, limit, crawl))
            left = give_up_at - loop.time()
            if deliveries or left <= 0:
                return deliveries
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, max(next_visible - self._clock(), 0.001))):
                    await news.wait()

    def _receive(self, limit: int, crawl: str | None) -> tuple[list[Delivery], float, asyncio.Event]:
        """What is visible, when more will be, and who tells if it is sooner."""
        return self._take(limit, crawl), self._store.queue.next_visible(crawl), self._store.news

    async def wait(self, seconds: float, *, crawl: str | None = None) -> None:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + seconds
        were_some = False
        while True:
            _, next_visible, news = await self._run(functools.partial(self._receive, 0, crawl))
            are_some = self._store.queue.next_visible() < math.inf
            left, until_then = give_up_at - loop.time(), next_visible - self._clock()
            if left <= 0 or until_then <= 0 or (were_some and not are_some):
                return
            were_some = are_some
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, max(until_then, 0.001))):
                    await news.wait()

    def _take(self, limit: int, crawl: str | None, sift: Sift | None = None) -> list[Delivery]:
        now = self._clock()
        self._generation = self._store.generation
        self._receipts += 1
        taken = self._store.queue.take(
            limit,
            now=now,
            until=now + self._settings.visibility_seconds,
            max_receives=self._settings.max_receives,
            receipt=f"{self._receipt_prefix}:{self._receipts}",
            crawl=crawl,
            sift=sift,
        )
        return [self._delivery_of(stored) for stored in taken]

    def _delivery_of(self, stored: Stored) -> Delivery:
        message, body = stored.message, stored.body
        record = None if message is None else self._store.records.get(message.key)
        if record is not None and message is not None and _has_fallen(record, message):
            way = {"depth": record.depth, "redirects": record.redirects, "parent": record.parent}
            body = encode_message(msgspec.structs.replace(message, **way))
        return Delivery(
            message_id=str(stored.id),
            receipt=stored.receipt,
            body=body,
            receive_count=stored.receive_count,
            sent_at=stored.sent_at,
            is_finished=record is not None and record.status.is_final,
        )

    @operation
    def defer(self, deferrals: Sequence[Deferral]) -> None:
        self._defer(deferrals)

    def _defer(self, deferrals: Sequence[Deferral]) -> None:
        for deferral in deferrals:
            self._put_off(deferral.delivery, deferral.until, deferral.message)

    def _put_off(self, delivery: Delivery, until: float, message: Message | None = None) -> None:
        self._store.queue.put_off(delivery, not_before(self._clock(), until), message)
        self._store.tell()

    @operation
    def delete(self, deliveries: Sequence[Delivery]) -> None:
        self._delete(deliveries)

    def _delete(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._store.queue.delete(delivery)


def _has_fallen(record: UrlRecord, message: Message) -> bool:
    """Whether a nearer way to a URL was found since its message was sent."""
    return record.depth < message.depth or (record.depth == message.depth and record.redirects < message.redirects)
