"""Which trouble is a host's, which is the proxy's, and which is this machine's own."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme

from sqspider.politeness.network import Network
from sqspider.record import Reason
from sqspider.retry import Fault, rule_for
from sqspider.transport import Exchange, Failure, Request
from sqspider.web.errors import classify
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from tests.sites import Site
from tests.web.test_identity import Fixed

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


async def _is_silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read()


async def _hangs_up(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    await reader.read(1)


async def _talks_otherwise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"\x15 no protocol of ours\r\n\r\n")


async def _wants_to_know_who(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    if await reader.readexactly(1) == b"\5":
        writer.write(b"\5\xff")  # none of the methods (RFC 1928 section 3)
        return
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


BAD_PROXIES: dict[str, Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] | None] = {
    "unknown name": None, "refuses": None, "silent": _is_silent, "hangs up": _hangs_up,
    "talks otherwise": _talks_otherwise, "wants to know who": _wants_to_know_who, "silent in TLS": _is_silent,
    "not trusted": _wants_to_know_who,
}  # fmt: skip


@asynccontextmanager
async def bad_proxy(kind: str, how: str, folder: Path) -> AsyncIterator[str]:
    """The URL of a proxy at which something is wrong; a certificate to trust is in the folder."""
    trusted = trustme.CA()
    trusted.cert_pem.write_to_path(folder / "ca.pem")
    if how == "unknown name":
        yield f"{kind}://no-such-proxy.invalid:3128"
        return
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    (trustme.CA() if how == "not trusted" else trusted).issue_cert("localhost").configure_cert(context)
    serve = BAD_PROXIES[how] or _hangs_up

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            await serve(reader, writer)
            await writer.drain()
        writer.close()

    is_plain = kind != "https" or how == "silent in TLS"
    async with await asyncio.start_server(answer, "localhost", 0, ssl=None if is_plain else context) as server:
        port = server.sockets[0].getsockname()[1]
        if how == "refuses":
            server.close()
        yield f"{kind}://localhost:{port}"


@pytest.mark.parametrize("how", BAD_PROXIES)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("kind", ["http", "https", "socks5", "socks5h"])
async def test_whatever_is_wrong_with_a_proxy_is_no_hosts_trouble(
    kind: str, scheme: str, how: str, tmp_path: Path
) -> None:
    if kind != "https" and how in ("silent in TLS", "not trusted"):
        pytest.skip("there is no TLS with it")
    seconds = 1.0 if "silent" in how else 60.0
    async with bad_proxy(kind, how, tmp_path) as proxy:
        options = FetchOptions(timeout_seconds=seconds, proxy=proxy, ca_file=str(tmp_path / "ca.pem"))
        async with Fetcher(options, resolver=Fixed("8.8.8.8")) as fetcher:
            fetched = await fetcher.fetch(f"{scheme}://h.example/")
    assert fetched.reason is not None
    fault = rule_for(fetched.reason, fetched.http_status).fault
    assert Network().is_ours(fault, "h.example", 1.0, may_be_proxys=fetched.may_be_proxys), fetched
    takes_requests = scheme == "http" and kind in ("http", "https")  # in place of the host, and so all that is seen
    if "silent" not in how and not takes_requests:
        assert fetched.reason is Reason.PROXY_UNUSABLE
