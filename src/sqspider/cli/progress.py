"""What a person sees while a crawl runs: the live line, and a line for each sitemap."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

from sqspider.cli.wording import dollars, human_bytes, human_seconds, printable
from sqspider.frontier import Bill, Clock, Counts
from sqspider.log import get_logger
from sqspider.record import Status
from sqspider.report import Readable, hosts_in_trouble

if TYPE_CHECKING:
    from rich.console import Console, OverflowMethod

    from sqspider.work.sitemaps import SitemapReport

LIVE_SECONDS: Final = 0.5  # between two looks on a terminal, and at least so many times as long as looking takes:
LIVE_PATIENCE: Final = 10
PLAIN_SECONDS: Final = 5.0  # between two lines elsewhere
WINDOW_SECONDS: Final = 15.0  # over which speeds are averaged

log = get_logger(__name__)


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
        parts.append(f"waiting: {printable(waiting)}")
    return "  ".join(parts)


class Waiting:
    """What a crawl waits for while nothing happens: hosts that rest, looked for now and then."""

    def __init__(self, frontier: Readable) -> None:
        self._frontier = frontier
        self._looked_at = -PLAIN_SECONDS
        self._seen: str | None = None

    async def look(self, now: float) -> str | None:
        """For a person. Looking may read every host, so it is not done at each moment."""
        if now - self._looked_at >= PLAIN_SECONDS:
            self._looked_at = now
            hosts = await hosts_in_trouble(self._frontier)
            told = [f"{host.row.host} is {trouble}" for host in hosts if (trouble := host.trouble)]
            more = f", and {len(told) - 1:,} more hosts" if len(told) > 1 else ""
            self._seen = f"{told[0]}{more}" if told else None
        return self._seen


async def show_progress(
    frontier: Readable,
    console: Console,
    *,
    clock: Clock,
    crawl: str | None = None,
    in_flight: Callable[[], int] | None = None,
    trouble: Callable[[], str | None] = lambda: None,
) -> None:
    """Show how the frontier's records stand, or those of a crawl, until cancelled.

    A line that is redrawn on a terminal, a plain line every few seconds elsewhere. ``in_flight``
    says how many fetches are under way; without it the records in ``processing`` are counted. ``trouble``
    says why nothing can be asked from here, if so.
    """
    speed, hosts = Speed(), Waiting(frontier)

    async def look() -> str:
        counts = await frontier.counts(crawl=crawl)
        speed.see(clock(), counts)
        flying = in_flight() if in_flight else counts.by_status[Status.PROCESSING]
        waiting = trouble()
        if waiting is None and counts.open and not flying and speed.pages < 0.05:
            waiting = await hosts.look(clock())
        return progress_line(counts, speed, flying, await frontier.bill(), waiting)

    with suppress(asyncio.CancelledError):
        await (_redraw(console, look, clock) if console.is_terminal else _print_lines(console, look))


async def _print_lines(console: Console, look: Callable[[], Awaitable[str]]) -> None:
    while True:
        await look()  # speeds need more looks than lines
        await asyncio.sleep(PLAIN_SECONDS)
        console.print(await look(), highlight=False, soft_wrap=True, markup=False)


async def _redraw(console: Console, look: Callable[[], Awaitable[str]], clock: Clock) -> None:
    from rich.live import Live  # here: only a terminal needs it
    from rich.text import Text

    cut: OverflowMethod = "crop" if console.options.ascii_only else "ellipsis"
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            started = clock()
            live.update(Text(await look(), overflow=cut, no_wrap=True), refresh=True)
            await asyncio.sleep(max(LIVE_SECONDS, LIVE_PATIENCE * (clock() - started)))


@asynccontextmanager
async def progress_shown(
    frontier: Readable,
    console: Console | None,
    *,
    crawl: str | None = None,
    in_flight: Callable[[], int] | None = None,
    trouble: Callable[[], str | None] = lambda: None,
) -> AsyncIterator[None]:
    """Within it progress is shown, on no console nowhere. What goes wrong with it stops nothing else."""
    if console is None:
        yield
        return
    showing = asyncio.create_task(
        show_progress(frontier, console, clock=time.monotonic, crawl=crawl, in_flight=in_flight, trouble=trouble)
    )
    try:
        yield
    finally:
        showing.cancel()
        await asyncio.wait((showing,))
        if not showing.cancelled() and showing.exception() is not None:
            log.warning("progress", error=str(showing.exception()))


def sitemap_line(report: SitemapReport) -> str:
    """What came of a sitemap."""
    numbers = f"{report.listed:,} listed, {report.new:,} new"
    if report.out_of_scope:
        numbers += f", {report.out_of_scope:,} out of scope"
    if report.refused:
        reasons = ", ".join(f"{number:,} {reason}" for reason, number in report.refused.items())
        numbers += f", {sum(report.refused.values()):,} refused: {reasons}"
    if not report.trouble:
        return f"sitemap {report.url}: {numbers}"
    trouble = printable(report.trouble)
    return f"sitemap {report.url}: {trouble}" + (f" ({numbers})" if report.listed or report.refused else "")
