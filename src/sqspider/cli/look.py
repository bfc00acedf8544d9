"""``status``, ``show`` and ``export``: the commands that only look."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from sqspider.cli.main import Shared, pass_shared
from sqspider.cli.options import opened
from sqspider.cli.progress import bill_line
from sqspider.export import CSV_HEAD, as_csv, as_jsonl, export_file, export_rows, iso, row_of
from sqspider.frontier import Frontier
from sqspider.record import Status
from sqspider.url import Refused, canonicalize, host_of, origin_of

WATCH_SECONDS = 1.0  # and at least so many times as long as looking takes:
WATCH_PATIENCE = 10


@click.command()
@click.option("--watch", is_flag=True, help="Look again and again, until Ctrl-C.")
@click.option(
    "--exact", is_flag=True, help="Count every record, where the sums may be behind. On AWS this reads the whole table."
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@pass_shared
def status(shared: Shared, /, watch: bool, exact: bool, as_json: bool) -> int:
    """Show how many records and messages there are of each kind, who is at work, and what it cost.

    On AWS the counts are sums that workers write every two seconds: they are behind by that much, and off by as much
    for each worker that was killed; --exact mends them. Looking takes 25 to 150 read units, whatever the size of the
    table, and one for each host in trouble.
    """
    if watch and (as_json or exact):
        raise click.UsageError("--watch goes with neither --json nor --exact.")

    async def main() -> None:
        async with opened(shared) as frontier:
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


async def _status(frontier: Frontier, *, exact: bool = False) -> dict[str, Any]:
    counts = await frontier.counts(exact=exact)
    queue = await frontier.queue_stats()
    hosts = await frontier.hosts_in_trouble()
    bill = await frontier.bill()
    return {
        "frontier": frontier.place,
        "records": {status.value: counts.by_status[status] for status in Status},
        "reasons": {reason.value: number for reason, number in sorted(counts.by_reason.items())},
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
            {"host": row.host, "trouble": row.trouble.value if row.trouble else None, "rest_until": iso(row.rest_until)}
            for row in hosts
        ],
        "bill": None if bill is None else {"dollars": bill.dollars, "calls": bill.calls, **bill.parts},
    }


def _status_table(seen: dict[str, Any]) -> Group:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(justify="right")
    table.add_column()
    for name, number in seen["records"].items():
        table.add_row(f"{number:,}", name)
    for reason, number in seen["reasons"].items():
        table.add_row("", Text(f"{number:,} {reason}", style="dim"))
    queue = seen["queue"]
    age = queue["oldest_age_seconds"]
    lines = [
        f"queue: {queue['visible']:,} visible, {queue['in_flight']:,} in flight, {queue['delayed']:,} delayed, "
        f"{queue['dead']:,} dead" + (f"; oldest {age:,.0f} s" if age is not None else ""),
        "workers: " + (", ".join(row["worker_id"] for row in seen["workers"]) or "none"),
    ]
    lines += [f"in trouble: {row['host']} ({row['trouble']})" for row in seen["hosts_in_trouble"][:10]]
    if seen["bill"] is not None:
        lines.append(bill_line(seen["bill"]["dollars"], seen["bill"]["calls"]))
    return Group(table, *(Text(line) for line in lines))


@click.command()
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
@pass_shared
def show(shared: Shared, /, url: str, as_json: bool) -> int:
    """Show all that is known of a URL. Exit status 1 if nothing is."""
    canonical = canonicalize(url)
    if isinstance(canonical, Refused):
        raise click.UsageError(f"{canonical}.")

    async def main() -> int:
        async with opened(shared) as frontier:
            record = (await frontier.get([canonical])).get(canonical)
            if record is None:
                print(f"{canonical} is not known in {shared.frontier}", file=sys.stderr)
                return 1
            row = row_of(record)
            if as_json:
                print(json.dumps(row, ensure_ascii=False))
                return 0
            host = (await frontier.hosts([host_of(canonical)]))[host_of(canonical)]
            robots = (await frontier.robots([origin_of(canonical)])).get(origin_of(canonical))
        row["robots.txt"] = f"{robots.access.value} (fetched {iso(robots.fetched_at)})" if robots else "not asked for"
        row["host's delay"] = f"{host.delay_seconds} s, set" if host.delay_seconds is not None else None
        row["host's crawl-delay"] = f"{host.crawl_delay_seconds:g} s" if host.crawl_delay_seconds else None
        for name, value in row.items():
            if value not in (None, ""):
                print(f"{name:18} {value}")
        return 0

    return asyncio.run(main())


@click.command()
@click.option("--format", "kind", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Instead of printing.")
@click.option("--status", type=click.Choice([status.value for status in Status]), help="Only these.")
@click.option("--host", help="Only this host's.")
@pass_shared
def export(shared: Shared, /, kind: str, output: Path | None, status: str | None, host: str | None) -> int:
    """Write the records, a row each. The columns' names do not change between versions."""
    as_line = as_csv if kind == "csv" else as_jsonl
    wanted = Status(status) if status else None

    async def main() -> None:
        async with opened(shared) as frontier:
            if output is None:
                if kind == "csv":
                    sys.stdout.write(CSV_HEAD)
                await export_rows(frontier, sys.stdout.write, as_line=as_line, status=wanted, host=host)
                sys.stdout.flush()
                return
            rows = await export_file(frontier, output, as_line=as_line, status=wanted, host=host)
            print(f"{rows:,} rows written to {output}", file=sys.stderr)

    try:
        asyncio.run(main())
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"{output or 'standard output'} cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    return 0
