"""What is written at the links of a page: their words and their ``rel``.

A second look at a page, for who asks for it: which links a page has is told by ``links``, in one quick pass that reads
no words. This one reads them in linear time, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from sqspider.url import canonicalize
from sqspider.web.attributes import attributes_of, text_of
from sqspider.web.charset import encoding_of_answer
from sqspider.web.links import base_url, in_utf_8, with_encoded_query
from sqspider.web.tags import TAG

MAX_TEXT_BYTES: Final = 4096  # that are read of the words of one link

_SKIPPED: Final = re.compile(
    rb"<!--.*?(?:--!?>|\Z)"
    rb"|<(script|style|template|textarea|title|xmp|noembed|noframes)(?=[\t\n\f\r />]).*?(?:</\1[^>]*+>?|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_TAG_BEGINS: Final = re.compile(rb"</?[A-Za-z]")
_WITHOUT_TEXT: Final = (b"area", b"frame", b"iframe", b"base")
_BREAKS: Final = frozenset(b"br p /p div /div li /li td /td th /th tr /tr h1 h2 h3 h4 h5 h6 hr".split())


class Anchor(NamedTuple):
    """What is written at a link."""

    text: str = ""
    rel: tuple[str, ...] = ()


def anchors_of(
    body: bytes, url: str, headers: Sequence[tuple[str, str]], *, drop_tracking: bool = False
) -> dict[str, Anchor]:
    """What is written at the links of a page, by their canonical URLs: of several the first that has words."""
    encoding = encoding_of_answer(body, headers)
    document = _SKIPPED.sub(b" ", in_utf_8(body, encoding))
    base: str | None = None
    written: dict[str, Anchor] = {}
    for name, attributes, text in _elements(document):
        values = attributes_of(attributes)
        href = values.get("href") or values.get("xlink:href") or values.get("src")
        if name == b"base":
            base = base if base is not None else href or ""
        elif href is not None and not _has_words(written, href):
            words = " ".join(text_of(text).split()) or values.get("alt") or ""
            written[href] = Anchor(words, tuple((values.get("rel") or "").lower().split()))
    found: dict[str, Anchor] = {}
    page = base_url(base, url)
    for href, anchor in written.items():
        if encoding != "utf-8" and "?" in href and not href.isascii():
            href = with_encoded_query(href, encoding)
        link = canonicalize(href, page, drop_tracking=drop_tracking)
        if isinstance(link, str) and not _has_words(found, link):
            found[link] = anchor
    return found


def _has_words(anchors: dict[str, Anchor], link: str) -> bool:
    return link in anchors and bool(anchors[link].text)


def _elements(document: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """What may be a link, or says what links are relative to: its name, its attributes and its text as written."""
    link: bytes | None = None  # the attributes of the one that is open
    text = bytearray()
    at = 0
    while True:
        mark = _TAG_BEGINS.search(document, at)
        tag = TAG.match(document, mark.start()) if mark else None
        if link is not None and len(text) < MAX_TEXT_BYTES:
            text += document[at : min(mark.start() if mark else len(document), at + MAX_TEXT_BYTES)]
        if tag is None:  # what has no end takes the rest along
            break
        at, name = tag.end(), tag[1].lower()
        if name in (b"a", b"/a"):
            if link is not None:
                yield b"a", link, bytes(text)
            link, text = (tag[2] if name == b"a" else None), bytearray()
        elif name in _BREAKS and len(text) < MAX_TEXT_BYTES:
            text += b" "
        elif name in _WITHOUT_TEXT:
            yield name, tag[2], b""
    if link is not None:
        yield b"a", link, bytes(text)
