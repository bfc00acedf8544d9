"""``metrics``: what happened over time, as a table, a plot and JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sqspider.cli.exit_status import GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.options import Duration, crawl_option
from sqspider.cli.order import row_if_named
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.wording import human_bytes, human_seconds
from sqspider.export import iso
from sqspider.figures import FIGURES, OF_CRAWLS, Figure, Point, Unit
from sqspider.frontier import Traits

POINTS: Final = 30  # about so many, where no period is given
PERIODS: Final = (5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 86_400)  # of which one is chosen then
MAX_ROWS: Final = 1440  # a day of minutes: nobody reads more
PLOT_ROWS: Final = 12
MAX_WIDTH: Final = 1000  # more than a row ever needs
COLUMNS: Final = [figure for figure in FIGURES if figure.heading]
COLUMNS_OF_CRAWLS: Final = [figure for figure in COLUMNS if figure in OF_CRAWLS]
OF_QUEUE: Final = [figure for figure in COLUMNS if figure.sqs is not None]
NAMES: Final = {figure.name: figure.sqs or figure.metric for figure in FIGURES}  # as CloudWatch shows them


@click.command(cls=Command)
@click.option("--since", type=Duration(), default="1h", show_default=True, help="How far back: 90s, 15m, 2h, 3d.")
@click.option("--period", type=Duration(), help="The time that one row stands for.  [default: a fitting one]")
@crawl_option("What workers did for this crawl alone, without the queue.  [default: for all crawls]")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@pass_shared
def metrics(shared: Shared, /, since: float, period: float | None, crawl: str | None, as_json: bool) -> int:
    """Show the queue, and pages by outcome, over time.

    On AWS from CloudWatch: of minutes and their multiples, a few minutes behind. In a SQLite file from what
    workers leave there every ten seconds. How much waits, and how old the oldest is, is known of all crawls together
    alone. With the crawl named default goes what goes by no crawl.
    """

    async def main() -> None:
        async with opened(shared, looking=True) as frontier:
            await row_if_named(frontier, crawl)
            seconds = period_of(since, period, frontier.traits)
            now = frontier.now()
            begin = (now - since) // seconds * seconds
            points = await frontier.points(since=begin, until=now, period_seconds=seconds, crawl=crawl)
            if as_json:
                print(json.dumps([_row(point, FIGURES if crawl is None else OF_CRAWLS) for point in points]))
            elif not points:
                of = f" of the crawl {crawl}" if crawl else ""
                print(f"nothing was noted{of} in that time in {frontier.place}")
            else:
                _show(Console(), points, seconds, crawl)

    asyncio.run(main())
    return GOOD


def period_of(since: float, period: float | None, traits: Traits) -> int:
    """The time that one row stands for, in seconds. Raises ``click.UsageError`` for one that cannot be had."""
    finest = traits.finest_period_seconds
    if period is None:
        return next(step for step in PERIODS if step >= finest and (since / step <= POINTS or step == PERIODS[-1]))
    if period < finest or period % finest:
        raise click.UsageError(f"--period: here it is {finest} s or a multiple of it.")
    most = min(MAX_ROWS, traits.max_points or MAX_ROWS)
    if since / period > most:
        raise click.UsageError(f"--period: that would be more than {most:,} rows: choose a longer one.")
    return round(period)


def _row(point: Point, figures: Sequence[Figure]) -> dict[str, Any]:
    return {"at": iso(point.at), **{NAMES[each.name]: getattr(point, each.name) for each in figures}}


def _show(console: Console, points: list[Point], seconds: int, crawl: str | None) -> None:
    columns = COLUMNS if crawl is None else COLUMNS_OF_CRAWLS
    whole = _table(points, seconds, columns)
    if console.measure(whole, options=console.options.update_width(MAX_WIDTH)).maximum <= console.width:
        console.print(whole)
    else:  # one below the other, rather than cut off
        console.print(_table(points, seconds, [each for each in columns if each.sqs is not None]))
        console.print(_table(points, seconds, [each for each in columns if each.sqs is None]))
    if crawl is None:
        notes = [f"{figure.heading}: {figure.sqs}" for figure in OF_QUEUE]
    else:
        of_all = ", ".join(figure.heading for figure in COLUMNS if figure not in COLUMNS_OF_CRAWLS)
        notes = [f"of the crawl {crawl}; {of_all}: of all crawls alone, without --crawl"]
    for note in notes:
        console.print(Text(note, style="dim"))
    if len(points) > 1 and not console.options.ascii_only:  # a plot is made of signs that only Unicode has
        print(_plot(points, seconds, console.width, with_queue=crawl is None, in_colour=console.is_terminal))


def _table(points: list[Point], seconds: int, figures: list[Figure]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0))
    form = "%m-%d %H:%M" if seconds >= 3600 else "%H:%M:%S"
    table.add_column("UTC", no_wrap=True)
    for figure in figures:
        table.add_column(figure.heading, justify="right", no_wrap=True)
    for point in points:
        moment = f"{datetime.fromtimestamp(point.at, UTC):{form}}"
        table.add_row(moment, *(_cell(each.unit, getattr(point, each.name)) for each in figures))
    return table


def _cell(unit: Unit, value: float | None) -> str:
    if value is None:
        return "–"
    match unit:
        case Unit.BYTES:
            return human_bytes(value)
        case Unit.SECONDS:
            return human_seconds(value)
        case Unit.FRACTIONS:
            return f"{value * 1000:,.0f} ms"
        case Unit.ONE:
            return f"{value:,.0f}"


def _plot(points: list[Point], seconds: int, width: int, *, with_queue: bool, in_colour: bool) -> str:
    """Pages a second, and messages that wait."""
    import plotext  # here: it costs a tenth of a second

    times = [point.at for point in points]
    rates = [((point.done or 0) + (point.failed or 0) + (point.blocked or 0)) / seconds for point in points]
    waiting = [(point.visible or 0) + (point.in_flight or 0) for point in points]
    plots = [("pages/s", rates), ("messages: visible and hidden", waiting)][: 1 + with_queue]
    plotext.clear_figure()
    plotext.subplots(1, len(plots))
    for column, (title, values) in enumerate(plots, 1):
        part = plotext.subplot(1, column)
        part.plot_size(max(20, width // len(plots) - 1), PLOT_ROWS)
        part.theme("clear")
        part.plot(times, values, marker="braille")
        part.title(title)
        ticks = times[:: max(1, len(times) // 3)]
        part.xticks(ticks, [f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}" for at in ticks])
        part.ylim(0, max(*values, 1e-9))
    text: str = plotext.build()
    return text if in_colour else plotext.uncolorize(text)
