"""Prolongs the claims of visits that wait for their ends: with the store, or with who takes the pages.

What is left to its lease is fetched again, and after three such claims given up as what kills its worker: no URL shall
pay for a slow store so. An invocation has no time for any of this: its leases are longer than itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from sqspider.frontier import Clock, FrontierBusyError, Hold, Work
from sqspider.log import get_logger
from sqspider.work.hand import Visit

LOOK_SECONDS: Final = 2.5  # between two looks at leases: of one that was fetched late ten seconds are left

log = get_logger(__name__)


class _Waiting(NamedTuple):
    """How a visit waits."""

    share: float  # of its lease, below which it is prolonged
    lose: Callable[[], None]  # called when somebody else has claimed it


class Prolonging:
    """The claims of one worker that are to outlast a lease."""

    def __init__(self, frontier: Work, *, clock: Clock, lease_seconds: float) -> None:
        self._frontier = frontier
        self._clock = clock
        self._lease_seconds = lease_seconds
        self._visits: dict[Visit, _Waiting] = {}

    def begin(self, visit: Visit, share: float, lose: Callable[[], None]) -> None:
        """Prolong a visit's claim from now on, when less than a share of its lease is left. ``lose``: called when
        somebody else has claimed it, and it is prolonged no more."""
        self._visits[visit] = _Waiting(share, lose)

    def end(self, visit: Visit) -> None:
        """It waits no more."""
        self._visits.pop(visit, None)

    async def keep(self) -> None:
        """Look at leases, until cancelled."""
        while True:
            await asyncio.sleep(min(LOOK_SECONDS, self._lease_seconds / 3))
            try:
                await self._prolong()
            except FrontierBusyError as error:
                log.warning("frontier_busy", during="prolong", error=str(error))

    async def _prolong(self) -> None:
        aging = [(visit, waiting) for visit, waiting in self._visits.items() if self._is_aging(visit, waiting)]
        if not aging:
            return
        holds = [Hold(claim=visit.claim, delivery=visit.delivery) for visit, _ in aging if visit.claim is not None]
        answers = await self._frontier.prolong(holds, lease_seconds=self._lease_seconds)
        for (visit, waiting), answer in zip(aging, answers, strict=True):
            if self._visits.get(visit) is not waiting:
                continue  # its wait is over meanwhile
            if answer is None:
                self.end(visit)
                waiting.lose()
            else:
                visit.claim, visit.delivery = answer.claim, answer.delivery

    def _is_aging(self, visit: Visit, waiting: _Waiting) -> bool:
        return visit.claim is not None and visit.claim.lease_until < self._clock() + self._lease_seconds * waiting.share
