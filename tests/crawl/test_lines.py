"""Who stands in line for a host, and is claimed along with the first of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import ClaimRequest, Lost, LostReason, Traits, Won
from sqspider.frontier.sqlite import SqliteFrontier
from sqspider.web.fetch import FetchOptions
from sqspider.work.options import WorkerOptions
from sqspider.work.producer import produce
from tests.crawl.test_crew import opened, until, working
from tests.sites import Site

PAGES = 30
FETCH = FetchOptions(allow_private=True, timeout_seconds=1.0)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    site.bodies = {f"/{n}": b"" for n in range(PAGES)}
    yield site
    site.close()


async def test_what_can_never_be_claimed_is_over_at_once_though_it_only_stood_in_line(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would be in hand for ever, and inside, where nobody could be alone any more."""
    monkeypatch.setattr(SqliteFrontier, "traits", Traits(has_turns=False))
    refused: set[str] = set()
    settings = CrawlSettings(delay_seconds=0.02, obey_robots=False)
    async with opened() as frontier:
        claim = frontier.claim

        async def claimed(requests: Sequence[ClaimRequest], **more: Any) -> list[Won | Lost]:
            good, *others = requests
            refused.update(it.message.url for it in others)
            lost = [Lost(url=it.message.url, why=LostReason.REFUSED, detail="too large") for it in others]
            return [*await claim([good], **more), *lost]

        monkeypatch.setattr(frontier, "claim", claimed)
        await produce(frontier, [f"{site.url}{n}" for n in range(PAGES)], settings, on_refused=print)
        options = WorkerOptions(worker_id="tester", concurrency=PAGES)
        async with asyncio.timeout(10), working(frontier, options, fetch=FETCH) as worker:
            while worker._hand.visits or not worker.tally.received:
                await asyncio.sleep(0.01)
            assert refused
            assert worker._hand.gate.inside == 0
            await until(frontier, done=PAGES - len(refused))
