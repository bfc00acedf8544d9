"""``crawl`` and ``consume``: the two commands that fetch."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import click
import msgspec
import structlog
from rich.console import Console

from sqspider import descriptors
from sqspider.cli.main import GOOD, INTERRUPTED, NOT_ALL_GOOD, USAGE, Shared, pass_shared
from sqspider.cli.options import (
    advised,
    assume_http,
    checked,
    fetch_options,
    opened,
    settings_options,
    sitemap_line,
    to_fetch_options,
    to_settings,
    within,
)
from sqspider.cli.output import OutputError, format_of, output_option, say_unreadable, written
from sqspider.cli.processes import WorkerProcesses, consume_command
from sqspider.cli.progress import print_summary, show_progress, summary
from sqspider.cli.sections import Command, section
from sqspider.cli.signals import stop_with_parent, stopping_on_signals
from sqspider.crawls import CrawlSettings
from sqspider.export import export_rows
from sqspider.frontier import Counts, Frontier
from sqspider.record import Reason, Status, UrlRecord
from sqspider.url import Refused, Scope
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.redirects import Chain, chains_of
from sqspider.work.seeds import read_url
from sqspider.work.upkeep import WorkerIdTakenError
from sqspider.work.worker import Mode, Worker

log = structlog.stdlib.get_logger(__name__)
UNSUCCESSFUL: Final = (Status.FAILED, Status.BLOCKED)
LIFTED_BY: Final = {Reason.PRIVATE_ADDRESS: "--allow-private", Reason.BAD_PORT: "--allow-any-port"}
MAX_NAMED: Final = 20  # URLs of which a crawl says at its end why they failed
LONG_POLL_SECONDS: Final = 10.0  # who stops waits for its end
_FETCH: Final = FetchOptions()
_WORKER: Final = WorkerOptions(worker_id="worker")


worker_options = section(
    "How it works",
    click.option(
        "--concurrency",
        type=within(WorkerOptions.ranges["concurrency"]),
        default=_WORKER.concurrency,
        show_default=True,
        metavar="N",
        help="Fetches at a time, over all hosts.",
    ),
    click.option(
        "--batch-size",
        type=within(WorkerOptions.ranges["batch_size"]),
        default=_WORKER.batch_size,
        show_default=True,
        metavar="N",
        help="Messages taken in one poll.",
    ),
    click.option(
        "--lease",
        "lease_seconds",
        type=within(WorkerOptions.ranges["lease_seconds"]),
        default=_WORKER.lease_seconds,
        show_default=True,
        metavar="SECONDS",
        help="How long a claim holds. If its worker dies, the URL comes back after this time.",
    ),
    click.option(
        "--max-body",
        "max_bytes",
        type=within(FetchOptions.ranges["max_bytes"]),
        default=_FETCH.max_bytes,
        show_default=True,
        metavar="BYTES",
        help="Decoded bytes read of a body; the rest is cut off and the record marked.",
    ),
    click.option(
        "--robots-grace",
        "robots_grace_seconds",
        type=within(WorkerOptions.ranges["robots_grace_seconds"]),
        default=_WORKER.robots_grace_seconds,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for a robots.txt that cannot be had: 5xx, 429, or no answer.",
    ),
    click.option(
        "--new-host-grace",
        "new_host_grace_seconds",
        type=within(WorkerOptions.ranges["new_host_grace_seconds"]),
        default=_WORKER.new_host_grace_seconds,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for a host that cannot be reached and never was, before it is given up: then its URLs "
        "fail. Five probes at least.",
    ),
    click.option(
        "--host-grace",
        "host_grace_seconds",
        type=within(WorkerOptions.ranges["host_grace_seconds"]),
        default=_WORKER.host_grace_seconds,
        show_default=True,
        metavar="SECONDS",
        help="The same for a host that has answered before.",
    ),
)


def _worker_options(worker_id: str, given: dict[str, Any], **more: Any) -> WorkerOptions:
    names = (
        "concurrency", "batch_size", "lease_seconds", "robots_grace_seconds", "new_host_grace_seconds",
        "host_grace_seconds",
    )  # fmt: skip
    with checked():
        return WorkerOptions(worker_id=worker_id, **{name: given[name] for name in names}, **more)


def random_worker_id(rng: random.Random) -> str:
    """Six random characters."""
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=6))


def run_loop(main: Coroutine[Any, Any, int]) -> int:
    """Run a command's coroutine on the quicker event loop, where there is one."""
    try:
        import uvloop
    except ImportError:  # not built for this platform: asyncio's own loop does the same, more slowly
        return asyncio.run(main)
    return uvloop.run(main)


@click.command(cls=Command)
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
    options = _within_limits(options)
    if shared.log_format == "json":  # a person sees one worker's lines, a program those of many
        structlog.contextvars.bind_contextvars(worker_id=options.worker_id)

    async def main() -> int:
        async with (
            opened(shared, options.lease_seconds) as frontier,
            Fetcher(fetch, connections=options.concurrency) as fetcher,
        ):
            worker = Worker(frontier, fetcher, options, clock=frontier.now, rng=rng)
            status = GOOD

            def stop() -> None:
                nonlocal status
                status = INTERRUPTED if with_parent else GOOD  # a parent did not ask for it, and replaces this worker
                worker.stop()

            if with_parent:
                stop_with_parent(worker.stop)
            with stopping_on_signals(stop):
                await _run_worker(worker, mode)
        return status

    return run_loop(main())


def _within_limits(options: WorkerOptions) -> WorkerOptions:
    """The options with no more fetches at a time than this process may have connections open."""
    descriptors.raise_limit()
    room = descriptors.room_for_connections()
    if room is None or room >= options.concurrency:
        return options
    log.warning("concurrency_capped", asked=options.concurrency, kept=room, open_files=descriptors.limit())
    return msgspec.structs.replace(options, concurrency=room)


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


@click.command(cls=Command)
@click.argument("urls", nargs=-1, metavar="[URL]...")
@assume_http
@settings_options(scope=Scope.HOST)
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
    workers: int, output: Path | None, as_json: bool, quiet: bool, **given: Any,
) -> int:  # fmt: skip
    """Crawl from URLs until nothing is left.

    What is known of the crawl lies in the frontier's file: a crawl that was stopped or killed goes
    on when the command is given again, with the same URLs or with none.

    Which links are followed, how politely, and how much of a host is kept with each URL when it is
    first found, and holds for it when the crawl goes on. All other options are of one run: give
    them again.
    """
    if with_sitemaps and not urls:
        raise click.UsageError("--sitemaps: name the URLs whose sites' sitemaps are meant.")
    if workers > 1 and shared.frontier == "sqlite::memory:":
        raise click.UsageError(
            "--workers: several processes share a frontier by its file, and sqlite::memory: has none: "
            "name one with --frontier sqlite:PATH, or use one worker."
        )
    format_of(output)
    settings = to_settings(given)
    options = _worker_options(random_worker_id(random.Random()), given, max_pages=max_pages)
    fetch = _checked(options, to_fetch_options(given))
    shared.start_logging("warn")
    if workers == 1:
        options = _within_limits(options)
    if not settings.obey_robots:
        log.warning("robots.txt is ignored: do this on your own sites only")
    crawling = Crawl(shared, settings, options, fetch, quiet=quiet)
    return run_loop(
        crawling.run(urls, workers, output, with_sitemaps=with_sitemaps, as_json=as_json, assume_http=assume_http)
    )


async def _failed_seeds(frontier: Frontier, seeds: list[str], counts: Counts) -> AsyncGenerator[tuple[str, str], None]:
    """URLs that ended without success, they or where they redirect to, and why; of every seed there is, where
    none were given: there the targets of redirects are seeds, too."""
    if seeds:
        records = await frontier.get(seeds)
        chains = await chains_of(frontier, records.values())
        for url in dict.fromkeys(seeds):
            if url in records and (fault := _fault(records[url], chains.get(url))):
                yield url, fault
        return
    for status in UNSUCCESSFUL:
        if not counts.by_status[status]:
            continue
        async for batch in frontier.scan(status=status):
            for record in batch:
                if record.depth == 0 and (fault := _fault(record)):
                    yield record.url, fault


def _fault(record: UrlRecord, chain: Chain | None = None) -> str | None:
    """Why a URL ended without success, it or the end of its redirects; none if it did not."""
    if record.status in UNSUCCESSFUL:
        return f"{record.status.value}: {_why(record)}"
    if chain is None:
        return None
    if chain.end is None:
        return f"its redirects lead nowhere: {chain}"
    if chain.last is not None and chain.last.status in UNSUCCESSFUL:
        return f"redirects to {chain.end}: {_fault(chain.last)}"
    return None


def _why(record: UrlRecord) -> str:
    """Why a URL ended without success, and the option by which it would not have."""
    reason = record.outcome.reason if record.outcome else None
    if record.outcome is None or reason is None:
        return ""
    option = f" ({LIFTED_BY[reason]} lifts that)" if reason in LIFTED_BY else ""
    return f"{reason.value}: {record.outcome.detail}{option}"


def _pages(counts: Counts) -> int:
    return counts.total - counts.open - counts.redirects


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
        self, urls: tuple[str, ...], workers: int, output: Path | None, *, as_json: bool, with_sitemaps: bool = False,
        assume_http: bool = False,
    ) -> int:  # fmt: skip
        """Crawl from some URLs, or go on with what is open; the exit status."""
        seeds = self._read(urls, assume_http)
        if urls and not seeds:
            return USAGE  # whatever else is in the queue, it is not what was asked for
        if not urls and self._shared.is_absent:
            raise self._no_urls()  # and no file is made
        async with opened(self._shared, self._options.lease_seconds) as frontier:
            await produce(frontier, seeds, self._settings, on_refused=print)  # none is: they were read already
            are_sitemaps_good = await self._read_sitemaps(frontier, seeds) if with_sitemaps else True
            before = await frontier.counts()
            started = time.monotonic()
            if before.open == 0:
                all_ended = self._nothing_to_do(bool(urls), before.total)
            else:
                if before.total > before.open:
                    self._say(f"going on: {before.total - before.open:,} URLs are finished, {before.open:,} are not")
                all_ended = self._was_stopped or await (
                    self._run_here(frontier) if workers == 1 else self._run_processes(frontier, workers)
                )
            seconds = time.monotonic() - started
            counts, hosts, bill = await frontier.counts(), await frontier.scan_hosts(), await frontier.bill()
            pages, known = _pages(counts), _pages(before)
            fetched = pages - known if pages >= known else pages  # what was there before was cleared away meanwhile
            if as_json:
                print(json.dumps(summary(counts, hosts, bill, fetched=fetched, seconds=seconds)))
            elif before.open:
                print_summary(Console(), counts, hosts, bill, fetched=fetched, seconds=seconds)
            is_written = output is None or await self._write_rows(frontier, output)
            self._say_what_is_left(counts.open)
            if self._was_stopped:  # whoever stops it does not wait for a verdict, which may read every record
                return INTERRUPTED
            are_seeds_good = await self._seeds_are_good(frontier, seeds, counts) and len(seeds) == len(urls)
            is_good = all_ended and are_seeds_good and are_sitemaps_good and is_written and counts.open == 0
            return GOOD if is_good else NOT_ALL_GOOD

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

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _no_urls(self) -> click.UsageError:
        return click.UsageError(f"no URL was given, and {self._shared.frontier} holds no unfinished crawl.")

    def _nothing_to_do(self, were_urls_given: bool, known: int) -> bool:
        if not were_urls_given and not known:
            raise self._no_urls()
        self._say(
            f"nothing to do: every URL is known and finished in {self._shared.frontier} ({known:,} records). "
            "`sqspider cleanup --all` gives a fresh state; --frontier names another file."
        )
        return True

    def _say_what_is_left(self, open_records: int) -> None:
        if not open_records:
            return
        why = "stopped" if self._was_stopped else "the limit is reached" if self._options.max_pages else "ended"
        self._say(f"{why}: {open_records:,} URLs are left; the same command goes on with them")

    async def _seeds_are_good(self, frontier: Frontier, seeds: list[str], counts: Counts) -> bool:
        """Whether every URL that was asked for succeeded; the first that did not are named."""
        named = 0
        async with aclosing(_failed_seeds(frontier, seeds, counts)) as failed:
            async for url, fault in failed:
                if named == MAX_NAMED:
                    print("… and more: `sqspider export --status failed` lists them", file=sys.stderr)
                    break
                named += 1
                print(f"{url}: {fault}", file=sys.stderr)
        return named == 0

    async def _run_here(self, frontier: Frontier) -> bool:
        async with Fetcher(self._fetch, connections=self._options.concurrency) as fetcher:
            worker = Worker(frontier, fetcher, self._options, clock=frontier.now, rng=random.Random())

            def stop() -> None:
                self._was_stopped = True
                worker.stop()

            with stopping_on_signals(stop, at_once=self._console.show_cursor):
                async with self._progress(frontier, lambda: worker.tally.in_flight, lambda: worker.trouble):
                    await _run_worker(worker, Mode.UNTIL_EMPTY)
        return True

    @asynccontextmanager
    async def _progress(
        self,
        frontier: Frontier,
        in_flight: Callable[[], int] | None = None,
        trouble: Callable[[], str | None] = lambda: None,
    ) -> AsyncIterator[None]:
        if self._quiet:
            yield
            return
        showing = asyncio.create_task(
            show_progress(frontier, self._console, clock=time.monotonic, in_flight=in_flight, trouble=trouble)
        )
        try:
            yield
        finally:
            showing.cancel()
            await asyncio.wait((showing,))
            if not showing.cancelled() and showing.exception() is not None:
                log.warning("progress", error=str(showing.exception()))

    async def _run_processes(self, frontier: Frontier, number: int) -> bool:
        """Run workers as processes until they end; whether they ended well, or left nothing to do."""
        workers = WorkerProcesses(consume_command(self._shared, self._options, self._fetch), number)

        def stop() -> None:
            self._was_stopped = True
            workers.stop()

        def kill() -> None:
            workers.kill()
            self._console.show_cursor()

        with stopping_on_signals(stop, at_once=kill):
            async with self._progress(frontier):
                given_up = await workers.run()
        if given_up:
            print(
                f"{given_up} of {number} workers died and were not replaced: see above. What they held comes back.",
                file=sys.stderr,
            )
        return not given_up or (await frontier.counts()).open == 0
