"""Where a redirect leads: the answer's ``Location``. It is told, and not followed."""

from __future__ import annotations

import string
from typing import Final

from sqspider.record import BLOCKING_REASONS, Reason
from sqspider.transport import Exchange
from sqspider.url import Refused, canonicalize
from sqspider.web.errors import Trouble
from sqspider.web.head import header_of

REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})  # RFC 9110 section 15.4


def target_of(exchange: Exchange, url: str) -> str:
    """Where a redirect leads. Raises :class:`Trouble` where that is no URL that can be asked for."""
    location = header_of(exchange.headers, "location")
    if location is None or not location.strip(string.whitespace):
        raise Trouble(Reason.BAD_REDIRECT, f"HTTP status {exchange.http_status} without a Location")
    target = canonicalize(as_ascii(location), url)
    if isinstance(target, Refused):
        reason = target.reason if target.reason in BLOCKING_REASONS else Reason.BAD_REDIRECT
        raise Trouble(reason, f"redirected to {target.shown}: {target.explanation}")
    return target


def as_ascii(location: str) -> str:
    """A Location as a URL: bytes outside ASCII, as Latin-1 shows them, are percent-encoded as they are."""
    return "".join(char if char.isascii() else f"%{ord(char):02X}" for char in location)
