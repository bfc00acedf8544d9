"""The SQLite frontier by itself: ``python -m bench.frontier``.

How many URLs a second go through enqueue, receive, claim and finish, by the size of the batch; and how
long the counts take when very many records are there.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.corpus import BUILD
from sqspider.frontier import ClaimRequest, Entry, Finish, FrontierSettings, Won, open_frontier
from sqspider.message import CrawlSettings, Message
from sqspider.record import Outcome, Status

OUTCOME: Final = Outcome(status=Status.DONE, http_status=200, bytes=50_000, elapsed_ms=100)
SETTINGS: Final = CrawlSettings()


async def cycle(file: Path, number: int, batch: int) -> float:
    """Take so many URLs through their life; the URLs a second."""
    frontier = await open_frontier(f"sqlite:{file}", FrontierSettings(), clock=time.time)
    started = time.monotonic()
    for start in range(0, number, batch):
        urls = [f"https://host-{n % 1000}.example/{batch}/{n}" for n in range(start, start + batch)]
        await frontier.enqueue([Entry(url=url, settings=SETTINGS) for url in urls])
        deliveries = await frontier.receive(batch)
        requests = [ClaimRequest(delivery=d, message=Message(url=u)) for d, u in zip(deliveries, urls, strict=True)]
        claims = await frontier.claim(requests, worker_id="bench", claim_id=str(start), lease_seconds=60)
        finishes = [
            Finish(claim=claim, delivery=delivery, outcome=OUTCOME)
            for claim, delivery in zip(claims, deliveries, strict=True)
            if isinstance(claim, Won)
        ]
        assert await frontier.finish(finishes) == [True] * batch
    seconds = time.monotonic() - started
    await frontier.close()
    return number / seconds


async def count(file: Path, records: int) -> tuple[float, float]:
    """Record so many URLs; seconds of an enqueued batch of a thousand at the end, and of counting."""
    frontier = await open_frontier(f"sqlite:{file}", FrontierSettings(), clock=time.time)
    batch_seconds = []
    for start in range(0, records, 1000):
        entries = [
            Entry(url=f"https://host-{n % 1000}.example/{n}", settings=SETTINGS) for n in range(start, start + 1000)
        ]
        started = time.monotonic()
        await frontier.enqueue(entries)
        batch_seconds.append(time.monotonic() - started)
    count_seconds = []
    for _ in range(20):
        started = time.monotonic()
        counts = await frontier.counts()
        count_seconds.append(time.monotonic() - started)
        assert counts.total == records, counts
    await frontier.close()
    return statistics.median(batch_seconds[-20:]), statistics.median(count_seconds)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m bench.frontier", description=__doc__)
    parser.add_argument("--urls", type=int, default=5_000, help="for each size of batch (default: 5,000)")
    parser.add_argument("--records", type=int, default=1_000_000, help="to count among (default: 1,000,000)")
    given = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=BUILD))
    try:
        for batch in (1, 10, 100):
            number = given.urls // 10 if batch == 1 else given.urls
            rate = asyncio.run(cycle(folder / f"{batch}.db", number, batch))
            print(f"batches of {batch:>3}: {rate:>8,.0f} URLs a second, from enqueue to finish", flush=True)
        for records in (given.records // 10, given.records):
            file = folder / f"{records}-records.db"
            batch_seconds, count_seconds = asyncio.run(count(file, records))
            print(
                f"{records:>10,} records ({file.stat().st_size / 1e6:,.0f} MB): counted in "
                f"{count_seconds * 1e3:.2f} ms; the last thousands were recorded in {batch_seconds * 1e3:.0f} ms each",
                flush=True,
            )
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
