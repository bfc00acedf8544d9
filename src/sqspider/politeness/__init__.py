"""Whether and when a host may be asked for something: orders, robots.txt, slots, trouble.

Three verbs, for pages, sitemaps and robots.txt alike: :meth:`Politeness.judge` (may it be fetched at all?),
:meth:`Politeness.turn` (when?), :meth:`Politeness.fetch` (now: enter the host, begin, fetch, leave, learn). None of
them waits for a slot or for robots.txt: they say what is to be waited for, and whoever asks does so in his own way.

What is shared by all workers lies in the frontier: host rows, requests under way, robots.txt. What
is kept here is a copy for seconds, and may be lost at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import Mapping
from typing import Final, overload

from sqspider import host_trouble
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Clock, Hosts
from sqspider.host import HostRow, Passage, delay_for
from sqspider.host_trouble import PATIENCE, Patience, Stage
from sqspider.message import Message
from sqspider.politeness.agent import Agent as Agent
from sqspider.politeness.entering import BEGIN_SECONDS as BEGIN_SECONDS
from sqspider.politeness.entering import PROBE_POLL_SECONDS as PROBE_POLL_SECONDS
from sqspider.politeness.entering import PROMPT_SECONDS as PROMPT_SECONDS
from sqspider.politeness.entering import Leave, PermissionLapsedError, Permissions, SendGate
from sqspider.politeness.entering import Permission as Permission
from sqspider.politeness.hops import MAX_HOPS as MAX_HOPS
from sqspider.politeness.hops import Hop as Hop
from sqspider.politeness.hosts import HostRows
from sqspider.politeness.learning import Learning
from sqspider.politeness.network import Network
from sqspider.politeness.robots_fetch import Note, RobotsFiles, RobotsLimits
from sqspider.politeness.robots_judge import Robots
from sqspider.politeness.turns import NEAR_SECONDS as NEAR_SECONDS
from sqspider.politeness.turns import SOON_SECONDS as SOON_SECONDS
from sqspider.politeness.turns import Turns
from sqspider.politeness.verdicts import Asked as Asked
from sqspider.politeness.verdicts import Awaited as Awaited
from sqspider.politeness.verdicts import Begin as Begin
from sqspider.politeness.verdicts import Busy as Busy
from sqspider.politeness.verdicts import Form as Form
from sqspider.politeness.verdicts import Learned as Learned
from sqspider.politeness.verdicts import Postponed as Postponed
from sqspider.politeness.verdicts import Request as Request
from sqspider.politeness.verdicts import Then as Then
from sqspider.politeness.verdicts import Turn as Turn
from sqspider.politeness.verdicts import broken_off
from sqspider.politeness.verdicts import given_up as given_up
from sqspider.record import Reason
from sqspider.scope import Blocked, trap_in
from sqspider.url import host_of
from sqspider.web.fetch import AnyFetcher, BeforeLarge, Fetched

PAUSE_SECONDS: Final = 60.0  # before a URL of a paused host is looked at again
ROBOTS_AT_A_TIME: Final = 16


class Politeness:
    """The keeper of all hosts for one worker.

    ``stopping`` ends every wait early. Who asks is said with each question; nobody: the worker itself, by its
    ``fetcher``; ``request_seconds`` bounds one request; ``robots_grace_seconds`` is how
    long a host whose robots.txt cannot be had is waited for, ``patience`` how long one that is in trouble;
    ``robots_at_a_time`` is how many files of that name are asked for; ``leave`` tells the frontier along with
    other things that a request is over; ``note`` keeps the answers for those files.
    """

    def __init__(
        self,
        frontier: Hosts,
        fetcher: AnyFetcher,
        *,
        clock: Clock,
        rng: random.Random,
        stopping: asyncio.Event,
        request_seconds: float,
        robots_grace_seconds: float,
        linger_seconds: float,
        patience: Patience = PATIENCE,
        robots_at_a_time: int = ROBOTS_AT_A_TIME,
        leave: Leave | None = None,
        note: Note | None = None,
    ) -> None:
        self.network = Network()  # by the worker's own way
        self.own = Agent.of(fetcher, self.network)
        self._clock = clock
        self._stopping = stopping
        self._request_seconds = request_seconds
        self._linger_seconds = linger_seconds
        self._rows = HostRows(frontier, clock)
        self._turns = Turns(frontier, self._rows, clock=clock, linger_seconds=linger_seconds)
        self._permissions = Permissions(
            frontier, self._rows, self.own, clock=clock, rng=rng, pause_until=self.pause_until,
            request_seconds=request_seconds, linger_seconds=linger_seconds, leave=leave,
        )  # fmt: skip
        self._learning = Learning(
            frontier, self._rows, self.own, self._permissions, clock=clock, rng=rng, patience=patience
        )
        files = RobotsFiles(
            frontier, self._rows, clock=clock, fetch=self.fetch, pause_until=self.pause_until,
            limits=RobotsLimits(robots_grace_seconds, patience.new_host_seconds), linger_seconds=linger_seconds,
            note=note,
        )  # fmt: skip
        self._robots = Robots(
            frontier, files, clock=clock, grace_seconds=robots_grace_seconds, at_a_time=robots_at_a_time
        )

    async def close(self) -> None:
        """Wait for what is under way to the frontier. What is asked for robots.txt is waited for if the worker was told
        to stop: it ends within the limit of a fetch. Otherwise it is left at once. It may be used on."""
        await self._robots.close(at_once=not self._stopping.is_set())
        for part in (self._rows, self._turns, self._permissions):
            await part.close()

    # May it be fetched at all?

    async def judge(
        self, message: Message, agent: Agent | None = None, *, is_page: bool = True
    ) -> Blocked | Postponed | Awaited | None:
        """Whether a URL may be fetched; ``None`` is yes.

        Where its robots.txt is asked for here it is to be judged again when that is known. A sitemap is no page: it
        has no slot and is in no trap, and what does not last is said by :meth:`fetch`.
        """
        row = await self._row_of(message)
        if row.is_blocked:
            return Blocked(Reason.HOST_BLOCKED, f"{row.host} is blocked by the operator")
        if is_page and (verdict := await self._judge_page(message, row)) is not None:
            return verdict
        if host_trouble.stage_of(row, self._clock()) is Stage.GIVEN_UP:
            return given_up(row)
        by_robots = self._robots.judge(message, agent or self.own) if message.settings.obey_robots else None
        if not is_page:
            return by_robots
        if isinstance(by_robots, Postponed):  # what kept us from robots.txt may rest the host
            return await self._judge_rest(message, await self._rows.row(row.host)) or by_robots
        return by_robots

    async def _row_of(self, message: Message) -> HostRow:
        near = self._clock() + NEAR_SECONDS
        is_early = message.slot is not None and message.slot > near
        return await self._rows.row_but_if(
            lambda row: is_early or row.is_blocked or row.is_paused or row.rest_until > near, host_of(message.url)
        )

    async def _judge_page(self, message: Message, row: HostRow) -> Blocked | Postponed | None:
        if trap := trap_in(message.url, message.settings):
            return trap
        if row.is_paused:
            return Postponed(self._clock() + PAUSE_SECONDS, message)
        return await self._judge_rest(message, row)

    async def _judge_rest(self, message: Message, row: HostRow) -> Blocked | Postponed | None:
        """What becomes of a URL whose host rests: it gets a slot after the rest, so that not all come at once."""
        if row.rest_until <= self._clock() + NEAR_SECONDS:
            return None
        turn = await self.turn(message)
        return None if isinstance(turn, Turn) else turn

    def is_free(self, message: Message, agent: Agent | None = None) -> bool:
        """Whether a URL may be asked for at once, as far as is known here. It reads only: amid a turn."""
        settings, agent = message.settings, agent or self.own
        row = self._rows.copy_of(host_of(message.url))
        if row is None or agent.network.is_down:
            return False
        if row.is_paused or row.is_blocked or row.rest_until > self._clock() or delay_for(row, settings) > 0:
            return False
        return not settings.obey_robots or self._robots.is_known(message.url, agent)

    def passage(self, message: Message, row: HostRow, agent: Agent | None = None) -> Passage | None:
        """With what a URL's host may be entered as soon as its turn comes, by the host's row as it is; none: it has no
        turns, or there is more to be asked first. It reads only: amid a turn."""
        settings, now, agent = message.settings, self._clock(), agent or self.own
        row = host_trouble.as_of(row, now)
        if agent.network.is_down or settings.per_host > 1:
            return None
        if row.is_paused or row.is_blocked or row.rests or row.rest_until > now:
            return None
        if settings.obey_robots and not self._robots.is_known_to_allow(message.url, agent):
            return None
        return self._turns.passage(row, settings, now + BEGIN_SECONDS + self._request_seconds)

    def permitted(self, host: str, token: str, asked_at: float) -> Permission:
        """The permission by which a host was entered so: for :meth:`fetch`, or to :meth:`forgo` it."""
        return self._permissions.permitted(host, token, asked_at)

    def forgo(self, permission: Permission) -> None:
        """Nothing is asked by it."""
        self._permissions.leave_along(permission, requested_at=permission.asked_at)

    # When?

    async def turn(
        self, message: Message, not_before: float = 0.0, *, is_crowded: bool = False
    ) -> Turn | Postponed | Blocked:
        """When the URL's host may be asked; the message comes back with its slot. Blocked: its host was given up.

        A slot that the message carries is used if it is of the host's generation and not long past; otherwise one is
        reserved. What is further away than :data:`NEAR_SECONDS` is put off; ``is_crowded``: so is what is further away
        than :data:`SOON_SECONDS`, for others wait here already. ``not_before`` is the ``again_at`` of a :class:`Busy`
        that came before.
        """
        return await self._turns.turn(message, not_before, is_crowded=is_crowded)

    async def take_back_slots(self, settings: CrawlSettings) -> None:
        """A crawl's delay is shorter by now: what waits for slots that were handed out before by this worker comes back
        at once. (For those of other workers the first of a host's URLs that comes back does the same, where they are
        far.) Raises :class:`sqspider.frontier.FrontierError`."""
        await self._turns.take_back_for(settings)

    async def pause_until(self, moment: float) -> bool:
        """Wait until a moment; True if the worker began to stop meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, moment - self._clock())):
                await self._stopping.wait()
        return self._stopping.is_set()

    # Now.

    @overload
    async def fetch(
        self, request: Request, *, begin: None = None, before_large: BeforeLarge | None = None
    ) -> Asked | Busy: ...

    @overload
    async def fetch(
        self,
        request: Request,
        *,
        begin: Begin,
        before_large: BeforeLarge | None = None,
        permission: Permission | None = None,
        then: Then | None = None,
    ) -> Asked | Busy | None: ...

    async def fetch(
        self,
        request: Request,
        *,
        begin: Begin | None = None,
        before_large: BeforeLarge | None = None,
        permission: Permission | None = None,
        then: Then | None = None,
    ) -> Asked | Busy | None:
        """Make one request, if its host may be asked now: enter it, if there is no ``permission`` yet, begin, fetch,
        leave it, learn from what came. ``then`` is told as soon as the request is over.

        Busy: nothing was asked; what ``begin`` has claimed is to be given back unused. None: ``begin`` said so.
        """
        is_alone_to_leave = permission is None  # else what is ended next goes along with that
        if permission is None:
            entered = await self._permissions.enter(request)
        else:
            entered = await self._permissions.take_up(permission, request)
        if isinstance(entered, Busy):
            return entered
        permission = entered
        held: Permission | None = permission
        requested_at: float | None = permission.asked_at  # as long as nothing was asked
        began_at: float | None = None
        try:
            begins_by = math.inf if begin is None else await begin()
            if begins_by is None:
                return None
            if await self._permissions.is_stopped(permission, request):
                return Busy(self._clock(), is_stopped=True)
            if self._permissions.is_late(permission, request):  # last: all the above takes time
                held = None
                anew = await self._permissions.renew(permission, request)
                if isinstance(anew, Busy):
                    return anew
                permission = held = anew
                requested_at = permission.asked_at
            started_at = self._clock()
            if started_at > begins_by:  # an answer came late, or we slept
                return Busy(started_at)
            requested_at, began_at = None, started_at
            # The connection may take so long that the lease, or the permission, would not cover the rest.
            latest = min(begins_by, permission.sends_by)
            fetched = await self._ask(request, permission, SendGate(self._clock, latest), before_large)
            if fetched.is_held:
                requested_at, began_at = permission.asked_at, None
                return Busy(self._clock())
            requested_at = started_at + fetched.sent_seconds
            if then is not None:  # what is asked of the frontier is gathered first: so much sooner
                then(requested_at + permission.delay_seconds - self._linger_seconds - self._clock())
        finally:
            if held is not None and is_alone_to_leave:
                await self._permissions.leave(held, requested_at=requested_at, began_at=began_at)
            elif held is not None:
                self._permissions.leave_along(held, requested_at=requested_at, began_at=began_at)
        learned = await self._learning.learn(request, permission, fetched)
        return Asked(fetched, learned, permission.asked_at, requested_at)

    async def _ask(
        self, request: Request, permission: Permission, gate: SendGate, before_large: BeforeLarge | None
    ) -> Fetched:
        """Fetch, for as long as the permission lasts. What was written by its end was asked, whatever came of it."""
        started_at = self._clock()
        try:
            async with self._permissions.lasting(permission, request):
                return await (request.agent or self.own).fetch(
                    request.url,
                    before_large=before_large,
                    max_bytes=request.max_bytes,
                    sink=request.sink,
                    gate=gate,
                    **request.formed()._asdict(),
                )
        except PermissionLapsedError:
            return broken_off(request.url, started_at, gate.passed_at, self._clock())

    # What is known here.

    def look_anew(self) -> None:
        """Forget the copies of host rows: it may be long since they were read."""
        self._rows.forget_all()

    def note_rows(self, rows: Mapping[str, HostRow], read_at: float) -> None:
        """Take host rows that were read for another purpose, as by a turn of the frontier. ``read_at``: a moment before
        they were; an order that was given until then is in them."""
        self._rows.note(rows, read_at)

    def sitemaps_of(self, origin: str, agent: Agent | None = None) -> tuple[str, ...]:
        """What the ``Sitemap`` lines of an origin's robots.txt say; nothing while it is not known here."""
        return self._robots.sitemaps_of((agent or self.own).place_of(f"{origin}/"))
