"""The rows of crawls in memory, their seeds and the shares of runs; and what is put aside of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

from sqspider.crawl_row import Crawl, CrawlRef
from sqspider.frontier.answers import is_current, saved_crawl
from sqspider.frontier.memory.part import Part, operation
from sqspider.frontier.shares import Ask, Portion, Run, Spent, freed, shared
from sqspider.frontier.values import Delivery


class Crawls(Part):
    """What is known of crawls, beside their records."""

    @operation
    def crawls(self) -> list[Crawl]:
        return [crawl for _, crawl in sorted(self._store.crawls.items())]

    @operation
    def save_crawl(self, crawl: Crawl) -> bool:
        saved = saved_crawl(self._store.crawls.get(crawl.name), crawl)
        if saved is not None:
            self._store.crawls[crawl.name] = saved
        return saved is not None

    @operation
    def remove_crawl(self, ref: CrawlRef, on_removed: Callable[[int], None] = lambda _: None) -> int:
        removed = self._store.remove_crawl(ref)
        self._store.tell()  # there may be nothing left to wait for
        on_removed(removed)
        return removed

    @operation
    def removals(self) -> list[CrawlRef]:
        return []  # nothing dies half-way here

    @operation
    def add_seeds(self, ref: CrawlRef, sites: Mapping[str, Collection[str]]) -> bool:
        if not is_current(ref, self._store.crawls.get(ref.name)):
            return False
        before = {site: self._store.seeds.get((ref, site)) for site in sites}
        after = {site: (before[site] or frozenset()) | frozenset(folders) for site, folders in sites.items()}
        for site, folders in after.items():
            self._store.seeds[ref, site] = folders
        return before != after

    @operation
    def seeds(self, ref: CrawlRef, sites: Collection[str]) -> dict[str, frozenset[str]]:
        return {site: self._store.seeds[ref, site] for site in sites if (ref, site) in self._store.seeds}

    @operation
    def park(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            self._store.queue.park(delivery)

    @operation
    def unpark(self, ref: CrawlRef) -> int:
        unparked = self._store.queue.unpark(ref, self._clock())
        self._store.tell()
        return unparked

    @operation
    def share(self, asks: Sequence[Ask]) -> list[Portion]:
        return [self._share_one(ask) for ask in asks]

    def _share_one(self, ask: Ask) -> Portion:
        self._store.runs[ask.run], portion = shared(self._store.runs.get(ask.run), ask, self._clock())
        return portion

    @operation
    def free(self, run: str, spent: Spent) -> None:
        if run in self._store.runs:
            self._store.runs[run] = freed(self._store.runs[run], spent)

    @operation
    def runs(self, names: Sequence[str]) -> dict[str, Run]:
        return {name: self._store.runs[name] for name in names if name in self._store.runs}
