"""How many pages a worker may yet take in hand of a run that has a limit (``--max-pages``), shared by its workers.

Exact over workers: a page is taken in hand only within this worker's share (see :mod:`sqspider.frontier.shares`).
What is taken and is no page in the end, a redirect or what is tried again later, is free again.
"""

from __future__ import annotations

from typing import Final

from sqspider.frontier import Clock, Frontier
from sqspider.work.tally import Tally

_RENEWALS: Final = 3  # in the time that a share is good for


class Allowance:
    """What is left of one worker's share."""

    def __init__(
        self, frontier: Frontier, *, run: str, most: int, worker_id: str, seconds: float, clock: Clock
    ) -> None:
        self._frontier = frontier
        self._run = run
        self._most = most
        self._worker_id = worker_id
        self._seconds = seconds  # that a share is good for
        self._clock = clock
        self._share = 0
        self._told = 0  # pages that were spent, and said to be
        self._until = 0.0

    async def left(self, tally: Tally, in_hand: int, wanted: int) -> int:
        """How many more may be taken, beside those in hand; ``wanted``: as many as there is room for. Raises
        :class:`sqspider.frontier.FrontierError`."""
        is_due = self._clock() >= self._until - self._seconds * (1 - 1 / _RENEWALS)
        if is_due or self._left(tally, in_hand) < min(1, wanted):
            await self._ask(tally, in_hand + wanted)
        return self._left(tally, in_hand)

    async def give_back(self, tally: Tally) -> None:
        """Nothing more is taken. Raises :class:`sqspider.frontier.FrontierError`."""
        await self._ask(tally, 0)

    def _left(self, tally: Tally, in_hand: int) -> int:
        return self._share - (tally.pages - self._told) - in_hand

    async def _ask(self, tally: Tally, wanted: int) -> None:
        pages, until = tally.pages, self._clock() + self._seconds
        self._share = await self._frontier.share(
            self._run,
            most=self._most,
            worker_id=self._worker_id,
            spent=pages - self._told,
            wanted=wanted,
            until=until,
        )
        self._told, self._until = pages, until
