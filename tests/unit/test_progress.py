"""What the live line says of a crawl's speed."""

from __future__ import annotations

from sqspider.cli.progress import Speed
from sqspider.frontier import Counts
from sqspider.record import Status


def counted(done: int) -> Counts:
    return Counts(by_status={**dict.fromkeys(Status, 0), Status.DONE: done}, by_reason={}, bytes=1000 * done)


def test_what_was_cleared_away_is_no_speed() -> None:
    speed = Speed()
    for second, done in enumerate((0, 10, 20, 2, 12)):
        speed.see(float(second), counted(done))
        assert speed.pages == (0 if done in (0, 2) else 10)
        assert speed.bytes == 1000 * speed.pages
