"""What a run of `crawl` says of what it did not do: nothing to do, what is left, and how to go on."""

from __future__ import annotations

from typing import Final

from sqspider.cli.order import go_on, sqspider
from sqspider.cli.shared import Shared
from sqspider.cli.wording import counted
from sqspider.crawl_row import Crawl, State
from sqspider.frontier import Counts, Frontier
from sqspider.frontier.shares import Spent
from sqspider.orders.order import Order
from sqspider.record import Status
from sqspider.url import Scope
from sqspider.work.crawl_orders import crawl_named
from sqspider.work.limits import limit_reached, spent_of

RETRIED: Final = {
    Status.DONE: "fetches its pages whole, also for links that were left out",  # a page that has not changed shows none
    Status.FAILED: "puts back what failed",
    Status.BLOCKED: "puts back what is blocked",
}


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
