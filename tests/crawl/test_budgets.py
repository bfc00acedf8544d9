"""So much of a run, of a crawl, of a host in a crawl: exactly, whoever works on it."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from sqspider.again import Choice, put_back, visit_again
from sqspider.crawl_row import Limits
from sqspider.frontier import Entry, Frontier, FrontierSettings, open_frontier
from sqspider.frontier.aws import AwsFrontier
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.frontier.shares import Ask, Most, Portion, Run, Spent, run_of, run_of_crawl, shared
from sqspider.message import decode_message
from sqspider.politeness import Postponed
from sqspider.record import Outcome, Reason, Status, UrlRecord
from sqspider.scope import Blocked
from sqspider.web.fetch import Fetcher
from sqspider.widening import widened
from sqspider.work import budgets as budgets_module
from sqspider.work import intake, purse
from sqspider.work import memories as memories_module
from sqspider.work.budgets import Budgets
from sqspider.work.hand import Visit
from sqspider.work.large_bodies import LargeBodies, Space
from sqspider.work.limits import count_no_more, spent_of
from sqspider.work.memories import Memories
from sqspider.work.options import WorkerOptions
from sqspider.work.widening import bring_back
from sqspider.work.worker import Mode
from tests.crawl.crawl_rows import (
    AT_HOME,
    OPTIONS,
    SETTINGS,
    changed,
    made,
    page,
    put_in,
    records_of,
    row_of,
    until,
    work,
    worker_on,
    working,
)  # fmt: skip
from tests.frontier.kit import FORBIDDEN, GONE, FakeClock, finish_one, take, win
from tests.simulation.fake_aws import ENVIRONMENT, FakeAws, FakeTransport
from tests.sites import Site

replace = msgspec.structs.replace

PAGES: Final = 100
NOBODY: Final = run_of(None, "none")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others have is waited for in shorter steps."""
    monkeypatch.setattr(purse, "REFUSED_SECONDS", (0.1, 0.2))


@pytest.fixture
def site(host: Site) -> Site:
    """A page that leads to a hundred others, of a thousand bytes each."""
    host.bodies = {"/": page(*map(str, range(PAGES)))}
    host.bodies |= {f"/{number}": b"x" * 1000 for number in range(PAGES)}
    return host


@asynccontextmanager
async def four(folder: Path) -> AsyncIterator[list[Frontier]]:
    """Four handles on one file, as four processes have them."""
    async with AsyncExitStack() as stack:
        handles = []
        for _ in range(4):
            handles.append(await open_frontier(f"sqlite:{folder / 'f.db'}", FrontierSettings(), clock=time.time))
            stack.push_async_callback(handles[-1].close)
        yield handles


async def work_by(handles: Sequence[Frontier], options: WorkerOptions = OPTIONS, crawl: str | None = "news") -> None:
    async with Fetcher(AT_HOME, connections=16) as fetcher:
        workers = [
            worker_on(handle, fetcher, replace(options, worker_id=f"w{number}"))
            for number, handle in enumerate(handles)
        ]
        await asyncio.gather(*(worker.run(Mode.UNTIL_EMPTY, crawl=crawl) for worker in workers))


async def reasons_of(frontier: Frontier, crawl: str = "news") -> dict[Reason, int]:
    return (await frontier.counts(crawl=crawl)).by_reason


# Exact over workers.


@pytest.mark.parametrize(
    ("settings", "limits", "options", "number", "left"),
    [
        ({"host_pages": 20}, {}, {}, 20, 0),
        ({"host_bytes": 20_000}, {}, {}, 20, 0),
        ({}, {"pages": 50}, {}, 50, PAGES + 1 - 50),
        ({}, {"bytes": 30_000}, {}, 30, PAGES + 1 - 30),
        ({}, {}, {"max_pages": 40, "run": "one"}, 40, PAGES + 1 - 40),
        ({"host_pages": 20}, {"pages": 50}, {"max_pages": 40, "run": "one"}, 20, 0),
    ],
)
async def test_no_more_is_asked_for_than_there_is_and_no_less(
    tmp_path: Path, site: Site, settings: dict[str, Any], limits: dict[str, Any], options: dict[str, Any],
    number: int, left: int,
) -> None:  # fmt: skip
    async with four(tmp_path) as handles:
        crawl = await made(
            handles[0], settings=replace(SETTINGS, obey_robots=False, **settings), limits=Limits(**limits)
        )
        await put_in(handles[0], crawl, site.url)
        await work_by(handles, replace(OPTIONS, **options))
        assert len(site.requests) == number
        counts = await handles[0].counts(crawl="news")
        assert (counts.by_status[Status.DONE], counts.open) == (number, left)
        open_ones = [each for each in (await records_of(handles[0])).values() if not each.status.is_final]
        assert {each.attempt for each in open_ones} <= {0}, "what may not be fetched is not claimed"
        blocked = sum(counts.by_reason.get(reason, 0) for reason in (Reason.HOST_PAGE_LIMIT, Reason.HOST_BYTE_LIMIT))
        assert blocked == counts.by_status[Status.BLOCKED] == PAGES + 1 - number - left


async def test_what_a_killed_worker_had_is_fetched_by_the_others_and_no_more(tmp_path: Path, site: Site) -> None:
    """One died with ten pages of each in hand that it had not fetched: the others wait for them."""
    async with four(tmp_path) as handles:
        crawl = await made(
            handles[0], settings=replace(SETTINGS, obey_robots=False, host_pages=30), limits=Limits(pages=30)
        )
        await put_in(handles[0], crawl, site.url)
        gone_at = time.time() + 2.0
        runs = {"one": Most(30), run_of_crawl(crawl): Most(30), run_of(crawl.ref, "127.0.0.1"): Most(30)}
        for run, most in runs.items():
            ask = Ask(run=run, most=most, worker_id="killed", wanted=10, until=gone_at)
            assert [portion.pages for portion in await handles[0].share([ask])] == [10]
        await work_by(handles, replace(OPTIONS, max_pages=30, run="one"))
        assert time.time() > gone_at
        assert len(site.requests) == 30
        assert (await handles[0].runs(list(runs))).keys() == runs.keys()
        assert all(not row.shares for row in (await handles[0].runs(list(runs))).values()), "all is given back"


async def test_who_waits_for_what_others_have_ends_when_it_is_told_to(
    frontier: Frontier, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    crawl = await made(frontier)
    await put_in(frontier, crawl, site.url)
    far = frontier.now() + 3600
    await frontier.share([Ask(run="one", most=Most(1), worker_id="killed", wanted=1, until=far)])
    monkeypatch.setattr(intake, "OTHERS_SECONDS", 3600.0)
    asked = _Asked(frontier)
    async with asyncio.timeout(60), working(frontier, options=replace(OPTIONS, max_pages=1, run="one")) as worker:
        await until(lambda: asked.asks)
        for _ in range(100):
            await asyncio.sleep(0)  # it has the answer then, and waits
        worker.stop()
    assert not site.requests


async def test_who_waits_for_what_others_have_ends_when_nothing_is_left(frontier: Frontier, site: Site) -> None:
    await made(frontier)
    far = frontier.now() + 3600
    await frontier.share([Ask(run="one", most=Most(1), worker_id="killed", wanted=1, until=far)])
    async with asyncio.timeout(60):
        await work(frontier, crawl="news", options=replace(OPTIONS, max_pages=1, run="one"))
    assert not site.requests


# By crawl and host, and once for each URL.


async def test_a_budget_of_a_host_is_of_one_crawl(frontier: Frontier, site: Site) -> None:
    for name in ("news", "shop"):
        crawl = await made(frontier, name, settings=replace(SETTINGS, obey_robots=False, host_pages=3))
        await put_in(frontier, crawl, site.url)
    await work(frontier)
    assert len(site.requests) == 6
    for name in ("news", "shop"):
        assert (await reasons_of(frontier, name))[Reason.HOST_PAGE_LIMIT] == PAGES + 1 - 3


async def test_what_was_fetched_is_visited_again_and_retried_whatever_was_used_up(
    frontier: Frontier, site: Site
) -> None:
    site.bodies["/0"] = (404, {})
    crawl = await made(frontier, settings=replace(SETTINGS, obey_robots=False, host_pages=10))
    await put_in(frontier, crawl, site.url)
    await work(frontier)
    fetched = sorted(site.paths)
    assert len(fetched) == 10
    site.requests.clear()
    await visit_again(frontier, "news")
    await work(frontier)
    assert sorted(site.paths) == fetched
    assert (await reasons_of(frontier))[Reason.HOST_PAGE_LIMIT] == PAGES + 1 - 10
    if "/0" in fetched:
        site.requests.clear()
        await put_back(frontier, Choice(crawl="news", statuses=frozenset({Status.FAILED})))
        await work(frontier)
        assert site.paths == ["/0"]
    # What was not is not: it is tried, and blocked as before.
    site.requests.clear()
    await put_back(frontier, Choice(crawl="news", statuses=frozenset({Status.BLOCKED})))
    await work(frontier)
    assert not site.requests
    assert (await reasons_of(frontier))[Reason.HOST_PAGE_LIMIT] == PAGES + 1 - 10


async def test_what_is_visited_again_is_counted_once_and_what_is_left_is_given_back(
    frontier: Frontier, host: Site
) -> None:
    host.bodies = {"/": page("0", "1"), "/0": b"", "/1": b""}
    crawl = await made(frontier, settings=replace(SETTINGS, obey_robots=False, host_pages=5))
    await put_in(frontier, crawl, host.url)
    runs = {run_of(crawl.ref, "127.0.0.1"): 3, "one": 6}
    for number in (3, 6):
        await work(frontier, crawl="news", options=replace(OPTIONS, max_pages=30, run="one"))
        assert len(host.requests) == number
        await visit_again(frontier, "news")
    rows = await frontier.runs(list(runs))
    assert {name: (row.spent, row.shares) for name, row in rows.items()} == {run: (n, {}) for run, n in runs.items()}


async def test_what_is_visited_again_is_remembered_until_all_of_the_queue_had_its_turn(
    host: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQS gives what was given back after all others, and does not say what was counted before it is claimed."""
    monkeypatch.setattr(memories_module, "FINISHED_URLS", 8)
    aws = FakeAws(clock=time.time, rng=random.Random(1))
    frontier = await AwsFrontier.open(
        FrontierSettings(), clock=time.time, environment=ENVIRONMENT, transport=FakeTransport(aws)
    )
    host.bodies = {f"/{number}": b"" for number in range(40)}
    crawl = await made(frontier, settings=replace(SETTINGS, obey_robots=False, host_pages=40))
    await put_in(frontier, crawl, *(f"{host.url}{number}" for number in range(40)))
    for number in (40, 80):
        async with asyncio.timeout(60):
            await work(frontier, crawl="news")
        assert len(host.requests) == number
        await visit_again(frontier, "news")
    await frontier.close()


async def test_redirects_count_for_a_host_and_not_for_its_crawl(frontier: Frontier, site: Site) -> None:
    site.bodies |= {f"/{number}": (302, {"Location": f"/{number + 50}"}) for number in range(20)}
    crawl = await made(frontier, settings=replace(SETTINGS, obey_robots=False, host_pages=60), limits=Limits(pages=45))
    await put_in(frontier, crawl, site.url)
    await work(frontier, crawl="news")
    counts = await frontier.counts(crawl="news")
    assert counts.redirects > 0
    assert counts.by_status[Status.DONE] - counts.redirects == 45 or counts.by_status[Status.DONE] == 60
    assert len(site.requests) <= 60


# A crawl's own limits.


async def test_a_crawl_at_its_limit_goes_on_when_that_is_raised(frontier: Frontier, site: Site) -> None:
    crawl = await made(frontier, limits=Limits(pages=10))
    await put_in(frontier, crawl, site.url)
    async with working(frontier):
        await until(lambda: len(site.requests) >= 11)  # and robots.txt
        await changed(frontier, limits=Limits(pages=30))
        await until(lambda: len(site.requests) >= 31)
    await work(frontier, crawl="news")
    assert (await frontier.counts(crawl="news")).by_status[Status.DONE] == 30


async def test_a_limit_that_is_set_later_counts_what_was_fetched_before(frontier: Frontier, site: Site) -> None:
    crawl = await made(frontier)
    await put_in(frontier, crawl, site.url)
    for limit, number in ((None, 20), (30, 30), (None, 50), (60, 60)):
        await changed(frontier, limits=Limits(pages=limit))
        most = None if limit else number - (await frontier.counts(crawl="news")).by_status[Status.DONE]
        await work(frontier, crawl="news", options=replace(OPTIONS, max_pages=most))
        assert (await frontier.counts(crawl="news")).by_status[Status.DONE] == number


async def test_what_is_put_back_counts_no_more_in_its_crawl(frontier: Frontier, site: Site) -> None:
    crawl = await made(frontier, limits=Limits(pages=10, bytes=50_000))
    await put_in(frontier, crawl, site.url)
    await work(frontier, crawl="news")
    assert len(site.requests) == 11  # with robots.txt
    await visit_again(frontier, "news")
    await work(frontier, crawl="news")
    assert len(site.requests) == 21
    counts = await frontier.counts(crawl="news")
    assert counts.by_status[Status.DONE] <= 10
    run = run_of_crawl(await row_of(frontier))
    assert (await frontier.runs([run]))[run].all_spent == Spent(10, counts.bytes)


UNFETCHED: Final = Outcome(status=Status.FAILED, reason=Reason.CONNECTION_REFUSED, detail="its host was given up")


async def test_what_failed_unfetched_frees_nothing_when_it_is_put_back(frontier: Frontier) -> None:
    crawl = await made(frontier, limits=Limits(pages=10))
    run = run_of_crawl(crawl)
    await frontier.share([Ask(run=run, most=Most(10), worker_id="w", wanted=0, until=0, before=Spent(10, 5000))])
    for outcome, left in ((UNFETCHED, Spent(10, 5000)), (GONE, Spent(9, 4993)), (FORBIDDEN, Spent(9, 4993))):
        record = UrlRecord(url="http://h/", crawl="news", status=Status.QUEUED, outcome=outcome)
        await count_no_more(frontier, [record])
        assert (await frontier.runs([run]))[run].all_spent == left


async def test_what_failed_unfetched_takes_a_place_of_its_host_when_it_is_fetched(
    frontier: Frontier, site: Site
) -> None:
    crawl = await made(frontier, settings=replace(SETTINGS, obey_robots=False, host_pages=5))
    await put_in(frontier, crawl, *(f"{site.url}{number}" for number in range(9)))
    for delivery in await take(frontier, 9):
        await finish_one(frontier, await win(frontier, delivery), delivery, outcome=UNFETCHED)
    await put_back(frontier, Choice(crawl="news", statuses=frozenset({Status.FAILED})))
    await work(frontier, crawl="news")
    assert len(site.requests) == 5


async def test_what_a_wider_limit_puts_back_counts_no_more_in_its_crawl(frontier: Frontier, site: Site) -> None:
    before = await made(frontier, settings=replace(SETTINGS, max_depth=0), limits=Limits(pages=3))
    await put_in(frontier, before, site.url)
    await work(frontier, crawl="news")
    before = await row_of(frontier)
    after = replace(before, settings=replace(SETTINGS, max_depth=1))
    assert await frontier.save_crawl(widened(before, after, frontier.now()))
    assert (await bring_back(frontier, await row_of(frontier))).pages == 1
    await work(frontier, crawl="news")
    assert (await frontier.counts(crawl="news")).by_status[Status.DONE] == 3


async def test_what_is_put_back_counts_no_more_for_who_has_seen_the_counts_of_before(
    frontier: Frontier, site: Site
) -> None:
    """Of a crawl whose limit nobody has worked by yet. A worker's copy is two seconds old, at most."""
    await put_in(frontier, await made(frontier, settings=replace(SETTINGS, max_depth=0)), site.url)
    await work(frontier, crawl="news")
    row = await changed(frontier, limits=Limits(pages=5), settings=replace(SETTINGS, max_depth=1))
    assert await frontier.save_crawl(widened(replace(row, settings=replace(SETTINGS, max_depth=0)), row, 0.0))
    seen, run = await spent_of(frontier, row), run_of_crawl(row)
    assert seen.pages == 1
    for put in (partial(visit_again, frontier, "news"), partial(bring_back, frontier, await row_of(frontier))):
        await put()
        await frontier.share([Ask(run=run, most=Most(5), worker_id="x", wanted=0, until=0.0, before=seen)])
        assert (await frontier.runs([run]))[run].all_spent == Spent()


async def test_what_could_not_be_asked_for_takes_nothing_of_a_limit(frontier: Frontier) -> None:
    crawl = await made(frontier, settings=replace(SETTINGS, obey_robots=False), limits=Limits(pages=3))
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and nobody listens there
        port = held.getsockname()[1]
        await put_in(frontier, crawl, *(f"http://127.0.0.1:{port}/{number}" for number in range(8)))
        await work(frontier, options=replace(OPTIONS, first_rest_seconds=0.05, new_host_grace_seconds=0.0))
    assert await spent_of(frontier, crawl) == Spent()
    assert {record.status for record in (await records_of(frontier)).values()} == {Status.FAILED}


async def test_what_was_not_read_again_is_not_taken_off(frontier: Frontier) -> None:
    crawl = await made(frontier, limits=Limits(bytes=50_000))
    run = run_of_crawl(crawl)
    await frontier.share([Ask(run=run, most=Most(), worker_id="x", wanted=0, until=0.0, before=Spent(2, 2000))])
    unchanged = Outcome(status=Status.DONE, http_status=200, bytes=1500, unchanged=True)
    record = UrlRecord(url="http://e.com/", crawl="news", status=Status.DONE, outcome=unchanged)
    await count_no_more(frontier, [record])
    assert (await frontier.runs([run]))[run].all_spent == Spent(1, 2000)


# What it costs.


class _Asked:
    """What a frontier was asked of shares."""

    def __init__(self, frontier: Frontier) -> None:
        self.asks: list[Ask] = []
        self._share = frontier.share
        frontier.share = self._noted  # type: ignore[method-assign]

    async def _noted(self, asks: Sequence[Ask]) -> Any:
        self.asks += asks
        return await self._share(asks)


async def test_who_has_no_budget_asks_for_no_share(frontier: Frontier, site: Site) -> None:
    asked = _Asked(frontier)
    await put_in(frontier, await made(frontier), site.url)
    await work(frontier)
    assert (len(site.requests), asked.asks) == (PAGES + 2, [])


async def test_shares_are_asked_for_by_many_at_a_time_and_not_for_what_is_used_up(
    frontier: Frontier, site: Site
) -> None:
    asked = _Asked(frontier)
    crawl = await made(frontier, settings=replace(SETTINGS, obey_robots=False, host_pages=60))
    await put_in(frontier, crawl, site.url)
    await work(frontier)
    assert len(site.requests) == 60
    assert len(asked.asks) < 25, "forty more were blocked without one"


# A worker's purses.


def budgets_of(frontier: Frontier, **options: Any) -> Budgets:
    memories = Memories(frontier, 100)
    return Budgets(frontier, memories, replace(OPTIONS, worker_id="one", **options), "run", clock=frontier.now)


@pytest.fixture
def budgets(frontier: Frontier) -> Budgets:
    return budgets_of(frontier)


async def visit_of(frontier: Frontier, settings: Any, path: str = "") -> Visit:
    await frontier.enqueue([Entry(url=f"http://e.com/{path}", settings=settings)])
    (delivery,) = await frontier.receive(1)
    message = decode_message(delivery.body)
    return Visit(delivery, message, Space(LargeBodies(None)))  # type: ignore[arg-type]


async def test_a_place_is_free_again_when_its_visit_ends_unfetched(frontier: Frontier, budgets: Budgets) -> None:
    settings = replace(SETTINGS, host_pages=1)
    first, second = await visit_of(frontier, settings, "a"), await visit_of(frontier, settings, "b")
    assert await budgets.take(first, None, Spent()) is None
    assert isinstance(await budgets.take(second, None, Spent()), Postponed)
    first.give_back_places()
    assert await budgets.take(second, None, Spent()) is None
    await budgets.close()


async def test_what_others_hold_is_asked_about_less_and_less(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purse, "REFUSED_SECONDS", (1.0, 30.0))
    now, asked, most = 0.0, list[float](), Most(1)
    run = shared(Run(), Ask(run="run", most=most, worker_id="other", wanted=1, until=300.0), 0.0)[0]

    async def share(ask: Ask) -> Portion:
        asked.append(now)
        return shared(run, ask, now)[1]

    own = purse.Purse(share, "run", worker_id="own", seconds=60.0, clock=lambda: now)
    while not await own.take(most, Spent()):
        now = own.refused_until
        assert now < 330.0, "it is had when the other's time is over"
    assert now >= 300.0
    assert len(asked) < 25, "not each second"


async def test_a_share_is_kept_as_long_as_something_is_in_hand_and_given_back_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(budgets_module, "LOOK_SECONDS", 0.01)
    clock = FakeClock()
    frontier = MemoryFrontier(MemoryStore(), FrontierSettings(), clock=clock)
    budgets = budgets_of(frontier, lease_seconds=60.0)
    keeping = asyncio.create_task(budgets.keep())
    visit = await visit_of(frontier, replace(SETTINGS, host_pages=1))
    run = run_of(None, "e.com")
    assert await budgets.take(visit, None, Spent()) is None
    for _ in range(9):
        clock.now += 25
        while (share := (await frontier.runs([run]))[run].shares["one"]).until < clock.now + 60:
            await asyncio.sleep(0.01)
        assert share.pages == 1
    visit.give_back_places()
    while (await frontier.runs([run]))[run].shares:
        await asyncio.sleep(0.01)
    keeping.cancel()


async def test_what_is_used_up_is_told_by_its_limit(frontier: Frontier, budgets: Budgets) -> None:
    run = run_of(None, "e.com")
    await frontier.share([Ask(run=run, most=Most(), worker_id="x", wanted=0, until=0.0, before=Spent(3, 5000))])
    asked = _Asked(frontier)
    budgets = budgets_of(frontier)
    for settings, reason in (
        ({"host_pages": 3}, Reason.HOST_PAGE_LIMIT),
        ({"host_bytes": 5000}, Reason.HOST_BYTE_LIMIT),
    ):
        for path in ("a", "b"):
            visit = await visit_of(frontier, replace(SETTINGS, **settings), f"{path}{reason}")
            verdict = await budgets.take(visit, None, Spent())
            assert isinstance(verdict, Blocked)
            assert verdict.reason is reason
            await budgets.close()  # nothing of it is in hand
    assert len(asked.asks) == 2, "what was told once is known"
    visit = await visit_of(frontier, replace(SETTINGS, host_pages=4), "c")
    assert await budgets.take(visit, None, Spent()) is None, "the limit is another one"
    await budgets.close()
