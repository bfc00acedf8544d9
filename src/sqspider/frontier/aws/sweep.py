"""Messages for records that have none: parked ones at their time, others once no message of theirs can be waiting."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec

from sqspider.frontier.answers import next_look, not_before
from sqspider.frontier.aws.attributes import Item, n, number, s
from sqspider.frontier.aws.batches import together
from sqspider.frontier.aws.items import PARKED_SHARDS, QUEUED_SHARDS, SWEEPER, entry_of, shard_of
from sqspider.frontier.aws.outgoing import Outgoing, delay_until, outgoing
from sqspider.frontier.aws.points import Points
from sqspider.frontier.aws.table import Statement
from sqspider.log import get_logger
from sqspider.url import host_of

RELEASE_AHEAD_SECONDS: Final = 60.0  # parked records go out this early, delayed: they are on time
AGE_LAG_SECONDS: Final = 60.0  # figures of CloudWatch's are behind by so much
MOVE_DUE_ON: Final = """
UPDATE "{table}" SET "due_at" = ? SET "due_shard" = ? REMOVE "parked_body"
WHERE "url" = ? AND "due_at" = ?
"""


log = get_logger(__name__)


class _Release(NamedTuple):
    """What becomes of a record that is due."""

    statement: Statement  # moves ``due_at`` on
    message: Outgoing | None  # none: it is being worked on, or cannot be read


class Sweep(Points):
    """Sweeping, and who does it."""

    async def sweep(self, limit: int = 1000) -> int:
        now = self._clock()
        parked, ordinary = await together([self._due_parked(now, limit), self._due_orphans(now, limit)])
        due = dict(sorted([*parked, *ordinary], key=lambda found: found[1])[:limit])
        items = await self._table.read(due)
        releases = [
            self._release(items[url], due_at, now)
            for url, due_at in due.items()
            # Else the index was behind.
            if url in items and "due_at" in items[url] and number(items[url], "due_at") == due_at
        ]
        # First the new due_at, then the message: who dies in between is found again later.
        written = await self._table.write([it.statement for it in releases])
        messages = [it.message for it, w in zip(releases, written, strict=True) if it.message is not None and w.is_done]
        await self._queue.send(messages)
        return len(messages)

    def _release(self, item: Item, due_at: float, now: float) -> _Release:
        url, held_until = item["url"]["S"], number(item, "lease_until")
        looked_at, message = now, None
        if held_until >= now:
            looked_at = held_until
        elif "parked_body" in item:
            looked_at = not_before(now, due_at)
            message = Outgoing(item["parked_body"]["S"], host_of(url), delay_until(due_at, now))
        else:
            message = _message_of(item)
        next_due = next_look(looked_at, self._settings.due_seconds)
        parameters = [n(next_due), s(shard_of(url, is_parked=False)), s(url), n(due_at)]
        return _Release(self._table.statement(MOVE_DUE_ON, url, parameters), message)

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


def _message_of(item: Item) -> Outgoing | None:
    """The message of a record that has lost it; none if the record is damaged, or a later version's."""
    try:
        return outgoing(entry_of(item).to_message())
    except (msgspec.MsgspecError, KeyError, ValueError) as error:
        log.warning("record_unreadable", url=item["url"]["S"], why=str(error))
        return None
