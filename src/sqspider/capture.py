"""What one exchange brought, as an archive keeps it; and the seam of whoever does.

How it is written is in ``archive``. Whoever fetches hands in captures, and ends nothing before they are durable.
"""

from __future__ import annotations

import enum
from collections.abc import Collection, Sequence
from typing import Final, Protocol

import msgspec

from sqspider.crawl_settings import CrawlSettings
from sqspider.record import DEFAULT_CRAWL, CapturePlace, Reason
from sqspider.redact import without_secrets
from sqspider.web.fetch import Fetched

VISIT: Final = "visit"  # among the facts of a capture: which visit of its URL it was of, from 0 on


class Hop(enum.StrEnum):
    """How a URL was come to, by the letters that Heritrix writes."""

    SEED = ""
    LINK = "L"
    REQUISITE = "E"  # embedded in a page
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
    redirects: int = 0  # on the way from where ``hop`` leads to, of a robots.txt or sitemap
    crawl: str = DEFAULT_CRAWL  # the crawl's name
    settings: CrawlSettings = CrawlSettings()  # what of it is to be kept
    before: CapturePlace | None = None  # of the last good visit: what a revisit refers to
    facts: tuple[tuple[str, str], ...] = ()  # further fields of its metadata record, by name: the encoding of a page,
    # what a robots.txt decided

    @property
    def was_answered(self) -> bool:
        """There is something to keep: an answer whose head is whole, and which is the host's and not a proxy's."""
        exchange = self.fetched.exchange
        has_head = exchange is not None and exchange.http_status is not None
        return has_head and self.fetched.reason is not Reason.PROXY_UNUSABLE


def is_captured(fetched: Fetched) -> bool:
    """Whether a :class:`Capture` can be made of it: it was answered, that says something of its URL, and its fetcher
    captures."""
    exchange = fetched.exchange
    if exchange is None or not exchange.request.keeps_request_head or fetched.tells_nothing:
        return False
    return Capture(url=fetched.url, fetched=fetched, at=0.0).was_answered


REDACTED: Final = "[redacted]"
REQUEST_LINE: Final = "request-line"  # among the names of lines, for the one that has none
_ALWAYS: Final = frozenset({"authorization", "cookie", "proxy-authorization"})


def redacted_head(request_head: bytes, secret_lines: Collection[str]) -> tuple[bytes, tuple[str, ...]]:
    """A request's head as it may be kept, and the names, in small letters, of the lines in which something is hidden.

    ``secret_lines``: names of those whose whole value is. What this process has learned to be secret is hidden
    wherever it stands.
    """
    lines, hidden = [], []
    for at, line in enumerate(request_head.split(b"\r\n")):
        text = line.decode("latin-1")
        written, colon, _ = text.partition(":")
        name = written.lower() if at else REQUEST_LINE
        if colon and at and (name in _ALWAYS or name in secret_lines):
            shown = f"{written}: {REDACTED}"
        else:
            shown = without_secrets(text, REDACTED)
        lines.append(shown.encode("latin-1"))
        if shown != text:
            hidden.append(name)
    return b"\r\n".join(lines), tuple(dict.fromkeys(hidden))


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

    async def keep(self, captures: Sequence[Capture]) -> Sequence[CapturePlace | None]:
        """Keep some captures, and what was noted (of none: that alone); the place of each in their order, or none for
        what its crawl does not keep at all.

        What it returns for is durable. Raises :class:`StoreError` where it is not, for all of them together; what was
        kept of them then does no harm. The same capture may come again: its worker died before its end.
        """

    def has(self, place: CapturePlace) -> bool:
        """Whether what was kept there is there, and stays for long enough to be referred to, as far as it costs nothing
        to know. What is not is asked for as a whole: nobody could read what has not changed."""

    async def close(self) -> None:
        """Keep what was noted, and let go of what is open. Raises :class:`StoreError`."""
