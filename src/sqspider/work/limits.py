"""Limits of a crawl's own, over all of its runs: which of them it has reached, and what counts for them no more."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import NamedTuple, Protocol

from sqspider.crawl_row import Crawl, CrawlRef
from sqspider.frontier import Counts, Crawls, Looking
from sqspider.frontier.shares import Ask, Most, Spent, run_of_crawl
from sqspider.record import Status, UrlRecord


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
    return (await spent_of_each(frontier, [row])).get(row.ref, Spent())


async def spent_of_each(frontier: Spending, rows: Iterable[Crawl]) -> dict[CrawlRef, Spent]:
    """The same of several crawls, asked together; those without such limits are left out."""
    counted, found = [row for row in rows if row.limits.are_counted], dict[CrawlRef, Spent]()
    runs = await frontier.runs([run_of_crawl(row) for row in counted]) if counted else {}
    for row in counted:
        if (run := runs.get(run_of_crawl(row))) is not None:
            found[row.ref] = run.all_spent
        else:  # nobody has taken any since it has these limits
            counts = await frontier.counts(crawl=row.name, roughly=True)
            found[row.ref] = Spent(_pages(counts), counts.bytes)
    return found


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


async def begin_to_count(frontier: Spending, crawl: str | None) -> None:
    """Before something of a crawl is put back: count what it takes of its limits of pages and bytes, if it has any. A
    worker's copy of its counts would be too much as soon as that is back. None: of every crawl. Raises
    :class:`sqspider.frontier.FrontierError`."""
    rows = [row for row in await frontier.crawls() if row.limits.are_counted and crawl in (None, row.name)]
    if not rows:
        return
    spent = await spent_of_each(frontier, rows)
    ask = partial(Ask, most=Most(), worker_id="", wanted=0, until=0.0)
    await frontier.share([ask(run=run_of_crawl(row), before=spent[row.ref]) for row in rows])


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


def _pages(counts: Counts) -> int:
    """Pages that were fetched, redirects not counted."""
    return counts.by_status[Status.DONE] - counts.redirects + counts.by_status[Status.FAILED]
