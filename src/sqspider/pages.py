"""What a crawl hands out in Python: a page for each URL that has its end, and the links on it.

What costs something and not everybody asks for (a page's text, the words of a link) is read when it is asked for.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

import msgspec

from sqspider.meta import MetaError, decode_meta
from sqspider.record import CapturePlace, Reason, Status
from sqspider.web.anchors import Anchor, anchors_of
from sqspider.web.charset import text_of_answer
from sqspider.web.head import header_of
from sqspider.work.holding import Held


class _Written:
    """What is written at the links of one page: read once, when the first of them is asked."""

    def __init__(self, body: bytes, url: str, headers: tuple[tuple[str, str], ...], *, drop_tracking: bool) -> None:
        self._body, self._url, self._headers = body, url, headers
        self._drop_tracking = drop_tracking

    @cached_property
    def anchors(self) -> dict[str, Anchor]:
        return anchors_of(self._body, self._url, self._headers, drop_tracking=self._drop_tracking)


class Link(str):
    """A link of a page: its canonical URL, a text like any other, that also knows what is written there."""

    __slots__ = ("_written",)
    _written: _Written

    @property
    def url(self) -> str:
        """The same, as a plain text."""
        return str(self)

    @property
    def text(self) -> str:
        """The words of the first link to there, white space collapsed; empty if it has none, as an image's."""
        return self._anchor.text

    @property
    def rel(self) -> tuple[str, ...]:
        """The words of its ``rel``, in lower case, such as ``nofollow``."""
        return self._anchor.rel

    @property
    def _anchor(self) -> Anchor:
        return self._written.anchors.get(self, Anchor())

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (str(self),)  # elsewhere it is its URL alone


class Page(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A URL that has its end, and what was there. One that redirects is none; where it leads is.

    Of what got no answer ``http_status`` is none and ``body`` empty; ``reason`` and ``detail`` say why.
    """

    url: str  # canonical
    status: Status  # done, failed or blocked
    reason: Reason | None  # why it failed or was blocked
    http_status: int | None  # none without an answer
    headers: tuple[tuple[str, str], ...]  # as they were sent, in order
    body: bytes  # decoded, at most ``max_bytes``
    is_truncated: bool  # the body was longer
    title: str | None
    links: tuple[Link, ...]  # canonical outlinks, in or out of the crawl's scope
    depth: int  # links from the seed
    parent: str | None  # the page it was found on, or the URL that redirected to it
    redirects: int  # on the way from that page or seed to it
    elapsed_seconds: float
    detail: str  # one line for a person: which line of robots.txt, what error
    meta: dict[str, Any]  # what was said of it when it was added, by a list's other fields or :meth:`Crawl.add`
    capture: CapturePlace | None = None  # where it lies in the archive: durable before it is handed out; none: nowhere

    def header(self, name: str) -> str | None:
        """The first header of this name, in any case."""
        return header_of(self.headers, name)

    @cached_property
    def text(self) -> str:
        """The body as text, in the encoding that a browser would take. What does not decode is U+FFFD."""
        return text_of_answer(self.body, self.headers)


def page_of(held: Held) -> Page:
    """The page of what has its end."""
    message, outcome, visited = held.message, held.end.outcome, held.end.visited
    fetched = visited.fetched if visited else None
    found = visited.page.links if visited and visited.page else ()
    body, headers = (fetched.body, fetched.headers) if fetched else (b"", ())
    return Page(
        url=message.url,
        status=outcome.status,
        reason=outcome.reason,
        http_status=outcome.http_status,
        headers=headers,
        body=body,
        is_truncated=outcome.truncated,
        title=outcome.title,
        links=_links(found, _Written(body, message.url, headers, drop_tracking=message.settings.drop_tracking)),
        depth=message.depth,
        parent=message.parent,
        redirects=message.redirects,
        elapsed_seconds=fetched.elapsed_seconds if fetched else 0.0,
        detail=outcome.detail,
        capture=outcome.capture,
        meta=_meta(held.meta),
    )


def _meta(text: str | None) -> dict[str, Any]:
    """What a record says of its URL. What somebody damaged is told by ``export``, and ends no crawl."""
    try:
        return decode_meta(text) if text is not None else {}
    except MetaError:
        return {}


def _links(urls: tuple[str, ...], written: _Written) -> tuple[Link, ...]:
    links = tuple(map(Link, urls))
    for link in links:
        link._written = written
    return links
