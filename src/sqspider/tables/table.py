"""The seam between whoever makes rows and the files they go to."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from sqspider.tables.columns import Row


class TableError(Exception):
    """Rows cannot be written: which file, what is wrong with it, and what to do."""


class ExistsError(TableError):
    """Something is there already, and it was not said that it is to be replaced."""


class Ended(Protocol):
    """What is written to, and ends: a table, or where its bytes go."""

    def close(self, *, is_whole: bool) -> None:
        """The end. What appears as a whole appears now, if it is; else nothing of it stays."""


E = TypeVar("E", bound=Ended)


@contextmanager
def whole(file: E) -> Iterator[E]:
    """Within it something is written, which is whole at its end; whatever is raised there, nothing of it stays."""
    try:
        yield file
    except BaseException:
        file.close(is_whole=False)
        raise
    file.close(is_whole=True)


def as_number(position: str | None) -> int:
    """A position that is a number, 0 without one. Raises :class:`TableError` for what is none."""
    if position is not None and not position.isdecimal():
        raise TableError(f"{position!r} is no position in this table: it was told by another one")
    return int(position or 0)


class Encoder(Protocol):
    """Makes of rows what a table takes. It can be sent to another process, and is called there."""

    def encode(self, rows: Sequence[Row]) -> bytes:
        """Rows as a chunk. Raises ``TypeError`` or ``ValueError`` for a value that is not of its column's kind."""


class Table(Protocol):
    """A file, or folder, that rows are written to. Chunks come from its encoder, in whatever order.

    Raises :class:`TableError` for what cannot be written: a full disk, a missing permission.
    """

    @property
    def encoder(self) -> Encoder:
        """By which rows become chunks."""

    @property
    def connection(self) -> sqlite3.Connection | None:
        """Where rows lie in a database: whoever commits this connection commits the rows. Else none."""

    @property
    def can_rewind(self) -> bool:
        """It can be gone on with after a kill: by :meth:`rewind`, or by what was committed to its database."""

    @property
    def is_empty(self) -> bool:
        """There is no row in it of an earlier process."""

    @property
    def is_full(self) -> bool:
        """What was written since the last flush is as much as one is good for: another would be no cheaper later."""

    @property
    def flush_seconds(self) -> float:
        """While it is not full, how long after a flush the next one is worth what it costs: what a kill may undo."""

    def write(self, chunk: bytes) -> None:
        """Take a chunk. It is not durable yet."""

    def flush(self) -> str:
        """What was written is durable: how far the table goes by now, for :meth:`rewind`. Where there is a
        ``connection`` nothing is done, and its owner commits."""

    def rewind(self, position: str | None) -> None:
        """Before the first chunk: let go of what lies behind a position that :meth:`flush` told; none: of all."""

    def close(self, *, is_whole: bool) -> None:
        """The end. What appears as a whole appears now, if it is; else nothing of it stays."""
