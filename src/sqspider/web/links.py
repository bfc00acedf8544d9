"""The outlinks of a page: read, resolved, in canonical form.

What is done with them (scope, depth, whether they are known) is no matter of this module; nor is
how HTML is parsed, see ``markup``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

import ada_url
import msgspec

from sqspider.url import canonicalize
from sqspider.web.charset import decode, encode_query, encoding_of, mime_type_of
from sqspider.web.markup import elements_of

MAX_LINKS: Final = 50_000  # of one page: as many as a sitemap may have
MAX_TITLE_CHARACTERS: Final = 300

_PAGE_TYPES: Final = ("text/html", "application/xhtml+xml")
_LOOKS_LIKE_HTML: Final = re.compile(
    rb"(?:\xef\xbb\xbf)?[\t\n\f\r ]*<(?:!--|(?:!doctype html|html|head|script|iframe|h1|div|font|table|a"
    rb"|style|title|b|body|br|p)[ >])",
    re.IGNORECASE,
)  # MIME Sniffing standard, section 7.1
_HTML_SPACE: Final = "\t\n\f\r "


class PageLinks(msgspec.Struct, frozen=True, kw_only=True):
    """What a crawler takes from a page."""

    title: str | None  # white space collapsed, cut at 300 characters
    links: tuple[str, ...]  # canonical, each once, in document order; the page itself may be among them
    nofollow: bool  # none of them may be followed: the page says so, and it is obeyed
    noindex: bool  # the page asks not to be shown in search results


class LinkOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What counts as a link."""

    meta_refresh: bool = False  # the target of <meta http-equiv=refresh>
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
    """The links of a page, or ``None`` if the answer is no HTML.

    ``body`` is decompressed, ``url`` where it was found at last, canonical. What it is, its
    content type says; only without a valid one do its first bytes. Links are those of ``a`` and
    ``area``, relative to ``base``; what is no URL that we crawl is left out, as is what a page
    has beyond ``MAX_LINKS``. ``product_token`` is the name under which robots directives may
    address us.
    """
    mime_type = mime_type_of([value for name, value in headers if name.lower() == "content-type"])
    is_page = mime_type.essence in _PAGE_TYPES if mime_type else _LOOKS_LIKE_HTML.match(body)
    if not is_page:
        return None
    encoding = encoding_of(body, mime_type.charset if mime_type else None)
    if encoding != "utf-8":
        body = decode(body, encoding).encode("utf-8", "replace")
    reader = _Reader(options, product_token)
    reader.read_headers(headers)
    reader.read_document(body)
    return PageLinks(
        title=reader.title,
        links=_resolve(reader.hrefs, _base_url(reader.base, url), encoding, options),
        nofollow=reader.nofollow and options.obey_nofollow,
        noindex=reader.noindex,
    )


class _Reader:
    """Gathers what is written in a page, before any of it is resolved."""

    def __init__(self, options: LinkOptions, product_token: str) -> None:
        self._options = options
        self._agents = ("robots", product_token.lower())
        self.hrefs: dict[str, None] = {}  # as written, without fragments; a set that keeps order
        self.base: str | None = None
        self.title: str | None = None
        self.nofollow = self.noindex = False

    def read_headers(self, headers: Iterable[tuple[str, str]]) -> None:
        for name, value in headers:
            if name.lower() == "x-robots-tag":
                self._obey(_directives_for(value, self._agents))

    def read_document(self, document: bytes) -> None:
        tags = ["a", "area", "base", "meta"]
        if self._options.srcset:
            tags += ["img", "source"]
        for tag, attributes in elements_of(document, tags):
            if tag in ("a", "area"):
                rel = attributes.get("rel")
                if not (rel and self._options.obey_nofollow and "nofollow" in rel.lower().split()):
                    self._add(attributes["href"] or "")
            elif tag == "base":
                if self.base is None:
                    self.base = attributes["href"] or ""
            elif tag == "title":
                self.title = " ".join((attributes[""] or "").split())[:MAX_TITLE_CHARACTERS] or None
            elif tag == "meta":
                self._read_meta(attributes)
            else:
                for image in parse_srcset(attributes["srcset"] or ""):
                    self._add(image)
            if len(self.hrefs) >= MAX_LINKS:
                break

    def _read_meta(self, attributes: dict[str, str | None]) -> None:
        content = attributes.get("content")
        if content is None:
            return
        if (attributes.get("name") or "").lower() in self._agents:
            self._obey(directive.strip().lower() for directive in content.split(","))
        elif self._options.meta_refresh and (attributes.get("http-equiv") or "").lower() == "refresh":
            target = parse_meta_refresh(content)
            if target:
                self._add(target)

    def _obey(self, directives: Iterable[str]) -> None:
        for directive in directives:
            self.nofollow |= directive in ("nofollow", "none")
            self.noindex |= directive in ("noindex", "none")

    def _add(self, href: str) -> None:
        # A page has many links into itself: without fragments they are one.
        address, hash_sign, _ = href.partition("#")
        # Blanks before a fragment are part of the URL, at the end of it they are not.
        self.hrefs[href if hash_sign and address and address[-1] <= " " else address] = None


def _directives_for(value: str, agents: Sequence[str]) -> Iterator[str]:
    """The directives of one X-Robots-Tag header that are addressed to everybody or to us.

    "nofollow", "otherbot: noindex, nofollow": a name holds for all that follows it.
    """
    is_for_us = True
    for part in value.split(","):
        name, colon, directive = part.partition(":")
        if colon and not name.strip().lower().startswith(("unavailable", "max-")):
            is_for_us = name.strip().lower() in agents
        else:
            directive = part
        if is_for_us:
            yield directive.strip().lower()


def _base_url(base: str | None, url: str) -> str:
    """HTML standard, section 4.2.3: a base that is no URL, or one of two schemes, is ignored."""
    if base is None:
        return url
    try:
        resolved: str = ada_url.join_url(url, base)
    except ValueError:
        return url
    return url if resolved.startswith(("data:", "javascript:")) else resolved


def _resolve(hrefs: Iterable[str], base: str, encoding: str, options: LinkOptions) -> tuple[str, ...]:
    links: dict[str, None] = {}
    for href in hrefs:
        if encoding != "utf-8" and "?" in href and not href.isascii():
            href = _with_encoded_query(href, encoding)
        link = canonicalize(href, base, drop_tracking=options.drop_tracking)
        if isinstance(link, str):
            links[link] = None
    return tuple(links)


def _with_encoded_query(href: str, encoding: str) -> str:
    address, _, query = href.partition("?")
    query, hash_sign, fragment = query.partition("#")
    return f"{address}?{encode_query(query, encoding)}{hash_sign}{fragment}"


_REFRESH: Final = re.compile(
    r"[\t\n\f\r ]*(?:[0-9]+[0-9.]*|\.[0-9.]*)(?:[\t\n\f\r ]*[;,]|[\t\n\f\r ])[\t\n\f\r ]*(.*)", re.DOTALL
)
_REFRESH_URL: Final = re.compile(
    r"(?:url[\t\n\f\r ]*=[\t\n\f\r ]*)?(?:\"([^\"]*)|'([^']*)|(.*))", re.DOTALL | re.IGNORECASE
)


def parse_meta_refresh(content: str) -> str | None:
    """Where a ``refresh`` leads, as written; empty: to the page itself; ``None``: it is none.

    HTML standard, section 4.2.5.3, "shared declarative refresh steps".
    """
    refresh = _REFRESH.match(content)
    if refresh is None:
        return "" if re.fullmatch(r"[\t\n\f\r ]*(?:[0-9]+[0-9.]*|\.[0-9.]*)", content) else None
    target = _REFRESH_URL.match(refresh[1])
    assert target is not None  # its last alternative takes anything
    return next(group for group in target.groups() if group is not None).strip(_HTML_SPACE)


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
_DENSITY: Final = re.compile(r"(?:-0(?:\.0+)?|[0-9]+(?:\.[0-9]+)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?x")


def _are_valid(descriptors: Sequence[str]) -> bool:
    widths = [text for text in descriptors if _WIDTH.fullmatch(text) and text.strip("0w")]
    heights = [text for text in descriptors if _HEIGHT.fullmatch(text) and text.strip("0h")]
    densities = [text for text in descriptors if _DENSITY.fullmatch(text)]
    if len(widths) + len(heights) + len(densities) != len(descriptors):
        return False
    if len(widths) > 1 or len(heights) > 1 or len(densities) > 1:
        return False
    return not (densities and (widths or heights)) and not (heights and not widths)
