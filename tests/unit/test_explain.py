"""What would become of a URL: each rule says so before anything is fetched, as it does when it is."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest

from sqspider.crawl_row import Crawl, Identity, Limits, State
from sqspider.crawl_settings import CrawlSettings
from sqspider.explain import Explanation, Fate, NotKnownError, Terms, explanation_of
from sqspider.frontier import Entry, Frontier, RobotsRow
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.frontier.shares import Ask, Most, Spent, run_of, run_of_crawl
from sqspider.host import HostRow, RobotsAccess
from sqspider.record import Outcome, Reason, Status
from sqspider.scope import folders_of
from sqspider.url import Scope
from sqspider.web.options import FetchOptions
from tests.frontier.kit import DONE, SETTINGS, FakeClock, finish_one, take_one, win

SEED: Final = "http://e.com/docs/"
PAGE: Final = "http://e.com/docs/page"
ROBOTS: Final = b"User-agent: *\nDisallow: /private\n\nUser-agent: mine\nDisallow: /docs/m\n"
HOST: Final = CrawlSettings(scope=Scope.HOST)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def frontier(clock: FakeClock) -> Frontier:
    """A seed, and a page that was found on it."""
    frontier = MemoryFrontier(MemoryStore(), SETTINGS, clock=clock)
    await frontier.enqueue([Entry(url=SEED, settings=HOST), Entry(url=PAGE, parent=SEED, depth=1, settings=HOST)])
    return frontier


async def told(frontier: Frontier, url: str, terms: Terms | None = None, **settings: Any) -> Explanation:
    settings = {"scope": Scope.HOST, **settings}
    return await explanation_of(frontier, url, terms or Terms(CrawlSettings(**settings), found_on=PAGE))


def decided(found: Explanation) -> tuple[Fate, str | None, Reason | None]:
    step = found.decided
    return found.fate, step and step.rule, step and step.reason


@pytest.mark.parametrize(
    ("url", "settings", "fate", "rule", "says"),
    [
        ("http://e.com/x", {}, Fate.FETCHED, None, ""),
        ("https://e.com/x", {"max_depth": 2}, Fate.FETCHED, None, ""),
        ("http://e.com/x", {"max_depth": 1}, Fate.LEFT_OUT, "depth", "2 links from a seed, of at most 1"),
        ("http://other.com/", {}, Fate.LEFT_OUT, "scope", f"outside (host, measured from {SEED})"),
        ("http://e.com/x", {"scope": Scope.PREFIX}, Fate.LEFT_OUT, "scope", "outside (prefix"),
        ("http://e.com/docs/x", {"scope": Scope.PREFIX}, Fate.FETCHED, None, ""),
        ("http://e.com/x", {"scope": Scope.PAGE}, Fate.LEFT_OUT, "scope", "no links are followed"),
        ("http://e.com/x", {"include": ("a$", "x$")}, Fate.FETCHED, None, ""),
        ("http://e.com/x", {"include": ("a$", "b$")}, Fate.LEFT_OUT, "include", "matches none of 2 patterns"),
        ("http://e.com/x", {"include": ("a$",)}, Fate.LEFT_OUT, "include", "does not match a$"),
        ("http://e.com/x", {"exclude": ("a$", "x$")}, Fate.LEFT_OUT, "exclude", "matches x$"),
        ("http://e.com/a/a/a", {"max_repeats": 2}, Fate.BLOCKED, "trap", "path segment 'a' occurs 3 times"),
        (PAGE, {"max_depth": 0}, Fate.FETCHED, None, ""),  # it is recorded, and a loose URL is asked no more
    ],
)  # fmt: skip
async def test_a_link_goes_by_the_rules_of_its_crawl(
    frontier: Frontier, url: str, settings: dict[str, Any], fate: Fate, rule: str | None, says: str
) -> None:
    if url == PAGE:
        found = await told(frontier, url, Terms(CrawlSettings(**settings)))
    else:
        found = await told(frontier, url, **settings)
    assert (found.fate, found.decided and found.decided.rule) == (fate, rule)
    assert says in (found.decided.says if found.decided else "")


async def test_who_gives_a_url_wants_it(frontier: Frontier) -> None:
    found = await told(frontier, "http://other.com/", Terms(CrawlSettings(max_depth=0, include=("none",))))
    assert found.fate is Fate.FETCHED


@pytest.mark.parametrize(
    ("url", "reason"), [("http://10.0.0.1/", Reason.PRIVATE_ADDRESS), ("http://e.com:6379/", Reason.BAD_PORT)]
)
async def test_what_may_not_be_connected_to_is_seen_from_the_url(frontier: Frontier, url: str, reason: Reason) -> None:
    assert decided(await told(frontier, url, Terms(HOST))) == (Fate.BLOCKED, "address", reason)
    lifted = FetchOptions(allow_private=True, allow_any_port=True)
    assert (await told(frontier, url, Terms(HOST, fetch=lifted))).fate is Fate.FETCHED
    row = Crawl(name="own", id="a1", identity=Identity(allow_private=True, allow_any_port=True))
    assert (await told(frontier, url, Terms(CrawlSettings(scope=Scope.ANY), row))).fate is Fate.FETCHED


async def test_a_link_of_a_page_that_is_not_known_cannot_be_told(frontier: Frontier) -> None:
    with pytest.raises(NotKnownError, match=r"http://e.com/none is not known"):
        await told(frontier, "http://e.com/x", Terms(HOST, found_on="http://e.com/none"))


async def test_a_pattern_that_takes_too_long_is_told(frontier: Frontier) -> None:
    found = await told(frontier, f"http://e.com/{'a' * 60}!", exclude=("(a+)+$",))
    assert (found.fate, found.decided and found.decided.rule) == (Fate.LEFT_OUT, "patterns")


async def test_what_is_finished_is_told_as_it_ended(frontier: Frontier) -> None:
    delivery = await take_one(frontier)
    claim = await win(frontier, delivery, worker="one")
    found = await told(frontier, SEED)
    assert (found.fate, "one works on it" in found.steps[0].says) == (Fate.FETCHED, True)
    await finish_one(frontier, claim, delivery, DONE)
    found = await told(frontier, SEED)
    assert (found.fate, len(found.steps)) == (Fate.FINISHED, 1)
    assert "it is done since 2023-11-14T22:13:20.000Z (HTTP 200)" in found.steps[0].says
    delivery = await take_one(frontier)
    blocked = Outcome(status=Status.BLOCKED, reason=Reason.ROBOTS, detail="line 2")
    await finish_one(frontier, await win(frontier, delivery), delivery, blocked)
    assert "blocked since 2023-11-14T22:13:20.000Z (robots: line 2)" in (await told(frontier, PAGE)).steps[0].says


@pytest.mark.parametrize(
    ("row", "fate", "says"),
    [
        ({"is_blocked": True}, Fate.BLOCKED, "e.com is blocked by the operator"),
        ({"is_paused": True}, Fate.WAITS, "e.com is paused by the operator"),
        ({"rest_until": 1_700_000_060.0, "trouble": Reason.RATE_LIMITED, "penalty_since": 1_699_999_990.0}, Fate.WAITS,
         "e.com: resting until 2023-11-14T22:14:20.000Z"),
        ({"rests": 5, "trouble": Reason.TIMEOUT, "trouble_since": 1_699_999_000.0, "given_up_at": 1_699_999_900.0,
          "rested_at": 1_699_999_900.0, "penalty_since": 1_699_999_900.0, "rest_until": 1_700_000_950.0}, Fate.BLOCKED,
         "the host was given up"),
    ],
)  # fmt: skip
async def test_what_ails_a_host_is_told(frontier: Frontier, row: dict[str, Any], fate: Fate, says: str) -> None:
    assert await frontier.save_hosts([HostRow(host="e.com", **row)]) == [True]
    found = await told(frontier, "http://e.com/x")
    assert (found.fate, found.decided and found.decided.rule) == (fate, "host")
    assert says in (found.decided.says if found.decided else "")


@pytest.mark.parametrize(
    ("row", "url", "fate", "says"),
    [
        (None, "http://e.com/private", Fate.FETCHED, "it is asked for first"),
        ({"access": RobotsAccess.OBEY, "body": ROBOTS}, "http://e.com/private", Fate.BLOCKED,
         "robots.txt line 2: Disallow: /private"),
        ({"access": RobotsAccess.OBEY, "body": ROBOTS}, "http://e.com/x", Fate.FETCHED, "allows sqspider to fetch it"),
        ({"access": RobotsAccess.OBEY, "body": ROBOTS, "expires_at": 1.0}, "http://e.com/private", Fate.BLOCKED,
         "it is asked for anew"),
        ({"access": RobotsAccess.ALLOW_ALL}, "http://e.com/private", Fate.FETCHED, "allows"),
        ({"access": RobotsAccess.UNREACHABLE, "unreachable_since": 1_700_000_000.0, "detail": "HTTP 503"},
         "http://e.com/x", Fate.WAITS, "cannot be had: HTTP 503"),
    ],
)  # fmt: skip
async def test_robots_txt_is_told_by_its_line(
    frontier: Frontier, clock: FakeClock, row: dict[str, Any] | None, url: str, fate: Fate, says: str
) -> None:
    if row is not None:
        kept = {"origin": "http://e.com", "fetched_at": clock.now, "expires_at": clock.now + 60, **row}
        await frontier.save_robots([RobotsRow(**kept)])
    found = await told(frontier, url)
    assert found.fate is fate
    assert says in next(step.says for step in found.steps if step.rule == "robots.txt")
    ignored = await told(frontier, url, obey_robots=False)
    assert ignored.fate is Fate.FETCHED


async def test_a_budget_that_is_used_up_is_told(frontier: Frontier) -> None:
    run, spent = run_of(None, "e.com"), Spent(1, 100)
    await frontier.share([Ask(run=run, most=Most(1), worker_id="one", wanted=0, until=0.0, before=spent)])
    found = await told(frontier, "http://e.com/x", host_pages=1)
    assert decided(found) == (Fate.BLOCKED, "budget", Reason.HOST_PAGE_LIMIT)
    assert decided(await told(frontier, "http://e.com/x", host_bytes=100))[2] is Reason.HOST_BYTE_LIMIT
    assert (await told(frontier, "http://other.e.com/x", host_pages=1, scope=Scope.ANY)).fate is Fate.FETCHED
    news = Terms(CrawlSettings(scope=Scope.ANY, host_pages=1), Crawl(name="news", id="abc"))
    assert (await told(frontier, "http://e.com/x", news)).fate is Fate.FETCHED, "each crawl has its own"
    assert (await told(frontier, "http://e.com/x", host_pages=2)).fate is Fate.FETCHED
    assert decided(await told(frontier, SEED, host_pages=1)) == (Fate.BLOCKED, "budget", Reason.HOST_PAGE_LIMIT)
    delivery = await take_one(frontier)
    await finish_one(frontier, await win(frontier, delivery), delivery, DONE)
    await frontier.reopen([SEED])
    assert (await told(frontier, SEED, host_pages=1)).fate is Fate.FETCHED, "it was counted once"


async def test_a_crawl_at_its_limit_is_told(frontier: Frontier) -> None:
    crawl = Crawl(name="news", id="abc", settings=HOST, limits=Limits(pages=3))
    ask = Ask(run=run_of_crawl(crawl), most=Most(), worker_id="one", wanted=0, until=0.0, before=Spent(2, 100))
    await frontier.share([ask])
    assert await frontier.save_crawl(crawl)
    await frontier.enqueue([Entry(url="http://e.com/x", settings=HOST, crawl=crawl.ref)])
    terms = Terms(HOST, crawl)
    assert (await told(frontier, "http://e.com/x", terms)).fate is Fate.FETCHED
    found = await told(frontier, "http://e.com/x", Terms(HOST, msgspec.structs.replace(crawl, limits=Limits(pages=2))))
    assert decided(found) == (Fate.WAITS, "crawl", None)
    assert "news rests: 2 pages were fetched: its limit; " in found.steps[1].says


async def test_a_crawl_goes_by_its_row(frontier: Frontier) -> None:
    settings = CrawlSettings(scope=Scope.PREFIX, max_depth=1, exclude=("skip",))
    crawl = Crawl(name="news", id="a1", settings=settings, identity=Identity(user_agent="mine/1.0"))
    assert await frontier.save_crawl(crawl)
    await frontier.add_seeds(crawl.ref, folders_of([SEED], Scope.PREFIX))
    await frontier.enqueue([Entry(url=f"{SEED}{n}", crawl=crawl.ref, depth=n) for n in range(3)])
    terms = Terms(settings, crawl)

    async def fate(url: str, terms: Terms = terms) -> tuple[Fate, str | None, Reason | None]:
        return decided(await told(frontier, url, terms))

    assert await fate(f"{SEED}x") == (Fate.FETCHED, None, None)
    assert await fate("http://e.com/x") == (Fate.LEFT_OUT, "scope", Reason.OUT_OF_SCOPE)
    assert await fate(f"{SEED}skip") == (Fate.LEFT_OUT, "exclude", Reason.EXCLUDED)
    assert await fate(f"{SEED}2") == (Fate.BLOCKED, "depth", Reason.DEPTH_LIMIT)  # recorded when it went deeper
    assert await fate(f"{SEED}0") == (Fate.FETCHED, None, None)
    await frontier.enqueue([Entry(url=f"{SEED}skipped", crawl=crawl.ref)])
    assert await fate(f"{SEED}skipped") == (Fate.FETCHED, None, None)  # whoever gave it wants it
    assert await fate(f"{SEED}x", terms._replace(found_on=f"{SEED}1")) == (Fate.LEFT_OUT, "depth", Reason.DEPTH_LIMIT)
    paused = terms._replace(crawl=msgspec.structs.replace(crawl, state=State.PAUSED))
    assert (await fate(f"{SEED}x", paused))[:2] == (Fate.WAITS, "crawl")
    assert (await told(frontier, f"{SEED}x", terms)).as_json()["crawl"] == "news"


async def test_looking_changes_nothing(frontier: Frontier) -> None:
    before = [record async for batch in frontier.scan() for record in batch], await frontier.scan_hosts()
    await told(frontier, "http://e.com/x", host_pages=3)
    after = [record async for batch in frontier.scan() for record in batch], await frontier.scan_hosts()
    assert after == before
