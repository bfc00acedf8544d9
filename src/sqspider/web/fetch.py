"""One bounded, checked request: its address guarded, time and size limited. A redirect is an answer.

Whatever a server does ends in a :class:`Fetched`; no exception of a library leaves this module.
What a page says is in ``links``; who may be asked when, and what follows from a redirect, is not known here.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import re
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from types import SimpleNamespace, TracebackType
from typing import Any, Final, NamedTuple, Protocol

import aiohttp
import msgspec
import structlog
from aiohttp import http_exceptions
from aiohttp.abc import AbstractResolver
from yarl import URL

from sqspider import descriptors
from sqspider.record import BLOCKING_REASONS, Reason, reason_for_http_status
from sqspider.url import Refused, authority_of, canonicalize, host_of
from sqspider.web.body import ACCEPT_ENCODING, Body, DecodeError, Sink
from sqspider.web.guard import AddressRefusedError, GuardedResolver, is_web_port, why_not_public
from sqspider.web.options import FetchOptions as FetchOptions  # said again: they belong together

CONNECT_SECONDS: Final = 5.0  # of the fetch's limit, for one connection to be made
MAX_HEADER_BYTES: Final = 16 * 1024  # one header line; there may be 128 of them
REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})
PROXY_AUTHENTICATION_REQUIRED: Final = 407  # RFC 9110 section 15.5.8: the proxy's word, and no host's
IDLE_SECONDS: Final = 15.0
MANY_DESCRIPTORS: Final = 4096  # where there are fewer, connections are kept for
IDLE_SECONDS_OF_FEW: Final = 1.0
MAX_ALONE: Final = 10_000  # URLs that are asked for on connections of their own
LARGE_BYTES: Final = 256 * 1024  # decoded bytes of a body, before there must be room for more
_DRAIN_BYTES: Final = 16 * 1024  # a redirect's body is read up to this size, to keep its connection

log = structlog.stdlib.get_logger(__name__)


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request."""

    url: str  # what was asked for
    http_status: int | None  # none without an answer
    headers: tuple[tuple[str, str], ...]  # as they were sent
    body: bytes  # decoded; empty for a redirect
    truncated: bool  # the body was longer than the limit, or ended in its middle
    reason: Reason | None  # what kept it from being a success; a redirect is one
    detail: str  # one line for a person
    elapsed_seconds: float
    sent_seconds: float  # from the start until the request was sent
    redirect_to: str | None = None  # where the answer leads, if it is a redirect: canonical
    is_stale: bool = False  # a connection that was kept broke before a byte came: that says nothing of the URL

    def header(self, name: str) -> str | None:
        """The first header of this name, in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


BeforeLarge = Callable[[], Awaitable[bool]]
"""Asked before more than :data:`LARGE_BYTES` of a body are read: whether to go on. It may wait."""


class AnyFetcher(Protocol):
    """What a worker needs of a fetcher: a simulator has one of its own."""

    @property
    def options(self) -> FetchOptions:
        """The limits it keeps, and the name it goes by."""

    async def fetch(
        self,
        url: str,
        *,
        before_large: BeforeLarge | None = None,
        max_bytes: int | None = None,
        sink: Sink | None = None,
    ) -> Fetched:
        """As :meth:`Fetcher.fetch`."""


class _Trouble(Exception):  # noqa: N818 - carries an outcome inside this module, no error to anybody
    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail


class _Answer(NamedTuple):
    http_status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    truncated: bool = False
    redirect_to: str | None = None


class Fetcher:
    """Fetches URLs over one pool of connections. An async context manager.

    ``connections`` bounds the pool. A ``resolver`` of one's own stands for the system's; what it
    answers is checked all the same.
    """

    def __init__(
        self, options: FetchOptions, *, connections: int = 100, resolver: AbstractResolver | None = None
    ) -> None:
        self.options = options
        self._connections = connections
        self._resolver = resolver or GuardedResolver(allow_private=options.allow_private)
        self._session: aiohttp.ClientSession
        self._fresh: aiohttp.ClientSession  # its connections serve one request each
        self._alone: set[str] = set()  # URLs that found a kept connection broken or silent

    async def __aenter__(self) -> Fetcher:
        self._session = self._open_session(is_keeping=True)
        self._fresh = self._open_session(is_keeping=False)
        return self

    def _open_session(self, *, is_keeping: bool) -> aiohttp.ClientSession:
        options = self.options
        keeping: dict[str, Any] = {"keepalive_timeout": _idle_seconds()} if is_keeping else {"force_close": True}
        connector = aiohttp.TCPConnector(
            limit=self._connections,
            resolver=self._resolver,
            socket_factory=self._open_socket,
            ttl_dns_cache=60,
            **keeping,
        )
        headers = {
            "User-Agent": options.user_agent,
            "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
            "Accept-Encoding": ACCEPT_ENCODING,
        }
        if options.contact:
            headers["From"] = options.contact
        tracing = aiohttp.TraceConfig()
        tracing.on_request_headers_sent.append(_note_sent)
        tracing.on_connection_reuseconn.append(_note_kept)
        session = aiohttp.ClientSession(
            connector=connector,
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=min(CONNECT_SECONDS, options.timeout_seconds)),
            trace_configs=[tracing],
        )
        # Where a connection breaks aiohttp would ask again at once: too soon for the host, and counted by nobody.
        session._retry_connection = False
        return session

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()
        await self._fresh.close()

    def _open_socket(self, info: tuple[Any, ...]) -> socket.socket:
        """The last look: this is the very address that is connected to."""
        family, kind, protocol, _, address = info
        if not self.options.allow_private and self.options.proxy is None:
            why = why_not_public(address[0])
            if why:
                raise AddressRefusedError(why)
        opened = socket.socket(family, kind, protocol)
        most = descriptors.limit()
        if most is not None and opened.fileno() >= most - descriptors.SPARE:  # numbers are given out from below
            opened.close()
            raise OSError(errno.EMFILE, "the last descriptors are not for connections")
        return opened

    async def fetch(
        self,
        url: str,
        *,
        before_large: BeforeLarge | None = None,
        max_bytes: int | None = None,
        sink: Sink | None = None,
    ) -> Fetched:
        """Ask for a canonical URL, once; never raises but for being cancelled.

        A URL that finds a kept connection broken (``is_stale``), or silent, goes out on connections of its own from
        then on: what breaks there is its trouble, or its host's.

        ``max_bytes`` replaces the limit of the options. A ``sink`` gets the body of a success as it
        comes, in place of the result; it must not raise, and other bodies are not read. The statuses
        301, 302, 303, 307 and 308 lead elsewhere (RFC 9110 section 15.4): that is told, and not followed.
        """
        started = time.monotonic()
        request = _Request(url, started, before_large)
        reason: Reason | None
        detail = ""
        answer: _Answer | None = None
        try:
            async with asyncio.timeout(self.options.timeout_seconds) as request.deadline:
                self._check(url)
                answer = await self._ask(request, max_bytes or self.options.max_bytes, sink)
            reason = None if answer.redirect_to is not None else reason_for_http_status(answer.http_status)
        except _Trouble as trouble:
            reason, detail = trouble.reason, trouble.detail
        except Exception as error:
            reason, detail = classify(error, is_connecting=request.is_connecting, proxy=self.options.proxy, url=url)
            if reason is Reason.INTERNAL_ERROR:
                log.exception("fetch", url=url)
        head = answer or request.head
        is_unanswered = request.is_kept and head is None
        if is_unanswered and reason in (Reason.CONNECTION_RESET, Reason.TIMEOUT):
            if len(self._alone) >= MAX_ALONE:
                self._alone.clear()
            self._alone.add(url)
        return Fetched(
            url=url,
            http_status=head.http_status if head else None,
            headers=head.headers if head else (),
            body=answer.body if answer else b"",
            truncated=answer.truncated if answer else False,
            reason=reason,
            detail=detail or (f"HTTP status {head.http_status}" if head and reason else ""),
            elapsed_seconds=time.monotonic() - started,
            sent_seconds=max(0.0, request.sent_at - started),
            redirect_to=answer.redirect_to if answer else None,
            is_stale=is_unanswered and reason is Reason.CONNECTION_RESET,
        )

    def _check(self, url: str) -> None:
        """What can be seen from the URL itself. (aiohttp asks no resolver for address literals.)"""
        host = host_of(url).strip("[]")
        if not self.options.allow_private:
            try:
                address = str(ipaddress.ip_address(host))
            except ValueError:
                pass  # a name: the resolver looks at what it leads to
            else:
                if why := why_not_public(address):
                    raise _Trouble(Reason.PRIVATE_ADDRESS, why)
        authority = authority_of(url)
        if not self.options.allow_any_port and len(authority) != len(host_of(url)):
            port = int(authority.rpartition(":")[2])
            if not is_web_port(port):
                raise _Trouble(Reason.BAD_PORT, f"port {port} belongs to another service")

    async def _ask(self, request: _Request, max_bytes: int, sink: Sink | None) -> _Answer:
        request.is_connecting = True
        session = self._fresh if request.url in self._alone else self._session
        async with session.get(
            URL(request.url, encoded=True),
            allow_redirects=False,
            proxy=self.options.proxy,
            trace_request_ctx=request,
        ) as response:
            head = _Answer(response.status, tuple(_decoded(response.raw_headers)))
            if why := _why_not_http(response):
                response.close()
                raise _Trouble(Reason.BAD_RESPONSE, why)
            if response.status == PROXY_AUTHENTICATION_REQUIRED and self.options.proxy is not None:
                response.close()
                raise _Trouble(Reason.PROXY_UNUSABLE, "the proxy wants a user name and a password: HTTP status 407")
            request.head = head
            if response.status in REDIRECT_STATUSES:
                location = _first(response.raw_headers, b"location")
                if response.content_length is not None and response.content_length <= _DRAIN_BYTES:
                    await response.read()
                else:
                    response.close()
                return head._replace(redirect_to=_target_of(response.status, location, request.url))
            if sink is not None and reason_for_http_status(response.status) is not None:
                response.close()
                return head
            body = await self._read(response, max_bytes, request, sink)
            return head._replace(body=body.end(), truncated=body.is_truncated)

    async def _read(
        self, response: aiohttp.ClientResponse, max_bytes: int, request: _Request, sink: Sink | None
    ) -> Body:
        encoding = response.headers.get("Content-Encoding")
        try:
            body = Body(encoding, max_bytes, sink)
            is_asked = request.before_large is None
            async for chunk in response.content.iter_any():
                if not body.feed(chunk):
                    response.close()  # there is more to come: the connection is of no use any more
                    break
                if not is_asked and body.size > LARGE_BYTES and request.before_large is not None:
                    is_asked = True
                    await request.wait_for_room(request.before_large)
        except DecodeError as error:
            response.close()
            raise _Trouble(Reason.BAD_ENCODING, f"the body is not what Content-Encoding {encoding!r} says") from error
        return body


class _Request:
    """How far a request has come."""

    deadline: asyncio.Timeout

    def __init__(self, url: str, started: float, before_large: BeforeLarge | None) -> None:
        self.url = url
        self.before_large = before_large
        self.head: _Answer | None = None  # once it is there
        self.is_connecting = True
        self.is_kept = False  # its connection has served another one before
        self.sent_at = started

    async def wait_for_room(self, before_large: BeforeLarge) -> None:
        """Ask whether to go on; the time it takes does not count. Raises :class:`_Trouble` for a no."""
        loop = asyncio.get_running_loop()
        left = (self.deadline.when() or 0.0) - loop.time()
        self.deadline.reschedule(None)
        may_go_on = await before_large()
        self.deadline.reschedule(loop.time() + left)
        if not may_go_on:
            raise _Trouble(Reason.INTERNAL_ERROR, "there is no room for a large body just now")


def _idle_seconds() -> float:
    """How long a connection is kept that nobody uses: a crawl of many hosts has many of them."""
    most = descriptors.limit()
    return IDLE_SECONDS if most is None or most >= MANY_DESCRIPTORS else IDLE_SECONDS_OF_FEW


async def _note_sent(
    session: aiohttp.ClientSession,
    context: SimpleNamespace,
    parameters: aiohttp.TraceRequestHeadersSentParams,
) -> None:
    del session, parameters
    request: _Request = context.trace_request_ctx
    request.sent_at = time.monotonic()
    request.is_connecting = False


async def _note_kept(
    session: aiohttp.ClientSession,
    context: SimpleNamespace,
    parameters: aiohttp.TraceConnectionReuseconnParams,
) -> None:
    del session, parameters
    request: _Request = context.trace_request_ctx
    request.is_kept = True


def _why_not_http(response: aiohttp.ClientResponse) -> str | None:
    """What aiohttp lets pass. We asked for no transfer coding (RFC 9112 section 7.4): under any other
    than ``chunked`` it would take the framing, or something packed, for the body."""
    codings = {
        coding.strip().lower()
        for value in response.headers.getall("Transfer-Encoding", ())
        for coding in value.split(",")
    }
    if codings and codings != {"chunked"} and codings != {"identity"}:
        return f"the transfer coding {', '.join(sorted(codings))[:100]!r} was not asked for"
    return "there is a NUL in the status line" if "\0" in (response.reason or "") else None


def _decoded(headers: tuple[tuple[bytes, bytes], ...]) -> list[tuple[str, str]]:
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers]


def _first(headers: tuple[tuple[bytes, bytes], ...], name: bytes) -> bytes | None:
    return next((value for key, value in headers if key.lower() == name), None)


def _target_of(http_status: int, location: bytes | None, url: str) -> str:
    """Where a redirect leads. Raises :class:`_Trouble` where that is no URL that can be asked for."""
    if location is None or not location.strip():
        raise _Trouble(Reason.BAD_REDIRECT, f"HTTP status {http_status} without a Location")
    target = canonicalize(_as_text(location), url)
    if isinstance(target, Refused):
        reason = target.reason if target.reason in BLOCKING_REASONS else Reason.BAD_REDIRECT
        raise _Trouble(reason, f"redirected to {target.shown}: {target.explanation}")
    return target


def _as_text(location: bytes) -> str:
    """A Location as a URL: bytes outside ASCII are percent-encoded as they are."""
    return "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in location)


_TOO_LARGE: Final = re.compile("Too many|Got more than")  # aiohttp gives these no type of their own
_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")
_OS_REASONS: Final = {
    errno.ECONNREFUSED: (Reason.CONNECTION_REFUSED, "nobody listens there"),
    errno.ECONNRESET: (Reason.CONNECTION_RESET, "the connection was reset"),
    errno.EPIPE: (Reason.CONNECTION_RESET, "the connection was closed"),
    errno.ETIMEDOUT: (Reason.CONNECT_TIMEOUT, "no connection in time"),
    errno.ENETUNREACH: (Reason.NO_ROUTE, "there is no way to its network from here"),
    errno.EHOSTUNREACH: (Reason.NO_ROUTE, "there is no way to it from here"),
    errno.ENETDOWN: (Reason.NO_ROUTE, "the network of this machine is down"),
    errno.EMFILE: (Reason.OWN_SHORTAGE, "this process may open no more files and connections (ulimit -n)"),
    errno.ENFILE: (Reason.OWN_SHORTAGE, "this machine can open no more files and connections"),
    errno.ENOBUFS: (Reason.OWN_SHORTAGE, "this machine has no room for another connection"),
    errno.ENOMEM: (Reason.OWN_SHORTAGE, "this machine has no memory left"),
}
_NAME_UNKNOWN: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


def classify(
    error: BaseException, *, is_connecting: bool, proxy: str | None = None, url: str = ""
) -> tuple[Reason, str]:
    """The one reason, and a line for a person, for whatever aiohttp and what is below it raises.

    ``is_connecting``: no request has been made, so that no URL can have failed. ``proxy``: what was asked
    through it for ``url``; that it cannot be reached is no trouble of the host's.
    """
    reason, detail = _classified(error, is_connecting=is_connecting, proxy=proxy, url=url)
    if is_connecting and reason is Reason.CONNECTION_RESET:  # in a TLS handshake
        return Reason.UNREACHABLE, f"{detail} before it was asked for anything"
    return reason, detail


def _classified(error: BaseException, *, is_connecting: bool, proxy: str | None, url: str) -> tuple[Reason, str]:
    cause = getattr(error, "os_error", error)  # below what aiohttp says
    if isinstance(cause, AddressRefusedError):
        return Reason.PRIVATE_ADDRESS, str(cause)
    if isinstance(cause, OSError) and not isinstance(cause, socket.gaierror):  # whose numbers mean something else
        found = _os_reason(cause, Reason.INTERNAL_ERROR, "")
        if found[0] is Reason.OWN_SHORTAGE:
            return found
    if proxy is not None and is_connecting and (why := _why_no_proxy(error, proxy, url)):
        return Reason.PROXY_UNUSABLE, why
    match error:
        case aiohttp.ClientConnectorDNSError():
            if getattr(error.os_error, "errno", None) in _NAME_UNKNOWN:
                return Reason.DNS_NOT_FOUND, "the host name does not exist"
            return Reason.DNS_FAILURE, "the host name could not be looked up"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return Reason.TLS_ERROR, _tls_detail(error)
        case aiohttp.ServerFingerprintMismatch():
            return Reason.TLS_ERROR, "the certificate is another one"
        case aiohttp.ConnectionTimeoutError():
            return Reason.CONNECT_TIMEOUT, "no connection in time"
        case TimeoutError():  # aiohttp's own are among them
            if is_connecting:
                return Reason.CONNECT_TIMEOUT, "no connection within the limit of the fetch"
            return Reason.TIMEOUT, "not complete within the limit of the fetch"
        case aiohttp.ClientHttpProxyError():
            return Reason.UNREACHABLE, f"the proxy cannot connect to it: HTTP status {error.status}"
        case aiohttp.ServerDisconnectedError():
            return Reason.CONNECTION_RESET, "the server hung up without an answer"
        case aiohttp.ClientConnectorError():
            return _os_reason(error.os_error, Reason.UNREACHABLE, "the host cannot be reached")
        case aiohttp.ClientPayloadError():
            text = str(error)
            if "ransferEncoding" in text and "Not enough data" not in text:
                return Reason.BAD_RESPONSE, "the body's framing is broken"
            return Reason.INCOMPLETE_BODY, "the body ended before its announced length"
        case aiohttp.ClientResponseError():
            cause = error.__cause__
            if isinstance(cause, http_exceptions.LineTooLong) or _TOO_LARGE.search(error.message):
                return Reason.HEADERS_TOO_LARGE, "the head of the answer is too large"
            return Reason.BAD_RESPONSE, "the answer is not HTTP"
        case http_exceptions.LineTooLong():
            return Reason.HEADERS_TOO_LARGE, "the head of the answer is too large"
        case aiohttp.InvalidURL():
            return Reason.BAD_URL, "the client library cannot ask for this URL"
        case ConnectionError() | aiohttp.ClientOSError() | OSError():
            return _os_reason(error, Reason.CONNECTION_RESET, "the connection broke")
        case aiohttp.ClientError() | http_exceptions.HttpProcessingError() | ValueError() | OverflowError():
            return Reason.BAD_RESPONSE, "the answer is not HTTP"
    return Reason.INTERNAL_ERROR, f"{type(error).__name__}: see the worker's log"


def _why_no_proxy(error: BaseException, proxy: str, url: str) -> str | None:
    """Why the proxy cannot be used, if it is the proxy that cannot. (Behind a tunnel, which ``https`` takes, a
    time limit may be that of either; then it is taken for the host's.)"""
    match error:
        case aiohttp.ClientHttpProxyError(status=status):
            wants_a_name = status == PROXY_AUTHENTICATION_REQUIRED
            return "the proxy wants a user name and a password: HTTP status 407" if wants_a_name else None
        case aiohttp.ClientProxyConnectionError():
            return "the proxy cannot be reached"
        case aiohttp.ClientConnectorDNSError():
            return "the proxy's name cannot be looked up"  # those of hosts the proxy looks up itself
        case aiohttp.ClientConnectorError(host=host):
            return "the proxy cannot be connected to" if host == URL(proxy).host else None
        case TimeoutError():
            return None if url.startswith("https:") else "no connection to the proxy in time"
    return None


def _os_reason(error: BaseException, otherwise: Reason, detail: str) -> tuple[Reason, str]:
    """By the error number; several addresses may have failed with the same one."""
    number = getattr(error, "errno", None)
    if number is None:
        numbers = set(_ERRNO.findall(str(error)))
        number = int(numbers.pop()) if len(numbers) == 1 else None
        if isinstance(error, ConnectionResetError):  # asyncio's own, in a TLS handshake, has no number
            number = errno.ECONNRESET
    return _OS_REASONS.get(number or 0, (otherwise, detail))


def _tls_detail(error: BaseException) -> str:
    certificate = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    verify = getattr(certificate, "verify_message", "")
    if verify:
        return f"the certificate is not valid: {verify}"
    reason = getattr(certificate, "reason", None)
    return f"the TLS handshake failed: {reason}" if reason else "the TLS handshake failed"
