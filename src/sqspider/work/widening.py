"""What a crawl's wider limit lets come back is put into the queue again."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from itertools import compress
from typing import NamedTuple

import msgspec

from sqspider.crawl_row import Crawl, Widening
from sqspider.frontier import Frontier
from sqspider.record import Status, UrlRecord
from sqspider.widening import SEEN_SECONDS, comes_back
from sqspider.work.crawl_orders import crawl_named
from sqspider.work.limits import begin_to_count, count_no_more


async def may_return(frontier: Frontier, crawl: Crawl) -> dict[Status, int]:
    """Of which records some come back by what a row lets in again: how many there are at most, by status. To find them
    all records of the status are read."""
    widening = crawl.widening
    if widening is None:
        return {}
    counts = await frontier.counts(crawl=crawl.name)
    by_status = counts.by_status
    pages = by_status[Status.DONE] if widening.pages_from_depth is not None or widening.checked else 0
    failed = by_status[Status.FAILED] if widening.checked else 0
    blocked = sum(counts.by_reason.get(reason, 0) for reason in widening.reasons)
    most = ((Status.DONE, pages), (Status.FAILED, failed), (Status.BLOCKED, blocked))
    return {status: number for status, number in most if number}


class Returned(NamedTuple):
    """How many records came back."""

    pages: int = 0  # that are gone into again, whose links were not followed
    blocked: int = 0
    checked: int = 0  # that lay outside


async def bring_back(frontier: Frontier, crawl: Crawl, on_step: Callable[[int], None] = lambda _: None) -> Returned:
    """Queue again what a row's widening lets in, and note that it is done; ``on_step`` gets the number so far.

    Dying half-way leaves the row as it is: whoever does it again goes on.
    """
    if crawl.widening is None:
        return Returned()
    if await frontier.workers() or frontier.traits.lag_seconds:
        # What came back sooner could be judged by the limit of before.
        await asyncio.sleep(min(max(0.0, crawl.widening.at - frontier.now()), SEEN_SECONDS))
    await begin_to_count(frontier, [crawl])
    returned: Counter[str] = Counter()
    for status in await may_return(frontier, crawl):
        async for batch in frontier.scan(status=status, crawl=crawl.name):
            if keys := [record.key for record in batch if comes_back(record, crawl)]:
                done = set(compress(keys, await frontier.reopen(keys)))
                await count_no_more(frontier, [record for record in batch if record.key in done])
                returned.update(_kind_of(record) for record in batch if record.key in done)
                on_step(returned.total())
    await _note_done(frontier, crawl.name, crawl.widening)
    return Returned(**returned)


def _kind_of(record: UrlRecord) -> str:
    """As what :class:`Returned` counts a record."""
    if record.outcome is not None and record.outcome.checked:
        return "checked"
    return "blocked" if record.status is Status.BLOCKED else "pages"


async def _note_done(frontier: Frontier, name: str, seen: Widening) -> None:
    """Whatever orders were given meanwhile; what another one widened is left to whoever said it."""
    while True:
        row = await crawl_named(frontier, name)
        if row is None or row.widening != seen:
            return
        if await frontier.save_crawl(msgspec.structs.replace(row, widening=None)):
            return
