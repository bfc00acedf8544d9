"""The life of a record, as its table says it and as its drawing shows it."""

from __future__ import annotations

import re

import sqspider.record
from sqspider.record import LIFE, Operation, Reason, Status

# A word of the drawing, or several that stand for one place in it.
PLACE = r"\(?(\w+(?: \| \w+)*)\)?"


def drawn() -> set[tuple[str, str, str]]:
    """What the drawing at the head of the module shows: before, operation, after."""
    assert sqspider.record.__doc__ is not None
    lines = [line for line in sqspider.record.__doc__.splitlines() if "--" in line]
    assert len(lines) == 4
    found = set()
    for line in lines:
        # The place after an arrow is the place before the next one: so it is looked at, and not used up.
        for before, operation, after in re.findall(rf"{PLACE} --(\w+)--> (?={PLACE})", line):
            found |= {(old, operation, new) for old in before.split(" | ") for new in after.split(" | ")}
        for after, operation, before in re.findall(rf"{PLACE} <--(\w+)-- (?={PLACE})", line):
            found.add((before, operation, after))
    return found


def test_the_drawing_of_a_records_life_is_its_table() -> None:
    table = {
        (before or "absent", operation, after)
        for operation, moves in LIFE.items()
        for before, afters in moves.items()
        for after in afters
    }
    assert drawn() == table


def test_the_tree_of_reasons_has_each_of_them_once() -> None:
    assert Reason.__doc__ is not None
    drawn = re.findall(r"\b(?!URL\b)[A-Z_]{3,}\b", Reason.__doc__)
    assert sorted(drawn) == sorted(Reason.__members__)


def test_every_status_is_reached_and_only_final_ones_are_left_by_nothing_but_a_visit_more() -> None:
    assert set(LIFE) == set(Operation)
    moves = [(before, afters) for moves in LIFE.values() for before, afters in moves.items()]
    assert {after for _, afters in moves for after in afters} == set(Status)
    assert {before for before, _ in moves if before is not None} == set(Status)
    of_final = {operation for operation, moves in LIFE.items() if any(before and before.is_final for before in moves)}
    assert of_final == {Operation.REOPEN}
    assert set(LIFE[Operation.REOPEN]) == {status for status in Status if status.is_final}
