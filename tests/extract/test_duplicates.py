"""Which pages are alike: by their digests, and by their fingerprints."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqspider.extract.duplicates import Answer, Content, Duplicates
from sqspider.extract.simhash import BITS, LEAST_WORDS, MOST_DISTANCE, fingerprint, masks
from sqspider.record import CapturePlace
from tests.archive import warcs
from tests.conftest import Run
from tests.extract import common_crawl
from tests.sites import Site

ALL = (1 << BITS) - 1
WORDS = [f"word{number}" for number in range(2000)]


def place(number: int) -> CapturePlace:
    return CapturePlace("a.warc.gz", number, 1, "A" * 32, 1.0)


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def groups_of(found: Duplicates) -> list[list[str]]:
    return [[page.url for page in group.pages] for group in found.groups()]


def grouped(fingerprints: Iterable[int | None], most: int) -> set[frozenset[int]]:
    """Numbers of fingerprints that are in a group, as they were told."""
    known = list(fingerprints)
    with Duplicates() as found:
        found.add(Answer(str(number), "default", digest(number), place(number)) for number in range(len(known)))
        found.group_near(most, lambda url, _: Content(None, known[int(url)]))
        return {frozenset(map(int, group)) for group in groups_of(found)}


def expected(fingerprints: list[int], most: int) -> set[frozenset[int]]:
    """The same by comparing all with all."""
    sets = {number: {number} for number in range(len(fingerprints))}
    for one, other in combinations(range(len(fingerprints)), 2):
        if (fingerprints[one] ^ fingerprints[other]).bit_count() <= most and sets[one] is not sets[other]:
            sets[one] |= sets[other]
            for number in sets[other]:
                sets[number] = sets[one]
    return {frozenset(each) for each in sets.values() if len(each) > 1}


def test_pages_with_the_same_digest_are_a_group_and_the_largest_is_first() -> None:
    with Duplicates() as found:
        pages = [("/c", 1), ("/longer", 2), ("/a", 2), ("/b", 2), ("/d", 1), ("/alone", 3)]
        found.add(Answer(url, "default", digest(number), None) for url, number in pages)
        found.group_same()
        assert groups_of(found) == [["/a", "/b", "/longer"], ["/c", "/d"]]


def test_the_page_that_is_meant_is_the_first_of_its_group() -> None:
    canonicals = {"/a": "/canonical", "/canonical": "/canonical", "/bb": None}
    with Duplicates() as found:
        found.add(Answer(url, "default", digest(number), place(number)) for number, url in enumerate(canonicals))
        found.group_near(3, lambda url, _: Content(canonicals[url], 7))
        (group,) = found.groups()
        told = [(page.url, page.canonical) for page in group.pages]
        assert told == [("/canonical", "/canonical"), ("/a", "/canonical"), ("/bb", None)]


def test_a_content_is_read_once_in_the_order_of_the_archive_and_only_where_it_is_asked_for() -> None:
    read: list[int] = []

    def reads(_: str, at: CapturePlace) -> Content:
        read.append(at.offset)
        return Content(None, None)

    offsets = [70_000, 5, 300, 5_000_000_000, 128]
    with Duplicates() as found:
        for url, offset in [*((f"/{at}", at) for at in offsets), ("/twice", 300)]:
            found.add([Answer(url, "default", digest(offset), place(offset))])
        found.group_same(reads)
        assert read == [300]
    read.clear()
    with Duplicates() as found:
        found.add(Answer(f"/{at}", "default", digest(at), place(at)) for at in offsets)
        found.group_near(3, reads)
        assert read == sorted(offsets)
        assert groups_of(found) == []  # what has no fingerprint is like nothing


@pytest.mark.parametrize("most", range(MOST_DISTANCE + 1))
def test_two_fingerprints_that_differ_in_so_many_bits_agree_in_a_mask(most: int) -> None:
    chance = random.Random(most)
    of_all = list(masks(most))
    for _ in range(2000):
        differing = sum(1 << bit for bit in chance.sample(range(BITS), most))
        assert any(differing & mask == 0 for mask in of_all)


@settings(deadline=None, max_examples=60)
@given(st.data(), st.integers(0, MOST_DISTANCE))
def test_near_fingerprints_are_found_as_by_comparing_all_with_all(data: st.DataObject, most: int) -> None:
    seeds = data.draw(st.lists(st.integers(0, ALL), min_size=1, max_size=4))
    flips = st.tuples(st.sampled_from(seeds), st.lists(st.integers(0, BITS - 1), max_size=8))
    known = [seed ^ sum({1 << bit for bit in bits}) for seed, bits in data.draw(st.lists(flips, max_size=30))]
    assert grouped(known, most) == expected(known, most)


def test_distances_are_told_from_the_first_of_a_group() -> None:
    with Duplicates() as found:
        known = [1 << 63, 1 << 63 | 1, 0]
        found.add(Answer(f"/{number}", "default", digest(number), place(number)) for number in range(3))
        found.group_near(1, lambda url, _: Content(None, known[int(url[1:])]))
        (group,) = found.groups()
        assert [(page.url, page.distance) for page in group.pages] == [("/0", 0), ("/1", 1), ("/2", 1)]


def text(chance: random.Random, words: int) -> list[str]:
    return chance.choices(WORDS, k=words)


def test_a_word_more_or_less_turns_few_bits_and_another_text_turns_half_of_them() -> None:
    chance = random.Random(7)
    for _ in range(50):
        words = text(chance, 1000)
        original = fingerprint(" ".join(words))
        words[chance.randrange(1000)] = "changed"
        changed = fingerprint(" ".join(words))
        other = fingerprint(" ".join(text(chance, 1000)))
        assert original is not None
        assert changed is not None
        assert other is not None
        assert (original ^ changed).bit_count() <= MOST_DISTANCE
        assert (original ^ other).bit_count() > 12


def test_a_text_of_few_words_has_no_fingerprint_and_blanks_and_case_make_no_difference() -> None:
    words = WORDS[:LEAST_WORDS]
    assert fingerprint(" ".join(words[:-1])) is None
    assert fingerprint("") is None
    assert fingerprint(" ".join(words)) == fingerprint("\n".join(words).upper()) is not None
    assert fingerprint("\u4f60\u597d\u5417" * LEAST_WORDS) is not None  # no blanks stand between these words


PROSE = " ".join(
    f"Sentence {number} of the story tells how the {WORDS[number]} met another {WORDS[number * 7]}."
    for number in range(1, 120)
)
MENU = "".join(
    f"<li><a href=/{name}>Go to page {name}</a>" for name in ("a", "b", "c", "d", "other", "moved", "moved-too")
)


def page(main: str, menu: str = MENU, canonical: str = "") -> bytes:
    link = f"<link rel=canonical href={canonical}>" if canonical else ""
    return f"<title>t</title>{link}<nav><ul>{menu}</ul></nav><main><h1>Story</h1><p>{main}</p></main>".encode()


@pytest.fixture
def site() -> Iterator[Site]:
    """A crawl of a site with pages that are alike: /b is /a with a word more, /c with another menu; /d is /a; /other is not."""
    site = Site()
    try:
        other = " ".join(f"Nothing of that: {WORDS[number * 3]} and {WORDS[number + 500]}." for number in range(100))
        site.bodies = {
            "/": page("The beginning"),
            "/a": page(PROSE, canonical="/a"),
            "/b": page(f"{PROSE} Today.", canonical="/a"),
            "/c": page(PROSE, f"{MENU}<li>News of today"),
            "/d": page(PROSE, canonical="/a"),
            "/other": page(other),
            "/moved": (301, {"Location": "/a"}),
            "/moved-too": (301, {"Location": "/a"}),
        }
        site.with_bytes = {"ETag": '"1"'}
        yield site
    finally:
        site.close()


@pytest.fixture
def crawled(sqspider: Run, site: Site) -> Run:
    """That site has been crawled."""
    ran = sqspider("crawl", site.url, "--allow-private", "--delay", "0")
    assert ran.returncode == 0, ran.stderr
    return sqspider


def members(line: str) -> list[tuple[str, bool]]:
    """Paths of a group, and whether each says that /a is meant."""
    told = json.loads(line)
    assert told["pages"] == len(told["members"])
    return [(each["url"].rpartition("/")[2], (each["canonical"] or "").endswith("/a")) for each in told["members"]]


def test_duplicates_of_a_crawl_are_told_with_the_url_that_is_meant(crawled: Run) -> None:
    ran = crawled("duplicates", "--json")
    assert ran.returncode == 0, ran.stderr
    (line,) = ran.stdout.splitlines()
    assert members(line) == [("a", True), ("d", True)]
    shown = crawled("duplicates").stdout
    assert "2 pages, the same content" in shown
    assert "1 group with 2 pages" in shown


def test_near_duplicates_of_a_crawl_are_told(crawled: Run, tmp_path: Path) -> None:
    ran = crawled("duplicates", "--near", "--json")
    assert ran.returncode == 0, ran.stderr
    (line,) = ran.stdout.splitlines()
    assert members(line) == [("a", True), ("b", True), ("c", False), ("d", True)]
    assert json.loads(line)["contents"] == 3
    ran = crawled("duplicates", "--near", "--to", "near.csv")
    assert ran.returncode == 0, ran.stderr
    head, *rows = (tmp_path / "near.csv").read_text().splitlines()
    assert head == "group,pages,url,crawl,canonical,distance,digest"
    assert len(rows) == 4
    again = crawled("duplicates", "--to", "near.csv")
    assert (again.returncode, again.stdout) == (2, "")
    assert "near.csv is there already: --overwrite replaces it." in again.stderr
    assert crawled("duplicates", "--output", "near.xlsx").returncode == 2


def test_pages_that_have_not_changed_since_are_told_by_what_they_were(crawled: Run, site: Site) -> None:
    before = crawled("duplicates", "--near", "--json").stdout
    site.bodies = {path: (304, {}) for path, body in site.bodies.items() if isinstance(body, bytes)}
    ran = crawled("crawl", site.url, "--again", "--allow-private", "--delay", "0")
    assert ran.returncode == 0, ran.stderr
    again = crawled("duplicates", "--near", "--json")
    assert (again.returncode, again.stdout) == (0, before), again.stderr


def test_without_its_archive_what_is_the_same_is_told_and_what_is_near_is_not(crawled: Run, tmp_path: Path) -> None:
    (tmp_path / "sqspider-archive").rename(tmp_path / "elsewhere")
    ran = crawled("duplicates", "--json")
    assert ran.returncode == 0, ran.stderr
    assert members(ran.stdout) == [("a", False), ("d", False)]
    assert crawled("duplicates", "--near").returncode == 2
    ran = crawled("duplicates", "--near", "--json", "--archive", "elsewhere")
    assert len(members(ran.stdout)) == 4


def test_what_cannot_be_read_is_told_and_the_rest_is_compared(crawled: Run, tmp_path: Path) -> None:
    (file,) = (tmp_path / "sqspider-archive").glob("*.warc.gz")
    with file.open("r+b") as damaged:
        damaged.truncate(file.stat().st_size // 2)
    ran = crawled("duplicates", "--near", "--json")
    assert ran.returncode == 1
    assert "pages that cannot be read: " in ran.stderr


def test_an_archive_and_a_bare_file_are_compared_as_the_frontier_is(crawled: Run, tmp_path: Path) -> None:
    (file,) = (tmp_path / "sqspider-archive").glob("*.warc.gz")
    alone = tmp_path / "elsewhere" / "alone.warc.gz"
    alone.parent.mkdir()
    alone.write_bytes(file.read_bytes())
    (tmp_path / "sqspider.db").rename(tmp_path / "elsewhere" / "sqspider.db")
    for options in (["--json"], ["--near", "--json"]):
        known = crawled(
            "--frontier", "sqlite:elsewhere/sqspider.db", "duplicates", "--archive", "sqspider-archive", *options
        )
        assert known.stdout.count("url"), known.stderr
        for source in ("sqspider-archive", str(alone)):
            ran = crawled("duplicates", source, *options)
            assert ran.returncode == 0, ran.stderr
            assert members(ran.stdout) == members(known.stdout)
    assert not (tmp_path / "sqspider.db").exists()


def test_of_a_url_the_last_answer_of_an_archive_counts(crawled: Run, site: Site) -> None:
    site.bodies["/d"] = page("Another story now")
    site.with_bytes = {"ETag": '"2"'}
    assert crawled("crawl", site.url, "--again", "--allow-private", "--delay", "0").returncode == 0
    ran = crawled("duplicates", "sqspider-archive")
    assert (ran.returncode, ran.stdout) == (0, "no duplicates\n"), ran.stderr
    ran = crawled("duplicates", "sqspider-archive", "--near", "--json")
    assert members(ran.stdout) == [("a", True), ("b", True), ("c", False)], ran.stderr


@pytest.mark.parametrize("is_later_first", [True, False])
def test_which_answer_is_the_last_is_said_by_its_date(sqspider: Run, tmp_path: Path, *, is_later_first: bool) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
    answers = [
        warcs.response("https://site.example/1", head + page("changed"), date=warcs.LATER),
        warcs.response("https://site.example/1", head + page("before")),
    ]
    other = warcs.response("https://site.example/2", head + page("changed"))
    records = [*(answers if is_later_first else reversed(answers)), other]
    (tmp_path / "a.warc.gz").write_bytes(warcs.packed(records))
    ran = sqspider("duplicates", "a.warc.gz", "--json")
    assert [each["url"][-1] for each in json.loads(ran.stdout)["members"]] == ["1", "2"], ran.stderr


def test_what_a_revisit_refers_to_may_lie_behind_it_and_where_it_is_lost_that_is_told(
    sqspider: Run, tmp_path: Path
) -> None:
    original = warcs.response(
        "https://site.example/3", b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page(PROSE)
    )
    revisits = [warcs.revisit(original, f"https://site.example/{name}") for name in ("1", "2")]
    (tmp_path / "a.warc.gz").write_bytes(warcs.packed(revisits))
    ran = sqspider("duplicates", "a.warc.gz", "--json")
    assert [each["url"][-1] for each in json.loads(ran.stdout)["members"]] == ["1", "2"], ran.stderr
    ran = sqspider("duplicates", "a.warc.gz", "--near")
    assert ran.returncode == 1
    assert "https://site.example/1: what its revisit refers to is not in the archive" in ran.stderr
    (tmp_path / "a.warc.gz").write_bytes(warcs.packed([*revisits, original]))
    ran = sqspider("duplicates", "a.warc.gz", "--near", "--json")
    assert (ran.returncode, json.loads(ran.stdout)["pages"]) == (0, 3), ran.stderr


def test_a_file_of_others_is_compared_and_what_is_damaged_is_told(sqspider: Run, tmp_path: Path) -> None:
    pages = [common_crawl.Page(f"https://site.example/{name}", page(PROSE + name[0])) for name in ("a1", "a2", "b")]
    lost = common_crawl.Page("https://site.example/gone", page(PROSE + "a"), http_status=404)
    whole = common_crawl.file_of([*pages, lost])
    (tmp_path / "cc.warc.gz").write_bytes(whole)
    ran = sqspider("duplicates", "cc.warc.gz", "--json")
    assert ran.returncode == 0, ran.stderr
    assert [each["url"][-2:] for each in json.loads(ran.stdout)["members"]] == ["a1", "a2"]
    ran = sqspider("duplicates", "cc.warc.gz", "--near", "--json")
    assert json.loads(ran.stdout)["pages"] == 3
    (tmp_path / "cc.warc.gz").write_bytes(whole[:-100])
    ran = sqspider("duplicates", "cc.warc.gz", "--json")
    assert ran.returncode == 1
    assert "pages that cannot be read: 1" in ran.stderr
    assert json.loads(ran.stdout)["pages"] == 2
    assert sqspider("duplicates", "none.warc.gz").returncode == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a.warc.gz", "--archive", "b"), "an archive is named already"),
        (("--distance", "2"), "--distance is of --near"),
        (("--near", "--distance", "7"), "0<=x<=6"),
        (("--json", "--to", "x.csv"), "say one of them"),
        (("--overwrite",), "--overwrite is of the file of --to"),
    ],
)
def test_what_does_not_go_together_is_refused(sqspider: Run, arguments: tuple[str, ...], words: str) -> None:
    ran = sqspider("duplicates", *arguments)
    assert ran.returncode == 2
    assert words in ran.stderr
