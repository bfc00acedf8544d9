"""One run of `check`: a crawl of its own, what its pages refer to beside it, and what is wrong with all of that."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from sqspider.archive.errors import NoArchiveError
from sqspider.cli.frontier import opened
from sqspider.cli.link_reader import LinkReader
from sqspider.cli.order import prepared
from sqspider.cli.progress import progress_shown, sitemap_line
from sqspider.cli.shared import Shared
from sqspider.cli.signals import stopping_on_signals
from sqspider.cli.start import check_lease, checked_start
from sqspider.cli.verdict import LIFTED_BY
from sqspider.cli.wording import printable
from sqspider.cli.worker import run_worker, worker_for
from sqspider.crawl_row import Crawl
from sqspider.crawl_settings import compiled
from sqspider.extract.link_keeping import Filling, open_links
from sqspider.extract.link_queries import LinkTable
from sqspider.extract.link_records import FrontierRecords
from sqspider.extract.link_table import FILE, index
from sqspider.extract.report_findings import NOT_REACHED, Finding, Report, Verdict, in_order
from sqspider.extract.report_gathering import Gathering, unasked
from sqspider.frontier import Frontier
from sqspider.orders.order import Order
from sqspider.orders.start import ArchivePlace, Start
from sqspider.orders.store import store_opened
from sqspider.patterns import Search
from sqspider.record import DEFAULT_CRAWL
from sqspider.scope import Measure, folders_of
from sqspider.url import Scope
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from sqspider.work.crawl_orders import change_crawl
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.seeding import add_seeds
from sqspider.work.worker import Mode, Worker

if TYPE_CHECKING:
    from rich.console import Console

LOOK_SECONDS: Final = 0.5  # between two looks whether anything ends
PATIENCE_SECONDS: Final = 10.0  # beside the time that one fetch may take, in which nothing ends
STYLES: Final = ("text/css",)  # what is kept of what is no page: it refers to further files
MOST_BYTES: Final = 1_000_000  # that are read of what is only to be there
MOST_ROUNDS: Final = 20  # stylesheets that import others take one each


class Wishes(NamedTuple):
    """What a check is asked for beside its crawl."""

    is_external: bool = True
    has_sitemaps: bool = False
    has_anchors: bool = False
    has_redirects: bool = False
    is_strict: bool = False
    ignore: tuple[re.Pattern[str], ...] = ()


class CheckRun:
    """One run of ``check``, with a frontier and an archive of its own."""

    def __init__(
        self,
        archive: Path,
        shared: Shared,
        seeds: Sequence[str],
        said: dict[str, Any],
        options: WorkerOptions,
        wishes: Wishes,
        *,
        secrets_folder: str | None = None,
        console: Console | None = None,
        reader: LinkReader | None = None,
    ) -> None:
        self._archive = ArchivePlace(address=str(archive))
        self._shared = shared
        self._seeds = tuple(seeds)
        self._said = said
        self._options = options
        self._wishes = wishes
        self._secrets_folder = secrets_folder
        self._console = console
        self._reader = reader  # who fills the link table meanwhile
        scope = Scope.DOMAIN if said["scope"] == Scope.DOMAIN.value else Scope.HOST
        self._own = Measure(scope, self._seeds[0], folders_of(self._seeds, scope))
        self._left: str | None = None  # why it is not whole
        self._is_over = False  # it was broken off
        self._in_vain = False  # something was waited for, and did not come
        self.was_stopped = False  # by a signal

    async def run(self) -> Report:
        """Crawl, and tell what is wrong."""
        started = time.monotonic()
        async with opened(self._shared, self._options.lease_seconds) as frontier:
            order = Order(
                DEFAULT_CRAWL, self._said, urls=self._seeds, is_run=True, is_kept=False,
                secrets_folder=self._secrets_folder,
            )  # fmt: skip
            done = await prepared(frontier, order)
            assert done is not None  # there are URLs
            crawl = done.crawl
            if self._wishes.has_sitemaps:
                await self._read_sitemaps(frontier, crawl)
            if not self._is_over:
                await self._ask_for(frontier, crawl, self._seeds, self._options)
            if self._options.max_pages is not None and not self._is_over and (await frontier.counts()).open:
                self._end(f"--max-pages {self._options.max_pages:,} was reached")
            if self._reader is not None:
                await self._reader.ended()
            with self._links() as connection:
                if not self._is_over:
                    await self._ask_for_the_rest(frontier, crawl, connection)
                return await self._report(frontier, crawl, connection, started)

    # Asking.

    async def _read_sitemaps(self, frontier: Frontier, crawl: Crawl) -> None:
        """Put in what the sites' sitemaps list. They are kept, and so are what names its pages."""
        from sqspider.work.sitemaps import SitemapReport, discover  # here: most checks read none

        def told(sitemap: SitemapReport) -> None:
            if sitemap.trouble and not sitemap.is_guess:
                self._left = sitemap_line(sitemap)

        stopping = asyncio.Event()
        start = checked_start(crawl, self._secrets_folder, self._archive)
        await add_seeds(frontier, crawl.ref, self._seeds, crawl.settings.scope)
        with stopping_on_signals(lambda: self._stop(stopping.set)):
            async with store_opened(start, frontier) as store:
                await discover(
                    frontier, start.fetch, crawl.settings, seeds=self._seeds, clock=frontier.now, rng=random.Random(),
                    stopping=stopping, on_report=told, crawl=crawl, allowed=start.allowed, secrets=start.secrets,
                    store=store,
                )  # fmt: skip

    def _stop(self, stop: Callable[[], None]) -> None:
        self.was_stopped = True
        self._end("it was stopped")
        stop()

    def _end(self, why: str) -> None:
        self._left, self._is_over = why, True

    async def _ask_for(self, frontier: Frontier, crawl: Crawl, urls: Sequence[str], options: WorkerOptions) -> None:
        """Put URLs in, and work until nothing is left, or nothing comes to an end any more."""
        await produce(frontier, urls, crawl.settings, crawl=crawl.ref, on_refused=lambda _: None)
        start = checked_start(crawl, self._secrets_folder, self._archive)
        check_lease(options, start)
        async with (
            Fetcher(start.fetch, connections=options.concurrency) as fetcher,
            store_opened(start, frontier) as store,
        ):
            worker = worker_for(frontier, fetcher, options, start, store)
            progress = progress_shown(
                frontier, self._console, in_flight=lambda: worker.tally.in_flight, trouble=lambda: worker.trouble
            )
            with stopping_on_signals(lambda: self._stop(worker.stop)):
                async with progress, self._ended_in_vain(frontier, worker, start):
                    await run_worker(worker, Mode.UNTIL_EMPTY, crawl.name)
            if worker.stopped_by is not None:
                self._end(f"{worker.stopped_by} ({self._archive.address})")

    @contextlib.asynccontextmanager
    async def _ended_in_vain(self, frontier: Frontier, worker: Worker, start: Start) -> AsyncIterator[None]:
        """Within it the worker is stopped once nothing has come to an end for as long as a fetch may take, and some
        seconds: what is left waits for a host that is in trouble, and nobody waits for a check that long."""
        patience = start.fetch.timeout_seconds + PATIENCE_SECONDS

        async def watch() -> None:
            ended, since = -1, time.monotonic()
            while True:
                counts = await frontier.counts()
                if (now := counts.total - counts.open) != ended:
                    ended, since = now, time.monotonic()
                elif time.monotonic() - since >= patience:
                    self._in_vain = True
                    worker.stop()
                    return
                await asyncio.sleep(LOOK_SECONDS)

        watching = asyncio.create_task(watch())
        try:
            yield
        finally:
            watching.cancel()
            await asyncio.wait((watching,))
            if not watching.cancelled():
                watching.result()

    async def _ask_for_the_rest(self, frontier: Frontier, crawl: Crawl, connection: sqlite3.Connection) -> None:
        """Ask for what the pages refer to and the crawl did not: once each, and nothing is gone into."""
        crawl = await change_crawl(frontier, crawl, _of_single_files)
        table, records = LinkTable(connection), self._records(frontier, crawl)
        options = msgspec.structs.replace(self._options, max_pages=None)
        choose = partial(self._chosen, crawl)
        for _ in range(MOST_ROUNDS):
            wanted = [url async for urls in unasked(table, records, choose) for url in urls]
            if not wanted:
                return
            self._in_vain = False
            await self._ask_for(frontier, crawl, wanted, options)
            has_more = self._read(connection)
            if not has_more or self._is_over or self._in_vain:  # what was waited for would be so again
                return

    def _chosen(self, crawl: Crawl, urls: list[str]) -> list[str]:
        if not self._wishes.is_external:
            urls = [url for url in urls if self._own.holds(url)]
        return list(Search().chosen(urls, (), compiled(crawl.settings.exclude)))

    # Looking.

    @contextlib.contextmanager
    def _links(self) -> Any:
        folder = Path(self._archive.address)
        folder.mkdir(mode=0o700, exist_ok=True)  # where nothing was answered there is none
        with open_links(folder / FILE) as connection:
            self._read(connection)
            yield connection

    def _read(self, connection: sqlite3.Connection) -> bool:
        """Whether something was captured since."""
        try:
            with Filling(
                self._archive.address, Path(self._archive.address) / FILE, connection, processes=None,
                on_damage=self._tell_damage,
            ) as filling:  # fmt: skip
                return filling.read_new() > 0
        except NoArchiveError:  # nothing was answered
            index(connection)
            return False

    def _tell_damage(self, why: str) -> None:
        if self._left is None:
            self._left = printable(why)

    def _records(self, frontier: Frontier, crawl: Crawl) -> FrontierRecords:
        return FrontierRecords(frontier, [crawl], [crawl.name])

    async def _report(self, frontier: Frontier, crawl: Crawl, connection: sqlite3.Connection, started: float) -> Report:
        table = LinkTable(connection)
        gathering = Gathering(
            frontier, crawl.name, table, self._records(frontier, crawl), is_own=self._own.holds,
            is_strict=self._wishes.is_strict, body_limits=_body_limits(crawl),
        )  # fmt: skip
        found = [finding async for finding in gathering.faults()]
        if self._wishes.has_anchors:
            found += [finding async for finding in gathering.anchors()]
        if self._wishes.has_redirects:
            found += [finding async for finding in gathering.redirects()]
        kept = [finding for finding in found if not self._is_ignored(finding)]
        if self._left is None and any(finding.reason == NOT_REACHED for finding in found):
            self._left = "hosts were in trouble for too long"
        if self._left is None and (seed := next(filter(self._is_unchecked_seed, found), None)) is not None:
            lifted = (f" ({option} lifts that)" for reason, option in LIFTED_BY.items() if reason == seed.reason)
            self._left = f"{seed.target}: {seed.says}{next(lifted, '')}"
        counts = await frontier.counts()
        (pages,) = connection.execute("SELECT count(*) FROM pages WHERE anchors IS NOT NULL").fetchone()
        return Report(
            seeds=self._seeds,
            pages=pages,
            targets=counts.total,
            seconds=time.monotonic() - started,
            findings=in_order(kept),
            ignored=len(found) - len(kept),
            left=self._left,
        )

    def _is_unchecked_seed(self, finding: Finding) -> bool:
        return finding.verdict is Verdict.UNCHECKED and finding.target in self._seeds

    def _is_ignored(self, finding: Finding) -> bool:
        return any(pattern.search(finding.target) for pattern in self._wishes.ignore)


def _body_limits(crawl: Crawl) -> frozenset[int]:
    """Where bodies are cut off here: one that ends earlier was cut short by its server."""
    pages = crawl.identity.max_bytes or FetchOptions().max_bytes
    return frozenset({pages, min(pages, MOST_BYTES)})


def _of_single_files(crawl: Crawl) -> Crawl:
    """A row by which each URL that is put in is asked for, and nothing else; pages are not kept, so that nobody reads
    their links."""
    settings = msgspec.structs.replace(
        crawl.settings, scope=Scope.PAGE, max_depth=None, keep=STYLES, check_external=False
    )
    identity = msgspec.structs.replace(
        crawl.identity, max_bytes=min(crawl.identity.max_bytes or MOST_BYTES, MOST_BYTES)
    )
    return msgspec.structs.replace(crawl, settings=settings, identity=identity)
