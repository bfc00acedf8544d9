"""Beginnings of objects that are asked for before it is their turn, where an archive is read whole.

A function keeps an object an invocation: of thousands of small ones it is the way there and back that takes the time.
So while one is read, the next ones are on their way; what is asked for costs the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, Future
from typing import Final

from sqspider.archive.errors import ArchiveError
from sqspider.archive.files import WARC_ENDINGS
from sqspider.archive.s3 import Part

OBJECTS: Final = 8  # at a time, each with the memory of a first range


class Ahead:
    """What is on its way of one list of objects, which somebody goes through in its order. ``begin`` asks for the
    beginning of an object."""

    def __init__(self, begin: Callable[[str], Future[Part]]) -> None:
        self._begin = begin
        self._begun: dict[str, Future[Part]] = {}
        self._coming: tuple[str, ...] = ()

    def follow(self, name: str, coming: Iterable[str]) -> None:
        """It is this one's turn, and then that of those which are coming. Nothing is asked for yet: a list may be all
        that is wanted."""
        self._coming = tuple(coming)
        for each in self._begun.keys() - {name, *self._coming}:
            self.forget(each)

    def seen(self, name: str) -> Part | None:
        """The beginning of an object, where it was asked for; it stays for who reads on."""
        begun = self._begun.get(name)
        try:
            return None if begun is None else begun.result()
        except (ArchiveError, CancelledError):  # it is asked for in its turn, and the trouble told then
            self.forget(name)
            return None

    def taken(self, name: str) -> Part | None:
        """The same, and it is let go of: its object is read now. So those are that come next."""
        for each in self._coming:
            if each not in self._begun and each.endswith(WARC_ENDINGS):
                self._begun[each] = self._begin(each)
        part = self.seen(name)
        self.forget(name)
        return part

    def forget(self, name: str) -> None:
        if (begun := self._begun.pop(name, None)) is not None:
            begun.cancel()

    def end(self) -> None:
        """The list is at its end, or left."""
        self._coming = ()
        for name in tuple(self._begun):
            self.forget(name)
