"""`crawl --again`: what is known is visited once more, asked about first where that costs money."""

from __future__ import annotations

from sqspider.again import visit_again, what_is_known
from sqspider.cli.asking import ask, reopening_cost
from sqspider.cli.bars import bar
from sqspider.cli.wording import counted
from sqspider.frontier import Frontier


async def ask_first(frontier: Frontier, crawl: str, older_than_seconds: float | None) -> None:
    """Ask whether what is known of a crawl is to be put back, where that costs money. Raises as :func:`ask`."""
    if not frontier.traits.scan_dollars:
        return
    choice = what_is_known(frontier, crawl, older_than_seconds)
    number = choice.of_counts(await frontier.counts(crawl=crawl)).total()
    if number:
        urls = f"{'' if choice.is_counted else 'at most '}{counted(number, 'URL', 'URLs')} of the crawl {crawl}"
        cost = reopening_cost(frontier.traits, (await frontier.counts()).total, number)
        ask(f"this visits {urls} once more", f"Visit {urls} once more?", cost)


async def put_back(frontier: Frontier, crawl: str, older_than_seconds: float | None, *, quiet: bool) -> str:
    """Put back what is known, for a visit more; in words how much that is."""
    with bar(quiet=quiet) as progress:
        task = progress.add_task("putting back", total=None)
        done = await visit_again(
            frontier, crawl, older_than_seconds, lambda number: progress.update(task, completed=number)
        )
    return f"{counted(done.kinds.total(), 'URL is', 'URLs are')} visited once more"
