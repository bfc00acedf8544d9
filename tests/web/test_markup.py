"""HTML as it is read, tag by tag, against a tree of it: what one finds, the other does."""

from __future__ import annotations

import random
import re
import tracemalloc
from collections.abc import Iterable

import pytest

from sqspider.url import canonicalize
from sqspider.web import scanner
from sqspider.web.attributes import Attributes
from sqspider.web.links import LinkOptions, read_page
from sqspider.web.scanner import PAGE_TAGS, elements_of
from tests.web.tree import tree_elements

TAGS = ("a", "area", "base", "frame", "iframe", "img", "meta", "source")

# Where markup is text, where text is markup, what is nowhere on the page, and what is none of that.
HTML = "a p div span b i li ul h1 select option button style script title textarea xmp iframe noembed noframes noscript"
ODD = "template svg svg math foreignObject desc mi mtext annotation-xml g path"
VOID = "img base meta area source br input"
STRAY = (
    "<!-- <a href=/no> </svg> -->", "<!--x--!>", "<!-->", "<!--->", "<!-- <!-->", "<![CDATA[ x > <a href=/cdata> ]]>", "-->", "]]>",
    "<?x>", "<!doctype html>", "</>", "</ x>", "</p>", "<br/>", "</br>", "< a>", "a < b", "&amp;", "\0", "\r\n", "</script>",
    "<script><!-- <script> </script> <a href=/no> --></script>", "<script><!--></script>", "<svg/>", "<g/>",
)  # fmt: skip
ENDLESS = (
    "<!--",
    "<![CDATA[",
    "<!-- <script> ",
    "<script><!-- <script></script>",
    "<plaintext>",
    "<svg>",
    "<p",
    "<a href='",
)
VALUES = (
    "/{}", "/{}", "/{}", "/{}/", "/{}?a=1&amp;b=2", "/{}?a=1&copy=2&copy;", "/{}&notit;&notin;", "/{}\0",
    "/{}&#x41;&#65;&#0;&#1;&#x80;&#xD800;&#9999999999;", "text/html", "", "me\tNoFollow", "nofollow\u00a0x",
)  # fmt: skip
NAMES = ("href", "href", "href", "HREF", "src", "srcset", "xlink:href", "rel", "color", "encoding", "content")
FORMS = (' {}="{}"', " {}='{}'", " {}={}", "\n{} = {}", ' {0}="{1}"{0}="/again"', "/{}='{}'", " {}", " {0}= {1} {0}")


class Generator:
    """Markup by chance: elements are closed in order, and anything may stand between them."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.number = 0

    def document(self) -> str:
        return self.markup() + self.rng.choice(["", self.rng.choice(ENDLESS)]) + self.markup()

    def markup(self, depth: int = 0) -> str:
        return "".join(self.piece(depth) for _ in range(self.rng.randint(1, 5)))

    def piece(self, depth: int) -> str:
        kind = self.rng.random()
        if kind < 0.15:
            return self.rng.choice(STRAY)
        if kind < 0.35 or depth > 4:
            return f"<a{self.attributes()}>a</a>"
        if kind < 0.5:
            return "<{}{}{}>".format(self.rng.choice(VOID.split()), self.attributes(), self.rng.choice(["", "/", " /"]))
        name = self.rng.choice((HTML + " " + ODD).split())
        return f"<{name}{self.attributes()}>{self.markup(depth + 1)}</{name}>"

    def attributes(self) -> str:
        chosen = []
        for _ in range(self.rng.choice([0, 1, 1, 1, 2])):
            self.number += 1
            value = self.rng.choice(VALUES).format(self.number)
            chosen.append(self.rng.choice(FORMS).format(self.rng.choice(NAMES), value))
        return "".join(chosen)


def found(elements: Iterable[tuple[str, Attributes]]) -> tuple[set[tuple[str, str]], str, str]:
    """What a crawler takes from them: links by their tags, the first title and the first base."""
    links, titles, bases = set(), [], []
    for tag, attributes in elements:
        if tag == "title":
            titles.append(" ".join((attributes[""] or "").split()))
        elif tag == "base":
            bases.append(attributes["href"] or "")
        else:
            name = {"a": "href", "area": "href", "meta": "content", "img": "srcset", "source": "srcset"}.get(tag, "src")
            links.add((tag, attributes.get(name) or ""))
    return links, (titles or [""])[0], (bases or [""])[0]


@pytest.mark.parametrize("hundred", range(10))
def test_the_scanner_finds_what_the_tree_has(hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        document = Generator(seed).document().encode()
        assert found(elements_of(document, TAGS)) == found(tree_elements(document, TAGS)), (seed, document)


# Nearly all tags are written so, or nearly so: the patterns that pass over them know the one from the other.
USUAL = (
    "<p>", "</p>", '<div class="a b">', "</div>", "<div class='x'>", "<DIV>", '<span class="pre">', "</span>", "<br/>", "<br />",
    "<hr>", "<li>", "</li>", "text", "a < b", "&amp;", '<a href="/{}">x</a>', '<a class="r" href="/{}#f">x</a>', '<a href="#x">',
    '<a href="/{} #f">', '<a href=" #f">', '<a href="">', '<a href="/{}?a=1&amp;b=2#c">', '<a href="/{}#&amp;">', "<x-y z='1'>",
    '<a href="/{}" rel="nofollow">', '<a rel="noopener NOFOLLOW" href="/{}" >', '<a rel="noopener" href="/{}" target="_blank">',
    '<a REL="nofollow" href="/{}">', '<a id="x">', '<a name="href=x">', "<a href='/{}'>", "<a href=/{}>", '<A HREF="/{}">',
    '<a\n  href="/{}"\n  class="x">', '<a href="/{}"/>', '<a href="/{}" />', '<a href="/{}" href="/no">', '<a class="x"href="/{}">',
    '<a class = "x" href = "/{}">', "<a title=\"<a href='/no'>\" href=\"/{}\">", '<a title=">" href="/{}">', '<p x="1"y="2">',
    '<p title="<a href=/no>">', '<p a"b>', '<p "x>', '<p ="x>">', '<p x= "<a href=/no>">', '<p x=y"z>', "<p x='\"'>", '<p/x="a">',
    "<p x>", '<input disabled value="x">', "<code>", "</code>", '</code x="y>">', "</p x>", "</ p>", "</>", "<>", "<1>", "</x-y>",
    "<!-- c -->", '<!-- <a href="/no"> -->', "<!---->", "<!--->", "<!-->", "<!-- --!>", "<!- x ->", "<!doctype html>", "<?php x ?>",
    '<svg class="i" viewBox="0 0 1 1"><path d="M0 0"/></svg>', '<svg><g><use xlink:href="#x"></use></g></svg>', "<svg/>", "</svg>",
    "<svg><title>T</title><path/></svg>", "<svg><title>T<b></b></title></svg>", "<svg><g></path></svg>", "<svg><style>a</style></svg>",
    '<svg><a xlink:href="/{}"></a></svg>', "<g>", "</g>", "<path>", "</path>", "<svg><line/></p><path/></svg>", "<math><mi>x</mi></math>",
    "<template>", "</template>", '<template><a href="/no"></template>', "<script>if(a<b)\"<a href='/no'>\"</script>", "<style>p</style>",
    '<script src="x"></script>', "<script>x</script >", "<script><!-- <script></script> --></script>", "<title>T {}</title>",
    '<textarea><a href="/no"></textarea>', "<noscript>", "</noscript>", '<base href="/b{}/">', '<meta name="x" content="y{}">',
    '<iframe src="/{}"></iframe>', '<frame src="/no">', "<table>", "<tr>", "<td>", "</table>", "<b>", "</b>", "<em>", "</em>",
    '<img src="x" srcset="/{} 2x">', '<source srcset="/{}">', '<area href="/{}">', "<body>", "</body>", "<html>", "</head>",
    '<p\fx="1">', "<p\tx='1'>", '<p x="\0">', '<a href="/\0{}">', '<a href="/{}\r\n">', '<a href="/\u00e9{}">', "<plaintextx>",
    "<scripty>", "<styley>", "<titlex>", "<svgx>", "<basefont>", '<ax href="/no">', '<a-b href="/no">', '<abbr title="x">', "<!x>",
    "<math><mrow><mi>x</mi><mo>=</mo></mrow></math>", "<mrow>", "</mrow>", "<math><mi>x<b></mi></math>", "<math></p><mn>1</mn></math>",
    "<template><p x='>'><b></template>", "<template><!-- x --><style><a></style></template>", "<template></div><title></template>",
    "<A CLASS=x HREF='/{}#f'>", "<a href=/{}#f class=x>", "<a href=/{}/>", "<a href='/{} #f'>", "<a href=/{}&amp;x>", "<a href=#f>",
    '<a href="/{}" rel="it\'s nofollow">', "<a rel=nofollow href=/{}>", "<a rel='x nofollow' href='/{}'>", "<a Rel=NOFOLLOW href=/{}>",
    '<a href="/{}" rel="no&#102;ollow">', "<a rel= nofollow href=/{}>", "<a rel=x href='/{}'>", "<a href = '/{}'>", "<a href=/{} HREF=/no>",
)  # fmt: skip
# What takes a whole tree to know, or what browsers do not agree on: for a comparison without one.
UNUSUAL = (
    "<select>", "</select>", "<image srcset='/{}'>", "<svg>", "<svg></div>", "<svg><foreignObject><p>", "<foreignObject>",
    "<frameset>", "<frame src='/{}'>", "</frameset>", "<noframes>", "</noframes>", "<plaintext>", "<math>", "<![CDATA[ > ]]>",
)  # fmt: skip


def usual_document(seed: int, *pieces: str) -> bytes:
    rng = random.Random(seed)
    start = rng.choice(["", "<body>", "<!doctype html><html><head></head><body>"])
    markup = [rng.choice(USUAL + pieces).format(number) for number in range(rng.randint(1, 25))]
    return (start + "".join(markup) + rng.choice([*[""] * 9, *ENDLESS])).encode()


@pytest.mark.parametrize("hundred", range(10))
def test_what_is_passed_over_in_one_go_says_nothing(hundred: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the patterns of what is usual each tag is looked at by itself, and the same is found."""
    documents = [usual_document(seed, *UNUSUAL) for seed in range(200 * hundred, 200 * hundred + 200)]
    documents += [Generator(seed).document().encode() for seed in range(20 * hundred, 20 * hundred + 20)]

    def read() -> list[list[tuple[str, Attributes]]]:
        return [asked(elements_of(document, tags)) for document in documents for tags in (TAGS, PAGE_TAGS, ("meta",))]

    in_one_go = read()
    monkeypatch.setattr(scanner, "_run", lambda _: re.compile(rb"(?:(?!)()|)"))
    assert in_one_go == read()


def asked(elements: Iterable[tuple[str, Attributes]]) -> list[tuple[str, Attributes]]:
    """Of a link its address without a fragment, and whether it is to be followed: passed over, it has no more."""
    return [(tag, link_of(attributes) if tag == "a" else attributes) for tag, attributes in elements]


def link_of(attributes: Attributes) -> Attributes:
    is_followed = "nofollow" not in (attributes.get("rel") or "").lower()
    return {"href": (attributes["href"] or "").partition("#")[0], "": str(is_followed)}


@pytest.mark.parametrize("hundred", range(10))
def test_usual_pages_are_read_as_their_tree_is(hundred: int) -> None:
    for seed in range(100 * hundred, 100 * hundred + 100):
        document = usual_document(seed)
        elements, in_tree = asked(elements_of(document, TAGS)), asked(tree_elements(document, TAGS))
        assert found(elements) == found(in_tree), (seed, document)


@pytest.mark.parametrize("obey_nofollow", [True, False])
@pytest.mark.parametrize("hundred", range(3))
def test_a_page_has_the_links_that_its_elements_have_one_by_one(hundred: int, obey_nofollow: bool) -> None:
    """What is asked of all links in one go, and remembered of a folder, changes no answer."""
    url, headers = "http://e.com/dir/page?q", [("Content-Type", "text/html; charset=utf-8")]
    for seed in range(100 * hundred, 100 * hundred + 100):
        document = Generator(seed).document().encode()
        elements = list(tree_elements(document, TAGS))
        bases = [attributes["href"] or "" for tag, attributes in elements if tag == "base"]
        base = canonicalize(bases[0], url) if bases else url
        expected: dict[str, None] = {}
        for tag, attributes in elements:
            is_left_out = obey_nofollow and re.search(r"(^|\s)nofollow(\s|$)", attributes.get("rel") or "", re.I | re.A)
            if tag not in ("a", "area", "frame", "iframe") or (tag[0] == "a" and is_left_out):
                continue
            link = canonicalize(
                attributes["href" if tag[0] == "a" else "src"] or "", base if isinstance(base, str) else url
            )
            if isinstance(link, str):
                expected[link] = None
        page = read_page(document, url, headers, LinkOptions(obey_nofollow=obey_nofollow))
        assert page is not None
        assert page.links == tuple(expected), (seed, document)


@pytest.mark.parametrize(
    ("markup", "expected"),
    [
        ("<!-- <a href=/no> --!><a href=/yes>", {"/yes"}),
        ("<!--><a href=/yes><!---><a href=/too>", {"/yes", "/too"}),
        ("<svg><style><a href=/yes></style></svg><style><a href=/no></style>", {"/yes"}),
        ("<svg><script/><a href=/yes></a></svg><script><a href=/no></script>", {"/yes"}),
        ("<svg><desc><style><a href=/no></style></desc><style><a href=/yes></style></svg>", {"/yes"}),
        ("<svg><p><style><a href=/no></style><a href=/yes>", {"/yes"}),
        ("<div><svg></div><style><a href=/no></style><a href=/yes>", {"/yes"}),
        ("<template><a href=/no><template></template><a href=/no></template><a href=/yes>", {"/yes"}),
        ("<svg><template><a href=/yes></template></svg>", {"/yes"}),
        ("<a href=/yes><plaintext><a href=/no>", {"/yes"}),
        ("<textarea><a href=/no></textarea><title><a href=/no></title><a href=/yes>", {"/yes"}),
        ("<svg><![CDATA[<a href=/no>]]><a href=/yes></a></svg><![CDATA[<a href=/no><a href=/too>]]>", {"/yes", "/too"}),
        ("<noscript><a href=/yes></noscript><select><option><a href=/too></select>", {"/yes", "/too"}),
        ("<script><!-- <script> </script> <a href=/no> --></script><a href=/yes>", {"/yes"}),
        ("<script><!--<!--><script></script><a href=/yes>", {"/yes"}),
        ("<a href=/yes href=/no><a href=/a&amp;b&copy=1&copy;&#x41;>", {"/yes", "/a&b&copy=1©A"}),
        ("<a href='&#0;&#xD800;&#99999999999999999999;&#x80;'>", {"\ufffd\ufffd\ufffd€"}),
        ("<svg><a xlink:href=/yes></a><a href=/too xlink:href=/no></a></svg><a xlink:href=/no>", {"/yes", "/too"}),
        ("<frameset><frame src=/yes><a href=/no><style></frameset><frame src=/no>", {"/yes"}),
        ("text<frameset><frame src=/no></frameset><iframe src=/yes>", {"/yes"}),
        ("<math><mi><style><a href=/no></style></mi><style><a href=/yes></style></math>", {"/yes"}),
        ("<math><annotation-xml encoding=text/html><style><a href=/no></style></annotation-xml></math>", set()),
    ],
)
def test_markup_is_read_as_browsers_read_it(markup: str, expected: set[str]) -> None:
    for elements_in in (tree_elements, elements_of):
        links, _, _ = found(elements_in(markup.encode(), TAGS))
        assert {link for _, link in links} == expected


def test_the_title_and_the_base_are_those_of_the_page() -> None:
    markup = (
        b"<svg><title>Icon</title></svg><noscript><base href=/no-scripts/></noscript><template><title>No</title></template>"
        b"<title>A &amp; B &copyright</title><title>C</title><base href=/yes/><base href=/no/>"
    )
    for elements_in in (tree_elements, elements_of):
        assert found(elements_in(markup, TAGS)) == (set(), "A & B ©right", "/yes/")


@pytest.mark.parametrize(
    "content_type", ["text/html", "application/xhtml+xml", "text/xml", "text/html; charset=shift_jis"]
)
def test_nothing_on_a_page_is_an_error_in_any_namespace(content_type: str) -> None:
    headers = [("Content-Type", content_type), ("Refresh", "0; url=http://[")]
    for seed in range(200):
        start = Generator(seed).rng.choice([b"<svg>", b"<math>", b"<frameset>", b"<select>", b""])
        body = start + Generator(seed).document().encode() + b"\xff<a href=/\xff>"
        page = read_page(body, "http://e.com/", headers, LinkOptions(srcset=True, meta_refresh=True))
        assert page is None if content_type == "text/xml" else page is not None


@pytest.mark.parametrize(
    "markup",
    [
        b"<svg><a xlink:href=x>", b"<svg><base xlink:href=x>", b"<svg><area xlink:href=x>", b"<math><a xlink:href=x>",
        b"<title>&#" + b"9" * 5000 + b";</title><a href='&#" + b"9" * 5000 + b";'>", b"<a href>", b"<iframe src><base href>",
        b"<meta http-equiv=refresh content='" + b"1" * 100_000 + b"'>", b"<svg>" * 5000, b"<svg><desc>" * 5000,
        b"<template>" * 5000 + b"</template>" * 5000, b"\0", b"<a href='\0'\0=\0>",
    ],
)  # fmt: skip
def test_odd_pages_are_read(markup: bytes) -> None:
    assert read_page(markup, "http://e.com/", [("Content-Type", "text/html; charset=utf-8")]) is not None


FORMATTING = ("b", "big", "code", "em", "font", "i", "nobr", "s", "small", "strike", "strong", "tt", "u")
MARKERS = ("applet", "marquee", "object", "table", "button", "select", "svg")


def many(start: str, again: str, size: int) -> bytes:
    """A document of about so many bytes: the first half opens, each time otherwise, and the second goes on and on."""
    opened = "".join(start.format(number) for number in range(size // 2 // len(start)))
    return (opened + again * (size // 2 // len(again))).encode()


@pytest.mark.parametrize(
    ("start", "again"),
    [
        *((f"<{name} x{{}}>", "<p>x") for name in FORMATTING),
        *((f"<b x{{}}><{name}>", f"<p>x</{name}>") for name in MARKERS),
        *((f"<b x{{}}><{name}>", "</b><p>") for name in ("div", "math", "template", "td", "svg><desc")),
        ("<table><b x{}>", "<tr><p>x"), ("<b x{}><div>", "</b>"), ("<b x{} " + "y=z " * 500 + ">", "<p>x"), ("<a x{}>", "<p>x</b>"),
        ("<select><selectedcontent></selectedcontent><option x{}>", "<b>x</select>"), ("<svg><g x{}>", "</g></p>"), ("<x{}>", "<svg>"),
    ],
)  # fmt: skip
def test_no_markup_takes_memory(start: str, again: str) -> None:
    """A tree has a copy of each formatting element that is open in every paragraph: of 40 kB a gigabyte."""
    assert taken(many(start, again, 100_000)) < 1_000_000


def test_no_title_takes_memory() -> None:
    title = b"<title>" + b"&a" * 1_000_000 + b"</title>"
    assert taken(title) < 6_000_000
    assert found(elements_of(title, TAGS))[1].startswith("&a&a")


def taken(document: bytes) -> int:
    """How much memory the reading of a document takes at most."""
    tracemalloc.start()
    try:
        for _ in elements_of(document, TAGS):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize("markup", [b"<p><math></p>", b"<svg><path></br>", b"<svg></p><math></br>"])
def test_what_ends_a_drawing_by_itself_needs_no_account(markup: bytes) -> None:
    """Such an account takes twice the time that all the rest does."""
    scan = scanner._Scanner(markup * 3 + b"<a href=/x>", TAGS)
    assert list(scan.elements()) == [b"/x"]
    assert scan._account is None
