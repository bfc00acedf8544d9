"""Opens a table by its name: which kind of file it is, and what becomes of what is there."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Final

from sqspider.tables.columns import Column
from sqspider.tables.csv_rows import CsvRows
from sqspider.tables.jsonl import JsonLines
from sqspider.tables.stream import Stream
from sqspider.tables.table import Encoder, Table, TableError
from sqspider.tables.target import STANDARD_OUTPUT, How, Target, open_target, try_target

JSONL: Final = "jsonl"
CSV: Final = "csv"
PARQUET: Final = "parquet"
SQLITE: Final = "sqlite"
FORMATS: Final = (JSONL, CSV, PARQUET, SQLITE)

_OF_FILES: Final = {PARQUET: "Parquet, which is written from its end,", SQLITE: "a database"}
_BY_SUFFIX: Final = {
    **dict.fromkeys(("", ".jsonl", ".ndjson", ".json", ".txt"), JSONL),
    ".csv": CSV,
    ".parquet": PARQUET,
    **dict.fromkeys((".db", ".sqlite", ".sqlite3"), SQLITE),
}


def open_table(
    target: str,
    columns: tuple[Column, ...],
    *,
    how: How = How.NEW,
    format: str | None = None,
    parts: bool = False,
    in_place: bool = False,
    writer: str = "",
) -> Table:
    """Open a table by its name: a file, ``-`` for standard output, or a folder of parts, whose name ends with a slash.

    ``format``: another one than the name says. ``parts``: a folder, whatever its name. ``in_place``: for who keeps a
    cursor: a file of lines grows where it lies, and can be rewound; without, it appears as a whole when it is closed.
    ``writer``: who writes into a folder, where several do: a name of his own, and the same when he goes on.

    Raises :class:`TableError`; then what was there is there.
    """
    kind = format_of(target, format, parts=parts)
    if parts or is_folder(target):
        return _parts(target, columns, kind, how, writer)
    if kind == SQLITE:
        from sqspider.tables.sqlite import SqliteTable

        return SqliteTable(target, columns, how, in_place=in_place)
    if kind == PARQUET and (how is How.APPEND or in_place):
        folder = f"{target.removesuffix('.parquet')}/"
        raise TableError(f"{target}: a Parquet file cannot be gone on with; a folder of them can: name it {folder}")
    encoder = encoder_of(kind, columns)
    return _on(encoder, open_target(target, how, in_place=in_place))


def format_of(target: str, chosen: str | None = None, *, parts: bool = False) -> str:
    """The format that was chosen, else the one that the name asks for. Raises :class:`TableError` if it cannot be."""
    if parts or is_folder(target):
        found = chosen or PARQUET
        if found == SQLITE:
            raise TableError(f"{target}: a database is one file, and no folder of parts: name it .db")
    else:
        is_file = target != STANDARD_OUTPUT and (os.path.isfile(target) or not os.path.exists(target))
        found = chosen or _BY_SUFFIX.get(Path(target).suffix.lower(), "" if is_file else JSONL)
        if not found:
            raise TableError(
                f"{target}: rows are written as JSON lines, CSV, Parquet or SQLite: name it .jsonl, .csv, .parquet or "
                ".db, or a folder of Parquet files with a / at its end"
            )
        if found in _OF_FILES and not is_file and not os.path.isdir(target):
            raise TableError(f"{target}: {_OF_FILES[found]} goes into a file, not into a pipe: name one")
    if found == PARQUET and importlib.util.find_spec("pyarrow") is None:
        raise TableError(f"{target}: Parquet takes pyarrow, which is not installed: pip install 'sqspider[parquet]'")
    return found


def check_target(target: str) -> None:
    """Raise :class:`TableError` for a name that cannot be written, as far as can be told before it is."""
    if is_folder(target) and os.path.lexists(folder := target.rstrip("/" + os.sep)):
        try_target(os.path.join(folder, "part"))
    elif is_folder(target):
        try_target(folder)  # it is made where a file could be
    elif target != STANDARD_OUTPUT:
        try_target(target)


def is_folder(target: str) -> bool:
    """Whether a name means a folder of parts."""
    return target.endswith(("/", os.sep))


def encoder_of(kind: str, columns: tuple[Column, ...]) -> Encoder:
    """What makes chunks of rows for lines or parts."""
    if kind == PARQUET:
        from sqspider.tables.parquet import ArrowBatches  # here: a tenth of a second, and 45 MB of memory

        return ArrowBatches(columns)
    return CsvRows(columns) if kind == CSV else JsonLines(columns)


def _on(encoder: Encoder, target: Target) -> Table:
    if isinstance(encoder, JsonLines | CsvRows):
        return Stream(encoder, target)
    from sqspider.tables.parquet import ArrowBatches, ParquetTable

    assert isinstance(encoder, ArrowBatches)
    return ParquetTable(encoder, target)


def _parts(target: str, columns: tuple[Column, ...], kind: str, how: How, writer: str) -> Table:
    from sqspider.tables.parts import Parts

    encoder = encoder_of(kind, columns)
    return Parts(Path(target), encoder, lambda part: _on(encoder, part), f".{kind}", how, writer)
