"""What was read of an archive is not read again, and nothing is left out, whatever becomes of its files."""

from __future__ import annotations

import gzip
import random
import sqlite3
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from sqspider.archive.errors import DamagedError, NoArchiveError
from sqspider.archive.files import FileInfo
from sqspider.archive.folder import Folder
from sqspider.archive.pack import pack
from sqspider.archive.pack_orphans import Orphans
from sqspider.archive.scratch import scratch
from sqspider.extract.cursor import Cursor
from sqspider.extract.walking import look, walk
from tests.archive.small_warcs import NOON, Warc

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def surely(error: DamagedError) -> None:
    raise error


class Reader:
    """Reads an archive with a cursor, as far as it is asked to."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder
        self._connection = sqlite3.connect(":memory:", isolation_level=None)
        self.cursor = Cursor(self._connection)
        self.damage: list[DamagedError] = []

    def read(self, most: int = 1_000_000) -> list[str]:
        """The URLs of some captures more."""
        urls = []
        for captured, step in walk(self._folder, self.cursor, self.damage.append):
            self.cursor.take([step])
            if captured is not None:
                urls.append(captured.url)
                if len(urls) == most:
                    break
        return urls

    def looked(self) -> int:
        """How many captures there would be, if they were only looked at."""
        return sum(sight is not None for sight, _ in look(self._folder, self.cursor, surely))

    def forget_shared(self) -> None:
        self._connection.execute("DELETE FROM sqspider_shared")

    def remembered(self) -> int:
        return int(self._connection.execute("SELECT count(*) FROM sqspider_taken").fetchone()[0])


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return Reader(Folder(str(tmp_path)))


def a_file(name: str, urls: list[str]) -> Warc:
    warc = Warc(name)
    for number, url in enumerate(urls):
        warc.response(url, f"page {url}".encode() * 20, NOON + number)
    return warc


def urls_of(host: str, pages: int = 6) -> list[str]:
    return [f"http://{host}.test/{page}" for page in range(pages)]


def pack_all(folder: Path, orphans: Orphans | None = None, seed: int = 7) -> None:
    """``seed``: of the name of what is made."""
    pack(Folder(str(folder)), None, clock=time.time, rng=random.Random(seed), orphans=orphans)


def test_it_goes_on_where_it_was_left_to_the_last_capture(tmp_path: Path, reader: Reader) -> None:
    urls = urls_of("a") + urls_of("b")
    for name, some in (("a.warc.gz", urls[:6]), ("b.warc.gz", urls[6:])):
        a_file(name, some).write(tmp_path)
    assert reader.looked() == len(urls)
    found = [url for most in (1, 3, 4, 2) for url in reader.read(most)]
    assert found == urls[:10]
    assert reader.looked() == 2
    assert [*found, *reader.read()] == urls
    assert reader.read() == []
    assert reader.remembered() == 0


def test_what_is_being_written_is_read_as_far_as_its_last_whole_capture(tmp_path: Path, reader: Reader) -> None:
    urls = urls_of("a", 3)
    warc = a_file("a.warc.gz", urls)
    path = tmp_path / "a.warc.gz.open"
    found = []
    for end in range(0, len(warc.content), 97):  # torn everywhere, also between what is of one capture
        path.write_bytes(warc.content[:end])
        found += reader.read()
        assert found == urls[: len(found)]
        whole = sum(warc.content[:end].find(b"\x1f\x8b", place.offset + place.length) >= 0 for place in warc.places)
        assert len(found) <= whole
    warc.write(tmp_path, is_open=True)
    found += reader.read()
    path.rename(tmp_path / "a.warc.gz")
    found += reader.read()
    assert found == urls
    assert reader.remembered() == 0


def test_what_is_told_of_a_capture_is_awaited(tmp_path: Path) -> None:
    warc = a_file("a.warc.gz", urls_of("a", 1))
    folder = Folder(str(tmp_path))
    path = tmp_path / "a.warc.gz.open"
    cursor = Cursor(sqlite3.connect(":memory:", isolation_level=None))
    path.write_bytes(warc.content[: warc.places[0].offset + warc.places[0].length])
    assert [captured for captured, _ in walk(folder, cursor, surely) if captured is not None] == []
    warc.write(tmp_path, is_open=True)
    (captured,) = [captured for captured, _ in walk(folder, cursor, surely) if captured is not None]
    assert captured.metadata == (("fetchTimeMs", "7"),)


@pytest.mark.parametrize("most", [0, 1, 5, 6, 7, 14, 18])
def test_packing_neither_loses_nor_doubles(tmp_path: Path, reader: Reader, most: int) -> None:
    urls = [url for host in "abc" for url in urls_of(host)]
    for at, host in enumerate("abc"):
        a_file(f"{host}.warc.gz", urls[at * 6 : at * 6 + 6]).write(tmp_path)
    found = reader.read(most) if most else []
    pack_all(tmp_path)
    assert len(list(tmp_path.glob("*.warc.gz"))) == 1
    found += reader.read(2)
    a_file("d.warc.gz", urls_of("d")).write(tmp_path)
    pack_all(tmp_path)  # what was packed is packed again
    found += reader.read()
    assert sorted(found) == sorted(urls + urls_of("d"))
    assert reader.remembered() == 0


class DyingError(Exception):
    """Whoever packs dies here."""


class Dying(Folder):
    """A folder in which somebody packs who dies: at the so manyth file that he writes, or removes."""

    def __init__(self, folder: Path, *, writes: int = 99, removes: int = 99) -> None:
        super().__init__(str(folder))
        self._left = {"write": writes, "remove": removes}

    def _count(self, what: str) -> None:
        self._left[what] -= 1
        if min(self._left.values()) < 0:  # from then on nothing more is done
            raise DyingError

    def write(self, name: str, content: Iterable[bytes]) -> None:
        self._count("write")
        super().write(name, content)

    def remove(self, name: str) -> None:
        self._count("remove")
        super().remove(name)


@pytest.mark.parametrize("most", [0, 1, 8, 12, 18])
@pytest.mark.parametrize("more", [0, 4, 99])
@pytest.mark.parametrize("dies", [{"writes": 1}, {"writes": 2}, {"writes": 3, "removes": 0}, {"removes": 2}])
def test_while_somebody_packs_and_when_he_died_each_is_read_once(
    tmp_path: Path, reader: Reader, most: int, more: int, dies: dict[str, int]
) -> None:
    """Old and new files lie side by side then: either is taken back, or removed, by whoever packs next."""
    for host in "mxyz":
        a_file(f"{host}.warc.gz", urls_of(host)).write(tmp_path)
    found = reader.read(most) if most else []
    with pytest.raises(DyingError):
        pack(Dying(tmp_path, **dies), None, clock=time.time, rng=random.Random(7))
    found += reader.read(more) if more else []
    assert reader.looked() == 24 - len(found)
    pack(Folder(str(tmp_path)), None, clock=time.time, rng=random.Random(8), takes_over=True)
    found += reader.read()
    assert sorted(found) == sorted(url for host in "mxyz" for url in urls_of(host))


@pytest.mark.parametrize("most", [99, 3])
def test_files_of_others_with_one_and_the_same_warcinfo_are_all_read(tmp_path: Path, reader: Reader, most: int) -> None:
    """Some programs give each of their files the same id, and people copy files."""
    one = a_file("same", urls_of("a"))
    for name in ("a", "b", "copies/a", "copies/sqspider-x"):
        one.name = f"{name}.warc.gz"
        one.write(tmp_path)
    found: list[str] = []
    while some := reader.read(most):
        found += some
    assert sorted(found) == sorted(urls_of("a") * 4)
    assert reader.remembered() == 0


@pytest.mark.parametrize("most", [0, 3, 6, 9, 12])
def test_packing_them_loses_and_doubles_none_but_it_is_told(tmp_path: Path, reader: Reader, most: int) -> None:
    """Of one that was read to its end the captures are not remembered, and the other's have the same origin."""
    one, other = a_file("same", urls_of("a")), a_file("same", urls_of("b"))
    one.name, other.name = "a.warc.gz", "b.warc.gz"
    one.write(tmp_path)
    other.write(tmp_path)
    found = reader.read(most) if most else []
    pack_all(tmp_path)
    found += reader.read()
    if most <= 6:  # none was read to its end
        assert sorted(found) == urls_of("a") + urls_of("b")
        assert reader.damage == []
    else:
        assert found == [*urls_of("a"), *urls_of("b")][:most]
        (damage,) = reader.damage
        assert damage.file == next(tmp_path.glob("packed-*")).name
        assert "begin anew" in str(damage)
    same_files(tmp_path, "c")
    assert reader.read() == urls_of("c")


def same_files(folder: Path, hosts: str) -> None:
    """Of a program that gives each of its files the same id."""
    for host in hosts:
        one = a_file("same", urls_of(host))
        one.name = f"{host}.warc.gz"
        one.write(folder)


def test_one_that_comes_later_and_is_packed_with_others_is_told(tmp_path: Path, reader: Reader) -> None:
    """That which was read still stands; or was packed before, and read from that file."""
    same_files(tmp_path, "a")
    assert len(reader.read()) == 6
    a_file("c.warc.gz", urls_of("c")).write(tmp_path)
    same_files(tmp_path, "b")
    (tmp_path / "a.warc.gz").rename(tmp_path / ".a")
    pack_all(tmp_path)
    (tmp_path / ".a").rename(tmp_path / "a.warc.gz")
    assert reader.read() == []
    assert ["one and the same" in str(error) for error in reader.damage] == [True]


def test_a_file_of_many_that_is_rewritten_is_told(tmp_path: Path, reader: Reader) -> None:
    """It was read from its beginning, and begun anew all of it is."""
    same_files(tmp_path, "ab")
    pack_all(tmp_path)
    assert len(reader.read()) == 12
    same_files(tmp_path, "c")
    pack_all(tmp_path)
    assert reader.read() == []
    assert len(reader.damage) == 1
    again = Reader(Folder(str(tmp_path)))
    assert sorted(again.read()) == [url for host in "abc" for url in urls_of(host)]
    assert again.damage == []


def test_one_that_is_packed_with_one_that_was_read_is_told(tmp_path: Path, reader: Reader) -> None:
    same_files(tmp_path, "a")
    assert len(reader.read()) == 6
    same_files(tmp_path, "b")
    pack_all(tmp_path)
    assert reader.read() == []
    assert len(reader.damage) == 1


@pytest.mark.parametrize(("packs", "is_old"), [(True, False), (False, False), (False, True)])
def test_one_of_them_alone_is_told_once_it_is_known_that_there_are_several(
    tmp_path: Path, reader: Reader, packs: bool, is_old: bool
) -> None:
    """A cursor of before has not remembered that, but knows the files that it has met."""
    same_files(tmp_path, "ab")
    if packs:
        pack_all(tmp_path)
    assert len(reader.read()) == 12
    if is_old:
        reader.forget_shared()
    for path in tmp_path.glob("*.warc.gz"):
        path.unlink()
    same_files(tmp_path, "c")
    a_file("d.warc.gz", urls_of("d")).write(tmp_path)
    pack_all(tmp_path, seed=8)
    assert reader.read() == []
    assert len(reader.damage) == 1


def test_the_last_captures_that_were_read_may_be_dropped_as_orphans(tmp_path: Path, reader: Reader) -> None:
    urls = urls_of("a", 8)
    warc = a_file("a.warc.gz", urls)
    warc.write(tmp_path)
    a_file("b.warc.gz", urls_of("b")).write(tmp_path)
    assert reader.read(5) == urls[:5]
    with scratch() as connection:
        orphans = Orphans(connection)
        known = "INSERT INTO visited VALUES (?, ?, ?, 1)"
        from sqspider.archive.scratch import key_of

        connection.executemany(known, [(key_of(url), 0.0, NOON * 2) for url in urls[2:6]])
        pack_all(tmp_path, orphans)
    assert sorted(reader.read()) == sorted(urls[6:] + urls_of("b"))


class Moving(Folder):
    """In which one file gets another name just before it is opened."""

    @contextmanager
    def opened(self, name: str, offset: int = 0) -> Iterator[BinaryIO]:
        if name == "2.warc.gz":
            Path(self.address, name).rename(Path(self.address, "4.warc.gz"))
        with super().opened(name, offset) as stream:
            yield stream


def test_what_is_moved_before_it_is_read_is_read_where_it_is_by_then(tmp_path: Path) -> None:
    reader = Reader(Moving(str(tmp_path)))
    a_file("1.warc.gz", urls_of("a")).write(tmp_path)
    assert reader.read() == urls_of("a")
    a_file("2.warc.gz", urls_of("b")).write(tmp_path)
    assert reader.read() == urls_of("b")  # and not nothing, for which nobody would walk again
    assert reader.read() == []


def test_what_is_moved_keeps_nobody_from_the_files_behind_it(tmp_path: Path) -> None:
    reader = Reader(Moving(str(tmp_path)))
    for name, host in (("1", "a"), ("2", "b"), ("3", "c")):
        a_file(f"{name}.warc.gz", urls_of(host)).write(tmp_path)
    assert reader.read() == [*urls_of("a"), *urls_of("c")]
    assert reader.read() == urls_of("b")
    assert reader.read() == []


class Lying(Folder):
    """Which lists a file that cannot be had, as a store without S3's consistency does."""

    def info(self, name: str) -> FileInfo | None:
        return None if name == "2.warc.gz" else super().info(name)

    @contextmanager
    def opened(self, name: str, offset: int = 0) -> Iterator[BinaryIO]:
        if name == "2.warc.gz":
            raise NoArchiveError("it is not there")
        with super().opened(name, offset) as stream:
            yield stream


def test_what_is_listed_and_cannot_be_had_is_told_and_the_others_are_read(tmp_path: Path) -> None:
    reader = Reader(Lying(str(tmp_path)))
    for name, host in (("1", "a"), ("2", "b"), ("3", "c")):
        a_file(f"{name}.warc.gz", urls_of(host)).write(tmp_path)
    assert reader.read() == [*urls_of("a"), *urls_of("c")]
    assert [error.file for error in reader.damage] == ["2.warc.gz"]
    assert reader.read() == []


def test_damage_in_one_file_is_told_and_the_others_are_read(tmp_path: Path, reader: Reader) -> None:
    bad = a_file("a.warc.gz", urls_of("a"))
    end = bad.places[3].offset
    bad.content = bad.content[:end] + b"\0" * 20 + bad.content[end + 20 :]
    bad.write(tmp_path)
    a_file("b.warc.gz", urls_of("b")).write(tmp_path)
    assert reader.read() == urls_of("a", 3) + urls_of("b")
    (error,) = reader.damage
    assert error.file == "a.warc.gz"
    assert f"offset {end:,}" in str(error)
    assert reader.read() == []
    assert len(reader.damage) == 2  # it is told again


def test_a_file_that_is_packed_as_a_whole_is_read_once(tmp_path: Path, reader: Reader) -> None:
    """All of its records lie in one gzip member: nobody can go on within it."""
    warc = Warc("a.warc.gz", pack=bytes)
    urls = urls_of("a")
    for number, url in enumerate(urls):
        warc.response(url, b"page" * 20, NOON + number)
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(warc.content))
    found = reader.read(2)
    found += reader.read(1)
    assert [*found, *reader.read()] == urls
    assert reader.read() == []


def test_a_piece_of_a_file_is_not_taken_for_the_whole(tmp_path: Path, reader: Reader) -> None:
    """Somebody has cut a file into two: both speak of one warcinfo, which is in the first alone."""
    urls = urls_of("a")
    warc = a_file("a.warc.gz", urls)
    end = warc.places[3].offset
    (tmp_path / "a-1.warc.gz").write_bytes(warc.content[:end])
    (tmp_path / "a-2.warc.gz").write_bytes(warc.content[end:])
    assert reader.read() == urls
    assert reader.read() == []


def test_a_file_with_a_dictionary_is_read_by_one_and_refused_to_many(tmp_path: Path, reader: Reader) -> None:
    """From its midst on nothing of it can be unpacked."""
    urls = urls_of("a")
    samples = [b"words of a page %d " % number * 9 for number in range(400)]
    dictionary = zstd.train_dict(samples, 1500)
    warc = Warc("a.warc.zst", pack=lambda data: zstd.compress(data, zstd_dict=dictionary))
    for number, url in enumerate(urls):
        warc.response(url, b"page" * 20, NOON + number)
    content = dictionary.dict_content
    frame = b"\x5d\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content
    (tmp_path / warc.name).write_bytes(frame + warc.content)
    found = reader.read(2)
    assert [*found, *reader.read()] == urls
    damage: list[DamagedError] = []
    cursor = Cursor(sqlite3.connect(":memory:", isolation_level=None))
    assert list(look(Folder(str(tmp_path)), cursor, damage.append)) == []
    assert "need the dictionary" in str(damage[0])
