"""The nearest way wins, whatever comes first: a crawl with a limit of depth finds what a breadth-first walk does, and
asks for no page twice."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence

import msgspec
import pytest

from sqspider.crawl_settings import CrawlSettings
from sqspider.frontier import Delivery, Entry, Frontier
from sqspider.message import Message, decode_message
from sqspider.record import UrlRecord
from sqspider.url import Scope
from sqspider.web.fetch import Fetcher
from sqspider.work.memories import Recorded
from sqspider.work.worker import Mode, Worker
from tests.crawl.test_politeness import FETCH, OPTIONS, opened, records_of
from tests.sites import Site

LIMITED = CrawlSettings(delay_seconds=0, obey_robots=False, scope=Scope.HOST, max_depth=3)
DIAMOND = {  # to /p: by /near, and by /b and /c
    "/": b"<a href=/near>x</a><a href=/b>x</a>",
    "/near": b"<a href=/p>x</a>",
    "/b": b"<a href=/c>x</a>",
    "/c": b"<a href=/p>x</a>",
    "/p": b"<a href=/q>x</a><a href=/>x</a>",
    "/q": b"<a href=/deeper>x</a>",
}


@pytest.fixture
def host() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


class Crawl:
    """One worker, that is given what is named, in that order, and then the rest."""

    def __init__(self, frontier: Frontier, fetcher: Fetcher, host: Site, settings: CrawlSettings = LIMITED) -> None:
        self._frontier, self._host, self._settings = frontier, host, settings
        self._worker = Worker(frontier, fetcher, OPTIONS, clock=time.time, rng=random.Random())
        self._hand: dict[str, Delivery] = {}

    async def enqueue(self, *paths: str) -> None:
        await self._frontier.enqueue([Entry(url=self._host.url + path, settings=self._settings) for path in paths])

    async def visit(self, paths: Sequence[str]) -> None:
        for path in paths:
            while path not in self._hand:
                (delivery,) = await self._frontier.receive(1)
                message = decode_message(delivery.body)
                assert isinstance(message, Message)
                self._hand[message.url.removeprefix(self._host.url)] = delivery
            await self._worker.work_on([self._hand.pop(path)], until=time.time() + 60)

    async def rest(self) -> dict[str, UrlRecord]:
        """Visit what is left; all records by path."""
        await self._worker.work_on(list(self._hand.values()), until=time.time() + 60)
        self._hand.clear()
        await self._worker.run(Mode.UNTIL_EMPTY)
        return {url.removeprefix(self._host.url): r for url, r in (await records_of(self._frontier)).items()}


def depths(records: dict[str, UrlRecord]) -> dict[str, int]:
    return {path: record.depth for path, record in records.items()}


@pytest.mark.parametrize(
    "order", [("", "b", "c", "p", "near"), ("", "b", "c", "near", "p"), ("", "near", "p", "b"), ()], ids=str
)
async def test_what_lies_behind_a_longer_way_is_found_by_the_shorter(host: Site, order: Sequence[str]) -> None:
    host.bodies = dict(DIAMOND)
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        crawl = Crawl(frontier, fetcher, host)
        await crawl.enqueue("")
        await crawl.visit(order)
        records = await crawl.rest()
    assert depths(records) == {"": 0, "near": 1, "b": 1, "c": 2, "p": 2, "q": 3}
    assert records["p"].parent == f"{host.url}near"
    assert sorted(host.paths) == sorted(DIAMOND), "each is asked for once"


async def test_without_a_limit_of_depth_nothing_is_gone_into_again(host: Site) -> None:
    host.bodies = dict(DIAMOND)
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        crawl = Crawl(frontier, fetcher, host, msgspec.structs.replace(LIMITED, max_depth=None))
        await crawl.enqueue("")
        await crawl.visit(("", "b", "c", "p", "near"))
        records = await crawl.rest()
    assert (records["p"].depth, records["q"].depth, records["deeper"].depth) == (3, 4, 5)
    assert len(host.paths) == len(records)


async def test_what_is_known_as_a_link_and_asked_for_by_itself_is_gone_into_from_there(host: Site) -> None:
    host.bodies = {"/": b"<a href=/a>x</a>", "/a": b"<a href=/b>x</a>", "/b": b"<a href=/c>x</a>", "/c": b"x"}
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        crawl = Crawl(frontier, fetcher, host, msgspec.structs.replace(LIMITED, max_depth=2))
        await crawl.enqueue("")
        assert depths(await crawl.rest()) == {"": 0, "a": 1, "b": 2}
        await crawl.enqueue("a")
        records = await crawl.rest()
        assert depths(records) == {"": 0, "a": 0, "b": 1, "c": 2}
        assert records["a"].parent is None
        await crawl.enqueue("c")
        assert (await crawl.rest())["c"].depth == 0
    assert sorted(host.paths) == ["/", "/a", "/b", "/c"]


async def test_where_a_redirect_leads_comes_nearer_with_it(host: Site) -> None:
    host.bodies = {**DIAMOND, "/p": (302, {"Location": "/to"}), "/to": (301, {"Location": "/there"})}
    host.bodies["/there"] = b"<a href=/q>x</a>"
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        crawl = Crawl(frontier, fetcher, host)
        await crawl.enqueue("")
        await crawl.visit(("", "b", "c", "p", "to", "there", "near"))
        records = await crawl.rest()
    found = {path: (record.depth, record.redirects) for path, record in records.items()}
    assert {path: found[path] for path in ("p", "to", "there", "q")} == {
        "p": (2, 0),
        "to": (2, 1),
        "there": (2, 2),
        "q": (3, 0),
    }
    assert len(host.paths) == len(set(host.paths))


@pytest.mark.parametrize(
    "page",
    [(302, {"Location": "/out"}), b"<meta http-equiv=refresh content='0; url=/out'>"],
    ids=["redirect", "refresh"],
)
async def test_what_leads_a_seed_on_is_asked_again_once_it_is_one(host: Site, page: object) -> None:
    """As a link it leads elsewhere, or not as far."""
    host.bodies = {"/": b"<a href=/a>x</a>", "/a": page, "/out": b"x"}  # type: ignore[dict-item]
    async with opened() as frontier, Fetcher(FETCH) as fetcher:
        settings = msgspec.structs.replace(LIMITED, max_depth=1, exclude=("/out",) if isinstance(page, tuple) else ())
        crawl = Crawl(frontier, fetcher, host, settings)
        await crawl.enqueue("")
        assert depths(await crawl.rest()) == {"": 0, "a": 1}
        await crawl.enqueue("a")
        assert depths(await crawl.rest()) == {"": 0, "a": 0, "out": 0}
    assert sorted(host.paths) == ["/", "/a", "/a", "/out"]


def test_a_memory_of_what_is_recorded_hides_no_nearer_way() -> None:
    recorded = Recorded(6)
    assert not recorded.hides("a", 10)
    for depth in (3, 5, 2):
        recorded.add("a", depth)
    assert [recorded.hides("a", depth) for depth in range(4)] == [False, False, True, True]
    recorded.add("b", 1)
    recorded.add("c", 1)
    recorded.add("a", 4)  # which is of those that are forgotten next
    assert recorded.hides("a", 2)
    for name in "def":
        recorded.add(name, 1)
    assert not recorded.hides("a", 3)
    assert recorded.hides("a", 4)
    recorded.clear()
    assert not recorded.hides("f", 10)
