"""``archive repair``: what somebody left behind who died: files of a crawler, or half of a packing."""

from __future__ import annotations

import time

import click

from sqspider.archive.addresses import files_at
from sqspider.archive.moves import journals_in
from sqspider.archive.repair import Did, Repaired, repair
from sqspider.archive.rewriting import heal
from sqspider.cli.archive.blocking import blocking
from sqspider.cli.archive.taking_over import take_over_option
from sqspider.cli.archive_place import archive_of, archive_option
from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.orders.keeping import is_folder


@click.command(cls=Command)
@click.option("--every-host", is_flag=True, help="Files of other hosts, too: say so only if nobody writes there.")
@take_over_option
@archive_option
@pass_shared
def command(shared: Shared, /, every_host: bool, takes_over: bool, archive: str | None) -> int:
    """Close the files of a crawler that died, cut behind their last whole record; end what `archive pack` or `archive
    forget` had begun when it died. Exit status 1 if a file cannot be closed, or is damaged.

    Every crawl closes files at its start. What is being written is left alone.
    """
    address = archive_of(shared, archive)
    healed = _healed(shared, address, takes_over=takes_over)
    if not is_folder(address):
        if not healed:
            print(f"{address}: there is nothing to repair in a bucket, whose objects are whole or not there")
        return GOOD
    found = repair(address, every_host=every_host)
    for one in found:
        print(_line(one))
    if not found and not healed:
        print(f"{address}: there is nothing to repair")
    return NOT_ALL_GOOD if any(one.did in (Did.LEFT, Did.DAMAGED) for one in found) else GOOD


def _healed(shared: Shared, address: str, *, takes_over: bool) -> bool:
    """End what was begun by whoever wrote files anew; whether there was any."""
    files = files_at(address)
    if not journals_in(files):
        return False
    with blocking(shared) as frontier:
        done = heal(files, frontier.tell if frontier else None, now=time.time(), takes_over=takes_over)
        if frontier is not None and journals_in(files):
            done.append("told the frontier where captures lie that were moved lately")
    for words in done:
        print(words)
    return bool(done)


def _line(one: Repaired) -> str:
    cut = f", {one.cut_bytes:,} bytes cut off" if one.cut_bytes else ""
    return f"{one.name}: {one.did.value}{cut}" + (f": {one.detail}" if one.detail else "")
