"""Lines: one of those who wait for a host is the first, and whoever steps out makes way for the next."""

from __future__ import annotations

import asyncio

from sqspider.work.lines import Lines
from tests.unit.test_waiting import Guest, virtually


def test_the_first_is_told_at_once_and_each_next_one_when_the_one_before_is_out() -> None:
    async def play() -> None:
        lines: Lines[Guest] = Lines()
        guests = [Guest(number) for number in range(3)]
        first, second, third = map(lines.step_up, guests)
        other = lines.step_up(Guest(9, "other"))
        assert first.done()
        assert other.done()
        lines.step_out(guests[1])  # of the midst: the first is it still
        await asyncio.sleep(0.01)
        assert not second.done()
        assert not third.done()
        lines.step_out(guests[0])
        await asyncio.sleep(0.01)
        assert third.done()

    virtually(play())


def test_who_steps_up_twice_stands_in_line_once() -> None:
    async def play() -> None:
        lines: Lines[Guest] = Lines()
        guests = [Guest(number) for number in range(3)]
        for guest in guests:
            lines.step_up(guest)
        assert lines.step_up(guests[1]) is lines.step_up(guests[1])
        assert list(lines.behind(guests[0])) == guests[1:]
        assert list(lines.behind(guests[1])) == []
        for guest in guests:
            lines.step_out(guest)
            lines.step_out(guest)
        assert lines.step_up(guests[2]).done()

    virtually(play())


def test_who_is_the_first_by_then_is_told_after_a_while() -> None:
    async def play() -> None:
        lines: Lines[Guest] = Lines()
        guests = [Guest(number) for number in range(2)]
        lines.step_up(guests[0])
        told = lines.step_up(guests[1])
        loop = asyncio.get_running_loop()
        began = loop.time()
        lines.step_out(guests[0], 5.0)
        assert not told.done()
        await told
        assert loop.time() == began + 5.0

    virtually(play())
