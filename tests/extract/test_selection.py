"""Which captures are selected, by what was sent with them."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from sqspider.archive.cdxj import write_index
from sqspider.archive.folder import Folder
from sqspider.archive.reading import Captured, captures_in, read_archive
from sqspider.extract.cursor import Cursor
from sqspider.extract.document import Document
from sqspider.extract.selection import Selection, Selector
from sqspider.web.body import DecodeError
from tests.archive.ours import SITE, an_archive
from tests.archive.small_warcs import NOON, Warc

URL = "http://a.test/x"
PAGE = b"<!doctype html><title>t</title>"


def captured(tmp_path: Path, body: bytes = PAGE, **said: Any) -> Captured:
    warc = Warc("a.warc.gz")
    warc.response(URL, body, NOON, **said)
    warc.write(tmp_path)
    (found,) = read_archive(str(tmp_path))
    return found


def takes(capture: Captured, **said: Any) -> bool:
    return Selector(Selection(**said)).takes(capture)


@pytest.mark.parametrize(
    ("status", "said", "is_taken"),
    [
        ("200 OK", {}, True),
        ("204 Nothing", {}, True),
        ("404 None", {}, False),
        ("404 None", {"statuses": ("4xx",)}, True),
        ("404 None", {"statuses": ("200", "400-410")}, True),
        ("500 Bad", {"statuses": ("200", "400-410")}, False),
        ("500 Bad", {"statuses": ("*",)}, True),
    ],
)
def test_by_status(tmp_path: Path, status: str, said: dict[str, Any], is_taken: bool) -> None:
    assert takes(captured(tmp_path, status=status), **said) is is_taken


@pytest.mark.parametrize(
    ("kind", "body", "said", "is_taken"),
    [
        ("text/html; charset=utf-8", PAGE, {}, True),
        ("Application/XHTML+XML", PAGE, {}, True),
        ("image/png", PAGE, {}, False),
        ("image/png", PAGE, {"types": ("image/*",)}, True),
        ("text/html", PAGE, {"types": ("image/*",)}, False),
        ("image/png", PAGE, {"types": ("*",)}, True),
        ("", PAGE, {}, True),  # it says nothing: by what it begins with
        ("", b" \n<!-- x --> <HTML>", {}, True),
        ("", b"<div><a href=/x>as the crawler sees it</a></div>", {}, True),
        ("", b"<?xml version='1.0'?><html xmlns='http://www.w3.org/1999/xhtml'/>", {}, True),
        ("", b"\x89PNG", {}, False),
        ("", PAGE, {"types": ("image/*",)}, False),
    ],
)
def test_by_media_type(tmp_path: Path, kind: str, body: bytes, said: dict[str, Any], is_taken: bool) -> None:
    assert takes(captured(tmp_path, body, kind=kind), **said) is is_taken


@pytest.mark.parametrize(
    ("said", "is_taken"),
    [
        ({"host": "a.test"}, True),
        ({"host": "b.test"}, False),
        ({"since": NOON}, True),
        ({"since": NOON + 1}, False),
        ({"until": NOON}, False),
        ({"until": NOON + 1}, True),
        ({"crawl": "default"}, True),
        ({"crawl": "other"}, False),
    ],
)
def test_by_host_time_and_crawl(tmp_path: Path, said: dict[str, Any], is_taken: bool) -> None:
    assert takes(captured(tmp_path), **said) is is_taken


@pytest.mark.parametrize("wrong", [{"statuses": ("2x",)}, {"statuses": ("20",)}, {"types": ("html",)}])
def test_what_is_no_status_or_type_is_refused(wrong: dict[str, Any]) -> None:
    (field,) = wrong
    with pytest.raises(ValueError, match=rf"^{field}: .*write "):
        Selection(**wrong)


async def test_what_leads_to_pages_is_left_out(tmp_path: Path) -> None:
    """robots.txt and sitemaps, of an archive that the crawler's own store has written; and a 304 is its page."""
    await an_archive(tmp_path)
    write_index(Folder(str(tmp_path)))
    everything = list(read_archive(str(tmp_path)))
    aside = {each.url for each in everything if not takes(each, statuses=("*",), types=("*",))}
    assert f"{SITE}/robots.txt" in aside
    assert all(takes(each, statuses=("*",), types=("*",), with_aside=True) for each in everything)
    (unchanged,) = [each for each in everything if each.kind == "revisit" and each.http_status is None]
    assert takes(unchanged)
    assert not takes(unchanged, types=("image/*",))
    original = next(each for each in everything if each.url == unchanged.url and each.kind == "response")
    document = Document(unchanged)
    assert document.headers == tuple(original.headers)
    assert document.body == original.body()


def test_a_revisit_whose_original_is_lost_is_not_left_out_silently(tmp_path: Path) -> None:
    elsewhere, warc = Warc("b.warc.gz"), Warc("a.warc.gz")
    first = elsewhere.response(URL, PAGE, NOON)
    warc.revisit(URL, first, NOON + 1, unchanged=True)
    warc.write(tmp_path)
    (found,) = read_archive(str(tmp_path))
    assert takes(found)
    with pytest.raises(DecodeError, match="is not to be found"):
        _ = Document(found).body


def test_a_cursor_is_changed_in_its_owners_transaction(tmp_path: Path) -> None:
    from sqspider.extract.cursor import Pending
    from sqspider.extract.walking import look

    captured(tmp_path)
    connection = sqlite3.connect(":memory:", isolation_level=None)
    cursor = Cursor(connection)
    connection.execute("BEGIN")
    for _, step in look(Folder(str(tmp_path)), cursor, print):
        cursor.take([step])
    cursor.wait_for([Pending("key", 1)])
    cursor.note(rules="x")
    assert cursor.reached("a.warc.gz") is None
    connection.execute("ROLLBACK")
    assert (cursor.reached("a.warc.gz"), cursor.count_pending(), cursor.made_with()) == (0, 0, {})


def test_some_pending_come_in_their_order() -> None:
    from sqspider.extract.cursor import Pending

    cursor = Cursor(sqlite3.connect(":memory:", isolation_level=None))
    waits = [Pending(f"key {number:03}", at) for number in range(50) for at in (1, 2)]
    cursor.wait_for(reversed(waits))
    found: list[Pending] = []
    while some := cursor.pending(found[-1] if found else None, 7):
        found += some
        cursor.resolved(some[:3])
    assert found == waits
    assert cursor.count_pending() == len(waits) - sum(min(3, len(waits) - at) for at in range(0, len(waits), 7))


def test_captures_of_one_file_know_where_they_were_first_written(tmp_path: Path) -> None:
    captured(tmp_path)
    folder = Folder(str(tmp_path))
    (info,) = folder.all()
    (found,) = captures_in(folder, info)
    assert found.origin
    assert found.origin == dict(found.fields)["WARC-Warcinfo-ID"].strip("<>")
