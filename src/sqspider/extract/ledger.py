"""A table and its cursor: committed together, both or neither.

Where rows lie in a database, the cursor's tables lie there, too, and one transaction takes both. Of any other table
that can be rewound, the cursor stands beside it, with how far the table went when it was committed: what is longer is
cut off at the start. What cannot be rewound (one Parquet file, a pipe) has a cursor in memory alone.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from typing import Final

from sqspider.archive.locks import HAS_LOCKS, lock
from sqspider.extract.cursor import Cursor, Pending, Step
from sqspider.tables.table import Table, TableError
from sqspider.tables.target import How, as_table_errors

BEHIND: Final = ".cursor"  # the table's name
COMMIT_SECONDS: Final = 2.0  # what a kill may undo, where the table does not ask for more
_POSITION: Final = "position"  # of the table, as it was committed
_ROWS: Final = "rows"  # that were written


class BusyError(TableError):
    """Somebody else writes a table just now."""


class Ledger:
    """What is to be committed waits here until it is due. A context manager, within that of its table."""

    def __init__(self, name: str, table: Table, how: How, made_with: Mapping[str, str]) -> None:
        """Takes up what was left. Raises :class:`TableError` for a table that was made with something else, or that
        somebody writes just now."""
        self.table = table
        self._name = name
        self._rows = 0
        self._due = time.monotonic() + max(table.flush_seconds, COMMIT_SECONDS)
        self._held = ExitStack()
        with ExitStack() as held, self._told():
            self._connection = table.connection or self._opened(held, how)
            self.cursor = self._taken_up(how, made_with)
            self._held = held.pop_all()

    def __enter__(self) -> Ledger:
        return self

    def __exit__(self, *error: object) -> None:
        self._held.close()

    def take(self, steps: Iterable[Step], waiting: Iterable[Pending], resolved: Iterable[Pending]) -> None:
        """What is to be committed with the chunks that were written before."""
        with self._told():
            self._begin()
            self.cursor.take(steps)
            self.cursor.wait_for(waiting)
            self.cursor.resolved(resolved)

    def count(self, rows: int) -> int:
        """Count rows that were written; how many there are in all."""
        self._rows += rows
        return self._rows

    def commit_if_due(self) -> None:
        """Commit, if enough has come together, or long ago."""
        if self.table.is_full or time.monotonic() >= self._due:
            self.commit()

    def commit(self) -> None:
        """Rows and cursor are there from now on."""
        position = self.table.flush()  # first: what lies behind what the cursor says is cut off, and made again
        with self._told():
            if self._connection.in_transaction or self.table.connection is None:
                self._begin()
                self.cursor.note(**{_POSITION: position, _ROWS: str(self._rows)})
                self._connection.execute("COMMIT")
        self._due = time.monotonic() + max(self.table.flush_seconds, COMMIT_SECONDS)

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")

    def _opened(self, held: ExitStack, how: How) -> sqlite3.Connection:
        if not self.table.can_rewind:
            return held.enter_context(closing(sqlite3.connect(":memory:", isolation_level=None)))
        path = self._name.rstrip("/" + os.sep) + BEHIND
        with as_table_errors(path):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            held.callback(os.close, descriptor)  # after the database: SQLite's own locks end with it
            if HAS_LOCKS:
                try:
                    lock(descriptor)
                except BlockingIOError:
                    raise BusyError(f"{self._name}: somebody else writes it just now: let that end") from None
        connection = held.enter_context(closing(sqlite3.connect(path, isolation_level=None)))
        if how is not How.APPEND:  # it is of a table that is not there any more
            Cursor(connection).clear()
        return connection

    def _taken_up(self, how: How, made_with: Mapping[str, str]) -> Cursor:
        self._begin()
        cursor = Cursor(self._connection)
        if how is How.OVERWRITE:
            cursor.clear()
        before = cursor.made_with()
        for what, value in made_with.items():
            if before.get(what, value) != value:
                raise TableError(
                    f"{self._name} was made with other {what}: --overwrite begins anew, or name another file"
                )
        if _POSITION in before:
            self.table.rewind(before[_POSITION])
        self._rows = int(before.get(_ROWS, 0))
        cursor.note(**made_with, **{_POSITION: self.table.flush()})
        self._connection.execute("COMMIT")
        return cursor

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            where = "it" if self.table.connection is not None else f"what stands beside it ({BEHIND})"
            raise TableError(f"{self._name}: {where} cannot be written: {error}") from error
