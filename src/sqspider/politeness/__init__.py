"""Whether and when a host may be asked for something: budgets, robots.txt, slots, trouble.

The order of work for a URL: :meth:`Politeness.judge` (may it be fetched at all?), then
:meth:`Politeness.wait_for_slot` (when?), then :meth:`Politeness.enter` (now?), the request, and
:meth:`Politeness.leave`. Far slots are a :class:`Postponed`: the delivery goes back, unclaimed.

What is shared by all workers lies in the frontier: host rows, requests under way, robots.txt. What
is kept here is a copy for seconds, and may be lost at any moment.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, NamedTuple, overload

import msgspec
import structlog

from sqspider import host as hosts
from sqspider import incident
from sqspider.bounds import Blocked, trap_in
from sqspider.crawls import CrawlSettings
from sqspider.frontier import (
    Admission,
    Clock,
    Entered,
    Entrance,
    Exit,
    Frontier,
    RobotsRow,
    SlotDemand,
)
from sqspider.frontier.batcher import Batcher
from sqspider.host import HostRow, RobotsAccess
from sqspider.incident import PATIENCE, Patience, Stage
from sqspider.message import Message
from sqspider.politeness.network import Network
from sqspider.record import Reason
from sqspider.retry import Fault, parse_retry_after, rule_for
from sqspider.url import host_of, origin_of
from sqspider.web.body import BodySink
from sqspider.web.fetch import AnyFetcher, BeforeLarge, Fetched
from sqspider.web.robots import MAX_ROBOTS_BYTES, RobotsRules, access_for

NEAR_SECONDS: Final = 5.0  # a slot that is further away sends its delivery back
SOON_SECONDS: Final = 1.0  # this much before its slot a delivery comes back
PROMPT_SECONDS: Final = 0.05  # after its permission was asked for a request is made, where another may be under way,
BEGIN_SECONDS: Final = 2.0  # and where none may be
PROBE_POLL_SECONDS: Final = 0.5  # between two looks whether anything can be asked, or more at a time
LATE_SECONDS: Final = 15.0  # a slot is good for so long after its moment; the distance is kept all the same
HOST_CACHE_SECONDS: Final = 2.0
PAUSE_SECONDS: Final = 60.0  # before a URL of a paused host is looked at again
BUDGET_WAIT_SECONDS: Final = 2.0  # while URLs in hand may yet use up a host's budget
MAX_HOPS: Final = 5  # redirects of a robots.txt or a sitemap that are followed (RFC 9309 section 2.3.1.2)
ROBOTS_KEPT_SECONDS: Final = 86_400.0  # RFC 9309 section 2.4
ROBOTS_LEASE_SECONDS: Final = 30.0
ROBOTS_POLL_SECONDS: Final = 0.25  # between two looks for what another worker fetches
ROBOTS_RETRY_SECONDS: Final = (60.0, 3600.0)  # the first and the longest wait while unreachable
ROBOTS_CACHE_SIZE: Final = 512  # files whose rules are kept here,
ROBOTS_CACHE_BYTES: Final = 4 * 1024 * 1024  # and of so many bytes: rules take about eight times as much
ROBOTS_LONG_BYTES: Final = 32 * 1024  # a file beyond this is read in a thread: it may take a quarter of a second

log = structlog.stdlib.get_logger(__name__)


class Postponed(NamedTuple):
    """Not now: look again at ``until``. ``message`` carries the slot, if one was reserved."""

    until: float
    message: Message


class Awaited(NamedTuple):
    """Somebody here is asking for its robots.txt: judge again when the future is done.

    The future is the asker's own. It brings what went wrong as an exception; who waits no longer cancels it.
    """

    future: asyncio.Future[None]


class Turn(NamedTuple):
    """When a URL may be asked for: now, or a few seconds ahead at most."""

    at: float
    message: Message  # with its slot


class Request(NamedTuple):
    """What is to be asked of a host."""

    url: str
    settings: CrawlSettings
    generation: int | None = None  # of the host row that its slot is from; none: it has no slot
    max_bytes: int | None = None  # none: as the fetcher has it
    sink: BodySink | None = None  # what takes the body as it comes
    is_robots: bool = False
    is_new_origin: bool = False  # nothing has ever answered at its scheme and port
    is_alone: bool = False  # it waits here for a permission that is near

    @classmethod
    def of(cls, message: Message, *, is_alone: bool = False) -> Request:
        """The request for the URL of a message, in its slot if it has one."""
        generation = message.generation if message.slot is not None else None
        return cls(message.url, message.settings, generation, is_alone=is_alone)


class Pass(NamedTuple):
    """The permission to make one request to a host now."""

    host: str
    token: str | None  # none: the host has no delay, nothing is to be noted
    asked_at: float  # when it was asked for: before the frontier's answer
    is_probe: bool = False  # whether anything can be asked at all is found out by it
    good_for: float = BEGIN_SECONDS  # seconds after that in which the request may begin


class Busy(NamedTuple):
    """The host cannot be asked just now."""

    again_at: float
    is_void: bool  # the slot is of an older generation
    is_stopped: bool = False  # the operator paused or blocked it: to be judged anew


class Learned(NamedTuple):
    """What a request says of its URL's tries."""

    counts: bool  # its trouble, if it met some, counts as a try
    again_at: float = 0.0  # where it does not count: when to ask again
    retry_after: float | None = None  # seconds that the host asked for


class Asked(NamedTuple):
    """A request that was made. Its permission is given back, and what it teaches of host and network is learned."""

    fetched: Fetched
    learned: Learned
    asked_at: float  # when its permission was asked for


Begin = Callable[[], Awaitable[float | None]]
"""Asked under the permission, before the request: the latest moment at which it may begin; none: it is not made."""


class Hop(NamedTuple):
    """How far the way to a robots.txt or a sitemap has come, where redirects lead there."""

    url: str  # the next one to ask for
    redirects: int = 0  # so far

    def after(self, fetched: Fetched) -> Hop | Fetched:
        """The next hop, or what the way has led to."""
        if fetched.redirect_to is None:
            return fetched
        if self.redirects < MAX_HOPS:
            return Hop(fetched.redirect_to, self.redirects + 1)
        detail = f"more than {MAX_HOPS} redirects"
        return msgspec.structs.replace(fetched, reason=Reason.TOO_MANY_REDIRECTS, detail=detail, redirect_to=None)


class _Changed(NamedTuple):
    row: HostRow
    is_changed: bool


class _CachedRules(NamedTuple):
    row: RobotsRow  # without its body
    rules: RobotsRules
    size: int  # of the body


class _Way(NamedTuple):
    """Where the way to a robots.txt has ended."""

    fetched: Fetched
    is_redirected: bool
    again_at: float | None = None  # it met trouble that is the host's, or ours: when to ask again


class _RulesCache:
    """The rules of the origins asked for last, bounded by their number and by the size of their files."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, _CachedRules] = OrderedDict()
        self._size = 0

    def get(self, origin: str) -> _CachedRules | None:
        known = self._kept.get(origin)
        if known is not None:
            self._kept.move_to_end(origin)
        return known

    def is_known(self, origin: str, now: float) -> bool:
        """Whether its rules are here and hold. Any thread may ask."""
        known = self._kept.get(origin)
        return known is not None and known.row.expires_at > now

    def put(self, known: _CachedRules) -> None:
        old = self._kept.pop(known.row.origin, None)
        self._kept[known.row.origin] = known
        self._size += known.size - (old.size if old else 0)
        while len(self._kept) > ROBOTS_CACHE_SIZE or (self._size > ROBOTS_CACHE_BYTES and len(self._kept) > 1):
            _, dropped = self._kept.popitem(last=False)
            self._size -= dropped.size


class Politeness:
    """The keeper of all hosts for one worker.

    ``stopping`` ends every wait early. robots.txt groups are looked up by the product token of the
    fetcher's user agent; ``request_seconds`` bounds one request; ``robots_grace_seconds`` is how
    long a host whose robots.txt cannot be had is waited for, ``patience`` how long one that is in trouble.
    """

    def __init__(
        self,
        frontier: Frontier,
        fetcher: AnyFetcher,
        *,
        clock: Clock,
        rng: random.Random,
        stopping: asyncio.Event,
        request_seconds: float,
        robots_grace_seconds: float,
        linger_seconds: float,
        patience: Patience = PATIENCE,
    ) -> None:
        self.network = Network()
        self._frontier = frontier
        self._fetcher = fetcher
        self._clock = clock
        self._rng = rng
        self._stopping = stopping
        self._product_token = fetcher.options.product_token
        self._request_seconds = request_seconds
        self._robots_grace_seconds = robots_grace_seconds
        self._patience = patience
        self._answered: set[str] = set()  # hosts that have, beside those whose rows say so
        self._under_way = 0  # requests of ours
        self._promptness = PROMPT_SECONDS  # how old a permission may be; more where asking for one takes longer
        self._generation = frontier.generation  # of what is remembered here
        self._rows: dict[str, tuple[HostRow, float]] = {}
        self._rules = _RulesCache()
        self._asking_robots: dict[str, list[asyncio.Future[None]]] = {}  # by origin, who waits for it
        self._robots_tasks: set[asyncio.Task[None]] = set()
        self._robots_again_at: dict[str, float] = {}  # origins whose robots.txt could not be had just now
        self._robots_hops: dict[str, Hop] = {}  # and where the way to it was broken off
        self._slots_stay_until: dict[str, float] = {}  # of hosts whose slots were taken back just now
        self._in_hand: Counter[str] = Counter()  # URLs here that will count towards a budget
        self._budget_lock = asyncio.Lock()
        self._read_host = Batcher(self._read_hosts, size=100)
        self._reserve = Batcher(self._reserve_slots, size=100, linger_seconds=linger_seconds)
        self._enter = Batcher(frontier.enter, size=25, linger_seconds=linger_seconds)
        self._leave = Batcher(self._leave_hosts, size=25, linger_seconds=linger_seconds)

    async def close(self) -> None:
        """Wait for what is under way to the frontier, and for what is asked for robots.txt if it was told to stop;
        otherwise that is left at once."""
        tasks = set(self._robots_tasks)
        try:
            if tasks and self._stopping.is_set():
                await asyncio.wait(tasks)
        finally:
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
        for batcher in (self._read_host, self._reserve, self._enter, self._leave):
            await batcher.close()

    # May it be fetched at all?

    async def judge(self, message: Message) -> Blocked | Postponed | Awaited | None:
        """Whether a URL may be fetched; ``None`` is yes."""
        settings = message.settings
        row = await self._host(host_of(message.url))
        now = self._clock()
        is_early = message.slot is not None and message.slot > now + NEAR_SECONDS
        if row.is_blocked or row.is_paused or row.rest_until > now + NEAR_SECONDS or is_early:
            # A copy that is seconds old would send away what an order has just released.
            self._rows.pop(row.host, None)
            row = await self._host(row.host)
        if row.is_blocked:
            return Blocked(Reason.HOST_BLOCKED, f"{row.host} is blocked by the operator")
        if trap := trap_in(message.url, settings):
            return trap
        if row.is_paused:
            return Postponed(now + PAUSE_SECONDS, message)
        if (verdict := await self._judge_rest(row, message)) is not None:
            return verdict
        if settings.obey_robots:
            by_robots = await self._judge_robots(message.url, message)
            if isinstance(by_robots, Postponed):  # what kept us from robots.txt may rest the host
                return await self._judge_rest(await self._host(row.host), message) or by_robots
            if by_robots is not None:
                return by_robots
        return await self._take_from_budget(row.host, message) if _has_budget(settings) else None

    async def _judge_rest(self, row: HostRow, message: Message) -> Blocked | Postponed | None:
        """What becomes of a URL whose host rests: it gets a slot after the rest, so that not all come at once."""
        if row.rest_until <= self._clock() + NEAR_SECONDS:
            return None
        turn = await self.turn(message)
        return None if isinstance(turn, Turn) else turn

    async def _take_from_budget(self, host: str, message: Message) -> Blocked | Postponed | None:
        """Count a URL as in hand if its host's budget allows. Other workers' are not seen."""
        settings = message.settings
        async with self._budget_lock:
            row = (await self._frontier.hosts([host]))[host]
            fetched = row.done + row.failed
            if settings.host_bytes is not None and row.bytes >= settings.host_bytes:
                return Blocked(Reason.HOST_BYTE_LIMIT, f"{row.bytes:,} bytes of {host} were read")
            if settings.host_pages is not None:
                if fetched >= settings.host_pages:
                    return Blocked(Reason.HOST_PAGE_LIMIT, f"{fetched:,} pages of {host} were fetched")
                if fetched + self._in_hand[host] >= settings.host_pages:
                    return Postponed(self._clock() + BUDGET_WAIT_SECONDS, message)
            self._in_hand[host] += 1
            return None

    def release(self, message: Message) -> None:
        """A URL that :meth:`judge` let through has ended."""
        if _has_budget(message.settings):
            host = host_of(message.url)
            self._in_hand[host] -= 1
            if not self._in_hand[host]:
                del self._in_hand[host]

    # When?

    async def turn(
        self, message: Message, not_before: float = 0.0, *, is_crowded: bool = False
    ) -> Turn | Postponed | Blocked:
        """When the URL's host may be asked; the message comes back with its slot. Blocked: its host was given up.

        It does not wait. What is further away than :data:`NEAR_SECONDS` is put off; ``is_crowded``: so is what is
        further away than :data:`SOON_SECONDS`, for others wait here already.

        A slot that the message carries is used if it is of the host's generation and not long
        past. ``not_before`` is the ``again_at`` of a :class:`Busy` that came before.
        """
        while True:
            row = await self._host(host_of(message.url))
            delay = hosts.delay_for(row, message.settings)
            spacing = hosts.spacing_for(row, delay, 1 if row.rests else message.settings.per_host)
            now = self._clock()
            if incident.stage_of(row, now) is Stage.GIVEN_UP:
                return given_up(row)
            may_take_back = now >= self._slots_stay_until.get(row.host, 0.0)
            if may_take_back and hosts.with_slots_taken_back(row, spacing, now) is not row:
                await self._take_back_slots(row.host, spacing)
                continue
            slot = message.slot
            late = max(LATE_SECONDS, 2 * delay)
            if delay == 0 and row.rest_until <= now:
                if not_before <= now:
                    return Turn(now, message)
                slot = now
            elif slot is None or message.generation != row.generation or max(now, not_before) > slot + late:
                slot = await self._reserve(
                    SlotDemand(host=row.host, count=1, spacing_seconds=spacing, generation=row.generation)
                )
                if slot is None:
                    self._rows.pop(row.host, None)
                    continue
                message = msgspec.structs.replace(message, slot=slot, generation=row.generation)
                not_before = 0.0
            moment = max(slot, not_before)
            wait = moment - now
            if wait > NEAR_SECONDS or (wait > SOON_SECONDS and is_crowded):
                return Postponed(moment - SOON_SECONDS, message)
            return Turn(moment, message)

    async def _take_back_slots(self, host: str, spacing_seconds: float) -> None:
        """Let what waits for slots that are too far come back. Whoever dies in between leaves it to its time.

        Not again at once: in a crawl that is more patient with the host than this one, all would be far again.
        """
        if len(self._slots_stay_until) > 10_000:
            self._slots_stay_until.clear()
        self._slots_stay_until[host] = self._clock() + hosts.FAR_SECONDS

        def change(row: HostRow) -> HostRow:
            return hosts.with_slots_taken_back(row, spacing_seconds, self._clock())

        if (await self._change_host(host, change)).is_changed:
            log.info("slots_taken_back", host=host, released=await self._frontier.release_host(host))

    async def pause_until(self, moment: float) -> bool:
        """Wait until a moment; True if the worker began to stop meanwhile."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, moment - self._clock())):
                await self._stopping.wait()
        return self._stopping.is_set()

    # Now?

    @overload
    async def fetch(
        self, request: Request, *, begin: None = None, before_large: BeforeLarge | None = None
    ) -> Asked | Busy: ...

    @overload
    async def fetch(
        self, request: Request, *, begin: Begin, before_large: BeforeLarge | None = None
    ) -> Asked | Busy | None: ...

    async def fetch(
        self, request: Request, *, begin: Begin | None = None, before_large: BeforeLarge | None = None
    ) -> Asked | Busy | None:
        """Make one request, if its host may be asked now: enter it, begin, fetch, leave it, learn from what came.

        Busy: nothing was asked; what ``begin`` has claimed is to be given back unused. None: ``begin`` said so.
        """
        if request.generation is None and (busy := await self._stands_against(request)):
            return busy
        permission = await (self._enter_soon(request) if request.is_alone else self._enter_now(request))
        if isinstance(permission, Busy):
            return permission
        held: Pass | None = permission
        requested_at: float | None = permission.asked_at
        try:
            begins_by = await begin() if begin is not None else math.inf
            if begins_by is None:
                return None
            if await self._is_stopped(permission, request.settings):
                return Busy(self._clock(), is_void=False, is_stopped=True)
            if self._is_late(permission, request.settings.per_host):  # last: all the above takes time
                held = None
                anew = await self._enter_anew(permission, request)
                if isinstance(anew, Busy):
                    return anew
                permission = held = anew
            started_at = self._clock()
            if started_at > begins_by:  # an answer came late, or we slept
                return Busy(started_at, is_void=False)
            requested_at = None
            fetched = await self._fetcher.fetch(
                request.url, before_large=before_large, max_bytes=request.max_bytes, sink=request.sink
            )
            requested_at = started_at + fetched.sent_seconds
        finally:
            if held is not None:
                await self._leave_host(held, requested_at=requested_at)
        learned = await self._learn(
            permission.host, fetched, permission.asked_at,
            is_robots=request.is_robots, is_new_origin=request.is_new_origin,
        )  # fmt: skip
        return Asked(fetched, learned, permission.asked_at)

    async def _stands_against(self, request: Request) -> Busy | None:
        """What keeps a request without a slot from its host, as far as is known here: no slot has told it so."""
        row = await self._host(host_of(request.url))
        now = self._clock()
        if row.is_paused or row.is_blocked or row.rest_until > now:
            self._rows.pop(row.host, None)  # a copy that is seconds old would hold what an order has just released
            row = await self._host(row.host)
        if row.is_paused or row.is_blocked:
            return Busy(now + SOON_SECONDS, is_void=False, is_stopped=True)
        return Busy(row.rest_until, is_void=False) if row.rest_until > now else None

    async def _enter_now(self, request: Request) -> Pass | Busy:
        """Ask to make a request at this moment."""
        row = await self._host(host_of(request.url))
        settings = request.settings
        return await self._ask(row, hosts.delay_for(row, settings), settings.per_host, request.generation)

    async def _ask(self, row: HostRow, delay: float, per_host: int, generation: int | None) -> Pass | Busy:
        now = self._clock()
        if self._under_way >= self.network.most_at_a_time(self._under_way + 1, now):
            return Busy(now + PROBE_POLL_SECONDS, is_void=False)
        if not self.network.may_ask(row.host, now):
            return Busy(max(self.network.turn_of(row.host), now + PROBE_POLL_SECONDS), is_void=False)
        is_probe = self.network.is_down
        permission: Pass | Busy | None = None
        try:
            permission = await self._ask_host(row, delay, per_host, generation, now)
        finally:
            if is_probe and not isinstance(permission, Pass):
                self.network.release()
        if isinstance(permission, Pass):
            self._under_way += 1
            return permission._replace(is_probe=is_probe)
        return permission

    async def _ask_host(
        self, row: HostRow, delay: float, per_host: int, generation: int | None, now: float
    ) -> Pass | Busy:
        if delay == 0:
            return Pass(row.host, None, now)
        token = f"{self._rng.getrandbits(48):012x}"
        good_for = self._promptness if per_host > 1 else BEGIN_SECONDS
        admission: Admission = await self._enter(
            Entrance(
                host=row.host,
                token=token,
                delay_seconds=delay,
                per_host=per_host,
                generation=generation,
                until=now + BEGIN_SECONDS + self._request_seconds,
                begins_within=good_for - PROMPT_SECONDS if per_host > 1 else 0.0,
            )
        )
        if admission.entered is Entered.YES:
            return Pass(row.host, token, now, good_for=good_for)
        self._rows.pop(row.host, None)  # it is not what it was thought to be
        return Busy(
            admission.again_at,
            is_void=admission.entered is Entered.VOID,
            is_stopped=admission.entered is Entered.STOPPED,
        )

    async def _is_stopped(self, permission: Pass, settings: CrawlSettings) -> bool:
        """Whether an order stands against a request that is just about to begin, or its host is to be entered now.

        Entering looks, and its answer holds for a moment. Where that is past, or there was no delay and so
        nothing to enter, the host's row is read.
        """
        if permission.token is not None and self._clock() - permission.asked_at <= PROMPT_SECONDS:
            return False
        self._rows.pop(permission.host, None)
        row = await self._host(permission.host)
        if permission.token is None and (hosts.delay_for(row, settings) > 0 or row.rest_until > self._clock()):
            return True
        return row.is_paused or row.is_blocked

    def _is_late(self, permission: Pass, per_host: int) -> bool:
        """Whether it is too old to begin a request by: what it has kept away may have been let in meanwhile.

        With several requests at a time their distance is kept from the moment of the permission on; where there is
        one at a time, until its latest end. Where the frontier itself takes longer to answer than that, permissions
        are asked for that are good for longer, and keep others away for as much longer: so some is prompt enough.
        """
        if permission.token is None:
            return False
        age = self._clock() - permission.asked_at
        is_late = age > permission.good_for
        if per_host == 1:
            return is_late
        self._promptness = min(2 * age, BEGIN_SECONDS) if is_late else max(0.9 * self._promptness, PROMPT_SECONDS)
        return is_late

    async def _enter_anew(self, permission: Pass, request: Request) -> Pass | Busy:
        """Another permission in place of one that is late, if it can be had within :data:`BEGIN_SECONDS`."""
        await self._leave_host(permission, requested_at=permission.asked_at)
        return await self._enter_soon(request)

    async def _enter_soon(self, request: Request) -> Pass | Busy:
        """Wait for a permission, if it can be had within :data:`BEGIN_SECONDS`."""
        give_up_at = self._clock() + BEGIN_SECONDS
        while True:
            answer = await self._enter_now(request)
            if isinstance(answer, Pass) and not self._is_late(answer, request.settings.per_host):
                return answer
            if isinstance(answer, Pass):
                await self._leave_host(answer, requested_at=answer.asked_at)
                again_at = self._clock()
            elif answer.is_void or answer.is_stopped:
                return answer
            else:
                again_at = answer.again_at
            if again_at > give_up_at or await self.pause_until(max(again_at, self._clock() + 0.01)):
                return Busy(again_at, is_void=False)

    async def _leave_host(self, permission: Pass, *, requested_at: float | None) -> None:
        """Say that the request is over. ``requested_at``: when it had left; none: by now."""
        self._under_way -= 1
        if permission.is_probe:
            self.network.release()
        if permission.token is not None:
            now = self._clock()
            seconds = max(0.0, now - permission.asked_at)
            await self._leave(
                Exit(
                    host=permission.host,
                    token=permission.token,
                    requested_at=now if requested_at is None else requested_at,
                    # What took longer than any request may is no answer time of the host's: we slept.
                    latency_seconds=seconds if seconds <= self._request_seconds else None,
                )
            )

    # What came of it.

    async def _learn(
        self, host: str, fetched: Fetched, asked_at: float, *, is_robots: bool = False, is_new_origin: bool = False
    ) -> Learned:
        """Change what is known of the host, or of our network, by what a request brought.

        ``asked_at``: when its permission was asked for. ``is_robots``: it was for robots.txt; then an answer
        of any status shows that the host is there, and trouble of another kind rests it at once.
        ``is_new_origin``: nothing has ever answered at its scheme and port; where that cannot be reached, and the
        host is well and has answered elsewhere, it is no trouble of the host's.
        """
        now, reason = self._clock(), fetched.reason
        if fetched.is_stale:  # which may be long known to the host, and is nobody's trouble
            return Learned(counts=False, again_at=now)
        rule = rule_for(reason, fetched.http_status) if reason else None
        if reason and rule and self.network.is_ours(rule.fault, host, asked_at):
            return self._own_trouble(host, reason, fetched.detail, asked_at)
        if fetched.http_status is not None:
            self._note_answer(host)
            if self.network.answered(host, now):
                log.warning("network_again", host=host)
        is_answer = fetched.http_status is not None and (is_robots or reason is not Reason.SERVER_ERROR)
        fails = rule is not None and rule.care.failures_to_rest is not None and not is_answer
        retry_after = None
        if rule and (rule.slows or fails):
            retry_after = parse_retry_after(fetched.header("retry-after"), now)
            if retry_after is not None:
                retry_after = min(retry_after, incident.MAX_RETRY_AFTER_SECONDS)

        def change(row: HostRow) -> HostRow:
            if reason and rule and (rule.slows or fails):
                return incident.after_trouble(
                    row,
                    reason,
                    slows=rule.slows,
                    fails=fails,
                    retry_after=retry_after,
                    now=now,
                    asked_at=asked_at,
                    rests_at_once=is_robots or rule.care.failures_to_rest == 1,
                    has_answered=self._has_answered(row),
                    patience=self._patience,
                )
            return row if fetched.http_status is None else incident.after_success(row, now=now, asked_at=asked_at)

        row = await self._host(host)
        if is_new_origin and _is_not_there(fetched) and not row.rests and self._has_answered(row):
            return Learned(counts=True, again_at=now)
        if change(row) is not row:
            row, is_changed = await self._change_host(host, change)
            if is_changed and fails:
                await self._tell_rest(row, fetched.detail, now)
        counts = not fails or (
            rule is not None
            and rule.max_tries > 0
            and (not row.rests or (incident.pays_for_probes(row) and not is_robots))
        )
        return Learned(counts, self._after_rest(row), retry_after)

    def _own_trouble(self, host: str, reason: Reason, detail: str, asked_at: float) -> Learned:
        """Trouble that is neither the URL's nor its host's: nobody pays for it."""
        network = self.network
        if network.failed(reason, detail, asked_at=asked_at, now=self._clock(), in_flight=self._under_way + 1):
            log.warning("network_trouble", reason=reason.value, detail=detail, waiting="until something answers")
        return Learned(counts=False, again_at=network.turn_of(host))

    def _after_rest(self, row: HostRow) -> float:
        """When a URL that met its host's trouble comes back: after others, so that each has its turn to probe."""
        now = self._clock()
        if incident.stage_of(row, now) is Stage.GIVEN_UP:
            return now
        return max(now, row.rest_until) + self._rng.uniform(1.0, 2.0)

    def _has_answered(self, row: HostRow) -> bool:
        return row.answered > 0 or row.host in self._answered

    def _note_answer(self, host: str) -> None:
        if len(self._answered) > 10_000:
            self._answered.clear()
        self._answered.add(host)

    async def _tell_rest(self, row: HostRow, detail: str, now: float) -> None:
        """Say that a host rests, or was given up; then what waits for it comes back to end. Whoever dies before
        that leaves it to its slots."""
        trouble = row.trouble.value if row.trouble else ""
        if row.given_up_at == now:
            released = await self._frontier.release_host(row.host)
            log.warning("host_given_up", host=row.host, reason=trouble, detail=given_up(row).detail, released=released)
        elif row.rests and row.rested_at == now:
            seconds = round(row.rest_until - now, 1)
            log.info("host_rests", host=row.host, reason=trouble, detail=detail, rest=row.rests, seconds=seconds)

    async def _change_host(self, host: str, change: Callable[[HostRow], HostRow]) -> _Changed:
        """Compare and set until it holds: another worker may change the row at the same time."""
        while True:
            row = incident.as_of((await self._frontier.hosts([host]))[host], self._clock())
            changed = change(row)
            if changed is row or (await self._frontier.save_hosts([changed]))[0]:
                self._rows.pop(host, None)
                return _Changed(changed, changed is not row)

    # Host rows.

    def look_anew(self) -> None:
        """Forget the copies of host rows: it may be long since they were read."""
        self._rows.clear()

    def note_rows(self, rows: Mapping[str, HostRow]) -> None:
        """Take rows that were read just now for copies of our own."""
        now = self._clock()
        self._forget_what_was_cleared()
        for host, row in rows.items():
            self._rows[host] = (incident.as_of(row, now), now + HOST_CACHE_SECONDS)

    def is_free(self, message: Message) -> bool:
        """Whether a URL may be asked for at once, as far as is known here. It reads only: any thread may ask."""
        settings, now = message.settings, self._clock()
        row, until = self._rows.get(host_of(message.url), (None, 0.0))
        if row is None or until <= now or self.network.is_down or _has_budget(settings):
            return False
        if row.is_paused or row.is_blocked or row.rest_until > now or hosts.delay_for(row, settings) > 0:
            return False
        return not settings.obey_robots or self._rules.is_known(origin_of(message.url), now)

    def _forget_what_was_cleared(self) -> None:
        if self._generation != self._frontier.generation:
            self._generation = self._frontier.generation
            self._rows.clear()
            self._rules = _RulesCache()
            self._robots_again_at.clear()
            self._robots_hops.clear()
            self._answered.clear()

    async def _host(self, host: str) -> HostRow:
        self._forget_what_was_cleared()
        cached = self._rows.get(host)
        if cached is not None and cached[1] > self._clock():
            return cached[0]
        row = incident.as_of(await self._read_host(host), self._clock())
        if len(self._rows) > 10_000:
            self._rows.clear()
        self._rows[host] = (row, self._clock() + HOST_CACHE_SECONDS)
        return row

    async def _read_hosts(self, names: Sequence[str]) -> list[HostRow]:
        rows = await self._frontier.hosts(list(dict.fromkeys(names)))
        return [rows[name] for name in names]

    async def _reserve_slots(self, demands: Sequence[SlotDemand]) -> list[float | None]:
        """One write per host for all that ask at the same time."""
        merged: dict[tuple[str, int, float], int] = Counter(
            (demand.host, demand.generation, demand.spacing_seconds) for demand in demands
        )
        firsts = await self._frontier.reserve(
            [
                SlotDemand(host=host, count=count, spacing_seconds=spacing, generation=generation)
                for (host, generation, spacing), count in merged.items()
            ]
        )
        next_slots = dict(zip(merged, firsts, strict=True))
        slots: list[float | None] = []
        for demand in demands:
            key = (demand.host, demand.generation, demand.spacing_seconds)
            slot = next_slots[key]
            slots.append(slot)
            if slot is not None:
                next_slots[key] = slot + demand.spacing_seconds
        return slots

    async def _leave_hosts(self, exits: Sequence[Exit]) -> list[None]:
        await self._frontier.leave(exits)
        return [None] * len(exits)

    # robots.txt.

    async def judge_file(self, url: str, settings: CrawlSettings) -> Blocked | Postponed | Awaited | None:
        """Whether a sitemap may be fetched, by its host and its robots.txt."""
        row = await self._host(host_of(url))
        if row.is_blocked:
            return Blocked(Reason.HOST_BLOCKED, f"{row.host} is blocked by the operator")
        if incident.stage_of(row, self._clock()) is Stage.GIVEN_UP:
            return given_up(row)
        return await self._judge_robots(url, Message(url=url, settings=settings)) if settings.obey_robots else None

    async def _judge_robots(self, url: str, message: Message) -> Blocked | Postponed | Awaited | None:
        origin = origin_of(url)
        known = self._known_rules(origin)
        now = self._clock()
        if known is None:
            again_at = self._robots_again_at.get(origin, 0.0)
            if again_at <= now:
                return Awaited(self._wait_for_robots(origin, message.settings))
            return Postponed(max(now + SOON_SECONDS, again_at), message)
        row = known.row
        if row.access is RobotsAccess.ALLOW_ALL:
            return None
        if row.access is RobotsAccess.UNREACHABLE:
            if row.trouble is not None:
                return Blocked(row.trouble, f"robots.txt of {origin}: {row.detail}")
            if now - (row.unreachable_since or now) < self._robots_grace_seconds:
                return Postponed(max(row.expires_at, now + SOON_SECONDS), message)
            if row.good_at is None:
                return Blocked(Reason.ROBOTS_UNREACHABLE, f"robots.txt of {origin}: {row.detail}")
        verdict = known.rules.verdict(url, self._product_token)
        if verdict.allowed:
            return None
        return Blocked(Reason.ROBOTS, f"robots.txt line {verdict.line}: {verdict.rule}")

    def sitemaps_of(self, origin: str) -> tuple[str, ...]:
        """What the ``Sitemap`` lines of an origin's robots.txt say; nothing while it is not known here."""
        known = self._known_rules(origin)
        return known.rules.sitemaps() if known is not None else ()

    def _known_rules(self, origin: str) -> _CachedRules | None:
        self._forget_what_was_cleared()
        known = self._rules.get(origin)
        return known if known is not None and known.row.expires_at > self._clock() else None

    def _wait_for_robots(self, origin: str, settings: CrawlSettings) -> asyncio.Future[None]:
        """A future that is done when it is known what the origin's robots.txt says, or that it cannot be had now.

        One task asks for it, for all who wait.
        """
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if origin in self._asking_robots:
            self._asking_robots[origin].append(future)
        else:
            self._asking_robots[origin] = [future]
            task = asyncio.create_task(self._ask_for_robots(origin, settings))
            self._robots_tasks.add(task)
            task.add_done_callback(self._robots_tasks.discard)
        return future

    async def _ask_for_robots(self, origin: str, settings: CrawlSettings) -> None:
        error: Exception | None = None
        try:
            await self._find_robots(origin, settings)
        except asyncio.CancelledError:
            for future in self._asking_robots.pop(origin):
                future.cancel()
            raise
        except Exception as found:  # noqa: BLE001 - handed on to everybody who waits
            error = found
        waiting = [future for future in self._asking_robots.pop(origin) if not future.done()]
        for future in waiting:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
        if error is not None and not waiting:  # nobody is left to see to it
            log.error("robots_lost", origin=origin, error=str(error), exc_info=error)

    async def _find_robots(self, origin: str, settings: CrawlSettings) -> None:
        known = await self._found_rules(origin, settings)
        if known is None:
            self._put_off_robots(origin, self._clock() + SOON_SECONDS)
        else:
            self._rules.put(known)

    def _put_off_robots(self, origin: str, until: float) -> None:
        """Nobody here asks for an origin's robots.txt before a moment."""
        if len(self._robots_again_at) > 10_000:
            self._robots_again_at.clear()
        self._robots_again_at[origin] = max(until, self._robots_again_at.get(origin, 0.0))

    async def _read_rules(self, row: RobotsRow) -> _CachedRules:
        def read() -> RobotsRules:
            return RobotsRules.parse(row.body).prepare(self._product_token)

        size = len(row.body)
        rules = await asyncio.to_thread(read) if size > ROBOTS_LONG_BYTES else read()
        return _CachedRules(msgspec.structs.replace(row, body=b""), rules, size)

    async def _found_rules(self, origin: str, settings: CrawlSettings) -> _CachedRules | None:
        """An origin's robots.txt, by whoever fetches it: another worker is waited for a few seconds."""
        give_up_at = self._clock() + NEAR_SECONDS
        while True:
            row = (await self._frontier.robots([origin])).get(origin)
            if row is not None and row.good_at is not None:
                self._note_answer(host_of(f"{origin}/"))
            if row is not None and row.expires_at > self._clock():
                return await self._read_rules(row)
            if await self._frontier.lease_robots(origin, until=self._clock() + ROBOTS_LEASE_SECONDS):
                return await self._fetch_robots(origin, row, settings)
            again_at = self._clock() + ROBOTS_POLL_SECONDS
            if again_at > give_up_at or await self.pause_until(again_at):
                return None

    async def _way_to_robots(self, origin: str, settings: CrawlSettings, *, is_new_origin: bool) -> _Way | Busy:
        """What an origin's robots.txt is; busy: a host on the way there is.

        It goes on from there the next time; after trouble it begins anew, for it may lead elsewhere by then.
        A file of rules is under no rules (RFC 9309 section 2.2.2): the hops ask for no other one.
        """
        hop = self._robots_hops.pop(origin, Hop(f"{origin}/robots.txt"))
        give_up_at = self._clock() + NEAR_SECONDS
        while True:
            if hop.redirects and (await self._host(host_of(hop.url))).is_blocked:
                detail = f"{host_of(hop.url)} is blocked by the operator"
                return _Way(_unasked(hop.url, Reason.HOST_BLOCKED, detail), is_redirected=True)
            asked = await self.fetch(
                Request(
                    hop.url, settings, max_bytes=MAX_ROBOTS_BYTES + 1, is_robots=True,
                    is_new_origin=is_new_origin and not hop.redirects,
                )
            )  # fmt: skip
            if isinstance(asked, Asked) and asked.learned.counts:
                arrived = hop.after(asked.fetched)
                if isinstance(arrived, Fetched):
                    return _Way(arrived, is_redirected=hop.redirects > 0)
                hop = arrived
                continue
            if isinstance(asked, Asked) and not asked.fetched.is_stale:
                return _Way(asked.fetched, is_redirected=False, again_at=asked.learned.again_at)
            is_stopped = isinstance(asked, Busy) and asked.is_stopped
            again_at = asked.again_at if isinstance(asked, Busy) else self._clock()
            again_at = max(again_at, self._clock() + 0.01)
            if is_stopped or again_at > give_up_at or await self.pause_until(again_at):
                if len(self._robots_hops) > 10_000:
                    self._robots_hops.clear()
                self._robots_hops[origin] = hop
                return Busy(again_at, is_void=False, is_stopped=is_stopped)

    async def _fetch_robots(self, origin: str, old: RobotsRow | None, settings: CrawlSettings) -> _CachedRules | None:
        """Fetch an origin's robots.txt for all workers, under its lease; ``None``: not just now."""
        is_new = old is None or (old.good_at is None and old.http_status is None)
        found = await self._way_to_robots(origin, settings, is_new_origin=is_new)
        if isinstance(found, Busy) or (found.again_at is not None and self.network.is_down):
            await self._put_back_robots(origin, old, found.again_at or 0.0)
            return None
        now = self._clock()
        fetched = found.fetched
        row = robots_row(origin, fetched, old, is_redirected=found.is_redirected, now=now)
        since = now - (row.unreachable_since or now)
        if is_new and _is_not_there(fetched) and found.again_at is None and since >= self._patience.new_host_seconds:
            row = msgspec.structs.replace(row, trouble=fetched.reason)  # its URLs end by that
        if found.again_at is not None and since < self._robots_grace_seconds:
            # Its host rests, and asking for this file again is how that is probed.
            await self._put_back_robots(origin, msgspec.structs.replace(row, expires_at=now), found.again_at)
            return None
        await self._frontier.save_robots(row)
        known = await self._read_rules(row)
        delay = known.rules.crawl_delay(self._product_token) or 0.0
        await self._change_host(host_of(f"{origin}/"), lambda host: hosts.with_crawl_delay(host, delay))
        log.debug("robots", origin=origin, access=row.access.value, detail=row.detail)
        most = settings.max_crawl_delay_seconds
        if delay > most:
            log.info("crawl_delay_capped", origin=origin, asked_seconds=delay, kept_seconds=most)
        return known

    async def _put_back_robots(self, origin: str, row: RobotsRow | None, again_at: float) -> None:
        """End the lease of a robots.txt that could not be had just now: anybody may ask for it at its time.

        Who waits for its host's rest is told so by the row of that, which an order may change; no other wait is long.
        """
        now = self._clock()
        rests = (await self._host(host_of(f"{origin}/"))).rest_until > now
        self._put_off_robots(origin, now + SOON_SECONDS if rests else min(again_at, now + PAUSE_SECONDS))
        nothing = RobotsRow(origin=origin, access=RobotsAccess.UNREACHABLE, detail="it could not be asked for yet")
        await self._frontier.save_robots(row or nothing)


def given_up(row: HostRow) -> Blocked:
    """How the URLs of a host end that was given up: by its trouble, without being asked for."""
    trouble = row.trouble or Reason.UNREACHABLE
    seconds = row.given_up_at - row.trouble_since
    return Blocked(
        trouble, f"the host was given up: {row.rests} probes in {seconds:,.0f} s failed, the last as {trouble.value}"
    )


def _unasked(url: str, reason: Reason, detail: str) -> Fetched:
    """What comes of a request that is not made."""
    return Fetched(
        url=url, http_status=None, headers=(), body=b"", truncated=False, reason=reason, detail=detail,
        elapsed_seconds=0.0, sent_seconds=0.0,
    )  # fmt: skip


def _has_budget(settings: CrawlSettings) -> bool:
    return settings.host_pages is not None or settings.host_bytes is not None


def robots_row(origin: str, fetched: Fetched, old: RobotsRow | None, *, is_redirected: bool, now: float) -> RobotsRow:
    """What an answer for robots.txt makes of the row: RFC 9309 section 2.3.1.

    A copy that was good stays while the file cannot be reached. Lasting trouble is that of the origin's URLs, too;
    but where redirects led elsewhere, it is only the file that cannot be had.
    """
    access = access_for(fetched, is_redirected=is_redirected)
    if access is not RobotsAccess.UNREACHABLE:
        return RobotsRow(
            origin=origin,
            access=access,
            body=fetched.body if access is RobotsAccess.OBEY else b"",
            http_status=fetched.http_status,
            detail=fetched.detail,
            fetched_at=now,
            good_at=now,
            expires_at=now + ROBOTS_KEPT_SECONDS,
        )
    since = old.unreachable_since if old and old.unreachable_since is not None else now
    first, longest = ROBOTS_RETRY_SECONDS
    trouble = (Reason.ROBOTS_UNREACHABLE if is_redirected else fetched.reason) if _is_lasting(fetched) else None
    return RobotsRow(
        origin=origin,
        access=access,
        body=old.body if old else b"",
        http_status=fetched.http_status,
        detail=f"redirected to {fetched.url}: {fetched.detail}" if is_redirected else fetched.detail,
        trouble=trouble,
        fetched_at=now,
        good_at=old.good_at if old else None,
        unreachable_since=since,
        expires_at=now + min(max(now - since, first), longest),
    )


def _is_lasting(fetched: Fetched) -> bool:
    """Whether what kept us from robots.txt keeps us from its URLs, too: waiting would not help."""
    reason = fetched.reason
    return (
        reason is not None
        and reason is not Reason.UNEXPECTED_STATUS
        and rule_for(reason, fetched.http_status).max_tries == 1
    )


def _is_not_there(fetched: Fetched) -> bool:
    """Whether nobody is at a scheme and port, or nobody who has any answer for robots.txt, by trouble not ours."""
    if fetched.reason is None or fetched.http_status is not None:
        return False
    return rule_for(fetched.reason).fault in (Fault.HOST, Fault.HOST_OR_URL)
