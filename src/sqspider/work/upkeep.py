"""What a worker does beside its work: it checks in, leaves samples of what it did, and sweeps.

A sweep brings back what was lost on the way: records past their time, whose message is gone.
"""

from __future__ import annotations

import asyncio
from typing import Final

import msgspec

from sqspider.figures import Sample
from sqspider.frontier import Clock, Frontier, FrontierBusyError, FrontierError, Upkeep
from sqspider.log import get_logger
from sqspider.politeness import Politeness
from sqspider.record import DEFAULT_CRAWL
from sqspider.work.crawls import CrawlRows
from sqspider.work.tally import Tally

BATCH: Final = 1000  # of a sweep
CHECK_IN_SECONDS: Final = 30.0  # a worker that was not seen for so long is gone
CHECK_IN_EVERY_SECONDS: Final = CHECK_IN_SECONDS / 3
CHECK_IN_AGAIN_SECONDS: Final = 1.0  # while another one of the same name may be alive

log = get_logger(__name__)


class WorkerIdTakenError(FrontierError):
    """Another worker with the same id is at work."""


class Attendance:
    """A worker's name on the list of those that live."""

    def __init__(
        self,
        frontier: Frontier,
        worker_id: str,
        session: str,
        clock: Clock,
        politeness: Politeness,
        crawls: CrawlRows,
    ) -> None:
        self._frontier = frontier
        self._crawls = crawls  # of which some may be barred to it
        self._worker_id = worker_id
        self._session = session  # tells this worker from others of its name
        self._clock = clock
        self._politeness = politeness

    async def begin(self) -> bool:
        """Check in for the first time; False if it was told to stop before it could.

        A worker that was killed is on the list for a while. Its row runs out, where that of one that
        lives is renewed: so a worker of the same name waits to see which it is.
        Raises :class:`WorkerIdTakenError`.
        """
        seen_at: float | None = None
        while not await self.check_in():
            rows = [row for row in await self._frontier.workers() if row.worker_id == self._worker_id]
            if rows and seen_at is not None and rows[0].seen_at > seen_at:
                raise WorkerIdTakenError(
                    f"a worker named {self._worker_id!r} is at work on this frontier: choose another --worker-id"
                )
            if rows and seen_at is None:
                seen_at = rows[0].seen_at
                log.warning(
                    "worker_id_in_use",
                    worker_id=self._worker_id,
                    last_seen_seconds_ago=round(self._clock() - seen_at),
                    waiting="until that worker is gone, or is seen again",
                )
            if await self._politeness.pause_until(self._clock() + CHECK_IN_AGAIN_SECONDS):
                return False
        return True

    async def check_in(self) -> bool:
        """Note that it lives, and what it may not work on; False if another one of its name lives."""
        return await self._frontier.check_in(
            self._worker_id, session=self._session, ttl_seconds=CHECK_IN_SECONDS, barred=self._crawls.barred
        )

    async def end(self) -> None:
        """Take the name off the list; should that fail, it is forgotten by itself after a while."""
        try:
            await self._frontier.check_out(self._worker_id, session=self._session)
        except FrontierError as error:
            log.warning("check_out_failed", worker_id=self._worker_id, error=str(error))


class Samples:
    """What a worker did since the last time, left with its frontier."""

    def __init__(self, frontier: Upkeep, clock: Clock) -> None:
        self._frontier = frontier
        self._clock = clock
        self.begin_anew()

    def begin_anew(self) -> None:
        """From here on another tally counts."""
        self._told: dict[str, dict[str, float]] = {}  # by crawl
        self._all, self._at = Tally().by_name(), self._clock()

    async def leave(self, tally: Tally) -> None:
        """Raises :class:`FrontierError`."""
        now, sums = self._clock(), tally.by_name()
        named = {crawl: counted.by_name() for crawl, counted in tally.named.items()}
        parts = {crawl: _less(counted, self._told.get(crawl, {})) for crawl, counted in named.items()}
        done = _less(sums, self._all)
        sample = {"at": now, "seconds": now - self._at, **done, "crawls": _crawls(done, parts)}
        await self._frontier.save_sample(msgspec.convert(sample, Sample))
        self._told, self._all, self._at = named, sums, now

    async def leave_last(self, tally: Tally) -> None:
        """The work is done, whether that can be told or not."""
        try:
            await self.leave(tally)
        except FrontierError as error:
            log.warning("sample_lost", error=str(error))


def _less(sums: dict[str, float], told: dict[str, float]) -> dict[str, float]:
    return {name: number - told.get(name, 0) for name, number in sums.items()}


def _crawls(done: dict[str, float], parts: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """The parts of crawls of which something was done; none where nothing was but in the default one's place."""
    told = {crawl: part for crawl, part in parts.items() if any(part.values())}
    if not told:
        return {}
    rest = {name: number - sum(part[name] for part in told.values()) for name, number in done.items()}
    return {**told, DEFAULT_CRAWL: rest}


async def keep_checking_in(attendance: Attendance, samples: Samples, tally: Tally) -> None:
    """Tell now and then that a worker lives, and what it did; until cancelled."""
    while True:
        await asyncio.sleep(CHECK_IN_EVERY_SECONDS)
        try:
            await attendance.check_in()
            await samples.leave(tally)
        except FrontierBusyError as error:
            log.warning("frontier_busy", during="check in", error=str(error))


async def sweep_all(frontier: Upkeep) -> int:
    """Put back every message that is due; how many. Raises :class:`FrontierError`."""
    total = 0
    while released := await frontier.sweep(BATCH):
        total += released
    return total


async def keep_sweeping(frontier: Upkeep, every_seconds: float) -> None:
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
