"""Messages for records that have none: parked ones at their time, others once no message of theirs can be waiting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqspider.crawl_row import State
from sqspider.frontier.aws.aside import Aside
from sqspider.frontier.aws.attributes import Item, n, number, text
from sqspider.frontier.aws.batches import batches, together
from sqspider.frontier.aws.crawl_rows import CrawlRows
from sqspider.frontier.aws.items import PARKED_SHARDS, QUEUED_SHARDS, SWEEPER
from sqspider.frontier.aws.points import Points
from sqspider.frontier.aws.table import WRITE_BATCH

RELEASE_AHEAD_SECONDS: Final = 60.0  # parked records go out this early, delayed: they are on time
AGE_LAG_SECONDS: Final = 60.0  # figures of CloudWatch's are behind by so much
RESUMED_SECONDS: Final = 600.0  # after a crawl's row was written: so long what is put aside of it is looked for


class Sweep(Points, Aside, CrawlRows):
    """Sweeping, and who does it."""

    async def sweep(self, limit: int = 1000) -> int:
        now = self._clock()
        resumed = await self._unpark_resumed(now)
        parked, ordinary = await together([self._due_parked(now, limit), self._due_orphans(now, limit)])
        due = dict(sorted([*parked, *ordinary], key=lambda found: found[1])[:limit])
        items = await self._table.read(due)
        left = await self._left_of_removed(items)
        await together(self._table.delete_items(part) for part in batches(left, WRITE_BATCH))
        releases = [
            self._release(items[url], now, at=due_at)
            for url, due_at in due.items()
            # Else the index was behind.
            if url not in left and url in items and "due_at" in items[url] and number(items[url], "due_at") == due_at
        ]
        return resumed + await self._release_all(releases)

    async def _left_of_removed(self, items: Mapping[str, Item]) -> list[str]:
        """Those of some items that are records of crawls which were removed: who did not know that yet has recorded
        them after the removal had passed. Nobody works on them, and all would wait for them for ever."""
        refs = {key: crawl for key, item in items.items() if (crawl := text(item, "crawl")) is not None}
        rows = {row.crawl.name: row.crawl for row in await self._crawl_rows()} if refs else {}
        unknown = [
            key
            for key, crawl in refs.items()
            if (row := rows.get(crawl.partition(".")[0])) is None or (not row.unreadable and str(row.ref) != crawl)
        ]
        removing = set(map(str, await self.removals())) if unknown else set()  # it is not done: they are for that
        return [key for key in unknown if refs[key] not in removing]

    async def _unpark_resumed(self, now: float) -> int:
        """What was put aside by who did not know yet that its crawl runs again."""
        resumed = [
            row.crawl.ref
            for row in await self._crawl_rows()
            if row.crawl.state is State.RUNNING and not row.crawl.is_as_made and row.saved_at > now - RESUMED_SECONDS
        ]
        return sum([await self.unpark(ref) for ref in resumed])

    async def _due_parked(self, now: float, limit: int) -> list[tuple[str, float]]:
        return await self._due(PARKED_SHARDS, limit, before=now + RELEASE_AHEAD_SECONDS)

    async def _due_orphans(self, now: float, limit: int) -> list[tuple[str, float]]:
        """Records past their time whose message is lost: they are older than every message that waits."""
        before = now
        if any(await self._queue.live_messages()):
            age = await self._oldest_age(now)
            if age is None:
                return []
            # due_at is due_seconds after the record was queued.
            before = min(now, now - age - AGE_LAG_SECONDS + self._settings.due_seconds)
        return await self._due(QUEUED_SHARDS, limit, before=before)

    async def _due(self, shards: tuple[str, ...], limit: int, *, before: float) -> list[tuple[str, float]]:
        parts = await together(self._table.query(shard, limit, before=before) for shard in shards)
        return [found for part in parts for found in part]

    async def lease_sweep(self, *, until: float, by_schedule: bool = False) -> bool:
        now = self._clock()
        if not by_schedule:  # looking costs an eighth of trying in vain
            item = (await self._table.read([SWEEPER], projection=("lease_until",))).get(SWEEPER, {})
            if number(item, "lease_until") >= now:
                return False
        request: dict[str, Any] = {
            "UpdateExpression": "SET lease_until = :until",
            "ExpressionAttributeValues": {":until": n(until)},
        }
        if not by_schedule:
            request["ConditionExpression"] = "attribute_not_exists(lease_until) OR lease_until < :now"
            request["ExpressionAttributeValues"][":now"] = n(now)
        return await self._table.change("UpdateItem", SWEEPER, request)
