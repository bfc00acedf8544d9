"""How much may be taken, and by which of its limits a URL may not be fetched: a run's pages, a crawl's pages and bytes,
and so much of each host in a crawl.

    limit                         what a page takes       where nothing is left
    ----------------------------  ----------------------  ------------------------------------------------------
    --max-pages                   a page of the run       nothing more is taken in (``intake``)
    --limit-pages, --limit-bytes  a page of the crawl     the crawl rests (``crawls``); until it does, put off
    --host-pages, --host-bytes    one of the host in it   blocked; what others have and may not spend is put off for

All of them are exact over workers, for all are shares of what is left (:mod:`sqspider.frontier.shares`). A host counts
what was fetched, redirects too; a run and a crawl count pages. What was counted at a visit before is not counted again
by its host; what is put back counts no more in its crawl (:mod:`sqspider.again`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from sqspider.crawl_row import Crawl
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Clock, Frontier, FrontierBusyError, FrontierError
from sqspider.frontier.batcher import Batcher
from sqspider.frontier.shares import Most, Spend, Spent, run_of, run_of_crawl
from sqspider.log import get_logger
from sqspider.politeness import Postponed
from sqspider.record import Outcome, Reason
from sqspider.scope import Blocked
from sqspider.work.hand import Visit
from sqspider.work.memories import Memories
from sqspider.work.options import WorkerOptions
from sqspider.work.purse import Place, Purse

LOOK_SECONDS: Final = 1.0  # between two looks at what is to be given back, or asked for anew
AT_A_TIME: Final = 25  # runs that are asked about together

log = get_logger(__name__)


def has_budget(settings: CrawlSettings) -> bool:
    """Whether a crawl has one for each host."""
    return settings.host_pages is not None or settings.host_bytes is not None


def most_of_host(settings: CrawlSettings) -> Most:
    """How much a crawl takes of each host."""
    return Most(settings.host_pages, settings.host_bytes)


def used_up(host: str, spent: Spent, most: Most) -> Blocked | None:
    """Whether a crawl takes no more of a host."""
    if most.bytes is not None and spent.bytes >= most.bytes:
        return Blocked(Reason.HOST_BYTE_LIMIT, f"{spent.bytes:,} bytes of {host} were read")
    if most.pages is not None and spent.pages >= most.pages:
        return Blocked(Reason.HOST_PAGE_LIMIT, f"{spent.pages:,} pages of {host} were fetched")
    return None


class Budgets:
    """What one worker has of all that is bounded."""

    def __init__(
        self, frontier: Frontier, memories: Memories, options: WorkerOptions, run: str, *, clock: Clock
    ) -> None:
        self.crawl: str | None = None  # whose pages are the run's; none: those of all
        self._memories = memories
        self._options = options
        self._clock = clock
        self._ask = Batcher(frontier.share, size=AT_A_TIME)
        self._purses: dict[str, Purse] = {}
        self._are_some = asyncio.Event()
        self._run = None if options.max_pages is None else self._purse(run)

    def _purse(self, run: str) -> Purse:
        if run not in self._purses:
            self._purses[run] = Purse(
                self._ask, run, worker_id=self._options.worker_id, seconds=self._options.lease_seconds,
                clock=self._clock,
            )  # fmt: skip
            self._are_some.set()
        return self._purses[run]

    # The run's.

    async def left_of_run(self, in_hand: int, wanted: int) -> int | None:
        """How many pages of the run may be taken beside those in hand; none: it has no limit. Raises
        :class:`sqspider.frontier.FrontierError`."""
        if self._run is None:
            return None
        self._run.in_hand = in_hand
        return await self._run.want(wanted, Most(self._options.max_pages))

    @property
    def may_become_free(self) -> bool:
        """Others have pages of the run in hand that may come to nothing: their workers may have died."""
        return self._run is not None and self._run.portion.others > 0

    # Of what is judged.

    async def take(self, visit: Visit, crawl: Crawl | None, spent_before: Spent) -> Blocked | Postponed | None:
        """Take a page in hand of all that bounds a URL; ``spent_before``: by its crawl, before it was bounded."""
        settings = visit.message.settings
        if has_budget(settings) and not (is_counted(visit) or visit.message.key in self._memories.counted):
            verdict = await self._take_of_host(visit, most_of_host(settings))
            if verdict is not None:
                return verdict
        if crawl is not None and crawl.limits.are_counted:
            most = Most(crawl.limits.pages, crawl.limits.bytes)
            if not await self._take_one(visit, run_of_crawl(crawl), most, spent_before, is_of_pages=True):
                return Postponed(self._purse(run_of_crawl(crawl)).refused_until, visit.message)
        return None

    async def _take_of_host(self, visit: Visit, most: Most) -> Blocked | Postponed | None:
        run = run_of(visit.message.crawl, visit.host)
        spent = self._memories.used_up.spent(run, most)
        if spent is None:
            if await self._take_one(visit, run, most, Spent(), is_of_pages=False):
                return None
            spent = self._purse(run).portion.spent
            if not most.is_spent(spent):
                return Postponed(self._purse(run).refused_until, visit.message)
            self._memories.used_up.add(run, most, spent)
        return used_up(visit.host, spent, most)

    async def _take_one(self, visit: Visit, run: str, most: Most, before: Spent, *, is_of_pages: bool) -> bool:
        purse = self._purse(run)
        is_taken = await purse.take(most, before)
        if is_taken:
            visit.places.append(Place(purse, is_of_pages))
        else:
            visit.give_back_places()
        return is_taken

    # Of what ends.

    def spends(self, visit: Visit, outcome: Outcome) -> tuple[Spend, ...]:
        """Where an end is counted."""
        if not outcome.was_fetched:
            return ()
        is_of_run = self.crawl in (None, visit.message.crawl_name)
        of_run = [Place(self._run, is_of_pages=True)] if self._run is not None and is_of_run else []
        return tuple(
            Spend(place.purse.run, int(not (place.is_of_pages and outcome.is_redirect)))
            for place in (*self._places_of(visit), *of_run)
        )

    def _places_of(self, visit: Visit) -> Iterable[Place]:
        """Those that a visit needs: none of its host, if that has counted it before."""
        return [place for place in visit.places if place.is_of_pages or not is_counted(visit)]

    def settle(self, spends: Sequence[Spend]) -> None:
        """They were counted."""
        for spend in spends:
            if (purse := self._purses.get(spend.run)) is not None:
                purse.settle(spend.pages)

    # Shares are kept, and given back.

    async def keep(self) -> None:
        """Keep what is in hand, and give back what is not, until cancelled."""
        while True:
            await self._are_some.wait()
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await asyncio.gather(*map(self._keep_one, list(self._purses.values())))
            except FrontierBusyError as error:
                log.warning("frontier_busy", during="shares", error=str(error))

    async def _keep_one(self, purse: Purse) -> None:
        if purse.is_due:
            await purse.renew()
        is_over = purse is not self._run and not purse.in_hand and await purse.give_back()
        if is_over and not purse.is_refused:
            self._drop(purse)

    def _drop(self, purse: Purse) -> None:
        self._purses.pop(purse.run, None)
        if not self._purses:
            self._are_some.clear()

    async def close(self) -> None:
        """Nothing is in hand any more: what is left is for others. Should that fail, it is theirs when its time is
        over."""
        if self._run is not None:
            self._run.in_hand = 0
        given = await asyncio.gather(*(purse.give_back() for purse in self._purses.values()), return_exceptions=True)
        for error in given:
            if isinstance(error, FrontierError):
                log.warning("share_kept", error=str(error))
            elif isinstance(error, BaseException):
                raise error
        for purse in [purse for purse in self._purses.values() if purse is not self._run]:
            self._drop(purse)
        await self._ask.close()


def is_counted(visit: Visit) -> bool:
    """Whether its host counted a URL at a visit before, by its claim."""
    return visit.claim is not None and visit.claim.kept is not None and visit.claim.kept.was_counted
