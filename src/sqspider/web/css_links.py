"""What a stylesheet refers to: ``url(...)``, ``@import``, and the strings of ``image-set(...)``, in linear time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

# CSS Syntax, section 4.3: comments, strings and addresses, each of which hides what is in the others. What begins and
# does not end takes the rest along. (An empty last alternative: see ``web/tags.py``.)
_TOKEN: Final = re.compile(
    r"/\*[\s\S]*?(?:\*/|\Z)"
    r"|@import[\t\n\f\r ]*+(?=(?P<imported>[\"']))"
    r"|(?<![\w-])url\([\t\n\f\r ]*+(?:(?P<quoted>[\"'])"
    r"|(?P<bare>(?:[^\t\n\f\r \"'()\\]++|\\(?:[0-9a-fA-F]{1,6}[\t\n\f\r ]?|[\s\S])|)*+)[\t\n\f\r ]*+\))"
    r"|(?<![\w-])(?P<set>(?:-webkit-)?image-set\()"
    r"|\"(?P<double>(?:[^\"\\\n]++|\\(?:[\s\S]|\Z)|)*+)(?:\"|\n|\Z)"
    r"|'(?P<single>(?:[^'\\\n]++|\\(?:[\s\S]|\Z)|)*+)(?:'|\n|\Z)",
    re.IGNORECASE,
)
_IN_SET: Final = re.compile(rf"{_TOKEN.pattern}|(?P<parenthesis>[()])", re.IGNORECASE)
_ESCAPE: Final = re.compile(r"\\(?:([0-9a-fA-F]{1,6})(?:\r\n|[\t\n\f\r ])?|(\r\n|[\n\f\r])|([\s\S]))")


def css_links(css: str) -> Iterator[str]:
    """The addresses in a stylesheet, or in a ``style`` attribute, in their order."""
    css = css.replace("\0", "\ufffd")  # as the standard has it
    for start, end in css_references(css):
        yield unescaped(css[start:end])


def css_references(css: str) -> Iterator[tuple[int, int]]:
    """Where they lie, as they are written; of a string without its quotes."""
    is_asked = False  # the string that follows is an address
    at = depth = 0  # of parentheses, in an image-set: right within it a string is one; in its type(...) none
    while found := (_IN_SET if depth else _TOKEN).search(css, at):
        at, kind = found.end(), found.lastgroup
        if kind == "bare":
            yield found.span(kind)
        elif kind in ("double", "single"):
            if is_asked or depth == 1:
                yield found.span(kind)
        elif kind == "quoted":
            at = found.start(kind)
            depth += depth > 0
        elif kind == "set":
            depth += 1
        elif kind == "parenthesis":
            depth += 1 if found[kind] == "(" else -1
        is_asked = kind in ("imported", "quoted")


def unescaped(text: str) -> str:
    """An address as it is meant, of how it is written."""
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def _character(escape: re.Match[str]) -> str:
    if escape[1] is None:
        return escape[3] or ""
    code = int(escape[1], 16)
    return chr(code) if 0 < code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else "\ufffd"
