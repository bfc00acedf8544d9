"""The commands that keep an archive: list, pack, wacz, export, forget; after real crawls, with ``verify`` as the judge."""

from __future__ import annotations

import json
import random
import subprocess
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest

from sqspider.archive.folder import Folder
from sqspider.archive.pack import pack
from tests.archive.dying import Dying, died
from tests.archive.ours import SITE
from tests.archive.small_warcs import Warc
from tests.cli.test_archive_reading import crawled as records_of_captures
from tests.conftest import INSTALLED, Run

ARCHIVE = "sqspider-archive"


@pytest.fixture
def crawled(sqspider: Run, served_site: str) -> str:
    """A site that was crawled twice: the URL of one of its pages. There are an archive of two files, and an index."""
    for more in ((), ("--again",)):
        done = sqspider("crawl", served_site, "--allow-private", "--delay", "0", "--depth", "2", *more)
        assert f"kept in {ARCHIVE}" in done.stdout, done.stderr
    assert sqspider("archive", "index").returncode == 0
    page: str = next(row["url"] for row in found(sqspider) if row["title"] and row["capture_file"])
    return page


def good(sqspider: Run, *arguments: str) -> str:
    done = sqspider("archive", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def rows(sqspider: Run, *arguments: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in good(sqspider, *arguments, "--json").splitlines()]


def test_an_archive_is_kept(tmp_path: Path, sqspider: Run, crawled: str) -> None:
    page = crawled
    before = rows(sqspider, "list", page)
    assert len(rows(sqspider, "list")) == 2
    assert "2 files" in good(sqspider, "list")
    body = sqspider("show", page, "--body").stdout
    assert body

    assert "2 files" in good(sqspider, "pack")
    assert len(rows(sqspider, "list")) == 1
    assert "0 faults" in good(sqspider, "verify")
    assert sqspider("show", page, "--body").stdout == body
    assert [row["digest"] for row in rows(sqspider, "list", page)] == [row["digest"] for row in before]
    assert good(sqspider, "pack") == "there is nothing to pack\n"
    assert rows(sqspider, "list", page, "--at", before[0]["at"])[0]["at"] == before[0]["at"]

    good(sqspider, "wacz", "--to", "all.wacz", "--title", "Mine")
    with zipfile.ZipFile(tmp_path / "all.wacz") as file:
        pages = [json.loads(line) for line in file.read("pages/pages.jsonl").splitlines()][1:]
        assert {
            "url": page,
            "title": next(row["title"] for row in found(sqspider) if row["url"] == page),
        }.items() <= next(said for said in pages if said["url"] == page).items()

    exported = sqspider("archive", "export", "--to", "out", "--convert-links", "--json")
    files = [json.loads(line) for line in exported.stdout.splitlines()]
    assert all((tmp_path / "out" / row["path"]).is_file() for row in files if "path" in row)
    assert sum("path" in row for row in files) > 10

    told = json.loads(good(sqspider, "forget", page, "--dry-run", "--json"))
    assert (told["captures"], told["erased"]) == (len(before), False)
    assert rows(sqspider, "list", page), "it was only said"
    refused = sqspider("archive", "forget", page)
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert "erased" in good(sqspider, "forget", page, "--yes", "--note", "by letter")
    assert "0 faults" in good(sqspider, "verify")
    assert sqspider("archive", "list", page).returncode == 1
    assert f'"{page}"' not in (tmp_path / ARCHIVE / "index.cdxj").read_text()
    assert "does not keep" in sqspider("show", page, "--body").stderr

    good(sqspider, "forget", "--older-than", "1s", "--yes")
    assert "0 faults" in good(sqspider, "verify")
    assert rows(sqspider, "list", "--records")[0]["captures"] == 0


def test_a_page_keeps_the_payload_that_lay_with_one_that_goes(tmp_path: Path, sqspider: Run) -> None:
    records_of_captures(tmp_path)
    before = sqspider("show", f"{SITE}/same", "--body").stdout
    told = good(sqspider, "forget", f"{SITE}/page", "--yes")
    assert "1 page keeps its payload" in told
    assert "0 faults" in good(sqspider, "verify")
    assert sqspider("show", f"{SITE}/same", "--body").stdout == before
    assert rows(sqspider, "list", f"{SITE}/same")[-1]["kind"] == "response"
    assert sqspider("archive", "list", f"{SITE}/page").returncode == 1
    for judge in INSTALLED.glob("judge-warcio-*/venv/bin/warcio"):  # where it is installed
        files = list((tmp_path / ARCHIVE).glob("*.warc.gz"))
        checked = subprocess.run([judge, "check", *files], capture_output=True, text=True, check=False)
        assert checked.returncode == 0, checked.stdout


def test_what_somebody_left_who_died_is_repaired(tmp_path: Path, sqspider: Run) -> None:
    """It died when the new file was there, and the old ones were there still."""
    records_of_captures(tmp_path)
    folder = tmp_path / ARCHIVE
    other = Warc("other.warc.gz")
    other.response("http://other.test/", b"x")
    other.write(folder)
    dying = Dying(Folder(str(folder)), 6)
    assert died(lambda: void(pack(dying, lambda _: None, clock=time.time, rng=random.Random(1))))
    assert sqspider("archive", "verify").returncode == 1, "each record is there twice"
    assert "had moved who died" in good(sqspider, "repair")
    assert "0 faults" in good(sqspider, "verify")
    assert "nothing to repair" in good(sqspider, "repair")
    assert sqspider("show", f"{SITE}/page", "--body").returncode == 0


def void(_: object) -> None:
    pass


def found(sqspider: Run) -> list[dict[str, Any]]:
    """The records of the frontier."""
    return [json.loads(line) for line in sqspider("export").stdout.splitlines()]


def test_an_archive_of_two_frontiers_is_packed_for_both(sqspider: Run, served_site: str) -> None:
    shared = ("--archive", "pages")
    for name in ("one", "two"):
        options = ("--allow-private", "--delay", "0", "--depth", "1", *shared)
        sqspider("--frontier", f"sqlite:{name}.db", "crawl", served_site, *options)
    packed = sqspider("--frontier", "sqlite:one.db", "archive", "pack", *shared)
    assert "2 files" in packed.stdout, packed.stderr
    assert "archive repair --archive pages` for each of them" in packed.stderr
    assert "told the frontier" in sqspider("--frontier", "sqlite:two.db", "archive", "repair", *shared).stdout
    for name in ("one", "two"):
        proved = sqspider("--frontier", f"sqlite:{name}.db", "archive", "verify", *shared)
        assert "0 faults" in proved.stdout, proved.stdout


def test_an_archive_of_somebody_elses_needs_no_frontier(tmp_path: Path, sqspider: Run) -> None:
    for name in ("a.warc.gz", "b.warc.gz"):
        warc = Warc(name)
        warc.response(f"http://{name}/", b"x")
        warc.write(tmp_path / "theirs")
    theirs = ("--archive", "theirs")
    assert "1 page" in good(sqspider, "wacz", *theirs) or (tmp_path / "theirs.wacz").exists()
    assert (tmp_path / "theirs.wacz").exists()
    packed = sqspider("archive", "pack", *theirs)
    assert (packed.returncode, "--frontier" in packed.stderr) == (0, True)
    good(sqspider, "forget", "--host", "a.warc.gz", "--yes", *theirs)
    assert [row["captures"] for row in rows(sqspider, "list", "--records", *theirs)] == [1]
    assert not (tmp_path / "sqspider.db").exists(), "looking makes no frontier"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("forget",), "say what is to be erased"),
        (("forget", "--before", "2026-01-01"), "say what is to be erased"),
        (("forget", "http://a.test/", "--host", "a.test"), "not both"),
        (("forget", "--host", "a.test", "--before", "2026-01-01", "--older-than", "3d"), "not both"),
        (("forget", "--host", "a.test", "--before", "yesterday"), "is no time"),
        (("pack", "--size", "large"), "is no size"),
        (("pack", "--drop-orphans"), "needs the frontier"),
        (("list", "--at", "2026-01-01"), "name one"),
        (("export",), "--to"),
        (("list", "--archive", "nowhere"), "nowhere"),
    ],
)
def test_what_is_meant_otherwise_is_said(tmp_path: Path, sqspider: Run, arguments: tuple[str, ...], words: str) -> None:
    Warc("a.warc.gz").write(tmp_path / ARCHIVE)
    done = sqspider(
        "archive", arguments[0], *(() if "--archive" in arguments else ("--archive", ARCHIVE)), *arguments[1:]
    )
    assert done.returncode == 2
    assert words in done.stderr


def test_a_frontier_that_is_damaged_is_no_missing_one(tmp_path: Path, sqspider: Run) -> None:
    """Packing without it would leave its records without their captures."""
    warc = Warc("a.warc.gz")
    warc.response("http://a.test/", b"x")
    warc.write(tmp_path / ARCHIVE)
    Warc("b.warc.gz").write(tmp_path / ARCHIVE)
    (tmp_path / "sqspider.db").write_bytes(b"no database" * 1000)
    assert sqspider("archive", "pack").returncode == 3
    assert sorted(path.name for path in (tmp_path / ARCHIVE).iterdir()) == ["a.warc.gz", "b.warc.gz"]
