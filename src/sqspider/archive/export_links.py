"""Writes the links of a page anew, where it lies as a file among others; every other byte stays as it is.

Only what a browser follows or loads: addresses in attributes, in ``srcset``, and in styles. What scripts make of a page
is not known here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Final

import ada_url

from sqspider.url import canonicalize
from sqspider.web.attributes import attributes_of
from sqspider.web.charset import decode, encode_query, encoding_of_answer, mime_type_of
from sqspider.web.css_links import css_references, unescaped
from sqspider.web.links import base_url
from sqspider.web.tags import TAG

FindFile = Callable[[str], str | None]
"""By what a page leads to the file of a canonical URL; none: there is no such file."""

_ADDRESSES: Final = {
    "a": ("href",), "area": ("href",), "link": ("href", "imagesrcset"), "base": ("href",),
    "image": ("href", "xlink:href"), "use": ("href", "xlink:href"),
    "img": ("src", "srcset"), "source": ("src", "srcset"), "script": ("src", "href"),
    "iframe": ("src",), "frame": ("src",), "embed": ("src",), "audio": ("src",), "video": ("src", "poster"),
    "track": ("src",), "input": ("src",), "object": ("data",), "form": ("action",), "feimage": ("href", "xlink:href"),
}  # fmt: skip
_OF_SERVERS: Final = ("integrity", "crossorigin")
"""Attributes by which a browser refuses a file: it was written anew, and no server allows it to be read."""
_OF_ALL: Final = ("style", "background")  # attributes that any element may have
_PAGES: Final = ("text/html", "application/xhtml+xml")
_STYLES: Final = "text/css"
_SPACE: Final = "\t\n\f\r "
_START: Final = re.compile(rb"<(?=[A-Za-z]|!--)")
_COMMENT_END: Final = re.compile(rb"--!?>")
_TEXT_END: Final = {
    name: re.compile(rb"</" + name + rb"(?=[\t\n\f\r />])", re.IGNORECASE)
    for name in (b"script", b"style", b"textarea", b"title", b"xmp")
}  # of elements that hold text and no tags
_ATTRIBUTE: Final = re.compile(
    rb"(?P<name>[^\t\n\f\r />][^\t\n\f\r />=]*+)[\t\n\f\r ]*+=[\t\n\f\r ]*+"
    rb"(?:\"(?P<double>[^\"]*+)\"|'(?P<single>[^']*+)'|(?P<bare>[^\t\n\f\r >\"'][^\t\n\f\r >]*+))"
    rb"|(?P<alone>[^\t\n\f\r />][^\t\n\f\r />=]*+)"
)
_HIDES_BACKSLASHES: Final = frozenset({"shift_jis", "gbk", "gb18030", "big5"})  # as the second byte of a character
_NOT_IN_STRING: Final = {ord(char): f"%{ord(char):02X}" for char in '"\\\n\r\f'}


def can_be_relinked(headers: Sequence[tuple[str, str]]) -> bool:
    """Whether an answer has links that :func:`relinked` finds."""
    return _essence(headers) in (*_PAGES, _STYLES)


def _essence(headers: Sequence[tuple[str, str]]) -> str:
    kind = mime_type_of([value for name, value in headers if name.lower() == "content-type"])
    return kind.essence if kind else ""


def relinked(body: bytes, url: str, headers: Sequence[tuple[str, str]], find: FindFile) -> bytes:
    """A page, or a style sheet, with its links written anew: to files where there are such, else in full.

    ``url``: its own, canonical. What is neither comes back as it is.
    """
    if not can_be_relinked(headers):
        return body
    essence = _essence(headers)
    encoding = encoding_of_answer(body, headers)
    if not encoding.startswith("utf-16"):
        links = _Links(url, encoding, find)
        return links.in_styles(body) if essence == _STYLES else links.in_page(body)
    # Its bytes are no ASCII: read as UTF-8, and written as it was.
    text = decode(body, encoding)
    python_name = encoding.replace("utf-16", "utf-16-")
    mark = b"\xff\xfe" if encoding == "utf-16le" else b"\xfe\xff"
    if text.removeprefix("\ufeff").encode(python_name, "replace") != body.removeprefix(mark):
        return body
    links = _Links(url, "utf-8", find)
    octets = text.removeprefix("\ufeff").encode()
    done = links.in_styles(octets) if essence == _STYLES else links.in_page(octets)
    return (mark if body.startswith(mark) else b"") + done.decode().encode(python_name)


class _Links:
    """Where the links of one document lead."""

    def __init__(self, url: str, encoding: str, find: FindFile) -> None:
        self._url = url
        self._base = url  # the page's, once its ``base`` is met
        self._has_base = False
        self._encoding = encoding  # in which ASCII is ASCII
        self._find = find
        self._files = 0  # that were found

    def in_page(self, body: bytes) -> bytes:
        """Everything but its links is copied as it is written."""
        out, done, at = [], 0, 0
        while start := _START.search(body, at):
            at = start.start()
            if body.startswith(b"<!--", at):
                end = _COMMENT_END.search(body, at + 2)
                at = end.end() if end else len(body)
            elif tag := TAG.match(body, at):
                out += [body[done:at], self._in_tag(tag[1], tag[2])]
                at = done = tag.end()
                if text_end := _TEXT_END.get(tag[1].lower()):
                    end = text_end.search(body, at)
                    at = end.start() if end else len(body)
                    if tag[1].lower() == b"style":
                        out.append(self.in_styles(body[done:at]))
                        done = at
            else:
                at += 1
        return b"".join([*out, body[done:]])

    def in_styles(self, body: bytes) -> bytes:
        """The same for a style sheet, or a piece of one."""
        if self._encoding in _HIDES_BACKSLASHES and b"\\" in body:
            return body  # where a string ends is not told by its bytes
        return self._in_style(body, self._encoding)

    def _in_style(self, body: bytes, encoding: str) -> bytes:
        out, done = [], 0
        text = body.decode("latin-1")  # so that each character is a byte
        for start, end in css_references(text):
            new = self._address(unescaped(decode(body[start:end], encoding))) if start < end else None
            if new is None:
                continue
            if (sign := text[start - 1]) in "\"'":
                if text[end : end + 1] != sign:  # the style sheet ends amid it
                    continue
                start, end = start - 1, end + 1
            out += [body[done:start], b'"%b"' % new.translate(_NOT_IN_STRING).encode()]
            done = end
        return b"".join([*out, body[done:]])

    def _in_tag(self, name: bytes, written: bytes) -> bytes:
        wanted = _ADDRESSES.get(name.lower().decode("latin-1"), ())
        if wanted or any(name in written.lower() for name in (b"style", b"background")):
            seen: set[str] = set()  # the first of a name counts
            files = self._files
            if name.lower() == b"base":
                self._note_base(written)
            written = _ATTRIBUTE.sub(lambda found: self._in_attribute(found, wanted, name.lower(), seen), written)
            if self._files > files:
                written = _ATTRIBUTE.sub(_but_of_servers, written)
        return b"<" + name + written + b">"

    def _note_base(self, written: bytes) -> None:
        href = attributes_of(written).get("href")
        if href is not None and not self._has_base:
            self._has_base = True
            self._base = base_url(href, self._url)

    def _in_attribute(self, found: re.Match[bytes], wanted: Sequence[str], tag: bytes, seen: set[str]) -> bytes:
        if found["name"] is None:
            return found[0]
        name = found["name"].lower().decode("latin-1")
        if name in seen or name not in (*_OF_ALL, *wanted):
            return found[0]
        seen.add(name)
        value = attributes_of(b"x=" + found[0].partition(b"=")[2].lstrip(_SPACE.encode()))["x"] or ""
        value = self._read(found, value)
        if tag == b"base":
            new: str | None = ""  # what leads on from it is written out below
        elif name == "style":
            new = self._in_style(value.encode(), "utf-8").decode()
        elif name.endswith("srcset"):
            new = self._srcset(value)
        else:
            new = self._address(value)
        if new is None or new == value:
            return found[0]
        return found["name"] + b'="' + escape(new).encode("ascii", "xmlcharrefreplace") + b'"'

    def _read(self, found: re.Match[bytes], value: str) -> str:
        """The value in the document's encoding: that of the references in it is known already."""
        if self._encoding == "utf-8" or value.isascii():
            return value
        octets = next(filter(None, (found["double"], found["single"], found["bare"])), b"")
        text = decode(octets, self._encoding).replace('"', "&quot;").encode()
        return attributes_of(b'x="' + text + b'"')["x"] or ""

    def _srcset(self, value: str) -> str:
        """Its addresses; what is between them stays as it is written."""
        out, at = [], 0
        while at < len(value):
            start = at
            while at < len(value) and value[at] in _SPACE + ",":
                at += 1
            out.append(value[start:at])
            start = at
            while at < len(value) and value[at] not in _SPACE:
                at += 1
            address = value[start:at].rstrip(",")
            if address:
                out.append(self._address(address) or address)
            out.append(value[start + len(address) : at])
            if at < len(value) and not value[start:at].endswith(","):
                comma = _end_of_descriptors(value, at)
                out.append(value[at:comma])
                at = comma
        return "".join(out)

    def _address(self, written: str) -> str | None:
        """What an address is to say; none: what it says."""
        address = written.strip("".join(map(chr, range(33))))
        if not self._has_base and (not address or address.startswith("#")):
            return None  # a place in the page itself
        if self._encoding != "utf-8" and "?" in address and not address.isascii():
            before, _, query = address.partition("?")
            query, sign, fragment = query.partition("#")
            address = f"{before}?{encode_query(query, self._encoding)}{sign}{fragment}"
        url = canonicalize(address, self._base)
        if not isinstance(url, str):
            return self._in_full(address)
        fragment = "".join(address.partition("#")[1:])
        file = self._find(url)
        self._files += file is not None
        return (file or url) + (fragment if len(fragment) > 1 else "")

    def _in_full(self, address: str) -> str | None:
        """Of what is no page of the web: ``mailto:`` and the like stay; what was relative is none any more."""
        try:
            joined: str = ada_url.join_url(self._base, address)
        except ValueError:
            return None
        return joined if joined.startswith(("http:", "https:")) else None


def _but_of_servers(found: re.Match[bytes]) -> bytes:
    name = found["name"] or found["alone"]
    return b"" if name.lower().decode("latin-1") in _OF_SERVERS else found[0]


def _end_of_descriptors(value: str, at: int) -> int:
    """Where the next candidate of a ``srcset`` begins: behind a comma that is in no parentheses."""
    depth = 0
    while at < len(value):
        if value[at] == "(":
            depth += 1
        elif value[at] == ")":
            depth = max(0, depth - 1)
        elif value[at] == "," and not depth:
            return at
        at += 1
    return at
