"""A consumer without a fetch: claims and finishes what it gets, and writes down each step.

Run as a process: ``python -m tests.frontier.racer ADDRESS NAME LOG NOW``. Ends when no more comes. Its
clock goes on from NOW, the time by the clock of the test.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Final

from sqspider.frontier import LostReason, Won, open_frontier

from .kit import SETTINGS, claim_all, finish_one

RACER_LEASE: Final = 5.0


async def race(address: str, name: str, log: Path, now: float) -> None:
    """Win what can be won until no more comes."""
    ahead = now - time.time()
    frontier = await open_frontier(address, SETTINGS, clock=lambda: time.time() + ahead)
    number = 0
    with log.open("w", buffering=1) as file:
        while deliveries := await frontier.receive(10, wait_seconds=1.0):
            number += 1
            answers = await claim_all(frontier, deliveries, worker=name, claim=f"{name}-{number}", lease=RACER_LEASE)
            for answer, delivery in zip(answers, deliveries, strict=True):
                file.write(f"{'WON' if isinstance(answer, Won) else 'LOST'} {answer.url}\n")
                if isinstance(answer, Won):
                    if await finish_one(frontier, answer, delivery):
                        file.write(f"FINISHED {answer.url}\n")
                elif answer.why is LostReason.FINISHED:
                    await frontier.delete([delivery])
    await frontier.close()


if __name__ == "__main__":
    asyncio.run(race(sys.argv[1], sys.argv[2], Path(sys.argv[3]), float(sys.argv[4])))
