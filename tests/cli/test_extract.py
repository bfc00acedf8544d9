"""`extract`: what it writes and says, what it refuses, and how it ends."""

from __future__ import annotations

import csv
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from sqspider.cli.main import run
from tests.conftest import Run
from tests.extract.common_crawl import NAME, Page, file_of
from tests.sites import Site

SITE = "https://pages.example"
COMMAND = (sys.executable, "-m", "sqspider", "extract")


def page(number: int, title: str | None = None) -> Page:
    title = title if title is not None else f"Page {number}"
    return Page(f"{SITE}/{number}", f"<html><title>{title}</title><b>{number}</b><p class=p>1,50 €".encode())


def an_archive(folder: Path, pages: list[Page], name: str = NAME) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(file_of(pages, name))
    return folder


@pytest.fixture(autouse=True)
def pages(tmp_path: Path) -> Path:
    """An archive of three pages and one that is missing."""
    return an_archive(tmp_path / "pages", [page(1), page(2), page(3), page(4)._replace(http_status=404)])


def rows_in(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def answer(query: str) -> list[tuple[object, ...]]:
    return duckdb.connect().execute(query).fetchall()


def numbers(path: Path) -> list[str]:
    return [str(row["url"]).rpartition("/")[2] for row in rows_in(path)]


def test_the_ending_of_a_name_says_what_is_written(tmp_path: Path, sqspider: Run) -> None:
    asked = ("--title", "--field", "number=css:b | integer")
    for name in ("rows.jsonl", "rows.csv", "rows.db", "rows.parquet", "parts/"):
        said = sqspider("extract", "pages", *asked, "--to", name)
        assert (said.returncode, said.stdout) == (0, ""), said.stderr
        assert said.stderr.startswith(f"3 rows in {name}, of 3 pages, in ")
    wanted = [(f"{SITE}/{number}", f"Page {number}", number) for number in (1, 2, 3)]
    lines = rows_in(tmp_path / "rows.jsonl")
    assert [(row["url"], row["title"], row["number"]) for row in lines] == wanted
    with (tmp_path / "rows.csv").open(newline="") as file:
        found = [(row["url"], row["title"], int(row["number"])) for row in csv.DictReader(file)]
    assert found == wanted
    query = "SELECT url, title, number FROM {} ORDER BY url"
    connection = sqlite3.connect(tmp_path / "rows.db")
    assert connection.execute(query.format("rows")).fetchall() == wanted
    connection.close()
    for files in ("rows.parquet", "parts/*.parquet"):
        assert answer(query.format(f"'{tmp_path / files}'")) == wanted


def test_rows_are_printed_where_no_file_is_named(sqspider: Run) -> None:
    said = sqspider("extract", "pages", "--title", "--columns", "title,url")
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines()[0] == f'{{"title":"Page 1","url":"{SITE}/1"}}'
    assert said.stderr.startswith("3 rows, of 3 pages")


@pytest.mark.parametrize(
    ("options", "status", "words"),
    [
        (("nowhere", "--title", "--to", "new.csv"), 2, "there is no archive nowhere"),
        (("empty", "--title", "--to", "new.csv"), 1, "there is no archive at empty"),
        (("text.txt", "--title", "--to", "new.csv"), 1, "there is no archive at text.txt"),
        (("pages", "--field", "a=css:b >", "--to", "new.csv"), 2, "a: "),
        (("pages", "--field", "a=csss:b", "--to", "new.csv"), 2, "css:"),
        (("pages", "--field", "title", "--to", "new.csv"), 2, "write NAME=PATH"),
        (("pages", "--each", "css:[", "--to", "new.csv"), 2, "--each: "),
        (("pages", "--require", "price", "--to", "new.csv"), 2, "price: no field of that name"),
        (
            ("pages", "--title", "--columns", "url,titel", "--to", "new.csv"),
            2,
            "--columns: no column is called 'titel'. Did you",
        ),
        (("pages", "--title", "--columns", "url,url", "--to", "new.csv"), 2, "--columns: url is named twice"),
        (("pages", "--rules", "nowhere.toml", "--to", "new.csv"), 2, "nowhere.toml cannot be read"),
        (
            ("pages", "--title", "--to", "old.csv"),
            2,
            "old.csv is there already: --overwrite replaces it, --append goes on with it",
        ),
        (("pages", "--title", "--to", "old.csv", "--append", "--overwrite"), 2, "exclude each other"),
        (("pages", "--title", "--to", "new.csv", "--append", "--limit", "1"), 2, "exclude each other"),
        (("pages", "--title", "--to", "nowhere/new.csv"), 2, "there is no folder"),
        (("pages", "--title", "--to", "new.xlsx"), 2, "name it .jsonl, .csv, .parquet or .db"),
        (("pages", "--title", "--format", "parquet"), 2, "not into a pipe"),
        (("pages", "--title", "--to", "new.parquet", "--append"), 2, "cannot be gone on with"),
        (("pages", "--title", "--json"), 2, "--json: rows are printed here"),
        (("pages", "--title", "--append"), 2, "--append is of a file: say --to FILE"),
        (("pages", "--title", "--to", "-", "--overwrite"), 2, "--overwrite is of a file: say --to FILE"),
        (("pages", "--apply", "nowhere:rows", "--to", "new.csv"), 2, "--apply: there is no module 'nowhere'"),
        (("pages", "--apply", "broken:rows", "--to", "new.csv"), 2, "--apply: "),
        (("pages", "--title", "--status", "999x", "--to", "new.csv"), 2, "--status: "),
        (("pages", "--title", "--type", "html", "--to", "new.csv"), 2, "--type: "),
        (("pages", "--title", "--follow"), 2, "--follow: what was printed is not remembered"),
        (("pages", "--title", "--follow", "--limit", "1", "--to", "new.csv"), 2, "leave out --limit"),
        (("--title", "--to", "new.csv"), 2, "there is no frontier sqlite:sqspider.db"),
        (("pages", "--title", "--to", "new.csv", "--frontier", "sqlite:no.db"), 2, "there is no frontier sqlite:no.db"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    status: int,
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("no archive")
    (tmp_path / "old.csv").write_text("what was there")
    (tmp_path / "broken.py").write_text("1 / 0\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    assert run(["extract", *options]) == status
    said = capfd.readouterr()
    assert said.out == ""
    assert words in said.err
    assert "Traceback" not in said.err
    assert "?." not in said.err
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "__pycache__") == before
    assert (tmp_path / "old.csv").read_text() == "what was there"


def test_what_is_there_stays_where_there_is_no_archive(tmp_path: Path, sqspider: Run) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "rows.jsonl").write_text("what was there\n")
    assert sqspider("extract", "empty", "--title", "--to", "rows.jsonl", "--overwrite").returncode == 1
    assert (tmp_path / "rows.jsonl").read_text() == "what was there\n"
    assert sqspider("extract", "pages", "--title", "--to", "rows.jsonl", "--overwrite").returncode == 0
    assert numbers(tmp_path / "rows.jsonl") == ["1", "2", "3"]


def test_a_field_that_should_be_there_is_missed_by_name(tmp_path: Path, sqspider: Run) -> None:
    without = Page(f"{SITE}/none", b"<title>None</title>")
    an_archive(tmp_path / "pages", [page(1), without, without._replace(url=f"{SITE}/none/2")])
    asked = ("--field", "price=css:.p | number", "--require", "price", "--to")
    said = sqspider("extract", "pages", *asked, "rows.jsonl")
    assert said.returncode == 1
    assert f"price is missing on 2 pages, the first of them {SITE}/none\n" in said.stderr
    assert [row["price"] for row in rows_in(tmp_path / "rows.jsonl")] == [1.5, None, None]
    told = json.loads(sqspider("extract", "pages", *asked, "more.jsonl", "--json").stdout)
    assert told["missing"] == {"price": {"pages": 2, "first": f"{SITE}/none"}}
    assert (told["rows"], told["documents"], told["found"], told["stopped"]) == (3, 3, {"price": 1}, False)


def test_a_page_that_cannot_be_read_is_no_failure(tmp_path: Path, sqspider: Run) -> None:
    binary = Page(f"{SITE}/binary", bytes(range(256)) * 8)
    an_archive(tmp_path / "pages", [page(1), binary])
    said = sqspider("extract", "pages", "--title", "--text", "--to", "rows.jsonl")
    assert said.returncode == 0, said.stderr
    assert "pages with an error: 1 binary: see the column error" in said.stderr
    assert [row["error"] is None for row in rows_in(tmp_path / "rows.jsonl")] == [True, False]


def test_ones_own_function_that_raises_is_a_failure(tmp_path: Path, sqspider: Run) -> None:
    (tmp_path / "mine.py").write_text(
        'def rows(document):\n    if document.url.endswith("2"):\n        raise KeyError("x")\n'
        '    return {"size": len(document.body)}\nrows.columns = {"size": "integer"}\n'
    )
    said = sqspider("extract", "pages", "--apply", "mine:rows", "--to", "rows.jsonl")
    assert said.returncode == 1
    assert "pages with an error: 1 apply" in said.stderr
    errors = {str(row["url"])[-1]: row["error"] for row in rows_in(tmp_path / "rows.jsonl")}
    assert errors["1"] is None
    assert "mine.py" in str(errors["2"])


def test_a_damaged_file_is_told_and_the_others_are_read(tmp_path: Path, sqspider: Run) -> None:
    folder = an_archive(tmp_path / "damaged", [page(1), page(2)], "a.warc.gz")
    whole = (folder / "a.warc.gz").read_bytes()
    (folder / "a.warc.gz").write_bytes(whole[:-40])
    an_archive(folder, [page(3)], "b.warc.gz")
    said = sqspider("extract", "damaged", "--title", "--to", "rows.jsonl")
    assert said.returncode == 1
    assert "damaged: " in said.stderr
    assert "a.warc.gz" in said.stderr
    assert "3" in numbers(tmp_path / "rows.jsonl")


def test_nothing_of_what_is_asked_for_is_told(sqspider: Run) -> None:
    said = sqspider("extract", "pages", "--title", "--host", "other.example", "--to", "rows.jsonl")
    assert said.returncode == 0
    assert said.stderr == "no page: none of 4 captures is what was asked for\n"


def test_captures_are_chosen(tmp_path: Path, sqspider: Run) -> None:
    for name, options in {
        "missing": ("--status", "404"),
        "all": ("--status", "2xx", "--status", "400-499"),
        "late": ("--since", "2027-01-01"),
        "early": ("--until", "2027-01-01"),
        "images": ("--type", "image/*"),
    }.items():
        assert sqspider("extract", "pages", *options, "--to", f"{name}.jsonl").returncode == 0
    found = {path.stem: numbers(path) for path in tmp_path.glob("*.jsonl")}
    assert found == {"missing": ["4"], "all": ["1", "2", "3", "4"], "late": [], "early": ["1", "2", "3"], "images": []}


def test_what_was_read_is_not_read_again(pages: Path, tmp_path: Path, sqspider: Run) -> None:
    for name in ("rows.jsonl", "rows.csv", "rows.db"):
        assert sqspider("extract", "pages", "--title", "--to", name).returncode == 0
    an_archive(pages, [page(7), page(8)], "later.warc.gz")
    for name in ("rows.jsonl", "rows.csv", "rows.db"):
        said = sqspider("extract", "pages", "--title", "--to", name, "--append")
        assert said.returncode == 0, said.stderr
        assert f"2 rows in {name}, of 2 pages" in said.stderr
    assert numbers(tmp_path / "rows.jsonl") == ["1", "2", "3", "7", "8"]
    said = sqspider("extract", "pages", "--text", "--to", "rows.jsonl", "--append")
    assert said.returncode == 2
    assert "--overwrite" in said.stderr
    said = sqspider("extract", "pages", "--title", "--to", "rows.db", "--append")
    assert (said.returncode, said.stderr) == (0, "nothing new: all of it was read before\n")


def test_rules_are_tried_on_the_first_pages(tmp_path: Path, sqspider: Run) -> None:
    said = sqspider("extract", "pages", "--title", "--limit", "2")
    assert [json.loads(line)["title"] for line in said.stdout.splitlines()] == ["Page 1", "Page 2"]
    assert sqspider("extract", "pages", "--title", "--limit", "2", "--to", "rows.parquet").returncode == 0
    assert answer(f"SELECT count(*) FROM '{tmp_path / 'rows.parquet'}'") == [(2,)]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.db", "parts/"])
def test_rows_that_rules_were_tried_on_are_not_gone_on_with(tmp_path: Path, sqspider: Run, name: str) -> None:
    """Though there is a cursor of rows that were there before."""
    target = f"{tmp_path}/{name}"
    assert sqspider("extract", "pages", "--title", "--to", target).returncode == 0
    assert sqspider("extract", "pages", "--title", "--to", target, "--overwrite", "--limit", "1").returncode == 0
    refused = sqspider("extract", "pages", "--title", "--to", target, "--append")
    assert refused.returncode == 2
    assert "has rows, and how far the archive was read for them" in refused.stderr
    assert sqspider("extract", "pages", "--title", "--to", target, "--overwrite").returncode == 0


def test_by_whatever_name_a_file_goes_it_has_one_cursor(pages: Path, tmp_path: Path, sqspider: Run) -> None:
    """With two, a stale one would cut the file where it once ended."""
    (tmp_path / "link.jsonl").symlink_to("rows.jsonl")
    assert sqspider("extract", "pages", "--title", "--to", "link.jsonl", "--overwrite").returncode == 0
    assert sqspider("extract", "pages", "--text", "--to", "rows.jsonl", "--overwrite").returncode == 0
    refused = sqspider("extract", "pages", "--title", "--to", "link.jsonl", "--append")
    assert refused.returncode == 2
    assert "was made with other rules" in refused.stderr
    an_archive(pages, [page(7)], "later.warc.gz")
    assert sqspider("extract", "pages", "--text", "--to", "link.jsonl", "--append").returncode == 0
    assert len((tmp_path / "rows.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize("to", ["-", "/dev/stdout"])
def test_who_reads_enough_and_leaves_is_no_trouble(pages: Path, tmp_path: Path, to: str) -> None:
    an_archive(pages, [page(number) for number in range(10, 2000)], "many.warc.gz")
    command = [*COMMAND, "pages", "--title", "--to", to, "--quiet"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""


def test_what_is_no_address_of_the_web_has_a_row_too(tmp_path: Path, sqspider: Run) -> None:
    """Heritrix keeps what it asked name servers, and wget its log."""
    urls = ["dns:shop.example", "urn:X-wget:log", "http:", "nothing"]
    an_archive(tmp_path / "theirs", [page(1)._replace(url=url) for url in urls])
    an_archive(tmp_path / "theirs", [page(1)], "more.warc.gz")
    rules = ("--title", "--links", "--canonical", "--field", "host=url:host")
    said = sqspider("extract", "theirs", *rules, "--to", "rows.jsonl")
    assert said.returncode == 0, said.stderr
    found = {row["url"]: (row["title"], row["url_host_name"], row["host"]) for row in rows_in(tmp_path / "rows.jsonl")}
    assert found == {
        **dict.fromkeys(urls, ("Page 1", None, None)),
        f"{SITE}/1": ("Page 1", "pages.example", "pages.example"),
    }
    assert sqspider("extract", "theirs", "--title", "--host", "pages.example").stdout.count("\n") == 1
    assert sqspider("links", "--archive", "theirs", "--external").returncode == 0


def test_links_are_relative_to_a_bare_host_too(tmp_path: Path, sqspider: Run) -> None:
    bare = Page("https://bare.example", b"<html><a href=next>next</a>")
    an_archive(tmp_path / "theirs", [bare, bare._replace(url="http:"), bare._replace(url="dns:bare.example")])
    said = sqspider("extract", "theirs", "--links", "--to", "-")
    links = [json.loads(line)["links"] or () for line in said.stdout.splitlines()]
    assert [[link["to"] for link in each] for each in links] == [["https://bare.example/next"], [], []]


@pytest.mark.parametrize("more", [(), ("--limit", "2")])
def test_what_ones_own_function_prints_is_no_row(tmp_path: Path, more: tuple[str, ...]) -> None:
    (tmp_path / "loud.py").write_text(
        "print('imported')\n"
        "def rows(document):\n    print('seen')\n    return {'a': document.url}\n"
        "rows.columns = {'a': 'text'}\n"
    )
    command = [*COMMAND, "pages", "--apply", "loud:rows", "--to", "-", *more]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, text=True)
    assert len([json.loads(line)["a"] for line in ran.stdout.splitlines()]) == (2 if more else 3)
    assert ran.stderr.count("seen") >= 2


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("more", [(), ("--limit", "2")])
def test_a_full_disk_is_told_in_a_sentence(sqspider: Run, more: tuple[str, ...]) -> None:
    ran = sqspider("extract", "pages", "--title", "--to", "/dev/full", "--quiet", *more)
    assert ran.returncode == 1
    assert ran.stderr.splitlines() == ["Error: /dev/full cannot be written: No space left on device."]


@pytest.mark.parametrize(("to", "words"), [("", "--to: name a file"), (f"{'a' * 300}.jsonl", "File name too long")])
def test_a_name_that_is_none_is_refused(sqspider: Run, to: str, words: str) -> None:
    for more in ((), ("--follow",)):
        ran = sqspider("extract", "pages", "--title", "--to", to, *more)
        assert ran.returncode == 2
        assert words in ran.stderr


def test_on_a_terminal_the_first_rows_are_shown(tmp_path: Path) -> None:
    keyboard, screen = pty.openpty()
    try:
        command = [*COMMAND, "pages", "--title", "--limit", "2"]
        environment = {**os.environ, "COLUMNS": "80"}
        done = subprocess.run(
            command, cwd=tmp_path, stdout=screen, stderr=subprocess.PIPE, text=True, env=environment, check=False
        )
        shown = os.read(keyboard, 65536).decode()
    finally:
        os.close(screen)
        os.close(keyboard)
    assert done.returncode == 0, done.stderr
    lines = shown.splitlines()
    assert lines[0].split() == ["url", "title"]
    assert lines[1].split() == [f"{SITE}/1", "Page", "1"]
    assert len(lines) == 3
    assert "there are more" in done.stderr


def test_a_field_that_is_never_found_is_warned_of(tmp_path: Path, sqspider: Run) -> None:
    an_archive(tmp_path / "pages", [page(number) for number in range(150)])
    said = sqspider("extract", "pages", "--field", "n=css:b", "--field", "prize=css:.prize", "--to", "rows.jsonl")
    assert said.returncode == 0
    (line,) = [line for line in said.stderr.splitlines() if "prize" in line]
    assert line.startswith("the field prize was found on none of the first 1")


def test_what_was_perhaps_meant_otherwise_is_told(tmp_path: Path, sqspider: Run) -> None:
    said = sqspider("extract", "pages", "--field", "prize=css:.prize", "--to", "rows.jsonl")
    assert "the field prize was found on none of 3 pages" in said.stderr
    said = sqspider("extract", "pages", "--to", "urls.jsonl")
    assert "nothing of the pages themselves was asked for: --title" in said.stderr
    an_archive(tmp_path / "others", [page(1)._replace(content_type="application/pdf")])
    said = sqspider("extract", "others", "--title", "--to", "none.jsonl")
    assert "--type '*'" in said.stderr
    for same in ("--type", "--content-type"):
        assert sqspider("extract", "others", same, "*", "--limit", "1").stdout.count("\n") == 1
    for same in ("--status", "--http-status"):
        assert '/4"' in sqspider("extract", "pages", same, "404", "--title").stdout


def test_a_page_that_was_the_same_again_has_a_row_with_its_content(tmp_path: Path, sqspider: Run) -> None:
    """Of an archive that stands alone, and by any number of processes; once its original is gone, that is told."""
    site = Site()
    try:
        site.bodies = {"/": b"<title>One</title>" + b"<p>The same as ever.</p>" * 100}
        archive = tmp_path / "sqspider-archive"
        before: list[Path] = []
        for what in (site.url, "--again"):
            before = list(archive.glob("*.warc.gz"))
            assert sqspider("crawl", what, "--allow-private", "--delay", "0", "--quiet").returncode == 0
        for number, more in enumerate((("--processes", "1"), ("--processes", "2"), ("--limit", "10"))):
            said = sqspider("extract", "sqspider-archive", "--title", "--to", f"{number}.jsonl", *more)
            assert said.returncode == 0, said.stderr
            assert [row["title"] for row in rows_in(tmp_path / f"{number}.jsonl")] == ["One", "One"]
        for first in before:
            first.rename(tmp_path / "elsewhere")
        said = sqspider("extract", "sqspider-archive", "--title", "--to", "rows.jsonl")
        assert "1 no-original" in said.stderr
        assert "not in sqspider-archive" in said.stderr
    finally:
        site.close()


def test_of_a_frontier_each_page_has_the_row_of_its_last_visit(tmp_path: Path, sqspider: Run) -> None:
    site = Site()
    try:
        site.bodies = {"/": b"<title>One</title><a href=/a>a</a>", "/a": b"<title>A</title>"}
        crawl = ("crawl", site.url, "--allow-private", "--delay", "0", "--ignore-robots", "--quiet")
        assert sqspider(*crawl).returncode == 0
        site.bodies["/"] = b"<title>Two</title><a href=/a>a</a>"
        assert sqspider(*crawl, "--again").returncode == 0
    finally:
        site.close()
    assert sqspider("extract", "--title", "--to", "last.jsonl").returncode == 0
    last = {row["title"]: (row["crawl"], row["visit"]) for row in rows_in(tmp_path / "last.jsonl")}
    assert last == {"Two": ("default", 1), "A": ("default", 1)}
    assert sqspider("extract", "sqspider-archive", "--title", "--to", "all.jsonl").returncode == 0
    assert sorted(str(row["title"]) for row in rows_in(tmp_path / "all.jsonl")) == ["A", "A", "One", "Two"]


def test_it_follows_what_is_written_until_it_is_asked_to_end(pages: Path, tmp_path: Path) -> None:
    command = [*COMMAND, "pages", "--title", "--to", "rows.jsonl", "--follow", "--json"]
    process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        _until(lambda: len(_lines(tmp_path / "rows.jsonl")) == 3)
        an_archive(pages, [page(7)], "later.warc.gz")
        _until(lambda: len(_lines(tmp_path / "rows.jsonl")) == 4)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, errors
    assert json.loads(output)["rows"] == 4
    assert numbers(tmp_path / "rows.jsonl") == ["1", "2", "3", "7"]


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def _until(is_so: Callable[[], bool]) -> None:
    for _ in range(3000):
        if is_so():
            return
        time.sleep(0.02)
    raise AssertionError("it never came")
