"""A page to read: its text, its Markdown, and its main content without what surrounds it.

All of it is made of what a reader sees (``shown.py``), and can be written down: no lone surrogates, no control
characters. None of these raise for what a page does wrong, but what :class:`Document` raises for what is no text.
"""

from __future__ import annotations

import copy
import re
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import ada_url

from sqspider.extract.document import Document
from sqspider.extract.grids import make_rectangular
from sqspider.extract.main_content import main_content

if TYPE_CHECKING:
    import turbohtml

MAIN_BY: Final = ("turbohtml", "trafilatura")  # who finds main contents; the second takes ten times the processor time
_MOST_FOR_TRAFILATURA: Final = 1_000_000  # characters: what is longer takes it minutes

_CONTROLS: Final = bytes((*range(0x09), 0x0B, 0x0C, *range(0x0E, 0x20), 0x7F))
_INVISIBLE: Final = ("\u00ad", "\u200b", "\ufeff")  # where a word may be broken, and a byte order mark
_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_TO_ITEM: Final = re.compile(r"\s*\n *(?=\S)")  # from a bullet or a number to its item, a line below
_EMPTY_LINES: Final = re.compile(r"\n\n\n+")
_HEADING: Final = re.compile(r"^#{1,6} .*&#160;.*$", re.MULTILINE)
_REFERENCES: Final = (("href", "a[href]:not([href^='#'])"), ("src", "img[src]"))


def text_of(document: Document) -> str:
    """All of a page as plain text, block by block; of another text, itself."""
    return _plain(document.shown) if document.is_page else clean(document.markup)


def markdown_of(document: Document) -> str:
    """All of a page as Markdown, with absolute links; of another text, itself."""
    if not document.is_page:
        return clean(document.markup)
    # The page is copied, and no element of it: turbohtml 1.15 ends the process where an element without a parent
    # becomes Markdown (an <i> with a <br> in it).
    return _markdown(copy.deepcopy(document.shown), document.base_url)


def main_of(document: Document, by: str = "turbohtml") -> str:
    """The main content as plain text, by one of ``MAIN_BY``; empty where none is found, and of what is no page."""
    if not document.is_page:
        return ""
    return _by_trafilatura(document.markup) if by == "trafilatura" else _plain(main_content(document.shown))


def require_main_by(by: str) -> None:
    """Raises ``ValueError`` for a name of nobody who finds main contents, or of one who is not installed."""
    if by not in MAIN_BY:
        raise ValueError(f"{by!r} finds no main content: it is found by {' or '.join(MAIN_BY)}")
    if by == "trafilatura" and find_spec("trafilatura") is None:
        raise ValueError("trafilatura is not installed: pip install 'sqspider[extract]'")


def clean(text: str) -> str:
    """A text that every file and database takes: without control characters and what nobody sees, lines ended by LF."""
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        text = _SURROGATE.sub("\ufffd", text)
        encoded = text.encode()
    kept = encoded.translate(None, _CONTROLS)
    if len(kept) < len(encoded):
        text = kept.decode()
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.isascii():
        for invisible in _INVISIBLE:
            text = text.replace(invisible, "")
        text = text.replace("\xa0", " ")
    return text


def _plain(node: turbohtml.Node) -> str:
    import turbohtml

    text = clean(node.to_text(turbohtml.PlainText(table_cell_separator="\t")))
    if " \t" in text:  # cells are filled with blanks to the width of their column
        text = "\t".join([cell.rstrip(" ") for cell in text.split("\t")])
    text = _with_items(text)
    text = "\n".join(map(str.rstrip, text.split("\n")))
    if "\n\n\n" in text:
        text = _EMPTY_LINES.sub("\n\n", text)
    return text.strip("\n")


def _with_items(text: str) -> str:
    """Bullets and numbers that stand alone in their line, each with its item. Behind them, there is a blank."""
    made, done = [], 0
    at = text.find(" \n")
    while at >= 0:
        start = text.rfind("\n", 0, at) + 1
        marker = text[start:at].rstrip(" ")
        bare = marker.lstrip(" ")
        if start >= done and (bare == "*" or (bare[-1:] == "." and bare[:-1].isdecimal())):
            to_item = _TO_ITEM.match(text, at)
            if to_item is not None:
                made.append(text[done : start + len(marker)])
                done = to_item.end()
        at = text.find(" \n", at + 1)
    return " ".join([*made, text[done:]])


def _by_trafilatura(markup: str) -> str:
    import trafilatura

    try:
        found = trafilatura.extract(markup[:_MOST_FOR_TRAFILATURA], include_comments=False)
    except Exception:  # noqa: BLE001 - whatever it meets on a page it was not written for, that page has none
        found = None
    return clean(found or "")


def _markdown(page: turbohtml.Document | turbohtml.Element, base_url: str) -> str:
    """``page`` is changed."""
    _make_absolute(page, base_url)
    text = _rendered(page)
    if "<table" in text:  # it has no form in Markdown, as it is
        make_rectangular(page)
        text = _rendered(page)
    return _HEADING.sub(lambda line: line[0].replace("&#160;", " "), text) if "&#160;" in text else text


def _rendered(page: turbohtml.Document | turbohtml.Element) -> str:
    import turbohtml

    tables = turbohtml.Markdown.Tables(cell_blocks="text")  # a table within a table would stand there as HTML
    return clean(page.to_markdown(turbohtml.Markdown(tables=tables)))


def _make_absolute(page: turbohtml.Document | turbohtml.Element, base_url: str) -> None:
    """Links lead where they lead on the page, wherever the Markdown lies; those within the page stay within it."""
    for name, selector in _REFERENCES:
        for element in page.select(selector):
            with suppress(ValueError):  # what is no URL stays as it is written
                element.attrs[name] = ada_url.join_url(base_url, element.attr(name) or "")
