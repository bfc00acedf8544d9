"""Gathers captures into batches for the store: one call at a time, and others gather meanwhile.

A write costs the same for one page and for fifty: an fsync, or a PUT that is paid for. So captures wait for others,
until a batch is due:

    where a store gathers not              a moment after the first of them (``linger_seconds``), or after the call
                                           before it: what ends together is written together
    its time is over                       the oldest has waited ``gather_seconds``, or a lease comes near its end
    its payloads are enough                ``most_bytes`` of them, or ``MOST_GATHERED`` captures
    nobody can come any more               all that is in hand waits for it
    somebody waits for what it holds       memory for a large body; to be alone
    the worker stops

A store that fails is left alone for a while. What comes meanwhile is told so at once: it is given back, uncounted.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final, NamedTuple, Protocol

from sqspider.capture import Capture, FullError, Store, StoreError
from sqspider.frontier import Clock
from sqspider.log import get_logger
from sqspider.record import CapturePlace

MOST_AT_ONCE: Final = 50  # captures in a batch, where a store gathers not
MOST_GATHERED: Final = 200  # and where it does: whoever is killed leaves all of their claims unended
FIRST_WAIT_SECONDS: Final = 5.0  # after a store failed; it doubles
LONGEST_WAIT_SECONDS: Final = 300.0
NOTES_SECONDS: Final = 10.0  # that notes wait at least for captures that they could go along with

log = get_logger(__name__)

Kept = CapturePlace | None | StoreError
"""What became of a capture: where it lies; none, for its crawl does not keep it; or why it could not be kept."""


class Whose(Protocol):
    """Whose captures are kept."""

    def may_more_come(self) -> bool:
        """Whether something is on its way that could go along."""

    def learn(self, error: StoreError) -> None:
        """Hear that what was to be kept could not be."""


class _One(NamedTuple):
    """A capture that waits, or is being kept."""

    capture: Capture
    answer: asyncio.Future[Kept]


class Keeping:
    """The captures of one worker on their way to its store."""

    def __init__(self, store: Store, whose: Whose, *, clock: Clock, linger_seconds: float) -> None:
        self.error: StoreError | None = None  # what the last call met; none: all is well
        self.again_at = 0.0  # when the store is tried again
        self._store = store
        self._most = MOST_GATHERED if store.gather_seconds > 0 else MOST_AT_ONCE
        self._whose = whose
        self._clock = clock
        self._linger_seconds = linger_seconds
        self._wait_seconds = 0.0  # after the next failure, doubled
        self._gathered: list[_One] = []
        self._bytes = 0  # of payloads that are gathered
        self._keep_by = math.inf  # the end of the time that the most urgent of them has
        self._oldest_at = 0.0  # when the first of them came, by the loop's clock
        self._is_due = False
        self._timer: asyncio.TimerHandle | None = None
        self._call: asyncio.Task[None] | None = None
        self._kept_now: list[_One] = []
        self._has_notes = False
        self._noted_bytes = 0
        self._notes_timer: asyncio.TimerHandle | None = None
        self._is_leaving = False

    def begin_anew(self) -> None:
        """Gather again, and forget what went wrong."""
        self._is_leaving = False
        self.error, self._wait_seconds, self.again_at = None, 0.0, 0.0

    def leave(self) -> None:
        """Let nothing wait for others any more: the worker stops."""
        self._is_leaving = True
        self.hurry()

    @property
    def is_full(self) -> bool:
        """There is a whole batch more than the store has come to: nothing more is to be fetched for it."""
        return self._call is not None and self._is_enough

    @property
    def resting(self) -> int:
        """How many wait only for others to go along with them."""
        return len(self._gathered) if self._gathers and self._call is None else 0

    @property
    def _gathers(self) -> bool:
        return self._store.gather_seconds > 0 and not self._is_leaving

    @property
    def _is_enough(self) -> bool:
        return self._bytes + self._noted_bytes >= self._store.most_bytes or len(self._gathered) >= self._most

    # In.

    def put(self, capture: Capture, *, keep_by: float = math.inf, is_urgent: bool = False) -> asyncio.Future[Kept]:
        """Have a capture kept; where its answer will be. ``keep_by``: when it is to be begun with, at the latest;
        ``is_urgent``: it does not wait for others."""
        answer: asyncio.Future[Kept] = asyncio.get_running_loop().create_future()
        if self.error is not None and _is_left_alone(self, self._clock()):
            answer.set_result(self.error)
            return answer
        if not self._gathered:
            self._oldest_at = asyncio.get_running_loop().time()
        self._gathered.append(_One(capture, answer))
        self._bytes += len(capture.fetched.payload)
        self._is_due = self._is_due or is_urgent
        if self._timer is None or keep_by < self._keep_by:
            self._keep_by = min(keep_by, self._keep_by)
            self._set_timer()
        return answer

    def note(self, capture: Capture) -> None:
        """Have a capture kept along with those that come next; nobody waits for it."""
        self._store.note(capture)
        self._has_notes = True
        self._noted_bytes += len(capture.fetched.payload)
        self._set_notes_timer()
        self.look()

    def hurry(self) -> None:
        """Let what is gathered go now."""
        self._is_due = bool(self._gathered)
        self.look()

    def look(self) -> None:
        """Something has changed: it may be time. It is asked often."""
        if self._call is not None or not (self._gathered or self._noted_bytes):
            return
        if not self._gathered and _is_left_alone(self, self._clock()):
            return
        if self._is_due or self._is_enough or (self._gathered and not self._whose.may_more_come()):
            self._begin()

    def _set_timer(self) -> None:
        """Let it be due when the oldest has waited enough, or a lease comes near its end: of those that come later,
        only that is looked at."""
        self._stop_timer()
        loop = asyncio.get_running_loop()
        patience = self._store.gather_seconds if self._gathers else self._linger_seconds
        seconds = min(self._oldest_at + patience - loop.time(), self._keep_by - self._clock())
        if math.isfinite(seconds):
            self._timer = loop.call_later(max(0.0, seconds), self._end_wait)

    def _end_wait(self) -> None:
        self._timer = None
        self.hurry()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_notes_timer(self) -> None:
        if self._notes_timer is None and math.isfinite(self._store.gather_seconds):
            seconds = max(NOTES_SECONDS, self._store.gather_seconds)
            self._notes_timer = asyncio.get_running_loop().call_later(seconds, self._end_wait_of_notes)

    def _end_wait_of_notes(self) -> None:
        self._notes_timer = None
        if _is_left_alone(self, self._clock()):
            self._set_notes_timer()
        elif self._call is None:
            self._begin()  # otherwise they wait once more

    # Out.

    def _begin(self) -> None:
        """Call the store: with what is gathered, as far as one batch goes."""
        batch = self._first()
        self._kept_now = batch
        self._forget_notes()
        self._call = asyncio.get_running_loop().create_task(self._keep(batch))
        self._call.add_done_callback(self._ended)

    def _first(self) -> list[_One]:
        """Take out those that come first. What is left is due: it has waited for them."""
        number, size = 0, 0
        for one in self._gathered[: self._most]:
            number, size = number + 1, size + len(one.capture.fetched.payload)
            if size >= self._store.most_bytes:
                break
        batch, self._gathered = self._gathered[:number], self._gathered[number:]
        self._bytes -= size
        self._is_due = bool(self._gathered)
        self._keep_by = math.inf
        self._stop_timer()
        return batch

    def _forget_notes(self) -> None:
        self._has_notes, self._noted_bytes = False, 0
        if self._notes_timer is not None:
            self._notes_timer.cancel()
            self._notes_timer = None

    async def _keep(self, batch: list[_One]) -> None:
        try:
            places = await self._store.keep([one.capture for one in batch])
            answers = list(zip(batch, places, strict=True))
        except StoreError as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - it is told to whom it concerns
            await self._keep_each(batch, error)
        else:
            if self.error is not None:
                log.info("stored_again")
            self.error, self._wait_seconds = None, 0.0
            for one, place in answers:
                _tell(one, place)

    async def _keep_each(self, batch: list[_One], error: Exception) -> None:
        """It was a fault of ours. Whichever of them it lies in, the others shall not pay for it."""
        if len(batch) == 1 and not batch[0].answer.done():
            batch[0].answer.set_exception(error)
        elif len(batch) <= 1:
            log.exception("internal_error", during="notes")
        else:
            for one in batch:
                if not one.answer.done():
                    await self._keep([one])

    def _fail(self, error: StoreError) -> None:
        """Nobody tries for a while; those who wait are told."""
        is_news, self.error = self.error is None, error
        self._wait_seconds = min(max(FIRST_WAIT_SECONDS, 2 * self._wait_seconds), LONGEST_WAIT_SECONDS)
        self.again_at = self._clock() + self._wait_seconds
        if isinstance(error, FullError):
            log.error("not_stored", error=str(error), so="the worker stops")
        elif is_news:
            log.error("not_stored", error=str(error), again_in_seconds=self._wait_seconds)
        for one in (*self._kept_now, *self._gathered):
            _tell(one, error)
        self._gathered, self._bytes, self._is_due, self._keep_by = [], 0, False, math.inf
        self._stop_timer()
        self._whose.learn(error)

    def _ended(self, _: asyncio.Task[None]) -> None:
        self._call, self._kept_now = None, []
        if self._has_notes:
            self._set_notes_timer()
        if not self._gathers:
            self.hurry()  # it has waited for this call
        else:
            self.look()

    async def close(self, within_seconds: float | None = None) -> None:
        """Have all kept that is gathered or noted, and wait for it; what is not kept within some seconds could not be.
        It may be used on."""
        try:
            async with asyncio.timeout(within_seconds):
                while self._call is not None or self._gathered or (self._has_notes and self.error is None):
                    if self._call is None:
                        self._begin()
                    assert self._call is not None
                    await asyncio.wait((self._call,))
                    await asyncio.sleep(0)  # by now it is known that it has ended
        except TimeoutError:
            await self._break_off(StoreError(f"no answer within {within_seconds:g} s"))
        self._forget_notes()
        await asyncio.sleep(0)  # by now the ends that follow are handed in

    async def _break_off(self, error: StoreError) -> None:
        """Leave what is being kept: what is written of it by then does no harm."""
        call = self._call
        self._fail(error)
        if call is not None:
            call.cancel()
            await asyncio.wait((call,))


def _is_left_alone(keeping: Keeping, now: float) -> bool:
    """Whether its store failed, and is not to be tried yet, or ever."""
    return keeping.error is not None and (isinstance(keeping.error, FullError) or now < keeping.again_at)


def _tell(one: _One, answer: Kept) -> None:
    if not one.answer.done():
        one.answer.set_result(answer)
