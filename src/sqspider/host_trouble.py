"""A host's incident: how trouble of a host as a whole begins, goes on and ends. Pure functions of its row.

well       asked as its delay allows. Trouble before any request was made, or FAILURES_TO_REST others in a row,
           begin an incident: it rests.
resting    nothing is asked until ``rest_until``. What was asked before is of the same incident: no news.
probing    after the rest: one request at a time. An answer (any status but 5xx) ends the incident: well.
           Trouble: it rests twice as long, or is given up. (A minute at most where it may be the URLs
           that fail; they pay for that after GIVE_UP_PROBES probes, and a host that has answered is not
           given up by them before DOUBTED_PATIENCE_SECONDS.)
given up   by the probe that fails when there were GIVE_UP_PROBES of them and its patience is over
           (:class:`Patience`). Its URLs end, unasked; after TROUBLE_KEPT_SECONDS all is forgotten: well.
"""

from __future__ import annotations

import enum
from typing import Final

import msgspec

from sqspider.host import HostRow, without_trouble
from sqspider.record import Reason

MAX_RETRY_AFTER_SECONDS: Final = 86_400.0
FIRST_PENALTY_SECONDS: Final = 2.0
MAX_PENALTY_SECONDS: Final = 300.0
FORGIVE_AFTER_SECONDS: Final = 60.0  # of good answers, before a penalty is halved
FAILURES_TO_REST: Final = 8  # in a row
MAX_REST_SECONDS: Final = 3600.0
MAX_DOUBTED_REST_SECONDS: Final = 60.0  # where it may be the URLs that fail, and not their host
DOUBTED_PATIENCE_SECONDS: Final = 3600.0  # at least, in which they end by their tries, or others show that it is well
GIVE_UP_PROBES: Final = 5  # that failed, at least: time alone may have been slept through
TROUBLE_KEPT_SECONDS: Final = 3600.0  # after the last of it, or after a rest, trouble is forgotten


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
    failures_to_rest: int = FAILURES_TO_REST  # in a row, where it may be the URLs that fail


PATIENCE: Final = Patience()


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


def is_in_trouble(row: HostRow, now: float) -> bool:
    """Whether trouble changes how a host is treated at a moment: it is in an incident, rests as it asked
    for, or is asked less often.

    For one and the same row this goes from true to false as time passes, never back: what was not in
    trouble when it was written is not in trouble when it is read.
    """
    row = as_of(row, now)
    return row.rest_until > now or row.penalty_seconds > 0 or row.rests > 0


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
    if fails and (rests_at_once or row.rests or failures >= patience.failures_to_rest):
        new = _rested(new, is_sure=rests_at_once, has_answered=has_answered, patience=patience, now=now)
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


def _rested(row: HostRow, *, is_sure: bool, has_answered: bool, patience: Patience, now: float) -> HostRow:
    """The row of a host that failed as a whole: it rests, or is given up. ``is_sure``: it cannot be its URLs."""
    rests = row.rests + 1
    since = row.trouble_since if row.rests else now
    longest = MAX_REST_SECONDS if is_sure else MAX_DOUBTED_REST_SECONDS
    limit = patience.known_host_seconds if has_answered else patience.new_host_seconds
    if has_answered and not is_sure:
        limit = max(limit, DOUBTED_PATIENCE_SECONDS)
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
