"""A page under extraction: what several rules ask of it is found once, and only if one asks."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Final

from sqspider.extract.document import Document
from sqspider.extract.linked_data import linked_data_in
from sqspider.patterns import Search
from sqspider.url import Refused
from sqspider.web.links import Resolver, resolver

if TYPE_CHECKING:
    import turbohtml

MAX_FOUND_CHARACTERS: Final = 64 * 1024 * 1024  # of all that rules find: elements may lie within one another

_NAMES: Final = ("name", "property", "itemprop", "http-equiv")


class TooMuchError(Exception):
    """Rules find more in a page than it has room for."""


class SlowExpressionError(ValueError):
    """A regular expression takes too long at a page."""


class Page:
    """A document, and what rules have found in it."""

    def __init__(self, document: Document) -> None:
        self.document = document
        self.search = Search()  # the time that all regular expressions have at this page
        self._room = MAX_FOUND_CHARACTERS

    def take(self, text: str) -> str:
        """Count a text that was found. Raises :class:`TooMuchError`."""
        self._room -= len(text)
        if self._room < 0:
            raise TooMuchError(f"more than {MAX_FOUND_CHARACTERS:,} characters are found")
        return text

    @property
    def tree(self) -> turbohtml.Document:
        return self.document.tree

    @cached_property
    def metas(self) -> dict[str, list[str]]:
        """What its ``meta`` elements say, by name, property, itemprop or http-equiv in small letters."""
        found: dict[str, list[str]] = {}
        for meta in self.tree.select("meta[content]"):
            content = meta.attr("content") or ""
            names = {name: None for attribute in _NAMES for name in (meta.attr(attribute) or "").lower().split()}
            for name in names:  # one that is told in two ways is one
                found.setdefault(name, []).append(content)
        return found

    def meta(self, *names: str) -> str | None:
        """The first that is not empty, white space collapsed, of the first of these names that has one."""
        for name in names:
            for content in self.metas.get(name, ()):
                if text := " ".join(content.split()):
                    return text
        return None

    @cached_property
    def linked_data(self) -> list[object]:
        """Its JSON-LD, see :func:`linked_data_in`."""
        return linked_data_in(self.tree)

    @cached_property
    def resolved(self) -> Resolver:
        """Where a reference of the page leads."""
        return resolver(self.document.base_url, self.document.encoding)

    def absolute(self, reference: str) -> str | None:
        """The same; none: nowhere on the web."""
        url = self.resolved(reference)
        return None if isinstance(url, Refused) else url
