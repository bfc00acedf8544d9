"""What is read from a page, against standards' and peers' cases."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.url import canonicalize
from sqspider.web.links import LinkOptions, PageLinks, parse_meta_refresh, parse_srcset, read_page
from tests.conftest import load_cases

HTML = (("Content-Type", "text/html"),)


def read(html: str | bytes, url: str = "http://example.com/dir/page", **options: Any) -> PageLinks:
    body = html if isinstance(html, bytes) else html.encode("utf-8", "replace")
    page = read_page(body, url, HTML, LinkOptions(**options))
    assert page is not None
    return page


def test_links_title_and_base() -> None:
    page = read(
        "<title> A\n title </title><base href=/base/><base href=/no/><a href=x#f>1</a><a href=x>2</a><area href=?q=1>"
        "<a href='mailto:a@b.c'>m</a><a name=n>n</a><a href=y rel='me NoFollow'>y</a><link href=z>"
    )
    assert page.title == "A title"
    assert page.links == ("http://example.com/base/x", "http://example.com/base/?q=1")
    assert "http://example.com/base/y" in read("<base href=/base/><a href=y rel=nofollow>", obey_nofollow=False).links
    hidden = read("<noscript><base href=/for-others/></noscript><base href=/base/><a href=y>")
    assert hidden.links == ("http://example.com/base/y",)  # as browsers, which run scripts, see it
    assert read("<noscript><base href=/for-others/></noscript><a href=y>").links == ("http://example.com/dir/y",)


@pytest.mark.parametrize(
    ("html", "headers", "nofollow"),
    [
        ("<meta name=robots content='noindex, NOFOLLOW'>", HTML, True),
        ("<meta name=sqspider content=none>", HTML, True),
        ("<meta name=otherbot content=nofollow>", HTML, False),
        ("", (*HTML, ("X-Robots-Tag", "nofollow")), True),
        ("", (*HTML, ("X-Robots-Tag", "otherbot: nofollow")), False),
        ("", HTML, False),
    ],
)
def test_who_asks_not_to_be_followed(html: str, headers: tuple[tuple[str, str], ...], nofollow: bool) -> None:
    page = read_page(html.encode(), "http://example.com/", headers)
    assert page is not None
    assert page.nofollow is nofollow


@pytest.mark.parametrize(
    ("content_type", "body", "is_page"),
    [
        ("text/html; charset=utf-8", b"", True), ("application/xhtml+xml", b"", True), ("text/plain", b"<html>", False),
        ("application/pdf", b"<html>", False), (None, b"<!DOCTYPE html><p>", True), (None, b"\x89PNG", False),
    ],
)  # fmt: skip
def test_only_pages_are_read(content_type: str | None, body: bytes, is_page: bool) -> None:
    headers = (("content-type", content_type),) if content_type else ()
    assert (read_page(body, "http://example.com/", headers) is not None) is is_page


def test_links_agree_with_peers() -> None:
    """Rows of the peers' default options; one keeps out images by their ending, which is no matter of links."""
    checked = 0
    for case in load_cases("practice/03a_link_extraction.json")["cases"]:
        if not case.get("default_options") or "expected_links" not in case or "ignored_extensions" in case["test"]:
            continue
        url = canonicalize(case["base_url"])
        assert isinstance(url, str)
        expected = [link.partition("#")[0] for link in case.get("expected_links_whatwg") or case["expected_links"]]
        assert list(read(case["html"], url, obey_nofollow=False).links) == list(dict.fromkeys(expected)), case["id"]
        checked += 1
    assert checked > 0


def test_meta_refresh_agrees_with_the_standard() -> None:
    for case in load_cases("practice/03b_meta_refresh.json")["cases"]:
        if "content" not in case:
            continue
        target = parse_meta_refresh(case["content"])
        if not case["redirects"]:
            assert not target, case["id"]
        elif case["target"] != "SELF":
            assert target is not None, case["id"]
            assert target.translate({9: None, 10: None}).strip() == case["target"].strip(), case["id"]


def test_srcset_agrees_with_the_standard() -> None:
    for case in load_cases("practice/03d_srcset.json")["cases"]:
        assert list(parse_srcset(case["srcset"])) == case["all_candidates"], case["id"]


@pytest.mark.parametrize("unit", ["<base ", "<a href=x>", "<div>", "<b><a href='", "<!--", "<a " + "x" * 50])
def test_no_page_takes_quadratic_time(unit: str) -> None:
    started = time.process_time()
    read(unit * 100_000)
    assert time.process_time() - started < 10


@given(st.binary(max_size=500) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")))
def test_nothing_on_a_page_is_an_error(body: bytes) -> None:
    page = read(b"<a href=" + body)
    assert all(link == canonicalize(link) for link in page.links)
