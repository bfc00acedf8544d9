"""The records of a WARC file, ours or anybody's: their named fields, and their block as a stream.

WARC 1.0 and 1.1 (ISO 28500). What is only odd in a record is noted, for whoever checks; what cannot be read on is an
error. How members are unpacked is in ``members``; what the fields have to say is in ``verify_fields``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, Final, TypeVar

from sqspider.archive.dates import seconds_of
from sqspider.archive.errors import DamagedError
from sqspider.archive.members import SEPARATOR, STEP, Member, MemberError, TornError, members

VERSIONS: Final = ("1.0", "1.1")
_VERSION: Final = re.compile(rb"WARC/(\d+\.\d+)")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a field's name
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FLAWLESS: Final = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\x09\x20-\x7e]*+\r\n)+")  # fields, as most are
SIZE: Final = re.compile(r"[0-9]{1,18}")

Fields = tuple[tuple[str, str], ...]
T = TypeVar("T")


class RecordError(DamagedError):
    """A file cannot be read on from one of its records."""

    def __init__(self, file: str, offset: int, what: str, *, is_torn: bool = False) -> None:
        super().__init__(f"{file}, offset {offset:,}: {what}")
        self.file = file
        self.offset = offset
        self.what = what
        self.is_torn = is_torn  # the file ends amid the record: its writer died, or still writes

    @classmethod
    def of(cls, file: str, error: MemberError) -> RecordError:
        """What is wrong with a member, with the file that it is in."""
        return cls(file, error.offset, str(error), is_torn=isinstance(error, TornError))


class Record:
    """One record. Its block can be read until the next record is asked for."""

    def __init__(self, file: str, member: Member, head: bytes, *, is_first: bool) -> None:
        self.file = file
        self.offset = member.offset  # in the file, of the member that it lies in
        self.is_first = is_first  # of its member; the place of another one cannot be said
        self.flaws: list[str] = []  # what is not as the standard has it, and can be read all the same
        self._head_size = len(head)
        self.version, self.fields = self._parsed(head)
        self._values: dict[str, list[str]] = {}  # of each field, by its name in small letters
        for name, value in self.fields:
            self._values.setdefault(name.lower(), []).append(value)
        self.kind = (self.field("warc-type") or "").lower()  # its WARC-Type; empty: it says none
        self.size = self._block_size()
        self._left = self.size
        self._member = member

    @property
    def identity(self) -> str:
        """Its WARC-Record-ID, without brackets; empty: it says none."""
        return without_brackets(self.field("warc-record-id") or "")

    @property
    def origin(self) -> str:
        """Its WARC-Warcinfo-ID, without brackets; empty: it says none."""
        return without_brackets(self.field("warc-warcinfo-id") or "")

    @property
    def url(self) -> str:
        """Its WARC-Target-URI; wget writes it in brackets."""
        return without_brackets(self.field("warc-target-uri") or "")

    @property
    def at(self) -> float | None:
        """Its WARC-Date, in seconds since the epoch; none: it says none."""
        return seconds_of(self.field("warc-date") or "")

    @property
    def length(self) -> int:
        """Of the member that it lies in, in the file; known once the next record was asked for."""
        return self._member.length

    @property
    def index_length(self) -> int:
        """The same as indexes have it: of what is not packed, without the empty lines behind its block."""
        is_packed = self.length != self._head_size + self.size + len(SEPARATOR)
        return self.length if is_packed else self.length - len(SEPARATOR)

    def field(self, name: str) -> str | None:
        """The first field of a name, in small letters."""
        found = self._values.get(name)
        return found[0] if found else None

    def all(self, name: str) -> list[str]:
        """All fields of a name, in small letters."""
        return self._values.get(name, [])

    def read(self, size: int) -> bytes:
        """Some bytes of its block, fewer at the end only. Raises :class:`RecordError`."""
        wanted = min(size, self._left)
        try:
            got = self._member.read(wanted) if wanted else b""
        except MemberError as error:
            raise RecordError.of(self.file, error) from error
        self._left -= len(got)
        if len(got) < wanted:
            raise self.misread(f"its block ends after {self.size - self._left:,} bytes of {self.size:,}")
        return got

    def finish(self) -> None:
        """Read to the end, and past what separates it from the next one. Raises :class:`RecordError`."""
        while self.read(STEP):
            pass
        try:
            behind = self._member.read(len(SEPARATOR))
        except MemberError as error:
            raise RecordError.of(self.file, error) from error
        if behind != SEPARATOR:
            raise self.misread("no two empty lines follow its block: it is longer or shorter than it says")

    def misread(self, what: str) -> RecordError:
        """An error that names this record."""
        return RecordError(self.file, self.offset, what)

    def _parsed(self, head: bytes) -> tuple[str, Fields]:
        first, _, rest = head.removesuffix(b"\r\n").partition(b"\r\n")
        found = _VERSION.fullmatch(first)
        if found is None:
            raise self.misread(f"what begins there is no WARC record: {first[:40]!r}")
        version = found[1].decode()
        if version not in VERSIONS:
            self.flaws.append(f"WARC/{version} is no version of the standard that is known here")
        if _FLAWLESS.fullmatch(rest):
            fields = [line.partition(":") for line in rest[:-2].decode().split("\r\n")]
            return version, tuple([(name, value.strip(" \t")) for name, _, value in fields])
        return version, tuple(self._fields(rest))

    def _fields(self, lines: bytes) -> Iterator[tuple[str, str]]:
        folded = re.sub(rb"\r\n[ \t]+", b" ", lines)
        for line in folded.removesuffix(b"\r\n").split(b"\r\n") if folded else ():
            name, colon, value = line.partition(b":")
            if not colon or not _TOKEN.fullmatch(name):
                self.flaws.append(f"a line of its head is no field: {line[:80]!r}")
                continue
            if _CONTROL.search(value):
                self.flaws.append(f"{name.decode()} has a control character in it: {value[:80]!r}")
            try:
                text = value.decode()
            except UnicodeDecodeError:
                self.flaws.append(f"{name.decode()} is not UTF-8: {value[:80]!r}")
                text = value.decode("utf-8", "surrogateescape")
            yield name.decode(), text.strip(" \t")

    def _block_size(self) -> int:
        said = self.field("content-length")
        if said is None:
            raise self.misread("it has no Content-Length: where it ends cannot be known")
        if not SIZE.fullmatch(said):
            raise self.misread(f"its Content-Length is no length: {said[:40]!r}")
        return int(said)


def records_of(stream: BinaryIO, file: str, offset: int = 0) -> Iterator[Record]:
    """The records from where a stream stands on, which is this offset of the file. Each was whole, and its member's
    checksum right, when the next one comes, or the end. Raises :class:`RecordError`."""
    try:
        for member in members(stream, offset):
            is_first = True
            while head := member.read_head():
                record = Record(file, member, head, is_first=is_first)
                yield record
                record.finish()
                is_first = False
    except MemberError as error:
        raise RecordError.of(file, error) from error


def measured(records: Iterable[Record], take: Callable[[Record], T]) -> Iterator[tuple[Record, T]]:
    """Each record with what was made of it, once its end was seen: only then it is known to be whole, and its length.

    Those before one that cannot be read are handed out before the error.
    """
    taken: tuple[Record, T] | None = None
    try:
        for record in records:
            if taken is not None:
                yield taken
                taken = None
            taken = record, take(record)
    except RecordError:
        if taken is not None and taken[0].length:
            yield taken
        raise
    if taken is not None:
        yield taken


def without_brackets(value: str) -> str:
    """A URI, which some fields have in brackets, and some writers all."""
    return value[1:-1] if value.startswith("<") and value.endswith(">") else value
