"""``hosts``: how each host is treated, and the operator's word on it."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from sqspider.cli.main import Shared, pass_shared, shared_options
from sqspider.cli.options import opened, within
from sqspider.cli.sections import Group
from sqspider.export import iso
from sqspider.host import HostRow, with_orders
from sqspider.message import CrawlSettings

_DELAY = within(CrawlSettings.bounds["delay_seconds"])


@click.group(cls=Group, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@shared_options
@click.pass_context
def hosts(context: click.Context, as_json: bool) -> int:
    """List hosts with their counts, delay, next slot and trouble; `hosts set` changes how one is treated."""
    if context.invoked_subcommand is not None:
        return 0
    shared: Shared = context.obj

    async def main() -> list[HostRow]:
        async with opened(shared) as frontier:
            return await frontier.scan_hosts()

    rows = asyncio.run(main())
    if as_json:
        for row in rows:
            print(json.dumps(_row(row)))
        return 0
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("host", "done", "failed", "blocked", "bytes", "delay", "next slot in", "state"):
        table.add_column(name, justify="left" if name in ("host", "state") else "right")
    now = time.time()
    for row in rows:
        delay = row.delay_seconds if row.delay_seconds is not None else row.crawl_delay_seconds or row.penalty_seconds
        wait = f"{row.next_slot - now:,.0f} s" if row.next_slot > now else ""
        numbers = [f"{n:,}" for n in (row.done, row.failed, row.blocked, row.bytes)]
        table.add_row(row.host, *numbers, f"{delay:g} s" if delay else "", wait, _state(row, now))
    Console().print(table)
    return 0


def _state(row: HostRow, now: float) -> str:
    states = []
    if row.is_blocked:
        states.append("blocked")
    if row.is_paused:
        states.append("paused")
    if row.rest_until > now:
        states.append(f"resting for {row.rest_until - now:,.0f} s ({row.trouble.value if row.trouble else ''})")
    elif row.failures:
        states.append(f"{row.failures} failures in a row ({row.trouble.value if row.trouble else ''})")
    return ", ".join(states)


def _row(row: HostRow) -> dict[str, Any]:
    return {
        "host": row.host,
        "done": row.done,
        "failed": row.failed,
        "blocked": row.blocked,
        "bytes": row.bytes,
        "delay_seconds": row.delay_seconds,
        "crawl_delay_seconds": row.crawl_delay_seconds,
        "penalty_seconds": row.penalty_seconds,
        "next_slot": iso(row.next_slot or None),
        "rest_until": iso(row.rest_until or None),
        "failures": row.failures,
        "trouble": row.trouble.value if row.trouble else None,
        "is_paused": row.is_paused,
        "is_blocked": row.is_blocked,
    }


@hosts.command("set")
@click.argument("host")
@click.option("--delay", type=_DELAY, metavar="SECONDS", help="Beats every other delay.")
@click.option("--pause/--resume", "is_paused", default=None, help="Let its URLs wait, or go on.")
@click.option("--block/--unblock", "is_blocked", default=None, help="Do not fetch its URLs at all, or do again.")
@pass_shared
def hosts_set(
    shared: Shared, /, host: str, delay: float | None, is_paused: bool | None, is_blocked: bool | None
) -> int:
    """Change how a host is treated: for all workers within seconds, and across restarts."""
    if delay is None and is_paused is None and is_blocked is None:
        raise click.UsageError("say --delay, --pause, --resume, --block or --unblock.")

    async def main() -> None:
        async with opened(shared) as frontier:
            while True:
                row = (await frontier.hosts([host]))[host]
                changed = with_orders(row, delay=delay, is_paused=is_paused, is_blocked=is_blocked)
                if (await frontier.save_hosts([changed]))[0]:
                    break
            if is_paused is False or delay is not None:
                await frontier.release_host(host)

    asyncio.run(main())
    print(f"{host}: set")
    return 0
