"""Where the files of an archive lie: a folder, or a bucket. The same words for both.

A folder is in ``folder``, a bucket in ``bucket``. What is in the files is not known here.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import BinaryIO, Protocol

from sqspider.archive.file_info import OPEN as OPEN  # said again: they belong together
from sqspider.archive.file_info import WARC_ENDINGS as WARC_ENDINGS
from sqspider.archive.file_info import FileInfo as FileInfo


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


def files_at(address: str) -> Files:
    """The files at an address: a folder's path, or ``s3://BUCKET/PREFIX``. Raises :class:`ArchiveError` for an address
    that is none; whether something is there is seen when it is read."""
    if address.startswith("s3://"):
        from sqspider.archive.bucket import Bucket  # here: most archives lie in a folder

        return Bucket.at(address)
    from sqspider.archive.folder import Folder

    return Folder(address)
