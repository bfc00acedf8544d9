"""Canonical URLs against the WHATWG's own cases, and scopes against those of peers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sqspider.crawl_row import check_name
from sqspider.frontier.aws.table import MAX_KEY_BYTES
from sqspider.message import BadBody, decode_message
from sqspider.record import Reason, record_key
from sqspider.url import (
    MAX_HOST_CHARACTERS,
    MAX_URL_BYTES,
    Refused,
    Scope,
    authority_of,
    canonical_host,
    canonicalize,
    host_in,
    host_of,
    in_scope,
    origin_of,
    registrable_domain,
    without_tracking,
)
from tests.conftest import load_cases


def test_the_whatwg_cases_pass() -> None:
    cases = [c for c in load_cases("01a_wpt_urltestdata.json")["cases"] if c["crawl_relevant"]]
    assert len(cases) > 300
    wrong = [c["id"] for c in cases if not _agrees(c)]
    assert wrong == []


def _agrees(case: dict[str, Any]) -> bool:
    result = canonicalize(case["input"], case["base"])
    if case["failure"]:
        return isinstance(result, Refused)
    expected = case["expected_href"].partition("#")[0]
    if case["username"] or case["password"]:
        return isinstance(result, Refused) and result.reason is Reason.USER_INFO
    return bool(result == expected)


@given(st.text() | st.from_regex(r"https?://[a-z0-9.\-:\[\]%@]*/\S*", fullmatch=True))
def test_canonicalizing_twice_changes_nothing(text: str) -> None:
    once = canonicalize(text)
    if isinstance(once, str):
        assert canonicalize(once) == once
        assert "#" not in once
        assert once.startswith(origin_of(once))
        assert host_of(once) in once
        assert host_in(once) == host_of(once)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("ftp://example.com/", Reason.BAD_SCHEME),
        ("mailto:a@example.com", Reason.BAD_SCHEME),
        ("javascript:alert(1)", Reason.BAD_SCHEME),
        ("http://user:secret@example.com/", Reason.USER_INFO),
        ("http://", Reason.NO_HOST),
        ("no url", Reason.BAD_URL),
        ("http://exa mple.com/", Reason.BAD_URL),
        ("http://example.com/" + "a" * MAX_URL_BYTES, Reason.URL_TOO_LONG),
    ],
)
def test_a_refusal_has_its_reason(text: str, reason: Reason) -> None:
    refused = canonicalize(text)
    assert isinstance(refused, Refused)
    assert refused.reason is reason


def test_a_url_of_just_the_limit_is_taken() -> None:
    url = "http://example.com/".ljust(MAX_URL_BYTES, "a")
    assert canonicalize(url) == url


def test_the_longest_url_is_a_key_in_a_crawl_of_the_longest_name() -> None:
    url = "http://example.com/".ljust(MAX_URL_BYTES, "a")
    check_name("n" * 64)
    assert len(record_key(url, "n" * 64).encode()) <= MAX_KEY_BYTES


@pytest.mark.parametrize("kept", ["http://www.example.com/", "http://example.com/a/", "http://example.com/?b=2&a=1"])
def test_nothing_is_folded_by_default(kept: str) -> None:
    assert canonicalize(kept) == kept


def test_tracking_parameters_go_only_when_asked() -> None:
    url = "http://example.com/?utm_source=x&id=1&fbclid=y"
    assert canonicalize(url) == url
    assert canonicalize(url, drop_tracking=True) == "http://example.com/?id=1"
    assert canonicalize("http://example.com/?gclid=1", drop_tracking=True) == "http://example.com/"


@pytest.mark.parametrize("url", ["http://example.com/", "http://example.com/?", "http://example.com/?id=1"])
def test_a_url_without_tracking_stays_as_it_is(url: str) -> None:
    assert without_tracking(url) == url


def test_a_lone_surrogate_becomes_a_replacement_character() -> None:
    assert canonicalize("http://example.com/\ud800") == "http://example.com/%EF%BF%BD"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://example.com:8080/", "example.com"),
        ("http://[2001:db8::1]/", "[2001:db8::1]"),
        ("http://[2001:db8::1]:81/", "[2001:db8::1]"),
        ("http://example.com./", "example.com"),
        ("https://example.com.:8443/", "example.com"),
        ("http://./", "."),
    ],
)
def test_the_host_is_without_its_port_and_the_dot_at_its_end(url: str, host: str) -> None:
    assert host_of(url) == host
    assert canonicalize(url) == url  # which keeps it
    assert canonical_host(host) == host


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://Shop.Example:8080?a/b", "shop.example"),
        ("http://a.test/" + "x" * 100_000, "a.test"),
        ("urn:X-wget:log", ""),
        ("dns:shop.example", ""),
        ("data:text/html,x/y/z", ""),
        ("file:///etc/passwd", ""),
        ("http://", ""),
        ("nothing", ""),
        ("", ""),
    ],
)
def test_whatever_stands_in_others_archives_has_a_host_or_none(url: str, host: str) -> None:
    assert host_in(url) == host


def test_a_host_has_253_characters_at_most() -> None:
    label = "a" * 63 + "."
    longest = label * 3 + "b" * (MAX_HOST_CHARACTERS - 3 * len(label))
    for url in (f"http://{longest}/", f"http://{longest}.:8080/x", f"http://{longest}/{'x' * 1000}?{'y' * 500}"):
        assert canonicalize(url) == url
    for url in (f"http://b{longest}/", f"http://b{longest}.:8080/x", f"http://{'ü' * 60}.{longest[60:]}/"):
        refused = canonicalize(url)
        assert isinstance(refused, Refused)
        assert refused.reason is Reason.URL_TOO_LONG
        assert "or its host than 253" in str(refused)
        assert isinstance(decode_message(url), BadBody)


@example("0..")
@given(st.text(max_size=20) | st.from_regex(r"[a-zA-Z0-9.:\[\]%-]{0,20}", fullmatch=True))
def test_a_host_is_named_as_those_of_urls_are_or_refused(text: str) -> None:
    host = canonical_host(text)
    if isinstance(host, str):
        assert canonical_host(host) == host
        assert host_of(f"http://{host}/") == host
        assert canonicalize(f"http://{host}/") == f"http://{host}/"


_KINDS = {"same-hostname": Scope.HOST, "same-domain": Scope.DOMAIN, "all": Scope.ANY}


def test_scopes_agree_with_a_peer() -> None:
    checked = 0
    for case in load_cases("03e_scope.json")["cases"]:
        scope = _KINDS.get(case["scope"]["kind"])
        if scope is None:
            continue
        seed = canonicalize(case["scope"]["base_url"])
        link = canonicalize(case["url"], case["scope"]["base_url"])
        assert isinstance(seed, str)
        is_in = isinstance(link, str) and in_scope(link, scope, seed)
        assert is_in == case["in_scope"], case["id"]
        checked += 1
    assert checked >= 30


@pytest.mark.parametrize(
    ("scope", "url", "expected"),
    [
        (Scope.PAGE, "http://a.example.com/docs/index.html", True),
        (Scope.PAGE, "http://a.example.com/docs/other.html", False),
        (Scope.PREFIX, "http://a.example.com/docs/deep/er", True),
        (Scope.PREFIX, "http://a.example.com/doc", False),
        (Scope.HOST, "https://a.example.com/elsewhere", True),
        (Scope.HOST, "http://b.example.com/", False),
        (Scope.DOMAIN, "http://b.example.com/", True),
        (Scope.DOMAIN, "http://example.org/", False),
        (Scope.ANY, "http://example.org/", True),
    ],
)
def test_scopes_are_measured_from_the_seed(scope: Scope, url: str, expected: bool) -> None:
    seed = "http://a.example.com/docs/index.html"
    assert in_scope(url, scope, seed) is expected
    if scope is not Scope.PAGE:  # a dot at the end of a host changes nothing, on either side
        assert in_scope(url.replace(".com/", ".com./"), scope, seed) is expected
        assert in_scope(url, scope, seed.replace(".com/", ".com./")) is expected


def test_a_dot_at_the_end_of_a_host_is_no_port() -> None:
    assert authority_of("http://site.example./") == "site.example"
    assert authority_of("http://site.example.:81/") == "site.example:81"


@pytest.mark.parametrize(
    ("host", "domain"),
    [("www.example.co.uk", "example.co.uk"), ("a.github.io", "a.github.io"), ("127.0.0.1", "127.0.0.1")],
)
def test_registrable_domains_follow_the_public_suffix_list(host: str, domain: str) -> None:
    assert registrable_domain(host) == domain
