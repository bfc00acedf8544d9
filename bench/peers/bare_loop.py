"""The upper bound: aiohttp and lexbor in one loop, and nothing that a crawler is asked for.

No frontier, no limits, no errors handled, every URL known only in memory.
"""

from __future__ import annotations

import asyncio
import re
import sys
from urllib.parse import urljoin

import aiohttp
import uvloop
from selectolax.lexbor import LexborHTMLParser

CONCURRENCY = 32


async def crawl(start: str, exclude: re.Pattern[str]) -> None:
    """Fetch every page of a site once."""
    queue: asyncio.Queue[str] = asyncio.Queue()
    seen = {start}
    queue.put_nowait(start)
    connector = aiohttp.TCPConnector(limit=CONCURRENCY)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def work() -> None:
            while True:
                url = await queue.get()
                async with session.get(url) as response:
                    body = await response.read()
                    base = str(response.url)
                if response.content_type == "text/html":
                    for node in LexborHTMLParser(body).css("a[href], area[href]"):
                        link = urljoin(base, node.attributes["href"] or "").partition("#")[0]
                        if link not in seen and link.startswith(start) and not exclude.search(link):
                            seen.add(link)
                            queue.put_nowait(link)
                queue.task_done()

        async with asyncio.TaskGroup() as group:
            workers = [group.create_task(work()) for _ in range(CONCURRENCY)]
            await queue.join()
            for worker in workers:
                worker.cancel()


if __name__ == "__main__":
    uvloop.run(crawl(sys.argv[1], re.compile(sys.argv[2])))
