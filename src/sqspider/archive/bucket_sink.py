"""Appends records to a bucket: each batch is an object of its own, which begins with a warcinfo record of its own.

An object is put whole or not at all, so nothing is ever torn, and nothing to be repaired. One whose answer was lost may
be there all the same: its name is used by nobody else, and no place points there.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import time
from calendar import timegm
from collections.abc import Mapping
from typing import Final, NamedTuple

from sqspider.archive.coding import Coding
from sqspider.archive.dates import microseconds
from sqspider.archive.errors import ArchiveError
from sqspider.archive.names import object_name
from sqspider.archive.s3 import S3Client
from sqspider.archive.s3_place import S3Place
from sqspider.archive.sink import GATHER_SECONDS, Begun
from sqspider.archive.warc import Origin, warcinfo
from sqspider.capture import FullError, StoreError
from sqspider.frontier.aws.client import Observer
from sqspider.frontier.values import CHANCE, Clock

BATCH_BYTES: Final = 8_000_000
LOOK_BYTES: Final = 1_000_000_000  # put by us, after which it is looked what others put
DAYS: Final = "SQSPIDER_ARCHIVE_DAYS"  # after which a bucket deletes what lies in it
DAY_SECONDS: Final = 86_400
MOST_DIGITS: Final = 6
_BEGAN: Final = re.compile(r"(?:^|/)(\d{8})/(\d{6})-|-(\d{14})-")  # in a name: of this sink, or of what was packed
_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz234567"  # of a random name: five bits each
_RANDOM_LETTERS: Final = 8  # with the second before them, and a PUT that writes over nothing


class _Next(NamedTuple):
    """The object that the next records go to."""

    begun: Begun
    warcinfo: bytes  # packed


class BucketSink:
    """A sink into a bucket. Nothing is asked before the first batch."""

    def __init__(
        self,
        client: S3Client,
        coding: Coding,
        origin: Origin,
        max_bytes: int | None = None,
        *,
        gather_seconds: float = GATHER_SECONDS,
        days: int = 0,
        clock: Clock = time.time,
        rng: random.Random = CHANCE,
    ) -> None:
        """``max_bytes``: of all that may lie there; ``days``: after which the bucket deletes it, zero: never."""
        self.gather_seconds = gather_seconds
        self.most_bytes = BATCH_BYTES
        self.end_at: float | None = None  # in the event loop's time: what is not put by then is given up
        self._client = client
        self._coding = coding
        self._origin = origin
        self._max_bytes = max_bytes
        self._days = days
        self._clock = clock
        self._rng = rng
        self._next: _Next | None = None
        self._limit: asyncio.Timeout | None = None  # of what is being put
        self._turn = asyncio.Lock()
        self._bytes = 0  # of all objects, when it was last looked; and what we have put since
        self._unlooked = LOOK_BYTES  # put since

    @classmethod
    def at(
        cls,
        address: str,
        coding: Coding,
        origin: Origin,
        max_bytes: int | None = None,
        *,
        environment: Mapping[str, str] = os.environ,
        gather_seconds: float = GATHER_SECONDS,
    ) -> BucketSink:
        """The sink of ``s3://BUCKET/PREFIX``; whether the bucket deletes by age says :data:`DAYS` in the environment.
        Raises :class:`StoreError` for an address that is none, and for days that are none."""
        days = environment.get(DAYS) or "0"
        if not (days.isascii() and days.isdecimal() and len(days) <= MOST_DIGITS):
            raise StoreError(f"{DAYS} is {days!r}: write after how many days the bucket deletes pages, 0: never")
        try:
            client = S3Client.open(S3Place.read(address), environment)
        except ArchiveError as error:
            raise StoreError(str(error)) from error
        return cls(client, coding, origin, max_bytes, gather_seconds=gather_seconds, days=int(days))

    @property
    def observers(self) -> list[Observer]:
        """Who sees every request that is sent: a bill does."""
        return self._client.observers

    async def begun(self) -> Begun:
        if self._next is None:
            now = self._clock()
            letters = "".join(self._rng.choices(_LETTERS, k=_RANDOM_LETTERS))
            name = object_name(now, letters, self._coding.ending)
            identity, record = warcinfo(name, microseconds(now), self._origin)
            self._next = _Next(Begun(name, identity), self._coding.pack(record))
        return self._next.begun

    async def append(self, members: bytes) -> int:
        """See :meth:`sqspider.archive.sink.Sink.append`. What comes next goes to another object, also after trouble:
        whether this one is there then is not known."""
        ahead, self._next = self._next, None
        assert ahead is not None  # as ``begun`` was asked before
        body = ahead.warcinfo + members
        try:
            async with self._turn, asyncio.timeout_at(self.end_at) as self._limit:
                await self._check_room(len(body))
                await self._client.put(ahead.begun.name, body, is_new=True)
        except TimeoutError:
            url = self._client.place.url(ahead.begun.name)
            raise StoreError(f"{url} could not be put within the time that was left") from None
        except ArchiveError as error:
            raise StoreError(str(error)) from error
        finally:
            self._limit = None
        self._bytes += len(body)
        self._unlooked += len(body)
        return len(ahead.warcinfo)

    def holds(self, name: str) -> bool:
        """Objects are not looked for: that would be a request for each page. So what a record refers to is taken to be
        there; whoever erases sees to what refers to it. But a bucket that deletes by age does not: there nobody refers
        to what is past half of its days, and it is fetched and kept anew."""
        if not self._days:
            return bool(name)
        found = _BEGAN.search(name)
        if found is None:
            return False
        began = timegm(time.strptime("".join(filter(None, found.groups())), "%Y%m%d%H%M%S"))
        return self._clock() - began < self._days * DAY_SECONDS / 2

    async def settle(self) -> None:
        """Give up what is being put, if anything is, and what is still to be, until ``end_at`` is set again: nothing
        may be under way when the process is frozen."""
        self.end_at = asyncio.get_running_loop().time()
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time())
            async with self._turn:
                pass

    async def wake(self) -> None:
        """Let go of connections that went stale while this process was frozen."""
        await self._client.wake()

    async def close(self) -> None:
        await self._client.close()

    async def _check_room(self, wanted: int) -> None:
        """Raises :class:`FullError` where what is wanted is more than may lie there."""
        if self._max_bytes is None:
            return
        if self._unlooked >= LOOK_BYTES:
            self._bytes, self._unlooked = 0, 0
            async for found in self._client.listed():
                self._bytes += found.size
        if self._bytes + wanted > self._max_bytes:
            raise FullError(
                f"the archive in {self._client.place} has {self._bytes:,} bytes, and may have {self._max_bytes:,}: "
                "raise --archive-max-bytes, or name another place by --archive"
            )
