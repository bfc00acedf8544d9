"""What is known about one host, and every rule of who may ask it for something, and when.

Pure functions of a host's state: each takes it as it is and gives it as it shall be. What adapters add is
only that nobody else changes it meanwhile. No I/O lives here.

A host's trouble as a whole is an incident, which begins, goes on and ends so:

    well       asked as its delay allows. Trouble before any request was made, or FAILURES_TO_REST others in a row,
               begin an incident: it rests.
    resting    nothing is asked until ``rest_until``. What was asked before is of the same incident: no news.
    probing    after the rest: one request at a time. An answer (any status but 5xx) ends the incident: well.
               Trouble: it rests twice as long, or is given up. (A minute at most where it may be the URLs
               that fail; they pay for that after GIVE_UP_PROBES probes.)
    given up   by the probe that fails when there were GIVE_UP_PROBES of them and its patience is over
               (:class:`Patience`). Its URLs end, unasked; after TROUBLE_KEPT_SECONDS all is forgotten: well.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from sqspider.message import CrawlSettings
from sqspider.record import Outcome, Reason

MAX_RETRY_AFTER_SECONDS: Final = 86_400.0
FIRST_PENALTY_SECONDS: Final = 2.0
MAX_PENALTY_SECONDS: Final = 300.0
FORGIVE_AFTER_SECONDS: Final = 60.0  # of good answers, before a penalty is halved
FAILURES_TO_REST: Final = 8  # in a row
MAX_REST_SECONDS: Final = 3600.0
MAX_DOUBTED_REST_SECONDS: Final = 60.0  # where it may be the URLs that fail, and not their host
GIVE_UP_PROBES: Final = 5  # that failed, at least: time alone may have been slept through
PROBE_DELAY_SECONDS: Final = 1.0  # between two requests in an incident, at least
FAR_SECONDS: Final = 60.0  # the next free slot, before a shorter spacing takes back what was handed out
TROUBLE_KEPT_SECONDS: Final = 3600.0  # after the last of it, or after a rest, trouble is forgotten
LONGEST_CRAWL_DELAY_SECONDS: Final = 86_400.0  # that is remembered; how much of it holds, the crawl says


class RobotsAccess(enum.StrEnum):
    """What the last answer for robots.txt means (RFC 9309 section 2.3.1)."""

    OBEY = "obey"  # 2xx: the rules in the body
    ALLOW_ALL = "allow_all"  # 4xx: there are none
    UNREACHABLE = "unreachable"  # 5xx, 429, network: nothing is allowed for now


def whole_lines(body: bytes, limit: int) -> bytes:
    """The lines of a robots.txt that end within so many bytes. Half a rule may forbid everything."""
    if len(body) <= limit:
        return body
    end = max(body.rfind(b"\n", 0, limit + 1), body.rfind(b"\r", 0, limit + 1))
    return body[: max(end, 0)]


class Stage(enum.StrEnum):
    """How far a host has come in an incident: see the module's docstring."""

    WELL = "well"
    RESTING = "resting"
    PROBING = "probing"
    GIVEN_UP = "given up"


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long a host in trouble is waited for. Seconds."""

    first_rest_seconds: float = 5.0  # it doubles: five probes within 75 s
    new_host_seconds: float = 75.0  # of an incident, before a host that never answered is given up
    known_host_seconds: float = 86_400.0  # and one that has


PATIENCE: Final = Patience()


class SlotDemand(msgspec.Struct, frozen=True, kw_only=True):
    """Some moments at which to ask a host for something."""

    host: str
    count: int
    spacing_seconds: float  # between two of them
    generation: int  # of the host row that the spacing was computed from


class Entrance(msgspec.Struct, frozen=True, kw_only=True):
    """The wish to ask a host for something now."""

    host: str
    token: str  # names this request
    delay_seconds: float  # the least time since the request before
    per_host: int  # requests at a time
    generation: int | None  # of the slot; none: without a slot (robots.txt, sitemaps)
    until: float  # when the request is over at the latest
    begins_within: float = 0.0  # seconds that the request may begin late: the next one's delay counts from then


class Entered(enum.StrEnum):
    """The answer to an :class:`Entrance`."""

    YES = "yes"
    BUSY = "busy"  # too soon, or too many at a time: see ``Admission.again_at``
    VOID = "void"  # the host's generation is another: reserve again
    STOPPED = "stopped"  # the operator paused or blocked it: read its row


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a host may be asked now."""

    entered: Entered
    again_at: float = 0.0  # when busy: the moment at which it may be free


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a request to a host."""

    host: str
    token: str
    requested_at: float  # when the request had left for the host, at the latest
    latency_seconds: float | None  # none: what passed was no answer time of the host's


class HostRow(msgspec.Struct, frozen=True, kw_only=True):
    """The row about one host. Times are seconds since the epoch."""

    host: str
    version: int = 0  # raised by every save; a save with an old one changes nothing
    generation: int = 0  # raised when slots handed out before must not be used any more
    next_slot: float = 0.0  # the next moment that nobody has reserved
    last_request: float = 0.0  # the last moment at which it was asked for something
    latency_seconds: float = 0.0  # of its answers, lately (moving average)
    delay_seconds: float | None = None  # the operator's word; beats every other delay
    crawl_delay_seconds: float = 0.0  # that robots.txt asks for, at most a day
    penalty_seconds: float = 0.0  # added by trouble, forgiven step by step
    penalty_since: float = 0.0  # the last trouble, or when some of its penalty was last forgiven
    rest_until: float = 0.0  # nothing is asked before this moment
    failures: int = 0  # in a row
    rests: int = 0  # of the present incident, that is: requests that failed in it, from the one that began it
    rested_at: float = 0.0  # when it was last rested or slowed: what was asked before is known by it
    trouble_since: float = 0.0  # when the present incident began
    given_up_at: float = 0.0  # when it was given up, until that is forgotten
    trouble: Reason | None = None  # the last one that is not forgiven
    is_paused: bool = False  # by the operator: its URLs wait
    is_blocked: bool = False  # by the operator: its URLs are not fetched at all
    done: int = 0
    failed: int = 0
    blocked: int = 0
    bytes: int = 0  # decoded
    busy_seconds: float = 0.0  # spent on its finished fetches
    answered: int = 0  # finished fetches that brought an HTTP answer, whatever it said
    slot_spacing_seconds: float = 0.0  # of the slots that were handed out last


SUMS: Final = ("done", "failed", "blocked", "bytes", "busy_seconds", "answered")
"""What finished fetches add up to: kept by the frontier, by the names of a :class:`HostRow`."""


def sums_of(outcome: Outcome) -> dict[str, float]:
    """What one finished fetch adds, by the names of :data:`SUMS`."""
    return {
        outcome.status.value: 1,
        "bytes": outcome.bytes,
        "busy_seconds": (outcome.elapsed_ms or 0) / 1000,
        "answered": outcome.http_status is not None,
    }


FRONTIERS_OWN: Final = ("last_request", "latency_seconds", "slot_spacing_seconds", *SUMS)
"""What a host row has from the frontier alone: a save of the row does not write it."""


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """A host's row, and the requests to it that are under way: by token, with their latest end."""

    row: HostRow
    requests: dict[str, float] = {}


# The four things that happen to a host at the frontier. The very same state comes back where nothing changes.


def saved(state: HostState, row: HostRow, now: float) -> tuple[HostState, bool]:
    """Write a row, if it was made from the present one."""
    old = state.row
    if old.version != row.version:
        return state, False
    next_slot = old.next_slot
    if row.generation > old.generation:  # older slots are void
        next_slot = max(now + delay_of(row), row.rest_until)
    own = {name: getattr(old, name) for name in FRONTIERS_OWN}
    new = msgspec.structs.replace(row, version=row.version + 1, next_slot=next_slot, **own)
    return msgspec.structs.replace(state, row=new), True


def reserved(state: HostState, demand: SlotDemand, now: float) -> tuple[HostState, float | None]:
    """Hand out slots: the first of them, the others follow. None where the generation is another."""
    row = state.row
    if row.generation != demand.generation:
        return state, None
    first = max(now, row.next_slot, row.rest_until)
    next_slot = first + demand.count * demand.spacing_seconds
    row = msgspec.structs.replace(row, next_slot=next_slot, slot_spacing_seconds=demand.spacing_seconds)
    return msgspec.structs.replace(state, row=row), first


def entered(state: HostState, entrance: Entrance, now: float) -> tuple[HostState, Admission]:
    """Let a request begin, if no order, no rest, no delay and no other request stand against it.

    Requests past their end do not count: their worker died.
    """
    row = state.row
    if row.is_paused or row.is_blocked:
        return state, Admission(entered=Entered.STOPPED)
    if entrance.generation is not None and entrance.generation != row.generation:
        return state, Admission(entered=Entered.VOID)
    again_at = max(row.rest_until, row.last_request + entrance.delay_seconds)
    if again_at > now:
        return state, Admission(entered=Entered.BUSY, again_at=again_at)
    requests = {token: until for token, until in state.requests.items() if until >= now}
    if len(requests) >= (1 if row.rests else entrance.per_host):  # in an incident one probes for all
        soon = now + min(max(entrance.delay_seconds / 4, 0.02), 0.5)
        return state, Admission(entered=Entered.BUSY, again_at=min(soon, *requests.values()))
    requests[entrance.token] = entrance.until
    next_slot = row.next_slot
    if entrance.generation is None:
        next_slot = max(now, next_slot) + entrance.delay_seconds
    row = msgspec.structs.replace(row, last_request=now + entrance.begins_within, next_slot=next_slot)
    return HostState(row=row, requests=requests), Admission(entered=Entered.YES)


def left(state: HostState, end: Exit) -> tuple[HostState, None]:
    """Note that a request is over."""
    row = state.row
    latency = row.latency_seconds
    if end.latency_seconds is not None:
        latency = 0.7 * latency + 0.3 * end.latency_seconds
    last_request = max(row.last_request, end.requested_at)
    row = msgspec.structs.replace(row, last_request=last_request, latency_seconds=latency)
    requests = {token: until for token, until in state.requests.items() if token != end.token}
    return HostState(row=row, requests=requests), None


def delay_for(row: HostRow, settings: CrawlSettings) -> float:
    """The least time in seconds between two requests to a host, in a crawl: the operator's word, or
    the longest of what the crawl, the host's robots.txt and its penalty for trouble say. In an incident
    it is never 0: who probes must enter the host as anybody else."""
    least = PROBE_DELAY_SECONDS if row.rests else 0.0
    if row.delay_seconds is not None:
        return max(row.delay_seconds, least)
    asked = min(row.crawl_delay_seconds, settings.max_crawl_delay_seconds)
    return max(settings.delay_seconds, asked, delay_of(row), least)


def delay_of(row: HostRow) -> float:
    """The part of it that is the same in every crawl: how much of a ``Crawl-delay`` holds is not."""
    return row.penalty_seconds if row.delay_seconds is None else row.delay_seconds


def stage_of(row: HostRow, now: float) -> Stage:
    """How far a host has come in an incident. (One that asked for a rest by ``Retry-After`` is in none.)"""
    if not row.rests:
        return Stage.WELL
    if row.given_up_at:
        return Stage.GIVEN_UP if now < row.rest_until else Stage.WELL
    return Stage.RESTING if now < row.rest_until else Stage.PROBING


def pays_for_probes(row: HostRow) -> bool:
    """Whether a request that was made and met trouble counts as a try of its URL, though its host is in an incident:
    after so many probes that failed it may as well be the URLs. Else a few of them that a host never serves, when
    nothing else of it is left, would be waited for as long as a host that is down."""
    return row.rests > GIVE_UP_PROBES


def is_known(row: HostRow, asked_at: float) -> bool:
    """Whether what came of a request is no news of a host: it was asked before the host was last rested or
    slowed, or while it rested (by somebody who had not heard of it). A burst of trouble is one incident."""
    return asked_at <= row.rested_at or asked_at < row.rest_until


def as_of(row: HostRow, now: float) -> HostRow:
    """The row as it holds at a moment: trouble that is long past is forgotten.

    Whoever reads a row asks this of it first. The very same row comes back if there is nothing to
    forget. Without this a host whose last answer was bad would be in trouble for ever once its crawl
    has ended: no good answer comes to forgive it.
    """
    if row.trouble is None:
        return row
    kept = 0.0 if row.given_up_at else TROUBLE_KEPT_SECONDS  # what was given up has rested for as long
    return row if now <= max(row.penalty_since, row.rest_until) + kept else without_trouble(row)


def without_trouble(row: HostRow) -> HostRow:
    """The row with all trouble forgotten, and what is still to be heard of it no news (``rested_at`` stays)."""
    return msgspec.structs.replace(
        row,
        penalty_seconds=0.0,
        penalty_since=0.0,
        failures=0,
        rests=0,
        trouble_since=0.0,
        given_up_at=0.0,
        trouble=None,
    )


def is_in_trouble(row: HostRow, now: float) -> bool:
    """Whether trouble changes how a host is treated at a moment: it is in an incident, rests as it asked
    for, or is asked less often.

    For one and the same row this goes from true to false as time passes, never back: what was not in
    trouble when it was written is not in trouble when it is read.
    """
    row = as_of(row, now)
    return row.rest_until > now or row.penalty_seconds > 0 or row.rests > 0


def spacing_for(row: HostRow, delay_seconds: float, per_host: int = 1) -> float:
    """The distance in seconds of slots, a little wider than the delay.

    The delay is enforced between requests as they happen. Slots that were no wider would let
    every small lateness push all that follows; and a host that answers more slowly than its delay
    would be found busy at each. ``per_host`` requests at a time share that.
    """
    return max(delay_seconds * 1.05, row.latency_seconds * 1.2 / per_host) if delay_seconds > 0 else 0.0


def with_slots_taken_back(row: HostRow, spacing_seconds: float, now: float) -> HostRow:
    """The row with slots void that were handed out at twice the spacing that holds now, or more, and reach
    far ahead: what waits for them is to come back. The very same row if there are none."""
    is_far = row.next_slot > max(now, row.rest_until) + max(FAR_SECONDS, 2 * spacing_seconds)
    if not is_far or spacing_seconds * 2 > row.slot_spacing_seconds:
        return row
    return msgspec.structs.replace(row, generation=row.generation + 1)


def with_crawl_delay(row: HostRow, seconds: float) -> HostRow:
    """The row with the ``Crawl-delay`` of its robots.txt; the very same row if it has it."""
    seconds = min(max(seconds, 0.0), LONGEST_CRAWL_DELAY_SECONDS)
    if seconds == row.crawl_delay_seconds:
        return row
    return msgspec.structs.replace(
        row,
        crawl_delay_seconds=seconds,
        generation=row.generation + (seconds > row.crawl_delay_seconds),
    )


def after_trouble(
    row: HostRow,
    reason: Reason,
    *,
    slows: bool,
    fails: bool,
    retry_after: float | None,
    now: float,
    asked_at: float | None = None,
    rests_at_once: bool = False,
    has_answered: bool = True,
    patience: Patience = PATIENCE,
) -> HostRow:
    """The row after a request that met trouble. The very same row if that is no news.

    ``slows``: the host said that it is asked too often (429, 503). ``fails``: the host may be in trouble as
    a whole; many in a row rest it, one that ``rests_at_once`` does so itself. ``retry_after``: seconds that
    it asked for. ``asked_at``: when the request was let go; none: now. ``has_answered``: the host has
    ever. What slows or rests it raises the generation: slots that were handed out before are void.
    """
    if is_known(row, now if asked_at is None else asked_at):
        return _with_longer_rest(row, retry_after, now)
    failures = row.failures + 1 if fails else 0
    penalty, rest_until = row.penalty_seconds, row.rest_until
    if slows:
        penalty = min(max(penalty * 2, FIRST_PENALTY_SECONDS), MAX_PENALTY_SECONDS)
    if retry_after is not None:
        rest_until = max(rest_until, now + min(retry_after, MAX_RETRY_AFTER_SECONDS))
    new = msgspec.structs.replace(
        row, penalty_seconds=penalty, penalty_since=now, rest_until=rest_until, failures=failures, trouble=reason
    )
    if fails and (rests_at_once or row.rests or failures >= FAILURES_TO_REST):
        longest = MAX_REST_SECONDS if rests_at_once else MAX_DOUBTED_REST_SECONDS
        new = _rested(new, longest, has_answered=has_answered, patience=patience, now=now)
    elif row.rests:  # an answer: the incident is over
        new = msgspec.structs.replace(new, rests=0, trouble_since=0.0)
    is_slower = new.penalty_seconds > row.penalty_seconds or new.rest_until > row.rest_until
    if not is_slower:
        return new
    return msgspec.structs.replace(new, rested_at=now, generation=row.generation + 1)


def _with_longer_rest(row: HostRow, retry_after: float | None, now: float) -> HostRow:
    """Of a burst of answers the longest rest holds that one of them asked for."""
    asked = min(retry_after or 0.0, MAX_RETRY_AFTER_SECONDS)
    if row.given_up_at or asked <= row.rest_until - row.rested_at or now + asked <= row.rest_until:
        return row
    return msgspec.structs.replace(row, rest_until=now + asked, generation=row.generation + 1)


def _rested(row: HostRow, longest: float, *, has_answered: bool, patience: Patience, now: float) -> HostRow:
    """The row of a host that failed as a whole: it rests, or is given up."""
    rests = row.rests + 1
    since = row.trouble_since if row.rests else now
    limit = patience.known_host_seconds if has_answered else patience.new_host_seconds
    if rests >= GIVE_UP_PROBES and now - since >= limit:
        given_up_at, rest = now, TROUBLE_KEPT_SECONDS
    else:
        given_up_at, rest = 0.0, min(patience.first_rest_seconds * 2.0 ** min(rests - 1, 30), longest)
    return msgspec.structs.replace(
        row,
        rests=rests,
        trouble_since=since,
        given_up_at=given_up_at,
        rest_until=max(row.rest_until, now + rest),
    )


def after_success(row: HostRow, *, now: float, asked_at: float | None = None) -> HostRow:
    """The row after a good answer: an incident is over, failures are forgotten, a penalty is forgiven step by step.

    The very same row comes back if there is nothing to forgive, so a healthy host costs no write; and in an
    incident for an answer that is no news (``asked_at`` as in :func:`after_trouble`).
    """
    if row.rests and is_known(row, now if asked_at is None else asked_at):
        return row
    penalty, since = row.penalty_seconds, row.penalty_since
    if penalty and now - since >= FORGIVE_AFTER_SECONDS:
        penalty = penalty / 2 if penalty / 2 >= FIRST_PENALTY_SECONDS / 4 else 0.0
        since = now
    trouble = row.trouble if penalty or row.rest_until > now else None
    if (penalty, trouble) == (row.penalty_seconds, row.trouble) and row.failures == row.rests == 0:
        return row
    return msgspec.structs.replace(
        row,
        penalty_seconds=penalty,
        penalty_since=since,
        failures=0,
        rests=0,
        trouble_since=0.0,
        given_up_at=0.0,
        trouble=trouble,
    )


def with_orders(row: HostRow, *, delay: float | None, is_paused: bool | None, is_blocked: bool | None) -> HostRow:
    """The row with the operator's orders; ``None`` leaves a thing as it is. To resume a host also ends its rest,
    and forgives all its trouble.

    Slots that were handed out before are void: a longer delay must hold at once, and after a pause
    nobody is to burst.
    """
    if is_paused is False:
        row = msgspec.structs.replace(without_trouble(row), rest_until=0.0)
    return msgspec.structs.replace(
        row,
        delay_seconds=row.delay_seconds if delay is None else delay,
        is_paused=row.is_paused if is_paused is None else is_paused,
        is_blocked=row.is_blocked if is_blocked is None else is_blocked,
        generation=row.generation + 1,
    )
