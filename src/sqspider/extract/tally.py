"""What became of documents: how many had what, and what could not be read."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

PAGES_TO_WARN: Final = 100  # in which a field should be found once, if it is ever


class Trouble(enum.StrEnum):
    """Why something that was asked for is missing, by kind. Programs count by these names: none is ever another's."""

    DECODE = "decode"  # the body is not what its Content-Encoding says
    BINARY = "binary"  # it is called a page, and no text
    NO_PAGE = "no-page"  # it is no HTML, and elements of it were asked for
    NO_ORIGINAL = "no-original"  # the capture that a revisit refers to is not in the archive
    TOO_LARGE = "too-large"  # only its beginning was looked at
    PATH = "path"  # a path could not be followed on this page: an expression that fails
    SLOW = "slow"  # rules take too long on this page, or find too much in it
    TOO_MANY = "too-many"  # rows of one document: the others are left out
    APPLY = "apply"  # one's own code raised something
    KILLED = "killed"  # two processes died that looked at it
    FAULT = "fault"  # one of ours: the log has the traceback
    VALUE = "value"  # one's own code gave what its column does not hold


class Tally(msgspec.Struct):
    """What became of documents: of several, the sum."""

    documents: int = 0
    rows: int = 0
    found: Counter[str] = msgspec.field(default_factory=Counter)  # by field: documents that have it
    missing: Counter[str] = msgspec.field(default_factory=Counter)  # by required field: documents that lack it
    first_missing: dict[str, str] = {}  # by required field: the URL of the first of them
    errors: Counter[str] = msgspec.field(default_factory=Counter)  # by kind of trouble: documents that had some

    def add(self, other: Tally) -> None:
        """What became of some more, which came later."""
        self.documents += other.documents
        self.rows += other.rows
        self.found += other.found
        self.missing += other.missing
        self.first_missing = {**other.first_missing, **self.first_missing}
        self.errors += other.errors


class NeverFound:
    """Tells, once each, of fields that were never found in many pages."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = tuple(names)
        self._is_told = False

    def new(self, so_far: Tally) -> tuple[str, ...]:
        """Fields to warn of now, by the sum of what all processes have told."""
        if self._is_told or so_far.documents < PAGES_TO_WARN:
            return ()
        self._is_told = True
        return tuple(name for name in self._names if not so_far.found[name])
