"""The gate: many together or one alone, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import random

import pytest

from sqspider.work.gate import Gate


class Visitor:
    """Somebody who goes in, stays until told to leave, and notes who else is there."""

    def __init__(self, gate: Gate, *, alone: bool = False) -> None:
        self.is_inside = False
        self.was_let_in: bool | None = None
        self.told_to_leave = asyncio.Event()
        self.task = asyncio.create_task(self._go(gate, alone=alone))

    async def _go(self, gate: Gate, *, alone: bool) -> None:
        ticket = gate.enter(alone=alone)
        try:
            self.was_let_in = await ticket
            if self.was_let_in:
                self.is_inside = True
                await self.told_to_leave.wait()
        finally:
            self.is_inside = False
            gate.give_back(ticket)

    async def leave(self) -> None:
        self.told_to_leave.set()
        await self.task


async def settle() -> None:
    """Let everybody get as far as they can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def inside(*visitors: Visitor) -> list[bool]:
    await settle()
    return [visitor.is_inside for visitor in visitors]


async def test_many_share_it_and_one_has_it_alone() -> None:
    gate = Gate()
    first, second, alone = Visitor(gate), Visitor(gate), Visitor(gate, alone=True)
    assert await inside(first, second, alone) == [True, True, False]
    await first.leave()
    assert await inside(second, alone) == [True, False]
    await second.leave()
    assert await inside(alone) == [True]
    late = Visitor(gate)
    assert await inside(alone, late) == [True, False]
    await alone.leave()
    assert await inside(late) == [True]
    await late.leave()


async def test_nobody_passes_one_who_waits() -> None:
    """Or the one who waits to be alone would never be."""
    gate = Gate()
    first, alone, late = Visitor(gate), Visitor(gate, alone=True), Visitor(gate)
    assert await inside(first, alone, late) == [True, False, False]
    await first.leave()
    assert await inside(alone, late) == [True, False]
    await alone.leave()
    assert await inside(late) == [True]
    await late.leave()


async def test_two_who_want_to_be_alone_are_so_one_after_the_other() -> None:
    gate = Gate()
    first, alone, between, second = Visitor(gate), Visitor(gate, alone=True), Visitor(gate), Visitor(gate, alone=True)
    assert await inside(first, alone, between, second) == [True, False, False, False]
    await first.leave()
    assert await inside(alone, between, second) == [True, False, False]
    await alone.leave()
    assert await inside(between, second) == [True, False]
    await between.leave()
    assert await inside(second) == [True]
    await second.leave()


async def test_who_waits_can_be_sent_away() -> None:
    gate = Gate()
    first, alone, late = Visitor(gate), Visitor(gate, alone=True), Visitor(gate)
    await settle()
    gate.send_away()
    assert await inside(first, alone, late) == [True, False, False]
    assert (alone.was_let_in, late.was_let_in) == (False, False)
    await first.leave()
    again = Visitor(gate, alone=True)
    assert await inside(again) == [True]
    await again.leave()


@pytest.mark.parametrize("when", ["while it waits", "just when it is let in"])
async def test_one_who_is_cancelled_keeps_nobody_out(when: str) -> None:
    gate = Gate()
    first, alone, late = Visitor(gate), Visitor(gate, alone=True), Visitor(gate)
    await settle()
    if when == "just when it is let in":
        first.told_to_leave.set()
        while not alone.is_inside and first.is_inside:
            await asyncio.sleep(0)
    alone.task.cancel()
    await settle()
    await first.leave()
    assert await inside(late) == [True]
    await late.leave()
    again = Visitor(gate, alone=True)
    assert await inside(again) == [True]
    await again.leave()


@pytest.mark.parametrize("seed", range(20))
async def test_whoever_comes_and_goes_one_alone_is_alone_and_all_get_in_at_last(seed: int) -> None:
    rng, gate = random.Random(seed), Gate()
    visitors: list[tuple[Visitor, bool]] = []
    for _ in range(200):
        present = [visitor for visitor, _ in visitors if not visitor.task.done()]
        match rng.choice(("come", "come", "leave", "cancel", "wait")):
            case "come":
                alone = rng.random() < 0.3
                visitors.append((Visitor(gate, alone=alone), alone))
            case "leave" if present:
                rng.choice(present).told_to_leave.set()
            case "cancel" if present and rng.random() < 0.3:
                rng.choice(present).task.cancel()
            case _:
                await asyncio.sleep(0)
        there = [alone for visitor, alone in visitors if visitor.is_inside]
        assert not any(there) or len(there) == 1
    for visitor, _ in visitors:
        visitor.told_to_leave.set()
    await asyncio.wait([visitor.task for visitor, _ in visitors], timeout=30)
    assert all(visitor.task.done() for visitor, _ in visitors)
    last = Visitor(gate, alone=True)
    assert await inside(last) == [True]
    await last.leave()
