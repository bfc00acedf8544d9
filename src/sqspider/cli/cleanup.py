"""``cleanup``: removes messages and records, after it was asked for."""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import click

from sqspider.archive.addresses import files_at
from sqspider.archive.errors import ArchiveError
from sqspider.archive.files import Files
from sqspider.archive.removal import Found, found_in, remove
from sqspider.cli.asking import ask_to_remove, removal_cost, yes_option
from sqspider.cli.bars import bar
from sqspider.cli.exit_status import GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.wording import counted, human_bytes
from sqspider.environment import load_environment
from sqspider.frontier import Looking, PurgedLatelyError, QueueStats, Upkeep
from sqspider.orders.keeping import archive_of_frontier, is_folder, size_of


@click.command(cls=Command)
@click.option("--all", "everything", is_flag=True, help="Messages, records, hosts and robots.txt files.")
@click.option("--queue", is_flag=True, help="Only the messages.")
@click.option("--table", is_flag=True, help="Only the records, hosts and robots.txt files.")
@click.option(
    "--archive",
    "with_archive",
    is_flag=True,
    help="The pages that were kept, too, or alone: the WARC files of the frontier's archive and its index, "
    "whoever crawled them. Other files there stay. It asks for that by itself.",
)
@yes_option
@pass_shared
def cleanup(shared: Shared, /, everything: bool, queue: bool, table: bool, with_archive: bool, yes: bool) -> int:
    """Give a fresh state. Says what will be removed and where, and asks.

    Pages outlive their records: without --archive they stay. With --archive alone records stay, and name pages that are
    gone.
    """
    if everything + queue + table > 1 or not (everything + queue + table or with_archive):
        raise click.UsageError("say one of --all, --queue and --table; or --archive, with one of them or alone.")
    address = archive_of_frontier(shared.frontier, load_environment())
    pages = _pages_in(shared, address, is_alone=not everything + queue + table) if with_archive else None
    if pages is not None and not yes and pages.found.ours:
        ask_to_remove(pages.what)
    if everything + queue + table:
        _remove_from_frontier(shared, queue=queue, table=table, yes=yes)
    if pages is not None:
        _remove_pages(pages)
    elif with_archive:
        print(f"there is no archive at {address}", file=sys.stderr)
    elif not queue:
        _say_what_stays(address)
    return GOOD


def _remove_from_frontier(shared: Shared, *, queue: bool, table: bool, yes: bool) -> None:
    async def main() -> None:
        async with opened(shared, mending=True) as frontier:
            records = None if queue else (await frontier.counts()).total
            messages = None if table else _all_of(await frontier.queue_stats())
            what = _what(frontier, messages, records)
            if line := removal_cost(frontier.traits, records or 0):
                print(line, file=sys.stderr)
            if not yes:
                ask_to_remove(what)
            if records is not None:  # first: where no record is left, a purge need not make any due
                await _clear(frontier, records)
            if messages is not None:
                await _purge(frontier)
            print(f"removed {what}")

    asyncio.run(main())


class _Pages(NamedTuple):
    """An archive that is to be removed."""

    address: str
    files: Files
    found: Found

    @property
    def what(self) -> str:
        number = counted(self.found.ours, "file", "files")
        return f"{number} with {human_bytes(self.found.bytes)} of pages in {self.address}"


def _pages_in(shared: Shared, address: str | None, *, is_alone: bool) -> _Pages | None:
    """The archive of a frontier; none: there is none to remove with the rest. Raises ``click.UsageError`` where there
    is none and nothing else is to be removed, and where somebody writes to it."""
    if address is None:
        raise click.UsageError(f"--archive: {shared.frontier} has no archive of its own.")
    if is_folder(address) and not Path(address).exists():
        if is_alone:
            raise click.UsageError(f"--archive: there is none at {address}.")
        return None
    try:
        if is_folder(address):
            from sqspider.archive.repair import repair  # here: it is asked for seldom

            repair(address)  # then what is still open has somebody who writes it
        files = files_at(address)
        found = found_in(files)
    except ArchiveError as error:
        raise click.ClickException(str(error)) from None
    if (name := found.being_written) is not None:
        raise click.UsageError(f"--archive: {name} in {address} is being written: stop the crawl that does, first.")
    return _Pages(address, files, found)


def _remove_pages(pages: _Pages) -> None:
    """Last, for a record of a page that is gone would be worse than a page without a record."""
    try:
        with bar() as progress:
            task = progress.add_task("removing pages", total=pages.found.ours or None)
            remove(pages.files, lambda: progress.advance(task))
    except ArchiveError as error:
        raise click.ClickException(f"{error}. What is left is removed by the same command.") from None
    if is_folder(pages.address):
        with suppress(OSError):  # something else is in it
            Path(pages.address).rmdir()
    others = pages.found.others
    stays = f"; {counted(others, 'other file stays', 'other files stay')}" if others else ""
    print(f"removed {pages.what}{stays}")


def _say_what_stays(address: str | None) -> None:
    """The pages outlive their records: whoever wants a fresh state may not know of them."""
    size = None if address is None else size_of(address)
    if address is None or (size is not None and not size.files):
        return
    much = f" ({human_bytes(size.bytes)})" if size else ""
    print(f"The pages that were kept stay in {address}{much}: --archive removes them.", file=sys.stderr)


def _all_of(queue: QueueStats) -> int:
    return queue.visible + queue.in_flight + queue.delayed + queue.dead


def _what(frontier: Looking, messages: int | None, records: int | None) -> str:
    numbers = {"messages": messages, "records": records}
    parts = [f"{number:,} {name}" for name, number in numbers.items() if number is not None]
    return f"{' and '.join(parts)} in {frontier.place}"


async def _clear(frontier: Upkeep, total: int) -> None:
    with bar() as progress:
        task = progress.add_task("removing records", total=total or None)
        await frontier.clear_table(lambda removed: progress.update(task, completed=removed))


async def _purge(frontier: Upkeep) -> None:
    seconds = frontier.traits.purge_seconds
    while True:
        try:
            await frontier.purge_queue()
        except PurgedLatelyError as error:
            print(f"{error}: waiting {seconds:.0f} s", file=sys.stderr)
            await asyncio.sleep(seconds)
        else:
            break
    if seconds:
        print(
            f"The queue takes up to {seconds:.0f} s to be purged: what is sent meanwhile may be removed too, and a "
            "sweep brings it back.",
            file=sys.stderr,
        )
