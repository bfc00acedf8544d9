"""What the live line says of a crawl: how fast it is, or what it waits for."""

from __future__ import annotations

from sqspider.cli.progress import Speed, progress_line
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


def test_what_a_crawl_waits_for_has_room_in_a_narrow_terminal() -> None:
    counts = counted(7)
    assert "in flight 2  0.0 pages/s" in progress_line(counts, Speed(), 2, None)
    line = progress_line(counts, Speed(), 2, None, "nothing can be asked (proxy_unusable)")
    assert line == "done 7  failed 0  queued 0  waiting: nothing can be asked (proxy_unusable)"
    assert r"(\u001b[31m)" in progress_line(counts, Speed(), 0, None, "nothing can be asked (\x1b[31m)")
