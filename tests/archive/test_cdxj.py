"""The index of an archive: its lines, its order, and looking up in it."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import pytest

from sqspider.archive.cdxj import NAME, Index, parsed_line, write_index
from sqspider.archive.errors import DamagedError, NoArchiveError
from sqspider.archive.folder import Folder
from sqspider.archive.sorting import Sorter
from sqspider.archive.store import open_store
from tests.archive.captures import capture_of
from tests.archive.ours import SITE, an_archive
from tests.archive.warcs import good, made, metadata, packed, plain, response


def lines_of(folder: Path) -> list[bytes]:
    write_index(Folder(str(folder)))
    return (folder / NAME).read_bytes().splitlines()


def append_a_beginning(folder: Path) -> None:
    """What a writer that is stopped amid a batch has written of its next record."""
    (file,) = folder.glob("*.open")
    with file.open("ab") as more:
        more.write(packed([response()])[:50])


async def test_a_line_says_where_a_capture_lies(tmp_path: Path) -> None:
    places = await an_archive(tmp_path)
    found = {json.loads(line.split(b" ", 2)[2])["url"]: line for line in lines_of(tmp_path)}
    place = places[f"{SITE}/none"]
    fields = {
        "url": f"{SITE}/none",
        "mime": "text/html",
        "status": "404",
        "digest": f"sha1:{place.digest}",
        "length": str(place.length),
        "offset": str(place.offset),
        "filename": place.file,
    }
    assert found[f"{SITE}/none"] == b"example,site)/none 20260921141325 " + json.dumps(fields).encode()


async def test_what_was_captured_has_a_line_and_nothing_else(tmp_path: Path) -> None:
    places = await an_archive(tmp_path)
    found = [parsed_line(line) for line in lines_of(tmp_path)]
    assert {line.url for line in found} == {*places, f"{SITE}/robots.txt"}
    assert len(found) == len(places) + 2  # robots.txt, and the first visit of what was visited twice
    revisits = {line.url: line for line in found if line.mime == "warc/revisit"}
    assert {url: line.status for url, line in revisits.items()} == {f"{SITE}/same": "200", f"{SITE}/gzip": ""}


async def test_lines_are_in_the_order_of_their_bytes(tmp_path: Path) -> None:
    await an_archive(tmp_path)
    found = lines_of(tmp_path)
    assert all(before < after for before, after in pairwise(found))


def test_records_of_others_have_the_lines_that_others_make(tmp_path: Path) -> None:
    answer = response()
    records = [
        *good().values(),
        metadata(answer).set("Content-Type", "application/json"),
        made("resource", "own", b"a: b\r\n", ("WARC-Target-URI", "urn:x:1"), content_type="application/warc-fields"),
        made("conversion", "c", b"text", ("WARC-Target-URI", "http://example.com/c")),
        made("resource", "p", b"", ("WARC-Target-URI", "http://example.com/p"), content_type="text/plain;charset=x"),
        response("http://example.com/undigested").set("WARC-Payload-Digest"),
    ]
    (tmp_path / "made.warc.gz").write_bytes(packed(records))
    found = [parsed_line(line) for line in lines_of(tmp_path)]
    assert [(line.url[-12:], line.mime, line.status, bool(line.digest)) for line in found] == [
        ("example.com/", "application/json", "", True),
        ("example.com/", "text/html", "200", True),
        ("le.com/again", "warc/revisit", "200", True),
        ("ple.com/file", "text/plain", "", True),
        ("xample.com/p", "text/plain", "", True),
        ("m/undigested", "text/html", "200", True),
    ]
    assert found[5].digest == answer.get("WARC-Payload-Digest")


@pytest.mark.parametrize("name", ["made.warc.gz", "made.warc"])
async def test_a_line_leads_to_its_record(tmp_path: Path, name: str) -> None:
    records = good().values()
    (tmp_path / name).write_bytes(packed(records) if name.endswith("gz") else plain(records))
    files = Folder(str(tmp_path))
    for line in map(parsed_line, lines_of(tmp_path)):
        assert files.read(line.file, line.offset, line.length) in {
            packed([record]) if name.endswith("gz") else record.written()[:-4] for record in records
        }


async def test_what_is_being_written_is_in_it_as_far_as_it_is_whole(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    await store.keep([capture_of()])
    append_a_beginning(tmp_path)
    assert len(lines_of(tmp_path)) == 1
    await store.close()


def test_what_is_damaged_is_told_and_the_index_that_was_there_stays(tmp_path: Path) -> None:
    (tmp_path / "made.warc.gz").write_bytes(packed(good().values()))
    before = lines_of(tmp_path)
    (tmp_path / "torn.warc.gz").write_bytes(packed(good().values())[:-1])
    with pytest.raises(DamagedError, match="torn"):
        write_index(Folder(str(tmp_path)))
    assert (tmp_path / NAME).read_bytes().splitlines() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, "made.warc.gz", "torn.warc.gz"]


def test_records_that_are_packed_together_are_told(tmp_path: Path) -> None:
    import gzip

    (tmp_path / "made.warc.gz").write_bytes(gzip.compress(plain(good().values())))
    with pytest.raises(DamagedError, match="packed together"):
        write_index(Folder(str(tmp_path)))


def test_where_there_is_nothing_there_is_no_index(tmp_path: Path) -> None:
    with pytest.raises(NoArchiveError):
        write_index(Folder(str(tmp_path)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [0, 1, 2, 50, 3000])
def test_a_url_is_found_among_many(tmp_path: Path, count: int) -> None:
    """Each of them, wherever its lines lie in the file, and nothing of others."""
    rng = random.Random(count)
    urls = [f"http://h{rng.randrange(30)}.example/{'x' * rng.randrange(300)}{number}" for number in range(count)]
    for copy in range(1, 4):
        (tmp_path / f"{copy}.warc.gz").write_bytes(
            packed(response(url, date=f"2026-01-0{copy}T00:00:00Z") for url in urls)
        )
    if count:
        write_index(Folder(str(tmp_path)))
    else:
        (tmp_path / NAME).write_bytes(b"")
    index = Index.of(Folder(str(tmp_path)))
    assert index is not None
    for url in urls[:200] + urls[-200:]:
        assert [line.time[:8] for line in index.find(url)] == ["20260101", "20260102", "20260103"], url
    for url in ("http://a.example/", "http://z.example/", "http://h3.example/none", "http://h3.example/x"):
        assert list(index.find(url)) == []


def test_a_url_is_not_taken_for_another_of_its_key(tmp_path: Path) -> None:
    urls = ["http://example.com/A", "http://example.com/a", "https://www.example.com/a"]
    (tmp_path / "made.warc.gz").write_bytes(packed(map(response, urls)))
    write_index(Folder(str(tmp_path)))
    index = Index.of(Folder(str(tmp_path)))
    assert index is not None
    assert [[line.url for line in index.find(url)] for url in urls] == [[url] for url in urls]


def test_a_file_that_is_no_index_is_told(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"com,example)/ 20260101000000 rubbish\n")
    index = Index.of(Folder(str(tmp_path)))
    assert index is not None
    with pytest.raises(DamagedError, match="archive index"):
        list(index.find("http://example.com/"))


@pytest.mark.parametrize("most_bytes", [1, 500, 5_000, 10_000_000])
def test_lines_are_sorted_however_few_fit_into_memory(most_bytes: int) -> None:
    rng = random.Random(most_bytes)
    lines = [rng.randbytes(rng.randrange(40)).replace(b"\n", b"") for _ in range(1_000)]
    with Sorter(most_bytes) as sorter:
        for line in lines:
            sorter.add(line)
        assert list(sorter.sorted()) == sorted(lines)


def test_a_disk_without_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    from sqspider.archive.errors import ArchiveError

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with Sorter(1) as sorter, pytest.raises(ArchiveError, match="TMPDIR"):
        sorter.add(b"a line")
