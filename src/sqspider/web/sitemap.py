"""Sitemaps, as they arrive: sitemaps.org XML and index files, text, RSS and Atom, gzip or not.

Read with the standard library's expat, which opens no file and no connection. A document type that
declares what would be put in while reading (entities with a text, attributes) is not read on; an
external entity is never opened, and nothing stands in its place. Fetching, and following one
sitemap to the next, is done elsewhere.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple, Protocol
from xml.parsers import expat

from sqspider.url import canonicalize
from sqspider.web.body import Zlib

MAX_SITEMAP_BYTES: Final = 50 * 1024 * 1024  # decoded; sitemaps.org
MAX_SITEMAP_URLS: Final = 50_000  # in one file; sitemaps.org
MAX_DEPTH: Final = 64  # of elements: a sitemap has three, a feed a few more
MAX_NAMES: Final = 1000  # of elements and attributes: expat keeps each; real sitemaps have some dozens
MAX_TOKEN_BYTES: Final = 1024 * 1024  # of one tag or comment: expat reads it again for each piece of it
MAX_TEXT_CHARACTERS: Final = 8192  # of a URL or a date: what is longer is neither

_STEP: Final = 64 * 1024
_BLANKS: Final = b" \t\r\n"
_BOM: Final = b"\xef\xbb\xbf"
_XML_STARTS: Final = (b"<", b"\xfe\xff", b"\xff\xfe", b"\0<")


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
    that we crawl is left out. After a fault nothing more is found, and ``fault`` says what it was:
    broken XML or gzip, a limit, no sitemap at all. What was found before it stands.
    """

    def __init__(self, url: str) -> None:
        """``url``: where the sitemap is; relative URLs in it, which feeds have, are resolved by it."""
        self._url = url
        self._found: list[Found] = []
        self._number = 0  # of URLs, those left out included
        self._bytes = 0  # decoded
        self._start = b""  # what came while it could not be told what it is: gzip first, then the format
        self._gzip: Zlib | None = None
        self._is_gzip_known = False
        self._format: _Format | None = None
        self.fault: str | None = None
        self.refused = 0  # URLs left out because they are none, or none that we crawl

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
            except _FaultError as fault:
                self._stop(str(fault))
        return self._take()

    def close(self) -> list[Found]:
        """There is no more."""
        if not self.is_over:
            try:
                if not self._is_gzip_known:
                    self._is_gzip_known, start, self._start = True, self._start, b""
                    self._read(start)
                if self._format is None:
                    raise _FaultError("it is empty")
                if self._gzip is not None and not self._gzip.is_complete:
                    raise _FaultError("the gzip file ends too early")
                self._format.close()
            except _FaultError as fault:
                self._stop(str(fault))
        return self._take()

    def _stop(self, fault: str) -> None:
        self.fault = fault
        if self._format is not None:
            self._format.give_up()

    def _take(self) -> list[Found]:
        found, self._found = self._found, []
        return found

    def _inflate(self, data: bytes) -> Iterator[bytes]:
        if not self._is_gzip_known:
            data = self._start + data
            if len(data) < 2:
                self._start = data
                return
            self._is_gzip_known, self._start = True, b""
            self._gzip = Zlib(is_gzip=True) if data.startswith(b"\x1f\x8b") else None
        try:
            for at in range(0, len(data), _STEP):
                piece = data[at : at + _STEP]
                if self._gzip is None:
                    yield piece
                else:
                    yield from self._gzip.feed(piece)
        except zlib.error as error:
            raise _FaultError(f"broken gzip: {error}") from error

    def _read(self, piece: bytes) -> None:
        room = MAX_SITEMAP_BYTES - self._bytes
        self._bytes += len(piece)
        if self._format is None:
            piece = (self._start + piece).removeprefix(_BOM).lstrip(_BLANKS)
            # A byte order mark may be cut in two; only blanks and its beginnings are ever kept.
            if not piece or _BOM.startswith(piece):
                self._start = piece
                return
            self._start = b""
            is_xml = piece.startswith(_XML_STARTS)
            self._format = _Xml(self._add) if is_xml else _Text(self._add)
        self._format.feed(piece[:room])
        if len(piece) > room:
            raise _FaultError(f"longer than {MAX_SITEMAP_BYTES} bytes")

    def _add(self, text: str, lastmod: str | None, *, is_sitemap: bool, may_be_relative: bool) -> None:
        self._number += 1
        if self._number > MAX_SITEMAP_URLS:
            raise _FaultError(f"more than {MAX_SITEMAP_URLS} URLs")
        url = canonicalize(text, self._url if may_be_relative else None)
        if not isinstance(url, str):
            self.refused += 1
        else:
            when = parse_date(lastmod) if lastmod else None
            self._found.append(ChildSitemap(url, when) if is_sitemap else SitemapEntry(url, when))


class _FaultError(Exception):
    """Reading ends here; the text says why."""


class _Add(Protocol):
    def __call__(self, text: str, lastmod: str | None, *, is_sitemap: bool, may_be_relative: bool) -> None: ...


class _Format(Protocol):
    def feed(self, data: bytes) -> None: ...

    def close(self) -> None: ...

    def give_up(self) -> None:
        """Hand over what is known of an unfinished entry."""


class _Text:
    """A URL on each line, in UTF-8."""

    def __init__(self, add: _Add) -> None:
        self._add = add
        self._rest = b""

    def feed(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            self._read(line)
        if len(self._rest) > MAX_TEXT_CHARACTERS:
            raise _FaultError(f"a line of more than {MAX_TEXT_CHARACTERS} bytes: no sitemap")

    def _read(self, line: bytes) -> None:
        if line.strip():
            text = line.decode("utf-8", "replace")
            self._add(text, None, is_sitemap=False, may_be_relative=False)

    def close(self) -> None:
        self._read(self._rest)

    def give_up(self) -> None:
        """A line that was cut is no URL."""


_ROOTS: Final = frozenset({"urlset", "sitemapindex", "rss", "RDF", "feed"})
_ENTRIES: Final = frozenset({"url", "sitemap", "item", "entry"})
_LINKS: Final = frozenset({"loc", "link", "guid"})
_DATES: Final = frozenset({"lastmod", "pubDate", "date", "updated", "published", "modified"})


class _Xml:
    """Any of the XML formats. Elements go by their local names: namespaces are often wrong."""

    def __init__(self, add: _Add) -> None:
        self._add = add
        self._path: list[str] = []  # local names of the open elements
        self._names: set[str] = set()
        self._bytes = 0
        self._text: list[str] | None = None  # of the element that is being read, if it matters
        self._text_size = 0
        self._is_permalink = True  # of a guid
        self._links: dict[str, str] = {}  # of the entry that is open
        self._dates: dict[str, str] = {}
        self._parser = expat.ParserCreate()
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._characters
        self._parser.EntityDeclHandler = self._declare_entity
        self._parser.AttlistDeclHandler = self._declare_attribute

    def feed(self, data: bytes) -> None:
        self._parse(data, is_final=False)
        self._bytes += len(data)
        if self._bytes - self._parser.CurrentByteIndex > MAX_TOKEN_BYTES:
            raise _FaultError(f"a tag of more than {MAX_TOKEN_BYTES} bytes")

    def close(self) -> None:
        self._parse(b"", is_final=True)

    def give_up(self) -> None:
        try:
            self._end_entry()
        except _FaultError:  # it is the one beyond the limit
            return

    def _parse(self, data: bytes, *, is_final: bool) -> None:
        try:
            self._parser.Parse(data, is_final)
        except (expat.ExpatError, LookupError, ValueError) as error:  # the last two: its encoding
            raise _FaultError(f"broken XML: {error}") from error

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._names.add(name)
        self._names.update(attributes)
        if len(self._names) > MAX_NAMES:
            raise _FaultError(f"more than {MAX_NAMES} names of elements and attributes")
        name = name.rpartition(":")[2]
        if not self._path and name not in _ROOTS:
            raise _FaultError(f"no sitemap: its root element is {name[:50]!r}")
        if len(self._path) >= MAX_DEPTH:
            raise _FaultError(f"more than {MAX_DEPTH} elements inside one another")
        parent = self._path[-1] if self._path else ""
        self._path.append(name)
        if name in _ENTRIES:
            self._links, self._dates = {}, {}
        elif parent in _ENTRIES and (name in _LINKS or name in _DATES):
            self._text, self._text_size = [], 0
            self._is_permalink = attributes.get("isPermaLink", "true").strip().lower() != "false"
            if "href" in attributes and attributes.get("rel", "alternate") == "alternate":  # Atom
                self._links.setdefault(name, attributes["href"])

    def _characters(self, text: str) -> None:
        if self._text is not None and self._text_size <= MAX_TEXT_CHARACTERS:
            self._text.append(text)
            self._text_size += len(text)

    def _end(self, name: str) -> None:
        name = self._path.pop()
        if name in _ENTRIES:
            self._path.append(name)
            self._end_entry()
            self._path.pop()
        elif self._text is not None and self._path and self._path[-1] in _ENTRIES:
            text = "".join(self._text).strip()
            self._text = None
            if not text or self._text_size > MAX_TEXT_CHARACTERS:
                return
            if name in _DATES:
                self._dates.setdefault(name, text)
            elif name != "guid" or self._is_permalink:
                self._links.setdefault(name, text)

    def _end_entry(self) -> None:
        link = self._links.get("loc") or self._links.get("link") or self._links.get("guid")
        dates = ("lastmod", "updated", "modified", "pubDate", "date", "published")
        date = next((self._dates[name] for name in dates if name in self._dates), None)
        self._links, self._dates = {}, {}
        if link is not None:
            is_sitemap = "sitemap" in self._path
            self._add(link, date, is_sitemap=is_sitemap, may_be_relative=True)

    def _declare_entity(self, name: str, is_parameter: bool, value: str | None, *_: object) -> None:
        """Entities grow as they are put in, in attributes too; one without a text is external."""
        if is_parameter or value is not None:
            raise _FaultError(f"declares the entity {name[:50]!r}")

    def _declare_attribute(self, element: str, *_: object) -> None:
        """A default value would be put into every element."""
        raise _FaultError(f"declares attributes of {element[:50]!r}")


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
