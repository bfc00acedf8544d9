"""What is in an archive, as it is listed."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqspider.archive import cdxj
from sqspider.archive.errors import NoArchiveError
from sqspider.archive.folder import Folder
from sqspider.archive.listing import found_of, listed, nearest

from .small_warcs import NOON, Warc

URL = "http://a.test/"


def archive(folder: Path) -> Folder:
    first, second = Warc("sqspider-20260501120000-00001-h-12345678.warc.gz"), Warc("other.warc.gz")
    payload = first.response(URL, b"12345", NOON + 1, headers="X: y\r\n", kind="Text/HTML; charset=utf-8")
    first.response("http://b.test/", b"b", NOON)
    second.revisit(URL, payload, NOON + 9)
    second.response(URL, b"", NOON - 5, status="503 Down", truncated="time")
    first.write(folder)
    second.write(folder, is_open=True)
    (folder / "notes.txt").write_text("no WARC file")
    return Folder(str(folder))


def test_files_are_listed_without_being_read(tmp_path: Path) -> None:
    files = archive(tmp_path)
    for path in tmp_path.glob("*.warc.gz*"):
        path.write_bytes(b"?" * path.stat().st_size)  # whoever reads it sees that it is none
    other, ours = listed(files)
    assert (other.name, other.is_open, other.began) == ("other.warc.gz", True, None)
    assert (ours.is_open, ours.began, ours.size) == (False, NOON, (tmp_path / ours.name).stat().st_size)
    assert (ours.records, ours.captures, ours.first, ours.damage) == (None, None, None, None)


def test_what_is_in_them_is_said_if_it_is_asked_for(tmp_path: Path) -> None:
    files = archive(tmp_path)
    other, ours = listed(files, reads=True)
    assert (ours.records, ours.captures, ours.first, ours.last) == (7, 2, NOON, NOON + 1)
    assert (other.records, other.captures, other.first, other.last) == (7, 2, NOON - 5, NOON + 9)
    path = tmp_path / ours.name
    path.write_bytes(path.read_bytes()[:-10])
    torn = list(listed(files, reads=True))[1]
    assert torn.damage is not None
    assert ours.name in torn.damage


def test_a_torn_end_of_a_file_that_is_being_written_is_no_damage(tmp_path: Path) -> None:
    files = archive(tmp_path)
    path = tmp_path / "other.warc.gz.open"
    path.write_bytes(path.read_bytes()[:-10])
    other = next(iter(listed(files, reads=True)))
    assert other.damage is None
    assert other.captures == 2


@pytest.mark.parametrize("has_index", [False, True])
def test_captures_of_a_url_are_found_in_the_order_of_time(tmp_path: Path, has_index: bool) -> None:
    files = archive(tmp_path)
    if has_index:
        cdxj.write_index(files)
    down, whole, revisit = found_of(files, [URL, URL])
    assert (whole.at, whole.http_status, whole.content_type, whole.bytes) == (NOON + 1, 200, "text/html", 5)
    assert (down.http_status, down.truncated) == (503, "time")
    assert (revisit.kind, revisit.bytes, revisit.truncated) == ("revisit", None, None)
    said = whole.as_json()
    assert (said["at"], said["capture_file"]) == ("2026-05-01T12:00:01.000000Z", whole.file)
    assert nearest([down, whole, revisit], NOON + 4) == whole
    assert nearest([down, whole, revisit], NOON + 6) == revisit
    assert nearest([], NOON) is None


def test_a_folder_that_is_no_archive_is_named(tmp_path: Path) -> None:
    with pytest.raises(NoArchiveError, match=str(tmp_path)):
        list(listed(Folder(str(tmp_path))))
