"""``export``: the records as rows."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import Callable, Coroutine
from difflib import get_close_matches
from typing import Any, Final, TypeVar

import click

from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.moments import Moment
from sqspider.cli.options import Whole, crawl_name, host_name
from sqspider.cli.order import row_if_named
from sqspider.cli.output import check_format, output_option, say_unreadable, written
from sqspider.cli.sections import Command, section
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.wording import counted
from sqspider.export import COLUMNS, FIELDS, Wanted, write
from sqspider.export import export as exported
from sqspider.frontier import Frontier
from sqspider.record import Reason, Status
from sqspider.record_filter import Between, RecordFilter
from sqspider.tables.columns import Row
from sqspider.tables.opening import FORMATS
from sqspider.tables.sorting import Order, check_order

T = TypeVar("T")
_TABLE: Final = "table"
_SHOWN_FIELDS: Final = ("status", "http_status", "reason", "bytes", "finished_at", "url")
_NARROW: Final = 100  # cells of a terminal: with fewer no time is shown, for the URL would have no room
_SHOWN_ROWS: Final = 100  # to a person who does not say how many
_MOST_SHOWN: Final = 10_000  # a table is laid out by all of its rows
_NUMBERS: Final = re.compile(r"(\d{1,15})(?:(-)(\d{1,15})?)?")


class _Range(click.ParamType[Between]):
    """A whole number, or several: ``0-2``, ``3-``; of HTTP's also ``4xx``."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Between:
        text = str(value).strip().lower()
        if param is not None and param.name == "http_statuses" and re.fullmatch("[1-9]xx", text):
            return Between(int(text[0]) * 100, int(text[0]) * 100 + 99)
        found = _NUMBERS.fullmatch(text)
        if found is None:
            self.fail(f"{value!r} is no number and no range of numbers: write 2, 0-2 or 3-.", param, ctx)
        least = int(found[1])
        most = int(found[3]) if found[3] else (10**15 if found[2] else least)
        if most < least:
            self.fail(f"{value!r} has no number in it: the first is the greater one.", param, ctx)
        return Between(least, most)


def _each(one: Callable[[click.Context, click.Parameter, str | None], str | None]) -> Callable[..., tuple[str, ...]]:
    """The callback of an option that may be repeated, by that of one that may not."""

    def all_of_them(context: click.Context, parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(filter(None, (one(context, parameter, value) for value in given)))

    return all_of_them


def _fields(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    """Columns that were named, in that order, each once."""
    if value is None:
        return None
    names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
    for name in names:
        _check_field(context, parameter, name)
    if not names:
        raise click.BadParameter("name columns, with commas between them.", context, parameter)
    return names


def _orders(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[Order, ...]:
    """Columns that rows are sorted by."""
    names = [name.strip() for name in (value or "").split(",") if name.strip()]
    orders = tuple(Order(name.removeprefix("-"), name.startswith("-")) for name in names)
    for order in orders:
        _check_field(context, parameter, order.field)
    try:
        check_order(COLUMNS, orders)
    except ValueError as error:
        raise click.BadParameter(f"{error}.", context, parameter) from None
    return orders


def _check_field(context: click.Context, parameter: click.Parameter, name: str) -> None:
    if name not in FIELDS:
        alike = get_close_matches(name, FIELDS, 1)
        hint = f" Did you mean {alike[0]}?" if alike else f" There are {', '.join(FIELDS)}."
        raise click.BadParameter(f"no column is called {name!r}.{hint}", context, parameter)


_which = section(
    "Which records: all must hold, of an option that is repeated any",
    click.option(
        "--status", "statuses", multiple=True, type=click.Choice([it.value for it in Status]), help="It stands so."
    ),
    click.option(
        "--reason", "reasons", multiple=True, type=click.Choice([it.value for it in Reason]), metavar="REASON",
        help="Failed or blocked for this.",
    ),
    click.option(
        "--http-status", "http_statuses", multiple=True, type=_Range(), metavar="N",
        help="Answered so: 404, 4xx, 500-599.",
    ),
    click.option(
        "--content-type", "--type", "content_types", multiple=True, metavar="TYPE",
        help="Of this media type: text/html, image/*.",
    ),
    click.option("--host", "hosts", multiple=True, callback=_each(host_name), metavar="HOST", help="Of this host."),
    click.option("--depth", "depths", multiple=True, type=_Range(), metavar="N", help="So deep: 2, 0-2, 3-."),
    click.option("--since", type=Moment(), metavar="TIME", help="Finished at this time or later, in UTC."),
    click.option("--until", type=Moment(), metavar="TIME", help="Finished before this time, in UTC."),
    click.option(
        "--crawl", "crawls", multiple=True, callback=_each(crawl_name), metavar="NAME",
        help="Of this crawl.  [default: of all crawls]",
    ),
)  # fmt: skip


@click.command(cls=Command)
@click.option(
    "--format",
    "form",
    type=click.Choice([*FORMATS, _TABLE]),
    help="How rows are written.  [default: as the file's name says; else a table on a terminal, and jsonl in a pipe]",
)
@output_option("Instead of printing.")
@click.option(
    "--fields", "--columns", "fields", callback=_fields, metavar="NAME,…", help="Only these columns, in this order."
)
@click.option(
    "--sort",
    callback=_orders,
    metavar="NAME,…",
    help="Sort by these columns; -NAME: the largest first. What there is not comes last. The rows lie in the folder "
    "for temporary files meanwhile.",
)
@click.option("--limit", type=Whole(1), metavar="N", help="At most so many rows.")
@_which
@pass_shared
def export(
    shared: Shared, /, form: str | None, output: str | None, fields: tuple[str, ...] | None, sort: tuple[Order, ...],
    limit: int | None, **which: Any,
) -> int:  # fmt: skip
    """Write the records, a row each, in UTF-8. The columns' names do not change between versions.

    With one --host only that host's records are read (SQLite); else all are, and those that are not meant left out.
    --limit without --sort ends when it has as many. A record that is damaged has a row with its URL and the error. Exit
    status 1 if there is one.
    """
    is_shown = form == _TABLE or (form is None and output is None and sys.stdout.isatty())
    if is_shown and output is not None:
        raise click.UsageError("--format table is printed, for a person: say it without --to.")
    which |= {"statuses": tuple(map(Status, which["statuses"])), "reasons": tuple(map(Reason, which["reasons"]))}
    which["content_types"] = tuple(it.lower() for it in which["content_types"])
    wanted = Wanted(RecordFilter(**which), fields or (_shown_fields() if is_shown else FIELDS), sort, limit)
    return _show(shared, wanted) if is_shown else _write(shared, wanted, output, form)


def _shown_fields() -> tuple[str, ...]:
    """What a person is shown who names no columns."""
    is_narrow = shutil.get_terminal_size().columns < _NARROW
    return tuple(name for name in _SHOWN_FIELDS if not (is_narrow and name == "finished_at"))


def _write(shared: Shared, wanted: Wanted, output: str | None, form: str | None) -> int:
    check_format(output, form)
    unreadable: list[str] = []
    with written(output, wanted.columns, form) as table:
        rows = _run(shared, wanted, lambda frontier: write(table, exported(frontier, wanted, unreadable.append)))
    if output is not None:
        print(f"{counted(rows, 'row', 'rows')} written to {output}", file=sys.stderr)
    say_unreadable(unreadable)
    return NOT_ALL_GOOD if unreadable else GOOD


def _show(shared: Shared, wanted: Wanted) -> int:
    from sqspider.cli.rows_shown import show_rows  # here: it brings rich, which a pipe has no use for

    most = wanted.limit or _SHOWN_ROWS
    if most > _MOST_SHOWN:
        raise click.UsageError(f"--limit: a table has {_MOST_SHOWN:,} rows at most: write them with --to FILE.")
    unreadable: list[str] = []

    async def found(frontier: Frontier) -> list[Row]:
        one_more = wanted._replace(limit=most + 1)
        return [row async for rows in exported(frontier, one_more, unreadable.append) for row in rows]

    rows = _run(shared, wanted, found)
    show_rows(wanted.columns, rows[:most], has_more=len(rows) > most, chosen_by="--fields")
    say_unreadable(unreadable)
    return NOT_ALL_GOOD if unreadable else GOOD


def _run(shared: Shared, wanted: Wanted, work: Callable[[Frontier], Coroutine[Any, Any, T]]) -> T:
    async def main() -> T:
        async with opened(shared, looking=True) as frontier:
            for name in wanted.which.crawls:
                await row_if_named(frontier, name)
            return await work(frontier)

    return asyncio.run(main())
