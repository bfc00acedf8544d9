"""Sitemaps, as they arrive: sitemaps.org XML and index files, text, RSS and Atom, gzip or not.

What is left out is counted by reason: nothing gets lost without a word. How XML is read is in
``sitemap_xml``; fetching, and following one sitemap to the next, is done elsewhere.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple, Protocol

from sqspider.record import Reason
from sqspider.url import Refused, canonicalize
from sqspider.web.body import Zlib
from sqspider.web.charset import url_decoder, xml_encoding_of
from sqspider.web.sitemap_xml import MAX_TEXT_CHARACTERS, Listed, SitemapFaultError, SitemapXml

MAX_SITEMAP_BYTES: Final = 50 * 1024 * 1024  # decoded; sitemaps.org
MAX_SITEMAP_URLS: Final = 50_000  # in one file; sitemaps.org

NO_URL: Final = "no_url"  # why something is left out, beside the reasons of ``url``: there is no URL
NO_SCHEME: Final = "no_scheme"  # it does not begin with http:// or https://

_STEP: Final = 64 * 1024  # bytes at a time; by so many is it told what a sitemap is
_XML: Final = re.compile(r"\A\s*<|<(?:\?xml|(?:[\w.-]+:)?(?:urlset|sitemapindex|rss|rdf|feed))\b", re.IGNORECASE)
_BOM: Final = b"\xef\xbb\xbf"
_BLANKS: Final = b" \t\r\n"
_SCHEME: Final = re.compile(r"[a-z][a-z0-9+.-]*:", re.IGNORECASE)


class SitemapEntry(NamedTuple):
    """A page that a sitemap names."""

    url: str  # canonical
    lastmod: float | None  # when it changed, by the sitemap: seconds since the epoch


class ChildSitemap(NamedTuple):
    """Another sitemap that an index names."""

    url: str  # canonical
    lastmod: float | None  # seconds since the epoch


Found = SitemapEntry | ChildSitemap


class SitemapReader:
    """Reads one sitemap, piece by piece.

    ``feed`` what arrives, ``close`` at the end; both return what was found since. What is no URL
    that we crawl is left out, and counted in ``refused``. After a fault nothing more is found, and
    ``fault`` says what it was: a broken gzip file, an end too early, a limit, no sitemap at all.
    What was found before it stands.
    """

    def __init__(self, url: str) -> None:
        """``url``: where the sitemap is; relative URLs in it, which feeds have, are resolved by it."""
        self._url = url
        self._found: list[Found] = []
        self._number = 0  # of URLs, those left out included
        self._bytes = 0  # decoded
        self._held = b""  # the first two bytes, by which gzip is known
        self._gzip: Zlib | None = None
        self._is_gzip_known = False
        self._head = b""  # what came while it could not be told what it is
        self._document: _Document | None = None
        self.fault: str | None = None
        self.refused: Counter[str] = Counter()  # what was left out, by reason: of ``Reason``, NO_URL, NO_SCHEME

    @property
    def is_over(self) -> bool:
        """Nothing more will be found: there is no use in reading on."""
        return self.fault is not None

    def feed(self, data: bytes) -> list[Found]:
        """Take some bytes, of any number; they are decoded and read in small steps."""
        if not self.is_over:
            try:
                for piece in self._inflate(data):
                    self._read(piece)
            except SitemapFaultError as fault:
                self._stop(str(fault))
        return self._take()

    def close(self) -> list[Found]:
        """There is no more."""
        if not self.is_over:
            try:
                self._end()
            except SitemapFaultError as fault:
                self._stop(str(fault))
        return self._take()

    def _end(self) -> None:
        document = self._begun()
        if self._gzip is not None and not self._gzip.is_complete:
            raise SitemapFaultError("the gzip file ends too early")
        document.close()
        if self.refused and self.refused.total() == self._number:
            raise SitemapFaultError("nothing in it can be crawled")

    def _stop(self, fault: str) -> None:
        self.fault = fault
        try:
            self._begun().give_up()
        except SitemapFaultError:  # that there is nothing, or too much
            return

    def _begun(self) -> _Document:
        if self._document is None:
            head = self._head or self._held
            if not head.removeprefix(_BOM).strip(_BLANKS):
                raise SitemapFaultError("it is empty")
            self._document = _Document(head, self._add)
        return self._document

    def _take(self) -> list[Found]:
        found, self._found = self._found, []
        return found

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        if not self._is_gzip_known:
            data = self._held + data
            if len(data) < 2:
                self._held = data
                return
            self._is_gzip_known = True
            self._gzip = Zlib(is_gzip=True) if data.startswith(b"\x1f\x8b") else None
        try:
            for at in range(0, len(data), _STEP):
                piece = data[at : at + _STEP]
                if self._gzip is None:
                    yield piece
                else:
                    yield from _inflated(self._gzip, piece)
        except zlib.error as error:
            raise SitemapFaultError(f"broken gzip: {error}") from error

    def _read(self, piece: bytes) -> None:
        room = MAX_SITEMAP_BYTES - self._bytes
        self._bytes += len(piece)
        if self._document is not None:
            self._document.feed(piece[:room])
        else:
            self._head += piece[:room]
            if len(self._head) >= _STEP:
                self._begun()
        if len(piece) > room:
            raise SitemapFaultError(f"longer than {MAX_SITEMAP_BYTES} bytes")

    def _add(self, listed: Listed) -> None:
        self._number += 1
        if self._number > MAX_SITEMAP_URLS:
            raise SitemapFaultError(f"more than {MAX_SITEMAP_URLS} URLs")
        if listed.link is None:
            self.refused[NO_URL] += 1
            return
        url = canonicalize(listed.link, self._url if listed.may_be_relative else None)
        if isinstance(url, Refused):
            has_scheme = url.reason is not Reason.BAD_URL or _SCHEME.match(listed.link)
            self.refused[url.reason if has_scheme else NO_SCHEME] += 1
            return
        when = parse_date(listed.date) if listed.date else None
        self._found.append(ChildSitemap(url, when) if listed.is_sitemap else SitemapEntry(url, when))


def _inflated(gzip: Zlib, piece: bytes) -> Iterator[bytes]:
    """What was packed, up to the very octet at which it is flawed. Raises ``zlib.error`` there.

    zlib keeps for itself what comes before a flaw in the same piece: with a wrong checksum at its
    end, all of a small file.
    """
    again, given = gzip.copy(), 0
    try:
        for unpacked in gzip.feed(piece):
            yield unpacked
            given += len(unpacked)
    except zlib.error:
        for at in range(len(piece)):
            for unpacked in again.feed(piece[at : at + 1]):
                yield unpacked[given:]
                given = max(0, given - len(unpacked))


class _Format(Protocol):
    def feed(self, text: str) -> None: ...

    def close(self) -> None: ...

    def give_up(self) -> None:
        """Hand over what is known of an unfinished entry."""


class _Document:
    """A sitemap of which so much has come that its encoding and format are known."""

    def __init__(self, head: bytes, add: Callable[[Listed], None]) -> None:
        self._decoder = url_decoder(xml_encoding_of(head))
        text = self._decoder.decode(head).removeprefix("\ufeff")
        self._format: _Format = SitemapXml(add) if _XML.search(text) else _Text(add)
        self._first = text  # not read yet, so that a fault in it finds the document here

    def feed(self, data: bytes, *, is_final: bool = False) -> None:
        text, self._first = self._first + self._decoder.decode(data, is_final), ""
        self._format.feed(text)

    def close(self) -> None:
        self.feed(b"", is_final=True)
        self._format.close()

    def give_up(self) -> None:
        self.feed(b"")
        self._format.give_up()


class _Text:
    """A URL on each line."""

    def __init__(self, add: Callable[[Listed], None]) -> None:
        self._add = add
        self._rest = ""  # the beginning of a line; of an endless one no more than tells that it is none
        self._is_blank = True

    def feed(self, text: str) -> None:
        *lines, rest = (self._rest + text).replace("\r", "\n").split("\n")
        self._rest = rest[: MAX_TEXT_CHARACTERS + 1]
        for line in lines:
            self._read(line)

    def _read(self, line: str) -> None:
        if link := line.strip():
            self._is_blank = False
            is_url = len(link.split(None, 1)) == 1  # with more behind it, it would be made into another one
            self._add(Listed(link if is_url else None, None, is_sitemap=False, may_be_relative=False))

    def close(self) -> None:
        self._read(self._rest)
        if self._is_blank:
            raise SitemapFaultError("it is empty")

    def give_up(self) -> None:
        """A line that was cut is no URL."""


_PARTIAL_DATE: Final = re.compile(r"([0-9]{4})(?:-([0-9]{2}))?")


def parse_date(text: str) -> float | None:
    """A date as sitemaps and feeds write it, in seconds since the epoch; ``None`` if it is none.

    W3C date and time formats (a year, a month, a day, a time with its zone) and RFC 822. Without
    a zone it is UTC; of a year, a month or a day it is the first moment.
    """
    text = text.strip()
    try:
        if partial := _PARTIAL_DATE.fullmatch(text):
            when = datetime(int(partial[1]), int(partial[2] or 1), 1, tzinfo=UTC)
        elif text[:1].isdigit() and "-" in text[:5]:
            when = datetime.fromisoformat(text)
        else:
            when = parsedate_to_datetime(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).astimezone(UTC).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
