"""``status``, ``show`` and ``export``: the commands that only look."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import click
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from sqspider.cli.hosts import NO_CRAWL, crawl_delay_of, host_name, trouble_of
from sqspider.cli.main import Shared, pass_shared
from sqspider.cli.options import opened
from sqspider.cli.output import format_of, output_option, say_unreadable, written
from sqspider.cli.progress import bill_line, records_table
from sqspider.cli.sections import Command
from sqspider.export import FORMATS, export_rows, iso, row_of
from sqspider.frontier import Frontier, RobotsRow
from sqspider.host import delay_for
from sqspider.incident import as_of, stage_of
from sqspider.record import Reason, Status
from sqspider.url import Refused, host_of, origin_of
from sqspider.work.redirects import chains_of
from sqspider.work.seeds import read_url

WATCH_SECONDS = 1.0  # and at least so many times as long as looking takes:
WATCH_PATIENCE = 10


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
@pass_shared
def status(shared: Shared, /, watch: bool, exact: bool, check: bool, as_json: bool) -> int:
    """Show how many records and messages there are of each kind, who is at work, and what it cost.

    On AWS the counts are sums that workers write every two seconds: they are behind by that much, and off by as much
    for each worker that was killed; --exact mends them. Looking takes 25 to 150 read units, whatever the size of the
    table, and one for each host in trouble.
    """
    if watch and (as_json or exact):
        raise click.UsageError("--watch goes with neither --json nor --exact.")
    if check:
        if watch or exact:
            raise click.UsageError("--check goes with neither --watch nor --exact.")
        return _check(shared, as_json=as_json)

    async def main() -> None:
        async with opened(shared, looking=True) as frontier:
            if as_json:
                print(json.dumps(await _status(frontier, exact=exact)))
            elif not watch:
                Console().print(_status_table(await _status(frontier, exact=exact)))
            else:
                with Live(console=Console(), auto_refresh=False) as live:
                    while True:
                        started = time.monotonic()
                        live.update(_status_table(await _status(frontier)), refresh=True)
                        await asyncio.sleep(max(WATCH_SECONDS, WATCH_PATIENCE * (time.monotonic() - started)))

    asyncio.run(main())
    return 0


def _check(shared: Shared, *, as_json: bool) -> int:
    kind, _, path = shared.frontier.partition(":")
    if kind != "sqlite":
        raise click.UsageError("--check is for SQLite files: DynamoDB looks after itself, and --exact mends its sums.")
    from sqspider.frontier.sqlite.check import check_file

    found = check_file(path)
    is_sound = not found.faults
    if as_json:
        print(
            json.dumps(
                {"frontier": shared.frontier, "sound": is_sound, "records": found.records, "faults": found.faults}
            )
        )
    else:
        print("\n".join(found.faults) or f"{shared.frontier} is sound: {found.records:,} records")
    if not is_sound:
        print(
            "What can be read, `sqspider export` writes. Go on with a copy from before, or crawl into another file.",
            file=sys.stderr,
        )
    return 0 if is_sound else 1


async def _status(frontier: Frontier, *, exact: bool = False) -> dict[str, Any]:
    counts = await frontier.counts(exact=exact)
    queue = await frontier.queue_stats()
    hosts = await frontier.hosts_in_trouble()
    bill = await frontier.bill()
    return {
        "frontier": frontier.place,
        "records": {status.value: counts.by_status[status] for status in Status},
        "reasons": {reason.value: number for reason, number in sorted(counts.by_reason.items())},
        "redirects": counts.redirects,
        "bytes": counts.bytes,
        "queue": {
            "visible": queue.visible,
            "in_flight": queue.in_flight,
            "delayed": queue.delayed,
            "dead": queue.dead,
            "oldest_age_seconds": queue.oldest_age_seconds,
        },
        "workers": [
            {"worker_id": row.worker_id, "started_at": iso(row.started_at), "seen_at": iso(row.seen_at)}
            for row in await frontier.workers()
        ],
        "hosts_in_trouble": [
            {
                "host": row.host,
                "trouble": row.trouble.value if row.trouble else None,
                "trouble_at": iso(row.penalty_since or None),
                "rest_until": iso(row.rest_until or None),
                "stage": stage_of(row, frontier.now()).value,
                "probes_failed": row.rests,
                "trouble_since": iso(row.trouble_since or None),
                "state": trouble_of(row, frontier.now()),
            }
            for row in hosts
        ],
        "bill": None if bill is None else {"dollars": bill.dollars, "calls": bill.calls, **bill.parts},
    }


def _status_table(seen: dict[str, Any]) -> Group:
    table = records_table(
        {Status(name): number for name, number in seen["records"].items()},
        {Reason(name): number for name, number in seen["reasons"].items()},
        seen["redirects"],
    )
    queue = seen["queue"]
    age = queue["oldest_age_seconds"]
    lines = [
        f"queue: {queue['visible']:,} visible, {queue['in_flight']:,} in flight, {queue['delayed']:,} delayed, "
        f"{queue['dead']:,} dead" + (f"; oldest {age:,.0f} s" if age is not None else ""),
        "workers: " + (", ".join(row["worker_id"] for row in seen["workers"]) or "none"),
    ]
    lines += [f"in trouble: {row['host']}: {row['state'] or row['trouble']}" for row in seen["hosts_in_trouble"][:10]]
    if seen["bill"] is not None:
        lines.append(bill_line(seen["bill"]["dollars"], seen["bill"]["calls"]))
    return Group(Text(f"in {seen['frontier']}"), table, *(Text(line) for line in lines))


def _robots(robots: RobotsRow | None) -> str:
    if robots is None or not robots.fetched_at:
        return "not asked for"
    why = f": {robots.detail}" if robots.detail else ""
    return f"{robots.access.value} (fetched {iso(robots.fetched_at)}{why})"


@click.command(cls=Command)
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
@pass_shared
def show(shared: Shared, /, url: str, as_json: bool) -> int:
    """Show all that is known of a URL. Exit status 1 if nothing is."""
    canonical = read_url(url)
    if isinstance(canonical, Refused):
        raise click.UsageError(f"{canonical}.")

    async def main() -> int:
        async with opened(shared, looking=True) as frontier:
            record = (await frontier.get([canonical])).get(canonical)
            if record is None:
                print(f"{canonical} is not known in {shared.frontier}", file=sys.stderr)
                return 1
            chain = (await chains_of(frontier, [record])).get(canonical)
            row = row_of(record, chain)
            if as_json:
                print(json.dumps(row, ensure_ascii=False))
                return 1 if row["error"] else 0
            now = frontier.now()
            host = as_of((await frontier.hosts([host_of(canonical)]))[host_of(canonical)], now)
            robots = (await frontier.robots([origin_of(canonical)])).get(origin_of(canonical))
        row["chain"] = chain and str(chain)
        row["robots.txt"] = _robots(robots)
        delay, is_set = delay_for(host, NO_CRAWL), host.delay_seconds is not None
        row["host's delay"] = f"{delay:g} s{', set' if is_set else ''}" if delay or is_set else None
        row["host's crawl-delay"] = crawl_delay_of(host)
        row["host's trouble"] = trouble_of(host, now)
        for name, value in row.items():
            if value not in (None, ""):
                print(f"{name:18} {value}")
        return 1 if row["error"] else 0

    return asyncio.run(main())


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
@pass_shared
def export(shared: Shared, /, kind: str | None, output: Path | None, status: str | None, host: str | None) -> int:
    """Write the records, a row each, in UTF-8. The columns' names do not change between versions.

    A record that is damaged has a row with its URL and the error. Exit status 1 if there is one.
    """
    form = format_of(output, kind)
    wanted = Status(status) if status else None
    unreadable: list[str] = []

    async def main(file: TextIO) -> int:
        async with opened(shared, looking=True) as frontier:
            return await export_rows(
                frontier, file.write, form, status=wanted, host=host, on_unreadable=unreadable.append
            )

    with written(output) as file:
        rows = asyncio.run(main(file))
    if output is not None:
        print(f"{rows:,} rows written to {output}", file=sys.stderr)
    say_unreadable(unreadable)
    return 1 if unreadable else 0
