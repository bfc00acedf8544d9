"""What an operation on a SQLite file costs does not grow with what waits there, counted in steps of SQLite's machine."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Awaitable
from contextlib import closing
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Final

import pytest

from sqspider.crawl_row import Crawl
from sqspider.frontier import (
    Deferral,
    Delivery,
    Ends,
    Entry,
    Finish,
    Retry,
    SlotDemand,
    Taking,
    Turned,
    Won,
)
from sqspider.frontier.answers import LONGEST_LOOK_AGAIN_SECONDS
from sqspider.frontier.sqlite import SqliteFrontier
from sqspider.frontier.sqlite.rows import STEP
from sqspider.work.upkeep import sweep_all

from .kit import A_LITTLE, DONE, DUE, SqliteStore, claim_all, entries, take, url

FEW: Final = 200
MANY: Final = 4_000
BATCH: Final = 10
GRANULARITY: Final = 10  # steps between two looks at the counter


class Costs:
    """Counts the steps of one frontier's statements."""

    def __init__(self, frontier: SqliteFrontier) -> None:
        self.steps: Counter[str] = Counter()
        self._name = ""
        frontier._file.connection.set_progress_handler(self._count, GRANULARITY)

    def _count(self) -> int:
        self.steps[self._name] += GRANULARITY
        return 0

    async def of(self, name: str, work: Awaitable[Any]) -> Any:
        self._name = name
        try:
            return await work
        finally:
            self._name = ""


async def opened(store: SqliteStore) -> SqliteFrontier:
    frontier = await store.open()
    assert isinstance(frontier, SqliteFrontier)
    return frontier


def by_hand(folder: Path, *statements: str) -> None:
    with closing(sqlite3.connect(folder / "frontier.db", isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def lose_places(folder: Path, pattern: str) -> None:
    """As a repair by hand does: records that match are past their time, and have no place in the queue."""
    by_hand(folder, f"UPDATE record SET queue = NULL, visible_at = NULL, due_at = 1 WHERE url LIKE '{pattern}'")


async def enqueued_and_sent(frontier: SqliteFrontier, some: list[Entry]) -> None:
    """Records that wait by a message alone, as after a redrive: sweeps look at them once they are past their time."""
    await frontier.enqueue(some)
    await frontier.purge_queue()
    await frontier.send([entry.url for entry in some])


def demand(n: int) -> SlotDemand:
    return SlotDemand(host=f"h{n}.example", count=1, spacing_seconds=1.0, generation=0)


def taking(claim_id: str) -> Taking:
    return Taking(limit=BATCH, worker_id="w", claim_id=claim_id, lease_seconds=60, claims=lambda _: True)


def ends_of(turned: Turned, until: float) -> Ends:
    """What was claimed is finished, what others hold is put off."""
    finishes, deferrals = [], []
    for taken in turned.taken:
        if isinstance(taken.claim, Won):
            links = tuple(Entry(url=f"{taken.claim.url}/{n}", depth=1) for n in range(2))
            finishes.append(Finish(claim=taken.claim, delivery=taken.delivery, outcome=DONE, links=links))
        else:
            deferrals.append(Deferral(delivery=taken.delivery, until=until))
    return Ends(finishes=finishes, deferrals=deferrals)


async def a_life(folder: Path, waiting: int) -> Counter[str]:
    """The steps of each operation on a few URLs, while so many others wait: fresh, or put off to later."""
    store = SqliteStore(folder)
    frontier = await opened(store)
    others = [Entry(url=url(n, f"h{n % 50}.example")) for n in range(waiting)]
    await frontier.enqueue(others[: waiting // 2])
    late = await take(frontier, waiting // 2)
    await frontier.defer([Deferral(delivery=delivery, until=store.clock() + 3600) for delivery in late])
    await frontier.reserve([demand(n) for n in range(waiting)])
    by_hand(folder, *["INSERT INTO sent (body, sent_at) VALUES ('', 1)"] * (BATCH + waiting // 10))
    await frontier.enqueue(entries(3 * BATCH, host="mine.example"))
    await frontier.enqueue(others[waiting // 2 :])
    await store.elapse(DUE + A_LITTLE)
    await frontier.sweep()  # looks at all of them once

    costs = Costs(frontier)
    deliveries: list[Delivery] = []
    for _ in range(3):
        deliveries += await costs.of("receive", frontier.receive(BATCH))
    assert all("mine.example" in delivery.body for delivery in deliveries), "the oldest come first"
    claims = await costs.of("claim", claim_all(frontier, deliveries))
    pairs = [(claim, delivery) for claim, delivery in zip(claims, deliveries, strict=True) if isinstance(claim, Won)]
    links = tuple(Entry(url=url(f"link{n}", "mine.example"), depth=1) for n in range(2))
    finishes = [Finish(claim=claim, delivery=delivery, outcome=DONE, links=links) for claim, delivery in pairs[:BATCH]]
    assert all(await costs.of("finish", frontier.finish(finishes)))
    later = store.clock() + 60
    retries = [
        Retry(claim=claim, delivery=delivery, at=later, tried=True) for claim, delivery in pairs[BATCH : 2 * BATCH]
    ]
    assert all(await costs.of("retry", frontier.retry(retries)))
    deferrals = [Deferral(delivery=delivery, until=later) for delivery in deliveries[2 * BATCH :]]
    await costs.of("defer", frontier.defer(deferrals))
    assert await costs.of("release_host", frontier.release_host("mine.example")) == 2 * BATCH
    ends = Ends()
    for number in range(4):
        turned = await costs.of("turn", frontier.turn(ends, taking(f"t{number}")))
        assert turned.finished == [True] * len(ends.finishes)
        assert len(turned.taken) == BATCH
        ends = ends_of(turned, later)
    await costs.of("enqueue", frontier.enqueue(entries(2 * BATCH, host="new.example")))
    assert await costs.of("sweep of nothing", frontier.sweep()) == 0
    lose_places(folder, "https://new.example/%")
    assert await costs.of("sweep", frontier.sweep()) == 2 * BATCH
    await costs.of("counts", frontier.counts())
    await costs.of("queue_stats", frontier.queue_stats())
    await costs.of("hosts_in_trouble", frontier.hosts_in_trouble())
    await costs.of("reserve", frontier.reserve([demand(n) for n in range(BATCH)]))
    await costs.of("redrive", frontier.redrive(BATCH))
    await costs.of("dead_letters", frontier.dead_letters(BATCH))
    await store.close()
    del costs.steps[""]
    return costs.steps


async def test_what_a_url_costs_does_not_grow_with_what_waits(tmp_path: Path) -> None:
    few = await a_life(Path(mkdtemp(dir=tmp_path)), FEW)
    many = await a_life(Path(mkdtemp(dir=tmp_path)), MANY)
    assert few.keys() == many.keys()
    grown = {name: (few[name], many[name]) for name in few if many[name] > 1.2 * few[name] + 10 * GRANULARITY}
    assert not grown, f"steps with {FEW} and with {MANY} waiting: {grown}"


async def test_what_was_looked_at_is_not_looked_at_again_and_again(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    frontier = await opened(store)
    await enqueued_and_sent(frontier, entries(2 * STEP + 5))
    looks = 0
    costs = Costs(frontier)
    while store.clock() < 1_700_000_000 + 10 * LONGEST_LOOK_AGAIN_SECONDS:
        await store.elapse(DUE + A_LITTLE)
        before = costs.steps["sweep"]
        assert await costs.of("sweep", frontier.sweep()) == 0
        looks += costs.steps["sweep"] - before > 10 * STEP
        await store.elapse(LONGEST_LOOK_AGAIN_SECONDS / 60)
    assert 10 <= looks <= 40, "of about 570 sweeps in ten hours"
    await store.close()


@pytest.mark.parametrize("waited", [0, 1, 50])
async def test_a_message_that_vanishes_after_it_was_looked_at_is_found_later(tmp_path: Path, waited: int) -> None:
    store = SqliteStore(tmp_path)
    frontier = await opened(store)
    await enqueued_and_sent(frontier, entries(30) + entries(30, host="lost.example"))
    for _ in range(waited):
        await store.elapse(DUE + A_LITTLE)
        assert await frontier.sweep() == 0
    by_hand(tmp_path, "DELETE FROM sent WHERE url LIKE '%lost.example%'")
    assert await frontier.sweep() == 0  # it takes a while, but not longer than
    await store.elapse(max(DUE, waited * (DUE + A_LITTLE)) + A_LITTLE)
    assert await frontier.sweep() == 30
    assert await frontier.sweep() == 0
    await store.close()


@pytest.mark.parametrize("waited", [0, 50])
async def test_after_a_purge_everything_is_due_as_soon_as_ever(tmp_path: Path, waited: int) -> None:
    store = SqliteStore(tmp_path)
    frontier = await opened(store)
    await frontier.enqueue(entries(STEP + 7))
    for _ in range(waited):
        await store.elapse(DUE + A_LITTLE)
        assert await frontier.sweep() == 0
    assert await frontier.purge_queue() == STEP + 7
    assert await frontier.sweep() == 0
    await store.elapse(DUE + A_LITTLE)
    assert await sweep_all(frontier) == STEP + 7
    await store.close()


async def test_a_sweep_finds_what_is_lost_behind_what_waits(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    frontier = await opened(store)
    await enqueued_and_sent(frontier, entries(3 * STEP) + entries(7, host="lost.example"))
    by_hand(tmp_path, "DELETE FROM sent WHERE url LIKE '%lost.example%'")
    await store.elapse(DUE + A_LITTLE)
    assert await frontier.sweep(limit=5) == 5
    assert await sweep_all(frontier) == 2
    await store.close()


async def test_a_sweep_lets_others_in_between_its_steps(tmp_path: Path) -> None:
    """Another process writes while one sweep looks at a long backlog: it never waits for more than a step of it."""
    store = SqliteStore(tmp_path)
    frontier = await opened(store)
    await enqueued_and_sent(frontier, entries(5 * STEP))
    await store.elapse(DUE + A_LITTLE)
    written = 0
    other = sqlite3.connect(tmp_path / "frontier.db", isolation_level=None, timeout=0, check_same_thread=False)
    with closing(other):

        def before_a_step(statement: str) -> None:
            nonlocal written
            if statement == "BEGIN IMMEDIATE":
                other.execute("UPDATE counter SET number = number + 1 WHERE name = 'bytes'")
                written += 1

        frontier._file.connection.set_trace_callback(before_a_step)
        assert await frontier.sweep() == 0
        frontier._file.connection.set_trace_callback(None)
    assert written == 5
    await store.close()


async def test_who_works_for_one_crawl_passes_what_others_wait_for_once(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path)
    frontier, others = await opened(store), await opened(store)
    news = Crawl(name="news", id="a1")
    assert await frontier.save_crawl(news)
    assert all(await frontier.enqueue(entries(MANY)))
    await take(frontier, MANY // 2)
    await others.send([url(n, "sent.example") for n in range(MANY)])
    await store.elapse(60)
    costs = Costs(frontier)
    for n in range(9):
        await others.enqueue([Entry(url=url(f"news{n}"), crawl=news.ref)])
        received = await costs.of(f"{n}", frontier.receive(BATCH, crawl="news"))
        assert len(received) == 1
        await frontier.delete(received)
        await costs.of("wait", frontier.wait(0.02, crawl="news"))
        await store.elapse(20)
    await store.close()
    assert costs.steps["0"] > MANY, "the first time it looks at all"
    assert max(costs.steps[f"{n}"] for n in range(2, 9)) < MANY / 4
    assert costs.steps["wait"] < 9 * MANY / 4, "all nine of them"
