"""Two workers of one name: the one that was killed is waited for, the one that lives is not pushed aside."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs

from sqspider.frontier import Frontier
from sqspider.web.fetch import Fetcher, FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.upkeep import CHECK_IN_SECONDS, WorkerIdTakenError
from sqspider.work.worker import Mode, Worker

from .kit import A_LITTLE, Store

OPTIONS = WorkerOptions(worker_id="one", poll_seconds=0.0)


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    async with Fetcher(FetchOptions()) as fetcher:
        yield fetcher


def worker_on(frontier: Frontier, fetcher: Fetcher) -> Worker:
    return Worker(frontier, fetcher, OPTIONS, clock=frontier.now, rng=random.Random())


async def waits(running: asyncio.Task[None], logs: Sequence[Mapping[str, Any]]) -> None:
    """Until the worker has said that it waits, or has ended."""
    while not running.done() and not any(log["event"] == "worker_id_in_use" for log in logs):
        await asyncio.sleep(0.01)


async def test_a_worker_that_was_killed_is_waited_for(
    store: Store, frontier: Frontier, other: Frontier, fetcher: Fetcher
) -> None:
    # Killed: it checked in, and will not do so again.
    assert await other.check_in("one", session="killed", ttl_seconds=CHECK_IN_SECONDS)
    with capture_logs() as logs:
        running = asyncio.create_task(worker_on(frontier, fetcher).run(Mode.ONCE))
        await waits(running, logs)
        assert [row.worker_id for row in await frontier.workers()] == ["one"]
        await store.elapse(CHECK_IN_SECONDS + A_LITTLE)
        await running
    assert [log["event"] for log in logs].count("worker_id_in_use") == 1
    assert await frontier.workers() == []


async def test_a_worker_that_lives_is_not_pushed_aside(
    store: Store, frontier: Frontier, other: Frontier, fetcher: Fetcher
) -> None:
    assert await other.check_in("one", session="alive", ttl_seconds=CHECK_IN_SECONDS)
    with capture_logs() as logs:
        running = asyncio.create_task(worker_on(frontier, fetcher).run(Mode.ONCE))
        await waits(running, logs)
        await store.elapse(A_LITTLE)
        assert await other.check_in("one", session="alive", ttl_seconds=CHECK_IN_SECONDS)
        with pytest.raises(WorkerIdTakenError, match="named 'one' is at work"):
            await running
    assert len(await frontier.workers()) == 1


async def test_a_worker_that_waits_for_its_name_can_be_stopped(
    frontier: Frontier, other: Frontier, fetcher: Fetcher
) -> None:
    assert await other.check_in("one", session="alive", ttl_seconds=CHECK_IN_SECONDS)
    with capture_logs() as logs:
        worker = worker_on(frontier, fetcher)
        running = asyncio.create_task(worker.run(Mode.CONTINUOUS))
        await waits(running, logs)
        worker.stop()
        await running
    assert len(await frontier.workers()) == 1  # the other one's row is left alone
