"""Host rows as this worker has them: copies for seconds, and how a row is changed for all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple

from sqspider import host_trouble
from sqspider.frontier import Clock, Hosts
from sqspider.frontier.batcher import Batcher
from sqspider.host import HostRow
from sqspider.politeness.memory import Memory

COPY_SECONDS: Final = 2.0  # that a copy is good for, to plan by


class _Copy(NamedTuple):
    row: HostRow
    read_at: float  # before it was read: whatever was ordered until then is in it


class Changed(NamedTuple):
    """A row after it was to be changed."""

    row: HostRow
    is_changed: bool


class HostRows:
    """The rows of the hosts that were asked about last."""

    def __init__(self, frontier: Hosts, clock: Clock) -> None:
        self._frontier = frontier
        self._clock = clock
        self._copies: Memory[str, _Copy] = Memory(frontier)
        self._answered: Memory[str, bool] = Memory(frontier)  # hosts that have, beside those whose rows say so
        self._read = Batcher(self._read_hosts, size=100)

    async def row(self, host: str, *, within: float = COPY_SECONDS) -> HostRow:
        """A host's row, as it was at most so many seconds ago."""
        now = self._clock()
        copy = self._copies.get(host)
        if copy is not None and 0 <= now - copy.read_at < within:  # less than none: the clock was put back
            return copy.row
        row = host_trouble.as_of(await self._read(host), self._clock())
        self._copies.put(host, _Copy(row, now))
        return row

    async def row_but_if(self, doubt: Callable[[HostRow], bool], host: str) -> HostRow:
        """A host's row, read anew where the copy would send a URL away: an order may just have released it."""
        row = await self.row(host)
        return await self.row(host, within=0.0) if doubt(row) else row

    def copy_of(self, host: str) -> HostRow | None:
        """What is known of a row without reading it, for who asks amid a turn."""
        copy = self._copies.peek(host)
        return copy.row if copy is not None and 0 <= self._clock() - copy.read_at < COPY_SECONDS else None

    def note(self, rows: Mapping[str, HostRow], read_at: float) -> None:
        """Take rows that were read for another purpose; ``read_at``: a moment before they were."""
        now = self._clock()
        for host, row in rows.items():
            copy = self._copies.get(host)
            if copy is None or copy.read_at < read_at:
                self._copies.put(host, _Copy(host_trouble.as_of(row, now), read_at))

    def forget(self, host: str) -> None:
        """It is not what it was thought to be."""
        self._copies.pop(host)

    def forget_all(self) -> None:
        """It may be long since they were read."""
        self._copies.clear()

    async def change(self, host: str, change: Callable[[HostRow], HostRow]) -> Changed:
        """Compare and set until it holds: another worker may change the row at the same time."""
        while True:
            row = host_trouble.as_of(await self._read(host), self._clock())
            changed = change(row)
            if changed is row or (await self._frontier.save_hosts([changed]))[0]:
                self.forget(host)
                return Changed(changed, changed is not row)

    def has_answered(self, row: HostRow) -> bool:
        """Whether a host has ever, whatever it said."""
        return row.answered > 0 or self._answered.get(row.host) is not None

    def note_answer(self, host: str) -> None:
        self._answered.put(host, True)

    async def close(self) -> None:
        await self._read.close()

    async def _read_hosts(self, names: Sequence[str]) -> list[HostRow]:
        rows = await self._frontier.hosts(list(dict.fromkeys(names)))
        return [rows[name] for name in names]
