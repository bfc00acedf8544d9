"""The elements of a document by a tree of it, from lexbor: what the scanner is held against."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator

from selectolax.lexbor import LexborHTMLParser

from sqspider.web.attributes import REQUIRED, Attributes, has_required


def tree_elements(document: bytes, tags: Collection[str]) -> Iterator[tuple[str, Attributes]]:
    """What :func:`sqspider.web.scanner.elements_of` finds, the title first."""
    tree = LexborHTMLParser(document)
    title = tree.css_first("title:not(svg *, math *)")
    if title is not None:
        yield "title", {"": title.text()}
    has_base = False
    for node in tree.css(_selector(tags)):
        tag, attributes = node.tag or "", node.attributes
        required = REQUIRED.get(tag)
        if tag == "base":
            if not has_base and (base := _base_with_scripts(document)):
                yield tag, base
            has_base = True
        # Selectors know attributes without their prefix: xlink:href, which HTML has not, as href.
        elif required is None or required in attributes or has_required(tag, attributes, is_html=False):
            yield tag, attributes


def _selector(tags: Collection[str]) -> str:
    by_attribute: defaultdict[str | None, list[str]] = defaultdict(list)
    for tag in tags:
        by_attribute[REQUIRED.get(tag)].append(tag)
    plain = by_attribute.pop(None, [])
    return ",".join([*plain, *(f"[{attribute}]:is({','.join(some)})" for attribute, some in by_attribute.items())])


def _base_with_scripts(document: bytes) -> Attributes | None:
    bases = LexborHTMLParser(document, scripting=True).css("base[href]")
    return next((base.attributes for base in bases if "href" in base.attributes), None)
