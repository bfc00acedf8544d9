"""Writes of which nobody knows whether they were made: what was made is counted all the same, once.

A call that is cancelled, or given up after tries without an answer, may have been carried out. What it would have
counted is kept, and the record itself tells, the next time that sums are written.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from sqspider.frontier.aws.attributes import Item
from sqspider.frontier.aws.items import is_of
from sqspider.frontier.aws.table import Table
from sqspider.frontier.values import Won


class Doubt(NamedTuple):
    """A write of a record of which nobody knows whether it was made, and what it would have counted."""

    url: str
    is_made: Callable[[Item], bool]  # by the record
    add: Callable[[Item], None]

    @classmethod
    def of(cls, claim: Won, is_made: Callable[[Item], bool], add: Callable[[Item], None]) -> Doubt:
        """Of the end of a claim."""
        return cls(claim.url, lambda item: is_of(item, claim) and is_made(item), add)


class Doubts:
    """The writes in doubt of one process."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._doubts: list[Doubt] = []
        self._lock = asyncio.Lock()

    @contextlib.contextmanager
    def unless_answered(self, doubts: Iterable[Doubt]) -> Iterator[None]:
        """Within it records are written. If that ends without an answer, what was made is counted by :meth:`settle`."""
        try:
            yield
        except BaseException:
            self._doubts += doubts
            raise

    async def settle(self) -> None:
        """Count what was made, though whoever made it was not told. Raises :class:`FrontierBusyError`."""
        if not self._doubts:
            return
        async with self._lock:
            doubts = list(self._doubts)
            items = await self._table.read(doubt.url for doubt in doubts)
            del self._doubts[: len(doubts)]
        for doubt in doubts:
            if doubt.url in items and doubt.is_made(items[doubt.url]):
                doubt.add(items[doubt.url])

    def forget(self) -> None:
        """Forget them: the table was cleared."""
        self._doubts.clear()
