"""Heals what dead writers left in a folder: ends that are torn, files that were never closed or never begun.

Any process may do so at its start, while others write: who lives holds a lock. Only files of this host are looked at,
as a lock says nothing across hosts on every file system.
"""

from __future__ import annotations

import enum
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from sqspider.archive.errors import ArchiveError, NotAllowedError
from sqspider.archive.files import OPEN
from sqspider.archive.folder import NEW, sync_folder
from sqspider.archive.locks import lock
from sqspider.archive.members import MARK_BYTES, MemberError, check_whole, members, whole_from
from sqspider.archive.names import host_of_file, safe_host

NEW_SECONDS: Final = 60  # that a file which nobody sees yet may take from being made to being locked
_REWRITTEN_BY: Final = re.compile(r"\+(?P<host>[^+]+)\+[0-9a-f]{8}$")  # see ``folder.Folder.write``


class Did(enum.StrEnum):
    """What was done with a file."""

    CLOSED = "closed"  # it was whole
    CUT = "cut"  # behind its last whole record, and closed
    REMOVED = "removed"  # there was no capture in it
    DAMAGED = "damaged"  # in its midst: whole records follow, so it was closed as it is
    LEFT = "left"  # it cannot be repaired from here: ``detail`` says why


class Repaired(NamedTuple):
    """One file."""

    name: str  # without ``.open``
    did: Did
    cut_bytes: int = 0  # that were torn
    detail: str = ""


def repair(folder: str | Path, *, every_host: bool = False) -> list[Repaired]:
    """Repair the files that nobody writes. ``every_host``: those of others, too; only for who knows that none of them
    writes there.

    It may be called at any time, and die anywhere: what it does to a file it does again. Raises
    :class:`ArchiveError` where the folder cannot be read; what goes wrong with one file is in its line.
    """
    folder = Path(folder)
    own = None if every_host else safe_host()
    found = []
    try:
        names = sorted(os.listdir(folder))
    except PermissionError as error:
        raise NotAllowedError(f"{folder}: {error.strerror}; whoever repairs it needs the right to read it") from error
    except OSError as error:
        raise ArchiveError(f"{folder}: {error.strerror}") from error
    for name in names:
        try:
            done = _look_at(folder, name, own)
        except OSError as error:
            done = Repaired(_final(name), Did.LEFT, detail=f"{folder / name}: {error.strerror}")
        if done is not None:
            found.append(done)
    return found


def _look_at(folder: Path, name: str, own: str | None) -> Repaired | None:
    if name.endswith(OPEN):
        host = host_of_file(name.removesuffix(OPEN))
        if own is not None and host is not None and host != own:
            return Repaired(_final(name), Did.LEFT, detail=f"it was written on {host}: repair it there")
        return _close(folder, name) if host is not None else None
    if name.startswith(".") and name.endswith(NEW):
        hidden = name.removeprefix(".").removesuffix(NEW)
        rewritten = _REWRITTEN_BY.search(hidden)
        host = rewritten["host"] if rewritten is not None else host_of_file(hidden)
        if host is not None and own in (None, host):
            return _remove_new(folder, name)
    return None


def _close(folder: Path, name: str) -> Repaired | None:
    final = _final(name)
    with _locked(folder / name) as descriptor:
        if descriptor is None:
            return None
        if os.path.lexists(folder / final):
            return Repaired(final, Did.LEFT, detail=f"there are {final} and {name}: one of them was copied there")
        records, cut_bytes, damage = _cut(descriptor)
        if records <= 1:  # the warcinfo record
            (folder / name).unlink()
            did = Did.REMOVED
        else:
            (folder / name).rename(folder / final)
            did = Did.DAMAGED if damage else Did.CUT if cut_bytes else Did.CLOSED
        sync_folder(folder)
        return Repaired(final, did, cut_bytes, damage)


def _cut(descriptor: int) -> tuple[int, int, str]:
    """How many records there are, how many bytes were cut off behind them, and what damage was found amid them."""
    records = 0
    own = b"\r\n"  # in every record's head, until the first has said its id
    with open(descriptor, "rb", closefd=False) as stream:
        mark = stream.read(MARK_BYTES)
        stream.seek(0)
        try:
            for member in members(stream):
                head = check_whole(member)
                own = own if records else _naming(head)
                records += 1
        except MemberError as error:
            # A writer leaves a torn end; damage before what is whole is of another cause, and places point behind it.
            stream.seek(error.offset + 1)
            if whole_from(stream, error.offset + 1, mark, lambda head: own in head) is not None:
                return records + 1, 0, f"{error}; whole records follow, so nothing was cut off"
            cut_bytes = os.fstat(descriptor).st_size - error.offset
            os.ftruncate(descriptor, error.offset)
            os.fsync(descriptor)
            return records, cut_bytes, ""
    return records, 0, ""


def _naming(warcinfo: bytes) -> bytes:
    """What every other record of a file says of its first one."""
    identity = warcinfo.partition(b"WARC-Record-ID: ")[2].partition(b"\r\n")[0]
    return b"\r\nWARC-Warcinfo-ID: %s\r\n" % identity


def _remove_new(folder: Path, name: str) -> Repaired | None:
    with _locked(folder / name) as descriptor:
        if descriptor is None or os.fstat(descriptor).st_mtime > time.time() - NEW_SECONDS:
            return None
        (folder / name).unlink()
        return Repaired(name, Did.REMOVED)


@contextmanager
def _locked(path: Path) -> Iterator[int | None]:
    """A descriptor of a file that is nobody's; none: somebody lives, or was faster."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:  # its writer has just closed it
        yield None
        return
    try:
        yield descriptor if is_nobodys(path, descriptor) else None
    finally:
        os.close(descriptor)


def is_nobodys(path: Path, descriptor: int) -> bool:
    """Whether a file that was opened is still the one of its name, and no process held its lock; now this one does."""
    with suppress(BlockingIOError, FileNotFoundError):
        lock(descriptor)
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    return False


def _final(name: str) -> str:
    return name.removesuffix(OPEN)
