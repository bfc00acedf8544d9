"""``enqueue``: the producer."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click
import msgspec

from sqspider.cli.asking import yes_to_costs_option
from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.lists import ListFile, ListTold, list_options
from sqspider.cli.options import (
    assume_http,
    crawl_option,
    crawl_options,
    fetch_options,
    identity_options,
    limit_options,
    secrets_option,
)
from sqspider.cli.order import order_from, prepared
from sqspider.cli.progress import sitemap_line
from sqspider.cli.said import said_in, unset_option, with_said
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.start import checked_start, to_start
from sqspider.cli.widening import come_back
from sqspider.crawl_row import Crawl
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Frontier
from sqspider.orders.order import Order
from sqspider.orders.said import NEW
from sqspider.orders.start import Start
from sqspider.url import Refused, Scope
from sqspider.work.lists import Listed, RefusedLine
from sqspider.work.producer import Produced, produce
from sqspider.work.seeds import read_url

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


@click.command(cls=Command)
@click.argument("urls", nargs=-1, metavar="[URL]...")
@list_options
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
@yes_to_costs_option
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
@crawl_options(scope=Scope.PAGE)
@limit_options
@fetch_options
@identity_options
@secrets_option
@pass_shared
def enqueue(
    shared: Shared, /, urls: tuple[str, ...], sitemaps: tuple[str, ...], assume_http: bool, yes: bool, as_json: bool,
    **given: Any,
) -> int:  # fmt: skip
    """Record URLs and put a message for each into the queue.

    Each is a page by itself, with a delay of a second to others of its host, or as politely as is said. With --crawl,
    or with an option that says more than how politely, they go into a crawl, as `crawl` puts them there: it is made,
    or changed by what is said. --depth follows links on the host.

    A URL that is known already is left as it is, so doing it again after a break goes on from there.
    A line that is no URL is named and counted, the others go on; then the exit status is 1, and so
    it is for a sitemap that could not be read. Only sitemaps are fetched here, and none is kept.

    A file is UTF-8, or the UTF that its byte order mark says. In a list of lines, empty ones and those
    that begin with # are passed over, and nothing but the URL may stand in its line. Of CSV and JSON
    lines the other fields are kept with a URL that is new: `show` and `export` give them back.
    """
    list_file = ListFile.named(given)
    if not urls and list_file.path is None and not sitemaps:
        raise click.UsageError("name a URL, a file with -f, or a sitemap with --sitemap.")
    start, told = to_start(given), ListTold(list_file.path)
    order = _order(urls, assume_http=assume_http, has_more=list_file.path is not None or bool(sitemaps))
    pages = _settings_of_pages()

    async def main(listed: Iterator[Listed | RefusedLine]) -> _Result:
        async with opened(shared) as frontier:
            row = await _row(frontier, order, told, yes=yes) if order else None
            settings = row.settings if row else pages
            produced = await produce(
                frontier, urls, settings, crawl=row.ref if row else None, listed=listed, assume_http=assume_http,
                on_refused=told.refused, on_batch=told.progress,
            )  # fmt: skip
            told.end(produced)
            own = checked_start(row, start.secrets_folder) if row and sitemaps else start

            def report(sitemap: SitemapReport) -> None:
                told.say(sitemap_line(sitemap))

            return _Result(produced, await _discover(frontier, own, settings, row, sitemaps, report))

    with list_file.opened() as listed:
        result = asyncio.run(main(listed))
    if as_json:
        print(json.dumps(result.as_json()))
    else:
        print(f"{result.new:,} new, {result.known:,} known, {result.refused.total():,} refused")
    return GOOD if result.is_good else NOT_ALL_GOOD


def _order(urls: tuple[str, ...], *, assume_http: bool, has_more: bool) -> Order | None:
    """What is said of a crawl; none where nothing is, or where there is nothing to put into it."""
    context = click.get_current_context()
    order = order_from(context)
    read = [read_url(text, assume_http=assume_http) for text in urls]
    good = tuple(url for url in read if not isinstance(url, Refused))
    is_crawl = context.params["crawl"] is not None or not order.said.keys() <= OF_PAGES
    return order._replace(scope=Scope.PAGE, urls=good, has_more=has_more) if is_crawl and (good or has_more) else None


def _settings_of_pages() -> CrawlSettings:
    """How pages are treated that are in no crawl."""
    context = click.get_current_context()
    said = {name: value for name, value in said_in(context).items() if name in OF_PAGES}
    return with_said(msgspec.structs.replace(NEW, settings=CrawlSettings()), said).settings


async def _row(frontier: Frontier, order: Order, told: ListTold, *, yes: bool) -> Crawl | None:
    done = await prepared(frontier, order, yes=yes)
    if done is None:
        return None
    if done.changes:
        told.say(f"{done.crawl.name}: {'; '.join(done.changes)}, from now on")
    if line := await come_back(frontier, done.crawl):
        told.say(line)
    return done.crawl


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
        refused = self.produced.refused.copy()
        for sitemap in self.sitemaps:
            refused.update(sitemap.refused)
        return refused

    @property
    def is_good(self) -> bool:
        return not self.produced.refused and not any(sitemap.trouble for sitemap in self.sitemaps)

    def as_json(self) -> dict[str, Any]:
        numbers = {"new": self.new, "known": self.known, "refused": self.refused.total(), "kept": self.produced.kept}
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
