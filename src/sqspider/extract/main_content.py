"""The main content of a page: what it is about, without menus, sidebars, footers and lists of what else there is.

Two answers are compared. turbohtml scores which one element reads as prose: right where a page is one article, and
nothing, or a part, where it is not. The other is the page without what its names and its links tell to be around it:
it loses nothing, but keeps some of what is around. The first counts if it has most of the second. Both, and where to
draw the line, are measured by ``bench/extraction.py``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import turbohtml

_ALWAYS_AROUND: Final = (
    "nav, footer, aside, form, menu, header:not(article header, main header), button, input, textarea, label, "
    "[role=navigation i], [role=banner i], [role=contentinfo i], [role=complementary i], [role=search i], "
    "[role=dialog i], [aria-hidden=true i]"
)
# Parts of classes and ids, as sites name what is around. A word that is part of too many others is none of them.
_NAMES: Final = (
    "share", "sharing", "social", "comment", "related", "sidebar", "side-bar", "promo-", "newsletter", "subscribe",
    "cookie", "consent", "breadcrumb", "advert", "sponsor", "pagination", "pager", "menu", "toolbar", "navbar",
    "navigation", "footer", "masthead", "recommend", "popular", "trending", "most-read", "outbrain", "taboola",
    "disqus", "respond", "reply", "popup", "modal", "banner", "skip-link", "print-only", "toc-nav",
)  # fmt: skip
_NAMED: Final = "[class]:not(body, main, article), [id]:not(body, main, article)"
_ROOTS: Final = ("main, [role=main i]", "article, [itemprop=articleBody i]")
_LISTS: Final = "ul, ol, dl, table, section:not(:has(p))"
_BLOCKS: Final = f"{_LISTS}, p, div:not(:has(p, div, ul, table, section, article))"

_LEAST_LEFT: Final = 0.1  # of a page's text: where taking away what is always around leaves less, it is not around
_MOST_BY_NAME: Final = 0.5  # of a page's text, in an element whose name says that it is around
_LEAST_IN_ROOT: Final = 0.33  # of the text that is left, in the element that is called the main one
_MOST_LINKED: Final = 0.5  # of a block's text, within links; more is a list of what else there is
_SHORT_CHARACTERS: Final = 200  # of a paragraph that is looked at for that
_LEAST_SCORED: Final = 0.6  # of the second answer's text that the first must have
_LOOKS: Final = 20  # how many times as much text as the page has is looked at: elements lie within one another


def main_content(page: turbohtml.Document) -> turbohtml.Element | turbohtml.Document:
    """The element of the main content, of a copy of the page. ``page`` is what is shown of it, and stays as it is."""
    scored = page.main_content()
    rest = _without_what_is_around(page)
    if scored is not None and len(scored.to_text()) >= _LEAST_SCORED * len(rest.to_text()):
        return scored
    return rest


def _without_what_is_around(page: turbohtml.Document) -> turbohtml.Element | turbohtml.Document:
    body = _body_of(page)
    whole = len(body.text)
    body.remove(_ALWAYS_AROUND)
    if len(body.text) < _LEAST_LEFT * whole:
        body = _body_of(page)
    named = (element for element in body.select(_NAMED) if _is_around(element.attr("class"), element.attr("id")))
    for element, size in _sized(named, whole):
        if size <= _MOST_BY_NAME * whole:
            element.extract()
    root = _root_of(body)
    _remove_lists_of_links(root)
    return root


def _body_of(page: turbohtml.Document) -> turbohtml.Element | turbohtml.Document:
    page = copy.deepcopy(page)
    page.remove("script, style, template")
    return page.select_one("body") or page


def _root_of(body: turbohtml.Element | turbohtml.Document) -> turbohtml.Element | turbohtml.Document:
    """The one element in it that is called the main one, if it has a good part of the text."""
    for selector in _ROOTS:
        found = body.select(selector)
        if len(found) == 1 and len(found[0].text) >= _LEAST_IN_ROOT * len(body.text):
            return found[0]
    return body


def _remove_lists_of_links(root: turbohtml.Element | turbohtml.Document) -> None:
    for block, size in _sized(root.select(_BLOCKS), len(root.text)):
        if size >= _SHORT_CHARACTERS and not block.matches(_LISTS):
            continue
        linked = sum(len(link.text) for link in block.select("a"))
        if linked > _MOST_LINKED * size:
            block.extract()


@lru_cache(maxsize=10_000)
def _is_around(classes: str | None, identity: str | None) -> bool:
    names = f"{classes} {identity}".lower()
    return any(name in names for name in _NAMES)


def _sized(elements: Iterable[turbohtml.Element], characters: int) -> Iterator[tuple[turbohtml.Element, int]]:
    """Elements, and how many characters each has, blanks around them not counted."""
    left = _LOOKS * characters
    for element in elements:
        size = len(element.text.strip())
        left -= size
        if left < 0:
            return
        yield element, size
