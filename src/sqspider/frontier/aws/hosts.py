"""What hosts are asked for: their rows, slots, and who may ask them for something now.

What decides is :mod:`sqspider.host`; how a row is changed by one writer at a time is in ``host_rows``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from sqspider.frontier.aws.host_rows import NO_MARK, HostChange
from sqspider.frontier.aws.part import Part
from sqspider.host import Admission, Entrance, Exit, HostRow, SlotDemand, entered, left, reserved, saved
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

    async def hosts_in_trouble(self) -> list[HostRow]:
        now = self._clock()
        return [row for row in await self._host_rows.listed(after=NO_MARK) if is_in_trouble(row, now)]

    async def save_hosts(self, rows: Sequence[HostRow]) -> list[bool]:
        now = self._clock()
        return await self._host_rows.change([(row.host, partial(saved, row=row, now=now)) for row in rows])

    async def reserve(self, demands: Sequence[SlotDemand]) -> list[float | None]:
        now = self._clock()
        return await self._host_rows.change([(it.host, partial(reserved, demand=it, now=now)) for it in demands])

    async def enter(self, entrances: Sequence[Entrance]) -> list[Admission]:
        def let_in(entrance: Entrance) -> HostChange[Admission]:
            return lambda state: entered(state, entrance, self._clock())  # when it is written, not when it was asked

        return await self._host_rows.change([(entrance.host, let_in(entrance)) for entrance in entrances])

    async def leave(self, exits: Sequence[Exit]) -> None:
        await self._host_rows.change([(end.host, partial(left, end=end)) for end in exits])

    async def release_host(self, host: str) -> int:  # noqa: ARG002 - the port's signature
        return 0  # SQS cannot look for messages: they come back at their time
