"""Files of older versions are brought up to date: all of it, or not at all, and never under somebody who works."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from structlog.testing import capture_logs

from sqspider.crawl_row import Crawl
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Entry, Finish, Frontier, FrontierUnavailableError, Outlinks
from sqspider.frontier.sqlite import SqliteFrontier
from sqspider.frontier.sqlite import file as sqlite_file
from sqspider.frontier.sqlite import upgrade as upgrading
from sqspider.frontier.sqlite.check import Finding, check_file
from sqspider.frontier.sqlite.file import SCHEMA_VERSION, open_to_work
from sqspider.message import Message
from sqspider.record import Outcome, Reason, Status

from .kit import DONE, SETTINGS, FakeClock, all_records, entries, finish_one, message_of, record_of, take, url, win
from .old_files import OLD_TRANSACTIONS, make_old_file
from .third_file import make_third_file

NOW: Final = FakeClock().now
MANY: Final = 30_000
OLD_SETTINGS: Final = {"delay_seconds": 0.5, "max_depth": 3}


def old_file(folder: Path, version: int = 2, urls: int = 12) -> Path:
    path = folder / "f.db"
    make_old_file(path, version, [url(n) for n in range(urls)], now=NOW, settings=OLD_SETTINGS)
    return path


def change(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


async def opened(path: Path, clock: FakeClock | None = None) -> Frontier:
    return await SqliteFrontier.open(str(path), SETTINGS, clock=clock or FakeClock())


def version_of(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])


def contents_of(path: Path) -> list[tuple[Any, ...]]:
    """All that the tables of an old file hold."""
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [
            row
            for table in ("record", "message", "settings", "counter")
            for row in connection.execute(f"SELECT * FROM {table}")
        ]


@pytest.mark.parametrize("version", [1, 2])
async def test_a_queue_goes_on_where_it_was(tmp_path: Path, version: int) -> None:
    path = old_file(tmp_path, version)
    frontier = await opened(path)
    assert [message_of(delivery) for delivery in await take(frontier, 12)] == [
        Message(url=url(n), parent=url(0) if n else None, settings=CrawlSettings(delay_seconds=0.5, max_depth=3))
        for n in range(12)
    ]
    assert await frontier.enqueue(entries(13)) == [False] * 12 + [True]
    await frontier.close()
    assert check_file(str(path)) == Finding(records=13, faults=())


def tables_of(path: Path) -> dict[str, Any]:
    """What a file has of tables, columns, indexes and views."""
    with closing(sqlite3.connect(path)) as connection:
        found: dict[str, Any] = {}
        for name, kind, statement in connection.execute("SELECT name, type, sql FROM sqlite_schema").fetchall():
            if kind == "table":
                found[name] = connection.execute(f"PRAGMA table_info({name})").fetchall()
                found[f"keys of {name}"] = connection.execute(f"PRAGMA foreign_key_list({name})").fetchall()
            else:
                found[name] = statement
        return found


async def test_a_file_of_the_third_version_gets_what_crawls_need(tmp_path: Path) -> None:
    path = tmp_path / "f.db"
    make_third_file(path, [url(n) for n in range(12)], now=NOW, settings=json.dumps(OLD_SETTINGS))
    assert check_file_of_third(path) == 12
    frontier = await opened(path)
    assert check_file(str(path)) == Finding(records=12, faults=())
    open_to_work(str(tmp_path / "new.db"), NOW).close()
    assert (version_of(path), tables_of(path)) == (SCHEMA_VERSION, tables_of(tmp_path / "new.db"))

    crawl = Crawl(name="news", id="a1")
    assert await frontier.save_crawl(crawl)
    named = Entry(url=url(0), crawl=crawl.ref, meta='{"a":1}')
    assert await frontier.enqueue([*entries(13), named]) == [False] * 12 + [True, True]
    taken = {message.key: message for message in map(message_of, await take(frontier, 14))}
    assert taken[named.key].crawl == crawl.ref
    assert (await record_of(frontier, named.key)).meta == named.meta
    assert taken[url(3)] == Message(url=url(3), parent=url(0), settings=CrawlSettings(delay_seconds=0.5, max_depth=3))
    counts = [(await frontier.counts(crawl=name)).total for name in ("default", "news")]
    assert counts == [13, 1]
    await frontier.close()
    assert check_file(str(path)) == Finding(records=14, faults=())


async def test_a_file_that_tells_nothing_of_barred_crawls_gets_its_column_while_others_work_there(
    tmp_path: Path,
) -> None:
    path = tmp_path / "f.db"
    open_to_work(str(path), NOW).close()
    change(path, "ALTER TABLE worker DROP COLUMN barred", f"INSERT INTO worker VALUES ('old', 's', 1, 2, {NOW + 99})")
    looking = await SqliteFrontier.open(str(path), SETTINGS, clock=FakeClock(), looking=True)
    assert [(row.worker_id, row.barred) for row in await looking.workers()] == [("old", {})]
    frontier = await opened(path)
    assert await frontier.check_in("new", session="s", ttl_seconds=60, barred={"news": "why"})
    change(
        path,
        f"INSERT INTO worker (worker_id, session, started_at, seen_at, expires_at) VALUES ('o', '', 1, 2, {NOW + 9})",
    )
    assert [row.barred for row in await looking.workers()] == [{"news": "why"}, {}, {}]
    await frontier.close()
    await looking.close()
    assert version_of(path) == SCHEMA_VERSION


async def test_a_file_of_the_third_version_is_left_to_who_works_there(tmp_path: Path) -> None:
    path = tmp_path / "f.db"
    make_third_file(path, [url(0)], now=NOW, settings="{}")
    change(path, f"INSERT INTO worker VALUES ('w-7', 's', {NOW - 100}, {NOW - 5}, {NOW + 25})")
    with pytest.raises(FrontierUnavailableError, match="a worker of it is at work there"):
        await opened(path)
    assert version_of(path) == 3


def check_file_of_third(path: Path) -> int:
    """Of a file that is not brought up to date yet: that nobody looks at it; how many records it has."""
    with pytest.raises(FrontierUnavailableError, match="schema 3"):
        check_file(str(path))
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM urls").fetchone()[0])


FINISHED: Final = "UPDATE record SET status = '{status}', lease_until = NULL, due_at = NULL, attempt = 2, finished_at = 9, claim_id = 'c', outcome = '{outcome}' WHERE url LIKE '%/{n}'"


async def test_what_a_url_is_and_was_is_kept(tmp_path: Path) -> None:
    path = old_file(tmp_path)
    digest = "sha256:" + "0f" * 32
    outcomes: dict[int, dict[str, Any]] = {
        1: {"status": "done", "http_status": 200, "final_url": url(1), "bytes": 7, "digest": digest, "title": "T"},
        2: {"status": "done", "http_status": 200, "final_url": "https://other.example/x", "bytes": 5},
        3: {"status": "failed", "reason": "client_error", "http_status": 404, "final_url": url(3), "digest": "md5:1"},
        4: {"status": "blocked", "reason": "robots", "detail": "line 2: Disallow: /"},
    }
    for n, outcome in outcomes.items():
        change(path, FINISHED.format(status=outcome["status"], outcome=json.dumps(outcome), n=n))
        change(path, f"DELETE FROM message WHERE url LIKE '%/{n}'")
    change(
        path,
        "UPDATE counter SET number = CASE name WHEN 'status:queued' THEN 7 ELSE 8 END",
        "INSERT INTO counter VALUES ('status:done', 2), ('status:failed', 1), ('status:blocked', 1), ('bytes', 12),"
        " ('reason:client_error', 1), ('reason:robots', 1), ('status:processing', 1)",
        "INSERT INTO host (host, done, failed, blocked, bytes, trouble, penalty_seconds, penalty_since)"
        f" VALUES ('example.com', 2, 1, 1, 12, 'rate_limited', 4, {NOW})",
        # In a worker's hands, and claimed:
        f"UPDATE message SET receipt = 'r', visible_at = {NOW + 50}, receive_count = 2 WHERE url LIKE '%/5'",
        f"UPDATE record SET status = 'processing', attempt = 3, unended = 2, tries = 1, worker_id = 'w', claim_id = 'c',"
        f" lease_until = {NOW + 60}, due_at = {NOW + 180} WHERE url LIKE '%/5'",
        # Put off, with a slot:
        f"UPDATE message SET is_deferred = 1, visible_at = {NOW + 30},"
        f""" body = '{{"url": "{url(6)}", "slot": {NOW + 31}, "generation": 4}}' WHERE url LIKE '%/6'""",
        # Without a message; a dead letter; a copy; what is no message; what has no record:
        "DELETE FROM message WHERE url LIKE '%/7'",
        "UPDATE message SET is_dead = 1, receive_count = 5 WHERE url LIKE '%/8'",
        "INSERT INTO message (url, host, body, sent_at, visible_at) VALUES"
        f" ('{url(9)}', 'example.com', '{url(9)}', 1, 1), (NULL, NULL, 'no message', 1, 1),"
        f" ('{url('new')}', 'example.com', '{url('new')}', 1, 1)",
        "UPDATE counter SET number = 9 WHERE name = 'messages'",
    )
    frontier = await opened(path)
    assert check_file(str(path)).faults == ()

    records = await all_records(frontier)
    assert [records[url(n)].status for n in range(6)] == [
        Status.QUEUED,
        *map(Status, ("done", "done", "failed", "blocked", "processing")),
    ]
    assert records[url(1)].outcome == Outcome(status=Status.DONE, http_status=200, bytes=7, digest=digest, title="T")
    second = records[url(2)].outcome
    assert second is not None
    assert (second.redirect_to, second.http_status) == ("https://other.example/x", 200)
    third = records[url(3)].outcome
    assert third is not None
    assert (third.reason, third.digest, third.redirect_to) == (Reason.CLIENT_ERROR, "md5:1", None)
    held = records[url(5)]
    assert (held.attempt, held.unended, held.tries, held.worker_id, held.lease_until) == (3, 2, 1, "w", NOW + 60)
    assert (await frontier.counts()).redirects == 0
    assert [row.host for row in await frontier.hosts_in_trouble()] == ["example.com"]

    stats = await frontier.queue_stats()
    assert (stats.visible, stats.in_flight, stats.delayed, stats.dead) == (7, 1, 1, 1)
    bodies = {delivery.body for delivery in await frontier.receive(3)}
    assert bodies == {url(9), "no message", url("new")}
    fresh = [message_of(delivery).url for delivery in await frontier.receive(100)]
    assert fresh == [url(n) for n in (0, 9, 10, 11)]
    await frontier.close()

    clock = FakeClock()
    clock.now += 55
    frontier = await opened(path, clock)
    back = {message_of(delivery).url: delivery for delivery in await frontier.receive(100) if "exam" in delivery.body}
    assert back[url(5)].receive_count == 3
    assert (message_of(back[url(6)]).slot, message_of(back[url(6)]).generation) == (NOW + 31, 4)
    clock.now += 200
    assert await frontier.sweep() == 2  # 7 and 8: their messages were gone
    await frontier.close()


async def test_what_is_damaged_is_named_afterwards_and_hides_nothing(tmp_path: Path) -> None:
    path = old_file(tmp_path)
    change(
        path,
        "UPDATE record SET status = 'dnoe', outcome = '{' WHERE id = 3",
        "UPDATE record SET outcome = x'ff' WHERE id = 4",
    )
    frontier = await opened(path)
    records = await all_records(frontier)
    assert [record.url for record in records.values() if record.unreadable] == [url(2), url(3)]
    assert len(records) == 12
    await frontier.close()


DAMAGED_TEXT: Final = "CAST(x'ff61' AS TEXT)"  # no UTF-8


@pytest.mark.parametrize("column", ["parent", "worker_id", "outcome"])
async def test_text_that_is_no_utf8_keeps_nothing_else_from_going_on(tmp_path: Path, column: str) -> None:
    path = old_file(tmp_path)
    change(path, f"UPDATE record SET {column} = {DAMAGED_TEXT} WHERE id = 4")
    frontier = await opened(path)
    assert len(await all_records(frontier)) == 12
    assert len(await take(frontier, 12)) == 12
    await frontier.close()


@pytest.mark.parametrize("damaged", [DAMAGED_TEXT, "x'ff61'", "'garbage'", "''"])
@pytest.mark.parametrize("table", ["record", "message"])
async def test_a_url_that_is_none_is_nobodys_to_work_on(tmp_path: Path, table: str, damaged: str) -> None:
    path = old_file(tmp_path)
    change(path, f"UPDATE {table} SET url = {damaged} WHERE id = 4")
    frontier = await opened(path)
    assert len(await all_records(frontier)) == 12
    assert [record.url for record in (await all_records(frontier)).values() if record.unreadable] == (
        [] if table == "message" else [check_file(str(path)).faults[0].partition(": its row")[0]]
    )
    # The message says its URL; of the record that lost its own, the message is one that anybody sent.
    assert {message_of(delivery).url for delivery in await take(frontier, 12)} == {url(n) for n in range(12)}
    assert await frontier.receive(10) == []
    await frontier.close()


@pytest.mark.parametrize(("table", "id_"), [("record", -4), ("record", 2**60), ("message", -4), ("message", 2**60)])
async def test_whatever_their_numbers_all_rows_are_taken_along(tmp_path: Path, table: str, id_: int) -> None:
    path = old_file(tmp_path)
    # One that stays a message, too.
    change(path, f"UPDATE {table} SET id = {id_} WHERE id = 4", "DELETE FROM record WHERE url LIKE '%/3'")
    change(path, "UPDATE counter SET number = 11 WHERE name = 'status:queued'")
    frontier = await opened(path)
    assert len(await all_records(frontier)) == 11
    assert len(await take(frontier, 12)) == 12
    await frontier.close()
    assert check_file(str(path)).faults == ()


async def test_a_worker_that_lives_is_noticed(tmp_path: Path) -> None:
    path, clock = old_file(tmp_path), FakeClock()
    change(path, f"INSERT INTO worker VALUES ('w-7', 's', {NOW - 100}, {NOW - 5}, {NOW + 25})")
    before = contents_of(path)
    with pytest.raises(
        FrontierUnavailableError, match=r"a worker of it is at work there or was killed lately \(w-7\): end it, or wait"
    ):
        await opened(path, clock)
    assert (contents_of(path), version_of(path)) == (before, 2)
    clock.now += 26  # it was killed
    await (await opened(path, clock)).close()
    assert version_of(path) == SCHEMA_VERSION


async def test_a_worker_of_a_clock_that_was_ahead_is_none(tmp_path: Path) -> None:
    path = old_file(tmp_path)
    change(path, f"INSERT INTO worker VALUES ('w-7', 's', {NOW + 3500}, {NOW + 3600}, {NOW + 3630})")
    await (await opened(path)).close()
    assert version_of(path) == SCHEMA_VERSION


def run_in_a_transaction(connection: sqlite3.Connection, statements: Sequence[str]) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statement in statements:
            connection.execute(statement)
    except sqlite3.Error:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


@pytest.mark.parametrize("work", OLD_TRANSACTIONS)
async def test_an_old_process_that_stays_changes_nothing(tmp_path: Path, work: str) -> None:
    path = old_file(tmp_path)
    with closing(sqlite3.connect(path, isolation_level=None)) as stays:
        stays.execute("SELECT * FROM record").fetchone()
        frontier = await opened(path)
        await frontier.send(["http://e.com/"])
        with pytest.raises(sqlite3.OperationalError, match=r"no such|no column"):
            run_in_a_transaction(stays, OLD_TRANSACTIONS[work])
    assert len(await take(frontier, 13)) == 13
    await frontier.close()
    assert check_file(str(path)) == Finding(records=12, faults=())


class Usage(NamedTuple):
    """As ``shutil.disk_usage`` tells it."""

    total: int
    used: int
    free: int


async def test_a_disk_without_room_is_told_before_anything_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old_file(tmp_path)
    size = path.stat().st_size
    before = contents_of(path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 10**12, size))
    with pytest.raises(FrontierUnavailableError, match=r"takes 0 MB beside it, and the disk has 0 MB left: make room"):
        await opened(path)
    assert (contents_of(path), version_of(path)) == (before, 2)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, 2 * size))
    await (await opened(path)).close()


async def test_whoever_opens_it_is_told_that_there_is_no_way_back(tmp_path: Path) -> None:
    path = old_file(tmp_path)
    for told in (["cannot open it any more"], []):
        with capture_logs() as logs:
            await (await opened(path)).close()
        assert [log["older_versions"] for log in logs if log["event"] == "file_is_up_to_date"] == told


@pytest.mark.parametrize("dead", [0, 3000])  # of so many that the pages of empty tables do not weigh
def test_the_room_that_is_looked_for_is_enough(tmp_path: Path, dead: int) -> None:
    path = old_file(tmp_path, urls=6000)
    change(path, f"UPDATE message SET is_dead = 1 WHERE id <= {dead}", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)")
    before = path.stat().st_size
    with closing(sqlite_file._connect(str(path))) as connection:
        connection.execute("BEGIN IMMEDIATE")
        upgrading.upgrade(connection, str(path), 2, NOW)
        connection.execute("COMMIT")
        connection.execute("PRAGMA wal_checkpoint(PASSIVE)")  # the log is still there, and the file has grown
        most = path.stat().st_size + Path(f"{path}-wal").stat().st_size
    assert most - before < upgrading.ROOM * before


async def test_whoever_waits_long_is_told_how_far_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("STEP", 5), ("SAID_AFTER_SECONDS", 0.0), ("SAID_EVERY_SECONDS", 0.0)):
        monkeypatch.setattr(upgrading, name, value)
    path = old_file(tmp_path)
    with capture_logs() as logs:
        await (await opened(path)).close()
    assert [log["moved"] for log in logs if log["event"] == "file_is_brought_up_to_date"] == [
        *("5 of 12 records", "10 of 12 records", "12 of 12 records"),
        *("5 of 12 messages", "10 of 12 messages", "12 of 12 messages"),
    ]
    assert logs[-1]["event"] == "file_is_up_to_date"
    assert check_file(str(path)) == Finding(records=12, faults=())


# Killed on the way.

# Opens a file, and is killed when SQLite has made so many steps; before its commit, if none are left to be made.
VICTIM: Final = """
import os, signal, sqlite3, sys
from sqspider.frontier.sqlite import file as sqlite_file
path, steps, now = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
taken = 0
def kill():
    os.kill(os.getpid(), signal.SIGKILL)
def count():
    global taken
    taken += 1
    if taken == steps:
        kill()
    return 0
def traced(statement):
    if statement == "COMMIT":
        print(taken, file=sys.stderr)
        if not steps:
            kill()
connect = sqlite3.connect
def connected(*arguments, **options):
    connection = connect(*arguments, **options)
    connection.set_progress_handler(count, 1000)
    connection.set_trace_callback(traced)
    return connection
sqlite3.connect = connected
sqlite_file.open_to_work(path, now).close()
"""


def open_and_die(path: Path, steps: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", VICTIM, path, str(steps), str(NOW)], capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return old_file(tmp_path_factory.mktemp("large"), urls=MANY)


def test_whoever_is_killed_on_the_way_leaves_the_old_file_whole(large: Path, tmp_path: Path) -> None:
    before, path = contents_of(large), tmp_path / "f.db"
    shutil.copy(large, path)
    told = open_and_die(path, 10**9).stderr.splitlines()  # on a busy machine its log, too
    [all_steps] = map(int, filter(str.isdigit, told))
    assert (version_of(path), check_file(str(path))) == (SCHEMA_VERSION, Finding(records=MANY, faults=()))
    assert all_steps > 100

    path.unlink()
    shutil.copy(large, path)
    for steps in (1, all_steps // 3, all_steps * 2 // 3, all_steps, 0):
        assert open_and_die(path, steps).returncode == -signal.SIGKILL
        assert version_of(path) == 2
    assert contents_of(path) == before
    assert open_and_die(path, 10**9).returncode == 0
    assert check_file(str(path)) == Finding(records=MANY, faults=())


def test_after_a_kill_while_it_was_written_the_file_is_the_old_or_the_new(large: Path, tmp_path: Path) -> None:
    """Wherever in the commit and the checkpoint it is hit."""
    for part in (0.1, 0.5, 1.0):
        path = tmp_path / f"{part}.db"
        shutil.copy(large, path)
        victim = subprocess.Popen(
            [sys.executable, "-c", VICTIM, path, str(10**9), str(NOW)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wal, enough = Path(f"{path}-wal"), part * large.stat().st_size / 2
        while victim.poll() is None and size_of(wal) <= enough:
            time.sleep(0.0005)
        victim.kill()
        victim.wait()
        asyncio.run(goes_on(path))
        assert check_file(str(path)) == Finding(records=MANY, faults=())


def size_of(file: Path) -> int:
    """In bytes; none where it is not there, or not any more."""
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


async def goes_on(path: Path) -> None:
    frontier = await opened(path)
    assert (await frontier.counts()).by_status[Status.QUEUED] == MANY
    [delivery] = await take(frontier, 1)
    assert await finish_one(frontier, await win(frontier, delivery), delivery)
    await frontier.close()


async def test_a_file_of_the_third_version_keeps_outlinks_from_now_on(tmp_path: Path) -> None:
    path, settings = tmp_path / "f.db", CrawlSettings(max_depth=2)
    make_third_file(path, [url("old")], now=NOW, settings='{"max_depth":2}')
    change(path, "UPDATE record SET depth = 1")
    frontier = await opened(path)
    (delivery,) = await take(frontier, 1)
    assert await finish_one(frontier, await win(frontier, delivery), delivery)
    await frontier.enqueue([Entry(url=url("new"), depth=1, parent=url("x"), settings=settings)])
    (delivery,) = await take(frontier, 1)
    claim = await win(frontier, delivery)
    end = Finish(claim=claim, delivery=delivery, outcome=DONE, outlinks=Outlinks((url("there"),)))
    assert await frontier.finish([end]) == [True]
    await frontier.enqueue([Entry(url=url(name), settings=settings) for name in ("old", "new")])
    records = await all_records(frontier)
    assert [records[url(name)].status for name in ("old", "new")] == [Status.QUEUED, Status.DONE], "one is asked again"
    assert records[url("there")].depth == 1
    await frontier.close()
    assert check_file(str(path)).faults == ()
