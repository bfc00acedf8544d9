"""Asking hosts outside of any worker: for sitemaps, or for robots.txt alone. As politely as a worker, and as whom a
crawl asks."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

import msgspec

from sqspider.capture import Store
from sqspider.crawl_row import Crawl
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Clock, Hosts
from sqspider.message import Message
from sqspider.politeness import Agent, Awaited, Politeness, Postponed
from sqspider.record import Reason
from sqspider.web.fetch import Fetcher
from sqspider.web.options import FetchOptions
from sqspider.work.allowed import Allowed
from sqspider.work.fetchers import Agents
from sqspider.work.secrets import Secrets

ROBOTS_GRACE_SECONDS: Final = 86_400.0
AT_A_TIME: Final = 16  # requests


class Asker(NamedTuple):
    """Who asks."""

    politeness: Politeness
    agent: Agent
    settings: CrawlSettings  # by which he asks

    async def judge(self, url: str, give_up_at: float) -> str | None:
        """Wait until robots.txt can be had; why the URL may not be fetched, if it may not."""
        while True:
            message = Message(url=url, settings=self.settings)
            verdict = await self.politeness.judge(message, self.agent, is_page=False)
            if verdict is None:
                return None
            if isinstance(verdict, Awaited):
                await verdict.future
                continue
            if not isinstance(verdict, Postponed):
                return f"{verdict.reason.value}: {verdict.detail}"
            if verdict.until > give_up_at:
                return f"{Reason.ROBOTS_UNREACHABLE.value}: robots.txt cannot be had just now"
            if await self.politeness.pause_until(verdict.until):
                return "stopped"


@asynccontextmanager
async def asking(
    frontier: Hosts,
    fetch: FetchOptions,
    settings: CrawlSettings,
    *,
    clock: Clock,
    rng: random.Random,
    stopping: asyncio.Event,
    crawl: Crawl | None = None,
    allowed: Allowed | None = None,
    secrets: Secrets | None = None,
    store: Store | None = None,
) -> AsyncIterator[Asker]:
    """Somebody who asks for a ``crawl`` as whom that fetches, else by ``fetch``; what is learned of hosts goes to the
    frontier. ``stopping`` ends every wait; ``allowed`` and ``secrets`` are as for a
    :class:`sqspider.work.worker.Worker`. A ``store`` gets what is said of robots.txt; it is not closed. Raises
    :class:`sqspider.work.allowed.NotAllowedError`."""
    fetch = msgspec.structs.replace(fetch, captures=store is not None)
    async with Fetcher(fetch, connections=AT_A_TIME) as fetcher:
        politeness = Politeness(
            frontier,
            fetcher,
            clock=clock,
            rng=rng,
            stopping=stopping,
            request_seconds=fetch.timeout_seconds,
            robots_grace_seconds=ROBOTS_GRACE_SECONDS,
            linger_seconds=0.0,
            note=store.note if store is not None else None,
        )
        agents = Agents(
            politeness.own,
            fetch,
            lambda options: Fetcher(options, connections=AT_A_TIME).open(),
            allowed=allowed,
            secrets=secrets,
        )
        try:
            agent = agents.own if crawl is None else agents.agent_of(crawl.identity)
            yield Asker(politeness, agent, settings)
        finally:
            await politeness.close()
            agents.close()
