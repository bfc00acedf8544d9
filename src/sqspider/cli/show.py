"""``show``: all that is known of one URL."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import click

from sqspider.archive.addresses import files_at
from sqspider.archive.reading import capture_at
from sqspider.cli.archive_place import archive_of
from sqspider.cli.captures import part_options, write_part
from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.options import crawl_option
from sqspider.cli.order import row_if_named
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.wording import printable
from sqspider.export import iso
from sqspider.frontier import Frontier, RobotsRow
from sqspider.record import DEFAULT_CRAWL, UrlRecord, record_key
from sqspider.report import Surroundings, UrlReport, surroundings, url_state
from sqspider.url import Refused
from sqspider.work.seeds import read_url


@click.command(cls=Command)
@click.argument("url")
@click.option("--json", "as_json", is_flag=True, help="Print the record as JSON.")
@part_options("")
@click.option(
    "--archive",
    metavar="DIR|s3://BUCKET/PREFIX",
    help="Where its capture is looked for.  [env: SQSPIDER_ARCHIVE; default: the folder beside the frontier's file]",
)
@crawl_option("Look in this crawl.  [default: default]")
@pass_shared
def show(shared: Shared, /, url: str, as_json: bool, part: str | None, archive: str | None, crawl: str | None) -> int:
    """Show all that is known of a URL; or what its last visit brought. Exit status 1 if nothing is."""
    if as_json and part is not None:
        raise click.UsageError(f"--json and --{part} exclude each other.")
    canonical = read_url(url)
    if isinstance(canonical, Refused):
        raise click.UsageError(f"{canonical}.")

    async def main() -> int:
        async with opened(shared, looking=True) as frontier:
            asked = await row_if_named(frontier, crawl)
            state = await url_state(frontier, canonical, crawl or DEFAULT_CRAWL)
            if state is None:
                print(await _not_known(frontier, canonical, crawl), file=sys.stderr)
                return NOT_ALL_GOOD
            if part is not None:
                return _write_capture(shared, state.record, archive, part)
            row = state.as_json()
            if as_json:
                print(json.dumps(row, ensure_ascii=False))
            else:
                _print_lines(row | _more(state, await surroundings(frontier, canonical, asked)))
            return NOT_ALL_GOOD if row["error"] else GOOD

    return asyncio.run(main())


def _write_capture(shared: Shared, record: UrlRecord, archive: str | None, part: str) -> int:
    """Write what the record's last visit brought; 1 if that was not kept."""
    outcome = record.outcome
    if outcome is None or outcome.capture is None:
        print(f"there is no capture of {record.url}: {_why_none(record)}", file=sys.stderr)
        return NOT_ALL_GOOD
    files = files_at(archive_of(shared, archive))
    write_part(files, capture_at(files, outcome.capture, record.url), part)
    return GOOD


def _why_none(record: UrlRecord) -> str:
    if record.outcome is None:
        return "it was not visited yet"
    if record.outcome.checked:
        return "it lies outside of its crawl, and was only asked whether it is there"
    if record.outcome.unkept:
        return "its crawl does not keep such answers, or it was erased"
    return "nothing was kept of its last visit" if record.outcome.http_status else "nothing was answered"


def _no_capture(record: UrlRecord) -> str | None:
    """Said where there was an answer: else nobody looks for one."""
    outcome = record.outcome
    if outcome is None or outcome.capture is not None or not outcome.http_status:
        return None
    return f"none: {_why_none(record)}"


async def _not_known(frontier: Frontier, url: str, crawl: str | None) -> str:
    """That a crawl has no record of a URL; and which have one, where none was named."""
    if crawl is not None:
        return f"{url} is not known in the crawl {crawl} in {frontier.place}"
    names = {record_key(url, row.name): row.name for row in await frontier.crawls()}
    others = sorted(names[key] for key in await frontier.get(list(names)))
    if not others:
        return f"{url} is not known in {frontier.place}"
    said = " or ".join(f"--crawl {name}" for name in others)
    return f"{url} is not known in the crawl {DEFAULT_CRAWL} in {frontier.place}: {said} shows what is known of it"


def _print_lines(fields: dict[str, Any]) -> None:
    for name, value in fields.items():
        if value not in (None, ""):
            told = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value)
            print(f"{name:18} {printable(told)}")


def _more(state: UrlReport, around: Surroundings) -> dict[str, str | None]:
    """What a person is told beyond the record."""
    host, is_set = around.host, around.host.row.delay_seconds is not None
    delay = f"{host.delay_seconds:g} s{', set' if is_set else ''}"
    return {
        "requisite": "a page needs it to be shown: it is fetched, and not gone into"
        if state.record.is_requisite
        else None,
        "links_skipped": _skipped(state.record),
        "chain": str(state.chain) if state.chain else None,
        "last good visit": _good(state.record),
        "capture": _no_capture(state.record),
        "robots.txt": _robots(around.robots),
        "host's delay": delay if host.delay_seconds or is_set else None,
        "host's crawl-delay": host.crawl_delay,
        "host's trouble": host.trouble,
    }


def _skipped(record: UrlRecord) -> str:
    skipped = record.outcome.links_skipped if record.outcome is not None else {}
    return ", ".join(f"{number:,} {why}" for why, number in skipped.items())


def _good(record: UrlRecord) -> str | None:
    """What is kept of it, where the record says something else."""
    good = record.kept.good if record.kept is not None else None
    if good is None or good == record.outcome:
        return None
    return ", ".join(filter(None, (f"HTTP status {good.http_status}", good.title, good.digest)))


def _robots(robots: RobotsRow | None) -> str:
    if robots is None or not robots.fetched_at:
        return "not asked for"
    why = f": {robots.detail}" if robots.detail else ""
    return f"{robots.access.value} (fetched {iso(robots.fetched_at)}{why})"
