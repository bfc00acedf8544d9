"""What one worker has done so far, as it counts it itself."""

from __future__ import annotations

from collections import Counter

from sqspider.figures import SAMPLED
from sqspider.record import Outcome, Status
from sqspider.revisit import Revisit


class Tally:
    """The sums, and how many fetches are under way."""

    def __init__(self) -> None:
        self.received = 0
        self.finished: Counter[Status] = Counter()
        self.retried = 0
        self.deferred = 0
        self.pages = 0  # fetched, redirects not counted, of the crawl that it ends with, if there is one
        self.again: Counter[Revisit] = Counter()  # visits that were not the first, likewise
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

    def add_finished(self, outcome: Outcome, *, is_of_run: bool, again: Revisit | None = None) -> None:
        """A record has ended; ``is_of_run``: if it is a page, it is one of those that the run's limit counts;
        ``again``: what came of a visit that was not the first."""
        self.finished[outcome.status] += 1
        self.bytes += 0 if outcome.unchanged else outcome.bytes
        is_page = outcome.status is Status.FAILED or (outcome.status is Status.DONE and not outcome.is_redirect)
        self.pages += is_page and is_of_run
        if again is not None and is_of_run:
            self.again[again] += 1

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
