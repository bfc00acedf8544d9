"""What comes back once a crawl's limit was widened, asked about where that costs money, and told to a person."""

from __future__ import annotations

from sqspider.cli.asking import ask, reopening_cost
from sqspider.cli.wording import counted
from sqspider.crawl_row import Crawl
from sqspider.frontier import Frontier
from sqspider.work.widening import bring_back, may_return


async def ask_first(frontier: Frontier, crawl: Crawl) -> None:
    """Ask whether what a row lets in again is to come back, where that costs money. Raises as :func:`ask`."""
    traits = frontier.traits
    if not traits.scan_dollars or not (most := await may_return(frontier, crawl)):
        return
    records, number = (await frontier.counts()).total, sum(most.values())
    urls = counted(number, "URL", "URLs")
    ask(
        f"this lets in again, in the crawl {crawl.name}, at most {urls}, and reads all records for that",
        f"At most {urls} of the crawl {crawl.name} come back. Look for them?",
        reopening_cost(traits, records, number, times=len(most)),
    )


async def come_back(frontier: Frontier, crawl: Crawl, *, quiet: bool = False) -> str | None:
    """Bring back what a row lets in again; in words how much that is, if anything."""
    if crawl.widening is None:
        return None
    from sqspider.cli.bars import bar  # here: few orders let anything in again

    with bar(quiet=quiet) as progress:
        task = progress.add_task("bringing back", total=None)
        returned = await bring_back(frontier, crawl, lambda number: progress.update(task, completed=number))
    told = []
    if returned.pages:
        told.append(f"{counted(returned.pages, 'page is', 'pages are')} gone into again")
    if returned.blocked:
        told.append(f"{counted(returned.blocked, 'URL that was blocked comes', 'URLs that were blocked come')} back")
    if returned.checked:
        told.append(f"{counted(returned.checked, 'URL that was checked comes', 'URLs that were checked come')} back")
    return ", ".join(told) or None
