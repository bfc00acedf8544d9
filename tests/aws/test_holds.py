"""Holds: a page with a delay costs one write of its host's row, and its host is as safe as by three."""

from __future__ import annotations

import msgspec
import pytest

from sqspider.frontier import Entered, Entrance, Exit, SlotDemand
from sqspider.frontier.aws import AwsFrontier
from sqspider.frontier.aws.client import Call
from sqspider.frontier.aws.holds import BEGIN_SECONDS, HAND_OVER_SECONDS, HELD_SECONDS, PROLONG_SECONDS
from sqspider.host import Admission, with_orders
from tests.frontier.kit import A_LITTLE

from .store import AwsStore

HOST = "a.example"
DELAY = 10.0
QUICK = 0.1  # a hold is good for several requests
DEMAND = SlotDemand(host=HOST, count=1, spacing_seconds=DELAY, generation=0, is_entered=True)


async def enter(
    frontier: AwsFrontier, store: AwsStore, token: str, seconds: float = 100.0, *, delay: float = DELAY
) -> Admission:
    entrance = Entrance(
        host=HOST, token=token, delay_seconds=delay, per_host=1, generation=0, until=store.clock() + seconds,
        heeds_lapse=True,
    )  # fmt: skip
    return (await frontier.enter([entrance]))[0]


async def leave(frontier: AwsFrontier, token: str, requested_at: float) -> None:
    await frontier.leave([Exit(host=HOST, token=token, requested_at=requested_at, latency_seconds=0.1)])


def writes_of(frontier: AwsFrontier) -> list[Call]:
    seen: list[Call] = []
    frontier.client.observers.append(lambda call: seen.append(call) if call.action == "BatchExecuteStatement" else None)
    return seen


async def test_a_slot_its_entry_and_its_end_are_one_write(store: AwsStore) -> None:
    frontier, other = await store.open(), await store.open()
    writes, began = writes_of(frontier), store.clock()
    assert await frontier.reserve([DEMAND]) != [None]
    admission = await enter(frontier, store, "t")
    await leave(frontier, "t", store.clock())
    assert admission.entered is Entered.YES
    assert len(writes) == 1
    # That it was asked, and how long it took, is in the next write.
    assert (await other.hosts([HOST]))[HOST].last_request == 0.0
    await frontier.flush(all_hosts=True)
    row = (await other.hosts([HOST]))[HOST]
    assert row.last_request >= began
    assert row.latency_seconds == pytest.approx(0.03)


async def test_others_are_kept_away_until_a_hold_lapses(store: AwsStore) -> None:
    """By its delay after the last moment at which a request could leave, whatever has become of its process."""
    frontier, other = await store.open(), await store.open()
    admission = await enter(frontier, store, "t")
    assert admission.lapses_at >= store.clock() + BEGIN_SECONDS / 2 + DELAY
    await leave(frontier, "t", store.clock())
    await store.elapse(DELAY)
    assert (await enter(other, store, "u")).entered is Entered.BUSY
    await store.elapse(admission.lapses_at + HAND_OVER_SECONDS + A_LITTLE - store.clock())
    assert (await enter(other, store, "u")).entered is Entered.YES


async def test_a_request_that_takes_longer_is_prolonged(store: AwsStore) -> None:
    frontier, other = await store.open(), await store.open()
    admission = await enter(frontier, store, "t")
    await store.elapse(admission.lapses_at - PROLONG_SECONDS - store.clock())
    assert (await enter(frontier, store, "t")) == Admission(entered=Entered.YES)
    await store.elapse(2 * PROLONG_SECONDS)
    assert (await enter(other, store, "u")).entered is Entered.BUSY
    await leave(frontier, "t", store.clock())  # it is written, and others may come a delay after it
    assert (await enter(other, store, "v")).entered is Entered.BUSY
    await store.elapse(DELAY + A_LITTLE)
    assert (await enter(other, store, "v")).entered is Entered.YES


async def test_a_request_that_left_late_keeps_its_distance(store: AwsStore) -> None:
    frontier, other = await store.open(), await store.open()
    admission = await enter(frontier, store, "t")
    left_at = admission.lapses_at - DELAY / 2
    await store.elapse(left_at + 1.0 - store.clock())
    await leave(frontier, "t", left_at)
    await store.elapse(admission.lapses_at + HAND_OVER_SECONDS + A_LITTLE - store.clock())
    answer = await enter(other, store, "u")
    assert answer.entered is Entered.BUSY
    assert answer.again_at == pytest.approx(left_at + DELAY)


async def test_what_is_not_known_any_more_is_not_prolonged(store: AwsStore) -> None:
    frontier, other = await store.open(), await store.open()
    await enter(frontier, store, "t")
    await other.clear_table()
    assert (await enter(frontier, store, "t")).entered is Entered.VOID


async def test_an_order_is_heard_within_a_second_by_who_has_the_host(store: AwsStore) -> None:
    frontier, other = await store.open(), await store.open()
    await frontier.reserve([DEMAND])
    row = (await other.hosts([HOST]))[HOST]
    assert await other.save_hosts([with_orders(row, delay=None, is_paused=True, is_blocked=None)]) == [True]
    await store.elapse(HELD_SECONDS + A_LITTLE)
    assert (await enter(frontier, store, "t")).entered is Entered.STOPPED


async def test_who_finds_a_host_with_others_does_not_look_again_at_once(store: AwsStore) -> None:
    frontier, other = await store.open(), await store.open()
    await enter(frontier, store, "t")
    await store.elapse(DELAY + BEGIN_SECONDS / 4)  # the delay is over, the hold is not
    assert (await enter(other, store, "u")).entered is Entered.BUSY
    calls: list[Call] = []
    other.client.observers.append(calls.append)
    assert (await enter(other, store, "v")).entered is Entered.BUSY
    assert not calls


async def test_slots_that_are_handed_out_leave_a_hold_to_be_used(store: AwsStore) -> None:
    """Who has a host for a moment reserves for what comes in meanwhile: that sends away neither him nor anybody else."""
    frontier = await store.open()
    assert await frontier.reserve([DEMAND]) != [None]
    assert await frontier.reserve([DEMAND]) != [None]  # it is not its moment yet
    writes = writes_of(frontier)
    assert (await enter(frontier, store, "t")).entered is Entered.YES
    assert not writes


async def test_another_hold_takes_the_place_of_an_own_one_at_once(store: AwsStore) -> None:
    frontier, other = await store.open(), await store.open()
    await frontier.reserve([msgspec.structs.replace(DEMAND, spacing_seconds=QUICK)])
    await store.elapse(HELD_SECONDS + A_LITTLE)  # no longer without a word to the table
    writes = writes_of(frontier)
    admission = await enter(frontier, store, "t", delay=QUICK)
    assert admission.entered is Entered.YES
    assert len(writes) == 1
    assert (await enter(other, store, "u", delay=QUICK)).entered is Entered.BUSY
