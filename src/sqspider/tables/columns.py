"""Columns and rows: what a value of each kind is, whatever file it is written to."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Kind(enum.StrEnum):
    """What a column holds. None is a value of each."""

    TEXT = "text"
    INTEGER = "integer"  # of 64 bits
    NUMBER = "number"  # a float
    BOOLEAN = "boolean"
    TIME = "time"  # a float: seconds since the epoch. Written as ISO 8601 in UTC, or as the file's own kind
    TEXTS = "texts"  # a sequence of texts
    STRUCTS = "structs"  # a sequence of tuples, by the column's ``fields``
    JSON = "json"  # whatever JSON has; where a file has no such kind, as text


class Column(NamedTuple):
    """A named column."""

    name: str
    kind: Kind = Kind.TEXT
    fields: tuple[Column, ...] = ()  # of ``STRUCTS`` alone
    is_key: bool = False  # rows are known by the values of these


def chosen(columns: Sequence[Column], places: Iterable[int]) -> tuple[Column, ...]:
    """The columns at places. Where one of the key is not among them rows have none: they would be taken for one
    another."""
    found = tuple(columns[at] for at in places)
    has_key = sum(column.is_key for column in found) == sum(column.is_key for column in columns)
    return found if has_key else tuple(column._replace(is_key=False) for column in found)


Row = tuple[object, ...]
"""Values, in the order of their columns."""
