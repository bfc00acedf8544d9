"""What a fetcher keeps of an answer for an archive: the payload as it was sent, why it is not all, whose lines are
secret. What it says of the answer besides is the same with and without."""

from __future__ import annotations

import asyncio
import base64
import gzip
import random
import socket
import struct
import zlib
from typing import Any

import brotli
import msgspec
import pytest
from backports import zstd

from sqspider.capture import REQUEST_LINE, Capture, is_captured, redacted_head
from sqspider.record import Reason
from sqspider.redact import learn_secret
from sqspider.web.fetch import LARGE_BYTES, Cut, Fetched, Fetcher, FetchOptions
from tests.conftest import load_cases
from tests.web.test_fetching import HEAD, PRIVATE, RESPONSES, TEXT, Handler, RawServer, fetch_from, ok

replace = msgspec.structs.replace
CAPTURING = replace(PRIVATE, captures=True)
IMPATIENT = replace(CAPTURING, timeout_seconds=0.5)
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
NOISE = random.Random(1).randbytes(400_000)  # does not pack
LOST = struct.pack("ii", 1, 0)  # of SO_LINGER: closing is a reset


def redirect(body: bytes, *headers: str) -> bytes:
    return ok(body, "Location: /there", *headers).replace(b"200 OK", b"302 Found", 1)


async def taken(response: bytes, options: FetchOptions = CAPTURING, **more: Any) -> Fetched:
    """What is fetched from a server that answers so and hangs up."""
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(response)
        await writer.drain()

    return await by(answer, server, options, **more)


async def by(handler: Handler, server: RawServer, options: FetchOptions = CAPTURING, **more: Any) -> Fetched:
    async with server.playing(handler), Fetcher(options) as fetcher:
        return await fetcher.fetch(server.url, **more)


@pytest.mark.parametrize("size", [0, 5, 20_000, 99_999])
async def test_the_payload_is_the_very_body_where_nothing_was_decoded(size: int) -> None:
    """It costs neither memory nor time."""
    for coding in ("", "identity", "unheard-of"):
        fetched = await taken(ok(NOISE[:size], f"Content-Encoding: {coding}"))
        assert fetched.body == NOISE[:size]
        assert fetched.payload is fetched.body
        assert fetched.cut is None


async def test_the_payload_is_the_very_body_where_it_is_cut() -> None:
    fetched = await taken(ok(NOISE))
    assert (len(fetched.body), fetched.truncated) == (100_000, True)
    assert fetched.payload is fetched.body
    assert fetched.cut is Cut.LENGTH


CODED = [
    ("gzip", gzip.compress(TEXT)),
    ("gzip", gzip.compress(TEXT) + b"rubbish behind it"),
    ("deflate", zlib.compress(TEXT)),
    ("br", brotli.compress(TEXT)),
    ("zstd", zstd.compress(TEXT)),
    ("gzip, br", brotli.compress(gzip.compress(TEXT))),
]


@pytest.mark.parametrize(("coding", "payload"), CODED, ids=[coding for coding, _ in CODED])
async def test_content_codings_stay_on(coding: str, payload: bytes) -> None:
    fetched = await taken(ok(payload, f"Content-Encoding: {coding}"))
    assert (fetched.body, fetched.payload, fetched.cut) == (TEXT, payload, None)


async def test_transfer_coding_is_off() -> None:
    payload = gzip.compress(TEXT)
    chunks = b"".join(b"%x;x=y\r\n%s\r\n" % (len(part), part) for part in (payload[:7], payload[7:]))
    response = HEAD + b"Content-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nX-T: y\r\n\r\n"
    fetched = await taken(response)
    assert (fetched.body, fetched.payload, fetched.cut) == (TEXT, payload, None)
    assert fetched.exchange is not None
    assert fetched.exchange.trailers == [b"X-T: y\r\n"]


async def test_what_is_no_page_has_a_payload_too() -> None:
    for response in (
        redirect(b"over there"),
        ok(b"over there").replace(b"200 OK", b"302 Found", 1),  # it does not say where
        ok(b"over there").replace(b"200 OK", b"404 Not Found", 1),
        ok(b"over there").replace(b"200 OK", b"503 Busy", 1),
    ):
        fetched = await taken(response)
        assert (fetched.payload, fetched.cut) == (b"over there", None) or fetched.reason is Reason.BAD_REDIRECT
        assert is_captured(fetched)


async def test_of_a_long_redirect_there_is_what_was_read() -> None:
    fetched = await taken(redirect(NOISE))
    assert fetched.redirect_to is not None
    assert 16_000 < len(fetched.payload) < len(NOISE)
    assert NOISE.startswith(fetched.payload)
    assert (fetched.body, fetched.cut) == (b"", Cut.LENGTH)


async def test_of_what_decodes_to_more_than_is_wanted_there_is_what_was_read() -> None:
    packed = gzip.compress(bytes(50_000_000))
    fetched = await taken(ok(packed, "Content-Encoding: gzip"))
    assert (len(fetched.body), fetched.truncated) == (100_000, True)
    assert 0 < len(fetched.payload) <= len(packed)
    assert packed.startswith(fetched.payload)
    assert fetched.cut is (None if len(fetched.payload) == len(packed) else Cut.LENGTH)


async def test_what_decodes_to_nothing_is_bounded_and_asks_for_room() -> None:
    """Members of gzip without content, or rubbish behind one: no limit of decoded bytes ends them."""
    asked = []

    async def before_large() -> bool:
        asked.append(True)
        return True

    for surplus in (gzip.compress(b"") * 50_000, NOISE * 3):
        fetched = await taken(ok(gzip.compress(TEXT) + surplus, "Content-Encoding: gzip"), before_large=before_large)
        assert (fetched.reason, fetched.body) == (None, TEXT)
        assert (len(fetched.payload), fetched.cut) == (CAPTURING.max_bytes, Cut.LENGTH)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("response", "payload", "cut"),
    [
        (HEAD + b"Content-Length: 100\r\n\r\nhello", b"hello", Cut.DISCONNECT),
        (CHUNKED + b"5\r\nhello\r\n", b"hello", Cut.DISCONNECT),
        (CHUNKED + b"5\r\nhello\r\nxyz\r\n", b"hello", Cut.UNSPECIFIED),
        (HEAD + b"\r\nhello", b"hello", None),  # its end is that of the connection
        (ok(b"hello", "Content-Encoding: gzip"), b"hello", None),  # which it is not
        (CHUNKED.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n") + b"5\r\nhello\r\n0\r\n\r\n", b"hello", Cut.LENGTH),
        (ok(gzip.compress(TEXT, mtime=0)[:-20], "Content-Encoding: gzip"), gzip.compress(TEXT, mtime=0)[:-20], None),
        (redirect(b"hello").replace(b"Length: 5", b"Length: 6"), b"hello", Cut.DISCONNECT),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b"", None),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\nhello", b"", None),
    ],
)  # fmt: skip
async def test_why_a_payload_is_not_all_is_told(response: bytes, payload: bytes, cut: Cut | None) -> None:
    fetched = await taken(response)
    assert (fetched.payload, fetched.cut) == (payload, cut)
    assert is_captured(fetched)


@pytest.mark.parametrize("head", [HEAD + b"Content-Length: 100\r\n\r\n", CHUNKED + b"64\r\n", HEAD + b"\r\n"])
async def test_what_takes_too_long_or_is_reset_is_kept_as_far_as_it_came(head: bytes) -> None:
    async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(head + b"hello")
        await reader.read()

    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(head + b"hello")
        await writer.drain()
        await came.wait()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LOST)
        writer.transport.abort()

    def see(_: bytes) -> bool:
        came.set()
        return True

    server, came = RawServer(), asyncio.Event()
    fetched = await by(stall, server, IMPATIENT)
    assert (fetched.reason, fetched.payload, fetched.cut) == (Reason.TIMEOUT, b"hello", Cut.TIME)
    fetched = await by(reset, server, sink=see)
    assert (fetched.reason, fetched.payload, fetched.cut) == (Reason.CONNECTION_RESET, b"hello", Cut.DISCONNECT)


async def test_a_body_that_there_is_no_room_for_is_kept_as_far_as_it_came() -> None:
    async def no() -> bool:
        return False

    fetched = await taken(ok(NOISE), replace(CAPTURING, max_bytes=1_000_000), before_large=no)
    assert fetched.reason is Reason.INTERNAL_ERROR
    assert LARGE_BYTES < len(fetched.payload) < len(NOISE)
    assert fetched.cut is Cut.LENGTH


async def test_what_a_sink_takes_is_kept_too_and_bounded() -> None:
    seen = bytearray()

    def see(data: bytes) -> bool:
        seen.extend(data)
        return len(seen) < 300_000

    packed = gzip.compress(TEXT)
    fetched = await taken(ok(packed, "Content-Encoding: gzip"), sink=see)
    assert (bytes(seen), fetched.body, fetched.payload, fetched.cut) == (TEXT, b"", packed, None)
    seen.clear()
    fetched = await taken(ok(NOISE), sink=see, max_bytes=1_000_000)
    assert len(seen) >= 300_000
    assert (fetched.payload, fetched.cut) == (NOISE[:100_000], Cut.LENGTH)
    fetched = await taken(ok(b"none").replace(b"200 OK", b"404 None", 1), sink=see)
    assert (fetched.payload, fetched.cut) == (b"", Cut.LENGTH)  # it is not read


async def test_what_ends_with_the_last_byte_that_is_wanted_is_whole() -> None:
    """Whoever goes away then has it all: the head says so."""
    fetched = await taken(ok(TEXT), sink=lambda _: False)
    assert (fetched.payload, fetched.cut) == (TEXT, None)
    for head in (CHUNKED, HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"):
        fetched = await taken(head + b"5\r\nhello\r\n0\r\n\r\n", sink=lambda _: False)
        assert (fetched.payload, fetched.cut) == (b"hello", Cut.LENGTH)  # it cannot be known


RAW = [base64.b64decode(answer["raw_b64"]) for case in load_cases("practice/05b_curl_raw_responses.json")["cases"]
       for answer in case["responses"].values()]  # fmt: skip


@pytest.mark.parametrize("response", [row[1] for row in RESPONSES] + RAW)
async def test_a_strange_answer_says_the_same_with_and_without(response: bytes) -> None:
    plain, _ = await fetch_from(response)
    fetched, server = await fetch_from(response, options=CAPTURING)
    times = {"elapsed_seconds": 0.0, "sent_seconds": 0.0, "exchange": None}
    urls = {"url": "", "redirect_to": None, "detail": ""}  # a port differs
    bare = {"payload": b"", "cut": None, "secret_lines": frozenset[str]()}
    assert replace(fetched, **times, **urls, **bare) == replace(plain, **times, **urls)
    assert (plain.payload, plain.cut) == (b"", None)
    assert not is_captured(plain)
    exchange = fetched.exchange
    assert exchange is not None
    assert exchange.request_head == server.requests[-1]
    assert is_captured(fetched) == (exchange.http_status is not None)
    if is_captured(fetched):
        assert b"".join(exchange.head).startswith(b"HTTP/")
        assert exchange.head[-1] in (b"\r\n", b"\n")


async def test_what_was_not_answered_is_no_capture() -> None:
    for response in (
        b"",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n",
        b"<html>",
        HEAD + b"Transfer-Encoding: gzip\r\n\r\nhello",  # libcurl reads no further
    ):
        fetched = await taken(response)
        assert fetched.reason is not None
        assert not is_captured(fetched)


async def test_what_the_proxy_says_itself_is_no_capture() -> None:
    refused = b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n"
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(refused)

    async with server.playing(answer), Fetcher(replace(CAPTURING, proxy=server.url)) as fetcher:
        fetched = await fetcher.fetch("http://h.example/")
    assert fetched.reason is Reason.PROXY_UNUSABLE
    assert not is_captured(fetched)
    assert is_captured(await taken(refused))  # the host's own word


async def test_lines_that_hold_secrets_are_told_and_hidden() -> None:
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(ok(b""))

    async with server.playing(answer), Fetcher(CAPTURING) as fetcher:
        lines = ("authorization: Basic eDp5enp5", "COOKIE: wall=abc; b=c", "X-Own: plain")
        fetched = await fetcher.fetch(server.url, headers=lines)
        bare = await fetcher.fetch(server.url)
    assert fetched.secret_lines == {"authorization", "cookie"}
    assert bare.secret_lines == frozenset()
    head, names = redacted_head(server.requests[0], fetched.secret_lines)
    assert names == ("authorization", "cookie")
    assert b"\r\nauthorization: [redacted]\r\nCOOKIE: [redacted]\r\nX-Own: plain\r\n" in head
    assert redacted_head(server.requests[1], ()) == (server.requests[1], ())


async def test_a_proxys_password_is_hidden() -> None:
    server = RawServer()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await server.read_request(reader)
        writer.write(ok(b""))

    async with server.playing(answer):
        proxy = server.url.replace("//", "//me:Pass-w0rd@")
        async with Fetcher(replace(CAPTURING, proxy=proxy)) as fetcher:
            fetched = await fetcher.fetch("http://h.example/a?b")
    assert fetched.exchange is not None
    said = base64.b64encode(b"me:Pass-w0rd")
    assert said in server.requests[0]
    assert fetched.secret_lines == {"proxy-authorization"}
    head, names = redacted_head(fetched.exchange.request_head, fetched.secret_lines)
    assert head.startswith(b"GET http://h.example/a?b HTTP/1.1\r\n")
    assert names == ("proxy-authorization",)
    assert said not in head
    assert b"Pass-w0rd" not in head


def test_what_was_learned_is_hidden_wherever_it_stands() -> None:
    learn_secret("s3cret of-mine")
    head = (
        b"GET /?key=s3cret%20of-mine&x=%41 HTTP/1.1\r\nHost: h\r\nX-A: (s3cret of-mine) \xe9\r\nX-B: 1\r\n"
        b"X-C: of-mine\r\n\r\n"
    )
    assert redacted_head(head, {"x-b"}) == (
        b"GET /?key=[redacted]&x=%41 HTTP/1.1\r\nHost: h\r\nX-A: ([redacted]) \xe9\r\nX-B: [redacted]\r\n"
        b"X-C: of-mine\r\n\r\n",
        (REQUEST_LINE, "x-a", "x-b"),
    )


def test_the_names_of_what_is_always_secret_need_not_be_told() -> None:
    head = b"GET / HTTP/2\r\nHost: h\r\nAuthorization: a\r\nCookie: b\r\nProxy-Authorization: c\r\n\r\n"
    hidden, names = redacted_head(head, ())
    assert names == ("authorization", "cookie", "proxy-authorization")
    assert hidden.count(b": [redacted]\r\n") == 3


async def test_a_capture_needs_a_whole_head() -> None:
    fetched = await taken(ok(b"x"))
    assert Capture(url=fetched.url, fetched=fetched, at=1.0).was_answered
    assert fetched.exchange is not None
    fetched.exchange.http_status = None
    assert not Capture(url=fetched.url, fetched=fetched, at=1.0).was_answered
