"""Many calls at once: a list in parts of the size that AWS takes, and parts that are awaited together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import Final, TypeVar

ENQUEUE_BATCH: Final = 500  # URLs under way at a time: one takes some 4 KB of memory

T = TypeVar("T")


def batches(values: Sequence[T], size: int) -> list[list[T]]:
    """A list in parts of so many values, the last one of those that are left."""
    return [list(values[i : i + size]) for i in range(0, len(values), size)]


async def together(calls: Iterable[Awaitable[T]]) -> list[T]:
    """Await all at once; the first failure cancels the others and is raised."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
