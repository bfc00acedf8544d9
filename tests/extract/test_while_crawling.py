"""`crawl --extract`: rows of pages as they come, said at the end, gone on with, and refused in words."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest

from sqspider.extract.tally import PAGES_TO_WARN
from tests.conftest import Run
from tests.extract.test_kills import family_of
from tests.sites import Asked, Site

HERE: Final = ("--allow-private", "--delay", "0")
PAGES: Final = 12
RULES: Final = 'title = true\n\n[fields]\nwords = "css:p"\n'


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    links = "".join(f"<a href=/{number}>{number}</a>" for number in range(PAGES))
    site.bodies["/"] = f"<!doctype html><title>home</title>{links}".encode()
    for number in range(PAGES):
        site.bodies[f"/{number}"] = f"<!doctype html><title>page {number}</title><p>words of {number}".encode()
    yield site
    site.close()


@pytest.fixture(autouse=True)
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


def rows_in(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


TITLES: Final = sorted(["home", *(f"page {number}" for number in range(PAGES))])


def titles_in(path: Path) -> list[str]:
    return sorted(row["title"] for row in rows_in(path))


@pytest.mark.parametrize("workers", ["1", "2"])
def test_each_page_has_its_row(sqspider: Run, site: Site, tmp_path: Path, workers: str) -> None:
    done = sqspider(
        "crawl", site.url, *HERE, "--workers", workers, "--extract", "rules.toml", "--extract-to", "rows.jsonl"
    )
    assert done.returncode == 0, done.stderr
    assert "13 rows in rows.jsonl" in done.stderr
    assert titles_in(tmp_path / "rows.jsonl") == TITLES
    assert {row["words"] for row in rows_in(tmp_path / "rows.jsonl")} >= {"words of 3", None}
    assert {row["crawl"] for row in rows_in(tmp_path / "rows.jsonl")} == {"default"}


def test_a_field_that_is_never_found_is_told_while_pages_come(sqspider: Run, site: Site, tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text('[fields]\nprize = "css:.prize"\nwords = "css:p"\n')
    site.bodies["/"] = "".join(f"<a href=/more/{number}>{number}</a>" for number in range(PAGES_TO_WARN)).encode()
    site.bodies |= {f"/more/{number}": b"<p>some words" for number in range(PAGES_TO_WARN)}
    done = sqspider("crawl", site.url, *HERE, "--extract", "rules.toml", "--extract-to", "rows.jsonl", "--quiet")
    assert done.returncode == 0, done.stderr
    told = [line for line in done.stderr.splitlines() if "was found on none" in line]
    assert len(told) == 1
    assert told[0].startswith("the field prize was found on none of the first 1")


def test_a_second_visit_adds_its_rows(sqspider: Run, site: Site, tmp_path: Path) -> None:
    extract = ("--extract", "rules.toml", "--extract-to", "rows.jsonl", "--quiet")
    assert sqspider("crawl", site.url, *HERE, *extract).returncode == 0
    assert sqspider("crawl", "--again", *HERE, *extract).returncode == 0
    found = sorted((row["url"], row["visit"], row["title"]) for row in rows_in(tmp_path / "rows.jsonl"))
    assert len(found) == 2 * len(TITLES)
    assert [visit for _, visit, _ in found] == [0, 1] * len(TITLES)
    assert sorted(title for _, visit, title in found if visit == 1) == TITLES  # they are revisits, with their page


def test_what_was_kept_has_its_rows_before_it_is_visited_again(sqspider: Run, site: Site, tmp_path: Path) -> None:
    """Afterwards its record tells of the second visit alone, and nothing else says that the first was no orphan."""
    assert sqspider("crawl", site.url, *HERE, "--quiet").returncode == 0
    done = sqspider("crawl", "--again", *HERE, "--extract", "rules.toml", "--extract-to", "rows.jsonl")
    assert done.returncode == 0, done.stderr
    found = sorted((row["visit"], row["title"]) for row in rows_in(tmp_path / "rows.jsonl"))
    assert found == [(visit, title) for visit in (0, 1) for title in TITLES]


def test_what_would_have_no_rows_is_not_visited_again(sqspider: Run, site: Site, tmp_path: Path) -> None:
    extract = ("--extract", "rules.toml", "--extract-to", "rows.jsonl", "--quiet")
    assert sqspider("crawl", site.url, *HERE, *extract).returncode == 0
    asked = len(site.requests)
    (tmp_path / "rules.toml").write_text("language = true\n" + RULES)
    done = sqspider("crawl", "--again", *HERE, *extract)
    assert done.returncode == 1
    assert "was made with other rules" in done.stderr
    assert "nothing is visited again" in done.stderr
    assert len(site.requests) == asked
    records = [json.loads(line) for line in sqspider("export").stdout.splitlines()]
    assert {record["status"] for record in records} == {"done"}


def test_a_page_that_is_gone_has_the_row_of_its_last_good_visit(sqspider: Run, site: Site, tmp_path: Path) -> None:
    assert sqspider("crawl", site.url, *HERE, "--quiet").returncode == 0
    assert sqspider("crawl", "--again", *HERE, "--quiet").returncode == 0
    del site.bodies["/3"]
    for _ in range(2):
        sqspider("crawl", "--again", *HERE, "--quiet")
    done = sqspider("extract", "--title", "--to", "rows.jsonl")
    assert done.returncode == 0, done.stderr
    found = {row["title"]: row["visit"] for row in rows_in(tmp_path / "rows.jsonl")}
    assert found == {title: 1 if title == "page 3" else 3 for title in TITLES}


def test_of_several_crawls_in_one_archive_each_has_its_rows(sqspider: Run, site: Site, tmp_path: Path) -> None:
    assert sqspider("crawl", site.url, *HERE, "--crawl", "other", "--quiet").returncode == 0
    extract = ("--extract", "rules.toml", "--extract-to", "rows.jsonl", "--quiet")
    assert sqspider("crawl", f"{site.url}3", *HERE, "--crawl", "mine", *extract).returncode == 0
    assert [(row["crawl"], row["title"]) for row in rows_in(tmp_path / "rows.jsonl")] == [("mine", "page 3")]


def test_what_an_earlier_run_left_is_caught_up(sqspider: Run, site: Site, tmp_path: Path) -> None:
    assert sqspider("crawl", site.url, *HERE, "--quiet").returncode == 0
    done = sqspider("crawl", *HERE, "--extract", "rules.toml", "--extract-to", "rows.jsonl")
    assert done.returncode == 0, done.stderr
    assert titles_in(tmp_path / "rows.jsonl") == TITLES


def test_who_goes_on_without_rows_is_told(sqspider: Run, site: Site, tmp_path: Path) -> None:
    extract = ("--extract", "rules.toml", "--extract-to", "rows.jsonl")
    assert "no rows are made" not in sqspider("crawl", site.url, *HERE, *extract).stderr
    again = sqspider("crawl", *HERE).stderr.splitlines()
    assert [line for line in again if "--extract rules.toml --extract-to rows.jsonl" in line] == again[:1]
    assert "no rows are made" in again[0]
    assert "no rows are made" not in sqspider("crawl", *HERE, "--crawl", "other", site.url).stderr
    (tmp_path / "rows.jsonl").unlink()  # then nobody waits for more of them
    assert "no rows are made" not in sqspider("crawl", *HERE).stderr


def test_rules_may_stand_in_the_crawls_file(sqspider: Run, site: Site, tmp_path: Path) -> None:
    text = f'urls = ["{site.url}"]\n\n[extract]\ntitle = true\nto = "rows.csv"\n'
    (tmp_path / "crawl.toml").write_text(text)
    done = sqspider("crawl", *HERE, "--config", "crawl.toml")
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 1 + len(TITLES)
    assert "`--config crawl.toml`" in sqspider("crawl", *HERE).stderr


def test_a_file_that_was_found_may_name_no_rules(sqspider: Run, tmp_path: Path) -> None:
    """They may name code that is run, and a file that is written."""
    (tmp_path / "sqspider.toml").write_text(
        'urls = ["http://127.0.0.1:1/"]\n[extract]\napply = "a:b"\nto = "x.jsonl"\n'
    )
    done = sqspider("crawl", *HERE)
    assert done.returncode == 2
    assert "may not say [extract]" in done.stderr


def test_a_parquet_file_becomes_a_folder_of_parts(sqspider: Run, site: Site, tmp_path: Path) -> None:
    import duckdb

    done = sqspider("crawl", site.url, *HERE, "--extract", "rules.toml", "--extract-to", "rows.parquet")
    assert done.returncode == 0, done.stderr
    assert "rows.parquet is a folder of parts" in done.stderr
    found = duckdb.connect().execute(f"SELECT title FROM '{tmp_path}/rows.parquet/*.parquet'").fetchall()
    assert sorted(title for (title,) in found) == TITLES


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--extract", "rules.toml"), "say which file rows go to"),
        (("--extract", "rules.toml", "--extract-to", "-"), "say which file rows go to"),
        (("--extract-to", "rows.jsonl"), "say with --extract what is to be extracted"),
        (("--extract", "rules.toml", "--extract-to", "rows.jsonl", "--no-archive"), "leave out --no-archive"),
        (("--extract", "none.toml", "--extract-to", "rows.jsonl"), "none.toml cannot be read"),
        (("--extract", "bad.toml", "--extract-to", "rows.jsonl"), "Did you mean 'title'"),
        (("--extract", "path.toml", "--extract-to", "rows.jsonl"), "price: "),
        (("--extract", "rules.toml", "--extract-to", "rows.pdf"), "rows.pdf"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_fetched(
    sqspider: Run, site: Site, tmp_path: Path, arguments: tuple[str, ...], words: str
) -> None:
    (tmp_path / "bad.toml").write_text("titel = true\n")
    (tmp_path / "path.toml").write_text('[fields]\nprice = "css:>>"\n')
    done = sqspider("crawl", site.url, *HERE, *arguments)
    assert done.returncode == 2
    assert words in done.stderr
    assert site.requests == []
    assert not (tmp_path / "rows.jsonl").exists()


def test_extraction_that_fails_fails_no_page(sqspider: Run, site: Site) -> None:
    done = sqspider("crawl", site.url, *HERE, "--extract", "rules.toml", "--extract-to", "no/such/folder/rows.jsonl")
    assert done.returncode == 1
    assert "nothing more is extracted: no/such/folder/rows.jsonl cannot be written: there is no folder" in done.stderr
    records = [json.loads(line) for line in sqspider("export").stdout.splitlines()]
    assert [record["status"] for record in records] == ["done"] * len(TITLES)


def test_other_rules_for_a_table_that_is_there_are_said(sqspider: Run, site: Site, tmp_path: Path) -> None:
    extract = ("--extract", "rules.toml", "--extract-to", "rows.jsonl", "--quiet")
    assert sqspider("crawl", site.url, *HERE, *extract).returncode == 0
    (tmp_path / "rules.toml").write_text("language = true\n" + RULES)
    done = sqspider("crawl", *HERE, *extract)
    assert done.returncode == 1
    assert "was made with other rules" in done.stderr
    assert titles_in(tmp_path / "rows.jsonl") == TITLES


class Held:
    """A site's page that waits until it is let go."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()

    def __call__(self, _: Asked) -> bytes:
        self.asked.set()
        self.go.wait(60)
        return b"<!doctype html><title>held</title>"


def begun(what: str, folder: Path) -> subprocess.Popen[str]:
    """A crawl that extracts. ``what``: a URL, or an option."""
    command = [sys.executable, "-m", "sqspider", "crawl", what, *HERE]
    command += ["--extract", "rules.toml", "--extract-to", "rows.jsonl"]
    return subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def test_an_extractor_that_dies_is_begun_again(site: Site, tmp_path: Path) -> None:
    held = Held()
    site.bodies["/0"] = held
    process = begun(site.url, tmp_path)
    try:
        assert held.asked.wait(60)
        extractor = family_of(process.pid)[1]
        os.kill(extractor, signal.SIGKILL)
        held.go.set()
        _, told = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 0, told
    assert "extractor_died" in told
    assert titles_in(tmp_path / "rows.jsonl") == sorted([*TITLES[:1], "held", *TITLES[2:]])


def test_a_crawl_that_is_stopped_has_the_rows_of_what_it_kept(site: Site, tmp_path: Path) -> None:
    held = Held()
    site.bodies["/0"] = held
    process = begun(site.url, tmp_path)
    try:
        assert held.asked.wait(60)
        process.send_signal(signal.SIGINT)
        held.go.set()
        _, told = process.communicate(timeout=100)
    finally:
        process.kill()
    assert process.returncode == 130, told
    found = titles_in(tmp_path / "rows.jsonl")
    assert "held" in found
    assert len(found) == len(set(found))
    assert f"{len(found)} rows in rows.jsonl" in told


def test_who_does_not_wait_for_rows_leaves_nobody_at_work(
    sqspider: Run, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sqspider("crawl", site.url, *HERE, "--quiet").returncode == 0
    (tmp_path / "rules.toml").write_text('apply = "tests.extract.killing:endless"\n')
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    os.mkfifo(tmp_path / "log")  # whoever opens it to read waits until it is written
    monkeypatch.setenv("KILLING_LOG", str(tmp_path / "log"))
    process = begun("--again", tmp_path)
    ends: list[int] = []
    try:
        assert (tmp_path / "log").read_text()
        ends += [os.pidfd_open(pid) for pid in family_of(process.pid)[1:]]
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=100)
        assert len(ends) >= 2
        assert all(select.select([end], [], [], 60)[0] for end in ends)  # readable once it has ended
    finally:
        process.kill()
        for end in ends:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(end, signal.SIGKILL)
            os.close(end)
    assert process.returncode == 130, told
    records = [json.loads(line) for line in sqspider("export").stdout.splitlines()]
    assert {record["status"] for record in records} == {"done"}
