"""Parquet, by pyarrow: workers make record batches of Arrow's, the table gathers them into row groups.

A file's index stands at its end: it is whole then, or no Parquet file at all. https://parquet.apache.org/docs/file-format/
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from sqspider.tables.columns import Column, Kind, Row
from sqspider.tables.table import TableError
from sqspider.tables.target import Target
from sqspider.tables.values import Encoding, as_json, json_text, micros
from sqspider.version import VERSION

GROUP_BYTES: Final = 32 * 1024 * 1024  # of Arrow's memory; packed it is a fraction. It is all that is held
GROUP_ROWS: Final = 122_880  # DuckDB's own size: it reads groups in parallel

_TYPES: Final[dict[Kind, Any]] = {
    Kind.TEXT: pa.string(),
    Kind.INTEGER: pa.int64(),
    Kind.NUMBER: pa.float64(),
    Kind.BOOLEAN: pa.bool_(),
    Kind.TIME: pa.timestamp("us", "UTC"),
    Kind.TEXTS: pa.list_(pa.string()),
    Kind.JSON: pa.string(),
}


def schema_of(columns: tuple[Column, ...]) -> pa.Schema:
    """Arrow's schema for columns, with who wrote it, and by which columns a row is known."""
    keys = [column.name for column in columns if column.is_key]
    about = {"created_by": f"sqspider {VERSION}", "key": json_text(keys) or ""}
    return pa.schema([pa.field(column.name, _type_of(column)) for column in columns], metadata=about)


def _type_of(column: Column) -> Any:
    if column.kind is Kind.STRUCTS:
        return pa.list_(pa.struct([pa.field(field.name, _type_of(field)) for field in column.fields]))
    return _TYPES[column.kind]


class ArrowBatches(Encoding):
    """Makes record batches of rows, as Arrow's IPC has them."""

    def _chunk(self, rows: list[Row]) -> bytes:
        arrays = _arrays(self.columns, rows)
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema_of(self.columns))
        return batch.serialize().to_pybytes()  # type: ignore[no-any-return]  # pyarrow has no types


def _arrays(columns: tuple[Column, ...], rows: Sequence[Row]) -> list[Any]:
    values: Sequence[tuple[Any, ...]] = list(zip(*rows, strict=True)) if rows else [()] * len(columns)
    return [_array(column, each) for column, each in zip(columns, values, strict=True)]


def _array(column: Column, values: Sequence[Any]) -> Any:
    if column.kind is Kind.STRUCTS:
        return _lists_of_structs(column, values)
    if column.kind is Kind.TIME:
        values = [micros(value) for value in values]
    elif column.kind is Kind.JSON:
        values = [json_text(as_json(column, value)) for value in values]
    return pa.array(values, _type_of(column))


def _lists_of_structs(column: Column, values: Sequence[Any]) -> Any:
    """By columns: an object for each struct would take ten times as long."""
    flat: list[Row] = []
    offsets: list[int | None] = []
    for value in values:
        offsets.append(None if value is None else len(flat))
        flat.extend(value or ())
    offsets.append(len(flat))
    type_ = _type_of(column)
    structs = pa.StructArray.from_arrays(_arrays(column.fields, flat), fields=list(type_.value_type))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), structs, type=type_)


class ParquetTable:
    """A Parquet file. It appears as a whole when it is closed."""

    connection: sqlite3.Connection | None = None
    can_rewind = False
    is_empty = True
    is_full = False
    flush_seconds = float("inf")

    def __init__(self, encoder: ArrowBatches, target: Target) -> None:
        self.encoder = encoder
        self._schema = schema_of(encoder.columns)
        self._target = target
        self._file = pa.PythonFile(_Sink(self._target), mode="w")
        self._writer = pq.ParquetWriter(self._file, self._schema, compression="zstd")
        self._batches: list[Any] = []
        self._bytes = 0
        self._rows = 0

    def write(self, chunk: bytes) -> None:
        batch = pa.ipc.read_record_batch(pa.py_buffer(chunk), self._schema)
        self._batches.append(batch)
        self._bytes += len(chunk)
        self._rows += batch.num_rows
        if self._bytes >= GROUP_BYTES or self._rows >= GROUP_ROWS:
            self._write_group()

    def _write_group(self) -> None:
        if self._rows:
            table = pa.Table.from_batches(self._batches, self._schema)
            self._writer.write_table(table, row_group_size=max(self._rows, 1))
        self._batches, self._bytes, self._rows = [], 0, 0

    def flush(self) -> str:
        """Nothing is durable before the end."""
        return ""

    def rewind(self, position: str | None) -> None:
        if position:
            raise TableError("a Parquet file cannot be gone on with")

    def close(self, *, is_whole: bool) -> None:
        is_written = False
        try:
            if is_whole:
                self._write_group()
                self._writer.close()
                is_written = True
        finally:
            self._target.close(is_whole=is_written)
            self._writer.is_open = False  # or pyarrow would write the end when it is forgotten


class _Sink:
    """A target as a file for pyarrow."""

    closed = False

    def __init__(self, target: Target) -> None:
        self._target = target
        self._length = 0

    def write(self, data: Any) -> int:
        self._target.write(data)
        self._length += len(data)
        return len(data)

    def tell(self) -> int:
        return self._length

    def flush(self) -> None:
        """The target does, at its end."""

    def close(self) -> None:
        """The same."""
