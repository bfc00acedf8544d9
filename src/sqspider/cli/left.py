"""What a run of `crawl` says of what it did not do: nothing to do, what is left, how to go on, and what is next."""

from __future__ import annotations

import os
import shlex
from typing import Final

import click

from sqspider.cli.order import go_on, sqspider
from sqspider.cli.shared import Shared
from sqspider.cli.wording import counted
from sqspider.crawl_row import Crawl, State
from sqspider.crawl_settings import CrawlSettings
from sqspider.environment import load_environment
from sqspider.frontier import Counts, Frontier
from sqspider.frontier.shares import Spent
from sqspider.orders.keeping import archive_of_frontier
from sqspider.orders.order import Order
from sqspider.orders.start import ArchivePlace
from sqspider.record import DEFAULT_CRAWL, Status
from sqspider.url import Scope
from sqspider.work.crawl_orders import crawl_named
from sqspider.work.limits import limit_reached, spent_of

RETRIED: Final = {
    Status.DONE: "fetches its pages whole, also for links that were left out",  # a page that has not changed shows none
    Status.FAILED: "puts back what failed",
    Status.BLOCKED: "puts back what is blocked",
}

TABLE: Final = "pages.csv"  # that is proposed to a person: whoever has one knows how to make it


def no_urls(shared: Shared) -> click.UsageError:
    """That there is nothing to begin with."""
    return click.UsageError(
        f"no URL was given, and {shared.frontier} holds no unfinished crawl. Say one to begin: "
        f"`{sqspider(shared)} crawl https://example.com/`."
    )


def nothing_to_do(shared: Shared, order: Order, crawl: Crawl | None, known: Counts) -> str:
    """That all that is known is finished, and what could be done."""
    name = order.name
    where = f"the crawl {name} in {shared.frontier}"
    ways = ["--again looks whether its pages have changed"]
    if crawl and crawl.settings.max_depth is not None and crawl.settings.scope is not Scope.PAGE:
        ways[0] = f"--depth goes deeper; {ways[0]}"
    for status, what in RETRIED.items():
        if number := known.by_status[status]:
            retry = go_on(shared, name, f"retry --status {status.value}")
            ways.append(f"`{retry}` {what} ({number:,})")
    done = f"nothing to do: every URL is known and finished in {where} ({counted(known.total, 'record', 'records')})"
    return "\n  ".join((done, *ways, "--crawl NAME makes another crawl"))


async def what_is_left(frontier: Frontier, shared: Shared, order: Order, open_records: int, why: str) -> str:
    """How many URLs are left, and what goes on with them. ``why``: the run ended, where the crawl does not tell."""
    name, them = order.name, "them" if open_records > 1 else "it"
    goes_on = f"`{go_on(shared, name, secrets_folder=order.secrets_folder)}` goes on with {them}"
    crawl = await crawl_named(frontier, name)  # as it is now
    spent = await spent_of(frontier, crawl) if crawl else Spent()
    reached = await limit_reached(frontier, crawl, spent, frontier.now()) if crawl else None
    if crawl is not None and crawl.state is not State.RUNNING:
        why = f"the crawl {name} is {crawl.state.value}"
    elif reached is not None:
        why = f"{reached.says}, and the crawl {name} rests"
        goes_on = f"`{sqspider(shared)} crawls set {name} --{reached.option} N` raises its limit, then {goes_on}"
    return f"{why}: {counted(open_records, 'URL is left', 'URLs are left')}: {goes_on}"


def next_command(
    shared: Shared, order: Order, crawl: Crawl | None, place: ArchivePlace | None, found: Counts, *, has_rows: bool
) -> str:
    """The one command that is of most use after a crawl that is over, and what for; nothing, if there is none.

    What failed comes first: with an archive it is told with the pages that link to it. Else the pages become a table,
    unless they have done so (``has_rows``).
    """
    if found.open or not order.is_kept:
        return ""
    settings = CrawlSettings() if crawl is None else crawl.settings
    has_pages = place is not None and found.pages > 0 and settings.keeps("text/html")
    if found.by_status[Status.FAILED]:
        if has_pages and settings.scope is not Scope.PAGE:
            return (
                f"`{_of_archive(shared, order.name, place, 'links --broken')}` names what failed, and who links there"
            )
        return f"`{go_on(shared, order.name, 'export --status failed')}` names what failed"
    if not has_pages or has_rows or os.path.lexists(TABLE):
        return ""
    return f"`{_of_archive(shared, order.name, place, f'extract --title --to {TABLE}')}` makes a table of the pages"


def _of_archive(shared: Shared, name: str, place: ArchivePlace | None, command: str) -> str:
    """A command line about what a crawl has kept. An archive that is not its frontier's own is named, and the frontier
    beside it: who names an archive alone asks no frontier."""
    if place is None or place.address == archive_of_frontier(shared.frontier, load_environment()):
        return go_on(shared, name, command)
    verb, _, options = command.partition(" ")
    named = f"{'--archive ' if verb == 'links' else ''}{shlex.quote(place.address)}"
    is_asked = verb == "links" or name != DEFAULT_CRAWL
    return go_on(Shared(shared.frontier) if is_asked else shared, name, f"{verb} {named} {options}")
