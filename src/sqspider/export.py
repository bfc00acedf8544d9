"""Records as rows: which columns there are, and what of a record stands in each. Their names are part of what we
promise.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, NamedTuple

from sqspider.chains import Chain, chains_of
from sqspider.frontier import Looking
from sqspider.meta import MetaError, decode_meta
from sqspider.record import Kept, Outcome, Reason, Status, UrlRecord
from sqspider.record_filter import EVERY_RECORD, RecordFilter
from sqspider.tables import values
from sqspider.tables.columns import Column, Kind, Row, chosen
from sqspider.tables.sorting import Order, in_order
from sqspider.tables.table import Table

_NOTHING: Final = Outcome(status=Status.QUEUED)
_NONE_KEPT: Final = Kept()


def in_milliseconds(moment: float | None) -> float | None:
    """A moment without what is less than a millisecond: rows never had more of it."""
    whole = values.micros(moment)
    return None if whole is None else whole // 1000 / 1000


def iso(moment: float | None) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC, with milliseconds."""
    return values.iso(in_milliseconds(moment))


class _Seen(NamedTuple):
    """A record, and what a row of it is made from."""

    record: UrlRecord
    outcome: Outcome
    kept: Kept
    chain: Chain | None  # where it leads, if it redirects


def _final_url(seen: _Seen) -> str | None:
    """Where redirects end: of a page at itself; none without an answer, or for a chain without end."""
    record, outcome, _, chain = seen
    if outcome.is_redirect:
        return chain.end if chain else None
    if outcome.reason is Reason.REDIRECT_LOOP:
        return None
    return outcome.redirect_to or (None if outcome.http_status is None else record.url)


def _time(moment: float | None) -> float | None:
    if moment is None:
        return None
    values.check_time(moment)
    return in_milliseconds(moment)


_MAKERS: Final[dict[str, tuple[Kind, Callable[[_Seen], object]]]] = {
    "url": (Kind.TEXT, lambda it: it.record.url),
    "status": (Kind.TEXT, lambda it: it.record.status.value),
    "reason": (Kind.TEXT, lambda it: it.outcome.reason and it.outcome.reason.value),
    "http_status": (Kind.INTEGER, lambda it: it.outcome.http_status),
    "final_url": (Kind.TEXT, _final_url),
    "content_type": (Kind.TEXT, lambda it: it.outcome.content_type),
    "bytes": (Kind.INTEGER, lambda it: it.outcome.bytes),
    "truncated": (Kind.BOOLEAN, lambda it: it.outcome.truncated),
    "digest": (Kind.TEXT, lambda it: it.outcome.digest),
    "title": (Kind.TEXT, lambda it: it.outcome.title),
    "depth": (Kind.INTEGER, lambda it: None if it.record.is_requisite else it.record.depth),
    "parent": (Kind.TEXT, lambda it: it.record.parent),
    "host": (Kind.TEXT, lambda it: it.record.host),
    "attempt": (Kind.INTEGER, lambda it: it.record.attempt),
    "worker_id": (Kind.TEXT, lambda it: it.record.worker_id),
    "enqueued_at": (Kind.TIME, lambda it: _time(it.record.enqueued_at)),
    "claimed_at": (Kind.TIME, lambda it: _time(it.record.claimed_at)),
    "finished_at": (Kind.TIME, lambda it: _time(it.record.finished_at)),
    "elapsed_ms": (Kind.INTEGER, lambda it: it.outcome.elapsed_ms),
    "detail": (Kind.TEXT, lambda it: it.outcome.detail or None),
    "tries": (Kind.INTEGER, lambda it: it.record.tries),
    "lastmod": (Kind.TIME, lambda it: _time(it.record.lastmod)),
    "links_left_out": (Kind.INTEGER, lambda it: it.outcome.links_left_out),
    "error": (Kind.TEXT, lambda _: None),
    "redirect_to": (Kind.TEXT, lambda it: it.outcome.redirect_to if it.outcome.is_redirect else None),
    "meta": (Kind.JSON, lambda it: None if it.record.meta is None else decode_meta(it.record.meta)),
    "crawl": (Kind.TEXT, lambda it: it.record.crawl),
    "visits": (Kind.INTEGER, lambda it: it.record.visit + it.record.status.is_final),
    "unchanged": (Kind.BOOLEAN, lambda it: it.outcome.unchanged),
    "changes": (Kind.INTEGER, lambda it: it.kept.changes),
    "changed_at": (Kind.TIME, lambda it: _time(it.kept.changed_at)),
    "links_skipped": (
        Kind.JSON,
        lambda it: {why.value: number for why, number in it.outcome.links_skipped.items()} or None,
    ),
    "capture_file": (Kind.TEXT, lambda it: it.outcome.capture and it.outcome.capture.file),
    "capture_offset": (Kind.INTEGER, lambda it: it.outcome.capture and it.outcome.capture.offset),
    "capture_length": (Kind.INTEGER, lambda it: it.outcome.capture and it.outcome.capture.length),
    "payload_digest": (Kind.TEXT, lambda it: it.outcome.capture and f"sha1:{it.outcome.capture.digest}"),
    "checked": (Kind.BOOLEAN, lambda it: it.outcome.checked),
    "requisite": (Kind.BOOLEAN, lambda it: it.record.is_requisite),
}

COLUMNS: Final = tuple(  # by key a database has each record once
    Column(name, kind, is_key=name in ("url", "crawl")) for name, (kind, _) in _MAKERS.items()
)
"""All of them, in order. New ones may come after these; these keep their names."""

FIELDS: Final = tuple(_MAKERS)
"""Their names."""


class Wanted(NamedTuple):
    """What is to be exported: which records, what of them, in which order, and how many."""

    which: RecordFilter = EVERY_RECORD
    fields: tuple[str, ...] = FIELDS
    sort: tuple[Order, ...] = ()  # none: as the frontier has them
    limit: int | None = None

    @property
    def columns(self) -> tuple[Column, ...]:
        """Of the rows."""
        return columns_of(self.fields)


def columns_of(fields: Iterable[str]) -> tuple[Column, ...]:
    """Columns by their names."""
    places = {column.name: at for at, column in enumerate(COLUMNS)}
    return chosen(COLUMNS, (places[name] for name in fields))


class _Rows:
    """Makes rows of some fields."""

    def __init__(self, fields: tuple[str, ...], on_unreadable: Callable[[str], object]) -> None:
        self.columns = columns_of(fields)
        self.follows_redirects = "final_url" in fields
        self._fields = fields
        self._makers = [_MAKERS[name][1] for name in fields]
        self._on_unreadable = on_unreadable

    def of(self, records: Sequence[UrlRecord], chains: Mapping[str, Chain]) -> list[Row]:
        """A row for each record. One that cannot be read is told, and hides no other."""
        rows = [self.row(record, chains.get(record.key)) for record in records]
        try:
            return values.checked(self.columns, rows)
        except ValueError:  # a column has what none of its kind can be: it is looked for
            return [self._checked(record, row) for record, row in zip(records, rows, strict=True)]

    def row(self, record: UrlRecord, chain: Chain | None) -> Row:
        """A record as a row. Of one that cannot be read there is its URL, and in ``error`` why."""
        if record.unreadable:
            return self._damaged(record, record.unreadable)
        seen = _Seen(record, record.outcome or _NOTHING, record.kept or _NONE_KEPT, chain)
        try:
            return tuple([make(seen) for make in self._makers])
        except MetaError as error:
            return self._damaged(record, str(error))
        except ValueError as error:
            return self._damaged(record, f"one of its times is none: {error}")

    def _checked(self, record: UrlRecord, row: Row) -> Row:
        try:
            return values.checked(self.columns, [row])[0]
        except ValueError as error:
            return self._damaged(record, str(error))

    def _damaged(self, record: UrlRecord, why: str) -> Row:
        self._on_unreadable(record.url)
        known: dict[str, object] = {"url": record.url, "crawl": record.crawl, "error": why}
        return tuple(known.get(name) for name in self._fields)


def row_of(record: UrlRecord, chain: Chain | None = None) -> dict[str, Any]:
    """One record as a row of all columns, by their names: values as JSON has them, times as ISO 8601 in UTC.

    ``chain``: where it leads, if it redirects. Of one that cannot be read there is its URL, and in ``error`` why.
    """
    row = _Rows(FIELDS, lambda _: None).row(record, chain)
    return dict(zip(FIELDS, values.as_json_row(COLUMNS, row), strict=True))


async def export(
    frontier: Looking, wanted: Wanted, on_unreadable: Callable[[str], object] = lambda _: None
) -> AsyncIterator[list[Row]]:
    """Rows of records, in batches, in constant memory: what is sorted lies on the disk meanwhile.

    ``on_unreadable`` gets the URL of each record that is damaged; it has its row, too.
    """
    by = [order.field for order in wanted.sort if order.field not in wanted.fields]
    rows = _Rows((*wanted.fields, *by), on_unreadable)
    batches = _rows_of(frontier, wanted.which, rows)
    if wanted.sort:
        batches = in_order(batches, rows.columns, wanted.sort, wanted.limit)
    left = wanted.limit
    async with aclosing(batches):
        async for batch in batches:
            found = batch if left is None else batch[:left]
            yield [row[: len(wanted.fields)] for row in found] if by else found
            if left is not None:
                left -= len(found)
                if left == 0:
                    return


async def _rows_of(frontier: Looking, which: RecordFilter, rows: _Rows) -> AsyncGenerator[list[Row]]:
    async for found in which.scan(frontier):
        records = [record for record in found if which.takes(record)]
        chains = await chains_of(frontier, records) if rows.follows_redirects else {}
        yield rows.of(records, chains)


async def write(table: Table, batches: AsyncIterator[list[Row]]) -> int:
    """Write rows into a table; how many."""
    written = 0
    async for rows in batches:
        if rows:
            table.write(table.encoder.encode(rows))
            written += len(rows)
    return written
