"""A second crawl beside the first one: the same hosts and URLs, a limit of its own, and an operator's word on it amid
the work."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import msgspec

from sqspider.crawl_row import Crawl, CrawlRef, State
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Entry, Frontier
from sqspider.widening import widened
from sqspider.work.crawl_orders import change_crawl, crawl_named
from sqspider.work.seeding import add_seeds
from sqspider.work.widening import bring_back

from .witness import Rest, Witness

NAME: Final = "second"
DEEPEST: Final = 3  # links from a seed
FOLLOWED_SECONDS: Final = (15.0, 45.0)  # within which what is claimed goes by a change of the row; if calls are slow


class Second:
    """The crawl, and who gives orders to it. ``is_slow``: calls may take longer than a change of its limit waits for."""

    def __init__(
        self, looker: Frontier, witness: Witness, settings: CrawlSettings, rng: random.Random, *, is_slow: bool
    ) -> None:
        self.is_removed = False
        self.was_narrowed = False
        self._looker, self._witness, self._rng = looker, witness, rng
        self._followed_seconds = FOLLOWED_SECONDS[is_slow]
        self.max_depth = rng.randint(0, DEEPEST - 1)
        self._settings = msgspec.structs.replace(settings, max_depth=self.max_depth)
        self._ref = CrawlRef(NAME, "2")
        self._orders: list[Callable[[], Any]] = [self._pause, self._again, self._remove]
        if not is_slow:
            self._orders += [self._change_depth] * 3

    async def sow(self, seeds: Sequence[str]) -> None:
        crawl = Crawl(name=NAME, id=self._ref.id, settings=self._settings)
        assert await self._looker.save_crawl(crawl)
        await add_seeds(self._looker, crawl.ref, seeds, self._settings.scope)
        await self._looker.enqueue([Entry(url=url, settings=self._settings, crawl=crawl.ref) for url in seeds])

    async def order(self) -> None:
        """Give one order, some time after the last, and see it through."""
        await asyncio.sleep(self._rng.uniform(0.5, 15))
        if not self.is_removed:
            await self._rng.choice(self._orders)()

    async def _change(self, change: Callable[[Crawl], Crawl]) -> Crawl:
        crawl = await crawl_named(self._looker, NAME)
        assert crawl is not None
        return await change_crawl(self._looker, crawl, change)

    async def _pause(self) -> None:
        await self._change(lambda crawl: msgspec.structs.replace(crawl, state=State.PAUSED))
        rest = Rest(NAME, self._witness.loop.now, self._followed_seconds)
        self._witness.rests.append(rest)
        await asyncio.sleep(self._rng.choice((3.0, self._followed_seconds + self._rng.uniform(10, 100))))
        rest.end = self._witness.loop.now
        await self._change(lambda crawl: msgspec.structs.replace(crawl, state=State.RUNNING))
        await self._looker.unpark(self._ref)

    async def _change_depth(self) -> None:
        """Cut what is deeper, or let more in: what comes back then is brought back at once."""
        depth = self._rng.choice([depth for depth in range(DEEPEST + 1) if depth != self.max_depth])
        now = self._witness.loop.now
        for rest in self._witness.rests:
            rest.end = min(rest.end, now)
        self._witness.rests.append(Rest(NAME, now, self._followed_seconds, max_depth=depth))
        self.was_narrowed |= depth < self.max_depth
        self.max_depth = depth

        def change(crawl: Crawl) -> Crawl:
            settings = msgspec.structs.replace(crawl.settings, max_depth=depth)
            return widened(crawl, msgspec.structs.replace(crawl, settings=settings), self._looker.now())

        crawl = await self._change(change)
        await bring_back(cast(Frontier, _Reopening(self._looker, self._witness)), crawl)

    async def _again(self) -> None:
        """Ask for some of what is known once more."""
        known = [record.key async for batch in self._looker.scan(crawl=NAME) for record in batch]
        chosen = [key for key in known if self._rng.random() < 0.4]
        await self._witness.reopen(chosen, if_changed=self._rng.random() < 0.7)

    async def _remove(self) -> None:
        self._witness.removed.add(NAME)
        await self._looker.remove_crawl(self._ref)
        self.is_removed = True


class _Reopening:
    """A frontier of which the witness hears what is reopened there."""

    def __init__(self, frontier: Frontier, witness: Witness) -> None:
        self._frontier, self._witness = frontier, witness

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frontier, name)

    async def reopen(self, keys: Sequence[str], *, if_changed: bool = False) -> list[bool]:
        return await self._witness.reopen(keys, if_changed=if_changed)
