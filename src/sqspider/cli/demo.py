"""``demo``: a crawl of a small site of our own, and a race of two consumers, both explained."""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
import time
from collections import Counter, defaultdict
from typing import Final

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sqspider.cli.main import Shared, pass_shared, shared_options
from sqspider.cli.options import opened
from sqspider.cli.processes import SELF
from sqspider.cli.progress import STATUS_STYLES
from sqspider.cli.sections import Group
from sqspider.crawls import CrawlSettings
from sqspider.demo_site import DemoSite
from sqspider.frontier import Frontier
from sqspider.message import Message, encode_message
from sqspider.record import Status, UrlRecord
from sqspider.url import Scope
from sqspider.web.fetch import FetchOptions
from sqspider.work.options import WorkerOptions

DEPTH: Final = 30  # ends the site's trap
RACE_URLS: Final = 20
RACE_SECONDS: Final = 60.0  # after which it is given up: it takes two or three
_COLOURS: Final = {"consumer-A": "cyan", "consumer-B": "magenta"}
_LINE: Final = re.compile(r"(WON|LOST) race — [a-z ]+: (\S+)")


@click.group(cls=Group, invoke_without_command=True)
@click.option(
    "--pages", type=click.IntRange(10, 5000), default=300, show_default=True, metavar="N", help="Pages of the site."
)
@shared_options
@click.pass_context
def demo(context: click.Context, pages: int) -> int:
    """Start a small site on this machine, crawl it, and explain what came of it."""
    if context.invoked_subcommand is not None:
        return 0
    from sqspider.cli.work import run_loop

    shared: Shared = context.obj
    _say_of_its_own(shared)
    shared.start_logging("error")
    folder = tempfile.mkdtemp(prefix="sqspider-demo-")  # it stays, to be looked at
    return run_loop(_demo(Shared(f"sqlite:{folder}/demo.db", "console", None), pages))


def _say_of_its_own(shared: Shared) -> None:
    if shared.address is not None:
        print("demo makes a frontier of its own: --frontier is for the other commands", file=sys.stderr)


async def _demo(shared: Shared, pages: int) -> int:
    from sqspider.cli.work import Crawl

    console = Console()
    async with DemoSite(pages) as site:
        console.print(f"A site of {pages} pages and some traps runs at {site.url}. Crawling it:", highlight=False)
        console.print(
            f"  sqspider --frontier {shared.frontier} crawl {site.url} --delay 0 --depth {DEPTH} --allow-private\n",
            style="bold",
            soft_wrap=True,
        )
        crawl = Crawl(
            shared,
            CrawlSettings(scope=Scope.HOST, delay_seconds=0.0, max_depth=DEPTH),
            WorkerOptions(worker_id="demo", first_retry_seconds=0.5),
            FetchOptions(allow_private=True),
            quiet=False,
        )
        status = await crawl.run((site.url,), 1, None, as_json=False)
        async with opened(shared) as frontier:
            await _explain(console, frontier, site)
    console.print("\nNow look around; the frontier stays:", highlight=False)
    for command in ("status", f"show {site.url}huge", f"show {site.url}loop/0", "export | head -3", "hosts"):
        console.print(f"  sqspider --frontier {shared.frontier} {command}", style="bold", soft_wrap=True)
    return status


async def _explain(console: Console, frontier: Frontier, site: DemoSite) -> None:
    """What became of the URLs, what the odd pages show, and what the server saw."""
    records: dict[str, UrlRecord] = {}
    kinds: defaultdict[tuple[str, str], list[UrlRecord]] = defaultdict(list)
    async for batch in frontier.scan():
        for record in batch:
            records[record.url.removeprefix(site.url.rstrip("/"))] = record
            kinds[record.status.value, _what(record)].append(record)
    table = Table(title="\nWhat became of the URLs, with one example each", title_justify="left", box=None)
    table.add_column("URLs", justify="right")
    for name in ("status", "what", "example", "why"):
        table.add_column(name, overflow="fold")
    for (status, what), alike in sorted(kinds.items(), key=lambda item: -len(item[1])):
        example = alike[0]
        detail = example.outcome.detail if example.outcome else ""
        if example.outcome and not detail and example.outcome.redirect_to:
            detail = f"leads to {example.outcome.redirect_to}"
        path = example.url.removeprefix(site.url.rstrip("/"))
        style = STATUS_STYLES[example.status]
        table.add_row(f"{len(alike):,}", Text(status, style=style), what, path, detail)
    console.print(table)
    _list(console, "What the odd pages show", _lessons(records))
    _list(console, "What the server saw", _requests_seen(site, records))
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


@demo.command(short_help="Show two consumers race for each URL.")
@pass_shared
def race(shared: Shared, /) -> int:
    """Send every message twice to two consumers; show who won and who lost each URL."""
    _say_of_its_own(shared)
    folder = tempfile.mkdtemp(prefix="sqspider-race-")
    return asyncio.run(_race(Shared(f"sqlite:{folder}/race.db", "console", "info")))


async def _race(shared: Shared) -> int:
    console = Console()
    winners: defaultdict[str, list[str]] = defaultdict(list)
    losers: defaultdict[str, list[str]] = defaultdict(list)
    settings = CrawlSettings(delay_seconds=0.0, obey_robots=False)
    async with DemoSite(RACE_URLS, page_seconds=0.1) as site, opened(shared) as frontier:
        urls = [f"{site.url}page/{number}" for number in range(RACE_URLS)]
        console.print(f"{RACE_URLS} URLs, every message sent twice, two consumers as processes:\n", highlight=False)
        processes = [await _start_consumer(shared, name) for name in _COLOURS]
        watching = [
            asyncio.create_task(_watch(process, name, console, winners, losers))
            for process, name in zip(processes, _COLOURS, strict=True)
        ]
        try:
            async with asyncio.timeout(RACE_SECONDS):
                while len(await frontier.workers()) < len(processes):
                    await asyncio.sleep(0.05)
                started = time.monotonic()
                # Two by two, so that both consumers hold the same URLs at the same time.
                bodies = [encode_message(Message(url=url, settings=settings)) for url in urls]
                pairs = zip(bodies[::2], bodies[1::2], strict=True)
                await frontier.send([body for pair in pairs for body in pair * 2])
                while (counts := await frontier.counts()).open or counts.total < RACE_URLS:
                    await asyncio.sleep(0.05)
                seconds = time.monotonic() - started
        except TimeoutError:
            console.print(f"\nThe race was not over after {RACE_SECONDS:.0f} s: it is given up.", highlight=False)
            return 1
        finally:
            for process in processes:
                if process.returncode is None:
                    process.terminate()
            await asyncio.gather(*watching)
        records = await frontier.get(urls)
    table = Table(title="\nWho got what", title_justify="left", box=None)
    for name in ("URL", "won by", "lost by"):
        table.add_column(name)
    for url in urls:
        table.add_row(url, _named(*winners[url]), _named(*losers[url]) or "nobody: its message had gone")
    console.print(table)
    fair = all(len(winners[url]) == 1 for url in urls)
    recorded = all(r.status is Status.DONE and r.attempt == 1 for r in records.values()) and len(records) == RACE_URLS
    if fair and recorded:
        verdict = Text("No URL was won twice, and the records say the same.", style="green")
    else:
        verdict = Text("SOMETHING IS WRONG: a URL was won twice, or not at all.", style="bold red")
    console.print(
        "\n", verdict, f" {seconds:.1f} s. Frontier: {shared.frontier}", sep="", highlight=False, soft_wrap=True
    )
    return 0 if fair and recorded else 1


def _named(*names: str) -> Text:
    """Consumers' names, each in its own colour."""
    return Text.assemble(*((name, _COLOURS.get(name, "")) for name in names))


async def _start_consumer(shared: Shared, name: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *SELF, *shared.arguments(), "consume", "--continuous", "--worker-id", name,
        "--allow-private", "--batch-size", "2", "--concurrency", "2",
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def _watch(
    process: asyncio.subprocess.Process,
    name: str,
    console: Console,
    winners: defaultdict[str, list[str]],
    losers: defaultdict[str, list[str]],
) -> None:
    """Show a consumer's lines as they come, and remember who won and lost what."""
    assert process.stderr is not None
    async for raw in process.stderr:
        line = raw.decode("utf-8", "replace").rstrip()
        found = _LINE.search(line)
        if found is None:
            if not line.startswith("stopping"):  # we have told it to stop
                console.print(Text(f"{name}: {line}", style="dim"), soft_wrap=True)
            continue
        is_won = found[1] == "WON"
        (winners if is_won else losers)[found[2]].append(name)
        console.print(_named(name, "  "), Text(found[0], style="" if is_won else "dim"), sep="", soft_wrap=True)
    await process.wait()
