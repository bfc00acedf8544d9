"""How a nearer way to a URL gets into its record, and what follows (:mod:`sqspider.frontier.ways`).

Where a visit led is not kept here: it would be a write unit more for each page. So a record that is final and leads
further by a nearer way is visited once more. It is put back first and written then: who dies in between has not ended
the page where that way was found, and finds it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sqspider.frontier.aws.attributes import Item, n, number, s
from sqspider.frontier.aws.items import encode_kept, record_of, status_of
from sqspider.frontier.aws.reopening import Reopening
from sqspider.frontier.aws.table import Statement
from sqspider.frontier.values import Entry, FrontierBusyError
from sqspider.frontier.ways import Consequence, Way, consequence, fallen
from sqspider.log import get_logger
from sqspider.record import UrlRecord
from sqspider.revisit import for_all

ROUNDS: Final = 6  # in each of which somebody else changed what was read
WAY: Final = ("depth", "redirects", "status", "finished_at")
COME_NEARER: Final = 'UPDATE "{table}" SET "depth" = ? SET "redirects" = ?'
SET_KEPT: Final = ' SET "kept" = ?'
NOTHING_KEPT: Final = ' REMOVE "kept"'
SET_PARENT: Final = ' SET "parent" = ?'
NO_PARENT: Final = ' REMOVE "parent"'
WHERE: Final = ' WHERE "url" = ?'
OPEN: Final = ' AND "lease_until" >= ?'
SAME_VISIT: Final = ' AND "visit" = ?'  # its first has none
FINAL: Final = ' AND "status" = ? AND "attempt" = ?'
STILL_SO_FAR: Final = ' AND "depth" = ?'
STILL_SO_MANY: Final = ' AND "redirects" = ?'  # none are as few as there can be


log = get_logger(__name__)


class _Fall(NamedTuple):
    """A record to which there is a nearer way."""

    record: UrlRecord
    way: Way
    parent: str | None  # where it begins
    takes_visit: bool


class Nearing(Reopening):
    """Nearer ways to known URLs."""

    async def _come_nearer(self, entries: Mapping[str, Entry]) -> None:
        """See to it that records say no longer a way than some entries do, by key. Raises :class:`FrontierBusyError`
        where others keep it from that."""
        urls, seen = list(entries), dict[str, Item]()
        for _ in range(ROUNDS):
            before, seen = seen, await self._table.read(urls)
            falls = []
            for url, item in seen.items():
                if item == before.get(url):  # nobody changed it, and it was not written: it is damaged
                    log.error("record_unreadable", url=url, why="it takes no nearer way")
                elif (fall := _fall_of(item, entries[url])) is not None:
                    falls.append(fall)
            if not falls:
                return
            visits = [fall.record.key for fall in falls if fall.takes_visit]
            if visits:
                await self.reopen(visits)
            direct = [fall for fall in falls if not fall.takes_visit]
            written = await self._table.write([self._nearer(fall) for fall in direct])
            urls = visits + [fall.record.key for fall, w in zip(direct, written, strict=True) if not w.is_done]
            if not urls:
                return
        raise FrontierBusyError(f"the record of {urls[0]} changes all the time, and could not be told a nearer way")

    def _nearer(self, fall: _Fall) -> Statement:
        """The statement that writes a nearer way, if the record is still what was read."""
        record, way = fall.record, fall.way
        text, parameters = COME_NEARER, [n(way.depth), n(way.redirects)]
        if way.depth < record.depth:
            text += NO_PARENT if fall.parent is None else SET_PARENT
            parameters += [] if fall.parent is None else [s(fall.parent)]
        kept = record.kept if record.status.is_final else for_all(record.kept)
        if kept != record.kept:  # nothing but the whole tells where it leads
            text += NOTHING_KEPT if kept is None else SET_KEPT
            parameters += [] if kept is None else [s(encode_kept(kept))]
        text += WHERE
        parameters.append(s(record.key))
        if record.status.is_final:
            text += FINAL
            parameters += [s(record.status), n(record.attempt)]
        else:
            text += OPEN + (SAME_VISIT if record.visit else "")
            parameters += [n(0), *([n(record.visit)] if record.visit else [])]
        more, still = still_on(Way(record.depth, record.redirects))
        return self._table.statement(text + more, record.key, parameters + still)


def still_on(way: Way) -> tuple[str, list[dict[str, Any]]]:
    """The condition that a record says a way, and its parameters."""
    if way.redirects:
        return STILL_SO_FAR + STILL_SO_MANY, [n(way.depth), n(way.redirects)]
    return STILL_SO_FAR, [n(way.depth)]


def may_be_nearer(item: Item, entry: Entry) -> bool:
    """Whether an entry may name a nearer way to a record, by its :data:`WAY`. It may be behind: then it is farther; and
    what was open may have ended since as what lies outside."""
    status, settings = status_of(item), entry.settings
    keeps_outside = settings.keep_skipped or settings.check_external
    if keeps_outside and not (entry.is_skipped or status.is_final):
        return True
    return fallen(entry, status, *way_in(item)) is not None


def way_in(item: Item) -> Way:
    """The way that a record says."""
    return Way(int(number(item, "depth")), int(number(item, "redirects")))


def _fall_of(item: Item, entry: Entry) -> _Fall | None:
    record = record_of(item)
    if record.unreadable or (fall := fallen(entry, record.status, record.depth, record.redirects)) is None:
        return None
    takes_visit = False
    if record.status.is_final and record.outcome is not None:
        takes_visit = consequence(record.outcome, None, fall) is Consequence.VISIT
    if not takes_visit and fall.now == (record.depth, record.redirects):
        return None
    return _Fall(record, fall.now, entry.parent, takes_visit)
