"""What became of a link, or would: by its target's record, else by the rules of the crawl as they are now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sqspider.crawl_row import Crawl
from sqspider.explain import Explainable, Fate, NotKnownError, Terms, explanation_of
from sqspider.extract.link_queries import Link
from sqspider.extract.link_records import LinkRecords
from sqspider.record import UrlRecord
from sqspider.scope import Measure, site_of
from sqspider.work.seeding import is_measured


class LinkFate(NamedTuple):
    """What became of a link's target."""

    status: str  # of its record; "left out", "blocked" and the like where there is none; "no url"; "not known"
    reason: str = ""  # why it failed, was blocked or left out, as it is named in reasons.md
    http_status: int | None = None
    detail: str = ""  # one line for a person
    redirect_to: str | None = None

    @property
    def words(self) -> str:
        """In one line."""
        how = [str(self.http_status) if self.http_status else "", self.reason, self.detail]
        leads = f" → {self.redirect_to}" if self.redirect_to else ""
        return ", ".join([self.status, *filter(None, how)]) + leads


class Judge:
    """Tells what became of links. Without a frontier it knows of captures alone."""

    def __init__(self, records: LinkRecords, frontier: Explainable | None, crawls: Sequence[Crawl]) -> None:
        self._records = records
        self._frontier = frontier
        self._crawls = {crawl.name: crawl for crawl in crawls}

    async def fates(self, links: Sequence[Link]) -> list[LinkFate]:
        """Of some links, in their order."""
        urls = list({link.target for link in links if link.reason is None} | {link.page for link in links})
        known = await self._records.of(urls)
        return [await self._fate(link, known) for link in links]

    async def _fate(self, link: Link, known: dict[str, UrlRecord]) -> LinkFate:
        if link.reason is not None:
            return LinkFate("no url", link.reason.value)
        record, page = known.get(link.target), known.get(link.page)
        if record is not None:
            return _of_record(record)
        crawl = self._crawls.get(page.crawl) if page else None
        if self._frontier is None or crawl is None:
            return LinkFate("not known")
        try:
            said = await explanation_of(self._frontier, link.target, Terms(crawl.settings, crawl, link.page))
        except NotKnownError:
            return LinkFate("not known")
        if (step := said.decided) is None or said.fate is Fate.FETCHED:
            where = "it lies outside of the crawl, which checks that" if said.is_check else "it lies within the crawl"
            return LinkFate("not recorded", detail=where)
        return LinkFate(said.fate.value, step.reason.value if step.reason else step.rule, None, step.says)


def _of_record(record: UrlRecord) -> LinkFate:
    outcome = record.outcome
    if outcome is None or not record.status.is_final:
        return LinkFate(record.status.value)
    target = outcome.redirect_to if outcome.is_redirect else None
    reason = outcome.reason.value if outcome.reason else ""
    return LinkFate(record.status.value, reason, outcome.http_status, outcome.detail, target)


async def outside(frontier: Explainable, crawls: Sequence[Crawl], urls: Sequence[str]) -> list[str]:
    """Those of some URLs that lie in the scope of none of these crawls, as it is measured now."""
    for crawl in crawls:
        scope = crawl.settings.scope
        sites = {site_of(url, scope) for url in urls} if is_measured(scope) else set()
        measure = Measure(scope, "", await frontier.seeds(crawl.ref, sorted(sites)) if sites else {})
        urls = [url for url in urls if not measure.holds(url)]
    return list(urls)
