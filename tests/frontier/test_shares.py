"""How what may be taken in all is shared among workers: never more than the most, and nothing is lost with a worker."""

from __future__ import annotations

from itertools import islice
from typing import Any, NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from sqspider.frontier.shares import Ask, Most, Run, Share, Spent, after, decode_run, encode_run, shared

NOW = 1_700_000_000.0


class Doing(NamedTuple):
    """What a worker does next: it spends a part of what it has, and asks."""

    worker: str
    part: float  # that it spends of its share, if that has not run out
    wanted: int
    seconds: float  # for which it asks
    later: float  # seconds since the last one asked


doings = st.builds(
    Doing,
    worker=st.sampled_from(("one", "two", "three")),
    part=st.floats(0, 1),
    wanted=st.integers(0, 20),
    seconds=st.sampled_from((0.0, 5.0, 60.0)),
    later=st.sampled_from((0.0, 1.0, 5.0, 100.0)),
)


def of(run: str = "r", **more: Any) -> Ask:
    return Ask(run=run, **more)


@given(st.integers(0, 30), st.lists(doings, max_size=30))
def test_no_more_is_spent_and_shared_than_the_most(most: int, history: list[Doing]) -> None:
    run, now, spent = Run(), NOW, 0
    held: dict[str, Share] = {}
    for doing in history:
        now += doing.later
        mine = held.pop(doing.worker, Share(0, 0.0))
        used = int(mine.pages * doing.part) if mine.until > now else 0
        spent += used
        run = after(run, {doing.worker: Spent(used)}) if used else run
        until = now + doing.seconds
        ask = of(most=Most(most), worker_id=doing.worker, wanted=doing.wanted, until=until)
        run, portion = shared(run, ask, now)
        held[doing.worker] = Share(portion.pages, until)
        others = sum(each.pages for name, each in held.items() if name != doing.worker and each.until > now)
        assert 0 <= portion.pages <= doing.wanted
        assert (run.spent, portion.spent.pages, portion.others) == (spent, spent, others)
        assert spent + portion.pages + others <= most
        assert portion.pages == doing.wanted or spent + portion.pages + others == most, "it gets all there is"
        assert decode_run(encode_run(run)) == run


@given(st.integers(1, 30), st.lists(doings, max_size=20))
def test_what_dead_workers_had_is_free_again(most: int, history: list[Doing]) -> None:
    """All of it can be spent by one that lives on."""
    run, now = Run(), NOW
    for doing in history:
        now += doing.later
        ask = of(most=Most(most), worker_id=doing.worker, wanted=doing.wanted, until=now + doing.seconds)
        run, _ = shared(run, ask, now)
    run, portion = shared(run, of(most=Most(most), worker_id="last", wanted=most, until=now + 999), now + 61)
    assert (portion.pages, list(run.shares)) == (most, ["last"])


def test_a_limit_that_was_lowered_gives_nothing_more() -> None:
    one = of(most=Most(10), worker_id="one", wanted=8, until=NOW + 60)
    run, portion = shared(None, one, NOW)
    assert portion.pages == 8
    run, portion = shared(run, of(most=Most(5), worker_id="two", wanted=8, until=NOW + 60), NOW)
    assert portion.pages == 0
    assert run.shares == {"one": Share(8, NOW + 60)}


@given(st.integers(1, 100_000), st.lists(st.integers(0, 5_000), min_size=1, max_size=60), st.integers(1, 40))
def test_bytes_go_beyond_the_most_by_no_more_than_what_is_under_way(most: int, sizes: list[int], wanted: int) -> None:
    """Pages are fetched as they are shared out, so many at a time; each is told when all of them are."""
    run, pages = Run(), iter(sizes)
    while True:
        before = run.all_spent
        ask = of(most=Most(None, most), worker_id="one", wanted=wanted, until=NOW + 60)
        run, portion = shared(run, ask, NOW)
        if portion.pages == 0:
            assert before.bytes >= most
            break
        assert before.bytes < most
        assert portion.pages <= max(1, before.pages), "no more at a time than have been read"
        if before.bytes:
            assert portion.pages == 1 or before.bytes / before.pages * portion.pages <= most - before.bytes
        some = list(islice(pages, portion.pages))
        if not some:
            break
        run = after(run, {"one": Spent(len(some), sum(some))})


def test_of_bytes_others_have_their_part() -> None:
    run, _ = shared(None, of(most=Most(), worker_id="x", wanted=0, until=NOW, before=Spent(10, 10_000)), NOW)
    most = Most(None, 15_000)
    run, one = shared(run, of(most=most, worker_id="one", wanted=3, until=NOW + 60), NOW)
    run, two = shared(run, of(most=most, worker_id="two", wanted=9, until=NOW + 60), NOW)
    assert (one.pages, two.pages, two.others) == (3, 2, 3)


def test_what_was_shared_out_and_ran_out_is_spent_all_the_same() -> None:
    run, _ = shared(None, of(most=Most(9), worker_id="one", wanted=2, until=NOW + 60), NOW)
    run = after(run, {"one": Spent(3, 30), "gone": Spent(1, 10)})
    assert (run.all_spent, run.shares) == (Spent(4, 40), {})
