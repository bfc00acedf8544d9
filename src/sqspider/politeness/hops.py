"""The way to a robots.txt or a sitemap, where redirects lead there. (What follows from a page's is in ``work``.)"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from sqspider.record import Reason
from sqspider.web.fetch import Fetched

MAX_HOPS: Final = 5  # redirects that are followed (RFC 9309 section 2.3.1.2)


class Hop(NamedTuple):
    """How far the way has come."""

    url: str  # the next one to ask for
    redirects: int = 0  # so far
    via: str | None = None  # the last one that led on

    def after(self, fetched: Fetched) -> Hop | Fetched:
        """The next hop, or what the way has led to."""
        if fetched.redirect_to is None:
            return fetched
        if self.redirects < MAX_HOPS:
            return Hop(fetched.redirect_to, self.redirects + 1, fetched.url)
        detail = f"more than {MAX_HOPS} redirects"
        return msgspec.structs.replace(fetched, reason=Reason.TOO_MANY_REDIRECTS, detail=detail, redirect_to=None)
