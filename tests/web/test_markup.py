"""HTML in two ways: the tree of ordinary pages and the scanner of large ones find the same."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqspider.web.links import LinkOptions, read_page
from sqspider.web.markup import MAX_TREE_BYTES, tree_elements
from sqspider.web.scanner import Attributes, scanned_elements

TAGS = ("a", "area", "base", "frame", "iframe", "img", "meta", "source")

# Where markup is text, where text is markup, what is nowhere on the page, and what is none of that.
HTML = "a p div span b i li ul h1 select option button style script title textarea xmp iframe noembed noframes noscript"
ODD = "template svg math foreignObject desc mi mtext annotation-xml g path"
VOID = "img base meta area source br input"
STRAY = (
    "<!--", "-->", "--!>", "<!-->", "<!--->", "<!--x--!>", "<![CDATA[<a href=/cdata>]]>", "<?x?>", "<!doctype html>", "</>",
    "< a>", "a < b", "&amp;", "\0", "<!-- <script> ", "</ x>", "<p", "<br/>", "\r\n",
)  # fmt: skip
VALUES = (
    "/{}", "/{}/", "/{}?a=1&amp;b=2", "/{}?a=1&copy=2&copy;", "/{}&notit;&notin;", "/{}&#x41;&#65;&#0;&#1;&#x80;&#xD800;&#9999999999;",
    "text/html", "", "refresh", "/{}\0",
)  # fmt: skip
NAMES = ("href", "HREF", "src", "srcset", "xlink:href", "rel", "color", "encoding", "content")
FORMS = (' {}="{}"', " {}='{}'", " {}={}", "\n{} = {}", ' {0}="{1}"{0}="/again"', "/{}='{}'", " {}", " {0}= {1} {0}")


@st.composite
def attributes(draw: st.DrawFn) -> str:
    chosen = draw(st.lists(st.tuples(*map(st.sampled_from, (FORMS, NAMES, VALUES))), max_size=3))
    return "".join(form.format(name, value.format(number)) for number, (form, name, value) in enumerate(chosen))


@st.composite
def elements(draw: st.DrawFn, content: st.SearchStrategy[str]) -> str:
    name = draw(st.sampled_from((HTML + " " + ODD).split()))
    return f"<{name}{draw(attributes())}>{draw(content)}</{name}>"


@st.composite
def leaves(draw: st.DrawFn) -> str:
    name = draw(st.sampled_from(["a", *VOID.split(), "svg", "g", "script"]))
    return f"<{name}{draw(attributes())}{draw(st.sampled_from(['', '/', ' /']))}>"


MARKUP = st.recursive(
    st.sampled_from(STRAY) | leaves() | st.just("<a href=/a>a</a>"),
    lambda content: elements(content) | st.lists(content, max_size=4).map("".join),
    max_leaves=12,
)


def found(elements: Iterable[tuple[str, Attributes]]) -> tuple[set[tuple[str, str]], str, str]:
    """What a crawler takes from them: links by their tags, the first title and the first base."""
    links, titles, bases = set(), [], []
    for tag, attributes in elements:
        if tag == "title":
            titles.append(" ".join((attributes[""] or "").split()))
        elif tag == "base":
            bases.append(attributes["href"] or "")
        else:
            name = {"a": "href", "area": "href", "meta": "content", "img": "srcset", "source": "srcset"}.get(tag, "src")
            links.add((tag, attributes.get(name) or ""))
    return links, (titles or [""])[0], (bases or [""])[0]


@settings(deadline=None, max_examples=250)
@given(MARKUP)
def test_the_scanner_finds_what_the_tree_has(markup: str) -> None:
    document = markup.encode()
    assert found(scanned_elements(document, TAGS)) == found(tree_elements(document, TAGS))


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("<!-- <a href=/no> --!><a href=/yes>", {"/yes"}),
        ("<!--><a href=/yes><!---><a href=/too>", {"/yes", "/too"}),
        ("<svg><style><a href=/yes></style></svg><style><a href=/no></style>", {"/yes"}),
        ("<svg><script/><a href=/yes></a></svg><script><a href=/no></script>", {"/yes"}),
        ("<svg><desc><style><a href=/no></style></desc><style><a href=/yes></style></svg>", {"/yes"}),
        ("<svg><p><style><a href=/no></style><a href=/yes>", {"/yes"}),
        ("<div><svg></div><style><a href=/no></style><a href=/yes>", {"/yes"}),
        ("<template><a href=/no><template></template><a href=/no></template><a href=/yes>", {"/yes"}),
        ("<svg><template><a href=/yes></template></svg>", {"/yes"}),
        ("<a href=/yes><plaintext><a href=/no>", {"/yes"}),
        ("<textarea><a href=/no></textarea><title><a href=/no></title><a href=/yes>", {"/yes"}),
        ("<svg><![CDATA[<a href=/no>]]><a href=/yes></a></svg><![CDATA[<a href=/no2>]]>", {"/yes"}),
        ("<noscript><a href=/yes></noscript><select><option><a href=/too></select>", {"/yes", "/too"}),
        ("<script><!-- <script> </script> <a href=/no> --></script><a href=/yes>", {"/yes"}),
        ("<script><!--<!--><script></script><a href=/yes>", {"/yes"}),
        ("<a href=/yes href=/no><a href=/a&amp;b&copy=1&copy;&#x41;>", {"/yes", "/a&b&copy=1©A"}),
        ("<a href='&#0;&#xD800;&#99999999999999999999;&#x80;'>", {"\ufffd\ufffd\ufffd€"}),
        ("<svg><a xlink:href=/yes></a><a href=/too xlink:href=/no></a></svg><a xlink:href=/no>", {"/yes", "/too"}),
        ("<frameset><frame src=/yes><a href=/no><style></frameset><frame src=/no>", {"/yes"}),
        ("text<frameset><frame src=/no></frameset><iframe src=/yes>", {"/yes"}),
        ("<math><mi><style><a href=/no></style></mi><style><a href=/yes></style></math>", {"/yes"}),
        ("<math><annotation-xml encoding=text/html><style><a href=/no></style></annotation-xml></math>", set()),
    ],
)
def test_markup_is_read_as_browsers_read_it(markup: str, expected: set[str]) -> None:
    for elements_in in (tree_elements, scanned_elements):
        links, _, _ = found(elements_in(markup.encode(), TAGS))
        assert {link for _, link in links} == expected


def test_the_title_and_the_base_are_those_of_the_page() -> None:
    markup = (
        b"<svg><title>Icon</title></svg><noscript><base href=/no-scripts/></noscript><template><title>No</title></template>"
        b"<title>A &amp; B &copyright</title><title>C</title><base href=/yes/><base href=/no/>"
    )
    for elements_in in (tree_elements, scanned_elements):
        assert found(elements_in(markup, TAGS)) == (set(), "A & B ©right", "/yes/")


LARGE = b"<!--" + b" " * MAX_TREE_BYTES + b"-->"  # too large for a tree


@settings(deadline=None, max_examples=60)
@given(
    MARKUP,
    st.sampled_from(["text/html", "application/xhtml+xml", "text/xml", "text/html; charset=shift_jis"]),
    st.booleans(),
)
def test_nothing_on_a_page_is_an_error_in_any_namespace(markup: str, content_type: str, is_large: bool) -> None:
    body = (LARGE if is_large else b"") + b"<svg>" + markup.encode() + b"\xff<a href=/\xff>"
    headers = [("Content-Type", content_type), ("Refresh", "0; url=http://[")]
    page = read_page(body, "http://e.com/", headers, LinkOptions(srcset=True, meta_refresh=True))
    assert page is None if content_type == "text/xml" else page is not None


@pytest.mark.parametrize(
    "markup",
    [
        b"<svg><a xlink:href=x>", b"<svg><base xlink:href=x>", b"<svg><area xlink:href=x>", b"<math><a xlink:href=x>",
        b"<title>&#" + b"9" * 5000 + b";</title><a href='&#" + b"9" * 5000 + b";'>", b"<a href>", b"<iframe src><base href>",
        b"<meta http-equiv=refresh content='" + b"1" * 100_000 + b"'>", b"<svg>" * 5000, b"<svg><desc>" * 5000,
        b"<template>" * 5000 + b"</template>" * 5000, b"\0", b"<a href='\0'\0=\0>",
    ],
)  # fmt: skip
@pytest.mark.parametrize("start", [b"", LARGE], ids=["tree", "scanner"])
def test_odd_pages_are_read(markup: bytes, start: bytes) -> None:
    assert read_page(start + markup, "http://e.com/", [("Content-Type", "text/html; charset=utf-8")]) is not None
