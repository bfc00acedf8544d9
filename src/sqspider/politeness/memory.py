"""What is kept here of what all workers share: bounded, and good until the frontier is cleared."""

from __future__ import annotations

from typing import Final, Generic, TypeVar

from sqspider.frontier import Hosts

MOST: Final = 10_000  # when there are so many, all are forgotten: they are read again

K = TypeVar("K")
V = TypeVar("V")


class Memory(Generic[K, V]):
    """A dictionary that may lose everything at any moment."""

    def __init__(self, frontier: Hosts) -> None:
        self._frontier = frontier
        self._generation = frontier.generation
        self._kept: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        self._forget_what_was_cleared()
        return self._kept.get(key)

    def peek(self, key: K) -> V | None:
        """As :meth:`get`, amid a turn, which may come to nothing: nothing changes."""
        return self._kept.get(key) if self._generation == self._frontier.generation else None

    def put(self, key: K, value: V) -> None:
        self._forget_what_was_cleared()
        if len(self._kept) >= MOST:
            self._kept.clear()
        self._kept[key] = value

    def pop(self, key: K) -> V | None:
        self._forget_what_was_cleared()
        return self._kept.pop(key, None)

    def keys(self) -> list[K]:
        self._forget_what_was_cleared()
        return list(self._kept)

    def clear(self) -> None:
        self._kept.clear()

    def _forget_what_was_cleared(self) -> None:
        if self._generation != self._frontier.generation:
            self._generation = self._frontier.generation
            self._kept.clear()
