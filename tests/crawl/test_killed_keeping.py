"""Workers that keep what they fetch are killed at any moment: no record is final whose answer is not on the disk."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Sequence
from pathlib import Path

import pytest
from bench.kill import choose_moments

from sqspider.crawl_settings import CrawlSettings
from sqspider.demo_site import DemoSite
from sqspider.frontier import FrontierSettings, open_frontier
from sqspider.record import Reason
from sqspider.url import Scope
from sqspider.web.fetch import Fetcher, FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.worker import Mode, Worker
from tests.crawl.journal import Journal
from tests.crawl.test_crew import records_of

SETTINGS = CrawlSettings(scope=Scope.HOST, delay_seconds=0.0)
FETCH = FetchOptions(allow_private=True, timeout_seconds=10.0, captures=True, max_bytes=100_000)
LEASE_ENDS = 100.0  # seconds after which whatever a dead worker held is free


async def live(frontier_file: str, journal: str, gather_seconds: str, passed: str) -> None:
    """One worker's life, in a process of its own, so many seconds later than it is."""
    clock = lambda: time.time() + float(passed)  # noqa: E731
    frontier = await open_frontier(f"sqlite:{frontier_file}", FrontierSettings(), clock=clock)
    store = Journal(Path(journal), gather_seconds=float(gather_seconds))
    options = WorkerOptions(worker_id=store.file.name, concurrency=8, first_retry_seconds=0.05, lease_seconds=60.0)
    async with Fetcher(FETCH, connections=8) as fetcher:
        await Worker(frontier, fetcher, options, clock=clock, rng=random.Random(), store=store).run(Mode.UNTIL_EMPTY)
    await frontier.close()


async def begin(folder: Path, gather_seconds: float, number: int, who: str) -> Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.crawl.test_killed_keeping", folder / "f.db", folder / f"journal-{number}-{who}",
        str(gather_seconds), str(number * LEASE_ENDS), stdout=asyncio.subprocess.DEVNULL,
    )  # fmt: skip


async def lives(folder: Path, site: DemoSite, gather_seconds: float, moments: Sequence[int]) -> None:
    """Two workers at a time, until both are killed; the last ones work to the end."""
    rng = random.Random(len(moments))
    for number, moment in enumerate([*moments, None]):
        pair = [await begin(folder, gather_seconds, number, who) for who in "ab"]
        if moment is not None:
            await site.until(moment)
            await asyncio.sleep(rng.uniform(0, 0.05))  # so that writes and ends are hit, too
            for process in pair:
                process.kill()
        for process in pair:
            assert await process.wait() == (0 if moment is None else -9)


@pytest.mark.parametrize(
    ("gather_seconds", "kills"),
    [
        (0.0, 3),
        pytest.param(0.0, 50, marks=[pytest.mark.prove, pytest.mark.timeout(3600)]),
        pytest.param(0.3, 50, marks=[pytest.mark.prove, pytest.mark.timeout(3600)]),
    ],
)
async def test_no_record_is_final_whose_answer_is_not_on_the_disk(
    tmp_path: Path, gather_seconds: float, kills: int
) -> None:
    async with DemoSite(30 * kills, slow_seconds=0.2, trap_depth=5) as site:
        frontier = await open_frontier(f"sqlite:{tmp_path / 'f.db'}", FrontierSettings(), clock=time.time)
        await produce(frontier, [site.url], SETTINGS, on_refused=print)
        await lives(tmp_path, site, gather_seconds, choose_moments(20 * kills, kills, random.Random(kills)))
        records = await records_of(frontier)
        await frontier.close()
    journals = {file: Journal(tmp_path / file) for file in os.listdir(tmp_path) if file.startswith("journal-")}
    kept = 0
    for record in records:
        outcome = record.outcome
        assert record.status.is_final
        assert outcome is not None
        if outcome.http_status is None:
            assert outcome.reason in (Reason.ROBOTS, Reason.REPEATING_PATH, Reason.CRASHED, Reason.CONNECTION_RESET)
            continue
        assert outcome.capture is not None, record
        line = journals[outcome.capture.file].read(outcome.capture)
        assert (line["url"], line["status"]) == (record.url, outcome.http_status)
        kept += 1
    assert kept > 20 * kills
    assert any(record.attempt > 1 for record in records)


if __name__ == "__main__":
    asyncio.run(live(*sys.argv[1:]))
