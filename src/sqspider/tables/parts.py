"""A folder of parts: files that are whole, one after the other. Every reader of a format reads a folder of them.

Each part is written under a hidden name, and has its own when it is durable; so many may write into one folder, and
whoever reads it sees whole parts alone. A part ends when it is long enough, or its owner flushes: he does it seldom,
for small parts are of no good to anybody.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from sqspider.tables.table import Encoder, ExistsError, Table, TableError, as_number
from sqspider.tables.target import How, Target, Whole, as_table_errors, make_names_durable

PART_BYTES: Final = 256 * 1024 * 1024  # of chunks: packed, as Parquet is, a fifth of it or less
FLUSH_SECONDS: Final = 60.0  # a part a minute, where rows are few

_NAME: Final = re.compile(r"(?P<hidden>\.?)part-(?:(?P<writer>.+)-)?(?P<number>\d{6,})\.[a-z]+")


class _Part(NamedTuple):
    """A file of a folder that is a part, or was to become one."""

    path: Path
    writer: str
    number: int
    is_hidden: bool  # its writer is at it, or died


class Parts:
    """Parts of a writer in a folder: ``part-000001.parquet``, with his name in it where several write there."""

    connection: sqlite3.Connection | None = None
    can_rewind = True
    flush_seconds = FLUSH_SECONDS

    def __init__(
        self, folder: Path, encoder: Encoder, open_part: Callable[[Target], Table], suffix: str, how: How, writer: str
    ) -> None:
        self.encoder = encoder
        self._folder = folder
        self._open = open_part
        self._suffix = suffix
        self._writer = writer
        with as_table_errors(folder):
            folder.mkdir(exist_ok=True)
        there = self._parts()
        if how is How.NEW and any(not part.is_hidden for part in there):
            raise ExistsError(f"{folder} has parts already: --overwrite replaces them")
        self._remove([part for part in there if how is How.OVERWRITE or (part.is_hidden and part.writer == writer)])
        self._number = max((part.number for part in self._own()), default=0)
        self._part: Table | None = None
        self._bytes = 0  # in it

    @property
    def is_empty(self) -> bool:
        return self._number == 0

    @property
    def is_full(self) -> bool:
        return self._bytes >= PART_BYTES

    def write(self, chunk: bytes) -> None:
        if self.is_full:
            self._end_part()
        if self._part is None:
            name = f"part-{self._writer}-" if self._writer else "part-"
            name += f"{self._number + 1:06}{self._suffix}"
            self._part = self._open(Whole(self._folder / name, f".{name}"))
        self._part.write(chunk)
        self._bytes += len(chunk)

    def flush(self) -> str:
        """End the part, if there is anything in it."""
        self._end_part()
        return str(self._number)

    def rewind(self, position: str | None) -> None:
        number = as_number(position)
        there = {part.number: part for part in self._own()}
        if number and number not in there:
            raise TableError(
                f"{self._folder} has no part {number:06}, which was written: somebody has changed it since"
            )
        self._remove([part for part in there.values() if part.number > number])
        self._number = number

    def close(self, *, is_whole: bool) -> None:
        if is_whole:
            self._end_part()
        elif self._part is not None:
            part, self._part = self._part, None
            part.close(is_whole=False)

    def _end_part(self) -> None:
        if self._part is not None:
            part, self._part, self._bytes = self._part, None, 0
            part.close(is_whole=True)
            self._number += 1

    def _own(self) -> list[_Part]:
        return [part for part in self._parts() if part.writer == self._writer and not part.is_hidden]

    def _parts(self) -> list[_Part]:
        with as_table_errors(self._folder):
            names = [(path, _NAME.fullmatch(path.name)) for path in self._folder.iterdir()]
        return [
            _Part(path, name["writer"] or "", int(name["number"]), bool(name["hidden"])) for path, name in names if name
        ]

    def _remove(self, parts: list[_Part]) -> None:
        with as_table_errors(self._folder):
            for part in parts:
                part.path.unlink(missing_ok=True)
            if parts:
                make_names_durable(self._folder)
