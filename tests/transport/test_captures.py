"""What an archive needs of an exchange beside its body: the request's head, trailers, TLS, and whether it came whole."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from sqspider.transport import ENOUGH, Exchange, Failure, Request
from sqspider.transport.curl import CurlOptions, CurlTransport

from .http2 import Http2Server, Peer2
from .kit import HELLO, Peer, Server, Taken, transport, until

EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"


async def captured(carrier: CurlTransport, url: str, taken: Taken | None = None, **more: Any) -> Exchange:
    request = Request(url, keeps_request_head=True, timeout_seconds=60.0, connect_seconds=60.0)
    return await carrier.exchange(request._replace(**more), taken or Taken())


class Proxy:
    """A proxy that notes what it is asked, and leads to a server on loopback whatever name it is told."""

    def __init__(self, server: Server | Http2Server) -> None:
        self.heads: list[bytes] = []
        self.url = ""
        self._server = server
        self._tasks: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            self.url = f"http://me:pass-word@127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield self
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._server.port)
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if head.startswith(b"CONNECT"):
            writer.write(b"HTTP/1.1 200 Connection established\r\nX-Proxy: here\r\n\r\n")
        else:
            back.write(head)
        for one, other in ((reader, back), (there, writer)):
            task = asyncio.create_task(self._pass_on(one, other))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        except ConnectionError:
            pass  # it has left
        finally:
            writer.close()


async def test_the_request_head_is_as_it_was_sent_on_kept_connections_too() -> None:
    server = Server()
    async with server.running():
        with transport() as carrier:
            found = [await captured(carrier, server.url(path), headers=(f"X-Own: {path}",)) for path in "abc"]
    assert [exchange.is_kept for exchange in found] == [False, True, True]
    assert [exchange.request_head for exchange in found] == server.heads
    assert all(head.endswith(b"\r\n\r\n") for head in server.heads)


class _Narrow(socket.socket):
    """A socket to which little can be written at a time, as to many over a network."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)


async def test_a_request_head_that_goes_out_in_parts_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """libcurl tells of each part by itself."""
    got = bytearray()
    may_read, has_left = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await may_read.wait()
        while not got.endswith(b"\r\n\r\n"):
            got.extend(await reader.read(1 << 20))
        writer.write(HELLO)
        await reader.read()
        writer.close()
        has_left.set()

    headers = tuple(f"X-{number}: {'y' * 50_000}" for number in range(19))
    async with await asyncio.start_server(serve, "127.0.0.1", 0, limit=4096) as server:
        monkeypatch.setattr(socket, "socket", _Narrow)
        with transport() as carrier:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
            asking = asyncio.create_task(captured(carrier, url, headers=headers))
            await until(lambda: any(line.exchange.request_head for line in carrier._busy.values()))
            (line,) = carrier._busy.values()
            first = line.exchange.request_head
            may_read.set()
            exchange = await asking
        await has_left.wait()
    assert 0 < len(first) < len(got)
    assert exchange.request_head == bytes(got)


async def test_behind_a_proxy_the_head_is_what_the_proxy_got() -> None:
    server = Server()
    async with server.running(), Proxy(server).running() as proxy:
        with transport(CurlOptions(proxy=proxy.url)) as carrier:
            exchange = await captured(carrier, "http://h.example/a%2fb?")
    assert (exchange.failure, exchange.http_status) == (None, 200)
    assert exchange.request_head == proxy.heads[0]
    assert exchange.request_head.startswith(b"GET http://h.example/a%2fb? HTTP/1.1\r\n")
    assert b"\r\nProxy-Authorization: Basic " in exchange.request_head
    assert exchange.address == ""


async def test_through_a_tunnel_the_head_is_what_the_host_got() -> None:
    server = Http2Server()
    async with server.running("http/1.1") as trusted, Proxy(server).running() as proxy:
        with transport(CurlOptions(proxy=proxy.url, certificates=trusted)) as carrier:
            exchange = await captured(carrier, server.url("a"))
    assert (exchange.failure, exchange.http_status) == (None, 200)
    assert proxy.heads[0].startswith(b"CONNECT ")
    assert [exchange.request_head] == server.old_heads
    assert b"".join(exchange.head) + b"hello" == HELLO
    assert exchange.tls.startswith("TLSv1.")
    assert exchange.address == ""


async def test_tls_is_known_on_a_kept_connection_too() -> None:
    server = Http2Server()
    async with server.running("http/1.1") as trusted:
        with transport(CurlOptions(certificates=trusted)) as carrier:
            found = [await captured(carrier, server.url(path)) for path in "ab"]
    assert [exchange.is_kept for exchange in found] == [False, True]
    assert found[0].tls.startswith("TLSv1.")
    assert found[0].tls == found[1].tls
    assert found[0].address in ("127.0.0.1", "::1")


@pytest.mark.parametrize("early", [b"", EARLY, EARLY * 3])
async def test_interim_answers_are_no_part_of_the_head_and_trailers_are_kept(early: bytes) -> None:
    server = Server(early + CHUNKED + b"5\r\nhello\r\n0\r\nX-Sum:  1 \r\nx-b: \xe9\r\n\r\n")
    async with server.running():
        with transport() as carrier:
            taken = Taken()
            await captured(carrier, server.url(), taken)
            exchange = await captured(carrier, server.url(), taken)
    assert exchange.is_kept
    assert b"".join(exchange.head) == CHUNKED
    assert exchange.trailers == [b"X-Sum:  1 \r\n", b"x-b: \xe9\r\n"]
    assert (taken.whole, exchange.is_whole) == (b"hello" * 2, True)


async def test_trailers_of_http2_are_kept() -> None:
    def answer(peer: Peer2, stream: int) -> None:
        peer.begin(stream, b"hello")
        peer.h2.send_headers(stream, (("x-sum", "1"),), end_stream=True)
        peer.send()

    server = Http2Server(answer)
    async with server.running() as trusted:
        with transport(CurlOptions(certificates=trusted)) as carrier:
            exchange = await captured(carrier, server.url(), http2=True)
    assert (exchange.protocol, exchange.is_whole) == ("HTTP/2", True)
    assert exchange.trailers == [b"x-sum: 1\r\n"]


async def test_trailers_are_bounded_with_the_head() -> None:
    trailers = b"".join(b"X-%d: %s\r\n" % (number, b"y" * 90) for number in range(100))
    server = Server(CHUNKED + b"5\r\nhello\r\n0\r\n" + trailers + b"\r\n")
    async with server.running():
        with transport() as carrier:
            exchange = await captured(carrier, server.url(), max_head_bytes=1000)
    assert (exchange.failure, exchange.is_whole) == (None, True)
    assert 5 < len(exchange.trailers) < 10


@pytest.mark.parametrize(
    ("answer", "failure", "is_whole"),
    [
        (HELLO, None, True),
        (b"HTTP/1.1 200 OK\r\n\r\nhello", None, True),  # its end is that of the connection
        (b"HTTP/1.1 204 No Content\r\n\r\n", None, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello", Failure.SHORT_BODY, False),
        (CHUNKED + b"5\r\nhello\r\n", Failure.SHORT_BODY, False),
        (CHUNKED + b"5\r\nhello\r\nxyz\r\n", Failure.BAD_FRAMING, False),
        (b"HTTP/1.1 200 OK\r\nContent-", Failure.NO_ANSWER, False),
    ],
)
async def test_whether_it_came_whole_is_told(answer: bytes, failure: Failure | None, is_whole: bool) -> None:
    def send(peer: Peer) -> None:
        peer.send(answer)
        peer.end()

    server = Server(send)
    async with server.running():
        with transport() as carrier:
            exchange = await captured(carrier, server.url())
    assert (exchange.failure, exchange.is_whole) == (failure, is_whole)


async def test_what_was_not_wanted_is_not_whole() -> None:
    server = Server()
    async with server.running():
        with transport() as carrier:
            exchange = await captured(carrier, server.url(), Taken(ENOUGH))
    assert (exchange.failure, exchange.is_whole) == (None, False)
