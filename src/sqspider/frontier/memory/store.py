"""What is in a frontier in memory: messages, URL records, host rows and the rest, in dictionaries and heaps.

Nothing here looks at a clock or waits: what the parts of the adapter make of it is whole steps.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple, TypeVar

import msgspec

from sqspider.crawl_row import Crawl, CrawlRef
from sqspider.crawl_settings import CrawlSettings
from sqspider.figures import Sample
from sqspider.frontier.answers import counted, counted_for, is_current, is_held, uncounted
from sqspider.frontier.memory.journal import Journal, Kept
from sqspider.frontier.memory.queue import MessageQueue
from sqspider.frontier.shares import Run, is_run_of
from sqspider.frontier.values import Entry, Outlinks, QueueStats, RobotsRow, Won, WorkerRow
from sqspider.frontier.ways import Way
from sqspider.host import HostRow, HostState
from sqspider.message import Message
from sqspider.record import DEFAULT_CRAWL, Operation, Status, UrlRecord
from sqspider.revisit import for_all
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
        self.records: Kept[str, UrlRecord] = Kept(self.journal)  # by key, in the order in which they were recorded
        self.settings: Kept[str, CrawlSettings] = Kept(self.journal)  # of loose records, by key
        self.refs: Kept[str, CrawlRef] = Kept(self.journal)  # of the crawls of all others, by key
        self.outlinks: Kept[str, Outlinks] = Kept(self.journal)  # by key
        self.crawls: Kept[str, Crawl] = Kept(self.journal)  # by name
        self.seeds: Kept[tuple[CrawlRef, str], frozenset[str]] = Kept(self.journal)  # folders, by crawl and site
        self.runs: Kept[str, Run] = Kept(self.journal)
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
        key = record.key
        old = self.records.get(key)
        self.records[key] = record
        self._count(record.crawl, counted(old.status if old else None, record.status, record.outcome))
        if record.due_at is not None:
            heapq.heappush(self._due, (record.due_at, key))

    def _count(self, crawl: str, changes: Mapping[str, int]) -> None:
        for name, much in counted_for(crawl, changes).items():
            self.sums[name] = self.sums.get(name, 0) + much

    def record(self, entry: Entry, *, now: float, due_at: float) -> None:
        """Record a URL that is not known, of a crawl that is there."""
        key, crawl = entry.key, entry.crawl
        if crawl is None:
            self.settings[key] = entry.settings
        else:
            self.refs[key] = crawl
        self.put(
            UrlRecord(
                url=entry.url,
                status=Status.QUEUED,
                depth=entry.depth,
                parent=entry.parent,
                host=host_of(entry.url),
                lastmod=entry.lastmod,
                meta=entry.meta,
                redirects=entry.redirects,
                lease_until=0.0,
                due_at=due_at,
                enqueued_at=now,
                crawl=DEFAULT_CRAWL if crawl is None else crawl.name,
            )
        )

    def lower(self, key: str, way: Way, parent: str | None) -> UrlRecord:
        """Write a nearer way to a record; what it says then. ``parent``: where that of fewer links was found."""
        known = self.records[key]
        parent = parent if way.depth < known.depth else known.parent
        kept = known.kept if known.status.is_final else for_all(known.kept)
        lowered = msgspec.structs.replace(known, depth=way.depth, redirects=way.redirects, parent=parent, kept=kept)
        self.put(lowered)
        return lowered

    def message_of(self, record: UrlRecord) -> Message:
        """What brings a record back."""
        key = record.key
        return Message(
            url=record.url,
            crawl=self.refs.get(key),
            depth=record.depth,
            parent=record.parent,
            settings=self.settings.get(key, CrawlSettings()),
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
            due_at, key = heapq.heappop(self._due)
            record = self.records.get(key)
            if record is not None and record.due_at == due_at:
                self.journal.note(partial(heapq.heappush, self._due, (due_at, key)))
                yield record

    def is_known(self, ref: CrawlRef) -> bool:
        """Whether there is the very crawl that is named."""
        return is_current(ref, self.crawls.get(ref.name))

    def remove_crawl(self, ref: CrawlRef) -> int:
        """Forget a crawl, its records, messages, seeds, runs and sums; how many records."""
        if not self.is_known(ref):
            return 0
        del self.crawls[ref.name]
        keys = [key for key, of in self.refs.items() if of == ref]
        for key in keys:
            record = self.records[key]
            self._count(ref.name, uncounted(record.status, record.outcome))
            del self.records[key]
            del self.refs[key]
            if key in self.outlinks:
                del self.outlinks[key]
        for seed in [(of, site) for of, site in self.seeds if of == ref]:
            del self.seeds[seed]
        for run in [name for name in self.runs if is_run_of(ref, name)]:
            del self.runs[run]
        self.queue.forget(ref)
        self.generation += 1
        return len(keys)

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
