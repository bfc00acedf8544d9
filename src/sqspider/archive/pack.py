"""Writes small files together into large ones: what Lambda keeps is an object for each invocation.

Members are copied as they lie there, so each file's ``warcinfo`` goes along, and what its records say of it stays true.
Rounds, and what holds where one dies, are the matter of ``rewriting``. Files that are being written are left alone, and
so is what is damaged.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from sqspider.archive import cdxj
from sqspider.archive.dates import microseconds, seconds_of
from sqspider.archive.errors import DamagedError
from sqspider.archive.files import FileInfo, Files, warc_files
from sqspider.archive.members import can_be_joined
from sqspider.archive.names import PACKED
from sqspider.archive.pack_orphans import Orphans
from sqspider.archive.records import Record, without_brackets
from sqspider.archive.rewriting import (
    Copy,
    Part,
    Round,
    Tell,
    ending_of,
    heal,
    parts_of,
    renew_index,
)
from sqspider.frontier import Clock

FILE_BYTES: Final = 1_000_000_000  # of a file that is made, as of one that a crawl writes
SMALL_SHARE: Final = 0.5  # of that size, beyond which a file is large enough
ROUND_BYTES: Final = 32_000_000_000  # of one round: so much more room is needed. Each reads all records of a frontier
ROUND_EXTENTS: Final = 1_000_000  # likewise: 32 bytes of memory each


class Packed(NamedTuple):
    """What was done."""

    files: int = 0  # that were written together
    bytes: int = 0  # of them
    made: int = 0  # files that are there in place of them
    captures_dropped: int = 0  # orphans
    bytes_dropped: int = 0
    left: tuple[tuple[str, str], ...] = ()  # files that were left alone though they are small, and why
    lines: int | None = None  # of the index; none: there is none


class _Said(NamedTuple):
    """What a record says, as far as it matters here."""

    kind: str
    capture: tuple[str, int] | None  # URL and date of what it is of


class _Work(NamedTuple):
    """A file that is to be copied: which bytes of it."""

    info: FileInfo
    runs: list[tuple[int, int]]
    dropped: int  # captures

    @property
    def size(self) -> int:
        return sum(end - start for start, end in self.runs)


def references_in(files: Files) -> Iterator[tuple[str, float]]:
    """What the revisits of an archive refer to, by URL and date."""
    for info in warc_files(files, may_be_none=True):
        try:
            for part in parts_of(files, info, _reference):
                yield from (reference for reference in part.records if reference is not None)
        except DamagedError:
            if not info.is_open:
                raise  # what it refers to beyond that is not known, so nothing can be called an orphan


def pack(
    files: Files,
    tell: Tell | None,
    *,
    clock: Clock,
    rng: random.Random,
    size: int = FILE_BYTES,
    orphans: Orphans | None = None,
    is_under_way: bool = False,
    takes_over: bool = False,
    on_file: Callable[[FileInfo], None] = lambda _: None,
    on_healed: Callable[[str], None] = lambda _: None,
) -> Packed:
    """Write small files together into files of about this size.

    ``pack_orphans``: what is to be dropped; then all files are looked through. ``is_under_way``: see :meth:`Round.end`.
    ``on_file`` is called before each that is read. First ends what others began (:func:`heal` with ``takes_over``; said
    to ``on_healed``). Raises :class:`sqspider.archive.errors.ArchiveError`; what was done until then stays done.
    """
    for healed in heal(files, tell, now=clock(), takes_over=takes_over):
        on_healed(healed)
    left: list[tuple[str, str]] = []
    done = Packed()
    groups = _groups(_work(files, size, orphans, left, on_file), size, drops=orphans is not None)
    for chunk in _rounds(groups):
        moving = Round(files, tell, clock=clock, rng=rng)
        moving.begin()
        try:
            for group in chunk:
                moving.make(PACKED, ending_of(group[0].info.name), _steps(group))
                for work in group:
                    moving.moved.replaces(work.info.name)
        except BaseException:
            moving.abandon()
            raise
        moving.end(is_under_way=is_under_way)
        done = _with_round(done, chunk)
    return done._replace(left=tuple(left), lines=renew_index(files, has_changed=bool(done.files)))


def _with_round(done: Packed, chunk: list[list[_Work]]) -> Packed:
    works = [work for group in chunk for work in group]
    return done._replace(
        files=done.files + len(works),
        bytes=done.bytes + sum(work.info.size for work in works),
        made=done.made + len(chunk),
        captures_dropped=done.captures_dropped + sum(work.dropped for work in works),
        bytes_dropped=done.bytes_dropped + sum(work.info.size - work.size for work in works),
    )


def _work(
    files: Files,
    size: int,
    orphans: Orphans | None,
    left: list[tuple[str, str]],
    on_file: Callable[[FileInfo], None],
) -> Iterator[_Work]:
    """What is to be copied, file by file. Each is read to its end: nothing torn gets into the midst of another file."""
    for info in list(warc_files(files, may_be_none=True)):  # what is made meanwhile is none of them
        is_small = info.size < size * SMALL_SHARE
        if info.is_open or not (is_small or orphans is not None):
            continue
        on_file(info)
        if not can_be_joined(files, info.name):
            left.append((info.name, "its members need the dictionary that it begins with"))
            continue
        try:
            work = _looked_through(files, info, orphans)
        except DamagedError as error:
            left.append((info.name, str(error)))
            continue
        if is_small or work.dropped:
            yield work


def _looked_through(files: Files, info: FileInfo, orphans: Orphans | None) -> _Work:
    if orphans is None:
        size = max((part.end for part in parts_of(files, info, _said)), default=0)
        return _Work(info, [(0, size)] if size else [], 0)
    gone: set[tuple[str, int]] = set()
    for part in parts_of(files, info, _said):
        for said in part.records:
            if said.kind in cdxj.CAPTURE_KINDS and said.capture is not None and len(part.records) == 1:
                url, date = said.capture
                if orphans.is_orphan(url, date / 1_000_000):
                    gone.add(said.capture)
    if not gone:
        return _looked_through(files, info, None)
    kept = (part for part in parts_of(files, info, _said) if not _is_gone(part, gone))
    return _Work(info, runs_of(kept), len(gone))


def _is_gone(part: Part[_Said], gone: set[tuple[str, int]]) -> bool:
    return len(part.records) == 1 and part.records[0].capture in gone


def runs_of(parts: Iterable[Part[_Said]]) -> list[tuple[int, int]]:
    """Some members as runs of bytes."""
    runs: list[tuple[int, int]] = []
    for part in parts:
        if runs and runs[-1][1] == part.start:
            runs[-1] = (runs[-1][0], part.end)
        else:
            runs.append((part.start, part.end))
    return runs


def _groups(works: Iterable[_Work], size: int, *, drops: bool) -> Iterator[list[_Work]]:
    """What goes into one file together: in the order of names, and packed alike."""
    open_groups: defaultdict[str, list[_Work]] = defaultdict(list)
    for work in works:
        ending = ending_of(work.info.name)
        group = open_groups[ending]
        if group and sum(each.size for each in group) + work.size > size:
            if _is_worth_it(group, drops=drops):
                yield group
            group = open_groups[ending] = []
        group.append(work)
    yield from (group for group in open_groups.values() if _is_worth_it(group, drops=drops))


def _is_worth_it(group: list[_Work], *, drops: bool) -> bool:
    return len(group) > 1 or (drops and any(work.dropped for work in group))


def _rounds(groups: Iterable[list[_Work]]) -> Iterator[list[list[_Work]]]:
    chunk: list[list[_Work]] = []
    size = extents = 0
    for group in groups:
        chunk.append(group)
        size += sum(work.size for work in group)
        extents += sum(len(work.runs) for work in group)
        if size >= ROUND_BYTES or extents >= ROUND_EXTENTS:
            yield chunk
            chunk, size, extents = [], 0, 0
    if chunk:
        yield chunk


def _steps(group: Iterable[_Work]) -> Iterator[Copy]:
    for work in group:
        yield from (Copy(work.info.name, start, end) for start, end in work.runs)


def _said(record: Record) -> _Said:
    at = record.at
    return _Said(record.kind, (record.url, microseconds(at)) if record.url and at is not None else None)


def _reference(record: Record) -> tuple[str, float] | None:
    if record.kind != "revisit":
        return None
    at = seconds_of(record.field("warc-refers-to-date") or "")
    url = without_brackets(record.field("warc-refers-to-target-uri") or "") or record.url
    return None if at is None else (url, at)
