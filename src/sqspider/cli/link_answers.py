"""What ``links`` answers: for a person in lines, for a program as one JSON object a line."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from sqspider.cli.wording import counted, printable
from sqspider.crawl_row import Crawl
from sqspider.extract.link_faults import Broken, MissingAnchor, Redirected, broken, missing_anchors, redirected
from sqspider.extract.link_queries import Link, LinkTable
from sqspider.extract.link_records import LinkRecords
from sqspider.extract.page_links import LinkKind
from sqspider.frontier import Frontier
from sqspider.record import BLOCKING_REASONS, CUTTING_REASONS, Reason
from sqspider.url import Refused, host_in
from sqspider.work.seeds import read_url

if TYPE_CHECKING:
    from sqspider.link_fates import LinkFate

T = TypeVar("T")

SHOWN: Final = 20  # pages with links to one target that a person is shown
_BATCH: Final = 500
_MAY_PASS: Final = frozenset(
    {
        Reason.RATE_LIMITED, Reason.SERVER_ERROR, Reason.DNS_FAILURE, Reason.CONNECT_TIMEOUT, Reason.TIMEOUT,
        Reason.UNREACHABLE, Reason.NO_ROUTE, Reason.CONNECTION_RESET, Reason.PROXY_UNUSABLE, Reason.OWN_SHORTAGE,
        Reason.CRASHED, Reason.INTERNAL_ERROR,
    }
)  # fmt: skip
"""What may be well another time: a person is told so."""


class Asked(NamedTuple):
    """Which links are asked about."""

    kinds: Collection[LinkKind]
    host: str | None  # of targets; of those who link, where the target is named
    limit: int | None  # of answers
    url: str | None  # that is asked about


class Writer:
    """Writes answers as they come, so that none needs to be held."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def answer(self, head: dict[str, Any], line: str) -> None:
        """An answer of one line."""
        print(json.dumps(head, ensure_ascii=False) if self.as_json else printable(line))

    def with_sources(
        self, head: dict[str, Any], line: str, sources: Iterable[Link], *, number: int, note: str = ""
    ) -> None:
        """An answer with the links that lead there: for a person the first of each page, and of so many pages."""
        if self.as_json:
            print(json.dumps(head, ensure_ascii=False)[:-1], end=', "sources": [')
            for at, link in enumerate(sources):
                print(", " if at else "", json.dumps(source_as_json(link), ensure_ascii=False), sep="", end="")
            print("]}")
            return
        print(printable(line))
        if note:
            print(printable(f"    {note}"))
        pages: dict[str, Link] = {}
        for link in sources:
            if link.page not in pages and len(pages) == SHOWN:
                break
            pages.setdefault(link.page, link)
        for link in pages.values():
            print(printable(f"    from {link.page}  {_how(link)}"))
        if number > len(pages):
            print(f"    … {number:,} links in all: --json lists them")

    def total(self, words: str) -> None:
        """The last line, for a person."""
        if not self.as_json:
            print(words)


def _how(link: Link) -> str:
    """As what, and with what words, a page links."""
    kind = f"{link.kind.value} rel={link.rel}" if link.rel else link.kind.value
    status = "" if link.http_status is None or 200 <= link.http_status < 300 else f"  (the page is {link.http_status})"
    return f'{kind}  "{link.text}"{status}' if link.text else f"{kind}{status}"


def source_as_json(link: Link) -> dict[str, Any]:
    """A link, for who knows where it leads."""
    return {
        "from": link.page,
        "kind": link.kind.value,
        "rel": link.rel or None,
        "text": link.text or None,
        "fragment": link.fragment or None,
        "from_status": link.http_status,
    }


class Answers:
    """Answers each question."""

    def __init__(
        self, table: LinkTable, records: LinkRecords, frontier: Frontier | None, crawls: Sequence[Crawl]
    ) -> None:
        self._table = table
        self._records = records
        self._frontier = frontier
        self._crawls = [crawl for crawl in crawls if not crawl.unreadable]

    async def write(self, question: str, asked: Asked, writer: Writer) -> bool:
        """Answer; whether that is good news."""
        answer = {
            "to": self._to,
            "from": self._from,
            "broken": self._broken,
            "redirects": self._redirects,
            "anchors": self._anchors,
            "external": self._external,
            "orphans": self._orphans,
        }[question]
        return await answer(asked, writer)

    async def _to(self, asked: Asked, writer: Writer) -> bool:
        url = _as_linked(asked.url or "")
        links = (link for link in self._table.links_to(url, asked.kinds) if asked.host in (None, host_in(link.page)))
        number = 0
        for link in islice(links, asked.limit):
            number += 1
            writer.answer({"to": url} | source_as_json(link), f"{link.page}  {_how(link)}")
        meant = "" if number else _meant(url)
        writer.total(f"{counted(number, 'link leads', 'links lead')} to {printable(url)}{meant}")
        return number > 0

    async def _from(self, asked: Asked, writer: Writer) -> bool:
        url = _as_linked(asked.url or "")
        found = self._table.links_from(url, asked.kinds)
        links = islice((link for link in found if asked.host in (None, host_in(link.target))), asked.limit)
        from sqspider.link_fates import Judge  # here, and below: what judges knows how pages are fetched

        judge = Judge(self._records, self._frontier, self._crawls)
        number = 0
        while some := list(islice(links, _BATCH)):
            number += len(some)
            for link, fate in zip(some, await judge.fates(some), strict=True):
                fragment = f"#{link.fragment}" if link.fragment else ""
                line = f"{link.target}{fragment}  {_how(link._replace(http_status=None))}  [{fate.words}]"
                writer.answer(_link_as_json(link, fate), line)
        if not number and self._table.page(url) is None:
            writer.total(f"{printable(url)} was not captured{_meant(url)}")
        else:
            writer.total(f"{printable(url)} has {counted(number, 'link', 'links')}")
        return number > 0

    async def _broken(self, asked: Asked, writer: Writer) -> bool:
        reasons = Counter[Reason]()
        found = broken(self._table, self._records, kinds=asked.kinds, host=asked.host)
        async for each in _limited(found, asked.limit):
            reasons[each.reason] += 1
            note = f"redirects: {' → '.join(each.through)}" if each.through else ""
            writer.with_sources(
                broken_as_json(each), _broken_line(each), each.sources, number=len(each.sources), note=note
            )
        told = ", ".join(f"{number:,} {reason.value}" for reason, number in reasons.most_common())
        writer.total(f"{counted(reasons.total(), 'target is', 'targets are')} broken" + (f": {told}" if told else ""))
        if unasked := await self._unasked():
            writer.total(f"not asked for, so not judged: {unasked}")
        return not reasons

    async def _unasked(self) -> str:
        """What was blocked, by reason, but for what its crawl leaves out."""
        if self._frontier is None:
            return ""
        crawl = self._crawls[0].name if len(self._crawls) == 1 else None
        by_reason = (await self._frontier.counts(crawl=crawl)).by_reason
        told = {reason: number for reason, number in by_reason.items() if reason in BLOCKING_REASONS - CUTTING_REASONS}
        return ", ".join(f"{number:,} {reason.value}" for reason, number in sorted(told.items()))

    async def _redirects(self, asked: Asked, writer: Writer) -> bool:
        found = redirected(self._table, self._records, kinds=asked.kinds, host=asked.host)
        number = permanent = 0
        async for each in _limited(found, asked.limit):
            number += 1
            permanent += each.is_permanent
            writer.with_sources(
                _redirected_as_json(each), _redirected_line(each), each.sources, number=len(each.sources)
            )
        worth = f", {permanent:,} of them for good: their links are worth mending" if permanent else ""
        writer.total(f"{counted(number, 'target redirects', 'targets redirect')}{worth}")
        return True

    async def _anchors(self, asked: Asked, writer: Writer) -> bool:
        found = missing_anchors(self._table, self._records, kinds=asked.kinds, host=asked.host)
        number = 0
        async for each in _limited(found, asked.limit):
            number += 1
            writer.answer(_anchor_as_json(each), f"{each.target}#{each.fragment}")
            if not writer.as_json:
                for page in each.sources[:SHOWN]:
                    print(printable(f"    from {page}"))
                if len(each.sources) > SHOWN:
                    print(f"    … {len(each.sources):,} pages in all: --json lists them")
        writer.total(f"{counted(number, 'place is', 'places are')} not there")
        return not number

    async def _external(self, asked: Asked, writer: Writer) -> bool:
        links, targets = Counter[str](), Counter[str]()
        found = self._table.targets(asked.kinds)
        inside = (
            {host_in(page.url) for page in self._table.pages_by_status(200, 299)} if not self._is_measured else set()
        )
        while some := dict(islice(found, _BATCH)):
            for url in await self._outside(list(some), inside):
                if asked.host in (None, host := host_in(url)):
                    links[host] += some[url]
                    targets[host] += 1
        hosts = heapq.nsmallest(asked.limit or len(links), links, key=lambda host: (-links[host], host))
        for host in hosts:
            row = {"host": host, "links": links[host], "targets": targets[host]}
            line = f"{links[host]:>9,}  {host}  ({counted(targets[host], 'target', 'targets')})"
            writer.answer(row, line)
        total = f"{counted(links.total(), 'link leads', 'links lead')} out of the crawl, to "
        writer.total(total + counted(len(links), "host", "hosts"))
        return True

    @property
    def _is_measured(self) -> bool:
        return self._frontier is not None and bool(self._crawls)

    async def _outside(self, urls: Sequence[str], hosts: Collection[str]) -> list[str]:
        """By the scopes of the crawls; where there are none, what is on another host than all pages are."""
        if self._frontier is not None and self._is_measured:
            from sqspider.link_fates import outside

            return await outside(self._frontier, self._crawls, urls)
        return [url for url in urls if host_in(url) not in hosts]

    async def _orphans(self, asked: Asked, writer: Writer) -> bool:
        pages = (page for page in self._table.unlinked() if asked.host in (None, host_in(page.url)))
        number = 0
        for page in islice(pages, asked.limit):
            number += 1
            sitemap = next(iter(self._table.links_to(page.url, {LinkKind.SITEMAP})), None)
            listed = None if sitemap is None else sitemap.page
            row = {"url": page.url, "title": page.title or None, "sitemap": listed}
            writer.answer(row, f"{page.url}  ({f'in {listed}' if listed else 'given'})")
        writer.total(f"no page links to {counted(number, 'page', 'pages')}")
        return True


async def _limited(found: AsyncIterator[T], limit: int | None) -> AsyncIterator[T]:
    number = 0
    async for each in found:
        yield each
        number += 1
        if number == limit:
            return


def _as_linked(text: str) -> str:
    """A URL as it stands in the table; what is none, as it is written."""
    url = read_url(text)
    return text.strip() if isinstance(url, Refused) else url


def _meant(url: str) -> str:
    """What is perhaps meant by what is no URL."""
    return "" if "://" in url else f": did you mean http://{printable(url)} or https://{printable(url)}?"


def broken_as_json(each: Broken) -> dict[str, Any]:
    """A broken target; these names do not change. Its sources go with it."""
    return {
        "to": each.target,
        "reason": each.reason.value,
        "http_status": each.http_status,
        "detail": each.detail or None,
        "may_pass": each.reason in _MAY_PASS,
        "redirects": list(each.through),
        "links": len(each.sources),
    }


def _broken_line(each: Broken) -> str:
    status = f"HTTP {each.http_status}" if each.http_status else ""
    what = [each.reason.value, status, each.detail if each.detail != f"HTTP status {each.http_status}" else ""]
    passing = " (may be well another time)" if each.reason in _MAY_PASS else ""
    return f"{each.target}  {', '.join(filter(None, what))}{passing}"


def _redirected_as_json(each: Redirected) -> dict[str, Any]:
    return {
        "to": each.target,
        "http_status": each.http_status,
        "permanent": each.is_permanent,
        "redirects": list(each.chain.urls[1:]),
        "end": each.chain.end,
        "links": len(each.sources),
    }


def _redirected_line(each: Redirected) -> str:
    return f"{each.http_status or ''}  {each.chain}".strip()


def _anchor_as_json(each: MissingAnchor) -> dict[str, Any]:
    leads = None if each.page == each.target else each.page
    return {"to": each.target, "fragment": each.fragment, "redirects_to": leads, "sources": each.sources}


def _link_as_json(link: Link, fate: LinkFate) -> dict[str, Any]:
    source = source_as_json(link)
    return {
        "from": source.pop("from"),
        "to": link.target,
        **{name: source[name] for name in ("kind", "rel", "text", "fragment")},
        "status": fate.status,
        "reason": fate.reason or None,
        "http_status": fate.http_status,
        "detail": fate.detail or None,
        "redirect_to": fate.redirect_to,
    }
