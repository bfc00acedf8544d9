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

import functools
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from sqspider.web.attributes import Attributes, attributes_of, decoded, has_required, text_of
from sqspider.web.open_elements import ORDINARY, Place
from sqspider.web.tags import TAG, run_up_to

MARKUP: Final = re.compile(rb"<[A-Za-z/!?]")
_COMMENT_END: Final = re.compile(rb"--!?>")
_BLANKS: Final = re.compile(rb"[\t\n\f\r ]*")
_SCRIPT_MARKS: Final = re.compile(rb"<!--|-->|<(/?)script(?=[\t\n\f\r />])", re.IGNORECASE)
TEXT_END: Final = {
    name: re.compile(rb"</" + name + rb"(?=[\t\n\f\r />])", re.IGNORECASE)
    for name in (b"style", b"title", b"textarea", b"xmp", b"iframe", b"noembed", b"noframes", b"noscript")
}

_HOLDS_TEXT: Final = frozenset({*TEXT_END, b"script", b"plaintext"})
_CHANGES_WHAT_FOLLOWS: Final = _HOLDS_TEXT | {b"svg", b"math", b"template", b"frameset"}
# 13.2.6.4.7: what comes too late for a frameset.
_RULES_OUT_FRAMES: Final = frozenset(
    b"applet area body br button dd dt embed hr iframe image img input keygen li listing marquee object pre select"
    b" table textarea wbr xmp".split()
)


MAX_TITLE_BYTES: Final = 65_536  # that are read of a title: references in it take seventy times as much while they are
PAGE_TAGS: Final = ("a", "area", "frame", "iframe", "base", "meta")


def elements_of(document: bytes, tags: Collection[str]) -> Iterator[tuple[str, Attributes]]:
    """The elements of a UTF-8 document that have one of these tags, and its first title.

    The text of the title stands where an attribute with an empty name would. Those of ``REQUIRED``
    are left out without their attribute (in SVG and MathML ``xlink:href`` does for ``href``), and
    all that is in a ``template``. A ``base`` inside ``noscript`` does not count: browsers run
    scripts.
    """
    for element in page_elements(document, tags):
        yield ("a", {"href": decoded(element)}) if isinstance(element, bytes) else element


def page_elements(document: bytes, tags: Collection[str]) -> Iterator[tuple[str, Attributes] | bytes]:
    """The same, where most links are the bytes of their addresses alone: without a fragment and references to
    characters, and without ``rel=nofollow``. A page has many, to few places: those are to be decoded once."""
    return _Scanner(document, tags).elements()


@functools.cache
def _wanted(tags: tuple[str, ...]) -> Mapping[bytes, str]:
    images = {b"image": "img"} if "img" in tags else {}
    return {tag.encode(): tag for tag in tags} | images


@functools.cache
def _run(tags: tuple[str, ...]) -> re.Pattern[bytes]:
    return run_up_to(frozenset(_wanted(tags)), _CHANGES_WHAT_FOLLOWS)


class _Scanner:
    """One pass over a document. Whatever begins and does not end takes the rest of it along, as it
    does in a browser; going on behind its beginning would search for its end again and again.

    What says nothing is passed over in one go, and what opens and closes there is not known. Hardly ever does it
    matter; where it does, an account goes over it once more, tag by tag.
    """

    def __init__(self, document: bytes, tags: Collection[str], *, with_scripts: bool = False) -> None:
        self._document = document
        self._with_scripts = with_scripts  # then what is in a noscript is text
        self._tags = tuple(tags)
        self._wanted = _wanted(self._tags)
        self._place = Place()
        self._at = 0  # -1: the document has ended
        self._may_have_frames = True  # nothing is known to have come that rules a frameset out
        self._has_frames = False
        self._framesets = 0  # that are open
        self._has_title = self._has_base = self._has_noscript = False
        self._tag_at = 0  # where the last tag begins
        self._parts_at = 0  # where the outermost part does that is open
        self._account: _Account | None = None

    def elements(self) -> Iterator[tuple[str, Attributes] | bytes]:
        document, place = self._document, self._place
        run = _run(self._tags)
        while self._at >= 0:
            if not place.parts and not self._has_frames:
                passed = run.match(document, self._at)
                assert passed is not None  # nothing is a run, too
                self._at = passed.end()
                if passed.lastindex:
                    yield passed[passed.lastindex]
                    continue
            tag = self._next_tag(len(document))
            if tag is None:
                return
            name = tag[1].lower()
            if name.startswith(b"/"):
                self._end(name[1:])
            else:
                if not place.parts:
                    self._parts_at = self._tag_at
                if element := self._start(name, tag[2]):
                    yield element

    def _next_tag(self, end: int) -> re.Match[bytes] | None:
        """The next tag that begins before ``end``; comments and the like are passed over."""
        document = self._document
        while self._at >= 0:
            found = MARKUP.search(document, self._at)
            at = found.start() if found else len(document)
            if self._may_have_frames:
                self._may_have_frames = _BLANKS.fullmatch(document, self._at, at) is not None
            if at >= end:
                return None
            tag = TAG.match(document, at)
            self._tag_at = at
            self._at = tag.end() if tag else end_of_other_markup(document, at, self._place.is_foreign)
            if tag:
                return tag
        return None

    def _end(self, name: bytes) -> None:
        place = self._place
        if not place.parts or place.end(name):
            pass
        elif place.parts and self._account_up_to(self._parts_at).has_open(name):  # a </p> may have ended them itself
            place.parts.clear()
        if name == b"frameset" and self._framesets:
            self._framesets -= 1

    def _account_up_to(self, at: int) -> _Account:
        if self._account is None:
            self._account = _Account(self._document, with_scripts=self._with_scripts)
        self._account.go_to(at)
        return self._account

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
        if name == b"frameset" and (self._framesets or (self._place.takes_frames and self._takes_frames())):
            self._has_frames = True
            self._framesets += 1
        if self._may_have_frames:
            self._may_have_frames = not self._has_frames and name not in _RULES_OUT_FRAMES
        return self._has_frames

    def _takes_frames(self) -> bool:
        """Whether nothing has ruled frames out."""
        if self._may_have_frames:
            self._may_have_frames = self._account_up_to(self._tag_at)._may_have_frames
        return self._may_have_frames

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
                self._end(name)
            else:
                self._has_noscript = True
        elif name == b"plaintext":
            self._at = -1
        elif name == b"script":
            self._at = end_of_script(self._document, self._at)
        else:
            text = self._skip_text(name)
            if name == b"title" and not self._has_title and not self._place.parts:
                self._has_title = True
                return "title", {"": text_of(text[:MAX_TITLE_BYTES])}
        return None

    def _first_base(self, base: tuple[str, Attributes]) -> tuple[str, Attributes] | None:
        """Only the first one counts, and none in a noscript: browsers run scripts."""
        if self._has_base:
            return None
        self._has_base = True
        if not self._has_noscript:
            return base
        elements = _Scanner(self._document, ["base"], with_scripts=True).elements()
        return next((each for each in elements if not isinstance(each, bytes) and each[0] == "base"), None)

    def _skip_text(self, name: bytes) -> bytes:
        """The text up to an end tag, or up to the end of the document."""
        start = self._at
        end = TEXT_END[name].search(self._document, start)
        tag = end and TAG.match(self._document, end.start())
        self._at = tag.end() if tag else -1
        return self._document[start : end.start() if end else None]


class _Account(_Scanner):
    """What was passed over, tag by tag: which elements stay open there, and whether a frameset may come yet."""

    def __init__(self, document: bytes, *, with_scripts: bool) -> None:
        super().__init__(document, (), with_scripts=with_scripts)
        self._place.open.update(dict.fromkeys(ORDINARY, 0))

    def go_to(self, at: int) -> None:
        place = self._place
        opened, plain = place.open, ORDINARY - {b"a"}
        while (tag := self._next_tag(at)) is not None:
            name = tag[1].lower()
            if name in plain and not place.parts and not self._may_have_frames:
                opened[name] += 1  # most tags are of this kind: in short
            elif name.startswith(b"/"):
                self._end(name[1:])
            else:
                self._start(name, tag[2])

    def has_open(self, name: bytes) -> bool:
        return self._place.open.get(name, 0) > 0

    def _end(self, name: bytes) -> None:
        if not self._place.end(name):
            self._place.end_outside(name)
        if name == b"frameset" and self._framesets:
            self._framesets -= 1

    def _takes_frames(self) -> bool:
        return self._may_have_frames


def end_of_script(document: bytes, at: int) -> int:
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
            tag = TAG.match(document, mark.start())
            return tag.end() if tag else -1
        elif in_comment:
            in_inner_script = not mark[1]
    return -1


def end_of_other_markup(document: bytes, at: int, is_foreign: bool) -> int:
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
