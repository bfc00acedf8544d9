"""What a worker remembers of records: bounded, good for one generation of the frontier, and lost without harm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqspider.crawls import MAX_DEPTH
from sqspider.frontier import Entry, Frontier
from sqspider.work.cookie_wall import Promised

NEVER: Final = MAX_DEPTH + 1  # a depth that no record has
SUSPECTS: Final = 10_000  # URLs that may kill their workers, that are remembered
FINISHED_URLS: Final = 10_000  # finished here that are remembered, for a second message of one of them


class RecentUrls:
    """A bounded memory of the latest URLs.

    Two generations: when the young one is full it becomes the old one, which is forgotten.
    """

    def __init__(self, size: int) -> None:
        self._half = size // 2
        self._young: set[str] = set()
        self._old: set[str] = set()

    def __contains__(self, url: object) -> bool:
        return url in self._young or url in self._old

    def add(self, url: str) -> None:
        if len(self._young) >= self._half:
            self._old, self._young = self._young, set()
        self._young.add(url)

    def discard(self, url: str) -> None:
        self._young.discard(url)
        self._old.discard(url)

    def clear(self) -> None:
        self._young.clear()
        self._old.clear()


class Recorded:
    """The latest URLs that are known to be recorded, each with a depth that its record says at most. Bounded as
    :class:`RecentUrls`."""

    def __init__(self, size: int) -> None:
        self._half = size // 2
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}

    def hides(self, url: str, depth: int) -> bool:
        """Whether a link so deep need not be recorded again: it is no nearer way."""
        known = self._young.get(url, NEVER)
        return known <= depth or self._old.get(url, NEVER) <= depth

    def add(self, url: str, depth: int) -> None:
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[url] = min(depth, self._young.get(url, NEVER))

    def clear(self) -> None:
        self._young.clear()
        self._old.clear()


class Memories:
    """All that one worker remembers of records."""

    def __init__(self, frontier: Frontier, seen_urls: int) -> None:
        self.recorded = Recorded(seen_urls)  # links that need not be recorded again
        self.finished = RecentUrls(FINISHED_URLS)
        self.suspects = RecentUrls(SUSPECTS)
        self.promised = Promised()  # cookies
        self._frontier = frontier
        self._generation = frontier.generation

    def remember(self, recorded: Iterable[Entry]) -> None:
        """Links that need not be recorded again. Where a redirect leads is not among them while it is open: a way with
        fewer redirects may yet be found."""
        for entry in recorded:
            if not entry.redirects:
                self.recorded.add(entry.url, entry.depth)

    def forget_what_was_cleared(self) -> None:
        """What is remembered of records holds until they are cleared away."""
        if self._generation != self._frontier.generation:
            self._generation = self._frontier.generation
            for memory in (self.recorded, self.finished, self.suspects):
                memory.clear()
