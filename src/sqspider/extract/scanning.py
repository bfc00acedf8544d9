"""Where a sign stands in a selector or an expression: outside quotes and brackets."""

from __future__ import annotations

from collections.abc import Iterator


def places_outside(text: str, sign: str) -> Iterator[int]:
    """The places of a sign that is neither quoted, nor in brackets, nor behind a backslash."""
    depth, quote, is_escaped = 0, "", False
    for at, char in enumerate(text):
        if is_escaped or char == "\\":
            is_escaped = not is_escaped
        elif quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == sign and depth <= 0:
            yield at


def pieces_outside(text: str, sign: str) -> list[str]:
    """A text, cut at these places."""
    pieces, start = [], 0
    for at in places_outside(text, sign):
        pieces.append(text[start:at])
        start = at + 1
    return [*pieces, text[start:]]
