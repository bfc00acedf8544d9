"""``metrics``: what happened over time, as a table, a plot and JSON."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sqspider.cli.exit_status import GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.options import Duration
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.wording import human_bytes, human_seconds
from sqspider.export import iso
from sqspider.figures import FIGURES, Figure, Point, Unit
from sqspider.frontier import Traits

POINTS: Final = 30  # about so many, where no period is given
PERIODS: Final = (5, 10, 30, 60, 300, 900, 3600, 6 * 3600, 86_400)  # of which one is chosen then
MAX_ROWS: Final = 1440  # a day of minutes: nobody reads more
PLOT_ROWS: Final = 12
MAX_WIDTH: Final = 1000  # more than a row ever needs
COLUMNS: Final = [figure for figure in FIGURES if figure.heading]
OF_QUEUE: Final = [figure for figure in COLUMNS if figure.sqs is not None]
NAMES: Final = {figure.name: figure.sqs or figure.metric for figure in FIGURES}  # as CloudWatch shows them


@click.command(cls=Command)
@click.option("--since", type=Duration(), default="1h", show_default=True, help="How far back: 90s, 15m, 2h, 3d.")
@click.option("--period", type=Duration(), help="The time that one row stands for.  [default: a fitting one]")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@pass_shared
def metrics(shared: Shared, /, since: float, period: float | None, as_json: bool) -> int:
    """Show the queue, and pages by outcome, over time.

    On AWS from CloudWatch: of minutes and their multiples, a few minutes behind. In a SQLite file from what
    workers leave there every ten seconds.
    """

    async def main() -> None:
        async with opened(shared, looking=True) as frontier:
            seconds = period_of(since, period, frontier.traits)
            now = frontier.now()
            begin = (now - since) // seconds * seconds
            points = await frontier.points(since=begin, until=now, period_seconds=seconds)
            if as_json:
                print(json.dumps([_row(point) for point in points]))
            elif not points:
                print(f"nothing was noted in that time in {frontier.place}")
            else:
                _show(Console(), points, seconds)

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


def _row(point: Point) -> dict[str, Any]:
    return {"at": iso(point.at), **{shown: getattr(point, name) for name, shown in NAMES.items()}}


def _show(console: Console, points: list[Point], seconds: int) -> None:
    whole = _table(points, seconds, COLUMNS)
    if console.measure(whole, options=console.options.update_width(MAX_WIDTH)).maximum <= console.width:
        console.print(whole)
    else:  # one below the other, rather than cut off
        console.print(_table(points, seconds, OF_QUEUE))
        console.print(_table(points, seconds, [each for each in COLUMNS if each.sqs is None]))
    for figure in OF_QUEUE:
        console.print(Text(f"{figure.heading}: {figure.sqs}", style="dim"))
    if len(points) > 1 and not console.options.ascii_only:  # a plot is made of signs that only Unicode has
        print(_plot(points, seconds, console.width, in_colour=console.is_terminal))


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


def _plot(points: list[Point], seconds: int, width: int, *, in_colour: bool) -> str:
    """Pages a second, and messages that wait."""
    import plotext  # here: it costs a tenth of a second

    times = [point.at for point in points]
    rates = [((point.done or 0) + (point.failed or 0) + (point.blocked or 0)) / seconds for point in points]
    plotext.clear_figure()
    plotext.subplots(1, 2)
    for column, title, values in (
        (1, "pages/s", rates),
        (2, "messages: visible and hidden", [(point.visible or 0) + (point.in_flight or 0) for point in points]),
    ):
        part = plotext.subplot(1, column)
        part.plot_size(max(20, width // 2 - 1), PLOT_ROWS)
        part.theme("clear")
        part.plot(times, values, marker="braille")
        part.title(title)
        ticks = times[:: max(1, len(times) // 3)]
        part.xticks(ticks, [f"{datetime.fromtimestamp(at, UTC):%H:%M:%S}" for at in ticks])
        part.ylim(0, max(*values, 1e-9))
    text: str = plotext.build()
    return text if in_colour else plotext.uncolorize(text)
