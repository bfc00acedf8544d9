"""Walks the members of a WARC file, ours or anybody's, in a stream and in constant memory.

A member is what was packed by itself: a gzip member or a zstd frame; of a file that is not packed, a record. Ours hold
one record each; of others one may hold the whole file. What a record's fields say is in ``records``; here it is known
how long a record is, and whether it is whole.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, Protocol

from sqspider.archive.errors import DamagedError
from sqspider.archive.files import Files
from sqspider.archive.packing import gzip_unpacker

STEP: Final = 64 * 1024  # bytes that are read, or unpacked, at a time
_PACKED_STEP: Final = 16 * 1024  # that are unpacked at a time: most members are smaller, and what is behind is copied
MAX_HEAD_BYTES: Final = 1024 * 1024  # of the named fields of a record; who writes more writes something else
SEPARATOR: Final = b"\r\n\r\n"  # behind the fields of a record, and behind its block
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPED: Final = re.compile(rb"[\x50-\x5f]\x2a\x4d\x18")
_ZSTD_DICTIONARY: Final = b"\x5d\x2a\x4d\x18"  # the frame at the head of a file that holds its dictionary
_ZSTD_WINDOW_LOG: Final = 27  # 128 MiB, what `zstd --long` asks for
_MAX_DICTIONARY_BYTES: Final = 16 * 1024 * 1024
MARK_BYTES: Final = 3  # by which the beginnings of members are told
_LENGTH: Final = re.compile(
    rb"\r\n[Cc][Oo][Nn][Tt][Ee][Nn][Tt]-[Ll][Ee][Nn][Gg][Tt][Hh][ \t]*:[ \t]*([0-9]+)[ \t]*(?=\r\n)"
)


class MemberError(DamagedError):
    """A member cannot be read."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.offset = offset  # where it begins; whatever lies before is whole


class TornError(MemberError):
    """The file ends amid a member: whoever wrote it died, or still writes."""


class Member:
    """One member, unpacked as it is read. It can be read until the next one is asked for."""

    def __init__(self, offset: int, pieces: Iterator[bytes]) -> None:
        self.offset = offset  # in the file
        self.length = 0  # in the file; known once it was read to its end
        self._pieces = pieces
        self._held = b""

    def read(self, size: int) -> bytes:
        """As many bytes as are wanted, fewer at its end only. Raises :class:`MemberError`."""
        got = []
        while size > 0:
            piece = self._held or next(self._pieces, b"")
            if not piece:
                break
            got.append(piece[:size])
            self._held = piece[size:]
            size -= len(got[-1])
        return got[0] if len(got) == 1 else b"".join(got)

    def read_head(self) -> bytes:
        """The next record's version and named fields, with the empty line; nothing at the member's end.

        Raises :class:`MemberError`, also for what is no record.
        """
        held = self._held or next(self._pieces, b"")
        while (end := held.find(SEPARATOR)) < 0:
            piece = next(self._pieces, b"")
            if not piece and not held:
                return b""
            if not piece or len(held) > MAX_HEAD_BYTES:
                raise MemberError(
                    f"what lies at offset {self.offset:,} is no record: its fields have no end", self.offset
                )
            held += piece
        self._held = held[end + len(SEPARATOR) :]
        return held[: end + len(SEPARATOR)]

    def blocks(self, size: int) -> Iterator[bytes]:
        """So many bytes in pieces; fewer at its end only. Raises :class:`MemberError`."""
        while size > 0 and (piece := self.read(min(size, STEP))):
            size -= len(piece)
            yield piece

    def skip(self) -> None:
        """Read to the end, where its checksum is. Raises :class:`MemberError`."""
        while self.read(STEP):
            pass


def members(stream: BinaryIO, offset: int = 0) -> Iterator[Member]:
    """The members from where a stream stands on, which is this offset of its file.

    Each is checked to its end, by its checksum where it has one, before the next. How they are packed shows at the
    beginning. Raises :class:`TornError` where the file ends amid one, :class:`MemberError` for what is none; both say
    where, and whatever was handed out before is whole.
    """
    source = _Source(stream, offset)
    unpack = _unpacking(source)
    while source.fill(1):
        at = source.offset
        member = Member(at, unpack(source))
        yield member
        member.skip()
        member.length = source.offset - at


def content_length_of(head: bytes) -> int | None:
    """Of a record's block, as its head says it (:meth:`Member.read_head`); none: it does not."""
    found = _LENGTH.search(head)
    return int(found[1]) if found else None


def check_whole(member: Member) -> bytes:
    """The head of the first record of a member, all of whose records are whole: they have a length, and nothing but
    the separator follows. Reads it to its end. Raises :class:`MemberError` where one is not."""
    first = head = member.read_head()
    if not first:
        raise MemberError(f"what lies at offset {member.offset:,} is no record: there is nothing in it", member.offset)
    while head:
        size = content_length_of(head) if head.startswith(b"WARC/") else None
        if size is None:
            raise MemberError(f"what lies at offset {member.offset:,} is no record of a WARC file", member.offset)
        got = sum(map(len, member.blocks(size)))
        if got < size or member.read(len(SEPARATOR)) != SEPARATOR:
            raise MemberError(f"the record at offset {member.offset:,} does not end where it says", member.offset)
        head = member.read_head()
    return first


def whole_from(stream: BinaryIO, offset: int, mark: bytes, is_own: Callable[[bytes], bool]) -> int | None:
    """Where the first whole record of a file begins from this offset on, at which the stream stands; none: nowhere.

    For what lies behind damage. ``mark``: how the file's members begin, its first bytes. What was kept may hold
    members, too: ``is_own`` tells by a record's head whether it is one of the file's.
    """
    source = _Source(stream, offset)
    while source.fill(len(mark)):
        found = source.find(mark)
        if found < 0:
            source.take(source.ahead - len(mark) + 1)  # what is left may be its beginning
            continue
        at = source.offset + found
        source.take(found + 1)
        here = stream.tell()
        stream.seek(at)
        try:
            if is_own(check_whole(next(members(stream, at)))):
                return at
        except MemberError:
            pass  # it only looks like a beginning
        stream.seek(here)
    return None


def can_be_joined(files: Files, name: str) -> bool:
    """Whether members of a file can stand behind those of another one: not where they need the dictionary that their
    file begins with."""
    return not name.endswith(".zst") or files.read(name, 0, len(_ZSTD_DICTIONARY)) != _ZSTD_DICTIONARY


class _Source:
    """A stream that can be looked into ahead. What is handed out is held on to, so that it can be given back."""

    def __init__(self, stream: BinaryIO, offset: int) -> None:
        self._stream = stream
        self._held = b""
        self._at = 0  # in what is held, of what is handed out next
        self._end = offset  # in the file, of what is held

    @property
    def offset(self) -> int:
        """In the file, of what is handed out next."""
        return self._end - len(self._held) + self._at

    def fill(self, size: int) -> bool:
        """Hold so many bytes; false where there are fewer."""
        while len(self._held) - self._at < size:
            piece = self._stream.read(STEP)
            if not piece:
                return False
            self._held = self._held[self._at :] + piece if self._at < len(self._held) else piece
            self._at = 0
            self._end += len(piece)
        return True

    def begins(self, mark: bytes) -> bool:
        """Whether what comes next is this, or would be if the file did not end amid it."""
        self.fill(len(mark))
        return mark.startswith(self.peek(len(mark)))

    def peek(self, size: int) -> bytes:
        """Some bytes that come next, of those that are held."""
        return self._held[self._at : self._at + size]

    def take(self, size: int = STEP) -> bytes:
        """Some bytes, at most so many; none at the end."""
        self.fill(1)
        taken = self.peek(size)
        self._at += len(taken)
        return taken

    def give_back(self, size: int) -> None:
        """So many bytes of those that were taken last come again."""
        self._at -= size

    def find(self, mark: bytes, start: int = 0) -> int:
        """How far ahead such bytes lie in what is held, not before ``start``; below 0: there are none."""
        found = self._held.find(mark, self._at + start)
        return found - self._at if found >= 0 else found

    @property
    def ahead(self) -> int:
        """How many bytes are held that come next."""
        return len(self._held) - self._at


class _Unpack(Protocol):
    def __call__(self, source: _Source) -> Iterator[bytes]:
        """The content of the member at which the source stands; behind which it stands at the end."""


def _unpacking(source: _Source) -> _Unpack:
    """How a file is packed, by its first bytes."""
    if source.begins(_GZIP):
        return _gzip_member
    if source.begins(_ZSTD) or _ZSTD_SKIPPED.match(source.peek(len(_ZSTD))):
        return _Zstd(source)
    return _plain_record


def _gzip_member(source: _Source) -> Iterator[bytes]:
    at = source.offset
    if not source.begins(_GZIP):
        raise MemberError(f"what lies at offset {at:,} is no gzip member", at)
    unpacker, errors = gzip_unpacker()
    try:
        while not unpacker.eof:
            data = unpacker.unconsumed_tail or source.take(_PACKED_STEP)
            piece = unpacker.decompress(data, STEP)
            if piece:
                yield piece
            elif not data and not unpacker.eof:
                raise _torn(at)
    except errors as error:
        raise MemberError(f"what lies at offset {at:,} is no whole gzip member: {error}", at) from error
    source.give_back(len(unpacker.unused_data))


class _Zstd:
    """Frames, perhaps with a dictionary at the head of the file (the IIPC's note on .warc.zst)."""

    def __init__(self, source: _Source) -> None:
        if sys.version_info >= (3, 14):  # here: few files are packed so
            from compression import zstd
        else:
            from backports import zstd
        self._zstd = zstd
        self._options: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
        self._dictionary = None
        at = source.offset
        if source.peek(len(_ZSTD_DICTIONARY)) == _ZSTD_DICTIONARY:
            data = b"".join(self._skipped(source, at))
            try:
                if data.startswith(_ZSTD):
                    data = zstd.decompress(data)
                self._dictionary = zstd.ZstdDict(data)
            except (zstd.ZstdError, ValueError) as error:
                raise MemberError(f"the dictionary at the head of the file cannot be used: {error}", at) from error

    def __call__(self, source: _Source) -> Iterator[bytes]:
        at, zstd = source.offset, self._zstd
        source.fill(len(_ZSTD))
        if _ZSTD_SKIPPED.match(source.peek(len(_ZSTD))):
            for _ in self._skipped(source, at):
                pass  # it holds nothing that is a record
            return
        unpacker = zstd.ZstdDecompressor(self._dictionary, options=self._options)
        try:
            while not unpacker.eof:
                data = source.take(_PACKED_STEP) if unpacker.needs_input else b""
                if not data and unpacker.needs_input:
                    raise _torn(at)
                if piece := unpacker.decompress(data, max_length=STEP):
                    yield piece
        except zstd.ZstdError as error:
            raise MemberError(f"what lies at offset {at:,} is no whole zstd frame: {error}", at) from error
        source.give_back(len(unpacker.unused_data))

    def _skipped(self, source: _Source, at: int) -> Iterator[bytes]:
        """The content of a frame that decoders skip (RFC 8878 section 3.1.2)."""
        if not source.fill(8):
            raise _torn(at)
        size = int.from_bytes(source.take(8)[4:], "little")
        if at == 0 and size > _MAX_DICTIONARY_BYTES:
            raise MemberError(f"the dictionary at the head of the file is too large: {size:,} bytes", at)
        yield from _pieces(source, size, at)


def _pieces(source: _Source, size: int, at: int) -> Iterator[bytes]:
    """So many bytes, of what begins at an offset."""
    while size:
        piece = source.take(min(size, STEP))
        if not piece:
            raise _torn(at)
        size -= len(piece)
        yield piece


def _plain_record(source: _Source) -> Iterator[bytes]:
    at = source.offset
    seen = 0
    while (end := source.find(SEPARATOR, max(0, seen - len(SEPARATOR)))) < 0:
        seen = source.ahead
        if not source.begins(b"WARC/") or seen > MAX_HEAD_BYTES:
            raise MemberError(f"what lies at offset {at:,} is no record of a WARC file", at)
        if not source.fill(seen + 1):
            raise _torn(at)
    head = source.take(end + len(SEPARATOR))
    size = content_length_of(head) if head.startswith(b"WARC/") else None
    if size is None:
        raise MemberError(f"what lies at offset {at:,} is no record of a WARC file", at)
    yield head
    yield from _pieces(source, size + len(SEPARATOR), at)


def _torn(at: int) -> TornError:
    return TornError(f"the file ends amid what begins at offset {at:,}: it is torn there", at)
