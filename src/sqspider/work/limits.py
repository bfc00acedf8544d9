"""Limits of a crawl's own, over all of its runs: which of them it has reached."""

from __future__ import annotations

from typing import NamedTuple

from sqspider.crawl_row import Crawl
from sqspider.frontier import Counts, Looking
from sqspider.record import Status


class Reached(NamedTuple):
    """A limit of a crawl's own that it has reached."""

    says: str
    option: str  # that sets it

    def told_of(self, crawl: str) -> str:
        """That a crawl has reached it, and what raises it."""
        return f"{self.says}: its limit; `sqspider crawls set {crawl} --{self.option} N` raises it"


async def limit_reached(frontier: Looking, row: Crawl, now: float) -> Reached | None:
    """Which of its limits a crawl has reached, if any. Raises :class:`sqspider.frontier.FrontierError`."""
    limits = row.limits
    if limits.seconds is not None and now - row.created_at >= limits.seconds:
        return Reached(f"it was made {limits.seconds:g} seconds ago or more", "limit-seconds")
    if limits.pages is not None or limits.bytes is not None:
        counts = await frontier.counts(crawl=row.name, roughly=True)
        if limits.pages is not None and (pages := _pages(counts)) >= limits.pages:
            return Reached("1 page was fetched" if pages == 1 else f"{pages:,} pages were fetched", "limit-pages")
        if limits.bytes is not None and counts.bytes >= limits.bytes:
            return Reached(f"{counts.bytes:,} bytes were read", "limit-bytes")
    if limits.dollars is not None:
        bill = await frontier.bill()
        if bill is not None and bill.dollars >= limits.dollars:
            return Reached(f"{bill.dollars:.2f} dollars were spent", "limit-dollars")
    return None


def _pages(counts: Counts) -> int:
    """Pages that were fetched, redirects not counted."""
    return counts.by_status[Status.DONE] - counts.redirects + counts.by_status[Status.FAILED]
