"""What is known about one host, and every rule of who may ask it for something, and when.

Pure functions of a host's state: each takes it as it is and gives it as it shall be. What adapters add is
only that nobody else changes it meanwhile. No I/O lives here.

How trouble of a host as a whole goes on is in ``host_trouble``.
"""

from __future__ import annotations

import enum
import heapq
import math
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from sqspider.crawl_settings import CrawlSettings
from sqspider.record import Outcome, Reason

PROBE_DELAY_SECONDS: Final = 1.0  # between two requests in an incident, at least
FAR_SECONDS: Final = 60.0  # the next free slot, before a shorter spacing takes back what was handed out
_NEAR_SECONDS: Final = 5.0  # the same, where a shorter delay was just said, or may have been since
_A_LITTLE_MORE: Final = 1.1  # times the spacing that holds then
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


class SlotDemand(msgspec.Struct, frozen=True, kw_only=True):
    """Some moments at which to ask a host for something."""

    host: str
    count: int
    spacing_seconds: float  # between two of them
    generation: int  # of the host row that the spacing was computed from
    is_entered: bool = False  # whoever asks enters the host in the first one if that is now, and heeds ``lapses_at``


class Entrance(msgspec.Struct, frozen=True, kw_only=True):
    """The wish to ask a host for something now."""

    host: str
    token: str  # names this request
    delay_seconds: float  # the least time since the request before
    per_host: int  # requests at a time
    generation: int | None  # of the slot; none: without a slot (robots.txt, sitemaps)
    until: float  # when the request is over at the latest
    begins_within: float = 0.0  # seconds that the request may begin late: the next one's delay counts from then
    heeds_lapse: bool = False  # whoever asks heeds ``Admission.lapses_at``


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
    # Others may be let in from then on: the request has left a delay before that, and is over by then. What is not is
    # entered for again before, by the same token.
    lapses_at: float = math.inf


class Exit(msgspec.Struct, frozen=True, kw_only=True):
    """The end of a request to a host."""

    host: str
    token: str
    requested_at: float  # when the request had left for the host, at the latest
    latency_seconds: float | None  # none: what passed was no answer time of the host's


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """The wish to ask a host for a URL in its slot, as the only one at that time: it gets a slot if it has none that is
    good, and if that is now, the host is entered for it."""

    delay_seconds: float  # the least time since the request before
    spacing_seconds: float  # between two slots
    late_seconds: float  # that a slot is good after its moment
    until: float  # when a request that begins now is over at the latest


class Passed(NamedTuple):
    """What came of a :class:`Passage`."""

    slot: float
    generation: int  # of the slot
    again_at: float | None  # the moment at which to try again; none: it has entered


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
        "bytes": outcome.bytes_read,
        "busy_seconds": (outcome.elapsed_ms or 0) / 1000,
        "answered": outcome.http_status is not None,
    }


def with_sums(row: HostRow, sums: Mapping[str, float]) -> HostRow:
    """The row with more of what finished fetches add up to."""
    return msgspec.structs.replace(row, **{name: getattr(row, name) + much for name, much in sums.items()})


FRONTIERS_OWN: Final = ("last_request", "latency_seconds", "slot_spacing_seconds", *SUMS)
"""What a host row has from the frontier alone: a save of the row does not write it."""


class HostState(msgspec.Struct, frozen=True, kw_only=True):
    """A host's row, and the requests to it that are under way: by token, with their latest end."""

    row: HostRow
    requests: dict[str, float] = {}


# What happens to a host at the frontier. The very same state comes back where nothing changes.


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


def passed(
    state: HostState, passage: Passage, slot: tuple[float, int] | None, token: str, now: float
) -> tuple[HostState, Passed]:
    """Reserve a slot where there is none, or none that is good, and enter if it is now. ``slot``: its moment and its
    generation. Who cannot enter before the time of the next slot gets another one, at the end of the line: else all
    that are late would try again together, and all but one in vain."""
    generation = state.row.generation
    if slot is None or slot[1] != generation or now > slot[0] + passage.late_seconds:
        state, at = _with_slot(state, passage, now)
    else:
        at = slot[0]
    if at > now:
        return state, Passed(at, generation, at)
    entrance = Entrance(
        host=state.row.host,
        token=token,
        delay_seconds=passage.delay_seconds,
        per_host=1,
        generation=generation,
        until=passage.until,
    )
    state, admission = entered(state, entrance, now)
    if admission.entered is Entered.YES:
        return state, Passed(at, generation, None)
    if admission.again_at > at + passage.spacing_seconds:
        state, at = _with_slot(state, passage, now)
    return state, Passed(at, generation, max(at, admission.again_at))


def _with_slot(state: HostState, passage: Passage, now: float) -> tuple[HostState, float]:
    demand = SlotDemand(
        host=state.row.host, count=1, spacing_seconds=passage.spacing_seconds, generation=state.row.generation
    )
    state, slot = reserved(state, demand, now)
    assert slot is not None  # the generation is the row's
    return state, slot


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


def forgiven(row: HostRow) -> HostRow:
    """The row of a host that is to be asked again: its rest is over, its trouble forgotten. Orders stay; slots that
    were handed out before are void, for they may lie behind the rest."""
    return msgspec.structs.replace(_without_rest(row), generation=row.generation + 1)


def _without_rest(row: HostRow) -> HostRow:
    return msgspec.structs.replace(without_trouble(row), rest_until=0.0)


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


def spacing_for(row: HostRow, delay_seconds: float, per_host: int = 1) -> float:
    """The distance in seconds of slots, a little wider than the delay.

    The delay is enforced between requests as they happen. Slots that were no wider would let
    every small lateness push all that follows; and a host that answers more slowly than its delay
    would be found busy at each. ``per_host`` requests at a time share that.
    """
    return max(delay_seconds * 1.05, row.latency_seconds * 1.2 / per_host) if delay_seconds > 0 else 0.0


def with_slots_taken_back(
    row: HostRow, spacing_seconds: float, now: float, said_after: float | None = None, *, is_met: bool = True
) -> HostRow:
    """The row with slots void that were handed out at twice the spacing that holds now, or more, and reach
    far ahead: what waits for them is to come back. The very same row if there are none. ``said_after``: somebody has
    just said that the delay is shorter, and some were handed out at this spacing before; then it is worth while for
    less. Not ``is_met``: who asks has handed out none yet, and may go by a delay that was said since they were."""
    far_seconds = FAR_SECONDS if said_after is None and is_met else _NEAR_SECONDS
    times = 2.0 if said_after is None else _A_LITTLE_MORE
    is_far = row.next_slot > max(now, row.rest_until) + max(far_seconds, 2 * spacing_seconds)
    if not is_far or spacing_seconds * times > max(row.slot_spacing_seconds, said_after or 0.0):
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


def mean_seconds(row: HostRow) -> float:
    """How long an answer of a host took on average; none is no time."""
    fetches = row.done + row.failed
    return row.busy_seconds / fetches if fetches else 0.0


def slowest(rows: Iterable[HostRow], most: int) -> list[HostRow]:
    """Those whose answers took longest on average, slowest first."""
    return heapq.nlargest(most, (row for row in rows if mean_seconds(row)), key=mean_seconds)


def with_orders(row: HostRow, *, delay: float | None, is_paused: bool | None, is_blocked: bool | None) -> HostRow:
    """The row with the operator's orders; ``None`` leaves a thing as it is. To resume a host also ends its rest,
    and forgives all its trouble.

    Slots that were handed out before are void: a longer delay must hold at once, and after a pause
    nobody is to burst.
    """
    if is_paused is False:
        row = _without_rest(row)
    return msgspec.structs.replace(
        row,
        delay_seconds=row.delay_seconds if delay is None else delay,
        is_paused=row.is_paused if is_paused is None else is_paused,
        is_blocked=row.is_blocked if is_blocked is None else is_blocked,
        generation=row.generation + 1,
    )
