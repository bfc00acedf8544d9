"""What was said of a URL comes back with its page, whoever said it and however the page ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

import sqspider
from sqspider.frontier import Entry, FrontierSettings, open_frontier
from tests.sites import Site

OPTIONS: Final[dict[str, Any]] = {"delay_seconds": 0, "allow_private": True, "scope": "host"}


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    site.bodies = {
        "/": b'<a href="/leaf">x</a>', "/leaf": b"", "/added": b"", "/robots.txt": b"User-agent: *\nDisallow: /forbidden",
    }  # fmt: skip
    yield site
    site.close()


def test_what_is_added_comes_back_with_its_page(site: Site, tmp_path: Path) -> None:
    crawl = sqspider.crawl(site.url, frontier=f"sqlite:{tmp_path}/f.db", **OPTIONS)
    crawl.add(f"{site.url}forbidden", f"{site.url}absent", meta={"why": "Bücher"})
    found = {}
    for page in crawl:
        if page.url == site.url:
            crawl.add(f"{site.url}added", meta={"of": {"a": [1, None]}})
            crawl.add(site.url, meta={"late": True})  # it is known, and keeps what it has
        found[page.url.removeprefix(site.url)] = page.meta
    why = {"why": "Bücher"}
    assert found == {"": {}, "leaf": {}, "forbidden": why, "absent": why, "added": {"of": {"a": [1, None]}}}


@pytest.mark.parametrize(
    ("meta", "says"), [({"a": "b" * 3000}, "meta: at most 2,048 bytes"), ({"a": object()}, "meta: ")]
)
def test_what_cannot_be_kept_is_refused(meta: dict[str, Any], says: str) -> None:
    crawl = sqspider.crawl("http://e.com/")
    with pytest.raises(ValueError, match=says):
        crawl.add("http://e.com/a", meta=meta)


async def test_what_is_damaged_ends_no_crawl(site: Site, tmp_path: Path) -> None:
    address = f"sqlite:{tmp_path}/f.db"
    frontier = await open_frontier(address, FrontierSettings(), clock=time.time)
    await frontier.enqueue([Entry(url=f"{site.url}leaf", meta="no JSON")])
    await frontier.close()
    crawl = sqspider.crawl(frontier=address, **OPTIONS)
    assert [page.meta async for page in crawl] == [{}]
