"""What one exchange brought, as an archive keeps it; and the seam of whoever does.

How it is written is in ``archive``. Whoever fetches hands in captures, and ends nothing before they are durable.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

import msgspec

from sqspider.crawl_settings import CrawlSettings
from sqspider.record import DEFAULT_CRAWL, Place
from sqspider.web.fetch import Fetched


class Hop(enum.StrEnum):
    """How a URL was come to, by the letters that Heritrix writes."""

    SEED = ""
    LINK = "L"
    REDIRECT = "R"
    ROBOTS = "P"  # robots.txt: a prerequisite
    SITEMAP = "M"


class Capture(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange: what was asked and what was answered, and why it was asked."""

    url: str  # what was asked for
    fetched: Fetched  # made by a fetcher whose options say ``captures``: it has the payload and the request's head
    at: float  # when it was asked: seconds since the epoch
    hop: Hop = Hop.LINK
    via: str | None = None  # the page that led there
    depth: int = 0  # links between a seed and this
    crawl: str = DEFAULT_CRAWL  # the crawl's name
    settings: CrawlSettings = CrawlSettings()  # what of it is to be kept
    before: Place | None = None  # of the last good visit: what a revisit refers to
    facts: tuple[tuple[str, str], ...] = ()  # further fields of its metadata record, by name: the encoding of a page,
    # what a robots.txt decided

    @property
    def was_answered(self) -> bool:
        """There is something to keep."""
        return self.fetched.exchange is not None and bool(self.fetched.exchange.head)


class StoreError(Exception):
    """What was fetched could not be kept: what is wrong, with what, and what to do. Its claims are given back, and no
    URL pays for it."""


class FullError(StoreError):
    """There is no more room for the archive: whoever crawls is to stop."""


class Store(Protocol):
    """Keeps captures."""

    gather_seconds: float  # that captures wait for others to share a write with, at most, where each write costs money
    most_bytes: int  # of payloads that are gathered for one write; who has more does not wait

    def note(self, capture: Capture) -> None:
        """Keep a capture along with those that are kept next, before them; nobody waits for it."""

    async def keep(self, captures: Sequence[Capture]) -> Sequence[Place | None]:
        """Keep some captures, and what was noted; the place of each in their order, or none for what its crawl does not
        keep at all.

        What it returns for is durable. Raises :class:`StoreError` where it is not, for all of them together; what was
        kept of them then does no harm. The same capture may come again: its worker died before its end.
        """

    async def close(self) -> None:
        """Keep what was noted, and let go of what is open. Raises :class:`StoreError`."""
