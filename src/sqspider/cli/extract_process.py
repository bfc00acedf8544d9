"""The process that extracts while a crawl runs: `crawl --extract` starts it.

It is told what to do in the first line of its standard input, and that the crawl is over by the end of that; so it ends
when the crawl is killed, too. What came of it is the last line of its standard output.
"""

from __future__ import annotations

import os
import select
import sys

import click
import msgspec

from sqspider.archive.errors import ArchiveError
from sqspider.cli.exit_status import GOOD
from sqspider.cli.forking import can_fork, line_of
from sqspider.cli.main import status_of
from sqspider.cli.shortcomings import never_found
from sqspider.extract.following import follow
from sqspider.extract.harvest import Came, Order
from sqspider.extract.tally import NeverFound
from sqspider.frontier import FrontierError
from sqspider.tables.table import TableError


def extract() -> int:
    """Do what it is told; the exit status."""
    told = line_of(0)
    if not told:
        return GOOD  # whoever started it is gone
    order = msgspec.json.decode(told, type=Order)
    watch = NeverFound(field.name for field in order.rules.fields)

    def warn(came: Came) -> None:
        for line in never_found(watch, came):
            print(line, file=sys.stderr, flush=True)

    try:
        came = follow(order, _hears_the_end, forks=can_fork(), on_progress=warn)
    except (ArchiveError, FrontierError, TableError, ValueError) as error:
        raise click.ClickException(f"nothing more is extracted: {error}") from None
    print(msgspec.json.encode(came).decode())
    return GOOD


def _hears_the_end(seconds: float) -> bool:
    """Whether standard input has ended, or does within so many seconds."""
    ready, _, _ = select.select([0], [], [], seconds)
    return bool(ready) and not os.read(0, 1024)


if __name__ == "__main__":
    sys.exit(status_of(extract))
