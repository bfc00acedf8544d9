"""One delivery's life, from when a worker has it in hand until it is over. A runner brings it on from wait to wait.

    state     how it is left                                  held                  if the worker dies there
    --------  ----------------------------------------------  --------------------  ------------------------------------
    received  known to be finished: claimed, to be told so    its delivery          its message comes back after the
              judged: may it be fetched at all?                                     visibility timeout
    judged    blocked: claimed, and ended unfetched           its part of a budget  the same
              not now: put off. Otherwise its turn is asked
    its turn  far: put off. Near: it waits, holding no        a slot of its host    the same, and the slot is lost
              runner. (A suspect waits for its kind, too.)
    claimed   lost: deleted, or put off. Held up: given back  place at the gate,    the lease ends, and the next claim
              unused. A suspect: given back, to be alone      permission, claim     wins with the next attempt
    fetched   trouble: given back, for a try of its own, or   claim, body           the same: it is fetched again, and
              uncounted where the trouble is not its own                            after three such claims given up
              A cookie wall: its turn, once more
    kept      not kept: given back, uncounted. So is what is  claim, prolonged      the same: it is kept once more
              to be tried again, once it is kept
    held      its taker is left: given back, unused. Its      claim, prolonged,     the same
              crawl's row is another by then: led on by that  body
    ended     nothing                                         nothing               a finish is atomic, or in the safe
                                                                                    order (see the port)

A host that is busy sends it back to wait for its turn; an order of the operator, or a clearing, to be judged anew.
Which host may be asked when is decided in ``politeness``, what an answer means in ``page``, what follows from an
end in ``endings``, how it is kept before that in ``storing``.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Final

import msgspec

from sqspider.frontier import Clock, Frontier, FrontierBusyError
from sqspider.log import get_logger
from sqspider.politeness import NEAR_SECONDS, Asked, Awaited, Busy, Form, Politeness, Postponed, Request, Turn
from sqspider.record import BUDGET_REASONS, REQUISITE_DEPTH, Outcome, Reason
from sqspider.revisit import conditions_of
from sqspider.scope import Blocked
from sqspider.work.budgets import is_counted
from sqspider.work.checking import form_of_check, is_to_be_asked_otherwise
from sqspider.work.cookie_wall import TOO_LATE_AT_WALL, is_at_wall
from sqspider.work.endings import Endings
from sqspider.work.hand import Hand, Visit
from sqspider.work.memories import Memories
from sqspider.work.page import End, is_for_takers, visited_as, wants_body
from sqspider.work.rules import Rules
from sqspider.work.storing import Storing

SUSPECT_SECONDS: Final = 5.0  # that one of them waits for others before it, at a time
AGAIN_SECONDS: Final = 1.0  # and then comes back after
BUSY_SECONDS: Final = 10.0  # that a delivery waits here for a host that is busy whenever it is looked at

log = get_logger(__name__)


class Visits:
    """Brings visits on; see the module's docstring. What a visit cannot wait for here goes to the waiting room."""

    def __init__(
        self,
        frontier: Frontier,
        politeness: Politeness,
        endings: Endings,
        storing: Storing,
        hand: Hand,
        memories: Memories,
        rules: Rules,
        *,
        clock: Clock,
        stopping: asyncio.Event,
        lease_needed: float,
    ) -> None:
        self._frontier = frontier
        self._politeness = politeness
        self._endings = endings
        self._storing = storing
        self._hand = hand
        self._waiting = hand.waiting
        self._memories = memories
        self._rules = rules
        self._clock = clock
        self._stopping = stopping
        self._lease_needed = lease_needed

    async def bring_on(self, visit: Visit) -> None:
        """Bring a visit as far as it comes: it is over then, or waits. What ails the frontier is raised."""
        self._look_at_awaited(visit)
        if visit.is_over:
            return
        if self._stopping.is_set():
            self.send_back(visit)
        elif await self._is_judged(visit) and await self._has_its_turn(visit) and self._has_turn_among_suspects(visit):
            asked = await self._ask(visit)
            if asked is not None:
                await self._conclude(visit, asked)

    def send_back(self, visit: Visit) -> None:
        """Give back what is not fetched: somebody else may take it, at once or when it can be kept again."""
        awaited, visit.awaited = visit.awaited, None
        if awaited is not None:
            awaited.cancel()  # by that it is known that nobody waits for it
        self._endings.put_off(visit, self._storing.worth_while_at)

    def _look_at_awaited(self, visit: Visit) -> None:
        """Raise what kept us from a robots.txt. All who wait for it hear of a busy frontier: none shall pay for it."""
        awaited, visit.awaited = visit.awaited, None
        try:
            if awaited is not None and awaited.done() and not awaited.cancelled():
                awaited.result()
        except FrontierBusyError as error:
            log.warning("frontier_busy", url=visit.message.url, error=str(error))
            self._endings.put_off(visit, self._clock() + AGAIN_SECONDS)

    # received -> judged

    async def _is_judged(self, visit: Visit) -> bool:
        if visit.is_judged or not await self._rules.are_known(visit):
            return visit.is_judged
        self._memories.forget_what_was_cleared()
        message = visit.message
        if visit.delivery.is_finished or message.key in self._memories.finished:
            await self._lose(visit)
            return False
        match await self._rules.verdict_on(visit):
            case None:
                visit.is_judged, visit.generation, visit.give_up_at = True, self._frontier.generation, None
                visit.is_suspect = message.key in self._memories.suspects
            case Awaited(future) if visit.claim is None and _may_wait(visit, self._clock(), self._lease_needed):
                visit.awaited = future
                self._waiting.put(visit, told=future)
            case Awaited(future):
                future.cancel()
                self._endings.put_off(visit, self._clock() + AGAIN_SECONDS)
            case Postponed(until, message):
                visit.message = message
                self._endings.put_off(visit, until)
            case Blocked() as verdict:
                await self._end_unfetched(visit, verdict)
        return visit.is_judged

    async def _lose(self, visit: Visit) -> None:
        """Claim a URL that is known to be finished, so as to be told so: no slot of its host is used up.

        Should it be won, it has been put into the queue anew; then it goes the usual way.
        """
        self._memories.finished.discard(visit.message.key)
        if await self._endings.win(visit):
            self._endings.put_off(visit, self._clock())

    async def _end_unfetched(self, visit: Visit, blocked: Blocked) -> None:
        depth, reason, claim = visit.message.depth, blocked.reason, await self._endings.win(visit)
        if claim and (reason is Reason.DEPTH_LIMIT or depth == REQUISITE_DEPTH) and claim.depth < depth:
            self._judge_anew(visit)
        elif claim and reason in BUDGET_REASONS and is_counted(visit):  # no claim is held while it waits for its turn
            self._memories.counted.add(visit.message.key)
            self._endings.put_off(visit, self._clock())
        elif claim:
            self._endings.finish(visit, End(Outcome(status=reason.status, reason=reason, detail=blocked.detail)))

    # judged -> its turn

    async def _has_its_turn(self, visit: Visit) -> bool:
        if visit.turn_at is not None or visit.permission is not None:  # it has waited for that
            return True
        is_crowded = self._waiting.is_crowded(visit.host)
        match await self._politeness.turn(visit.message, visit.not_before, is_crowded=is_crowded):
            case Turn(at, message, delay):
                visit.message, visit.turn_at, visit.delay_seconds = message, at, delay
                if at > visit.not_before:  # by another slot: others may come before
                    self._hand.lines.step_out(visit)
                if at <= self._clock():
                    return True
                if visit.walls:
                    self._wait_at_wall(visit, at)
                elif not _may_keep_claim(visit, at, self._clock(), self._lease_needed):
                    self._endings.put_off(visit, at)
                else:
                    self._waiting.put(visit, at=at)
            case Postponed(until, message):
                visit.message = message
                if visit.walls:
                    self._wait_at_wall(visit, until)
                else:
                    self._endings.put_off(visit, until)
            case Blocked() as verdict:
                await self._end_unfetched(visit, verdict)
        return False

    def _has_turn_among_suspects(self, visit: Visit) -> bool:
        """One suspect at a time waits to be alone; the others not so long that their messages would come back."""
        now = self._clock()
        if not visit.is_suspect or (visit.claim is None and self._hand.suspects.take(visit)):
            return True
        if visit.wait_until is None:
            visit.wait_until = now + SUSPECT_SECONDS
        if now < visit.wait_until and visit.claim is None:
            self._waiting.put(visit, at=visit.wait_until, told=self._hand.suspects.is_free)
        else:
            self._endings.put_off(visit, now + AGAIN_SECONDS)
        return False

    # its turn -> claimed -> fetched

    async def _ask(self, visit: Visit) -> Asked | None:
        """Claim and fetch; none if it is over, or is to wait again."""
        if self._stopping.is_set() or not self._storing.may_fetch():
            self.send_back(visit)
            return None
        if not self._may_be_asked_for(visit):
            return None
        if not self._hand.enter_gate(visit):
            self._wait_at_gate(visit)
            return None
        visit.cookie = visit.cookie or self._memories.promised.take(visit.message.key)
        message = await self._rules.as_they_are(visit.message)  # it may have waited
        formed = partial(_form_of, visit, self._storing)
        request = Request.of(message, visit.agent, is_alone=visit.is_suspect, formed=formed)
        before_large = partial(self._may_be_large, visit) if visit.space.is_bounded else None
        permission, visit.permission = visit.permission, None
        begin, then = partial(self._begin, visit), partial(self._hand.lines.step_out, visit)
        try:
            answer = await self._politeness.fetch(
                request, permission=permission, begin=begin, before_large=before_large, then=then
            )
        finally:
            self._endings.tally.in_flight -= visit.is_in_flight
            visit.is_in_flight = False
        match answer:
            case Asked():
                visit.is_fetched = True
                self._hand.lines.step_out(visit)
                return answer
            case Busy():
                self._wait_for_busy(visit, answer)
            case None if not visit.is_over:  # the frontier was cleared
                self._judge_anew(visit)
        return None

    def _may_be_asked_for(self, visit: Visit) -> bool:
        """Whether its page may wait for who takes pages, and it is its turn of those who ask its host. If not it waits:
        as long as for a busy host; what was claimed along, as long as its lease allows."""
        holding = self._endings.holding
        is_full = holding is not None and not holding.has_room_for(visit)
        if not is_full and self._hand.is_first_in_line(visit):
            return True
        if not _may_wait(visit, self._clock(), self._lease_needed):
            self._endings.put_off(visit, self._clock() + AGAIN_SECONDS)
        elif holding is not None and is_full:
            self._hand.lines.step_out(visit)
            self._waiting.put(visit, at=visit.give_up_at, told=holding.step_up(visit))
        else:
            self._hand.put_back_in_line(visit)
        return False

    def _wait_at_gate(self, visit: Visit) -> None:
        """It keeps no runner from those inside, and waits as long as a fetch of theirs may take: somebody who takes
        pages may have one for longer, and its message would come back by itself."""
        self._hand.lines.step_out(visit)
        now, give_up_at = self._clock(), visit.taken_at + self._lease_needed
        if now < give_up_at:
            self._waiting.put(visit, at=give_up_at, told=visit.ticket)
        else:
            self._endings.put_off(visit, now + AGAIN_SECONDS)

    async def _begin(self, visit: Visit) -> float | None:
        """Claim a URL whose host may be asked now. The latest moment to ask; none if it is not to be asked for."""
        if visit.claim is None and self._frontier.generation != visit.generation:
            return None
        with self._hand.next_in_line(visit) as others:
            claim = await self._endings.win(visit, others)
        if claim is None or self._endings.is_suspended(visit, claim):
            return None
        self._endings.tally.in_flight += 1
        visit.is_in_flight = visit.is_begun = True
        return claim.lease_until - self._lease_needed

    async def _may_be_large(self, visit: Visit) -> bool:
        """Asked by the fetcher before it reads the rest of a large body."""
        visit.space.is_refused = not await visit.space.take() or self._stopping.is_set()
        return not visit.space.is_refused

    def _wait_for_busy(self, visit: Visit, busy: Busy) -> None:
        """What is claimed is given back unused; the rest waits here for a while."""
        now = self._clock()
        if visit.walls and not busy.is_stopped:
            visit.turn_at, visit.not_before = None, busy.again_at
            visit.message = msgspec.structs.replace(visit.message, slot=None)
            self._wait_at_wall(visit, busy.again_at)
            return
        if (busy.is_stopped and visit.claim is not None) or not _may_keep_claim(
            visit, busy.again_at, self._clock(), self._lease_needed
        ):
            self._endings.put_off(visit, now if busy.is_stopped else busy.again_at)
            return
        if busy.is_stopped:
            self._judge_anew(visit)
            return
        if not _may_wait(visit, self._clock(), self._lease_needed):
            self._endings.put_off(visit, max(busy.again_at, now + AGAIN_SECONDS))
            return
        if visit.claim is None:
            self._hand.leave_gate(visit)
        visit.turn_at, visit.not_before = None, busy.again_at
        if busy.is_void:
            visit.message = msgspec.structs.replace(visit.message, slot=None)
        self._waiting.put(visit)

    def _judge_anew(self, visit: Visit) -> None:
        self._hand.forget_judgement(visit)
        self._waiting.put(visit)

    # fetched -> kept -> held -> ended

    async def _conclude(self, visit: Visit, asked: Asked) -> None:
        fetched, learned, message = asked.fetched, asked.learned, visit.message
        self._endings.tally.add_fetch(message.crawl_name, fetched.elapsed_seconds)
        if visit.space.is_refused:  # another worker may have some
            self._endings.give_back(visit, 0.0)
            return
        if visit.is_check and await is_to_be_asked_otherwise(visit, asked, self._rules, self._endings):
            return
        if is_at_wall(visit, fetched, self._memories.promised):
            self._storing.note(self._storing.capture_of(visit, asked, message))
            self._ask_again_with_cookie(visit)
            return
        message = await self._rules.as_they_are(message)
        assessed = await self._rules.assess(visit, message, fetched)
        outcome, capture = assessed.outcome, self._storing.capture_of(visit, asked, message, assessed.page)
        self._memories.forget_what_was_cleared()
        if not learned.counts:  # it was the host's, or ours
            self._storing.give_back(visit, learned.again_at, outcome, capture)
            seconds = round(learned.again_at - self._clock(), 1)
            log.info("waits", url=message.url, reason=outcome.reason, in_seconds=seconds)
        elif not self._storing.try_again(visit, outcome, learned.retry_after, capture):
            links, outlinks, skipped = await self._rules.links(message, assessed)
            outcome = msgspec.structs.replace(outcome, links_skipped=skipped) if skipped else outcome
            visited = visited_as(message, fetched, outcome, assessed)
            last = await self._memories.record_all_but_last(links)
            if self._endings.holding is not None and is_for_takers(outcome, message):
                last = await self._memories.record_before_the_end(last)
            self._storing.finish(visit, End(outcome, visited, last, outlinks), capture)

    def _ask_again_with_cookie(self, visit: Visit) -> None:
        """Its claim is kept, so that the cookie is; its host's delay holds for this request, too."""
        visit.message = msgspec.structs.replace(visit.message, slot=None)
        visit.turn_at, visit.not_before, visit.is_fetched = None, 0.0, False
        self._waiting.put(visit)

    def _wait_at_wall(self, visit: Visit, until: float) -> None:
        """It waits with its claim; given back, it would come to the same wall, again and again."""
        assert visit.claim is not None
        if until <= visit.claim.lease_until - self._lease_needed:
            self._waiting.put(visit, at=until)
        else:
            self._endings.finish(visit, End(TOO_LATE_AT_WALL))


def _form_of(visit: Visit, storing: Storing) -> Form:
    """What is asked beside the usual: by the claim, which is made just before the request."""
    visit.is_check = visit.is_check and visit.message.depth > 0  # by the claim: a seed that was given since is a page
    if visit.is_check:
        return form_of_check(visit)
    kept = visit.claim.kept if visit.claim is not None else None
    conditions = conditions_of(kept) if storing.can_refer_to(kept, visit.message) else ()
    headers = (f"Cookie: {visit.cookie}", *conditions) if visit.cookie else conditions
    settings = visit.message.settings
    return Form(headers, wants=partial(wants_body, settings=settings)) if settings.only else Form(headers)


def _may_keep_claim(visit: Visit, until: float, now: float, lease_needed: float) -> bool:
    """Whether it may wait until a moment with its claim, if it has one: what stands in line soon has its turn."""
    if visit.claim is None:
        return True
    return visit.delay_seconds > 0 and until <= min(now + NEAR_SECONDS, visit.claim.lease_until - lease_needed)


def _may_wait(visit: Visit, now: float, lease_needed: float) -> bool:
    """Whether a visit may wait here once more: not so long that its message would come back by itself, with a receive
    counted."""
    if visit.claim is not None:
        visit.give_up_at = visit.claim.lease_until - lease_needed
    elif visit.give_up_at is None:
        visit.give_up_at = now + BUSY_SECONDS
    return now < visit.give_up_at
