"""From where the scope of each crawl is measured: from all its seeds, as far as a worker has asked for them.

What is a seed's site stays one; what is none may become one, which the crawl's row tells by its ``seeds_version``.
Seeds are kept by site, and asked for by the sites of a page's links: one call a page at most, and none for most.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import chain
from typing import Final

import msgspec

from sqspider.crawl import Crawl, CrawlRef
from sqspider.frontier import Clock, Frontier
from sqspider.message import Message
from sqspider.record import UrlRecord
from sqspider.scope import Measure, folders_of, site_of
from sqspider.url import Scope, in_scope
from sqspider.work.crawls import CrawlRows
from sqspider.work.page import Assessed, seed_led_to

ABSENT_SECONDS: Final = 60.0  # that a site is held to have no seed: whoever noted one may have died before it said so
MOST_SITES: Final = 20_000  # of one crawl that are remembered
MOST_CRAWLS: Final = 100


async def add_seeds(frontier: Frontier, ref: CrawlRef, seeds: Iterable[str], scope: Scope) -> bool:
    """Measure a crawl's scope from these canonical URLs, too; whether any of that is new.

    All workers hear of it within seconds: what they found to lie outside may lie within. Raises
    :class:`sqspider.frontier.FrontierError`.
    """
    if not await frontier.add_seeds(ref, folders_of(seeds, scope)):
        return False
    while True:  # somebody else may change the row at the same time
        row = next((row for row in await frontier.crawls() if row.ref == ref), None)
        if row is None:
            return True  # it was removed
        if await frontier.save_crawl(msgspec.structs.replace(row, seeds_version=row.seeds_version + 1)):
            return True


async def note_seeds_anew(frontier: Frontier, row: Crawl) -> None:
    """Note the seeds of a crawl whose scope is another kind than before: they are kept by what that measures from.

    Reads all of its records. Raises :class:`sqspider.frontier.FrontierError`.
    """
    scope = row.settings.scope
    if not is_measured(scope):
        return
    async for records in frontier.scan(crawl=row.name):
        seeds = [url for record in records if record.depth == 0 for url in _seeds_told_by(record)]
        if seeds:
            await add_seeds(frontier, row.ref, seeds, scope)


def _seeds_told_by(record: UrlRecord) -> Iterator[str]:
    """A seed's record, or one of where such a one led within its own site; and where it leads itself."""
    if record.parent is not None and not in_scope(record.url, Scope.DOMAIN, record.parent):
        return
    yield record.url
    to = record.outcome.redirect_to if record.outcome is not None else None
    if to is not None and in_scope(to, Scope.DOMAIN, record.url):
        yield to


def is_measured(scope: Scope) -> bool:
    """Whether a scope is measured from seeds at all."""
    return scope is not Scope.PAGE and scope is not Scope.ANY


class _Sites:
    """What is known of one crawl's seeds."""

    def __init__(self) -> None:
        self.scope: Scope | None = None
        self.version = -1
        self.since = 0.0  # when the first of ``absent`` was asked for
        self.folders: dict[str, frozenset[str]] = {}  # by site
        self.absent: set[str] = set()

    def forget_what_may_have_changed(self, row: Crawl, now: float) -> None:
        scope = row.settings.scope
        if scope is not self.scope:
            self.folders.clear()
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
        known = self.known(message)
        if message.crawl is None or (known is not None and not is_measured(message.settings.scope)):
            assert known is not None
            return known
        row, scope = self._crawls.of(message), message.settings.scope
        assert row is not None
        sites = self._sites_of(message.crawl, row)
        own = site_of(message.url, scope)
        asked = {
            site for url in urls if (site := site_of(url, scope)) not in sites.folders and site not in sites.absent
        }
        if own not in sites.folders:  # in the worst case all of its links are of its own site: look again
            asked.add(own)
        if asked:
            found = await self._frontier.seeds(message.crawl, sorted(asked))
            sites.note(asked, found)
        return Measure(scope, "", sites.folders)

    async def measure_links(self, message: Message, assessed: Assessed, recorded: Container[str]) -> Measure:
        """From where it is measured for the links of a page, but for those that are known to be ``recorded``. Where a
        seed leads is noted, so before its record ends."""
        page, links = assessed.page, list[str]()
        if page is not None:
            links += (link for link in chain(page.links, page.too_long) if message.key_of(link) not in recorded)
            links += (page.leads_to,) if page.leads_to is not None else ()
        measure = await self.measure(message, links)
        seed = assessed.seed or (seed_led_to(page, message, measure) if page is not None else "")
        if message.crawl is None or not seed:
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
