"""As whom crawls fetch: each by its own row, whoever works; and what is secret of that is nowhere."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from sqspider.capture import Capture
from sqspider.crawl_row import Identity
from sqspider.frontier import Frontier, FrontierSettings, open_frontier
from sqspider.frontier.memory import MemoryFrontier, MemoryStore
from sqspider.log import start_logging
from sqspider.message import Message, encode_message
from sqspider.record import CapturePlace, Reason, Status
from sqspider.work.allowed import Allowed
from sqspider.work.secrets import Secrets
from tests.crawl.crawl_rows import AT_HOME, OPTIONS, made, page, put_in, records_of, until, work, working
from tests.sites import Answer, Asked, Site

replace = msgspec.structs.replace
PASSWORD = "p\"w%d-Xyzzy'1"
TOKEN = "tok-0123456789abcdef"
COOKIE = "c00kie-value-77"
ENVIRONMENT = {
    "SQSPIDER_SECRET_PASSWORD": PASSWORD,
    "SQSPIDER_SECRET_TOKEN": TOKEN,
    "SQSPIDER_SECRET_COOKIE": COOKIE,
    "AWS_SECRET_ACCESS_KEY": "of-somebody-else",
}


def allowed_for(*origins: str) -> Allowed:
    return Allowed.by(AT_HOME, origins=origins)


async def test_each_crawl_has_its_own_name_and_rules(frontier: Frontier, host: Site) -> None:
    rules = b"User-agent: one\nDisallow: /a\n\nUser-agent: two\nDisallow: /b\n"
    host.bodies = {"/robots.txt": rules, "/": page("a", "b"), "/a": b"", "/b": b""}
    for name in ("one", "two"):
        identity = Identity(user_agent=f"{name}/1.0", allow_private=True)
        await put_in(frontier, await made(frontier, name, identity=identity), host.url)
    await work(frontier)
    asked = {(asked.headers["User-Agent"], asked.path) for asked in host.requests}
    assert asked == {
        ("one/1.0", "/robots.txt"), ("one/1.0", "/"), ("one/1.0", "/b"),
        ("two/1.0", "/robots.txt"), ("two/1.0", "/"), ("two/1.0", "/a"),
    }  # fmt: skip


async def test_trouble_with_robots_txt_of_one_decides_nothing_for_another(frontier: Frontier, host: Site) -> None:
    def rules(asked: Asked) -> Answer:
        return (404, {}) if asked.headers["User-Agent"] == "good" else b"User-agent: *\nDisallow: /"

    host.bodies = {"/robots.txt": rules, "/": b""}
    for name in ("bad", "good"):
        identity = Identity(user_agent=name, allow_private=True)
        await put_in(frontier, await made(frontier, name, identity=identity), host.url)
    await work(frontier)
    assert (await frontier.counts(crawl="bad")).by_status[Status.BLOCKED] == 1
    assert (await frontier.counts(crawl="good")).by_status[Status.DONE] == 1


async def test_directives_in_pages_are_read_as_the_crawls_own(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": b'<meta name="one" content="nofollow"><a href="a">a</a>', "/a": b""}
    for name in ("one", "two"):
        identity = Identity(user_agent=f"{name}/1.0", allow_private=True)
        await put_in(frontier, await made(frontier, name, identity=identity), host.url)
    await work(frontier)
    assert (await frontier.counts(crawl="one")).total == 1
    assert (await frontier.counts(crawl="two")).total == 2


async def test_a_new_worker_goes_on_as_the_same(frontier: Frontier, host: Site) -> None:
    """Whatever it calls itself."""
    host.bodies = {"/": b"", "/a": b""}
    crawl = await made(frontier, identity=Identity(user_agent="one/1.0", contact="a@example.com", allow_private=True))
    for path in ("", "a"):
        await put_in(frontier, crawl, host.url + path)
        await work(frontier, replace(AT_HOME, user_agent=f"me{path}", contact="b@example.com"))
    assert {(asked.headers["User-Agent"], asked.headers["From"]) for asked in host.requests} == {
        ("one/1.0", "a@example.com")
    }


async def test_headers_go_to_their_own_origins_alone(frontier: Frontier, host: Site) -> None:
    """Not where a redirect leads, nor to links of another origin."""
    there = host.url_of("127.0.0.2")
    host.bodies = {
        "127.0.0.1/": page("/go", f"{there}link"), "127.0.0.1/go": (302, {"Location": f"{there}gone"}),
        "127.0.0.2/link": b"", "127.0.0.2/gone": b"",
    }  # fmt: skip
    identity = Identity(
        allow_private=True, headers=(("X-Client", "plain"), ("X-Api-Key", "env:SQSPIDER_SECRET_TOKEN")),
        cookies=(("sid", "env:SQSPIDER_SECRET_COOKIE"),), login="joe:env:SQSPIDER_SECRET_PASSWORD",
        origins=(host.url.rstrip("/"),),
    )  # fmt: skip
    crawl = await made(frontier, identity=identity)
    await put_in(frontier, crawl, host.url, there)
    await work(frontier, allowed=allowed_for(*identity.origins), secrets=Secrets(ENVIRONMENT))
    basic = "Basic " + base64.b64encode(f"joe:{PASSWORD}".encode()).decode()
    told = {
        (asked.host, *(asked.headers[name] for name in ("X-Client", "X-Api-Key", "Cookie", "Authorization")))
        for asked in host.requests
    }
    assert told == {
        ("127.0.0.1", "plain", TOKEN, f"sid={COOKIE}", basic),
        ("127.0.0.2", None, None, None, None),
    }  # fmt: skip
    assert {"/gone", "/link"} <= set(host.paths)


async def test_a_cookie_of_a_wall_goes_along_with_the_crawls_own(frontier: Frontier, host: Site) -> None:
    def wall(asked: Asked) -> Answer:
        is_known = "seen=1" in (asked.headers["Cookie"] or "")
        return b"" if is_known else (302, {"Location": "/", "Set-Cookie": "seen=1"})

    host.bodies = {"/": wall}
    identity = Identity(
        allow_private=True, cookies=(("sid", "env:SQSPIDER_SECRET_COOKIE"),), origins=(host.url.rstrip("/"),)
    )
    await put_in(frontier, await made(frontier, identity=identity), host.url)
    await work(frontier, allowed=allowed_for(*identity.origins), secrets=Secrets(ENVIRONMENT))
    assert host.requests[-1].headers.get_all("Cookie") == [f"sid={COOKIE}; seen=1"]


def forged(**fields: Any) -> Identity:
    """As no check of ours has seen it: from a table to which somebody else can write."""
    identity = Identity(allow_private=True)
    for name, value in fields.items():
        msgspec.structs.force_setattr(identity, name, value)
    return identity


@pytest.mark.parametrize(
    "reference",
    [
        "env:AWS_SECRET_ACCESS_KEY",
        "file:../outside",
        "file:link",
        "file:/etc/passwd",
        "env:SQSPIDER_SECRET_NO",
        "literal",
    ],
)
async def test_a_stranger_gets_no_secret_that_is_not_for_crawls(host: Site, tmp_path: Path, reference: str) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (tmp_path / "outside").write_text("outside-secret")
    (folder / "link").symlink_to(tmp_path / "outside")
    frontier = MemoryFrontier(MemoryStore(), FrontierSettings(), clock=time.time)
    identity = forged(bearer=reference, origins=(host.url.rstrip("/"),))
    await put_in(frontier, await made(frontier, identity=identity), host.url)
    allowed = allowed_for(*identity.origins)
    await work(frontier, allowed=allowed, secrets=Secrets(ENVIRONMENT, str(folder)))
    assert not host.requests
    assert (await frontier.counts()).by_status[Status.QUEUED] == 1


async def test_a_stranger_sends_no_secret_to_himself(frontier: Frontier, host: Site) -> None:
    """A row may name a secret of the worker's; where it goes is for the worker's start to say."""
    there = host.url_of("127.0.0.2")
    identity = Identity(allow_private=True, bearer="env:SQSPIDER_SECRET_TOKEN", origins=(there.rstrip("/"),))
    await put_in(frontier, await made(frontier, identity=identity), there)
    await work(frontier, allowed=allowed_for(host.url.rstrip("/")), secrets=Secrets(ENVIRONMENT))
    assert not host.requests


async def test_crawls_that_fetch_otherwise_share_no_connection(frontier: Frontier) -> None:
    """What was connected to for one is not there for another that may not connect."""
    site = Site(keeps_connections=True)
    try:
        site.bodies = {"/a": b"", "/b": b""}
        url = site.url_of("localhost")
        await put_in(frontier, await made(frontier, "may"), f"{url}a")
        async with working(frontier):
            await until(lambda: "/a" in site.paths)
            await put_in(frontier, await made(frontier, "may-not", identity=Identity()), f"{url}b")
            while (await frontier.counts(crawl="may-not")).open:
                await asyncio.sleep(0.01)
        (record,) = (await records_of(frontier, "may-not")).values()
        assert record.outcome is not None
        assert record.outcome.reason is Reason.PRIVATE_ADDRESS
        assert "/b" not in site.paths
    finally:
        site.close()


def everything_below(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("log_format", ["console", "json"])
async def test_planted_secrets_are_nowhere(
    tmp_path: Path, host: Site, capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    """Not in the file (rows, records, messages), nor in logs of any level, tracebacks, or what is shown of a row."""
    host.bodies = {"/": page("a", "b"), "/a": (500, {}), "/b": b""}
    origin = host.url.rstrip("/")
    identity = Identity(
        allow_private=True, headers=(("X-Api-Key", "env:SQSPIDER_SECRET_TOKEN"),), origins=(origin,),
        cookies=(("sid", "env:SQSPIDER_SECRET_COOKIE"),), login="joe:env:SQSPIDER_SECRET_PASSWORD",
    )  # fmt: skip
    start_logging("debug", log_format)
    frontier = await open_frontier(f"sqlite:{tmp_path / 'f.db'}", FrontierSettings(), clock=time.time)
    crawl = await made(frontier, identity=identity)
    await put_in(frontier, crawl, host.url)
    await frontier.send([encode_message(Message(url=f"{host.url}b?x", crawl=crawl.ref))])

    class Fails:
        """What goes wrong with what was sent in hand."""

        gather_seconds = 0.0
        most_bytes = 1_000_000

        def note(self, capture: Capture) -> None:
            """Nothing that is noted ends in ``b``."""

        async def keep(self, captures: Sequence[Capture]) -> Sequence[None]:
            for capture in captures:
                exchange = capture.fetched.exchange
                assert exchange is not None
                if capture.url.endswith("b"):
                    raise RuntimeError(f"cannot keep {exchange.request.headers!r}: {exchange.request.headers}")
            return [None] * len(captures)

        def has(self, place: CapturePlace) -> bool:
            return bool(place.file)

        async def close(self) -> None:
            """Nothing is open."""

    worker = await work(
        frontier, replace(AT_HOME, captures=True), allowed=allowed_for(origin), secrets=Secrets(ENVIRONMENT),
        store=Fails(), options=replace(OPTIONS, batch_size=1),
    )  # fmt: skip
    shown = [repr(await frontier.crawls()), repr(await records_of(frontier)), repr(vars(worker))]
    await frontier.close()
    assert all(TOKEN in (asked.headers["X-Api-Key"] or "") for asked in host.requests)
    told = capsys.readouterr()
    assert "Traceback" in told.out + told.err
    basic = base64.b64encode(f"joe:{PASSWORD}".encode()).decode()
    for secret in (TOKEN, COOKIE, PASSWORD, basic, json.dumps(PASSWORD)[1:-1], repr(PASSWORD)[1:-1]):
        assert secret not in told.out + told.err
        assert secret not in "".join(shown)
        assert secret.encode() not in everything_below(tmp_path)


async def test_trouble_of_a_proxy_is_that_of_its_crawl_alone(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page("a"), "/a": b""}
    proxy = "http://127.0.0.1:9"  # nobody is there
    behind = await made(frontier, "behind", identity=Identity(allow_private=True, proxy=proxy))
    await put_in(frontier, behind, *(f"{host.url}x{number}" for number in range(5)))
    async with working(frontier, allowed=Allowed.by(AT_HOME, proxies=(proxy,))) as worker:
        await until(lambda: worker.tally.retried + worker.tally.deferred)
        assert worker.trouble is None
        await put_in(frontier, await made(frontier), host.url)
        while (await frontier.counts(crawl="news")).by_status[Status.DONE] < 2:
            await asyncio.sleep(0.05)
        assert (await frontier.counts(crawl="behind")).open == 5
