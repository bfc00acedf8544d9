"""Host rows, slots, requests under way, robots.txt rows and workers: shared by all."""

from __future__ import annotations

import asyncio
import itertools

import msgspec
import pytest

from sqspider.frontier import Entered, Entrance, Entry, Exit, Finish, Frontier, RobotsRow, SlotDemand, Won
from sqspider.host import HostRow, RobotsAccess, with_orders
from sqspider.record import Outcome, Reason, Status
from sqspider.url import host_of

from .kit import A_LITTLE, DONE, FORBIDDEN, GONE, Store, claim_all, entries, take, url

HOST = "example.com"


def demand(count: int = 1, *, host: str = HOST, spacing: float = 1.0, generation: int = 0) -> SlotDemand:
    return SlotDemand(host=host, count=count, spacing_seconds=spacing, generation=generation)


def entrance(
    token: str,
    store: Store,
    *,
    host: str = HOST,
    delay: float = 0.0,
    per_host: int = 1,
    generation: int | None = None,
    seconds: float = 60.0,
) -> Entrance:
    return Entrance(
        host=host,
        token=token,
        delay_seconds=delay,
        per_host=per_host,
        generation=generation,
        until=store.clock() + seconds,
    )


async def row_of(frontier: Frontier, host: str = HOST) -> HostRow:
    return (await frontier.hosts([host]))[host]


# Host rows.


async def test_an_unknown_host_has_a_fresh_row(frontier: Frontier) -> None:
    assert await frontier.hosts([HOST, "other.example"]) == {
        HOST: HostRow(host=HOST),
        "other.example": HostRow(host="other.example"),
    }
    assert await frontier.hosts([]) == {}


async def test_what_is_saved_is_read_by_all(frontier: Frontier, other: Frontier) -> None:
    row = HostRow(
        host=HOST,
        delay_seconds=2.5,
        crawl_delay_seconds=3.0,
        penalty_seconds=4.0,
        penalty_since=1_600_000_000.0,
        rest_until=1_600_000_100.0,
        failures=3,
        trouble=Reason.RATE_LIMITED,
        is_paused=True,
        is_blocked=True,
    )
    assert await frontier.save_hosts([row]) == [True]
    assert await row_of(other) == msgspec.structs.replace(row, version=1)


async def test_a_save_upon_an_old_version_changes_nothing(frontier: Frontier, other: Frontier) -> None:
    row = await row_of(frontier)
    assert await frontier.save_hosts([msgspec.structs.replace(row, failures=1)]) == [True]
    assert await other.save_hosts([msgspec.structs.replace(row, failures=7)]) == [False]
    assert (await row_of(other)).failures == 1


async def test_of_many_saves_at_once_one_is_made(frontier: Frontier, other: Frontier) -> None:
    row = await row_of(frontier)
    handles = itertools.cycle([frontier, other])
    saves = [next(handles).save_hosts([msgspec.structs.replace(row, failures=n)]) for n in range(1, 9)]
    answers = [answer for [answer] in await asyncio.gather(*saves)]
    assert sum(answers) == 1
    assert (await row_of(frontier)).failures == answers.index(True) + 1


async def test_hosts_are_listed_by_name_with_what_they_brought(frontier: Frontier) -> None:
    outcomes: list[Outcome] = [DONE, GONE, FORBIDDEN, DONE]
    await frontier.enqueue(entries(3, host="b.example") + entries(1, host="a.example"))
    deliveries = await take(frontier, 4)
    claims = [c for c in await claim_all(frontier, deliveries, lease=60) if isinstance(c, Won)]
    claims.sort(key=lambda claim: claim.url, reverse=True)
    await frontier.finish([Finish(claim=c, delivery=None, outcome=o) for c, o in zip(claims, outcomes, strict=True)])
    rows = await frontier.scan_hosts()
    assert [(row.host, row.done, row.failed, row.blocked, row.bytes) for row in rows] == [
        ("a.example", 1, 0, 0, 100),
        ("b.example", 1, 1, 1, 107),
    ]
    assert rows[0].busy_seconds == pytest.approx(0.02)


async def test_the_slowest_hosts_come_first_and_those_that_took_no_time_not_at_all(frontier: Frontier) -> None:
    took = {"a.example": 20, "b.example": 300, "c.example": 40, "d.example": 0}
    await frontier.enqueue([entry for host in took for entry in entries(1, host=host)])
    claims = [c for c in await claim_all(frontier, await take(frontier, 4), lease=60) if isinstance(c, Won)]
    ends = [msgspec.structs.replace(DONE, elapsed_ms=took[host_of(claim.url)]) for claim in claims]
    await frontier.finish([Finish(claim=c, delivery=None, outcome=o) for c, o in zip(claims, ends, strict=True)])
    assert [row.host for row in await frontier.slowest_hosts(2)] == ["b.example", "c.example"]
    assert [row.host for row in await frontier.slowest_hosts(9)] == ["b.example", "c.example", "a.example"]


# Slots.


async def test_each_url_gets_a_slot_of_its_own(frontier: Frontier, other: Frontier, store: Store) -> None:
    now = store.clock()
    demands = [handle.reserve([demand(2)]) for handle in (frontier, other) * 5]
    firsts = sorted(first for [first] in await asyncio.gather(*demands) if first is not None)
    assert len(firsts) == 10
    assert now <= firsts[0] <= store.clock() + 1
    # Each took two: nobody else's first may lie within them.
    assert all(later - earlier >= 2.0 - 1e-3 for earlier, later in itertools.pairwise(firsts))
    assert (await row_of(frontier)).next_slot == pytest.approx(firsts[-1] + 2.0, abs=0.01)


async def test_a_batch_takes_one_write_for_each_host(frontier: Frontier, store: Store) -> None:
    slots = await frontier.reserve([demand(5), demand(1, host="other.example"), demand(3, spacing=10.0)])
    assert all(slot is not None for slot in slots)
    assert slots[0] == pytest.approx(store.clock(), abs=2)
    assert slots[1] == pytest.approx(store.clock(), abs=2)  # not held up by the other host
    assert slots[2] == pytest.approx((slots[0] or 0) + 5.0, abs=0.01)


async def test_slots_that_were_not_used_do_not_add_up(frontier: Frontier, store: Store) -> None:
    await frontier.reserve([demand(1)])
    await store.elapse(1.5)
    [slot] = await frontier.reserve([demand(1)])
    assert slot == pytest.approx(store.clock(), abs=0.4)


async def test_a_resting_host_gives_slots_after_its_rest(frontier: Frontier, store: Store) -> None:
    rest_until = store.clock() + 500
    await frontier.save_hosts([HostRow(host=HOST, rest_until=rest_until)])
    [slot] = await frontier.reserve([demand(1)])
    assert slot is not None
    assert slot >= rest_until


async def test_a_new_generation_voids_what_was_reserved(frontier: Frontier, other: Frontier, store: Store) -> None:
    await frontier.reserve([demand(100, spacing=60.0)])
    row = await row_of(other)
    await other.save_hosts([msgspec.structs.replace(row, generation=row.generation + 1, penalty_seconds=2.0)])

    assert await frontier.reserve([demand(1)]) == [None]
    assert (await frontier.enter([entrance("old", store, generation=row.generation)]))[0].entered is Entered.VOID
    [slot] = await frontier.reserve([demand(1, generation=row.generation + 1)])
    assert slot is not None
    assert slot <= store.clock() + 2.5  # the hundred minutes are void


# Entering and leaving: what is asked of the host at last.


@pytest.mark.parametrize("order", ["is_paused", "is_blocked"])
async def test_an_order_of_somebody_else_lets_nobody_in(
    frontier: Frontier, other: Frontier, store: Store, order: str
) -> None:
    """Though this one entered the host last, and knows its row."""
    assert [a.entered for a in await frontier.enter([entrance("before", store)])] == [Entered.YES]
    await frontier.leave([Exit(host=HOST, token="before", requested_at=store.clock(), latency_seconds=0.1)])
    for is_given, answer in ((True, Entered.STOPPED), (False, Entered.YES)):
        given = {"is_paused": None, "is_blocked": None, order: is_given}
        assert await other.save_hosts([with_orders(await row_of(other), delay=None, **given)]) == [True]
        assert [a.entered for a in await frontier.enter([entrance("after", store)])] == [answer]


async def test_requests_keep_their_distance(frontier: Frontier, other: Frontier, store: Store) -> None:
    [first] = await frontier.enter([entrance("a", store, delay=1.0)])
    assert first.entered is Entered.YES
    entered_at = store.clock()
    await frontier.leave([Exit(host=HOST, token="a", requested_at=entered_at, latency_seconds=0.1)])

    [second] = await other.enter([entrance("b", store, delay=1.0)])
    assert second.entered is Entered.BUSY
    assert second.again_at == pytest.approx(entered_at + 1.0, abs=0.5)
    await store.elapse(second.again_at - store.clock() + 0.01)
    assert (await other.enter([entrance("b", store, delay=1.0)]))[0].entered is Entered.YES


async def test_the_distance_counts_from_when_the_request_left(frontier: Frontier, store: Store) -> None:
    await frontier.enter([entrance("a", store, delay=1.0)])
    left_at = store.clock() + 5.0  # it took so long to connect
    await frontier.leave([Exit(host=HOST, token="a", requested_at=left_at, latency_seconds=5.0)])
    [answer] = await frontier.enter([entrance("b", store, delay=1.0)])
    assert answer.entered is Entered.BUSY
    assert answer.again_at == pytest.approx(left_at + 1.0)


async def test_no_more_at_a_time_than_asked_for(frontier: Frontier, other: Frontier, store: Store) -> None:
    answers = [
        (await handle.enter([entrance(f"t{i}", store, per_host=3)]))[0].entered
        for i, handle in enumerate((frontier, other) * 3)
    ]
    assert answers == [Entered.YES] * 3 + [Entered.BUSY] * 3
    await frontier.leave([Exit(host=HOST, token="t1", requested_at=store.clock(), latency_seconds=0.1)])
    assert (await other.enter([entrance("t9", store, per_host=3)]))[0].entered is Entered.YES
    assert (await other.enter([entrance("t9x", store, per_host=3)]))[0].entered is Entered.BUSY
    elsewhere = entrance("u", store, host="other.example")
    assert (await other.enter([elsewhere]))[0].entered is Entered.YES


async def test_entering_at_once_lets_one_in(frontier: Frontier, other: Frontier, store: Store) -> None:
    wishes = [handle.enter([entrance(f"t{i}", store, delay=5.0)]) for i, handle in enumerate((frontier, other) * 4)]
    answers = [admission.entered for [admission] in await asyncio.gather(*wishes)]
    assert answers.count(Entered.YES) == 1
    assert answers.count(Entered.BUSY) == 7


async def test_a_request_whose_worker_died_holds_nobody_up_for_ever(frontier: Frontier, store: Store) -> None:
    await frontier.enter([entrance("dead", store, seconds=1.0)])
    assert (await frontier.enter([entrance("b", store)]))[0].entered is Entered.BUSY
    await store.elapse(1.0 + A_LITTLE)
    assert (await frontier.enter([entrance("b", store)]))[0].entered is Entered.YES


async def test_a_resting_host_is_not_entered(frontier: Frontier, store: Store) -> None:
    rest_until = store.clock() + 500
    await frontier.save_hosts([HostRow(host=HOST, rest_until=rest_until)])
    [answer] = await frontier.enter([entrance("a", store)])
    assert answer.entered is Entered.BUSY
    assert answer.again_at == pytest.approx(rest_until)


async def test_an_entry_without_a_slot_pushes_the_slots_on(frontier: Frontier, store: Store) -> None:
    await frontier.enter([entrance("robots", store, delay=2.0)])
    [slot] = await frontier.reserve([demand(1)])
    assert slot == pytest.approx(store.clock() + 2.0, abs=0.5)


async def test_the_latency_of_a_host_is_learnt(frontier: Frontier, store: Store) -> None:
    for number in range(12):
        await frontier.enter([entrance(f"t{number}", store)])
        await frontier.leave([Exit(host=HOST, token=f"t{number}", requested_at=store.clock(), latency_seconds=2.0)])
    assert (await row_of(frontier)).latency_seconds == pytest.approx(2.0, rel=0.05)


# robots.txt.

ORIGIN = "https://example.com"
ROBOTS = RobotsRow(
    origin=ORIGIN,
    access=RobotsAccess.OBEY,
    body=bytes(range(256)) * 2000,  # 500 KiB at most, and any bytes
    http_status=200,
    detail="read",
    fetched_at=1_700_000_000.0,
    good_at=1_700_000_000.0,
    expires_at=1_700_086_400.0,
)


async def test_robots_rows_are_kept_for_all(frontier: Frontier, other: Frontier) -> None:
    assert await frontier.robots([ORIGIN]) == {}
    await frontier.save_robots([ROBOTS])
    assert await other.robots([ORIGIN, "http://example.com"]) == {ORIGIN: ROBOTS}
    gone = msgspec.structs.replace(ROBOTS, access=RobotsAccess.UNREACHABLE, trouble=Reason.TIMEOUT, http_status=None)
    await other.save_robots([gone])
    assert await frontier.robots([ORIGIN]) == {ORIGIN: gone}
    more = [msgspec.structs.replace(ROBOTS, origin=f"http://{number}.example") for number in range(3)]
    await other.save_robots(more)
    assert await frontier.robots([row.origin for row in more]) == {row.origin: row for row in more}


async def test_one_worker_at_a_time_fetches_robots(frontier: Frontier, other: Frontier, store: Store) -> None:
    leases = [handle.lease_robots([ORIGIN], until=store.clock() + 1.0) for handle in (frontier, other) * 4]
    assert sum(is_leased for [is_leased] in await asyncio.gather(*leases)) == 1
    both = [ORIGIN, "http://example.com"]
    assert await other.lease_robots(both, until=store.clock() + 1.0) == [False, True]  # each for itself
    assert await frontier.robots([ORIGIN]) == {}  # a lease is no answer

    await store.elapse(1.0 + A_LITTLE)  # its worker died
    assert await other.lease_robots([ORIGIN], until=store.clock() + 60.0) == [True]
    await other.save_robots([ROBOTS])  # ends the lease
    assert await frontier.lease_robots([ORIGIN], until=store.clock() + 60.0) == [True]
    assert await frontier.robots([ORIGIN]) == {ORIGIN: ROBOTS}  # the old answer holds meanwhile


# Workers.


async def test_a_worker_id_is_one_workers_at_a_time(frontier: Frontier, other: Frontier, store: Store) -> None:
    assert await frontier.check_in("w", session="s1", ttl_seconds=1.0)
    assert await frontier.check_in("w", session="s1", ttl_seconds=1.0)  # the same one lives on
    assert not await other.check_in("w", session="s2", ttl_seconds=1.0)
    assert await other.check_in("v", session="s2", ttl_seconds=60.0)
    assert [row.worker_id for row in await frontier.workers()] == ["v", "w"]

    await store.elapse(1.0 + A_LITTLE)  # it died
    assert [row.worker_id for row in await frontier.workers()] == ["v"]
    assert await other.check_in("w", session="s3", ttl_seconds=60.0)
    await frontier.check_out("w", session="s1")  # late: it is another's now
    assert [row.worker_id for row in await frontier.workers()] == ["v", "w"]
    await other.check_out("w", session="s3")
    assert [row.worker_id for row in await frontier.workers()] == ["v"]
    [row] = await frontier.workers()
    assert row.started_at <= row.seen_at <= store.clock() + 1


async def test_a_worker_says_what_it_may_not_work_on(frontier: Frontier, other: Frontier) -> None:
    barred = {"intranet": 'it asks for "private" addresses – start it so', "x": ""}
    assert await frontier.check_in("w", session="s", ttl_seconds=60.0, barred=barred)
    assert await frontier.check_in("v", session="s", ttl_seconds=60.0)
    assert {row.worker_id: row.barred for row in await other.workers()} == {"v": {}, "w": barred}
    assert await frontier.check_in("w", session="s", ttl_seconds=60.0)  # it may by now
    assert [row.barred for row in await other.workers()] == [{}, {}]


# Looking.


async def test_records_are_found_by_url_status_and_host(frontier: Frontier) -> None:
    await frontier.enqueue([*entries(3), *entries(2, host="other.example")])
    deliveries = await take(frontier, 5)
    claims = [c for c in await claim_all(frontier, deliveries, lease=60) if isinstance(c, Won)]
    mine = next(claim for claim in claims if claim.url == url(0))
    await frontier.finish([Finish(claim=mine, delivery=None, outcome=DONE)])

    async def scanned(**by: object) -> set[str]:
        return {record.url async for batch in frontier.scan(**by) for record in batch}  # type: ignore[arg-type]

    assert await scanned() == {claim.url for claim in claims}
    assert await scanned(status=Status.DONE) == {url(0)}
    assert await scanned(host="other.example") == {url(0, "other.example"), url(1, "other.example")}
    assert await scanned(status=Status.DONE, host="other.example") == set()
    assert (await frontier.get([url(0), url("unknown")])).keys() == {url(0)}
    assert await frontier.get([]) == {}


async def test_messages_are_counted_by_kind(frontier: Frontier) -> None:
    stats = await frontier.queue_stats()
    assert stats.is_empty
    assert (stats.dead, stats.oldest_age_seconds) == (0, None)
    await frontier.enqueue([*entries(4), Entry(url=url("x"))])
    await take(frontier, 2)
    stats = await frontier.queue_stats()
    assert (stats.visible, stats.in_flight, stats.delayed, stats.dead) == (3, 2, 0, 0)
    assert not stats.is_empty
