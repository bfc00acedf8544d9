"""The port: what a frontier can do, in four parts, each for those who need no more of it.

One conformance suite (``tests/frontier``) holds every adapter to the words below. Every operation takes a batch,
because the cost of a crawler is its round trips; answers keep the order of what was asked. What is a normal outcome
is a value: a lost claim, a stale fence. What somebody must act on is a :class:`FrontierError`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from typing import Protocol

from sqspider.crawl_row import Crawl, CrawlRef
from sqspider.figures import Point, Sample
from sqspider.frontier.places import Moves
from sqspider.frontier.shares import Ask, Portion, Run, Spent
from sqspider.frontier.values import (
    NONE_BARRED,
    Bill,
    ClaimRequest,
    Counts,
    DeadLetter,
    Deferral,
    Delivery,
    Ends,
    Entry,
    Finish,
    Hold,
    Lost,
    QueueStats,
    Retry,
    RobotsRow,
    Taking,
    Traits,
    Turned,
    Won,
    WorkerRow,
)
from sqspider.host import Admission, Entrance, Exit, HostRow, SlotDemand
from sqspider.record import Status, UrlRecord


class _Shared(Protocol):
    """What everybody asks of it."""

    @property
    def traits(self) -> Traits:
        """What it does otherwise than other frontiers do."""

    @property
    def generation(self) -> int:
        """Raised by :meth:`clear_table` and :meth:`remove_crawl`: whoever remembers what is recorded here forgets it.

        As of the last :meth:`receive`, :meth:`hosts` or :meth:`TurningFrontier.turn`; and who has won a claim knows of
        every clearing that its record was made after.
        """

    def now(self) -> float:
        """The time that all who share it go by, in seconds since the epoch.

        Leases, slots and delays are measured by it; so whoever works on a frontier takes its clock.
        """


class Work(_Shared, Protocol):
    """URLs in, deliveries out, claims, ends: what a worker does all day."""

    async def enqueue(self, entries: Sequence[Entry]) -> list[bool]:
        """Record URLs that are not known and put a message for each into the queue.

        True where the URL was new. A known one is left as it is, but that the nearest way holds, by
        :func:`sqspider.frontier.ways.fallen` (what follows for one that is final, as where it lies within its crawl
        by now, is said by :func:`sqspider.frontier.ways.consequence`), and that one is reopened whose ``lastmod`` is
        later than its last visit (AWS: of those that have a parent, as what sitemaps list has). An entry of a crawl
        names it, and has the settings of its row, too: by their limit of depth it is known what a nearer way is good
        for.

        Dying half way leaves records without messages at worst, whose ``due_at`` brings them to a sweep, and (AWS)
        ways untold, that are found again with the page they begin at.
        """

    async def reopen(self, keys: Sequence[str], *, if_changed: bool = False) -> list[bool]:
        """Move records that are final back to ``queued``, each with a message that says what its record says.

        True where it was final; of one that is open, unknown or damaged nothing changes. ``visit`` rises, ``tries`` and
        ``unended`` are 0, the attempt goes on; what came of the last visit stays there until the next end, and is taken
        out of the counts (a host's sums stay: they were spent). Of several for one record in a batch only the first can
        be true. ``if_changed``: the visit asks for what has changed alone, if it can; else for the whole answer. Dying
        half-way leaves records without messages at worst; their ``due_at`` brings them to a sweep.
        """

    async def send(self, bodies: Sequence[str]) -> None:
        """Put raw bodies into the queue, as anybody may who can send to it. No record is made."""

    async def receive(self, limit: int, *, wait_seconds: float = 0.0, crawl: str | None = None) -> list[Delivery]:
        """Up to ``limit`` messages that are visible, hidden from others for the visibility timeout.

        ``crawl``: of the crawl of this name alone, loose ones being of the default crawl; where ``Traits`` do not say
        that crawls are told apart, those of others come all the same. What is nobody's message is then left to others.
        Waits for the first one up to ``wait_seconds``. A message that was received
        :data:`MAX_RECEIVES` times without an end goes to the dead letters instead.
        """

    async def claim(
        self, requests: Sequence[ClaimRequest], *, worker_id: str, claim_id: str, lease_seconds: float
    ) -> list[Won | Lost]:
        """Move records ``queued -> processing`` if ``lease_until < now``; one wins, all others lose.

        ``claim_id`` is new for every call. A record that is missing is made from its message
        first; what no record can be made of is ``refused``, for itself alone. An own claim whose answer
        was lost (same worker and claim id) is won. What is won says the way that its record says. Of several
        requests for one URL in a batch, only the first can win; the others are ``held``.
        """

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        """End claims: links recorded and queued, then the record final, then the message deleted. Where a nearer way
        was found since the claim, ``outlinks`` say what is recorded. (AWS: what had too many redirects by the way
        before is false.) What it ``spends`` goes over from its worker's share to what is spent, as
        :func:`sqspider.frontier.shares.after` has it: with the record (AWS: right after it; dying between the two
        leaves it in the share, which runs out).

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

    async def prolong(self, holds: Sequence[Hold], *, lease_seconds: float) -> list[Hold | None]:
        """Let claims last for so long from now, their messages hidden as long; each as it is from then on.

        None where a later claim was made or the record is final: nothing changes then. A lease that ran out holds
        again if nobody has claimed the record since. Where a message cannot be hidden any longer (AWS: twelve hours
        after it was received, or dying half way) somebody receives it in vain, and puts it off.
        """

    async def defer(self, deferrals: Sequence[Deferral]) -> None:
        """Put deliveries off until a time; records are not touched, and no receive is counted.

        A receipt that went stale with time changes nothing; one of a delivery that was ended already
        may leave a copy of the message.
        """

    async def delete(self, deliveries: Sequence[Delivery]) -> None:
        """End deliveries whose message has nothing more to say. A stale receipt changes nothing."""


class Crawls(_Shared, Protocol):
    """The rows of crawls, where their scopes are measured from, and what is put aside of them.

    A URL of a crawl that is not there, or of one of its name that was removed, is not recorded: it is not new, and
    its claim is refused. (AWS: what is enqueued is not asked about, which would cost a read for each batch; there
    whoever works asks before.)
    """

    async def crawls(self) -> list[Crawl]:
        """All of them, by name. Cheap: every worker asks every few seconds. One whose row is damaged, or says what only
        a later version knows, says so itself (``unreadable``), and hides no other; it is not written over."""

    async def save_crawl(self, crawl: Crawl) -> bool:
        """Write a crawl's row, if ``version`` and ``id`` are still those of the row (0: there is none of its name);
        the version is one more then. False where it has changed meanwhile: read it again."""

    async def remove_crawl(self, ref: CrawlRef, on_removed: Callable[[int], None] = lambda _: None) -> int:
        """Remove a crawl: its row, its records and their messages, its seeds, its sums, its runs; how many records.

        The row goes first: whatever dies half-way, messages of what is left name a crawl that is not known, and end.
        Doing it again, with the same ``ref``, goes on; until it is done no crawl of its name can be made
        (:meth:`save_crawl` says False). Loose records of the default crawl's place are not its own.
        """

    async def removals(self) -> list[CrawlRef]:
        """Crawls whose removal was begun and is not done: it is under way, or died half-way. By name."""

    async def add_seeds(self, ref: CrawlRef, sites: Mapping[str, Collection[str]]) -> bool:
        """Note where a crawl's scope is measured from: by site, the folders there (see :func:`sqspider.scope.site_of`).

        True if any of it was new: then whoever asked raises ``Crawl.seeds_version``.
        """

    async def seeds(self, ref: CrawlRef, sites: Collection[str]) -> dict[str, frozenset[str]]:
        """The folders that are noted for some sites; sites without any are left out."""

    async def park(self, deliveries: Sequence[Delivery]) -> None:
        """Put deliveries aside, whose crawl does not run: nobody receives them until :meth:`unpark`. An adapter that
        cannot keep them aside for so long brings them back now and then. Records are not touched, receives not counted.
        Where the row of their crawl says that it rests, others of its messages may go with them.
        """

    async def unpark(self, ref: CrawlRef) -> int:
        """Make visible what was put aside of a crawl; how many, where that is known."""

    async def share(self, asks: Sequence[Ask]) -> list[Portion]:
        """Share what runs may take among workers: how much of each this one may spend until a moment.

        Atomic per run, by :func:`sqspider.frontier.shares.shared`: all that is spent and shared out is never more than
        the most. What a worker spends, :meth:`Work.finish` says. What it had that died is free again when its
        ``until`` is over; so whoever lives asks again before that, and spends nothing of its share after it.
        """

    async def free(self, run: str, spent: Spent) -> None:
        """Of what was spent so much is put back, and counts no more; nothing happens where there is no such run."""

    async def runs(self, names: Sequence[str]) -> dict[str, Run]:
        """The rows of some runs; those that nobody has asked for a share are left out."""


class Hosts(_Shared, Protocol):
    """Host rows, slots, requests under way, robots.txt: what politeness knows of all workers."""

    async def hosts(self, hosts: Sequence[str]) -> dict[str, HostRow]:
        """The rows of some hosts; one that is not known has a fresh row of version 0."""

    async def hosts_in_trouble(self) -> list[HostRow]:
        """The rows of hosts that are in trouble now (:func:`sqspider.host_trouble.is_in_trouble`), by name."""

    async def slowest_hosts(self, most: int) -> list[HostRow]:
        """The rows of so many hosts whose answers took longest (:func:`sqspider.host.slowest`)."""

    async def scan_hosts(self) -> list[HostRow]:
        """All host rows, by name."""

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
        pushed on by the delay where there is no slot. Who heeds it may be let in for a while only
        (``Admission.lapses_at``; AWS); entering again by the same token is then good until ``until``, and void where
        the request is not known any more.
        """

    async def leave(self, exits: Sequence[Exit]) -> None:
        """Note that requests are over; ``requested_at`` counts for the delay."""

    async def robots(self, origins: Sequence[str]) -> dict[str, RobotsRow]:
        """What is known of the robots.txt of some origins; unknown ones are left out."""

    async def lease_robots(self, origins: Sequence[str], *, until: float) -> list[bool]:
        """Take the right to fetch the robots.txt of some origins, each for one worker at a time."""

    async def save_robots(self, rows: Sequence[RobotsRow]) -> None:
        """Write what fetches of robots.txt brought, and end their leases."""


class Looking(_Shared, Protocol):
    """What there is, for people and programs. No record, message or host is another one by being looked at."""

    @property
    def place(self) -> str:
        """Where it is, for a person who is asked whether to clear it."""

    async def get(self, keys: Sequence[str]) -> dict[str, UrlRecord]:
        """Records by their keys (:func:`sqspider.record.record_key`); unknown ones are left out.

        One that is damaged says so itself.
        """

    def scan(
        self, *, status: Status | None = None, host: str | None = None, crawl: str | None = None
    ) -> AsyncIterator[list[UrlRecord]]:
        """All records, or those of some kind, in batches, in the order in which they were recorded where that is cheap.

        One that is damaged says so itself, and hides no other.
        """

    async def counts(self, *, exact: bool = False, roughly: bool = False, crawl: str | None = None) -> Counts:
        """Records by status and reason. Quick at any size. ``crawl``: those of the crawl of this name alone.

        "None open" is never a guess. Where the other sums may be behind (AWS: by seconds, and by what
        a killed worker had not written), ``exact`` reads the whole table, and mends them if nothing
        was changed there for a minute; ``roughly`` is told by them alone, what is open, too: for who asks all the time.
        """

    async def queue_stats(self) -> QueueStats:
        """Messages by kind."""

    async def dead_letters(self, limit: int = 100) -> list[DeadLetter]:
        """Messages that died, oldest first."""

    async def workers(self) -> list[WorkerRow]:
        """Workers that live."""

    async def points(self, *, since: float, until: float, period_seconds: int, crawl: str | None = None) -> list[Point]:
        """What happened between two times, by period; the empty ones are left out. ``crawl``: what workers did for the
        crawl of this name alone, without the queue's own figures; what is of none is the default one's.

        AWS: of ``Traits.finest_period_seconds`` or a multiple, at most ``Traits.max_points`` of them.
        """

    async def bill(self) -> Bill | None:
        """What it has cost so far; none where nobody charges. Behind by as much as the counts are."""


class Upkeep(_Shared, Protocol):
    """What keeps it going, and what clears it."""

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

    async def redrive(self, limit: int = 1000) -> int:
        """Put dead letters back into the queue with no receives counted; how many."""

    async def check_in(
        self, worker_id: str, *, session: str, ttl_seconds: float, barred: Mapping[str, str] = NONE_BARRED
    ) -> bool:
        """Note that a worker lives, and what it says: see :class:`WorkerRow`. False if another session with the same id
        lives too."""

    async def check_out(self, worker_id: str, *, session: str) -> None:
        """Note that a worker has ended."""

    async def save_sample(self, sample: Sample) -> None:
        """Keep, or publish, what a worker did in a while."""

    async def move_places(self, moves: Moves) -> int:
        """Write down where captures lie by now, once the archive was put in order; how many records said otherwise.

        Of what a record says of its last visit, the payload that this one refers to, and the good visit before: each
        record is changed at once, and only while it says what was read; one that is visited meanwhile keeps its own.
        Of a capture that was erased it says that it is not kept. Reads every record, in batches (AWS: consistently,
        which costs twice what :meth:`Looking.scan` does). Dying half-way leaves some that say where they lay before;
        doing it again goes on. Who holds a claim may remember the place of the good visit before: it is written back
        with the claim's end, so whoever removes files does this once more when the leases of before are over.
        """

    async def purge_queue(self) -> int:
        """Remove every message, dead ones too; how many.

        AWS: raises :class:`PurgedLatelyError`, and takes ``Traits.purge_seconds`` in which messages
        that are sent may be removed too.
        """

    async def clear_table(self, on_removed: Callable[[int], None] = lambda _: None) -> int:
        """Remove every URL record, host row and robots row; how many URL records.

        ``on_removed`` gets the number that is removed so far, now and then.
        """

    async def close(self) -> None:
        """Give back what it holds. Using it afterwards is a mistake."""


class Frontier(Work, Crawls, Hosts, Looking, Upkeep, Protocol):
    """Queue, URL records and host rows."""


class TurningFrontier(Frontier, Protocol):
    """A frontier whose :class:`Traits` say that it has turns: what a worker ends and what it takes next are one
    transaction there."""

    async def turn(self, ends: Ends, taking: Taking) -> Turned:
        """End what was done, then take what comes next, and claim of that what is to be asked for at once.

        As :meth:`finish`, :meth:`retry`, :meth:`defer`, :meth:`delete`, :meth:`receive` without a wait and
        :meth:`claim` would do it one after the other, so what was put back can be taken again at once. All or
        nothing: dying half-way, or an error, leaves all as it was before. ``taking.claims`` is asked once of each
        message that is well-formed, in the midst of it: what that raises is raised here. ``taking.limit`` 0: nothing
        is taken. The rows of hosts are those of the turn's end. ``taking.crawl``: as :meth:`receive` has it; what was
        put back along need not come at once then.

        Where ``taking.passes`` says so of a record's own message, its host's turn decides, by
        :func:`sqspider.host.passed`: it is taken and claimed if the host could be entered for it (where the claim is
        lost, it is left again), and otherwise put off, undelivered, with its slot. So many are looked at, and no more.
        """

    async def wait(self, seconds: float, *, crawl: str | None = None) -> None:
        """Wait until a message is visible (``crawl``: of that crawl), or the last one of all is gone: so long at most.
        Nothing is taken."""
