"""``consume``: takes messages from the queue, races for their URLs, fetches what it won."""

from __future__ import annotations

import random
from typing import Any

import click

from sqspider.cli.exit_status import GOOD, INTERRUPTED
from sqspider.cli.frontier import opened
from sqspider.cli.options import fetch_options, to_fetch_options
from sqspider.cli.sections import Command
from sqspider.cli.shared import Shared, pass_shared
from sqspider.cli.signals import stop_with_parent, stopping_on_signals
from sqspider.cli.worker import (
    polling,
    random_worker_id,
    run_loop,
    run_worker,
    to_worker_options,
    within_limits,
    worker_options,
)
from sqspider.log import bind
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.worker import Mode, Worker


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
    fetch = to_fetch_options(given)
    name = worker_id or random_worker_id(random.Random())
    options = to_worker_options(given, name, fetch, max_pages=max_pages)
    shared.start_logging("info")
    options = within_limits(options)
    if shared.log_format == "json":  # a person sees one worker's lines, a program those of many
        bind(worker_id=options.worker_id)
    return run_loop(_consume(shared, mode, options, fetch, with_parent=with_parent))


async def _consume(
    shared: Shared, mode: Mode, options: WorkerOptions, fetch: FetchOptions, *, with_parent: bool
) -> int:
    async with (
        opened(shared, options.lease_seconds) as frontier,
        Fetcher(fetch, connections=options.concurrency) as fetcher,
    ):
        options = polling(options, mode, frontier.traits)
        worker = Worker(frontier, fetcher, options, clock=frontier.now, rng=random.Random())
        status = GOOD

        def stop() -> None:
            nonlocal status
            status = INTERRUPTED if with_parent else GOOD  # a parent did not ask for it, and replaces this worker
            worker.stop()

        if with_parent:
            stop_with_parent(worker.stop)
        with stopping_on_signals(stop):
            await run_worker(worker, mode)
    return status
