"""Which captures have rows: decided by what was sent with them, before a body is decoded."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Final

import msgspec

from sqspider.archive.reading import Captured
from sqspider.capture import VISIT
from sqspider.checks import shown
from sqspider.extract.document import answered_by
from sqspider.record import DEFAULT_CRAWL
from sqspider.url import host_in
from sqspider.web.body import DecodeError
from sqspider.web.charset import mime_type_of
from sqspider.web.links import HTML_TYPES, is_xml, type_of_answer

EVERYTHING: Final = "*"
_STATUS: Final = re.compile(r"([1-9])xx|([1-9]\d\d)(?:-([1-9]\d\d))?")
_ROBOTS: Final = "P"  # how the way to a robots.txt ends, but for redirects
_SITEMAP: Final = "M"  # and that to a sitemap
_SNIFFED_BYTES: Final = 512
_VISIT_DIGITS: Final = 9  # no URL is visited more often; a column takes 19


class Selection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which captures. It can be sent to another process. Raises ``ValueError``, in words that begin with the field."""

    statuses: tuple[str, ...] = ("2xx",)  # of HTTP: 200, 4xx, 500-599, *
    types: tuple[str, ...] = HTML_TYPES  # media types: text/html, image/*, *
    crawl: str | None = None  # of the crawl of this name
    host: str | None = None
    since: float | None = None  # captured then or later: seconds since the epoch
    until: float | None = None  # captured before
    with_aside: bool = False  # robots.txt and sitemaps, too

    def __post_init__(self) -> None:
        for status in self.statuses:
            _range_of(status)
        for media_type in self.types:
            if media_type != EVERYTHING and media_type.count("/") != 1:
                raise ValueError(f"types: {shown(media_type)} is no media type: write text/html, image/* or *")


class Selector:
    """Says of captures whether they are selected."""

    def __init__(self, selection: Selection) -> None:
        self._of = selection
        self._statuses = [_range_of(status) for status in selection.statuses]
        self._types = frozenset(media_type.lower() for media_type in selection.types)
        self._patterns = [media_type for media_type in self._types if "*" in media_type]

    def may_take(self, captured: Captured) -> bool:
        """Whether a capture is selected as far as it tells itself: of a 304 the answer that it means is not asked."""
        of = self._of
        if (of.since is not None and captured.at < of.since) or (of.until is not None and captured.at >= of.until):
            return False
        if of.host is not None and host_in(captured.url) != of.host:
            return False
        if of.crawl is not None and crawl_of(captured) != of.crawl:
            return False
        if not of.with_aside and is_aside(captured):
            return False
        return captured.kind == "revisit" or self.takes_answer(captured)

    def takes_answer(self, captured: Captured) -> bool:
        """Whether what was answered is selected. A resource has no status, and a 304 means an answer that was good; of
        one that is lost nothing is known, so it is not left out silently."""
        answered = answered_by(captured)
        status = HTTPStatus.OK if answered.http_status in (None, HTTPStatus.NOT_MODIFIED) else answered.http_status
        if not any(first <= status <= last for first, last in self._statuses):
            return False
        is_lost = answered.kind == "revisit" and answered.original is None
        return EVERYTHING in self._types or is_lost or self._takes_type(answered)

    def takes(self, captured: Captured) -> bool:
        """Whether a capture is selected."""
        return self.may_take(captured) and (captured.kind != "revisit" or self.takes_answer(captured))

    def _takes_type(self, answered: Captured) -> bool:
        found = mime_type_of([value for name, value in answered.headers if name.lower() == "content-type"])
        if found is None:
            return not self._types.isdisjoint(HTML_TYPES) and _looks_like_page(answered)
        return found.essence in self._types or any(fnmatchcase(found.essence, pattern) for pattern in self._patterns)


def crawl_of(captured: Captured) -> str:
    """The name of the crawl that it was captured for."""
    return next((value for name, value in captured.metadata if name == "crawl"), DEFAULT_CRAWL)


def visit_of(captured: Captured) -> int | None:
    """Which visit of its URL it was of, as it says itself; none: it does not, as those of earlier versions."""
    said = next((value for name, value in captured.metadata if name == VISIT), "")
    return int(said) if said.isascii() and said.isdecimal() and len(said) <= _VISIT_DIGITS else None


def is_aside(captured: Captured) -> bool:
    """Whether it is of robots.txt or a sitemap: what has no record in a frontier."""
    return is_robots(captured) or is_sitemap(captured)


def is_robots(captured: Captured) -> bool:
    """Whether it was asked for as a robots.txt, or where one redirects to."""
    return _way_of(captured).endswith(_ROBOTS)


def is_sitemap(captured: Captured) -> bool:
    """Whether it was asked for as a sitemap, or where one redirects to."""
    return _way_of(captured).endswith(_SITEMAP)


def _way_of(captured: Captured) -> str:
    """The way to it from a seed, a letter each (Heritrix' hops), without redirects at its end."""
    return next((value for name, value in captured.metadata if name == "hopsFromSeed"), "").rstrip("R")


def _looks_like_page(captured: Captured) -> bool:
    """Whether the crawler would take it for one, or for XML, that may be one."""
    try:
        essence, _ = type_of_answer(captured.body(_SNIFFED_BYTES), ())
    except DecodeError:
        return False
    return essence in HTML_TYPES or is_xml(essence)


def _range_of(status: str) -> tuple[int, int]:
    if status == EVERYTHING:
        return 0, 999
    found = _STATUS.fullmatch(status)
    if found is None:
        raise ValueError(f"statuses: {shown(status)} is no HTTP status: write 200, 4xx, 500-599 or *")
    hundred, first, last = found.groups()
    if hundred:
        return int(hundred) * 100, int(hundred) * 100 + 99
    return int(first), int(last or first)
