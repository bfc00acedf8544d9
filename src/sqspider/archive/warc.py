"""Records of WARC/1.1, as bytes: what one exchange becomes in a file. No I/O lives here.

    warcinfo    first in each file: who wrote it
    response    what was answered; or
    revisit     that it was answered again: the same payload, or a 304
    request     what was asked, without what is secret
    metadata    why it was asked, and what has no place in the others

Those of one capture have one date. Heads are written byte for byte, but for framing: the payload stands without its
transfer coding, so ``Transfer-Encoding``, and a length that is not its own, are renamed; otherwise no reader finds the
payload to its digest. https://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple
from urllib.parse import quote

from sqspider.archive.dates import microseconds, written_date
from sqspider.archive.suites import iana_name_of
from sqspider.capture import Capture, Hop, redacted_head
from sqspider.record import CapturePlace
from sqspider.transport import Exchange
from sqspider.version import VERSION

IDENTICAL: Final = "http://netpreserve.org/warc/1.1/revisit/identical-payload-digest"
NOT_MODIFIED: Final = "http://netpreserve.org/warc/1.1/revisit/server-not-modified"
CONFORMS_TO: Final = "http://iipc.github.io/warc-specifications/specifications/warc-format/warc-1.1/"
RENAMED: Final = b"X-Crawler-"  # before the name of a field of the framing that is gone
_NAMESPACE: Final = bytes.fromhex("9c3bd6e80d5b5f1c8a355b8a1a1f7b10")  # of our record ids
_BASE32: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567".ljust(256)  # RFC 4648 section 6
_HALVES: Final = (
    tuple(  # of 160 bits, then of the halves, down to 5 bits in each byte: their masks, and how far they part
        (
            sum((1 << bits) - 1 << at for at in range(0, 256, 16 * bits // 5)),
            sum((1 << bits) - 1 << at + bits for at in range(0, 256, 16 * bits // 5)),
            8 * bits // 5 - bits,
        )
        for bits in (80, 40, 20, 10, 5)
    )
)
_FIELDS: Final = "application/warc-fields"
_UNFIT: Final = re.compile(r"[^\x21-\x7e]")  # in a URI of a named field
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f]+")
_MAX_HOPS: Final = 50  # letters, as Heritrix writes them; what is before is a number
_FRAMING: Final = re.compile(rb"[ \t]*(?:transfer-encoding|(content-length))[ \t]*:(.*)", re.IGNORECASE | re.DOTALL)
_FRAMING_BEGINS: Final = frozenset((b"c", b"C", b"t", b"T", b" ", b"\t"))  # what else begins a line is none of it
_NEW_PROTOCOLS: Final = {"HTTP/2": "h2", "HTTP/3": "h3"}  # by the names that ALPN has for them
_OLD_TLS: Final = {"TLSv1": "tls/1.0"}


class Origin(NamedTuple):
    """Who writes a file."""

    hostname: str
    operator: str | None = None  # whom to write to
    user_agent: str | None = None
    robots: str = "obey"  # where a capture's metadata does not say otherwise


class Answer(NamedTuple):
    """What is written of a capture."""

    capture: Capture
    date: int  # microseconds since the epoch
    payload: bytes  # as much of it as is kept
    digest: str  # of that: :func:`digest_of`
    cut: str | None  # why it is not all, in the words of WARC-Truncated
    original: CapturePlace | None = None  # whose payload it is: then it is a revisit

    @property
    def is_revisit(self) -> bool:
        return self.original is not None


def digest_of(data: bytes) -> str:
    """SHA-1 in base32: what others join captures by."""
    return _base32(hashlib.sha1(data, usedforsecurity=False).digest())


def record_id(kind: str, url: str, date: int) -> str:
    """Of a record; that of a capture follows from its place, for a process writes no two captures with one date: of a
    revisit, too, which may become a full response (``forget``), to which others refer then.

    A name-based UUID (RFC 9562 section 5.5), as ``uuid.uuid5`` makes them at four times the cost.
    """
    name = " ".join((kind, _uri(url), str(date))).encode("ascii")
    number = bytearray(hashlib.sha1(_NAMESPACE + name, usedforsecurity=False).digest()[:16])
    number[6] = number[6] & 0x0F | 0x50
    number[8] = number[8] & 0x3F | 0x80
    digits = number.hex()
    return f"<urn:uuid:{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}>"


def warcinfo(file: str, date: int, origin: Origin) -> tuple[str, bytes]:
    """The first record of a file, and its id."""
    fields = [
        ("software", f"sqspider/{VERSION}"),
        ("format", "WARC File Format 1.1"),
        ("conformsTo", CONFORMS_TO),
        ("hostname", origin.hostname),
        ("robots", origin.robots),
    ]
    if origin.operator:
        fields.append(("operator", origin.operator))
    if origin.user_agent:
        fields.append(("http-header-user-agent", origin.user_agent))
    identity = record_id("warcinfo", file, date)
    head = f"{_start('warcinfo', identity, written_date(date))}WARC-Filename: {_uri(file)}\r\n"
    return identity, _record(head, _FIELDS, [_block(fields)])


def records_of(answer: Answer, warcinfo_id: str) -> list[bytes]:
    """The records of a capture: what was answered first."""
    capture, original = answer.capture, answer.original
    exchange = capture.fetched.exchange
    assert exchange is not None  # or nothing was answered
    url = _uri(capture.url)
    date = written_date(answer.date)
    kind = "response" if original is None else "revisit"
    main = record_id("response", capture.url, answer.date)
    network = _network(exchange.address, exchange.protocol, exchange.tls)
    common = f"WARC-Warcinfo-ID: {warcinfo_id}\r\nWARC-Target-URI: {url}\r\n"
    head = f"{_start(kind, main, date)}{common}{network}"
    head += f"WARC-Payload-Digest: sha1:{answer.digest}\r\n"
    is_unchanged = original is not None and capture.fetched.is_unchanged
    if original is not None:
        head += _referring(original, capture.url, is_unchanged=is_unchanged)
    elif answer.cut is not None:
        head += f"WARC-Truncated: {answer.cut}\r\n"
    block = [] if is_unchanged else [head_of(exchange.head, len(answer.payload))]
    if original is None:
        block.append(answer.payload)
    records = [_record(head, "application/http;msgtype=response", block)]
    concurrent = f"WARC-Concurrent-To: {main}\r\n"
    asked, redacted = redacted_head(exchange.request_head, capture.fetched.secret_lines)
    if asked:
        head = f"{_start('request', record_id('request', capture.url, answer.date), date)}{common}{network}{concurrent}"
        records.append(_record(head, "application/http;msgtype=request", [asked]))
    head = f"{_start('metadata', record_id('metadata', capture.url, answer.date), date)}{common}{concurrent}"
    records.append(_record(head, _FIELDS, [_block(_metadata(capture, exchange, redacted, is_unchanged=is_unchanged))]))
    return records


def head_of(lines: Sequence[bytes], size: int) -> bytes:
    """The head of an answer, for a payload of this size that stands without transfer coding.

    Nothing else is changed; but HTTP/2 has no status line, and the one that stands for it says HTTP/1.1.
    """
    first = lines[0]
    if first.startswith((b"HTTP/2 ", b"HTTP/3 ")):
        first = b"HTTP/1.1" + first[len(b"HTTP/2") :]
    framing = [
        (at, found)
        for at, line in enumerate(lines)
        if line[:1] in _FRAMING_BEGINS and (found := _FRAMING.match(line)) is not None
    ]
    if all(_is_length(found, size) for _, found in framing):
        return b"".join((first, *lines[1:]))
    changed = [first, *lines[1:]]
    for at, found in framing:
        changed[at] = RENAMED + found[0].lstrip()
    changed.insert(len(changed) - 1, b"Content-Length: %d\r\n" % size)
    return b"".join(changed)


def _is_length(found: re.Match[bytes], size: int) -> bool:
    """Whether a line of the framing says that the payload is of this size, and nothing else."""
    return found[1] is not None and {said.strip() for said in found[2].split(b",")} == {b"%d" % size}


@functools.lru_cache(256)  # most pages of a host come by the same way
def _network(address: str, protocol: str, tls: str) -> str:
    """By which way they spoke, as the adopted extension has it: one field a protocol."""
    fields = ""
    if address:
        fields += f"WARC-IP-Address: {_uri(address)}\r\n"
    version, _, rest = tls.partition(" / ")
    if protocol:
        fields += f"WARC-Protocol: {_uri(_NEW_PROTOCOLS.get(protocol) or protocol.lower())}\r\n"
    if version.startswith("TLSv"):
        fields += f"WARC-Protocol: {_uri(_OLD_TLS.get(version) or version.replace('TLSv', 'tls/'))}\r\n"
        suite = iana_name_of(rest.partition(" / ")[0].strip())
        if suite is not None:
            fields += f"WARC-Cipher-Suite: {_uri(suite)}\r\n"
    return fields


def _referring(original: CapturePlace, url: str, *, is_unchanged: bool) -> str:
    """To a capture whose payload was the same (section 6.7), in all the ways that readers look for it."""
    of = original.url or url
    date = microseconds(original.at)
    fields = (
        f"WARC-Profile: {NOT_MODIFIED if is_unchanged else IDENTICAL}\r\n"
        f"WARC-Refers-To: {record_id('response', of, date)}\r\n"
        f"WARC-Refers-To-Target-URI: {_uri(of)}\r\n"
        f"WARC-Refers-To-Date: {written_date(date)}\r\n"
    )
    return fields if is_unchanged else f"{fields}WARC-Truncated: length\r\n"  # the body is left out


def _metadata(
    capture: Capture, exchange: Exchange, redacted: Sequence[str], *, is_unchanged: bool
) -> Iterable[tuple[str, str]]:
    """By Heritrix's names where it has one."""
    if capture.via is not None:
        yield "via", capture.via
    yield "hopsFromSeed", _hops(capture)
    yield "fetchTimeMs", str(round(capture.fetched.elapsed_seconds * 1000))
    yield "crawl", capture.crawl
    yield from capture.facts
    if not capture.settings.obey_robots:
        yield "robots", "ignore"
    if redacted:
        yield "redacted", ", ".join(redacted)
    for line in exchange.trailers:
        yield "trailer", line.decode("latin-1")
    if is_unchanged:  # with its head in the revisit, others replay an empty answer
        for line in exchange.head[:-1]:
            yield "head", line.decode("latin-1")


def _hops(capture: Capture) -> str:
    """The way from a seed, a letter each: the links, and then what it is itself."""
    if capture.hop is Hop.SEED:
        return ""
    links = max(capture.depth - 1, 0) if capture.hop is Hop.LINK else capture.depth
    left_out = links - _MAX_HOPS
    way = f"{left_out}+{'L' * _MAX_HOPS}" if left_out > 0 else "L" * links
    return way + capture.hop + Hop.REDIRECT * capture.redirects


def _start(kind: str, identity: str, date: str) -> str:
    return f"WARC/1.1\r\nWARC-Type: {kind}\r\nWARC-Record-ID: {identity}\r\nWARC-Date: {date}\r\n"


def _record(head: str, content_type: str, block: Sequence[bytes]) -> bytes:
    hashed = hashlib.sha1(usedforsecurity=False)
    for piece in block:
        hashed.update(piece)
    digest = _base32(hashed.digest())
    size = sum(map(len, block))
    head += f"WARC-Block-Digest: sha1:{digest}\r\nContent-Type: {content_type}\r\nContent-Length: {size}\r\n\r\n"
    return b"".join((head.encode("ascii"), *block, b"\r\n\r\n"))


def _block(fields: Iterable[tuple[str, str]]) -> bytes:
    """Of named fields; what would tear a line is a blank."""
    lines = []
    for name, value in fields:
        if _CONTROLS.search(f"{name}{value}") is not None:
            name, value = _CONTROLS.sub("", name), _CONTROLS.sub(" ", value)
        lines.append(f"{name}: {value.strip()}\r\n")
    return "".join(lines).encode("utf-8", "replace")


def _uri(text: str) -> str:
    """A URI as a field may have it: what no URI has is percent-encoded, so nothing ever ends its line."""
    return text if _UNFIT.search(text) is None else _UNFIT.sub(_quoted, text)


def _quoted(found: re.Match[str]) -> str:
    return quote(found[0], safe="", errors="replace")


def _base32(digest: bytes) -> str:
    """Of twenty bytes. The standard library's takes nearly three times as long, and a page has four of them."""
    bits = int.from_bytes(digest, "big")
    for low, high, shift in _HALVES:
        bits = bits & low | (bits & high) << shift
    return bits.to_bytes(32, "big").translate(_BASE32).decode("ascii")
