"""Whether this worker can ask anything at all: the gate before every request, for trouble that is our own.

    up     every request may be made.
    down   by trouble of ours, or of a host that nobody tells from ours. One request at a time probes, after 1, 2,
           4 ... 60 s. Any answer of any host: up. The same kind of trouble: it waits longer. After a day of waiting
           the worker ends.

No URL and no host pays for it. What is known here is of one worker, and lost with it: the next one finds out anew.
No I/O lives here, and no clock.
"""

from __future__ import annotations

from typing import Final

from sqspider.record import Reason
from sqspider.retry import Fault

LONGEST_WAIT_SECONDS: Final = 60.0  # between two probes
PATIENCE_SECONDS: Final = 86_400.0  # of waiting for probes: time that was slept through is none
FEWER_SECONDS: Final = 60.0  # after a shortage there are fewer requests at a time
DOUBTED_SECONDS: Final = 2.0  # after other hosts one may probe whose trouble it may be
MAX_DOUBTED: Final = 10_000  # hosts whose trouble may be ours


class Network:
    """The gate. Times are seconds since the epoch, as the caller's clock has them."""

    def __init__(self) -> None:
        self.since: float | None = None  # when it went down; none: it is up
        self.again_at = 0.0  # when the next probe may be made
        self.reason: Reason | None = None  # of the last trouble
        self.detail = ""
        self._failed_at = 0.0  # the last time: what was asked before is known by it
        self._waited = 0.0  # in this trouble
        self._next_wait = 1.0
        self._is_probing = False
        self._last_answer = ("", 0.0)  # the host, and when
        self._answer_of_another = 0.0  # the last one of a host that is not that one
        self._doubted: dict[str, float] = {}  # since when a host has trouble that may be ours
        self._fewer: tuple[int, float] | None = None  # requests at a time, and until when

    @property
    def is_down(self) -> bool:
        return self.since is not None

    @property
    def is_spent(self) -> bool:
        """It was waited for long enough: this worker should end."""
        return self.is_down and self._waited >= PATIENCE_SECONDS

    def turn_of(self, host: str) -> float:
        """When a host may be asked for a probe: one whose trouble may be its own comes after the others, so that
        these can show that our network works."""
        return self.again_at + (DOUBTED_SECONDS if host in self._doubted else 0.0)

    def may_ask(self, host: str, now: float) -> bool:
        """Whether a request may be made now. While down one at a time may, the probe: :meth:`release` ends it."""
        if not self.is_down:
            return True
        if self._is_probing or now < self.turn_of(host):
            return False
        self._is_probing = True
        return True

    def release(self) -> None:
        """The probe is over, whatever came of it: another may be made at its time."""
        self._is_probing = False

    def answered(self, host: str, now: float) -> bool:
        """A host answered, whatever it said. True where that ends trouble."""
        last, at = self._last_answer
        if last != host:
            self._answer_of_another = at
        self._last_answer = (host, now)
        self._doubted.pop(host, None)
        was_down, self.since = self.is_down, None
        self._waited, self._next_wait = 0.0, 1.0
        return was_down

    def is_ours(self, fault: Fault, host: str, asked_at: float, *, may_be_proxys: bool = False) -> bool:
        """Whether trouble with a host, asked at some moment, is ours. Where nobody knows, it is the host's if
        another host has answered since that host's trouble began: so our network works. ``may_be_proxys``: a proxy
        took the request, and no answer came; if none ever did, it is the proxy's."""
        if may_be_proxys and not any(self._last_answer):
            return True
        if fault is not Fault.HOST_OR_OURS:
            return fault is Fault.OURS
        if len(self._doubted) >= MAX_DOUBTED:
            self._doubted.clear()
        began_at = self._doubted.setdefault(host, asked_at)
        last, at = self._last_answer
        heard_at = self._answer_of_another if last == host else at
        return self.is_down or heard_at < began_at

    def failed(self, reason: Reason, detail: str, *, asked_at: float, now: float, in_flight: int = 1) -> bool:
        """A request met trouble of ours. True where it went down by that; a burst of it counts once."""
        if self.is_down and asked_at <= self._failed_at:
            return False
        went_down = not self.is_down
        self.since = now if self.since is None else self.since
        self.reason, self.detail, self._failed_at = reason, detail, now
        self.again_at = now + self._next_wait
        self._waited += self._next_wait
        self._next_wait = min(self._next_wait * 2, LONGEST_WAIT_SECONDS)
        if reason is Reason.OWN_SHORTAGE:
            self._fewer = (max(1, in_flight // 2), now + FEWER_SECONDS)
        return went_down

    def most_at_a_time(self, concurrency: int, now: float) -> int:
        """How many requests may be under way: half of what there were, for a while after a shortage."""
        if self._fewer is None or now >= self._fewer[1]:
            return concurrency
        return min(concurrency, self._fewer[0])
