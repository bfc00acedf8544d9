"""Tables made rectangular: Markdown knows no cell that spans several, and no row that ends early."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import turbohtml

_MOST_CELLS: Final = 100_000  # of a table that is made rectangular; a larger one stays as it is
_MOST_SPANNED: Final = 1000  # HTML standard, section 4.9.11


def make_rectangular(page: turbohtml.Document | turbohtml.Element) -> None:
    """Put empty cells where a cell spans several, and where a row ends early. Tables with tables in them are left."""
    for table in page.select("table:not(:has(table))"):
        rows = [(row, _cells_of(row)) for row in table.select("tr")]
        spans = [[_span(cell, "colspan") for cell in cells] for _, cells in rows]
        if max(map(sum, spans), default=0) * len(rows) <= _MOST_CELLS:
            _fill(rows)


def _fill(rows: Sequence[tuple[turbohtml.Element, list[turbohtml.Element]]]) -> None:
    import turbohtml

    carried: dict[int, int] = {}  # by column: rows that a cell above it still covers
    widths = []
    for row, cells in rows:
        column = 0
        below: dict[int, int] = {}
        for cell in cells:
            while carried.get(column, 0):
                cell.insert_before(turbohtml.Element("td"))
                column += 1
            columns, down = _span(cell, "colspan"), _span(cell, "rowspan") - 1
            cell.attrs.pop("colspan", None)
            cell.attrs.pop("rowspan", None)
            for _ in range(columns - 1):
                cell.insert_after(turbohtml.Element("td"))
            below.update(dict.fromkeys(range(column, column + columns), down))
            column += columns
        while carried.get(column, 0):
            row.append(turbohtml.Element("td"))
            column += 1
        carried = {at: left - 1 for at, left in carried.items() if left > 1} | {at: n for at, n in below.items() if n}
        widths.append(column)
    most = max(widths, default=0)
    for (row, _), width in zip(rows, widths, strict=True):
        for _ in range(most - width):
            row.append(turbohtml.Element("td"))


def _cells_of(row: turbohtml.Element) -> list[turbohtml.Element]:
    return [cell for cell in row.select("td, th") if cell.parent == row]


def _span(cell: turbohtml.Element, name: str) -> int:
    value = cell.attr(name) or ""
    return max(1, min(int(value), _MOST_SPANNED)) if value.isdecimal() and len(value) < 6 else 1
