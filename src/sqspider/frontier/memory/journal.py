"""What lets a step that raises leave everything as it was: a journal of changes, each with what takes it back."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")
T = TypeVar("T")


class Journal:
    """How to take back what was changed since the step began."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], object]] = []

    def note(self, undo: Callable[[], object]) -> None:
        self._undo.append(undo)

    def whole(self, step: Callable[[], T]) -> T:
        """Run a step: if it raises, it has not happened."""
        try:
            return step()
        except BaseException:
            for undo in reversed(self._undo):
                undo()
            raise
        finally:
            self._undo.clear()


class Kept(dict[K, V]):
    """A dictionary whose changes are noted. Items are set by ``[]`` and removed by ``del``, nothing else is."""

    def __init__(self, journal: Journal) -> None:
        super().__init__()
        self._journal = journal

    def __setitem__(self, key: K, value: V) -> None:
        self._note(key)
        super().__setitem__(key, value)

    def __delitem__(self, key: K) -> None:
        self._note(key)
        super().__delitem__(key)

    def _note(self, key: K) -> None:
        if key in self:
            self._journal.note(partial(super().__setitem__, key, self[key]))
        else:
            self._journal.note(partial(super().pop, key, None))
