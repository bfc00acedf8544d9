"""What keeps a frontier going: workers that say they live, samples of what they do, dead letters that begin anew."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from sqspider.figures import KEPT_SECONDS, Sample
from sqspider.frontier.sqlite.clock import keep_time
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.looking import queue_stats
from sqspider.frontier.values import NONE_BARRED

CHECK_IN: Final = """
INSERT INTO worker (worker_id, session, started_at, seen_at, expires_at, barred)
VALUES (:id, :session, :now, :now, :expires, :barred)
ON CONFLICT (worker_id) DO UPDATE SET
    session = excluded.session, seen_at = excluded.seen_at, expires_at = excluded.expires_at, barred = excluded.barred,
    started_at = CASE WHEN session = excluded.session THEN started_at ELSE excluded.started_at END
WHERE session = excluded.session OR expires_at < :now
"""
CHECK_OUT: Final = "DELETE FROM worker WHERE worker_id = ? AND session = ?"
ADD_SAMPLE: Final = "INSERT INTO sample (at, sample, visible, in_flight, oldest_age) VALUES (?, ?, ?, ?, ?)"
END_OLD_SAMPLES: Final = "DELETE FROM sample INDEXED BY sample_at WHERE at < ?"
REDRIVE: Final = """
UPDATE sent NOT INDEXED SET receives = 0, queue = 0, visible_at = :now
WHERE id IN (SELECT id FROM sent INDEXED BY sent_dead WHERE visible_at IS NULL ORDER BY id LIMIT :limit)
"""


class Upkeep(Part):
    """What workers and operators do now and then."""

    async def check_in(
        self, worker_id: str, *, session: str, ttl_seconds: float, barred: Mapping[str, str] = NONE_BARRED
    ) -> bool:
        def work(transaction: Transaction) -> bool:
            keep_time(transaction.connection, self._file.clock)
            now = transaction.now
            parameters = {
                "id": worker_id,
                "session": session,
                "now": now,
                "expires": now + ttl_seconds,
                "barred": msgspec.json.encode(dict(barred)).decode() if barred else None,
            }
            return transaction.connection.execute(CHECK_IN, parameters).rowcount == 1

        return await self._file.write(work)

    async def check_out(self, worker_id: str, *, session: str) -> None:
        await self._file.change(CHECK_OUT, (worker_id, session))

    async def save_sample(self, sample: Sample) -> None:
        def work(transaction: Transaction) -> None:
            stats = queue_stats(transaction.connection, transaction.now)
            body = msgspec.json.encode(sample).decode()
            row = (sample.at, body, stats.visible, stats.in_flight, stats.oldest_age_seconds)
            transaction.connection.execute(ADD_SAMPLE, row)
            transaction.connection.execute(END_OLD_SAMPLES, (sample.at - KEPT_SECONDS,))

        await self._file.write(work)

    async def redrive(self, limit: int = 1000) -> int:
        def work(transaction: Transaction) -> int:
            parameters = {"now": transaction.now, "limit": limit}
            revived = transaction.connection.execute(REDRIVE, parameters).rowcount
            transaction.count({"messages": revived, "dead": -revived})
            return revived

        revived = await self._file.write(work)
        self._file.news.set()
        return revived
