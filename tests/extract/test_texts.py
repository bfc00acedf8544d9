"""What a reader has of a page: exactly which text, and which Markdown."""

from __future__ import annotations

import pytest

from sqspider.extract.texts import markdown_of, text_of
from tests.extract.pages import document

URL = "https://site.example/docs/page"

PROSE = """<h1>Title <small>of it</small></h1>
<p>One <b>bold</b> and <em>slanted</em> word,<br>a new line.
<p>Two&nbsp;words, co&shy;op, 1 &lt; 2 &amp; 3."""
PROSE_TEXT = "Title of it\n\nOne bold and slanted word,\na new line.\n\nTwo words, coop, 1 < 2 & 3."
PROSE_MARKDOWN = "# Title of it\n\nOne **bold** and *slanted* word,  \na new line.\n\nTwo words, coop, 1 < 2 & 3."

LISTS = "<ul><li>a<li>b<ul><li>c</ul><li><p>d</p><p>e</p></ul><ol start=3><li>x<li>y</ol><dl><dt>t<dd>d</dl>"
LISTS_TEXT = "* a\n* b\n  * c\n* d\n  e\n3. x\n4. y\n\nt\n\nd"
LISTS_MARKDOWN = "- a\n\n- b\n\n  - c\n\n- d\n\n  e\n\n3. x\n4. y\n\nt\n\nd"

CODE = '<p>Call <code>f( 1 )</code>:</p><pre><code class="language-python">def f(x):\n    return  x\n</code></pre>'
CODE_TEXT = "Call f( 1 ):\n\ndef f(x):\n    return  x"
CODE_MARKDOWN = "Call `f( 1 )`:\n\n```python\ndef f(x):\n    return  x\n```"

TABLE = "<table><caption>C</caption><tr><th>a<th>long head<tr><td>one | two<td>2<br>3</table>"
TABLE_TEXT = "a\tlong head\none | two\t2 3"
TABLE_MARKDOWN = "C\n\n| a | long head |\n| --- | --- |\n| one \\| two | 2 3 |"

SPANS = "<table><tr><th rowspan=2>a<th colspan=2>b<tr><td>1<td>2<tr><td>3</table>"
SPANS_MARKDOWN = "| a | b |  |\n| --- | --- | --- |\n|  | 1 | 2 |\n| 3 |  |  |"

LAYOUT = "<table><tr><td>menu<td>words <p>of it</p><h2>Head</h2><table><tr><td>1<td>2</table></table>"
LAYOUT_TEXT = "menu\n\nwords\n\nof it\n\nHead\n\n1\t2"
LAYOUT_MARKDOWN = "menu\n\nwords\n\nof it\n\n## Head\n\n| 1 | 2 |\n| --- | --- |"

LINKS = """<p><a href="../up?x=1#y">up</a> <a href="#here">here</a> <a href="javascript:go()">go</a>
<a href="//other.example">other</a> <img src="i.png" alt="An image"><img src="data:image/png;base64,AA" alt="no"></p>"""
LINKS_TEXT = "up here go other"
LINKS_MARKDOWN = (
    "[up](https://site.example/up?x=1#y) [here](#here) go [other](https://other.example/) "
    "![An image](https://site.example/docs/i.png)"
)

UNSEEN = """<title>Not in it</title><style>p {}</style><p>seen<script>no()</script><p hidden>no
<p style="color: red; display: none">no<p style="DISPLAY:NONE">no</p><noscript>no</noscript><template>no</template>
<iframe>no</iframe><svg><text>no</text></svg><select><option>no</select><dialog>no</dialog><dialog open>yes</dialog>
<details><summary>more</summary>of it</details><p hidden=until-found>found"""
UNSEEN_TEXT = "seen\n\nyes\n\nmore\n\nof it\n\nfound"

APART = "<p>a<button>b</button><button>c</button></p><table><tr><td>one<p>two</p>three<div>four</div><td>3</table>"
APART_TEXT = "a b c\n\none two three four\t3"
APART_MARKDOWN = "a b c\n\n| one two three four | 3 |\n| --- | --- |"

QUOTE = "<blockquote><p>said <q>so</q></p></blockquote><hr><p><del>old</del> *stars* _low_ [x](y) # 1."
QUOTE_TEXT = "    said so\n\nold *stars* _low_ [x](y) # 1."
QUOTE_MARKDOWN = '> said "so"\n\n---\n\n~~old~~ \\*stars\\* \\_low\\_ \\[x\\](y) # 1.'

PAGES = [
    pytest.param(PROSE, PROSE_TEXT, PROSE_MARKDOWN, id="prose"),
    pytest.param(LISTS, LISTS_TEXT, LISTS_MARKDOWN, id="lists"),
    pytest.param(CODE, CODE_TEXT, CODE_MARKDOWN, id="code"),
    pytest.param(TABLE, TABLE_TEXT, TABLE_MARKDOWN, id="a table"),
    pytest.param(SPANS, "a\tb\n1\t2\n3", SPANS_MARKDOWN, id="cells that span"),
    pytest.param(LAYOUT, LAYOUT_TEXT, LAYOUT_MARKDOWN, id="a table that lays out"),
    pytest.param(LINKS, LINKS_TEXT, LINKS_MARKDOWN, id="links"),
    pytest.param(UNSEEN, UNSEEN_TEXT, UNSEEN_TEXT, id="what is not seen"),
    pytest.param(APART, APART_TEXT, APART_MARKDOWN, id="words kept apart by layout"),
    pytest.param(QUOTE, QUOTE_TEXT, QUOTE_MARKDOWN, id="quotes"),
    pytest.param("", "", "", id="an empty page"),
    pytest.param("<frameset><frame src=a></frameset><noframes>no</noframes>", "", "", id="frames"),
    pytest.param("<p>a<plaintext>b</p><i>c", "a\n\nb</p><i>c", "a\n\nb\\</p>\\<i>c", id="plaintext"),
]


@pytest.mark.parametrize(("markup", "text", "markdown"), PAGES)
def test_a_page_has_exactly_this_text_and_this_markdown(markup: str, text: str, markdown: str) -> None:
    page = document(markup, url=URL)
    assert text_of(page) == text
    assert markdown_of(page) == markdown


def test_what_is_not_seen_stays_in_the_tree_for_whoever_selects_it() -> None:
    page = document(UNSEEN + LAYOUT)
    before = page.tree.html
    text_of(page), markdown_of(page)
    assert page.tree.html == before
    assert page.tree.select("noscript, p[hidden], table")


def test_a_page_is_only_copied_where_a_reader_sees_another_one() -> None:
    plain = document("<p>one</p><table><tr><td>1<td>2</table>")
    assert plain.shown is plain.tree
    for markup in ("<svg></svg>", "<p hidden>x", "<a href='javascript:x'>y</a>", "<button>b</button>", LAYOUT):
        page = document(markup)
        assert page.shown is not page.tree, markup


def test_what_is_not_seen_and_would_be_kept_apart_is_taken_away() -> None:
    markup = "<p>a<button hidden>no</button>b<table><tr><td>1<p style='display: none'>no</p><ul hidden><li>no</ul><td>2"
    assert text_of(document(markup)) == "ab\n\n1\t2"


def test_of_many_empty_lines_one_is_left() -> None:
    assert text_of(document("<pre>\n\na\n \n\n\n\t\nb\n\n</pre>")) == "a\n\nb"


def test_a_row_of_a_table_that_begins_with_a_number_is_no_item() -> None:
    """Its last cell is blank: it stays a row, and takes nothing from the one below."""
    markup = "<table><tr><td>1.<td>&nbsp;</tr><tr><td>2.<td>b</tr></table>"
    assert text_of(document(markup)) == "1.\n2.\tb"
