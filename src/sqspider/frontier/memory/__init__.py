"""The frontier in this process's memory: what the words of the port mean, in dictionaries and heaps.

For tests, simulators and readers: nothing is kept when the process ends. What is there is one
:class:`MemoryStore`; each worker has a handle on it, a :class:`MemoryFrontier` with a clock of its own. Every
operation is one step that nobody sees the middle of, and none costs more when more is waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar

import msgspec

from sqspider.figures import COUNTED, KEPT_SECONDS, Point, Sample
from sqspider.frontier import (
    CHANCE,
    Admission,
    ClaimRequest,
    Clock,
    Counts,
    DeadLetter,
    Deferral,
    Delivery,
    Entrance,
    Entry,
    Exit,
    Finish,
    FrontierSettings,
    Lost,
    QueueStats,
    Retry,
    RobotsRow,
    SlotDemand,
    Traits,
    Won,
    WorkerRow,
)
from sqspider.frontier.answers import (
    Claimant,
    claim_told,
    claimed,
    claimed_in_order,
    counts_of,
    first_request_of_each,
    given_back,
    next_look,
    not_before,
)
from sqspider.frontier.memory.store import MemoryStore as MemoryStore
from sqspider.frontier.memory.store import Session, Stored
from sqspider.host import HostRow, HostState, entered, left, reserved, saved, sums_of, with_sums
from sqspider.incident import is_in_trouble
from sqspider.message import Message, encode_message
from sqspider.record import Operation, Status, UrlRecord

P = ParamSpec("P")
T = TypeVar("T")

SCAN_BATCH: Final = 1000

replace = msgspec.structs.replace


class Runner(Protocol):
    """Runs the steps of a handle, each at once; what it awaits before and after is between it and its caller."""

    async def run(self, work: Callable[[], T]) -> T: ...


class _InTurn:
    """Lets others have their turn before each step, as they have it wherever an operation takes its time."""

    async def run(self, work: Callable[[], T]) -> T:
        await asyncio.sleep(0)
        return work()


def _operation(
    step: Callable[Concatenate[MemoryFrontier, P], T],
) -> Callable[Concatenate[MemoryFrontier, P], Coroutine[Any, Any, T]]:
    """An operation of the port that is one step."""

    @functools.wraps(step)
    async def operation(self: MemoryFrontier, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._runner.run(lambda: step(self, *args, **kwargs))

    return operation


class MemoryFrontier:
    """A handle on a store: the :class:`~sqspider.frontier.Frontier` of one worker.

    Its ``runner`` runs each step: there a simulator lets time pass, or the worker die.
    """

    def __init__(
        self,
        store: MemoryStore,
        settings: FrontierSettings,
        *,
        clock: Clock,
        rng: random.Random = CHANCE,
        runner: Runner | None = None,
    ) -> None:
        self._store = store
        self._settings = settings
        self._clock = clock
        self._runner = runner or _InTurn()
        self._receipts = 0
        self._receipt_prefix = f"{rng.getrandbits(48):012x}"
        self._generation = store.generation

    @property
    def place(self) -> str:
        return "memory"

    @property
    def traits(self) -> Traits:
        return Traits()

    @property
    def generation(self) -> int:
        return self._generation

    def now(self) -> float:
        return self._clock()

    async def close(self) -> None:
        pass

    # Work.

    @_operation
    def enqueue(self, entries: Sequence[Entry]) -> list[bool]:
        return self._enqueue(entries)

    def _enqueue(self, entries: Iterable[Entry]) -> list[bool]:
        return [self._record(entry) and self._send(encode_message(entry.to_message())) for entry in entries]

    def _record(self, entry: Entry) -> bool:
        now = self._clock()
        return self._store.record(entry, now=now, due_at=now + self._settings.due_seconds)

    def _send(self, body: str) -> bool:
        self._store.queue.send(body, self._clock())
        self._store.tell()
        return True

    @_operation
    def send(self, bodies: Sequence[str]) -> None:
        for body in bodies:
            self._send(body)

    async def receive(self, limit: int, *, wait_seconds: float = 0.0) -> list[Delivery]:
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + wait_seconds
        while True:
            deliveries, next_visible, news = await self._runner.run(lambda: self._receive(limit))
            left = give_up_at - loop.time()
            if deliveries or left <= 0:
                return deliveries
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, max(next_visible - self._clock(), 0.001))):
                    await news.wait()

    def _receive(self, limit: int) -> tuple[list[Delivery], float, asyncio.Event]:
        """What is visible, when more will be, and who tells if it is sooner."""
        now = self._clock()
        self._generation = self._store.generation
        self._receipts += 1
        taken = self._store.queue.take(
            limit,
            now=now,
            until=now + self._settings.visibility_seconds,
            max_receives=self._settings.max_receives,
            receipt=f"{self._receipt_prefix}:{self._receipts}",
        )
        return [self._delivery_of(stored) for stored in taken], self._store.queue.next_visible(), self._store.news

    def _delivery_of(self, stored: Stored) -> Delivery:
        record, body = self._store.records.get(stored.url), stored.body
        if record is not None and stored.message is not None and record.redirects < stored.message.redirects:
            body = encode_message(replace(stored.message, redirects=record.redirects))
        return Delivery(
            message_id=str(stored.id),
            receipt=stored.receipt,
            body=body,
            receive_count=stored.receive_count,
            sent_at=stored.sent_at,
            is_finished=record is not None and record.status.is_final,
        )

    @_operation
    def claim(
        self, requests: Sequence[ClaimRequest], *, worker_id: str, claim_id: str, lease_seconds: float
    ) -> list[Won | Lost]:
        by_url = first_request_of_each(requests)
        claimant = Claimant(worker_id, claim_id, lease_seconds)
        return claimed_in_order(requests, {url: self._claim(request, claimant) for url, request in by_url.items()})

    def _claim(self, request: ClaimRequest, claimant: Claimant) -> Won | Lost:
        now, url = self._clock(), request.message.url
        if url not in self._store.records:  # a message without a record is a way in
            self._record(Entry.of(request.message))
        record = self._store.records[url]
        told = claim_told(url, record, claimant, now)
        if told is not None:
            return told
        won = claimed(url, record, claimant, now)
        due_at = won.lease_until + self._settings.due_seconds
        new = {"status": Status.PROCESSING, "claimed_at": now, "due_at": due_at}
        self._store.put(replace(record, **msgspec.structs.asdict(won), **new))
        return won

    @_operation
    def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        return [self._finish(finish) for finish in finishes]

    def _finish(self, finish: Finish) -> bool:
        outcome, record = finish.outcome, self._store.held(finish.claim, Operation.FINISH)
        if record is None:
            return False
        self._enqueue(finish.links)
        ends = {"lease_until": None, "due_at": None, "unended": 0}
        record = self._store.records[record.url]  # one of the links may have been its own
        self._store.put(replace(record, **ends, status=outcome.status, outcome=outcome, finished_at=self._clock()))
        self._store.change_host(record.host, functools.partial(_with_sums, sums=sums_of(outcome)))
        if finish.delivery is not None:  # all of its messages have nothing more to say
            self._store.queue.delete_of(record.url)
        return True

    @_operation
    def retry(self, retries: Sequence[Retry]) -> list[bool]:
        return [self._retry(retry) for retry in retries]

    def _retry(self, retry: Retry) -> bool:
        record = self._store.held(retry.claim, Operation.RETRY)
        if record is None:
            return False
        self._store.put(
            replace(
                record,
                status=Status.QUEUED,
                lease_until=0.0,
                due_at=not_before(self._clock(), retry.at) + self._settings.due_seconds,
                outcome=retry.outcome or record.outcome,
                **given_back(retry)._asdict(),
            )
        )
        self._put_off(retry.delivery, retry.at)
        return True

    @_operation
    def defer(self, deferrals: Sequence[Deferral]) -> None:
        for deferral in deferrals:
            self._put_off(deferral.delivery, deferral.until, deferral.message)

    def _put_off(self, delivery: Delivery, until: float, message: Message | None = None) -> None:
        self._store.queue.put_off(delivery, not_before(self._clock(), until), message)
        self._store.tell()

    @_operation
    def delete(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._store.queue.delete(delivery)

    @_operation
    def sweep(self, limit: int = 1000) -> int:
        now, store, released = self._clock(), self._store, 0
        due = store.take_due(now)
        while released < limit and (record := next(due, None)) is not None:
            waits_since = record.enqueued_at if store.queue.holds(record.url) else None
            if waits_since is None:
                self._send(encode_message(store.message_of(record)))
                released += 1
            store.put(replace(record, due_at=next_look(now, self._settings.due_seconds, waits_since=waits_since)))
        return released

    @_operation
    def lease_sweep(self, *, until: float, by_schedule: bool = False) -> bool:  # noqa: ARG002 - the port's signature
        return True

    # Politeness.

    @_operation
    def hosts(self, hosts: Sequence[str]) -> dict[str, HostRow]:
        self._generation = self._store.generation
        known = self._store.hosts
        return {host: known[host].row if host in known else HostRow(host=host) for host in hosts}

    @_operation
    def scan_hosts(self) -> list[HostRow]:
        return self._host_rows()

    @_operation
    def hosts_in_trouble(self) -> list[HostRow]:
        return [row for row in self._host_rows() if is_in_trouble(row, self._clock())]

    def _host_rows(self) -> list[HostRow]:
        return [self._store.hosts[host].row for host in sorted(self._store.hosts)]

    @_operation
    def save_hosts(self, rows: Sequence[HostRow]) -> list[bool]:
        now = self._clock()
        return [self._store.change_host(row.host, functools.partial(saved, row=row, now=now)) for row in rows]

    @_operation
    def release_host(self, host: str) -> int:
        released = self._store.queue.release(host, self._clock())
        self._store.tell()
        return released

    @_operation
    def reserve(self, demands: Sequence[SlotDemand]) -> list[float | None]:
        now = self._clock()
        return [self._store.change_host(d.host, functools.partial(reserved, demand=d, now=now)) for d in demands]

    @_operation
    def enter(self, entrances: Sequence[Entrance]) -> list[Admission]:
        now = self._clock()
        return [self._store.change_host(e.host, functools.partial(entered, entrance=e, now=now)) for e in entrances]

    @_operation
    def leave(self, exits: Sequence[Exit]) -> None:
        for end in exits:
            self._store.change_host(end.host, functools.partial(left, end=end))

    @_operation
    def robots(self, origins: Sequence[str]) -> dict[str, RobotsRow]:
        return {origin: self._store.robots[origin] for origin in origins if origin in self._store.robots}

    @_operation
    def lease_robots(self, origin: str, *, until: float) -> bool:
        if self._store.robots_leases.get(origin, -math.inf) >= self._clock():
            return False
        self._store.robots_leases[origin] = until
        return True

    @_operation
    def save_robots(self, row: RobotsRow) -> None:
        self._store.robots[row.origin] = row
        self._store.robots_leases.pop(row.origin, None)

    # Looking.

    @_operation
    def get(self, urls: Sequence[str]) -> dict[str, UrlRecord]:
        return {url: self._store.records[url] for url in urls if url in self._store.records}

    async def scan(self, *, status: Status | None = None, host: str | None = None) -> AsyncIterator[list[UrlRecord]]:
        urls = list(self._store.records)
        for start in range(0, len(urls), SCAN_BATCH):
            records = (await self.get(urls[start : start + SCAN_BATCH])).values()
            yield [r for r in records if status in (None, r.status) and host in (None, r.host)]

    @_operation
    def counts(self, *, exact: bool = False) -> Counts:  # noqa: ARG002 - they always are
        return counts_of(self._store.sums)

    @_operation
    def queue_stats(self) -> QueueStats:
        return self._store.queue.stats(self._clock())

    @_operation
    def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        names = ("body", "receive_count", "sent_at")
        return [
            DeadLetter(message_id=str(stored.id), **{name: getattr(stored, name) for name in names})
            for stored in list(self._store.queue.dead.values())[:limit]
        ]

    @_operation
    def redrive(self, limit: int = 1000) -> int:
        revived = self._store.queue.revive(limit, self._clock())
        self._store.tell()
        return revived

    # Workers.

    @_operation
    def check_in(self, worker_id: str, *, session: str, ttl_seconds: float) -> bool:
        now, known = self._clock(), self._store.workers.get(worker_id)
        is_mine = known is not None and known.session == session
        if known is not None and not is_mine and known.expires_at >= now:
            return False
        started_at = known.row.started_at if known is not None and is_mine else now
        row = WorkerRow(worker_id=worker_id, started_at=started_at, seen_at=now)
        self._store.workers[worker_id] = Session(session, row, now + ttl_seconds)
        return True

    @_operation
    def check_out(self, worker_id: str, *, session: str) -> None:
        known = self._store.workers.get(worker_id)
        if known is not None and known.session == session:
            del self._store.workers[worker_id]

    @_operation
    def workers(self) -> list[WorkerRow]:
        now = self._clock()
        return [known.row for _, known in sorted(self._store.workers.items()) if known.expires_at >= now]

    # What it took, over time.

    @_operation
    def save_sample(self, sample: Sample) -> None:
        samples = self._store.samples
        samples.append((sample, self._store.queue.stats(self._clock())))
        while samples[0][0].at < sample.at - KEPT_SECONDS:
            samples.popleft()

    @_operation
    def points(self, *, since: float, until: float, period_seconds: int) -> list[Point]:
        periods: defaultdict[int, list[tuple[Sample, QueueStats]]] = defaultdict(list)
        for sample, stats in self._store.samples:
            if since <= sample.at < until:
                periods[int(sample.at / period_seconds)].append((sample, stats))
        return [_point(number * period_seconds, taken) for number, taken in sorted(periods.items())]

    @_operation
    def bill(self) -> None:
        return None

    # Clearing.

    @_operation
    def purge_queue(self) -> int:
        store = self._store
        removed = store.queue.purge()
        due_at = self._clock() + self._settings.due_seconds
        for record in list(store.records.values()):  # what was moved on while a message waited
            if record.lease_until == 0 and record.due_at is not None and record.due_at > due_at:
                store.put(replace(record, due_at=due_at))
        return removed

    @_operation
    def clear_table(self, on_removed: Callable[[int], None] = lambda _: None) -> int:
        removed = len(self._store.records)
        self._store.clear()
        self._store.generation += 1
        on_removed(removed)
        return removed


def _with_sums(state: HostState, sums: dict[str, float]) -> tuple[HostState, None]:
    return replace(state, row=with_sums(state.row, sums)), None


def _point(at: float, taken: Sequence[tuple[Sample, QueueStats]]) -> Point:
    """What some samples of one period come to."""
    samples, stats = [sample for sample, _ in taken], [stats for _, stats in taken]
    fetches = sum(sample.fetches for sample in samples)
    ages = [each.oldest_age_seconds for each in stats if each.oldest_age_seconds is not None]
    return Point(
        at=at,
        visible=sum(each.visible for each in stats) / len(stats),
        in_flight=sum(each.in_flight for each in stats) / len(stats),
        oldest_age_seconds=max(ages, default=None),
        fetch_seconds=sum(sample.fetch_seconds for sample in samples) / fetches if fetches else None,
        **{name: sum(getattr(sample, name) for sample in samples) for name in COUNTED},
    )
