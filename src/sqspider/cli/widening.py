"""What comes back once a crawl's limit was widened, told to a person."""

from __future__ import annotations

from sqspider.cli.wording import counted
from sqspider.crawl_row import Crawl
from sqspider.frontier import Frontier
from sqspider.work.widening import bring_back


async def come_back(frontier: Frontier, crawl: Crawl) -> str | None:
    """Bring back what a row lets in again; in words how much that is, if anything."""
    returned = await bring_back(frontier, crawl)
    told = []
    if returned.pages:
        told.append(f"{counted(returned.pages, 'page is', 'pages are')} gone into again")
    if returned.blocked:
        told.append(f"{counted(returned.blocked, 'URL that was blocked comes', 'URLs that were blocked come')} back")
    return ", ".join(told) or None
