"""``crawl``: seeds in, workers, progress, a summary, and a verdict."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click
import msgspec

from sqspider.cli.exit_status import GOOD, INTERRUPTED, NOT_ALL_GOOD, USAGE
from sqspider.cli.forking import Forked, can_fork, fork_workers
from sqspider.cli.frontier import is_absent, opened
from sqspider.cli.options import (
    Duration,
    advised,
    assume_http,
    crawl_options,
    fetch_options,
    to_crawl_settings,
    to_fetch_options,
)
from sqspider.cli.output import OutputError, format_of, output_option, say_unreadable, written
from sqspider.cli.processes import WorkerProcesses, consume_command
from sqspider.cli.progress import progress_shown, sitemap_line
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.signals import stopping_on_signals
from sqspider.cli.summary import SLOWEST_HOSTS, print_summary, summary
from sqspider.cli.verdict import seeds_are_good
from sqspider.cli.worker import (
    import_all,
    random_worker_id,
    run_loop,
    run_worker,
    to_worker_options,
    within_limits,
    work_here,
    worker_options,
)
from sqspider.crawls import CrawlSettings
from sqspider.export import export_rows
from sqspider.frontier import IN_MEMORY, Counts, Frontier
from sqspider.log import get_logger
from sqspider.record import Status
from sqspider.url import Refused, Scope
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.seeds import read_url
from sqspider.work.worker import Mode, Worker

if TYPE_CHECKING:
    from rich.console import Console

log = get_logger(__name__)


@click.command(cls=Command)
@click.argument("urls", nargs=-1, metavar="[URL]...")
@assume_http
@crawl_options(scope=Scope.HOST)
@click.option(
    "--max-pages",
    type=click.IntRange(min=1),
    metavar="N",
    help="Stop when so many pages were fetched, redirects not counted. The rest stays queued.",
)
@click.option(
    "--sitemaps",
    "with_sitemaps",
    is_flag=True,
    help="First enqueue what the sitemaps of the URLs' sites list: those that robots.txt names, and /sitemap.xml.",
)
@click.option(
    "--again",
    "is_again",
    is_flag=True,
    help="First put back all that is done or failed: each is visited once more, and asked for what has changed alone.",
)
@click.option("--older-than", type=Duration(), help="With --again: only what ended so long ago: 90s, 15m, 2h, 3d.")
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, metavar="N", help="Worker processes."
)
@output_option("Write a row for each finished URL when the crawl ends.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@worker_options
@fetch_options
@pass_shared
def crawl(
    shared: Shared, /, urls: tuple[str, ...], assume_http: bool, max_pages: int | None, with_sitemaps: bool,
    is_again: bool, older_than: float | None, workers: int, output: Path | None, as_json: bool, quiet: bool,
    **given: Any,
) -> int:  # fmt: skip
    """Crawl from URLs until nothing is left.

    What is known of the crawl lies in the frontier's file: a crawl that was stopped or killed goes
    on when the command is given again, with the same URLs or with none.

    Which links are followed, how politely, and how much of a host is kept with each URL when it is
    first found, and holds for it when the crawl goes on. All other options are of one run: give
    them again.

    --again visits what is known once more. A server that names a version or a date of a page is asked whether it has
    changed; if not, what is known of it stays. A page that fails keeps what its last good visit brought.
    """
    if with_sitemaps and not urls:
        raise click.UsageError("--sitemaps: name the URLs whose sites' sitemaps are meant.")
    if workers > 1 and shared.frontier == IN_MEMORY:
        raise click.UsageError(
            "--workers: several processes share a frontier by its file, and sqlite::memory: has none: "
            "name one with --frontier sqlite:PATH, or use one worker."
        )
    again = Again(older_than) if is_again else None
    if older_than is not None and again is None:
        raise click.UsageError("--older-than: it goes with --again.")
    format_of(output)
    settings, fetch = to_crawl_settings(given), to_fetch_options(given)
    options = to_worker_options(given, random_worker_id(random.Random()), fetch, max_pages=max_pages)
    shared.start_logging("warn")
    if workers == 1:
        options = within_limits(options)
    if not settings.obey_robots:
        log.warning("robots.txt is ignored: do this on your own sites only")
    forked = _forked(workers, shared, options, fetch) if workers > 1 and can_fork() else []
    try:
        run = CrawlRun(shared, settings, options, fetch, workers=workers, forked=forked, quiet=quiet, again=again)
        return run_loop(run.run(urls, output, with_sitemaps=with_sitemaps, as_json=as_json, assume_http=assume_http))
    finally:
        for worker in forked:
            worker.stop()


def _forked(number: int, shared: Shared, options: WorkerOptions, fetch: FetchOptions) -> list[Forked]:
    """Workers that wait for the crawl to begin."""

    def work() -> int:
        own = msgspec.structs.replace(options, worker_id=random_worker_id(random.Random()))
        return work_here(shared, Mode.UNTIL_EMPTY, own, fetch, with_parent=True)

    import_all(shared.frontier)  # once, for all of them
    try:
        return fork_workers(number, work)
    except OSError as error:  # those that are there already end with this process
        why = f"{number} workers cannot be started here: {error.strerror}. Ask for fewer."
        raise click.ClickException(why) from None


def _pages(counts: Counts) -> int:
    return counts.total - counts.open - counts.redirects


class Again(NamedTuple):
    """That what is known is to be visited once more."""

    older_than: float | None  # what ended so many seconds ago alone; none: whenever


class CrawlRun:
    """One run of ``crawl``."""

    def __init__(
        self,
        shared: Shared,
        settings: CrawlSettings,
        options: WorkerOptions,
        fetch: FetchOptions,
        *,
        workers: int = 1,
        forked: Sequence[Forked] = (),
        quiet: bool = False,
        again: Again | None = None,
    ) -> None:
        self._shared = shared
        self._settings = settings
        self._options = options
        self._fetch = fetch
        self._workers = workers
        self._forked = forked
        self._quiet = quiet
        self._was_stopped = False
        self._again = again

    async def run(
        self, urls: tuple[str, ...], output: Path | None = None, *, as_json: bool = False, with_sitemaps: bool = False,
        assume_http: bool = False,
    ) -> int:  # fmt: skip
        """Crawl from some URLs, or go on with what is open; the exit status."""
        seeds = self._read(urls, assume_http)
        if urls and not seeds:
            return USAGE  # whatever else is in the queue, it is not what was asked for
        if not urls and is_absent(self._shared):
            raise self._no_urls()  # and no file is made
        async with opened(self._shared, self._options.lease_seconds) as frontier:
            if self._again is not None:
                await self._visit_again(frontier, self._again)
            await produce(frontier, seeds, self._settings, on_refused=print)  # none is: they were read already
            is_good = await self._read_sitemaps(frontier, seeds) if with_sitemaps else True
            before = await frontier.counts()
            started = time.monotonic()
            is_good = await self._work_off(frontier, before, bool(urls)) and is_good
            counts = await self._sum_up(frontier, before, time.monotonic() - started, as_json=as_json)
            is_good = (output is None or await self._write_rows(frontier, output)) and is_good
            self._say_what_is_left(counts.open)
            if self._was_stopped:  # whoever stops it does not wait for a verdict, which may read every record
                return INTERRUPTED
            is_good = await seeds_are_good(frontier, seeds, counts) and is_good
            return GOOD if is_good and len(seeds) == len(urls) and counts.open == 0 else NOT_ALL_GOOD

    async def _visit_again(self, frontier: Frontier, again: Again) -> None:
        """Put back what is known, for a visit more."""
        from sqspider.again import Choice, put_back  # here: most crawls visit nothing again

        before = None if again.older_than is None else frontier.now() - again.older_than
        choice = Choice(statuses=frozenset({Status.DONE, Status.FAILED}), ended_before=before)
        done = await put_back(frontier, choice, if_changed=True)
        self._say(f"{done.kinds.total():,} URLs are visited once more")

    def _read(self, urls: tuple[str, ...], assume_http: bool) -> list[str]:
        """The URLs in canonical form; those that are refused are named, and left out."""
        seeds = []
        for text in urls:
            url = read_url(text, assume_http=assume_http, drop_tracking=self._settings.drop_tracking)
            if isinstance(url, Refused):
                print(f"refused: {advised(url)}", file=sys.stderr)
            else:
                seeds.append(url)
        return seeds

    async def _read_sitemaps(self, frontier: Frontier, seeds: list[str]) -> bool:
        """Enqueue what the seeds' sites list; False if a sitemap that somebody named could not be read."""
        from sqspider.work.sitemaps import SitemapReport, discover  # here: most crawls read none

        stopping = asyncio.Event()
        all_good = True

        def stop() -> None:
            self._was_stopped = True
            stopping.set()

        def report(sitemap: SitemapReport) -> None:
            nonlocal all_good
            if sitemap.trouble and not sitemap.is_guess:
                all_good = all_good and self._was_stopped
                print(sitemap_line(sitemap), file=sys.stderr)
            else:
                self._say(sitemap_line(sitemap))

        with stopping_on_signals(stop):
            await discover(
                frontier, self._fetch, self._settings, seeds=seeds, clock=frontier.now, rng=random.Random(),
                stopping=stopping, on_report=report,
            )  # fmt: skip
        return all_good

    async def _work_off(self, frontier: Frontier, before: Counts, were_urls_given: bool) -> bool:
        """Work until nothing is left, or it is stopped; whether the workers ended well."""
        if before.open == 0:
            self._say_nothing_to_do(were_urls_given, before.total)
            return True
        if before.total > before.open:
            self._say(f"going on: {before.total - before.open:,} URLs are finished, {before.open:,} are not")
        if self._was_stopped:
            return True
        return await (self._run_here(frontier) if self._workers == 1 else self._run_processes(frontier))

    async def _run_here(self, frontier: Frontier) -> bool:
        async with Fetcher(self._fetch, connections=self._options.concurrency) as fetcher:
            worker = Worker(frontier, fetcher, self._options, clock=frontier.now, rng=random.Random())

            def stop() -> None:
                self._was_stopped = True
                worker.stop()

            progress = progress_shown(
                frontier,
                self._progress_console,
                in_flight=lambda: worker.tally.in_flight,
                trouble=lambda: worker.trouble,
            )
            with stopping_on_signals(stop, at_once=self._show_cursor):
                async with progress:
                    await run_worker(worker, Mode.UNTIL_EMPTY)
        return True

    async def _run_processes(self, frontier: Frontier) -> bool:
        """Run workers as processes until they end; whether they ended well, or left nothing to do."""
        command = consume_command(self._shared, self._options, self._fetch)
        workers = WorkerProcesses(command, self._workers, self._forked)

        def stop() -> None:
            self._was_stopped = True
            workers.stop()

        def kill() -> None:
            workers.kill()
            self._show_cursor()

        with stopping_on_signals(stop, at_once=kill):
            async with progress_shown(frontier, self._progress_console):
                given_up = await workers.run()
        if given_up:
            print(
                f"{given_up} of {self._workers} workers died and were not replaced: see above. What they held comes "
                "back.",
                file=sys.stderr,
            )
        return not given_up or (await frontier.counts()).open == 0

    @cached_property
    def _console(self) -> Console:
        from rich.console import Console  # here: a crawl that is quiet needs none

        return Console(stderr=True)

    @property
    def _progress_console(self) -> Console | None:
        return None if self._quiet else self._console

    def _show_cursor(self) -> None:
        """It is hidden while a line is redrawn."""
        if not self._quiet:
            self._console.show_cursor()

    async def _sum_up(self, frontier: Frontier, before: Counts, seconds: float, *, as_json: bool) -> Counts:
        """Print what came of it; how the records stand."""
        counts, slow, bill = await frontier.counts(), await frontier.slowest_hosts(SLOWEST_HOSTS), await frontier.bill()
        pages, known = _pages(counts), _pages(before)
        fetched = pages - known if pages >= known else pages  # what was there before was cleared away meanwhile
        if as_json:
            print(json.dumps(summary(counts, slow, bill, fetched=fetched, seconds=seconds)))
        elif before.open:
            from rich.console import Console

            print_summary(Console(), counts, slow, bill, fetched=fetched, seconds=seconds)
        return counts

    async def _write_rows(self, frontier: Frontier, output: Path) -> bool:
        """Write a row for each finished URL; whether that went well."""
        unreadable: list[str] = []
        try:
            with written(output) as file:
                rows = await export_rows(
                    frontier, file.write, format_of(output), only_final=True, on_unreadable=unreadable.append
                )
        except OutputError as error:
            print(
                f"{error.message} Nothing of the crawl is lost: "
                f"`sqspider --frontier {self._shared.frontier} export --output FILE` writes its rows.",
                file=sys.stderr,
            )
            return False
        self._say(f"{rows:,} rows written to {output}")
        say_unreadable(unreadable)
        return not unreadable

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _say_nothing_to_do(self, were_urls_given: bool, known: int) -> None:
        if not were_urls_given and not known:
            raise self._no_urls()
        self._say(
            f"nothing to do: every URL is known and finished in {self._shared.frontier} ({known:,} records). "
            "`sqspider cleanup --all` gives a fresh state; --frontier names another file."
        )

    def _say_what_is_left(self, open_records: int) -> None:
        if not open_records:
            return
        why = "stopped" if self._was_stopped else "the limit is reached" if self._options.max_pages else "ended"
        self._say(f"{why}: {open_records:,} URLs are left; the same command goes on with them")

    def _no_urls(self) -> click.UsageError:
        return click.UsageError(f"no URL was given, and {self._shared.frontier} holds no unfinished crawl.")
