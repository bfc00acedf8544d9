"""``demo``: a crawl of a small site of our own, explained. Its race of two consumers is in ``race``."""

from __future__ import annotations

import tempfile
from collections import Counter, defaultdict
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sqspider.cli.exit_status import GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.race import race, say_it_is_its_own
from sqspider.cli.sections import Group
from sqspider.cli.shared import Shared, shared_options
from sqspider.cli.start import to_start
from sqspider.cli.summary import STATUS_STYLES
from sqspider.demo_site import DemoSite
from sqspider.frontier import Looking
from sqspider.orders.keeping import archive_of_frontier
from sqspider.orders.order import Order
from sqspider.orders.start import ArchivePlace, with_archive
from sqspider.record import DEFAULT_CRAWL, Status, UrlRecord
from sqspider.work.options import WorkerOptions

DEPTH: Final = 30  # ends the site's trap


@click.group(cls=Group, invoke_without_command=True)
@click.option(
    "--pages", type=click.IntRange(10, 5000), default=300, show_default=True, metavar="N", help="Pages of the site."
)
@shared_options
@click.pass_context
def demo(context: click.Context, pages: int) -> int:
    """Start a small site on this machine, crawl it, and explain what came of it."""
    if context.invoked_subcommand is not None:
        return GOOD
    from sqspider.cli.worker import run_loop

    shared: Shared = context.obj
    say_it_is_its_own(shared)
    shared.start_logging("error")
    folder = tempfile.mkdtemp(prefix="sqspider-demo-")  # it stays, to be looked at
    return run_loop(_demo(Shared(f"sqlite:{folder}/demo.db", "console", None), pages))


async def _demo(shared: Shared, pages: int) -> int:
    from sqspider.cli.crawl_run import CrawlRun

    console = Console()
    address = archive_of_frontier(shared.frontier, {})
    assert address is not None
    start = with_archive(to_start({}), ArchivePlace(address=address))
    async with DemoSite(pages) as site:
        console.print(f"A site of {pages} pages and some traps runs at {site.url}. Crawling it:", highlight=False)
        console.print(
            f"  sqspider --frontier {shared.frontier} crawl {site.url} --delay 0 --depth {DEPTH} --allow-private\n",
            style="bold",
            soft_wrap=True,
        )
        run = CrawlRun(
            shared,
            Order(DEFAULT_CRAWL, {"delay": 0.0, "depth": DEPTH, "allow-private": True}, is_run=True, is_kept=False),
            WorkerOptions(worker_id="demo", first_retry_seconds=0.5),
            start,
        )
        status = await run.run((site.url,))
        async with opened(shared) as frontier:
            await _explain(console, frontier, site)
    console.print("\nNow look around; the frontier and the pages stay:", highlight=False)
    for command in (
        "status", f"show {site.url}huge", f"show {site.url}loop/0", f"show {site.url}page/1 --body", "archive list",
        "archive verify", "export --limit 3", "extract --title --limit 3", "links --broken", "hosts",
    ):  # fmt: skip
        console.print(f"  sqspider --frontier {shared.frontier} {command}", style="bold", soft_wrap=True)
    return status


async def _explain(console: Console, frontier: Looking, site: DemoSite) -> None:
    """What became of the URLs, what the odd pages show, and what the server saw."""
    records = {
        record.url.removeprefix(site.url.rstrip("/")): record async for batch in frontier.scan() for record in batch
    }
    console.print(_kinds_table(records))
    _list(console, "What the odd pages show", _lessons(records))
    _list(console, "What the server saw", _requests_seen(site, records))
    _list(console, "What is kept of it", _kept(records))
    unfinished = sum(not record.status.is_final for record in records.values())
    if unfinished:
        console.print(f"\nIt was stopped before its end: {unfinished:,} URLs are still queued.", highlight=False)
        return
    _list(
        console,
        "Had this been killed at any moment, even by SIGKILL, the same command would have gone on from there",
        [
            f"{len(records):,} records, every one finished, and finished by one claim only.",
            "A page that was being fetched then comes back when its lease of 60 s has ended, and is fetched again.",
        ],
    )


def _kinds_table(records: dict[str, UrlRecord]) -> Table:
    """How many URLs ended in the same way, with the first of each; ``records`` by their paths."""
    kinds: defaultdict[tuple[Status, str], list[str]] = defaultdict(list)
    for path, record in records.items():
        kinds[record.status, _what(record)].append(path)
    table = Table(title="\nWhat became of the URLs, with one example each", title_justify="left", box=None)
    table.add_column("URLs", justify="right")
    for name in ("status", "what", "example", "why"):
        table.add_column(name, overflow="fold")
    for (status, what), paths in sorted(kinds.items(), key=lambda item: -len(item[1])):
        outcome = records[paths[0]].outcome
        detail = outcome.detail if outcome else ""
        if outcome and not detail and outcome.redirect_to:
            detail = f"leads to {outcome.redirect_to}"
        table.add_row(f"{len(paths):,}", Text(status.value, style=STATUS_STYLES[status]), what, paths[0], detail)
    return table


def _what(record: UrlRecord) -> str:
    outcome = record.outcome
    if outcome is None:
        return ""
    if outcome.reason is not None:
        return outcome.reason.value
    return "redirect" if outcome.is_redirect else ""


def _list(console: Console, title: str, lines: list[str]) -> None:
    console.print(f"\n{title}", style="italic", highlight=False)
    points = Table.grid(padding=(0, 1))  # a grid, so that what is folded stays indented
    for line in lines:
        points.add_row("•", Text(line))
    console.print(points)


def _lessons(records: dict[str, UrlRecord]) -> list[str]:
    lines = []
    for path, lesson in (
        ("/redirect/3", "{path} redirects to {redirect_to}, which is a URL like any other; so each is asked once."),
        ("/loop/0", "{path} and {redirect_to} lead to one another: each was asked once."),
        ("/away", "{path} redirects to {redirect_to}, which is not of this site: it was not asked."),
        (
            "/flaky/0",
            "{path} answered 500 at first; it was put off, and answered {http_status} when it was asked again.",
        ),
        ("/slow", "{path} took {elapsed_ms} ms; the others did not wait for it."),
        ("/huge", "{path} was cut off after {bytes:,} bytes, and marked so."),
        ("/latin1", "{path} names its encoding only in its own text; its title was read as {title!r}."),
    ):
        record = records.get(path)
        if record is not None and record.outcome is not None:
            lines.append(lesson.format(path=path, **msgspec.structs.asdict(record.outcome)))
    deepest = max((record.depth for record in records.values()), default=0)
    if deepest == DEPTH:
        lines.append(
            f"/trap leads deeper and deeper: --depth {DEPTH} has ended it. (--max-repeats would, too, sooner.)"
        )
    return lines


def _kept(records: dict[str, UrlRecord]) -> list[str]:
    """Where one page lies, and how many do."""
    captures = {path: outcome.capture for path, record in records.items() if (outcome := record.outcome)}
    kept = sum(capture is not None for capture in captures.values())
    lines = [f"Of {kept:,} URLs the last answer is kept, as it was sent."]
    place = captures.get("/page/1")
    if place is not None:
        lines.append(f"/page/1 is {place.length:,} bytes of {place.file}, from byte {place.offset:,} on.")
    return lines


def _requests_seen(site: DemoSite, records: dict[str, UrlRecord]) -> list[str]:
    seen = Counter(request.path for request in site.requests)
    robots = _times(seen["/robots.txt"])
    lines = [f"{seen.total():,} requests for {len(seen):,} addresses; robots.txt was asked for {robots}."]
    if not any(path.startswith("/private/") for path in seen):
        lines.append("/private/ was never asked for: robots.txt forbids it.")
    retried = [path for path in seen if path in records and records[path].tries]
    if retried:
        lines.append(f"Asked for again after it had failed: {', '.join(retried)}.")
    others = [f"{path} ({_times(seen[path])})" for path in seen if seen[path] > 1 and path not in retried]
    if others:
        lines.append(f"Asked for more than once: {', '.join(others)}.")
    lines.append("Every other address was asked for once.")
    return lines


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


demo.add_command(race)
