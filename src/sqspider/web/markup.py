"""The few elements of an HTML document that a crawler asks for, in document order.

Ordinary documents are parsed into a tree by lexbor. A tree builder needs quadratic time for some
documents and eleven times the document's size in memory for all, so what is large or looks
laborious is read by a scanner that knows tags but no tree, in linear time and constant memory.
What an element means is no matter of this module.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Collection, Iterator
from html.entities import html5 as named_references
from typing import Final

from selectolax.lexbor import LexborHTMLParser

# With these, the worst document known takes lexbor a second or two, and the longest of real
# ones a few hundredths.
MAX_TREE_BYTES: Final = 3 * 1024 * 1024
MAX_TREE_TAGS: Final = 20_000  # a tag may cost as much as the tree is deep
MAX_SHALLOW_TREE_TAGS: Final = 150_000  # where the tree is not deep
MAX_TREE_DEPTH: Final = 3000
MAX_TREE_TAG_BYTES: Final = 8192  # an attribute costs as much as its element has others


Attributes = dict[str, str | None]  # names in lower case; none: without a value


def elements_of(document: bytes, tags: Collection[str]) -> Iterator[tuple[str, Attributes]]:
    """The elements of a UTF-8 document that have one of these tags, and its first title.

    The text of the title stands where an attribute with an empty name would. Of ``a``, ``area`` and
    ``base`` only those with ``href``, of ``img`` and ``source`` only those with ``srcset``. A
    ``base`` inside ``noscript`` does not count: browsers run scripts.
    """
    return _tree_elements(document, tags) if _is_ordinary(document) else _scanned_elements(document, tags)


_LONG_TAG: Final = re.compile(rb"<[A-Za-z][^<>]{%d}" % MAX_TREE_TAG_BYTES)


def _is_ordinary(document: bytes) -> bool:
    if len(document) > MAX_TREE_BYTES:
        return False
    tags = document.count(b"<") if len(document) > 3 * MAX_TREE_TAGS else 0  # the shortest one has three bytes
    if tags > MAX_SHALLOW_TREE_TAGS:
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


_REQUIRED: Final = {"a": "href", "area": "href", "base": "href", "img": "srcset", "source": "srcset"}


def _tree_elements(document: bytes, tags: Collection[str]) -> Iterator[tuple[str, Attributes]]:
    tree = LexborHTMLParser(document)
    title = tree.css_first("title")
    if title is not None:
        yield "title", {"": title.text()}
    for node in tree.css(",".join(f"{tag}[{_REQUIRED[tag]}]" if tag in _REQUIRED else tag for tag in tags)):
        tag = node.tag or ""
        if tag != "base":
            yield tag, node.attributes
        elif (base := _base_with_scripts(document)) is not None:
            yield tag, base


def _base_with_scripts(document: bytes) -> Attributes | None:
    base = LexborHTMLParser(document, scripting=True).css_first("base[href]")
    return None if base is None else base.attributes


_MARKUP: Final = re.compile(rb"<[A-Za-z/!?]")
_NAME: Final = rb"[^\t\n\f\r />]"
_TAG: Final = re.compile(
    rb"<(/?[A-Za-z]" + _NAME + rb"*+)"
    rb"((?:[\t\n\f\r /]++|" + _NAME + rb"[^\t\n\f\r />=]*+"
    rb"(?:[\t\n\f\r ]*+=[\t\n\f\r ]*+"
    rb"(?:\"[^\"]*+\"|'[^']*+'|[^\t\n\f\r >\"'][^\t\n\f\r >]*+|(?=>)))?+)*+)>"
)
_ATTRIBUTE: Final = re.compile(
    rb"(" + _NAME + rb"[^\t\n\f\r />=]*+)"
    rb"(?:[\t\n\f\r ]*+=[\t\n\f\r ]*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\t\n\f\r >\"'][^\t\n\f\r >]*+|\Z)))?+"
)
_RAW_TEXT_END: Final = {
    tag: re.compile(rb"</" + tag + rb"(?=[\t\n\f\r />])", re.IGNORECASE)
    for tag in (b"script", b"style", b"title", b"textarea", b"xmp", b"iframe", b"noembed", b"noframes")
}
_REFERENCE: Final = re.compile(r"&(?:#[0-9]+;?|#[xX][0-9a-fA-F]+;?|([a-zA-Z][a-zA-Z0-9]*(?:;|(?![=a-zA-Z0-9]))))")


def _scanned_elements(document: bytes, tags: Collection[str]) -> Iterator[tuple[str, Attributes]]:
    wanted = {tag.encode() for tag in tags}
    has_title = is_in_noscript = False
    at = 0
    # Whatever begins and does not end takes the rest of the document with it, as it does in a
    # browser. Going on behind its beginning would search for its end again and again.
    while found := _MARKUP.search(document, at):
        at = found.start()
        tag = _TAG.match(document, at)
        if tag is None:
            at = _end_of_other_markup(document, at)
            if at < 0:
                return
            continue
        at = tag.end()
        name = tag[1].lower()
        if name in wanted and not (name == b"base" and is_in_noscript):
            attributes = _attributes(tag[2])
            if name.decode() not in _REQUIRED or _REQUIRED[name.decode()] in attributes:
                yield name.decode(), attributes
        if name in _RAW_TEXT_END:
            end = _RAW_TEXT_END[name].search(document, at)
            if end is None:
                return
            if name == b"title" and not has_title:
                has_title = True
                text = document[at : end.start()].decode("utf-8", "replace")
                yield "title", {"": html.unescape(text)}
            at = end.start()
        elif name.endswith(b"noscript"):
            is_in_noscript = name == b"noscript"
        elif name == b"plaintext":
            return


def _end_of_other_markup(document: bytes, at: int) -> int:
    """The end of a comment or the like; -1 if it, or the tag that begins here, has none."""
    if document.startswith(b"<!--", at):
        end = document.find(b"-->", at + 2)
        return end + 3 if end >= 0 else -1
    if document[at + 1 : at + 2].isalpha() or (document[at + 2 : at + 3].isalpha() and document[at + 1] == 0x2F):
        return -1
    return document.find(b">", at) + 1 or -1


def _attributes(text: bytes) -> Attributes:
    attributes: Attributes = {}
    for found in _ATTRIBUTE.finditer(text):
        name, quoted, single_quoted, bare = found.groups()
        values = [value for value in (quoted, single_quoted, bare) if value is not None]
        value = _unescaped(values[0].decode("utf-8", "replace")) if values else None
        attributes.setdefault(name.lower().decode("utf-8", "replace"), value)
    return attributes


def _unescaped(value: str) -> str:
    return _REFERENCE.sub(_character, value) if "&" in value else value


def _character(reference: re.Match[str]) -> str:
    # In an attribute a named reference counts only if it is whole: "?a=1&copy=2" stays.
    name = reference[1]
    return html.unescape(reference[0]) if name is None else named_references.get(name, reference[0])
