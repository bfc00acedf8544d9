"""`sqspider check`: what it finds, what it says of it, and how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sqspider.extract.report_findings import Finding, Report, Source, Verdict
from sqspider.extract.report_markdown import as_markdown
from tests.conftest import Run
from tests.extract.planted import PlantedSite
from tests.sites import Site


@contextmanager
def serving_files(folder: Path) -> Iterator[str]:
    """A server of files, which tells types by their names."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            """It writes to standard error otherwise."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


HERE = ("--allow-private", "--quiet")


@pytest.fixture
def served() -> Iterator[Site]:
    site = Site()
    site.bodies["/robots.txt"] = b""
    yield site
    site.close()


def page(*elements: str) -> bytes:
    return f"<!doctype html><title>t</title>{''.join(elements)}".encode()


def told(sqspider: Run, *arguments: str, status: int) -> dict[str, Any]:
    done = sqspider("check", *arguments, *HERE, "--json")
    assert done.returncode == status, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def found(report: dict[str, Any], verdict: Verdict = Verdict.BROKEN) -> dict[str, list[str]]:
    """By target, the pages that name it."""
    return {
        finding["target"]: sorted({source["page"] for source in finding["sources"]})
        for finding in report["findings"]
        if finding["verdict"] == verdict
    }


def test_exactly_what_is_planted_is_found_with_every_source(sqspider: Run) -> None:
    with PlantedSite() as site:
        report = told(sqspider, site.url, "--anchors", "--timeout", "2", status=1)
    assert len(site.faults) == 200
    assert len({fault.kind for fault in site.faults}) == 20
    seen = {**found(report), **found(report, Verdict.ANCHOR)}
    assert seen == {fault.target: list(fault.sources) for fault in site.faults}
    texts = {finding["target"]: {source["text"] for source in finding["sources"]} for finding in report["findings"]}
    assert texts == {fault.target: {fault.text} for fault in site.faults}
    assert report["left"] is None


def test_a_site_that_is_well_is_clean_and_asked_once_for_each_url(sqspider: Run, served: Site) -> None:
    served.bodies["/"] = page('<a href="/a">a</a><img src="/i.png"><link rel="preconnect" href="/never">')
    served.bodies["/a"] = page('<a href="/#top">up</a><form action="/send"></form>')
    served.bodies["/i.png"] = b""
    report = told(sqspider, served.url, "--anchors", status=0)
    assert report["is_clean"]
    assert report["findings"] == []
    assert sorted(served.paths) == ["/", "/a", "/i.png", "/robots.txt"]


def test_what_a_stylesheet_refers_to_is_checked(sqspider: Run, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/index.html").write_text('<!doctype html><link rel="stylesheet" href="/s.css">')
    (tmp_path / "site/s.css").write_text("p { background: url(/none.png) }")
    with serving_files(tmp_path / "site") as url:
        report = told(sqspider, url, status=1)
    assert found(report) == {f"{url}none.png": [f"{url}s.css"]}


def test_another_site_is_asked_and_not_gone_into(sqspider: Run, served: Site) -> None:
    other = served.url_of("127.0.0.2")
    served.bodies["127.0.0.1/"] = page(f'<a href="{other}there">there</a><a href="{other}gone">gone</a>')
    served.bodies["127.0.0.2/there"] = page('<a href="/deeper">deeper</a>')
    report = told(sqspider, served.url, status=1)
    assert found(report) == {f"{other}gone": [served.url]}
    assert "/deeper" not in served.paths
    assert found(told(sqspider, served.url, "--no-external", status=0)) == {}


def test_a_way_over_another_site_is_gone_to_its_end(sqspider: Run, served: Site) -> None:
    other = served.url_of("127.0.0.2")
    served.bodies["127.0.0.1/"] = page('<a href="/out">out</a>')
    served.bodies["/out"] = (302, {"Location": f"{other}on"})
    served.bodies["127.0.0.2/on"] = (302, {"Location": f"{other}gone"})
    report = told(sqspider, served.url, status=1)
    assert found(report)[f"{served.url}out"] == [served.url]
    (finding,) = (each for each in report["findings"] if each["target"] == f"{served.url}out")
    assert finding["leads_to"] == [f"{other}on", f"{other}gone"]


def test_what_a_page_needs_of_another_site_is_gone_to_its_end_and_not_into(sqspider: Run, served: Site) -> None:
    other = served.url_of("127.0.0.2")
    served.bodies["127.0.0.1/"] = page(f'<img src="{other}moved"><link rel="alternate" href="{other}there">')
    served.bodies["127.0.0.2/moved"] = (302, {"Location": f"{served.url_of('127.0.0.3')}gone"})
    served.bodies["127.0.0.2/there"] = page('<a href="/deeper">deeper</a>')
    assert found(told(sqspider, served.url, status=1))[f"{other}moved"] == [served.url]
    assert "/there" in served.paths
    assert "/deeper" not in served.paths


def test_what_another_site_redirects_is_gone_to_its_end(sqspider: Run, served: Site) -> None:
    other = served.url_of("127.0.0.2")
    served.bodies["127.0.0.1/"] = page(f'<a href="{other}on">on</a><a href="{other}well">well</a>')
    served.bodies["127.0.0.2/on"] = (302, {"Location": f"{other}gone"})
    served.bodies["127.0.0.2/well"] = (302, {"Location": f"{other}there"})
    served.bodies["127.0.0.2/there"] = b""
    report = told(sqspider, served.url, status=1)
    assert found(report)[f"{other}on"] == [served.url]
    assert f"{other}well" not in found(report)


def test_what_another_site_refuses_to_programs_is_broken_only_if_that_is_asked_for(sqspider: Run, served: Site) -> None:
    hosts = {"127.0.0.2": 401, "127.0.0.3": 403, "127.0.0.4": 429}
    others = [f"{served.url_of(host)}x" for host in hosts]
    served.bodies["127.0.0.1/"] = page(*(f'<a href="{other}">x</a>' for other in others))
    served.bodies |= {f"{host}/x": (http_status, {}) for host, http_status in hosts.items()}
    brief = ("--timeout", "1")  # after a 429 it waits for nothing else, and not for long
    with ThreadPoolExecutor() as pool:  # both wait most of the time
        unsure = pool.submit(told, sqspider, served.url, *brief, status=0)
        strict = pool.submit(told, sqspider, served.url, *brief, "--strict", status=1)
    expected = {other: [served.url] for other in others}
    assert found(unsure.result(), Verdict.UNSURE) == found(strict.result()) == expected


def test_one_s_own_page_that_is_forbidden_is_broken(sqspider: Run, served: Site) -> None:
    served.bodies["/"] = page('<a href="/x">x</a>')
    served.bodies["/x"] = (403, {})
    assert found(told(sqspider, served.url, status=1)) == {f"{served.url}x": [served.url]}


def test_what_robots_txt_forbids_is_not_checked_and_that_is_said(sqspider: Run, served: Site) -> None:
    served.bodies["/robots.txt"] = b"User-agent: *\nDisallow: /private"
    served.with_bytes = {"Content-Type": "text/html"}
    served.bodies["/"] = page('<a href="/private">p</a>')
    report = told(sqspider, served.url, status=0)
    assert found(report, Verdict.UNCHECKED) == {f"{served.url}private": [served.url]}
    assert "/private" not in served.paths


def test_a_seed_that_fails_is_broken(sqspider: Run, served: Site) -> None:
    assert found(told(sqspider, f"{served.url}none", status=1)) == {f"{served.url}none": []}


def test_a_seed_that_nobody_answers_is_broken(sqspider: Run) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/"
        assert found(told(sqspider, url, status=1)) == {url: []}


@pytest.mark.parametrize("more", [(), ("--anchors", "--redirects")])
def test_where_nothing_was_answered_at_all_it_is_said(sqspider: Run, served: Site, more: tuple[str, ...]) -> None:
    done = sqspider("check", served.url, "--quiet", *more)  # an address that is not public, and may not be asked
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "0 pages and 1 target in" in done.stdout
    assert "--allow-private lifts that" in done.stdout + done.stderr


def test_a_seed_that_may_not_be_asked_leaves_a_check_that_is_not_whole(sqspider: Run, served: Site) -> None:
    done = sqspider("check", served.url, "--quiet")
    assert done.returncode == 1
    assert "not whole" in done.stderr
    assert "--allow-private" in done.stderr


def test_what_a_sitemap_lists_is_checked_if_that_is_asked_for(sqspider: Run, served: Site) -> None:
    served.bodies["/"] = page()
    served.bodies["/sitemap.xml"] = f"<urlset><url><loc>{served.url}lost</loc></url></urlset>".encode()
    assert found(told(sqspider, served.url, status=0)) == {}
    report = told(sqspider, served.url, "--sitemaps", status=1)
    assert found(report) == {f"{served.url}lost": [f"{served.url}sitemap.xml"]}


def test_a_sitemap_that_is_named_and_broken_is_said_and_the_rest_is_checked(sqspider: Run, served: Site) -> None:
    served.bodies["/robots.txt"] = f"Sitemap: {served.url}none.xml".encode()
    served.bodies["/"] = page('<img src="/none.png">')
    report = told(sqspider, served.url, "--sitemaps", status=1)
    assert "none.xml" in report["left"]
    assert found(report) == {f"{served.url}none.png": [served.url]}


def test_what_is_known_is_ignored_and_counted(sqspider: Run, served: Site) -> None:
    served.bodies["/"] = page('<a href="/old/1">1</a><a href="/old/2">2</a>')
    report = told(sqspider, served.url, "--ignore", "/old/", status=0)
    assert (report["findings"], report["ignored"]) == ([], 2)
    assert found(told(sqspider, served.url, "--exclude", "/old/1", status=1)) == {f"{served.url}old/2": [served.url]}


def test_redirects_are_listed_if_asked_for_and_fail_nothing(sqspider: Run, served: Site) -> None:
    served.bodies["/"] = page('<a href="/old">old</a>')
    served.bodies["/old"] = (301, {"Location": "/new"})
    served.bodies["/new"] = page()
    assert told(sqspider, served.url, status=0)["findings"] == []
    report = told(sqspider, served.url, "--redirects", status=0)
    assert found(report, Verdict.REDIRECT) == {f"{served.url}old": [served.url]}


def test_a_check_that_is_not_whole_says_so(sqspider: Run, served: Site) -> None:
    served.bodies["/"] = page(*(f'<a href="/{number}">n</a>' for number in range(9)))
    served.bodies |= {f"/{number}": page() for number in range(9)}
    done = sqspider("check", served.url, *HERE, "--max-pages", "2")
    assert done.returncode == 1
    assert "not whole: --max-pages 2 was reached" in done.stderr


def test_depth_goes_so_far_and_checks_one_step_further(sqspider: Run, served: Site) -> None:
    served.bodies["/"] = page('<a href="/a">a</a>')
    served.bodies["/a"] = page('<a href="/b">b</a><a href="/gone">gone</a>')
    served.bodies["/b"] = page('<a href="/c">c</a>')
    assert found(told(sqspider, served.url, "--depth", "1", status=1)) == {f"{served.url}gone": [f"{served.url}a"]}
    assert "/b" in served.paths
    assert "/c" not in served.paths


def test_it_begins_afresh_and_leaves_nothing(sqspider: Run, served: Site, tmp_path: Path) -> None:
    served.bodies["/"] = page('<a href="/a">a</a>')
    told(sqspider, served.url, status=1)
    served.bodies["/a"] = page()
    told(sqspider, served.url, status=0)
    assert list(tmp_path.iterdir()) == []


def test_a_frontier_that_is_named_stays_and_must_be_new(sqspider: Run, served: Site) -> None:
    served.bodies["/"] = page('<a href="/a">a</a>')
    told(sqspider, "--frontier", "sqlite:kept.db", served.url, status=1)
    assert sqspider("--frontier", "sqlite:kept.db", "show", f"{served.url}a").returncode == 0
    again = sqspider("check", "--frontier", "sqlite:kept.db", served.url, *HERE)
    assert again.returncode == 2
    assert "kept.db is there, and a check begins afresh" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Missing argument"),
        (("nonsense",), "nonsense"),
        (("http://a.example/", "--ignore", "("), "no regular expression"),
        (("http://a.example/", "--exclude", "("), "no regular expression"),
        (("http://a.example/", "--frontier", "aws:"), "works on this machine"),
        (("http://a.example/", "--frontier", "sqlite::memory:"), "works on this machine"),
        (("http://a.example/", "--junit", "none/x.xml"), "there is no folder"),
        (("http://a.example/", "--depth", "-1"), "--depth"),
        (("http://a.example/", "--bearer", "file:none"), "bearer"),
    ],
)
def test_what_is_said_wrongly_is_refused_before_anything_is_asked(
    sqspider: Run, tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = sqspider("check", *arguments)
    assert done.returncode == 2, done.stdout
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_log_ins_go_to_one_s_own_site_alone(sqspider: Run, served: Site) -> None:
    other = served.url_of("127.0.0.2")
    served.bodies["127.0.0.1/"] = page(f'<a href="{other}x">x</a><img src="/i.png">')
    served.bodies["127.0.0.2/x"] = served.bodies["/i.png"] = b""
    told(sqspider, served.url, "--header", "X-Preview: yes", status=0)
    assert {asked.host: asked.headers["X-Preview"] for asked in served.requests} == {
        "127.0.0.1": "yes",
        "127.0.0.2": None,
    }


def test_one_that_is_stopped_says_so(served: Site, tmp_path: Path) -> None:
    served.bodies["/"] = page('<a href="/a">a</a>')
    command = [sys.executable, "-m", "sqspider", "check", served.url, *HERE, "--delay", "5"]
    running = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while "/" not in served.paths:
        assert running.poll() is None
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    assert running.returncode == 130
    assert "not whole: it was stopped" in said


HOSTILE = "<b>|`x`|</b>\x1b[31m]]>&amp;\u202e\x00\ufffe ``` end"


def test_what_strangers_wrote_is_shown_and_obeyed_nowhere(sqspider: Run, served: Site, tmp_path: Path) -> None:
    text = HOSTILE.replace("&", "&amp;").replace("<", "&lt;")
    served.bodies["/"] = page(f'<a href="/gone?a|b`c">{text}</a><a href="htp://x|`y`\x1b[31m<i>">{text}</a>')
    done = sqspider("check", served.url, *HERE, "--junit", "out.xml", "--markdown", "out.md")
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert "\u202e" not in done.stdout
    tree = ElementTree.parse(tmp_path / "out.xml")
    assert len(tree.findall(".//failure")) == 2
    markdown = (tmp_path / "out.md").read_text()
    assert "\x1b" not in markdown
    without_code = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", markdown)  # what CommonMark shows as it stands
    assert "<b>" not in without_code
    assert "<i>" not in without_code


def code_spans(markdown: str) -> list[str]:
    """What CommonMark shows as it stands: from a run of backticks to the next of the same length."""
    spans, at = [], 0
    while found := re.compile("`+").search(markdown, at):
        fence = found[0]
        end = re.compile(f"(?<!`){fence}(?!`)").search(markdown, found.end())
        at = end.end() if end else found.end()
        if end:
            inner = markdown[found.end() : end.start()]
            spans.append(inner[1:-1] if inner[:1] == inner[-1:] == " " and inner.strip() else inner)
    return spans


@pytest.mark.parametrize("text", ["`", "``` x", "a `b` ``c``", "x`", "<i>", "| a |", "](http://x/)", "*a* _b_ # c"])
def test_a_text_in_markdown_is_all_of_a_code_span(text: str) -> None:
    finding = Finding(
        verdict=Verdict.BROKEN, target="http://x/<a>`", reason="bad_url", sources=(Source("http://a/", "a", text),)
    )
    report = Report(seeds=(), pages=1, targets=1, seconds=1.0, findings=(finding,))
    assert code_spans("\n".join(as_markdown(report))) == ["http://x/<a>`", "bad url", "a", text]


def test_junit_counts_what_it_has(sqspider: Run, served: Site, tmp_path: Path) -> None:
    served.bodies["/"] = page('<a href="/gone">g</a><a href="/old">o</a>')
    served.bodies["/old"] = (301, {"Location": "/"})
    sqspider("check", served.url, *HERE, "--redirects", "--junit", "out.xml")
    root = ElementTree.parse(tmp_path / "out.xml").getroot()
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("5", "1", "0")
    cases = root.findall("testsuite/testcase")
    assert len(cases) == 5
    assert [case.get("name") for case in cases if case.find("failure") is not None] == [f"{served.url}gone"]
    for suite in root:
        assert int(suite.get("tests", "")) == len(suite.findall("testcase"))
        assert int(suite.get("failures", "")) == len(suite.findall("testcase/failure"))


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no device here has no room")
@pytest.mark.parametrize(
    "more", [("--junit", "/dev/full"), ("--markdown", "/dev/full"), ("--junit", "/dev/full", "--json")]
)
def test_a_file_that_cannot_be_written_takes_no_finding_away(
    sqspider: Run, served: Site, more: tuple[str, ...]
) -> None:
    served.bodies["/"] = page('<a href="/gone">g</a>')
    done = sqspider("check", served.url, *HERE, *more)
    assert f"{served.url}gone" in done.stdout
    assert "/dev/full cannot be written: No space left on device" in done.stderr
    assert done.returncode == 1


JUNIT: dict[str, tuple[set[str], set[str]]] = {
    "testsuites": ({"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors", "time", "skipped"}, {"testcase"}),
    "testcase": ({"name", "time", "classname"}, {"skipped", "error", "failure", "system-out"}),
    "skipped": ({"type", "message"}, set()),
    "error": ({"type", "message"}, set()),
    "failure": ({"type", "message"}, set()),
    "system-out": (set(), set()),
}
"""What may stand in which element, and in it, by the schema that Jenkins goes by, as far as it is used here."""


@pytest.mark.parametrize("more", [(), ("--max-pages", "1")])
def test_junit_is_as_its_schema_wants_it(sqspider: Run, served: Site, tmp_path: Path, more: tuple[str, ...]) -> None:
    served.bodies["/"] = page('<a href="/gone">g</a><a href="/old">o</a>')
    served.bodies["/old"] = (301, {"Location": "/"})
    sqspider("check", served.url, *HERE, "--redirects", "--junit", "out.xml", *more)
    root = ElementTree.parse(tmp_path / "out.xml").getroot()
    assert root.tag == "testsuites"
    for element in root.iter():
        attributes, children = JUNIT[element.tag]
        assert set(element.keys()) <= attributes
        assert {child.tag for child in element} <= children
    assert bool(root.findall(".//error")) == bool(more)


def test_a_person_is_shown_twenty_pages_of_a_target_and_a_program_all(
    sqspider: Run, served: Site, tmp_path: Path
) -> None:
    served.bodies["/"] = page(*(f'<a href="/{number}">n</a>' for number in range(25)))
    served.bodies |= {f"/{number}": page('<a href="/gone">gone</a>') for number in range(25)}
    done = sqspider("check", served.url, *HERE, "--junit", "out.xml", "--markdown", "out.md")
    for text in (done.stdout, (tmp_path / "out.md").read_text()):
        assert len(re.findall(r"(?m)^ *-? *on ", text)) == 20
        assert "and 5 more" in text
    assert (tmp_path / "out.xml").read_text().count("\non http") == 25
    assert len(found(told(sqspider, served.url, status=1))[f"{served.url}gone"]) == 25


def test_links_of_a_page_that_is_hardly_text_are_checked(sqspider: Run, served: Site) -> None:
    served.bodies["/"] = page("\0" * 50, '<a href="/gone">gone</a>')
    done = sqspider("check", served.url, *HERE, "--json")
    assert done.returncode == 1
    (finding,) = json.loads(done.stdout)["findings"]
    assert finding["target"] == f"{served.url}gone"
    assert [source["page"] for source in finding["sources"]] == [served.url]


def test_one_that_cannot_be_reached_ends_without_an_archive(sqspider: Run) -> None:
    done = sqspider("check", "http://127.0.0.1:1/", *HERE, "--json")
    assert done.returncode == 1
    assert not done.stderr.count("Traceback")
    assert json.loads(done.stdout)["left"]


@pytest.mark.skipif(sys.platform == "darwin", reason="nobody is left who could: no process is forked there")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_one_that_is_killed(number: signal.Signals, served: Site, tmp_path: Path) -> None:
    served.bodies["/"] = page('<a href="/a">a</a>')
    command = [sys.executable, "-m", "sqspider", "check", served.url, *HERE, "--delay", "5"]
    running = subprocess.Popen(
        command, env=os.environ | {"TMPDIR": str(tmp_path)}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    while "/" not in served.paths:
        assert running.poll() is None
    assert list(tmp_path.iterdir())
    running.send_signal(number)
    if number == signal.SIGTERM:
        assert running.stderr is not None
        running.stderr.readline()  # it is stopping
        running.send_signal(number)
    running.communicate()
    until = time.monotonic() + 20
    while list(tmp_path.iterdir()) and time.monotonic() < until:
        time.sleep(0.05)
    assert not list(tmp_path.iterdir())


def test_where_an_empty_answer_leads_on_to_is_checked(sqspider: Run, served: Site) -> None:
    served.bodies["/"] = (200, {"Content-Type": "text/plain", "Refresh": "0; url=/gone"})
    (finding,) = json.loads(sqspider("check", served.url, *HERE, "--json").stdout)["findings"]
    assert (finding["target"], [source["page"] for source in finding["sources"]]) == (f"{served.url}gone", [served.url])
