"""The text of a head, as it goes over the wire: its status line, its fields, the target of a request."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

ENDS: Final = (b"\r\n", b"\n")  # the line that ends a head
_BLANKS: Final = " \t\r\n\v\f"  # of ASCII
_STATUS: Final = re.compile(rb"HTTP/[0-9.]+[ \t]+([0-9]{3})(?![0-9])", re.IGNORECASE)


def http_status_in(line: bytes) -> int | None:
    """The status that a status line says; none: it is no such line."""
    said = _STATUS.match(line)
    return int(said[1]) if said else None


def headers_in(head: Sequence[bytes]) -> tuple[tuple[str, str], ...]:
    """The fields of a whole head, decoded as Latin-1."""
    headers = []
    for line in head[1:-1]:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            headers.append((name.strip(_BLANKS), value.strip(_BLANKS)))
    return tuple(headers)


def target_of(url: str) -> str:
    """What a request line says of a URL (RFC 9112 section 3.2.1)."""
    rest = url.partition("://")[2]
    at = min((found for found in (rest.find("/"), rest.find("?")) if found >= 0), default=len(rest))
    return rest[at:] if rest[at : at + 1] == "/" else f"/{rest[at:]}"
