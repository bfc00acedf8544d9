"""Reading captures out of archives: ours, and those of others."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path

import brotli
import pytest
from msgspec.structs import replace

from sqspider.archive.cdxj import write_index
from sqspider.archive.coding import Coding
from sqspider.archive.dates import seconds_of
from sqspider.archive.errors import ArchiveError, DamagedError, NoArchiveError
from sqspider.archive.folder import Folder
from sqspider.archive.reading import Captured, capture_at, captures_of, read_archive, record_pieces
from sqspider.archive.records import records_of
from sqspider.archive.store import open_store
from sqspider.capture import Capture
from sqspider.record import CapturePlace
from tests.archive.captures import AT, LARGE, REQUEST_HEAD, capture_of
from tests.archive.mutations import CHUNKED
from tests.archive.ours import OTHER, SITE, an_archive, pages
from tests.archive.warcs import HELLO, good, made, metadata, packed, plain, request, response, revisit

every_coding = pytest.mark.parametrize("coding", Coding)


def read(tmp_path: Path, content: bytes, name: str = "made.warc.gz") -> list[Captured]:
    (tmp_path / name).write_bytes(content)
    return list(read_archive(str(tmp_path)))


@every_coding
async def test_what_was_kept_is_read_again(tmp_path: Path, coding: Coding) -> None:
    await an_archive(tmp_path, coding)
    found = {captured.url: captured for captured in read_archive(str(tmp_path)) if captured.kind == "response"}
    for capture in pages():
        captured = found[capture.url]
        assert captured.payload == capture.fetched.payload
        assert captured.http_status == capture.fetched.http_status
        assert captured.at == capture.at
        assert captured.request == REQUEST_HEAD
        assert ("crawl", "default") in captured.metadata


async def test_a_body_is_decoded(tmp_path: Path) -> None:
    await an_archive(tmp_path)
    found = {captured.url: captured for captured in read_archive(str(tmp_path)) if captured.kind == "response"}
    assert found[f"{SITE}/gzip"].body() == OTHER
    assert found[f"{SITE}/br"].body() == OTHER + b"br"
    assert found[f"{SITE}/br"].payload == brotli.compress(OTHER + b"br")
    assert found[f"{SITE}/page"].body(10) == LARGE[:10]
    assert found[f"{SITE}/cut"].truncated == "disconnect"
    assert found[f"{SITE}/page"].truncated is None


@every_coding
async def test_a_place_leads_to_its_capture(tmp_path: Path, coding: Coding) -> None:
    places = await an_archive(tmp_path, coding)
    files = Folder(str(tmp_path))
    for capture in pages():
        if capture.url != f"{SITE}/gzip":
            assert capture_at(files, places[capture.url], capture.url).payload == capture.fetched.payload


async def test_a_place_leads_into_a_file_that_is_being_written(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    (place,) = await store.keep([capture_of()])
    assert place is not None
    assert capture_at(Folder(str(tmp_path)), place).payload == LARGE
    assert [captured.payload for captured in read_archive(str(tmp_path))] == [LARGE]
    await store.close()


async def test_a_revisit_has_the_payload_of_its_original_by_its_place(tmp_path: Path) -> None:
    places = await an_archive(tmp_path)
    files = Folder(str(tmp_path))
    same = capture_at(files, places[f"{SITE}/same"], f"{SITE}/same")
    assert (same.kind, same.payload, same.header("age")) == ("revisit", LARGE, "7")
    unchanged = capture_at(files, places[f"{SITE}/gzip"], f"{SITE}/gzip")
    assert (unchanged.kind, unchanged.http_status, unchanged.body()) == ("revisit", None, OTHER)


@pytest.mark.parametrize("index", [True, False])
async def test_a_revisit_whose_original_was_packed_meanwhile_has_its_payload(tmp_path: Path, index: bool) -> None:
    """What was read of the frontier before says where it lay."""
    (before,) = await kept(tmp_path, capture_of(url=f"{SITE}/other"))
    (place,) = await kept(tmp_path, capture_of(at=AT + 1, before=replace(before, url=f"{SITE}/other")))
    files = Folder(str(tmp_path))
    if index:
        write_index(files)
    os.rename(tmp_path / before.file, tmp_path / "packed.warc.gz")
    os.utime(tmp_path / "packed.warc.gz")
    assert place.payload == replace(before, url=f"{SITE}/other")
    assert capture_at(files, place).payload == LARGE


async def kept(folder: Path, *captures: Capture) -> list[CapturePlace]:
    """Where captures lie that a crawl of its own kept."""
    store = open_store(str(folder))
    places = await store.keep(captures)
    await store.close()
    return [place for place in places if place is not None]


@pytest.mark.parametrize("index", [True, False])
async def test_a_revisit_has_the_payload_of_its_original(tmp_path: Path, index: bool) -> None:
    await an_archive(tmp_path)
    if index:
        write_index(Folder(str(tmp_path)))
    found = [captured for captured in read_archive(str(tmp_path)) if captured.kind == "revisit"]
    assert [captured.body() for captured in found] == [LARGE, OTHER]


async def test_what_lies_elsewhere_than_a_place_says_is_told(tmp_path: Path) -> None:
    places = await an_archive(tmp_path)
    files = Folder(str(tmp_path))
    place = places[f"{SITE}/page"]
    assert capture_at(files, place, f"{SITE}/page").url == f"{SITE}/page"
    others = [
        places[f"{SITE}/chunked"],
        replace(place, digest="A" * 32),
        replace(place, length=place.length + 1),
        replace(place, offset=place.offset + 1),
        replace(place, offset=place.offset + place.length),  # the request
        replace(place, offset=10**9),
        replace(place, offset=0),
    ]
    for other in others:
        with pytest.raises(DamagedError):
            capture_at(files, other, f"{SITE}/page")
    with pytest.raises(NoArchiveError):
        capture_at(files, replace(place, file="gone.warc.gz"))


@pytest.mark.parametrize("index", [True, False])
async def test_a_urls_captures_are_found(tmp_path: Path, index: bool) -> None:
    await an_archive(tmp_path)
    files = Folder(str(tmp_path))
    if index:
        write_index(files)
    found = list(captures_of(files, f"{SITE}/gzip"))
    assert [(captured.kind, captured.at) for captured in found] == [("response", AT + 2), ("revisit", AT + 101)]


async def test_a_urls_captures_are_found_that_the_index_does_not_know_yet(tmp_path: Path) -> None:
    await an_archive(tmp_path)
    files = Folder(str(tmp_path))
    write_index(files)
    store = open_store(str(tmp_path))
    await store.keep([capture_of(b"new " * 300, url=f"{SITE}/page", at=AT + 500)])
    await store.close()
    assert [captured.at for captured in captures_of(files, f"{SITE}/page")] == [AT, AT + 500]


async def test_a_record_is_written_out_unpacked(tmp_path: Path) -> None:
    places = await an_archive(tmp_path)
    files = Folder(str(tmp_path))
    captured = capture_at(files, places[f"{SITE}/page"], f"{SITE}/page")
    content = b"".join(record_pieces(files, captured))
    (record,) = records_of(io.BytesIO(content), "unpacked.warc")
    assert (record.url, content[-4:]) == (f"{SITE}/page", b"\r\n\r\n")


@pytest.mark.parametrize("name", ["made.warc.gz", "made.warc"])
def test_the_files_of_others_are_read(tmp_path: Path, name: str) -> None:
    records = good().values()
    found = read(tmp_path, plain(records) if name == "made.warc" else packed(records), name)
    assert [(captured.kind, captured.payload) for captured in found] == [
        ("response", b"hello"),
        ("revisit", b"hello"),
        ("resource", b"as it is"),
    ]
    answer = found[0]
    assert answer.request is not None
    assert answer.request.startswith(b"GET / HTTP/1.1")
    assert dict(answer.metadata) == {"via": "http://example.com/before", "hopsFromSeed": "L"}
    assert found[2].http_status is None


def test_a_file_by_itself_is_read(tmp_path: Path) -> None:
    (tmp_path / "one.warc.gz").write_bytes(packed([response()]))
    (tmp_path / "two.warc.gz").write_bytes(packed([response("http://example.com/two")]))
    assert [captured.url for captured in read_archive(str(tmp_path / "two.warc.gz"))] == ["http://example.com/two"]


def test_a_file_that_is_packed_as_a_whole_is_read(tmp_path: Path) -> None:
    found = read(tmp_path, gzip.compress(plain(good().values())))
    assert [captured.kind for captured in found] == ["response", "revisit", "resource"]


def test_what_was_asked_is_found_before_its_answer_and_behind_it(tmp_path: Path) -> None:
    one, two = response("http://example.com/1"), response("http://example.com/2")
    found = read(tmp_path, packed([request(one), one, request(two), metadata(two), two, metadata(one)]))
    assert [captured.request is not None for captured in found] == [True, True]
    assert [len(captured.metadata) for captured in found] == [0, 2]


def test_an_answer_that_names_what_was_asked_is_joined_with_it(tmp_path: Path) -> None:
    one = response()
    asked = request(one).set("WARC-Concurrent-To")
    one.set("WARC-Concurrent-To", asked.get("WARC-Record-ID"))
    (found,) = read(tmp_path, packed([asked, one]))
    assert found.request is not None


def test_chunks_are_taken_off(tmp_path: Path) -> None:
    assert read(tmp_path, packed([response(message=CHUNKED)]))[0].payload == b"hello"


@pytest.mark.parametrize("size", range(1, 12))
def test_chunks_are_taken_off_wherever_they_are_cut(size: int) -> None:
    from sqspider.archive.http_messages import Dechunker

    body = CHUNKED.partition(b"\r\n\r\n")[2] + b"behind"
    dechunker = Dechunker()
    pieces = [piece for at in range(0, len(body), size) for piece in dechunker.feed(body[at : at + size])]
    assert b"".join(pieces) + dechunker.end() == b"hello"


def test_what_only_says_that_it_is_chunked_stays(tmp_path: Path) -> None:
    for payload in (b"hello", b"<p>\n", b"", b"12", b"x" * 100_000):
        message = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + payload
        assert read(tmp_path, packed([response(message=message)]))[0].payload == payload


def test_fields_are_read_in_any_letters_and_folded(tmp_path: Path) -> None:
    answer = response()
    answer.fields = [(name.lower(), value.replace(";", ";\r\n\t")) for name, value in answer.fields]
    (found,) = read(tmp_path, plain([answer]), "made.warc")
    assert (found.url, found.http_status, found.payload) == ("http://example.com/", 200, b"hello")


def test_a_torn_end_is_told_and_what_lies_before_is_read(tmp_path: Path) -> None:
    (tmp_path / "made.warc.gz").write_bytes(packed(good().values())[:-10])
    found: list[str] = []
    with pytest.raises(DamagedError, match=r"made\.warc\.gz, offset .*repair"):
        found.extend(captured.kind for captured in read_archive(str(tmp_path)))
    assert found == ["response", "revisit"]


def test_the_end_that_is_not_written_yet_is_none(tmp_path: Path) -> None:
    (tmp_path / "made.warc.gz.open").write_bytes(packed(good().values())[:-10])
    assert [captured.kind for captured in read_archive(str(tmp_path))] == ["response", "revisit"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("made.warc.gz", gzip.compress(b"<html></html>", mtime=0)),
        ("made.warc.gz", b"\x1f\x8b\x08 and no more of it than that"),
        ("made.warc", b"GIF89a"),
        ("made.warc.zst", b"\x28\xb5\x2f\xfd rubbish, all of it"),
        ("made.warc", plain([response().set("Content-Length", "x")])),
        ("made.warc", plain([response().set("Content-Length")])),
    ],
    ids=["packed", "damaged", "a picture", "damaged zstd", "no length", "without its length"],
)
def test_what_is_no_warc_file_is_told(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(DamagedError, match=name):
        read(tmp_path, content, name)


def test_what_is_no_archive_is_told(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("")
    for address in (tmp_path, tmp_path / "none", tmp_path / "none.warc.gz", tmp_path / "page.html"):
        with pytest.raises(NoArchiveError):
            list(read_archive(str(address)))


def test_a_file_that_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "made.warc.gz").mkdir()
    with pytest.raises(ArchiveError):
        list(read_archive(str(tmp_path / "made.warc.gz")))


def test_reading_takes_little_memory_whatever_is_in_a_file(tmp_path: Path) -> None:
    """Five captures of 20 MB: with one of them in memory it would be more than this."""
    body = bytes(20_000_000)
    with (tmp_path / "large.warc.gz").open("wb") as file:
        for number in range(5):
            message = b"HTTP/1.1 200 OK\r\nContent-Length: 20000000\r\n\r\n" + body
            file.write(gzip.compress(response(f"http://example.com/{number}", message).written(), 1))
    tracemalloc.start()
    try:
        sizes = [sum(map(len, captured.payload_pieces())) for captured in read_archive(str(tmp_path))]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert sizes == [20_000_000] * 5
    assert peak < 10_000_000


def test_a_revisit_of_another_is_found_by_url_and_time(tmp_path: Path) -> None:
    first, last = response(), response(message=HELLO.replace(b"hello", b"hullo"), date="2026-11-25T00:00:00Z")
    (tmp_path / "made.warc.gz").write_bytes(packed([first, last, revisit(first, date="2026-11-26T00:00:00Z")]))
    write_index(Folder(str(tmp_path)))
    assert [captured.payload for captured in read_archive(str(tmp_path))] == [b"hello", b"hullo", b"hello"]


def test_other_kinds_are_no_captures(tmp_path: Path) -> None:
    of = ("WARC-Target-URI", "http://example.com/")
    assert read(tmp_path, packed([made("conversion", "c", b"text", of), made("own", "o", b"", of)])) == []


@pytest.mark.parametrize(
    ("date", "seconds"),
    [
        ("2026-11-23T14:19:59Z", 1795443599.0),
        ("2026-11-23T14:19:59.5Z", 1795443599.5),
        ("2026-11-23T14:19:59+00:00", 1795443599.0),
        ("2026-11-23T14:19Z", 1795443540.0),
        ("1970-01-02", 86400.0),
        ("1970-02", 2678400.0),
        ("1971", 31536000.0),
        ("2026-11-23T14:19:59", None),
        ("2026-11-23T14Z", None),
        ("2026-13-01", None),
        ("20261123141959", None),
        ("", None),
    ],
)
def test_dates_are_read_as_exact_as_they_are(date: str, seconds: float | None) -> None:
    assert seconds_of(date) == seconds


def test_the_last_moment_that_can_be_written_can_be_shown() -> None:
    last = seconds_of("9999-12-31T23:59:59.999999999Z")
    assert last is not None
    assert datetime.fromtimestamp(last, UTC).year == 9999


async def test_nothing_stays_open(tmp_path: Path) -> None:
    """A payload that is long lies in a file: it is closed with its capture."""
    message = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(3_000_000)
    (tmp_path / "made.warc.gz").write_bytes(packed([response(message=message)]))
    with contextlib.closing(read_archive(str(tmp_path))) as captures:  # type: ignore[type-var]
        assert len(next(captures).payload) == 3_000_000
