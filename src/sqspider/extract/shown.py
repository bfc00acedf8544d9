"""What of a page's tree a reader sees: a copy without what no browser shows, and without tables that only lay out."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import turbohtml

# What stands in a frame, a video or a canvas is
# for browsers that know none; lists to choose from are one word after another; and browsers run scripts.
_UNSEEN: Final = (
    "script, style, template, noscript, noframes, iframe, object, audio, video, canvas, svg, select, datalist, "
    "dialog:not([open]), img[src^='data:' i], "
    "[hidden]:not([hidden=until-found i]), [style*='display:none' i], [style*='display: none' i], "
    "[style*='visibility:hidden' i], [style*='visibility: hidden' i]"
)
_LAYOUT: Final = "table:has(table, h1, h2, h3, h4, h5, h6, form, article, main), table[role=presentation i]"
_TABLE_PARTS: Final = frozenset(("caption", "thead", "tbody", "tfoot", "tr", "td", "th", "col", "colgroup"))
_NO_LINKS: Final = "a[href^='javascript:' i], a[href^='data:' i]"
# Before these a blank is seen, though the markup has none: without it two words became one.
_SET_OFF: Final = "button, td > p, td > div, td > ul, td > ol, td > dl, td > pre, td > blockquote, th > p, th > div"


def shown(tree: turbohtml.Document) -> turbohtml.Document:
    """A copy of a tree, as a reader has it before him. The tree stays as it is."""
    import turbohtml

    page = copy.deepcopy(tree)
    page.remove(_UNSEEN)
    page.strip_tags(_NO_LINKS)
    for table in page.select(_LAYOUT):
        _dissolve(table)
    for element in page.select(_SET_OFF):
        element.insert_before(turbohtml.Text(" "))
    return page


def _dissolve(table: turbohtml.Element) -> None:
    """Make blocks of a table and its cells, but not of the tables within it."""
    import turbohtml

    parts = [table]
    while parts:
        part = parts.pop()
        part.tag = "div"
        elements = (child for child in part.children if isinstance(child, turbohtml.Element))
        parts += [child for child in elements if child.tag in _TABLE_PARTS]
