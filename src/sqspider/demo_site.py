"""A small site of our own on a loopback port, with what a crawler meets on real ones.

Some hundred linked pages, redirects, missing pages, a page that fails once, a slow one, a huge one,
a trap, and a robots.txt. Its content is the same at every start. It keeps a log of requests.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from types import TracebackType
from typing import Final, NamedTuple

HUGE_BYTES: Final = 12 * 1024 * 1024  # more than a crawler reads by default
SLOW_SECONDS: Final = 1.0
LINKS: Final = 8  # of each page to others
TRAP_DEPTH: Final = 40


class Request(NamedTuple):
    """One request that the site saw."""

    at: float  # seconds, monotonic
    path: str  # with its query


class DemoSite:
    """The site, as an async context manager; ``url`` is its address while it runs.

    ``pages`` counts the ordinary ones; ``slow_seconds`` is how long the slow page takes,
    ``page_seconds`` each ordinary one; ``trap_depth`` how deep the trap goes before it ends after all.
    """

    def __init__(
        self,
        pages: int = 300,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        slow_seconds: float = SLOW_SECONDS,
        page_seconds: float = 0.0,
        trap_depth: int = TRAP_DEPTH,
    ) -> None:
        self.pages = pages
        self.requests: list[Request] = []
        self.url = ""
        self._host, self._port = host, port
        self._slow_seconds = slow_seconds
        self._page_seconds = page_seconds
        self._trap_depth = trap_depth
        self._failures: Counter[str] = Counter()
        self._asked = asyncio.Event()
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server

    async def __aenter__(self) -> DemoSite:
        self._server = await asyncio.start_server(self._serve, self._host, self._port)
        self.url = f"http://{self._host}:{self._server.sockets[0].getsockname()[1]}/"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def until(self, number: int) -> None:
        """Wait until so many requests were seen."""
        while len(self.requests) < number:
            self._asked.clear()
            await self._asked.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, request after request."""
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                method, path, _ = head.decode("latin-1").split(" ", 2)
                self.requests.append(Request(time.monotonic(), path))
                self._asked.set()
                answer = await self._answer_to(path)
                writer.write(answer.head_and_body(packed="gzip" in head.decode("latin-1"), is_head=method == "HEAD"))
                await writer.drain()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError, ValueError):
            pass  # the client has left, or speaks no HTTP
        finally:
            self._serving.discard(task)
            writer.close()

    async def _answer_to(self, path: str) -> Answer:
        first, _, rest = path.partition("?")[0].removeprefix("/").partition("/")
        room = _ROOMS.get(first)
        if room is None or bool(rest) != (first in _WITH_REST):
            return _missing(path)
        return await room(self, rest)

    async def _index(self, _: str) -> Answer:
        links = [f"/page/{number}" for number in range(0, self.pages, max(1, self.pages // 10))]
        links += ["/redirect/3", "/loop/0", "/away", "/flaky/0", "/flaky/1", "/slow", "/huge", "/trap/a", "/latin1"]
        links += ["/data.bin", "/private/diary", "/missing", "/page/0?utm_source=demo", "mailto:demo@example.com"]
        return _html("The demo site", links)

    async def _robots(self, _: str) -> Answer:
        return Answer(b"User-agent: *\nDisallow: /private/\n", "text/plain")

    async def _page(self, rest: str) -> Answer:
        number = int(rest) if rest.isdecimal() else self.pages
        if number >= self.pages:
            return _missing(f"/page/{rest}")
        if self._page_seconds:
            await asyncio.sleep(self._page_seconds)
        links = [f"/page/{(number * 7 + step * 13 + 1) % self.pages}" for step in range(LINKS)]
        links += [f"/page/{(number + 1) % self.pages}", "/"]
        if number % 25 == 0:
            links.append(f"/missing/{number}")
        return _html(f"Page {number}", links)._replace(may_be_packed=True)

    async def _redirect(self, rest: str) -> Answer:
        left = int(rest)
        return _to(f"/redirect/{left - 1}" if left else "/page/1")

    async def _loop(self, rest: str) -> Answer:
        return _to(f"/loop/{1 - int(rest)}")

    async def _away(self, _: str) -> Answer:
        return _to("http://elsewhere.invalid/")

    async def _flaky(self, rest: str) -> Answer:
        self._failures[rest] += 1
        if self._failures[rest] % 2:
            return Answer(b"not now", "text/plain", 500)
        return _html("It works at the second try", ["/"])

    async def _slow(self, _: str) -> Answer:
        await asyncio.sleep(self._slow_seconds)
        return _html("Slow", ["/"])

    async def _huge(self, _: str) -> Answer:
        line = b"<p>" + b"x" * 65_000 + b"</p>\n"
        return Answer(b"<!doctype html><title>Huge</title>\n" + line * (HUGE_BYTES // len(line)))

    async def _trap(self, rest: str) -> Answer:
        deeper = f"/trap/{rest}/a" if rest.count("/") + 1 < self._trap_depth else "/"
        return _html("Deeper and deeper", [deeper])

    async def _latin1(self, _: str) -> Answer:
        text = "<!doctype html><meta charset=iso-8859-1><title>Caf\xe9</title><a href=/>home</a>"
        return Answer(text.encode("latin-1"), "text/html")

    async def _data(self, _: str) -> Answer:
        return Answer(bytes(range(256)) * 16, "application/octet-stream")

    async def _private(self, _: str) -> Answer:
        return _html("A crawler that reads this has not read robots.txt", [])


class Answer(NamedTuple):
    """What the site answers."""

    body: bytes
    content_type: str = "text/html; charset=utf-8"
    http_status: int = 200
    location: str = ""
    may_be_packed: bool = False

    def head_and_body(self, *, packed: bool, is_head: bool) -> bytes:
        """As it is sent, packed if it may be and the client takes that."""
        body = self.body
        lines = [f"HTTP/1.1 {self.http_status} {HTTPStatus(self.http_status).phrase}"]
        if packed and self.may_be_packed:
            body = gzip.compress(body)
            lines.append("Content-Encoding: gzip")
        if self.location:
            lines.append(f"Location: {self.location}")
        lines += [f"Content-Type: {self.content_type}", f"Content-Length: {len(body)}", "", ""]
        return "\r\n".join(lines).encode("latin-1") + (b"" if is_head else body)


def _to(location: str) -> Answer:
    return Answer(b"", "text/plain", 302, location)


def _missing(path: str) -> Answer:
    return Answer(f"no {path}".encode(), "text/plain", 404)


def _html(title: str, links: list[str]) -> Answer:
    listed = "\n".join(f'<li><a href="{link}">{link}</a></li>' for link in links)
    filler = "<p>All work and no play makes a dull page.</p>\n" * 20
    return Answer(
        f"<!doctype html>\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n{listed}\n</ul>\n{filler}".encode()
    )


# By the first part of a path; those that are followed by something, and by nothing.
_WITH_REST: Final = frozenset({"page", "redirect", "loop", "flaky", "trap", "private"})
_ROOMS: Final[dict[str, Callable[[DemoSite, str], Awaitable[Answer]]]] = {
    "": DemoSite._index,
    "robots.txt": DemoSite._robots,
    "page": DemoSite._page,
    "redirect": DemoSite._redirect,
    "loop": DemoSite._loop,
    "away": DemoSite._away,
    "flaky": DemoSite._flaky,
    "slow": DemoSite._slow,
    "huge": DemoSite._huge,
    "trap": DemoSite._trap,
    "latin1": DemoSite._latin1,
    "data.bin": DemoSite._data,
    "private": DemoSite._private,
}


async def _serve(pages: int, port: int) -> None:
    async with DemoSite(pages, port=port) as site:
        print(site.url, flush=True)  # noqa: T201 - that is what it is started for
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve the demo site on a loopback port until stopped.")
    parser.add_argument("--pages", type=int, default=300)
    parser.add_argument("--port", type=int, default=0)
    chosen = parser.parse_args()
    asyncio.run(_serve(chosen.pages, chosen.port))
