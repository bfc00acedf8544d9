"""What a tag says: its attributes, with the characters that references in them stand for.

Of an element that a crawler asks for, also which attribute it must have to say anything.
"""

from __future__ import annotations

import re
from html.entities import html5 as named_references
from typing import Final

Attributes = dict[str, str | None]  # names in lower case; none: without a value

REQUIRED: Final = {
    "a": "href", "area": "href", "base": "href", "frame": "src", "iframe": "src", "img": "srcset", "source": "srcset",
}  # fmt: skip
"""The attribute without which an element says nothing to us."""

TAG_NAME: Final = rb"[^\t\n\f\r />]"  # a character of it
_ATTRIBUTE: Final = re.compile(
    rb"(" + TAG_NAME + rb"[^\t\n\f\r />=]*+)"
    rb"(?>[\t\n\f\r ]*+=[\t\n\f\r ]*+(?:\"([^\"]*+)\"|'([^']*+)'|([^\t\n\f\r >\"'][^\t\n\f\r >]*+|\Z))|)"
)
_REFERENCE: Final = re.compile(r"&(?:#([xX][0-9a-fA-F]+|[0-9]+);?|([a-zA-Z][a-zA-Z0-9]*;?))")
_LONGEST_NAME: Final = max(map(len, named_references))


def has_required(tag: str, attributes: Attributes, *, is_html: bool) -> bool:
    """Whether an element has what it needs. SVG 2, section 16.1.6: where the ``href`` of an ``a`` is
    missing its ``xlink:href`` does, and is put in its place."""
    required = REQUIRED.get(tag)
    if tag == "a" and not is_html and "href" not in attributes and "xlink:href" in attributes:
        attributes["href"] = attributes["xlink:href"]
    return required is None or required in attributes


def attributes_of(written: bytes) -> Attributes:
    attributes: Attributes = {}
    for found in _ATTRIBUTE.finditer(written):
        value = None
        if (group := found.lastindex) and group > 1:
            value = decoded(found[group])
            if "&" in value:
                value = _REFERENCE.sub(_in_attribute, value)
        attributes.setdefault(decoded(found[1].lower()), value)
    return attributes


def is_self_closing(written: bytes) -> bool:
    """Whether a tag ends with a slash that is no part of a value."""
    if not written.endswith(b"/"):
        return False
    return all(found.end() < len(written) for found in _ATTRIBUTE.finditer(written))


def decoded(octets: bytes) -> str:
    text = octets.decode("utf-8", "replace")
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def text_of(written: bytes) -> str:
    """Text as it is read: what references in it stand for, in their place."""
    return _REFERENCE.sub(_in_text, decoded(written))


def _in_attribute(reference: re.Match[str]) -> str:
    """What a reference stands for. In an attribute a name without a semicolon counts only if nothing
    goes on behind it: "?a=1&copy=2" stays (section 13.2.5.73)."""
    name: str | None = reference[2]
    if name is None:
        return _character(reference[1])
    if not name.endswith(";") and reference.string.startswith("=", reference.end()):
        return reference[0]
    return named_references.get(name, reference[0])


def _in_text(reference: re.Match[str]) -> str:
    """The same in text, where the longest name counts that there is."""
    name: str | None = reference[2]
    if name is None:
        return _character(reference[1])
    for length in range(min(len(name), _LONGEST_NAME), 1, -1):
        if name[:length] in named_references:
            return named_references[name[:length]] + name[length:]
    return reference[0]


def _character(number: str) -> str:
    """The character of a numeric reference (section 13.2.5.80)."""
    digits, base = (number[1:], 16) if number[0] in "xX" else (number, 10)
    digits = digits.lstrip("0")
    code = int(digits, base) if 0 < len(digits) <= 7 else 0
    if 0x80 <= code <= 0x9F:
        return bytes([code]).decode("cp1252", "ignore") or chr(code)
    is_character = digits and len(digits) <= 7 and code <= 0x10FFFF and not 0xD800 <= code <= 0xDFFF
    return chr(code) if is_character else "\ufffd"
