"""The function at several memory sizes, with as much of a processor as Lambda gives: ``python -m bench.function``.

Needs cgroups of version 1 that may be written to, and ministack (see ``tests/aws``), whose share of the time is
included. Ten hosts serve ordinary pages: 50 kB, a hundred links, most of them known already.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from aiohttp import web
from tests.aws import store
from tests.aws.engines import Engines
from tests.end_to_end.runtime import FunctionRuntime, Poller

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Entry, FrontierSettings
from sqspider.frontier.aws import AwsFrontier
from sqspider.message import Message, encode_message
from sqspider.url import Scope

SIZES: Final = (128, 256, 512, 1024, 1769)
BATCHES: Final = 6
HOSTS: Final = [f"127.0.2.{number}" for number in range(1, 11)]
PAGE_BYTES: Final = 50_000
LINKS: Final = 100
LOST: Final = 1000


def page(path: str) -> str:
    links = "".join(f'<li><a href="/page/{number}">Page {number}</a></li>\n' for number in range(LINKS))
    filler = "<p>All work and no play makes a dull page, however long it may be.</p>\n"
    return f"<!doctype html><title>{path}</title><ul>{links}</ul>" + filler * (PAGE_BYTES // len(filler))


async def answer(request: web.Request) -> web.StreamResponse:
    if request.path == "/robots.txt":
        return web.Response(status=404)
    return web.Response(text=page(request.path), content_type="text/html")


async def measure(memory_mb: int, emulator: Path, root: Path, place: Mapping[str, str], port: int) -> None:
    frontier = await AwsFrontier.open(FrontierSettings(), clock=time.time, environment=place)
    settings = CrawlSettings(scope=Scope.HOST, max_depth=1, delay_seconds=0)
    urls = [f"http://{host}:{port}/start/{batch}" for batch in range(BATCHES) for host in HOSTS]
    await frontier.send([encode_message(Message(url=url, depth=1, settings=settings)) for url in urls])
    runtime = FunctionRuntime(
        emulator,
        root,
        {**place, "SQSPIDER_ALLOW_PRIVATE": "true"},
        memory_mb=memory_mb,
        is_as_slow=True,
        timeout_seconds=120,
    )
    seconds = []
    try:
        async with Poller(runtime, place) as poller:
            for _ in range(BATCHES):
                started = time.monotonic()
                received = await poller.poll()
                seconds.append(time.monotonic() - started)
                assert received == len(HOSTS), received
            assert not poller.errors, poller.errors
        counts = await frontier.counts()
        peak = runtime.peak_memory_mb
    finally:
        runtime.stop()
        await frontier.close()
    assert runtime.is_limited
    warm = sorted(seconds[1:])
    print(
        f"{memory_mb:5} MB  first batch {seconds[0]:5.1f} s  later ones {warm[len(warm) // 2]:5.2f} s  "
        f"peak {peak:4.0f} MB  open {counts.open}",
        flush=True,
    )


async def measure_sweep(memory_mb: int, emulator: Path, root: Path, place: Mapping[str, str]) -> None:
    """Records whose messages were lost: how many a second does the sweep bring back?"""
    frontier = await AwsFrontier.open(FrontierSettings(due_seconds=0.1), clock=time.time, environment=place)
    await frontier.enqueue([Entry(url=f"http://example.com/{number}") for number in range(LOST)])
    await frontier.purge_queue()
    runtime = FunctionRuntime(
        emulator,
        root,
        place,
        handler="sqspider.lambda_handler.sweep",
        memory_mb=memory_mb,
        is_as_slow=True,
        timeout_seconds=120,
    )
    try:
        runtime.invoke({})  # to start it
        await frontier.purge_queue()
        await frontier.clear_table()
        await frontier.enqueue([Entry(url=f"http://example.com/{number}") for number in range(LOST)])
        await frontier.purge_queue()
        started = time.monotonic()
        released = (await asyncio.to_thread(runtime.invoke, {}))["released"]
        seconds = time.monotonic() - started
    finally:
        runtime.stop()
        await frontier.close()
    print(
        f"{memory_mb:5} MB  sweep: {released} released in {seconds:.1f} s: {released / seconds:.0f} a second",
        flush=True,
    )


async def main(root: Path) -> int:
    engines = Engines()
    environment = engines.ministack()
    app = web.Application()
    app.add_routes([web.get("/{path:.*}", answer)])
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        port = 0
        for host in HOSTS:
            await web.TCPSite(runner, host, port).start()
            port = runner.addresses[0][1]
        for memory_mb in SIZES:
            place = await store.create(environment, FrontierSettings(visibility_seconds=180))
            await measure(memory_mb, engines.emulator(), root, place, port)
            await store.drop(place)
        for memory_mb in SIZES:
            place = await store.create(environment, FrontierSettings(visibility_seconds=180))
            await measure_sweep(memory_mb, engines.emulator(), root, place)
            await store.drop(place)
    finally:
        await runner.cleanup()
        engines.stop()
    return 0


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        zipped = Path(folder) / "function.zip"
        subprocess.run([sys.executable, "infra/package.py", "local", "--to", str(zipped)], check=True)
        with zipfile.ZipFile(zipped) as archive:
            archive.extractall(Path(folder) / "task")
        sys.exit(asyncio.run(main(Path(folder) / "task")))
