"""What goes into the operations of a frontier and comes out of them, and what can go wrong there."""

from __future__ import annotations

import enum
import random
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final

import msgspec

from sqspider.crawl_row import CrawlRef
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier.shares import Spend
from sqspider.host import Exit, HostRow, Passage, RobotsAccess
from sqspider.message import BadBody, Message
from sqspider.record import Kept, Outcome, Reason, Status, record_key
from sqspider.redact import redact

MAX_RECEIVES: Final = 5
"""Deliveries of one message that nobody ended, before it goes to the dead letters."""

SCAN_BATCH: Final = 1000
"""Records that one batch of a scan brings at most, where the adapter has the choice."""

Clock = Callable[[], float]  # seconds since the epoch

NONE_BARRED: Final[Mapping[str, str]] = MappingProxyType({})
"""What most workers say of the crawls that they may not work on."""

CHANCE: Final = random.SystemRandom()  # that no other process has, too


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
    """The queue was purged less than ``Traits.purge_seconds`` ago: it cannot be purged again so soon."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A URL to be recorded and put in the queue."""

    url: str  # canonical
    depth: int = 0
    parent: str | None = None
    settings: CrawlSettings = CrawlSettings()
    redirects: int = 0  # on the way from the last page to this URL
    lastmod: float | None = None  # what a sitemap said
    meta: str | None = None  # what a list says of it (see ``meta``): kept where it is new, and in no message
    is_skipped: bool = False  # it lies outside of its crawl, and is recorded: to end for that, or to be checked
    crawl: CrawlRef | None = (
        None  # none: it goes by ``settings``, in the default crawl's place; else by its crawl's row
    )

    @property
    def key(self) -> str:
        """By what its record is found."""
        crawl = self.crawl
        return self.url if crawl is None else record_key(self.url, crawl.name)

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
            crawl=message.crawl,
        )

    def to_message(self) -> Message:
        """What is put into the queue for it."""
        return Message(
            url=self.url,
            depth=self.depth,
            parent=self.parent,
            settings=self.settings,
            redirects=self.redirects,
            lastmod=self.lastmod,
            crawl=self.crawl,
        )


class Onward(enum.IntEnum):
    """How far what a visit led to is behind its URL. As they are kept: no number is ever used for another."""

    LINK = 0  # a link further, and no redirect
    REDIRECT = 1  # as deep, and a redirect further
    REFRESH = 2  # as deep: a seed sends its reader there. A redirect further, if one led to the seed


class Outlinks(msgspec.Struct, frozen=True, array_like=True):
    """All that a visit led to within its crawl, whether its depth let that in or not, and what is checked outside: so
    that a nearer way to its URL can be handed on without a request."""

    urls: tuple[str, ...] = ()
    onward: Onward = Onward.LINK
    is_other_for_seeds: bool = False  # were its URL a seed, it would lead elsewhere, or not as far
    outside: tuple[str, ...] = ()  # as far behind its URL as the others


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
    visit: int = 0  # visits of the URL that ended before this one
    kept: Kept | None = None  # of those
    meta: str | None = None  # the record's
    depth: int = 0  # as the record says: it holds over what a message says, which is older
    redirects: int = 0  # likewise


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
    """The end of a claim: what came of the URL, and the links that were found there, by the way that the claim says."""

    claim: Won
    delivery: Delivery | None  # deleted last; none: leave the message alone
    outcome: Outcome
    links: tuple[Entry, ...] = ()
    kept: Kept | None = None  # for the next visit
    outlinks: Outlinks | None = None  # in a crawl with a limit of depth: for when a nearer way is found
    spends: tuple[Spend, ...] = ()  # where it is counted, of the share that the claim's worker has there


class Retry(msgspec.Struct, frozen=True, kw_only=True):
    """A claim that is given back: the URL is to be looked at again."""

    claim: Won
    delivery: Delivery
    at: float  # when
    tried: bool  # a fetch met trouble: counts as a try
    outcome: Outcome | None = None  # what that fetch met
    is_unused: bool = False  # nothing was done under it: ``unended`` is what it was before the claim, not 0


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A claim whose end has to wait, and the delivery by which it was won: to be prolonged meanwhile."""

    claim: Won
    delivery: Delivery


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

    @property
    def pages(self) -> int:
        """What was asked for, redirects not counted."""
        return self.by_status[Status.DONE] - self.redirects + self.by_status[Status.FAILED]


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
    barred: dict[str, str] = {}  # crawls that its start does not let it work on, by name, and why


class FrontierSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What every adapter needs to know. Seconds."""

    visibility_seconds: float = 60.0  # how long a delivery is hidden from others
    due_seconds: float = 120.0  # after which a sweep looks for a record's message
    max_receives: int = MAX_RECEIVES


class Traits(msgspec.Struct, frozen=True, kw_only=True):
    """What a frontier does otherwise than others: so that nobody asks which one it is. Seconds."""

    lag_seconds: float = 0.0  # figures may be behind: that nothing is left is told by two looks so far apart
    poll_seconds: float = 1.0  # the wait of one poll of whoever polls for ever: longer where each costs money
    purge_seconds: float = 0.0  # that a purge of the queue takes, and that must lie between two
    removal_dollars: float = 0.0  # that removing a record costs
    scan_dollars: float = 0.0  # that reading a record costs when all are read
    reopen_dollars: float = 0.0  # that reopening a record costs
    gather_seconds: float = 0.0  # that ends wait for others to share a call with, at least
    finest_period_seconds: int = 1  # of points
    max_points: int | None = None  # that are given at once
    has_turns: bool = False  # it is a ``TurningFrontier``
    tells_crawls_apart: bool = False  # who works for one crawl alone receives nothing of others


class Ends(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has done with its deliveries since its last turn."""

    finishes: Sequence[Finish] = ()
    retries: Sequence[Retry] = ()
    deferrals: Sequence[Deferral] = ()
    deletions: Sequence[Delivery] = ()
    exits: Sequence[Exit] = ()  # requests that are over


def no_passage(_message: Message, _row: HostRow) -> Passage | None:
    """Every URL is delivered, whatever its host's turn."""
    return None


class Taking(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker wants to take in a turn."""

    limit: int  # deliveries
    worker_id: str
    claim_id: str  # new for every turn
    lease_seconds: float
    claims: Callable[[Message], bool]  # whether to claim at once; it only reads, for the turn may come to nothing
    # Whether a record's URL comes only when its host's turn has come, claimed then; none: at once. It only reads, too.
    passes: Callable[[Message, HostRow], Passage | None] = no_passage
    crawl: str | None = None  # messages of the crawl of this name alone, as :meth:`Work.receive` has it


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """One delivery that a turn brought."""

    delivery: Delivery
    message: Message | BadBody
    claim: Won | Lost | None = None  # none: it is not claimed
    token: str | None = None  # of the request for which its host was entered


class Turned(msgspec.Struct, frozen=True, kw_only=True):
    """What came of a turn: answers in the order of what was ended, and what was taken."""

    finished: Sequence[bool]
    retried: Sequence[bool]
    taken: Sequence[Taken]
    hosts: Mapping[str, HostRow]  # of those taken, as they are then
    put_off: int = 0  # URLs that wait for their slots from now on
