"""The worker: deliveries in, outcomes out, by a fixed crew of runners.

Each runner takes the visit that is due and brings it on until it is over or waits. What becomes of one delivery is
in ``visit``, how many are taken in in ``intake``, what goes to the frontier in ``desk``. Here they begin and stop.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Sequence
from typing import Final, cast

from sqspider.capture import Store
from sqspider.frontier import (
    Clock,
    Delivery,
    Frontier,
    FrontierBusyError,
    FrontierError,
    FrontierUnavailableError,
    Taken,
    TurningFrontier,
)
from sqspider.log import get_logger
from sqspider.message import decode_message
from sqspider.politeness import Politeness
from sqspider.web.fetch import AnyFetcher, Fetcher
from sqspider.web.options import FetchOptions
from sqspider.work.allowed import Allowed
from sqspider.work.budgets import Budgets
from sqspider.work.crawls import CrawlRows
from sqspider.work.desk import STOP_MARGIN_SECONDS, CallDesk, Desk
from sqspider.work.endings import Endings
from sqspider.work.fetchers import Agents, Open
from sqspider.work.gate import Gate
from sqspider.work.hand import Hand, Visit
from sqspider.work.holding import Holding, Take
from sqspider.work.intake import Intake
from sqspider.work.intake import Mode as Mode
from sqspider.work.late_ends import LateEnds
from sqspider.work.memories import Memories
from sqspider.work.options import WorkerOptions
from sqspider.work.prolonging import Prolonging
from sqspider.work.rules import Rules
from sqspider.work.scopes import Scopes
from sqspider.work.secrets import Secrets
from sqspider.work.storing import UNKEPT_AGAIN_SECONDS, Storing
from sqspider.work.tally import Tally
from sqspider.work.turn_desk import TurnDesk
from sqspider.work.upkeep import Attendance, Samples, keep_checking_in, keep_sweeping
from sqspider.work.visit import Visits

STORE_SECONDS: Final = 5.0  # for the store, in an invocation, once nothing more is fetched

log = get_logger(__name__)


class NothingReachedError(FrontierUnavailableError):
    """Nothing could be asked for a day, through trouble of our own. What is queued stays queued."""


class Worker:
    """Takes messages from a frontier and works on them; see the module's docstring.

    Its fetcher's limit bounds every request. ``take`` gets what is final but for its record, which ends when whoever
    took it says so; ``store`` keeps what is answered before that: who opened it closes it. What crawls may ask for is
    ``allowed`` (as a rule what ``fetcher`` does), their ``secrets`` as a rule those of the environment;
    ``open_fetcher`` makes the fetchers of those that fetch otherwise. It works for all crawls, or for ``only`` the one
    of a name: the messages of others it does not receive, or puts off where its frontier does not tell them apart.
    Raises ``ValueError`` for options that do not fit together.
    """

    def __init__(
        self,
        frontier: Frontier,
        fetcher: AnyFetcher,
        options: WorkerOptions,
        *,
        clock: Clock,
        rng: random.Random,
        take: Take | None = None,
        store: Store | None = None,
        allowed: Allowed | None = None,
        secrets: Secrets | None = None,
        open_fetcher: Open | None = None,
        only: str | None = None,
    ) -> None:
        self._fetch_seconds = fetcher.options.timeout_seconds
        gather_seconds = 0.0 if store is None else store.gather_seconds
        options.check(self._fetch_seconds, gather_seconds)
        self.stopped_by: str | None = None  # what it had no room for any more; none: nothing stopped it but who told it
        self._frontier = frontier
        self._options = options
        self._clock = clock
        self._stopping = asyncio.Event()
        gate = Gate()
        self._desk = self._open_desk(rng, gate, only)
        self._politeness = Politeness(
            frontier,
            fetcher,
            clock=clock,
            rng=rng,
            stopping=self._stopping,
            leave=self._desk.leave if isinstance(self._desk, TurnDesk) else None,
            request_seconds=self._fetch_seconds + options.space_seconds,
            robots_grace_seconds=options.robots_grace_seconds,
            linger_seconds=options.linger_seconds,
            patience=options.patience,
            robots_at_a_time=max(1, options.concurrency // 2),  # the connections are shared with pages
            note=None if store is None else lambda capture: self._storing.note(capture),
        )
        self._agents = Agents(
            self._politeness.own, fetcher.options, open_fetcher or self._open_fetcher, allowed=allowed, secrets=secrets
        )
        crawls = CrawlRows(frontier, self._agents, self._politeness, clock=clock, only=only)
        self._network = self._politeness.network
        memories = Memories(frontier, options.seen_urls)
        lease_needed = options.lease_needed(self._fetch_seconds, gather_seconds)
        self._hand = Hand(self._politeness, gate, clock, options.large_bodies)
        session = f"{rng.getrandbits(64):016x}"
        self._budgets = Budgets(frontier, memories, options, options.run or session, clock=clock)
        self._endings = Endings(
            frontier,
            self._desk,
            self._hand,
            memories,
            self._budgets,
            first_retry_seconds=options.first_retry_seconds,
            clock=clock,
            rng=rng,
        )
        scopes = Scopes(frontier, crawls, clock=clock)
        rules = Rules(
            crawls, scopes, self._politeness, self._desk, self._endings, self._hand, memories, self._budgets,
            clock=clock,
        )  # fmt: skip
        late = LateEnds(self._endings, rules, clock=clock)
        self._prolonging = Prolonging(frontier, clock=clock, lease_seconds=options.lease_seconds)
        self._storing = Storing(
            store, self._endings, late, self._prolonging, self._hand,
            clock=clock, linger_seconds=options.linger_seconds, give_up=self._give_up,
        )  # fmt: skip
        if take is not None:
            self._endings.holding = Holding(late, self._prolonging, self._hand, take)
        self._visits = Visits(
            frontier, self._politeness, self._endings, self._storing, self._hand, memories, rules,
            clock=clock, stopping=self._stopping, lease_needed=lease_needed,
        )  # fmt: skip
        self._intake = Intake(
            frontier, self._desk, self._politeness, self._endings, self._storing, self._hand, memories, self._budgets,
            crawls, rules, options, clock=clock, stopping=self._stopping, lease_needed=lease_needed,
        )  # fmt: skip
        self._samples = Samples(frontier, clock)
        self._attendance = Attendance(frontier, options.worker_id, session, clock, self._politeness, crawls)

    def _open_desk(self, rng: random.Random, gate: Gate, only: str | None) -> Desk:
        frontier, options = self._frontier, self._options
        calls = CallDesk(frontier, options, rng, self._stopping, only)
        if not frontier.traits.has_turns:
            return calls
        return TurnDesk(cast(TurningFrontier, frontier), calls, options, rng, gate, only)

    def _open_fetcher(self, options: FetchOptions) -> Fetcher:
        """For crawls that fetch otherwise than this worker does by itself."""
        return Fetcher(options, connections=self._options.concurrency).open()

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
        """Why nothing can be asked from here, or kept, just now, for a person; none if it can."""
        network = self._network
        if network.reason is None or not network.is_down:
            return self._storing.trouble
        seconds = max(0.0, network.again_at - self._clock())
        return f"nothing can be asked ({network.reason.value}: {network.detail}), again in {seconds:.0f} s"

    def stop(self) -> None:
        """Take no more; finish what is in flight within the fetch limit or give it back; end. What is held is given
        back, and whatever would be held from then on."""
        self._stopping.set()
        if self._endings.holding is not None:
            self._endings.holding.leave()
        self._hand.gate.send_away()
        for visit in self._hand.waiting.close():
            self._visits.send_back(visit)
        self._storing.leave()
        self._hand.look()

    def _give_up(self, why: str) -> None:
        """There is no room for what it fetches."""
        self.stopped_by = why
        self.stop()

    async def run(self, mode: Mode, *, crawl: str | None = None) -> None:
        """Work until the mode or :meth:`stop` ends it; on all crawls, whichever it ends with.

        ``crawl``: nothing is left when nothing of the crawl of that name is, and the run's limit of pages is one of
        its pages. What rests, or asks for what is not allowed here, is not waited for. Raises
        :class:`WorkerIdTakenError`, and whatever :class:`FrontierError` makes work impossible. Being cancelled stops
        it at once; the leases bring the work back.
        """
        self._budgets.crawl = crawl
        if not await self._attendance.begin():
            return
        try:
            async with asyncio.TaskGroup() as group:
                upkeep = [
                    group.create_task(keep_checking_in(self._attendance, self._samples, self.tally)),
                    group.create_task(keep_sweeping(self._frontier, self._options.sweep_seconds)),
                    group.create_task(self._budgets.keep()),
                    group.create_task(self._prolonging.keep()),
                ]
                crew = self._start_crew(group, self._options.concurrency)
                await self._intake.run(mode, crawl)
                await self._drain(crew)
                self._check_network()
                for task in upkeep:
                    task.cancel()
        except BaseExceptionGroup as errors:
            raise fatal_one(errors) from None
        finally:
            await self._close()
            self._agents.close()
            await self._budgets.close()
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
                upkeep = group.create_task(self._budgets.keep())
                for delivery in deliveries:
                    self._intake.start(Taken(delivery=delivery, message=decode_message(delivery.body)))
                await self._drain(crew, STORE_SECONDS)
                upkeep.cancel()
        except BaseExceptionGroup as errors:
            raise fatal_one(errors) from None
        finally:
            timer.cancel()
        await self._close(STORE_SECONDS)
        await self._budgets.close()
        await self._samples.leave_last(self.tally)

    def _begin_anew(self, deliveries: Sequence[Delivery]) -> None:
        self._stopping.clear()
        self._hand.waiting.open()
        self.stopped_by = None
        self._politeness.look_anew()
        self._storing.begin_anew(UNKEPT_AGAIN_SECONDS)
        self._endings.begin_anew(deliveries)
        self._samples.begin_anew()

    async def _close(self, store_seconds: float | None = None) -> None:
        """Wait for all that is under way to the store, for so many seconds at most, and to the frontier."""
        self._intake.close()
        await self._storing.close(store_seconds)
        await self._desk.close()
        await self._politeness.close()
        await self._storing.close(store_seconds)  # what was asked for robots.txt goes there,
        await self._desk.close()  # and what that has ended by it

    # The crew.

    def _start_crew(self, group: asyncio.TaskGroup, number: int) -> list[asyncio.Task[None]]:
        runners = [group.create_task(self._run()) for _ in range(number)]
        return [*runners, group.create_task(self._endings.watch())]

    async def _run(self) -> None:
        """A runner: whatever is due is its work."""
        while True:
            visit = await self._hand.waiting.next()
            try:
                await self._bring_on(visit)
            finally:
                self._hand.waiting.free()
                self._hand.look()

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
        if visit.is_over:
            self._hand.let_go(visit)

    async def _drain(self, crew: Sequence[asyncio.Task[None]], store_seconds: float | None = None) -> None:
        """Wait for what is in hand; once stopping, no longer than the fetch limit, and then for the store."""
        hand = self._hand
        await hand.until(lambda: hand.is_empty or self._stopping.is_set())
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._fetch_seconds + STOP_MARGIN_SECONDS):
                await hand.until(lambda: hand.is_empty)
        for task in crew:
            task.cancel()
        await asyncio.wait(crew)
        for visit in [visit for visit in hand.visits if not visit.is_over]:
            self._endings.give_up(visit)
            hand.release(visit)
        await self._storing.close(store_seconds)
        await self._desk.close()  # by now nobody watches what its answers say
        if self._endings.failure is not None:
            raise self._endings.failure
        try:
            await self._endings.give_back_what_was_left()
        except FrontierBusyError as error:  # the leases bring it back
            log.warning("frontier_busy", during="stop", error=str(error))

    def _check_network(self) -> None:
        network = self._network
        if network.is_spent and network.reason is not None:
            raise NothingReachedError(
                f"nothing could be asked for a day ({network.reason.value}: {network.detail}): no URL has paid for it. "
                "Mend that, and start again: what is queued stays queued"
            )


def fatal_one(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ails the frontier, of all that went wrong at the same time."""
    fatal = errors.subgroup(FrontierError)
    return errors if fatal is None else fatal.exceptions[0]
