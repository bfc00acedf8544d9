"""Makes captures of what was asked and answered for pages and sitemaps: how a URL was come to, and what it is like.

Those of robots.txt are made where it is asked for, in ``politeness``. How a capture is kept is in ``archive``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sqspider.capture import VISIT, Capture, Hop, is_captured
from sqspider.crawl_settings import CrawlSettings
from sqspider.message import Message
from sqspider.politeness import Asked
from sqspider.record import CapturePlace, Kept
from sqspider.web.links import PageLinks

if TYPE_CHECKING:
    from sqspider.work.hand import Visit


def capture_of(
    visit: Visit, asked: Asked, message: Message | None = None, page: PageLinks | None = None
) -> Capture | None:
    """What is to be kept of an answer to a visit's request; none: there was none, its body was not wanted, or its
    fetcher does not capture.

    ``message``: the visit's, with the settings of its crawl as they are by now. ``page``: what was read in it, if it is
    a page.
    """
    if visit.is_check or asked.fetched.is_unread or not is_captured(asked.fetched):
        return None
    message = visit.message if message is None else message
    return Capture(
        url=message.url,
        fetched=asked.fetched,
        at=asked.requested_at,
        hop=hop_to(message),
        via=message.parent,
        depth=0 if message.is_requisite else message.depth,  # of its page, nobody kept
        crawl=message.crawl_name,
        settings=message.settings,
        before=place_before(visit.claim.kept if visit.claim is not None else None),
        facts=tuple(_facts(visit, page)),
    )


def _facts(visit: Visit, page: PageLinks | None) -> Iterator[tuple[str, str]]:
    """What has no other place in an archive: which visit it was, for its record will tell of later ones alone."""
    if visit.claim is not None:
        yield VISIT, str(visit.claim.visit)
    if page is not None:
        yield "charsetForLinkExtraction", page.encoding


def hop_to(message: Message) -> Hop:
    """How the URL of a message was come to. What a sitemap lists is taken for a link of it."""
    if message.is_requisite:
        return Hop.REQUISITE
    if message.redirects > 0:
        return Hop.REDIRECT
    return Hop.SEED if message.is_seed else Hop.LINK


def place_before(kept: Kept | None) -> CapturePlace | None:
    """Where the payload of the last good visit lies: of one that was a revisit itself, that which it refers to."""
    good = None if kept is None else kept.good
    if good is None or good.capture is None:
        return None
    if good.unchanged and good.capture.payload is None:  # its answer lies there, which had no payload
        return None
    return good.capture.payload or good.capture


def can_refer(before: Kept | None, settings: CrawlSettings, has: Callable[[CapturePlace], bool]) -> bool:
    """Whether a page that is to be kept may be asked only whether it has changed: the last good one is there to be
    referred to, or is none that its crawl wants by now. ``has``: whether a place is there still."""
    if before is None or before.good is None:
        return True
    place = place_before(before)
    return (place is not None and has(place)) or not settings.keeps(before.good.content_type or "")


def capture_of_sitemap(asked: Asked, message: Message) -> Capture | None:
    """The same of an answer on the way to a sitemap. ``message``: of its URL, with the one that led there."""
    if not is_captured(asked.fetched):
        return None
    return Capture(
        url=message.url,
        fetched=asked.fetched,
        at=asked.requested_at,
        hop=Hop.SITEMAP,
        via=message.parent,
        redirects=message.redirects,
        crawl=message.crawl_name,
        settings=message.settings,
    )
