"""One fetch against servers that behave, and many that do not: each ends in its reason, in time."""

from __future__ import annotations

import asyncio
import gc
import gzip
import socket
import ssl
import struct
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import brotli
import msgspec
import pytest
from backports import zstd
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sqspider.host import RobotsAccess
from sqspider.record import Reason
from sqspider.transport.addresses import why_not_public
from sqspider.url import canonicalize, host_of
from sqspider.version import VERSION
from sqspider.web.fetch import LARGE_BYTES, Fetched, Fetcher, FetchOptions
from sqspider.web.guard import is_web_port
from sqspider.web.robots_rules import access_for
from tests.conftest import load_cases

PRIVATE = FetchOptions(allow_private=True, timeout_seconds=60.0, max_bytes=100_000)
IMPATIENT = msgspec.structs.replace(PRIVATE, timeout_seconds=1.0)  # for what only the limit ends
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class RawServer:
    """A TCP server that sends what it is told to, byte by byte."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.url = ""
        self.port = 0

    @asynccontextmanager
    async def playing(self, handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            try:
                await handler(reader, writer)
            except (ConnectionError, asyncio.IncompleteReadError):
                pass  # the client has left: that is what is tested
            finally:
                writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        self.port = server.sockets[0].getsockname()[1]
        self.url = f"https://localhost:{self.port}/" if tls else f"http://127.0.0.1:{self.port}/"
        try:
            yield self
        finally:
            server.close()

    async def read_request(self, reader: asyncio.StreamReader) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        self.requests.append(head)
        return head


async def fetch_from(response: bytes, *, options: FetchOptions = PRIVATE, times: int = 1) -> tuple[Fetched, RawServer]:
    """Fetch from a server that answers every request with these bytes and then hangs up."""
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(response)
        await writer.drain()

    async with server.playing(answer), Fetcher(options) as fetcher:
        for _ in range(times - 1):
            await fetcher.fetch(server.url)
        while (fetched := await fetcher.fetch(server.url)).is_stale:
            pass
        return fetched, server


def ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", "Content-Type: text/html", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


async def test_a_page_comes_whole_and_its_url_goes_out_as_it_is() -> None:
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(ok(b"hello", "X-Twice: a", "X-Twice: b"))
        await writer.drain()

    async with server.playing(answer), Fetcher(PRIVATE) as fetcher:
        fetched = await fetcher.fetch(f"{server.url}a%2fb;c/?q=%7E'|x")
    assert fetched.reason is None
    assert (fetched.body, fetched.http_status, fetched.truncated) == (b"hello", 200, False)
    assert [value for name, value in fetched.headers if name == "X-Twice"] == ["a", "b"]
    assert server.requests[0].startswith(b"GET /a%2fb;c/?q=%7E'|x HTTP/1.1\r\n")
    assert f"User-Agent: sqspider/{VERSION}\r\n".encode() in server.requests[0]


@pytest.mark.parametrize(
    ("contact", "user_agent"),
    [
        ("bot@example.com", f"sqspider/{VERSION} (+bot@example.com)"),
        ("https://example.com/a(b)\\", f"sqspider/{VERSION} (+https://example.com/a\\(b\\)\\\\)"),
    ],
)
async def test_our_own_name_goes_with_whom_to_write_to(contact: str, user_agent: str) -> None:
    options = msgspec.structs.replace(PRIVATE, contact=contact)
    _, server = await fetch_from(ok(b""), options=options)
    lines = server.requests[0].decode().split("\r\n")
    assert {f"User-Agent: {user_agent}", f"From: {contact}"} <= set(lines)
    assert options.product_token == "sqspider"


async def test_another_name_is_sent_as_it_was_given() -> None:
    options = msgspec.structs.replace(PRIVATE, user_agent="mybot/2.0", contact="bot@example.com")
    _, server = await fetch_from(ok(b""), options=options)
    assert {"User-Agent: mybot/2.0", "From: bot@example.com"} <= set(server.requests[0].decode().split("\r\n"))


TEXT = b"<p>The quick brown fox</p>" * 50
MEMBERS = gzip.compress(TEXT[:600]) + gzip.compress(TEXT[600:])


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(TEXT)), ("GZIP", gzip.compress(TEXT)), ("gzip", MEMBERS),
        ("gzip", gzip.compress(TEXT) + b"rubbish"), ("deflate", zlib.compress(TEXT)),
        ("deflate", zlib.compress(TEXT)[2:-4]), ("br", brotli.compress(TEXT)), ("zstd", zstd.compress(TEXT)),
        ("gzip, br", brotli.compress(gzip.compress(TEXT))), ("identity", TEXT), ("", TEXT), ("none", TEXT),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # gzip puts the time into the bytes
)  # fmt: skip
async def test_content_codings_are_taken_off(coding: str, body: bytes) -> None:
    fetched, _ = await fetch_from(ok(body, f"Content-Encoding: {coding}"))
    assert (fetched.reason, fetched.body, fetched.truncated) == (None, TEXT, False)


BOMB = 300 * 1024 * 1024


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd"])
async def test_a_bomb_is_cut_off_in_bounded_memory(coding: str) -> None:
    compress = {
        "gzip": lambda data: gzip.compress(data, 6),
        "br": lambda data: brotli.compress(data, quality=5, lgwin=24),
        "zstd": lambda data: bytes(zstd.compress(data)),
    }[coding]
    packed = bytes(compress(bytes(BOMB)))  # type: ignore[no-untyped-call] # brotli has no types
    tracemalloc.start()
    fetched, _ = await fetch_from(
        ok(packed, f"Content-Encoding: {coding}"), options=FetchOptions(allow_private=True, max_bytes=100_000)
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (fetched.reason, fetched.truncated, len(fetched.body)) == (None, True, 100_000)
    assert peak < len(packed) * 3 + 8_000_000


HEAD = b"HTTP/1.1 200 OK\r\n"
PLAIN = b"Content-Type: text/html\r\n"
RESPONSES: list[tuple[str, bytes, set[Reason | None]]] = [
    ("http-09 length of 100 digits", HEAD + b"Content-Length: " + b"9" * 100 + b"\r\n\r\n", {None}),
    ("http-10 one header of 100 KiB", HEAD + b"X: " + b"a" * 102_400 + b"\r\n\r\n", {Reason.HEADERS_TOO_LARGE}),
    ("http-11 10,000 headers", HEAD + b"X: y\r\n" * 10_000 + b"\r\n", {Reason.HEADERS_TOO_LARGE}),
    ("http-16 twenty codings", ok(TEXT, "Content-Encoding: " + "gzip, " * 19 + "gzip"), {Reason.BAD_ENCODING}),
    ("http-19 body cut off", HEAD + PLAIN + b"Content-Length: 100\r\n\r\n" + b"x" * 50, {None}),
    ("http-21 two lengths", HEAD + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", {Reason.BAD_RESPONSE}),
    ("http-22 negative length", HEAD + b"Content-Length: -5\r\n\r\nhello", {Reason.BAD_RESPONSE}),
    ("http-24 chunk size not hex", HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\nhello\r\n", {Reason.BAD_RESPONSE}),
    ("http-26 no last chunk", HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", {None}),
    ("http-29 no status line", b"<html>hello</html>", {Reason.BAD_RESPONSE}),
    ("http-30 a strange status", b"HTTP/1.1 -200 OK\r\n\r\n", {Reason.BAD_RESPONSE}),
    ("http-33 NUL in a header", HEAD + b"X: a\x00b\r\n\r\n", {Reason.BAD_RESPONSE}),
    ("http-34 NUL in the body", ok(b"a\x00b"), {None}),
    ("http-36 bytes outside ASCII", ok(b"x", "X: \xe9\xff"), {None}),
    ("http-37 nothing at all", b"", {Reason.CONNECTION_RESET}),
    ("http-41 unasked upgrade", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", {Reason.UNEXPECTED_STATUS}),
    ("http-42 204 with a body", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", {None, Reason.BAD_RESPONSE}),
    ("http-44 206 unasked", b"HTTP/1.1 206 Partial\r\nContent-Length: 1\r\n\r\nx", {Reason.UNEXPECTED_STATUS}),
    ("http-45 empty page", ok(b""), {None}),
    ("http-46 gzip that is none", ok(TEXT, "Content-Encoding: gzip"), {Reason.BAD_ENCODING}),
    ("http-60 no Location", b"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\n\r\n", {Reason.BAD_REDIRECT}),
    ("http-60 empty Location", b"HTTP/1.1 301 Moved\r\nLocation: \r\nContent-Length: 0\r\n\r\n", {Reason.BAD_REDIRECT}),
    ("http-60 no URL", b"HTTP/1.1 301 Moved\r\nLocation: http://[\r\nContent-Length: 0\r\n\r\n", {Reason.BAD_REDIRECT}),
    ("http-58 file", b"HTTP/1.1 302 F\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n", {Reason.BAD_SCHEME}),
    ("http-58 javascript", b"HTTP/1.1 302 F\r\nLocation: javascript:x\r\nContent-Length: 0\r\n\r\n", {Reason.BAD_SCHEME}),
    ("a user in it", b"HTTP/1.1 302 F\r\nLocation: http://u:p@a.b/\r\nContent-Length: 0\r\n\r\n", {Reason.USER_INFO}),
    ("http-66 305", b"HTTP/1.1 305 Use Proxy\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", {Reason.UNEXPECTED_STATUS}),
    ("http-87 a huge Location", b"HTTP/1.1 302 F\r\nLocation: /" + b"a" * 4000 + b"\r\nContent-Length: 0\r\n\r\n", {Reason.URL_TOO_LONG}),
    ("http-71 404", b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", {Reason.CLIENT_ERROR}),
    ("http-72 503", b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n", {Reason.SERVER_ERROR}),
]  # fmt: skip


@pytest.mark.parametrize(("response", "reasons"), [row[1:] for row in RESPONSES], ids=[row[0] for row in RESPONSES])
async def test_a_strange_answer_ends_in_its_reason(response: bytes, reasons: set[Reason | None]) -> None:
    fetched, _ = await fetch_from(response)
    assert fetched.reason in reasons, fetched.detail
    assert fetched.reason is None or fetched.detail
    assert "Error" not in fetched.detail


SHORT_RESPONSES = [row for row in RESPONSES if len(row[1]) < 2000]


@pytest.mark.parametrize(
    ("response", "reasons"), [row[1:] for row in SHORT_RESPONSES], ids=[row[0] for row in SHORT_RESPONSES]
)
async def test_an_answer_that_comes_in_small_pieces_ends_in_the_same_reasons(
    response: bytes, reasons: set[Reason | None]
) -> None:
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        for start in range(0, len(response), 3):
            writer.write(response[start : start + 3])
            await writer.drain()
            for _ in range(5):  # whoever reads is in this loop, too: each piece is read by itself
                await asyncio.sleep(0)

    async with server.playing(answer), Fetcher(PRIVATE) as fetcher:
        fetched = await fetcher.fetch(server.url)
    assert fetched.reason in reasons, fetched.detail


async def test_twenty_codings_on_top_of_one_another_are_too_many() -> None:
    body = TEXT
    for _ in range(20):
        body = gzip.compress(body)
    fetched, _ = await fetch_from(ok(body, "Content-Encoding: " + ", ".join(["gzip"] * 20)))
    assert (fetched.reason, fetched.body) == (Reason.BAD_ENCODING, b"")


async def test_a_truncated_gzip_keeps_what_came() -> None:
    fetched, _ = await fetch_from(ok(gzip.compress(TEXT)[:-20], "Content-Encoding: gzip"))
    assert (fetched.reason, fetched.truncated) == (None, True)
    assert TEXT.startswith(fetched.body[:100])


async def _endless(writer: asyncio.StreamWriter, first: bytes, then: bytes, pause: float) -> None:
    writer.write(first)
    for _ in range(100_000):
        writer.write(then)
        await writer.drain()
        await asyncio.sleep(pause)


@pytest.mark.parametrize(
    ("name", "first", "then", "pause", "reason"),
    [
        ("http-01 silence", b"", b"", 0.1, Reason.TIMEOUT),
        ("http-03 slow headers", HEAD, b"X: y\r\n", 0.1, Reason.TIMEOUT),
        ("http-04 slow body", HEAD + PLAIN + b"\r\n", b"x", 0.1, Reason.TIMEOUT),
        ("http-07 endless body", HEAD + PLAIN + b"\r\n", b"x" * 65_536, 0.0, None),
        ("http-08 ten terabytes", HEAD + b"Content-Length: 10000000000000\r\n\r\n", b"x" * 65_536, 0.0, None),
        ("http-12 endless headers", HEAD, b"X: " + b"y" * 1000 + b"\r\n", 0.0, Reason.HEADERS_TOO_LARGE),
        ("http-40 endless 1xx", b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", 0.001, Reason.TIMEOUT),
    ],
)
async def test_what_does_not_end_is_ended(
    name: str, first: bytes, then: bytes, pause: float, reason: Reason | None
) -> None:
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        await _endless(writer, first, then, pause)

    async with server.playing(answer), Fetcher(IMPATIENT if reason is Reason.TIMEOUT else PRIVATE) as fetcher:
        fetched = await fetcher.fetch(server.url)
    assert fetched.reason is reason, (name, fetched.detail)
    if reason is None:
        assert (fetched.truncated, len(fetched.body)) == (True, 100_000)


async def test_a_connection_in_an_unknown_state_is_not_used_again() -> None:
    fetched, server = await fetch_from(ok(b"x" * 50) + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", times=2)
    assert fetched.body == b"x" * 50
    assert server.connections == 2


@pytest.mark.parametrize("is_reset", [False, True])
async def test_where_a_connection_breaks_nothing_is_asked_again(is_reset: bool) -> None:
    """Whoever asks again keeps the host's delay, and counts a try."""
    server = RawServer()

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        if is_reset:
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    async with server.playing(hang_up), Fetcher(PRIVATE) as fetcher:
        fetched = await fetcher.fetch(server.url)
    assert (fetched.reason, fetched.is_stale) == (Reason.CONNECTION_RESET, False)
    assert len(server.requests) == 1


async def test_a_kept_connection_that_breaks_is_told_and_its_url_gets_another() -> None:
    server = RawServer()

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(ok(b"x"))
        await server.read_request(reader)  # and hangs up

    async with server.playing(answer_once), Fetcher(PRIVATE) as fetcher:
        found = [await fetcher.fetch(f"{server.url}{path}") for path in ("a", "b", "c", "b")]
    assert [fetched.is_stale for fetched in found] == [False, True, False, False]
    assert [fetched.reason for fetched in found] == [None, Reason.CONNECTION_RESET, None, None]
    assert [head.split()[1] for head in server.requests] == [b"/a", b"/b", b"/c", b"/b"]
    assert server.connections == 3


async def test_what_comes_late_on_a_kept_connection_is_no_answer_to_the_next_url() -> None:
    """It comes after the request was written, and belongs to the answer before."""
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(ok(b"x"))
        await server.read_request(reader)
        writer.write(b"surplus" + ok(b"x"))
        await writer.drain()

    async with server.playing(answer), Fetcher(PRIVATE) as fetcher:
        found = [await fetcher.fetch(f"{server.url}{path}") for path in ("a", "b", "b")]
    assert [(fetched.reason, fetched.is_stale) for fetched in found] == [
        (None, False),
        (Reason.BAD_RESPONSE, True),
        (None, False),
    ]
    assert server.connections == 2


async def test_a_body_that_ends_early_is_kept_and_marked_unless_nothing_came() -> None:
    half, _ = await fetch_from(HEAD + b"Content-Length: 9\r\n\r\nhalf")
    assert (half.reason, half.body, half.truncated, half.is_short) == (None, b"half", True, True)
    nothing, _ = await fetch_from(HEAD + b"Content-Length: 9\r\n\r\n")
    assert (nothing.reason, nothing.body) == (Reason.INCOMPLETE_BODY, b"")
    cut, _ = await fetch_from(ok(b"x" * 200_000))  # at our limit: that is not its end
    assert (cut.reason, cut.truncated, cut.is_short) == (None, True, False)


@pytest.mark.parametrize(
    "response",
    [
        HEAD + b"Content-Length: 99\r\n\r\nUser-agent: *\n",
        ok(gzip.compress(b"User-agent: *\nDisallow: /")[:-9], "Content-Encoding: gzip"),
    ],
    ids=["length", "coding"],
)
async def test_a_robots_txt_that_ends_early_allows_nothing(response: bytes) -> None:
    fetched, _ = await fetch_from(response)
    assert (fetched.reason, access_for(fetched)) == (None, RobotsAccess.UNREACHABLE)


async def test_a_url_that_found_a_kept_connection_silent_gets_another() -> None:
    server = RawServer()
    is_over = asyncio.Event()

    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(ok(b"x"))
        await server.read_request(reader)
        await is_over.wait()

    async with server.playing(answer_once), Fetcher(IMPATIENT) as fetcher:
        found = [await fetcher.fetch(f"{server.url}{path}") for path in ("a", "b", "c", "b")]
        is_over.set()
    assert [fetched.reason for fetched in found] == [None, Reason.TIMEOUT, None, None]
    assert not any(fetched.is_stale for fetched in found)  # the request was made, and may take long: a try


async def test_where_a_redirect_leads_is_told_and_not_asked() -> None:
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            head = await server.read_request(reader)
            body = b"gone" if b"/body" in head else b""
            writer.write(b"HTTP/1.1 302 F\r\nLocation: /there#x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
            await writer.drain()

    async with server.playing(answer), Fetcher(PRIVATE) as fetcher:
        for path in ("", "body", "again"):
            fetched = await fetcher.fetch(f"{server.url}{path}")
            assert (fetched.reason, fetched.http_status, fetched.body) == (None, 302, b"")
            assert fetched.redirect_to == f"{server.url}there"
            assert fetched.header("location") == "/there#x"
    assert [head.split()[1] for head in server.requests] == [b"/", b"/body", b"/again"]
    assert server.connections == 1


@pytest.mark.parametrize("http_status", [201, 300, 304, 305, 306, 399])
async def test_only_a_redirect_redirects(http_status: int) -> None:
    """Others may have a Location that says something else."""
    head = f"HTTP/1.1 {http_status} F\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"
    fetched, _ = await fetch_from(head.encode())
    assert fetched.redirect_to is None
    assert fetched.reason is (None if http_status == 201 else Reason.UNEXPECTED_STATUS)


async def test_waiting_for_room_is_not_counted() -> None:
    body = b"x" * (2 * LARGE_BYTES)
    limited = msgspec.structs.replace(PRIVATE, timeout_seconds=1.0, max_bytes=len(body))
    server = RawServer()
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(ok(body))
        await writer.drain()

    async def before_large() -> bool:
        nonlocal asked
        asked += 1
        await asyncio.sleep(limited.timeout_seconds * 1.2)  # longer than the whole fetch may take
        return asked == 1

    async with server.playing(answer), Fetcher(limited) as fetcher:
        assert (await fetcher.fetch(server.url, before_large=before_large)).body == body
        refused = await fetcher.fetch(server.url, before_large=before_large)
    assert (refused.reason, refused.body, asked) == (Reason.INTERNAL_ERROR, b"", 2)


@pytest.mark.parametrize("size", [0, 10, 2 * LARGE_BYTES])
async def test_nothing_of_a_fetch_waits_for_the_collection_of_garbage(size: int) -> None:
    """A body that did would be in memory beside those that come after it."""

    async def before_large() -> bool:
        return True

    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(ok(b"x" * size))
        await writer.drain()

    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        async with server.playing(answer), Fetcher(msgspec.structs.replace(PRIVATE, max_bytes=LARGE_BYTES)) as fetcher:
            fetched = await fetcher.fetch(server.url, before_large=before_large)
            assert fetched.http_status == 200
            del fetched
            gc.collect()
            assert [thing for thing in gc.garbage if type(thing).__module__.startswith("sqspider")] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()


async def test_nobody_listening_and_no_such_name_have_their_reasons() -> None:
    server = RawServer()
    async with server.playing(lambda _r, _w: asyncio.sleep(0)):
        url = server.url
    async with Fetcher(PRIVATE) as fetcher:
        assert (await fetcher.fetch(url)).reason is Reason.CONNECTION_REFUSED
        unknown = await fetcher.fetch("http://no-such-host.invalid/")
        assert unknown.reason in (Reason.DNS_NOT_FOUND, Reason.DNS_FAILURE)
        https = await fetcher.fetch(url.replace("http:", "https:"))
        assert https.reason is Reason.CONNECTION_REFUSED


async def test_plain_http_on_a_tls_port_is_a_tls_error() -> None:
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with server.playing(answer), Fetcher(PRIVATE) as fetcher:
        assert (await fetcher.fetch(server.url.replace("http:", "https:"))).reason is Reason.TLS_ERROR


async def test_no_packet_goes_to_a_private_address() -> None:
    server = RawServer()
    async with server.playing(lambda _r, _w: asyncio.sleep(0)), Fetcher(FetchOptions()) as fetcher:
        port = server.url.rsplit(":", 1)[1]
        for host in ("127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0"):
            fetched = await fetcher.fetch(f"http://{host}:{port}".replace("::ffff:127.0.0.1", "::ffff:7f00:1"))
            assert fetched.reason is Reason.PRIVATE_ADDRESS, (host, fetched.detail)
    assert server.connections == 0


def test_private_addresses_are_known_in_every_spelling() -> None:
    for case in load_cases("practice/07a_ssrf_addresses.json")["cases"]:
        if case["must_block"] != "policy":
            assert (why_not_public(case["ip"]) is not None) == case["must_block"], case["ip"]


def test_private_urls_are_seen_through_however_they_are_written() -> None:
    """Looked at only: nothing is ever sent to what these cases name."""
    checked = 0
    for case in load_cases("practice/07b_ssrf_urls.json")["cases"]:
        url = canonicalize(case["url"])
        if isinstance(url, str) and case["must_block"] and "loopback" in case["reaches"]:
            host = host_of(url).strip("[]")
            if host.replace(".", "").isdigit() or ":" in host:
                assert why_not_public(host) is not None, case["url"]
                checked += 1
    assert checked >= 5


@pytest.mark.parametrize(
    ("port", "allowed"),
    [(80, True), (443, True), (8080, True), (22, False), (25, False), (6379, False), (11211, False)],
)
def test_ports_of_other_services_are_not_asked(port: int, allowed: bool) -> None:
    assert is_web_port(port) is allowed


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.binary(max_size=300)
    | st.builds(
        lambda parts, body: b"HTTP/1.1 " + b"\r\n".join(parts) + b"\r\n\r\n" + body,
        st.lists(
            st.sampled_from([b"200 OK", b"302 F", b"Content-Length: 3", b"Content-Length: x", b"Location: /a",
                             b"Transfer-Encoding: chunked", b"Content-Encoding: gzip", b"Content-Encoding: br"])
            | st.binary(max_size=30),
            max_size=6,
        ),
        st.binary(max_size=60),
    )
)  # fmt: skip
def test_no_answer_makes_it_crash_or_hang(response: bytes) -> None:
    options = FetchOptions(allow_private=True, timeout_seconds=60)
    fetched, _ = asyncio.run(fetch_from(response, options=options))
    assert fetched.reason is not Reason.INTERNAL_ERROR, fetched.detail
    assert fetched.reason is not None or fetched.http_status is not None


async def test_what_is_asked_by_head_keeps_its_connection() -> None:
    """Nothing of an answer is wanted, and no body comes that would have to be cut off."""
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await server.read_request(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 100\r\n\r\n")
            await writer.drain()

    async with server.playing(answer), Fetcher(PRIVATE) as fetcher:
        found = [await fetcher.fetch(server.url, method="HEAD", wants=lambda _: False) for _ in range(3)]
    assert [(each.reason, each.is_unread, each.is_head, each.truncated) for each in found] == [
        (None, True, True, False)
    ] * 3
    assert server.connections == 1
