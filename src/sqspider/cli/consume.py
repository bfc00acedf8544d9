"""``consume``: takes messages from the queue, races for their URLs, fetches what it won."""

from __future__ import annotations

import random
from typing import Any, Final

import click

from sqspider.cli.archiving import archive_options, lying_in, place_of, warn_if_nearly_full
from sqspider.cli.options import allowing_options, crawl_name, fetch_options
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.start import to_start
from sqspider.cli.worker import random_worker_id, to_worker_options, work_here, worker_options
from sqspider.log import get_logger
from sqspider.orders.start import with_archive
from sqspider.work.worker import Mode

STANDARD_OUTPUT: Final = 1

log = get_logger(__name__)


@click.command(cls=Command)
@click.option("--continuous", is_flag=True, help="Go on polling until stopped.")
@click.option("--until-empty", is_flag=True, help="Go on until nothing is left to do.")
@click.option("--worker-id", help="The worker's name.  [default: six random characters]")
@click.option("--with-parent", is_flag=True, hidden=True, help="Stop when standard input ends.")
@click.option("--crawl", callback=crawl_name, hidden=True)
@click.option("--max-pages", type=click.IntRange(min=1), hidden=True)
@click.option("--run", hidden=True)
@worker_options
@archive_options
@fetch_options
@allowing_options
@pass_shared
def consume(
    shared: Shared, /, continuous: bool, until_empty: bool, worker_id: str | None, with_parent: bool,
    crawl: str | None, max_pages: int | None, run: str | None, **given: Any,
) -> int:  # fmt: skip
    """Take messages from the queue, race for their URLs, fetch what was won.

    It serves all crawls of the frontier, each by its own options. How it fetches itself is for pages of no crawl; and
    what goes beyond the ordinary, crawls get only where it is said here, too: --allow-private, --allow-any-port, their
    proxy, their certificates, the origins that secrets are sent to. A crawl that asks for more waits, and it says why.

    What it fetches is kept where --archive says, as `crawl` keeps it. Where there is no room for more it stops, with
    exit status 1, and says so.

    Without --continuous or --until-empty one poll is made. Ctrl-C takes no more work, finishes or
    gives back what is in flight, and exits 0; a second one stops at once. Nothing is lost either way.
    """
    if continuous and until_empty:
        raise click.UsageError("--continuous and --until-empty exclude each other.")
    mode = Mode.CONTINUOUS if continuous else Mode.UNTIL_EMPTY if until_empty else Mode.ONCE
    start = with_archive(to_start(given), place_of(shared, given))
    name = worker_id or random_worker_id(random.Random())
    options = to_worker_options(given, name, max_pages=max_pages, run=run)
    shared.start_logging("info")
    if start.archive is not None and not with_parent:  # else its parent has said so
        log.info("keeping_pages", archive=start.archive.address, **lying_in(start.archive))
        warn_if_nearly_full(start.archive)
    return work_here(shared, mode, options, start, crawl=crawl, accounts=STANDARD_OUTPUT if with_parent else None)
