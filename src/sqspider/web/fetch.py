"""One bounded, checked request: its address guarded, time and size limited. A redirect is an answer.

Whatever a server does ends in a :class:`Fetched`; no exception of a library leaves this module.
What a page says is in ``links``; who may be asked when, and what follows from a redirect, is not known here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Protocol

import msgspec

from sqspider.log import get_logger
from sqspider.record import Reason, reason_for_http_status
from sqspider.transport import ENOUGH, GO_ON, PAUSE, Exchange, Failure
from sqspider.transport import Request as TransportRequest
from sqspider.transport.addresses import why_not_public
from sqspider.transport.curl import CurlOptions, CurlTransport
from sqspider.transport.names import Names, Resolver, SystemResolver
from sqspider.url import origin_of
from sqspider.web.body import ACCEPT_ENCODING, Body, BodySink, DecodeError
from sqspider.web.errors import Trouble, classify
from sqspider.web.guard import check_url
from sqspider.web.head import Headers, check_head, content_encoding_of, header_of
from sqspider.web.location import REDIRECT_STATUSES, target_of
from sqspider.web.options import FetchOptions as FetchOptions  # said again: they belong together
from sqspider.web.payload import NOTHING, Recorder
from sqspider.web.payload import Cut as Cut

LARGE_BYTES: Final = 256 * 1024  # decoded bytes of a body, before there must be room for more
CONNECT_SECONDS: Final = 5.0  # of the fetch's limit, for one connection to be made
MAX_ALONE: Final = 10_000  # URLs that are asked for on connections of their own; origins that are asked by HTTP/1.1
NOT_MODIFIED: Final = 304
_CONDITIONS: Final = ("if-none-match:", "if-modified-since:")
_NO_ANSWERS: Final = (Reason.CONNECTION_RESET, Reason.BAD_RESPONSE, Reason.TIMEOUT)
_DRAIN_BYTES: Final = 16 * 1024  # a redirect's body is read up to this size, to keep its connection

log = get_logger(__name__)


class Fetched(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a request."""

    url: str  # what was asked for
    http_status: int | None  # none without an answer
    headers: Headers  # as they were sent
    body: bytes  # decoded; empty for a redirect
    truncated: bool  # the body was longer than the limit, or ended in its middle (`is_short`)
    reason: Reason | None  # what kept it from being a success; a redirect is one
    detail: str  # one line for a person
    elapsed_seconds: float
    sent_seconds: float  # from the start until the request was sent
    redirect_to: str | None = None  # where the answer leads, if it is a redirect: canonical
    is_stale: bool = False  # a kept connection, or HTTP/2, bore no answer
    is_short: bool = False  # the body ended before its announced length, or amid its framing or coding
    may_be_proxys: bool = False  # what failed: a proxy took the request, and no answer came
    is_held: bool = False  # the gate said no: nothing was asked
    is_broken_off: bool = False  # by whoever asked, after the request was written
    exchange: Exchange | None = None  # what was on the wire; none where nothing was tried
    # Where the fetcher captures: what came of the body, without its transfer coding and with its content coding; of
    # redirects, error answers and what broke off, too. The same object as ``body`` where nothing was decoded.
    payload: bytes = b""
    cut: Cut | None = None  # why the payload is not all that the server has; none: it is, or nothing is captured
    secret_lines: frozenset[str] = frozenset()  # names, in small letters, of the request's lines that say a secret
    is_unread: bool = False  # whoever asked did not want its body
    is_head: bool = False  # asked for by HEAD, which some servers answer otherwise than GET

    @property
    def tells_nothing(self) -> bool:
        """Whether what failed says nothing of the URL, nor of its host."""
        return self.is_stale or self.is_broken_off

    @property
    def is_unchanged(self) -> bool:
        """The server was asked for what has changed alone, and said that nothing has."""
        return self.http_status == NOT_MODIFIED and self.reason is None

    def header(self, name: str) -> str | None:
        """The first header of this name, in any case."""
        return header_of(self.headers, name)


BeforeLarge = Callable[[], Awaitable[bool]]
"""Asked before more than :data:`LARGE_BYTES` of a body are read: whether to go on. It may wait."""
Wants = Callable[[Exchange], bool]
"""Asked when the head of an answer is there that leads nowhere: whether its body is to be read."""
Gate = Callable[[], bool]
"""Asked when the connection is there, before the request is written to it: whether it still may be."""


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
        sink: BodySink | None = None,
        gate: Gate | None = None,
        headers: tuple[str, ...] = (),
        method: str | None = None,
        wants: Wants | None = None,
    ) -> Fetched:
        """As :meth:`Fetcher.fetch`."""


class Fetcher:
    """Fetches URLs over one pool of connections. An async context manager.

    ``connections``: how many requests there will be at a time, which bounds the connections that are kept. A
    ``resolver`` of one's own stands for the system's; what it answers is checked all the same.
    """

    def __init__(self, options: FetchOptions, *, connections: int = 100, resolver: Resolver | None = None) -> None:
        self.options = options
        self._most = connections
        self._resolver = resolver or SystemResolver()
        self._names = Names(self._resolver, allow_private=options.allow_private)
        self._headers = _headers(options)
        self._alone: set[str] = set()  # URLs that found a kept connection, or HTTP/2, broken or silent
        self._without_http2: set[str] = set()  # origins with which it did not work
        self._transport: CurlTransport

    async def __aenter__(self) -> Fetcher:
        return self.open()

    def open(self) -> Fetcher:
        """Begin to fetch, within a running event loop; until :meth:`close`."""
        identity = CurlOptions(
            check_address=None if self.options.allow_private else why_not_public,
            proxy=self.options.proxy,
            certificates=self.options.ca_file,
            client_cert=self.options.client_cert,
            client_key=self.options.client_key,
            most_idle=2 * self._most,
        )
        self._transport = CurlTransport(identity, self._names)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Drop all connections."""
        self._transport.close()
        self._names.close()
        if isinstance(self._resolver, SystemResolver):
            self._resolver.close()

    async def fetch(
        self,
        url: str,
        *,
        before_large: BeforeLarge | None = None,
        max_bytes: int | None = None,
        sink: BodySink | None = None,
        gate: Gate | None = None,
        headers: tuple[str, ...] = (),
        method: str | None = None,
        wants: Wants | None = None,
    ) -> Fetched:
        """Ask for a canonical URL, once; never raises but for being cancelled.

        A URL that finds a kept connection broken, silent, or with what is no answer (``is_stale``), goes out on
        connections of its own from then on, by HTTP/1.1: what breaks there is its trouble, or its host's. So does
        one whose stream of HTTP/2 is reset, or that has no answer by it. An origin that takes no request by HTTP/2, or
        answers against its rules, is asked by HTTP/1.1 from then on (``is_stale``, too).

        ``max_bytes`` replaces the limit of the options. A ``sink`` gets the body of a success as it
        comes, in place of the result; it must not raise, and other bodies are not read. The statuses
        301, 302, 303, 307 and 308 lead elsewhere (RFC 9110 section 15.4): that is told, and not followed. A 304 is a
        success where ``headers`` ask for it.
        ``gate`` must not raise either. ``headers`` ("Name: value") go with this request alone. ``method``: "HEAD", or
        none for GET. What ``wants`` says no to has no body here, and its connection is given up where one comes.
        """
        options = self.options
        answer = _Answer(url, options.proxy, max_bytes or options.max_bytes, sink, before_large, wants)
        try:
            check_url(url, allow_private=options.allow_private, allow_any_port=options.allow_any_port)
        except Trouble as trouble:
            return self._fetched(url, answer, None, trouble)
        is_alone = url in self._alone
        request = TransportRequest(
            url,
            (*self._headers, *headers) if headers else self._headers,
            timeout_seconds=options.timeout_seconds,
            connect_seconds=CONNECT_SECONDS,
            is_fresh=is_alone,
            http2=options.http2 and not is_alone and self._may_be_http2(url),
            gate=gate,
            keeps_request_head=options.captures,
            method=method,
        )
        recorder = Recorder(answer, options.max_bytes) if options.captures else None
        try:
            exchange = await self._transport.exchange(request, recorder or answer)
        finally:
            answer.stop()
        return self._fetched(url, answer, exchange, answer.trouble or answer.end(exchange), recorder)

    def _fetched(
        self,
        url: str,
        answer: _Answer,
        exchange: Exchange | None,
        trouble: Trouble | None,
        recorder: Recorder | None = None,
    ) -> Fetched:
        head = exchange if exchange is not None and answer.is_head_good else None
        reason = trouble.reason if trouble else None
        if trouble is None and head is not None and answer.redirect_to is None and not _is_unchanged(head):
            reason = reason_for_http_status(head.http_status or 0)
        if reason is Reason.INTERNAL_ERROR and exchange is not None and exchange.failure is Failure.UNKNOWN:
            log.error("fetch", url=url, said=exchange.detail)
        recorded = NOTHING
        if recorder is not None and exchange is not None:
            recorded = recorder.end(exchange, answer.whole if answer.is_as_sent else None)
        return Fetched(
            url=url,
            http_status=head.http_status if head else None,
            headers=head.headers if head else (),
            body=answer.whole,
            truncated=answer.is_truncated or answer.is_short,
            is_short=answer.is_short,
            reason=reason,
            detail=trouble.detail if trouble else f"HTTP status {head.http_status}" if head and reason else "",
            elapsed_seconds=exchange.end_seconds if exchange else 0.0,
            sent_seconds=exchange.sent_seconds if exchange else 0.0,
            redirect_to=answer.redirect_to,
            is_stale=exchange is not None and self._learn(url, exchange, reason),
            may_be_proxys=exchange is not None and _may_be_proxys(exchange, self.options.proxy),
            is_held=exchange is not None and exchange.failure is Failure.GATE,
            exchange=exchange,
            payload=recorded.payload,
            cut=recorded.cut,
            secret_lines=recorded.secret_lines,
            is_unread=answer.is_unread,
            is_head=exchange is not None and exchange.request.method == "HEAD",
        )

    def _may_be_http2(self, url: str) -> bool:
        return url.startswith("https:") and origin_of(url) not in self._without_http2

    def _learn(self, url: str, exchange: Exchange, reason: Reason | None) -> bool:
        """By which way a URL is asked for from now on. Whether what came says nothing of it."""
        failure = exchange.failure
        if failure in (Failure.REFUSED, Failure.NOT_HTTP2):
            _note(self._without_http2, origin_of(url))
            return True
        is_unanswered = exchange.http_status is None and reason in _NO_ANSWERS
        is_reset = failure is Failure.STREAM_RESET  # which no other request can have caused
        if is_reset or (is_unanswered and (exchange.is_kept or exchange.request.http2)):
            _note(self._alone, url)
        # What came instead of an answer may belong to the one before.
        return is_unanswered and exchange.is_kept and reason is not Reason.TIMEOUT and not is_reset


def _is_unchanged(exchange: Exchange) -> bool:
    """Whether it is a 304 that was asked for (RFC 9110 section 15.4.5); one that was not answers no question."""
    asked = exchange.request.headers
    return exchange.http_status == NOT_MODIFIED and any(line.lower().startswith(_CONDITIONS) for line in asked)


def _note(known: set[str], one: str) -> None:
    if len(known) >= MAX_ALONE:
        known.clear()
    known.add(one)


class _Answer:
    """Takes one answer: looks at its head, decodes its body, and knows how much of it is wanted."""

    def __init__(
        self,
        url: str,
        proxy: str | None,
        max_bytes: int,
        sink: BodySink | None,
        before_large: BeforeLarge | None,
        wants: Wants | None,
    ) -> None:
        self._url = url
        self._proxy = proxy
        self._max_bytes = max_bytes
        self._sink = sink
        self._before_large = before_large
        self._wants = wants
        self._body: Body | None = None
        self._waiting: asyncio.Task[None] | None = None  # for room
        self._exchange: Exchange
        self._drained = 0
        self._has_body = False  # something of it came
        self._coding: str | None = None
        self.trouble: Trouble | None = None
        self.is_head_good = False
        self.redirect_to: str | None = None
        self.whole = b""
        self.is_as_sent = False  # so it is: there was nothing to decode
        self.is_truncated = False
        self.is_short = False
        self.is_unread = False

    def head(self, exchange: Exchange) -> bool:
        """Whether the body is wanted."""
        self._exchange = exchange
        try:
            check_head(exchange, self._proxy)
            self.is_head_good = True
            if exchange.http_status in REDIRECT_STATUSES:
                self.redirect_to = target_of(exchange, self._url)
                return True
            if self._sink is not None and reason_for_http_status(exchange.http_status or 0) is not None:
                return False
            self.is_unread = self._wants is not None and not self._wants(exchange)
            if self.is_unread:
                return exchange.request.method == "HEAD"  # no body comes: its connection is as good as new
            self._coding = content_encoding_of(exchange)
            self._body = Body(self._coding, self._max_bytes, self._sink)
        except (Trouble, DecodeError) as error:
            self._note(error)
            return False
        return True

    def body(self, piece: bytes) -> int:
        """Take a piece."""
        body = self._body
        self._has_body = True
        if body is None:
            self._drained += len(piece)
            return GO_ON if self._drained <= _DRAIN_BYTES else ENOUGH
        try:
            if not body.feed(piece):
                return ENOUGH
        except DecodeError as error:
            self._note(error)
            return ENOUGH
        if self._before_large is None or max(body.size, body.size_as_sent) <= LARGE_BYTES:
            return GO_ON
        before_large, self._before_large = self._before_large, None
        self._waiting = asyncio.ensure_future(self._wait_for_room(before_large))
        return PAUSE

    async def _wait_for_room(self, before_large: BeforeLarge) -> None:
        """Ask whether to go on; the time it takes does not count."""
        may_go_on = False
        try:
            may_go_on = await before_large()
            if not may_go_on:
                self.trouble = Trouble(Reason.INTERNAL_ERROR, "there is no room for a large body just now")
        finally:
            self._exchange.resume(is_wanted=may_go_on)

    def stop(self) -> None:
        """The exchange is over. Raises what asking for room raised."""
        waiting = self._waiting
        if waiting is not None and not waiting.cancel() and not waiting.cancelled():
            waiting.result()

    def _note(self, error: Trouble | DecodeError) -> None:
        if isinstance(error, Trouble):
            self.trouble = error
        else:
            self.trouble = Trouble(Reason.BAD_ENCODING, f"the body is not what Content-Encoding {self._coding!r} says")

    def end(self, exchange: Exchange) -> Trouble | None:
        """What is there of the body at the end of the exchange; what kept it from being an answer.

        A body that ends before its announced length is one as far as it came, as for browsers.
        """
        self.is_short = exchange.failure is Failure.SHORT_BODY and (self.redirect_to is not None or self._has_body)
        if exchange.failure is not None and not self.is_short:
            return Trouble(*classify(exchange))
        if self._body is not None:
            self.whole = self._body.end()
            self.is_as_sent = self._sink is None and not self._body.is_coded
            self.is_truncated = self._body.is_truncated
            self.is_short = self.is_short or self._body.is_short
        return None


def _may_be_proxys(exchange: Exchange, proxy: str | None) -> bool:
    """Whether a proxy took the request in place of the host (https goes through a tunnel), and no answer came of it."""
    is_written = not exchange.is_connecting and exchange.http_status is None
    return is_written and proxy is not None and proxy.startswith("http") and exchange.request.url.startswith("http:")


def _headers(options: FetchOptions) -> tuple[str, ...]:
    """What every request says of us."""
    headers = (
        f"User-Agent: {options.sent_user_agent}",
        "Accept: text/html,application/xhtml+xml,*/*;q=0.8",
        f"Accept-Encoding: {ACCEPT_ENCODING}",
    )
    return (*headers, f"From: {options.contact}") if options.contact else headers
