"""Proves an archive: every file is walked whole, every record held against the standard and its digests, and the index
and the frontier against what lies there.

Works on anybody's WARC files, without a frontier, too: by the standard then, and no more. In constant memory, but for
the names of files; what records say of each other is sorted on disk (``verify_relations``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import BinaryIO, Final

from sqspider.archive.cdxj import NAME, Index
from sqspider.archive.digests import Check
from sqspider.archive.errors import DamagedError, NoArchiveError
from sqspider.archive.files import FileInfo, Files, warc_files
from sqspider.archive.http_messages import Dechunker, Head, block_of, fields_in, is_http, read_message
from sqspider.archive.locks import is_locked
from sqspider.archive.members import MARK_BYTES, whole_from
from sqspider.archive.moves import State, journals_in, read_head
from sqspider.archive.names import host_of_file
from sqspider.archive.records import Record, RecordError, measured, records_of
from sqspider.archive.sorting import Sorter
from sqspider.archive.verify_fields import faults_of, own_faults_of
from sqspider.archive.verify_relations import Facts, Fault, Tally
from sqspider.record import UrlRecord

_GZIP: Final = b"\x1f\x8b"
_OURS: Final = "sqspider/"  # how the software is named that writes ours
_WARCINFO: Final = b"WARC-Type: warcinfo\r\n"
_INFO_BYTES: Final = 64 * 1024  # of a warcinfo or metadata record that are looked into
# To what has no record, or on from there.
_HOPS_ASIDE: Final = re.compile(rb"^hopsFromSeed: [^\r\n]*[PM]", re.MULTILINE)


class Verification:
    """One run. A context manager: first say what a frontier knows, then ask for the faults."""

    def __init__(
        self, files: Files, *, has_frontier: bool = False, on_record: Callable[[FileInfo], None] = lambda _: None
    ) -> None:
        self.files = 0
        self.bytes = 0
        self.records = 0
        self._archive = files
        self._sorter = Sorter()
        self._facts = Facts(self._sorter, has_frontier=has_frontier)
        self._has_frontier = has_frontier
        # A frontier that is read after this may name them.
        self._at_first = {info.name for info in warc_files(files, may_be_none=True)}
        self._on_record = on_record  # for each record, with its file

    def __enter__(self) -> Verification:
        return self

    def __exit__(self, *error: object) -> None:
        self._sorter.close()

    @property
    def tally(self) -> Tally:
        """What was counted; complete after the last fault."""
        return self._facts.tally

    def know(self, record: UrlRecord) -> Iterator[Fault]:
        """What a frontier's record says; what is wrong with it by itself."""
        self._facts.known(record.url)
        if record.unreadable:
            yield Fault(f"its record cannot be read: {record.unreadable}", url=record.url)
        outcome, good = record.outcome, record.kept.good if record.kept else None
        for said in filter(None, (outcome, good)):
            if said.capture is not None:
                self._facts.place(said.capture, record.url)
                if (payload := said.capture.payload) is not None:
                    self._facts.known(payload.url or record.url)
                    self._facts.place(payload, record.url)
        if outcome is None or outcome.http_status is None or not record.status.is_final:
            return
        if outcome.capture is None and not (outcome.unkept or outcome.checked):
            yield Fault(f"it was answered (HTTP status {outcome.http_status}), and there is no capture", url=record.url)

    def faults(self) -> Iterator[Fault]:
        """All that is wrong, as it is found. Raises :class:`sqspider.archive.errors.ArchiveError` where the archive
        cannot be read at all.

        Somebody may pack or erase meanwhile: what was made is looked at, too, and of files that are gone by the end
        nothing is said, but how many they were.
        """
        yield from self._half_done()
        seen, before = set[str](), -1
        while len(seen) > before:
            before = len(seen)
            for info in warc_files(self._archive, may_be_none=True):
                if info.name not in seen:
                    seen.add(info.name)
                    yield from self._faults_of(info)
        if not seen and not self._has_frontier:
            raise NoArchiveError(f"there is no archive at {self._archive.address}: no WARC file lies there")
        gone = (self._at_first | seen) - {info.name for info in warc_files(self._archive, may_be_none=True)}
        yield from self._faults_of_index()
        yield from self._facts.faults(gone)
        if (lacking := self.tally.not_indexed) and not gone:
            lacks = f"{lacking:,} capture{'' if lacking == 1 else 's'}"
            yield Fault(f"it lacks {lacks}: `sqspider archive index` writes it anew", NAME)

    def _faults_of(self, info: FileInfo) -> Iterator[Fault]:
        try:
            yield from _Walk(self, self._archive, info, self._facts).faults()
        except NoArchiveError:
            if self._archive.info(info.name) is not None:
                raise
            return
        self.files += 1
        self.bytes += info.size

    def walked(self, info: FileInfo) -> None:
        """A record more was seen."""
        self.records += 1
        self._on_record(info)

    def _half_done(self) -> Iterator[Fault]:
        """What is being written anew: until that ends, captures lie there twice, which shows as faults further on."""
        for name in journals_in(self._archive):
            try:
                head = read_head(self._archive, name)
            except DamagedError as error:
                yield Fault(str(error), name)
                continue
            if head is not None and head.state is not State.TOLD:
                yield Fault(
                    "`archive pack` or `archive forget` has begun and not ended, so captures may lie there twice: let "
                    "it end; if it has died, `sqspider archive repair` sees to it",
                    name,
                )

    def _faults_of_index(self) -> Iterator[Fault]:
        index = Index.of(self._archive)
        if index is None:
            return
        self._facts.has_index = True
        before = b""
        try:
            for line, parsed in index.lines():
                if line <= before:
                    yield Fault(f"a line is not behind the one before it: {line[:80]!r}", NAME)
                before = line
                self._facts.index_line(parsed)
        except DamagedError as error:
            yield Fault(str(error), NAME)


class _Walk:
    """One file, from its first record to its last."""

    def __init__(self, run: Verification, files: Files, info: FileInfo, facts: Facts) -> None:
        self._run = run
        self._files = files
        self._info = info
        self._facts = facts
        self._found: list[Fault] = []  # in the records that were read since they were handed out
        self._is_ours = host_of_file(info.name) is not None  # as far as is known yet
        self._records = 0
        self._has_packed_together = False
        self._identity = b""  # of the last warcinfo record

    def faults(self) -> Iterator[Fault]:
        name = self._info.name
        if name.endswith(".gz") and self._info.size and self._files.read(name, 0, len(_GZIP)) != _GZIP:
            yield Fault("it is no gzip, though its name says so", name, 0)
        with self._files.opened(name) as stream:
            offset: int | None = 0
            while offset is not None:
                try:
                    yield from self._walk_from(stream, offset)
                    break
                except RecordError as error:
                    yield from self._handed_out()
                    if error.is_torn and self._info.is_open and is_locked(stream.fileno()):
                        break
                    yield Fault(error.what, name, error.offset)
                    offset = yield from self._past(stream, error)
        if not self._records and not self._info.is_open:
            yield Fault("there is no record in it", name)

    def _walk_from(self, stream: BinaryIO, offset: int) -> Iterator[Fault]:
        for record, _ in measured(records_of(stream, self._info.name, offset), self._look):
            self._facts.record(record, is_ours=self._is_ours)
            self._records += 1
            self._run.walked(self._info)
            yield from self._handed_out()

    def _past(self, stream: BinaryIO, error: RecordError) -> Generator[Fault, None, int | None]:
        """Go on with the next whole record behind damage; where that begins."""
        if not stream.seekable():
            yield Fault("nothing behind that was looked at", self._info.name, error.offset)
            return None
        mark = self._files.read(self._info.name, 0, MARK_BYTES)
        stream.seek(error.offset + 1)
        found = whole_from(stream, error.offset + 1, mark, self._is_of_file)
        if found is not None:
            stream.seek(found)
        return found

    def _is_of_file(self, head: bytes) -> bool:
        """Whether a record is the file's own, and not part of what was captured: ours say whose they are."""
        return not self._is_ours or self._identity in head or _WARCINFO in head

    def _handed_out(self) -> Iterator[Fault]:
        found, self._found = self._found, []
        yield from found

    def _look(self, record: Record) -> None:
        """Read a record, and hold it against what it says."""
        self._note(record, faults_of(record))
        if not record.is_first and not self._has_packed_together:
            self._has_packed_together = True
            self._note(record, ["several records are packed together: none but the first can be looked up"])
        if record.kind == "warcinfo":
            self._take_info(record)
        else:
            if self._is_ours and record.offset == 0:
                self._note(record, ["it is the first of its file, and no warcinfo record"])
            begun = record.read(_INFO_BYTES) if record.kind == "metadata" and self._is_ours else b""
            if _HOPS_ASIDE.search(begun):
                self._facts.aside(record)
            self._note(record, _faults_of_block(record, begun, is_ours=self._is_ours))
        if self._is_ours:
            self._note(record, own_faults_of(record))

    def _take_info(self, record: Record) -> None:
        check = Check(record.field("warc-block-digest"))
        begun = record.read(_INFO_BYTES)
        check.update(begun)
        check.feed(block_of(record))
        if not check.is_right:
            self._note(record, ["its block is not to its digest"])
        said = {name.lower(): value for name, value in fields_in(begun)}
        self._is_ours = said.get("software", "").startswith(_OURS)
        self._identity = record.identity.encode("utf-8", "surrogateescape")

    def _note(self, record: Record, faults: Iterable[str]) -> None:
        self._found += [Fault(what, record.file, record.offset, record.url) for what in faults]


def _faults_of_block(record: Record, begun: bytes, *, is_ours: bool) -> Iterator[str]:
    """Read a block, of which so much was read already, and hold it against its digests and lengths."""
    block = Check(record.field("warc-block-digest"))
    payload = _Payload(record)
    head = None
    if begun:
        block.update(begun)
        payload.update(begun)
    if is_http(record):
        head, pieces = read_message(record)
        block.update(head.raw)
        payload.begin(head)
    else:
        pieces = block_of(record)
    for piece in pieces:
        block.update(piece)
        payload.update(piece)
    payload.end()
    if not block.is_right:
        yield "its block is not to its digest"
    if not payload.is_right:
        yield "its payload is not to its digest"
    if head is not None:
        yield from _faults_of_message(record, head, payload.size, is_ours=is_ours)


def _faults_of_message(record: Record, head: Head, size: int, *, is_ours: bool) -> Iterator[str]:
    if record.kind == "response" and head.http_status is None:
        if is_ours:
            yield f"its block is no answer: {head.start[:80]!r}"
        return
    said = head.header("content-length") or ""
    if record.kind != "response" or record.field("warc-truncated") or head.is_chunked or not said.isdecimal():
        return
    if size and size < int(said):
        yield f"its payload ends after {size:,} bytes of {int(said):,}, and no WARC-Truncated says so"
    elif is_ours and size != int(said):
        yield f"its payload has {size:,} bytes, and its head says {said}"


class _Payload:
    """A payload against its digest. Some writers take it with its chunks, and some without: both are in use."""

    def __init__(self, record: Record) -> None:
        is_there = record.kind != "revisit" and record.field("warc-segment-number") is None
        said = record.field("warc-payload-digest") if is_there else None
        self._as_it_lies = Check(said)
        self._without_chunks = Check(said)
        self._dechunker: Dechunker | None = None
        self.size = 0

    def begin(self, head: Head) -> None:
        if head.is_chunked:
            self._dechunker = Dechunker()

    def update(self, piece: bytes) -> None:
        self.size += len(piece)
        self._as_it_lies.update(piece)
        if self._dechunker is not None:
            self._without_chunks.feed(self._dechunker.feed(piece))

    def end(self) -> None:
        if self._dechunker is not None:
            self._without_chunks.update(self._dechunker.end())

    @property
    def is_right(self) -> bool:
        return self._as_it_lies.is_right or (self._dechunker is not None and self._without_chunks.is_right)
