"""Rows in order: of every kind, in memory that does not grow."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sqspider.tables.columns import Column, Kind, Row
from sqspider.tables.sorting import Order, check_order, in_order
from tests.tables.kit import COLUMNS, plain

SORTED = (Column("text"), Column("number", Kind.INTEGER), Column("time", Kind.TIME), Column("free", Kind.JSON))
_rows = st.lists(
    st.tuples(
        st.one_of(st.none(), st.text(st.characters(codec="utf-8"), max_size=2)), st.one_of(st.none(), st.integers(-3, 3)),
        st.one_of(st.none(), st.floats(-2, 2)), st.one_of(st.none(), st.lists(st.text(max_size=2), max_size=2)),
    ),
    max_size=12,
)  # fmt: skip


def in_order_of(rows: list[Row], orders: list[Order], limit: int | None) -> list[Row]:
    async def batches() -> AsyncIterator[list[Row]]:
        for row in rows:
            yield [row]

    async def main() -> list[Row]:
        return [row async for batch in in_order(batches(), SORTED, orders, limit) for row in batch]

    return asyncio.run(main())


@given(
    _rows,
    st.lists(st.tuples(st.sampled_from(["text", "number", "time"]), st.booleans()), min_size=1, max_size=3),
    st.one_of(st.none(), st.integers(1, 5)),
)
def test_rows_come_in_the_order_that_python_has(
    rows: list[Row], said: list[tuple[str, bool]], limit: int | None
) -> None:
    """Sorted again and again from the last column to the first; what is none comes last, whichever way."""
    names = [column.name for column in SORTED]
    wanted = list(rows)
    for name, is_falling in reversed(said):
        at = names.index(name)

        def key(row: Row, at: int = at) -> Any:
            return row[at]

        there = sorted((row for row in wanted if row[at] is not None), key=key, reverse=is_falling)
        wanted = there + [row for row in wanted if row[at] is None]
    found = in_order_of(rows, [Order(*each) for each in said], limit)
    assert [list(map(plain, row)) for row in found] == [list(map(plain, row)) for row in wanted[:limit]]


@pytest.mark.parametrize("name", ["texts", "structs", "json"])
def test_nothing_is_sorted_by_a_list(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is a list or an object"):
        check_order(COLUMNS, [Order("text"), Order(name)])
