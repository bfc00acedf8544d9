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
from types import MappingProxyType
from typing import Any, Final

import msgspec

from sqspider.arguments import check_lease, noting_what_is_said, order_of, worded, worker_options_of
from sqspider.capture import FullError
from sqspider.checks import check_number, shown
from sqspider.crawl_row import Crawl as Row
from sqspider.crawl_row import Limits
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import IN_MEMORY, Counts, Frontier, FrontierSettings, check_address, open_frontier
from sqspider.log import get_logger
from sqspider.meta import encode_meta
from sqspider.orders.consent import asked_in_python
from sqspider.orders.order import NotSaidError, Order, OtherSeedsError, none_named, prepared
from sqspider.orders.said import checked_said
from sqspider.orders.start import ArchivePlace, Start, check_secrets, start_of
from sqspider.orders.store import store_opened
from sqspider.pages import Page
from sqspider.record import DEFAULT_CRAWL
from sqspider.secret import Secret
from sqspider.threaded import iterate
from sqspider.under_way import Added, UnderWay
from sqspider.url import Refused, Scope
from sqspider.web.fetch import Fetcher, FetchOptions
from sqspider.work.crawl_orders import new_id
from sqspider.work.options import WorkerOptions
from sqspider.work.secrets import Secrets
from sqspider.work.seeds import read_url
from sqspider.work.widening import bring_back

_SETTINGS: Final = CrawlSettings()
_FETCH: Final = FetchOptions()
_WORKER: Final = WorkerOptions(worker_id="python")
_NONE: Final[Mapping[str, str | Secret]] = MappingProxyType({})
_LOOK_SECONDS: Final = 0.2  # between two looks whether a crawl that is asked for its status is over

log = get_logger(__name__)


class Crawl:
    """A crawl that runs while it is iterated over, with ``for`` or with ``async for``, or while a handler is run.

    It hands out every URL that has its end, but for redirects: fetched, failed and blocked ones. A page is finished
    when the next one is asked for. Whoever leaves the loop before that, or is killed, gets the page that was in hand
    again, and those that were fetched ahead of it, from a crawl that goes on with the same ``frontier``: so every page
    is handed out at least once. Several loops, threads and processes may iterate over one frontier; each page goes to
    one of them.
    """

    _are_said: frozenset[str]  # the arguments that were given

    @noting_what_is_said
    def __init__(
        self,
        *urls: str,
        crawl: str = DEFAULT_CRAWL,
        scope: Scope | str = Scope.HOST,
        depth: int | None = None,
        include: Iterable[str] = (),
        exclude: Iterable[str] = (),
        follow_nofollow: bool = False,
        keep_skipped: bool = _SETTINGS.keep_skipped,
        check_external: bool = _SETTINGS.check_external,
        assets: bool = _SETTINGS.assets,
        meta_refresh: bool = _SETTINGS.meta_refresh,
        srcset: bool = _SETTINGS.srcset,
        drop_tracking: bool = _SETTINGS.drop_tracking,
        sitemaps: bool = False,
        assume_http: bool = False,
        again: bool = False,
        older_than_seconds: float | None = None,
        max_pages: int | None = None,
        limit_pages: int | None = None,
        limit_bytes: int | None = None,
        limit_seconds: float | None = None,
        limit_dollars: float | None = None,
        host_pages: int | None = None,
        host_bytes: int | None = None,
        max_repeats: int | None = None,
        max_parameters: int | None = None,
        keep: Iterable[str] = (),
        only: Iterable[str] = (),
        keep_bytes: int | None = None,
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
        headers: Mapping[str, str | Secret] = _NONE,
        cookies: Mapping[str, str | Secret] = _NONE,
        login: str | tuple[str, str | Secret] | None = None,
        bearer: str | Secret | None = None,
        send_to: Iterable[str] = (),
        secrets: str | None = None,
        proxy: str | Secret | None = None,
        ca_file: str | None = None,
        client_cert: str | None = None,
        client_key: str | None = None,
        http2: bool = _FETCH.http2,
        concurrency: int = _WORKER.concurrency,
        batch_size: int | None = None,
        lease_seconds: float = _WORKER.lease_seconds,
        frontier: str = IN_MEMORY,
        archive: str | None = None,
    ) -> None:
        """Crawl from some URLs; nothing happens before it is iterated over.

        Each argument is the option of ``sqspider crawl`` of the same name, and means the same. ``crawl`` is the crawl's
        name: with its options it is kept in its frontier, ``sqlite:PATH`` for one that can be broken off. Said without
        a URL it goes on exactly as before; an argument that is given changes it, also for what is queued, one that is
        left out does not. Other URLs with other arguments, while it is not finished, are another crawl, with another
        name.

        Which links: ``scope`` is measured from each URL; ``depth`` counts links from it. ``include`` and ``exclude``
        are regular expressions that the URLs of links must, or must not, match. How much: ``max_pages`` of this run,
        ``limit_pages`` and so on of all of them. ``again`` first puts back all that is done or failed, or of it what
        is ``older_than_seconds``. As whom: what is secret in ``headers``, ``cookies``, ``login``, ``bearer`` and
        ``proxy`` is a :class:`sqspider.Secret`, or where it is to be found, as in ``env:SQSPIDER_SECRET_NAME``.
        With ``archive``, a folder or ``s3://BUCKET/PREFIX``, every answer is kept there before its page is handed out;
        without it none is.

        Raises ``TypeError`` and ``ValueError`` for an argument that is not good, in words that begin with its name.
        Iterating raises ``ValueError`` for a URL that cannot be crawled, without any where nothing was crawled before,
        and for what its crawl cannot have; ``RuntimeError`` where somebody else changes it at the same moment;
        :class:`sqspider.FrontierError` if the frontier cannot do its work; and :class:`sqspider.StoreError` where the
        archive cannot be opened, or has no more room: what is left is fetched by a crawl that goes on.
        """
        given = {name: value for name, value in locals().items() if name not in ("self", "urls")}
        _check_urls(urls)
        check_address(frontier)
        if not urls and frontier == IN_MEMORY:
            raise _no_urls(frontier)
        self._archive = _archive_of(archive)
        check_number("older_than_seconds", older_than_seconds, Limits.ranges["seconds"])
        if older_than_seconds is not None and not again:
            raise ValueError("older_than_seconds: it goes with again=True")
        self._order = order_of(given, self._are_said)
        self._worker = worker_options_of(given, 0.0 if self._archive is None else self._archive.gather_seconds)
        self._seeds = urls
        self._frontier = frontier
        self._sitemaps, self._assume_http, self._again = sitemaps, assume_http, again
        self._older_than_seconds = older_than_seconds
        self._secrets_folder = secrets
        with worded():
            self._row = checked_said(self._order.said)  # of what no row says anything, by what was said alone
        self._added = Added(crawl, self._row.settings)
        self._under_way: set[UnderWay] = set()
        self._counts: Counts | None = None  # of a frontier in memory that is gone

    # Pages.

    async def __aiter__(self) -> AsyncGenerator[Page, None]:
        with worded():
            check_secrets(self._row.identity, Secrets(folder=self._secrets_folder))  # before a file is made
        frontier = await self._open(looking=False)
        try:
            start = await self._begin(frontier)
            options = msgspec.structs.replace(self._worker, run=new_id(random.SystemRandom()))
            is_stopped = False
            while not is_stopped:
                async with (
                    Fetcher(start.fetch, connections=options.concurrency) as fetcher,
                    store_opened(start, frontier) as store,
                ):
                    under_way = UnderWay(frontier, fetcher, options, start, self._order.name, self._added, store)
                    self._under_way.add(under_way)
                    try:
                        async with under_way:
                            while (page := await under_way.next_page()) is not None:
                                yield page
                    finally:
                        await self._leave(under_way)
                if under_way.has_no_room is not None:
                    raise FullError(f"{under_way.has_no_room} ({self._archive and self._archive.address})")
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
                self._counts = await self._counted(under_way.frontier)
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
        """How many URLs of it there are of each kind. In an event loop: :meth:`astatus`."""
        if _is_in_loop():
            raise RuntimeError("status: in an event loop it is `await crawl.astatus()`")
        under_way = next(iter(tuple(self._under_way)), None)
        if under_way is None:
            return self._counts or asyncio.run(self._look())
        asked = asyncio.run_coroutine_threadsafe(self._counted(under_way.frontier), under_way.loop)
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
            return await self._counted(under_way.frontier)
        return await asyncio.to_thread(self.status)

    # How it begins.

    async def _open(self, *, looking: bool) -> Frontier:
        needed = FrontierSettings(visibility_seconds=self._worker.lease_seconds)
        return await open_frontier(self._frontier, needed, clock=time.time, looking=looking)

    async def _look(self) -> Counts:
        frontier = await self._open(looking=self._frontier != IN_MEMORY)
        try:
            return await self._counted(frontier)
        finally:
            await frontier.close()

    async def _counted(self, frontier: Frontier) -> Counts:
        return await frontier.counts(crawl=self._order.name)

    async def _begin(self, frontier: Frontier) -> Start:
        """Make the crawl, change it or leave it as it is, and record what it begins with; how it is worked on."""
        seeds = self._read(self._seeds)
        order = self._order._replace(urls=tuple(seeds), has_more=bool(self._added))
        row = await _take_order(frontier, order) or await self._without_row(frontier)
        with worded():
            start = start_of(row, self._secrets_folder, self._archive)
        check_lease(self._worker, start.fetch.timeout_seconds, start.gather_seconds)
        await bring_back(frontier, row)
        if self._again:
            from sqspider.again import visit_again  # here: most crawls visit nothing again

            await visit_again(frontier, row.name, self._older_than_seconds)
        begun = Added(row.name, row.settings)
        begun.put(seeds)
        await begun.record(frontier)
        await self._added.record(frontier)
        if self._sitemaps and seeds:
            from sqspider.work.sitemaps import discover  # here: most crawls read none

            async with store_opened(start, frontier) as store:
                await discover(
                    frontier, start.fetch, row.settings, seeds=seeds, clock=frontier.now, rng=random.Random(),
                    stopping=asyncio.Event(), on_report=lambda _: None, crawl=row, allowed=start.allowed,
                    secrets=start.secrets, store=store,
                )  # fmt: skip
        return start

    async def _without_row(self, frontier: Frontier) -> Row:
        """What loose records go by, where no crawl is meant: what was said here, and kept nowhere."""
        if self._order.name != DEFAULT_CRAWL:
            raise ValueError(f"urls: none was given, and {await none_named(frontier, self._order.name)}")
        if (await self._counted(frontier)).total == 0:
            raise _no_urls(self._frontier)
        return self._row

    def _read(self, urls: Iterable[str]) -> list[str]:
        """URLs in canonical form. Raises ``ValueError`` for one that is none."""
        options = {"assume_http": self._assume_http, "drop_tracking": self._row.settings.drop_tracking}
        read = [read_url(url, **options) for url in urls]
        if refused := [url for url in read if isinstance(url, Refused)]:
            raise ValueError("; ".join(map(str, refused)))
        return [str(url) for url in read]


crawl = Crawl
"""A crawl from some URLs, to iterate over at once: ``for page in crawl("https://example.com/"): ...``."""


async def _take_order(frontier: Frontier, order: Order) -> Row | None:
    """A crawl's row as it is ordered; none if there is none, and no URL to make it for."""
    try:
        with worded():
            done = await prepared(frontier, order)
    except OtherSeedsError as error:
        raise ValueError(
            f"urls: {error.what} ({error.changes}): another name, crawl=..., makes another crawl of them; without URLs "
            "the same arguments change this one"
        ) from None
    except NotSaidError as error:
        asked = asked_in_python(error.identity)
        raise ValueError(f"crawl: {error.name} asks for {asked}, and {error.why}. If you mean it, say it") from None
    if done is not None and done.changes:
        log.info("crawl_changed", crawl=order.name, changes=done.changes)
    return None if done is None else done.crawl


def _archive_of(address: str | None) -> ArchivePlace | None:
    if address is None:
        return None
    from sqspider.orders.keeping import check_archive  # here: most crawls keep nothing

    check_archive(address)
    return ArchivePlace(address=address)


def _check_urls(urls: Iterable[object]) -> None:
    for url in urls:
        if not isinstance(url, str):
            raise TypeError(f"urls: each a text, not {shown(url)}: those of a list are given as crawl(*urls)")


def _no_urls(frontier: str) -> ValueError:
    return ValueError(f"urls: none was given, and {frontier} holds no crawl to go on with")


def _is_in_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
