"""``crawl`` and ``consume``: the two commands that fetch."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import click
import structlog
from rich.console import Console

from sqspider.cli.main import Shared, pass_shared
from sqspider.cli.options import (
    all_of,
    fetch_options,
    opened,
    settings_options,
    sitemap_line,
    to_fetch_options,
    to_settings,
)
from sqspider.cli.progress import print_summary, show_progress, summary
from sqspider.export import export_file
from sqspider.frontier import Frontier
from sqspider.message import CrawlSettings
from sqspider.producer import RefusedLine, produce
from sqspider.record import Status
from sqspider.url import Scope, canonicalize
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from sqspider.worker import Mode, Worker, WorkerIdTakenError, WorkerOptions

log = structlog.stdlib.get_logger(__name__)
LONG_POLL_SECONDS: Final = 10.0  # who stops waits for its end
_FETCH: Final = FetchOptions()
_WORKER: Final = WorkerOptions(worker_id="")


worker_options = all_of(
    click.option(
        "--concurrency",
        type=click.IntRange(1, 1000),
        default=_WORKER.concurrency,
        show_default=True,
        help="Fetches at a time, over all hosts.",
    ),
    click.option(
        "--batch-size",
        type=click.IntRange(1, 10),
        default=_WORKER.batch_size,
        show_default=True,
        help="Messages taken in one poll.",
    ),
    click.option(
        "--lease",
        "lease_seconds",
        type=click.FloatRange(min=1),
        default=_WORKER.lease_seconds,
        show_default=True,
        metavar="SECONDS",
        help="How long a claim holds. If its worker dies, the URL comes back after this time.",
    ),
    click.option(
        "--max-body",
        "max_bytes",
        type=click.IntRange(min=1),
        default=_FETCH.max_bytes,
        show_default=True,
        metavar="BYTES",
        help="Decoded bytes read of a body; the rest is cut off and the record marked.",
    ),
    click.option(
        "--robots-grace",
        "robots_grace_seconds",
        type=click.FloatRange(min=0),
        default=_WORKER.robots_grace_seconds,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for a robots.txt that answers 5xx or 429 before its host is given up.",
    ),
)


def _worker_options(worker_id: str, given: dict[str, Any], **more: Any) -> WorkerOptions:
    names = ("concurrency", "batch_size", "lease_seconds", "robots_grace_seconds")
    return WorkerOptions(
        worker_id=worker_id,
        product_token=to_fetch_options(given).product_token,
        **{name: given[name] for name in names},
        **more,
    )


def random_worker_id(rng: random.Random) -> str:
    """Six random characters."""
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=6))


def _stop_on_signals(stop: Callable[[], None]) -> None:
    """The first SIGINT or SIGTERM stops in good order, the second one at once.

    At once means without another step: what is claimed is left to its lease, as after a crash.
    """
    loop = asyncio.get_running_loop()
    asked = False

    def on_signal() -> None:
        nonlocal asked
        if asked:
            os._exit(1)
        asked = True
        print("stopping: finishing what is in flight; once more stops at once", file=sys.stderr, flush=True)
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal)


def run_loop(main: Coroutine[Any, Any, int]) -> int:
    """Run a command's coroutine on the quicker event loop, where there is one."""
    try:
        import uvloop
    except ImportError:  # not built for this platform: asyncio's own loop does the same, more slowly
        return asyncio.run(main)
    return uvloop.run(main)


@click.command()
@click.option("--continuous", is_flag=True, help="Go on polling until stopped.")
@click.option("--until-empty", is_flag=True, help="Go on until nothing is left to do.")
@click.option("--worker-id", help="The worker's name.  [default: six random characters]")
@click.option("--with-parent", is_flag=True, hidden=True, help="Stop when standard input ends.")
@click.option("--max-pages", type=click.IntRange(min=1), hidden=True)
@worker_options
@fetch_options
@pass_shared
def consume(
    shared: Shared, /, continuous: bool, until_empty: bool, worker_id: str | None, with_parent: bool,
    max_pages: int | None, **given: Any,
) -> int:  # fmt: skip
    """Take messages from the queue, race for their URLs, fetch what was won.

    Without --continuous or --until-empty one poll is made. Ctrl-C takes no more work, finishes or
    gives back what is in flight, and exits 0; a second one stops at once. Nothing is lost either way.
    """
    if continuous and until_empty:
        raise click.UsageError("--continuous and --until-empty exclude each other.")
    mode = Mode.CONTINUOUS if continuous else Mode.UNTIL_EMPTY if until_empty else Mode.ONCE
    rng = random.Random()
    options = _worker_options(
        worker_id or random_worker_id(rng),
        given,
        max_pages=max_pages,
        # SQS bills each poll, so there a poll waits as long as it may.
        poll_seconds=0.1 if not continuous else LONG_POLL_SECONDS if shared.frontier == "aws:" else 1.0,
    )
    fetch = _checked(options, to_fetch_options(given))
    shared.start_logging("info")

    async def main() -> int:
        async with (
            opened(shared, options.lease_seconds) as frontier,
            Fetcher(fetch, connections=options.concurrency) as fetcher,
        ):
            worker = Worker(frontier, fetcher, options, clock=frontier.now, rng=rng)
            _stop_on_signals(worker.stop)
            if with_parent:
                asyncio.get_running_loop().add_reader(sys.stdin, worker.stop)
            await _run_worker(worker, mode)
        return 0

    return run_loop(main())


def _checked(options: WorkerOptions, fetch: FetchOptions) -> FetchOptions:
    try:
        options.check(fetch.timeout_seconds)
    except ValueError as error:
        raise click.UsageError(f"{error}. See --lease and --timeout.") from None
    return fetch


async def _run_worker(worker: Worker, mode: Mode) -> None:
    try:
        await worker.run(mode)
    except WorkerIdTakenError as error:
        raise click.UsageError(str(error)) from None


@click.command()
@click.argument("urls", nargs=-1, metavar="[URL]...")
@settings_options(scope=Scope.HOST)
@click.option(
    "--max-pages",
    type=click.IntRange(min=1),
    help="Stop when so many pages were fetched. The rest stays queued.",
)
@click.option(
    "--sitemaps",
    "with_sitemaps",
    is_flag=True,
    help="First enqueue what the sitemaps of the URLs' sites list: those that robots.txt names, and /sitemap.xml.",
)
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Worker processes.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write a row for each finished URL when the crawl ends, as `sqspider export` does.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@worker_options
@fetch_options
@pass_shared
def crawl(
    shared: Shared, /, urls: tuple[str, ...], max_pages: int | None, with_sitemaps: bool, workers: int,
    output: Path | None, as_json: bool, quiet: bool, **given: Any,
) -> int:  # fmt: skip
    """Crawl from URLs until nothing is left.

    What is known of the crawl lies in the frontier's file: a crawl that was stopped or killed goes
    on when the command is given again, with the same URLs or with none.
    """
    if with_sitemaps and not urls:
        raise click.UsageError("--sitemaps: name the URLs whose sites' sitemaps are meant.")
    settings = to_settings(given)
    options = _worker_options(random_worker_id(random.Random()), given, max_pages=max_pages)
    fetch = _checked(options, to_fetch_options(given))
    shared.start_logging("warn")
    if not settings.obey_robots:
        log.warning("robots.txt is ignored: do this on your own sites only")
    crawling = Crawl(shared, settings, options, fetch, quiet=quiet)
    return run_loop(crawling.run(urls, workers, output, with_sitemaps=with_sitemaps, as_json=as_json))


class Crawl:
    """One run of ``crawl``: seeds in, workers, progress, summary."""

    def __init__(
        self,
        shared: Shared,
        settings: CrawlSettings,
        options: WorkerOptions,
        fetch: FetchOptions,
        *,
        quiet: bool,
    ) -> None:
        self._shared = shared
        self._settings = settings
        self._options = options
        self._fetch = fetch
        self._quiet = quiet
        self._console = Console(stderr=True)
        self._was_stopped = False

    async def run(
        self, urls: tuple[str, ...], workers: int, output: Path | None, *, as_json: bool, with_sitemaps: bool = False
    ) -> int:
        async with opened(self._shared, self._options.lease_seconds) as frontier:
            refused: list[RefusedLine] = []
            await produce(frontier, urls, self._settings, on_refused=refused.append)
            for line in refused:
                print(f"refused: {line.refused}", file=sys.stderr)
            are_sitemaps_good = await self._read_sitemaps(frontier, self._canonical(urls)) if with_sitemaps else True
            before = await frontier.counts()
            if before.open == 0:
                is_good = not refused and are_sitemaps_good
                return self._nothing_to_do(bool(urls), is_good, before.total)
            if before.total > before.open:
                self._say(f"going on: {before.total - before.open:,} URLs are finished, {before.open:,} are not")
            started = time.monotonic()
            all_ended = self._was_stopped or await (
                self._run_here(frontier) if workers == 1 else self._run_processes(frontier, workers)
            )
            seconds = time.monotonic() - started
            counts, hosts, bill = await frontier.counts(), await frontier.scan_hosts(), await frontier.bill()
            fetched = counts.total - counts.open - (before.total - before.open)
            if as_json:
                print(json.dumps(summary(counts, hosts, bill, fetched=fetched, seconds=seconds)))
            else:
                print_summary(Console(), counts, hosts, bill, fetched=fetched, seconds=seconds)
            if output is not None:
                rows = await export_file(frontier, output, only_final=True)
                self._say(f"{rows:,} rows written to {output}")
            self._say_what_is_left(counts.open)
            all_good = await self._seeds_are_good(frontier, urls)
            return 0 if all_ended and all_good and are_sitemaps_good and not refused else 1

    async def _read_sitemaps(self, frontier: Frontier, seeds: list[str]) -> bool:
        """Enqueue what the seeds' sites list; False if a sitemap that somebody named could not be read."""
        from sqspider.sitemaps import SitemapReport, discover  # here: most crawls read none

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

        _stop_on_signals(stop)
        await discover(
            frontier, self._fetch, self._settings, seeds=seeds, clock=frontier.now, rng=random.Random(),
            stopping=stopping, on_report=report,
        )  # fmt: skip
        return all_good

    def _canonical(self, urls: tuple[str, ...]) -> list[str]:
        found = [canonicalize(url, drop_tracking=self._settings.drop_tracking) for url in urls]
        return [url for url in found if isinstance(url, str)]

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _nothing_to_do(self, were_urls_given: bool, is_good: bool, known: int) -> int:
        if not were_urls_given:
            raise click.UsageError(f"no URL was given, and {self._shared.frontier} holds no unfinished crawl.")
        if is_good:
            self._say(
                f"nothing to do: every URL is known and finished in {self._shared.frontier} ({known:,} records). "
                "`sqspider cleanup --all` gives a fresh state; --frontier names another file."
            )
        return 0 if is_good else 1

    def _say_what_is_left(self, open_records: int) -> None:
        if not open_records:
            return
        why = "stopped" if self._was_stopped else "the limit is reached" if self._options.max_pages else "ended"
        self._say(f"{why}: {open_records:,} URLs are left; the same command goes on with them")

    async def _seeds_are_good(self, frontier: Frontier, seeds: tuple[str, ...]) -> bool:
        """Name each URL that was asked for and did not succeed."""
        all_good = True
        urls = self._canonical(seeds)
        records = await frontier.get(urls)
        for url in dict.fromkeys(urls):
            record = records.get(url)
            if record is None or record.status not in (Status.FAILED, Status.BLOCKED):
                continue
            all_good = False
            outcome = record.outcome
            why = f"{outcome.reason.value}: {outcome.detail}" if outcome and outcome.reason else ""
            print(f"{url}: {record.status.value}: {why}", file=sys.stderr)
        return all_good

    async def _run_here(self, frontier: Frontier) -> bool:
        async with Fetcher(self._fetch, connections=self._options.concurrency) as fetcher:
            worker = Worker(frontier, fetcher, self._options, clock=frontier.now, rng=random.Random())

            def stop() -> None:
                self._was_stopped = True
                worker.stop()

            _stop_on_signals(stop)
            async with self._progress(frontier, lambda: worker.tally.in_flight):
                await _run_worker(worker, Mode.UNTIL_EMPTY)
        return True

    @asynccontextmanager
    async def _progress(self, frontier: Frontier, in_flight: Callable[[], int] | None = None) -> AsyncIterator[None]:
        if self._quiet:
            yield
            return
        showing = asyncio.create_task(show_progress(frontier, self._console, clock=time.monotonic, in_flight=in_flight))
        try:
            yield
        finally:
            showing.cancel()
            await asyncio.wait((showing,))
            if not showing.cancelled() and showing.exception() is not None:
                log.warning("progress", error=str(showing.exception()))

    async def _run_processes(self, frontier: Frontier, number: int) -> bool:
        """Run workers as processes until they end; whether all of them ended well."""
        processes = [
            await asyncio.create_subprocess_exec(
                *self._consume_command(),
                stdin=asyncio.subprocess.PIPE,  # its end tells them that this process is gone
                start_new_session=True,  # a Ctrl-C reaches them through us, and only once
            )
            for _ in range(number)
        ]

        def stop() -> None:
            self._was_stopped = True
            for process in processes:
                if process.returncode is None:
                    process.send_signal(signal.SIGTERM)

        _stop_on_signals(stop)
        async with self._progress(frontier):
            statuses = await asyncio.gather(*(process.wait() for process in processes))
        died = [status for status in statuses if status != 0]
        if died:
            self._say(f"{len(died)} of {number} workers died (exit status {died[0]}); what they held comes back")
        return not died or (await frontier.counts()).open == 0

    def _consume_command(self) -> list[str]:
        """`consume` with what was given to `crawl`."""
        options, fetch = self._options, self._fetch
        command = [
            sys.executable,
            "-m",
            "sqspider",
            *self._shared.arguments(),
            "consume",
            "--until-empty",
            "--with-parent",
        ]
        for flag, value in (
            ("--concurrency", options.concurrency),
            ("--batch-size", options.batch_size),
            ("--lease", options.lease_seconds),
            ("--timeout", fetch.timeout_seconds),
            ("--max-body", fetch.max_bytes),
            ("--user-agent", fetch.user_agent),
            ("--contact", fetch.contact),
            ("--proxy", fetch.proxy),
            ("--robots-grace", options.robots_grace_seconds),
            ("--max-pages", options.max_pages),
        ):
            if value is not None:
                command += [flag, str(value)]
        command += ["--allow-private"] * fetch.allow_private
        command += ["--allow-any-port"] * fetch.allow_any_port
        return command
