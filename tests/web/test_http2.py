"""A fetch by HTTP/2: an answer like any other, and what becomes of a host with which it does not work."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pycurl
import pytest

from sqspider.record import Reason
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from tests.conftest import Run
from tests.transport.http2 import HTTP_1_1_REQUIRED, INTERNAL_ERROR, OK, REFUSED_STREAM, Http2Server, Peer2
from tests.transport.kit import HELLO, Server
from tests.transport.test_connections import until_it_arrives


@asynccontextmanager
async def fetching(server: Http2Server, max_bytes: int = 1_000_000) -> AsyncIterator[Fetcher]:
    async with server.running() as trusted:
        options = FetchOptions(
            allow_private=True, timeout_seconds=60.0, ca_file=trusted, http2=True, max_bytes=max_bytes
        )
        async with Fetcher(options) as fetcher:
            yield fetcher


def end(peer: Peer2, _stream: int) -> None:
    peer.go_away(INTERNAL_ERROR)
    peer.end()


async def test_a_compressed_page_and_a_redirect_come_by_http2() -> None:
    packed = gzip.compress(b"<p>hello" * 10_000)
    server = Http2Server(lambda peer, stream: peer.answer(stream, packed, (*OK, ("content-encoding", "gzip"))))
    async with fetching(server) as fetcher:
        fetched = await fetcher.fetch(server.url("page"))
        assert (fetched.reason, fetched.body) == (None, b"<p>hello" * 10_000)
        assert fetched.exchange is not None
        assert fetched.exchange.protocol == "HTTP/2"
        server.answer = lambda peer, stream: peer.answer(stream, b"", ((":status", "301"), ("location", "/page")))
        moved = await fetcher.fetch(server.url("old"))
        assert (moved.reason, moved.redirect_to) == (None, server.url("page"))
    assert len(server.peers) == 1
    assert server.requests[0]["accept-encoding"].startswith("gzip")


async def test_a_body_by_http2_is_cut_off_at_the_limit() -> None:
    server = Http2Server(bytes(1_000_000))
    async with fetching(server, max_bytes=1000) as fetcher:
        for _ in range(2):
            fetched = await fetcher.fetch(server.url())
            assert (fetched.reason, len(fetched.body), fetched.truncated) == (None, 1000, True)


@pytest.mark.parametrize(
    "answer",
    [
        lambda peer, stream: peer.reset(stream, REFUSED_STREAM),
        lambda peer, stream: peer.reset(stream, HTTP_1_1_REQUIRED),
        end,
    ],
    ids=["refused", "1.1 is required", "an end in anger"],
)
async def test_an_origin_with_which_http2_does_not_work_is_asked_by_http1(answer: Callable[[Peer2, int], None]) -> None:
    server = Http2Server(answer)
    async with fetching(server) as fetcher:
        assert (
            await fetcher.fetch(server.url("a"))
        ).is_stale  # nobody's trouble: asked once more, and no try is counted
        for path in ("a", "b"):
            assert (await fetcher.fetch(server.url(path))).body == b"hello"
    assert server.targets == ["/a"]
    assert [head.split()[1] for head in server.old_heads] == [b"/a", b"/b"]
    assert len(server.peers) == 2


@pytest.mark.parametrize("is_kept", [False, True], ids=["a new connection", "a kept one"])
async def test_a_url_whose_stream_is_reset_pays_with_a_try_and_is_asked_by_http1(is_kept: bool) -> None:
    server = Http2Server()
    async with fetching(server) as fetcher:
        if is_kept:
            await fetcher.fetch(server.url("first"))
        server.answer = lambda peer, stream: peer.reset(stream, INTERNAL_ERROR)
        fetched = await fetcher.fetch(server.url("a"))
        assert (fetched.reason, fetched.is_stale) == (Reason.CONNECTION_RESET, False)
        assert "INTERNAL_ERROR" in fetched.detail
        server.answer = b"hello"
        for path in ("a", "b"):
            assert (await fetcher.fetch(server.url(path))).body == b"hello"
    assert server.targets[-2:] == ["/a", "/b"]
    assert [head.split()[1] for head in server.old_heads] == [b"/a"]


async def test_a_url_without_an_answer_by_http2_pays_with_a_try_and_is_asked_by_http1() -> None:
    server = Http2Server(lambda peer, _: peer.end())
    async with fetching(server) as fetcher:
        fetched = await fetcher.fetch(server.url("a"))
        assert (fetched.reason, fetched.is_stale) == (Reason.CONNECTION_RESET, False)
        assert (await fetcher.fetch(server.url("a"))).body == b"hello"
    assert [head.split()[1] for head in server.old_heads] == [b"/a"]


async def test_a_url_without_tls_is_asked_as_if_there_were_no_http2() -> None:
    server = Server(lambda peer: peer.end())
    async with server.running(), Fetcher(FetchOptions(allow_private=True, allow_any_port=True, http2=True)) as fetcher:
        assert (await fetcher.fetch(server.url("a"))).reason is Reason.CONNECTION_RESET
        server.answer = HELLO
        for path in ("b", "a"):
            assert (await fetcher.fetch(server.url(path))).body == b"hello"
    assert len(server.peers) == 2  # it needs none of its own


async def test_an_end_on_an_idle_connection_of_http2_is_no_trouble() -> None:
    server = Http2Server()
    async with fetching(server) as fetcher:
        for path in "ab":
            fetched = await fetcher.fetch(server.url(path))
            assert (fetched.body, fetched.is_stale) == (b"hello", False)
            server.peers[-1].go_away(last=1)
            server.peers[-1].end()
            await until_it_arrives(fetcher._transport)
    assert server.targets == ["/a", "/b"]


@pytest.mark.parametrize(
    ("flags", "answer", "protocol", "targets"),
    [
        (("--http2",), b"hello", "HTTP/2", ["/robots.txt", "/"]),
        (("--http2",), end, "HTTP/1.1", ["/robots.txt"]),
        ((), b"hello", "HTTP/1.1", []),
    ],
    ids=["asked for", "does not work", "default"],
)
async def test_a_crawl_speaks_http2_if_told_to_and_its_log_tells_so(
    sqspider: Run,
    flags: tuple[str, ...],
    answer: bytes | Callable[[Peer2, int], None],
    protocol: str,
    targets: list[str],
) -> None:
    server = Http2Server(answer)
    async with server.running() as trusted:
        told = (
            "--allow-private",
            "--no-archive",
            "--ca-file",
            trusted,
            "--log-format=json",
            "--log-level=debug",
            *flags,
        )
        done = await asyncio.to_thread(sqspider, "crawl", server.url(), "--delay", "0", *told)
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [event["protocol"] for event in events if event["event"] == "finished"] == [protocol], done.stderr
    assert not {event["event"] for event in events} & {"retry", "host_rests"}
    assert server.targets == targets


def test_a_libcurl_without_http2_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    version = list(pycurl.version_info())
    version[4] &= ~pycurl.VERSION_HTTP2
    monkeypatch.setattr(pycurl, "version_info", lambda: tuple(version))
    FetchOptions()
    with pytest.raises(ValueError, match=r"^http2: the libcurl that is installed"):
        FetchOptions(http2=True)
