"""Where a redirect leads: the answer's ``Location``. It is told, and not followed."""

from __future__ import annotations

from typing import Final

from sqspider.record import BLOCKING_REASONS, Reason
from sqspider.url import Refused, canonicalize
from sqspider.web.errors import Trouble

REDIRECT_STATUSES: Final = frozenset({301, 302, 303, 307, 308})  # RFC 9110 section 15.4


def target_of(http_status: int, headers: tuple[tuple[bytes, bytes], ...], url: str) -> str:
    """Where a redirect leads. Raises :class:`Trouble` where that is no URL that can be asked for."""
    location = next((value for name, value in headers if name.lower() == b"location"), None)
    if location is None or not location.strip():
        raise Trouble(Reason.BAD_REDIRECT, f"HTTP status {http_status} without a Location")
    target = canonicalize(_as_text(location), url)
    if isinstance(target, Refused):
        reason = target.reason if target.reason in BLOCKING_REASONS else Reason.BAD_REDIRECT
        raise Trouble(reason, f"redirected to {target.shown}: {target.explanation}")
    return target


def _as_text(location: bytes) -> str:
    """A Location as a URL: bytes outside ASCII are percent-encoded as they are."""
    return "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in location)
