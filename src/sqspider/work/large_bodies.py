"""Large bodies in memory: only so many at a time, each from when it is read until its links are recorded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

SPACE_SECONDS: Final = 3.0  # the longest wait for it, in the middle of a large body


class LargeBodies:
    """All the space there is: for so many of them. None is no limit."""

    def __init__(self, most: int | None) -> None:
        self.wanted = 0  # by so many, who wait for it
        self.when_wanted: Callable[[], None] | None = None  # called as somebody begins to wait
        self._space = asyncio.Semaphore(most) if most is not None else None

    @property
    def are_bounded(self) -> bool:
        """There is a limit."""
        return self._space is not None

    async def acquire(self) -> None:
        """Wait for some."""
        assert self._space is not None
        self.wanted += 1
        try:
            if self._space.locked() and self.when_wanted is not None:
                self.when_wanted()
            await self._space.acquire()
        finally:
            self.wanted -= 1

    def release(self) -> None:
        """There is some again."""
        assert self._space is not None
        self._space.release()


class Space:
    """What one visit takes of it, if its body is large."""

    def __init__(self, all_of_it: LargeBodies) -> None:
        self._all_of_it = all_of_it
        self.is_taken = False
        self.is_refused = False  # the body was not read

    @property
    def is_bounded(self) -> bool:
        """It is to be asked for."""
        return self._all_of_it.are_bounded

    async def take(self) -> bool:
        """Wait for some, at most as long as a lease has time for; whether there is."""
        if self.is_bounded:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SPACE_SECONDS):
                    await self._all_of_it.acquire()
                    self.is_taken = True
        return self.is_taken

    def give_back(self) -> None:
        """The body is of no more use."""
        if self.is_taken:
            self.is_taken = False
            self._all_of_it.release()
