"""What a worker takes in: how many deliveries at a time, when it waits, and when it is enough.

No more than its runners can begin with soon; nothing while nothing can be asked or kept, but one for a probe; no more
than a crawl's limits of pages and bytes leave; and nothing after the mode's end.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import math
from typing import Final

from sqspider.crawl_row import CrawlRef
from sqspider.frontier import Clock, Frontier, FrontierBusyError, Lost, Taken, Won, no_passage
from sqspider.host import HostRow, Passage
from sqspider.log import get_logger
from sqspider.message import BadBody, Message
from sqspider.politeness import PROBE_POLL_SECONDS, Politeness
from sqspider.record import DEFAULT_CRAWL
from sqspider.url import is_cut
from sqspider.work.budgets import Budgets
from sqspider.work.crawls import CrawlRows, Known
from sqspider.work.desk import Desk, Wishes
from sqspider.work.endings import Endings
from sqspider.work.hand import Hand, Visit
from sqspider.work.memories import Memories
from sqspider.work.options import WorkerOptions
from sqspider.work.rules import Rules
from sqspider.work.storing import Storing
from sqspider.work.waiting import ROOM

MAX_BACKOFF_SECONDS: Final = 30.0
RUNNERS_A_CLAIM_AHEAD: Final = 4
OTHERS_SECONDS: Final = 1.0  # between two looks whether others have left something of a run's limit
CRAWL_LOOK_SECONDS: Final = 1.0  # between two looks whether a crawl is over, while there is more of others

log = get_logger(__name__)


class Mode(enum.Enum):
    """When a worker ends by itself."""

    ONCE = enum.auto()  # after one poll
    UNTIL_EMPTY = enum.auto()  # when nothing is left to do
    CONTINUOUS = enum.auto()  # never


class Intake:
    """Takes deliveries in hand for one worker."""

    def __init__(
        self,
        frontier: Frontier,
        desk: Desk,
        politeness: Politeness,
        endings: Endings,
        storing: Storing,
        hand: Hand,
        memories: Memories,
        budgets: Budgets,
        crawls: CrawlRows,
        rules: Rules,
        options: WorkerOptions,
        *,
        clock: Clock,
        stopping: asyncio.Event,
        lease_needed: float,
    ) -> None:
        self._frontier = frontier
        self._desk = desk
        self._politeness = politeness
        self._network = politeness.network
        self._endings = endings
        self._storing = storing
        self._hand = hand
        self._waiting = hand.waiting
        self._memories = memories
        self._budgets = budgets
        self._crawls = crawls
        self._rules = rules
        self._options = options
        self._clock = clock
        self._stopping = stopping
        self._lease_needed = lease_needed
        self._crawl: str | None = None  # with whose end it is enough; none: with that of all
        self._timer: asyncio.TimerHandle | None = None  # for what is claimed ahead
        self._is_held_up = False  # what was claimed ahead found no runner: none is until one was free
        self._look_again_at = 0.0  # by the loop's clock, whether nothing is left

    async def run(self, mode: Mode, crawl: str | None) -> None:
        """Take in until the mode ends it, a limit, the order to stop, or a network that is down for good. It is enough
        when nothing is left of ``crawl``, whatever there is of others; none: when nothing is left that could be worked
        on here."""
        self._crawl, backoff = crawl, 0.0
        while not self._stopping.is_set() and not self._network.is_spent:
            try:
                room = await self._room()
                if room <= 0:
                    if not await self._waits_for_others(mode):
                        return
                    continue
                if not await self._network_lets_in() or not await self._store_lets_in():
                    continue
                await self._crawls.refresh()
                number = await self._take(min(room, self._most(mode)), mode)
                is_enough = mode is Mode.UNTIL_EMPTY and (not number or crawl is not None)
                is_done = is_enough and await self._is_done(number)
                backoff = 0.0
            except FrontierBusyError as error:
                backoff = min(max(1.0, backoff * 2), MAX_BACKOFF_SECONDS)
                log.warning("frontier_busy", during="receive", error=str(error), again_in_seconds=backoff)
                await self._politeness.pause_until(self._clock() + backoff)
                continue
            if is_done or mode is Mode.ONCE:
                return

    def _most(self, mode: Mode) -> int:
        """How many may be taken at once."""
        if self._network.is_down or self._storing.is_down:
            return 1  # that probes for all
        return self._options.most_of_a_poll if mode is Mode.ONCE else self._desk.most

    async def _take(self, limit: int, mode: Mode) -> int:
        """Take some in hand; how many there were."""
        began_at = self._clock()
        # A single poll is to bring something: what its slot is waited for in the queue would not be worked on.
        wishes = Wishes(self._may_be_claimed, no_passage if mode is Mode.ONCE else self._passage_of)
        self._hand.may_grow = True
        try:
            taken, rows, asked_at = await self._desk.take(limit, wishes)
        finally:
            self._hand.may_grow = False
        asked_at = began_at if asked_at is None else asked_at  # as old as the wait, permissions would be too old
        self._politeness.note_rows(rows, asked_at)
        self._is_held_up = False
        for one in taken:
            self.start(one, asked_at)
        self._hand.look()
        if not taken:
            log.debug("No messages")
        return len(taken)

    def _may_be_claimed(self, message: Message) -> bool:
        """Whether a URL can be asked for as soon as there is a runner. It only reads: amid a turn."""
        known = self._taken_up(message)
        return known is not None and self._politeness.is_free(known.message, known.agent)

    def _passage_of(self, message: Message, row: HostRow) -> Passage | None:
        """With what a URL's host is entered as it is taken; none: it is taken at once. As :meth:`_may_be_claimed`."""
        known = self._taken_up(message)
        return None if known is None else self._politeness.passage(known.message, row, known.agent)

    def _taken_up(self, message: Message) -> Known | None:
        """A message as it is to be worked on; none: there is more to be found out first, or it is not to be fetched."""
        key, memories = message.key, self._memories
        if is_cut(message.url) or key in memories.finished or key in memories.suspects:
            return None
        known = self._crawls.peek(message)
        if known is None or known.is_bounded or self._rules.may_be_cut_off(known.message):
            return None
        return known

    def start(self, taken: Taken, asked_at: float = 0.0) -> None:
        """Take a delivery in hand. ``asked_at``: when it was asked for, if its host was entered with that."""
        message, delivery, claim = taken.message, taken.delivery, taken.claim
        self._endings.tally.add_received(DEFAULT_CRAWL if isinstance(message, BadBody) else message.crawl_name)
        if isinstance(message, BadBody):
            # Left unended: it comes back until it reaches the dead letters.
            log.warning("bad_message", message_id=delivery.message_id, why=message.why)
            return
        known = self._crawls.peek(message)
        visit = self._hand.take(delivery, message if known is None else known.message)
        visit.agent = None if known is None else known.agent
        visit.is_at_gate = isinstance(claim, Won)
        if taken.token is not None:
            visit.permission = self._politeness.permitted(visit.host, taken.token, asked_at)
        if claim is None or self._is_kept(visit, claim):
            self._waiting.put(visit)
            self._watch(visit)
        elif not visit.ending:
            self._hand.release(visit)

    def close(self) -> None:
        """Nothing is claimed ahead any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _watch(self, visit: Visit) -> None:
        """See to it that a claim is given back in time if no runner is found: as one that runs out it would count as
        one that its URL had killed."""
        if visit.claim is not None and self._timer is None:
            seconds = visit.claim.lease_until - self._lease_needed - self._clock()
            self._timer = asyncio.get_running_loop().call_later(max(seconds, 0.0), self._give_back_in_time)

    def _give_back_in_time(self) -> None:
        self._timer, now = None, self._clock()
        for visit in self._waiting.those_due():
            if visit.claim is not None and visit.claim.lease_until - self._lease_needed <= now:
                self._is_held_up = True
                self._waiting.withdraw(visit)
                self._endings.put_off(visit, now)
            else:
                self._watch(visit)

    def _is_kept(self, visit: Visit, claim: Won | Lost) -> bool:
        """Whether what was claimed as it was taken is to be fetched. A suspect is given back before it waits: else a
        neighbour that kills us could leave its third claim unended, and it be given up though it never was alone."""
        won = self._endings.note_claim(visit, claim)
        return won is not None and not self._endings.is_suspended(visit, won)

    async def _network_lets_in(self) -> bool:
        """Wait a while as long as nothing can be asked; whether something may be taken in, at least for a probe."""
        network = self._network
        if not network.is_down or (self._hand.is_empty and self._clock() >= network.again_at):
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(network.again_at - self._clock(), PROBE_POLL_SECONDS)):
                await self._hand.until(lambda: self._stopping.is_set() or not network.is_down)
        return False

    async def _store_lets_in(self) -> bool:
        """Wait a while as long as nothing can be kept; whether something may be taken in, at least for a probe."""
        storing = self._storing
        if not storing.is_down or (self._hand.is_empty and self._clock() >= storing.again_at):
            return True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(storing.again_at - self._clock(), PROBE_POLL_SECONDS)):
                await self._hand.until(lambda: self._stopping.is_set() or not storing.is_down)
        return False

    # How many.

    async def _room(self) -> int:
        """How many deliveries could be worked on now: waits until there are some. 0: stop taking."""
        while not self._stopping.is_set():
            await self._endings.give_back_what_was_left()
            changes = self._hand.changes
            if not self._has_room:
                await self._hand.until(lambda: self._has_room or self._endings.are_some_left)
                continue
            places, was_idle = self._places, self._hand.is_empty and not self._endings.are_some_left
            left = await self._budget_left(places)
            if left is None or left > 0:
                return places if left is None else min(places, left)
            if was_idle:  # before it was asked: what ended meanwhile may be no page, and leave room for one
                return 0
            await self._hand.until(lambda: self._hand.changes > changes)  # noqa: B023 - it is waited for here
        return 0

    async def _waits_for_others(self, mode: Mode) -> bool:
        """Wait a moment for what others of the run have in hand, and may not spend; whether there is any."""
        if self._stopping.is_set() or mode is Mode.ONCE or not self._budgets.may_become_free:
            return False
        if mode is Mode.UNTIL_EMPTY and await self._is_done(0):
            return False
        return not await self._politeness.pause_until(self._clock() + OTHERS_SECONDS)

    @property
    def _has_room(self) -> bool:
        """Whether it is worth while to take some, or time to look whether to stop."""
        enough = max(1, min(self._desk.most, self._options.concurrency // 4))
        return self._stopping.is_set() or self._places >= min(enough, self._at_a_time)

    @property
    def _places(self) -> int:
        """How many deliveries could be worked on now."""
        at_a_time, holding = self._at_a_time, self._endings.holding
        if self._storing.is_full or (holding is not None and holding.is_full):
            return 0
        if self._is_held_up:
            return at_a_time - self._load
        # Who is killed leaves all claims unended: few for later beside those for now, and none waits for long either.
        return at_a_time + min(self._desk.ahead, math.ceil(at_a_time / RUNNERS_A_CLAIM_AHEAD)) - self._load

    @property
    def _at_a_time(self) -> int:
        return self._network.most_at_a_time(self._options.concurrency, self._clock())

    @property
    def _load(self) -> int:
        """What runners have, or will have at once, or soon when one who is alone is out; of what waits, for robots.txt
        too, or is about to end, only what is too much: hosts that do not answer keep nobody from the others."""
        concurrency = self._options.concurrency
        waits_too_much = max(0, self._waiting.waiting - ROOM)
        ends_too_late = max(0, self._endings.under_way - self._storing.resting - concurrency)
        at_once = self._waiting.at_work + self._waiting.due + self._hand.gate.in_line
        return at_once + waits_too_much + ends_too_late

    async def _budget_left(self, wanted: int) -> int | None:
        """How many more may be taken in by the run's limits; none: there is none."""
        most = self._options.max_bytes
        if most is not None and (await self._frontier.counts()).bytes >= most:
            return 0
        return await self._budgets.left_of_run(self._hand.of_crawl(self._crawl), wanted)

    # Enough.

    async def _is_done(self, number: int) -> bool:
        """Whether nothing is left, after so many were taken. Where figures may be behind, two looks say so, some time
        apart; and there they are dear: nor is there one sooner after one that found something."""
        lag_seconds, loop = self._frontier.traits.lag_seconds, asyncio.get_running_loop()
        if loop.time() < self._look_again_at and (number or lag_seconds):
            return False
        if not await self._seems_done():
            between = 0.0 if self._crawl is None else CRAWL_LOOK_SECONDS
            self._look_again_at = loop.time() + max(lag_seconds, between)
            return False
        if lag_seconds == 0:
            return True
        await self._politeness.pause_until(self._clock() + lag_seconds)
        return await self._seems_done()

    async def _seems_done(self) -> bool:
        """Whether nothing is left by one look: here, in the queue, and no record open."""
        if self._crawl is not None:
            return not self._hand.of_crawl(self._crawl) and await self._is_over(self._crawl)
        if not self._hand.is_empty:
            return False
        idle = self._crawls.idle  # what is left of these is for others, or for later
        left = (await self._frontier.counts()).open
        for ref in idle:
            left -= (await self._frontier.counts(crawl=ref.name)).open
        for ref in await _removed_half_way(self._frontier) if left > 0 else ():
            left -= (await self._frontier.counts(crawl=ref.name)).open
        if left > 0:
            return False
        queue = await self._frontier.queue_stats()
        return queue.is_empty or (bool(idle) and not queue.visible and not queue.in_flight)

    async def _is_over(self, name: str) -> bool:
        """Whether nothing of a crawl is left that could be worked on here. Loose records are the default crawl's."""
        ref = self._crawls.named(name)
        if ref is not None and self._crawls.is_idle(ref):
            return True
        if ref is None and any(removed.name == name for removed in await _removed_half_way(self._frontier)):
            return True
        return not (await self._frontier.counts(crawl=name)).open


async def _removed_half_way(frontier: Frontier) -> list[CrawlRef]:
    """Crawls of which records are left that nobody can work on. (Of the default one's place some may be loose.)"""
    return [ref for ref in await frontier.removals() if ref.name != DEFAULT_CRAWL]
