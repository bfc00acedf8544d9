"""What is told of a file of an archive, wherever it lies."""

from __future__ import annotations

from typing import NamedTuple

WARC_ENDINGS = (".warc.gz", ".warc.zst", ".warc")
OPEN = ".open"  # at the end of the name of a file that is being written


class FileInfo(NamedTuple):
    """A file of an archive."""

    name: str  # without ``.open``; relative to the folder or prefix
    size: int  # bytes
    modified: float  # seconds since the epoch
    is_open: bool = False  # somebody writes it, or died while writing it
