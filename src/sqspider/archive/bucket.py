"""The files of an archive in a bucket: objects, read in ranges. Blocking, over an event loop in a thread of its own."""

from __future__ import annotations

import asyncio
import io
import os
import threading
import weakref
from collections import deque
from collections.abc import AsyncGenerator, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, Final, TypeVar

from sqspider.archive.bucket_ahead import OBJECTS, Ahead
from sqspider.archive.errors import ArchiveError, NoArchiveError
from sqspider.archive.files import FileInfo
from sqspider.archive.s3 import ObjectInfo, Part, S3Client
from sqspider.archive.s3_place import S3Place
from sqspider.archive.s3_upload import PART_BYTES, Upload

FIRST_BYTES: Final = 256 * 1024  # of a stream that are asked for at first: most records are smaller
MOST_BYTES: Final = 8 * 2**20  # and at a time
BUFFER_BYTES: Final = 64 * 1024

T = TypeVar("T")


class Bucket:
    """The :class:`sqspider.archive.files.Files` of a bucket. Any thread may call, whatever event loop it runs."""

    def __init__(self, place: S3Place, environment: Mapping[str, str]) -> None:
        self.address = str(place)
        self._place = place
        client, loop = S3Client.open(place, environment), _Loop()
        self._client, self._loop = client, loop
        self._ahead = Ahead(lambda name: loop.begin(client.get(name, 0, FIRST_BYTES)))
        # The client goes in its own loop, whoever forgets this and wherever.
        self._closing = weakref.finalize(self, _close, self._ahead, loop, client)

    @classmethod
    def at(cls, address: str, environment: Mapping[str, str] = os.environ) -> Bucket:
        """By ``s3://BUCKET/PREFIX``. Raises :class:`ArchiveError` for an address that is none; nothing is asked yet."""
        return cls(S3Place.read(address), environment)

    def close(self) -> None:
        """Let go of connections and thread; so does the end of the program, or being forgotten."""
        self._closing()

    def all(self) -> Iterator[FileInfo]:
        listed = self._client.listed()
        coming: deque[FileInfo] = deque()
        is_whole = False
        try:
            while True:
                while not is_whole and len(coming) <= OBJECTS:
                    found = self._loop.run(_next(listed))
                    is_whole = found is None
                    if found is not None:
                        coming.append(FileInfo(found.key, found.size, found.modified))
                if not coming:
                    return
                info = coming.popleft()
                self._ahead.follow(info.name, (each.name for each in coming))
                yield info
        finally:
            self._ahead.end()
            self._loop.run(listed.aclose())

    def info(self, name: str) -> FileInfo | None:
        self._check(name)
        found = self._loop.run(self._client.look(name))
        return None if found is None else FileInfo(name, found.size, found.modified)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        self._check(name)
        if length is not None and length <= MOST_BYTES:
            begun = self._ahead.seen(name)
            if begun is not None and (offset + length <= len(begun.content) or len(begun.content) == begun.size):
                return begun.content[offset : offset + length]
            return self._loop.run(self._client.get(name, offset, length)).content if length > 0 else b""
        with self.opened(name, offset) as stream:
            return stream.read() if length is None else stream.read(length)

    @contextmanager
    def opened(self, name: str, offset: int = 0) -> Iterator[BinaryIO]:
        self._check(name)
        begun = self._ahead.taken(name) if offset == 0 else None
        with io.BufferedReader(_Ranges(self._client, self._loop, name, offset, begun), BUFFER_BYTES) as stream:
            yield stream

    def write(self, name: str, content: Iterable[bytes]) -> None:
        self._check(name)
        try:
            self._write(name, content)
        finally:
            self._ahead.forget(name)

    def _write(self, name: str, content: Iterable[bytes]) -> None:
        parts = _in_parts(content)
        first = next(parts, b"")
        second = next(parts, None)
        if second is None:
            self._loop.run(self._client.put(name, first, is_new=False))
            return
        upload = Upload(self._client, name)
        self._loop.run(upload.begin())
        try:
            for part in (first, second):
                self._loop.run(upload.add(part))
            del first, second, part
            for part in parts:
                self._loop.run(upload.add(part))
            self._loop.run(upload.complete())
        except BaseException:
            with suppress(ArchiveError):  # the lifecycle rule does it later, and what was wrong is to be told
                self._loop.run(upload.abort())
            raise

    def remove(self, name: str) -> None:
        self._check(name)
        try:
            self._loop.run(self._client.delete(name))
        finally:
            self._ahead.forget(name)

    def _check(self, name: str) -> None:
        """Names come out of frontiers and of foreign indexes, and whoever stands before a bucket may take ``..`` for
        the way out of it."""
        if not name.isprintable() or any(part in ("", ".", "..") for part in name.split("/")):
            raise NoArchiveError(f"{name!r} is no name of a file in {self.address}")


async def _next(listed: AsyncGenerator[ObjectInfo, None]) -> ObjectInfo | None:
    return await anext(listed, None)


def _in_parts(content: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in parts of :data:`PART_BYTES`, and what is left."""
    held = bytearray()
    for piece in content:
        held += piece
        while len(held) >= PART_BYTES:
            yield bytes(held[:PART_BYTES])
            del held[:PART_BYTES]
    if held:
        yield bytes(held)


class _Ranges(io.RawIOBase):
    """An object from an offset on, asked for range by range: each twice as long as the one before."""

    def __init__(self, client: S3Client, loop: _Loop, name: str, offset: int, begun: Part | None) -> None:
        """``begun``: its first range, where that is there already."""
        self._client = client
        self._loop = loop
        self._name = name
        self._offset = offset
        self._length = FIRST_BYTES
        self._version = ""  # all of it comes from the same object, or an error does
        self._size: int | None = None  # not known yet
        self._held = memoryview(b"")
        if begun is not None:
            self._take(begun)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._held and (self._size is None or self._offset < self._size):
            self._ask()
        taken = min(len(buffer), len(self._held))
        buffer[:taken] = self._held[:taken]
        self._held = self._held[taken:]
        return taken

    def _ask(self) -> None:
        self._held = memoryview(b"")  # two of them at once would be twice the memory
        self._take(self._loop.run(self._client.get(self._name, self._offset, self._length, version=self._version)))

    def _take(self, part: Part) -> None:
        self._held = memoryview(part.content)
        self._version, self._size = part.version, part.size
        self._offset += len(part.content)
        self._length = min(2 * self._length, MOST_BYTES)


class _Loop:
    """An event loop in a thread of its own, which begins with the first call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine gives. An interrupt meanwhile cancels it."""
        future = self.begin(work)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """What it will give."""
        return asyncio.run_coroutine_threadsafe(work, self._begun())

    def _begun(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=_work, args=(self._loop,), name="sqspider-s3", daemon=True)
                self._thread.start()
            return self._loop

    def stop(self, last: Coroutine[Any, Any, None]) -> None:
        """Do a last thing, and end the thread."""
        if self._loop is None or self._thread is None or not self._thread.is_alive():
            last.close()
        elif threading.current_thread() is self._thread:  # which found, in its search for cycles, what was forgotten
            self._loop.create_task(last).add_done_callback(lambda _: asyncio.get_running_loop().stop())
        else:
            self.run(last)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()


def _work(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()


def _close(ahead: Ahead, loop: _Loop, client: S3Client) -> None:
    ahead.end()
    loop.stop(client.close())
