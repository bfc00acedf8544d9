"""``enqueue``: the producer."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import click
from rich.console import Console

from sqspider.cli.exit_status import GOOD, NOT_ALL_GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.options import (
    advised,
    assume_http,
    crawl_options,
    fetch_options,
    to_crawl_settings,
    to_fetch_options,
)
from sqspider.cli.progress import sitemap_line
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.crawls import CrawlSettings
from sqspider.frontier import Frontier
from sqspider.url import Refused, Scope
from sqspider.web.options import FetchOptions
from sqspider.work.producer import Produced, RefusedLine, produce
from sqspider.work.seeds import read_lines, read_url

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
@assume_http
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
@crawl_options(scope=Scope.PAGE)
@fetch_options
@pass_shared
def enqueue(
    shared: Shared, /, urls: tuple[str, ...], path: str | None, sitemaps: tuple[str, ...], assume_http: bool,
    as_json: bool, **given: Any,
) -> int:  # fmt: skip
    """Record URLs and put a message for each into the queue.

    A URL that is known already is left as it is, so doing it again after a break goes on from there.
    A line that is no URL is named and counted, the others go on; then the exit status is 1, and so
    it is for a sitemap that could not be read. Only sitemaps are fetched here: the options on how to
    fetch are for them.

    A file is UTF-8, or the UTF that its byte order mark says. Empty lines and those that begin with
    # are passed over. Nothing but the URL may stand in its line.
    """
    if not urls and path is None and not sitemaps:
        raise click.UsageError("name a URL, a file with -f, or a sitemap with --sitemap.")
    settings = to_crawl_settings(given)
    console = Console(stderr=True)

    def refused(line: RefusedLine) -> None:
        where = f"{path}, line {line.line}" if line.line else "argument"
        console.print(f"refused: {where}: {advised(line.refused)}", markup=False, highlight=False, soft_wrap=True)

    def progress(produced: Produced) -> None:
        if console.is_terminal:
            console.print(
                f"{produced.total:,}: {produced.new:,} new, {produced.known:,} known",
                end="\r",
                highlight=False,
            )

    def report(sitemap: SitemapReport) -> None:
        console.print(sitemap_line(sitemap), markup=False, highlight=False, soft_wrap=True)

    async def main(lines: Iterator[str]) -> tuple[Produced, list[SitemapReport]]:
        async with opened(shared) as frontier:
            produced = await produce(
                frontier, urls, settings, lines=lines, assume_http=assume_http, on_refused=refused, on_batch=progress
            )
            reports = await _discover(frontier, to_fetch_options(given), settings, sitemaps, report) if sitemaps else []
            return produced, reports

    with _lines(path) as lines:
        produced, reports = asyncio.run(main(lines))
    new = produced.new + sum(sitemap.new for sitemap in reports)
    known = produced.known + sum(sitemap.listed - sitemap.new - sitemap.out_of_scope for sitemap in reports)
    refused_by_reason = Counter({reason.value: number for reason, number in produced.refused.items()})
    for sitemap in reports:
        refused_by_reason.update(sitemap.refused)
    if as_json:
        numbers = {"new": new, "known": known, "refused": refused_by_reason.total()}
        rows = [sitemap._asdict() for sitemap in reports]
        print(json.dumps({**numbers, "reasons": refused_by_reason, "sitemaps": rows}))
    else:
        print(f"{new:,} new, {known:,} known, {refused_by_reason.total():,} refused")
    return NOT_ALL_GOOD if produced.refused or any(sitemap.trouble for sitemap in reports) else GOOD


async def _discover(
    frontier: Frontier,
    fetch: FetchOptions,
    settings: CrawlSettings,
    sitemaps: Sequence[str],
    on_report: Callable[[SitemapReport], None],
) -> list[SitemapReport]:
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
