"""Workers as processes, and what ends them: kills, signals, the end of the parent, a platform without signals in loops."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import trustme

from sqspider.cli.archiving import place_of
from sqspider.cli.consume import consume
from sqspider.cli.crawl import crawl
from sqspider.cli.processes import MAX_AT_ONCE, consume_command
from sqspider.cli.shared import Shared
from sqspider.cli.start import to_start
from sqspider.cli.worker import to_worker_options
from sqspider.orders.start import Start, with_archive
from sqspider.work.options import WorkerOptions
from tests.conftest import Run
from tests.sites import Asked, Site

FLAGS = ("--delay", "0", "--allow-private")
SHORT_LEASE = ("--timeout", "1.9", "--lease", "17")  # for what a killed worker may have held


class Gate(threading.Event):
    """What a site's pages wait for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def answer(self, _: Asked) -> bytes:
        self.asked.set()
        self.wait()
        return b"leaf"


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.set()


@pytest.fixture
def gated_site(gate: Gate) -> Iterator[Site]:
    """A start page, and a page behind a gate."""
    site = Site()
    site.bodies["/"] = b'<a href="/gated">x</a>'
    site.bodies["/gated"] = gate.answer
    yield site
    gate.set()
    site.close()


class Crawling:
    """A crawl that runs, and what it says, as events."""

    def __init__(self, folder: Path, *arguments: str, **environment: str) -> None:
        command = [sys.executable, "-m", "sqspider", "--log-format", "json", "--log-level", "info", *arguments]
        self.process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **environment}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self.events: list[dict[str, Any]] = []

    def until(self, is_it: Callable[[dict[str, Any], str], bool]) -> dict[str, Any]:
        """Read on until an event, or a line that is none, is the one."""
        for event in self:
            if is_it(event, self.lines[-1]):
                return event
        raise AssertionError(f"it never came: {self.lines}")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            event = json.loads(line) if line.startswith("{") else {"event": ""}
            self.events.append(event)
            yield event

    def ended(self) -> int:
        """The exit status, when the process has ended and so has everybody who writes where it did."""
        for _ in self:
            """Reads to the end."""
        assert self.process.stderr is not None
        self.process.stderr.close()
        return self.process.wait()


def named(name: str) -> Callable[[dict[str, Any], str], bool]:
    return lambda event, _: event["event"] == name


def saying(text: str) -> Callable[[dict[str, Any], str], bool]:
    return lambda _, line: text in line


def by_status(sqspider: Run, frontier: str = "sqlite:sqspider.db") -> dict[str, int]:
    counts: dict[str, int] = json.loads(sqspider("--frontier", frontier, "status", "--json").stdout)["records"]
    return {status: number for status, number in counts.items() if number}


def test_killed_workers_are_replaced(sqspider: Run, gated_site: Site, gate: Gate, tmp_path: Path) -> None:
    crawl = Crawling(tmp_path, "crawl", gated_site.url, *FLAGS, *SHORT_LEASE, "--workers", "2", "--quiet")
    gate.set()
    killed = [crawl.until(named("worker_started"))["pid"] for _ in range(2)]
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert crawl.ended() == 0, crawl.lines
    died = [event for event in crawl.events if event["event"] == "worker_died"]
    assert sorted(event["pid"] for event in died) == sorted(killed)
    assert all((event["signal"], event["is_replaced"]) == ("SIGKILL", True) for event in died)
    assert by_status(sqspider) == {"done": 2}


def test_workers_that_somebody_else_stopped_are_replaced(
    sqspider: Run, gated_site: Site, gate: Gate, tmp_path: Path
) -> None:
    crawl = Crawling(tmp_path, "crawl", gated_site.url, *FLAGS, *SHORT_LEASE, "--workers", "2", "--quiet")
    stopped = [crawl.until(named("worker_started"))["pid"] for _ in range(2)]
    gate.asked.wait()  # one of them at least is at work, and will end in good order
    for pid in stopped:
        os.kill(pid, signal.SIGTERM)
    gate.set()
    assert crawl.ended() == 0, crawl.lines
    died = [event for event in crawl.events if event["event"] == "worker_died"]
    assert sorted(event["pid"] for event in died) == sorted(stopped)
    assert all(event["is_replaced"] for event in died)
    assert by_status(sqspider) == {"done": 2}


def test_workers_that_die_again_and_again_are_given_up(sqspider: Run, gated_site: Site, tmp_path: Path) -> None:
    crawl = Crawling(tmp_path, "crawl", gated_site.url, *FLAGS, "--workers", "2", "--quiet")
    for event in crawl:
        if event["event"] == "worker_started":
            os.kill(event["pid"], signal.SIGKILL)
    assert crawl.ended() == 1
    assert sum(event["event"] == "worker_started" for event in crawl.events) == 2 * MAX_AT_ONCE
    assert any("2 of 2 workers died and were not replaced" in line for line in crawl.lines)
    assert by_status(sqspider) == {"queued": 1}


def test_workers_that_have_lost_the_frontier_are_not_replaced(gated_site: Site, gate: Gate, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    frontier = f"sqlite:{folder}/f.db"
    crawl = Crawling(tmp_path, "--frontier", frontier, "crawl", gated_site.url, *FLAGS, "--workers", "2", "--quiet")
    pids = [crawl.until(named("worker_started"))["pid"] for _ in range(2)]
    folder.rename(tmp_path / "elsewhere")
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    gate.set()
    assert crawl.ended() == 3, crawl.lines
    assert any("there is no folder" in line for line in crawl.lines)
    assert [event["is_replaced"] for event in crawl.events if event.get("status") == 3].count(True) == 0
    assert crawl.lines[-1].startswith("sqspider: the workers have lost the frontier")


def test_workers_take_no_module_from_the_folder_they_are_in(gated_site: Site, gate: Gate, tmp_path: Path) -> None:
    (tmp_path / "queue.py").write_text("raise SystemExit('not this one')")
    gate.set()
    command = [
        str(Path(sys.executable).with_name("sqspider")),
        "crawl",
        gated_site.url,
        *FLAGS,
        "--workers",
        "2",
        "--quiet",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_memory_is_no_frontier_for_several_workers(sqspider: Run, gated_site: Site) -> None:
    done = sqspider("--frontier", "sqlite::memory:", "crawl", gated_site.url, "--workers", "2")
    assert (done.returncode, "sqlite::memory: has none" in done.stderr) == (2, True)
    assert gated_site.requests == []


def test_workers_end_when_their_parent_was_killed(sqspider: Run, gated_site: Site, gate: Gate, tmp_path: Path) -> None:
    crawl = Crawling(tmp_path, "crawl", gated_site.url, *FLAGS, "--workers", "2", "--quiet")
    gate.asked.wait()
    crawl.process.kill()
    crawl.process.wait()
    gate.set()
    assert crawl.ended() == -signal.SIGKILL  # they write to the same pipe: it ends with the last of them
    assert "processing" not in by_status(sqspider)


def test_no_worker_imports_what_its_parent_has_imported(gated_site: Site, gate: Gate, tmp_path: Path) -> None:
    """One that did would pay for a start-up of its own. What the standard library imports late is its own affair."""
    gate.set()
    command = [sys.executable, "-X", "importtime", "-m", "sqspider", "crawl", gated_site.url, *FLAGS]
    done = subprocess.run(
        [*command, "--workers", "2", "--quiet"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    imported = Counter(re.findall(r"^import time:.*\| +([\w.]+)$", done.stderr, re.MULTILINE))
    assert imported["sqspider.work.worker"] == 1
    twice = [name for name, times in imported.items() if times > 1]
    own = {*sys.stdlib_module_names, "org"}  # which `copy` tries to import, for Jython
    assert [name for name in twice if name.partition(".")[0] not in own] == []


PARENT_ENDED = """
import asyncio
from sqspider.cli.signals import stop_with_parent

async def main():
    stopped, calls = asyncio.Event(), []
    stop_with_parent(lambda: (calls.append(1), stopped.set()))
    await stopped.wait()
    for _ in range(100):
        await asyncio.sleep(0)  # each turn of the loop looks for what is ready
    print(len(calls))

asyncio.run(main())
"""


def test_the_end_of_the_parent_is_heard_once() -> None:
    """Being told again in each turn of the event loop costs a whole processor."""
    script = [sys.executable, "-c", PARENT_ENDED]
    done = subprocess.run(script, input="", capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("1\n", "")


# What Windows' event loop has not, and no quicker one: as `sitecustomize`, it holds for the workers, too.
AS_ON_WINDOWS = """
import asyncio, os, sys
from asyncio import events

class Loop(asyncio.SelectorEventLoop):
    def _absent(self, *_):
        raise NotImplementedError
    add_signal_handler = remove_signal_handler = add_reader = remove_reader = _absent

events.new_event_loop = Loop
sys.modules["uvloop"] = None
del os.fork
"""


@pytest.fixture(params=["this platform", "as on Windows"])
def platform(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which Python's event loop is this platform's, or can as little as Windows'."""
    if request.param == "this platform":
        return {}
    folder = tmp_path_factory.mktemp("site")
    (folder / "sitecustomize.py").write_text(AS_ON_WINDOWS)
    return {"PYTHONPATH": str(folder)}


@pytest.mark.parametrize(("name", "workers"), [("SIGINT", "1"), ("SIGINT", "2"), ("SIGTERM", "1"), ("SIGHUP", "2")])
def test_a_signal_stops_in_good_order(
    sqspider: Run, gated_site: Site, gate: Gate, tmp_path: Path, platform: dict[str, str], name: str, workers: str
) -> None:
    crawl = Crawling(tmp_path, "crawl", gated_site.url, *FLAGS, "--workers", workers, "--quiet", **platform)
    gate.asked.wait()
    crawl.process.send_signal(signal.Signals[name])
    crawl.until(saying("stopping: finishing what is in flight"))
    gate.set()
    assert crawl.ended() >= 0, crawl.lines  # by itself
    assert not any("Traceback" in line for line in crawl.lines)
    assert "processing" not in by_status(sqspider)


def test_who_stops_a_crawl_waits_for_no_verdict_on_all_records(
    sqspider: Run, gated_site: Site, gate: Gate, tmp_path: Path
) -> None:
    """Without URLs the verdict is on every seed, and to find those takes reading every record."""
    missing = f"{gated_site.url}missing: failed"
    assert missing in sqspider("crawl", f"{gated_site.url}missing", *FLAGS, "--quiet").stderr
    sqspider("enqueue", f"{gated_site.url}gated", "--delay", "0")
    crawl = Crawling(tmp_path, "crawl", "--allow-private", "--quiet")
    gate.asked.wait()
    crawl.process.send_signal(signal.SIGINT)
    crawl.until(saying("stopping: finishing what is in flight"))
    gate.set()
    assert crawl.ended() == 130, crawl.lines
    assert not any(missing in line for line in crawl.lines)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_second_signal_stops_at_once(
    sqspider: Run, gated_site: Site, gate: Gate, tmp_path: Path, platform: dict[str, str], workers: str
) -> None:
    crawl = Crawling(tmp_path, "crawl", gated_site.url, *FLAGS, "--workers", workers, "--quiet", **platform)
    gate.asked.wait()
    crawl.process.send_signal(signal.SIGINT)
    crawl.until(saying("stopping: finishing what is in flight"))
    crawl.process.send_signal(signal.SIGINT)
    assert crawl.ended() == 130, crawl.lines  # so have the workers: they write to the same pipe
    assert by_status(sqspider)["processing"] == 1


def test_a_hang_up_that_was_switched_off_is_not_heard(gated_site: Site, gate: Gate, tmp_path: Path) -> None:
    """As by nohup, and by shells that leave what runs in the background alone."""
    script = (
        "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN);"
        "from sqspider.cli.main import run; sys.exit(run(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "crawl", gated_site.url, *FLAGS, "--quiet"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    gate.asked.wait()
    process.send_signal(signal.SIGHUP)
    gate.set()
    assert process.communicate()[1] == ""
    assert process.returncode == 0


def another_than(option: click.Option) -> object:
    """A value that an option does not have by itself."""
    if option.is_flag:
        return True
    texts = {"user_agent": "another/1", "contact": "me@example.com", "proxy": "http://127.0.0.1:3128"}
    return texts.get(option.name or "") or (option.default - 1 if isinstance(option.default, int | float) else 7)


def test_all_that_is_given_to_a_crawl_is_given_to_its_workers(tmp_path: Path) -> None:
    identity = tmp_path / "identity.pem"
    trustme.CA().issue_cert("me.example").private_key_and_cert_chain_pem.write_to_path(identity)
    own = {"continuous", "until_empty", "worker_id", "with_parent"}  # not of a crawl
    shared = {"address", "log_format", "log_level"}
    given = {
        str(option.name): another_than(option)
        for option in consume.params
        if isinstance(option, click.Option) and option.name not in own | shared
    }
    assert given.keys() - {option.name for option in crawl.params} == {"run"}

    def read(values: dict[str, Any]) -> tuple[WorkerOptions, Start, str]:
        return (
            to_worker_options(values, "w", max_pages=values["max_pages"], run=values["run"]),
            with_archive(to_start(values), place_of(Shared("sqlite:f.db"), values)),
            values["crawl"],
        )

    given |= dict.fromkeys(("ca_file", "client_cert", "client_key"), str(identity))
    given |= {"archive": str(tmp_path / "pages"), "no_archive": False, "archive_coding": "zstd"}
    given |= {"crawl": "news", "run": "1", "origins": ("http://h:8080", "https://e.com"), "secrets": str(tmp_path)}
    command = consume_command(Shared("sqlite:f.db"), *read(given))
    arguments = command[command.index("consume") + 1 :]
    assert read(consume.make_context("consume", arguments).params) == read(given)
