"""Sitemaps in, records and messages out: fetches them as politely as pages, and follows indexes.

Where a crawl's sitemaps are is known by robots.txt, or guessed (``/sitemap.xml``). What a sitemap
lists comes in as if the sitemap were a page that links to it. How one is read is in ``web.sitemap``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

import msgspec

from sqspider import retry
from sqspider.capture import Store, StoreError
from sqspider.crawl_row import Crawl
from sqspider.crawl_settings import CrawlSettings, measured_from
from sqspider.frontier import Clock, Entry, Frontier
from sqspider.message import Message
from sqspider.patterns import TooSlowError
from sqspider.politeness import Asked, Hop, Request
from sqspider.record import Reason
from sqspider.scope import Measure, sift
from sqspider.url import Refused, Scope, authority_of, canonicalize, in_scope, origin_of, without_tracking
from sqspider.web.fetch import Fetched
from sqspider.web.options import FetchOptions
from sqspider.web.sitemap import MAX_SITEMAP_BYTES, ChildSitemap, SitemapEntry, SitemapReader
from sqspider.work.allowed import Allowed
from sqspider.work.asker import AT_A_TIME, Asker, asking
from sqspider.work.captures import capture_of_sitemap
from sqspider.work.secrets import Secrets
from sqspider.work.seeding import add_seeds
from sqspider.work.worker import fatal_one

MAX_LEVELS: Final = 4  # indexes within one another, and the sitemap itself; sitemaps.org knows of two
MAX_SITEMAPS: Final = 50_000  # in one discovery
WAIT_SECONDS: Final = 60.0  # the longest wait for a sitemap's host; it may be resting for hours
FIRST_RETRY_SECONDS: Final = 2.0
BATCH: Final = 500


class SitemapReport(NamedTuple):
    """What came of one sitemap."""

    url: str
    listed: int  # pages that it names, those that are no URL left out
    new: int  # of these, recorded now
    out_of_scope: int  # and left out
    refused: dict[str, int]  # what it has beside them and is no URL that we crawl, by reason
    trouble: str  # why it was not read, or not to its end; none if empty
    is_guess: bool  # nobody named it: that there is none is no trouble


async def discover(
    frontier: Frontier,
    fetch: FetchOptions,
    settings: CrawlSettings,
    *,
    seeds: Sequence[str] = (),
    sitemaps: Sequence[str] = (),
    clock: Clock,
    rng: random.Random,
    stopping: asyncio.Event,
    on_report: Callable[[SitemapReport], None],
    crawl: Crawl | None = None,
    allowed: Allowed | None = None,
    secrets: Secrets | None = None,
    store: Store | None = None,
) -> None:
    """Enqueue what sitemaps list, those of the sites of some seeds and some by their URLs.

    All URLs are canonical. What lies within the crawl's scope is taken, measured from the seeds, or
    from a sitemap that was given by its URL; the scope ``page`` stands for the host there. Each
    sitemap is read once and ``on_report`` told of it. ``stopping`` ends it early. For a ``crawl`` it is done as whom
    that fetches; ``allowed`` and ``secrets`` are as for a :class:`sqspider.work.worker.Worker`. A ``store`` keeps each
    answer before what it lists is enqueued, or it is not; it is not closed. Raises
    :class:`sqspider.frontier.FrontierError`, and :class:`sqspider.work.allowed.NotAllowedError`; what was enqueued
    before stays.
    """
    async with asking(
        frontier, fetch, settings, clock=clock, rng=rng, stopping=stopping, crawl=crawl, allowed=allowed,
        secrets=secrets, store=store,
    ) as asker:  # fmt: skip
        discovery = _Discovery(frontier, asker, clock=clock, rng=rng, on_report=on_report, crawl=crawl, store=store)
        await discovery.run(seeds, sitemaps)


class _Discovery:
    """The sitemaps that were seen, and how they are read."""

    def __init__(
        self,
        frontier: Frontier,
        asker: Asker,
        *,
        clock: Clock,
        rng: random.Random,
        on_report: Callable[[SitemapReport], None],
        crawl: Crawl | None,
        store: Store | None,
    ) -> None:
        self._frontier = frontier
        self._asker = asker
        self._politeness = asker.politeness
        self._agent = asker.agent
        self._settings = asker.settings
        self._clock = clock
        self._rng = rng
        self._on_report = on_report
        self._store = store
        self._crawl = crawl.ref if crawl is not None else None
        self._seen: set[str] = set()
        self._places = asyncio.Semaphore(AT_A_TIME)  # for sitemaps that are read, each with all that it names

    async def run(self, seeds: Sequence[str], sitemaps: Sequence[str]) -> None:
        works: list[Coroutine[None, None, None]] = [
            self._read_tree(url, (url,), is_guess=False) for url in dict.fromkeys(sitemaps)
        ]
        works += [self._of_origin(origin, tuple(seeds)) for origin in dict.fromkeys(map(origin_of, seeds))]
        try:
            async with asyncio.TaskGroup() as group:
                for work in works:
                    group.create_task(work)
        except BaseExceptionGroup as errors:
            raise fatal_one(errors) from None

    async def _of_origin(self, origin: str, seeds: tuple[str, ...]) -> None:
        guess, robots = f"{origin}/sitemap.xml", f"{origin}/robots.txt"
        named = []
        if self._settings.obey_robots:
            await self._asker.judge(guess, self._clock() + WAIT_SECONDS)  # robots.txt is there, or will not be
            for text in self._politeness.sitemaps_of(origin, self._agent):
                url = canonicalize(text, robots)
                if isinstance(url, Refused):
                    self._on_report(SitemapReport(url.shown, 0, 0, 0, {}, url.explanation, is_guess=False))
                else:
                    named.append(url)
        for url in dict.fromkeys([*named, guess]):
            await self._read_tree(url, seeds, is_guess=url not in named, via=robots if url in named else None)

    async def _read_tree(self, root: str, seeds: tuple[str, ...], *, is_guess: bool, via: str | None = None) -> None:
        """A sitemap, which ``via`` names, and what it names itself, level by level."""
        level = [(root, via)]
        for depth in range(MAX_LEVELS + 1):
            children: list[tuple[str, str | None]] = []
            for url, named_by in level:
                if url in self._seen:
                    continue
                self._seen.add(url)
                if depth == MAX_LEVELS:
                    self._report_trouble(url, f"indexes lie more than {MAX_LEVELS} deep")
                elif len(self._seen) > MAX_SITEMAPS:
                    self._report_trouble(url, f"more than {MAX_SITEMAPS:,} sitemaps: further ones are left out")
                    return
                else:
                    async with self._places:
                        named = await self._read(url, named_by, seeds, is_guess=is_guess)
                    children += [(child, url) for child in named]
            level, is_guess = children, False

    def _report_trouble(self, url: str, trouble: str, *, is_guess: bool = False) -> None:
        self._on_report(SitemapReport(url, 0, 0, 0, {}, trouble, is_guess))

    async def _read(self, url: str, via: str | None, seeds: tuple[str, ...], *, is_guess: bool) -> list[str]:
        """Read one sitemap, and enqueue what it lists; the sitemaps it names."""
        reading, fetched = await self._fetch(url, via)
        if isinstance(fetched, str):
            self._report_trouble(url, fetched)
            return []
        trouble = reading.trouble_with(fetched)
        if is_guess and (fetched.http_status in (404, 410) or (reading.reader.fault and not reading.found)):
            self._report_trouble(url, trouble, is_guess=True)
            return []
        if authority_of(url) in map(authority_of, seeds):
            seeds = tuple(dict.fromkeys([*seeds, fetched.url]))  # where a site redirects to (www, https) it is
        if self._crawl is not None and self._scope is not Scope.ANY:
            await add_seeds(self._frontier, self._crawl, seeds, self._scope)
        pages = [found for found in reading.found if isinstance(found, SitemapEntry)]
        taken = _Taken()
        try:
            await self._enqueue(pages, fetched.url, seeds, taken)
        except TooSlowError as error:  # the end of its pages, as it would be of a page with such links
            trouble = f"{Reason.INTERNAL_ERROR.value}: {error}"
        refused = dict(reading.reader.refused)
        self._on_report(SitemapReport(url, len(pages), taken.new, taken.out_of_scope, refused, trouble, is_guess=False))
        return [found.url for found in reading.found if isinstance(found, ChildSitemap)]

    async def _fetch(self, url: str, via: str | None) -> tuple[_Reading, Fetched | str]:
        """Fetch one sitemap, trying again as for a page; a text says why it was not."""
        tries = 0
        while True:
            reading = _Reading(url)
            fetched = await self._try(Hop(url, via=via), reading)
            if isinstance(fetched, str) or fetched.reason is None:
                break
            tries += 1
            rule = retry.rule_for(fetched.reason, fetched.http_status)
            retry_after = retry.parse_retry_after(fetched.header("retry-after"), self._clock())
            wait = retry.wait_before_retry(rule, tries, FIRST_RETRY_SECONDS, retry_after, self._rng)
            if wait is None or wait > WAIT_SECONDS or await self._politeness.pause_until(self._clock() + wait):
                break
        reading.end()
        return reading, fetched

    async def _try(self, hop: Hop, reading: _Reading) -> Fetched | str:
        """Fetch when its host may be asked, and where it redirects to likewise; a text says why it was not."""
        give_up_at = self._clock() + WAIT_SECONDS
        while True:
            refused = await self._asker.judge(hop.url, give_up_at)
            if refused:
                return refused
            asked = await self._politeness.fetch(
                Request(hop.url, self._settings, max_bytes=MAX_SITEMAP_BYTES + 1, sink=reading.take, agent=self._agent)
            )
            if isinstance(asked, Asked) and (trouble := await self._keep(hop, asked)):
                return trouble
            if isinstance(asked, Asked) and asked.learned.counts:
                arrived = hop.after(asked.fetched)
                if not isinstance(arrived, Hop):
                    return msgspec.structs.replace(arrived, payload=b"")  # it is kept, and what it lists takes its time
                hop, give_up_at = arrived, self._clock() + WAIT_SECONDS
                continue
            again_at = asked.learned.again_at if isinstance(asked, Asked) else asked.again_at
            if again_at > give_up_at and isinstance(asked, Asked):
                return asked.fetched
            if again_at > give_up_at:
                return f"its host may not be asked for another {again_at - self._clock():,.0f} s"
            if await self._politeness.pause_until(again_at):
                return "stopped"

    async def _keep(self, hop: Hop, asked: Asked) -> str:
        """Keep an answer. Why it could not be kept, if so: that is our trouble, and no site's."""
        if self._store is None:
            return ""
        message = Message(
            url=hop.url, parent=hop.via, settings=self._settings, redirects=hop.redirects, crawl=self._crawl
        )
        capture = capture_of_sitemap(asked, message)
        try:
            await self._store.keep([capture] if capture is not None else [])
        except StoreError as error:
            return f"it could not be kept in the archive: {error}"
        return ""

    async def _enqueue(self, pages: Iterable[SitemapEntry], parent: str, seeds: Sequence[str], taken: _Taken) -> None:
        """Record what lies within the crawl, some at a time. Raises :class:`TooSlowError`; what was recorded stays."""
        rest = iter(pages)
        while some := list(islice(rest, BATCH)):
            entries = list(self._entries(some, parent, seeds))
            taken.out_of_scope += len(some) - len(entries)
            if entries:
                taken.new += sum(await self._frontier.enqueue(entries))

    @property
    def _scope(self) -> Scope:
        """What a sitemap may list. The scope ``page`` follows nothing: then the seeds' hosts count."""
        return Scope.HOST if self._settings.scope is Scope.PAGE else self._settings.scope

    def _entries(self, pages: Iterable[SitemapEntry], parent: str, seeds: Sequence[str]) -> Iterator[Entry]:
        """What lies within the crawl. Where no link is followed, what is listed was asked for itself."""
        settings, scope, crawl = self._settings, self._scope, self._crawl
        follows_none = settings.scope is Scope.PAGE or settings.max_depth == 0
        depth = 0 if crawl is not None and follows_none else 1
        urls_of: dict[str, list[str]] = {}  # by the first seed in whose scope they are
        lastmod_of: dict[str, float | None] = {}
        for page in pages:
            url = without_tracking(page.url) if settings.drop_tracking else page.url
            seed = next((seed for seed in seeds if in_scope(url, scope, seed)), None)
            if seed is not None:
                urls_of.setdefault(seed, []).append(url)
                lastmod_of.setdefault(url, page.lastmod)
        for seed, urls in urls_of.items():
            inherited = measured_from(settings, seed) if crawl is None else settings
            for url in sift(urls, settings, Measure(scope, seed)).within:
                yield Entry(
                    url=url, depth=depth, parent=parent, settings=inherited, lastmod=lastmod_of[url], crawl=crawl
                )


class _Taken:
    """What came in of one sitemap."""

    def __init__(self) -> None:
        self.new = 0
        self.out_of_scope = 0


class _Reading:
    """One sitemap as it comes in."""

    def __init__(self, url: str) -> None:
        self.reader = SitemapReader(url)
        self.found: list[SitemapEntry | ChildSitemap] = []  # at most MAX_SITEMAP_URLS

    def take(self, data: bytes) -> bool:
        self.found += self.reader.feed(data)
        return not self.reader.is_over

    def end(self) -> None:
        self.found += self.reader.close()

    def trouble_with(self, fetched: Fetched) -> str:
        """Why it was not read, or not to its end; none if empty."""
        if fetched.reason:
            return f"{fetched.reason.value}: {fetched.detail}"
        return self.reader.fault or ("it was cut off" if fetched.truncated else "")
