"""XHTML, read as XML: where ``<script/>`` is empty, and names have namespaces.

Read with the standard library's expat, which opens no file and no connection. What is not well-formed
is not XHTML, and neither is what grows while it is read: entities and default attributes that a
document declares for itself. A browser shows an error in place of such a page; here whoever calls
reads it as HTML.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from html.entities import name2codepoint
from typing import Final
from xml.parsers import expat

from sqspider.web.attributes import Attributes, has_required

MAX_DEPTH: Final = 3000  # of elements inside one another
MAX_NAMES: Final = 1000  # of elements and attributes: expat keeps each

_XHTML: Final = "http://www.w3.org/1999/xhtml "
_SVG_LINK: Final = "http://www.w3.org/2000/svg a"
_XLINK_HREF: Final = "http://www.w3.org/1999/xlink href"
# What the document type of XHTML declares. Nearly every page names it; it is never fetched.
_DOCUMENT_TYPE: Final = "".join(f'<!ENTITY {name} "&#38;#{code};">' for name, code in name2codepoint.items())


class NotXhtmlError(Exception):
    """The document is not well-formed, or something else than XHTML; the text says what is wrong."""

    def __init__(self, why: str, *, is_page: bool) -> None:
        super().__init__(why)
        self.is_page = is_page  # its root is that of an XHTML page


def read_xhtml(document: bytes, tags: Collection[str], take: Callable[[str, Attributes], None]) -> None:
    """Hand the elements of an XHTML document that have one of these tags, and its first title, to
    ``take``, in the form of :func:`sqspider.web.scanner.elements_of`. ``document`` is in UTF-8.

    Raises :class:`NotXhtmlError`; what was handed over by then is of no use.
    """
    reader = _Reader(tags, take)
    try:
        reader.parser.Parse(document, True)
    except expat.ExpatError as error:
        raise NotXhtmlError(f"not well-formed: {error}", is_page=reader.is_page) from error


class _Reader:
    def __init__(self, tags: Collection[str], take: Callable[[str, Attributes], None]) -> None:
        self.is_page = False
        self._take = take
        self._wanted = {_XHTML + tag: tag for tag in tags} | {_SVG_LINK: "a"}
        self._names: set[str] = set()
        self._depth = 0
        self._template_depth = 0  # of the outermost template that is open; 0: none is
        self._title: list[str] | None = None  # the text of the first one, while it is open
        self._has_title = False
        self._has_document_type = False
        self.parser = parser = expat.ParserCreate("utf-8", " ")  # whatever it declares: it was decoded
        parser.buffer_text = True
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        parser.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_ALWAYS)
        parser.UseForeignDTD(True)
        parser.ExternalEntityRefHandler = self._external
        parser.EntityDeclHandler = parser.AttlistDeclHandler = self._declare

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        self._names.add(name)
        self._names.update(attributes)
        if self._depth == 1 and name != _XHTML + "html":
            raise NotXhtmlError(f"its root element is {name[-50:]!r}", is_page=False)
        self.is_page = True
        if self._depth > MAX_DEPTH or len(self._names) > MAX_NAMES:
            raise NotXhtmlError("too deep, or with too many names", is_page=True)
        if self._template_depth:
            return
        if name == _XHTML + "template":
            self._template_depth = self._depth
        elif name == _XHTML + "title" and not self._has_title:
            self._has_title, self._title = True, []
        elif tag := self._wanted.get(name):
            self._found(tag, attributes)

    def _found(self, tag: str, attributes: dict[str, str]) -> None:
        named: Attributes = dict(attributes)
        if _XLINK_HREF in named:
            named["xlink:href"] = named.pop(_XLINK_HREF)
        if has_required(tag, named, is_html=False):
            self._take(tag, named)

    def _characters(self, text: str) -> None:
        if self._title is not None:
            self._title.append(text)

    def _end(self, name: str) -> None:
        if self._depth == self._template_depth:
            self._template_depth = 0
        self._depth -= 1
        if self._title is not None and name == _XHTML + "title":
            self._take("title", {"": "".join(self._title)})
            self._title = None

    def _external(self, context: str | None, *_: object) -> int:
        """Asked for what stands elsewhere. Nothing is fetched: in place of the document type stand its
        characters, in place of anything else nothing."""
        if context is None and not self._has_document_type:
            self._has_document_type = True
            parser = self.parser.ExternalEntityParserCreate(context)
            parser.EntityDeclHandler = None
            parser.Parse(_DOCUMENT_TYPE, True)
        return 1

    def _declare(self, name: str, *_: object) -> None:
        raise NotXhtmlError(f"it declares {name[:50]!r} for itself", is_page=True)
