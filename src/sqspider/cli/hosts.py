"""``hosts``: how each host is treated, and the operator's word on it."""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from sqspider.cli.main import Shared, pass_shared, shared_options
from sqspider.cli.options import opened, within
from sqspider.cli.sections import Group
from sqspider.crawls import CrawlSettings
from sqspider.export import iso
from sqspider.host import HostRow, delay_for, with_orders
from sqspider.incident import Stage, as_of, is_in_trouble, stage_of
from sqspider.url import Refused, canonical_host

NO_CRAWL: Final = CrawlSettings(delay_seconds=0.0)  # for the delay of a host whatever that of a crawl is
_DELAY = within(CrawlSettings.ranges["delay_seconds"])


def host_name(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """A host that was given, as the frontier names it: in lower case, in ASCII, without a dot at its end."""
    host = None if value is None else canonical_host(value)
    if isinstance(host, Refused):
        raise click.BadParameter(
            f"{host.shown} is no host: say its name or address alone, without scheme, port or path.",
            context,
            parameter,
        )
    return host


@click.group(cls=Group, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@shared_options
@click.pass_context
def hosts(context: click.Context, as_json: bool) -> int:
    """List hosts with their counts, delay, next slot and trouble; `hosts set` changes how one is treated."""
    if context.invoked_subcommand is not None:
        return 0
    shared: Shared = context.obj

    async def main() -> tuple[list[HostRow], float]:
        async with opened(shared, looking=True) as frontier:
            return await frontier.scan_hosts(), frontier.now()

    found, now = asyncio.run(main())
    rows = [as_of(row, now) for row in found]
    if as_json:
        for row in rows:
            print(json.dumps(_row(row, now)))
        return 0
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("host", "done", "failed", "blocked", "bytes", "delay", "next slot in", "state"):
        is_text = name in ("host", "state")
        table.add_column(name, justify="left" if is_text else "right", overflow="fold", no_wrap=not is_text)
    for row in rows:
        delay = delay_for(row, NO_CRAWL)
        wait = f"{row.next_slot - now:,.0f} s" if row.next_slot > now else ""
        numbers = [f"{n:,}" for n in (row.done, row.failed, row.blocked, row.bytes)]
        table.add_row(row.host, *numbers, f"{delay:g} s" if delay else "", wait, _state(row, now))
    Console().print(table)
    return 0


def crawl_delay_of(row: HostRow) -> str | None:
    """What a host's robots.txt asks for, and how much of it holds where that is less."""
    asked, most = row.crawl_delay_seconds, NO_CRAWL.max_crawl_delay_seconds
    if asked <= most:
        return f"{asked:g} s" if asked else None
    return f"{asked:g} s asked for, {most:g} s kept, or as much as --max-crawl-delay says"


def _state(row: HostRow, now: float) -> str:
    states = []
    if row.is_blocked:
        states.append("blocked")
    if row.is_paused:
        states.append("paused")
    if trouble := trouble_of(row, now):
        states.append(trouble)
    if row.crawl_delay_seconds > NO_CRAWL.max_crawl_delay_seconds:
        states.append(f"Crawl-delay: {crawl_delay_of(row)}")
    return ", ".join(states)


def trouble_of(row: HostRow, now: float) -> str | None:
    """What ails a host, since when, and what is done about it; none if nothing does."""
    if row.trouble is None:
        return None
    stage = stage_of(row, now)
    if stage is not Stage.WELL:
        until = "" if stage is Stage.PROBING else f" until {iso(row.rest_until)}"
        asked = f"asked {row.rests:,} time{'s' if row.rests > 1 else ''} in vain since {iso(row.trouble_since)}"
        return f"{stage}{until} ({row.trouble.value}: {asked})"
    said = f"{row.trouble.value} at {iso(row.penalty_since)}"
    if row.rest_until > now:
        return f"resting until {iso(row.rest_until)} ({said})"
    slowed = f"slowed to {row.penalty_seconds:g} s" if row.penalty_seconds else ""
    failed = f"{row.failures} failure{'s' if row.failures > 1 else ''} in a row" if row.failures else ""
    return f"{', '.join(filter(None, (slowed, failed)))} ({said})" if slowed or failed else None


def _row(row: HostRow, now: float) -> dict[str, Any]:
    return {
        "host": row.host,
        "done": row.done,
        "failed": row.failed,
        "blocked": row.blocked,
        "bytes": row.bytes,
        "delay_seconds": row.delay_seconds,  # the operator's
        "crawl_delay_seconds": row.crawl_delay_seconds,
        "penalty_seconds": row.penalty_seconds,
        "effective_delay_seconds": delay_for(row, NO_CRAWL),  # what of all these holds
        "next_slot": iso(row.next_slot or None),
        "rest_until": iso(row.rest_until or None),
        "failures": row.failures,
        "stage": stage_of(row, now).value,
        "probes_failed": row.rests,
        "trouble_since": iso(row.trouble_since or None),
        "trouble": row.trouble.value if row.trouble else None,
        "trouble_at": iso(row.penalty_since or None),
        "is_in_trouble": is_in_trouble(row, now),
        "is_paused": row.is_paused,
        "is_blocked": row.is_blocked,
    }


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
    return 0
