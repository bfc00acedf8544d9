"""What of a page's tree a reader sees: without what no browser shows, and without tables that only lay out."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import turbohtml

# Of a tree that was never changed, turbohtml knows where the elements of a tag are: it is asked for them one by one,
# and for all of them before the first change.

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
    changes = _changes_of(tree)
    if not any(changes):
        return tree
    if in_place:
        page = tree
    else:
        page = copy.deepcopy(tree)
        changes = _changes_of(page)
    for element in changes.unseen:
        element.extract()
    if changes.has_no_links:
        page.strip_tags(_NO_LINKS)
    for table in changes.layouts:
        _dissolve(table)
    blocks, apart = (
        (changes.blocks, changes.apart) if not changes.layouts else (_all(page, _IN_CELLS), _all(page, _SET_APART))
    )
    _keep_words_apart(blocks, apart)
    return page


class _Changes(NamedTuple):
    """What of a tree is to be changed."""

    unseen: list[turbohtml.Element]
    has_no_links: bool
    layouts: list[turbohtml.Element]
    blocks: list[turbohtml.Element]
    apart: list[turbohtml.Element]


def _changes_of(page: turbohtml.Document) -> _Changes:
    return _Changes(
        unseen=_all(page, _UNSEEN),
        has_no_links=page.select_one(_NO_LINKS) is not None,
        layouts=page.select("table") if _has_too_many_cells(page) else _all(page, _LAYOUT),
        blocks=_all(page, _IN_CELLS),
        apart=_all(page, _SET_APART),
    )


def _all(page: turbohtml.Document, selectors: Iterable[str]) -> list[turbohtml.Element]:
    """The elements of several selectors, each once."""
    found = [element for selector in selectors for element in page.select(selector)]
    return list(dict.fromkeys(found)) if found else found


def _has_too_many_cells(page: turbohtml.Document) -> bool:
    return len(page.select("td")) + len(page.select("th")) > _MOST_CELLS


def _keep_words_apart(blocks: Iterable[turbohtml.Element], apart: Iterable[turbohtml.Element]) -> None:
    """Words that only are apart by how they are laid out."""
    import turbohtml

    for block in blocks:
        if block.parent is None:  # it was unseen itself
            continue
        block.insert_before(turbohtml.Text(" "))
        block.insert_after(turbohtml.Text(" "))
        block.tag = "span"
    for element in apart:
        if element.parent is not None:
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
