"""Removes an archive: the files of ours that lie there, and nothing else.

Ours are WARC files by the names that are given here to what was crawled, packed, or rewritten; and the index. What
other tools, or people, have put beside them stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from sqspider.archive.files import Files
from sqspider.archive.names import INDEX, is_ours


class Found(NamedTuple):
    """What lies in an archive."""

    ours: int  # files
    bytes: int  # in them
    others: int  # files of somebody else
    being_written: str | None  # the name of a file of ours that somebody writes, or died while writing it


def found_in(files: Files) -> Found:
    """Look through an archive. Raises :class:`sqspider.archive.errors.ArchiveError`."""
    ours = size = others = 0
    being_written = None
    for file in files.all():
        if not is_ours(file.name):
            others += 1
            continue
        ours, size = ours + 1, size + file.size
        if file.is_open:
            being_written = file.name
    return Found(ours, size, others, being_written)


def remove(files: Files, on_removed: Callable[[], object]) -> None:
    """Remove what is ours, the index first: what is left, if it dies, is an archive still; doing it again goes on.
    Nobody may be writing there. ``on_removed`` is called for each file. Raises
    :class:`sqspider.archive.errors.ArchiveError`."""
    files.remove(INDEX)
    for file in files.all():
        if is_ours(file.name):
            files.remove(file.name)
            on_removed()
