"""The clock of the machine was put back: what was written while it was ahead holds nobody up."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, TypeVar

import msgspec
import pytest
from structlog.testing import capture_logs

from sqspider.frontier import Deferral, Entered, Entrance, Entry, Frontier, LostReason, RobotsRow, SlotDemand
from sqspider.frontier.shares import Ask, Most
from sqspider.frontier.sqlite import SqliteFrontier
from sqspider.frontier.sqlite.clock import TOLERATED_SECONDS, notice_time
from sqspider.host import HostRow, RobotsAccess

from .kit import (
    DUE,
    LEASE,
    SETTINGS,
    VISIBILITY,
    FakeClock,
    assert_lost,
    entries,
    message_of,
    record_of,
    take,
    take_one,
    try_claim,
    url,
    win,
)

T = TypeVar("T")
BACK: Final = 6 * 3600.0
HOST: Final = "example.com"
ORIGIN: Final = f"https://{HOST}"


async def opened(path: Path, clock: FakeClock) -> Frontier:
    return await SqliteFrontier.open(str(path), SETTINGS, clock=clock)


async def put_back(frontier: Frontier, how: str, path: Path, clock: FakeClock) -> list[str]:
    """Have somebody find out that the clock went back; what was logged."""
    with capture_logs() as logs:
        if how == "check in":
            await frontier.check_in("w2", session="s", ttl_seconds=30)
        elif how == "sweep":
            await frontier.sweep()
        else:
            await (await opened(path, clock)).close()
    return [log["event"] for log in logs]


@pytest.mark.parametrize("how", ["check in", "sweep", "open"])
async def test_what_lies_ahead_is_moved_back(tmp_path: Path, how: str) -> None:
    clock = FakeClock()
    frontier = await opened(tmp_path / "f.db", clock)
    await frontier.enqueue(entries(5))
    await frontier.send([url("sent")])
    held, late, lost, *_, sent = sorted(await take(frontier, 6), key=lambda delivery: message_of(delivery).url)
    claim = await win(frontier, held)
    await frontier.defer([Deferral(delivery=late, until=clock() + 50), Deferral(delivery=sent, until=clock() + 60)])
    await frontier.delete([lost])
    await frontier.save_hosts([HostRow(host=HOST, rest_until=clock() + 40)])
    assert (await frontier.reserve([SlotDemand(host=HOST, count=100, spacing_seconds=10, generation=0)])) != [None]
    robots = RobotsRow(origin=ORIGIN, access=RobotsAccess.UNREACHABLE, fetched_at=clock(), expires_at=clock() + 300)
    await frontier.save_robots([robots])
    await frontier.lease_robots(["https://o.example"], until=clock() + 20)
    await frontier.check_in("w", session="s", ttl_seconds=30)
    generation, ahead = frontier.generation, clock()

    clock.now -= BACK
    assert await put_back(frontier, how, tmp_path / "f.db", clock) == ["clock_went_back"]
    assert await put_back(frontier, how, tmp_path / "f.db", clock) == []

    # What was in hand comes back at once, unless it is claimed; its lease is as long as it was.
    assert {message_of(delivery).url for delivery in await frontier.receive(10)} == {url(n) for n in (3, 4)}
    assert frontier.generation == generation + 1
    assert (await record_of(frontier, claim.url)).lease_until == claim.lease_until - BACK == clock() + LEASE
    await frontier.send([claim.url])
    assert_lost(await try_claim(frontier, await take_one(frontier), claim="c2"), LostReason.HELD)
    assert (await record_of(frontier, url(2))).due_at == clock() + DUE
    row = (await frontier.hosts([HOST]))[HOST]
    assert (row.rest_until, row.next_slot, row.generation) == (clock() + 40, clock(), 1)
    assert await frontier.reserve([SlotDemand(host=HOST, count=1, spacing_seconds=1, generation=0)]) == [None]
    moved = msgspec.structs.replace(robots, fetched_at=robots.fetched_at - BACK, expires_at=robots.expires_at - BACK)
    assert await frontier.robots([ORIGIN]) == {ORIGIN: moved}
    assert next(worker.seen_at for worker in await frontier.workers()) == ahead - BACK

    clock.now += 51
    assert await frontier.lease_robots(["https://o.example"], until=clock() + 20) == [True]
    await frontier.sweep()
    came = {message_of(delivery).url for delivery in await frontier.receive(100)}
    assert came == {url(n) for n in range(5)}
    clock.now += 10
    assert url("sent") in {message_of(delivery).url for delivery in await frontier.receive(100)}
    await frontier.close()


@pytest.mark.parametrize("how", ["check in", "sweep", "open"])
async def test_a_claim_that_was_made_before_anybody_found_out_keeps_its_lease(tmp_path: Path, how: str) -> None:
    clock = FakeClock()
    frontier = await opened(tmp_path / "f.db", clock)
    await frontier.enqueue(entries(1))
    await frontier.check_in("w", session="s", ttl_seconds=30)
    clock.now -= BACK
    claim = await win(frontier, await take_one(frontier))
    assert await put_back(frontier, how, tmp_path / "f.db", clock) == ["clock_went_back"]
    assert (await record_of(frontier, claim.url)).lease_until == claim.lease_until
    await frontier.send([claim.url])
    assert_lost(await try_claim(frontier, await take_one(frontier), claim="c2"), LostReason.HELD)
    await frontier.close()


async def test_requests_under_way_do_not_hold_a_host_until_the_clock_is_there_again(tmp_path: Path) -> None:
    clock = FakeClock()
    frontier = await opened(tmp_path / "f.db", clock)

    async def enter(token: str) -> Entered:
        wish = Entrance(host=HOST, token=token, delay_seconds=2.0, per_host=1, generation=None, until=clock() + 20)
        return (await frontier.enter([wish]))[0].entered

    assert await enter("died") is Entered.YES
    clock.now -= BACK
    await frontier.sweep()
    clock.now += 2
    assert await enter("too many") is Entered.BUSY
    clock.now += 19
    assert await enter("next") is Entered.YES
    await frontier.close()


async def test_what_a_dead_worker_had_of_a_budget_is_not_held_until_the_clock_is_there_again(tmp_path: Path) -> None:
    clock = FakeClock()
    frontier = await opened(tmp_path / "f.db", clock)

    async def share(run: str, worker_id: str) -> int:
        asked = Ask(run=run, most=Most(9), worker_id=worker_id, wanted=6, until=clock() + 60)
        return (await frontier.share([asked]))[0].pages

    assert (await share("r", "died"), await share("damaged", "died")) == (6, 6)
    await frontier.close()
    with closing(sqlite3.connect(tmp_path / "f.db")) as file:
        file.execute("UPDATE run SET row = 'no JSON' WHERE name = 'damaged'")
        file.commit()
    clock.now -= BACK
    frontier = await opened(tmp_path / "f.db", clock)
    assert await share("r", "next") == 3, "it may live"
    clock.now += 61
    assert await share("r", "next") == 6
    await frontier.close()


async def test_no_moment_of_a_host_stays_ahead(tmp_path: Path) -> None:
    """Whatever moments a row gets: those that are durations or counts are named here."""
    clock = FakeClock()
    frontier = await opened(tmp_path / "f.db", clock)
    floats = {name for name, kind in HostRow.__annotations__.items() if kind == "float"}
    moments = floats - {name for name in floats if name.endswith("_seconds")} - {"next_slot", "last_request"}
    assert moments >= {"rest_until", "rested_at", "trouble_since", "penalty_since"}
    await frontier.save_hosts([HostRow(host=HOST, **dict.fromkeys(moments, clock() + 7))])  # type: ignore[arg-type]
    clock.now -= BACK
    await frontier.sweep()
    row = (await frontier.hosts([HOST]))[HOST]
    assert {name: getattr(row, name) - clock() for name in moments} == dict.fromkeys(moments, 7)
    await frontier.close()


async def test_a_clock_that_is_set_right_by_a_little_changes_nothing(tmp_path: Path) -> None:
    clock = FakeClock()
    frontier = await opened(tmp_path / "f.db", clock)
    await frontier.enqueue([Entry(url=url("a"))])
    await frontier.defer([Deferral(delivery=await take_one(frontier), until=clock() + 50)])
    clock.now += 30
    await frontier.check_in("w", session="s", ttl_seconds=30)
    for _ in range(3):
        clock.now -= TOLERATED_SECONDS / 3
        assert await put_back(frontier, "sweep", tmp_path / "f.db", clock) == []
    assert frontier.generation == 0
    assert await frontier.receive(1) == []
    clock.now += VISIBILITY + 50
    assert len(await frontier.receive(1)) == 1
    await frontier.close()


async def test_time_goes_on_after_it_was_put_back(tmp_path: Path) -> None:
    """The moment that was ahead is forgotten: nothing is moved back for it again when it comes, nor before."""
    clock = FakeClock()
    frontier = await opened(tmp_path / "f.db", clock)
    clock.now -= BACK
    with capture_logs() as logs:
        for _ in range(20):
            await frontier.check_in("w", session="s", ttl_seconds=30)
            clock.now += BACK / 10
    assert [log["event"] for log in logs] == ["clock_went_back"]
    assert logs[0]["seconds"] == BACK
    await frontier.close()


@pytest.mark.parametrize("how", ["check in", "sweep"])
async def test_who_waited_for_its_turn_saw_no_clock_go_back(tmp_path: Path, how: str) -> None:
    """Others noted later moments while it waited for them, or slept."""
    clock, path = FakeClock(), str(tmp_path / "f.db")
    other = await SqliteFrontier.open(path, SETTINGS, clock=clock)
    turns = 0

    class WaitsLong:
        async def run(self, work: Callable[[], T], end: Callable[[], None] | None = None) -> T:
            nonlocal turns
            turns += 1
            if turns > 1:  # the first one opens it
                clock.now += 3 * TOLERATED_SECONDS
                await other.check_in(f"other {turns}", session="s", ttl_seconds=30)
            result = work()
            if end is not None:
                end()
            return result

        def close(self) -> None: ...

    frontier = await SqliteFrontier.open(path, SETTINGS, clock=clock, runner=WaitsLong())
    assert await put_back(frontier, how, tmp_path / "f.db", clock) == []
    assert turns > 1
    await other.close()


async def test_requests_are_let_in_as_of_when_they_are(tmp_path: Path) -> None:
    clock = FakeClock()
    frontier = await opened(tmp_path / "f.db", clock)
    wish = Entrance(host=HOST, token="t", delay_seconds=2.0, per_host=2, generation=None, until=clock() + 60)
    with closing(sqlite3.connect(tmp_path / "f.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(frontier.enter([wish]))
        await asyncio.sleep(0)
        clock.now += 20
        other.execute("COMMIT")
        await waiting
    assert (await frontier.hosts([HOST]))[HOST].last_request == clock()
    await frontier.close()


async def test_the_clock_is_read_again_when_its_turn_has_come(tmp_path: Path) -> None:
    start = FakeClock().now
    await (await opened(tmp_path / "f.db", FakeClock())).close()
    with closing(sqlite3.connect(tmp_path / "f.db", isolation_level=None)) as connection, capture_logs() as logs:
        looks = iter((start - 60, start + 1))
        notice_time(connection, lambda: next(looks))
    assert logs == []
