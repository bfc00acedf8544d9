"""The public API: crawl from Python and iterate over the pages as they are finished.

``import sqspider`` re-exports what is public here; nothing else lives here.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Final, Self

import msgspec

from sqspider.checks import check_number, shown, texts_of
from sqspider.crawls import CrawlSettings
from sqspider.frontier import IN_MEMORY, Frontier, FrontierSettings, check_address, open_frontier
from sqspider.log import is_started, start_logging
from sqspider.record import Reason, Status
from sqspider.threaded import iterate
from sqspider.url import Scope
from sqspider.web.fetch import Fetcher, FetchOptions
from sqspider.web.head import header_of
from sqspider.work.lists import RefusedLine
from sqspider.work.options import WorkerOptions
from sqspider.work.page import Visited
from sqspider.work.producer import produce
from sqspider.work.worker import Mode, Worker

_PAGES_AHEAD: Final = 16  # finished pages that wait for whoever iterates


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A URL that was crawled, and what was there. One that redirects is none; where it leads is."""

    url: str  # canonical
    status: Status  # done, failed or blocked
    reason: Reason | None  # why it failed or was blocked
    http_status: int | None  # none without an answer
    headers: tuple[tuple[str, str], ...]  # as they were sent, in order
    body: bytes  # decoded, at most ``max_bytes``
    is_truncated: bool  # the body was longer
    title: str | None
    links: tuple[str, ...]  # canonical outlinks, in or out of the crawl's scope
    depth: int  # links from the seed
    parent: str | None  # the page it was found on, or the URL that redirected to it
    redirects: int  # on the way from that page or seed to it
    elapsed_seconds: float

    def header(self, name: str) -> str | None:
        """The first header of this name, in any case."""
        return header_of(self.headers, name)


class Crawl:
    """A crawl that runs while it is iterated over, with ``for`` or with ``async for``.

    Leaving the loop stops it; with a frontier of its own file a later crawl goes on from there.
    Made by :func:`crawl`.
    """

    def __init__(
        self,
        seeds: tuple[str, ...],
        frontier: str,
        settings: CrawlSettings,
        worker: WorkerOptions,
        fetch: FetchOptions,
    ) -> None:
        self._seeds = seeds
        self._frontier = frontier
        self._settings = settings
        self._worker = worker
        self._fetch = fetch

    async def __aiter__(self) -> AsyncGenerator[Page, None]:
        needed = FrontierSettings(visibility_seconds=self._worker.lease_seconds)
        frontier = await open_frontier(self._frontier, needed, clock=time.time)
        try:
            refused: list[RefusedLine] = []
            await produce(frontier, self._seeds, self._settings, on_refused=refused.append)
            if refused:
                raise ValueError("; ".join(str(line.refused) for line in refused))
            if not self._seeds and (await frontier.counts()).total == 0:
                raise _no_urls(self._frontier)
            async with (
                Fetcher(self._fetch, connections=self._worker.concurrency) as fetcher,
                _Working(frontier, fetcher, self._worker) as working,
            ):
                while (page := await working.next_page()) is not None:
                    yield page
        finally:
            await frontier.close()

    def __iter__(self) -> Iterator[Page]:
        return iterate(self.__aiter__)


class _Working:
    """A worker that works until nothing is left, and the pages that it has fetched.

    Leaving it stops the worker in good order; being cancelled while it leaves stops it at once. (It is no generator:
    an event loop that ends closes every generator by itself, without regard to which of them is within which.)
    """

    def __init__(self, frontier: Frontier, fetcher: Fetcher, options: WorkerOptions) -> None:
        options = msgspec.structs.replace(options, worker_id=f"python-{random.getrandbits(32):08x}")
        self._worker = Worker(frontier, fetcher, options, clock=frontier.now, rng=random.Random(), sinks=[self._take])
        self._pages: asyncio.Queue[Page | None] = asyncio.Queue()
        self._places = asyncio.Semaphore(_PAGES_AHEAD)
        self._is_left = False

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._worker.run(Mode.UNTIL_EMPTY))
        self._running.add_done_callback(lambda _: self._pages.put_nowait(None))
        return self

    async def next_page(self) -> Page | None:
        """The next page, or none when there is no other."""
        page = await self._pages.get()
        self._places.release()
        return page

    async def _take(self, visit: Visited) -> None:
        if visit.outcome.is_redirect:
            return
        await self._places.acquire()
        if self._is_left:
            self._places.release()  # nobody takes pages any more: the next one needs no place either
        else:
            self._pages.put_nowait(_page(visit))

    async def __aexit__(self, *_: object) -> None:
        self._is_left = True
        self._places.release()
        self._worker.stop()
        try:
            await asyncio.wait((self._running,))
        finally:
            self._running.cancel()  # of no effect if it has ended
            await asyncio.wait((self._running,))
        await self._running


def crawl(
    *urls: str,
    scope: Scope | str = Scope.HOST,
    depth: int | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    max_pages: int | None = None,
    delay_seconds: float = 1.0,
    max_crawl_delay_seconds: float = 60.0,
    concurrency: int = 32,
    obey_robots: bool = True,
    allow_private: bool = False,
    max_bytes: int = FetchOptions().max_bytes,
    user_agent: str = FetchOptions().user_agent,
    frontier: str = IN_MEMORY,
) -> Crawl:
    """Crawl from some URLs; iterate over the result to get its pages as they are finished.

    ``scope`` is measured from each URL; ``depth`` counts links from it. ``include`` and
    ``exclude`` are regular expressions that the URLs of links must, or must not, match.
    ``max_crawl_delay_seconds`` is as much of a longer ``Crawl-delay`` in robots.txt as holds.
    ``max_pages`` ends the crawl after so many pages. ``max_bytes`` are kept of a body.
    ``frontier`` is ``sqlite:PATH`` for a crawl that can be broken off and gone on with; what is
    finished there is not fetched again. Raises ``TypeError`` and ``ValueError`` for an argument that
    is not good, in words that begin with its name. Iterating raises ``ValueError`` for a URL that
    cannot be crawled, or without any where nothing was crawled before, and
    :class:`sqspider.FrontierError` if the frontier cannot do its work.
    """
    for url in urls:
        if not isinstance(url, str):
            raise TypeError(f"urls: each a text, not {shown(url)}: those of a list are given as crawl(*urls)")
    check_address(frontier)
    if not urls and frontier == IN_MEMORY:
        raise _no_urls(frontier)
    if not is_started():
        start_logging("warn", "console")
    check_number("depth", depth, CrawlSettings.ranges["max_depth"])  # here, for the record knows it by another name
    settings = CrawlSettings(
        scope=_scope(scope),
        max_depth=depth,
        include=texts_of("include", include),
        exclude=texts_of("exclude", exclude),
        delay_seconds=delay_seconds,
        max_crawl_delay_seconds=max_crawl_delay_seconds,
        obey_robots=obey_robots,
    )
    worker = WorkerOptions(worker_id="python", concurrency=concurrency, max_pages=max_pages)
    fetch = FetchOptions(max_bytes=max_bytes, allow_private=allow_private, user_agent=user_agent)
    return Crawl(urls, frontier, settings, worker, fetch)


def _no_urls(frontier: str) -> ValueError:
    return ValueError(f"urls: none was given, and {frontier} holds no crawl to go on with")


def _scope(scope: Scope | str) -> Scope:
    if scope not in tuple(Scope):
        raise ValueError(f"scope: one of {', '.join(Scope)}, not {shown(scope)}")
    return Scope(scope)


def _page(visit: Visited) -> Page:
    fetched, outcome = visit.fetched, visit.outcome
    return Page(
        url=visit.message.url,
        status=outcome.status,
        reason=outcome.reason,
        http_status=fetched.http_status,
        headers=fetched.headers,
        body=fetched.body,
        is_truncated=fetched.truncated,
        title=outcome.title,
        links=visit.page.links if visit.page else (),
        depth=visit.message.depth,
        parent=visit.message.parent,
        redirects=visit.message.redirects,
        elapsed_seconds=fetched.elapsed_seconds,
    )
