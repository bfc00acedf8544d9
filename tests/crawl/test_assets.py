"""`--assets`: what pages need to be shown is fetched, wherever it lies, and never gone into."""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import Counter
from pathlib import Path
from typing import Final

import msgspec
import pytest

from sqspider import read_archive
from sqspider.explain import Terms, explanation_of
from sqspider.frontier import Entry, Frontier
from sqspider.record import REQUISITE_DEPTH, Reason, UrlRecord
from sqspider.widening import widened
from sqspider.work.widening import bring_back
from tests.conftest import Run
from tests.crawl.crawl_rows import SETTINGS, changed, made, put_in, records_of, row_of, work
from tests.sites import Asked, Site

replace = msgspec.structs.replace
ASSETS: Final = replace(SETTINGS, assets=True, obey_robots=False)
CSS: Final = {"Content-Type": "text/css"}
HTML: Final = {"Content-Type": "text/html"}
PNG: Final = {"Content-Type": "image/png"}


def html(text: str) -> tuple[int, dict[str, str], bytes]:
    return 200, HTML, text.encode()


def found(records: dict[str, UrlRecord]) -> dict[str, int | None]:
    """How deep records are that are done; of requisites none."""
    return {
        record.url: None if record.is_requisite else record.depth
        for record in records.values()
        if record.outcome is not None and record.outcome.reason is None
    }


def ends(records: dict[str, UrlRecord]) -> dict[str, str]:
    return {
        record.url: record.outcome.reason or record.status.value
        for record in records.values()
        if record.outcome is not None
    }


async def test_what_pages_need_is_fetched_wherever_it_lies_and_not_gone_into(frontier: Frontier, host: Site) -> None:
    away = host.url_of("127.0.0.2")
    host.bodies = {
        "127.0.0.1/": html(f"<link rel=stylesheet href={away}a.css><a href=/p>p</a><a href={away}page>x</a>"),
        "127.0.0.1/p": html(
            f"<img src=i.png srcset='{away}2x.png 2x'><a href=/deeper>d</a><object data=o.html></object>"
        ),
        "127.0.0.1/i.png": (200, PNG, b"png"),
        "127.0.0.1/o.html": html("<a href=/never>never</a><img src=/never.png>"),
        "127.0.0.2/a.css": (200, CSS, b"@import 'b.css'; a { background: url(bg.png) }"),
        "127.0.0.2/b.css": (302, {"Location": f"{host.url}c.css"}),
        "127.0.0.1/c.css": (200, CSS, b"@font-face { src: url('f.woff2') }"),
        "127.0.0.2/bg.png": (200, PNG, b"png"),
        "127.0.0.2/2x.png": (200, PNG, b"png"),
        "127.0.0.1/f.woff2": b"font",
    }
    await put_in(frontier, await made(frontier, settings=replace(ASSETS, max_depth=1)), host.url)
    await work(frontier)
    assert found(await records_of(frontier)) == {
        host.url: 0, f"{host.url}p": 1, f"{host.url}i.png": None, f"{host.url}o.html": None, f"{away}2x.png": None,
        f"{away}a.css": None, f"{away}b.css": None, f"{host.url}c.css": None, f"{away}bg.png": None,
        f"{host.url}f.woff2": None,
    }  # fmt: skip
    assert set(Counter((asked.host, asked.path) for asked in host.requests).values()) == {1}


@pytest.mark.parametrize("max_depth", [None, 3])
async def test_what_is_linked_is_a_page_whichever_is_found_first(
    frontier: Frontier, host: Site, max_depth: int | None
) -> None:
    host.bodies = {
        "127.0.0.1/": html("<object data=/both></object><a href=/1>1</a>"),
        "127.0.0.1/1": html("<a href=/2>2</a>"),
        "127.0.0.1/2": html("<a href=/both>both</a><object data=/1></object><img src=/gone><a href=/gone>gone</a>"),
        "127.0.0.1/both": html("<a href=/on>on</a>"),
        "127.0.0.1/on": html("<img src=/needed.png>"),
    }
    await put_in(frontier, await made(frontier, settings=replace(ASSETS, max_depth=max_depth)), host.url)
    await work(frontier)
    expected = {host.url: 0, f"{host.url}1": 1, f"{host.url}2": 2, f"{host.url}both": 3}
    if max_depth is None:
        expected |= {f"{host.url}on": 4}
    assert found(await records_of(frontier)) == expected


async def test_a_page_that_is_fetched_as_a_requisite_meanwhile_is_visited_as_a_page(
    frontier: Frontier, host: Site
) -> None:
    """The way comes nearer while it is under way."""
    is_asked, is_linked = threading.Event(), threading.Event()

    def both(_: Asked) -> tuple[int, dict[str, str], bytes]:
        is_asked.set()
        assert is_linked.wait(30)
        return html("<a href=/on>on</a>")

    host.bodies = {
        "127.0.0.1/": html(f"<object data={host.url_of('127.0.0.2')}both></object>"),
        "127.0.0.2/both": both,
        "127.0.0.2/on": html("on"),
    }
    crawl = await made(frontier, settings=ASSETS)
    await put_in(frontier, crawl, host.url)
    running = asyncio.create_task(work(frontier))
    assert await asyncio.to_thread(is_asked.wait, 30)
    await put_in(frontier, crawl, f"{host.url_of('127.0.0.2')}both")
    is_linked.set()
    await running
    records = found(await records_of(frontier))
    assert (records[f"{host.url_of('127.0.0.2')}both"], records[f"{host.url_of('127.0.0.2')}on"]) == (0, 1)


async def test_stylesheets_that_lead_on_and_on_have_an_end(frontier: Frontier, host: Site) -> None:
    host.bodies = {f"/{'x' * n}": (200, CSS, f"@import '/{'x' * (n + 1)}'".encode()) for n in range(1, 30)}
    host.bodies["/"] = html("<link rel=stylesheet href=/x>")
    await put_in(frontier, await made(frontier, settings=ASSETS), host.url)
    await work(frontier)
    assert len(await records_of(frontier)) == 1 + 1 + 10


async def test_a_pattern_leaves_out_what_a_page_needs_and_one_that_includes_does_not(
    frontier: Frontier, host: Site
) -> None:
    host.bodies = {
        "127.0.0.1/": html("<a href=/p>p</a><img src=/i.png><img src=/ads/i.png><img src=/to-ads>"),
        "127.0.0.1/i.png": (200, PNG, b"png"),
        "127.0.0.1/to-ads": (302, {"Location": "/ads/x"}),
    }
    settings = replace(ASSETS, exclude=("/ads/",), include=("/only",))
    await put_in(frontier, await made(frontier, settings=settings), host.url)
    await work(frontier)
    assert found(await records_of(frontier)) == {host.url: 0, f"{host.url}i.png": None, f"{host.url}to-ads": None}


async def test_what_is_queued_is_not_fetched_once_it_is_not_wanted_and_comes_back_when_it_is(
    frontier: Frontier, host: Site
) -> None:
    host.bodies = {"127.0.0.1/": html("<img src=/i.png>"), "127.0.0.1/i.png": (200, PNG, b"png")}
    crawl = await made(frontier, settings=replace(ASSETS, max_depth=0))
    await put_in(frontier, crawl, host.url)
    await frontier.enqueue(
        [Entry(url=f"{host.url}i.png", depth=REQUISITE_DEPTH, crawl=crawl.ref, settings=crawl.settings)]
    )
    await changed(frontier, settings=replace(ASSETS, max_depth=0, assets=False))
    await work(frontier)
    assert ends(await records_of(frontier)) == {host.url: "done", f"{host.url}i.png": Reason.OUT_OF_SCOPE}
    before = await row_of(frontier)
    after = replace(before, settings=replace(ASSETS, max_depth=0))
    assert await frontier.save_crawl(widened(before, after, frontier.now()))
    assert (await bring_back(frontier, await row_of(frontier))).blocked == 1
    await work(frontier)
    assert ends(await records_of(frontier)) == {host.url: "done", f"{host.url}i.png": "done"}


async def test_explain_tells_why(frontier: Frontier, host: Site) -> None:
    host.bodies = {"127.0.0.1/": html("<img src=http://127.0.0.2:1/i.png>")}
    crawl = await made(frontier, settings=replace(ASSETS, max_depth=0))
    await put_in(frontier, crawl, host.url)
    url = "https://elsewhere.example/i.png"
    await frontier.enqueue([Entry(url=url, depth=REQUISITE_DEPTH, crawl=crawl.ref, settings=crawl.settings)])
    told = await explanation_of(frontier, url, Terms(crawl.settings, await row_of(frontier)))
    assert "needed by a page to be shown" in json.dumps(told.as_json())
    assert told.fate.value == "fetched"


def test_it_does_not_go_with_what_records_the_outside() -> None:
    for other in ("keep_skipped", "check_external"):
        with pytest.raises(ValueError, match=f"assets: not together with {other}"):
            replace(ASSETS, **{other: True})


def test_the_command_line(host: Site, sqspider: Run, tmp_path: Path) -> None:
    host.bodies = {
        "127.0.0.1/": html("<title>t</title><style>a{background:url(/i.png)}</style><a href=/p>p</a>"),
        "127.0.0.1/p": html("p"),
        "127.0.0.1/i.png": (200, PNG, b"png"),
    }
    options = ("--allow-private", "--delay", "0", "--quiet", "--assets", "--scope", "page")
    looked = sqspider("crawl", host.url, "--allow-private", "--delay", "0", "--assets", "--dry-run")
    assert "needs 1 URL to be shown" in looked.stdout
    host.requests.clear()
    assert sqspider("crawl", host.url, *options, "--archive", str(tmp_path / "archive")).returncode == 0
    assert sqspider("archive", "verify", "--archive", str(tmp_path / "archive")).returncode == 0
    rows = [json.loads(line) for line in sqspider("export").stdout.splitlines()]
    assert {row["url"]: (row["depth"], row["requisite"]) for row in rows} == {
        host.url: (0, False),
        f"{host.url}i.png": (None, True),
    }
    assert [json.loads(line)["url"] for line in sqspider("export", "--depth", "0-").stdout.splitlines()] == [host.url]
    captured = {each.url: dict(each.metadata) for each in read_archive(str(tmp_path / "archive"))}
    assert captured[f"{host.url}i.png"]["hopsFromSeed"] == "E"

    shown = sqspider("show", f"{host.url}i.png").stdout
    assert "\nrequisite          a page needs it to be shown: it is fetched, and not gone into\n" in shown
    assert "\ndepth" not in shown
    assert "requisite" not in sqspider("show", host.url).stdout
    for said in (
        f"show {host.url}i.png", f"show {host.url}i.png --json", f"explain {host.url}i.png --json", "export --format csv",
        "export --format table", "status", "crawls show default", "archive list --archive archive --json",
        "extract archive --type * --title", f"links --archive archive --from {host.url} --json", "metrics",
    ):  # fmt: skip
        told = sqspider(*said.split())
        assert told.stdout, told.stderr
        assert not {str(REQUISITE_DEPTH), f"{REQUISITE_DEPTH:,}"} & set(re.findall(r"[\d,]+\d", told.stdout)), said
