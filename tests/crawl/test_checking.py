"""`--check-external`: what lies outside of a crawl is asked once whether it is there, and never gone into."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec
import pytest

from sqspider.frontier import Frontier
from sqspider.host_trouble import FAILURES_TO_REST
from sqspider.politeness import Politeness, Request
from sqspider.record import Reason, UrlRecord
from sqspider.url import Scope
from sqspider.web.fetch import Fetched, Fetcher
from sqspider.widening import widened
from sqspider.work.widening import bring_back
from tests.conftest import Run
from tests.crawl.crawl_rows import AT_HOME, SETTINGS, changed, made, page, put_in, records_of, row_of, work, working
from tests.sites import Answer, Asked, Site

replace = msgspec.structs.replace
CHECKING: Final = replace(SETTINGS, check_external=True, obey_robots=False)
HTML: Final = {"Content-Type": "text/html", "ETag": '"1"'}


def ends(records: dict[str, UrlRecord]) -> dict[str, tuple[str, bool]]:
    """How records ended, by URL; and whether they were only checked."""
    return {
        record.url: (record.outcome.reason or record.status.value, record.outcome.checked)
        for record in records.values()
        if record.outcome is not None
    }


def asked_of(host: Site, name: str = "127.0.0.2") -> list[tuple[str, str]]:
    return [(asked.method, asked.path) for asked in host.requests if asked.host == name]


def refusing(answer: Answer, refusal: Answer | None) -> Callable[[Asked], Answer | None]:
    """An answer to GET; to HEAD another one, or none: it hangs up."""
    return lambda asked: answer if asked.method == "GET" else refusal


async def test_what_lies_outside_is_asked_for_once_and_not_gone_into(frontier: Frontier, host: Site) -> None:
    away = host.url_of("127.0.0.2")
    host.bodies = {
        "127.0.0.1/": page("a", f"{away}x", f"{away}gone", f"{away}old/x", f"{away}moved"),
        "127.0.0.1/a": page(f"{away}x", f"{away}deeper") + f"<a rel=nofollow href={away}n>n</a>".encode(),
        "127.0.0.2/x": page(f"{away}y", "/z", f"{host.url}b"),
        "127.0.0.2/moved": (302, {"Location": f"{away}target"}),
        "127.0.0.2/target": page(f"{away}never"),
        "127.0.0.2/deeper": (200, {"Content-Type": "application/pdf"}),
    }
    settings = replace(CHECKING, exclude=("/old/",), include=("127.0.0.1",), max_depth=1)
    await put_in(frontier, await made(frontier, settings=settings), host.url)
    await work(frontier)
    records = await records_of(frontier)
    assert ends(records) == {
        host.url: ("done", False),
        f"{host.url}a": ("done", False),
        f"{away}x": ("done", True),
        f"{away}gone": ("client_error", True),
        f"{away}moved": ("done", True),
        f"{away}target": ("done", True),
        f"{away}deeper": ("done", True),  # the deepest page links to it
    }
    assert Counter(asked_of(host)) == Counter(
        {("HEAD", "/x"): 1, ("HEAD", "/gone"): 1, ("GET", "/gone"): 1, ("HEAD", "/moved"): 1, ("HEAD", "/target"): 1,
         ("HEAD", "/deeper"): 1}
    )  # fmt: skip
    outcome = records[f"@news {away}deeper"].outcome
    assert outcome is not None
    assert (outcome.http_status, outcome.content_type, outcome.bytes, outcome.digest) == (
        200,
        "application/pdf",
        0,
        None,
    )


@pytest.mark.parametrize(
    ("answer", "refusal", "ended"),
    [
        (b"x", (405, {}), "done"),
        (b"x", (404, {}), "done"),
        (b"x", (501, {}), "done"),
        (b"x", (304, {}), "done"),
        (b"x", None, "done"),
        ((404, {}), (200, {}), "done"),  # that is believed
        ((410, {}), (403, {}), "client_error"),
        ((302, {"Location": "/on"}), (400, {}), "done"),
    ],
)
async def test_a_refusal_is_believed_of_a_get_alone(
    frontier: Frontier, host: Site, answer: Answer, refusal: Answer | None, ended: str
) -> None:
    away = host.url_of("127.0.0.2")
    host.bodies = {"127.0.0.1/": page(f"{away}x"), "127.0.0.2/x": refusing(answer, refusal), "127.0.0.2/on": b"on"}
    await put_in(frontier, await made(frontier, settings=CHECKING), host.url)
    await work(frontier)
    assert ends(await records_of(frontier))[f"{away}x"] == (ended, True)
    asked = [method for method, path in asked_of(host) if path == "/x"]
    assert asked == (["HEAD"] if refusal == (200, {}) else ["HEAD", "GET"])
    row = (await frontier.hosts(["127.0.0.2"]))["127.0.0.2"]
    assert row.rests == 0, "that a server knows no HEAD is no trouble of its host's"


@pytest.mark.parametrize(
    ("asked", "rests"),
    [
        ("H" * FAILURES_TO_REST, 0),
        ("G" * FAILURES_TO_REST, 1),
        ("GH" * (FAILURES_TO_REST - 1) + "G", 1),  # that a HEAD was answered is no sign that the host is well
    ],
)
async def test_many_refusals_of_head_say_nothing_of_a_host(
    frontier: Frontier, host: Site, asked: str, rests: int
) -> None:
    """However many come one after another."""
    away, refusal = host.url_of("127.0.0.2"), Fetched(
        url="", http_status=500, headers=(), body=b"", truncated=False, reason=Reason.SERVER_ERROR, detail="",
        elapsed_seconds=0.1, sent_seconds=0.0,
    )  # fmt: skip
    heads = iter(asked)

    async def fetch(url: str, **_: object) -> Fetched:
        return replace(refusal, url=url, is_head=next(heads) == "H")

    async with Fetcher(AT_HOME, connections=1) as fetcher:
        politeness = Politeness(
            frontier, fetcher, clock=frontier.now, rng=random.Random(1), stopping=asyncio.Event(), request_seconds=5.0,
            robots_grace_seconds=1.0, linger_seconds=0.0,
        )  # fmt: skip
        agent = politeness.own._replace(fetch=fetch)
        for number in range(len(asked)):
            await politeness.fetch(Request(f"{away}{number}", CHECKING, agent=agent))
        await politeness.close()
    assert (await frontier.hosts(["127.0.0.2"]))["127.0.0.2"].rests == rests


async def test_of_a_body_that_comes_all_the_same_nothing_is_read(frontier: Frontier, host: Site) -> None:
    away = host.url_of("127.0.0.2")
    large = b"x" * 5_000_000
    host.bodies = {"127.0.0.1/": page(f"{away}x"), "127.0.0.2/x": refusing(large, (405, {}))}
    await put_in(frontier, await made(frontier, settings=CHECKING), host.url)
    await work(frontier)
    outcome = (await records_of(frontier))[f"@news {away}x"].outcome
    assert outcome is not None
    assert (outcome.status, outcome.bytes, outcome.digest, outcome.truncated) == ("done", 0, None, False)


async def test_what_is_checked_behind_a_cookie_wall_is_there(frontier: Frontier, host: Site) -> None:
    away = host.url_of("127.0.0.2")
    host.bodies = {
        "127.0.0.1/": page(f"{away}self"),
        "127.0.0.2/self": lambda asked: (
            b"in" if asked.headers["Cookie"] else (302, {"Location": "/self", "Set-Cookie": "seen=1; Path=/"})
        ),
    }  # fmt: skip
    await put_in(frontier, await made(frontier, settings=CHECKING), host.url)
    await work(frontier)
    assert ends(await records_of(frontier))[f"{away}self"] == ("done", True)
    assert asked_of(host) == [("HEAD", "/self")] * 2


async def test_robots_and_guards_hold_for_it(frontier: Frontier, host: Site) -> None:
    away = host.url_of("127.0.0.2")
    host.bodies = {
        "127.0.0.1/": page(f"{away}x", f"{away}private/x", "http://127.0.0.3:22/"),
        "127.0.0.2/robots.txt": b"User-agent: *\nDisallow: /private/", "127.0.0.2/x": b"x",
    }  # fmt: skip
    await put_in(frontier, await made(frontier, settings=replace(CHECKING, obey_robots=True)), host.url)
    await work(frontier)
    found = ends(await records_of(frontier))
    assert found[f"{away}private/x"] == ("robots", False)
    assert found["http://127.0.0.3:22/"][0] == "bad_port"
    assert asked_of(host) == [("GET", "/robots.txt"), ("HEAD", "/x")]


async def test_a_page_alone_has_all_of_its_links_checked(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page("a", "b"), "/a": page("c"), "/b": (302, {"Location": "/d"}), "/d": page("e")}
    settings = replace(CHECKING, scope=Scope.PAGE, max_depth=0)
    await put_in(frontier, await made(frontier, settings=settings), host.url)
    await work(frontier)
    assert ends(await records_of(frontier)) == {
        host.url: ("done", False), f"{host.url}a": ("done", True), f"{host.url}b": ("done", True),
        f"{host.url}d": ("done", True),
    }  # fmt: skip
    assert Counter(asked_of(host, "127.0.0.1")) == Counter(
        [("GET", "/"), ("HEAD", "/a"), ("HEAD", "/b"), ("HEAD", "/d")]
    )


async def test_what_redirects_into_the_crawl_leads_there(frontier: Frontier, host: Site) -> None:
    away = host.url_of("127.0.0.2")
    host.bodies = {
        "127.0.0.1/": page("a", f"{away}in"), "127.0.0.1/a": page(f"{away}deep"), "127.0.0.1/b": page("c"),
        "127.0.0.2/in": (302, {"Location": f"{host.url}b"}), "127.0.0.2/deep": (302, {"Location": f"{host.url}e"}),
    }  # fmt: skip
    await put_in(frontier, await made(frontier, settings=replace(CHECKING, max_depth=1)), host.url)
    await work(frontier)
    found = ends(await records_of(frontier))
    assert found[f"{host.url}b"] == ("done", False)
    assert f"{host.url}e" not in found, "a page would be too deep there"
    assert found[f"{away}deep"] == ("done", True)


async def test_a_nearer_way_to_a_page_is_one_to_what_is_checked_of_it(frontier: Frontier, host: Site) -> None:
    """Where that redirects into the crawl, it may be near enough by now."""
    away = host.url_of("127.0.0.2")
    host.bodies = {
        "127.0.0.1/": page("a"), "127.0.0.1/a": page("b"), "127.0.0.1/near": page("b"),
        "127.0.0.1/b": page(f"{away}in", f"{away}x"), "127.0.0.1/c": b"c", "127.0.0.2/x": b"x",
        "127.0.0.2/in": (302, {"Location": f"{away}on"}), "127.0.0.2/on": (302, {"Location": f"{host.url}c"}),
    }  # fmt: skip
    crawl = await made(frontier, settings=replace(CHECKING, max_depth=2))
    await put_in(frontier, crawl, host.url)
    await work(frontier)
    records = await records_of(frontier)
    assert {name: records[f"@news {away}{name}"].depth for name in ("in", "on", "x")} == {"in": 3, "on": 3, "x": 3}
    assert f"@news {host.url}c" not in records
    await put_in(frontier, crawl, f"{host.url}near")
    await work(frontier)
    records = await records_of(frontier)
    assert {name: records[f"@news {away}{name}"].depth for name in ("in", "on", "x")} == {"in": 2, "on": 2, "x": 2}
    assert ends(records)[f"{host.url}c"] == ("done", False)


@pytest.mark.parametrize("remembers", [False, True])
@pytest.mark.parametrize("is_linked", [False, True])
async def test_a_site_that_is_given_later_is_fetched_with_what_was_checked_of_it(
    frontier: Frontier, host: Site, *, remembers: bool, is_linked: bool
) -> None:
    """By the URL that was given, which was checked, or by a link to what was; also by the worker that checked it."""
    away = host.url_of("127.0.0.2")
    host.bodies = {
        "127.0.0.1/": page(away, f"{away}x"), "127.0.0.2/": page("x"), "127.0.0.2/x": page("y"), "127.0.0.2/y": b"y",
        "127.0.0.2/new": page("x"),
    }  # fmt: skip
    crawl = await made(frontier, settings=CHECKING)

    async def crawled(url: str) -> dict[str, tuple[str, bool]]:
        await put_in(frontier, crawl, url)
        if not remembers:
            await work(frontier)
        while (await frontier.counts()).open:
            await asyncio.sleep(0.01)
        return ends(await records_of(frontier))

    async def both() -> None:
        assert await crawled(host.url) == {host.url: ("done", False), away: ("done", True), f"{away}x": ("done", True)}
        found = await crawled(f"{away}new" if is_linked else away)
        assert found[f"{away}x"] == found[f"{away}y"] == ("done", False)

    if remembers:
        async with working(frontier):
            await both()
    else:
        await both()


async def test_a_wider_scope_fetches_what_was_checked_as_a_page(frontier: Frontier, host: Site) -> None:
    away = host.url_of("127.0.0.2")
    host.bodies = {
        "127.0.0.1/": page(f"{away}x", f"{away}gone"), "127.0.0.2/x": (200, HTML), "127.0.0.2/y": b"y"
    }  # fmt: skip
    await put_in(frontier, await made(frontier, settings=CHECKING), host.url)
    await work(frontier)
    host.bodies["127.0.0.2/x"] = lambda asked: (304, {}) if asked.headers["If-None-Match"] else page("y")
    before = await row_of(frontier)
    after = replace(before, settings=replace(CHECKING, scope=Scope.ANY))
    row = await changed(frontier, settings=after.settings, widening=widened(before, after, frontier.now()).widening)
    assert await bring_back(frontier, row) == (0, 0, 2)
    await work(frontier)
    assert ends(await records_of(frontier)) == {
        host.url: ("done", False), f"{away}x": ("done", False), f"{away}y": ("done", False),
        f"{away}gone": ("client_error", False),
    }  # fmt: skip


async def test_who_dies_while_it_brings_back_what_was_checked_is_gone_on_for(
    frontier: Frontier, host: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = host.url_of("127.0.0.2")
    host.bodies = {"127.0.0.1/": page(f"{away}x", f"{away}gone"), "127.0.0.2/x": page("x")}
    await put_in(frontier, await made(frontier, settings=CHECKING), host.url)
    await work(frontier)
    before = await row_of(frontier)
    after = replace(before, settings=replace(CHECKING, scope=Scope.ANY))
    row = await changed(frontier, settings=after.settings, widening=widened(before, after, frontier.now()).widening)
    reopen = frontier.reopen

    async def dying(keys: Sequence[str], **more: bool) -> list[bool]:
        await reopen(keys[:1], **more)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(frontier, "reopen", dying)
        with pytest.raises(KeyboardInterrupt):
            await bring_back(frontier, row)
    await work(frontier)  # what came back is visited before the rest comes
    assert sorted(is_checked for _, is_checked in ends(await records_of(frontier)).values()) == [False, False, True]
    assert await bring_back(frontier, await row_of(frontier)) == (0, 0, 1)
    await work(frontier)
    assert not any(is_checked for _, is_checked in ends(await records_of(frontier)).values())


async def test_what_is_kept_that_lies_outside_is_checked_once_that_is_asked_for(frontier: Frontier, host: Site) -> None:
    away = host.url_of("127.0.0.2")
    host.bodies = {"127.0.0.1/": page(f"{away}x"), "127.0.0.2/x": page("y")}
    settings = replace(CHECKING, check_external=False, keep_skipped=True)
    await put_in(frontier, await made(frontier, settings=settings), host.url)
    await work(frontier)
    assert ends(await records_of(frontier))[f"{away}x"] == ("out_of_scope", False)
    before = await row_of(frontier)
    after = replace(before, settings=replace(settings, check_external=True))
    row = await changed(frontier, settings=after.settings, widening=widened(before, after, frontier.now()).widening)
    assert await bring_back(frontier, row) == (0, 1, 0)
    await work(frontier)
    assert ends(await records_of(frontier)) == {host.url: ("done", False), f"{away}x": ("done", True)}


async def test_who_takes_pages_gets_none_of_it(host: Site, frontier: Frontier) -> None:
    away = host.url_of("127.0.0.2")
    host.bodies = {"127.0.0.1/": page("a", f"{away}x"), "127.0.0.1/a": b"a", "127.0.0.2/x": b"x"}
    await put_in(frontier, await made(frontier, settings=CHECKING), host.url)
    taken: list[str] = []

    def take(held: object) -> None:
        taken.append(held.message.url)  # type: ignore[attr-defined] # as a worker hands it over
        held.finish()  # type: ignore[attr-defined]

    await work(frontier, take=take)
    assert sorted(taken) == [host.url, f"{host.url}a"]


def test_the_command_its_archive_and_what_is_told(sqspider: Run, host: Site, tmp_path: Path) -> None:
    away = host.url_of("127.0.0.2")
    host.bodies = {"127.0.0.1/": page("a", f"{away}x", f"{away}gone"), "127.0.0.1/a": b"a", "127.0.0.2/x": page("y")}
    options = ("--allow-private", "--delay", "0", "--quiet", "--check-external")
    looked = sqspider("crawl", host.url, "--allow-private", "--delay", "0", "--check-external", "--dry-run", "--json")
    fates = {row["url"]: row["fate"] for row in map(json.loads, looked.stdout.splitlines())}
    assert fates == {f"{host.url}a": "fetched", f"{away}x": "checked", f"{away}gone": "checked"}
    assert asked_of(host) == [("GET", "/robots.txt")]
    done = sqspider("crawl", host.url, *options, "--archive", str(tmp_path / "kept"))
    assert done.returncode == 0, done.stderr
    rows = {row["url"]: row for row in map(json.loads, sqspider("export").stdout.splitlines())}
    assert {url: (row["status"], row["checked"], row["capture_file"] is None) for url, row in rows.items()} == {
        host.url: ("done", False, False), f"{host.url}a": ("done", False, False), f"{away}x": ("done", True, True),
        f"{away}gone": ("failed", True, True),
    }  # fmt: skip
    verified = sqspider("archive", "verify", "--archive", str(tmp_path / "kept"))
    assert verified.returncode == 0, verified.stdout + verified.stderr
    told = json.loads(sqspider("explain", f"{away}new", "--from", host.url, "--json").stdout)
    assert (told["fate"], told["steps"][-1]["rule"]) == ("checked", "turn")
    again = sqspider("crawl", "--again", *options, "--archive", str(tmp_path / "kept"))
    assert again.returncode == 0, again.stderr
    assert Counter(asked_of(host))[("HEAD", "/x")] == 2
    assert sqspider("archive", "verify", "--archive", str(tmp_path / "kept")).returncode == 0
