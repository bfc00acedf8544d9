"""Writes files of an archive anew, a round at a time: new files whole first, then the frontier is told, then the old
ones are removed.

What is copied is copied as it lies there, packed. What holds where a round dies at any of its steps stands in
``moves``; :func:`heal` sees to it. What goes into which file is the matter of ``pack`` and ``forget``.
"""

from __future__ import annotations

import os
import random
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from sqspider.archive import cdxj
from sqspider.archive.dates import microseconds
from sqspider.archive.errors import ArchiveError, DamagedError
from sqspider.archive.files import WARC_ENDINGS, FileInfo, Files, warc_files
from sqspider.archive.moves import (
    Chain,
    Head,
    Moved,
    State,
    journal_name,
    journals_in,
    read_head,
    read_journal,
    write_journal,
)
from sqspider.archive.names import file_name, safe_host
from sqspider.archive.records import Record, records_of
from sqspider.archive.warc import Origin, warcinfo
from sqspider.frontier import Clock
from sqspider.frontier.places import Moves
from sqspider.record import CapturePlace

STEP: Final = 256 * 1024  # bytes that are copied at a time
_LEVEL: Final = 6  # of gzip: what is made anew is little

KEPT_SECONDS: Final = 86_400.0  # that somebody who crawled meanwhile may remember where captures lay
Tell = Callable[[Moves], object]
"""Tells the frontier where captures lie now; returns once it knows. Reads all of its records."""

V = TypeVar("V")


class Copy(NamedTuple):
    """Some whole members of a file, as they lie there."""

    source: str
    start: int
    end: int


class Make(NamedTuple):
    """A record that is made anew."""

    content: Callable[[str], Iterator[bytes]]  # of it, not packed, by the id of its file's warcinfo
    source: str | None = None  # where the record lay that it stands for; none: there was none
    offset: int = 0


class _Packer(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class Part(NamedTuple, Generic[V]):
    """A member of a file, with what is thought of each of its records."""

    start: int
    end: int
    records: tuple[V, ...]


def ending_of(name: str) -> str:
    """How the name of a WARC file ends: by that it is known how it is packed."""
    return next(ending for ending in WARC_ENDINGS if name.endswith(ending))


def parts_of(files: Files, info: FileInfo, read: Callable[[Record], V]) -> Iterator[Part[V]]:
    """The members of a file in their order, each read to its end, with what ``read`` makes of their records.

    Raises :class:`sqspider.archive.errors.DamagedError`.
    """
    start, seen = 0, list[V]()
    with files.opened(info.name) as stream:
        for record in records_of(stream, info.name):
            if record.offset != start and seen:
                yield Part(start, record.offset, tuple(seen))
                seen = []
            start = record.offset
            seen.append(read(record))
    if seen:
        yield Part(start, info.size, tuple(seen))


def renew_index(files: Files, *, has_changed: bool) -> int | None:
    """Write the index anew, if there is one and it may say what is not so any more: whoever had changed something
    before may have died before this. How many lines it has."""
    infos = list(files.all())
    index = next((info for info in infos if info.name == cdxj.NAME), None)
    warcs = [info for info in infos if info.name.endswith(WARC_ENDINGS)]
    if index is None or not warcs:
        return None
    if not has_changed and all(info.modified < index.modified for info in warcs if not info.is_open):
        return None
    return cdxj.write_index(files)


class Round:
    """Some files in place of others."""

    def __init__(self, files: Files, tell: Tell | None, *, clock: Clock, rng: random.Random) -> None:
        self.moved = Moved()
        self._files = files
        self._tell = tell
        self._clock = clock
        self._head = Head(
            state=State.MAKING,
            mark=_new_mark(files, rng),
            host=socket.gethostname(),
            pid=os.getpid(),
            began=clock(),
            has_frontier=tell is not None,
        )

    def begin(self) -> None:
        """From here on whoever comes next knows of it. Raises :class:`ArchiveError` where somebody else began, too:
        what one erases, the other would have copied."""
        own = journal_name(self._head.mark)
        write_journal(self._files, self._head, self.moved)
        for name in journals_in(self._files):
            other = None if name == own else read_head(self._files, name)
            if other is not None and other.state is not State.TOLD:
                self._files.remove(own)
                raise ArchiveError(
                    f"{self._files.address}: process {other.pid} on {other.host} has just begun to put it in order: "
                    "let it end"
                )

    def make(self, kind: str, ending: str, steps: Iterable[Copy | Make]) -> str:
        """Write a file of such members, ``warcinfo`` first; its name. ``kind`` begins it."""
        now = self._clock()
        name = file_name(kind, now, len(self.moved.targets), self._head.mark, ending)
        self.moved.makes(name)
        self._files.write(name, self._content(name, ending, steps, microseconds(now)))
        return name

    def abandon(self) -> None:
        """Take back what was made: the old files were not touched."""
        for name in self.moved.targets:
            self._files.remove(name)
        self._files.remove(journal_name(self._head.mark))

    def end(self, *, is_under_way: bool) -> None:
        """Tell the frontier, and remove the old files. ``is_under_way``: somebody crawls, and may have to write down
        yet what it learned before; so the journal stays for a day, and each round until then tells it once more."""
        _check_ours(self._files, self._head)
        self._head = msgspec.structs.replace(self._head, state=State.MADE)
        write_journal(self._files, self._head, self.moved)
        settle(self._files, self._head, self.moved, self._tell, stays=is_under_way)

    def _content(self, name: str, ending: str, steps: Iterable[Copy | Make], date: int) -> Iterator[bytes]:
        at = 0
        identity, first = warcinfo(name, date, Origin(hostname=safe_host()))
        for piece in _packed([first], ending):
            at += len(piece)
            yield piece
        for step in _merged(steps):
            start = at
            pieces = _copied(self._files, step) if isinstance(step, Copy) else _packed(step.content(identity), ending)
            for piece in pieces:
                at += len(piece)
                yield piece
            if isinstance(step, Copy):
                self.moved.copied(step.source, step.start, step.end, name, start - step.start)
            elif step.source is not None:
                self.moved.remade(step.source, step.offset, CapturePlace(name, start, at - start, "", 0.0))


def _merged(steps: Iterable[Copy | Make]) -> Iterator[Copy | Make]:
    """The same, with copies that follow on one another as one."""
    held: Copy | None = None
    for step in steps:
        if held is not None and isinstance(step, Copy) and (step.source, step.start) == (held.source, held.end):
            held = held._replace(end=step.end)
            continue
        if held is not None:
            yield held
        held = step if isinstance(step, Copy) else None
        if not isinstance(step, Copy):
            yield step
    if held is not None:
        yield held


def _new_mark(files: Files, rng: random.Random) -> str:
    """One that no file has: what is made never takes the place of what is there."""
    names = [info.name for info in files.all()]
    while True:
        mark = f"{rng.getrandbits(32):08x}"
        if not any(mark in name for name in names):
            return mark


def settle(files: Files, head: Head, moved: Moved, tell: Tell | None, *, stays: bool) -> None:
    """From a round whose files are made to its end. Doing it again does no harm."""
    name = journal_name(head.mark)
    _check_ours(files, head)
    if missing := set(moved.targets) - {info.name for info in files.all()}:
        raise ArchiveError(
            f"{files.address}: {min(missing)} is not there any more, which was written in place of others: these stay"
        )
    if tell is not None:
        tell(moved)
        _check_ours(files, head)
    for source in moved.sources:
        files.remove(source)
    if stays and tell is not None:
        write_journal(files, msgspec.structs.replace(head, state=State.TOLD), moved)
    else:
        files.remove(name)


def heal(files: Files, tell: Tell | None, *, now: float, takes_over: bool = False) -> list[str]:
    """End the rounds of those that died, and tell once more what may have been missed; what was done, in words.

    Raises :class:`ArchiveError` where somebody may still be at work; ``takes_over`` says that nobody is.
    """
    found = [(name, journal) for name in journals_in(files) if (journal := read_journal(files, name)) is not None]
    found.sort(key=lambda each: each[1][0].began)
    done = []
    told = [(name, head, moved) for name, (head, moved) in found if head.state is State.TOLD]
    for name, (head, moved) in found:
        if head.state is State.TOLD:
            continue
        if not takes_over and _may_live(head):
            began = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(head.began))
            raise ArchiveError(
                f"{files.address} is being put in order since {began} UTC by process {head.pid} on {head.host}: let it "
                "end. If it has died, say --take-over"
            )
        if head.state is State.MAKING:
            for info in list(warc_files(files, may_be_none=True)):
                if f"-{head.mark}." in info.name:
                    files.remove(info.name)
            files.remove(name)
            done.append("removed what somebody that died had begun to write; nothing was lost, nor moved")
            continue
        if head.has_frontier and tell is None:
            raise ArchiveError(
                f"{files.address}: somebody died who moved captures that a frontier names: it has to be told. Name it "
                "with --frontier"
            )
        taken = msgspec.structs.replace(head, host=socket.gethostname(), pid=os.getpid())
        write_journal(files, taken, moved)
        settle(files, taken, moved, tell, stays=False)
        done.append("told the frontier where captures lie that somebody had moved who died")
    if told and tell is not None:
        tell(Chain([moved for _, _, moved in told]))
        for name, head, _ in told:
            if now - head.began > KEPT_SECONDS:
                files.remove(name)
    return done


def _check_ours(files: Files, head: Head) -> None:
    """Somebody else may have thought that we are dead."""
    if read_head(files, journal_name(head.mark)) != head:
        raise ArchiveError(f"{files.address}: somebody else has taken over what was begun here; nothing more was done")


def _may_live(head: Head) -> bool:
    """Whether whoever began may still be at work: of another machine nobody knows."""
    if head.host != socket.gethostname():
        return True
    if head.pid == os.getpid():
        return False
    try:
        os.kill(head.pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it lives, and is somebody else's
        return True
    return True


def _copied(files: Files, step: Copy) -> Iterator[bytes]:
    left = step.end - step.start
    if not left:
        return
    with files.opened(step.source, step.start) as stream:
        while left:
            piece = stream.read(min(left, STEP))
            if not piece:
                raise DamagedError(f"{files.address}: {step.source} has become shorter while it was copied")
            left -= len(piece)
            yield piece


def _packed(content: Iterable[bytes], ending: str) -> Iterator[bytes]:
    """One member of it."""
    if ending == ".warc":
        yield from content
        return
    packer = _zstd_packer() if ending == ".warc.zst" else zlib.compressobj(_LEVEL, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    for piece in content:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()


def _zstd_packer() -> _Packer:
    if sys.version_info >= (3, 14):  # here: few ask for it
        from compression import zstd
    else:
        from backports import zstd
    return zstd.ZstdCompressor(options={zstd.CompressionParameter.checksum_flag: 1})
