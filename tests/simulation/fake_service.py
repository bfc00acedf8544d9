"""What the services of the fake AWS share: how they refuse, and what may go wrong with them."""

from __future__ import annotations

import random
from typing import Final, NamedTuple


class Weather(NamedTuple):
    """What may go wrong: chances of one call or of one part of it, and seconds that things lag."""

    throttled: float = 0.0  # a call is refused: it was not made
    unreached: float = 0.0  # a call does not get there
    failed: float = 0.0  # a call is answered with a 5xx, whether it was made or not
    lost: float = 0.0  # a call is made, and its answer never comes
    partial: float = 0.0  # a part of a batch fails; some that say so were made
    duplicate: float = 0.0  # a message that is received stays visible
    undeleted: float = 0.0  # a message that is deleted comes back
    purged: float = 0.0  # a message that is sent in the minute after a purge is taken along
    disorder: bool = False  # messages come in any order
    index_lag: float = 0.0  # seconds
    read_lag: float = 0.0  # of reads that need not be consistent
    figures_lag: float = 0.0


FAIR: Final = Weather()


class RefusedError(Exception):
    """The call is refused; ``code``: as the service names it."""

    def __init__(self, code: str, message: str, *, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


class Fates(NamedTuple):
    """Decides of each part of a batch whether it fails."""

    chance: float
    rng: random.Random

    def strikes(self) -> bool:
        return self.chance > 0 and self.rng.random() < self.chance
