"""What a page is about, without what is around it."""

from __future__ import annotations

import sys

import pytest

from sqspider.extract import texts
from sqspider.extract.texts import MAIN_BY, main_of, markdown_of, require_main_by
from tests.extract.pages import document

SENTENCE = "The spider walks along the thread, looks at each fly, counts it, and writes down what it has seen. "
ARTICLE = f"<h1>On flies</h1><p>{SENTENCE * 3}</p><p>{SENTENCE * 2}<a href=/more>More of it</a></p>"
MENU = "<ul><li><a href=/a>Home</a><li><a href=/b>Shop</a><li><a href=/c>Contact us now</a></ul>"


def around(main: str, menu: str = MENU) -> str:
    return f"""<body class="has-sidebar"><header>The site</header><nav>{menu}</nav>{main}
<div class="social-share">Tell your friends about it</div><aside><h2>Elsewhere</h2>{menu}</aside>
<div id="comments-list"><p>First comment, it is a long one, and says nothing at all, as they do.</p></div>
<footer>All rights reserved, by nobody, since 1999.</footer></body>"""


@pytest.mark.parametrize("by", MAIN_BY)
@pytest.mark.parametrize("tag", ["article", "main", "div", "div role=main"])
def test_an_article_is_found_without_what_is_around_it(by: str, tag: str) -> None:
    text = main_of(document(around(f"<{tag}>{ARTICLE}</{tag.split()[0]}>")), by)
    assert text.count("walks along the thread") == 5
    assert "More of it" in text
    for other in ("Home", "friends", "Elsewhere", "comment", "rights"):
        assert other not in text


def test_a_page_of_several_articles_has_all_of_them() -> None:
    text = main_of(document(around(f"<article>{ARTICLE}</article>" * 3)))
    assert text.count("On flies") == 3
    assert "Elsewhere" not in text


def test_reference_pages_without_prose_have_a_main_content() -> None:
    entries = "".join(f"<dt>option_{number}<dd>Sets the number {number}." for number in range(40))
    text = main_of(document(around(f"<main><h1>Options</h1><dl>{entries}</dl></main>")))
    assert text.startswith("Options")
    assert text.count("Sets the number") == 40


def test_what_is_around_without_a_name_is_left_out_where_the_rest_reads_as_prose() -> None:
    text = main_of(document(f"<div>Call us at any time of the day</div><div>{ARTICLE}</div><div>Made by hand</div>"))
    assert text.startswith("On flies")
    assert "Call us" not in text
    assert "by hand" not in text


def test_where_all_is_called_around_nothing_is() -> None:
    entries = "".join(f"<dt>option_{number}<dd>Sets the number {number}." for number in range(40))
    assert "option_7" in main_of(document(f"<form id=aspnetForm><dl>{entries}</dl></form>"))
    assert "walks along" in main_of(document(f"<div class='page-with-menu'>{ARTICLE}</div>"))


def test_markdown_has_absolute_links_and_leaves_the_page_as_it_is() -> None:
    page = document(around(f"<article>{ARTICLE}</article>"), url="https://site.example/x/")
    before = texts.text_of(page)
    markdown = markdown_of(page)
    assert "# On flies\n\nThe spider walks" in markdown
    assert "[More of it](https://site.example/more)" in markdown
    assert texts.text_of(page) == before
    assert page.tree.select_one("p a").attr("href") == "/more"  # type: ignore[union-attr]  # it has one


def test_who_finds_main_contents_must_be_known_and_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in MAIN_BY:
        require_main_by(name)
    with pytest.raises(ValueError, match="'nobody' finds no main content: it is found by turbohtml or trafilatura"):
        require_main_by("nobody")
    monkeypatch.setitem(sys.modules, "trafilatura", None)
    with pytest.raises(ValueError, match=r"pip install 'sqspider\[extract\]'"):
        require_main_by("trafilatura")


def test_what_trafilatura_does_not_survive_has_no_main_content(monkeypatch: pytest.MonkeyPatch) -> None:
    import trafilatura

    def fail(*_: object, **__: object) -> None:
        raise RecursionError

    monkeypatch.setattr(trafilatura, "extract", fail)
    assert main_of(document(around(ARTICLE)), "trafilatura") == ""
