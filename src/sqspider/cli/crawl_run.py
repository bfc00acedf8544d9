"""One run of `crawl`: seeds in, workers, progress, a summary, and a verdict."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from sqspider.cli.accounts import Account, Accounts
from sqspider.cli.archiving import Kept, full_words, keeping_line, warn_if_nearly_full
from sqspider.cli.exit_status import GOOD, INTERRUPTED, NOT_ALL_GOOD, USAGE
from sqspider.cli.extract_said import rows_line
from sqspider.cli.forking import Forked
from sqspider.cli.frontier import is_absent, opened
from sqspider.cli.left import next_command, no_urls, nothing_to_do, what_is_left
from sqspider.cli.lists import NO_LIST, ListFile, ListTold, Seeding
from sqspider.cli.order import added_note, config_note, go_on, no_crawl, prepared
from sqspider.cli.output import OutputError, say_unreadable, written
from sqspider.cli.processes import WorkerProcesses, consume_command
from sqspider.cli.progress import progress_shown, sitemap_line
from sqspider.cli.shared import Shared
from sqspider.cli.signals import stopping_on_signals
from sqspider.cli.start import check_lease, checked_start
from sqspider.cli.summary import SLOWEST_HOSTS, print_summary, summary
from sqspider.cli.verdict import seeds_are_good
from sqspider.cli.widening import come_back
from sqspider.cli.wording import counted
from sqspider.cli.worker import run_worker, worker_for
from sqspider.crawl_row import Crawl
from sqspider.crawl_settings import CrawlSettings
from sqspider.export import COLUMNS, Wanted, export, write
from sqspider.frontier import Counts, Frontier
from sqspider.log import get_logger
from sqspider.orders.order import Order, Prepared
from sqspider.orders.start import Start
from sqspider.orders.store import store_opened
from sqspider.record import DEFAULT_CRAWL
from sqspider.record_filter import RecordFilter
from sqspider.web.fetch import Fetcher
from sqspider.work.options import WorkerOptions
from sqspider.work.worker import Mode

if TYPE_CHECKING:
    from rich.console import Console

    from sqspider.cli.extract_behind import Following

log = get_logger(__name__)


class Again(NamedTuple):
    """That what is known is to be visited once more."""

    older_than: float | None  # what ended so many seconds ago alone; none: whenever


class CrawlRun:
    """One run of ``crawl``."""

    def __init__(
        self,
        shared: Shared,
        order: Order,
        options: WorkerOptions,
        start: Start,
        list_file: ListFile = NO_LIST,
        *,
        workers: int = 1,
        forked: Sequence[Forked] = (),
        accounts: Accounts | None = None,
        quiet: bool = False,
        again: Again | None = None,
        yes: bool = False,
        following: Following | None = None,
    ) -> None:
        self._shared = shared
        self._order = order
        self._options = options
        self._start = start  # of a crawl without a row; of any other it is as the row says
        self._list_file = list_file
        self._workers = workers
        self._forked = forked
        self._accounts = accounts  # of the workers, where they are several
        self._did = Account(Counter())
        self._quiet = quiet
        self._was_stopped = False
        self._has_said_what_is_kept = False
        self._again = again
        self._following = following  # by whom rows are made meanwhile
        self._yes = yes  # to what costs money, unasked
        self._kept = Kept(start.archive)

    async def run(
        self, urls: tuple[str, ...], output: str | None = None, *, as_json: bool = False, with_sitemaps: bool = False,
        assume_http: bool = False,
    ) -> int:  # fmt: skip
        """Crawl from some URLs, or go on with what is open; the exit status."""
        with self._list_file.opened() as listed:
            told = ListTold(self._list_file.path, quiet=self._quiet)
            seeding = Seeding(urls, listed, told, assume_http=assume_http)
            return await self._run(seeding, bool(urls or self._list_file.path), output, with_sitemaps, as_json)

    async def _run(
        self, seeding: Seeding, were_given: bool, output: str | None, with_sitemaps: bool, as_json: bool
    ) -> int:
        if were_given and seeding.is_refused:  # whatever else is in the queue, it is not what was asked for
            return USAGE
        if not were_given and is_absent(self._shared):
            raise no_urls(self._shared)  # and no file is made
        async with opened(self._shared, self._options.lease_seconds) as frontier:
            if self._again is None:
                crawl = await self._take_order(frontier, seeding.seeds)
            else:
                crawl = await self._visit_again(frontier, self._again, seeding.seeds)
            is_good = await self._put_in(frontier, crawl, seeding, with_sitemaps=with_sitemaps)
            before = await self._counts(frontier)
            started = time.monotonic()
            work = self._work_off(frontier, crawl, before, were_given)
            is_good = await (self._following.along(work, self._say) if self._following else work) and is_good
            counts = await self._sum_up(frontier, before, time.monotonic() - started, as_json=as_json)
            is_good = (output is None or await self._write_rows(frontier, output)) and is_good
            if counts.open:
                self._say(await what_is_left(frontier, self._shared, self._order, counts.open, self._why))
            if self._was_stopped:  # whoever stops it does not wait for a verdict, which may read every record
                return INTERRUPTED
            asked = seeding.seeds if self._list_file.path is None else []  # a list's are not kept in mind: every seed
            lists = go_on(self._shared, self._order.name, "export --status failed --status blocked")
            are_good = await seeds_are_good(frontier, asked, counts, self._order.name, lists)
            if are_good and before.open and not as_json:  # else there is no summary, or it was just told what failed
                self._say_what_is_next(crawl, counts)
            is_good = are_good and is_good
            return GOOD if is_good and not seeding.refused and counts.open == 0 else NOT_ALL_GOOD

    async def _take_order(self, frontier: Frontier, seeds: list[str]) -> Crawl | None:
        """The crawl's row as it is ordered, told of what changes; none for one that has none."""
        order = self._order._replace(urls=tuple(seeds), has_more=self._list_file.path is not None)
        done = await prepared(frontier, order, yes=self._yes)
        if done is None:
            if order.name != DEFAULT_CRAWL:
                raise await no_crawl(frontier, order.name)
            if order.said:
                self._say("what is queued here goes by settings of its own: it is in no crawl that could be changed")
            return None
        crawl = done.crawl
        self._start = checked_start(crawl, self._start.secrets_folder, self._start.archive)
        check_lease(self._options, self._start)
        if not crawl.settings.obey_robots:
            log.warning("robots.txt is ignored: do this on your own sites only")
        self._tell(done)
        if self._order.is_kept and (line := rows_line(crawl, self._following)):
            self._say(line)
        if line := await come_back(frontier, crawl, quiet=self._quiet):
            self._say(line)
        return crawl

    def _tell(self, done: Prepared) -> None:
        if done.changes:
            self._say(f"{done.crawl.name}: {'; '.join(done.changes)}, from now on")
        if done.before and (note := config_note(self._order.config, done.crawl)):
            self._say(note)

    async def _put_in(self, frontier: Frontier, crawl: Crawl | None, seeding: Seeding, *, with_sitemaps: bool) -> bool:
        """Enqueue the seeds, and what their sitemaps list; whether all of these could be read."""
        if crawl is None or seeding.is_empty:
            return True
        await seeding.enqueue(frontier, crawl)
        if crawl.version > 1 and (note := added_note(crawl, seeding.new)):
            self._say(note)
        return await self._read_sitemaps(frontier, crawl, seeding.seeds) if with_sitemaps else True

    async def _visit_again(self, frontier: Frontier, again: Again, seeds: list[str]) -> Crawl | None:
        """Take the order, and put back what is known."""
        from sqspider.cli.again import ask_first, put_back  # here: most crawls visit nothing again

        name = self._order.name
        if not self._yes:
            await ask_first(frontier, name, again.older_than)
        crawl = await self._take_order(frontier, seeds)
        if self._following is not None:
            await self._following.before_visiting_again(self._say)
        self._say(await put_back(frontier, name, again.older_than, quiet=self._quiet))
        return crawl

    async def _counts(self, frontier: Frontier) -> Counts:
        return await frontier.counts(crawl=self._order.name)

    async def _read_sitemaps(self, frontier: Frontier, crawl: Crawl, seeds: list[str]) -> bool:
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

        self._say_what_is_kept(crawl)  # sitemaps are kept, too
        with stopping_on_signals(stop):
            async with store_opened(self._start, frontier) as store:
                await discover(
                    frontier, self._start.fetch, crawl.settings, seeds=seeds, clock=frontier.now, rng=random.Random(),
                    stopping=stopping, on_report=report, crawl=crawl, allowed=self._start.allowed,
                    secrets=self._start.secrets, store=store,
                )  # fmt: skip
        return all_good

    async def _work_off(self, frontier: Frontier, crawl: Crawl | None, before: Counts, were_urls_given: bool) -> bool:
        """Work until nothing is left, or it is stopped; whether the workers ended well."""
        if before.open == 0:
            if not were_urls_given and not before.total:
                raise no_urls(self._shared)
            self._say(nothing_to_do(self._shared, self._order, crawl, before))
            return True
        if before.total > before.open:
            finished = counted(before.total - before.open, "URL is", "URLs are")
            self._say(f"going on: {finished} finished, {before.open:,} {'is' if before.open == 1 else 'are'} not")
        if self._was_stopped:
            return True
        self._say_what_is_kept(crawl)
        return await (self._run_here(frontier) if self._workers == 1 else self._run_processes(frontier))

    def _say_what_is_kept(self, crawl: Crawl | None) -> None:
        """Before anything is fetched, and once."""
        if (place := self._start.archive) is not None and not self._has_said_what_is_kept:
            self._has_said_what_is_kept = True
            self._say(keeping_line(place, crawl.settings if crawl else CrawlSettings()))
            warn_if_nearly_full(place)

    async def _run_here(self, frontier: Frontier) -> bool:
        async with (
            Fetcher(self._start.fetch, connections=self._options.concurrency) as fetcher,
            store_opened(self._start, frontier) as store,
        ):
            worker = worker_for(frontier, fetcher, self._options, self._start, store)

            def stop() -> None:
                self._was_stopped = True
                worker.stop()

            progress = progress_shown(
                frontier,
                self._progress_console,
                crawl=self._order.name,
                in_flight=lambda: worker.tally.in_flight,
                trouble=lambda: worker.trouble,
            )
            with stopping_on_signals(stop, at_once=self._show_cursor):
                async with progress:
                    await run_worker(worker, Mode.UNTIL_EMPTY, self._order.name)
            self._did = Account(worker.tally.again, worker.stopped_by)
        return True

    async def _run_processes(self, frontier: Frontier) -> bool:
        """Run workers as processes until they end; whether they ended well, or left nothing to do."""
        command = consume_command(self._shared, self._options, self._start, self._order.name)
        assert self._accounts is not None
        workers = WorkerProcesses(command, self._workers, self._accounts.pipe, self._forked, self._start.encode())

        def stop() -> None:
            self._was_stopped = True
            workers.stop()

        def kill() -> None:
            workers.kill()
            self._show_cursor()

        with stopping_on_signals(stop, at_once=kill):
            async with progress_shown(frontier, self._progress_console, crawl=self._order.name):
                given_up = await workers.run()
        self._did = self._accounts.close()
        if given_up:
            print(
                f"{given_up} of {self._workers} workers died and were not replaced: see above. What they held comes "
                "back.",
                file=sys.stderr,
            )
        return not given_up or (await self._counts(frontier)).open == 0

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
        counts, bill = await self._counts(frontier), await frontier.bill()
        slow = await frontier.slowest_hosts(SLOWEST_HOSTS)
        pages, known = counts.pages, before.pages
        fetched = pages - known if pages >= known else pages  # what was there before was cleared away meanwhile
        if as_json:
            told = summary(
                counts, slow, bill, fetched=fetched, seconds=seconds, again=self._did.again, kept=self._kept.as_json()
            )
            print(json.dumps(told))
        elif before.open:
            from rich.console import Console

            console = Console()
            print_summary(
                console, counts, slow, bill, fetched=fetched, seconds=seconds, again=self._did.again,
                kept=self._kept.line(),
            )  # fmt: skip
        return counts

    async def _write_rows(self, frontier: Frontier, output: str) -> bool:
        """Write a row for each finished URL; whether that went well."""
        unreadable: list[str] = []
        which = RecordFilter(crawls=(self._order.name,), is_final=True)
        try:
            with written(output, COLUMNS) as table:
                rows = await write(table, export(frontier, Wanted(which), unreadable.append))
        except OutputError as error:
            print(
                f"{error.message} Nothing of the crawl is lost: "
                f"`{go_on(self._shared, self._order.name, 'export')} --output FILE` writes its rows.",
                file=sys.stderr,
            )
            return False
        self._say(f"{counted(rows, 'row', 'rows')} written to {output}")
        say_unreadable(unreadable)
        return not unreadable

    def _say(self, line: str) -> None:
        if not self._quiet:
            self._console.print(line, highlight=False, soft_wrap=True, markup=False)

    def _say_what_is_next(self, crawl: Crawl | None, counts: Counts) -> None:
        has_rows = self._following is not None
        if line := next_command(self._shared, self._order, crawl, self._start.archive, counts, has_rows=has_rows):
            self._say(line)

    @property
    def _why(self) -> str:
        """Why this run has ended, where something is left."""
        if self._was_stopped:
            return "stopped"
        if self._did.stopped_by is not None and self._start.archive is not None:
            return full_words(self._did.stopped_by, self._start.archive)
        return "the limit is reached" if self._options.max_pages else "ended"
