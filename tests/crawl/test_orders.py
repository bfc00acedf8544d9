"""An operator's order holds at once: after it nothing is asked of the host (docs/politeness.md).

The server holds its answers back until as many requests are in flight as there can be. What is in flight when the
order is given is known by that, to the last request: whatever else arrives later is one too many.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from sqspider.frontier import Frontier, FrontierSettings, open_frontier
from sqspider.message import CrawlSettings
from sqspider.producer import produce
from sqspider.record import Reason, Status
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from sqspider.worker import Mode, Worker, WorkerOptions
from tests.conftest import Run

HOST = "127.0.0.1"
URLS = 30
FETCH = FetchOptions(allow_private=True, timeout_seconds=30.0)
OPTIONS = WorkerOptions(worker_id="tester", concurrency=6, lease_seconds=60.0)


class Held:
    """A server on several ports that answers nobody before it is told to."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.bodies: dict[str, str] = {}
        self.requests: list[str] = []
        self.in_flight = 0
        self.may_answer = asyncio.Event()

    def url(self, path: str = "", port: int = 0) -> str:
        return f"http://{HOST}:{self.ports[port]}/{path}"

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append(request.path)
        self.in_flight += 1
        try:
            await self.may_answer.wait()
        finally:
            self.in_flight -= 1
        body = self.bodies.get(request.path)
        return web.Response(text=body or "", status=200 if body is not None or "robots" not in request.path else 404)


@pytest.fixture
async def held() -> AsyncIterator[Held]:
    server = Held()
    app = web.Application()
    app.router.add_get("/{path:.*}", server.answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    for _ in range(2):
        await web.TCPSite(runner, HOST, 0).start()
    server.ports = [address[1] for address in runner.addresses]
    yield server
    server.may_answer.set()
    await runner.cleanup()


@asynccontextmanager
async def opened(path: Path, clock: Callable[[], float] = time.time) -> AsyncIterator[Frontier]:
    frontier = await open_frontier(f"sqlite:{path}", FrontierSettings(), clock=clock)
    try:
        yield frontier
    finally:
        await frontier.close()


@asynccontextmanager
async def at_work(path: Path, number: int = 1, clock: Callable[[], float] = time.time) -> AsyncIterator[None]:
    """So many workers, each with a frontier of its own in the same file."""
    async with AsyncExitStack() as stack:
        workers, tasks = [], []
        for n in range(number):
            own = await stack.enter_async_context(opened(path, clock))
            fetcher = await stack.enter_async_context(Fetcher(FETCH))
            options = msgspec.structs.replace(OPTIONS, worker_id=f"tester-{n}")
            workers.append(Worker(own, fetcher, options, clock=clock, rng=random.Random(n)))
            tasks.append(asyncio.create_task(workers[-1].run(Mode.CONTINUOUS)))
        try:
            yield
        finally:
            for worker in workers:
                worker.stop()
            await asyncio.gather(*tasks)


async def until(is_so: Callable[[], bool]) -> None:
    while not is_so():
        await asyncio.sleep(0.005)


async def until_put_off(frontier: Frontier) -> int:
    """Wait until whatever is left waits for its time; how much that is."""
    while True:
        stats, counts = await frontier.queue_stats(), await frontier.counts()
        if counts.open == stats.delayed:
            return counts.open
        await asyncio.sleep(0.01)


async def until_done(frontier: Frontier) -> None:
    while (await frontier.counts()).open:
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("order", ["--pause", "--block"])
@pytest.mark.parametrize(
    ("delay", "per_host", "workers", "in_flight"),
    [(0.2, 1, 1, 1), (0.05, 4, 1, 4), (0, 1, 1, 6), (0.2, 1, 2, 1), (0.05, 4, 2, 4), (0, 1, 2, 12)],
    ids=lambda value: f"{value:g}",
)
async def test_after_an_order_nothing_is_asked_of_its_host(
    sqspider: Run,
    held: Held,
    tmp_path: Path,
    order: str,
    delay: float,
    per_host: int,
    workers: int,
    in_flight: int,
) -> None:
    path = tmp_path / "sqspider.db"
    settings = CrawlSettings(delay_seconds=delay, per_host=per_host, obey_robots=False)
    async with opened(path) as frontier:
        await produce(frontier, [held.url(str(n)) for n in range(URLS)], settings, on_refused=print)
        async with at_work(path, workers):
            await until(lambda: held.in_flight == in_flight)
            assert (await asyncio.to_thread(sqspider, "hosts", "set", HOST, order)).returncode == 0
            asked = len(held.requests)
            held.may_answer.set()
            if order == "--block":
                await until_done(frontier)
                assert len(held.requests) == asked == in_flight
                counts = await frontier.counts()
                assert counts.by_reason == {Reason.HOST_BLOCKED: URLS - asked}
            else:
                assert await until_put_off(frontier) == URLS - asked
                assert len(held.requests) == asked == in_flight
                assert (await asyncio.to_thread(sqspider, "hosts", "set", HOST, "--resume")).returncode == 0
                await until_done(frontier)
                counts = await frontier.counts()
                assert counts.by_status[Status.DONE] == URLS == len(held.requests)
        records = [record async for batch in frontier.scan() for record in batch]
    assert {record.tries for record in records} == {0}
