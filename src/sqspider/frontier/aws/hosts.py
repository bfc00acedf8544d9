"""What hosts are asked for: their rows, slots, and who may ask them for something now.

What decides is :mod:`sqspider.host`; how a row is changed by one writer at a time is in ``host_rows``, what of it is
not written each time in ``holds``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

import msgspec

from sqspider.frontier.aws.holds import SHORT_SECONDS, Hold, hold_for, is_wanted, later_if_held
from sqspider.frontier.aws.host_rows import NO_MARK
from sqspider.frontier.aws.part import Part
from sqspider.frontier.aws.table import mark_by
from sqspider.host import (
    Admission,
    Entered,
    Entrance,
    Exit,
    HostRow,
    HostState,
    SlotDemand,
    entered,
    left,
    reserved,
    saved,
    slowest,
)
from sqspider.host_trouble import is_in_trouble


class Hosts(Part):
    """The operations on hosts: with :class:`~.robots.Robots` what :class:`~sqspider.frontier.Hosts` promises."""

    @property
    def generation(self) -> int:
        return self._host_rows.generation

    async def hosts(self, hosts: Sequence[str]) -> dict[str, HostRow]:
        return await self._host_rows.get(hosts)

    async def scan_hosts(self) -> list[HostRow]:
        await self._host_rows.flush()
        return await self._host_rows.listed()

    async def slowest_hosts(self, most: int) -> list[HostRow]:
        return slowest(await self.scan_hosts(), most)

    async def hosts_in_trouble(self) -> list[HostRow]:
        now = self._clock()
        return [row for row in await self._host_rows.listed(after=NO_MARK) if is_in_trouble(row, now)]

    async def save_hosts(self, rows: Sequence[HostRow]) -> list[bool]:
        now = self._clock()
        return await self._host_rows.change([(row.host, partial(saved, row=row, now=now)) for row in rows])

    async def reserve(self, demands: Sequence[SlotDemand]) -> list[float | None]:
        answers = await self._host_rows.change([(it.host, partial(self._reserved, demand=it)) for it in demands])
        for demand, (_, hold) in zip(demands, answers, strict=True):
            self._keep(demand.host, hold)
        return [first for first, _ in answers]

    def _reserved(self, state: HostState, demand: SlotDemand) -> tuple[HostState, tuple[float | None, Hold | None]]:
        """Hand out slots, and enter the host in the same write if the first of them is now."""
        now, row = self._clock(), state.row
        new, first = reserved(state, demand, now)
        free = self._holds.without_own(new)
        is_free = not any(until >= now for until in free.requests.values())
        is_its_moment = first is not None and first <= now and row.last_request + demand.spacing_seconds <= now
        if not (demand.is_entered and is_free and is_its_moment and self._may_hold(row)):
            return new, (first, None)
        hold = hold_for(row, mark_by(self._rng), demand.spacing_seconds, now, self._holds.typical_seconds)
        return self._holds.replace(HostState(row=new.row), hold), (first, hold)

    async def enter(self, entrances: Sequence[Entrance]) -> list[Admission]:
        now, known = self._clock(), self._host_rows.known
        told = [self._holds.admit(entrance, known(entrance.host), now) for entrance in entrances]
        asked = [entrance for entrance, answer in zip(entrances, told, strict=True) if answer is None]
        changes = [(entrance.host, partial(self._entered, entrance=entrance)) for entrance in asked]
        answers = iter(await self._host_rows.change(changes))
        for number, (entrance, answer) in enumerate(zip(entrances, told, strict=True)):
            if answer is None:
                admission, hold = next(answers)
                told[number] = admission
                self._keep(entrance.host, hold)
                self._holds.note_busy(entrance.host, admission, self._clock())
        return [answer for answer in told if answer is not None]

    def _entered(self, state: HostState, entrance: Entrance) -> tuple[HostState, tuple[Admission, Hold | None]]:
        now = self._clock()  # when it is written, not when it was asked
        if (hold := self._holds.of_request(entrance.host, entrance.token)) is not None:
            return self._prolonged(state, entrance, hold)
        if not (entrance.heeds_lapse and entrance.per_host == 1 and self._may_hold(state.row)):
            new, admission = entered(state, entrance, now)
            return new, (later_if_held(admission, state, now), None)
        hold = hold_for(state.row, entrance.token, entrance.delay_seconds, now, self._holds.typical_seconds)
        hold.request, hold.asked_at = entrance.token, now
        new, admission = entered(self._holds.without_own(state), entrance, now)
        if admission.entered is not Entered.YES:
            return state, (later_if_held(admission, state, now), None)
        return self._holds.replace(new, hold), (msgspec.structs.replace(admission, lapses_at=hold.lapses_at), hold)

    def _prolonged(
        self, state: HostState, entrance: Entrance, hold: Hold
    ) -> tuple[HostState, tuple[Admission, Hold | None]]:
        """Let a request go on until it is over, if it still has its host."""
        if hold.token not in state.requests:
            return state, (Admission(entered=Entered.VOID), None)
        hold.is_prolonged = True  # though it may not be written: then its end is written all the same
        requests = {**state.requests, hold.token: entrance.until}
        return HostState(row=state.row, requests=requests), (Admission(entered=Entered.YES), None)

    def _may_hold(self, row: HostRow) -> bool:
        is_own_time = not self._clock.offset  # what AWS's answers tell is exact to a second
        return is_own_time and not (row.rests or row.is_paused or row.is_blocked)

    def _keep(self, host: str, hold: Hold | None) -> None:
        if hold is not None:
            self._holds.put(host, hold)

    async def leave(self, exits: Sequence[Exit]) -> None:
        told = await asyncio.gather(*map(self._left, exits))
        await self._host_rows.change([(end.host, partial(left, end=end)) for end in told if end is not None])

    async def _left(self, end: Exit) -> Exit | None:
        """What is to be written of the end of a request; none where it rides along."""
        now, hold = self._clock(), self._holds.of_request(end.host, end.token)
        self._holds.forget_the_lapsed(now)
        if end.latency_seconds is not None:
            self._holds.typical_seconds += (end.latency_seconds - self._holds.typical_seconds) / 8
        if hold is None:
            return end
        hold.request, hold.asked_at = None, max(hold.asked_at, end.requested_at)
        state = self._host_rows.known(end.host)
        if hold.is_kept(end, now) and state is not None and state.row.rests == 0:
            if not is_wanted(state.row, hold):
                self._host_rows.ride(end.host, partial(left, end=_of_no_request(end)))
                return None
            if hold.delay_seconds < SHORT_SECONDS:
                self._host_rows.ride(end.host, partial(left, end=_of_no_request(end)))
                return await self._let_go(end.host, hold)
        self._holds.drop(end.host)
        return msgspec.structs.replace(end, token=hold.token)

    async def _let_go(self, host: str, hold: Hold) -> Exit | None:
        """Wait whether there is more to be asked of a host that others wait for; if not, it is theirs."""
        asked_at = hold.asked_at
        await asyncio.sleep(1.5 * hold.delay_seconds + 0.02)
        if hold.request is not None or hold.asked_at != asked_at or self._holds.of(host) is not hold:
            return None
        self._holds.drop(host)
        return Exit(host=host, token=hold.token, requested_at=0.0, latency_seconds=None)

    async def release_host(self, host: str) -> int:  # noqa: ARG002 - the port's signature
        return 0  # SQS cannot look for messages: they come back at their time


def _of_no_request(end: Exit) -> Exit:
    """When it was asked and how long it took, of a request whose place another one may have taken."""
    return msgspec.structs.replace(end, token="")
