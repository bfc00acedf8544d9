"""The encodings from before Unicode, as the Encoding standard has them (https://encoding.spec.whatwg.org/).

Python's codecs of these names follow other tables. Where only a few characters differ they do the
work, being quick; Big5 is read by a table made from them, and what EUC-JP and ISO-2022-JP lack.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Final
from unicodedata import normalize

import webencodings

Table = dict[bytes, str]

_CODECS: Final = {"euc-jp": "euc_jp", "euc-kr": "cp949", "gb18030": "gb18030", "gbk": "gb18030", "shift_jis": "cp932"}
_SINGLE_BYTES: Final = {"koi8-u": {0xAE: "\u045e", 0xBE: "\u040e"}, "windows-1255": {0xCA: "\u05ba"}}
_UNDEFINED: Final = "\ufffe"  # in a table for codecs.charmap_decode

# GB 18030-2022, as far as the standard takes it over, and 0xA3A0.
_GB_18030: Final = {
    "a3a0": "\u3000", "a8bc": "\u1e3f", "8135f437": "\ue7c7",
    "a6d9": "\ufe10", "a6da": "\ufe12", "a6db": "\ufe11", "a6dc": "\ufe13", "a6dd": "\ufe14",
    "a6de": "\ufe15", "a6df": "\ufe16", "a6ec": "\ufe17", "a6ed": "\ufe18", "a6f3": "\ufe19",
    "fe59": "\u9fb4", "fe61": "\u9fb5", "fe66": "\u9fb6", "fe67": "\u9fb7", "fe6d": "\u9fb8",
    "fe7e": "\u9fb9", "fe90": "\u9fba", "fea0": "\u9fbb",
}  # fmt: skip

# What big5hkscs lacks or has otherwise: a sequence in hexadecimal, and the characters from there on.
_BIG5: Final = """
877a㡵𡵓𣚞𦀡㻬𥣞㫵竼龗𤅡𨤍𣇪𠪊𣉞䌊蒄龖鐯䤰蘓墖靊鈘秐稲晠権袝瑌篅枂稬剏遆㓦珄𥶹瓆鿇垳䤯呌䄱𣚎堘穲𧭥讏䚮𦺈䆁𥶙箮𢒼鿈𢓁𢓉𢓌鿉蔄𣖻䂴鿊䓡𪷿拁灮鿋
8e69箸 8e6f簆 8e7e糎 8eab緒 8eb4縝 8ecd者 8ed0耨 8f57菁 8f69蒨 8f6e萏 8fcb覦覩 8ffe起 906d都 907a銹 90dc靜 90f1響 91bf鼖
9244蔃 92af兙兛兝兞 92c8鍮 92d1瑹 9447浧 94ca禛 95d9邗 9644靝 96ed瀞 96fc嬨 9b76爁 9b78矗 9b7b纇 9bc6駖 9bde釔 9bec惞
9bf6澶 9c42輶 9c53侻 9c62營 9c68鄄 9c6b鷰 9c77菏 9cbc尐秣 9cd0婧 9d57輋 9d5a筑 9dc4拐 9ea9恢 9eef痹 9efd汊 9f60鬮 9f66鼗
9fcb僭 9fd8弌 a063蠏 a077拎 a0d5瑨 a0df煢 a0e4牐 a145‧ a14e﹑ a1c2¯ a1e3～ a1f2⊕⊙ a241∕﹨ a244￥ a246￠￡
a3c0␀␁␂␃␄␅␆␇␈␉␊␋␌␍␎␏␐␑␒␓␔␕␖␗␘␙␚␛␜␝␞␟␡€ c6cf廴 c6d3无 c6d5癶 c6d7隶 c6de〃仝 fa5f倩 fa66偽 fabd包 fac5卄 fad5卿 fb48嘅
fbb8婷 fbf3幵 fbf9廐 fc4f彘 fc6c悤 fcb9撐 fce2晴 fcf1杞 fdb7沜渝 fdbb港 fdf1煮 fe52猪 fe6f瑜 feaa瓩 fedd砉
"""
_BIG5_SECOND: Final = "═╞╡╪十卅"  # have two sequences, of which the second is written
_BIG5_WRITTEN: Final = b"\xa1"  # the first lead byte that is written: what is before is Hong Kong's

_BIG5_SEQUENCE: Final = re.compile(rb"[\x00-\x7f]+|[\x81-\xfe][\x40-\x7e\x80-\xff]|[\x80-\xff]")


def decode_legacy(document: bytes, encoding: str) -> str:
    """The text of a document. What is no text becomes U+FFFD; ASCII beside it stays."""
    if encoding == "iso-2022-jp":
        return "".join(_decode_iso_2022_jp(document))
    if encoding == "big5":
        table = _pairs(encoding)
        return "".join(table.get(found) or _other(found) for found in _BIG5_SEQUENCE.findall(document))
    if encoding in _CODECS:
        if encoding == "euc-jp":
            document = document.replace(b"\x8f\xa2\xb7", b"\xa1\xc1")  # a tilde; 0x8F is in no other place than first
        corrections = _corrections(encoding)
        text = document.decode(_CODECS[encoding], f"sqspider.{encoding}")
        return re.sub(f"[{''.join(corrections)}]", lambda found: corrections[found[0]], text)
    return codecs.charmap_decode(document, "replace", _single_bytes(encoding))[0]


def encode_legacy(text: str, encoding: str) -> Iterator[bytes | int]:
    """What the standard's encoder makes of each character: its bytes, or its code point if it has none."""
    if encoding == "iso-2022-jp":
        yield from _encode_iso_2022_jp(text)
        return
    table = _characters(encoding)
    for character in text:
        if character < "\x80":
            yield character.encode()
        elif character in table:
            yield table[character]
        elif encoding == "gb18030" and character != "\ue5e5" and not "\ud800" <= character <= "\udfff":
            yield character.encode("gb18030")
        else:
            yield ord(character)


@cache
def _single_bytes(encoding: str) -> str:
    """What each byte is. Those that Windows leaves undefined from 80 to 9F are control characters."""
    codec = webencodings.lookup(encoding).codec_info
    others = _SINGLE_BYTES.get(encoding, {})
    characters = []
    for byte in range(256):
        character = others.get(byte) or codec.decode(bytes([byte]), "replace")[0]
        if character == "\ufffd":
            is_control = encoding.startswith("windows-") and 0x80 <= byte <= 0x9F
            character = chr(byte) if is_control else _UNDEFINED
        characters.append(character)
    return "".join(characters)


@cache
def _corrections(encoding: str) -> dict[str, str]:
    """What is to be taken for a character that the codec makes of another sequence than the standard."""
    if encoding == "shift_jis":
        return dict.fromkeys("\uf8f0\uf8f1\uf8f2\uf8f3", "\ufffd")  # single bytes
    if encoding == "euc-jp":
        return dict(zip("\u301c\u2016\u2212\xa2\xa3\xac", "\uff5e\u2225\uff0d\uffe0\uffe1\uffe2", strict=True))
    if encoding == "euc-kr":
        return {"\ufffd": "\ufffd"}  # none
    return {bytes.fromhex(octets).decode("gb18030"): character for octets, character in _GB_18030.items()}


@cache
def _pairs(encoding: str) -> Table:
    """The characters of two bytes and more, in the order of the standard's index."""
    if encoding == "euc-jp":
        return _euc_jp()
    pairs = [bytes([lead, trail]) for lead in range(0x81, 0xFF) for trail in range(0x40, 0xFF) if trail != 0x7F]
    if encoding == "big5":
        others = dict(_runs(_BIG5))
        return {pair: text for pair in pairs if (text := others.get(pair) or _whole(pair, "big5hkscs"))}
    texts = decode_legacy(b"\n".join(pairs), encoding).split("\n")
    return {pair: text for pair, text in zip(pairs, texts, strict=True) if len(text) == 1 and text != "\ufffd"}


def _whole(octets: bytes, codec: str) -> str:
    """What a codec takes them for as one character; empty if it does not."""
    try:
        return octets.decode(codec)
    except UnicodeDecodeError:
        return ""


def _runs(listed: str) -> Iterator[tuple[bytes, str]]:
    for run in listed.split():
        lead, trail = bytes.fromhex(run[:4])
        for character in run[4:]:
            yield bytes([lead, trail]), character
            trail = trail + 1 if trail != 0x7E else 0xA1
            if trail > 0xFE:
                lead, trail = lead + 1, 0x40


def _euc_jp() -> Table:
    """JIS X 0208 with the rows of NEC and IBM is what Shift_JIS has, in the same order; JIS X 0212 is read only."""
    table = {b"\x8e" + bytes([byte]): chr(0xFF61 - 0xA1 + byte) for byte in range(0xA1, 0xE0)}
    for row in range(94):
        for cell in range(94):
            pair = bytes([0xA1 + row, 0xA1 + cell])
            lead, trail = row // 2 + (0x81 if row < 62 else 0xC1), cell + 94 * (row % 2)
            if text := _whole(bytes([lead, trail + (0x40 if trail < 0x3F else 0x41)]), "cp932"):
                table[pair] = text
            if text := _whole(b"\x8f" + pair, "euc_jp"):
                table[b"\x8f" + pair] = text
    table[b"\x8f\xa2\xb7"] = "\uff5e"
    return table


def _other(octets: bytes) -> str:
    if octets[0] < 0x80:
        return octets.decode("ascii")
    return "\ufffd" + (chr(octets[-1]) if octets[-1] < 0x80 else "")


@cache
def _characters(encoding: str) -> dict[str, bytes]:
    """The bytes that are written for each character: the first of its sequences, but for some."""
    if encoding not in _CODECS and encoding != "big5":
        return {text: bytes([byte]) for byte, text in enumerate(_single_bytes(encoding)) if text != _UNDEFINED}
    table: dict[str, bytes] = {}
    for octets, text in _pairs(encoding).items():
        if _is_written(octets, text, encoding) and (text not in table or (encoding == "big5" and text in _BIG5_SECOND)):
            table[text] = octets
    if encoding == "shift_jis":
        table |= {chr(0xFF61 - 0xA1 + byte): bytes([byte]) for byte in range(0xA1, 0xE0)} | {"\x80": b"\x80"}
    if encoding in ("shift_jis", "euc-jp"):
        table |= {"\xa5": b"\\", "\u203e": b"~", "\u2212": table["\uff0d"]}
    if encoding in ("gbk", "gb18030"):
        for octets, private in _gb_18030_private():
            table[private] = octets
    if encoding == "gbk":
        table["\u20ac"] = b"\x80"
    if encoding == "gb18030":
        table["\ue7c7"] = b"\x81\x35\xf4\x37"
    return table


def _is_written(octets: bytes, text: str, encoding: str) -> bool:
    if encoding == "big5":
        return octets >= _BIG5_WRITTEN
    if encoding == "shift_jis":  # IBM's rows instead of NEC's selection of them; nothing of one's own
        return not b"\xed\x40" <= octets <= b"\xee\xfc" and not "\ue000" <= text <= "\ue757"
    return encoding != "euc-jp" or len(octets) == 2


def _gb_18030_private() -> Iterator[tuple[bytes, str]]:
    """The private characters that some of GB 18030-2022's were before."""
    for octets in map(bytes.fromhex, _GB_18030):
        if octets[0] in (0xA6, 0xFE):
            yield octets, octets.decode("gb18030")


_ESCAPES: Final = re.compile(rb"\x1b(\([BJI]|\$[@B])")
_JIS_PAIRS: Final = re.compile(rb"[\x21-\x7e][^\x1b]|[\x00-\xff]")
_JIS_TEXT: Final = re.compile(rb"(?:[\x21-\x7e][\x21-\x7e]|)*+")
_JIS_CONTROLS: Final = re.compile(rb"[\x0e\x0f\x1b]")
_HIGH: Final = bytes(octet | 0x80 for octet in range(256))
_ROMAN: Final = {0x5C: "\xa5", 0x7E: "\u203e"}


def _decode_iso_2022_jp(document: bytes) -> Iterator[str]:
    state = b"(B"
    parts = _ESCAPES.split(document)
    for number, part in enumerate(parts):
        if number % 2:
            state = part
        elif not part and 0 < number < len(parts) - 1:  # one sequence after the other may hide something
            yield "\ufffd"
        elif state in (b"$@", b"$B") and _JIS_TEXT.fullmatch(part):
            yield decode_legacy(part.translate(_HIGH), "euc-jp")
        elif state in (b"$@", b"$B"):
            table = _pairs("euc-jp")
            for octets in _JIS_PAIRS.findall(part):
                yield table.get(bytes(octet ^ 0x80 for octet in octets), "\ufffd")
        elif state == b"(B" and part.isascii() and not _JIS_CONTROLS.search(part):
            yield part.decode("ascii")
        else:
            yield "".join(_jis_character(octet, state) for octet in part)


def _jis_character(octet: int, state: bytes) -> str:
    if state == b"(I":
        return chr(0xFF61 - 0x21 + octet) if 0x21 <= octet <= 0x5F else "\ufffd"
    if octet >= 0x80 or octet in (0x0E, 0x0F, 0x1B):
        return "\ufffd"
    return _ROMAN.get(octet, chr(octet)) if state == b"(J" else chr(octet)


def _encode_iso_2022_jp(text: str) -> Iterator[bytes | int]:
    state = b"(B"
    for character in text:
        needed, octets = _jis_octets(character, state)
        if needed != state:
            yield b"\x1b" + needed
            state = needed
        yield octets
    if state != b"(B":
        yield b"\x1b(B"


def _jis_octets(character: str, state: bytes) -> tuple[bytes, bytes | int]:
    """The state that a character is written in, and how; a code point if it cannot be."""
    if character in "\x0e\x0f\x1b":  # would be read as something else
        return (b"(B" if state == b"$B" else state), 0xFFFD
    if character < "\x80" and not (state == b"(J" and character in "\\~"):
        return (state if state == b"(J" else b"(B"), character.encode()
    if character in "\xa5\u203e":
        return b"(J", b"\\" if character == "\xa5" else b"~"
    if character < "\x80":
        return b"(B", character.encode()
    octets = _characters("euc-jp").get(_full_width(character), b"")
    if len(octets) == 2 and octets[0] >= 0xA1:
        return b"$B", bytes(octet & 0x7F for octet in octets)
    return (b"(B" if state == b"$B" else state), ord(character)


def _full_width(character: str) -> str:
    if not "\uff61" <= character <= "\uff9f":
        return character
    return {"\uff9e": "\u309b", "\uff9f": "\u309c"}.get(character) or normalize("NFKC", character)


def _replace(encoding: str, leads: Iterable[int], lacking: Callable[[bytes], str | None]) -> None:
    """What the codec of an encoding does where it finds no text.

    ``lacking`` knows sequences that it should have known. Else a pair is one error, but for an ASCII
    byte in it.
    """
    leads = frozenset(leads)

    def handle(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeDecodeError)
        octets = error.object[error.start : error.start + 2]
        is_pair = octets[0] in leads and octets[-1] >= 0x80
        octets = octets[: 1 + is_pair]
        return lacking(octets) or "\ufffd", error.start + len(octets)

    codecs.register_error(f"sqspider.{encoding}", handle)


_replace("euc-jp", [0x8E, 0x8F, *range(0xA1, 0xFF)], lambda octets: _pairs("euc-jp").get(octets))
_replace("euc-kr", range(0x81, 0xFF), lambda _: None)
_replace("gb18030", range(0x81, 0xFF), {b"\x80": "\u20ac"}.get)
_replace("gbk", range(0x81, 0xFF), {b"\x80": "\u20ac"}.get)
_replace("shift_jis", [*range(0x81, 0xA0), *range(0xE0, 0xFD)], lambda _: None)
