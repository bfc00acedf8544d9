"""Hosts in memory: their rows, slots and requests under way, and robots.txt."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence

from sqspider.frontier.memory.part import Part, operation
from sqspider.frontier.values import RobotsRow
from sqspider.host import Admission, Entrance, Exit, HostRow, SlotDemand, entered, left, reserved, saved, slowest
from sqspider.host_trouble import is_in_trouble


class Hosts(Part):
    """What politeness knows of all workers."""

    @operation
    def hosts(self, hosts: Sequence[str]) -> dict[str, HostRow]:
        self._generation = self._store.generation
        return self._rows(hosts)

    def _rows(self, hosts: Iterable[str]) -> dict[str, HostRow]:
        known = self._store.hosts
        return {host: known[host].row if host in known else HostRow(host=host) for host in hosts}

    @operation
    def slowest_hosts(self, most: int) -> list[HostRow]:
        return slowest(self._host_rows(), most)

    @operation
    def scan_hosts(self) -> list[HostRow]:
        return self._host_rows()

    @operation
    def hosts_in_trouble(self) -> list[HostRow]:
        return [row for row in self._host_rows() if is_in_trouble(row, self._clock())]

    def _host_rows(self) -> list[HostRow]:
        return [self._store.hosts[host].row for host in sorted(self._store.hosts)]

    @operation
    def save_hosts(self, rows: Sequence[HostRow]) -> list[bool]:
        now = self._clock()
        return [self._store.change_host(row.host, functools.partial(saved, row=row, now=now)) for row in rows]

    @operation
    def release_host(self, host: str) -> int:
        released = self._store.queue.release(host, self._clock())
        self._store.tell()
        return released

    @operation
    def reserve(self, demands: Sequence[SlotDemand]) -> list[float | None]:
        now = self._clock()
        return [self._store.change_host(d.host, functools.partial(reserved, demand=d, now=now)) for d in demands]

    @operation
    def enter(self, entrances: Sequence[Entrance]) -> list[Admission]:
        now = self._clock()
        return [self._store.change_host(e.host, functools.partial(entered, entrance=e, now=now)) for e in entrances]

    @operation
    def leave(self, exits: Sequence[Exit]) -> None:
        self._leave(exits)

    def _leave(self, exits: Sequence[Exit]) -> None:
        for end in exits:
            self._store.change_host(end.host, functools.partial(left, end=end))

    @operation
    def robots(self, origins: Sequence[str]) -> dict[str, RobotsRow]:
        return {origin: self._store.robots[origin] for origin in origins if origin in self._store.robots}

    @operation
    def lease_robots(self, origins: Sequence[str], *, until: float) -> list[bool]:
        return [self._lease_robots(origin, until) for origin in origins]

    def _lease_robots(self, origin: str, until: float) -> bool:
        if self._store.robots_leases.get(origin, -math.inf) >= self._clock():
            return False
        self._store.robots_leases[origin] = until
        return True

    @operation
    def save_robots(self, rows: Sequence[RobotsRow]) -> None:
        for row in rows:
            self._store.robots[row.origin] = row
            self._store.robots_leases.pop(row.origin, None)
