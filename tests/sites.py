"""Servers for tests that say what a test tells them to, and note what they were asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from aiohttp import web
from bench.arrival import arrived_at

Answer = bytes | tuple[int, dict[str, str]] | tuple[int, dict[str, str], bytes]
"""A body, or an HTTP status and headers, with a body or without."""


class Asked(NamedTuple):
    """A request as the server saw it."""

    at: float  # when it came, seconds, monotonic
    host: str  # the address that was connected to
    path: str
    headers: Message
    method: str = "GET"


class Site:
    """A server in a thread, on every loopback address, with an answer for each path; none is a 404.

    A path may be written with its host before it ("127.0.0.2/robots.txt"). An answer may be a
    function of the request: one that returns none hangs up.
    """

    def __init__(self, port: int = 0, *, keeps_connections: bool = False) -> None:
        self.bodies: dict[str, Answer | Callable[[Asked], Answer | None]] = {}
        self.with_bytes: dict[str, str] = {}  # headers of an answer of which only the bytes are given
        self.requests: list[Asked] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.answer(self)

            def do_HEAD(self) -> None:
                site.answer(self)

            def log_message(self, *_: object) -> None:
                """It writes to standard error otherwise."""

        self._server = ThreadingHTTPServer(("0.0.0.0", port), Handler)
        if keeps_connections:
            Handler.protocol_version = "HTTP/1.1"
            self._server.daemon_threads, self._server.block_on_close = True, False
        self.port = self._server.server_port
        self.url = self.url_of("127.0.0.1")
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def url_of(self, host: str) -> str:
        return f"http://{host}:{self.port}/"

    @property
    def paths(self) -> list[str]:
        return [request.path for request in self.requests]

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        host: str = handler.connection.getsockname()[0]
        asked = Asked(arrived_at(handler.connection), host, handler.path, handler.headers, handler.command)
        self.requests.append(asked)
        answer = self.bodies.get(host + handler.path, self.bodies.get(handler.path, (404, {})))
        if callable(answer):
            told = answer(asked)
            if told is None:
                handler.close_connection = True
                return
            answer = told
        if isinstance(answer, bytes):
            answer = (200, {"Content-Type": "text/html", **self.with_bytes}, answer)
        status, headers, body = answer if len(answer) == 3 else (*answer, b"")
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        if handler.command != "HEAD":
            handler.wfile.write(body)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class HeldSite:
    """A server in the test's own loop, at two ports, that answers nobody before it is told to.

    So a test knows what is in flight, to the last request.
    """

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.bodies: dict[str, str] = {}  # by path; any other is empty
        self.requests: list[str] = []  # paths
        self.in_flight: list[str] = []
        self.may_answer = asyncio.Event()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        runner = web.AppRunner(app, handler_cancellation=True)
        await runner.setup()
        try:
            for _ in range(2):
                await web.TCPSite(runner, "127.0.0.1", 0).start()
            self.ports = [address[1] for address in runner.addresses]
            yield
        finally:
            self.may_answer.set()
            await runner.cleanup()

    def url(self, path: str = "", *, port: int = 0) -> str:
        return f"http://127.0.0.1:{self.ports[port]}/{path}"

    async def until_in_flight(self, number: int) -> None:
        while len(self.in_flight) < number:
            await asyncio.sleep(0.005)

    async def _answer(self, request: web.Request) -> web.Response:
        self.requests.append(request.path)
        self.in_flight.append(request.path)
        try:
            await self.may_answer.wait()
        finally:
            self.in_flight.remove(request.path)
        return web.Response(text=self.bodies.get(request.path, ""), content_type="text/html")
