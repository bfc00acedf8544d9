"""What the function may cost: time to import, memory, and never more time than it has."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from aiohttp import web

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import FrontierSettings
from sqspider.frontier.aws import AwsFrontier
from sqspider.message import Message, encode_message
from sqspider.record import Reason, Status
from sqspider.url import Scope
from tests.end_to_end.conftest import StartRuntime
from tests.end_to_end.runtime import Poller

IMPORT_SECONDS: Final = 0.2
ASYNCIO_SECONDS: Final = 0.042  # of it
LIBRARIES: Final = {"ada_url", "msgspec", "pycurl", "sqspider", "structlog", "webencodings"}
RARE: Final = {
    "backports.zstd", "brotli", "publicsuffixlist", "sqlite3", "sqspider.web.legacy", "sqspider.web.sitemap", "sqspider.work.sitemaps",
}  # fmt: skip
MEMORY_MB: Final = 128
PEAK_MB: Final = 80
PAGE_BYTES: Final = 5_000_000
HOSTS: Final = [f"127.0.1.{number}" for number in range(1, 11)]


@asynccontextmanager
async def served(answer: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> AsyncIterator[list[str]]:
    """Ten hosts on one port of loopback that answer alike: their addresses."""
    app = web.Application()
    app.add_routes([web.get("/{path:.*}", answer)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    port = 0
    for host in HOSTS:
        site = web.TCPSite(runner, host, port)
        await site.start()
        port = runner.addresses[0][1]
    try:
        yield [f"http://{host}:{port}/" for host in HOSTS]
    finally:
        await runner.cleanup()


def page_of_links(host: str) -> bytes:
    """Links that are all different, and nothing else."""
    line = '<a href="/section/{0}/page-{0}.html">Page {0}</a>\n'
    lines, size, number = [f"<!doctype html><title>{host}</title>\n"], 0, 0
    while size < PAGE_BYTES:
        lines.append(line.format(number))
        size += len(lines[-1])
        number += 1
    return "".join(lines).encode()


async def send(place: dict[str, str], urls: list[str], settings: CrawlSettings) -> None:
    frontier = await AwsFrontier.open(FrontierSettings(), clock=time.time, environment=place)
    await frontier.send([encode_message(Message(url=url, settings=settings)) for url in urls])
    await frontier.close()


async def records(place: dict[str, str]) -> dict[str, tuple[Status, Reason | None, int]]:
    frontier = await AwsFrontier.open(FrontierSettings(), clock=time.time, environment=place)
    found = {}
    async for batch in frontier.scan():
        for record in batch:
            reason = record.outcome.reason if record.outcome else None
            found[record.url] = (record.status, reason, record.unended)
    await frontier.close()
    return found


def run_in_the_zip(task_root: Path, code: str) -> str:
    """As Lambda finds it at every start: what is not compiled there is compiled then, and not kept."""
    path = f"import sys, time; sys.path.insert(0, {str(task_root)!r}); "
    done = subprocess.run([sys.executable, "-I", "-S", "-B", "-c", path + code], check=True, capture_output=True)
    return done.stdout.decode()


def test_the_function_is_imported_quickly(task_root: Path) -> None:
    """In time of the processor, for the machine may be busy."""

    def seconds_for(module: str) -> float:
        code = f"started = time.process_time(); import {module}; print(time.process_time() - started)"
        return min(float(run_in_the_zip(task_root, code)) for _ in range(4))

    seconds, asyncio_seconds = seconds_for("sqspider.lambda_handler"), seconds_for("asyncio")
    print(f"import {seconds:.3f} s, of which asyncio {asyncio_seconds:.3f} s")
    # The budget is that of the machine on which asyncio takes as long as is noted above.
    assert seconds < IMPORT_SECONDS * max(1.0, asyncio_seconds / ASYNCIO_SECONDS)


def test_nothing_of_the_zip_is_compiled_at_a_start(task_root: Path) -> None:
    code = (
        "compiled = []; sys.addaudithook(lambda event, seen: event == 'compile' and compiled.append(seen[1])); "
        "import sqspider.lambda_handler; print(*compiled, sep='\\n')"
    )
    assert str(task_root) not in run_in_the_zip(task_root, code)


def test_the_function_imports_what_it_uses(task_root: Path) -> None:
    """By name: neither rarely what few pages need, nor what is for the command line."""
    code = "import sqspider.lambda_handler; print(*sys.modules)"
    loaded = set(run_in_the_zip(task_root, code).split())
    packages = {path.name.partition(".")[0] for path in task_root.iterdir() if path.suffix != ".dist-info"}
    libraries = {name for name in {name.partition(".")[0] for name in loaded} & packages if not name.startswith("_")}
    assert libraries == LIBRARIES
    assert loaded & RARE == set()


async def test_ten_large_pages_in_a_batch_fit_into_memory_and_time(
    start_runtime: StartRuntime, place: dict[str, str]
) -> None:
    """With Lambda's share of a processor, where one can be set."""
    pages = {host: page_of_links(host) for host in HOSTS}

    async def answer(request: web.Request) -> web.StreamResponse:
        if request.path != "/":
            return web.Response(status=404)
        response = web.Response(body=pages[request.url.host or ""], content_type="text/html")
        if request.url.host and int(request.url.host.rpartition(".")[2]) % 2:
            response.enable_compression()
        return response

    runtime = start_runtime(memory_mb=MEMORY_MB, is_as_slow=True)
    runtime.invoke({"Records": []})  # Lambda gives a whole processor while it starts; here that would take ten seconds
    async with served(answer) as urls, Poller(runtime, place) as poller:
        await send(place, urls, CrawlSettings(scope=Scope.HOST, delay_seconds=0))
        started = time.monotonic()
        assert await poller.poll() == len(urls)
        print("seconds", time.monotonic() - started, "peak", runtime.peak_memory_mb)
    assert poller.errors == []
    assert poller.malformed == 0
    assert runtime.peak_memory_mb < PEAK_MB
    found = await records(place)
    print("done", sum(found[url][0] is Status.DONE for url in urls), "links", len(found) - len(urls))
    # What there was no time for is given back, but for the page that was being ended when time was up.
    left = [found[url] for url in urls if found[url][0] is not Status.DONE]
    assert left.count((Status.QUEUED, None, 0)) >= len(left) - 1


async def test_ten_servers_that_never_answer_do_not_use_up_the_time(
    start_runtime: StartRuntime, place: dict[str, str]
) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        del request
        await asyncio.sleep(3600)
        return web.Response()

    runtime = start_runtime()
    async with served(answer) as urls, Poller(runtime, place) as poller:
        await send(place, urls, CrawlSettings(obey_robots=False))
        started = time.monotonic()
        assert await poller.poll() == len(urls)
        seconds = time.monotonic() - started
    print("seconds", seconds)
    assert poller.errors == []  # among them, that its time was up
    assert poller.malformed == 0
    found = await records(place)
    assert {found[url] for url in urls} == {(Status.QUEUED, Reason.TIMEOUT, 0)}
