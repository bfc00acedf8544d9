"""Where bytes of a table go: a file that appears whole at its end, one that grows in its place, or what takes them as
they come (a device, a pipe, standard output)."""

from __future__ import annotations

import enum
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol

from sqspider.tables.table import ExistsError, TableError

STANDARD_OUTPUT = "-"


class How(enum.Enum):
    """What becomes of what is there already."""

    NEW = "new"  # it is refused
    OVERWRITE = "overwrite"  # it is replaced
    APPEND = "append"  # it is gone on with


class Target(Protocol):
    """Takes bytes. What goes wrong is a :class:`TableError`."""

    can_rewind: bool  # what was written can be let go of again, by another process, too

    def write(self, data: bytes) -> None:
        """Take bytes."""

    def length(self) -> int:
        """How many bytes are there, of an earlier process, too, and are durable now; 0 where that is not known before
        the end."""

    def cut(self, length: int) -> None:
        """Let go of what lies behind a length, if it can be."""

    def has(self, head: bytes) -> bool:
        """Whether there are lines already, below such a head."""

    def close(self, *, is_whole: bool) -> None:
        """The end. What appears as a whole appears now, if it is; else nothing of it stays."""


def open_target(target: str, how: How, *, in_place: bool = False) -> Target:
    """Open what a name leads to. A file is replaced as a whole, or written ``in_place``, to be gone on with later."""
    if target == STANDARD_OUTPUT:
        return _Passing(_standard_output(), target)
    path = Path(target)
    with as_table_errors(path):
        there = stat_of(path)
        if there is not None and _is_standard_output(there):
            return _Passing(_standard_output(), STANDARD_OUTPUT)
        if there is not None and not stat.S_ISREG(there.st_mode) and not stat.S_ISDIR(there.st_mode):
            return _Passing(open(os.open(path, os.O_WRONLY), "wb"), target)
        if how is How.NEW:
            refuse_existing(path)
        if in_place or how is How.APPEND:
            return _Growing(path, how)
    return Whole(path, is_new=how is How.NEW)


def refuse_existing(path: Path) -> None:
    """Raise :class:`ExistsError` for a file that is there."""
    if os.path.lexists(path):
        raise ExistsError(f"{path} is there already: --overwrite replaces it")


def is_file(target: str) -> bool:
    """Whether a name leads to a file that is there, and is not where standard output goes."""
    path = Path(target)
    with as_table_errors(path):
        there = stat_of(path)
    return there is not None and stat.S_ISREG(there.st_mode) and not _is_standard_output(there)


@contextmanager
def as_table_errors(path: Path | str) -> Iterator[None]:
    """Within it, what the system says of a path is a :class:`TableError`."""
    try:
        yield
    except OSError as error:
        raise TableError(f"{path} cannot be written: {_why(Path(path), error)}") from error


def _why(path: Path, error: OSError) -> str:
    folder = Path(os.path.realpath(path)).parent
    if isinstance(error, FileNotFoundError | NotADirectoryError) and not folder.is_dir():
        return f"there is no folder {folder}"
    if isinstance(error, IsADirectoryError):
        return "it is a folder"
    return error.strerror or str(error)


def try_target(target: str) -> None:
    """Raise :class:`TableError` if no file can be written there, as far as can be told before it is."""
    path = Path(target)
    with as_table_errors(path):
        there = stat_of(path)
        if there is not None and stat.S_ISDIR(there.st_mode):
            raise IsADirectoryError
        if there is not None and not os.access(path, os.W_OK):
            raise OSError(0, "Permission denied")
        if there is None or stat.S_ISREG(there.st_mode):
            trial, file = _beside(Path(os.path.realpath(path)))
            file.close()
            trial.unlink()


def stat_of(path: Path) -> os.stat_result | None:
    """What a path leads to; none: nothing is there."""
    try:
        return path.stat()
    except FileNotFoundError:
        return None


class Whole:
    """A new file beside the one that is replaced by it at the end, with its mode. Half of it is never seen. Where the
    path is a link, it stays one: what it leads to is replaced."""

    can_rewind = False

    def __init__(self, path: Path, hidden: str | None = None, *, is_new: bool = False) -> None:
        """``hidden``: the name that it has until then; else one that nothing has. ``is_new``: what has appeared there
        by the end is not replaced."""
        self._shown = path
        self._is_new = is_new
        with as_table_errors(path):
            there = stat_of(path)
            if there is not None and stat.S_ISDIR(there.st_mode):
                raise IsADirectoryError
            self._path = Path(os.path.realpath(path))
            self._temporary, self._file = _beside(self._path, hidden)
            if there is not None:
                self._temporary.chmod(stat.S_IMODE(there.st_mode))

    def write(self, data: bytes) -> None:
        with as_table_errors(self._shown):
            self._file.write(data)

    def length(self) -> int:
        return 0

    def cut(self, length: int) -> None:
        """Nothing was written yet."""

    def has(self, head: bytes) -> bool:
        del head
        return False

    def close(self, *, is_whole: bool) -> None:
        try:
            with as_table_errors(self._shown):
                if is_whole:
                    make_durable(self._file)
                    self._file.close()
                    if self._is_new:
                        refuse_existing(self._path)
                    self._temporary.replace(self._path)
                    make_names_durable(self._path.parent)
        finally:
            _close_anyway(self._file)
            with suppress(FileNotFoundError):  # it has its name now
                self._temporary.unlink()


class _Growing:
    """A file that is written where it lies, and can be cut back."""

    can_rewind = True

    def __init__(self, path: Path, how: How) -> None:
        self._path = path
        flags = {How.NEW: os.O_EXCL, How.OVERWRITE: os.O_TRUNC, How.APPEND: 0}[how]
        self._file: BinaryIO = open(os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o666), "r+b")  # noqa: SIM115 - closed by close()
        if self._file.seek(0, os.SEEK_END) == 0:  # it may be new: a cursor that outlives it would be of nothing
            make_names_durable(path.parent)

    def write(self, data: bytes) -> None:
        self._check()
        with as_table_errors(self._path):
            self._file.write(data)
            self._file.flush()

    def _check(self) -> None:
        """Nobody has emptied it, written behind it, or put another one in its place, where rows would not be found."""
        with as_table_errors(self._path):
            own, there, length = os.fstat(self._file.fileno()), stat_of(self._path), self._file.tell()
        if own.st_size != length or there is None or not os.path.samestat(own, there):
            raise TableError(
                f"{self._path} was changed, moved or removed by somebody else while it was written: --overwrite "
                "begins anew"
            )

    def length(self) -> int:
        self._check()
        with as_table_errors(self._path):
            make_durable(self._file)
            return self._file.tell()

    def cut(self, length: int) -> None:
        with as_table_errors(self._path):
            there = self._file.seek(0, os.SEEK_END)
            if there < length:
                raise TableError(
                    f"{self._path} has {there:,} bytes, and {length:,} were written: somebody has changed it since"
                )
            self._file.seek(max(0, length - 1))
            if length and self._file.read(1) != b"\n":
                raise TableError(f"{self._path}: no line ends at byte {length:,}: somebody has changed it since")
            self._file.truncate(length)
            self._file.seek(length)

    def has(self, head: bytes) -> bool:
        with as_table_errors(self._path):
            self._file.seek(0)
            begins_with = self._file.read(len(head))
            length = self._file.seek(0, os.SEEK_END)
            self._file.seek(max(0, length - 1))
            ends_with = self._file.read()
        if length and begins_with != head:
            raise TableError(f"{self._path} has other columns: name another file, or --overwrite")
        if length and ends_with != b"\n":
            raise TableError(f"{self._path} ends within a line: take that away first, or name another file")
        return length > 0

    def close(self, *, is_whole: bool) -> None:
        try:
            with as_table_errors(self._path):
                if is_whole:
                    make_durable(self._file)
        finally:
            _close_anyway(self._file)


class _Passing:
    """What takes bytes as they come, and keeps none."""

    can_rewind = False

    def __init__(self, file: BinaryIO | None, shown: str) -> None:
        self._file = file  # none: what a program has put where standard output was takes texts alone
        self._shown = shown

    def write(self, data: bytes) -> None:
        with self._told():
            if self._file is None:
                sys.stdout.write(data.decode())
            else:
                self._file.write(data)

    def length(self) -> int:
        with self._told():
            (self._file or sys.stdout).flush()
        return 0

    def cut(self, length: int) -> None:
        """What was written is gone."""

    def has(self, head: bytes) -> bool:
        del head
        return False

    def close(self, *, is_whole: bool) -> None:
        try:
            if is_whole:
                self.length()
        finally:
            if self._file is not None:
                _close_anyway(self._file)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Of standard output the ``OSError`` itself: whoever reads it may just have left."""
        if self._shown == STANDARD_OUTPUT:
            yield
        else:
            with as_table_errors(self._shown):
                yield


def make_durable(file: BinaryIO) -> None:
    """What was written is on the disk."""
    file.flush()
    os.fsync(file.fileno())


def make_names_durable(folder: Path) -> None:
    """The names of a folder's files are on the disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _close_anyway(file: BinaryIO) -> None:
    with suppress(OSError):  # what it still holds finds no room; that was told, or is to be let go
        file.close()


def _beside(path: Path, name: str | None = None) -> tuple[Path, BinaryIO]:
    """A new file in the same folder, with the mode that new files have."""
    temporary = path.parent / (name or f".sqspider-{secrets.token_hex(6)}")
    return temporary, open(temporary, "xb")


def _standard_output() -> BinaryIO | None:
    sys.stdout.flush()
    number = _number_of_standard_output()
    # Not sys.stdout itself: unbuffered it loses what a full disk did not take.
    return None if number is None else open(os.dup(number), "wb")


def _is_standard_output(there: os.stat_result) -> bool:
    number = _number_of_standard_output()
    return number is not None and os.path.samestat(there, os.fstat(number))


def _number_of_standard_output() -> int | None:
    """Its file descriptor; none where it was closed, or is no file but what a program put there."""
    try:
        number = sys.stdout.fileno()
        os.fstat(number)
    except (OSError, ValueError):
        return None
    return number
