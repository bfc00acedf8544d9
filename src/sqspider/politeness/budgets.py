"""How much of a host a crawl takes: its budget of pages and of bytes."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Final

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Clock, Hosts
from sqspider.host import HostRow
from sqspider.message import Message
from sqspider.politeness.verdicts import Postponed
from sqspider.record import Reason
from sqspider.scope import Blocked
from sqspider.url import host_of

WAIT_SECONDS: Final = 2.0  # while URLs in hand may yet use up a host's budget


def has_budget(settings: CrawlSettings) -> bool:
    """Whether a crawl has one for each host."""
    return settings.host_pages is not None or settings.host_bytes is not None


def used_up(row: HostRow, settings: CrawlSettings) -> Blocked | None:
    """Whether a crawl takes no more of a host."""
    if settings.host_bytes is not None and row.bytes >= settings.host_bytes:
        return Blocked(Reason.HOST_BYTE_LIMIT, f"{row.bytes:,} bytes of {row.host} were read")
    if settings.host_pages is not None and _fetched(row) >= settings.host_pages:
        return Blocked(Reason.HOST_PAGE_LIMIT, f"{_fetched(row):,} pages of {row.host} were fetched")
    return None


def _fetched(row: HostRow) -> int:
    return row.done + row.failed


class Budgets:
    """What is in hand here counts towards a host's pages as what was fetched does. Other workers' is not seen."""

    def __init__(self, frontier: Hosts, clock: Clock) -> None:
        self._frontier = frontier
        self._clock = clock
        self._in_hand: Counter[str] = Counter()
        self._lock = asyncio.Lock()

    async def take(self, message: Message) -> Blocked | Postponed | None:
        """Count a URL as in hand, if its host's budget allows."""
        settings, host = message.settings, host_of(message.url)
        if not has_budget(settings):
            return None
        async with self._lock:
            row = (await self._frontier.hosts([host]))[host]
            if verdict := used_up(row, settings):
                return verdict
            if settings.host_pages is not None and _fetched(row) + self._in_hand[host] >= settings.host_pages:
                return Postponed(self._clock() + WAIT_SECONDS, message)
            self._in_hand[host] += 1
            return None

    def release(self, message: Message) -> None:
        """A URL that was counted has ended."""
        if has_budget(message.settings):
            host = host_of(message.url)
            self._in_hand[host] -= 1
            if not self._in_hand[host]:
                del self._in_hand[host]
