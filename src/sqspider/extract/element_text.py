"""The text of an element in one line, as it is read: blocks and line breaks are blanks, scripts and styles nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import turbohtml

_UNSEEN: Final = frozenset(("script", "style", "template", "noscript"))
_APART: Final = frozenset(
    (
        *("address", "article", "aside", "blockquote", "br", "button", "caption", "dd", "details", "dialog", "div"),
        *("dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "h1", "h2", "h3", "h4", "h5", "h6"),
        *("header", "hr", "img", "input", "legend", "li", "main", "nav", "ol", "optgroup", "option", "p", "pre"),
        *("section", "select", "summary", "table", "tbody", "td", "textarea", "tfoot", "th", "thead", "tr", "ul"),
    )
)
_PECULIAR: Final = ",".join(sorted(_UNSEEN | _APART))


def element_text(element: turbohtml.Element) -> str:
    """Its text, white space collapsed. An element that is a script itself has its text, too."""
    if element.select_one(_PECULIAR) is None:
        return " ".join(element.text.split())
    import turbohtml

    pieces: list[str] = []
    rest: list[turbohtml.Node | str] = [*reversed(element.children)]
    while rest:
        node = rest.pop()
        if isinstance(node, str):
            pieces.append(node)
        elif isinstance(node, turbohtml.Text):
            pieces.append(node.data)
        elif isinstance(node, turbohtml.Element) and node.tag not in _UNSEEN:
            if node.tag in _APART:
                pieces.append(" ")
                rest.append(" ")
            rest.extend(reversed(node.children))
    return " ".join("".join(pieces).split())
