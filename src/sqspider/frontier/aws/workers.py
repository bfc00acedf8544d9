"""Which workers live: each has an item of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from sqspider.frontier.aws.attributes import n, number, s, text
from sqspider.frontier.aws.items import WORKER_SHARD, key_of
from sqspider.frontier.aws.part import Part, Shared
from sqspider.frontier.values import NONE_BARRED, WorkerRow

KIND: Final = "worker"  # of the items' keys


class Workers(Part):
    """The workers that checked in."""

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._started: dict[tuple[str, str], float] = {}  # those that checked in here, by id and session

    async def check_in(
        self, worker_id: str, *, session: str, ttl_seconds: float, barred: Mapping[str, str] = NONE_BARRED
    ) -> bool:
        now = self._clock()
        started_at = self._started.setdefault((worker_id, session), now)
        return await self._table.change(
            "UpdateItem",
            key_of(KIND, worker_id),
            {
                "UpdateExpression": (
                    "SET #session = :session, started_at = :started, seen_at = :now, expires_at = :expires, "
                    "due_shard = :shard, due_at = :zero, barred = :barred"
                ),
                "ConditionExpression": ("attribute_not_exists(#session) OR #session = :session OR expires_at < :now"),
                "ExpressionAttributeNames": {"#session": "session"},
                "ExpressionAttributeValues": {
                    ":session": s(session),
                    ":started": n(started_at),
                    ":now": n(now),
                    ":expires": n(now + ttl_seconds),
                    ":shard": s(WORKER_SHARD),
                    ":zero": n(0),
                    ":barred": s(msgspec.json.encode(dict(barred)).decode()),
                },
            },
        )

    async def check_out(self, worker_id: str, *, session: str) -> None:
        self._started.pop((worker_id, session), None)
        await self._table.change(
            "DeleteItem",
            key_of(KIND, worker_id),
            {
                "ConditionExpression": "#session = :session",
                "ExpressionAttributeNames": {"#session": "session"},
                "ExpressionAttributeValues": {":session": s(session)},
            },
        )

    async def workers(self) -> list[WorkerRow]:
        now = self._clock()
        keys = [key for key, _ in await self._table.query(WORKER_SHARD, 2**53)]
        return sorted(
            (
                WorkerRow(
                    worker_id=key.removeprefix(f"{KIND} "),
                    started_at=number(item, "started_at"),
                    seen_at=number(item, "seen_at"),
                    barred=msgspec.json.decode(text(item, "barred") or "{}", type=dict[str, str]),
                )
                for key, item in (await self._table.read(keys)).items()
                if number(item, "expires_at") >= now
            ),
            key=lambda row: row.worker_id,
        )
