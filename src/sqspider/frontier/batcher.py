"""Gathers single requests into calls of a batch operation, so that the life of a URL can be
written as one straight coroutine and still cost a fraction of a round trip."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Batcher(Generic[T, R]):
    """Calls ``operation`` with all requests that come within ``linger_seconds``, ``size`` at most.

    The operation answers in the order of what it was asked. If it raises, everybody who waits for
    that batch gets the exception. A caller that is cancelled does not stop its batch.
    """

    def __init__(
        self,
        operation: Callable[[Sequence[T]], Awaitable[Sequence[R]]],
        *,
        size: int,
        linger_seconds: float = 0.0,
    ) -> None:
        self._operation = operation
        self._size = size
        self._linger_seconds = linger_seconds
        self._waiting: list[tuple[T, asyncio.Future[R]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._calls: set[asyncio.Task[None]] = set()

    async def __call__(self, request: T) -> R:
        """The operation's answer to one request."""
        return await self.put(request)

    def put(self, request: T) -> asyncio.Future[R]:
        """One request, and where its answer will be."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[R] = loop.create_future()
        self._waiting.append((request, answer))
        if len(self._waiting) >= self._size:
            self._start()
        elif self._timer is None:
            self._timer = loop.call_later(self._linger_seconds, self._start)
        return answer

    def _start(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting, []
        call = asyncio.get_running_loop().create_task(self._call(batch))
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    async def _call(self, batch: list[tuple[T, asyncio.Future[R]]]) -> None:
        try:
            answers = await self._operation([request for request, _ in batch])
        except Exception as error:  # noqa: BLE001 - handed on to everybody who waits
            for _, waiter in batch:
                if not waiter.done():
                    waiter.set_exception(error)
            return
        for (_, waiter), answer in zip(batch, answers, strict=True):
            if not waiter.done():
                waiter.set_result(answer)

    async def close(self) -> None:
        """Wait until every call that was started has ended."""
        if self._waiting:
            self._start()
        while self._calls:
            await asyncio.wait(self._calls)
