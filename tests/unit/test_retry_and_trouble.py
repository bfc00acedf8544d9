"""When a URL is tried again; how hosts are slowed down, rested, probed, given up and forgiven, and when they are asked."""

from __future__ import annotations

import random
import re
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sqspider.crawl_settings import CrawlSettings
from sqspider.host import (
    LONGEST_CRAWL_DELAY_SECONDS,
    PROBE_DELAY_SECONDS,
    Entered,
    Entrance,
    HostRow,
    HostState,
    delay_for,
    delay_of,
    entered,
    saved,
    spacing_for,
    whole_lines,
    with_crawl_delay,
    with_orders,
    with_slots_taken_back,
)
from sqspider.host_trouble import (
    DOUBTED_PATIENCE_SECONDS,
    FAILURES_TO_REST,
    FIRST_PENALTY_SECONDS,
    FORGIVE_AFTER_SECONDS,
    GIVE_UP_PROBES,
    MAX_PENALTY_SECONDS,
    MAX_RETRY_AFTER_SECONDS,
    TROUBLE_KEPT_SECONDS,
    Patience,
    Stage,
    after_success,
    after_trouble,
    as_of,
    is_in_trouble,
    is_known,
    pays_for_probes,
    stage_of,
)
from sqspider.record import BLOCKING_REASONS, Reason, Status, reason_for_http_status, status_for
from sqspider.retry import FINAL, RULES, Fault, parse_retry_after, rule_for, wait_before_retry
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
    assert FINAL.fault is Fault.URL
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


@pytest.mark.parametrize("digits", [1, 15, 16, 40, 308, 400, 5000])
def test_however_many_digits_are_seconds(digits: int) -> None:
    """The host asked for a long rest: it gets the longest."""
    seconds = parse_retry_after("9" * digits, 1_700_000_000.0)
    assert seconds is not None
    assert seconds >= 9
    row = after_trouble(HostRow(host="h"), Reason.SERVER_ERROR, slows=True, fails=True, retry_after=seconds, now=1.0)
    assert row.rest_until == 1 + min(float("9" * digits), MAX_RETRY_AFTER_SECONDS)
    assert parse_retry_after("9" * digits + "s", 1_700_000_000.0) is None


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


def test_a_try_is_counted_only_where_a_request_was_made() -> None:
    uncounted = {reason for reason, rule in RULES.items() if rule.max_tries == 0}
    assert uncounted == {
        Reason.CONNECT_TIMEOUT, Reason.CONNECTION_REFUSED, Reason.UNREACHABLE, Reason.DNS_FAILURE, Reason.NO_ROUTE,
        Reason.PROXY_UNUSABLE, Reason.OWN_SHORTAGE,
    }  # fmt: skip
    assert {RULES[reason].fault for reason in uncounted} == {Fault.HOST, Fault.HOST_OR_OURS, Fault.OURS}


def _slowed(row: HostRow, now: float, retry_after: float | None = None) -> HostRow:
    return after_trouble(row, Reason.RATE_LIMITED, slows=True, fails=False, retry_after=retry_after, now=now)


def test_a_host_that_asks_for_less_is_slowed_and_its_slots_are_void() -> None:
    row = _slowed(HostRow(host="h"), 100.0, retry_after=30.0)
    assert row.rest_until == 130.0
    assert row.generation == 1
    assert delay_for(row, CrawlSettings(delay_seconds=1)) == 2.0
    for second in range(200, 220):
        row = _slowed(row, float(second))
    assert row.penalty_seconds == MAX_PENALTY_SECONDS


def test_of_a_burst_of_answers_the_longest_rest_holds_and_the_host_is_slowed_once() -> None:
    row = _slowed(HostRow(host="h"), 100.0, retry_after=30.0)
    for now in (100.0, 100.5, 101.0):
        same = after_trouble(
            row, Reason.RATE_LIMITED, slows=True, fails=False, retry_after=30.0, now=now, asked_at=99.0
        )
        assert same is row
    longer = after_trouble(
        row, Reason.RATE_LIMITED, slows=True, fails=False, retry_after=50.0, now=101.0, asked_at=99.0
    )
    assert (longer.rest_until, longer.penalty_seconds, longer.generation) == (151.0, 2.0, 2)


def test_retry_after_is_capped_at_a_day() -> None:
    assert _slowed(HostRow(host="h"), 1.0, retry_after=1e12).rest_until == 86_401.0


def _failed(row: HostRow, now: float, asked_at: float | None = None, **more: Any) -> HostRow:
    """A request that met trouble of the whole host."""
    more = {"slows": False, "retry_after": None, "has_answered": False, "rests_at_once": True} | more
    return after_trouble(row, Reason.CONNECTION_REFUSED, fails=True, now=now, asked_at=asked_at, **more)


def _until_given_up(row: HostRow, now: float, **more: Any) -> tuple[HostRow, list[float]]:
    """Probe a dead host as soon as it may be; the moments of its requests."""
    asked = []
    while True:
        asked.append(now)
        row = _failed(row, now, **more)
        if stage_of(row, now) is Stage.GIVEN_UP:
            return row, asked
        assert stage_of(row, now) is Stage.RESTING
        now = row.rest_until
        assert stage_of(row, now) is Stage.PROBING


def test_a_host_that_fails_many_times_in_a_row_is_rested() -> None:
    row = HostRow(host="h")
    for _ in range(FAILURES_TO_REST - 1):
        row = _failed(row, 50.0, rests_at_once=False)
        assert (row.rest_until, stage_of(row, 50.0)) == (0.0, Stage.WELL)
    row = _failed(row, 50.0, rests_at_once=False)
    assert row.rest_until == 55.0
    assert row.generation == 1
    assert after_success(row, now=56.0).failures == 0


def test_who_looks_for_pages_that_fail_may_have_no_host_rest_for_them() -> None:
    """But for what nobody answers at all, which is the host's."""
    patient = Patience(failures_to_rest=1000)
    row = HostRow(host="h")
    for _ in range(999):
        row = _failed(row, 50.0, rests_at_once=False, patience=patient)
    assert stage_of(row, 50.0) is Stage.WELL
    assert stage_of(_failed(row, 50.0, rests_at_once=False, patience=patient), 50.0) is Stage.RESTING
    assert stage_of(_failed(HostRow(host="h"), 50.0, rests_at_once=True, patience=patient), 50.0) is Stage.RESTING


def test_where_it_may_be_the_urls_a_host_rests_a_minute_at_most_and_they_pay_after_five_probes() -> None:
    row, now, pays, rests = HostRow(host="h"), 1000.0, [], []
    for _ in range(FAILURES_TO_REST + 9):
        row = _failed(row, now, rests_at_once=False, has_answered=True)
        if row.rests:
            pays.append(pays_for_probes(row))
            rests.append(row.rest_until - now)
        now = max(now, row.rest_until)
    assert rests == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0, 60.0, 60.0, 60.0]
    assert pays == [False] * 5 + [True] * 5


def test_trouble_without_a_request_rests_a_host_at_once() -> None:
    row = _failed(HostRow(host="h"), 50.0)
    assert (row.rest_until, row.rests, row.trouble_since) == (55.0, 1, 50.0)


@given(st.lists(st.floats(0, 5), min_size=1, max_size=40), st.booleans())
def test_a_burst_of_any_size_is_one_incident(lateness: list[float], rests_at_once: bool) -> None:
    """However many were asked at one moment, and whenever their trouble is seen: it is one rest."""
    row, again = HostRow(host="h"), None
    for late in sorted(lateness):
        again = _failed(row, 1000.0 + late, asked_at=1000.0, rests_at_once=rests_at_once)
        assert row.rests == 0 or again is row
        row = again
    assert row.rests == (rests_at_once or len(lateness) >= FAILURES_TO_REST)
    assert row.rest_until <= 1000.0 + max(lateness) + 5.0


@given(st.floats(1, 1e9), st.integers(1, 30))
def test_rests_double_up_to_an_hour_and_a_good_answer_ends_them(now: float, probes: int) -> None:
    row = HostRow(host="h")
    for number in range(probes):
        row = _failed(row, now, has_answered=True)
        assert row.rest_until - now == pytest.approx(min(5.0 * 2**number, 3600.0), abs=1e-6)
        now = row.rest_until
    well = after_success(row, now=now + 1, asked_at=now)
    assert (stage_of(well, now + 1), well.failures, well.trouble_since) == (Stage.WELL, 0, 0.0)
    assert _failed(well, now + 2).rest_until - (now + 2) == pytest.approx(5.0, abs=1e-6)


def test_an_answer_that_was_asked_for_before_the_rest_is_no_news() -> None:
    row = _failed(HostRow(host="h"), 1000.0)
    assert after_success(row, now=1001.0, asked_at=999.0) is row
    late = after_success(row, now=1006.0, asked_at=1005.0)
    assert late.rests == 0
    assert _failed(late, 1030.0, asked_at=999.0) is late  # a time limit that ran out long after all is well
    assert is_known(late, 999.0)


def test_a_host_that_never_answered_is_given_up_after_five_probes_and_one_that_has_after_a_day() -> None:
    row, asked = _until_given_up(HostRow(host="h"), 1000.0)
    assert [moment - 1000.0 for moment in asked] == [0.0, 5.0, 15.0, 35.0, 75.0]
    assert (row.rests, row.given_up_at, row.trouble) == (GIVE_UP_PROBES, 1075.0, Reason.CONNECTION_REFUSED)
    row, asked = _until_given_up(HostRow(host="h"), 1000.0, has_answered=True)
    assert asked[-2] - 1000.0 < 86_400.0 <= asked[-1] - 1000.0
    assert len(asked) == 34  # nine that double, then one an hour
    assert _failed(row, asked[-1] + 1) is row


def test_urls_that_fail_give_no_host_up_that_answers_others_however_short_its_patience() -> None:
    """For an hour at least: by then they have ended by their tries, or another one was answered."""
    short = Patience(new_host_seconds=5.0, known_host_seconds=5.0)
    doubted: dict[str, Any] = {"rests_at_once": False, "patience": short}
    many = HostRow(host="h", failures=FAILURES_TO_REST)
    _, asked = _until_given_up(many, 1000.0, has_answered=True, **doubted)
    assert asked[-2] - 1000.0 < DOUBTED_PATIENCE_SECONDS <= asked[-1] - 1000.0
    assert len(asked) > 3 * FAILURES_TO_REST + GIVE_UP_PROBES  # which have ended meanwhile
    for row, has_answered, rests_at_once in ((many, False, False), (HostRow(host="h"), True, True)):
        more = doubted | {"has_answered": has_answered, "rests_at_once": rests_at_once}
        assert _until_given_up(row, 1000.0, **more)[1][-1] == 1075.0


@given(st.lists(st.floats(0, 1e6), max_size=GIVE_UP_PROBES - 2))
def test_no_nap_gives_a_host_up(naps: list[float]) -> None:
    """Time alone may have been slept through: it takes probes that failed."""
    row, now = _failed(HostRow(host="h"), 1000.0), 1000.0
    for nap in naps:
        now = row.rest_until + nap
        row = _failed(row, now)
        assert stage_of(row, now) is Stage.RESTING


def test_a_host_that_was_given_up_is_tried_anew_after_an_hour() -> None:
    row, asked = _until_given_up(HostRow(host="h"), 1000.0)
    over = asked[-1] + TROUBLE_KEPT_SECONDS
    assert stage_of(as_of(row, over - 1), over - 1) is Stage.GIVEN_UP
    anew = as_of(row, over + 1)
    assert (anew.rests, anew.trouble, anew.given_up_at, stage_of(anew, over + 1)) == (0, None, 0.0, Stage.WELL)
    assert _failed(anew, over + 2).rest_until == over + 7


def test_to_resume_a_host_ends_its_rest_and_forgives_it() -> None:
    for row in (_failed(HostRow(host="h"), 1000.0), _until_given_up(HostRow(host="h"), 1000.0)[0]):
        resumed = with_orders(row, delay=None, is_paused=False, is_blocked=None)
        assert (stage_of(resumed, 1001.0), resumed.rest_until, resumed.trouble) == (Stage.WELL, 0.0, None)
        assert resumed.generation == row.generation + 1
        slower = with_orders(row, delay=2.0, is_paused=None, is_blocked=None)
        assert stage_of(slower, 1001.0) is stage_of(row, 1001.0)


def test_in_an_incident_one_probes_for_all() -> None:
    row = _failed(HostRow(host="h"), 1000.0)
    now = row.rest_until
    assert delay_for(row, CrawlSettings(delay_seconds=0)) == PROBE_DELAY_SECONDS
    assert delay_for(msgspec.structs.replace(row, delay_seconds=0.0), CrawlSettings()) == PROBE_DELAY_SECONDS

    def entrance(token: str) -> Entrance:
        return Entrance(host="h", token=token, delay_seconds=1.0, per_host=9, generation=None, until=now + 30)

    state, first = entered(HostState(row=row), entrance("a"), now)
    _, second = entered(state, entrance("b"), now + 2)
    assert (first.entered, second.entered) == (Entered.YES, Entered.BUSY)


def test_slots_that_are_too_far_are_taken_back_and_no_others() -> None:
    far = HostRow(host="h", next_slot=2000.0, slot_spacing_seconds=10.0)
    assert with_slots_taken_back(far, 5.0, 1000.0).generation == 1
    assert with_slots_taken_back(far, 5.1, 1000.0) is far
    assert with_slots_taken_back(far, 1.0, 1950.0) is far
    resting = msgspec.structs.replace(far, rest_until=1990.0)
    assert with_slots_taken_back(resting, 1.0, 1000.0) is resting


@given(
    st.floats(0, 1e6), st.floats(0, 1e5), st.floats(0, MAX_PENALTY_SECONDS), st.none() | st.floats(0, 1e4),
    st.floats(0, 1e4), st.floats(0, 1e4), st.booleans(),
)  # fmt: skip
def test_slots_are_taken_back_once(
    ahead: float,
    handed_out: float,
    penalty: float,
    ordered: float | None,
    rest: float,
    crawl_delay: float,
    is_said: bool,
) -> None:
    """Whatever the delay is: what was taken back is not taken back again."""
    now = 1000.0
    row = HostRow(
        host="h", next_slot=now + ahead, slot_spacing_seconds=handed_out, penalty_seconds=penalty,
        delay_seconds=ordered, rest_until=now + rest, crawl_delay_seconds=crawl_delay,
    )  # fmt: skip
    spacing = spacing_for(row, delay_for(row, CrawlSettings(delay_seconds=0)))
    said_after = 0.0 if is_said else None  # by then nothing is left of what this worker has handed out
    taken = with_slots_taken_back(row, spacing, now, said_after)
    if taken is not row:
        state, is_saved = saved(HostState(row=row), taken, now)
        assert is_saved
        assert with_slots_taken_back(state.row, spacing, now, said_after) is state.row


def test_a_penalty_is_forgiven_step_by_step() -> None:
    row = _slowed(_slowed(HostRow(host="h"), 1.0), 2.0)
    assert row.penalty_seconds == 4.0
    assert after_success(row, now=3.0) is row
    now = 2.0
    seen = []
    while row.penalty_seconds:
        now += FORGIVE_AFTER_SECONDS
        row = after_success(row, now=now)
        seen.append(row.penalty_seconds)
    assert seen == [2.0, 1.0, 0.5, 0.0]


def test_trouble_is_forgotten_after_an_hour_or_with_the_last_of_its_penalty() -> None:
    slowed = _slowed(HostRow(host="h"), 1000.0)
    assert as_of(slowed, 1000.0 + TROUBLE_KEPT_SECONDS) is slowed
    forgotten = as_of(slowed, 1001.0 + TROUBLE_KEPT_SECONDS)
    assert (delay_of(forgotten), forgotten.trouble, forgotten.failures) == (0.0, None, 0)
    again = _slowed(forgotten, 1001.0 + TROUBLE_KEPT_SECONDS)
    assert again.penalty_seconds == FIRST_PENALTY_SECONDS  # what is forgotten is not doubled
    resting = _slowed(HostRow(host="h"), 1000.0, retry_after=7200.0)
    assert as_of(resting, 1000.0 + 7200.0 + TROUBLE_KEPT_SECONDS) is resting
    while slowed.penalty_seconds:
        slowed = after_success(slowed, now=slowed.penalty_since + FORGIVE_AFTER_SECONDS)
    assert slowed.trouble is None


def test_one_bad_page_is_no_trouble_of_its_host() -> None:
    row = HostRow(host="h")
    for _ in range(3):  # as often as a page is tried
        row = after_trouble(row, Reason.SERVER_ERROR, slows=False, fails=True, retry_after=None, now=1000.0)
    assert (row.failures, row.trouble) == (3, Reason.SERVER_ERROR)
    assert not is_in_trouble(row, 1000.0)
    assert after_success(row, now=1001.0).trouble is None


_answers = st.one_of(
    st.none(),  # a good one
    st.builds(
        lambda slows, retry_after: {"slows": slows, "fails": not slows, "retry_after": retry_after},
        st.booleans(),
        st.none() | st.floats(0, 90_000),
    ),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.floats(0, 5000), _answers), max_size=30), st.floats(0, 1e5), st.floats(0, 1e5))
def test_a_host_comes_into_trouble_by_an_answer_only(
    story: list[tuple[float, dict[str, Any] | None]], first: float, second: float
) -> None:
    """So whoever marks rows as they are written misses none."""
    row, now = HostRow(host="h"), 1e9
    for seconds, trouble in story:
        now += seconds
        row = after_success(row, now=now) if trouble is None else after_trouble(
            row, Reason.SERVER_ERROR, now=now, **trouble
        )  # fmt: skip
        if is_in_trouble(row, now):
            assert row.trouble is Reason.SERVER_ERROR
    if not is_in_trouble(row, now + first):
        assert not is_in_trouble(row, now + first + second)


def test_a_crawl_delay_holds_up_to_a_limit() -> None:
    row = with_crawl_delay(HostRow(host="h"), 1e300)
    assert row.crawl_delay_seconds == LONGEST_CRAWL_DELAY_SECONDS
    assert delay_for(row, CrawlSettings()) == 60.0
    assert delay_for(row, CrawlSettings(max_crawl_delay_seconds=300.0)) == 300.0
    assert delay_for(row, CrawlSettings(max_crawl_delay_seconds=0.0, delay_seconds=2.0)) == 2.0
    assert delay_for(row, CrawlSettings(delay_seconds=90.0)) == 90.0
    penalized, now = row, 0.0
    while penalized.penalty_seconds < MAX_PENALTY_SECONDS:
        now += 1
        penalized = _slowed(penalized, now)
    assert delay_for(penalized, CrawlSettings()) == MAX_PENALTY_SECONDS


@settings(deadline=None)
@given(st.lists(st.sampled_from([b"Disallow: /a", b"\n", b"\r", b"\r\n"])).map(b"".join), st.integers(0, 60))
def test_only_whole_lines_are_kept_of_a_file_that_is_too_long(body: bytes, limit: int) -> None:
    kept = whole_lines(body, limit)
    assert body.startswith(kept)
    assert len(kept) <= limit or kept == body
    assert kept == body or body[len(kept) : len(kept) + 1] in (b"\n", b"\r") or kept == b""
    next_end = re.search(rb"[\r\n]", body[len(kept) + 1 : limit + 1])
    assert next_end is None  # no more would have fitted


def test_the_operators_delay_beats_every_other() -> None:
    row = with_crawl_delay(HostRow(host="h"), 10.0)
    assert delay_for(row, CrawlSettings(delay_seconds=3)) == 10.0
    ordered = with_orders(row, delay=0.5, is_paused=None, is_blocked=None)
    assert delay_for(ordered, CrawlSettings(delay_seconds=3)) == 0.5
    assert ordered.generation == row.generation + 1


@given(st.floats(0, 100), st.floats(0, 100))
def test_slots_are_never_closer_than_the_delay(delay: float, latency: float) -> None:
    assert spacing_for(HostRow(host="h", latency_seconds=latency), delay) >= delay


def test_who_may_begin_late_keeps_others_away_for_as_much_longer() -> None:
    def wish(token: str, begins_within: float = 0.0) -> Entrance:
        return Entrance(
            host="h",
            token=token,
            delay_seconds=1.0,
            per_host=2,
            generation=None,
            until=130.0,
            begins_within=begins_within,
        )

    state, admission = entered(HostState(row=HostRow(host="h")), wish("a", begins_within=1.5), 100.0)
    assert admission.entered is Entered.YES
    _, admission = entered(state, wish("b"), 102.0)
    assert (admission.entered, admission.again_at) == (Entered.BUSY, 102.5)
    _, admission = entered(state, wish("b"), 102.5)
    assert admission.entered is Entered.YES
