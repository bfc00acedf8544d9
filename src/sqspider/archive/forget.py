"""Erases captures: those of a URL or a host, or those that are old; from the files, from the index, from the frontier.

Each file that has any is written anew without their records. Where a capture that stays had its payload in one that
goes, the first such becomes a full response, and the others refer to that: its page is not lost. The new file notes
how many were erased, when, and, if somebody says why, that; which URLs, nowhere. Rounds, and what holds where one
dies, are the matter of ``rewriting``: what was to stay is never lost; and what was to go either is all there still, as
the frontier says, or goes with the next call.

What else has copies is not touched: WACZ files, exports, backups, the versions that a bucket keeps. A page that refers
to an erased one, and its metadata, still say that URL. A payload that was the same at another URL stays there.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

import msgspec

from sqspider.archive import cdxj
from sqspider.archive.dates import microseconds
from sqspider.archive.errors import ArchiveError, DamagedError
from sqspider.archive.files import FileInfo, Files, warc_files
from sqspider.archive.forget_records import Revisit, altered, note_of, promoted, read_revisit
from sqspider.archive.forget_references import Original, References
from sqspider.archive.members import can_be_joined
from sqspider.archive.names import KEPT
from sqspider.archive.records import Record
from sqspider.archive.rewriting import (
    Copy,
    Make,
    Round,
    Tell,
    ending_of,
    parts_of,
    renew_index,
)
from sqspider.frontier import Clock
from sqspider.url import canonicalize, host_in


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be erased: all that is said holds of it."""

    url: str | None = None  # as its captures have it, or canonical
    host: str | None = None
    before: float | None = None  # captured before this: seconds since the epoch

    def __post_init__(self) -> None:
        if self.url is None and self.host is None and self.before is None:
            raise ValueError("nothing is named that is to be erased")

    def has(self, record: Record) -> bool:
        """Whether a record is of it."""
        url = record.url
        if not url or record.kind == "warcinfo":
            return False
        if self.before is not None and ((at := record.at) is None or at >= self.before):
            return False
        if self.url is not None and url != self.url and canonicalize(url) != self.url:
            return False
        return self.host is None or _host_of(url) == self.host


class Plan(NamedTuple):
    """What there is to erase, and what it takes."""

    captures: int  # that go
    records: int  # of them, with what was asked and what is told of them
    promoted: int  # captures that stay, and become full responses since their payload goes
    files: int  # that are written anew
    bytes: int  # of them: as much room is needed, less what goes
    open_files: tuple[str, ...]  # that have some of it and are being written: they cannot be changed
    copies: tuple[str, ...]  # files that lie there and are no WARC files: they may hold it, too


class Forgotten(NamedTuple):
    """What was done."""

    plan: Plan
    bytes_freed: int
    lines: int | None  # of the index; none: there is none


class Forgetting:
    """One request to erase. First look (:meth:`plan`), then :meth:`erase`. What others began and left undone is to be
    healed before (:func:`sqspider.archive.rewriting.heal`)."""

    def __init__(self, files: Files, wanted: Wanted, references: References) -> None:
        self._files = files
        self._wanted = wanted
        self._references = references
        self._captures = Counter[str]()  # that go, by file
        self._records = Counter[str]()  # likewise
        self._infos: dict[str, FileInfo] = {}  # of the files that are to be written anew

    def plan(self, on_file: Callable[[FileInfo], None] = lambda _: None) -> Plan:
        """Read all files, and say what there is. Raises :class:`ArchiveError`, also for what is damaged: it cannot be
        told what lies behind the damage."""
        infos = {}
        for info in warc_files(self._files):  # none: what is looked for may well lie elsewhere
            on_file(info)
            infos[info.name] = info
            self._look_through(info)
        self._references.join()
        names = {name for name, records in self._records.items() if records} | self._references.files()
        self._infos = {name: info for name, info in infos.items() if name in names}
        for name in self._infos:
            if not can_be_joined(self._files, name):
                raise ArchiveError(
                    f"{self._files.address}: {name} is packed with a dictionary, and cannot be written anew: unpack it "
                    "with `zstd -d` first"
                )
        return Plan(
            captures=self._captures.total(),
            records=self._records.total(),
            promoted=self._references.promoted(),
            files=len(self._infos),
            bytes=sum(info.size for info in self._infos.values()),
            open_files=tuple(name for name, info in self._infos.items() if info.is_open),
            copies=tuple(info.name for info in self._files.all() if info.name.endswith(".wacz")),
        )

    def erase(
        self,
        plan: Plan,
        tell: Tell | None,
        *,
        clock: Clock,
        rng: random.Random,
        note: str = "",
        is_under_way: bool = False,
        on_file: Callable[[FileInfo], None] = lambda _: None,
    ) -> Forgotten:
        """Erase what the plan says. Raises :class:`ArchiveError`: then either nothing was changed, or asking again
        goes on."""
        if plan.open_files:
            raise ArchiveError(
                f"{self._files.address}: {', '.join(plan.open_files[:3])} has some of it and is being written: "
                "stop the crawl first; if it has died, `sqspider archive repair` closes its files"
            )
        freed = 0
        if plan.files:
            moving = Round(self._files, tell, clock=clock, rng=rng)
            moving.begin()
            try:
                names = self._rewrite(moving, clock, note, on_file)
            except BaseException:
                moving.abandon()
                raise
            made = {info.name: info.size for info in self._files.all()}
            freed = plan.bytes - sum(made[name] for name in names)
            moving.end(is_under_way=is_under_way)
        return Forgotten(plan, freed, renew_index(self._files, has_changed=bool(plan.files)))

    def _look_through(self, info: FileInfo) -> None:
        """Count the records of a file that are to go, and note what refers to them, or may."""
        try:
            for part in parts_of(self._files, info, self._noted):
                if any(part.records) and len(part.records) > 1:
                    raise ArchiveError(
                        f"{self._files.address}: {info.name}, offset {part.start:,}: several records are packed "
                        "together there: `warcio recompress` packs each by itself; then they can be erased"
                    )
                self._records[info.name] += sum(part.records)
        except DamagedError:
            if not info.is_open:
                raise

    def _noted(self, record: Record) -> bool:
        is_wanted = self._wanted.has(record)
        if is_wanted and record.kind in cdxj.CAPTURE_KINDS:
            self._captures[record.file] += 1
        if is_wanted and record.kind in ("response", "resource"):
            self._references.erase(record)
        elif not is_wanted and record.kind == "revisit":
            self._references.revisit(record)
        return is_wanted

    def _rewrite(self, moving: Round, clock: Clock, note: str, on_file: Callable[[FileInfo], None]) -> list[str]:
        """Write each file anew that has any of it; the names of the new ones."""
        made = []
        refers: list[tuple[str, int, Original]] = []  # revisits that refer to what has become a full response
        for name, info in self._infos.items():
            on_file(info)
            remade = self._references.remade(name)
            made.append(moving.make(KEPT, ending_of(name), self._steps(info, remade, microseconds(clock()), note)))
            moving.moved.replaces(name)
            refers += [(name, offset, original) for offset, original in remade.items() if not original.is_first]
        for name, offset, original in refers:
            first = moving.moved.get((original.first_file, original.first_offset))
            place = moving.moved.get((name, offset))
            moving.moved.remade(name, offset, msgspec.structs.replace(place, payload=original.place_of_first(first)))
        return made

    def _steps(self, info: FileInfo, remade: dict[int, Original], at: int, note: str) -> Iterator[Copy | Make]:
        def read(record: Record) -> _Said:
            if self._wanted.has(record):
                return _Said(goes=True)
            is_remade = record.kind == "revisit" and record.offset in remade
            return _Said(revisit=read_revisit(record) if is_remade else None)

        for part in parts_of(self._files, info, read):
            said = part.records[0]
            if said.revisit is not None:
                yield self._made(info.name, part.start, said.revisit, remade[part.start])
            elif not said.goes:
                yield Copy(info.name, part.start, part.end)
        if records := self._records[info.name]:
            lines = [("erasedCaptures", str(self._captures[info.name])), ("erasedRecords", str(records))]
            lines += [("note", note)] if note else []
            yield Make(lambda identity: note_of(at, identity, lines))

    def _made(self, name: str, offset: int, revisit: Revisit, original: Original) -> Make:
        if original.is_first:
            return Make(lambda _: promoted(self._files, revisit, original), name, offset)
        return Make(lambda _: altered(revisit, original), name, offset)


class _Said(NamedTuple):
    """What is to become of a record."""

    goes: bool = False
    revisit: Revisit | None = None  # it is made anew


def _host_of(url: str) -> str:
    if url.startswith("dns:"):
        return url.removeprefix("dns:").lower()
    return host_in(url)
