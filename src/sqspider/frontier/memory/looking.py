"""What there is in memory, for people and programs. Nothing here writes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

from sqspider.figures import FIGURES, Counted, Point
from sqspider.frontier.answers import counts_of, sums_in
from sqspider.frontier.memory.part import Part, operation
from sqspider.frontier.values import SCAN_BATCH, Counts, DeadLetter, QueueStats, WorkerRow
from sqspider.record import Status, UrlRecord


class Looking(Part):
    """Records, sums, messages, workers and what happened over time."""

    @property
    def place(self) -> str:
        return "memory"

    @operation
    def get(self, keys: Sequence[str]) -> dict[str, UrlRecord]:
        return {key: self._store.records[key] for key in keys if key in self._store.records}

    async def scan(
        self, *, status: Status | None = None, host: str | None = None, crawl: str | None = None
    ) -> AsyncIterator[list[UrlRecord]]:
        keys = list(self._store.records)
        asked = (status, host, crawl)
        for start in range(0, len(keys), SCAN_BATCH):
            records = (await self.get(keys[start : start + SCAN_BATCH])).values()
            yield [
                r
                for r in records
                if all(a in (None, b) for a, b in zip(asked, (r.status, r.host, r.crawl), strict=True))
            ]

    @operation
    def counts(self, *, exact: bool = False, roughly: bool = False, crawl: str | None = None) -> Counts:  # noqa: ARG002 - always exact
        sums = self._store.sums
        return counts_of(sums if crawl is None else sums_in(sums, crawl))

    @operation
    def queue_stats(self) -> QueueStats:
        return self._store.queue.stats(self._clock())

    @operation
    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        names = ("body", "receive_count", "sent_at")
        return [
            DeadLetter(message_id=str(stored.id), **{name: getattr(stored, name) for name in names})
            for stored in list(self._store.queue.dead.values())[:limit]
        ]

    @operation
    def workers(self) -> list[WorkerRow]:
        now = self._clock()
        return [known.row for _, known in sorted(self._store.workers.items()) if known.expires_at >= now]

    @operation
    def points(self, *, since: float, until: float, period_seconds: int, crawl: str | None = None) -> list[Point]:
        periods: defaultdict[int, list[_Taken]] = defaultdict(list)
        for sample, stats in self._store.samples:
            if since <= sample.at < until and (counted := sample.of(crawl)) is not None:
                periods[int(sample.at / period_seconds)].append((counted, stats if crawl is None else None))
        return [_point(number * period_seconds, taken) for number, taken in sorted(periods.items())]

    @operation
    def bill(self) -> None:
        return None


_Taken = tuple[Counted, QueueStats | None]


def _point(at: float, taken: Sequence[_Taken]) -> Point:
    """What some samples of one period come to."""
    fields = {
        figure.name: figure.join(
            getattr(stats if figure.name in QueueStats.__struct_fields__ else sample, figure.name, None)
            for sample, stats in taken
        )
        for figure in FIGURES
    }
    fetches = sum(sample.fetches for sample, _ in taken)
    seconds = sum(sample.fetch_seconds for sample, _ in taken)
    return Point(at=at, **(fields | {"fetch_seconds": seconds / fetches if fetches else None}))
