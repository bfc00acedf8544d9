"""What a page or a stylesheet needs to be shown: images, styles, scripts, fonts, icons and media, in canonical form.

Read tag by tag, in linear time, as :mod:`sqspider.web.scanner` does; but here every tag is looked at, for any may have
a ``style``. Frames are pages, which a crawler follows as links.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from sqspider.web.attributes import Attributes, attributes_of, decoded, is_self_closing
from sqspider.web.charset import decode, encoding_of_answer
from sqspider.web.css_links import css_links
from sqspider.web.links import base_url, in_utf_8, is_xml, parse_srcset, resolver, type_of_answer
from sqspider.web.scanner import MARKUP, TEXT_END, end_of_other_markup, end_of_script
from sqspider.web.tags import TAG

CSS_TYPE: Final = "text/css"

_ADDRESSES: Final = {
    b"img": ("src",), b"image": ("href", "xlink:href", "src"), b"input": ("src",), b"script": ("src", "href"),
    b"source": ("src",), b"video": ("src", "poster"), b"audio": ("src",), b"track": ("src",), b"embed": ("src",),
    b"object": ("data",), b"use": ("href", "xlink:href"), b"feimage": ("href", "xlink:href"),
}  # fmt: skip
_SETS: Final = {b"img": "srcset", b"source": "srcset", b"link": "imagesrcset"}
_RELATIONS: Final = frozenset({
    "stylesheet", "icon", "apple-touch-icon", "apple-touch-icon-precomposed", "mask-icon", "preload", "modulepreload",
})  # fmt: skip
"""As what a ``link`` needs its target; what it leads to as anything else is for a reader to ask for."""
_STYLED: Final = re.compile(rb"style|background", re.IGNORECASE)


def requisites_of_page(body: bytes, url: str, headers: Sequence[tuple[str, str]], encoding: str) -> list[str]:
    """What an HTML page needs, each once, in document order. ``encoding``: by which it was read for its links."""
    reader = _Reader(is_xml=is_xml(type_of_answer(body, headers)[0]))
    written = dict.fromkeys(reader.written_in(in_utf_8(body, encoding or "utf-8")))
    return _resolved(written, base_url(reader.base, url), encoding or "utf-8")


def requisites_of_style(body: bytes, url: str, headers: Sequence[tuple[str, str]]) -> list[str]:
    """What a stylesheet needs; of what is none nothing."""
    if type_of_answer(body, headers)[0] != CSS_TYPE:
        return []
    encoding = encoding_of_answer(body, headers)
    return _resolved(dict.fromkeys(css_links(decode(body, encoding))), url, encoding)


def _resolved(written: Iterable[str], base: str, encoding: str) -> list[str]:
    """The URLs that can be fetched. A reference to a part of the document itself needs nothing else."""
    resolved, found = resolver(base, encoding), dict[str, None]()
    for reference in written:
        address = reference.partition("#")[0]
        if address.strip("\t\n\f\r ") and isinstance(link := resolved(address), str):
            found[link] = None
    return list(found)


class _Reader:
    """One pass over a page."""

    def __init__(self, *, is_xml: bool) -> None:
        self.base: str | None = None  # the first; known once all is read
        self._is_xml = is_xml  # an element that closes itself holds no text
        self._templates = 0  # that are open: what is in them is not on the page

    def written_in(self, document: bytes) -> Iterator[str]:
        """References as they are written. What begins and does not end takes the rest along."""
        at = 0
        while at >= 0 and (found := MARKUP.search(document, at)):
            tag = TAG.match(document, found.start())
            if tag is None:
                at = end_of_other_markup(document, found.start(), self._is_xml)
                continue
            at, name = tag.end(), tag[1].lower()
            if name.endswith(b"template"):
                self._count_template(name)
            if not self._templates:
                yield from self._in_tag(name, tag[2])
            if name == b"script" or name in _HOLDS_TEXT:
                if self._is_xml and is_self_closing(tag[2]):
                    continue
                start, at = at, _end_of_text(document, name, at)
                if name == b"style" and not self._templates:
                    yield from css_links(decoded(document[start : at if at >= 0 else None]))

    def _count_template(self, name: bytes) -> None:
        if name == b"template":
            self._templates += 1
        elif name == b"/template" and self._templates:
            self._templates -= 1

    def _in_tag(self, name: bytes, written: bytes) -> Iterator[str]:
        addresses = _ADDRESSES.get(name, ())
        if not addresses and name not in (b"link", b"base") and not _STYLED.search(written):
            return
        attributes = attributes_of(written)
        if name == b"base" and self.base is None and attributes.get("href") is not None:
            self.base = attributes["href"]
        for each in (*addresses, "background", *(("href",) if name == b"link" and _is_needed(attributes) else ())):
            if value := attributes.get(each):
                yield value
        if candidates := attributes.get(_SETS.get(name, "")):
            yield from parse_srcset(candidates)
        if style := attributes.get("style"):
            yield from css_links(style)


_HOLDS_TEXT: Final = frozenset(TEXT_END) - {b"noscript"}  # what is in that is for whoever runs no scripts


def _is_needed(attributes: Attributes) -> bool:
    return not _RELATIONS.isdisjoint((attributes.get("rel") or "").lower().split())


def _end_of_text(document: bytes, name: bytes, at: int) -> int:
    """Where the text of an element ends; -1: with the document."""
    if name == b"script":
        return end_of_script(document, at)
    end = TEXT_END[name].search(document, at)
    return end.start() if end else -1
