"""The SQLite frontier by itself: ``python -m bench.frontier``.

How many URLs a second go through enqueue, receive, claim and finish, by the size of the batch; how many bytes a URL
takes; and what each operation costs in processor time, by how many URLs the file holds. The exit status is 1 if a mark
is missed: what an operation costs must not grow with the file.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import resource
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import msgspec

from bench.corpus import BUILD
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import (
    ClaimRequest,
    Deferral,
    Delivery,
    Ends,
    Entrance,
    Entry,
    Exit,
    Finish,
    Frontier,
    FrontierSettings,
    Retry,
    SlotDemand,
    Taking,
    Turned,
    Won,
    open_frontier,
)
from sqspider.frontier.sqlite import SqliteFrontier
from sqspider.message import Message, decode_message
from sqspider.record import Outcome, Status

T = TypeVar("T")

OUTCOME: Final = Outcome(
    status=Status.DONE,
    http_status=200,
    content_type="text/html",
    bytes=51_234,
    digest=f"sha256:{'5a' * 32}",
    title="A page about something, and its title",
    elapsed_ms=143,
)
SETTINGS: Final = CrawlSettings()
BATCH: Final = 10
URLS: Final = 2_000  # that each operation is measured with
LINKS: Final = 50  # of a page
HOSTS: Final = 10_000
URLS_IN_A_ROW: Final = 40  # of one host, as the links of a page are
FINISHED: Final = 100_000  # for the bytes a finished URL takes

MOST_GROWTH: Final = 2.0  # of any operation, from the smallest file to the largest
LEAST_RATE: Final = 0.6  # of enqueueing, in the largest file to that in the one of RATE_SIZE
RATE_SIZE: Final = 100_000
BY_THE_THOUSAND: Final = "enqueue by the thousand"
STATUS: Final = "status (each)"
TURN: Final = "turn: finish, receive and claim"
MOST_STATUS_MICROSECONDS: Final = 50_000
MOST_QUEUED_BYTES: Final = 170
MOST_FINISHED_BYTES: Final = 320
MOST_FILLED_BYTES: Final = 430


async def cycle(file: Path, number: int, batch: int) -> float:
    """Take so many URLs through their life; the URLs a second."""
    frontier = await open_frontier(f"sqlite:{file}", FrontierSettings(), clock=time.time)
    started = time.monotonic()
    for start in range(0, number, batch):
        urls = [f"https://host-{n % 1000}.example/{batch}/{n}" for n in range(start, start + batch)]
        await frontier.enqueue([Entry(url=url, settings=SETTINGS) for url in urls])
        deliveries = await frontier.receive(batch)
        claims = await claimed(frontier, deliveries, str(start))
        assert await frontier.finish(finishes(claims, deliveries)) == [True] * batch
    seconds = time.monotonic() - started
    await frontier.close()
    return number / seconds


async def claimed(frontier: Frontier, deliveries: Sequence[Delivery], claim_id: str) -> list[Won]:
    """Claim what was delivered, all of it."""
    messages = [decode_message(delivery.body) for delivery in deliveries]
    requests = [
        ClaimRequest(delivery=delivery, message=message)
        for delivery, message in zip(deliveries, messages, strict=True)
        if isinstance(message, Message)
    ]
    claims = await frontier.claim(requests, worker_id="bench", claim_id=claim_id, lease_seconds=60)
    won = [claim for claim in claims if isinstance(claim, Won)]
    assert len(won) == len(deliveries)
    return won


def finishes(claims: Sequence[Won], deliveries: Sequence[Delivery]) -> list[Finish]:
    """The end of claims that went well."""
    return [
        Finish(claim=claim, delivery=delivery, outcome=OUTCOME)
        for claim, delivery in zip(claims, deliveries, strict=True)
    ]


class Costs:
    """Processor seconds of this process by operation, and how many URLs they were for."""

    def __init__(self) -> None:
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._urls: defaultdict[str, int] = defaultdict(int)

    async def of(self, name: str, urls: int, work: Awaitable[T]) -> T:
        started = _cpu_seconds()
        result = await work
        self._seconds[name] += _cpu_seconds() - started
        self._urls[name] += urls
        return result

    def microseconds(self) -> dict[str, float]:
        return {name: seconds / self._urls[name] * 1e6 for name, seconds in self._seconds.items()}


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def host_name(n: int) -> str:
    return f"www.host-{n // URLS_IN_A_ROW * 2_654_435_761 % HOSTS:05d}.example"


def url_of(n: int) -> str:
    """The n-th URL, of 70 characters."""
    return f"https://{host_name(n)}/section-{n % 7}/articles/{n:09d}-title.html"


def entries(numbers: Sequence[int]) -> list[Entry]:
    """URLs, each found on a page that was recorded long before."""
    return [Entry(url=url_of(n), depth=n % 6, parent=url_of(n // LINKS), settings=SETTINGS) for n in numbers]


class Measured(NamedTuple):
    """What was measured in a file with so many URLs."""

    bytes_a_url: float
    microseconds: dict[str, float]
    peak_bytes: int


def measured_among(file: Path, known: int) -> Measured:
    """Measure in a file with so many URLs, all of them queued."""
    asyncio.run(_load(file, known))
    size = file.stat().st_size
    microseconds = asyncio.run(_costs(file, known))
    return Measured(size / known, microseconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


async def _load(file: Path, known: int) -> None:
    frontier = await open_frontier(f"sqlite:{file}", FrontierSettings(), clock=time.time)
    for start in range(0, known, 1000):
        await frontier.enqueue(entries(range(start, start + 1000)))
    await frontier.close()


async def _costs(file: Path, known: int) -> dict[str, float]:
    """What each operation costs a URL, in microseconds of processor time."""
    now = time.time()  # the clock stands still: nothing comes to its time by itself, however long this takes
    frontier = await open_frontier(f"sqlite:{file}", FrontierSettings(), clock=lambda: now)
    costs, rng = Costs(), random.Random(known)
    new = known
    for _ in range(20):
        await costs.of(BY_THE_THOUSAND, 1000, frontier.enqueue(entries(range(new, new + 1000))))
        new += 1000
    for start in range(new, new + URLS, BATCH):
        await costs.of("enqueue", BATCH, frontier.enqueue(entries(range(start, start + BATCH))))
    new += URLS
    later = now + 3600
    for start in range(0, URLS, BATCH):
        first = await costs.of("receive", BATCH, frontier.receive(BATCH))
        claims = await costs.of("claim", BATCH, claimed(frontier, first, f"a{start}"))
        await costs.of("finish", BATCH, frontier.finish(finishes(claims, first)))
        second = await costs.of("receive", BATCH, frontier.receive(BATCH))
        claims = await costs.of("claim", BATCH, claimed(frontier, second, f"b{start}"))
        retries = [
            Retry(claim=claim, delivery=delivery, at=later, tried=True)
            for claim, delivery in zip(claims, second, strict=True)
        ]
        await costs.of("retry", BATCH, frontier.retry(retries))
        third = await costs.of("receive", BATCH, frontier.receive(BATCH))
        await costs.of("defer", BATCH, frontier.defer([Deferral(delivery=d, until=later) for d in third]))
    await _turns(frontier, costs)
    for _ in range(20):  # pages of which a half of the links is known
        links = [rng.randrange(known) for _ in range(LINKS // 2)] + list(range(new, new + LINKS // 2))
        new += LINKS // 2
        await costs.of("link, half of them known", LINKS, frontier.enqueue(entries(links)))
    hosts = [host_name(n) for n in range(0, URLS * 3, URLS_IN_A_ROW)]
    for host in hosts:  # two thirds of its first URLs were put off
        await costs.of("release_host", URLS_IN_A_ROW, frontier.release_host(host))
    lose_places(file, known - URLS + 1, URLS)
    assert await costs.of("sweep", URLS, frontier.sweep(URLS)) == URLS
    for number, start in enumerate(range(0, len(hosts), BATCH)):
        some = hosts[start : start + BATCH]
        await costs.of("reserve", len(some), frontier.reserve([demand(host) for host in some]))
        await costs.of("enter", len(some), frontier.enter([entrance(host, f"t{number}", now) for host in some]))
        exits = [Exit(host=host, token=f"t{number}", requested_at=now, latency_seconds=0.1) for host in some]
        await costs.of("leave", len(some), frontier.leave(exits))
    for _ in range(50):
        await costs.of(STATUS, 1, status(frontier))
    await frontier.close()
    return costs.microseconds()


async def _turns(frontier: Frontier, costs: Costs) -> None:
    """Turns, each of so many ends, and of as many that are taken and claimed."""
    assert isinstance(frontier, SqliteFrontier)
    turned, ends = Turned(finished=(), retried=(), taken=(), hosts={}), Ends()
    for start in range(0, URLS, BATCH):
        taking = Taking(limit=BATCH, worker_id="bench", claim_id=f"t{start}", lease_seconds=60, claims=lambda _: True)
        turned = await costs.of(TURN, BATCH, frontier.turn(ends, taking))
        assert len(turned.taken) == BATCH
        assert list(turned.finished) == [True] * len(ends.finishes)
        claims = [taken.claim for taken in turned.taken if isinstance(taken.claim, Won)]
        ends = Ends(finishes=finishes(claims, [taken.delivery for taken in turned.taken]))
    await frontier.finish(ends.finishes)


def demand(host: str) -> SlotDemand:
    return SlotDemand(host=host, count=1, spacing_seconds=1.0, generation=0)


def entrance(host: str, token: str, now: float) -> Entrance:
    return Entrance(host=host, token=token, delay_seconds=1.0, per_host=1, generation=0, until=now + 60)


def lose_places(file: Path, first: int, count: int) -> None:
    """Let records lose their places in the queue, as if by hand, and be past their time."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        statement = "UPDATE record SET queue = NULL, due_at = 1 WHERE id >= ? AND id < ?"
        connection.execute(statement, (first, first + count))


class Sizes(NamedTuple):
    """Bytes that a finished URL takes."""

    finished: float
    filled: float  # with the columns that later visits and the archive fill, too


def finished_sizes(folder: Path) -> Sizes:
    """Finish many URLs, one after the other as a crawl does, and see how large their file is."""
    sizes = []
    for is_filled in (False, True):
        file = folder / f"finished-{is_filled}.db"
        asyncio.run(_finish_all(file, is_filled))
        sizes.append(file.stat().st_size / FINISHED)
        file.unlink()
    return Sizes(*sizes)


# What only later versions will write; moments of days ago in whole seconds, as sitemaps and archives have them.
FILL: Final = """
UPDATE record SET capture = ?, validators = ?, visit = 3, changed_at = ?, lastmod = ?, cut = 2, redirects = 1, tries = 1
WHERE id = ?
"""
CAPTURE: Final = msgspec.msgpack.encode([12, 734_003_200, 18_234])
VALIDATORS: Final = msgspec.msgpack.encode(['"5e8d-62a1f09b7c3d4"', 1_764_000_000])
FILLED: Final = (CAPTURE, VALIDATORS, 1_764_000_000, 1_763_000_000)


async def _finish_all(file: Path, is_filled: bool) -> None:
    await _load(file, FINISHED)
    frontier = await open_frontier(f"sqlite:{file}", FrontierSettings(), clock=time.time)
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        while deliveries := await frontier.receive(50):
            claims = await claimed(frontier, deliveries, f"{deliveries[0].message_id:>16}")
            ends = finishes(claims, deliveries)
            if is_filled:
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(FILL, [(*FILLED, int(delivery.message_id)) for delivery in deliveries])
                connection.execute("COMMIT")
                ends = [with_redirect(end) for end in ends]
            await frontier.finish(ends)
    await frontier.close()


def with_redirect(end: Finish) -> Finish:
    outcome = msgspec.structs.replace(end.outcome, redirect_to=end.claim.url.replace("title", "other"))
    return msgspec.structs.replace(end, outcome=outcome)


async def status(frontier: Frontier) -> None:
    """What ``sqspider status`` asks for, but for the hosts."""
    await frontier.counts()
    await frontier.queue_stats()
    await frontier.workers()


def table(sizes: Sequence[int], measured: Sequence[Measured]) -> list[str]:
    """The figures as a table in Markdown."""
    head = [f"{size:,} URLs" for size in sizes] + [f"{sizes[-1]:,} ÷ {sizes[0]:,}"]
    lines = ["| | " + " | ".join(head) + " |", "|---|" + "--:|" * len(head)]

    def line(name: str, figures: Sequence[float], form: str) -> None:
        cells = [f"{figure:{form}}" for figure in figures]
        lines.append(f"| {name} | {' | '.join(cells)} | {figures[-1] / figures[0]:.2f} |")

    line("bytes a queued URL", [m.bytes_a_url for m in measured], ".1f")
    line("peak memory of the process, MB", [m.peak_bytes / 1e6 for m in measured], ".0f")
    for name in measured[0].microseconds:
        line(f"{name}, CPU µs", [m.microseconds[name] for m in measured], ".1f")
    return lines


def missed(sizes: Sequence[int], measured: Sequence[Measured], finished: Sizes | None) -> list[str]:
    """The marks that are missed, in words."""
    first, last = measured[0], measured[-1]
    grown = {name: cost / first.microseconds[name] for name, cost in last.microseconds.items()}
    found = [f"{name}: {growth:.2f} times as much" for name, growth in grown.items() if growth > MOST_GROWTH]
    if RATE_SIZE in sizes:
        rate = measured[sizes.index(RATE_SIZE)].microseconds[BY_THE_THOUSAND] / last.microseconds[BY_THE_THOUSAND]
        print(f"\nenqueueing goes at {rate:.2f} of the rate among {RATE_SIZE:,}")
        found += [f"the rate of enqueueing: {rate:.2f}"] if rate < LEAST_RATE else []
    large = [m for size, m in zip(sizes, measured, strict=True) if size >= RATE_SIZE]  # a small one is half empty
    found += [f"{m.bytes_a_url:.1f} bytes a queued URL" for m in large if m.bytes_a_url > MOST_QUEUED_BYTES]
    found += [STATUS for m in measured if m.microseconds[STATUS] > MOST_STATUS_MICROSECONDS]
    if finished is not None and (finished.finished > MOST_FINISHED_BYTES or finished.filled > MOST_FILLED_BYTES):
        found.append(f"bytes a finished URL: {finished}")
    return found


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.frontier", description=__doc__)
    parser.add_argument("--urls", type=int, default=5_000, help="for each size of batch (default: 5,000; 0: none)")
    parser.add_argument("--no-sizes", action="store_true", help="leave out the bytes a finished URL takes")
    parser.add_argument(
        "--known",
        type=int,
        nargs="+",
        default=[10_000, RATE_SIZE, 1_000_000],
        help="how many URLs the file holds (default: 10000 100000 1000000)",
    )
    given = parser.parse_args()
    return in_scratch_folder(lambda folder: measure(folder, given.urls, not given.no_sizes, given.known))


def in_scratch_folder(work: Callable[[Path], int]) -> int:
    """Do something in a folder that is removed afterwards."""
    BUILD.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=BUILD))
    try:
        return work(folder)
    finally:
        shutil.rmtree(folder)


def in_a_process(work: Callable[..., T], *arguments: object) -> T:
    """Do something in a process of its own, so that its peak of memory is its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def measure(folder: Path, urls: int, with_sizes: bool, known: Sequence[int]) -> int:
    """Measure all of it; 1 if a mark is missed."""
    for batch in (1, 10, 100) if urls else ():
        number = urls // 10 if batch == 1 else urls
        rate = asyncio.run(cycle(folder / f"{batch}.db", number, batch))
        print(f"batches of {batch:>3}: {rate:>8,.0f} URLs a second, from enqueue to finish", flush=True)
    finished = None
    if with_sizes:
        finished = in_a_process(finished_sizes, folder)
        print(
            f"bytes a finished URL: {finished.finished:.0f}; with all columns filled: {finished.filled:.0f}", flush=True
        )
    measured = []
    for size in known:
        file = folder / f"{size}.db"
        measured.append(in_a_process(measured_among, file, size))
        print(f"{size:,}: measured, {file.stat().st_size / 1e6:,.0f} MB", file=sys.stderr, flush=True)
        file.unlink()
    print("\n".join(table(known, measured)))
    if failed := missed(known, measured, finished):
        print(f"marks missed: {'; '.join(failed)}", file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
