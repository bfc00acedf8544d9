"""Kills crawls of the corpus at random moments and shows that nothing is lost: ``python -m bench.kill``.

The records must equal those of an undisturbed crawl, and each be finished exactly once, as a
trigger in the frontier's file counts. tests/crawl/test_kill.py does the same with a smaller site.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sqlite3
import sys
import tempfile
import time
from asyncio.subprocess import DEVNULL, Process
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Final, NamedTuple

from bench.corpus import BUILD, EXCLUDE, Corpus

COMPARED: Final = (
    "url", "status", "reason", "http_status", "final_url", "content_type", "bytes", "truncated", "digest", "title",
    "host",
)  # fmt: skip
"""What must be equal: all but times, names of workers, and by which way a URL was found first."""

JITTER_SECONDS: Final = 0.05  # after a request was seen: so that parsing and finishing are hit, too

WATCH: Final = """
CREATE TABLE seen_finish (url TEXT NOT NULL, attempt INTEGER NOT NULL);
CREATE TRIGGER see_finish AFTER UPDATE OF status ON record
WHEN new.status >= 2
BEGIN INSERT INTO seen_finish VALUES (new.url, new.attempt); END;
"""

Until = Callable[[int], Awaitable[None]]
"""Waits until the server has seen so many requests."""


class Trial:
    """One crawl in one frontier file, run by the command line as a user would.

    ``crawl_flags`` say which URLs belong to it, ``work_flags`` how they are fetched.
    """

    def __init__(self, file: Path, seed: str, crawl_flags: Sequence[str], work_flags: Sequence[str]) -> None:
        self._file = file
        self._seed = seed
        self._crawl_flags = crawl_flags
        self._work_flags = work_flags
        self.kills = 0

    async def begin(self) -> None:
        """Enqueue the seed, and have the file itself count from here on how often a record is finished."""
        enqueue = await self._start("enqueue", self._seed, "--scope", "host", "--allow-private", *self._crawl_flags)
        await _end_of(enqueue)
        with closing(sqlite3.connect(self._file)) as connection:
            connection.executescript(WATCH)

    async def crawl(self) -> None:
        """Crawl to the end. A URL that failed makes no difference: the records are compared."""
        await _end_of(await self._start_crawl())

    async def crawl_killed(self, until: Until, moments: Sequence[int], rng: random.Random) -> None:
        """Start ``crawl`` and kill it at each moment (a number of requests), then let it end."""
        for moment in moments:
            await self._kill(await self._start_crawl(), until, moment, rng)
        await self.crawl()

    async def consume_killed(self, until: Until, moments: Sequence[int], rng: random.Random) -> None:
        """Two consumers, one of which is killed at each moment and replaced; the other goes on."""
        consumers = [await self._start_consumer() for _ in range(2)]
        for moment in moments:
            unlucky = rng.randrange(2)
            await self._kill(consumers[unlucky], until, moment, rng)
            consumers[unlucky] = await self._start_consumer()
        for consumer in consumers:
            await _end_of(consumer)

    async def _kill(self, process: Process, until: Until, moment: int, rng: random.Random) -> None:
        await until(moment)
        await asyncio.sleep(rng.uniform(0, JITTER_SECONDS))
        process.kill()
        await process.wait()
        self.kills += process.returncode == -9

    async def _start_crawl(self) -> Process:
        return await self._start("crawl", self._seed, "--quiet", "--json", *self._crawl_flags, *self._work_flags)

    async def _start_consumer(self) -> Process:
        return await self._start("consume", "--until-empty", *self._work_flags)

    async def _start(self, *arguments: str) -> Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sqspider", "--log-level", "error", "--frontier", f"sqlite:{self._file}", *arguments,
            stdout=DEVNULL,
        )  # fmt: skip

    async def records(self) -> dict[str, dict[str, Any]]:
        """What is recorded, by URL, as ``sqspider export`` writes it."""
        exporting = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "sqspider", "--frontier", f"sqlite:{self._file}", "export",
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        output, _ = await exporting.communicate()
        rows = [json.loads(line) for line in output.splitlines()]
        return {row["url"]: row for row in rows}

    def finishes(self) -> Counter[str]:
        """How often each URL's record was finished."""
        with closing(sqlite3.connect(self._file)) as connection:
            return Counter(url for (url,) in connection.execute("SELECT url FROM seen_finish"))


async def _end_of(process: Process) -> None:
    status = await process.wait()
    if status not in (0, 1):  # 1: some URL did not succeed
        raise RuntimeError(f"sqspider ended with exit status {status}")


def choose_moments(total: int, kills: int, rng: random.Random) -> list[int]:
    """Moments spread at random over a crawl of ``total`` requests, robots.txt and the first page left out."""
    return sorted(rng.sample(range(3, total), kills))


class Verdict(NamedTuple):
    """What is wrong after a disturbed crawl; nothing, if all is well."""

    not_final: list[str]  # URLs whose record is not finished
    not_once: list[str]  # URLs whose record was finished twice, or never
    unlike: list[str]  # URLs whose records differ, with both

    @property
    def is_good(self) -> bool:
        return not (self.not_final or self.not_once or self.unlike)

    def __str__(self) -> str:
        lines = [f"not finished: {url}" for url in self.not_final]
        lines += [f"not finished once: {url}" for url in self.not_once]
        lines += [f"not the same: {difference}" for difference in self.unlike]
        return "\n".join(lines)


async def compare(calm: Trial, disturbed: Trial) -> Verdict:
    """Hold a disturbed crawl against one that was left alone."""
    expected, found = await calm.records(), await disturbed.records()
    finishes = disturbed.finishes()

    def of(records: dict[str, dict[str, Any]], url: str) -> dict[str, Any] | None:
        return {name: records[url][name] for name in COMPARED} if url in records else None

    return Verdict(
        not_final=[url for url, row in found.items() if row["status"] not in ("done", "failed", "blocked")],
        not_once=[url for url in found.keys() | finishes.keys() if finishes[url] != 1],
        unlike=[
            f"{url}: {of(expected, url)} and {of(found, url)}"
            for url in sorted(expected.keys() | found.keys())
            if of(expected, url) != of(found, url)
        ],
    )


async def _measure(kills: int, seed: int) -> bool:
    crawl_flags = ["--delay", "0", "--ignore-robots", "--exclude", EXCLUDE]
    work_flags = ["--allow-private", "--timeout", "5", "--lease", "21"]
    rng = random.Random(seed)
    BUILD.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(dir=BUILD))
    print(f"seed {seed}, {kills} kills, leases of 21 s")
    all_good = True
    try:
        with Corpus() as corpus:
            calm = Trial(folder / "calm.db", corpus.url, crawl_flags, work_flags)
            await calm.begin()
            started = time.monotonic()
            await calm.crawl()
            total = corpus.requests().total()
            print(f"undisturbed: {total:,} requests, {time.monotonic() - started:.1f} s")
            for title, run in (
                ("crawl, killed and resumed", Trial.crawl_killed),
                ("two consumers, one killed and replaced", Trial.consume_killed),
            ):
                corpus.forget()
                trial = Trial(folder / f"{run.__name__}.db", corpus.url, crawl_flags, work_flags)
                await trial.begin()
                started = time.monotonic()
                await run(trial, corpus.until, choose_moments(total, kills, rng), rng)
                seconds = time.monotonic() - started
                verdict = await compare(calm, trial)
                records, finishes, requests = await trial.records(), trial.finishes(), corpus.requests()
                claims = sum(row["attempt"] for row in records.values())
                print(
                    f"{title}: {trial.kills} kills, {seconds:.1f} s; {len(records):,} records, "
                    f"{finishes.total():,} finishes, {claims:,} claims, {requests.total():,} requests; "
                    f"{'records equal the undisturbed ones' if verdict.is_good else 'NOT GOOD'}"
                )
                if not verdict.is_good:
                    print(verdict)
                    all_good = False
    finally:
        shutil.rmtree(folder)
    return all_good


def main() -> int:
    """Run both trials; 1 if anything was lost, done twice or differs."""
    parser = argparse.ArgumentParser(prog="python -m bench.kill", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how often (default: 20)")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="for the moments and jitter")
    given = parser.parse_args()
    return 0 if asyncio.run(_measure(given.kills, given.seed)) else 1


if __name__ == "__main__":
    sys.exit(main())
