"""``sweep``, ``redrive`` and ``cleanup``: the commands that put things right or away."""

from __future__ import annotations

import asyncio
import json
import sys

import click

from sqspider.cli.main import Shared, pass_shared
from sqspider.cli.options import opened
from sqspider.sweeper import sweep_all


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print the number as JSON.")
@pass_shared
def sweep(shared: Shared, /, as_json: bool) -> int:
    """Put back messages for records that are past their time and have none.

    Workers do so by themselves now and then.
    """

    async def main() -> int:
        async with opened(shared) as frontier:
            return await sweep_all(frontier)

    released = asyncio.run(main())
    print(json.dumps({"released": released}) if as_json else f"{released:,} messages put back")
    return 0


@click.command()
@click.option("--list", "only_list", is_flag=True, help="List them instead.")
@click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
@pass_shared
def redrive(shared: Shared, /, only_list: bool, as_json: bool) -> int:
    """Put dead letters back into the queue."""

    async def main() -> int:
        async with opened(shared) as frontier:
            if not only_list:
                revived = 0
                while some := await frontier.redrive(1000):
                    revived += some
                print(json.dumps({"redriven": revived}) if as_json else f"{revived:,} messages put back")
                return 0
            for letter in await frontier.dead_letters(10_000):
                row = {"message_id": letter.message_id, "receives": letter.receive_count, "body": letter.body}
                print(json.dumps(row) if as_json else f"{letter.message_id}  {letter.body}")
            return 0

    return asyncio.run(main())


@click.command()
@click.option("--all", "everything", is_flag=True, help="Messages, records, hosts and robots.txt files.")
@click.option("--queue", is_flag=True, help="Only the messages.")
@click.option("--table", is_flag=True, help="Only the records, hosts and robots.txt files.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@pass_shared
def cleanup(shared: Shared, /, everything: bool, queue: bool, table: bool, yes: bool) -> int:
    """Give a fresh state. Says what will be removed, and asks."""
    if everything + queue + table != 1:
        raise click.UsageError("say one of --all, --queue and --table.")

    async def main() -> int:
        async with opened(shared) as frontier:
            counts, messages = await frontier.counts(), await frontier.queue_stats()
            waiting = messages.visible + messages.in_flight + messages.delayed + messages.dead
            parts = []
            if everything or queue:
                parts.append(f"{waiting:,} messages")
            if everything or table:
                parts.append(f"{counts.total:,} records")
            what = f"{' and '.join(parts)} in {shared.frontier}"
            if not yes:
                if not sys.stdin.isatty():
                    raise click.UsageError(f"this removes {what}: say --yes where nobody can be asked.")
                click.confirm(f"Remove {what}?", abort=True, err=True)
            if everything or queue:
                await frontier.purge_queue()
            if everything or table:
                await frontier.clear_table()
            print(f"removed {what}")
            return 0

    return asyncio.run(main())
