"""``crawl``: what its options mean. The run is in ``crawl_run``."""

from __future__ import annotations

import random
from typing import Any

import click
import msgspec

from sqspider.cli.accounts import Accounts
from sqspider.cli.archiving import archive_options, place_of
from sqspider.cli.asking import yes_to_costs_option
from sqspider.cli.config_file import FOUND, config_option
from sqspider.cli.crawl_run import Again, CrawlRun
from sqspider.cli.extract_options import extract_options, to_follow
from sqspider.cli.forking import Forked, can_fork, fork_workers
from sqspider.cli.lists import ListFile, list_options
from sqspider.cli.options import (
    Duration,
    assume_http,
    crawl_option,
    crawl_options,
    fetch_options,
    identity_options,
    limit_options,
    secrets_option,
)
from sqspider.cli.order import order_from
from sqspider.cli.output import check_format, output_option
from sqspider.cli.said import checked_said, unset_option
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.start import check_lease, checked_secrets, to_start
from sqspider.cli.worker import (
    import_all,
    random_worker_id,
    run_loop,
    to_worker_options,
    within_limits,
    work_here,
    worker_options,
)
from sqspider.frontier import IN_MEMORY
from sqspider.orders.start import Start, with_archive
from sqspider.url import Scope
from sqspider.work.crawl_orders import new_id
from sqspider.work.options import WorkerOptions
from sqspider.work.worker import Mode


@click.command(cls=Command)
@click.argument("urls", nargs=-1, metavar="[URL]...")
@crawl_option("The crawl's name; each has records, options and limits of its own.  [default: default]")
@config_option(
    "Make the crawl by a file (TOML): its name, URLs and options. `crawls show --toml` writes one, and "
    f"`crawls set --config` applies it later.  [default: {FOUND}, if it is here]"
)
@unset_option
@list_options
@assume_http
@click.option(
    "--max-pages",
    type=click.IntRange(min=1),
    metavar="N",
    help="Stop this run when so many pages were fetched, redirects not counted. The rest stays queued.",
)
@click.option(
    "--sitemaps",
    "with_sitemaps",
    is_flag=True,
    help="First enqueue what the sitemaps of the sites of the URLs given by themselves list: those that robots.txt "
    "names, and /sitemap.xml.",
)
@click.option(
    "--again",
    "is_again",
    is_flag=True,
    help="Visit all that is done or failed once more. A server that can tell sends only what has changed.",
)
@click.option("--older-than", type=Duration(), help="With --again: only what ended so long ago: 90s, 15m, 2h, 3d.")
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, metavar="N", help="Worker processes."
)
@yes_to_costs_option
@click.option(
    "--dry-run",
    "is_dry_run",
    is_flag=True,
    help="Fetch the URLs given alone, ten at most, and tell what would become of the links there, and by which rule. "
    "As of a new crawl, by what is said here: no frontier is opened or made.",
)
@output_option("Write a row for each finished URL of the crawl when it ends.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON; of --dry-run a line for each link.")
@click.option("--quiet", is_flag=True, help="Show no progress.")
@crawl_options(scope=Scope.HOST)
@limit_options
@fetch_options
@identity_options
@secrets_option
@worker_options
@archive_options
@extract_options
@pass_shared
def crawl(
    shared: Shared, /, urls: tuple[str, ...], assume_http: bool, max_pages: int | None, with_sitemaps: bool,
    is_again: bool, older_than: float | None, workers: int, yes: bool, is_dry_run: bool, output: str | None,
    as_json: bool, quiet: bool, **given: Any,
) -> int:  # fmt: skip
    """Crawl from URLs, given by themselves or in a file, until nothing is left.

    A crawl lies in the frontier, with its options: one that was stopped or killed goes on when `crawl` is said
    again, with no URL, exactly as before. Said with options it is changed by them, for what is queued, too; said with
    further URLs it gets them. Other URLs with other options are another crawl: --crawl gives it a name.

    --again visits what is known of the crawl once more. A server that names a version or a date of a page is asked
    whether it has changed; if not, what is known of it stays. A page that fails keeps what its last good visit brought.

    --dry-run begins nothing: it takes one look, and tells what would be fetched next. Exit status 1 if one of the URLs
    could not be looked at.

    What is fetched is kept as WARC files in a folder beside the frontier, or where --archive says. A page is durable
    there before its record is final; `sqspider archive` looks into it.

    --extract makes rows of the pages as they come, in a process of its own: a crawl never waits for it, and no kill
    loses or doubles a row. `extract` makes other rows of the same pages, later.

    --max-pages, --workers, --sitemaps, --output, --again, --extract and the options on how it works and where pages are
    kept are of one run: say them again.
    """
    list_file = ListFile.named(given)
    start = to_start(given)
    is_kept, secrets_folder = shared.frontier != IN_MEMORY, start.secrets_folder
    order = order_from(click.get_current_context(), is_run=True, is_kept=is_kept, secrets_folder=secrets_folder)
    checked_secrets(checked_said(order.spoken).identity, start.secrets)
    urls = urls or (order.config.urls if order.config else ())
    if is_dry_run:
        from sqspider.cli.dry_run import told_ahead  # here: no crawl needs it

        return told_ahead(urls, list_file, order, start, given, as_json=as_json, assume_http=assume_http)
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
    check_format(output)
    start = with_archive(start, place_of(shared, given))
    following = to_follow(given, order.config, shared.frontier, start.archive, order.name)
    options = to_worker_options(
        given, random_worker_id(random.Random()), max_pages=max_pages, run=new_id(random.SystemRandom())
    )
    check_lease(options, start)
    if workers == 1:
        options = within_limits(options)
    accounts = Accounts() if workers > 1 else None
    forked = _forked(workers, shared, options, start, order.name, accounts.pipe) if accounts and can_fork() else []
    try:
        run = CrawlRun(
            shared, order, options, start, list_file, workers=workers, forked=forked, accounts=accounts, quiet=quiet,
            again=again, yes=yes, following=following,
        )  # fmt: skip
        return run_loop(run.run(urls, output, with_sitemaps=with_sitemaps, as_json=as_json, assume_http=assume_http))
    finally:
        for worker in forked:
            worker.stop()


def _forked(
    number: int, shared: Shared, options: WorkerOptions, start: Start, crawl: str, accounts: int
) -> list[Forked]:
    """Workers that wait for the crawl to begin, and are told then by what start."""

    def work(told: bytes) -> int:
        own = msgspec.structs.replace(options, worker_id=random_worker_id(random.Random()))
        return work_here(shared, Mode.UNTIL_EMPTY, own, Start.decode(told), crawl=crawl, accounts=accounts)

    import_all(shared.frontier, start)  # once, for all of them
    try:
        return fork_workers(number, work)
    except OSError as error:  # those that are there already end with this process
        why = f"{number} workers cannot be started here: {error.strerror}. Ask for fewer."
        raise click.ClickException(why) from None
