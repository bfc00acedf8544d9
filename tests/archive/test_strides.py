"""Captures at places that come in the order of the archive."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from sqspider.archive.errors import DamagedError, NoArchiveError
from sqspider.archive.files import warc_files
from sqspider.archive.folder import Folder
from sqspider.archive.reading import Captured, captures_in
from sqspider.archive.strides import CLOSE_BYTES, CLOSE_IN_BUCKET, Strides
from sqspider.record import CapturePlace
from tests.extract import common_crawl

NAMES = ("a", "b", "c", "far", "e", "f")


class Counted(Folder):
    """A folder that knows how often its files were opened."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.times = 0

    @contextmanager
    def opened(self, name: str, offset: int = 0) -> Iterator[BinaryIO]:
        self.times += 1
        with super().opened(name, offset) as stream:
            yield stream


@pytest.fixture(params=[CLOSE_BYTES, CLOSE_IN_BUCKET])
def files(tmp_path: Path, request: pytest.FixtureRequest) -> Counted:
    """Two files of six pages; between the third and the fourth of each lies one that is too large to be passed over."""
    chance = random.Random(1)
    for file in ("1", "2"):
        pages = [common_crawl.Page(f"https://site.example/{file}/{name}", name.encode() * 10) for name in NAMES]
        for at, size in ((3, 2 * request.param), (1, request.param // 2)):
            pages.insert(at, common_crawl.Page("https://site.example/large", chance.randbytes(size)))
        (tmp_path / f"{file}.warc.gz").write_bytes(common_crawl.file_of(pages))
    counted = Counted(tmp_path)
    if request.param == CLOSE_IN_BUCKET:
        counted.address = "s3://bucket/prefix"  # by which it is known what it costs to open
    return counted


def place_of(captured: Captured) -> CapturePlace:
    digest = (captured.digest or "").removeprefix("sha1:")
    return CapturePlace(captured.file, captured.offset, captured.length, digest, captured.at)


def places_in(files: Counted) -> list[tuple[str, CapturePlace]]:
    """The pages but the large ones, in the order of the archive."""
    found = [captured for info in warc_files(files) for captured in captures_in(files, info)]
    places = [(each.url, place_of(each)) for each in found if not each.url.endswith("large")]
    assert len(places) == 2 * len(NAMES)
    files.times = 0
    return places


def read(strides: Strides, places: list[tuple[str, CapturePlace]]) -> None:
    for url, place in places:
        captured = strides.capture_at(place, url)
        assert (captured.url, captured.offset, captured.length) == (url, place.offset, place.length)
        assert captured.payload == url.rpartition("/")[2].encode() * 10


def test_what_lies_close_together_is_read_without_opening_the_file_anew(files: Counted) -> None:
    places = places_in(files)
    with Strides(files) as strides:
        read(strides, places)
        assert files.times == 4  # of each file, what is before the large one, and what is behind it
        read(strides, [places[0], places[2]])
        assert files.times == 5


def test_places_may_come_in_any_order(files: Counted) -> None:
    places = places_in(files)
    random.Random(3).shuffle(places)
    with Strides(files) as strides:
        read(strides, places * 2)


def test_what_is_not_where_it_should_be_is_told_and_others_are_read(files: Counted) -> None:
    places = places_in(files)
    (url, first), (_, second) = places[:2]
    with Strides(files) as strides:
        for wrong in (
            CapturePlace(first.file, first.offset + 1, first.length, first.digest, 0.0),
            CapturePlace(first.file, first.offset, first.length + 1, first.digest, 0.0),
            CapturePlace(first.file, second.offset, first.length, first.digest, 0.0),
            CapturePlace(first.file, second.offset - 1, first.length, first.digest, 0.0),
            CapturePlace(first.file, 10**9, first.length, first.digest, 0.0),
        ):
            read(strides, [places[0]])
            with pytest.raises(DamagedError):
                strides.capture_at(wrong, url)
            read(strides, places[1:])


def test_after_a_file_that_is_not_there_the_one_before_is_opened_anew(tmp_path: Path) -> None:
    large = random.Random(2).randbytes(20 * CLOSE_IN_BUCKET)  # more than was read of it with what lies before
    pages = [common_crawl.Page("https://site.example/a", b"a"), common_crawl.Page("https://site.example/b", large)]
    (tmp_path / "a.warc.gz").write_bytes(common_crawl.file_of(pages))
    files = Counted(tmp_path)
    first, second = (place_of(captured) for info in warc_files(files) for captured in captures_in(files, info))
    with Strides(files) as strides:
        strides.capture_at(first)
        with pytest.raises(NoArchiveError):
            strides.capture_at(CapturePlace("packed-since.warc.gz", 0, 1, "", 0.0))
        assert strides.capture_at(second).payload == large


def test_what_is_damaged_between_two_is_passed_over(files: Counted, tmp_path: Path) -> None:
    places = places_in(files)
    (_, first), (_, second), (_, third) = places[:3]
    octets = bytearray((tmp_path / "1.warc.gz").read_bytes())
    middle = (second.offset + second.offset + second.length) // 2
    octets[middle : middle + 20] = bytes(20)
    (tmp_path / "1.warc.gz").write_bytes(octets)
    with Strides(files) as strides:
        read(strides, [places[0], places[2]])
        with pytest.raises(DamagedError):
            strides.capture_at(second, places[1][0])
        read(strides, places[2:])
    assert first.offset < second.offset < third.offset
