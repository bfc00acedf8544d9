"""The public API: crawl from Python and iterate over the pages as they are fetched.

``import sqspider`` re-exports what is public here; what a page is stands in ``pages``, how a crawl runs in
``under_way``.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, Final

from sqspider.checks import check_flag, check_number, shown, texts_of
from sqspider.crawls import CrawlSettings
from sqspider.frontier import IN_MEMORY, Counts, Frontier, FrontierSettings, check_address, open_frontier
from sqspider.log import is_started, start_logging
from sqspider.meta import encode_meta
from sqspider.pages import Page
from sqspider.threaded import iterate
from sqspider.under_way import Added, UnderWay
from sqspider.url import Refused, Scope
from sqspider.web.fetch import Fetcher, FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.seeds import read_url

_SETTINGS: Final = CrawlSettings()
_FETCH: Final = FetchOptions()
_WORKER: Final = WorkerOptions(worker_id="python")
_NOT_SET: Final = {"worker_id", "max_bytes"}  # of a worker's options: what has such a name here is another thing
_LOOK_SECONDS: Final = 0.2  # between two looks whether a crawl that is asked for its status is over


class Crawl:
    """A crawl that runs while it is iterated over, with ``for`` or with ``async for``, or while a handler is run.

    It hands out every URL that has its end, but for redirects: fetched, failed and blocked ones. A page is finished
    when the next one is asked for. Whoever leaves the loop before that, or is killed, gets the page that was in hand
    again, and those that were fetched ahead of it, from a crawl that goes on with the same ``frontier``: so every page
    is handed out at least once. Several loops, threads and processes may iterate over one frontier; each page goes to
    one of them.
    """

    def __init__(
        self,
        *urls: str,
        scope: Scope | str = Scope.HOST,
        depth: int | None = None,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        follow_nofollow: bool = False,
        meta_refresh: bool = _SETTINGS.meta_refresh,
        srcset: bool = _SETTINGS.srcset,
        drop_tracking: bool = _SETTINGS.drop_tracking,
        sitemaps: bool = False,
        assume_http: bool = False,
        max_pages: int | None = None,
        host_pages: int | None = None,
        host_bytes: int | None = None,
        max_repeats: int | None = None,
        max_parameters: int | None = None,
        delay_seconds: float = _SETTINGS.delay_seconds,
        max_crawl_delay_seconds: float = _SETTINGS.max_crawl_delay_seconds,
        per_host: int = _SETTINGS.per_host,
        obey_robots: bool = _SETTINGS.obey_robots,
        robots_grace_seconds: float = _WORKER.robots_grace_seconds,
        new_host_grace_seconds: float = _WORKER.new_host_grace_seconds,
        host_grace_seconds: float = _WORKER.host_grace_seconds,
        timeout_seconds: float = _FETCH.timeout_seconds,
        max_bytes: int = _FETCH.max_bytes,
        allow_private: bool = _FETCH.allow_private,
        allow_any_port: bool = _FETCH.allow_any_port,
        user_agent: str = _FETCH.user_agent,
        contact: str | None = None,
        proxy: str | None = None,
        ca_file: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
        http2: bool = _FETCH.http2,
        concurrency: int = _WORKER.concurrency,
        batch_size: int | None = None,
        lease_seconds: float = _WORKER.lease_seconds,
        frontier: str = IN_MEMORY,
    ) -> None:
        """Crawl from some URLs; nothing happens before it is iterated over.

        Each argument is the option of ``sqspider crawl`` of the same name, and means the same. Which links:
        ``scope`` is measured from each URL; ``depth`` counts links from it. ``include`` and ``exclude`` are regular
        expressions that the URLs of links must, or must not, match. How much: ``max_pages`` ends the crawl after so
        many pages in its frontier. How politely: ``max_crawl_delay_seconds`` is as much of a longer ``Crawl-delay``
        in robots.txt as holds. How: ``max_bytes`` are kept of a body; ``lease_seconds`` after it was killed, what it
        had in hand comes back. ``frontier`` is ``sqlite:PATH`` for a crawl that can be broken off and gone on with;
        what is finished there is not fetched again.

        Raises ``TypeError`` and ``ValueError`` for an argument that is not good, in words that begin with its name.
        Iterating raises ``ValueError`` for a URL that cannot be crawled, or without any where nothing was crawled
        before, and :class:`sqspider.FrontierError` if the frontier cannot do its work.
        """
        given = {name: value for name, value in locals().items() if name not in ("self", "urls")}
        _check_urls(urls)
        check_address(frontier)
        if not urls and frontier == IN_MEMORY:
            raise _no_urls(frontier)
        if not is_started():
            start_logging("warn", "console")
        for name in ("follow_nofollow", "sitemaps", "assume_http"):
            check_flag(name, given[name])
        self._seeds = urls
        self._frontier = frontier
        self._sitemaps, self._assume_http = sitemaps, assume_http
        self._settings, self._worker, self._fetch = _records(given)
        self._added = Added(self._settings)
        self._under_way: set[UnderWay] = set()
        self._counts: Counts | None = None  # of a frontier in memory that is gone

    # Pages.

    async def __aiter__(self) -> AsyncGenerator[Page, None]:
        frontier = await self._open(looking=False)
        try:
            await self._begin(frontier)
            is_stopped = False
            while not is_stopped:
                async with Fetcher(self._fetch, connections=self._worker.concurrency) as fetcher:
                    under_way = UnderWay(frontier, fetcher, self._worker, self._added)
                    self._under_way.add(under_way)
                    try:
                        async with under_way:
                            while (page := await under_way.next_page()) is not None:
                                yield page
                    finally:
                        await self._leave(under_way)
                is_stopped = under_way.is_stopped or not self._added
                await self._added.record(frontier)  # since it has ended
        finally:
            try:
                await self._added.record(frontier)
            finally:
                await frontier.close()

    async def _leave(self, under_way: UnderWay) -> None:
        try:
            if self._frontier == IN_MEMORY:
                self._counts = await under_way.frontier.counts()
        finally:
            self._under_way.discard(under_way)

    def __iter__(self) -> Iterator[Page]:
        return iterate(self.__aiter__)

    def run(self, handler: Callable[[Page], object]) -> None:
        """Let a handler deal with each page: it is finished when the handler returns.

        What the handler raises ends the crawl and is raised here; the page comes again.
        """
        if inspect.iscoroutinefunction(handler):
            raise TypeError("handler: a plain function; `await crawl.arun(handler)` takes an asynchronous one")
        for page in self:
            handler(page)

    async def arun(self, handler: Callable[[Page], Awaitable[object]]) -> None:
        """The same with an asynchronous handler, in the event loop of whoever calls."""
        pages = self.__aiter__()
        try:
            async for page in pages:
                await handler(page)
        finally:
            await pages.aclose()

    # While it runs.

    def add(self, *urls: str, meta: Mapping[str, Any] | None = None) -> None:
        """Add URLs as those that it began with, while it runs or before. Any thread may do so, and it does not wait.

        What is added for a page is recorded before that page is finished. ``meta`` is kept with each URL that is new,
        and comes back as that of its page: at most 2,048 bytes of JSON. Raises ``ValueError`` for that, and for a URL
        that cannot be crawled: then none of them is added.
        """
        _check_urls(urls)
        said = encode_meta(meta or {})
        self._added.put(self._read(urls), said)
        for under_way in tuple(self._under_way):
            under_way.wake()

    def stop(self) -> None:
        """End its loops, and its handlers, after the page in hand, which is finished. Any thread may say so."""
        for under_way in tuple(self._under_way):
            under_way.stop()

    def status(self) -> Counts:
        """How many URLs there are of each kind, in its frontier. In an event loop: :meth:`astatus`."""
        if _is_in_loop():
            raise RuntimeError("status: in an event loop it is `await crawl.astatus()`")
        under_way = next(iter(tuple(self._under_way)), None)
        if under_way is None:
            return self._counts or asyncio.run(self._look())
        asked = asyncio.run_coroutine_threadsafe(_counts(under_way.frontier), under_way.loop)
        while under_way in self._under_way:
            try:
                return asked.result(_LOOK_SECONDS)
            except (TimeoutError, concurrent.futures.CancelledError):
                continue
            except Exception:
                if under_way in self._under_way:
                    raise
        asked.cancel()  # it has ended meanwhile
        return self.status()

    async def astatus(self) -> Counts:
        """The same, in an event loop."""
        mine = (it for it in self._under_way if it.loop is asyncio.get_running_loop())
        if (under_way := next(mine, None)) is not None:
            return await under_way.frontier.counts()
        return await asyncio.to_thread(self.status)

    # How it begins.

    async def _open(self, *, looking: bool) -> Frontier:
        needed = FrontierSettings(visibility_seconds=self._worker.lease_seconds)
        return await open_frontier(self._frontier, needed, clock=time.time, looking=looking)

    async def _look(self) -> Counts:
        frontier = await self._open(looking=self._frontier != IN_MEMORY)
        try:
            return await frontier.counts()
        finally:
            await frontier.close()

    async def _begin(self, frontier: Frontier) -> None:
        seeds = self._read(self._seeds)
        begun = Added(self._settings)
        begun.put(seeds)
        await begun.record(frontier)
        await self._added.record(frontier)
        if self._sitemaps and seeds:
            from sqspider.work.sitemaps import discover  # here: most crawls read none

            await discover(
                frontier, self._fetch, self._settings, seeds=seeds, clock=frontier.now, rng=random.Random(),
                stopping=asyncio.Event(), on_report=lambda _: None,
            )  # fmt: skip
        if not self._seeds and (await frontier.counts()).total == 0:
            raise _no_urls(self._frontier)

    def _read(self, urls: Iterable[str]) -> list[str]:
        """URLs in canonical form. Raises ``ValueError`` for one that is none."""
        options = {"assume_http": self._assume_http, "drop_tracking": self._settings.drop_tracking}
        read = [read_url(url, **options) for url in urls]
        if refused := [url for url in read if isinstance(url, Refused)]:
            raise ValueError("; ".join(map(str, refused)))
        return [str(url) for url in read]


crawl = Crawl
"""A crawl from some URLs, to iterate over at once: ``for page in crawl("https://example.com/"): ...``."""


def _records(given: Mapping[str, Any]) -> tuple[CrawlSettings, WorkerOptions, FetchOptions]:
    """What the arguments say, each in the record that checks it."""
    check_number("depth", given["depth"], CrawlSettings.ranges["max_depth"])  # here: the record names it otherwise
    taken = {
        **given,
        "scope": _scope(given["scope"]),
        "max_depth": given["depth"],
        "include": texts_of("include", given["include"]),
        "exclude": texts_of("exclude", given["exclude"]),
        "obey_nofollow": not given["follow_nofollow"],
    }
    worker = {name: taken[name] for name in WorkerOptions.__struct_fields__ if name in taken and name not in _NOT_SET}
    options = WorkerOptions(worker_id="python", **worker)
    settings = CrawlSettings(**{name: taken[name] for name in CrawlSettings.__struct_fields__ if name in taken})
    fetch = FetchOptions(**{name: taken[name] for name in FetchOptions.__struct_fields__ if name in taken})
    try:
        options.check(fetch.timeout_seconds)
    except ValueError as error:
        raise ValueError(f"lease_seconds: {error}") from None
    return settings, options, fetch


def _check_urls(urls: Iterable[object]) -> None:
    for url in urls:
        if not isinstance(url, str):
            raise TypeError(f"urls: each a text, not {shown(url)}: those of a list are given as crawl(*urls)")


def _no_urls(frontier: str) -> ValueError:
    return ValueError(f"urls: none was given, and {frontier} holds no crawl to go on with")


def _scope(scope: Scope | str) -> Scope:
    if scope not in tuple(Scope):
        raise ValueError(f"scope: one of {', '.join(Scope)}, not {shown(scope)}")
    return Scope(scope)


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


async def _counts(frontier: Frontier) -> Counts:
    return await frontier.counts()
