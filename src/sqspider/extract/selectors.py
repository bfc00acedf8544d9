"""CSS selectors and XPath expressions: which elements, texts and attributes of a page a path means.

Both are as parsel, and so Scrapy, has them: ``h1::text`` are the texts that lie in it directly, ``h1 ::text`` all
within it, ``a::attr(href)`` is an attribute. Below an element a selector may mean that element itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqspider.extract.scanning import pieces_outside

if TYPE_CHECKING:
    import turbohtml

    from sqspider.extract.page import Page

_PSEUDO: Final = re.compile(r"::(?:(text)|attr\(\s*(?:\"([^\"]+)\"|'([^']+)'|([^\s\"'()]+))\s*\))\Z")
_AT: Final = re.compile(r"\s+at position ([0-9]+)\Z")


class _Branch(NamedTuple):
    """One of the selectors that stand with commas between them."""

    selector: str
    text: bool
    attribute: str | None
    deep: bool  # what lies in all that is within, not in the element alone


def _branch_of(text: str) -> _Branch:
    found = _PSEUDO.search(text)
    if found is None:
        return _Branch(text.strip(), False, None, False)
    selector = text[: found.start()]
    is_deep = not selector.strip() or selector != selector.rstrip()
    return _Branch(selector.strip() or "*", found[1] is not None, found[2] or found[3] or found[4], is_deep)


class Css:
    """A CSS selector. Raises ``ValueError`` for what is none, and says where."""

    def __init__(self, text: str) -> None:
        branches = [_branch_of(branch) for branch in pieces_outside(text, ",")]
        if len({branch[1:] for branch in branches}) > 1:
            raise ValueError(
                f"its selectors give different things: {text!r}; what is wanted stands behind each of them, as in "
                "'h1::text, h2::text'"
            )
        first = branches[0]
        self.gives_elements = not first.text and first.attribute is None
        self._text, self._attribute, self._deep = first.text, first.attribute, first.deep
        selectors = [branch.selector for branch in branches]
        if first.deep and first.attribute is not None:
            selectors += [f"{selector} *" for selector in selectors]
        self._selector = ", ".join(selectors)
        _check_selector(self._selector, text)

    def elements(self, page: Page, within: turbohtml.Element | None) -> list[turbohtml.Element]:
        """The elements that are meant, in their order."""
        if within is None:
            return page.tree.select(self._selector)
        found = within.select(self._selector)
        return [within, *found] if within.matches(self._selector) else found

    def __call__(self, page: Page, within: turbohtml.Element | None) -> Iterable[object]:
        if self.gives_elements and within is None:  # most often the first is all that is wanted
            return self._first_and_others(page.tree)
        elements = self.elements(page, within)
        if self._attribute is not None:
            found = (element.attr(self._attribute, None) for element in elements)
            return (value for value in found if value is not None)
        return self._texts(elements) if self._text else elements

    def _first_and_others(self, tree: turbohtml.Document) -> Iterator[turbohtml.Element]:
        first = tree.select_one(self._selector)
        if first is not None:
            yield first
            yield from tree.select(self._selector)[1:]

    def _texts(self, elements: list[turbohtml.Element]) -> Iterator[str]:
        """Their texts in the order of the page: elements may lie within one another."""
        import turbohtml

        chosen, done = set(elements), set[turbohtml.Element]()
        for element in elements:
            if element in done:
                continue
            nested = [] if len(elements) == 1 else [each for each in element.select(self._selector) if each in chosen]
            done.update(nested)
            for node in element.descendants if self._deep or nested else element.children:
                if isinstance(node, turbohtml.Text) and (self._deep or node.parent in chosen):
                    yield node.data


def _check_selector(selector: str, text: str) -> None:
    import turbohtml

    try:
        turbohtml.parse("<p>", positions=False).select(selector)
    except ValueError as error:
        why = str(error).partition('": ')[2] or str(error)
        place = _AT.search(why)
        at = int(place[1]) if place else len(selector)
        what = f"unexpected {selector[at]!r} at {at}" if at < len(selector) else "it ends too soon"
        raise ValueError(f"{what} in {text!r} ({_AT.sub('', why)}){_css_advice(text)}") from None


def _css_advice(text: str) -> str:
    if found := re.search(r":contains\(\s*(.*?)\s*\)", text):
        return f"; by its text an element is found by xpath://*[contains(., {found[1] or repr('…')})]"
    if found := re.search(r"(?:/|\s|^)?@([\w:-]+)\Z", text):
        return f"; an attribute is '{text[: found.start()]}::attr({found[1]})'"
    if found := re.search(r"::?(\w+)", text):
        return "; behind a selector may stand ::text or ::attr(NAME)" if found[0].startswith("::") else ""
    return f"; this looks like 'xpath:{text}'" if text.startswith(("/", "./", "(/")) else ""


_FUNCTION: Final = re.compile(r"(?<![\w:$-])((?:[A-Za-z_][\w.-]*:)?[A-Za-z_][\w.-]*)\s*\(")
_XPATH_ERRORS: Final = (ValueError, TypeError, re.error)  # the last two, of functions that are wrongly called
_NO_FUNCTIONS: Final = ("text", "node", "comment", "processing-instruction", "and", "or", "div", "mod")


class XPath:
    """An XPath expression. Raises ``ValueError`` for what is none, and says where as far as that is known."""

    gives_elements = True

    def __init__(self, text: str) -> None:
        import turbohtml

        self._expression = text.strip()
        bare = "".join(re.split(r"\"[^\"]*\"|'[^']*'", text))
        if found := re.search(r"\$[\w.-]+", bare):
            raise ValueError(f"{found[0]} in {text!r} stands for nothing: there are no variables")
        for name in _FUNCTION.findall(bare):
            if name not in _NO_FUNCTIONS:
                _check_function(name, text)
        try:
            self._compiled: Any = turbohtml.XPath(self._expression, extensions=_EXTENSIONS)
            self._compiled(turbohtml.parse("<p>", positions=False))
        except _XPATH_ERRORS as error:
            advice = "; this looks like a CSS selector" if re.match(r"[.#]\w", self._expression) else ""
            raise ValueError(f"{str(error).removeprefix('xpath: ')} in {text!r}{advice}") from None

    def elements(self, page: Page, within: turbohtml.Element | None) -> list[turbohtml.Element]:
        """The elements that are meant, in their order."""
        import turbohtml

        return [found for found in self(page, within) if isinstance(found, turbohtml.Element)]

    def __call__(self, page: Page, within: turbohtml.Element | None) -> Iterable[object]:
        try:
            found = self._compiled(page.tree if within is None else within)
        except _XPATH_ERRORS as error:
            raise ValueError(f"xpath: {str(error).removeprefix('xpath: ')} in {self._expression!r}") from None
        return found if isinstance(found, list) else (found,)


def _check_function(name: str, text: str) -> None:
    import turbohtml

    try:
        turbohtml.XPath(f"{name}()", extensions=_EXTENSIONS)(turbohtml.parse("", positions=False))
    except ValueError as error:
        if "unknown function" in str(error) or "namespace" in str(error):
            raise ValueError(f"there is no function {name}() in {text!r}") from None


def _has_class(context: Any, *names: str) -> bool:
    """As parsel has it: whether the element has all of these classes."""
    attribute = getattr(context.context_node, "attr", None)  # which a document has not, nor a text
    classes = ((attribute("class") if attribute else "") or "").split()
    return all(name in classes for name in names)


_EXTENSIONS: Final[Any] = {(None, "has-class"): _has_class}
