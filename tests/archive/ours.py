"""An archive of ours with everything in it that a crawl meets, written by the crawler's own store."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import brotli
from msgspec.structs import replace

from sqspider.archive.coding import Coding
from sqspider.archive.store import open_store
from sqspider.capture import Capture, Hop
from sqspider.record import CapturePlace, Reason
from sqspider.web.fetch import Cut
from tests.archive.captures import AT, HTML, LARGE, capture_of

SITE: Final = "http://site.example"
OTHER: Final = b"<title>\xc3\xbcber</title>\n" + LARGE


def pages() -> list[Capture]:
    """Answers of all kinds, each of a URL of its own and a second of its own."""
    packed, brotlied = gzip.compress(OTHER, mtime=0), brotli.compress(OTHER + b"br")
    chunked = [HTML, b"Transfer-Encoding: chunked\r\n", b"Trailer: X-Sum\r\n"]
    made = [
        capture_of(LARGE, url=f"{SITE}/page", hop=Hop.SEED),
        capture_of(LARGE + b"chunked", *chunked, url=f"{SITE}/chunked", wire={"trailers": [b"X-Sum: 1\r\n"]}),
        capture_of(
            packed, HTML, b"Content-Encoding: gzip\r\n", b"Content-Length: %d\r\n" % len(packed), url=f"{SITE}/gzip"
        ),
        capture_of(
            brotlied,
            HTML,
            b"content-encoding: br\r\n",
            url=f"{SITE}/br",
            wire={"protocol": "HTTP/2"},
            status=b"HTTP/2 200 \r\n",
        ),
        capture_of(
            b"", b"Location: /page\r\n", b"Content-Length: 0\r\n", url=f"{SITE}/moved", status=b"HTTP/1.1 301 Moved\r\n"
        ),
        capture_of(
            b"not here " * 50,
            url=f"{SITE}/none",
            status=b"HTTP/1.1 404 Not Found\r\n",
            fetched={"reason": Reason.CLIENT_ERROR},
        ),
        capture_of(
            LARGE[:700],
            HTML,
            b"Content-Length: 99999\r\n",
            url=f"{SITE}/cut",
            fetched={"cut": Cut.DISCONNECT, "truncated": True},
        ),
        capture_of(b"no type " * 90, b"Content-Length: 720\r\n", url=f"{SITE}/untyped"),
        capture_of(
            b"odd type " * 90, b"Content-Type:  Text/HTML ;charset=x\r\n", b"X: \xe4\xff\r\n", url=f"{SITE}/odd"
        ),
        capture_of(b"empty type " * 90, b"Content-Type: \r\n", url=f"{SITE}/empty-type"),
        capture_of(b"query " * 200, url=f"{SITE}/q?b=2&a=1|x&PHPSESSID=0123456789abcdef0123456789abcdef"),
        capture_of(b"port " * 200, url="https://WWW.site.example:8443/%C3%A4/?".lower().replace("%c3%a4", "%C3%A4")),
        capture_of(b"v6 " * 300, url="http://[2001:db8::7]:8080/x"),
    ]
    return [replace(capture, at=AT + number) for number, capture in enumerate(made)]


def again(places: dict[str, CapturePlace]) -> list[Capture]:
    """Later visits: of a payload that was there under another URL, and of what has not changed."""
    return [
        capture_of(LARGE, HTML, b"Content-Length: %d\r\n" % len(LARGE), b"Age: 7\r\n", url=f"{SITE}/same", at=AT + 100),
        capture_of(
            b"",
            b'ETag: "7"\r\n',
            url=f"{SITE}/gzip",
            status=b"HTTP/1.1 304 Not Modified\r\n",
            at=AT + 101,
            before=places[f"{SITE}/gzip"],
        ),
    ]


async def written(
    folder: Path, batches: Sequence[Sequence[Capture]], coding: Coding = Coding.GZIP
) -> list[CapturePlace]:
    """Keep captures as the crawler does; their places."""
    store = open_store(str(folder), coding)
    places: list[CapturePlace] = []
    for batch in batches:
        places += [place for place in await store.keep(batch) if place is not None]
    await store.close()
    return places


async def an_archive(folder: Path, coding: Coding = Coding.GZIP) -> dict[str, CapturePlace]:
    """An archive with all of it; the place of each URL's last capture."""
    store = open_store(str(folder), coding)
    store.note(
        capture_of(
            b"User-agent: *\nDisallow:\n",
            b"Content-Type: text/plain\r\n",
            url=f"{SITE}/robots.txt",
            hop=Hop.ROBOTS,
            at=AT - 1,
        )
    )
    found: dict[str, CapturePlace] = {}
    for captures in (pages(), None):
        captures = captures or again(found)
        for capture, place in zip(captures, await store.keep(captures), strict=True):
            assert place is not None
            found[capture.url] = place
    await store.close()
    return found
