"""Records that are made anew where something was erased: by what they said, and what they refer to.

A record keeps its id and date, so what is concurrent to it, and whoever refers to it, still finds it.
"""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from sqspider.archive.dates import written_date
from sqspider.archive.errors import ArchiveError, DamagedError
from sqspider.archive.files import Files
from sqspider.archive.forget_references import Original
from sqspider.archive.http_messages import block_of, is_http, read_message
from sqspider.archive.records import Fields, Record, records_of
from sqspider.archive.warc import digest_of

MAX_BLOCK: Final = 4 * 1024 * 1024  # of a revisit's: it has a head alone
_NAMESPACE: Final = uuid.UUID("3a4c9f0e-2b61-5c0e-9d5f-6c2a7f0b8e41")  # of the ids of notes
_OF_REVISIT: Final = ("warc-profile", "warc-refers-to", "warc-refers-to-target-uri", "warc-refers-to-date")
_OF_BLOCK: Final = ("warc-block-digest", "content-length", "warc-truncated")
_NOT_MODIFIED: Final = "server-not-modified"


class Revisit(NamedTuple):
    """A revisit, as it was read."""

    version: str
    fields: Fields
    block: bytes  # its head; nothing, where the server said that nothing has changed

    def field(self, name: str) -> str | None:
        """The first field of a name, in small letters."""
        return next((value for key, value in self.fields if key.lower() == name), None)


def read_revisit(record: Record) -> Revisit:
    """What a record says. Raises :class:`ArchiveError` for one that has more than a head."""
    if record.size > MAX_BLOCK:
        raise ArchiveError(
            f"{record.file}, offset {record.offset:,}: a revisit of {record.size:,} bytes, whose payload is to be "
            "erased elsewhere, cannot be written anew"
        )
    return Revisit(record.version, record.fields, b"".join(block_of(record)))


def altered(revisit: Revisit, original: Original) -> Iterator[bytes]:
    """The same revisit, referring to what is there in place of its original."""
    refers = {
        "warc-refers-to": f"<{original.first_identity}>",
        "warc-refers-to-target-uri": original.first_url,
        "warc-refers-to-date": original.first_date,
    }
    fields = [(name, value) for name, value in revisit.fields if name.lower() not in refers]
    at = next((at for at, (name, _) in enumerate(fields) if name.lower() == "warc-profile"), len(fields) - 1) + 1
    written = (("WARC-Refers-To", "WARC-Refers-To-Target-URI", "WARC-Refers-To-Date"), refers.values())
    fields[at:at] = zip(*written, strict=True)
    yield _head(revisit.version, fields)
    yield revisit.block
    yield b"\r\n\r\n"


def promoted(files: Files, revisit: Revisit, original: Original) -> Iterator[bytes]:
    """A revisit as a full response, with the payload that it referred to. Of one for which the server said that
    nothing has changed, that is the answer which it meant. The payload is read twice: first for its digest."""
    hashed, size = hashlib.sha1(usedforsecurity=False), 0
    for piece in _block(files, revisit, original):
        hashed.update(piece)
        size += len(piece)
    was_cut = _original_cut(files, original)
    left_out = (*_OF_REVISIT, *_OF_BLOCK, "content-type")
    fields = [
        (name, "response" if name.lower() == "warc-type" else value)
        for name, value in revisit.fields
        if name.lower() not in left_out
    ]
    if was_cut is not None:
        fields.append(("WARC-Truncated", was_cut))
    fields += [
        ("WARC-Block-Digest", f"sha1:{base64.b32encode(hashed.digest()).decode()}"),
        ("Content-Type", "application/http;msgtype=response"),
        ("Content-Length", str(size)),
    ]
    yield _head(revisit.version, fields)
    yield from _block(files, revisit, original)
    yield b"\r\n\r\n"


def note_of(at: int, warcinfo_id: str, lines: Iterable[tuple[str, str]]) -> Iterator[bytes]:
    """A record that tells what was done to its file. ``at``: microseconds since the epoch."""
    block = "".join(f"{name}: {' '.join(value.split())}\r\n" for name, value in lines).encode()
    digest = digest_of(block)
    identity = uuid.uuid5(_NAMESPACE, f"{warcinfo_id}\n{at}\n{digest}")
    fields = [
        ("WARC-Type", "metadata"),
        ("WARC-Record-ID", f"<urn:uuid:{identity}>"),
        ("WARC-Date", written_date(at)),
        ("WARC-Warcinfo-ID", warcinfo_id),
        ("WARC-Block-Digest", f"sha1:{digest}"),
        ("Content-Type", "application/warc-fields"),
        ("Content-Length", str(len(block))),
    ]
    yield _head("1.1", fields)
    yield block
    yield b"\r\n\r\n"


def _head(version: str, fields: Iterable[tuple[str, str]]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"WARC/{version}\r\n{lines}\r\n".encode("utf-8", "surrogateescape")


def _block(files: Files, revisit: Revisit, original: Original) -> Iterator[bytes]:
    """The head of the revisit, the payload of its original; or all of that, where the revisit has no head of its own,
    or the payload lies there in its chunks."""
    with files.opened(original.file, original.offset) as stream:
        record = _first(files, original, records_of(stream, original.file, original.offset))
        if not is_http(record):
            if revisit.block:
                yield revisit.block
            yield from block_of(record)
            return
        head, payload = read_message(record)
        is_own = revisit.block and not (revisit.field("warc-profile") or "").rstrip("/").endswith(_NOT_MODIFIED)
        yield revisit.block if is_own and not head.is_chunked else head.raw
        yield from payload


def _original_cut(files: Files, original: Original) -> str | None:
    with files.opened(original.file, original.offset) as stream:
        record = _first(files, original, records_of(stream, original.file, original.offset))
        return record.field("warc-truncated")


def _first(files: Files, original: Original, records: Iterator[Record]) -> Record:
    record = next(records, None)
    if record is None:
        raise DamagedError(f"{files.address}: {original.file} ends before offset {original.offset:,}: it was longer")
    return record
