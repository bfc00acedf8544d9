"""``cleanup``: removes messages and records, after it was asked for."""

from __future__ import annotations

import asyncio
import sys

import click

from sqspider.cli.asking import ask_to_remove, removal_cost, yes_option
from sqspider.cli.bars import bar
from sqspider.cli.exit_status import GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.frontier import Looking, PurgedLatelyError, QueueStats, Upkeep


@click.command(cls=Command)
@click.option("--all", "everything", is_flag=True, help="Messages, records, hosts and robots.txt files.")
@click.option("--queue", is_flag=True, help="Only the messages.")
@click.option("--table", is_flag=True, help="Only the records, hosts and robots.txt files.")
@yes_option
@pass_shared
def cleanup(shared: Shared, /, everything: bool, queue: bool, table: bool, yes: bool) -> int:
    """Give a fresh state. Says what will be removed and where, and asks."""
    if everything + queue + table != 1:
        raise click.UsageError("say one of --all, --queue and --table.")

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
    return GOOD


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
