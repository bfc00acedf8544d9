"""What one worker has done so far, as it counts it itself."""

from __future__ import annotations

from collections import Counter

from sqspider.figures import SAMPLED
from sqspider.record import Outcome, Status


class Tally:
    """The sums, and how many fetches are under way."""

    def __init__(self) -> None:
        self.received = 0
        self.finished: Counter[Status] = Counter()
        self.retried = 0
        self.deferred = 0
        self.lost = 0
        self.dropped = 0  # messages of crawls that are gone
        self.bytes = 0
        self.fetches = 0
        self.fetch_seconds = 0.0
        self.in_flight = 0

    def add_fetch(self, seconds: float) -> None:
        """A fetch is over."""
        self.fetches += 1
        self.fetch_seconds += seconds

    def add_finished(self, outcome: Outcome) -> None:
        """A record has ended."""
        self.finished[outcome.status] += 1
        self.bytes += 0 if outcome.unchanged else outcome.bytes

    @property
    def done(self) -> int:
        return self.finished[Status.DONE]

    @property
    def failed(self) -> int:
        return self.finished[Status.FAILED]

    @property
    def blocked(self) -> int:
        return self.finished[Status.BLOCKED]

    def sums(self) -> dict[str, float]:
        """All that is counted, by the names of a :class:`sqspider.figures.Sample`."""
        return {name: getattr(self, name) for name in SAMPLED}
