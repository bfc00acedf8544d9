"""``explain``: what would become of a URL, told beside what became of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import Run
from tests.sites import Site

CRAWL: Final = ("--delay", "0", "--scope", "host", "--depth", "1", "--exclude", "slow|huge|flaky", "--allow-private")


def test_what_is_told_of_links_is_what_became_of_them(sqspider: Run, served_site: str) -> None:
    sqspider("crawl", served_site, *CRAWL, "--quiet")
    rows = {row["url"]: row for row in map(json.loads, sqspider("export").stdout.splitlines())}
    page = f"{served_site}page/1"
    assert rows[page]["depth"] == 1
    for url, arguments, fate, rule in (
        (page, (), "finished", "record"),
        (f"{served_site}private/diary", (), "finished" if f"{served_site}private/diary" in rows else "blocked", None),
        (f"{served_site}private/x", ("--from", served_site), "blocked", "robots.txt"),
        (f"{served_site}new", ("--from", served_site), "fetched", None),
        (f"{served_site}new", ("--from", page), "left out", "depth"),
        (f"{served_site}slow", ("--from", served_site), "left out", "exclude"),
        ("http://other.example/", ("--from", served_site), "left out", "scope"),
        ("http://other.example/", (), "left out", "scope"),
        ("http://other.example/", ("--scope", "any"), "fetched", None),
    ):
        done = sqspider("explain", url, *CRAWL, *arguments, "--json")
        told = json.loads(done.stdout)
        assert (told["fate"], done.returncode) == (fate, 0 if fate == "fetched" else 1), told
        if rule:
            assert told["rule"] == rule
        assert (url in rows) == (fate == "finished")


def test_why_a_page_was_fetched_and_why_it_was_not_kept(sqspider: Run) -> None:
    site = Site()
    try:
        site.bodies = {
            "/": (200, {"Content-Type": "text/html"}, b"<a href=/d.pdf>d</a><a href=/z.zip>z</a><img src=/i.png>"),
            "/d.pdf": (200, {"Content-Type": "application/pdf"}, b"%PDF"),
            "/z.zip": (200, {"Content-Type": "application/zip"}, b"PK"),
            "/i.png": (200, {"Content-Type": "image/png"}, b"png"),
        }
        here = (site.url, "--delay", "0", "--allow-private", "--quiet")
        sqspider("crawl", *here, "--assets", "--only", "pdf", "--only", "image", "--keep", "pdf")

        def says(path: str, *more: str) -> dict[str, str]:
            told = json.loads(sqspider("explain", f"{site.url}{path}", *more, "--json").stdout)
            return {step["rule"]: step["says"].partition("Z ")[2] or step["says"] for step in told["steps"]}

        unread = "not read: of another type than the crawl is for, and no page"
        assert says("") == {
            "record": "(HTTP 200, text/html); read, and not kept: the crawl has --only application/pdf, image/*"
        }
        assert says("d.pdf") == {"record": "(HTTP 200, application/pdf)"}
        assert says("z.zip") == {"record": f"(HTTP 200, application/zip); {unread}"}
        assert says("i.png") == {
            "record": f"(HTTP 200, image/png); needed to be shown, by {site.url}; read, and not kept: the crawl has "
            "--keep application/pdf"
        }
        told = says("new", "--from", site.url)
        assert told["only"] == (
            "kept if it is application/pdf or image/*; pages are read for their links, stylesheets for what they need, "
            "and all else is let go after its head"
        )
        assert told["assets"].startswith("a link is meant here; where a page needs it to be shown it is fetched")
    finally:
        site.close()


def test_a_person_is_told_in_lines(sqspider: Run, served_site: str) -> None:
    sqspider("crawl", f"{served_site}page/1", "--depth", "0", "--delay", "0", "--allow-private", "--quiet")
    done = sqspider("explain", f"{served_site}private/x", "--ignore-robots")
    assert done.returncode == 0
    assert done.stdout.splitlines()[0] == f"{served_site}private/x is fetched when its turn comes: " + (
        "no rule keeps it from that"
    )
    done = sqspider("explain", f"{served_site}private/x", "--allow-private")
    first, *steps = done.stdout.splitlines()
    assert first == f"{served_site}private/x is blocked: it is recorded, and not fetched"
    assert [step for step in steps if step.startswith("*")] == ["* robots.txt   robots.txt line 2: Disallow: /private/"]


def test_robots_txt_is_asked_for_where_that_is_said(
    sqspider: Run, served_site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    sqspider("crawl", served_site, "--ignore-robots", "--depth", "0", "--delay", "0", "--allow-private", "--quiet")
    sqspider("crawls", "set", "default", "--unset", "ignore-robots")
    file = tmp_path / "sqspider.db"
    before = file.read_bytes()

    def said(*arguments: str) -> tuple[str, str]:
        url = f"{served_site}private/x"
        told = json.loads(sqspider("explain", url, "--from", served_site, "--depth", "1", "--json", *arguments).stdout)
        return told["fate"], next(step["says"] for step in told["steps"] if step["rule"] == "robots.txt")

    origin = served_site.rstrip("/")
    assert said() == ("fetched", f"that of {origin} is not known: it is asked for first")
    asked = ("blocked", "robots.txt line 2: Disallow: /private/; asked for just now")
    assert said("--fetch-robots") == asked  # what it asks for was allowed on this machine
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "other"))
    fate, says = said("--fetch-robots")
    assert (fate, "just now it was not had: it asks for private addresses" in says) == ("fetched", True)
    assert said("--fetch-robots", "--allow-private") == asked
    assert file.read_bytes() == before
    assert not (tmp_path / "other").exists()


def test_robots_txt_is_not_asked_for_where_it_decides_nothing(sqspider: Run) -> None:
    site = Site()
    try:
        sqspider("enqueue", "http://e.com/")
        done = sqspider("explain", f"{site.url}a/a", "--fetch-robots", "--allow-private", "--max-repeats", "1")
        assert "* trap" in done.stdout
        assert site.requests == []
    finally:
        site.close()


def test_what_a_stranger_wrote_is_shown_and_not_obeyed(sqspider: Run) -> None:
    site = Site()
    try:
        site.bodies["/robots.txt"] = b"User-agent: *\nDisallow: /\x1b[31m\n"
        sqspider("enqueue", site.url)
        done = sqspider("explain", f"{site.url}%1b[31m", "--fetch-robots", "--allow-private")
        assert r"* robots.txt   robots.txt line 2: Disallow: /\u001b[31m" in done.stdout
    finally:
        site.close()


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("ftp://x/",), 2, "neither http nor https"),
        (("http://e.com/", "--crawl", "none"), 2, "holds no crawl none. There is none."),
        (("http://e.com/x", "--from", "http://e.com/y"), 2, "--from: http://e.com/y is not known"),
        (("http://e.com/", "--user-agent", ""), 2, "--user-agent: must not be empty"),
    ],
)
def test_what_cannot_be_told_is_said(sqspider: Run, arguments: tuple[str, ...], status: int, says: str) -> None:
    sqspider("enqueue", "http://e.com/")
    done = sqspider("explain", *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert says in " ".join(done.stderr.replace("\u2502", "").split())


def test_a_frontier_that_is_not_there_is_not_made(sqspider: Run) -> None:
    assert sqspider("explain", "http://e.com/").returncode == 3
