"""A server for tests that says what a test tells it to, and notes what it was asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

from bench.arrival import arrived_at

Answer = bytes | tuple[int, dict[str, str]]
"""A body, or an HTTP status and headers without a body."""


class Asked(NamedTuple):
    """A request as the server saw it."""

    at: float  # when it came, seconds, monotonic
    host: str  # the address that was connected to
    path: str
    headers: Message


class Site:
    """A server in a thread, on every loopback address, with an answer for each path; none is a 404.

    A path may be written with its host before it ("127.0.0.2/robots.txt"). An answer may be a
    function of the request: one that returns none hangs up.
    """

    def __init__(self, port: int = 0, *, keeps_connections: bool = False) -> None:
        self.bodies: dict[str, Answer | Callable[[Asked], Answer | None]] = {}
        self.requests: list[Asked] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
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
        asked = Asked(arrived_at(handler.connection), host, handler.path, handler.headers)
        self.requests.append(asked)
        answer = self.bodies.get(host + handler.path, self.bodies.get(handler.path, (404, {})))
        if callable(answer):
            told = answer(asked)
            if told is None:
                handler.close_connection = True
                return
            answer = told
        status, headers = (200, {"Content-Type": "text/html"}) if isinstance(answer, bytes) else answer
        body = answer if isinstance(answer, bytes) else b""
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
