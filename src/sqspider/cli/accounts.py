"""What workers that are processes of their own did, for the summary: each tells it at its end, in a line of one pipe
that all of them share. What one did that was killed is not told."""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress

import msgspec

from sqspider.revisit import Revisit


def tell(pipe: int, again: Counter[Revisit]) -> None:
    """As a worker at its end: what came of the URLs that it visited again."""
    with suppress(BrokenPipeError):  # its parent was killed: nobody asks
        os.write(pipe, msgspec.json.encode(again) + b"\n")  # whole, among those of others: it is short


class Accounts:
    """The pipe, as the parent has it."""

    def __init__(self) -> None:
        self._reading, self.pipe = os.pipe()

    def close(self) -> Counter[Revisit]:
        """What all of them told. They have ended."""
        os.close(self.pipe)
        with open(self._reading, "rb") as lines:
            told = [msgspec.json.decode(line, type=dict[Revisit, int]) for line in lines]
        return sum(map(Counter, told), Counter())
