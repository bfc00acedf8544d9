"""Erasing: what was to go is nowhere any more, and what was to stay is there, whenever it dies."""

from __future__ import annotations

import asyncio
import gzip
import random
import time
import zlib
from pathlib import Path

import pytest

from sqspider.archive import cdxj
from sqspider.archive.coding import Coding
from sqspider.archive.errors import ArchiveError
from sqspider.archive.folder import Folder
from sqspider.archive.forget import Forgetting, Forgotten, Plan, Wanted
from sqspider.archive.forget_references import References
from sqspider.archive.moves import journals_in
from sqspider.archive.reading import capture_at, read_archive
from sqspider.archive.rewriting import Tell, heal
from sqspider.archive.scratch import scratch
from sqspider.archive.store import open_store
from sqspider.archive.verify import Verification
from sqspider.capture import Capture
from sqspider.record import CapturePlace, Kept

from .captures import AT, capture_of
from .dying import Dying, died
from .known import known, outcome_of
from .small_warcs import NOON, Warc, block_of, fields_of, identity_of, kinds_in, record_at, records_in

SECRET = b"what nobody is to read any more " * 40
GOES = "http://bad.test/page"
STAYS = "http://good.test/page"
COPY = "http://copy.test/same"  # had the payload that goes
OTHER = "http://other.test/same"  # had it, too


def forget(folder: Path, wanted: Wanted, tell: Tell | None = None, *, note: str = "") -> Forgotten:
    files = Folder(str(folder))
    heal(files, tell, now=time.time())
    with scratch() as connection:
        forgetting = Forgetting(files, wanted, References(connection))
        return forgetting.erase(forgetting.plan(), tell, clock=time.time, rng=random.Random(), note=note)


def kept(folder: Path, *captures: Capture) -> list[CapturePlace]:
    """Where captures lie that a crawl of its own kept."""

    async def main() -> list[CapturePlace]:
        store = open_store(str(folder))
        places = await store.keep(captures)
        await store.close()
        return [place for place in places if place is not None]

    return asyncio.run(main())


def plan(folder: Path, wanted: Wanted) -> Plan:
    with scratch() as connection:
        return Forgetting(Folder(str(folder)), wanted, References(connection)).plan()


def contents(folder: Path) -> bytes:
    """All that is in an archive, unpacked: of whatever file."""
    found = b""
    for path in folder.rglob("*"):
        data = path.read_bytes() if path.is_file() else b""
        while data[:2] == b"\x1f\x8b":
            unpacker = zlib.decompressobj(31)
            found += unpacker.decompress(data)
            data = unpacker.unused_data
        found += data
    return found


def two_files(folder: Path) -> dict[str, CapturePlace]:
    """A page that goes and one that stays in the first file; the second has two revisits of what goes."""
    first, second, third = Warc("a.warc.gz"), Warc("b.warc.gz"), Warc("c.warc.gz")
    places = {GOES: first.response(GOES, SECRET, NOON), STAYS: first.response(STAYS, b"stays", NOON + 1)}
    places[COPY] = second.revisit(COPY, places[GOES], NOON + 10, of=GOES)
    places[OTHER] = second.revisit(OTHER, places[GOES], NOON + 20, of=GOES)
    third.response("http://third.test/", b"untouched", NOON)
    for warc in (first, second, third):
        warc.write(folder)
    return places


def test_not_a_byte_of_it_is_left(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    warc = Warc("a.warc.gz")
    goes = warc.response(GOES, SECRET)
    stays = warc.response(STAYS, b"stays", NOON + 1)
    warc.write(folder)
    files = Folder(str(folder))
    cdxj.write_index(files)
    assert b"nobody" in contents(folder)
    with known(tmp_path) as frontier:
        frontier.finish({GOES: outcome_of(goes), STAYS: outcome_of(stays)}, kept=None)
        frontier.reopen(GOES)
        frontier.finish({GOES: outcome_of(goes)}, kept=Kept(good=outcome_of(goes)))
        done = forget(folder, Wanted(url=GOES), frontier.tell, note="asked for by letter")
        gone = frontier.all()[GOES]
        assert (frontier.outcome(GOES).capture, frontier.outcome(GOES).unkept) == (None, True)
        assert gone.kept is not None
        assert gone.kept.good is not None
        assert gone.kept.good.capture is None
        assert fields_of(record_at(folder, frontier.capture(STAYS)))["warc-target-uri"] == STAYS
    assert (done.plan.captures, done.plan.records, done.plan.files, done.lines) == (1, 3, 1, 1)
    assert done.bytes_freed > 0
    left = contents(folder)
    assert b"nobody" not in left
    assert GOES.encode() not in left
    assert b"bad.test" not in left
    assert b"test,bad" not in left
    assert not (folder / "a.warc.gz").exists()
    (note,) = [content for _, _, content in records_in(folder) if b"erasedCaptures" in content]
    assert fields_of(note)["warc-type"] == "metadata"
    assert block_of(note) == b"erasedCaptures: 1\r\nerasedRecords: 3\r\nnote: asked for by letter\r\n"


def test_a_page_that_had_its_payload_is_not_lost(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    places = two_files(folder)
    with known(tmp_path) as frontier:
        frontier.finish({url: outcome_of(place) for url, place in places.items()})
        done = forget(folder, Wanted(url=GOES), frontier.tell)
        first, other = frontier.capture(COPY), frontier.capture(OTHER)
        assert frontier.outcome(GOES).capture is None
    assert (done.plan.captures, done.plan.promoted, done.plan.files) == (1, 1, 2)
    whole = record_at(folder, first)
    fields = fields_of(whole)
    assert (fields["warc-type"], fields["warc-target-uri"]) == ("response", COPY)
    assert fields["warc-record-id"] == identity_of("revisit", COPY, NOON + 10), "what is concurrent to it finds it"
    assert not {name for name in fields if "refers" in name or name in ("warc-profile", "warc-truncated")}
    head, _, payload = block_of(whole).partition(b"\r\n\r\n")
    assert payload == SECRET
    assert b"X-At: " in head, "its own head, not the other's"
    assert first.payload is None
    again = fields_of(record_at(folder, other))
    assert again["warc-type"] == "revisit"
    assert again["warc-refers-to-target-uri"] == COPY
    assert again["warc-refers-to-date"] == fields["warc-date"]
    assert again["warc-refers-to"] == fields["warc-record-id"]
    assert other.payload == CapturePlace(first.file, first.offset, first.length, first.digest, NOON + 10, COPY)
    assert capture_at(Folder(str(folder)), other, OTHER).body() == SECRET
    assert (folder / "c.warc.gz").exists(), "what has nothing to do with it stays as it is"
    assert all(captured.url != GOES for captured in read_archive(str(folder)))


def test_a_page_that_became_a_full_response_is_referred_to(tmp_path: Path) -> None:
    """Its record is found by whoever was answered the same since: a later visit, of it or of another URL."""
    folder = tmp_path / "archive"
    goes, copy = kept(folder, capture_of(url=GOES), capture_of(url=COPY, at=AT + 1))
    assert copy.payload is not None
    with known(tmp_path) as frontier:
        frontier.finish({GOES: outcome_of(goes), COPY: outcome_of(copy)})
        forget(folder, Wanted(url=GOES), frontier.tell)
        copy = frontier.capture(COPY)
    assert copy.payload is None
    (again,) = kept(folder, capture_of(url=COPY, at=AT + 2, before=copy))
    assert again.payload == copy
    with Verification(Folder(str(folder))) as run:
        assert [str(fault) for fault in run.faults()] == []


def test_what_had_not_changed_is_what_the_answer_was(tmp_path: Path) -> None:
    """By age: of a page that has not changed since, the last visit is kept, and with it what the page is."""
    folder = tmp_path / "archive"
    old, new = Warc("a.warc.gz"), Warc("b.warc.gz")
    before = old.response(STAYS, b"as it is", NOON)
    now = new.revisit(STAYS, before, NOON + 100, unchanged=True)
    old.write(folder)
    new.write(folder)
    with known(tmp_path) as frontier:
        frontier.finish({STAYS: outcome_of(now)}, kept=Kept(good=outcome_of(before)))
        done = forget(folder, Wanted(before=NOON + 50), frontier.tell)
        place = frontier.capture(STAYS)
    assert (done.plan.captures, done.plan.promoted) == (1, 1)
    content = record_at(folder, place)
    assert fields_of(content)["warc-type"] == "response"
    assert block_of(content).startswith(b"HTTP/1.1 200 OK\r\n")
    assert block_of(content).endswith(b"\r\n\r\nas it is")
    assert capture_at(Folder(str(folder)), place, STAYS).body() == b"as it is"


@pytest.mark.parametrize(
    ("wanted", "goes"),
    [
        (Wanted(url="http://a.test/1"), {"http://a.test/1"}),
        (Wanted(url="http://a.test/1", before=NOON), set()),
        (Wanted(host="a.test"), {"http://a.test/1", "https://a.test:8443/2"}),
        (Wanted(host="a.test", before=NOON + 1), {"http://a.test/1"}),
        (Wanted(before=NOON + 2), {"http://a.test/1", "https://a.test:8443/2"}),
        (Wanted(host="test"), set()),
    ],
)
def test_what_is_meant_goes_and_nothing_else(tmp_path: Path, wanted: Wanted, goes: set[str]) -> None:
    urls = ["http://a.test/1", "https://a.test:8443/2", "http://sub.a.test/3", "http://a.test.evil/4"]
    warc = Warc("a.warc.gz")
    for at, url in enumerate(urls):
        warc.response(url, url.encode(), NOON + at)
    warc.write(tmp_path)
    assert forget(tmp_path, wanted).plan.captures == len(goes)
    left = {url for _, url in kinds_in(tmp_path)} - {""}
    assert left == set(urls) - goes


def test_a_url_is_meant_however_it_is_written_in_the_archive(tmp_path: Path) -> None:
    warc = Warc("a.warc.gz")
    warc.response("HTTP://A.test:80/x?q=1#fragment", SECRET)
    warc.write(tmp_path)
    assert forget(tmp_path, Wanted(url="http://a.test/x?q=1")).plan.captures == 1
    assert b"nobody" not in contents(tmp_path)


def test_a_file_that_is_being_written_is_refused_if_it_has_any(tmp_path: Path) -> None:
    two_files(tmp_path)
    being_written = Warc("open.warc.gz")
    being_written.response("http://open.test/", b"open")
    being_written.content += being_written.content[:40]
    being_written.write(tmp_path, is_open=True)
    before = contents(tmp_path)
    with pytest.raises(ArchiveError, match=r"open.warc.gz .*stop the crawl first"):
        forget(tmp_path, Wanted(host="open.test"))
    assert contents(tmp_path) == before
    assert forget(tmp_path, Wanted(url=STAYS)).plan.captures == 1


def test_an_open_file_that_refers_to_what_goes_is_refused_too(tmp_path: Path) -> None:
    places = two_files(tmp_path)
    being_written = Warc("open.warc.gz")
    being_written.revisit("http://open.test/", places[GOES], NOON + 50, of=GOES)
    being_written.write(tmp_path, is_open=True)
    with pytest.raises(ArchiveError, match="stop the crawl first"):
        forget(tmp_path, Wanted(url=GOES))


def test_a_plan_changes_nothing(tmp_path: Path) -> None:
    two_files(tmp_path)
    (tmp_path / "all.wacz").write_bytes(b"")
    before = contents(tmp_path)
    told = plan(tmp_path, Wanted(url=GOES))
    assert (told.captures, told.records, told.promoted, told.files, told.open_files) == (1, 3, 1, 2, ())
    assert told.bytes == sum((tmp_path / name).stat().st_size for name in ("a.warc.gz", "b.warc.gz"))
    assert told.copies == ("all.wacz",)
    assert contents(tmp_path) == before


def test_damage_is_said_before_anything_is_changed(tmp_path: Path) -> None:
    two_files(tmp_path)
    torn = Warc("d.warc.gz")
    torn.response(GOES, SECRET)
    torn.content = torn.content[:-300]
    torn.write(tmp_path)
    before = contents(tmp_path)
    with pytest.raises(ArchiveError, match=r"d.warc.gz"):
        forget(tmp_path, Wanted(url=GOES))
    assert contents(tmp_path) == before


def test_records_that_are_packed_together_are_refused_if_some_are_to_go(tmp_path: Path) -> None:
    warc = Warc("a.warc.gz", pack=lambda data: data)
    warc.response(GOES, SECRET)
    warc.content = gzip.compress(warc.content)
    warc.write(tmp_path)
    with pytest.raises(ArchiveError, match="warcio recompress"):
        forget(tmp_path, Wanted(url=GOES))
    assert forget(tmp_path, Wanted(url=STAYS)).plan.captures == 0


@pytest.mark.parametrize("ending", [".warc", ".warc.zst"])
def test_files_stay_packed_as_they_were(tmp_path: Path, ending: str) -> None:
    pack = Coding.ZSTD.pack if ending == ".warc.zst" else bytes
    first, second = Warc("a" + ending, pack=pack), Warc("b" + ending, pack=pack)
    goes = first.response(GOES, SECRET)
    second.revisit(COPY, goes, NOON + 1, of=GOES)
    first.write(tmp_path)
    second.write(tmp_path)
    assert forget(tmp_path, Wanted(url=GOES)).plan.promoted == 1
    assert all(path.name.endswith(ending) for path in tmp_path.iterdir())
    (captured,) = read_archive(str(tmp_path))
    assert (captured.url, captured.body()) == (COPY, SECRET)


def test_each_erasing_is_noted_in_what_it_has_changed(tmp_path: Path) -> None:
    warc = Warc("a.warc.gz")
    for at in range(4):
        warc.response(f"http://a.test/{at}", b"x", NOON + at)
    warc.write(tmp_path)
    for at in range(3):
        forget(tmp_path, Wanted(url=f"http://a.test/{at}"))
    notes = [content for _, _, content in records_in(tmp_path) if b"erasedCaptures" in content]
    assert len(notes) == 3
    infos = [content for _, _, content in records_in(tmp_path) if fields_of(content)["warc-type"] == "warcinfo"]
    assert len(infos) == 4, "that of the crawl, and one for each note: it refers to it"
    assert {fields_of(note)["warc-warcinfo-id"] for note in notes} <= {
        fields_of(each)["warc-record-id"] for each in infos
    }


def test_whenever_it_dies_the_next_one_goes_on(tmp_path: Path) -> None:
    step, deaths = 0, 0
    while True:
        home = tmp_path / str(step)
        folder = home / "archive"
        places = two_files(folder)
        cdxj.write_index(Folder(str(folder)))
        with known(home) as frontier:
            frontier.finish({url: outcome_of(place) for url, place in places.items()})
        dying = Dying(Folder(str(folder)), step)

        def work(dying: Dying = dying, home: Path = home) -> None:
            with known(home) as frontier, scratch() as connection:

                def tell(moved: object) -> None:
                    frontier.tell(moved)  # type: ignore[arg-type]
                    dying.pass_by()

                forgetting = Forgetting(dying, Wanted(url=GOES), References(connection))
                forgetting.erase(forgetting.plan(), tell, clock=time.time, rng=random.Random())

        if not died(work):
            break
        deaths += 1
        with known(home) as frontier:
            for url in (STAYS, COPY, OTHER):
                assert fields_of(record_at(folder, frontier.capture(url)))["warc-target-uri"] == url
            forget(folder, Wanted(url=GOES), frontier.tell)
            assert frontier.outcome(GOES).capture is None
            files = Folder(str(folder))
            assert capture_at(files, frontier.capture(STAYS), STAYS).body() == b"stays"
            for url in (COPY, OTHER):
                assert capture_at(files, frontier.capture(url), url).body() == SECRET
        assert GOES.encode() not in contents(folder)
        index = cdxj.Index.of(files)
        assert index is not None
        for _, line in index.lines():
            place = CapturePlace(line.file, line.offset, line.length, "", 0)
            assert fields_of(record_at(folder, place))["warc-target-uri"] == line.url
        assert journals_in(files) == []
        assert sorted(url for kind, url in kinds_in(folder) if kind in ("response", "revisit")) == sorted(
            [STAYS, COPY, OTHER, "http://third.test/"]
        )
        step += 1
    assert deaths >= 10
