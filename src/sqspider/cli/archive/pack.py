"""``archive pack``: small files together, and without what nobody names, if that is asked for."""

from __future__ import annotations

import random
import sys
import time
from contextlib import ExitStack

import click

from sqspider.archive.addresses import files_at
from sqspider.archive.files import Files
from sqspider.archive.pack import FILE_BYTES, Packed, pack, references_in
from sqspider.archive.pack_orphans import Orphans
from sqspider.archive.scratch import scratch
from sqspider.cli.archive.blocking import BlockingFrontier, blocking
from sqspider.cli.archive.taking_over import say_who_is_not_told, say_who_is_told, take_over_option
from sqspider.cli.archive.walking import ToldOfFiles
from sqspider.cli.archive_place import archive_of, archive_option, may_be_shared
from sqspider.cli.exit_status import GOOD
from sqspider.cli.options import Size
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.wording import counted, human_bytes


@click.command(cls=Command)
@click.option(
    "--size", type=Size(1), default=FILE_BYTES, metavar="SIZE", help="Of the files that are made.  [default: 1GB]"
)
@click.option(
    "--drop-orphans",
    is_flag=True,
    help="Leave out captures that no record names since their worker died. Give this only to an archive that no other "
    "frontier's crawls are kept in: what those have of the same URLs looks alike.",
)
@take_over_option
@archive_option
@pass_shared
def command(shared: Shared, /, size: int, drop_orphans: bool, takes_over: bool, archive: str | None) -> int:
    """Write small files together into large ones, as they are: from Lambda comes one for each invocation.

    The records of the frontier are told where their captures lie then, and the index is written anew if there is one.
    Files that are being written are left alone, so it can run beside a crawl. If it dies, nothing is lost, and the next
    `archive pack` goes on. It needs room for as much as it packs, up to 32 GB at a time.
    """
    address = archive_of(shared, archive)
    files, is_shared = files_at(address), may_be_shared(shared, address)
    with blocking(shared) as frontier, ExitStack() as stack:
        say_who_is_told(shared, frontier)
        orphans = None
        if drop_orphans:
            if frontier is None:
                raise click.UsageError("--drop-orphans needs the frontier: what no record names is an orphan.")
            orphans = _orphans(files, frontier, Orphans(stack.enter_context(scratch())))
        done = pack(
            files,
            frontier.tell if frontier else None,
            clock=time.time,
            rng=random.SystemRandom(),
            size=size,
            orphans=orphans,
            is_under_way=frontier is not None and (is_shared or frontier.is_under_way()),
            takes_over=takes_over,
            on_file=ToldOfFiles("packing").file,
            on_healed=lambda words: print(words, file=sys.stderr),
        )
    if done.files and is_shared:
        say_who_is_not_told(address)
    _say(done)
    return GOOD


def _orphans(files: Files, frontier: BlockingFrontier, orphans: Orphans) -> Orphans:
    orphans.take_records(frontier.records())
    orphans.take_references(references_in(files))
    return orphans


def _say(done: Packed) -> None:
    for name, why in done.left:
        print(f"{name} was left as it is: {why}", file=sys.stderr)
    if not done.files:
        print("there is nothing to pack")
        return
    print(f"{counted(done.files, 'file', 'files')} ({human_bytes(done.bytes)}) packed into {done.made:,}")
    if done.captures_dropped:
        dropped = counted(done.captures_dropped, "orphan", "orphans")
        print(f"{dropped} left out ({human_bytes(done.bytes_dropped)})")
    if done.lines is not None:
        print(f"the index has {counted(done.lines, 'line', 'lines')}")
