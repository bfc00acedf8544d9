"""What dead writers left: every end that may be torn, every file that was not closed; and what must be left alone."""

from __future__ import annotations

import fcntl
import os
import random
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from sqspider.archive.coding import Coding
from sqspider.archive.errors import ArchiveError
from sqspider.archive.folder import Folder
from sqspider.archive.folder_sink import FolderSink, Limits
from sqspider.archive.names import safe_host
from sqspider.archive.packing import zlib_member
from sqspider.archive.repair import Did, Repaired, is_nobodys, repair
from sqspider.archive.warc import Origin, warcinfo

from .test_folder_sink import kinds_in, record


def name_of(host: str = "", serial: int = 1, ending: str = ".warc.gz") -> str:
    return f"sqspider-20261130182100-{serial:05d}-{host or safe_host()}-1a2b3c4d{ending}"


def left_in(folder: Path, content: bytes, name: str = "") -> Path:
    """A file that its writer left open."""
    path = folder / ((name or name_of()) + ".open")
    path.write_bytes(content)
    return path


def beginning(coding: Coding = Coding.GZIP) -> bytes:
    return coding.pack(warcinfo("a.warc.gz", 0, Origin("host"))[1])


ONE_RECORD = b"WARC/1.1\r\nContent-Length: 1\r\n\r\n1\r\n\r\n"


def own(block: bytes) -> bytes:
    """A record of the file that begins so."""
    identity, _ = warcinfo("a.warc.gz", 0, Origin("host"))
    head = f"WARC/1.1\r\nWARC-Warcinfo-ID: {identity}\r\nContent-Length: {len(block)}\r\n\r\n".encode()
    return Coding.GZIP.pack(head + block + b"\r\n\r\n")


@pytest.mark.parametrize("coding", list(Coding))
def test_a_cut_at_every_byte_is_repaired(tmp_path: Path, coding: Coding) -> None:
    rng = random.Random(3)
    blocks = [
        f"WARC/1.1\r\nWARC-Type: resource\r\nContent-Length: {n}\r\n\r\n".encode() + rng.randbytes(n)
        for n in (30, 0, 9)
    ]
    packed = [beginning(coding), *(coding.pack(block + b"\r\n\r\n") for block in blocks)]
    data = b"".join(packed)
    ends = [sum(map(len, packed[: n + 1])) for n in range(len(packed))]
    name = name_of(ending=coding.ending)
    for cut in (0, 1, *range(ends[0] - 2, len(data) + 1)):
        left_in(tmp_path, data[:cut], name)
        (done,) = repair(tmp_path)
        whole = max((end for end in ends if end <= cut), default=0)
        assert done.name == name
        if whole <= ends[0]:
            assert done.did is Did.REMOVED
            assert os.listdir(tmp_path) == []
            continue
        assert done == Repaired(name, Did.CLOSED if whole == cut else Did.CUT, cut - whole)
        assert (tmp_path / name).read_bytes() == data[:whole]
        assert repair(tmp_path) == []
        (tmp_path / name).unlink()


@pytest.mark.parametrize("tail", [b"\0" * 200_000, b"\x1f\x8b\x08\0" * 50, b"WARC/1.1 and no record"])
def test_an_end_that_is_no_record_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    """As file systems leave it that lost their power amid a batch."""
    data = beginning() + record(b"1")
    left_in(tmp_path, data + tail)
    assert repair(tmp_path) == [Repaired(name_of(), Did.CUT, len(tail))]
    assert (tmp_path / name_of()).read_bytes() == data


def test_whole_records_behind_damage_are_not_cut_off(tmp_path: Path) -> None:
    """Places point there: it is no torn end."""
    data = bytearray(beginning() + b"".join(own(block) for block in (b"1", b"2", b"3")))
    data[len(beginning()) + len(own(b"1")) + 20] ^= 1
    left_in(tmp_path, bytes(data))
    (done,) = repair(tmp_path)
    assert (done.did, done.cut_bytes) == (Did.DAMAGED, 0)
    assert "whole records follow, so nothing was cut off" in done.detail
    assert (tmp_path / name_of()).read_bytes() == bytes(data)


@pytest.mark.parametrize("coding", list(Coding))
def test_an_archive_that_was_kept_as_a_page_is_no_whole_record_of_ours(tmp_path: Path, coding: Coding) -> None:
    """It lies as it is in a member that is torn behind it: what is packed already is packed no more."""
    pack = coding.pack if coding is Coding.ZSTD else partial(zlib_member, level=0)  # as it does what is packed already
    held = pack(b"WARC/1.1\r\nContent-Length: 9000\r\n\r\n" + os.urandom(9000) + b"\r\n\r\n")
    page = os.urandom(70_000) + held + os.urandom(70_000)
    torn = pack(b"WARC/1.1\r\nContent-Length: %d\r\n\r\n%s\r\n\r\n" % (len(page), page))[:-20]
    assert held in torn
    left_in(tmp_path, beginning(coding) + coding.pack(ONE_RECORD) + torn)
    (done,) = repair(tmp_path)
    assert (done.did, done.cut_bytes) == (Did.CUT, len(torn))


def test_a_file_that_somebody_writes_is_left_alone(tmp_path: Path) -> None:
    path = left_in(tmp_path, beginning() + record(b"1")[:-5])
    with path.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert repair(tmp_path) == []
        assert path.exists()
    assert [done.did for done in repair(tmp_path)] == [Did.REMOVED]


def test_only_files_of_this_host_are_repaired_until_somebody_says_all(tmp_path: Path) -> None:
    name = name_of("elsewhere-1.example")
    left_in(tmp_path, beginning() + record(b"1"), name)
    assert repair(tmp_path) == [
        Repaired(name, Did.LEFT, detail="it was written on elsewhere-1.example: repair it there")
    ]
    assert os.listdir(tmp_path) == [name + ".open"]
    assert repair(tmp_path, every_host=True) == [Repaired(name, Did.CLOSED)]


def test_what_is_not_ours_is_not_touched(tmp_path: Path) -> None:
    names = [
        "IAH-20080430204825-00000-blackbook.warc.gz.open",
        "notes.open",
        ".hidden",
        ".x.new",
        "a.warc.gz",
        "index.cdxj",
    ]
    for name in names:
        (tmp_path / name).write_bytes(b"torn")
        os.utime(tmp_path / name, (1, 1))
    (tmp_path / (name_of() + ".open.d")).mkdir()
    assert repair(tmp_path) == []
    assert sorted(os.listdir(tmp_path)) == sorted([*names, name_of() + ".open.d"])


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"torn")
    (tmp_path / (name_of() + ".open")).symlink_to(tmp_path / "precious")
    (done,) = repair(tmp_path)
    assert done.did is Did.LEFT
    assert (tmp_path / "precious").read_bytes() == b"torn"


def test_a_file_that_never_began_is_removed_once_its_writer_must_be_dead(tmp_path: Path) -> None:
    hidden = [f".{name_of()}.new", f".index.cdxj+{safe_host()}+1a2b3c4d.new"]
    for name in hidden:
        (tmp_path / name).write_bytes(b"")
    assert repair(tmp_path) == []  # somebody may be about to lock it
    for name in hidden:
        os.utime(tmp_path / name, (time.time() - 100,) * 2)
    with (tmp_path / hidden[0]).open() as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        assert [done.name for done in repair(tmp_path)] == [hidden[1]]
    assert [done.name for done in repair(tmp_path)] == [hidden[0]]
    assert os.listdir(tmp_path) == []


def test_no_file_is_overwritten(tmp_path: Path) -> None:
    left_in(tmp_path, beginning() + record(b"1"))
    (tmp_path / name_of()).write_bytes(b"precious")
    (done,) = repair(tmp_path)
    assert done.did is Did.LEFT
    assert (tmp_path / name_of()).read_bytes() == b"precious"


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="No such file"):
        repair(tmp_path / "nowhere")
    (tmp_path / (name_of() + ".open")).mkdir()
    (done,) = repair(tmp_path)
    assert done.did is Did.LEFT
    assert "Is a directory" in done.detail


async def test_a_writer_repairs_what_the_dead_left_when_it_begins(tmp_path: Path) -> None:
    left_in(tmp_path, beginning() + record(b"1") + record(b"2")[:-1])
    sink = FolderSink(tmp_path, Coding.GZIP, Origin("host"), Limits(spare_bytes=0))
    begun = await sink.begun()
    assert set(os.listdir(tmp_path)) == {name_of(), begun.name + ".open"}
    assert kinds_in(tmp_path / name_of()) == ["warcinfo", "resource"]
    await sink.close()


def test_a_file_that_was_renamed_since_it_was_opened_is_somebodys(tmp_path: Path) -> None:
    path = left_in(tmp_path, beginning())
    with path.open("rb") as stream:
        assert is_nobodys(path, stream.fileno())
        path.rename(tmp_path / name_of())
        assert not is_nobodys(path, stream.fileno())
        path.write_bytes(b"another one")
        assert not is_nobodys(path, stream.fileno())


def test_many_repair_at_once_and_each_file_is_repaired_once(tmp_path: Path) -> None:
    for serial in range(40):
        left_in(tmp_path, beginning() + record(b"1") + b"torn", name_of(serial=serial))
    together = threading.Barrier(4)
    done: list[Repaired] = []

    def run() -> None:
        together.wait()
        done.extend(repair(tmp_path))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {one.did for one in done} == {Did.CUT}
    assert sorted(one.name for one in done) == sorted(file.name for file in Folder(str(tmp_path)).all())
    assert all(kinds_in(tmp_path / one.name) == ["warcinfo", "resource"] for one in done)
