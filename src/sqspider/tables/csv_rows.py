"""CSV (RFC 4180), in UTF-8: the columns' names first, lists and objects as JSON."""

from __future__ import annotations

import csv
from io import StringIO
from typing import Any

from sqspider.tables.columns import Row
from sqspider.tables.values import WRITTEN_OTHERWISE, Encoding, cell


class CsvRows(Encoding):
    """Makes rows of CSV. What a spreadsheet would run as a formula stays text: it has an apostrophe before it."""

    def head(self) -> bytes:
        """The names of the columns."""
        return _written([[column.name for column in self.columns]])

    def _chunk(self, rows: list[Row]) -> bytes:
        otherwise = [(at, column) for at, column in enumerate(self.columns) if column.kind in WRITTEN_OTHERWISE]
        lines = [list(row) for row in rows]
        for at, column in otherwise:
            for line in lines:
                line[at] = cell(column, line[at])
        return _written([[_safe(value) for value in line] for line in lines])


def _safe(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value[:1] in "=+-@\t\r" and value else value


def _written(lines: list[list[Any]]) -> bytes:
    out = StringIO()
    csv.writer(out).writerows(lines)
    return out.getvalue().encode()
