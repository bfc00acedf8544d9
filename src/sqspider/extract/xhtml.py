"""XHTML as HTML says it: ``<script/>`` is empty there, and everything behind it would be its text here."""

from __future__ import annotations

import re
from html.entities import name2codepoint
from typing import Final

_ENTITY: Final = re.compile(r"&([A-Za-z][A-Za-z0-9]*);")
_XML_ENTITIES: Final = frozenset(("amp", "lt", "gt", "quot", "apos"))
_ENDS_OF_EMPTY_ELEMENTS: Final = "</br>"  # the one that means an element of its own


def as_html(markup: str) -> str:
    """The same page in HTML; what is not well-formed stays as it is, and is read as HTML."""
    import turbohtml

    try:
        tree = turbohtml.parse_xml(_ENTITY.sub(_character, markup))
    except turbohtml.HTMLParseError:
        return markup
    return tree.serialize().replace(_ENDS_OF_EMPTY_ELEMENTS, "")


def _character(entity: re.Match[str]) -> str:
    """What the document type of XHTML declares; it is never fetched."""
    name = entity[1]
    code = None if name in _XML_ENTITIES else name2codepoint.get(name)
    return entity[0] if code is None else f"&#{code};"
