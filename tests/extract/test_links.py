"""``sqspider links``: what it answers about a small site that was really crawled, and about archives alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from tests import forked
from tests.archive.warcs import LATER
from tests.conftest import Run
from tests.extract.linked import HTML, SITE, answer, site, write
from tests.sites import Site

GRAPHML = "{http://graphml.graphdrawing.org/xmlns}"
CRAWL = ("--allow-private", "--allow-any-port", "--delay", "0", "--quiet")

Ask = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="module")
def host() -> Iterator[Site]:
    """A site with a fault of each kind."""
    server = Site()
    server.bodies = {
        "/robots.txt": b"User-agent: *\nDisallow: /private\nSitemap: " + server.url.encode() + b"sitemap.xml\n",
        "/": b"""<title>Home</title><h1 id=top-of-page>Home</h1>
            <a href=/a>first</a> <a href=/b#yes>second</a> <a href=/gone rel=nofollow>gone</a> <a href=/old>old</a>
            <a href=/loop>loop</a> <a href=/to-gone>moved</a> <a href=/private/x>private</a> <img src=/i.png alt=Image>
            <a href=http://nowhere.invalid/x>other</a> <a href='http://['>bad</a> <a href='mailto:a@b.c'>mail</a>
            <a href='htp://slip/'>slip</a> <a href=/skipped/x>skipped</a> <a href=/unresponsive>hangs up</a>""",
        "/a": b"""<title>A</title><a href=/>home</a><a href=/gone>also gone</a><a href='#no'>no</a><a href='#'>up</a>
            <a href=#TOP>top</a><a href='#:~:text=home'>words</a><a href=/b#no>no</a><a href=/b#%C3%A9>percent</a>
            <a href=/b#name>by name</a><a href=/moved-b#yes>moved</a><a href=/moved-b#not>moved, not there</a>""",
        "/b": "<title>B</title><p id=yes>yes</p><a name=name></a><i id=é></i>".encode(),
        "/old": (301, {"Location": "/older"}),
        "/older": (302, {"Location": "/b"}),
        "/moved-b": (308, {"Location": "/b"}),
        "/loop": (302, {"Location": "/pool"}),
        "/pool": (302, {"Location": "/loop"}),
        "/to-gone": (301, {"Location": "/gone"}),
        "/orphan": b"<title>Orphan</title><a href=/>home</a>",
        "/sitemap.xml": b"<urlset xmlns='http://www.sitemaps.org/schemas/sitemap/0.9'><url><loc>"
        + server.url.encode()
        + b"orphan</loc></url><url><loc>"
        + server.url.encode()
        + b"a</loc></url></urlset>",
        "/unresponsive": lambda _: None,
    }
    yield server
    server.close()


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return forked.run(*arguments, cwd=folder)


@pytest.fixture(scope="module")
def crawled(host: Site, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the site was crawled, with what lies outside of it at nowhere.invalid."""
    folder = tmp_path_factory.mktemp("crawled")
    done = run(folder, "crawl", host.url, *CRAWL, "--sitemaps", "--exclude", "/skipped/")
    assert done.returncode in (0, 1), done.stderr
    return folder


@pytest.fixture
def ask(crawled: Path) -> Ask:
    """Asks, and gives the answers."""

    def asked(*arguments: str, status: int = 0) -> list[dict[str, Any]]:
        done = run(crawled, "links", *arguments, "--json")
        assert done.returncode == status, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    return asked


def test_who_links_to_a_url(ask: Ask, host: Site) -> None:
    found = ask("--to", f"{host.url}gone")
    assert {(row["from"], row["kind"], row["rel"], row["text"]) for row in found} == {
        (f"{host.url}to-gone", "redirect", None, None),
        (host.url, "a", "nofollow", "gone"),
        (f"{host.url}a", "a", None, "also gone"),
    }
    assert {row["text"]: row["from_status"] for row in found} == {None: 301, "gone": 200, "also gone": 200}
    assert ask("--to", "http://[")[0]["text"] == "bad"
    assert [row["text"] for row in ask("--to", f"{host.url}gone", "--kind", "redirect")] == [None]
    assert ask("--to", f"{host.url}never", status=1) == []


def test_what_became_of_each_link_of_a_page(ask: Ask, host: Site) -> None:
    found = {row["text"]: row for row in ask("--from", host.url)}
    assert [found["first"][key] for key in ("to", "kind", "status", "http_status")] == [
        f"{host.url}a",
        "a",
        "done",
        200,
    ]
    assert (found["second"]["fragment"], found["second"]["status"]) == ("yes", "done")
    assert (found["old"]["http_status"], found["old"]["redirect_to"]) == (301, f"{host.url}older")
    assert (found["private"]["status"], found["private"]["reason"]) == ("blocked", "robots")
    assert (found["other"]["status"], found["other"]["reason"]) == ("left out", "out_of_scope")
    assert (found["skipped"]["status"], found["skipped"]["reason"]) == ("left out", "excluded")
    assert "matches /skipped/" in found["skipped"]["detail"]
    assert (found["bad"]["status"], found["bad"]["reason"]) == ("no url", "bad_url")
    assert found["mail"]["reason"] == "bad_scheme"
    assert found["Image"]["kind"] == "img"


def test_what_is_broken_comes_with_all_its_sources(ask: Ask, host: Site) -> None:
    found = {row["to"]: row for row in ask("--broken", status=1)}
    assert {url: row["reason"] for url, row in found.items()} == {
        f"{host.url}gone": "client_error",
        f"{host.url}to-gone": "client_error",
        f"{host.url}loop": "redirect_loop",
        f"{host.url}unresponsive": found[f"{host.url}unresponsive"]["reason"],
        "http://[": "bad_url",
        "htp://slip/": "bad_scheme",
    }
    gone = found[f"{host.url}gone"]
    assert (gone["http_status"], gone["links"], gone["redirects"]) == (404, 2, [])
    assert {(row["from"], row["text"]) for row in gone["sources"]} == {
        (host.url, "gone"),
        (f"{host.url}a", "also gone"),
    }
    assert found[f"{host.url}to-gone"]["redirects"] == [f"{host.url}gone"]
    assert found[f"{host.url}loop"]["redirects"] == [f"{host.url}pool"]
    assert [row["may_pass"] for row in found.values()].count(True) == 1  # of the one that hangs up
    assert [row["to"] for row in ask("--broken", "--kind", "img")] == []
    assert len(ask("--broken", "--limit", "2", status=1)) == 2
    assert ask("--broken", "--host", "elsewhere.test") == []


def test_redirects_are_told_with_where_they_end(ask: Ask, host: Site) -> None:
    found = {row["to"].removeprefix(host.url): row for row in ask("--redirects")}
    assert found.keys() == {"old", "moved-b", "loop", "to-gone"}  # nothing but a redirect leads to the others
    assert (found["old"]["http_status"], found["old"]["permanent"]) == (301, True)
    assert (found["old"]["redirects"], found["old"]["end"]) == ([f"{host.url}older", f"{host.url}b"], f"{host.url}b")
    assert (found["loop"]["permanent"], found["loop"]["end"]) == (False, None)
    assert [row["text"] for row in found["moved-b"]["sources"]] == ["moved", "moved, not there"]


def test_places_that_are_not_there_are_told(ask: Ask, host: Site) -> None:
    found = [(row["to"], row["fragment"], row["sources"], row["redirects_to"]) for row in ask("--anchors", status=1)]
    page, b = f"{host.url}a", f"{host.url}b"
    assert sorted(found, key=str) == sorted(
        [(page, "no", [page], None), (b, "no", [page], None), (f"{host.url}moved-b", "not", [page], b)], key=str
    )


def test_what_lies_outside_is_told_by_host(ask: Ask) -> None:
    assert ask("--external") == [{"host": "nowhere.invalid", "links": 1, "targets": 1}]
    assert ask("--external", "--kind", "img") == []


def test_pages_that_nobody_links_to_are_told(ask: Ask, host: Site) -> None:
    assert ask("--orphans") == [{"url": f"{host.url}orphan", "title": "Orphan", "sitemap": f"{host.url}sitemap.xml"}]


def test_a_person_is_told_the_same(crawled: Path, host: Site) -> None:
    told = run(crawled, "links", "--broken")
    assert told.returncode == 1
    lines = told.stdout.splitlines()
    at = lines.index(f"{host.url}gone  client_error, HTTP 404")
    assert sorted(lines[at + 1 : at + 3]) == sorted(
        [f'    from {host.url}  a rel=nofollow  "gone"', f'    from {host.url}a  a  "also gone"']
    )
    assert f"    redirects: {host.url}gone" in lines
    assert lines[-2].startswith("6 targets are broken: ")
    assert lines[-1] == "not asked for, so not judged: 1 robots"
    counted = run(crawled, "links").stdout
    assert "URLs captured, with " in counted
    as_json = run(crawled, "links", "--json")
    number = json.loads(as_json.stdout)
    assert counted == f"{number['urls']} URLs captured, with {number['links']} links\n"
    assert as_json.stderr == ""
    orphans = run(crawled, "links", "--orphans").stdout
    assert f"{host.url}orphan  (in {host.url}sitemap.xml)\nno page links to 1 page\n" == orphans


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "db", "graphml"])
def test_the_graph_is_written_to_a_file(crawled: Path, tmp_path: Path, host: Site, ending: str) -> None:
    file = tmp_path / f"graph.{ending}"
    first = run(crawled, "links", "--graph", str(file))
    assert first.returncode == 0, first.stderr
    number = int(first.stderr.split(" links written")[0].rpartition("\n")[2])
    edges = edges_in(file)
    assert len(edges) == number
    assert (host.url, f"{host.url}a", "a") in edges
    assert (f"{host.url}old", f"{host.url}older", "redirect") in edges
    before = file.read_bytes()
    again = run(crawled, "links", "--graph", str(file))
    assert again.returncode == 2
    assert "is there already: --overwrite replaces it" in again.stderr
    assert file.read_bytes() == before
    fewer = run(crawled, "links", "--graph", str(file), "--overwrite", "--kind", "redirect")
    assert fewer.returncode == 0, fewer.stderr
    assert {kind for _, _, kind in edges_in(file)} == {"redirect"}


def edges_in(file: Path) -> list[tuple[str, str, str]]:
    if file.suffix != ".graphml":
        import duckdb

        name = file.name if file.suffix != ".db" else None
        with duckdb.connect() as connection:
            if name is None:
                return edges_in_database(file)
            return connection.execute(f"""SELECT "from", "to", kind FROM '{file}'""").fetchall()
    root = ElementTree.parse(file).getroot()
    nodes = {node.get("id"): node.findtext(f"{GRAPHML}data[@key='url']") for node in root.iter(f"{GRAPHML}node")}
    return [
        (
            str(nodes[edge.get("source")]),
            str(nodes[edge.get("target")]),
            str(edge.findtext(f"{GRAPHML}data[@key='kind']")),
        )
        for edge in root.iter(f"{GRAPHML}edge")
    ]


def edges_in_database(file: Path) -> list[tuple[str, str, str]]:
    import sqlite3
    from contextlib import closing

    with closing(sqlite3.connect(file)) as connection:
        ((table,),) = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND sql LIKE '%kind%'")
        return connection.execute(f'SELECT "from", "to", kind FROM "{table}"').fetchall()


def test_what_is_crawled_later_is_read_when_it_is_asked(sqspider: Run, host: Site) -> None:
    sqspider("crawl", f"{host.url}b", *CRAWL)
    assert json.loads(sqspider("links", "--from", f"{host.url}b", "--json").stdout or "null") is None
    sqspider("crawl", f"{host.url}orphan", *CRAWL, "--depth", "0", "--crawl", "other")
    (row,) = map(json.loads, sqspider("links", "--from", f"{host.url}orphan", "--json").stdout.splitlines())
    assert (row["to"], row["status"], row["reason"]) == (host.url, "left out", "depth_limit")
    assert sqspider("links", "--to", host.url, "--crawl", "none").returncode == 2


def test_what_is_erased_is_in_no_table_of_links(tmp_path: Path, sqspider: Run) -> None:
    write(tmp_path / "warcs", "one", site({"/": "<a href=/secret>x</a>", "/kept": "<a href=/>home</a>"}))
    archive = ("--archive", "warcs")
    assert sqspider("links", *archive).returncode == 0
    assert b"secret" in (tmp_path / "warcs/links.db").read_bytes()
    done = sqspider("archive", "forget", f"{SITE}/", *archive, "--yes")
    assert done.returncode == 0, done.stderr
    assert not [file for file in (tmp_path / "warcs").iterdir() if b"secret" in file.read_bytes()]
    assert sqspider("links", *archive, "--to", f"{SITE}/", "--json").stdout.count("\n") == 1
    assert b"secret" not in (tmp_path / "warcs/links.db").read_bytes()


def test_an_archive_alone_tells_what_it_can(tmp_path: Path, sqspider: Run) -> None:
    pages = site(
        {"/": "<a href=/gone>g</a><a href=/m>m</a><a href=/x#no>x</a><a href=/never>n</a>", "/x": "<p id=yes>"}
    )
    gone, moved = answer(f"{SITE}/gone", "", status=404), answer(f"{SITE}/m", "", "Location: /gone", HTML, status=301)
    file = write(tmp_path / "warcs", "one", [*pages, gone, moved])
    for address in (str(file), str(file.parent)):
        broken = sqspider("links", "--archive", address, "--broken", "--json")
        assert broken.returncode == 1
        rows = [json.loads(line) for line in broken.stdout.splitlines()]
        assert {row["to"]: row["http_status"] for row in rows} == {f"{SITE}/gone": 404, f"{SITE}/m": 404}
        assert "by the captures alone" in broken.stderr
        links = sqspider("links", "--archive", address, "--from", f"{SITE}/").stdout
        assert f'{SITE}/never  a  "n"  [not known]' in links
        assert sqspider("links", "--archive", address, "--anchors").stdout.startswith(f"{SITE}/x#no\n")
    assert (file.parent / "links.db").exists()
    assert sqspider("links", "--archive", str(file), "--crawl", "a", "--broken").returncode == 2
    other = tmp_path / "kept.db"
    assert sqspider("links", "--archive", str(file), "--links", str(other)).returncode == 0
    assert other.exists()


def test_a_later_visit_that_is_well_mends_a_link(tmp_path: Path, sqspider: Run) -> None:
    file = write(tmp_path / "warcs", "one", [*site({"/": "<a href=/x>x</a>"}), answer(f"{SITE}/x", "", status=500)])
    assert sqspider("links", "--archive", str(file.parent), "--broken").returncode == 1
    write(file.parent, "two", [answer(f"{SITE}/x", "well", date=LATER)])
    assert sqspider("links", "--archive", str(file.parent), "--broken").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--to", "http://a.test/", "--broken"), "one thing at a time: --to or --broken"),
        (("--overwrite",), "--overwrite is of the file of --graph"),
        (("--kind", "image"), "'image' is not one of"),
        (("--kind", "a"), "--kind chooses answers: ask for some"),
        (("--graph", "graph.xlsx"), "--graph: graph.xlsx: rows are written as"),
        (("--host", "http://a.test/"), "is no host"),
        (("--limit", "0"), "0 is not in the range"),
        (("--archive", "none-there"), "there is no archive none-there"),
    ],
)
def test_what_makes_no_sense_is_refused(sqspider: Run, arguments: tuple[str, ...], told: str) -> None:
    done = sqspider("links", *arguments)
    assert done.returncode == 2
    assert told in done.stderr


def test_what_strangers_wrote_does_nothing_to_a_terminal(tmp_path: Path, sqspider: Run) -> None:
    html = "<a href='htp://\x1b[31mx'>\x1b]0;title\x07\u202etxt</a>" + "." * 200
    file = write(tmp_path / "warcs", "one", site({"/": html}))
    told = sqspider("links", "--archive", str(file), "--broken").stdout
    assert told.count("\n") >= 2
    assert not {"\x1b", "\x07", "\u202e"} & set(told)


def test_a_damaged_file_is_told_by_the_exit_status(tmp_path: Path, sqspider: Run) -> None:
    file = write(tmp_path / "warcs", "one", site({"/": "<a href=/x>x</a>", "/y": "y"}))
    file.write_bytes(file.read_bytes()[:-40])
    done = sqspider("links", "--archive", str(file.parent), "--to", f"{SITE}/x")
    assert done.returncode == 1
    assert "damaged: " in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_nothing_is_left_of_one_that_is_ended(number: signal.Signals, tmp_path: Path) -> None:
    file = write(tmp_path / "warcs", "one", site({f"/{page}": "<a href=/x>x</a>" for page in range(2000)}))
    (folder := tmp_path / "temporary").mkdir()
    command = [sys.executable, "-m", "sqspider", "links", "--archive", str(file), "--to", f"{SITE}/x"]
    environment = os.environ | {"TMPDIR": str(folder)}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline()  # it is amid its answer: there is more than a pipe holds
        assert list(folder.iterdir())
        running.send_signal(number)
        running.communicate()
    assert running.returncode == 130
    assert not list(folder.iterdir())


def test_a_link_is_broken_whatever_is_taken_out_of_it(sqspider: Run) -> None:
    server = Site()
    server.bodies = {"/robots.txt": b"", "/": b"<title>Home</title><a href=/gone?utm_source=x>gone</a>"}
    try:
        sqspider("crawl", server.url, *CRAWL, "--drop-tracking")
    finally:
        server.close()
    assert server.paths == ["/robots.txt", "/", "/gone"]
    done = sqspider("links", "--broken", "--json")
    assert done.returncode == 1
    (told,) = map(json.loads, done.stdout.splitlines())
    assert (told["to"], told["http_status"]) == (f"{server.url}gone?utm_source=x", 404)
    assert [source["from"] for source in told["sources"]] == [server.url]
