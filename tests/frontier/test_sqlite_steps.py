"""Where statements run, and that nothing is held up by what waits: the disk, the lock of others, who is cancelled."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from sqspider.frontier import FrontierBusyError, FrontierUnavailableError, open_frontier
from sqspider.frontier.sqlite import SqliteFrontier

from .kit import SETTINGS, FakeClock, entries, url


async def opened(path: Path) -> SqliteFrontier:
    frontier = await open_frontier(f"sqlite:{path}", SETTINGS, clock=FakeClock())
    assert isinstance(frontier, SqliteFrontier)
    return frontier


async def test_only_the_end_of_a_write_is_in_a_thread(tmp_path: Path) -> None:
    frontier = await opened(tmp_path / "f.db")
    seen: list[tuple[str, bool]] = []
    frontier._file.connection.set_trace_callback(
        lambda statement: seen.append((statement.split()[0], threading.current_thread() is threading.main_thread()))
    )
    await frontier.enqueue(entries(3))
    assert {word for word, is_here in seen if is_here} >= {"BEGIN", "INSERT"}
    assert {word for word, is_here in seen if not is_here} == {"COMMIT"}
    await frontier.close()


async def test_the_lock_of_others_holds_nobody_else_up(tmp_path: Path) -> None:
    frontier = await opened(tmp_path / "f.db")
    with closing(sqlite3.connect(tmp_path / "f.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        waiting = asyncio.ensure_future(frontier.enqueue(entries(3)))
        await asyncio.sleep(0)
        assert (await frontier.counts()).total == 0  # reading goes on
        assert not waiting.done()
        other.execute("COMMIT")
        assert len(await waiting) == 3
    await frontier.close()


@pytest.mark.parametrize("is_write", [True, False])
async def test_who_writes_on_and_on_lets_others_have_their_turn(tmp_path: Path, is_write: bool) -> None:
    frontier = await opened(tmp_path / "f.db")
    written = 0

    async def write_on() -> None:
        nonlocal written
        for number in range(200):
            await frontier.enqueue(entries(3, host=f"h{number}.test"))
            written += 1

    writing = asyncio.ensure_future(write_on())
    while not written:
        await asyncio.sleep(0)
    await (frontier.send([url("sent")]) if is_write else frontier.counts())
    assert written <= 3
    await writing
    await frontier.close()


async def test_who_reads_on_and_on_lets_others_have_their_turn(tmp_path: Path) -> None:
    frontier = await opened(tmp_path / "f.db")
    other = asyncio.ensure_future(asyncio.sleep(0))
    for _ in range(5):
        await frontier.counts()
    assert other.done()
    await frontier.close()


async def test_who_does_not_get_the_lock_gives_up_after_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frontier = await opened(tmp_path / "f.db")
    monkeypatch.setattr("sqspider.frontier.sqlite.connection.BUSY_SECONDS", 0.05)
    with closing(sqlite3.connect(tmp_path / "f.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(FrontierBusyError, match="locked"):
            await frontier.enqueue(entries(3))
        other.execute("COMMIT")
    await frontier.enqueue(entries(3))
    await frontier.close()


@pytest.mark.parametrize("rounds", range(6))
async def test_whoever_is_cancelled_leaves_nothing_half_done(tmp_path: Path, rounds: int) -> None:
    frontier = await opened(tmp_path / "f.db")
    cancelled = asyncio.ensure_future(frontier.enqueue(entries(3)))
    for _ in range(rounds):
        await asyncio.sleep(0)
    cancelled.cancel()
    # Both at once: one of them may find the end of the other under way.
    await asyncio.gather(frontier.send([url("sent")]), frontier.check_in("w", session="s", ttl_seconds=30))
    await asyncio.wait([cancelled])
    assert (await frontier.counts()).total in (0, 3)
    assert len(await frontier.workers()) == 1
    await frontier.close()


async def test_a_write_that_cannot_end_has_not_happened(tmp_path: Path) -> None:
    frontier = await opened(tmp_path / "f.db")
    connection = frontier._file.connection
    page_count = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {page_count}")  # as if the disk were full
    with pytest.raises(FrontierUnavailableError, match="is full"):
        await frontier.enqueue(entries(2000))
    connection.execute("PRAGMA max_page_count = 1000000")
    assert (await frontier.counts()).total == 0
    await frontier.enqueue(entries(3))
    assert (await frontier.counts()).total == 3
    await frontier.close()
