"""A crawl in Python is the crawl of a name: it goes on as it was, is changed by what is said, and mixes with no other."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import sqspider
from sqspider.crawl_row import Crawl, CrawlRef, Identity, State
from sqspider.frontier import Entry, Frontier, FrontierSettings, open_frontier
from sqspider.message import Message, encode_message
from sqspider.orders import consent
from sqspider.orders.said import with_names_of, with_said
from sqspider.record import Reason
from sqspider.work.crawl_orders import ChangedMeanwhileError, change_crawl, crawl_named, make_crawl
from sqspider.work.crawls import others_wait
from tests.sites import Site

BASE: dict[str, Any] = {"delay_seconds": 0, "allow_private": True}


@pytest.fixture
def site() -> Iterator[Site]:
    """A line of pages, each of which links to the next."""
    site = Site()
    site.bodies = {f"/{name}": f'<a href="/{name + 1}">x</a>'.encode() for name in range(1, 6)}
    site.bodies |= {"/": b'<a href="/1">x</a>', "/robots.txt": b""}
    yield site
    site.close()


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"sqlite:{tmp_path}/f.db"


async def opened(address: str) -> Frontier:
    return await open_frontier(address, FrontierSettings(), clock=time.time)


def row_in(address: str, name: str = "default", **changes: Any) -> Crawl:
    """The row of a crawl, changed by somebody else or as it is."""

    async def look() -> Crawl:
        frontier = await opened(address)
        row = await crawl_named(frontier, name)
        assert row is not None
        row = await change_crawl(frontier, row, lambda row: msgspec.structs.replace(row, **changes))
        await frontier.close()
        return row

    return asyncio.run(look())


def crawled(site: Site, *urls: str, **more: Any) -> list[str]:
    """The names of the pages of a crawl."""
    return [page.url.removeprefix(site.url) for page in sqspider.crawl(*urls, **more)]


def agents_of(site: Site) -> set[str]:
    return {asked.headers.get("user-agent", "") for asked in site.requests if asked.path != "/robots.txt"}


# Going on, and changing.


def test_without_a_word_it_goes_on_exactly_as_before(site: Site, address: str) -> None:
    pages = sqspider.crawl(site.url, depth=2, user_agent="Bot/1", frontier=address, **BASE)
    for _ in pages:
        pages.stop()
    made = row_in(address)
    assert crawled(site, frontier=address) == ["1", "2"]
    assert row_in(address) == made
    assert agents_of(site) == {"Bot/1"}


def test_what_is_said_changes_it_and_nothing_else_does(site: Site, address: str) -> None:
    assert crawled(site, site.url, depth=1, user_agent="Bot/1", frontier=address, **BASE) == ["", "1"]
    before = row_in(address)
    assert crawled(site, frontier=address, depth=3) == ["1", "2", "3"]  # the page at the old limit is gone into again
    after = row_in(address)
    assert (after.settings.max_depth, after.widening) == (3, None)
    assert (after.id, after.identity, after.settings.delay_seconds) == (before.id, before.identity, 0.0)
    assert crawled(site, frontier=address, depth=None) == ["3", "4", "5", "6"]
    assert row_in(address).settings.max_depth is None


def test_other_urls_with_other_arguments_are_refused_while_it_is_not_finished(site: Site, address: str) -> None:
    pages = sqspider.crawl(site.url, depth=1, frontier=address, **BASE)
    for _ in pages:
        pages.stop()
    before = row_in(address)
    with pytest.raises(ValueError, match=r"^urls: the crawl default is not finished, .*depth 1 → 4.*crawl=\.\.\."):
        crawled(site, f"{site.url}3", frontier=address, depth=4)
    assert row_in(address) == before
    assert crawled(site, f"{site.url}3", frontier=address, depth=4, crawl="other", **BASE)[0] == "3"


def test_a_crawl_that_rests_is_run_by_a_loop(site: Site, address: str) -> None:
    assert crawled(site, site.url, depth=0, frontier=address, **BASE) == [""]
    row_in(address, state=State.PAUSED)
    assert crawled(site, frontier=address, depth=1) == ["", "1"]
    assert row_in(address).state is State.RUNNING


def test_a_name_that_no_crawl_has_is_told(site: Site, address: str) -> None:
    crawled(site, site.url, depth=0, frontier=address, **BASE)
    with pytest.raises(ValueError, match=r"^urls: none was given, and .* holds no crawl news\. There are: default\."):
        crawled(site, frontier=address, crawl="news")


def test_a_row_that_asks_for_more_than_was_said_here_is_not_run(
    site: Site, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crawled(site, site.url, depth=0, frontier=address, **BASE)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    with pytest.raises(ValueError, match=r"^crawl: default asks for allow_private=True, and nobody said so"):
        crawled(site, frontier=address, depth=1)
    assert crawled(site, frontier=address, depth=1, allow_private=True) == ["", "1"]


def test_in_python_what_is_asked_for_is_told_as_arguments() -> None:
    wanted = row_in_memory(
        allow_private=True, proxy="http://h:1", login="me:env:SQSPIDER_SECRET_P", send_to=["http://a"]
    )
    assert consent.asked_in_python(wanted.identity) == "allow_private=True, proxy='http://h:1', send_to=['http://a']"


def row_in_memory(**arguments: Any) -> Crawl:
    return sqspider.crawl("http://a/", **arguments)._row


def test_it_is_visited_again(site: Site, address: str) -> None:
    assert crawled(site, site.url, depth=1, frontier=address, **BASE) == ["", "1"]
    assert crawled(site, frontier=address, again=True, older_than_seconds=3600.0) == []
    assert sorted(crawled(site, frontier=address, again=True)) == ["", "1"]


def test_a_limit_of_pages_is_of_this_run(site: Site, address: str) -> None:
    assert crawled(site, site.url, max_pages=2, frontier=address, **BASE) == ["", "1"]
    assert crawled(site, max_pages=2, frontier=address) == ["2", "3"]
    assert crawled(site, limit_pages=4, frontier=address) == []
    assert crawled(site, limit_pages=None, frontier=address) == ["4", "5", "6"]


# Several crawls, several processes.


def test_two_crawls_in_one_file_do_not_mix_their_pages(site: Site, address: str) -> None:
    """Even where both have pages to be had at once: what is another's is left to that."""
    news = sqspider.crawl(f"{site.url}3", crawl="news", frontier=address, **BASE)
    shop = sqspider.crawl(site.url, f"{site.url}1", crawl="shop", depth=0, frontier=address, **BASE)
    of_news, of_shop = [], []
    for page in news:
        of_news.append(page.url)
        if len(of_news) == 1:
            of_shop += [page.url for page in shop]
    assert of_news == [f"{site.url}{name}" for name in (3, 4, 5, 6)]
    assert sorted(of_shop) == [site.url, f"{site.url}1"]
    assert (news.status().total, shop.status().total) == (4, 2)


async def test_messages_of_others_are_not_touched(site: Site, address: str) -> None:
    """Also those that name no crawl, and those of a crawl that is not there."""
    frontier = await opened(address)
    other = Crawl(name="other", id="1")
    assert await frontier.save_crawl(other)
    urls = [f"{site.url}{name}" for name in ("1", "2")]
    await frontier.enqueue([Entry(url=urls[0], crawl=other.ref), Entry(url=urls[1])])
    await frontier.send([encode_message(Message(url=f"{site.url}4", crawl=CrawlRef("gone", "2")))])
    pages = [page.url async for page in sqspider.crawl(f"{site.url}3", depth=0, crawl="mine", frontier=address, **BASE)]
    assert pages == [f"{site.url}3"]
    assert set(site.paths) == {"/robots.txt", "/3"}
    records = {record.url: record async for batch in frontier.scan() for record in batch}
    assert [(records[url].status, records[url].attempt, records[url].tries) for url in urls] == [("queued", 0, 0)] * 2
    queue = await frontier.queue_stats()
    assert (queue.visible, queue.in_flight, queue.delayed) == (3, 0, 0)
    await frontier.close()


def test_the_more_there_are_of_others_the_longer_they_are_put_off() -> None:
    """Fifty thousand of them are looked at so seldom that there is time for one's own."""
    assert [others_wait(number) for number in (1, 250, 5000, 50_000)] == [5.0, 5.0, 100.0, 600.0]


SHARED = textwrap.dedent("""
    import sys, sqspider

    sys.stdin.readline()
    for page in sqspider.crawl(
        sys.argv[1], crawl="news", delay_seconds=0, allow_private=True, depth=3, frontier=sys.argv[2],
        bearer=sqspider.Secret("hunter22"), headers={"X-Api-Key": sqspider.Secret("key-of-it")},
        login=None, cookies={"a": sqspider.Secret("crumb")},
    ):
        print(page.url)
""")


def test_processes_that_begin_a_crawl_at_once_share_it(site: Site, address: str) -> None:
    """Each is given the same order: that another was first is no trouble, and that each has the secrets by names of its
    own changes no row."""
    command = [sys.executable, "-c", SHARED, site.url, address]
    ones = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        for one in ones:
            assert one.stdin is not None
            one.stdin.write("\n")
            one.stdin.flush()
        seen = [url for one in ones for url in one.communicate(timeout=120)[0].split()]
    finally:
        for one in ones:
            one.kill()
            one.wait()
    assert [one.returncode for one in ones] == [0, 0, 0]
    assert sorted(seen) == [site.url, *(f"{site.url}{name}" for name in (1, 2, 3))]
    asked = [asked.headers for asked in site.requests]
    shown = {(it.get("authorization"), it.get("x-api-key"), it.get("cookie")) for it in asked}
    assert shown == {("Bearer hunter22", "key-of-it", "a=crumb")}
    assert row_in(address, "news").is_as_made


@pytest.mark.parametrize("is_same", [True, False])
def test_of_two_who_make_a_crawl_at_once_one_is_told_if_they_say_different_things(
    site: Site, address: str, monkeypatch: pytest.MonkeyPatch, is_same: bool
) -> None:
    from sqspider.orders import order

    make = make_crawl

    async def after_another(frontier: Frontier, row: Crawl) -> Crawl:
        settings = row.settings if is_same else msgspec.structs.replace(row.settings, max_depth=4)
        identity = msgspec.structs.replace(row.identity, bearer=f"process:{'0' * 32}")  # as that process has it
        other = msgspec.structs.replace(row, id="abc", settings=settings, identity=identity)
        assert await frontier.save_crawl(other)
        return await make(frontier, row)

    monkeypatch.setattr(order, "make_crawl", after_another)
    said = {**BASE, "bearer": sqspider.Secret("hunter22")}
    if is_same:
        assert crawled(site, site.url, depth=0, frontier=address, **said) == [""]
        assert row_in(address).id == "abc"
        assert {asked.headers.get("authorization") for asked in site.requests} == {"Bearer hunter22"}
    else:
        with pytest.raises(ChangedMeanwhileError, match="changed by somebody else"):
            crawled(site, site.url, depth=0, frontier=address, **said)


# Adding.


def test_what_is_added_is_a_seed_of_the_crawl(address: str, site: Site) -> None:
    """Its links are within the scope that is measured from it, too; and it is of the crawl."""
    other = Site()
    other.bodies = {"/": b'<a href="/leaf">x</a>', "/leaf": b"", "/robots.txt": b""}
    pages = sqspider.crawl(site.url, depth=1, crawl="news", frontier=address, **BASE)
    seen = []
    for page in pages:
        seen.append(page.url)
        if page.url == site.url:
            pages.add(other.url, meta={"a": 1})
    other.close()
    assert sorted(seen) == sorted([site.url, f"{site.url}1", other.url, f"{other.url}leaf"])
    assert pages.status().total == 4


def test_a_crawl_can_begin_with_what_is_added(site: Site, address: str) -> None:
    pages = sqspider.crawl(crawl="news", depth=0, frontier=address, **BASE)
    pages.add(f"{site.url}2")
    assert [page.url for page in pages] == [f"{site.url}2"]
    assert row_in(address, "news").settings.max_depth == 0


# Secrets.


@pytest.mark.parametrize("how", ["Secret", "env", "file"])
def test_who_logs_in_shows_it_to_his_own_origin_alone(
    site: Site, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    other = Site()
    other.bodies = {"/": b"", "/robots.txt": b""}
    site.bodies["/"] = f'<a href="{other.url}">x</a>'.encode()
    monkeypatch.setenv("SQSPIDER_SECRET_TOKEN", "hunter22")
    (tmp_path / "token").write_text("hunter22\n")
    token = {"Secret": sqspider.Secret("hunter22"), "env": "env:SQSPIDER_SECRET_TOKEN", "file": "file:token"}[how]
    said = {"bearer": token, "secrets": str(tmp_path), "scope": "any", "depth": 1}
    assert len(crawled(site, site.url, frontier=address, **said, **BASE)) == 2
    shown = {asked.headers.get("authorization") for asked in site.requests}
    assert "Bearer hunter22" in shown
    assert {asked.headers.get("authorization") for asked in other.requests} == {None}
    other.close()
    assert not any(b"hunter22" in file.read_bytes() for file in tmp_path.glob("f.db*"))


def test_without_its_secret_a_crawl_does_not_begin(site: Site, address: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^bearer: the environment has no SQSPIDER_SECRET_ABSENT"):
        crawled(site, site.url, bearer="env:SQSPIDER_SECRET_ABSENT", frontier=address, **BASE)
    assert list(tmp_path.glob("f.db*")) == []
    secret = sqspider.Secret("hunter22")
    crawled(site, site.url, depth=0, bearer=secret, frontier=address, **BASE)
    gone = row_in(address)
    gone = row_in(address, identity=msgspec.structs.replace(gone.identity, bearer=f"process:{'a' * 32}"))
    consent.allow(gone)
    with pytest.raises(ValueError, match=r"^bearer: a secret was given to another process of Python.*: say it again"):
        crawled(site, frontier=address)
    said = row_in(address).identity
    assert crawled(site, site.url, depth=1, bearer=secret, frontier=address) == ["", "1"]
    assert row_in(address).identity == said
    row_in(address, identity=msgspec.structs.replace(said, origins=("https://e.com",)))
    with pytest.raises(ValueError, match=r"^crawl: default asks for .*send_to=\['https://e.com'\]"):
        crawled(site, site.url, bearer=secret, frontier=address)


def test_a_secret_that_is_said_elsewhere_changes_the_row() -> None:
    ours, theirs, row = sqspider.Secret("hunter22"), f"process:{'0' * 32}", Crawl(name="news", id="1")
    identity = Identity(login=f"me:{theirs}", headers=(("X-Key", theirs),), origins=("https://e.com",))
    row = msgspec.structs.replace(row, identity=identity)
    for said, is_same in (
        ({"login": f"me:{ours}"}, True),
        ({"login": f"you:{ours}"}, False),
        ({"login": "me:env:SQSPIDER_SECRET_X"}, False),
        ({"login": f"me:process:{'1' * 32}"}, False),  # which nobody gave
        ({"header": (("X-Key", str(ours)),)}, True),
        ({"header": (("X-Other", str(ours)),)}, False),
    ):
        assert (with_said(row, with_names_of(said, row)) == row) == is_same, said


# Without a row.


async def test_loose_records_go_on_by_what_is_said(site: Site, address: str) -> None:
    frontier = await opened(address)
    await frontier.enqueue([Entry(url=site.url_of("127.0.0.2"))])
    await frontier.close()
    (page,) = [page async for page in sqspider.crawl(frontier=address)]
    assert page.reason is Reason.PRIVATE_ADDRESS
    frontier = await opened(address)
    await frontier.enqueue([Entry(url=f"{site.url}2")])
    assert await frontier.crawls() == []
    await frontier.close()
    pages = [page async for page in sqspider.crawl(frontier=address, user_agent="Bot/2", **BASE)]
    assert [page.url for page in pages] == [f"{site.url}2"]
    assert agents_of(site) == {"Bot/2"}
