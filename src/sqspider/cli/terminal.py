"""Standard output and standard error that take every text, whatever their encoding."""

from __future__ import annotations

import codecs
import os
import sys
from typing import Final, TextIO

ESCAPED: Final = "sqspider.escaped"


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """What an encoding has no byte for, written as JSON writes it (RFC 8259, section 7): JSON stays JSON."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2)), error.end


codecs.register_error(ESCAPED, _escaped)


def take_every_text() -> None:
    """Let no title and no sign of ours break a command: neither on a terminal of few signs, nor without any."""
    sys.stdout = _taking(sys.stdout)
    sys.stderr = _taking(sys.stderr)


def _taking(stream: TextIO | None) -> TextIO:
    if stream is None:  # it was closed by who started us
        return open(os.devnull, "w", encoding="utf-8")
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors=ESCAPED)
    return stream
