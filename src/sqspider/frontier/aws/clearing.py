"""How queue and table are cleared."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqspider.frontier.aws.batches import batches, together
from sqspider.frontier.aws.errors import AwsError
from sqspider.frontier.aws.items import GENERATION, is_record
from sqspider.frontier.aws.part import Part
from sqspider.frontier.aws.queue import Queue
from sqspider.frontier.aws.table import WRITE_BATCH
from sqspider.frontier.aws.traits import TRAITS
from sqspider.frontier.values import PurgedLatelyError

KEPT: Final = ("worker ", GENERATION)  # beginnings of keys that stay when the table is cleared
SEGMENTS: Final = 4  # of the table, which are read at once


class Clearing(Part):
    """Removes every message, and every record."""

    async def purge_queue(self) -> int:
        removed = await _purge(self._queue)
        if self._rules.redrive is not None:
            removed += await _purge(self._rules.redrive.dead_letters)
        return removed

    async def clear_table(self, on_removed: Callable[[int], None] = lambda _: None) -> int:
        self._doubts.forget()
        self._sums.forget()
        self._host_rows.forget()
        self._holds.clear()
        await self._host_rows.raise_generation()  # first, in case it is left half-way
        removed = 0

        async def clear(segment: int) -> None:
            nonlocal removed
            pages = self._table.scan(
                Segment=segment,
                TotalSegments=SEGMENTS,
                ProjectionExpression="#url",
                ExpressionAttributeNames={"#url": "url"},
            )
            async for items in pages:
                keys = [key for item in items if not (key := item["url"]["S"]).startswith(KEPT)]
                await together(self._table.delete_items(part) for part in batches(keys, WRITE_BATCH))
                removed += sum(map(is_record, keys))
                on_removed(removed)

        await together(clear(segment) for segment in range(SEGMENTS))
        await self._host_rows.raise_generation()  # and last: what was remembered meanwhile may be gone
        return removed


async def _purge(queue: Queue) -> int:
    """Remove all messages of a queue; how many there were."""
    removed = sum(await queue.live_messages())
    try:
        await queue.purge()
    except AwsError as error:
        if error.code == "PurgeQueueInProgress":
            raise PurgedLatelyError(
                f"{queue.name} was purged less than {TRAITS.purge_seconds:.0f} s ago; AWS allows it once in that time"
            ) from error
        raise
    return removed
