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
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sqspider.cli.main import Shared, pass_shared
from sqspider.cli.options import opened
from sqspider.demo_site import DemoSite
from sqspider.frontier import Frontier
from sqspider.message import CrawlSettings, Message, encode_message
from sqspider.record import Status, UrlRecord
from sqspider.url import Scope
from sqspider.web.fetch import FetchOptions
from sqspider.worker import WorkerOptions

RACE_URLS: Final = 20
_COLOURS: Final = {"consumer-A": "cyan", "consumer-B": "magenta"}
_LINE: Final = re.compile(r"(WON|LOST) race — [a-z ]+: (\S+)")


@click.group(invoke_without_command=True)
@click.option("--pages", type=click.IntRange(10, 5000), default=300, show_default=True, help="Pages of the site.")
@click.pass_context
def demo(context: click.Context, pages: int) -> int:
    """Start a small site on this machine, crawl it, and explain what came of it."""
    if context.invoked_subcommand is not None:
        return 0
    from sqspider.cli.work import run_loop

    shared: Shared = context.obj
    shared.start_logging("error")
    folder = tempfile.mkdtemp(prefix="sqspider-demo-")  # it stays, to be looked at
    return run_loop(_demo(Shared(f"sqlite:{folder}/demo.db", "console", None), pages))


async def _demo(shared: Shared, pages: int) -> int:
    from sqspider.cli.work import Crawl

    console = Console()
    async with DemoSite(pages) as site:
        console.print(f"A site of {pages} pages and some traps runs at {site.url}. Crawling it:", highlight=False)
        console.print(
            f"  sqspider --frontier {shared.frontier} crawl {site.url} --delay 0 --allow-private\n",
            style="bold",
            soft_wrap=True,
        )
        crawl = Crawl(
            shared,
            CrawlSettings(scope=Scope.HOST, delay_seconds=0.0, max_depth=30),
            WorkerOptions(worker_id="demo", first_retry_seconds=0.5),
            FetchOptions(allow_private=True),
            quiet=False,
        )
        status = await crawl.run((site.url,), 1, None, as_json=False)
        async with opened(shared) as frontier:
            await _explain(console, frontier, site)
    console.print("\nNow look around; the frontier stays:", highlight=False)
    for command in ("status", f"show {site.url}huge", "export | head -3", "hosts"):
        console.print(f"  sqspider --frontier {shared.frontier} {command}", style="bold", soft_wrap=True)
    return status


async def _explain(console: Console, frontier: Frontier, site: DemoSite) -> None:
    examples: dict[str, UrlRecord] = {}
    truncated: UrlRecord | None = None
    retried = 0
    async for records in frontier.scan():
        for record in records:
            outcome = record.outcome
            key = outcome.reason.value if outcome and outcome.reason else record.status.value
            examples.setdefault(key, record)
            retried += record.tries > 0
            if outcome and outcome.truncated:
                truncated = record
    table = Table(title="\nWhat became of the URLs, with one example each", title_justify="left", box=None)
    for name in ("status", "reason", "example", "why"):
        table.add_column(name, overflow="fold")
    for key, record in examples.items():
        reason = key if key != record.status.value else ""
        detail = record.outcome.detail if record.outcome else ""
        table.add_row(record.status.value, reason, record.url.removeprefix(site.url.rstrip("/")), detail)
    console.print(table)
    seen = Counter(request.path for request in site.requests)
    twice = {path: times for path, times in seen.items() if times > 1}
    counts = await frontier.counts()
    lines = [
        f"The server saw {len(site.requests):,} requests for {len(seen):,} addresses. "
        f"{len(twice)} were asked for more than once: targets of redirects, and {retried} that failed at first.",
        "/private/ was never asked for: robots.txt forbids it.",
        f"Records: {counts.total:,}, all finished, each by one claim. Had this been killed at any moment, the "
        "same command would have gone on from there.",
    ]
    if truncated is not None and truncated.outcome is not None:
        lines.insert(1, f"/huge was cut off after {truncated.outcome.bytes:,} bytes, and marked so.")
    console.print()
    for line in lines:
        console.print(f"• {line}", highlight=False)


@demo.command()
@pass_shared
def race(shared: Shared, /) -> int:
    """Send every message twice to two consumers; show who won and who lost each URL."""
    del shared
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
            while len(await frontier.workers()) < len(processes):
                await asyncio.sleep(0.05)
            started = time.monotonic()
            # Two by two, so that both consumers hold the same URLs at the same time.
            bodies = [encode_message(Message(url=url, settings=settings)) for url in urls]
            await frontier.send([body for pair in zip(bodies[::2], bodies[1::2], strict=True) for body in pair * 2])
            while (counts := await frontier.counts()).open or counts.total < RACE_URLS:
                await asyncio.sleep(0.05)
            seconds = time.monotonic() - started
        finally:
            for process in processes:
                process.terminate()
            await asyncio.gather(*watching)
        records = await frontier.get(urls)
    table = Table(title="\nWho got what", title_justify="left", box=None)
    for name in ("URL", "won by", "lost by"):
        table.add_column(name)
    for url in urls:
        table.add_row(url, ", ".join(winners[url]), ", ".join(losers[url]) or "nobody: its message had gone")
    console.print(table)
    fair = all(len(winners[url]) == 1 for url in urls)
    recorded = all(r.status is Status.DONE and r.attempt == 1 for r in records.values()) and len(records) == RACE_URLS
    verdict = "No URL was won twice" if fair and recorded else "SOMETHING IS WRONG: a URL was won twice, or not at all"
    console.print(
        f"\n{verdict}; the records say the same. {seconds:.1f} s. Frontier: {shared.frontier}",
        highlight=False,
        soft_wrap=True,
    )
    return 0 if fair and recorded else 1


async def _start_consumer(shared: Shared, name: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sqspider", *shared.arguments(), "consume", "--continuous", "--worker-id", name,
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
            console.print(Text(f"{name}: {line}", style="dim"), soft_wrap=True)
            continue
        (winners if found[1] == "WON" else losers)[found[2]].append(name)
        console.print(Text(f"{name}  ", style=_COLOURS[name]) + Text(found[0]), soft_wrap=True)
    await process.wait()
