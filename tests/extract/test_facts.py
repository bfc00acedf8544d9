"""Facts of pages: where each is found, in which order, and that the crawler says the same."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from sqspider.extract.rules import Fact, Rules
from sqspider.web.links import read_page
from tests.extract.pages import document, extracted, own_pages, real_pages


def fact(name: Fact, body: str, *headers: tuple[str, str], content_type: str = "text/html; charset=utf-8") -> object:
    (row,) = extracted(Rules(facts=(name,)), document(body, *headers, content_type=content_type))
    return row[name]


@pytest.mark.parametrize(
    ("name", "body", "found"),
    [
        (Fact.TITLE, "<title> A\n  b </title><title>c</title>", "A b"), (Fact.TITLE, "<svg><title>drawn</title></svg><p>x", None),
        (Fact.TITLE, "<title></title>x", None), (Fact.TITLE, f"<title>{'a' * 400}</title>", "a" * 300), (Fact.TITLE, "<p>x<title>late</title>", "late"),
        (Fact.LANGUAGE, "<html lang=DE-at>", "de-AT"), (Fact.LANGUAGE, "<html lang='zh_hans_cn'>", "zh-Hans-CN"), (Fact.LANGUAGE, "<html xml:lang=fr>", "fr"),
        (Fact.LANGUAGE, "<html lang=''><meta http-equiv=Content-Language content='sl-rozaj, en'>", "sl-rozaj"), (Fact.LANGUAGE, "<html lang=en-us-U-CA-Gregory>", "en-US-u-ca-gregory"),
        (Fact.LANGUAGE, "<html lang='english'>", None), (Fact.LANGUAGE, "<p>x", None), (Fact.LANGUAGE, "<html lang=es-419>", "es-419"),
        (Fact.CANONICAL, "<base href=/b/><link rel='x CANONICAL' href=' c?a#f '>", "https://shop.example/b/c?a"), (Fact.CANONICAL, "<link rel=canonical href='mailto:x'>", None),
        (Fact.CANONICAL, "<link rel=canonical href=''><link rel=canonical href=HTTP://Shop.EXAMPLE:80>", "http://shop.example/"), (Fact.CANONICAL, "<link rel=icon href=x>", None),
        (Fact.DESCRIPTION, "<meta property=og:description content=og><meta name=Description content=' a\n b'>", "a b"), (Fact.DESCRIPTION, "<meta name=description content=' '><meta property=og:description content=og>", "og"),
        (Fact.HEADINGS, "<h2>b <i>c</i></h2><h1>a<br>d</h1><h3> </h3><div><h6>e</h6></div>", ((2, "b c"), (1, "a d"), (6, "e"))), (Fact.HEADINGS, "<p>x", None),
        (Fact.NOINDEX, "<meta name=ROBOTS content='a, NOINDEX'>", True), (Fact.NOINDEX, "<meta name=robots content=none>", True), (Fact.NOINDEX, "<meta name=sqspider content=noindex>", True),
        (Fact.NOINDEX, "<meta name=otherbot content=noindex>", False), (Fact.NOINDEX, "<meta property=robots content=noindex>", False), (Fact.NOINDEX, "<p>x", False),
        (Fact.TEXT, "<h1>a</h1><p>b", "a\n\nb"), (Fact.MARKDOWN, "<h1>a</h1>", "# a"), (Fact.TEXT, "<p>", None),
        (Fact.LINKS, "<a href=x#y rel=up>t</a><img src=i><a href=mailto:z>", (("https://shop.example/things/x", "a", "y", "up", "t"), ("https://shop.example/things/i", "img", "", "", ""))),
        (Fact.LINKS, "<p>x", None),
    ],
)  # fmt: skip
def test_what_a_page_says(name: Fact, body: str, found: object) -> None:
    assert fact(name, body) == found


@pytest.mark.parametrize(
    ("value", "says"),
    [("noindex", True), ("otherbot: noindex", False), ("nofollow, none", True), ("sqspider: noindex", True), ("max-snippet: 5, noindex", True), ("all", False)],
)  # fmt: skip
@pytest.mark.parametrize("content_type", ["text/html", "application/pdf"])
def test_a_header_says_noindex_of_whatever_there_is(value: str, says: bool, content_type: str) -> None:
    assert fact(Fact.NOINDEX, "x", ("X-Robots-Tag", value), content_type=content_type) is says


def test_a_header_says_the_language_last() -> None:
    assert fact(Fact.LANGUAGE, "<p>x", ("Content-Language", "pt_br, en")) == "pt-BR"
    assert fact(Fact.LANGUAGE, "<html lang=de>", ("Content-Language", "pt")) == "de"
    assert fact(Fact.LANGUAGE, "x", ("Content-Language", "pt"), content_type="text/plain") == "pt"


def test_a_text_that_is_no_page_is_its_own_text() -> None:
    assert fact(Fact.TEXT, "a < b", content_type="text/plain") == "a < b"
    assert fact(Fact.TEXT, "%!", content_type="application/postscript") is None


PUBLISHED = (
    '<script type="application/ld+json">{"@graph": [{"name": "x"}, {"datePublished": "2001-01-01"}]}</script>',
    '<meta property="article:published_time" content="2002-01-01">',
    '<meta itemprop="datePublished" content="2003-01-01">',
    '<time itemprop="datePublished" datetime="2004-01-01">',
    '<meta name="dc.date.issued" content="2005-01-01">',
    '<meta name="date" content="2006-01-01">',
    '<article><time datetime="2007-01-01"></article>',
    '<time datetime="2008-01-01">',
)


@pytest.mark.parametrize("first", range(len(PUBLISHED)))
def test_the_date_is_looked_for_in_this_order(first: int) -> None:
    page = "".join(reversed(PUBLISHED[first:]))
    assert fact(Fact.PUBLISHED, page) == datetime(2001 + first, 1, 1, tzinfo=UTC).timestamp()
    assert (
        fact(Fact.PUBLISHED, page.replace(f"{2001 + first}-01-01", "soon"))
        != datetime(2001 + first, 1, 1, tzinfo=UTC).timestamp()
    )


def test_of_a_page_without_dates_none_is_said() -> None:
    assert fact(Fact.PUBLISHED, "<time>2020-01-01</time><meta name=date content=soon>") is None


def test_the_crawler_says_the_same_of_title_and_noindex() -> None:
    pages = {**own_pages(), **real_pages(150)}
    pages["drawn"] = b"<svg><title>no</title></svg><title>yes</title><meta name=robots content=' noindex '>"
    assert len(pages) > 3
    for name, body in pages.items():
        doc = document(body, ("X-Robots-Tag", "otherbot: noindex"))
        (row,) = extracted(Rules(facts=(Fact.TITLE, Fact.NOINDEX)), doc)
        page = read_page(body, doc.url, doc.headers)
        assert page is not None
        assert (row["title"], row["noindex"]) == (page.title, page.noindex), name
