"""Host rows on DynamoDB, and who may ask a host for something.

A host's item is read, changed here and written if nobody has changed it meanwhile: each version has
a random stamp, and a write names the one that it was made from. What was read or written last is
kept, so a worker that has a host for itself writes without reading. Sums of finished fetches ride
along with the next write. In the index a host in trouble is marked, so that those few can be found
without reading all: the mark moves only when trouble begins, and with the first write after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import msgspec

from sqspider.frontier import Admission, Clock, Entrance, Exit, SlotDemand
from sqspider.frontier.aws_calls import (
    READ_BATCH,
    WRITE_BATCH,
    Patience,
    Statement,
    Table,
    batches,
    key_of,
    mark_by,
    n,
    number,
    s,
    text,
)
from sqspider.frontier.aws_client import AwsClient
from sqspider.host import SUMS, HostRow, HostState, entered, is_in_trouble, left, reserved, saved, sums_of
from sqspider.record import Outcome

T = TypeVar("T")

CACHED_HOSTS: Final = 10_000
HOST_SHARD: Final = "h"  # of the index
LONGEST_TURN_SECONDS: Final = 0.2  # between two tries for a host that another worker changes, too

CHANGE_HOST: Final = 'UPDATE "{table}" SET "row" = ? SET "stamp" = ?{mark} WHERE "url" = ? AND "stamp" = ?'
SET_MARK: Final = ' SET "due_at" = ?'  # two more write units: the index' entry goes and comes again
NO_MARK, IN_TROUBLE = 0.0, 1.0  # of a host in the index


class _KnownHost(NamedTuple):
    stamp: str | None  # names the version that was read; none: there is no item yet
    state: HostState
    mark: float = NO_MARK  # its ``due_at`` in the index


class _HostWrite(NamedTuple):
    host: str
    new: _KnownHost
    sums: _HostSums | None  # that the new state holds already
    statement: Statement


class _HostSums:
    """What finished fetches add to a host's row."""

    def __init__(self) -> None:
        self._sums: dict[str, float] = dict.fromkeys(SUMS, 0)

    def add(self, sums: Mapping[str, float]) -> None:
        for name, much in sums.items():
            self._sums[name] += much

    def add_all(self, other: _HostSums) -> None:
        self.add(other._sums)

    def added_to(self, row: HostRow) -> HostRow:
        return msgspec.structs.replace(row, **{name: getattr(row, name) + self._sums[name] for name in SUMS})


HostChange = Callable[[HostState], tuple[HostState, T]]
"""Takes a host's state, gives the state that shall be and an answer. The very same state: no write."""

_host_decoder = msgspec.json.Decoder(HostState)


class Hosts:
    """The host rows of a table."""

    def __init__(self, table: Table, client: AwsClient, clock: Clock, rng: random.Random) -> None:
        self._table = table
        self._client = client
        self._clock = clock
        self._rng = rng
        self._hosts: OrderedDict[str, _KnownHost] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._sums: defaultdict[str, _HostSums] = defaultdict(_HostSums)

    def add_finished(self, host: str, outcome: Outcome) -> None:
        """Add a finished fetch to the sums of its host; written with its next change, or by :meth:`flush`."""
        self._sums[host].add(sums_of(outcome))

    @property
    def unwritten(self) -> int:
        """How many hosts have sums that are not written yet."""
        return len(self._sums)

    async def flush(self) -> None:
        """Write the sums."""
        for part in batches(list(self._sums), WRITE_BATCH):
            await self._change([(host, _touched) for host in part])

    def forget(self) -> None:
        """Forget what is kept: the table was cleared."""
        self._hosts.clear()
        self._sums.clear()

    async def _change(self, changes: Sequence[tuple[str, HostChange[T]]]) -> list[T]:
        """Apply changes to hosts, each atomically; those of one host in order, in one write."""
        answers: dict[int, T] = {}
        by_host: defaultdict[str, list[int]] = defaultdict(list)
        for i, (host, _) in enumerate(changes):
            by_host[host].append(i)
        waiting = sorted(by_host)
        patience = Patience(self._client, "BatchExecuteStatement")
        async with contextlib.AsyncExitStack() as locks:
            # Within this process they take turns; always in the same order, so that none waits in a ring.
            for host in waiting:
                lock = self._locks.setdefault(host, asyncio.Lock())
                await locks.enter_async_context(lock)
            while waiting:
                # What was read or written last is likely to be still so: then nothing need be read.
                known = {host: self._hosts[host] for host in waiting if host in self._hosts}
                fresh = await self._read([host for host in waiting if host not in known])
                known.update(fresh)
                pending: list[_HostWrite] = []
                again = []
                for host in waiting:
                    state = known[host].state
                    for i in by_host[host]:
                        state, answers[i] = changes[i][1](state)
                    if state is not known[host].state:
                        pending.append(self._statement_for(known[host], state))
                    elif host not in fresh:  # only what is fresh may say that nothing is to be done
                        del self._hosts[host]
                        again.append(host)
                lost = await self._write(pending)
                waiting = again + lost
                if lost:
                    await patience.wait(
                        f"{len(lost)} hosts are changed by others all the time", longest=LONGEST_TURN_SECONDS
                    )
        return [answers[i] for i in range(len(changes))]

    def _statement_for(self, old: _KnownHost, state: HostState) -> _HostWrite:
        host = state.row.host
        sums = self._sums.pop(host, None)
        if sums is not None:
            state = msgspec.structs.replace(state, row=sums.added_to(state.row))
        mark = IN_TROUBLE if is_in_trouble(state.row, self._clock()) else NO_MARK
        stamp = mark_by(self._rng)
        row, key = s(msgspec.json.encode(state).decode()), _host_key(host)
        if old.stamp is None:
            listed = {"due_shard": s(HOST_SHARD), "due_at": n(mark)}
            statement = self._table.insert({"url": s(key), "row": row, "stamp": s(stamp), **listed})
        else:
            moved = [] if mark == old.mark else [n(mark)]
            text = CHANGE_HOST.format(table=self._table.name, mark=SET_MARK if moved else "")
            statement = Statement(key, text, [row, s(stamp), *moved, s(key), s(old.stamp)])
        return _HostWrite(host, _KnownHost(stamp, state, mark), sums, statement)

    async def _write(self, pending: list[_HostWrite]) -> list[str]:
        """Write hosts; which ones somebody else had changed."""
        done: set[str] = set()
        try:
            written = await self._table.write([write.statement for write in pending])
            unsure = [
                write.statement.url
                for write, result in zip(pending, written, strict=True)
                if result.is_unsure and not result.is_done
            ]
            found = await self._table.read(unsure)
            done.update(
                write.host
                for write, result in zip(pending, written, strict=True)
                if result.is_done or text(found.get(write.statement.url, {}), "stamp") == write.new.stamp
            )
        finally:
            for write in pending:
                if write.host in done:
                    self._remember(write.host, write.new)
                else:
                    self._hosts.pop(write.host, None)
                    if write.sums is not None:
                        self._sums[write.host].add_all(write.sums)
        return [write.host for write in pending if write.host not in done]

    def _remember(self, host: str, known: _KnownHost) -> None:
        self._hosts[host] = known
        self._hosts.move_to_end(host)
        while len(self._hosts) > CACHED_HOSTS:
            self._hosts.popitem(last=False)

    async def _read(self, hosts: Sequence[str]) -> dict[str, _KnownHost]:
        items = await self._table.read(_host_key(host) for host in hosts)
        found = {}
        for host in hosts:
            item = items.get(_host_key(host))
            known = _KnownHost(None, HostState(row=HostRow(host=host)))
            if item is not None:
                state = _host_decoder.decode(item["row"]["S"])
                known = _KnownHost(item["stamp"]["S"], state, number(item, "due_at"))
            found[host] = known
            self._remember(host, known)
        return found

    async def get(self, hosts: Sequence[str]) -> dict[str, HostRow]:
        known = await self._read(list(dict.fromkeys(hosts)))
        rows = {}
        for host in hosts:
            sums = self._sums.get(host)
            row = known[host].state.row
            rows[host] = sums.added_to(row) if sums else row
        return rows

    async def scan(self) -> list[HostRow]:
        await self.flush()
        return await self._listed()

    async def in_trouble(self) -> list[HostRow]:
        now = self._clock()
        return [row for row in await self._listed(after=NO_MARK) if is_in_trouble(row, now)]

    async def _listed(self, *, after: float | None = None) -> list[HostRow]:
        """Rows that are in the index, by name."""
        keys = [key for key, _ in await self._table.query(HOST_SHARD, 2**53, after=after)]
        rows = []
        for part in batches(keys, 10 * READ_BATCH):
            items = await self._table.read(part)
            rows += [_host_decoder.decode(item["row"]["S"]).row for item in items.values()]
        return sorted(rows, key=lambda row: row.host)

    async def save(self, rows: Sequence[HostRow]) -> list[bool]:
        now = self._clock()
        return await self._change([(row.host, partial(saved, row=row, now=now)) for row in rows])

    async def reserve(self, demands: Sequence[SlotDemand]) -> list[float | None]:
        now = self._clock()
        return await self._change([(demand.host, partial(reserved, demand=demand, now=now)) for demand in demands])

    async def enter(self, entrances: Sequence[Entrance]) -> list[Admission]:
        def let_in(entrance: Entrance) -> HostChange[Admission]:
            return lambda state: entered(state, entrance, self._clock())  # when it is written, not when it was asked

        return await self._change([(entrance.host, let_in(entrance)) for entrance in entrances])

    async def leave(self, exits: Sequence[Exit]) -> None:
        await self._change([(end.host, partial(left, end=end)) for end in exits])


def _touched(state: HostState) -> tuple[HostState, None]:
    """No change but the sums that ride along with every write."""
    return msgspec.structs.replace(state), None


def _host_key(host: str) -> str:
    return key_of("host", host)
