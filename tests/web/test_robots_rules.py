"""robots.txt against RFC 9309's examples, peers' tests and real sites, and what each answer means."""

from __future__ import annotations

import base64
import re
import sys
import tracemalloc
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqspider.host import RobotsAccess
from sqspider.record import Reason
from sqspider.web.fetch import Fetched
from sqspider.web.robots_rules import MAX_ROBOTS_BYTES, MAX_RULE_SHOWN, RobotsRules, access_for
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


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("5", 5.0), ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("0", 0.0), ("5 # five", 5.0),
        ("9" * 23, float("9" * 23)), ("1e400", float("inf")),
        ("-5", None), ("nan", None), ("inf", None), ("10s", None), ("0,5", None), ("1_0", None), ("\u0665", None),
        ("", None), ("5 5", None),
    ],
)  # fmt: skip
def test_a_delay_is_a_number(value: str, seconds: float | None) -> None:
    assert delay_in(f"User-agent: *\nCrawl-delay: {value}\n") == seconds
    assert delay_in(f"User-agent: *\nCrawl-delay: 7\nCrawl-delay: {value}\n") == (7.0 if seconds is None else seconds)


def delay_in(text: str, token: str = "sqspider") -> float | None:
    return RobotsRules.parse(text.encode()).crawl_delay(token)


def allows(text: str | bytes, path: str, token: str = "sqspider") -> bool:
    rules = RobotsRules.parse(text if isinstance(text, bytes) else text.encode())
    return rules.verdict(f"http://e.com{path}", token).allowed


@pytest.mark.parametrize(
    "agent",
    ["sqspider", "SQSpider", "sqspider/1.0", "sqspider 2", "sqspider;", "sqspider*", "sqspider2", "\tsqspider (x)\f"],
)
def test_a_token_ends_where_no_token_goes_on(agent: str) -> None:
    text = f"User-agent: *\nAllow: /\n\nUser-agent: {agent}\nDisallow: /a\nCrawl-delay: 3\n"
    assert not allows(text, "/a")
    assert delay_in(text) == 3.0
    assert not allows(text, "/a", "sqspider/9.9 (+http://e.com)")


@pytest.mark.parametrize("agent", ["sqspiders", "sq", "my-sqspider", "sqspider-news", "360spider", "*sqspider", ""])
def test_another_token_is_not_ours(agent: str) -> None:
    text = f"User-agent: *\nDisallow: /b\n\nUser-agent: {agent}\nDisallow: /a\nCrawl-delay: 3\n"
    assert allows(text, "/a")
    assert not allows(text, "/b")
    assert delay_in(text) is None


@pytest.mark.parametrize(
    "between", ["Noindex: /x", "Crawl-delay: 9", "Sitemap: http://e.com/s", "Host: e.com", "words"]
)
def test_lines_of_other_kinds_end_no_group(between: str) -> None:
    text = f"User-agent: sqspider\n{between}\nUser-agent: other\n{between}\nDisallow: /a\n{between}\nDisallow: /b\n"
    for token in ("sqspider", "other"):
        assert not allows(text, "/a", token)
        assert not allows(text, "/b", token)


def test_a_crawl_delay_is_that_of_the_agents_just_before_it() -> None:
    text = "User-agent: a\nCrawl-delay: 1\nUser-agent: b\nUser-agent: c\nCrawl-delay: 2\nUser-agent: d\nDisallow: /x\n"
    assert [delay_in(text, token) for token in "abcd"] == [1.0, 2.0, 2.0, None]
    assert [allows(text, "/x", token) for token in "abcde"] == [False, False, False, False, True]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
def test_line_feeds_and_carriage_returns_end_a_line(end: str) -> None:
    assert not allows(f"User-agent: *{end}Disallow: /a{end}Disallow: /b", "/a")
    assert not allows(f"User-agent: *{end}Disallow: /a{end}Disallow: /b", "/b")


@pytest.mark.parametrize("no_end", ["\v", "\f", "\x1c", "\x1d", "\x1e", "\x85", "\u2028", "\u2029"])
def test_nothing_else_ends_a_line(no_end: str) -> None:
    assert allows(f"User-agent: *\n# a comment{no_end}Disallow: /a\nDisallow: /b{no_end}Disallow: /c\n", "/a")
    assert allows(f"User-agent: *\nDisallow: /b{no_end}Disallow: /c\n", "/c")


@pytest.mark.parametrize(
    ("rest", "goes_on", "is_obeyed"),
    [
        (b"Disallow: /", b"archive/\n", False),
        (b"Disallow: /", b"\nDisallow: /x\n", True),  # cut off just at its end
        (b"Disallow: /\n", b"Disallow: /x\n", True),
        (b"Disallow: /", b"", True),  # a file of just that size
    ],
)
def test_a_line_that_is_cut_off_says_nothing(rest: bytes, goes_on: bytes, is_obeyed: bool) -> None:
    head = b"User-agent: *\nDisallow: /a\n"
    body = head + b"#" * (MAX_ROBOTS_BYTES - len(head) - len(rest) - 1) + b"\n" + rest
    assert len(body) == MAX_ROBOTS_BYTES
    assert allows(body + goes_on, "/b") is not is_obeyed
    assert not allows(body + goes_on, "/a")
    assert allows(body + goes_on, "/robots.txt")


def test_memory_is_that_of_the_file_however_many_agents_share_a_group() -> None:
    agents = [f"{a}{b}{c}" for a in "abcdefghijklmnopqrstuvwxyz" for b in "abcdefghijkl" for c in "abcdefghijkl"]
    body = "".join(f"user-agent:{agent}\n" for agent in agents) + "allow:/\n" * 10_000
    tracemalloc.start()
    rules = RobotsRules.parse(body.encode())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
    assert rules.verdict("http://e.com/", "abc").allowed


def test_the_deciding_line_is_named() -> None:
    body = b"\xef\xbb\xbfUser-agent: other\r\nDisallow: /\r\n\r\nUser-agent: SQSpider\r\nDisallow: /a\r\nDisallow: /a/b # why\r\n"
    rules = RobotsRules.parse(body)
    assert rules.verdict("http://example.com/a/bc", "sqspider") == (False, "Disallow: /a/b", 6)
    assert rules.verdict("http://example.com/a/c", "sqspider") == (False, "Disallow: /a", 5)
    assert rules.verdict("http://example.com/", "sqspider").allowed


@pytest.mark.parametrize(
    ("rule", "path"),
    [
        ("/*.gif$", "/a/b.gif"), ("/a$b", "/a$b"), ("/a%2Ab", "/a*b"), ("/%7Ejoe", "/~joe"), ("/ü", "/%C3%BC"),
        ("/a b", "/a%20b"), ("*", "/"), ("/*/x*y*/", "/q/xzy/"), ("/" + "*a" * 200, "/" + "a" * 200), ("/$", "/"),
    ],
)  # fmt: skip
def test_what_forbids_is_what_is_named(rule: str, path: str) -> None:
    rules = RobotsRules.parse(f"User-agent: sqspider/2\nNoindex: /\n\vDisallow: {rule} # why\n".encode())
    verdict = rules.verdict(f"http://e.com{path}", "sqspider")
    assert (verdict.allowed, verdict.line) == (False, 3)
    assert verdict.rule == f"Disallow: {rule}"[: len("Disallow: ") + MAX_RULE_SHOWN]


_pieces = st.lists(st.sampled_from(["/", "a", "b", "*", "$", "%2a", "%61", "?"]), max_size=6).map("".join)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.booleans(), _pieces), max_size=6), _pieces)
def test_the_greatest_of_the_rules_that_match_decides(lines: list[tuple[bool, str]], rest: str) -> None:
    """By a model that asks each rule by itself, as a regular expression (sections 2.2.2 and 2.2.3)."""

    def normal(text: str) -> str:
        return text.replace("%61", "a").replace("%2a", "%2A")

    def matches(pattern: str, path: str) -> bool:
        body, end = (pattern[:-1], r"\Z") if pattern.endswith("$") else (pattern, "")
        body = body.replace("$", "%24")
        return re.match(".*".join(map(re.escape, body.split("*"))) + end, path) is not None

    path = "/" + rest
    written = [(allow, "/" + value) for allow, value in lines]
    sought = normal(path).replace("*", "%2A").replace("$", "%24")
    matching = [
        (len(normal(value)) + 2 * normal(value)[:-1].count("$"), allow, -number)
        for number, (allow, value) in enumerate(written, 2)
        if matches(normal(value), sought)
    ]
    text = "User-agent: *\n" + "".join(f"{'Allow' if allow else 'Disallow'}: {value}\n" for allow, value in written)
    verdict = RobotsRules.parse(text.encode()).verdict(f"http://e.com{path}", "sqspider")
    _, allowed, minus_line = max(matching, default=(0, True, 0))
    assert (verdict.allowed, verdict.line) == (allowed, None if allowed else -minus_line)


def test_a_verdict_costs_the_same_whatever_it_is_and_however_many_rules_there_are() -> None:
    """Counted in calls, not in seconds: the table is looked into once for each length that occurs."""
    body = "User-agent: *\n" + "".join(f"Disallow: /a/{number:05}\n" for number in range(20_000))
    rules = RobotsRules.parse(body.encode()).prepare("sqspider")
    counts = []
    for path in ("/none", "/a/19999", "/a/00000/b"):
        calls = 0

        def count(*_: object) -> None:
            nonlocal calls
            calls += 1

        sys.setprofile(count)
        rules.verdict(f"http://e.com{path}", "sqspider")
        sys.setprofile(None)
        counts.append(calls)
    assert max(counts) < 50, counts


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


@pytest.mark.parametrize("start", [b"", b".", b"1e", b"1."])
def test_a_number_of_half_a_million_digits_takes_no_quadratic_time(start: bytes) -> None:
    """Or this would take hours."""
    body = b"User-agent: *\nCrawl-delay: " + start + b"1" * 500_000 + b"x\nDisallow: /x"
    assert RobotsRules.parse(body).crawl_delay("sqspider") is None


def test_a_hostile_pattern_takes_no_exponential_time() -> None:
    rules = RobotsRules.parse(b"User-agent: *\nDisallow: /" + b"a*" * 40 + b"b$")
    assert rules.verdict("http://example.com/" + "a" * 1500, "sqspider").allowed  # or it would never end


@given(st.binary(max_size=400), st.from_regex(r"/[a-z/?*$%]{0,20}", fullmatch=True))
def test_nothing_in_a_file_is_an_error(body: bytes, path: str) -> None:
    rules = RobotsRules.parse(body)
    rules.verdict(f"http://example.com{path}", "sqspider")
    rules.crawl_delay("sqspider")


def _answer(reason: Reason | None, status: int | None) -> Fetched:
    return Fetched(
        url="http://e.com/robots.txt", http_status=status, headers=(), body=b"", truncated=False,
        reason=reason, detail="", elapsed_seconds=0, sent_seconds=0,
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
        (_answer(Reason.TOO_MANY_REDIRECTS, 301), RobotsAccess.ALLOW_ALL),
        (_answer(Reason.BAD_REDIRECT, 301), RobotsAccess.ALLOW_ALL),
        (_answer(Reason.BAD_SCHEME, 301), RobotsAccess.ALLOW_ALL),
        (_answer(Reason.PRIVATE_ADDRESS, None), RobotsAccess.UNREACHABLE),
    ],
)
def test_an_answer_means_what_the_rfc_says(answer: Fetched, access: RobotsAccess) -> None:
    assert access_for(answer) is access


def test_a_redirect_to_where_we_do_not_go_is_no_file() -> None:
    assert access_for(_answer(Reason.PRIVATE_ADDRESS, None), is_redirected=True) is RobotsAccess.ALLOW_ALL
    assert access_for(_answer(Reason.CONNECTION_REFUSED, None), is_redirected=True) is RobotsAccess.UNREACHABLE
