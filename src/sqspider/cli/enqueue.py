"""``enqueue``: the producer."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

import click
import msgspec
from rich.console import Console

from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.options import (
    advised,
    assume_http,
    crawl_option,
    crawl_options,
    fetch_options,
    identity_options,
    limit_options,
    secrets_option,
)
from sqspider.cli.order import Order, prepared
from sqspider.cli.progress import sitemap_line
from sqspider.cli.said import NEW, said_in, unset_option, with_said
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.start import Start, start_of, to_start
from sqspider.cli.widening import come_back
from sqspider.crawl import Crawl
from sqspider.crawls import CrawlSettings
from sqspider.frontier import Frontier
from sqspider.url import Refused, Scope
from sqspider.work.producer import Produced, RefusedLine, produce
from sqspider.work.seeds import read_lines, read_url

if TYPE_CHECKING:
    from sqspider.work.sitemaps import SitemapReport

OF_PAGES: Final = {"delay", "max-crawl-delay", "per-host", "ignore-robots", "drop-tracking"}
"""What can be said of a page by itself: how politely it is asked for, and what its URL is. All else is of crawls."""


def _sitemap_urls(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> tuple[str, ...]:
    urls = []
    for value in values:
        url = read_url(value)
        if isinstance(url, Refused):
            raise click.BadParameter(f"{url}.", context, parameter)
        urls.append(url)
    return tuple(urls)


def _one_file(context: click.Context, parameter: click.Parameter, paths: Sequence[str]) -> str | None:
    if len(paths) > 1:  # of an option that is given twice the last one would count, and the first list be lost
        raise click.BadParameter(
            "one file at a time: join several as `cat A B | sqspider enqueue -f -`.", context, parameter
        )
    return paths[0] if paths else None


@click.command(cls=Command)
@click.argument("urls", nargs=-1, metavar="[URL]...")
@click.option(
    "-f",
    "--file",
    "path",
    multiple=True,
    callback=_one_file,
    metavar="FILE",
    help="Also the URLs of a file, one a line; - is standard input.",
)
@click.option(
    "--sitemap",
    "sitemaps",
    multiple=True,
    metavar="URL",
    callback=_sitemap_urls,
    help="Fetch a sitemap, and those that it names; enqueue what they list on its host, or in the scope "
    "measured from it. May be repeated.",
)
@crawl_option("Put them into this crawl; it is made if it is not there.")
@unset_option
@assume_http
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
@crawl_options(scope=Scope.PAGE)
@limit_options
@fetch_options
@identity_options
@secrets_option
@pass_shared
def enqueue(
    shared: Shared, /, urls: tuple[str, ...], path: str | None, sitemaps: tuple[str, ...], assume_http: bool,
    as_json: bool, **given: Any,
) -> int:  # fmt: skip
    """Record URLs and put a message for each into the queue.

    Each is a page by itself, with a delay of a second to others of its host, or as politely as is said. With --crawl,
    or with an option that says more than how politely, they go into a crawl, as `crawl` puts them there: it is made,
    or changed by what is said. --depth follows links on the host.

    A URL that is known already is left as it is, so doing it again after a break goes on from there.
    A line that is no URL is named and counted, the others go on; then the exit status is 1, and so
    it is for a sitemap that could not be read. Only sitemaps are fetched here.

    A file is UTF-8, or the UTF that its byte order mark says. Empty lines and those that begin with
    # are passed over. Nothing but the URL may stand in its line.
    """
    if not urls and path is None and not sitemaps:
        raise click.UsageError("name a URL, a file with -f, or a sitemap with --sitemap.")
    start, told = to_start(given), _Told(path)
    order = _order(urls, assume_http=assume_http, has_more=path is not None or bool(sitemaps))
    pages = _settings_of_pages()

    async def main(lines: Iterator[str]) -> _Result:
        async with opened(shared) as frontier:
            row = await _row(frontier, order, told) if order else None
            settings = row.settings if row else pages
            produced = await produce(
                frontier, urls, settings, crawl=row.ref if row else None, lines=lines, assume_http=assume_http,
                on_refused=told.refused, on_batch=told.progress,
            )  # fmt: skip
            own = start_of(row, start.secrets_folder) if row and sitemaps else start
            return _Result(produced, await _discover(frontier, own, settings, row, sitemaps, told.sitemap))

    with _lines(path) as lines:
        result = asyncio.run(main(lines))
    if as_json:
        print(json.dumps(result.as_json()))
    else:
        print(f"{result.new:,} new, {result.known:,} known, {result.refused.total():,} refused")
    return GOOD if result.is_good else NOT_ALL_GOOD


def _order(urls: tuple[str, ...], *, assume_http: bool, has_more: bool) -> Order | None:
    """What is said of a crawl; none where nothing is, or where there is nothing to put into it."""
    context = click.get_current_context()
    order = Order.read(context)
    read = [read_url(text, assume_http=assume_http) for text in urls]
    good = tuple(url for url in read if not isinstance(url, Refused))
    is_crawl = context.params["crawl"] is not None or not order.said.keys() <= OF_PAGES
    return order._replace(scope=Scope.PAGE, urls=good, has_more=has_more) if is_crawl and (good or has_more) else None


def _settings_of_pages() -> CrawlSettings:
    """How pages are treated that are in no crawl."""
    context = click.get_current_context()
    said = {name: value for name, value in said_in(context).items() if name in OF_PAGES}
    return with_said(msgspec.structs.replace(NEW, settings=CrawlSettings()), said).settings


async def _row(frontier: Frontier, order: Order, told: _Told) -> Crawl | None:
    done = await prepared(frontier, order)
    if done is None:
        return None
    if done.changes:
        told.say(f"{done.crawl.name}: {'; '.join(done.changes)}, from now on")
    if line := await come_back(frontier, done.crawl):
        told.say(line)
    return done.crawl


class _Told:
    """What a person is told meanwhile, on standard error."""

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._console = Console(stderr=True)

    def refused(self, line: RefusedLine) -> None:
        where = f"{self._path}, line {line.line}" if line.line else "argument"
        self.say(f"refused: {where}: {advised(line.refused)}")

    def progress(self, produced: Produced) -> None:
        if self._console.is_terminal:
            numbers = f"{produced.total:,}: {produced.new:,} new, {produced.known:,} known"
            self._console.print(numbers, end="\r", highlight=False)

    def sitemap(self, report: SitemapReport) -> None:
        self.say(sitemap_line(report))

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


class _Result(NamedTuple):
    """What came of all lists and sitemaps."""

    produced: Produced
    sitemaps: list[SitemapReport]

    @property
    def new(self) -> int:
        return self.produced.new + sum(sitemap.new for sitemap in self.sitemaps)

    @property
    def known(self) -> int:
        known = sum(sitemap.listed - sitemap.new - sitemap.out_of_scope for sitemap in self.sitemaps)
        return self.produced.known + known

    @property
    def refused(self) -> Counter[str]:
        """How many there are of each reason."""
        refused = Counter({reason.value: number for reason, number in self.produced.refused.items()})
        for sitemap in self.sitemaps:
            refused.update(sitemap.refused)
        return refused

    @property
    def is_good(self) -> bool:
        return not self.produced.refused and not any(sitemap.trouble for sitemap in self.sitemaps)

    def as_json(self) -> dict[str, Any]:
        numbers = {"new": self.new, "known": self.known, "refused": self.refused.total()}
        return {**numbers, "reasons": self.refused, "sitemaps": [sitemap._asdict() for sitemap in self.sitemaps]}


async def _discover(
    frontier: Frontier,
    start: Start,
    settings: CrawlSettings,
    crawl: Crawl | None,
    sitemaps: Sequence[str],
    on_report: Callable[[SitemapReport], None],
) -> list[SitemapReport]:
    if not sitemaps:
        return []
    from sqspider.work.sitemaps import discover  # here: URLs are enqueued without an HTTP client

    reports: list[SitemapReport] = []

    def report(sitemap: SitemapReport) -> None:
        reports.append(sitemap)
        on_report(sitemap)

    await discover(
        frontier, start.fetch, settings, crawl=crawl, sitemaps=sitemaps, clock=frontier.now, rng=random.Random(),
        stopping=asyncio.Event(), on_report=report, allowed=start.allowed, secrets=start.secrets,
    )  # fmt: skip
    return reports


@contextmanager
def _lines(path: str | None) -> Iterator[Iterator[str]]:
    if path is None:
        yield iter(())
    elif path == "-":
        if sys.stdin is None:  # it was closed by who started us
            raise click.UsageError("standard input cannot be read: it is closed.")
        yield _read(path, sys.stdin.buffer)
    else:
        try:
            file = open(path, "rb")  # noqa: SIM115 - closed below
        except OSError as error:
            raise _unreadable(path, error) from None
        with file:
            yield _read(path, file)


def _read(path: str, file: BinaryIO) -> Iterator[str]:
    try:
        yield from read_lines(file)
    except OSError as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str, error: OSError) -> click.UsageError:
    return click.UsageError(f"{path} cannot be read: {error.strerror}.")
