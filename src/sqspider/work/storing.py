"""Between a fetch and its end: what was answered is kept, and then its record ends, with the place where it lies.

So no record is final, and no page with who takes pages, before what was fetched is durable. Where nothing is kept
nobody waits. What could not be kept is given back, uncounted, and nothing is fetched in vain until it can be again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from sqspider.capture import Capture, FullError, Store, StoreError
from sqspider.frontier import Clock
from sqspider.log import get_logger
from sqspider.message import Message
from sqspider.politeness import Asked
from sqspider.record import CapturePlace, Outcome
from sqspider.record import Kept as KeptBefore
from sqspider.web.links import PageLinks
from sqspider.work.captures import can_refer, capture_of
from sqspider.work.endings import Endings
from sqspider.work.hand import Hand, Visit
from sqspider.work.keeping import Keeping, Kept
from sqspider.work.late_ends import LateEnds
from sqspider.work.options import END_SECONDS
from sqspider.work.page import End
from sqspider.work.prolonging import Prolonging

LEAST_SHARE: Final = 1 / 3  # of a lease that is left to what is stored: few stores take so long, and each time costs
UNKEPT_AGAIN_SECONDS: Final = 60.0  # in an invocation, which does not see whether the next one can keep it

log = get_logger(__name__)
replace = msgspec.structs.replace


class Storing:
    """What one worker has to be kept before its end. ``give_up`` is called with the reason when there is no room any
    more."""

    def __init__(
        self,
        store: Store | None,
        endings: Endings,
        late: LateEnds,
        prolonging: Prolonging,
        hand: Hand,
        *,
        clock: Clock,
        linger_seconds: float,
        give_up: Callable[[str], None],
    ) -> None:
        self._keeping = None if store is None else Keeping(store, self, clock=clock, linger_seconds=linger_seconds)
        self._store = store
        self._endings = endings
        self._late = late
        self._prolonging = prolonging
        self._hand = hand
        self._clock = clock
        self._give_up = give_up
        self._wait_seconds = 0.0  # before what could not be kept comes back, at least
        if self._keeping is not None:
            hand.watch(self._keeping.look)
            hand.large_bodies.when_wanted = self._keeping.hurry

    # How it is with the store.

    @property
    def is_down(self) -> bool:
        """What was to be kept last could not be."""
        return self._keeping is not None and self._keeping.error is not None

    @property
    def again_at(self) -> float:
        """When somebody is to see whether it can be again."""
        return 0.0 if self._keeping is None else self._keeping.again_at

    @property
    def worth_while_at(self) -> float:
        """From when on it is worth while to fetch something: now, unless it cannot be kept. But where there is no room
        others may have some."""
        if self._keeping is None or self._keeping.error is None or isinstance(self._keeping.error, FullError):
            return self._clock()
        return max(self.again_at, self._clock() + self._wait_seconds)

    @property
    def trouble(self) -> str | None:
        """Why nothing can be kept just now, for a person; none if it can."""
        if self._keeping is None or self._keeping.error is None:
            return None
        error, seconds = self._keeping.error, max(0.0, self._keeping.again_at - self._clock())
        again = "" if isinstance(error, FullError) else f", again in {seconds:.0f} s"
        return f"the archive cannot be written ({error}){again}"

    def may_fetch(self) -> bool:
        """Whether what is fetched now can be kept, as far as is known; or whether a visit is to see, by itself."""
        return not self.is_down or (len(self._hand.visits) == 1 and self._clock() >= self.again_at)

    @property
    def is_full(self) -> bool:
        """Nothing more is to be taken in before the store has come to what it has."""
        return self._keeping is not None and self._keeping.is_full

    @property
    def resting(self) -> int:
        """How many visits wait only for others that are kept along with them."""
        return 0 if self._keeping is None else self._keeping.resting

    # What ends.

    def capture_of(self, visit: Visit, asked: Asked, message: Message, page: PageLinks | None = None) -> Capture | None:
        """What is to be kept of an answer, by :func:`sqspider.work.captures.capture_of`."""
        return None if self._keeping is None else capture_of(visit, asked, message, page)

    def can_refer_to(self, before: KeptBefore | None, message: Message) -> bool:
        """Whether it may be asked only whether a page has changed, by :func:`sqspider.work.captures.can_refer`."""
        return self._store is None or can_refer(before, message.settings.keep, self._store.has)

    def finish(self, visit: Visit, end: End, capture: Capture | None) -> None:
        """End a record, once its capture is kept."""
        if capture is None:
            self._endings.finish(visit, end)
            return
        answer, holding = self._keep(visit, capture, partial(self._finish, end)), self._endings.holding
        if holding is not None and end.outcome.is_page:
            holding.expect(answer)

    def try_again(self, visit: Visit, outcome: Outcome, retry_after: float | None, capture: Capture | None) -> bool:
        """Put the URL back for another try, once its capture is kept, if the policy has one; whether it has."""
        at = self._endings.next_try(visit, outcome, retry_after)
        if at is not None:
            self.give_back(visit, at, outcome, capture, tried=True)
        return at is not None

    def give_back(
        self, visit: Visit, at: float, outcome: Outcome, capture: Capture | None, *, tried: bool = False
    ) -> None:
        """Put it into the queue for later, once its capture is kept. ``tried``: as of :meth:`Endings.give_back`."""
        if capture is None:
            self._endings.give_back(visit, at, outcome, tried=tried)
        else:
            self._keep(visit, capture, partial(self._end_given_back, at, outcome, tried))

    def note(self, capture: Capture | None) -> None:
        """Have a capture kept along with those that come next; nobody waits for it."""
        if capture is not None and self._keeping is not None:
            self._keeping.note(capture)

    def _keep(
        self, visit: Visit, capture: Capture, then: Callable[[Visit, CapturePlace | None], None]
    ) -> asyncio.Future[Kept]:
        assert self._keeping is not None
        assert visit.claim is not None
        answer = self._keeping.put(
            capture,
            keep_by=visit.claim.lease_until - END_SECONDS,
            is_urgent=visit.is_suspect or (visit.space.is_taken and self._hand.large_bodies.wanted > 0),
        )
        self._prolonging.begin(visit, LEAST_SHARE, partial(_tell_lost, visit))
        answer.add_done_callback(lambda _: self._prolonging.end(visit))
        self._endings.hand_in(visit, answer, partial(self._kept, then))
        return answer

    def _kept(self, then: Callable[[Visit, CapturePlace | None], None], visit: Visit, kept: Kept) -> None:
        if isinstance(kept, StoreError):
            self._endings.give_back(visit, self.worth_while_at)
        else:
            then(visit, kept)

    def _finish(self, end: End, visit: Visit, place: CapturePlace | None) -> None:
        end = _placed(end, place)
        if self._endings.holding is None or not end.outcome.is_page:  # nobody is to get it
            visit.space.give_back()
            self._late.end(visit, _without_bodies(end))
        else:
            self._endings.finish(visit, end)

    def _end_given_back(
        self, at: float, outcome: Outcome, tried: bool, visit: Visit, place: CapturePlace | None
    ) -> None:
        visit.space.give_back()
        self._endings.give_back(visit, at, _placed_outcome(outcome, place), tried=tried)

    # What the keeping wants to know, and tells.

    def may_more_come(self) -> bool:
        """Whether something is in hand, or just being taken in, whose capture could go along with those gathered."""
        hand, holding = self._hand, self._endings.holding
        do_not_come = self._endings.under_way + hand.gate.in_line + (0 if holding is None else holding.number)
        return hand.may_grow or len(hand.visits) > do_not_come

    def learn(self, error: StoreError) -> None:
        """What was to be kept could not be."""
        if isinstance(error, FullError):
            self._give_up(str(error))

    # From the beginning to the end.

    def begin_anew(self, wait_seconds: float) -> None:
        """Keep again what is answered. ``wait_seconds``: before what cannot be kept comes back, at least."""
        self._wait_seconds = wait_seconds
        if self._keeping is not None:
            self._keeping.begin_anew()

    def leave(self) -> None:
        """The worker stops: nothing waits for others any more."""
        if self._keeping is not None:
            self._keeping.leave()

    async def close(self, within_seconds: float | None = None) -> None:
        """Wait until all is kept that was to be, and what was noted; what is not within some seconds is given back."""
        if self._keeping is not None:
            await self._keeping.close(within_seconds)
        await self._late.close()


def _tell_lost(visit: Visit) -> None:
    log.warning("lease_lost", url=visit.message.url, what="it is kept again by whoever has it now")


def _placed_outcome(outcome: Outcome, place: CapturePlace | None) -> Outcome:
    """An outcome that says where its answer lies. None: it is not to be kept."""
    return replace(outcome, capture=place, unkept=place is None)


def _placed(end: End, place: CapturePlace | None) -> End:
    outcome = _placed_outcome(end.outcome, place)
    visited = None if end.visited is None else replace(end.visited, outcome=outcome)
    return end._replace(outcome=outcome, visited=visited)


def _without_bodies(end: End) -> End:
    """What is needed of an end to write it: bodies are let go of."""
    visited = end.visited
    if visited is None:
        return end
    return end._replace(visited=replace(visited, fetched=replace(visited.fetched, body=b"", payload=b"")))
