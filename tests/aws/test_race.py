"""The race of two terminals, made worse: each URL is finished once. ``bench/aws_race.py`` runs it large."""

from __future__ import annotations

from .engines import Engines
from .race import race


async def test_consumers_that_are_killed_and_throttled_finish_each_url_once(engines: Engines) -> None:
    report = await race(
        engines.ministack(),
        urls=150,
        consumers=3,
        kills=3,
        kill_every_seconds=1.5,
        throttled=0.1,
        page_seconds=0.2,
        seed=3,
    )
    assert report.is_good, report
    assert report.throttled > 20
    assert report.lost > 0
