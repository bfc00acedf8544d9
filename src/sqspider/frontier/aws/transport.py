"""What lies between the client and AWS: how a signed document gets there, and its answer back.

One try of one request, nothing more: signing, trying again and what an answer means are the client's
(``client``). So whatever answers as the services do can stand behind it, in this process or elsewhere.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, NamedTuple, Protocol

from sqspider.frontier.aws.network import Network
from sqspider.frontier.values import Clock
from sqspider.transport import GO_ON, Exchange, Failure, Request
from sqspider.transport.curl import CurlOptions, CurlTransport
from sqspider.transport.names import Names, SystemResolver

CONNECT_SECONDS: Final = 5.0
ANSWER_SECONDS: Final = 10.0  # for an answer, beyond what the call itself may wait
SILENT_SECONDS: Final = 3.0  # for DynamoDB, which answers in milliseconds, on a kept connection: else it is dead
IDLE_SECONDS: Final = 15.0  # after which a kept connection is not used again
CONNECTIONS: Final = 50
DIRECT: Final = Network()


class Service(NamedTuple):
    """One of AWS's services, as its requests name it."""

    name: str  # in the signature
    target: str  # the prefix of X-Amz-Target


SQS: Final = Service("sqs", "AmazonSQS")
DYNAMODB: Final = Service("dynamodb", "DynamoDB_20120810")
CLOUDWATCH: Final = Service("monitoring", "GraniteServiceVersion20100801")
S3: Final = Service("s3", "")  # knows no X-Amz-Target: method, path and query say what is asked


class Sent(NamedTuple):
    """A request as it is sent: a POST of a JSON document to ``/`` (AWS JSON 1.0), signed; or one to S3."""

    service: Service
    action: str  # as X-Amz-Target names it, without the service: "ReceiveMessage"
    endpoint: str  # the URL that it goes to
    headers: Mapping[str, str]  # all of them, by names in small letters; the signature is in "authorization"
    document: bytes  # JSON; to S3 the body, whatever it is
    wait_seconds: float  # how long the answer may take on purpose: a long poll's
    is_alone: bool  # on a connection of its own: a try before got no answer on one that was kept
    method: str = "POST"
    target: str = ""  # path and query below the endpoint, quoted


class Received(NamedTuple):
    """The answer to a request, whatever it says."""

    status: int  # HTTP's; 200: the document is the action's answer
    # By names in small letters, or without regard to letters. "date" (as HTTP writes it, may be missing) sets the
    # clock right; "x-amzn-query-error" is SQS's older name of an error.
    headers: Mapping[str, str]
    document: bytes  # JSON: the answer, or an error with "__type" and "message". Of S3 an object's bytes, or XML


class NoAnswerError(Exception):
    """No whole answer came. ``may_have_arrived``: the request may have been carried out all the same."""

    def __init__(self, why: str, *, may_have_arrived: bool = True) -> None:
        super().__init__(why)
        self.may_have_arrived = may_have_arrived


class Transport(Protocol):
    """Sends signed documents. Used by one client alone, which closes it."""

    async def post(self, sent: Sent) -> Received:
        """Send a request once. Raises :class:`NoAnswerError` where there is none within its time.

        It may be cancelled at any moment, as any wait may.
        """

    async def wake(self) -> None:
        """Let go of what went stale while the process was frozen. No request is under way."""

    async def close(self) -> None:
        """Let go of all it holds."""


class HttpTransport:
    """AWS by HTTP, on connections that are kept: a pool of its own for each proxy on the way."""

    def __init__(self, endpoints: Mapping[Service, str], *, network: Network = DIRECT, clock: Clock) -> None:
        """``clock``: this machine's. Raises :class:`FrontierUnavailableError` for a proxy that cannot be used."""
        self._proxies = {endpoint: network.proxy_for(endpoint) for endpoint in endpoints.values()}
        self._certificates = network.certificates
        self._clock = clock
        self._resolver = SystemResolver()
        self._names = Names(self._resolver, allow_private=True)  # an endpoint may lie in a network of one's own
        self._pools: dict[str | None, CurlTransport] = {}
        self._used_at = clock()

    async def close(self) -> None:
        self._close_pools()
        self._names.close()
        self._resolver.close()

    def _close_pools(self) -> None:
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()

    async def wake(self) -> None:
        """Let go of kept connections if :data:`IDLE_SECONDS` have passed on the wall since the last request.

        For a process that is frozen between its tasks, as Lambda's is: the other end hangs up meanwhile.
        """
        if self._clock() - self._used_at > IDLE_SECONDS:
            self._close_pools()

    def _pool(self, proxy: str | None) -> CurlTransport:
        if proxy not in self._pools:
            options = CurlOptions(proxy=proxy, certificates=self._certificates, most_idle=CONNECTIONS)
            self._pools[proxy] = CurlTransport(options, self._names)
        return self._pools[proxy]

    async def post(self, sent: Sent) -> Received:
        answer = _Answer()
        request = Request(
            sent.endpoint + sent.target,
            (*(f"{name}: {value}" for name, value in sent.headers.items()), *_not_sent(sent)),
            document=sent.document if sent.method in ("POST", "PUT") else None,
            method=None if sent.method == "POST" else sent.method,
            timeout_seconds=ANSWER_SECONDS + CONNECT_SECONDS + sent.wait_seconds,
            connect_seconds=CONNECT_SECONDS,
            silent_seconds=SILENT_SECONDS if sent.service is DYNAMODB else None,
            is_fresh=sent.is_alone,
        )
        try:
            exchange = await self._pool(self._proxies[sent.endpoint]).exchange(request, answer)
        finally:
            self._used_at = self._clock()
        if exchange.failure is not None or exchange.http_status is None:
            raise NoAnswerError(_told(exchange), may_have_arrived=not exchange.is_connecting)
        headers = {name.lower(): value for name, value in exchange.headers}
        return Received(exchange.http_status, headers, b"".join(answer.pieces))


def _not_sent(sent: Sent) -> tuple[str, ...]:
    """What libcurl says by itself; nothing but what is signed, and the signature, goes to AWS."""
    of_bodies = () if "content-type" in sent.headers else ("Content-Type:",)
    return ("Accept:", "Expect:", "User-Agent:", *of_bodies)


class _Answer:
    """Takes an answer whole."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def head(self, _: Exchange) -> bool:
        """Whatever its head says."""
        return True

    def body(self, piece: bytes) -> int:
        """Keep a piece."""
        self.pieces.append(piece)
        return GO_ON


def _told(exchange: Exchange) -> str:
    """What went wrong on the way, without what the other end had to say of it."""
    match exchange.failure:
        case Failure.NOT_HTTP | Failure.BAD_FRAMING | Failure.HEAD_TOO_LARGE | Failure.SHORT_BODY:
            return "the answer is no HTTP"
        case Failure.TIMEOUT | Failure.CONNECT_TIMEOUT | Failure.PROXY_SILENT:
            return "no answer in time"
    return exchange.detail or (os.strerror(exchange.errno) if exchange.errno else str(exchange.failure))
