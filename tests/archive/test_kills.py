"""Writers are killed at random moments: no place that was committed is ever unreadable, and every file becomes whole."""

from __future__ import annotations

import base64
import hashlib
import io
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from sqspider.archive.folder import Folder
from sqspider.archive.members import check_whole, content_length_of, members
from sqspider.archive.repair import Did, repair

from .test_folder_sink import small_disk as small_disk
from .writer import opened

ROOT: Final = Path(__file__).parent.parent.parent
LARGE_BYTES: Final = 9_000_000  # one write is not atomic above a megabyte


class Writers:
    """Two processes that write into one folder."""

    def __init__(self, folder: Path, database: Path, large_bytes: int) -> None:
        self._command = [sys.executable, "-m", "tests.archive.writer", str(folder), str(database), str(large_bytes)]
        self._running = [self._start(), self._start()]
        self.full = 0  # batches, for which there was no room

    def _start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE, text=True)

    def kill(self, number: int, batches: int, seconds: float) -> None:
        """Kill one, that long after it has begun so many batches more; another one takes its place."""
        running = self._running[number]
        assert running.stdout is not None
        while batches:
            line = running.stdout.readline()
            assert line, "a writer ended by itself"
            batches -= line == "begins\n"
            self.full += line == "full\n"
        time.sleep(seconds)
        self._end(running)
        self._running[number] = self._start()

    def close(self) -> None:
        for running in self._running:
            self._end(running)

    @staticmethod
    def _end(running: subprocess.Popen[str]) -> None:
        running.kill()
        running.communicate()


def check(folder: Path, database: Path, files: set[str] | None = None) -> int:
    """Read every place (of some files) to its URL and digest; how many there are."""
    archive = Folder(str(folder))
    rows = opened(database).execute("SELECT * FROM place").fetchall()
    checked = 0
    for url, file, offset, length, digest, *payload in rows:
        if files is not None and file not in files:
            continue
        head, block = the_record(archive.read(file, offset, length))
        assert f"\r\nWARC-Target-URI: {url}\r\n".encode() in head
        assert f"\r\nWARC-Payload-Digest: sha1:{digest}\r\n".encode() in head
        if payload != [file, offset, length]:
            assert b"\r\nWARC-Type: revisit\r\n" in head
            if files is not None and payload[0] not in files:
                continue
            head, block = the_record(archive.read(*payload))
        assert b"\r\nWARC-Type: response\r\n" in head
        body = block.partition(b"\r\n\r\n")[2]
        assert base64.b32encode(hashlib.sha1(body).digest()).decode() == digest
        checked += 1
    return checked


def the_record(data: bytes) -> tuple[bytes, bytes]:
    """The one record in some bytes."""
    found = []
    for member in members(io.BytesIO(data)):
        head = member.read_head()
        found.append((head, member.read(content_length_of(head) or 0)))
    (one,) = found
    return one


def walk_all(folder: Path) -> None:
    """Every file is closed, and whole."""
    for file in Folder(str(folder)).all():
        assert not file.is_open
        with (folder / file.name).open("rb") as stream:
            assert sum(1 for member in members(stream) if check_whole(member)) > 1


def kill_many(folder: Path, database: Path, kills: int, large_bytes: int, *, makes_room: bool = False) -> Counter[Did]:
    rng = random.Random(14)
    done: Counter[Did] = Counter()
    folder.mkdir(exist_ok=True)
    writers = Writers(folder, database, large_bytes)
    try:
        for number in range(kills):
            writers.kill(number % 2, rng.randint(1, 3), rng.uniform(0, 0.3))
            done.update(one.did for one in repair(folder))  # as a third that starts: the other one goes on writing
            if makes_room and number % 5 == 4:
                make_room(folder, database)
    finally:
        writers.close()
    done.update(one.did for one in repair(folder))
    assert check(folder, database) > 0 or makes_room
    assert writers.full > 0 or not makes_room
    walk_all(folder)
    return done


def make_room(folder: Path, database: Path) -> None:
    """Take away what is closed, once all of its places are proven."""
    closed = {file.name for file in Folder(str(folder)).all() if not file.is_open}
    check(folder, database, closed)
    connection = opened(database)
    for name in closed:
        connection.execute("DELETE FROM place WHERE file = ?1 OR payload_file = ?1", (name,))
        (folder / name).unlink()


def test_a_dozen_kills_lose_nothing(tmp_path: Path) -> None:
    done = kill_many(tmp_path / "archive", tmp_path / "places.db", 12, LARGE_BYTES)
    assert done.total() >= 12 - 2  # writers repair, too
    assert done[Did.DAMAGED] == done[Did.LEFT] == 0


@pytest.mark.prove
def test_a_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    done = kill_many(tmp_path / "archive", tmp_path / "places.db", 100, LARGE_BYTES)
    assert done[Did.CUT] > 0
    assert done[Did.DAMAGED] == done[Did.LEFT] == 0


@pytest.mark.prove
def test_kills_on_a_full_disk_lose_nothing(small_disk: Path, tmp_path: Path) -> None:
    done = kill_many(small_disk / "archive", tmp_path / "places.db", 60, 300_000, makes_room=True)
    assert done[Did.DAMAGED] == done[Did.LEFT] == 0
