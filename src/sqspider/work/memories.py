"""What a worker remembers of records: bounded, good for one generation of the frontier, and lost without harm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from sqspider.crawl_settings import MAX_DEPTH
from sqspider.frontier import Entry, Finish, Frontier, FrontierBusyError
from sqspider.frontier.shares import Most, Spent
from sqspider.record import CUTTING_REASONS, REQUISITE_DEPTH
from sqspider.work.cookie_wall import Promised

LINKS_AT_A_TIME: Final = 1000  # of a page, that are recorded together
ANY: Final = MAX_DEPTH - 1  # the depth of a link where none is too deep
OUTSIDE: Final = REQUISITE_DEPTH + 1  # and more: the depths of what lies outside of its crawl, as any within is nearer
ANY_OUTSIDE: Final = 3 * MAX_DEPTH - 1
NEVER: Final = 3 * MAX_DEPTH  # a depth that no record has
SUSPECTS: Final = 10_000  # URLs that may kill their workers, that are remembered
FINISHED_URLS: Final = 10_000  # finished here that are remembered, for a second message of one of them
USED_UP: Final = 10_000  # hosts whose budgets are, that are remembered


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
    """The latest records that are known to be there, by key, each with a depth that its record says at most. Bounded as
    :class:`RecentUrls`."""

    def __init__(self, size: int) -> None:
        self._half = size // 2
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}

    def hides(self, key: str, depth: int) -> bool:
        """Whether a link so deep need not be recorded again: it is no nearer way."""
        return self._young.get(key, NEVER) <= depth or self._old.get(key, NEVER) <= depth

    def add(self, key: str, depth: int) -> None:
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[key] = min(depth, self._young.get(key, NEVER))

    def clear(self) -> None:
        self._young.clear()
        self._old.clear()


class UsedUp:
    """The latest runs of which nothing is left, and what was spent of them: that only grows. Bounded."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._spent: dict[str, tuple[Most, Spent]] = {}

    def spent(self, run: str, most: Most) -> Spent | None:
        """What was spent of a run; none: it is not known, or was of another most."""
        known = self._spent.get(run)
        return known[1] if known is not None and known[0] == most else None

    def add(self, run: str, most: Most, spent: Spent) -> None:
        if len(self._spent) >= self._size:
            del self._spent[next(iter(self._spent))]
        self._spent[run] = most, spent

    def clear(self) -> None:
        self._spent.clear()


class Memories:
    """All that one worker remembers of records."""

    def __init__(self, frontier: Frontier, seen_urls: int) -> None:
        self.recorded = Recorded(seen_urls)  # links that need not be recorded again
        self.finished = RecentUrls(FINISHED_URLS)
        self.suspects = RecentUrls(SUSPECTS)
        self.used_up = UsedUp(USED_UP)
        # Of such a host, and fetched at a visit before: what is forgotten is claimed in vain once more. Where what is
        # given back waits behind all others (SQS), more of them than these are so again and again.
        self.counted = RecentUrls(max(FINISHED_URLS, seen_urls))
        self.promised = Promised()  # cookies
        self.generation = frontier.generation  # of what is remembered
        self._frontier = frontier

    def remember(self, recorded: Iterable[Entry], generation: int) -> None:
        """Links that need not be recorded again. Where a redirect leads is not among them while it is open: a way with
        fewer redirects may yet be found. ``generation``: as it was when they were handed in, for the answer may have
        come late, after they were cleared away."""
        if generation != self.generation:
            return
        for entry in recorded:
            if not entry.redirects:
                self.recorded.add(entry.key, entry.depth + OUTSIDE if entry.is_skipped else entry.depth)

    def remember_finished(self, end: Finish, generation: int) -> None:
        """A record that was finished, and its links; ``generation`` as of :meth:`remember`."""
        key = end.claim.url
        self.suspects.discard(key)
        self.finished.add(key)
        if generation == self.generation:
            is_outside = end.outcome.checked or end.outcome.reason in CUTTING_REASONS
            self.recorded.add(key, end.claim.depth + OUTSIDE if is_outside else end.claim.depth)
        self.remember(end.links, generation)

    async def record_all_but_last(self, links: Iterable[Entry]) -> tuple[Entry, ...]:
        """Record the links of a page a thousand at a time, so that no transaction grows with the page; the
        last of them are left to its finish. Those of a claim that is lost or never ended do no harm."""
        some: list[Entry] = []
        for link in links:
            if len(some) == LINKS_AT_A_TIME:
                generation = self.generation
                await self._frontier.enqueue(some)
                self.remember(some, generation)
                some = []
            some.append(link)
        return tuple(some)

    async def record_before_the_end(self, links: tuple[Entry, ...]) -> tuple[Entry, ...]:
        """Record links of a page that may be in somebody's hands for long, so that they need not wait for that; those
        that are left to its finish after all, because the frontier is busy."""
        if links:
            generation = self.generation
            try:
                await self._frontier.enqueue(links)
            except FrontierBusyError:
                return links
            self.remember(links, generation)
        return ()

    def forget_what_was_cleared(self) -> None:
        """What is remembered of records holds until they are cleared away."""
        if self.generation != self._frontier.generation:
            self.generation = self._frontier.generation
            for memory in (self.recorded, self.finished, self.suspects, self.used_up, self.counted):
                memory.clear()
