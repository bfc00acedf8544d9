"""`--only`: a crawl that is for some media types reads those, and pages for their links; the rest is let go."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final

import msgspec
import pytest

from sqspider.crawl_settings import CrawlSettings, named_types
from sqspider.frontier import Frontier
from tests.conftest import Run
from tests.crawl.crawl_rows import SETTINGS, changed, made, page, put_in, records_of, work
from tests.sites import Site

replace = msgspec.structs.replace
ONLY_PDF: Final = replace(SETTINGS, only=("application/pdf",), obey_robots=False)
LARGE: Final = 50_000_000  # bytes of what is let go: more than sockets hold


class Typed:
    """A server that says of each path a type, and that of some a large body follows."""

    def __init__(self) -> None:
        self.sent: dict[str, int] = {}  # bytes of bodies that somebody took, by path
        self.types: dict[str, str | None] = {}
        self.bodies: dict[str, bytes] = {}
        site = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = site.bodies.get(self.path, b"x" * 100)
                self.send_response(200)
                if (content_type := site.types.get(self.path, "text/html")) is not None:
                    self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                site.sent[self.path] = 0
                try:
                    for at in range(0, len(body), 65_536):
                        self.wfile.write(body[at : at + 65_536])
                        site.sent[self.path] += len(body[at : at + 65_536])
                except OSError:
                    self.close_connection = True

            def log_message(self, *_: object) -> None:
                """It writes to standard error otherwise."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/"
        self._thread = Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


async def test_pages_are_walked_and_what_is_neither_is_not_read(frontier: Frontier) -> None:
    site = Typed()
    try:
        site.types = {"/a.pdf": "application/pdf", "/film": "video/mp4", "/x": "application/xhtml+xml; charset=utf-8"}
        site.types |= {"/none": None, "/p.png": "image/PNG"}
        site.bodies = {"/": page("a.pdf", "film", "x", "none", "p.png"), "/film": bytes(LARGE), "/none": page("deep")}
        site.bodies |= {"/x": b"<html xmlns='http://www.w3.org/1999/xhtml'><a href='y'>y</a></html>"}
        await put_in(frontier, await made(frontier, settings=ONLY_PDF), site.url)
        await work(frontier)
    finally:
        site.close()
    outcomes = {
        record.url.removeprefix(site.url): record.outcome
        for record in (await records_of(frontier)).values()
        if record.outcome is not None
    }
    assert {path: (outcome.status, outcome.bytes) for path, outcome in outcomes.items()} == {
        "": ("done", len(site.bodies["/"])), "a.pdf": ("done", 100), "film": ("done", 0), "p.png": ("done", 0),
        "x": ("done", len(site.bodies["/x"])), "y": ("done", 100), "none": ("done", len(site.bodies["/none"])),
        "deep": ("done", 100),
    }  # fmt: skip
    film = outcomes["film"]
    assert (film.content_type, film.digest, film.reason, film.truncated) == ("video/mp4", None, None, False)
    assert film.detail
    assert not outcomes["a.pdf"].detail
    assert site.sent["/film"] < LARGE / 2, "it was let go after its head"


async def test_who_takes_pages_gets_those_it_is_for(frontier: Frontier, host: Site) -> None:
    host.bodies = {"/": page("a.pdf", "b", "gone", "film"), "/b": b"b", "/film": (200, {"Content-Type": "video/mp4"})}
    host.bodies["/a.pdf"] = (200, {"Content-Type": "application/pdf"})
    await put_in(frontier, await made(frontier, settings=ONLY_PDF), host.url)
    taken: list[str] = []

    def take(held: object) -> None:
        taken.append(held.message.url.removeprefix(host.url))  # type: ignore[attr-defined] # as a worker hands it over
        held.finish()  # type: ignore[attr-defined]

    await work(frontier, take=take)
    assert sorted(taken) == ["a.pdf", "gone"]
    assert (await frontier.counts()).open == 0


def test_what_is_kept_and_visited_again_by_another_word(sqspider: Run, host: Site, tmp_path: Path) -> None:
    """What was not read is asked for whole, whatever its server says has changed."""
    host.bodies = {"/": page("a.pdf", "p.png"), "/a.pdf": (200, {"Content-Type": "application/pdf"})}
    host.bodies["/p.png"] = lambda asked: (
        (304, {}) if asked.headers["If-None-Match"] else (200, {"Content-Type": "image/png", "ETag": '"1"'})
    )
    kept = ("--archive", str(tmp_path / "kept"))
    options = ("--allow-private", "--delay", "0", "--ignore-robots", *kept)
    done = sqspider("crawl", host.url, *options, "--only", "pdf")
    assert done.returncode == 0, done.stderr
    assert "application/pdf" in done.stderr

    def kept_of() -> dict[str, bool]:
        rows = map(json.loads, sqspider("export").stdout.splitlines())
        return {row["url"].removeprefix(host.url): row["capture_file"] is not None for row in rows}

    assert kept_of() == {"": False, "a.pdf": True, "p.png": False}
    assert sqspider("archive", "verify", *kept).returncode == 0
    assert sqspider("crawl", "--again", "--quiet", *options, "--only", "image", "--only", "pdf").returncode == 0
    assert kept_of() == {"": False, "a.pdf": True, "p.png": True}
    assert sqspider("archive", "verify", *kept).returncode == 0
    refused = sqspider("crawl", host.url, "--only", "paper")
    assert refused.returncode == 2
    assert "--only" in refused.stderr
    assert "pdf" in refused.stderr


async def test_what_was_not_read_is_asked_for_whole_though_its_server_says_it_is_unchanged(
    frontier: Frontier, host: Site
) -> None:
    """Also where nothing is archived."""
    host.bodies = {"/": page("p.png")}
    host.bodies["/p.png"] = lambda asked: (
        (304, {}) if asked.headers["If-None-Match"] else (200, {"Content-Type": "image/png", "ETag": '"1"'})
    )
    await put_in(frontier, await made(frontier, settings=ONLY_PDF), host.url)
    await work(frontier)
    await changed(frontier, settings=replace(ONLY_PDF, only=()))
    assert await frontier.reopen([f"@news {host.url}p.png"], if_changed=True) == [True]
    await work(frontier)
    outcome = (await records_of(frontier))[f"@news {host.url}p.png"].outcome
    assert outcome is not None
    assert (outcome.http_status, outcome.unchanged, outcome.digest is not None) == (200, False, True)


def test_short_names_stand_for_types() -> None:
    assert named_types(["html", "image/*", "pdf", "text/html"]) == (
        "text/html", "application/xhtml+xml", "image/*", "application/pdf",
    )  # fmt: skip


@pytest.mark.parametrize(("type_", "is_kept"), [("text/html", True), ("image/png", False), ("text/plain", False)])
def test_what_is_archived_is_what_both_say(type_: str, is_kept: bool) -> None:
    settings = CrawlSettings(keep=("text/html", "image/*"), only=("text/*",))
    assert settings.keeps(type_) is is_kept
