"""Cuts what is to be read into tasks: ranges of files, small enough to be held in memory, never amid what was packed
together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Final, NamedTuple

from sqspider.archive.gathering import Sight
from sqspider.archive.originals import Reference, Spot
from sqspider.extract.cursor import Cursor, Step
from sqspider.extract.working import Task

TASK_CAPTURES: Final = 64
TASK_BYTES: Final = 8 * 1024 * 1024  # of what was captured, unless one alone is larger
WAITING: Final = 200  # of a task of captures that waited
_STEPS: Final = 1000  # without a capture, that go with one task


class Piece(NamedTuple):
    """A task, and what was read once it is done."""

    task: Task
    steps: list[Step]


def ranges(
    looked: Iterable[tuple[Sight | None, Step]],
    numbers: count[int],
    spot_of: Callable[[Reference, Spot], Spot | None] | None = None,
) -> Iterator[Piece]:
    """What was looked at, as ranges of files. ``spot_of``: tells where the original of a revisit lies; none: whoever
    does the task knows, or looks himself."""
    piece, size = Piece(Task(next(numbers)), []), 0
    for sight, step in looked:
        last = piece.steps[-1] if piece.steps else None
        captures = piece.task.captures
        is_full = captures >= TASK_CAPTURES or size >= TASK_BYTES or len(piece.steps) >= _STEPS
        is_over = captures and (sight is None or step.file != piece.task.file)
        if last is not None and (is_over or (is_full and (last.end > last.start or step.file != last.file))):
            yield piece
            piece, size = Piece(Task(next(numbers)), []), 0
        if sight is not None:
            if not piece.task.captures:
                piece.task.file, piece.task.start = step.file, step.start
            if sight.reference is not None and spot_of is not None:
                spot = spot_of(sight.reference, Spot(step.file, sight.offset))
                piece.task.originals[piece.task.captures] = () if spot is None else (spot,)
            piece.task.captures += 1
            size += sight.size
        piece.steps.append(step)
    if piece.steps:
        yield piece


def waiting(cursor: Cursor, numbers: count[int]) -> Iterator[Piece]:
    """Those that wait, each once."""
    some = cursor.pending(most=WAITING)
    while some:
        yield Piece(Task(next(numbers), waiting=tuple(some)), [])
        some = cursor.pending(some[-1], WAITING)
