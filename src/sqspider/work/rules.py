"""By which rules a delivery is judged: its crawl's, as the row says them now; and what a fetch means by them.

Whether and when a host may be asked is decided in ``politeness``.
"""

from __future__ import annotations

from functools import partial

import msgspec

from sqspider.frontier import Clock
from sqspider.message import Message
from sqspider.patterns import TooSlowError
from sqspider.politeness import Awaited, Politeness, Postponed
from sqspider.scope import TOO_LONG, Blocked, Measure, cut_off, is_to_be_checked
from sqspider.url import is_cut
from sqspider.web.fetch import Fetched
from sqspider.widening import is_let_in
from sqspider.work.budgets import Budgets
from sqspider.work.crawls import BARRED_SECONDS, CrawlRows, Known, Later, Unfit, others_wait
from sqspider.work.desk import Desk
from sqspider.work.endings import Endings
from sqspider.work.hand import Hand, Visit
from sqspider.work.memories import Memories
from sqspider.work.page import Assessed, End, Links, assess, links_of, new_links
from sqspider.work.scopes import Scopes


class Rules:
    """The rules that visits go by."""

    def __init__(
        self,
        crawls: CrawlRows,
        scopes: Scopes,
        politeness: Politeness,
        desk: Desk,
        endings: Endings,
        hand: Hand,
        memories: Memories,
        budgets: Budgets,
        *,
        clock: Clock,
    ) -> None:
        self.scopes = scopes
        self._crawls = crawls
        self._politeness = politeness
        self._desk = desk
        self._endings = endings
        self._waiting = hand.waiting
        self._memories = memories
        self._budgets = budgets
        self._clock = clock
        self._for_others = 0  # messages that were put off for them

    async def are_known(self, visit: Visit) -> bool:
        """Whether they are known, and the visit is to be judged by them; it is over, or waits, otherwise."""
        ref = visit.message.crawl
        match await self._crawls.resolve(visit.message):
            case Known(message, agent):
                visit.message, visit.agent, visit.row = message, agent, self._crawls.of(message)
                return True
            case Later(at):
                self._waiting.put(visit, at=at)
            case Unfit.GONE:
                self._endings.tally.dropped += 1
                self._endings.end_delivery(visit, self._desk.delete(visit.delivery))
            case Unfit.RESTS if visit.claim is None:
                assert ref is not None
                put_aside = self._desk.park(visit.delivery)
                put_aside.add_done_callback(partial(self._crawls.note_put_aside, ref))
                self._endings.end_delivery(visit, put_aside)
            case Unfit.RESTS:
                self._endings.put_off(visit, self._clock())  # it is put aside when it comes back
            case Unfit.BARRED:
                self._endings.put_off(visit, self._clock() + BARRED_SECONDS)
            case Unfit.OTHERS:
                self._for_others += 1
                self._endings.put_off(visit, self._clock() + others_wait(self._for_others))
        return False

    async def as_they_are(self, message: Message) -> Message:
        """A message with the rules that hold by now: they may have changed since it was judged. What is fetched by
        another delay than that of now would be too early, or hold up what waits; and what was cut since then by those
        of before would not come back."""
        return await self._crawls.as_it_is(message)

    async def assess(self, visit: Visit, message: Message, fetched: Fetched) -> Assessed:
        """What a fetch means for a visit's record; ``message``: with the rules as they are."""
        assert visit.agent is not None
        measure = None
        if fetched.redirect_to is not None:
            measure = await self.scopes.measure(message, (fetched.redirect_to,))
        kept = visit.claim.kept if visit.claim is not None else None
        return assess(fetched, message, visit.agent.product_token, measure, kept, is_check=visit.is_check)

    async def links(self, message: Message, assessed: Assessed) -> Links:
        """Where a visit leads. Where a seed leads to by then is noted as one."""
        recorded = self._memories.recorded
        links = new_links(assessed.page, message, recorded)
        if message.crawl is None:
            measure = Measure.of(message.settings, message.seed)
        else:
            measure = await self.scopes.measure_links(message, assessed, links)
        return links_of(assessed, message, recorded, links, measure)

    def still_hold(self, visit: Visit) -> bool:
        """Whether a visit's rules are those that hold by now, as far as is known without asking."""
        return self._crawls.is_still(visit.row, visit.message)

    async def by_now(self, visit: Visit, end: End) -> End | None:
        """The end of a visit that was held, by the rules that hold by now: with the links that they let in; none: it
        is to be judged anew, as they lift what it was blocked for."""
        message = await self.as_they_are(visit.message)
        before, row = visit.row, self._crawls.of(message)
        if before is None or row is None or row is before:
            return end
        if is_let_in(end.outcome.reason, message.depth, before, row):
            return None
        visited = end.visited
        if visited is None or (visited.page is None and not visited.requisites):
            return end
        assessed = Assessed(outcome=end.outcome, page=visited.page, requisites=visited.requisites)
        links, outlinks, skipped = await self.links(message, assessed)
        outcome = msgspec.structs.replace(end.outcome, links_skipped=skipped)
        return End(outcome, visited, await self._memories.record_all_but_last(links), outlinks)

    async def verdict_on(self, visit: Visit) -> Blocked | Postponed | Awaited | None:
        """Whether a URL may be fetched, as :meth:`Politeness.judge` says it. What was queued before its crawl's limits
        were narrowed, or to end by them, is held to them; but a seed, which somebody asked for, is not."""
        message, visit.is_check = visit.message, False
        if is_cut(message.url):
            return TOO_LONG
        if self._is_held_to_limits(message):
            measure = self.scopes.known(message) or await self.scopes.measure(message, ())
            visit.is_check = is_to_be_checked(message.url, message.depth, message.settings, measure)
            cut = None if visit.is_check else cut_off(message.url, message.depth, message.settings, measure)
            if cut is not None:
                return cut
        if (verdict := await self._politeness.judge(message, visit.agent)) is not None:
            return verdict
        return await self._budgets.take(visit, self._crawls.of(message), self._crawls.spent_before(message))

    async def is_still_a_check(self, message: Message) -> bool:
        """Whether what was checked is not to be fetched as a page, by the rules as they are: it may lie within by now.
        Asked once more after it was, since whoever finds it within meanwhile takes it for one that is fetched."""
        measure = self.scopes.known(message) or await self.scopes.measure(message, ())
        return message.depth > 0 and is_to_be_checked(message.url, message.depth, message.settings, measure)

    def may_be_cut_off(self, message: Message) -> bool:
        """Whether a URL may be one of those that are recorded to end by their crawl's limits, as far as is known here:
        no host is entered for such. It reads only: amid a turn."""
        if not message.keeps_skipped or not self._is_held_to_limits(message):
            return False
        measure, url, depth, settings = self.scopes.known(message), message.url, message.depth, message.settings
        if measure is None:
            return True
        try:
            is_check = is_to_be_checked(url, depth, settings, measure)
            return not is_check and cut_off(url, depth, settings, measure) is not None
        except TooSlowError:
            return True

    def _is_held_to_limits(self, message: Message) -> bool:
        row = self._crawls.of(message)
        if row is None or message.depth == 0:
            return False
        return message.is_requisite or message.keeps_skipped or message.checks_external or not row.is_as_made
