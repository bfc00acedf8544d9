"""Reads captures out of an archive: ours, or anybody's WARC files; streamed, in constant memory.

What is of one exchange (the answer, what was asked, what is told of it) is brought together where it lies together.
"""

from __future__ import annotations

import tempfile
import weakref
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from itertools import chain
from pathlib import PurePosixPath
from typing import IO, Final

from sqspider.archive.addresses import files_at
from sqspider.archive.cdxj import CAPTURE_KINDS, Index, Line
from sqspider.archive.errors import DamagedError, NoArchiveError
from sqspider.archive.files import OPEN, WARC_ENDINGS, FileInfo, Files, warc_files
from sqspider.archive.gathering import Gathered, Side, gathered, side_of
from sqspider.archive.http_messages import block_of, is_http, read_message, without_chunks
from sqspider.archive.members import STEP, members
from sqspider.archive.originals import Reference, Spot, originals_of
from sqspider.archive.records import Fields, Record, RecordError, measured, records_of
from sqspider.record import CapturePlace
from sqspider.web.body import Body, BodySink
from sqspider.web.head import Headers

BODY_BYTES: Final = 64 * 1024 * 1024  # of a decoded body, unless more is asked for
_MEMORY_BYTES: Final = 1024 * 1024  # of a payload that is held there


class _Payload:
    """A payload, which can be read again; what is large lies in a file without a name."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        held, size = [], 0
        for piece in pieces:
            held.append(piece)
            size += len(piece)
            if size > _MEMORY_BYTES:
                break
        self._held = held
        self._file: IO[bytes] | None = None
        if size > _MEMORY_BYTES:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with this
            weakref.finalize(self, self._file.close)
            self._file.writelines(chain(held, pieces))
            held.clear()

    def pieces(self) -> Iterator[bytes]:
        yield from self._held
        if self._file is not None:
            self._file.seek(0)
            while piece := self._file.read(STEP):
                yield piece


class Captured:
    """A capture: what was asked for, when, and what was answered."""

    def __init__(self, record: Record, files: Files | None = None) -> None:
        """Reads the record to the end of its block."""
        head, payload = read_message(record) if is_http(record) else (None, block_of(record))
        self._head = head
        self._payload = _Payload(without_chunks(head, payload) if head is not None else payload)
        self._files = files
        self.original_place: CapturePlace | None = None  # of a revisit, where it is known: then no index is needed
        self.original_spots: tuple[Spot, ...] | None = None  # where it may lie; none: nobody has looked yet
        self.kind = record.kind  # response, revisit, or resource: what was kept without what the protocol says
        self.url = record.url
        self.at = record.at or 0.0  # when it was asked for, seconds since the epoch
        self.digest = record.field("warc-payload-digest")  # with its algorithm before it
        self.truncated = record.field("warc-truncated")  # why the payload ends early; none: it does not
        self.identity = record.identity  # its WARC-Record-ID
        self.origin = record.origin  # the WARC-Record-ID of the warcinfo of the file that it was first written to
        self.fields: Fields = record.fields  # all that its record says
        self.file = record.file
        self.offset = record.offset  # in the file
        self.length = 0  # of its record in the file, packed
        self.request: bytes | None = None  # the head of what was asked, where that is kept
        self.metadata: Fields = ()  # what else is told of it: ``via``, ``hopsFromSeed``, ``fetchTimeMs``, ...

    @property
    def http_status(self) -> int | None:
        """None: it is no HTTP answer, or a revisit that does not say."""
        return self._head.http_status if self._head else None

    @property
    def headers(self) -> Headers:
        """As they were sent, but for what says how the body was cut into pieces."""
        return self._head.headers if self._head else ()

    @property
    def head(self) -> bytes:
        """Status line and headers with the empty line, as they lie there; of what is no HTTP answer, nothing."""
        return self._head.raw if self._head else b""

    def header(self, name: str) -> str | None:
        """The first header of a name, in any case."""
        return self._head.header(name) if self._head else None

    @property
    def payload(self) -> bytes:
        """The body, with its content coding as it was sent; of a revisit, that of its original, where that is found."""
        return b"".join(self.payload_pieces())

    def payload_pieces(self) -> Iterator[bytes]:
        """The same in pieces, for what is large."""
        if self.kind == "revisit" and self.original is not None:
            yield from self.original.payload_pieces()
            return
        yield from self._payload.pieces()

    def body(self, most_bytes: int = BODY_BYTES) -> bytes:
        """The body decoded, as far as this many bytes.

        Raises :class:`sqspider.web.body.DecodeError` for what its Content-Encoding does not decode.
        """
        body = self._decoded(Body(self._codings, most_bytes))
        return body.end()

    def decode(self, most_bytes: int, sink: BodySink) -> None:
        """Hand the body to a sink, decoded, in pieces. Raises as :meth:`body` does."""
        self._decoded(Body(self._codings, most_bytes, sink))

    @property
    def _codings(self) -> str | None:
        answered = self if self.kind != "revisit" or self.original is None else self.original
        return ", ".join(value for name, value in answered.headers if name.lower() == "content-encoding") or None

    def _decoded(self, body: Body) -> Body:
        for piece in self.payload_pieces():
            if not body.feed(piece):
                break
        return body

    @cached_property
    def original(self) -> Captured | None:
        """The capture whose payload a revisit has; none: it is no revisit, or that is not to be found. Where neither
        its place is known nor the index tells it, the archive is looked through for it: once for all revisits."""
        if self.kind != "revisit" or self._files is None:
            return None
        reference = Reference.of(self.fields)
        if self.original_place is not None:
            with suppress(NoArchiveError):  # packed since its place was read
                return capture_at(self._files, self.original_place)
            return _original_in_archive(self._files, reference)
        spots: Iterable[Spot] | None = self.original_spots
        if spots is None:
            spots = originals_of(self._files).spots(reference, Spot(self.file, self.offset))
        for spot in spots:
            try:
                found = _at(self._files, spot.file, spot.offset)
            except NoArchiveError:  # packed since
                return _original_in_archive(self._files, reference)
            if found.kind != "revisit" and reference.is_to(found.digest):
                return found
        return None


def read_archive(address: str) -> Iterator[Captured]:
    """The captures of an archive, in the order in which they lie there: of a folder, of ``s3://BUCKET/PREFIX``, or of
    one WARC file, ours or anybody's.

    Raises :class:`sqspider.ArchiveError`: where there is none, permission is missing, or a file is damaged; what lies
    before the damage was handed out. What is being written is read as far as its last whole record. A revisit whose
    original is not in the archive has no ``original``, and an empty payload.
    """
    files = files_to_read(address)
    for info in warc_files(files):
        yield from captures_in(files, info)


def captures_in(files: Files, info: FileInfo, url: str | None = None) -> Iterator[Captured]:
    """The captures of one file, in its order; ``url``: of that one alone. Raises :class:`DamagedError`."""
    return _captures_from(files, info.name, 0, is_open=info.is_open, url=url)


def _captures_from(
    files: Files, name: str, offset: int, *, is_open: bool, url: str | None = None
) -> Iterator[Captured]:
    info = FileInfo(name, 0, 0.0, is_open)
    for each in gathered(files, info, offset, lambda record: _taken(record, files, url), hands_out_torn=True):
        if each.capture is not None:
            yield each.capture


def captures_from(files: Files, info: FileInfo, offset: int = 0) -> Iterator[Gathered[Captured]]:
    """The captures of one file from an offset on, each with where the next ones begin: for who goes on there later.

    Of a file that is being written, the last one waits until all that is told of it is there. Raises
    :class:`DamagedError`.
    """
    return gathered(files, info, offset, lambda record: _taken(record, files))


def capture_at(files: Files, place: CapturePlace, url: str | None = None) -> Captured:
    """The capture at a place: by a record, of this URL; none: whatever is there.

    Raises :class:`DamagedError` for something else, or nothing whole, at it.
    """
    return checked(files, _at(files, place.file, place.offset), place, url)


def checked(files: Files, captured: Captured, place: CapturePlace, url: str | None) -> Captured:
    """A capture that was found at a place, if it is the one that was kept there. Raises as :func:`capture_at`."""
    wanted = place.url or url
    is_other = (wanted and captured.url != wanted) or (captured.digest or "").removeprefix("sha1:") != place.digest
    if is_other or captured.length != place.length:
        raise DamagedError(
            f"{files.address}: {place.file}, offset {place.offset:,}: what lies there is not what was kept there, but "
            f"{captured.length:,} bytes of {captured.url} with the digest {captured.digest}"
        )
    captured.original_place = place.payload
    return captured


def head_of(files: Files, captured: Captured) -> bytes:
    """The head of a capture; of a 304, whose record has none, as the metadata behind it tells. Nothing, where none is
    kept. Raises :class:`DamagedError`."""
    if captured.head or captured.kind != "revisit":
        return captured.head
    whole = next(_captures_from(files, captured.file, captured.offset, is_open=True), captured)
    lines = [value.encode("latin-1", "replace") for name, value in whole.metadata if name == "head"]
    return b"\r\n".join((*lines, b"", b"")) if lines else b""


def captures_of(files: Files, url: str) -> Iterator[Captured]:
    """What an archive has of a URL: by its index, and by reading all that was written since; without one, all of it."""
    index = Index.of(files)
    seen = set()
    if index is not None:
        for line in index.find(url):
            seen.add((line.file, line.offset))
            with suppress(NoArchiveError):  # packed since: then it lies in a file that is read below
                yield _capture_of_line(files, line)
    for info in warc_files(files):
        if index is None or info.is_open or info.modified >= index.info.modified:
            for captured in captures_in(files, info, url):
                if (captured.file, captured.offset) not in seen:
                    yield captured


def record_pieces(files: Files, captured: Captured) -> Iterator[bytes]:
    """A capture's record unpacked, in pieces: as it stands in a WARC file that is not packed."""
    with files.opened(captured.file, captured.offset) as stream:
        member = next(members(stream, captured.offset))
        while piece := member.read(STEP):
            yield piece


def files_to_read(address: str) -> Files:
    """The files at an address, which may be that of a single WARC file."""
    name = PurePosixPath(address).name
    if not name.removesuffix(OPEN).endswith(WARC_ENDINGS):
        return files_at(address)
    parent = address[: -len(name)]
    files = files_at(parent.rstrip("/") or parent or ".")
    return _One(files, name.removesuffix(OPEN))


class _One:
    """One file, as if it were alone."""

    def __init__(self, files: Files, name: str) -> None:
        self.address = files.address
        self._files = files
        self._name = name
        self.read, self.opened, self.write, self.remove = files.read, files.opened, files.write, files.remove

    def all(self) -> Iterator[FileInfo]:
        found = self._files.info(self._name)
        if found is None:
            raise NoArchiveError(f"there is no {self._name} in {self.address}")
        yield found

    def info(self, name: str) -> FileInfo | None:
        return self._files.info(name) if name == self._name else None


def _taken(record: Record, files: Files, url: str | None = None) -> Captured | Side | None:
    if url is not None and record.url and record.url != url:
        return None
    if record.kind in CAPTURE_KINDS:
        return Captured(record, files) if url in (None, record.url) else None
    return side_of(record)


def _at(files: Files, name: str, offset: int) -> Captured:
    with files.opened(name, offset) as stream:
        records = measured(records_of(stream, name, offset), lambda record: _taken(record, files))
        return first_capture(files, name, offset, records)


def first_capture(files: Files, name: str, offset: int, records: Iterator[tuple[Record, object]]) -> Captured:
    """The capture that a file has at an offset, of what is read from there on. Raises :class:`DamagedError`."""
    try:
        record, taken = next(records)
    except RecordError as error:
        raise DamagedError(f"{files.address}: {error}") from error
    except StopIteration:
        raise DamagedError(f"{files.address}: {name} ends before offset {offset:,}: it was longer") from None
    if not isinstance(taken, Captured):
        raise DamagedError(f"{files.address}: {name}, offset {offset:,}: a {record.kind} record is no capture")
    taken.length = record.length
    return taken


def _capture_of_line(files: Files, line: Line) -> Captured:
    captured = _at(files, line.file, line.offset)
    if captured.url != line.url:
        raise DamagedError(
            f"{files.address}: {line.file}, offset {line.offset:,}: what lies there is {captured.url}, and not "
            "what the index says: `sqspider archive index` writes it anew"
        )
    return captured


def _original_in_archive(files: Files, reference: Reference) -> Captured | None:
    found = (each for each in captures_of(files, reference.url) if each.kind != "revisit")
    right = (each for each in found if reference.is_to(each.digest))
    return min(right, key=lambda each: reference.away_from(each.at), default=None)
