"""Large bodies in memory: only so many at a time, each from when it is read until its links are recorded."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

SPACE_SECONDS: Final = 3.0  # the longest wait for it, in the middle of a large body


class Space:
    """What one visit takes of it, if its body is large. ``all_of_it``: none is no limit."""

    def __init__(self, all_of_it: asyncio.Semaphore | None) -> None:
        self._all_of_it = all_of_it
        self._is_taken = False
        self.is_refused = False  # the body was not read

    @property
    def is_bounded(self) -> bool:
        """It is to be asked for."""
        return self._all_of_it is not None

    async def take(self) -> bool:
        """Wait for some, at most as long as a lease has time for; whether there is."""
        if self._all_of_it is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SPACE_SECONDS):
                    await self._all_of_it.acquire()
                    self._is_taken = True
        return self._is_taken

    def give_back(self) -> None:
        """The body is of no more use."""
        if self._all_of_it is not None and self._is_taken:
            self._is_taken = False
            self._all_of_it.release()
