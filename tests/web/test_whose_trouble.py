"""Which trouble is a host's, which is the proxy's, and which is this machine's own."""

from __future__ import annotations

import asyncio
import errno
import socket
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey

from sqspider.record import Reason
from sqspider.retry import Fault, rule_for
from sqspider.web.errors import classify
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from tests.sites import Site

PRIVATE = FetchOptions(allow_private=True, timeout_seconds=5.0)


def connector_error(number: int, host: str = "h.example") -> aiohttp.ClientConnectorError:
    key: Any = SimpleNamespace(host=host, port=80, is_ssl=False, ssl=True)
    return aiohttp.ClientConnectorError(key, OSError(number, "as the system says it"))


@pytest.mark.parametrize(
    ("number", "reason", "fault"),
    [
        (errno.ECONNREFUSED, Reason.CONNECTION_REFUSED, Fault.HOST),
        (errno.ETIMEDOUT, Reason.CONNECT_TIMEOUT, Fault.HOST),
        (errno.EACCES, Reason.UNREACHABLE, Fault.HOST),
        (errno.ENETUNREACH, Reason.NO_ROUTE, Fault.HOST_OR_OURS),
        (errno.EHOSTUNREACH, Reason.NO_ROUTE, Fault.HOST_OR_OURS),
        (errno.ENETDOWN, Reason.NO_ROUTE, Fault.HOST_OR_OURS),
        (errno.EMFILE, Reason.OWN_SHORTAGE, Fault.OURS),
        (errno.ENFILE, Reason.OWN_SHORTAGE, Fault.OURS),
        (errno.ENOBUFS, Reason.OWN_SHORTAGE, Fault.OURS),
        (errno.ENOMEM, Reason.OWN_SHORTAGE, Fault.OURS),
        (errno.ECONNRESET, Reason.UNREACHABLE, Fault.HOST),  # no request was made
    ],
)
def test_an_error_number_says_whose_trouble_it_is(number: int, reason: Reason, fault: Fault) -> None:
    found, detail = classify(connector_error(number), is_connecting=True)
    assert (found, rule_for(found).fault) == (reason, fault)
    assert detail


def test_a_server_cannot_pass_its_answer_off_as_our_shortage() -> None:
    history: Any = ()
    info: Any = None
    for error in (
        aiohttp.ClientResponseError(info, history, message="[Errno 24] Too many open files"),
        aiohttp.ClientPayloadError("[Errno 24] Too many open files"),
    ):
        assert classify(error, is_connecting=False)[0] in (
            Reason.BAD_RESPONSE,
            Reason.INCOMPLETE_BODY,
            Reason.HEADERS_TOO_LARGE,
        )


def test_a_name_that_cannot_be_looked_up_is_the_proxys_behind_a_proxy() -> None:
    key = ConnectionKey("p.example", 3128, False, True, None, None, None)
    error = aiohttp.ClientConnectorDNSError(key, socket.gaierror(socket.EAI_AGAIN, "try again"))
    assert classify(error, is_connecting=True)[0] is Reason.DNS_FAILURE
    behind = classify(error, is_connecting=True, proxy="http://p.example:3128", url="http://h.example/")
    assert behind == (Reason.PROXY_UNUSABLE, "the proxy's name cannot be looked up")


async def _asked_by(proxy: str, url: str) -> Reason | None:
    fetch = FetchOptions(allow_private=True, timeout_seconds=5.0, proxy=proxy)
    async with Fetcher(fetch) as fetcher:
        return (await fetcher.fetch(url)).reason


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_away_is_no_hosts_trouble(scheme: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert await _asked_by(f"http://127.0.0.1:{port}", f"{scheme}://h.invalid/") is Reason.PROXY_UNUSABLE


@pytest.mark.parametrize(
    ("status", "scheme", "reason"),
    [
        (407, "http", Reason.PROXY_UNUSABLE),
        (407, "https", Reason.PROXY_UNUSABLE),
        (502, "https", Reason.UNREACHABLE),
        (403, "http", Reason.CLIENT_ERROR),
    ],
)
async def test_what_a_proxy_answers_itself(status: int, scheme: str, reason: Reason) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert await _asked_by(f"http://127.0.0.1:{port}", f"{scheme}://h.invalid/") is reason


async def test_a_407_without_a_proxy_is_the_hosts_own_answer() -> None:
    site = Site()
    site.bodies = {"/": (407, {})}
    try:
        async with Fetcher(PRIVATE) as fetcher:
            assert (await fetcher.fetch(site.url)).reason is Reason.CLIENT_ERROR
    finally:
        site.close()


async def test_the_last_descriptors_are_not_for_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource")
    site = Site()
    site.bodies = {"/": b"x"}
    with socket.socket() as next_one:
        lowest_free = next_one.fileno()
    monkeypatch.setattr(resource, "getrlimit", lambda _: (lowest_free + 10, lowest_free + 10))  # as the system says it
    try:
        async with Fetcher(PRIVATE) as fetcher:
            assert (await fetcher.fetch(site.url)).reason is Reason.OWN_SHORTAGE
    finally:
        site.close()
    assert site.requests == []
