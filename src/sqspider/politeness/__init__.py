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
import random
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Final, NamedTuple

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
from sqspider.web.fetch import AnyFetcher, Fetched
from sqspider.web.robots import MAX_ROBOTS_BYTES, RobotsRules, access_for

NEAR_SECONDS: Final = 5.0  # a slot that is further away sends its delivery back
SOON_SECONDS: Final = 1.0  # this much before its slot a delivery comes back
CROWD: Final = 16  # deliveries that wait for one host here, before only soon ones may join
FULL_HOUSE: Final = 64  # and for all hosts: what is due must not find the places taken by what is not
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
    trouble: Fetched | None = None  # what a request met, if one was made: it is the host's, or ours
    is_stopped: bool = False  # the operator paused or blocked it: to be judged anew


class Learned(NamedTuple):
    """What a request says of its URL's tries."""

    counts: bool  # its trouble, if it met some, counts as a try
    again_at: float = 0.0  # where it does not count: when to ask again
    retry_after: float | None = None  # seconds that the host asked for


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
        self._robots_locks: dict[str, asyncio.Lock] = {}
        self._robots_again_at: dict[str, float] = {}  # origins whose robots.txt could not be had just now
        self._robots_hops: dict[str, Hop] = {}  # and where the way to it was broken off
        self._slots_stay_until: dict[str, float] = {}  # of hosts whose slots were taken back just now
        self._waiting: Counter[str] = Counter()
        self._all_waiting = 0
        self._in_hand: Counter[str] = Counter()  # URLs here that will count towards a budget
        self._budget_lock = asyncio.Lock()
        self._read_host = Batcher(self._read_hosts, size=100)
        self._reserve = Batcher(self._reserve_slots, size=100, linger_seconds=linger_seconds)
        self._enter = Batcher(frontier.enter, size=25, linger_seconds=linger_seconds)
        self._leave = Batcher(self._leave_hosts, size=25, linger_seconds=linger_seconds)

    async def close(self) -> None:
        """Wait for what is under way to the frontier."""
        for batcher in (self._read_host, self._reserve, self._enter, self._leave):
            await batcher.close()

    @property
    def waiting(self) -> int:
        """Deliveries that wait here for their slot."""
        return self._all_waiting

    @contextlib.contextmanager
    def _wait_for(self, host: str) -> Iterator[None]:
        """Count a delivery as waiting for its host."""
        self._waiting[host] += 1
        self._all_waiting += 1
        try:
            yield
        finally:
            self._all_waiting -= 1
            self._waiting[host] -= 1
            if not self._waiting[host]:
                del self._waiting[host]

    # May it be fetched at all?

    async def judge(self, message: Message) -> Blocked | Postponed | None:
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
            verdict = await self._judge_robots(message.url, message)
            if isinstance(verdict, Postponed):  # what kept us from robots.txt may rest the host
                return await self._judge_rest(await self._host(row.host), message) or verdict
            if verdict is not None:
                return verdict
        return await self._take_from_budget(row.host, message) if _has_budget(settings) else None

    async def _judge_rest(self, row: HostRow, message: Message) -> Blocked | Postponed | None:
        """What becomes of a URL whose host rests: it gets a slot after the rest, so that not all come at once."""
        if row.rest_until <= self._clock() + NEAR_SECONDS:
            return None
        ready = await self.wait_for_slot(message)
        return None if isinstance(ready, Message) else ready

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

    async def wait_for_slot(self, message: Message, not_before: float = 0.0) -> Message | Postponed | Blocked:
        """Wait until the URL's host may be asked; the message comes back with its slot. Blocked: its host was given up.

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
                    return message
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
            is_crowded = self._waiting[row.host] >= CROWD or self._all_waiting >= FULL_HOUSE
            if wait > NEAR_SECONDS or (wait > SOON_SECONDS and is_crowded):
                return Postponed(moment - SOON_SECONDS, message)
            with self._wait_for(row.host):
                if await self.pause_until(moment):
                    return Postponed(moment, message)
            return message

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

    async def enter(self, message: Message) -> Pass | Busy:
        """Ask to make the request for a message's URL at this moment."""
        row = await self._host(host_of(message.url))
        generation = message.generation if message.slot is not None else None
        return await self._ask(row, hosts.delay_for(row, message.settings), message.settings.per_host, generation)

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

    async def is_stopped(self, permission: Pass, settings: CrawlSettings) -> bool:
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

    def is_late(self, permission: Pass, per_host: int) -> bool:
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

    async def enter_anew(self, permission: Pass, message: Message) -> Pass | Busy:
        """Another permission in place of one that is late, if it can be had within :data:`BEGIN_SECONDS`."""
        await self.leave(permission, requested_at=permission.asked_at)
        return await self.enter_soon(message)

    async def enter_soon(self, message: Message) -> Pass | Busy:
        """Wait for a permission, if it can be had within :data:`BEGIN_SECONDS`."""
        give_up_at = self._clock() + BEGIN_SECONDS
        while True:
            answer = await self.enter(message)
            if isinstance(answer, Pass) and not self.is_late(answer, message.settings.per_host):
                return answer
            if isinstance(answer, Pass):
                await self.leave(answer, requested_at=answer.asked_at)
                again_at = self._clock()
            elif answer.is_void or answer.is_stopped:
                return answer
            else:
                again_at = answer.again_at
            if again_at > give_up_at or await self.pause_until(max(again_at, self._clock() + 0.01)):
                return Busy(again_at, is_void=False)

    async def ask(
        self, url: str, settings: CrawlSettings, *, max_bytes: int, sink: BodySink | None = None,
        is_robots: bool = False, is_new_origin: bool = False,
    ) -> Fetched | Busy:  # fmt: skip
        """Make one request that has no slot, for a robots.txt or a sitemap: its host is entered, left and learned
        from. It takes no try and no budget of anybody's; busy: nothing was asked, or in vain."""
        row = await self._host(host_of(url))
        now = self._clock()
        if row.is_blocked:
            return _unasked(url, Reason.HOST_BLOCKED, f"{row.host} is blocked by the operator")
        if row.is_paused:
            return Busy(now + SOON_SECONDS, is_void=False, is_stopped=True)
        if row.rest_until > now:
            return Busy(row.rest_until, is_void=False)
        permission = await self._ask(row, hosts.delay_for(row, settings), settings.per_host, None)
        if isinstance(permission, Busy):
            return permission
        requested_at: float | None = permission.asked_at
        try:
            if await self.is_stopped(permission, settings):
                return Busy(self._clock(), is_void=False, is_stopped=True)
            if self.is_late(permission, settings.per_host):
                return Busy(self._clock(), is_void=False)
            requested_at, started_at = None, self._clock()
            fetched = await self._fetcher.fetch(url, max_bytes=max_bytes, sink=sink)
            requested_at = started_at + fetched.sent_seconds
        finally:
            await self.leave(permission, requested_at=requested_at)
        learned = await self.learn(
            permission.host, fetched, permission.asked_at, is_robots=is_robots, is_new_origin=is_new_origin
        )
        trouble = None if fetched.is_stale else fetched
        return fetched if learned.counts else Busy(learned.again_at, is_void=False, trouble=trouble)

    async def leave(self, permission: Pass, *, requested_at: float | None = None) -> None:
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

    async def learn(
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

    async def judge_file(self, url: str, settings: CrawlSettings) -> Blocked | Postponed | None:
        """Whether a sitemap may be fetched, by its host and its robots.txt."""
        row = await self._host(host_of(url))
        if row.is_blocked:
            return Blocked(Reason.HOST_BLOCKED, f"{row.host} is blocked by the operator")
        if incident.stage_of(row, self._clock()) is Stage.GIVEN_UP:
            return given_up(row)
        return await self._judge_robots(url, Message(url=url, settings=settings)) if settings.obey_robots else None

    async def _judge_robots(self, url: str, message: Message) -> Blocked | Postponed | None:
        origin = origin_of(url)
        known = await self._robots(origin, message.settings)
        now = self._clock()
        if known is None:  # another worker is fetching it, or the host is busy or rests, or nothing can be asked
            return Postponed(max(now + SOON_SECONDS, self._robots_again_at.get(origin, 0.0)), message)
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

    async def sitemaps_of(self, origin: str, settings: CrawlSettings) -> tuple[str, ...]:
        """What the ``Sitemap`` lines of an origin's robots.txt say; nothing while it cannot be had."""
        known = await self._robots(origin, settings)
        return known.rules.sitemaps() if known is not None else ()

    async def _robots(self, origin: str, settings: CrawlSettings) -> _CachedRules | None:
        self._forget_what_was_cleared()
        cached = self._rules.get(origin)
        if cached is not None and cached.row.expires_at > self._clock():
            return cached
        # Who waits for robots.txt waits for its host, as for a slot: others are taken in meanwhile.
        with self._wait_for(host_of(f"{origin}/")):
            async with self._lock(origin):
                cached = self._rules.get(origin)  # somebody here may have fetched it meanwhile
                if cached is not None and cached.row.expires_at > self._clock():
                    return cached
                if self._robots_again_at.get(origin, 0.0) > self._clock():
                    return None  # somebody here has just waited in vain
                known = await self._found_rules(origin, settings)
                if known is None:
                    self._put_off_robots(origin, self._clock() + SOON_SECONDS)
                    return None
                self._rules.put(known)
                return known

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

    @contextlib.asynccontextmanager
    async def _lock(self, origin: str) -> AsyncIterator[None]:
        lock = self._robots_locks.setdefault(origin, asyncio.Lock())
        try:
            async with lock:
                yield
        finally:
            if not lock.locked():
                self._robots_locks.pop(origin, None)

    async def _way_to_robots(
        self, origin: str, settings: CrawlSettings, *, is_new_origin: bool
    ) -> tuple[Fetched, bool] | Busy:
        """What an origin's robots.txt is, and whether redirects led there; busy: a host on the way is, or in trouble.

        It goes on from there the next time; after trouble it begins anew, for it may lead elsewhere by then.
        A file of rules is under no rules (RFC 9309 section 2.2.2): the hops ask for no other one.
        """
        hop = self._robots_hops.pop(origin, Hop(f"{origin}/robots.txt"))
        give_up_at = self._clock() + NEAR_SECONDS
        while True:
            asked = await self.ask(
                hop.url, settings, max_bytes=MAX_ROBOTS_BYTES + 1, is_robots=True,
                is_new_origin=is_new_origin and not hop.redirects,
            )  # fmt: skip
            if isinstance(asked, Busy):
                again_at = max(asked.again_at, self._clock() + 0.01)
                if asked.trouble:
                    return asked
                if asked.is_stopped or again_at > give_up_at or await self.pause_until(again_at):
                    if len(self._robots_hops) > 10_000:
                        self._robots_hops.clear()
                    self._robots_hops[origin] = hop
                    return asked
                continue
            if asked.reason is Reason.HOST_BLOCKED and not hop.redirects:
                return Busy(self._clock(), is_void=False, is_stopped=True)  # which says nothing of the file
            arrived = hop.after(asked)
            if isinstance(arrived, Fetched):
                return arrived, hop.redirects > 0
            hop = arrived

    async def _fetch_robots(self, origin: str, old: RobotsRow | None, settings: CrawlSettings) -> _CachedRules | None:
        """Fetch an origin's robots.txt for all workers, under its lease; ``None``: not just now."""
        is_new = old is None or (old.good_at is None and old.http_status is None)
        found = await self._way_to_robots(origin, settings, is_new_origin=is_new)
        if isinstance(found, Busy):
            if found.trouble is None or self.network.is_down:
                await self._put_back_robots(origin, old, found.again_at)
                return None
            fetched, is_redirected = found.trouble, False
        else:
            fetched, is_redirected = found
        now = self._clock()
        row = robots_row(origin, fetched, old, is_redirected=is_redirected, now=now)
        since = now - (row.unreachable_since or now)
        if (
            is_new
            and _is_not_there(fetched)
            and not isinstance(found, Busy)
            and since >= self._patience.new_host_seconds
        ):
            row = msgspec.structs.replace(row, trouble=fetched.reason)  # its URLs end by that
        if isinstance(found, Busy) and since < self._robots_grace_seconds:
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
