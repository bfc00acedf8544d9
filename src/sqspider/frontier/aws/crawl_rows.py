"""The rows of crawls: all of them in one item, so that a worker learns with one read what has changed.

An attribute each, by ``@`` and the name: a mark of who wrote it, when, and the row as JSON; or, while a crawl is being
removed, whose removal is not done. A row is written only where nobody else has written it since it was read: the whole
text decides.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from sqspider.crawl_row import UNKNOWN_ID, Crawl, CrawlRef, encode_crawl, is_name, read_crawl
from sqspider.frontier.answers import is_current, saved_crawl
from sqspider.frontier.aws.attributes import Item, s, text
from sqspider.frontier.aws.errors import AwsError, Meaning
from sqspider.frontier.aws.part import Part
from sqspider.frontier.aws.table import mark_by
from sqspider.frontier.values import FrontierError

CRAWLS: Final = "crawls"  # the item
MAX_ROW_BYTES: Final = 32_000  # a worker reads all rows every few seconds
REMOVING: Final = "removing"  # before the id of a crawl, in place of its row
_ID_IN_ROW: Final = re.compile(r'"id":"([0-9a-f]{1,32})"')  # of a row that cannot be read, too


class CrawlRow(NamedTuple):
    """A crawl's row, and when it was written."""

    crawl: Crawl
    saved_at: float


class CrawlRows(Part):
    """The rows of crawls, as they are kept."""

    async def crawls(self) -> list[Crawl]:
        return [row.crawl for row in await self._crawl_rows()]

    async def save_crawl(self, crawl: Crawl) -> bool:
        attribute = _attribute_of(crawl.name)
        mark = mark_by(self._rng)
        backoff = self.client.backoff("UpdateItem")
        while True:
            before = text(await self._crawls_item(), attribute)
            if before is not None and before.startswith(f"{mark} "):  # the answer was lost
                return True
            saved = None if _is_removing(before) else saved_crawl(_row_of(attribute, before), crawl)
            if saved is None:
                return False
            if await self._change_row(attribute, before, f"{mark} {self._clock():.3f} {_encoded(saved)}"):
                return True
            await backoff.wait("the rows of crawls are changed by others all the time")

    async def removals(self) -> list[CrawlRef]:
        ids = {name: text.partition(" ") for name, text in _texts_in(await self._crawls_item()).items()}
        return [CrawlRef(name[1:], id_) for name, (mark, _, id_) in ids.items() if mark == REMOVING]

    async def _crawl_rows(self) -> list[CrawlRow]:
        """All of them, by name, but for those that are being removed."""
        rows = [_read(*each) for each in _texts_in(await self._crawls_item()).items()]
        return [row for row in rows if row is not None]

    async def _begin_removal(self, ref: CrawlRef) -> bool:
        """Let a crawl's row go; false where there is nothing to remove: its removal is done, or it never was."""
        attribute, removing = _attribute_of(ref.name), f"{REMOVING} {ref.id}"
        backoff = self.client.backoff("UpdateItem")
        while True:
            before = text(await self._crawls_item(), attribute)
            if before == removing:
                return True
            if before is None or not is_current(ref, _row_of(attribute, before)):
                return False
            if await self._change_row(attribute, before, removing):
                return True
            await backoff.wait("the rows of crawls are changed by others all the time")

    async def _end_removal(self, ref: CrawlRef) -> None:
        """Let a crawl of its name be made again."""
        await self._change_row(_attribute_of(ref.name), f"{REMOVING} {ref.id}", None)

    async def _crawls_item(self) -> Item:
        return (await self._table.read([CRAWLS])).get(CRAWLS, {})

    async def _change_row(self, attribute: str, before: str | None, after: str | None) -> bool:
        """Write an attribute, if it is as it was read; none: it is not there."""
        values = {f":{name}": s(value) for name, value in (("before", before), ("after", after)) if value is not None}
        request = {
            "UpdateExpression": "REMOVE #row" if after is None else "SET #row = :after",
            "ConditionExpression": "attribute_not_exists(#row)" if before is None else "#row = :before",
            "ExpressionAttributeNames": {"#row": attribute},
            "ExpressionAttributeValues": values,
        }
        try:
            return await self._table.change("UpdateItem", CRAWLS, request)
        except AwsError as error:
            if error.meaning is not Meaning.REFUSED:
                raise
            raise FrontierError(
                f"the rows of all crawls are too much for one item of DynamoDB: remove crawls that are over ({error})"
            ) from error


def _attribute_of(name: str) -> str:
    return f"@{name}"


def _texts_in(item: Item) -> dict[str, str]:
    """The texts of all crawls, by their attributes, in order. What no crawl can be named is none."""
    return {at: item[at].get("S", "") for at in sorted(item) if at.startswith("@") and is_name(at[1:])}


def _is_removing(row: str | None) -> bool:
    return row is not None and row.startswith(f"{REMOVING} ")


def _row_of(attribute: str, row: str | None) -> Crawl | None:
    """The crawl that an attribute's text is of; none where there is none, or it is being removed."""
    found = None if row is None else _read(attribute, row)
    return found and found.crawl


def _read(attribute: str, row: str) -> CrawlRow | None:
    """A row; none if its crawl is being removed. One that cannot be read is there all the same: to take it for none
    would end all messages of its crawl."""
    if _is_removing(row):
        return None
    words = [*row.split(" ", 2), "", ""]
    id_ = _ID_IN_ROW.search(row)
    crawl = read_crawl(CrawlRef(attribute[1:], id_[1] if id_ else UNKNOWN_ID), words[2])
    try:
        return CrawlRow(crawl, float(words[1]))
    except ValueError:
        return CrawlRow(crawl, 0.0)


def _encoded(crawl: Crawl) -> str:
    row = encode_crawl(crawl)
    if len(row.encode()) > MAX_ROW_BYTES:
        raise FrontierError(
            f"the row of the crawl {crawl.name} is longer than {MAX_ROW_BYTES:,} bytes: "
            "give it fewer or shorter patterns and headers"
        )
    return row
