"""What a person sees while a crawl runs and when it has ended: the live line and the summary."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from rich.console import Console, OverflowMethod
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sqspider.cli.hosts import trouble_of
from sqspider.frontier import Bill, Clock, Counts, Frontier
from sqspider.host import HostRow
from sqspider.record import Reason, Status

LIVE_SECONDS: Final = 0.5  # between two looks on a terminal, and at least so many times as long as looking takes:
LIVE_PATIENCE: Final = 10
PLAIN_SECONDS: Final = 5.0  # between two lines elsewhere
WINDOW_SECONDS: Final = 15.0  # over which speeds are averaged
SLOWEST_HOSTS: Final = 5


class Speed:
    """Pages and bytes per second over the last while, from counts as they are seen."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int, int]] = deque()

    def see(self, now: float, counts: Counts) -> None:
        finished = counts.total - counts.open
        if self._seen and finished < self._seen[-1][1]:
            self._seen.clear()  # they were cleared away: that is no speed
        self._seen.append((now, finished, counts.bytes))
        while len(self._seen) > 2 and now - self._seen[0][0] > WINDOW_SECONDS:
            self._seen.popleft()

    @property
    def pages(self) -> float:
        return self._slope(1)

    @property
    def bytes(self) -> float:
        return self._slope(2)

    def _slope(self, which: int) -> float:
        if len(self._seen) < 2:
            return 0.0
        first, last = self._seen[0], self._seen[-1]
        return (last[which] - first[which]) / max(last[0] - first[0], 1e-6)


def progress_line(counts: Counts, speed: Speed, in_flight: int, bill: Bill | None, waiting: str | None = None) -> str:
    """One line: done, failed, blocked, queued, in flight, pages/s, bytes/s, cost, time left; or what it waits for."""
    status = counts.by_status
    parts = [f"done {status[Status.DONE]:,}", f"failed {status[Status.FAILED]:,}"]
    if status[Status.BLOCKED]:
        parts.append(f"blocked {status[Status.BLOCKED]:,}")
    parts.append(f"queued {status[Status.QUEUED]:,}")
    if not waiting:  # else nothing happens, and what it waits for is to have room in a narrow terminal
        parts += [f"in flight {in_flight:,}", f"{speed.pages:,.1f} pages/s", f"{human_bytes(speed.bytes)}/s"]
    if bill is not None:
        parts.append(dollars(bill.dollars))
    if counts.open and speed.pages >= 0.05 and not waiting:
        parts.append(f"about {human_seconds(counts.open / speed.pages)} left")
    if waiting:
        parts.append(f"waiting: {waiting}")
    return "  ".join(parts)


class Waiting:
    """What a crawl waits for while nothing happens: hosts that rest, looked for now and then."""

    def __init__(self, frontier: Frontier) -> None:
        self._frontier = frontier
        self._looked_at = -PLAIN_SECONDS
        self._seen: str | None = None

    async def look(self, now: float) -> str | None:
        """For a person. Looking may read every host, so it is not done at each moment."""
        if now - self._looked_at >= PLAIN_SECONDS:
            self._looked_at = now
            rows, time = await self._frontier.hosts_in_trouble(), self._frontier.now()
            told = [f"{row.host} is {trouble}" for row in rows if (trouble := trouble_of(row, time))]
            more = f", and {len(told) - 1:,} more hosts" if len(told) > 1 else ""
            self._seen = f"{told[0]}{more}" if told else None
        return self._seen


async def show_progress(
    frontier: Frontier,
    console: Console,
    *,
    clock: Clock,
    in_flight: Callable[[], int] | None = None,
    trouble: Callable[[], str | None] = lambda: None,
) -> None:
    """Show how the frontier's records stand until cancelled.

    A line that is redrawn on a terminal, a plain line every few seconds elsewhere. ``in_flight``
    says how many fetches are under way; without it the records in ``processing`` are counted. ``trouble``
    says why nothing can be asked from here, if so.
    """
    speed, hosts = Speed(), Waiting(frontier)

    async def look() -> str:
        counts = await frontier.counts()
        speed.see(clock(), counts)
        flying = in_flight() if in_flight else counts.by_status[Status.PROCESSING]
        waiting = trouble()
        if waiting is None and counts.open and not flying and speed.pages < 0.05:
            waiting = await hosts.look(clock())
        return progress_line(counts, speed, flying, await frontier.bill(), waiting)

    with suppress(asyncio.CancelledError):
        if not console.is_terminal:
            while True:
                await look()  # speeds need more looks than lines
                await asyncio.sleep(PLAIN_SECONDS)
                console.print(await look(), highlight=False, soft_wrap=True)
        cut: OverflowMethod = "crop" if console.options.ascii_only else "ellipsis"
        with Live(console=console, auto_refresh=False, transient=True) as live:
            while True:
                started = clock()
                live.update(Text(await look(), overflow=cut, no_wrap=True), refresh=True)
                await asyncio.sleep(max(LIVE_SECONDS, LIVE_PATIENCE * (clock() - started)))


def summary(counts: Counts, hosts: list[HostRow], bill: Bill | None, *, fetched: int, seconds: float) -> dict[str, Any]:
    """What came of a crawl, for a program. ``fetched`` (pages, no redirects) and ``seconds`` are of this run."""
    return {
        "records": counts.total,
        **{status.value: counts.by_status[status] for status in Status},
        "redirects": counts.redirects,
        "reasons": {reason.value: number for reason, number in _by_number(counts)},
        "bytes": counts.bytes,
        "seconds": round(seconds, 3),
        "pages_per_second": round(fetched / seconds, 2) if seconds else 0.0,
        "slowest_hosts": [
            {"host": row.host, "fetches": row.done + row.failed, "mean_seconds": round(_mean(row), 3)}
            for row in slowest(hosts)
        ],
        "dollars": None if bill is None else bill.dollars,
    }


def print_summary(
    console: Console, counts: Counts, hosts: list[HostRow], bill: Bill | None, *, fetched: int, seconds: float
) -> None:
    """The same for a person."""
    speed = f", {fetched / seconds:,.1f} pages/s" if fetched and seconds else ""
    console.print(
        f"{fetched:,} pages in {human_seconds(seconds)}{speed}, {human_bytes(counts.bytes)} in all",
        highlight=False,
    )
    seen = {status: number for status in Status if (number := counts.by_status[status]) or status is Status.DONE}
    console.print(records_table(seen, dict(_by_number(counts)), counts.redirects))
    slow = slowest(hosts)
    if len(hosts) > 1 and slow:
        listed = ", ".join(f"{row.host} {_mean(row):.2f} s" for row in slow)
        console.print(f"slowest hosts: {listed}", highlight=False, style="dim", soft_wrap=True)
    if bill is not None:
        console.print(bill_line(bill.dollars, bill.calls), highlight=False, style="dim", soft_wrap=True)


def records_table(statuses: Mapping[Status, int], reasons: Mapping[Reason, int], redirects: int) -> Table:
    """How many records there are of each status, and below it why; of those done, how many are no pages."""
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


STATUS_STYLES: Final = {
    Status.QUEUED: "cyan",
    Status.PROCESSING: "cyan",
    Status.DONE: "green",
    Status.FAILED: "red",
    Status.BLOCKED: "yellow",
}


def _by_number(counts: Counts) -> list[Any]:
    return sorted(counts.by_reason.items(), key=lambda item: (-item[1], item[0]))


def slowest(hosts: list[HostRow]) -> list[HostRow]:
    """The hosts whose answers took longest on average, slowest first."""
    asked = [row for row in hosts if row.done + row.failed and row.busy_seconds]
    return sorted(asked, key=_mean, reverse=True)[:SLOWEST_HOSTS]


def _mean(row: HostRow) -> float:
    return row.busy_seconds / (row.done + row.failed)


def bill_line(cost: float, calls: int) -> str:
    """What AWS was asked so far, and what it charges for it."""
    return f"AWS so far: about {dollars(cost)} for {calls:,} calls to SQS and DynamoDB, by list price"


def dollars(cost: float) -> str:
    """Money with as many digits as matter: ``$0.0012``, ``$3.40``."""
    return f"${cost:,.2f}" if cost >= 1 else f"${cost:.4f}"


def human_bytes(number: float) -> str:
    """Bytes in a unit that fits: ``1.5 MB``. Powers of 1,000."""
    for unit in ("B", "kB", "MB", "GB"):
        if number < 999.5:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 99.5 else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"


def human_seconds(seconds: float) -> str:
    """A duration in a unit that fits: ``12.3 s``, ``4 min 05 s``, ``3 h 10 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
