"""A table that is cleared under workers that go on, on AWS: what they know of before keeps nothing out of what is after."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, cast

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Entry, Finish, Frontier, FrontierSettings
from sqspider.frontier.aws import AwsFrontier
from sqspider.frontier.aws.client import Call
from sqspider.frontier.aws.host_rows import CLOCKS_DIFFER_SECONDS
from sqspider.url import Scope
from sqspider.web.fetch import Fetched
from sqspider.web.options import FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.worker import Mode, Worker
from tests.frontier.kit import A_LITTLE, entries, take, url, win

from .fake_aws import ENVIRONMENT, FakeAws, FakeTransport, Weather
from .fake_store import FakeAwsStore
from .loop import EPOCH, VirtualLoop

SETTINGS = FrontierSettings()
CRAWL = CrawlSettings(scope=Scope.HOST, delay_seconds=0, obey_robots=False)
LINKS = [url("1"), url("2")]
LATE_SECONDS = 5.0


async def test_links_are_recorded_anew_though_a_read_is_behind_a_clearing() -> None:
    store = FakeAwsStore(weather=Weather(read_lag=1.0))
    frontier, operator = await store.open(), await store.open()
    links = [Entry(url=url(str(n)), parent=url("a"), depth=1) for n in range(30)]
    assert all(await frontier.enqueue(links))
    await operator.clear_table()
    await frontier.hosts(["example.com"])
    assert all(await frontier.enqueue(links))
    await store.close()


async def test_claims_look_for_clearings_where_a_record_is_younger_than_the_last_look() -> None:
    store = FakeAwsStore()
    frontier = await store.open()
    await frontier.enqueue(entries(2))
    deliveries = await take(frontier, 2)
    await store.elapse(CLOCKS_DIFFER_SECONDS + A_LITTLE)
    calls: list[Call] = []
    frontier.client.observers.append(calls.append)
    for delivery in deliveries:
        await win(frontier, delivery)
    assert sum(call.action == "BatchGetItem" for call in calls) == 1, "by the first of them alone"
    await store.close()


class Late:
    """A frontier whose first finish is answered late, as it is done."""

    def __init__(self, frontier: Frontier) -> None:
        self._frontier = frontier
        self._is_late = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._frontier, name)

    async def finish(self, finishes: Sequence[Finish]) -> list[bool]:
        answers = await self._frontier.finish(finishes)
        is_late, self._is_late = self._is_late, False
        await asyncio.sleep(LATE_SECONDS if is_late else 0)
        return answers


class Site:
    """A fetcher. Its page ``a`` leads to others; what is asked for again takes until after the late answer."""

    options = FetchOptions()

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def fetch(self, url: str, **_: object) -> Fetched:
        self.asked.append(url)
        await asyncio.sleep(2 * LATE_SECONDS if self.asked.count(url) > 1 else 0.1)
        body = "".join(f"<a href={link}>x</a>" for link in LINKS if url.endswith("a")).encode()
        return Fetched(
            url=url, http_status=200, headers=(("Content-Type", "text/html"),), body=body, truncated=False, reason=None,
            detail="", elapsed_seconds=0.1, sent_seconds=0.0,
        )  # fmt: skip


def test_an_end_that_is_answered_after_a_clearing_leaves_nothing_in_mind() -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()

        def clock() -> float:
            return EPOCH + loop.time()

        async def opened(seed: int) -> AwsFrontier:
            return await AwsFrontier.open(
                SETTINGS, clock=clock, rng=random.Random(seed), environment=ENVIRONMENT, transport=FakeTransport(aws)
            )

        aws = FakeAws(clock=clock, rng=random.Random(0), visibility_seconds=SETTINGS.visibility_seconds)
        own, operator, site = await opened(1), await opened(2), Site()
        options = WorkerOptions(worker_id="w", poll_seconds=1.0)
        worker = Worker(cast(Frontier, Late(own)), site, options, clock=clock, rng=random.Random(3))
        seed = Entry(url=url("a"), settings=CRAWL)
        await operator.enqueue([seed])
        working = asyncio.create_task(worker.run(Mode.CONTINUOUS))
        await asyncio.sleep(1.0)
        assert {record.url for record in (await operator.get([url("a"), *LINKS])).values()} == {url("a"), *LINKS}
        await operator.clear_table()
        await operator.purge_queue()
        await operator.enqueue([seed])
        await asyncio.sleep(LATE_SECONDS / 2)  # what is judged then sees to it that the worker has heard of it
        await operator.enqueue([Entry(url=url("b"), settings=CRAWL)])
        await asyncio.sleep(4 * LATE_SECONDS)
        worker.stop()
        await working
        assert site.asked.count(url("a")) == 2
        assert set(await operator.get(LINKS)) == set(LINKS)

    loop = VirtualLoop(most_seconds=600.0, most_events=100_000)
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(story())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
