"""What of a capture is kept: as its crawl says. No I/O lives here."""

from __future__ import annotations

from typing import Final

from sqspider.capture import Capture, Hop
from sqspider.web.fetch import Cut

NOTHING: Final = ("none",)  # of a crawl's settings: not even what led to its pages


def is_kept(capture: Capture) -> bool:
    """Whether its crawl wants it kept. What leads to pages, or away, always is: robots.txt, sitemaps, redirects and
    errors; and that a page has not changed."""
    keep = capture.settings.keep
    if not capture.was_answered or keep == NOTHING:
        return False
    is_page = 200 <= (capture.fetched.http_status or 0) < 300 and capture.hop not in (Hop.ROBOTS, Hop.SITEMAP)
    return not keep or not is_page or _is_of(media_type_of(capture), keep)


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


def _is_of(media_type: str, keep: tuple[str, ...]) -> bool:
    kind = media_type.partition("/")[0]
    return any(wanted in (media_type, f"{kind}/*", "*/*") for wanted in map(str.lower, keep))
