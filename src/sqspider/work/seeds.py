"""URLs as people write them: arguments, and files with one a line, in whatever encoding they come.

What is read here is stricter than a browser's address bar: a line that holds more than a URL is
refused in words, not made into another URL.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from io import IncrementalNewlineDecoder
from itertools import chain
from typing import BinaryIO, Final

from sqspider.record import Reason
from sqspider.url import Refused, canonicalize

NO_SCHEME: Final = "no scheme: "  # begins the advice for what ``assume_http`` takes
MAX_LINE_CHARACTERS: Final = 64 * 1024
_CHUNK_BYTES: Final = 64 * 1024
_BYTE_ORDER_MARK: Final = "\ufeff"
_ENCODINGS: Final = (  # the longer marks first: that of UTF-16 begins one of UTF-32
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
_LONGEST_MARK: Final = 4  # bytes
_ENDS_A_URL: Final = re.compile(r"[\x00-\x20\x7f]")
_NAMES: Final = {"\t": "a tab", "\n": "a line end", "\r": "a line end"}
_RAW_BYTE: Final = re.compile(r"[\udc80-\udcff]")
_BARE_HOST: Final = re.compile(r"(?://)?(?:[\w\-]+(?:\.[\w\-]+)+\.?|localhost)(?::\d+)?(?=[/?#]|$)")  # and port


def read_url(text: str, *, assume_http: bool = False, drop_tracking: bool = False) -> str | Refused:
    """The canonical form of a URL that somebody wrote, or why it is refused.

    What stands around it is dropped: white space, a byte order mark. A byte that is no text (Python
    reads it as a lone surrogate, PEP 383) is percent-encoded as it is. ``assume_http`` takes
    ``example.com/x`` for ``http://example.com/x``.
    """
    text = bare(text)
    if found := _ENDS_A_URL.search(text):
        return Refused(Reason.BAD_URL, text, _after_the_end(found[0]))
    text = _RAW_BYTE.sub(lambda byte: f"%{ord(byte[0]) - 0xDC00:02X}", text)
    if _BARE_HOST.match(text):
        with_scheme = f"http:{text}" if text.startswith("//") else f"http://{text}"
        if not assume_http:
            return Refused(Reason.BAD_URL, text, f"{NO_SCHEME}did you mean {with_scheme}?")
        text = with_scheme
    return canonicalize(text, drop_tracking=drop_tracking)


def _after_the_end(character: str) -> str:
    name = _NAMES.get(character, "a control character")
    if character == " ":
        return "a blank ends a URL, and more follows: give each by itself; a blank that belongs to it is %20"
    if character == "\0":
        return "a NUL is in it: is this UTF-16 without a byte order mark?"
    return f"{name} ends a URL, and more follows: give each by itself"


def bare(text: str) -> str:
    """A line without the white space around it, and the mark that begins a file (files may be joined)."""
    return text.strip().removeprefix(_BYTE_ORDER_MARK).strip()


def is_passed_over(line: str) -> bool:
    """Whether a line of a list says nothing: it is empty, or a comment."""
    return bare(line)[:1] in ("", "#")


def read_lines(file: BinaryIO, *, most: int = MAX_LINE_CHARACTERS, keeps_blanks: bool = False) -> Iterator[str]:
    """The lines of a file, in constant memory: what is far too long for a URL is cut off.

    Lines end with CR, LF or CRLF. A byte order mark says which UTF it is, else it is UTF-8; bytes
    that are none come as lone surrogates (PEP 383), which :func:`read_url` understands. One that is
    cut off is longer than ``most``. Blanks that begin one may be dropped, unless ``keeps_blanks``.
    """
    rest = ""
    is_cut = False  # the line under way was given already, and its end has not come
    for piece in _decoded(file):
        *lines, rest = (rest + piece).split("\n")
        for line in lines:
            if not is_cut:
                yield line
            is_cut = False
        rest = rest if keeps_blanks else rest.lstrip()
        if len(rest) > most:
            if not is_cut:
                yield rest
            is_cut, rest = True, ""
    if rest and not is_cut:
        yield rest


def _decoded(file: BinaryIO) -> Iterator[str]:
    """A file's text, piece by piece, with line feeds for line ends of every kind."""
    head = b""
    while len(head) < _LONGEST_MARK and (more := file.read(_CHUNK_BYTES)):
        head += more
    encoding = next((name for mark, name in _ENCODINGS if head.startswith(mark)), "utf-8")
    errors = "surrogateescape" if encoding.startswith("utf-8") else "replace"
    decoder = IncrementalNewlineDecoder(codecs.getincrementaldecoder(encoding)(errors), translate=True)
    for data in chain((head,), iter(lambda: file.read(_CHUNK_BYTES), b"")):
        yield decoder.decode(data)
    yield decoder.decode(b"", final=True)
