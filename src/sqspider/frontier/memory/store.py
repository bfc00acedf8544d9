"""What is in a frontier in memory: messages, URL records, host rows and the rest, in dictionaries and heaps.

Nothing here looks at a clock, waits, or fails half-way: what ``memory`` makes of it is whole steps.
"""

from __future__ import annotations

import asyncio
import enum
import heapq
import math
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

import msgspec

from sqspider.crawls import CrawlSettings
from sqspider.figures import Sample
from sqspider.frontier import Delivery, Entry, QueueStats, RobotsRow, Won, WorkerRow
from sqspider.frontier.answers import counted, has_fewer_redirects, is_dead, is_held
from sqspider.host import HostRow, HostState
from sqspider.message import Message, decode_message, encode_message
from sqspider.record import Operation, Status, UrlRecord
from sqspider.url import host_of

T = TypeVar("T")


class Turn(enum.Enum):
    """Whose turn it is when several messages are visible: the first first."""

    EXPIRED = enum.auto()  # somebody had it and did not end it: its URL has waited long enough
    PUT_OFF = enum.auto()  # it has a slot, which is good for its moment only
    FRESH = enum.auto()


class Stored(msgspec.Struct, eq=False):
    """A message in the queue."""

    id: int
    body: str
    message: Message | None  # none: the body is no message
    sent_at: float
    visible_at: float
    turn: Turn = Turn.FRESH
    receive_count: int = 0
    receipt: str = ""  # of the last delivery, if that is not ended

    @property
    def url(self) -> str:
        return self.message.url if self.message else ""

    @property
    def host(self) -> str:
        return host_of(self.url) if self.message else ""


class MessageQueue:
    """Messages: those that wait or are in somebody's hands, and the dead.

    An entry of a heap may be of a message that has moved on since: it is passed over when it comes up.
    """

    def __init__(self) -> None:
        self.live: dict[int, Stored] = {}
        self.dead: dict[int, Stored] = {}  # in the order in which they died
        self._sent = 0
        self._waiting: dict[Turn, list[tuple[float, int]]] = {turn: [] for turn in Turn}  # heaps of visible_at, id
        self._by_age: list[tuple[float, int]] = []  # a heap of sent_at, id
        self._of_url: defaultdict[str, set[int]] = defaultdict(set)
        self._put_off: defaultdict[str, set[int]] = defaultdict(set)  # by host

    def send(self, body: str, now: float) -> None:
        message = decode_message(body)
        self._sent += 1
        self._add(Stored(self._sent, body, message if isinstance(message, Message) else None, now, now))

    def _add(self, stored: Stored) -> None:
        self.live[stored.id] = stored
        self._of_url[stored.url].add(stored.id)
        heapq.heappush(self._by_age, (stored.sent_at, stored.id))
        self._place(stored, Turn.FRESH, stored.visible_at)

    def _remove(self, stored: Stored) -> None:
        del self.live[stored.id]
        self._put_off[stored.host].discard(stored.id)
        self._of_url[stored.url].discard(stored.id)
        if not self._of_url[stored.url]:
            del self._of_url[stored.url]

    def _place(self, stored: Stored, turn: Turn, visible_at: float) -> None:
        stored.turn, stored.visible_at = turn, visible_at
        heapq.heappush(self._waiting[turn], (visible_at, stored.id))
        put_off = self._put_off[stored.host]
        (put_off.add if turn is Turn.PUT_OFF else put_off.discard)(stored.id)

    def _is_current(self, turn: Turn, entry: tuple[float, int]) -> bool:
        visible_at, message_id = entry
        stored = self.live.get(message_id)
        return stored is not None and (stored.turn, stored.visible_at) == (turn, visible_at)

    def next_visible(self) -> float:
        """When the next message can be had."""
        for turn, heap in self._waiting.items():
            while heap and not self._is_current(turn, heap[0]):
                heapq.heappop(heap)
        return min((heap[0][0] for heap in self._waiting.values() if heap), default=math.inf)

    def take(self, limit: int, *, now: float, until: float, max_receives: int, receipt: str) -> list[Stored]:
        """Up to ``limit`` visible messages, hidden until a moment. One that was taken too often dies instead."""
        taken: list[Stored] = []
        visible = self._take_visible(now)
        while len(taken) < limit and (stored := next(visible, None)) is not None:
            if is_dead(stored.receive_count, max_receives):
                self._remove(stored)
                self.dead[stored.id] = stored
                continue
            stored.receive_count += 1
            stored.receipt = f"{receipt}:{stored.id}"
            taken.append(stored)
        for stored in taken:
            self._place(stored, Turn.EXPIRED, until)
        return taken

    def _take_visible(self, now: float) -> Iterator[Stored]:
        for turn, heap in self._waiting.items():
            while heap and heap[0][0] <= now:
                entry = heapq.heappop(heap)
                if self._is_current(turn, entry):
                    yield self.live[entry[1]]

    def _held(self, delivery: Delivery) -> Stored | None:
        """The message of a delivery; none if the receipt is stale."""
        stored = self.live.get(int(delivery.message_id))
        return stored if stored is not None and stored.receipt == delivery.receipt else None

    def put_off(self, delivery: Delivery, until: float, message: Message | None = None) -> None:
        """Hide the message of a delivery until a moment; ``message``: what it says from then on."""
        stored = self._held(delivery)
        if stored is None:
            return
        if message is not None:
            self._remove(stored)  # it is found by what it says
            stored.message, stored.body = message, encode_message(message)
            self._add(stored)
        stored.receive_count, stored.receipt = 0, ""
        self._place(stored, Turn.PUT_OFF, until)

    def delete(self, delivery: Delivery) -> None:
        stored = self._held(delivery)
        if stored is not None:
            self._remove(stored)

    def holds(self, url: str) -> bool:
        """Whether there is a message of a URL that is not dead."""
        return url in self._of_url

    def delete_of(self, url: str) -> None:
        for message_id in list(self._of_url.get(url, ())):
            self._remove(self.live[message_id])

    def release(self, host: str, now: float) -> int:
        """Make what was put off visible, if it is of a host; how many."""
        released = [self.live[i] for i in sorted(self._put_off.get(host, ())) if self.live[i].visible_at > now]
        for stored in released:
            self._place(stored, Turn.PUT_OFF, now)
        return len(released)

    def revive(self, limit: int, now: float) -> int:
        """Let dead letters begin anew; how many."""
        revived = list(self.dead.values())[:limit]
        for stored in revived:
            del self.dead[stored.id]
            stored.receive_count, stored.receipt, stored.visible_at = 0, "", now
            self._add(stored)
        return len(revived)

    def purge(self) -> int:
        """Remove all, the dead too; how many."""
        removed = len(self.live) + len(self.dead)
        for messages in (self.live, self.dead):
            messages.clear()
        for ids in (self._of_url, self._put_off):
            ids.clear()
        for heap in (self._by_age, *self._waiting.values()):
            heap.clear()
        return removed

    def stats(self, now: float) -> QueueStats:
        in_flight, delayed = (
            len({entry[1] for entry in self._waiting[turn] if entry[0] > now and self._is_current(turn, entry)})
            for turn in (Turn.EXPIRED, Turn.PUT_OFF)
        )
        while self._by_age and self._by_age[0][1] not in self.live:
            heapq.heappop(self._by_age)
        return QueueStats(
            visible=len(self.live) - in_flight - delayed,
            in_flight=in_flight,
            delayed=delayed,
            dead=len(self.dead),
            oldest_age_seconds=max(0.0, now - self._by_age[0][0]) if self._by_age else None,
        )


class Session(NamedTuple):
    """A worker that checked in."""

    session: str
    row: WorkerRow
    expires_at: float


class MemoryStore:
    """What is in a frontier: to be given to each handle that shares it."""

    def __init__(self) -> None:
        self.generation = 0
        self.queue = MessageQueue()
        self.news = asyncio.Event()  # that something may be visible that was not: see ``tell``
        self.workers: dict[str, Session] = {}
        self.clear()

    def clear(self) -> None:
        """Forget all but the messages and the workers."""
        self.records: dict[str, UrlRecord] = {}  # in the order in which they were recorded
        self.settings: dict[str, CrawlSettings] = {}  # by URL
        self._due: list[tuple[float, str]] = []  # a heap; entries of a ``due_at`` that was moved are passed over
        self.sums: Counter[str] = Counter()  # of the records: see ``answers.counted``
        self.hosts: dict[str, HostState] = {}
        self.robots: dict[str, RobotsRow] = {}
        self.robots_leases: dict[str, float] = {}  # until when, by origin
        self.samples: deque[tuple[Sample, QueueStats]] = deque()

    def tell(self) -> None:
        """Wake all who wait for messages. The next news is an event of its own: nobody misses one."""
        self.news.set()
        self.news = asyncio.Event()

    def put(self, record: UrlRecord) -> None:
        """Write a record, and keep the sums."""
        old = self.records.get(record.url)
        self.records[record.url] = record
        self.sums.update(counted(old.status if old else None, record.status, record.outcome))
        if record.due_at is not None:
            heapq.heappush(self._due, (record.due_at, record.url))

    def record(self, entry: Entry, *, now: float, due_at: float) -> bool:
        """Record a URL; whether it was new. Of one that is known and open the fewest redirects hold."""
        known = self.records.get(entry.url)
        if known is None:
            self.settings[entry.url] = entry.settings
            self.put(
                UrlRecord(
                    url=entry.url,
                    status=Status.QUEUED,
                    depth=entry.depth,
                    parent=entry.parent,
                    host=host_of(entry.url),
                    lastmod=entry.lastmod,
                    redirects=entry.redirects,
                    lease_until=0.0,
                    due_at=due_at,
                    enqueued_at=now,
                )
            )
        elif has_fewer_redirects(entry, known.status, known.redirects):
            self.put(msgspec.structs.replace(known, redirects=entry.redirects))
        return known is None

    def message_of(self, record: UrlRecord) -> Message:
        """What brings a record back."""
        return Message(
            url=record.url,
            depth=record.depth,
            parent=record.parent,
            settings=self.settings[record.url],
            redirects=record.redirects,
            lastmod=record.lastmod,
        )

    def held(self, claim: Won, by: Operation) -> UrlRecord | None:
        """The record of a claim that an operation may end; none if the claim is over."""
        record = self.records.get(claim.url)
        return record if is_held(record, claim, by) else None

    def take_due(self, now: float) -> Iterator[UrlRecord]:
        """Open records past their ``due_at``. Whoever takes one moves it on, or it is not found again."""
        while self._due and self._due[0][0] < now:
            due_at, url = heapq.heappop(self._due)
            if self.records[url].due_at == due_at:
                yield self.records[url]

    def change_host(self, host: str, change: Callable[[HostState], tuple[HostState, T]]) -> T:
        """Apply one of the functions of :mod:`sqspider.host` to a host's state."""
        old = self.hosts.get(host) or HostState(row=HostRow(host=host))
        new, answer = change(old)
        if new is not old:
            self.hosts[host] = new
        return answer
