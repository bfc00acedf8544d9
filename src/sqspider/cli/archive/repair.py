"""``archive repair``: files that a crawler which died left open."""

from __future__ import annotations

import click

from sqspider.archive.repair import Did, Repaired, repair
from sqspider.cli.archive.place import archive_of, archive_option
from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.orders.keeping import is_folder


@click.command(cls=Command)
@click.option("--every-host", is_flag=True, help="Files of other hosts, too: say so only if nobody writes there.")
@archive_option
@pass_shared
def command(shared: Shared, /, every_host: bool, archive: str | None) -> int:
    """Close the files of a crawler that died, cut behind their last whole record. Exit status 1 if one cannot be, or is
    damaged.

    Every crawl does so at its start. What is being written is left alone.
    """
    address = archive_of(shared, archive)
    if not is_folder(address):
        print(f"{address}: there is nothing to repair in a bucket, whose objects are whole or not there")
        return GOOD
    found = repair(address, every_host=every_host)
    for one in found:
        print(_line(one))
    if not found:
        print(f"{address}: there is nothing to repair")
    return NOT_ALL_GOOD if any(one.did in (Did.LEFT, Did.DAMAGED) for one in found) else GOOD


def _line(one: Repaired) -> str:
    cut = f", {one.cut_bytes:,} bytes cut off" if one.cut_bytes else ""
    return f"{one.name}: {one.did.value}{cut}" + (f": {one.detail}" if one.detail else "")
