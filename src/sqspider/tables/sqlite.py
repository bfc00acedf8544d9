"""SQLite: rows in a table of a database, the same key once."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from sqspider.tables.columns import Column, Kind, Row
from sqspider.tables.table import TableError
from sqspider.tables.target import How, refuse_existing, try_target
from sqspider.tables.values import WRITTEN_OTHERWISE, Encoding, cell

NAME: Final = "rows"  # of the table
BUSY_SECONDS: Final = 10.0  # that another process may hold the file
CACHE_KIB: Final = 64 * 1024  # an index of a million keys fits into it

# Times are ISO 8601, which sorts, and which SQLite's own functions read; lists and objects are JSON, for json_each.
_TYPES: Final = {Kind.INTEGER: "INTEGER", Kind.NUMBER: "REAL", Kind.BOOLEAN: "BOOLEAN"}
_NO_TEXT: Final = "0"  # what stands for none in the index: of another type than whatever is there
_NO_NUMBER: Final = "''"


class SqliteRows(Encoding):
    """Makes values of SQLite's of rows."""

    def _chunk(self, rows: list[Row]) -> bytes:
        otherwise = [(at, column) for at, column in enumerate(self.columns) if column.kind in WRITTEN_OTHERWISE]
        values = [list(row) for row in rows]
        for at, column in otherwise:
            for row in values:
                row[at] = cell(column, row[at])
        return msgspec.msgpack.encode(values)


_decoder: Final = msgspec.msgpack.Decoder(list[list[str | int | float | bool | None]])


class SqliteTable:
    """A table of a database. What was not committed by its end is not there.

    ``in_place``: for who commits now and then, and whose readers shall not wait: the file has a log beside it until it
    is closed.
    """

    can_rewind = True
    is_full = False
    flush_seconds = 1.0

    def __init__(self, target: str, columns: tuple[Column, ...], how: How, *, in_place: bool) -> None:
        self._path = path = Path(target)
        if how is How.NEW:
            refuse_existing(path)
        try_target(target)
        self.encoder = SqliteRows(columns)
        with self._told():
            self.connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
            try:
                self._prepare(columns, how, in_place=in_place)
            except BaseException:
                self._let_go()
                raise
        self._insert = f"INSERT OR REPLACE INTO {NAME} VALUES ({', '.join('?' * len(columns))})"

    def _prepare(self, columns: tuple[Column, ...], how: How, *, in_place: bool) -> None:
        """Make the table, in a transaction that takes in the first rows."""
        run = self.connection.execute
        if run("PRAGMA application_id").fetchone()[0]:
            raise TableError(f"{self._path} is the database of a program, a frontier's perhaps: name another file")
        run(f"PRAGMA cache_size = -{CACHE_KIB}")
        if in_place:
            run("PRAGMA journal_mode = WAL")
            run("PRAGMA synchronous = NORMAL")  # what a power cut takes away it takes whole commits of, the last ones
        run("BEGIN IMMEDIATE")
        if how is How.OVERWRITE:
            run(f"DROP TABLE IF EXISTS {NAME}")
        run(f"CREATE TABLE IF NOT EXISTS {NAME} ({', '.join(_declared(column) for column in columns)})")
        there = [row[1] for row in run(f"PRAGMA table_info({NAME})")]
        if there != [column.name for column in columns]:
            raise TableError(f"{self._path}: its table {NAME} has other columns: name another file, or --overwrite")
        self._have_key(", ".join(_in_key(column) for column in columns if column.is_key))

    def _have_key(self, key: str) -> None:
        """Have this key, and none that a version before gave the table: by that, rows were taken for one another."""
        run = self.connection.execute
        wanted = f"CREATE UNIQUE INDEX {NAME}_key ON {NAME} ({key})" if key else None
        (there,) = run("SELECT sql FROM sqlite_schema WHERE name = ?", (f"{NAME}_key",)).fetchone() or (None,)
        if there != wanted:
            run(f"DROP INDEX IF EXISTS {NAME}_key")
            if wanted is not None:
                run(wanted)

    @property
    def is_empty(self) -> bool:
        with self._told():
            return self.connection.execute(f"SELECT 1 FROM {NAME} LIMIT 1").fetchone() is None

    def write(self, chunk: bytes) -> None:
        with self._told():
            if not self.connection.in_transaction:
                self.connection.execute("BEGIN IMMEDIATE")
            self.connection.executemany(self._insert, _decoder.decode(chunk))

    def flush(self) -> str:
        """Its owner commits."""
        return ""

    def rewind(self, position: str | None) -> None:
        if position is None:
            with self._told():
                if not self.connection.in_transaction:
                    self.connection.execute("BEGIN IMMEDIATE")
                self.connection.execute(f"DELETE FROM {NAME}")

    def close(self, *, is_whole: bool) -> None:
        try:
            if is_whole:
                with self._told():
                    self.connection.commit()
                    self.connection.execute("PRAGMA journal_mode = DELETE")  # one file, to be sent to somebody
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """What was not committed is not there; nor is a file that nothing was committed to."""
        with suppress(sqlite3.Error):
            self.connection.rollback()
        self.connection.close()
        with suppress(OSError):
            if self._path.stat().st_size == 0:
                self._path.unlink()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OverflowError) as error:
            why = "it is no database" if "not a database" in str(error) else str(error)
            raise TableError(f"{self._path} cannot be written: {why}") from error


def _quoted(name: str) -> str:
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _declared(column: Column) -> str:
    return f"{_quoted(column.name)} {_TYPES.get(column.kind, 'TEXT')}"


def _in_key(column: Column) -> str:
    """None is a value like any other there; for SQLite no two of it are the same."""
    is_text = column.kind not in _TYPES
    return f"ifnull({_quoted(column.name)}, {_NO_TEXT if is_text else _NO_NUMBER})"
