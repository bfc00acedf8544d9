"""Keys of indexes, against those of pywb and cdxj-indexer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.archive.surt import surt_of
from tests.conftest import load_cases

PEER = "python_surt_0.3.1"  # by which both make them


def test_the_cases_of_peers_pass() -> None:
    cases = [case for case in load_cases("practice/01f_surt_keys.json")["cases"] if PEER in case]
    assert cases
    assert [case["id"] for case in cases if surt_of(case["url"]) != case[PEER]] == []


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://example.org/", "org,example)/"),
        ("https://www.example.org", "org,example)/"),
        ("https://www42.example.org/", "org,example)/"),
        ("http://www.www.example.org/", "org,example,www)/"),
        ("http://example.org:80/", "org,example)/"),
        ("https://example.org:443/", "org,example)/"),
        ("https://example.org:80/", "org,example:80)/"),
        ("http://user:word@example.org:8080/", "org,example:8080)/"),
        ("http://192.0.2.1/", "1,2,0,192)/"),
        ("http://2130706433/", "1,0,0,127)/"),
        ("http://[2001:db8::1]:8080/A", "2001:db8::1:8080)/a"),
        ("http://münchen.de/", "de,xn--mnchen-3ya)/"),
        ("http://example.org/A/b/", "org,example)/a/b"),
        ("http://example.org/a//b", "org,example)/a/b"),
        ("http://example.org/a/./b/../c", "org,example)/a/c"),
        ("http://example.org/../a", "org,example)/../a"),
        ("http://example.org/%41%2542%C3%A4", "org,example)/ab%c3%a4"),
        ("http://example.org/ä", "org,example)/%c3%a4"),
        ("http://example.org/a%20b%23%3F", "org,example)/a%20b%23?"),
        ("http://example.org/?", "org,example)/"),
        ("http://example.org/?b=1&a=2&a=1&B", "org,example)/?a=1&a=2&b&b=1"),
        ("http://example.org/#part", "org,example)/"),
        ("http://example.org/?x&PHPSESSID=0123456789abcdef0123456789abcdef&y", "org,example)/?x&y"),
        ("http://example.org/(S(4hqa0555fwsecu455xqckv45))/mileg.aspx", "org,example)/mileg.aspx"),
        ("dns:example.org", "dns:example.org"),
        ("urn:pageinfo:x", "urn:pageinfo:x"),
    ],
)
def test_keys_are_those_that_others_make(url: str, key: str) -> None:
    assert surt_of(url) == key


@given(st.text())
def test_whatever_comes_has_a_key_without_blanks(text: str) -> None:
    key = surt_of("http://example.org/" + text)
    assert key.isascii()
    assert " " not in key
    assert "\n" not in key


def test_a_host_of_very_many_digits_is_one_like_others() -> None:
    assert surt_of(f"http://{'9' * 5000}/") == f"{'9' * 5000})/"
