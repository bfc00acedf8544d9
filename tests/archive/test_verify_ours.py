"""Proving an archive of ours: against its frontier and its index, and beyond what the standard asks."""

from __future__ import annotations

import gzip
import json
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
from msgspec.structs import replace

from sqspider.archive.cdxj import NAME, write_index
from sqspider.archive.coding import Coding
from sqspider.archive.folder import Folder
from sqspider.archive.names import WRITTEN, file_name
from sqspider.archive.pack import pack
from sqspider.archive.store import open_store
from sqspider.archive.verify import Verification
from sqspider.archive.verify_relations import Tally
from sqspider.capture import Hop
from sqspider.record import CapturePlace, Kept, Outcome, Reason, Status, UrlRecord
from tests.archive.captures import AT, capture_of
from tests.archive.mutations import Records
from tests.archive.ours import SITE, an_archive
from tests.archive.test_verify import faults_in
from tests.archive.warcs import good, identity, packed, response, revisit, warcinfo


def known(url: str, place: CapturePlace | None, **fields: object) -> UrlRecord:
    outcome = Outcome(**{"status": Status.DONE, "http_status": 200, "capture": place, **fields})  # type: ignore[arg-type]
    return UrlRecord(url=url, status=outcome.status, outcome=outcome)


def proved(folder: Path, records: Iterable[UrlRecord]) -> tuple[list[str], Tally]:
    with Verification(Folder(str(folder)), has_frontier=True) as run:
        faults = [str(fault) for record in records for fault in run.know(record)]
        faults += [str(fault) for fault in run.faults()]
        return faults, run.tally


@pytest.mark.parametrize("coding", Coding)
async def test_what_the_crawler_writes_has_no_fault(tmp_path: Path, coding: Coding) -> None:
    places = await an_archive(tmp_path, coding)
    write_index(Folder(str(tmp_path)))
    faults, tally = proved(tmp_path, (known(url, place) for url, place in places.items()))
    assert faults == []
    assert (tally.captures, tally.named, tally.unnamed, tally.aside, tally.orphans) == (16, 15, 0, 1, 0)
    assert (tally.elsewhere, tally.not_indexed) == (0, 0)


async def test_what_no_record_names_is_counted_and_no_fault(tmp_path: Path) -> None:
    places = await an_archive(tmp_path)
    records = [known(url, place) for url, place in places.items() if url not in (f"{SITE}/odd", f"{SITE}/none")]
    faults, tally = proved(tmp_path, [*records, known(f"{SITE}/none", None, unkept=True)])
    assert faults == []
    assert (tally.captures, tally.named, tally.unnamed, tally.aside, tally.orphans) == (16, 13, 1, 1, 1)


async def test_an_answer_without_its_capture_is_found(tmp_path: Path) -> None:
    places = await an_archive(tmp_path)
    lost = f"{SITE}/page"
    faults, _ = proved(tmp_path, [known(lost, None)])
    assert len(faults) == 1
    assert lost in faults[0]
    fine = [
        known(lost, None, unkept=True),
        known(lost, None, http_status=None, status=Status.FAILED, reason=Reason.TIMEOUT),
        replace(known(lost, None), status=Status.QUEUED),
        known(lost, places[lost]),
    ]
    for record in fine:
        assert proved(tmp_path, [record])[0] == [], record


@pytest.mark.parametrize(
    "change",
    [
        lambda place: replace(place, offset=place.offset + 1),
        lambda place: replace(place, offset=10**9),
        lambda place: replace(place, length=place.length - 1),
        lambda place: replace(place, digest="A" * 32),
        lambda place: replace(place, at=place.at + 0.000001),
        lambda place: replace(place, file="another.warc.gz"),
        lambda place: replace(place, url="http://other.example/"),
    ],
)
async def test_a_place_where_something_else_lies_is_found(
    tmp_path: Path, change: Callable[[CapturePlace], CapturePlace]
) -> None:
    places = await an_archive(tmp_path)
    url = f"{SITE}/page"
    assert proved(tmp_path, [known(url, change(places[url]))])[0]
    assert proved(tmp_path, [known(url, replace(places[url], payload=change(places[url])))])[0]
    good_before = Kept(good=Outcome(status=Status.DONE, http_status=200, capture=change(places[url])))
    assert proved(tmp_path, [replace(known(url, places[url]), kept=good_before)])[0]


async def test_the_place_of_another_url_is_found(tmp_path: Path) -> None:
    places = await an_archive(tmp_path)
    assert proved(tmp_path, [known(f"{SITE}/page", places[f"{SITE}/odd"])])[0]


async def test_a_record_that_cannot_be_read_is_found(tmp_path: Path) -> None:
    await an_archive(tmp_path)
    record = UrlRecord(url=f"{SITE}/page", status=Status.DONE, unreadable="it is garbled")
    assert len(proved(tmp_path, [record])[0]) == 1


async def test_a_file_that_is_gone_is_found_by_those_whose_captures_it_had(tmp_path: Path) -> None:
    places = await an_archive(tmp_path / "archive")
    remove_all(tmp_path / "archive")
    faults, _ = proved(tmp_path / "archive", (known(url, place) for url, place in places.items()))
    assert {url for url in places if any(url in fault for fault in faults)} == set(places)


def remove_all(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


async def test_behind_damage_all_is_looked_at(tmp_path: Path) -> None:
    """One capture is lost: its record says so, and no other."""
    places = await an_archive(tmp_path)
    spoil(tmp_path, places[f"{SITE}/chunked"])
    faults, tally = proved(tmp_path, (known(url, place) for url, place in places.items()))
    said = "\n".join(faults)
    assert f"offset {places[f'{SITE}/chunked'].offset:,}" in said
    assert [url for url in places if url in said] == [f"{SITE}/chunked"]
    assert tally.captures == 15


def spoil(folder: Path, place: CapturePlace) -> None:
    """Turn a bit amid a record."""
    file = folder / place.file
    content = bytearray(file.read_bytes())
    content[place.offset + place.length // 2] ^= 4
    file.write_bytes(content)


def change_index(folder: Path, change: Callable[[list[bytes]], object]) -> None:
    lines = (folder / NAME).read_bytes().splitlines(keepends=True)
    change(lines)
    (folder / NAME).write_bytes(b"".join(lines))


def with_said(name: str, value: str) -> Callable[[list[bytes]], object]:
    def change(lines: list[bytes]) -> None:
        key, time, said = lines[3].split(b" ", 2)
        lines[3] = b" ".join((key, time, json.dumps({**json.loads(said), name: value}).encode())) + b"\n"

    return change


def at_another_time(lines: list[bytes]) -> None:
    key, _, said = lines[3].split(b" ", 2)
    lines[3] = b" ".join((key, b"20010101000000", said))


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines.pop(),
        lambda lines: lines.pop(0),
        lambda lines: lines.reverse(),
        lambda lines: lines.insert(3, lines[3]),
        lambda lines: lines.append(b"zzz,example)/ 20260101000000 rubbish\n"),
        lambda lines: lines.clear(),
        with_said("digest", "sha1:" + "A" * 32),
        with_said("offset", "1"),
        with_said("length", "1"),
        with_said("filename", "another.warc.gz"),
        with_said("url", "http://other.example/"),
        with_said("offset", "none"),
        at_another_time,
    ],
)
async def test_an_index_that_is_not_of_its_files_is_found(
    tmp_path: Path, change: Callable[[list[bytes]], object]
) -> None:
    await an_archive(tmp_path)
    write_index(Folder(str(tmp_path)))
    assert faults_in(tmp_path) == []
    change_index(tmp_path, change)
    assert any(NAME in fault or "index" in fault for fault in faults_in(tmp_path))


async def test_an_index_that_lacks_what_came_since_is_found(tmp_path: Path) -> None:
    await an_archive(tmp_path)
    write_index(Folder(str(tmp_path)))
    store = open_store(str(tmp_path))
    await store.keep([capture_of(b"new " * 300, url=f"{SITE}/new")])
    await store.close()
    assert faults_in(tmp_path) == [f"{NAME}: it lacks 1 capture: `sqspider archive index` writes it anew"]


def torn(folder: Path) -> None:
    (file,) = folder.glob("*.open")
    with file.open("ab") as more:
        more.write(packed([response()])[:50])


async def test_the_end_that_a_dead_writer_tore_is_found(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    (place,) = await store.keep([capture_of()])
    torn(tmp_path)
    assert faults_in(tmp_path) == []  # it lives, and may be about to write the rest
    await store.close()
    assert place is not None
    (file := tmp_path / place.file).rename(file.with_name(f"{file.name}.open"))
    assert len(faults_in(tmp_path)) == 1


def alone(records: Records, block: bytes) -> None:
    """An answer of another block, of which there is no revisit."""
    records["response"].with_block(block)
    records.pop("revisit")


OURS: dict[str, Callable[[Records], object]] = {
    "no warcinfo at its beginning": lambda records: records.update(warcinfo=records.pop("warcinfo")),
    "no block digest": lambda records: records["response"].set("WARC-Block-Digest"),
    "no block digest of a warcinfo": lambda records: records["warcinfo"].set("WARC-Block-Digest"),
    "no payload digest": lambda records: records["response"].set("WARC-Payload-Digest"),
    "no warcinfo of a record": lambda records: records["request"].set("WARC-Warcinfo-ID"),
    "a warcinfo that is not there": lambda records: records["request"].set("WARC-Warcinfo-ID", identity("other")),
    "a request of nothing": lambda records: records["request"].set("WARC-Concurrent-To"),
    "a request of what is not there": lambda records: records["request"].set("WARC-Concurrent-To", identity("other")),
    "metadata of nothing": lambda records: records["metadata"].set("WARC-Concurrent-To"),
    "a revisit without its original": lambda records: [
        records.pop(name) for name in ("response", "request", "metadata")
    ],
    "a revisit that says not of which record": lambda records: records["revisit"].set("WARC-Refers-To"),
    "a revisit that says not of which URL": lambda records: records["revisit"].set("WARC-Refers-To-Target-URI"),
    "a revisit that says not of when": lambda records: records["revisit"].set("WARC-Refers-To-Date"),
    "a revisit of another time": lambda records: records["revisit"].set("WARC-Refers-To-Date", "2026-11-23T14:19:58Z"),
    "a revisit that leaves a body out, and does not say so": lambda records: records["revisit"].set("WARC-Truncated"),
    "a body that is longer than its head says": lambda records: alone(records, records["response"].block + b"!"),
    "an answer that is none": lambda records: alone(records, b"ICY 200 OK\r\n\r\nhello"),
}


def ours() -> Records:
    records = good()
    records["warcinfo"] = warcinfo("sqspider/0.1.0")
    answer = records["response"]
    records["revisit"] = revisit(answer)
    for name, record in records.items():
        if name != "warcinfo":
            record.fields.insert(3, ("WARC-Warcinfo-ID", records["warcinfo"].get("WARC-Record-ID")))
    return records


def test_a_record_of_ours_that_is_right_passes(tmp_path: Path) -> None:
    (tmp_path / file_name(WRITTEN, AT, 1, "0" * 8, ".warc.gz")).write_bytes(packed(ours().values()))
    assert faults_in(tmp_path) == []


@pytest.mark.parametrize("change", OURS.values(), ids=OURS.keys())
def test_a_record_of_ours_is_held_to_what_we_always_write(tmp_path: Path, change: Callable[[Records], object]) -> None:
    records = ours()
    change(records)
    (tmp_path / file_name(WRITTEN, AT, 1, "0" * 8, ".warc.gz")).write_bytes(packed(records.values()))
    assert faults_in(tmp_path)


def test_references_from_one_file_to_another_are_followed(tmp_path: Path) -> None:
    records = ours()
    first = [record for name, record in records.items() if name != "revisit"]
    (tmp_path / "b.warc.gz").write_bytes(packed(first))
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(records["revisit"].written()))
    assert faults_in(tmp_path) == []


async def test_behind_damage_no_record_is_seen_that_was_captured_itself(tmp_path: Path) -> None:
    """A WARC file that was fetched lies in a record as it came: what is packed hardly gets smaller."""
    captured = Coding.ZSTD.pack(response("http://inner.example/").written())
    noise = random.Random(1).randbytes(100_000)
    store = open_store(str(tmp_path), Coding.ZSTD)
    first, _ = await store.keep(
        [
            capture_of(noise + captured + noise, b"X: 1\r\n", url=f"{SITE}/a"),
            capture_of(b"another " * 100, url=f"{SITE}/b"),
        ]
    )
    await store.close()
    assert first is not None
    assert captured in (tmp_path / first.file).read_bytes()
    spoil_head(tmp_path, first)
    with Verification(Folder(str(tmp_path))) as run:
        assert list(run.faults())
        assert run.tally.captures == 1


async def test_what_is_packed_meanwhile_is_no_fault(tmp_path: Path) -> None:
    """Whether its file was read already, or is still to be; and wherever the new one stands among them."""
    places = {}
    for number in range(3):
        store = open_store(str(tmp_path))
        url = f"{SITE}/{number}"
        (places[url],) = await store.keep([capture_of(url=url, at=AT + number)])
        await store.close()
    files = Folder(str(tmp_path))
    write_index(files)

    def packed_meanwhile(_: object) -> None:
        if run.records == 3:
            pack(files, None, clock=time.time, rng=random.Random(1))

    with Verification(files, has_frontier=True, on_record=packed_meanwhile) as run:
        faults = [str(fault) for url, place in places.items() for fault in run.know(known(url, place))]
        faults += [str(fault) for fault in run.faults()]
    assert (faults, run.tally.gone, run.tally.captures, run.files) == ([], 3, 3, 2)
    faults, tally = proved(tmp_path, [known(url, place) for url, place in places.items()])
    assert len(faults) == 3
    assert tally.gone == 0


async def test_what_is_packed_while_the_frontier_is_read_is_no_fault(tmp_path: Path) -> None:
    places = await an_archive(tmp_path)
    files = Folder(str(tmp_path))
    with Verification(files, has_frontier=True) as run:
        faults = [str(fault) for url, place in places.items() for fault in run.know(known(url, place))]
        (name,) = {place.file for place in places.values()}
        (tmp_path / name).rename(tmp_path / "packed.warc.gz")
        faults += [str(fault) for fault in run.faults()]
    assert (faults, run.tally.gone, run.tally.captures) == ([], 1, 16)


def spoil_head(folder: Path, place: CapturePlace) -> None:
    """Turn bits near the beginning of a record."""
    file = folder / place.file
    content = bytearray(file.read_bytes())
    content[place.offset + 30] ^= 0xFF
    file.write_bytes(content)


async def test_a_sitemap_has_no_record_and_is_no_orphan(tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    store.note(capture_of(b"<urlset/>" * 99, url=f"{SITE}/sitemap.xml", hop=Hop.SITEMAP, via=f"{SITE}/robots.txt"))
    store.note(capture_of(b"<urlset/>" * 98, url=f"{SITE}/moved.xml", hop=Hop.SITEMAP, redirects=1))
    store.note(capture_of(b"Disallow:" * 99, url=f"{SITE}/robots.txt", hop=Hop.ROBOTS))
    store.note(capture_of(b"a page " * 99, url=f"{SITE}/page", hop=Hop.LINK))
    await store.close()
    faults, tally = proved(tmp_path, [])
    assert (faults, tally.captures, tally.aside, tally.orphans) == ([], 4, 3, 1)
