"""Content types and encodings, against the standards' own cases."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.web.charset import (
    PRESCAN_BYTES,
    decode,
    encode_query,
    encoding_for,
    encoding_of,
    mime_type_of,
)
from sqspider.web.legacy import encode_legacy
from sqspider.web.links import read_page
from tests.conftest import load_cases

NOT_OURS = {"enc-134": "UTF-32 is no encoding of the web: to browsers, its bytes are windows-1252"}


def test_declared_encodings_are_found() -> None:
    """And what is taken where nothing is declared."""
    for case in load_cases("practice/06a_encoding_declaration.json")["cases"]:
        if case["id"] in NOT_OURS:
            continue
        expected = case["expected_whatwg_name"]
        mime_type = mime_type_of([case["http_content_type"]]) if case["http_content_type"] else None
        body = base64.b64decode(case["body_b64"])
        found = encoding_of(body, mime_type.charset if mime_type else None)
        assert found in (expected.lower(), {"gb18030": "gbk"}.get(expected.lower())), case["id"]
        if case.get("text") is not None:
            assert decode(body, found) == case["text"], case["id"]


def test_labels_are_the_standards() -> None:
    for case in load_cases("06b_encoding_labels.json")["cases"]:
        assert encoding_of(b"", case["label"]) == case["name"].lower(), case["id"]


def test_content_types_are_read_as_the_standard_says() -> None:
    """Their essence and their charset: no other parameter is asked for."""
    for case in load_cases("06c_mime_types.json")["cases"]:
        headers = case["input"] if isinstance(case["input"], list) else [case["input"]]
        found = mime_type_of(headers)
        expected = case["mimeType"] if "mimeType" in case else case["output"]
        if not expected:
            assert found is None, case["id"]
            continue
        assert found is not None, case["id"]
        assert found.essence == expected.partition(";")[0], case["id"]
        written = re.search(r';charset=(?:"((?:[^"\\]|\\.)*)"|([^;]*))', expected)
        charset = re.sub(r"\\(.)", r"\1", written[1]) if written and written[1] else written and written[2]
        assert (found.charset or None) == (charset or None), case["id"]
        if case.get("encoding"):
            assert found.charset is not None, case["id"]
            assert encoding_for(found.charset) == case["encoding"].lower(), case["id"]


FAR = b"<!DOCTYPE html><!--" + b"x" * PRESCAN_BYTES + b"-->"


@pytest.mark.parametrize(
    ("after", "encoding"),
    [
        (b"<meta charset=koi8-r>", "koi8-r"),
        (b"<META content='a; CHARSET = \"Windows-1251\"' HTTP-EQUIV=content-TYPE>", "windows-1251"),
        (b"<body><p>1<div><meta charset=' Shift_JIS '></div>", "shift_jis"),
        (b"<meta charset=no-such><meta charset=koi8-r><meta charset=big5>", "koi8-r"),
        (b"<meta charset=no-such http-equiv=content-type content='charset=koi8-r'>", "koi8-r"),
        (b"<meta charset=utf-16>\xe4", "utf-8"),  # it could be read, so it is none
        (b"<meta charset=x-user-defined>\xc3\xa4", "windows-1252"),
        (b"<meta charset=koi8-r>\xc3\xa4", "koi8-r"),  # what is declared, not what it looks like
        (b"<!-- <meta charset=koi8-r> -->", "windows-1252"),
        (b"<script>'<meta charset=koi8-r>'</script>", "windows-1252"),
        (b"<title><meta charset=koi8-r></title>", "windows-1252"),
        (b"<meta charset=koi8-r", "windows-1252"),  # a tag that does not end is none
        (b"<meta http-equiv=content-type content='charset=\"koi8-r'>", "windows-1252"),
        (b"<meta name=charset content='charset=koi8-r'>\xc3\xa4", "utf-8"),
    ],
)
def test_a_declaration_counts_wherever_it_is(after: bytes, encoding: str) -> None:
    assert encoding_of(FAR + after) == encoding
    assert encoding_of(FAR[: PRESCAN_BYTES - 20] + b"-->" + after) == encoding  # it begins before the limit
    assert encoding_of(FAR + after, "iso-8859-2") == "iso-8859-2"
    assert encoding_of(b"\xef\xbb\xbf" + FAR + after) == "utf-8"


@pytest.mark.parametrize(
    ("document", "encoding"),
    [
        (b"<!-- --!><meta charset=koi8-r>", "koi8-r"),  # to the prescan all of it is a comment
        (b"<meta charset=no-such http-equiv=content-type content='charset=koi8-r'>", "koi8-r"),
        (b"<meta charset=koi8-r><a", "koi8-r"),
        (b"<a title='><meta charset=big5>", "windows-1252"),
        (b"<title><meta charset=big5", "windows-1252"),
        (b"<meta http-equiv=content-type content='charset=;charset=koi8-r'>", "windows-1252"),
        (b"<meta http-equiv=content-type content='charset;charset=koi8-r'>", "koi8-r"),
    ],
)
def test_what_a_parser_finds_counts_in_a_short_document_too(document: bytes, encoding: str) -> None:
    assert encoding_of(document) == encoding


def test_the_first_declaration_within_reach_counts() -> None:
    assert encoding_of(b"<meta charset=koi8-r>" + FAR + b"<meta charset=big5>") == "koi8-r"
    assert encoding_of(b"<?xml version='1.0' encoding='koi8-r'?>" + FAR + b"<meta charset=big5>") == "koi8-r"


def test_a_late_declaration_makes_the_right_text_and_urls() -> None:
    page = FAR + "<title>Привет</title><meta charset=windows-1251><a href='/и?q=и'>".encode("windows-1251")
    found = read_page(page, "http://example.com/", [("Content-Type", "text/html")])
    assert found is not None
    assert (found.title, found.links) == ("Привет", ("http://example.com/%D0%B8?q=%E8",))


@given(st.binary(max_size=200), st.sampled_from([b"", FAR, FAR + b"<meta charset=", b"<meta content="]))
def test_no_document_is_an_error(document: bytes, before: bytes) -> None:
    encoding = encoding_of(before + document)
    assert encoding_for(encoding) == encoding
    decode(before + document, encoding)


# Made from the standard's own indexes, with GB 18030-2022: what the sequences of an encoding are, and how characters
# are written in it.
DIGESTS = {
    "ibm866": ("3c8cc5cb485f93d2", "2efbcb53caed11a8"),
    "iso-8859-2": ("a5871b0f978b840b", "9cb65f7992053136"),
    "iso-8859-3": ("e83895f2b7d7b82b", "8120828177030ef6"),
    "iso-8859-4": ("449076e20ebf45eb", "0924662a4e902471"),
    "iso-8859-5": ("9f31ddc0f7444afa", "67c562560470a71b"),
    "iso-8859-6": ("beba4e6cf97dce83", "46194a4e74147616"),
    "iso-8859-7": ("71069977a6798ab7", "f27ec4868f7e4df1"),
    "iso-8859-8": ("b43535e7aaeb7bcf", "723ba7c6a473e320"),
    "iso-8859-10": ("282514fbd01219c4", "c7f7b5df7fb95363"),
    "iso-8859-13": ("4426f6d2f1b025cd", "dc89b573d9fef9e4"),
    "iso-8859-14": ("f03afb7e01e66cac", "d86cf49efe687dc6"),
    "iso-8859-15": ("9b58b26dbd8fbff2", "6a5d1cfe5cc336c9"),
    "iso-8859-16": ("2de1faef4dc524c9", "f98025574ffda2d7"),
    "koi8-r": ("fb0243455e64ef70", "e69da98f9fcb1c11"),
    "koi8-u": ("896c218aaf12ca1b", "e332857136071988"),
    "macintosh": ("54112bce885d7b1a", "9c3d88420f0d57a1"),
    "windows-874": ("6a2c7940c3d68216", "907b3a44595fbd87"),
    "windows-1250": ("03772ed2e875bd12", "107972711aeb1fc8"),
    "windows-1251": ("b16600cf4e6d1a2d", "1f4fdf98cbec1ae8"),
    "windows-1252": ("cc916e51644a12e8", "1f878adb203d1c1c"),
    "windows-1253": ("e4570135cbc6e3d5", "41191563cf0d2523"),
    "windows-1254": ("4a8e99647c3e28e6", "913a21e86a39c50f"),
    "windows-1255": ("870c5c5e687fabcd", "0c475c9d9a3d9d2b"),
    "windows-1256": ("6f6e8626197b1b6b", "9afb814471db2548"),
    "windows-1257": ("d19a4e888879e36a", "a631367acf2c520c"),
    "windows-1258": ("e79b48db126bc71d", "95d3e697d9fac1a5"),
    "x-mac-cyrillic": ("784db55e1c90195e", "4f6dc04a55207a35"),
    "big5": ("0e5d99b49f3fdfa5", "10e63cca2ca312e6"),
    "euc-jp": ("347c765d03af4f50", "8fd85ae393d612fa"),
    "euc-kr": ("92904e503704c0bc", "250df64dc2079cf8"),
    "gbk": ("3eab4b2713d2944e", "418fca9de2e91a4f"),
    "gb18030": ("3eab4b2713d2944e", "5557ef1b4ff1bc21"),
    "shift_jis": ("e4928b5bae9e70b1", "7e621cab150f9600"),
    "iso-2022-jp": ("", "eda0b372c5e84bd6"),
}


def digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def sequences(encoding: str) -> Iterator[bytes]:
    for lead in range(0x80, 0x100):
        for trail in range(0x100):
            yield bytes([lead, trail])
    if encoding == "euc-jp":
        for row in range(0xA1, 0xFF):
            for cell in range(0x100):
                yield bytes([0x8F, row, cell])


@pytest.mark.parametrize("encoding", DIGESTS)
def test_legacy_encodings_are_read_and_written_by_the_standards_tables(encoding: str) -> None:
    read, written = DIGESTS[encoding]
    if encoding in ("big5", "euc-jp", "euc-kr", "gbk", "gb18030", "shift_jis"):
        texts = ((octets, decode(octets, encoding)) for octets in sequences(encoding))
        assert digest(f"{octets.hex()} {text}" for octets, text in texts if "\ufffd" not in text) == read
    elif read:
        assert digest([decode(bytes(range(256)), encoding)]) == read
    points = [*range(0x80, 0xA000), *range(0xAC00, 0xD7A4), *range(0xE000, 0xFFFF), 0x20087, 0x2000B, 0x1F600, 0x21D53]
    if encoding == "iso-2022-jp":
        points = [point for point in points if not 0xFF61 <= point <= 0xFF9F]
    lines = []
    for point in points:
        octets = list(encode_legacy(chr(point), encoding))
        whole = b"".join(part for part in octets if isinstance(part, bytes))
        lines.append(f"{point:x} {None if point in octets else whole.hex()}")
    assert digest(lines) == written


def test_queries_are_encoded_as_the_standards_cases_say() -> None:
    for case in load_cases("01d_wpt_percent_encoding_by_charset.json")["cases"]:
        for encoding, expected in case["output"].items():
            if encoding != "utf-8":  # there, the URL parser does it
                assert encode_query(case["input"], encoding) == expected, (case["id"], encoding)


@pytest.mark.parametrize(
    ("document", "encoding", "text"),
    [
        (b"\xad\xa1\xfc\xfc\x8e\xb1\x8f\xb0\xa1<", "euc-jp", "\u2460\uffe4\uff71\u4e02<"),  # NEC, IBM, half width, JIS X 0212
        (b"a\x1b$B$\"-!\x1b(I1\x1b(J\\~\x1b(B\\<", "iso-2022-jp", "a\u3042\u2460\uff71\xa5\u203e\\<"),
        (b"\x1b$B\x1b(B<\x1b$B$\n", "iso-2022-jp", "\ufffd<\ufffd"),
        (b"\x1b$B$\"\x1b!<\xff\x1b(B\x0e", "iso-2022-jp", "\u3042\ufffd\u30fc\ufffd\ufffd"),
        (b"\xae\xbe", "koi8-u", "\u045e\u040e"),
        (b"\x80\xfe\x59\x81\x35\xf4\x37", "gb18030", "\u20ac\u9fb4\ue7c7"),
        (b"\xf4\x80", "x-user-defined", "\uf7f4\uf780"),
        (b"\xe0", "iso-8859-8-i", "\u05d0"),
    ],
)  # fmt: skip
def test_what_pythons_codecs_have_otherwise(document: bytes, encoding: str, text: str) -> None:
    assert decode(document, encoding) == text


@pytest.mark.parametrize("encoding", ["big5", "euc-jp", "euc-kr", "gbk", "shift_jis"])
@given(st.binary(max_size=6), st.sampled_from(['"', "<", "=", "/", " "]))
def test_no_markup_is_swallowed_by_half_a_character(encoding: str, before: bytes, mark: str) -> None:
    """What would end an attribute ends it, whatever stands before: none of these is a second byte."""
    assert decode(before + mark.encode() + b"a", encoding).endswith(mark + "a")
