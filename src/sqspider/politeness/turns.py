"""When a URL of a host may be asked for: slots, reserved among all workers, and which of them are worth waiting for."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from sqspider import host, host_trouble
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Clock, Hosts, SlotDemand
from sqspider.frontier.batcher import Batcher
from sqspider.host import HostRow, Passage
from sqspider.host_trouble import Stage
from sqspider.log import get_logger
from sqspider.message import Message
from sqspider.politeness.hosts import HostRows
from sqspider.politeness.memory import Memory
from sqspider.politeness.verdicts import Postponed, Turn, given_up
from sqspider.scope import Blocked
from sqspider.url import host_of

NEAR_SECONDS: Final = 5.0  # a slot that is further away sends its delivery back
SOON_SECONDS: Final = 1.0  # this much before its slot a delivery comes back
LATE_SECONDS: Final = 15.0  # a slot is good for so long after its moment; the distance is kept all the same

log = get_logger(__name__)


class _HandedOut(NamedTuple):
    """The slots that were reserved last at a host."""

    generation: int
    spacing_seconds: float


class Turns:
    """Hands out slots, and takes back what lies too far."""

    def __init__(self, frontier: Hosts, rows: HostRows, *, clock: Clock, linger_seconds: float) -> None:
        self._frontier = frontier
        self._rows = rows
        self._clock = clock
        self._stay_until: Memory[str, float] = Memory(frontier)  # of hosts whose slots were taken back just now
        self._handed_out: Memory[str, _HandedOut] = Memory(frontier)  # by host, what this worker reserved last
        self._reserve = Batcher(self._reserve_slots, size=100, linger_seconds=linger_seconds)

    async def turn(self, message: Message, not_before: float, *, is_crowded: bool) -> Turn | Postponed | Blocked:
        """See :meth:`sqspider.politeness.Politeness.turn`."""
        while True:
            row = await self._rows.row(host_of(message.url))
            now = self._clock()
            delay = host.delay_for(row, message.settings)
            spacing = host.spacing_for(row, delay, 1 if row.rests else message.settings.per_host)
            if host_trouble.stage_of(row, now) is Stage.GIVEN_UP:
                return given_up(row)
            if self._may_take_back(row, spacing, now):
                await self._take_back(row.host, spacing)
                continue
            if delay == 0 and row.rest_until <= now:
                return _worth_waiting_for(Turn(max(now, not_before), message), now, is_crowded=is_crowded)
            self._handed_out.put(row.host, _HandedOut(row.generation, spacing))
            is_alone = message.settings.per_host == 1
            slot = _good_slot(message, row, max(now, not_before), delay)
            if slot is None:
                demand = SlotDemand(
                    host=row.host, count=1, spacing_seconds=spacing, generation=row.generation, is_entered=is_alone
                )
                slot = await self._reserve(demand)
                if slot is None:
                    self._rows.forget(row.host)
                    continue
                message = msgspec.structs.replace(message, slot=slot, generation=row.generation)
                not_before = 0.0
            turn = Turn(max(slot, not_before), message, delay if is_alone else 0.0)
            return _worth_waiting_for(turn, now, is_crowded=is_crowded)

    def passage(self, row: HostRow, settings: CrawlSettings, until: float) -> Passage | None:
        """With what a host that is well is entered in its turn; none: it has no delay, or its slots are to be taken
        back first. It reads only: amid a turn."""
        delay, now = host.delay_for(row, settings), self._clock()
        spacing = host.spacing_for(row, delay)
        if delay == 0 or self._are_too_far(row, spacing, now):
            return None
        self._handed_out.put(row.host, _HandedOut(row.generation, spacing))
        late = max(LATE_SECONDS, 2 * delay)
        return Passage(delay_seconds=delay, spacing_seconds=spacing, late_seconds=late, until=until)

    async def take_back_for(self, settings: CrawlSettings) -> None:
        """See :meth:`sqspider.politeness.Politeness.take_back_slots`."""
        for row in await asyncio.gather(*map(self._rows.row, self._handed_out.keys())):
            spacing = host.spacing_for(row, host.delay_for(row, settings), settings.per_host)
            own = self._handed_out.get(row.host)
            if host.with_slots_taken_back(row, spacing, self._clock(), _spacing_of(own, row)) is not row:
                await self._take_back(row.host, spacing, own)

    async def close(self) -> None:
        await self._reserve.close()

    def _may_take_back(self, row: HostRow, spacing_seconds: float, now: float) -> bool:
        """Whether slots of a host are too far by now. Not again at once: in a crawl that is more patient with the
        host than this one, all would be far again."""
        if now < (self._stay_until.get(row.host) or 0.0):
            return False
        return self._are_too_far(row, spacing_seconds, now)

    def _are_too_far(self, row: HostRow, spacing_seconds: float, now: float) -> bool:
        is_met = self._handed_out.get(row.host) is not None
        return host.with_slots_taken_back(row, spacing_seconds, now, is_met=is_met) is not row

    async def _take_back(self, name: str, spacing_seconds: float, own: _HandedOut | None = None) -> None:
        """Let what waits for slots that are too far come back. Whoever dies in between leaves it to its time. ``own``:
        what was reserved here, where a shorter delay was just said."""
        self._stay_until.put(name, self._clock() + host.FAR_SECONDS)
        is_met = self._handed_out.get(name) is not None

        def change(row: HostRow) -> HostRow:
            said_after = own and _spacing_of(own, row)
            return host.with_slots_taken_back(row, spacing_seconds, self._clock(), said_after, is_met=is_met)

        if (await self._rows.change(name, change)).is_changed:
            log.info("slots_taken_back", host=name, released=await self._frontier.release_host(name))

    async def _reserve_slots(self, demands: Sequence[SlotDemand]) -> list[float | None]:
        """One write per host for all that ask at the same time."""
        merged = Counter(demands)
        firsts = await self._frontier.reserve(
            [msgspec.structs.replace(demand, count=count) for demand, count in merged.items()]
        )
        next_slots = dict(zip(merged, firsts, strict=True))
        slots: list[float | None] = []
        for demand in demands:
            slot = next_slots[demand]
            slots.append(slot)
            if slot is not None:
                next_slots[demand] = slot + demand.spacing_seconds
        return slots


def _good_slot(message: Message, row: HostRow, moment: float, delay_seconds: float) -> float | None:
    """The slot that a message carries, if it may be used at a moment: it is of the host's generation, and not long
    past."""
    if message.slot is None or message.generation != row.generation:
        return None
    return message.slot if moment <= message.slot + max(LATE_SECONDS, 2 * delay_seconds) else None


def _spacing_of(own: _HandedOut | None, row: HostRow) -> float:
    """At what spacing a worker has handed out slots that are not void yet. (Another may have taken back what it had
    heard of, before this one had heard that the delay is shorter.)"""
    return own.spacing_seconds if own is not None and own.generation == row.generation else 0.0


def _worth_waiting_for(turn: Turn, now: float, *, is_crowded: bool) -> Turn | Postponed:
    wait = turn.at - now
    if wait > NEAR_SECONDS or (wait > SOON_SECONDS and is_crowded):
        return Postponed(turn.at - SOON_SECONDS, turn.message)
    return turn
