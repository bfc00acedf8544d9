"""robots.txt asked for just now, for who wants to know and not to work: nothing of it is written to a frontier.

It is asked for as politely as by a worker: by what the frontier knows of the host and of the file, in a copy of that.
"""

from __future__ import annotations

import asyncio
import random

import msgspec

from sqspider.crawl_row import Crawl
from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Frontier, FrontierSettings, RobotsRow
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.host import HostRow, delay_for
from sqspider.url import host_of
from sqspider.web.options import FetchOptions
from sqspider.work.allowed import Allowed, NotAllowedError
from sqspider.work.asker import asking
from sqspider.work.fetchers import robots_place
from sqspider.work.secrets import Secrets


async def robots_now(
    frontier: Frontier,
    url: str,
    settings: CrawlSettings,
    crawl: Crawl | None,
    fetch: FetchOptions,
    *,
    allowed: Allowed,
    secrets: Secrets,
) -> RobotsRow | str | None:
    """The robots.txt of a canonical URL's origin, asked for as whom a ``crawl`` asks, else by ``fetch``; a text says
    why it was not. None: the frontier's copy holds, or there is no need of it. Raises :class:`FrontierError`."""
    place, host, now = robots_place(url, crawl), host_of(url), frontier.now()
    kept = (await frontier.robots([place])).get(place)
    if kept is not None and kept.fetched_at and kept.expires_at > now:
        return None
    copy = MemoryFrontier(MemoryStore(), FrontierSettings(), clock=frontier.now)
    await copy.save_hosts([_as_new((await frontier.hosts([host]))[host], settings)])
    await copy.save_robots([kept] if kept is not None else [])
    try:
        async with asking(
            copy, fetch, settings, clock=frontier.now, rng=random.Random(), stopping=asyncio.Event(), crawl=crawl,
            allowed=allowed, secrets=secrets,
        ) as asker:  # fmt: skip
            why = await asker.judge(url, now)  # one try; a delay that ends soon is waited for
            network = asker.agent.network
            if network.is_down and network.reason is not None:
                why = f"{network.reason.value}: {network.detail}"
    except NotAllowedError as error:
        return str(error)
    row = (await copy.robots([place])).get(place)
    return row if row is not None and row.fetched_at >= now else why


def _as_new(row: HostRow, settings: CrawlSettings) -> HostRow:
    """A host's row for a frontier that has none. When it was asked last is not written along: it rests for as long."""
    rest_until = max(row.rest_until, row.last_request + delay_for(row, settings))
    return msgspec.structs.replace(row, version=0, rest_until=rest_until)
