"""Lists of URLs at the command line, for ``enqueue`` and ``crawl``, and their fields all the way to the rows."""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
from pathlib import Path
from typing import Any, Final

import pytest

from tests.conftest import Run

FAST: Final = ("--delay", "0", "--allow-private", "--scope", "page", "--quiet")
E_COM: Final = "http://e.com/"


def rows_of(run: Run) -> dict[str, Any]:
    """The fields of each record, by URL."""
    return {row["url"]: row["meta"] for row in map(json.loads, run("export").stdout.splitlines())}


def test_a_crawl_of_a_spreadsheet_gives_its_columns_back(sqspider: Run, served_site: str, tmp_path: Path) -> None:
    table = f'name;URL;price\n"Bücher; =1";{served_site}page/1;7\n;{served_site}page/2;\n'
    (tmp_path / "list.csv").write_text(table, encoding="utf-16")
    done = sqspider("crawl", "-f", "list.csv", *FAST, "--json", "--output", "rows.jsonl")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["done"] == 2
    wanted = {f"{served_site}page/1": {"name": "Bücher; =1", "price": "7"}, f"{served_site}page/2": None}
    rows = {row["url"]: row for row in map(json.loads, (tmp_path / "rows.jsonl").read_text().splitlines())}
    assert {url: row["meta"] for url, row in rows.items()} == wanted
    assert {row["status"] for row in rows.values()} == {"done"}
    (first, second) = csv.DictReader(io.StringIO(sqspider("export", "--format", "csv").stdout))
    assert (json.loads(first["meta"]), second["meta"]) == (wanted[f"{served_site}page/1"], "")
    shown = sqspider("show", f"{served_site}page/1").stdout
    assert re.search(r'^meta +\{"name": "Bücher; =1", "price": "7"\}$', shown, re.M)


def test_links_have_none_of_the_fields_of_their_page(sqspider: Run, served_site: str, tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text(json.dumps({"url": served_site, "of": {"a": [1, None]}}))
    crawl = ("crawl", "-f", "list.jsonl", *FAST, "--scope", "host", "--depth", "1", "--exclude", "slow|huge|flaky|loop")
    sqspider(*crawl)
    rows = rows_of(sqspider)
    assert rows.pop(served_site) == {"of": {"a": [1, None]}}
    assert len(rows) > 5
    assert set(rows.values()) == {None}


def test_every_worker_takes_from_a_list_of_standard_input(sqspider: Run, served_site: str) -> None:
    lines = "".join(json.dumps({"url": f"{served_site}page/{n}", "n": n}) + "\n" for n in range(12))
    crawl = ("crawl", "-f", "-", "--format", "jsonl", "--workers", "2", *FAST, "--json")
    done = sqspider(*crawl, stdin=lines)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["done"] == 12
    assert rows_of(sqspider) == {f"{served_site}page/{n}": {"n": n} for n in range(12)}


def test_what_is_refused_is_named_and_the_others_go_on(sqspider: Run, served_site: str, tmp_path: Path) -> None:
    lines = [{"url": "ftp://x/"}, {"url": f"{served_site}page/1", "a": "b" * 3000}, {"url": f"{served_site}page/2"}]
    (tmp_path / "list.ndjson").write_text("\n".join(map(json.dumps, lines)))
    done = sqspider("crawl", "-f", "list.ndjson", *FAST, "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["done"] == 1
    assert "refused: list.ndjson, line 1: neither http nor https: 'ftp://x/'" in done.stderr
    assert "refused: list.ndjson, line 2: what is said of the URL cannot be kept (meta: at most 2,048" in done.stderr
    done = sqspider("enqueue", "-f", "list.ndjson", "--json")
    assert done.returncode == 1
    wanted = {"new": 0, "known": 1, "refused": 2, "kept": 0, "reasons": {"bad_scheme": 1, "bad_line": 1}}
    assert json.loads(done.stdout) == {**wanted, "sitemaps": []}


def test_what_is_known_keeps_its_fields_and_it_is_said(sqspider: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(f"url,of\n{E_COM}1,a\n{E_COM}2,\n")
    (tmp_path / "b.csv").write_text(f"url,of\n{E_COM}1,b\n{E_COM}2,b\n{E_COM}3,b\n{E_COM}3,c\n")
    assert sqspider("enqueue", "-f", "a.csv").stderr == ""
    done = sqspider("enqueue", "-f", "b.csv")
    assert (done.returncode, done.stdout) == (0, "1 new, 3 known, 0 refused\n")
    assert "3 URLs were known, and keep what was said before" in done.stderr
    assert rows_of(sqspider) == {f"{E_COM}1": {"of": "a"}, f"{E_COM}2": None, f"{E_COM}3": {"of": "b"}}


def test_a_list_that_is_packed_is_read(sqspider: Run, tmp_path: Path) -> None:
    (tmp_path / "list.csv.gz").write_bytes(gzip.compress(f"url,of\n{E_COM},a\n".encode()))
    (tmp_path / "broken.txt.gz").write_bytes(gzip.compress(f"{E_COM}b\n".encode() * 10_000)[:-20])
    (tmp_path / "no.txt.gz").write_text(E_COM)
    assert sqspider("enqueue", "-f", "list.csv.gz").returncode == 0
    for name in ("broken.txt.gz", "no.txt.gz"):
        done = sqspider("enqueue", "-f", name)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False)
        assert f"{name} cannot be read: " in done.stderr
    assert rows_of(sqspider)[E_COM] == {"of": "a"}


@pytest.mark.parametrize("command", ["crawl", "enqueue"])
@pytest.mark.parametrize(
    ("name", "text", "arguments", "says"),
    [
        ("a.csv", "name,where\na,http://e.com/\n", (), "a.csv: no column is called url or link"),
        ("a.csv", "name,where\na,http://e.com/\n", ("--column", "there"), "no column is called 'there'"),
        ("a.csv", "name,where\n", ("--column", "3"), "there is no column 3"),
        ("a.txt", "http://e.com/\n", ("--column", "url"), "a list of lines has no columns"),
        ("a.txt", "http://e.com/\n", ("--format", "csv"), "no column is called"),
        (None, "", ("--column", "url"), "name one with -f"),
        ("absent.csv", None, (), "absent.csv cannot be read"),
    ],
)
def test_a_list_that_cannot_be_read_is_told_before_anything_is_done(
    sqspider: Run,
    tmp_path: Path,
    command: str,
    name: str | None,
    text: str | None,
    arguments: tuple[str, ...],
    says: str,
) -> None:
    if name and text is not None:
        (tmp_path / name).write_text(text)
    before = set(tmp_path.iterdir())
    done = sqspider(command, *(("-f", name) if name else (E_COM,)), *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in " ".join(done.stderr.replace("\u2502", "").split())
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("text", "says"), [("ftp://x/\nno url\n", "line 2: not a valid URL"), ("#\n\n", "names no URL")]
)
def test_where_all_is_refused_nothing_runs(
    sqspider: Run, served_site: str, tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "list.txt").write_text(text)
    done = sqspider("crawl", "-f", "list.txt", *FAST)
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"list.txt"}
    sqspider("enqueue", f"{served_site}page/1", "--delay", "0")
    assert sqspider("crawl", "-f", "list.txt", *FAST).returncode == 2  # what waits is not what was asked for
    assert json.loads(sqspider("status", "--json").stdout)["records"]["queued"] == 1


def test_a_crawl_of_a_list_fails_where_one_of_it_does(sqspider: Run, served_site: str, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{served_site}page/1\n{served_site}nowhere\n")
    done = sqspider("crawl", "-f", "list.txt", *FAST)
    assert done.returncode == 1
    assert f"{served_site}nowhere: failed: client_error" in done.stderr


def test_a_sitemap_is_of_urls_that_are_given_by_themselves(sqspider: Run, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(E_COM)
    done = sqspider("crawl", "-f", "list.txt", "--sitemaps", *FAST)
    assert (done.returncode, "name the URLs whose sites' sitemaps are meant" in done.stderr) == (2, True)
