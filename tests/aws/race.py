"""Consumers that race for the same URLs, are killed and throttled, and get every message twice.

What was finished is not asked of the consumers, who may be killed before they say it: the proxy
counts the writes that the engine took.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from aiohttp import web

from sqspider.frontier import FrontierSettings
from sqspider.frontier.aws import AwsFrontier
from sqspider.record import Status

from . import faults
from .faults import Answer, Document, FaultProxy, Forward
from .store import create, drop

TIMEOUT_SECONDS: Final = 1.0
LEASE_SECONDS: Final = 17.0  # the shortest that a consumer takes with that timeout
SETTINGS: Final = FrontierSettings(visibility_seconds=LEASE_SECONDS, due_seconds=20.0, max_receives=10)
DRAIN_SECONDS: Final = 300.0
CONSUME: Final = (
    sys.executable, "-m", "sqspider", "--log-format", "json", "consume", "--continuous", "--allow-private",
    "--concurrency", "8", "--timeout", str(TIMEOUT_SECONDS), "--lease", str(LEASE_SECONDS),
)  # fmt: skip


class Report(msgspec.Struct, kw_only=True):
    """What came of a race."""

    urls: int
    kills: int
    records: dict[Status, int]  # by a scan of the table
    finishes: dict[int, int]  # how many URLs were finished so many times
    fetches: dict[int, int]  # how many URLs were fetched so many times
    won: int  # lines in the consumers' logs
    lost: int
    throttled: int  # calls that were refused
    calls: int
    seconds: float
    errors: list[str]  # lines of the logs that tell of a fault of ours

    @property
    def is_good(self) -> bool:
        return self.finishes == {1: self.urls} and self.records == {Status.DONE: self.urls} and not self.errors


async def twice_and_throttled(proxy: FaultProxy, action: str, document: Document, forward: Forward) -> Answer:
    """Every message is sent twice; some calls are refused."""
    if proxy.strikes("throttled"):
        return faults.refusal("ThrottlingException")
    answer = await forward(document)
    if action == "SendMessageBatch":
        await forward(document)
    return answer


class Site:
    """Pages on loopback that count who asks for them."""

    def __init__(self, seconds: float) -> None:
        self.asked: Counter[str] = Counter()
        self._seconds = seconds

    async def start(self) -> str:
        application = web.Application()
        application.router.add_get("/{name}", self._serve)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.Response:
        if request.path == "/robots.txt":
            return web.Response(status=404)
        self.asked[request.path] += 1
        await asyncio.sleep(self._seconds)
        return web.Response(text="<title>a page</title>", content_type="text/html")


class _Consumers:
    def __init__(self, environment: Mapping[str, str], folder: Path, rng: random.Random) -> None:
        self._environment = environment
        self._folder = folder
        self._rng = rng
        self._running: list[subprocess.Popen[bytes]] = []
        self._started = 0

    def start(self) -> None:
        self._started += 1
        name = f"worker-{self._started}"
        with (self._folder / f"{name}.log").open("wb") as log:
            self._running.append(
                subprocess.Popen(
                    [*CONSUME, "--worker-id", name],
                    cwd=self._folder,
                    env=dict(self._environment),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                )
            )

    def kill_one(self) -> None:
        """Kill one at random and start another in its place."""
        victim = self._running.pop(self._rng.randrange(len(self._running)))
        victim.kill()
        victim.wait()
        self.start()

    def check(self) -> None:
        """Raise if one has ended by itself."""
        for process in self._running:
            assert process.poll() is None, [log.read_text()[-300:] for log in self._folder.glob("*.log")]

    def stop(self) -> list[str]:
        """Stop them in good order; what their logs say."""
        for process in self._running:
            process.terminate()
        for process in self._running:
            process.wait()
        return [line for log in self._folder.glob("*.log") for line in log.read_text().splitlines()]


async def race(
    environment: Mapping[str, str],
    *,
    urls: int,
    consumers: int,
    kills: int,
    kill_every_seconds: float,
    throttled: float,
    page_seconds: float,
    seed: int,
) -> Report:
    """Run one race on fresh queues and a fresh table of the engines of an environment."""
    began = time.monotonic()
    rng = random.Random(seed)
    site = Site(page_seconds)
    address = await site.start()
    names = [f"{address}/{i}" for i in range(urls)]
    own = await create(environment, SETTINGS)
    finished: Counter[str] = Counter()

    def see(action: str, document: Document, answer: Answer) -> None:
        if action != "BatchExecuteStatement" or not answer.is_good:
            return
        for statement, response in zip(document["Statements"], answer.document["Responses"], strict=True):
            if '"finished_at" = ?' in statement["Statement"] and "Error" not in response:
                finished[statement["Parameters"][3]["S"]] += 1

    with tempfile.TemporaryDirectory() as folder:
        async with FaultProxy(own, seed=seed) as proxy:
            proxy.fault, proxy.chance, proxy.on_answer = twice_and_throttled, throttled, see
            running = _Consumers({**_inherited(), **proxy.environment}, Path(folder), rng)
            frontier = await AwsFrontier.open(SETTINGS, clock=time.time, environment=own)
            try:
                await _enqueue(names, {**_inherited(), **proxy.environment}, folder)
                for _ in range(consumers):
                    running.start()
                for _ in range(kills):
                    await asyncio.sleep(kill_every_seconds * rng.uniform(0.5, 1.5))
                    running.kill_one()
                async with asyncio.timeout(DRAIN_SECONDS):
                    while (await frontier.counts()).open or not (await frontier.queue_stats()).is_empty:
                        running.check()
                        await asyncio.sleep(0.5)
                records = Counter([record.status async for batch in frontier.scan() for record in batch])
            finally:
                lines = await asyncio.to_thread(running.stop)
                await frontier.close()
                await site.stop()
    await drop(own)
    return Report(
        urls=urls,
        kills=kills,
        records=dict(records),
        finishes=dict(Counter(finished[name] for name in names)),
        fetches=dict(Counter(site.asked[f"/{i}"] for i in range(urls))),
        won=sum("WON race" in line for line in lines),
        lost=sum("LOST race" in line for line in lines),
        throttled=proxy.injected["throttled"],
        calls=sum(proxy.calls.values()),
        seconds=time.monotonic() - began,
        errors=[line for line in lines if _is_error(line)],
    )


def _is_error(line: str) -> bool:
    try:
        return json.loads(line)["level"] not in ("debug", "info", "warning")
    except (ValueError, KeyError, TypeError):
        return "stopping: " not in line  # no log line at all: a traceback


def _inherited() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}


async def _enqueue(names: list[str], environment: Mapping[str, str], folder: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sqspider", "enqueue", "-f", "-", "--delay", "0",
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip
    said, complained = await process.communicate("\n".join(names).encode())
    assert process.returncode == 0, complained.decode()
    assert said.decode() == f"{len(names):,} new, 0 known, 0 refused\n"
