"""Nothing is lost and nothing done twice when workers are killed: what ``bench/kill.py`` does, on a small site."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from bench.kill import Trial, Until, choose_moments, compare

from sqspider.demo_site import DemoSite

CRAWL_FLAGS = ("--delay", "0")
WORK_FLAGS = (
    "--allow-private", "--concurrency", "8", "--max-body", "100000", "--timeout", "10", "--lease", "26",
)  # fmt: skip

Disturb = Callable[[Trial, Until, Sequence[int], random.Random], Awaitable[None]]


async def disturb(how: Disturb, folder: Path, *, pages: int, kills: int) -> None:
    """A crawl left alone and one killed again and again, of the same site: they must end alike."""
    rng = random.Random(how.__name__)
    async with DemoSite(pages, slow_seconds=0.2, trap_depth=5) as site:
        calm = Trial(folder / f"{how.__name__}-calm.db", site.url, CRAWL_FLAGS, WORK_FLAGS)
        await calm.begin()
        await calm.crawl()
        total = len(site.requests)
        site.requests.clear()
        trial = Trial(folder / f"{how.__name__}.db", site.url, CRAWL_FLAGS, WORK_FLAGS)
        await trial.begin()
        # Not to the very end: what is left then would wait for leases, and be killed, and wait again.
        await how(trial, site.until, choose_moments(total * 3 // 4, kills, rng), rng)
    verdict = await compare(calm, trial)
    assert verdict.is_good, str(verdict)
    assert trial.kills == kills
    assert len(await trial.records()) > pages
    assert any(row["attempt"] > 1 for row in (await trial.records()).values())


@pytest.mark.parametrize(
    ("pages", "kills"),
    [(150, 6), pytest.param(1200, 100, marks=[pytest.mark.prove, pytest.mark.timeout(3600)])],
)
async def test_killed_again_and_again_every_url_is_finished_once_and_alike(
    tmp_path: Path, pages: int, kills: int
) -> None:
    # Both at once: what takes longest is waiting for the leases of the dead.
    async with asyncio.TaskGroup() as group:
        group.create_task(disturb(Trial.crawl_killed, tmp_path, pages=pages, kills=kills))
        group.create_task(disturb(Trial.consume_killed, tmp_path, pages=pages, kills=kills))
