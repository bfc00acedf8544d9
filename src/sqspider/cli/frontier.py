"""The frontier that a command line names: what its address tells before it is opened, and opening it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import click

from sqspider.cli.shared import Shared
from sqspider.frontier import Frontier, FrontierSettings, open_frontier, sqlite_path


def is_absent(shared: Shared) -> bool:
    """Whether the frontier is a file that nobody has made."""
    from sqspider.frontier.sqlite import file

    path = sqlite_path(shared.frontier)
    return path is not None and file.is_absent(path)


@asynccontextmanager
async def opened(
    shared: Shared, visibility_seconds: float = 60.0, *, looking: bool = False, mending: bool = False
) -> AsyncIterator[Frontier]:
    """The frontier that the command line names, closed at the end.

    ``looking``, ``mending``: one that must be there already, so that a name that was mistyped makes no file.
    """
    if mending and is_absent(shared):
        looking = True  # which refuses it in words
    needed = FrontierSettings(visibility_seconds=visibility_seconds)
    try:
        frontier = await open_frontier(shared.frontier, needed, clock=time.time, looking=looking)
    except ValueError as error:
        raise click.UsageError(f"--{error}.") from None
    try:
        yield frontier
    finally:
        await frontier.close()
