"""Rows of documents: which there are, and what is told where something is missing."""

from __future__ import annotations

import gzip
import sys
from itertools import permutations
from pathlib import Path
from typing import Final

import pytest

from sqspider.archive.reading import captures_in, files_to_read
from sqspider.extract import extractor as module
from sqspider.extract import page, reading
from sqspider.extract.document import Document
from sqspider.extract.extractor import Extractor
from sqspider.extract.fetch_columns import FETCH_COLUMNS
from sqspider.extract.rules import Fact, Field, Rules
from sqspider.extract.rules_said import rules_of_options
from sqspider.extract.tally import NeverFound, Tally
from tests.archive.warcs import response, revisit
from tests.extract.pages import CASES, URL, document, extracted

PRODUCT: Final = (CASES / "product.html").read_text()
FIELDS: Final = [("name", "css:.name"), ("price", "css:.price | number"), ("id", "xpath:@data-id | integer")]


def test_a_row_begins_with_what_was_fetched() -> None:
    (row,) = extracted(Rules(facts=(Fact.TITLE,)), document("<title>t</title>"))
    assert list(row) == [*(column.name for column in FETCH_COLUMNS), "title"]
    assert (row["url"], row["fetch_status"], row["url_host_name"], row["content_mime_type"]) == (
        URL,
        200,
        "shop.example",
        "text/html",
    )
    assert (row["content_charset"], row["error"], row["title"]) == ("utf-8", None, "t")


def test_a_row_for_each_element_knows_its_own_and_its_pages() -> None:
    rules = rules_of_options(
        each="css:.product",
        fields=[*FIELDS, ("whole", "css::scope::attr(class)"), ("sku", "meta:sku")],
        facts=["title"],
    )
    rows = extracted(rules, document(PRODUCT))
    assert [(row["element"], row["name"], row["price"], row["id"]) for row in rows] == [
        (0, "Eins", 1234.56, 1), (1, "Zwei", 1234.56, 2), (2, "Drei", None, 3), (3, None, 99.0, 4),
    ]  # fmt: skip
    assert [row["whole"] for row in rows] == ["product first", "product", "product sold", "product"]
    assert {(row["sku"], row["title"]) for row in rows} == {("C40-MK4", "Kaffeemühle „Comandante“")}


def test_the_keys_tell_rows_of_a_page_apart() -> None:
    keys = [column.name for column in Extractor(rules_of_options(each="css:a")).columns if column.is_key]
    assert keys == ["crawl", "url", "visit", "fetch_time", "element"]
    assert "element" not in [column.name for column in Extractor(Rules()).columns]


EVERYTHING: Final = """<!doctype html><html lang=en><title>t</title><noscript><base href="/elsewhere/"></noscript>
<meta name=description content=d><link rel=canonical href=c><svg><title>drawn</title><a xlink:href=/svg>s</a></svg>
<main><h1>One<button>now</button></h1><p>This is what the page is about, and it goes on for a while: <a href=x>there</a>.
<table><tr><td><p>a</p><p>b</p><td><select><option>y<a href=chosen>z</a></select></table>
<div hidden><h2>Two</h2><a href=hidden>h</a><time datetime=2026-01-02>then</time></div></main>"""


@pytest.mark.parametrize("facts", [*permutations(("text", "main", "markdown", "links", "headings"), 3)])
@pytest.mark.parametrize("fields", [[], [("hidden", "css:[hidden] a::attr(href)")]])
def test_a_fact_is_the_same_whatever_else_is_asked_for(fields: list[tuple[str, str]], facts: tuple[str, ...]) -> None:
    """Text is made of what is left of the tree where nobody asks for that any more."""
    alone = {fact: extracted(rules_of_options(facts=[fact]), document(EVERYTHING))[0][fact] for fact in facts}
    (row,) = extracted(rules_of_options(facts=[*facts, "title", "published"], fields=fields), document(EVERYTHING))
    assert {fact: row[fact] for fact in facts} == alone
    assert (row["title"], row.get("hidden", "hidden")) == ("t", "hidden")
    assert row["published"] is not None


def test_what_is_missing_is_counted_and_named() -> None:
    extractor = Extractor(rules_of_options(each="css:.product", fields=FIELDS, required=["name", "id"]))
    for at, body in enumerate((PRODUCT, "<p>no product", "<p class=product data-id=x>")):
        extractor.rows(document(body, url=f"https://shop.example/{at}"))
    tally = extractor.take_tally()
    assert (tally.documents, tally.rows) == (3, 5)
    assert tally.found == {"name": 1, "price": 1, "id": 1}
    assert (tally.missing, tally.first_missing) == (
        {"name": 2, "id": 1},
        {"name": "https://shop.example/0", "id": "https://shop.example/2"},
    )
    assert extractor.take_tally() == Tally()


def test_a_field_that_is_never_found_is_told_once() -> None:
    extractor, total = Extractor(rules_of_options(fields=[("title", "css:title"), ("prize", "css:.prize")])), Tally()
    watch, told = NeverFound(["title", "prize"]), []
    for number in range(120):
        extractor.rows(document("<title>t</title>"))
        if number % 7 == 0:  # as several processes tell it, now and then
            total.add(extractor.take_tally())
            told.append(watch.new(total))
    assert [each for each in told if each] == [("prize",)]
    assert told.index(("prize",)) == 15  # of the first hundred


def test_tallies_add_up_and_the_first_stays_the_first() -> None:
    total = Tally(documents=1, rows=2, first_missing={"a": "first"})
    total.missing["a"] += 1
    other = Tally(documents=3, rows=4, first_missing={"a": "later", "b": "x"})
    other.missing.update(("a", "b"))
    other.errors["decode"] += 1
    total.add(other)
    assert (total.documents, total.rows, total.missing, total.first_missing) == (
        4,
        6,
        {"a": 2, "b": 1},
        {"a": "first", "b": "x"},
    )
    assert total.errors == {"decode": 1}


PDF: Final = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" + bytes(range(256)) * 4
WANTED: Final = rules_of_options(
    facts=["title", "text"], fields=[("price", "css:.price"), ("host", "url:host")], required=["price"]
)


@pytest.mark.parametrize(
    ("body", "content_type", "coding", "kind", "error"),
    [
        (b"\x1f\x8bnone", "text/html", "gzip", "decode", "the body is not what its Content-Encoding says"),
        (PDF, "text/html", "", "binary", "no page: the body is no text"),
        (b"\x89PNG\r\n\x1a\n" + bytes(400), "text/html", "", "binary", "no page: the body is no text"),
        (PDF, "application/pdf", "", "no-page", "no page, but application/pdf"),
        (b'{"a": 1}', "application/json", "", "no-page", "no page, but application/json"),
        (b"just words", "", "", "no-page", "no page"),
        (b"", "text/html", "", "no-page", "no page: the body is empty"),
        (b"<x/>", "application/xml", "", "no-page", "no page"),
    ],
)  # fmt: skip
def test_what_is_no_page_has_a_row_that_says_why(
    body: bytes, content_type: str, coding: str, kind: str, error: str
) -> None:
    extractor = Extractor(WANTED)
    names = [column.name for column in extractor.columns]
    headers = (("Content-Encoding", coding),) if coding else ()
    row = dict(zip(names, *extractor.rows(document(body, *headers, content_type=content_type)), strict=True))
    assert str(row["error"]).startswith(error)
    assert (row["title"], row["text"], row["price"], row["host"]) == (None, None, None, "shop.example")
    tally = extractor.take_tally()
    assert (tally.errors, tally.missing) == ({kind: 1}, {"price": 1})


@pytest.mark.parametrize(
    "body",
    ["<", "<!doctype html>", "<html><frameset><frame>", "<plaintext>", "<template><title>t", "x", "<head><noscript>"],
)
def test_a_page_of_which_little_is_there_is_one(body: str) -> None:
    (row,) = extracted(Rules(facts=tuple(Fact)), document(body))
    assert (row["error"], row["title"]) == (None, None)


def test_where_elements_cannot_be_had_there_is_a_row_that_says_why() -> None:
    rules = rules_of_options(each="css:a", fields=[("it", "css:b")])
    (row,) = extracted(rules, document(PDF))
    assert (row["element"], row["it"], row["error"]) == (0, None, "no page: the body is no text")
    assert extracted(rules, document("<p>no link")) == []


def test_of_a_page_of_too_many_tags_the_beginning_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqspider.extract.document.MAX_TAGS", 6)
    rules = Rules(facts=(Fact.TITLE,), fields=(Field(name="b", path="css:b"),))
    whole, cut = extracted(
        rules, document("<title>t</title><p><i><i><b>b"), document("<title>t</title><p><i><i><i><b>b")
    )
    assert (whole["b"], whole["error"]) == ("b", None)
    assert (cut["b"], cut["error"]) == (None, "of the page only the first 2,000,000 tags are looked at")


def test_of_a_body_that_is_too_large_the_beginning_is_looked_at() -> None:
    rules = rules_of_options(facts=["title"], fields=[("end", "css:#end")], max_bytes=1000)
    body = "<title>t</title>" + "<p>x" * 1000 + "<p id=end>"
    (row,) = extracted(rules, document(body, max_bytes=1000))
    assert (row["title"], row["end"], row["error"]) == (
        "t",
        None,
        "of the body only the first 1,000 bytes are looked at",
    )


def test_coded_bodies_are_read() -> None:
    (row,) = extracted(
        Rules(facts=(Fact.TITLE,)), document(gzip.compress(b"<title>t</title>"), ("Content-Encoding", "gzip"))
    )
    assert (row["title"], row["error"]) == ("t", None)


def test_a_revisit_whose_original_is_not_there_says_so(tmp_path: Path) -> None:
    original = response(URL, b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<title>t</title>")
    file = tmp_path / "some.warc"
    file.write_bytes(revisit(original, URL).written())
    files = files_to_read(str(file))
    (captured,) = (each for info in files.all() for each in captures_in(files, info))
    (row,) = extracted(Rules(facts=(Fact.TITLE,)), Document(captured))
    assert (row["title"], row["error"]) == (
        None,
        "the capture that this revisit refers to is not in the archive",
    )


def test_an_expression_that_fails_on_a_page_is_told_and_the_rest_is_there() -> None:
    extractor = Extractor(
        rules_of_options(fields=[("bad", "xpath://p[foo][re:test(., string(foo))]"), ("good", "css:p")])
    )
    (row,) = extractor.rows(document("<p><foo>(x"))
    error = row[[column.name for column in extractor.columns].index("error")]
    assert row[-1] == "(x"
    assert str(error).startswith("bad: xpath: missing )")
    assert extractor.take_tally().errors == {"path": 1}


def test_rows_of_one_page_have_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_ROWS", 10)
    extractor = Extractor(rules_of_options(each="css:li", fields=[("it", "css:b")]))
    assert len(extractor.rows(document("<li>" * 10))) == 10
    assert extractor.take_tally().errors == {}
    assert len(extractor.rows(document("<li>" * 11))) == 10
    assert extractor.take_tally().errors == {"too-many": 1}


class Untouched(Document):
    """A document of which nothing but its head may be looked at."""

    @property
    def body(self) -> bytes:
        raise AssertionError("the body was asked for")


@pytest.mark.parametrize(
    "rules",
    [
        rules_of_options(fields=[("a", "url"), ("b", "url:query.size"), ("c", "header:content-type | lower")]),
        rules_of_options(facts=["noindex"]),  # of what is no page
        rules_of_options(fields=[("a", "css:a")]),
        Rules(),
    ],
)
def test_what_needs_no_body_reads_none(rules: Rules) -> None:
    plain = document("x", content_type="application/pdf").captured
    assert len(Extractor(rules).rows(Untouched(plain))) == 1


def test_what_needs_no_tree_makes_none() -> None:
    doc = document("<title>t</title>")
    extracted(rules_of_options(fields=[("a", "url"), ("b", "header:content-type")]), doc)
    assert "tree" not in vars(doc)
    extracted(rules_of_options(facts=["title", "headings", "text"], fields=[("a", "css:a")]), doc)
    tree = vars(doc)["tree"]
    extracted(rules_of_options(facts=["links", "description"], fields=[("a", "css:a")]), doc)
    assert vars(doc)["tree"] is tree  # one for all


def test_no_heavy_library_is_loaded_for_what_does_not_need_it() -> None:
    import subprocess

    code = "import sys; from sqspider.extract.rules_said import rules_of_options; from sqspider.extract.extractor import Extractor; Extractor(rules_of_options()); print({'turbohtml', 'trafilatura', 'pyarrow', 'lxml'} & set(sys.modules))"  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"


@pytest.mark.parametrize(
    ("field", "each", "said"),
    [("css:.price >", None, "price: css: it ends too soon"), ("url", "css:p::text", "each: elements are wanted"), ("url", "p", "each: a row each is of elements")],
)  # fmt: skip
def test_rules_that_cannot_be_followed_are_refused_before_anything_is_read(
    field: str, each: str | None, said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        Extractor(rules_of_options(fields=[("price", field)], each=each))


def test_who_finds_main_contents_is_known() -> None:
    with pytest.raises(ValueError, match="'nobody' finds no main content"):
        Extractor(Rules(facts=(Fact.MAIN,), main_by="nobody"))


NESTED: Final = "<div>a " * 3000


@pytest.mark.parametrize(
    "rules",
    [
        rules_of_options(fields=[("first", "css:div"), ("it", "css:div | number")]),
        rules_of_options(fields=[("first", "css:div")], each="css:div"),
    ],
)
def test_rules_that_take_too_long_at_a_page_are_ended(rules: Rules, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_SECONDS", 0.1)
    extractor = Extractor(rules)
    rows = extractor.rows(document(NESTED))
    error = [column.name for column in extractor.columns].index("error")
    assert {row[error] for row in rows} == {"the rules take longer than 0.1 s on this page"}
    assert len(rows) < 3000
    assert extractor.take_tally().errors == {"slow": 1}
    assert extractor.rows(document("<div>a"))  # and the next has its own time
    assert extractor.take_tally().errors == {}


@pytest.mark.parametrize(
    "rules",
    [
        rules_of_options(fields=[("it", "css:div | list")]),
        rules_of_options(fields=[("it", "css:div | join")]),
        rules_of_options(fields=[("it", "css:div")], each="css:div"),
        rules_of_options(facts=["headings"]),
    ],
)
def test_elements_within_one_another_fill_no_memory(rules: Rules, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MAX_FOUND_CHARACTERS", 100_000)
    extractor = Extractor(rules)
    assert len(extractor.rows(document("<h1><div>a " * 1000))) < 1000
    assert extractor.take_tally().errors == {"slow": 1}
