"""What of a page's tree a reader sees: without what no browser shows, and without tables that only lay out."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import turbohtml

# Scripts, styles and templates are no text to turbohtml anyhow. What stands in a frame, a video or a canvas is
# for browsers that know none; lists to choose from are one word after another; and browsers run scripts.
_UNSEEN: Final = (
    "noscript, noframes, iframe, object, audio, video, canvas, svg, select, datalist, dialog:not([open]), "
    "img[src^='data:' i], [hidden]:not([hidden=until-found i]), [style*='display:none' i], [style*='display: none' i], "
    "[style*='visibility:hidden' i], [style*='visibility: hidden' i]"
)
_LAYOUT: Final = "table:has(table, h1, h2, h3, h4, h5, h6, form, article, main), table[role=presentation i]"
_MOST_CELLS: Final = 200_000  # of a page: turbohtml takes a kilobyte for each to put them in columns
_TABLE_PARTS: Final = frozenset(("caption", "thead", "tbody", "tfoot", "tr", "td", "th", "col", "colgroup"))
_SET_APART: Final = "table, button"  # of whose words some are only kept apart by how they are laid out
_NO_LINKS: Final = "a[href^='javascript:' i], a[href^='data:' i]"
# Blocks in cells, which are lines of their own in a browser: in one line of text a blank keeps their words apart.
_IN_CELLS: Final = "td p, td div, td blockquote, td section, th p, th div"
_LISTS_IN_CELLS: Final = "button, td > ul, td > ol, td > dl, td > pre"
_CHANGED: Final = f"{_UNSEEN}, {_NO_LINKS}, {_SET_APART}"


def shown(tree: turbohtml.Document) -> turbohtml.Document:
    """What a reader sees of a page. The tree stays as it is, and is the answer where all of it is seen as it stands."""
    if tree.select_one(_CHANGED) is None:
        return tree
    page = copy.deepcopy(tree)
    page.remove(_UNSEEN)
    page.strip_tags(_NO_LINKS)
    if page.select_one(_SET_APART) is not None:
        _set_apart(page)
    return page


def _set_apart(page: turbohtml.Document) -> None:
    import turbohtml

    has_too_many = len(page.select("td, th")) > _MOST_CELLS
    for table in page.select("table" if has_too_many else _LAYOUT):
        _dissolve(table)
    for block in page.select(_IN_CELLS):
        block.insert_before(turbohtml.Text(" "))
        block.insert_after(turbohtml.Text(" "))
        block.tag = "span"
    for element in page.select(_LISTS_IN_CELLS):
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
