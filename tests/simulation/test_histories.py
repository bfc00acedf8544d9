"""Some histories of each engine, as many as a suite of minutes has room for. ``make simulate`` plays on."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from .loop import CURRENT, Kills, Process, StuckError, VirtualLoop

ROOT = Path(__file__).parent.parent.parent


def play(engine: str, *arguments: object) -> dict[str, Any]:
    """What some histories came to. They are played in processes of their own, for what the dead leave behind."""
    command = [sys.executable, "-m", "tests.simulation", engine, *map(str, arguments), "--json"]
    environment = {**os.environ, "PYTHONHASHSEED": "0"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 1), ran.stderr
    figures: dict[str, Any] = json.loads(ran.stdout)
    return figures


@pytest.mark.parametrize(
    ("engine", "first", "count"),
    [
        *(("memory", first, 40) for first in range(0, 160, 40)),
        *((engine, first, 15) for engine in ("sqlite", "aws") for first in (0, 15)),
        *(pytest.param(engine, 160, 300, marks=pytest.mark.prove) for engine in ("memory", "sqlite", "aws")),
    ],
)
def test_no_history_breaks_a_promise(engine: str, first: int, count: int) -> None:
    figures = play(engine, "--seed", first, "--count", count)
    assert figures["violations"] == {}
    assert figures["histories"] == count
    assert figures["kills"] > count, "workers die in them"
    assert figures["requests"] > 10 * count, "and ask for pages"
    assert figures["writes"] > 5 * count, "which are kept"
    assert figures["failed_writes"] > 0, "or cannot be"


def test_the_id_of_a_record_that_was_removed_with_its_crawl_is_given_out_again() -> None:
    """Whoever has the delivery of the removed one has none of the new one."""
    assert play("sqlite", "--seed", 7030, "--count", 1)["violations"] == {}


@pytest.mark.parametrize("engine", ["memory", "sqlite", "aws"])
def test_a_seed_means_the_same_history_to_the_letter(engine: str) -> None:
    once, again = (play(engine, "--seed", 40, "--count", 2) for _ in range(2))
    assert once == again
    assert len(set(once["traces"])) == 2, "and another one another"


@pytest.mark.parametrize(("engine", "seed"), [("memory", 23), ("sqlite", 12)])
def test_a_worker_may_die_at_each_of_its_calls(engine: str, seed: int) -> None:
    """Before and after each call to the outside, that is: what it does between two of them, nobody sees."""
    figures = play(engine, "--seed", seed, "--every-kill")
    assert figures["violations"] == {}
    assert figures["histories"] == figures["kills"] + 1 > 50, "one that nobody dies in, and one for each point"


# The loop itself.


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    with closing(VirtualLoop(most_seconds=1000, most_events=1000)) as loop:
        yield loop


def test_a_killed_process_runs_nothing_more(loop: VirtualLoop) -> None:
    said: list[str] = []

    async def main() -> None:
        process = Process(loop, "p", Kills(random.Random(0)))

        async def live() -> None:
            try:
                await asyncio.sleep(5)
                said.append("slept")
            finally:
                said.append("tidied up")

        process.start(live())
        await asyncio.sleep(1)
        process.die()
        await process.ended.wait()
        await asyncio.sleep(100)

    loop.run_until_complete(main())
    assert said == []
    assert loop.time() == 101


def test_a_frozen_process_goes_on_when_it_thaws(loop: VirtualLoop) -> None:

    async def main() -> tuple[float, float]:
        process = Process(loop, "p", Kills(random.Random(0)))

        async def live() -> float:
            await asyncio.sleep(5)
            return loop.time()

        life = process.start(live())
        await asyncio.sleep(1)
        process.freeze(70)
        await asyncio.sleep(10)
        assert not life.done()
        return await life, process.clock() - process.clock()

    assert loop.run_until_complete(main())[0] == 71
    assert CURRENT.get() is None


def test_a_history_that_does_not_end_is_stuck(loop: VirtualLoop) -> None:
    with pytest.raises(StuckError, match="nothing is going to happen"):
        loop.run_until_complete(asyncio.Event().wait())
    with pytest.raises(StuckError, match="no end after"):
        loop.run_until_complete(asyncio.sleep(2000))
