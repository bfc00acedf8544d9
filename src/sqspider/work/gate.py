"""A place that many may be in at the same time, or one alone: where claims are, and one that may kill its worker."""

from __future__ import annotations

import asyncio
from collections import deque


class Gate:
    """Lets many in together, or one alone, in the order in which they came: so neither kind starves the other.

    Whoever wants to be alone waits until all have left, and who comes later waits until that one has.
    """

    def __init__(self) -> None:
        self._inside = 0
        self._is_one_alone = False  # inside
        self._line: deque[tuple[asyncio.Future[bool], bool]] = deque()  # who waits, and whether to be alone

    @property
    def is_open(self) -> bool:
        """Nobody is alone inside, or waits to be."""
        return not self._line and not self._is_one_alone

    @property
    def inside(self) -> int:
        """How many are inside."""
        return self._inside

    @property
    def in_line(self) -> int:
        """How many wait."""
        return len(self._line)

    def enter(self, *, alone: bool) -> asyncio.Future[bool]:
        """A ticket, to be given back: done when its holder is let in, at once where that may be; false if sent away."""
        ticket: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._line.append((ticket, alone))
        self._let_in()
        return ticket

    def give_back(self, ticket: asyncio.Future[bool]) -> None:
        """Its holder is out, or waits no longer."""
        if ticket.done() and not ticket.cancelled() and ticket.result():
            self.leave()
        else:
            ticket.cancel()
            self._let_in()

    def join(self) -> None:
        """Be inside beside whoever is; to be asked for by those inside alone."""
        self._inside += 1

    def leave(self) -> None:
        """One of those inside is out."""
        self._inside -= 1
        self._is_one_alone = False
        self._let_in()

    def send_away(self) -> None:
        """Let nobody wait any longer."""
        while self._line:
            ticket, _ = self._line.popleft()
            if not ticket.done():
                ticket.set_result(False)

    def _let_in(self) -> None:
        while self._line and not self._is_one_alone:
            ticket, alone = self._line[0]
            if alone and self._inside and not ticket.done():
                return
            self._line.popleft()
            if not ticket.done():  # otherwise its holder waits no longer
                self._inside += 1
                self._is_one_alone = alone
                ticket.set_result(True)
