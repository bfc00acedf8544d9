"""The few elements of an HTML document that a crawler asks for, in document order.

Ordinary documents are parsed into a tree by lexbor. A tree builder needs quadratic time for some
documents and eleven times the document's size in memory for all, so what is large or looks
laborious is read by a scanner (see ``scanner``) that needs neither. What an element means is no
matter of this module.
"""

from __future__ import annotations

import functools
import re
import threading
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator
from itertools import chain
from typing import Final, NamedTuple

from selectolax.lexbor import LexborCSSSelector, LexborHTMLParser, LexborNode

from sqspider.web.attributes import REQUIRED, Attributes, has_required
from sqspider.web.scanner import scanned_elements

# With these, the worst document known takes lexbor a second or two, and the longest of real
# ones a few hundredths.
MAX_TREE_BYTES: Final = 3 * 1024 * 1024
MAX_TREE_TAGS: Final = 20_000  # a tag may cost as much as the tree is deep
MAX_SHALLOW_TREE_TAGS: Final = 150_000  # where the tree is not deep
MAX_SPARING_TREE_TAGS: Final = 50_000  # where memory is short: a tree takes 400 bytes a tag, the scanner twice the time
MAX_TREE_DEPTH: Final = 3000
MAX_TREE_TAG_BYTES: Final = 8192  # an attribute costs as much as its element has others


def elements_of(
    document: bytes, tags: Collection[str], *, spares_memory: bool = False
) -> Iterator[tuple[str, Attributes]]:
    """The elements of a UTF-8 document that have one of these tags, and its first title.

    The text of the title stands where an attribute with an empty name would. Those of ``REQUIRED``
    are left out without their attribute (in SVG and MathML ``xlink:href`` does for ``href``), and
    all that is in a ``template``. A ``base`` inside ``noscript`` does not count: browsers run
    scripts. ``spares_memory``: no tree is made of a page of very many tags.
    """
    if _is_ordinary(document, spares_memory=spares_memory):
        return tree_elements(document, tags)
    return scanned_elements(document, tags)


class Page(NamedTuple):
    """The elements of a page. Together they are what :func:`elements_of` finds."""

    targets: Collection[str | None]  # of links, each once, in document order; a page has many links to few places
    elements: Iterator[tuple[str, Attributes]]  # all others; where there are no ``targets``, the links too


_TARGET: Final = {tag: REQUIRED[tag] for tag in ("a", "area", "frame", "iframe")}
# Short ones are quicker: of other elements that have these attributes there are few.
_PAGE: Final = "[href],[src],meta"
_FOLLOWED_PAGE: Final = '[href]:not(:is(a,area)[rel~="nofollow" i]),[src],meta'
PAGE_TAGS: Final = (*_TARGET, "base", "meta")


def page_of(document: bytes, *, obey_nofollow: bool, spares_memory: bool = False) -> Page:
    """The elements of a UTF-8 document that are links, a base or a meta, and its first title.

    Under ``obey_nofollow`` links of ``rel=nofollow`` are not among the ``targets``; among the elements they may be.
    """
    if not _is_ordinary(document, spares_memory=spares_memory):
        return Page((), scanned_elements(document, PAGE_TAGS))
    tree = LexborHTMLParser(document)
    nodes = _found(_FOLLOWED_PAGE if obey_nofollow else _PAGE, tree)
    tags = [node.tag or "" for node in nodes]
    try:
        targets = dict.fromkeys(
            [node.attrs[_TARGET[tag]] for tag, node in zip(tags, nodes, strict=True) if tag in _TARGET]
        )
    except KeyError:  # an href that has a prefix, in SVG: one by one
        return Page((), _elements_in(tree, document, PAGE_TAGS))
    others = [node for tag, node in zip(tags, nodes, strict=True) if tag in ("base", "meta")]
    return Page(targets, chain(_title_in(tree), _elements(others, document)))


class _Selector(threading.local):
    """What finds elements in trees. To make one takes longer than to read a short page, so each thread has its own."""

    def __init__(self) -> None:
        self.find = LexborCSSSelector().find  # type: ignore[no-untyped-call]


_selector_here = _Selector()


def _found(selector: str, tree: LexborHTMLParser) -> list[LexborNode]:
    root = tree.root
    return [] if root is None else _selector_here.find(selector, root)


_LONG_TAG: Final = re.compile(rb"<[A-Za-z][^<>]{%d}" % MAX_TREE_TAG_BYTES)


def _is_ordinary(document: bytes, *, spares_memory: bool) -> bool:
    if len(document) > MAX_TREE_BYTES:
        return False
    tags = document.count(b"<") if len(document) > 3 * MAX_TREE_TAGS else 0  # the shortest one has three bytes
    if tags > (MAX_SPARING_TREE_TAGS if spares_memory else MAX_SHALLOW_TREE_TAGS):
        return False
    if tags > MAX_TREE_TAGS and not _is_shallow(document):
        return False
    return not (_has_bare_block(document) and _LONG_TAG.search(document))


def _has_bare_block(document: bytes) -> bool:
    """Whether a block without ``>`` is there: quick, and there is no long tag without one."""
    block = MAX_TREE_TAG_BYTES // 2  # a long tag covers at least one of them whole
    return any(document.find(b">", at, at + block) < 0 for at in range(0, len(document) - block + 1, block))


_SLICE: Final = 16 * 1024
_TAG_NAMES: Final = re.compile(rb"<(/?[A-Za-z][A-Za-z0-9]*)")


def _is_shallow(document: bytes) -> bool:
    """Whether a tree of the document cannot be deep: at no point are many tags open, and none is
    opened much more often than it is closed (an end tag that fits nothing closes nothing)."""
    depth = 0
    for at in range(0, len(document), _SLICE):
        opened = document.count(b"<", at, at + _SLICE)
        closed = document.count(b"</", at, at + _SLICE)
        if depth + opened > MAX_TREE_DEPTH:
            return False
        depth += opened - 2 * closed
    tags = Counter(_TAG_NAMES.findall(document))
    unclosed = (number - tags[b"/" + name] for name, number in tags.items() if not name.startswith(b"/"))
    return sum(number for number in unclosed if number > 0) <= MAX_TREE_DEPTH


_TITLE: Final = "title:not(svg *, math *)"


def tree_elements(document: bytes, tags: Collection[str]) -> Iterator[tuple[str, Attributes]]:
    """What :func:`elements_of` finds, from a tree of the document."""
    return _elements_in(LexborHTMLParser(document), document, tags)


def _elements_in(tree: LexborHTMLParser, document: bytes, tags: Collection[str]) -> Iterator[tuple[str, Attributes]]:
    return chain(_title_in(tree), _elements(_found(_selector(tuple(tags)), tree), document))


def _title_in(tree: LexborHTMLParser) -> Iterator[tuple[str, Attributes]]:
    title = tree.css_first(_TITLE)
    if title is not None:
        yield "title", {"": title.text()}


def _elements(nodes: Iterable[LexborNode], document: bytes) -> Iterator[tuple[str, Attributes]]:
    has_base = False
    for node in nodes:
        tag, attributes = node.tag or "", node.attributes
        required = REQUIRED.get(tag)
        if tag == "base":
            if not has_base and (base := _base_with_scripts(document)):
                yield tag, base
            has_base = True
        # Selectors know attributes without their prefix: xlink:href, which HTML has not, as href.
        elif required is None or required in attributes or has_required(tag, attributes, is_html=False):
            yield tag, attributes


@functools.cache
def _selector(tags: tuple[str, ...]) -> str:
    """Elements with what they need, by what that is: lexbor is quicker so than with a part for each."""
    by_attribute: defaultdict[str | None, list[str]] = defaultdict(list)
    for tag in tags:
        by_attribute[REQUIRED.get(tag)].append(tag)
    plain = by_attribute.pop(None, [])
    return ",".join([*plain, *(f"[{attribute}]:is({','.join(some)})" for attribute, some in by_attribute.items())])


def _base_with_scripts(document: bytes) -> Attributes | None:
    bases = LexborHTMLParser(document, scripting=True).css("base[href]")
    return next((base.attributes for base in bases if "href" in base.attributes), None)
