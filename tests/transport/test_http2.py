"""HTTP/2, where it is asked for: as good as HTTP/1.1, and no more dangerous."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from sqspider.transport import Exchange, Failure, Request
from sqspider.transport.curl import CurlOptions, CurlTransport

from .http2 import (
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    HEADERS,
    HTTP_1_1_REQUIRED,
    INTERNAL_ERROR,
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

    def answer(peer: Peer2, stream: int) -> None:
        if len(server.requests) == 2:
            both.set()
        waiting.append((peer, stream))

    waiting: list[tuple[Peer2, int]] = []
    server = Http2Server(answer)
    async with carried(server) as carrier:
        asking = [asyncio.create_task(ask2(carrier, server.url(path))) for path in "ab"]
        await both.wait()
        for peer, stream in waiting:
            peer.answer(stream, b"hello")
        assert [(await one)[1] for one in asking] == [b"hello", b"hello"]
    assert [peer.streams for peer in server.peers] == [[1], [1]]


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
            if number:  # the one before was closed, and is no more offered by libcurl
                await server.peers[-2].has_left.wait()
        exchange, _ = await ask2(carrier, server.url("3"))
        again, _ = await ask2(carrier, server.url("4"))
    assert (exchange.is_kept, again.is_kept) == (False, True)
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


@pytest.mark.parametrize("stream", [0, 2, 3, 7])
async def test_an_answer_in_a_stream_that_was_not_asked_for_is_no_page(stream: int) -> None:
    push = frame(PUSH_PROMISE, END_HEADERS, 1, b"\0\0\0\2" + STATUS_200)
    for first in (b"", push):
        server = Http2Server(lambda peer, _, first=first: peer.send(first + answer_in(stream)))  # type: ignore[misc]
        async with carried(server) as carrier:
            exchange, body = await ask2(carrier, server.url(), 0.5)
            assert exchange.failure in (Failure.NOT_HTTP2, Failure.NO_ANSWER, Failure.TIMEOUT)
            assert (exchange.http_status, body) == (None, b"")


def floods() -> Iterator[tuple[str, bytes, bytes, Failure]]:
    line = field(b"x" * 100, b"y" * 100)
    big = b"\x40\1x\x7f\xa1\x1e" + b"y" * 4000  # goes into the table, and is said again in a byte
    yield (
        "a bomb",
        frame(HEADERS, 0, 1, STATUS_200 + big + b"\xbe" * 12_000) + frame(CONTINUATION, END_HEADERS, 1),
        b"",
        Failure.HEAD_TOO_LARGE,
    )
    yield "interim answers", b"", frame(HEADERS, END_HEADERS, 1, b"\x08\x03103" + line * 60), Failure.HEAD_TOO_LARGE
    yield "continuations", frame(HEADERS, 0, 1, STATUS_200), frame(CONTINUATION, 0, 1, line * 60), Failure.TIMEOUT
    yield "empty continuations", frame(HEADERS, 0, 1, STATUS_200), frame(CONTINUATION, 0, 1), Failure.TIMEOUT
    yield "pings", b"", frame(PING, 0, 0, b"12345678") * 100, Failure.TIMEOUT
    yield "settings", b"", frame(SETTINGS, 0, 0) * 100, Failure.TIMEOUT
    yield "empty data", frame(HEADERS, END_HEADERS, 1, STATUS_200), frame(DATA, 0, 1) * 100, Failure.TIMEOUT
    yield "unknown frames", b"", frame(99, 0, 1, bytes(1000)) * 10, Failure.TIMEOUT


async def flood(peer: Peer2, first: bytes, then: bytes) -> None:
    peer.send(first)
    try:
        while then:
            peer.send(then)
            await peer.writer.drain()
            await asyncio.sleep(0)
    except OSError:
        pass  # it has left


@pytest.mark.parametrize(("first", "then", "failure"), [pytest.param(*rest, id=name) for name, *rest in floods()])
async def test_a_flood_by_http2_is_ended_in_bounded_memory(first: bytes, then: bytes, failure: Failure) -> None:
    senders = []
    server = Http2Server(lambda peer, _: senders.append(asyncio.create_task(flood(peer, first, then))))
    async with carried(server) as carrier:
        exchange, body = await ask2(carrier, server.url(), 1.0 if failure is Failure.TIMEOUT else 60.0)
        print(exchange.failure, exchange.detail, exchange.end_seconds, exchange.http_status)
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
    assert exchange.failure is failure or exchange.failure in (Failure.NOT_HTTP2, Failure.BAD_FRAMING)
    assert body == b""
