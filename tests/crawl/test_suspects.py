"""A page that kills its workers takes nobody along: suspects are tried alone (docs/guarantees.md)."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web

from sqspider.frontier import FrontierSettings, open_frontier
from sqspider.message import CrawlSettings
from sqspider.producer import produce
from sqspider.record import Reason, Status
from sqspider.web.options import FetchOptions
from sqspider.worker import WorkerOptions

INNOCENT = 31
TOGETHER = INNOCENT + 1
SETTINGS = CrawlSettings(delay_seconds=0, obey_robots=False)
FETCH = FetchOptions(allow_private=True, timeout_seconds=10.0)
OPTIONS = WorkerOptions(worker_id="tester", concurrency=48, lease_seconds=60.0)
LEASE_ENDS = 100.0  # seconds after which whatever a dead worker held is free

LIFE = """
import asyncio, random, sys, time
from tests.crawl.test_suspects import FETCH, OPTIONS, later
from sqspider.frontier import FrontierSettings, open_frontier
from sqspider.web.fetch import Fetcher
from sqspider.worker import Mode, Worker

async def main():
    clock = later(float(sys.argv[2]))
    frontier = await open_frontier("sqlite:" + sys.argv[1], FrontierSettings(), clock=clock)
    async with Fetcher(FETCH, connections=OPTIONS.concurrency) as fetcher:
        await Worker(frontier, fetcher, OPTIONS, clock=clock, rng=random.Random()).run(Mode.UNTIL_EMPTY)
    await frontier.close()

asyncio.run(main())
"""


def later(seconds: float) -> Callable[[], float]:
    """A clock that is so many seconds ahead: the leases of those who died before are over."""
    return lambda: time.time() + seconds


class Killer:
    """A site with one page that kills whoever asks for it; twice not before all others are asked for, too."""

    def __init__(self) -> None:
        self.url = ""
        self.process: asyncio.subprocess.Process | None = None
        self.lives = 0
        self.asked: Counter[str] = Counter()
        self.in_flight: set[str] = set()
        self.most_in_flight = 0
        self._all_are_here = asyncio.Event()

    def begin_life(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lives += 1
        self.most_in_flight = 0
        self._all_are_here.clear()

    async def answer(self, request: web.Request) -> web.Response:
        path = request.path
        self.asked[path] += 1
        self.in_flight.add(path)
        self.most_in_flight = max(self.most_in_flight, len(self.in_flight))
        try:
            if len(self.in_flight) == TOGETHER:
                self._all_are_here.set()
            if self.lives <= 2:
                await self._all_are_here.wait()
            if path == "/poison":
                assert self.process is not None
                self.process.kill()
            if path == "/poison" or self.lives <= 2:
                await asyncio.Event().wait()  # until the connection is gone
            return web.Response(text="fine")
        finally:
            self.in_flight.discard(path)


@asynccontextmanager
async def killer_site() -> AsyncIterator[Killer]:
    killer = Killer()
    app = web.Application()
    app.router.add_get("/{path:.*}", killer.answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    assert site._server is not None
    killer.url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/"  # type: ignore[attr-defined]
    try:
        yield killer
    finally:
        await runner.cleanup()


async def live(killer: Killer, path: Path) -> int:
    """One worker, from its start to its death or end; its exit status."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", LIFE, path, str(killer.lives * LEASE_ENDS))
    killer.begin_life(process)
    return await process.wait()


async def test_a_page_that_kills_its_worker_is_given_up_and_takes_nobody_along(tmp_path: Path) -> None:
    path = tmp_path / "f.db"
    async with killer_site() as killer:
        innocent = [f"{killer.url}page/{n}" for n in range(INNOCENT)]
        poison = f"{killer.url}poison"
        frontier = await open_frontier(f"sqlite:{path}", FrontierSettings(), clock=time.time)
        await produce(frontier, [poison, *innocent], SETTINGS, on_refused=print)
        for _ in range(2):
            assert await live(killer, path) == -signal.SIGKILL
            assert killer.most_in_flight == TOGETHER
        assert await live(killer, path) == -signal.SIGKILL
        assert killer.most_in_flight == 1  # suspects are asked for one after the other
        assert await live(killer, path) == 0
        records = {record.url: record async for batch in frontier.scan() for record in batch}
        await frontier.close()
    assert {records[url].status for url in innocent} == {Status.DONE}
    outcome = records[poison].outcome
    assert outcome is not None
    assert (records[poison].status, outcome.reason) == (Status.FAILED, Reason.CRASHED)
    assert killer.asked["/poison"] == 3
