"""What all adapters decide alike, by cases and by properties."""

from __future__ import annotations

import math
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.frontier import ClaimRequest, Delivery, Entry, Finish, Lost, LostReason, Retry, Won
from sqspider.frontier.answers import (
    LONGEST_LOOK_AGAIN_SECONDS,
    Claimant,
    Reopened,
    claim_told,
    claimed,
    claimed_in_order,
    counted,
    counts_of,
    enqueued_in_order,
    first_request_of_each,
    given_back,
    host_sums,
    is_dead,
    is_held,
    next_look,
    not_before,
    reopened,
)
from sqspider.host import SUMS, HostRow, with_sums
from sqspider.message import Message
from sqspider.record import LIFE, Kept, Operation, Outcome, Reason, Status, UrlRecord, status_for

from .kit import DONE, FORBIDDEN, GONE, TROUBLE, url

NOW = 1_700_000_000.0
ME = Claimant("me", "c1", 60.0)
DELIVERY = Delivery(message_id="1", receipt="r", body="b", receive_count=1, sent_at=NOW)
QUEUED = UrlRecord(url=url("a"), status=Status.QUEUED, lease_until=0.0)
HELD = UrlRecord(
    url=url("a"),
    status=Status.PROCESSING,
    attempt=3,
    unended=2,
    tries=1,
    worker_id="other",
    claim_id="c1",
    lease_until=NOW + 5,
)

replace = msgspec.structs.replace
names = st.sampled_from([url(name) for name in "abc"])


def request(name: str, depth: int = 0) -> ClaimRequest:
    return ClaimRequest(delivery=DELIVERY, message=Message(url=name, depth=depth))


# Batches.


@given(st.lists(st.builds(Entry, url=names)), st.sets(names))
def test_of_entries_for_one_url_the_first_is_new(entries: list[Entry], new: set[str]) -> None:
    answers = enqueued_in_order(entries, new)
    assert answers == [e.url in new and e.url not in [b.url for b in entries[:i]] for i, e in enumerate(entries)]


@given(st.lists(names, min_size=1), st.data())
def test_what_the_first_of_several_requests_wins_is_held_for_the_others(asked: list[str], data: st.DataObject) -> None:
    requests = [request(name, depth) for depth, name in enumerate(asked)]
    first = first_request_of_each(requests)
    assert {name: r.message.depth for name, r in first.items()} == {name: asked.index(name) for name in asked}
    answers: dict[str, Won | Lost] = {}
    for name in first:
        possible: list[Won | Lost] = [Lost(url=name, why=why, lease_until=NOW) for why in LostReason]
        answers[name] = data.draw(st.sampled_from([claimed(name, QUEUED, ME, NOW), *possible]))
    told = claimed_in_order(requests, answers)
    for i, (name, answer) in enumerate(zip(asked, told, strict=True)):
        if isinstance(answers[name], Won) and name in asked[:i]:
            assert answer == Lost(url=name, why=LostReason.HELD, lease_until=NOW + ME.lease_seconds)
        else:
            assert answer is answers[name]


# Claims.


def test_a_record_that_nobody_holds_is_free() -> None:
    for record in (QUEUED, replace(HELD, lease_until=NOW - 1), replace(HELD, worker_id="me", lease_until=NOW - 1)):
        assert claim_told(record.url, record, ME, NOW) is None
        won = claimed(record.url, record, ME, NOW)
        assert (won.attempt, won.unended, won.tries) == (record.attempt + 1, record.unended + 1, record.tries)
        assert (won.worker_id, won.claim_id, won.lease_until) == ("me", "c1", NOW + 60)


@pytest.mark.parametrize("lease_until", [NOW, NOW + 5])
def test_a_live_lease_holds_for_all_but_its_own_claim(lease_until: float) -> None:
    record = replace(HELD, lease_until=lease_until)
    held = Lost(url=record.url, why=LostReason.HELD, lease_until=lease_until)
    assert claim_told(record.url, record, ME, NOW) == held
    assert claim_told(record.url, record, Claimant("other", "c2", 60.0), NOW) == held
    own = claim_told(record.url, record, Claimant("other", "c1", 60.0), NOW)
    assert own == Won(
        url=record.url,
        attempt=3,
        unended=2,
        tries=1,
        worker_id="other",
        claim_id="c1",
        lease_until=lease_until,
    )


@pytest.mark.parametrize("status", [status for status in Status if status.is_final])
def test_what_is_final_is_finished_for_everybody(status: Status) -> None:
    for claimant in (ME, Claimant("other", "c1", 60.0)):
        record = replace(HELD, status=status, lease_until=None)
        assert claim_told(record.url, record, claimant, NOW) == Lost(url=record.url, why=LostReason.FINISHED)


@pytest.mark.parametrize("by", [Operation.FINISH, Operation.RETRY])
def test_a_claim_is_held_until_a_later_one_is_made_or_it_is_ended(by: Operation) -> None:
    claim = claimed(QUEUED.url, QUEUED, ME, NOW)
    record = replace(QUEUED, status=Status.PROCESSING, **msgspec.structs.asdict(claim))
    assert is_held(record, claim, by)
    assert is_held(replace(record, lease_until=NOW - 1), claim, by)  # until somebody else claims it
    assert not is_held(None, claim, by)
    others = [replace(record, attempt=2), replace(record, worker_id="v"), replace(record, claim_id="c2")]
    others += [replace(record, status=status) for status in Status if status is not Status.PROCESSING]
    assert not any(is_held(other, claim, by) for other in others)


@pytest.mark.parametrize(("is_unused", "unended"), [(True, 1), (False, 0)])
@pytest.mark.parametrize("tried", [True, False])
def test_what_is_given_back_unused_is_as_it_was(is_unused: bool, unended: int, tried: bool) -> None:
    claim = claimed(HELD.url, replace(HELD, unended=1, lease_until=0.0), ME, NOW)
    retry = Retry(claim=claim, delivery=DELIVERY, at=NOW, tried=tried, is_unused=is_unused)
    assert given_back(retry) == (unended, HELD.tries + tried)


# Moments.


def test_what_is_past_or_no_moment_is_now() -> None:
    moments = [-math.inf, NOW - 1, NOW, NOW + 1, math.nan]
    assert [not_before(NOW, moment) for moment in moments] == [NOW, NOW, NOW, NOW + 1, NOW]


def test_the_longer_a_message_waits_the_more_seldom_its_record_is_looked_at() -> None:
    looks = [next_look(NOW, 120.0, waits_since=NOW - waited) - NOW for waited in (0, 200, 240, 720, 10**6)]
    assert looks == [120.0, 120.0, 120.0, 600.0, LONGEST_LOOK_AGAIN_SECONDS]
    assert next_look(NOW, 120.0) == NOW + 120.0
    assert next_look(NOW, 7200.0, waits_since=NOW - 10**6) == NOW + 7200.0  # never sooner than the settings say


def test_a_message_dies_at_the_delivery_after_the_last_that_it_may_have() -> None:
    assert [is_dead(receives, 3) for receives in range(5)] == [False, False, False, True, True]


# Sums.

outcomes = st.builds(
    lambda reason, size, leads: Outcome(
        status=status_for(reason),
        reason=reason,
        bytes=size,
        http_status=301 if leads else 200,
        redirect_to=url("b") if leads else None,
        elapsed_ms=7,
    ),
    st.sampled_from([None, *Reason]),
    st.integers(0, 10),
    st.booleans(),
)


@given(st.lists(st.lists(outcomes, max_size=3), max_size=20))
def test_sums_that_moved_step_by_step_are_those_of_the_records(lives: list[list[Outcome]]) -> None:
    """However often records went back and forth before: queued, processing, and finished where there is an outcome,
    reopened where there are several."""
    stepwise, at_once = Counter[str](), Counter[str]()
    for life in lives:
        stepwise.update(counted(None, Status.QUEUED))
        stepwise.update(counted(Status.QUEUED, Status.PROCESSING))
        stepwise.update(counted(Status.PROCESSING, Status.PROCESSING, DONE))  # claimed again
        stepwise.update(counted(Status.PROCESSING, Status.QUEUED, TROUBLE))  # what the last try met is counted by none
        for visit, outcome in enumerate(life):
            if visit:
                stepwise.update(counted(life[visit - 1].status, Status.QUEUED, life[visit - 1]))
            stepwise.update(counted(Status.QUEUED, Status.PROCESSING))
            stepwise.update(counted(Status.PROCESSING, outcome.status, outcome))
        at_once.update(counted(None, life[-1].status if life else Status.QUEUED, life[-1] if life else None))
    counts = counts_of(stepwise)
    assert counts == counts_of(at_once)
    assert (counts.total, counts.open) == (len(lives), sum(not life for life in lives))
    finished = [life[-1] for life in lives if life]
    assert counts.bytes == sum(outcome.bytes for outcome in finished)
    assert counts.redirects == sum(outcome.is_redirect for outcome in finished)
    reasons = Counter(outcome.reason for outcome in finished if outcome.reason is not None)
    assert counts.by_reason == dict(reasons)


@given(st.integers(1, 100), outcomes)
def test_many_at_once_count_as_many(count: int, outcome: Outcome) -> None:
    one_by_one = Counter[str]()
    for _ in range(count):
        one_by_one.update(counted(Status.PROCESSING, outcome.status, outcome))
    assert counted(Status.PROCESSING, outcome.status, outcome, count=count) == dict(one_by_one)


def test_names_of_sums_are_those_that_stored_frontiers_have() -> None:
    changes = counted(Status.PROCESSING, GONE.status, GONE)
    assert changes == {"processing": -1, "failed": 1, "bytes": GONE.bytes, "reason:client_error": 1}


def test_hosts_sums_are_those_of_their_finishes() -> None:
    claims = [claimed(url(i, f"h{i % 2}.example"), QUEUED, ME, NOW) for i in range(4)]
    ends = [
        Finish(claim=c, delivery=None, outcome=o) for c, o in zip(claims, (DONE, GONE, FORBIDDEN, GONE), strict=True)
    ]
    first, second = host_sums(ends).values()
    assert (first["done"], first["blocked"], first["bytes"], first["answered"]) == (1, 1, 100, 1)
    row = with_sums(with_sums(HostRow(host="h1.example", version=3), second), second)
    assert row == HostRow(host="h1.example", version=3, failed=4, bytes=4 * GONE.bytes, busy_seconds=0.04, answered=4)
    assert set(first) | set(second) <= set(SUMS)
    unread = replace(DONE, unchanged=True)
    assert host_sums([replace(ends[0], outcome=unread)])["h0.example"]["bytes"] == 0, "nothing was read of it"
    assert msgspec.json.decode(msgspec.json.encode(row), type=HostRow) == row  # whole numbers stay whole


# The table.


def test_claims_and_ends_are_those_of_the_table() -> None:
    claim = claimed(HELD.url, replace(HELD, lease_until=0.0), ME, NOW)
    for status in Status:
        lease = None if status.is_final else 0.0
        record = replace(HELD, **msgspec.structs.asdict(claim))
        record = replace(record, status=status, lease_until=lease)
        is_free = claim_told(record.url, record, ME, NOW) is None
        assert is_free == (status in LIFE[Operation.CLAIM])
        for by in (Operation.FINISH, Operation.RETRY):
            assert is_held(record, claim, by) == (status in LIFE[by])
        assert (reopened(record, if_changed=True) is not None) == (status in LIFE[Operation.REOPEN])


def test_a_record_that_is_reopened_begins_its_next_visit_with_no_trouble() -> None:
    record = replace(HELD, status=Status.FAILED, visit=2, outcome=TROUBLE)
    assert reopened(record, if_changed=True) == Reopened(visit=3, kept=Kept(has_failed=True), unended=0, tries=0)
