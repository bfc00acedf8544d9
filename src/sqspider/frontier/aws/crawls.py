"""What belongs to crawls beside their records: their seeds; and how a crawl is removed."""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from sqspider.crawl_row import CrawlRef
from sqspider.frontier.answers import uncounted
from sqspider.frontier.aws.attributes import Item, s, text, texts
from sqspider.frontier.aws.batches import batches, together
from sqspider.frontier.aws.clearing import SEGMENTS
from sqspider.frontier.aws.crawl_rows import CrawlRows
from sqspider.frontier.aws.items import PARKED_SHARDS, QUEUED_SHARDS, is_record, key_of, record_of
from sqspider.frontier.aws.table import READ_BATCH, WRITE_BATCH
from sqspider.frontier.shares import is_run_of
from sqspider.frontier.values import FrontierError
from sqspider.record import DEFAULT_CRAWL, split_key
from sqspider.widening import SEEN_SECONDS

SEEDS_AT_ONCE: Final = 500  # sites whose seeds are under way at a time
MAX_FOLDER_BYTES: Final = 300_000  # of one site, in one item: some five thousand folders


class Crawls(CrawlRows):
    """Seeds, and the end of crawls."""

    async def add_seeds(self, ref: CrawlRef, sites: Mapping[str, Collection[str]]) -> bool:
        news = [await self._add_seeds(ref, dict(part)) for part in batches(list(sites.items()), SEEDS_AT_ONCE)]
        return any(news)

    async def _add_seeds(self, ref: CrawlRef, sites: Mapping[str, Collection[str]]) -> bool:
        """Read before writing: what is noted already costs an eighth of a write."""
        known = await self._table.read(_seed_key(ref, site) for site in sites)
        items = {site: known.get(_seed_key(ref, site)) for site in sites}
        missing = {site: frozenset(folders) - texts(items[site] or {}, "folders") for site, folders in sites.items()}
        for site, folders in missing.items():
            _check_folders(ref, site, folders | texts(items[site] or {}, "folders"))
        unknown = {site: folders for site, folders in missing.items() if items[site] is None}
        written = await self._table.write([self._table.insert(_seed_item(ref, *seed)) for seed in unknown.items()])
        for site, w in zip(unknown, written, strict=True):
            if w.refusal:
                raise FrontierError(f"the seeds of {site} cannot be noted: {w.refusal}")
        # One that somebody else has noted meanwhile takes the folders as one does that was known.
        inserted = {site for site, w in zip(unknown, written, strict=True) if w.is_done}
        further = {site: folders for site, folders in missing.items() if folders and site not in inserted}
        await together(self._add_folders(ref, site, folders) for site, folders in further.items())
        return bool(unknown or further)

    async def _add_folders(self, ref: CrawlRef, site: str, folders: Collection[str]) -> None:
        request: dict[str, Any] = {
            "UpdateExpression": "ADD #folders :folders",
            "ExpressionAttributeNames": {"#folders": "folders"},
            "ExpressionAttributeValues": {":folders": {"SS": sorted(folders)}},
        }
        await self._table.change("UpdateItem", _seed_key(ref, site), request)

    async def seeds(self, ref: CrawlRef, sites: Collection[str]) -> dict[str, frozenset[str]]:
        items = await self._table.read(_seed_key(ref, site) for site in sites)
        keys = {site: _seed_key(ref, site) for site in sites}
        return {site: texts(items[key], "folders") for site, key in keys.items() if key in items}

    async def remove_crawl(self, ref: CrawlRef, on_removed: Callable[[int], None] = lambda _: None) -> int:
        """Reads the whole table, once all workers know that the crawl goes: what they recorded after it would stay, and
        be taken for known by the next crawl of its name. Messages in the queue end when they are received."""
        if not await self._begin_removal(ref):
            return 0
        await sleep(SEEN_SECONDS)
        removed = 0
        await self._host_rows.raise_generation()  # as when the table is cleared: now, in case it dies, and at the end

        async def remove(items: list[Item]) -> None:
            nonlocal removed
            records = [item for item in items if is_record(item["url"]["S"]) and text(item, "crawl") == str(ref)]
            keys = [key for item in items if _belongs(ref, key := item["url"]["S"])]
            keys += [item["url"]["S"] for item in records]
            await together(self._table.delete_items(part) for part in batches(keys, WRITE_BATCH))
            if ref.name == DEFAULT_CRAWL:  # others' sums go as a whole
                for record in map(record_of, records):
                    self._sums.add(record.key, uncounted(record.status, record.outcome))
            removed += len(records)
            on_removed(removed)

        async def remove_segment(segment: int) -> None:
            async for items in self._table.scan(Segment=segment, TotalSegments=SEGMENTS):
                await remove(items)

        await together(remove_segment(segment) for segment in range(SEGMENTS))
        # What was recorded meanwhile by who did not know yet that it goes.
        for shard in (*QUEUED_SHARDS, *PARKED_SHARDS):
            async for found in self._table.walk(shard):
                for part in batches([key for key, _ in found if split_key(key)[0] == ref.name], READ_BATCH):
                    await remove(list((await self._table.read(part)).values()))
        if ref.name != DEFAULT_CRAWL:
            await self._sums.remove(ref.name)
        await self.flush()
        await self._host_rows.raise_generation()  # before its name is free: the next one may have the same URLs
        await self._end_removal(ref)
        return removed


def _belongs(ref: CrawlRef, key: str) -> bool:
    """Whether it is the key of one of a crawl's seeds or runs."""
    kind, _, name = key.partition(" ")
    return key.startswith(f"seed {ref} ") or (kind == "share" and is_run_of(ref, name))


def _seed_key(ref: CrawlRef, site: str) -> str:
    return key_of(f"seed {ref}", site)


def _seed_item(ref: CrawlRef, site: str, folders: Collection[str]) -> Item:
    item: Item = {"url": s(_seed_key(ref, site)), "site": s(site)}
    if folders:  # DynamoDB has no empty sets
        item["folders"] = {"SS": sorted(folders)}
    return item


def _check_folders(ref: CrawlRef, site: str, folders: Collection[str]) -> None:
    if sum(len(folder.encode()) for folder in folders) > MAX_FOLDER_BYTES:
        raise FrontierError(
            f"the crawl {ref.name} has seeds in more folders of {site} than an item of DynamoDB holds "
            f"({MAX_FOLDER_BYTES:,} bytes): let its scope be the host (--scope host)"
        )
