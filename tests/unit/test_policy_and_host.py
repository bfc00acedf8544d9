"""When to try again, and how hosts are slowed down and forgiven."""

from __future__ import annotations

import random
import re
from datetime import datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.host import (
    FAILURES_TO_REST,
    FORGIVE_AFTER_SECONDS,
    MAX_PENALTY_SECONDS,
    HostRow,
    after_success,
    after_trouble,
    delay_for,
    spacing_for,
    with_crawl_delay,
    with_orders,
)
from sqspider.message import BadBody, CrawlSettings, Message, decode_message, encode_message
from sqspider.policy import FINAL, RULES, parse_retry_after, rule_for, wait_before_retry
from sqspider.record import BLOCKING_REASONS, Reason, Status, reason_for_http_status, status_for
from tests.conftest import load_cases


@pytest.mark.parametrize("reason", [Reason.TIMEOUT, Reason.CONNECTION_RESET, Reason.SERVER_ERROR])
def test_passing_trouble_is_tried_twice_more_with_a_doubling_wait(reason: Reason) -> None:
    rng = random.Random(1)
    first = wait_before_retry(rule_for(reason), 1, 2.0, None, rng)
    second = wait_before_retry(rule_for(reason), 2, 2.0, None, rng)
    assert first is not None
    assert second is not None
    assert 2.0 <= first <= 2.5
    assert 4.0 <= second <= 5.0
    assert wait_before_retry(rule_for(reason), 3, 2.0, None, rng) is None


@given(st.sampled_from(list(Reason)), st.integers(1, 50), st.floats(0, 1e6))
def test_a_wait_is_never_shorter_than_retry_after(reason: Reason, tries: int, retry_after: float) -> None:
    wait = wait_before_retry(rule_for(reason), tries, 2.0, retry_after, random.Random(0))
    assert wait is None or wait >= retry_after


def test_what_we_decide_is_final() -> None:
    assert not BLOCKING_REASONS & RULES.keys()
    assert rule_for(Reason.CLIENT_ERROR) == FINAL


@pytest.mark.parametrize("http_status", [408, 425, 429, 500, 502, 503, 504, 522])
def test_a_passing_answer_is_tried_again(http_status: int) -> None:
    reason = reason_for_http_status(http_status)
    assert reason is not None
    assert rule_for(reason, http_status).max_tries > 1


@pytest.mark.parametrize("http_status", [400, 401, 403, 404, 410, 451])
def test_a_lasting_answer_is_final(http_status: int) -> None:
    assert rule_for(Reason.CLIENT_ERROR, http_status) == FINAL


def test_a_503_slows_its_host_as_a_429_does() -> None:
    assert rule_for(Reason.SERVER_ERROR, 503).slows
    assert not rule_for(Reason.SERVER_ERROR, 500).slows
    assert rule_for(Reason.RATE_LIMITED, 429).slows


def test_retry_after_agrees_with_peers() -> None:
    for case in load_cases("practice/05c_retry_after.json")["cases"]:
        now = datetime.fromisoformat(case["now_utc"]).timestamp()
        expected = case["expected_delay_s"]
        got = parse_retry_after(case["header"], now)
        assert got == (None if isinstance(expected, str) else expected), case["id"]


@given(st.text(max_size=60))
def test_no_retry_after_is_negative_or_fatal(header: str) -> None:
    seconds = parse_retry_after(header, 1_700_000_000.0)
    assert seconds is None or seconds >= 0


@pytest.mark.parametrize(
    ("http_status", "reason"),
    [
        (200, None), (204, None), (206, Reason.UNEXPECTED_STATUS), (304, Reason.UNEXPECTED_STATUS),
        (404, Reason.CLIENT_ERROR), (429, Reason.RATE_LIMITED), (503, Reason.SERVER_ERROR),
        (101, Reason.UNEXPECTED_STATUS), (999, Reason.UNEXPECTED_STATUS),
    ],
)  # fmt: skip
def test_an_http_status_has_one_reason(http_status: int, reason: Reason | None) -> None:
    assert reason_for_http_status(http_status) is reason


def test_every_reason_ends_as_failed_or_blocked() -> None:
    assert status_for(None) is Status.DONE
    assert {status_for(reason) for reason in Reason} == {Status.FAILED, Status.BLOCKED}
    assert status_for(Reason.ROBOTS) is Status.BLOCKED


def _slowed(row: HostRow, now: float, retry_after: float | None = None) -> HostRow:
    return after_trouble(row, Reason.RATE_LIMITED, slows=True, fails=False, retry_after=retry_after, now=now)


def test_a_host_that_asks_for_less_is_slowed_and_its_slots_are_void() -> None:
    row = _slowed(HostRow(host="h"), 100.0, retry_after=30.0)
    assert row.rest_until == 130.0
    assert row.generation == 1
    assert delay_for(row, CrawlSettings(delay_seconds=1)) == 2.0
    for _ in range(20):
        row = _slowed(row, 100.0)
    assert row.penalty_seconds == MAX_PENALTY_SECONDS


def test_retry_after_is_capped_at_a_day() -> None:
    assert _slowed(HostRow(host="h"), 0.0, retry_after=1e12).rest_until == 86_400.0


def test_a_host_that_fails_many_times_in_a_row_is_rested() -> None:
    row = HostRow(host="h")
    for _ in range(FAILURES_TO_REST - 1):
        row = after_trouble(row, Reason.TIMEOUT, slows=False, fails=True, retry_after=None, now=50.0)
        assert row.rest_until == 0
    row = after_trouble(row, Reason.TIMEOUT, slows=False, fails=True, retry_after=None, now=50.0)
    assert row.rest_until == 110.0
    assert row.generation == 1
    assert after_success(row, now=120.0).failures == 0


def test_a_penalty_is_forgiven_step_by_step() -> None:
    row = _slowed(_slowed(HostRow(host="h"), 0.0), 0.0)
    assert row.penalty_seconds == 4.0
    assert after_success(row, now=1.0) is row
    now = 0.0
    seen = []
    while row.penalty_seconds:
        now += FORGIVE_AFTER_SECONDS
        row = after_success(row, now=now)
        seen.append(row.penalty_seconds)
    assert seen == [2.0, 1.0, 0.5, 0.0]


def test_the_operators_delay_beats_every_other() -> None:
    row = with_crawl_delay(HostRow(host="h"), 10.0)
    assert delay_for(row, CrawlSettings(delay_seconds=3)) == 10.0
    ordered = with_orders(row, delay=0.5, is_paused=None, is_blocked=None)
    assert delay_for(ordered, CrawlSettings(delay_seconds=3)) == 0.5
    assert ordered.generation == row.generation + 1


@given(st.floats(0, 100), st.floats(0, 100))
def test_slots_are_never_closer_than_the_delay(delay: float, latency: float) -> None:
    assert spacing_for(HostRow(host="h", latency_seconds=latency), delay) >= delay


_settings = st.builds(
    CrawlSettings,
    max_depth=st.none() | st.integers(0, 9),
    include=st.lists(st.text().map(re.escape), max_size=2).map(tuple),
    delay_seconds=st.floats(0, 86_400),
    per_host=st.integers(1, 9),
)


@given(st.integers(0, 1000), st.none() | st.text(), _settings, st.none() | st.floats(0, 1e11))
def test_a_message_survives_its_journey(
    depth: int, parent: str | None, settings: CrawlSettings, slot: float | None
) -> None:
    message = Message(url="http://example.com/", depth=depth, parent=parent, settings=settings, slot=slot)
    try:
        body = encode_message(message)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return  # a lone surrogate in a text: no frontier can hold it either
    assert decode_message(body) == message


def test_a_plain_url_is_a_message() -> None:
    assert decode_message(" HTTP://Example.com \n") == Message(url="http://example.com/")


@pytest.mark.parametrize(
    "body", ["", "hello", "ftp://example.com/", "{", "{}", '{"url": 1}', '{"url":"http://e.com/","depth":-1}', "[1]"]
)
def test_what_is_neither_is_no_message(body: str) -> None:
    assert isinstance(decode_message(body), BadBody)
