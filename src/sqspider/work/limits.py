"""Limits of a crawl's own, over all of its runs: which of them it has reached, and what counts for them no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from sqspider.crawl_row import Crawl, CrawlRef
from sqspider.frontier import Crawls, Looking
from sqspider.frontier.shares import Ask, Most, Spent, run_of_crawl
from sqspider.record import UrlRecord


class Spending(Crawls, Looking, Protocol):
    """What is asked of a frontier by who looks how much was taken."""


class Reached(NamedTuple):
    """A limit of a crawl's own that it has reached."""

    says: str
    option: str  # that sets it

    def told_of(self, crawl: str) -> str:
        """That a crawl has reached it, and what raises it."""
        return f"{self.says}: its limit; `sqspider crawls set {crawl} --{self.option} N` raises it"


async def spent_of(frontier: Spending, row: Crawl) -> Spent:
    """What was taken of a crawl's limits of pages and bytes, if it has any. Raises
    :class:`sqspider.frontier.FrontierError`."""
    if not row.limits.are_counted:
        return Spent()
    run = (await frontier.runs([run_of_crawl(row)])).get(run_of_crawl(row))
    return await _spent_before(frontier, row) if run is None else run.all_spent


async def _spent_before(frontier: Looking, row: Crawl) -> Spent:
    """What a crawl had taken before anybody counted that for these limits, by its records: what could not be asked for
    (a host that was given up) is among it."""
    counts = await frontier.counts(crawl=row.name, roughly=True)
    return Spent(counts.pages, counts.bytes)


async def begin_to_count(frontier: Spending, rows: Iterable[Crawl]) -> dict[CrawlRef, Spent]:
    """See to it that what crawls take of their limits of pages and bytes is counted from now on; what each has taken.
    Those without such limits are left out. By whoever works on them or puts something of them back, first: what its
    records say then would be too much later. Raises :class:`sqspider.frontier.FrontierError`."""
    counted = [row for row in rows if row.limits.are_counted]
    runs = await frontier.runs([run_of_crawl(row) for row in counted]) if counted else {}
    found = {row.ref: run.all_spent for row in counted if (run := runs.get(run_of_crawl(row))) is not None}
    new = {row: await _spent_before(frontier, row) for row in counted if row.ref not in found}
    if new:
        ask = partial(Ask, most=Most(), worker_id="", wanted=0, until=0.0)
        await frontier.share([ask(run=run_of_crawl(row), before=spent) for row, spent in new.items()])
    return found | {row.ref: spent for row, spent in new.items()}


async def limit_reached(frontier: Looking, row: Crawl, spent: Spent, now: float) -> Reached | None:
    """Which of its limits a crawl has reached, if any, that has spent so much. Raises
    :class:`sqspider.frontier.FrontierError`."""
    limits = row.limits
    if limits.seconds is not None and now - row.created_at >= limits.seconds:
        return Reached(f"it was made {limits.seconds:g} seconds ago or more", "limit-seconds")
    if limits.pages is not None and spent.pages >= limits.pages:
        says = "1 page was fetched" if spent.pages == 1 else f"{spent.pages:,} pages were fetched"
        return Reached(says, "limit-pages")
    if limits.bytes is not None and spent.bytes >= limits.bytes:
        return Reached(f"{spent.bytes:,} bytes were read", "limit-bytes")
    if limits.dollars is not None:
        bill = await frontier.bill()
        if bill is not None and bill.dollars >= limits.dollars:
            return Reached(f"{bill.dollars:.2f} dollars were spent", "limit-dollars")
    return None


async def count_no_more(frontier: Crawls, reopened: Sequence[UrlRecord]) -> None:
    """What is put back is to be fetched anew, and counts no more in its crawl, if that has a limit of pages or bytes.
    Dying before leaves it counted. Raises :class:`sqspider.frontier.FrontierError`."""
    if not reopened:
        return
    rows = {row.name: row for row in await frontier.crawls() if row.limits.are_counted}
    for name, row in rows.items():
        ends = [record.outcome for record in reopened if record.crawl == name and record.outcome is not None]
        fetched = [end for end in ends if end.was_fetched]
        pages = sum(not end.is_redirect for end in fetched)
        if fetched:
            await frontier.free(run_of_crawl(row), Spent(pages, sum(end.bytes_read for end in fetched)))
