"""Writing into a folder: durable, whole, and in one's own file; and what goes wrong with it."""

from __future__ import annotations

import errno
import os
import re
import resource
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sqspider.archive.coding import Coding
from sqspider.archive.folder import Folder
from sqspider.archive.folder_sink import Calls, FolderSink, Limits, check_folder, size_of
from sqspider.archive.members import check_whole, members
from sqspider.archive.names import safe_host
from sqspider.archive.repair import Did, repair
from sqspider.archive.warc import Origin
from sqspider.capture import FullError, StoreError

NO_SPARE = Limits(spare_bytes=0)
NAME = re.compile(r"sqspider-\d{14}-\d{5}-(.+)-[0-9a-f]{8}\.warc\.gz")


def sink_at(folder: Path, limits: Limits = NO_SPARE, **more: Any) -> FolderSink:
    return FolderSink(folder, Coding.GZIP, Origin("host"), limits, **more)


def record(block: bytes, kind: str = "resource") -> bytes:
    head = f"WARC/1.1\r\nWARC-Type: {kind}\r\nContent-Length: {len(block)}\r\n\r\n"
    return Coding.GZIP.pack(head.encode() + block + b"\r\n\r\n")


ONE = record(b"one" * 100)
TWO = record(b"two" * 100)


def kinds_in(path: Path) -> list[str]:
    """The records of a file, each whole, up to its end."""
    with path.open("rb") as stream:
        heads = [check_whole(member) for member in members(stream)]
    return [head.partition(b"WARC-Type: ")[2].partition(b"\r\n")[0].decode() for head in heads]


async def test_a_batch_lies_where_it_says_behind_a_warcinfo(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    sink = sink_at(folder)
    begun = await sink.begun()
    assert await sink.begun() == begun
    found = NAME.fullmatch(begun.name)
    assert found is not None
    assert found[1] == safe_host()
    first = await sink.append(ONE)
    second = await sink.append(TWO)
    files = Folder(str(folder))
    assert files.read(begun.name, first, len(ONE)) == ONE
    assert files.read(begun.name, second, len(TWO)) == TWO
    assert os.listdir(folder) == [begun.name + ".open"]
    await sink.close()
    assert os.listdir(folder) == [begun.name]
    assert files.read(begun.name, second, len(TWO)) == TWO
    assert kinds_in(folder / begun.name) == ["warcinfo", "resource", "resource"]
    assert begun.name.encode() in files_content(folder / begun.name)


def files_content(path: Path) -> bytes:
    with path.open("rb") as stream:
        return b"".join(member.read(10**6) for member in members(stream))


async def test_pages_are_nobody_elses(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        sink = sink_at(tmp_path / "archive")
        begun = await sink.begun()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "archive").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "archive" / (begun.name + ".open")).stat().st_mode) == 0o600
    await sink.close()


async def test_a_file_of_a_warcinfo_alone_is_not_kept(tmp_path: Path) -> None:
    sink = sink_at(tmp_path)
    await sink.begun()
    assert len(os.listdir(tmp_path)) == 1
    await sink.close()
    await sink.close()
    assert os.listdir(tmp_path) == []


async def test_nothing_is_made_before_the_first_batch(tmp_path: Path) -> None:
    sink = sink_at(tmp_path)
    await sink.close()
    assert os.listdir(tmp_path) == []


async def test_a_large_file_is_closed_between_batches(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, Limits(file_bytes=1000, spare_bytes=0))
    names = []
    for _ in range(6):
        names.append((await sink.begun()).name)
        await sink.append(record(os.urandom(400)))
    await sink.close()
    assert sorted(set(names)) == sorted(os.listdir(tmp_path))
    assert [int(name.split("-")[2]) for name in dict.fromkeys(names)] == [1, 2, 3]
    for name in set(names):
        assert kinds_in(tmp_path / name) == ["warcinfo"] + ["resource"] * names.count(name)


async def test_two_writers_have_files_of_their_own(tmp_path: Path) -> None:
    one, two = sink_at(tmp_path), sink_at(tmp_path)
    names = {(await sink.begun()).name for sink in (one, two)}
    assert len(names) == 2
    await one.append(ONE)
    assert repair(tmp_path) == []  # both live
    await two.append(TWO)
    await one.close()
    await two.close()
    assert set(os.listdir(tmp_path)) == names


# What goes wrong


class Failing:
    """The system's calls, of which some fail."""

    def __init__(self) -> None:
        self.write_errno = 0
        self.takes = 1 << 30  # bytes, of a write
        self.fails_after = 1 << 60  # bytes in all
        self.fsync_errno = 0
        self.ftruncate_errno = 0

    @property
    def calls(self) -> Calls:
        return Calls(self.write, self.fsync, self.ftruncate)

    def write(self, descriptor: int, data: memoryview) -> int:
        if self.write_errno and self.fails_after <= 0:
            raise OSError(self.write_errno, os.strerror(self.write_errno))
        written = os.write(descriptor, data[: min(self.takes, self.fails_after)])
        self.fails_after -= written
        return written

    def fsync(self, descriptor: int) -> None:
        if self.fsync_errno:
            raise OSError(self.fsync_errno, os.strerror(self.fsync_errno))
        os.fsync(descriptor)

    def ftruncate(self, descriptor: int, size: int) -> None:
        if self.ftruncate_errno:
            raise OSError(self.ftruncate_errno, os.strerror(self.ftruncate_errno))
        os.ftruncate(descriptor, size)


async def test_a_write_that_takes_less_goes_on(tmp_path: Path) -> None:
    failing = Failing()
    failing.takes = 7
    sink = sink_at(tmp_path, calls=failing.calls)
    begun = await sink.begun()
    await sink.append(ONE)
    await sink.close()
    assert kinds_in(tmp_path / begun.name) == ["warcinfo", "resource"]


async def test_what_could_not_be_written_is_cut_off_and_the_next_batch_works(tmp_path: Path) -> None:
    failing = Failing()
    sink = sink_at(tmp_path, calls=failing.calls)
    begun = await sink.begun()
    await sink.append(ONE)
    size = size_of(tmp_path)
    failing.write_errno, failing.fails_after = errno.ENOSPC, len(TWO) // 2
    with pytest.raises(StoreError, match=r"cannot write to sqspider-.* in .*: No space left on device; make room"):
        await sink.append(TWO)
    assert size_of(tmp_path) == size
    failing.write_errno, failing.fails_after = 0, 1 << 60
    assert await sink.begun() == begun  # a full disk keeps its file
    assert await sink.append(TWO) == size
    await sink.close()
    assert kinds_in(tmp_path / begun.name) == ["warcinfo", "resource", "resource"]


async def test_a_file_that_cannot_be_cut_back_is_left_to_repair(tmp_path: Path) -> None:
    failing = Failing()
    sink = sink_at(tmp_path, calls=failing.calls)
    begun = await sink.begun()
    await sink.append(ONE)
    failing.write_errno, failing.fails_after, failing.ftruncate_errno = errno.EIO, len(TWO) // 2, errno.EIO
    with pytest.raises(StoreError, match="Input/output error"):
        await sink.append(TWO)
    failing.write_errno, failing.fails_after, failing.ftruncate_errno = 0, 1 << 60, 0
    other = await sink.begun()
    assert other != begun
    await sink.append(TWO)
    assert [(done.name, done.did, done.cut_bytes) for done in repair(tmp_path)] == [
        (begun.name, Did.CUT, len(TWO) // 2)
    ]
    await sink.close()
    assert kinds_in(tmp_path / begun.name) == kinds_in(tmp_path / other.name) == ["warcinfo", "resource"]


async def test_a_file_whose_fsync_failed_is_never_written_to_again(tmp_path: Path) -> None:
    failing = Failing()
    sink = sink_at(tmp_path, calls=failing.calls)
    begun = await sink.begun()
    await sink.append(ONE)
    failing.fsync_errno = errno.EIO
    with pytest.raises(StoreError, match="cannot make durable what was written to"):
        await sink.append(TWO)
    failing.fsync_errno = 0
    size = (tmp_path / (begun.name + ".open")).stat().st_size
    other = await sink.begun()
    assert other.name != begun.name
    await sink.append(TWO)
    assert (tmp_path / (begun.name + ".open")).stat().st_size == size
    await sink.close()
    assert [done.did for done in repair(tmp_path)] == [Did.CLOSED]
    assert kinds_in(tmp_path / begun.name) == ["warcinfo", "resource"]  # what was not durable is not there twice


async def test_a_file_that_cannot_be_begun_leaves_nothing(tmp_path: Path) -> None:
    failing = Failing()
    failing.fsync_errno = errno.EIO
    sink = sink_at(tmp_path, calls=failing.calls)
    for _ in range(3):
        with pytest.raises(StoreError, match="cannot begin a file of the archive"):
            await sink.begun()
    assert os.listdir(tmp_path) == []
    failing.fsync_errno = 0
    await sink.begun()
    await sink.append(ONE)
    await sink.close()


async def test_a_file_that_somebody_removed_is_told(tmp_path: Path) -> None:
    sink = sink_at(tmp_path)
    begun = await sink.begun()
    await sink.append(ONE)
    (tmp_path / (begun.name + ".open")).unlink()
    with pytest.raises(StoreError, match=r"cannot close sqspider-.*: No such file"):
        await sink.close()


@pytest.mark.parametrize("is_replaced", [True, False])
async def test_nothing_is_written_to_a_file_that_nobody_will_find(tmp_path: Path, is_replaced: bool) -> None:
    folder = tmp_path / "archive"
    sink = sink_at(folder)
    begun = await sink.begun()
    await sink.append(ONE)
    if is_replaced:
        folder.rename(tmp_path / "aside")
        folder.mkdir()
        (folder / f"{begun.name}.open").write_bytes(b"of somebody else")
    else:
        (folder / f"{begun.name}.open").unlink()
    with pytest.raises(StoreError, match=f"removed {begun.name}"):
        await sink.append(TWO)
    assert (await sink.begun()).name != begun.name
    await sink.append(TWO)  # into a file that is there
    await sink.close()
    assert (folder / f"{begun.name}.open").exists() == is_replaced
    (whole,) = folder.glob("*.warc.gz")
    assert kinds_in(whole) == ["warcinfo", "resource"]


async def test_a_disk_that_is_nearly_full_stops_before_it_is(tmp_path: Path) -> None:
    sink = sink_at(tmp_path, Limits(spare_bytes=1 << 60))
    with pytest.raises(FullError, match=r"nearly full: .* MB are left, and the archive leaves [0-9,]+ MB to others"):
        await sink.begun()
    assert os.listdir(tmp_path) == []


async def test_the_archive_is_not_larger_than_it_may_be(tmp_path: Path) -> None:
    (tmp_path / "of-others.warc.gz").write_bytes(b"1" * 3000)
    sink = sink_at(tmp_path, Limits(max_bytes=5000, spare_bytes=0))
    await sink.begun()
    size = len(ONE)
    for _ in range((5000 - size_of(tmp_path)) // size):
        await sink.append(ONE)
    assert 5000 - size < size_of(tmp_path) <= 5000
    with pytest.raises(FullError, match=r"has [\d,]+ bytes, and may have 5,000: raise --archive-max-bytes"):
        await sink.append(ONE)
    await sink.close()


async def test_what_other_writers_add_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqspider.archive.folder_sink.LOOK_BYTES", 2 * len(ONE))
    sink = sink_at(tmp_path, Limits(max_bytes=100_000, spare_bytes=0))
    await sink.begun()
    await sink.append(ONE)
    (tmp_path / "of-others.warc.gz").write_bytes(b"1" * 100_000)

    async def append_more() -> None:
        for _ in range(4):
            await sink.append(ONE)

    with pytest.raises(FullError):
        await append_more()
    await sink.close()


# Folders that are none


def test_a_file_in_place_of_the_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    with pytest.raises(StoreError, match=r"/a is no folder, so no archive can be kept in it: name another"):
        check_folder(tmp_path / "a")
    with pytest.raises(StoreError, match=r"no archive can be kept in .*/a/b: Not a directory"):
        check_folder(tmp_path / "a" / "b")


def test_a_folder_is_tried_and_nothing_is_left_in_it(tmp_path: Path) -> None:
    check_folder(tmp_path / "deep" / "er")
    assert os.listdir(tmp_path / "deep" / "er") == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_read_only_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StoreError, match=r"no archive can be kept in .*: Permission denied"):
        check_folder(tmp_path)


def test_a_file_system_that_is_read_only_is_named() -> None:
    with pytest.raises(StoreError, match=r"no archive can be kept in /proc/self/archive: "):
        check_folder("/proc/self/archive")


def test_a_system_that_locks_nothing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqspider.archive.locks.HAS_LOCKS", False)
    with pytest.raises(StoreError, match=r"its file system locks no files \(No locks available\); name another"):
        check_folder(tmp_path)
    assert os.listdir(tmp_path) == []


# A disk that is really full

LIMITED = """
import asyncio, resource, signal, sys
from pathlib import Path
from sqspider.archive.coding import Coding
from sqspider.archive.folder_sink import FolderSink, Limits
from sqspider.archive.warc import Origin
from sqspider.capture import StoreError
from tests.archive.test_folder_sink import record
import os

async def main(folder):
    sink = FolderSink(folder, Coding.GZIP, Origin("host"), Limits(spare_bytes=-(1 << 60)))
    name = (await sink.begun()).name
    kept = failed = 0
    for size in (1000, 300_000, 900_000, 1000, 5_000_000, 100_000, 1_200_000, 1000, 40_000) * 3:
        try:
            assert (await sink.begun()).name == name
            await sink.append(record(os.urandom(size)))
            kept += 1
        except StoreError as error:
            assert "File too large" in str(error) or "No space left" in str(error), error
            failed += 1
    await sink.close()
    print(name, kept, failed)

if sys.argv[2] != "none":
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
asyncio.run(main(Path(sys.argv[1])))
"""


def fill(folder: Path, limit: str) -> None:
    """Write more than there is room for, and see that all that was kept is there, and nothing else."""
    run = subprocess.run([sys.executable, "-c", LIMITED, folder, limit], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    name, kept, failed = run.stdout.split()
    assert int(kept) > 3
    assert int(failed) > 3
    assert os.listdir(folder) == [name]
    assert kinds_in(folder / name) == ["warcinfo"] + ["resource"] * int(kept)


def test_a_limit_of_the_system_is_met_amid_a_write_and_everything_kept_is_whole(tmp_path: Path) -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    fill(tmp_path, "2500000")


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_full_disk_is_met_amid_a_write_and_everything_kept_is_whole(small_disk: Path) -> None:
    (small_disk / "archive").mkdir()
    fill(small_disk / "archive", "none")


def noted(calls: list[str], name: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """A call that says when it is made."""

    def noting(*args: Any) -> Any:
        calls.append(name)
        return call(*args)

    return noting


async def test_a_batch_is_one_write_and_one_fsync(tmp_path: Path) -> None:
    calls: list[str] = []
    sink = sink_at(
        tmp_path, calls=Calls(noted(calls, "write", os.write), noted(calls, "fsync", os.fsync), os.ftruncate)
    )
    await sink.begun()
    assert calls == ["write", "fsync"]
    await sink.append(ONE + TWO)
    assert calls == ["write", "fsync"] * 2
    await sink.close()
