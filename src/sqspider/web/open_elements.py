"""Which elements are open at a place of a document, in HTML, in SVG, in MathML and in templates.

What a tag means depends on that: a ``style`` in SVG holds markup, an ``a`` ends the ``a`` before it. Kept by their
names alone, in bounded memory.
"""

from __future__ import annotations

from typing import Final

from sqspider.web.attributes import attributes_of, is_self_closing

MAX_DEPTH: Final = 3000  # names of open elements that are kept, in each part of a document
MAX_PARTS: Final = 64  # parts inside one another: HTML in SVG in HTML, templates
MAX_NAMES: Final = 1000  # of elements

# All of these are of the HTML standard: section 13.1.2, and what holds no elements but text,
_HOLDS_NO_ELEMENTS: Final = frozenset(
    b"area base basefont bgsound br col embed frame frameset hr image img input keygen link meta param source track wbr"
    b" iframe noembed noframes script style textarea title xmp".split()
)
ORDINARY: Final = frozenset(
    b"a abbr address applet article aside audio b big blockquote button caption center cite code dd del details"
    b" dfn dialog dir div dl dt em fieldset figcaption figure font footer h1 h2 h3 h4 h5 h6 header hgroup i ins"
    b" kbd label legend li listing main map mark marquee menu nav nobr object ol optgroup option p picture pre q"
    b" rp rt ruby s samp search section select small span strike strong sub summary sup table tbody td tfoot th"
    b" thead time tr tt u ul var video".split()
)
# 13.2.6.4.7: whose end tag closes nothing that is inside, and what closes a p,
_ENDS_ALONE: Final = frozenset(b"body form html".split())
_CLOSES_P: Final = frozenset(
    b"address article aside blockquote center dd details dialog dir div dl dt fieldset figcaption figure footer form h1"
    b" h2 h3 h4 h5 h6 header hgroup hr li listing main menu nav ol p pre search section summary table ul xmp".split()
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
        self._counts: dict[bytes, int] = {}
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
            self._counts[name] = self._counts.get(name, 0) + 1
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


class Place:
    """Where in a document the scanner is: the parts that are open within HTML, the innermost last."""

    def __init__(self) -> None:
        self.parts: list[_Part] = []
        self.open: dict[bytes, int] = {}  # elements outside of all parts, by name; of those that were told

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
            if name == b"template" or not is_self_closing(written):
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
        if not is_self_closing(written):
            part = self.parts[-1]
            part.open(name)
            if name == b"annotation-xml":
                encoding = (attributes_of(written).get("encoding") or "").lower()
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

    def end(self, name: bytes) -> bool:
        """An end tag; whether it has had its effect. If not, it ends what is open of its name outside of all parts."""
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
                return True
            if part.is_html and name != b"template":
                return True
        return False

    def end_outside(self, name: bytes) -> None:
        """An end tag that has had no effect on the parts: they end with what is around them."""
        if self.open.get(name, 0) > 0:
            self.open[name] -= 1
            self.parts.clear()


def _breaks_out(name: bytes, attributes: bytes) -> bool:
    if name == b"font":
        return not _FONT_BREAKS_OUT.isdisjoint(attributes_of(attributes))
    return name in _BREAKS_OUT
