"""A capture as rules see it: its answer decoded, its tree parsed once, both only when something asks for them."""

from __future__ import annotations

from functools import cached_property
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from sqspider.archive.reading import Captured
from sqspider.extract.shown import shown
from sqspider.extract.xhtml import as_html
from sqspider.web.binary import is_binary
from sqspider.web.body import DecodeError
from sqspider.web.charset import decode, encoding_of_answer, mime_type_of
from sqspider.web.links import HTML_TYPES, base_url, is_xml, type_of_answer

if TYPE_CHECKING:
    import turbohtml

MAX_BODY_BYTES: Final = 16 * 1024 * 1024  # of a decoded body that is looked at; a tree takes eight times as much
XHTML_NAMESPACE: Final = "http://www.w3.org/1999/xhtml"
MAX_TAGS: Final = 2_000_000  # that a tree is made of: one of as many elements takes 350 MB, and is copied for a text
_ROOT_CHARACTERS: Final = 2000  # in which the root of a page begins


class BinaryError(ValueError):
    """What was answered is no text, whatever it is called."""


class Document:
    """A page, or whatever else was answered. ``crawl`` and ``visit`` are its record's, where a frontier was asked."""

    def __init__(
        self,
        captured: Captured,
        *,
        crawl: str | None = None,
        visit: int | None = None,
        max_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self.captured = captured
        self.crawl = crawl
        self.visit = visit
        self._max_bytes = max_bytes
        self._is_tree_given_up = False

    @property
    def url(self) -> str:
        """What was asked for."""
        return self.captured.url

    @property
    def at(self) -> float:
        """When, in seconds since the epoch."""
        return self.captured.at

    @property
    def http_status(self) -> int | None:
        return self.captured.http_status

    @cached_property
    def headers(self) -> tuple[tuple[str, str], ...]:
        """Of the answer, as they were sent; of a 304, which says little of it, those of the answer that it meant."""
        return tuple(answered_by(self.captured).headers)

    def header(self, name: str) -> str | None:
        """The first header of a name, in any case."""
        return answered_by(self.captured).header(name)

    @cached_property
    def media_type(self) -> str:
        """As the answer says it, in small letters and without parameters; empty where it says none that is one."""
        found = mime_type_of([value for name, value in self.headers if name.lower() == "content-type"])
        return found.essence if found else ""

    @property
    def may_be_page(self) -> bool:
        """Whether what is said of its type leaves it open that it is a page; what says none is looked at."""
        return not self.media_type or self.media_type in HTML_TYPES or is_xml(self.media_type)

    @cached_property
    def body(self) -> bytes:
        """The body decoded, as far as it is looked at. Raises :class:`sqspider.web.body.DecodeError`, also where a
        revisit's original is not to be found."""
        if self.captured.kind == "revisit" and self.captured.original is None:
            raise DecodeError("the capture whose body it has is not to be found: `sqspider archive index` may help")
        return self.captured.body(self._max_bytes)

    @cached_property
    def encoding(self) -> str:
        """By which a browser would read it."""
        return encoding_of_answer(self.body, self.headers)

    @cached_property
    def markup(self) -> str:
        """The body as text; what does not decode is U+FFFD. Raises :class:`BinaryError`."""
        if is_binary(self.body, self.encoding):
            raise BinaryError(f"{self.url}: called {self.media_type or 'nothing'}, but it is no text")
        return decode(self.body, self.encoding)

    @cached_property
    def _essence(self) -> str:
        """What it is: as it says it, else by its first bytes."""
        return type_of_answer(self.body, self.headers)[0]

    @cached_property
    def is_page(self) -> bool:
        """HTML or XHTML. A tree is made of whatever there is, and of nothing else is it of use."""
        is_xhtml = is_xml(self._essence) and XHTML_NAMESPACE in self.markup[:_ROOT_CHARACTERS]
        return is_xhtml or self._essence in HTML_TYPES

    @cached_property
    def tree(self) -> turbohtml.Document:
        """The tree of a page, as far as it has ``MAX_TAGS``."""
        import turbohtml

        markup = self.markup
        if self.has_more_tags:
            markup = "<".join(markup.split("<", MAX_TAGS + 1)[: MAX_TAGS + 1])
        elif is_xml(self._essence):
            markup = as_html(markup)
        return turbohtml.parse(markup, positions=False)

    @cached_property
    def has_more_tags(self) -> bool:
        """Its tree is made of its beginning alone."""
        return self.markup.count("<") > MAX_TAGS

    @cached_property
    def shown(self) -> turbohtml.Document:
        """Of that tree, what a reader sees: text, Markdown and main content are made of it. Nobody changes either."""
        return shown(self.tree, in_place=self._is_tree_given_up)

    def give_up_tree(self) -> None:
        """Nobody asks for the tree any more, but for what is shown of it: which need be no copy then."""
        self._is_tree_given_up = True

    @cached_property
    def base_url(self) -> str:
        """What its references are relative to."""
        first = "base[href]:not(template *)"  # what is in a template is not on the page
        base = self.tree.select_one(first)
        if base is not None and self.tree.select_one("noscript") is not None and not is_xml(self._essence):
            import turbohtml

            # To browsers, which run scripts, a noscript is text, wherever it ends.
            base = turbohtml.parse(self.markup, positions=False, scripting=True).select_one(first)
        return base_url(None if base is None else str(base.attrs.get("href") or ""), self.url)


def answered_by(captured: Captured) -> Captured:
    """The capture that has the answer: of a 304, where it is to be found, the one that it speaks of."""
    if captured.kind != "revisit" or captured.http_status not in (None, HTTPStatus.NOT_MODIFIED):
        return captured
    return captured.original or captured
