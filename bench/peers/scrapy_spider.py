"""The same crawl with Scrapy: 32 at once, no delay, no output; everything else is its default."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from scrapy import Spider
from scrapy.crawler import CrawlerProcess
from scrapy.http import HtmlResponse, Request, Response
from scrapy.linkextractors import LinkExtractor

SETTINGS = {
    "CONCURRENT_REQUESTS": 32,
    "CONCURRENT_REQUESTS_PER_DOMAIN": 32,
    "DOWNLOAD_DELAY": 0,
    "ROBOTSTXT_OBEY": False,
    "COOKIES_ENABLED": False,
    "LOG_ENABLED": False,
    "TELNETCONSOLE_ENABLED": False,
}


class SiteSpider(Spider):
    """Follows the links of ``a`` and ``area`` within the site."""

    name = "site"

    def __init__(self, start: str, exclude: str) -> None:
        super().__init__()
        self.start_urls = [start]
        self._links = LinkExtractor(allow=f"^{start}", deny=exclude, deny_extensions=())

    def parse(self, response: Response) -> Iterator[Request]:
        if isinstance(response, HtmlResponse):
            for link in self._links.extract_links(response):
                yield Request(link.url, callback=self.parse)


if __name__ == "__main__":
    process = CrawlerProcess(SETTINGS)
    process.crawl(SiteSpider, start=sys.argv[1], exclude=sys.argv[2])
    process.start()
