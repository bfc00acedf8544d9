"""Content types and character encodings: which one a document is in, and decoding it.

Follows the WHATWG MIME Sniffing, Fetch, Encoding and HTML standards, because pages are written
for browsers. What is done with the text is no matter of this module.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import webencodings

from sqspider.web.scanner import elements_of

PRESCAN_BYTES: Final = 1024  # how far a declaration inside a document is looked for
DEFAULT_ENCODING: Final = "windows-1252"  # what browsers take where nothing is declared

XML_TYPES: Final = ("text/xml", "application/xml")  # and all that end in +xml

_HTTP_SPACE: Final = " \t\r\n"
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_QUOTED_STRING_TEXT: Final = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_BOMS: Final = ((b"\xef\xbb\xbf", "utf-8"), (b"\xfe\xff", "utf-16be"), (b"\xff\xfe", "utf-16le"))
_SPACE: Final = b"\t\n\f\r "


class MimeType(NamedTuple):
    """A media type, as far as a crawler asks."""

    essence: str  # "text/html", lower case
    charset: str | None  # the parameter as it was written: a label that may be unknown


def parse_mime_type(text: str) -> MimeType | None:
    """One media type, or ``None`` if it is none (MIME Sniffing standard, section 4.4)."""
    text = text.strip(_HTTP_SPACE)
    kind, _, rest = text.partition("/")
    subtype, semicolon, rest = rest.partition(";")
    subtype = subtype.rstrip(_HTTP_SPACE)
    if not _TOKEN.fullmatch(kind) or not _TOKEN.fullmatch(subtype):
        return None
    return MimeType(f"{kind}/{subtype}".lower(), _charset_in(rest) if semicolon else None)


def _charset_in(parameters: str) -> str | None:
    """The first well-formed ``charset`` among parameters; a quoted value may hold semicolons."""
    at, end = 0, len(parameters)
    while at < end:
        name_end = at
        while name_end < end and parameters[name_end] not in ";=":
            name_end += 1
        name = parameters[at:name_end].lstrip(_HTTP_SPACE).lower()
        at = name_end + 1
        if name_end >= end or parameters[name_end] == ";":
            continue
        if parameters.startswith('"', at):
            value, at = _quoted_string(parameters, at)
            at = parameters.find(";", at)
            is_sound = True
        else:
            value_end = parameters.find(";", at)
            value = parameters[at : value_end if value_end >= 0 else end].rstrip(_HTTP_SPACE)
            at = value_end
            is_sound = value != ""
        if name == "charset" and is_sound and _QUOTED_STRING_TEXT.fullmatch(value):
            return value
        if at < 0:
            break
        at += 1
    return None


def _quoted_string(text: str, at: int) -> tuple[str, int]:
    """The value of the quoted string that begins at ``at``, and where it ends."""
    value: list[str] = []
    at += 1
    while at < len(text):
        if text[at] == '"':
            return "".join(value), at + 1
        if text[at] == "\\" and at + 1 < len(text):
            at += 1
        value.append(text[at])
        at += 1
    return "".join(value), at


def mime_type_of(content_types: Sequence[str]) -> MimeType | None:
    """What all ``Content-Type`` headers of an answer say together (Fetch standard, "extract a MIME
    type"): the last valid one counts, and keeps an earlier charset if it is of the same type."""
    found: MimeType | None = None
    text = ", ".join(content_types)
    for part in _split_outside_quotes(text) if "," in text else (text,):
        mime_type = parse_mime_type(part)
        if mime_type is None or mime_type.essence == "*/*":
            continue
        if found and found.essence == mime_type.essence and mime_type.charset is None:
            continue
        found = mime_type
    return found


def _split_outside_quotes(text: str) -> list[str]:
    parts, at, start = [], 0, 0
    while at < len(text):
        if text[at] == '"':
            _, at = _quoted_string(text, at)
        elif text[at] == ",":
            parts.append(text[start:at])
            at = start = at + 1
        else:
            at += 1
    return [*parts, text[start:]]


def encoding_for(label: str) -> str | None:
    """The encoding that a label names, lower case as in the Encoding standard; ``None``: unknown."""
    try:
        encoding = webencodings.lookup(label)
    except UnicodeEncodeError:  # a lone surrogate
        return None
    return encoding.name if encoding else None


def encoding_of(document: bytes, charset: str | None = None) -> str:
    """The encoding of a document, by its byte order mark, the charset of its content type, its own
    declaration, or else its bytes (HTML standard, section 13.2.3.2).

    Where nothing is declared, text that is valid UTF-8 and not plain ASCII is UTF-8: other
    encodings practically never look like it, and most pages that forget the declaration are in it.
    Browsers differ here; the standard allows it.
    """
    for bom, encoding in _BOMS:
        if document.startswith(bom):
            return encoding
    if charset is not None and (declared := encoding_for(charset)):
        return declared
    head = document[:PRESCAN_BYTES]
    return _declared_in(head) or _declared_late(document) or ("utf-8" if _is_utf_8(document) else DEFAULT_ENCODING)


def _declared_late(document: bytes) -> str | None:
    """What the first ``meta`` element with a known encoding says, wherever it is (HTML standard,
    section 13.2.3.5, "changing the encoding while parsing"): beyond the prescan's reach, or where
    that took it for something else, for it knows less of comments and tags.

    One in a comment or a script is no element, so the document is parsed: only if it may have one.
    """
    lower = document.lower()
    if b"charset" not in lower or b"<meta" not in lower:
        return None
    for _, attributes in elements_of(document, ("meta",)):
        # Other than in the prescan, a charset that is unknown leaves the word to the content.
        if encoding := _declared_by(attributes) or _declared_by({**attributes, "charset": None}):
            return encoding
    return None


def xml_encoding_of(head: bytes, charset: str | None = None) -> str:
    """The encoding of a document that is meant to be XML, by its first bytes (XML 1.0, appendix F) and
    the charset of its content type, which counts for more than its declaration (RFC 7303, section 3).

    Its declaration is heeded wherever it is, as something may have been put before it. One that
    cannot be true, because it could be read, or that names nothing we know, means UTF-8.
    """
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return encoding
    if zeros := _UTF_16.match(head):  # of ASCII, be it a tag, a blank before it, or in a list of URLs the "h" of one
        return "utf-16le" if zeros[1] else "utf-16be"
    if charset is not None and (told := encoding_for(charset)):
        return told
    found = _XML_ENCODING.search(head)
    declared = _as_declared_inside(encoding_for(found[2].decode("latin-1"))) if found else None
    return "utf-8" if declared is None or declared == "replacement" else declared


def encoding_of_answer(body: bytes, headers: Sequence[tuple[str, str]]) -> str:
    """The encoding of what a server answered: as XML's where its content type says that it is some."""
    mime_type = mime_type_of([value for name, value in headers if name.lower() == "content-type"])
    essence, charset = mime_type or ("", None)
    if essence in XML_TYPES or essence.endswith("+xml"):
        return xml_encoding_of(body[:PRESCAN_BYTES], charset)
    return encoding_of(body, charset)


def text_of_answer(body: bytes, headers: Sequence[tuple[str, str]]) -> str:
    """What a server answered, as text. Never fails: what does not decode becomes U+FFFD."""
    return decode(body, encoding_of_answer(body, headers))


def _is_utf_8(document: bytes) -> bool:
    if document.isascii():
        return False
    try:
        # Incremental, so that a document which was cut inside a character still counts.
        codecs.getincrementaldecoder("utf-8")().decode(document)
    except UnicodeDecodeError:
        return False
    return True


def _declared_in(head: bytes) -> str | None:
    if head.startswith(b"<\0?\0x\0"):
        return "utf-16le"
    if head.startswith(b"\0<\0?\0x"):
        return "utf-16be"
    try:
        label = _prescan(head)
    except IndexError:  # the bytes ended inside of something
        label = None
    return label or _xml_encoding(head)


_META: Final = re.compile(rb"<meta[\t\n\f\r /]", re.IGNORECASE)
_ATTRIBUTE_NAME: Final = re.compile(rb"[^\t\n\f\r />][^\t\n\f\r />=]*")
_TAG: Final = re.compile(rb"</?[A-Za-z][^\t\n\f\r >]*")
_UTF_16: Final = re.compile(rb"([\x01-\x7f]\0)|\0[\x01-\x7f]")
_XML_ENCODING: Final = re.compile(rb"<\?xml[^<>]*?encoding[\x00-\x20]*=[\x00-\x20]*([\"'])([^>\x00-\x20]*?)\1")


def _prescan(head: bytes) -> str | None:
    """HTML standard, "prescan a byte stream to determine its encoding"."""
    if not _META.search(head):  # nothing else can say so
        return None
    at = 0
    while (at := head.find(b"<", at)) >= 0:
        if head.startswith(b"<!--", at):
            at = head.index(b"-->", at + 2) + 2 if b"-->" in head[at + 2 :] else len(head)
        elif _META.match(head, at):
            encoding, at = _meta_encoding(head, at + 5)
            if encoding:
                return encoding
        elif tag := _TAG.match(head, at):
            at = tag.end()
            while (attribute := _attribute(head, at)) is not None:
                at = attribute[2]
            at = head.find(b">", at) if b">" in head[at:] else len(head)
        elif head[at + 1 : at + 2] in (b"!", b"/", b"?"):
            at = head.find(b">", at) if b">" in head[at:] else len(head)
        at += 1
    return None


def _meta_encoding(head: bytes, at: int) -> tuple[str | None, int]:
    attributes: dict[str, str | None] = {}
    while (attribute := _attribute(head, at)) is not None:
        name, value, at = attribute
        attributes.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    return _declared_by(attributes), at


def _declared_by(meta: Mapping[str, str | None]) -> str | None:
    """The encoding that the attributes of a ``meta`` element declare."""
    label = meta.get("charset")
    if label is None and (meta.get("http-equiv") or "").lower() == "content-type":
        label = _charset_in_content(meta.get("content") or "")
    return _as_declared_inside(encoding_for(label)) if label is not None else None


def _as_declared_inside(encoding: str | None) -> str | None:
    # Its declaration could be read, so it is no UTF-16; x-user-defined is a name of the past.
    if encoding in ("utf-16le", "utf-16be"):
        return "utf-8"
    return "windows-1252" if encoding == "x-user-defined" else encoding


def _attribute(head: bytes, at: int) -> tuple[bytes, bytes, int] | None:
    """The attribute at ``at``: name, value, where it ends; ``None`` at the end of the tag.

    IndexError: the bytes end before it does.
    """
    while head[at] in b"\t\n\f\r /":
        at += 1
    if head[at] == 0x3E:
        return None
    found = _ATTRIBUTE_NAME.match(head, at)
    assert found is not None  # one character matches at least
    at = found.end()
    name = found[0].lower()
    if at == len(head):
        raise IndexError
    while head[at] in _SPACE:
        at += 1
    if head[at] != 0x3D:
        return name, b"", at
    at += 1
    while head[at] in _SPACE:
        at += 1
    if head[at] in b"\"'":
        end = head.find(head[at : at + 1], at + 1)
        if end < 0:
            raise IndexError
        return name, head[at + 1 : end], end + 1
    start = at
    while head[at] not in b"\t\n\f\r >":
        at += 1
    return name, head[start:at], at


_CHARSET_IN_CONTENT: Final = re.compile(
    r"charset[\t\n\f\r ]*=[\t\n\f\r ]*(?:\"([^\"]*)\"|'([^']*)'|([^\"'\t\n\f\r ;][^\t\n\f\r ;]*)|[\"';]|\Z)",
    re.IGNORECASE,
)


def _charset_in_content(content: str) -> str | None:
    """HTML standard, "extracting a character encoding from a meta element"."""
    found = _CHARSET_IN_CONTENT.search(content)
    return next((group for group in found.groups() if group is not None), None) if found else None


def _xml_encoding(head: bytes) -> str | None:
    found = _XML_ENCODING.match(head)
    return _as_declared_inside(encoding_for(found[2].decode("latin-1"))) if found else None


def decode(document: bytes, encoding: str) -> str:
    """The text of a document in an encoding of :func:`encoding_of`, without its byte order mark.

    Never fails: what does not decode becomes U+FFFD.
    """
    if encoding == "replacement":  # encodings that were used for attacks; no text is to be had
        return "\ufffd" if document else ""
    for bom, bom_encoding in _BOMS:
        if encoding == bom_encoding and document.startswith(bom):
            document = document[len(bom) :]
    if encoding in ("utf-8", "utf-16le", "utf-16be"):
        return document.decode(encoding, "replace")
    from sqspider.web.legacy import decode_legacy  # here: its tables are of few pages

    return decode_legacy(document, encoding)


def url_decoder(encoding: str) -> codecs.IncrementalDecoder:
    """A decoder for a list of URLs: bytes that are no text in this encoding stay in their URL, percent-encoded."""
    errors = "replace" if encoding.startswith("utf-16") else "sqspider.octets"
    encoding = "gb18030" if encoding == "gbk" else encoding  # the standard decodes both alike
    decoder: codecs.IncrementalDecoder = webencodings.lookup(encoding).codec_info.incrementaldecoder(errors)
    return decoder


def _percent_encode(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(f"%{octet:02X}" for octet in error.object[error.start : error.end]), error.end


def encode_query(text: str, encoding: str) -> str:
    """A query as a page in ``encoding`` sends it: percent-encoded where it is not ASCII.

    URL standard, "percent-encode after encoding": a character that the encoding lacks becomes a
    percent-encoded character reference.
    """
    if encoding in ("utf-8", "utf-16le", "utf-16be", "replacement"):
        return text
    from sqspider.web.legacy import encode_legacy

    return "".join(
        f"%26%23{octets}%3B" if isinstance(octets, int) else _percent_encoded(octets)
        for octets in encode_legacy(text, encoding)
    )


def _percent_encoded(octets: bytes) -> str:
    return "".join(chr(octet) if 0x20 <= octet < 0x7F else f"%{octet:02X}" for octet in octets)


codecs.register_error("sqspider.octets", _percent_encode)
