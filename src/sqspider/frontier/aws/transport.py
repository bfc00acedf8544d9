"""What lies between the client and AWS: how a signed document gets there, and its answer back.

One try of one request, nothing more: signing, trying again and what an answer means are the client's
(``client``). So whatever answers as the services do can stand behind it, in this process or elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, Protocol

import aiohttp

from sqspider.frontier.aws.network import Network
from sqspider.frontier.values import Clock

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


class Sent(NamedTuple):
    """A request as it is sent: a POST of a JSON document to ``/`` (AWS JSON 1.0), signed."""

    service: Service
    action: str  # as X-Amz-Target names it, without the service: "ReceiveMessage"
    endpoint: str  # the URL that it goes to
    headers: Mapping[str, str]  # all of them, by names in small letters; the signature is in "authorization"
    document: bytes  # JSON
    wait_seconds: float  # how long the answer may take on purpose: a long poll's
    is_alone: bool  # on a connection of its own: a try before got no answer on one that was kept


class Received(NamedTuple):
    """The answer to a request, whatever it says."""

    status: int  # HTTP's; 200: the document is the action's answer
    # By names in small letters, or without regard to letters. "date" (as HTTP writes it, may be missing) sets the
    # clock right; "x-amzn-query-error" is SQS's older name of an error.
    headers: Mapping[str, str]
    document: bytes  # JSON: the answer, or an error with "__type" and "message"


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
    """AWS by HTTP, on connections that are kept."""

    def __init__(self, endpoints: Mapping[Service, str], *, network: Network = DIRECT, clock: Clock) -> None:
        """``clock``: this machine's. Raises :class:`FrontierUnavailableError` for a proxy that cannot be used."""
        self._proxies = {endpoint: network.proxy_for(endpoint) for endpoint in endpoints.values()}
        self._tls = network.tls
        self._clock = clock
        self._session = self._open_session()
        self._used_at = clock()

    @staticmethod
    def _open_session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, keepalive_timeout=IDLE_SECONDS),
            trace_configs=[_tracing],
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )

    async def close(self) -> None:
        await self._session.close()

    async def wake(self) -> None:
        """Let go of kept connections if :data:`IDLE_SECONDS` have passed on the wall since the last request.

        For a process that is frozen between its tasks, as Lambda's is: there the timer that does so
        otherwise stands still, while the other end hangs up.
        """
        if self._clock() - self._used_at > IDLE_SECONDS:
            await self._session.close()
            self._session = self._open_session()

    async def post(self, sent: Sent) -> Received:
        try:
            return await self._post(sent)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            # What caused it stays out of tracebacks: it may repeat what was sent.
            may_have_arrived = not isinstance(error, aiohttp.ClientConnectorError)
            raise NoAnswerError(_told(error), may_have_arrived=may_have_arrived) from None
        finally:
            self._used_at = self._clock()

    async def _post(self, sent: Sent) -> Received:
        total = ANSWER_SECONDS + CONNECT_SECONDS + sent.wait_seconds
        timeout = aiohttp.ClientTimeout(total=total, sock_connect=CONNECT_SECONDS)
        async with (
            self._open_session() if sent.is_alone else contextlib.nullcontext(self._session) as session,
            asyncio.timeout(None) as silence,
            session.post(
                sent.endpoint,
                data=sent.document,
                headers=sent.headers,
                timeout=timeout,
                proxy=self._proxies[sent.endpoint],
                ssl=self._tls,
                trace_request_ctx=silence if sent.service is DYNAMODB else None,
            ) as response,
        ):
            silence.reschedule(None)
            return Received(response.status, response.headers, await response.read())


async def _limit_silence(_: aiohttp.ClientSession, context: Any, __: aiohttp.TraceConnectionReuseconnParams) -> None:
    """A kept connection was taken for a request: give its answer little time, where that is wanted."""
    silence = context.trace_request_ctx
    if silence is not None:
        silence.reschedule(asyncio.get_running_loop().time() + SILENT_SECONDS)


_tracing: Final = aiohttp.TraceConfig()
_tracing.on_connection_reuseconn.append(_limit_silence)


def _told(error: Exception) -> str:
    """What went wrong on the way, without what the other end had to say of it."""
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"the proxy answers {error.status}"
    if isinstance(error, aiohttp.ClientResponseError):
        return "the answer is no HTTP"
    return str(error) or type(error).__name__
