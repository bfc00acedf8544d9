"""Ways in which a WARC file can be wrong, and ways in which it only looks so: by name, what makes it of a good one."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Final

from tests.archive.warcs import HELLO, IDENTICAL, NOT_MODIFIED, Made, identity, packed, plain, response, sha1

Records = dict[str, Made]
Change = Callable[[Records], object]
Spoil = Callable[[bytes], bytes]

WRONG_SHA1: Final = sha1(b"something else")
CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"


def with_field(record: str, name: str, *values: str) -> Change:
    return lambda records: records[record].set(name, *values)


def with_block(record: str, block: bytes) -> Change:
    return lambda records: records[record].with_block(block)


def _without(record: str, name: str) -> Change:
    return with_field(record, name)


def _twice(record: str, name: str) -> Change:
    return lambda records: records[record].set(name, *([records[record].get(name)] * 2))


def _raw_line(records: Records) -> None:
    records["resource"].fields.insert(3, ("no field at all\r\nX", "y"))


def _changed_block(records: Records) -> None:
    records["response"].block = HELLO.replace(b"hello", b"hullo")


def _same_identity(records: Records) -> None:
    records["resource"].set("WARC-Record-ID", records["request"].get("WARC-Record-ID"))


def _chunked(digest_of: bytes) -> Change:
    def change(records: Records) -> None:
        records["response"].with_block(CHUNKED).set("WARC-Payload-Digest", sha1(digest_of))
        records["revisit"].set("WARC-Payload-Digest", sha1(digest_of))

    return change


def _segment(number: str, *, origin: bool = True) -> Change:
    def change(records: Records) -> None:
        first = records["resource"].set("WARC-Segment-Number", "1")
        more = response("http://example.com/file")
        more.kind = "continuation"
        more.fields = [
            ("WARC-Type", "continuation"),
            ("WARC-Record-ID", identity("continuation")),
            ("WARC-Date", first.get("WARC-Date")),
            ("WARC-Target-URI", "http://example.com/file"),
            ("WARC-Segment-Number", number),
            ("WARC-Segment-Total-Length", "16"),
            ("Content-Length", "8"),
        ]
        if origin:
            more.fields.append(("WARC-Segment-Origin-ID", first.get("WARC-Record-ID")))
        more.block = b"and more"
        records["continuation"] = more

    return change


def _two_captures(records: Records) -> None:
    records["second"] = response("http://example.com/second")


def _of_another(records: Records, *left_out: str) -> None:
    records["revisit"].set("WARC-Payload-Digest", WRONG_SHA1)
    for name in left_out:
        records["revisit"].set(f"WARC-Refers-To{name}")


def _line_end(records: Records) -> None:
    records["resource"].line_end = b"\n"


def _version(version: str) -> Change:
    def change(records: Records) -> None:
        for record in records.values():
            record.version = version

    return change


def _separator(separator: bytes) -> Change:
    return lambda records: setattr(records["response"], "separator", separator)


FAULTY: Final[dict[str, Change]] = {
    "no type": _without("resource", "WARC-Type"),
    "no identity": _without("resource", "WARC-Record-ID"),
    "no date": _without("resource", "WARC-Date"),
    "no length": _without("resource", "Content-Length"),
    "no target": _without("response", "WARC-Target-URI"),
    "no target of a revisit": _without("revisit", "WARC-Target-URI"),
    "no profile of a revisit": _without("revisit", "WARC-Profile"),
    "no digest of an identical payload": _without("revisit", "WARC-Payload-Digest"),
    "an empty type": with_field("resource", "WARC-Type", ""),
    "an identity without brackets": with_field(
        "resource", "WARC-Record-ID", "urn:uuid:d44cac80-33eb-4201-a2fb-82fbace6feb3"
    ),
    "an identity that is no URI": with_field("resource", "WARC-Record-ID", "<d44cac80>"),
    "an identity that says that it is a UUID": with_field(
        "resource", "WARC-Record-ID", "<urn:uuid:d44cac80-33eb-4201>"
    ),
    "an identity that is no UTF-8": with_field("warcinfo", "WARC-Record-ID", "<urn:x:\udcff>"),
    "an identity with a blank": with_field("resource", "WARC-Record-ID", "<urn:uuid:d44cac80 33eb>"),
    "an identity of two records": _same_identity,
    "a date of fourteen digits": with_field("resource", "WARC-Date", "20261123141959"),
    "a date without a zone": with_field("resource", "WARC-Date", "2026-11-23T14:19:59"),
    "a date of another zone": with_field("resource", "WARC-Date", "2026-11-23T14:19:59+02:00"),
    "a date that never was": with_field("resource", "WARC-Date", "2026-02-30T14:19:59Z"),
    "a date with a blank": with_field("resource", "WARC-Date", "2026-11-23 14:19:59Z"),
    "a date of ten digits after the point": with_field("resource", "WARC-Date", "2026-11-23T14:19:59.0123456789Z"),
    "an HTTP date": with_field("resource", "WARC-Date", "Mon, 23 Nov 2026 14:19:59 GMT"),
    "a date that is not that of its capture": with_field("request", "WARC-Date", "2026-11-23T14:20:00Z"),
    "a length that is too small": with_field("response", "Content-Length", str(len(HELLO) - 3)),
    "a length that is too large": with_field("response", "Content-Length", str(len(HELLO) + 3)),
    "a length that is far too large": with_field("response", "Content-Length", "99999999"),
    "a length that is none": with_field("response", "Content-Length", "many"),
    "a negative length": with_field("response", "Content-Length", "-1"),
    "a length with a sign": with_field("resource", "Content-Length", "+8"),
    "two types": with_field("resource", "WARC-Type", "resource", "resource"),
    "two dates": _twice("resource", "WARC-Date"),
    "two identities": _twice("resource", "WARC-Record-ID"),
    "two targets": _twice("response", "WARC-Target-URI"),
    "two lengths": _twice("resource", "Content-Length"),
    "two digests": _twice("resource", "WARC-Block-Digest"),
    "a target with a blank": with_field("response", "WARC-Target-URI", "http://example.com/a b"),
    "a target that is no URI": with_field("response", "WARC-Target-URI", "/a"),
    "a target of a warcinfo": with_field("warcinfo", "WARC-Target-URI", "http://example.com/"),
    "a file name of a response": with_field("response", "WARC-Filename", "made.warc.gz"),
    "an address of a warcinfo": with_field("warcinfo", "WARC-IP-Address", "192.0.2.1"),
    "an address that is none": with_field("response", "WARC-IP-Address", "300.0.2.1"),
    "an address that is a name": with_field("response", "WARC-IP-Address", "example.com"),
    "a warcinfo of a warcinfo": with_field("warcinfo", "WARC-Warcinfo-ID", identity("info")),
    "a warcinfo that is a response": lambda records: records["request"].set(
        "WARC-Warcinfo-ID", records["response"].get("WARC-Record-ID")
    ),
    "what a response refers to": with_field("response", "WARC-Refers-To", identity("other")),
    "what a request refers to": with_field("request", "WARC-Refers-To", identity("other")),
    "the target that a response refers to": with_field("response", "WARC-Refers-To-Target-URI", "http://example.com/"),
    "the date that a resource refers to": with_field("resource", "WARC-Refers-To-Date", "2026-11-23T14:19:59Z"),
    "a date that it refers to and that is none": with_field("revisit", "WARC-Refers-To-Date", "yesterday"),
    "a warcinfo that is concurrent": with_field("warcinfo", "WARC-Concurrent-To", identity("other")),
    "what it is concurrent to without brackets": with_field("request", "WARC-Concurrent-To", "urn:uuid:1"),
    "a profile that is no URI": with_field("revisit", "WARC-Profile", "same"),
    "a block that was changed": _changed_block,
    "a block digest of something else": with_field("response", "WARC-Block-Digest", WRONG_SHA1),
    "a block digest of something else, of a warcinfo": with_field("warcinfo", "WARC-Block-Digest", WRONG_SHA1),
    "a block digest of something else, of a revisit": with_field("revisit", "WARC-Block-Digest", WRONG_SHA1),
    "a payload digest of something else": with_field("response", "WARC-Payload-Digest", WRONG_SHA1),
    "a payload digest of something else, of a resource": with_field("resource", "WARC-Payload-Digest", WRONG_SHA1),
    "a payload digest of something else, of a revisit": with_field("revisit", "WARC-Payload-Digest", WRONG_SHA1),
    "a revisit of a record of another payload": lambda records: _of_another(records, "-Target-URI", "-Date"),
    "a revisit of a URL and time of another payload": lambda records: _of_another(records, ""),
    "a payload digest of a warcinfo": with_field("warcinfo", "WARC-Payload-Digest", WRONG_SHA1),
    "a digest without its algorithm": with_field("resource", "WARC-Block-Digest", sha1(b"as it is")[5:]),
    "a digest that is too short": with_field("resource", "WARC-Block-Digest", sha1(b"as it is")[:-1]),
    "a digest that is no base32": with_field("resource", "WARC-Block-Digest", "sha1:" + "1" * 32),
    "a digest of chunks that were changed": _chunked(b"hullo"),
    "a content type that is none": with_field("resource", "Content-Type", "text"),
    "an empty content type": with_field("resource", "Content-Type", ""),
    "an empty reason for truncation": with_field("response", "WARC-Truncated", ""),
    "a body that is shorter than its head says": with_block("response", HELLO.replace(b"Length: 5", b"Length: 9")),
    "a number of a segment that is none": with_field("resource", "WARC-Segment-Number", "one"),
    "the total length of what is no continuation": with_field("resource", "WARC-Segment-Total-Length", "8"),
    "the origin of what is no continuation": with_field("resource", "WARC-Segment-Origin-ID", identity("other")),
    "a continuation that is the first": _segment("1"),
    "a continuation of nothing": _segment("2", origin=False),
    "a response that is the second segment of nothing": with_field("response", "WARC-Segment-Number", "one"),
    "a line that is no field": _raw_line,
    "a field whose name has a blank": with_field("resource", "X Y", "z"),
    "a field with a control character": with_field("resource", "X-Y", "a\x01b"),
    "a field that is no UTF-8": with_field("resource", "X-Y", "a\udcffb"),
    "lines that end in a line feed alone": _line_end,
    "a version that is not there": _version("WARC/2.0"),
    "no version at all": _version("HTTP/1.1"),
    "no separator": _separator(b""),
    "half a separator": _separator(b"\r\n"),
    "a separator of line feeds": _separator(b"\n\n"),
    "too long a separator": _separator(b"\r\n\r\n\r\n"),
}
"""What makes one record wrong."""

GOOD: Final[dict[str, Change]] = {
    "nothing": lambda _: None,
    "WARC/1.0": _version("WARC/1.0"),
    "no warcinfo": lambda records: records.pop("warcinfo"),
    "a warcinfo amid the file": lambda records: records.update(warcinfo=records.pop("warcinfo")),
    "an excerpt: the original lies elsewhere": lambda records: records.pop("response"),
    "no digests": lambda records: [
        records["response"].set(name) for name in ("WARC-Block-Digest", "WARC-Payload-Digest")
    ],
    "a digest in base16": with_field("resource", "WARC-Block-Digest", "sha1:CC59EB9C5F8B7E3E8B9CF8C1E0E0F3D8F0F0F0F0"),
    "a digest in small letters": lambda records: records["resource"].set(
        "WARC-Block-Digest", sha1(b"as it is").lower()
    ),
    "a label in capitals, with a hyphen": lambda records: records["resource"].set(
        "WARC-Block-Digest", sha1(b"as it is").replace("sha1", "SHA-1")
    ),
    "a digest by SHA-256": with_field("resource", "WARC-Block-Digest", "sha256:0"),
    "a digest of another algorithm": with_field("resource", "WARC-Block-Digest", "xxh3:0123456789abcdef"),
    "an identity of another scheme": with_field("resource", "WARC-Record-ID", "<http://example.com/records/1>"),
    "an identity in capitals": with_field("resource", "WARC-Record-ID", identity("resource").upper()),
    "a kind that is not known": lambda records: records["resource"].set("WARC-Type", "screenshot"),
    "a kind in capitals": with_field("response", "WARC-Type", "Response"),
    "fields in other letters": lambda records: setattr(
        records["resource"], "fields", [(name.upper(), value) for name, value in records["resource"].fields]
    ),
    "a field that is not known, twice": with_field("resource", "X-Other", "1", "2"),
    "two protocols": with_field("response", "WARC-Protocol", "h2", "tls/1.3"),
    "concurrent to two": with_field("response", "WARC-Concurrent-To", identity("a"), identity("b")),
    "a folded field": with_field("resource", "X-Other", "one\r\n  two"),
    "an empty field": with_field("resource", "X-Other", ""),
    "a field in UTF-8": with_field("resource", "X-Other", "süß"),
    "a target in brackets, as wget writes it": with_field("response", "WARC-Target-URI", "<http://example.com/>"),
    "a target with signs that browsers let pass": with_field(
        "response", "WARC-Target-URI", "http://example.com/?a|b^{c}[d]"
    ),
    "a target of another scheme": with_field("resource", "WARC-Target-URI", "urn:pageinfo:http://example.com/"),
    "no content type": _without("resource", "Content-Type"),
    "a content type with a blank before its parameter": with_field(
        "resource", "Content-Type", 'text/plain ; charset="utf-8"'
    ),
    "a date to the second": with_field("resource", "WARC-Date", "2026-11-23T14:19:59Z"),
    "a date to the minute": with_field("resource", "WARC-Date", "2026-11-23T14:19Z"),
    "a date to the day": with_field("resource", "WARC-Date", "2026-11-23"),
    "a date to the year": with_field("resource", "WARC-Date", "2026"),
    "a date to the nanosecond": with_field("resource", "WARC-Date", "2026-11-23T14:19:59.123456789Z"),
    "an IPv6 address": with_field("response", "WARC-IP-Address", "2001:db8::1"),
    "truncated for a reason of their own": with_field("response", "WARC-Truncated", "disk"),
    "truncated, and shorter than its head says": lambda records: (
        records["response"].with_block(HELLO.replace(b"Length: 5", b"Length: 9")).set("WARC-Truncated", "disconnect")
    ),
    "no body, as HEAD is answered": lambda records: (
        records["response"].with_block(HELLO.removesuffix(b"hello")),
        records.pop("revisit"),
    ),
    "what is no HTTP, said to be": with_block("response", b"ICY 200 OK\r\n\r\nhello"),
    "a revisit without a block": with_block("revisit", b""),
    "a revisit without WARC-Truncated": _without("revisit", "WARC-Truncated"),
    "a revisit of WARC/1.0": with_field("revisit", "WARC-Profile", IDENTICAL.replace("1.1", "1.0")),
    "a revisit of a profile of their own": lambda records: (
        records["revisit"].set("WARC-Profile", "http://example.com/own").set("WARC-Payload-Digest")
    ),
    "a revisit that was not modified": lambda records: (
        records["revisit"].set("WARC-Profile", NOT_MODIFIED).set("WARC-Payload-Digest")
    ),
    "a revisit that says not of what": lambda records: [
        records["revisit"].set(name) for name in ("WARC-Refers-To", "WARC-Refers-To-Target-URI", "WARC-Refers-To-Date")
    ],
    "chunks, and a digest without them": _chunked(b"hello"),
    "chunks, and a digest with them": _chunked(CHUNKED.partition(b"\r\n\r\n")[2]),
    "chunks that were taken away": lambda records: records["response"].with_block(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nhello"
    ),
    "a record in segments": _segment("2"),
    "metadata that speaks of a record": lambda records: (
        records["metadata"].set("WARC-Concurrent-To").set("WARC-Refers-To", records["response"].get("WARC-Record-ID"))
    ),
    "an empty resource": with_block("resource", b""),
    "two captures of one second": _two_captures,
}
"""What leaves an archive right. Digests that hang on others are set in ``archive_of``."""


def _cut(size: int) -> Spoil:
    return lambda data: data[:-size]


def _flip(data: bytes) -> bytes:
    at = len(data) // 2
    return data[:at] + bytes([data[at] ^ 0x20]) + data[at + 1 :]


SPOILED_PACKED: Final[dict[str, Spoil]] = {
    "cut by a byte": _cut(1),
    "cut amid its last member": _cut(60),
    "a bit that was turned": _flip,
    "packed as a whole": lambda data: gzip.compress(gzip.decompress(data)),
    "packed twice": lambda data: gzip.compress(data),
    "nothing": lambda _: b"",
    "zeros behind its end": lambda data: data + bytes(512),
    "rubbish behind its end": lambda data: data + b"<html>",
    "a record behind it that is not packed": lambda data: data + plain([response("http://example.com/z")]),
    "not packed at all": lambda data: gzip.decompress(data),
    "another file behind it": lambda data: data + gzip.compress(b"hello"),
    "the same once more": lambda data: data * 2,
    "its checksum changed": lambda data: data[:-8] + bytes([data[-8] ^ 1]) + data[-7:],
    "no WARC at all": lambda _: gzip.compress(b"<html></html>"),
}
"""What spoils a file that is packed."""

SPOILED_PLAIN: Final[dict[str, Spoil]] = {
    "cut by a byte": _cut(1),
    "cut amid its last record": _cut(60),
    "cut amid a head": lambda data: data[: data.rindex(b"WARC-Date")],
    "something before its beginning": lambda data: b"\xef\xbb\xbf" + data,
    "an empty line before its beginning": lambda data: b"\r\n" + data,
    "rubbish behind its end": lambda data: data + b"rubbish",
    "an empty line behind its end": lambda data: data + b"\r\n",
    "line feeds alone": lambda data: data.replace(b"\r\n", b"\n"),
    "no WARC at all": lambda _: b"<html></html>",
}
"""What spoils one that is not."""


def archive_of(records: Records, *, is_packed: bool) -> bytes:
    """A file of these records; digests that cannot be said beforehand are."""
    import hashlib

    for record in records.values():
        for at, (name, value) in enumerate(record.fields):
            if value.startswith("sha1:CC59"):
                record.fields[at] = (name, "sha1:" + hashlib.sha1(record.block, usedforsecurity=False).hexdigest())
            elif value == "sha256:0":
                record.fields[at] = (name, "sha256:" + hashlib.sha256(record.block).hexdigest())
    return (packed if is_packed else plain)(records.values())
