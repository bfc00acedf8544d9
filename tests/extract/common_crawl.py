"""A WARC file as Common Crawl writes its own, by the description of that format; no page of theirs is in it.

WARC/1.0; a warcinfo, then for each page request, response and metadata, each in a gzip member of its own. Bodies are
stored decoded, and what they were sent with is kept in headers called ``X-Crawl-…``; files of 2008 to 2012 and those of
others have them as they came. https://commoncrawl.org/get-started, https://github.com/commoncrawl/nutch
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from typing import Final, NamedTuple

from tests.archive.warcs import Made, identity, made, packed

NAME: Final = "CC-MAIN-20260310084732-20260310114732-00017.warc.gz"
AT: Final = "2026-03-10T09:12:03Z"
_HOST: Final = ("WARC-IP-Address", "192.0.2.80")


class Page(NamedTuple):
    """A page that was fetched."""

    url: str
    body: bytes
    http_status: int = 200
    content_type: str | None = "text/html; charset=utf-8"  # none: the server said none
    truncated: str | None = None  # why the body ends early: length, time, disconnect
    is_chunked: bool = False  # kept with its chunks, as they came
    is_packed: bool = False  # kept with its gzip, as it came
    identified: str = "text/html"  # by who looked into it


def file_of(pages: Sequence[Page], name: str = NAME) -> bytes:
    """The file."""
    info = _info(name)
    records = [info]
    for page in pages:
        records += _records(page, info)
    return packed(records)


def _info(name: str) -> Made:
    told = (
        "isPartOf: CC-MAIN-2026-12\r\npublisher: Common Crawl\r\n"
        "description: Wide crawl of the web for March 2026\r\noperator: Common Crawl Admin\r\n"
        "software: Apache Nutch (modified)\r\nrobots: checked via crawler-commons\r\nformat: WARC File Format 1.1\r\n\r\n"
    )
    return _old(
        made("warcinfo", name, told.encode(), ("WARC-Filename", name), date=AT, content_type="application/warc-fields")
    )


def _records(page: Page, info: Made) -> list[Made]:
    uri = ("WARC-Target-URI", page.url)
    origin = ("WARC-Warcinfo-ID", info.get("WARC-Record-ID"))
    host, _, path = page.url.partition("://")[2].partition("/")
    asked = f"GET /{path} HTTP/1.1\r\nUser-Agent: CCBot/2.0\r\nHost: {host}\r\n\r\n".encode()
    request = _old(
        made(
            "request", f"request of {page.url}", asked, origin, _HOST, uri,
            date=AT, content_type="application/http; msgtype=request",
        )
    )  # fmt: skip
    beside = ("WARC-Concurrent-To", request.get("WARC-Record-ID"))
    more = [("WARC-Identified-Payload-Type", page.identified)]
    more += [("WARC-Truncated", page.truncated)] if page.truncated else []
    answer = made(
        "response", f"response of {page.url}", b"", origin, beside, _HOST, uri, *more,
        date=AT, content_type="application/http; msgtype=response",
    ).with_block(_answer(page))  # fmt: skip
    told = b'fetchTimeMs: 233\r\ncharset-detected: UTF-8\r\nlanguages-cld2: {"reliable":true,"text-bytes":210}\r\n\r\n'
    metadata = made(
        "metadata", f"metadata of {page.url}", told, origin, ("WARC-Concurrent-To", identity(f"response of {page.url}")),
        uri, date=AT, content_type="application/warc-fields",
    )  # fmt: skip
    return [request, _old(answer), _old(metadata)]


def _answer(page: Page) -> bytes:
    headers = [f"HTTP/1.1 {page.http_status} Said", "Server: nginx"]
    headers += [f"Content-Type: {page.content_type}"] if page.content_type else []
    body = gzip.compress(page.body, mtime=0) if page.is_packed else page.body
    headers += ["Content-Encoding: gzip"] if page.is_packed else ["X-Crawl-Content-Encoding: br"]
    if page.is_chunked:
        headers += ["Transfer-Encoding: chunked"]
        pieces = [body[at : at + 100] for at in range(0, len(body), 100)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    else:
        headers += ["X-Crawl-Transfer-Encoding: chunked", f"Content-Length: {len(body)}"]
    return "\r\n".join((*headers, "", "")).encode() + body


def _old(record: Made) -> Made:
    record.version = "WARC/1.0"
    return record
