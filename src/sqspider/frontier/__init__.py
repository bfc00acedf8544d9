"""The frontier: queue, URL records and host rows behind one port.

The port is the protocol :class:`Frontier`; ``sqlite``, ``aws`` and ``memory`` implement it, and one
conformance suite (``tests/frontier``) holds every adapter to the words below. Nothing here knows
how a page is fetched.

Every operation takes a batch, because the cost of a crawler is its round trips. Answers keep the
order of what was asked. What is a normal outcome is a value: a lost claim, a stale fence. What
somebody must act on is a :class:`FrontierError`.
"""

from __future__ import annotations

import enum
import random
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Final, Protocol

import msgspec

from sqspider.checks import shown
from sqspider.host import Admission as Admission
from sqspider.host import Entered as Entered
from sqspider.host import Entrance as Entrance
from sqspider.host import Exit as Exit
from sqspider.host import HostRow, RobotsAccess
from sqspider.host import SlotDemand as SlotDemand
from sqspider.message import CrawlSettings, Message
from sqspider.metrics import Point, Sample
from sqspider.record import Outcome, Reason, Status, UrlRecord
from sqspider.redact import redact

PURGE_SECONDS: Final = 60.0  # SQS takes so long to purge a queue, and does it once in that time

MIN_PERIOD_SECONDS: Final = 60  # CloudWatch keeps no finer points of a queue
MAX_POINTS: Final = 1440  # and gives no more at once

MAX_RECEIVES: Final = 5
"""Deliveries of one message that nobody ended, before it goes to the dead letters."""

LONGEST_LOOK_AGAIN_SECONDS: Final = 3600.0
"""Between two looks of sweeps at a record whose message waits."""

Clock = Callable[[], float]  # seconds since the epoch


class FrontierError(Exception):
    """The frontier cannot do its work; the text says what is wrong, with what, and what to do.

    Whoever prints it need not know of passwords: those of URLs in the text are masked.
    """

    def __init__(self, text: str) -> None:
        super().__init__(redact(text))


class FrontierUnavailableError(FrontierError):
    """It cannot be reached or opened at all."""


class FrontierBusyError(FrontierError):
    """It did not get to the request in time; trying again later may succeed."""


class PurgedLatelyError(FrontierBusyError):
    """The queue was purged less than :data:`PURGE_SECONDS` ago: it cannot be purged again so soon."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A URL to be recorded and put in the queue."""

    url: str  # canonical
    depth: int = 0
    parent: str | None = None
    settings: CrawlSettings = CrawlSettings()
    redirects: int = 0  # on the way from the last page to this URL
    lastmod: float | None = None  # what a sitemap said

    @classmethod
    def of(cls, message: Message) -> Entry:
        """What a message without a record is recorded as."""
        return cls(
            url=message.url,
            depth=message.depth,
            parent=message.parent,
            settings=message.settings,
            redirects=message.redirects,
            lastmod=message.lastmod,
        )

    def to_message(self) -> Message:
        return Message(
            url=self.url,
            depth=self.depth,
            parent=self.parent,
            settings=self.settings,
            redirects=self.redirects,
            lastmod=self.lastmod,
        )


def first_of_each(entries: Iterable[Entry]) -> dict[str, Entry]:
    """Entries by URL, in their order: the first of each, with the fewest redirects of any."""
    by_url: dict[str, Entry] = {}
    for entry in entries:
        first = by_url.setdefault(entry.url, entry)
        if entry.redirects < first.redirects:
            by_url[entry.url] = msgspec.structs.replace(first, redirects=entry.redirects)
    return by_url


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """One receipt of one message. It must be ended: deleted, deferred, or by finish or retry."""

    message_id: str
    receipt: str  # good for this delivery only
    body: str
    receive_count: int  # this one included
    sent_at: float
    is_finished: bool = False  # its URL was, when it was received; false also where asking would cost something


class ClaimRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery whose URL a worker wants to work on."""

    delivery: Delivery
    message: Message


class Won(msgspec.Struct, frozen=True, kw_only=True):
    """A claim that was won: the right to finish the record, for as long as the lease holds."""

    url: str
    attempt: int  # the fence: to be carried by what ends the claim
    unended: int  # claims in a row that nobody ended, this one included
    tries: int  # fetches so far that met trouble
    worker_id: str
    claim_id: str
    lease_until: float


class LostReason(enum.StrEnum):
    """Why a claim was lost."""

    HELD = "held"  # another claim's lease is live: look again when it has ended, never delete
    FINISHED = "finished"  # the record is final: the message can go
    REFUSED = "refused"  # no record can be made of it: leave the message to reach the dead letters


class Lost(msgspec.Struct, frozen=True, kw_only=True):
    """A claim that was lost."""

    url: str
    why: LostReason
    lease_until: float = 0.0  # of the claim that holds it
    detail: str = ""  # if refused: why


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a claim: what came of the URL, and the links that were found there."""

    claim: Won
    delivery: Delivery | None  # deleted last; none: leave the message alone
    outcome: Outcome
    links: tuple[Entry, ...] = ()


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """A claim that is given back: the URL is to be looked at again."""

    claim: Won
    delivery: Delivery
    at: float  # when
    tried: bool  # a fetch met trouble: counts as a try
    outcome: Outcome | None = None  # what that fetch met
    is_unused: bool = False  # nothing was done under it: ``unended`` is what it was before the claim, not 0


class Deferral(msgspec.Struct, frozen=True, kw_only=True):
    """A delivery that is put off, unclaimed."""

    delivery: Delivery
    until: float
    message: Message | None = None  # what it shall say when it comes back; none: the same


class RobotsRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one origin's robots.txt. Times are seconds since the epoch."""

    origin: str
    access: RobotsAccess
    body: bytes = b""  # the last good copy: 500 KiB of it, and a byte more where it goes on
    http_status: int | None = None  # of the last answer
    detail: str = ""  # one line for a person
    trouble: Reason | None = None  # what kept us from any answer at all, while unreachable
    fetched_at: float = 0.0  # the last try
    good_at: float | None = None  # when ``body`` was fetched, or a 4xx said there is none
    unreachable_since: float | None = None
    expires_at: float = 0.0  # when it must be fetched again


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many records there are of each kind."""

    by_status: dict[Status, int]  # every status is there
    by_reason: dict[Reason, int]  # of the finished ones; only what occurs
    bytes: int = 0  # decoded, of the finished ones
    redirects: int = 0  # of those that are done: answers that lead elsewhere, and are no pages

    @property
    def total(self) -> int:
        return sum(self.by_status.values())

    @property
    def open(self) -> int:
        """Records that are not final yet."""
        return self.by_status[Status.QUEUED] + self.by_status[Status.PROCESSING]


class QueueStats(msgspec.Struct, frozen=True, kw_only=True):
    """How many messages there are of each kind."""

    visible: int
    in_flight: int
    delayed: int
    dead: int
    # Since the oldest was sent of what is not dead, whoever has it and until whenever it waits; none if there is
    # nothing. (AWS: a message that is put off or given back is sent anew.)
    oldest_age_seconds: float | None = None

    @property
    def is_empty(self) -> bool:
        """Nothing visible, in flight or delayed. (Dead letters do not come back by themselves.)"""
        return self.visible == self.in_flight == self.delayed == 0


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A message that was received too often without being ended."""

    message_id: str
    body: str
    receive_count: int
    sent_at: float


class Bill(msgspec.Struct, frozen=True, kw_only=True):
    """What a frontier has asked of whoever charges for it, since its table was made."""

    calls: int
    dollars: float  # by list price: see docs/costs.md
    parts: dict[str, float]  # what was counted, by name


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A worker that was seen lately."""

    worker_id: str
    started_at: float
    seen_at: float


class Frontier(Protocol):
    """Queue, URL records and host rows. See the module's docstring."""

    @property
    def place(self) -> str:
        """Where it is, for a person who is asked whether to clear it."""

    @property
    def lag_seconds(self) -> float:
        """How far figures of it may be behind: that nothing is left is told by two looks so far apart."""

    @property
    def generation(self) -> int:
        """Raised by :meth:`clear_table`: whoever remembers what is recorded here forgets it then.

        As of the last :meth:`receive` or :meth:`hosts`.
        """

    def now(self) -> float:
        """The time that all who share it go by, in seconds since the epoch.

        Leases, slots and delays are measured by it; so whoever works on a frontier takes its clock.
        """

    # Work: URLs in, deliveries out, claims, ends.

    async def enqueue(self, entries: Sequence[Entry]) -> list[bool]:
        """Record URLs that are not known and put a message for each into the queue.

        True where the URL was new. A known one is left as it is, whatever its status, but that the fewest
        redirects hold while it is open (AWS: within a batch; beyond it that would cost a write for each known
        link). Dying half way leaves records without messages at worst; their ``due_at`` brings them to a sweep.
        """

    async def send(self, bodies: Sequence[str]) -> None:
        """Put raw bodies into the queue, as anybody may who can send to it. No record is made."""

    async def receive(self, limit: int, *, wait_seconds: float = 0.0) -> list[Delivery]:
        """Up to ``limit`` messages that are visible, hidden from others for the visibility timeout.

        Waits for the first one up to ``wait_seconds``. A message that was received
        :data:`MAX_RECEIVES` times without an end goes to the dead letters instead.
        """

    async def claim(
        self, requests: Sequence[ClaimRequest], *, worker_id: str, claim_id: str, lease_seconds: float
    ) -> list[Won | Lost]:
        """Move records ``queued -> processing`` if ``lease_until < now``; one wins, all others lose.

        ``claim_id`` is new for every call. A record that is missing is made from its message
        first; what no record can be made of is ``refused``, for itself alone. An own claim whose answer
        was lost (same worker and claim id) is won. Of several requests for one URL in a batch, only the
        first can win; the others are ``held``.
        """

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        """End claims: links recorded and queued, then the record final, then the message deleted.

        False where a later claim was made or the record is final: then the record does not change,
        and the message is left to come back; that links were recorded (AWS records them first) does
        no harm. Dying half-way leaves the claim to be made again.
        """

    async def retry(self, retries: Sequence[Retry]) -> list[bool]:
        """Give claims back: record ``queued``, ``unended`` 0, the message visible at ``at``.

        Fenced as :meth:`finish` is. The message that comes back counts no receives. Of an unused claim
        ``unended`` is what it was before. Where the delivery went stale with time, somebody else may have received
        the message in vain: it comes back, once, at ``at`` or when that one lets go of it.
        """

    async def defer(self, deferrals: Sequence[Deferral]) -> None:
        """Put deliveries off until a time; records are not touched, and no receive is counted.

        A receipt that went stale with time changes nothing; one of a delivery that was ended already
        may leave a copy of the message.
        """

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        """End deliveries whose message has nothing more to say. A stale receipt changes nothing."""

    async def sweep(self, limit: int = 1000) -> int:
        """Put messages back for records past their ``due_at`` that have none; how many, ``limit`` at most.

        Parked records are always released; others only if no message for them waits. Each release
        moves ``due_at`` on, conditionally: two sweeps at once send one message. So does a look at a
        record whose message waits: it is not looked at again and again.
        Raises :class:`FrontierUnavailableError` where it can tell that open records have no way back.
        """

    async def lease_sweep(self, *, until: float, by_schedule: bool = False) -> bool:
        """Take the right to sweep, where sweeps cost money: one worker's serve all. False: another has it.

        ``by_schedule``: whoever sweeps by a schedule of its own takes it from anybody. A sweep is safe
        without it; where sweeping costs nothing everybody has it.
        """

    # Politeness: host rows, slots, robots.

    async def hosts(self, hosts: Sequence[str]) -> dict[str, HostRow]:
        """The rows of some hosts; one that is not known has a fresh row of version 0."""

    async def scan_hosts(self) -> list[HostRow]:
        """All host rows, by name."""

    async def hosts_in_trouble(self) -> list[HostRow]:
        """The rows of hosts that are in trouble now (:func:`sqspider.host.is_in_trouble`), by name."""

    async def save_hosts(self, rows: Sequence[HostRow]) -> list[bool]:
        """Write settings, penalties and rests of host rows, if their ``version`` is still the same.

        By :func:`sqspider.host.saved`: what is the frontier's own is not written, but where the generation
        rises ``next_slot`` goes back. False where the row has changed meanwhile: read it again.
        """

    async def release_host(self, host: str) -> int:
        """Make the deferred messages of a host visible now (it was resumed); how many, at most.

        An adapter that cannot find them returns 0: they come back at their time.
        """

    async def reserve(self, demands: Sequence[SlotDemand]) -> list[float | None]:
        """The first of ``count`` slots at each host, the others follow at ``spacing_seconds``.

        One atomic write per host: ``next_slot = max(now, next_slot, rest_until) + count * spacing``.
        ``None`` where the host's generation is another: read its row and ask again.
        """

    async def enter(self, entrances: Sequence[Entrance]) -> list[Admission]:
        """Ask whether hosts may be asked for something now; atomic per host.

        By :func:`sqspider.host.entered`. The moment is noted as the last request, and ``next_slot``
        pushed on by the delay where there is no slot.
        """

    async def leave(self, exits: Sequence[Exit]) -> None:
        """Note that requests are over; ``requested_at`` counts for the delay."""

    async def robots(self, origins: Sequence[str]) -> dict[str, RobotsRow]:
        """What is known of the robots.txt of some origins; unknown ones are left out."""

    async def lease_robots(self, origin: str, *, until: float) -> bool:
        """Take the right to fetch an origin's robots.txt, for one worker at a time."""

    async def save_robots(self, row: RobotsRow) -> None:
        """Write what a fetch of robots.txt brought, and end the lease."""

    # Looking.

    async def get(self, urls: Sequence[str]) -> dict[str, UrlRecord]:
        """Records by canonical URL; unknown ones are left out. One that is damaged says so itself."""

    def scan(self, *, status: Status | None = None, host: str | None = None) -> AsyncIterator[list[UrlRecord]]:
        """All records in batches, in the order in which they were recorded where that is cheap.

        One that is damaged says so itself, and hides no other.
        """

    async def counts(self, *, exact: bool = False) -> Counts:
        """Records by status and reason. Quick at any size.

        "None open" is never a guess. Where the other sums may be behind (AWS: by seconds, and by what
        a killed worker had not written), ``exact`` reads the whole table, and mends them if nothing
        was changed there for a minute.
        """

    async def queue_stats(self) -> QueueStats:
        """Messages by kind."""

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """Messages that died, oldest first."""

    async def redrive(self, limit: int = 1000) -> int:
        """Put dead letters back into the queue with no receives counted; how many."""

    # Workers.

    async def check_in(self, worker_id: str, *, session: str, ttl_seconds: float) -> bool:
        """Note that a worker lives. False if another session with the same id lives too."""

    async def check_out(self, worker_id: str, *, session: str) -> None:
        """Note that a worker has ended."""

    async def workers(self) -> list[WorkerRow]:
        """Workers that live."""

    # What it took, over time.

    async def save_sample(self, sample: Sample) -> None:
        """Keep, or publish, what a worker did in a while."""

    async def points(self, *, since: float, until: float, period_seconds: int) -> list[Point]:
        """What happened between two times, by period; the empty ones are left out.

        AWS: of :data:`MIN_PERIOD_SECONDS` or a multiple, at most :data:`MAX_POINTS` of them.
        """

    async def bill(self) -> Bill | None:
        """What it has cost so far; none where nobody charges. Behind by as much as the counts are."""

    # Clearing.

    async def purge_queue(self) -> int:
        """Remove every message, dead ones too; how many.

        AWS: raises :class:`PurgedLatelyError`, and takes :data:`PURGE_SECONDS` in which messages
        that are sent may be removed too.
        """

    async def clear_table(self, on_removed: Callable[[int], None] = lambda _: None) -> int:
        """Remove every URL record, host row and robots row; how many URL records.

        ``on_removed`` gets the number that is removed so far, now and then.
        """

    async def close(self) -> None:
        """Give back what it holds. Using it afterwards is a mistake."""


class FrontierSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every adapter needs to know. Seconds."""

    visibility_seconds: float = 60.0  # how long a delivery is hidden from others
    due_seconds: float = 120.0  # after which a sweep looks for a record's message
    max_receives: int = MAX_RECEIVES


def check_address(address: str) -> None:
    """Raise ``TypeError`` or ``ValueError`` for what names no frontier; nothing is opened."""
    if not isinstance(address, str):
        raise TypeError(f"frontier: an address such as 'sqlite:crawl.db', not {shown(address)}")
    if not (address.startswith("sqlite:") and address != "sqlite:") and address != "aws:":
        raise ValueError(f"frontier: {shown(address)} names no frontier: write sqlite:PATH, or aws:")


CHANCE: Final = random.SystemRandom()  # that no other process has, too


async def open_frontier(
    address: str, settings: FrontierSettings, *, clock: Clock, rng: random.Random = CHANCE, looking: bool = False
) -> Frontier:
    """Open a frontier by its address. ``rng`` makes its receipts, marks and stamps.

    ``sqlite:PATH`` (``sqlite::memory:`` keeps it in memory), or ``aws:``, the queue ``QUEUE_URL`` and
    the table ``TABLE_NAME`` of the environment. ``looking``: nothing will be written; a file must be
    there, and need not be one that can be written.

    Raises :class:`FrontierUnavailableError` if it cannot be opened, ``ValueError`` for an address
    of another kind.
    """
    check_address(address)
    if address == "aws:":
        from sqspider.frontier.aws import AwsFrontier

        return await AwsFrontier.open(settings, clock=clock, rng=rng)
    from sqspider.frontier.sqlite import SqliteFrontier

    return await SqliteFrontier.open(address.removeprefix("sqlite:"), settings, clock=clock, rng=rng, looking=looking)
