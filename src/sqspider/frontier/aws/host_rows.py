"""How host rows are kept in DynamoDB, and changed by one writer at a time.

A host's item is read, changed here and written if nobody has changed it meanwhile: each version has
a random stamp, and a write names the one that it was made from. What was read or written last is
kept, so a worker that has a host for itself writes without reading. Sums of finished fetches ride
along with the next write. An item also names its last writers, each with the number of its last write
there: whoever lost the answer to a write finds out whether it was made, though others have written since,
and no sum is added twice. In the index a host in trouble is marked, so that those few can be found
without reading all: the mark moves only when trouble begins, and with the first write after it.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections import OrderedDict, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Final, NamedTuple, TypeVar
from weakref import WeakValueDictionary

import msgspec

from sqspider.frontier.aws.attributes import Item, n, number, s, text
from sqspider.frontier.aws.batches import batches
from sqspider.frontier.aws.client import AwsClient
from sqspider.frontier.aws.items import GENERATION, HOST_SHARD, key_of
from sqspider.frontier.aws.table import READ_BATCH, WRITE_BATCH, Statement, Table, mark_by
from sqspider.frontier.values import Clock
from sqspider.host import SUMS, HostRow, HostState, with_sums
from sqspider.host_trouble import is_in_trouble

T = TypeVar("T")

CACHED_HOSTS: Final = 10_000
LONGEST_TURN_SECONDS: Final = 0.2  # between two tries for a host that another worker changes, too
FLUSH_SECONDS: Final = 60.0  # that sums of hosts wait for a write to ride along with, before they get one of their own
BEHIND_SECONDS: Final = 10.0  # that a read may be behind which need not be consistent: it is one, as a rule, or less
CLOCKS_DIFFER_SECONDS: Final = 2.0  # of two processes, at most
SOON_SECONDS: Final = 2.0  # after which it is tried again, if that failed

CHANGE_HOST: Final = (
    'UPDATE "{table}" SET "row" = ? SET "stamp" = ? SET "writers" = ?{mark} WHERE "url" = ? AND "stamp" = ?'
)
SET_MARK: Final = ' SET "due_at" = ?'  # two more write units: the index' entry goes and comes again
NO_MARK, IN_TROUBLE = 0.0, 1.0  # of a host in the index
KEPT_WRITERS: Final = 16  # some 250 bytes, so that an item stays below the kilobyte that a write unit pays for


class _KnownHost(NamedTuple):
    stamp: str | None  # names the version that was read; none: there is no item yet
    state: HostState
    mark: float = NO_MARK  # its ``due_at`` in the index
    writers: Mapping[str, int] = {}  # who wrote last, and the number of that write; the latest is the last


class _HostWrite(NamedTuple):
    host: str
    new: _KnownHost
    statement: Statement
    riding: int  # changes that it took along


class _HostSums:
    """What finished fetches add to a host's row, and how much of it each write that was sent holds."""

    def __init__(self) -> None:
        self._all: dict[str, float] = dict.fromkeys(SUMS, 0)
        self._sent: dict[int, dict[str, float]] = {}  # by the number of the write

    def add(self, sums: Mapping[str, float]) -> None:
        for name, much in sums.items():
            self._all[name] += much

    def send(self, number: int) -> None:
        """Note that a write holds all of them."""
        self._sent[number] = dict(self._all)

    def added_to(self, row: HostRow, number: int) -> HostRow:
        """The row with what is not in it yet. ``number``: the last own write that it comes from."""
        written = self._sent.get(number, {})
        return with_sums(row, {name: much - written.get(name, 0) for name, much in self._all.items()})

    def settle(self, number: int) -> bool:
        """Note that a write was made; whether that leaves nothing to be written."""
        written = self._sent.get(number, {})
        self._sent.clear()
        for name, much in written.items():
            self._all[name] -= much
        return not any(self._all.values())


HostChange = Callable[[HostState], tuple[HostState, T]]
"""Takes a host's state, gives the state that shall be and an answer. The very same state: no write."""

_host_decoder = msgspec.json.Decoder(HostState)


class HostRows:
    """The host rows of a table."""

    def __init__(self, table: Table, client: AwsClient, clock: Clock, rng: random.Random) -> None:
        self._table = table
        self._client = client
        self._clock = clock
        self._rng = rng
        self._kept: OrderedDict[str, _KnownHost] = OrderedDict()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._sums: defaultdict[str, _HostSums] = defaultdict(_HostSums)
        self._riding: defaultdict[str, list[HostChange[None]]] = defaultdict(list)
        self._due_at = math.inf  # when the first of them get a write of their own
        self._session = mark_by(rng)[:8]  # names this process as a writer
        self._number = 0  # of its last write
        self.generation = 0  # of the table, as of the last :meth:`get`
        self._looked_at = -math.inf  # when that was asked for
        self._other_since = -math.inf  # when it was first seen to be this one

    def add_sums(self, host: str, sums: Mapping[str, float]) -> None:
        """Add what finished fetches add up to; written with the host's next change, or by :meth:`flush`."""
        self._sums[host].add(sums)
        self._due_at = min(self._due_at, self._clock() + FLUSH_SECONDS)

    def ride(self, host: str, change: HostChange[None]) -> None:
        """A change that nobody waits for: made with the host's next one, or by :meth:`flush`."""
        self._riding[host].append(change)
        self._due_at = min(self._due_at, self._clock() + FLUSH_SECONDS)

    def known(self, host: str) -> HostState | None:
        """A host's state as it was read or written here last, without what rides along; none if nothing is kept."""
        kept = self._kept.get(host)
        return None if kept is None else kept.state

    @property
    def are_due(self) -> bool:
        """Whether it is time to write what no other write took along."""
        return self._clock() >= self._due_at or len(self._sums) + len(self._riding) >= CACHED_HOSTS

    async def flush(self) -> None:
        """Write the sums, and what rides along."""
        self._due_at = math.inf
        try:
            for part in batches(list({**self._sums, **self._riding}), WRITE_BATCH):
                await self.change([(host, _touched) for host in part])
        except BaseException:
            self._due_at = self._clock() + SOON_SECONDS  # some are here still
            raise

    async def raise_generation(self) -> None:
        """Make all who remember what the table holds forget it. (Twice does no harm, if an answer is lost.)"""
        raised = await self._table.update(
            GENERATION,
            {
                "UpdateExpression": "ADD #number :one",
                "ExpressionAttributeNames": {"#number": "number"},
                "ExpressionAttributeValues": {":one": n(1)},
                "ReturnValues": "ALL_NEW",
            },
        )
        self._note_generation(raised.item or {})

    def _note_generation(self, item: Item) -> None:
        generation = int(number(item, "number"))
        if generation != self.generation:
            self.generation, self._other_since = generation, self._clock()

    async def look_for_clearings(self, made_at: float) -> None:
        """Know of every clearing before a moment, at which a record was made by somebody's clock."""
        if made_at > self._looked_at - CLOCKS_DIFFER_SECONDS:
            await self.get(())

    @property
    def was_cleared_lately(self) -> bool:
        """Whether reads that need not be consistent may still find what was cleared away."""
        return 0 <= self._clock() - self._other_since < BEHIND_SECONDS

    def forget(self) -> None:
        """Forget what is kept: the table was cleared."""
        self._kept.clear()
        self._sums.clear()
        self._riding.clear()

    async def change(self, changes: Sequence[tuple[str, HostChange[T]]]) -> list[T]:
        """Apply changes to hosts, each atomically; those of one host in order, in one write."""
        by_host: defaultdict[str, list[HostChange[T]]] = defaultdict(list)
        for host, change in changes:
            by_host[host].append(change)
        answers: dict[str, list[T]] = {}
        waiting = sorted(by_host)
        backoff = self._client.backoff("BatchExecuteStatement")
        async with self._in_turn(waiting):
            while waiting:
                unread, lost = await self._try(waiting, by_host, answers)
                waiting = unread + lost
                if lost:
                    trouble = f"{len(lost)} hosts are changed by others all the time"
                    await backoff.wait(trouble, longest=LONGEST_TURN_SECONDS)
        in_order = {host: iter(given) for host, given in answers.items()}
        return [next(in_order[host]) for host, _ in changes]

    @contextlib.asynccontextmanager
    async def _in_turn(self, hosts: list[str]) -> AsyncIterator[None]:
        """Within this process those who change a host take turns; ``hosts`` in order, so that none waits in a ring."""
        async with contextlib.AsyncExitStack() as locks:
            for host in hosts:
                lock = self._locks.setdefault(host, asyncio.Lock())
                await locks.enter_async_context(lock)
            yield

    async def _try(
        self, hosts: list[str], changes: Mapping[str, list[HostChange[T]]], answers: dict[str, list[T]]
    ) -> tuple[list[str], list[str]]:
        """Change hosts once; which must be read first, and which somebody else had changed."""
        # What was read or written last is likely to be still so: then nothing need be read.
        kept = {host: self._kept[host] for host in hosts if host in self._kept}
        known = kept | await self._read([host for host in hosts if host not in kept])
        pending, unread = [], []
        for host in hosts:
            old, riding = known[host], self._riding.get(host, ())
            before, _ = _changed(old.state, riding)
            state, answers[host] = _changed(before, changes[host])
            if state is not before:
                pending.append(self._statement_for(old, state, len(riding)))
            elif host in kept:  # only what is fresh may say that nothing is to be done
                self._kept.pop(host, None)
                unread.append(host)
        return unread, await self._write(pending)

    def _statement_for(self, old: _KnownHost, state: HostState, riding: int) -> _HostWrite:
        host = state.row.host
        self._number += 1
        if host in self._sums:
            sums = self._sums[host]
            state = msgspec.structs.replace(state, row=sums.added_to(state.row, old.writers.get(self._session, 0)))
            sums.send(self._number)
        others = [writer for writer in old.writers.items() if writer[0] != self._session]
        writers = dict([*others[1 - KEPT_WRITERS :], (self._session, self._number)])
        mark = IN_TROUBLE if is_in_trouble(state.row, self._clock()) else NO_MARK
        stamp = mark_by(self._rng)
        row, key = s(msgspec.json.encode(state).decode()), _host_key(host)
        named = s(" ".join(f"{session}:{number}" for session, number in writers.items()))
        if old.stamp is None:
            listed = {"due_shard": s(HOST_SHARD), "due_at": n(mark)}
            statement = self._table.insert({"url": s(key), "row": row, "stamp": s(stamp), "writers": named, **listed})
        else:
            moved = [] if mark == old.mark else [n(mark)]
            text = CHANGE_HOST.format(table=self._table.name, mark=SET_MARK if moved else "")
            statement = Statement(key, text, [row, s(stamp), named, *moved, s(key), s(old.stamp)])
        return _HostWrite(host, _KnownHost(stamp, state, mark, writers), statement, riding)

    async def _write(self, pending: list[_HostWrite]) -> list[str]:
        """Write hosts; which ones somebody else had changed.

        What becomes of the others' sums is seen when the host is read the next time.
        """
        for write in pending:  # until it is known to be what it will be
            self._kept.pop(write.host, None)
        written = await self._table.write([write.statement for write in pending])
        lost = []
        for write, result in zip(pending, written, strict=True):
            if result.is_done:
                self._remember(write.host, write.new)
                self._settle(write)
            else:
                lost.append(write)
        unsure = [write.host for write, result in zip(pending, written, strict=True) if result.is_unsure]
        found = await self._read([write.host for write in lost if write.host in unsure])
        changed = []
        for write in lost:
            number = found[write.host].writers.get(self._session) if write.host in found else None
            if number is not None and number == write.new.writers[self._session]:  # an earlier try was made
                self._settle(write)
            else:
                changed.append(write.host)
        return changed

    def _settle(self, write: _HostWrite) -> None:
        if write.host in self._sums and self._sums[write.host].settle(write.new.writers[self._session]):
            del self._sums[write.host]
        if write.riding:
            del self._riding[write.host][: write.riding]
            if not self._riding[write.host]:
                del self._riding[write.host]

    def _remember(self, host: str, known: _KnownHost) -> None:
        self._kept[host] = known
        self._kept.move_to_end(host)
        while len(self._kept) > CACHED_HOSTS:
            self._kept.popitem(last=False)

    async def _read(self, hosts: Sequence[str]) -> dict[str, _KnownHost]:
        return self._found(hosts, await self._table.read(_host_key(host) for host in hosts))

    def _found(self, hosts: Sequence[str], items: Mapping[str, Item]) -> dict[str, _KnownHost]:
        found = {}
        for host in hosts:
            item = items.get(_host_key(host))
            known = _KnownHost(None, HostState(row=HostRow(host=host)))
            if item is not None:
                state = _state_of(item["row"]["S"])
                writers = _writers_of(text(item, "writers") or "")
                known = _KnownHost(item["stamp"]["S"], state, number(item, "due_at"), writers)
            found[host] = known
            self._remember(host, known)
        return found

    async def get(self, hosts: Sequence[str]) -> dict[str, HostRow]:
        now = self._clock()
        # The table's generation rides along: to ask for it alone would be a call more.
        items = await self._table.read([*map(_host_key, hosts), GENERATION])
        self._note_generation(items.get(GENERATION, {}))
        self._looked_at = now
        known = self._found(list(dict.fromkeys(hosts)), items)
        rows = {}
        for host in hosts:
            sums = self._sums.get(host)
            row = known[host].state.row
            rows[host] = sums.added_to(row, known[host].writers.get(self._session, 0)) if sums else row
        return rows

    async def listed(self, *, after: float | None = None) -> list[HostRow]:
        """Rows that are in the index, by name."""
        keys = [key for key, _ in await self._table.query(HOST_SHARD, 2**53, after=after)]
        rows = []
        for part in batches(keys, 10 * READ_BATCH):
            items = await self._table.read(part)
            rows += [_state_of(item["row"]["S"]).row for item in items.values()]
        return sorted(rows, key=lambda row: row.host)


def _changed(state: HostState, changes: Sequence[HostChange[T]]) -> tuple[HostState, list[T]]:
    answers = []
    for change in changes:
        state, answer = change(state)
        answers.append(answer)
    return state, answers


def _touched(state: HostState) -> tuple[HostState, None]:
    """No change but the sums that ride along with every write."""
    return msgspec.structs.replace(state), None


def _state_of(stored: str) -> HostState:
    """A host's state as any version wrote it: what this one does not know, or cannot read, is left out."""
    try:
        return _host_decoder.decode(stored)
    except msgspec.ValidationError:  # a later version's reason, say
        state = msgspec.json.decode(stored)
        readable = {name: value for name, value in state["row"].items() if _is_readable(name, value)}
        return msgspec.convert({**state, "row": readable}, HostState)


def _is_readable(name: str, value: object) -> bool:
    try:
        msgspec.convert({"host": "", name: value}, HostRow)
    except msgspec.ValidationError:
        return False
    return True


def _writers_of(text: str) -> dict[str, int]:
    writers = (writer.partition(":") for writer in text.split())
    return {session: int(number) for session, _, number in writers}


def _host_key(host: str) -> str:
    return key_of("host", host)
