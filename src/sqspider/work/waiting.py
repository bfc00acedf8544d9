"""The waiting room: what is in hand, and nobody works on; in the order in which somebody looks at it again.

    waiting   for a moment, for something that is told by a future, or for whichever of them comes first
    due       the next runner that is free takes it, the first that became due before the others
    taken     whoever works on it ends it, or puts it back

A wait holds no runner: so many may wait for a few hosts while others are fetched. Waits are measured by the event
loop's clock from when they begin, so that a wall clock that is put back makes none of them longer.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

CROWD: Final = 128  # that wait for one host here, before only soon ones may join
FULL_HOUSE: Final = 512  # and for all hosts
ROOM: Final = 1024
"""Guests beyond whom a worker takes no more: with a second between requests, as many hosts are asked a second."""


class Guest(Protocol):
    """What can wait."""

    @property
    def host(self) -> str:
        """Whom it waits for."""


G = TypeVar("G", bound=Guest)


class WaitingRoom(Generic[G]):
    """Guests that wait, and those that are due. ``clock`` is that of the moments they wait for."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._waiting: dict[G, int] = {}  # each with its ticket: a wait that has ended otherwise is known by it
        self._moments: list[tuple[float, int, G]] = []  # of the loop, a heap; also of waits that are over
        self._due: deque[G] = deque()
        self._runners: deque[asyncio.Future[G]] = deque()  # that are free
        self._by_host: Counter[str] = Counter()
        self._tickets = 0
        self.at_work = 0  # runners that have one
        # What wakes it, and at which moment: a loop that is quicker than asyncio's own has, for what is due within
        # its tick, a handle that tells no moment.
        self._timer: asyncio.Handle | None = None
        self._wakes_at = 0.0
        self._is_open = True

    @property
    def waiting(self) -> int:
        """How many are not due yet."""
        return len(self._waiting)

    @property
    def due(self) -> int:
        """How many wait only for a runner."""
        return len(self._due)

    def is_crowded(self, host: str) -> bool:
        """Whether so many wait for a host, or for all together, that only what is due soon may join them."""
        return self._by_host[host] >= CROWD or len(self._waiting) >= FULL_HOUSE

    def put(self, guest: G, *, at: float | None = None, told: asyncio.Future[Any] | None = None) -> None:
        """Let one wait until a moment of the clock, or until it is ``told``; due at once without either."""
        seconds = 0.0 if at is None else at - self._clock()
        if not self._is_open or (told is None and seconds <= 0) or (told is not None and told.done()):
            self._make_due(guest)
            return
        self._tickets += 1
        ticket = self._waiting[guest] = self._tickets
        self._by_host[guest.host] += 1
        if told is not None:
            told.add_done_callback(lambda _: self._end_wait(guest, ticket))
        if at is not None:
            moment = asyncio.get_running_loop().time() + max(0.0, seconds)
            heapq.heappush(self._moments, (moment, ticket, guest))
            self._set_timer()

    async def next(self) -> G:
        """The next one that is due, for a runner that is free until it says :meth:`free` again. Being cancelled
        loses none."""
        if self._due:
            self.at_work += 1
            return self._due.popleft()
        runner: asyncio.Future[G] = asyncio.get_running_loop().create_future()
        self._runners.append(runner)
        try:
            return await runner
        except asyncio.CancelledError:
            if runner.done() and not runner.cancelled():
                self._due.appendleft(runner.result())
                self.free()
            raise

    def free(self) -> None:
        """A runner has done what it took."""
        self.at_work -= 1

    def those_due(self) -> list[G]:
        """Who waits only for a runner, the first first."""
        return list(self._due)

    def withdraw(self, guest: G) -> None:
        """Take away one that is due."""
        self._due.remove(guest)

    def take_out(self, guest: G) -> bool:
        """Take away one that waits, if it does."""
        if self._waiting.pop(guest, None) is None:
            return False
        self._by_host[guest.host] -= 1
        if not self._by_host[guest.host]:
            del self._by_host[guest.host]
        return True

    def close(self) -> list[G]:
        """Send everybody away, and let nobody wait any more: whoever comes is due at once."""
        self._is_open = False
        sent_away = [*self._due, *self._waiting]
        for kept in (self._due, self._waiting, self._moments, self._by_host):
            kept.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return sent_away

    def open(self) -> None:
        """Let wait again."""
        self._is_open = True

    def _end_wait(self, guest: G, ticket: int) -> None:
        if self._waiting.get(guest) == ticket and self.take_out(guest):
            self._make_due(guest)

    def _make_due(self, guest: G) -> None:
        while self._runners:
            runner = self._runners.popleft()
            if not runner.done():  # otherwise it was cancelled
                self.at_work += 1  # though it does not know yet
                runner.set_result(guest)
                return
        self._due.append(guest)

    def _set_timer(self) -> None:
        """Wake at the first of the moments."""
        if not self._moments:
            return
        moment = self._moments[0][0]
        if self._timer is not None:
            if self._wakes_at <= moment:
                return
            self._timer.cancel()
        self._wakes_at = moment
        self._timer = asyncio.get_running_loop().call_at(moment, self._end_waits, moment)

    def _end_waits(self, moment: float) -> None:
        self._timer = None
        while self._moments and self._moments[0][0] <= moment:
            _, ticket, guest = heapq.heappop(self._moments)
            self._end_wait(guest, ticket)
        self._set_timer()
