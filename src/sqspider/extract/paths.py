"""Paths: where a value is found, and what is made of it.

    css:.price::text | number
    xpath:count(//table) | integer
    json-ld:[type=Product].offers.price | number
    meta:article:published_time | date

Before the first ``|`` stands a source and what it looks for, behind it filters, each of which takes what the one before
it gave. A filter that makes nothing of something lets it fall, so a path gives the first thing of which all make one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qs, urlsplit

from sqspider.checks import proposal
from sqspider.extract import values
from sqspider.extract.linked_data import steps_of, walk
from sqspider.extract.page import SlowExpressionError
from sqspider.extract.scanning import places_outside
from sqspider.extract.selectors import Css, XPath
from sqspider.patterns import TooSlowError
from sqspider.tables.columns import Kind
from sqspider.url import host_in

if TYPE_CHECKING:
    import turbohtml

    from sqspider.extract.page import Page

SOURCES: Final = ("css", "xpath", "json-ld", "meta", "header", "url")
FILTERS: Final = {
    "text": Kind.TEXT,
    "trim": Kind.TEXT,
    "lower": Kind.TEXT,
    "re": Kind.TEXT,
    "join": Kind.TEXT,
    "html": Kind.TEXT,
    "url": Kind.TEXT,
    "number": Kind.NUMBER,
    "integer": Kind.INTEGER,
    "boolean": Kind.BOOLEAN,
    "date": Kind.TIME,
    "json": Kind.JSON,
    "first": None,  # as before it
    "list": None,  # of texts, or else JSON
}
"""The filters, and the kind of column that each makes."""

Found = Iterable[Any]
Source = Callable[["Page", "turbohtml.Element | None"], Found]
Filter = Callable[[Found, "Page"], Found]

_FILTER: Final = re.compile(
    r"\s*([A-Za-z][\w-]*)\s*(?:\(\s*(?:'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"|(.*?))\s*(?:,\s*([0-9]+)\s*)?\))?\s*"
    r"(?:\|(?=\s*[A-Za-z][\w-]*\s*(?:[(|]|\Z))|\Z)",
    re.DOTALL,
)
_IS_FILTERS: Final = re.compile(r"\s*[A-Za-z][\w-]*\s*(?:[(|]|\Z)")


class Path:
    """A path, ready for pages. Raises ``ValueError`` for what is none: what, where, and what was perhaps meant."""

    def __init__(self, text: str) -> None:
        source, filters = _split(text)
        name = source.partition(":")[0]
        try:
            self._source = source_of(source)
        except ValueError as error:
            raise ValueError(f"{name}: {error}" if name in SOURCES else str(error)) from None
        if filters and filters[0].name == "html" and not getattr(self._source, "gives_elements", False):
            raise ValueError(f"html: {source!r} gives no elements")
        self.needs_page = name in ("css", "xpath", "json-ld", "meta")
        self._is_list = False
        self._filters: list[Filter] = []
        kind: Kind = Kind.TEXT
        is_text = False  # what comes out by now surely is one
        for each in filters:
            if self._is_list:
                raise ValueError(f"{each.shown}: 'list' stands last")
            self._is_list = each.name == "list"
            if made := FILTERS[each.name]:
                kind = made
                is_text = kind is Kind.TEXT
            if not self._is_list:
                self._filters.append(_filter_of(each))
        if kind is Kind.TEXT and not is_text:
            self._filters.append(_each(_as_found))
        self.kind = kind if not self._is_list else Kind.TEXTS if kind is Kind.TEXT else Kind.JSON
        if self._is_list and kind is Kind.TIME:
            raise ValueError("'date | list': a list holds texts, numbers and JSON; one date is kept as a time")

    def value(self, page: Page, within: turbohtml.Element | None = None) -> object:
        """What it gives at a page, or for an element of it; none: nothing. Raises ``ValueError`` where it cannot be
        followed at this page: an expression of XPath that fails, a regular expression that takes too long."""
        found = self._source(page, within)
        for each in self._filters:
            found = each(found, page)
        held = (
            page.take(values.writable(value)) if isinstance(value, str) else value
            for value in found
            if value is not None
        )
        if not self._is_list:
            return next(held, None)
        several = tuple(held)
        return None if not several else several if self.kind is Kind.TEXTS else list(several)


class Elements:
    """A path to elements, for a row each: ``css:.product``. Raises ``ValueError`` as :class:`Path` does."""

    def __init__(self, text: str) -> None:
        name, _, what = text.strip().partition(":")
        if name not in ("css", "xpath"):
            raise ValueError(
                f"a row each is of elements, as in 'css:.product' or 'xpath://tr', not {text!r}{_meant(text)}"
            )
        self._source = Css(what) if name == "css" else XPath(what)
        if not self._source.gives_elements:
            raise ValueError(f"elements are wanted, not texts or attributes: {text!r}")

    def of(self, page: Page) -> list[turbohtml.Element]:
        return self._source.elements(page, None)


class _Said(NamedTuple):
    """A filter as it is written."""

    name: str
    argument: str | None
    group: int | None
    shown: str


def _split(text: str) -> tuple[str, list[_Said]]:
    """The source, and the filters behind it."""
    is_css = text.lstrip().startswith("css:")
    for at in places_outside(text, "|"):
        # In a selector, a sign without blanks before it belongs to a namespace; in XPath one parts alternatives.
        if _IS_FILTERS.match(text, at + 1) and not (is_css and not text[at - 1 : at].isspace()):
            return text[:at].strip(), list(_filters_in(text, at + 1))
    return text.strip(), []


def _filters_in(text: str, at: int) -> Iterator[_Said]:
    while at < len(text):
        found = _FILTER.match(text, at)
        if found is None:
            raise ValueError(f"no filter at {at}: {text[at:].strip()!r}; filters are {', '.join(FILTERS)}")
        name, single, double, plain, group = found.groups()
        shown = found[0].strip(" |")
        if name not in FILTERS:
            meant = proposal(name, FILTERS)
            union = (
                "; alternatives of XPath go into brackets: 'xpath:(//h1 | //h2)'" if text.startswith("xpath:") else ""
            )
            raise ValueError(
                f"there is no filter {name!r} at {at + 1}.{meant or ' They are ' + ', '.join(FILTERS) + '.'}{union}"
            )
        quoted = single if single is not None else double
        argument = plain if quoted is None else re.sub(r"\\(['\"])", r"\1", quoted)
        yield _Said(name, argument, int(group) if group else None, shown)
        at = found.end()


def source_of(text: str) -> Source:
    """What finds the values of a source. Raises ``ValueError``."""
    name, colon, what = text.partition(":")
    if name == "url":
        return _url_source(what if colon else None)
    if name not in SOURCES or not what.strip():
        raise ValueError(f"{_why_no_source(name, colon, text)}{_meant(text)}")
    match name:
        case "css":
            return Css(what)
        case "xpath":
            return XPath(what)
        case "json-ld":
            steps = steps_of(what.strip())
            return lambda page, _: walk(page.linked_data, steps)
        case "meta":
            meta = what.strip().lower()
            return lambda page, _: page.metas.get(meta, ())
        case _:
            header = what.strip().lower()
            return lambda page, _: [value for name, value in page.document.headers if name.lower() == header]


def _why_no_source(name: str, colon: str, text: str) -> str:
    if name in SOURCES:
        return f"{text!r} says nothing to look for behind '{name}:'"
    return (
        f"{name!r} is no source: {text!r}" if colon and re.fullmatch(r"[a-z-]+", name) else f"no source before {text!r}"
    )


def _meant(text: str) -> str:
    """The closest good form of a path, as the end of a sentence."""
    name, colon, what = text.partition(":")
    known = get_close_matches(name, SOURCES) if colon else []
    if known and name not in SOURCES:
        return f". Did you mean {known[0] + ':' + what!r}?"
    if name in SOURCES:
        good = {"css": "css:h1::text", "xpath": "xpath://h1", "json-ld": "json-ld:name", "meta": "meta:og:title"}
        return f"; it is written as in {good.get(name, 'header:last-modified')!r}"
    if text.lstrip().startswith(("/", "./", "(/", "..", "@")):
        return f". Did you mean {'xpath:' + text!r}?"
    return f". Did you mean {'css:' + text!r}? Sources are {', '.join(f'{each}:' for each in SOURCES[:-1])} and url"


_URL_PARTS: Final = ("host", "path", "query")


def _url_source(part: str | None) -> Source:
    if part is None:
        return lambda page, _: (page.document.url,)
    name, dot, parameter = part.partition(".")
    if name not in _URL_PARTS or (dot and (name != "query" or not parameter)):
        raise ValueError(
            f"an address has no {part!r}: it is 'url', 'url:host', 'url:path', 'url:query' or 'url:query.NAME'."
            f"{proposal(name, _URL_PARTS)}"
        )
    if dot:
        return lambda page, _: parse_qs(urlsplit(page.document.url).query, True).get(parameter, ())
    if name == "host":
        return lambda page, _: [value for value in (host_in(page.document.url),) if value]
    return lambda page, _: [value for value in (getattr(urlsplit(page.document.url), name),) if value]


def _filter_of(said: _Said) -> Filter:
    """What a filter does to all that was found. Raises ``ValueError``."""
    argument = said.argument
    if argument is not None and said.name not in _TAKES:
        raise ValueError(f"{said.shown}: {said.name!r} takes nothing in brackets")
    if said.group is not None and said.name != "re":
        raise ValueError(f"{said.shown}: too much in the brackets; a text in them stands in quotes")
    match said.name:
        case "first":
            return lambda found, _: islice(found, 1)
        case "join":
            return partial(_joined, " " if argument is None else argument)
        case "re":
            return _each(_matcher(said))
        case "number" | "integer":
            if argument not in (None, ".", ","):
                raise ValueError(f"{said.shown}: in the brackets stands the sign before a fraction, '.' or ','")
            make = values.to_number if said.name == "number" else values.to_integer
            return _each(lambda value, _: make(value, argument))
        case "date":
            return _each(lambda value, _: values.to_time(value, argument or None))
        case "json":
            return _each(values.to_json) if not argument else partial(_below_json, steps_of(argument))
        case _:
            return _each(_PLAIN[said.name])


_TAKES: Final = ("re", "join", "number", "integer", "date", "json")
_PLAIN: Final[dict[str, Callable[[Any, Page], object]]] = {
    "text": values.to_text,
    "trim": values.to_trimmed,
    "lower": values.to_lower,
    "html": values.to_html,
    "url": values.to_url,
    "boolean": values.to_boolean,
}


def _as_found(value: Any, _: Page) -> str | None:
    return values.text_of_value(value)


def _each(make: Callable[[Any, Page], object]) -> Filter:
    def filtered(found: Found, page: Page) -> Iterator[Any]:
        for value in found:
            made = make(value, page)
            if made is not None:
                yield made

    return filtered


def _joined(between: str, found: Found, page: Page) -> Iterator[str]:
    texts = [page.take(text) for value in found if (text := values.to_text(value, page))]
    if texts:
        yield between.join(texts)


def _below_json(steps: Any, found: Found, page: Page) -> Found:
    return walk((values.to_json(value, page) for value in found), steps)


def _matcher(said: _Said) -> Callable[[Any, Page], str | None]:
    if not said.argument:
        raise ValueError(f"{said.shown}: a regular expression stands in the brackets, as in re('[0-9]+')")
    try:
        pattern = re.compile(said.argument)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"re: no regular expression: {said.argument!r}: {error}") from None
    group = said.group if said.group is not None else min(pattern.groups, 1)
    if group > pattern.groups:
        raise ValueError(f"{said.shown}: the expression has {pattern.groups} groups")

    def match(value: Any, page: Page) -> str | None:
        text = values.text_of_value(value)
        if text is None:
            return None
        try:
            with page.search.limited():
                found = pattern.search(text)
        except TooSlowError as error:
            raise SlowExpressionError(str(error)) from None
        return found[group] if found else None

    return match
