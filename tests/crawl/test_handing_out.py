"""Every page is handed out at least once, whatever becomes of who iterates: a page is finished when the next is asked."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

import sqspider
from sqspider.frontier import FrontierSettings, open_frontier
from sqspider.record import Reason, Status, UrlRecord
from sqspider.work.holding import MOST_HELD
from tests.sites import Site

PAGES = 60
LEFT_AFTER = 20


@pytest.fixture
def site() -> Iterator[Site]:
    """A page that links to pages; to one that robots.txt forbids, to one that is not there, to one that leads to a page
    and to one that leads to itself."""
    site = Site()
    odd = ("forbidden", "absent", "away", "loop")
    links = "".join(f'<a href="/{name}">x</a>' for name in (*range(PAGES), *odd))
    site.bodies = {"/": links.encode(), "/robots.txt": b"User-agent: *\nDisallow: /forbidden"}
    site.bodies |= {f"/{number}": b"leaf" for number in range(PAGES)}
    site.bodies |= {"/away": (302, {"Location": "/target"}), "/target": b"", "/loop": (302, {"Location": "/loop"})}
    yield site
    site.close()


def all_of(site: Site) -> set[str]:
    """What has to be handed out: all but the redirect."""
    return {site.url, *(f"{site.url}{name}" for name in (*range(PAGES), "forbidden", "absent", "target", "loop"))}


SCRIPT = textwrap.dedent("""
    import os, signal, sys, sqspider

    url, frontier, out, how, after = sys.argv[1:]
    with open(out, "a", buffering=1) as file:
        for number, page in enumerate(sqspider.crawl(url, delay_seconds=0, allow_private=True, frontier=frontier), 1):
            file.write(page.url + "\\n")
            if number == int(after):
                if how == "break":
                    break
                if how == "exception":
                    raise SystemExit("the user's code failed")
                os.kill(os.getpid(), signal.SIGKILL if how == "kill" else signal.SIGINT)
""")


def handed_out(site: Site, folder: Path, name: str, how: str = "", after: int = 0) -> list[str]:
    """The pages that a process got, in the order in which it did."""
    out = folder / name
    out.touch()
    arguments = (site.url, f"sqlite:{folder}/f.db", str(out), how, str(after))
    subprocess.run([sys.executable, "-c", SCRIPT, *arguments], capture_output=True, check=not how, timeout=120)
    return out.read_text().split()


def let_leases_end(path: Path) -> None:
    """As if the time had passed that a killed worker's claims hold, and its deliveries are hidden."""
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE record SET lease_until = 1 WHERE status = 1")
        connection.execute("UPDATE record SET visible_at = 1 WHERE queue = 2")
    connection.close()


def records_in(path: Path) -> list[UrlRecord]:
    async def read() -> list[UrlRecord]:
        frontier = await open_frontier(f"sqlite:{path}", FrontierSettings(), clock=time.time)
        records = [record async for batch in frontier.scan() for record in batch]
        await frontier.close()
        return records

    return asyncio.run(read())


@pytest.mark.parametrize("how", ["break", "exception", "Ctrl-C", "kill"])
def test_over_a_break_off_every_page_is_handed_out(site: Site, tmp_path: Path, how: str) -> None:
    first = handed_out(site, tmp_path, "first", how, LEFT_AFTER)
    assert len(first) == len(set(first)) == LEFT_AFTER
    open_ones = [record for record in records_in(tmp_path / "f.db") if not record.status.is_final]
    if how == "kill":
        let_leases_end(tmp_path / "f.db")
    else:  # given back, as if they had never been claimed
        assert {(it.status, it.unended, it.tries) for it in open_ones} == {(Status.QUEUED, 0, 0)}
    second = handed_out(site, tmp_path, "second")
    assert {*first, *second} == all_of(site)
    assert len(second) == len(set(second))
    again = set(first) & set(second)
    if how == "kill":  # what was finished just before may not be written yet
        assert first[-1] in again
    else:
        assert again == {first[-1]}  # that one was in hand: whether it was dealt with nobody knows
    assert handed_out(site, tmp_path, "third") == []


def test_killed_again_and_again_every_page_is_handed_out(site: Site, tmp_path: Path) -> None:
    seen: set[str] = set()
    for number in range(3):
        seen |= set(handed_out(site, tmp_path, f"{number}", "kill", LEFT_AFTER))
        let_leases_end(tmp_path / "f.db")
    seen |= set(handed_out(site, tmp_path, "last"))
    assert seen == all_of(site)


def crawl(site: Site, path: Path | None = None, **more: object) -> sqspider.Crawl:
    frontier = "sqlite::memory:" if path is None else f"sqlite:{path}"
    return sqspider.crawl(site.url, delay_seconds=0, allow_private=True, frontier=frontier, **more)  # type: ignore[arg-type]


def test_what_is_blocked_or_fails_is_handed_out_too(site: Site) -> None:
    pages = {page.url.removeprefix(site.url): page for page in crawl(site)}
    assert {site.url + name for name in pages} == all_of(site)
    forbidden, absent, loop = pages["forbidden"], pages["absent"], pages["loop"]
    assert (forbidden.status, forbidden.reason, forbidden.http_status) == (Status.BLOCKED, Reason.ROBOTS, None)
    assert (forbidden.body, forbidden.headers, forbidden.links, forbidden.text) == (b"", (), (), "")
    assert forbidden.detail == "robots.txt line 2: Disallow: /forbidden"
    assert (absent.status, absent.reason, absent.http_status) == (Status.FAILED, Reason.CLIENT_ERROR, 404)
    assert (loop.status, loop.reason) == (Status.FAILED, Reason.REDIRECT_LOOP)
    assert pages["target"].parent == f"{site.url}away"


def test_where_nothing_can_be_fetched_the_loop_says_why(site: Site) -> None:
    (page,) = sqspider.crawl(site.url)
    assert (page.url, page.status, page.reason) == (site.url, Status.BLOCKED, Reason.PRIVATE_ADDRESS)
    assert (page.http_status, page.body) == (None, b"")


@contextmanager
def killed_at_last(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        process.kill()


SHARED = textwrap.dedent("""
    import sys, sqspider

    pages = sqspider.crawl(
        sys.argv[1], delay_seconds=0, allow_private=True, concurrency=4, frontier=f"sqlite:{sys.argv[2]}"
    )
    for page in pages:
        print(page.url, flush=True)
        if sys.argv[3] == "waits":
            sys.argv[3] = sys.stdin.readline()
""")


def test_two_processes_share_the_pages_of_a_crawl(site: Site, tmp_path: Path) -> None:
    """While one of them is busy with its first page, it keeps no more than it fetched ahead from the other."""

    def begin(how: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", SHARED, site.url, f"{tmp_path}/f.db", how]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    with begin("waits") as one, killed_at_last(one):
        assert one.stdout is not None
        seen = [one.stdout.readline().strip()]
        with begin("goes on") as other, killed_at_last(other):
            assert other.stdout is not None
            seen += [other.stdout.readline().strip() for _ in range(PAGES - MOST_HELD - 10)]
            out, _ = one.communicate("go on\n")
            rest, _ = other.communicate()
    seen += out.split() + rest.split()
    assert (one.returncode, other.returncode) == (0, 0)
    assert len(seen) == len(set(seen))
    assert set(seen) == all_of(site)


# What a crawl can do beside.


def test_stopping_ends_the_loop_after_the_page_in_hand(site: Site, tmp_path: Path) -> None:
    pages = crawl(site, tmp_path / "f.db")
    seen = []
    for page in pages:
        seen.append(page.url)
        if len(seen) == LEFT_AFTER:
            pages.stop()
    assert len(seen) == LEFT_AFTER
    finished = {it.url for it in records_in(tmp_path / "f.db") if it.status.is_final and it.redirects == 0}
    assert finished - {f"{site.url}away"} == set(seen) - {f"{site.url}target"}
    assert {*seen, *(page.url for page in crawl(site, tmp_path / "f.db"))} == all_of(site)


def test_another_thread_can_stop_a_loop_that_waits(site: Site) -> None:
    asked, may_answer = threading.Event(), threading.Event()

    def held(_: object) -> bytes:
        asked.set()
        may_answer.wait()
        return b""

    site.bodies["/"] = held
    pages = crawl(site)

    def stop() -> None:
        asked.wait()
        pages.stop()
        may_answer.set()

    stopper = threading.Thread(target=stop)
    stopper.start()
    assert list(pages) == []
    stopper.join()


@pytest.mark.parametrize("where", ["in the loop", "in another thread", "before", "in async for"])
def test_urls_can_be_added(site: Site, where: str) -> None:
    site.bodies |= {"/added": b'<a href="/more">x</a>', "/more": b""}
    pages = crawl(site, depth=1)
    added, expected = f"{site.url}added", {*all_of(site), f"{site.url}added", f"{site.url}more"}

    async def in_loop() -> set[str]:
        seen = set()
        async for page in pages:
            seen.add(page.url)
            if page.url == site.url:
                pages.add(added)
        return seen

    def add(page: sqspider.Page) -> None:
        if where == "in the loop":
            pages.add(added)
        elif where == "in another thread":
            thread = threading.Thread(target=pages.add, args=(added,))
            thread.start()
            thread.join()
        assert page.depth == 0

    if where == "in async for":
        seen = asyncio.run(in_loop())
    else:
        if where == "before":
            pages.add(added)
        seen = set()
        for page in pages:
            if not seen:
                add(page)
            seen.add(page.url)
    assert seen == expected


def test_what_is_added_for_the_last_page_is_not_lost(site: Site, tmp_path: Path) -> None:
    """Not even if the loop is left then."""
    pages = crawl(site, tmp_path / "f.db", depth=0)
    for _ in pages:
        pages.add(f"{site.url}1")
        break
    assert {page.url for page in crawl(site, tmp_path / "f.db", depth=0)} == {site.url, f"{site.url}1"}


def test_what_cannot_be_crawled_cannot_be_added(site: Site) -> None:
    pages = crawl(site, depth=0)
    for _ in pages:
        with pytest.raises(ValueError, match="neither http nor https"):
            pages.add(f"{site.url}1", "ftp://example.com/")
        with pytest.raises(TypeError, match="urls: each a text"):
            pages.add([site.url])  # type: ignore[arg-type]
    assert "/1" not in site.paths


@pytest.mark.parametrize("path", ["f.db", None])
def test_a_crawl_tells_its_status(site: Site, tmp_path: Path, path: str | None) -> None:
    pages = crawl(site, tmp_path / path if path else None, depth=0)
    for _ in pages:
        assert pages.status().by_status[Status.PROCESSING] == 1
    counts = pages.status()
    assert (counts.open, counts.total) == (0, 1)


async def test_a_crawl_tells_its_status_in_an_event_loop(site: Site) -> None:
    pages = crawl(site, depth=0)
    async for _ in pages:
        with pytest.raises(RuntimeError, match="astatus"):
            pages.status()
        assert (await pages.astatus()).by_status[Status.PROCESSING] == 1
    assert (await pages.astatus()).open == 0


def test_a_handler_deals_with_each_page_and_its_error_ends_the_crawl(site: Site, tmp_path: Path) -> None:
    seen: list[str] = []

    def handle(page: sqspider.Page) -> None:
        seen.append(page.url)
        if len(seen) == LEFT_AFTER:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crawl(site, tmp_path / "f.db").run(handle)
    assert len(seen) == LEFT_AFTER
    crawl(site, tmp_path / "f.db").run(lambda page: seen.append(page.url))
    assert (set(seen), len(seen)) == (all_of(site), len(all_of(site)) + 1)

    async def handle_soon(_: sqspider.Page) -> None: ...

    with pytest.raises(TypeError, match="arun"):
        crawl(site).run(handle_soon)


async def test_an_asynchronous_handler_deals_with_each_page(site: Site, tmp_path: Path) -> None:
    seen: list[str] = []

    async def handle(page: sqspider.Page) -> None:
        await asyncio.sleep(0)
        seen.append(page.url)
        if len(seen) == LEFT_AFTER:
            raise ZeroDivisionError

    pages = crawl(site, tmp_path / "f.db")
    with suppress(ZeroDivisionError):
        await pages.arun(handle)
    assert len(seen) == LEFT_AFTER
    await pages.arun(handle)
    assert (set(seen), len(seen)) == (all_of(site), len(all_of(site)) + 1)


def test_a_page_as_text_and_its_links_with_their_words(site: Site) -> None:
    html = '<title>T</title><a rel="External nofollow" href="/1#x">The <b>f\xedrst</b>\n one</a><a href=2><img></a>'
    site.bodies["/"] = html.encode("latin-1")
    page = next(iter(crawl(site, depth=0, follow_nofollow=True)))
    assert page.text == html
    assert [str(link) for link in page.links] == [link.url for link in page.links] == [f"{site.url}1", f"{site.url}2"]
    assert [(link.text, link.rel) for link in page.links] == [("The f\xedrst one", ("external", "nofollow")), ("", ())]
