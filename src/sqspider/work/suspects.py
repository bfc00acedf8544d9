"""URLs that may kill their workers: when one is suspected, tried alone, and given up.

A page that kills its worker takes along the claims of those beside it. So a URL whose claims nobody ended is fetched
once with nothing beside it (see ``gate``) before it is to blame: no neighbour pays for it.
"""

from __future__ import annotations

import asyncio
import enum
from typing import Final

from sqspider.frontier import Won
from sqspider.record import Outcome, Reason, Status

SUSPECTED_AFTER: Final = 2  # claims in a row that nobody ended: the third is worked on with nothing beside it,
GIVEN_UP_AFTER: Final = 3  # and if that one is not ended either, the URL is to blame

CRASHED: Final = Outcome(
    status=Status.FAILED,
    reason=Reason.CRASHED,
    detail=f"{GIVEN_UP_AFTER} claims in a row were never ended, the last of them with no other fetch beside it",
)


class Suspicion(enum.Enum):
    """What the claims say of a URL that nobody ended."""

    NONE = enum.auto()
    TO_BE_ALONE = enum.auto()  # it is not to be fetched beside others
    GIVEN_UP = enum.auto()  # nor at all: it ends as :data:`CRASHED`


def suspicion_of(claim: Won, *, is_alone: bool) -> Suspicion:
    """Whether a URL that was claimed just now may be fetched. ``is_alone``: nothing else is, beside it."""
    if claim.unended > GIVEN_UP_AFTER:
        return Suspicion.GIVEN_UP
    if claim.unended > SUSPECTED_AFTER and not is_alone:
        return Suspicion.TO_BE_ALONE
    return Suspicion.NONE


class OneAtATime:
    """Somebody's turn, of those who want to be alone: others are let in between two of them."""

    def __init__(self) -> None:
        self._holder: object = None
        self._is_free: asyncio.Future[None] | None = None

    def take(self, who: object) -> bool:
        """Whether it is somebody's turn."""
        if self._holder is None:
            self._holder = who
        return self._holder is who

    @property
    def is_free(self) -> asyncio.Future[None]:
        """Is done when whoever has the turn gives it back."""
        if self._is_free is None:
            self._is_free = asyncio.get_running_loop().create_future()
        return self._is_free

    def give_back(self, who: object) -> None:
        """End the turn of somebody who may have it."""
        if self._holder is who:
            self._holder = None
            if self._is_free is not None:
                self._is_free.set_result(None)
                self._is_free = None
