"""The link table: what is kept of an archive, however often it is read, and wherever its reader dies."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sqspider.archive.reading import read_archive
from sqspider.cli.forking import can_fork
from sqspider.cli.links import _table
from sqspider.extract import link_keeping, link_working
from sqspider.extract.alone import alone
from sqspider.extract.document import Document
from sqspider.extract.link_keeping import Filling, LinkFileError, open_links
from sqspider.extract.link_queries import LinkTable
from sqspider.extract.link_table import VERSION
from sqspider.extract.linked_page import LinkedPage, linked_page, packed, unpacked
from sqspider.extract.pool import Pool
from sqspider.record import Reason
from tests.archive.warcs import LATER, Made, metadata, revisit
from tests.extract.linked import HTML, SITE, answer, site, write

NAV = "<a href=/>home</a><a href=/a>first</a><a href='/b#there'>second</a>"


def no_damage(why: str) -> None:
    raise AssertionError(why)


def filling(folder: Path, connection: sqlite3.Connection, on_damage: Callable[[str], None] = no_damage) -> Filling:
    """Fills the table that is open."""
    (path,) = [path for _, name, path in connection.execute("PRAGMA database_list") if name == "main"]
    return Filling(str(folder), Path(path), connection, processes=1, forks=can_fork(), on_damage=on_damage)


def read(folder: Path, file: Path | None = None) -> list[tuple[Any, ...]]:
    """All links, as they are in the table once the archive was read."""
    with open_links(file or folder / "links.db") as connection, filling(folder, connection) as it:
        it.read_new()
        return rows(connection)


def rows(connection: sqlite3.Connection) -> list[tuple[Any, ...]]:
    found = LinkTable(connection).all_links()
    return sorted((link.page, link.target, link.kind, link.text, link.fragment, link.http_status) for link in found)


def test_links_are_kept_with_what_is_written_at_them(tmp_path: Path) -> None:
    write(tmp_path, "a", site({"/": NAV, "/a": NAV + NAV}))
    assert read(tmp_path) == sorted(
        (f"{SITE}{page}", f"{SITE}{target}", "a", text, fragment, 200)
        for page in ("/", "/a")
        for target, text, fragment in (("/", "home", ""), ("/a", "first", ""), ("/b", "second", "there"))
    )


def test_of_a_page_the_latest_capture_counts(tmp_path: Path) -> None:
    new = answer(f"{SITE}/", "<a href=/new>new</a>", date=LATER)
    old = answer(f"{SITE}/", "<a href=/old>old</a>")
    for number, order in enumerate([(old, new), (new, old)]):
        folder = tmp_path / str(number)
        write(folder, "a", order[:1])  # read apart, and the later one first, too
        read(folder)
        write(folder, "b", order[1:])
        found = read(folder)
        assert found == [(f"{SITE}/", f"{SITE}/new", "a", "new", "", 200)]
        together = tmp_path / f"{number}-together"
        write(together, "a", order)
        assert read(together) == found


def test_a_capture_that_is_read_twice_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, "a", site({"/": NAV, "/a": NAV}))
    found = read(tmp_path)
    assert read(tmp_path) == found
    (tmp_path / "a.warc.gz").rename(tmp_path / "other.warc.gz")
    write(tmp_path, "a-copy", site({"/": NAV}))
    assert read(tmp_path) == found


def test_a_page_that_fails_later_has_no_links(tmp_path: Path) -> None:
    write(tmp_path, "a", [answer(f"{SITE}/", NAV), answer(f"{SITE}/", NAV, status=503, date=LATER)])
    assert read(tmp_path) == []


def test_what_was_answered_as_before_has_the_links_of_before(tmp_path: Path) -> None:
    page = answer(f"{SITE}/", NAV)
    file = write(tmp_path, "a", [page])
    found = read(tmp_path)
    write(tmp_path, "b", [revisit(page, f"{SITE}/")])
    file.unlink()  # so its original is not to be found
    assert read(tmp_path) == found
    with open_links(tmp_path / "links.db") as connection:
        known = LinkTable(connection).page(f"{SITE}/")
    assert known is not None
    assert (known.http_status, known.links) == (200, 3)
    assert known.at == 1_795_529_999  # of the later one


def test_a_page_with_the_content_of_another_has_its_own_links(tmp_path: Path) -> None:
    """Without an index: its original is looked for, also behind it."""
    page = answer(f"{SITE}/x/one", "<a href=more>more</a>")
    write(tmp_path, "a", [revisit(page, f"{SITE}/y/two"), page])
    assert [found[:2] for found in read(tmp_path)] == [
        (f"{SITE}/x/one", f"{SITE}/x/more"),
        (f"{SITE}/y/two", f"{SITE}/y/more"),
    ]


@pytest.mark.parametrize("is_later_first", [False, True])
def test_they_are_those_of_before_however_both_are_read(tmp_path: Path, is_later_first: bool) -> None:
    page = answer(f"{SITE}/", NAV)
    both = [page, revisit(page, f"{SITE}/")]
    both = both[::-1] if is_later_first else both
    together, apart = tmp_path / "together", tmp_path / "apart"
    write(together, "a", both)
    assert len(read(together)) == 3
    write(apart, "a", both[:1])
    read(apart)
    write(apart, "b", both[1:])
    assert len(read(apart)) == 3


def test_redirects_are_links(tmp_path: Path) -> None:
    moved = answer(f"{SITE}/old", "<a href=/not>no</a>", "Location: /new#place", HTML, status=301)
    nowhere = answer(f"{SITE}/bad", "", "Location: http://[", status=302)
    write(tmp_path, "a", [moved, nowhere])
    assert read(tmp_path) == [
        (f"{SITE}/bad", "http://[", "redirect", "", "", 302),
        (f"{SITE}/old", f"{SITE}/new", "redirect", "", "place", 301),
    ]


@pytest.mark.parametrize("way", ["M", "LMR"])
def test_what_a_sitemap_lists_are_links(tmp_path: Path, way: str) -> None:
    xml = f"<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'><url><loc>{SITE}/a</loc></url></urlset>"
    by_root = answer(f"{SITE}/sitemap.xml", xml, "Content-Type: application/xml")
    text = answer(f"{SITE}/list.txt", f"{SITE}/b\n", "Content-Type: text/plain")
    said = metadata(text)
    said = said.with_block(said.block.replace(b"hopsFromSeed: L", f"hopsFromSeed: {way}".encode()))
    write(tmp_path, "a", [by_root, text, said])
    assert [row[:3] for row in read(tmp_path)] == [
        (f"{SITE}/list.txt", f"{SITE}/b", "sitemap"),
        (f"{SITE}/sitemap.xml", f"{SITE}/a", "sitemap"),
    ]


@pytest.mark.parametrize("way", ["LP", "LPR", "PRR"])
def test_what_was_asked_for_by_the_way_is_left_out(tmp_path: Path, way: str) -> None:
    robots = answer(f"{SITE}/robots.txt", "<a href=/x>x</a>")
    said = metadata(robots)
    write(
        tmp_path,
        "a",
        [robots, said.with_block(said.block.replace(b"hopsFromSeed: L", f"hopsFromSeed: {way}".encode()))],
    )
    assert read(tmp_path) == []
    with open_links(tmp_path / "links.db") as connection:
        assert LinkTable(connection).counts() == (0, 0)


def test_who_keeps_up_reads_as_it_is_written_and_leaves_nothing(tmp_path: Path) -> None:
    looks = 0

    def is_over() -> bool:
        nonlocal looks
        looks += 1
        if looks == 2:  # before, there was no archive
            write(tmp_path, "a", site({"/": NAV}))
        elif looks == 3:
            write(tmp_path, "b", site({"/a": NAV}))
        return looks == 4

    with open_links(tmp_path / "links.db") as connection, filling(tmp_path, connection) as it:
        it.keep_up(is_over)
        assert {page for page, *_ in rows(connection)} == {f"{SITE}/", f"{SITE}/a"}
        with filling(tmp_path, connection) as again:
            assert again.read_new() == 0
        assert LinkTable(connection).count_to(f"{SITE}/b") == 2


@pytest.mark.parametrize(
    ("spoil", "advice"),
    [
        (lambda file: file.write_bytes(b"x" * 100 + file.read_bytes()[100:]), "remove it"),
        (lambda file: file.write_bytes(file.read_bytes()[:4096]), "remove it"),
    ],
)
def test_what_is_damaged_is_said_with_what_to_do(spoil: Callable[[Path], object], advice: str, tmp_path: Path) -> None:
    write(tmp_path, "a", site({"/": NAV}))
    read(tmp_path)
    spoil(tmp_path / "links.db")
    with pytest.raises(LinkFileError, match=advice):
        read(tmp_path)


def test_a_full_disk_is_not_called_damage(tmp_path: Path) -> None:
    write(tmp_path, "a", site({"/": NAV}))
    with pytest.raises(LinkFileError, match=r"full: make room there$"):
        _fill(tmp_path / "links.db")


def _fill(file: Path) -> None:
    with open_links(file) as connection:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        connection.execute("CREATE TABLE more (x)")


def test_the_title_of_a_page_is_the_one_that_extract_has_and_no_drawing_s(tmp_path: Path) -> None:
    drawn = "<body><svg><title>menu</title></svg><template><title>later</title></template>"
    write(tmp_path, "a", site({"/": drawn, "/a": f"{drawn}<title>A  title</title>"}))
    read(tmp_path)
    with open_links(tmp_path / "links.db") as connection:
        pages = [LinkTable(connection).page(f"{SITE}{path}") for path in ("/", "/a")]
    assert [page and page.title for page in pages] == ["", "A title"]


def test_what_is_no_url_is_kept_as_it_is_written(tmp_path: Path) -> None:
    write(tmp_path, "a", site({"/": "<a href='http://['>x</a><a href='mailto:a@b.c'>m</a><a href='htp://x/'>s</a>"}))
    read(tmp_path)
    with open_links(tmp_path / "links.db") as connection:
        assert list(LinkTable(connection).refused()) == [
            ("htp://x/", Reason.BAD_SCHEME), ("mailto:a@b.c", Reason.BAD_SCHEME), ("http://[", Reason.BAD_URL),
        ]  # fmt: skip


def test_texts_of_every_kind_are_kept(tmp_path: Path) -> None:
    texts = ["ä € 😀", "&#0;", "&#xd800;", "a\x07b", "'\"", "\u202e", "\ud800"]
    html = b"".join(b"<a href=/x>" + text.encode("utf-8", "surrogatepass") + b"</a>" for text in texts)
    write(tmp_path, "a", [answer(f"{SITE}/", html)])
    found = [row[3] for row in read(tmp_path)]
    assert len(found) == len(set(found)) == 6  # of two that are the same one is kept
    assert {"ä € 😀", "\ufffd", "'\"", "\u202e"} <= set(found)


def test_names_of_places_are_packed_and_come_back() -> None:
    assert unpacked(packed(["b", "a", "", "b", "ä\ufffd"])) == {"a", "b", "ä\ufffd"}
    assert "" not in unpacked(packed(["a"]))


def captures(first: int, last: int) -> Iterator[Made]:
    for number in range(first, last):
        yield answer(f"{SITE}/{number}", "".join(f"<a href=/{number + step}>{step}</a>" for step in range(4)))


@pytest.mark.parametrize("first", range(8))
def test_whoever_is_killed_while_reading_leaves_what_the_next_goes_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Killed before each statement of a reading, in turn: eight tests have an eighth of them each."""
    monkeypatch.setattr(link_keeping, "BATCH_PAGES", 2)
    same = answer(f"{SITE}/same", NAV)
    write(tmp_path, "a", [*captures(0, 3), revisit(same, f"{SITE}/as/same")])
    write(tmp_path, "b", [*captures(4, 5), same])
    whole = read(tmp_path, tmp_path / "whole.db")
    database = tmp_path / "killed.db"
    for statement in range(first, 400, 8):
        died = killed_before(statement, tmp_path, database)
        with closing(sqlite3.connect(database)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert read(tmp_path, database) == whole
        for file in tmp_path.glob("killed.db*"):
            file.unlink()
        if not died:
            return
    pytest.fail("it has more statements")


def killed_before(statement: int, folder: Path, database: Path) -> bool:
    """A process that reads, and is killed before its n-th statement; whether it came so far."""
    child = os.fork()
    if child == 0:
        left = iter(range(statement))

        def die(_: str) -> None:
            if next(left, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            with open_links(database) as connection, filling(folder, connection) as it:
                connection.set_trace_callback(die)
                it.read_new()
        finally:
            os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_a_page_that_kills_two_processes_is_told_and_the_others_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "a", site({"/": NAV, "/killer": NAV, "/b": NAV}))
    begun: list[int] = []
    start = Pool._start

    def started(self: Pool[Any], context: Any, slot: int) -> None:
        start(self, context, slot)
        process = self._processes[-1].process
        assert process.pid is not None
        begun.append(process.pid)
        if len(begun) <= 2:  # it dies at the second capture of the first task
            os.kill(process.pid, signal.SIGKILL)
            self._at[slot] = 1

    monkeypatch.setattr(Pool, "_start", started)
    told: list[str] = []
    with open_links(tmp_path / "links.db") as connection, filling(tmp_path, connection, told.append) as it:
        assert it.read_new() == 3
        assert {page for page, *_ in rows(connection)} == {f"{SITE}/", f"{SITE}/b"}
    assert len(begun) == 3
    assert told == [f"{SITE}/killer: its links are not known: two processes died that read it"]


def test_a_fault_of_ours_costs_one_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(document: Document) -> LinkedPage | None:
        if document.url == f"{SITE}/a":
            raise ValueError("something that nobody thought of")
        return linked_page(document)

    monkeypatch.setattr(link_working, "linked_page", faulty)
    write(tmp_path, "a", site({"/": NAV, "/a": NAV, "/b": NAV}))
    told: list[str] = []
    with open_links(tmp_path / "links.db") as connection, filling(tmp_path, connection, told.append) as it:
        assert it.read_new() == 3
        assert {page for page, *_ in rows(connection)} == {f"{SITE}/", f"{SITE}/b"}
    assert told == [
        f"{SITE}/a: its links are not known: a fault of sqspider: ValueError: something that nobody thought of"
    ]


def test_whoever_comes_second_waits_and_says_so(tmp_path: Path) -> None:
    write(tmp_path, "a", captures(0, 20))
    whole = read(tmp_path, tmp_path / "whole.db")
    command = [sys.executable, "-m", "sqspider", "links", "--archive", str(tmp_path)]
    with alone(str(tmp_path / "links.db")):
        two = [
            subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) for _ in range(2)
        ]
        for each in two:
            assert each.stderr is not None
            assert each.stderr.readline() == f"waiting for who else reads into {tmp_path / 'links.db'}\n"
        assert not (tmp_path / "links.db").exists() or read_only_count(tmp_path / "links.db") == 0
    assert [each.wait() for each in two] == [0, 0]
    assert sum("20 captures read" in each.communicate()[1] for each in two) == 1
    assert read(tmp_path) == whole
    assert not list(tmp_path.glob("*.lock"))


def read_only_count(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        (number,) = connection.execute("SELECT count(*) FROM pages").fetchone()
        return int(number)


def test_a_table_that_somebody_else_makes_meanwhile_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, is_prepared = tmp_path / "links.db", link_keeping._is_prepared
    looks = iter([True])

    def looked(connection: sqlite3.Connection, file: Path) -> bool:
        was = is_prepared(connection, file)
        if next(looks, False):
            with open_links(path):
                pass
        return was

    monkeypatch.setattr(link_keeping, "_is_prepared", looked)
    with open_links(path) as connection:
        assert rows(connection) == []


def test_whoever_keeps_up_lets_others_read_first(tmp_path: Path) -> None:
    write(tmp_path, "a", site({"/": NAV}))
    path = tmp_path / "links.db"
    rounds = iter(range(3))
    with open_links(path) as connection, filling(tmp_path, connection) as it:
        with alone(str(path)):
            it.keep_up(lambda: next(rounds, None) is None)
        assert rows(connection) == []
        more = iter(range(1))
        it.keep_up(lambda: next(more, None) is None)
        assert len(rows(connection)) == 3


def test_an_answer_is_of_one_moment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a", site({"/": NAV}))
    with _table(str(tmp_path), None, 1, tells=False) as (table, is_whole):
        before = table.counts()
        write(tmp_path, "b", site({"/a": NAV}))
        assert len(read(tmp_path)) == 6
        assert table.counts() == before == (1, 3)
    assert is_whole
    assert capsys.readouterr().err == ""


def test_a_damaged_file_is_told_once_and_the_others_are_read(tmp_path: Path) -> None:
    write(tmp_path, "a", site({"/": NAV}))
    spoilt = write(tmp_path, "b", site({"/b": NAV, "/c": NAV}))
    spoilt.write_bytes(spoilt.read_bytes()[:-200] + b"spoilt" * 30)
    write(tmp_path, "c", site({"/d": NAV}))
    told: list[str] = []
    with open_links(tmp_path / "links.db") as connection, filling(tmp_path, connection, told.append) as it:
        it.read_new()
        assert {row[0] for row in rows(connection)} >= {f"{SITE}/", f"{SITE}/d"}
    assert len(told) == 1


def test_a_file_that_is_no_link_table_is_refused(tmp_path: Path) -> None:
    for name, version in (("other.db", 0), ("same.db", VERSION), ("later.db", VERSION + 1)):
        with closing(sqlite3.connect(tmp_path / name)) as connection:
            connection.execute("CREATE TABLE mine (x)")
            connection.execute(f"PRAGMA user_version = {version}")
    (tmp_path / "text.db").write_bytes(b"not a database, but a text that is long enough" * 9)
    for name in ("other.db", "same.db", "later.db", "text.db"):
        before = (tmp_path / name).read_bytes()
        with pytest.raises(LinkFileError, match=f"{name}.*: say --links FILE") as refused, open_links(tmp_path / name):
            pass
        assert "remove it" not in str(refused.value).partition("if it was a link table")[0]  # it may be all one has
        assert (tmp_path / name).read_bytes() == before
    with pytest.raises(LinkFileError, match="--links FILE"), open_links(tmp_path / "no" / "links.db"):
        pass


@pytest.mark.parametrize("version", [VERSION - 1, VERSION + 1])
def test_a_link_table_of_another_version_is_called_that(version: int, tmp_path: Path) -> None:
    write(tmp_path, "a", site({"/": NAV}))
    before = read(tmp_path)
    with closing(sqlite3.connect(tmp_path / "links.db")) as connection:
        connection.execute(f"PRAGMA user_version = {version}")
    with pytest.raises(LinkFileError, match=r"of another version.*remove it, and it is made anew"):
        read(tmp_path)
    (tmp_path / "links.db").unlink()
    assert read(tmp_path) == before


def test_the_table_is_its_owners_alone(tmp_path: Path) -> None:
    write(tmp_path, "a", site({"/": NAV}))
    read(tmp_path)
    assert (tmp_path / "links.db").stat().st_mode & 0o777 == 0o600


def test_people_can_read_it_with_any_sqlite(tmp_path: Path) -> None:
    write(tmp_path, "a", site({"/": NAV}))
    read(tmp_path)
    with closing(sqlite3.connect(tmp_path / "links.db")) as connection:
        found = connection.execute(
            "SELECT page, target, kind, text, fragment FROM all_links ORDER BY target"
        ).fetchall()
    assert found[-1] == (f"{SITE}/", f"{SITE}/b", "a", "second", "there")


def test_a_link_takes_few_bytes(tmp_path: Path) -> None:
    """As on pages of a site with a menu of fifty links: URLs and texts are kept once."""
    menu = "".join(f"<a href='/section/{number}/index.html'>Section number {number}</a>" for number in range(50))
    write(tmp_path, "a", site({f"/page/{number}.html": menu for number in range(400)}))
    assert len(read(tmp_path)) == 20_000
    assert (tmp_path / "links.db").stat().st_size < 48 * 20_000


def test_only_what_can_have_links_is_decoded(tmp_path: Path) -> None:
    broken = ("Content-Type: application/pdf", "Content-Encoding: gzip")
    write(tmp_path, "a", [answer(f"{SITE}/a.pdf", b"no gzip", *broken)])
    (captured,) = read_archive(str(tmp_path))
    page = linked_page(Document(captured))
    assert page is not None
    assert (page.http_status, page.media_type, page.links) == (200, "application/pdf", ())
