"""Pages as files: safe names, nothing outside of the folder, links that lead where they led."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.archive.errors import ArchiveError
from sqspider.archive.export_files import Skipped, Written, export_files
from sqspider.archive.export_links import relinked
from sqspider.archive.export_names import MAX_NAME_BYTES, MAX_PATH_BYTES, folded, link_between, path_of
from sqspider.archive.files import FileInfo
from sqspider.archive.folder import Folder
from sqspider.url import canonicalize

from .small_warcs import NOON, Warc

HTML = (("Content-Type", "text/html; charset=utf-8"),)


class Out:
    """An export of an archive, and what was said."""

    def __init__(self, tmp_path: Path, warc: Warc, **options: Any) -> None:
        archive, self.folder = tmp_path / "archive", tmp_path / "out"
        warc.write(archive)
        self.written: list[Written] = []
        self.skipped: list[Skipped] = []
        self.done = export_files(
            Folder(str(archive)), self.folder, on_written=self.written.append, on_skipped=self.skipped.append, **options
        )

    @property
    def files(self) -> dict[str, bytes]:
        found = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in found}


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("http://a.test/", "a.test/index.html"),
        ("http://a.test/x/", "a.test/x/index.html"),
        ("http://a.test/x/y.html", "a.test/x/y.html"),
        ("http://a.test:8080/x", "a.test+8080/x"),
        ("http://a.test/x?b=1&c=%26", "a.test/x@b=1&c=&"),
        ("http://a.test/?q", "a.test/index.html@q"),
        ("http://a.test/~me/caf%C3%A9", "a.test/~me/café"),
        ("http://a.test/caf%E9", "a.test/caf%E9"),
        ("http://a.test/a%2Fb%5Cc%00d", "a.test/a%2Fb%5Cc%00d"),
        ("http://a.test/%2e%2e%2f%2e%2e%2fetc/passwd", "a.test/..%2F..%2Fetc/passwd"),
        ("http://a.test/...", "a.test/..%2E"),
        ("http://a.test/a.%20/b.", "a.test/a.%20/b%2E"),
        ("http://a.test/CON/aux.txt/lpt1", "a.test/%43ON/%61ux.txt/%6Cpt1"),
        ("http://a.test//x///y", "a.test/x/y"),
        ("http://a.test/a:b*c|d<e>", "a.test/a%3Ab%2Ac%7Cd%3Ce%3E"),
        ("http://[::1]:80/x", "[%3A%3A1]/x"),
    ],
)
def test_a_path_is_as_wget_has_it_and_safe(url: str, path: str) -> None:
    canonical = canonicalize(url)
    assert isinstance(canonical, str)
    assert "/".join(path_of(canonical)) == path


@given(st.text(max_size=300), st.text(max_size=50))
def test_no_url_leads_out_of_its_folder(path: str, query: str) -> None:
    url = canonicalize(f"http://a.test/{path}?{query}", most_bytes=1_000_000)
    if not isinstance(url, str):
        return
    parts = path_of(url)
    assert len(parts) >= 2
    assert sum(len(part.encode()) + 1 for part in parts) <= MAX_PATH_BYTES + MAX_NAME_BYTES
    for part in parts:
        assert 0 < len(part.encode()) <= MAX_NAME_BYTES
        assert part not in (".", "..")
        assert not re.search(r"[\x00-\x1f\\/:?\"*<>|]", part)
        assert not part.endswith((".", " "))


def test_long_names_stay_apart() -> None:
    one, other = (path_of(f"http://a.test/{'x' * 1000}{end}.html") for end in "ab")
    assert one != other
    assert one[-1].endswith(".html")
    assert len(path_of("http://a.test/" + "dir/" * 400 + "page")) == 3


def test_the_last_good_capture_is_written_decoded(tmp_path: Path) -> None:
    warc = Warc("a.warc.gz")
    body = b"now " * 1000
    warc.response("http://a.test/", b"old", NOON)
    warc.response("http://a.test/", gzip.compress(body), NOON + 10, headers="Content-Encoding: gzip\r\n")
    warc.response("http://a.test/", b"down", NOON + 20, status="503 Down")
    warc.response("http://a.test/gone", b"gone", status="404 Not Found")
    warc.response("http://a.test/moved", b"", status="301 Moved", headers="Location: /\r\n")
    warc.response("http://a.test/bad", b"bad", headers="Content-Encoding: gzip\r\n")
    warc.response("http://a.test/cut", b"half", truncated="length")
    out = Out(tmp_path, warc)
    assert out.files == {"a.test/index.html": body, "a.test/cut": b"half"}
    assert os.stat(out.folder / "a.test/index.html").st_mtime == NOON + 10
    assert (out.done.files, out.done.cut, out.done.bytes) == (2, 1, 4004)
    assert {skipped.url: skipped.why for skipped in out.skipped} == {
        "http://a.test/gone": "HTTP status 404",
        "http://a.test/moved": "HTTP status 301",
        "http://a.test/bad": "its body does not decode as its Content-Encoding says",
    }


@pytest.mark.parametrize("below", [".", "pages"])
def test_nothing_is_written_into_the_archive(tmp_path: Path, below: str) -> None:
    warc = Warc("one.warc.gz")
    warc.response("http://a.test/x.warc.gz", b"x", NOON)
    warc.write(tmp_path)
    with pytest.raises(ArchiveError, match="in the archive itself"):
        export_files(Folder(str(tmp_path)), tmp_path / below)
    assert os.listdir(tmp_path) == ["one.warc.gz"]


def test_a_revisit_is_written_with_its_payload(tmp_path: Path) -> None:
    warc = Warc("a.warc.gz")
    first = warc.response("http://a.test/1", b"same", NOON)
    warc.revisit("http://a.test/2", first, NOON + 1, of="http://a.test/1")
    warc.revisit("http://a.test/1", first, NOON + 2, unchanged=True)
    warc.revisit("http://a.test/lost", first, NOON + 3, of="http://elsewhere.test/")
    out = Out(tmp_path, warc)
    assert out.files == {"a.test/1": b"same", "a.test/2": b"same"}
    assert [skipped.url for skipped in out.skipped] == ["http://a.test/lost"]
    assert os.stat(out.folder / "a.test/1").st_mtime == NOON + 2


def test_what_would_be_one_file_is_two(tmp_path: Path) -> None:
    """Upper and lower case, two ways to write an accent, a page and a folder of one name."""
    urls = ["/Page", "/page", "/caf%C3%A9", "/cafe%CC%81", "/dir", "/dir/below", "/DIR/other", "/x//y", "/x/y"]
    warc = Warc("a.warc.gz")
    for url in urls:
        warc.response(f"http://a.test{url}", url.encode())
    out = Out(tmp_path, warc)
    assert sorted(out.files.values()) == sorted(url.encode() for url in urls)
    assert len({folded(tuple(path.split("/"))) for path in out.files}) == len(urls)
    assert {"a.test/Page", "a.test/dir/below"} <= out.files.keys()
    assert not any((out.folder / "a.test/dir").is_file() for _ in [0])


def test_what_is_named_like_our_own_names_takes_no_others_place(tmp_path: Path) -> None:
    """Whoever knows how names are told apart can ask for such a name."""
    warc = Warc("a.warc.gz")
    warc.response("http://a.test/Page", b"1")
    warc.response("http://a.test/page", b"2")
    (taken,) = {path for path in Out(tmp_path / "try", warc).files if "~" in path}
    warc.response(f"http://a.test/{taken.partition('/')[2]}", b"3")
    assert sorted(Out(tmp_path, warc).files.values()) == [b"1", b"2", b"3"]


def test_links_of_others_are_not_followed_and_nothing_is_written_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    (tmp_path / "out/a.test").mkdir(parents=True)
    (tmp_path / "out/a.test/dir").symlink_to(outside)
    (tmp_path / "out/a.test/link").symlink_to(outside / "file")
    warc = Warc("a.warc.gz")
    warc.response("http://a.test/dir/file", b"evil")
    warc.response("http://a.test/link", b"evil")
    out = Out(tmp_path, warc, overwrite=True)
    assert (outside / "file").read_text() == "mine"
    assert [path.name for path in outside.iterdir()] == ["file"]
    assert [(skipped.url, skipped.why) for skipped in out.skipped] == [
        ("http://a.test/dir/file", "a file or a link is in the place of a folder")
    ]
    assert (tmp_path / "out/a.test/link").read_bytes() == b"evil"
    assert not (tmp_path / "out/a.test/link").is_symlink(), "the link is replaced, not what it leads to"


def test_what_is_there_is_replaced_only_if_asked_for(tmp_path: Path) -> None:
    (tmp_path / "out/a.test").mkdir(parents=True)
    there = tmp_path / "out/a.test/page"
    there.write_text("mine")
    warc = Warc("a.warc.gz")
    warc.response("http://a.test/page", b"new")
    assert "--overwrite" in Out(tmp_path, warc).skipped[0].why
    assert there.read_text() == "mine"
    assert Out(tmp_path, warc, overwrite=True).done.files == 1
    assert there.read_text() == "new"
    assert [path.name for path in there.parent.iterdir()] == ["page"]


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    warc = Warc("a.warc.gz")
    warc.response("http://a.test/", b"x")
    with pytest.raises(ArchiveError, match="out cannot be written to"):
        Out(tmp_path, warc)


def test_damage_is_said_and_the_rest_is_written(tmp_path: Path) -> None:
    torn = Warc("b.warc.gz")
    torn.response("http://b.test/1", b"whole")
    torn.response("http://b.test/2", b"torn" * 100)
    torn.content = torn.content[: torn.places[1].offset + 50]
    torn.write(tmp_path / "archive")
    warc = Warc("a.warc.gz")
    warc.response("http://a.test/", b"x")
    out = Out(tmp_path, warc)
    assert out.files == {"a.test/index.html": b"x", "b.test/1": b"whole"}
    assert [skipped.url for skipped in out.skipped] == ["b.warc.gz"]


def test_what_is_packed_meanwhile_is_said(tmp_path: Path) -> None:
    """After it was noted what there is, and before that is written."""
    other = Warc("b.warc.gz")
    other.response("http://a.test/moved", b"moved", NOON)
    other.write(tmp_path / "archive")
    warc = Warc("a.warc.gz")
    warc.response("http://a.test/stays", b"stays", NOON)
    read = []

    def packed_meanwhile(info: FileInfo) -> None:
        read.append(info.name)
        if len(read) == 3:  # the first of those that are read again
            (tmp_path / "archive" / "b.warc.gz").rename(tmp_path / "archive" / "packed.warc.gz")

    out = Out(tmp_path, warc, on_file=packed_meanwhile)
    assert out.files == {"a.test/stays": b"stays"}
    (skipped,) = out.skipped
    assert (skipped.url, "meanwhile" in skipped.why) == ("http://a.test/moved", True)


def test_links_lead_to_the_files_and_elsewhere_in_full(tmp_path: Path) -> None:
    page = b"""<a href="/b?x=1&amp;y=2#part">b</a> <a href=dir/>dir</a> <a href="/away">away</a> <a href='/moved'>m</a>
    <a href="#top">top</a> <a href="mailto:a@b">mail</a> <img src=i.png srcset="i.png 2x, /none.png 3x">"""
    warc = Warc("a.warc.gz")
    warc.response("http://a.test/", page)
    warc.response("http://a.test/b?x=1&y=2", b"<a href=/>home</a>")
    warc.response("http://a.test/dir/", b"<a href=../b?x=1&y=2>b</a>")
    warc.response("http://a.test/moved", b"", status="302 Found", headers="Location: http://c.test/\r\n")
    warc.response("http://a.test/i.png", b"<a href=/>no page</a>", kind="image/png")
    warc.response("http://c.test/", b"c")
    out = Out(tmp_path, warc, convert_links=True)
    assert out.files["a.test/index.html"].decode() == (
        """<a href="b@x=1%26y=2#part">b</a> <a href="dir/index.html">dir</a> <a href="http://a.test/away">away</a> """
        """<a href="../c.test/index.html">m</a>
    <a href="#top">top</a> <a href="mailto:a@b">mail</a> <img src=i.png srcset="i.png 2x, http://a.test/none.png 3x">"""
    )
    assert out.files["a.test/b@x=1&y=2"] == b'<a href="index.html">home</a>'
    assert out.files["a.test/dir/index.html"] == b'<a href="../b@x=1%26y=2">b</a>'
    assert out.files["a.test/i.png"] == b"<a href=/>no page</a>"


FOUND = {
    "http://a.test/x": "X",
    "http://a.test/dir/x": "DX",
    "http://a.test/?q=%E9": "LATIN",
    "http://a.test/?q=%C3%A9": "UTF",
}


@pytest.mark.parametrize(
    ("page", "written"),
    [
        ("<A HREF=x>", '<A HREF="X">'),
        ("<a class=href href='x' HREF='y'>", """<a class=href href="X" HREF='y'>"""),
        ("<a data-href=x>", "<a data-href=x>"),
        ("<a href>", "<a href>"),
        ("<a href=x/>", '<a href="http://a.test/x/">'),
        ("<a title='<a href=x>' href=x>", """<a title='<a href=x>' href="X">"""),
        ("<!-- <a href=x> --><a href=x>", '<!-- <a href=x> --><a href="X">'),
        ("<!--><a href=x>", '<!--><a href="X">'),
        ("<script>'<a href=x>'</script><a href=x>", """<script>'<a href=x>'</script><a href="X">"""),
        ("<script src=x></script>", '<script src="X"></script>'),
        ("<textarea><a href=x></textarea>", "<textarea><a href=x></textarea>"),
        ("<base href=/dir/><a href=x><a href=#f>", '<base href=""><a href="DX"><a href="http://a.test/dir/#f">'),
        ("<style>a{background:url( 'x' )}</style>", '<style>a{background:url( "X" )}</style>'),
        ("<p style='background:url(x)'>", '<p style="background:url(&quot;X&quot;)">'),
        ("<style>@import'x';@import 'x'</style>", """<style>@import"X";@import "X"</style>"""),
        ("<style>/* url(x) */ a{content:'url(x)'}</style>", "<style>/* url(x) */ a{content:'url(x)'}</style>"),
        ("<style>a{b:image-set('x' 1x type('x'))}</style>", """<style>a{b:image-set("X" 1x type('x'))}</style>"""),
        ("<style>a{b:url(\\78) url( x#\\22) url()}</style>", '<style>a{b:url("X") url( "X#%22") url()}</style>'),
        ("<style>url('x", "<style>url('x"),
        ("<p style=\"background:url('?q=\xe9')\">", '<p style="background:url(&quot;UTF&quot;)">'),
        ("<p background=x><svg><script href=x />", '<p background="X"><svg><script href="X" />'),
        ("<script src=x integrity='a' CrossOrigin></script>", '<script src="X"  ></script>'),
        (
            "<link crossorigin=anonymous href=x/y integrity=a>",
            '<link crossorigin=anonymous href="http://a.test/x/y" integrity=a>',
        ),
        ("<link rel=preload imagesrcset='x 1x, x 2x'>", '<link rel=preload imagesrcset="X 1x, X 2x">'),
        ("<a href=' x\n'>", '<a href="X">'),
        ("<a href='&#120;'>", '<a href="X">'),
        ("<a href='http://[bad'>", "<a href='http://[bad'>"),
        ("<a href='javascript:x'>", "<a href='javascript:x'>"),
        ("<a href='//b.test/y'>", '<a href="http://b.test/y">'),
        ("<a href='x'", "<a href='x'"),
        ("<img srcset='x, x 2x,y(a,b) 3x'>", '<img srcset="X, X 2x,http://a.test/y(a,b) 3x">'),
        ("<img srcset='data:x,y 1x'>", "<img srcset='data:x,y 1x'>"),
        ("a < b <a href=x>", 'a < b <a href="X">'),
    ],
)
def test_only_links_are_written_anew(page: str, written: str) -> None:
    assert relinked(page.encode(), "http://a.test/", HTML, FOUND.get).decode() == written


@pytest.mark.parametrize(
    ("encoding", "mark", "to"),
    [
        ("iso-8859-1", b"", "LATIN"),
        ("utf-8", b"", "UTF"),
        ("utf-16le", b"\xff\xfe", "UTF"),
        ("utf-16be", b"\xfe\xff", "UTF"),
    ],
)
def test_a_page_stays_in_its_encoding(encoding: str, mark: bytes, to: str) -> None:
    headers = (("Content-Type", f"text/html; charset={encoding}"),)
    page = mark + "<p>\xe9</p><a href='?q=\xe9'>\xe9</a>".encode(encoding)
    expected = mark + f'<p>\xe9</p><a href="{to}">\xe9</a>'.encode(encoding)
    assert relinked(page, "http://a.test/", headers, FOUND.get) == expected


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("iso-8859-1", "url(LATIN) 'ab'"), ("utf-8", "url(UTF) 'ab'"), ("shift_jis", "url(X) 'ab'")],
)
def test_a_style_sheet_stays_in_its_encoding(encoding: str, written: str) -> None:
    headers = (("Content-Type", f"text/css; charset={encoding}"),)
    char = "\u3042" if encoding == "shift_jis" else "\xe9"
    address = "x" if encoding == "shift_jis" else f"?q={char}"
    style = f"url({address}) '{char}'".encode(encoding)
    expected = re.sub(r"url\((.*)\)", r'url("\1")', written).replace("ab", char).encode(encoding)
    assert relinked(style, "http://a.test/", headers, FOUND.get) == expected


def test_a_style_sheet_whose_strings_cannot_be_told_by_bytes_stays_as_it_is() -> None:
    style = "@import '\u8868'; a { background: url(x) }".encode("shift_jis")
    assert b"\\'" in style
    headers = (("Content-Type", "text/css; charset=shift_jis"),)
    assert relinked(style, "http://a.test/", headers, FOUND.get) == style


@given(st.binary(max_size=400))
def test_what_has_no_links_to_write_anew_stays_byte_for_byte(page: bytes) -> None:
    if b"=" not in page and not re.search(rb"url\(|@import|image-set\(", page, re.IGNORECASE):
        assert relinked(page, "http://a.test/", HTML, FOUND.get) == page


@pytest.mark.parametrize(
    ("page", "target", "link"),
    [
        ("h/a", "h/b", "b"),
        ("h/a", "h/a", "a"),
        ("h/d/a", "h/b", "../b"),
        ("h/a", "h/d/b", "d/b"),
        ("h/a", "i/b", "../i/b"),
        ("h/a", "h/100% #?.html", "100%25%20%23%3F.html"),
        ("h/d/a", "h/d/e/b", "e/b"),
        ("h/x/x", "h/x", "../x"),
    ],
)
def test_a_link_leads_from_file_to_file(page: str, target: str, link: str) -> None:
    assert link_between(tuple(page.split("/")), tuple(target.split("/"))) == link
