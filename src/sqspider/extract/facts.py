"""What is known of nearly every page: its title, language, canonical URL, headings, date, and its text.

Each fact is looked for in several places, in the order that stands at it; the first that says something counts.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqspider.extract import texts
from sqspider.extract.element_text import element_text
from sqspider.extract.linked_data import steps_of, walk
from sqspider.extract.page_links import links_of_page
from sqspider.extract.rules import Fact
from sqspider.extract.values import to_time
from sqspider.tables.columns import Column, Kind
from sqspider.web.directives import directives_of_header, directives_of_meta, forbids, robots_agents
from sqspider.web.links import MAX_TITLE_CHARACTERS

if TYPE_CHECKING:
    from sqspider.extract.page import Page

_ON_THE_PAGE: Final = ":not(template *, svg *, math *)"


def title_of(page: Page) -> str | None:
    """As the crawler has it: white space collapsed, cut at 300 characters."""
    title = page.tree.select_one(f"title{_ON_THE_PAGE}")
    return None if title is None else " ".join(title.text.split())[:MAX_TITLE_CHARACTERS] or None


def language_of(page: Page) -> str | None:
    """``html lang``, then ``Content-Language`` of a ``meta`` element, then the header."""
    root = page.tree.select_one("html")
    said = [root.attr("lang"), root.attr("xml:lang")] if root is not None else []
    return _first_tag(*said, page.meta("content-language"), page.document.header("content-language"))


def language_by_header(page: Page) -> str | None:
    """The same, by the header alone."""
    return _first_tag(page.document.header("content-language"))


_LANGUAGE_TAG: Final = re.compile(r"[a-z]{2,3}(?:[-_][a-z0-9]{1,8})*", re.IGNORECASE)


def _first_tag(*said: str | None) -> str | None:
    for text in said:
        tag = (text or "").partition(",")[0].strip()
        if len(tag) <= 64 and _LANGUAGE_TAG.fullmatch(tag):
            return _canonical_tag(tag)
    return None


def _canonical_tag(tag: str) -> str:
    """RFC 5646, section 2.1.1: zh-Hans-CN, behind a single character all in small letters."""
    first, *rest = tag.replace("_", "-").lower().split("-")
    parts = [first]
    is_extension = False
    for part in rest:
        is_extension |= len(part) == 1
        parts.append(
            part if is_extension else part.upper() if len(part) == 2 else part.title() if len(part) == 4 else part
        )
    return "-".join(parts)


def canonical_of(page: Page) -> str | None:
    """``link rel=canonical``, absolute and in the crawler's own canonical form."""
    for link in page.tree.select(f'link[rel~="canonical" i][href]{_ON_THE_PAGE}'):
        if (href := (link.attr("href") or "").strip()) and (url := page.absolute(href)):
            return url
    return None


def description_of(page: Page) -> str | None:
    """``meta name=description``, then ``og:description``."""
    return page.meta("description", "og:description")


def headings_of(page: Page) -> tuple[tuple[int, str], ...] | None:
    """``h1`` to ``h6`` in their order, each with its level and text; without those that have none."""
    found = ((int(each.tag[1]), page.take(element_text(each))) for each in page.tree.iter_elements(_HEADINGS))
    return tuple(heading for heading in found if heading[1]) or None


_HEADINGS: Final = ("h1", "h2", "h3", "h4", "h5", "h6")


def published_of(page: Page) -> float | None:
    """``datePublished`` of JSON-LD, then ``article:published_time``, then ``datePublished`` as an ``itemprop``, then
    other names that ``meta`` elements have for it, then the first ``time datetime``, one in an ``article`` first."""
    for value in walk(page.linked_data, _DATE_PUBLISHED):
        if (moment := to_time(value)) is not None:
            return moment
    for place in _PUBLISHED:
        if place.startswith("time"):
            element = page.tree.select_one(place)
            said = None if element is None else element.attr("datetime")
        else:
            said = page.meta(place)
        if (moment := to_time(said)) is not None:
            return moment
    return None


_DATE_PUBLISHED: Final = steps_of("datePublished")
_PUBLISHED: Final = (  # names of ``meta`` elements, and selectors
    *("article:published_time", "datepublished", 'time[itemprop~="datePublished"][datetime]'),
    *("og:published_time", "dc.date.issued", "dcterms.issued", "dcterms.created", "dc.date", "dcterms.date"),
    *("citation_publication_date", "parsely-pub-date", "pubdate", "publish-date", "publish_date", "date"),
    *("time[datetime]:is(article *)", "time[datetime]"),
)


def noindex_of(page: Page) -> bool:
    """Whether it asks not to be shown in search results: by ``X-Robots-Tag``, or ``meta name=robots``."""
    return asks_by_header(page) or any(
        forbids("noindex", directives_of_meta(meta.attr("content") or ""))
        for meta in page.tree.select("meta[name][content]")
        if (meta.attr("name") or "").lower() in _AGENTS
    )


def asks_by_header(page: Page) -> bool:
    """The same, by its header alone."""
    said = (value for name, value in page.document.headers if name.lower() == "x-robots-tag")
    return any(forbids("noindex", directives_of_header(value, _AGENTS)) for value in said)


_AGENTS: Final = robots_agents("sqspider")


def _links_of(page: Page) -> tuple[tuple[object, ...], ...] | None:
    """Where it refers to: those of its links that lead to a URL."""
    found = links_of_page(page.document)
    links = tuple((to, kind._value_, fragment, rel, text) for to, kind, _, fragment, rel, text, _ in found if to)
    return links or None


class FactColumn(NamedTuple):
    """The column of a fact, and what makes its value of a page; ``beside``: of what is no page."""

    column: Column
    of: Callable[[Page], Any]
    beside: Callable[[Page], Any] | None = None
    is_of_shown: bool = False  # of what is shown of a page, and of nothing else of its tree


def _text_of(page: Page) -> str | None:
    return texts.text_of(page.document) or None


def _markdown_of(page: Page) -> str | None:
    return texts.markdown_of(page.document) or None


def _of_text(make: Callable[[Page], str | None], page: Page) -> str | None:
    """The same of what is a text, but no page."""
    return make(page) if page.document.media_type.startswith("text/") else None


def fact_column(fact: Fact, main_by: str) -> FactColumn:
    """How a fact is found. Raises ``ValueError`` for a library that is not installed."""
    name = str(fact.value)
    if fact is Fact.MAIN:
        texts.require_main_by(main_by)
    match fact:
        case Fact.HEADINGS:
            return FactColumn(Column(name, Kind.STRUCTS, (Column("level", Kind.INTEGER), Column("text"))), headings_of)
        case Fact.PUBLISHED:
            return FactColumn(Column(name, Kind.TIME), published_of)
        case Fact.NOINDEX:
            return FactColumn(Column(name, Kind.BOOLEAN), noindex_of, asks_by_header)
        case Fact.LINKS:
            fields = tuple(Column(each) for each in ("to", "kind", "fragment", "rel", "text"))
            return FactColumn(Column(name, Kind.STRUCTS, fields), _links_of, _links_of)
        case Fact.TEXT | Fact.MARKDOWN:
            make = _text_of if fact is Fact.TEXT else _markdown_of
            # Markdown needs to know where links lead, too.
            return FactColumn(Column(name), make, partial(_of_text, make), is_of_shown=fact is Fact.TEXT)
        case Fact.MAIN:
            return FactColumn(
                Column(name), lambda page: texts.main_of(page.document, main_by) or None, is_of_shown=True
            )
        case Fact.LANGUAGE:
            return FactColumn(Column(name), language_of, language_by_header)
        case _:
            return FactColumn(Column(name), _PLAIN[fact])


_PLAIN: Final = {
    Fact.TITLE: title_of,
    Fact.CANONICAL: canonical_of,
    Fact.DESCRIPTION: description_of,
}
