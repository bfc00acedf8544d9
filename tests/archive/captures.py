"""Captures as fetchers make them, for tests of what keeps them."""

from __future__ import annotations

from typing import Any, Final

from sqspider.capture import Capture
from sqspider.transport import Exchange, Request
from sqspider.web.fetch import Fetched

REQUEST_HEAD: Final = b"GET /page HTTP/1.1\r\nHost: site.example\r\nUser-Agent: sqspider/0.1.0\r\n\r\n"
HTML: Final = b"Content-Type: text/html; charset=utf-8\r\n"
AT: Final = 1_790_000_000.123456
LARGE: Final = b"<p>a page that is larger than what refers to it</p>\n" * 40


def exchange_of(head: list[bytes], *, http_status: int = 200, **fields: Any) -> Exchange:
    """What was on the wire, of an answer with this head."""
    exchange = Exchange(Request("http://site.example/page", keeps_request_head=True))
    exchange.head = head
    exchange.http_status = http_status
    exchange.protocol = head[0].partition(b" ")[0].decode("latin-1")
    exchange.headers = tuple(
        (name.decode("latin-1").strip(), value.decode("latin-1").strip())
        for name, colon, value in (line.partition(b":") for line in head[1:-1])
        if colon
    )
    exchange.request_head = REQUEST_HEAD
    exchange.address = "192.0.2.7"
    for name, value in fields.items():
        setattr(exchange, name, value)
    return exchange


def capture_of(
    payload: bytes = LARGE,
    *lines: bytes,
    url: str = "http://site.example/page",
    status: bytes = b"HTTP/1.1 200 OK\r\n",
    at: float = AT,
    wire: dict[str, Any] | None = None,
    fetched: dict[str, Any] | None = None,
    **fields: Any,
) -> Capture:
    """A capture of an answer with these lines in its head; ``Content-Length`` is added where none are given."""
    http_status = int(status.split()[1])
    lines = lines or (HTML, b"Content-Length: %d\r\n" % len(payload))
    exchange = exchange_of([status, *lines, b"\r\n"], **{"http_status": http_status, **(wire or {})})
    what: dict[str, Any] = {
        "url": url,
        "http_status": http_status,
        "headers": exchange.headers,
        "body": payload,
        "truncated": False,
        "reason": None,
        "detail": "",
        "elapsed_seconds": 0.25,
        "sent_seconds": 0.01,
        "exchange": exchange,
        "payload": payload,
    }
    return Capture(url=url, fetched=Fetched(**{**what, **(fetched or {})}), at=at, **fields)
