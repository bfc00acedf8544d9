"""A worker's share of what may be taken in all: of a run, a crawl, a host (see :mod:`sqspider.frontier.shares`)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from sqspider.frontier import Clock
from sqspider.frontier.shares import Ask, Most, Portion, Spent

AHEAD: Final = 16  # pages that are asked for beyond what is in hand, at most
REFUSED_SECONDS: Final = 1.0, 30.0  # before it is asked again for what others have, at least and at most
_RENEWALS: Final = 3  # in the time that a share is good for
_TOLERATED_SECONDS: Final = 10.0  # a moment that lies farther ahead than it was set: the clock was put back
NOTHING: Final = Spent()


class Place(NamedTuple):
    """A page that a visit has in hand."""

    purse: Purse
    is_of_pages: bool  # a redirect is none: then it is free again


class Purse:
    """What of its share a worker has in hand, and what is left. It asks for more as it goes, some at a time."""

    def __init__(
        self, ask: Callable[[Ask], Awaitable[Portion]], run: str, *, worker_id: str, seconds: float, clock: Clock
    ) -> None:
        self.run = run
        self.in_hand = 0  # pages: what ends unfetched is free again
        self.waiting = 0  # for an answer
        self.portion = Portion(0, NOTHING, 0)  # as of the last answer
        self._ask_for = ask
        self._worker_id = worker_id
        self._seconds = seconds  # that a share is good for
        self._clock = clock
        self._most = Most()
        self._share = 0
        self._spent = 0  # pages, ever
        self._until = -math.inf
        self._refused_since: float | None = None  # others have what is left
        self.refused_until = -math.inf
        self._may_have_more = False  # than is known here: an end was under way when it was asked
        self._one_ask = asyncio.Lock()

    @property
    def left(self) -> int:
        """How many pages may be taken beside those in hand."""
        return (self._share if 0 < self._seconds_left <= self._seconds + _TOLERATED_SECONDS else 0) - self.in_hand

    @property
    def is_due(self) -> bool:
        """Whether the share is to be asked for anew, before it runs out."""
        least, most = self._seconds * (1 - 1 / _RENEWALS), self._seconds + _TOLERATED_SECONDS
        return self._share > 0 and not least < self._seconds_left <= most

    @property
    def _seconds_left(self) -> float:
        return self._until - self._clock()

    @property
    def is_refused(self) -> bool:
        """Whether others were found to have what is left, and it is not time yet to look again."""
        return 0 < self.refused_until - self._clock() <= REFUSED_SECONDS[1] + _TOLERATED_SECONDS

    async def take(self, most: Most, before: Spent) -> bool:
        """Take a page in hand, if there is one for this worker. Who waits meanwhile is asked for along with it. Raises
        :class:`sqspider.frontier.FrontierError`, as all that asks."""
        self.waiting += 1
        try:
            async with self._one_ask:
                if most != self._most or (self.left < 1 and not self.is_refused):
                    ahead = min(self.in_hand, AHEAD)
                    await self._ask(self.in_hand + self.waiting + ahead, most, before)
                is_taken = self.left >= 1
                self.in_hand += is_taken
        finally:
            self.waiting -= 1
        return is_taken

    async def want(self, wanted: int, most: Most) -> int:
        """How many pages may be taken beside those in hand; ``wanted``: as many as there is room for."""
        async with self._one_ask:
            if self.is_due or self.left < min(1, wanted):
                await self._ask(self.in_hand + wanted, most)
        return self.left

    def settle(self, pages: int) -> None:
        """So much was spent."""
        self._spent += pages
        self._share -= pages

    async def renew(self) -> None:
        """Keep what it has."""
        async with self._one_ask:
            await self._ask(max(self._share, self.in_hand), self._most)

    async def give_back(self) -> bool:
        """Give back what is not in hand; whether it is empty then."""
        async with self._one_ask:
            if self._share > self.in_hand or self._may_have_more:
                await self._ask(self.in_hand, self._most)
        return not self.in_hand and not self.waiting

    async def _ask(self, wanted: int, most: Most, before: Spent = NOTHING) -> None:
        spent, until, may_have_more = self._spent, self._clock() + self._seconds, self.in_hand > 0
        ask = Ask(run=self.run, most=most, worker_id=self._worker_id, wanted=wanted, until=until, before=before)
        self.portion = await self._ask_for(ask)
        self._may_have_more = may_have_more
        # What was spent meanwhile may be in that or not: it is taken to be not.
        self._share = self.portion.pages - (self._spent - spent)
        self._most, self._until = most, until
        if self.portion.pages < wanted:
            self._note_refusal(is_of_all=self.portion.pages <= self.in_hand)
        elif wanted > self.in_hand:
            self._refused_since = None

    def _note_refusal(self, *, is_of_all: bool) -> None:
        """The longer nothing is had the longer it is waited for: pages may be held for minutes, or a worker be dead."""
        now, (least, most) = self._clock(), REFUSED_SECONDS
        if self._refused_since is None or not is_of_all:
            self._refused_since = now
        self.refused_until = now + min(max(least, (now - self._refused_since) / 2), most)
