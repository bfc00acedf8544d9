"""``status``: how many records and messages there are, who is at work, and what it cost."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Final

import click

from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.options import crawl_option
from sqspider.cli.order import row_if_named
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.summary import bill_line, records_table
from sqspider.cli.wording import counted, human_bytes, printable
from sqspider.environment import load_environment
from sqspider.frontier import sqlite_path
from sqspider.orders.keeping import archive_of_frontier, size_of
from sqspider.record import Status
from sqspider.report import FrontierReport, Readable, state_of

if TYPE_CHECKING:
    from rich.console import Group

WATCH_SECONDS: Final = 1.0  # and at least so many times as long as looking takes:
WATCH_PATIENCE: Final = 10
MOST_HOSTS: Final = 10  # in trouble, that are listed for a person


@click.command(cls=Command)
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option(
    "--exact", is_flag=True, help="Count every record, where the sums may be behind. On AWS this reads the whole table."
)
@click.option(
    "--check",
    is_flag=True,
    help="Instead, read a whole SQLite file and say what is damaged in it: seconds for 100,000 records, minutes for "
    "ten million. Exit status 1 if anything is.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@crawl_option("Count the records of this crawl alone.  [default: those of all crawls]")
@pass_shared
def status(shared: Shared, /, watch: bool, exact: bool, check: bool, as_json: bool, crawl: str | None) -> int:
    """Show how many records and messages there are of each kind, who is at work, and what it cost.

    On AWS the counts are sums that workers write every two seconds: they are behind by that much, and off by as much
    for each worker that was killed; --exact mends them. Looking takes 25 to 150 read units, whatever the size of the
    table, one for each host in trouble, and a few for each crawl that has a limit. What a crawl waits for that somebody
    has to do is told, with what that is.
    """
    if watch and (as_json or exact):
        raise click.UsageError("--watch goes with neither --json nor --exact.")
    if check:
        if watch or exact or crawl:
            raise click.UsageError("--check goes with none of --watch, --exact and --crawl.")
        return _check(shared, as_json=as_json)

    async def main() -> None:
        async with opened(shared, looking=True) as frontier:
            if crawl is not None:
                await row_if_named(frontier, crawl)
            if watch:
                await _watch(frontier, crawl, shared)
                return
            state = await state_of(frontier, exact=exact, crawl=crawl)
            if as_json:
                print(json.dumps({**state.as_json(), "archive": _archive_as_json(shared)}))
            else:
                from rich.console import Console  # here, and below: what is printed as JSON needs none

                Console().print(_table(state, crawl, _archive_line(shared)), soft_wrap=True)

    asyncio.run(main())
    return GOOD


async def _watch(frontier: Readable, crawl: str | None, shared: Shared) -> None:
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(), auto_refresh=False) as live:
        while True:
            started = time.monotonic()
            live.update(_table(await state_of(frontier, crawl=crawl), crawl, _archive_line(shared)), refresh=True)
            await asyncio.sleep(max(WATCH_SECONDS, WATCH_PATIENCE * (time.monotonic() - started)))


def _check(shared: Shared, *, as_json: bool) -> int:
    path = sqlite_path(shared.frontier)
    if path is None:
        raise click.UsageError("--check is for SQLite files: DynamoDB looks after itself, and --exact mends its sums.")
    from sqspider.frontier.sqlite.check import check_file

    found = check_file(path)
    is_sound = not found.faults
    if as_json:
        told = {"frontier": shared.frontier, "sound": is_sound, "records": found.records, "faults": found.faults}
        print(json.dumps(told))
    else:
        print("\n".join(found.faults) or f"{shared.frontier} is sound: {found.records:,} records")
    if not is_sound:
        print(
            "What can be read, `sqspider export` writes. Go on with a copy from before, or crawl into another file.",
            file=sys.stderr,
        )
    return GOOD if is_sound else NOT_ALL_GOOD


def _archive_as_json(shared: Shared) -> dict[str, str | int | None] | None:
    """Where the pages of the frontier are kept if nothing else is said, and how many files and bytes lie there; of a
    bucket that is not told."""
    address = archive_of_frontier(shared.frontier, load_environment())
    if address is None:
        return None
    size = size_of(address)
    return {"address": address, "files": size and size.files, "bytes": size and size.bytes}


def _archive_line(shared: Shared) -> str | None:
    address = archive_of_frontier(shared.frontier, load_environment())
    if address is None:
        return None
    size = size_of(address)
    if size is None:
        return f"archive: {address}"
    return (
        f"archive: {address}: {human_bytes(size.bytes)} in {counted(size.files, 'file', 'files')}"
        if size.files
        else None
    )


def _table(state: FrontierReport, crawl: str | None, archive: str | None) -> Group:
    from rich.console import Group
    from rich.text import Text

    counts, queue = state.counts, state.queue
    records = records_table(
        {status: counts.by_status[status] for status in Status},
        dict(sorted(counts.by_reason.items())),
        counts.redirects,
    )
    age = queue.oldest_age_seconds
    lines = [
        f"queue{' of all crawls' if crawl else ''}: {queue.visible:,} visible, {queue.in_flight:,} in flight, "
        f"{queue.delayed:,} delayed, {queue.dead:,} dead" + (f"; oldest {age:,.0f} s" if age is not None else ""),
        "workers: " + (", ".join(row.worker_id for row in state.workers) or "none"),
    ]
    lines += [f"the crawl {name}: {printable(hindrance.why)}" for name, hindrance in state.hindered.items()]
    troubled = state.hosts_in_trouble[:MOST_HOSTS]
    lines += [f"in trouble: {host.row.host}: {host.trouble or host.row.trouble}" for host in troubled]
    if archive is not None:
        lines.append(archive)
    if state.bill is not None:
        lines.append(bill_line(state.bill))
    where = f"the crawl {crawl} in {state.place}" if crawl else f"in {state.place}"
    return Group(Text(where), records, *(Text(line) for line in lines))
