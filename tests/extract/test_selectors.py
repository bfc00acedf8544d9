"""Selectors give what parsel gives, on the pages of this repository and on documentation that is installed here.

Parsel's tree is lxml's, which is of HTML 4; ours is of HTML 5. So where a page is not nested as HTML 4 has it, values may
differ. Such a difference is one of trees, not of selectors, if parsel gives our values for the same page as lexbor, a
browser's parser, has written it anew.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import parsel
import pytest
from selectolax.lexbor import LexborHTMLParser

from sqspider.extract.page import Page
from sqspider.extract.paths import Path
from tests.extract.pages import document, own_pages, real_pages, value

CSS: Final = (
    "p::text", "h1::text", "h1 ::text", "title::text", "h2 ::text", "a::attr(href)", "a::attr(title)", "link::attr(href)",
    "meta::attr(content)", "img::attr(src)", "img::attr('alt')", "[id]::attr(id)", "[class]::attr(class)", "*::attr(id)",
    "::attr(rel)", "div ::attr(class)", "li::text", "li ::text", "ul > li::text", "ul > li:first-child::text",
    "li:nth-child(2)::text", "li:nth-child(odd)::text", "li:last-child > a::attr(href)", "li:not(.product)::text",
    "div.section > p::text", "div p a::attr(href)", "h1 + p::text", "h1 ~ p::text", "h2 ~ p::text", "p.lead ::text",
    "#offers .price::text", "#offers > .product::attr(data-id)", "[data-new]::attr(data-id)", "a[href^='/']::attr(href)",
    'a[href$=".html"]::attr(href)', "a[href*=index]::text", "a[rel~=nofollow]::attr(href)", "td:nth-of-type(2)::text",
    "th::text", "tr:nth-child(2) td::text", "h1::text, h2::text", "h1 ::text, h2 ::text", "pre::text", "code ::text",
    "em::text, strong::text", "dt::text", "dd ::text", "p:first-of-type::text", "a:only-child::attr(href)",
    "div:has(> h1)::attr(id)", "p:empty::attr(class)", "option::attr(value)", "input::attr(name)", ":root::attr(lang)",
    "body > *::attr(class)", "a.reference.internal::attr(href)", "a[class|=reference]::attr(href)", "*|p::text",
    "custom-element::attr(data-x)", "blockquote > div > div ::text", "li li::text",
)  # fmt: skip
XPATH: Final = (
    "//p/text()", "//h1//text()", "//title/text()", "string(//title)", "//a/@href", "//a[not(@href)]/@id", "//li[1]/text()",
    "//li[last()]/text()", "//li[position() < 3]/text()", "(//li)[2]/text()", "//p[contains(., 'the')]/text()",
    "//a[starts-with(@href, '/')]/@href", "//*[@id]/@id", "//h1/following-sibling::p[1]/text()",
    "//td/parent::tr/td[1]/text()", "(//th | //dt)/text()", "//a/ancestor::li/text()", "//div[p]/@id", "//p[not(a)]/text()",
    "normalize-space(//h1)", "count(//a[@href])", "string-length(normalize-space(//title))",
    "//meta[@name='description']/@content", "//link[@rel='canonical']/@href", "//*[has-class('product')]/@data-id",
    "//*[has-class('product', 'first')]/@data-id", r"//a[re:test(@href, '^[a-z]+\.html$')]/@href", "//p/descendant::a/@href",
    "//body/*/@class", "name(//body/*[1])", "concat(//title, '|', //h1)", "translate(//title, 'abc', 'ABC')",
    "substring-before(//title, ' ')", "//li[.//a]/a[1]/@href", "//*[self::h1 or self::h2]/text()", "//pre/text()",
    "//dl/dd[1]/text()", "//a/@*", "//li[@data-id > 2]/@data-id", "//body/comment()", "//li/preceding-sibling::li[1]/text()",
)  # fmt: skip

PATHS: Final = (*(f"css:{path}" for path in CSS), *(f"xpath:{path}" for path in XPATH))

END: Final = "what stands behind the body is in it: the blanks there are of its last paragraph, which has no end tag"
ANEW: Final = "a <b> in which a paragraph ends is begun anew behind it, and has the rest of the text"
LINE: Final = "the line end that begins a <pre> is none of its text"
EXPLAINED: Final = {
    **{("article.html", path): LINE for path in ("css:pre::text", "xpath://pre/text()")},
    **{("odd.html", path): ANEW for path in ("css:p::text", "css:p:first-of-type::text", "css:*|p::text")},
    **{("odd.html", path): ANEW for path in ("xpath://p/text()", "xpath://p[not(a)]/text()")},
    ("odd.html", "css:h2 ~ p::text"): END,
    **{
        ("product.html", path): END for path in ("css:p::text", "css:h1 ~ p::text", "css:h2 ~ p::text", "css:*|p::text")
    },
    **{("product.html", path): END for path in ("xpath://p/text()", "xpath://p[not(a)]/text()")},
}
"""Where parsel gives something else for the pages of this repository, each with what HTML 5 has otherwise."""


@cache
def read(path: str) -> Path:
    return Path(f"{path} | list")


def ours_of(page: Page, path: str) -> list[str]:
    found: Any = read(path).value(page)
    return list(found or ())


def theirs_of(selector: parsel.Selector, path: str) -> list[str]:
    kind, _, expression = path.partition(":")
    found = selector.css(expression) if kind == "css" else selector.xpath(expression)
    if expression.startswith(("count(", "string-length(")):  # a whole number is written without a fraction here
        return [text.removesuffix(".0") for text in found.getall()]
    if expression.endswith("comment()"):  # of one there is what it says
        return [text.removeprefix("<!--").removesuffix("-->") for text in found.getall()]
    return list(found.getall())


def differences(body: bytes) -> set[str]:
    """The paths for which parsel has other values. For the page as lexbor writes it, it has none."""
    doc = document(body)
    page = Page(doc)
    as_is = parsel.Selector(text=doc.markup, type="html")
    found = {path for path in PATHS if ours_of(page, path) != theirs_of(as_is, path)}
    if found:
        anew = parsel.Selector(text=LexborHTMLParser(doc.markup).html, type="html")
        assert [path for path in found if ours_of(page, path) != theirs_of(anew, path)] == []
    return found


def test_pages_of_this_repository_have_the_same_values() -> None:
    found = {(name, path) for name, body in own_pages().items() for path in differences(body)}
    assert found == EXPLAINED.keys()


def test_each_selector_finds_something_somewhere() -> None:
    pages = [Page(document(body)) for body in own_pages().values()]
    assert [path for path in PATHS if not any(ours_of(page, path) for page in pages)] == []


def test_a_hundred_pages_of_documentation_have_the_same_values() -> None:
    pages = real_pages(100)
    if len(pages) < 100:
        pytest.skip("no documentation here: apt install python3-doc postgresql-doc-15")
    several = [name for name, body in pages.items() if len(differences(body)) > len(PATHS) // 4]
    assert not several  # a tree that is altogether another would be a page that was not read


NEST: Final = "<div class='a x'>1<div class='a y'>2<p>3</p>4</div>5</div><div class=a>6</div>"


@pytest.mark.parametrize(
    ("path", "texts"),
    [
        ("css:.a::text", ["1", "2", "4", "5", "6"]),  # in the order of the page, though one lies in another
        ("css:.a ::text", ["1", "2", "3", "4", "5", "6"]),  # and each once
        ("css:.y ::text", ["2", "3", "4"]),
        ("css:.a::attr(class)", ["a x", "a y", "a"]),
        ("css:p::text, .y::text", ["2", "3", "4"]),
    ],
)
def test_texts_are_in_the_order_of_the_page(path: str, texts: list[str]) -> None:
    assert list(value(f"{path} | list", NEST)) == texts  # type: ignore[call-overload]  # a value may be anything
    assert texts == theirs_of(parsel.Selector(text=NEST, type="html"), path)
