"""How long is waited between two tries of a call, and when it is given up."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Final

from sqspider.frontier.values import FrontierBusyError

FIRST_PAUSE_SECONDS: Final = 0.05  # before the second try; it doubles, with full jitter
LONGEST_PAUSE_SECONDS: Final = 5.0


class Backoff:
    """The waits between the tries of one call, or of what a batch left undone."""

    def __init__(self, action: str, *, give_up_seconds: float, rng: random.Random) -> None:
        self._action = action
        self._rng = rng
        self._tries = 0
        self._give_up_at = asyncio.get_running_loop().time() + give_up_seconds

    async def wait(self, trouble: str, *, longest: float = math.inf) -> None:
        """Wait before the next try, ``longest`` seconds at most. Raise :class:`FrontierBusyError` when it is enough."""
        self._tries += 1
        pause = min(self._pause(), longest)
        if asyncio.get_running_loop().time() + pause > self._give_up_at:
            raise FrontierBusyError(
                f"{self._action} did not succeed in {self._tries} tries ({trouble}): nothing is lost, try again later"
            )
        await asyncio.sleep(pause)

    def _pause(self) -> float:
        """Doubling, with full jitter."""
        longest = min(FIRST_PAUSE_SECONDS * 2**self._tries, LONGEST_PAUSE_SECONDS)
        return self._rng.uniform(longest / 10, longest)
