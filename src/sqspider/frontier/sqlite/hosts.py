"""Host rows, slots and the requests that are under way: how they are kept.

What happens to a host is said by the functions of :mod:`sqspider.host`; here each is one write.
"""

from __future__ import annotations

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Final, TypeVar

import msgspec

from sqspider.frontier.sqlite import counters
from sqspider.frontier.sqlite.connection import Part, Transaction
from sqspider.frontier.sqlite.keys import keys_of_host
from sqspider.frontier.sqlite.rows import HOST_COLUMNS, STEP, host_row, whole
from sqspider.host import (
    Admission,
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
from sqspider.url import host_of

T = TypeVar("T")
HostChange = Callable[..., tuple[HostState, T]]  # of a state, and the moment at which it happens, ``now``

HOSTS: Final = f"SELECT {', '.join(HOST_COLUMNS)} FROM host WHERE host IN (SELECT value FROM json_each(?))"
ALL_HOSTS: Final = f"SELECT {', '.join(HOST_COLUMNS)} FROM host ORDER BY host"
HOSTS_IN_TROUBLE: Final = f"""
SELECT {", ".join(HOST_COLUMNS)} FROM host INDEXED BY host_trouble WHERE was_in_trouble = 1 ORDER BY host
"""
SAVE_HOST: Final = f"""
INSERT INTO host ({", ".join(HOST_COLUMNS)}, was_in_trouble)
VALUES ({", ".join(f":{name}" for name in HOST_COLUMNS)}, :was_in_trouble)
ON CONFLICT (host) DO UPDATE SET
    {", ".join(f"{name} = excluded.{name}" for name in (*HOST_COLUMNS[1:], "was_in_trouble"))}
"""
BEGIN_REQUEST: Final = "INSERT OR REPLACE INTO request (host, token, until) VALUES (?, ?, ?)"
END_REQUEST: Final = "DELETE FROM request WHERE host = ? AND token = ?"
REQUESTS: Final = "SELECT host, token, until FROM request WHERE host IN (SELECT value FROM json_each(?))"
PUT_OFF_OF_HOST: Final = """
SELECT id, key, url, visible_at > :now FROM record INDEXED BY record_put_off
WHERE queue = 1 AND key >= :after AND key <= :last AND (key > :after OR id > :after_id) ORDER BY key, id LIMIT :limit
"""
RELEASE: Final = """
UPDATE record NOT INDEXED SET visible_at = :now
WHERE id IN (SELECT value FROM json_each(:ids)) AND queue = 1 AND visible_at > :now
"""


class Hosts(Part):
    """Host rows, slots and requests."""

    async def hosts(self, hosts: Sequence[str]) -> dict[str, HostRow]:
        def work(connection: sqlite3.Connection) -> dict[str, HostRow]:
            # First: what is read after it is as new or newer.
            self._file.generation = counters.number(connection, "generation")
            return rows_of(connection, self._file.path, hosts)

        return await self._file.read(work)

    async def hosts_in_trouble(self) -> list[HostRow]:
        now = self._file.clock()
        rows = whole(host_row, await self._file.rows(HOSTS_IN_TROUBLE), "host", self._file.path)
        return [row for row in rows if is_in_trouble(row, now)]

    async def slowest_hosts(self, most: int) -> list[HostRow]:
        def work(connection: sqlite3.Connection) -> list[HostRow]:
            # One by one: a hundred thousand rows take seventy megabytes.
            rows = connection.execute(ALL_HOSTS)
            return slowest((whole(host_row, (row,), "host", self._file.path)[0] for row in rows), most)

        return await self._file.read(work)

    async def scan_hosts(self) -> list[HostRow]:
        def work(connection: sqlite3.Connection) -> list[HostRow]:
            return whole(host_row, connection.execute(ALL_HOSTS), "host", self._file.path)

        return await self._file.read(work)

    async def save_hosts(self, rows: Sequence[HostRow]) -> list[bool]:
        return await self._change([(row.host, partial(saved, row=row)) for row in rows])

    async def reserve(self, demands: Sequence[SlotDemand]) -> list[float | None]:
        return await self._change([(demand.host, partial(reserved, demand=demand)) for demand in demands])

    async def enter(self, entrances: Sequence[Entrance]) -> list[Admission]:
        return await self._change([(entrance.host, partial(entered, entrance=entrance)) for entrance in entrances])

    async def leave(self, exits: Sequence[Exit]) -> None:
        await self._change([(end.host, leaving(end)) for end in exits])

    async def _change(self, changes: Sequence[tuple[str, HostChange[T]]]) -> list[T]:
        """Change the states of hosts, one change after the other, in one transaction; their answers."""

        def work(transaction: Transaction) -> list[T]:
            states = States(transaction)
            states.read(host for host, _ in changes)
            answers = [states.change_host(host, partial(change, now=transaction.now)) for host, change in changes]
            states.save()
            return answers

        return await self._file.write(work)

    async def release_host(self, host: str) -> int:
        now, released = self._file.clock(), 0
        first, last = keys_of_host(host)
        place = {"after": first, "after_id": 0, "last": last, "now": now, "limit": STEP}
        while rows := await self._file.rows(PUT_OFF_OF_HOST, place):
            place["after_id"], place["after"], *_ = rows[-1]
            if put_off := [id_ for id_, _, url, is_put_off in rows if is_put_off and host_of(url) == host]:
                # By the clock of each step: who works for one crawl alone has passed what became visible long ago.
                moment = {"ids": json.dumps(put_off), "now": self._file.clock()}
                released += await self._file.change(RELEASE, moment)
        self._file.news.set()
        return released


def rows_of(connection: sqlite3.Connection, path: str, hosts: Sequence[str]) -> dict[str, HostRow]:
    """The rows of some hosts; one that is not known has a fresh row."""
    found = connection.execute(HOSTS, (json.dumps(hosts),)).fetchall()
    known = {row.host: row for row in whole(host_row, found, "host", path)}
    return {host: known.get(host) or HostRow(host=host) for host in hosts}


def leaving(end: Exit) -> HostChange[None]:
    """The end of a request: the same at any moment."""
    return lambda state, now: left(state, end)  # noqa: ARG005 - every change of a host is told the moment


class States:
    """The states of hosts in one transaction: each is read once, and written once if it has changed."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._old: dict[str, HostState] = {}
        self._new: dict[str, HostState] = {}

    def read(self, hosts: Iterable[str]) -> None:
        """Read those that were not yet; before any is changed by other means."""
        names = [host for host in dict.fromkeys(hosts) if host not in self._old]
        if not names:
            return
        requests: defaultdict[str, dict[str, float]] = defaultdict(dict)
        for host, token, until in self._transaction.connection.execute(REQUESTS, (json.dumps(names),)):
            requests[host][token] = until
        for host, row in rows_of(self._transaction.connection, self._transaction.path, names).items():
            self._old[host] = self._new[host] = HostState(row=row, requests=requests[host])

    def host_row(self, host: str) -> HostRow:
        """The row of one that was read."""
        return self._new[host].row

    def rows_of(self, hosts: Iterable[str]) -> dict[str, HostRow]:
        """The rows of some, read where they were not."""
        names = list(dict.fromkeys(hosts))
        unread = [host for host in names if host not in self._new]
        read = rows_of(self._transaction.connection, self._transaction.path, unread) if unread else {}
        return {host: read[host] if host in read else self._new[host].row for host in names}

    def change_host(self, host: str, change: Callable[[HostState], tuple[HostState, T]]) -> T:
        """Change one that was read; the answer."""
        self._new[host], answer = change(self._new[host])
        return answer

    def save(self) -> None:
        """Write what has changed."""
        rows, ended, begun = [], [], []
        for host, old in self._old.items():
            new = self._new[host]
            if new.row is not old.row:
                rows.append(new.row)
            ended += [(host, token) for token in old.requests.keys() - new.requests.keys()]
            begun += [(host, token, new.requests[token]) for token in new.requests.keys() - old.requests.keys()]
        moment = self._transaction.now
        saves = [{**msgspec.structs.asdict(row), "was_in_trouble": is_in_trouble(row, moment)} for row in rows]
        self._transaction.change_each(SAVE_HOST, saves)
        self._transaction.change_each(END_REQUEST, ended)
        self._transaction.change_each(BEGIN_REQUEST, begun)
