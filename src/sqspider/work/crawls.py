"""The rows of crawls as a worker has them: copies for seconds, and what a crawl's message is by them.

    the row                           its message
    --------------------------------  --------------------------------------------------------------------
    runs, and may be worked on here   gets the row's settings, and whoever asks for its crawl
    is not known by a look after it   is deleted: its crawl was removed
    rests: paused, stopped, at a      is put aside until the crawl runs again
    limit of its own
    asks for what this worker's       is put off, for another worker; the worker says once what it waits for
    start does not allow; or cannot
    be read
    is not the one that the worker    is not received; where a frontier does not tell crawls apart it is put off, for
    works for alone                   another worker; the longer, the more of them it has met

A message that names no crawl goes by its own settings, as the worker itself does.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Final, NamedTuple

import msgspec

from sqspider.crawl_row import UNKNOWN_ID, Crawl, CrawlRef, State
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Clock, Frontier
from sqspider.frontier.shares import Spent
from sqspider.log import get_logger
from sqspider.message import Message
from sqspider.politeness import Agent, Politeness
from sqspider.redact import redact
from sqspider.work.allowed import NotAllowedError
from sqspider.work.budgets import has_budget
from sqspider.work.fetchers import Agents
from sqspider.work.limits import begin_to_count, limit_reached

COPY_SECONDS: Final = 2.0  # that copies are good for
UNKNOWN_SECONDS: Final = 1.0  # between two looks for crawls that are not known
BARRED_SECONDS: Final = 60.0  # before a message of a crawl that may not be worked on here is looked at again
OTHERS_SECONDS: Final = (5.0, 600.0)  # before a message that is for other workers is looked at again: least, most
_SECONDS_FOR_EACH: Final = 0.02  # that was put off so: a look costs a tenth of that
BARRED_WORDS: Final = f"are looked at again every {BARRED_SECONDS:.0f} s"
_AT_WORK_SECONDS: Final = 30.0  # between two looks whether a crawl has anything open, which others wait for
MOST_UNKNOWN: Final = 1000  # crawls that are known to be gone
MOST_BARRED: Final = 5  # crawls of which a worker's row tells, in a sentence each
MOST_WORDS: Final = 200  # characters of it

log = get_logger(__name__)


class Known(NamedTuple):
    """A message as it is to be worked on, and who asks for it."""

    message: Message
    agent: Agent
    is_bounded: bool  # so much is taken of it, or of its host: see ``budgets``


class Unfit(enum.Enum):
    """Why a crawl's message is not worked on here and now."""

    GONE = enum.auto()
    RESTS = enum.auto()
    BARRED = enum.auto()
    OTHERS = enum.auto()


class Later(NamedTuple):
    """It is not known yet: ask again at a moment."""

    at: float


class _Copy(NamedTuple):
    """A crawl as it was read last."""

    crawl: Crawl
    settings: CrawlSettings
    agent: Agent | None  # none: it is barred
    why: str = ""  # if so
    limit: str = ""  # that it has reached
    spent: Spent = Spent()  # of its limits
    is_bounded: bool = False

    @property
    def rests(self) -> bool:
        return self.crawl.state is not State.RUNNING or bool(self.limit)


class CrawlRows:
    """The copies of one worker, which works for all crawls, or for ``only`` the one of a name."""

    def __init__(
        self, frontier: Frontier, agents: Agents, politeness: Politeness, *, clock: Clock, only: str | None = None
    ) -> None:
        self._frontier = frontier
        self._agents = agents
        self._politeness = politeness
        self._clock = clock
        self._only = only
        self._copies: dict[CrawlRef, _Copy] = {}
        self._read_at = -COPY_SECONDS  # before it was read: what was written until then is in the copies
        self._reading = asyncio.Lock()
        self._gone: dict[CrawlRef, None] = {}
        self._running: set[CrawlRef] = set()  # and nothing was put aside here since that was seen
        self._at_work: dict[CrawlRef, tuple[float, bool]] = {}  # when it was looked at, and whether it had any open
        self._told: dict[CrawlRef, str] = {}  # why it waits
        self._shorter: CrawlSettings | None = None  # with the shortest of delays that fell, until that holds

    # What a message is.

    def peek(self, message: Message) -> Known | None:
        """What a message is, where that is known here; none: see :meth:`resolve`. It reads only: amid a turn."""
        ref = message.crawl
        if self._is_for_others(message):
            return None
        if ref is None:
            return Known(message, self._agents.own, has_budget(message.settings))
        copy = self._copies.get(ref)
        if copy is None or copy.agent is None or copy.rests or not self._is_fresh(COPY_SECONDS):
            return None
        return _known(copy, copy.agent, message)

    async def resolve(self, message: Message) -> Known | Unfit | Later:
        """What a message is that was received. Raises :class:`sqspider.frontier.FrontierError`."""
        known = self.peek(message)
        if known is not None:
            return known
        if self._is_for_others(message):
            return Unfit.OTHERS
        ref = message.crawl
        assert ref is not None
        if ref in self._gone:
            return Unfit.GONE
        asked_at = self._clock()
        await self.refresh(COPY_SECONDS)
        if ref not in self._copies and self._read_at < asked_at:  # its row may have been written since
            if self._is_fresh(UNKNOWN_SECONDS):
                return Later(self._read_at + UNKNOWN_SECONDS)
            await self.refresh(0.0)
        copy = self._copies.get(ref) or self._copies.get(CrawlRef(ref.name, UNKNOWN_ID))
        if copy is None:
            self._note_gone(ref)
            return Unfit.GONE
        if copy.rests:
            return Unfit.RESTS
        return Unfit.BARRED if copy.agent is None else _known(copy, copy.agent, message)

    def _is_for_others(self, message: Message) -> bool:
        return self._only is not None and message.crawl_name != self._only

    def of(self, message: Message) -> Crawl | None:
        """The row of a message's crawl, as it was read last."""
        copy = self._copies.get(message.crawl) if message.crawl is not None else None
        return copy.crawl if copy is not None else None

    def is_still(self, row: Crawl | None, message: Message) -> bool:
        """Whether a row is that of a message's crawl, as far as is known without asking."""
        return message.crawl is None or (self._is_fresh(COPY_SECONDS) and self.of(message) is row)

    def spent_before(self, message: Message) -> Spent:
        """What was taken of its crawl's limits before anybody was asked for a share, where that is so still."""
        copy = self._copies.get(message.crawl) if message.crawl is not None else None
        return copy.spent if copy is not None else Spent()

    def note_put_aside(self, ref: CrawlRef, _: object = None) -> None:
        """A message of a crawl was put aside: it comes back when its crawl is seen to run after this."""
        self._running.discard(ref)

    async def as_it_is(self, message: Message) -> Message:
        """A message with what its crawl's row says by now, for what was judged before. Raises
        :class:`sqspider.frontier.FrontierError`."""
        if message.crawl is None:
            return message
        await self.refresh()
        copy = self._copies.get(message.crawl)
        if copy is None or message.settings is copy.settings:
            return message
        return msgspec.structs.replace(message, settings=copy.settings)

    # Which there are.

    def named(self, name: str) -> CrawlRef | None:
        """The crawl of a name."""
        return next((ref for ref in self._copies if ref.name == name), None)

    def is_idle(self, ref: CrawlRef) -> bool:
        """Whether this worker can do nothing for a crawl: it rests, or is barred, or is not there."""
        copy = self._copies.get(ref)
        return copy is None or copy.rests or copy.agent is None

    @property
    def idle(self) -> list[CrawlRef]:
        """Those for which this worker can do nothing."""
        return [ref for ref in self._copies if self.is_idle(ref)]

    @property
    def barred(self) -> dict[str, str]:
        """Those that this worker's start does not let it work on, by name, and why; so many of them."""
        barred = [
            copy for copy in self._copies.values() if copy.agent is None and self._only in (None, copy.crawl.name)
        ]
        return {copy.crawl.name: redact(copy.why)[:MOST_WORDS] for copy in barred[:MOST_BARRED]}

    # Copies.

    def _is_fresh(self, within: float) -> bool:
        return 0 <= self._clock() - self._read_at < within  # less than none: the clock was put back

    async def refresh(self, within: float = COPY_SECONDS) -> None:
        """Read the rows, unless they were read within so many seconds. Raises
        :class:`sqspider.frontier.FrontierError`."""
        if self._is_fresh(within):
            return
        asked_at = self._clock()
        async with self._reading:
            if self._read_at >= asked_at:  # by somebody else, meanwhile
                return
            began_at = self._clock()
            rows = await self._frontier.crawls()
            largest = await self._largest_delay(rows)
            spent = await begin_to_count(self._frontier, [row for row in rows if row.state is State.RUNNING])
            copies = {
                row.ref: await self._copied(row, max(row.settings.delay_seconds, largest), spent.get(row.ref, Spent()))
                for row in rows
            }
            before, self._copies, self._read_at = self._copies, copies, began_at
            self._note_shorter_delays(before)
            await self._bring_back()
            await self._hasten()

    async def _copied(self, row: Crawl, delay: float, spent: Spent) -> _Copy:
        if row.unreadable:
            await self._tell(row, f"its row cannot be read: {row.unreadable}", its_urls=BARRED_WORDS)
            return _Copy(row, row.settings, None, row.unreadable)
        before = self._copies.get(row.ref)
        limit = await self._limit_reached(row, spent)
        if before is not None and before.crawl == row and before.agent is not None:
            settings = before.settings
            if settings.delay_seconds != delay:
                settings = msgspec.structs.replace(row.settings, delay_seconds=delay)
            return before._replace(settings=settings, limit=limit, spent=spent)
        settings = msgspec.structs.replace(row.settings, delay_seconds=delay, seed=None)
        is_bounded = has_budget(settings) or row.limits.are_counted
        try:
            return _Copy(row, settings, self._agents.agent_of(row.identity), "", limit, spent, is_bounded)
        except NotAllowedError as error:
            await self._tell(row, str(error), its_urls=BARRED_WORDS)
            return _Copy(row, settings, None, str(error), limit)

    async def _tell(self, row: Crawl, why: str, **more: str) -> None:
        """Say once why a crawl waits, if anything of it does."""
        if self._told.get(row.ref) != why and self._only in (None, row.name) and await self._is_at_work(row.ref):
            self._told[row.ref] = why
            log.warning("crawl_waits", crawl=row.name, why=why, **more)

    async def _bring_back(self) -> None:
        """What was put aside of crawls that are seen to run: by whoever did so before its copy said that."""
        running = {ref for ref, copy in self._copies.items() if not (copy.rests or copy.crawl.unreadable)}
        self._running &= running
        for ref in running - self._running:
            self._running.add(ref)  # first: what is put aside meanwhile may be missed
            if not self._copies[ref].crawl.may_have_rested:
                continue
            try:
                await self._frontier.unpark(ref)
            except BaseException:
                self._running.discard(ref)
                raise

    def _note_gone(self, ref: CrawlRef) -> None:
        if len(self._gone) >= MOST_UNKNOWN:
            self._gone.clear()
        self._gone[ref] = None
        log.warning("unknown_crawl", crawl=str(ref), its_messages="are deleted")

    # Limits.

    async def _limit_reached(self, row: Crawl, spent: Spent) -> str:
        """Which of its limits a crawl that runs has reached; empty: none."""
        if row.state is not State.RUNNING:
            return ""
        reached = await limit_reached(self._frontier, row, spent, self._clock())
        if reached is None:
            return ""
        await self._tell(row, reached.told_of(row.name))
        return reached.says

    # Delays.

    async def _largest_delay(self, rows: Sequence[Crawl]) -> float:
        """The largest delay of the crawls at work: it holds for all of them, for they may ask the same hosts. Of others
        it is not asked whether they are at work: what they ask for is no more."""
        running = {
            row.ref: row.settings.delay_seconds for row in rows if row.state is State.RUNNING and not row.unreadable
        }
        least = min(running.values(), default=0.0)
        for ref, delay in sorted(running.items(), key=itemgetter(1), reverse=True):
            if delay == least or await self._is_at_work(ref):
                return delay
        return 0.0

    def _note_shorter_delays(self, before: Mapping[CrawlRef, _Copy]) -> None:
        fallen = [
            copy.settings
            for ref, copy in self._copies.items()
            if ref in before and copy.settings.delay_seconds < before[ref].settings.delay_seconds
        ]
        known = [] if self._shorter is None else [self._shorter]
        self._shorter = min(known + fallen, key=attrgetter("delay_seconds"), default=None)

    async def _hasten(self) -> None:
        """Where delays are shorter than in copies of before they hold at once, for what waits too."""
        if self._shorter is not None:
            await self._politeness.take_back_slots(self._shorter)
            self._shorter = None

    async def _is_at_work(self, ref: CrawlRef) -> bool:
        looked_at, is_at_work = self._at_work.get(ref, (-_AT_WORK_SECONDS, False))
        now = self._clock()
        if not 0 <= now - looked_at < _AT_WORK_SECONDS:
            is_at_work = (await self._frontier.counts(crawl=ref.name, roughly=True)).open > 0
            self._at_work[ref] = now, is_at_work
        return is_at_work


def others_wait(number: int) -> float:
    """For how many seconds a message of others is put off, after so many of them: where there are many, looking at them
    again and again would leave no time for a worker's own."""
    least, most = OTHERS_SECONDS
    return min(max(least, number * _SECONDS_FOR_EACH), most)


def _known(copy: _Copy, agent: Agent, message: Message) -> Known:
    if message.settings is not copy.settings:
        message = msgspec.structs.replace(message, settings=copy.settings)
    return Known(message, agent, copy.is_bounded)
