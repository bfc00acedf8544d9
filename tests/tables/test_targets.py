"""Where rows go: what is refused, what is gone on with, and what is left when something goes wrong."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from sqspider.frontier import FrontierSettings
from sqspider.frontier.sqlite import SqliteFrontier
from sqspider.tables.opening import check_target, open_table
from sqspider.tables.table import ExistsError, TableError
from sqspider.tables.target import How
from tests.tables.kit import TWO, fill, hidden, write

ONE_FILE = ("rows.jsonl", "rows.csv", "rows.parquet", "rows.db")
LINES = ("rows.jsonl", "rows.csv")


def read(path: Path) -> list[tuple[int, str]]:
    """The rows of a table of any kind."""
    if path.is_dir():
        return [row for part in sorted(path.glob("part-*")) for row in read(part)]
    if path.suffix == ".parquet":
        return [tuple(row.values()) for row in pq.read_table(path).to_pylist()]
    if path.suffix == ".db":
        connection = sqlite3.connect(path)
        try:
            return connection.execute("SELECT id, text FROM rows ORDER BY rowid").fetchall()
        finally:
            connection.close()
    lines = path.read_text().splitlines()
    if path.suffix == ".csv":
        assert lines.pop(0) == "id,text"
        return [(int(number), text) for number, _, text in (line.partition(",") for line in lines)]
    return [tuple(json.loads(line).values()) for line in lines]


def unlinked(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    write(path, [(7, "theirs")], columns=TWO, how=How.OVERWRITE)


def emptied(path: Path) -> None:
    os.truncate(path, 0)


def lengthened(path: Path) -> None:
    with path.open("a") as file:
        file.write("theirs\n")


# What is there already


@pytest.mark.parametrize("name", [*ONE_FILE, "rows/"])
def test_what_is_there_is_refused_unless_it_is_said(tmp_path: Path, name: str) -> None:
    target = f"{tmp_path}/{name}"
    write(target, [(1, "old")], columns=TWO)
    with pytest.raises(ExistsError, match="already: --overwrite replaces"):
        open_table(target, TWO)
    assert read(tmp_path / name) == [(1, "old")]
    write(target, [(2, "new")], columns=TWO, how=How.OVERWRITE)
    assert read(tmp_path / name) == [(2, "new")]


@pytest.mark.parametrize("name", [*LINES, "rows.db", "rows/"])
def test_rows_are_added_to_what_is_there(tmp_path: Path, name: str) -> None:
    for number in range(3):
        write(f"{tmp_path}/{name}", [(number, "a")], columns=TWO, how=How.APPEND)
    assert read(tmp_path / name) == [(0, "a"), (1, "a"), (2, "a")]


@pytest.mark.parametrize("more", [{"how": How.APPEND}, {"in_place": True}])
def test_one_parquet_file_cannot_be_gone_on_with_and_a_folder_is_named(tmp_path: Path, more: dict[str, object]) -> None:
    with pytest.raises(TableError, match=r"rows/$"):
        open_table(f"{tmp_path}/rows.parquet", TWO, **more)  # type: ignore[arg-type]  # of two kinds
    assert list(tmp_path.iterdir()) == []


def test_lines_below_other_columns_are_not_added_to(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("other,columns\r\n1,2\r\n")
    table = open_table(str(tmp_path / "rows.csv"), TWO, how=How.APPEND)
    with pytest.raises(TableError, match="other columns"):
        table.write(table.encoder.encode([(1, "a")]))
    table.close(is_whole=False)
    assert (tmp_path / "rows.csv").read_text() == "other,columns\n1,2\n"


def test_a_torn_line_is_not_written_behind(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"id":1,"te')
    table = open_table(str(tmp_path / "rows.jsonl"), TWO, how=How.APPEND)
    with pytest.raises(TableError, match="ends within a line"):
        table.write(table.encoder.encode([(1, "a")]))
    table.close(is_whole=False)


def test_a_table_of_other_columns_is_not_added_to_and_others_of_its_database_stay(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "rows.db")
    connection.executescript("CREATE TABLE rows (other); INSERT INTO rows VALUES (1); CREATE TABLE mine (x)")
    with pytest.raises(TableError, match="other columns"):
        open_table(str(tmp_path / "rows.db"), TWO, how=How.APPEND)
    assert connection.execute("SELECT * FROM rows").fetchall() == [(1,)]
    write(tmp_path / "rows.db", [(1, "a")], columns=TWO, how=How.OVERWRITE)
    assert connection.execute("SELECT * FROM rows").fetchall() == [(1, "a")]
    assert connection.execute("SELECT * FROM mine").fetchall() == []
    connection.close()


async def test_a_frontier_is_never_written_into(tmp_path: Path) -> None:
    path = tmp_path / "sqspider.db"
    frontier = await SqliteFrontier.open(str(path), FrontierSettings(), clock=time.time)
    await frontier.close()
    before = path.read_bytes()
    for how in (How.OVERWRITE, How.APPEND):
        with pytest.raises(TableError, match="database of a program"):
            open_table(str(path), TWO, how=how)
    assert path.read_bytes() == before


# What cannot be written


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("absent/rows.jsonl", "there is no folder"),
        ("absent/rows.db", "there is no folder"),
        ("absent/rows.parquet", "there is no folder"),
        ("absent/rows/", "there is no folder"),
        (".", "it is a folder"),
        ("folder.db", "it is a folder"),
        ("folder.parquet", "it is a folder"),
        ("x" * 300, "File name too long"),
        ("rows.xlsx", r"name it \.jsonl, \.csv, \.parquet or \.db"),
        ("file/rows.csv", "there is no folder"),
        ("file/", "there is no folder|File exists"),
        ("text.db", "it is no database"),
    ],
)
def test_what_cannot_be_written_is_said_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("a file")
    (tmp_path / "text.db").write_text("no database, but a text that is longer than its head of a hundred bytes" * 3)
    for name in ("folder.db", "folder.parquet"):
        (tmp_path / name).mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(TableError, match=says) as told:
        open_table(target, TWO, how=How.OVERWRITE)
    assert "\n" not in str(told.value)
    assert "Errno" not in str(told.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    if target not in ("rows.xlsx", "text.db"):  # which are told by their format, and when they are opened
        with pytest.raises(TableError, match=says):
            check_target(target)


@pytest.mark.parametrize("ending", ["parquet", "db"])
def test_what_needs_a_file_goes_into_no_pipe(tmp_path: Path, ending: str) -> None:
    os.mkfifo(tmp_path / f"rows.{ending}")
    for target in ("-", f"{tmp_path}/rows.{ending}", os.devnull):
        kind = {"parquet": "parquet", "db": "sqlite"}[ending]
        with pytest.raises(TableError, match="into a pipe: name one"):
            open_table(target, TWO, how=How.OVERWRITE, format=kind)
    with pytest.raises(TableError, match=r"name it \.db"):
        open_table(f"{tmp_path}/rows/", TWO, format="sqlite")


def test_parquet_without_its_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    for target in ("rows.parquet", "rows/"):
        with pytest.raises(TableError, match=r"pip install 'sqspider\[parquet\]'"):
            open_table(f"{tmp_path}/{target}", TWO)
    write(tmp_path / "rows.jsonl", [(1, "a")], columns=TWO)


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
@pytest.mark.parametrize("name", [*ONE_FILE, "rows/"])
def test_a_missing_permission_is_said(tmp_path: Path, name: str) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(TableError, match="Permission denied"):
        open_table(f"{tmp_path}/{name}", TWO)
    tmp_path.chmod(0o755)


FILLING = """
import signal, sys
from sqspider.tables.opening import open_table
from sqspider.tables.table import TableError
from sqspider.tables.target import How
from tests.tables.kit import TWO
import random
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
try:
    table = open_table(sys.argv[1], TWO, how=How.OVERWRITE, in_place=sys.argv[2] == "in_place")
    try:
        for number in range(20_000):
            table.write(table.encoder.encode([(number, random.randbytes(200).hex())]))
    except BaseException:
        table.close(is_whole=False)
        raise
    table.close(is_whole=True)
except TableError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("name", "how"),
    [*((name, "whole") for name in (*ONE_FILE, "rows/")), ("rows.jsonl", "in_place"), ("rows.db", "in_place")],
)
def test_a_full_disk_is_said_and_leaves_nothing_half(tmp_path: Path, name: str, how: str) -> None:
    done = subprocess.run(
        ["bash", "-c", f"ulimit -f 512; exec {sys.executable} -c '{FILLING}' {tmp_path}/{name} {how}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "cannot be written: " in done.stdout, done.stderr
    assert done.stderr == ""
    assert hidden(tmp_path) == []
    if name == "rows/":
        assert list((tmp_path / "rows").iterdir()) == []
    elif how == "whole":
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [*ONE_FILE, "rows/"])
def test_of_what_is_given_up_nothing_stays_and_the_old_does(tmp_path: Path, name: str) -> None:
    target = f"{tmp_path}/{name}"
    table = open_table(target, TWO)
    fill(table, [(1, "a")])
    table.close(is_whole=False)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    if name == "rows/":
        return
    write(target, [(1, "old")], columns=TWO)
    table = open_table(target, TWO, how=How.OVERWRITE)
    fill(table, [(2, "new")])
    table.close(is_whole=False)
    assert read(tmp_path / name) == [(1, "old")]
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_a_link_stays_one_and_a_mode_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / name).symlink_to(tmp_path / "there" / name)
    write(tmp_path / "there" / name, [(1, "old")], columns=TWO)
    (tmp_path / "there" / name).chmod(0o640)
    write(tmp_path / name, [(2, "new")], columns=TWO, how=How.OVERWRITE)
    assert (tmp_path / name).is_symlink()
    assert read(tmp_path / "there" / name) == [(2, "new")]
    assert stat.S_IMODE((tmp_path / "there" / name).stat().st_mode) == 0o640


def test_a_pipe_gets_rows_as_they_come(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "rows.fifo")
    got: list[str] = []
    reading = threading.Thread(target=lambda: got.append((tmp_path / "rows.fifo").read_text()), daemon=True)
    reading.start()
    table = open_table(f"{tmp_path}/rows.fifo", TWO)
    assert not table.can_rewind
    fill(table, [(1, "a")])
    assert table.flush() == "0"
    with pytest.raises(TableError, match="cannot be gone on with"):
        table.rewind("10")
    table.close(is_whole=True)
    reading.join()
    assert got == ['{"id":1,"text":"a"}\n']


@pytest.mark.parametrize("name", LINES)
@pytest.mark.parametrize("change", [unlinked, replaced, emptied, lengthened])
def test_what_is_done_to_a_file_that_is_written_is_said(
    tmp_path: Path, name: str, change: Callable[[Path], None]
) -> None:
    """Else rows would go where nobody finds them, or behind a hole."""
    path = tmp_path / name
    table = open_table(str(path), TWO, in_place=True)
    fill(table, [(1, "a")])
    table.flush()
    change(path)

    def go_on() -> None:
        fill(table, [(2, "b")])
        table.flush()

    with pytest.raises(TableError, match=f"{name} was changed, moved or removed by somebody else"):
        go_on()
    table.close(is_whole=False)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_what_somebody_else_wrote_meanwhile_is_not_replaced(tmp_path: Path, name: str) -> None:
    table = open_table(f"{tmp_path}/{name}", TWO)
    fill(table, [(1, "a")])
    write(tmp_path / name, [(2, "theirs")], columns=TWO)
    with pytest.raises(TableError, match="is there already"):
        table.close(is_whole=True)
    assert read(tmp_path / name) == [(2, "theirs")]
    assert [path.name for path in tmp_path.iterdir()] == [name]


# Gone on with


@pytest.mark.parametrize("name", [*LINES, "rows/"])
def test_what_lies_behind_a_position_is_let_go_of(tmp_path: Path, name: str) -> None:
    target = f"{tmp_path}/{name}"
    table = open_table(target, TWO, in_place=True)
    assert table.can_rewind
    fill(table, [(1, "a")], [(2, "a")])
    position = table.flush()
    assert read(tmp_path / name) == [(1, "a"), (2, "a")]  # it is there, though nothing was closed
    fill(table, [(3, "lost")])
    table.flush()
    fill(table, [(4, "lost")])
    table.close(is_whole=False)
    table = open_table(target, TWO, how=How.APPEND, in_place=True)
    table.rewind(position)
    fill(table, [(3, "b")])
    later = table.flush()
    table.close(is_whole=True)
    assert read(tmp_path / name) == [(1, "a"), (2, "a"), (3, "b")]
    table = open_table(target, TWO, how=How.APPEND, in_place=True)
    table.rewind(later)
    assert table.flush() == later
    table.rewind(None)
    fill(table, [(9, "new")])
    table.close(is_whole=True)
    assert read(tmp_path / name) == [(9, "new")]


@pytest.mark.parametrize("name", [*LINES, "rows/"])
def test_a_position_that_is_not_there_any_more_is_said(tmp_path: Path, name: str) -> None:
    write(f"{tmp_path}/{name}", [(1, "a")], columns=TWO)
    table = open_table(f"{tmp_path}/{name}", TWO, how=How.APPEND)
    with pytest.raises(TableError, match="changed it since"):
        table.rewind("1000")
    with pytest.raises(TableError, match="told by another one"):
        table.rewind("part-1")
    table.close(is_whole=False)
    assert read(tmp_path / name) == [(1, "a")]


def test_a_database_is_committed_by_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "rows.db"
    table = open_table(str(path), TWO, in_place=True)
    own = table.connection
    assert own is not None
    own.execute("CREATE TABLE cursor (position)")
    fill(table, [(1, "a")])
    own.execute("INSERT INTO cursor VALUES (1)")
    assert table.flush() == ""
    own.commit()
    other = sqlite3.connect(path)
    fill(table, [(2, "a")])
    own.execute("UPDATE cursor SET position = 2")
    assert other.execute("SELECT count(*), (SELECT position FROM cursor) FROM rows").fetchall() == [
        (1, 1)
    ]  # and waits for nobody
    table.close(is_whole=False)
    assert other.execute("SELECT count(*), (SELECT position FROM cursor) FROM rows").fetchall() == [(1, 1)]
    other.close()
    table = open_table(str(path), TWO, how=How.APPEND, in_place=True)
    fill(table, [(2, "b")])
    table.close(is_whole=True)
    assert read(path) == [(1, "a"), (2, "b")]
    assert [each.name for each in tmp_path.iterdir()] == ["rows.db"]  # without its log
    table = open_table(str(path), TWO, how=How.APPEND, in_place=True)
    table.rewind("")
    table.rewind(None)
    table.close(is_whole=True)
    assert read(path) == []


def test_what_another_process_holds_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqspider.tables.sqlite.BUSY_SECONDS", 0.05)
    write(tmp_path / "rows.db", columns=TWO)
    other = sqlite3.connect(tmp_path / "rows.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(TableError, match="database is locked"):
        open_table(str(tmp_path / "rows.db"), TWO, how=How.APPEND)
    other.close()


# Parts


def test_a_part_ends_when_it_is_long_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqspider.tables.parts.PART_BYTES", 1000)
    table = open_table(f"{tmp_path}/rows/", TWO, format="csv")
    full = []
    for number in range(10):
        fill(table, [(number, "x" * 400)])
        full.append(table.is_full)
    assert full[:3] == [False, False, True]
    table.close(is_whole=True)
    assert sorted(path.name for path in (tmp_path / "rows").iterdir()) == [f"part-{at:06}.csv" for at in (1, 2, 3, 4)]
    assert [number for number, _ in read(tmp_path / "rows")] == list(range(10))


def test_several_write_into_one_folder_and_each_goes_on_by_itself(tmp_path: Path) -> None:
    first = open_table(f"{tmp_path}/rows/", TWO, writer="one")
    other = open_table(f"{tmp_path}/rows/", TWO, writer="other-1", how=How.APPEND)
    for table in (first, other):
        fill(table, [(1, "a")])
    position = first.flush()
    assert (position, other.flush()) == ("1", "1")
    fill(first, [(2, "lost")])
    fill(other, [(2, "b")])
    first.flush()
    assert other.flush() == "2"
    first.close(is_whole=False)
    again = open_table(f"{tmp_path}/rows/", TWO, writer="one", how=How.APPEND)
    again.rewind(position)
    again.close(is_whole=True)
    other.close(is_whole=True)
    assert sorted(path.name for path in (tmp_path / "rows").iterdir()) == [
        "part-one-000001.parquet", "part-other-1-000001.parquet", "part-other-1-000002.parquet",
    ]  # fmt: skip


def test_nothing_written_is_no_part(tmp_path: Path) -> None:
    table = open_table(f"{tmp_path}/rows/", TWO)
    assert (table.flush(), table.flush()) == ("0", "0")
    table.close(is_whole=True)
    assert list((tmp_path / "rows").iterdir()) == []


# Killed

GROWING = """
import sys
from pathlib import Path
from sqspider.tables.opening import open_table
from sqspider.tables.target import How
from tests.tables.kit import TWO
target, note = sys.argv[1], Path(sys.argv[2])
position, told = (note.read_text().split() + [None])[:2] if note.exists() else (None, "0")
table = open_table(target, TWO, how=How.APPEND, in_place=True)
table.rewind(position)
number = int(told or 0)
while number < 4000:
    for _ in range(7):
        table.write(table.encoder.encode([(number, "x" * 50)]))
        number += 1
    new = note.with_name("new")
    new.write_text(f"{table.flush()} {number}")
    new.replace(note)
    if number % 3 == 0:
        print(number, flush=True)
        sys.stdin.readline()  # it goes on when it is told to, and is killed just then
table.close(is_whole=True)
print("end", flush=True)
"""


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.csv", "rows/"])
def test_whenever_it_is_killed_nothing_is_missing_and_nothing_twice(tmp_path: Path, name: str) -> None:
    """With a note beside it, as a cursor is; killed at whatever it is just doing, again and again."""
    (tmp_path / "place").mkdir()
    kills = 0
    while True:
        process = subprocess.Popen(
            [sys.executable, "-c", GROWING, f"{tmp_path}/place/{name}", f"{tmp_path}/note"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        last = ""
        for _ in range(40):
            last = process.stdout.readline()
            if not last.rstrip().isdecimal():
                break
            process.stdin.write("\n")
            process.stdin.flush()
        if last.rstrip().isdecimal():
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        if not last.rstrip().isdecimal():
            assert (last, process.returncode) == ("end\n", 0)
            break
    assert kills >= 3
    found = [number for number, _ in read(tmp_path / "place" / name)]
    assert found == list(range(len(found)))
    assert len(found) >= 4000
    assert [path for path in tmp_path.rglob(".*") if path.is_file()] == []
