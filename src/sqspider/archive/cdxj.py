"""The index of an archive: CDXJ, a line a capture, sorted by SURT key and time.

It is made from the files alone, as ``cdxj-indexer -s`` makes it, always as a whole: robots.txt, answers that were tried
again and earlier visits are in no record of a frontier. A URL is looked up by halving the file.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from sqspider.archive.dates import seconds_of
from sqspider.archive.errors import DamagedError
from sqspider.archive.files import FileInfo, Files, warc_files
from sqspider.archive.http_messages import Head, block_of, is_http, read_message, without_chunks
from sqspider.archive.names import INDEX
from sqspider.archive.records import Record, RecordError, measured, records_of
from sqspider.archive.sorting import Sorter
from sqspider.archive.surt import surt_of

NAME: Final = INDEX
CAPTURE_KINDS: Final = ("response", "revisit", "resource")
_KINDS: Final = (*CAPTURE_KINDS, "metadata")
_OWN_FIELDS: Final = "application/warc-fields"  # of a resource or metadata record that speaks of another one
_MIME_END: Final = re.compile(r"[;\s]")
_STEP: Final = 8192  # bytes that a look-up reads at a time


class Line(NamedTuple):
    """A line of an index."""

    key: str
    time: str  # fourteen digits, UTC
    url: str
    digest: str
    length: int
    offset: int
    file: str
    status: str = ""
    mime: str = ""


def write_index(files: Files, on_record: Callable[[FileInfo], None] = lambda _: None) -> int:
    """Write the index of an archive anew: how many lines it has. Readers see the old one until it is whole.

    What is being written is in it as far as its last whole record. Raises :class:`DamagedError` for a file that is not
    right: an index that leaves captures out would hide that they are lost.
    """
    with Sorter() as sorter:
        for info in warc_files(files):
            for line in lines_of(files, info):
                on_record(info)
                sorter.add(line)
        written = _Counted(sorter.sorted())
        files.write(NAME, written)
        return written.lines


def lines_of(files: Files, info: FileInfo) -> Iterator[bytes]:
    """The lines of one file, in its order, without their ends."""
    with files.opened(info.name) as stream:
        try:
            for record, fields in measured(records_of(stream, info.name), _fields):
                if fields is not None:
                    yield _line(record, fields)
        except RecordError as error:
            if not (error.is_torn and info.is_open):
                raise DamagedError(
                    f"{files.address}: {error}. `sqspider archive verify` says all that is wrong; what a crawler that "
                    "died left behind, `sqspider archive repair` closes"
                ) from error


class _Counted:
    """Lines with their ends, each once, and how many there were."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.lines = 0

    def __iter__(self) -> Iterator[bytes]:
        last = None
        for line in self._lines:
            if line != last:
                self.lines += 1
                yield line + b"\n"
            last = line


def is_indexed(record: Record) -> bool:
    """Whether a record has a line: what was captured, and no more than that."""
    if not record.url or record.kind not in _KINDS:
        return False
    return record.kind in ("response", "revisit") or record.field("content-type") != _OWN_FIELDS


def _fields(record: Record) -> dict[str, str] | None:
    """What a line says of a record but for its place; none: it has no line. Reads it."""
    if not record.is_first:
        raise record.misread("several records are packed together there: `warcio recompress` packs each by itself")
    if not is_indexed(record):
        return None
    head, payload = read_message(record) if is_http(record) else (None, block_of(record))
    fields = {"url": record.field("warc-target-uri") or ""}
    mime = _mime_of(record, head)
    if mime is not None:
        fields["mime"] = mime
    if head is not None and head.http_status is not None:
        fields["status"] = str(head.http_status)
    return {**fields, "digest": record.field("warc-payload-digest") or _digest_of(head, payload)}


def payload_digest_of(record: Record) -> str:
    """The digest of a capture that says none. Reads it."""
    return _digest_of(*(read_message(record) if is_http(record) else (None, block_of(record))))


def _digest_of(head: Head | None, payload: Iterator[bytes]) -> str:
    hashed = hashlib.sha1(usedforsecurity=False)
    for piece in without_chunks(head, payload) if head is not None else payload:
        hashed.update(piece)
    return "sha1:" + base64.b32encode(hashed.digest()).decode()


def _mime_of(record: Record, head: Head | None) -> str | None:
    if record.kind == "revisit":
        return "warc/revisit"
    said = record.field("content-type")
    if record.kind == "response":
        said = None if head is None else head.header("content-type")
    return None if said is None else _MIME_END.split(said, maxsplit=1)[0].strip()


def _line(record: Record, fields: dict[str, str]) -> bytes:
    """The line of a record that was read to its end: only then its length is known."""
    place = {"length": str(record.index_length), "offset": str(record.offset), "filename": record.file}
    return f"{surt_of(record.url)} {time_of(record)} {json.dumps({**fields, **place})}".encode()


def time_of(record: Record) -> str:
    """The time of a record as an index has it: fourteen digits."""
    return re.sub(r"\D", "", record.field("warc-date") or "")[:14].ljust(14, "0")


def seconds_of_digits(time: str) -> float | None:
    """The same in seconds since the epoch; none: it is no time."""
    parts = (time[:4], time[4:6], time[6:8], time[8:10], time[10:12], time[12:])
    return seconds_of("{}-{}-{}T{}:{}:{}Z".format(*parts))


def parsed_line(line: bytes) -> Line:
    """A line of an index, ours or of another tool. Raises ``ValueError`` for what is none."""
    key, time, rest = line.decode().split(" ", 2)
    said: Any = json.loads(rest)
    if not isinstance(said, dict) or not isinstance(said.get("filename"), str):
        raise ValueError("it names no file")  # noqa: TRY004 - the line is at fault, and not a type of ours
    digest = str(said.get("digest", ""))
    return Line(
        key,
        time,
        str(said.get("url", "")),
        digest,
        int(said.get("length", 0)),
        int(said["offset"]),
        said["filename"],
        str(said.get("status", "")),
        str(said.get("mime", "")),
    )


class Index:
    """The index of an archive, for looking up."""

    def __init__(self, files: Files, info: FileInfo) -> None:
        self.info = info
        self._files = files

    @classmethod
    def of(cls, files: Files) -> Index | None:
        """The index of an archive, if there is one."""
        info = files.info(NAME)
        return None if info is None else cls(files, info)

    def find(self, url: str) -> Iterator[Line]:
        """What it has of a URL, in the order of time. Raises :class:`DamagedError` for a file that is no index."""
        prefix = surt_of(url).encode() + b" "
        for line in self._from(self._begin_of(prefix)):
            if not line.startswith(prefix):
                break
            found = self._parsed(line)
            if found.url == url:
                yield found

    def lines(self) -> Iterator[tuple[bytes, Line]]:
        """All its lines, as they are and parsed; of the one file, whoever writes it anew. Raises
        :class:`DamagedError`."""
        with self._files.opened(NAME) as stream:
            for line in stream:
                yield line.removesuffix(b"\n"), self._parsed(line)

    def _parsed(self, line: bytes) -> Line:
        try:
            return parsed_line(line)
        except (ValueError, KeyError, TypeError) as error:
            raise DamagedError(
                f"{NAME} has a line that is none of an index ({error}): {line[:80]!r}; "
                "`sqspider archive index` writes it anew"
            ) from error

    def _begin_of(self, prefix: bytes) -> int:
        """The offset of the first line that is not before this: of those that begin in the file's halves."""
        low, high = 0, self.info.size
        while high - low > _STEP:
            middle = (low + high) // 2
            at, line = self._first_line(middle)
            if line is None or line >= prefix:
                high = middle
            else:
                low = at
        for line in self._from(low):
            if line >= prefix:
                break
            low += len(line) + 1
        return low

    def _first_line(self, offset: int) -> tuple[int, bytes | None]:
        """The first line that begins behind an offset, and where; none: there is none."""
        held = self._files.read(NAME, offset, _STEP)
        while (end := held.find(b"\n")) < 0 or held.find(b"\n", end + 1) < 0:
            more = self._files.read(NAME, offset + len(held), _STEP)
            if not more:
                return self.info.size, held[end + 1 :] or None if end >= 0 else None
            held += more
        return offset + end + 1, held[end + 1 : held.find(b"\n", end + 1)]

    def _from(self, offset: int) -> Iterator[bytes]:
        held = b""
        while data := self._files.read(NAME, offset, _STEP * 8):
            offset += len(data)
            *lines, held = (held + data).split(b"\n")
            yield from lines
        if held:
            yield held
