"""Which character set a page is written in, and its text.

The order of the WHATWG standards: byte order mark, Content-Type, the first 1,024 bytes, a default.
Labels are ``webencodings``' (the Encoding standard's 228), never Python's codec names.
"""

from __future__ import annotations

import re
from typing import Final

import webencodings

PRESCANNED_BYTES: Final = 1024  # HTML standard, 13.2.3.2
UTF_8: Final = "utf-8"
_DEFAULT: Final = "windows-1252"
_BOMS: Final = ((b"\xef\xbb\xbf", UTF_8), (b"\xfe\xff", "utf-16be"), (b"\xff\xfe", "utf-16le"))
_CHARSET_PARAMETER: Final = re.compile(r""";\s*charset\s*=\s*(?:"([^"]*)"?|'([^']*)'?|([^\s;"']+))""", re.I)
_CHARSET_IN_CONTENT: Final = re.compile(
    rb"""charset[\t\n\f\r ]*=[\t\n\f\r ]*(?:"([^"]*)"|'([^']*)'|([^"'\t\n\f\r ;][^\t\n\f\r ;]*))""", re.I
)
# The prescan's way of reading an attribute (13.2.3.2, "get an attribute"): all of it must be there.
_ATTRIBUTE: Final = re.compile(
    rb"""[\t\n\f\r /]*([^\t\n\f\r />][^\t\n\f\r />=]*)
    (?:[\t\n\f\r ]*=[\t\n\f\r ]*(?:"([^"]*)"|'([^']*)'|((?!["'])[^\t\n\f\r >]*)(?=[\t\n\f\r >])))?""",
    re.X,
)
_ITEM: Final = re.compile(rb"<(?:(!--)|(meta)(?=[\t\n\f\r /])|(/?[A-Za-z])|([!/?]))", re.I)

_TAG_NAME_END: Final = re.compile(rb"[\t\n\f\r >]")
_BETWEEN_ATTRIBUTES: Final = (b"\t", b"\n", b"\f", b"\r", b" ", b"/")


def charset_of(body: bytes, content_type: str | None) -> str:
    """The WHATWG name, in lower case, of the encoding that a page is to be read with.

    Nothing declared: UTF-8 if the page has more than ASCII and is valid UTF-8, as nearly all such
    pages are today; else windows-1252, the standard's default for the Western web.
    """
    for mark, name in _BOMS:
        if body.startswith(mark):
            return name
    declared = declared_in(content_type) or prescan(body)
    if declared is not None:
        return declared
    if body.isascii():
        return _DEFAULT
    try:
        body.decode(UTF_8)
    except UnicodeDecodeError:
        return _DEFAULT
    return UTF_8


def declared_in(content_type: str | None) -> str | None:
    """The encoding that a Content-Type names; ``None`` if it names none that is known."""
    match = _CHARSET_PARAMETER.search(content_type) if content_type else None
    return _known(match[1] or match[2] or match[3] or "") if match else None


def _known(label: str) -> str | None:
    encoding = webencodings.lookup(label)
    return encoding.name if encoding else None


def prescan(body: bytes) -> str | None:
    """The encoding that a page's own ``meta`` declares, by the HTML standard's prescan (13.2.3.2)."""
    head = body[:PRESCANNED_BYTES]
    position = 0
    while item := _ITEM.search(head, position):
        position = item.end()
        if item[1]:  # a comment; "<!-->" is a whole one
            end = head.find(b"-->", item.start() + 2)
            if end < 0:
                return None
            position = end + 3
        elif item[2]:
            attributes, position = _attributes(head, position)
            declared = _from_meta(attributes)
            if declared is not None:
                return declared
        elif item[3]:
            name_end = _TAG_NAME_END.search(head, position)
            if name_end is None:
                return None
            _, position = _attributes(head, name_end.start())
        else:
            end_of_markup = head.find(b">", position)
            if end_of_markup < 0:
                return None
            position = end_of_markup + 1
    return None


def _attributes(head: bytes, position: int) -> tuple[dict[bytes, bytes] | None, int]:
    """A tag's attributes and where it ends; ``None`` for a tag that is not whole."""
    attributes: dict[bytes, bytes] = {}
    while True:
        while head[position : position + 1] in _BETWEEN_ATTRIBUTES:
            position += 1
        if position >= len(head):
            return None, position
        if head[position : position + 1] == b">":
            return attributes, position + 1
        match = _ATTRIBUTE.match(head, position)
        if match is None or match.end() >= len(head):
            return None, len(head)
        value = next((group for group in match.groups()[1:] if group is not None), b"")
        attributes.setdefault(match[1].lower(), value)
        position = match.end()
        if head[position : position + 1] == b"=":  # a value that does not end
            return None, len(head)


def _from_meta(attributes: dict[bytes, bytes] | None) -> str | None:
    if attributes is None:
        return None
    label: bytes | None = attributes.get(b"charset")
    if label is None and attributes.get(b"http-equiv", b"").lower() == b"content-type":
        match = _CHARSET_IN_CONTENT.search(attributes.get(b"content", b""))
        label = next((group for group in match.groups() if group is not None), None) if match else None
    name = _known(label.decode("latin-1")) if label is not None else None
    if name in ("utf-16le", "utf-16be"):
        return UTF_8  # what could be read as ASCII so far cannot be UTF-16
    return _DEFAULT if name == "x-user-defined" else name


def codec_of(charset: str) -> str:
    """Python's codec for a WHATWG name."""
    encoding = webencodings.lookup(charset)
    codec = encoding.codec_info.name if encoding else UTF_8
    # GBK pages are read with its superset, as the Encoding standard has it (10.1).
    return "gb18030" if codec == "gbk" else codec


def decode(body: bytes, charset: str) -> str:
    """A body's text; what is not valid becomes U+FFFD. Never raises.

    ``charset`` is a name that :func:`charset_of` gave.
    """
    return body.decode(codec_of(charset), "replace").removeprefix("\ufeff")
