"""What has not changed has the links of what it is the same as, at its own URL, in whatever order all of it is read."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sqspider.archive.folder import Folder
from sqspider.archive.pack import pack
from sqspider.archive.reading import read_archive
from sqspider.cli.forking import can_fork
from sqspider.extract.link_keeping import Filling, open_links
from sqspider.extract.link_queries import LinkTable
from sqspider.record import CapturePlace
from tests.archive.small_warcs import NOON, Warc
from tests.archive.warcs import revisit
from tests.conftest import Run
from tests.extract.linked import SITE, answer, write
from tests.sites import Answer, Asked, Site

CRAWL = ("--allow-private", "--allow-any-port", "--delay", "0", "--depth", "0", "--quiet")
PAGES = {name: f"<title>{name}</title><a href={name}>{name}</a>{'words ' * 300}".encode() for name in "AB"}

Rows = list[tuple[str, str, str, str]]


def said(folder: Path, table: str = "links.db", processes: int | None = 1) -> tuple[Rows, int]:
    """All links once all was read, each with the title of its page; and how many pages have none that are known."""
    path = folder / table
    with (
        open_links(path) as connection,
        Filling(str(folder), path, connection, processes=processes, forks=can_fork(), on_damage=pytest.fail) as filling,
    ):
        filling.read_new()
        links = LinkTable(connection)
        titles = {page.url: page.title for page in links.pages_by_status(0, 999)}
        rows = [(link.page, link.target, link.kind, titles[link.page]) for link in links.all_links()]
        return sorted(rows), links.unread()


def anew(folder: Path) -> tuple[Rows, int]:
    """The same of a table that is made of it now, by this process alone."""
    found = said(folder, "anew.db", None)
    for file in folder.glob("anew.db*"):
        file.unlink()
    return found


@pytest.fixture
def site() -> Iterator[Site]:
    server = Site()
    server.bodies["/robots.txt"] = b""
    yield server
    server.close()


def test_a_page_that_is_again_what_it_was_has_its_links_of_then(sqspider: Run, site: Site, tmp_path: Path) -> None:
    """And so has another URL that answers the same. Asked between the visits as well as at the end."""
    home, copy = site.url, f"{site.url}dir/copy"
    archive = tmp_path / "sqspider-archive"

    def links(*arguments: str) -> dict[str, list[str]]:
        told = {}
        for url in (home, copy):
            done = sqspider("links", "--from", url, "--json", *arguments)
            told[url] = [json.loads(line)["to"] for line in done.stdout.splitlines()]
        return told

    def crawled(page: str, *more: str) -> dict[str, list[str]]:
        site.bodies["/"] = PAGES[page]
        done = sqspider("crawl", *more, home, *CRAWL, "--again", "--concurrency", "1")
        assert done.returncode == 0, done.stderr
        found = links()
        assert found == links("--links", str(tmp_path / f"anew-{len(site.requests)}.db"))
        return found

    site.bodies["/dir/copy"] = PAGES["A"]
    assert crawled("A") == {home: [f"{site.url}A"], copy: []}
    assert crawled("B") == {home: [f"{site.url}B"], copy: []}
    both = {home: [f"{site.url}A"], copy: [f"{site.url}dir/A"]}
    assert crawled("A", copy) == both  # one of the two refers to the other
    assert [captured.kind for captured in read_archive(str(archive)) if captured.url in both].count("revisit") == 1
    assert crawled("A", copy) == both  # and now each to what it was before


def test_what_has_not_changed_has_the_links_of_what_it_means(sqspider: Run, site: Site, tmp_path: Path) -> None:
    page = PAGES["A"]

    def answer(asked: Asked) -> Answer:
        tag = '"as it is"'
        if asked.headers["If-None-Match"] == tag:
            return 304, {}
        return 200, {"Content-Type": "text/html", "ETag": tag}, page

    site.bodies["/"] = answer
    for _ in range(2):
        assert sqspider("crawl", site.url, *CRAWL, "--again").returncode == 0
    (tmp_path / "sqspider-archive/links.db").unlink(missing_ok=True)
    kinds = [captured.kind for captured in read_archive(str(tmp_path / "sqspider-archive")) if captured.url == site.url]
    assert sorted(kinds) == ["response", "revisit"]  # two files of one second lie in any order
    expected = ([(site.url, f"{site.url}A", "a", "A")], 0)
    assert said(tmp_path / "sqspider-archive") == expected


class History:
    """Some URLs that answer now this, now that, and what is written of it: as crawlers do, into several files."""

    URLS = ("http://a.test/", "http://a.test/dir/", "http://b.test/x/y")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._names = [f"{number:03}.warc.gz" for number in range(200)]
        rng.shuffle(self._names)
        self.files = [self._next_file() for _ in range(3)]
        self._bodies: dict[str, tuple[CapturePlace, str]] = {}  # where each lies, and of which URL
        self._last: dict[str, str] = {}  # which each URL answered
        self._at = NOON

    def _next_file(self) -> Warc:
        return Warc(self._names.pop())

    def go_on(self) -> None:
        """A capture more."""
        url, name, file = self._rng.choice(self.URLS), self._rng.choice("AB"), self._rng.choice(self.files)
        self._at += 1
        known = self._bodies.get(name)
        if known is None or self._rng.random() < 0.2:
            self._bodies[name] = file.response(url, PAGES[name], self._at), url
        else:
            place, of = known
            is_unchanged = of == url and self._rng.random() < 0.5
            file.revisit(url, place, self._at, of=of, unchanged=is_unchanged)
        self._last[url] = name

    def write(self, folder: Path) -> None:
        """All that there is; some files are whole, and others are begun in their place."""
        for number, file in enumerate(self.files):
            is_over = self._rng.random() < 0.3
            (folder / f"{file.name}.open").unlink(missing_ok=True)
            file.write(folder, is_open=not is_over)
            if is_over:
                self.files[number] = self._next_file()

    def end(self, folder: Path) -> None:
        for file in self.files:
            (folder / f"{file.name}.open").unlink(missing_ok=True)
            file.write(folder)

    def expected(self) -> tuple[Rows, int]:
        rows = [(url, url.rpartition("/")[0] + f"/{name}", "a", name) for url, name in self._last.items()]
        return sorted(rows), 0


@pytest.mark.parametrize("seed", range(12))
def test_a_table_that_is_read_in_steps_is_the_one_that_is_read_at_once(seed: int, tmp_path: Path) -> None:
    """Of random histories, with files that are read before those that they refer to, and packed in between."""
    rng = random.Random(seed)
    history = History(rng)
    for _ in range(5):
        for _ in range(rng.randrange(1, 6)):
            history.go_on()
        history.write(tmp_path)
        if rng.random() < 0.7:
            assert said(tmp_path) == anew(tmp_path)
        if rng.random() < 0.3:
            pack(Folder(str(tmp_path)), None, clock=time.time, rng=rng)
    history.end(tmp_path)
    assert said(tmp_path) == anew(tmp_path) == history.expected()


def test_of_many_visits_that_changed_nothing_the_last_says_when(tmp_path: Path) -> None:
    warc = Warc("1.warc.gz")
    place = warc.response("http://a.test/", PAGES["A"], NOON)
    for visit in range(1, 10):
        warc.revisit("http://a.test/", place, NOON + visit)
    warc.write(tmp_path)
    said(tmp_path)
    with open_links(tmp_path / "links.db") as connection:
        known = LinkTable(connection).page("http://a.test/")
    assert known is not None
    assert (known.at, known.links) == (NOON + 9, 1)


def test_a_304_has_what_its_own_original_says_of_the_body(tmp_path: Path) -> None:
    """Another capture with the same body calls it a text, in which nobody looks for links."""
    warc = Warc("1.warc.gz")
    warc.response("http://a.test/text", PAGES["A"], NOON, kind="text/plain")
    place = warc.response("http://a.test/", PAGES["A"], NOON + 1)
    warc.response("http://a.test/more", PAGES["A"], NOON + 2, kind="text/plain")
    warc.response("http://a.test/", PAGES["B"], NOON + 3)
    warc.revisit("http://a.test/", place, NOON + 4, unchanged=True)
    warc.write(tmp_path)
    assert said(tmp_path) == anew(tmp_path) == ([("http://a.test/", "http://a.test/A", "a", "A")], 0)


def test_one_that_says_nothing_of_its_body_is_found_by_what_else_it_says(tmp_path: Path) -> None:
    first = answer(f"{SITE}/", "<a href=first>first</a>")
    again = answer(f"{SITE}/", "<a href=second>second</a>", date="2026-11-24T12:00:01Z")
    same = revisit(first, f"{SITE}/").set("WARC-Payload-Digest")
    write(tmp_path, "a", [first, again, same])
    assert said(tmp_path) == anew(tmp_path) == ([(f"{SITE}/", f"{SITE}/first", "a", "")], 0)
