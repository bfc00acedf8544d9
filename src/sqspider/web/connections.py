"""The connections of a fetcher: to which addresses and ports they lead, how long they are kept, who uses which."""

from __future__ import annotations

import errno
import ipaddress
import socket
import time
from types import SimpleNamespace
from typing import Any, Final

import aiohttp
from aiohttp.abc import AbstractResolver

from sqspider.record import Reason
from sqspider.url import authority_of, host_of
from sqspider.web import descriptors
from sqspider.web.body import ACCEPT_ENCODING
from sqspider.web.errors import Trouble
from sqspider.web.guard import AddressRefusedError, is_web_port, why_not_public
from sqspider.web.options import FetchOptions

CONNECT_SECONDS: Final = 5.0  # of the fetch's limit, for one connection to be made
MAX_HEADER_BYTES: Final = 16 * 1024  # one header line; there may be 128 of them
IDLE_SECONDS: Final = 15.0
MANY_DESCRIPTORS: Final = 4096  # where there are fewer, connections are kept for
IDLE_SECONDS_OF_FEW: Final = 1.0
MAX_ALONE: Final = 10_000  # URLs that are asked for on connections of their own


class Underway:
    """How far a request has come; what is made ready for one has a context of this kind."""

    def __init__(self, started: float) -> None:
        self.is_connecting = True
        self.is_kept = False  # its connection has served another one before
        self.sent_at = started


class Connections:
    """Two pools: one keeps its connections, those of the other serve one request each.

    ``most`` bounds each. What the ``resolver`` answers is checked all the same.
    """

    def __init__(self, options: FetchOptions, *, most: int, resolver: AbstractResolver) -> None:
        self._options = options
        self._most = most
        self._resolver = resolver
        self._kept = self._open_session(is_keeping=True)
        self._fresh = self._open_session(is_keeping=False)
        self._alone: set[str] = set()  # URLs that found a kept connection broken or silent

    async def close(self) -> None:
        await self._kept.close()
        await self._fresh.close()

    def session_for(self, url: str) -> aiohttp.ClientSession:
        """Where to ask for a URL."""
        return self._fresh if url in self._alone else self._kept

    def keep_apart(self, url: str) -> None:
        """From now on a URL goes out on connections of its own: what breaks there is its trouble, or its host's."""
        if len(self._alone) >= MAX_ALONE:
            self._alone.clear()
        self._alone.add(url)

    def check(self, url: str) -> None:
        """What can be seen from the URL itself. (aiohttp asks no resolver for address literals.)

        Raises :class:`Trouble` where it may not be connected to.
        """
        host = host_of(url).strip("[]")
        if not self._options.allow_private:
            try:
                address = str(ipaddress.ip_address(host))
            except ValueError:
                pass  # a name: the resolver looks at what it leads to
            else:
                if why := why_not_public(address):
                    raise Trouble(Reason.PRIVATE_ADDRESS, why)
        authority = authority_of(url)
        if not self._options.allow_any_port and len(authority) != len(host_of(url)):
            port = int(authority.rpartition(":")[2])
            if not is_web_port(port):
                raise Trouble(Reason.BAD_PORT, f"port {port} belongs to another service")

    def _open_session(self, *, is_keeping: bool) -> aiohttp.ClientSession:
        keeping: dict[str, Any] = {"keepalive_timeout": _idle_seconds()} if is_keeping else {"force_close": True}
        connector = aiohttp.TCPConnector(
            limit=self._most,
            resolver=self._resolver,
            socket_factory=self._open_socket,
            ttl_dns_cache=60,
            **keeping,
        )
        connect_seconds = min(CONNECT_SECONDS, self._options.timeout_seconds)
        session = aiohttp.ClientSession(
            connector=connector,
            headers=_headers(self._options),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds),
            trace_configs=[_tracing()],
        )
        # Where a connection breaks aiohttp would ask again at once: too soon for the host, and counted by nobody.
        session._retry_connection = False
        return session

    def _open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """The last look: this is the very address that is connected to."""
        family, kind, protocol, _, address = info
        if not self._options.allow_private and self._options.proxy is None:
            why = why_not_public(address[0])
            if why:
                raise AddressRefusedError(why)
        opened = socket.socket(family, kind, protocol)
        most = descriptors.limit()
        if most is not None and opened.fileno() >= most - descriptors.SPARE:  # numbers are given out from below
            opened.close()
            raise OSError(errno.EMFILE, "the last descriptors are not for connections")
        return opened


def _headers(options: FetchOptions) -> dict[str, str]:
    """What every request says of us."""
    headers = {
        "User-Agent": options.sent_user_agent,
        "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
        "Accept-Encoding": ACCEPT_ENCODING,
    }
    return {**headers, "From": options.contact} if options.contact else headers


def _idle_seconds() -> float:
    """How long a connection is kept that nobody uses: a crawl of many hosts has many of them."""
    most = descriptors.limit()
    return IDLE_SECONDS if most is None or most >= MANY_DESCRIPTORS else IDLE_SECONDS_OF_FEW


def _tracing() -> aiohttp.TraceConfig:
    tracing = aiohttp.TraceConfig()
    tracing.on_request_headers_sent.append(_note_sent)
    tracing.on_connection_reuseconn.append(_note_kept)
    return tracing


async def _note_sent(
    session: aiohttp.ClientSession,
    context: SimpleNamespace,
    parameters: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    del session, parameters
    request: Underway = context.trace_request_ctx
    request.sent_at = time.monotonic()
    request.is_connecting = False


async def _note_kept(
    session: aiohttp.ClientSession,
    context: SimpleNamespace,
    parameters: aiohttp.TraceConnectionReuseconnParams,
) -> None:
    del session, parameters
    request: Underway = context.trace_request_ctx
    request.is_kept = True
