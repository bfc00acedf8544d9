"""What a frontier says of itself is so: callers go by its traits, and by nothing else."""

from __future__ import annotations

from sqspider.frontier import Frontier


async def test_who_has_turns_says_so(frontier: Frontier) -> None:
    assert frontier.traits.has_turns == hasattr(frontier, "turn")


async def test_a_bill_and_what_removing_costs_go_together(frontier: Frontier) -> None:
    assert (await frontier.bill() is not None) == (frontier.traits.removal_dollars > 0)


async def test_points_are_given_of_the_finest_period(frontier: Frontier) -> None:
    period = frontier.traits.finest_period_seconds
    now = frontier.now()
    assert await frontier.points(since=now - period, until=now, period_seconds=period) == []
