"""What tests of tables share: columns of every kind, rows of whatever fits, and readers that are not ours."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
from hypothesis import strategies as st

from sqspider.tables.columns import Column, Kind, Row
from sqspider.tables.opening import open_table
from sqspider.tables.table import Table
from sqspider.tables.target import How

FIELDS: Final = (Column("a"), Column("n", Kind.INTEGER), Column("x", Kind.NUMBER), Column("t", Kind.TIME))
COLUMNS: Final = (
    Column("id", Kind.INTEGER, is_key=True),
    Column("text"),
    Column("integer", Kind.INTEGER),
    Column("number", Kind.NUMBER),
    Column("flag", Kind.BOOLEAN),
    Column("time", Kind.TIME),
    Column("texts", Kind.TEXTS),
    Column("structs", Kind.STRUCTS, FIELDS),
    Column("json", Kind.JSON),
)
TWO: Final = (Column("id", Kind.INTEGER, is_key=True), Column("text"))

_FIRST: Final = datetime(1, 1, 1, tzinfo=UTC)
_texts: Final = st.one_of(
    st.none(), st.text(st.characters(codec=None)), st.sampled_from(["\ud800", "=1+1", "\0", "\r", ""])
)
_integers: Final = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))
_numbers: Final = st.one_of(st.none(), st.floats())
_times: Final = st.one_of(
    st.none(), st.sampled_from([0.0, -0.5, 1.7e9 + 0.000001, -62135596800.0, 253402300799.0]), st.floats(-6e10, 2.5e11)
)
_json: Final = st.recursive(
    st.one_of(_texts, st.booleans(), st.integers(-(10**30), 10**30), st.floats()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=3)
    ),
    max_leaves=6,
)
a_row: Final = st.tuples(
    _texts, _integers, _numbers, st.one_of(st.none(), st.booleans()), _times,
    st.one_of(st.none(), st.lists(_texts, max_size=3)),
    st.one_of(st.none(), st.lists(st.tuples(_texts, _integers, _numbers, _times), max_size=3)),
    _json,
)  # fmt: skip


@st.composite
def rows(draw: st.DrawFn) -> list[Row]:
    """Some rows, each with a number of its own first."""
    found = draw(st.lists(a_row, max_size=4))
    return [(number, *row) for number, row in enumerate(found)]


def plain(value: Any) -> Any:
    """What of a value every file keeps: no surrogates, no number that is not finite."""
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= sign <= "\udfff" else sign for sign in value)
    if isinstance(value, float):
        return value if value - value == 0 else None
    if isinstance(value, dict):
        return {plain(key): plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)


def put_in(row: Row) -> list[Any]:
    """A row as whoever reads it should have it: times as such, structs by their names."""
    number, text, integer, real, flag, time, texts, structs, free = row
    told = [] if structs is None else structs
    assert isinstance(told, list)
    objects = [{"a": plain(a), "n": n, "x": plain(x), "t": moment(t)} for a, n, x, t in told]
    assert time is None or isinstance(time, float)
    return [
        number,
        plain(text),
        integer,
        plain(real),
        flag,
        moment(time),
        plain(texts),
        objects if structs is not None else None,
        plain(free),
    ]


def _time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


def _from_json(value: dict[str, Any]) -> list[Any]:
    value["time"] = _time(value["time"])
    for item in value["structs"] or ():
        item["t"] = _time(item["t"])
    return list(value.values())


def _from_texts(values: dict[str, Any]) -> list[Any]:
    for name in ("texts", "structs", "json"):
        values[name] = None if values[name] is None else json.loads(values[name])
    return _from_json(values)


def read_jsonl(path: Path) -> list[list[Any]]:
    return [_from_json(json.loads(line)) for line in path.read_bytes().decode().split("\n")[:-1]]


def read_csv(path: Path) -> list[list[Any]]:
    """Nothing and an empty text are the same there, and a formula has its apostrophe."""
    csv.field_size_limit(2**31)
    as_values: dict[str, Callable[[str], Any]] = {"id": int, "integer": int, "number": float, "flag": "True".__eq__}
    found = []
    for each in csv.DictReader(io.StringIO(path.read_bytes().decode(), newline="")):
        values = {name: as_values.get(name, str)(text) if text else None for name, text in each.items()}
        found.append(_from_texts(values))
    return found


def read_parquet(path: Path) -> list[list[Any]]:
    found = pq.read_table(path).to_pylist()
    return [[*list(row.values())[:-1], None if row["json"] is None else json.loads(row["json"])] for row in found]


def read_sqlite(path: Path) -> list[list[Any]]:
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        found = [dict(row) for row in connection.execute("SELECT * FROM rows ORDER BY id")]
    finally:
        connection.close()
    for row in found:
        row["flag"] = None if row["flag"] is None else bool(row["flag"])
    return [_from_texts(row) for row in found]


READERS: Final[dict[str, Callable[[Path], list[list[Any]]]]] = {
    "jsonl": read_jsonl,
    "csv": read_csv,
    "parquet": read_parquet,
    "db": read_sqlite,
}


def write(
    path: Path | str, *chunks: list[Row], columns: tuple[Column, ...] = COLUMNS, how: How = How.NEW, **more: Any
) -> None:
    """Write rows into a table, and close it."""
    table = open_table(str(path), columns, how=how, **more)
    fill(table, *chunks)
    table.close(is_whole=True)


def fill(table: Table, *chunks: list[Row]) -> None:
    for chunk in chunks:
        table.write(table.encoder.encode(chunk))


def hidden(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))
