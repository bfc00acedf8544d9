"""Sitemaps as they are read, against standards' and peers' cases and against whoever wants to do harm."""

from __future__ import annotations

import base64
import gzip
import time
import tracemalloc
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.url import canonicalize
from sqspider.web import sitemap, sitemap_xml
from sqspider.web.robots_rules import RobotsRules
from sqspider.web.sitemap import (
    MAX_SITEMAP_BYTES,
    MAX_SITEMAP_URLS,
    ChildSitemap,
    Found,
    SitemapEntry,
    SitemapReader,
    parse_date,
)
from tests.conftest import load_cases

HERE = "http://www.example.com/sitemap.xml"


def read(body: bytes, step: int = 65_536, url: str = HERE) -> tuple[list[Found], str | None]:
    reader = SitemapReader(url)
    found = [one for at in range(0, len(body), step) for one in reader.feed(body[at : at + step])]
    return found + reader.close(), reader.fault


def refused_in(body: bytes) -> dict[str, int]:
    reader = SitemapReader(HERE)
    reader.feed(body)
    reader.close()
    return dict(reader.refused)


def urls_in(body: bytes, step: int = 65_536) -> list[str]:
    found, fault = read(body, step)
    assert fault is None, fault
    return [one.url for one in found]


def seconds_of(text: str) -> float:
    """What the cases expect: a date and time, or a date, a month or a year, which begin in UTC."""
    padded = text + {4: "-01-01", 7: "-01"}.get(len(text), "")
    when = datetime.fromisoformat(padded)
    return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()


def test_dates_are_read_as_the_peers_read_them() -> None:
    cases = load_cases("04d_sitemap_dates.json")["cases"]
    assert cases
    for case in cases:
        expected = seconds_of(case["expected_utc"]) if case["expected_utc"] else None
        assert parse_date(case["input"]) == expected, case["id"]


@pytest.mark.parametrize("step", [1, 7, 65_536])
def test_documents_are_read_as_the_peers_read_them(step: int) -> None:
    """A peer's strict option, which leaves out URLs beside the sitemap's folder, is not ours."""
    for case in load_cases("practice/04a_sitemap_documents.json")["cases"]:
        body = base64.b64decode(case["body_b64"]) if "body_b64" in case else case["body"].encode()
        found, _ = read(body, step, case["sitemap_url"])
        expected = case["expected"]
        assert [one.url for one in found] == [canonicalize(item["loc"]) for item in expected["items"]], case["id"]
        kind = ChildSitemap if expected["kind"] == "index" else SitemapEntry
        assert all(isinstance(one, kind) for one in found), case["id"]
        for one, item in zip(found, expected["items"], strict=True):
            lastmod = item.get("lastmod_utc") or item.get("lastmod")
            assert one.lastmod == (seconds_of(lastmod) if lastmod else None), case["id"]


def test_bodies_are_unpacked_as_the_peers_unpack_them() -> None:
    """By what is in them, not by their names: so a page of HTML is no sitemap, whatever it is called."""
    for case in load_cases("practice/04b_sitemap_discovery_sniffing.json")["cases"]:
        body = base64.b64decode(case["in_b64"])
        line = b"http://www.example.com/"
        packed = gzip.compress(line) if body.startswith(b"\x1f\x8b") else line
        assert urls_in(packed) == [line.decode()], case["id"]
        found, fault = read(body)
        assert found == [], case["id"]  # the cases' bodies hold a word, and no URL
        assert fault == ("nothing in it can be crawled" if body else "it is empty"), case["id"]


def test_sitemap_lines_of_robots_txt_are_read() -> None:
    """The first peer reads some letters in a way of its own."""
    for case in load_cases("practice/02b_robots_delay_sitemaps.json")["cases"]:
        if case.get("sitemaps") is not None and case["id"] != "robotsmeta-16":
            lines = RobotsRules.parse(case["robots"].encode()).sitemaps()
            base = case["robots_url"] + "/robots.txt"
            assert [canonicalize(line, base) for line in lines] == case["sitemaps"], case["id"]


URLSET = b"<urlset>%s</urlset>"
ONE = b"<url><loc>http://e.com/a</loc><lastmod>2020-02-03</lastmod></url>"
FORMATS = {
    "urlset": URLSET % ONE,
    "with a namespace and a prefix": b'<s:urlset xmlns:s="x"><s:url><s:loc>http://e.com/a</s:loc><s:lastmod>2020-02-03</s:lastmod></s:url></s:urlset>',
    "images and translations beside": URLSET % (b'<url><xhtml:link rel="alternate" href="http://e.com/de"/><image:image><image:loc>http://e.com/i.png</image:loc></image:image>' + ONE[5:]),
    "blanks before the declaration": b"\n  <?xml version='1.0'?>" + URLSET % ONE,
    "a byte order mark": b"\xef\xbb\xbf" + URLSET % ONE,
    "UTF-16": (URLSET % ONE).decode().encode("utf-16"),
    "CDATA and comments": URLSET % ONE.replace(b"http://e.com/a", b" <![CDATA[http://e.]]><!-- x -->com/a\n"),
    "gzip": gzip.compress(URLSET % ONE),
    "gzip of several members": gzip.compress((URLSET % ONE)[:20]) + gzip.compress((URLSET % ONE)[20:]),
    "RSS": b"<rss><channel><link>http://e.com/</link><item><link>http://e.com/a</link><pubDate>Mon, 03 Feb 2020 00:00:00 GMT</pubDate></item></channel></rss>",
    "RSS with a guid": b"<rss><channel><item><guid>http://e.com/a</guid><dc:date>2020-02-03</dc:date></item></channel></rss>",
    "Atom": b'<feed><link href="http://e.com/"/><entry><link rel="edit" href="/no"/><link href="http://e.com/a"/><published>2019-01-01</published><updated>2020-02-03</updated></entry></feed>',
}  # fmt: skip


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("step", [1, 65_536])
def test_every_format_gives_its_urls_and_dates(name: str, step: int) -> None:
    assert read(FORMATS[name], step) == ([SitemapEntry("http://e.com/a", 1580688000.0)], None)


def test_text_has_a_url_on_each_line() -> None:
    long = b"http://e.com/" + b"x" * 70_000
    text = (
        b"\xef\xbb\xbf\r\nhttp://e.com/1\r\nno url\n\nftp://e.com/\n"
        + long
        + b"\nhttp://E.com/%C3%A4\nhttp://e.com/\xc3\xb6"
    )
    assert urls_in(text) == ["http://e.com/1", "http://e.com/%C3%A4", "http://e.com/%C3%B6"]
    assert urls_in(text, 7) == urls_in(text)
    assert refused_in(text) == {"no_url": 1, "bad_scheme": 1, "url_too_long": 1}
    assert urls_in(text.decode().encode("utf-16")) == urls_in(text)


SECRET = "what stands in a file of this machine"
BILLION = b"".join(b'<!ENTITY a%d "%s">' % (n + 1, b"&a%d;" % n * 10) for n in range(9))
HARMFUL = {
    "a billion laughs": b'<!DOCTYPE x [<!ENTITY a0 "ha">' + BILLION + b"]><urlset><url><loc>http://e.com/&a9;</loc></url></urlset>",
    "the same in an attribute": b'<!DOCTYPE x [<!ENTITY a0 "ha">' + BILLION + b']><feed><entry><link href="&a9;"/></entry></feed>',
    "one entity of a megabyte, many times": b'<!DOCTYPE x [<!ENTITY a "' + b"a" * 1_000_000 + b'">]><urlset>' + b"&a;" * 100_000,
    "a default attribute of a megabyte": b'<!DOCTYPE x [<!ATTLIST url a CDATA "' + b"a" * 1_000_000 + b'">]><urlset>' + b"<url/>" * 50_000,
    "parameter entities": b'<!DOCTYPE x [<!ENTITY % p "<!ENTITY q \'x\'>"> %p;]>' + URLSET % ONE,
    "a billion elements inside one another": b"<urlset>" + b"<a>" * 100_000,
    "an endless tag": b"<urlset><url " + b"a" * 3_000_000,
    "an endless comment": b"<urlset><!-- " + b"a" * 3_000_000,
    "endless new names": b"<urlset>" + b"".join(b"<a%d/>" % n for n in range(50_000)),
    "endless new attributes": b"<urlset>" + b"".join(b'<a b%d=""/>' % n for n in range(50_000)),
    "an endless line": b"http://e.com/" + b"a" * 3_000_000,
    "a page of HTML": b"<!DOCTYPE html><html><head><title>no</title></head></html>",
    "nothing but tags": b"<urlset>" + b"<>a<b" * 100_000,
    "attributes without values": b"<rss><item><link " + b"a" * 500_000 + b">" + b"<link a" + b" " * 500_000 + b">",
    "unclosed quotes": b"<rss><item><link " + b"a='b\" " * 150_000 + b">",
    "unclosed CDATA": b"<urlset><loc>" + b"<![CDATA[" * 50_000,
    "half a document type": b"<!DOCTYPE x [" + b"] " * 300_000,
    "references": b"<urlset><loc>http://e.com/" + b"&a" * 1_000_000,
    "a gzip bomb": gzip.compress(bytes(MAX_SITEMAP_BYTES * 4)),
    "a broken gzip file": gzip.compress(URLSET % ONE)[:-12] + b"rubbish that is no end",
    "half a gzip file": gzip.compress(URLSET % (ONE * 1000))[:-30],
    "a gzip file without its last bytes": gzip.compress(b"http://e.com/a\n")[:-4],
    "nothing": b"",
    "one byte": b"<",
}  # fmt: skip


FAULTS = {
    "an endless tag": "a tag of more than",
    "an endless comment": "a tag of more than",
    "an endless line": "nothing in it can be crawled",
    "nothing but tags": "more than 3000 tags",
    "a page of HTML": "root element is 'html'",
    "a gzip file without its last bytes": "ends too early",
    "nothing": "it is empty",
}


@pytest.mark.parametrize("name", HARMFUL)
def test_whoever_wants_to_do_harm_does_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body = HARMFUL[name]
    if name == "nothing but tags":
        monkeypatch.setattr(sitemap_xml, "MAX_TAGS", 3000)
    tracemalloc.start()
    started = time.process_time()
    found, fault = read(body)
    cpu_seconds = time.process_time() - started
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert fault
    assert FAULTS.get(name, "") in fault
    assert all(one.url == "http://e.com/a" for one in found)
    assert cpu_seconds < 10
    assert peak < 12_000_000


def test_an_external_entity_is_not_opened(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "secret"
    path.write_text(SECRET)
    opened: list[object] = []
    monkeypatch.setattr("socket.socket.connect", lambda *arguments: opened.append(arguments))
    for reference in (path.as_uri(), str(path), "http://127.0.0.1:9/x", "http://127.0.0.1:9/x.dtd"):
        document = (
            f'<!DOCTYPE urlset SYSTEM "{reference}" [<!ENTITY x SYSTEM "{reference}">]>'
            f'<urlset xmlns:i="http://www.w3.org/2001/XInclude"><i:include href="{reference}"/>'
            "<url><loc>http://e.com/&x;</loc></url></urlset>"
        )
        assert urls_in(document.encode()) == ["http://e.com/"]
    assert opened == []


def test_what_came_before_a_fault_stands() -> None:
    packed = gzip.compress(URLSET[:8] + ONE * 3 + b"<url><loc>http://e.com/b</loc><lastmod>20")
    found, fault = read(packed[:-8])
    assert fault == "the gzip file ends too early"
    assert [one.url for one in found] == ["http://e.com/a"] * 3 + ["http://e.com/b"]


DECLARED = b'<?xml version="1.0" encoding="%s"?>\n'
ENTRY = "<url><loc>http://e.com/%s</loc><lastmod>2020-02-03</lastmod></url>\n"


def flawed(flaw: str = "%s", head: str = DECLARED.decode() % "UTF-8", tail: str = "</urlset>") -> bytes:
    """Three entries; ``flaw`` is the path of the second one, or the whole of it."""
    entries = ENTRY % "1" + (ENTRY % flaw if not flaw.startswith("<") else flaw) + ENTRY % "3"
    return (head + "<urlset>" + entries + tail).encode("utf-8", "surrogateescape")


FLAWS: dict[str, tuple[bytes, str]] = {
    "a raw ampersand": (flawed("2?a=1&b=2&copy=3&amp;d=4"), "2?a=1&b=2&copy=3&d=4"),
    "an entity of HTML": (flawed("2&nbsp;"), "2"),
    "an entity that nobody knows": (flawed("2&nonsense;"), "2&nonsense;"),
    "a control character": (flawed("2\x0b3"), "2%0B3"),
    "a byte that is no UTF-8": (flawed("caf\udce9"), "caf%E9"),
    "a raw less-than sign": (flawed("2?a<3"), "2?a%3C3"),
    "something before it": (b"<br />\n<b>Warning</b>: in <b>x.php</b> &\n" + flawed("2"), "2"),
    "text before it": (b"Warning: x\n" + flawed("2"), "2"),
    "a lot of text before it": (b"Warning: x\n" * 4000 + flawed("2"), "2"),
    "a comment before its declaration": (b"<!-- cached -->" + flawed("2"), "2"),
    "something after it": (flawed("2") + b"<!-- x --><p>made in 0.1 s</p>&", "2"),
    "no root element": (flawed("2", "")[8:-9], "2"),
    "no end of an element": (flawed("<url><loc>http://e.com/2<priority>1</loc></url>"), "2"),
    "no end of a date": (flawed("<url><lastmod>2020-02-03<loc>http://e.com/2</loc></url>"), "2"),
    "no end of an image": (flawed("<url><i:image><i:loc>/i.png</i:loc><loc>http://e.com/2</loc></url>"), "2"),
    "no end of an entry": (flawed("<url><loc>http://e.com/2</loc>"), "2"),
    "no beginning of an entry": (flawed("<loc>http://e.com/2</loc></url>"), "2"),
    "nothing between two entries": (flawed()[:-9].replace(b"%s", b"2").replace(b"</url>\n<url>", b"") + b"</urlset>", "2"),
    "end tags that fit nothing": (flawed("<x></b></loc></image:image><url></b><loc>http://e.com/2</loc></i></url></x>"), "2"),
    "half a tag": (flawed("<url><loc>http://e.com/2</loc</url"), "2"),
    "attributes without quotes": (flawed("<url a=1 b='2><x y=\"></x><loc>http://e.com/2</loc></url>"), "2"),
    "another prefix at its end": (flawed("<x:url><x:loc>http://e.com/2</x:loc></url>"), "2"),
    "half a CDATA section": (flawed("<url><loc><![CDATA[http://e.com/2</loc></url>"), "2"),
    "other letters": (flawed("<URL><Loc>http://e.com/2</LOC><LastMod>2020-02-03</LastMod></URL>"), "2"),
    "a prefix that is not declared": (flawed("<x:url><x:loc>http://e.com/2</x:loc></x:url>"), "2"),
    "a harmless document type": (flawed("2", "<!DOCTYPE urlset [<!ELEMENT loc (#PCDATA)> <!ATTLIST loc a CDATA 'x'>]>"), "2"),
    "an encoding that nobody knows": (flawed("\u00e4", "<?xml version='1.0' encoding='x-no'?>"), "%C3%A4"),
    "UTF-16, but it is not": (flawed("\u00e4", "<?xml version='1.0' encoding='UTF-16'?>"), "%C3%A4"),
    "UTF-8, but it is UTF-16": (flawed("\u00e4").decode().encode("utf-16"), "%C3%A4"),
    "the same without a byte order mark": (flawed("\u00e4").decode().encode("utf-16-be"), "%C3%A4"),
    "gb2312": (flawed("\u4e2d", "<?xml version='1.0' encoding='gb2312'?>").decode().encode("gbk"), "%E4%B8%AD"),
    "Shift_JIS": (flawed("\u4e2d", "<?xml version='1.0' encoding='Shift_JIS'?>").decode().encode("cp932"), "%E4%B8%AD"),
    "big5, after something else": (b"Warning\n" + flawed("\u4e2d", "<?xml version='1.0' encoding='Big5'?>").decode().encode("big5"), "%E4%B8%AD"),
    "windows-1251": (flawed("\u0436", "<?xml version='1.0' encoding='windows-1251'?>").decode().encode("cp1251"), "%D0%B6"),
}  # fmt: skip


@pytest.mark.parametrize("name", FLAWS)
@pytest.mark.parametrize("step", [1, 65_536])
def test_one_flaw_loses_nothing(name: str, step: int) -> None:
    body, second = FLAWS[name]
    assert urls_in(body, step) == [f"http://e.com/{path}" for path in ("1", second, "3")]
    assert refused_in(body) == {}
    assert urls_in(gzip.compress(body)) == urls_in(body)


@pytest.mark.parametrize("step", [1, 65_536])
def test_a_sitemap_that_was_cut_says_so_and_half_a_url_is_none(step: int) -> None:
    whole = flawed("2")
    for length in range(whole.index(b"<urlset>") + 8, len(whole) - 1):
        found, fault = read(whole[:length], step)
        assert fault is not None
        assert "</urlset> is missing" in fault
        assert [one.url for one in found] == [f"http://e.com/{n}" for n in (1, 2, 3)][: len(found)]


@pytest.mark.parametrize("step", [1, 65_536])
def test_a_wrong_checksum_loses_nothing_that_was_packed(step: int) -> None:
    packed = gzip.compress(URLSET % ONE)
    found, fault = read(packed[:-8] + bytes(8), step)
    assert [one.url for one in found] == ["http://e.com/a"]
    assert fault is not None
    assert "incorrect data check" in fault
    assert read(gzip.compress(ONE * 2000)[:-8] + bytes(8), step)[0] == read(ONE * 2000)[0]


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "text", ["\n <urlset><url><loc>http://e.com/a</loc></url></urlset>", "http://e.com/a\n", "\nhttp://e.com/a"]
)
def test_utf_16_is_known_without_a_mark_by_its_first_character(encoding: str, text: str) -> None:
    assert urls_in(text.encode(encoding)) == ["http://e.com/a"]


@pytest.mark.parametrize(
    "inside", [b"<![CDATA[<url><loc>http://e.com/</loc></url>]]>", b"http://e.com/", b" http://e.com/ <!-- -->"]
)
@pytest.mark.parametrize("step", [1, 65_536])
def test_text_in_place_of_entries_is_no_sitemap_without_pages(inside: bytes, step: int) -> None:
    assert read(URLSET % inside, step) == ([], "there is no <url> and no <sitemap> in it")
    assert read(URLSET % b" <!-- http://e.com/ --> ", step) == ([], None)
    assert read(b"\xff\xfe", step) == read(b"\xef\xbb\xbf", step) == ([], "it is empty")


def test_what_is_refused_is_counted_by_reason() -> None:
    urls = (
        "/2",
        "e.com/2",
        "//e.com/2",
        "http:///",
        "ftp://e.com/",
        "http://u:p@e.com/",
        "http://e.com/" + "x" * 9000,
        "",
    )
    body = flawed("".join(f"<url><loc>{url}</loc></url>" for url in urls))
    assert urls_in(body) == ["http://e.com/1", "http://e.com/3"]
    assert refused_in(body) == {
        "no_scheme": 3, "no_host": 1, "bad_scheme": 1, "user_info": 1, "url_too_long": 1, "no_url": 1,
    }  # fmt: skip
    assert read(URLSET % b"<url><loc>/a</loc></url>") == ([], "nothing in it can be crawled")
    assert read(URLSET % b"<page>http://e.com/</page>") == ([], "there is no <url> and no <sitemap> in it")
    assert read(URLSET % b"") == ([], None)  # a site without pages may say so
    feed = b"<rss><channel><item><link>/a</link></item><item><title>none</title></item></channel></rss>"
    assert urls_in(feed) == ["http://www.example.com/a"]
    assert refused_in(feed) == {"no_url": 1}


@given(
    st.lists(st.sampled_from(["<", ">", "&", "'", '"', "</", "<!--", "-->", "<![CDATA[", "]]>", "<!DOCTYPE x [", "]>", "<?", "url", "loc",
        "<url>", "<loc>", "</loc>", "</url>", "<i:image>", "</i:image>", "http://e.com/", "x", " ", "/", "\n"]), max_size=30),
    st.integers(1, 40),
)  # fmt: skip
def test_how_it_comes_in_does_not_matter(parts: list[str], step: int) -> None:
    body = b"<urlset>" + "".join(parts).encode()
    assert read(body, step) == read(body)


@pytest.mark.parametrize("line", [b"http://e.com/\n", b"<url><loc>http://e.com/</loc></url>"])
def test_the_limit_on_urls_holds(line: bytes) -> None:
    body = line * (MAX_SITEMAP_URLS + 10)
    found, fault = read(b"<urlset>" + body if line.startswith(b"<") else body)
    assert len(found) == MAX_SITEMAP_URLS
    assert fault == "more than 50000 URLs"


def test_the_limit_on_bytes_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sitemap, "MAX_SITEMAP_BYTES", 100_000)
    for body in (b"http://e.com/a\n" + b"# %s\n" % (b"x" * 98) * 1000, URLSET[:8] + ONE + b"<!-- -->" * 20_000):
        for packed in (body, gzip.compress(body)):
            found, fault = read(packed, 10_000)
            assert [one.url for one in found] == ["http://e.com/a"]
            assert fault == "longer than 100000 bytes"


def test_the_lastmod_of_an_index_is_kept() -> None:
    index = (
        b"<sitemapindex><sitemap><loc>http://e.com/1.xml</loc><lastmod>2020-02-03</lastmod></sitemap></sitemapindex>"
    )
    assert read(index) == ([ChildSitemap("http://e.com/1.xml", 1580688000.0)], None)


@given(st.binary(max_size=300), st.integers(1, 50), st.sampled_from([b"", b"<urlset><url>", b"<rss>", b"\x1f\x8b\x08"]))
def test_nothing_in_a_sitemap_is_an_error(body: bytes, step: int, before: bytes) -> None:
    found, _ = read(before + body, step)
    assert all(one.url == canonicalize(one.url) for one in found)


@given(st.text(max_size=40))
def test_no_date_is_an_error(text: str) -> None:
    parse_date(text)


def test_a_line_of_text_with_more_than_a_url_is_refused_and_not_made_into_another() -> None:
    reader = SitemapReader("http://e.com/sitemap.txt")
    found = [
        *reader.feed(b"http://e.com/a\nhttp://e.com/b\ttitle\nhttp://e.com/c d\nhttp://e.com/e\n"),
        *reader.close(),
    ]
    assert [one.url for one in found] == ["http://e.com/a", "http://e.com/e"]
    assert reader.refused == {"no_url": 2}
