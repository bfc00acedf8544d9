"""What a wider limit lets in again comes back, whatever befalls whoever brings it back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import pytest

from sqspider.crawl_row import Crawl, State
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Entry, FrontierSettings
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.record import Outcome, Reason, Status
from sqspider.url import Scope
from sqspider.widening import widened
from sqspider.work.crawl_orders import change_crawl, crawl_named, make_crawl
from sqspider.work.widening import bring_back
from tests.frontier.kit import finish_one, take_one, win

PAGES: Final = 5
NOW: Final = 1000.0


class Interrupted(MemoryFrontier):
    """Somebody else changes the crawl while it is brought back."""

    async def reopen(self, keys: Sequence[str], *, if_changed: bool = False) -> list[bool]:
        row = await crawl_named(self, "news")
        assert row is not None
        slower = msgspec.structs.replace(row.settings, delay_seconds=row.settings.delay_seconds + 1)
        assert await self.save_crawl(msgspec.structs.replace(row, settings=slower))
        return await super().reopen(keys, if_changed=if_changed)


class Dying(MemoryFrontier):
    """It dies in the midst of bringing back."""

    async def reopen(self, keys: Sequence[str], *, if_changed: bool = False) -> list[bool]:
        await super().reopen(keys[:2], if_changed=if_changed)
        raise KeyboardInterrupt


async def a_crawl_cut_at_depth(frontier: MemoryFrontier, depth: int) -> Crawl:
    """Its pages are done at the limit, and one was blocked as too deep."""
    settings = CrawlSettings(scope=Scope.HOST, max_depth=depth)
    crawl = await make_crawl(frontier, Crawl(name="news", id="1", settings=settings))
    done, deep = Outcome(status=Status.DONE), Outcome(status=Status.BLOCKED, reason=Reason.DEPTH_LIMIT)
    for number in range(PAGES + 1):
        is_deep = number == PAGES
        entry = Entry(url=f"http://e.com/{number}", crawl=crawl.ref, depth=depth + is_deep, parent="http://e.com/")
        assert await frontier.enqueue([entry]) == [True]
        delivery = await take_one(frontier)
        claim = await win(frontier, delivery)
        assert await finish_one(frontier, claim, delivery, deep if is_deep else done)
    return crawl


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


def opened(store: MemoryStore, kind: type[MemoryFrontier] = MemoryFrontier, now: float = NOW) -> MemoryFrontier:
    return kind(store, FrontierSettings(), clock=lambda: now)


async def test_what_was_broken_off_comes_back_the_next_time(store: MemoryStore) -> None:
    crawl = await a_crawl_cut_at_depth(opened(store), 1)
    deeper = msgspec.structs.replace(crawl, settings=msgspec.structs.replace(crawl.settings, max_depth=2))
    frontier = opened(store, now=NOW + 1)
    crawl = await change_crawl(frontier, crawl, lambda row: widened(row, deeper, NOW + 1))
    with pytest.raises(KeyboardInterrupt):
        await bring_back(opened(store, Dying), crawl)
    row = await crawl_named(frontier, "news")
    assert row is not None
    assert row.widening is not None
    left = await bring_back(frontier, row)
    assert left == (PAGES - 2, 1)
    assert (await frontier.counts(crawl="news")).by_status[Status.QUEUED] == PAGES + 1
    row = await crawl_named(frontier, "news")
    assert row is not None
    assert row.widening is None
    assert await bring_back(frontier, row) == (0, 0, 0)


async def test_an_order_that_is_given_while_it_comes_back_stops_nothing(store: MemoryStore) -> None:
    crawl = await a_crawl_cut_at_depth(opened(store), 1)
    deeper = msgspec.structs.replace(crawl, settings=msgspec.structs.replace(crawl.settings, max_depth=2))
    frontier = opened(store, Interrupted, now=NOW + 1)
    crawl = await change_crawl(frontier, crawl, lambda row: widened(row, deeper, NOW + 1))
    assert await bring_back(frontier, crawl) == (PAGES, 1)
    row = await crawl_named(frontier, "news")
    assert row is not None
    assert row.widening is None
    assert row.settings.delay_seconds == crawl.settings.delay_seconds + 2


async def test_that_all_came_back_is_no_order_of_somebody_else(store: MemoryStore) -> None:
    crawl = await a_crawl_cut_at_depth(opened(store), 1)
    deeper = msgspec.structs.replace(crawl, settings=msgspec.structs.replace(crawl.settings, max_depth=2))
    frontier = opened(store, now=NOW + 1)
    before = await change_crawl(frontier, crawl, lambda row: widened(row, deeper, NOW + 1))
    await bring_back(frontier, before)
    after = await change_crawl(frontier, before, lambda row: msgspec.structs.replace(row, state=State.PAUSED))
    assert (after.state, after.widening) == (State.PAUSED, None)
