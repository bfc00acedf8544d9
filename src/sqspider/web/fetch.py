"""One bounded, checked request: its address guarded, time and size limited. A redirect is an answer.

Whatever a server does ends in a :class:`Fetched`; no exception of a library leaves this module.
What a page says is in ``links``; who may be asked when, and what follows from a redirect, is not known here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, NamedTuple, Protocol

import aiohttp
import msgspec
from aiohttp.abc import AbstractResolver
from yarl import URL

from sqspider.log import get_logger
from sqspider.record import Reason, reason_for_http_status
from sqspider.web.body import Body, BodySink, DecodeError
from sqspider.web.connections import Connections, Underway
from sqspider.web.errors import Trouble, classify
from sqspider.web.guard import GuardedResolver
from sqspider.web.head import Head, head_of, header_of
from sqspider.web.location import REDIRECT_STATUSES, target_of
from sqspider.web.options import FetchOptions as FetchOptions  # said again: they belong together

LARGE_BYTES: Final = 256 * 1024  # decoded bytes of a body, before there must be room for more
_DRAIN_BYTES: Final = 16 * 1024  # a redirect's body is read up to this size, to keep its connection

log = get_logger(__name__)


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
        return header_of(self.headers, name)


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
        sink: BodySink | None = None,
    ) -> Fetched:
        """As :meth:`Fetcher.fetch`."""


class _Answer(NamedTuple):
    """What came behind a head."""

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
        self._most = connections
        self._resolver = resolver or GuardedResolver(allow_private=options.allow_private)
        self._connections: Connections

    async def __aenter__(self) -> Fetcher:
        self._connections = Connections(self.options, most=self._most, resolver=self._resolver)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connections.close()

    async def fetch(
        self,
        url: str,
        *,
        before_large: BeforeLarge | None = None,
        max_bytes: int | None = None,
        sink: BodySink | None = None,
    ) -> Fetched:
        """Ask for a canonical URL, once; never raises but for being cancelled.

        A URL that finds a kept connection broken (``is_stale``), or silent, goes out on connections of its own from
        then on: what breaks there is its trouble, or its host's.

        ``max_bytes`` replaces the limit of the options. A ``sink`` gets the body of a success as it
        comes, in place of the result; it must not raise, and other bodies are not read. The statuses
        301, 302, 303, 307 and 308 lead elsewhere (RFC 9110 section 15.4): that is told, and not followed.
        """
        request = _Request(url, time.monotonic(), before_large)
        answer = _Answer()
        reason: Reason | None = None
        detail = ""
        try:
            async with asyncio.timeout(self.options.timeout_seconds) as request.deadline:
                self._connections.check(url)
                answer = await self._ask(request, max_bytes or self.options.max_bytes, sink)
        except Trouble as trouble:
            reason, detail = trouble.reason, trouble.detail
        except Exception as error:
            reason, detail = classify(error, is_connecting=request.is_connecting, proxy=self.options.proxy, url=url)
            if reason is Reason.INTERNAL_ERROR:
                log.exception("fetch", url=url)
        else:
            reason = None if answer.redirect_to is not None else request.reason_by_status
        return self._fetched(request, answer, reason, detail)

    def _fetched(self, request: _Request, answer: _Answer, reason: Reason | None, detail: str) -> Fetched:
        head = request.head
        is_unanswered = request.is_kept and head is None
        if is_unanswered and reason in (Reason.CONNECTION_RESET, Reason.TIMEOUT):
            self._connections.keep_apart(request.url)
        return Fetched(
            url=request.url,
            http_status=head.http_status if head else None,
            headers=head.headers if head else (),
            body=answer.body,
            truncated=answer.truncated,
            reason=reason,
            detail=detail or (f"HTTP status {head.http_status}" if head and reason else ""),
            elapsed_seconds=time.monotonic() - request.started,
            sent_seconds=max(0.0, request.sent_at - request.started),
            redirect_to=answer.redirect_to,
            is_stale=is_unanswered and reason is Reason.CONNECTION_RESET,
        )

    async def _ask(self, request: _Request, max_bytes: int, sink: BodySink | None) -> _Answer:
        async with self._connections.session_for(request.url).get(
            URL(request.url, encoded=True),
            allow_redirects=False,
            proxy=self.options.proxy,
            trace_request_ctx=request,
        ) as response:
            try:
                request.head = head = head_of(response, self.options.proxy)
            except Trouble:
                response.close()
                raise
            if response.status in REDIRECT_STATUSES:
                if response.content_length is not None and response.content_length <= _DRAIN_BYTES:
                    await response.read()
                else:
                    response.close()
                return _Answer(redirect_to=target_of(head, request.url))
            if sink is not None and request.reason_by_status is not None:
                response.close()
                return _Answer()
            body = await self._read(response, max_bytes, request, sink)
            return _Answer(body.end(), body.is_truncated)

    async def _read(
        self, response: aiohttp.ClientResponse, max_bytes: int, request: _Request, sink: BodySink | None
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
            raise Trouble(Reason.BAD_ENCODING, f"the body is not what Content-Encoding {encoding!r} says") from error
        return body


class _Request(Underway):
    """How far a request has come, and what it may take."""

    deadline: asyncio.Timeout

    def __init__(self, url: str, started: float, before_large: BeforeLarge | None) -> None:
        super().__init__(started)
        self.url = url
        self.started = started
        self.before_large = before_large
        self.head: Head | None = None  # once it is there

    @property
    def reason_by_status(self) -> Reason | None:
        return reason_for_http_status(self.head.http_status) if self.head else None

    async def wait_for_room(self, before_large: BeforeLarge) -> None:
        """Ask whether to go on; the time it takes does not count. Raises :class:`Trouble` for a no."""
        loop = asyncio.get_running_loop()
        left = (self.deadline.when() or 0.0) - loop.time()
        self.deadline.reschedule(None)
        may_go_on = await before_large()
        self.deadline.reschedule(loop.time() + left)
        if not may_go_on:
            raise Trouble(Reason.INTERNAL_ERROR, "there is no room for a large body just now")
