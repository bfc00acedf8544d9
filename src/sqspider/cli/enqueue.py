"""``enqueue``: the producer."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.lists import ListFile, ListTold, list_options
from sqspider.cli.options import assume_http, crawl_options, fetch_options, to_crawl_settings, to_fetch_options
from sqspider.cli.progress import sitemap_line
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.crawls import CrawlSettings
from sqspider.frontier import Frontier
from sqspider.url import Refused, Scope
from sqspider.web.options import FetchOptions
from sqspider.work.lists import Listed, RefusedLine
from sqspider.work.producer import Produced, produce
from sqspider.work.seeds import read_url

if TYPE_CHECKING:
    from sqspider.work.sitemaps import SitemapReport


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
@assume_http
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
@crawl_options(scope=Scope.PAGE)
@fetch_options
@pass_shared
def enqueue(
    shared: Shared, /, urls: tuple[str, ...], sitemaps: tuple[str, ...], assume_http: bool, as_json: bool, **given: Any,
) -> int:  # fmt: skip
    """Record URLs and put a message for each into the queue.

    A URL that is known already is left as it is, so doing it again after a break goes on from there.
    A line that is no URL is named and counted, the others go on; then the exit status is 1, and so
    it is for a sitemap that could not be read. Only sitemaps are fetched here: the options on how to
    fetch are for them.

    A file is UTF-8, or the UTF that its byte order mark says. In a list of lines, empty ones and those
    that begin with # are passed over, and nothing but the URL may stand in its line. Of CSV and JSON
    lines the other fields are kept with a URL that is new: `show` and `export` give them back.
    """
    list_file = ListFile.named(given)
    if not urls and list_file.path is None and not sitemaps:
        raise click.UsageError("name a URL, a file with -f, or a sitemap with --sitemap.")
    settings, fetch = to_crawl_settings(given), to_fetch_options(given)
    told = ListTold(list_file.path)

    async def main(listed: Iterator[Listed | RefusedLine]) -> _Result:
        async with opened(shared) as frontier:
            produced = await produce(
                frontier, urls, settings, listed=listed, assume_http=assume_http, on_refused=told.refused,
                on_batch=told.progress,
            )  # fmt: skip
            told.end(produced)

            def report(sitemap: SitemapReport) -> None:
                told.say(sitemap_line(sitemap))

            return _Result(produced, await _discover(frontier, fetch, settings, sitemaps, report))

    with list_file.opened() as listed:
        result = asyncio.run(main(listed))
    if as_json:
        print(json.dumps(result.as_json()))
    else:
        print(f"{result.new:,} new, {result.known:,} known, {result.refused.total():,} refused")
    return GOOD if result.is_good else NOT_ALL_GOOD


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
    fetch: FetchOptions,
    settings: CrawlSettings,
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
        frontier, fetch, settings, sitemaps=sitemaps, clock=frontier.now, rng=random.Random(), stopping=asyncio.Event(),
        on_report=report,
    )  # fmt: skip
    return reports
