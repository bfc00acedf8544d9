"""Which trouble is a host's, which is the proxy's, and which is this machine's own."""

from __future__ import annotations

import asyncio
import errno
import socket

import pytest

from sqspider.record import Reason
from sqspider.retry import Fault, rule_for
from sqspider.transport import Exchange, Failure, Request
from sqspider.web.errors import classify
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from tests.sites import Site

PRIVATE = FetchOptions(allow_private=True, timeout_seconds=5.0)


def failed(failure: Failure, number: int = 0, *, is_connecting: bool = True) -> Exchange:
    exchange = Exchange(Request("http://h.example/"))
    exchange.failure, exchange.errno, exchange.is_connecting = failure, number, is_connecting
    exchange.detail = "[Errno 24] Too many open files"  # whatever is said says nothing of whose trouble it is
    return exchange


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
    found, detail = classify(failed(Failure.NO_CONNECTION, number))
    assert (found, rule_for(found).fault) == (reason, fault)
    assert detail


@pytest.mark.parametrize("failure", sorted(Failure))
def test_every_failure_has_a_reason_and_only_our_own_are_ours(failure: Failure) -> None:
    ours = {Failure.OWN_SHORTAGE, Failure.PROXY}
    found, detail = classify(failed(failure, is_connecting=False))
    assert (rule_for(found).fault is Fault.OURS) == (failure in ours)
    assert detail


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


async def test_a_proxys_name_that_cannot_be_looked_up_is_no_hosts_trouble() -> None:
    assert await _asked_by("http://no-such-proxy.invalid:3128", "http://h.invalid/") is Reason.PROXY_UNUSABLE


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
