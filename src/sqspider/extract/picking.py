"""Some of the columns of rows, in an order of one's own."""

from __future__ import annotations

from collections.abc import Sequence

from sqspider.checks import proposal
from sqspider.tables.columns import Column, Row
from sqspider.tables.table import Encoder


def places_of(names: Sequence[str], columns: Sequence[Column]) -> tuple[int, ...]:
    """Where columns stand; without names, all of them.

    Raises ``ValueError`` for a name that none has, or that is said twice.
    """
    places = {column.name: at for at, column in enumerate(columns)}
    for name in names:
        if name not in places:
            meant = proposal(name, places) or f" They are {', '.join(places)}"
            raise ValueError(f"columns: no column is called {name!r}.{meant}")
        if names.count(name) > 1:
            raise ValueError(f"columns: {name} is named twice")
    return tuple(places[name] for name in names) or tuple(range(len(columns)))


def picked(row: Row, places: Sequence[int]) -> Row:
    """The values at places."""
    return tuple(row[at] for at in places)


class Picking:
    """An encoder of some columns, for whoever makes all of them."""

    def __init__(self, encoder: Encoder, places: Sequence[int]) -> None:
        self._encoder = encoder
        self._places = tuple(places)

    def encode(self, rows: Sequence[Row]) -> bytes:
        return self._encoder.encode([picked(row, self._places) for row in rows])
