"""What the cases of the conformance suite share: stores to open, and short ways to say things."""

from __future__ import annotations

import abc
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from sqspider.crawl_row import Crawl
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import (
    ClaimRequest,
    Clock,
    Crawls,
    Delivery,
    Entry,
    Finish,
    Frontier,
    FrontierSettings,
    Lost,
    LostReason,
    Retry,
    Won,
    open_frontier,
)
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.message import Message, decode_message
from sqspider.record import Outcome, Reason, Skipped, Status, UrlRecord

# Short, because an engine with a clock of its own really waits.
VISIBILITY: Final = 2.0
DUE: Final = 3.0
LEASE: Final = 2.0
MAX_RECEIVES: Final = 3
SETTINGS: Final = FrontierSettings(visibility_seconds=VISIBILITY, due_seconds=DUE, max_receives=MAX_RECEIVES)
A_LITTLE: Final = 0.25

DONE: Final = Outcome(
    status=Status.DONE, http_status=200, bytes=100, elapsed_ms=20,
    links_skipped={Skipped.OUT_OF_SCOPE: 12, Skipped.DEPTH_LIMIT: 1},
)  # fmt: skip
GONE: Final = Outcome(status=Status.FAILED, reason=Reason.CLIENT_ERROR, http_status=404, bytes=7, elapsed_ms=10)
FORBIDDEN: Final = Outcome(status=Status.BLOCKED, reason=Reason.ROBOTS, detail="line 2: Disallow: /")
TROUBLE: Final = Outcome(status=Status.FAILED, reason=Reason.TIMEOUT, detail="no answer", elapsed_ms=10_000)


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Store(abc.ABC):
    """One engine's queue and tables, made for one test."""

    clock: Clock
    address = ""  # as ``open_frontier`` takes it, in this process and in others; empty: it lives in this one alone
    environment: Mapping[str, str]  # that others need to open it
    has_own_queue = False  # it knows what is recorded, and whose turn it is, which SQS does not

    @abc.abstractmethod
    async def open(self, settings: FrontierSettings = SETTINGS) -> Frontier:
        """A further handle on the same store; closed with the store."""

    @abc.abstractmethod
    async def elapse(self, seconds: float) -> None:
        """Let time pass, for the handles' clock and for the engine."""

    @abc.abstractmethod
    async def close(self) -> None: ...


class SqliteStore(Store):
    """A file in a folder of the test, under a clock that the test moves."""

    has_own_queue = True

    def __init__(self, folder: Path) -> None:
        self._fake_clock = FakeClock()
        self.clock = self._fake_clock
        self.address = f"sqlite:{folder / 'frontier.db'}"
        self.environment = os.environ
        self._handles: list[Frontier] = []

    async def open(self, settings: FrontierSettings = SETTINGS) -> Frontier:
        self._handles.append(await open_frontier(self.address, settings, clock=self.clock))
        return self._handles[-1]

    async def elapse(self, seconds: float) -> None:
        self._fake_clock.now += seconds

    async def close(self) -> None:
        for handle in self._handles:
            await handle.close()


class InMemoryStore(Store):
    """Dictionaries of this process, under a clock that the test moves."""

    has_own_queue = True

    def __init__(self) -> None:
        self._fake_clock = FakeClock()
        self.clock = self._fake_clock
        self.environment = {}
        self._state = MemoryStore()

    async def open(self, settings: FrontierSettings = SETTINGS) -> Frontier:
        return MemoryFrontier(self._state, settings, clock=self.clock)

    async def elapse(self, seconds: float) -> None:
        self._fake_clock.now += seconds

    async def close(self) -> None:
        pass


def url(name: object, host: str = "example.com") -> str:
    return f"https://{host}/{name}"


def entries(count: int, *, host: str = "example.com", settings: CrawlSettings | None = None) -> list[Entry]:
    return [Entry(url=url(i, host), settings=settings or CrawlSettings()) for i in range(count)]


def of(crawl: Crawl | None, *names: object, parent: str | None = None) -> list[Entry]:
    """Of a crawl, or loose."""
    return [Entry(url=url(name), crawl=crawl.ref if crawl else None, parent=parent) for name in names]


async def made(frontier: Crawls, *crawls: Crawl) -> None:
    for crawl in crawls:
        assert await frontier.save_crawl(crawl)


async def take(frontier: Frontier, count: int) -> list[Delivery]:
    """So many deliveries, in as many receives as the engine needs."""
    taken: list[Delivery] = []
    while len(taken) < count:
        some = await frontier.receive(min(10, count - len(taken)), wait_seconds=5)
        assert some, f"{count} messages should be visible, there were {len(taken)}"
        taken += some
    return taken


async def take_one(frontier: Frontier) -> Delivery:
    return (await take(frontier, 1))[0]


def message_of(delivery: Delivery) -> Message:
    message = decode_message(delivery.body)
    assert isinstance(message, Message), message
    return message


async def claim_all(
    frontier: Frontier,
    deliveries: Sequence[Delivery],
    *,
    worker: str = "one",
    claim: str = "c1",
    lease: float = LEASE,
) -> list[Won | Lost]:
    requests = [ClaimRequest(delivery=delivery, message=message_of(delivery)) for delivery in deliveries]
    return await frontier.claim(requests, worker_id=worker, claim_id=claim, lease_seconds=lease)


async def try_claim(
    frontier: Frontier, delivery: Delivery, *, worker: str = "one", claim: str = "c1", lease: float = LEASE
) -> Won | Lost:
    return (await claim_all(frontier, [delivery], worker=worker, claim=claim, lease=lease))[0]


async def win(
    frontier: Frontier, delivery: Delivery, *, worker: str = "one", claim: str = "c1", lease: float = LEASE
) -> Won:
    answer = await try_claim(frontier, delivery, worker=worker, claim=claim, lease=lease)
    assert isinstance(answer, Won), answer
    return answer


def assert_lost(answer: Won | Lost, why: LostReason) -> Lost:
    assert isinstance(answer, Lost), answer
    assert answer.why is why
    return answer


async def finish_one(
    frontier: Frontier,
    claim: Won,
    delivery: Delivery | None,
    outcome: Outcome = DONE,
    links: tuple[Entry, ...] = (),
) -> bool:
    return (await frontier.finish([Finish(claim=claim, delivery=delivery, outcome=outcome, links=links)]))[0]


async def retry_one(
    frontier: Frontier,
    claim: Won,
    delivery: Delivery,
    *,
    at: float,
    tried: bool = False,
    outcome: Outcome | None = None,
) -> bool:
    return (await frontier.retry([Retry(claim=claim, delivery=delivery, at=at, tried=tried, outcome=outcome)]))[0]


async def record_of(frontier: Frontier, name: str) -> UrlRecord:
    return (await frontier.get([name]))[name]


async def all_records(frontier: Frontier) -> dict[str, UrlRecord]:
    """Every record by key, by a full scan; each must come once."""
    records: dict[str, UrlRecord] = {}
    async for batch in frontier.scan():
        for record in batch:
            assert record.key not in records
            records[record.key] = record
    return records


async def assert_counts_are_exact(
    frontier: Frontier, *others: Frontier, exact: bool = False, crawl: str | None = None
) -> None:
    """What is counted as things happen equals what a full scan finds.

    ``others``: handles that have worked too; who counts writes what it has gathered. ``crawl``: of the one alone.
    """
    for other in others:
        await other.counts()
    records = [record for record in (await all_records(frontier)).values() if crawl in (None, record.crawl)]
    counts = await (frontier.counts(exact=exact) if crawl is None else frontier.counts(exact=exact, crawl=crawl))
    assert counts.by_status == {status: sum(r.status is status for r in records) for status in Status}
    finished = [r.outcome for r in records if r.status.is_final and r.outcome is not None]
    reasons = {outcome.reason for outcome in finished if outcome.reason is not None}
    assert counts.by_reason == {reason: sum(o.reason is reason for o in finished) for reason in reasons}
    assert counts.bytes == sum(outcome.bytes for outcome in finished)
