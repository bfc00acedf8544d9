"""``retry`` as a user meets it: what failed is counted, asked about, put back, and fetched."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from sqspider.again import Choice
from sqspider.cli.asking import reopening_cost
from sqspider.cli.retry import what_ended
from sqspider.frontier import Traits
from sqspider.record import Reason, Status
from tests.conftest import Run, terminal
from tests.sites import Answer, Asked, Site

SELF = ("--delay", "0", "--allow-private", "--ignore-robots")


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def counted(sqspider: Run) -> dict[str, int]:
    records: dict[str, int] = json.loads(sqspider("status", "--json").stdout)["records"]
    return {name: number for name, number in records.items() if number}


def test_what_failed_is_tried_again_from_its_first_try_on(sqspider: Run, site: Site) -> None:
    site.bodies = {"/": b"<a href=/gone>x</a><a href=/here>x</a>", "/here": b"here"}
    assert sqspider("crawl", site.url, *SELF).returncode == 0
    assert counted(sqspider) == {"done": 2, "failed": 1}

    asked = sqspider("retry")
    assert asked.returncode == 2, "nobody can be asked"
    assert "1 URL failed: 1 client_error" in " ".join(asked.stderr.split())
    assert "--yes" in asked.stderr
    assert counted(sqspider) == {"done": 2, "failed": 1}

    site.bodies["/gone"] = b"back again"
    done = sqspider("retry", "--yes")
    assert (done.returncode, done.stdout) == (
        0,
        "1 URL is queued again: `sqspider crawl` goes on with it\n",
    ), done.stderr
    assert counted(sqspider) == {"done": 2, "queued": 1}
    assert sqspider("crawl", *SELF[2:]).returncode == 0
    assert counted(sqspider) == {"done": 3}
    assert Counter(site.paths) == {"/": 1, "/gone": 2, "/here": 1}
    shown = json.loads(sqspider("show", f"{site.url}gone", "--json").stdout)
    assert (shown["status"], shown["attempt"], shown["tries"]) == ("done", 2, 0)

    none = sqspider("retry")
    assert (none.returncode, none.stdout) == (0, "nothing to put back: no URL ended so\n"), "and nothing is asked"
    assert json.loads(sqspider("retry", "--json").stdout)["queued"] == 0


def test_what_is_meant_can_be_said(sqspider: Run, site: Site) -> None:
    site.bodies = {"/": b"<a href=/1>x</a><a href=/2>x</a>", "/2": (410, {})}
    sqspider("crawl", site.url, *SELF)
    before = {"done": 1, "failed": 2}
    assert counted(sqspider) == before
    for nothing in (
        ("--reason", "timeout"), ("--status", "blocked"), ("--http-status", "500"), ("--older-than", "1d"),
        ("--host", "elsewhere.example"),
    ):  # fmt: skip
        done = sqspider("retry", *nothing, "--json", "--yes")
        assert (done.returncode, json.loads(done.stdout)["queued"]) == (0, 0), nothing
    assert counted(sqspider) == before
    done = sqspider("retry", "--http-status", "410", "--host", "127.0.0.1", "--json", "--yes")
    numbers = json.loads(done.stdout)
    assert numbers == {
        "queued": 1, "done": 0, "reasons": {"client_error": 1}, "hosts_forgiven": 0, "unreadable": 0,
    }  # fmt: skip
    assert json.loads(sqspider("show", f"{site.url}2", "--json").stdout)["status"] == "queued"
    for wrong in (("--status", "queued"), ("--reason", "bad luck"), ("--older-than", "soon"), ("--http-status", "x")):
        assert sqspider("retry", *wrong).returncode == 2, wrong
    assert json.loads(sqspider("retry", "--status", "done", "--json", "--yes").stdout)["done"] == 1


@pytest.mark.parametrize(("typed", "status"), [("y\n", 0), ("n\n", 1)])
def test_at_a_terminal_it_is_asked_first(sqspider: Run, site: Site, tmp_path: Path, typed: str, status: int) -> None:
    sqspider("crawl", site.url, *SELF)
    with terminal(typed) as screen:
        done = subprocess.run(
            [sys.executable, "-m", "sqspider", "retry"],
            cwd=tmp_path, stdin=screen, capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == status, done.stderr
    assert "1 URL failed: 1 client_error. Put them back? [y/N]" in done.stderr
    assert counted(sqspider) == ({"queued": 1} if status == 0 else {"failed": 1})


def test_a_frontier_that_is_not_there_is_not_made(sqspider: Run, tmp_path: Path) -> None:
    assert sqspider("retry", "--frontier", "sqlite:typo.db", "--yes").returncode == 3
    assert not (tmp_path / "typo.db").exists()


def test_the_question_says_why_they_ended_and_what_it_costs_where_that_costs_anything() -> None:
    failed = Choice(statuses=frozenset({Status.FAILED}))
    kinds: Counter[Reason | Status] = Counter({Reason.TIMEOUT: 1200, Reason.SERVER_ERROR: 34})
    assert what_ended(failed, kinds) == "1,234 URLs failed: 1,200 timeout, 34 server_error"
    assert what_ended(Choice(), Counter({Status.DONE: 1})) == "1 URL ended: 1 done"
    assert reopening_cost(Traits(), 5, kinds.total()) is None
    traits = Traits(scan_dollars=1e-3, reopen_dollars=1e-2)
    line = reopening_cost(traits, 5, kinds.total())
    assert line == "Reading all 5 records costs about $0.0050, to put these back $12.34."
    line = reopening_cost(traits, 5, kinds.total(), times=2)
    assert line == "Reading all 5 records twice costs about $0.0100, to put these back $12.34."


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_crawl_again_asks_for_what_has_changed_and_tells_what_has(sqspider: Run, site: Site, workers: str) -> None:
    def page(asked: Asked) -> Answer:
        is_same = asked.headers.get("If-None-Match") == '"1"'
        return (304 if is_same else 200), {"ETag": '"1"', "Content-Type": "text/html"}

    site.bodies = {"/": b"<a href=/same>x</a><a href=/new>x</a><a href=/gone>x</a>", "/same": page, "/new": b"old"}
    crawl = ("crawl", site.url, *SELF, "--json")
    done = sqspider(*crawl)
    assert done.returncode == 0
    assert not any(json.loads(done.stdout)["visited_again"].values())
    site.bodies["/new"] = b"new"
    none = sqspider(*crawl, "--again", "--older-than", "1d")
    assert "0 URLs are visited once more" in none.stderr
    assert len(site.paths) == 4

    done = sqspider("crawl", *SELF, "--again", "--json", "--workers", workers)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)["visited_again"]
    assert told == {"unchanged": 2, "changed": 1, "failed": 1, "blocked": 0}
    assert "4 URLs are visited once more" in done.stderr
    assert Counter(site.paths) == {"/": 2, "/same": 2, "/new": 2, "/gone": 2}
    assert counted(sqspider) == {"done": 3, "failed": 1}
    rows = {row["url"]: row for row in map(json.loads, sqspider("export").stdout.splitlines())}
    told = {
        url.removeprefix(site.url): (row["visits"], row["unchanged"], row["changes"], row["changed_at"] is not None)
        for url, row in rows.items()
    }
    assert told == {
        "": (2, False, 0, False), "same": (2, True, 0, False), "new": (2, False, 1, True), "gone": (2, False, 0, False),
    }  # fmt: skip
    shown = sqspider("show", f"{site.url}same").stdout
    assert re.search("^visits +2$", shown, re.M)

    site.bodies["/same"], site.bodies["/gone"] = (404, {}), b"back"
    done = sqspider("crawl", *SELF, "--again", "--quiet", "--workers", workers)
    assert "\n4 visited again: 2 unchanged, 1 changed, 1 failed\n" in done.stdout
    shown = sqspider("show", f"{site.url}same").stdout
    assert re.search("^last good visit +HTTP status 200, sha256:", shown, re.M)
    assert sqspider("crawl", site.url, "--older-than", "1d").returncode == 2


def test_a_worker_that_was_started_as_a_program_tells_its_parent_what_came_of_visits(
    sqspider: Run, site: Site, tmp_path: Path
) -> None:
    """As `crawl --workers` starts one in the place of one that died, or where it cannot fork."""
    site.bodies = {"/": b"<a href=/page>x</a>", "/page": b"x"}
    assert sqspider("crawl", site.url, *SELF, "--quiet").returncode == 0
    assert sqspider("retry", "--status", "done", "--yes").returncode == 0
    command = [sys.executable, "-m", "sqspider", "consume", "--until-empty", "--with-parent", "--allow-private"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as worker:
        assert worker.stdout is not None
        assert worker.stdout.read() == b'[{"unchanged":2},null]\n'
    assert worker.returncode == 0
