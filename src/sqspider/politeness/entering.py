"""Whether a host may be asked now: the permission for one request, asked for at the frontier, and how long it is good.

A permission keeps others away from the moment it was asked for; so a request begins soon after that, or by another one.
Orders hold at once: entering the host looks, and what lies further back than a moment is looked at again.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from sqspider import host
from sqspider.frontier import Clock, Entered, Entrance, Exit, FrontierError, Hosts
from sqspider.frontier.batcher import Batcher
from sqspider.host import HostRow
from sqspider.log import get_logger
from sqspider.politeness.agent import Agent
from sqspider.politeness.hosts import HostRows
from sqspider.politeness.network import Network
from sqspider.politeness.turns import SOON_SECONDS
from sqspider.politeness.verdicts import Busy, Request
from sqspider.url import host_of

PROMPT_SECONDS: Final = 0.05
"""After its permission was asked for a request is made, where another may be under way; and what was known of its
host so long ago is known well enough: an order holds within that."""
BEGIN_SECONDS: Final = 2.0  # the same where no other may be under way
PROBE_POLL_SECONDS: Final = 0.5  # between two looks whether anything can be asked, or more at a time
PROLONG_SECONDS: Final = 0.5  # before it lapses a permission is prolonged, at the latest
_AGAIN_SECONDS: Final = 0.01  # between two tries to enter, at least


Leave = Callable[[Exit], asyncio.Future[None]]
"""Tells the frontier that a request is over."""

log = get_logger(__name__)


class PermissionLapsedError(Exception):
    """A request took longer than its permission, which could not be prolonged."""


class Permission(NamedTuple):
    """The permission to make one request to a host now."""

    host: str
    token: str | None  # none: the host has no delay, nothing is to be noted
    asked_at: float  # when it was asked for: before the frontier's answer
    probes: Network | None = None  # whether anything can be asked at all by its way is found out by it
    good_for: float = BEGIN_SECONDS  # seconds after that in which the request may begin
    lapses_at: float = math.inf  # see ``Admission.lapses_at``
    sends_by: float = math.inf  # so the request leaves by then, or is prolonged
    delay_seconds: float = 0.0  # that it was asked for with


class SendGate:
    """The last word before a request is written: whether it still may be; and when it was let through."""

    def __init__(self, clock: Clock, latest: float) -> None:
        self.passed_at: float | None = None
        self._clock = clock
        self._latest = latest

    def __call__(self) -> bool:
        now = self._clock()
        if now > self._latest:
            return False
        self.passed_at = now
        return True


class Permissions:
    """Enters hosts for requests, and leaves them: by ``leave``, if the frontier is told more along with that.
    ``request_seconds`` bounds one request; ``pause_until`` waits for a moment, and says whether the worker began to
    stop meanwhile."""

    def __init__(
        self,
        frontier: Hosts,
        rows: HostRows,
        own: Agent,
        *,
        clock: Clock,
        rng: random.Random,
        pause_until: Callable[[float], Awaitable[bool]],
        request_seconds: float,
        linger_seconds: float,
        leave: Leave | None = None,
    ) -> None:
        self.under_way = 0  # requests of ours
        self._frontier = frontier
        self._rows = rows
        self._own = own
        self._clock = clock
        self._rng = rng
        self._pause_until = pause_until
        self._request_seconds = request_seconds
        self._promptness = PROMPT_SECONDS  # how old one may be; more where asking for one takes longer
        self._enter = Batcher(frontier.enter, size=25, linger_seconds=linger_seconds)
        self._prolonging: set[asyncio.Task[None]] = set()
        self._leave = Batcher(self._leave_hosts, size=25, linger_seconds=linger_seconds)
        self._leave_along = leave or self._leave.put

    async def enter(self, request: Request) -> Permission | Busy:
        """Ask to make a request at this moment; one that is alone waits for it as :meth:`enter_soon` does."""
        if request.generation is None and (busy := await self._stands_against(request)):
            return busy
        return await (self.enter_soon(request) if request.is_alone else self._enter_now(request))

    async def enter_soon(self, request: Request) -> Permission | Busy:
        """Wait for a permission, if it can be had within :data:`BEGIN_SECONDS`."""
        give_up_at = self._clock() + BEGIN_SECONDS
        while True:
            answer = await self._enter_now(request)
            if isinstance(answer, Permission) and not self.is_late(answer, request):
                return answer
            if isinstance(answer, Permission):
                await self.leave(answer, requested_at=answer.asked_at)
                again_at = self._clock()
            elif answer.is_void or answer.is_stopped:
                return answer
            else:
                again_at = answer.again_at
            if again_at > give_up_at or await self._pause_until(max(again_at, self._clock() + _AGAIN_SECONDS)):
                return Busy(again_at)

    async def renew(self, permission: Permission, request: Request) -> Permission | Busy:
        """Another permission in place of one that is late, if it can be had within :data:`BEGIN_SECONDS`."""
        await self.leave(permission, requested_at=permission.asked_at)
        return await self.enter_soon(request)

    async def is_stopped(self, permission: Permission, request: Request) -> bool:
        """Whether an order stands against a request that is just about to begin, or its host is to be entered now.

        Entering looks, and its answer holds for a moment. Where that is past, or there was no delay and so
        nothing to enter, the host's row says so, as it was within the same moment.
        """
        if permission.token is not None and 0 <= self._clock() - permission.asked_at <= PROMPT_SECONDS:
            return False
        row = await self._rows.row(permission.host, within=PROMPT_SECONDS)
        if permission.token is None and (host.delay_for(row, request.settings) > 0 or row.rest_until > self._clock()):
            return True
        return row.is_paused or row.is_blocked

    def is_late(self, permission: Permission, request: Request) -> bool:
        """Whether it is too old to begin a request by: what it has kept away may have been let in meanwhile.

        With several requests at a time their distance is kept from the moment of the permission on; where there is
        one at a time, until its latest end. Where the frontier itself takes longer to answer than that, permissions
        are asked for that are good for longer, and keep others away for as much longer: so some is prompt enough.
        """
        if permission.token is None:
            return False
        age = self._clock() - permission.asked_at
        is_late = age > permission.good_for or self._clock() > permission.sends_by
        if request.settings.per_host == 1:
            return is_late
        self._promptness = min(2 * age, BEGIN_SECONDS) if is_late else max(0.9 * self._promptness, PROMPT_SECONDS)
        return is_late

    async def leave(self, permission: Permission, *, requested_at: float | None, began_at: float | None = None) -> None:
        """Say that the request is over. ``requested_at``: when it had left; none: by now. ``began_at``: when it was
        begun; none: it was not."""
        if (end := self._end(permission, requested_at, began_at)) is not None:
            await self._leave(end)

    def permitted(self, name: str, token: str, asked_at: float) -> Permission:
        """The permission by which a host was entered along with what else was asked of the frontier."""
        self.under_way += 1
        return Permission(name, token, asked_at)

    async def take_up(self, permission: Permission, request: Request) -> Permission | Busy:
        """Such a permission, if our own network lets anything out by now. While it is down one request at a time
        probes, and enters for itself."""
        network = self._network_of(request)
        if not network.is_down:
            return permission
        await self.leave(permission, requested_at=permission.asked_at)
        return Busy(max(network.turn_of(permission.host), self._clock() + PROBE_POLL_SECONDS))

    def leave_along(self, permission: Permission, *, requested_at: float | None, began_at: float | None = None) -> None:
        """As :meth:`leave`, along with what is told to the frontier next: nobody waits for that. What is lost ends with
        the time of the request."""
        if (end := self._end(permission, requested_at, began_at)) is not None:
            self._leave_along(end).add_done_callback(_tell_of_what_was_lost)

    def _end(self, permission: Permission, requested_at: float | None, began_at: float | None) -> Exit | None:
        self.under_way -= 1
        if permission.probes is not None:
            permission.probes.release()
        if permission.token is None:
            return None
        now = self._clock()
        seconds = None if began_at is None else max(0.0, now - began_at)  # our own claim before it is not the host's
        return Exit(
            host=permission.host,
            token=permission.token,
            requested_at=now if requested_at is None else requested_at,
            # What took longer than any request may is no answer time of the host's: we slept.
            latency_seconds=seconds if seconds is not None and seconds <= self._request_seconds else None,
        )

    @contextlib.asynccontextmanager
    async def lasting(self, permission: Permission, request: Request) -> AsyncIterator[None]:
        """A permission for as long as a request takes: one that lapses is prolonged before. Raises
        :class:`PermissionLapsedError` in the midst of a request for which that was not done in time."""
        if math.isinf(permission.lapses_at):
            yield
            return
        now, loop = self._clock(), asyncio.get_running_loop()
        limit = asyncio.timeout(max(0.0, permission.lapses_at - now))
        timer = loop.call_later(max(0.0, permission.sends_by - now), self._begin_to_prolong, permission, request, limit)
        try:
            async with limit:
                yield
        except TimeoutError as error:
            if limit.expired():
                raise PermissionLapsedError from error
            raise
        finally:
            timer.cancel()

    def _begin_to_prolong(self, permission: Permission, request: Request, limit: asyncio.Timeout) -> None:
        task = asyncio.get_running_loop().create_task(self._prolong(permission, request, limit))
        self._prolonging.add(task)
        task.add_done_callback(self._prolonging.discard)

    async def _prolong(self, permission: Permission, request: Request, limit: asyncio.Timeout) -> None:
        """Ask for a permission to be good until the request is over. If that fails, the request is broken off."""
        assert permission.token is not None
        now, settings = self._clock(), request.settings
        entrance = Entrance(
            host=permission.host,
            token=permission.token,
            delay_seconds=0.0,
            per_host=settings.per_host,
            generation=request.generation,
            until=now + BEGIN_SECONDS + self._request_seconds,
            heeds_lapse=True,
        )
        try:
            admission = await self._enter(entrance)
        except FrontierError as error:
            log.warning("frontier_busy", during="prolong", error=str(error))
            return
        is_over = limit.when() is None or limit.expired()
        if admission.entered is Entered.YES and not is_over:
            with contextlib.suppress(RuntimeError):  # it is over just now
                limit.reschedule(None)

    async def close(self) -> None:
        if self._prolonging:
            await asyncio.wait(self._prolonging)
        await self._enter.close()
        await self._leave.close()

    async def _stands_against(self, request: Request) -> Busy | None:
        """What keeps a request without a slot from its host, as far as is known here: no slot has been told of it."""

        def is_against(row: HostRow) -> bool:
            return row.is_paused or row.is_blocked or row.rest_until > self._clock()

        row = await self._rows.row_but_if(is_against, host_of(request.url))
        if row.is_paused or row.is_blocked:
            return Busy(self._clock() + SOON_SECONDS, is_stopped=True)
        return Busy(row.rest_until) if is_against(row) else None

    async def _enter_now(self, request: Request) -> Permission | Busy:
        """Pass our own network, if it lets anything out, then enter the host."""
        name, now = host_of(request.url), self._clock()
        network = self._network_of(request)
        if self.under_way >= self._own.network.most_at_a_time(self.under_way + 1, now):  # of this process: by any way
            return Busy(now + PROBE_POLL_SECONDS)
        if not network.may_ask(name, now):
            return Busy(max(network.turn_of(name), now + PROBE_POLL_SECONDS))
        is_probe = network.is_down
        permission: Permission | Busy | None = None
        try:
            permission = await self._enter_host(name, request)
        finally:
            if is_probe and not isinstance(permission, Permission):
                network.release()
        if isinstance(permission, Permission):
            self.under_way += 1
            return permission._replace(probes=network) if is_probe else permission
        return permission

    def _network_of(self, request: Request) -> Network:
        """By whose state a request may be made."""
        return (request.agent or self._own).network

    async def _enter_host(self, name: str, request: Request) -> Permission | Busy:
        settings = request.settings
        delay = host.delay_for(await self._rows.row(name), settings)
        now = self._clock()
        if delay == 0:
            return Permission(name, None, now)
        token = f"{self._rng.getrandbits(48):012x}"
        is_one_of_several = settings.per_host > 1
        good_for = self._promptness if is_one_of_several else BEGIN_SECONDS
        admission = await self._enter(
            Entrance(
                host=name,
                token=token,
                delay_seconds=delay,
                per_host=settings.per_host,
                generation=request.generation,
                until=now + BEGIN_SECONDS + self._request_seconds,
                begins_within=good_for - PROMPT_SECONDS if is_one_of_several else 0.0,
                heeds_lapse=not is_one_of_several,
            )
        )
        if admission.entered is Entered.YES:
            lapses_at = admission.lapses_at
            sends_by = lapses_at - max(delay, PROLONG_SECONDS)
            return Permission(name, token, now, None, good_for, lapses_at, sends_by, delay)
        if admission.entered is not Entered.BUSY:
            self._rows.forget(name)  # it is not what it was thought to be
        return Busy(
            admission.again_at,
            is_void=admission.entered is Entered.VOID,
            is_stopped=admission.entered is Entered.STOPPED,
        )

    async def _leave_hosts(self, exits: Sequence[Exit]) -> list[None]:
        await self._frontier.leave(exits)
        return [None] * len(exits)


def _tell_of_what_was_lost(left: asyncio.Future[None]) -> None:
    if not left.cancelled() and (error := left.exception()) is not None:
        log.warning("host_not_left", error=str(error))
