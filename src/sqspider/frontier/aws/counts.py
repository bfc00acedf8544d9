"""How many records there are of each kind, and what all of it has cost: the sums as people are told them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from sqspider.frontier.answers import counted, counts_of
from sqspider.frontier.aws.attributes import text
from sqspider.frontier.aws.batches import together
from sqspider.frontier.aws.bill import Usage
from sqspider.frontier.aws.crawl_rows import CrawlRows
from sqspider.frontier.aws.items import PARKED_SHARDS, QUEUED_SHARDS
from sqspider.frontier.aws.records import Records
from sqspider.frontier.aws.sums import BILL, Seen
from sqspider.frontier.values import Bill, Counts
from sqspider.record import DEFAULT_CRAWL, Status, UrlRecord, split_key

QUIET_SECONDS: Final = 60.0  # after its last change a worker has written its sums: it polls, or ends a fetch
EXACT_OPEN: Final = 100  # up to so many open records are counted one by one


class Counting(Records, CrawlRows):
    """Counts of records, and the bill."""

    async def counts(self, *, exact: bool = False, roughly: bool = False, crawl: str | None = None) -> Counts:
        """Records by status and reason.

        Quick: the sums that workers write every few seconds, and the index of open records. Up to
        :data:`EXACT_OPEN` open records are counted exactly, so "none open" is never a guess. (The index is of all
        crawls. Where it is long, it is read to its end for the last open records of one crawl: a read unit for
        eighty of the others'.) Sums are behind by what other workers have gathered for a few seconds, and off by as
        much for each that was killed. ``exact`` reads the whole table, and mends the sums where nobody
        has changed a record for :data:`QUIET_SECONDS`. ``roughly``: by the sums alone, as they are written.
        """
        if roughly:
            await self._flush_if_due()
            return _told(_added((await self._sums.read([crawl] if crawl else await self._names())).values()))
        await self.flush()
        if exact:
            return await self._recount(crawl)
        sums = _added((await self._sums.read([crawl] if crawl else await self._names())).values())
        open_records = await self._open_records()
        if open_records is None and crawl is not None and _told(sums).open <= EXACT_OPEN:
            open_records = await self._last_open_records(crawl)
        if open_records is not None:
            own = [key for key in open_records if crawl in (None, split_key(key)[0])]
            exactly = Counter(text(item, "status") for item in (await self._table.read(own)).values())
            for status in (Status.QUEUED, Status.PROCESSING):
                sums[status.value] = exactly[status]
        told = _told(sums)
        if open_records is None and told.open <= EXACT_OPEN:
            told.by_status[Status.QUEUED] = EXACT_OPEN + 1
        return told

    async def bill(self) -> Bill:
        await self.flush()
        seen = (await self._sums.read(await self._names())).values()
        usage = Usage(
            **{name: sum(it.numbers.get(f"{BILL}{name}", 0.0) for it in seen) for name in Usage.__struct_fields__}
        )
        parts = msgspec.structs.asdict(usage)
        return Bill(calls=round(parts.pop("calls")), dollars=usage.dollars, parts=parts)

    async def _names(self) -> list[str]:
        """The names of all crawls that have sums."""
        return list(dict.fromkeys([DEFAULT_CRAWL, *(crawl.name for crawl in await self.crawls())]))

    async def _open_records(self) -> list[str] | None:
        """The keys of open records; none if there are many."""
        found: list[str] = []
        for shards in (QUEUED_SHARDS, PARKED_SHARDS):
            for part in await together(self._table.query(shard, EXACT_OPEN + 1) for shard in shards):
                found += [url for url, _ in part]
            if len(found) > EXACT_OPEN:
                return None
        return found

    async def _last_open_records(self, crawl: str) -> list[str] | None:
        """The keys of a crawl's open records among many of others; none if it has many itself."""
        found: list[str] = []

        async def look_through(shard: str) -> None:
            async for page in self._table.walk(shard):
                found.extend(key for key, _ in page if split_key(key)[0] == crawl)
                if len(found) > EXACT_OPEN:
                    return

        await together(look_through(shard) for shard in (*QUEUED_SHARDS, *PARKED_SHARDS))
        return found if len(found) <= EXACT_OPEN else None

    async def _recount(self, crawl: str | None) -> Counts:
        """Count all records, and mend the sums if all is quiet.

        Where somebody works, what is not written yet would be added once more: then the sums stay as they are.
        """
        numbers: defaultdict[str, Counter[str]] = defaultdict(Counter)
        names = await self._names()
        seen, quiet_since = await self._sums.read(names), self._clock() - QUIET_SECONDS
        is_quiet = True
        async for records in self.scan():
            for record in records:
                is_quiet = is_quiet and self._changed_at(record) < quiet_since
                numbers[record.crawl].update(counted(None, record.status, record.outcome))
        if is_quiet and await self._sums.read(names) == seen:
            for name in names:
                await self._sums.mend(name, seen[name], numbers[name])
        return _told(sum(numbers.values(), Counter()) if crawl is None else numbers[crawl])

    def _changed_at(self, record: UrlRecord) -> float:
        """When a record was changed last, or a little later: what gave it back moved ``due_at`` on."""
        moments = [record.enqueued_at, record.claimed_at or 0.0, record.finished_at or 0.0]
        if record.attempt and record.due_at is not None:
            moments.append(record.due_at - self._settings.due_seconds)
        return max(moments)


def _added(parts: Iterable[Seen]) -> dict[str, int]:
    """The sums of some crawls together."""
    added: Counter[str] = Counter()
    for part in parts:
        added.update(part.records)
    return dict(added)


def _told(sums: Mapping[str, int]) -> Counts:
    """The sums as they are told: they may be off, but nobody has fewer than none."""
    return counts_of({name: max(0, much) for name, much in sums.items()})
