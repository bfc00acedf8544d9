"""The links of a page: all kinds, and the same URLs as the crawler finds."""

from __future__ import annotations

import time
from html import escape
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sqspider.extract.document import Document
from sqspider.extract.page_links import LinkKind, PageLink, links_of_page
from sqspider.record import Reason
from sqspider.web.css_links import css_links
from sqspider.web.links import LinkOptions, read_page
from tests.extract.linked import PAGE, SITE, document

FOLLOWED = (LinkKind.A, LinkKind.FRAME)  # what a crawler goes on by, but for redirects and sitemaps
KINDS = [
    ("<a href=x>w</a>", "a", "/dir/x"),
    ("<map><area href=x alt=w></map>", "a", "/dir/x"),
    ("<svg><a xlink:href=x>w</a></svg>", "a", "/dir/x"),
    ("<iframe src=x></iframe>", "frame", "/dir/x"),
    ("<img src=x alt=w>", "img", "/dir/x"),
    ("<img srcset='x 2x'>", "img", "/dir/x"),
    ("<picture><source srcset='x 100w'></picture>", "img", "/dir/x"),
    ("<input type=image src=x>", "img", "/dir/x"),
    ("<svg><image href=x /></svg>", "img", "/dir/x"),
    ("<body background=x>", "img", "/dir/x"),
    ("<video poster=x></video>", "img", "/dir/x"),
    ("<video src=x></video>", "media", "/dir/x"),
    ("<audio><source src=x></audio>", "media", "/dir/x"),
    ("<video><track src=x></video>", "media", "/dir/x"),
    ("<embed src=x>", "object", "/dir/x"),
    ("<object data=x></object>", "object", "/dir/x"),
    ("<script src=x></script>", "script", "/dir/x"),
    ("<link rel='Shortcut  ICON' href=x>", "link", "/dir/x"),
    ("<style>b { background: url(x) }</style>", "css", "/dir/x"),
    ("<style>@import 'x';</style>", "css", "/dir/x"),
    ("<p style='background: url(\"x\")'>", "css", "/dir/x"),
    ("<form action=x></form>", "form", "/dir/x"),
    ("<meta http-equiv=Refresh content='3; url=x'>", "refresh", "/dir/x"),
]


@pytest.mark.parametrize(("html", "kind", "path"), KINDS, ids=[html for html, _, _ in KINDS])
def test_each_kind_of_link_is_found(tmp_path: Path, html: str, kind: str, path: str) -> None:
    (found,) = links_of_page(document(tmp_path, html))
    assert (found.to, found.kind) == (f"{SITE}{path}", kind)
    assert found.text == ("w" if "w<" in html or "alt=w" in html else "")
    assert found.rel == ("shortcut icon" if "ICON" in html else "")
    in_base = f"<base href=/base/>{html}"
    assert [link.to for link in links_of_page(document(tmp_path, in_base))] == [f"{SITE}/base/x"]
    assert links_of_page(document(tmp_path, f"<template>{html}</template>")) == []


def test_what_is_written_at_a_link_comes_with_it(tmp_path: Path) -> None:
    html = (
        "<a href='x#At%20it' rel='NoFollow  me'>  Two <b>words</b><br>and<script>no</script> more</a>"
        "<a href=y><img src=i alt='Of an  image'></a><a href=z aria-label=Label></a><a href=''>Top</a><a>none</a>"
        "<a href='mailto:a@site.test'>m</a><a href='http://[x'>bad</a><a href='http://u:secret@site.test/'>s</a>"
    )
    found = [link for link in links_of_page(document(tmp_path, html)) if link.kind is LinkKind.A]
    assert found[0] == PageLink(
        f"{SITE}/dir/x", LinkKind.A, "x#At%20it", "At%20it", "nofollow me", "Two words and more"
    )
    assert [link.text for link in found] == ["Two words and more", "Of an image", "Label", "Top", "m", "bad", "s"]
    assert [link.reason for link in found[4:]] == [Reason.BAD_SCHEME, Reason.BAD_URL, Reason.USER_INFO]
    assert [link.to for link in found[3:]] == [PAGE, None, None, None]
    assert "secret" not in str(found)


def test_texts_are_shortened(tmp_path: Path) -> None:
    (found,) = links_of_page(document(tmp_path, f"<a href='#{'f' * 999}' rel='{'r' * 999}'>{'t' * 9999}</a>"))
    assert {len(found.text), len(found.rel), len(found.fragment)} == {300}


def test_a_link_that_is_too_long_has_the_name_that_its_record_has(tmp_path: Path) -> None:
    page = document(tmp_path, f"<a href='/{'x' * 2000}'>long</a>")
    (found,) = links_of_page(page)
    told = read_page(page.body, page.url, page.headers)
    assert told is not None
    assert found.reason is Reason.URL_TOO_LONG
    assert (found.to,) == told.too_long


def test_xhtml_is_read_as_xml_where_it_is_some(tmp_path: Path) -> None:
    head = "Content-Type: application/xhtml+xml"
    xml = (
        '<html xmlns="http://www.w3.org/1999/xhtml"><head><base href="/base/"/><script src="s"/><link rel="next" href="n"/>'
        '</head><body><a href="x" rel="Me">w</a></body></html>'
    )
    found = links_of_page(document(tmp_path, xml, head))
    assert [(link.kind, link.to, link.rel) for link in found] == [
        ("script", f"{SITE}/base/s", ""), ("link", f"{SITE}/base/n", "next"), ("a", f"{SITE}/base/x", "me"),
    ]  # fmt: skip
    assert found[-1].text == "w"
    broken = xml.replace("</body>", "")
    assert [link.to for link in links_of_page(document(tmp_path, broken, head))] == [f"{SITE}/base/s"]


@pytest.mark.parametrize(
    "line", ["Content-Type: application/pdf", "Content-Type: text/plain", "Content-Type: text/xml"]
)
def test_what_is_no_page_has_no_links(tmp_path: Path, line: str) -> None:
    assert links_of_page(document(tmp_path, "<a href=x>w</a>", line)) == []
    assert links_of_page(document(tmp_path, "<html><a href=x>w</a>", "X: sniffed"))[0].to == f"{SITE}/dir/x"


def test_a_stylesheet_has_links_of_its_own(tmp_path: Path) -> None:
    page = document(tmp_path, "@import url(a.css); b { background: url('i.png') }", "Content-Type: text/css")
    assert [link.to for link in links_of_page(page)] == [f"{SITE}/dir/a.css", f"{SITE}/dir/i.png"]


def test_a_refresh_header_knows_of_no_base(tmp_path: Path) -> None:
    page = document(tmp_path, "<base href=/base/>", "Content-Type: text/html", "Refresh: 0; url=x")
    assert [(link.kind, link.to) for link in links_of_page(page)] == [("refresh", f"{SITE}/dir/x")]


@pytest.mark.parametrize(
    ("css", "found"),
    [
        ("url(a)", ["a"]), ("URL( 'a b' )", ["a b"]), ('url("a)b")', ["a)b"]), ("@import 'a';@import \"b\" screen;", ["a", "b"]),
        ("/* url(a) */ url(b) /* url(c)", ["b"]), ("content: 'url(a)'; x: url(b)", ["b"]), ("'it\\'s url(a)' url(b)", ["b"]),
        ("url(a\\20 b\\)c)", ["a b)c"]), ("my-url(a) curl(b)", []), ("url(a'b)", []), ("'open\n url(a)", ["a"]),
        ("url()", [""]), ("@import url(a) print", ["a"]), ("@media 'x' {}", []), ("url(a\0b)", ["a\ufffdb"]), ("\\url(", []),
        ("image-set('a' 1x type('b/c'), url(d) 2x, URL('e'), \"f\") 'g'", ["a", "d", "e", "f"]),
        ("-webkit-image-set( url( 'a)' ) 1x) 'b' url(c)", ["a)", "c"]), ("my-image-set('a')", []), ("image-set('a'", ["a"]),
        ("image-set(linear-gradient(red, blue) 1x, /* 'no' */ 'a') url(b) 'c'", ["a", "b"]), ("image-set(url(b c) 1x) 'd'", []),
    ],
)  # fmt: skip
def test_styles_are_read_as_css_is_tokenized(css: str, found: list[str]) -> None:
    assert list(css_links(css)) == found


@pytest.mark.parametrize(
    "piece",
    [
        "/*",
        "url(",
        "url('",
        "@import '",
        "'\\",
        '"',
        "/**",
        "url(\\",
        "@import",
        "a" * 9,
        "image-set(",
        "image-set('a'",
    ],
)
def test_hostile_styles_are_read_in_linear_time(piece: str) -> None:
    begun = time.process_time()
    list(css_links(piece * 40_000))
    assert time.process_time() - begun < 5  # a quadratic one takes four times as long, and more


_REFERENCES = st.one_of(
    st.sampled_from(["", "#", "x", "x#y", "../x?q=ä&b", " x ", "x #y", "//other.test/", "http://[", "mailto:a", "http:x", "\tx\n"]),
    st.text("ax/?#&;=%. \t\n:äü€", max_size=12),
)  # fmt: skip
_ELEMENTS = st.one_of(
    st.tuples(st.sampled_from(["a", "area"]), _REFERENCES).map(lambda two: f"<{two[0]} href='{escape(two[1])}'>w"),
    st.tuples(st.sampled_from(["iframe", "img", "script"]), _REFERENCES).map(
        lambda two: f"<{two[0]} src='{escape(two[1])}'></{two[0]}>"
    ),
    _REFERENCES.map(lambda href: f"<base href='{escape(href)}'>"),
    st.sampled_from(["<p>", "</p>", "<div>", "</div>", "<noscript>", "</noscript>", "<!-- <a href=c> -->", "text", "</a>"]),
)  # fmt: skip


@example(html="<noscript><a href=''>w<base href='x'>", charset="utf-8")  # an end that never comes
@example(html="<a href=': #'>w", charset="utf-8")
@given(html=st.lists(_ELEMENTS, max_size=8).map("".join), charset=st.sampled_from(["utf-8", "iso-8859-1", "gbk"]))
def test_what_is_followed_is_what_the_crawler_finds(
    tmp_path_factory: pytest.TempPathFactory, html: str, charset: str
) -> None:
    body = html.encode(charset, "xmlcharrefreplace")
    page = document(tmp_path_factory.getbasetemp(), body, f"Content-Type: text/html; charset={charset}")
    assert_as_the_crawler(page)


def assert_as_the_crawler(page: Document) -> None:
    told = read_page(page.body, page.url, page.headers, LinkOptions(obey_nofollow=False))
    found = links_of_page(page)
    assert told is not None
    assert {link.to for link in found if link.kind in FOLLOWED and link.reason is None} == set(told.links)
    refused = {link.written for link in found if link.kind in FOLLOWED and link.reason not in (None, Reason.BAD_SCHEME)}
    assert bool(refused) is bool(told.left_out)


BOOKS = [Path("/usr/share/doc/python3.11/html"), Path("/usr/share/doc/postgresql-doc-15/html")]


@pytest.mark.parametrize("book", BOOKS, ids=lambda book: book.parts[-2])
def test_on_real_pages_what_is_followed_is_what_the_crawler_finds(tmp_path: Path, book: Path) -> None:
    pages = sorted(book.rglob("*.html"))[::10]
    if not pages:
        pytest.skip(f"{book} is not here: see bench/corpus.py")
    for file in pages:
        url = f"http://docs.test/{file.relative_to(book)}"
        assert_as_the_crawler(document(tmp_path, file.read_bytes(), "Content-Type: text/html", url=url))
