"""What is final but for its record: held until who takes the pages has done with it.

A record must not end before somebody has dealt with its page. So whoever takes pages gets each with its claim still
open: the record ends when that one says so. Meanwhile the claim is prolonged, its place at the gate is kept, and no
runner is. What was not dealt with is given back unused; who is killed leaves it to its lease. It ends by the rules that
hold by then: see ``late_ends``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any, Final

from sqspider.log import get_logger
from sqspider.message import Message
from sqspider.work.hand import Hand, Visit
from sqspider.work.late_ends import LateEnds
from sqspider.work.page import End
from sqspider.work.prolonging import Prolonging

MOST_HELD: Final = 17  # one that is being dealt with, and sixteen ahead: nothing more is claimed then
LEAST_SHARE: Final = 2 / 3  # of a lease that is left to what is held

log = get_logger(__name__)


class Held:
    """The end of a URL, before its record ends. It must be finished or given back, once; what is said later, or after
    its worker was stopped, changes nothing."""

    def __init__(
        self,
        message: Message,
        end: End,
        settle: Callable[[Held, bool], None],
        meta: str | None = None,
    ) -> None:
        self.message = message
        self.end = end
        self.meta = meta  # what its record says of it
        self.is_lost = False  # another claim was made: somebody else gets it
        self._settle = settle

    def finish(self) -> None:
        """It was dealt with: its record ends."""
        self._settle(self, True)

    def give_back(self) -> None:
        """It was not: it comes again, unused."""
        self._settle(self, False)


Take = Callable[[Held], None]
"""Takes what is held. It does not wait."""


class Holding:
    """What one worker holds."""

    def __init__(self, ends: LateEnds, prolonging: Prolonging, hand: Hand, take: Take) -> None:
        self._ends = ends
        self._prolonging = prolonging
        self._hand = hand
        self._take = take
        self._held: dict[Held, Visit] = {}
        self._line: dict[Visit, asyncio.Future[None]] = {}  # who waits for room, the first first
        self._expected = 0  # that are being kept, and held then
        self._is_left = False

    @property
    def is_full(self) -> bool:
        """Whether so many wait that nothing more is to be claimed."""
        return self._room <= 0

    @property
    def _room(self) -> int:
        return MOST_HELD - len(self._held) - self._expected

    @property
    def number(self) -> int:
        """How many visits are held, or wait for room."""
        return len(self._held) + len(self._line)

    def step_up(self, visit: Visit) -> asyncio.Future[None]:
        """Stand in line for room; done when there is some."""
        told = self._line[visit] = asyncio.get_running_loop().create_future()
        return told

    def has_room_for(self, visit: Visit) -> bool:
        """Whether a visit may go on, which stands in line no more. What is claimed already does: its lease runs."""
        self._line.pop(visit, None)
        return visit.claim is not None or not self.is_full

    def expect(self, answer: asyncio.Future[Any]) -> None:
        """One more is to be held, if all goes well, when an answer is there: to be called once it is known what
        follows from that."""
        self._expected += 1
        answer.add_done_callback(self._arrive)

    def _arrive(self, _: asyncio.Future[Any]) -> None:
        self._expected -= 1
        self._let_in()

    def hold(self, visit: Visit, end: End) -> None:
        """Hand out the end of a visit, and hold the visit until that was dealt with."""
        if self._is_left:
            self._ends.put_off(visit)
            return
        visit.is_over = True
        visit.ending += 1
        held = Held(visit.message, end, self._settle, visit.claim.meta if visit.claim else None)
        self._held[held] = visit
        self._prolonging.begin(visit, LEAST_SHARE, partial(self._lose, held))
        self._take(held)

    def leave(self) -> None:
        """Give back what is held, and from now on whatever would be."""
        self._is_left = True
        for held in list(self._held):
            held.give_back()

    def _settle(self, held: Held, is_done: bool) -> None:
        if held not in self._held:
            return
        visit = self._let_go(held)
        if is_done:
            self._ends.end(visit, held.end)
        else:
            self._ends.put_off(visit)

    def _let_go(self, held: Held) -> Visit:
        visit = self._held.pop(held)
        self._prolonging.end(visit)
        visit.ending -= 1
        self._let_in()
        return visit

    def _let_in(self) -> None:
        for first in list(islice(self._line, max(0, self._room))):
            self._line.pop(first).set_result(None)

    def _lose(self, held: Held) -> None:
        """Somebody else has claimed it while this process, say, was asleep: what ended here is not to be believed."""
        log.warning("lease_lost", url=held.message.url, what="it is handed out again by whoever has it now")
        held.is_lost = True
        visit = self._let_go(held)
        if not visit.ending:
            self._hand.release(visit)
