"""What became of the targets of links: as a frontier's records say, or, where there is none, as the captures do."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from typing import Final, Protocol

from sqspider.chains import Chain, chains_of
from sqspider.crawl_row import Crawl
from sqspider.extract.link_queries import LinkTable, Page
from sqspider.frontier import Looking
from sqspider.record import DEFAULT_CRAWL, Outcome, Status, UrlRecord, reason_for_http_status, record_key
from sqspider.url import host_in, without_tracking

_BATCH: Final = 500
_REDIRECTS: Final = (300, 399)


class LinkRecords(Protocol):
    """What is asked about targets."""

    async def of(self, urls: Sequence[str]) -> dict[str, UrlRecord]:
        """What became of some URLs; unknown ones are left out. Of several crawls, what was fetched last."""

    def failed(self) -> AsyncIterator[list[UrlRecord]]:
        """All that failed, in batches. Of a URL there may be several, and a later one that is well."""

    async def chains(self, records: Iterable[UrlRecord]) -> dict[str, Chain]:
        """Where those of them lead that redirect, by their keys."""


class FrontierRecords:
    """Those of some crawls of a frontier."""

    def __init__(self, frontier: Looking, crawls: Sequence[Crawl], names: Sequence[str]) -> None:
        self._frontier = frontier
        self._names = tuple(names)
        self._drops_tracking = any(crawl.settings.drop_tracking for crawl in crawls if crawl.name in names)

    async def of(self, urls: Sequence[str]) -> dict[str, UrlRecord]:
        found = await self._get(urls)
        if self._drops_tracking:
            others = {url: without_tracking(url) for url in urls if url not in found and "?" in url}
            bare = await self._get(list(set(others.values()))) if others else {}
            found |= {url: bare[other] for url, other in others.items() if other in bare}
        return found

    async def _get(self, urls: Sequence[str]) -> dict[str, UrlRecord]:
        found: dict[str, UrlRecord] = {}
        keys = [record_key(url, name) for url in urls for name in self._names]
        for at in range(0, len(keys), _BATCH):
            for record in (await self._frontier.get(keys[at : at + _BATCH])).values():
                known = found.get(record.url)
                if known is None or _rank(known) < _rank(record):
                    found[record.url] = record
        return found

    async def failed(self) -> AsyncIterator[list[UrlRecord]]:
        crawl = self._names[0] if len(self._names) == 1 else None
        async for records in self._frontier.scan(status=Status.FAILED, crawl=crawl):
            yield [record for record in records if record.crawl in self._names]

    async def chains(self, records: Iterable[UrlRecord]) -> dict[str, Chain]:
        return await chains_of(self._frontier, records)


def _rank(record: UrlRecord) -> tuple[bool, bool, float]:
    """The higher, the more is known."""
    was_fetched = record.outcome is not None and record.outcome.was_fetched
    return record.status.is_final and was_fetched, record.status.is_final, record.finished_at or 0.0


class CapturedRecords:
    """Those that an archive alone lets one tell: of what was answered."""

    def __init__(self, table: LinkTable) -> None:
        self._table = table

    async def of(self, urls: Sequence[str]) -> dict[str, UrlRecord]:
        pages = ((url, self._table.page(url)) for url in urls)
        return {url: self._record(page) for url, page in pages if page is not None}

    async def get(self, keys: Sequence[str]) -> dict[str, UrlRecord]:
        """As a frontier has it."""
        return await self.of(keys)

    async def failed(self) -> AsyncIterator[list[UrlRecord]]:
        for page in self._table.pages_by_status(400, 999):
            yield [self._record(page)]

    async def chains(self, records: Iterable[UrlRecord]) -> dict[str, Chain]:
        return await chains_of(self, records)

    def _record(self, page: Page) -> UrlRecord:
        target = None
        if page.http_status is not None and _REDIRECTS[0] <= page.http_status <= _REDIRECTS[1]:
            target = self._table.redirect_of(page.url)
        reason = None if target or page.http_status is None else reason_for_http_status(page.http_status)
        status = Status.DONE if reason is None else reason.status
        outcome = Outcome(
            status=status,
            reason=reason,
            http_status=page.http_status,
            content_type=page.media_type or None,
            title=page.title or None,
            redirect_to=target,
        )
        return UrlRecord(
            url=page.url,
            status=status,
            depth=1,  # that it was given is not known
            host=host_in(page.url),
            finished_at=page.at,
            outcome=outcome,
            crawl=DEFAULT_CRAWL,
        )
