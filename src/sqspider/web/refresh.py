"""What sends a reader on to another page by itself: ``Refresh``, as a header or in a ``meta``."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

IMMEDIATE_SECONDS: Final = 10
"""A page that stands no longer than this before it leads on was not meant to be read."""


class Refresh(NamedTuple):
    """One of them."""

    seconds: int  # before it leads on
    target: str  # as written; empty: the page itself

    @property
    def is_immediate(self) -> bool:
        return self.seconds <= IMMEDIATE_SECONDS


_REFRESH: Final = re.compile(
    r"[\t\n\f\r ]*+(?:([0-9]++)[0-9.]*+|\.[0-9.]*+)(?:\Z|(?:[\t\n\f\r ]*+[;,]|[\t\n\f\r ])[\t\n\f\r ]*+(.*))",
    re.DOTALL,
)
_TARGET: Final = re.compile(r"(?:url[\t\n\f\r ]*=[\t\n\f\r ]*)?(?:\"([^\"]*)|'([^']*)|(.*))", re.DOTALL | re.IGNORECASE)


def parse_refresh(value: str) -> Refresh | None:
    """What a header, or the content of a ``meta``, says; ``None`` if it says nothing.

    HTML standard, section 4.2.5.3, "shared declarative refresh steps": of the time whole seconds count.
    """
    refresh = _REFRESH.fullmatch(value)
    if refresh is None:
        return None
    target = _TARGET.match(refresh[2] or "")
    assert target is not None  # its last alternative takes anything
    written = next(group for group in target.groups() if group is not None)
    digits = (refresh[1] or "0").lstrip("0")
    return Refresh(int(digits[:10] or 0), written.strip("\t\n\f\r "))
