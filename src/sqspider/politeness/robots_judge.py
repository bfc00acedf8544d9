"""What robots.txt says of a URL, and who waits here for one that is asked for.

One task asks for an origin's file, for all who wait; how is in ``robots_fetch``.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import Final

from sqspider.frontier import Clock, FrontierError, Hosts
from sqspider.host import RobotsAccess
from sqspider.log import get_logger
from sqspider.message import Message
from sqspider.politeness.agent import Agent, origin_in
from sqspider.politeness.memory import Memory
from sqspider.politeness.robots_fetch import KnownRules, RobotsFiles, Wanted
from sqspider.politeness.turns import SOON_SECONDS
from sqspider.politeness.verdicts import Awaited, Postponed
from sqspider.record import Reason
from sqspider.scope import Blocked

CACHE_SIZE: Final = 8192  # files whose rules are kept here: two kilobytes each, where they are short,
CACHE_BYTES: Final = 4 * 1024 * 1024  # and of so many bytes: rules take about eight times as much

log = get_logger(__name__)


class RulesCache:
    """The rules of the places asked for last (origins, for most who ask), bounded by their number and by the size of
    their files."""

    def __init__(self, frontier: Hosts) -> None:
        self._frontier = frontier
        self._generation = frontier.generation
        self._kept: OrderedDict[str, KnownRules] = OrderedDict()
        self._size = 0

    def get(self, place: str, now: float) -> KnownRules | None:
        """Those that hold at a moment."""
        known = self.peek(place, now)
        if known is not None:
            self._kept.move_to_end(place)
        return known

    def peek(self, place: str, now: float) -> KnownRules | None:
        """As :meth:`get`, amid a turn, which may come to nothing: nothing changes."""
        known = self._kept.get(place) if self._generation == self._frontier.generation else None
        return known if known is not None and known.row.expires_at > now else None

    def put(self, known: KnownRules) -> None:
        if self._generation != self._frontier.generation:  # what was kept was cleared away
            self._generation = self._frontier.generation
            self._kept.clear()
            self._size = 0
        old = self._kept.pop(known.row.origin, None)
        self._kept[known.row.origin] = known
        self._size += known.size - (old.size if old else 0)
        while len(self._kept) > CACHE_SIZE or (self._size > CACHE_BYTES and len(self._kept) > 1):
            _, dropped = self._kept.popitem(last=False)
            self._size -= dropped.size


def ruled(
    known: KnownRules, url: str, product_token: str, *, now: float, grace_seconds: float
) -> Blocked | float | None:
    """What a robots.txt that is known says of a URL: none that it may be fetched; a moment, that nobody can tell
    before."""
    row = known.row
    if row.access is RobotsAccess.ALLOW_ALL:
        return None
    if row.access is RobotsAccess.UNREACHABLE:
        if row.trouble is not None:
            return Blocked(row.trouble, f"robots.txt of {origin_in(row.origin)}: {row.detail}")
        if now - (row.unreachable_since or now) < grace_seconds:
            return max(row.expires_at, now + SOON_SECONDS)
        if row.good_at is None:
            return Blocked(Reason.ROBOTS_UNREACHABLE, f"robots.txt of {origin_in(row.origin)}: {row.detail}")
    verdict = known.rules.verdict(url, product_token)
    if verdict.allowed:
        return None
    return Blocked(Reason.ROBOTS, f"robots.txt line {verdict.line}: {verdict.rule}")


class Robots:
    """Judges URLs by their origins' rules. ``grace_seconds``: how long is waited for a file that cannot be had;
    ``at_a_time``: files that are asked for, so that servers which say nothing leave connections for pages."""

    def __init__(
        self, frontier: Hosts, files: RobotsFiles, *, clock: Clock, grace_seconds: float, at_a_time: int
    ) -> None:
        self._files = files
        self._clock = clock
        self._grace_seconds = grace_seconds
        self._places = asyncio.Semaphore(at_a_time)
        self._rules = RulesCache(frontier)
        self._again_at: Memory[str, float] = Memory(frontier)  # places whose file could not be had just now
        self._waiting: dict[str, list[asyncio.Future[None]]] = {}  # for a file that is asked for
        self._tasks: set[asyncio.Task[None]] = set()

    def judge(self, message: Message, agent: Agent) -> Blocked | Postponed | Awaited | None:
        """Whether a URL may be fetched by its robots.txt; asks for that where it is not known here."""
        place, now = agent.place_of(message.url), self._clock()
        known = self._rules.get(place, now)
        if known is None:
            again_at = self._again_at.get(place) or 0.0
            if again_at <= now:
                return Awaited(self._wait_for(Wanted(place, message.settings, agent, message.crawl_name)))
            return Postponed(max(now + SOON_SECONDS, again_at), message)
        verdict = ruled(known, message.url, agent.product_token, now=now, grace_seconds=self._grace_seconds)
        return Postponed(verdict, message) if isinstance(verdict, float) else verdict

    def is_known(self, url: str, agent: Agent) -> bool:
        """Whether the rules for a URL are here, whatever they say. It reads only: amid a turn."""
        return self._rules.peek(agent.place_of(url), self._clock()) is not None

    def is_known_to_allow(self, url: str, agent: Agent) -> bool:
        """Whether the rules are here and allow a URL. It reads only: amid a turn."""
        known = self._rules.peek(agent.place_of(url), self._clock())
        if known is None or known.row.access is RobotsAccess.UNREACHABLE:
            return False
        if known.row.access is RobotsAccess.ALLOW_ALL:
            return True
        return known.rules.verdict(url, agent.product_token).allowed

    def sitemaps_of(self, place: str) -> tuple[str, ...]:
        """What the ``Sitemap`` lines of a place's file say; nothing while it is not known here."""
        known = self._rules.get(place, self._clock())
        return known.rules.sitemaps() if known is not None else ()

    async def close(self, *, at_once: bool) -> None:
        """Wait for what is asked for, or leave it ``at_once``: its lease ends soon."""
        tasks = set(self._tasks)
        try:
            if tasks and not at_once:
                await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await self._files.close()

    def _wait_for(self, wanted: Wanted) -> asyncio.Future[None]:
        """A future of the asker's own, done when the place's file is known, or known not to be had now."""
        place = wanted.place
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if place in self._waiting:
            self._waiting[place].append(future)
        else:
            self._waiting[place] = [future]
            task = asyncio.create_task(self._get(wanted))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return future

    async def _get(self, wanted: Wanted) -> None:
        """Ask for a place's file; whoever waits is told, of what went wrong too."""
        place = wanted.place
        error: Exception | None = None
        try:
            async with self._places:
                found = await self._files.get(wanted)
            if isinstance(found, float):
                self._again_at.put(place, found)
            else:
                self._rules.put(found)
        except asyncio.CancelledError:
            for future in self._waiting.pop(place):
                future.cancel()
            raise
        except Exception as caught:  # noqa: BLE001 - handed on to everybody who waits
            error = caught
        waiting = [future for future in self._waiting.pop(place) if not future.done()]
        for future in waiting:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
        if error is not None and not waiting:
            _tell_of_what_nobody_waits_for(origin_in(place), error)


def _tell_of_what_nobody_waits_for(origin: str, error: Exception) -> None:
    """What ails the frontier is met again by whoever asks it next; all else is a mistake of ours."""
    if isinstance(error, FrontierError):
        log.warning("robots_lost", origin=origin, error=str(error))
    else:
        log.error("internal_error", origin=origin, exc_info=error)
