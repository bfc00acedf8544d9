"""What one worker has done so far, as it counts it itself: in all, and for each crawl with a name of its own."""

from __future__ import annotations

from collections import Counter

from sqspider.figures import SAMPLED
from sqspider.record import DEFAULT_CRAWL, Outcome, Status
from sqspider.revisit import Revisit


class Sums:
    """What samples tell."""

    def __init__(self) -> None:
        self.received = 0
        self.finished: Counter[Status] = Counter()
        self.retried = 0
        self.deferred = 0
        self.lost = 0
        self.bytes = 0
        self.fetches = 0
        self.fetch_seconds = 0.0

    @property
    def done(self) -> int:
        return self.finished[Status.DONE]

    @property
    def failed(self) -> int:
        return self.finished[Status.FAILED]

    @property
    def blocked(self) -> int:
        return self.finished[Status.BLOCKED]

    def by_name(self) -> dict[str, float]:
        """By the names of a :class:`sqspider.figures.Sample`."""
        return {name: getattr(self, name) for name in SAMPLED}


class Tally(Sums):
    """The sums of all crawls, those of each that is named, and how many fetches are under way."""

    def __init__(self) -> None:
        super().__init__()
        self.again: Counter[Revisit] = (
            Counter()
        )  # visits that were not the first, of the crawl that it ends with, if any
        self.dropped = 0  # messages of crawls that are gone
        self.in_flight = 0
        self.named: dict[str, Sums] = {}  # of crawls with a name of their own
        self._alone = (self,)

    def _of(self, crawl: str) -> tuple[Sums, ...]:
        """Where it is counted what happens to a URL of a crawl."""
        if crawl == DEFAULT_CRAWL:
            return self._alone
        if crawl not in self.named:
            self.named[crawl] = Sums()
        return self, self.named[crawl]

    def add_received(self, crawl: str) -> None:
        """A delivery was taken in hand."""
        for sums in self._of(crawl):
            sums.received += 1

    def add_lost(self, crawl: str) -> None:
        """A claim was lost."""
        for sums in self._of(crawl):
            sums.lost += 1

    def add_given_back(self, crawl: str, *, tried: bool) -> None:
        """A claim was given back; ``tried``: as its fetch met trouble, and it is tried again."""
        for sums in self._of(crawl):
            sums.retried += tried

    def add_deferred(self, crawl: str) -> None:
        """A delivery was put off."""
        for sums in self._of(crawl):
            sums.deferred += 1

    def add_fetch(self, crawl: str, seconds: float) -> None:
        """A fetch is over."""
        for sums in self._of(crawl):
            sums.fetches += 1
            sums.fetch_seconds += seconds

    def add_finished(self, crawl: str, outcome: Outcome, *, again: Revisit | None = None) -> None:
        """A record has ended; ``again``: what came of a visit that was not the first."""
        for sums in self._of(crawl):
            sums.finished[outcome.status] += 1
            sums.bytes += outcome.bytes_read
        if again is not None:
            self.again[again] += 1
