"""``check``: whether the links of a site lead somewhere. The run is in ``check_run``."""

from __future__ import annotations

import random
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from sqspider.cli.exit_status import GOOD, INTERRUPTED, NOT_ALL_GOOD
from sqspider.cli.options import advised, assume_http, fetch_options, identity_options, secrets_option, within
from sqspider.cli.output import TextPath, write_text
from sqspider.cli.said import checked_said, said_in
from sqspider.cli.sections import Command, section
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.signals import unwinding_on_signals
from sqspider.crawl_settings import CrawlSettings
from sqspider.extract.report_findings import Report
from sqspider.extract.report_json import as_json as as_json_text
from sqspider.extract.report_junit import as_junit
from sqspider.extract.report_markdown import as_markdown
from sqspider.extract.report_text import as_text
from sqspider.frontier.address import sqlite_path
from sqspider.orders.keeping import archive_of_frontier
from sqspider.url import Refused, Scope, host_of
from sqspider.work.options import WorkerOptions
from sqspider.work.seeds import read_url

OWN_DELAY: Final = 0.1  # seconds: ten requests a second, where the site lies elsewhere
MOST_CRAWL_DELAY: Final = 5.0  # seconds that robots.txt may ask for; a longer one is obeyed so far
CONCURRENCY: Final = 32
LOOPBACK: Final = re.compile(r"localhost|.*\.localhost|127\.\d+\.\d+\.\d+|\[::1\]")
HURRIED: Final = WorkerOptions(
    worker_id="check",
    first_retry_seconds=1.0,
    first_rest_seconds=1.0,
    new_host_grace_seconds=5.0,
    host_grace_seconds=15.0,
    robots_grace_seconds=15.0,
    failures_to_rest=1_000_000,  # a site with many broken pages is what is looked for: it is no reason to rest it
)
"""How it is worked where somebody waits for the end: trouble is tried as often as ever, and waited for shortly."""


def _patterns(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[re.Pattern[str], ...]:
    try:
        return tuple(re.compile(value) for value in values)
    except (re.error, RecursionError, OverflowError) as error:
        raise click.BadParameter(f"it is no regular expression: {error}.", context, parameter) from None


@click.command(cls=Command)
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@assume_http
@section(
    "What is checked",
    click.option(
        "--scope",
        type=click.Choice([scope.value for scope in (Scope.PREFIX, Scope.HOST, Scope.DOMAIN, Scope.PAGE)]),
        default=Scope.HOST.value,
        show_default=True,
        help="Whose pages are gone into, measured from each URL: none but these (page), below its folder (prefix), of "
        "its host, of its registrable domain. What they refer to is checked wherever it lies.",
    ),
    click.option(
        "--depth",
        "max_depth",
        type=within(CrawlSettings.ranges["max_depth"]),
        metavar="N",
        help="Go into pages at most so many links away. What the last of them refer to is checked, too.",
    ),
    click.option("--max-pages", type=click.IntRange(min=1), metavar="N", help="Stop after so many pages."),
    click.option("--exclude", multiple=True, metavar="REGEX", help="Do not ask for URLs that match. May be repeated."),
    click.option("--sitemaps", is_flag=True, help="Also check what the sitemaps of the sites list."),
    click.option("--no-external", is_flag=True, help="Do not ask for what lies on other sites."),
    click.option("--anchors", is_flag=True, help="Also check that the id behind a # is in its page."),
    click.option("--redirects", is_flag=True, help="Also list links to what has moved for good. They fail no check."),
)
@section(
    "What is made of it",
    click.option(
        "--ignore",
        multiple=True,
        callback=_patterns,
        metavar="REGEX",
        help="Leave out findings whose target matches: those that are known. May be repeated.",
    ),
    click.option(
        "--strict",
        is_flag=True,
        help="Count as broken, too, where another site turns us away: 401, 403, 405, 429. A browser may get it.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Print the report as JSON."),
    click.option("--junit", type=TextPath(), metavar="FILE", help="Also write it as JUnit XML."),
    click.option(
        "--markdown",
        type=TextPath(),
        metavar="FILE",
        help="Also write it as Markdown, as for a step's summary. A file is replaced; a device is written to.",
    ),
    click.option("--quiet", is_flag=True, help="Show no progress."),
)
@section(
    "How politely",
    click.option(
        "--delay",
        "delay_seconds",
        type=within(CrawlSettings.ranges["delay_seconds"]),
        metavar="SECONDS",
        help=f"Least time between two requests to a host.  [default: {OWN_DELAY}; 0 where all URLs given are of this "
        "machine]",
    ),
    click.option(
        "--concurrency",
        type=within(WorkerOptions.ranges["concurrency"]),
        default=CONCURRENCY,
        show_default=True,
        metavar="N",
        help="Requests at a time, over all hosts.",
    ),
    click.option("--ignore-robots", is_flag=True, help="Do not ask for robots.txt. For your own sites only."),
)
@fetch_options
@identity_options
@secrets_option
@pass_shared
def check(
    shared: Shared, /, urls: tuple[str, ...], assume_http: bool, max_pages: int | None, sitemaps: bool,
    no_external: bool, anchors: bool, redirects: bool, ignore: tuple[re.Pattern[str], ...], strict: bool, as_json: bool,
    junit: Path | None, markdown: Path | None, quiet: bool, **given: Any,
) -> int:  # fmt: skip
    """Check whether the links of a site lead somewhere: the pages are crawled, and all that they refer to is asked for.

    Each target that is broken is listed with every page that names it. Exit status 1 if there is one, or if the check
    is not whole; 0 if all is well. What another site refuses to programs, what robots.txt forbids, and redirects are
    listed, and fail no check.

    A check begins afresh and leaves nothing behind. With --frontier sqlite:PATH, a file that is not there yet, its
    records and pages stay, to be looked at with `sqspider links` and all other commands.
    """
    from sqspider.cli.check_run import CheckRun, Wishes  # here: --help needs none of it
    from sqspider.cli.link_reader import LinkReader
    from sqspider.cli.worker import random_worker_id, run_loop, within_limits
    from sqspider.extract.link_keeping import LinkFileError

    seeds = _seeds(urls, assume_http=assume_http)
    said = _said(seeds, is_external=not no_external)
    options = msgspec.structs.replace(
        HURRIED,
        worker_id=random_worker_id(random.Random()),
        concurrency=given["concurrency"],
        max_pages=max_pages,
    )
    shared.start_logging("error")  # what goes wrong with a URL is in the report

    wishes = Wishes(
        is_external=not no_external,
        has_sitemaps=sitemaps,
        has_anchors=anchors,
        has_redirects=redirects,
        is_strict=strict,
        ignore=ignore,
    )
    console = None
    if not quiet:
        from rich.console import Console

        console = Console(stderr=True)
    with _place(shared) as (archive, own):
        reader = LinkReader.begun(archive, archive.parent if shared.address is None else None)
        try:
            run = CheckRun(
                archive, own, seeds, said, within_limits(options), wishes, secrets_folder=given["secrets"],
                console=console, reader=reader,
            )  # fmt: skip
            report = run_loop(run.run())
        except LinkFileError as error:
            raise click.ClickException(f"{error}.") from None
        finally:
            if reader is not None:
                reader.end()
    _write(report, as_json=as_json, junit=junit, markdown=markdown)
    if run.was_stopped:
        return INTERRUPTED
    return GOOD if report.is_clean and report.left is None else NOT_ALL_GOOD


def _seeds(urls: tuple[str, ...], *, assume_http: bool) -> tuple[str, ...]:
    read = [read_url(url, assume_http=assume_http) for url in urls]
    if refused := [str(advised(url)) for url in read if isinstance(url, Refused)]:
        raise click.UsageError("; ".join(refused))
    return tuple(dict.fromkeys(map(str, read)))


def _said(seeds: tuple[str, ...], *, is_external: bool) -> dict[str, Any]:
    """What the crawl's row is to say: what was given, and what a check needs."""
    are_here = all(LOOPBACK.fullmatch(host_of(url)) for url in seeds)
    said = {
        "scope": Scope.HOST.value,
        "delay": 0.0 if are_here else OWN_DELAY,
        "follow-nofollow": True,  # a link that robots are not to follow is one that people do
        "meta-refresh": True,
        "check-external": is_external,
        "max-crawl-delay": MOST_CRAWL_DELAY,
        **said_in(click.get_current_context()),
    }
    checked_said(said)
    return said


@contextmanager
def _place(shared: Shared) -> Iterator[tuple[Path, Shared]]:
    """The archive of the run, and its frontier: both are forgotten at the end, unless a frontier was named."""
    if shared.address is None:
        with unwinding_on_signals(), tempfile.TemporaryDirectory(prefix="sqspider-check-") as folder:
            yield Path(folder) / "archive", Shared(f"sqlite:{folder}/check.db", shared.log_format, shared.log_level)
        return
    path, address = sqlite_path(shared.address), archive_of_frontier(shared.address, {})
    if path is None or address is None:
        raise click.UsageError("--frontier: a check works on this machine: name a file, as sqlite:PATH.")
    if Path(path).exists() or Path(address).exists():
        there = path if Path(path).exists() else address
        raise click.UsageError(f"--frontier: {there} is there, and a check begins afresh: name another, or remove it.")
    yield Path(address), shared


def _write(report: Report, *, as_json: bool, junit: Path | None, markdown: Path | None) -> None:
    if as_json:
        print(as_json_text(report))
    else:
        for line in as_text(report):
            print(line)
        if report.left is not None:
            print(f"not whole: {report.left}", file=sys.stderr)
    # Last: where there is no room for them, it was told even so.
    for path, lines in ((junit, as_junit), (markdown, as_markdown)):
        if path is not None:
            write_text(path, lines(report))
