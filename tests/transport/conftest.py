"""Every test of the transport is run on asyncio's own loop and, where it is, on uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib.util import find_spec


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.SelectorEventLoop}
    if find_spec("uvloop"):
        import uvloop

        loops["uvloop"] = uvloop.new_event_loop
    return loops
