"""Who looks while a history runs, for final states do not show what heals itself.

Each process's frontier is wrapped, so that every call and every answer is seen; nothing is known of how an
adapter keeps its things. What is seen is a bound on what happened: an answer may be late, or never come.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import (
    Admission,
    Deferral,
    Delivery,
    Ends,
    Entered,
    Entrance,
    Finish,
    Frontier,
    FrontierError,
    FrontierSettings,
    Hold,
    Lost,
    Retry,
    RobotsRow,
    SlotDemand,
    Taking,
    Turned,
    Won,
)
from sqspider.host import HostRow, delay_for
from sqspider.message import Message, decode_message
from sqspider.record import Status, UrlRecord, split_key
from sqspider.url import host_of

from .archive import Keeper
from .loop import Process, VirtualLoop

CLOSE: Final = 1e-6  # what sums of floats may differ by

JUST_CLEARED_SECONDS: Final = 30.0  # what was claimed before may still be asked for
ORDER_SECONDS: Final = 0.05  # within which an order holds
HELD_SECONDS: Final = 1.0  # the same where who has entered a host has it for himself for so long

Say = Callable[[str, object], None]


@dataclass
class Claim:
    """A claim that was won, in the loop's time."""

    process: Process
    won: Won
    called: float  # when it was asked for
    commit: float  # when it was made
    until: float  # when its lease ends
    told: float  # when it was answered
    end_called: float | None = None  # when its end was asked for
    is_ended: bool = False  # that it was ended was answered


@dataclass
class Receipt:
    """One delivery of one message."""

    called: float  # when it was asked for
    told: float  # and when it was answered
    receipt: str
    crawl: str  # whose message it was
    is_ended: bool = False


@dataclass
class Order:
    """What the operator said of a host."""

    host: str
    start: float  # when it was said to be so
    end: float = float("inf")


@dataclass
class Rest:
    """A while in which a crawl was not to be worked on, or no deeper than so."""

    crawl: str
    start: float
    followed_seconds: float  # within which what is claimed goes by it
    end: float = float("inf")
    max_depth: int = -1


@dataclass
class Slots:
    first: float
    end: float
    generation: int


class Observed:
    """A process's frontier, with a witness before and after each call."""

    def __init__(self, frontier: Frontier, process: Process, witness: Witness) -> None:
        self._frontier, self._process, self._witness = frontier, process, witness

    def __getattr__(self, name: str) -> Any:
        operation = getattr(self._frontier, name)
        if not callable(operation) or name in ("now", "scan"):
            return operation

        async def call(*arguments: Any, **named: Any) -> Any:
            witness, process = self._witness, self._process
            called = witness.begin(name, process)
            if before := getattr(witness, f"before_{name}", None):
                await before(process, called, *arguments, **named)
            try:
                answer = await operation(*arguments, **named)
            except FrontierError:
                witness.failures += 1
                raise
            if after := getattr(witness, f"after_{name}", None):
                await after(process, called, answer, *arguments, **named)
            return answer

        return call


class Witness:
    """All that was seen of one history; what must not be is told to ``say`` (kind, detail)."""

    def __init__(self, loop: VirtualLoop, settings: FrontierSettings, say: Say) -> None:
        self.loop, self.settings, self.say = loop, settings, say
        self.looker: Frontier
        self.trace = hashlib.sha256()
        self.calls: Counter[str] = Counter()
        self.generation = 0
        self.cleared_at = 0.0
        self.claims: defaultdict[str, list[Claim]] = defaultdict(list)  # by key, since the last clearing
        self.keys: defaultdict[str, set[str]] = defaultdict(set)  # of those, by URL
        self.dealt_with: set[str] = set()  # keys, by who took them
        self.finished: Counter[tuple[str, int]] = Counter()  # by key and visit
        self.finished_at: dict[tuple[str, int], float] = {}  # when that was answered
        self.reopened: Counter[str] = Counter()  # visits more, that were asked for
        self.answered_at: dict[str, float] = {}  # by host, when it was first written down that it ever answered
        self.deliveries: defaultdict[str, list[Receipt]] = defaultdict(list)  # by message
        self.orders: list[Order] = []
        self.rests: list[Rest] = []
        self.removed: set[str] = set()  # crawls
        self.slots: defaultdict[str, list[Slots]] = defaultdict(list)
        self.carried: defaultdict[str, dict[str, Slots]] = defaultdict(dict)  # by host and key, as the store says it
        self.saved: dict[str, set[int]] = defaultdict(set)  # by host, the versions that rows were written over
        self.raised: dict[str, tuple[int, float]] = {}  # by host, the last generation and when it was written
        self.failures = 0  # calls that raised
        self.counted_at: dict[Process, float] = {}  # when each last asked what is left
        self._due: dict[Process, list[str]] = {}  # URLs that a sweep under way should move on
        self.released = 0  # messages that sweeps sent
        self.dropped: list[tuple[str, float]] = []  # messages that were lost on the way: URL, when
        self.has_copies = False  # the queue may deliver a message twice at a time
        self.sweeps_see_all = True  # no index lags, no call fails in part
        self.entered: set[str] = set()  # tokens
        self.order_seconds = ORDER_SECONDS
        self.crawl_settings = CrawlSettings()  # of the crawl, if there is one
        self.is_made_late = False  # a claim may be made long after the moment from which its lease counts
        self.blur = CLOSE  # seconds by which the store's moments may be off
        self.keeper: Keeper | None = None  # none: nothing is archived

    def watch(self, frontier: Frontier, process: Process) -> Frontier:
        process.now = frontier.now
        return cast(Frontier, Observed(frontier, process, self))

    def begin(self, name: str, process: Process) -> float:
        self.calls[name] += 1
        self.trace.update(f"{self.loop.now!r} {process.name} {name}\n".encode())
        return self.loop.now

    def of_loop(self, moment: float, process: Process) -> float:
        """A moment of a process's clock, by the loop."""
        return moment - (process.now() - self.loop.now)

    def cleared(self) -> None:
        """The table was cleared just now: nothing of before holds any more."""
        self.generation += 1
        self.cleared_at = self.loop.now
        for kept in (self.claims, self.finished, self.slots, self.saved, self.raised):
            kept.clear()
        self.reopened.clear()
        self.answered_at.clear()
        self.dealt_with.clear()
        self.dropped.clear()
        for order in self.orders:
            order.end = min(order.end, self.loop.now)

    # Claims: one that lives at a time, and none ends but the last.

    async def after_claim(
        self, process: Process, called: float, answers: Sequence[Won | Lost], *_: Any, lease_seconds: float, **__: Any
    ) -> None:
        for won in answers:
            if not isinstance(won, Won):
                continue
            until = self.of_loop(won.lease_until, process)
            claim = Claim(process, won, called, until - lease_seconds, until, self.loop.now)
            if claim.commit < self.cleared_at - self.blur:
                continue
            for other in self._since_the_clearing(won.url) if called > self.cleared_at else ():
                if other.won.attempt == won.attempt:
                    self.say("an attempt was given twice", f"{won.url} {won.attempt}")
                earlier, later = (other, claim) if other.commit < claim.commit else (claim, other)
                if later.won.attempt < earlier.won.attempt:
                    continue  # on AWS a lease is counted from when the claim was asked for, which may happen late
                made_at = later.told if self.is_made_late else later.commit
                if made_at < min(earlier.until, earlier.end_called or earlier.until) - self.blur:
                    self.say("two live claims", f"{won.url} attempts {earlier.won.attempt}, {later.won.attempt}")
            self.claims[won.url].append(claim)
            self.keys[split_key(won.url)[1]].add(won.url)

    async def after_prolong(
        self, process: Process, called: float, answers: Sequence[Hold | None], *_: Any, **__: Any
    ) -> None:
        for hold in answers:
            if hold is None or (claim := self.claim_of(hold.claim)) is None:
                continue
            claim.until = self.of_loop(hold.claim.lease_until, process)
            since = self._since_the_clearing(hold.claim.url)
            if any(c.won.attempt > claim.won.attempt and c.told < called - self.blur for c in since):
                self.say("a claim was prolonged after a later one was made", hold.claim.url)

    def _since_the_clearing(self, url: str) -> list[Claim]:
        """The claims of a URL that are of its record as it is: one that was asked for before may be of the one before."""
        return [claim for claim in self.claims[url] if claim.called > self.cleared_at]

    def claim_of(self, won: Won) -> Claim | None:
        made = self.claims.get(won.url, ())
        return next((c for c in made if (c.won.attempt, c.won.claim_id) == (won.attempt, won.claim_id)), None)

    async def _before_end(self, _: Process, called: float, ends: Sequence[Finish | Retry]) -> None:
        for kind, detail in self.keeper.faults_of_ends(ends) if self.keeper is not None else ():
            self.say(kind, detail)
        for end in ends:
            if claim := self.claim_of(end.claim):
                claim.end_called = min(called, claim.end_called or called)
            if end.delivery is not None:
                self._end_delivery(end.delivery)

    before_finish = before_retry = _before_end

    async def _after_end(
        self, _: Process, called: float, answers: Sequence[bool], ends: Sequence[Finish | Retry]
    ) -> None:
        for end, is_ended in zip(ends, answers, strict=True):
            url, visit, claim = end.claim.url, (end.claim.url, end.claim.visit), self.claim_of(end.claim)
            if not is_ended:
                continue
            if claim is None:
                if called > self.cleared_at:
                    self.say("a claim from before the clearing was ended", url)
                continue
            claim.is_ended = True
            if isinstance(end, Retry) and end.delivery is not None:
                # It is put back by whoever holds the claim: what others have in hand of it is of no use any more.
                for other in self.deliveries[end.delivery.message_id]:
                    other.is_ended = True
            since = self._since_the_clearing(url)
            if any(c.won.attempt > end.claim.attempt and c.commit < called - self.blur for c in since):
                self.say("a claim was ended after a later one was made", url)
            if isinstance(end, Finish):
                self.finished[visit] += 1
                self.finished_at[visit] = self.loop.now
                if end.outcome.http_status is not None:
                    self.answered_at.setdefault(host_of(url), self.loop.now)
                if self.finished[visit] > 1:
                    self.say("finished twice in a visit", url)
            elif self.finished[visit] and called > self.finished_at[visit]:
                self.say("put back after it was finished", url)

    after_finish = after_retry = _after_end

    async def after_save_robots(self, _: Process, called: float, __: None, rows: Sequence[RobotsRow]) -> None:
        for row in rows:
            if row.good_at is not None and called > self.cleared_at:
                self.answered_at.setdefault(host_of(f"{row.origin}/"), self.loop.now)

    async def before_counts(self, process: Process, called: float, **_: Any) -> None:
        self.counted_at[process] = called

    # A turn is all of these at once.

    async def before_turn(self, process: Process, called: float, ends: Ends, _: Taking) -> None:
        await self._before_end(process, called, [*ends.finishes, *ends.retries])
        await self.before_defer(process, called, ends.deferrals)
        await self.before_delete(process, called, ends.deletions)

    async def after_turn(self, process: Process, called: float, turned: Turned, ends: Ends, taking: Taking) -> None:
        await self._after_end(process, called, turned.finished, ends.finishes)
        await self._after_end(process, called, turned.retried, ends.retries)
        await self.after_receive(process, called, [taken.delivery for taken in turned.taken])
        claims = [taken.claim for taken in turned.taken if taken.claim is not None]
        await self.after_claim(process, called, claims, lease_seconds=taking.lease_seconds)
        for taken in turned.taken:
            if taken.token is not None and isinstance(taken.message, Message):
                self._entered(called, host_of(taken.message.url), taken.message.generation)
                if not self.generation:  # after a clearing messages may be left that carry slots of before
                    self._carry(taken.message, turned.hosts[host_of(taken.message.url)])

    def _carry(self, message: Message, row: HostRow) -> None:
        """A URL comes in its slot, that a turn gave it, this one or one before: nobody else has the same. By a host's
        row of the same generation its delay is at most what it was then."""
        assert message.slot is not None
        settings = message.settings if message.crawl is None else self.crawl_settings
        new = Slots(message.slot, message.slot + delay_for(row, settings), message.generation)
        carried = self.carried[row.host]
        for key, old in carried.items():
            if key != message.key and old.generation == new.generation and self._overlap(old, new):
                self.say("a slot was given twice", f"{row.host} at {new.first:.2f} to {message.key} and {key}")
        carried[message.key] = new

    def requested(self, process: Process, url: str) -> None:
        """A page is asked for: by whoever holds its claim."""
        self.trace.update(f"{self.loop.now!r} {process.name} {url}\n".encode())
        claims = sorted((c for key in self.keys[url] for c in self.claims[key]), key=lambda claim: claim.told)
        held = [claim for claim in claims if claim.process is process and not claim.is_ended]
        if (
            not held
            and self.generation
            and self.loop.now < max(self.cleared_at, process.thawed_at) + JUST_CLEARED_SECONDS
        ):
            return  # its claim may be from before the clearing
        if not held:
            self.say("asked without a claim", url)
        elif held[-1].until < self.loop.now - self.blur and process.thawed_at < held[-1].called:
            self.say("asked after the lease had ended", f"{url} {self.loop.now - held[-1].until:.1f} s")
        for order in self.orders:
            holds = order.host == host_of(url) and order.start + self.order_seconds < self.loop.now < order.end
            if holds and held and held[-1].called > order.start:
                self.say("asked after an order", f"{url} {self.loop.now - order.start:.2f} s after it")
        for rest in self.rests if held else ():
            won, called = held[-1].won, held[-1].called
            holds = rest.start + rest.followed_seconds < called and self.loop.now < rest.end
            if holds and split_key(won.url)[0] == rest.crawl and won.depth > rest.max_depth:
                self.say("asked while its crawl rests", f"{won.url} {won.depth} for {rest.max_depth}")

    # Messages: one delivery at a time, nothing deleted that is open, nothing sent for what waits.

    async def after_receive(
        self, _: Process, called: float, deliveries: Sequence[Delivery], *__: Any, **___: Any
    ) -> None:
        for delivery in deliveries:
            for other in self.deliveries[delivery.message_id]:
                is_hidden = self.loop.now < other.called + self.settings.visibility_seconds - self.blur
                is_live = not other.is_ended and is_hidden and other.told < called
                is_live = (
                    is_live and other.crawl not in self.removed
                )  # ids of records that are gone are given out again
                if is_live and not self.has_copies:
                    self.say("two live deliveries of a message", delivery.body[:100])
            message = decode_message(delivery.body)
            crawl = message.crawl_name if isinstance(message, Message) else ""
            self.deliveries[delivery.message_id].append(Receipt(called, self.loop.now, delivery.receipt, crawl))

    def _end_delivery(self, delivery: Delivery) -> None:
        for other in self.deliveries[delivery.message_id]:
            if other.receipt == delivery.receipt:
                other.is_ended = True

    async def before_defer(self, _: Process, __: float, deferrals: Sequence[Deferral]) -> None:
        for deferral in deferrals:
            self._end_delivery(deferral.delivery)

    async def before_park(self, _: Process, __: float, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._end_delivery(delivery)

    async def before_delete(self, process: Process, __: float, deliveries: Sequence[Delivery]) -> None:
        told: dict[str, float] = {}
        for delivery in deliveries:
            message = decode_message(delivery.body)
            if isinstance(message, Message) and message.crawl_name not in self.removed:
                receipts = self.deliveries[delivery.message_id]
                told[message.key] = max(r.told for r in receipts if r.receipt == delivery.receipt)
        for url, record in (await self.looker.get(sorted(told))).items():
            # One that was received before its URL was reopened, or the table cleared, is of a visit that is over.
            began_at = self.of_loop(record.enqueued_at, process) + self.blur if record.visit else 0.0
            is_of_this = told[url] > max(began_at, self.cleared_at)
            if not record.status.is_final and is_of_this:
                self.say("a message was deleted while its record was open", url)

    async def reopen(self, keys: Sequence[str], *, if_changed: bool) -> list[bool]:
        """Reopen records, whatever their status; what is asked for may be seen before it is answered."""
        self.reopened.update(keys)
        answers = await self.looker.reopen(keys, if_changed=if_changed)
        for key, is_reopened in zip(keys, answers, strict=True):
            self.reopened[key] -= not is_reopened
        return answers

    async def before_sweep(self, process: Process, called: float, *_: Any) -> None:
        self._due[process] = [record.key for record in await self._queued() if self._due_at(record, process) < called]

    async def after_sweep(self, process: Process, called: float, released: int, limit: int = 1000) -> None:
        self.released += released
        if released >= limit or not self.sweeps_see_all:
            return
        was_due = self._due.pop(process)
        least = called + 0.9 * self.settings.due_seconds
        for record in await self._queued():
            if record.key in was_due and self._due_at(record, process) < least:
                self.say("a sweep left what was due", record.key)

    async def _queued(self) -> list[UrlRecord]:
        return [record async for batch in self.looker.scan(status=Status.QUEUED) for record in batch]

    def _due_at(self, record: UrlRecord, process: Process) -> float:
        return self.of_loop(record.due_at or 0.0, process)

    # Hosts: slots are given once, rows are written over once, orders hold.

    async def after_reserve(
        self, process: Process, _: float, firsts: Sequence[float | None], demands: Sequence[SlotDemand]
    ) -> None:
        for first, demand in zip(firsts, demands, strict=True):
            if first is None or demand.spacing_seconds == 0:
                continue
            first = self.of_loop(first, process)
            new = Slots(first, first + demand.count * demand.spacing_seconds, demand.generation)
            for old in self.slots[demand.host]:
                if old.generation == new.generation and self._overlap(old, new):
                    self.say("a slot was given twice", f"{demand.host} at {new.first:.2f}")
            self.slots[demand.host].append(new)

    def _overlap(self, one: Slots, other: Slots) -> bool:
        least = 1e-3 + self.blur
        return one.first < other.end - least and other.first < one.end - least

    async def after_save_hosts(
        self, _: Process, called: float, answers: Sequence[bool], rows: Sequence[HostRow]
    ) -> None:
        for row, is_saved in zip(rows, answers, strict=True):
            if is_saved and called > self.cleared_at:  # an answer may come late: of a row that was cleared since
                self.note_saved(row)

    def note_saved(self, row: HostRow) -> None:
        if row.version in self.saved[row.host]:
            self.say("a version of a host's row was written over twice", f"{row.host} {row.version}")
        self.saved[row.host].add(row.version)
        generation, _ = self.raised.get(row.host, (0, 0.0))
        if row.generation > generation:
            self.raised[row.host] = (row.generation, self.loop.now)

    async def after_enter(
        self, _: Process, called: float, answers: Sequence[Admission], entrances: Sequence[Entrance]
    ) -> None:
        for admission, entrance in zip(answers, entrances, strict=True):
            if admission.entered is Entered.YES and entrance.token not in self.entered:  # else it is prolonged
                self.entered.add(entrance.token)
                self._entered(called, entrance.host, entrance.generation)

    def _entered(self, called: float, host: str, by_generation: int | None) -> None:
        later = self.order_seconds - ORDER_SECONDS
        generation, since = self.raised.get(host, (0, 0.0))
        if by_generation is not None and by_generation < generation and since + later < called:
            self.say("entered by a void slot", f"{host} {by_generation} of {generation}")
        for order in self.orders:
            # It held all the while.
            if order.host == host and order.start + later < called and self.loop.now < order.end:
                self.say("entered after an order", host)


@dataclass
class Found:
    """What a history showed that must not be."""

    violations: list[tuple[str, str]] = field(default_factory=list)  # kind, detail

    def say(self, kind: str, detail: object = "") -> None:
        self.violations.append((kind, str(detail)))
