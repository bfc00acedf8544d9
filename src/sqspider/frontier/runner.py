"""Who runs the steps of an adapter that does its work in this process: the event loop, say, or a simulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Runner(Protocol):
    """Runs steps, each whole and one after the other; what it awaits before and after is between it and its caller."""

    async def run(self, work: Callable[[], T], end: Callable[[], None] | None = None) -> T:
        """What the step gives, once its ``end`` is done, which may wait for the disk. Raises what they raise."""

    def close(self) -> None:
        """There is no more to come."""
