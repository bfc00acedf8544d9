"""A frontier for work that blocks: reading and writing files takes all of the time, and now and then it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager

from sqspider.cli.frontier import is_absent, opened
from sqspider.cli.shared import Shared
from sqspider.cli.wording import dollars
from sqspider.frontier import IN_MEMORY, Frontier, sqlite_path
from sqspider.frontier.places import Moves
from sqspider.record import UrlRecord


class BlockingFrontier:
    """Its event loop runs while it is asked, and stands still else."""

    def __init__(self, runner: asyncio.Runner, frontier: Frontier) -> None:
        self._runner = runner
        self._frontier = frontier

    def tell(self, moves: Moves) -> int:
        """See :meth:`sqspider.frontier.Upkeep.move_places`."""
        return self._runner.run(self._frontier.move_places(moves))

    def records(self) -> Iterator[list[UrlRecord]]:
        """All records, in batches."""
        batches = self._frontier.scan()

        async def following() -> list[UrlRecord] | None:
            return await anext(batches, None)

        while (batch := self._runner.run(following())) is not None:
            yield batch

    def telling_cost(self) -> str | None:
        """What it costs to tell it where captures lie, where that costs anything."""
        scan_dollars = self._frontier.traits.scan_dollars
        if not scan_dollars:
            return None
        records = self._runner.run(self._frontier.counts(roughly=True)).total
        cost = dollars(2 * scan_dollars * records)  # read consistently
        return f"Reading all {records:,} records, to tell them where captures lie now, costs about {cost}."

    def is_under_way(self) -> bool:
        """Whether somebody may remember what it learned before: who crawls, and (AWS) what Lambda keeps between two
        invocations."""
        return bool(self._frontier.traits.scan_dollars) or self.has_workers()

    def has_workers(self) -> bool:
        """Whether somebody crawls now."""
        return bool(self._runner.run(self._frontier.workers()))


@contextmanager
def blocking(shared: Shared, *, looking: bool = False) -> Iterator[BlockingFrontier | None]:
    """The frontier that the command line names; none where there is none: an archive can be somebody else's."""
    if sqlite_path(shared.frontier) == IN_MEMORY or is_absent(shared):
        yield None
        return
    with asyncio.Runner() as runner:
        stack = AsyncExitStack()
        frontier = runner.run(stack.enter_async_context(opened(shared, looking=looking)))
        try:
            yield BlockingFrontier(runner, frontier)
        finally:
            runner.run(stack.aclose())
