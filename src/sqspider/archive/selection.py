"""What of a capture is kept: as its crawl says. No I/O lives here."""

from __future__ import annotations

from sqspider.capture import Capture, Hop
from sqspider.crawl_settings import KEEPS_NOTHING
from sqspider.web.fetch import Cut


def is_kept(capture: Capture) -> bool:
    """Whether its crawl wants it kept. What leads to pages, or away, always is: robots.txt, sitemaps, redirects and
    errors; and that a page has not changed."""
    settings = capture.settings
    if not capture.was_answered or settings.keep == KEEPS_NOTHING:
        return False
    is_page = 200 <= (capture.fetched.http_status or 0) < 300 and capture.hop not in (Hop.ROBOTS, Hop.SITEMAP)
    return not is_page or settings.keeps(media_type_of(capture))


def payload_of(capture: Capture) -> tuple[bytes, Cut | None]:
    """As much of its payload as is kept, and why that is not all that the server has."""
    fetched = capture.fetched
    most = capture.settings.keep_bytes
    if most is not None and len(fetched.payload) > most and capture.hop is not Hop.ROBOTS:
        return fetched.payload[:most], Cut.LENGTH
    return fetched.payload, fetched.cut


def media_type_of(capture: Capture) -> str:
    """What the answer says, in small letters and without parameters; nothing, where it says none."""
    said = capture.fetched.header("content-type") or ""
    return said.partition(";")[0].strip().lower()
