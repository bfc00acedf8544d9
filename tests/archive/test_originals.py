"""What revisits refer to, in archives of anybody, with an index, without one, and with one that is old."""

from __future__ import annotations

import base64
import gzip
import os
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sqspider.archive import originals
from sqspider.archive.cdxj import write_index
from sqspider.archive.errors import ArchiveError
from sqspider.archive.export_files import export_files
from sqspider.archive.files import FileInfo, Files
from sqspider.archive.folder import Folder
from sqspider.archive.originals import Originals, originals_of
from sqspider.archive.reading import captures_in, read_archive
from sqspider.archive.scratch import opened_scratch
from tests.archive.warcs import HELLO, NOT_MODIFIED, Made, packed, plain, response, revisit, sha1

PAGE = "http://example.com/"
HULLO = HELLO.replace(b"hello", b"hullo")
WARCIO = ("WARC-Refers-To",)  # what it does not say
WGET = ("WARC-Refers-To-Target-URI", "WARC-Refers-To-Date")
FIRST_TOOLS = (*WARCIO, *WGET)  # the digest alone


def without(record: Made, *names: str) -> Made:
    for name in names:
        record.set(name)
    return record


def payloads_of_revisits(folder: Path) -> list[bytes | None]:
    """None: the original is not found."""
    found = [captured for captured in read_archive(str(folder)) if captured.kind == "revisit"]
    return [captured.payload if captured.original is not None else None for captured in found]


@pytest.mark.parametrize("is_packed", [True, False], ids=["packed", "plain"])
@pytest.mark.parametrize("lacks", [(), WARCIO, WGET, FIRST_TOOLS], ids=["ours", "warcio", "wget", "digest"])
def test_an_original_is_found_without_an_index(tmp_path: Path, lacks: tuple[str, ...], is_packed: bool) -> None:
    """Also in a file that is read after that of the revisit."""
    first, last = response(), response(message=HULLO, date="2026-11-25T00:00:00Z")
    again = without(revisit(first, date="2026-11-26T00:00:00Z"), *lacks)
    write, ending = (packed, ".warc.gz") if is_packed else (plain, ".warc")
    (tmp_path / f"a{ending}").write_bytes(write([again]))
    (tmp_path / f"b{ending}").write_bytes(write([first, last]))
    assert payloads_of_revisits(tmp_path) == [b"hello"]


@pytest.mark.parametrize("lacks", [(), WARCIO, WGET, FIRST_TOOLS], ids=["ours", "warcio", "wget", "digest"])
def test_an_index_that_does_not_tell_is_no_end(tmp_path: Path, lacks: tuple[str, ...]) -> None:
    """It knows URLs alone."""
    first = response()
    (tmp_path / "a.warc.gz").write_bytes(packed([first, without(revisit(first), *lacks)]))
    write_index(Folder(str(tmp_path)))
    assert payloads_of_revisits(tmp_path) == [b"hello"]


def test_an_index_may_be_older_than_files_and_name_some_that_went(tmp_path: Path) -> None:
    first, other = response(), response("http://example.com/other", HULLO)
    (tmp_path / "a.warc.gz").write_bytes(packed([first, other]))
    write_index(Folder(str(tmp_path)))
    (tmp_path / "a.warc.gz").rename(tmp_path / "b.warc.gz")
    os.utime(tmp_path / "b.warc.gz", (0, 0))
    new = response("http://example.com/new", HELLO.replace(b"hello", b"fresh"))
    again = [revisit(each, each.get("WARC-Target-URI")) for each in (first, other, new)]
    (tmp_path / "c.warc.gz").write_bytes(packed([*again, new]))
    assert payloads_of_revisits(tmp_path) == [b"hello", b"hullo", b"fresh"]


def test_an_answer_that_nothing_has_changed_means_the_last_before_it(tmp_path: Path) -> None:
    """Common Crawl's have the digest of no bytes; some have neither date nor digest."""
    answers = [
        response(message=HELLO.replace(b"hello", b"%05d" % day), date=f"2026-11-{day}T00:00:00Z")
        for day in (20, 22, 24)
    ]
    unchanged = []
    for more in ({"WARC-Payload-Digest": sha1(b"")}, {}):
        each = revisit(answers[0], PAGE, date="2026-11-23T12:00:00Z").set("WARC-Profile", NOT_MODIFIED)
        without(each, *FIRST_TOOLS, "WARC-Payload-Digest")
        for name, value in more.items():
            each.set(name, value)
        unchanged.append(each)
    dated = revisit(answers[0], PAGE, date="2026-11-23T12:00:00Z").set("WARC-Profile", NOT_MODIFIED)
    without(dated, "WARC-Refers-To").set("WARC-Payload-Digest", sha1(b""))
    (tmp_path / "a.warc.gz").write_bytes(packed([*answers, *unchanged, dated]))
    expected = [b"00022", b"00022", b"00020"]
    assert payloads_of_revisits(tmp_path) == expected
    write_index(Folder(str(tmp_path)))
    assert payloads_of_revisits(tmp_path) == expected


def test_an_original_is_held_against_what_is_said_of_it(tmp_path: Path) -> None:
    """Of another content at the same URL and time, it is none; digests may be written in other ways, or not at all."""
    first = response(message=HULLO)
    wrong = [revisit(response()), without(revisit(response()), "WARC-Refers-To")]
    hexed = revisit(first).set("WARC-Payload-Digest", "SHA-1:" + _hex(first.get("WARC-Payload-Digest")))
    silent = without(response("http://example.com/silent", HELLO.replace(b"hello", b"quiet")), "WARC-Payload-Digest")
    of_silent = without(revisit(response("http://example.com/silent", HELLO.replace(b"hello", b"quiet"))), *FIRST_TOOLS)
    (tmp_path / "a.warc.gz").write_bytes(packed([first, *wrong, without(hexed, *FIRST_TOOLS), silent, of_silent]))
    assert payloads_of_revisits(tmp_path) == [None, None, b"hullo", b"quiet"]


def _hex(digest: str) -> str:
    return base64.b32decode(digest.removeprefix("sha1:")).hex()


def test_an_archive_is_looked_through_once_and_then_what_grew(tmp_path: Path) -> None:
    """Also for originals that are nowhere: not once for each."""
    gone = [response(f"http://gone.example/{number}", HELLO.replace(b"hello", b"%05d" % number)) for number in range(9)]
    first = response()
    (tmp_path / "a.warc.gz").write_bytes(packed([first, revisit(first), *map(revisit, gone)]))
    files = Folder(str(tmp_path))
    looked = list[str]()
    originals_of(files).on_record = lambda info: looked.append(info.name)
    assert _found(files, "a.warc.gz") == [True, *[False] * 9]
    assert looked == ["a.warc.gz"] * 11
    (tmp_path / "b.warc.gz.open").write_bytes(packed([revisit(gone[0]), gone[0]]))
    assert _found(files, "b.warc.gz", is_open=True) == [True]
    assert looked == ["a.warc.gz"] * 11 + ["b.warc.gz"] * 2
    with (tmp_path / "b.warc.gz.open").open("ab") as stream:
        stream.write(packed([gone[1], revisit(gone[1])]) + b"\x1f\x8b")
    assert _found(files, "b.warc.gz", is_open=True) == [True, True]
    assert looked == ["a.warc.gz"] * 11 + ["b.warc.gz"] * 4


def _found(files: Files, name: str, *, is_open: bool = False) -> list[bool]:
    captures = list(captures_in(files, FileInfo(name, 0, 0.0, is_open)))
    return [each.original is not None for each in captures if each.kind == "revisit"]


def test_a_damaged_file_hides_no_other(tmp_path: Path) -> None:
    first = response()
    (tmp_path / "a.warc.gz").write_bytes(packed([revisit(first), response("http://example.com/x", HULLO)]))
    (tmp_path / "b.warc.gz").write_bytes(packed([first]) + b"no member")
    (tmp_path / "c.warc.gz").write_bytes(gzip.compress(b""))
    captured = next(read_archive(str(tmp_path)))
    assert captured.payload == b"hello"


def test_finders_go_with_their_archives(tmp_path: Path) -> None:
    files = Folder(str(tmp_path))
    assert originals_of(files) is originals_of(files)
    assert isinstance(originals_of(files), Originals)
    assert originals_of(Folder(str(tmp_path))) is not originals_of(files)


@pytest.mark.parametrize("lacks", [(), WARCIO, WGET, FIRST_TOOLS], ids=["ours", "warcio", "wget", "digest"])
def test_files_of_an_export_have_the_payload_of_originals(tmp_path: Path, lacks: tuple[str, ...]) -> None:
    first = response()
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive/a.warc.gz").write_bytes(packed([without(revisit(first), *lacks), first]))
    export_files(
        Folder(str(tmp_path / "archive")), tmp_path / "out", on_written=lambda _: None, on_skipped=lambda _: None
    )
    found = {path.name: path.read_bytes() for path in (tmp_path / "out/example.com").iterdir()}
    assert found == {"index.html": b"hello", "again": b"hello"}


def test_captures_can_be_handed_to_several_threads(tmp_path: Path) -> None:
    """The first that looks for an original is not the only one that may."""
    answers = [response(message=HELLO.replace(b"hello", b"%05d" % number)) for number in range(20)]
    (tmp_path / "a.warc.gz").write_bytes(packed([*answers, *map(revisit, answers)]))
    again = [captured for captured in read_archive(str(tmp_path)) if captured.kind == "revisit"]
    with ThreadPoolExecutor(4) as threads:
        threads.submit(getattr, again[0], "original").result()
        found = list(threads.map(lambda captured: captured.payload, again))
    assert again[0].original is not None
    assert found == [b"%05d" % number for number in range(20)]


@pytest.mark.parametrize("pages", [3, 40], ids=["for captures", "for what they are found by"])
def test_where_there_is_no_room_to_look_it_is_said_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    def small() -> sqlite3.Connection:
        connection = opened_scratch()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        return connection

    monkeypatch.setattr(originals, "opened_scratch", small)
    first = response()
    many = [response(f"{PAGE}{number}") for number in range(1500)]
    (tmp_path / "a.warc.gz").write_bytes(packed([first, *many, revisit(first)]))
    with pytest.raises(ArchiveError, match="SQLITE_TMPDIR"):
        payloads_of_revisits(tmp_path)
