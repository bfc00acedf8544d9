"""The same crawl with Crawlee's ParselCrawler: 32 at once, no robots, no output; the rest is its default."""

from __future__ import annotations

import asyncio
import logging
import re
import sys

from crawlee import ConcurrencySettings
from crawlee.configuration import Configuration
from crawlee.crawlers import ParselCrawler, ParselCrawlingContext
from crawlee.storage_clients import MemoryStorageClient

CONCURRENCY = 32


async def crawl(start: str, exclude: str) -> None:
    """Follow the links of ``a`` and ``area`` within the site."""
    crawler = ParselCrawler(
        configuration=Configuration(log_level="CRITICAL"),
        storage_client=MemoryStorageClient(),
        concurrency_settings=ConcurrencySettings(
            min_concurrency=CONCURRENCY, desired_concurrency=CONCURRENCY, max_concurrency=CONCURRENCY
        ),
        use_session_pool=False,
        configure_logging=False,
    )

    @crawler.router.default_handler
    async def follow(context: ParselCrawlingContext) -> None:
        await context.enqueue_links(selector="a, area", exclude=[re.compile(f".*(?:{exclude})")])

    await crawler.run([start])


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    asyncio.run(crawl(sys.argv[1], sys.argv[2]))
