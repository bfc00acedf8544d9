"""What is in a frontier in memory: messages, URL records, host rows and the rest, in dictionaries and heaps.

Nothing here looks at a clock or waits: what the parts of the adapter make of it is whole steps.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, TypeVar

import msgspec

from sqspider.crawls import CrawlSettings
from sqspider.figures import Sample
from sqspider.frontier.answers import counted, is_held
from sqspider.frontier.memory.journal import Journal, Kept
from sqspider.frontier.memory.queue import MessageQueue
from sqspider.frontier.values import Entry, Outlinks, QueueStats, RobotsRow, Won, WorkerRow
from sqspider.frontier.ways import Way
from sqspider.host import HostRow, HostState
from sqspider.message import Message
from sqspider.record import Operation, Status, UrlRecord
from sqspider.url import host_of

T = TypeVar("T")


class Session(NamedTuple):
    """A worker that checked in."""

    session: str
    row: WorkerRow
    expires_at: float


class MemoryStore:
    """What is in a frontier: to be given to each handle that shares it."""

    def __init__(self) -> None:
        self.generation = 0
        self.journal = Journal()
        self.queue = MessageQueue(self.journal)
        self.news = asyncio.Event()  # that something may be visible that was not: see ``tell``
        self.workers: dict[str, Session] = {}
        self.clear()

    def clear(self) -> None:
        """Forget all but the messages and the workers."""
        self.records: Kept[str, UrlRecord] = Kept(self.journal)  # in the order in which they were recorded
        self.settings: Kept[str, CrawlSettings] = Kept(self.journal)  # by URL
        self.outlinks: Kept[str, Outlinks] = Kept(self.journal)  # by URL
        self._due: list[tuple[float, str]] = []  # a heap; entries of a ``due_at`` that was moved are passed over
        self.sums: Kept[str, int] = Kept(self.journal)  # of the records: see ``answers.counted``
        self.hosts: Kept[str, HostState] = Kept(self.journal)
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
        for name, much in counted(old.status if old else None, record.status, record.outcome).items():
            self.sums[name] = self.sums.get(name, 0) + much
        if record.due_at is not None:
            heapq.heappush(self._due, (record.due_at, record.url))

    def record(self, entry: Entry, *, now: float, due_at: float) -> None:
        """Record a URL that is not known."""
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

    def lower(self, url: str, way: Way, parent: str | None) -> UrlRecord:
        """Write a nearer way to a record; what it says then. ``parent``: where that of fewer links was found."""
        known = self.records[url]
        parent = parent if way.depth < known.depth else known.parent
        lowered = msgspec.structs.replace(known, depth=way.depth, redirects=way.redirects, parent=parent)
        self.put(lowered)
        return lowered

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
                self.journal.note(partial(heapq.heappush, self._due, (due_at, url)))
                yield self.records[url]

    def host_row(self, host: str) -> HostRow:
        """The row of a host; one that is not known has a fresh row."""
        return self.hosts[host].row if host in self.hosts else HostRow(host=host)

    def change_host(self, host: str, change: Callable[[HostState], tuple[HostState, T]]) -> T:
        """Apply one of the functions of :mod:`sqspider.host` to a host's state."""
        old = self.hosts.get(host) or HostState(row=HostRow(host=host))
        new, answer = change(old)
        if new is not old:
            self.hosts[host] = new
        return answer
