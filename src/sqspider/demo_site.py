"""A small site of our own on a loopback port, with what a crawler meets on real ones.

Some hundred linked pages, redirects, missing pages, a page that fails once, a slow one, a huge one,
a trap, and a robots.txt. Its content is the same at every start. It keeps a log of requests.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Final, NamedTuple

from aiohttp import web

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
        self._runner: web.AppRunner

    async def __aenter__(self) -> DemoSite:
        app = web.Application()
        routes: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
            "/": self._index,
            "/robots.txt": self._robots,
            "/page/{number}": self._page,
            "/redirect/{number}": self._redirect,
            "/loop/{number}": self._loop,
            "/away": self._away,
            "/flaky/{number}": self._flaky,
            "/slow": self._slow,
            "/huge": self._huge,
            "/trap/{path:.*}": self._trap,
            "/latin1": self._latin1,
            "/data.bin": self._data,
            "/private/{name}": self._private,
        }
        app.add_routes([web.get(path, self._logged(handler)) for path, handler in routes.items()])
        app.add_routes([web.get("/{other:.*}", self._logged(self._missing))])
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://{self._host}:{port}/"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    async def until(self, number: int) -> None:
        """Wait until so many requests were seen."""
        while len(self.requests) < number:
            self._asked.clear()
            await self._asked.wait()

    def _logged(
        self, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            self.requests.append(Request(time.monotonic(), request.path_qs))
            self._asked.set()
            return await handler(request)

        return handle

    async def _index(self, request: web.Request) -> web.StreamResponse:
        del request
        links = [f"/page/{number}" for number in range(0, self.pages, max(1, self.pages // 10))]
        links += ["/redirect/3", "/loop/0", "/away", "/flaky/0", "/flaky/1", "/slow", "/huge", "/trap/a", "/latin1"]
        links += ["/data.bin", "/private/diary", "/missing", "/page/0?utm_source=demo", "mailto:demo@example.com"]
        return _html("The demo site", links)

    async def _robots(self, request: web.Request) -> web.StreamResponse:
        del request
        return web.Response(text="User-agent: *\nDisallow: /private/\n")

    async def _page(self, request: web.Request) -> web.StreamResponse:
        number = int(request.match_info["number"]) if request.match_info["number"].isdigit() else self.pages
        if number >= self.pages:
            return await self._missing(request)
        if self._page_seconds:
            await asyncio.sleep(self._page_seconds)
        links = [f"/page/{(number * 7 + step * 13 + 1) % self.pages}" for step in range(LINKS)]
        links += [f"/page/{(number + 1) % self.pages}", "/"]
        if number % 25 == 0:
            links.append(f"/missing/{number}")
        response = _html(f"Page {number}", links)
        response.enable_compression()
        return response

    async def _redirect(self, request: web.Request) -> web.StreamResponse:
        left = int(request.match_info["number"])
        raise web.HTTPFound(f"/redirect/{left - 1}" if left else "/page/1")

    async def _loop(self, request: web.Request) -> web.StreamResponse:
        raise web.HTTPFound(f"/loop/{1 - int(request.match_info['number'])}")

    async def _away(self, request: web.Request) -> web.StreamResponse:
        del request
        raise web.HTTPFound("http://elsewhere.invalid/")

    async def _flaky(self, request: web.Request) -> web.StreamResponse:
        self._failures[request.path] += 1
        if self._failures[request.path] % 2:
            return web.Response(status=500, text="not now")
        return _html("It works at the second try", ["/"])

    async def _slow(self, request: web.Request) -> web.StreamResponse:
        del request
        await asyncio.sleep(self._slow_seconds)
        return _html("Slow", ["/"])

    async def _huge(self, request: web.Request) -> web.StreamResponse:
        async def body() -> AsyncIterator[bytes]:
            yield b"<!doctype html><title>Huge</title>\n"
            line = b"<p>" + b"x" * 65_000 + b"</p>\n"
            for _ in range(HUGE_BYTES // len(line)):
                yield line

        del request
        return web.Response(body=body(), content_type="text/html")

    async def _trap(self, request: web.Request) -> web.StreamResponse:
        path = request.match_info["path"]
        deeper = f"/trap/{path}/a" if path.count("/") + 1 < self._trap_depth else "/"
        return _html("Deeper and deeper", [deeper])

    async def _latin1(self, request: web.Request) -> web.StreamResponse:
        del request
        text = "<!doctype html><meta charset=iso-8859-1><title>Caf\xe9</title><a href=/>home</a>"
        return web.Response(body=text.encode("latin-1"), headers={"Content-Type": "text/html"})

    async def _data(self, request: web.Request) -> web.StreamResponse:
        del request
        return web.Response(body=bytes(range(256)) * 16, content_type="application/octet-stream")

    async def _private(self, request: web.Request) -> web.StreamResponse:
        del request
        return _html("A crawler that reads this has not read robots.txt", [])

    async def _missing(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=404, text=f"no {request.path}")


def _html(title: str, links: list[str]) -> web.Response:
    listed = "\n".join(f'<li><a href="{link}">{link}</a></li>' for link in links)
    filler = "<p>All work and no play makes a dull page.</p>\n" * 20
    return web.Response(
        text=f"<!doctype html>\n<title>{title}</title>\n<h1>{title}</h1>\n<ul>\n{listed}\n</ul>\n{filler}",
        content_type="text/html",
    )


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
