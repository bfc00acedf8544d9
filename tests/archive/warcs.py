"""WARC files of other writers, made by hand: records as the standard has them, and ways to spoil them."""

from __future__ import annotations

import base64
import gzip
import hashlib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

DATE: Final = "2026-11-23T14:19:59.545220Z"
LATER: Final = "2026-11-24T14:19:59Z"
HELLO: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello"
IDENTICAL: Final = "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest"
NOT_MODIFIED: Final = "http://netpreserve.org/warc/1.1/revisit/server-not-modified"
ANSWER: Final = "application/http; msgtype=response"
QUESTION: Final = "application/http; msgtype=request"


def sha1(data: bytes) -> str:
    return "sha1:" + base64.b32encode(hashlib.sha1(data, usedforsecurity=False).digest()).decode()


def identity(name: str) -> str:
    return f"<{uuid.uuid5(uuid.NAMESPACE_URL, name).urn}>"


@dataclass
class Made:
    """A record that can be changed before it is written."""

    kind: str
    block: bytes = b""
    fields: list[tuple[str, str]] = field(default_factory=list)
    version: str = "WARC/1.1"
    separator: bytes = b"\r\n\r\n"
    line_end: bytes = b"\r\n"

    def set(self, name: str, *values: str) -> Made:
        """Have these values of a field, in the place of the first one; without any: none."""
        at = next((at for at, (key, _) in enumerate(self.fields) if key == name), len(self.fields))
        kept = [pair for pair in self.fields if pair[0] != name]
        self.fields = [*kept[:at], *((name, value) for value in values), *kept[at:]]
        return self

    def get(self, name: str) -> str:
        return next(value for key, value in self.fields if key == name)

    def with_block(self, block: bytes) -> Made:
        """Another block, and what is said of it made right."""
        self.block = block
        self.set("Content-Length", str(len(block)))
        self.set("WARC-Block-Digest", sha1(block))
        if self.kind == "response":
            self.set("WARC-Payload-Digest", sha1(block.partition(b"\r\n\r\n")[2]))
        return self

    def written(self) -> bytes:
        lines = [
            self.version.encode(),
            *(f"{name}: {value}".encode("utf-8", "surrogateescape") for name, value in self.fields),
        ]
        return self.line_end.join([*lines, b"", b""]) + self.block + self.separator


def made(kind: str, name: str, block: bytes, *more: tuple[str, str], date: str = DATE, content_type: str = "") -> Made:
    fields = [
        ("WARC-Type", kind),
        ("WARC-Record-ID", identity(name)),
        ("WARC-Date", date),
        *more,
        ("WARC-Block-Digest", sha1(block)),
        ("Content-Type", content_type or "application/octet-stream"),
        ("Content-Length", str(len(block))),
    ]
    return Made(kind, block, fields)


def warcinfo(software: str = "other/1.0") -> Made:
    block = f"software: {software}\r\nformat: WARC File Format 1.1\r\n".encode()
    return made("warcinfo", "info", block, ("WARC-Filename", "made.warc.gz"), content_type="application/warc-fields")


def response(url: str = "http://example.com/", message: bytes = HELLO, *, date: str = DATE) -> Made:
    payload = message.partition(b"\r\n\r\n")[2]
    fields = (("WARC-Target-URI", url), ("WARC-IP-Address", "192.0.2.1"), ("WARC-Payload-Digest", sha1(payload)))
    return made("response", f"response {url} {date}", message, *fields, date=date, content_type=ANSWER)


def request(of: Made) -> Made:
    block = b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
    url = of.get("WARC-Target-URI")
    more = (("WARC-Target-URI", url), ("WARC-Concurrent-To", of.get("WARC-Record-ID")))
    name = f"request {of.get('WARC-Record-ID')}"
    return made("request", name, block, *more, date=of.get("WARC-Date"), content_type=QUESTION)


def metadata(of: Made) -> Made:
    block = b"via: http://example.com/before\r\nhopsFromSeed: L\r\n"
    url = of.get("WARC-Target-URI")
    more = (("WARC-Target-URI", url), ("WARC-Concurrent-To", of.get("WARC-Record-ID")))
    name = f"metadata {of.get('WARC-Record-ID')}"
    return made("metadata", name, block, *more, date=of.get("WARC-Date"), content_type="application/warc-fields")


def revisit(of: Made, url: str = "http://example.com/again", *, date: str = LATER) -> Made:
    head = of.block.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    more = (
        ("WARC-Target-URI", url),
        ("WARC-Profile", IDENTICAL),
        ("WARC-Refers-To", of.get("WARC-Record-ID")),
        ("WARC-Refers-To-Target-URI", of.get("WARC-Target-URI")),
        ("WARC-Refers-To-Date", of.get("WARC-Date")),
        ("WARC-Truncated", "length"),
        ("WARC-Payload-Digest", of.get("WARC-Payload-Digest")),
    )
    return made("revisit", f"revisit {url} {date}", head, *more, date=date, content_type=ANSWER)


def resource(url: str = "http://example.com/file", block: bytes = b"as it is") -> Made:
    return made("resource", f"resource {url}", block, ("WARC-Target-URI", url), content_type="text/plain")


def good() -> dict[str, Made]:
    """An archive with a record of each kind that is common, by name."""
    answer = response()
    return {
        "warcinfo": warcinfo(),
        "response": answer,
        "request": request(answer),
        "metadata": metadata(answer),
        "revisit": revisit(answer),
        "resource": resource(),
    }


def plain(records: Iterable[Made]) -> bytes:
    return b"".join(record.written() for record in records)


def packed(records: Iterable[Made]) -> bytes:
    return b"".join(gzip.compress(record.written(), mtime=0) for record in records)
