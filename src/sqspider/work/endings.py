"""How a visit ends: claims finished or given back, deliveries put off; and what is remembered once it is committed.

Whoever ends a visit does not wait for the frontier. Only when that has answered are its links known to be recorded,
is it counted and logged, and what it held given back. What a busy frontier did not take is given back later.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from sqspider import retry
from sqspider.frontier import (
    ClaimRequest,
    Clock,
    Deferral,
    Delivery,
    Finish,
    Frontier,
    FrontierBusyError,
    FrontierError,
    Lost,
    LostReason,
    Retry,
    Won,
)
from sqspider.log import get_logger
from sqspider.record import Outcome, Reason, status_for
from sqspider.revisit import after_visit, revisit_of
from sqspider.work.budgets import Budgets
from sqspider.work.desk import Desk
from sqspider.work.hand import Hand, Visit, on_its_way
from sqspider.work.holding import Holding
from sqspider.work.memories import Memories
from sqspider.work.page import End, Visited
from sqspider.work.suspects import CRASHED, Suspicion, suspicion_of
from sqspider.work.tally import Tally

log = get_logger(__name__)


class Endings:
    """The claims of one worker, and the ends of its visits."""

    def __init__(
        self,
        frontier: Frontier,
        desk: Desk,
        hand: Hand,
        memories: Memories,
        budgets: Budgets,
        *,
        first_retry_seconds: float,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self.tally = Tally()
        self.unended: dict[str, Delivery] = {}  # by receipt
        self.under_way = 0  # ends that are not answered yet
        self._frontier = frontier
        self._desk = desk
        self._hand = hand
        self._memories = memories
        self._budgets = budgets
        self._first_retry_seconds = first_retry_seconds
        self._clock = clock
        self._rng = rng
        self.holding: Holding | None = None  # where somebody takes the pages
        self._left: list[Retry] = []  # claims that a busy frontier did not let us end
        self.failure: BaseException | None = None  # what makes work impossible, met by an end
        self._failed = asyncio.Event()

    async def watch(self) -> None:
        """Raise what makes work impossible, as soon as an end meets it."""
        await self._failed.wait()
        assert self.failure is not None
        raise self.failure

    def begin_anew(self, deliveries: Iterable[Delivery]) -> None:
        """Forget what was left and counted before; these deliveries are to be ended."""
        self.tally = Tally()
        self._left.clear()
        self.failure = None
        self._failed.clear()
        self.unended = {delivery.receipt: delivery for delivery in deliveries}

    # Claims.

    async def win(self, visit: Visit, others: Sequence[Visit] = ()) -> Won | None:
        """Claim a visit's URL, if it is not yet, along with those of others, which are asked for soon after it. What of
        those could not be claimed is as it was."""
        if visit.claim is not None:
            return visit.claim
        asked = [self._desk.claim(ClaimRequest(delivery=it.delivery, message=it.message)) for it in (visit, *others)]
        own, *answers = await asyncio.gather(*asked, return_exceptions=True)
        for other, answer in zip(others, answers, strict=True):
            claim = None if isinstance(answer, BaseException) else self.note_claim(other, answer)
            if claim is not None:
                self.is_suspended(other, claim)
        if isinstance(own, BaseException):
            raise own
        return self.note_claim(visit, own)

    def note_claim(self, visit: Visit, claim: Won | Lost) -> Won | None:
        """Take a claim that was won. What was lost is over: the URL is finished, or somebody else's for now."""
        url = visit.message.url
        if isinstance(claim, Won):
            log.info(f"WON race — claimed for processing: {url}")
            visit.claim = claim
            visit.message = on_its_way(visit.message, claim)
            return claim
        if claim.why is LostReason.REFUSED:
            # Left unended, as a message that is none: it comes back until it reaches the dead letters.
            log.warning("refused", url=url, message_id=visit.delivery.message_id, why=claim.detail)
            visit.is_over = True
            return None
        self.tally.add_lost(visit.message.crawl_name)
        log.info(f"LOST race — already claimed by another consumer: {url}")
        if claim.why is LostReason.FINISHED:
            self._memories.finished.add(visit.message.key)
            self.hand_in(visit, self._desk.delete(visit.delivery), self._end_delivery)
        else:
            self._defer(visit, claim.lease_until, is_changed=False)
        return None

    def is_suspended(self, visit: Visit, claim: Won) -> bool:
        """Whether a URL may not be fetched now, for it may kill its worker. It is ended then, or given back."""
        match suspicion_of(claim, is_alone=visit.is_suspect):
            case Suspicion.NONE:
                return False
            case Suspicion.GIVEN_UP:
                self.finish(visit, End(CRASHED))
            case Suspicion.TO_BE_ALONE:  # no lease is held while it waits for its turn
                unended = claim.unended - 1
                log.warning(
                    "suspect", url=visit.message.url, unended_claims=unended, fetched="alone, when it comes back"
                )
                self._memories.suspects.add(visit.message.key)
                self.put_off(visit, self._clock())
        return True

    # Ends without a fetch.

    def put_off(self, visit: Visit, until: float) -> None:
        """Nothing was asked: look at it again at a moment. What is not claimed keeps the slot that it has."""
        if visit.claim is None:
            self._defer(visit, until)
        else:
            self._put_back(visit, until, tried=False, is_unused=True)

    def end_delivery(self, visit: Visit, answer: asyncio.Future[None]) -> None:
        """A delivery ends unclaimed, when the frontier has answered."""
        self.hand_in(visit, answer, self._end_delivery)

    def _defer(self, visit: Visit, until: float, *, is_changed: bool = True) -> None:
        message = visit.message if is_changed else None
        deferral = Deferral(delivery=visit.delivery, until=until, message=message)
        self.hand_in(visit, self._desk.defer(deferral), partial(self._end_delivery, is_deferred=True))

    def give_back(self, visit: Visit, at: float, outcome: Outcome | None = None, *, tried: bool = False) -> None:
        """Put it into the queue for later. ``tried``: the URL pays with a try for what it met."""
        self._memories.suspects.discard(visit.message.key)
        self._put_back(visit, at, tried=tried, outcome=outcome)

    def _put_back(self, visit: Visit, at: float, **more: Any) -> None:
        assert visit.claim is not None
        end = Retry(claim=visit.claim, delivery=visit.delivery, at=at, **more)
        self.hand_in(visit, self._desk.retry(end), partial(self._given_back, end))

    # Ends of what was tried.

    def finish(self, visit: Visit, end: End) -> None:
        """End a record, with the links that were found there: at once, or when who takes the pages has done with it."""
        if self.holding is None or not end.outcome.is_page:
            self.end(visit, end)
        else:
            self.holding.hold(visit, end)

    def end(self, visit: Visit, end: End) -> None:
        """End a record, now."""
        claim = visit.claim
        assert claim is not None
        headers = end.visited.fetched.headers if end.visited is not None else ()
        finish = Finish(
            claim=claim,
            delivery=visit.delivery,
            outcome=end.outcome,
            links=end.links,
            kept=after_visit(claim.kept, end.outcome, headers, self._clock()),
            outlinks=end.outlinks,
            spends=self._budgets.spends(visit, end.outcome),
        )
        ended = self._desk.finish(finish)
        self.hand_in(visit, ended, partial(self._finished, finish, end.visited, self._memories.generation))

    def end_in_error(self, visit: Visit) -> None:
        """A fault of ours in a visit: the URL is tried again, or failed by that. Without a claim it comes back."""
        visit.is_in_error = visit.is_over = True
        if visit.claim is None:
            return
        reason = Reason.INTERNAL_ERROR
        outcome = Outcome(status=status_for(reason), reason=reason, detail="see the worker's log")
        again_at = self.next_try(visit, outcome, None)
        if again_at is None:
            self.finish(visit, End(outcome))
        else:
            self.give_back(visit, again_at, outcome, tried=True)

    def next_try(self, visit: Visit, outcome: Outcome, retry_after: float | None) -> float | None:
        """When the URL is to be tried again, if the policy has another try."""
        if outcome.reason is None or visit.claim is None:
            return None
        rule, tries = retry.rule_for(outcome.reason, outcome.http_status), visit.claim.tries + 1
        wait = retry.wait_before_retry(rule, tries, self._first_retry_seconds, retry_after, self._rng)
        if wait is None:
            return None
        log.info("retry", url=visit.message.url, reason=outcome.reason.value, in_seconds=round(wait, 1))
        return self._clock() + wait

    # What a busy frontier did not let us end.

    def put_aside(self, visit: Visit, error: FrontierBusyError) -> None:
        """A visit that a busy frontier broke off: what was claimed is given back later, what was not comes back."""
        log.warning("frontier_busy", url=visit.message.url, error=str(error))
        self._leave(visit)
        visit.is_over = True

    def give_up(self, visit: Visit) -> None:
        """Its time is over. What was fetched and could not be ended is left to its lease: if that happens to a page
        again and again, it is given up like one that kills its worker."""
        if not visit.is_fetched:
            self._leave(visit)

    def _leave(self, visit: Visit) -> None:
        """Its claim is given back later. What was not begun stays as suspect as it was."""
        if visit.claim is not None:
            claim, delivery, now = visit.claim, visit.delivery, self._clock()
            is_unused = not visit.is_begun
            self._left.append(Retry(claim=claim, delivery=delivery, at=now, tried=False, is_unused=is_unused))

    @property
    def are_some_left(self) -> bool:
        """There are claims to be given back."""
        return bool(self._left)

    async def give_back_what_was_left(self) -> None:
        """Give back claims that could not be ended, though not by their URLs' fault. Raises :class:`FrontierError`."""
        if not self._left:
            return
        gifts, self._left = self._left, []
        try:
            answers = await self._frontier.retry(gifts)
        except FrontierBusyError:
            self._left += gifts
            raise
        for gift, is_given in zip(gifts, answers, strict=True):
            if is_given:
                self.unended.pop(gift.delivery.receipt, None)

    # When the frontier has answered.

    def hand_in(self, visit: Visit, answer: asyncio.Future[Any], then: Callable[[Visit, Any], None]) -> None:
        """A visit ends with an answer, and what follows from it."""
        visit.is_over = True
        visit.ending += 1
        self.under_way += 1
        answer.add_done_callback(partial(self._settle, visit, then))

    def _settle(self, visit: Visit, then: Callable[[Visit, Any], None], answer: asyncio.Future[Any]) -> None:
        self.under_way -= 1
        visit.ending -= 1
        try:
            then(visit, answer.result())
        except FrontierBusyError as error:
            self.put_aside(visit, error)
        except BaseException as error:
            if isinstance(error, FrontierError) or visit.is_in_error or not isinstance(error, Exception):
                self.failure = self.failure or error  # raised by watch, where somebody hears of it
                self._failed.set()
            else:
                log.exception("internal_error", url=visit.message.url)
                self.end_in_error(visit)
        if not visit.ending:
            self._hand.release(visit)

    def _finished(self, end: Finish, visited: Visited | None, generation: int, visit: Visit, is_finished: bool) -> None:
        claim, outcome = end.claim, end.outcome
        if not is_finished:
            log.warning("stale_claim", url=visit.message.url, attempt=claim.attempt)
            return
        self._end_delivery(visit)
        crawl = visit.message.crawl_name
        is_again = claim.visit > 0 and self._budgets.crawl in (None, crawl)
        self.tally.add_finished(crawl, outcome, again=revisit_of(claim.kept, outcome) if is_again else None)
        self._budgets.settle(end.spends)
        # Only now are they known to be recorded; links of a claim that failed must be seen again.
        self._memories.remember_finished(end, generation)
        if visited is not None and visited.page is not None and visited.page.left_out:
            reasons = {reason.value: number for reason, number in visited.page.left_out.items()}
            log.info("links_left_out", url=visit.message.url, **reasons)
        exchange = visited.fetched.exchange if visited is not None else None
        log.debug(
            "finished",
            url=visit.message.url,
            status=outcome.status.value,
            reason=outcome.reason.value if outcome.reason else None,
            http_status=outcome.http_status,
            bytes=outcome.bytes,
            elapsed_ms=outcome.elapsed_ms,
            protocol=exchange.protocol if exchange is not None else None,
        )

    def _given_back(self, end: Retry, visit: Visit, is_given: bool) -> None:
        if not is_given:
            log.warning("stale_claim", url=visit.message.url, attempt=end.claim.attempt)
            return
        self._end_delivery(visit)
        self.tally.add_given_back(visit.message.crawl_name, tried=end.tried)

    def _end_delivery(self, visit: Visit, _: None = None, *, is_deferred: bool = False) -> None:
        self.unended.pop(visit.delivery.receipt, None)
        if is_deferred:
            self.tally.add_deferred(visit.message.crawl_name)
