"""The outlinks of a page: read, resolved, in canonical form.

What is done with them (scope, depth, whether they are known) is no matter of this module; nor is
how HTML is read, see ``scanner``.
"""

from __future__ import annotations

import codecs
import functools
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Final

import ada_url
import msgspec

from sqspider.record import Reason
from sqspider.url import Refused, canonicalize, cut_to_length
from sqspider.web.attributes import Attributes, decoded
from sqspider.web.charset import (
    PRESCAN_BYTES,
    XML_TYPES,
    MimeType,
    decode,
    encode_query,
    encoding_of,
    mime_type_of,
    xml_encoding_of,
)
from sqspider.web.directives import directives_of_header, directives_of_meta, forbids, robots_agents
from sqspider.web.refresh import Refresh, parse_refresh
from sqspider.web.scanner import PAGE_TAGS, page_elements
from sqspider.web.xhtml import NotXhtmlError, read_xhtml

MAX_TITLE_CHARACTERS: Final = 300

HTML_TYPES: Final = ("text/html", "application/xhtml+xml")
_LOOKS_LIKE_XML: Final = re.compile(rb"(?:\xef\xbb\xbf)?[\t\n\f\r ]*<\?xml")
_LOOKS_LIKE_HTML: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?[\t\n\f\r ]*<(?:!--|(?:!doctype html|html|head|script|iframe|h1|div|font|table|a"
    rb"|style|title|b|body|br|p)[ >])",
    re.IGNORECASE,
)  # MIME Sniffing standard, section 7.1
_HTML_SPACE: Final = "\t\n\f\r "
_NOFOLLOW: Final = re.compile(rf"(?:\A|[{_HTML_SPACE}])nofollow(?:[{_HTML_SPACE}]|\Z)", re.IGNORECASE)


class PageLinks(msgspec.Struct, frozen=True, kw_only=True):
    """What a crawler takes from a page."""

    title: str | None  # white space collapsed, cut at 300 characters
    links: tuple[str, ...]  # canonical, each once, in document order; the page itself may be among them
    nofollow: bool  # none of them may be followed: the page says so, and it is obeyed
    noindex: bool  # the page asks not to be shown in search results
    leads_to: str | None = None  # one of the links: an immediate refresh goes there, and no other link elsewhere
    left_out: dict[Reason, int] = {}  # links to the web that cannot be followed, by reason
    too_long: tuple[str, ...] = ()  # names for those of them that are too long for a URL, if their hosts are not
    encoding: str = ""  # by which its bytes were read
    unfollowed: int = 0  # links that ask for themselves not to be followed, and are obeyed; but for those of ``links``


class LinkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as a link, and how it is looked for."""

    meta_refresh: bool = False  # the target of any Refresh header and <meta http-equiv=refresh>
    srcset: bool = False  # the images of img[srcset] and source[srcset]
    drop_tracking: bool = False  # take campaign parameters out
    obey_nofollow: bool = True  # leave out rel=nofollow; heed robots directives that say nofollow


DEFAULT_OPTIONS: Final = LinkOptions()


def read_page(
    body: bytes,
    url: str,
    headers: Sequence[tuple[str, str]],
    options: LinkOptions = DEFAULT_OPTIONS,
    product_token: str = "sqspider",
) -> PageLinks | None:
    """The links of a page, or ``None`` if the answer is no page.

    ``body`` is decompressed, ``url`` where it was found at last, canonical. What it is, its
    content type says; only without a valid one do its first bytes. HTML is a page, XHTML that is
    said to be XML too, and an empty answer with a Refresh header. Links are those of ``a``, ``area``,
    ``frame`` and ``iframe``, relative to ``base``, and a refresh that is the only way on.
    ``product_token`` is the name under which robots directives may address us.
    """
    essence, charset = type_of_answer(body, headers)

    def new_reader() -> _Reader:
        return _Reader(url, headers, options, product_token)

    reader, is_page = new_reader(), essence in HTML_TYPES
    if is_xml(essence):
        try:
            reader.read_xhtml(body, charset)
            return reader.page_links()
        except NotXhtmlError as error:
            reader, is_page = new_reader(), is_page or error.is_page
    if is_page:
        reader.read_html(body, charset)
    elif reader.refresh is None or not (body.isspace() or not body):
        return None
    return reader.page_links()


def type_of_answer(body: bytes, headers: Sequence[tuple[str, str]]) -> tuple[str, str | None]:
    """What an answer is: its media type, as it says it, else by its first bytes; and the charset that it names."""
    mime_type = _type_said(headers)
    return (mime_type.essence, mime_type.charset) if mime_type else (_sniffed(body), None)


def is_xml(essence: str) -> bool:
    """Whether a media type is one of XML."""
    return essence in XML_TYPES or essence.endswith("+xml")


def may_be_page(headers: Sequence[tuple[str, str]]) -> bool:
    """Whether what an answer says of its type leaves it open that it is a page."""
    mime_type = _type_said(headers)
    return mime_type is None or mime_type.essence in HTML_TYPES or is_xml(mime_type.essence)


def _type_said(headers: Sequence[tuple[str, str]]) -> MimeType | None:
    return mime_type_of([value for name, value in headers if name.lower() == "content-type"])


def _sniffed(body: bytes) -> str:
    """MIME Sniffing standard, section 7.1, as far as it matters here."""
    if _LOOKS_LIKE_XML.match(body):
        return XML_TYPES[0]
    return HTML_TYPES[0] if _LOOKS_LIKE_HTML.match(body) else ""


class _Reader:
    """Gathers what is written in a page, before any of it is resolved."""

    def __init__(self, url: str, headers: Iterable[tuple[str, str]], options: LinkOptions, product_token: str) -> None:
        self.refresh: Refresh | None = None  # the first one: browsers go by that
        self._url = url
        self._options = options
        self._agents = robots_agents(product_token)
        self._encoding = "utf-8"
        self._hrefs: dict[bytes | str, None] = {}  # without fragments; bytes: as written. A set that keeps order
        self._unfollowed: dict[bytes | str, None] = {}  # likewise
        self._base: str | None = None
        self._title: str | None = None
        self._nofollow = self._noindex = False
        for name, value in headers:
            if name.lower() == "x-robots-tag":
                self._obey(directives_of_header(value, self._agents))
            elif name.lower() == "refresh":
                self._note(parse_refresh(value), url)

    def read_html(self, body: bytes, charset: str | None) -> None:
        self._encoding = encoding_of(body, charset)
        hrefs = self._hrefs
        for element in page_elements(in_utf_8(body, self._encoding), self._tags()):
            if isinstance(element, bytes):
                hrefs[element] = None
            else:
                self._take(*element)

    def read_xhtml(self, body: bytes, charset: str | None) -> None:
        """Raises :class:`NotXhtmlError`."""
        self._encoding = xml_encoding_of(body[:PRESCAN_BYTES], charset)
        read_xhtml(in_utf_8(body, self._encoding), self._tags(), self._take)

    def _tags(self) -> tuple[str, ...]:
        return (*PAGE_TAGS, "img", "source") if self._options.srcset else PAGE_TAGS

    def _take(self, tag: str, attributes: Attributes) -> None:
        if tag in ("a", "area"):
            rel = attributes.get("rel")
            is_unfollowed = rel and self._options.obey_nofollow and _NOFOLLOW.search(rel)
            self._add([attributes["href"]], self._unfollowed if is_unfollowed else self._hrefs)
        elif tag in ("frame", "iframe"):
            self._add([attributes["src"]], self._hrefs)
        elif tag == "base":
            if self._base is None:
                self._base = attributes["href"] or ""
        elif tag == "title":
            self._title = " ".join((attributes[""] or "").split())[:MAX_TITLE_CHARACTERS] or None
        elif tag == "meta":
            self._read_meta(attributes)
        else:
            self._add(parse_srcset(attributes["srcset"] or ""), self._hrefs)

    def _read_meta(self, attributes: Attributes) -> None:
        content = attributes.get("content")
        if content is None:
            return
        if (attributes.get("name") or "").lower() in self._agents:
            self._obey(directives_of_meta(content))
        elif (attributes.get("http-equiv") or "").lower() == "refresh":
            self._note(parse_refresh(content))

    def _note(self, refresh: Refresh | None, base: str | None = None) -> None:
        """A refresh. ``base``: what its target is relative to, where that is not the page's base."""
        if refresh is None:
            return
        if refresh.target and base is not None:
            refresh = refresh._replace(target=_joined(base, refresh.target))
        if self.refresh is None:
            self.refresh = refresh
        if refresh.target and self._options.meta_refresh:
            self._add([refresh.target], self._hrefs)

    def _obey(self, directives: Collection[str]) -> None:
        self._nofollow |= forbids("nofollow", directives)
        self._noindex |= forbids("noindex", directives)

    def _add(self, targets: Iterable[str | None], hrefs: dict[bytes | str, None]) -> None:
        # A page has many links into itself: without fragments they are one. But blanks before a fragment are
        # part of the URL, which at the end of it they are not.
        for target in targets:
            address = target.partition("#")[0] if target else ""
            if target and address and address[-1] <= " ":
                address = target
            hrefs[address] = None

    def page_links(self) -> PageLinks:
        """What was gathered, resolved. It can be asked for once."""
        base = base_url(self._base, self._url)
        links, left_out, too_long = self._resolve(self._hrefs, base)
        leads_to = self._only_way_on(links, base)
        if leads_to is not None:
            links[leads_to] = None
        unfollowed = self._resolve(self._unfollowed, base)[0].keys() - links.keys() if self._unfollowed else ()
        return PageLinks(
            title=self._title,
            links=tuple(links),
            nofollow=self._nofollow and self._options.obey_nofollow,
            noindex=self._noindex,
            leads_to=leads_to,
            left_out=left_out,
            too_long=tuple(too_long),
            encoding=self._encoding,
            unfollowed=len(unfollowed),
        )

    def _resolve(
        self, written: dict[bytes | str, None], base: str
    ) -> tuple[dict[str, None], dict[Reason, int], dict[str, None]]:
        """Where links lead, each once; how many cannot be followed, by reason; names for such as are too long."""
        links: dict[str, None] = {}
        left_out: dict[Reason, int] = {}
        too_long: dict[str, None] = {}
        # In a page that is all links they are most of what it takes in memory: given back one by one.
        hrefs = list(written)
        written.clear()
        hrefs.reverse()
        resolved = self._resolver(base)
        while hrefs:
            link = resolved(hrefs.pop())
            if isinstance(link, str):
                links[link] = None
            elif link.reason is not Reason.BAD_SCHEME:  # mailto and the like lead nowhere on the web
                left_out[link.reason] = left_out.get(link.reason, 0) + 1
                if link.reason is Reason.URL_TOO_LONG and (name := self._name_of(link, base)):
                    too_long[name] = None
        return links, left_out, too_long

    def _only_way_on(self, links: Collection[str], base: str) -> str | None:
        """Where an immediate refresh leads, if no link of the page leads anywhere else."""
        if self.refresh is None or not self.refresh.target or not self.refresh.is_immediate:
            return None
        target = self._resolver(base)(self.refresh.target)
        if not isinstance(target, str) or target == self._url:
            return None
        return target if all(link in (target, self._url) for link in links) else None

    def _name_of(self, link: Refused, base: str) -> str | None:
        return cut_to_length(link.text, base, drop_tracking=self._options.drop_tracking)

    def _resolver(self, base: str) -> Resolver:
        return resolver(base, self._encoding, drop_tracking=self._options.drop_tracking)


Resolver = Callable[[bytes | str], str | Refused]


def resolver(base: str, encoding: str, *, drop_tracking: bool = False) -> Resolver:
    """Gives the canonical URL of what is written in a page of this base and encoding, or why there is none."""
    is_plain = encoding == "utf-8" and not drop_tracking
    has_folder = is_plain and base.startswith(("http://", "https://")) and base.find("/", len("https://")) > 0
    folder = base[: base.rindex("/") + 1] if has_folder else None  # from all pages there they lead to the same places

    def resolved(written: bytes | str) -> str | Refused:
        if folder and len(written) <= MAX_REMEMBERED_CHARACTERS and (link := _resolved_in(folder, written)):
            return link
        href = decoded(written) if isinstance(written, bytes) else written
        if encoding != "utf-8" and "?" in href and not href.isascii():
            href = with_encoded_query(href, encoding)
        return canonicalize(href, base, drop_tracking=drop_tracking)

    return resolved


# 12 MB, if all have their greatest length; of the references in documentation 75 % are found.
MAX_REMEMBERED: Final = 4096
MAX_REMEMBERED_CHARACTERS: Final = 256
# An empty reference, a query and a fragment are relative to the page (blanks before them are no part of them); "http:"
# and what follows may be any of these.
_IS_RELATIVE_TO_FOLDER: Final = re.compile(r"https?://|[\x00-\x20]*+[^?#:][^:]*+\Z")


@functools.lru_cache(maxsize=MAX_REMEMBERED)
def _resolved_in(folder: str, href: bytes | str) -> str | Refused | None:
    """Where a reference leads from all pages of a folder; ``None`` if that may differ, as far as one can soon tell."""
    written = decoded(href) if isinstance(href, bytes) else href
    return canonicalize(written, folder) if _IS_RELATIVE_TO_FOLDER.match(written) else None


def in_utf_8(body: bytes, encoding: str) -> bytes:
    """A document as it is scanned."""
    if encoding == "utf-8":
        return body.removeprefix(codecs.BOM_UTF8)
    return decode(body, encoding).encode("utf-8", "replace")


def base_url(base: str | None, url: str) -> str:
    """HTML standard, section 4.2.3: a base that is no URL, or one of two schemes, is ignored."""
    if base is None:
        return url
    resolved = _joined(url, base) or url
    return url if resolved.startswith(("data:", "javascript:")) else resolved


def _joined(url: str, relative: str) -> str:
    """A URL that is relative to another; empty if it is none."""
    try:
        joined: str = ada_url.join_url(url, relative)
    except ValueError:
        return ""
    return joined


def with_encoded_query(href: str, encoding: str) -> str:
    """A reference of a page that is not in UTF-8: its query is in the page's encoding."""
    address, _, query = href.partition("?")
    query, hash_sign, fragment = query.partition("#")
    return f"{address}?{encode_query(query, encoding)}{hash_sign}{fragment}"


_DESCRIPTOR: Final = re.compile(r"(?:[^\t\n\f\r ,(]|\([^)]*(?:\)|\Z))+")


def parse_srcset(value: str) -> list[str]:
    """The URLs of a ``srcset`` whose descriptors are valid, as written.

    HTML standard, section 4.8.4.3.10: a comma may be part of a URL, and of parentheses.
    """
    candidates: list[str] = []
    at = 0
    while True:
        while at < len(value) and value[at] in "\t\n\f\r ,":
            at += 1
        if at >= len(value):
            return candidates
        start = at
        while at < len(value) and value[at] not in _HTML_SPACE:
            at += 1
        url = value[start:at]
        descriptors: list[str] = []
        if url.endswith(","):
            url = url.rstrip(",")
        else:
            at, descriptors = _descriptors(value, at)
        if _are_valid(descriptors):
            candidates.append(url)


def _descriptors(value: str, at: int) -> tuple[int, list[str]]:
    descriptors = []
    while at < len(value) and value[at] != ",":
        found = _DESCRIPTOR.match(value, at)
        if found:
            descriptors.append(found[0])
        at = found.end() if found else at + 1
    return at, descriptors


_WIDTH: Final = re.compile(r"[0-9]+w")
_HEIGHT: Final = re.compile(r"[0-9]+h")
_DENSITY: Final = re.compile(r"(?:-(?:0+(?:\.0+)?|\.0+)|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?x")


def _are_valid(descriptors: Sequence[str]) -> bool:
    widths = [text for text in descriptors if _WIDTH.fullmatch(text) and text.strip("0w")]
    heights = [text for text in descriptors if _HEIGHT.fullmatch(text) and text.strip("0h")]
    densities = [text for text in descriptors if _DENSITY.fullmatch(text)]
    if len(widths) + len(heights) + len(densities) != len(descriptors):
        return False
    if len(widths) > 1 or len(heights) > 1 or len(densities) > 1:
        return False
    return not (densities and (widths or heights)) and not (heights and not widths)
