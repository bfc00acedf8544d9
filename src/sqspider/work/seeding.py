"""Where a crawl's scope is measured from is noted: its seeds, by their sites, as the kind of the scope has them.

What is noted for one kind says nothing of another: which kinds are there is noted, too. Whoever finds a scope of
another kind, for the row was changed, has the seeds noted anew by their records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from sqspider.crawl_row import Crawl, CrawlRef
from sqspider.frontier import Frontier
from sqspider.record import UrlRecord
from sqspider.scope import folders_of
from sqspider.url import Scope, in_scope


def is_measured(scope: Scope) -> bool:
    """Whether a scope is measured from seeds at all."""
    return scope is not Scope.PAGE and scope is not Scope.ANY


def mark_of(scope: Scope) -> str:
    """What stands among the sites of a crawl whose seeds are noted for a kind of scope. It is no host's name."""
    return f"({scope})"


async def add_seeds(frontier: Frontier, ref: CrawlRef, seeds: Iterable[str], scope: Scope) -> None:
    """Measure a crawl's scope from these canonical URLs, too.

    All workers hear of it within seconds: what they found to lie outside may lie within. Raises
    :class:`sqspider.frontier.FrontierError`.
    """
    sites = {**folders_of(seeds, scope), mark_of(scope): frozenset[str]()}
    is_new = await frontier.add_seeds(ref, sites)
    while is_new:  # somebody else may change the row at the same time
        row = next((row for row in await frontier.crawls() if row.ref == ref), None)
        if row is None or row.unreadable:
            return  # it was removed, or nobody works on it
        is_new = not await frontier.save_crawl(msgspec.structs.replace(row, seeds_version=row.seeds_version + 1))


async def note_seeds_anew(frontier: Frontier, row: Crawl) -> None:
    """Note the seeds of a crawl for the kind of scope that it has now. Reads all of its records; doing it again, or
    twice at a time, does no harm. Raises :class:`sqspider.frontier.FrontierError`."""
    scope = row.settings.scope
    if not is_measured(scope):
        return
    async for records in frontier.scan(crawl=row.name):
        sites = folders_of((url for record in records if record.depth == 0 for url in _told_by(record)), scope)
        if sites:
            await frontier.add_seeds(row.ref, sites)
    await add_seeds(frontier, row.ref, (), scope)


def _told_by(record: UrlRecord) -> Iterator[str]:
    """The seeds that a record at depth 0 tells of: itself, if it is one or where one led within its own site, and where
    it leads likewise."""
    if record.parent is not None and not in_scope(record.url, Scope.DOMAIN, record.parent):
        return
    yield record.url
    to = record.outcome.redirect_to if record.outcome is not None else None
    if to is not None and in_scope(to, Scope.DOMAIN, record.url):
        yield to
