"""However a loop over the pages of a crawl is left in Python, nothing of the crawl is left behind."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import pytest

import sqspider
from sqspider.frontier import FrontierSettings, open_frontier
from sqspider.record import Status
from sqspider.threaded import _Thread
from tests.sites import Asked, Site

PAGES = 40


class Held(threading.Event):
    """A page that the site holds back until this is set."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def answer(self, _: Asked) -> bytes:
        self.asked.set()
        self.wait()
        return b"held"


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.set()


@pytest.fixture
def small_site(held: Held) -> Iterator[Site]:
    """A start page that links to pages; the page `held` is one that a test lets go."""
    site = Site()
    site.bodies["/"] = "".join(f'<a href="/{number}">x</a>' for number in range(PAGES)).encode()
    site.bodies |= {f"/{number}": b"leaf" for number in range(PAGES)}
    site.bodies["/start"] = b'<a href="/first">x</a><a href="/held">x</a>'
    site.bodies["/first"] = lambda _: b"leaf" if held.asked.wait() else None  # not before the other is under way
    site.bodies["/held"] = held.answer
    yield site
    held.set()
    site.close()


def crawl(url: str, path: Path) -> sqspider.Crawl:
    return sqspider.crawl(url, delay_seconds=0, allow_private=True, frontier=f"sqlite:{path}")


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith(("sqspider", "frontier"))}


def left_behind(path: Path) -> tuple[Counter[Status], list[str], list[Path]]:
    """The records by status, the workers that are still signed in, and the files that an open frontier has beside it."""

    async def look() -> tuple[Counter[Status], list[str]]:
        frontier = await open_frontier(f"sqlite:{path}", FrontierSettings(), clock=time.time)
        counts, workers = await frontier.counts(), await frontier.workers()
        await frontier.close()
        return Counter(counts.by_status), [row.worker_id for row in workers]

    beside = [file for file in path.parent.iterdir() if file.name.startswith(path.name) and file != path]
    return *asyncio.run(look()), beside


def assert_nothing_is_left(path: Path) -> None:
    assert threads() == set()
    records, workers, beside = left_behind(path)
    assert (records[Status.PROCESSING], workers, beside) == (0, [], [])
    assert records.total() > 0


@pytest.mark.parametrize("how", ["break", "exception", "close", "forgotten", "forgotten in a cycle", "end"])
def test_a_loop_can_be_left_in_any_way(small_site: Site, tmp_path: Path, how: str) -> None:
    pages = iter(crawl(small_site.url, tmp_path / "f.db"))
    next(pages)
    if how == "break":
        for _ in pages:
            break
        del pages, _
    elif how == "exception":
        with suppress(ZeroDivisionError):
            for _ in pages:
                raise ZeroDivisionError
        del pages, _
    elif how == "close":
        pages.close()  # type: ignore[attr-defined]
    elif how == "forgotten":
        del pages
    elif how == "forgotten in a cycle":
        cycle: list[object] = [pages]
        cycle.append(cycle)
        del pages, cycle
        gc.collect()
    else:
        assert len(list(pages)) == PAGES
    assert_nothing_is_left(tmp_path / "f.db")


def test_an_error_reaches_the_loop_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(sqspider.FrontierUnavailableError, match="there is no folder"):
        next(iter(crawl("http://127.0.0.1/", tmp_path / "absent" / "f.db")))
    with pytest.raises(ValueError, match="neither http nor https"):
        next(iter(sqspider.crawl("ftp://example.com/")))
    assert threads() == set()


def test_two_crawls_at_once_even_of_one_object(small_site: Site, tmp_path: Path) -> None:
    one, other = crawl(small_site.url, tmp_path / "f.db"), crawl(small_site.url, tmp_path / "g.db")
    assert len(list(islice(zip(one, other, strict=False), 3))) == 3
    one = crawl(small_site.url, tmp_path / "h.db")
    pages, shared = iter(one), list[str]()
    shared.append(next(pages).url)
    beside = threading.Thread(target=lambda: shared.extend(page.url for page in one))
    beside.start()  # it ends when the pages in the hands of the other are finished
    shared += [page.url for page in pages]
    beside.join()
    assert len(shared) == len(set(shared)) == PAGES + 1
    for name in ("f.db", "g.db", "h.db"):
        assert_nothing_is_left(tmp_path / name)


@pytest.mark.parametrize("how", ["break", "exception", "timeout", "kept to the end", "for in async def"])
def test_within_an_event_loop(small_site: Site, held: Held, tmp_path: Path, how: str) -> None:
    async def leave() -> object:
        pages = crawl(small_site.url_of("127.0.0.1") + "start" * (how == "timeout"), tmp_path / "f.db")
        if how == "break":
            async for _ in pages:
                break
        elif how == "exception":
            async for _ in pages:
                raise ZeroDivisionError
        elif how == "timeout":
            async with asyncio.timeout(None) as timeout:
                async for page in pages:
                    if page.url.endswith("/first"):
                        timeout.reschedule(asyncio.get_running_loop().time())
                        held.set()
        elif how == "kept to the end":
            kept = aiter(pages)
            await anext(kept)
            return kept
        else:
            for _ in pages:
                break
        return None

    errors = {"exception": ZeroDivisionError, "timeout": TimeoutError}
    if how in errors:
        with pytest.raises(errors[how]):
            asyncio.run(leave())
    else:
        asyncio.run(leave())
    gc.collect()
    assert threads() == set()
    _, workers, beside = left_behind(tmp_path / "f.db")
    assert (workers, beside) == ([], [])


def run_script(text: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(text), *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


INTERRUPTED = """
    import itertools, signal, sys, threading, sqspider

    def interrupt_while(in_function):  # Ctrl-C, once the main thread stands in a function
        def look(_, frame):
            while frame is not None and frame.f_code.co_name != in_function:
                frame = frame.f_back
            if frame is not None:
                signal.setitimer(signal.ITIMER_REAL, 0)
                print("Ctrl-C", flush=True)
                if sys.argv[3] == "twice":
                    sys.argv[3] = ""
                    interrupt_while("close")
                signal.raise_signal(signal.SIGINT)
        signal.signal(signal.SIGALRM, look)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)

    try:
        for page in sqspider.crawl(sys.argv[1], delay_seconds=0, allow_private=True, frontier=sys.argv[2]):
            if page.url.endswith("/first"):
                print(page.url, flush=True)
                interrupt_while("iterate")
    except KeyboardInterrupt:
        print("interrupted", [thread.name for thread in threading.enumerate()], flush=True)
"""


@pytest.mark.parametrize("how_often", ["once", "twice"])
def test_ctrl_c_reaches_the_loop(small_site: Site, held: Held, tmp_path: Path, how_often: str) -> None:
    process = run_script(INTERRUPTED, f"{small_site.url}start", f"sqlite:{tmp_path}/f.db", how_often)
    assert process.stdout is not None
    assert [process.stdout.readline(), process.stdout.readline()] == [f"{small_site.url}first\n", "Ctrl-C\n"]
    if how_often == "once":
        held.set()  # what is in flight is waited for
    else:
        assert process.stdout.readline() == "Ctrl-C\n"  # what is in flight is left to its lease
    out, err = process.communicate()
    assert (out, err, process.returncode) == ("interrupted ['MainThread']\n", "", 0)
    records, workers, beside = left_behind(tmp_path / "f.db")
    assert (records[Status.PROCESSING], workers, beside) == (int(how_often == "twice"), [], [])


@pytest.mark.parametrize(("last", "status"), [("", 0), ("raise SystemExit(3)", 3)])
def test_a_program_may_end_in_the_middle(small_site: Site, tmp_path: Path, last: str, status: int) -> None:
    script = "import sys, sqspider\npages = iter(sqspider.crawl(sys.argv[1], delay_seconds=0, allow_private=True, frontier=sys.argv[2]))\nnext(pages)\n"
    process = run_script(script + last, small_site.url, f"sqlite:{tmp_path}/f.db")
    out, err = process.communicate()
    assert (out, err, process.returncode) == ("", "", status)
    assert_nothing_is_left(tmp_path / "f.db")


FOUND_BY_ITS_OWN_THREAD = """
    import asyncio, concurrent.futures, gc, threading
    from sqspider.threaded import iterate

    def forgotten():
        items = iterate(numbers)
        next(items)
        cycle = [items]
        cycle.append(cycle)

    async def numbers():
        try:
            yield 1
        finally:
            await asyncio.get_running_loop().run_in_executor(pool, print, "closed")

    gc.disable()
    pool = concurrent.futures.ThreadPoolExecutor(1)
    forgotten()
    pool.submit(gc.collect).result()
"""


def test_what_is_forgotten_may_be_found_by_a_thread_that_its_end_needs() -> None:
    """Which thread searches for cycles is chance; one that waited there for its own work would wait for ever."""
    out, err = run_script(FOUND_BY_ITS_OWN_THREAD).communicate()
    assert (out, err) == ("closed\n", "")


def test_a_second_ctrl_c_is_heard_though_the_first_was_not_yet() -> None:
    """A busy machine may hear of both at once; closing is not waited for all the same."""
    is_busy, may_go_on = threading.Event(), threading.Event()

    async def numbers() -> AsyncGenerator[int, None]:
        try:
            yield 1
            is_busy.set()
            may_go_on.wait()  # the loop hears of nothing meanwhile
            await asyncio.Event().wait()
        finally:
            await asyncio.Event().wait()  # closing would take for ever

    thread = _Thread(numbers)
    thread.start()
    assert thread.next_item() == (1,)
    thread._loop.call_soon_threadsafe(thread._wanted.release)
    is_busy.wait()
    thread._leave()
    thread._leave(at_once=True)
    may_go_on.set()
    assert thread._ended.wait(30)
