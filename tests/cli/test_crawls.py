"""A crawl is a thing, as a user meets it: it goes on exactly as before, is changed, named, put to rest, removed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from tests import forked
from tests.conftest import Run
from tests.sites import Asked, Site

HERE: Final = ("--allow-private", "--delay", "0", "--quiet")
IDENTITY: Final = ("--user-agent", "Bot/1", "--header", "X-Team: blue", "--cookie", "id=env:SQSPIDER_SECRET_ID")
SECRET: Final = "HushHushHush"
KILLED_AFTER: Final = 12  # pages
PAGES: Final = 40


class Gate:
    """Lets a server answer so many requests, and no more until it is told."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._is_open = threading.Event()
        self.is_reached = threading.Event()
        self.after = KILLED_AFTER

    def __call__(self, answer: bytes) -> Callable[[Asked], bytes]:
        def when_open(_: Asked) -> bytes:
            if len(self._site.requests) >= self.after:
                self.is_reached.set()
                self._is_open.wait(30)
            return answer

        return when_open

    def open(self) -> None:
        self._is_open.set()


@pytest.fixture
def site() -> Iterator[Site]:
    """A home page, its pages, and below each of them one more."""
    site = Site()
    links = "".join(f"<a href=/page/{number}>{number}</a>" for number in range(PAGES))
    site.bodies["/"] = links.encode()
    for number in range(PAGES):
        site.bodies[f"/page/{number}"] = f"<a href=/below/{number}>more</a>".encode()
        site.bodies[f"/below/{number}"] = b"<p>the end"
    yield site
    site.close()


@pytest.fixture
def gate(site: Site) -> Iterator[Gate]:
    gate = Gate(site)
    for path, body in list(site.bodies.items()):
        assert isinstance(body, bytes)
        site.bodies[path] = gate(body)
    yield gate
    gate.open()


class Folder:
    """A folder in which commands are run, as a user does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.environment = {**os.environ, "SQSPIDER_SECRET_ID": SECRET, "XDG_STATE_HOME": str(path / "state")}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "sqspider", *arguments],
            cwd=self.path,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return forked.run(*arguments, cwd=self.path, env=self.environment)

    def counts(self, *arguments: str) -> dict[str, int]:
        status = json.loads(self.run("status", "--json", *arguments).stdout)
        return {name: number for name, number in {**status["records"], **status["reasons"]}.items() if number}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def identities(requests: list[Asked]) -> set[tuple[str, ...]]:
    return {(asked.headers["User-Agent"], asked.headers["X-Team"], asked.headers["Cookie"]) for asked in requests}


OURS: Final = {("Bot/1", "blue", f"id={SECRET}")}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_crawl_goes_on_after_a_kill_under_its_identity_and_nobody_smuggles_another(
    site: Site, gate: Gate, folder: Folder, workers: str
) -> None:
    first = folder.start("crawl", site.url, *HERE, *IDENTITY, "--workers", workers, "--lease", "26")
    assert gate.is_reached.wait(30)
    first.kill()
    first.communicate()
    gate.after = len(site.requests) + KILLED_AFTER
    gate.is_reached.clear()

    going_on = folder.start("crawl", "--quiet", "--workers", workers)
    other = folder.start(
        "consume", "--until-empty", "--allow-private", "--send-to", site.url, "--user-agent", "Other/2",
        "--log-level", "error",
    )  # fmt: skip
    assert gate.is_reached.wait(30)
    going_on.send_signal(signal.SIGINT)
    other.send_signal(signal.SIGINT)
    gate.open()
    assert going_on.wait(60) == 130
    going_on.communicate()
    other.communicate()
    assert identities(site.requests) == OURS
    assert "private_address" not in folder.counts()
    kept = b"".join(path.read_bytes() for path in folder.path.rglob("*") if path.is_file())
    assert SECRET.encode() not in kept


def test_what_was_stopped_goes_on_without_a_word_and_blocks_nothing(site: Site, gate: Gate, folder: Folder) -> None:
    first = folder.start("crawl", site.url, "--allow-private", "--delay", "0")
    assert gate.is_reached.wait(30)
    first.send_signal(signal.SIGINT)
    gate.open()
    _, said = first.communicate()
    assert first.returncode == 130
    left = folder.counts()["queued"]
    assert f"stopped: {left} URLs are left: `sqspider crawl` goes on with them" in said
    again = folder.run("crawl", "--quiet")
    assert (again.returncode, again.stderr) == (0, "")
    assert folder.counts() == {"done": 1 + 2 * PAGES}


def test_a_crawl_goes_deeper(site: Site, folder: Folder) -> None:
    assert folder.run("crawl", site.url, *HERE, "--depth", "1").returncode == 0
    assert folder.counts() == {"done": 1 + PAGES}
    deeper = folder.run("crawl", site.url, "--depth", "2")
    assert deeper.returncode == 0, deeper.stderr
    assert "default: depth 1 → 2, from now on" in deeper.stderr
    assert f"{PAGES} pages are gone into again" in deeper.stderr
    assert folder.counts() == {"done": 1 + 2 * PAGES}
    assert site.paths.count("/") == 1
    assert "nothing to do" in (done := folder.run("crawl", "--depth", "2").stderr)
    assert "--depth goes deeper; --again looks" in done
    assert folder.run("crawl", "--unset", "depth").returncode == 0
    assert "--depth" not in (done := folder.run("crawl").stderr)
    assert "nothing to do" in done


def test_a_proxy_is_kept(site: Site, folder: Folder) -> None:
    url = "http://behind.invalid/"
    site.bodies[url] = b"<a href=/a>a</a>"
    site.bodies[f"{url}a"] = b"<p>the end"
    proxy = ("--proxy", site.url.rstrip("/"))
    first = folder.run("crawl", url, *proxy, "--allow-private", "--delay", "0", "--ignore-robots", "--max-pages", "1")
    assert first.returncode == 1
    assert "1 URL is left: `sqspider crawl` goes on with it" in first.stderr
    again = folder.run("crawl", "--quiet")
    assert again.returncode == 0, again.stderr
    assert site.paths == [url, f"{url}a"]


def test_a_secret_that_is_not_set_lets_nothing_begin(site: Site, folder: Folder) -> None:
    absent = folder.run("crawl", site.url, *HERE, "--bearer", "env:SQSPIDER_SECRET_ABSENT")
    assert "--bearer: the environment has no SQSPIDER_SECRET_ABSENT" in absent.stderr
    assert list(folder.path.iterdir()) == []  # not even a file was made
    assert folder.run("crawl", site.url, *HERE, *IDENTITY, "--max-pages", "1").returncode == 1
    asked = len(site.requests)
    del folder.environment["SQSPIDER_SECRET_ID"]
    for arguments in (("crawl",), ("crawl", site.url), ("crawl", "--workers", "2")):
        done = folder.run(*arguments)
        assert done.returncode == 2
        assert "--cookie: the environment has no SQSPIDER_SECRET_ID" in done.stderr
    assert len(site.requests) == asked


def test_what_goes_on_with_a_crawl_names_its_folder_of_secrets(site: Site, folder: Folder) -> None:
    (folder.path / "my keys").mkdir()
    (folder.path / "my keys" / "token").write_text("a long secret")
    start = ("crawl", site.url, *HERE[:-1], "--bearer", "file:token", "--secrets", "my keys", "--max-pages", "1")
    goes_on = re.search(r"left: `sqspider (crawl [^`]*)` goes on", folder.run(*start).stderr)
    assert goes_on is not None
    assert goes_on[1] == "crawl --secrets 'my keys'"
    assert folder.run(*shlex.split(goes_on[1])).returncode == 0


def test_a_file_of_a_stranger_is_given_nothing(site: Site, folder: Folder, tmp_path: Path) -> None:
    """Somebody else made the crawl, elsewhere: his row is all that came along."""
    assert folder.run("crawl", site.url, *HERE, *IDENTITY, "--max-pages", "1").returncode == 1
    (tmp_path / "mine").mkdir()
    mine = Folder(tmp_path / "mine")
    for file in tmp_path.glob("sqspider.db*"):
        shutil.copy(file, mine.path)
    asked = len(site.requests)
    done = mine.run("crawl")
    assert done.returncode == 2
    origin = site.url.rstrip("/")
    assert f"the crawl default asks for --allow-private --send-to {origin}" in " ".join(done.stderr.split())
    assert len(site.requests) == asked
    allowed = mine.run("crawl", "--quiet", "--allow-private", "--send-to", origin)
    assert allowed.returncode == 0, allowed.stderr
    assert identities(site.requests) == OURS


def test_other_urls_with_other_options_are_another_crawl(site: Site, folder: Folder) -> None:
    assert folder.run("crawl", site.url, *HERE, "--depth", "1", "--max-pages", "1").returncode == 1
    refused = folder.run("crawl", "http://other.invalid/", "--depth", "5")
    assert refused.returncode == 2
    assert "--crawl NAME makes another crawl" in refused.stderr
    news = folder.run("crawl", site.url + "page/1", *HERE, "--crawl", "news", "--scope", "page")
    assert news.returncode == 0, news.stderr
    assert folder.counts("--crawl", "news") == {"done": 1}
    assert sum(folder.counts("--crawl", "default").values()) == 1 + PAGES
    rows = [json.loads(line) for line in folder.run("crawls", "--json").stdout.splitlines()]
    assert [row["crawl"] for row in rows] == ["default", "news"]
    assert rows[1]["state"] == "finished"
    shown = json.loads(folder.run("show", f"{site.url}page/1", "--crawl", "news", "--json").stdout)
    assert (shown["crawl"], shown["status"]) == ("news", "done")
    [row] = [json.loads(line) for line in folder.run("export", "--crawl", "news").stdout.splitlines()]
    assert (row["url"], row["crawl"]) == (f"{site.url}page/1", "news")


def test_a_crawl_is_put_to_rest_and_removed(site: Site, folder: Folder) -> None:
    assert folder.run("crawl", site.url, *HERE, "--crawl", "news", "--max-pages", "1").returncode == 1
    assert folder.run("crawls", "pause", "news").stdout == "news: running → paused, from now on\n"
    asked = len(site.requests)
    assert folder.run("consume", "--allow-private").returncode == 0
    assert len(site.requests) == asked
    assert folder.run("crawls", "resume", "news").stdout == "news: paused → running, from now on\n"
    assert folder.run("crawls", "remove", "news").returncode == 2  # nobody can be asked
    assert folder.run("crawls", "remove", "news", "--yes").returncode == 0
    assert folder.run("crawls").stdout.count("\n") == 1
    gone = folder.run("crawl", "--crawl", "news")
    assert (gone.returncode, "holds no crawl news. There is none." in gone.stderr) == (2, True)


def test_a_removal_that_was_killed_half_way_goes_on_and_the_name_is_free_again(site: Site, folder: Folder) -> None:
    assert folder.run("crawl", site.url, *HERE, "--crawl", "news", "--max-pages", "1").returncode == 1
    with closing(sqlite3.connect(folder.path / "sqspider.db")) as connection, connection:
        connection.execute("UPDATE crawl SET row = NULL WHERE name = 'news'")  # as a removal begins
    told = "`sqspider crawls remove news` goes on with it"
    for arguments in (("crawl", site.url, "--crawl", "news"), ("crawls", "show", "news"), ("crawl", "--crawl", "news")):
        refused = folder.run(*arguments)
        assert refused.returncode != 0
        assert told in " ".join(refused.stderr.split())
    assert folder.run("crawls", "remove", "news", "--yes").returncode == 0
    assert folder.counts() == {}
    assert folder.run("crawl", site.url, *HERE, "--crawl", "news", "--depth", "0").returncode == 0


def test_a_crawl_by_a_file(site: Site, folder: Folder) -> None:
    file = folder.path / "news.toml"
    file.write_text(f'crawl = "news"\nurls = ["{site.url}"]\ndepth = 1\nallow-private = true\ndelay = 0\n')
    made = folder.run("crawl", "--config", "news.toml", "--quiet")
    assert made.returncode == 0, made.stderr
    assert folder.counts("--crawl", "news") == {"done": 1 + PAGES}
    written = folder.run("crawls", "show", "news", "--toml").stdout
    assert "depth = 1\n" in written
    file.write_text(written.replace("depth = 1", "depth = 2").replace("allow-private = true\n", ""))
    told = folder.run("crawl", "--config", "news.toml")
    assert "news.toml says otherwise than the crawl news (depth 1 → 2; allow-private on → off)" in " ".join(
        told.stderr.split()
    )
    assert folder.counts("--crawl", "news") == {"done": 1 + PAGES}
    applied = folder.run("crawls", "set", "news", "--config", "news.toml", "--allow-private")
    assert applied.stdout.startswith("news: depth 1 → 2, from now on\n")
    assert f"{PAGES} pages are gone into again: `sqspider crawl --crawl news` goes on with them" in applied.stdout
    assert folder.run("crawl", "--crawl", "news", "--quiet").returncode == 0
    assert folder.counts("--crawl", "news") == {"done": 1 + 2 * PAGES}


def test_where_every_url_is_refused_nothing_runs(site: Site, folder: Folder) -> None:
    for command in ("crawl", "enqueue"):
        done = folder.run(command, "ftp://e.com/", "no url", "--depth", "3")
        assert done.returncode == (2 if command == "crawl" else 1)
    assert folder.run("crawls").stdout.count("\n") <= 1
    assert folder.run("crawl", site.url, *HERE, "--max-pages", "1").returncode == 1
    asked = len(site.requests)
    assert folder.run("crawl", "ftp://e.com/", "--depth", "3").returncode == 2
    assert len(site.requests) == asked
    assert '"depth": null' in folder.run("crawls", "show", "default", "--json").stdout


def test_how_to_go_on_is_said_with_what_was_said(site: Site, folder: Folder) -> None:
    done = folder.run("crawl", site.url, *HERE[:-1], "--frontier", "sqlite:f.db", "--crawl", "n", "--max-pages", "1")
    assert "`sqspider --frontier sqlite:f.db crawl --crawl n` goes on with them" in done.stderr


def test_a_crawl_at_its_limit_says_how_it_is_raised(site: Site, folder: Folder) -> None:
    """For it rests, and saying the same once more does nothing."""
    done = folder.run("crawl", site.url, "--allow-private", "--delay", "0.8", "--crawl", "n", "--limit-pages", "2")
    said = done.stderr
    assert (done.returncode, "pages were fetched, and the crawl n rests: " in said) == (1, True), said
    assert "`sqspider crawls set n --limit-pages N` raises its limit, then `sqspider crawl --crawl n` goes on" in said
    assert folder.counts("--crawl", "n")["queued"]
    why = r"[2-9] pages were fetched: its limit; `sqspider crawls set n --limit-pages N` raises it\n"
    assert re.search(rf"n  +at its limit  (.|\n)*\nn: {why}", folder.run("crawls").stdout)
    assert re.search(rf"\nwaits for +{why}", folder.run("crawls", "show", "n").stdout)
    assert re.search(rf"\nthe crawl n: {why}", folder.run("status", "--crawl", "n").stdout)
    folder.run("crawls", "set", "n", "--limit-pages", "50")
    stopped = folder.run("crawl", "--crawl", "n", "--max-pages", "1")
    assert "the limit is reached: " in stopped.stderr
    assert "crawls set" not in stopped.stderr


def test_a_crawl_that_somebody_puts_to_rest_says_so_when_it_ends(site: Site, gate: Gate, folder: Folder) -> None:
    with folder.start("crawl", site.url, "--allow-private", "--delay", "0.3", "--crawl", "n") as crawl:
        assert gate.is_reached.wait(30)
        assert folder.run("crawls", "pause", "n").returncode == 0
        gate.open()
        _, said = crawl.communicate(timeout=60)
    assert crawl.returncode == 1
    assert re.search(
        r"the crawl n is paused: [\d,]+ URLs? (is|are) left: `sqspider crawl --crawl n` goes on with", said
    ), said


def test_enqueued_with_a_depth_links_are_followed(site: Site, folder: Folder) -> None:
    done = folder.run("enqueue", site.url, "--depth", "1", "--delay", "0", "--allow-private")
    assert done.stdout == "1 new, 0 known, 0 refused\n"
    assert folder.run("consume", "--until-empty", "--allow-private").returncode == 0
    assert folder.counts() == {"done": 1 + PAGES}


def test_a_page_by_itself_goes_by_no_crawl(site: Site, folder: Folder) -> None:
    assert folder.run("crawl", site.url, *HERE, "--user-agent", "Bot/1", "--depth", "0").returncode == 0
    assert folder.run("enqueue", f"{site.url}page/1").returncode == 0
    assert folder.run("consume", "--until-empty", "--allow-private", "--user-agent", "Own/1").returncode == 0
    assert [asked.headers["User-Agent"] for asked in site.requests if asked.path == "/page/1"] == ["Own/1"]
    assert "/below/1" not in site.paths


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("crawls", "show", "News"), "a name of 1 to 64 of a-z, 0-9, - and _, not 'News'"),
        (("crawls", "list"), "No such command 'list'. `sqspider crawls` lists crawls"),
        (("crawls", "news"), "`sqspider crawls show NAME` shows one"),
        (("crawls", "shwo"), "No such command 'shwo'. Did you mean 'show'?"),
        (("crawls", "set", "default"), "say what to change"),
        (("crawls", "show", "default", "--json", "--toml"), "exclude each other"),
        (("crawl", "--crawl", "absent"), "no URL was given"),
        (("crawl", "http://e.com/", "--bearer", "hush"), "env:SQSPIDER_SECRET_"),
        (("crawl", "http://e.com/", "--bearer", "env:HOME"), "env:SQSPIDER_SECRET_"),
        (("crawl", "http://e.com/", "--bearer", "env:SQSPIDER_SECRET_ABSENT"), "has no SQSPIDER_SECRET_ABSENT"),
        (("crawl", "http://e.com/", "--bearer", "file:../x", "--secrets", "."), "file:NAME"),
        (
            ("crawl", "http://e.com/", "--login", "joe:hush"),
            "is to be found, USER:env:SQSPIDER_SECRET_NAME or USER:file:NAME.",
        ),
        (("crawl", "http://e.com/", "--login", "env:SQSPIDER_SECRET_ABSENT"), "USER:env:SQSPIDER_SECRET_NAME"),
        (("crawl", "http://e.com/", "--delay", "soon"), "'soon' is not a valid number"),
        (("crawl", "http://e.com/", "--depth", "deep"), "'deep' is not a valid whole number"),
        (("crawl",), "Say one to begin: `sqspider crawl https://example.com/`"),
        (("crawl", "http://e.com/", "--config", "absent.toml"), "absent.toml cannot be read"),
        (("crawl", "http://e.com/", "--client-key", "k.pem"), "--client-key: of no use without"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_bad_input_of_crawls_gets_one_clear_line(sqspider: Run, arguments: tuple[str, ...], says: str) -> None:
    done = sqspider(*arguments)
    assert (done.returncode, says in " ".join(done.stderr.split())) == (2, True), done.stderr
    assert "Traceback" not in done.stderr
    assert "hush" not in done.stderr


def test_what_cannot_be_remembered_here_is_said(
    sqspider: Run, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sqspider("crawl", site.url, "--depth", "0", *HERE).returncode == 0
    (tmp_path / "a-file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a-file"))
    done = sqspider("crawls", "set", "default", "--allow-any-port", "--allow-private")
    assert done.returncode == 0
    assert "not_remembered" in done.stderr


@pytest.mark.parametrize("command", [("status",), ("export",), ("retry", "--yes"), ("show", "http://e.com/")])
def test_a_crawl_that_is_not_there_is_named_with_those_that_are(sqspider: Run, command: tuple[str, ...]) -> None:
    sqspider("enqueue", "http://e.com/", "--crawl", "news")
    done = sqspider(*command, "--crawl", "new")
    assert (done.returncode, done.stdout) == (2, "")
    assert "holds no crawl new. There are: news." in " ".join(done.stderr.split())
    assert "holds no crawl" not in sqspider(*command, "--crawl", "default").stderr


def test_whose_url_it_is_is_told_where_it_is_of_another_crawl(site: Site, folder: Folder) -> None:
    """And each crawl's own robots.txt is shown, whatever another one was told of it."""
    assert folder.run("crawl", site.url, *HERE[:-1], "--crawl", "news", "--max-pages", "1").returncode == 1
    done = folder.run("show", site.url)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{site.url} is not known in the crawl default in ")
    assert done.stderr.endswith(": --crawl news shows what is known of it\n")
    assert folder.run("crawl", site.url, "--delay", "0", "--crawl", "public").returncode == 1
    shown = {name: folder.run("show", site.url, "--crawl", name).stdout for name in ("news", "public")}
    robots = {name: re.search("^robots.txt +(.*)", text, re.MULTILINE) for name, text in shown.items()}
    assert [found and found[1].split()[0] for found in robots.values()] == ["allow_all", "unreachable"]
    assert folder.run("status", "--crawl", "news").stdout.startswith("the crawl news in sqlite:")


def test_what_is_said_of_one_and_of_many(site: Site, folder: Folder) -> None:
    folder.run("crawl", site.url, *HERE, "--depth", "0")
    page = f"{site.url}page/1"
    added = folder.run("crawl", page, "--crawl", "default")
    assert "1 URL was added to the crawl default, by whose options it goes: depth 0; " in added.stderr
    assert "going on: 1 URL is finished, 1 is not" in added.stderr
    written = folder.run("crawls", "show", "default", "--toml").stdout
    assert f'urls = ["{site.url}", "{page}"]' in written  # as many as there are, not those that made it alone

    missing = f"{site.url}absent"
    assert folder.run("crawl", missing).returncode == 1
    done = folder.run("crawl")
    assert "--again looks whether its pages have changed" in done.stderr
    assert "\n  `sqspider retry --status failed` puts back what failed (1)\n  --crawl NAME" in done.stderr
    assert (
        "`sqspider retry --status done` fetches its pages whole, also for links that were left out (2)" in done.stderr
    )
    assert "cleanup" not in done.stderr  # it would take every other crawl with it


def test_what_is_removed_is_what_is_told(site: Site, folder: Folder) -> None:
    """Pages that go by no crawl stand beside the default one's, and stay."""
    folder.run("crawl", site.url, *HERE, "--depth", "0")
    folder.run("enqueue", f"{site.url}page/1", f"{site.url}page/2")
    asked = folder.run("crawls", "remove", "default")
    assert "the crawl default with at most 3 records" in " ".join(asked.stderr.split())
    removed = folder.run("crawls", "remove", "default", "--yes")
    assert removed.stderr == ""  # no bar, nor its empty line, where there is no terminal
    assert removed.stdout.startswith("removed the crawl default with 1 record in")
    assert folder.counts() == {"queued": 2}


def test_links_that_were_left_out_are_found_by_fetching_a_page_whole(site: Site, folder: Folder) -> None:
    """A page that has not changed is not sent again by a server that can tell, and so shows no links."""
    home = site.bodies["/"]
    assert isinstance(home, bytes)

    def conditional(asked: Asked) -> bytes | tuple[int, dict[str, str]]:
        return (304, site.with_bytes) if asked.headers.get("If-None-Match") else home

    site.with_bytes = {"ETag": '"1"'}
    site.bodies["/"] = conditional
    folder.run("crawl", site.url, *HERE, "--exclude", "/page/")
    folder.run("crawl", "--unset", "exclude", "--depth", "1")
    folder.run("crawl", "--again", "--quiet")
    assert folder.counts() == {"done": 1}
    assert folder.run("retry", "--status", "done", "--yes").returncode == 0
    folder.run("crawl", "--quiet")
    assert folder.counts() == {"done": 1 + PAGES}


def test_a_crawl_whose_row_cannot_be_read_is_named_and_can_be_removed(sqspider: Run, tmp_path: Path) -> None:
    for name in ("news", "shop"):
        assert sqspider("enqueue", "http://e.com/", "--depth", "1", "--crawl", name).returncode == 0
    with closing(sqlite3.connect(tmp_path / "sqspider.db")) as connection, connection:
        connection.execute("UPDATE crawl SET row = json_set(row, '$.new', 1) WHERE name = 'news'")
    assert re.search(r"news +unreadable .*\n *shop +running", sqspider("crawls").stdout)
    for order in (("crawls", "show", "news"), ("crawls", "set", "news", "--delay", "3"), ("crawl", "--crawl", "news")):
        refused = sqspider(*order)
        assert refused.returncode != 0
        assert "the row of the crawl news cannot be read" in refused.stderr
        assert "unknown field `new`" in refused.stderr
    assert "the crawl news: its row cannot be read: " in sqspider("status").stdout
    assert sqspider("crawls", "remove", "news", "--yes").returncode == 0
    assert "news" not in sqspider("crawls").stdout
    assert "news" not in sqspider("status").stdout


def test_what_strangers_wrote_of_crawls_is_shown_and_not_obeyed(sqspider: Run, tmp_path: Path) -> None:
    for name in ("news", "shop"):
        assert sqspider("enqueue", "http://e.com/", "--depth", "1", "--crawl", name).returncode == 0
    with closing(sqlite3.connect(tmp_path / "sqspider.db")) as connection, connection:
        connection.execute("""UPDATE crawl SET row = '{"name":"news","id":"1","\\u001b[31m":1}' WHERE name = 'news'""")
        worker = "'w', 's', 0, 0, 9e9, '{\"shop\":\"\\u001b[32m\"}'"
        connection.execute(
            f"INSERT INTO worker (worker_id, session, started_at, seen_at, expires_at, barred) VALUES ({worker})"
        )
    for order in (("status",), ("crawls",), ("crawls", "show", "shop"), ("crawls", "show", "news")):
        told = sqspider(*order)
        said = told.stdout + told.stderr
        assert r"\u001b[3" in said, order
        assert "\x1b" not in said, order
