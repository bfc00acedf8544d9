"""What is told, on standard error, while a command walks through an archive that is large."""

from __future__ import annotations

import sys
import time
from typing import Final

from sqspider.archive.files import FileInfo

EVERY_SECONDS: Final = 5.0


class Told:
    """Tells how far it has come, every few seconds."""

    def __init__(self, done: str) -> None:
        self._done = done  # what is done with records
        self._next = time.monotonic() + EVERY_SECONDS
        self._records = 0

    def record(self, info: FileInfo) -> None:
        """One record more of this file was seen."""
        self._records += 1
        if self._records % 100 == 0 and (now := time.monotonic()) >= self._next:
            self._next = now + EVERY_SECONDS
            print(f"{self._done} {self._records:,} records, in {info.name}", file=sys.stderr)


class ToldOfFiles:
    """The same, for what goes from file to file."""

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._next = time.monotonic() + EVERY_SECONDS
        self._files = 0

    def file(self, info: FileInfo) -> None:
        """This one comes next."""
        self._files += 1
        if (now := time.monotonic()) >= self._next:
            self._next = now + EVERY_SECONDS
            print(f"{self._doing} {info.name}: file {self._files:,}", file=sys.stderr)
