"""Who asks a host next, of those here whose turn has come: the first in line tries, the others stand behind it.

Where one request at a time is allowed, all but one would try in vain, each with a look at the host's row. So what the
first is told serves all; and who stands behind it is known, and can be claimed along with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from typing import Generic, TypeVar

from sqspider.work.waiting import Guest

G = TypeVar("G", bound=Guest)


class Lines(Generic[G]):
    """A line for each host. Whoever is in one steps out of it, however it ends."""

    def __init__(self) -> None:
        self._lines: dict[str, deque[tuple[G, asyncio.Future[None]]]] = {}

    def step_up(self, guest: G) -> asyncio.Future[None]:
        """Stand in line, once: done when it is the first."""
        line = self._lines.setdefault(guest.host, deque())
        for one, told in line:
            if one is guest:
                return told
        told = asyncio.get_running_loop().create_future()
        line.append((guest, told))
        if len(line) == 1:
            told.set_result(None)
        return told

    def step_out(self, guest: G, seconds: float = 0.0) -> None:
        """Leave the line, if it is in it. Who is the first by that is told so after so many seconds."""
        line = self._lines.get(guest.host)
        place = next((place for place, (one, _) in enumerate(line or ()) if one is guest), None)
        if line is None or place is None:
            return
        del line[place]
        if not line:
            del self._lines[guest.host]
        elif not place:
            asyncio.get_running_loop().call_later(max(0.0, seconds), _tell, line[0][1])

    def behind(self, guest: G) -> Iterator[G]:
        """Those behind the first of a line, from the front; none for who is not the first."""
        line = self._lines.get(guest.host)
        if line and line[0][0] is guest:
            yield from [one for one, _ in line][1:]


def _tell(told: asyncio.Future[None]) -> None:
    if not told.done():
        told.set_result(None)
