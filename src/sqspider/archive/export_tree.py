"""A folder that files are written into by paths that others have chosen: nothing is ever written beside it.

Each folder is opened within the one before, and no link is followed, whoever has put it there. A file appears whole.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from sqspider.archive.errors import ArchiveError, NotAllowedError
from sqspider.archive.export_names import Path as Parts

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_NAMES: Final = (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL)


class InTheWayError(Exception):
    """One file cannot be written; the text says why."""


class Tree:
    """A folder and all below it. A context manager. Raises :class:`ArchiveError` where it cannot be written to."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._descriptor = -1
        self._folder: tuple[Parts, int] | None = None  # that was written to last, and is likely to be again

    def __enter__(self) -> Tree:
        with self._told():
            self._root.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        os.close(self._descriptor)

    def write(self, path: Parts, fill: Callable[[BinaryIO], object], *, at: float, overwrite: bool) -> int:
        """Write a file, as of a moment; how many bytes. Raises :class:`InTheWayError`; and what ``fill`` raises: then
        there is no file."""
        with self._told():
            folder = self._opened(path[:-1])
            self._check(path, folder, overwrite=overwrite)
            hidden = f".sqspider-{secrets.token_hex(8)}"
            descriptor = os.open(hidden, _FILE, 0o666, dir_fd=folder)
            try:
                with open(descriptor, "wb") as file:
                    fill(file)
                    file.flush()
                    size = file.tell()
                    os.utime(descriptor, (at, at))
                os.rename(hidden, path[-1], src_dir_fd=folder, dst_dir_fd=folder)
            except BaseException:
                with suppress(FileNotFoundError):
                    os.unlink(hidden, dir_fd=folder)
                raise
        return size

    def _check(self, path: Parts, folder: int, *, overwrite: bool) -> None:
        try:
            there = os.stat(path[-1], dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(there.st_mode):
            raise InTheWayError("a folder is in its place")
        if not overwrite:
            raise InTheWayError("a file is there already: --overwrite replaces it")

    def _opened(self, path: Parts) -> int:
        if self._folder is not None and self._folder[0] == path:
            return self._folder[1]
        self._leave()
        folder = os.dup(self._descriptor)
        try:
            for part in path:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=folder)
                try:
                    below = os.open(part, _FOLDER, dir_fd=folder)
                except NotADirectoryError:
                    raise InTheWayError("a file or a link is in the place of a folder") from None
                os.close(folder)
                folder = below
        except BaseException:
            os.close(folder)
            raise
        self._folder = path, folder
        return folder

    def _leave(self) -> None:
        if self._folder is not None:
            os.close(self._folder[1])
        self._folder = None

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise NotAllowedError(f"{self._root} cannot be written to: {error.strerror}") from error
        except OSError as error:
            if error.errno in _NAMES:
                raise InTheWayError(f"this file system takes no such name: {error.strerror}") from error
            raise ArchiveError(f"{self._root} cannot be written to: {error.strerror}") from error
