"""How many files and connections this process may have open. Windows has no such limit."""

from __future__ import annotations

import contextlib
import sys
from typing import Final

SPARE: Final = 16  # kept for the frontier, name look-ups and what the interpreter opens: no connection takes them
OWN: Final = 32  # that are open or spare before the first connection


def limit() -> int | None:
    """The most descriptors that may be open; none: there is no limit."""
    if sys.platform == "win32":
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft


def raise_limit() -> None:
    """Take as many as the system lets us: a shell's usual limit is for programs of another kind."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # macOS says no limit and takes less
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def room_for_connections() -> int | None:
    """How many requests may be under way, if each has an idle connection beside it; none: any number."""
    most = limit()
    return None if most is None else max(1, (most - OWN) // 2)
