"""Removes an archive: the files of ours that lie there, and nothing else.

Ours are WARC files by their names (a prefix, fourteen digits, a number, a host, eight signs), the index, journals of
what was moved, and WACZ files named as ``archive wacz`` names them. What other tools, or people, have put beside them
stays.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from sqspider.archive.files import FileInfo, Files
from sqspider.archive.moves import JOURNAL

_WARC: Final = re.compile(r"[a-z0-9]+-\d{14}-.*[0-9a-z]{8}\.warc(\.gz|\.zst)?")
_OTHERS: Final = ("index.cdxj",)


class Found(NamedTuple):
    """What lies in an archive."""

    ours: Sequence[FileInfo]
    others: int  # files of somebody else

    @property
    def bytes(self) -> int:
        return sum(file.size for file in self.ours)

    @property
    def being_written(self) -> str | None:
        """The name of a file that somebody writes, or died while writing it, if there is one."""
        return next((file.name for file in self.ours if file.is_open), None)


def found_in(files: Files) -> Found:
    """Look through an archive. Raises :class:`sqspider.archive.errors.ArchiveError`."""
    ours, others = [], 0
    for file in files.all():
        if is_ours(file.name):
            ours.append(file)
        else:
            others += 1
    return Found(ours, others)


def is_ours(name: str) -> bool:
    """Whether a file, named without ``.open``, was written by this program."""
    own = name.rpartition("/")[2]
    is_other = own in _OTHERS or own.startswith(JOURNAL) or (own.endswith(".wacz") and own.startswith("sqspider"))
    return _WARC.fullmatch(own) is not None or is_other


def remove(files: Files, found: Found, on_removed: Callable[[int], object]) -> None:
    """Remove what is ours, the WARC files last: what is left, if it dies, is an archive still; doing it again goes on.
    Nobody may be writing there. ``on_removed``: how many are removed by now."""
    in_order = sorted(found.ours, key=lambda file: _WARC.fullmatch(file.name.rpartition("/")[2]) is not None)
    for number, file in enumerate(in_order, 1):
        files.remove(file.name)
        on_removed(number)
