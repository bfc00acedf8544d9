"""Sorts more lines than fit into memory: sorted runs on disk, then merged.

Ten million lines of an index have four gigabytes. Runs lie in the folder for temporary files (``TMPDIR``), without a
name: whatever ends the process, nothing of them stays.
"""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import IO, Final

from sqspider.archive.errors import ArchiveError

MOST_BYTES: Final = 64 * 1024 * 1024  # of lines that are held in memory
_MOST_RUNS: Final = 100  # that are merged at once: each is an open file
_OVERHEAD: Final = 56  # bytes that a line takes in memory beyond its own


class Sorter:
    """Takes lines of bytes, without their ends, and gives them back in the order of their bytes. A context manager."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most = most_bytes
        self._lines: list[bytes] = []
        self._size = 0
        self._runs: list[IO[bytes]] = []

    def __enter__(self) -> Sorter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of what lies on disk."""
        for run in self._runs:
            run.close()

    def add(self, line: bytes) -> None:
        """Take a line. Raises :class:`ArchiveError` where the disk is full."""
        assert b"\n" not in line, line
        self._lines.append(line)
        self._size += len(line) + _OVERHEAD
        if self._size >= self._most:
            self._lines.sort()
            self._runs.append(_written(self._lines))
            self._lines, self._size = [], 0
            if len(self._runs) == _MOST_RUNS:
                self._merge_runs()

    def sorted(self) -> Iterator[bytes]:
        """All lines, sorted; once."""
        self._lines.sort()
        return heapq.merge(*map(_lines_of, self._runs), self._lines)

    def _merge_runs(self) -> None:
        merged = _written(heapq.merge(*map(_lines_of, self._runs)))
        for run in self._runs:
            run.close()
        self._runs = [merged]


def _written(lines: Iterable[bytes]) -> IO[bytes]:
    try:
        run = tempfile.TemporaryFile()  # noqa: SIM115 - closed once it is merged
        run.writelines(line + b"\n" for line in lines)
        run.flush()
    except OSError as error:
        raise ArchiveError(
            f"{tempfile.gettempdir()} cannot take what is to be sorted: {error.strerror}; "
            "the variable TMPDIR names another folder"
        ) from error
    run.seek(0)
    return run


def _lines_of(run: IO[bytes]) -> Iterator[bytes]:
    return (line[:-1] for line in run)
