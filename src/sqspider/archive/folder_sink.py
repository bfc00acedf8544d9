"""Appends records to a file of one's own in a folder: durable when it says so, whole whenever it dies.

The file is made under a name that nobody looks at, locked, begun and synced, and only then named ``….open``; whoever
finds that unlocked repairs it (``repair``). A batch is one write and one fsync. What fails is cut off again; where that
fails, or the fsync, the file is not written to any more: what it holds then is known to its disk alone.
"""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

from sqspider.archive.coding import Coding
from sqspider.archive.dates import microseconds
from sqspider.archive.errors import ArchiveError
from sqspider.archive.files import OPEN
from sqspider.archive.folder import NEW, OWN, Folder, sync_folder
from sqspider.archive.locks import lock
from sqspider.archive.names import WRITTEN, file_name, safe_host
from sqspider.archive.repair import Did, repair
from sqspider.archive.sink import Begun
from sqspider.archive.warc import Origin, warcinfo
from sqspider.capture import FullError, StoreError
from sqspider.log import get_logger

FILE_BYTES: Final = 1_000_000_000  # of a file, after which the next one is begun
SPARE_BYTES: Final = 1_000_000_000  # of its disk, that are left to others
BATCH_BYTES: Final = 8_000_000
LOOK_BYTES: Final = 8_000_000  # written by us, after which it is looked what others wrote
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

T = TypeVar("T")
log = get_logger(__name__)


class Calls(NamedTuple):
    """What is asked of the system that may go wrong amid a batch."""

    write: Callable[[int, memoryview], int] = os.write
    fsync: Callable[[int], None] = os.fsync
    ftruncate: Callable[[int, int], None] = os.ftruncate


class Limits(NamedTuple):
    """How much is written."""

    max_bytes: int | None = None  # of all that lies in the folder, whoever writes it
    file_bytes: int = FILE_BYTES
    spare_bytes: int = SPARE_BYTES


@dataclass
class _File:
    """One that is open, and ours."""

    descriptor: int
    name: str  # without ``.open``
    warcinfo_id: str
    begun_bytes: int  # of its warcinfo record
    size: int

    def close(self) -> None:
        os.close(self.descriptor)  # and its lock with it


class FolderSink:
    """A sink into a folder. Opens its file with the first batch: after any fork."""

    gather_seconds = 0.0  # an fsync costs no money
    most_bytes = BATCH_BYTES

    def __init__(
        self,
        folder: str | Path,
        coding: Coding,
        origin: Origin,
        limits: Limits = Limits(),  # noqa: B008 - it does not change
        *,
        clock: Callable[[], float] = time.time,
        calls: Calls = Calls(),  # noqa: B008 - nor does that
    ) -> None:
        self._folder = Path(folder)
        self._coding = coding
        self._origin = origin
        self._limits = limits
        self._clock = clock
        self._calls = calls
        self._file: _File | None = None
        self._serial = 0
        self._is_repaired = False
        self._bytes = 0  # of all files, when it was last looked; and what we have written since
        self._unlooked = LOOK_BYTES  # written since
        self._thread: ThreadPoolExecutor | None = None  # one: what is called while another waits comes after it

    async def begun(self) -> Begun:
        file = self._file
        if file is not None and file.size < self._limits.file_bytes:  # most times: that costs no thread
            return Begun(file.name, file.warcinfo_id)
        return await self._in_thread(self._begun)

    async def append(self, members: bytes) -> int:
        return await self._in_thread(lambda: self._append(members))

    async def close(self) -> None:
        """Let go of the file. Raises :class:`StoreError`; what it holds is durable all the same."""
        if self._thread is None:
            return
        try:
            await self._in_thread(self._close)
        finally:
            self._thread.shutdown()
            self._thread = None

    def holds(self, name: str) -> bool:
        # Asked twice by its own name: it may have been closed, and got that, while it was looked for by the other.
        return any(os.path.exists(self._folder / one) for one in (name, name + OPEN, name))

    async def _in_thread(self, call: Callable[[], T]) -> T:
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="archive")
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    def _begun(self) -> Begun:
        if not self._is_repaired:
            check_folder(self._folder)
            _heal(self._folder)
            self._is_repaired = True
        if self._file is not None and self._file.size >= self._limits.file_bytes:
            self._close()
        if self._file is None:
            self._check_room(0)
            with self._told("begin a file of the archive"):
                self._file = self._new()
        return Begun(self._file.name, self._file.warcinfo_id)

    def _new(self) -> _File:
        """A file that begins with its warcinfo record. It has its name once that is durable, and we hold its lock."""
        self._serial += 1
        now = self._clock()
        name = file_name(WRITTEN, now, self._serial, secrets.token_hex(4), self._coding.ending)
        identity, record = warcinfo(name, microseconds(now), self._origin)
        member = self._coding.pack(record)
        path = self._folder / f".{name}{NEW}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_APPEND, OWN)
        try:
            lock(descriptor)
            self._write(descriptor, member)
            self._calls.fsync(descriptor)
            path = path.rename(self._folder / (name + OPEN))
            sync_folder(self._folder)
        except BaseException:
            with suppress(OSError):  # what went wrong before is told
                path.unlink()
            os.close(descriptor)
            raise
        self._count(len(member))
        return _File(descriptor, name, identity, len(member), len(member))

    def _append(self, members: bytes) -> int:
        file = self._file
        assert file is not None  # as ``begun`` was asked before
        self._check_room(len(members))
        offset = file.size
        try:
            with self._told(f"write to {file.name}"):
                self._write(file.descriptor, members)
        except StoreError:
            self._cut_back(file, offset)
            raise
        try:
            with self._told(f"make durable what was written to {file.name}"):
                self._calls.fsync(file.descriptor)
            self._check_there(file)
        except StoreError:
            self._give_up(file, offset)
            raise
        file.size += len(members)
        self._count(len(members))
        return offset

    def _check_there(self, file: _File) -> None:
        """A file that somebody removed, or whose folder they replaced, takes all that is written, and nobody will ever
        read it."""
        with suppress(OSError):
            state = os.stat(self._folder / (file.name + OPEN), follow_symlinks=False)
            if os.path.samestat(state, os.fstat(file.descriptor)):
                return
        raise StoreError(
            f"somebody removed {file.name} from {self._folder} while it was being written, or put something else in "
            "its place: `sqspider archive verify` tells which pages are lost"
        )

    def _write(self, descriptor: int, data: bytes) -> None:
        view = memoryview(data)
        while view:  # one write may take less
            view = view[self._calls.write(descriptor, view) :]

    def _cut_back(self, file: _File, size: int) -> None:
        """A full disk keeps its file: a new one for each try would fill it with beginnings."""
        try:
            self._calls.ftruncate(file.descriptor, size)
        except OSError:
            self._give_up(file, size)

    def _give_up(self, file: _File, size: int) -> None:
        """Never write to a file again. It stays ``.open``, and nobody's: the next repair closes it."""
        self._file = None
        with suppress(OSError):  # then repair finds the end that is whole
            self._calls.ftruncate(file.descriptor, size)
        file.close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        path = self._folder / (file.name + OPEN)
        try:
            with self._told(f"close {file.name}"):
                if file.size == file.begun_bytes:
                    path.unlink()
                else:
                    self._calls.fsync(file.descriptor)
                    path.rename(self._folder / file.name)
                sync_folder(self._folder)
        finally:
            file.close()

    def _check_room(self, wanted: int) -> None:
        """Raises :class:`FullError` where what is wanted has no room."""
        with self._told("look for room"):
            free = shutil.disk_usage(self._folder).free
        if free - wanted < self._limits.spare_bytes:
            raise FullError(
                f"the disk of {self._folder} is nearly full: {free / 1e6:,.0f} MB are left, and the archive leaves "
                f"{self._limits.spare_bytes / 1e6:,.0f} MB to others; make room, or name another place by --archive"
            )
        most = self._limits.max_bytes
        if most is None:
            return
        if self._unlooked >= LOOK_BYTES:
            self._bytes, self._unlooked = size_of(self._folder), 0
        if self._bytes + wanted > most:
            raise FullError(
                f"the archive in {self._folder} has {self._bytes:,} bytes, and may have {most:,}: raise "
                "--archive-max-bytes, or name another place by --archive"
            )

    def _count(self, written: int) -> None:
        self._bytes += written
        self._unlooked += written

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """What the system says, in our words."""
        try:
            yield
        except OSError as error:
            advice = "make room there" if error.errno in _NO_ROOM else "see to it, or name another place by --archive"
            raise StoreError(f"cannot {what} in {self._folder}: {error.strerror}; {advice}") from error


def size_of(folder: str | Path) -> int:
    """Bytes of all files of an archive; none, where there is none yet."""
    try:
        return sum(file.size for file in Folder(str(folder)).all()) if os.path.isdir(folder) else 0
    except ArchiveError as error:
        raise StoreError(str(error)) from error


def check_folder(folder: str | Path) -> None:
    """Make the folder, if there is none, and see that files can be made and locked in it.

    Raises :class:`StoreError`, which says what is wrong with it and what to do.
    """
    folder = Path(folder)
    other = "name another folder by --archive"
    try:
        if not folder.is_dir():
            if os.path.lexists(folder):
                raise StoreError(f"{folder} is no folder, so no archive can be kept in it: {other}")
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            sync_folder(folder.parent)
        path = folder / f".check+{safe_host()}+{secrets.token_hex(4)}{NEW}"
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWN)
    except OSError as error:
        raise StoreError(f"no archive can be kept in {folder}: {error.strerror}; {other}") from error
    try:
        lock(descriptor)
    except OSError as error:
        raise StoreError(
            f"no archive can be kept in {folder}: its file system locks no files ({error.strerror}); {other}"
        ) from error
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _heal(folder: Path) -> None:
    """Repair what the dead left, and say so; what cannot be repaired keeps nobody from writing."""
    try:
        for done in repair(folder):
            tell = log.warning if done.did in (Did.DAMAGED, Did.LEFT) else log.info
            tell("archive_repaired", file=done.name, did=done.did, cut_bytes=done.cut_bytes, detail=done.detail)
    except ArchiveError as error:
        log.warning("archive_not_repaired", folder=str(folder), said=str(error))
