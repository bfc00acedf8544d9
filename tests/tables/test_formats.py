"""What is written is read back as it was put in: every kind of value, in every format, by readers that are not ours."""

from __future__ import annotations

import csv
import json
import math
import pickle
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sqspider.tables.columns import Column, Kind, Row
from sqspider.tables.opening import encoder_of, open_table
from sqspider.tables.sqlite import SqliteRows
from sqspider.tables.target import How
from sqspider.tables.values import check_time, iso, micros
from tests.tables.kit import COLUMNS, FIELDS, READERS, TWO, put_in, rows, write

A_ROW: Row = (
    0, "Ж\ud800,\"\n", 2**63 - 1, math.pi, True, 1.7e9 + 0.123456, ["a", None], [("=b", -1, math.nan, -0.5)],
    {"k": [1, math.inf, "\udfff"], "\ud800": None},
)  # fmt: skip


def as_csv_has_it(row: list[Any]) -> list[Any]:
    """Nothing for an empty text, and an apostrophe before what a spreadsheet would run."""
    text = row[1]
    if text and text[0] in "=+-@\t\r":
        text = f"'{text}"
    return [row[0], text or None, *row[2:]]


@settings(max_examples=60)
@pytest.mark.parametrize("ending", READERS)
@given(rows(), rows())
@example([A_ROW], [])
@example([], [(0, *[None] * 8)])
def test_what_is_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, ending: str, first: list[Row], more: list[Row]
) -> None:
    path = tmp_path_factory.mktemp("rows") / f"rows.{ending}"
    more = [(len(first) + number, *row[1:]) for number, row in enumerate(more)]
    write(path, first, more)
    wanted = [put_in(row) for row in (*first, *more)]
    assert READERS[ending](path) == (list(map(as_csv_has_it, wanted)) if ending == "csv" else wanted)


@given(st.floats(-62135596800.0, 253402300799.0))
def test_a_time_is_the_same_in_every_file(moment: float) -> None:
    text = iso(moment)
    assert text is not None

    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    assert (datetime.fromisoformat(text) - epoch) // timedelta(microseconds=1) == micros(moment)
    check_time(moment)


@pytest.mark.parametrize("ending", READERS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("text", 1), ("text", b"a"), ("integer", 2**63), ("integer", -(2**63) - 1), ("integer", 1.0), ("integer", True),
        ("integer", "1"), ("number", "1"), ("flag", 1), ("time", math.nan), ("time", math.inf), ("time", 253402300800.0),
        ("time", -62135596801.0), ("time", "2026-01-01"), ("texts", "a"), ("texts", [1]), ("structs", [("a",)]),
        ("structs", [("a", "b", 1.0, 1.0)]), ("structs", [("a", 1, 1.0, 1e20)]), ("number", 10**400), ("json", {1j: 1}),
    ],
)  # fmt: skip
def test_a_value_of_another_kind_is_refused_by_the_columns_name(
    tmp_path: Path, ending: str, name: str, value: object
) -> None:
    """The same in every format: what one could take and another not would depend on where it goes."""
    table = open_table(str(tmp_path / f"rows.{ending}"), COLUMNS)
    row = [1, *[None] * 8]
    row[[column.name for column in COLUMNS].index(name)] = value  # type: ignore[call-overload]  # it is meant to be wrong
    with pytest.raises(ValueError, match=rf"^{name}\b"):
        table.encoder.encode([tuple(row)])
    with pytest.raises(ValueError, match="length 9"):
        table.encoder.encode([(1,)])
    table.close(is_whole=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_an_encoder_goes_to_another_process(kind: str) -> None:
    encoder = encoder_of(kind, COLUMNS)
    assert pickle.loads(pickle.dumps(encoder)).encode([A_ROW]) == encoder.encode([A_ROW])


def test_so_does_that_of_a_database() -> None:
    encoder = SqliteRows(COLUMNS)
    assert pickle.loads(pickle.dumps(encoder)).encode([A_ROW]) == encoder.encode([A_ROW])


def asked(query: str) -> list[Any]:
    """What DuckDB says."""
    found: list[Any] = duckdb.execute(query).fetchall()
    return found


def test_duckdb_reads_every_file_of_lines_and_parquet(tmp_path: Path) -> None:
    """With what no JSON reader of C takes: half of a surrogate pair."""
    lines = [(number, f"Ж {number}\0 \ud800", *A_ROW[2:]) for number in range(3)]
    for name in ("rows.jsonl", "rows.csv", "rows.parquet", "parts/"):
        write(f"{tmp_path}/{name}", lines)
    for source in (
        f"read_json('{tmp_path}/rows.jsonl', format='newline_delimited')", f"read_csv('{tmp_path}/rows.csv')",
        f"'{tmp_path}/rows.parquet'", f"'{tmp_path}/parts/*.parquet'",
    ):  # fmt: skip
        found = asked(f"SELECT id, text, integer, number, flag, epoch_us(time::TIMESTAMPTZ) FROM {source} ORDER BY id")
        assert found == [
            (number, f"Ж {number}\0 \ufffd", 2**63 - 1, math.pi, True, 1_700_000_000_123_456) for number in range(3)
        ]
    parquet = asked(f"SELECT texts[1], structs[1].a, structs[1].n, json ->> '$.k[0]' FROM '{tmp_path}/rows.parquet'")
    assert parquet == [("a", "=b", -1, "1")] * 3


def test_sqlite_reads_lists_and_times_by_its_own_functions(tmp_path: Path) -> None:
    write(tmp_path / "rows.db", [A_ROW])
    connection = sqlite3.connect(tmp_path / "rows.db")
    told = connection.execute(
        "SELECT texts ->> 0, structs ->> '$[0].n', unixepoch(time), typeof(flag), typeof(number) FROM rows"
    ).fetchall()
    names = [row[1:3] for row in connection.execute("PRAGMA table_info(rows)")]
    connection.close()
    assert told == [("a", -1, 1_700_000_000, "integer", "real")]
    assert names == [
        ("id", "INTEGER"), ("text", "TEXT"), ("integer", "INTEGER"), ("number", "REAL"), ("flag", "BOOLEAN"),
        ("time", "TEXT"), ("texts", "TEXT"), ("structs", "TEXT"), ("json", "TEXT"),
    ]  # fmt: skip


def test_parquet_is_typed_and_says_who_wrote_it(tmp_path: Path) -> None:
    write(tmp_path / "rows.parquet", [A_ROW])
    file = pq.ParquetFile(tmp_path / "rows.parquet")
    schema = file.schema_arrow
    assert {field.name: str(field.type) for field in schema} == {
        "id": "int64", "text": "string", "integer": "int64", "number": "double", "flag": "bool",
        "time": "timestamp[us, tz=UTC]", "texts": "list<element: string>",
        "structs": "list<element: struct<a: string, n: int64, x: double, t: timestamp[us, tz=UTC]>>", "json": "string",
    }  # fmt: skip
    assert schema.metadata[b"created_by"].startswith(b"sqspider ")
    assert json.loads(schema.metadata[b"key"]) == ["id"]
    assert file.metadata.row_group(0).column(1).compression == "ZSTD"


def test_parquet_is_written_by_groups_while_rows_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So memory is that of one group, however many there are."""
    monkeypatch.setattr("sqspider.tables.parquet.GROUP_ROWS", 10)
    table = open_table(str(tmp_path / "rows.parquet"), TWO)
    sizes = []
    for number in range(35):
        table.write(table.encoder.encode([(number, "x" * 100)]))
        [file] = tmp_path.iterdir()
        table._target._file.flush()  # type: ignore[attr-defined]  # what the system has, not what Python holds back
        sizes.append(file.stat().st_size)
    table.close(is_whole=True)
    assert len(set(sizes)) >= 4
    metadata = pq.ParquetFile(tmp_path / "rows.parquet").metadata
    assert [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)] == [10, 10, 10, 5]


def test_a_large_row_ends_a_group_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqspider.tables.parquet.GROUP_BYTES", 50_000)
    large: list[list[Row]] = [[(number, "x" * 30_000)] for number in range(5)]
    write(tmp_path / "rows.parquet", *large, columns=TWO)
    assert pq.ParquetFile(tmp_path / "rows.parquet").metadata.num_row_groups == 3


@pytest.mark.parametrize("ending", READERS)
def test_no_rows_are_a_file_all_the_same(tmp_path: Path, ending: str) -> None:
    write(tmp_path / f"rows.{ending}")
    assert READERS[ending](tmp_path / f"rows.{ending}") == []
    if ending == "csv":
        assert (tmp_path / "rows.csv").read_bytes() == (",".join(column.name for column in COLUMNS) + "\r\n").encode()


def test_a_spreadsheet_runs_nothing(tmp_path: Path) -> None:
    formulas = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"]
    write(tmp_path / "rows.csv", list(enumerate(formulas)), columns=TWO)
    with (tmp_path / "rows.csv").open(newline="") as file:
        assert [row[1] for row in csv.reader(file)][1:] == [f"'{formula}" for formula in formulas]


def test_the_same_key_is_there_once_whatever_is_none_in_it(tmp_path: Path) -> None:
    keyed = (Column("crawl", is_key=True), Column("visit", Kind.INTEGER, is_key=True), Column("text"))
    first: list[Row] = [("a", 1, "old"), ("a", None, "old"), (None, 1, "old"), (None, None, "old"), ("", 0, "old")]
    write(tmp_path / "rows.db", first, [(crawl, visit, "new") for crawl, visit, _ in first], columns=keyed)
    connection = sqlite3.connect(tmp_path / "rows.db")
    assert sorted(map(repr, connection.execute("SELECT * FROM rows"))) == sorted(
        repr((crawl, visit, "new")) for crawl, visit, _ in first
    )
    connection.close()


def test_a_table_whose_key_was_another_is_gone_on_with(tmp_path: Path) -> None:
    """As files of before have it: rows that it took for one another are two from now on."""
    text = Column("text")
    write(tmp_path / "rows.db", [("a", "1"), ("b", "2")], columns=(Column("id", is_key=True), text))
    for keyed, expected in (((True, True), 4), ((True, True), 4), ((False, False), 6)):
        columns = (Column("id", is_key=keyed[0]), text._replace(is_key=keyed[1]))
        write(tmp_path / "rows.db", [("a", "3"), ("b", "3")], columns=columns, how=How.APPEND)
        with closing(sqlite3.connect(tmp_path / "rows.db")) as connection:
            assert connection.execute("SELECT count(*) FROM rows").fetchone() == (expected,)


def test_names_of_columns_are_quoted(tmp_path: Path) -> None:
    columns = (Column('a "b"', is_key=True), Column("order"), Column("rows"), Column("Ж, c"))
    for ending in READERS:
        write(tmp_path / f"rows.{ending}", [("1", "2", "3", "4")], columns=columns)
    connection = sqlite3.connect(tmp_path / "rows.db")
    assert [item[0] for item in connection.execute("SELECT * FROM rows").description] == [it.name for it in columns]
    connection.close()
    assert pq.read_table(tmp_path / "rows.parquet").column_names == [it.name for it in columns]


def test_structs_within_are_made_by_columns(tmp_path: Path) -> None:
    """A list of nothing is another than none, in the midst of others."""
    columns = (Column("s", Kind.STRUCTS, FIELDS),)
    item = ("a", 1, 1.5, 0.0)
    write(tmp_path / "rows.parquet", [([item],), (None,), ([],), ([item, item],)], columns=columns)
    assert [None if row is None else len(row) for row in pq.read_table(tmp_path / "rows.parquet")["s"].to_pylist()] == [
        1,
        None,
        0,
        2,
    ]
