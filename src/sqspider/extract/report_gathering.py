"""Gathers what a check found: faults of links, and what nobody asked for, each with every page that names it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection
from itertools import islice
from typing import Final

from sqspider.extract.link_faults import MissingAnchor, broken, missing_anchors, redirected
from sqspider.extract.link_queries import ALL_KINDS, LinkTable, Sources
from sqspider.extract.link_records import LinkRecords
from sqspider.extract.page_links import LinkKind
from sqspider.extract.report_findings import MISSING_ANCHOR, MOVED, NOT_REACHED, Finding, Source, Verdict
from sqspider.frontier import Looking
from sqspider.record import CUTTING_REASONS, Outcome, Reason, Status, UrlRecord

CHECKED_KINDS: Final = ALL_KINDS - {LinkKind.FORM, LinkKind.REDIRECT}
"""What a check looks at. Where a form is sent to is not asked for: it may do something."""

TURNING_AWAY: Final = frozenset({401, 403, 405, 429, 999})
"""HTTP statuses by which sites tell programs to go away, though a browser gets the page (999 is LinkedIn's)."""

_CONNECTIONS: Final = frozenset({"preconnect", "dns-prefetch", "dns-prefetch preconnect", "preconnect dns-prefetch"})
_BATCH: Final = 500


class Gathering:
    """Goes through what is known of a crawl's links. ``is_own``: whether a URL is of the sites that were to be checked;
    ``is_strict``: what turns us away elsewhere is broken, too; ``body_limits``: where bodies were cut off here."""

    def __init__(
        self,
        frontier: Looking,
        crawl: str,
        table: LinkTable,
        records: LinkRecords,
        *,
        is_own: Callable[[str], bool],
        is_strict: bool = False,
        body_limits: Collection[int] = (),
    ) -> None:
        self._frontier = frontier
        self._crawl = crawl
        self._table = table
        self._records = records
        self._is_own = is_own
        self._is_strict = is_strict
        self._body_limits = body_limits

    async def faults(self) -> AsyncIterator[Finding]:
        """Targets that cannot be had, and those that nobody asked for."""
        async for fault in broken(self._table, self._records, kinds=CHECKED_KINDS):
            yield Finding(
                verdict=self._failed(fault.target, fault.http_status),
                target=fault.target,
                reason=fault.reason.value,
                http_status=fault.http_status,
                detail=fault.detail,
                leads_to=fault.through,
                sources=_named(fault.sources),
            )
        async for record in self._records_of(Status.DONE):
            if self._is_cut_short(record):
                yield self._told(record, Verdict.BROKEN, Reason.INCOMPLETE_BODY)
        async for record in self._records_of(Status.BLOCKED):
            yield self._told(record, Verdict.UNCHECKED, record.outcome.reason if record.outcome else None)
        async for record in self._records_of(Status.QUEUED, Status.PROCESSING):
            met = record.outcome
            verdict = self._failed(record.url, met.http_status) if met and met.reason else Verdict.UNCHECKED
            yield self._told(record, verdict, met.reason if met else None)

    def _failed(self, target: str, http_status: int | None) -> Verdict:
        turned_away = http_status in TURNING_AWAY and not self._is_own(target)
        return Verdict.UNSURE if turned_away and not self._is_strict else Verdict.BROKEN

    async def _records_of(self, *statuses: Status) -> AsyncIterator[UrlRecord]:
        for status in statuses:
            async for batch in self._frontier.scan(status=status, crawl=self._crawl):
                for record in batch:
                    yield record

    def _is_cut_short(self, record: UrlRecord) -> bool:
        outcome = record.outcome
        return outcome is not None and outcome.truncated and outcome.bytes not in self._body_limits

    async def anchors(self) -> AsyncIterator[Finding]:
        """Fragments that name no place in their page."""
        async for missing in missing_anchors(self._table, self._records, kinds=CHECKED_KINDS):
            yield Finding(
                verdict=Verdict.ANCHOR,
                target=f"{missing.target}#{missing.fragment}",
                reason=MISSING_ANCHOR,
                detail=f"{missing.page} has no such id",
                sources=self._named_at(missing),
            )

    async def redirects(self) -> AsyncIterator[Finding]:
        """Targets that have moved for good, and are there where they lead."""
        async for moved in redirected(self._table, self._records, kinds=CHECKED_KINDS):
            last = moved.chain.last
            is_there = moved.chain.end is not None and last is not None and last.status is Status.DONE
            if moved.is_permanent and is_there:
                yield Finding(
                    verdict=Verdict.REDIRECT,
                    target=moved.target,
                    reason=MOVED,
                    http_status=moved.http_status,
                    leads_to=moved.chain.urls[1:],
                    sources=_named(moved.sources),
                )

    def _told(self, record: UrlRecord, verdict: Verdict, reason: Reason | None) -> Finding:
        """As its record says. A crawl's own limits cut off what was still waited for when it was broken off."""
        outcome = record.outcome or Outcome(status=record.status)
        is_cut_off = reason is None or reason in CUTTING_REASONS
        return Finding(
            verdict=verdict,
            target=record.url,
            reason=NOT_REACHED if is_cut_off or reason is None else reason.value,
            http_status=outcome.http_status,
            detail="" if is_cut_off else outcome.detail,
            sources=_named(Sources(self._table, record.url, CHECKED_KINDS)),
        )

    def _named_at(self, missing: MissingAnchor) -> tuple[Source, ...]:
        links = self._table.links_to(missing.target, CHECKED_KINDS)
        return tuple(
            Source(link.page, link.kind.value, link.text) for link in links if link.fragment == missing.fragment
        )


def _named(sources: Sources) -> tuple[Source, ...]:
    return tuple(Source(link.page, link.kind.value, link.text) for link in sources)


Choose = Callable[[list[str]], list[str]]


async def unasked(table: LinkTable, records: LinkRecords, choose: Choose) -> AsyncIterator[list[str]]:
    """URLs that pages refer to and that have no record: what a crawl does not follow by itself, such as images,
    and what lies outside of it. Of them those that ``choose`` takes. In batches; it costs a look at each target of
    which no answer is kept: what was captured was asked for.

    Where something redirects to is not among them: a crawl goes there by itself.
    """
    targets = table.uncaptured()
    while urls := list(islice(targets, _BATCH)):
        urls = choose(urls)
        known = await records.of(urls)
        yield [url for url in urls if url not in known and _is_meant(table, url)]


def _is_meant(table: LinkTable, url: str) -> bool:
    """Whether something refers to a URL itself: a connection that is made ahead asks for none."""
    return any(link.rel not in _CONNECTIONS for link in table.links_to(url, CHECKED_KINDS))
