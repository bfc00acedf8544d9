"""What pages do wrong: a text comes of it all the same, that can be written anywhere; or it is said that there is none."""

from __future__ import annotations

import base64
import string
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqspider.extract.document import MAX_TAGS, BinaryError, Document
from sqspider.extract.texts import clean, main_of, markdown_of, text_of
from tests.extract.pages import document

READ = (text_of, markdown_of, main_of)
XHTML = "application/xhtml+xml"
ROOT = '<html xmlns="http://www.w3.org/1999/xhtml"><head><script src="x.js"/><title/></head><body>'
PNG = base64.b64decode("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=")


@pytest.mark.parametrize("body", [PNG, b"%PDF-1.7\nonly text here\n", b"\x1f\x8b\x08\0\0\0\0\0", b"MZ\x90\0\x03\0\0\0"])
@pytest.mark.parametrize("read", READ)
def test_binary_content_that_is_called_a_page_is_told(read: Callable[[Document], str], body: bytes) -> None:
    with pytest.raises(BinaryError, match="called text/html, but it is no text"):
        read(document(body, content_type="text/html"))


def test_a_page_with_a_stray_control_character_is_a_page() -> None:
    page = document("<p>" + "word " * 100 + "a\0b\x0bc\x0cd\x1fe")
    assert text_of(page).endswith("word ab" + "c de")


def test_a_page_whose_declaration_lies_is_read_as_a_browser_reads_it() -> None:
    page = document(
        "<meta charset=utf-8><p>\u043f\u0440\u0438\u0432\u0435\u0442 abc".encode("cp1251"), content_type="text/html"
    )
    text = text_of(page)
    assert text.endswith(" abc")
    assert set(text) <= set("\ufffd abc")


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("content_type", ["text/html", "text/html; charset=iso-8859-1"])
def test_a_byte_order_mark_beats_what_else_is_said(codec: str, content_type: str) -> None:
    page = document("\ufeff<p>h\u00e9 \u4f60".encode(codec), content_type=content_type)
    assert text_of(page) == "h\u00e9 \u4f60"


def test_a_page_that_declares_nothing_is_read_by_its_bytes() -> None:
    assert text_of(document("<p>h\u00e9".encode(), content_type="text/html")) == "h\u00e9"
    assert text_of(document("<p>h\u00e9 x".encode("cp1252"), content_type="text/html")) == "h\u00e9 x"
    assert text_of(document(b"<!doctype html><p>x", content_type="")) == "x"


def test_an_empty_script_of_xhtml_swallows_nothing() -> None:
    body = f'{ROOT}<div/><p>a&nbsp;b<br/>c<b/>d &lt;i&gt; <![CDATA[<u>]]></p><textarea/><p title="&gt;">e</p></body></html>'
    page = document(body, content_type=XHTML)
    assert text_of(page) == "a b\ncd <i> <u>\n\ne"
    assert markdown_of(page) == "a b  \ncd \\<i> \\<u>\n\ne"
    assert text_of(document(body, content_type="application/xml")) == text_of(page)


def test_xhtml_that_is_not_well_formed_is_read_as_html() -> None:
    assert text_of(document(f"{ROOT}<p>a<p>b</body></html>", content_type=XHTML)) == ""  # the script swallows it there
    assert text_of(document("<html><body><p>a<p>b", content_type=XHTML)) == "a\n\nb"


def test_what_is_no_page_is_its_own_text() -> None:
    page = document("a\r\nb\x00\x0cc <p>\rd" + "." * 200, content_type="text/plain; charset=utf-8")
    assert text_of(page) == markdown_of(page) == "a\nbc <p>\nd" + "." * 200
    assert main_of(page) == ""


@pytest.mark.parametrize(
    "markup",
    [
        pytest.param("<div>" * 50_000 + "x", id="elements in elements"),
        pytest.param("<b>" * 50_000 + "x", id="formatting in formatting"),
        pytest.param("<table><tr><td>x" * 10_000, id="tables in tables"),
        pytest.param("<blockquote><ul><li>x" * 5_000, id="lists in lists"),
        pytest.param("<p " + " ".join(f"a{number}=1" for number in range(50_000)) + ">x", id="attributes"),
        pytest.param("<a href='/x'>x</a>" * 20_000, id="links"),
        pytest.param("<table>" + "<tr><td colspan=1000>x<td rowspan=60000>x" * 5_000, id="cells that span"),
        pytest.param("<table><tr>" + "<td>x" * 300_000, id="cells"),
        pytest.param("<div class=share>x <p>" * 20_000, id="what is around in what is around"),
        pytest.param("<i><p>R# 11111, undermentation.</p><br>x", id="what ended the process"),
    ],
)
def test_hostile_pages_have_a_text(markup: str) -> None:
    page = document(markup)
    assert "x" in text_of(page)
    assert "x" in markdown_of(page)
    assert isinstance(main_of(page), str)  # which may be empty


def test_a_tree_has_only_so_many_tags() -> None:
    page = document("<p>first" + "<i>" * MAX_TAGS + "<p>last")
    assert text_of(page) == "first"


def test_only_the_first_bytes_of_a_large_page_are_read() -> None:
    page = document("<p>first" + " word" * 1_000_000 + "<p>last", max_bytes=1000)
    assert len(page.body) == 1000
    assert text_of(page).startswith("first word")
    assert "last" not in text_of(page)


_TAGS = [
    f"<{tag}>"
    for tag in [
        "p",
        "b",
        "i",
        "a",
        "table",
        "tr",
        "td",
        "div",
        "ul",
        "li",
        "ol",
        "pre",
        "code",
        "script",
        "svg",
        "template",
        "br",
        "main",
        "nav",
        "h1",
        "q",
    ]
]
_PIECES = st.one_of(
    st.sampled_from(
        [*_TAGS, *(tag.replace("<", "</") for tag in _TAGS), "<!--", "-->", "<![CDATA[", "&#0;", "&#xD800;"]
    ),
    st.text(alphabet=st.characters(), max_size=8),
    st.text(alphabet=string.printable, max_size=20),
    st.sampled_from(
        ["<td colspan=2>", "<td rowspan=0>", "<a href='?x'>", "<img src=x>", "<p hidden>", "<base href=//>"]
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_PIECES, max_size=40).map("".join), st.sampled_from(["text/html; charset=utf-8", XHTML, "text/plain"]))
def test_nothing_that_a_page_says_raises_and_all_can_be_written(markup: str, content_type: str) -> None:
    page = document(markup.encode("utf-8", "surrogatepass"), content_type=content_type)
    for read in READ:
        try:
            text = read(page)
        except BinaryError:
            continue
        assert text == clean(text) == text.encode().decode()
        assert "\0" not in text
        assert read(page) == text  # whatever was read before


def test_half_of_a_surrogate_pair_is_no_character() -> None:
    assert clean("a\ud83d\r\nb\0") == "a\ufffd\nb"


@given(st.text(alphabet=st.characters()))
def test_a_clean_text_is_clean(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    assert "\r" not in cleaned
    cleaned.encode()


@given(st.lists(st.text(alphabet=string.ascii_letters + " ", min_size=1).map(str.split).map(" ".join), max_size=9))
def test_the_text_of_a_text_is_that_text(blocks: list[str]) -> None:
    text = "\n\n".join(filter(None, blocks))
    assert text_of(document("".join(f"<p>{block}</p>" for block in text.split("\n\n")))) == text
