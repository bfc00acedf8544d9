"""The entries of a sitemap or feed in XML, however well formed it is.

Sitemaps are made by templates, and one raw ``&`` or a warning of PHP before them should not cost
the rest. So this is no XML parser but a tokenizer, as in HTML: every text is read as something,
and an end tag that is missing is implied by what follows. No document type is acted on and nothing
is ever opened. Memory is bounded: by one piece, one tag and one entry.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from html.entities import html5 as named_references
from typing import Final, NamedTuple

MAX_TAG_CHARACTERS: Final = 1024 * 1024  # of a tag, a comment or a document type
MAX_TEXT_CHARACTERS: Final = 8192  # of a URL or a date: what is longer is neither
MAX_HEAD_CHARACTERS: Final = 64 * 1024  # what may stand before the root element
MAX_TAGS: Final = 3_000_000  # a microsecond or two each; 50 MiB of real ones are fewer
MAX_DEPTH: Final = 64  # elements that are kept account of within an entry

_ROOTS: Final = frozenset({"urlset", "sitemapindex", "rss", "rdf", "feed"})
_ENTRIES: Final = {
    "urlset": ("url", "sitemap"), "sitemapindex": ("url", "sitemap"),
    "rss": ("item",), "rdf": ("item",), "feed": ("entry",),
    "": ("url", "sitemap"),  # the root's own tag may be lost
}  # fmt: skip
_LINKS: Final = {"url": ("loc",), "sitemap": ("loc",), "item": ("link", "guid"), "entry": ("link",)}  # the first counts
_DATES: Final = ("lastmod", "updated", "modified", "pubdate", "date", "published")
_FIELDS: Final = frozenset({"loc", "link", "guid", *_DATES})
_IGNORED: Final = frozenset({"changefreq", "priority", "title"})
_LEAVES: Final = _FIELDS | _IGNORED  # have no elements in them, so that their ends may be missing

_NAME: Final = r"(?:([A-Za-z_][\w.-]*):)?([A-Za-z_][\w.-]*)"
# A tag that does not end before the next one begins, ends there: "<" is in no attribute.
_MARKUP: Final = re.compile(
    rf"<(?:(/?){_NAME}((?:[^<>\"']++|\"[^\"<]*+(?:\"|\Z)|'[^'<]*+(?:'|\Z)|)*+)(>?)"
    r"|(!--|!\[CDATA\[|![A-Za-z]|[?!/])|\Z)"
)
_LONG_MARKS: Final = ("<!--", "<![CDATA[")
_ENDS: Final = {"!--": re.compile("-->"), "![CDATA[": re.compile(r"\]\]>"), "": re.compile(">")}
_CDATA_END: Final = re.compile(r"\]\]>|(?=<)")  # of a URL or a date, in which no "<" is
_SUBSET_END: Final = re.compile(r"\]\s*>")
_ENTITY: Final = re.compile(r"<!ENTITY\s+(%\s+)?(\S+)\s+(SYSTEM\b|PUBLIC\b)?", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(r"(?<![\w:.-])([\w:.-]++)\s*+=\s*+(?:\"([^\"]*)\"|'([^']*)'|([^\s\"'>]+))")
_REFERENCE: Final = re.compile(r"&(?:#[0-9]{1,9}|#[xX][0-9a-fA-F]{1,8}|([A-Za-z][\w.-]*));")


class SitemapFaultError(Exception):
    """Reading ends here; the text says why."""


class Listed(NamedTuple):
    """An entry of a sitemap, as it is written there."""

    link: str | None  # none: it has no URL
    date: str | None
    is_sitemap: bool
    may_be_relative: bool  # as in feeds; a sitemap's URLs are whole


class _Entry:
    """The entry that is being read."""

    def __init__(self, prefix: str | None, name: str) -> None:
        self.prefix, self.name = prefix, name
        self.inside: list[tuple[str | None, str]] = []  # open elements within it: prefix, name
        self.texts: dict[str, str] = {}  # of its fields

    def may_have(self, prefix: str | None) -> bool:
        """Whether a field that begins here is its own, and not that of an image within it.

        What belongs to an extension has the extension's prefix: so an extension's element that is
        never closed hides nothing.
        """
        return all(prefix == self.prefix != other for other, _ in self.inside)

    def listed(self) -> Listed:
        link = next((self.texts[name] for name in _LINKS[self.name] if name in self.texts), None)
        date = next((self.texts[name] for name in _DATES if name in self.texts), None)
        is_feed = self.name in ("item", "entry")
        return Listed(link, date, is_sitemap=self.name == "sitemap", may_be_relative=is_feed)


class SitemapXml:
    """Feed it text; it hands over the entries. Raises :class:`SitemapFaultError`."""

    def __init__(self, add: Callable[[Listed], None]) -> None:
        self._add = add
        self._rest = ""  # from the beginning of a tag whose end has not come yet
        self._look_again_at = 0  # characters: searching it for each small piece would take quadratic time
        self._read = self._tags = 0  # characters before the rest, and tags
        self._root = ""  # the name of the root element, once it has come
        self._prefix: str | None = None  # its prefix
        self._first = ""  # that of the first element
        self._is_open = False  # the root element is
        self._has_entries = self._has_others = False  # in the root; others: elements and text
        self._external: set[str] = set()  # names of entities that would have to be fetched
        self._entry: _Entry | None = None
        self._field: str | None = None  # the name of the field that is being read
        self._text: list[str] = []
        self._text_size = 0

    def feed(self, text: str) -> None:
        self._rest += text
        if len(self._rest) >= self._look_again_at:
            self._tokenize(is_final=False)
            self._look_again_at = 2 * len(self._rest)
            if len(self._rest) > MAX_TAG_CHARACTERS:
                raise SitemapFaultError(f"a tag of more than {MAX_TAG_CHARACTERS} characters")

    def close(self) -> None:
        self._tokenize(is_final=True)
        is_cut = self._is_open or (self._root == "" and self._entry is not None)
        self.give_up()
        if not self._root and not self._has_entries:
            raise SitemapFaultError(self._no_sitemap())
        if is_cut:
            raise SitemapFaultError(f"it ends too early: </{self._root or 'url'}> is missing")
        if not self._has_entries and self._has_others and self._root in ("urlset", "sitemapindex"):
            raise SitemapFaultError("there is no <url> and no <sitemap> in it")

    def give_up(self) -> None:
        """Hand over what is known of an unfinished entry; a text that was cut is no part of it."""
        self._tokenize(is_final=False)
        self._field = None
        if self._entry is not None and self._entry.texts:
            self._end_entry()

    def _no_sitemap(self) -> str:
        return "no sitemap: " + (f"its root element is {self._first[:50]!r}" if self._first else "no element is in it")

    def _tokenize(self, *, is_final: bool) -> None:
        text, at = self._rest, 0
        self._rest = ""  # nothing is read twice, should this end with a fault
        while found := _MARKUP.search(text, at):
            start, end = found.span()
            if self._field is not None and start > at:
                self._take_text(text[at:start])
            elif not self._has_entries and self._is_open:
                self._has_others = self._has_others or not (start == at or text[at:start].isspace())
            at = start
            slash, prefix, name, attributes, closing, other = found.groups()
            if other:
                end = self._end_of_other(text, start, other)
            elif not closing and end == len(text):
                end = -1
            elif slash:
                self._end_tag(prefix, name.lower())
            else:
                self._start_tag(prefix, name.lower(), attributes)
            if end < 0:
                break
            at = end
        if is_final or not found:
            if self._field is not None and not found:
                self._take_text(text[at:])
            at = len(text)
        self._rest = text[at:]
        self._count(text, at)

    def _count(self, text: str, end: int) -> None:
        self._read += end
        self._tags += text.count("<", 0, end)
        if self._tags > MAX_TAGS:
            raise SitemapFaultError(f"more than {MAX_TAGS} tags")
        if not self._root and not self._has_entries and self._read > MAX_HEAD_CHARACTERS:
            raise SitemapFaultError(self._no_sitemap())

    def _end_of_other(self, text: str, start: int, kind: str) -> int:
        """The end of a comment, CDATA, a document type, an instruction; -1: it has not come yet."""
        at = start + 1 + len(kind)
        if kind.startswith("!") and kind[1:].isalpha():
            return self._end_of_declaration(text, at)
        if kind == "!" and any(mark.startswith(text[start : at + 7]) for mark in _LONG_MARKS):
            return -1
        is_text = kind == "![CDATA[" and self._field is not None
        closing = (_CDATA_END if is_text else _ENDS.get(kind, _ENDS[""])).search(text, at)
        if closing is None:
            return -1
        if is_text:
            self._take_text(text[at : closing.start()].replace("&", "&amp;"))
        elif kind == "![CDATA[":
            self._has_others = True
        return closing.end()

    def _end_of_declaration(self, text: str, start: int) -> int:
        end = text.find(">", start)
        subset = text.find("[", start, end if end >= 0 else len(text))
        if subset < 0:
            return end + 1 or -1
        closing = _SUBSET_END.search(text, subset)
        if closing is None:
            return -1
        for parameter, name, external in _ENTITY.findall(text, subset, closing.end()):
            if parameter or not external:
                raise SitemapFaultError(f"declares the entity {name[:50]!r} with a text")
            self._external.add(name)
        return closing.end()

    def _start_tag(self, prefix: str | None, name: str, attributes: str) -> None:
        if self._field is not None:
            self._end_field()
        if name in _IGNORED:
            return
        entry, is_empty = self._entry, attributes.endswith("/")
        self._first = self._first or name
        if name in _ENTRIES[self._root]:
            self._start_entry(prefix, name)
            if is_empty:
                self._end_entry()
        elif entry is not None:
            if name in _FIELDS and entry.may_have(prefix):
                self._start_field(entry, name, attributes)
            elif not is_empty and name not in _FIELDS and len(entry.inside) < MAX_DEPTH:
                entry.inside.append((prefix, name))
        elif name in _ROOTS and not self._is_open:
            self._root, self._prefix, self._is_open = name, prefix, not is_empty
        elif name == "loc" and prefix == self._prefix and "url" in _ENTRIES[self._root]:
            self._start_field(self._start_entry(prefix, "sitemap" if self._root == "sitemapindex" else "url"), name, "")
        else:
            self._has_others = True

    def _start_entry(self, prefix: str | None, name: str) -> _Entry:
        self._end_entry()
        self._entry, self._has_entries = _Entry(prefix, name), True
        return self._entry

    def _start_field(self, entry: _Entry, name: str, attributes: str) -> None:
        is_empty = attributes.endswith("/")
        given = _attributes(attributes) if name in ("link", "guid") else {}
        if "href" in given and given.get("rel", "alternate") == "alternate":  # Atom
            entry.texts.setdefault(name, self._resolved(given["href"]))
        elif not is_empty and not (name == "guid" and given.get("ispermalink", "").strip().lower() == "false"):
            self._field, self._text, self._text_size = name, [], 0

    def _end_tag(self, prefix: str | None, name: str) -> None:
        if self._field is not None:
            self._end_field()
        if name in _LEAVES:
            return
        entry = self._entry
        if entry is not None and (prefix, name) in entry.inside:
            while entry.inside.pop() != (prefix, name):
                """What was opened within it and not closed ends with it."""
        elif entry is not None and name == entry.name:
            self._end_entry()
        elif name == self._root:
            self._end_entry()
            self._is_open = False

    def _take_text(self, text: str) -> None:
        if self._text_size <= MAX_TEXT_CHARACTERS:
            self._text.append(text)
            self._text_size += len(text)

    def _end_field(self) -> None:
        field, self._field, entry = self._field, None, self._entry
        if field is None or entry is None:
            return
        if text := self._resolved("".join(self._text)).strip():
            if field == "loc" and "loc" in entry.texts:  # the tags between two entries are lost
                entry = self._start_entry(entry.prefix, entry.name)
            entry.texts.setdefault(field, text)

    def _end_entry(self) -> None:
        entry, self._entry = self._entry, None
        if entry is not None:
            self._add(entry.listed())

    def _resolved(self, text: str) -> str:
        return _REFERENCE.sub(self._character, text) if "&" in text else text

    def _character(self, reference: re.Match[str]) -> str:
        # "?a=1&copy=2" is no reference: in XML all of them end with a semicolon.
        name = reference[1]
        if name is None:
            return unescape(reference[0])
        return "" if name in self._external else named_references.get(name + ";", reference[0])


def _attributes(text: str) -> dict[str, str]:
    attributes: dict[str, str] = {}
    for name, quoted, single_quoted, bare in _ATTRIBUTE.findall(text):
        attributes.setdefault(name.lower(), quoted or single_quoted or bare)
    return attributes
