"""What a request teaches: whose trouble it met, what the host's row says by then, and when its URL comes back.

Which reason is whose is in ``retry``, how a host's incident goes on in ``host_trouble``, our own trouble in
``network``.
"""

from __future__ import annotations

import random
from typing import Final

from sqspider import host_trouble
from sqspider.frontier import Clock, Hosts
from sqspider.host import HostRow
from sqspider.host_trouble import Patience, Stage
from sqspider.log import get_logger
from sqspider.politeness.agent import Agent
from sqspider.politeness.entering import Permission, Permissions
from sqspider.politeness.hosts import HostRows
from sqspider.politeness.network import Network
from sqspider.politeness.verdicts import Learned, Request, given_up
from sqspider.record import Reason
from sqspider.retry import Fault, Rule, parse_retry_after, rule_for
from sqspider.web.fetch import Fetched

AFTER_OTHERS_SECONDS: Final = (1.0, 2.0)  # after a rest a URL that met it comes back: others probe before it

log = get_logger(__name__)


class Learning:
    """Changes what is known of a host, or of our network, by what a request brought."""

    def __init__(
        self,
        frontier: Hosts,
        rows: HostRows,
        own: Agent,
        permissions: Permissions,
        *,
        clock: Clock,
        rng: random.Random,
        patience: Patience,
    ) -> None:
        self._frontier = frontier
        self._rows = rows
        self._own = own
        self._permissions = permissions
        self._clock = clock
        self._rng = rng
        self._patience = patience

    async def learn(self, request: Request, permission: Permission, fetched: Fetched) -> Learned:
        """What a request that is over says of its URL's tries.

        Of one for robots.txt an answer of any status shows that the host is there, and trouble of another kind rests
        it at once. A HEAD that is answered with 5xx says nothing of the host, good or bad. Where a new origin cannot be
        reached, and the host is well and has answered elsewhere, it is no trouble of the host's.
        """
        now, host, reason = self._clock(), permission.host, fetched.reason
        if fetched.tells_nothing:  # it may be long known to the host, or was ours: it is nobody's trouble
            return Learned(counts=False, again_at=now)
        rule = rule_for(reason, fetched.http_status) if reason else None
        may_be_proxys, asked_at = fetched.may_be_proxys, permission.asked_at
        network = self._own.network if reason is Reason.OWN_SHORTAGE else (request.agent or self._own).network
        if reason and rule and network.is_ours(rule.fault, host, asked_at, may_be_proxys=may_be_proxys):
            return self._own_trouble(network, host, reason, fetched.detail, asked_at)
        if fetched.http_status is not None:
            self._rows.note_answer(host)
            if network.answered(host, now):
                log.warning("network_again", host=host)
        lesson = _Lesson(request, fetched, rule, permission.asked_at, now)
        row = await self._rows.row(host)
        if request.is_new_origin and is_not_there(fetched) and not row.rests and self._rows.has_answered(row):
            return Learned(counts=True, again_at=now)
        if self._after(row, lesson) is not row:
            row, is_changed = await self._rows.change(host, lambda row: self._after(row, lesson))
            if is_changed and lesson.fails:
                await self._tell_rest(row, fetched.detail, now)
        return Learned(lesson.counts_with(row), self._after_rest(row), lesson.retry_after)

    def _after(self, row: HostRow, lesson: _Lesson) -> HostRow:
        """The row by then; the very same one if there is nothing to learn."""
        fetched, rule = lesson.fetched, lesson.rule
        if lesson.may_be_heads:
            return row
        if fetched.reason and rule and (rule.slows or lesson.fails):
            return host_trouble.after_trouble(
                row,
                fetched.reason,
                slows=rule.slows,
                fails=lesson.fails,
                retry_after=lesson.retry_after,
                now=lesson.now,
                asked_at=lesson.asked_at,
                rests_at_once=lesson.request.is_robots or rule.care.failures_to_rest == 1,
                has_answered=self._rows.has_answered(row),
                patience=self._patience,
            )
        if fetched.http_status is None:
            return row
        return host_trouble.after_success(row, now=lesson.now, asked_at=lesson.asked_at)

    def _own_trouble(self, network: Network, host: str, reason: Reason, detail: str, asked_at: float) -> Learned:
        """Trouble that is neither the URL's nor its host's: nobody pays for it."""
        in_flight = self._permissions.under_way + 1
        if network.failed(reason, detail, asked_at=asked_at, now=self._clock(), in_flight=in_flight):
            log.warning("network_trouble", reason=reason.value, detail=detail, waiting="until something answers")
        return Learned(counts=False, again_at=network.turn_of(host))

    def _after_rest(self, row: HostRow) -> float:
        """When a URL that met its host's trouble comes back: after others, so that each has its turn to probe."""
        now = self._clock()
        if host_trouble.stage_of(row, now) is Stage.GIVEN_UP:
            return now
        return max(now, row.rest_until) + self._rng.uniform(*AFTER_OTHERS_SECONDS)

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


class _Lesson:
    """What one request brought, as its host is concerned."""

    def __init__(self, request: Request, fetched: Fetched, rule: Rule | None, asked_at: float, now: float) -> None:
        self.request = request
        self.fetched = fetched
        self.rule = rule
        self.asked_at = asked_at
        self.now = now
        is_failure = fetched.reason is Reason.SERVER_ERROR and not request.is_robots
        # There are servers that know no HEAD; one that wants to be asked less often means all requests.
        self.may_be_heads = is_failure and fetched.is_head and rule is not None and not rule.slows
        is_answer = fetched.http_status is not None and not is_failure
        may_rest = rule is not None and rule.care.failures_to_rest is not None
        self.fails = may_rest and not is_answer and not self.may_be_heads
        retry_after = None
        if rule and (rule.slows or self.fails):
            retry_after = parse_retry_after(fetched.header("retry-after"), now)
        self.retry_after = None if retry_after is None else min(retry_after, host_trouble.MAX_RETRY_AFTER_SECONDS)

    def counts_with(self, row: HostRow) -> bool:
        """Whether its trouble counts as a try of its URL, by the host's row after it."""
        if not self.fails or self.rule is None:
            return True
        pays = not row.rests or (host_trouble.pays_for_probes(row) and not self.request.is_robots)
        return self.rule.max_tries > 0 and pays


def is_not_there(fetched: Fetched) -> bool:
    """Whether nobody is at a scheme and port, or nobody who has any answer for robots.txt, by trouble not ours."""
    if fetched.reason is None or fetched.http_status is not None:
        return False
    return rule_for(fetched.reason).fault in (Fault.HOST, Fault.HOST_OR_URL)
