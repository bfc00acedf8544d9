"""The SQLite frontier by itself: ``python -m bench.frontier``.

How many URLs a second go through enqueue, receive, claim and finish, by the size of the batch; and what each
operation costs a URL in processor time, by how many URLs wait. What a URL costs must not grow with the queue:
beyond ``MOST_GROWTH`` times the cost at the smallest size, the exit status is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sqlite3
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar

from bench.corpus import BUILD
from sqspider.frontier import (
    ClaimRequest,
    Deferral,
    Delivery,
    Entry,
    Finish,
    Frontier,
    FrontierSettings,
    Retry,
    Won,
    open_frontier,
)
from sqspider.message import CrawlSettings, Message, decode_message
from sqspider.record import Outcome, Status

T = TypeVar("T")

OUTCOME: Final = Outcome(status=Status.DONE, http_status=200, bytes=50_000, elapsed_ms=100)
SETTINGS: Final = CrawlSettings()
BATCH: Final = 10
URLS: Final = 2_000  # that each operation is measured with
URLS_OF_A_HOST: Final = 100
MOST_GROWTH: Final = 1.5
HELD: Final = ("receive", "claim", "finish", "retry", "defer", "sweep")  # to MOST_GROWTH


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
        started = time.process_time()
        result = await work
        self._seconds[name] += time.process_time() - started
        self._urls[name] += urls
        return result

    def microseconds(self) -> dict[str, float]:
        return {name: seconds / self._urls[name] * 1e6 for name, seconds in self._seconds.items()}


def entries(numbers: range, path: str) -> list[Entry]:
    """URLs of many hosts, each of which has a hundred."""
    return [
        Entry(url=f"https://host-{n // URLS_OF_A_HOST}.example/{path}/page-{n}.html", settings=SETTINGS)
        for n in numbers
    ]


async def costs_among(file: Path, waiting: int) -> dict[str, float]:
    """What each operation costs a URL while so many wait, in microseconds of processor time."""
    now = time.time()  # the clock stands still: nothing comes to its time by itself, however long this takes
    frontier = await open_frontier(f"sqlite:{file}", FrontierSettings(), clock=lambda: now)
    for start in range(0, waiting, 1000):
        await frontier.enqueue(entries(range(start, start + 1000), "section"))
    costs = Costs()
    for start in range(0, URLS, BATCH):
        await costs.of("enqueue", BATCH, frontier.enqueue(entries(range(start, start + BATCH), "new")))
    for start in range(0, URLS, BATCH):
        first = await costs.of("receive", BATCH, frontier.receive(BATCH))
        claims = await costs.of("claim", BATCH, claimed(frontier, first, f"a{start}"))
        await costs.of("finish", BATCH, frontier.finish(finishes(claims, first)))
        second = await costs.of("receive", BATCH, frontier.receive(BATCH))
        claims = await costs.of("claim", BATCH, claimed(frontier, second, f"b{start}"))
        later = now + 3600
        retries = [
            Retry(claim=claim, delivery=delivery, at=later, tried=True)
            for claim, delivery in zip(claims, second, strict=True)
        ]
        await costs.of("retry", BATCH, frontier.retry(retries))
        third = await costs.of("receive", BATCH, frontier.receive(BATCH))
        await costs.of("defer", BATCH, frontier.defer([Deferral(delivery=d, until=later) for d in third]))
    for host in range(URLS // URLS_OF_A_HOST):  # two thirds of its messages were put off
        await costs.of("release_host", URLS_OF_A_HOST, frontier.release_host(f"host-{host}.example"))
    hosts = range(waiting // URLS_OF_A_HOST - URLS // URLS_OF_A_HOST, waiting // URLS_OF_A_HOST)
    by_hand(file, "UPDATE record SET due_at = 1 WHERE url LIKE ?", hosts)
    assert await costs.of("sweep, their messages wait", URLS, frontier.sweep(URLS)) == 0
    by_hand(file, "UPDATE record SET due_at = 1 WHERE url LIKE ?", hosts)
    by_hand(file, "DELETE FROM message WHERE url LIKE ?", hosts)
    assert await costs.of("sweep", URLS, frontier.sweep(URLS)) == URLS
    for _ in range(50):
        await costs.of("status (each)", 1, status(frontier))
    await frontier.close()
    return costs.microseconds()


def by_hand(file: Path, statement: str, hosts: range) -> None:
    """Run a statement for the URLs of some hosts, beside the frontier."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute("PRAGMA case_sensitive_like = ON")  # so that LIKE reads a part of the index only
        connection.execute("BEGIN IMMEDIATE")
        for host in hosts:
            connection.execute(statement, (f"https://host-{host}.example/section/%",))
        connection.execute("COMMIT")


async def status(frontier: Frontier) -> None:
    """What ``sqspider status`` asks for, but for the hosts."""
    await frontier.counts()
    await frontier.queue_stats()
    await frontier.workers()


def table(sizes: Sequence[int], measured: Sequence[dict[str, float]]) -> list[str]:
    """The figures as a table in Markdown."""
    head = [f"{size:,} waiting" for size in sizes] + [f"{size:,} ÷ {sizes[0]:,}" for size in sizes[1:]]
    lines = ["| CPU µs a URL | " + " | ".join(head) + " |", "|---|" + "--:|" * len(head)]
    for name in measured[0]:
        costs = [f"{cost[name]:.1f}" for cost in measured]
        growth = [f"{cost[name] / measured[0][name]:.2f}" for cost in measured[1:]]
        lines.append(f"| {name} | " + " | ".join(costs + growth) + " |")
    return lines


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.frontier", description=__doc__)
    parser.add_argument("--urls", type=int, default=5_000, help="for each size of batch (default: 5,000; 0: none)")
    parser.add_argument(
        "--waiting",
        type=int,
        nargs="+",
        default=[10_000, 1_000_000],
        help="sizes of the queue (default: 10000 1000000)",
    )
    given = parser.parse_args()
    return in_scratch_folder(lambda folder: measure(folder, given.urls, given.waiting))


def in_scratch_folder(work: Callable[[Path], int]) -> int:
    """Do something in a folder that is removed afterwards."""
    BUILD.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=BUILD))
    try:
        return work(folder)
    finally:
        shutil.rmtree(folder)


def measure(folder: Path, urls: int, sizes: Sequence[int]) -> int:
    """Measure both; 1 if an operation's cost grows."""
    for batch in (1, 10, 100) if urls else ():
        number = urls // 10 if batch == 1 else urls
        rate = asyncio.run(cycle(folder / f"{batch}.db", number, batch))
        print(f"batches of {batch:>3}: {rate:>8,.0f} URLs a second, from enqueue to finish", flush=True)
    measured = []
    for size in sizes:
        measured.append(asyncio.run(costs_among(folder / f"{size}.db", size)))
        print(f"{size:,} waiting: measured, {(folder / f'{size}.db').stat().st_size / 1e6:,.0f} MB", file=sys.stderr)
        (folder / f"{size}.db").unlink()
    print("\n".join(table(sizes, measured)))
    grown = [name for name in HELD if measured[-1][name] > MOST_GROWTH * measured[0][name]]
    if grown:
        print(f"more than {MOST_GROWTH} times as much with the queue: {', '.join(grown)}", file=sys.stderr)
    return bool(grown)


if __name__ == "__main__":
    sys.exit(main())
