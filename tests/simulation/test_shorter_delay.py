"""A crawl's delay is made shorter while its URLs wait for slots of the longer one, in virtual time."""

from __future__ import annotations

import asyncio
import itertools
import random

import msgspec
import pytest

from sqspider.crawl_row import Crawl
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Entry, FrontierSettings
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.work.crawls import COPY_SECONDS
from sqspider.work.options import WorkerOptions
from sqspider.work.worker import Mode, Worker

from .loop import EPOCH, VirtualLoop
from .test_hot_host import Crawl as Seen
from .test_hot_host import HotHost

CHANGED_AT = 40.0


async def _play(
    seen: Seen, pages: int, longer: CrawlSettings, shorter: CrawlSettings, *, goes_on_with_others: bool = False
) -> None:
    loop, rng = asyncio.get_running_loop(), random.Random(1)

    def clock() -> float:
        return EPOCH + loop.time()

    frontier = MemoryFrontier(MemoryStore(), FrontierSettings(), clock=clock)
    row = Crawl(name="news", id="1", settings=longer, created_at=clock())
    assert await frontier.save_crawl(row)
    urls = [f"http://hot.test/{number}" for number in range(pages)]
    await frontier.enqueue([Entry(url=url, settings=longer, crawl=row.ref) for url in urls])

    workers: list[Worker] = []

    async def change() -> None:
        await asyncio.sleep(CHANGED_AT)
        if goes_on_with_others:
            for worker in workers:
                worker.stop()
        assert await frontier.save_crawl(msgspec.structs.replace(row, version=1, settings=shorter))

    async def work(number: int) -> None:
        options = WorkerOptions(worker_id=f"w{number}", poll_seconds=1.0)
        worker = Worker(frontier, HotHost(seen, rng), options, clock=clock, rng=random.Random(number))
        workers.append(worker)
        await worker.run(Mode.UNTIL_EMPTY)

    await asyncio.gather(change(), work(1), work(2))
    if goes_on_with_others:
        await asyncio.gather(work(3), work(4))


@pytest.mark.parametrize("per_host", [1, 2])  # entered with what is taken, or apart
@pytest.mark.parametrize(
    ("pages", "longer", "shorter", "goes_on_with_others"),
    [
        (200, 30.0, 0.1, False),
        (7, 10.0, 0.5, False),
        (60, 30.0, 20.0, False),
        (30, 10.0, 0.0, False),
        (200, 30.0, 0.1, True),
        (7, 10.0, 0.5, True),
        (7, 10.0, 0.0, True),
    ],
)
def test_a_shorter_delay_holds_at_once_for_what_has_a_slot_and_never_is_a_host_asked_sooner(
    pages: int, longer: float, shorter: float, goes_on_with_others: bool, per_host: int
) -> None:
    seen, loop = Seen(), VirtualLoop(most_seconds=10_000.0, most_events=1_000_000)
    asyncio.set_event_loop(loop)
    try:
        settings = CrawlSettings(delay_seconds=longer, per_host=per_host, obey_robots=False)
        changed = msgspec.structs.replace(settings, delay_seconds=shorter)
        loop.run_until_complete(_play(seen, pages, settings, changed, goes_on_with_others=goes_on_with_others))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    asked = sorted(left for left, _ in seen.asked)
    before = sum(moment < CHANGED_AT for moment in asked)
    next_turn = longer + 2.0 if goes_on_with_others else 0.0  # of one whose message comes back at its old moment
    assert len(asked) == pages
    assert before == 1 + CHANGED_AT // (longer * 1.05)
    assert asked[before] <= CHANGED_AT + COPY_SECONDS + max(1.5, shorter) + next_turn
    assert asked[-1] - asked[before] <= (pages - before) * shorter * 1.1 + 1.0
    assert all(b - a >= (longer if b < CHANGED_AT else shorter) for a, b in itertools.pairwise(asked))
