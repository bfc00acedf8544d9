"""Kills whoever changes an archive, before and after each thing that is done to its files: a real process, really dead."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO

from sqspider.archive.files import FileInfo, Files

DEAD = 77


class Dying:
    """Files whose user dies at the n-th change, just before it, or just after."""

    def __init__(self, files: Files, step: int) -> None:
        self._files = files
        self._left = step
        self.address = files.address

    def all(self) -> Iterator[FileInfo]:
        return self._files.all()

    def info(self, name: str) -> FileInfo | None:
        return self._files.info(name)

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        return self._files.read(name, offset, length)

    def opened(self, name: str, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        return self._files.opened(name, offset)

    def write(self, name: str, content: Iterable[bytes]) -> None:
        self.pass_by()
        self._files.write(name, content)
        self.pass_by()

    def remove(self, name: str) -> None:
        self.pass_by()
        self._files.remove(name)
        self.pass_by()

    def pass_by(self) -> None:
        self._left -= 1
        if self._left < 0:
            os._exit(DEAD)


def died(work: Callable[[], None]) -> bool:
    """Do something in a process of its own; whether it died there."""
    child = os.fork()
    if not child:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, DEAD), f"it failed: {code}"
    return code == DEAD
