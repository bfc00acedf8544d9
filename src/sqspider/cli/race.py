"""``demo race``: two consumers race for each URL, and the command shows who won and who lost it."""

from __future__ import annotations

import asyncio
import re
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.processes import SELF
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.crawl_settings import CrawlSettings
from sqspider.demo_site import DemoSite
from sqspider.frontier import Frontier
from sqspider.message import Message, encode_message
from sqspider.record import Status, UrlRecord

URLS: Final = 20
AT_A_TIME: Final = 2  # URLs that a consumer takes, and fetches
PAGE_SECONDS: Final = 0.3  # longer than a consumer waits between two looks: meanwhile it takes the double
MOST_SECONDS: Final = 60.0  # after which it is given up: it takes three or four
LOOK_SECONDS: Final = 0.05
_COLOURS: Final = {"consumer-A": "cyan", "consumer-B": "magenta"}
_LINE: Final = re.compile(r"(WON|LOST) race — [a-z ]+: (\S+)")


def say_it_is_its_own(shared: Shared) -> None:
    """Tell whoever named a frontier that a demo makes one."""
    if shared.address is not None:
        print("demo makes a frontier of its own: --frontier is for the other commands", file=sys.stderr)


@click.command(cls=Command, short_help="Show two consumers race for each URL.")
@pass_shared
def race(shared: Shared, /) -> int:
    """Send every message twice to two consumers; show who won and who lost each URL."""
    say_it_is_its_own(shared)
    folder = tempfile.mkdtemp(prefix="sqspider-race-")  # it stays, to be looked at
    return asyncio.run(_race(Shared(f"sqlite:{folder}/race.db", "console", "info")))


async def _race(shared: Shared) -> int:
    console = Console()
    seen = _Seen(console)
    async with DemoSite(URLS, page_seconds=PAGE_SECONDS) as site, opened(shared) as frontier:
        urls = [f"{site.url}page/{number}" for number in range(URLS)]
        console.print(f"{URLS} URLs, every message sent twice, two consumers as processes:\n", highlight=False)
        try:
            async with _consumers(shared, seen), asyncio.timeout(MOST_SECONDS):
                while len(await frontier.workers()) < len(_COLOURS):
                    await asyncio.sleep(LOOK_SECONDS)
                seconds = await _run(frontier, urls)
        except TimeoutError:
            console.print(f"\nThe race was not over after {MOST_SECONDS:.0f} s: it is given up.", highlight=False)
            return NOT_ALL_GOOD
        records = await frontier.get(urls)
    console.print(seen.table(urls))
    is_fair = seen.is_each_won_once(urls) and _is_each_fetched_once(records)
    if is_fair:
        verdict = Text("No URL was won twice, and the records say the same.", style="green")
    else:
        verdict = Text("SOMETHING IS WRONG: a URL was won twice, or not at all.", style="bold red")
    where = f" {seconds:.1f} s. Frontier: {shared.frontier}"
    console.print("\n", verdict, where, sep="", highlight=False, soft_wrap=True)
    return GOOD if is_fair else NOT_ALL_GOOD


async def _run(frontier: Frontier, urls: list[str]) -> float:
    """Send what is raced for and wait for its end; how long that took.

    As plain messages, of which no record knows: a frontier puts no URL into its queue twice, so by ``enqueue`` there
    were no race. A few URLs at a time, there and back: who takes some first and more of them ahead is at work with
    them when their doubles come, and leaves those to the other one.
    """
    settings = CrawlSettings(delay_seconds=0.0, obey_robots=False)
    bodies = [encode_message(Message(url=url, settings=settings)) for url in urls]
    size = AT_A_TIME * len(_COLOURS)
    groups = [bodies[first : first + size] for first in range(0, len(bodies), size)]
    started = time.monotonic()
    await frontier.send([body for group in groups for body in group + group[::-1]])
    while (counts := await frontier.counts()).open or counts.total < len(urls):
        await asyncio.sleep(LOOK_SECONDS)
    return time.monotonic() - started


def _is_each_fetched_once(records: dict[str, UrlRecord]) -> bool:
    return len(records) == URLS and all(r.status is Status.DONE and r.attempt == 1 for r in records.values())


class _Seen:
    """Who won and who lost what, as the consumers say it, and shown as they do."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._winners: defaultdict[str, list[str]] = defaultdict(list)
        self._losers: defaultdict[str, list[str]] = defaultdict(list)

    def line(self, name: str, line: str) -> None:
        """Take a line of a consumer."""
        found = _LINE.search(line)
        if found is None:
            if not line.startswith("stopping"):  # we have told it to stop
                self._console.print(Text(f"{name}: {line}", style="dim"), soft_wrap=True)
            return
        is_won = found[1] == "WON"
        (self._winners if is_won else self._losers)[found[2]].append(name)
        self._console.print(_named(name, "  "), Text(found[0], style="" if is_won else "dim"), sep="", soft_wrap=True)

    def is_each_won_once(self, urls: list[str]) -> bool:
        return all(len(self._winners[url]) == 1 for url in urls)

    def table(self, urls: list[str]) -> Table:
        table = Table(title="\nWho got what", title_justify="left", box=None)
        for name in ("URL", "won by", "lost by"):
            table.add_column(name)
        for url in urls:
            lost = _named(*self._losers[url]) or "nobody: its message had gone"
            table.add_row(url, _named(*self._winners[url]), lost)
        return table


def _named(*names: str) -> Text:
    """Consumers' names, each in its own colour."""
    return Text.assemble(*((name, _COLOURS.get(name, "")) for name in names))


@asynccontextmanager
async def _consumers(shared: Shared, seen: _Seen) -> AsyncIterator[None]:
    """Within it the consumers run; at its end they are told to stop, and all that they said was read."""
    processes = {name: await _start(shared, name) for name in _COLOURS}
    watching = [asyncio.create_task(_watch(process, name, seen)) for name, process in processes.items()]
    try:
        yield
    finally:
        for process in processes.values():
            if process.returncode is None:
                process.terminate()
        await asyncio.gather(*watching)


async def _start(shared: Shared, name: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *SELF, *shared.arguments(), "consume", "--continuous", "--worker-id", name, "--no-archive",
        "--allow-private", "--batch-size", str(AT_A_TIME), "--concurrency", str(AT_A_TIME),
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def _watch(process: asyncio.subprocess.Process, name: str, seen: _Seen) -> None:
    assert process.stderr is not None
    async for raw in process.stderr:
        seen.line(name, raw.decode("utf-8", "replace").rstrip())
    await process.wait()
