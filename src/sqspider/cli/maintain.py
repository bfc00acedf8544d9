"""``sweep``, ``redrive`` and ``cleanup``: the commands that put things right or away."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final

import click
from rich.console import Console
from rich.progress import Progress

from sqspider.cli.main import Shared, pass_shared
from sqspider.cli.options import opened
from sqspider.cli.sections import Command
from sqspider.export import iso
from sqspider.frontier import DeadLetter, Frontier, PurgedLatelyError
from sqspider.frontier.aws.bill import DOLLARS_A_READ_UNIT, DOLLARS_A_WRITE_UNIT
from sqspider.message import BadBody, Message, decode_message
from sqspider.redact import redact
from sqspider.work.upkeep import sweep_all

MAX_LISTED: Final = 10_000
MANY_RECORDS: Final = 100_000  # from here on it is worth knowing what removing them costs


@click.command(cls=Command)
@click.option("--json", "as_json", is_flag=True, help="Print the number as JSON.")
@pass_shared
def sweep(shared: Shared, /, as_json: bool) -> int:
    """Put back messages for records that are past their time and have none.

    Workers do so by themselves now and then.
    """

    async def main() -> int:
        async with opened(shared, mending=True) as frontier:
            return await sweep_all(frontier)

    released = asyncio.run(main())
    print(json.dumps({"released": released}) if as_json else f"{released:,} messages put back")
    return 0


@click.command(cls=Command)
@click.option("--list", "only_list", is_flag=True, help="List them with why they died, instead.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@pass_shared
def redrive(shared: Shared, /, only_list: bool, as_json: bool) -> int:
    """Put dead letters back into the queue."""

    async def main() -> int:
        async with opened(shared, looking=only_list, mending=not only_list) as frontier:
            if not only_list:
                revived = 0
                while some := await frontier.redrive(1000):
                    revived += some
                print(json.dumps({"redriven": revived}) if as_json else f"{revived:,} messages put back")
                return 0
            letters = await frontier.dead_letters(MAX_LISTED)
            for letter, why in zip(letters, await _why_dead(frontier, letters), strict=True):
                body = redact(letter.body)
                if as_json:
                    row = {"message_id": letter.message_id, "receives": letter.receive_count, "body": body}
                    print(json.dumps({**row, "sent_at": iso(letter.sent_at), "why": why}))
                else:
                    print(f"{letter.message_id}  {body}\n    {why}")
            return 0

    return asyncio.run(main())


async def _why_dead(frontier: Frontier, letters: list[DeadLetter]) -> list[str]:
    """Why each letter died, as far as its body and its URL's record tell."""
    messages = [decode_message(letter.body) for letter in letters]
    records = await frontier.get([message.url for message in messages if isinstance(message, Message)])
    lines = []
    for message, letter in zip(messages, letters, strict=True):
        if isinstance(message, BadBody):
            lines.append(f"it is no message: {message.why}")
            continue
        record = records.get(message.url)
        often = f"it was received {letter.receive_count} times"
        if record is None:
            lines.append(f"{often}, and its URL was never recorded")
        elif record.status.is_final:
            lines.append(f"{often}; its URL is {record.status.value}, so it is not needed any more")
        else:
            lines.append(
                f"{often}; its URL is {record.status.value}, after {record.unended} claims that were not ended"
            )
    return lines


@click.command(cls=Command)
@click.option("--all", "everything", is_flag=True, help="Messages, records, hosts and robots.txt files.")
@click.option("--queue", is_flag=True, help="Only the messages.")
@click.option("--table", is_flag=True, help="Only the records, hosts and robots.txt files.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_shared
def cleanup(shared: Shared, /, everything: bool, queue: bool, table: bool, yes: bool) -> int:
    """Give a fresh state. Says what will be removed and where, and asks."""
    if everything + queue + table != 1:
        raise click.UsageError("say one of --all, --queue and --table.")

    async def main() -> int:
        async with opened(shared, mending=True) as frontier:
            counts, messages = await frontier.counts(), await frontier.queue_stats()
            waiting = messages.visible + messages.in_flight + messages.delayed + messages.dead
            parts = []
            if everything or queue:
                parts.append(f"{waiting:,} messages")
            if everything or table:
                parts.append(f"{counts.total:,} records")
            what = f"{' and '.join(parts)} in {frontier.place}"
            if not queue and counts.total >= MANY_RECORDS and await frontier.bill() is not None:
                dollars = counts.total * (DOLLARS_A_WRITE_UNIT + DOLLARS_A_READ_UNIT)
                print(
                    f"Removing so many records one by one costs about ${dollars:,.2f}; to delete the table and create "
                    "it anew (`make destroy deploy`) costs nothing.",
                    file=sys.stderr,
                )
            if not yes:
                if sys.stdin is None or not sys.stdin.isatty():
                    raise click.UsageError(f"this removes {what}: say --yes where nobody can be asked.")
                click.confirm(f"Remove {what}?", abort=True, err=True)
            if everything or table:  # first: where no record is left, a purge need not make any due
                await _clear(frontier, counts.total)
            if everything or queue:
                await _purge(frontier)
            print(f"removed {what}")
            return 0

    return asyncio.run(main())


async def _purge(frontier: Frontier) -> None:
    while True:
        try:
            await frontier.purge_queue()
        except PurgedLatelyError as error:
            print(f"{error}: waiting {frontier.traits.purge_seconds:.0f} s", file=sys.stderr)
            await asyncio.sleep(frontier.traits.purge_seconds)
        else:
            break
    if await frontier.bill() is not None:
        print(
            f"SQS takes up to {frontier.traits.purge_seconds:.0f} s to purge: what is sent meanwhile may be removed "
            "too, and a sweep brings it back.",
            file=sys.stderr,
        )


async def _clear(frontier: Frontier, total: int) -> None:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("removing records", total=total or None)
        await frontier.clear_table(lambda removed: progress.update(task, completed=removed))
