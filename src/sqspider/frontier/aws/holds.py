"""Hosts that this process has for itself for a moment, so that a page with a delay costs one write of its host's row.

A permission that is written in the usual way is taken back by a second write. A **hold** ends by itself, at a moment
that stands in the row: others wait until then. So whoever has a host's next slot at once takes it in the same write,
and that a request is over rides along with a later write, if it left in time and nobody is seen to wait for the host.
What takes longer is prolonged before, or broken off (``Admission.lapses_at``), so a hold is over when others take the
host. Within a second of its write a hold lets in one request after the other, at their distance, without a write.

Holds are for hosts that are asked one thing at a time, are in no trouble, and by a clock that needed no setting right.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import msgspec

from sqspider.host import Admission, Entered, Entrance, Exit, HostRow, HostState

BEGIN_SECONDS: Final = 0.5  # after it was taken, in which a request leaves: for the claim and the connection
PROLONG_SECONDS: Final = 0.5  # at least, for the write that prolongs one
HAND_OVER_SECONDS: Final = 0.1  # by which clocks may differ: others come so much later
HELD_SECONDS: Final = 1.0  # of an own hold in which nothing is asked of the frontier: an order is seen after that
BUSY_SECONDS: Final = 0.25  # between two looks at a host that others have: each is a read
LONGEST_BUSY_SECONDS: Final = 0.5  # that it is looked away from
SHORT_SECONDS: Final = 0.25  # a delay of less: who has more for a host keeps it, though others wait


@dataclass(eq=False)
class Hold:
    """The right to ask one host, one thing at a time, that ends by itself."""

    token: str  # in the host's row, among its requests
    taken_at: float
    lapses_at: float  # by this clock: in the row it is a little later
    delay_seconds: float  # the longest that it was made for
    asked_at: float = 0.0  # when the last request under it left, or was let in
    request: str | None = None  # the token of the one under way
    is_prolonged: bool = False  # for that one, as a permission that is written in the usual way
    is_replaced: bool = False  # another one is being written in its place, or was: it lets nobody in

    def is_kept(self, end: Exit, now: float) -> bool:
        """Whether others are kept away for long enough by it after a request, without a word of its end."""
        left_in_time = end.requested_at + self.delay_seconds <= self.lapses_at
        return left_in_time and now <= self.lapses_at and not self.is_prolonged

    def lets_in(self, entrance: Entrance, state: HostState, now: float) -> bool:
        """Whether a request may be made under it without a word to the frontier, for all that is known of the host."""
        row = state.row
        return (
            self.request is None
            and not (self.is_prolonged or self.is_replaced)
            and self.taken_at <= now <= self.taken_at + HELD_SECONDS
            and now <= self.lapses_at - max(self.delay_seconds, PROLONG_SECONDS) - BEGIN_SECONDS / 2
            and entrance.delay_seconds <= self.delay_seconds
            and (entrance.generation is None or entrance.generation == row.generation)
            and not (row.is_paused or row.is_blocked or row.rests or row.rest_until > now)
            and {token for token, until in state.requests.items() if until >= now} == {self.token}
        )


def hold_for(row: HostRow, token: str, delay_seconds: float, now: float, typical_seconds: float) -> Hold:
    """A new hold, long enough for a request that takes as long as the host's do; ``typical_seconds``: as any host's."""
    takes = BEGIN_SECONDS + 1.14 * (row.latency_seconds or typical_seconds)
    if delay_seconds < SHORT_SECONDS:  # for several
        takes += HELD_SECONDS
    return Hold(token, now, now + takes + max(delay_seconds, PROLONG_SECONDS), delay_seconds)


class Holds:
    """The holds of this process, by host."""

    def __init__(self) -> None:
        self._by_host: dict[str, Hold] = {}
        self.typical_seconds = 0.0  # that requests took lately, of whatever host
        self._busy: dict[str, float] = {}  # hosts that others have, and when to look again

    def of(self, host: str) -> Hold | None:
        return self._by_host.get(host)

    def of_request(self, host: str, token: str) -> Hold | None:
        """The hold under which a request is made; none: it was let in in the usual way."""
        hold = self._by_host.get(host)
        return hold if hold is not None and hold.request == token else None

    def put(self, host: str, hold: Hold) -> None:
        self._by_host[host] = hold

    def drop(self, host: str) -> None:
        self._by_host.pop(host, None)

    def forget_the_lapsed(self, now: float) -> None:
        """Forget those that nobody counts on any more."""
        for host, hold in list(self._by_host.items()):
            if hold.request is None and hold.lapses_at < now:
                del self._by_host[host]
        for host, until in list(self._busy.items()):
            if until < now:
                del self._busy[host]

    def note_busy(self, host: str, admission: Admission, now: float) -> None:
        """Nobody here looks at a host again before it may be free."""
        if admission.entered is Entered.BUSY and admission.again_at <= now + LONGEST_BUSY_SECONDS:
            self._busy[host] = admission.again_at

    def clear(self) -> None:
        self._by_host.clear()

    def without_own(self, state: HostState) -> HostState:
        """The state without an own hold that is not used: another one may take its place."""
        hold = self._by_host.get(state.row.host)
        if hold is None or hold.request is not None or hold.token not in state.requests:
            return state
        return HostState(row=state.row, requests={t: until for t, until in state.requests.items() if t != hold.token})

    def replace(self, state: HostState, hold: Hold) -> HostState:
        """The state with a new hold, in place of an own one, which lets nobody in from now on: if the write fails, that
        one's entry ends by itself."""
        old = self._by_host.get(state.row.host)
        if old is not None:
            old.is_replaced = True
        return HostState(row=state.row, requests={**state.requests, hold.token: hold.lapses_at + HAND_OVER_SECONDS})

    def admit(self, entrance: Entrance, state: HostState | None, now: float) -> Admission | None:
        """The answer to an entrance, if it is known without asking: it is too soon in any case, or there is an own hold
        of the host. ``state``: what is known of it."""
        hold, delay = self._by_host.get(entrance.host), entrance.delay_seconds
        if state is None or (hold is not None and hold.request == entrance.token):
            return None
        if (
            hold is None
            and entrance.heeds_lapse
            and now < (again_at := self._busy.get(entrance.host, 0.0)) <= now + LONGEST_BUSY_SECONDS
        ):
            return Admission(entered=Entered.BUSY, again_at=again_at)
        # Others can have asked it later than is known here, but not sooner.
        asked_at = max(state.row.last_request, hold.asked_at if hold is not None else 0.0)
        if asked_at <= now < asked_at + delay:
            return Admission(entered=Entered.BUSY, again_at=asked_at + delay)
        if hold is not None and hold.request is not None and not hold.is_prolonged and now <= hold.lapses_at:
            return Admission(entered=Entered.BUSY, again_at=now + min(max(delay / 4, 0.01), 0.5))
        if not entrance.heeds_lapse or hold is None or not hold.lets_in(entrance, state, now):
            return None
        hold.request, hold.asked_at = entrance.token, now
        return Admission(entered=Entered.YES, lapses_at=hold.lapses_at)


def is_wanted(row: HostRow, hold: Hold) -> bool:
    """Whether slots after the one that a hold was taken for were given out: somebody waits for the host."""
    return row.next_slot > hold.taken_at + 1.5 * max(row.slot_spacing_seconds, hold.delay_seconds)


def later_if_held(admission: Admission, state: HostState, now: float) -> Admission:
    """The answer to who found others in the host: when to look again."""
    ends = [until for until in state.requests.values() if until >= now]
    if admission.entered is not Entered.BUSY or not ends:
        return admission
    return msgspec.structs.replace(admission, again_at=max(admission.again_at, min(now + BUSY_SECONDS, *ends)))
