"""``crawl --dry-run`` as a user meets it: it tells what would be fetched, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sqspider import dry_run
from sqspider.cli.main import run
from tests.conftest import Run
from tests.sites import Asked, Site

HERE: Final = ("--dry-run", "--allow-private", "--delay", "0")


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    links = "".join(f"<a href=/page/{number}>x</a>" for number in range(25))
    odd = "<a rel=nofollow href=/no>x</a><a href=/private/x>x</a><a href=/private/%1b[31m>x</a><a href=/old/1>x</a><a href=http://[bad>x</a><a href=/>x</a>"
    site.bodies = {
        "/": (links + odd).encode(),
        "/robots.txt": b"User-agent: *\nDisallow: /private/\x1b[31m\nDisallow: /private/",
    }
    yield site
    site.close()


def test_a_person_is_told_by_fate_and_rule(
    sqspider: Run, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))  # where it is kept in mind what a crawl may ask for
    done = sqspider("crawl", site.url, *HERE, "--exclude", "/old/")
    assert (done.returncode, done.stderr) == (0, "")
    page, total, *groups = done.stdout.split("\n", 2)
    assert page == f"{site.url}: HTTP 200, text/html, 31 links"
    assert total == "31 different links: 25 fetched, 2 blocked, 3 left out, 1 finished"
    heads = [line for line in groups[0].splitlines() if line and not line.startswith(" ")]
    assert [re.sub(r" +", " ", head) for head in heads] == [
        "fetched 25 no rule keeps them from that",
        "blocked 1 robots.txt line 3: Disallow: /private/",
        r"blocked 1 robots.txt line 2: Disallow: /private/\u001b[31m",  # which a terminal would obey
        "left out 1 exclude: matches /old/",
        "left out 1 nofollow: the page marks the link so, or all of its links",
        "left out 1 URL: they are none that is crawled: 1 bad_url",
        "finished 1 record: it was looked at just now",
    ]
    assert f"\n  {site.url}page/19\n  … and 5 more: --json lists all\n" in groups[0]
    assert sorted(site.paths) == ["/", "/robots.txt"]
    assert list(tmp_path.iterdir()) == []


def test_what_is_very_long_or_of_many_kinds_is_not_shown_whole(sqspider: Run, site: Site) -> None:
    repeated = "".join(f"<a href={f'/r{number}' * 3}>x</a>" for number in range(23))
    long = "".join(f"<a href=/{letter * number}>x</a>" for letter in "lm" for number in (1000, 3000))
    site.bodies["/"] = (repeated + long).encode()
    told = sqspider("crawl", site.url, *HERE, "--max-repeats", "2").stdout
    assert max(map(len, told.splitlines())) < 220
    assert told.count("occurs 3 times") == 18  # the largest are shown
    assert told.endswith("\n… and 5 more by 5 other rules: --json lists all\n")


def test_a_program_is_told_of_each_link(sqspider: Run, site: Site) -> None:
    done = sqspider("crawl", site.url, *HERE, "--json", "--depth", "0", "--crawl", "news")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.stderr == f"{site.url}: HTTP 200, text/html, 31 links\n"
    assert len(told) == 30
    assert told[0] == {
        "url": f"{site.url}page/0", "crawl": "news", "fate": "left out", "rule": "depth", "reason": "depth_limit",
        "detail": "1 link from a seed, of at most 0", "steps": told[0]["steps"], "found_on": site.url,
        "requisite": False,
    }  # fmt: skip


def test_a_frontier_that_is_there_is_not_touched(sqspider: Run, site: Site, tmp_path: Path) -> None:
    file = tmp_path / "sqspider.db"
    sqspider("crawl", site.url, *HERE[1:], "--depth", "0", "--quiet")
    before, names = file.read_bytes(), sorted(tmp_path.iterdir())
    done = sqspider("crawl", site.url, *HERE, "--depth", "3")
    assert "26 fetched" in done.stdout
    assert (file.read_bytes(), sorted(tmp_path.iterdir())) == (before, names)


def test_neither_queue_nor_table_is_asked_for_anything(
    sqspider: Run, site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws = Site()
    try:
        for name, value in {
            "QUEUE_URL": f"{aws.url}1/crawl", "TABLE_NAME": "t", "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": aws.url,
        }.items():  # fmt: skip
            monkeypatch.setenv(name, value)
        assert sqspider("crawl", site.url, *HERE).returncode == 0
        assert aws.requests == []
    finally:
        aws.close()


def test_a_file_of_a_crawl_is_tried_with_what_is_said_now(sqspider: Run, site: Site, tmp_path: Path) -> None:
    sqspider("crawl", site.url, *HERE[1:], "--crawl", "news", "--depth", "0", "--exclude", "/old/", "--quiet")
    (tmp_path / "news.toml").write_text(sqspider("crawls", "show", "news", "--toml").stdout)
    for said, fetched in (((), 0), (("--depth", "1"), 25)):
        done = sqspider("crawl", "--config", "news.toml", *said, "--dry-run")
        assert done.returncode == 0, done.stderr
        assert (f"{fetched} fetched" in done.stdout) == (fetched > 0)
        assert "exclude: matches /old/" in done.stdout or not fetched


def test_of_many_urls_the_first_are_looked_at(sqspider: Run, site: Site, tmp_path: Path) -> None:
    for number in range(14):
        site.bodies[f"/shop/{number}"] = b""
    (tmp_path / "shops").write_text("".join(f"{site.url}shop/{number}\n" for number in range(14)))
    done = sqspider("crawl", "-f", "shops", *HERE)
    assert done.returncode == 0
    assert done.stderr == "the first 10 URLs alone are looked at, and the scope is measured from these\n"
    assert done.stdout.count("0 links") == 10
    assert len(site.requests) == 11


def test_a_budget_is_told_of(sqspider: Run, site: Site) -> None:
    assert "A host's budget" in sqspider("crawl", site.url, *HERE, "--host-pages", "5").stdout
    assert "A host's budget" not in sqspider("crawl", site.url, *HERE).stdout


def test_what_pages_need_is_told_with_the_rules_that_hold_for_it(sqspider: Run, site: Site) -> None:
    away = site.url_of("127.0.0.2")
    site.bodies["/"] = (
        f"<link rel=stylesheet href={away}a.css><img src=/old/i.png><img src=/private/j.png><a href={away}a.css>a</a>"
        f"<a rel=nofollow href={away}k.png>k</a><img src={away}k.png><a href=/page>p</a><img src=/page>"
    ).encode()
    said = ("--assets", "--exclude", "/old/", "--include", "page")
    done = sqspider("crawl", site.url, *HERE, *said)
    page, total, *groups = done.stdout.split("\n", 2)
    assert page == f"{site.url}: HTTP 200, text/html, 3 links, and needs 5 URLs to be shown"
    assert total == "1 different link, 4 more URLs that pages need: 3 fetched, 1 blocked, 1 left out"
    assert groups[0].startswith(
        f"\nfetched       2  assets: pages need them to be shown: they are not gone into\n  {away}a.css\n  {away}k.png\n"
    )
    assert f"\nfetched       1  no rule keeps them from that\n  {site.url}page\n" in groups[0]
    assert f"  exclude: matches /old/\n  {site.url}old/i.png\n" in groups[0]
    told = map(json.loads, sqspider("crawl", site.url, *HERE, *said, "--json").stdout.splitlines())
    assert {link["url"]: (link["requisite"], link["fate"], link["reason"]) for link in told} == {
        f"{site.url}page": (False, "fetched", None),
        f"{away}a.css": (True, "fetched", None),
        f"{away}k.png": (True, "fetched", None),
        f"{site.url}old/i.png": (True, "left out", "excluded"),
        f"{site.url}private/j.png": (True, "blocked", "robots"),
    }


def test_pages_of_a_crawl_for_other_types_are_looked_at(sqspider: Run, site: Site) -> None:
    done = sqspider("crawl", site.url, *HERE, "--only", "pdf")
    assert f"{site.url}: HTTP 200, text/html, 31 links; not kept, it is no application/pdf\n" in done.stdout
    assert "different links: 26 fetched" in done.stdout
    assert done.stdout.endswith(
        "\nWhat is fetched is kept if it is application/pdf; pages are read for their links, and all else is let go "
        "after its head.\n"
    )
    told = json.loads(sqspider("crawl", site.url, *HERE, "--only", "pdf", "--json").stdout.splitlines()[0])
    assert "only" in [step["rule"] for step in told["steps"]]


def test_what_cannot_be_looked_at_is_named(sqspider: Run, site: Site) -> None:
    done = sqspider("crawl", f"{site.url}none", f"{site.url}private/x", "nothing", *HERE)
    assert (done.returncode, done.stdout) == (1, "")
    refused, *named = done.stderr.splitlines()
    assert "refused: argument" in refused
    assert sorted(named) == [
        f"{site.url}none: failed: client_error: HTTP status 404",
        f"{site.url}private/x: blocked: robots: robots.txt line 3: Disallow: /private/",
    ]
    done = sqspider("crawl", site.url, "nothing", *HERE)
    assert (done.returncode, f"{site.url}: HTTP 200" in done.stdout) == (1, True)
    assert sqspider("crawl", "nothing", *HERE).returncode == 2


def test_what_is_in_trouble_is_named(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dry_run, "TROUBLE_SECONDS", 0.1)
    site.bodies["/robots.txt"] = (503, {})
    assert run(["crawl", site.url, *HERE]) == 1
    why = f"that of {site.url.rstrip('/')} cannot be had: HTTP status 503"
    assert capsys.readouterr().err == f"{site.url}: not looked at: {why}\n"
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # and nobody listens
        assert run(["crawl", site.url, *HERE, "--proxy", f"http://127.0.0.1:{held.getsockname()[1]}"]) == 1
    assert f"{site.url}: not looked at: nothing can be asked (proxy_unusable: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name the URLs to look at"),
        (("http://e.com/", "--workers", "2"), "--workers is of a run"),
        (("http://e.com/", "--workers", "1"), "--workers is of a run"),
        (("http://e.com/", "--max-pages", "2"), "--max-pages is of a run"),
        (("http://e.com/", "--again"), "--again is of a run"),
        (("http://e.com/", "--older-than", "1d"), "--older-than is of a run"),
        (("http://e.com/", "--sitemaps"), "--sitemaps is of a run"),
        (("http://e.com/", "--output", "x.csv"), "--output is of a run"),
        (("http://e.com/", "--timeout", "70"), "See --lease and --timeout"),
        (("http://e.com/", "--header", "Authorization: secret"), "secret"),
    ],
)
def test_what_makes_no_sense_with_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...],
    says: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run(["crawl", "--dry-run", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, says in " ".join(err.split())) == ("", True), err
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_it_at_once(site: Site, tmp_path: Path) -> None:
    is_asked, may_answer = threading.Event(), threading.Event()

    def held(_: Asked) -> None:
        is_asked.set()
        may_answer.wait(60)

    site.bodies["/"] = held
    process = subprocess.Popen(
        [sys.executable, "-m", "sqspider", "crawl", site.url, *HERE], cwd=tmp_path, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "error"}, text=True,
    )  # fmt: skip
    try:
        assert is_asked.wait(60)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert not may_answer.is_set()
        assert (process.returncode, said.strip()) == (130, "")
    finally:
        may_answer.set()
        process.kill()
        process.wait()
