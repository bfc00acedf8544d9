"""Workers that are forked: what holds whichever of the processes ends, and when. Real processes, waited for by events."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tests.cli.test_processes import FLAGS, Crawling, by_status, saying
from tests.conftest import Run
from tests.sites import Asked, Site

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork") or sys.platform == "darwin", reason="workers are started as programs here"
)

TWO: Final = ("--workers", "2", "--quiet")
LONG_SECONDS: Final = 60.0  # after which a process that waits for ever is given up

# Workers that work until their standard input ends; `say` goes out at once.
SCRIPT: Final = """
import asyncio, os, signal
from functools import partial
from sqspider.cli.forking import fork_workers

say = partial(print, flush=True)

def work(told):
    while os.read(0, 1):
        pass
    return 7 if told == b"so" else 1

workers = fork_workers(2, work)
"""

ONE_IS_STOPPED: Final = """
for worker in workers:
    worker.begin(b"so")
one, other = workers[STOPPED], workers[1 - STOPPED]
one.stop()
say(asyncio.run(one.wait()))
say(os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG))
other.stop()
say(asyncio.run(other.wait()))
"""

ONE_IS_KILLED_BEFORE_THE_WORD: Final = """
os.kill(workers[0].pid, signal.SIGKILL)
os.waitid(os.P_PID, workers[0].pid, os.WEXITED | os.WNOWAIT)
for worker in workers:
    worker.begin(b"so")
say(asyncio.run(workers[0].wait()))
workers[0].kill()
workers[1].stop()
say(asyncio.run(workers[1].wait()))
"""

NO_WORD_IS_GIVEN: Final = """
for worker in workers:
    worker.stop()
    say(asyncio.run(worker.wait()))
"""


def lines_of(script: str) -> list[str]:
    """What a program prints that has forked two workers."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + script], capture_output=True, text=True, check=True, timeout=LONG_SECONDS
    )
    assert done.stderr == ""
    return done.stdout.split("\n")[:-1]


@pytest.mark.parametrize("stopped", [0, 1])
def test_a_worker_hears_its_end_while_the_other_lives(stopped: int) -> None:
    """Were the end of its pipe open in the other, it would work on for ever."""
    assert lines_of(ONE_IS_STOPPED.replace("STOPPED", str(stopped))) == ["7", "None", "7"]


def test_a_worker_that_died_before_the_word_is_no_trouble_to_the_others() -> None:
    assert lines_of(ONE_IS_KILLED_BEFORE_THE_WORD) == ["-9", "7"]


def test_without_the_word_nothing_is_begun() -> None:
    assert lines_of(NO_WORD_IS_GIVEN) == ["0", "0"]


def test_more_workers_than_may_be_started_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    """Whoever has been forked by then holds our end of the output: it ends when the last of them has."""
    command = [sys.executable, "-m", "sqspider", "crawl", "http://127.0.0.1/", "--workers", "64"]
    few = ["sh", "-c", 'ulimit -n 32 && exec "$@"', "sh", *command, "--frontier", f"sqlite:{tmp_path}/f.db"]
    done = subprocess.run(few, capture_output=True, text=True, timeout=LONG_SECONDS, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: 64 workers cannot be started here: Too many open files. Ask for fewer.\n"
    assert list(tmp_path.iterdir()) == []


class Door:
    """What pages wait for; who has asked is counted."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self.opened = threading.Event()

    def answer(self, _: Asked) -> bytes:
        self.asked.release()
        self.opened.wait()
        return b"leaf"


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door()
    yield door
    door.opened.set()


@pytest.fixture
def site(door: Door) -> Iterator[Site]:
    """A start page with eight pages behind a door."""
    site = Site()
    site.bodies["/"] = "".join(f'<a href="/{number}">x</a>' for number in range(8)).encode()
    for number in range(8):
        site.bodies[f"/{number}"] = door.answer
    yield site
    door.opened.set()
    site.close()


@pytest.fixture
def unbegun(site: Site, door: Door, tmp_path: Path) -> Crawling:
    """A crawl that reads sitemaps first: its workers are forked, and wait for the word."""
    site.bodies["/robots.txt"] = door.answer
    crawl = Crawling(tmp_path, "crawl", site.url, *FLAGS, *TWO, "--sitemaps")
    assert door.asked.acquire(timeout=LONG_SECONDS)
    return crawl


def test_workers_end_when_their_parent_was_killed_before_the_word(sqspider: Run, door: Door, unbegun: Crawling) -> None:
    unbegun.process.kill()
    assert unbegun.ended() == -signal.SIGKILL  # they write to the same pipe: it ends with the last of them
    door.opened.set()
    assert by_status(sqspider) == {"queued": 1}
    assert not any(line.startswith("{") for line in unbegun.lines), unbegun.lines


def test_a_crawl_that_is_stopped_before_the_word_begins_nothing(sqspider: Run, door: Door, unbegun: Crawling) -> None:
    unbegun.process.send_signal(signal.SIGINT)
    unbegun.until(saying("stopping:"))
    door.opened.set()
    assert unbegun.ended() == 130, unbegun.lines
    assert by_status(sqspider).keys() == {"queued"}


def test_a_signal_to_all_in_the_terminal_is_heard_once(sqspider: Run, site: Site, door: Door, tmp_path: Path) -> None:
    """As Ctrl-C is sent: had the workers heard it, too, they would say so, and a second one would end them at once."""
    crawl = Crawling(tmp_path, "crawl", site.url, *FLAGS, *TWO)
    assert door.asked.acquire(timeout=LONG_SECONDS)
    os.killpg(crawl.process.pid, signal.SIGINT)
    crawl.until(saying("stopping:"))
    door.opened.set()
    assert crawl.ended() == 130, crawl.lines
    assert sum("stopping:" in line for line in crawl.lines) == 1
    assert "processing" not in by_status(sqspider)


def test_workers_have_names_and_claims_of_their_own(site: Site, door: Door, tmp_path: Path) -> None:
    """They are copies of one process: what is random is made after the fork."""
    crawl = Crawling(tmp_path, "crawl", site.url, *FLAGS, *TWO, "--concurrency", "1", "--batch-size", "1")
    for _ in range(2):  # one worker asks for one page at a time
        assert door.asked.acquire(timeout=LONG_SECONDS)
    with closing(sqlite3.connect(tmp_path / "sqspider.db")) as database:
        claims = database.execute("SELECT worker_id, claim_id FROM record WHERE status = 1").fetchall()
    door.opened.set()
    assert crawl.ended() == 0, crawl.lines
    assert len({worker_id for worker_id, _ in claims}) == 2
    assert len({claim_id for _, claim_id in claims}) == len(claims) >= 2


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize(("page", "status"), [("", 0), ("missing", 1)])
def test_what_is_written_and_said_is_as_by_one_worker(
    sqspider: Run, site: Site, door: Door, tmp_path: Path, page: str, status: int, workers: str
) -> None:
    door.opened.set()
    seed = site.url + page
    done = sqspider("crawl", seed, *FLAGS, "--workers", workers, "--json", "--output", "rows.jsonl")
    assert done.returncode == status, done.stderr
    known = 9 if status == 0 else 1
    assert json.loads(done.stdout)["records"] == known  # one document: no copy of it was left in a worker
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    assert len({row["url"] for row in rows}) == len(rows) == known
    assert f"{known} {'row' if known == 1 else 'rows'} written to rows.jsonl" in done.stderr
    assert (f"{seed}: failed" in done.stderr) == bool(status)
