"""Rows of an archive: of which captures, by whatever its records have gone through, and whoever dies."""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import duckdb
import msgspec
import pytest

from sqspider.archive.files import FileInfo, Files
from sqspider.archive.folder import Folder
from sqspider.archive.gathering import Gathered
from sqspider.archive.pack import Packed, pack
from sqspider.archive.reading import Captured, captures_from
from sqspider.extract import working
from sqspider.extract.document import Document
from sqspider.extract.extractor import Extractor
from sqspider.extract.harvest import Came, Harvest, Order
from sqspider.extract.pool import Pool, PoolError
from sqspider.extract.rules import Fact, Rules
from sqspider.extract.selection import Selection
from sqspider.extract.tally import Trouble
from sqspider.record import Kept, Outcome, Reason, Status
from sqspider.tables.columns import Row
from sqspider.tables.table import TableError
from sqspider.tables.target import How
from tests.archive.known import Known, known, outcome_of
from tests.archive.small_warcs import NOON, Warc

URL = "http://a.test/"
TITLES = Rules(facts=(Fact.TITLE,))


class Farm:
    """An archive in a folder, its frontier, and the rows that are made of it."""

    def __init__(self, folder: Path, frontier: Known | None = None) -> None:
        self.archive = folder / "archive"
        self.archive.mkdir()
        self.to = folder / "rows.jsonl"
        self.frontier = frontier
        self.warc = Warc("1.warc.gz")
        self.order = Order(
            archive=str(self.archive), to=str(self.to), rules=TITLES, processes=1,
            frontier=f"sqlite:{folder / 'frontier.db'}" if frontier else None,
        )  # fmt: skip

    def next_file(self) -> None:
        self.warc = Warc(f"{int(self.warc.name[0]) + 1}.warc.gz")

    def harvested(self, how: How = How.APPEND, **changes: Any) -> Came:
        self.warc.write(self.archive)
        with Harvest(msgspec.structs.replace(self.order, **changes), how, forks=True) as harvest:
            return harvest.run()

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.to.read_text().splitlines()]

    def titles(self) -> list[tuple[str, int | None]]:
        return [(row["title"], row["visit"]) for row in self.rows()]


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    return Farm(tmp_path)


@pytest.fixture
def known_farm(tmp_path: Path) -> Iterator[tuple[Farm, Known]]:
    with known(tmp_path) as frontier:
        yield Farm(tmp_path, frontier), frontier


def titles_in(path: Path) -> list[str]:
    """The titles of a table, whatever kind it is of."""
    if path.suffix == ".db":
        with closing(sqlite3.connect(path)) as connection:
            return [title for (title,) in connection.execute("SELECT title FROM rows ORDER BY title")]
    source = f"{path}/*.parquet" if path.is_dir() else path
    return [title for (title,) in duckdb.connect().execute(f"SELECT title FROM '{source}' ORDER BY title").fetchall()]


def started_to_die(start: Callable[..., None]) -> Callable[..., None]:
    """How processes are started which are killed while they read the first capture of the first task."""

    def started(self: Pool[Any], context: Any, slot: int) -> None:
        start(self, context, slot)
        process = self._processes[-1].process
        self._at[slot] = 0
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)

    return started


@pytest.mark.parametrize("columns", [(), ("url", "title"), ("title",)], ids=["all", "some", "no-key"])
def test_captures_of_one_instant_have_rows_of_their_own_in_every_format(farm: Farm, columns: tuple[str, ...]) -> None:
    """Foreign files have whole seconds, and copies of files may lie beside one another."""
    for title in ("one", "two"):
        farm.warc.response(URL, page(title), NOON)
    farm.warc.write(farm.archive)
    (farm.archive / "copy.warc.gz").write_bytes(farm.warc.content)
    found = {}
    for ending in ("jsonl", "csv", "parquet", "db"):
        to = str(farm.to.with_suffix(f".{ending}"))
        farm.harvested(How.NEW, to=to, columns=columns)
        if ending == "db":
            with closing(sqlite3.connect(to)) as connection:
                found[ending] = sorted(title for (title,) in connection.execute("SELECT title FROM rows"))
        else:
            found[ending] = sorted(
                title for (title,) in duckdb.connect().execute(f"SELECT title FROM '{to}'").fetchall()
            )
    assert all(titles == ["one", "one", "two", "two"] for titles in found.values()), found


def page(title: str) -> bytes:
    return f"<!doctype html><title>{title}</title>{'text ' * 50}".encode()


class TestByRecords:
    """Of a frontier's archive, rows are for captures that its records name."""

    def test_who_died_between_storing_and_ending_leaves_an_orphan(self, known_farm: tuple[Farm, Known]) -> None:
        farm, frontier = known_farm
        frontier.put(URL)
        farm.warc.response(URL, page("first"), NOON)
        assert farm.harvested().pending == 1
        assert farm.rows() == []
        farm.next_file()
        frontier.finish({URL: outcome_of(farm.warc.response(URL, page("second"), NOON + 1))})
        assert farm.harvested().pending == 0
        assert farm.titles() == [("second", 0)]

    def test_a_capture_that_waited_has_its_row_once_its_record_has_ended(self, known_farm: tuple[Farm, Known]) -> None:
        farm, frontier = known_farm
        frontier.put(URL)
        place = farm.warc.response(URL, page("only"), NOON)
        assert farm.harvested().pending == 1
        assert farm.harvested().pending == 1
        frontier.finish({URL: outcome_of(place)})
        assert farm.harvested().pending == 0
        farm.harvested()
        assert farm.titles() == [("only", 0)]

    def test_it_may_be_packed_while_it_waits(self, known_farm: tuple[Farm, Known]) -> None:
        farm, frontier = known_farm
        frontier.put(URL)
        place = farm.warc.response(URL, page("only"), NOON)
        farm.harvested()
        frontier.finish({URL: outcome_of(place)})
        Warc("other.warc.gz").write(farm.archive)
        pack(Folder(str(farm.archive)), frontier.tell, clock=time.time, rng=random.Random(1))
        assert not (farm.archive / "1.warc.gz").exists()
        with Harvest(farm.order, How.APPEND, forks=True) as harvest:
            assert not harvest.run().damage
        assert farm.titles() == [("only", 0)]

    def test_of_an_answer_and_the_next_try_the_record_names_one(self, known_farm: tuple[Farm, Known]) -> None:
        farm, frontier = known_farm
        busy = farm.warc.response(URL, page("busy"), NOON, status="503 Busy")
        outcome = Outcome(status=Status.FAILED, reason=Reason.SERVER_ERROR, http_status=503, elapsed_ms=1, capture=busy)
        frontier.retry(URL, outcome)
        everything = Selection(statuses=("*",))
        assert farm.harvested(selection=everything).pending == 1
        farm.next_file()
        frontier.finish({URL: outcome_of(farm.warc.response(URL, page("well"), NOON + 1))})
        assert farm.harvested(selection=everything).pending == 0
        assert farm.titles() == [("well", 0)]

    def test_of_a_record_that_is_visited_again_each_visit_has_a_row(self, known_farm: tuple[Farm, Known]) -> None:
        farm, frontier = known_farm
        frontier.finish({URL: outcome_of(farm.warc.response(URL, page("zero"), NOON))})
        frontier.reopen(URL)
        farm.harvested()
        assert farm.titles() == [("zero", 0)]
        farm.next_file()
        frontier.finish({URL: outcome_of(farm.warc.response(URL, page("one"), NOON + 1))})
        farm.harvested()
        assert farm.titles() == [("zero", 0), ("one", 1)]

    def test_of_earlier_visits_there_are_the_rows_that_were_made_by_then(self, known_farm: tuple[Farm, Known]) -> None:
        farm, frontier = known_farm
        frontier.finish({URL: outcome_of(farm.warc.response(URL, page("zero"), NOON))})
        frontier.reopen(URL)
        frontier.finish({URL: outcome_of(farm.warc.response(URL, page("one"), NOON + 1))})
        farm.harvested()
        assert farm.titles() == [("one", 1)]

    @pytest.mark.parametrize(("failed_visits", "visit"), [(1, 0), (2, None)])
    def test_a_visit_that_failed_keeps_the_row_of_the_last_good_one(
        self, known_farm: tuple[Farm, Known], failed_visits: int, visit: int | None
    ) -> None:
        """Which of several that was, captures of earlier versions do not say."""
        farm, frontier = known_farm
        good = outcome_of(farm.warc.response(URL, page("good"), NOON))
        frontier.finish({URL: good})
        for number in range(failed_visits):
            frontier.reopen(URL)
            bad = farm.warc.response(URL, page("bad"), NOON + 1 + number, status="500 Bad")
            failed = Outcome(
                status=Status.FAILED, reason=Reason.SERVER_ERROR, http_status=500, elapsed_ms=1, capture=bad
            )
            frontier.finish({URL: failed}, Kept(good=good))
        farm.harvested()
        assert farm.titles() == [("good", visit)]

    @pytest.mark.parametrize("unchanged", [True, False])
    def test_a_revisit_has_its_originals_page(self, known_farm: tuple[Farm, Known], unchanged: bool) -> None:
        """Without an index: the record says where that lies."""
        farm, frontier = known_farm
        first = farm.warc.response(URL, page("same"), NOON, kind="text/html; charset=utf-8")
        frontier.finish({URL: outcome_of(first)})
        frontier.reopen(URL)
        frontier.finish({URL: outcome_of(farm.warc.revisit(URL, first, NOON + 1, unchanged=unchanged))})
        farm.harvested()
        (row,) = farm.rows()
        assert (row["title"], row["visit"], row["content_mime_type"], row["error"]) == ("same", 1, "text/html", None)

    def test_of_a_crawl_that_was_removed_there_are_no_rows(self, known_farm: tuple[Farm, Known]) -> None:
        farm, _ = known_farm
        farm.warc.response(URL, page("gone"), NOON)
        assert farm.harvested().pending == 0
        assert farm.rows() == []


class TestGoingOn:
    def test_a_file_that_is_moved_before_its_captures_are_read_is_read_where_it_is_by_then(
        self, farm: Farm, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        read = captures_from

        def moved(files: Files, info: FileInfo, offset: int) -> Iterator[Gathered[Captured]]:
            with suppress(FileNotFoundError):
                (farm.archive / "1.warc.gz").rename(farm.archive / "2.warc.gz")
            return read(files, info, offset)

        monkeypatch.setattr(working, "captures_from", moved)  # in its processes, which are forked from this one
        farm.warc.response(URL, page("a"), NOON)
        assert not farm.harvested().damage
        assert farm.titles() == [("a", None)]

    def test_it_goes_on_where_it_was_and_nothing_comes_twice(self, farm: Farm) -> None:
        for number in range(3):
            farm.warc.response(f"{URL}{number}", page(f"{number}"), NOON + number)
        assert farm.harvested().captures == 3
        farm.next_file()
        farm.warc.response(f"{URL}3", page("3"), NOON)
        came = farm.harvested()
        assert (came.captures, came.tally.rows, came.rows_there) == (1, 1, 4)
        assert [title for title, _ in farm.titles()] == ["0", "1", "2", "3"]

    def test_what_lies_behind_the_last_commit_is_made_again(self, farm: Farm) -> None:
        farm.warc.response(URL, page("whole"), NOON)
        farm.harvested()
        with farm.to.open("a") as file:
            file.write('{"half":')
        farm.next_file()
        farm.warc.response(f"{URL}2", page("next"), NOON)
        farm.harvested()
        assert [title for title, _ in farm.titles()] == ["whole", "next"]

    def test_other_rules_are_refused_and_begin_anew(self, farm: Farm) -> None:
        farm.warc.response(URL, page("a"), NOON)
        farm.harvested()
        other = Rules(facts=(Fact.TITLE, Fact.LANGUAGE))
        with pytest.raises(TableError, match="made with other rules: --overwrite"):
            farm.harvested(rules=other)
        assert farm.harvested(How.OVERWRITE, rules=other).tally.rows == 1
        assert [row["title"] for row in farm.rows()] == ["a"]

    @pytest.mark.parametrize("second", [How.APPEND, How.OVERWRITE])
    @pytest.mark.parametrize("to", ["rows.jsonl", "rows.csv", "rows.db", "parts/"])
    def test_two_at_once_are_refused_and_the_first_ends_well(
        self, farm: Farm, tmp_path: Path, to: str, second: How
    ) -> None:
        order = msgspec.structs.replace(farm.order, to=f"{tmp_path}/{to}")
        farm.warc.response(URL, page("a"), NOON)
        farm.warc.write(farm.archive)
        with Harvest(order, forks=True) as harvest:
            harvest.catch_up()
            with pytest.raises(TableError, match="somebody else writes it"), Harvest(order, second, forks=True):
                pass
            farm.next_file()
            farm.warc.response(f"{URL}2", page("b"), NOON)
            farm.warc.write(farm.archive)
            harvest.run()
        assert titles_in(tmp_path / to) == ["a", "b"]
        assert not list(tmp_path.glob("*.lock"))

    @pytest.mark.parametrize("to", ["rows.jsonl", "rows.csv", "rows.db", "parts/"])
    def test_rows_without_their_cursor_are_not_gone_on_with(self, farm: Farm, tmp_path: Path, to: str) -> None:
        farm.warc.response(URL, page("a"), NOON)
        farm.harvested(to=f"{tmp_path}/{to}")
        if to == "rows.db":
            with closing(sqlite3.connect(tmp_path / to)) as connection:
                connection.execute("DELETE FROM sqspider_made_with")
                connection.execute("DELETE FROM sqspider_files")
                connection.commit()
        else:
            (tmp_path / f"{to.rstrip('/')}.cursor").unlink()
        with pytest.raises(TableError, match="has rows, and how far the archive was read for them should stand in"):
            farm.harvested(to=f"{tmp_path}/{to}")
        assert titles_in(tmp_path / to) == ["a"]
        farm.harvested(How.OVERWRITE, to=f"{tmp_path}/{to}")
        assert titles_in(tmp_path / to) == ["a"]

    def test_a_file_without_rows_is_gone_on_with_whoever_made_it(self, farm: Farm, tmp_path: Path) -> None:
        farm.warc.response(URL, page("a"), NOON)
        (tmp_path / "rows.jsonl").touch()
        farm.harvested()
        assert farm.titles() == [("a", None)]

    def test_the_cursor_of_another_version_is_refused(self, farm: Farm, tmp_path: Path) -> None:
        farm.warc.response(URL, page("a"), NOON)
        farm.harvested()
        with closing(sqlite3.connect(tmp_path / "rows.jsonl.cursor")) as connection:
            connection.execute("UPDATE sqspider_made_with SET value = '2' WHERE name = 'version'")
            connection.commit()
        with pytest.raises(TableError, match="another version of sqspider: --overwrite"):
            farm.harvested()
        farm.harvested(How.OVERWRITE)
        assert farm.titles() == [("a", None)]

    def test_what_was_put_there_instead_is_not_cut_into(self, farm: Farm) -> None:
        farm.warc.response(URL, page("a"), NOON)
        farm.harvested()
        instead = "another line, longer than the row that was there" * 20
        farm.to.write_text(f"{instead}\n")
        with pytest.raises(TableError, match="somebody has changed it since"):
            farm.harvested()
        assert farm.to.read_text() == f"{instead}\n"

    def test_by_records_and_without_do_not_mix(self, known_farm: tuple[Farm, Known]) -> None:
        farm, frontier = known_farm
        frontier.finish({URL: outcome_of(farm.warc.response(URL, page("a"), NOON))})
        farm.harvested()
        with pytest.raises(TableError, match="made with other records"):
            farm.harvested(frontier=None)

    def test_rows_of_a_database_have_their_cursor_there(self, farm: Farm, tmp_path: Path) -> None:
        to = tmp_path / "rows.db"
        for _ in range(2):
            farm.warc.response(URL, page("a"), NOON)
            farm.harvested(to=str(to))
            farm.next_file()
        connection = sqlite3.connect(to)
        assert connection.execute("SELECT title FROM rows").fetchall() == [("a",), ("a",)]  # as in any format
        assert connection.execute("SELECT count(*) FROM sqspider_files WHERE is_done").fetchone() == (2,)
        connection.close()
        assert not to.with_name("rows.db.cursor").exists()

    def test_a_parquet_file_is_whole_or_not_there(self, farm: Farm, tmp_path: Path) -> None:
        import pyarrow.parquet

        farm.warc.response(URL, page("a"), NOON)
        to = tmp_path / "rows.parquet"
        farm.harvested(How.NEW, to=str(to))
        assert pyarrow.parquet.read_table(to)["title"].to_pylist() == ["a"]
        with pytest.raises(TableError):
            farm.harvested(How.NEW, to=str(to))
        farm.warc.write(farm.archive)
        other = tmp_path / "other.parquet"
        with Harvest(msgspec.structs.replace(farm.order, to=str(other)), forks=True) as harvest:
            harvest.stop()
            assert harvest.run().was_stopped
        assert not other.exists()


class TestTrouble:
    def test_damage_in_one_file_leaves_the_others(self, farm: Farm) -> None:
        for number in range(4):
            farm.warc.response(f"{URL}{number}", page(f"{number}"), NOON + number)
        end = farm.warc.places[2].offset
        farm.warc.content = farm.warc.content[:end] + b"\0" * 20 + farm.warc.content[end + 20 :]
        farm.warc.write(farm.archive)
        farm.next_file()
        farm.warc.response(f"{URL}9", page("9"), NOON)
        came = farm.harvested()
        assert list(came.damage) == ["1.warc.gz"]
        assert [title for title, _ in farm.titles()] == ["0", "1", "9"]
        assert farm.harvested().damage.keys() == {"1.warc.gz"}
        assert len(farm.rows()) == 3

    def test_a_page_that_kills_two_processes_has_a_row_that_says_so(
        self, farm: Farm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        log = tmp_path / "log"
        monkeypatch.setenv("KILLING_LOG", str(log))
        urls = [f"{URL}{number}" for number in range(150)]
        urls[70] = f"{URL}killer"
        for number, url in enumerate(urls):
            farm.warc.response(url, page(url), NOON + number)
        came = farm.harvested(rules=Rules(apply="tests.extract.killing:deadly"), processes=2)
        assert came.tally.errors == Counter({Trouble.KILLED: 1})
        rows = farm.rows()
        assert [row["url"] for row in rows] == urls
        assert [row["url"] for row in rows if row["seen"] is None] == [urls[70]]
        assert "died, twice" in rows[70]["error"]
        assert log.read_text().splitlines().count(urls[70]) == 2

    def test_a_file_that_vanishes_amid_is_taken_up_where_it_lies_now(self, farm: Farm) -> None:
        urls = [f"{URL}{number}" for number in range(200)]
        for number, url in enumerate(urls):
            farm.warc.response(url, page(url), NOON + number)
        farm.warc.write(farm.archive)
        Warc("2.warc.gz").write(farm.archive)
        packed: list[Packed] = []

        def pack_once(_: Came) -> None:
            if not packed:
                packed.append(pack(Folder(str(farm.archive)), None, clock=time.time, rng=random.Random(1)))

        with Harvest(farm.order, How.APPEND, forks=True, on_progress=pack_once) as harvest:
            came = harvest.run()
        assert packed[0].files == 2
        assert not came.damage
        assert sorted(row["url"] for row in farm.rows()) == sorted(urls)

    def test_a_file_that_is_packed_as_a_whole_is_one_task(self, farm: Farm) -> None:
        """Nobody can begin to read within a gzip member."""
        whole = Warc("whole.warc.gz", pack=bytes)
        urls = [f"{URL}{number}" for number in range(150)]
        for number, url in enumerate(urls):
            whole.response(url, page(url), NOON + number)
        (farm.archive / whole.name).write_bytes(gzip.compress(whole.content))
        farm.warc.response(f"{URL}last", page("last"), NOON)
        assert farm.harvested(processes=2).captures == 151
        assert sorted(row["url"] for row in farm.rows()) == sorted([*urls, f"{URL}last"])
        assert farm.harvested().captures == 0

    def test_a_file_that_kills_whoever_reads_it_ends_the_run(self, farm: Farm, monkeypatch: pytest.MonkeyPatch) -> None:
        """A row in its place does not help where it is not even to be read."""
        farm.warc.response(URL, page("a"), NOON)
        monkeypatch.setattr(Pool, "_start", started_to_die(Pool._start))
        with pytest.raises(PoolError, match=r"that read 1\.warc\.gz die, at offset"):
            farm.harvested()

    @pytest.mark.parametrize("fault", [IndexError("list index out of range"), ValueError("no"), MemoryError()])
    def test_a_fault_of_ours_at_a_page_costs_that_page(
        self, farm: Farm, monkeypatch: pytest.MonkeyPatch, fault: Exception
    ) -> None:
        rows = Extractor.rows

        def faulty(self: Extractor, document: Document) -> list[Row]:
            if document.url == f"{URL}2":
                raise fault
            return rows(self, document)

        monkeypatch.setattr(Extractor, "rows", faulty)  # its processes are forked from this one
        for number in range(4):
            farm.warc.response(f"{URL}{number}", page(f"{number}"), NOON + number)
        came = farm.harvested()
        assert [row["title"] for row in farm.rows()] == ["0", "1", None, "3"]
        assert farm.rows()[2]["error"].startswith(f"a fault of sqspider: {type(fault).__name__}")
        assert (came.tally.documents, came.tally.rows, dict(came.tally.errors)) == (4, 4, {"fault": 1})

    def test_processes_end_though_their_parent_was_killed_and_they_never_come_back(
        self, farm: Farm, tmp_path: Path
    ) -> None:
        for number in range(4):
            farm.warc.response(f"{URL}{number}", page("a"), NOON + number)
        farm.warc.write(farm.archive)
        program = (
            "import msgspec, sys\n"
            "from sqspider.extract.harvest import Harvest, Order\n"
            "with Harvest(msgspec.json.decode(sys.argv[1], type=Order), forks=True) as harvest: harvest.run()"
        )
        order = msgspec.structs.replace(farm.order, processes=2, rules=Rules(apply="tests.extract.killing:endless"))
        log = tmp_path / "log"
        process = subprocess.Popen(
            [sys.executable, "-c", program, msgspec.json.encode(order)],
            env={**os.environ, "KILLING_LOG": str(log)},
        )
        until = time.monotonic() + 60
        while not log.exists() or not log.read_text().endswith("\n"):
            assert time.monotonic() < until
            time.sleep(0.05)
        process.kill()
        process.wait()
        while Path(f"/proc/{int(log.read_text())}").exists():
            assert time.monotonic() < until
            time.sleep(0.05)
        with Harvest(farm.order, How.OVERWRITE, forks=True) as harvest:  # nobody has its lock
            assert harvest.run().tally.rows == 4

    def test_processes_end_with_their_harvest(self, farm: Farm) -> None:
        farm.warc.response(URL, page("a"), NOON)
        farm.warc.write(farm.archive)
        with Harvest(farm.order, How.APPEND, forks=True) as harvest:
            harvest.run()
            pids = [one.process.pid for one in harvest._pool._processes]
        for pid in pids:
            assert pid is not None
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
