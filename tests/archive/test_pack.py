"""Packing: the same records in fewer files, and whoever names a capture finds it, whenever it dies."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from sqspider.archive import cdxj
from sqspider.archive.errors import ArchiveError
from sqspider.archive.files import warc_files
from sqspider.archive.folder import Folder
from sqspider.archive.moves import journals_in, read_journal, write_journal
from sqspider.archive.pack import Packed, pack, references_in
from sqspider.archive.pack_orphans import Orphans
from sqspider.archive.rewriting import Copy, Round, Tell, heal
from sqspider.archive.scratch import scratch
from sqspider.archive.verify import Verification
from sqspider.record import CapturePlace, Kept, Outcome, Status

from .dying import Dying, died
from .known import Known, known, outcome_of
from .small_warcs import NOON, Warc, fields_of, kinds_in, record_at, records_in

FILES = 4
PAGES = 3


def url_of(file: int, page: int) -> str:
    return f"http://h{file}.test/{page}"


def small_files(folder: Path) -> dict[str, CapturePlace]:
    """What Lambda leaves: an object an invocation; where each page lies."""
    places = {}
    for file in range(FILES):
        warc = Warc(f"2026050{file}/{file}.warc.gz")
        for page in range(PAGES):
            url = url_of(file, page)
            places[url] = warc.response(url, f"page {page} of {file}".encode() * 50, NOON + file * 100 + page)
        warc.write(folder)
    return places


def packed(folder: Path, tell: Tell | None = None, *, size: int = 1_000_000, **more: object) -> Packed:
    return pack(Folder(str(folder)), tell, clock=time.time, rng=random.Random(7), size=size, **more)  # type: ignore[arg-type]


def assert_found(folder: Path, frontier: Known, places: dict[str, CapturePlace]) -> None:
    """Each record names the very capture that it did, wherever that lies now."""
    for url, before in places.items():
        now = frontier.capture(url)
        assert (now.digest, now.at, now.length) == (before.digest, before.at, before.length)
        fields = fields_of(record_at(folder, now))
        assert fields["warc-target-uri"] == url
        assert fields["warc-payload-digest"] == f"sha1:{before.digest}"


def test_small_files_become_one_with_all_their_records_as_they_were(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    places = small_files(folder)
    before = sorted(content for _, _, content in records_in(folder))
    with known(tmp_path) as frontier:
        frontier.finish({url: outcome_of(place) for url, place in places.items()})
        done = packed(folder, frontier.tell)
        assert_found(folder, frontier, places)
    assert (done.files, done.made, done.left) == (FILES, 1, ())
    records = records_in(folder)
    assert len({file for file, _, _ in records}) == 1
    first, *others = [content for _, _, content in records]
    assert fields_of(first)["warc-filename"] == records[0][0]
    assert sorted(others) == before
    assert journals_in(Folder(str(folder))) == []


def test_what_is_packed_is_as_large_as_was_asked_for(tmp_path: Path) -> None:
    small_files(tmp_path)
    kinds = kinds_in(tmp_path)
    size = sum(path.stat().st_size for path in tmp_path.rglob("*.gz")) // 2
    done = packed(tmp_path, size=size + 100)
    assert done.made == len(list(tmp_path.rglob("packed-*.gz"))) == 2
    assert kinds_in(tmp_path) == kinds
    assert all(path.stat().st_size <= size + 1000 for path in tmp_path.rglob("*.gz"))


def test_packing_again_changes_nothing(tmp_path: Path) -> None:
    small_files(tmp_path)
    packed(tmp_path)
    names = [path.name for path in tmp_path.rglob("*.gz")]
    assert packed(tmp_path).files == 0
    assert [path.name for path in tmp_path.rglob("*.gz")] == names
    Warc("later.warc.gz").write(tmp_path)
    warc = Warc("more.warc.gz")
    warc.response("http://more.test/", b"more")
    warc.write(tmp_path)
    packed(tmp_path)
    infos = [content for _, _, content in records_in(tmp_path) if fields_of(content)["warc-type"] == "warcinfo"]
    assert len(infos) == 2 + FILES + 2, "one more for each time that something was packed: what refers to it finds it"


def test_an_open_file_a_damaged_one_and_a_large_one_stay(tmp_path: Path) -> None:
    small_files(tmp_path)
    being_written, large, torn = Warc("a.warc.gz"), Warc("large.warc.gz", pack=lambda data: data), Warc("torn.warc.gz")
    being_written.response("http://open.test/", b"open")
    being_written.write(tmp_path, is_open=True)
    large.response("http://large.test/", b"x" * 700_000)
    large.name = "large.warc"
    large.write(tmp_path)
    torn.response("http://torn.test/", b"torn" * 100)
    torn.content = torn.content[:-20]
    torn.write(tmp_path)
    done = packed(tmp_path)
    assert (tmp_path / "a.warc.gz.open").read_bytes() == being_written.content
    assert (tmp_path / "large.warc").read_bytes() == large.content
    assert (tmp_path / "torn.warc.gz").read_bytes() == torn.content
    assert [name for name, _ in done.left] == ["torn.warc.gz"]
    assert "torn" in done.left[0][1]
    assert done.files == FILES


def test_files_that_are_packed_otherwise_are_not_mixed(tmp_path: Path) -> None:
    small_files(tmp_path)
    for name in ("a.warc", "b.warc"):
        warc = Warc(name, pack=lambda data: data)
        warc.response(f"http://{name}/", b"plain")
        warc.write(tmp_path)
    done = packed(tmp_path)
    assert done.made == 2
    (plain,) = tmp_path.rglob("*.warc")
    assert plain.read_bytes().startswith(b"WARC/1.1\r\n")
    assert plain.read_bytes().count(b"WARC-Type: response") == 2


def test_the_index_is_renewed_where_there_is_one(tmp_path: Path) -> None:
    small_files(tmp_path)
    files = Folder(str(tmp_path))
    assert packed(tmp_path).lines is None
    assert not (tmp_path / cdxj.NAME).exists()
    cdxj.write_index(files)
    warc = Warc("more.warc.gz")
    warc.response("http://more.test/", b"more")
    warc.write(tmp_path)
    assert packed(tmp_path).lines == FILES * PAGES + 1
    assert_index_is_right(tmp_path, FILES * PAGES + 1)


def assert_index_is_right(folder: Path, captures: int) -> None:
    index = cdxj.Index.of(Folder(str(folder)))
    assert index is not None
    lines = [line for _, line in index.lines()]
    assert len(lines) == captures
    for line in lines:
        place = CapturePlace(line.file, line.offset, line.length, "", 0)
        assert fields_of(record_at(folder, place))["warc-target-uri"] == line.url


def test_whenever_it_dies_nothing_is_lost_and_the_next_one_goes_on(tmp_path: Path) -> None:
    """Before and after each change to the files, and once the frontier has been told."""
    step, deaths = 0, 0
    while True:
        home = tmp_path / str(step)
        folder = home / "archive"
        places = small_files(folder)
        kinds = kinds_in(folder)
        cdxj.write_index(Folder(str(folder)))
        with known(home) as frontier:
            frontier.finish({url: outcome_of(place) for url, place in places.items()})
        dying = Dying(Folder(str(folder)), step)

        def work(dying: Dying = dying, home: Path = home) -> None:
            with known(home) as frontier:

                def tell(moved: object) -> None:
                    frontier.tell(moved)  # type: ignore[arg-type]
                    dying.pass_by()

                pack(dying, tell, clock=time.time, rng=random.Random(), size=1_000_000)

        if not died(work):
            break
        deaths += 1
        with known(home) as frontier:
            assert_found(folder, frontier, places)
            packed(folder, frontier.tell)
            assert_found(folder, frontier, places)
        assert kinds_in(folder) == kinds, "each record is there once"
        assert len(list(folder.rglob("*.warc.gz"))) == 1
        assert_index_is_right(folder, FILES * PAGES)
        assert journals_in(Folder(str(folder))) == []
        step += 1
    assert deaths >= 8 + FILES * 2


def test_what_another_process_is_at_is_left_to_it(tmp_path: Path) -> None:
    small_files(tmp_path)
    dying = Dying(Folder(str(tmp_path)), 3)
    assert died(lambda: void(pack(dying, None, clock=time.time, rng=random.Random(1), size=1_000_000)))
    (journal,) = journals_in(Folder(str(tmp_path)))
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as living:
        rename_owner(tmp_path, journal, living.pid)
        with pytest.raises(ArchiveError, match=f"by process {living.pid} .*--take-over"):
            packed(tmp_path)
        living.communicate(b"\n")
    assert packed(tmp_path).files == FILES, "it has died"


def test_of_two_that_begin_at_once_one_goes_on_at_most(tmp_path: Path) -> None:
    small_files(tmp_path)
    files = Folder(str(tmp_path))
    first, second = (Round(files, None, clock=time.time, rng=random.Random(seed)) for seed in (1, 2))
    first.begin()
    with pytest.raises(ArchiveError, match="just begun"):
        second.begin()
    assert len(journals_in(files)) == 1
    first.abandon()
    assert packed(tmp_path).files == FILES


def test_what_is_half_done_is_said_by_who_proves_it(tmp_path: Path) -> None:
    small_files(tmp_path)
    files = Folder(str(tmp_path))
    dying = Dying(files, 6)  # the new file is there, and the old ones are
    assert died(lambda: void(pack(dying, None, clock=time.time, rng=random.Random(1), size=1_000_000)))
    with Verification(files) as run:
        assert "has begun and not ended" in str(next(run.faults()))
    heal(files, None, now=time.time())
    with Verification(files) as run:
        assert list(run.faults()) == []


def test_of_another_machine_nobody_knows_whether_it_lives(tmp_path: Path) -> None:
    small_files(tmp_path)
    dying = Dying(Folder(str(tmp_path)), 3)
    assert died(lambda: void(pack(dying, None, clock=time.time, rng=random.Random(1), size=1_000_000)))
    (journal,) = journals_in(Folder(str(tmp_path)))
    rename_owner(tmp_path, journal, 1, host="elsewhere")
    with pytest.raises(ArchiveError, match="on elsewhere"):
        packed(tmp_path)
    assert packed(tmp_path, takes_over=True).files == FILES


def void(_: object) -> None:
    pass


def rename_owner(folder: Path, journal: str, pid: int, *, host: str | None = None) -> None:
    files = Folder(str(folder))
    found = read_journal(files, journal)
    assert found is not None
    head, moved = found
    write_journal(files, msgspec.structs.replace(head, pid=pid, host=host or head.host), moved)


def test_an_archive_that_a_frontier_names_is_not_healed_without_it(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    places = small_files(folder)
    with known(tmp_path) as frontier:
        frontier.finish({url: outcome_of(place) for url, place in places.items()})
    dying = Dying(Folder(str(folder)), 6)  # the new file is there, and the journal says so

    def work() -> None:
        with known(tmp_path) as frontier:
            pack(dying, frontier.tell, clock=time.time, rng=random.Random(1), size=1_000_000)

    assert died(work)
    with pytest.raises(ArchiveError, match="--frontier"):
        packed(folder)
    with known(tmp_path) as frontier:
        packed(folder, frontier.tell)
        assert_found(folder, frontier, places)


def test_while_a_crawl_runs_it_is_told_twice(tmp_path: Path) -> None:
    """A visit that was under way writes down what it was told at its beginning."""
    folder = tmp_path / "archive"
    places = small_files(folder)
    url = url_of(0, 0)
    with known(tmp_path) as frontier:
        frontier.finish({url: outcome_of(place) for url, place in places.items()})
        packed(folder, frontier.tell, is_under_way=True)
        assert len(journals_in(Folder(str(folder)))) == 1
        frontier.reopen(url)
        frontier.finish({url: outcome_of(None)}, kept=Kept(good=outcome_of(places[url])))
        packed(folder, frontier.tell)
        kept = frontier.all()[url].kept
        assert kept is not None
        assert kept.good is not None
        assert kept.good.capture is not None
        assert fields_of(record_at(folder, kept.good.capture))["warc-target-uri"] == url
        assert len(journals_in(Folder(str(folder)))) == 1, "somebody may remember it still"
        a_day_later = time.time() + 86_500
        pack(Folder(str(folder)), frontier.tell, clock=lambda: a_day_later, rng=random.Random())
    assert journals_in(Folder(str(folder))) == []


def test_what_was_moved_twice_is_told_as_one_way(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    places = small_files(folder)
    url = url_of(1, 1)
    with known(tmp_path) as frontier:
        packed(folder, frontier.tell, is_under_way=True)
        later = Warc("later.warc.gz")
        later.response("http://later.test/", b"later")
        later.write(folder)
        packed(folder, frontier.tell, is_under_way=True)
        frontier.finish({url: outcome_of(places[url])})  # by whoever remembers where it lay at first
        packed(folder, frontier.tell)
        assert_found(folder, frontier, {url: places[url]})


def test_who_was_taken_for_dead_changes_nothing_more(tmp_path: Path) -> None:
    """Another machine may have this one's name: then it sees that no process of this number lives there."""
    small_files(tmp_path)
    files = Folder(str(tmp_path))
    before = kinds_in(tmp_path)
    moving = Round(files, None, clock=time.time, rng=random.Random())
    moving.begin()
    names = [info.name for info in warc_files(files)]
    moving.make("packed", ".warc.gz", [Copy(name, 0, (tmp_path / name).stat().st_size) for name in names])
    heal(files, None, now=time.time())
    with pytest.raises(ArchiveError, match="taken over"):
        moving.end(is_under_way=False)
    assert kinds_in(tmp_path) == before


class TestOrphans:
    """With ``--drop-orphans``: what a worker wrote that died before it could say so, and nothing else."""

    ORPHAN = "http://a.test/orphan"

    def drop(self, folder: Path, frontier: Known) -> Packed:
        with scratch() as connection:
            orphans = Orphans(connection)
            orphans.take_records(frontier.records())
            orphans.take_references(references_in(Folder(str(folder))))
            return packed(folder, frontier.tell, orphans=orphans)

    def test_what_no_record_names_goes(self, tmp_path: Path) -> None:
        folder = tmp_path / "archive"
        warc = Warc("a.warc.gz")
        warc.response(self.ORPHAN, b"first", NOON + 10)
        named = warc.response(self.ORPHAN, b"second", NOON + 20)
        warc.write(folder)
        with known(tmp_path, at=NOON) as frontier:
            frontier.finish({self.ORPHAN: outcome_of(named)})
            done = self.drop(folder, frontier)
            assert done.captures_dropped == 1
            assert done.bytes_dropped > 0
            assert_found(folder, frontier, {self.ORPHAN: named})
        kinds = kinds_in(folder)
        assert kinds == [("metadata", self.ORPHAN), ("request", self.ORPHAN), ("response", self.ORPHAN)]

    @pytest.mark.parametrize("case", ["earlier visit", "tried again", "robots.txt", "unknown", "before", "referred to"])
    def test_what_may_be_wanted_stays(self, tmp_path: Path, case: str) -> None:
        folder = tmp_path / "archive"
        url = "http://a.test/robots.txt" if case == "robots.txt" else self.ORPHAN
        warc = Warc("a.warc.gz")
        first = warc.response(url, b"first", NOON - 1000 if case == "before" else NOON + 10)
        named = warc.response(url, b"second", NOON + 20)
        if case == "referred to":
            warc.revisit("http://b.test/", first, NOON + 30, of=url)
        warc.write(folder)
        before = kinds_in(folder)
        with known(tmp_path, at=NOON) as frontier:
            if case == "earlier visit":
                frontier.finish({url: outcome_of(first)})
                frontier.reopen(url)
            if case == "tried again":
                frontier.retry(url, outcome_of(first))
            if case != "unknown":
                frontier.finish({url: outcome_of(named)})
            done = self.drop(folder, frontier)
        assert done.captures_dropped == 0
        assert kinds_in(folder) == before


def test_an_outcome_without_a_capture_has_none(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    small_files(folder)
    with known(tmp_path) as frontier:
        frontier.finish({"http://none.test/": Outcome(status=Status.DONE, http_status=200)})
        packed(folder, frontier.tell)
        assert frontier.outcome("http://none.test/").capture is None
