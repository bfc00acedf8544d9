"""HTTP/2, where it is asked for: as good as HTTP/1.1, and no more dangerous."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from sqspider.transport import ENOUGH, GO_ON, PAUSE, Exchange, Failure, Request
from sqspider.transport.curl import CurlOptions, CurlTransport
from sqspider.transport.easy import BUFFER_BYTES

from .http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    HTTP_1_1_REQUIRED,
    INTERNAL_ERROR,
    LEFT,
    OK,
    PING,
    PUSH_PROMISE,
    REFUSED_STREAM,
    SETTINGS,
    STATUS_200,
    WINDOW_UPDATE,
    Http2Server,
    Peer2,
    field,
    frame,
)
from .kit import Server, Taken, ask, transport
from .test_connections import until_it_arrives


async def ask2(carrier: CurlTransport, url: str, seconds: float = 60.0) -> tuple[Exchange, bytes]:
    taken = Taken()
    request = Request(url, timeout_seconds=seconds, connect_seconds=60.0, http2=True)
    return await carrier.exchange(request, taken), taken.whole


@asynccontextmanager
async def carried(server: Http2Server, *protocols: str) -> AsyncIterator[CurlTransport]:
    async with server.running(*protocols) as trusted:
        with transport(CurlOptions(certificates=trusted)) as carrier:
            yield carrier


def answer_in(stream: int, body: bytes = b"WRONG") -> bytes:
    return frame(HEADERS, END_HEADERS, stream, STATUS_200) + frame(DATA, END_STREAM, stream, body)


async def test_a_page_by_http2_is_kept_as_text() -> None:
    fields = (*OK, ("x-a", "b "), ("x-a", "c"))
    server = Http2Server(lambda peer, stream: peer.answer(stream, b"hello", fields))
    async with carried(server) as carrier:
        taken = Taken()
        request = Request(server.url("a%2fb?"), ("X-Own: y",), http2=True, keeps_request_head=True)
        exchange = await carrier.exchange(request, taken)
    assert (exchange.failure, exchange.http_status, exchange.protocol, taken.whole) == (None, 200, "HTTP/2", b"hello")
    assert exchange.head == [b"HTTP/2 200 \r\n", b"x-a: b\r\n", b"x-a: c\r\n", b"\r\n"]
    assert exchange.headers == (("x-a", "b"), ("x-a", "c"))
    lines = exchange.request_head.split(b"\r\n")
    assert lines[:2] == [b"GET /a%2fb? HTTP/2", b"Host: localhost:%d" % server.port]
    assert b"X-Own: y" in lines
    assert (
        server.requests[0].items()
        >= {":path": "/a%2fb?", ":authority": f"localhost:{server.port}", "x-own": "y"}.items()
    )
    assert exchange.tls.startswith("TLS")
    assert 0 < exchange.sent_seconds <= exchange.first_byte_seconds <= exchange.end_seconds


async def test_one_connection_of_http2_serves_one_page_after_another() -> None:
    server = Http2Server()
    async with carried(server) as carrier:
        found = [await ask2(carrier, server.url(path)) for path in "abc"]
    assert [(exchange.is_kept, body) for exchange, body in found] == [
        (False, b"hello"),
        (True, b"hello"),
        (True, b"hello"),
    ]
    assert [peer.streams for peer in server.peers] == [[1, 3, 5]]


async def test_no_two_requests_share_a_connection_at_a_time() -> None:
    both = asyncio.Event()
    waiting: list[tuple[Peer2, int]] = []

    def answer(peer: Peer2, stream: int) -> None:
        waiting.append((peer, stream))
        if len(waiting) == 2:
            both.set()

    server = Http2Server()
    async with carried(server) as carrier:
        await ask2(carrier, server.url())  # from here on libcurl knows what the server speaks
        server.answer = answer
        asking = [asyncio.create_task(ask2(carrier, server.url(path))) for path in "ab"]
        await both.wait()
        for peer, stream in waiting:
            peer.answer(stream, b"hello")
        assert [(await one)[1] for one in asking] == [b"hello", b"hello"]
        assert len(carrier._kept) == 2
    assert [peer.streams for peer in server.peers] == [[1, 3], [1]]


@pytest.mark.parametrize("piece", [1, 1000, 16_384])
async def test_a_body_in_many_frames_is_whole(piece: int) -> None:
    body = bytes(range(256)) * (40 if piece == 1 else 12_000)
    server = Http2Server(lambda peer, stream: peer.answer(stream, body, piece=piece))
    async with carried(server) as carrier:
        assert (await ask2(carrier, server.url()))[1] == body


async def test_http2_is_spoken_only_where_it_is_asked_for_and_there() -> None:
    server, plain = Http2Server(), Server()
    async with carried(server) as carrier, plain.running():
        exchange, body = await ask(carrier, server.url())
        assert (exchange.protocol, body) == ("HTTP/1.1", b"hello")
        exchange, body = await ask2(carrier, plain.url())
        assert (exchange.protocol, body) == ("HTTP/1.1", b"hello")
        assert b"upgrade" not in plain.heads[0].lower()
    old = Http2Server()
    async with carried(old, "http/1.1") as carrier:
        found = [await ask2(carrier, old.url(path)) for path in "ab"]
    assert [(exchange.protocol, exchange.is_kept) for exchange, _ in found] == [("HTTP/1.1", False), ("HTTP/1.1", True)]


@pytest.mark.parametrize(
    "surplus",
    [
        frame(PING, 0, 0, b"12345678"),
        frame(SETTINGS, 0, 0),
        frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
        frame(7, 0, 0, bytes(7) + b"\1" + bytes(4)),
        answer_in(3),
        answer_in(1),
        answer_in(2),
        None,
    ],
    ids=["a ping", "settings", "a window", "an end is announced", "the next stream", "the last stream", "a stream of its own", "an end"],
)  # fmt: skip
async def test_what_waits_at_a_kept_connection_of_http2_harms_no_next_page(surplus: bytes | None) -> None:
    server = Http2Server()
    async with carried(server) as carrier:
        for number in range(3):
            exchange, body = await ask2(carrier, server.url(str(number)))
            assert (exchange.failure, exchange.is_kept, body) == (None, False, b"hello")
            peer = server.peers[-1]
            if surplus is None:
                peer.writer.transport.abort()
            else:
                peer.send(surplus)
            await until_it_arrives(carrier)
        exchange, _ = await ask2(carrier, server.url("3"))
        again, _ = await ask2(carrier, server.url("4"))
        assert (exchange.is_kept, again.is_kept) == (False, True)  # libcurl offers none that was left
        for peer in server.peers[:-1]:
            await peer.has_left.wait()
    assert server.targets == ["/0", "/1", "/2", "/3", "/4"]
    assert len(server.peers) == 4


def cut(peer: Peer2, stream: int) -> None:
    peer.begin(stream, b"hel")
    peer.end()


def refuse_with_an_end(peer: Peer2, _stream: int) -> None:
    peer.go_away()
    peer.end()


def end_in_anger(peer: Peer2, _stream: int) -> None:
    peer.go_away(ENHANCE_YOUR_CALM)
    peer.end()


def end_with_word(peer: Peer2, stream: int) -> None:
    peer.go_away(last=stream)
    peer.end()


def reset_amid(peer: Peer2, stream: int) -> None:
    peer.begin(stream, b"hel")
    peer.reset(stream, INTERNAL_ERROR)


def say_a_wrong_length(length: int) -> Callable[[Peer2, int], None]:
    def answer(peer: Peer2, stream: int) -> None:
        peer.begin(stream, b"", (*OK, ("content-length", str(length))))
        peer.send(frame(DATA, END_STREAM, stream, b"hello"))

    return answer


@pytest.mark.parametrize(
    ("answer", "failure", "said"),
    [
        (lambda peer, stream: peer.reset(stream, INTERNAL_ERROR), Failure.STREAM_RESET, "INTERNAL_ERROR"),
        (lambda peer, stream: peer.reset(stream, ENHANCE_YOUR_CALM), Failure.STREAM_RESET, "ENHANCE_YOUR_CALM"),
        (lambda peer, stream: peer.reset(stream, REFUSED_STREAM), Failure.REFUSED, ""),
        (lambda peer, stream: peer.reset(stream, HTTP_1_1_REQUIRED), Failure.REFUSED, ""),
        (refuse_with_an_end, Failure.REFUSED, ""),
        (end_in_anger, Failure.NOT_HTTP2, "ENHANCE_YOUR_CALM"),
        (end_with_word, Failure.NO_ANSWER, ""),
        (lambda peer, _: peer.end(), Failure.NO_ANSWER, ""),
        (lambda peer, stream: peer.send(frame(HEADERS, END_HEADERS | END_STREAM, stream, field(b"a", b"b"))), Failure.NOT_HTTP2, "FRAME"),
        (reset_amid, Failure.STREAM_RESET, "INTERNAL_ERROR"),
        (cut, Failure.SHORT_BODY, ""),
        (say_a_wrong_length(9), Failure.BAD_FRAMING, "FRAME"),
        (say_a_wrong_length(2), Failure.BAD_FRAMING, "FRAME"),
    ],
    ids=[
        "a reset", "calm", "refused", "1.1 is required", "refused by an end", "an end in anger", "an end that is announced", "an end", "no status",
        "a reset amid the body", "an end amid the body", "a short body", "a long body",
    ],
)  # fmt: skip
async def test_what_fails_by_http2_is_told_apart_and_never_asked_twice(
    answer: Callable[[Peer2, int], None], failure: Failure, said: str
) -> None:
    server = Http2Server(answer)
    async with carried(server) as carrier:
        exchange, _ = await ask2(carrier, server.url("a"))
        assert (exchange.failure, exchange.is_kept) == (failure, False), exchange.detail
        assert said in exchange.detail
        server.answer = b"hello"
        exchange, body = await ask2(carrier, server.url("b"))  # over another connection
        assert (exchange.failure, exchange.is_kept, body) == (None, False, b"hello")
    assert server.targets == ["/a", "/b"]


@pytest.mark.parametrize("code", [REFUSED_STREAM, None], ids=["refused", "an end"])
async def test_an_end_that_crosses_a_request_on_a_kept_connection_is_stale(code: int | None) -> None:
    server = Http2Server()
    async with carried(server) as carrier:
        await ask2(carrier, server.url("a"))
        server.answer = refuse_with_an_end if code is None else lambda peer, stream: peer.reset(stream, code)
        exchange, _ = await ask2(carrier, server.url("b"))
    assert (exchange.failure, exchange.is_kept) == (Failure.STALE, True)
    assert server.targets == ["/a", "/b"]


@pytest.mark.parametrize("stream", [0, 1, 2, 5, 7])
async def test_an_answer_in_a_stream_that_was_not_asked_for_is_no_page(stream: int) -> None:
    push = frame(PUSH_PROMISE, END_HEADERS, 3, b"\0\0\0\2" + STATUS_200)
    for first in (b"", push):
        server = Http2Server()
        async with carried(server) as carrier:
            await ask2(carrier, server.url())  # the next one is connected at once, and asks in stream 3
            server.answer = lambda peer, _, first=first: peer.send(first + answer_in(stream))
            exchange, body = await ask2(carrier, server.url(), 0.5)
            assert exchange.failure in (Failure.NOT_HTTP2, Failure.NO_ANSWER, Failure.STALE, Failure.TIMEOUT)
            assert (exchange.http_status, body) == (None, b"")


def floods() -> Iterator[tuple[str, bytes, bytes, Failure]]:
    line = field(b"x" * 100, b"y" * 100)
    big = b"\x40\1x\x7f\xa1\x1e" + b"y" * 4000  # goes into the table, and is said again in a byte
    bomb = frame(HEADERS, 0, 1, STATUS_200 + big + b"\xbe" * 12_000) + frame(CONTINUATION, END_HEADERS, 1)
    head = frame(HEADERS, END_HEADERS, 1, STATUS_200)
    yield "a bomb", bomb, b"", Failure.HEAD_TOO_LARGE
    yield "interim answers", b"", frame(HEADERS, END_HEADERS, 1, b"\x08\x03103" + line * 60), Failure.HEAD_TOO_LARGE
    yield "trailers", head, frame(HEADERS, END_HEADERS, 1, line * 60), Failure.BAD_FRAMING
    yield "continuations", frame(HEADERS, 0, 1, STATUS_200), frame(CONTINUATION, 0, 1, line * 60), Failure.NOT_HTTP2
    yield "empty continuations", frame(HEADERS, 0, 1, STATUS_200), frame(CONTINUATION, 0, 1), Failure.NOT_HTTP2
    yield "pings", b"", frame(PING, 0, 0, b"12345678") * 100, Failure.TIMEOUT
    yield "settings", b"", frame(SETTINGS, 0, 0) * 100, Failure.TIMEOUT
    yield "empty data", head, frame(DATA, 0, 1) * 100, Failure.BAD_FRAMING
    yield "unknown frames", b"", frame(99, 0, 1, bytes(1000)) * 10, Failure.NOT_HTTP2


async def flood(peer: Peer2, first: bytes, then: bytes) -> None:
    peer.send(first)
    try:
        while then:
            peer.send(then)
            await peer.writer.drain()
            await asyncio.sleep(0)
    except LEFT:
        pass  # it has left


@pytest.mark.parametrize(("first", "then", "failure"), [pytest.param(*rest, id=name) for name, *rest in floods()])
async def test_a_flood_by_http2_is_ended(first: bytes, then: bytes, failure: Failure) -> None:
    senders = []
    server = Http2Server()
    async with carried(server) as carrier:
        if failure is Failure.TIMEOUT:  # then it is not the connection that takes the time
            await ask2(carrier, server.url())
        server.answer = lambda peer, _: senders.append(asyncio.create_task(flood(peer, first, then)))
        exchange, body = await ask2(carrier, server.url(), 0.5 if failure is Failure.TIMEOUT else 60.0)
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
        server.answer = b"hello"
        assert (await ask2(carrier, server.url()))[1] == b"hello"
    assert (exchange.failure, body) == (failure, b""), exchange.detail
    assert len(server.peers) == 2


class Pausing(Taken):
    exchange: Exchange

    def head(self, exchange: Exchange) -> bool:
        self.exchange = exchange
        return True

    def body(self, piece: bytes) -> int:
        super().body(piece)
        return PAUSE if len(self.pieces) == 1 else GO_ON


async def test_a_pause_by_http2_holds_the_server_back_and_does_not_count() -> None:
    body = bytes(range(256)) * 240_000
    server = Http2Server(lambda peer, stream: peer.answer(stream, body))
    async with carried(server) as carrier:
        taken = Pausing()
        request = Request(server.url(), timeout_seconds=30.0, http2=True)
        asking = asyncio.create_task(carrier.exchange(request, taken))
        await taken.began.wait()
        for _ in range(1000):  # the server sends what it may
            await asyncio.sleep(0)
        assert len(taken.whole) <= BUFFER_BYTES
        assert server.peers[0].left(1) > len(body) // 2
        assert not asking.done()
        taken.exchange.resume(is_wanted=True)
        assert (await asking).failure is None
    assert taken.whole == body


async def endless(peer: Peer2, stream: int) -> None:
    peer.begin(stream)
    try:
        while True:
            peer.h2.send_data(stream, b"more")
            peer.send()
            await asyncio.sleep(0)
    except LEFT:
        pass  # it is not wanted any more


@pytest.mark.parametrize("how", ["enough", "time", "cancelled", "paused"])
async def test_a_connection_of_http2_whose_answer_was_not_taken_whole_is_not_used_again(how: str) -> None:
    senders = []
    server = Http2Server()
    async with carried(server) as carrier:
        await ask2(carrier, server.url())  # so that the time is not that of the connection
        server.answer = lambda peer, stream: senders.append(asyncio.create_task(endless(peer, stream)))
        taken = Pausing() if how == "paused" else Taken(ENOUGH if how == "enough" else GO_ON)
        request = Request(
            server.url("a"), timeout_seconds=0.5 if how == "time" else 60.0, connect_seconds=60.0, http2=True
        )
        asking = asyncio.create_task(carrier.exchange(request, taken))
        if how in ("cancelled", "paused"):
            await taken.began.wait()
        if isinstance(taken, Pausing):
            taken.exchange.resume(is_wanted=False)
        elif how == "cancelled":
            asking.cancel()
        found = await asyncio.gather(asking, return_exceptions=True)
        assert (carrier._busy, carrier._kept) == ({}, {})
        server.answer = b"hello"
        for path in "bc":
            exchange, body = await ask2(carrier, server.url(path))
            assert (exchange.failure, exchange.is_kept, body) == (None, path == "c", b"hello")
        await server.peers[0].has_left.wait()
        await asyncio.gather(*senders)
    if isinstance(found[0], Exchange):
        assert found[0].failure is (Failure.TIMEOUT if how == "time" else None)
    assert [peer.streams for peer in server.peers[1:]] == [[1, 3]]


async def test_the_gate_and_the_address_are_asked_before_each_request_by_http2() -> None:
    allowed = is_open = True
    server = Http2Server()
    async with server.running() as trusted:
        check = CurlOptions(certificates=trusted, check_address=lambda _: None if allowed else "no")
        with transport(check) as carrier:

            async def failure_of(path: str) -> Failure | None:
                request = Request(server.url(path), http2=True, gate=lambda: is_open)
                return (await carrier.exchange(request, Taken())).failure

            assert await failure_of("a") is None
            is_open = False
            assert await failure_of("b") is Failure.GATE  # on the kept one
            assert await failure_of("c") is Failure.GATE  # on a new one
            is_open = True
            assert await failure_of("d") is None
            allowed = False
            assert await failure_of("e") is Failure.ADDRESS_REFUSED
    assert server.targets == ["/a", "/d"]


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_a_server_does_by_http2_each_url_has_its_own_page_or_none(seed: int) -> None:
    """And nothing is asked twice, nor left behind."""
    rng = random.Random(seed)

    def answer(peer: Peer2, stream: int) -> None:
        page = server.targets[-1].encode()
        what = rng.randrange(8)
        if what == 0:
            peer.reset(stream, rng.choice((INTERNAL_ERROR, REFUSED_STREAM)))
        elif what == 1:
            refuse_with_an_end(peer, stream)
        else:
            peer.answer(stream, page, piece=3)
        if what == 2:
            peer.send(frame(PING, 0, 0, b"12345678"))
        elif what == 3:
            peer.go_away(last=stream)
        elif what == 4:
            peer.end()
        elif what == 5:
            peer.send(answer_in(stream + 4))  # not the next one: see docs/security.md

    async def some() -> None:
        while left:
            path = left.pop()
            exchange, body = await ask2(carrier, server.url(path))
            if exchange.failure is None:
                pages.append(path)
                assert body == f"/{path}".encode()

    left = [str(number) for number in range(150)]
    pages: list[str] = []
    server = Http2Server(answer)
    async with carried(server) as carrier:
        await asyncio.gather(*(some() for _ in range(16)))
        assert carrier._busy == {}
        assert len(carrier._kept) <= 16
    assert len(set(server.targets)) == len(server.targets)
    assert len(pages) > 75


@asynccontextmanager
async def tunnels() -> AsyncIterator[int]:
    """The port of a proxy that makes tunnels."""

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        there, to = await asyncio.open_connection("127.0.0.1", int(target.rpartition(b":")[2]))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        try:
            await asyncio.gather(carry(reader, to), carry(there, writer))
        except LEFT:
            pass  # one end has left
        finally:
            to.close()
            writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


async def test_http2_goes_through_the_tunnel_of_a_proxy() -> None:
    server = Http2Server()
    async with server.running() as trusted, tunnels() as port:
        with transport(CurlOptions(certificates=trusted, proxy=f"http://127.0.0.1:{port}")) as carrier:
            for number in range(2):
                exchange, body = await ask2(carrier, server.url())
                assert (exchange.protocol, exchange.is_kept, body) == ("HTTP/2", number == 1, b"hello"), exchange.detail
                assert exchange.head == [b"HTTP/2 200 \r\n", b"\r\n"]


async def test_an_answer_by_http2_ends_alike_wherever_it_is_split() -> None:
    def answer_of(stream: int) -> bytes:
        fields = STATUS_200 + field(b"x", b"y")
        body = frame(DATA, 0, stream, b"hel") + frame(DATA, 0, stream) + frame(DATA, END_STREAM, stream, b"lo")
        return frame(HEADERS, 0, stream, fields[:3]) + frame(CONTINUATION, END_HEADERS, stream, fields[3:]) + body

    def answer(peer: Peer2, stream: int) -> None:
        peer.send(answer_of(stream)[:at])
        tasks.append(asyncio.create_task(send_the_rest(peer, stream)))

    async def send_the_rest(peer: Peer2, stream: int) -> None:
        for _ in range(4):  # the loop has both ends: what was sent is read in the rounds that follow
            await asyncio.sleep(0)
        peer.send(answer_of(stream)[at:])

    tasks: list[asyncio.Task[None]] = []
    server = Http2Server(answer)
    async with carried(server) as carrier:
        for at in range(len(answer_of(1)) + 1):
            exchange, body = await ask2(carrier, server.url())
            assert (exchange.failure, exchange.headers, body) == (None, (("x", "y"),), b"hello"), at
        await asyncio.gather(*tasks)
    assert len(server.peers) == 1
