"""The sums of records by status and reason, and of what was asked of AWS, on DynamoDB.

Workers gather what they did for a while and add it to one of a few shared items, so that a sum costs a
fraction of a write and a reader reads a handful of items, however many workers there are. Each crawl has items of its
own, and all together are the sums of all: so counting by crawl costs no write more, and a crawl that is removed takes
its sums with it. An addition is
made once, whatever becomes of its answer: it leaves a mark of who made it, by which moment, in the same
item and the same write, and is made only where its own last mark is the one before. So a try whose answer
was lost, and one that was given up, is simply made again. Marks of who has gone are taken out by others.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from sqspider.frontier.aws.attributes import Item, n, s, text
from sqspider.frontier.aws.batches import together
from sqspider.frontier.aws.bill import Usage
from sqspider.frontier.aws.client import AwsClient
from sqspider.frontier.aws.table import Table, mark_by
from sqspider.frontier.values import Clock
from sqspider.record import DEFAULT_CRAWL, split_key

SHARDS: Final = 8  # items that share the additions
FLUSH_SECONDS: Final = 2.0  # how long they are gathered before they are written
BILL: Final = "bill:"  # before the names of the bill's sums
MARK: Final = "mark "  # before a session: its last addition, as milliseconds since the epoch
MENDED: Final = "mended"  # names the last exact count that set the sums right

# A mark is 25 bytes. It must outlive the time in which a call is tried again; more of them would make the item
# larger than the kilobyte that a write unit pays for.
KEPT_MARKS: Final = 16
MARK_SECONDS: Final = 60.0
FORGOTTEN_AT_ONCE: Final = 10  # with one write


class Seen(NamedTuple):
    """The sums of a crawl at one moment."""

    numbers: dict[str, float]  # by name; those of the bill have :data:`BILL` before it
    mended: str | None  # which exact count set them right last

    @property
    def records(self) -> dict[str, int]:
        """Those of records: all but the bill's."""
        return {name: round(number) for name, number in self.numbers.items() if not name.startswith(BILL)}


class _Bill:
    """What was used, and how much of it was sent: with whatever is written next, for no write of its own."""

    def __init__(self, usage: Usage) -> None:
        self._usage = usage
        self._sent = Usage()

    def take(self) -> dict[str, float]:
        """What was used since it was last taken, by the names of its sums."""
        used = self._usage.minus(self._sent)
        self._sent = self._sent.plus(used)
        return {f"{BILL}{name}": much for name, much in msgspec.structs.asdict(used).items() if much}


class _Addition(NamedTuple):
    """What is added in one write."""

    changes: dict[str, float]
    mark: str


class _SumsOfCrawl:
    """The sums of one crawl, and what this process adds to them."""

    def __init__(
        self, crawl: str, table: Table, client: AwsClient, bill: _Bill, clock: Clock, rng: random.Random
    ) -> None:
        self._crawl = crawl
        self._table = table
        self._client = client
        self._bill = bill
        self._clock = clock
        self._rng = rng
        self._key = _key_of(rng.randrange(SHARDS), crawl)
        self._own_mark = MARK + mark_by(rng)  # the name of it
        self._mark: str | None = None  # the last one that is in the item; none: there is none
        self._gathered: dict[str, float] = {}
        self._pending: _Addition | None = None  # was sent, and nobody knows yet whether it was made
        self._lock = asyncio.Lock()

    def add(self, changes: Mapping[str, float]) -> None:
        """Gather changes of sums, by their names, for the next :meth:`flush`."""
        for name, much in changes.items():
            self._gathered[name] = self._gathered.get(name, 0) + much

    async def flush(self) -> None:
        """Write what was gathered. Raises :class:`FrontierBusyError`; then it is kept, and written the next time."""
        async with self._lock:
            if self._pending is not None:
                await self._make(self._pending)
            self._pending = self._next()
            if self._pending is not None:
                await self._make(self._pending)

    def _next(self) -> _Addition | None:
        changes = {name: much for name, much in self._gathered.items() if much}
        self._gathered = {}
        if not changes:
            return None
        changes |= self._bill.take()
        mark = max(round(self._clock() * 1000), int(self._mark or 0) + 1)
        return _Addition(changes, str(mark))

    async def _make(self, addition: _Addition) -> None:
        """Make an addition that may have been made already."""
        backoff = self._client.backoff("UpdateItem")
        while True:
            written = await self._table.update(self._key, self._request(addition))
            if written.is_done:
                self._made(addition)
                await self._forget_the_gone(written.item or {})
                break
            found = text((await self._table.read([self._key])).get(self._key, {}), self._own_mark)
            if found == addition.mark:  # an earlier try was made
                self._made(addition)
                break
            # Others took the mark of a long sleeper out, or the table was cleared.
            self._mark = found
            await backoff.wait("the sums are changed by others all the time")

    def _request(self, addition: _Addition) -> dict[str, Any]:
        names = {f"#{i}": name for i, name in enumerate(addition.changes)}
        values = {f":{i}": n(much) for i, much in enumerate(addition.changes.values())}
        update = "ADD " + ", ".join(f"#{i} :{i}" for i in range(len(addition.changes))) + " SET #own = :own"
        names["#own"], values[":own"] = self._own_mark, s(addition.mark)
        condition = "attribute_not_exists(#own)"
        if self._mark is not None:
            condition, values[":before"] = "#own = :before", s(self._mark)
        return {
            "UpdateExpression": update,
            "ConditionExpression": condition,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
            "ReturnValues": "ALL_NEW",
        }

    def _made(self, addition: _Addition) -> None:
        self._mark = addition.mark
        if self._pending is addition:
            self._pending = None

    async def _forget_the_gone(self, item: Item) -> None:
        """Take marks out of an item that nobody needs any more, once there are so many that it is worth a write."""
        marks = {name: value["S"] for name, value in item.items() if name.startswith(MARK) and name != self._own_mark}
        before = (self._clock() - MARK_SECONDS) * 1000
        newest_first = sorted(marks, key=lambda name: int(marks[name]), reverse=True)
        gone = [name for name in newest_first[KEPT_MARKS:] if int(marks[name]) < before][-FORGOTTEN_AT_ONCE:]
        if len(gone) < FORGOTTEN_AT_ONCE:
            return
        await self._table.update(
            self._key,
            {
                "UpdateExpression": "REMOVE " + ", ".join(f"#{i}" for i in range(len(gone))),
                # Unless one of them is back.
                "ConditionExpression": " AND ".join(f"#{i} = :{i}" for i in range(len(gone))),
                "ExpressionAttributeNames": {f"#{i}": name for i, name in enumerate(gone)},
                "ExpressionAttributeValues": {f":{i}": s(marks[name]) for i, name in enumerate(gone)},
            },
        )

    async def mend(self, seen: Seen, records: Mapping[str, int]) -> None:
        """Make the sums of records what they truly are, if no other exact count did since they were seen.

        They must have been true and still at that moment: what others add meanwhile is added to it.
        """
        found = seen.records
        differences = {name: records.get(name, 0) - found.get(name, 0) for name in dict.fromkeys([*found, *records])}
        changes = {name: much for name, much in differences.items() if much}
        if not changes:
            return
        values = {f":{i}": n(much) for i, much in enumerate(changes.values())}
        values[":mended"] = s(mark_by(self._rng))
        condition = "attribute_not_exists(#mended)"
        if seen.mended is not None:
            condition, values[":seen"] = "#mended = :seen", s(seen.mended)
        # Where the condition does not hold, an own try was made before or another count was quicker: all is well.
        await self._table.update(
            _key_of(0, self._crawl),
            {
                "UpdateExpression": "ADD "
                + ", ".join(f"#{i} :{i}" for i in range(len(changes)))
                + " SET #mended = :mended",
                "ConditionExpression": condition,
                "ExpressionAttributeNames": {"#mended": MENDED, **{f"#{i}": name for i, name in enumerate(changes)}},
                "ExpressionAttributeValues": values,
            },
        )


class Sums:
    """The sums of a table, by the names of crawls, and what this process adds to them."""

    def __init__(self, table: Table, client: AwsClient, usage: Usage, clock: Clock, rng: random.Random) -> None:
        self._table = table
        self._bill = _Bill(usage)
        self._clock = clock
        self._make = partial(_SumsOfCrawl, table=table, client=client, bill=self._bill, clock=clock, rng=rng)
        self._by_crawl: dict[str, _SumsOfCrawl] = {}
        self._flushed_at = clock()

    @property
    def are_due(self) -> bool:
        """Whether it is time to write what was gathered."""
        return self._clock() - self._flushed_at >= FLUSH_SECONDS

    def _of(self, crawl: str) -> _SumsOfCrawl:
        if crawl not in self._by_crawl:
            self._by_crawl[crawl] = self._make(crawl)
        return self._by_crawl[crawl]

    def add(self, key: str, changes: Mapping[str, float]) -> None:
        """Gather changes of sums, by their names, for the next :meth:`flush`; ``key``: of a record of their crawl."""
        self._of(split_key(key)[0]).add(changes)

    def forget(self) -> None:
        """Forget what is not written: the table was cleared."""
        self._by_crawl.clear()

    async def flush(self) -> None:
        """Write what was gathered. Raises :class:`FrontierBusyError`; then it is kept, and written the next time."""
        self._flushed_at = self._clock()
        await together(sums.flush() for sums in self._by_crawl.values())

    async def read(self, crawls: Iterable[str]) -> dict[str, Seen]:
        """The sums of crawls as they are written, by the crawls' names."""
        keys = {crawl: [_key_of(shard, crawl) for shard in range(SHARDS)] for crawl in crawls}
        items = await self._table.read(key for of_crawl in keys.values() for key in of_crawl)
        found = {}
        for crawl, of_crawl in keys.items():
            numbers: dict[str, float] = {}
            for item in (items[key] for key in of_crawl if key in items):
                for name, value in item.items():
                    if "N" in value:
                        numbers[name] = numbers.get(name, 0.0) + float(value["N"])
            found[crawl] = Seen(numbers, text(items.get(of_crawl[0], {}), MENDED))
        return found

    async def mend(self, crawl: str, seen: Seen, records: Mapping[str, int]) -> None:
        """Make the sums of a crawl's records what they truly are: see :meth:`_SumsOfCrawl.mend`."""
        await self._of(crawl).mend(seen, records)

    async def remove(self, crawl: str) -> None:
        """Remove the sums of a crawl that is not the default one. What it has cost goes over to the default crawl's."""
        numbers = (await self.read([crawl]))[crawl].numbers
        self._by_crawl.pop(crawl, None)
        await self._table.delete_items([_key_of(shard, crawl) for shard in range(SHARDS)])
        self._of(DEFAULT_CRAWL).add({name: much for name, much in numbers.items() if name.startswith(BILL)})


def _key_of(shard: int, crawl: str) -> str:
    return f"counter {shard}" if crawl == DEFAULT_CRAWL else f"counter {shard} @{crawl}"
