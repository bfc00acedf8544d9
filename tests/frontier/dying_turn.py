"""A process that ends in the midst of a turn: it has finished a claim and is asked what it will claim next."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final, cast

import msgspec

from sqspider.frontier import Delivery, Ends, Entry, Finish, Taking, TurningFrontier, Won, open_frontier
from sqspider.message import Message

from .kit import DONE, LEASE, SETTINGS, url

KILLED: Final = 77  # its exit code


def die(_: Message) -> bool:
    os._exit(KILLED)


async def main(address: str, now: float, claim: Won, delivery: Delivery) -> None:
    frontier = cast(TurningFrontier, await open_frontier(address, SETTINGS, clock=lambda: now))
    finish = Finish(claim=claim, delivery=delivery, outcome=DONE, links=(Entry(url=url("link")),))
    taking = Taking(limit=10, worker_id="dies", claim_id="t", lease_seconds=LEASE, claims=die)
    await frontier.turn(Ends(finishes=[finish]), taking)


if __name__ == "__main__":
    handed = msgspec.msgpack.decode(Path(sys.argv[1]).read_bytes(), type=tuple[str, float, Won, Delivery])
    asyncio.run(main(*handed))
