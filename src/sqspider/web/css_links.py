"""What a stylesheet refers to: ``url(...)`` and ``@import``, as written, in linear time."""

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
    r"|\"(?P<double>(?:[^\"\\\n]++|\\(?:[\s\S]|\Z)|)*+)(?:\"|\n|\Z)"
    r"|'(?P<single>(?:[^'\\\n]++|\\(?:[\s\S]|\Z)|)*+)(?:'|\n|\Z)",
    re.IGNORECASE,
)
_ESCAPE: Final = re.compile(r"\\(?:([0-9a-fA-F]{1,6})(?:\r\n|[\t\n\f\r ])?|(\r\n|[\n\f\r])|([\s\S]))")


def css_links(css: str) -> Iterator[str]:
    """The addresses in a stylesheet, or in a ``style`` attribute, in their order."""
    is_asked = False  # the string that follows is an address
    at, css = 0, css.replace("\0", "\ufffd")  # as the standard has it
    while found := _TOKEN.search(css, at):
        at = found.end()
        kind = found.lastgroup
        if kind == "bare":
            yield _unescaped(found["bare"])
        elif kind in ("double", "single"):
            if is_asked:
                yield _unescaped(found[kind])
        elif kind == "quoted":
            at = found.start("quoted")
        is_asked = kind in ("imported", "quoted")


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(_character, text) if "\\" in text else text


def _character(escape: re.Match[str]) -> str:
    if escape[1] is None:
        return escape[3] or ""
    code = int(escape[1], 16)
    return chr(code) if 0 < code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF else "\ufffd"
