"""`crawl --extract` is killed, all of its processes at once, at any moment: each record with a page has one row."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bench.kill import choose_moments

from sqspider.demo_site import DemoSite
from sqspider.frontier import FrontierSettings, open_frontier
from sqspider.record import Status, UrlRecord
from tests.crawl.test_crew import records_of

Key = tuple[str, int]
"""A URL, and the number of its visit."""


def keys_in_lines(path: Path) -> list[Key]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["url"], row["visit"]) for row in rows]


def keys_in_database(path: Path) -> list[Key]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute("SELECT url, visit FROM rows").fetchall()
    finally:
        connection.close()


def keys_in_parts(path: Path) -> list[Key]:
    import duckdb

    return duckdb.sql(f"SELECT url, visit FROM '{path}/*.parquet'").fetchall()


def family_of(pid: int) -> list[int]:
    """A process and all that come from it."""
    found = [pid]
    for one in found:
        try:
            found += map(int, Path(f"/proc/{one}/task/{one}/children").read_text().split())
        except FileNotFoundError:
            continue
    return found


def kill_all(pid: int) -> int:
    """Stop them first: none shall see another one's end, and act by it. How many they were."""
    known = set[int]()
    while new := set(family_of(pid)) - known:
        for one in new:
            try:
                os.kill(one, signal.SIGSTOP)
            except ProcessLookupError:
                continue
        known |= new
    for one in known:
        try:
            os.kill(one, signal.SIGKILL)
        except ProcessLookupError:
            continue
    return len(known)


async def all_there(process: asyncio.subprocess.Process, number: int) -> None:
    """Once there are so many processes of a family, or it has come to its end."""
    while len(family_of(process.pid)) < number and process.returncode is None:
        await asyncio.sleep(0.01)


async def lives(folder: Path, site: DemoSite, to: str, workers: int, moments: list[int]) -> int:
    """Crawl and extract until it is killed, and again; the last life goes to the end. How many processes were killed
    with the largest family."""
    (folder / "rules.toml").write_text(f"title = true\nto = {json.dumps(to)}\n")
    most = 0
    rng = random.Random(len(moments))
    for moment in [*moments, None]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sqspider", "--frontier", "sqlite:f.db", "crawl", site.url, "--allow-private",
            "--delay", "0", "--per-host", "8", "--timeout", "1.9", "--lease", "17", "--workers", str(workers),
            "--extract", "rules.toml", "--quiet",
            cwd=folder, stdout=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        try:
            if moment is not None:
                await site.until(moment)
                if moment % 3:  # of the others, some are killed while they begin
                    await all_there(process, workers + 3)  # a crawl, its extractor, and at least one process of that
                await asyncio.sleep(rng.uniform(0, 1.5))  # so that commits, and the end of what is read, are hit, too
        finally:
            if moment is not None:
                most = max(most, kill_all(process.pid))
        status = await process.wait()
        assert status in ((0, 1) if moment is None else (-signal.SIGKILL, 0, 1))
    return most


def has_page(record: UrlRecord) -> bool:
    """Whether a record has what rows are made of."""
    outcome = record.outcome
    return (
        record.status is Status.DONE
        and outcome is not None
        and outcome.capture is not None
        and 200 <= (outcome.http_status or 0) < 300
        and outcome.content_type == "text/html"
    )


@pytest.mark.parametrize(
    ("to", "keys", "workers", "kills"),
    [
        ("rows.jsonl", keys_in_lines, 1, 3),
        *(
            pytest.param(to, keys, workers, 50, marks=[pytest.mark.prove, pytest.mark.timeout(3600)])
            for to, keys, workers in [
                ("rows.jsonl", keys_in_lines, 2),
                ("rows.db", keys_in_database, 2),
                ("parts/", keys_in_parts, 1),
            ]
        ),
    ],
)
@pytest.mark.timeout(300)
async def test_each_record_with_a_page_has_one_row(
    tmp_path: Path, to: str, keys: Callable[[Path], list[Key]], workers: int, kills: int
) -> None:
    async with DemoSite(40 * kills, slow_seconds=0.2, trap_depth=5) as site:
        moments = choose_moments(30 * kills, kills, random.Random(kills))
        assert await lives(tmp_path, site, to, workers, moments) >= workers + 3
        frontier = await open_frontier(f"sqlite:{tmp_path / 'f.db'}", FrontierSettings(), clock=time.time)
        records = await records_of(frontier)
        await frontier.close()
    assert all(record.status.is_final for record in records)
    found = sorted(keys(tmp_path / to))
    assert found == sorted((record.url, record.visit) for record in records if has_page(record))
    assert len(found) > 20 * kills
    assert any(record.attempt > 1 for record in records)
