"""The worker: deliveries in, outcomes out, by a fixed crew of runners.

Who takes in what, and when it is enough, is written here; what becomes of one delivery in ``visit``, what goes to the
frontier in ``desk``. Each runner takes the visit that is due and brings it on until it is over or waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
from collections.abc import Sequence
from typing import Final

import structlog

from sqspider.frontier import (
    Clock,
    Delivery,
    Frontier,
    FrontierBusyError,
    FrontierError,
    FrontierUnavailableError,
    Taken,
)
from sqspider.message import BadBody, decode_message
from sqspider.politeness import PROBE_POLL_SECONDS, Politeness
from sqspider.record import Status
from sqspider.web.fetch import AnyFetcher
from sqspider.work.desk import STOP_MARGIN_SECONDS, CallDesk
from sqspider.work.endings import Endings
from sqspider.work.hand import Hand, Visit
from sqspider.work.memories import Memories
from sqspider.work.options import WorkerOptions
from sqspider.work.store import NoStore, Store
from sqspider.work.tally import Tally
from sqspider.work.upkeep import Attendance, Samples, keep_checking_in, keep_sweeping
from sqspider.work.visit import Sink, Visits
from sqspider.work.waiting import WaitingRoom

MAX_BACKOFF_SECONDS: Final = 30.0

log = structlog.stdlib.get_logger(__name__)


class Mode(enum.Enum):
    """When a worker ends by itself."""

    ONCE = enum.auto()  # after one poll
    UNTIL_EMPTY = enum.auto()  # when nothing is left to do
    CONTINUOUS = enum.auto()  # never


class NothingReachedError(FrontierUnavailableError):
    """Nothing could be asked for a day, through trouble of our own. What is queued stays queued."""


class Worker:
    """Takes messages from a frontier and works on them; see the module's docstring.

    Its fetcher's limit bounds every request. ``store`` keeps what is fetched before its record ends, ``sinks`` get it
    afterwards. Raises ``ValueError`` for options that do not fit together.
    """

    def __init__(
        self,
        frontier: Frontier,
        fetcher: AnyFetcher,
        options: WorkerOptions,
        *,
        clock: Clock,
        rng: random.Random,
        sinks: Sequence[Sink] = (),
        store: Store | None = None,
    ) -> None:
        self._fetch_seconds = fetcher.options.timeout_seconds
        options.check(self._fetch_seconds)
        self._frontier = frontier
        self._options = options
        self._clock = clock
        self._stopping = asyncio.Event()
        self._politeness = Politeness(
            frontier,
            fetcher,
            clock=clock,
            rng=rng,
            stopping=self._stopping,
            request_seconds=self._fetch_seconds + options.space_seconds,
            robots_grace_seconds=options.robots_grace_seconds,
            linger_seconds=options.linger_seconds,
            patience=options.patience,
        )
        self._network = self._politeness.network
        memories = Memories(frontier, options.seen_urls)
        self._hand = Hand(self._politeness, options.large_bodies)
        self._waiting: WaitingRoom[Visit] = WaitingRoom(clock)
        self._desk = CallDesk(frontier, store or NoStore(), options, rng, self._stopping)
        self._endings = Endings(
            frontier,
            self._desk,
            self._hand,
            memories,
            first_retry_seconds=options.first_retry_seconds,
            clock=clock,
            rng=rng,
        )
        self._visits = Visits(
            frontier,
            fetcher,
            self._politeness,
            self._endings,
            self._hand,
            self._waiting,
            memories,
            clock=clock,
            stopping=self._stopping,
            sinks=sinks,
        )
        self._samples = Samples(frontier, clock)
        session = f"{rng.getrandbits(64):016x}"
        self._attendance = Attendance(frontier, options.worker_id, session, clock, self._politeness)
        self._at_work = 0  # runners

    @property
    def tally(self) -> Tally:
        """What it has done so far; in :meth:`work_on`, since that began."""
        return self._endings.tally

    @property
    def unended(self) -> dict[str, Delivery]:
        """By receipt, those deliveries of :meth:`work_on` that are not ended yet."""
        return self._endings.unended

    @property
    def trouble(self) -> str | None:
        """Why nothing can be asked from here just now, for a person; none if it can."""
        network = self._network
        if network.reason is None or not network.is_down:
            return None
        seconds = max(0.0, network.again_at - self._clock())
        return f"nothing can be asked ({network.reason.value}: {network.detail}), again in {seconds:.0f} s"

    def stop(self) -> None:
        """Take no more; finish what is in flight within the fetch limit or give it back; end."""
        self._stopping.set()
        self._hand.gate.send_away()
        for visit in self._waiting.close():
            self._visits.send_back(visit)
        self._hand.changed.set()

    async def run(self, mode: Mode) -> None:
        """Work until the mode or :meth:`stop` ends it.

        Raises :class:`WorkerIdTakenError`, and whatever :class:`FrontierError` makes work
        impossible. Being cancelled stops it at once; the leases bring the work back.
        """
        if not await self._attendance.begin():
            return
        try:
            async with asyncio.TaskGroup() as group:
                upkeep = [
                    group.create_task(keep_checking_in(self._attendance, self._samples, self.tally)),
                    group.create_task(keep_sweeping(self._frontier, self._options.sweep_seconds)),
                ]
                crew = self._start_crew(group, self._options.concurrency)
                await self._take_in(mode)
                await self._drain(crew)
                self._check_network()
                for task in upkeep:
                    task.cancel()
        except BaseExceptionGroup as errors:
            raise fatal_one(errors) from None
        finally:
            await self._close()
            await self._attendance.end()
            await self._samples.leave_last(self.tally)

    async def work_on(self, deliveries: Sequence[Delivery], *, until: float) -> None:
        """Work on deliveries that somebody else received. It may be called again and again.

        At ``until`` (seconds since the epoch) it stops as :meth:`stop` does. What is in
        :attr:`unended` afterwards comes back to the queue by itself. Raises whatever
        :class:`FrontierError` makes work impossible. Being cancelled leaves what is claimed to its lease.
        """
        self._begin_anew(deliveries)
        timer = asyncio.get_running_loop().call_later(until - self._clock(), self.stop)
        try:
            async with asyncio.TaskGroup() as group:
                crew = self._start_crew(group, min(self._options.concurrency, len(deliveries)))
                for delivery in deliveries:
                    self._start(Taken(delivery=delivery, message=decode_message(delivery.body)))
                await self._drain(crew)
        except BaseExceptionGroup as errors:
            raise fatal_one(errors) from None
        finally:
            timer.cancel()
        await self._close()
        await self._samples.leave_last(self.tally)

    def _begin_anew(self, deliveries: Sequence[Delivery]) -> None:
        self._stopping.clear()
        self._waiting.open()
        self._politeness.look_anew()
        self._endings.begin_anew(deliveries)
        self._samples.begin_anew()
        self.tally.received = len(deliveries)

    async def _close(self) -> None:
        """Wait for all that is under way to the frontier."""
        await self._desk.close()
        await self._politeness.close()

    # The crew.

    def _start_crew(self, group: asyncio.TaskGroup, number: int) -> list[asyncio.Task[None]]:
        runners = [group.create_task(self._run()) for _ in range(number)]
        return [*runners, group.create_task(self._endings.watch())]

    async def _run(self) -> None:
        """A runner: whatever is due is its work."""
        while True:
            visit = await self._waiting.next()
            self._at_work += 1
            try:
                await self._bring_on(visit)
            finally:
                self._at_work -= 1
                self._hand.changed.set()

    async def _bring_on(self, visit: Visit) -> None:
        """Nothing that goes wrong with one URL stops the others; what ails the frontier does."""
        try:
            await self._visits.bring_on(visit)
        except FrontierBusyError as error:
            self._endings.put_aside(visit, error)
        except FrontierError:
            raise
        except Exception:
            log.exception("internal_error", url=visit.message.url)
            if not visit.is_over:
                self._endings.end_in_error(visit)
        if visit.is_over and not visit.ending:
            self._hand.release(visit)

    async def _drain(self, crew: Sequence[asyncio.Task[None]]) -> None:
        """Wait for what is in hand; once stopping, no longer than the fetch limit."""
        while self._is_at_it and not self._stopping.is_set():
            self._hand.changed.clear()
            await self._hand.changed.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._fetch_seconds + STOP_MARGIN_SECONDS):
                while self._is_at_it:
                    self._hand.changed.clear()
                    await self._hand.changed.wait()
        for task in crew:
            task.cancel()
        await asyncio.wait(crew)
        for visit in [visit for visit in self._hand.visits if not visit.is_over]:
            self._endings.give_up(visit)
            self._hand.release(visit)
        try:
            await self._endings.give_back_what_was_left()
        except FrontierBusyError as error:  # the leases bring it back
            log.warning("frontier_busy", during="stop", error=str(error))

    @property
    def _is_at_it(self) -> bool:
        """Something is in hand, or with a sink."""
        return bool(self._hand.visits) or self._at_work > 0

    # Taking in.

    async def _take_in(self, mode: Mode) -> None:
        backoff = 0.0
        while not self._stopping.is_set() and not self._network.is_spent:
            try:
                room = await self._room()
                if room == 0:
                    return
                if not await self._network_lets_in():
                    continue
                most = 1 if self._network.is_down else self._options.batch_size  # one URL probes for all
                taken = await self._desk.take(min(room, most))
                is_done = not taken and mode is Mode.UNTIL_EMPTY and await self._is_done()
                backoff = 0.0
            except FrontierBusyError as error:
                backoff = min(max(1.0, backoff * 2), MAX_BACKOFF_SECONDS)
                log.warning("frontier_busy", during="receive", error=str(error), again_in_seconds=backoff)
                await self._politeness.pause_until(self._clock() + backoff)
                continue
            self.tally.received += len(taken)
            for one in taken:
                self._start(one)
            if not taken:
                log.debug("No messages")
            if is_done or mode is Mode.ONCE:
                return

    def _start(self, taken: Taken) -> None:
        """Take a delivery in hand."""
        message, delivery = taken.message, taken.delivery
        if isinstance(message, BadBody):
            # Left unended: it comes back until it reaches the dead letters.
            log.warning("bad_message", message_id=delivery.message_id, why=message.why)
            return
        self._waiting.put(self._hand.take(delivery, message))

    async def _network_lets_in(self) -> bool:
        """Wait a while as long as nothing can be asked; whether something may be taken in, at least for a probe."""
        network = self._network
        if not network.is_down or (not self._is_at_it and self._clock() >= network.again_at):
            return True
        self._hand.changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(network.again_at - self._clock(), PROBE_POLL_SECONDS)):
                await self._hand.changed.wait()
        return False

    def _check_network(self) -> None:
        network = self._network
        if network.is_spent and network.reason is not None:
            raise NothingReachedError(
                f"nothing could be asked for a day ({network.reason.value}: {network.detail}): no URL has paid for it. "
                "Mend that, and start again: what is queued stays queued"
            )

    async def _room(self) -> int:
        """How many deliveries could be worked on now: waits until there are some. 0: stop taking."""
        options = self._options
        enough = max(1, min(options.batch_size, options.concurrency // 4))
        while not self._stopping.is_set():
            self._hand.changed.clear()
            await self._endings.give_back_what_was_left()
            concurrency = self._network.most_at_a_time(options.concurrency, self._clock())
            room = concurrency - self._load
            if room >= min(enough, concurrency):
                if options.max_pages is None and options.max_bytes is None:
                    return room
                left = await self._budget_left()
                if left > 0:
                    return min(room, left)
                if not self._is_at_it and not self._endings.are_some_left:
                    return 0
            await self._hand.changed.wait()
        return 0

    @property
    def _load(self) -> int:
        """What runners have, or will have at once; of what waits, or is about to end, only what is too much."""
        concurrency = self._options.concurrency
        waits_too_much = max(0, self._waiting.waiting - 4 * concurrency)
        ends_too_late = max(0, self._endings.under_way - concurrency)
        return self._at_work + self._waiting.due + waits_too_much + ends_too_late

    async def _budget_left(self) -> int:
        """Pages that may still be taken in. Other workers' unclaimed ones are not seen."""
        counts = await self._frontier.counts()
        status = counts.by_status
        if self._options.max_bytes is not None and counts.bytes >= self._options.max_bytes:
            return 0
        if self._options.max_pages is None:
            return self._options.concurrency
        pages = status[Status.DONE] - counts.redirects + status[Status.FAILED]
        return self._options.max_pages - (pages + status[Status.PROCESSING] + self._hand.unclaimed)

    async def _is_done(self) -> bool:
        """Whether nothing is left. Where figures may be behind, two looks say so, some time apart."""
        if not await self._seems_done():
            return False
        lag_seconds = self._frontier.traits.lag_seconds
        if lag_seconds == 0:
            return True
        await self._politeness.pause_until(self._clock() + lag_seconds)
        return await self._seems_done()

    async def _seems_done(self) -> bool:
        """Whether nothing is left by one look: here, in the queue, and no record open."""
        if self._is_at_it or (await self._frontier.counts()).open:
            return False
        return (await self._frontier.queue_stats()).is_empty


def fatal_one(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ails the frontier, of all that went wrong at the same time."""
    fatal = errors.subgroup(FrontierError)
    return errors if fatal is None else fatal.exceptions[0]
