"""Rows for a person: a table as wide as the terminal, which says what it leaves out."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from rich.cells import cell_len, set_cell_size

from sqspider.cli.wording import counted, printable
from sqspider.tables.columns import Column, Kind, Row
from sqspider.tables.values import cell

_LEAST: Final = 8  # cells that a column keeps, if it has so many
_GAP: Final = "  "
_NUMBERS: Final = (Kind.INTEGER, Kind.NUMBER)


class _Laid(NamedTuple):
    """How a table is laid out."""

    widths: list[int]  # of the columns that are shown: the first ones
    is_cut: bool  # some cells are


def show_rows(columns: Sequence[Column], rows: Sequence[Row], *, has_more: bool, chosen_by: str) -> None:
    """Print rows; what is left out is told on standard error. ``chosen_by``: the option that chooses columns."""
    texts = [[_text(column, value) for column, value in zip(columns, row, strict=True)] for row in rows]
    heads = [column.name for column in columns]
    laid = _laid_out([max(map(cell_len, each)) for each in zip(heads, *texts, strict=True)])
    for line in [heads, *texts]:
        print(_GAP.join(map(_fitted, line, columns, laid.widths)).rstrip())
    notes = _notes(columns, len(rows), laid, has_more=has_more, chosen_by=chosen_by)
    print("; ".join(notes), file=sys.stderr)


def _text(column: Column, value: Any) -> str:
    if value is None:
        return ""
    if column.kind is Kind.TIME:
        return str(cell(column, value))[:19].replace("T", " ")
    if column.kind is Kind.BOOLEAN:
        return "yes" if value else "no"
    return f"{value:,}" if column.kind in _NUMBERS else printable(str(cell(column, value)))


def _laid_out(natural: list[int]) -> _Laid:
    """Widths that fit into the terminal: the widest give way first; if that does not do, the last are not shown."""
    room = shutil.get_terminal_size((100, 24)).columns
    widths = list(natural)
    while len(widths) > 1 and sum(min(width, _LEAST) + len(_GAP) for width in widths) - len(_GAP) > room:
        widths.pop()
    room -= len(_GAP) * (len(widths) - 1)
    while sum(widths) > room and max(widths) > 1:
        widths[widths.index(max(widths))] -= 1
    return _Laid(widths, widths != natural[: len(widths)])


def _fitted(text: str, column: Column, width: int) -> str:
    if cell_len(text) > width:
        return f"{set_cell_size(text, width - 1)}…"
    blanks = " " * (width - cell_len(text))
    return f"{blanks}{text}" if column.kind in _NUMBERS else f"{text}{blanks}"


def _notes(columns: Sequence[Column], rows: int, laid: _Laid, *, has_more: bool, chosen_by: str) -> list[str]:
    notes = [counted(rows, "row", "rows")]
    if has_more:
        notes[0] += ", and there are more: --limit N shows more, --to FILE writes all"
    if laid.is_cut:
        notes.append("what ends with … is cut")
    if left_out := [column.name for column in columns[len(laid.widths) :]]:
        notes.append(f"no room for {', '.join(left_out)}: {chosen_by} says which columns")
    return notes
