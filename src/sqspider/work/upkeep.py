"""Brings back what was lost on the way: records past their time, whose message is gone."""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from sqspider.frontier import Frontier, FrontierBusyError

BATCH: Final = 1000

log = structlog.stdlib.get_logger(__name__)


async def sweep_all(frontier: Frontier) -> int:
    """Put back every message that is due; how many. Raises :class:`FrontierError`."""
    total = 0
    while released := await frontier.sweep(BATCH):
        total += released
    return total


async def keep_sweeping(frontier: Frontier, every_seconds: float) -> None:
    """Sweep now and then, until cancelled. Any number of workers may do so: one of them sweeps for all."""
    while True:
        await asyncio.sleep(every_seconds)
        try:
            if not await frontier.lease_sweep(until=frontier.now() + every_seconds):
                continue
            released = await sweep_all(frontier)
        except FrontierBusyError as error:
            log.warning("frontier_busy", during="sweep", error=str(error))
            continue
        if released:
            log.info("swept", released=released)
