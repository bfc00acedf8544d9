"""``crawls``: which there are and how they stand; and the operator's word on one."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sqspider import report
from sqspider.cli.asking import ask_to_remove, removal_cost, yes_option, yes_to_costs_option
from sqspider.cli.bars import bar
from sqspider.cli.config_file import as_toml, config_option, read_config, whole
from sqspider.cli.exit_status import GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.options import crawl_options, fetch_options, identity_options, limit_options
from sqspider.cli.order import go_on, no_crawl
from sqspider.cli.said import said_in, unset_option, with_origins, with_said
from sqspider.cli.sections import Group
from sqspider.cli.shared import Shared, pass_shared, shared_options
from sqspider.cli.widening import ask_first, come_back
from sqspider.cli.wording import counted, printable
from sqspider.crawl_row import Crawl, CrawlRef, State, check_name
from sqspider.export import iso
from sqspider.frontier import Frontier
from sqspider.orders import consent
from sqspider.orders.changes import changes_of
from sqspider.orders.order import remember
from sqspider.orders.said import OPTIONS, identity_said, with_links, written
from sqspider.record import DEFAULT_CRAWL
from sqspider.redact import redact
from sqspider.report import CrawlReport
from sqspider.url import Scope
from sqspider.widening import widened
from sqspider.work.crawl_orders import ChangedMeanwhileError, change_crawl, crawl_named, removable

LOOK_SECONDS: Final = 1.0  # between two looks, by which it is told how quick a crawl is


def _name(context: click.Context, parameter: click.Parameter, value: str) -> str:
    try:
        check_name(value)
    except ValueError as error:
        raise click.BadParameter(f"{str(error).removeprefix('crawl: ')}.", context, parameter) from None
    return value


_named = click.argument("name", callback=_name)


class _Crawls(Group):
    otherwise = " `sqspider crawls` lists crawls, and `sqspider crawls show NAME` shows one."


@click.group(cls=_Crawls, invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
@shared_options
@click.pass_context
def crawls(context: click.Context, as_json: bool) -> int:
    """List crawls: state, records, speed. The commands below say what is in one, change it, and remove it.

    A crawl is running, paused or stopped, as somebody said; a running one of which nothing is left is finished. One
    that runs, and is at a limit of its own, or asks for what no worker may do, says what it waits for. The speed is
    that of one second, where a worker is at work.
    """
    if context.invoked_subcommand is not None:
        return GOOD
    shared: Shared = context.obj

    async def main() -> list[CrawlReport]:
        async with opened(shared, looking=True) as frontier:
            return await _looked_at(frontier)

    found = asyncio.run(main())
    if as_json:
        for each in found:
            print(json.dumps(each.as_json()))
    else:
        Console().print(_table(found))
        for each in found:
            if each.hindrance is not None:
                print(f"{each.name}: {printable(each.hindrance.why)}")
    return GOOD


async def _looked_at(frontier: Frontier) -> list[CrawlReport]:
    found, started = await report.crawls(frontier), time.monotonic()
    if not any(each.state == State.RUNNING for each in found) or not await frontier.workers():
        return found
    await asyncio.sleep(LOOK_SECONDS)
    return report.with_speeds(found, await report.crawls(frontier), time.monotonic() - started)


def _table(found: list[CrawlReport]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for name in ("crawl", "state", "done", "failed", "blocked", "open", "pages/s", "started"):
        is_text = name in ("crawl", "state", "started")
        table.add_column(name, justify="left" if is_text else "right", overflow="fold", no_wrap=name != "crawl")
    for each in found:
        numbers = each.as_json()["records"]
        counted = [f"{n:,}" for n in (numbers["done"], numbers["failed"], numbers["blocked"], each.counts.open)]
        speed = "" if each.pages_per_second is None else f"{each.pages_per_second:,.1f}"
        started = (iso(each.crawl.created_at) or "")[:16].replace("T", " ") if each.crawl else ""
        table.add_row(Text(each.name), each.standing, *counted, speed, started)
    return table


@crawls.command("show", short_help="Show what a crawl is, and how it stands.")
@_named
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.option("--toml", "as_file", is_flag=True, help="Print it as a file for --config.")
@pass_shared
def crawls_show(shared: Shared, /, name: str, as_json: bool, as_file: bool) -> int:
    """Show what a crawl is, and how it stands. Of a secret there is only where it is to be found."""
    if as_json and as_file:
        raise click.UsageError("--json and --toml exclude each other.")

    async def main() -> CrawlReport:
        async with opened(shared, looking=True) as frontier:
            await _row(frontier, name)
            return (await report.crawls(frontier, crawl=name))[0]

    found = asyncio.run(main())
    assert found.crawl is not None
    if as_file:
        print(as_toml(found.crawl), end="")
    elif as_json:
        options = {option.name: written(option, found.crawl) for option in OPTIONS.values()}
        print(json.dumps({**found.as_json(), "options": options}, ensure_ascii=False))
    else:
        _print(found, found.crawl)
    return GOOD


def _print(found: CrawlReport, crawl: Crawl) -> None:
    records = f"{found.counts.total:,}, {found.counts.open:,} open"
    told: dict[str, Any] = {**found.as_json(), "state": found.standing, "records": records}
    for name in ("crawl", "state", "waits_for", "records", "bytes", "started_at"):
        if told[name] is not None:
            print(f"{name.removesuffix('_at').replace('_', ' '):18} {printable(str(told[name]))}")
    for option in OPTIONS.values():
        value = written(option, crawl)
        for text in value if isinstance(value, list) else [value]:
            if text is not None and text is not False:
                print(f"{option.name:18} {redact(str(text)) if text is not True else 'yes'}")
    for seed in crawl.seeds:
        print(f"{'seed':18} {redact(seed)}")


@crawls.command("set", short_help="Change a crawl.")
@_named
@config_option("Let the crawl be as a file says (TOML), as `crawls show --toml` writes it.")
@unset_option
@yes_to_costs_option
@crawl_options(scope=Scope.HOST)
@limit_options
@fetch_options
@identity_options
@pass_shared
def crawls_set(shared: Shared, /, name: str, config: Path | None, yes: bool, **_: Any) -> int:
    """Change a crawl, while it runs or not: only what is said changes, for what is queued, too.

    Workers see it within seconds. Where a limit is widened, what it had cut comes back. A file that is named with
    --config says all of a crawl: what it leaves out goes back to its default.
    """
    context = click.get_current_context()
    said = said_in(context)
    if config is not None:
        file = read_config(context, config)
        if file.crawl not in (None, name):
            raise click.UsageError(f"{config} is of the crawl {file.crawl}, not of {name}.")
        said = {**whole(file.said), **said}
    if not said:
        raise click.UsageError("say what to change: an option, --unset or --config.")

    async def main() -> None:
        async with opened(shared, mending=True) as frontier:
            before = await _row(frontier, name)
            now = frontier.now()
            told = with_origins(with_links(said, before.settings.scope), before, ())
            if not yes:
                await ask_first(frontier, widened(before, with_said(before, told), now))
            after = await _change(frontier, before, lambda row: widened(row, with_said(row, told), now))
            _tell(before, after)
            if consent.is_allowed(after.identity, before, identity_said(said)):
                remember(after)
            if line := await come_back(frontier, after):
                print(f"{name}: {line}: `{go_on(shared, name)}` goes on with them")

    asyncio.run(main())
    return GOOD


def _tell(before: Crawl, after: Crawl) -> None:
    changes = changes_of(before, after)
    print(f"{after.name}: {'; '.join(changes)}, from now on" if changes else f"{after.name}: nothing changes")


@crawls.command("pause", short_help="Let a crawl rest.")
@_named
@pass_shared
def crawls_pause(shared: Shared, /, name: str) -> int:
    """Let a crawl rest: workers take nothing more of it within seconds, and end what they have in hand."""
    return _put_into(shared, name, State.PAUSED)


@crawls.command("resume", short_help="Let a crawl go on.")
@_named
@pass_shared
def crawls_resume(shared: Shared, /, name: str) -> int:
    """Let a crawl go on that was paused or stopped: workers that run take it up. So does `crawl`."""
    return _put_into(shared, name, State.RUNNING)


@crawls.command("stop", short_help="End a crawl, and keep what it has.")
@_named
@pass_shared
def crawls_stop(shared: Shared, /, name: str) -> int:
    """End a crawl before its end. It rests as one that is paused does, and its records stay; `resume` takes it up."""
    return _put_into(shared, name, State.STOPPED)


def _put_into(shared: Shared, name: str, state: State) -> int:
    async def main() -> None:
        async with opened(shared, mending=True) as frontier:
            before = await _row(frontier, name)
            after = await _change(frontier, before, lambda row: msgspec.structs.replace(row, state=state))
            if state is State.RUNNING:
                await frontier.unpark(after.ref)
            _tell(before, after)

    asyncio.run(main())
    return GOOD


@crawls.command("remove", short_help="Remove a crawl and all of its records.")
@_named
@yes_option
@pass_shared
def crawls_remove(shared: Shared, /, name: str, yes: bool) -> int:
    """Remove a crawl and all of its records. Says how many there are and where, and asks.

    If it is broken off, it goes on when it is said again. What other crawls know of hosts and robots.txt files stays.
    """

    async def main() -> None:
        async with opened(shared, mending=True) as frontier:
            ref, records = await _ref(frontier, name), (await frontier.counts(crawl=name)).total
            most = (
                "at most " if name == DEFAULT_CRAWL else ""
            )  # pages that go by no crawl are counted with it, and stay
            what = f"the crawl {name} with {most}{counted(records, 'record', 'records')} in {frontier.place}"
            if line := removal_cost(frontier.traits, records):
                print(line, file=sys.stderr)
            if not yes:
                ask_to_remove(what)
            removed = counted(await _remove(frontier, ref, records), "record", "records")
            print(f"removed the crawl {name} with {removed} in {frontier.place}")

    asyncio.run(main())
    return GOOD


async def _remove(frontier: Frontier, ref: CrawlRef, records: int) -> int:
    """How many records there were."""
    with bar() as progress:
        task = progress.add_task("removing records", total=records or None)
        return await frontier.remove_crawl(ref, lambda removed: progress.update(task, completed=removed))


async def _ref(frontier: Frontier, name: str) -> CrawlRef:
    """The crawl of a name, to be removed. Raises ``click.UsageError`` if there is none."""
    ref = await removable(frontier, name)
    if ref is None:
        raise await no_crawl(frontier, name)
    return ref


async def _row(frontier: Frontier, name: str) -> Crawl:
    """The row of a crawl. Raises ``click.UsageError`` if there is none."""
    row = await crawl_named(frontier, name)
    if row is None:
        raise await no_crawl(frontier, name)
    return row


async def _change(frontier: Frontier, row: Crawl, change: Callable[[Crawl], Crawl]) -> Crawl:
    try:
        return await change_crawl(frontier, row, change)
    except ChangedMeanwhileError as error:
        raise click.ClickException(str(error)) from None
