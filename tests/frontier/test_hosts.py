"""Host rows, slots, robots rows and workers: what all workers share besides URLs."""

from __future__ import annotations

import asyncio
import itertools

import msgspec
import pytest

from sqspider.frontier import Entered, Entrance, Entry, Exit, Frontier, RobotsRow, SlotDemand
from sqspider.host import HostRow, RobotsAccess
from sqspider.record import Reason

from .kit import DONE, GONE, Store, entries, finish_one, take, url, win

HOST = "example.com"


def demand(count: int = 1, spacing: float = 1.0, generation: int = 0, host: str = HOST) -> SlotDemand:
    return SlotDemand(host=host, count=count, spacing_seconds=spacing, generation=generation)


def entrance(
    token: str, store: Store, *, delay: float = 0.0, per_host: int = 1, generation: int | None = 0, limit: float = 30.0
) -> Entrance:
    return Entrance(
        host=HOST,
        token=token,
        delay_seconds=delay,
        per_host=per_host,
        generation=generation,
        until=store.clock() + limit,
    )


async def test_an_unknown_host_has_a_fresh_row(frontier: Frontier) -> None:
    assert await frontier.hosts([HOST]) == {HOST: HostRow(host=HOST)}
    assert await frontier.scan_hosts() == []


async def test_a_saved_row_is_seen_by_others_and_an_old_one_changes_nothing(
    frontier: Frontier, other: Frontier
) -> None:
    row = HostRow(
        host=HOST, crawl_delay_seconds=2.5, penalty_seconds=4, trouble=Reason.TIMEOUT, is_paused=True, failures=3
    )
    assert await frontier.save_hosts([row]) == [True]
    assert await other.save_hosts([row]) == [False]
    assert (await other.hosts([HOST]))[HOST] == msgspec.structs.replace(row, version=1)
    other_row = HostRow(host="other.example")
    assert await other.save_hosts([msgspec.structs.replace(row, version=1, is_paused=False), other_row]) == [True, True]
    assert not (await frontier.hosts([HOST]))[HOST].is_paused
    assert [row.host for row in await frontier.scan_hosts()] == [HOST, "other.example"]


async def test_of_two_saves_at_once_one_is_made(frontier: Frontier, other: Frontier) -> None:
    row = HostRow(host=HOST)
    saved = await asyncio.gather(*(handle.save_hosts([row]) for handle in (frontier, other) * 3))
    assert sorted(saved) == [[False]] * 5 + [[True]]


async def test_a_save_keeps_what_is_the_frontiers(frontier: Frontier, other: Frontier, store: Store) -> None:
    await frontier.reserve([demand(3)])
    row = (await frontier.hosts([HOST]))[HOST]
    await other.reserve([demand(3)])
    slots = (await other.hosts([HOST]))[HOST].next_slot
    assert await frontier.save_hosts([msgspec.structs.replace(row, failures=1)]) == [True]
    row = (await frontier.hosts([HOST]))[HOST]
    assert row.next_slot == slots
    assert await frontier.save_hosts([msgspec.structs.replace(row, generation=1, crawl_delay_seconds=7)]) == [True]
    assert (await frontier.hosts([HOST]))[HOST].next_slot == pytest.approx(store.clock() + 7, abs=1)


async def test_slots_never_overlap(frontier: Frontier, other: Frontier, store: Store) -> None:
    firsts = await asyncio.gather(*(handle.reserve([demand(5, 2.0)]) for handle in (frontier, other) * 4))
    starts = sorted(first for (first,) in firsts if first is not None)
    assert starts[0] == pytest.approx(store.clock(), abs=1)
    assert [b - a for a, b in itertools.pairwise(starts)] == pytest.approx([10.0] * 7)


async def test_slots_of_another_generation_are_refused(frontier: Frontier) -> None:
    assert await frontier.save_hosts([HostRow(host=HOST, generation=1)]) == [True]
    assert await frontier.reserve([demand(generation=0), demand(host="other.example")]) == [
        None,
        pytest.approx((await frontier.hosts(["other.example"]))["other.example"].next_slot - 1),
    ]
    (first,) = await frontier.reserve([demand(generation=1)])
    assert first is not None


async def test_a_resting_host_gives_slots_after_its_rest(frontier: Frontier, store: Store) -> None:
    rest_until = store.clock() + 100
    await frontier.save_hosts([HostRow(host=HOST, rest_until=rest_until)])
    assert await frontier.reserve([demand()]) == [pytest.approx(rest_until)]
    (admission,) = await frontier.enter([entrance("t", store)])
    assert admission.entered is Entered.BUSY
    assert admission.again_at == pytest.approx(rest_until)


async def test_a_host_is_entered_by_one_at_a_time(frontier: Frontier, other: Frontier, store: Store) -> None:
    tokens = [f"t{i}" for i in range(6)]
    answers = await asyncio.gather(
        *((frontier, other)[i % 2].enter([entrance(token, store)]) for i, token in enumerate(tokens))
    )
    entered = [token for token, (admission,) in zip(tokens, answers, strict=True) if admission.entered is Entered.YES]
    assert len(entered) == 1
    await other.leave([Exit(host=HOST, token=entered[0], requested_at=store.clock(), latency_seconds=0.5)])
    (admission,) = await frontier.enter([entrance("next", store)])
    assert admission.entered is Entered.YES
    assert (await frontier.hosts([HOST]))[HOST].latency_seconds == pytest.approx(0.15)


async def test_as_many_enter_as_are_allowed(frontier: Frontier, store: Store) -> None:
    answers = await frontier.enter([entrance(f"t{i}", store, per_host=2) for i in range(3)])
    assert [admission.entered for admission in answers] == [Entered.YES, Entered.YES, Entered.BUSY]
    assert store.clock() - 1 < answers[2].again_at <= store.clock() + 1


async def test_the_delay_holds_from_the_last_request(frontier: Frontier, other: Frontier, store: Store) -> None:
    (first,) = await frontier.enter([entrance("a", store, delay=2)])
    assert first.entered is Entered.YES
    left_at = store.clock()
    await frontier.leave([Exit(host=HOST, token="a", requested_at=left_at, latency_seconds=0.1)])
    (second,) = await other.enter([entrance("b", store, delay=2)])
    assert second.entered is Entered.BUSY
    assert second.again_at == pytest.approx(left_at + 2, abs=0.1)
    await store.elapse(2.1)
    (third,) = await other.enter([entrance("b", store, delay=2)])
    assert third.entered is Entered.YES


async def test_who_died_inside_does_not_keep_a_host_busy(frontier: Frontier, store: Store) -> None:
    await frontier.enter([entrance("dead", store, limit=2)])
    assert (await frontier.enter([entrance("b", store)]))[0].entered is Entered.BUSY
    await store.elapse(2.1)
    assert (await frontier.enter([entrance("b", store)]))[0].entered is Entered.YES


async def test_a_slot_of_an_older_generation_is_void(frontier: Frontier, other: Frontier, store: Store) -> None:
    assert (await frontier.enter([entrance("a", store, per_host=9)]))[0].entered is Entered.YES
    row = (await other.hosts([HOST]))[HOST]
    assert await other.save_hosts([msgspec.structs.replace(row, generation=1)]) == [True]
    assert (await frontier.enter([entrance("b", store, per_host=9)]))[0].entered is Entered.VOID
    assert (await frontier.enter([entrance("b", store, per_host=9, generation=None)]))[0].entered is Entered.YES


async def test_finished_fetches_are_summed_by_host(frontier: Frontier, other: Frontier) -> None:
    await frontier.enqueue([*entries(2), Entry(url=url("x", "other.example"))])
    for i, delivery in enumerate(await take(frontier, 3)):
        handle = (frontier, other)[i % 2]
        is_other = "other.example" in delivery.body
        claim = await win(handle, delivery, claim=f"c{i}")
        assert await finish_one(handle, claim, delivery, GONE if is_other else DONE)
    await other.scan_hosts()  # writes what it has gathered
    rows = {row.host: row for row in await frontier.scan_hosts()}
    assert {host: (row.done, row.failed, row.bytes) for host, row in rows.items()} == {
        HOST: (2, 0, 200),
        "other.example": (0, 1, 7),
    }
    assert rows[HOST].busy_seconds == pytest.approx(0.04)


async def test_robots_are_fetched_by_one_and_known_to_all(frontier: Frontier, other: Frontier, store: Store) -> None:
    origin = "https://example.com"
    until = store.clock() + 2
    leased = await asyncio.gather(*(h.lease_robots(origin, until=until) for h in (frontier, other) * 3))
    assert sorted(leased) == [False] * 5 + [True]
    assert await frontier.robots([origin]) == {}
    row = RobotsRow(
        origin=origin,
        access=RobotsAccess.OBEY,
        body=b"User-agent: *\nDisallow: /x\xff\n" * 1000,
        http_status=200,
        fetched_at=store.clock(),
        good_at=store.clock(),
        expires_at=store.clock() + 100,
    )
    await frontier.save_robots(row)
    assert await other.robots([origin, "https://other.example"]) == {origin: row}
    assert await other.lease_robots(origin, until=until)
    await store.elapse(2.1)
    assert await frontier.lease_robots(origin, until=until + 60)
    assert await frontier.robots([origin]) == {origin: row}


async def test_a_worker_id_belongs_to_one_session(frontier: Frontier, other: Frontier, store: Store) -> None:
    assert await frontier.check_in("w", session="s1", ttl_seconds=2)
    assert not await other.check_in("w", session="s2", ttl_seconds=2)
    assert await other.check_in("v", session="s2", ttl_seconds=60)
    assert await frontier.check_in("w", session="s1", ttl_seconds=2)
    assert [row.worker_id for row in await other.workers()] == ["v", "w"]
    started_at = store.clock()
    assert [row.started_at for row in await other.workers()] == pytest.approx([started_at] * 2, abs=2)

    await store.elapse(2.1)
    assert [row.worker_id for row in await frontier.workers()] == ["v"]
    assert await other.check_in("w", session="s3", ttl_seconds=2)
    await frontier.check_out("w", session="s1")  # no longer his
    assert [row.worker_id for row in await frontier.workers()] == ["v", "w"]
    await other.check_out("w", session="s3")
    assert [row.worker_id for row in await frontier.workers()] == ["v"]
