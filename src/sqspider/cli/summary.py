"""What came of a crawl: the summary at its end, for a person and for a program; and the records as a table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from sqspider.cli.wording import counted, dollars, human_bytes, human_seconds
from sqspider.frontier import Bill, Counts
from sqspider.host import HostRow, mean_seconds
from sqspider.record import Reason, Status
from sqspider.revisit import Revisit

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SLOWEST_HOSTS: Final = 5
STATUS_STYLES: Final = {
    Status.QUEUED: "cyan",
    Status.PROCESSING: "cyan",
    Status.DONE: "green",
    Status.FAILED: "red",
    Status.BLOCKED: "yellow",
}


def summary(
    counts: Counts,
    slow: list[HostRow],
    bill: Bill | None,
    *,
    fetched: int,
    seconds: float,
    again: Mapping[Revisit, int],
    kept: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What came of a crawl, for a program. ``fetched`` (pages, no redirects), ``seconds``, and what came of the URLs
    that were visited ``again`` are of this run. ``kept``: where its pages are kept; none: nowhere."""
    return {
        "records": counts.total,
        **{status.value: counts.by_status[status] for status in Status},
        "redirects": counts.redirects,
        "reasons": {reason.value: number for reason, number in _by_number(counts)},
        "bytes": counts.bytes,
        "visited_again": {each.value: again.get(each, 0) for each in Revisit},
        "seconds": round(seconds, 3),
        "pages_per_second": round(fetched / seconds, 2) if seconds else 0.0,
        "slowest_hosts": [
            {"host": row.host, "fetches": row.done + row.failed, "mean_seconds": round(mean_seconds(row), 3)}
            for row in slow
        ],
        "dollars": None if bill is None else bill.dollars,
        "archive": kept,
    }


def print_summary(
    console: Console,
    counts: Counts,
    slow: list[HostRow],
    bill: Bill | None,
    *,
    fetched: int,
    seconds: float,
    again: Mapping[Revisit, int],
    kept: str | None = None,
) -> None:
    """The same for a person."""
    speed = f", {fetched / seconds:,.1f} pages/s" if fetched and seconds else ""
    console.print(
        f"{counted(fetched, 'page', 'pages')} in {human_seconds(seconds)}{speed}, {human_bytes(counts.bytes)} in all",
        highlight=False,
    )
    if again:
        told = ", ".join(f"{again[each]:,} {each.value}" for each in Revisit if again.get(each))
        console.print(f"{sum(again.values()):,} visited again: {told}", highlight=False, soft_wrap=True)
    seen = {status: number for status in Status if (number := counts.by_status[status]) or status is Status.DONE}
    console.print(records_table(seen, dict(_by_number(counts)), counts.redirects))
    if kept is not None:
        console.print(kept, highlight=False, soft_wrap=True, markup=False)
    if len(slow) > 1:
        listed = ", ".join(f"{row.host} {mean_seconds(row):.2f} s" for row in slow)
        console.print(f"slowest hosts: {listed}", highlight=False, style="dim", soft_wrap=True)
    if bill is not None:
        console.print(bill_line(bill), highlight=False, style="dim", soft_wrap=True)


def records_table(statuses: Mapping[Status, int], reasons: Mapping[Reason, int], redirects: int) -> Table:
    """How many records there are of each status, and below it why; of those done, how many are no pages."""
    from rich.table import Table  # here: what is printed as JSON needs none
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right")
    table.add_column()
    width = max((len(f"{times:,}") for times in reasons.values()), default=0)
    for status, number in statuses.items():
        table.add_row(f"{number:,}", Text(status.value, style=STATUS_STYLES[status]))
        if status is Status.DONE and redirects:
            table.add_row("", Text(f"  {redirects:>{width},}  redirects", style="dim"))
        for reason, times in reasons.items():
            if reason.status is status:
                table.add_row("", Text(f"  {times:>{width},}  {reason.value}", style="dim"))
    return table


def _by_number(counts: Counts) -> list[Any]:
    return sorted(counts.by_reason.items(), key=lambda item: (-item[1], item[0]))


def bill_line(bill: Bill) -> str:
    """What AWS was asked so far, and what it charges for it."""
    return f"AWS so far: about {dollars(bill.dollars)} for {bill.calls:,} calls to SQS and DynamoDB, by list price"
