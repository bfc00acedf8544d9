"""What there is, for people and programs: records, counts, figures. Nothing here writes."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from sqspider.figures import COUNTED, Point
from sqspider.frontier.sqlite import counters
from sqspider.frontier.sqlite.captures import CaptureFiles
from sqspider.frontier.sqlite.connection import Part
from sqspider.frontier.sqlite.keys import keys_of_crawl, keys_of_host, with_keys
from sqspider.frontier.sqlite.rows import (
    PARENT,
    STATUS_NUMBERS,
    Parameters,
    dicts,
    letter_row,
    record_of,
    whole,
    worker_row,
)
from sqspider.frontier.values import SCAN_BATCH, Counts, DeadLetter, QueueStats, WorkerRow
from sqspider.record import DEFAULT_CRAWL, Status, UrlRecord

GET: Final = f"""
SELECT r.*, {PARENT} FROM json_each(?) AS e CROSS JOIN record AS r INDEXED BY record_key
ON r.key = e.value ->> 0 AND r.url = e.value ->> 1
"""
SCAN: Final = f"""
SELECT r.*, {PARENT} FROM record AS r NOT INDEXED
WHERE r.id > :after_id AND (:status IS NULL OR r.status = :status) AND r.url >= :first_key AND r.url < :end_key
ORDER BY r.id LIMIT :limit
"""
SCAN_HOST: Final = f"""
SELECT r.*, {PARENT} FROM record AS r INDEXED BY record_key
WHERE r.key >= :after AND r.key <= :last AND (r.key > :after OR r.id > :after_id)
AND (:status IS NULL OR r.status = :status) AND r.url >= :first_key AND r.url < :end_key
ORDER BY r.key, r.id LIMIT :limit
"""
# What is put off is the most there can be, and is counted as it happens; the others are few. Records are numbered as
# they come: of each kind the first has waited longest.
QUEUE_STATS: Final = """
SELECT
    (SELECT number FROM counter WHERE name = 'messages'),
    (SELECT number FROM counter WHERE name = 'put_off'),
    (SELECT number FROM counter WHERE name = 'dead'),
    (SELECT count(*) FROM record INDEXED BY record_timed WHERE queue = 1 AND visible_at <= :now),
    (SELECT count(*) FROM record INDEXED BY record_timed WHERE queue = 2 AND visible_at > :now),
    (SELECT count(*) FROM sent INDEXED BY sent_visible WHERE visible_at > :now),
    (SELECT total(queue = 2) FROM sent INDEXED BY sent_visible WHERE visible_at > :now),
    (SELECT min(at) FROM (
        SELECT * FROM (SELECT enqueued_at AS at FROM record INDEXED BY record_place WHERE queue = 0 ORDER BY id LIMIT 1)
        UNION ALL
        SELECT * FROM (SELECT enqueued_at FROM record INDEXED BY record_place WHERE queue = 1 ORDER BY id LIMIT 1)
        UNION ALL
        SELECT * FROM (SELECT enqueued_at FROM record INDEXED BY record_place WHERE queue = 2 ORDER BY id LIMIT 1)
        UNION ALL
        SELECT * FROM (SELECT enqueued_at FROM record INDEXED BY record_place WHERE queue = 3 ORDER BY id LIMIT 1)
        UNION ALL
        SELECT min(sent_at) FROM sent INDEXED BY sent_age WHERE visible_at IS NOT NULL
    ))
"""
DEAD_LETTERS: Final = """
SELECT id, body, receives, sent_at FROM sent INDEXED BY sent_dead WHERE visible_at IS NULL ORDER BY id LIMIT ?
"""
# Where nobody has worked since, a file may have no column for what is barred: see upgrade.complete.
WORKERS: Final = "SELECT * FROM worker WHERE expires_at >= ? ORDER BY worker_id"
POINTS: Final = f"""
SELECT
    CAST(at / :period AS INTEGER) * :period AS at, avg(visible) AS visible, avg(in_flight) AS in_flight,
    max(oldest_age) AS oldest_age_seconds, {", ".join(f"sum(sample ->> '{name}') AS {name}" for name in COUNTED)},
    sum(sample ->> 'fetch_seconds') / nullif(sum(sample ->> 'fetches'), 0) AS fetch_seconds
FROM sample INDEXED BY sample_at WHERE at >= :since AND at < :until GROUP BY 1 ORDER BY 1
"""
# A sample with no parts is all of it of the default crawl's place: see figures.Sample.
POINTS_OF: Final = f"""
SELECT
    CAST(at / :period AS INTEGER) * :period AS at, {", ".join(f"sum(part ->> '{name}') AS {name}" for name in COUNTED)},
    sum(part ->> 'fetch_seconds') / nullif(sum(part ->> 'fetches'), 0) AS fetch_seconds
FROM (
    SELECT at, iif(:is_default AND coalesce(sample -> '$.crawls', '{{}}') = '{{}}', sample, sample -> :part) AS part
    FROM sample INDEXED BY sample_at WHERE at >= :since AND at < :until
)
WHERE part IS NOT NULL GROUP BY 1 ORDER BY 1
"""


class _Found(NamedTuple):
    """Records that a statement has found."""

    records: list[UrlRecord]
    last: tuple[int, int]  # the key and the id of the last of them


class Looking(Part):
    """Looks at what there is."""

    async def get(self, keys: Sequence[str]) -> dict[str, UrlRecord]:
        parameters = (with_keys(keys),)
        found = await self._file.read(lambda connection: self._found(connection, GET, parameters))
        return {record.key: record for record in found.records}

    async def scan(
        self, *, status: Status | None = None, host: str | None = None, crawl: str | None = None
    ) -> AsyncIterator[list[UrlRecord]]:
        place: dict[str, Any] = {"after": None, "after_id": 0, "limit": SCAN_BATCH}
        place["status"] = None if status is None else STATUS_NUMBERS[status]
        place["first_key"], place["end_key"] = keys_of_crawl(crawl)
        statement = SCAN
        if host is not None:
            statement = SCAN_HOST
            place["after"], place["last"] = keys_of_host(host)
        while (found := await self._file.read(lambda connection: self._found(connection, statement, place))).records:
            place["after"], place["after_id"] = found.last
            yield [record for record in found.records if host is None or record.unreadable or record.host == host]

    def _found(self, connection: sqlite3.Connection, statement: str, parameters: Parameters) -> _Found:
        """Records as they are at one moment, with the names of the files that their captures lie in."""
        connection.execute("BEGIN")
        try:
            rows, files = dicts(connection, statement, parameters), CaptureFiles(connection)
            records = [record_of(row, self._file.settings.due_seconds, files) for row in rows]
        finally:
            connection.execute("ROLLBACK")
        return _Found(records, (rows[-1]["key"], rows[-1]["id"]) if rows else (0, 0))

    async def counts(self, *, exact: bool = False, roughly: bool = False, crawl: str | None = None) -> Counts:  # noqa: ARG002 - always exact
        return await self._file.read(lambda connection: counters.records(connection, crawl))

    async def queue_stats(self) -> QueueStats:
        return await self._file.read(lambda connection: queue_stats(connection, self._file.clock()))

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        return whole(letter_row, await self._file.rows(DEAD_LETTERS, (limit,)), "message", self._file.path)

    async def workers(self) -> list[WorkerRow]:
        return whole(worker_row, await self._file.rows(WORKERS, (self._file.clock(),)), "worker", self._file.path)

    async def points(self, *, since: float, until: float, period_seconds: int, crawl: str | None = None) -> list[Point]:
        parameters: dict[str, Any] = {"since": since, "until": until, "period": period_seconds}
        if crawl is None:
            rows = await self._file.read(lambda connection: dicts(connection, POINTS, parameters))
        else:
            parameters |= {"part": f'$.crawls."{crawl}"', "is_default": crawl == DEFAULT_CRAWL}
            rows = await self._file.read(lambda connection: dicts(connection, POINTS_OF, parameters))
        return [Point(**row) for row in rows]

    async def bill(self) -> None:
        return None


def queue_stats(connection: sqlite3.Connection, now: float) -> QueueStats:
    """Messages by kind."""
    row = connection.execute(QUEUE_STATS, {"now": now}).fetchone()
    numbers, oldest = [number or 0 for number in row[:-1]], row[-1]
    live, put_off, dead, due, in_flight, hidden, received = msgspec.convert(numbers, list[int], strict=False)
    oldest = msgspec.convert(oldest, float | None)
    delayed = put_off - due + hidden - received
    return QueueStats(
        visible=live - in_flight - received - delayed,
        in_flight=in_flight + received,
        delayed=delayed,
        dead=dead,
        oldest_age_seconds=None if oldest is None else max(0.0, now - oldest),
    )
