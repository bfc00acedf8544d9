"""What is read from a page, against standards' and peers' cases."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from html import escape
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.record import Reason
from sqspider.url import FIRST_MAX_URL_BYTES, MAX_URL_BYTES, canonicalize, host_of, is_cut, registrable_domain
from sqspider.web.links import MAX_REMEMBERED, LinkOptions, PageLinks, _resolved_in, parse_srcset, read_page
from sqspider.web.refresh import parse_refresh
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
    for quote in "'\"":
        blanks = read("<a href='x #y'><a href='x '><a href='x#y'>".replace("'", quote))
        assert blanks.links == ("http://example.com/dir/x%20", "http://example.com/dir/x")
    assert page.links == ("http://example.com/base/x", "http://example.com/base/?q=1")
    assert "http://example.com/base/y" in read("<base href=/base/><a href=y rel=nofollow>", obey_nofollow=False).links
    hidden = read("<noscript><base href=/for-others/></noscript><base href=/base/><a href=y>")
    assert hidden.links == ("http://example.com/base/y",)  # as browsers, which run scripts, see it
    assert read("<noscript><base href=/for-others/></noscript><a href=y>").links == ("http://example.com/dir/y",)


@pytest.mark.parametrize(
    ("rel", "is_followed"),
    [
        ("nofollow", False), ("NoFollow", False), ("me NOFOLLOW", False), ("me\tnofollow\nx", False), (" nofollow ", False),
        ("", True), ("nofollows", True), ("no-follow", True), ("nofollow\u00a0x", True), ("nofollow,x", True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("start", ["", "<svg>", "<svg><a xlink:href=/svg></a>"], ids=["html", "svg", "prefixed"])
@pytest.mark.parametrize("tag", ["a", "area"])
def test_a_link_is_left_out_if_nofollow_is_one_of_its_words(tag: str, start: str, rel: str, is_followed: bool) -> None:
    html = f"{start}<base href=/base/ rel=nofollow><{tag} href=x rel='{rel}'>"
    assert ("http://example.com/base/x" in read(html).links) is is_followed
    assert "http://example.com/base/x" in read(html, obey_nofollow=False).links


FOLDERS = (
    "http://e.com/dir/page",
    "http://e.com/dir/page?a=/b/c",
    "http://e.com/dir/other#/x",
    "http://e.com/",
    "https://e.com/dir/page",
)


@given(
    st.text(alphabet=" \t\n?#:/\\.;@ahtps\u00e9", max_size=9)
    | st.sampled_from(["http:", "http:?q", "https:x", " ?q", "\t", "http:#"])
)
def test_a_reference_leads_from_each_page_to_where_it_leads_from_there(href: str) -> None:
    """Though what the pages of a folder refer to is remembered."""
    for base in FOLDERS:
        link = canonicalize(href, base)
        page = read(f'<base href="{base}"><a href="{escape(href)}">', "http://e.com/start")
        assert page.links == ((link,) if isinstance(link, str) else ()), base


def test_what_is_remembered_of_folders_is_bounded() -> None:
    for number in range(3):
        read("".join(f"<a href=/{number}/{link}>" for link in range(MAX_REMEMBERED)))
        read("<a href=" + "x" * 1900 + ">", f"http://example.com/{number}/")
    assert _resolved_in.cache_info().currsize <= MAX_REMEMBERED
    assert "x" * 1900 in read("<a href=" + "x" * 1900 + ">").links[0]
    before = _resolved_in.cache_info().misses
    read("<a href=" + "y" * 2000 + ">")
    assert _resolved_in.cache_info().misses == before  # long ones are not kept


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


def test_frames_are_links() -> None:
    page = read("<frameset><frame src=menu><frame src=main></frameset><noframes><a href=no></a></noframes>")
    assert page.links == ("http://example.com/dir/menu", "http://example.com/dir/main")
    page = read(
        "<p>x<iframe src=inner><a href=no></a></iframe><iframe src=about:blank></iframe><iframe srcdoc=x></iframe>"
    )
    assert page.links == ("http://example.com/dir/inner",)


def test_what_is_left_out_is_counted() -> None:
    long = "/q?" + "x" * MAX_URL_BYTES
    page = read(
        f"<a href={long}#1>1</a><a href={long}y>2</a><a href=//me@h/>3</a><a href='http://['>4</a><a href=mailto:x>5</a>"
    )
    assert page.left_out == {Reason.URL_TOO_LONG: 2, Reason.USER_INFO: 1, Reason.BAD_URL: 1}
    assert page.links == ()
    assert len(set(page.too_long)) == 2
    for name in page.too_long:
        assert name.startswith("http://example.com/q?xxx")
        assert is_cut(name)
        assert canonicalize(name) == name
    assert not is_cut("http://example.com/" + "x" * (MAX_URL_BYTES - 19))


@pytest.mark.parametrize(("obeys", "unfollowed"), [(True, 2), (False, 0)])
def test_links_that_ask_not_to_be_followed_are_counted(*, obeys: bool, unfollowed: int) -> None:
    """Each that leads somewhere on the web, and is nowhere else on the page without that word, once."""
    page = read(
        "<a rel=nofollow href=/a>1</a><a rel='x nofollow' href=/a#x>2</a><area rel=nofollow href=http://else.example/>"
        "<a href=/b>3</a><a rel=nofollow href=/b>4</a><a rel=nofollow href=mailto:x>5</a><a rel=nofollow href=//[>6</a>",
        obey_nofollow=obeys,
    )
    assert page.unfollowed == unfollowed
    assert "http://example.com/b" in page.links


def test_a_name_that_the_first_version_gave_is_one() -> None:
    mark = f"~cut-{'0' * 64}"
    assert is_cut("http://example.com/".ljust(FIRST_MAX_URL_BYTES - len(mark), "x") + mark)
    assert not is_cut("http://example.com/".ljust(2000 - len(mark), "x") + mark)


@pytest.mark.parametrize("host", ["a" * 254, "a" * 2034 + ".b", "a." * 2000 + "b", "a" * 1000 + ":8080"])
@pytest.mark.parametrize("path", ["", "/", "/" + "x" * MAX_URL_BYTES])
def test_a_host_that_is_too_long_for_one_is_counted_and_not_named(host: str, path: str) -> None:
    """A name made of it would have no end of the host in it, or one that no store takes for a key."""
    page = read(f"<a href=http://{host}{path}>")
    assert (page.left_out, page.links, page.too_long) == ({Reason.URL_TOO_LONG: 1}, (), ())


def test_the_name_of_a_long_link_is_the_same_wherever_it_is_read() -> None:
    """It goes through the queue, and what a crawl drops there it must not have."""
    link = f"/q?utm_source=a&x={'x' * MAX_URL_BYTES}&gclid=1"
    page = read(f"<a href='{link}'>1</a>", drop_tracking=True)
    assert [canonicalize(name, drop_tracking=True) for name in page.too_long] == list(page.too_long)
    assert page.too_long[0].startswith("http://example.com/q?x=xxx")


# Refresh.

NOW = "<meta http-equiv=refresh content='0; url=/real'>"
REAL = "http://example.com/real"


@pytest.mark.parametrize(
    ("html", "header", "leads_to"),
    [
        (NOW, None, REAL),
        ("<title>moved</title>", "0; url=/real", REAL),
        ("", "10;/real", REAL),
        ("<base href=/base/>", "0; url=real", "http://example.com/dir/real"),  # the header came before the base
        ("<base href=/base/><meta http-equiv=refresh content='0; url=real'>", None, "http://example.com/base/real"),
        (NOW, "0; url=/first", "http://example.com/first"),
        (NOW.replace("0;", "11;"), None, None),  # long enough to read what is there
        (NOW + "<a href=/other>o</a>", None, None),
        (NOW + "<iframe src=/other></iframe>", None, None),
        (NOW + "<a href=/real>if nothing happens</a><a href=#top>t</a><a href=mailto:x>m</a>", None, REAL),
        (NOW + "<a href=/other rel=nofollow>o</a>", None, REAL),
        ("<noscript>" + NOW + "</noscript><script>load()</script>", None, REAL),
        (NOW.replace("/real", "page#x"), None, None),
        (NOW.replace("/real", ""), None, None),
        (NOW.replace("/real", "ftp://h/"), None, None),
        ("<meta http-equiv=refresh content=5>" + NOW, None, None),  # browsers go by the first
    ],
)
def test_a_refresh_that_is_the_only_way_on_is_one(html: str, header: str | None, leads_to: str | None) -> None:
    headers = [*HTML, *([("refresh", header)] if header else [])]
    page = read_page(html.encode(), "http://example.com/dir/page", headers)
    assert page is not None
    assert page.leads_to == leads_to
    assert leads_to is None or leads_to in page.links


def test_an_empty_answer_may_be_a_refresh() -> None:
    page = read_page(b" ", "http://example.com/", [("Refresh", "0; url=/real")])
    assert page is not None
    assert page.leads_to == REAL
    assert read_page(b"%PDF", "http://example.com/", [("Refresh", "0; url=/real")]) is None


def test_every_refresh_is_a_link_if_it_is_asked_for() -> None:
    html = "<a href=/other>o</a><meta http-equiv=refresh content='60; /real'><meta http-equiv=refresh content='70; /third'>"
    headers = [*HTML, ("Refresh", "50; url=/second")]
    page = read_page(html.encode(), "http://example.com/", headers, LinkOptions(meta_refresh=True))
    assert page is not None
    assert page.links == tuple(f"http://example.com/{name}" for name in ("second", "other", "real", "third"))
    assert page.leads_to is None


# XHTML.

XHTML = "application/xhtml+xml"
XHTML_PAGE = (
    '<?xml version="1.0" encoding="utf-8"?><!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" '
    '"http://www.w3.org/TR/xhtml1/DTD/xhtml1-strict.dtd"><html xmlns="http://www.w3.org/1999/xhtml"><head>'
    "<title>A &amp; B&nbsp;C</title><script src='x'/><base href='/base/'/></head><body><textarea/><iframe src='frame'/>"
    "<![CDATA[<a href='no'>]]><!-- <a href='no'/> --><template><a href='no'/></template><a href='yes?&eacute;&amp;x'/>"
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"><title>no</title>'
    '<a xlink:href="svg"/></svg><a xmlns="urn:other" href="no"/></body></html>'
)


def links_of(body: str | bytes, content_type: str | None) -> list[str] | None:
    headers = [("Content-Type", content_type)] if content_type else []
    page = read_page(body if isinstance(body, bytes) else body.encode(), "http://e.com/dir/", headers)
    return None if page is None else [link.removeprefix("http://e.com/") for link in page.links]


@pytest.mark.parametrize("content_type", [XHTML, "application/xml", "text/xml", "application/vnd.wap.xhtml+xml", None])
def test_xhtml_is_read_as_xml(content_type: str | None) -> None:
    assert links_of(XHTML_PAGE, content_type) == ["base/frame", "base/yes?%C3%A9&x", "base/svg"]


def test_xhtml_has_a_title() -> None:
    page = read_page(XHTML_PAGE.encode(), "http://e.com/", [("Content-Type", XHTML)])
    assert page is not None
    assert page.title == "A & B C"


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("</html>", ""),  # not well-formed
        lambda text: text.replace("&nbsp;", "&"),
        lambda text: text.replace("strict.dtd\"", "strict.dtd\" [<!ENTITY e 'x'>]"),
        lambda text: text.replace("strict.dtd\"", "strict.dtd\" [<!ENTITY e SYSTEM 'file:///etc/passwd'>]"),
        lambda text: text.replace("strict.dtd\"", "strict.dtd\" [<!ATTLIST a rel CDATA 'x'>]"),
        lambda text: text.replace("<body>", "<body>" + "<b>" * 3001),
        lambda text: text.replace("<body>", "<body " + " ".join(f"a{number}='x'" for number in range(1001)) + ">"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("content_type", [XHTML, "application/xml"])
def test_what_is_no_good_xhtml_is_read_as_html(content_type: str, change: Callable[[str], str]) -> None:
    page = change(re.sub("<(script|textarea|iframe)[^>]*>", "", XHTML_PAGE))
    assert "base/no" in (links_of(page, content_type) or ())  # HTML knows no namespaces


def test_xml_that_is_no_page_is_none() -> None:
    assert links_of("<rss><a xmlns='http://www.w3.org/1999/xhtml' href='x'/></rss>", "application/xml") is None
    assert links_of("<html><a href='x'/></html>", "application/xml") is None
    assert links_of("<html><a href='x'/></html>", XHTML) == ["dir/x"]  # as HTML: it says that it is a page
    assert links_of("<?xml version='1.0'?><feed/>", None) is None


@pytest.mark.parametrize(
    ("content_type", "declared", "encoding"),
    [
        (XHTML, "windows-1251", "windows-1251"), (XHTML, None, "utf-8"), (f"{XHTML}; charset=windows-1251", None, "windows-1251"),
        (f"{XHTML}; charset=windows-1251", "utf-8", "windows-1251"), (f"{XHTML}; charset=nonsense", "windows-1251", "windows-1251"),
        (XHTML, None, "utf-16"), (XHTML, "utf-8", "utf-8-sig"),
    ],
)  # fmt: skip
def test_xml_says_its_encoding(content_type: str, declared: str | None, encoding: str) -> None:
    text = "<?xml version='1.0'{}?><html xmlns='http://www.w3.org/1999/xhtml'><script/><title>\u0416</title><a href='\u0416'/></html>"
    body = text.format(f" encoding='{declared}'" if declared else "").encode(encoding)
    page = read_page(body, "http://e.com/", [("Content-Type", content_type)])
    assert page is not None
    assert (page.title, page.links) == ("\u0416", ("http://e.com/%D0%96",))


# Against peers. Where a row is not the same here, its answer says why.

LINK_ANSWERS = {
    "links-20": "an address that ends in .jpg is a link: what it is, its content type says",
    "links-23": "no option to read links of some elements only: the one that there is is found all the same",
    "links-31": "img[src] is no link: pages are crawled, not what they show",
    "links-37": "parameters keep their order: a=1&b=2 and b=2&a=1 may be different pages",
    "links-39": "no option to choose links by their text",
    "links-68": "img[src] is no link",
    "links-92": "img[longdesc] is no link",
    "links-101": "table[background] is no link",
    "links-114": "embed[src] is no link",
    "links-122": "what scripts say is not read",
}
LINKS_HERE = {
    "links-20": ["http://example.org/page.html", "http://example.org/photo.jpg"],
    "links-23": ["http://otherdomain.com/base/item/12.html"],
    "links-31": ["http://example.com/sample1.html", "http://example.com/sample2.html"],
    "links-37": ["https://example.com/p?b=2&a=1"],
    "links-39": [f"http://example.org/item{number}.html" for number in (1, 2, 3)],
}


def test_links_agree_with_peers() -> None:
    for case in load_cases("practice/03a_link_extraction.json")["cases"]:
        url = canonicalize(case["base_url"])
        assert isinstance(url, str)
        links = list(read(case["html"], url, obey_nofollow=False).links)
        if case["id"] in LINK_ANSWERS:
            assert links == LINKS_HERE.get(case["id"], []), LINK_ANSWERS[case["id"]]
            continue
        options = case["options"]
        if "allow" in options:
            links = [link for link in links if any(re.search(pattern, link) for pattern in options["allow"])]
        if "allow_domains" in options:
            links = [link for link in links if registrable_domain(host_of(link)) in options["allow_domains"]]
        expected = [link.partition("#")[0] for link in case.get("expected_links_whatwg") or case["expected_links"]]
        assert links == list(dict.fromkeys(expected)), case["id"]


REFRESH_ANSWERS = {"refresh-71": "a tag without an end is none (HTML standard, section 13.2.5)"}


def test_refreshes_agree_with_the_standard() -> None:
    for case in load_cases("practice/03b_meta_refresh.json")["cases"]:
        if "content" not in case:
            expected = None if case["id"] in REFRESH_ANSWERS else case["expected"]["url"]
            assert read(case["html"], case["base_url"] + "/").leads_to == expected, case["id"]
            continue
        refresh = parse_refresh(case["content"])
        assert (refresh is not None) is case["redirects"], case["id"]
        if refresh is not None:
            assert refresh.seconds == int(case["delay"]), case["id"]
            target = "" if case["target"] == "SELF" else case["target"].strip()
            assert refresh.target.translate({9: None, 10: None}).strip() == target, case["id"]


def test_bases_agree_with_peers() -> None:
    for case in load_cases("practice/03c_base_url.json")["cases"]:
        url = canonicalize(case["doc_url"] or "http://page.example/dir/")
        assert isinstance(url, str)
        base = canonicalize(case["expected_base"], url)
        assert isinstance(base, str)
        if "html_repeat" in case:
            repeat = case["html_repeat"]
            started = time.process_time()
            read(repeat["prefix"] + repeat["unit"] * repeat["count"] + repeat["suffix"], url)
            assert time.process_time() - started < case["time_limit_s"], case["id"]
        else:
            links = read(case["html"] + "<a href=probe>", url).links
            assert links == (canonicalize("probe", base),), case["id"]


def test_srcset_agrees_with_the_standard() -> None:
    for case in load_cases("practice/03d_srcset.json")["cases"]:
        assert list(parse_srcset(case["srcset"])) == case["all_candidates"], case["id"]


@pytest.mark.parametrize("number", ["-0", "-00", "-.0", "-0.00", "-0e5", "1e400"])
def test_a_density_is_any_number_that_is_not_negative(number: str) -> None:
    assert parse_srcset(f"a {number}x, b -1x") == ["a"]


@pytest.mark.parametrize("unit", [
    "<base ", "<a href=x>", "<div>", "<b><a href='", "<!--", "<a " + "x" * 50, "<svg>", "<svg></g>",
    "<svg><desc>", "<template>", "<template></template>", "<base href=x>", "<svg><g><desc><p></g>", "<svg><title><base href=x>",
    "<noscript><base href=x>", "<script><!--", "<svg><![CDATA[", "<frameset><frame src=x>", "&amp", "<title>&amp", "<x{}>",
])  # fmt: skip
def test_no_page_takes_quadratic_time(unit: str) -> None:
    started = time.process_time()
    read(unit * 100_000)
    assert time.process_time() - started < 30


def test_a_refresh_of_many_digits_is_soon_read() -> None:
    started = time.process_time()
    assert parse_refresh("1" * 100_000 + "x") is None
    assert parse_refresh("1" * 100_000) == (1_111_111_111, "")
    assert time.process_time() - started < 6


def test_many_bases_cost_no_more_than_one() -> None:
    started = time.process_time()
    assert read("<base href=x>" * 15_000 + "<a href=y>").links == ("http://example.com/dir/y",)
    assert time.process_time() - started < 30


@given(st.binary(max_size=500) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "replace")))
def test_nothing_on_a_page_is_an_error(body: bytes) -> None:
    page = read(b"<a href=" + body)
    assert all(link == canonicalize(link) for link in page.links)
