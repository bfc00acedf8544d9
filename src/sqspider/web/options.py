"""The limits of a fetch, and how we call ourselves. Apart from ``fetch``: no HTTP client is loaded."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from sqspider import __version__

PROJECT_URL: Final = "https://github.com/sqspider/sqspider"
DEFAULT_USER_AGENT: Final = f"sqspider/{__version__} (+{PROJECT_URL})"
_PRODUCT_TOKEN: Final = re.compile(r"[A-Za-z_-]+")
_COMPATIBLE: Final = re.compile(r"\s*Mozilla/[^(]*\(compatible; *([A-Za-z_-]+)")


class FetchOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of every fetch, and how we call ourselves."""

    timeout_seconds: float = 10.0  # the whole fetch, redirects included; waits between hops are not
    max_bytes: int = 10 * 1024 * 1024  # decoded bytes kept of a body; the rest is cut off and marked
    max_redirects: int = 10
    allow_private: bool = False  # connect to addresses that are not public, too
    allow_any_port: bool = False  # and to ports of other services
    user_agent: str = DEFAULT_USER_AGENT
    contact: str | None = None  # sent as From (RFC 9110 section 10.1.2)
    proxy: str | None = None  # the environment's proxies are always ignored

    @property
    def product_token(self) -> str:
        """What robots.txt groups and directives in pages are looked up by: see :func:`product_token_of`."""
        return product_token_of(self.user_agent)


def product_token_of(user_agent: str) -> str:
    """The product token of a user agent (RFC 9309 section 2.2.1): the letters, ``_`` and ``-`` that it
    begins with, or, where it calls itself compatible as browsers do, those that come after that word.

    ``*``, the token of all, where there are none.
    """
    match = _COMPATIBLE.match(user_agent) or _PRODUCT_TOKEN.match(user_agent.strip())
    return match[match.lastindex or 0] if match else "*"
