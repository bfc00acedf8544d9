"""From where the scope of each crawl is measured: from all its seeds, as far as a worker has asked for them.

What is a seed's site stays one; what is none may become one, which the crawl's row tells by its ``seeds_version``.
Seeds are kept by site, and asked for by the sites of a page's links: one call a page at most, and none for most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Final

from sqspider.crawl_row import Crawl, CrawlRef
from sqspider.frontier import Clock, Frontier
from sqspider.log import get_logger
from sqspider.message import Message
from sqspider.scope import Measure, site_of
from sqspider.url import Scope
from sqspider.work.crawls import CrawlRows
from sqspider.work.page import Assessed, seed_led_to
from sqspider.work.seeding import add_seeds, is_measured, mark_of, note_seeds_anew

ABSENT_SECONDS: Final = 60.0  # that a site is held to have no seed: whoever noted one may have died before it said so
MOST_SITES: Final = 20_000  # of one crawl that are remembered
MOST_CRAWLS: Final = 100

log = get_logger(__name__)


class _Sites:
    """What is known of one crawl's seeds."""

    def __init__(self) -> None:
        self.scope: Scope | None = None
        self.version = -1
        self.since = 0.0  # when the first of ``absent`` was asked for
        self.folders: dict[str, frozenset[str]] = {}  # by site
        self.absent: set[str] = set()
        self.is_noted = False  # the seeds are, for this kind of scope

    def forget_what_may_have_changed(self, row: Crawl, now: float) -> None:
        scope = row.settings.scope
        if scope is not self.scope:
            self.folders.clear()
            self.is_noted = False
        if (scope, row.seeds_version) != (self.scope, self.version) or not 0 <= now - self.since < ABSENT_SECONDS:
            self.absent.clear()
            self.since = now
            if scope is Scope.PREFIX:  # a site has as many folders as seeds
                self.folders.clear()
        self.scope, self.version = scope, row.seeds_version

    def note(self, asked: Iterable[str], found: dict[str, frozenset[str]]) -> None:
        for kept in (self.folders, self.absent):
            if len(kept) >= MOST_SITES:
                kept.clear()
        self.folders.update(found)
        self.absent.update(site for site in asked if site not in found)


class Scopes:
    """What one worker knows of the seeds of all crawls."""

    def __init__(self, frontier: Frontier, crawls: CrawlRows, *, clock: Clock) -> None:
        self._frontier = frontier
        self._crawls = crawls
        self._clock = clock
        self._sites: dict[CrawlRef, _Sites] = {}
        self._noting = asyncio.Lock()  # of seeds anew, which reads all records

    def known(self, message: Message) -> Measure | None:
        """From where the scope is measured for a message's own URL, where nothing is to be asked for that."""
        settings, row = message.settings, self._crawls.of(message)
        if message.crawl is None:
            return Measure.of(settings, message.seed)
        if row is None or not is_measured(settings.scope):
            return Measure(settings.scope, "", {})
        sites = self._sites_of(message.crawl, row)
        return (
            Measure(settings.scope, "", sites.folders)
            if site_of(message.url, settings.scope) in sites.folders
            else None
        )

    async def measure(self, message: Message, urls: Sequence[str]) -> Measure:
        """From where the scope is measured for some URLs that a message's URL led to, and for that itself."""
        known, row, scope = self.known(message), self._crawls.of(message), message.settings.scope
        if message.crawl is None or row is None or not is_measured(scope):  # no row: it was removed meanwhile
            assert known is not None
            return known
        sites = self._sites_of(message.crawl, row)
        own = site_of(message.url, scope)
        asked = {
            site for url in urls if (site := site_of(url, scope)) not in sites.folders and site not in sites.absent
        }
        if own not in sites.folders:  # in the worst case all of its links are of its own site: look again
            asked.add(own)
        if asked and not sites.is_noted:
            await self._note_where_needed(row, sites)
        if asked:
            found = await self._frontier.seeds(message.crawl, sorted(asked))
            sites.note(asked, found)
        return Measure(scope, "", sites.folders)

    async def _note_where_needed(self, row: Crawl, sites: _Sites) -> None:
        """Note the seeds of a crawl whose scope is of another kind by now, if nobody has yet."""
        async with self._noting:
            mark = mark_of(row.settings.scope)
            if not sites.is_noted and mark not in await self._frontier.seeds(row.ref, (mark,)):
                log.info("seeds_noted_anew", crawl=row.name, scope=row.settings.scope.value)
                await note_seeds_anew(self._frontier, row)
            sites.is_noted = True

    async def measure_links(self, message: Message, assessed: Assessed, links: Sequence[str]) -> Measure:
        """From where it is measured for some links of a page. Where a seed leads is noted, so before its end."""
        page = assessed.page
        if page is not None and page.leads_to is not None:
            links = (*links, page.leads_to)
        measure = await self.measure(message, links)
        seed = assessed.seed or (seed_led_to(page, message, measure) if page is not None else "")
        if message.crawl is None or not seed or self._crawls.of(message) is None:
            return measure
        await add_seeds(self._frontier, message.crawl, (seed,), message.settings.scope)
        self._sites.pop(message.crawl, None)
        return await self.measure(message, links)

    def _sites_of(self, ref: CrawlRef, row: Crawl) -> _Sites:
        if len(self._sites) >= MOST_CRAWLS and ref not in self._sites:
            self._sites.clear()
        sites = self._sites.setdefault(ref, _Sites())
        sites.forget_what_may_have_changed(row, self._clock())
        return sites
