"""HTML read tag by tag, without a tree: in linear time, and in memory that does not grow with it.

What a tag means depends on where it stands: the text of a ``style`` is no markup, but in SVG it is;
what is in a ``template`` is not on the page. So the scanner keeps the names of what is open, and
finds the elements that the tree has, but for what takes a whole tree to know:

* what stands wrongly inside a table stays there, and is not moved in front of it (order alone);
* a ``frameset`` does not take back what came before it;
* inside SVG, MathML and templates, HTML whose end tags do not match its start tags may end there
  sooner or later than in the tree, as may what is deeper than ``MAX_DEPTH``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator
from html.entities import html5 as named_references
from typing import Final

MAX_DEPTH: Final = 3000  # names of open elements that are kept, in each part of a document
MAX_PARTS: Final = 64  # parts inside one another: HTML in SVG in HTML, templates

MAX_NAMES: Final = 1000  # of elements

Attributes = dict[str, str | None]  # names in lower case; none: without a value

REQUIRED: Final = {
    "a": "href", "area": "href", "base": "href", "frame": "src", "iframe": "src", "img": "srcset", "source": "srcset",
}  # fmt: skip
"""The attribute without which an element says nothing to us."""

_MARKUP: Final = re.compile(rb"<[A-Za-z/!?]")
_NAME: Final = rb"[^\t\n\f\r />]"
_TAG: Final = re.compile(
    rb"<(/?[A-Za-z]" + _NAME + rb"*+)"
    rb"((?:[\t\n\f\r /]++|" + _NAME + rb"[^\t\n\f\r />=]*+"
    rb"(?:[\t\n\f\r ]*+=[\t\n\f\r ]*+"
    rb"(?:\"[^\"]*+\"|'[^']*+'|[^\t\n\f\r >\"'][^\t\n\f\r >]*+|(?=>))"
    rb"|(?![\t\n\f\r ]*+=)))*+)>"
)
_ATTRIBUTE: Final = re.compile(
    rb"(" + _NAME + rb"[^\t\n\f\r />=]*+)"
    rb"(?:[\t\n\f\r ]*+=[\t\n\f\r ]*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\t\n\f\r >\"'][^\t\n\f\r >]*+|\Z)))?+"
)
_COMMENT_END: Final = re.compile(rb"--!?>")
_BLANKS: Final = re.compile(rb"[\t\n\f\r ]*")
_SCRIPT_MARKS: Final = re.compile(rb"<!--|-->|<(/?)script(?=[\t\n\f\r />])", re.IGNORECASE)
_TEXT_END: Final = {
    name: re.compile(rb"</" + name + rb"(?=[\t\n\f\r />])", re.IGNORECASE)
    for name in (b"style", b"title", b"textarea", b"xmp", b"iframe", b"noembed", b"noframes", b"noscript")
}

# All of these are of the HTML standard: section 13.1.2, and what holds no elements but text,
_HOLDS_NO_ELEMENTS: Final = frozenset(
    b"area base basefont bgsound br col embed frame frameset hr image img input keygen link meta param source track wbr"
    b" iframe noembed noframes script style textarea title xmp".split()
)
_HOLDS_TEXT: Final = frozenset({*_TEXT_END, b"script", b"plaintext"})
_ORDINARY: Final = frozenset(
    b"a abbr address applet article aside audio b big blockquote button caption center cite code dd del details"
    b" dfn dialog dir div dl dt em fieldset figcaption figure font footer h1 h2 h3 h4 h5 h6 header hgroup i ins"
    b" kbd label legend li listing main map mark marquee menu nav nobr object ol optgroup option p picture pre q"
    b" rp rt ruby s samp search section select small span strike strong sub summary sup table tbody td tfoot th"
    b" thead time tr tt u ul var video".split()
)
# 13.2.6.4.7: whose end tag closes nothing that is inside, what closes a p, and what comes too late for a frameset,
_ENDS_ALONE: Final = frozenset(b"body form html".split())
_CLOSES_P: Final = frozenset(
    b"address article aside blockquote center dd details dialog dir div dl dt fieldset figcaption figure footer form h1"
    b" h2 h3 h4 h5 h6 header hgroup hr li listing main menu nav ol p pre search section summary table ul xmp".split()
)
_RULES_OUT_FRAMES: Final = frozenset(
    b"applet area body br button dd dt embed hr iframe image img input keygen li listing marquee object pre select"
    b" table textarea wbr xmp".split()
)
# 13.2.6.5: what ends SVG and MathML; and 13.2.6: the elements of theirs that hold HTML.
_BREAKS_OUT: Final = frozenset(
    b"b big blockquote body br center code dd div dl dt em embed h1 h2 h3 h4 h5 h6 head hr i img li listing menu meta"
    b" nobr ol p pre ruby s small span strong strike sub sup table tt u ul var".split()
)
_FONT_BREAKS_OUT: Final = frozenset({"color", "face", "size"})
_HTML_IN_SVG: Final = frozenset({b"foreignobject", b"desc", b"title"})
_HTML_IN_MATH: Final = frozenset({b"mi", b"mo", b"mn", b"ms", b"mtext"})


class _Part:
    """The open elements of one stretch of a document in one language, by name."""

    def __init__(self, language: bytes) -> None:
        self.language = language  # html, template (HTML, but not on the page), svg, math
        self.is_html = language in (b"html", b"template")
        self.holds_html = False  # the annotation-xml that was opened last is one of HTML
        self._names: list[bytes] = []
        self._counts: Counter[bytes] = Counter()
        self._beyond = 0  # elements deeper than what is kept

    def __contains__(self, name: bytes) -> bool:
        return name in self._counts

    @property
    def last(self) -> bytes:
        """The innermost open element; empty if there is none."""
        return self._names[-1] if self._names else b""

    def open(self, name: bytes) -> None:
        if len(self._names) < MAX_DEPTH:
            self._names.append(name)
            self._counts[name] += 1
        else:
            self._beyond += 1

    def close(self, name: bytes) -> None:
        """Close the last element of a name, and what is inside it."""
        if self._beyond:
            self._beyond -= 1
        else:
            while self.close_last() != name:
                pass

    def close_last(self) -> bytes:
        name = self._names.pop()
        self._counts[name] -= 1
        if not self._counts[name]:
            del self._counts[name]
        return name

    def reads_as_html(self, name: bytes) -> bool:
        """Whether a start tag here is HTML's (section 13.2.6, "tree construction dispatcher")."""
        if self.language == b"svg":
            return self.last in _HTML_IN_SVG
        if self.language == b"math" and self.last == b"annotation-xml":
            return self.holds_html or name == b"svg"
        return self.is_html or (self.last in _HTML_IN_MATH and name not in (b"mglyph", b"malignmark"))


class _Place:
    """Where in a document the scanner is: the parts that are open within HTML, the innermost last."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.open = dict.fromkeys(_ORDINARY, 0)  # elements outside of all parts, by name

    @property
    def is_foreign(self) -> bool:
        """The innermost open element is one of SVG or MathML."""
        return bool(self.parts) and not self.parts[-1].is_html

    @property
    def is_in_template(self) -> bool:
        return bool(self.parts) and any(part.language == b"template" for part in self.parts)

    @property
    def takes_frames(self) -> bool:
        return not self.is_in_template and (not self.parts or self.parts[-1].reads_as_html(b"frameset"))

    def start(self, name: bytes, written: bytes) -> bool:
        """A start tag; whether it is one of HTML."""
        if self.is_foreign and not self.parts[-1].reads_as_html(name):
            if not _breaks_out(name, written):
                self._start_foreign(name, written)
                return False
            self._break_out()
        if name in (b"svg", b"math", b"template") and len(self.parts) < MAX_PARTS:
            if name == b"template" or not _is_self_closing(written):
                self.parts.append(_Part(name))
                self.parts[-1].open(name)
        elif name in _HOLDS_NO_ELEMENTS:
            pass
        elif not self.parts:
            if name not in _ENDS_ALONE and (name in self.open or len(self.open) < MAX_NAMES):
                self.open[name] = 1 if name == b"a" else self.open.get(name, 0) + 1  # an a ends the one before
        else:
            part = self.parts[-1]
            if not part.is_html:
                part = _Part(b"html")
                self.parts.append(part)
            elif part.last == b"p" and name in _CLOSES_P:
                part.close(b"p")
            elif name == b"a" and name in part:
                part.close(name)
            part.open(name)
        return True

    def _start_foreign(self, name: bytes, written: bytes) -> None:
        if not _is_self_closing(written):
            part = self.parts[-1]
            part.open(name)
            if name == b"annotation-xml":
                encoding = (_attributes(written).get("encoding") or "").lower()
                part.holds_html = encoding in ("text/html", "application/xhtml+xml")

    def _break_out(self) -> None:
        """Close elements of SVG and MathML up to one that holds HTML."""
        while self.is_foreign:
            part = self.parts[-1]
            while part.last and not part.reads_as_html(b""):
                part.close_last()
            if part.last:
                return
            self.parts.pop()

    def end(self, name: bytes) -> None:
        """An end tag."""
        if self.is_foreign and name in (b"p", b"br"):
            self._break_out()
        is_foreign = self.is_foreign
        for depth in range(len(self.parts) - 1, -1, -1):
            part = self.parts[depth]
            is_foreign = is_foreign and not part.is_html
            if name in part and (is_foreign or part.is_html):
                del self.parts[depth + 1 :]
                part.close(name)
                if not part.last:
                    self.parts.pop()
                return
            if part.is_html and name != b"template":
                return
        if self.open.get(name, 0) > 0:
            self.open[name] -= 1
            self.parts.clear()


def _breaks_out(name: bytes, attributes: bytes) -> bool:
    if name == b"font":
        return not _FONT_BREAKS_OUT.isdisjoint(_attributes(attributes))
    return name in _BREAKS_OUT


def has_required(tag: str, attributes: Attributes, *, is_html: bool) -> bool:
    """Whether an element has what it needs. SVG 2, section 16.1.6: where the ``href`` of an ``a`` is
    missing its ``xlink:href`` does, and is put in its place."""
    required = REQUIRED.get(tag)
    if tag == "a" and not is_html and "href" not in attributes and "xlink:href" in attributes:
        attributes["href"] = attributes["xlink:href"]
    return required is None or required in attributes


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
        self._place = _Place()
        self._at = 0  # -1: the document has ended
        self._may_have_frames = True  # nothing came that rules a frameset out
        self._has_frames = False
        self._framesets = 0  # that are open
        self._has_title = self._has_base = self._has_noscript = False

    def elements(self) -> Iterator[tuple[str, Attributes]]:
        document, place = self._document, self._place
        opened = place.open
        plain = _ORDINARY - self._wanted.keys()
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
        attributes = _attributes(written)
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
                return "title", {"": _REFERENCE.sub(_in_text, _text(text))}
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


def _attributes(written: bytes) -> Attributes:
    attributes: Attributes = {}
    for found in _ATTRIBUTE.finditer(written):
        name, quoted, single_quoted, bare = found.groups()
        values = [value for value in (quoted, single_quoted, bare) if value is not None]
        value = _text(values[0]) if values else None
        if value and "&" in value:
            value = _REFERENCE.sub(_in_attribute, value)
        attributes.setdefault(_text(name.lower()), value)
    return attributes


def _is_self_closing(written: bytes) -> bool:
    """Whether a tag ends with a slash that is no part of a value."""
    if not written.endswith(b"/"):
        return False
    return all(found.end() < len(written) for found in _ATTRIBUTE.finditer(written))


def _text(octets: bytes) -> str:
    text = octets.decode("utf-8", "replace").replace("\0", "\ufffd")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


_REFERENCE: Final = re.compile(r"&(?:#([xX][0-9a-fA-F]+|[0-9]+);?|([a-zA-Z][a-zA-Z0-9]*;?))")
_LONGEST_NAME: Final = max(map(len, named_references))


def _in_attribute(reference: re.Match[str]) -> str:
    """What a reference stands for. In an attribute a name without a semicolon counts only if nothing
    goes on behind it: "?a=1&copy=2" stays (section 13.2.5.73)."""
    name: str | None = reference[2]
    if name is None:
        return _character(reference[1])
    if not name.endswith(";") and reference.string.startswith("=", reference.end()):
        return reference[0]
    return named_references.get(name, reference[0])


def _in_text(reference: re.Match[str]) -> str:
    """The same in text, where the longest name counts that there is."""
    name: str | None = reference[2]
    if name is None:
        return _character(reference[1])
    for length in range(min(len(name), _LONGEST_NAME), 1, -1):
        if name[:length] in named_references:
            return named_references[name[:length]] + name[length:]
    return reference[0]


def _character(number: str) -> str:
    """The character of a numeric reference (section 13.2.5.80)."""
    digits, base = (number[1:], 16) if number[0] in "xX" else (number, 10)
    digits = digits.lstrip("0")
    code = int(digits, base) if 0 < len(digits) <= 7 else 0
    if 0x80 <= code <= 0x9F:
        return bytes([code]).decode("cp1252", "ignore") or chr(code)
    is_character = digits and len(digits) <= 7 and code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF
    return chr(code) if is_character else "\ufffd"
