"""Paths: what they find, what is made of it, and how one that is none is refused."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.extract.extractor import Extractor
from sqspider.extract.linked_data import MAX_DEPTH, json_of
from sqspider.extract.page import Page
from sqspider.extract.paths import FILTERS, SOURCES, Elements, Path
from sqspider.extract.rules import Fact, Field, Rules
from sqspider.patterns import Search
from sqspider.tables.columns import Kind
from sqspider.tables.values import checked
from tests.extract.pages import CASES, document, extracted, value

PRODUCT = (CASES / "product.html").read_text()


@pytest.mark.parametrize(
    ("path", "found"),
    [
        # An element is what one reads there, in one line; texts and attributes are as they stand.
        ("css:h1", "Kaffeemühle C40"), ("css:h1::text", "Kaffee"), ("css:title::text", "\n  Kaffeemühle   „Comandante“\n"),
        ("css:ul", "Eins 1.234,56 € Zwei 1,234.56 $ neu Drei ausverkauft Ab 99 €"), ("xpath://p[2]", "Zweiter Absatz mit Umbruch."),
        ("css:.nothing", None), ("css:li:nth-child(4)", "Ab 99 €"), ("css:li script", "var price = 5;"), ("css:table th", "Wer"),
        ("xpath:string(//h1)", "Kaffeemühle C40"), ("xpath:count(//li)", "4"), ("xpath:boolean(//nav)", "true"), ("xpath:number(//h1)", None),
        # The first thing that all filters make something of.
        ("css:.price | number", 1234.56), ("css:li:nth-child(3) .price | number", None), ("css:.name | number", None), ("css:.sold .price, .first .price | number", 1234.56),
        ("css:.price | first | integer", None), ("css:.price | integer", 99),
        # All of it.
        ("css:.price | number | list", [1234.56, 1234.56, 99.0]), ("css:.name | list", ("Eins", "Zwei", "Drei")), ("css:.nothing | list", None),
        ("css:.name | lower | join(', ')", "eins, zwei, drei"), ("css:.name | join", "Eins Zwei Drei"), ("css:.nothing | join(',')", None),
        ("css:.name::attr(href) | url", "https://shop.example/things/one?b=2&a=1"),
        ("css:.name::attr(href) | url | list", ("https://shop.example/things/one?b=2&a=1", "https://shop.example/things/two")),
        # Each filter.
        ("css:title::text | trim", "Kaffeemühle   „Comandante“"), ("css:title::text | text", "Kaffeemühle „Comandante“"), ("css:h1 b | html", "<b>mühle</b>"),
        ("css:.price | re('[0-9]+,[0-9]+')", "234,56"), (r"css:.price | re((\d+),(\d+))", "234"), (r"css:.price | re('(\d+),(\d+)', 2) | integer", 56),
        ("css:.name | re((Z)wei|(D)rei)", "Z"), (r"css:.name | re('it\'s | a')", None), ("css:.price | number(',') | list", [1234.56, 1.234, 99.0]),
        ("css:time::attr(datetime) | date", 1699174800.0), ("css:td | date('%d. %B %Y')", None), ("css:#ratings | re('[0-9-]{10}') | date", 1709164800.0),
        ("css:#state::text | json | text", '{"page":{"props":{"stock":[3,4],"sold":true}}}'), ("css:#state | json(page.props.stock) | integer", None),
        ("css:#state | json(page.props.stock[-1]) | integer", 4), ("css:#state | json(page.props.sold) | boolean", True),
        ("css:#state | json(page.props)", {"stock": [3, 4], "sold": True}), ("css:h1 | json", None), ("css:h1 | boolean", None),
        # JSON-LD: through graphs and arrays, a broken one and one of two lines beside it.
        ("json-ld:name", "Comandante C40"), ("json-ld:offers.price | number | list", [239.0, 249.0]), ("json-ld:offers.price | list", ("239.00", "249")),
        ("json-ld:[type=Product].brand.name", "Comandante"), ("json-ld:[@type=Organization].name | text", "A Shop of two lines"),
        ("json-ld:offers[1].price | integer", 249), ("json-ld:offers[2].price", None), ("json-ld:aggregateRating[type=AggregateRating].ratingValue | number", 4.8),
        ("json-ld:id", "#it"), ("json-ld:brand", '{"@type":"Brand","name":"Comandante"}'), ("json-ld:brand | json", {"@type": "Brand", "name": "Comandante"}),
        ("json-ld:offers[availability=InStock].price", "239.00"), ("json-ld:nothing.at.all", None),
        # The rest.
        ("meta:og:title", "Comandante C40"), ("meta:product:price:amount | number", 239.0), ("meta:SKU", "C40-MK4"), ("meta:none", None),
        ("header:content-TYPE", "text/html; charset=utf-8"), ("header:x-none", None),
        ("url", "https://shop.example/things/page?size=2&colour=red"), ("url:host", "shop.example"), ("url:path", "/things/page"),
        ("url:query", "size=2&colour=red"), ("url:query.size | integer", 2), ("url:query.none", None), ("url | re('/([a-z]+)')", "shop"),
        # Where a sign is none of ours.
        ("xpath:(//h1 | //h2)[last()]", "Bewertungen"), ("xpath://h2 | //h1", "Kaffeemühle C40"), ("css:a[href*=' | number']", None), ("css:*|h1", "Kaffeemühle C40"),
        ("xpath://h2|lower", "bewertungen"), ("meta:og:title|lower", "comandante c40"), ("xpath://a[contains(., '|')]", None),
    ],
)  # fmt: skip
def test_what_a_path_gives(path: str, found: object) -> None:
    assert value(path, PRODUCT) == found


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("css:a", Kind.TEXT), ("css:a | number", Kind.NUMBER), ("css:a | integer", Kind.INTEGER), ("css:a | boolean", Kind.BOOLEAN), ("css:a | date", Kind.TIME),
        ("css:a | json", Kind.JSON), ("css:a | list", Kind.TEXTS), ("css:a | number | list", Kind.JSON), ("css:a | number | first", Kind.NUMBER),
        ("css:a | integer | text", Kind.TEXT), ("css:a | json(a) | number", Kind.NUMBER), ("json-ld:a", Kind.TEXT), ("url", Kind.TEXT), ("css:a | number | join(';')", Kind.TEXT),
    ],
)  # fmt: skip
def test_the_last_filter_says_the_kind_of_the_column(path: str, kind: Kind) -> None:
    assert Path(path).kind is kind


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("css:div > > p", "css: unexpected '>' at 6 in 'div > > p'"), ("css:div >", "css: it ends too soon in 'div >'"), ("css:", "nothing to look for behind 'css:'"),
        ("css:a@href", "an attribute is 'a::attr(href)'"), ("css:p:contains('x')", "xpath://*[contains(., 'x')]"), ("css:a::txt", "::text or ::attr(NAME)"),
        ("css:h1, h2::text", "'h1::text, h2::text'"), ("css://h1", "this looks like 'xpath://h1'"),
        (".price", "Did you mean 'css:.price'?"), ("//h1", "Did you mean 'xpath://h1'?"), ("jsonld:name", "Did you mean 'json-ld:name'?"), ("", "no source"),
        ("xpath://p[", "xpath: expected a node test at the end of the expression in '//p['"), ("xpath://p[foo()]", "there is no function foo() in '//p[foo()]'"),
        ("xpath://p[$x]", "$x in '//p[$x]' stands for nothing"), ("xpath:.price", "this looks like a CSS selector"), ("xpath://no:p", "namespace prefix"), ("xpath://p[re:test(., '(')]", "xpath: missing )"), ("xpath://p[count('a')]", "xpath: count() of a non-node-set"),
        ("css:a | numbr", "there is no filter 'numbr' at 8. Did you mean 'number'?"), ("xpath://a | b", "'xpath:(//h1 | //h2)'"), ("css:a | nothing", "They are text, trim"),
        ("css:a | number(x)", "'.' or ','"), ("css:a | lower(x)", "'lower' takes nothing in brackets"), ("css:a | re", "as in re('[0-9]+')"), ("css:a | re(()", "no regular expression: '('"),
        ("css:a | re(a, 1)", "the expression has 0 groups"), ("css:a | join('a', 2)", "stands in quotes"), ("css:a | list | lower", "'list' stands last"),
        ("css:a | date | list", "one date is kept as a time"), ("css:a::text | html", "gives no elements"), ("url | html", "gives no elements"),
        ("url:hots", "Did you mean 'host'?"), ("url:host.x", "an address has no 'host.x'"), ("json-ld:a..b", "unexpected '.' at 1 in 'a..b'"), ("json-ld:[0", "unexpected '[' at 0"),
        ("json-ld:", "'json-ld:name'"), ("header:", "'header:last-modified'"), ("css:a | json(a.)", "unexpected '.' at 1"), ("css:a | text | ", "no filter at"),
    ],
)  # fmt: skip
def test_what_is_no_path_is_refused_and_says_where_and_what_was_meant(path: str, said: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as error:
        Path(path)
    assert said in str(error.value)


@pytest.mark.parametrize("path", ["css:a::text", "meta:x", "url", ".product", "css:a | text", "xpath://a[", ""])
def test_a_row_each_is_of_elements(path: str) -> None:
    with pytest.raises(ValueError, match=r"css:\.product|elements are wanted|expected|xpath:"):
        Elements(path)


@pytest.mark.parametrize("expression", ["(a+)+$", "(a|a)*$", "(.*.*)*="])
def test_a_regular_expression_that_takes_for_ever_is_ended(expression: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Search.__init__, "__defaults__", (0.2,))
    fields = (
        Field(name="slow", path=f"css:p | re('{expression}')"),
        Field(name="quick", path="css:h1"),
        Field(name="late", path="css:p | re(a)"),
    )
    (row,) = extracted(Rules(fields=fields), document(f"<h1>quick</h1><p>{'a' * 60}!"))
    assert (row["slow"], row["quick"], row["late"]) == (None, "quick", None)
    assert str(row["error"]).startswith("slow: a regular expression takes longer")


def test_json_that_others_cannot_read_is_none() -> None:
    assert json_of('{"a": "b\nc"}') == {"a": "b\nc"}  # but many write line ends
    assert json_of("<!-- [1] -->") == [1]
    for text in (
        "",
        "{",
        "[1,]",
        "NaN",
        "[Infinity]",
        '"\\ud800"',
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
        "[" * 100_000,
    ):
        assert json_of(text) is None, text[:20]
    assert json_of("[" * MAX_DEPTH + "]" * MAX_DEPTH) is not None


@given(
    st.text()
    | st.builds(
        lambda source, rest, last: f"{source}:{rest} | {last}",
        st.sampled_from(SOURCES),
        st.text(alphabet="abh1>[]()*:.#@='\"|,/ \\$", max_size=20),
        st.sampled_from(list(FILTERS)),
    )
)
def test_a_path_is_one_or_is_refused_in_words(text: str) -> None:
    page = Page(document(PRODUCT))
    with suppress(ValueError):  # nothing else
        Path(text).value(page)


TAGS = st.sampled_from(
    [
        "<p>",
        "</p>",
        "<h1>",
        "<b class=price>",
        "</b>",
        "<table>",
        "<td>",
        "<svg>",
        "</svg>",
        "<script type=application/ld+json>",
        "</script>",
        "<template>",
        "<meta name=og:title content='",
        "'>",
        "<!--",
        "<a href='",
        "<base href=/>",
        "<title>",
        "<html lang=",
        "\0",
        "&#xd800;",
        "1.234,5",
        '{"offers":[{"price":',
        "}]}",
        "<time datetime=2024>",
    ]
)
ALL = ("css:.price | number", "css:p ::text | join", "css:a::attr(href) | url | list", "xpath://p | integer", "xpath://*[contains(., 'a')] | html", "json-ld:offers.price | number", "meta:og:title | lower", "css:td | date", "css:script | json", "xpath://comment()", "css:* | re('(.)(.)', 2) | list")  # fmt: skip


EVERY: Final = Extractor(
    Rules(facts=tuple(Fact), fields=tuple(Field(name=f"f{at}", path=path) for at, path in enumerate(ALL)))
)


@given(st.lists(TAGS | st.text(max_size=8)).map("".join))
def test_no_page_makes_a_row_raise(markup: str) -> None:
    rows = EVERY.rows(document(markup.encode("utf-8", "surrogatepass")))
    assert len(checked(EVERY.columns, rows)) == 1  # and any file takes it
    str(rows).encode()
