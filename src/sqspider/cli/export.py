"""``export``: the records as rows."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TextIO

import click

from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.options import crawl_option, host_name
from sqspider.cli.order import row_if_named
from sqspider.cli.output import format_of, output_option, say_unreadable, written
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.wording import counted
from sqspider.export import FORMATS, export_rows
from sqspider.record import Status


@click.command(cls=Command)
@click.option(
    "--format",
    "kind",
    type=click.Choice(list(FORMATS)),
    help="How rows are written.  [default: as the file's name says, else jsonl]",
)
@output_option("Instead of printing.")
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Only these.")
@click.option("--host", callback=host_name, help="Only this host's.")
@crawl_option("Only this crawl's.  [default: those of all crawls]")
@pass_shared
def export(
    shared: Shared, /, kind: str | None, output: Path | None, status: str | None, host: str | None, crawl: str | None
) -> int:
    """Write the records, a row each, in UTF-8. The columns' names do not change between versions.

    A record that is damaged has a row with its URL and the error. Exit status 1 if there is one.
    """
    form = format_of(output, kind)
    wanted = Status(status) if status else None
    unreadable: list[str] = []

    async def main(file: TextIO) -> int:
        async with opened(shared, looking=True) as frontier:
            await row_if_named(frontier, crawl)
            return await export_rows(
                frontier, file.write, form, status=wanted, host=host, crawl=crawl, on_unreadable=unreadable.append
            )

    with written(output) as file:
        rows = asyncio.run(main(file))
    if output is not None:
        print(f"{counted(rows, 'row', 'rows')} written to {output}", file=sys.stderr)
    say_unreadable(unreadable)
    return NOT_ALL_GOOD if unreadable else GOOD
