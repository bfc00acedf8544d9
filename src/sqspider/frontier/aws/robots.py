"""What is known of the robots.txt of origins, and who may fetch one."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Sequence
from typing import Final

import msgspec

from sqspider.frontier.aws.attributes import Item, n, s
from sqspider.frontier.aws.batches import together
from sqspider.frontier.aws.items import key_of
from sqspider.frontier.aws.part import Part
from sqspider.frontier.aws.table import mark_by
from sqspider.frontier.values import RobotsRow
from sqspider.host import whole_lines

MAX_ROBOTS_BYTES: Final = 380_000  # compressed; an item has 400 KB

_decoder = msgspec.msgpack.Decoder(RobotsRow)


class Robots(Part):
    """The rows of robots.txt: a part of :class:`~sqspider.frontier.Hosts`."""

    async def robots(self, origins: Sequence[str]) -> dict[str, RobotsRow]:
        items = await self._table.read(_key_of(origin) for origin in origins)
        rows = {}
        for origin in origins:
            row = _row_of(items.get(_key_of(origin), {}))
            if row is not None:
                rows[origin] = row
        return rows

    async def lease_robots(self, origins: Sequence[str], *, until: float) -> list[bool]:
        return await together(self._lease_robots(origin, until) for origin in origins)

    async def _lease_robots(self, origin: str, until: float) -> bool:
        token = mark_by(self._rng)
        return await self._table.change(
            "UpdateItem",
            _key_of(origin),
            {
                "UpdateExpression": "SET lease_until = :until, lease_id = :id",
                "ConditionExpression": "attribute_not_exists(lease_until) OR lease_until < :now OR lease_id = :id",
                "ExpressionAttributeValues": {":until": n(until), ":now": n(self._clock()), ":id": s(token)},
            },
        )

    async def save_robots(self, rows: Sequence[RobotsRow]) -> None:
        await together(self._save_robots(row) for row in rows)

    async def _save_robots(self, row: RobotsRow) -> None:
        packed = zlib.compress(msgspec.msgpack.encode(row), 6)
        while len(packed) > MAX_ROBOTS_BYTES:  # no rules in words are so long when compressed
            row = msgspec.structs.replace(row, body=whole_lines(row.body, len(row.body) * 3 // 4))
            packed = zlib.compress(msgspec.msgpack.encode(row), 6)
        await self._table.change(
            "UpdateItem",
            _key_of(row.origin),
            {
                "UpdateExpression": "SET #row = :row, lease_until = :zero",
                "ExpressionAttributeNames": {"#row": "row"},
                "ExpressionAttributeValues": {
                    ":row": {"B": base64.b64encode(packed).decode()},
                    ":zero": n(0),
                },
            },
        )


def _row_of(item: Item) -> RobotsRow | None:
    """What is known of a robots.txt; none if nothing is, or it is damaged or a later version's: to be asked anew."""
    try:
        return _decoder.decode(zlib.decompress(base64.b64decode(item["row"]["B"])))
    except (KeyError, ValueError, zlib.error, msgspec.MsgspecError):
        return None


def _key_of(origin: str) -> str:
    return key_of("robots", origin)
