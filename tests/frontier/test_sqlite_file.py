"""The file: opened by many at once, looked at without a trace, replaced under a crawl, damaged."""

from __future__ import annotations

import asyncio
import json
import math
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from sqspider.cli.main import run
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import (
    Ends,
    Entry,
    Finish,
    Frontier,
    FrontierUnavailableError,
    Outlinks,
    RobotsRow,
    Taking,
    Won,
    open_frontier,
)
from sqspider.frontier.sqlite import SqliteFrontier
from sqspider.frontier.sqlite.check import Finding, check_file
from sqspider.frontier.sqlite.counters import COUNTERS
from sqspider.frontier.sqlite.file import CHECKED_BYTES, open_to_look, open_to_work
from sqspider.frontier.sqlite.keys import key_of
from sqspider.host import RobotsAccess
from sqspider.message import BadBody, Message, decode_message
from sqspider.record import Status

from .kit import (
    A_LITTLE,
    DONE,
    DUE,
    GONE,
    LEASE,
    SETTINGS,
    FakeClock,
    all_records,
    entries,
    finish_one,
    record_of,
    retry_one,
    take,
    take_one,
    try_claim,
    url,
    win,
)

PAGE: Final = 4096


async def opened(path: Path, clock: FakeClock | None = None, *, looking: bool = False) -> SqliteFrontier:
    frontier = await open_frontier(f"sqlite:{path}", SETTINGS, clock=clock or FakeClock(), looking=looking)
    assert isinstance(frontier, SqliteFrontier)
    return frontier


async def a_file(path: Path, urls: int = 3) -> Path:
    """A closed file with some URLs in its queue."""
    frontier = await opened(path)
    await frontier.enqueue(entries(urls))
    await frontier.close()
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def change(path: Path, statement: str, *parameters: object) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(statement, parameters)


def root_of(path: Path, name: str) -> int:
    """Where the root page of a table or index begins in the file; in a small file it is its only page."""
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).fetchone()
    return int(page - 1) * PAGE


def flip(path: Path, name: str, text: bytes, bit: int = 1) -> None:
    """Flip a bit in the last byte of what is stored in a table or index."""
    start, data = root_of(path, name), bytearray(path.read_bytes())
    at = data.index(text, start, start + PAGE) + len(text) - 1
    data[at] ^= bit
    path.write_bytes(data)


KEYS: Final = "record_key"


def key_bytes(url: str) -> bytes:
    """A URL's key as the index has it."""
    return key_of(url).to_bytes(8, "big", signed=True)


def as_after_a_kill(path: Path, killed: Path) -> None:
    """Copy a file as it lies there when whoever wrote to it has died."""
    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("INSERT OR REPLACE INTO counter VALUES ('bytes', 7)")
    for end in ("", "-wal"):
        shutil.copy(f"{path}{end}", f"{killed}{end}")
    writer.close()


WITHOUT_BARRED: Final = "ALTER TABLE worker DROP COLUMN barred"  # as the first files of the fourth version were

# Opening.


@pytest.mark.parametrize("is_new", [True, False])
def test_opening_a_new_file_or_one_without_its_last_column_at_once_works_for_all(tmp_path: Path, is_new: bool) -> None:
    for number in range(25 if is_new else 8):
        path, barrier = str(tmp_path / f"{number}.db"), threading.Barrier(6)
        troubles: list[str] = []
        if not is_new:
            open_to_work(path, 0.0).close()
            change(Path(path), WITHOUT_BARRED)

        def open_it(path: str = path, barrier: threading.Barrier = barrier, troubles: list[str] = troubles) -> None:
            barrier.wait()
            try:
                open_to_work(path, 0.0).close()
            except (FrontierUnavailableError, sqlite3.Error) as error:
                troubles.append(str(error))

        threads = [threading.Thread(target=open_it) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert troubles == []


def test_a_switch_to_wal_waits_for_whoever_writes(tmp_path: Path) -> None:
    """SQLite itself gives up at once there, whatever its patience."""
    path = tmp_path / "f.db"
    writer = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    writer.execute("BEGIN IMMEDIATE")
    with closing(sqlite3.connect(path)) as switcher, pytest.raises(sqlite3.OperationalError, match="locked"):
        switcher.execute("PRAGMA journal_mode = WAL")
    ending = threading.Timer(0.1, writer.rollback)
    ending.start()
    open_to_work(str(path), 0.0).close()
    ending.join()
    writer.close()


def test_an_old_sqlite_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 37, 2))  # knows no ->>
    with pytest.raises(FrontierUnavailableError, match=r"needs 3\.38\.0 or later"):
        open_to_work(str(tmp_path / "f.db"), 0.0)
    with pytest.raises(FrontierUnavailableError, match=r"needs 3\.38\.0 or later"):
        open_to_look(str(tmp_path / "f.db"))


async def test_opening_to_work_does_not_wait_for_who_writes(tmp_path: Path) -> None:
    path = await a_file(tmp_path / "f.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        frontier = await opened(path)
        assert await frontier.sweep() == 0  # nothing is past its time: there is nothing to write
        await frontier.close()


# Looking.

LOOKING: Final = (
    ("status", "--json"),
    ("status", "--check"),
    ("show", url(1)),
    ("export",),
    ("hosts",),
    ("metrics", "--json"),
    ("redrive", "--list"),
)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which commands are run, in this process."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SQSPIDER_FRONTIER", raising=False)
    return tmp_path


def test_looking_leaves_no_trace(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(a_file(here / "sqspider.db"))
    before = contents(here)
    for command in LOOKING:
        assert run([*command]) == 0, capsys.readouterr().err
    assert contents(here) == before


def test_looking_waits_for_no_writer(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = asyncio.run(a_file(here / "sqspider.db"))
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE counter SET number = number + 1")
        for command in LOOKING:
            assert run([*command]) == 0, capsys.readouterr().err


def test_looking_leaves_a_dead_process_log_where_it_is(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    as_after_a_kill(asyncio.run(a_file(here / "made.db")), here / "sqspider.db")
    before = contents(here)
    assert run(["status", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bytes"] == 7
    after = contents(here)
    assert [after[name] for name in ("sqspider.db", "sqspider.db-wal")] == [
        before[name] for name in ("sqspider.db", "sqspider.db-wal")
    ]


def test_looking_makes_no_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in LOOKING:
        assert run([*command]) == 3
        assert "there is no frontier at sqspider.db: a crawl or an enqueue makes one" in capsys.readouterr().err
    (here / "sqspider.db").touch()
    for command in LOOKING:
        assert run([*command]) == 3
        assert "sqspider.db is empty" in capsys.readouterr().err
    assert contents(here) == {"sqspider.db": b""}


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    path = asyncio.run(a_file(tmp_path / "50% of a?b#c;d e.db"))
    with closing(open_to_look(str(path))) as connection:
        assert connection.execute("SELECT count(*) FROM record").fetchone() == (3,)


def test_a_file_of_an_older_version_is_not_changed_by_a_look(tmp_path: Path) -> None:
    path = str(tmp_path / "f.db")
    open_to_work(path, 0.0).close()
    change(tmp_path / "f.db", "PRAGMA user_version = 1")
    before = contents(tmp_path)
    with pytest.raises(FrontierUnavailableError, match=r"older sqspider.*`sqspider sweep` brings it up to date"):
        open_to_look(path)
    assert contents(tmp_path) == before


def test_a_read_only_file_system_can_be_looked_at(tmp_path: Path) -> None:
    """And is found out at once by what would write to it."""
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "true"], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    asyncio.run(a_file(tmp_path / "made.db"))
    mount = tmp_path / "mount"
    mount.mkdir()
    die_looking = (
        'import os, sqlite3; c = sqlite3.connect("f.db"); c.execute("SELECT * FROM counter").fetchall(); os._exit(0)'
    )
    script = (
        f"mount -t tmpfs none {mount} && cp {tmp_path}/made.db {mount}/f.db && mount -o remount,ro {mount} && "
        f"cd {mount} && run() {{ {sys.executable} -m sqspider --frontier sqlite:f.db $@; echo $? >&2; }} && "
        "run status --json && run export && run enqueue http://e.com/ && "
        # With what a program leaves beside it that dies while it looks: then SQLite opens it without a word.
        f"mount -o remount,rw {mount} && {sys.executable} -c '{die_looking}' && mount -o remount,ro {mount} && "
        "run enqueue --file /dev/null"
    )
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], capture_output=True, text=True, check=False)
    first, *rows = done.stdout.splitlines()
    assert json.loads(first)["records"]["queued"] == len(rows) == 3
    looked, exported, *worked = done.stderr.splitlines()
    assert (looked, exported, *worked[1::2]) == ("0", "0", "3", "3"), done.stderr
    assert all("f.db cannot be" in line for line in worked[::2])


# Replaced or deleted.


@pytest.mark.parametrize("how", ["replaced", "deleted"])
@pytest.mark.parametrize("is_noticed", [True, False], ids=["at work", "at the end"])
async def test_another_file_at_the_path_is_left_alone(tmp_path: Path, how: str, is_noticed: bool) -> None:
    path, kept = await a_file(tmp_path / "f.db"), tmp_path / "kept.db"
    await a_file(tmp_path / "other.db", urls=5)
    clock = FakeClock()
    frontier = await opened(path, clock)
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery)
    os.link(path, kept)  # it has another name, too, so that it can be looked at afterwards
    if how == "replaced":
        os.replace(tmp_path / "other.db", path)
    else:
        path.unlink()
    if is_noticed:
        works: list[Callable[[], Any]] = [
            lambda: finish_one(frontier, claim, delivery),
            frontier.counts,
            frontier.queue_stats,
            lambda: frontier.check_in("w", session="s", ttl_seconds=30),
            lambda: frontier.receive(10),
        ]
        for work in works:
            with pytest.raises(FrontierUnavailableError, match="while it was in use"):
                await work()
    await frontier.close()

    if how == "deleted":
        assert not path.exists()
    else:
        assert check_file(str(path)).faults == ()
        there = await opened(path, clock)
        records = await all_records(there)
        assert len(records) == 5
        assert {record.status for record in records.values()} == {Status.QUEUED}
        await there.close()
    before = await opened(kept, clock)
    assert (await record_of(before, claim.url)).status is Status.PROCESSING  # what was answered for is in its own file
    await before.close()


@pytest.mark.parametrize("how", ["replaced", "deleted"])
async def test_a_crawl_ends_when_its_file_is_gone(served_site: str, tmp_path: Path, how: str) -> None:
    path = tmp_path / "sqspider.db"
    await a_file(tmp_path / "other.db", urls=5)
    command = [sys.executable, "-m", "sqspider", "crawl", served_site, "--delay", "1", "--allow-private", "--quiet"]
    crawl = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, stderr=asyncio.subprocess.PIPE)
    try:
        while not await _done(path):
            await asyncio.sleep(0.02)
        if how == "replaced":
            os.replace(tmp_path / "other.db", path)
        else:
            path.unlink()
        _, errors = await crawl.communicate()
    finally:
        if crawl.returncode is None:
            crawl.kill()
    assert crawl.returncode == 3
    assert b"while it was in use" in errors
    assert b"Traceback" not in errors
    if how == "replaced":
        assert check_file(str(path)).faults == ()
        assert await _done(path) == 0


async def _done(path: Path) -> int:
    try:
        frontier = await opened(path, looking=True)
    except FrontierUnavailableError:
        return 0  # it is not made yet
    counts = await frontier.counts()
    await frontier.close()
    return counts.by_status[Status.DONE]


# Damage.


async def test_after_an_unclean_end_damage_is_found_when_it_is_opened(tmp_path: Path) -> None:
    path, killed = await a_file(tmp_path / "f.db"), tmp_path / "killed.db"
    as_after_a_kill(path, killed)
    await (await opened(killed)).close()  # it is sound
    as_after_a_kill(path, killed)
    data, root = bytearray(killed.read_bytes()), root_of(path, "record")
    data[root + 3 : root + 5] = b"\xff\xff"  # how many cells there are in it
    killed.write_bytes(data)
    assert len(data) < CHECKED_BYTES
    with pytest.raises(FrontierUnavailableError, match=r"killed\.db is damaged: .*`sqspider status --check`"):
        await opened(killed)


async def test_a_check_finds_nothing_in_a_sound_file(tmp_path: Path) -> None:
    path, clock = await a_file(tmp_path / "f.db"), FakeClock()
    frontier = await opened(path, clock)
    delivery, held, late = await take(frontier, 3)
    await finish_one(frontier, await win(frontier, delivery), delivery, GONE)
    await win(frontier, held, claim="c2")
    await retry_one(frontier, await win(frontier, late, claim="c3"), late, at=clock() + 60)
    assert check_file(str(path)) == Finding(records=3, faults=())  # beside somebody who works
    await frontier.close()


def test_a_check_of_a_sound_file_says_so(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(a_file(here / "sqspider.db"))
    assert run(["status", "--check"]) == 0
    assert capsys.readouterr().out == "sqlite:sqspider.db is sound: 3 records\n"
    assert run(["status", "--check", "--json"]) == 0
    found = {"frontier": "sqlite:sqspider.db", "sound": True, "records": 3, "faults": []}
    assert json.loads(capsys.readouterr().out) == found


DAMAGES: Final[dict[str, tuple[str, tuple[object, ...], str]]] = {
    "a sum": ("UPDATE counter SET number = 9 WHERE name = 'status:queued'", (), "the sum status:queued is 9, the rows say 3"),
    "messages": ("UPDATE counter SET number = 1 WHERE name = 'messages'", (), "the sum messages is 1, the rows say 3"),
    "a host": ("UPDATE record SET status = 2, lease_until = NULL", (), "the sums of example.com are (0, 0, 0), the rows say (3, 0, 0)"),
    "an outcome": ("UPDATE record SET outcome = '{\"status\"' WHERE id = 2", (), f"{url(1)}: its row is damaged"),
    "a status": ("UPDATE record SET status = 'queud' WHERE id = 2", (), f"{url(1)}: its row is damaged: no status is 'queud'"),
    "a number": ("UPDATE record SET attempt = 'x' WHERE id = 2", (), f"{url(1)}: its row is damaged"),
    "a text": ("UPDATE record SET parent = CAST(? AS TEXT) WHERE id = 2", (b"h\xff",), f"{url(1)}: its row is damaged"),
    "a lease": ("UPDATE record SET lease_until = 5 WHERE id = 2", (), f"{url(1)}: queued with a lease of 5"),
    "no way back": ("UPDATE record SET queue = NULL WHERE id = 2", (), f"nothing brings it back: {url(1)}"),
    "settings": ("DELETE FROM crawl", (), f"its crawl's settings are gone: {url(1)}"),
    "the end": ("UPDATE record SET status = 2, lease_until = NULL WHERE id = 2", (), f"{url(1)}: done, and its outcome says something else"),
    "put off": ("INSERT INTO counter VALUES ('put_off', 1)", (), "the sum put_off is 1, the rows say 0"),
    "dead": ("INSERT INTO sent (body, sent_at) VALUES ('', 1)", (), "the sum dead is 0, the rows say 1"),
    "a key": ("UPDATE record SET key = 7 WHERE id = 2", (), f"{url(1)}: it is not found by its own URL"),
    "a place": ("UPDATE record SET status = 1, lease_until = 9e9 WHERE id = 2", (), f"{url(1)}: processing, and in the queue as if it were fresh"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_check_names_what_is_damaged(tmp_path: Path, damage: str) -> None:
    statement, parameters, says = DAMAGES[damage]
    path = await a_file(tmp_path / "f.db")
    change(path, statement, *parameters)
    faults = check_file(str(path)).faults
    assert any(says in fault for fault in faults), faults


def test_a_check_finds_a_flipped_bit_in_an_index(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flip(asyncio.run(a_file(here / "sqspider.db")), KEYS, key_bytes(url(1)))
    assert run(["status", "--check"]) == 1
    assert KEYS in capsys.readouterr().out
    assert run(["status", "--check", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["sound"]
    assert any(KEYS in fault for fault in found["faults"]), found
    assert run(["--frontier", "aws:", "status", "--check"]) == 2


@pytest.mark.parametrize("damage", ["an outcome", "a status", "a number", "a text", "a time"])
def test_a_record_that_cannot_be_read_is_one_row(here: Path, capsys: pytest.CaptureFixture[str], damage: str) -> None:
    path = asyncio.run(a_file(here / "sqspider.db"))
    late = ("UPDATE record SET enqueued_at = 1e300 WHERE id = 2", (), "")
    statement, parameters, _ = DAMAGES.get(damage, late)
    change(path, statement, *parameters)
    for command in (("export",), ("export", "--format", "csv"), ("export", "--output", "rows.jsonl"), ("show", url(1))):
        assert run([*command]) == 1, capsys.readouterr().err
    assert "error  " in capsys.readouterr().out
    rows = [json.loads(line) for line in (here / "rows.jsonl").read_text().splitlines()]
    assert [row["url"] for row in rows] == [url(n) for n in range(3)]
    assert [row["error"] is not None for row in rows] == [False, True, False]
    assert rows[1]["status"] is None


async def test_a_damaged_host_row_ends_in_a_sentence_and_a_damaged_robots_row_is_asked_for_anew(tmp_path: Path) -> None:
    frontier = await opened(await a_file(tmp_path / "f.db"))
    await frontier.save_robots([RobotsRow(origin="https://e.com", access=RobotsAccess.ALLOW_ALL)])
    assert "https://e.com" in await frontier.robots(["https://e.com"])
    change(tmp_path / "f.db", "UPDATE robots SET row = x'00'")
    assert await frontier.robots(["https://e.com"]) == {}
    for column, value in (("trouble", "tiemout"), ("crawl_delay_seconds", "x"), ("rest_until", math.inf)):
        change(tmp_path / "f.db", f"INSERT OR REPLACE INTO host (host, {column}) VALUES ('e.com', ?)", value)
        with pytest.raises(FrontierUnavailableError, match=rf"the row of the host 'e\.com' says .*{column}"):
            await frontier.scan_hosts()
    change(tmp_path / "f.db", "INSERT INTO worker VALUES ('w', 's', 1, 1e308, 9e9, NULL)")
    with pytest.raises(FrontierUnavailableError, match=r"the row of the worker 'w' says seen_at"):
        await frontier.workers()
    await frontier.close()


@pytest.mark.parametrize(
    ("damage", "command"),
    [
        ("UPDATE counter SET number = 'x' WHERE name = 'status:queued'", "status"),
        ("UPDATE counter SET number = x'00' WHERE name = 'messages'", "status --json"),
        ("UPDATE record SET enqueued_at = 'x' WHERE id = 1", "status"),
        ("INSERT INTO sent (body, sent_at) VALUES (x'ff00', 1)", "redrive --list"),
        ("INSERT INTO sent (body, sent_at) VALUES ('', 9e99)", "redrive --list --json"),
        ("UPDATE counter SET number = 'x' WHERE name = 'status:queued'", "crawl --allow-private"),
    ],
)
def test_a_number_that_is_none_is_said_to_be_damage(
    here: Path, capsys: pytest.CaptureFixture[str], damage: str, command: str
) -> None:
    change(asyncio.run(a_file(here / "sqspider.db")), damage)
    assert run(command.split()) == 3
    assert "sqspider.db is damaged: " in capsys.readouterr().err
    assert run(["status", "--check"]) == 1
    assert "Traceback" not in capsys.readouterr().err


A_LIMITED_CRAWL: Final = """
INSERT INTO crawl (settings, name, row) VALUES ('default.a', 'default', '{"name":"default","id":"a","limits":{"pages":5}}')
"""


@pytest.mark.parametrize("row", ["no JSON", '{"spent": "x"}', b"\xff", "[]"])
@pytest.mark.parametrize("command", ["crawls", "status", "crawl"])
def test_shares_that_cannot_be_read_are_said_to_be_damage(
    here: Path, capsys: pytest.CaptureFixture[str], row: str | bytes, command: str
) -> None:
    change(asyncio.run(a_file(here / "sqspider.db")), A_LIMITED_CRAWL)
    change(here / "sqspider.db", "INSERT INTO run VALUES ('default.a #0', ?)", row)
    assert run([command]) == 3
    assert "sqspider.db is damaged: " in capsys.readouterr().err
    assert run(["status", "--check"]) == 1
    assert "its share cannot be read: default.a #0" in capsys.readouterr().out


async def test_a_claim_of_a_damaged_record_is_nobodys(tmp_path: Path) -> None:
    path = await a_file(tmp_path / "f.db")
    change(path, "UPDATE record SET tries = 'x' WHERE id = 1")
    frontier = await opened(path)
    with pytest.raises(FrontierUnavailableError, match=re.escape(f"the record of {url(0)} says")):
        await win(frontier, await take_one(frontier))
    await frontier.close()


@pytest.mark.parametrize(
    "damage",
    [
        "depth = 'x'",
        "depth = -1",
        "redirects = 1.5",
        "lastmod = 9e99",
        "slot = 'x'",
        "slot_generation = -1",
        "url = 'no url'",
        "parent = x'00'",
    ],
)
async def test_a_turn_believes_no_damaged_record(tmp_path: Path, damage: str) -> None:
    """It does not decode what records say; what it makes of a damaged one is what decoding makes of it."""
    path = await a_file(tmp_path / "f.db")
    change(path, f"UPDATE record SET {damage} WHERE id = 2")
    frontier = await opened(path)
    taking = Taking(limit=9, worker_id="w", claim_id="c", lease_seconds=60, claims=lambda _: True)
    first, second, third = (await frontier.turn(Ends(), taking)).taken
    assert isinstance(first.message, Message)
    assert isinstance(third.message, Message)
    assert second.message == decode_message(second.delivery.body)
    assert isinstance(second.message, BadBody) == (second.claim is None) == ("parent" not in damage)
    await frontier.close()


@pytest.mark.parametrize("damage", ["record SET depth = 'x'", "record SET redirects = x'00'", "record SET status = 9"])
async def test_a_link_to_a_damaged_record_is_one_that_is_known(tmp_path: Path, damage: str) -> None:
    path, settings = await a_file(tmp_path / "f.db"), CrawlSettings(max_depth=3)
    change(path, "UPDATE record SET depth = 2")
    change(path, f"UPDATE {damage} WHERE id = 2")
    frontier = await opened(path)
    links = [Entry(url=url(number), depth=1, parent=url("p"), settings=settings) for number in range(3)]
    assert await frontier.enqueue(links) == [False] * 3
    assert [(await record_of(frontier, url(number))).depth for number in (0, 2)] == [1, 1]
    await frontier.close()


@pytest.mark.parametrize("damage", ["outlinks SET led = x'00'", "record SET outcome = x'00'", "record SET crawl = 99"])
async def test_what_was_finished_and_is_damaged_hands_nothing_on(tmp_path: Path, damage: str) -> None:
    path, entry = tmp_path / "f.db", Entry(url=url("a"), depth=2, parent=url("p"), settings=CrawlSettings(max_depth=3))
    frontier = await opened(path)
    await frontier.enqueue([entry])
    delivery = await take_one(frontier)
    end = Finish(claim=await win(frontier, delivery), delivery=delivery, outcome=DONE, outlinks=Outlinks((url("b"),)))
    assert await frontier.finish([end]) == [True]
    change(path, f"UPDATE {damage}")
    assert await frontier.enqueue([msgspec.structs.replace(entry, depth=1)]) == [False]
    assert list(await all_records(frontier)) == [url("a")]
    await frontier.close()


@pytest.mark.parametrize("by_turns", [False, True])
async def test_a_record_that_its_own_url_does_not_lead_to_is_nobodys(tmp_path: Path, by_turns: bool) -> None:
    path, clock = await a_file(tmp_path / "f.db"), FakeClock()
    flip(path, "record", url(1).encode())  # in the table: now it says that it is the first one
    frontier = await opened(path, clock)
    with pytest.raises(FrontierUnavailableError, match=rf"nothing there brings back: 1 \({url(0)}\)"):
        await go_on(clock, frontier, by_turns=by_turns)
    assert (await record_of(frontier, url(0))).attempt == 1
    await frontier.close()


# A crawl that cannot end.


@pytest.mark.parametrize("by_turns", [False, True])
async def test_a_url_that_is_queued_and_done_does_not_keep_a_crawl_running(tmp_path: Path, by_turns: bool) -> None:
    """One bit in the unique index makes two records of one URL; only one of them is ever found by it."""
    path, clock = await a_file(tmp_path / "f.db"), FakeClock()
    flip(path, KEYS, key_bytes(url(1)))
    frontier = await opened(path, clock)
    assert await frontier.enqueue(entries(3)) == [False, True, False]
    with pytest.raises(FrontierUnavailableError, match=rf"nothing there brings back: 1 \({url(1)}\)"):
        await go_on(clock, frontier, by_turns=by_turns)
    await frontier.close()


NO_PLACE: Final = "UPDATE record SET queue = NULL, due_at = {due_at}, lease_until = {lease} WHERE id = 2"


@pytest.mark.parametrize(
    "damage",
    [
        DAMAGES["a sum"][0],
        NO_PLACE.format(due_at="NULL", lease="0"),
        NO_PLACE.format(due_at="1", lease="NULL"),
    ],
)
async def test_what_has_no_way_back_ends_the_crawl_when_all_else_is_done(tmp_path: Path, damage: str) -> None:
    path, clock = await a_file(tmp_path / "f.db"), FakeClock()
    change(path, damage)
    frontier = await opened(path, clock)
    with pytest.raises(FrontierUnavailableError, match=r"nothing there brings back: \d"):
        await go_on(clock, frontier)
    done = (await frontier.counts()).by_status[Status.DONE]
    assert done == (3 if "counter" in damage else 2)  # the others are finished
    await frontier.close()


async def test_what_has_no_settings_any_more_ends_the_crawl(tmp_path: Path) -> None:
    path, clock = await a_file(tmp_path / "f.db"), FakeClock()
    change(path, "DELETE FROM crawl")
    frontier = await opened(path, clock)
    with pytest.raises(
        FrontierUnavailableError, match=re.escape(f"settings are gone with which {url(0)} was recorded")
    ):
        await frontier.receive(10)
    change(path, "UPDATE record SET queue = NULL, due_at = 1")
    with pytest.raises(FrontierUnavailableError, match=r"nothing there brings back: 3"):
        await frontier.sweep()
    await frontier.close()


async def test_a_place_that_is_never_received_does_not_keep_a_crawl_running(tmp_path: Path) -> None:
    """One bit in the index that URLs are received by hides one."""
    path, clock = await a_file(tmp_path / "f.db"), FakeClock()
    flip(path, "record_place", b"\x03\x08")  # the head of its last row; 8 stands for 0, and 9 for 1: not fresh
    frontier = await opened(path, clock)
    with pytest.raises(FrontierUnavailableError, match=r"nothing there brings back: 1"):
        await go_on(clock, frontier)
    assert (await frontier.counts()).by_status[Status.DONE] == 2
    await frontier.close()


async def test_a_place_of_a_url_that_is_not_there_is_damage(tmp_path: Path) -> None:
    path, clock = await a_file(tmp_path / "f.db"), FakeClock()
    flip(path, "record_place", b"\x03\x08\x01\x03", bit=0x20)  # its last row, and the number of its record: 3
    frontier = await opened(path, clock)
    with pytest.raises(FrontierUnavailableError, match="an index names URLs that wait and are not there"):
        await frontier.receive(10)
    await frontier.close()


async def test_the_last_url_may_end_while_a_sweep_asks_what_is_left(tmp_path: Path) -> None:
    path = await a_file(tmp_path / "f.db", urls=1)
    frontier = await opened(path)
    assert isinstance(frontier, SqliteFrontier)
    asked: list[str] = []

    def meanwhile(statement: str) -> None:
        """Between two questions of the sweep, another process finishes the record."""
        asked.append(statement)
        if asked.count(COUNTERS) == 1 and statement != COUNTERS:
            asked.append(COUNTERS)
            for done in (
                "UPDATE record SET status = 2, queue = NULL, due_at = NULL, lease_until = NULL",
                "DELETE FROM counter",
            ):
                change(path, done)

    frontier._file.connection.set_trace_callback(meanwhile)
    assert await frontier.sweep() == 0
    assert asked.count(COUNTERS) == 2
    assert (await frontier.counts()).open == 0
    await frontier.close()


async def go_on(clock: FakeClock, frontier: SqliteFrontier, *, by_turns: bool = False) -> None:
    """What a worker does while something is left, for a while."""
    for _ in range(10):
        await (finish_all_by_turns(frontier) if by_turns else finish_all(frontier))
        clock.now += DUE + LEASE + A_LITTLE
        await frontier.sweep()


async def finish_all(frontier: Frontier) -> None:
    while deliveries := await frontier.receive(10):
        for delivery in deliveries:
            answer = await try_claim(frontier, delivery)
            if isinstance(answer, Won):
                assert await finish_one(frontier, answer, delivery)
            else:
                await frontier.delete([delivery])


async def finish_all_by_turns(frontier: SqliteFrontier) -> None:
    taking = Taking(limit=10, worker_id="w", claim_id="c", lease_seconds=LEASE, claims=lambda _: True)
    ends = Ends()
    while taken := (await frontier.turn(ends, taking)).taken:
        finishes = [
            Finish(claim=each.claim, delivery=each.delivery, outcome=GONE)
            for each in taken
            if isinstance(each.claim, Won)
        ]
        lost = [each.delivery for each in taken if not isinstance(each.claim, Won)]
        ends = Ends(finishes=finishes, deletions=lost)
