"""A proxy in front of a bucket that does what S3 does and ministack does not: throttles, fails, loses answers, refuses.

Each fault takes a request and answers it, or lets it pass. Chance comes from a seeded generator.
"""

from __future__ import annotations

import asyncio
import io
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import NamedTuple

import aiohttp
from aiohttp import web


class Asked(NamedTuple):
    """A request to S3."""

    method: str
    target: str  # as the request line has it
    headers: Mapping[str, str]
    body: bytes


class Answered(NamedTuple):
    """An answer; a status of zero hangs up instead."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = {}


Fault = Callable[["S3Proxy", Asked], Awaitable[Answered]]


class S3Proxy:
    """Stands in front of the S3 of an environment; use it as a context manager."""

    def __init__(self, environment: Mapping[str, str], *, seed: int = 0) -> None:
        self.rng = random.Random(seed)
        self.fault: Fault | None = None  # none: everything passes
        self.chance = 0.3  # of each request to meet the fault
        self.injected = 0
        self.asked: list[Asked] = []
        self.counts: Counter[str] = Counter()  # requests by method
        self.upstream = environment["AWS_ENDPOINT_URL"]
        self.environment = dict(environment)

    async def __aenter__(self) -> S3Proxy:
        self._session = aiohttp.ClientSession(auto_decompress=False)
        application = web.Application(client_max_size=2**26)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.environment["AWS_ENDPOINT_URL_S3"] = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()
        await self._session.close()

    def strikes(self) -> bool:
        """Whether the fault happens now; counted."""
        struck = self.rng.random() < self.chance
        self.injected += struck
        return struck

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        asked = Asked(request.method, request.raw_path, dict(request.headers), await request.read())
        self.asked.append(asked)
        self.counts[request.method] += 1
        answer = await (self.fault(self, asked) if self.fault else self.forward(asked))
        if answer.status == 0:
            assert request.transport is not None
            request.transport.abort()
        headers = {
            name: value
            for name, value in answer.headers.items()
            if name.lower() not in ("transfer-encoding", "connection", "server", "date", "content-encoding")
            and (name.lower() != "content-length" or request.method == "HEAD")
        }
        return web.Response(status=answer.status or 500, body=answer.body, headers=headers)

    async def forward(self, asked: Asked) -> Answered:
        from yarl import URL

        headers = {name: value for name, value in asked.headers.items() if name.lower() != "content-length"}
        url = URL(self.upstream.rstrip("/") + asked.target, encoded=True)
        async with self._session.request(asked.method, url, data=io.BytesIO(asked.body), headers=headers) as response:
            return Answered(response.status, await response.read(), dict(response.headers))


def refusal(code: str, status: int, message: str = "injected", more: str = "", **headers: str) -> Answered:
    """An error, as S3 writes it."""
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>{more}'
    text += "<RequestId>4442587FB7D0A2F9</RequestId><HostId>none</HostId></Error>"
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answered(status, text.encode(), {"Content-Type": "application/xml", **named})


def always(answer: Answered) -> Fault:
    """Every request is answered so."""

    async def answered(_: S3Proxy, asked: Asked) -> Answered:
        return Answered(answer.status, b"", answer.headers) if asked.method == "HEAD" else answer

    return answered


async def throttle(proxy: S3Proxy, asked: Asked) -> Answered:
    """The request is refused, not made."""
    return (
        refusal("SlowDown", 503, "Please reduce your request rate.") if proxy.strikes() else await proxy.forward(asked)
    )


async def fail(proxy: S3Proxy, asked: Asked) -> Answered:
    """A 5xx that may mean anything: half of the time the request was made."""
    if not proxy.strikes():
        return await proxy.forward(asked)
    if proxy.rng.random() < 0.5:
        await proxy.forward(asked)
    return refusal("InternalError", 500, "We encountered an internal error. Please try again.")


async def lose_answer(proxy: S3Proxy, asked: Asked) -> Answered:
    """The request is made, and the connection is gone before its answer."""
    if not proxy.strikes():
        return await proxy.forward(asked)
    await proxy.forward(asked)
    return Answered(0)


async def refuse(proxy: S3Proxy, asked: Asked) -> Answered:
    """Permission comes and goes."""
    return refusal("AccessDenied", 403, "Access Denied") if proxy.strikes() else await proxy.forward(asked)


async def hold(_: S3Proxy, __: Asked) -> Answered:
    """No answer ever."""
    await asyncio.Event().wait()
    raise AssertionError


ALL: dict[str, Fault] = {fault.__name__: fault for fault in (throttle, fail, lose_answer, refuse)}
