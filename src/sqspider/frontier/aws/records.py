"""How URLs are recorded, and how records are read.

Each operation is a few batch calls in the safe order; what dies half-way is found again by its lease or by
``due_at``. A throttled, failed or unclear call is tried again or raised.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from sqspider.frontier.answers import counted, enqueued_in_order, is_due
from sqspider.frontier.aws.attributes import Item, n, optional, text
from sqspider.frontier.aws.batches import batches
from sqspider.frontier.aws.doubts import Doubt
from sqspider.frontier.aws.items import is_record, new_item, record_of, size_of, status_of
from sqspider.frontier.aws.nearing import WAY, Nearing, may_be_nearer
from sqspider.frontier.aws.outgoing import outgoing
from sqspider.frontier.aws.part import Shared
from sqspider.frontier.aws.table import mark_by
from sqspider.frontier.values import Entry
from sqspider.frontier.ways import nearest_of_each
from sqspider.log import get_logger
from sqspider.record import Status, UrlRecord

ENQUEUE_BATCH: Final = 500  # URLs under way at a time: one takes some 4 KB of memory
MAX_RECORD_BYTES: Final = 180_000  # of a new record: a parked body and an outcome come to it

log = get_logger(__name__)


class Parked(NamedTuple):
    """What a record keeps that has no message."""

    until: float
    body: str  # of the message that is sent then
    is_aside: bool = False  # it waits for its crawl to run again: see ``aside``


class Recorded(NamedTuple):
    """What became of records that were to be inserted, by their keys."""

    new: dict[str, None]  # in order
    refused: dict[str, str]  # what no record can be made of, and why


class Records(Nearing):
    """The URL records: recording and reading."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._enqueueing = asyncio.Lock()

    async def enqueue(self, entries: Sequence[Entry]) -> list[bool]:
        answers: list[bool] = []
        for part in batches(entries, ENQUEUE_BATCH):
            answers += await self._enqueue(part)
        await self._flush_if_due()
        return answers

    async def _enqueue(self, entries: Sequence[Entry]) -> list[bool]:
        by_url = nearest_of_each(entries)
        # Reading first: a known URL then costs half a read unit, not the whole write unit of a
        # condition that fails. One at a time, so that two pages of this worker do not both find a
        # link missing. Just after a clearing a read that is behind would still find it; what somebody puts in is not
        # read at all: he need not have heard of the clearing.
        links = [url for url, entry in by_url.items() if entry.parent is not None]
        async with self._enqueueing:
            known = await self._table.read(links, projection=None if self._host_rows.was_cleared_lately else WAY)
            new, refused = await self._insert([entry for url, entry in by_url.items() if url not in known])
        if due := self._changed_since({url: by_url[url] for url in known}, known):
            await self._reopen(due, if_changed=True, lastmods=due)
        # What a record can hold, a message can.
        await self._queue.send([outgoing(by_url[url].to_message()) for url in new])
        others = {url: entry for url, entry in by_url.items() if url not in new and url not in refused}
        nearer = {url: it for url, it in others.items() if url not in known or may_be_nearer(known[url], it)}
        if nearer:
            await self._come_nearer(nearer)
        return enqueued_in_order(entries, new)

    def _changed_since(self, entries: Mapping[str, Entry], known: Mapping[str, Item]) -> dict[str, float]:
        """What has changed since its last visit, by what a sitemap says."""
        now, due = self._clock(), {}
        for url, entry in entries.items():
            if entry.lastmod is not None:
                ended = status_of(known[url]), optional(known[url], "finished_at")
                if is_due(entry.lastmod, *ended, now):
                    due[url] = entry.lastmod
        return due

    async def _insert(self, entries: Sequence[Entry], *, parked: Mapping[str, Parked] | None = None) -> Recorded:
        """Insert records that are missing; which were new, in order. ``parked``: by key.

        One that DynamoDB does not take is left out, and named in the log.
        """
        mark = mark_by(self._rng)
        items, refused = self._items(entries, mark, parked or {})

        def is_own(item: Item) -> bool:
            return text(item, "claim_id") == mark

        with self._doubts.unless_answered(Doubt(url, is_own, partial(self._count_new, url)) for url in items):
            written = await self._table.write([self._table.insert(item) for item in items.values()])
            unsure = [url for url, w in zip(items, written, strict=True) if w.is_unsure and not w.is_done]
            own = {url for url, item in (await self._table.read(unsure)).items() if is_own(item)}
        refused |= {url: w.refusal for url, w in zip(items, written, strict=True) if w.refusal}
        for url, why in refused.items():
            log.error("record_refused", url=url, why=why)
        new = {url: None for url, w in zip(items, written, strict=True) if w.is_done or url in own}
        for url in new:
            self._count_new(url)
        return Recorded(new, refused)

    def _items(
        self, entries: Sequence[Entry], mark: str, parked: Mapping[str, Parked]
    ) -> tuple[dict[str, Item], dict[str, str]]:
        """Items of new records by key, and what no record can be made of."""
        now = self._clock()
        items, refused = {}, {}
        for entry in entries:
            key = entry.key
            kept = parked.get(key)
            due_at = now + self._settings.due_seconds if kept is None else kept.until
            item = new_item(entry, mark=mark, now=now, due_at=due_at, parked_body=kept and kept.body)
            if kept is not None and kept.is_aside:
                item["aside"] = n(due_at)
            if size_of(item) > MAX_RECORD_BYTES:
                refused[key] = f"a record of more than {MAX_RECORD_BYTES:,} bytes: its settings are too long"
            else:
                items[key] = item
        return items, refused

    def _count_new(self, key: str, _: Item | None = None) -> None:
        self._sums.add(key, counted(None, Status.QUEUED))

    async def get(self, keys: Sequence[str]) -> dict[str, UrlRecord]:
        items = await self._table.read(keys)
        return {key: record_of(items[key]) for key in keys if key in items}

    async def scan(
        self, *, status: Status | None = None, host: str | None = None, crawl: str | None = None
    ) -> AsyncIterator[list[UrlRecord]]:
        async for items in self._table.scan():
            records = [record_of(item) for item in items if is_record(item["url"]["S"])]
            yield [
                record
                for record in records
                if status in (None, record.status) and host in (None, record.host) and crawl in (None, record.crawl)
            ]
