"""The rows of crawls, as whoever gives orders finds, makes and changes them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import msgspec

from sqspider.crawl_row import Crawl, CrawlRef, unreadable_words
from sqspider.frontier import Crawls, FrontierError

# What is written while a crawl runs, or as an order is seen through, and is none itself.
_NO_ORDERS = ("version", "seeds", "seeds_version", "counted_since", "widening")


class ChangedMeanwhileError(RuntimeError):
    """The crawl {name} was changed by somebody else at the same moment: look at it, and say it again."""

    def __init__(self, name: str) -> None:
        super().__init__(" ".join(str(type(self).__doc__).format(name=name).split()))


class BeingRemovedError(ChangedMeanwhileError):
    """What is left of an earlier crawl {name} is being removed, or that was broken off: `sqspider crawls remove {name}`
    goes on with it, and then another can be made."""


async def crawl_named(frontier: Crawls, name: str) -> Crawl | None:
    """The row of a crawl; none if there is none. Raises :class:`FrontierError` where it cannot be read."""
    row = next((row for row in await frontier.crawls() if row.name == name), None)
    if row is not None and row.unreadable:
        raise FrontierError(unreadable_words(row))
    return row


async def removal_of(frontier: Crawls, name: str) -> CrawlRef | None:
    """The crawl of a name whose removal was begun and is not done; none if there is none."""
    return next((ref for ref in await frontier.removals() if ref.name == name), None)


async def removable(frontier: Crawls, name: str) -> CrawlRef | None:
    """The crawl of a name that can be removed: also one whose removal was broken off, or whose row cannot be read."""
    there = next((row.ref for row in await frontier.crawls() if row.name == name), None)
    return there or await removal_of(frontier, name)


def new_id(rng: Random) -> str:
    """An id for a crawl that was never used, and never will be."""
    return f"{rng.getrandbits(128):032x}"


async def make_crawl(frontier: Crawls, crawl: Crawl) -> Crawl:
    """Write a row that is not there yet; as it is there then. Raises :class:`ChangedMeanwhileError`, which says so
    where what is left of another of its name has to go first."""
    if not await frontier.save_crawl(crawl):
        if await removal_of(frontier, crawl.name):
            raise BeingRemovedError(crawl.name)
        raise ChangedMeanwhileError(crawl.name)
    return msgspec.structs.replace(crawl, version=crawl.version + 1)


async def change_crawl(frontier: Crawls, crawl: Crawl, change: Callable[[Crawl], Crawl]) -> Crawl:
    """Change a row; as it is there then.

    That its workers found seeds meanwhile, or that what an earlier order lets in has come back, is no other order.
    Raises :class:`ChangedMeanwhileError` for one, and where the crawl was removed.
    """
    while True:
        changed = change(crawl)
        if changed == crawl:
            return crawl
        if await frontier.save_crawl(changed):
            return msgspec.structs.replace(changed, version=changed.version + 1)
        found = await crawl_named(frontier, crawl.name)
        if found is None or _orders_in(found) != _orders_in(crawl):
            raise ChangedMeanwhileError(crawl.name)
        crawl = found


def _orders_in(crawl: Crawl) -> Crawl:
    return msgspec.structs.replace(crawl, **{name: getattr(Crawl(name="a", id="0"), name) for name in _NO_ORDERS})
