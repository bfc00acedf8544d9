"""What a crawl's wider limit lets come back is put into the queue again."""

from __future__ import annotations

import asyncio
from itertools import compress
from typing import NamedTuple

import msgspec

from sqspider.crawl_row import Crawl, Widening
from sqspider.frontier import Frontier
from sqspider.record import Status
from sqspider.widening import SEEN_SECONDS, comes_back
from sqspider.work.budgets import count_no_more
from sqspider.work.crawl_orders import crawl_named


class Returned(NamedTuple):
    """How many records came back."""

    pages: int = 0  # that are gone into again, whose links were not followed
    blocked: int = 0


async def bring_back(frontier: Frontier, crawl: Crawl) -> Returned:
    """Queue again what a row's widening lets in, and note that it is done.

    Dying half-way leaves the row as it is: whoever does it again goes on. Reads the records that are done, or blocked,
    where there are any that may come back.
    """
    if crawl.widening is None:
        return Returned()
    if await frontier.workers() or frontier.traits.lag_seconds:
        # What came back sooner could be judged by the limit of before.
        await asyncio.sleep(min(max(0.0, crawl.widening.at - frontier.now()), SEEN_SECONDS))
    counts = await frontier.counts(crawl=crawl.name)
    pages = blocked = 0
    if crawl.widening.pages_from_depth is not None and counts.by_status[Status.DONE]:
        pages = await _reopened(frontier, crawl, Status.DONE)
    if any(counts.by_reason.get(reason) for reason in crawl.widening.reasons):
        blocked = await _reopened(frontier, crawl, Status.BLOCKED)
    await _note_done(frontier, crawl.name, crawl.widening)
    return Returned(pages, blocked)


async def _note_done(frontier: Frontier, name: str, seen: Widening) -> None:
    """Whatever orders were given meanwhile; what another one widened is left to whoever said it."""
    while True:
        row = await crawl_named(frontier, name)
        if row is None or row.widening != seen:
            return
        if await frontier.save_crawl(msgspec.structs.replace(row, widening=None)):
            return


async def _reopened(frontier: Frontier, crawl: Crawl, status: Status) -> int:
    number = 0
    async for batch in frontier.scan(status=status, crawl=crawl.name):
        if keys := [record.key for record in batch if comes_back(record, crawl)]:
            done = set(compress(keys, await frontier.reopen(keys)))
            await count_no_more(frontier, [record for record in batch if record.key in done])
            number += len(done)
    return number
