"""A table that is a sequence of lines: a head, and what its encoder makes of rows."""

from __future__ import annotations

import sqlite3
from typing import Protocol

from sqspider.tables.table import Encoder, TableError, as_number
from sqspider.tables.target import Target


class LineEncoder(Encoder, Protocol):
    """Makes of rows what can be written behind one another."""

    def head(self) -> bytes:
        """What comes before the first row."""


class Stream:
    """Lines in a file, a device, a pipe or standard output."""

    connection: sqlite3.Connection | None = None
    is_full = False
    flush_seconds = 1.0

    def __init__(self, encoder: LineEncoder, target: Target) -> None:
        self.encoder = encoder
        self._target = target
        self._has_begun = False

    @property
    def can_rewind(self) -> bool:
        return self._target.can_rewind

    @property
    def is_empty(self) -> bool:
        return self._target.length() <= len(self.encoder.head())

    def write(self, chunk: bytes) -> None:
        self._begin()
        self._target.write(chunk)

    def flush(self) -> str:
        self._begin()
        return str(self._target.length())

    def rewind(self, position: str | None) -> None:
        length = as_number(position)
        if length and not self.can_rewind:
            raise TableError("what appears as a whole at its end cannot be gone on with")
        self._target.cut(length)
        self._has_begun = False

    def close(self, *, is_whole: bool) -> None:
        try:
            if is_whole:
                self._begin()
        except BaseException:
            self._target.close(is_whole=False)
            raise
        self._target.close(is_whole=is_whole)

    def _begin(self) -> None:
        if not self._has_begun:
            head = self.encoder.head()
            if not self._target.has(head):
                self._target.write(head)
            self._has_begun = True
