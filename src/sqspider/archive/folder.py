"""An archive in a folder: its files, as whoever reads or rewrites them has them. Who appends is in ``folder_sink``."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from sqspider.archive.errors import ArchiveError, NoArchiveError, NotAllowedError
from sqspider.archive.files import OPEN, FileInfo
from sqspider.archive.locks import lock
from sqspider.archive.names import safe_host

NEW: Final = ".new"  # at the end of the name of what is not yet there for anybody: a dot stands before it, too
OWN: Final = 0o600  # pages may be private: nobody else reads them


class Folder:
    """The files of a folder, and of those in it, which a bucket's copy has."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._path = Path(address)

    def all(self) -> Iterator[FileInfo]:
        """Every file, sorted by name, but for those that are not there yet."""
        if not self._path.is_dir():
            raise self._no_folder()
        yield from self._below(self._path, "")

    def info(self, name: str) -> FileInfo | None:
        path = self._path_of(name)
        with self._told(name):
            for one in (path, path.with_name(path.name + OPEN), path):  # its writer may close it between the two
                with suppress(FileNotFoundError):
                    state = one.stat()
                    return FileInfo(name, state.st_size, state.st_mtime, one.name.endswith(OPEN))
        return None

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        with self.opened(name, offset) as stream, self._told(name):
            return stream.read(-1 if length is None else length)

    @contextmanager
    def opened(self, name: str, offset: int = 0) -> Iterator[BinaryIO]:
        with self._told(name):
            stream = self._open(name)
        with stream:
            stream.seek(offset)
            yield stream

    def write(self, name: str, content: Iterable[bytes]) -> None:
        """See :meth:`sqspider.archive.files.Files.write`. If it dies, what it wrote goes with the next repair."""
        path = self._path_of(name)
        hidden = path.with_name(f".{path.name}+{safe_host()}+{secrets.token_hex(4)}{NEW}")
        with self._told(name):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_WRONLY, OWN)
            try:
                with open(descriptor, "wb") as stream:
                    lock(descriptor)  # before it, repair finds it nobody's
                    for piece in content:
                        stream.write(piece)
                    stream.flush()
                    os.fsync(descriptor)
                    hidden.rename(path)
            except BaseException:
                with suppress(FileNotFoundError):
                    hidden.unlink()
                raise
            sync_folder(path.parent)

    def remove(self, name: str) -> None:
        path = self._path_of(name)
        with self._told(name), suppress(FileNotFoundError):
            path.unlink()
            sync_folder(path.parent)

    def _below(self, folder: Path, prefix: str) -> Iterator[FileInfo]:
        with self._told(prefix):
            entries = list(os.scandir(folder))
        found: dict[str, os.DirEntry[str]] = {}
        for entry in entries:
            if entry.name.startswith("."):
                continue
            is_folder = entry.is_dir(follow_symlinks=False)
            found[entry.name + "/" if is_folder else entry.name.removesuffix(OPEN)] = entry
        for name in sorted(found):  # with the slash: so all names below are in their order
            entry = found[name]
            if name.endswith("/"):
                yield from self._below(folder / entry.name, prefix + name)
            elif _is_file(entry):
                info = self._info(prefix + name, entry)
                if info is not None:
                    yield info

    def _info(self, name: str, entry: os.DirEntry[str]) -> FileInfo | None:
        is_open = entry.name.endswith(OPEN)
        try:
            state = os.stat(entry.path)
        except FileNotFoundError:  # its writer has just closed it; or it was removed
            is_open = False
            try:
                state = os.stat(entry.path.removesuffix(OPEN))
            except FileNotFoundError:
                return None
        return FileInfo(name, state.st_size, state.st_mtime, is_open)

    def _open(self, name: str) -> BinaryIO:
        path = self._path_of(name)
        for one in (path, path.with_name(path.name + OPEN)):
            with suppress(FileNotFoundError):
                return one.open("rb")
        return path.open("rb")  # its writer may have closed it between the two

    def _path_of(self, name: str) -> Path:
        """Names come out of frontiers and of foreign indexes."""
        parts = name.split("/")
        if not name or "\0" in name or any(part in ("", ".", "..") for part in parts):
            raise NoArchiveError(f"{name!r} is no name of a file in {self.address}")
        return self._path.joinpath(*parts)

    def _no_folder(self) -> ArchiveError:
        if not os.path.lexists(self._path):
            return NoArchiveError(f"there is no archive at {self.address}: no such folder")
        return NoArchiveError(f"there is no archive at {self.address}: it is no folder")

    @contextmanager
    def _told(self, name: str) -> Iterator[None]:
        """What the system says, in our words."""
        where = os.path.join(self.address, name)
        try:
            yield
        except FileNotFoundError as error:
            raise NoArchiveError(f"there is no {where}") from error
        except NotADirectoryError as error:
            raise self._no_folder() from error
        except PermissionError as error:
            raise NotAllowedError(f"{where}: {error.strerror}; whoever runs this needs the right to it") from error
        except OSError as error:
            raise ArchiveError(f"{where}: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Make what was renamed or removed in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a link that leads to itself
        return False
