"""`export`: which records, what of them, in which order, and where they go."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import sqlite3
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import duckdb
import pytest

from sqspider.cli.main import run
from sqspider.export import COLUMNS, FIELDS
from sqspider.frontier import Entry, FrontierSettings
from sqspider.frontier.sqlite import SqliteFrontier
from sqspider.record import Outcome, Reason, Status
from tests.conftest import Run
from tests.frontier.kit import finish_one, take_one, win
from tests.sites import Site

START = 1_790_000_000.0  # 2026-09-21T14:13:20Z


def answered(http_status: int, content_type: str = "text/html", **more: object) -> Outcome:
    reason = None if http_status < 400 else Reason.CLIENT_ERROR if http_status < 500 else Reason.SERVER_ERROR
    status = reason.status if reason else Status.DONE
    return Outcome(status=status, reason=reason, http_status=http_status, content_type=content_type, **more)  # type: ignore[arg-type]  # as it is named


KNOWN: dict[str, tuple[int, Outcome | None]] = {
    "https://a.example/": (0, answered(200, bytes=9_000, title="=Ж")),
    "https://a.example/1": (1, answered(200, "application/pdf", bytes=70_000)),
    "https://a.example/2": (2, answered(404, bytes=300)),
    "https://a.example/3": (3, answered(503)),
    "https://b.example/": (1, answered(200, "IMAGE/png", bytes=500)),
    "https://b.example/1": (2, answered(302, redirect_to="https://b.example/2")),
    "https://b.example/2": (2, answered(200, bytes=9_000)),
    "https://b.example/3": (2, Outcome(status=Status.BLOCKED, reason=Reason.ROBOTS, detail="line 2")),
    "https://b.example/4": (5, None),
}
"""What is put in, a minute between the ends: depth and outcome."""


@pytest.fixture
async def known(tmp_path: Path) -> list[str]:
    """Records in the frontier of the command's folder: their URLs."""
    now = START
    frontier = await SqliteFrontier.open(str(tmp_path / "sqspider.db"), FrontierSettings(), clock=lambda: now)
    for url, (depth, outcome) in KNOWN.items():
        await frontier.enqueue([Entry(url=url, depth=depth)])
        if outcome is not None:
            delivery = await take_one(frontier)
            await finish_one(frontier, await win(frontier, delivery), delivery, outcome)
        now += 60.0
    await frontier.close()
    return list(KNOWN)


def told(text: str) -> list[str]:
    """Which URLs lines of JSON are of, short."""
    return [json.loads(line)["url"].removeprefix("https://").replace(".example/", "") for line in text.splitlines()]


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize(
    ("arguments", "urls"),
    [
        ("", "a a1 a2 a3 b b1 b2 b3 b4"),
        ("--status done", "a a1 b b1 b2"),
        ("--status failed --status blocked", "a2 a3 b3"),
        ("--reason client_error", "a2"),
        ("--reason client_error --reason robots", "a2 b3"),
        ("--http-status 404", "a2"),
        ("--http-status 4xx --http-status 5XX", "a2 a3"),
        ("--http-status 300-499", "a2 b1"),
        ("--http-status 400-", "a2 a3"),
        ("--content-type text/html", "a a2 a3 b1 b2"),
        ("--content-type image/* --content-type Application/PDF", "a1 b"),
        ("--host b.example", "b b1 b2 b3 b4"),
        ("--host b.example --host A.example", "a a1 a2 a3 b b1 b2 b3 b4"),
        ("--host c.example --host b.example --depth 1", "b"),
        ("--depth 0-1", "a a1 b"),
        ("--depth 0 --depth 3-", "a a3 b4"),
        ("--since 2026-09-21T14:16:20", "a3 b b1 b2 b3"),
        ("--until 2026-09-21T14:14:20Z", "a"),
        ("--since 2026-09-21T16:15:20+02:00 --until 2026-09-21T14:17:20", "a2 a3"),
        ("--since 2027-01-01", ""),
        ("--crawl default --status queued", "b4"),
        ("--status done --content-type text/html --host b.example --http-status 200", "b2"),
        ("--sort bytes", "a3 b1 b3 b4 a2 b a b2 a1"),
        ("--sort -bytes,url --limit 3", "a1 a b2"),
        ("--sort -http_status,-url --host a.example", "a3 a2 a1 a"),
        ("--sort -finished_at --limit 2", "b3 b2"),
        ("--sort reason,depth --limit 3", "a2 b3 a3"),
        ("--limit 2", "a a1"),
        ("--limit 2 --host b.example", None),
    ],
)
def test_records_are_chosen_and_sorted(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    arguments: str,
    urls: str | None,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["export", *arguments.split()]) == 0
    printed, said = capsys.readouterr()
    assert said == ""
    if urls is None:  # a host's come in the order of their keys
        assert len(told(printed)) == 2
    elif "--host" in arguments and "--sort" not in arguments:
        assert sorted(told(printed)) == urls.split()
    else:
        assert told(printed) == urls.split()


@pytest.mark.usefixtures("known")
def test_columns_are_chosen(sqspider: Run) -> None:
    """Also where rows are sorted by one that is not asked for; and where redirects end is looked up where it is."""
    done = sqspider("export", "--fields", "http_status, url,final_url", "--sort", "-depth,url", "--host", "b.example")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert list(rows[0]) == ["http_status", "url", "final_url"]
    assert [tuple(row.values()) for row in rows[:2]] == [
        (None, "https://b.example/4", None),
        (302, "https://b.example/1", "https://b.example/2"),
    ]
    lines = sqspider("export", "--fields", "title,url", "--format", "csv", "--limit", "1").stdout.splitlines()
    assert lines == ["title,url", "'=Ж,https://a.example/"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--fields", "url,htpp_status"), "no column is called 'htpp_status'. Did you mean http_status?"),
        (("--fields", "Ж"), "There are url, status, reason,"),
        (("--fields", ","), "name columns"),
        (("--sort", "-title,statsu"), "Did you mean status?"),
        (("--sort", "meta"), "meta is a list or an object"),
        (("--http-status", "4x"), "'4x' is no number and no range of numbers"),
        (("--depth", "1xx"), "'1xx' is no number"),
        (("--depth", "3-1"), "has no number in it"),
        (("--limit", "0"), "--limit"),
        (("--since", "yesterday"), "is no time"),
        (("--reason", "no_reason"), "--reason"),
        (("--format", "table", "--output", "x.txt"), "is printed, for a person"),
        (("--format", "table", "--limit", "1000000"), "10,000 rows at most"),
        (("--format", "parquet"), "written from its end"),
        (("--output", "x/", "--format", "sqlite"), "is one file"),
        (("--output", "sqspider.db"), "is the database of a program"),
        (("--crawl", "other"), "other"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, known: list[str],
    arguments: tuple[str, ...], says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    before = (tmp_path / "sqspider.db").read_bytes()
    status = run(["export", *arguments])
    printed, said = capsys.readouterr()
    said = " ".join(said.replace("\u2502", " ").split())
    assert says in said
    assert (status, printed) == (1 if "sqspider.db" in arguments else 2, "")
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir() if "sqspider.db" not in path.name] == []
    assert (tmp_path / "sqspider.db").read_bytes() == before, known


@pytest.mark.usefixtures("known")
def test_every_kind_of_file_has_the_same_rows(sqspider: Run, tmp_path: Path) -> None:
    for name in ("rows.jsonl", "rows.csv", "rows.parquet", "rows.db", "parts/"):
        done = sqspider("export", "--to", name)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", f"9 rows written to {name}\n")
    wanted = [(url, outcome and outcome.http_status) for url, (_, outcome) in KNOWN.items()]
    for source in ("rows.jsonl", "rows.csv", "rows.parquet", "parts/*.parquet"):
        found = duckdb.execute(f"SELECT url, http_status FROM '{tmp_path}/{source}' ORDER BY url").fetchall()
        assert found == wanted
    connection = sqlite3.connect(tmp_path / "rows.db")
    assert connection.execute("SELECT url, http_status FROM rows ORDER BY url").fetchall() == wanted
    assert [each[0] for each in connection.execute("SELECT * FROM rows").description] == list(FIELDS)
    connection.close()
    [(kind, end)] = duckdb.execute(
        f"SELECT typeof(finished_at), max(finished_at) FROM '{tmp_path}/rows.parquet' GROUP BY 1"
    ).fetchall()
    assert (kind, end.timestamp()) == ("TIMESTAMP WITH TIME ZONE", START + 7 * 60)
    assert sqspider("export", "--to", "rows.db", "--host", "a.example").returncode == 0  # as a whole, as every file is
    connection = sqlite3.connect(tmp_path / "rows.db")
    assert connection.execute("SELECT count(*) FROM rows").fetchone() == (4,)
    connection.close()


def test_a_crawl_writes_its_rows_into_every_kind_of_file(sqspider: Run, tmp_path: Path) -> None:
    site = Site()
    site.bodies = {"/robots.txt": b"", "/": b"<title>A page</title>"}
    try:
        for name in ("rows.parquet", "rows.sqlite", "rows/"):
            done = sqspider("crawl", site.url, "--delay", "0", "--allow-private", "--output", name)
            assert done.returncode == 0, done.stderr
            assert f"1 row written to {name}" in done.stderr
    finally:
        site.close()
    for source in ("rows.parquet", "rows/*.parquet"):
        assert duckdb.execute(f"SELECT title FROM '{tmp_path}/{source}'").fetchall() == [("A page",)]
    connection = sqlite3.connect(tmp_path / "rows.sqlite")
    assert connection.execute("SELECT title FROM rows").fetchall() == [("A page",)]
    connection.close()


def test_a_damaged_record_has_its_row_in_every_kind_of_file(sqspider: Run, known: list[str], tmp_path: Path) -> None:
    """One that does not decode, and two with a time that is in no year."""
    connection = sqlite3.connect(tmp_path / "sqspider.db")
    for number, change in enumerate(("outcome = x'00'", "finished_at = 1e18", "finished_at = -1e300")):
        connection.execute(f"UPDATE record SET {change} WHERE url = ?", (known[number],))
    connection.commit()
    connection.close()
    for name in ("rows.jsonl", "rows.csv", "rows.parquet", "rows.db"):
        done = sqspider("export", "--output", name)
        assert done.returncode == 1
        assert "rows that cannot be read: 3, the first of them https://a.example/:" in done.stderr
    for source in ("rows.jsonl", "rows.csv", "rows.parquet"):
        query = f"SELECT url, error IS NOT NULL, status FROM '{tmp_path}/{source}' ORDER BY url"
        found = duckdb.execute(query).fetchall()
        assert [url for url, *_ in found] == known
        assert found[:3] == [(url, True, None) for url in known[:3]]
        assert not any(is_damaged for _, is_damaged, _ in found[3:])
    assert told(sqspider("export", "--http-status", "503").stdout) == ["a", "a3"]  # of the first nobody knows


def on_terminal(folder: Path, columns: int, *arguments: str) -> tuple[list[str], str]:
    """What a command prints on a terminal that is so wide, and what it says on standard error."""
    ours, screen = pty.openpty()
    fcntl.ioctl(screen, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    got: list[bytes] = []

    def read() -> None:
        try:
            while piece := os.read(ours, 65_536):
                got.append(piece)
        except OSError:  # nobody has it open any more
            pass

    reading = threading.Thread(target=read)
    reading.start()
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    done = subprocess.run(
        [sys.executable, "-m", "sqspider", "export", *arguments], cwd=folder, stdin=subprocess.DEVNULL, stdout=screen,
        stderr=subprocess.PIPE, text=True, check=False, env=environment,
    )  # fmt: skip
    os.close(screen)
    reading.join()
    os.close(ours)
    assert done.returncode == 0, done.stderr
    return b"".join(got).decode().splitlines(), done.stderr


@pytest.mark.usefixtures("known")
def test_a_person_gets_a_table_that_fits(tmp_path: Path) -> None:
    lines, said = on_terminal(tmp_path, 110)
    assert lines[0].split() == ["status", "http_status", "reason", "bytes", "finished_at", "url"]
    assert lines[1].split() == ["done", "200", "9,000", "2026-09-21", "14:13:20", "https://a.example/"]
    assert (len(lines), said) == (10, "9 rows\n")
    lines, said = on_terminal(tmp_path, 80)
    assert lines[0].split() == ["status", "http_status", "reason", "bytes", "url"]
    assert said == "9 rows\n"
    lines, said = on_terminal(tmp_path, 60, "--limit", "4")
    assert len(lines) == 5
    assert max(map(len, lines)) <= 60
    assert any("…" in line for line in lines)
    assert said == "4 rows, and there are more: --limit N shows more, --to FILE writes all; what ends with … is cut\n"
    lines, said = on_terminal(tmp_path, 40, "--fields", ",".join(FIELDS))
    assert max(map(len, lines)) <= 40
    assert "no room for " in said
    assert said.rstrip().endswith("--fields says which columns")


@pytest.mark.usefixtures("known")
def test_a_pipe_gets_json_and_a_table_where_it_is_asked_for(sqspider: Run) -> None:
    assert sqspider("export", "--limit", "1").stdout.startswith('{"url":')
    table = sqspider("export", "--limit", "1", "--format", "table", "--fields", "title,truncated,url")
    assert table.stdout.split() == ["title", "truncated", "url", "=Ж", "no", "https://a.example/"]


def test_every_column_has_its_kind_and_a_key() -> None:
    assert tuple(column.name for column in COLUMNS) == FIELDS
    assert [column.name for column in COLUMNS if column.is_key] == ["url", "crawl"]
