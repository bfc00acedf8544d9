"""What goes from a worker to its frontier and comes from there, gathered into batches.

Ends are handed in and answered later, so nobody waits for one who need not.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from sqspider.frontier import (
    ClaimRequest,
    Deferral,
    Delivery,
    Finish,
    Frontier,
    Lost,
    Retry,
    Taken,
    Won,
    no_passage,
)
from sqspider.frontier.batcher import Batcher
from sqspider.host import HostRow, Passage
from sqspider.message import Message, decode_message
from sqspider.work.options import WorkerOptions

T = TypeVar("T")

STOP_MARGIN_SECONDS: Final = 2.0  # beyond its limit, before what does not answer is left
MOST_ENDS: Final = 50  # in a batch


class Wishes(NamedTuple):
    """What is to be done with messages as they are taken, as :class:`~sqspider.frontier.Taking` has it."""

    claims: Callable[[Message], bool]
    passes: Callable[[Message, HostRow], Passage | None] = no_passage


class Batch(NamedTuple):
    """What was taken at once, and the rows of hosts that were read along with it."""

    taken: Sequence[Taken] = ()
    hosts: Mapping[str, HostRow] = {}
    asked_at: float | None = None  # when it was asked for, after a wait; none: hosts are entered apart


class Desk(Protocol):
    """Whom a worker deals with in place of its frontier. Answers come in the order of what was handed in."""

    def finish(self, finish: Finish) -> asyncio.Future[bool]:
        """End a claim."""

    def retry(self, retry: Retry) -> asyncio.Future[bool]:
        """Give a claim back."""

    def defer(self, deferral: Deferral) -> asyncio.Future[None]:
        """Put a delivery off."""

    def delete(self, delivery: Delivery) -> asyncio.Future[None]:
        """End a delivery that has nothing more to say."""

    def park(self, delivery: Delivery) -> asyncio.Future[None]:
        """Put a delivery aside, whose crawl does not run."""

    def claim(self, request: ClaimRequest) -> Awaitable[Won | Lost]:
        """Claim a URL."""

    @property
    def most(self) -> int:
        """How many deliveries may be taken at once."""

    @property
    def ahead(self) -> int:
        """How many may be taken beyond those that runners can begin with."""

    async def take(self, limit: int, wishes: Wishes) -> Batch:
        """Up to so many deliveries, after a wait of ``poll_seconds`` at most; what is wished for with them is done
        where that costs nothing."""

    async def close(self) -> None:
        """Wait until all that was handed in is answered."""


class CallDesk:
    """A desk that makes a call of each kind of batch."""

    def __init__(
        self, frontier: Frontier, options: WorkerOptions, rng: random.Random, stopping: asyncio.Event,
        only: str | None = None,
    ) -> None:  # fmt: skip
        self._frontier = frontier
        self._only = only
        self.most = options.most_of_a_poll
        self._options = options
        self._rng = rng
        self._stopping = stopping
        linger = max(options.linger_seconds, frontier.traits.gather_seconds)
        self._claim = Batcher(self._claim_batch, size=self.most)
        self._finish = Batcher(frontier.finish, size=MOST_ENDS, linger_seconds=linger)
        self._retry = Batcher(frontier.retry, size=MOST_ENDS, linger_seconds=linger)
        self._defer = Batcher(self._defer_batch, size=MOST_ENDS, linger_seconds=linger)
        self._delete = Batcher(self._delete_batch, size=MOST_ENDS, linger_seconds=linger)
        self._park = Batcher(self._park_batch, size=MOST_ENDS, linger_seconds=linger)
        self.park = self._park.put
        self.finish, self.retry, self.claim = self._finish.put, self._retry.put, self._claim.put
        self.defer, self.delete = self._defer.put, self._delete.put

    @property
    def ahead(self) -> int:
        return 0

    async def take(self, limit: int, wishes: Wishes) -> Batch:  # noqa: ARG002 - what is claimed costs a call of its own
        deliveries = await self._receive(limit)
        return Batch([Taken(delivery=delivery, message=decode_message(delivery.body)) for delivery in deliveries])

    async def _receive(self, limit: int) -> list[Delivery]:
        poll = self._frontier.receive(limit, wait_seconds=self._options.poll_seconds, crawl=self._only)
        return await self.polled(poll) or []

    async def polled(self, poll: Coroutine[Any, Any, T]) -> T | None:
        """What a poll of ``poll_seconds`` brings; none: it is not answered by the time that this worker has to stop.

        A poll that were left half-way could have hidden messages from everybody: it ends by itself, and what it still
        brings is given back. One that is not answered even then found nobody.
        """
        polling = asyncio.ensure_future(poll)
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((polling, stopping), return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait((polling,), timeout=self._options.poll_seconds + STOP_MARGIN_SECONDS)
            return polling.result() if polling.done() else None
        finally:
            polling.cancel()
            stopping.cancel()

    async def close(self) -> None:
        for batcher in (self._claim, self._finish, self._retry, self._defer, self._delete, self._park):
            await batcher.close()

    async def _claim_batch(self, requests: Sequence[ClaimRequest]) -> Sequence[Won | Lost]:
        return await self._frontier.claim(
            requests,
            worker_id=self._options.worker_id,
            claim_id=f"{self._rng.getrandbits(48):012x}",
            lease_seconds=self._options.lease_seconds,
        )

    async def _defer_batch(self, deferrals: Sequence[Deferral]) -> Sequence[None]:
        await self._frontier.defer(deferrals)
        return [None] * len(deferrals)

    async def _delete_batch(self, deliveries: Sequence[Delivery]) -> Sequence[None]:
        await self._frontier.delete(deliveries)
        return [None] * len(deliveries)

    async def _park_batch(self, deliveries: Sequence[Delivery]) -> Sequence[None]:
        await self._frontier.park(deliveries)
        return [None] * len(deliveries)
