"""A desk for a frontier that has turns: what was ended goes along with what is taken next, in one transaction."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from sqspider.frontier import (
    Deferral,
    Delivery,
    Ends,
    Finish,
    FrontierBusyError,
    FrontierError,
    Retry,
    Taking,
    Turned,
    TurningFrontier,
    Won,
)
from sqspider.host import Exit
from sqspider.work.desk import MOST_ENDS, Batch, CallDesk, Wishes
from sqspider.work.gate import Gate
from sqspider.work.options import WorkerOptions

_NO_WISHES: Final = Wishes(claims=lambda _: False)
_SOON_SECONDS: Final = 0.001
_NOTHING: Final = Turned(finished=(), retried=(), taken=(), hosts={})

E = TypeVar("E")
A = TypeVar("A")


class _Ends(NamedTuple):
    """Ends that wait for a turn, or are in one, each with its answer to be."""

    finishes: list[tuple[Finish, asyncio.Future[bool]]]
    retries: list[tuple[Retry, asyncio.Future[bool]]]
    deferrals: list[tuple[Deferral, asyncio.Future[None]]]
    deletions: list[tuple[Delivery, asyncio.Future[None]]]
    exits: list[tuple[Exit, asyncio.Future[None]]]

    def first(self) -> _Ends:
        """Take out those that come first: as many of each kind as go together."""
        taken = _Ends(*(ends[:MOST_ENDS] for ends in self))  # type: ignore[arg-type]
        for ends in self:
            del ends[:MOST_ENDS]
        return taken

    def answer(self, turned: Turned) -> None:
        for (_, finished), is_finished in zip(self.finishes, turned.finished, strict=True):
            finished.set_result(is_finished)
        for (_, retried), is_retried in zip(self.retries, turned.retried, strict=True):
            retried.set_result(is_retried)
        for _, ended in (*self.deferrals, *self.deletions, *self.exits):
            if not ended.done():  # who waits for it may have been cancelled
                ended.set_result(None)

    def fail(self, error: Exception) -> None:
        for ends in self:
            for _, answer in ends:
                if not answer.done():
                    answer.set_exception(error)


class TurnDesk:
    """A desk that makes turns, one at a time. What nothing is taken with soon after it was handed in goes by itself.

    ``calls`` does what needs no turn: a claim for what could not be claimed as it was taken, what is put aside, a wait
    for messages.
    """

    def __init__(
        self,
        frontier: TurningFrontier,
        calls: CallDesk,
        options: WorkerOptions,
        rng: random.Random,
        gate: Gate,
        only: str | None = None,
    ) -> None:
        self.claim, self.park = calls.claim, calls.park
        self.most = options.batch_size or options.concurrency
        self.ahead = 0  # but where what came last was free to be asked for: then as much is to follow
        self._frontier = frontier
        self._calls = calls
        self._options = options
        self._rng = rng
        self._gate = gate
        self._only = only
        self._ends = _Ends([], [], [], [], [])
        self._is_closing = False
        self._one_turn = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._flushes: set[asyncio.Task[None]] = set()

    def finish(self, finish: Finish) -> asyncio.Future[bool]:
        return self._hand_in_claim(self._ends.finishes, finish)

    def retry(self, retry: Retry) -> asyncio.Future[bool]:
        return self._hand_in_claim(self._ends.retries, retry)

    def defer(self, deferral: Deferral) -> asyncio.Future[None]:
        return self._hand_in(self._ends.deferrals, deferral)

    def delete(self, delivery: Delivery) -> asyncio.Future[None]:
        return self._hand_in(self._ends.deletions, delivery)

    def leave(self, end: Exit) -> asyncio.Future[None]:
        """A request to a host is over. Where the frontier is busy it is said again."""
        return self._hand_in(self._ends.exits, end)

    async def take(self, limit: int, wishes: Wishes) -> Batch:
        asked_at, turned = self._frontier.now(), await self._turn(limit, wishes)
        if not turned.taken and not turned.put_off:
            await self._calls.polled(self._frontier.wait(self._options.poll_seconds, crawl=self._only))
            asked_at, turned = self._frontier.now(), await self._turn(limit, wishes)
        were_free = bool(turned.taken) and all(taken.claim is not None for taken in turned.taken)
        self.ahead = self.most if were_free else 0
        return Batch(turned.taken, turned.hosts, asked_at)

    async def close(self) -> None:
        self._is_closing = True
        while any(self._ends) or self._flushes:
            await self._flush()
            await asyncio.sleep(0)  # what an answer brings about may be handed in, too
        self._is_closing = False
        await self._calls.close()

    def _hand_in_claim(self, ends: list[tuple[E, asyncio.Future[A]]], end: E) -> asyncio.Future[A]:
        answer = self._hand_in(ends, end)
        if len(self._ends.finishes) + len(self._ends.retries) == self._gate.inside:
            self._flush_soon()  # no other end is to come that could go along
        return answer

    def _hand_in(self, ends: list[tuple[E, asyncio.Future[A]]], end: E) -> asyncio.Future[A]:
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        ends.append((end, answer))
        if self._timer is None:
            self._let_linger()
        return answer

    def _let_linger(self) -> None:
        self._set_timer(self._options.linger_seconds, self._flush_soon)

    def _flush_soon(self) -> None:
        """Not at once: what was ended has made room, and what is taken for it may go along."""
        self._set_timer(_SOON_SECONDS, self._start_flush)

    def _set_timer(self, seconds: float, then: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start_flush(self) -> None:
        self._timer = None
        if self._one_turn.locked():
            return  # after it
        flush = asyncio.get_running_loop().create_task(self._flush())
        self._flushes.add(flush)
        flush.add_done_callback(self._flushes.discard)

    async def _flush(self) -> None:
        """Let what was ended go by itself."""
        with contextlib.suppress(FrontierError):  # each of those whose ends they are has been told
            await self._turn(0, _NO_WISHES)

    async def _turn(self, limit: int, wishes: Wishes) -> Turned:
        async with self._one_turn:
            self._stop_timer()
            ends = self._ends.first()
            if any(self._ends):
                self._let_linger()
            if not limit and not any(ends):
                return _NOTHING
            # Nobody is to be let in alone while it is not known what is claimed.
            is_inside = limit > 0 and self._gate.is_open
            if is_inside:
                self._gate.join()
            try:
                return await self._made(ends, limit, wishes if is_inside else _NO_WISHES)
            except Exception as error:
                if (
                    isinstance(error, FrontierBusyError) and not self._is_closing
                ):  # a host that is not left is asked by nobody
                    self._ends.exits[:0] = ends.exits
                    ends.exits.clear()
                    self._let_linger()
                ends.fail(error)
                if isinstance(error, FrontierError) or not any(ends):
                    raise
                return _NOTHING  # it may be a fault in what one of these was to end: they have been told
            finally:
                if is_inside:
                    self._gate.leave()
                if self._timer is None and any(self._ends):
                    self._flush_soon()

    async def _made(self, ends: _Ends, limit: int, wishes: Wishes) -> Turned:
        turned = await self._frontier.turn(
            Ends(
                finishes=[finish for finish, _ in ends.finishes],
                retries=[retry for retry, _ in ends.retries],
                deferrals=[deferral for deferral, _ in ends.deferrals],
                deletions=[delivery for delivery, _ in ends.deletions],
                exits=[end for end, _ in ends.exits],
            ),
            Taking(
                limit=limit,
                worker_id=self._options.worker_id,
                claim_id=f"{self._rng.getrandbits(48):012x}",
                lease_seconds=self._options.lease_seconds,
                claims=wishes.claims,
                passes=wishes.passes,
                crawl=self._only,
            ),
        )
        for taken in turned.taken:
            if isinstance(taken.claim, Won):
                self._gate.join()
        ends.answer(turned)
        return turned
