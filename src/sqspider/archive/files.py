"""Where the files of an archive lie: a folder, or a bucket. The same words for both.

A folder is in ``folder``, a bucket in ``bucket``; which of them an address means, in ``addresses``. What is in the
files is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Final, NamedTuple, Protocol

from sqspider.archive.errors import NoArchiveError

WARC_ENDINGS: Final = (".warc.gz", ".warc.zst", ".warc")
OPEN: Final = ".open"  # at the end of the name of a file that is being written


class FileInfo(NamedTuple):
    """A file of an archive."""

    name: str  # without ``.open``; relative to the folder or prefix
    size: int  # bytes
    modified: float  # seconds since the epoch
    is_open: bool = False  # somebody writes it, or died while writing it


class Files(Protocol):
    """The files of one archive. Blocking. Raises :class:`sqspider.archive.errors.ArchiveError`, and of its kinds."""

    address: str  # as a person says it: a path, or s3://BUCKET/PREFIX

    def all(self) -> Iterator[FileInfo]:
        """Every file, sorted by name; also those that are no WARC files (the index, a WACZ)."""

    def info(self, name: str) -> FileInfo | None:
        """One file, without a look at the others; none: it is not there."""

    def read(self, name: str, offset: int = 0, length: int | None = None) -> bytes:
        """Some bytes of a file, also of one that is open; fewer where it ends before."""

    def opened(self, name: str, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """A file to be read from an offset on, as a stream that is not sought in."""

    def write(self, name: str, content: Iterable[bytes]) -> None:
        """Write a whole file, in place of an older one of its name: nobody ever sees a part of it. Durable when it
        returns."""

    def remove(self, name: str) -> None:
        """Remove a file; one that is not there is no error."""


def warc_files(files: Files, *, may_be_none: bool = False) -> Iterator[FileInfo]:
    """The WARC files of an archive, by name. Raises :class:`NoArchiveError` where there is none, unless that may be."""
    is_empty = not may_be_none
    for info in files.all():
        if info.name.endswith(WARC_ENDINGS):
            is_empty = False
            yield info
    if is_empty:
        raise NoArchiveError(f"there is no archive at {files.address}: no WARC file lies there")
