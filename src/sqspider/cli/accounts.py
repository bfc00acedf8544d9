"""What workers that are processes of their own did, for the summary: each tells it at its end, in a line of one pipe
that all of them share. What one did that was killed is not told.
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import suppress
from typing import NamedTuple

import msgspec

from sqspider.revisit import Revisit


class Account(NamedTuple):
    """What a worker did, or several."""

    again: Counter[Revisit]  # what came of the URLs that were visited again
    stopped_by: str | None = None  # why it stopped by itself before nothing was left


def tell(pipe: int, account: Account) -> None:
    """As a worker at its end: what it did."""
    with suppress(BrokenPipeError):  # its parent was killed: nobody asks
        os.write(pipe, msgspec.json.encode(account) + b"\n")  # whole, among those of others: it is short


class Accounts:
    """The pipe, as the parent has it."""

    def __init__(self) -> None:
        self._reading, self.pipe = os.pipe()

    def close(self) -> Account:
        """What all of them told. They have ended."""
        os.close(self.pipe)
        with open(self._reading, "rb") as lines:
            told = [msgspec.json.decode(line, type=tuple[dict[Revisit, int], str | None]) for line in lines]
        again = sum((Counter(numbers) for numbers, _ in told), Counter[Revisit]())
        return Account(again, next((why for _, why in told if why), None))
