"""What came of a body as it was sent: without its transfer coding, with its content coding. For an archive.

Nothing is decoded here, and nothing is asked: it looks on while somebody else takes the answer.
"""

from __future__ import annotations

import enum
import re
from typing import Final, NamedTuple

from sqspider.transport import Exchange, Failure, Receiver

_SECRET_LINE: Final = re.compile(rb"\n(authorization|cookie|proxy-authorization):", re.IGNORECASE)
_BODILESS: Final = (101, 204, 304)  # RFC 9112 section 6.3; behind a 101 comes another protocol


class Cut(enum.StrEnum):
    """Why a payload ends early, as WARC-Truncated says it (WARC 1.1 section 5.13)."""

    LENGTH = "length"  # more was not wanted
    TIME = "time"  # it took too long
    DISCONNECT = "disconnect"  # the server ended it
    UNSPECIFIED = "unspecified"  # all else: what came was against the rules, or we could not go on


_CUTS: Final = {
    Failure.TIMEOUT: Cut.TIME,
    Failure.SHORT_BODY: Cut.DISCONNECT,
    Failure.BROKEN: Cut.DISCONNECT,
    Failure.STREAM_RESET: Cut.DISCONNECT,
}


class Recorded(NamedTuple):
    """What an archive gets of an exchange beside its heads."""

    payload: bytes
    cut: Cut | None  # why it is not all; none: it is
    secret_lines: frozenset[str]  # names of the request's lines that are not to be shown


NOTHING: Final = Recorded(b"", None, frozenset())


class Recorder:
    """Hands an answer on to who takes it, and keeps of its body up to ``limit`` bytes."""

    def __init__(self, receiver: Receiver, limit: int) -> None:
        self._receiver = receiver
        self._room = limit
        self._pieces: list[bytes] = []
        self._is_over = False  # there was more than the limit

    def head(self, exchange: Exchange) -> bool:
        """As :meth:`sqspider.transport.Receiver.head`."""
        return self._receiver.head(exchange)

    def body(self, piece: bytes) -> int:
        """As :meth:`sqspider.transport.Receiver.body`."""
        size = len(piece)
        if size <= self._room:
            self._pieces.append(piece)
            self._room -= size
        else:
            self._is_over = True
            if self._room:
                self._pieces.append(piece[: self._room])
                self._room = 0
        return self._receiver.body(piece)

    def end(self, exchange: Exchange, body: bytes | None) -> Recorded:
        """All of it. ``body``: the payload where somebody has put it together already; the same object comes back."""
        payload = b"".join(self._pieces) if body is None else body
        cut = Cut.LENGTH if self._is_over and body is None else cut_of(exchange, len(payload))
        return Recorded(payload, cut, secret_lines_in(exchange.request_head))


def cut_of(exchange: Exchange, size: int) -> Cut | None:
    """Why a payload of this size, which an exchange brought, is not all that the server has to send."""
    if exchange.is_whole or exchange.http_status is None or exchange.http_status in _BODILESS:
        return None
    if exchange.failure is not None:
        return _CUTS.get(exchange.failure, Cut.UNSPECIFIED)
    return None if size == _announced_by(exchange) else Cut.LENGTH  # we went away: perhaps at its very end


def _announced_by(exchange: Exchange) -> int | None:
    """The length of the body, where the head says it (RFC 9110 section 8.6)."""
    if "transfer-encoding" in exchange.header_names:
        return None
    said = {value for name, value in exchange.headers if name.lower() == "content-length"}
    value = said.pop() if len(said) == 1 else ""
    return int(value) if value.isascii() and value.isdigit() else None


def secret_lines_in(request_head: bytes) -> frozenset[str]:
    """The names of the lines of a request that hold what is never shown, whatever they say; in small letters."""
    found = _SECRET_LINE.findall(request_head)
    return frozenset(name.decode().lower() for name in found) if found else NOTHING.secret_lines
