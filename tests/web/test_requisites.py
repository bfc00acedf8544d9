"""What a page or a stylesheet needs to be shown."""

from __future__ import annotations

import pytest

from sqspider.web.links import read_page
from sqspider.web.requisites import requisites_of_page, requisites_of_style

URL = "https://e.com/d/p"
HTML = [("Content-Type", "text/html; charset=utf-8")]


def needs(markup: str, kind: str = "text/html") -> list[str]:
    headers, body = [("Content-Type", f"{kind}; charset=utf-8")], markup.encode()
    page = read_page(body, URL, headers)
    assert page is not None
    return [url.removeprefix("https://e.com/") for url in requisites_of_page(body, URL, headers, page.encoding)]


@pytest.mark.parametrize(
    ("markup", "found"),
    [
        ("<img src=a.png srcset='b.png 1x, c.png 2x'>", ["d/a.png", "d/b.png", "d/c.png"]),
        ("<img src=a.png><IMG SRC=a.png>", ["d/a.png"]),
        ("<picture><source srcset='a.webp'></picture>", ["d/a.webp"]),
        ("<video src=v.mp4 poster=p.jpg><track src=t.vtt></video><audio src=a.ogg>", ["d/v.mp4", "d/p.jpg", "d/t.vtt", "d/a.ogg"]),
        ("<link rel='Shortcut ICON' href=i.ico><link rel=canonical href=no><link rel=stylesheet href=s.css>", ["d/i.ico", "d/s.css"]),
        ("<script src=s.js>'<img src=no>'</script><script>'<img src=no>'</script>", ["d/s.js"]),
        ("<style>@import 'a.css'; b{background:url(b.png)}</style>", ["d/a.css", "d/b.png"]),
        ("<p style=\"background: url('b.png')\"><td background=c.png>", ["d/b.png", "d/c.png"]),
        ("<svg><use href='sprite.svg#x'/><use href='#y'/><image xlink:href=i.png /></svg>", ["d/sprite.svg", "d/i.png"]),
        ("<!-- <img src=no> --><title><img src=no></title><template><img src=no></template><img src=a>", ["d/a"]),
        ("<noscript><img src=a></noscript><iframe src=no></iframe><a href=no>", ["d/a"]),
        ("<img src=a><base href=/b/><img src=data:image/png,x><img src=''>", ["b/a"]),
        ("<object data=o><embed src=e><input type=image src=i>", ["d/o", "d/e", "d/i"]),
        ("<img src=a <img src=no", []),
    ],
)  # fmt: skip
def test_a_page(markup: str, found: list[str]) -> None:
    assert needs(markup) == found


def test_an_element_of_xhtml_that_closes_itself_hides_nothing() -> None:
    page = (
        "<html xmlns='http://www.w3.org/1999/xhtml'><head><script src='s.js'/></head><body><img src='a'/></body></html>"
    )
    assert needs(page, "application/xhtml+xml") == ["d/s.js", "d/a"]


def test_a_stylesheet_and_nothing_else() -> None:
    css = b"@import 'a.css'; b { background: url(../b.png) url(data:x) }"
    assert requisites_of_style(css, URL, [("Content-Type", "text/css")]) == [
        "https://e.com/d/a.css",
        "https://e.com/b.png",
    ]
    assert requisites_of_style(css, URL, [("Content-Type", "image/png")]) == []


@pytest.mark.parametrize(
    "piece", ["<img src=a>", "<p style='x", "<style>", "<!--", "<template>", "</style", '<a b="', "<script><!--"]
)
def test_it_takes_linear_time(piece: str) -> None:
    """A quadratic reader would be at it for hours."""
    requisites_of_page(piece.encode() * 100_000, URL, HTML, "utf-8")
