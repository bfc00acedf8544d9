"""Content types and encodings, against the standards' own cases."""

from __future__ import annotations

import base64
import codecs
import re
from typing import Any

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
from sqspider.web.links import read_page
from tests.conftest import load_cases


def test_declared_encodings_are_found() -> None:
    """Where nothing is declared at all, what to take is everybody's own affair: those rows say so."""
    cases = load_cases("practice/06a_encoding_declaration.json")["cases"]
    checked = 0
    for case in cases:
        expected = case["expected_whatwg_name"]
        if expected is None or case["undeclared_default_is_policy"]:
            continue
        checked += 1
        mime_type = mime_type_of([case["http_content_type"]]) if case["http_content_type"] else None
        body = base64.b64decode(case["body_b64"])
        found = encoding_of(body, mime_type.charset if mime_type else None)
        assert found in (expected.lower(), {"gb18030": "gbk"}.get(expected.lower())), case["id"]
        if case.get("text") is not None:
            assert decode(body, found) == case["text"], case["id"]
    assert checked > len(cases) * 0.8


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
