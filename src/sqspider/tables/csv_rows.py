"""CSV (RFC 4180), in UTF-8: the columns' names first, lists and objects as JSON."""

from __future__ import annotations

import csv
from io import StringIO
from typing import Any, Final

from sqspider.tables.columns import Kind, Row
from sqspider.tables.values import WRITTEN_OTHERWISE, Encoding, cell

_FORMULAS: Final = "=+-@\t\r"  # what one begins with


class CsvRows(Encoding):
    """Makes rows of CSV. What a spreadsheet would run as a formula stays text: it has an apostrophe before it."""

    def head(self) -> bytes:
        """The names of the columns."""
        return _written([[column.name for column in self.columns]])

    def _chunk(self, rows: list[Row]) -> bytes:
        lines: list[list[Any]] = [list(row) for row in rows]
        for at, column in enumerate(self.columns):
            for line in lines if column.kind is Kind.TEXT else ():
                if line[at] and line[at][0] in _FORMULAS:
                    line[at] = f"'{line[at]}"
            for line in lines if column.kind in WRITTEN_OTHERWISE else ():
                line[at] = cell(column, line[at])
        return _written(lines)


def _written(lines: list[list[Any]]) -> bytes:
    out = StringIO()
    csv.writer(out).writerows(lines)
    return out.getvalue().encode()
