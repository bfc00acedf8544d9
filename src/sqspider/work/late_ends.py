"""Ends what waited for its end: for the store, or for who takes the pages; by the rules that hold by then.

A crawl's row may have changed meanwhile: whoever widened it has looked for what comes back, and did not find what had
no end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from sqspider.frontier import Clock
from sqspider.work.hand import Visit
from sqspider.work.page import End


class Ends(Protocol):
    """How a visit ends that has waited."""

    def end(self, visit: Visit, end: End) -> None:
        """End its record."""

    def hand_in(self, visit: Visit, answer: asyncio.Future[Any], then: Callable[[Visit, Any], None]) -> None:
        """End it with an answer, and what follows from it."""

    def put_off(self, visit: Visit, until: float) -> None:
        """Give it back unused."""


class RulesByNow(Protocol):
    """What has become of the rules that a visit was judged by."""

    def still_hold(self, visit: Visit) -> bool:
        """Whether they do, as far as is known without asking."""

    async def by_now(self, visit: Visit, end: End) -> End | None:
        """Its end by those that hold by now; none: it is to be judged anew."""


class LateEnds:
    """The ends of one worker's visits that have waited."""

    def __init__(self, ends: Ends, rules: RulesByNow, *, clock: Clock) -> None:
        self._ends = ends
        self._rules = rules
        self._clock = clock
        self._asking: set[asyncio.Task[End | None]] = set()  # what has become of rules

    def end(self, visit: Visit, end: End) -> None:
        """End a record by the rules that hold by now."""
        if self._rules.still_hold(visit):
            self._ends.end(visit, end)
            return
        asking = asyncio.create_task(self._rules.by_now(visit, end))
        self._asking.add(asking)
        asking.add_done_callback(self._asking.discard)
        self._ends.hand_in(visit, asking, self._end_by_now)

    def put_off(self, visit: Visit) -> None:
        """Give it back unused, at once."""
        self._ends.put_off(visit, self._clock())

    def _end_by_now(self, visit: Visit, end: End | None) -> None:
        if end is None:
            self.put_off(visit)
        else:
            self._ends.end(visit, end)

    async def close(self) -> None:
        """Wait until all are handed in whose rules are asked for."""
        while self._asking:
            await asyncio.wait(self._asking)
            await asyncio.sleep(0)  # by now what follows is handed in
