"""What of a page's tree a reader sees: without what no browser shows, and without tables that only lay out."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import turbohtml

# Of a tree that was never changed, turbohtml knows where the elements of a tag are: it is asked for them one by one. Of
# one that was, it looks at all elements each time: that is asked for all of them together.

# Scripts, styles and templates are no text to turbohtml anyhow. What stands in a frame, a video or a canvas is
# for browsers that know none; lists to choose from are one word after another; and browsers run scripts.
_UNSEEN: Final = (
    *("noscript", "noframes", "iframe", "object", "audio", "video", "canvas", "svg", "select", "datalist"),
    *("dialog:not([open])", "img[src^='data:' i]"),
    "[hidden]:not([hidden=until-found i]), [style]:is([style*='display:none' i], [style*='display: none' i], "
    "[style*='visibility:hidden' i], [style*='visibility: hidden' i])",
)
_NO_LINKS: Final = "a[href^='javascript:' i], a[href^='data:' i]"
_LAYOUT: Final = ("table:has(table, h1, h2, h3, h4, h5, h6, form, article, main)", "table[role=presentation i]")
_MOST_CELLS: Final = 200_000  # of a page: turbohtml takes a kilobyte for each to put them in columns
_TABLE_PARTS: Final = frozenset(("caption", "thead", "tbody", "tfoot", "tr", "td", "th", "col", "colgroup"))
# Blocks in cells, which are lines of their own in a browser: in one line of text a blank keeps their words apart.
_IN_CELLS: Final = ("td p", "td div", "td blockquote", "td section", "th p", "th div")
_SET_APART: Final = ("button", "td > ul", "td > ol", "td > dl", "td > pre")


def shown(tree: turbohtml.Document, *, in_place: bool) -> turbohtml.Document:
    """What a reader sees of a page. The tree is the answer where all of it is seen as it stands; else a copy, or
    ``in_place`` what is left of the tree."""
    has_unseen, has_no_links = _has(tree, *_UNSEEN), _has(tree, _NO_LINKS)
    is_to_be_set_apart = _has(tree, *_SET_APART, *_IN_CELLS, *_LAYOUT) or _has_too_many_cells(tree)
    if not has_unseen and not has_no_links and not is_to_be_set_apart:
        return tree
    page = tree if in_place else copy.deepcopy(tree)
    if has_unseen:
        page.remove(", ".join(_UNSEEN))
    if has_no_links:
        page.strip_tags(_NO_LINKS)
    if is_to_be_set_apart:
        _set_apart(page)
    return page


def _has(tree: turbohtml.Document, *selectors: str) -> bool:
    return any(tree.select_one(selector) is not None for selector in selectors)


def _has_too_many_cells(page: turbohtml.Document) -> bool:
    return len(page.select("td")) + len(page.select("th")) > _MOST_CELLS


def _set_apart(page: turbohtml.Document) -> None:
    """Keep words apart that only are so by how they are laid out."""
    import turbohtml

    for table in page.select("table" if _has_too_many_cells(page) else ", ".join(_LAYOUT)):
        _dissolve(table)
    for block in page.select(", ".join(_IN_CELLS)):
        block.insert_before(turbohtml.Text(" "))
        block.insert_after(turbohtml.Text(" "))
        block.tag = "span"
    for element in page.select(", ".join(_SET_APART)):
        element.insert_before(turbohtml.Text(" "))


def _dissolve(table: turbohtml.Element) -> None:
    """Make blocks of a table and its cells, but not of the tables within it."""
    import turbohtml

    parts = [table]
    while parts:
        part = parts.pop()
        part.tag = "div"
        elements = (child for child in part.children if isinstance(child, turbohtml.Element))
        parts += [child for child in elements if child.tag in _TABLE_PARTS]
