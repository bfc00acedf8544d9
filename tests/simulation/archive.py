"""A store for captures that the processes of a history share: what was written outlasts whoever wrote it.

Nothing is known here of WARC files. What is held against the records is what is durable at that moment, and what the
world has served.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from sqspider.capture import Capture, FullError, StoreError
from sqspider.crawl_settings import KEEPS_NOTHING
from sqspider.frontier import Finish, Retry
from sqspider.record import CapturePlace, Outcome, UrlRecord, split_key
from sqspider.web.fetch import NOT_MODIFIED

from .loop import Process, VirtualLoop, point

if TYPE_CHECKING:
    from .world import World

HEAD_BYTES: Final = 100  # of a record, besides its payload
WHOLE: Final = 200  # the status of what a revisit may refer to


class StoreWeather(NamedTuple):
    """What goes wrong with an archive: chances of one write; and a while in which there is no room."""

    fails: float = 0.0  # nothing was written
    is_torn: bool = False  # and where it fails, a part was
    lost: float = 0.0  # all was written, and the answer says that it may not have been
    slow: float = 0.0
    full_from: float = 0.0  # of the loop's time
    full_until: float = 0.0
    gather_seconds: float = 0.0
    most_bytes: int = 8 << 20


FINE: Final = StoreWeather()


class Written(NamedTuple):
    """A capture that is durable."""

    url: str
    http_status: int | None
    digest: str


def digest_of(payload: bytes) -> str:
    """As a place has it."""
    return base64.b32encode(hashlib.sha1(payload, usedforsecurity=False).digest()).decode()


class Archive:
    """What is durable, whoever has written it; and the stores that write there."""

    def __init__(self, loop: VirtualLoop, seed: int, weather: StoreWeather) -> None:
        self.loop, self.seed, self.weather = loop, seed, weather
        self.captures: dict[tuple[str, int], Written] = {}
        self.writes = 0  # that came to their end
        self.failures = 0
        self._ends: dict[str, int] = {}  # of files
        self._packs = 0

    def open(self, process: Process) -> SimulatedStore:
        """The store of one process, which has a file of its own."""
        return SimulatedStore(self, process)

    def write(self, file: str, capture: Capture) -> CapturePlace:
        """Make a capture durable: at once, or not at all."""
        fetched, offset = capture.fetched, self._ends.get(file, 0)
        self._ends[file] = offset + HEAD_BYTES + len(fetched.payload)
        payload = capture.before if fetched.http_status == NOT_MODIFIED else None
        digest = digest_of(fetched.payload) if payload is None else payload.digest
        self.captures[file, offset] = Written(capture.url, fetched.http_status, digest)
        return CapturePlace(file, offset, self._ends[file] - offset, digest, capture.at, payload=payload)

    def pack(self) -> dict[tuple[str, int], CapturePlace | None]:
        """Write all that is there once more, into another file; where each lies then."""
        self._packs += 1
        moves: dict[tuple[str, int], CapturePlace | None] = {}
        for number, (where, written) in enumerate(list(self.captures.items())):
            place = CapturePlace(f"packed-{self._packs}", number, 1, written.digest, 0.0)
            self.captures[place.file, place.offset] = written
            moves[where] = place
        return moves

    def remove(self, where: Iterable[tuple[str, int]]) -> None:
        """Remove what was packed."""
        for one in where:
            del self.captures[one]

    @property
    def is_full(self) -> bool:
        return self.weather.full_from <= self.loop.now < self.weather.full_until


class SimulatedStore:
    """A :class:`sqspider.capture.Store` of one process."""

    def __init__(self, archive: Archive, process: Process) -> None:
        self.gather_seconds = archive.weather.gather_seconds
        self.most_bytes = archive.weather.most_bytes
        self._archive = archive
        self._file = f"{process.name}.warc"
        self._rng = random.Random(f"archive {archive.seed} {process.name}")
        self._notes: list[Capture] = []
        self._is_busy = False

    def note(self, capture: Capture) -> None:
        self._notes.append(capture)

    def has(self, place: CapturePlace) -> bool:
        return bool(place.file)

    async def keep(self, captures: Sequence[Capture]) -> list[CapturePlace | None]:
        assert not self._is_busy, "one call at a time"
        self._is_busy = True
        try:
            return await self._keep(captures)
        finally:
            self._is_busy = False

    async def _keep(self, captures: Sequence[Capture]) -> list[CapturePlace | None]:
        archive, weather, rng = self._archive, self._archive.weather, self._rng
        await point()
        if rng.random() < weather.slow:
            await asyncio.sleep(rng.choice((0.1, 1.0, 4.0, 12.0, 70.0)))
        if archive.is_full:
            archive.failures += 1
            raise FullError("simulated: no room")
        fails = rng.random() < weather.fails
        most = rng.randint(0, len(captures)) if fails and weather.is_torn else 0 if fails else len(captures)
        for note in self._notes if most else ():
            archive.write(self._file, note)
        places: list[CapturePlace | None] = []
        for capture in captures[:most]:
            if len(places) == most // 2:
                await point()  # a part of it is there
            is_kept = capture.settings.keep != KEEPS_NOTHING
            places.append(archive.write(self._file, capture) if is_kept else None)
        await asyncio.sleep(0.002)
        await point()
        if fails or rng.random() < weather.lost:
            archive.failures += 1
            raise StoreError("simulated: it is not known to be durable")
        self._notes.clear()
        archive.writes += 1
        return places

    async def close(self) -> None:
        await self.keep(())


class Keeper:
    """Who sees that nothing ends before its answer is durable."""

    def __init__(self, archive: Archive, world: World, keeps: Mapping[str, bool]) -> None:
        """``keeps``: by crawl, whether anything of it is kept."""
        self._archive, self._world, self._keeps = archive, world, keeps

    def faults_of_ends(self, ends: Sequence[Finish | Retry]) -> list[tuple[str, str]]:
        """What is wrong with ends that are asked for now: kind, detail."""
        return [
            (fault, f"{end.claim.url} {end.outcome.http_status} attempt {end.claim.attempt}")
            for end in ends
            if end.outcome is not None
            for fault in [self._fault_of(end.claim.url, end.outcome)]
            if fault
        ]

    def faults_of(self, record: UrlRecord) -> list[tuple[str, str]]:
        """What is wrong with a record: of its last visit, and of the good one before."""
        said = [] if record.outcome is None else [record.outcome]
        if record.kept is not None and record.kept.good is not None:
            said.append(record.kept.good)
        faults = [self._fault_of(record.key, outcome) for outcome in said]
        return [(fault, f"{record.key} {record.status}, visit {record.visit}") for fault in faults if fault]

    def _fault_of(self, key: str, outcome: Outcome) -> str:
        """What is wrong with the place of an outcome's answer; nothing, if it is as it should be."""
        crawl, url = split_key(key)
        place = outcome.capture
        if outcome.http_status is None:
            return "a capture of no answer" if place or outcome.unkept else ""
        if outcome.checked:
            return "a capture of a check" if place or outcome.unkept else ""
        if not self._keeps[crawl]:
            return "a capture that nobody wanted" if place or not outcome.unkept else ""
        if place is None:
            return "ended without its capture"
        expected = digest_of(self._world.page(url) if outcome.http_status == WHOLE else b"")
        status = NOT_MODIFIED if outcome.unchanged else outcome.http_status
        if (fault := self._fault_at(place, Written(url, status, expected))) or not outcome.unchanged:
            return fault
        if place.payload is None:
            return "unchanged, and refers to nothing"
        return self._fault_at(place.payload, Written(url, outcome.http_status, expected))

    def _fault_at(self, place: CapturePlace, expected: Written) -> str:
        written = self._archive.captures.get((place.file, place.offset))
        if written is None:
            return "ended before its capture was durable"
        if place.digest != written.digest or written != expected:
            return "another capture than its own"
        return ""
