"""HTTP messages as the blocks of records have them: a head, and behind it the payload.

Ours have no transfer coding any more; in the archives of others a body may still be in its chunks.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from sqspider.archive.members import STEP
from sqspider.archive.records import Record
from sqspider.web.head import Headers, header_of

MAX_HEAD: Final = 1024 * 1024  # bytes of a message's head
_END: Final = re.compile(rb"\r?\n\r?\n")
_FOLD: Final = re.compile(rb"\r?\n[ \t]+")
_STATUS: Final = re.compile(r"HTTP/\d+(?:\.\d+)?[ \t]+(\d{3})(?:[ \t]|$)", re.IGNORECASE)
_CHUNK: Final = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\n]*)?\r?\n")
_MAX_CHUNK_LINE: Final = 4096
_KINDS: Final = ("response", "request", "revisit")


class Head(NamedTuple):
    """The head of a message."""

    raw: bytes  # with the empty line
    start: str  # its first line
    headers: Headers

    @property
    def http_status(self) -> int | None:
        found = _STATUS.match(self.start)
        return int(found[1]) if found else None

    def header(self, name: str) -> str | None:
        """The first header of a name, in any case."""
        return header_of(self.headers, name)

    @property
    def is_chunked(self) -> bool:
        """Its payload may be in chunks: some leave this line in, and take them away."""
        return "chunked" in (self.header("transfer-encoding") or "").lower()


def is_http(record: Record) -> bool:
    """Whether its block is an HTTP message."""
    if record.kind not in _KINDS or not record.size:
        return False
    said = record.field("content-type")
    if said is not None:
        return said.partition(";")[0].strip().lower() == "application/http"
    return record.url.lower().startswith(("http:", "https:"))


def read_message(record: Record) -> tuple[Head, Iterator[bytes]]:
    """The head of a record's message, and its payload, as it lies there, in pieces.

    Raises :class:`sqspider.archive.records.RecordError`.
    """
    held = b""
    while (found := _END.search(held)) is None and len(held) < MAX_HEAD and (piece := record.read(STEP)):
        held += piece
    end = found.end() if found else len(held)
    if end > MAX_HEAD:
        raise record.misread("the head of its message has no end")
    return parsed_head(held[:end]), _payload(record, held[end:])


def _payload(record: Record, begun: bytes) -> Iterator[bytes]:
    if begun:
        yield begun
    while piece := record.read(STEP):
        yield piece


def block_of(record: Record) -> Iterator[bytes]:
    """A record's whole block, in pieces."""
    return _payload(record, b"")


def parsed_head(raw: bytes) -> Head:
    """A head from its bytes, whatever they are."""
    unfolded = _FOLD.sub(b" ", raw)
    try:
        lines = unfolded.decode().split("\n")
    except UnicodeDecodeError:
        lines = [_decoded(line) for line in unfolded.split(b"\n")]
    pairs = [line.partition(":") for line in lines[1:]]
    headers = tuple([(name.strip(), value.strip()) for name, colon, value in pairs if colon])
    return Head(raw, lines[0].rstrip("\r"), headers)


def _decoded(line: bytes) -> str:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("latin-1")


def fields_in(block: bytes) -> tuple[tuple[str, str], ...]:
    """The fields of a block of ``application/warc-fields``, in their order."""
    return parsed_head(b"\r\n" + block).headers


class Dechunker:
    """Takes the chunks off a body (RFC 9112 section 7.1). What is in none stays as it is."""

    def __init__(self) -> None:
        self._held = b""
        self._left = 0  # bytes of the chunk that are to come; with its end of line
        self._has_begun = False
        self.is_plain = False  # it is in no chunks
        self.is_whole = False  # the last chunk was seen

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What some more of it brings."""
        self._held += data
        while self._held and not self.is_whole and not self.is_plain:
            if self._left:
                taken, self._held = self._held[: self._left], self._held[self._left :]
                piece = taken[: max(0, self._left - 2)]
                self._left -= len(taken)
                if piece:
                    yield piece
            elif not self._next_chunk():
                break
        if self.is_plain:
            held, self._held = self._held, b""
            yield held

    def end(self) -> bytes:
        """What is left at its end: of what was no chunk."""
        return self._held if not self._has_begun else b""

    def _next_chunk(self) -> bool:
        """Read the line that begins a chunk; False: it is not there yet."""
        found = _CHUNK.match(self._held)
        if found is None:
            if self._held.find(b"\n") < 0 and len(self._held) < _MAX_CHUNK_LINE:
                return False
            self.is_plain = not self._has_begun
            self.is_whole = self._has_begun  # what follows the chunks is no payload
            return False
        self._has_begun = True
        self._held = self._held[found.end() :]
        size = int(found[1], 16)
        self._left = size + 2
        self.is_whole = size == 0
        return not self.is_whole


def without_chunks(head: Head, payload: Iterator[bytes]) -> Iterator[bytes]:
    """A payload without its transfer coding, in pieces."""
    if not head.is_chunked:
        yield from payload
        return
    dechunker = Dechunker()
    for piece in payload:
        yield from dechunker.feed(piece)
    if left := dechunker.end():
        yield left
