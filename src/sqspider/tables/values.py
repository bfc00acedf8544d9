"""What a value must be to stand in a column, and how those are written for which a file has no kind of its own.

The same in every file: a time has microseconds; a number that is not finite is none, as JSON has it; half of a
surrogate pair is no character, and written as U+FFFD: half the readers of JSON refuse a file with one.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import msgspec

from sqspider.tables.columns import Column, Kind, Row

_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC).timestamp()
_END: Final = 253_402_300_799.9995  # half a millisecond before the year 10000: no rounding leads into it
_PLACE: Final = re.compile(r" - at `\$\[\d+\]\[(\d+)\](.*)`")
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_to_json: Final = msgspec.json.Encoder()

# Of msgspec's strict conversion; ``Any``: what a type checker cannot read, for it is made while the program runs.
_TYPES: Final[dict[Kind, Any]] = {
    Kind.TEXT: str,
    Kind.INTEGER: Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)],
    Kind.NUMBER: float,
    Kind.BOOLEAN: bool,
    Kind.TIME: Annotated[float, msgspec.Meta(ge=_FIRST, lt=_END)],
    Kind.TEXTS: list[str | None],
    Kind.JSON: Any,
}


@functools.lru_cache(maxsize=64)
def _shape_of(columns: tuple[Column, ...]) -> Any:
    return tuple[tuple(_type_of(column) | None for column in columns)]  # type: ignore[misc]  # made while it runs


def _type_of(column: Column) -> Any:
    return list[_shape_of(column.fields)] if column.kind is Kind.STRUCTS else _TYPES[column.kind]  # type: ignore[misc]  # the same


def checked(columns: tuple[Column, ...], rows: Sequence[Row]) -> list[Row]:
    """Rows whose values are of their columns' kinds. Raises ``ValueError``, beginning with the column's name."""
    try:
        found: list[Row] = msgspec.convert(rows, list[_shape_of(columns)])  # type: ignore[misc]  # the same
    except (msgspec.ValidationError, OverflowError) as error:
        raise ValueError(_worded(columns, str(error))) from None
    return _finite(columns, found)


def _worded(columns: tuple[Column, ...], why: str) -> str:
    place = _PLACE.search(why)
    if place is None:
        return why
    inside = f" (at {place[2]})" if place[2] else ""
    return f"{columns[int(place[1])].name}{inside}: {why[: place.start()]}"


def _finite(columns: tuple[Column, ...], rows: list[Row]) -> list[Row]:
    for at, column in enumerate(columns):
        if column.kind is Kind.STRUCTS and _has_numbers(column.fields):
            rows = [_with(row, at, row[at] and _finite(column.fields, row[at])) for row in rows]  # type: ignore[arg-type]  # it is checked
        elif column.kind is Kind.NUMBER:
            rows = [row if _is_finite(row[at]) else _with(row, at, None) for row in rows]
    return rows


def _has_numbers(columns: tuple[Column, ...]) -> bool:
    return any(column.kind is Kind.NUMBER or _has_numbers(column.fields) for column in columns)


def _is_finite(value: Any) -> bool:
    return value is None or math.isfinite(value)


def _with(row: Row, at: int, value: object) -> Row:
    return (*row[:at], value, *row[at + 1 :])


def without_surrogates(value: Any) -> Any:
    """Rows, or what is in them, with U+FFFD for each half of a surrogate pair."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {without_surrogates(key): without_surrogates(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(without_surrogates, value))
    return value


def check_time(moment: float) -> None:
    """Raise ``ValueError`` for what no calendar has a day for."""
    if not _FIRST <= moment < _END:
        raise ValueError(f"{moment:g} seconds since 1970 are in no year from 1 to 9999")


def micros(moment: float | None) -> int | None:
    """Seconds since the epoch as whole microseconds."""
    if moment is None:
        return None
    whole = math.floor(moment)
    return whole * 1_000_000 + round((moment - whole) * 1_000_000)


def iso(moment: Any) -> str | None:
    """Seconds since the epoch as ISO 8601 in UTC: with milliseconds, and with microseconds where there are some."""
    if moment is None:
        return None
    when = datetime.fromtimestamp(moment, UTC)
    return when.isoformat(timespec="microseconds" if when.microsecond % 1000 else "milliseconds")[:-6] + "Z"


def as_json(column: Column, value: Any) -> Any:
    """A value as JSON has it: an object for each struct, ISO 8601 for a time."""
    if value is None:
        return None
    if column.kind is Kind.TIME:
        return iso(value)
    if column.kind is Kind.STRUCTS:
        names = [field.name for field in column.fields]
        return [dict(zip(names, as_json_row(column.fields, item), strict=True)) for item in value]
    return value


def as_json_row(columns: tuple[Column, ...], row: Row) -> list[Any]:
    """The values of a row as JSON has them."""
    return [as_json(column, value) for column, value in zip(columns, row, strict=True)]


def json_text(value: object) -> str | None:
    """What JSON has, as its text."""
    return None if value is None else _to_json.encode(value).decode()


def cell(column: Column, value: Any) -> Any:
    """A value where there are texts and numbers alone: lists and objects as JSON, a time as ISO 8601."""
    if column.kind in NESTED:
        return json_text(as_json(column, value))
    return iso(value) if column.kind is Kind.TIME else value


NESTED: Final = frozenset({Kind.TEXTS, Kind.STRUCTS, Kind.JSON})
WRITTEN_OTHERWISE: Final = NESTED | {Kind.TIME}
"""The kinds that :func:`cell` changes."""


class Encoding:
    """What encoders have in common: values are checked, and made Unicode where they are none."""

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self.columns = columns

    def encode(self, rows: Sequence[Row]) -> bytes:
        """Rows as a chunk. Raises ``ValueError`` for a value that is not of its column's kind."""
        fitting = checked(self.columns, rows)
        try:
            try:
                return self._chunk(fitting)
            except UnicodeEncodeError:
                return self._chunk(without_surrogates(fitting))
        except TypeError as error:  # all else was looked at
            names = ", ".join(column.name for column in self.columns if column.kind is Kind.JSON)
            raise ValueError(f"{names}: {error}") from None

    def _chunk(self, rows: list[Row]) -> bytes:
        raise NotImplementedError
