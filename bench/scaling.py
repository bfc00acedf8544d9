"""What limits a deployment, by simulation: ``python -m bench.scaling [--write]`` renews the table of docs/scaling.md.

Virtual time, one seed. Queue, slots and deferrals follow the rules of ``politeness`` and of the AWS frontier;
functions take batches of ten, as Lambda's pollers give them. AWS itself is taken to be as large as needed.
"""

from __future__ import annotations

import heapq
import random
import re
import sys
from collections import deque
from pathlib import Path
from typing import Final, NamedTuple

from sqspider.politeness.turns import LATE_SECONDS, NEAR_SECONDS, SOON_SECONDS

DOCUMENT: Final = Path(__file__).parent.parent / "docs" / "scaling.md"
BATCH: Final = 10
LATENCY_SECONDS: Final = 0.4  # the median of a fetch; one in ten takes three times as long
PROCESSOR_SECONDS: Final = 0.009  # a page, on a whole processor (bench.function)
PROCESSOR_MB: Final = 1769
DOLLARS_A_GB_SECOND: Final = 0.0000133334
DOLLARS_AN_INVOCATION: Final = 0.20e-6


class Case(NamedTuple):
    """One crawl: every page is in the queue when it begins."""

    pages: int
    hosts: int
    is_skewed: bool  # a few hosts have most of the pages
    delay_seconds: float
    concurrency: int
    memory_mb: int = 128


class Result(NamedTuple):
    pages_a_second: float  # until nine in ten were fetched: what is left then are the largest hosts' last ones
    deliveries_a_page: float
    function_seconds_a_page: float
    busiest: int  # functions at a time
    most_delayed: int  # messages
    dollars_a_million: float  # of Lambda alone


class _Message(NamedTuple):
    host: int
    slot: float | None


CASES: Final = (
    Case(5_000, 10, False, 1.0, 10),
    Case(20_000, 100, False, 1.0, 10),
    Case(20_000, 100, False, 1.0, 100),
    Case(50_000, 1_000, False, 1.0, 10),
    Case(50_000, 1_000, False, 1.0, 100),
    Case(50_000, 1_000, True, 1.0, 100),
    Case(200_000, 20_000, False, 1.0, 100),
    Case(200_000, 20_000, False, 1.0, 1_000),
    Case(200_000, 20_000, False, 1.0, 1_000, 1769),
    Case(200_000, 1, False, 0.0, 10),
    Case(200_000, 1, False, 0.0, 100),
    Case(200_000, 1, False, 0.0, 1_000),
)


def simulate(case: Case) -> Result:
    """Run one crawl to its end."""
    rng = random.Random(1)
    weights = [1 / (host + 1) if case.is_skewed else 1.0 for host in range(case.hosts)]
    hosts = rng.choices(range(case.hosts), weights, k=case.pages)
    queue = deque(_Message(host, None) for host in hosts)
    next_slot = [0.0] * case.hosts
    delayed: list[tuple[float, int, _Message]] = []
    running: list[float] = []  # when they end
    finished: list[float] = []
    deliveries = number = busiest = most_delayed = invocations = 0
    function_seconds = now = 0.0
    processor = PROCESSOR_SECONDS * PROCESSOR_MB / case.memory_mb
    while queue or delayed:
        while delayed and delayed[0][0] <= now:
            queue.append(heapq.heappop(delayed)[2])
        while running and running[0] <= now:
            heapq.heappop(running)
        while queue and len(running) < case.concurrency:
            batch = [queue.popleft() for _ in range(min(BATCH, len(queue)))]
            end = now
            for i, message in enumerate(batch, 1):
                deliveries += 1
                busy_until = now + i * processor
                slot = now
                if case.delay_seconds:
                    known = message.slot
                    if known is not None and now <= known + max(LATE_SECONDS, 2 * case.delay_seconds):
                        slot = known
                    else:
                        slot = max(now, next_slot[message.host])
                        next_slot[message.host] = slot + case.delay_seconds
                    if slot - now > NEAR_SECONDS:
                        number += 1
                        heapq.heappush(delayed, (slot - SOON_SECONDS, number, _Message(message.host, slot)))
                        end = max(end, busy_until)
                        continue
                latency = LATENCY_SECONDS * (3 if rng.random() < 0.1 else rng.uniform(0.5, 1.5))
                done = max(slot, now) + latency + processor
                finished.append(done)
                end = max(end, done, busy_until)
            heapq.heappush(running, end)
            invocations += 1
            function_seconds += end - now
            busiest = max(busiest, len(running))
        most_delayed = max(most_delayed, len(delayed))
        waits = [delayed[0][0]] if delayed else []
        if queue:
            waits = [running[0]] if running else waits
        elif running and delayed:
            waits.append(running[0])
        if waits:
            now = max(now, min(waits))
    finished.sort()
    nine_in_ten = len(finished) * 9 // 10
    dollars = function_seconds * case.memory_mb / 1024 * DOLLARS_A_GB_SECOND + invocations * DOLLARS_AN_INVOCATION
    return Result(
        pages_a_second=nine_in_ten / finished[nine_in_ten - 1],
        deliveries_a_page=deliveries / case.pages,
        function_seconds_a_page=function_seconds / case.pages,
        busiest=busiest,
        most_delayed=most_delayed,
        dollars_a_million=dollars / case.pages * 1e6,
    )


def table() -> str:
    """The results as Markdown."""
    lines = [
        "| pages | hosts | delay | functions | memory | pages a second | deliveries a page | function seconds a page "
        "| most functions | most delayed | Lambda, $ per million |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for case in CASES:
        result = simulate(case)
        hosts = f"{case.hosts:,}" + (", skewed" if case.is_skewed else "")
        lines.append(
            f"| {case.pages:,} | {hosts} | {case.delay_seconds:g} s | {case.concurrency:,} | {case.memory_mb} MB "
            f"| {result.pages_a_second:,.0f} | {result.deliveries_a_page:.1f} | {result.function_seconds_a_page:.2f} "
            f"| {result.busiest:,} | {result.most_delayed:,} | {result.dollars_a_million:.2f} |"
        )
    return "\n".join(lines)


def main() -> int:
    text = table()
    print(text)
    if "--write" in sys.argv[1:]:
        marked = re.compile(r"(<!-- bench\.scaling: begin -->\n).*?(<!-- bench\.scaling: end -->)", re.S)
        document = DOCUMENT.read_text()
        DOCUMENT.write_text(marked.sub(lambda found: f"{found[1]}{text}\n{found[2]}", document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
