"""A crawl that is under way in Python: a worker, and its pages, one at a time, to whoever iterates.

A page is finished when the next one is asked for. The one in hand when the loop is left, and those that were fetched
ahead of it, are given back unfinished: they come again.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import suppress
from typing import Self

import msgspec

from sqspider.capture import Store
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Frontier
from sqspider.orders.order import none_named
from sqspider.orders.start import Start
from sqspider.pages import Page, page_of
from sqspider.record import DEFAULT_CRAWL
from sqspider.web.fetch import Fetcher
from sqspider.work.crawl_orders import crawl_named
from sqspider.work.holding import Held
from sqspider.work.lists import Listed, RefusedLine
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from sqspider.work.worker import Mode, Worker


class Added:
    """URLs that were added to a crawl and are not recorded yet. Any thread may add some."""

    def __init__(self, crawl: str, settings: CrawlSettings) -> None:
        self._crawl = crawl
        self._settings = settings  # where there is no crawl of this name
        self._urls: dict[int, tuple[str, str | None]] = {}  # by number: several loops may record them at the same time
        self._numbers = itertools.count()

    def __bool__(self) -> bool:
        return bool(self._urls)

    def put(self, urls: list[str], meta: str | None = None) -> None:
        """Add canonical URLs; ``meta``: what is said of each (see :mod:`sqspider.meta`)."""
        self._urls.update(zip(self._numbers, ((url, meta) for url in urls), strict=False))

    async def record(self, frontier: Frontier) -> None:
        """Record what was added, as seeds. Raises :class:`FrontierError`, and ``ValueError`` where the crawl was
        removed: then it is still to be recorded."""
        while added := self._urls.copy():
            row = await crawl_named(frontier, self._crawl)  # as it is now: its scope may have been changed
            if row is None and self._crawl != DEFAULT_CRAWL:
                raise ValueError(f"crawl: {await none_named(frontier, self._crawl)}")
            settings, ref = (row.settings, row.ref) if row is not None else (self._settings, None)
            listed = [Listed(0, url, meta) for url, meta in added.values()]
            await produce(frontier, (), settings, crawl=ref, listed=listed, on_refused=_was_read)
            for number in added:
                self._urls.pop(number, None)


def _was_read(line: RefusedLine) -> None:
    raise AssertionError(f"a URL that was read is refused: {line.refused.reason}")


class UnderWay:
    """A worker that works for one crawl until nothing of it is left, and the pages that it has fetched.

    Leaving it stops the worker in good order; being cancelled while it leaves stops it at once. (It is no generator:
    an event loop that ends closes every generator by itself, without regard to which of them is within which.)
    """

    def __init__(
        self,
        frontier: Frontier,
        fetcher: Fetcher,
        options: WorkerOptions,
        start: Start,
        crawl: str,
        added: Added,
        store: Store | None = None,
    ) -> None:
        options = msgspec.structs.replace(options, worker_id=f"python-{random.getrandbits(32):08x}")
        self.frontier = frontier
        self.loop = asyncio.get_running_loop()
        self.is_stopped = False
        self._added = added
        self._pages: asyncio.Queue[Held | None] = asyncio.Queue()  # none: there is something to look at
        self._in_hand: Held | None = None
        self._crawl = crawl
        self._worker = Worker(
            frontier,
            fetcher,
            options,
            clock=frontier.now,
            rng=random.Random(),
            take=self._pages.put_nowait,
            store=store,
            allowed=start.allowed,
            secrets=start.secrets,
            only=crawl,
        )

    @property
    def has_no_room(self) -> str | None:
        """Why the worker has stopped by itself with something left: there is no room for what it fetches."""
        return self._worker.stopped_by

    async def __aenter__(self) -> Self:
        self._running = asyncio.create_task(self._worker.run(Mode.UNTIL_EMPTY, crawl=self._crawl))
        self._running.add_done_callback(lambda _: self._pages.put_nowait(None))
        return self

    async def next_page(self) -> Page | None:
        """The next page, or none when there is no other. The one before it is finished by that."""
        await self._added.record(self.frontier)  # first: so a page is finished with all that was added for it
        in_hand, self._in_hand = self._in_hand, None
        if in_hand is not None:
            in_hand.finish()
        while not self.is_stopped and not self._running.done():
            held = await self._pages.get()
            if held is None:
                await self._added.record(self.frontier)
            elif not held.is_lost:
                self._in_hand = held
                return page_of(held)
        return None

    def stop(self) -> None:
        """Let no other page be had. Any thread may say so."""
        self.is_stopped = True
        self.wake()

    def wake(self) -> None:
        """There is something to look at. Any thread may say so."""
        with suppress(RuntimeError):  # its loop is closed: it is over
            self.loop.call_soon_threadsafe(self._pages.put_nowait, None)

    async def __aexit__(self, *_: object) -> None:
        try:
            self._worker.stop()
            await asyncio.wait((self._running,))
        finally:
            self._running.cancel()  # of no effect if it has ended
            await asyncio.wait((self._running,))
        await self._running
