"""What can go wrong with an archive.

    ArchiveError             it cannot be read or changed: the text says what is wrong, with what, and what to do
    ├── NoArchiveError       there is none where one was said to be
    ├── NotAllowedError      permission is missing, named
    └── DamagedError         what lies there is not what it should be: torn, foreign, or not to its digest

What keeps a crawl from writing is a :class:`sqspider.capture.StoreError`.
"""

from __future__ import annotations


class ArchiveError(Exception):
    """An archive cannot be read or changed."""


class NoArchiveError(ArchiveError):
    """There is none."""


class NotAllowedError(ArchiveError):
    """A permission is missing."""


class DamagedError(ArchiveError):
    """What lies at a place is not what it should be."""

    file: str | None = None  # which one it is in, where that is said
