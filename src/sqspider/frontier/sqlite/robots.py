"""What is known of each origin's robots.txt, and who may fetch it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.rows import packed_robots, robots_row
from sqspider.frontier.values import RobotsRow

ROBOTS: Final = "SELECT origin, row FROM robots WHERE row IS NOT NULL AND origin IN (SELECT value FROM json_each(?))"
LEASE_ROBOTS: Final = """
INSERT INTO robots (origin, lease_until) VALUES (:origin, :until)
ON CONFLICT (origin) DO UPDATE SET lease_until = :until WHERE lease_until < :now
"""
SAVE_ROBOTS: Final = """
INSERT INTO robots (origin, row) VALUES (?, ?) ON CONFLICT (origin) DO UPDATE SET row = excluded.row, lease_until = 0
"""


class Robots(Part):
    """Rows of robots.txt."""

    async def robots(self, origins: Sequence[str]) -> dict[str, RobotsRow]:
        rows = await self._file.rows(ROBOTS, (json.dumps(origins),))
        known = {origin: robots_row(packed) for origin, packed in rows}
        return {origin: row for origin, row in known.items() if row is not None}

    async def lease_robots(self, origins: Sequence[str], *, until: float) -> list[bool]:
        def work(transaction: Transaction) -> list[bool]:
            connection, moments = transaction.connection, {"until": until, "now": transaction.now}
            leases = [connection.execute(LEASE_ROBOTS, {"origin": origin, **moments}) for origin in origins]
            return [lease.rowcount == 1 for lease in leases]

        return await self._file.write(work)

    async def save_robots(self, rows: Sequence[RobotsRow]) -> None:
        packed = [(row.origin, packed_robots(row)) for row in rows]
        await self._file.write(lambda transaction: transaction.change_each(SAVE_ROBOTS, packed))
