"""The files of an archive in a folder, as readers have them."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from sqspider.archive.errors import ArchiveError, NoArchiveError, NotAllowedError
from sqspider.archive.folder import Folder
from sqspider.archive.names import safe_host

as_root = pytest.mark.skipif(os.geteuid() == 0, reason="root may do anything")


def test_files_are_told_by_name_without_what_is_not_there_yet(tmp_path: Path) -> None:
    (tmp_path / "20261130").mkdir()
    (tmp_path / "empty").mkdir()
    for name in ("b.warc.gz.open", "a.warc.gz", "20261130/x.warc.gz", "index.cdxj", ".c.warc.gz.new", "20261130.wacz"):
        (tmp_path / name).write_bytes(b"1" * len(name))
    found = list(Folder(str(tmp_path)).all())
    names = ["20261130.wacz", "20261130/x.warc.gz", "a.warc.gz", "b.warc.gz", "index.cdxj"]
    assert [one.name for one in found] == names == sorted(names)
    assert [one.name for one in found if one.is_open] == ["b.warc.gz"]
    assert found[3].size == len("b.warc.gz.open")


def test_a_file_is_read_while_it_is_open_and_after(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz.open"
    path.write_bytes(b"0123456789")
    files = Folder(str(tmp_path))
    assert files.read("a.warc.gz", 2, 3) == b"234"
    path.rename(tmp_path / "a.warc.gz")
    assert files.read("a.warc.gz", 8, 30) == b"89"
    with files.opened("a.warc.gz", 4) as stream:
        assert stream.read(2) == b"45"


def test_one_file_is_told_of_without_a_look_at_the_others(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz.open"
    path.write_bytes(b"0123456789")
    (tmp_path / "b.warc.gz").write_bytes(b"0")
    files = Folder(str(tmp_path))
    assert files.info("a.warc.gz") == next(files.all())
    path.rename(tmp_path / "a.warc.gz")
    assert files.info("a.warc.gz") == next(files.all())
    assert files.info("index.cdxj") is None


def test_what_is_written_is_seen_whole_or_not_at_all(tmp_path: Path) -> None:
    files = Folder(str(tmp_path))
    files.write("index.cdxj", [b"before"])
    seen = []

    def content() -> Iterator[bytes]:
        yield b"af"
        seen.append((files.read("index.cdxj"), [one.name for one in files.all()]))
        yield b"ter"

    files.write("index.cdxj", content())
    assert seen == [(b"before", ["index.cdxj"])]
    assert files.read("index.cdxj") == b"after"
    assert stat.S_IMODE((tmp_path / "index.cdxj").stat().st_mode) == 0o600
    assert len(os.listdir(tmp_path)) == 1


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    files = Folder(str(tmp_path))
    files.write("sub/index.cdxj", [b"before"])

    def content() -> Iterator[bytes]:
        yield b"af"
        raise KeyError("the index")

    with pytest.raises(KeyError):
        files.write("sub/index.cdxj", content())
    assert files.read("sub/index.cdxj") == b"before"
    assert os.listdir(tmp_path / "sub") == ["index.cdxj"]


def test_what_is_removed_may_be_gone_already(tmp_path: Path) -> None:
    files = Folder(str(tmp_path))
    files.write("a", [b"1"])
    files.remove("a")
    files.remove("a")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["", "..", "../a", "/etc/passwd", "a/../../b", "a//b", "a\0b", "."])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    files = Folder(str(tmp_path / "archive"))
    with pytest.raises(NoArchiveError, match="no name of a file"):
        files.read(name)
    with pytest.raises(NoArchiveError, match="no name of a file"):
        files.write(name, [])
    with pytest.raises(NoArchiveError, match="no name of a file"):
        files.remove(name)


def test_what_is_no_archive_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(NoArchiveError, match="no such folder"):
        list(Folder(str(tmp_path / "nowhere")).all())
    with pytest.raises(NoArchiveError, match="it is no folder"):
        list(Folder(str(tmp_path / "file")).all())
    with pytest.raises(NoArchiveError, match="it is no folder"):
        Folder(str(tmp_path / "file")).read("a")
    with pytest.raises(NoArchiveError, match=r"there is no .*a\.warc\.gz"):
        Folder(str(tmp_path)).read("a.warc.gz")
    (tmp_path / "a").mkdir()
    with pytest.raises(ArchiveError, match="Is a directory"):
        Folder(str(tmp_path)).read("a")


@as_root
def test_a_right_that_is_missing_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "a").chmod(0)
    with pytest.raises(NotAllowedError, match="Permission denied"):
        Folder(str(tmp_path)).read("a")


@pytest.mark.parametrize(
    ("host", "safe"),
    [
        ("crawler-1.example", "crawler-1.example"),
        ("a b/../c", "a_b_.._c"),
        ("", "host"),
        ("---", "host"),
        ("ö", "host"),
    ],
)
def test_the_name_of_a_machine_is_made_safe(host: str, safe: str) -> None:
    assert safe_host(host) == safe
    assert len(safe_host("x" * 300)) <= 64


def test_a_link_that_leads_to_itself_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "a.warc.gz").write_bytes(b"a")
    assert [info.name for info in Folder(str(tmp_path)).all()] == ["a.warc.gz"]
