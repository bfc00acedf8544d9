"""How a run is shared among its workers: never more than the most, and nothing is lost with a worker."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from sqspider.frontier.shares import Run, Share, decode_run, encode_run, shared

NOW = 1_700_000_000.0


class Ask(NamedTuple):
    """What a worker does next: it spends a part of what it has, and asks."""

    worker: str
    part: float  # that it spends of its share, if that has not run out
    wanted: int
    seconds: float  # for which it asks
    later: float  # seconds since the last one asked


asks = st.builds(
    Ask,
    worker=st.sampled_from(("one", "two", "three")),
    part=st.floats(0, 1),
    wanted=st.integers(0, 20),
    seconds=st.sampled_from((0.0, 5.0, 60.0)),
    later=st.sampled_from((0.0, 1.0, 5.0, 100.0)),
)


@given(st.integers(0, 30), st.lists(asks, max_size=30))
def test_no_more_is_spent_and_shared_than_the_most(most: int, history: list[Ask]) -> None:
    run, now, spent = Run(), NOW, 0
    held: dict[str, Share] = {}
    for ask in history:
        now += ask.later
        mine = held.pop(ask.worker, Share(0, 0.0))
        used = int(mine.pages * ask.part) if mine.until > now else 0
        spent += used
        until = now + ask.seconds
        run, share = shared(run, most=most, worker_id=ask.worker, spent=used, wanted=ask.wanted, until=until, now=now)
        held[ask.worker] = Share(share, until)
        others = sum(each.pages for name, each in held.items() if name != ask.worker and each.until > now)
        assert 0 <= share <= ask.wanted
        assert run.spent == spent
        assert spent + share + others <= most
        assert share == ask.wanted or spent + share + others == most, "it gets all there is"
        assert decode_run(encode_run(run)) == run


@given(st.integers(1, 30), st.lists(asks, max_size=20))
def test_what_dead_workers_had_is_free_again(most: int, history: list[Ask]) -> None:
    """All of it can be spent by one that lives on."""
    run, now = Run(), NOW
    for ask in history:
        now += ask.later
        run, _ = shared(
            run, most=most, worker_id=ask.worker, spent=0, wanted=ask.wanted, until=now + ask.seconds, now=now
        )
    run, share = shared(run, most=most, worker_id="last", spent=0, wanted=most, until=now + 999, now=now + 61)
    assert (share, list(run.shares)) == (most, ["last"])


def test_a_limit_that_was_lowered_gives_nothing_more() -> None:
    run, share = shared(Run(), most=10, worker_id="one", spent=0, wanted=8, until=NOW + 60, now=NOW)
    assert share == 8
    run, share = shared(run, most=5, worker_id="two", spent=0, wanted=8, until=NOW + 60, now=NOW)
    assert share == 0
    assert run.shares == {"one": Share(8, NOW + 60)}
