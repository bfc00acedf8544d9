"""One writer at a time: a lock beside what is written, for as long as it is. It is gone at the end; what a killed one
leaves of it is an empty file, and no lock."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final

from sqspider.archive.locks import HAS_LOCKS, lock
from sqspider.tables.table import TableError
from sqspider.tables.target import STANDARD_OUTPUT, as_table_errors, stat_of

BEHIND: Final = ".lock"  # the table's name


class BusyError(TableError):
    """Somebody else writes a table just now."""


@contextmanager
def alone(target: str) -> Iterator[None]:
    """Within it nobody else writes there, who asks for the same. Before anything of the table is touched. Raises
    :class:`BusyError`, and :class:`TableError` where no file can be made beside it."""
    with _locked(target) if HAS_LOCKS and _is_file(target) else nullcontext():
        yield


def _is_file(target: str) -> bool:
    """Whether it is a file or a folder, or will be."""
    if target == STANDARD_OUTPUT:
        return False
    with as_table_errors(target):
        there = stat_of(Path(target))
    return there is None or stat.S_ISREG(there.st_mode) or stat.S_ISDIR(there.st_mode)


@contextmanager
def _locked(target: str) -> Iterator[None]:
    path = os.path.realpath(target.rstrip("/" + os.sep)) + BEHIND
    descriptor = _taken(target, path)
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(path)  # while it is held: whoever waits for this very file sees that it has gone
        os.close(descriptor)


def _taken(target: str, path: str) -> int:
    while True:
        with as_table_errors(target):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            with as_table_errors(target):
                lock(descriptor)
                if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                    return descriptor
        except TableError as error:
            os.close(descriptor)
            if isinstance(error.__cause__, BlockingIOError):
                raise BusyError(f"{target}: somebody else writes it just now: let that end") from None
            if not isinstance(error.__cause__, FileNotFoundError):
                raise
        else:
            os.close(descriptor)
