"""Where rows and texts go: files, devices, pipes, full disks, and terminals of few signs."""

from __future__ import annotations

import csv
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqspider.cli import extract_run
from sqspider.cli.main import run
from sqspider.cli.terminal import ESCAPED
from sqspider.export import FIELDS
from sqspider.extract.duplicates import Duplicates
from sqspider.extract.harvest import Order
from sqspider.extract.link_queries import LinkTable
from sqspider.extract.rules import Rules
from sqspider.frontier import FrontierSettings
from sqspider.frontier.sqlite import SqliteFrontier
from sqspider.tables.target import How
from tests.archive.small_warcs import Warc
from tests.conftest import Run
from tests.sites import Site

SELF = ("--delay", "0", "--allow-private")
TITLE = "Ж中😀 — é"
PAGES = 200


@pytest.fixture
def titled_site() -> Iterator[Site]:
    """A page with a title that few encodings have signs for."""
    site = Site()
    site.bodies["/"] = f"<meta charset=utf-8><title>{TITLE}</title>".encode()
    site.bodies["/robots.txt"] = b""
    yield site
    site.close()


@pytest.fixture
def rows(sqspider: Run) -> int:
    """A frontier with records in the folder of the command: how many."""
    urls = "".join(f"http://example.com/{'x' * 300}/{number}\n" for number in range(PAGES))
    assert sqspider("enqueue", "-f", "-", stdin=urls).returncode == 0
    return PAGES


def hidden(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


def read_rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def shell(command: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command line of bash in which ``$S`` is sqspider. Output is buffered, as it is by default."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False,
        env={**inherited, **environment, "S": f"{sys.executable} -m sqspider"},
    )  # fmt: skip


def test_the_format_follows_the_name_of_the_file(sqspider: Run, titled_site: Site, tmp_path: Path) -> None:
    assert sqspider("crawl", titled_site.url, *SELF, "--output", "of-crawl.CSV").returncode == 0
    for name, arguments in {"a.csv": (), "b": ("--format", "csv"), "c.json": ("--format", "csv")}.items():
        assert sqspider("export", "--output", name, *arguments).returncode == 0
    for name in ("of-crawl.CSV", "a.csv", "b", "c.json"):
        head, row = csv.reader((tmp_path / name).read_text(encoding="utf-8").splitlines())
        assert (tuple(head), row[FIELDS.index("title")]) == (FIELDS, TITLE)
    for name, arguments in {"d.jsonl": (), "e": (), "f.ndjson": (), "g.csv": ("--format", "jsonl")}.items():
        assert sqspider("export", "--output", name, *arguments).returncode == 0
        assert [row["title"] for row in read_rows(tmp_path / name)] == [TITLE]


@pytest.mark.parametrize(
    ("output", "says"),
    [
        ("absent/rows.jsonl", "there is no folder"),
        (".", "it is a folder"),
        ("x" * 300, "File name too long"),
        ("rows.xlsx", "name it .jsonl, .csv, .parquet or .db"),
        pytest.param(
            "/proc/rows.jsonl", "cannot be written",
            marks=pytest.mark.skipif(not Path("/proc/self").exists(), reason="there is no /proc here"),
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_written_is_refused_before_the_crawl(
    sqspider: Run, titled_site: Site, tmp_path: Path, output: str, says: str
) -> None:
    for command in (("crawl", titled_site.url, *SELF), ("export",)):
        done = sqspider(*command, "--output", output)
        assert (done.returncode, says in done.stderr, done.stdout) == (2, True, ""), done.stderr
    assert titled_site.requests == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_file_that_may_not_be_written_is_refused(sqspider: Run, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch(mode=0o444)
    assert "Permission denied" in sqspider("export", "--output", "rows.jsonl").stderr


def test_a_file_is_replaced_with_its_mode_and_a_link_stays_one(sqspider: Run, rows: int, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(target)
    assert sqspider("export", "--output", "link.jsonl").returncode == 0  # to a file that is not there yet
    new = stat.S_IMODE((tmp_path / "sqspider.db").stat().st_mode)
    assert stat.S_IMODE(target.stat().st_mode) == new
    target.write_text("old")
    target.chmod(0o640)
    inode = target.stat().st_ino
    assert sqspider("export", "--output", "link.jsonl").returncode == 0
    assert link.is_symlink()
    assert len(read_rows(target)) == rows
    assert stat.S_IMODE(target.stat().st_mode) == 0o640
    assert target.stat().st_ino != inode  # it came whole, by a new name
    assert hidden(tmp_path) + hidden(tmp_path / "folder") == []


def test_a_pipe_and_a_device_are_written_to(sqspider: Run, rows: int, tmp_path: Path) -> None:
    fifo = tmp_path / "rows.fifo"
    os.mkfifo(fifo)
    read: list[str] = []
    reading = threading.Thread(target=lambda: read.extend(fifo.read_text().splitlines()), daemon=True)
    reading.start()
    assert sqspider("export", "--output", "rows.fifo").returncode == 0
    reading.join()
    assert len(read) == rows
    assert fifo.is_fifo()
    assert sqspider("export", "--output", os.devnull).returncode == 0
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)


def test_standard_output_by_its_name(rows: int, tmp_path: Path) -> None:
    done = shell("echo first > all; $S export --output /dev/stdout >> all; echo last >> all", tmp_path)
    lines = (tmp_path / "all").read_text().splitlines()
    assert (lines[0], len(lines), lines[-1]) == ("first", rows + 2, "last"), done.stderr


@pytest.mark.usefixtures("rows")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("old")
    done = shell("ulimit -f 64; $S export --output rows.jsonl", tmp_path)
    assert (done.returncode, done.stderr) == (1, "Error: rows.jsonl cannot be written: File too large.\n")
    assert (tmp_path / "rows.jsonl").read_text() == "old"
    assert hidden(tmp_path) == []
    cut = shell("ulimit -f 64; $S export > cut", tmp_path, PYTHONUNBUFFERED="1")
    assert (cut.returncode, "File too large" in cut.stderr) == (1, True)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_crawl_whose_rows_find_no_room_says_how_to_get_them(sqspider: Run, titled_site: Site, tmp_path: Path) -> None:
    done = sqspider("crawl", titled_site.url, *SELF, "--output", "/dev/full", "--quiet")
    assert done.returncode == 1
    assert "/dev/full cannot be written: No space left on device." in done.stderr
    assert "`sqspider export --output FILE`" in done.stderr
    assert sqspider("export", "--output", "rows.jsonl").returncode == 0
    assert [row["status"] for row in read_rows(tmp_path / "rows.jsonl")] == ["done"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
@pytest.mark.parametrize("command", ["export", "export --format csv", "status", "status --json", "--help"])
@pytest.mark.usefixtures("rows")
def test_standard_output_on_a_full_disk(tmp_path: Path, command: str) -> None:
    done = shell(f"$S {command} > /dev/full", tmp_path)
    says = "sqspider: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, says)


HALF_WRITTEN = """
import sys
from sqspider.cli.output import written
from sqspider.tables.columns import Column
with written(sys.argv[1], (Column("a"),)) as table:
    table.write(table.encoder.encode([("half",)]))
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_signal_leaves_no_hidden_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("old")
    process = subprocess.Popen(
        [sys.executable, "-c", HALF_WRITTEN, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert len(hidden(tmp_path)) == 1
    process.send_signal(signal.Signals[name])
    process.communicate()
    assert process.returncode in (-signal.Signals[name], 130)
    assert hidden(tmp_path) == []
    assert path.read_text() == "old"


def ended_by_a_signal() -> Iterator[Any]:
    """What a command writes, when a signal comes amid it."""
    signal.raise_signal(signal.SIGTERM)
    yield from ()


def an_archive(file: str) -> str:
    """An archive beside a file: where it is."""
    folder = Path(file).parent / "archive"
    folder.mkdir()
    warc = Warc("one.warc.gz")
    (folder / warc.name).write_bytes(warc.content)
    return str(folder)


def duplicates_written(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Duplicates, "groups", lambda _: ended_by_a_signal())
    run(["duplicates", an_archive(file), "--to", file])


def duplicates_printed(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Duplicates, "groups", lambda _: ended_by_a_signal())
    run(["duplicates", an_archive(file)])


def graph_written(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LinkTable, "all_links", lambda *_: ended_by_a_signal())
    run(["links", "--archive", an_archive(file), "--graph", file])


def sample_written(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract_run, "sample", lambda *_: list(ended_by_a_signal()))
    order = Order(archive="x", to=file, rules=Rules())
    extract_run._sampled(order, How.NEW, 1, extract_run.Told(order, is_quiet=True))


@pytest.mark.parametrize("write", [duplicates_written, duplicates_printed, graph_written, sample_written])
def test_a_signal_leaves_nothing_of_what_any_command_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[str, pytest.MonkeyPatch], None]
) -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)  # as if nobody heard it
    try:
        with pytest.raises(SystemExit):
            write(str(tmp_path / "rows.jsonl"), monkeypatch)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [path.name for path in tmp_path.iterdir() if path.name != "archive"] == []


@pytest.mark.usefixtures("rows")
def test_waiting_for_a_reader_can_be_interrupted(tmp_path: Path) -> None:
    """Opening a pipe waits for whoever reads it: a signal that comes then, or before, ends the command."""
    os.mkfifo(tmp_path / "rows.fifo")
    process = subprocess.Popen([sys.executable, "-m", "sqspider", "export", "--output", "rows.fifo"], cwd=tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait() in (-signal.SIGTERM, 130)


COMMANDS = (
    "export", "export --format csv", "show {url}", "show {url} --json", "status", "hosts", "metrics",
    "--log-format json --log-level info consume --allow-private", "crawl {url}x --delay 0 --allow-private",
)  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_no_command_fails_on_a_terminal_of_few_signs(titled_site: Site, tmp_path: Path, encoding: str) -> None:
    environment = {"PYTHONIOENCODING": encoding, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    url = titled_site.url
    assert shell(f"$S crawl {url} {' '.join(SELF)}", tmp_path, **environment).returncode == 0
    titled_site.bodies["/n"] = b"leaf"
    assert shell(f"$S enqueue {url}n --delay 0", tmp_path, **environment).returncode == 0
    said: dict[str, str] = {}
    for command in COMMANDS:
        with open(tmp_path / "out", "wb") as out, open(tmp_path / "err", "wb") as err:
            subprocess.run(
                [sys.executable, "-m", "sqspider", *command.format(url=url).split()],
                cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=out, stderr=err, check=False,
                env={**os.environ, **environment},
            )  # fmt: skip
        errors = (tmp_path / "err").read_text(encoding)
        assert "Traceback" not in errors, command
        assert "UnicodeEncodeError" not in errors, command
        rows = command.startswith("export")  # which are in UTF-8 wherever they go
        said[command] = (tmp_path / "out").read_text("utf-8" if rows else encoding) + errors
    assert TITLE in said["export"]
    assert TITLE in said["export --format csv"]
    assert json.loads(said["show {url} --json"])["title"] == TITLE
    won = json.loads(said["--log-format json --log-level info consume --allow-private"].splitlines()[1])
    assert won["event"] == f"WON race — claimed for processing: {url}n"


async def a_dead_letter(path: str, body: str) -> None:
    passed = 0.0
    frontier = await SqliteFrontier.open(path, FrontierSettings(), clock=lambda: time.time() + passed)
    await frontier.send([body])
    while not await frontier.dead_letters(1):
        await frontier.receive(1)
        passed += 100.0
    await frontier.close()


async def test_what_strangers_wrote_is_shown_to_a_person_and_not_obeyed(sqspider: Run, tmp_path: Path) -> None:
    """A terminal would: it would hide a line, or colour all that follows."""
    site = Site()
    site.bodies = {
        "/robots.txt": b"User-agent: *\nDisallow: /no/\x1b[31m",
        "/": b"<title>A\x1b[31m title</title>",
        "/type": (404, {"Content-Type": "text/\x1b[31mhtml"}),
    }
    urls = {path: f"{site.url}{path}" for path in ("", "type", "no/%1b[31m")}
    try:
        crawled = sqspider("crawl", *urls.values(), *SELF)
        listed = sqspider("enqueue", "--sitemap", urls["no/%1b[31m"], "--allow-private")
    finally:
        site.close()
    await a_dead_letter(str(tmp_path / "sqspider.db"), "no \x1b[31mmessage")
    said = {path: sqspider("show", url).stdout for path, url in urls.items()}
    letters = sqspider("redrive", "--list").stdout
    for told in (crawled.stdout, crawled.stderr, listed.stdout, listed.stderr, letters, *said.values()):
        assert "\x1b" not in told
    assert r"blocked: robots: robots.txt line 2: Disallow: /no/\u001b[31m" in crawled.stderr
    assert r"robots.txt line 2: Disallow: /no/\u001b[31m" in listed.stderr
    assert r"A\u001b[31m title" in said[""]
    assert r"text/\u001b[31mhtml" in said["type"]
    assert r"Disallow: /no/\u001b[31m" in said["no/%1b[31m"]
    assert r"no \u001b[31mmessage" in letters
    rows = [json.loads(line) for line in sqspider("export").stdout.splitlines()]
    assert "A\x1b[31m title" in {row["title"] for row in rows}  # for a program it is as it was


async def test_what_became_of_a_dead_letter_of_a_crawl_is_told_by_its_own_record(
    sqspider: Run, served_site: str, tmp_path: Path
) -> None:
    sqspider("crawl", served_site, *SELF, "--crawl", "news", "--scope", "page", "--quiet")
    await a_dead_letter(str(tmp_path / "sqspider.db"), json.dumps({"u": served_site, "c": "news.ab"}))
    assert "its URL is done, so it is not needed any more" in sqspider("redrive", "--list").stdout


@settings(deadline=None, max_examples=200)
@given(st.text(st.characters(codec=None)), st.sampled_from(["ascii", "cp1252", "cp437", "utf-8"]))
def test_json_stays_the_same_json_in_any_encoding(text: str, encoding: str) -> None:
    written = json.dumps(text, ensure_ascii=False).encode(encoding, ESCAPED).decode(encoding)
    assert json.loads(written) == json.loads(json.dumps(text))


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_outputs_stop_nobody(titled_site: Site, tmp_path: Path, closed: str) -> None:
    done = shell(f"$S crawl {titled_site.url} {' '.join(SELF)} {closed}; echo $?", tmp_path)
    assert done.stdout.splitlines()[-1] == "0", done


@pytest.mark.parametrize(
    ("command", "says"), [("enqueue -f -", "standard input cannot be read"), ("cleanup --all", "say --yes")]
)
def test_a_closed_standard_input_is_said(tmp_path: Path, command: str, says: str) -> None:
    shell("$S enqueue http://example.com/", tmp_path)
    done = shell(f"$S {command} <&-", tmp_path)
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr
    assert "Traceback" not in done.stderr


def test_what_a_page_calls_itself_orders_no_terminal(sqspider: Run, titled_site: Site) -> None:
    titled_site.bodies["/"] = "<meta charset=utf-8><title>\x1b]0;mine\x07 Ж</title>".encode()
    assert sqspider("crawl", titled_site.url, *SELF).returncode == 0
    shown = sqspider("show", titled_site.url).stdout
    assert r"\u001b]0;mine\u0007 Ж" in shown
    assert "\x1b" not in shown
