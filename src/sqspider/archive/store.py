"""Keeps captures: makes their records, and hands them to a sink in one write a batch.

How a record reads is in ``warc``; where the bytes go is the sink's: a file of a folder (``folder_sink``), or objects of
a bucket (``bucket_sink``).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import compress
from typing import Final, NamedTuple

from msgspec.structs import replace

from sqspider.archive.addresses import is_bucket
from sqspider.archive.coding import Coding
from sqspider.archive.dates import microseconds
from sqspider.archive.names import safe_host
from sqspider.archive.payloads import Payloads, as_seen_from, is_worth_it
from sqspider.archive.selection import is_kept, payload_of
from sqspider.archive.sink import Begun as Begun  # said again: they belong together
from sqspider.archive.sink import Sink as Sink
from sqspider.archive.warc import Answer, Origin, digest_of, records_of
from sqspider.capture import Capture
from sqspider.log import get_logger
from sqspider.record import CapturePlace

NOTES_THAT_WAIT_BYTES: Final = 8_000_000  # of payloads that are noted, after which they wait for no page
MOST_NOTES_BYTES: Final = 2 * NOTES_THAT_WAIT_BYTES  # that are held while nothing can be written; the oldest go then
AT_ONCE_BYTES: Final = 2_000_000
"""Of payloads that are packed on the event loop, in 20 ms at most: beside it, each member would be fought over with it
for the interpreter, and cost half as much again. What is more goes to a thread."""
RECENT_DATES: Final = 10_000  # of captures, none of which has that of another
_NOTE_BYTES: Final = 2_000  # of what is noted beside its payload
_HERE: Final = ""  # the file of a place in a batch that is not written yet; its offset is within that

log = get_logger(__name__)


class _Packed(NamedTuple):
    """A batch: its bytes, and where the answers lie in them."""

    members: bytes
    places: list[CapturePlace]  # see ``_HERE``
    own: dict[str, int]  # those of them that others may refer to, by their digests


class Dates:
    """Gives captures their dates, in microseconds, so that none has that of another one lately: then a record's id
    follows from its URL and date."""

    def __init__(self) -> None:
        self._recent: OrderedDict[int, None] = OrderedDict()

    def next(self, at: float) -> int:
        """The date of a capture of this time, or the first one after it that is free."""
        date = microseconds(at)
        while date in self._recent:
            date += 1
        self._recent[date] = None
        if len(self._recent) > RECENT_DATES:
            self._recent.popitem(last=False)
        return date


class ArchiveStore:
    """A store over a sink (:class:`sqspider.capture.Store`). One event loop uses it."""

    def __init__(self, sink: Sink, coding: Coding = Coding.GZIP) -> None:
        self.gather_seconds = sink.gather_seconds
        self.most_bytes = sink.most_bytes
        self.sink = sink
        self._coding = coding
        self._payloads = Payloads(sink.holds)
        self._dates = Dates()
        self._notes: list[Capture] = []
        self._notes_bytes = 0
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="records")

    def note(self, capture: Capture) -> None:
        if is_kept(capture):
            self._notes.append(capture)
            self._notes_bytes += _noted_bytes(capture)
            if self._notes_bytes > MOST_NOTES_BYTES:
                self._drop_oldest()

    async def keep(self, captures: Sequence[Capture]) -> Sequence[CapturePlace | None]:
        """See :meth:`sqspider.capture.Store.keep`. Who is cancelled does not know whether they were kept: they do no
        harm, and the next batch waits until that is over."""
        are_kept = list(map(is_kept, captures))
        may_notes_wait = self._notes_bytes <= NOTES_THAT_WAIT_BYTES if captures else not self._notes
        if not any(are_kept) and may_notes_wait:
            return [None] * len(captures)
        places = iter(await self._write_whole(list(compress(captures, are_kept))))
        return [next(places) if kept else None for kept in are_kept]

    def has(self, place: CapturePlace) -> bool:
        return self.sink.holds(place.file)

    async def close(self) -> None:
        try:
            if self._notes:
                await self._write_whole([])
        finally:
            async with self._turn:
                await self.sink.close()
            self._thread.shutdown()

    async def _write_whole(self, captures: Sequence[Capture]) -> list[CapturePlace]:
        writing = asyncio.ensure_future(self._write(captures))
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            writing.add_done_callback(_hear)
            raise

    async def _write(self, captures: Sequence[Capture]) -> list[CapturePlace]:
        """Write some captures, what was noted first."""
        async with self._turn:
            begun = await self.sink.begun()
            notes = list(self._notes)
            try:
                packed = await self._packed([*notes, *captures], begun)
            except Exception:
                if not self._drop_unwritable(begun):
                    raise
                notes = list(self._notes)
                packed = await self._packed([*notes, *captures], begun)
            batch = [*notes, *captures]
            start = await self.sink.append(packed.members)
            # From here on it is durable; before, nothing is known of it: the next batch works after one that failed.
            self._forget(notes)
            places = [_moved(place, begun.name, start) for place in packed.places]
            for at in packed.own.values():
                self._payloads.learn(places[at], batch[at].url)
            return places[len(notes) :]

    def _drop_unwritable(self, begun: Begun) -> bool:
        """Drop notes of which no record can be made, aloud: they would go along with every batch, and none would be
        kept any more. Whether there were any."""
        unwritable = []
        for note in self._notes:
            try:
                self._pack([note], begun)
            except Exception:
                log.exception("note_dropped", url=note.url)
                unwritable.append(note)
        self._forget(unwritable)
        return bool(unwritable)

    def _drop_oldest(self) -> None:
        """Make room among the notes, aloud: nothing could be written for long, and memory is bounded."""
        oldest, size = [], 0
        for note in self._notes[:-1]:
            if self._notes_bytes - size <= NOTES_THAT_WAIT_BYTES:
                break
            oldest.append(note)
            size += _noted_bytes(note)
        self._forget(oldest)
        log.error("notes_dropped", notes=len(oldest), bytes=size, so="these answers of hosts are in no archive")

    def _forget(self, notes: Sequence[Capture]) -> None:
        gone = set(map(id, notes))
        self._notes = [note for note in self._notes if id(note) not in gone]
        self._notes_bytes = sum(map(_noted_bytes, self._notes))

    async def _packed(self, batch: Sequence[Capture], begun: Begun) -> _Packed:
        if sum(len(capture.fetched.payload) for capture in batch) <= AT_ONCE_BYTES:
            return self._pack(batch, begun)
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._pack, batch, begun)

    def _pack(self, batch: Sequence[Capture], begun: Begun) -> _Packed:
        members: list[bytes] = []
        places: list[CapturePlace] = []
        own: dict[str, int] = {}
        offset = 0
        for at, capture in enumerate(batch):
            answer = self._answer(capture)
            if answer.original is None and is_worth_it(answer):
                first = own.setdefault(answer.digest, at)
                if first != at:
                    answer = answer._replace(original=as_seen_from(capture.url, places[first], batch[first].url))
            packed = [self._coding.pack(record) for record in records_of(answer, begun.warcinfo_id)]
            length = len(packed[0])
            places.append(
                CapturePlace(_HERE, offset, length, answer.digest, answer.date / 1_000_000, payload=answer.original)
            )
            members += packed
            offset += sum(map(len, packed))
        return _Packed(b"".join(members), places, own)

    def _answer(self, capture: Capture) -> Answer:
        """What is written of a capture; it refers to what earlier batches have of it."""
        payload, cut = payload_of(capture)
        answer = Answer(capture, self._dates.next(capture.at), payload, digest_of(payload), cut)
        if capture.fetched.is_unchanged:
            original = self._payloads.before(capture)
            return answer if original is None else answer._replace(original=original, digest=original.digest)
        return answer._replace(original=self._payloads.same(answer)) if is_worth_it(answer) else answer


def _noted_bytes(note: Capture) -> int:
    return len(note.fetched.payload) + _NOTE_BYTES


def _moved(place: CapturePlace, name: str, start: int) -> CapturePlace:
    """The place that one in a batch has once that lies in its file."""
    payload = place.payload
    if payload is not None and payload.file == _HERE:
        payload = _moved(payload, name, start)
    return replace(place, file=name, offset=place.offset + start, payload=payload)


def _hear(writing: asyncio.Task[list[CapturePlace]]) -> None:
    """How a write ended that nobody waits for any more: its claims are given back."""
    if not writing.cancelled() and (error := writing.exception()) is not None:
        log.warning("archive_write", said=str(error))


def open_store(
    address: str,
    coding: Coding = Coding.GZIP,
    max_bytes: int | None = None,
    *,
    operator: str | None = None,
    user_agent: str | None = None,
) -> ArchiveStore:
    """The store of an archive at an address: a folder's path, or ``s3://BUCKET/PREFIX``. ``max_bytes``: of all that may
    lie there. ``operator``: whom to write to; ``user_agent``: by what name pages are asked for.

    A folder is made if there is none, and tried: raises :class:`sqspider.capture.StoreError` where nothing can be kept
    in it. No file is opened before the first batch, so a process may still be forked.
    """
    origin = Origin(safe_host(), operator, user_agent)
    if is_bucket(address):
        from sqspider.archive.bucket_sink import BucketSink  # here: most archives lie in a folder

        return ArchiveStore(BucketSink.at(address, coding, origin, max_bytes), coding)
    from sqspider.archive.folder_sink import FolderSink, Limits, check_folder

    check_folder(address)
    return ArchiveStore(FolderSink(address, coding, origin, Limits(max_bytes)), coding)
