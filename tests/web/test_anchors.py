"""What is written at the links of a page."""

from __future__ import annotations

import time

import pytest

from sqspider.web.anchors import MAX_TEXT_BYTES, Anchor, anchors_of
from sqspider.web.charset import text_of_answer
from sqspider.web.links import LinkOptions, read_page

URL = "http://example.com/folder/page"
HTML = (("Content-Type", "text/html; charset=utf-8"),)


def anchors(body: str | bytes, headers: tuple[tuple[str, str], ...] = HTML) -> dict[str, Anchor]:
    written = body.encode() if isinstance(body, str) else body
    return anchors_of(written, URL, headers)


def words(body: str) -> dict[str, str]:
    return {url.removeprefix("http://example.com/"): anchor.text for url, anchor in anchors(body).items()}


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ("<a href=/x>One</a>", "One"),
        ("<A HREF='/x'>\n One  <b>t</b>wo\t</A>", "One two"),
        ("<a href=/x>One<br>two<p>three</a>", "One two three"),
        ("<a href=/x>Tom &amp; J&eacute;r&#244;me</a>", "Tom & Jérôme"),
        ("<a href=/x><img alt=Logo></a>", ""),
        ("<a href=/x></a><a href=/x>Second</a><a href=/x>Third</a>", "Second"),
        ("<a href=/x>One<a href=/y>Two</a>", "One"),
        ("<a href=/x>One", "One"),
        ("<a href=/x>One<script>var a = '<a href=/y>no</a>'</script> two<!-- <a href=/z>no</a> --></a>", "One two"),
        ("<map><area href=/x alt='The north'></map>", "The north"),
        ("<a href=/x#part>One</a>", "One"),
        ("<svg><a xlink:href=/x>One</a></svg>", "One"),
    ],
)
def test_the_words_of_a_link(written: str, text: str) -> None:
    assert words(written)["x"] == text


def test_links_are_relative_to_the_first_base() -> None:
    body = "<base href=/other/><base href=/third/><a href=x>One</a>"
    assert words(body) == {"other/x": "One"}
    assert words("<a href=x>One</a>") == {"folder/x": "One"}


def test_rel_is_told_in_words_in_lower_case() -> None:
    assert anchors('<a rel=" NoFollow\n ugc" href=/x>One</a>')["http://example.com/x"].rel == ("nofollow", "ugc")


def test_a_page_in_another_encoding() -> None:
    body = '<meta charset="windows-1251"><a href="/?q=\u0436">\u0416\u0443\u043a</a>'.encode("cp1251")
    assert anchors(body, (("content-type", "text/html"),)) == {
        "http://example.com/?q=%E6": Anchor("\u0416\u0443\u043a")
    }


def test_every_link_of_a_page_is_found_here_too() -> None:
    body = "".join(
        f'<p><a href="{n}?a=1&amp;b={n}#x" class=y>Number {n}</a></p><iframe src=i{n}></iframe>' for n in range(50)
    )
    page = read_page(body.encode(), URL, HTML, LinkOptions())
    assert page is not None
    assert set(page.links) == set(anchors(body))


@pytest.mark.parametrize(
    "hostile",
    ["<a ", "<a href=x>", "<a href=x><b>", "<!--", "<script>", "<script", "<title>", "</a", "<a href='", "&#1"],
)
def test_a_hostile_page_takes_linear_time(hostile: str) -> None:
    def seconds(times: int) -> float:
        body = hostile.encode() * times
        start = time.process_time()
        anchors(body)
        return time.process_time() - start

    seconds(1000)
    assert seconds(40_000) < 40 * max(seconds(5_000), 0.02)  # eight times as long; in square time sixty-four


def test_the_words_of_a_link_are_bounded() -> None:
    text = anchors(f"<a href=/x>{'word ' * 100_000}</a>")["http://example.com/x"].text
    assert len(text) <= 2 * MAX_TEXT_BYTES


@pytest.mark.parametrize(
    ("body", "content_type", "text"),
    [
        ("é".encode(), "text/plain", "é"),
        ("été".encode("latin-1"), "text/plain", "été"),
        ("é".encode("latin-1"), "text/html; charset=iso-8859-1", "é"),
        (b'<meta charset="windows-1251">\xe6', "text/html", '<meta charset="windows-1251">ж'),
        ('{"a": "é"}'.encode(), "application/json", '{"a": "é"}'),
        (
            b'<?xml version="1.0" encoding="iso-8859-1"?><a>\xe9</a>',
            "application/rss+xml",
            '<?xml version="1.0" encoding="iso-8859-1"?><a>é</a>',
        ),
        (b"\xef\xbb\xbfa", "text/plain; charset=latin1", "a"),
        ("é".encode("utf-16"), "text/plain", "é"),
        (b"\xff\xfea", "", "\ufffd"),
        (b"", "", ""),
    ],
)
def test_an_answer_as_text(body: bytes, content_type: str, text: str) -> None:
    assert text_of_answer(body, (("Content-Type", content_type),)) == text
