"""robots.txt asked for now, for `explain`: as politely as by a worker, as whom the crawl asks, and nothing is kept."""

from __future__ import annotations

import socket
import time
from typing import Any

import msgspec
import pytest

from sqspider.crawl_row import Crawl, Identity
from sqspider.explain import Explanation, Fate, Terms, explanation_of
from sqspider.frontier import Entrance, Entry, Frontier, RobotsRow
from sqspider.host import RobotsAccess
from sqspider.record import Reason
from sqspider.robots_now import robots_now
from sqspider.url import Scope
from sqspider.web.options import FetchOptions
from sqspider.work.allowed import Allowed
from sqspider.work.secrets import Secrets
from tests.crawl.crawl_rows import AT_HOME, LOCAL, SETTINGS, made, work
from tests.sites import Site

RULES = b"User-agent: *\nDisallow: /private\n"
OLD = b"User-agent: *\nDisallow: /old\n"


async def asked(
    frontier: Frontier, url: str, crawl: Crawl | None = None, fetch: FetchOptions = AT_HOME, **more: Any
) -> RobotsRow | str | None:
    settings = more.pop("settings", SETTINGS)
    allowed = more.pop("allowed", Allowed(private=True))
    return await robots_now(frontier, url, settings, crawl, fetch, allowed=allowed, secrets=Secrets(**more))


async def told(frontier: Frontier, url: str, found: RobotsRow | str | None) -> Explanation:
    return await explanation_of(frontier, url, Terms(SETTINGS, fetch=AT_HOME, robots_now=found))


def words(found: Explanation) -> str:
    return next(step.says for step in found.steps if step.rule == "robots.txt")


async def everything(frontier: Frontier, *origins: str) -> Any:
    records = [record async for batch in frontier.scan() for record in batch]
    return records, await frontier.scan_hosts(), await frontier.robots(origins)


async def test_it_decides_and_is_not_kept(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/robots.txt": RULES}
    origin = host.url.rstrip("/")
    before = await everything(frontier, origin)
    found = await told(frontier, f"{host.url}private", await asked(frontier, f"{host.url}private"))
    assert (found.fate, found.decided and found.decided.reason) == (Fate.BLOCKED, Reason.ROBOTS)
    assert words(found) == "robots.txt line 2: Disallow: /private; asked for just now"
    found = await told(frontier, f"{host.url}x", await asked(frontier, f"{host.url}x"))
    assert (found.fate, words(found)) == (Fate.FETCHED, "allows sqspider to fetch it; asked for just now")
    assert set(host.paths) == {"/robots.txt"}
    assert await everything(frontier, origin) == before


async def kept(frontier: Frontier, host: Site, **fields: Any) -> None:
    now = time.time()
    row = RobotsRow(
        origin=host.url.rstrip("/"), access=RobotsAccess.OBEY, body=OLD, fetched_at=now - 50, good_at=now - 50,
        expires_at=now + 50,
    )  # fmt: skip
    await frontier.save_robots([msgspec.structs.replace(row, **fields)])


async def test_a_copy_that_holds_is_not_asked_for_again(frontier: Frontier, host: Site) -> None:
    await kept(frontier, host)
    assert await asked(frontier, f"{host.url}old") is None
    assert host.requests == []


async def test_nor_is_one_that_is_not_obeyed(frontier: Frontier, host: Site) -> None:
    settings = msgspec.structs.replace(SETTINGS, obey_robots=False)
    assert await asked(frontier, host.url, settings=settings) is None
    assert host.requests == []


async def test_one_that_has_expired_is_asked_for_anew(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/robots.txt": RULES}
    await kept(frontier, host, expires_at=time.time() - 1)
    assert "line 2: Disallow: /old; it is asked for anew" in words(await told(frontier, f"{host.url}old", None))
    found = await told(frontier, f"{host.url}old", await asked(frontier, f"{host.url}old"))
    assert words(found) == "allows sqspider to fetch it; asked for just now"


@pytest.mark.parametrize(
    ("order", "fate", "why"),
    [
        ({"is_blocked": True}, Fate.BLOCKED, "host_blocked"),
        ({"is_paused": True}, Fate.WAITS, "cannot be had just now"),
        ({"rest_until": time.time() + 3600, "trouble": Reason.RATE_LIMITED}, Fate.WAITS, "cannot be had just now"),
    ],
)
async def test_a_host_that_is_to_be_left_alone_is(
    frontier: Frontier, host: Site, order: dict[str, Any], fate: Fate, why: str
) -> None:
    row = (await frontier.hosts(["127.0.0.1"]))["127.0.0.1"]
    assert await frontier.save_hosts([msgspec.structs.replace(row, **order)]) == [True]
    before = await everything(frontier)
    found = await asked(frontier, host.url)
    assert isinstance(found, str)
    assert why in found
    explained = await told(frontier, host.url, found)
    assert explained.fate is fate
    assert f"it is asked for first; just now it was not had: {found}" in words(explained)
    assert host.requests == []
    assert await everything(frontier) == before


async def test_a_delay_that_a_worker_has_begun_is_kept(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/robots.txt": RULES}
    entrance = Entrance(
        host="127.0.0.1", token="t", delay_seconds=1.5, per_host=1, generation=None, until=time.time() + 0.1
    )
    begun = time.monotonic()
    await frontier.enter([entrance])
    settings = msgspec.structs.replace(SETTINGS, delay_seconds=1.5)
    assert isinstance(await asked(frontier, host.url, settings=settings), RobotsRow)
    assert host.requests[0].at - begun >= 1.45


async def test_a_network_that_fails_is_told(frontier: Frontier) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{held.getsockname()[1]}/"
        found = await told(frontier, url, await asked(frontier, url))
    assert found.fate is Fate.WAITS
    assert words(found).startswith(f"that of {url.rstrip('/')} cannot be had: ")


async def test_trouble_of_our_own_is_told(frontier: Frontier) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        fetch = msgspec.structs.replace(AT_HOME, proxy=f"http://127.0.0.1:{held.getsockname()[1]}")
        found = await asked(frontier, "http://e.com/", fetch=fetch)
    assert isinstance(found, str)
    assert found.startswith("proxy_unusable: ")


async def test_it_is_asked_for_as_whom_the_crawl_asks(
    frontier: Frontier, host: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQSPIDER_SECRET_ID", "Hush")
    host.bodies = {"/robots.txt": b"User-agent: mine\nDisallow: /\n", "/": b""}
    identity = Identity(
        allow_private=True, user_agent="mine/1.0", cookies=(("id", "env:SQSPIDER_SECRET_ID"),),
        origins=(host.url.rstrip("/"),),
    )  # fmt: skip
    settings = msgspec.structs.replace(SETTINGS, scope=Scope.ANY)
    crawl = await made(frontier, settings=settings, identity=identity)
    found = await asked(frontier, host.url, crawl, FetchOptions(), allowed=Allowed().with_all_of(identity))
    assert (host.requests[0].headers["User-Agent"], host.requests[0].headers["Cookie"]) == ("mine/1.0", "id=Hush")
    explained = await explanation_of(frontier, host.url, Terms(settings, crawl, robots_now=found))
    assert (explained.fate, words(explained)) == (Fate.BLOCKED, "robots.txt line 2: Disallow: /; asked for just now")


async def test_what_is_not_allowed_here_is_not_asked(frontier: Frontier, host: Site) -> None:
    crawl = await made(frontier, identity=LOCAL)
    found = await asked(frontier, host.url, crawl, FetchOptions(), allowed=Allowed())
    assert found == "it asks for private addresses; start the worker with --allow-private"
    assert host.requests == []


async def test_a_worker_asks_as_if_nobody_had(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/robots.txt": RULES, "/": b""}
    assert isinstance(await asked(frontier, host.url), RobotsRow)
    await frontier.enqueue([Entry(url=host.url, settings=SETTINGS)])
    await work(frontier)
    assert host.paths == ["/robots.txt", "/robots.txt", "/"]
