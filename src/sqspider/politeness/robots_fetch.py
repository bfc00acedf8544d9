"""How an origin's robots.txt is got: from the frontier, or by asking for it under a lease, for all workers.

What its rules say of a URL is in ``robots_judge``, how they are read in ``web.robots_rules``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from sqspider import host as hosts
from sqspider.capture import Capture, is_captured
from sqspider.capture import Hop as CaptureHop
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Clock, Hosts, RobotsRow
from sqspider.frontier.batcher import Batcher
from sqspider.host import RobotsAccess
from sqspider.log import get_logger
from sqspider.politeness.agent import Agent, origin_in
from sqspider.politeness.hops import Hop
from sqspider.politeness.hosts import HostRows
from sqspider.politeness.learning import is_not_there
from sqspider.politeness.memory import Memory
from sqspider.politeness.turns import NEAR_SECONDS, SOON_SECONDS
from sqspider.politeness.verdicts import Asked, Busy, Request
from sqspider.record import Reason
from sqspider.retry import rule_for
from sqspider.url import host_of
from sqspider.web.fetch import Fetched
from sqspider.web.robots_rules import MAX_ROBOTS_BYTES, RobotsRules, access_for

KEPT_SECONDS: Final = 86_400.0  # RFC 9309 section 2.4
LEASE_SECONDS: Final = 30.0
POLL_SECONDS: Final = 0.25  # between two looks for what another worker fetches
RETRY_SECONDS: Final = (60.0, 3600.0)  # the first and the longest wait while unreachable
LONGEST_WAIT_SECONDS: Final = 60.0  # before it is asked for again here, whatever keeps it
MOST_ROWS: Final = 25  # that are read or written together: a file has half a megabyte
LONG_BYTES: Final = 32 * 1024  # a file beyond this is read in a thread: it may take a quarter of a second

log = get_logger(__name__)


class KnownRules(NamedTuple):
    """The rules of an origin, ready to be asked."""

    row: RobotsRow  # without its body
    rules: RobotsRules
    size: int  # of the body


class RobotsLimits(NamedTuple):
    """How long is waited for a robots.txt that cannot be had. Seconds."""

    grace_seconds: float  # before a copy that was good holds, or its URLs end
    new_host_seconds: float  # before those of an origin end at which nothing has ever answered


class Wanted(NamedTuple):
    """A robots.txt that is asked for, and for whom."""

    place: str  # :meth:`Agent.place_of`
    settings: CrawlSettings
    agent: Agent
    crawl: str  # its name: of those who want it the first


Note = Callable[[Capture], None]
"""Keeps a capture along with what is kept next; nobody waits for it."""


class _Way(NamedTuple):
    """Where the way to a robots.txt has ended."""

    hop: Hop
    fetched: Fetched
    is_redirected: bool
    requested_at: float = 0.0
    again_at: float | None = None  # it met trouble that is the host's, or ours: when to ask again


class RobotsFiles:
    """Gets them. ``fetch`` makes a request as politely as any; ``pause_until`` waits for a moment, and says whether the
    worker began to stop meanwhile; ``note`` is told of every answer, before what it says is saved."""

    def __init__(
        self,
        frontier: Hosts,
        rows: HostRows,
        *,
        clock: Clock,
        fetch: Callable[[Request], Awaitable[Asked | Busy]],
        pause_until: Callable[[float], Awaitable[bool]],
        limits: RobotsLimits,
        linger_seconds: float,
        note: Note | None = None,
    ) -> None:
        self._frontier = frontier
        self._rows = rows
        self._clock = clock
        self._fetch = fetch
        self._pause_until = pause_until
        self._limits = limits
        self._note = note
        self._hops: Memory[str, Hop] = Memory(frontier)  # where the way to it was broken off
        self._known = Batcher(self._known_of, size=MOST_ROWS)
        self._lease = Batcher(self._lease_all, size=MOST_ROWS, linger_seconds=linger_seconds)
        self._save_row = Batcher(self._save_rows, size=MOST_ROWS, linger_seconds=linger_seconds)

    async def get(self, wanted: Wanted) -> KnownRules | float:
        """The rules of a place, by whoever fetches them: another worker is waited for a few seconds. A moment: they
        cannot be had before that."""
        place = wanted.place
        give_up_at = self._clock() + NEAR_SECONDS
        while True:
            row = await self._known(place)
            if row is not None and row.good_at is not None:
                self._rows.note_answer(_host_in(place))
            if row is not None and row.expires_at > self._clock():
                return await self._read(row, wanted.agent)
            if await self._lease(place):
                return await self._ask_for(wanted, row)
            again_at = self._clock() + POLL_SECONDS
            if again_at > give_up_at or await self._pause_until(again_at):
                return self._clock() + SOON_SECONDS

    async def close(self) -> None:
        for batcher in (self._known, self._lease, self._save_row):
            await batcher.close()

    async def _known_of(self, places: Sequence[str]) -> list[RobotsRow | None]:
        rows = await self._frontier.robots(places)
        return [rows.get(place) for place in places]

    async def _lease_all(self, places: Sequence[str]) -> list[bool]:
        return await self._frontier.lease_robots(places, until=self._clock() + LEASE_SECONDS)

    async def _save_rows(self, rows: Sequence[RobotsRow]) -> list[None]:
        await self._frontier.save_robots(rows)
        return [None] * len(rows)

    async def _read(self, row: RobotsRow, agent: Agent) -> KnownRules:
        def read() -> RobotsRules:
            return RobotsRules.parse(row.body).prepare(agent.product_token)

        size = len(row.body)
        rules = await asyncio.to_thread(read) if size > LONG_BYTES else read()
        return KnownRules(msgspec.structs.replace(row, body=b""), rules, size)

    async def _ask_for(self, wanted: Wanted, old: RobotsRow | None) -> KnownRules | float:
        """Fetch a file for all workers, under its lease."""
        place = wanted.place
        is_new = old is None or (old.good_at is None and old.http_status is None)
        way = await self._way(wanted, is_new_origin=is_new)
        if isinstance(way, Busy) or (way.again_at is not None and wanted.agent.network.is_down):
            return await self._put_back(place, old, way.again_at or 0.0)
        now = self._clock()
        row = robots_row(place, way.fetched, old, is_redirected=way.is_redirected, now=now)
        self._note_answer(wanted, way.hop, way.fetched, way.requested_at, row)
        since = now - (row.unreachable_since or now)
        if way.again_at is None:
            if is_new and is_not_there(way.fetched) and since >= self._limits.new_host_seconds:
                row = msgspec.structs.replace(row, trouble=way.fetched.reason)  # its URLs end by that
        elif since < self._limits.grace_seconds:
            # Its host rests, and asking for this file again is how that is probed.
            return await self._put_back(place, msgspec.structs.replace(row, expires_at=now), way.again_at)
        return await self._save(row, wanted)

    async def _way(self, wanted: Wanted, *, is_new_origin: bool) -> _Way | Busy:
        """Where the way to an origin's robots.txt ends; busy: a host on it is.

        It goes on from there the next time; after trouble it begins anew, for it may lead elsewhere by then.
        A file of rules is under no rules (RFC 9309 section 2.2.2): the hops ask for no other one.
        """
        place = wanted.place
        hop = self._hops.pop(place) or Hop(f"{origin_in(place)}/robots.txt")
        give_up_at = self._clock() + NEAR_SECONDS
        while True:
            arrived = await self._go(hop, wanted, is_new_origin=is_new_origin and not hop.redirects)
            if isinstance(arrived, _Way):
                return arrived
            is_stopped, again_at = False, self._clock()
            if isinstance(arrived, Hop):
                hop = arrived
            else:
                is_stopped, again_at = arrived.is_stopped, max(arrived.again_at, again_at + 0.01)
            if is_stopped or again_at > give_up_at or await self._pause_until(again_at):
                self._hops.put(place, hop)
                return Busy(again_at, is_stopped=is_stopped)

    async def _go(self, hop: Hop, wanted: Wanted, *, is_new_origin: bool) -> Hop | _Way | Busy:
        """Ask for the next hop."""
        name = host_of(hop.url)
        if hop.redirects and (await self._rows.row(name)).is_blocked:
            return _Way(hop, _unasked(hop.url, f"{name} is blocked by the operator"), is_redirected=True)
        request = Request(
            hop.url,
            wanted.settings,
            max_bytes=MAX_ROBOTS_BYTES + 1,
            is_robots=True,
            is_new_origin=is_new_origin,
            agent=wanted.agent,
        )
        asked = await self._fetch(request)
        if isinstance(asked, Busy):
            return asked
        if asked.fetched.tells_nothing:
            return Busy(asked.learned.again_at)
        if not asked.learned.counts:
            return _Way(hop, asked.fetched, False, asked.requested_at, asked.learned.again_at)
        arrived = hop.after(asked.fetched)
        if isinstance(arrived, Hop):
            self._note_answer(wanted, hop, asked.fetched, asked.requested_at)
            return arrived
        return _Way(hop, arrived, hop.redirects > 0, asked.requested_at)

    def _note_answer(
        self, wanted: Wanted, hop: Hop, fetched: Fetched, requested_at: float, row: RobotsRow | None = None
    ) -> None:
        """Let an answer be kept. ``row``: what it has decided, if it led nowhere else."""
        if self._note is None or not is_captured(fetched):
            return
        self._note(
            Capture(
                url=hop.url,
                fetched=fetched,
                at=requested_at,
                hop=CaptureHop.ROBOTS,
                via=hop.via,
                redirects=hop.redirects,
                crawl=wanted.crawl,
                settings=wanted.settings,
                facts=(("robots", _decided(row)),) if row is not None else (),
            )
        )

    async def _save(self, row: RobotsRow, wanted: Wanted) -> KnownRules:
        """Write what came for all workers, and let a ``Crawl-delay`` hold."""
        agent = wanted.agent
        await self._save_row(row)
        known = await self._read(row, agent)
        delay = known.rules.crawl_delay(agent.product_token) or 0.0
        await self._rows.change(_host_in(row.origin), lambda host: hosts.with_crawl_delay(host, delay))
        log.debug("robots", origin=row.origin, access=row.access.value, detail=row.detail)
        most = wanted.settings.max_crawl_delay_seconds
        if delay > most:
            log.info("crawl_delay_capped", origin=row.origin, asked_seconds=delay, kept_seconds=most)
        return known

    async def _put_back(self, place: str, row: RobotsRow | None, again_at: float) -> float:
        """End the lease of a file that could not be had just now, and say when it may be asked for again from here.

        Who waits for its host's rest is told so by the row of that, which an order may change; no other wait is long.
        """
        now = self._clock()
        rests = (await self._rows.row(_host_in(place))).rest_until > now
        nothing = RobotsRow(origin=place, access=RobotsAccess.UNREACHABLE, detail="it could not be asked for yet")
        await self._save_row(row or nothing)
        soon = now + SOON_SECONDS
        return soon if rests else max(soon, min(again_at, now + LONGEST_WAIT_SECONDS))


def robots_row(place: str, fetched: Fetched, old: RobotsRow | None, *, is_redirected: bool, now: float) -> RobotsRow:
    """What an answer for robots.txt makes of the row: RFC 9309 section 2.3.1.

    A copy that was good stays while the file cannot be reached. Lasting trouble is that of the origin's URLs, too;
    but where redirects led elsewhere, it is only the file that cannot be had.
    """
    access = access_for(fetched, is_redirected=is_redirected)
    if access is not RobotsAccess.UNREACHABLE:
        return RobotsRow(
            origin=place,
            access=access,
            body=fetched.body if access is RobotsAccess.OBEY else b"",
            http_status=fetched.http_status,
            detail=fetched.detail,
            fetched_at=now,
            good_at=now,
            expires_at=now + KEPT_SECONDS,
        )
    since = old.unreachable_since if old and old.unreachable_since is not None else now
    first, longest = RETRY_SECONDS
    trouble = (Reason.ROBOTS_UNREACHABLE if is_redirected else fetched.reason) if _is_lasting(fetched) else None
    return RobotsRow(
        origin=place,
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


def _decided(row: RobotsRow) -> str:
    says = row.access.value.replace("_", " ")
    return f"{says}: {row.detail}" if row.detail else says


def _host_in(place: str) -> str:
    return host_of(f"{origin_in(place)}/")


def _unasked(url: str, detail: str) -> Fetched:
    """What comes of a request that is not made, for its host is blocked."""
    return Fetched(
        url=url, http_status=None, headers=(), body=b"", truncated=False, reason=Reason.HOST_BLOCKED, detail=detail,
        elapsed_seconds=0.0, sent_seconds=0.0,
    )  # fmt: skip


def _is_lasting(fetched: Fetched) -> bool:
    """Whether what kept us from robots.txt keeps us from its URLs, too: waiting would not help."""
    reason = fetched.reason
    return (
        reason is not None
        and reason is not Reason.UNEXPECTED_STATUS
        and rule_for(reason, fetched.http_status).max_tries == 1
    )
