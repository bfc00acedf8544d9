"""What the standard asks of the fields of one record: WARC 1.1 (ISO 28500:2017) with its community's notes.

What it only recommends is no rule here, nor what an extension may add: records of other writers that are right must
pass. What holds between records is in ``verify_relations``.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from sqspider.archive.dates import seconds_of
from sqspider.archive.digests import is_digest
from sqspider.archive.records import SIZE, Record, without_brackets

KINDS: Final = frozenset(
    ("warcinfo", "response", "resource", "request", "metadata", "revisit", "conversion", "continuation")
)
IDENTICAL_PAYLOAD: Final = re.compile(r"<?https?://netpreserve\.org/warc/1\.[01]/revisit/identical-payload-digest/?>?")
SERVER_NOT_MODIFIED: Final = re.compile(r"<?https?://netpreserve\.org/warc/1\.[01]/revisit/server-not-modified/?>?")
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_MEDIA_TYPE: Final = re.compile(
    rf'{_TOKEN}/{_TOKEN}(?:[ \t]*;[ \t]*(?:{_TOKEN}=(?:{_TOKEN}|"(?:[^"\\]|\\.)*"))?)*[ \t]*'
)
_URI: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^\s<>]*")
_IN_BRACKETS: Final = re.compile(r"<[A-Za-z][A-Za-z0-9+.-]*:[^\s<>]+>")
_UUID_SCHEME: Final = "urn:uuid:"
_UUID: Final = re.compile(r"<urn:uuid:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}>", re.IGNORECASE)
_REASON: Final = re.compile(_TOKEN)


def _is_uri(value: str) -> bool:
    return bool(_URI.fullmatch(without_brackets(value)))


def _is_identity(value: str) -> bool:
    """A URI that is what its scheme says (section 5.2): most are UUIDs."""
    if not _IN_BRACKETS.fullmatch(value):
        return False
    return not value[1:].lower().startswith(_UUID_SCHEME) or bool(_UUID.fullmatch(value))


def _is_date(value: str) -> bool:
    return seconds_of(value) is not None


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True


class _Rule(NamedTuple):
    """What may stand in a field, and where."""

    is_right: Callable[[str], object]
    what: str  # it must be
    needed_on: frozenset[str] = frozenset()  # kinds of records
    not_on: frozenset[str] = frozenset()
    may_repeat: bool = False


def _but(*kinds: str) -> frozenset[str]:
    return KINDS - frozenset(kinds)


_NO_CAPTURE: Final = frozenset(("warcinfo", "conversion", "continuation"))
_RULES: Final = {
    "warc-type": _Rule(_REASON.fullmatch, "a word", KINDS),
    "warc-record-id": _Rule(_is_identity, "a URI in <>", KINDS),
    "warc-date": _Rule(_is_date, "a time in UTC, as 2026-01-31T12:00:00Z", KINDS),
    "content-length": _Rule(SIZE.fullmatch, "a number of bytes", KINDS),
    "content-type": _Rule(_MEDIA_TYPE.fullmatch, "a media type"),
    "warc-concurrent-to": _Rule(_is_identity, "a URI in <>", not_on=_NO_CAPTURE, may_repeat=True),
    "warc-block-digest": _Rule(is_digest, "an algorithm and a digest, as sha1:…"),
    "warc-payload-digest": _Rule(is_digest, "an algorithm and a digest, as sha1:…", not_on=frozenset(("warcinfo",))),
    "warc-ip-address": _Rule(_is_address, "an IP address", not_on=_NO_CAPTURE),
    "warc-refers-to": _Rule(_is_identity, "a URI in <>", not_on=_but("metadata", "revisit", "conversion")),
    "warc-refers-to-target-uri": _Rule(_is_uri, "a URI", not_on=_but("revisit")),
    "warc-refers-to-date": _Rule(_is_date, "a time in UTC", not_on=_but("revisit")),
    "warc-target-uri": _Rule(_is_uri, "a URI", _but("warcinfo", "metadata"), frozenset(("warcinfo",))),
    "warc-truncated": _Rule(_REASON.fullmatch, "a word"),
    "warc-warcinfo-id": _Rule(_is_identity, "a URI in <>", not_on=frozenset(("warcinfo",))),
    "warc-filename": _Rule(bool, "a name", not_on=_but("warcinfo")),
    "warc-profile": _Rule(_is_uri, "a URI", needed_on=frozenset(("revisit",))),
    "warc-identified-payload-type": _Rule(_MEDIA_TYPE.fullmatch, "a media type"),
    "warc-segment-number": _Rule(SIZE.fullmatch, "a number", needed_on=frozenset(("continuation",))),
    "warc-segment-origin-id": _Rule(
        _is_identity, "a URI in <>", needed_on=frozenset(("continuation",)), not_on=_but("continuation")
    ),
    "warc-segment-total-length": _Rule(SIZE.fullmatch, "a number of bytes", not_on=_but("continuation")),
}
_NAMES: Final = {
    name: "-".join(
        part.upper() if part in ("warc", "id", "ip", "uri") else part.capitalize() for part in name.split("-")
    )
    for name in _RULES
}


def faults_of(record: Record) -> Iterator[str]:
    """What is wrong with a record's fields, a sentence each."""
    yield from record.flaws
    kind = record.kind
    for name, rule in _RULES.items():
        found = record.all(name)
        if not found and (kind in rule.needed_on or (rule.needed_on == KINDS)):
            yield f"it has no {_NAMES[name]}"
        if found and kind in rule.not_on:
            yield f"a {kind} record may have no {_NAMES[name]}"
        if len(found) > 1 and not rule.may_repeat:
            yield f"it has {len(found)} times {_NAMES[name]}"
        yield from (
            f"its {_NAMES[name]} is not {rule.what}: {value[:80]!r}" for value in found if not rule.is_right(value)
        )
    yield from _faults_of_kind(record, kind)


def _faults_of_kind(record: Record, kind: str) -> Iterator[str]:
    number = record.field("warc-segment-number")
    if number is not None and number.isdecimal() and (int(number) == 1) == (kind == "continuation"):
        yield f"a {kind} record cannot be segment {number}"
    if kind == "revisit":
        profile = record.field("warc-profile") or ""
        if IDENTICAL_PAYLOAD.fullmatch(profile) and not record.field("warc-payload-digest"):
            yield "a revisit of an identical payload needs its WARC-Payload-Digest"


def own_faults_of(record: Record) -> Iterator[str]:
    """What is wrong with a record of our own, beyond the standard: what we always write."""
    needed = ["warc-block-digest"]
    if record.kind != "warcinfo":
        needed.append("warc-warcinfo-id")
    if record.kind in ("response", "revisit"):
        needed.append("warc-payload-digest")
    if record.kind == "request" or (record.kind == "metadata" and record.url):  # else it is a note on its file
        needed.append("warc-concurrent-to")
    if record.kind == "revisit":
        needed += ["warc-refers-to", "warc-refers-to-target-uri", "warc-refers-to-date"]
        if record.size:
            needed.append("warc-truncated")
    yield from (f"it has no {_NAMES[name]}" for name in needed if record.field(name) is None)
