"""The worker: deliveries in, outcomes out. The one place where claim, fetch and finish are written.

The life of a delivery here, and what holds if the worker dies in each state:

    received   not ended: its message comes back after the visibility timeout
    waiting    for its host's slot, unclaimed: the same, and the slot is lost
    claimed    the lease ends, the next claim wins with the next attempt
    fetched    the same: the page is fetched again
    ending     the frontier's finish is atomic, or in the safe order (see the port)

Which host may be asked when is decided in ``politeness``; when to try again in ``policy``.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import hashlib
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import ClassVar, Final, NamedTuple

import msgspec
import structlog

from sqspider import retry
from sqspider.bounds import Blocked, within
from sqspider.checks import Range, check_line, check_numbers, optional, seconds
from sqspider.crawls import MAX_DEPTH, measured_from
from sqspider.figures import Sample
from sqspider.frontier import (
    ClaimRequest,
    Clock,
    Deferral,
    Delivery,
    Entry,
    Finish,
    Frontier,
    FrontierBusyError,
    FrontierError,
    FrontierUnavailableError,
    Lost,
    LostReason,
    Retry,
    Won,
)
from sqspider.frontier.batcher import Batcher
from sqspider.incident import PATIENCE, Patience
from sqspider.message import BadBody, Message, decode_message
from sqspider.politeness import BEGIN_SECONDS, PROBE_POLL_SECONDS, Busy, Pass, Politeness, Postponed
from sqspider.record import Outcome, Reason, Status, status_for
from sqspider.url import MAX_URL_BYTES, Scope, host_of, in_scope, is_cut
from sqspider.web.fetch import AnyFetcher, Fetched
from sqspider.web.links import LinkOptions, PageLinks, read_page
from sqspider.work.gate import Gate
from sqspider.work.redirects import MAX_REDIRECTS, led
from sqspider.work.upkeep import keep_sweeping

LEASE_MARGIN_SECONDS: Final = 10.0 + BEGIN_SECONDS  # parsing, ending, clocks; another permission to begin
ROOM_SECONDS: Final = 3.0  # the longest wait for room, in the middle of a large body
STOP_MARGIN_SECONDS: Final = 2.0  # beyond the fetch limit, before what is in flight is given back
CHECK_IN_SECONDS: Final = 30.0  # a worker that was not seen for so long is gone
CHECK_IN_AGAIN_SECONDS: Final = 1.0  # while another one of the same name may be alive
MAX_BACKOFF_SECONDS: Final = 30.0
SUSPECTED_AFTER: Final = 2  # claims in a row that nobody ended: the third is worked on with nothing beside it,
GIVEN_UP_AFTER: Final = 3  # and if that one is not ended either, the URL is to blame
SUSPECTS: Final = 10_000  # that are remembered
TURN_SECONDS: Final = 5.0  # that one of them waits for others before it, at a time
TURN_AGAIN_SECONDS: Final = 1.0  # and then comes back after
BUSY_SECONDS: Final = 10.0  # that a delivery waits here for a host that is busy whenever it may be asked
FINISHED_URLS: Final = 10_000  # finished here that are remembered, for a second message of one of them
LINKS_AT_A_TIME: Final = 1000  # of a page, that are recorded together

log = structlog.stdlib.get_logger(__name__)


class Mode(enum.Enum):
    """When a worker ends by itself."""

    ONCE = enum.auto()  # after one poll
    UNTIL_EMPTY = enum.auto()  # when nothing is left to do
    CONTINUOUS = enum.auto()  # never


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How one worker works.

    Raises ``TypeError`` or ``ValueError`` for what is out of bounds, in words that begin with the field's name.
    """

    worker_id: str
    concurrency: int = 32  # fetches at a time
    batch_size: int = 10  # messages a poll
    lease_seconds: float = 60.0
    poll_seconds: float = 0.1  # the longest wait of one poll
    linger_seconds: float = 0.01  # what is gathered for so long goes to the frontier together
    first_retry_seconds: float = 2.0  # the wait after the first trouble; it doubles
    robots_grace_seconds: float = 86_400.0
    new_host_grace_seconds: float = PATIENCE.new_host_seconds  # for a host in trouble that never answered
    host_grace_seconds: float = PATIENCE.known_host_seconds  # and for one that has
    first_rest_seconds: float = PATIENCE.first_rest_seconds  # of a host in trouble; it doubles
    sweep_seconds: float = 30.0  # between two sweeps
    seen_urls: int = 200_000  # links that are known to be recorded, so as not to ask again
    large_bodies: int | None = None  # bodies past LARGE_BYTES at a time, until their links are recorded
    max_pages: int | None = None  # fetched pages in the frontier, after which no more is taken
    max_bytes: int | None = None  # decoded bytes, likewise

    ranges: ClassVar[dict[str, Range]] = {
        "concurrency": Range(1, 1000),
        "batch_size": Range(1, 10),  # SQS's most
        "lease_seconds": seconds(1, 43_200),  # SQS's longest visibility timeout
        "poll_seconds": seconds(0, 20),  # SQS's longest poll
        "linger_seconds": seconds(0, 60),
        "first_retry_seconds": seconds(0, 3600),
        "robots_grace_seconds": seconds(0, 30 * 86_400),
        "new_host_grace_seconds": seconds(0, 30 * 86_400),
        "host_grace_seconds": seconds(0, 30 * 86_400),
        "first_rest_seconds": seconds(0.01, 3600),
        "sweep_seconds": seconds(0.01, 86_400),
        "seen_urls": Range(0),
        "large_bodies": optional(1),
        "max_pages": optional(1),
        "max_bytes": optional(1),
    }

    def __post_init__(self) -> None:
        check_numbers(self, self.ranges)
        check_line("worker_id", self.worker_id)

    @property
    def room_seconds(self) -> float:
        """The longest wait in the middle of a fetch."""
        return ROOM_SECONDS if self.large_bodies is not None else 0.0

    def check(self, fetch_seconds: float) -> None:
        """Raise ``ValueError`` where a lease could end before its fetch does."""
        margin = LEASE_MARGIN_SECONDS + self.room_seconds
        if self.lease_seconds <= fetch_seconds + margin:
            raise ValueError(
                f"a lease of {self.lease_seconds:g} s is too short: it must be longer than the fetch limit "
                f"({fetch_seconds:g} s) and a margin of {margin:g} s"
            )


TOO_LONG: Final = Blocked(
    Reason.URL_TOO_LONG, f"longer than {MAX_URL_BYTES} bytes: this is its beginning, with a digest of the whole"
)


class WorkerIdTakenError(FrontierError):
    """Another worker with the same id is at work."""


class NothingReachedError(FrontierUnavailableError):
    """Nothing could be asked for a day, through trouble of our own. What is queued stays queued."""


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """One finished fetch, as sinks get it."""

    message: Message
    fetched: Fetched
    outcome: Outcome
    page: PageLinks | None  # none if it was no page to parse


Sink = Callable[[Visit], Awaitable[None]]
"""Takes every fetch that ended its record, just after it did. While it does, its place among the
fetches in flight is not given to another, so a slow sink slows the worker down."""


class Tally:
    """What one worker has done so far."""

    def __init__(self) -> None:
        self.received = 0
        self.finished: Counter[Status] = Counter()
        self.retried = 0
        self.deferred = 0
        self.lost = 0
        self.bytes = 0
        self.fetches = 0
        self.fetch_seconds = 0.0
        self.in_flight = 0

    def sums(self) -> dict[str, float]:
        """All that is counted, by the names of a :class:`Sample`."""
        names = ("received", "retried", "deferred", "lost", "bytes", "fetches", "fetch_seconds")
        finished = {str(status): self.finished[status] for status in (Status.DONE, Status.FAILED, Status.BLOCKED)}
        return {**finished, **{name: getattr(self, name) for name in names}}


class RecentUrls:
    """URLs that are known to be in the frontier: a bounded memory of the latest.

    Two generations: when the young one is full it becomes the old one, which is forgotten.
    """

    def __init__(self, size: int) -> None:
        self._half = size // 2
        self._young: set[str] = set()
        self._old: set[str] = set()

    def __contains__(self, url: str) -> bool:
        return url in self._young or url in self._old

    def add(self, url: str) -> None:
        if len(self._young) >= self._half:
            self._old, self._young = self._young, set()
        self._young.add(url)

    def discard(self, url: str) -> None:
        self._young.discard(url)
        self._old.discard(url)

    def clear(self) -> None:
        self._young.clear()
        self._old.clear()


class Worker:
    """Takes messages from a frontier and works on them; see the module's docstring.

    ``fetch_seconds`` is the fetcher's limit for one fetch. Raises ``ValueError`` for options that
    do not fit together.
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
    ) -> None:
        fetch_seconds = fetcher.options.timeout_seconds
        options.check(fetch_seconds)
        self.tally = Tally()
        self.unended: dict[str, Delivery] = {}  # by receipt, those of :meth:`work_on` that are not ended yet
        self._frontier = frontier
        self._fetcher = fetcher
        self._options = options
        self._clock = clock
        self._rng = rng
        self._sinks = sinks
        self._fetch_seconds = fetch_seconds
        self._stopping = asyncio.Event()
        self._politeness = Politeness(
            frontier,
            fetcher,
            clock=clock,
            rng=rng,
            stopping=self._stopping,
            request_seconds=fetch_seconds + options.room_seconds,
            robots_grace_seconds=options.robots_grace_seconds,
            linger_seconds=options.linger_seconds,
            patience=Patience(
                first_rest_seconds=options.first_rest_seconds,
                new_host_seconds=options.new_host_grace_seconds,
                known_host_seconds=options.host_grace_seconds,
            ),
        )
        self._network = self._politeness.network
        self._recent = RecentUrls(options.seen_urls)
        self._finished = RecentUrls(FINISHED_URLS)
        self._suspects = RecentUrls(SUSPECTS)
        self._generation = frontier.generation  # of what these remember
        self._gate = Gate()
        self._turn = asyncio.Lock()  # of suspects
        self._fetches = asyncio.Semaphore(options.concurrency)
        self._large = asyncio.Semaphore(options.large_bodies) if options.large_bodies is not None else None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ending = 0  # tasks past their fetch
        self._changed = asyncio.Event()  # a task ended or went past its fetch
        self._claims: dict[str, tuple[Won, Delivery]] = {}  # what is claimed and not yet ended
        self._left: list[tuple[Won, Delivery]] = []  # claims that a busy frontier did not let us end
        self._cut_short: set[str] = set()  # URLs that were fetched, and not ended when it was time to stop
        self._sampled: dict[str, float] = Tally().sums()  # of the tally, at the end of the last sample
        self._sampled_at = clock()
        self._session = f"{rng.getrandbits(64):016x}"
        linger = options.linger_seconds
        self._claim = Batcher(self._claim_batch, size=options.batch_size)
        self._finish = Batcher(frontier.finish, size=50, linger_seconds=linger)
        self._retry = Batcher(frontier.retry, size=50, linger_seconds=linger)
        self._defer = Batcher(self._defer_batch, size=50, linger_seconds=linger)
        self._delete = Batcher(self._delete_batch, size=50, linger_seconds=linger)

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
        self._gate.send_away()
        self._changed.set()

    async def run(self, mode: Mode) -> None:
        """Work until the mode or :meth:`stop` ends it.

        Raises :class:`WorkerIdTakenError`, and whatever :class:`FrontierError` makes work
        impossible. Being cancelled stops it at once; the leases bring the work back.
        """
        worker_id, session = self._options.worker_id, self._session
        if not await self._sign_in():
            return
        try:
            async with asyncio.TaskGroup() as group:
                upkeep = [
                    group.create_task(self._keep_checking_in()),
                    group.create_task(keep_sweeping(self._frontier, self._options.sweep_seconds)),
                ]
                await self._take_in(mode, group)
                await self._drain()
                self._check_network()
                for task in upkeep:
                    task.cancel()
        except BaseExceptionGroup as errors:
            raise fatal_one(errors) from None
        finally:
            await self._close_batchers()
            with contextlib.suppress(FrontierError):  # it is forgotten by itself after a while
                await self._frontier.check_out(worker_id, session=session)
            await self._leave_last_sample()

    async def work_on(self, deliveries: Sequence[Delivery], *, until: float) -> None:
        """Work on deliveries that somebody else received. It may be called again and again.

        At ``until`` (seconds since the epoch) it stops as :meth:`stop` does. What is in
        :attr:`unended` afterwards comes back to the queue by itself. Raises whatever
        :class:`FrontierError` makes work impossible. Being cancelled leaves what is claimed to its lease.
        """
        self._stopping.clear()
        self._politeness.look_anew()
        self._claims.clear()
        self._left.clear()
        self._cut_short.clear()
        self.tally = Tally()
        self._sampled, self._sampled_at = self.tally.sums(), self._clock()
        self.tally.received = len(deliveries)
        self.unended = {delivery.receipt: delivery for delivery in deliveries}
        timer = asyncio.get_running_loop().call_later(until - self._clock(), self.stop)
        try:
            async with asyncio.TaskGroup() as group:
                for delivery in deliveries:
                    self._start(delivery, group)
                await self._drain()
        except BaseExceptionGroup as errors:
            raise fatal_one(errors) from None
        finally:
            timer.cancel()
        await self._close_batchers()
        await self._leave_last_sample()

    async def _close_batchers(self) -> None:
        for batcher in (self._claim, self._finish, self._retry, self._defer, self._delete):
            await batcher.close()
        await self._politeness.close()

    async def _sign_in(self) -> bool:
        """Check in for the first time; False if it was told to stop before it could.

        A worker that was killed is on the list for a while. Its row runs out, where that of one that
        lives is renewed: so a worker of the same name waits to see which it is.
        """
        worker_id = self._options.worker_id
        seen_at: float | None = None
        while not await self._check_in():
            rows = [row for row in await self._frontier.workers() if row.worker_id == worker_id]
            if rows and seen_at is not None and rows[0].seen_at > seen_at:
                raise WorkerIdTakenError(
                    f"a worker named {worker_id!r} is at work on this frontier: choose another --worker-id"
                )
            if rows and seen_at is None:
                seen_at = rows[0].seen_at
                log.warning(
                    "worker_id_in_use",
                    worker_id=worker_id,
                    last_seen_seconds_ago=round(self._clock() - seen_at),
                    waiting="until that worker is gone, or is seen again",
                )
            if await self._politeness.pause_until(self._clock() + CHECK_IN_AGAIN_SECONDS):
                return False
        return True

    async def _check_in(self) -> bool:
        return await self._frontier.check_in(
            self._options.worker_id, session=self._session, ttl_seconds=CHECK_IN_SECONDS
        )

    async def _keep_checking_in(self) -> None:
        while True:
            await asyncio.sleep(CHECK_IN_SECONDS / 3)
            try:
                await self._check_in()
                await self._sample()
            except FrontierBusyError as error:
                log.warning("frontier_busy", during="check in", error=str(error))

    async def _sample(self) -> None:
        """Leave what was done since the last time with the frontier."""
        now, sums = self._clock(), self.tally.sums()
        done = {name: number - self._sampled[name] for name, number in sums.items()}
        sample = msgspec.convert({"at": now, "seconds": now - self._sampled_at, **done}, Sample)
        await self._frontier.save_sample(sample)
        self._sampled, self._sampled_at = sums, now

    async def _leave_last_sample(self) -> None:
        """The work is done, whether that can be told or not."""
        try:
            await self._sample()
        except FrontierError as error:
            log.warning("sample_lost", error=str(error))

    # Taking in.

    async def _take_in(self, mode: Mode, group: asyncio.TaskGroup) -> None:
        backoff = 0.0
        while not self._stopping.is_set() and not self._network.is_spent:
            try:
                room = await self._room()
                if room == 0:
                    return
                if not await self._network_lets_in():
                    continue
                most = 1 if self._network.is_down else self._options.batch_size  # one URL probes for all
                deliveries = await self._receive(min(room, most))
                is_done = not deliveries and mode is Mode.UNTIL_EMPTY and await self._is_done()
                backoff = 0.0
            except FrontierBusyError as error:
                backoff = min(max(1.0, backoff * 2), MAX_BACKOFF_SECONDS)
                log.warning("frontier_busy", during="receive", error=str(error), again_in_seconds=backoff)
                await self._politeness.pause_until(self._clock() + backoff)
                continue
            self.tally.received += len(deliveries)
            for delivery in deliveries:
                self._start(delivery, group)
            if not deliveries:
                log.debug("No messages")
            if is_done or mode is Mode.ONCE:
                return

    async def _network_lets_in(self) -> bool:
        """Wait a while as long as nothing can be asked; whether something may be taken in, at least for a probe."""
        network = self._network
        if not network.is_down or (not self._tasks and self._clock() >= network.again_at):
            return True
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(network.again_at - self._clock(), PROBE_POLL_SECONDS)):
                await self._changed.wait()
        return False

    def _check_network(self) -> None:
        network = self._network
        if network.is_spent and network.reason is not None:
            raise NothingReachedError(
                f"nothing could be asked for a day ({network.reason.value}: {network.detail}): no URL has paid for it. "
                "Mend that, and start again: what is queued stays queued"
            )

    def _start(self, delivery: Delivery, group: asyncio.TaskGroup) -> None:
        task = group.create_task(self._work_on(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._changed.set()

    async def _room(self) -> int:
        """How many deliveries could be started now: waits until there are some. 0: stop taking."""
        options = self._options
        enough = max(1, min(options.batch_size, options.concurrency // 4))
        while not self._stopping.is_set():
            self._changed.clear()
            await self._give_back_what_was_left()
            waiting = min(self._politeness.waiting, 4 * options.concurrency)
            concurrency = self._network.most_at_a_time(options.concurrency, self._clock())
            room = concurrency - (len(self._tasks) - self._ending - waiting)
            if room >= min(enough, concurrency):
                if options.max_pages is None and options.max_bytes is None:
                    return room
                left = await self._budget_left()
                if left > 0:
                    return min(room, left)
                if not self._tasks:
                    return 0
            await self._changed.wait()
        return 0

    async def _budget_left(self) -> int:
        """Pages that may still be taken in. Other workers' unclaimed ones are not seen."""
        counts = await self._frontier.counts()
        status = counts.by_status
        if self._options.max_bytes is not None and counts.bytes >= self._options.max_bytes:
            return 0
        if self._options.max_pages is None:
            return self._options.concurrency
        unclaimed = len(self._tasks) - len(self._claims)
        pages = status[Status.DONE] - counts.redirects + status[Status.FAILED]
        return self._options.max_pages - (pages + status[Status.PROCESSING] + unclaimed)

    async def _receive(self, limit: int) -> list[Delivery]:
        receiving = asyncio.ensure_future(self._frontier.receive(limit, wait_seconds=self._options.poll_seconds))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((receiving, stopping), return_when=asyncio.FIRST_COMPLETED)
            # A poll that were left half-way could have hidden messages from everybody: it ends by itself,
            # and what it still brings is given back. One that is not answered even then found nobody.
            await asyncio.wait((receiving,), timeout=self._options.poll_seconds + STOP_MARGIN_SECONDS)
            return receiving.result() if receiving.done() else []
        finally:
            receiving.cancel()
            stopping.cancel()

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
        if self._tasks or (await self._frontier.counts()).open:
            return False
        return (await self._frontier.queue_stats()).is_empty

    async def _drain(self) -> None:
        """Wait for what is in hand; once stopping, no longer than the fetch limit."""
        while self._tasks and not self._stopping.is_set():
            self._changed.clear()
            await self._changed.wait()
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=self._fetch_seconds + STOP_MARGIN_SECONDS)
            for task in set(self._tasks):
                task.cancel()
            if self._tasks:
                await asyncio.wait(set(self._tasks))
            # What was fetched and could not be ended in time is left to its lease: if that happens to a
            # page again and again, it is given up like one that kills its worker.
            self._left += [held for url, held in self._claims.items() if url not in self._cut_short]
            self._claims.clear()
        try:
            await self._give_back_what_was_left()
        except FrontierBusyError as error:  # the leases bring it back
            log.warning("frontier_busy", during="stop", error=str(error))

    async def _give_back_what_was_left(self) -> None:
        """Give back claims that could not be ended, though not by their URLs' fault."""
        if not self._left:
            return
        now, left, self._left = self._clock(), self._left, []
        given_back = [Retry(claim=claim, delivery=delivery, at=now, tried=False) for claim, delivery in left]
        try:
            answers = await self._frontier.retry(given_back)
        except FrontierBusyError:
            self._left += left
            raise
        for gift, is_given in zip(given_back, answers, strict=True):
            if is_given:
                self._is_ended(gift.delivery)

    # The life of one delivery.

    async def _work_on(self, delivery: Delivery) -> None:
        """Nothing that goes wrong with one URL stops the others; what ails the frontier does."""
        message = decode_message(delivery.body)
        if isinstance(message, BadBody):
            # Left unended: it comes back until it reaches the dead letters.
            log.warning("bad_message", message_id=delivery.message_id, why=message.why)
            return
        try:
            try:
                await self._see_to(delivery, message)
            except FrontierError:
                raise
            except Exception:
                log.exception("internal_error", url=message.url)
                if (claim := self._claim_of(delivery, message)) is not None:
                    await self._end_trouble(claim, delivery, Reason.INTERNAL_ERROR, "see the worker's log")
        except FrontierBusyError as error:
            log.warning("frontier_busy", url=message.url, error=str(error))
            if (claim := self._claim_of(delivery, message)) is not None:
                self._left.append(self._claims.pop(message.url))

    def _claim_of(self, delivery: Delivery, message: Message) -> Won | None:
        """The claim that was won for a delivery, if it is not ended yet."""
        claim, claimed_by = self._claims.get(message.url, (None, None))
        return claim if claimed_by is delivery else None

    async def _see_to(self, delivery: Delivery, message: Message) -> None:
        if self._stopping.is_set():
            await self._defer(Deferral(delivery=delivery, until=self._clock()))
            return
        self._forget_what_was_cleared()
        if delivery.is_finished or message.url in self._finished:
            await self._lose(delivery, message)
            return
        verdict = TOO_LONG if is_cut(message.url) else await self._politeness.judge(message)
        match verdict:
            case Postponed(until, message):
                await self._defer(Deferral(delivery=delivery, until=until, message=message))
                return
            case Blocked():
                await self._end_unfetched(delivery, message, verdict)
                return
        room = _Room(self._large)
        place = _Place(self._gate, self._turn if message.url in self._suspects else None)
        try:
            is_stopped = await self._visit(delivery, message, room, place)
        finally:
            place.give_back()
            room.give_back()
            self._politeness.release(message)
        if is_stopped:
            await self._see_to(delivery, message)

    def _forget_what_was_cleared(self) -> None:
        """What is remembered of records holds until they are cleared away."""
        if self._generation != self._frontier.generation:
            self._generation = self._frontier.generation
            for memory in (self._recent, self._finished, self._suspects):
                memory.clear()

    async def _end_unfetched(self, delivery: Delivery, message: Message, blocked: Blocked) -> None:
        claim = await self._win(delivery, message)
        if claim is not None:
            reason = blocked.reason
            await self._end(claim, delivery, Outcome(status=reason.status, reason=reason, detail=blocked.detail))

    async def _lose(self, delivery: Delivery, message: Message) -> None:
        """Claim a URL that is known to be finished, so as to be told so: no slot of its host is used up.

        Should it be won, it has been put into the queue anew; then it goes the usual way.
        """
        self._finished.discard(message.url)
        claim = await self._win(delivery, message)
        if claim is not None:
            await self._give_back_unused(claim, delivery, self._clock())

    async def _visit(self, delivery: Delivery, message: Message, room: _Room, place: _Place) -> bool:
        """Wait for the host, claim, fetch, end the claim. True: it is to be judged anew, since an order stopped it or
        what it was judged by was cleared away."""
        not_before, generation = 0.0, self._frontier.generation
        give_up_at: float | None = None
        visited: _Visited | None = None
        while True:
            ready = await self._politeness.wait_for_slot(message, not_before)
            if isinstance(ready, Postponed):
                await self._defer(Deferral(delivery=delivery, until=ready.until, message=ready.message))
                return False
            if isinstance(ready, Blocked):
                await self._end_unfetched(delivery, message, ready)
                return False
            message = ready
            if not await place.has_its_turn():
                until = self._clock() + TURN_AGAIN_SECONDS
                await self._defer(Deferral(delivery=delivery, until=until, message=message))
                return False
            async with self._fetches:
                if self._stopping.is_set() or not await place.take() or self._stopping.is_set():
                    await self._defer(Deferral(delivery=delivery, until=self._clock(), message=message))
                    return False
                # Who is alone waits for a near moment here: having waited for others anew it would be too late again.
                enter = self._politeness.enter_soon if place.alone else self._politeness.enter
                permission = await enter(message)
                if isinstance(permission, Pass) and self._frontier.generation != generation:
                    await self._politeness.leave(permission, requested_at=permission.asked_at)
                    return True
                if isinstance(permission, Pass):
                    visited = await self._claim_and_fetch(delivery, message, permission, room, alone=place.alone)
                    break
                place.give_back()
            if permission.is_stopped:
                return True
            if give_up_at is None:
                give_up_at = self._clock() + BUSY_SECONDS
            elif self._clock() > give_up_at:  # before its message comes back by itself, with a receive counted
                until = max(permission.again_at, self._clock() + TURN_AGAIN_SECONDS)
                await self._defer(Deferral(delivery=delivery, until=until, message=message))
                return False
            not_before = permission.again_at
            if permission.is_void:
                message = msgspec.structs.replace(message, slot=None)
        if visited is None:
            return False
        gives_up_its_place = not self._sinks
        self._ending += gives_up_its_place
        self._changed.set()
        try:
            await self._conclude(visited, delivery, message, room, place)
        except asyncio.CancelledError:
            self._cut_short.add(message.url)
            raise
        finally:
            self._ending -= gives_up_its_place
        return False

    async def _claim_and_fetch(
        self, delivery: Delivery, message: Message, permission: Pass, room: _Room, *, alone: bool
    ) -> _Visited | None:
        """Claim and fetch; ``None`` if there is nothing left to do."""

        async def before_large() -> bool:
            """Asked by the fetcher before it reads the rest of a large body."""
            room.is_refused = not await room.take() or self._stopping.is_set()
            return not room.is_refused

        held: Pass | None = permission
        requested_at = None
        try:
            claim = await self._win(delivery, message)
            if claim is None or await self._is_suspended(claim, delivery, alone=alone):
                return None
            if await self._politeness.is_stopped(permission, message.settings):
                await self._give_back_unused(claim, delivery, self._clock())
                return None
            if self._politeness.is_late(permission, message.settings.per_host):  # last: all the above takes time
                held = None
                anew = await self._politeness.enter_anew(permission, message)
                if isinstance(anew, Busy):
                    await self._give_back_unused(claim, delivery, anew.again_at)
                    return None
                permission = held = anew
            if claim.lease_until - self._clock() < self._fetch_seconds:  # its answer came late, or we slept
                await self._give_back_unused(claim, delivery, self._clock())
                return None
            self.tally.in_flight += 1
            started_at = self._clock()
            try:
                fetched = await self._fetcher.fetch(
                    message.url, before_large=None if self._large is None else before_large
                )
            finally:
                self.tally.in_flight -= 1
            requested_at = started_at + fetched.sent_seconds
            self.tally.fetches += 1
            self.tally.fetch_seconds += fetched.elapsed_seconds
            return _Visited(claim, fetched, permission.asked_at)
        finally:
            if held is not None:
                await self._politeness.leave(held, requested_at=requested_at)

    async def _win(self, delivery: Delivery, message: Message) -> Won | None:
        """Claim a URL; ``None`` if it was lost."""
        claim = await self._claim(ClaimRequest(delivery=delivery, message=message))
        if isinstance(claim, Lost) and claim.why is LostReason.REFUSED:
            # Left unended, as a message that is none: it comes back until it reaches the dead letters.
            log.warning("refused", url=message.url, message_id=delivery.message_id, why=claim.detail)
            return None
        if isinstance(claim, Lost):
            self.tally.lost += 1
            log.info(f"LOST race — already claimed by another consumer: {message.url}")
            if claim.why is LostReason.FINISHED:
                self._finished.add(message.url)
                await self._delete(delivery)
            else:
                await self._defer(Deferral(delivery=delivery, until=claim.lease_until))
            return None
        log.info(f"WON race — claimed for processing: {message.url}")
        self._claims[message.url] = (claim, delivery)
        return claim

    async def _is_suspended(self, claim: Won, delivery: Delivery, *, alone: bool) -> bool:
        """Whether a URL may not be fetched now, for its claims were never ended: its page may kill its workers.

        So may one that was beside it, whose claims they took along. So it is tried alone before it is given up.
        """
        if claim.unended > GIVEN_UP_AFTER:
            detail = (
                f"{GIVEN_UP_AFTER} claims in a row were never ended, the last of them with no other fetch beside it"
            )
            await self._end(claim, delivery, Outcome(status=Status.FAILED, reason=Reason.CRASHED, detail=detail))
            return True
        if claim.unended > SUSPECTED_AFTER and not alone:
            # No lease is held while it waits for its turn.
            log.warning("suspect", url=claim.url, unended_claims=SUSPECTED_AFTER, fetched="alone, when it comes back")
            self._suspects.add(claim.url)
            await self._give_back_unused(claim, delivery, self._clock())
            return True
        return False

    async def _conclude(
        self, visited: _Visited, delivery: Delivery, message: Message, room: _Room, place: _Place
    ) -> None:
        claim, fetched, asked_at = visited
        if room.is_refused:  # another worker may have some
            await self._give_back(claim, delivery, 0.0, tried=False, outcome=None)
            return
        learned = await self._politeness.learn(host_of(message.url), fetched, asked_at)
        outcome, page, entry = assess(fetched, message, self._fetcher.options.product_token)
        self._forget_what_was_cleared()
        if not learned.counts:  # it was the host's, or ours
            await self._give_back(claim, delivery, learned.again_at, tried=False, outcome=outcome)
            seconds = round(learned.again_at - self._clock(), 1)
            log.info("waits", url=claim.url, reason=outcome.reason, in_seconds=seconds)
        elif not await self._tried_again(claim, delivery, outcome, learned.retry_after):
            links: Iterable[Entry] = self._new_links(page, message) if page else ()
            if entry is not None and entry.url not in self._recent:
                links = (entry,)
            if await self._end(claim, delivery, outcome, links):
                if page and page.left_out:
                    reasons = {reason.value: number for reason, number in page.left_out.items()}
                    log.info("links_left_out", url=message.url, **reasons)
                place.give_back()  # the page is done: what a sink does is not its fault, and may take long
                for sink in self._sinks:
                    await sink(Visit(message=message, fetched=fetched, outcome=outcome, page=page))

    def _new_links(self, page: PageLinks, message: Message) -> Iterator[Entry]:
        """The links of a page that lie within the crawl and are not known to be recorded."""
        settings, seed = message.settings, message.seed
        if settings.scope is Scope.PAGE or page.nofollow:
            return
        depth, redirects = message.depth + 1, 0
        if page.leads_to is not None and message.is_seed and message.redirects < MAX_REDIRECTS:
            depth = 0
            if message.parent is not None:  # or redirects and refreshes in turn would lead on without end
                redirects = message.redirects + 1
            if in_scope(page.leads_to, Scope.DOMAIN, seed):
                seed = page.leads_to
        if depth > (MAX_DEPTH if settings.max_depth is None else settings.max_depth):
            return
        inherited = measured_from(settings, seed)
        found = (link for link in chain(page.links, page.too_long) if link not in self._recent)
        for link in within(found, settings, seed):
            yield Entry(url=link, depth=depth, parent=message.url, settings=inherited, redirects=redirects)

    # Ending a claim.

    async def _end(self, claim: Won, delivery: Delivery, outcome: Outcome, links: Iterable[Entry] = ()) -> bool:
        """Finish a record; False if the claim had been lost meanwhile."""
        last = await self._record_all_but_last(links)
        finished = await self._finish(Finish(claim=claim, delivery=delivery, outcome=outcome, links=last))
        self._claims.pop(claim.url, None)
        if not finished:
            log.warning("stale_claim", url=claim.url, attempt=claim.attempt)
            return False
        self._is_ended(delivery)
        self._suspects.discard(claim.url)
        self.tally.finished[outcome.status] += 1
        self.tally.bytes += outcome.bytes
        # Only now are they known to be recorded; links of a claim that failed must be seen again.
        self._recent.add(claim.url)
        self._finished.add(claim.url)
        self._remember(last)
        log.debug(
            "finished",
            url=claim.url,
            status=outcome.status.value,
            reason=outcome.reason.value if outcome.reason else None,
            http_status=outcome.http_status,
            bytes=outcome.bytes,
            elapsed_ms=outcome.elapsed_ms,
        )
        return True

    def _remember(self, recorded: Iterable[Entry]) -> None:
        """Links that need not be recorded again. Where a redirect leads is not among them while it is open: a way
        with fewer redirects may yet be found."""
        for entry in recorded:
            if not entry.redirects:
                self._recent.add(entry.url)

    async def _record_all_but_last(self, links: Iterable[Entry]) -> tuple[Entry, ...]:
        """Record the links of a page a thousand at a time, so that no transaction grows with the page; the
        last of them are left to its finish. Those of a claim that is lost or never ended do no harm."""
        some: list[Entry] = []
        for link in links:
            if len(some) == LINKS_AT_A_TIME:
                await self._frontier.enqueue(some)
                self._remember(some)
                some = []
            some.append(link)
        return tuple(some)

    async def _end_trouble(self, claim: Won, delivery: Delivery, reason: Reason, detail: str) -> None:
        """Trouble without an answer: again by the policy, or failed."""
        outcome = Outcome(status=status_for(reason), reason=reason, detail=detail)
        if not await self._tried_again(claim, delivery, outcome, None):
            await self._end(claim, delivery, outcome)

    async def _tried_again(self, claim: Won, delivery: Delivery, outcome: Outcome, retry_after: float | None) -> bool:
        """Put the URL back for another try, if the policy has one."""
        if outcome.reason is None:
            return False
        rule = retry.rule_for(outcome.reason, outcome.http_status)
        wait = retry.wait_before_retry(rule, claim.tries + 1, self._options.first_retry_seconds, retry_after, self._rng)
        if wait is None:
            return False
        await self._give_back(claim, delivery, self._clock() + wait, tried=True, outcome=outcome)
        log.info("retry", url=claim.url, reason=outcome.reason.value, in_seconds=round(wait, 1))
        return True

    async def _give_back(
        self, claim: Won, delivery: Delivery, at: float, *, tried: bool, outcome: Outcome | None
    ) -> None:
        self._suspects.discard(claim.url)
        await self._put_back(Retry(claim=claim, delivery=delivery, at=at, tried=tried, outcome=outcome))

    async def _give_back_unused(self, claim: Won, delivery: Delivery, at: float) -> None:
        """Nothing was asked under a claim."""
        await self._put_back(Retry(claim=claim, delivery=delivery, at=at, tried=False, is_unused=True))

    async def _put_back(self, retry: Retry) -> None:
        claim, delivery = retry.claim, retry.delivery
        given = await self._retry(retry)
        self._claims.pop(claim.url, None)
        if not given:
            log.warning("stale_claim", url=claim.url, attempt=claim.attempt)
            return
        self._is_ended(delivery)
        self.tally.retried += retry.tried

    def _is_ended(self, delivery: Delivery) -> None:
        self.unended.pop(delivery.receipt, None)

    # Batch operations whose answer is nothing.

    async def _claim_batch(self, requests: Sequence[ClaimRequest]) -> Sequence[Won | Lost]:
        return await self._frontier.claim(
            requests,
            worker_id=self._options.worker_id,
            claim_id=f"{self._rng.getrandbits(48):012x}",
            lease_seconds=self._options.lease_seconds,
        )

    async def _defer_batch(self, deferrals: Sequence[Deferral]) -> Sequence[None]:
        await self._frontier.defer(deferrals)
        self.tally.deferred += len(deferrals)
        for deferral in deferrals:
            self._is_ended(deferral.delivery)
        return [None] * len(deferrals)

    async def _delete_batch(self, deliveries: Sequence[Delivery]) -> Sequence[None]:
        await self._frontier.delete(deliveries)
        for delivery in deliveries:
            self._is_ended(delivery)
        return [None] * len(deliveries)


class _Visited(NamedTuple):
    """A fetch under a claim."""

    claim: Won
    fetched: Fetched
    asked_at: float  # when the permission for it was asked for


class _Place:
    """One fetch's place among those of its worker, from before it is claimed until its claim is ended.

    A suspect has it with no other fetch beside it, when its ``turn`` comes. It waits for that outside of the gate, so
    that others are let in between two of them, and not for so long that its message would come back meanwhile.
    """

    def __init__(self, gate: Gate, turn: asyncio.Lock | None) -> None:
        self.alone = turn is not None
        self._gate = gate
        self._turn = turn
        self._has_turn = False
        self._is_taken = False

    async def has_its_turn(self) -> bool:
        """Wait for it; whether it has come in time."""
        if self._turn is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TURN_SECONDS):
                    await self._turn.acquire()
                    self._has_turn = True
        return self._turn is None or self._has_turn

    async def take(self) -> bool:
        """Wait for it; False if sent away."""
        self._is_taken = await self._gate.enter(alone=self.alone)
        return self._is_taken

    def give_back(self) -> None:
        if self._is_taken:
            self._is_taken = False
            self._gate.leave()
        if self._turn is not None and self._has_turn:
            self._has_turn = False
            self._turn.release()


class _Room:
    """The room in memory that one large body takes, from when it is read until its links are recorded."""

    def __init__(self, large: asyncio.Semaphore | None) -> None:
        self._large = large
        self._is_taken = False
        self.is_refused = False

    async def take(self) -> bool:
        """Wait for room, at most as long as a lease has time for; whether there is."""
        if self._large is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ROOM_SECONDS):
                    await self._large.acquire()
                    self._is_taken = True
        return self._is_taken

    def give_back(self) -> None:
        """The body is of no more use."""
        if self._large is not None and self._is_taken:
            self._is_taken = False
            self._large.release()


def fatal_one(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """What ails the frontier, of all that went wrong at the same time."""
    fatal = errors.subgroup(FrontierError)
    return errors if fatal is None else fatal.exceptions[0]


def assess(fetched: Fetched, message: Message, product_token: str) -> tuple[Outcome, PageLinks | None, Entry | None]:
    """What a fetch means for its record; what is on the page if it was one, where it leads if it was a redirect."""
    page = None
    settings = message.settings
    way = None if fetched.redirect_to is None else led(message, fetched.redirect_to)
    reason = way.reason if way else fetched.reason
    if reason is None and way is None:
        options = LinkOptions(
            meta_refresh=settings.meta_refresh,
            srcset=settings.srcset,
            drop_tracking=settings.drop_tracking,
            obey_nofollow=settings.obey_nofollow,
        )
        page = read_page(fetched.body, fetched.url, fetched.headers, options, product_token)
    has_body = fetched.http_status is not None and way is None
    content_type = fetched.header("content-type")
    outcome = Outcome(
        status=status_for(reason),
        reason=reason,
        detail=way.detail if way else fetched.detail,
        http_status=fetched.http_status,
        content_type=content_type.partition(";")[0].strip().lower() if content_type else None,
        bytes=len(fetched.body),
        truncated=fetched.truncated,
        digest=f"sha256:{hashlib.sha256(fetched.body).hexdigest()}" if has_body else None,
        title=page.title if page else None,
        elapsed_ms=round(fetched.elapsed_seconds * 1000),
        redirect_to=way.to if way and reason is None else None,
        links_left_out=sum(page.left_out.values()) if page else 0,
    )
    return outcome, page, way.entry if way else None
