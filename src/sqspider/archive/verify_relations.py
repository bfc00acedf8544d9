"""What holds between the records of an archive, its index and a frontier.

Each side says what it knows, in lines that are sorted on disk; then what is said of one thing stands together. So ten
million captures are held against one another in constant memory. Three kinds of lines, by what they speak of: a
record's identity, a URL at a time, and a place.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterator, Sequence, Set
from itertools import groupby
from typing import Final, NamedTuple

from sqspider.archive.cdxj import Line, is_indexed, time_of
from sqspider.archive.dates import microseconds, seconds_of
from sqspider.archive.digests import same as same_digest
from sqspider.archive.digests import sha1_of
from sqspider.archive.records import Record, without_brackets
from sqspider.archive.sorting import Sorter
from sqspider.archive.verify_fields import IDENTICAL_PAYLOAD
from sqspider.record import CapturePlace

CAPTURES: Final = ("response", "revisit")
_NEAR: Final = 100  # records that are remembered for those that refer to them
_CONTROL: Final = re.compile(r"[\x00-\x1f]")
_REFERENCES: Final = {
    "warc-concurrent-to": "concurrent",
    "warc-refers-to": "refers",
    "warc-warcinfo-id": "warcinfo",
    "warc-segment-origin-id": "segment",
}


class Fault(NamedTuple):
    """Something that is not right."""

    what: str
    file: str = ""
    offset: int | None = None  # in the file
    url: str = ""

    def __str__(self) -> str:
        where = self.file if self.offset is None else f"{self.file}, offset {self.offset:,}"
        return ": ".join(filter(None, (where, self.url, self.what)))


class Tally:
    """What was counted, and is no fault."""

    def __init__(self) -> None:
        self.captures = 0  # answers, those of revisits among them
        self.named = 0  # of them, that a record of the frontier names, or one that it names refers to
        self.unnamed = 0  # of URLs that it knows: earlier visits, tries that were not the last, visits that never ended
        self.aside = 0  # of robots.txt and sitemaps, which have no record
        self.orphans = 0  # of URLs that it does not know
        self.elsewhere = 0  # records that others refer to, and that are not here
        self.not_indexed = 0  # captures that the index lacks
        self.gone = 0  # files that somebody removed or wrote anew while all was read: of them nothing is said


class Facts:
    """Takes what is said, and finds where it does not agree. A context manager."""

    def __init__(self, sorter: Sorter, *, has_frontier: bool) -> None:
        self.tally = Tally()
        self.has_index = False
        self._sorter = sorter
        self._has_frontier = has_frontier
        self._near: OrderedDict[str, Sequence[str]] = OrderedDict()  # what records said of themselves, by identity
        self._info: Sequence[str] | None = None  # the same of the last warcinfo

    def record(self, record: Record, *, is_ours: bool) -> None:
        """What a record says of itself and of others, once it was read to its end."""
        digest = record.field("warc-payload-digest") or ""
        date = _microseconds(record.at)
        place = (record.file, f"{record.offset:015d}")
        own = ("i", record.identity, "0", *place, record.kind, date, digest)
        self._say(*own)
        self._remember(own)
        ours = "ours" if is_ours else ""
        for name, why in _REFERENCES.items():
            for identity in record.all(name):
                if why == "refers" and record.kind != "revisit":
                    why = "speaks of"
                near = self._near.get(without_brackets(identity))
                if near is not None and _contradiction(why, date, digest, near) is None:
                    continue  # most refer to what was read just now: that needs no line
                self._say("i", without_brackets(identity), "1", *place, why, date, digest, ours)
        if record.kind in CAPTURES:
            self._say("u", record.url, date, "0", *place, digest)
        if record.kind == "revisit" and IDENTICAL_PAYLOAD.fullmatch(record.field("warc-profile") or ""):
            self._original(record, place, digest, ours)
        if is_indexed(record):
            lengths = (str(record.length), str(record.index_length))
            self._say("p", *place, "0", *lengths, digest, record.url, date, time_of(record))

    def _remember(self, own: Sequence[str]) -> None:
        """What a record said of itself: the last ones, and the last warcinfo of all."""
        _, identity, _, _, _, kind, *_ = own
        self._near[identity] = own
        self._near.move_to_end(identity)
        if kind == "warcinfo":
            self._info = own
        elif self._info is not None:
            self._near[self._info[1]] = self._info
            self._near.move_to_end(self._info[1])
        if len(self._near) > _NEAR:
            self._near.popitem(last=False)

    def _original(self, record: Record, place: tuple[str, str], digest: str, ours: str) -> None:
        at = record.field("warc-refers-to-date")
        if at is not None:
            url = without_brackets(record.field("warc-refers-to-target-uri") or record.url)
            self._say("u", url, _microseconds(seconds_of(at)), "1", *place, digest, ours)

    def aside(self, record: Record) -> None:
        """That the capture which a metadata record is of has no record in a frontier."""
        self._say("u", record.url, _microseconds(record.at), "2")

    def index_line(self, line: Line) -> None:
        """What the index has."""
        place = (line.file, f"{line.offset:015d}")
        self._say("p", *place, "1", str(line.length), line.digest, without_brackets(line.url), line.time)

    def known(self, url: str) -> None:
        """That a frontier knows a URL."""
        self._say("u", url, "", "known")

    def place(self, place: CapturePlace, url: str) -> None:
        """What a frontier has kept of a URL."""
        where = (place.file, f"{place.offset:015d}")
        self._say("p", *where, "2", str(place.length), place.digest, place.url or url, _microseconds(place.at), url)

    def _say(self, *fields: str) -> None:
        line = "\t".join(fields)
        if "\n" in line or line.count("\t") >= len(fields):  # a URL of others may hold what ends a line
            line = "\t".join(_CONTROL.sub(lambda found: f"%{ord(found[0]):02x}", field) for field in fields)
        self._sorter.add(line.encode("utf-8", "surrogateescape"))

    def faults(self, gone: Set[str] = frozenset()) -> Iterator[Fault]:
        """All that does not agree. ``gone``: files of which nothing is to be said any more."""
        self.tally.gone = len(gone)
        lines = (line.decode("utf-8", "surrogateescape").split("\t") for line in self._sorter.sorted())
        if gone:
            lines = (line for line in lines if _file_of(line) not in gone)
        for (kind, _), group in groupby(lines, lambda line: (line[0], line[1])):
            if kind == "i":
                yield from self._of_identity(group)
            elif kind == "u":
                yield from self._of_url(group)
            else:
                for _, there in groupby(group, lambda line: line[2]):
                    yield from self._of_place(there)

    def _of_identity(self, lines: Iterator[list[str]]) -> Iterator[Fault]:
        """Records that are said to have one identity, and those that refer to it."""
        found: list[str] | None = None
        for line in lines:
            _, identity, role, file, offset, *said = line
            if role == "0":
                if found is not None and identity:
                    yield Fault(f"its WARC-Record-ID is that of another record, too: {identity}", file, int(offset))
                found = line
                continue
            why, date, digest, ours = said
            if found is None:
                self.tally.elsewhere += 1
                if ours:
                    yield Fault(f"the record that it refers to ({why}) is not there: {identity}", file, int(offset))
            elif fault := _contradiction(why, date, digest, found):
                yield Fault(fault, file, int(offset))

    def _of_url(self, lines: Iterator[list[str]]) -> Iterator[Fault]:
        """Captures of one URL, and the revisits that refer to them."""
        is_known = False
        for (url, _), group in groupby(lines, lambda line: (line[1], line[2])):
            digests: list[str] = []
            is_aside = False
            for line in group:
                if line[3] == "known":
                    is_known = True
                elif line[3] == "0":
                    digests.append(line[6])
                elif line[3] == "1":
                    yield from self._of_revisit(url, digests, line)
                else:
                    is_aside = True
            self._count(len(digests), is_known=is_known, is_aside=is_aside)

    def _of_revisit(self, url: str, digests: list[str], line: list[str]) -> Iterator[Fault]:
        _, _, _, _, file, offset, digest, ours = line
        if not digests:
            self.tally.elsewhere += 1
            if ours:
                yield Fault(f"the capture of {url} whose payload it has is not there", file, int(offset))
        elif digest and not any(not other or same_digest(digest, other) for other in digests):
            yield Fault(f"the capture of {url} that it refers to has another payload", file, int(offset))

    def _count(self, captures: int, *, is_known: bool, is_aside: bool) -> None:
        self.tally.captures += captures
        if not self._has_frontier:
            return
        if is_known:
            self.tally.unnamed += captures  # less those that are named, which their places tell
        elif is_aside:
            self.tally.aside += captures
        else:
            self.tally.orphans += captures

    def _of_place(self, lines: Iterator[list[str]]) -> Iterator[Fault]:
        """What lies at a place, and what the index and the frontier say of it."""
        there: list[str] | None = None
        is_indexed, is_named = False, False
        for line in lines:
            _, file, offset, role, *said = line
            if role == "0":
                there = said
            elif role == "1":
                is_indexed = True
                yield from _of_index_line(said, there, file, int(offset))
            else:
                fault = _of_name(said, there, file, int(offset))
                is_named = is_named or fault is None
                if fault is not None:
                    yield fault
        if there is not None:
            self.tally.not_indexed += self.has_index and not is_indexed
            self.tally.named += is_named
            self.tally.unnamed -= is_named


def _file_of(line: Sequence[str]) -> str:
    """The file that a line speaks of; empty: of none."""
    kind, *said = line
    if kind == "p":
        return said[0]
    at = 2 if kind == "i" else 3
    return said[at] if len(said) > at else ""


def _of_index_line(said: list[str], there: list[str] | None, file: str, offset: int) -> Iterator[Fault]:
    length, digest, url, time = said
    if there is None:
        yield Fault("no capture lies there, though the index says so", file, offset, url)
        return
    _, its_length, its_digest, its_url, _, its_time = there
    agrees = (length, url, time) == (its_length, its_url, its_time)
    if not agrees or (its_digest and not same_digest(digest, its_digest)):
        yield Fault(f"what lies there is not what the index says: {its_url}", file, offset, url)


def _of_name(said: list[str], there: list[str] | None, file: str, offset: int) -> Fault | None:
    length, digest, target, date, url = said
    if there is None:
        return Fault("its capture is not there", file, offset, url)
    its_length, _, its_digest, its_url, its_date, _ = there
    agrees = (length, target, date) == (its_length, its_url, its_date) and digest == sha1_of(its_digest)
    return None if agrees else Fault(f"what lies there is not its capture, but one of {its_url}", file, offset, url)


def _contradiction(why: str, date: str, digest: str, found: Sequence[str]) -> str | None:
    """What a record's reference says of another one, and that one does not."""
    identity, kind, its_date, its_digest = found[1], *found[5:8]
    if why == "concurrent" and date != its_date:
        return f"its WARC-Date is not that of the record that it is concurrent to: {identity}"
    if why == "warcinfo" and kind != "warcinfo":
        return f"its WARC-Warcinfo-ID is that of a {kind} record: {identity}"
    if why == "refers" and digest and its_digest and not same_digest(digest, its_digest):
        return f"the record that it refers to has another payload: {identity}"
    return None


def _microseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{microseconds(seconds):020d}"
