"""Sorts more rows than fit into memory: SQLite does, in a file of its own that has no name."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Sequence
from contextlib import closing
from typing import Final, NamedTuple

import msgspec

from sqspider.tables.columns import Column, Row
from sqspider.tables.table import TableError
from sqspider.tables.values import NESTED, without_surrogates

BATCH: Final = 500  # rows that are given back at a time
_to_json: Final = msgspec.json.Encoder()
_from_json: Final = msgspec.json.Decoder(tuple[object, ...])


class Order(NamedTuple):
    """By which column rows are sorted. What there is not comes last."""

    field: str
    is_falling: bool = False


def check_order(columns: Sequence[Column], orders: Iterable[Order]) -> None:
    """Raise ``ValueError`` for a column that nothing can be sorted by."""
    nested = {column.name for column in columns if column.kind in NESTED}
    for order in orders:
        if order.field in nested:
            raise ValueError(f"{order.field} is a list or an object: nothing is sorted by it")


async def in_order(
    batches: AsyncIterable[list[Row]], columns: Sequence[Column], orders: Sequence[Order], limit: int | None = None
) -> AsyncGenerator[list[Row]]:
    """Rows in order, those first that come first; of the same, those that came first. Raises :class:`TableError`."""
    places = [next(at for at, column in enumerate(columns) if column.name == order.field) for order in orders]
    try:
        with closing(sqlite3.connect("", isolation_level=None)) as connection:
            _prepare(connection, len(places))
            insert = f"INSERT INTO kept VALUES (NULL, ?, {', '.join('?' * len(places))})"
            async for rows in batches:
                clean = [without_surrogates(row) for row in rows]
                connection.executemany(insert, ((_to_json.encode(row), *(row[at] for at in places)) for row in clean))
            found = connection.execute(_select(orders), (-1 if limit is None else limit,))
            while some := list(itertools.islice(found, BATCH)):
                yield [_from_json.decode(row) for (row,) in some]
    except sqlite3.Error as error:
        raise TableError(
            f"rows cannot be sorted: {error}. They lie in the folder for temporary files meanwhile"
        ) from error


def _prepare(connection: sqlite3.Connection, keys: int) -> None:
    connection.execute("PRAGMA journal_mode = OFF")  # whatever goes wrong, it is begun anew
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute(f"CREATE TABLE kept (id INTEGER PRIMARY KEY, row BLOB, {', '.join(_keys(keys))})")
    connection.execute("BEGIN")


def _select(orders: Sequence[Order]) -> str:
    ways = [
        f"{key} {'DESC' if order.is_falling else 'ASC'} NULLS LAST"
        for key, order in zip(_keys(len(orders)), orders, strict=True)
    ]
    return f"SELECT row FROM kept ORDER BY {', '.join(ways)}, id LIMIT ?"


def _keys(number: int) -> list[str]:
    return [f"key_{at}" for at in range(number)]
