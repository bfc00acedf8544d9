"""The memory of a crawl, with none, some and a million URLs known: ``python -m bench.memory``.

The frontier is filled through its port, then the corpus is crawled on top of it. With ``--hosts 100000`` so many hosts
are crawled instead, a page of each and its robots.txt, with a delay of a second between them.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from bench.corpus import BUILD, EXCLUDE, Corpus
from bench.rate import ManyHosts
from bench.rate import crawl as crawl_all
from bench.usage import Usage, run
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import ClaimRequest, Entry, Finish, FrontierSettings, Won, open_frontier
from sqspider.message import Message
from sqspider.record import Outcome, Status

LIMIT_BYTES: Final = 200_000_000
GROWTH_BYTES: Final = 20_000_000  # more than this, when ten times as many URLs are known, is growth
BATCH: Final = 1000
HOSTS: Final = 1000

OUTCOME: Final = Outcome(
    status=Status.DONE,
    http_status=200,
    content_type="text/html",
    bytes=50_000,
    digest=f"sha256:{'0' * 64}",
    title="A page that was crawled before",
    elapsed_ms=100,
)


async def fill(file: Path, finished: int, queued: list[str]) -> None:
    """Records that are finished, and URLs that are queued to be crawled."""
    settings = CrawlSettings(delay_seconds=0, obey_robots=False)
    frontier = await open_frontier(f"sqlite:{file}", FrontierSettings(), clock=time.time)
    try:
        for start in range(0, finished, BATCH):
            numbers = range(start, min(start + BATCH, finished))
            urls = [f"http://host-{number % HOSTS}.example/page/{number}" for number in numbers]
            await frontier.enqueue([Entry(url=url, settings=settings) for url in urls])
            deliveries = await frontier.receive(len(urls))
            requests = [
                ClaimRequest(delivery=delivery, message=Message(url=url))
                for delivery, url in zip(deliveries, urls, strict=True)
            ]
            claims = await frontier.claim(requests, worker_id="filler", claim_id=str(start), lease_seconds=60)
            await frontier.finish(
                [
                    Finish(claim=claim, delivery=delivery, outcome=OUTCOME)
                    for claim, delivery in zip(claims, deliveries, strict=True)
                    if isinstance(claim, Won)
                ]
            )
        await frontier.enqueue([Entry(url=url, settings=settings) for url in queued])
        counts = await frontier.counts()
        assert counts.by_status[Status.DONE] == finished, counts
    finally:
        await frontier.close()


def crawl(file: Path, url: str) -> Usage:
    """Crawl the corpus and what is queued, in a process of its own."""
    command = [
        sys.executable, "-m", "sqspider", "--frontier", f"sqlite:{file}", "crawl", url, "--quiet", "--json",
        "--delay", "0", "--allow-private", "--ignore-robots", "--exclude", EXCLUDE,
    ]  # fmt: skip
    return run(command, file.with_suffix(".out"))


def crawl_hosts(hosts: int) -> int:
    """Measure a crawl of many hosts; 1 if its memory is over the limit."""
    with tempfile.TemporaryDirectory() as folder, ManyHosts(Path(folder) / "nginx", pages=1) as server:
        made = crawl_all(server, Path(folder), hosts, 1.0, sys.executable, [], limit_seconds=3600.0)
    is_good = made.peak_bytes < LIMIT_BYTES
    print(f"{'good' if is_good else 'NOT GOOD'}: {hosts:,} hosts, {made}")
    return 0 if is_good else 1


def main() -> int:
    """Measure; 1 if the memory is over the limit, or grows with what is known."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory", description=__doc__)
    parser.add_argument("--records", type=int, default=1_000_000, help="finished records (default: 1,000,000)")
    parser.add_argument("--queued", type=int, default=5_000, help="URLs in the queue besides (default: 5,000)")
    parser.add_argument("--hosts", type=int, help="crawl so many hosts instead")
    given = parser.parse_args()
    if given.hosts is not None:
        return crawl_hosts(given.hosts)
    BUILD.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=BUILD))
    peaks = []
    try:
        with Corpus() as corpus:
            queued = [f"{corpus.url}missing/{number}" for number in range(given.queued)]
            # With none, SQLite's page cache stays empty; with a tenth it is full already.
            for records in (0, given.records // 10, given.records):
                file = folder / f"{records}.db"
                started = time.monotonic()
                asyncio.run(fill(file, records, queued))
                filled_seconds = time.monotonic() - started
                corpus.forget()
                usage = crawl(file, corpus.url)
                peaks.append(usage.peak_bytes)
                print(
                    f"{records:>9,} records finished before, {given.queued:,} queued ({filled_seconds:.0f} s to fill, "
                    f"{file.stat().st_size / 1e6:,.0f} MB): {corpus.requests().total():,} requests in "
                    f"{usage.seconds:.1f} s, peak {usage.peak_bytes / 1e6:.0f} MB",
                    flush=True,
                )
    finally:
        shutil.rmtree(folder)
    _, tenth, all_of_them = peaks
    is_good = max(peaks) < LIMIT_BYTES and all_of_them - tenth < GROWTH_BYTES
    print(
        f"{'good' if is_good else 'NOT GOOD'}: at most {LIMIT_BYTES / 1e6:.0f} MB, "
        f"and at most {GROWTH_BYTES / 1e6:.0f} MB more with {given.records:,} records than with a tenth of them"
    )
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
