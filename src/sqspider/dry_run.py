"""A look ahead: the pages that a crawl begins with are fetched, and what would become of their links is told.

All of it happens in a frontier that is forgotten, in memory: a worker fetches the pages, as it would in the crawl, and
goes no further; their links are judged as ``explain`` judges any URL.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

from sqspider.crawl_row import Crawl, Limits
from sqspider.explain import Explanation, Fate, Step, Terms, explanation_of
from sqspider.frontier import Frontier, RobotsRow
from sqspider.orders.start import Start
from sqspider.record import Outcome, Reason, Status, UrlRecord
from sqspider.url import origin_of
from sqspider.web.fetch import Fetcher
from sqspider.web.links import read_page
from sqspider.work.asker import asking
from sqspider.work.crawl_orders import change_crawl
from sqspider.work.fetchers import robots_place
from sqspider.work.holding import Held
from sqspider.work.options import WorkerOptions
from sqspider.work.page import Visited, link_options, requisites_in
from sqspider.work.worker import Mode, Worker, fatal_one

MOST_ORIGINS: Final = 20  # of which robots.txt is asked for, beside those of the pages themselves
TROUBLE_SECONDS: Final = 10.0  # in which pages that are in trouble may come; a delay is waited for as long as it takes
LOOK_SECONDS: Final = 0.5  # between two looks whether they are


class Page(NamedTuple):
    """A page that was looked at, or what there was in place of one."""

    url: str
    led_by: str | None  # the URL that redirected to it
    outcome: Outcome
    links: tuple[str, ...] = ()
    nofollow: tuple[str, ...] = ()  # links that are marked so, or all of them where the page says it
    left_out: Mapping[Reason, int] = MappingProxyType({})  # links that are no URLs to be crawled: how many, by reason
    requisites: tuple[str, ...] = ()  # what it needs to be shown, where the crawl fetches such


class Link(NamedTuple):
    """What would become of a link."""

    told: Explanation
    found_on: str  # the first page that has it
    is_unknown: bool = False  # its robots.txt is to be asked for first
    is_requisite: bool = False  # no link that is followed leads there, and a page needs it to be shown

    def as_json(self) -> dict[str, Any]:
        """For a program; these names do not change."""
        return {**self.told.as_json(), "found_on": self.found_on, "requisite": self.is_requisite}


class Look(NamedTuple):
    """What was seen."""

    pages: list[Page]
    waiting: dict[str, str]  # URLs that could not be looked at in time, and what keeps them from that
    links: list[Link]


async def look_ahead(
    frontier: Frontier, crawl: Crawl, start: Start, options: WorkerOptions, on_page: Callable[[Page], None]
) -> Look:
    """Fetch what is queued of a crawl, and where that redirects to; tell what would become of the links there.

    The frontier is one for this alone. ``on_page`` is told of each page as it comes. Raises what a worker raises.
    """
    terms = Terms(crawl.settings, crawl)
    pages: list[Page] = []

    def take(held: Held) -> None:
        page = _page_of(held)
        if crawl.settings.assets and held.end.visited is not None:
            visited = held.end.visited
            page = page._replace(requisites=tuple(requisites_in(visited.fetched, visited.page)))
        held.finish()
        pages.append(page)
        on_page(page)

    await change_crawl(frontier, crawl, _of_one_level)
    async with Fetcher(start.fetch, connections=options.concurrency) as fetcher:
        worker = Worker(
            frontier, fetcher, options, clock=frontier.now, rng=random.Random(), take=take, allowed=start.allowed,
            secrets=start.secrets,
        )  # fmt: skip
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(_stop_in_trouble(frontier, worker, terms))
                await worker.run(Mode.UNTIL_EMPTY, crawl=crawl.name)
                watching.cancel()
        except BaseExceptionGroup as errors:
            raise fatal_one(errors) from None
        ours = worker.trouble or "its turn has not come"
    left = await _open_records(frontier, crawl)
    waiting = {record.url: await _trouble_of(frontier, record, terms) or ours for record in left}
    return Look(pages, waiting, await _links_of(frontier, pages, terms, start))


def _of_one_level(crawl: Crawl) -> Crawl:
    """A row by which links are not gone into, that shows pages of all types, and has no end before all is looked at."""
    settings = msgspec.structs.replace(crawl.settings, max_depth=0, check_external=False, assets=False, only=())
    return msgspec.structs.replace(crawl, settings=settings, limits=Limits())


# Pages.


def _page_of(held: Held) -> Page:
    message, visited = held.message, held.end.visited
    page = Page(message.url, message.parent if message.redirects else None, held.end.outcome)
    if visited is None or visited.page is None:
        return page
    found = visited.page
    named = (*found.links, *found.too_long)
    marked = _marked_nofollow(visited, found.links)
    left_out = Counter(found.left_out)
    left_out[Reason.URL_TOO_LONG] -= len(found.too_long)
    if found.nofollow:
        return page._replace(nofollow=(*named, *marked), left_out=+left_out)
    return page._replace(links=named, nofollow=marked, left_out=+left_out)


def _marked_nofollow(visited: Visited, links: tuple[str, ...]) -> tuple[str, ...]:
    """The links that a worker does not even see: the page is read once more, as if they were like others."""
    settings, fetched = visited.message.settings, visited.fetched
    if not settings.obey_nofollow:
        return ()
    options = msgspec.structs.replace(link_options(settings), obey_nofollow=False)
    page = read_page(fetched.body, fetched.url, fetched.headers, options)
    followed = set(links)
    return tuple(link for link in page.links if link not in followed) if page is not None else ()


async def _stop_in_trouble(frontier: Frontier, worker: Worker, terms: Terms) -> None:
    """Stop a worker that does nothing any more but wait for what is in trouble, when there was time for that."""
    until = frontier.now() + TROUBLE_SECONDS
    while frontier.now() < until or not (worker.trouble or await _are_in_trouble(frontier, terms)):
        await asyncio.sleep(LOOK_SECONDS)
    worker.stop()


async def _are_in_trouble(frontier: Frontier, terms: Terms) -> bool:
    """Whether all that is left has been tried in vain, or waits for its host or for robots.txt."""
    assert terms.crawl is not None
    for record in await _open_records(frontier, terms.crawl):
        if record.status is Status.PROCESSING:
            return False
        if not record.tries and (await explanation_of(frontier, record.url, terms)).fate is not Fate.WAITS:
            return False
    return True


async def _trouble_of(frontier: Frontier, record: UrlRecord, terms: Terms) -> str | None:
    """What keeps a URL from being fetched now: its host or robots.txt, or what the last try met; none: neither."""
    told, met = await explanation_of(frontier, record.url, terms), record.outcome
    if told.decided is not None:
        return told.decided.says
    return f"{met.reason.value}: {met.detail}" if met is not None and met.reason is not None else None


async def _open_records(frontier: Frontier, crawl: Crawl) -> list[UrlRecord]:
    records = [record async for batch in frontier.scan(crawl=crawl.name) for record in batch]
    return [record for record in records if not record.status.is_final]


# Links.


async def _links_of(frontier: Frontier, pages: Iterable[Page], terms: Terms, start: Start) -> list[Link]:
    followed: dict[str, str] = {}
    nofollow: dict[str, str] = {}
    needed: dict[str, str] = {}
    for page in pages:
        for found, urls in ((followed, page.links), (nofollow, page.nofollow), (needed, page.requisites)):
            for url in urls:
                found.setdefault(url, page.url)

    async def told(url: str, page: str, *, is_requisite: bool = False) -> Explanation:
        return await explanation_of(frontier, url, terms._replace(found_on=page, is_requisite=is_requisite))

    links = {url: Link(await told(url, page), page) for url, page in followed.items()}
    for url, by in needed.items():
        if url not in links or links[url].told.fate is Fate.LEFT_OUT:  # what is a page anyhow is fetched as one
            links[url] = Link(await told(url, by, is_requisite=True), by, is_requisite=True)
    asked = dict(islice((await _unknown_origins(frontier, terms, links.values())).items(), MOST_ORIGINS))
    await _ask_for_robots(frontier, terms, start, asked.values())
    for url, link in links.items():
        if link.told.is_asked_for and origin_of(url) in asked:
            links[url] = link._replace(told=await told(url, link.found_on, is_requisite=link.is_requisite))
    unknown = await _unknown_origins(frontier, terms, links.values())
    for url, link in links.items():
        if link.told.is_asked_for and origin_of(url) in unknown:
            links[url] = link._replace(is_unknown=True)
    marked = (Link(_marked(url, terms), page) for url, page in nofollow.items() if url not in links)
    return [*links.values(), *marked]


def _marked(url: str, terms: Terms) -> Explanation:
    step = Step("nofollow", "the page marks the link so, or all of its links", Fate.LEFT_OUT)
    return Explanation(url, terms.name, (step,))


async def _unknown_origins(frontier: Frontier, terms: Terms, links: Iterable[Link]) -> dict[str, str]:
    """The origins of what would be fetched if their robots.txt allows it, which is not known; each with a URL there."""
    if not terms.settings.obey_robots:
        return {}
    urls = {origin_of(link.told.url): link.told.url for link in links if link.told.is_asked_for}
    places = {origin: robots_place(url, terms.crawl) for origin, url in urls.items()}
    known = await frontier.robots(list(places.values()))
    return {origin: url for origin, url in urls.items() if not _is_there(known.get(places[origin]))}


def _is_there(row: RobotsRow | None) -> bool:
    return row is not None and row.fetched_at > 0


async def _ask_for_robots(frontier: Frontier, terms: Terms, start: Start, urls: Iterable[str]) -> None:
    """Ask for robots.txt at some URLs' origins, once each: what meets trouble stays unknown, or waits."""
    async with (
        asking(
            frontier, start.fetch, terms.settings, clock=frontier.now, rng=random.Random(), stopping=asyncio.Event(),
            crawl=terms.crawl, allowed=start.allowed, secrets=start.secrets,
        ) as asker,
        asyncio.TaskGroup() as group,
    ):  # fmt: skip
        for url in urls:
            group.create_task(asker.judge(url, frontier.now()))
