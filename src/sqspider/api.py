"""The public API: crawl from Python and iterate over the pages as they are finished.

``import sqspider`` re-exports what is public here; nothing else lives here.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Final

import msgspec
import structlog

from sqspider.frontier import FrontierSettings, open_frontier
from sqspider.log import start_logging
from sqspider.message import CrawlSettings
from sqspider.producer import RefusedLine, produce
from sqspider.record import Reason, Status
from sqspider.url import Scope
from sqspider.web.fetch import Fetcher, FetchOptions
from sqspider.worker import Mode, Visit, Worker, WorkerOptions

_PAGES_AHEAD: Final = 16  # finished pages that wait for whoever iterates


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A URL that was crawled, and what was there."""

    url: str  # canonical, as it was found
    final_url: str | None  # where the redirects ended; none without an answer
    outcome: Status  # done, failed or blocked
    reason: Reason | None  # why it failed or was blocked
    status: int | None  # of HTTP; none without an answer
    headers: tuple[tuple[str, str], ...]  # as they were sent, in order
    body: bytes  # decoded, at most ``max_bytes``
    is_truncated: bool  # the body was longer
    title: str | None
    links: tuple[str, ...]  # canonical outlinks, in or out of the crawl's scope
    depth: int  # links from the seed
    parent: str | None  # the page it was found on
    elapsed_seconds: float

    def header(self, name: str) -> str | None:
        """The first header of this name, in any case."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)


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
        pages: asyncio.Queue[Page | None] = asyncio.Queue(_PAGES_AHEAD)

        async def take(visit: Visit) -> None:
            await pages.put(_page(visit))

        settings = FrontierSettings(visibility_seconds=self._worker.lease_seconds)
        frontier = await open_frontier(self._frontier, settings, clock=time.time)
        try:
            refused: list[RefusedLine] = []
            await produce(frontier, self._seeds, self._settings, on_refused=refused.append)
            if refused:
                raise ValueError("; ".join(str(line.refused) for line in refused))
            async with Fetcher(self._fetch, connections=self._worker.concurrency) as fetcher:
                worker = Worker(frontier, fetcher, self._worker, clock=frontier.now, rng=random.Random(), sinks=[take])

                async def work() -> None:
                    try:
                        await worker.run(Mode.UNTIL_EMPTY)
                    finally:
                        await pages.put(None)

                working = asyncio.create_task(work())
                try:
                    while (page := await pages.get()) is not None:
                        yield page
                finally:
                    worker.stop()
                    while not working.done():  # whoever left the loop takes no more pages
                        while not pages.empty():
                            pages.get_nowait()
                        await asyncio.wait((working,), timeout=0.05)
                    await working
        finally:
            await frontier.close()

    def __iter__(self) -> Iterator[Page]:
        # The crawl runs in a thread of its own: it goes on while a page is being looked at.
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="sqspider", daemon=True)
        thread.start()
        pages = aiter(self)

        async def next_page() -> Page | None:
            return await anext(pages, None)

        try:
            while (page := asyncio.run_coroutine_threadsafe(next_page(), loop).result()) is not None:
                yield page
        finally:
            asyncio.run_coroutine_threadsafe(pages.aclose(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


def crawl(
    *urls: str,
    scope: Scope | str = Scope.HOST,
    depth: int | None = None,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    max_pages: int | None = None,
    delay_seconds: float = 1.0,
    concurrency: int = 32,
    obey_robots: bool = True,
    allow_private: bool = False,
    max_bytes: int = FetchOptions().max_bytes,
    user_agent: str = FetchOptions().user_agent,
    frontier: str = "sqlite::memory:",
) -> Crawl:
    """Crawl from some URLs; iterate over the result to get its pages as they are finished.

    ``scope`` is measured from each URL; ``depth`` counts links from it. ``include`` and
    ``exclude`` are regular expressions that the URLs of links must, or must not, match.
    ``max_pages`` ends the crawl after so many pages. ``max_bytes`` are kept of a body.
    ``frontier`` is ``sqlite:PATH`` for a crawl that can be broken off and gone on with; what is
    finished there is not fetched again. Iterating raises ``ValueError`` for a URL that cannot be
    crawled and :class:`sqspider.FrontierError` if the frontier cannot do its work.
    """
    if not structlog.is_configured():
        start_logging("warn", "console")
    settings = CrawlSettings(
        scope=Scope(scope),
        max_depth=depth,
        include=tuple(include),
        exclude=tuple(exclude),
        delay_seconds=delay_seconds,
        obey_robots=obey_robots,
    )
    worker = WorkerOptions(
        worker_id=f"python-{random.getrandbits(32):08x}", concurrency=concurrency, max_pages=max_pages
    )
    fetch = FetchOptions(max_bytes=max_bytes, allow_private=allow_private, user_agent=user_agent)
    return Crawl(urls, frontier, settings, worker, fetch)


def _page(visit: Visit) -> Page:
    fetched, outcome = visit.fetched, visit.outcome
    return Page(
        url=visit.message.url,
        final_url=fetched.final_url,
        outcome=outcome.status,
        reason=outcome.reason,
        status=fetched.http_status,
        headers=fetched.headers,
        body=fetched.body,
        is_truncated=fetched.truncated,
        title=outcome.title,
        links=visit.page.links if visit.page else (),
        depth=visit.message.depth,
        parent=visit.message.parent,
        elapsed_seconds=fetched.elapsed_seconds,
    )
