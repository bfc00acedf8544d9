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
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Final

from sqspider.extract.cursor import Cursor, Pending, Step
from sqspider.tables.table import Table, TableError
from sqspider.tables.target import How

BEHIND: Final = ".cursor"  # the table's name
COMMIT_SECONDS: Final = 2.0  # what a kill may undo, where the table does not ask for more
_POSITION: Final = "position"  # of the table, as it was committed
VERSION: Final = "1"  # of the cursor: one of another is not gone on with
_VERSION: Final = "version"
_ROWS: Final = "rows"  # that were written


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
        path = _beside(self._name)
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
        if before.setdefault(_VERSION, VERSION) != VERSION:
            raise TableError(f"{self._name} was made by another version of sqspider: --overwrite begins anew")
        for what, value in made_with.items():
            if before.get(what, value) != value:
                raise TableError(
                    f"{self._name} was made with other {what}: --overwrite begins anew, or name another file"
                )
        if _POSITION in before:
            self.table.rewind(before[_POSITION])
        elif how is How.APPEND and not self.table.is_empty:
            where = "in it" if self.table.connection is not None else f"in {_beside(self._name)}, which is not there"
            raise TableError(
                f"{self._name} has rows, and how far the archive was read for them should stand {where}: "
                "--overwrite begins anew, or name another file"
            )
        self._rows = int(before.get(_ROWS, 0))
        cursor.note(**made_with, **{_VERSION: VERSION, _POSITION: self.table.flush()})
        self._connection.execute("COMMIT")
        return cursor

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            where = "it" if self.table.connection is not None else f"what stands beside it ({BEHIND})"
            raise TableError(f"{self._name}: {where} cannot be written: {error}") from error


def forget(name: str, table: Table) -> None:
    """What is written into a table now has no cursor: one that is left of rows that were there is not theirs."""
    if table.connection is not None:
        Cursor(table.connection).clear()
        return
    with suppress(OSError):  # then it goes on with nothing: what is there is none of its own
        os.unlink(_beside(name))


def _beside(name: str) -> str:
    """Beside the file itself, where the name is a link to it: whatever it is called, it has one."""
    name = name.rstrip("/" + os.sep)
    return (os.path.realpath(name) if os.path.islink(name) else name) + BEHIND
