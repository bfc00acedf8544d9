"""The commands that look into an archive: cat, show, index, verify, repair."""

from __future__ import annotations

import asyncio
import gzip
import json
import subprocess
import time
from pathlib import Path

import pytest

from sqspider.archive.files import FileInfo
from sqspider.archive.store import open_store
from sqspider.cli.archive import walking
from sqspider.frontier import Entry, FrontierSettings, open_frontier
from sqspider.record import CapturePlace, Outcome, Reason, Status
from tests import forked
from tests.archive.captures import AT, LARGE, capture_of
from tests.archive.ours import OTHER, SITE, an_archive
from tests.archive.warcs import good, packed, response
from tests.conftest import Run
from tests.frontier.kit import finish_one, take_one, win

BESIDE = "sqspider-archive"
UNKEPT = f"{SITE}/unkept"
SILENT = f"{SITE}/silent"


def as_bytes(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    return forked.run_for_bytes(*arguments, cwd=folder)


def crawled(folder: Path) -> dict[str, CapturePlace]:
    """A frontier, whose records have their captures in the archive beside it."""
    return asyncio.run(_crawled(folder))


async def _crawled(folder: Path) -> dict[str, CapturePlace]:
    places = await an_archive(folder / BESIDE)
    ends = {url: Outcome(status=Status.DONE, http_status=200, capture=place) for url, place in places.items()}
    ends[UNKEPT] = Outcome(status=Status.DONE, http_status=200, unkept=True)
    ends[SILENT] = Outcome(status=Status.FAILED, reason=Reason.TIMEOUT)
    frontier = await open_frontier(f"sqlite:{folder / 'sqspider.db'}", FrontierSettings(), clock=time.time)
    try:
        for number, (url, outcome) in enumerate(ends.items()):
            await frontier.enqueue([Entry(url=url)])
            delivery = await take_one(frontier)
            claim = await win(frontier, delivery, claim=f"c{number}", lease=1000.0)
            assert await finish_one(frontier, claim, delivery, outcome)
    finally:
        await frontier.close()
    return places


def test_a_page_is_written_out_by_its_record(tmp_path: Path) -> None:
    crawled(tmp_path)
    for command in (("show",), ("archive", "cat")):
        body = as_bytes(tmp_path, *command, f"{SITE}/br", "--body")
        assert (body.returncode, body.stdout) == (0, OTHER + b"br"), body.stderr
        head = as_bytes(tmp_path, *command, f"{SITE}/none", "--headers")
        assert head.stdout.startswith(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html")
        assert head.stdout.endswith(b"\r\n\r\n")
        warc = as_bytes(tmp_path, *command, f"{SITE}/page", "--warc")
        assert warc.stdout.startswith(b"WARC/1.1\r\nWARC-Type: response\r\n")
        assert warc.stdout.endswith(LARGE + b"\r\n\r\n")


def test_what_was_answered_as_before_is_written_out_too(tmp_path: Path) -> None:
    crawled(tmp_path)
    assert as_bytes(tmp_path, "show", f"{SITE}/gzip", "--body").stdout == OTHER
    assert as_bytes(tmp_path, "show", f"{SITE}/same", "--body").stdout == LARGE


@pytest.mark.parametrize(
    ("url", "why"), [(UNKEPT, "does not keep"), (SILENT, "nothing was answered"), (f"{SITE}/x", "not known")]
)
def test_why_there_is_no_capture_is_said(tmp_path: Path, sqspider: Run, url: str, why: str) -> None:
    crawled(tmp_path)
    said = sqspider("show", url, "--body")
    assert (said.returncode, said.stdout) == (1, "")
    assert why in said.stderr
    if url == UNKEPT:
        assert f"capture            none: its crawl {why}" in sqspider("show", url).stdout


def test_show_says_a_record_or_a_capture(tmp_path: Path, sqspider: Run) -> None:
    crawled(tmp_path)
    assert sqspider("show", f"{SITE}/page", "--body", "--json").returncode == 2
    assert json.loads(sqspider("show", f"{SITE}/page", "--json").stdout)["url"] == f"{SITE}/page"


def test_a_capture_that_lies_elsewhere_is_told_in_a_line(tmp_path: Path, sqspider: Run) -> None:
    places = crawled(tmp_path)
    (tmp_path / BESIDE / places[f"{SITE}/page"].file).unlink()
    said = sqspider("show", f"{SITE}/page", "--body")
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    assert said.stderr.startswith("sqspider: there is no ")


@pytest.mark.parametrize("index", [True, False])
def test_the_capture_nearest_to_a_time_is_written_out(tmp_path: Path, index: bool) -> None:
    async def write() -> None:
        store = open_store(str(tmp_path / "pages"))
        for day in range(3):
            await store.keep([capture_of(b"%d " % day * 300, at=AT + day * 86400)])
        await store.close()

    asyncio.run(write())
    url, at = "http://site.example/page", ("--archive", "pages")
    if index:
        assert as_bytes(tmp_path, "archive", "index", *at).returncode == 0
    assert as_bytes(tmp_path, "archive", "cat", url, *at).stdout == b"2 " * 300
    times = {
        "20260922120000": 1,
        "2026-09-22T12:00": 1,
        "20010101000000": 0,
        "2026-09-23T20:00:00+02:00": 2,
        "2026-09-22": 0,
    }
    for when, day in times.items():
        assert as_bytes(tmp_path, "archive", "cat", url, *at, "--at", when).stdout == b"%d " % day * 300, when
    assert as_bytes(tmp_path, "archive", "cat", url, *at, "--at", "yesterday").returncode == 2


def test_what_is_not_there_is_told(tmp_path: Path, sqspider: Run) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "made.warc.gz").write_bytes(packed(good().values()))
    said = sqspider("archive", "cat", "http://example.com/none", "--archive", "pages")
    assert (said.returncode, said.stdout) == (1, "")
    assert "there is no capture of http://example.com/none" in said.stderr


def test_a_text_that_is_no_url_has_no_capture(tmp_path: Path, sqspider: Run) -> None:
    crawled(tmp_path)
    for command in ("cat", "list"):
        said = sqspider("archive", command, "no url")
        assert (said.returncode, said.stdout, said.stderr.count("\n")) == (1, "", 1)
        assert "there is no capture of no url" in said.stderr


def test_an_archive_without_a_name_is_none(tmp_path: Path, sqspider: Run) -> None:
    """A variable that is not set must not mean the frontier's own, least of all where something is erased."""
    url = f"{SITE}/page"
    crawled(tmp_path)
    for command in (("archive", "forget", url, "--yes"), ("archive", "cat", url), ("show", url, "--body")):
        said = sqspider(*command, "--archive", "")
        assert (said.returncode, said.stdout) == (2, "")
        assert "--archive: name a folder" in said.stderr
    assert sqspider("archive", "cat", url).returncode == 0


def test_one_file_is_listed_as_it_is_read(tmp_path: Path, sqspider: Run) -> None:
    path = f"{BESIDE}/{crawled(tmp_path)[f'{SITE}/page'].file}"
    for arguments in ((), (f"{SITE}/page",)):
        said = sqspider("archive", "list", *arguments, "--json", "--archive", path)
        assert said.returncode == 0, said.stderr
        assert said.stdout


def test_the_headers_of_an_answer_that_nothing_has_changed_are_its_own(tmp_path: Path, sqspider: Run) -> None:
    async def write() -> None:
        store = open_store(str(tmp_path / "pages"))
        [before] = await store.keep([capture_of(LARGE)])
        lines = (b'ETag: "1"\r\n', b"X-Name: gr\xfcn\r\n")
        status = b"HTTP/1.1 304 Not Modified\r\n"
        await store.keep([capture_of(b"", *lines, at=AT + 9, before=before, status=status)])
        await store.keep([capture_of(LARGE, url="http://site.example/next")])
        await store.close()

    asyncio.run(write())
    cat = ("archive", "cat", "http://site.example/page", "--archive", "pages")
    said = as_bytes(tmp_path, *cat, "--headers")
    assert said.stdout == b'HTTP/1.1 304 Not Modified\r\nETag: "1"\r\nX-Name: gr\xfcn\r\n\r\n', said.stderr
    assert sqspider("archive", "index", "--archive", "pages").returncode == 0
    assert as_bytes(tmp_path, *cat).stdout == LARGE


def test_a_304_of_a_page_that_is_not_kept_is_no_empty_page(tmp_path: Path, sqspider: Run) -> None:
    async def write() -> None:
        store = open_store(str(tmp_path / "pages"))
        await store.keep([capture_of(b"", b'ETag: "1"\r\n', status=b"HTTP/1.1 304 Not Modified\r\n")])
        await store.close()

    asyncio.run(write())
    said = sqspider("archive", "cat", "http://site.example/page", "--archive", "pages")
    assert (said.returncode, said.stdout) == (1, "")
    assert "was answered with 304" in said.stderr


@pytest.mark.parametrize("command", ["verify", "index", "cat", "forget", "repair"])
def test_a_folder_that_is_no_archive_is_told_in_a_line(tmp_path: Path, sqspider: Run, command: str) -> None:
    (tmp_path / "empty").mkdir()
    url = ["http://example.com/"] if command in ("cat", "forget") else []
    said = sqspider("archive", command, *url, "--archive", "nowhere")
    assert said.returncode == 2
    assert "nowhere" in said.stderr
    assert "Traceback" not in said.stderr
    said = sqspider("archive", command, *url, "--archive", "")
    assert said.returncode == 2
    assert "--archive: name a folder" in said.stderr
    if command != "repair":
        said = sqspider("archive", command, *url, "--archive", "empty")
        assert said.returncode == 1
        assert "sqspider: there is no archive at empty" in said.stderr


def test_an_archive_is_verified_with_its_frontier(tmp_path: Path, sqspider: Run) -> None:
    places = crawled(tmp_path)
    said = sqspider("archive", "verify")
    assert said.returncode == 0, said.stdout + said.stderr
    assert "0 faults" in said.stdout
    assert sqspider("archive", "index").stdout == f"16 captures are in {BESIDE}/index.cdxj\n"
    counts = json.loads(sqspider("archive", "verify", "--json").stdout)
    assert (counts["faults"], counts["captures"], counts["named"], counts["not_indexed"]) == (0, 16, 15, 0)
    file = tmp_path / BESIDE / places[f"{SITE}/page"].file
    file.write_bytes(file.read_bytes()[:-2])
    said = sqspider("archive", "verify")
    assert said.returncode == 1
    assert file.name in said.stdout
    *faults, counts = map(json.loads, sqspider("archive", "verify", "--json").stdout.splitlines())
    assert counts["faults"] == len(faults) > 0
    assert {"what", "file", "offset", "url"} == faults[0].keys()


def test_a_record_without_its_capture_is_a_fault(tmp_path: Path, sqspider: Run) -> None:
    places = crawled(tmp_path)
    for file in (tmp_path / BESIDE).iterdir():
        file.unlink()
    (tmp_path / BESIDE / "other.warc.gz").write_bytes(packed(good().values()))
    said = sqspider("archive", "verify")
    assert said.returncode == 1
    assert all(url in said.stdout for url in places)


def test_the_files_of_others_are_verified_without_a_frontier(tmp_path: Path, sqspider: Run) -> None:
    (tmp_path / "made.warc.gz").write_bytes(packed(good().values()))
    assert sqspider("archive", "verify", "--archive", ".").returncode == 0
    assert sqspider("archive", "verify", "--archive", "made.warc.gz").returncode == 0
    (tmp_path / "spoiled.warc.gz").write_bytes(gzip.compress(response().written() * 2))
    assert sqspider("archive", "verify", "--archive", "spoiled.warc.gz").returncode == 1
    assert sqspider("archive", "verify", "--archive", "made.warc.gz").returncode == 0
    assert sqspider("archive", "verify", "--archive", "none.warc.gz").returncode in (1, 2)


def test_what_a_dead_crawler_left_is_repaired(tmp_path: Path, sqspider: Run) -> None:
    places = crawled(tmp_path)
    file = tmp_path / BESIDE / places[f"{SITE}/page"].file
    file.rename(f"{file}.open")
    with Path(f"{file}.open").open("ab") as more:
        more.write(b"\x1f\x8b\x08\x00\x00")
    assert sqspider("archive", "verify").returncode == 1
    said = sqspider("archive", "repair")
    assert (said.returncode, said.stdout) == (0, f"{file.name}: cut, 5 bytes cut off\n")
    assert sqspider("archive", "verify").returncode == 0
    assert "nothing to repair" in sqspider("archive", "repair").stdout


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path, sqspider: Run) -> None:
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "made.warc.gz").write_bytes(packed(good().values()))
    (tmp_path / "pages" / "made.warc.gz").chmod(0)
    said = sqspider("archive", "verify", "--archive", "pages")
    if said.returncode == 0:
        pytest.skip("whoever runs this may read everything")
    assert said.returncode == 1
    assert "made.warc.gz" in said.stderr
    assert "Traceback" not in said.stderr


def test_who_waits_long_is_told_how_far_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(walking, "EVERY_SECONDS", 0.0)
    told = walking.Told("verified")
    for _ in range(250):
        told.record(FileInfo("made.warc.gz", 1, 0.0))
    assert capsys.readouterr().err == "verified 100 records, in made.warc.gz\nverified 200 records, in made.warc.gz\n"
