"""JSON lines: an object a row, in UTF-8. https://jsonlines.org/"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from sqspider.tables.columns import Kind, Row
from sqspider.tables.values import Encoding, as_json

_to_json: Final = msgspec.json.Encoder()
_OTHERWISE: Final = (Kind.TIME, Kind.STRUCTS)


class JsonLines(Encoding):
    """Makes lines of rows."""

    def head(self) -> bytes:
        """There is none."""
        return b""

    def _chunk(self, rows: list[Row]) -> bytes:
        names = [column.name for column in self.columns]
        otherwise = [column for column in self.columns if column.kind in _OTHERWISE]
        objects: list[dict[str, Any]] = [dict(zip(names, row, strict=True)) for row in rows]
        for column in otherwise:
            for each in objects:
                each[column.name] = as_json(column, each[column.name])
        return _to_json.encode_lines(objects)
