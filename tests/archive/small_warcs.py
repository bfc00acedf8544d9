"""Small WARC files for tests of what is done to them: written here, not by what is tested."""

from __future__ import annotations

import base64
import gzip
import hashlib
import re
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from sqspider.record import CapturePlace

IDENTICAL = "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest"
NOT_MODIFIED = "http://netpreserve.org/warc/1.1/revisit/server-not-modified"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC).timestamp()

Pack = Callable[[bytes], bytes]


def sha1(data: bytes) -> str:
    return base64.b32encode(hashlib.sha1(data).digest()).decode()


def date_of(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def identity_of(*what: object) -> str:
    return f"<urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, repr(what))}>"


def record(kind: str, at: float, block: bytes, fields: dict[str, str]) -> bytes:
    lines = [f"WARC-Type: {kind}", f"WARC-Date: {date_of(at)}", *(f"{name}: {value}" for name, value in fields.items())]
    lines += [f"WARC-Block-Digest: sha1:{sha1(block)}", f"Content-Length: {len(block)}"]
    return "\r\n".join(["WARC/1.1", *lines, "", ""]).encode() + block + b"\r\n\r\n"


@dataclass
class Warc:
    """A file that grows by captures; where each lies is known."""

    name: str
    pack: Pack = gzip.compress
    content: bytes = b""
    places: list[CapturePlace] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.add(record("warcinfo", NOON, b"software: test\r\n", {
            "WARC-Record-ID": identity_of("warcinfo", self.name), "WARC-Filename": self.name,
            "Content-Type": "application/warc-fields",
        }))  # fmt: skip

    def add(self, data: bytes) -> tuple[int, int]:
        packed = self.pack(data)
        at = len(self.content)
        self.content += packed
        return at, len(packed)

    def response(
        self, url: str, body: bytes, at: float = NOON, *, status: str = "200 OK",
        kind: str = "text/html", headers: str = "", truncated: str = "",
    ) -> CapturePlace:  # fmt: skip
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode()
        fields = {"Content-Type": "application/http;msgtype=response"}
        if truncated:
            fields["WARC-Truncated"] = truncated
        return self._capture("response", url, at, head + body, sha1(body), fields)

    def revisit(
        self, url: str, original: CapturePlace, at: float, *, of: str | None = None, unchanged: bool = False
    ) -> CapturePlace:
        head = b"" if unchanged else f"HTTP/1.1 200 OK\r\nX-At: {at}\r\nContent-Type: text/html\r\n\r\n".encode()
        refers = {
            "WARC-Profile": NOT_MODIFIED if unchanged else IDENTICAL,
            "WARC-Refers-To": identity_of("response", of or url, original.at),
            "WARC-Refers-To-Target-URI": of or url,
            "WARC-Refers-To-Date": date_of(original.at),
        }
        if not unchanged:
            refers |= {"WARC-Truncated": "length", "Content-Type": "application/http;msgtype=response"}
        place = self._capture("revisit", url, at, head, original.digest, refers)
        payload = CapturePlace(original.file, original.offset, original.length, original.digest, original.at, of or "")
        self.places[-1] = msgspec.structs.replace(place, payload=payload)
        return self.places[-1]

    def _capture(
        self, kind: str, url: str, at: float, block: bytes, digest: str, fields: dict[str, str]
    ) -> CapturePlace:
        identity = identity_of(kind, url, at)
        common = {"WARC-Target-URI": url, "WARC-Warcinfo-ID": identity_of("warcinfo", self.name)}
        own = {"WARC-Record-ID": identity, "WARC-Payload-Digest": f"sha1:{digest}"}
        offset, length = self.add(record(kind, at, block, {**common, **own, **fields}))
        for side, text in (("request", f"GET {url} HTTP/1.1\r\n\r\n"), ("metadata", "fetchTimeMs: 7\r\n")):
            type_of = "application/http;msgtype=request" if side == "request" else "application/warc-fields"
            self.add(record(side, at, text.encode(), {
                **common, "WARC-Record-ID": identity_of(side, url, at), "WARC-Concurrent-To": identity,
                "Content-Type": type_of,
            }))  # fmt: skip
        self.places.append(CapturePlace(self.name, offset, length, digest, at))
        return self.places[-1]

    def write(self, folder: Path, *, is_open: bool = False) -> None:
        (folder / self.name).parent.mkdir(parents=True, exist_ok=True)
        (folder / (self.name + ".open" * is_open)).write_bytes(self.content)


def unpacked(data: bytes) -> Iterator[tuple[int, bytes]]:
    """The members of a gzip file, each with its offset: by zlib alone."""
    at = 0
    while at < len(data):
        unpacker = zlib.decompressobj(31)
        content = unpacker.decompress(data[at:])
        assert unpacker.eof, f"a torn member at {at}"
        yield at, content
        at = len(data) - len(unpacker.unused_data)


def records_in(folder: Path) -> list[tuple[str, int, bytes]]:
    """All records of all packed files: file, offset, content."""
    found = []
    for path in sorted(folder.rglob("*.warc.gz")):
        found += [(str(path.relative_to(folder)), at, content) for at, content in unpacked(path.read_bytes())]
    return found


def kinds_in(folder: Path) -> list[tuple[str, str]]:
    """Type and URL of all records, sorted; without what says which file they are in."""
    found = []
    for _, _, content in records_in(folder):
        fields = fields_of(content)
        if fields["warc-type"] != "warcinfo":
            found.append((fields["warc-type"], fields.get("warc-target-uri", "")))
    return sorted(found)


def fields_of(content: bytes) -> dict[str, str]:
    head = content.partition(b"\r\n\r\n")[0].decode()
    return {name.lower(): value for name, value in re.findall(r"^([A-Za-z-]+): ?(.*?)\r?$", head, re.MULTILINE)}


def block_of(content: bytes) -> bytes:
    return content.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n\r\n")


def record_at(folder: Path, place: CapturePlace) -> bytes:
    """What lies at a place: exactly one member of its length."""
    data = (folder / place.file).read_bytes()[place.offset : place.offset + place.length]
    (_, content), *more = unpacked(data)
    assert not more
    return content
