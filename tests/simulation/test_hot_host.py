"""One host that all workers ask, on AWS, with a delay of which a second has fifty: what that costs, in virtual time.

So the figures depend on no machine: each call takes ten milliseconds or so, each answer of the host five.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Entrance, Entry, FrontierSettings
from sqspider.frontier.aws import AwsFrontier
from sqspider.frontier.aws.client import Call
from sqspider.record import Status
from sqspider.web.fetch import Fetched
from sqspider.web.options import FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.worker import Mode, Worker

from .fake_aws import ENVIRONMENT, FakeAws, FakeTransport
from .loop import EPOCH, VirtualLoop

PAGES = 300
DELAY = 0.02
WORKERS = 4
SETTINGS = FrontierSettings()


@dataclass
class Crawl:
    """What was seen of one."""

    calls: Counter[str] = field(default_factory=Counter)
    deliveries: int = 0
    most_receives: int = 0  # of a message, as the queue counts them
    asked: list[tuple[float, float]] = field(default_factory=list)  # when a request left, and its answer was there
    statuses: Counter[Status] = field(default_factory=Counter)
    seconds: float = 0.0

    def see(self, call: Call) -> None:
        self.calls[call.action] += 1
        if call.action == "ReceiveMessage" and call.answer:
            messages = call.answer.get("Messages") or ()
            self.deliveries += len(messages)
            receives = [int(message["Attributes"]["ApproximateReceiveCount"]) for message in messages]
            self.most_receives = max([self.most_receives, *receives])

    @property
    def gaps(self) -> list[float]:
        return [b[0] - a[0] for a, b in itertools.pairwise(sorted(self.asked))]


class HotHost:
    """A fetcher whose requests connect, leave if they still may, and are answered."""

    options = FetchOptions()

    def __init__(self, crawl: Crawl, rng: random.Random) -> None:
        self._crawl, self._rng = crawl, rng

    async def fetch(self, url: str, *, gate: object = None, **_: object) -> Fetched:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(self._rng.uniform(0.0005, 0.002))
        left, is_held = loop.time(), callable(gate) and not gate()
        if not is_held:
            await asyncio.sleep(self._rng.uniform(0.0025, 0.0075))
            self._crawl.asked.append((left, loop.time()))
        return Fetched(
            url=url, http_status=None if is_held else 200, headers=(("Content-Type", "text/html"),), body=b"",
            truncated=False, reason=None, detail="", elapsed_seconds=loop.time() - began, sent_seconds=left - began,
            is_held=is_held,
        )  # fmt: skip


async def _play(crawl: Crawl, stop_at: float | None, busy_until: float) -> None:
    loop, rng = asyncio.get_running_loop(), random.Random(1)

    def clock() -> float:
        return EPOCH + loop.time()

    async def way() -> None:
        await asyncio.sleep(rng.uniform(0.0035, 0.008))

    aws = FakeAws(clock=clock, rng=rng, visibility_seconds=SETTINGS.visibility_seconds)

    async def work(number: int) -> None:
        transport = FakeTransport(aws, before=way, after=way)
        frontier = await AwsFrontier.open(
            SETTINGS, clock=clock, rng=random.Random(number), environment=ENVIRONMENT, transport=transport
        )
        frontier.client.observers.append(crawl.see)
        options = WorkerOptions(worker_id=f"w{number}", poll_seconds=1.0)
        worker = Worker(frontier, HotHost(crawl, rng), options, clock=clock, rng=random.Random(number))
        if stop_at is not None and number == 0:
            loop.call_later(stop_at, worker.stop)
        await worker.run(Mode.UNTIL_EMPTY)
        await frontier.close()

    looker = await AwsFrontier.open(SETTINGS, clock=clock, environment=ENVIRONMENT, transport=FakeTransport(aws))
    settings = CrawlSettings(delay_seconds=DELAY, obey_robots=False)
    await looker.enqueue([Entry(url=f"http://hot.test/{number}", settings=settings) for number in range(PAGES)])
    if busy_until:
        entrance = Entrance(
            host="hot.test", token="t", delay_seconds=DELAY, per_host=1, generation=None, until=EPOCH + busy_until
        )
        await looker.enter([entrance])
    await asyncio.gather(*map(work, range(WORKERS)))
    crawl.seconds = loop.time()
    crawl.statuses = Counter([record.status async for batch in looker.scan() for record in batch])
    await looker.close()


def played(stop_at: float | None = None, busy_until: float = 0.0) -> Crawl:
    """A crawl of it by all workers; the first of them is told to stop at a moment, if any is given. Somebody else has
    the host until a moment."""
    crawl, loop = Crawl(), VirtualLoop(most_seconds=600.0, most_events=1_000_000)
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(_play(crawl, stop_at, busy_until))
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    return crawl


@pytest.fixture(scope="module")
def crawl() -> Crawl:
    return played()


def test_a_page_of_a_hot_host_takes_three_calls_at_most(crawl: Crawl) -> None:
    assert crawl.statuses == {Status.DONE: PAGES}
    assert crawl.calls.total() <= 3.0 * PAGES


def test_a_page_of_a_hot_host_is_delivered_twice_at_most(crawl: Crawl) -> None:
    assert crawl.deliveries <= 2.0 * PAGES


def test_a_hot_host_is_asked_as_soon_as_it_may_be_but_where_another_worker_takes_over(crawl: Crawl) -> None:
    assert sorted(crawl.gaps)[PAGES // 2] < 1.2 * DELAY
    assert max(crawl.asked)[0] < 2.5 * PAGES * DELAY


def test_a_hot_host_is_never_asked_sooner_nor_twice_at_once(crawl: Crawl) -> None:
    assert min(crawl.gaps) >= DELAY
    assert all(b[0] >= a[1] for a, b in itertools.pairwise(sorted(crawl.asked)))


@pytest.mark.parametrize("stop_at", [3.0, 3.5])
def test_who_is_told_to_stop_gives_back_what_it_has_claimed_along(stop_at: float) -> None:
    """What were left to its lease would come back after a minute."""
    crawl = played(stop_at)
    assert crawl.statuses == {Status.DONE: PAGES}
    assert crawl.seconds < SETTINGS.visibility_seconds / 2
    assert min(crawl.gaps) >= DELAY


def test_who_stands_in_line_too_long_goes_back_before_its_message_comes_back() -> None:
    crawl = played(busy_until=90.0)
    assert crawl.statuses == {Status.DONE: PAGES}
    assert crawl.most_receives == 1
