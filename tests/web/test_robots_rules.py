"""robots.txt against RFC 9309's examples, peers' tests and real sites, and what each answer means."""

from __future__ import annotations

import base64
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.host import RobotsAccess
from sqspider.record import Reason
from sqspider.web.fetch import Fetched
from sqspider.web.robots import MAX_ROBOTS_BYTES, RobotsRules, access_for
from tests.conftest import load_cases


def _wrong(cases: list[dict[str, Any]], bodies: dict[str, Any] | None = None) -> list[str]:
    wrong = []
    for case in cases:
        source = bodies[case["body"]] if bodies is not None else case
        encoded = source.get("robots_b64")
        body = base64.b64decode(encoded) if encoded else source["robots"].encode("utf-8", "surrogatepass")
        url = case["url"]
        if "://" not in url:
            url = "http://example.com/" + url.lstrip("/")
        if url.count("/") == 2:
            url += "/"
        if RobotsRules.parse(body).verdict(url, case["user_agent"]).allowed != case["expected_allowed"]:
            wrong.append(case["id"])
    return wrong


def test_the_rfcs_examples_hold() -> None:
    assert _wrong(load_cases("02d_robots_rfc9309_examples.json")["cases"]) == []


def test_peers_agree() -> None:
    cases = load_cases("practice/02a_robots_peer_cases.json")["cases"]
    assert _wrong([case for case in cases if case["exam_grade"] == "A"]) == []


def test_real_files_are_read_as_others_read_them() -> None:
    loaded = load_cases("practice/02e_robots_real_sites.json")
    assert _wrong(loaded["cases"], loaded["_meta"]["bodies"]) == []


def test_delays_are_read() -> None:
    for case in load_cases("practice/02b_robots_delay_sitemaps.json")["cases"]:
        rules = RobotsRules.parse(case["robots"].encode())
        delay = rules.crawl_delay(case["user_agent"])
        if case.get("crawl_delay_ms") is not None:
            assert delay == case["crawl_delay_ms"] / 1000, case["id"]


def test_the_deciding_line_is_named() -> None:
    body = b"\xef\xbb\xbfUser-agent: other\r\nDisallow: /\r\n\r\nUser-agent: SQSpider\r\nDisallow: /a\r\nDisallow: /a/b # why\r\n"
    rules = RobotsRules.parse(body)
    assert rules.verdict("http://example.com/a/bc", "sqspider") == (False, "Disallow: /a/b", 6)
    assert rules.verdict("http://example.com/a/c", "sqspider") == (False, "Disallow: /a", 5)
    assert rules.verdict("http://example.com/", "sqspider").allowed


def test_robots_txt_itself_is_allowed_and_queries_count() -> None:
    rules = RobotsRules.parse(b"User-agent: *\nDisallow: /")
    assert rules.verdict("http://example.com/robots.txt", "sqspider").allowed
    rules = RobotsRules.parse(b"User-agent: *\nDisallow: /*?session=")
    assert not rules.verdict("http://example.com/a?session=1", "sqspider").allowed
    assert rules.verdict("http://example.com/a", "sqspider").allowed


def test_a_rule_within_500_kib_counts_and_one_beyond_does_not() -> None:
    rule = b"\nUser-agent: *\nDisallow: /x\n"
    assert not RobotsRules.parse(b"#" * 400_000 + rule).verdict("http://e.com/x", "sqspider").allowed
    assert RobotsRules.parse(b"#" * MAX_ROBOTS_BYTES + rule).verdict("http://e.com/x", "sqspider").allowed


def test_a_hostile_pattern_takes_no_exponential_time() -> None:
    rules = RobotsRules.parse(b"User-agent: *\nDisallow: /" + b"a*" * 40 + b"b$")
    started = time.process_time()
    assert rules.verdict("http://example.com/" + "a" * 1500, "sqspider").allowed
    assert time.process_time() - started < 20


@given(st.binary(max_size=400), st.from_regex(r"/[a-z/?*$%]{0,20}", fullmatch=True))
def test_nothing_in_a_file_is_an_error(body: bytes, path: str) -> None:
    rules = RobotsRules.parse(body)
    rules.verdict(f"http://example.com{path}", "sqspider")
    rules.crawl_delay("sqspider")


def _answer(reason: Reason | None, status: int | None, *redirects: str) -> Fetched:
    return Fetched(
        url="http://e.com/robots.txt", final_url=None, http_status=status, headers=(), body=b"", truncated=False,
        reason=reason, detail="", elapsed_seconds=0, sent_seconds=0, redirects=redirects,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "access"),
    [
        (_answer(None, 200), RobotsAccess.OBEY),
        (_answer(None, 204), RobotsAccess.OBEY),
        (_answer(Reason.CLIENT_ERROR, 401), RobotsAccess.ALLOW_ALL),
        (_answer(Reason.CLIENT_ERROR, 404), RobotsAccess.ALLOW_ALL),
        (_answer(Reason.RATE_LIMITED, 429), RobotsAccess.UNREACHABLE),
        (_answer(Reason.SERVER_ERROR, 503), RobotsAccess.UNREACHABLE),
        (_answer(Reason.CONNECTION_REFUSED, None), RobotsAccess.UNREACHABLE),
        (_answer(Reason.CONNECT_TIMEOUT, None), RobotsAccess.UNREACHABLE),
        (_answer(Reason.TLS_ERROR, None), RobotsAccess.UNREACHABLE),
        (_answer(Reason.DNS_NOT_FOUND, None), RobotsAccess.UNREACHABLE),
        (_answer(Reason.INCOMPLETE_BODY, 200), RobotsAccess.UNREACHABLE),
        (_answer(Reason.TOO_MANY_REDIRECTS, 301, "a"), RobotsAccess.ALLOW_ALL),
        (_answer(Reason.REDIRECT_LOOP, 301, "a"), RobotsAccess.ALLOW_ALL),
        (_answer(Reason.PRIVATE_ADDRESS, 301, "a"), RobotsAccess.ALLOW_ALL),
        (_answer(Reason.PRIVATE_ADDRESS, None), RobotsAccess.UNREACHABLE),
    ],
)
def test_an_answer_means_what_the_rfc_says(answer: Fetched, access: RobotsAccess) -> None:
    assert access_for(answer) is access
