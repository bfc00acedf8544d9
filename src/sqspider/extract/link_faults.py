"""What is wrong with links: targets that fail, redirects on the way to them, places in pages that are not there.

Everything is told target by target, with all the links that lead there. What was not asked for (robots.txt forbids it,
it lies outside) is not broken, and is not told here.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Collection, Iterable, Iterator
from itertools import groupby
from typing import Final, NamedTuple
from urllib.parse import unquote

from sqspider.chains import Chain
from sqspider.extract.link_queries import ALL_KINDS, LinkTable, Sources
from sqspider.extract.link_records import LinkRecords
from sqspider.extract.page_links import LinkKind
from sqspider.record import Outcome, Reason, Status, UrlRecord
from sqspider.url import host_in, host_of

PERMANENT: Final = frozenset({301, 308})

_BATCH: Final = 500
_SCHEMES: Final = (
    "about android-app blob bitcoin callto chrome cid data doi ed2k facetime feed file fb-messenger ftp ftps geo git "
    "gopher im intent ios-app irc ircs itms itms-apps itms-appss javascript ldap line magnet mailto market matrix mid "
    "ms-settings news nntp pres rtmp rtsp sftp sgn signal sip sips skype slack sms smsto spotify ssh steam svn tel tg "
    "urn view-source vnc vscode web+ap webcal webcals whatsapp wp ws wss xmpp zoommtg zoomus"
)
"""Of links that lead to no page, and are meant to. What has another one is taken for a slip of the pen."""
_MEANT: Final = frozenset(_SCHEMES.split())


class Broken(NamedTuple):
    """A target that fails."""

    target: str  # as the links have it: canonical, or as it is written where it is no URL
    reason: Reason
    http_status: int | None  # of what fails
    detail: str  # one line for a person
    through: tuple[str, ...]  # where it redirects, step by step, to what fails; empty: it fails itself
    sources: Sources  # all the links to it


async def broken(
    table: LinkTable,
    records: LinkRecords,
    *,
    kinds: Collection[LinkKind] = ALL_KINDS,
    host: str | None = None,
) -> AsyncIterator[Broken]:
    """Targets that fail, each once, with all the links of these kinds that lead there; ``host``: those of this one.

    A target that redirects to what fails, or for ever, is broken, too; redirects are no links of their own here. A seed
    that fails is told, whether or not something links to it. It costs a look at all that failed, at all redirects
    and at all that no answer is kept of, and not at all links.
    """
    kinds = set(kinds) - {LinkKind.REDIRECT}
    for written, reason in table.refused() if host is None else ():
        if _is_slip(written, reason) and len(sources := Sources(table, written, kinds)):
            yield Broken(written, reason, None, "", (), sources)
    async for failed in records.failed():
        some = [record for record in failed if host in (None, host_of(record.url))]
        latest = await records.of([record.url for record in some])
        for record in some:
            sources = Sources(table, record.url, kinds)
            if latest.get(record.url) == record and (record.depth == 0 or len(sources)):
                yield _broken(record.url, record.outcome, (), sources)
    async for url, record, chain in _chains(table, records, host):
        sources = Sources(table, url, kinds)
        fault = _fault_of(chain) if chain is not None else record.outcome if record.status is Status.FAILED else None
        if fault is not None and len(sources):
            yield _broken(url, fault, chain.urls[1:] if chain is not None else (), sources)


def _is_slip(written: str, reason: Reason) -> bool:
    """Whether what is no URL was meant to be one."""
    if reason is Reason.BAD_SCHEME:
        return written.partition(":")[0].strip().lower() not in _MEANT
    return reason in (Reason.BAD_URL, Reason.NO_HOST)


def _broken(url: str, outcome: Outcome | None, through: tuple[str, ...], sources: Sources) -> Broken:
    reason = outcome.reason if outcome and outcome.reason else Reason.INTERNAL_ERROR
    return Broken(
        url, reason, outcome.http_status if outcome else None, outcome.detail if outcome else "", through, sources
    )


def _fault_of(chain: Chain) -> Outcome | None:
    """How a chain of redirects fails; none: it does not, or it is not known where it ends."""
    if chain.back_to is not None:
        return Outcome(status=Status.FAILED, reason=Reason.REDIRECT_LOOP, detail=f"leads back to {chain.back_to}")
    if chain.is_cut:
        return Outcome(status=Status.FAILED, reason=Reason.TOO_MANY_REDIRECTS)
    last = chain.last
    return last.outcome if last is not None and last.status is Status.FAILED else None


async def _chains(
    table: LinkTable, records: LinkRecords, host: str | None
) -> AsyncIterator[tuple[str, UrlRecord, Chain | None]]:
    """The chains that begin with URLs that redirect; also of what was only checked, as records alone can tell.

    Without a chain: URLs that have a record by another name, for their crawl takes parameters out."""
    starts = itertools.chain((url for url, _ in table.redirects()), table.uncaptured())
    for urls in _batches(url for url in starts if host in (None, host_in(url))):
        known = await records.of(urls)
        chains = await records.chains(known.values())
        for url, record in known.items():
            chain = chains.get(record.key)
            if chain is not None or record.url != url:
                yield url, record, chain


def _batches(urls: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    for url in urls:
        batch.append(url)
        if len(batch) >= _BATCH:
            yield batch
            batch = []
    if batch:
        yield batch


class Redirected(NamedTuple):
    """A target that redirects."""

    target: str
    http_status: int | None
    chain: Chain
    sources: Sources

    @property
    def is_permanent(self) -> bool:
        """Its links are worth mending."""
        return self.http_status in PERMANENT


async def redirected(
    table: LinkTable,
    records: LinkRecords,
    *,
    kinds: Collection[LinkKind] = ALL_KINDS,
    host: str | None = None,
) -> AsyncIterator[Redirected]:
    """Targets that redirect, each once, with all the links of these kinds that lead there, and where it ends."""
    kinds = set(kinds) - {LinkKind.REDIRECT}
    async for url, _, chain in _chains(table, records, host):
        sources = Sources(table, url, kinds)
        if chain is not None and len(sources):
            yield Redirected(url, (await _status_of(records, url)), chain, sources)


async def _status_of(records: LinkRecords, url: str) -> int | None:
    record = (await records.of([url])).get(url)
    return record.outcome.http_status if record and record.outcome else None


class MissingAnchor(NamedTuple):
    """A place in a page that links name, and that is not there."""

    target: str  # the page
    fragment: str  # as it is written
    page: str  # where the target's redirects lead, else the same
    sources: list[str]  # pages with such links, each once


async def missing_anchors(
    table: LinkTable,
    records: LinkRecords,
    *,
    kinds: Collection[LinkKind] = ALL_KINDS,
    host: str | None = None,
) -> AsyncIterator[MissingAnchor]:
    """Fragments that name no place in their target, each once: of targets whose page was captured, and is HTML.

    It costs a look at all links that have a fragment.
    """
    wanted = (each for each in table.fragments() if host in (None, host_in(each[0])))
    for target, named in groupby(wanted, lambda each: each[0]):
        page, anchors = await _anchors_of(table, records, target)
        if anchors is None:
            continue
        for _, fragment in named:
            if not is_place(fragment, anchors) and (sources := _sources(table, target, fragment, kinds)):
                yield MissingAnchor(target, fragment, page, sources)


def _sources(table: LinkTable, target: str, fragment: str, kinds: Collection[LinkKind]) -> list[str]:
    found = (link.page for link in table.links_to(target, kinds) if link.fragment == fragment)
    return list(dict.fromkeys(found))


async def _anchors_of(table: LinkTable, records: LinkRecords, target: str) -> tuple[str, frozenset[str] | None]:
    page = table.page(target)
    if page is not None and page.http_status is not None and 300 <= page.http_status < 400:
        record = (await records.of([target])).get(target)
        chains = await records.chains([record]) if record else {}
        end = next((chain.end for chain in chains.values()), None)
        return end or target, table.anchors(end) if end else None
    return target, table.anchors(target)


def is_place(fragment: str, anchors: Collection[str]) -> bool:
    """Whether a fragment names a place in a page that has these: HTML standard, section 7.4.6.4.

    The page's top is always there; what is behind ``:~:`` is no name (Text Fragments); ``#!…`` and ``#/…`` are
    addresses for scripts, which no id tells of.
    """
    name = fragment.partition(":~:")[0]
    if not name or name in anchors or name[0] in "!/":
        return True
    plain = unquote(name)
    return plain in anchors or plain.lower() == "top"
