"""One worker in this process, for `crawl` and `consume`: its options, what it is given, how it is run."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import random
import sys
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import click
import msgspec

from sqspider.capture import Store
from sqspider.cli.accounts import Account, tell
from sqspider.cli.archiving import full_words
from sqspider.cli.exit_status import GOOD, INTERRUPTED, NOT_ALL_GOOD
from sqspider.cli.frontier import opened
from sqspider.cli.options import checked, within
from sqspider.cli.sections import section
from sqspider.cli.shared import Shared
from sqspider.cli.signals import stop_with_parent, stopping_on_signals
from sqspider.cli.start import check_lease
from sqspider.frontier import Frontier, Traits, import_adapter
from sqspider.log import bind, get_logger
from sqspider.orders.keeping import is_folder
from sqspider.orders.start import Start
from sqspider.orders.store import store_opened
from sqspider.transport import descriptors
from sqspider.web.fetch import Fetcher
from sqspider.work.options import WorkerOptions
from sqspider.work.upkeep import WorkerIdTakenError
from sqspider.work.worker import Mode, Worker

_WORKER: Final = WorkerOptions(worker_id="worker")

log = get_logger(__name__)

T = TypeVar("T")

worker_options = section(
    "How it works",
    click.option(
        "--concurrency",
        type=within(WorkerOptions.ranges["concurrency"]),
        default=_WORKER.concurrency,
        show_default=True,
        metavar="N",
        help="Fetches at a time, over all hosts.",
    ),
    click.option(
        "--batch-size",
        type=within(WorkerOptions.ranges["batch_size"]),
        metavar="N",
        help="Messages taken in one poll; without it 10 from SQS, and from a file what there is room for.",
    ),
    click.option(
        "--lease",
        "lease_seconds",
        type=within(WorkerOptions.ranges["lease_seconds"]),
        default=_WORKER.lease_seconds,
        show_default=True,
        metavar="SECONDS",
        help="How long a claim holds. If its worker dies, the URL comes back after this time.",
    ),
    click.option(
        "--robots-grace",
        "robots_grace_seconds",
        type=within(WorkerOptions.ranges["robots_grace_seconds"]),
        default=_WORKER.robots_grace_seconds,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for a robots.txt that cannot be had: 5xx, 429, or no answer.",
    ),
    click.option(
        "--new-host-grace",
        "new_host_grace_seconds",
        type=within(WorkerOptions.ranges["new_host_grace_seconds"]),
        default=_WORKER.new_host_grace_seconds,
        show_default=True,
        metavar="SECONDS",
        help="How long to wait for a host that cannot be reached and never was, before it is given up: then its URLs "
        "fail. Five probes at least.",
    ),
    click.option(
        "--host-grace",
        "host_grace_seconds",
        type=within(WorkerOptions.ranges["host_grace_seconds"]),
        default=_WORKER.host_grace_seconds,
        show_default=True,
        metavar="SECONDS",
        help="The same for a host that has answered before.",
    ),
)


def to_worker_options(given: dict[str, Any], worker_id: str, **more: Any) -> WorkerOptions:
    """How a worker works, from the options; ``more`` are fields without one."""
    same = (
        "concurrency", "batch_size", "lease_seconds", "robots_grace_seconds", "new_host_grace_seconds",
        "host_grace_seconds",
    )  # fmt: skip
    with checked():
        return WorkerOptions(worker_id=worker_id, **{name: given[name] for name in same}, **more)


def random_worker_id(rng: random.Random) -> str:
    """Six random characters."""
    return "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=6))


def within_limits(options: WorkerOptions) -> WorkerOptions:
    """The options with no more fetches at a time than this process may have connections open."""
    descriptors.raise_limit()
    most = descriptors.room_for_connections()
    if most is None or most >= options.concurrency:
        return options
    log.warning("concurrency_capped", asked=options.concurrency, kept=most, open_files=descriptors.limit())
    return msgspec.structs.replace(options, concurrency=most)


def polling(options: WorkerOptions, mode: Mode, traits: Traits) -> WorkerOptions:
    """The options with polls as long as the frontier would have them from who polls for ever."""
    if mode is not Mode.CONTINUOUS:
        return options
    return msgspec.structs.replace(options, poll_seconds=traits.poll_seconds)


def run_loop(main: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine on the quicker event loop, where there is one."""
    gc.freeze()  # what was imported stays: neither a collection nor the end of the process looks at it again
    try:
        import uvloop
    except ImportError:  # not built for this platform: asyncio's own loop does the same, more slowly
        # Not the proactor, which Windows has by default: it cannot wait for libcurl's sockets.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            return runner.run(main)
    return uvloop.run(main)


def import_all(frontier: str, start: Start) -> None:
    """Import what a worker imports only as it starts to work with a frontier of this address."""
    with contextlib.suppress(ImportError):
        importlib.import_module("uvloop")
    import_adapter(frontier)
    if start.archive is not None:
        importlib.import_module("sqspider.archive.store")
        sink = "folder_sink" if is_folder(start.archive.address) else "bucket_sink"
        importlib.import_module(f"sqspider.archive.{sink}")


def worker_for(
    frontier: Frontier, fetcher: Fetcher, options: WorkerOptions, start: Start, store: Store | None = None
) -> Worker:
    """A worker as its start says; ``store``: of the place that it names, opened here."""
    return Worker(
        frontier,
        fetcher,
        options,
        clock=frontier.now,
        rng=random.Random(),
        store=store,
        allowed=start.allowed,
        secrets=start.secrets,
    )


async def run_worker(worker: Worker, mode: Mode, crawl: str | None) -> None:
    """Let a worker work until its mode ends it, with one crawl or with all.

    Raises ``click.UsageError`` if its name is taken.
    """
    try:
        await worker.run(mode, crawl=crawl)
    except WorkerIdTakenError as error:
        raise click.UsageError(str(error)) from None


def work_here(
    shared: Shared, mode: Mode, options: WorkerOptions, start: Start, *, crawl: str | None, accounts: int | None = None
) -> int:
    """Work in this process until the mode or a signal ends it; the exit status.

    ``crawl``: the crawl by whose end "nothing is left" goes; none: all. ``accounts``: the pipe in which its parent
    hears what it did; then the end of standard input ends it, too.
    """
    check_lease(options, start)
    options = within_limits(options)
    if shared.log_format == "json":  # a person sees one worker's lines, a program those of many
        bind(worker_id=options.worker_id)
    return run_loop(_work(shared, mode, options, start, crawl, accounts))


async def _work(
    shared: Shared, mode: Mode, options: WorkerOptions, start: Start, crawl: str | None, accounts: int | None
) -> int:
    async with (
        opened(shared, options.lease_seconds) as frontier,
        Fetcher(start.fetch, connections=options.concurrency) as fetcher,
        store_opened(start, frontier) as store,
    ):
        worker = worker_for(frontier, fetcher, polling(options, mode, frontier.traits), start, store)
        status = GOOD

        def stop() -> None:
            nonlocal status
            status = GOOD if accounts is None else INTERRUPTED  # a parent did not ask for it, and replaces this worker
            worker.stop()

        if accounts is not None:
            stop_with_parent(worker.stop)
        with stopping_on_signals(stop):
            await run_worker(worker, mode, crawl)
        if accounts is not None:
            tell(accounts, Account(worker.tally.again, worker.stopped_by))
        elif worker.stopped_by is not None:
            assert start.archive is not None
            print(f"stopped: {full_words(worker.stopped_by, start.archive)}", file=sys.stderr)
            status = NOT_ALL_GOOD
    return status
