"""The links of a page, each with what is written at it: all that a page refers to, not what a crawler follows alone.

Where they lead is resolved as the crawler does it (``web/links.py``): both have the same URLs for the same page.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

from sqspider.extract.document import Document
from sqspider.record import Reason
from sqspider.redact import redact_url
from sqspider.url import Refused, cut_to_length
from sqspider.web.css_links import css_links
from sqspider.web.links import Resolver, parse_srcset, resolver
from sqspider.web.refresh import parse_refresh

if TYPE_CHECKING:
    from turbohtml import Element

MAX_TEXT_CHARACTERS: Final = 300
MAX_WRITTEN_CHARACTERS: Final = 2000

_CSS_TYPE: Final = "text/css"
_HTML_BLANKS: Final = "\t\n\f\r "
# The URL standard takes the first out of a fragment, and the second off its end.
_NO_BREAKS: Final = {ord("\t"): None, ord("\n"): None, ord("\r"): None}
_CONTROLS: Final = "".join(map(chr, range(33)))


class LinkKind(enum.StrEnum):
    """As what a page refers to a URL. These names are kept in tables: none is ever used for another."""

    A = "a"  # and ``area``: what a reader follows
    FRAME = "frame"  # and ``iframe``
    IMG = "img"  # images: ``src``, ``srcset``, ``picture``, ``poster``, of SVG, of a button
    MEDIA = "media"  # ``video``, ``audio``, and their sources and tracks
    OBJECT = "object"  # and ``embed``
    SCRIPT = "script"
    LINK = "link"  # as its ``rel`` says: stylesheet, icon, canonical, alternate, ...
    CSS = "css"  # ``url()`` and ``@import`` of styles in the page, or of a stylesheet
    FORM = "form"  # where one is sent to
    REFRESH = "refresh"  # ``Refresh``, as a header or in a ``meta``
    REDIRECT = "redirect"  # the answer leads there
    SITEMAP = "sitemap"  # a sitemap lists it


class PageLink(NamedTuple):
    """A link of a page."""

    to: str | None  # canonical; none: for the reason that is told. What is too long has a name (``cut_to_length``)
    kind: LinkKind
    written: str  # the reference as it stands there, shortened; without a password
    fragment: str = ""  # as written, without its ``#``
    rel: str = ""  # in small letters
    text: str = ""  # of an ``a`` its words, or what stands for its image; white space collapsed, shortened
    reason: Reason | None = None  # why it is no URL that can be asked for


def links_of_page(document: Document) -> list[PageLink]:
    """The links of a page or stylesheet in document order, with all repetitions; of anything else none.

    What is in a ``template`` is not on the page. Raises :class:`sqspider.web.body.DecodeError`, and
    :class:`sqspider.extract.document.BinaryError`.
    """
    if document.media_type == _CSS_TYPE:
        links = _Links(document.url, resolver(document.url, document.encoding))
        links.add_all(LinkKind.CSS, css_links(document.markup))
        return links.found
    is_page = document.may_be_page and document.is_page  # the body of what cannot be one is not looked at
    return _links_of_page(document) if is_page else []


def written_of(refused: Refused) -> str:
    """What is no URL, as it is kept: shortened, and without a password."""
    written = refused.text.strip(_HTML_BLANKS)
    return (redact_url(written) if "//" in written else written)[:MAX_WRITTEN_CHARACTERS]


_made: Final = tuple.__new__  # by its name a page's links take half as long again to be made
_Reference = tuple[str | None, str, str, Reason | None]  # of a link: to, written, fragment, reason


class _References(dict[str, _Reference]):
    """References of one page, by how they are written: a page has many links to few places."""

    def __init__(self, base: str, resolved: Resolver) -> None:
        super().__init__()
        self._base = base
        self._resolved = resolved
        self._known: dict[str, str | Refused] = {}

    def __missing__(self, written: str) -> _Reference:
        reference = self[written] = self._read(written)
        return reference

    def _read(self, written: str) -> _Reference:
        address, sign, fragment = written.partition("#")
        if sign and address and address[-1] <= " ":  # there blanks are part of the URL: see ``web/links.py``
            address = written
        if fragment and (not fragment.isprintable() or fragment[-1] == " "):
            fragment = fragment.rstrip(_CONTROLS).translate(_NO_BREAKS)
        link = self._known.get(address)
        if link is None:
            link = self._known[address] = self._resolved(address)
        if isinstance(link, str):
            return link, written[:MAX_WRITTEN_CHARACTERS], fragment[:MAX_TEXT_CHARACTERS], None
        name = cut_to_length(link.text, self._base) if link.reason is Reason.URL_TOO_LONG else None
        return name, written_of(link), "", link.reason


class _Links:
    """Gathers links of one page."""

    def __init__(self, base: str, resolved: Resolver) -> None:
        self.found: list[PageLink] = []
        self._references = _References(base, resolved)

    def add(self, kind: LinkKind, written: str, rel: str = "", text: str = "") -> None:
        to, kept, fragment, reason = self._references[written]
        most = MAX_TEXT_CHARACTERS
        self.found.append(_made(PageLink, (to, kind, kept, fragment, rel[:most], text[:most], reason)))

    def read(self, elements: Iterable[Element]) -> None:
        """Add the links of elements. Most are an ``a``, of which a page has hundreds: they are read on the spot."""
        references, append, a, most = self._references, self.found.append, LinkKind.A, MAX_TEXT_CHARACTERS
        for element in elements:
            if element.tag != "a":
                _READERS[element.tag](self, element)
                continue
            href = element.attr("href")
            if href is None:
                href = None if element.namespace.value == "html" else element.attr("xlink:href")
                if href is None:
                    continue
            text = " ".join(element.to_text().split()) or _stands_in(element)
            rel = element.attr("rel")
            if rel:
                rel = " ".join(rel.lower().split())[:most]
            to, kept, fragment, reason = references[href]
            append(_made(PageLink, (to, a, kept, fragment, rel or "", text[:most], reason)))

    def add_all(self, kind: LinkKind, written: Iterable[str], rel: str = "", text: str = "") -> None:
        for each in written:
            self.add(kind, each, rel, text)


_STYLED: Final = "[style], [background]"


def _links_of_page(document: Document) -> list[PageLink]:
    base = document.base_url
    links = _Links(base, resolver(base, document.encoding))
    _add_refresh_headers(links, document)
    tree = document.tree
    has_templates = tree.select_one("template") is not None

    def on_page(selector: str) -> list[Element]:
        return tree.select(f":is({selector}):not(template *)" if has_templates else selector)

    links.read(on_page(_SELECTOR) if has_templates else tree.iter_elements(_TAGS))  # that takes half the time
    for element in on_page(_STYLED):
        if style := element.attr("style"):
            links.add_all(LinkKind.CSS, css_links(style))
        if background := element.attr("background"):
            links.add(LinkKind.IMG, background)
    return links.found


def _add_refresh_headers(links: _Links, document: Document) -> None:
    for name, value in document.headers:
        if name.lower() == "refresh" and (refresh := parse_refresh(value)) and refresh.target:
            own = _Links(document.url, resolver(document.url, "utf-8"))  # a header knows of no base
            own.add(LinkKind.REFRESH, refresh.target)
            links.found += own.found


def _rel(element: Element) -> str:
    rel = element.attr("rel")
    return " ".join(rel.lower().split()) if rel else ""


def _stands_in(element: Element) -> str:
    """What is read out for an ``a`` without a text: what stands for the image that it shows."""
    image = element.select_one("img[alt]")
    words = (image.attr("alt") if image is not None else "") or element.attr("aria-label") or element.attr("title")
    return " ".join(words.split()) if words else ""


def _read_area(links: _Links, element: Element) -> None:
    href = element.attr("href")
    if href is not None:
        links.add(LinkKind.A, href, _rel(element), " ".join((element.attr("alt") or "").split()))


def _read_image(links: _Links, element: Element) -> None:
    text = " ".join((element.attr("alt") or "").split())
    for name in ("src", "href", "xlink:href") if element.tag == "image" else ("src",):
        if written := element.attr(name):
            links.add(LinkKind.IMG, written, "", text)
            break
    if srcset := element.attr("srcset"):
        links.add_all(LinkKind.IMG, parse_srcset(srcset), "", text)


def _read_source(links: _Links, element: Element) -> None:
    if srcset := element.attr("srcset"):
        links.add_all(LinkKind.IMG, parse_srcset(srcset))
    if src := element.attr("src"):
        links.add(LinkKind.MEDIA, src)


def _read_video(links: _Links, element: Element) -> None:
    if poster := element.attr("poster"):
        links.add(LinkKind.IMG, poster)
    if src := element.attr("src"):
        links.add(LinkKind.MEDIA, src)


def _read_style(links: _Links, element: Element) -> None:
    links.add_all(LinkKind.CSS, css_links(element.text))


def _read_meta(links: _Links, element: Element) -> None:
    content = element.attr("content")
    if content is not None and (element.attr("http-equiv") or "").lower() == "refresh":
        refresh = parse_refresh(content)
        if refresh is not None and refresh.target:
            links.add(LinkKind.REFRESH, refresh.target)


def _attribute(kind: LinkKind, name: str) -> Callable[[_Links, Element], None]:
    """Reads an element that has one reference; one that is empty says nothing, but of a frame, which then shows the
    page itself."""

    def read(links: _Links, element: Element) -> None:
        written = element.attr(name)
        if written is not None and (written.strip(_HTML_BLANKS) or kind is LinkKind.FRAME):
            links.add(kind, written, _rel(element) if kind is LinkKind.LINK else "")

    return read


_READERS: Final[dict[str, Callable[[_Links, Element], None]]] = {
    "area": _read_area,
    "frame": _attribute(LinkKind.FRAME, "src"),
    "iframe": _attribute(LinkKind.FRAME, "src"),
    "img": _read_image,
    "image": _read_image,
    "input": _attribute(LinkKind.IMG, "src"),
    "source": _read_source,
    "video": _read_video,
    "audio": _attribute(LinkKind.MEDIA, "src"),
    "track": _attribute(LinkKind.MEDIA, "src"),
    "embed": _attribute(LinkKind.OBJECT, "src"),
    "object": _attribute(LinkKind.OBJECT, "data"),
    "script": _attribute(LinkKind.SCRIPT, "src"),
    "link": _attribute(LinkKind.LINK, "href"),
    "style": _read_style,
    "meta": _read_meta,
    "form": _attribute(LinkKind.FORM, "action"),
}
_TAGS: Final = ("a", *_READERS)
_SELECTOR: Final = ", ".join(_TAGS)
