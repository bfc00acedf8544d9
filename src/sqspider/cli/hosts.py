"""``hosts``: how each host is treated, and the operator's word on it."""

from __future__ import annotations

import asyncio
import json

import click
from rich.console import Console
from rich.table import Table

from sqspider import report
from sqspider.cli.exit_status import GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.options import host_name, within
from sqspider.cli.sections import Group
from sqspider.cli.shared import Shared, pass_shared, shared_options
from sqspider.crawl_settings import CrawlSettings
from sqspider.host import with_orders
from sqspider.host_trouble import as_of
from sqspider.report import HostReport

_DELAY = within(CrawlSettings.ranges["delay_seconds"])


@click.group(cls=Group, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@shared_options
@click.pass_context
def hosts(context: click.Context, as_json: bool) -> int:
    """List hosts with their counts, delay, next slot and trouble; `hosts set` changes how one is treated."""
    if context.invoked_subcommand is not None:
        return GOOD
    shared: Shared = context.obj

    async def main() -> list[HostReport]:
        async with opened(shared, looking=True) as frontier:
            return await report.hosts(frontier)

    found = asyncio.run(main())
    if as_json:
        for host in found:
            print(json.dumps(host.as_json()))
    else:
        Console().print(_table(found))
    return GOOD


def _table(found: list[HostReport]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("host", "done", "failed", "blocked", "bytes", "delay", "next slot in", "state"):
        is_text = name in ("host", "state")
        table.add_column(name, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text)
    for host in found:
        row, delay = host.row, host.delay_seconds
        wait = f"{row.next_slot - host.now:,.0f} s" if row.next_slot > host.now else ""
        numbers = [f"{n:,}" for n in (row.done, row.failed, row.blocked, row.bytes)]
        table.add_row(row.host, *numbers, f"{delay:g} s" if delay else "", wait, host.words)
    return table


@hosts.command("set", short_help="Change how a host is treated.")
@click.argument("host", callback=host_name)
@click.option("--delay", type=_DELAY, metavar="SECONDS", help="Beats every other delay.")
@click.option(
    "--pause/--resume",
    "is_paused",
    default=None,
    help="Let its URLs wait, or go on. --resume also ends a rest, and forgives what it was given up for.",
)
@click.option("--block/--unblock", "is_blocked", default=None, help="Do not fetch its URLs at all, or do again.")
@pass_shared
def hosts_set(
    shared: Shared, /, host: str, delay: float | None, is_paused: bool | None, is_blocked: bool | None
) -> int:
    """Change how a host is treated: for all workers at once, and across restarts."""
    if delay is None and is_paused is None and is_blocked is None:
        raise click.UsageError("say --delay, --pause, --resume, --block or --unblock.")

    async def main() -> None:
        async with opened(shared) as frontier:
            while True:
                row = as_of((await frontier.hosts([host]))[host], frontier.now())
                changed = with_orders(row, delay=delay, is_paused=is_paused, is_blocked=is_blocked)
                if (await frontier.save_hosts([changed]))[0]:
                    break
            if not is_paused:  # what waits for a moment that is void now is looked at anew
                await frontier.release_host(host)

    asyncio.run(main())
    print(f"{host}: set")
    return GOOD
