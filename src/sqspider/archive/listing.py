"""What is in an archive: its files, and the captures of a URL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from sqspider.archive.cdxj import CAPTURE_KINDS, seconds_of_digits
from sqspider.archive.dates import microseconds, written_date
from sqspider.archive.errors import DamagedError
from sqspider.archive.files import FileInfo, Files, warc_files
from sqspider.archive.reading import Captured, captures_of
from sqspider.archive.records import Record
from sqspider.archive.rewriting import parts_of

_BEGAN: Final = re.compile(r"-(\d{14})-")


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A WARC file. What is in it is said if it was read."""

    name: str
    size: int
    is_open: bool  # somebody writes it, or died while writing it
    began: float | None  # as its name says: seconds since the epoch
    modified: float
    records: int | None = None
    captures: int | None = None
    first: float | None = None  # of its captures
    last: float | None = None
    damage: str | None = None

    def as_json(self) -> dict[str, Any]:
        said = {"file": self.name, "bytes": self.size, "open": self.is_open, "began": exact(self.began)}
        said |= {"modified": exact(self.modified), "records": self.records, "captures": self.captures}
        return said | {"first": exact(self.first), "last": exact(self.last), "damage": self.damage}


class Found(NamedTuple):
    """A capture of a URL."""

    url: str
    at: float
    http_status: int | None
    content_type: str | None
    bytes: int | None  # of its payload, as it was sent; none: it lies with another capture
    kind: str
    truncated: str | None
    digest: str | None
    file: str
    offset: int
    length: int

    def as_json(self) -> dict[str, Any]:
        said = {**self._asdict(), "at": exact(self.at)}
        said["capture_file"], said["capture_offset"] = said.pop("file"), said.pop("offset")
        said["capture_length"] = said.pop("length")
        return said


def listed(
    files: Files, *, reads: bool = False, on_record: Callable[[FileInfo], None] = lambda _: None
) -> Iterator[Listed]:
    """The WARC files, by name. ``reads``: with what is in them, for which all of it is unpacked. Raises
    :class:`sqspider.archive.errors.ArchiveError` where there is no archive."""
    for info in warc_files(files):
        found = _BEGAN.search(info.name)
        row = Listed(
            name=info.name,
            size=info.size,
            is_open=info.is_open,
            began=seconds_of_digits(found[1]) if found else None,
            modified=info.modified,
        )
        yield _with_content(files, info, row, on_record) if reads else row


def found_of(files: Files, urls: Sequence[str]) -> list[Found]:
    """The captures of a URL, by time; ``urls`` are ways to write it."""
    captures = [_found(captured) for url in dict.fromkeys(urls) for captured in captures_of(files, url)]
    return sorted(captures, key=lambda found: found.at)


def nearest(found: Sequence[Found], at: float) -> Found | None:
    """The one that is nearest to a moment."""
    return min(found, key=lambda each: abs(each.at - at), default=None)


def exact(at: float | None) -> str | None:
    """A moment with all digits that a record says."""
    return None if at is None else written_date(microseconds(at))


def _with_content(files: Files, info: FileInfo, row: Listed, on_record: Callable[[FileInfo], None]) -> Listed:
    def read(record: Record) -> float | None:
        on_record(info)
        return record.at if record.kind in CAPTURE_KINDS else None

    records = captures = 0
    first, last, damage = None, None, None
    try:
        for part in parts_of(files, info, read):
            records += len(part.records)
            for at in part.records:
                if at is not None:
                    captures += 1
                    first, last = min(at, first or at), max(at, last or at)
    except DamagedError as error:
        damage = None if info.is_open else str(error)
    return msgspec.structs.replace(row, records=records, captures=captures, first=first, last=last, damage=damage)


def _found(captured: Captured) -> Found:
    content_type = captured.header("content-type")
    return Found(
        url=captured.url,
        at=captured.at,
        http_status=captured.http_status,
        content_type=content_type and content_type.partition(";")[0].strip().lower(),
        bytes=None if captured.kind == "revisit" else sum(map(len, captured.payload_pieces())),
        kind=captured.kind,
        truncated=None if captured.kind == "revisit" else captured.truncated,
        digest=captured.digest,
        file=captured.file,
        offset=captured.offset,
        length=captured.length,
    )
