"""The race of two terminals, made worse: each URL is finished once. ``bench/aws_race.py`` runs it large."""

from __future__ import annotations

import pytest

from .engines import Engines
from .race import race


@pytest.mark.parametrize(
    ("urls", "consumers", "kills"),
    [(150, 3, 3), pytest.param(2000, 6, 60, marks=[pytest.mark.prove, pytest.mark.timeout(3600)])],
)
async def test_consumers_that_are_killed_and_throttled_finish_each_url_once(
    engines: Engines, urls: int, consumers: int, kills: int
) -> None:
    report = await race(
        engines.ministack(),
        urls=urls,
        consumers=consumers,
        kills=kills,
        kill_every_seconds=1.5,
        throttled=0.1,
        page_seconds=0.2,
        seed=3,
    )
    assert report.is_good, report
    assert report.throttled > 20
    assert report.lost > 0
