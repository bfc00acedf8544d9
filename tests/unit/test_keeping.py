"""Where what is fetched is kept: which archive is meant, what can be none, and how much lies there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import sqspider
from sqspider.orders.keeping import Size, archive_of_frontier, check_archive, free_bytes, size_of
from sqspider.orders.said import NEW
from sqspider.orders.start import ArchivePlace, Start, start_of, with_archive

BUCKET = {"SQSPIDER_ARCHIVE": "s3://b-1/p"}


@pytest.mark.parametrize(
    ("frontier", "environment", "address"),
    [
        ("sqlite:sqspider.db", {}, "sqspider-archive"),
        ("sqlite:a/b/x.db", {}, "a/b/x-archive"),
        ("sqlite:/a/x.sqlite3", {}, "/a/x-archive"),
        ("sqlite:x", {}, "x-archive"),
        ("sqlite:x.db", BUCKET, "s3://b-1/p"),
        ("sqlite:x.db", {"SQSPIDER_ARCHIVE": "none"}, None),
        ("sqlite:x.db", {"SQSPIDER_ARCHIVE": ""}, "x-archive"),
        ("sqlite::memory:", {}, None),
        ("sqlite::memory:", BUCKET, None),
        ("aws:", {}, None),
        ("aws:", BUCKET, "s3://b-1/p"),
    ],
)
def test_a_frontier_has_an_archive_beside_it_or_where_the_environment_says(
    frontier: str, environment: dict[str, str], address: str | None
) -> None:
    assert archive_of_frontier(frontier, environment) == address


@pytest.mark.parametrize("address", ["s3://bucket", "s3://my.bucket-1/a/b", "s3://bucket/"])
def test_a_bucket_is_taken_by_its_name(address: str) -> None:
    check_archive(address)


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("s3://", "names no bucket: write s3://BUCKET/PREFIX"),
        ("s3:///prefix", "names no bucket"),
        ("s3://A_B/c", "names no bucket"),
        ("", "is neither a folder nor s3://BUCKET/PREFIX"),
        ("a\0b", "is neither a folder"),
        ("https://example.com/", "is neither a folder"),
        ("half\udcff", "has a name that is no UTF-8"),
    ],
)
def test_what_is_no_place_is_refused(address: str, says: str) -> None:
    with pytest.raises(ValueError, match=rf"^archive: .*{says}"):
        check_archive(address)


def test_what_is_no_text_is_no_place() -> None:
    with pytest.raises(TypeError, match=r"^archive: a folder, or s3://BUCKET/PREFIX, not 3"):
        check_archive(3)


def test_a_folder_is_new_or_empty_or_an_archive(tmp_path: Path) -> None:
    """And none of them is made by being looked at."""
    check_archive(str(tmp_path / "new"))
    check_archive(str(tmp_path / "deep" / "er" / "new"))
    assert list(tmp_path.iterdir()) == []
    check_archive(str(tmp_path))
    (tmp_path / ".DS_Store").touch()
    check_archive(str(tmp_path))
    (tmp_path / "letter.txt").touch()
    with pytest.raises(ValueError, match="holds other things and no WARC file"):
        check_archive(str(tmp_path))
    for name in ("a.warc", "a.warc.gz", "a.warc.zst.open", "site.wacz", "index.cdxj"):
        (tmp_path / name).touch()
        check_archive(str(tmp_path))
        (tmp_path / name).unlink()


def test_a_file_is_no_folder_and_has_none_below_it(tmp_path: Path) -> None:
    file = tmp_path / "letter.txt"
    file.touch()
    with pytest.raises(ValueError, match=r"letter\.txt can be no folder: it is a file"):
        check_archive(str(file))
    with pytest.raises(ValueError, match=r"below can be no folder: \S*letter\.txt is a file"):
        check_archive(str(file / "below"))
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="can be no folder"):
        check_archive(str(tmp_path / "link"))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a folder in which nobody can write")
def test_a_folder_that_cannot_be_written_is_named_with_why() -> None:
    with pytest.raises(ValueError, match=r"^archive: /proc/self/pages cannot be written: \w+"):
        check_archive("/proc/self/pages")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(ValueError, match="cannot be written: Permission denied"):
        check_archive(str(tmp_path))


def test_what_lies_in_an_archive_is_its_warc_files(tmp_path: Path) -> None:
    assert size_of(str(tmp_path / "absent")) == Size(0, 0)
    for name, size in {"a.warc.gz": 10, "b.warc.gz.open": 5, "index.cdxj": 100, "x.txt": 100}.items():
        (tmp_path / name).write_bytes(bytes(size))
    assert size_of(str(tmp_path)) == Size(2, 15)
    assert size_of("s3://bucket/p") is None, "to count there costs money"


def test_room_is_that_of_the_disk_on_which_it_would_be_made(tmp_path: Path) -> None:
    here = free_bytes(str(tmp_path / "not" / "there"))
    assert here is not None
    assert here > 0
    assert free_bytes("s3://bucket/p") is None


def test_who_keeps_pages_fetches_what_an_archive_needs_and_nobody_else() -> None:
    place = ArchivePlace(address="pages", max_bytes=7)
    start = start_of(NEW, None, place)
    assert (start.archive, start.fetch.captures) == (place, True)
    assert Start.decode(start.encode()) == start
    assert start_of(NEW, None).fetch.captures is False
    assert with_archive(start, None) == start_of(NEW, None)


def test_python_refuses_what_can_be_no_archive_before_anything_is_made(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").touch()
    with pytest.raises(ValueError, match=r"^archive: .* holds other things"):
        sqspider.crawl("http://example.com/", archive=str(tmp_path))
    with pytest.raises(TypeError, match=r"^archive: "):
        sqspider.crawl("http://example.com/", archive=tmp_path)  # type: ignore[arg-type]


OF_NAMES = ("addresses", "coding", "errors", "files", "sink")


def test_python_loads_no_code_of_the_archive_for_who_keeps_nothing() -> None:
    """But for the names of things in it."""
    told = (
        "import sys, sqspider; sqspider.crawl('http://example.com/');"
        "print(*(name for name in sys.modules if name.startswith('sqspider.archive.')))"
    )
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {f"sqspider.archive.{name}" for name in OF_NAMES}
