"""HTML read tag by tag, without a tree: in linear time, and in memory that does not grow with it.

What a tag means depends on where it stands: the text of a ``style`` is no markup, but in SVG it is;
what is in a ``template`` is not on the page. So the scanner keeps the names of what is open, and
finds the elements that the tree has, but for what takes a whole tree to know:

* what stands wrongly inside a table stays there, and is not moved in front of it (order alone);
* a ``frameset`` does not take back what came before it;
* inside SVG, MathML and templates, HTML whose end tags do not match its start tags may end there
  sooner or later than in the tree, as may what is deeper than ``open_elements.MAX_DEPTH``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Final

from sqspider.web.attributes import TAG_NAME, Attributes, attributes_of, has_required, text_of
from sqspider.web.open_elements import ORDINARY, Place

_MARKUP: Final = re.compile(rb"<[A-Za-z/!?]")
_TAG: Final = re.compile(
    rb"<(/?[A-Za-z]" + TAG_NAME + rb"*+)"
    rb"((?:[\t\n\f\r /]++|" + TAG_NAME + rb"[^\t\n\f\r />=]*+"
    rb"(?:[\t\n\f\r ]*+=[\t\n\f\r ]*+"
    rb"(?:\"[^\"]*+\"|'[^']*+'|[^\t\n\f\r >\"'][^\t\n\f\r >]*+|(?=>))"
    rb"|(?![\t\n\f\r ]*+=)))*+)>"
)
_COMMENT_END: Final = re.compile(rb"--!?>")
_BLANKS: Final = re.compile(rb"[\t\n\f\r ]*")
_SCRIPT_MARKS: Final = re.compile(rb"<!--|-->|<(/?)script(?=[\t\n\f\r />])", re.IGNORECASE)
_TEXT_END: Final = {
    name: re.compile(rb"</" + name + rb"(?=[\t\n\f\r />])", re.IGNORECASE)
    for name in (b"style", b"title", b"textarea", b"xmp", b"iframe", b"noembed", b"noframes", b"noscript")
}

_HOLDS_TEXT: Final = frozenset({*_TEXT_END, b"script", b"plaintext"})
# 13.2.6.4.7: what comes too late for a frameset.
_RULES_OUT_FRAMES: Final = frozenset(
    b"applet area body br button dd dt embed hr iframe image img input keygen li listing marquee object pre select"
    b" table textarea wbr xmp".split()
)


def scanned_elements(document: bytes, tags: Collection[str]) -> Iterator[tuple[str, Attributes]]:
    """What :func:`sqspider.web.markup.elements_of` finds, without a tree."""
    return _Scanner(document, tags).elements()


class _Scanner:
    """One pass over a document. Whatever begins and does not end takes the rest of it along, as it
    does in a browser; going on behind its beginning would search for its end again and again."""

    def __init__(self, document: bytes, tags: Collection[str], *, with_scripts: bool = False) -> None:
        self._document = document
        self._with_scripts = with_scripts  # then what is in a noscript is text
        self._wanted = {tag.encode(): tag for tag in tags}
        if "img" in tags:
            self._wanted[b"image"] = "img"
        self._place = Place()
        self._at = 0  # -1: the document has ended
        self._may_have_frames = True  # nothing came that rules a frameset out
        self._has_frames = False
        self._framesets = 0  # that are open
        self._has_title = self._has_base = self._has_noscript = False

    def elements(self) -> Iterator[tuple[str, Attributes]]:
        document, place = self._document, self._place
        opened = place.open
        plain = ORDINARY - self._wanted.keys()
        while self._at >= 0 and (found := _MARKUP.search(document, self._at)):
            at = found.start()
            if self._may_have_frames:
                self._may_have_frames = _BLANKS.fullmatch(document, self._at, at) is not None
            tag = _TAG.match(document, at)
            if tag is None:
                self._at = _end_of_other_markup(document, at, place.is_foreign)
                continue
            self._at = tag.end()
            name = tag[1].lower()
            if name in plain and not place.parts and not self._may_have_frames:
                place.open[name] += 1  # most tags are of this kind: in short
            elif name.startswith(b"/"):
                name = name[1:]
                if place.parts or name == b"frameset":
                    self._end(name)
                elif opened.get(name):
                    opened[name] -= 1
            elif element := self._start(name, tag[2]):
                yield element

    def _end(self, name: bytes) -> None:
        self._place.end(name)
        if name == b"frameset" and self._framesets:
            self._framesets -= 1

    def _start(self, name: bytes, written: bytes) -> tuple[str, Attributes] | None:
        if self._is_of_frames(name):
            if name == b"noframes":
                self._skip_text(name)
            return self._element(name, written) if name == b"frame" and self._framesets else None
        is_html = self._place.start(name, written)
        element = None
        if name in self._wanted and not (is_html and name == b"frame") and not self._place.is_in_template:
            element = self._element(name, written, is_html=is_html)
        if name == b"base" and element is not None:
            element = self._first_base(element)
        if is_html and name in _HOLDS_TEXT:
            element = self._read_text(name) or element
        return element

    def _is_of_frames(self, name: bytes) -> bool:
        """Whether a tag stands in a page of frames, in which nothing else is heeded."""
        if name == b"frameset" and (self._framesets or (self._may_have_frames and self._place.takes_frames)):
            self._has_frames = True
            self._framesets += 1
        if self._may_have_frames:
            self._may_have_frames = not self._has_frames and name not in _RULES_OUT_FRAMES
        return self._has_frames

    def _element(self, name: bytes, written: bytes, *, is_html: bool = True) -> tuple[str, Attributes] | None:
        tag = self._wanted.get(name)
        if tag is None or (name == b"image" and not is_html):
            return None
        attributes = attributes_of(written)
        return (tag, attributes) if has_required(tag, attributes, is_html=is_html) else None

    def _read_text(self, name: bytes) -> tuple[str, Attributes] | None:
        """Go behind an element that holds text and no markup; what it says, if it is the title."""
        if name == b"noscript":
            if self._with_scripts:
                self._skip_text(name)
                self._place.end(name)
            else:
                self._has_noscript = True
        elif name == b"plaintext":
            self._at = -1
        elif name == b"script":
            self._at = _end_of_script(self._document, self._at)
        else:
            text = self._skip_text(name)
            if name == b"title" and not self._has_title and not self._place.parts:
                self._has_title = True
                return "title", {"": text_of(text)}
        return None

    def _first_base(self, base: tuple[str, Attributes]) -> tuple[str, Attributes] | None:
        """Only the first one counts, and none in a noscript: browsers run scripts."""
        if self._has_base:
            return None
        self._has_base = True
        if not self._has_noscript:
            return base
        elements = _Scanner(self._document, ["base"], with_scripts=True).elements()
        return next((element for element in elements if element[0] == "base"), None)

    def _skip_text(self, name: bytes) -> bytes:
        """The text up to an end tag, or up to the end of the document."""
        start = self._at
        end = _TEXT_END[name].search(self._document, start)
        tag = end and _TAG.match(self._document, end.start())
        self._at = tag.end() if tag else -1
        return self._document[start : end.start() if end else None]


def _end_of_script(document: bytes, at: int) -> int:
    """Behind a script that begins at ``at``, -1 if it has no end. In a comment that begins in it, a
    script inside the script may end before it does (sections 13.2.5.15 to 13.2.5.31)."""
    in_comment = in_inner_script = False
    while mark := _SCRIPT_MARKS.search(document, at):
        at = mark.end()
        if mark[0] == b"<!--":
            at -= 2  # its hyphens may be those of its end, too
            in_comment = True
        elif mark[0] == b"-->":
            in_comment = in_inner_script = False
        elif mark[1] and not in_inner_script:
            tag = _TAG.match(document, mark.start())
            return tag.end() if tag else -1
        elif in_comment:
            in_inner_script = not mark[1]
    return -1


def _end_of_other_markup(document: bytes, at: int, is_foreign: bool) -> int:
    """Behind a comment or the like; -1 if it, or the tag that begins here, has no end."""
    if document.startswith((b"<!-->", b"<!--->"), at):
        return document.index(b">", at) + 1
    if document.startswith(b"<!--", at):
        comment_end = _COMMENT_END.search(document, at + 4)
        return comment_end.end() if comment_end else -1
    if is_foreign and document.startswith(b"<![CDATA[", at):
        end = document.find(b"]]>", at)
        return end + 3 if end >= 0 else -1
    if document[at + 1 : at + 2].isalpha() or (document[at + 2 : at + 3].isalpha() and document[at + 1] == 0x2F):
        return -1
    return document.find(b">", at) + 1 or -1
