"""Crawls many hosts with several workers and looks, on the server's side, whether they are polite.

``python -m bench.politeness`` crawls two hundred hosts (loopback addresses) with four workers for a
minute or so, and then one host of ten thousand URLs beside 99 of one. tests/crawl/test_politeness.py does
the same with fewer of everything.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import signal
import sqlite3
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Final, NamedTuple

from bench.arrival import arrived_at

SEEN_LATE_SECONDS: Final = 0.02
"""The kernel tells in milliseconds when a request came, and a little after it was sent."""
LET_GO_SECONDS: Final = 0.25
"""With several requests at a time the distance is kept between the moments at which they are let go;
their claims, and their connections, take a while more or less."""
PARKED_SECONDS: Final = 900.0  # what SQS can defer a message by; longer waits cost one more delivery each

WATCH: Final = """
CREATE TABLE seen_delivery (url TEXT NOT NULL);
CREATE TRIGGER see_delivery AFTER UPDATE OF receives ON record WHEN new.receives > old.receives
BEGIN INSERT INTO seen_delivery VALUES (new.url); END;
"""


class Request(NamedTuple):
    """One request as the server saw it."""

    host: str
    path: str
    began: float  # when it came, seconds, monotonic
    ended: float  # when its answer was written


class Hosts:
    """A server on every loopback address, each a host. The first page links to so many others.

    ``answer_seconds`` is how long an answer takes.
    """

    def __init__(self, pages: int, answer_seconds: float) -> None:
        self.requests: list[Request] = []
        self._seen = asyncio.Event()
        self.port = 0
        links = "".join(f"<a href=/page/{number}>{number}</a>\n" for number in range(pages))
        self._index = _answer(f"<!doctype html><title>index</title>{links}".encode())
        self._page = _answer(b"<!doctype html><title>page</title>")
        self._robots = _answer(b"User-agent: *\nAllow: /\n")
        self._answer_seconds = answer_seconds

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Hosts]:
        server = await asyncio.start_server(self._serve, "0.0.0.0", 0, backlog=1000)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()

    async def until(self, is_enough: Callable[[Sequence[Request]], bool]) -> None:
        """Wait for requests, until they are enough."""
        while not is_enough(self.requests):
            self._seen.clear()
            await self._seen.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = writer.get_extra_info("sockname")[0]
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                began = arrived_at(writer.get_extra_info("socket"))
                path = head.split(b" ", 2)[1].decode()
                await asyncio.sleep(self._answer_seconds)
                self.requests.append(Request(host, path, began, time.monotonic()))
                self._seen.set()
                writer.write({"/": self._index, "/robots.txt": self._robots}.get(path, self._page))
                await writer.drain()
        writer.close()


def _answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)


def address(number: int) -> str:
    """The address of a host, by its number."""
    return f"127.{1 + number // 62_500}.{number // 250 % 250}.{number % 250 + 1}"


class Verdict(NamedTuple):
    """How polite the requests were."""

    requests: int
    hosts: int
    seconds: float
    shortest: float  # gap between two requests to a host, seconds
    hundredth: float  # of all gaps, the gap below which one in a hundred lies
    too_close: int  # gaps shorter than the delay
    at_once: int  # requests that began while as many as are allowed were not answered yet
    overlapping: int  # that began while any other was not
    robots: int  # for robots.txt

    def __str__(self) -> str:
        return (
            f"{self.requests:,} requests to {self.hosts:,} hosts in {self.seconds:.0f} s: shortest gap "
            f"{self.shortest:.3f} s, one in a hundred below {self.hundredth:.3f} s, {self.too_close} too close, "
            f"{self.at_once} at once"
        )


def judge(requests: Sequence[Request], delay: float, per_host: int = 1) -> Verdict:
    """Look at the server's log: gaps between two requests to a host, and how many were under way together."""
    by_host: defaultdict[str, list[Request]] = defaultdict(list)
    for request in sorted(requests, key=lambda request: request.began):
        by_host[request.host].append(request)
    gaps: list[float] = []
    at_once = overlapping = 0
    for log in by_host.values():
        gaps += [later.began - earlier.began for earlier, later in itertools.pairwise(log)]
        for number, request in enumerate(log):
            under_way = sum(earlier.ended > request.began for earlier in log[:number])
            at_once += under_way >= per_host
            overlapping += under_way > 0
    gaps.sort()
    return Verdict(
        requests=len(requests),
        hosts=len(by_host),
        seconds=max(r.ended for r in requests) - min(r.began for r in requests),
        shortest=gaps[0] if gaps else delay,
        hundredth=gaps[len(gaps) // 100] if gaps else delay,
        too_close=sum(gap < delay - (SEEN_LATE_SECONDS if per_host == 1 else LET_GO_SECONDS) for gap in gaps),
        at_once=at_once,
        overlapping=overlapping,
        robots=sum(request.path == "/robots.txt" for request in requests),
    )


class Deliveries(NamedTuple):
    """How often the URLs that were delivered at all were delivered."""

    mean: float
    too_many: list[tuple[str, int, float]]
    """More often than twice and once for each quarter of an hour that the URL waited: each with its
    deliveries and its wait in seconds."""

    def __str__(self) -> str:
        return " ".join(
            (f"{self.mean:.2f} deliveries a URL, {len(self.too_many)} with too many", *map(str, self.too_many[:5]))
        )


class Crawl:
    """``sqspider`` on a frontier file of its own, with several workers, as a user would start it."""

    def __init__(self, file: Path) -> None:
        self._file = file

    async def enqueue(self, urls: Sequence[str], *flags: str) -> None:
        """Enqueue URLs, and have the file count deliveries from here on."""
        process = await self._start("enqueue", "-f", "-", *flags, stdin=PIPE)
        await process.communicate("\n".join(urls).encode())
        if process.returncode != 0:
            raise RuntimeError(f"enqueue ended with exit status {process.returncode}")
        with closing(sqlite3.connect(self._file)) as connection:
            connection.executescript(WATCH)

    @asynccontextmanager
    async def running(self, workers: int, *flags: str) -> AsyncIterator[Process]:
        """``crawl`` what is enqueued; stopped at the end in good order, if it has not ended."""
        process = await self._start("crawl", "--workers", str(workers), "--allow-private", "--quiet", *flags)
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            await process.wait()

    async def _start(self, *arguments: str, stdin: int = DEVNULL) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sqspider", "--log-level", "error", "--frontier", f"sqlite:{self._file}", *arguments,
            stdin=stdin, stdout=DEVNULL, stderr=DEVNULL if "crawl" in arguments else None,
        )  # fmt: skip

    def deliveries(self) -> Deliveries:
        """So far. (Who stops gives back what is waiting, so it is to be asked before.)"""
        with closing(sqlite3.connect(self._file)) as connection:
            rows = connection.execute(
                "SELECT r.url, count(*), coalesce(r.finished_at, :now) - r.enqueued_at "
                "FROM seen_delivery AS d JOIN record AS r ON r.url = d.url GROUP BY r.url",
                {"now": time.time()},
            ).fetchall()
        return Deliveries(
            mean=sum(row[1] for row in rows) / max(1, len(rows)),
            too_many=[row for row in rows if row[1] > 2 + row[2] / PARKED_SECONDS],
        )


async def many_hosts(
    folder: Path,
    *,
    hosts: int,
    workers: int,
    requests: int,
    delay: float,
    per_host: int = 1,
    answer_seconds: float = 0.05,
) -> tuple[Verdict, Deliveries]:
    """Crawl hosts until each was asked for so many things; they have twice as many pages."""
    crawl = Crawl(folder / f"{hosts}-hosts-{per_host}.db")

    def is_enough(seen: Sequence[Request]) -> bool:
        asked = Counter(request.host for request in seen)
        return len(asked) == hosts and min(asked.values()) >= requests

    async with Hosts(requests * 2, answer_seconds).serving() as server:
        urls = [f"http://{address(number)}:{server.port}/" for number in range(hosts)]
        await crawl.enqueue(urls, "--scope", "host", "--delay", str(delay), "--per-host", str(per_host))
        async with crawl.running(workers):
            await server.until(is_enough)
            deliveries = crawl.deliveries()
        return judge(server.requests, delay, per_host), deliveries


async def one_big_host(
    folder: Path, *, pages: int, small: int, workers: int, delay: float
) -> tuple[int, float, Verdict, Deliveries]:
    """One host with many URLs, enqueued first, beside hosts with one: how many requests the big one had
    got when those were all asked, and seconds until then."""
    crawl = Crawl(folder / "big.db")
    async with Hosts(0, answer_seconds=0.02).serving() as server:
        urls = [f"http://{address(0)}:{server.port}/page/{number}" for number in range(pages)]
        urls += [f"http://{address(number)}:{server.port}/" for number in range(1, small + 1)]
        await crawl.enqueue(urls, "--delay", str(delay))
        async with crawl.running(workers):
            started = time.monotonic()
            await server.until(lambda seen: sum(request.path == "/" for request in seen) == small)
            took = time.monotonic() - started
            before = sum(request.path.startswith("/page/") for request in server.requests)
            await server.until(lambda seen: len(seen) >= 2 * small + before + 10)  # the big one goes on
            deliveries = crawl.deliveries()
        return before, took, judge(server.requests, delay), deliveries


async def _main(hosts: int, workers: int, seconds: float, delay: float, pages: int) -> int:
    is_good = True
    with tempfile.TemporaryDirectory() as folder:
        for per_host in (1, 3):
            verdict, deliveries = await many_hosts(
                Path(folder),
                hosts=hosts,
                workers=workers,
                requests=int(seconds / delay),
                delay=delay,
                per_host=per_host,
                answer_seconds=0.05 if per_host == 1 else delay * 1.5,
            )
            print(f"{workers} workers, --per-host {per_host}: {verdict}\n  {deliveries}")
            is_good = is_good and not (verdict.too_close or verdict.at_once or deliveries.too_many)
        _, took, verdict, deliveries = await one_big_host(
            Path(folder), pages=pages, small=99, workers=workers, delay=delay
        )
        print(f"a host of {pages:,} URLs first, then 99 of one: these were all asked after {took:.1f} s")
        print(f"  {verdict}\n  {deliveries}")
    return 0 if is_good and not (verdict.too_close or verdict.at_once or deliveries.too_many) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Look on the server's side whether several workers are polite.")
    parser.add_argument("--hosts", type=int, default=200)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--delay", type=float, default=1.0)
    parser.add_argument("--pages", type=int, default=10_000, help="of the big host")
    chosen = parser.parse_args()
    sys.exit(asyncio.run(_main(chosen.hosts, chosen.workers, chosen.seconds, chosen.delay, chosen.pages)))
