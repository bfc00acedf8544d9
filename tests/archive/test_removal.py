"""Removing an archive: which files are ours, and that no other is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from sqspider.archive.addresses import files_at
from sqspider.archive.names import is_ours
from sqspider.archive.removal import Found, found_in, remove

OURS = (
    "sqspider-20261130190307-00001-vm-eb329331.warc.gz",
    "sqspider-20261130190307-00001-my.host-1.example-eb329331.warc.zst",
    "packed-20261130190307-00000-vm-0a1b2c3d.warc.gz",
    "kept-20261130190307-00012-vm-0a1b2c3d.warc.gz",
    "20261130/190307-abcdefgh.warc.gz",
    "index.cdxj",
    "moves-0a1b2c3d.jsonl.gz",
)
THEIRS = (
    "WEB-20261130190307-00001-123~host~8443.warc.gz",
    "wget.warc.gz",
    "rec-20261130190307-abcdef.warc.gz",
    "sqspider-archive.wacz",
    "index.cdx",
    "other/index.cdxj",
    "sqspider-notes.txt",
    "letter.txt",
)


@pytest.mark.parametrize("name", OURS)
def test_what_was_written_here_is_ours(name: str) -> None:
    assert is_ours(name)


@pytest.mark.parametrize("name", THEIRS)
def test_what_others_put_there_is_theirs(name: str) -> None:
    assert not is_ours(name)


def test_only_what_is_ours_is_removed(tmp_path: Path) -> None:
    for name in (*OURS, *THEIRS):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"123")
    files, removed = files_at(str(tmp_path)), []
    assert found_in(files) == Found(ours=len(OURS), bytes=3 * len(OURS), others=len(THEIRS), being_written=None)
    remove(files, lambda: removed.append(1))
    assert {file.name for file in files.all()} == set(THEIRS)
    assert len(removed) == len(OURS) - 1, "the index, which is the first, is not counted"


def test_what_is_open_is_told(tmp_path: Path) -> None:
    (tmp_path / f"{OURS[0]}.open").touch()
    assert found_in(files_at(str(tmp_path))).being_written == OURS[0]
