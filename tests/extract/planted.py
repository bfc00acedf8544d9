"""A site with two hundred planted faults of twenty kinds, ten of each, served on loopback: the same at every start.

What is broken, and on which pages it stands, is a table (:attr:`PlantedSite.faults`); what looks broken and is not
stands on every page, too.
"""

from __future__ import annotations

import socket
import threading
from collections import defaultdict
from collections.abc import Callable
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Final, NamedTuple, Self

PAGES: Final = 60
OF_A_KIND: Final = 10
OWN, OTHER, HANGING, CLOSED = "127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"  # the hosts


class Fault(NamedTuple):
    """One broken target."""

    kind: str
    target: str  # absolute, with the fragment where that is what is missing; what is no URL as it is written
    sources: tuple[str, ...]  # the pages that name it
    text: str  # of the link; empty where its element has none


class _Planted(NamedTuple):
    """How a kind of fault is written into a page."""

    target: Callable[[PlantedSite, int, int], str]  # from a fault's number and its first page
    element: str  # with its target as {url} and its text as {text}
    most_sources: int = 3


def _own(path: str) -> Callable[[PlantedSite, int, int], str]:
    return lambda site, number, _: site.at(OWN, path.format(number))


def _at(host: str, path: str) -> Callable[[PlantedSite, int, int], str]:
    return lambda site, number, _: site.at(host, path.format(number))


def _malformed(site: PlantedSite, number: int, _: int) -> str:
    forms = (f"http://[no-bracket-{number}/", f"http://{OWN}:99{number:03}/", f"htp://{OWN}:{site.port}/typo/{number}")
    return forms[number % len(forms)]


_LINK: Final = '<p><a href="{url}">{text}</a></p>'
_AREA: Final = '<map name="m"><area href="{url}" alt="{text}" shape="default"></map>'
_KINDS: Final = {
    "missing": _Planted(_own("/missing/{}"), _LINK),  # 404, or 410 where the number is odd
    "missing from a map": _Planted(_own("/unmapped/{}"), _AREA),
    "server error": _Planted(_own("/broken/{}"), _LINK),
    "forbidden": _Planted(_own("/private/{}"), _LINK),
    "refused": _Planted(lambda site, number, _: f"http://{CLOSED}:{site.closed_port}/refused/{number}", _LINK),
    # A label that is longer than a name may have: no resolver asks anybody for it.
    "no such name": _Planted(lambda _, number, __: f"http://{'n' * 62}{number:02}.invalid/", _LINK),
    "redirects to what is missing": _Planted(_own("/moved/{}"), _LINK),
    "redirects in a circle": _Planted(_own("/circle/{}/a"), _LINK),
    "redirects without end": _Planted(_own("/further/{}/0"), _LINK),
    "hanging": _Planted(_at(HANGING, "/hanging/{}"), _LINK),
    "cut short": _Planted(_own("/short/{}"), _LINK),
    "missing elsewhere": _Planted(_at(OTHER, "/elsewhere/{}"), _LINK),
    "image": _Planted(_own("/image/{}.png"), '<p><img src="{url}" alt="{text}"></p>'),
    "wide image": _Planted(_own("/wide/{}.png"), '<p><img src="/good.png" srcset="{url} 2x"></p>'),
    "style": _Planted(_own("/style/{}.css"), '<link rel="stylesheet" href="{url}">'),
    "background": _Planted(_own("/background/{}.png"), '<style>p.b {{ background: url("{url}") }}</style>'),
    "script": _Planted(_own("/script/{}.js"), '<script src="{url}"></script>'),
    "anchor here": _Planted(lambda site, number, page: f"{site.page(page)}#no-such-{number}", _LINK, 1),
    "anchor elsewhere": _Planted(lambda site, number, page: f"{site.page(page + 31)}#lost-{number}", _LINK),
    "malformed": _Planted(_malformed, _LINK),
}
"""The twenty kinds."""

SAME_AS_1: Final = "/page/1?a=1&b=2"  # a page of its own, which is the same
_SOUND: Final = """
<p id="here"><a href="#here">here</a> <a href="#top">up</a> <a href="#">up</a> <a href="#%68ere">here</a>
<a href="/page/0#h%C3%A9ll%C3%B6">there</a> <a href="/page/0#named">there</a> <a href="/page/0#:~:text=page">quoted</a>
<a href="mailto:somebody@example.org">write</a> <a href="tel:+4989123">call</a> <a href="javascript:void(0)">do</a>
<a href="data:text/plain,x">data</a> <a href="/old">moved</a> <a href="http://127.0.0.2:{port}/good">elsewhere</a>
<a href="/page/1?a=1&amp;b=2">a query</a> <a href="">itself</a></p>
<p><img src="/good.png" srcset="/good.png 1x, /good.png?2 2x" alt="good"><iframe src="/frame"></iframe></p>
<h2 id="héllö">Anchors</h2><a name="named"></a>
"""
"""What every page has beside its faults: nothing of it is broken."""


class PlantedSite:
    """The site, while the context lasts. ``url`` is its first page, and ``faults`` all that is wrong with it."""

    def __init__(self) -> None:
        site = self

        class Handler(_Handler):
            planted = site

        self._closed = socket.socket()  # bound, so that nobody else takes it, and never listened at
        self._closed.bind((CLOSED, 0))
        self.closed_port: int = self._closed.getsockname()[1]
        self._server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)
        self._server.daemon_threads, self._server.block_on_close = True, False
        self.port = self._server.server_port
        self.url = self.at(OWN, "/")
        self.is_over = threading.Event()
        self.requests: list[str] = []  # host and path
        self.faults: list[Fault] = []
        self._elements: defaultdict[int, list[str]] = defaultdict(list)  # by page
        self._plant()
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.is_over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._closed.close()

    def at(self, host: str, path: str) -> str:
        """A URL of one of the hosts."""
        return f"http://{host}:{self.port}{path}"

    def page(self, number: int) -> str:
        """The URL of a page."""
        return self.at(OWN, f"/page/{number % PAGES}")

    def _plant(self) -> None:
        for kind_number, (kind, planted) in enumerate(_KINDS.items()):
            for number in range(OF_A_KIND):
                first = (kind_number * 7 + number * 11) % PAGES
                pages = [(first + step * 13) % PAGES for step in range(1 + number % planted.most_sources)]
                target, text = planted.target(self, number, first), f"{kind} {number}"
                for page in pages:
                    self._elements[page].append(planted.element.format(url=target, text=text))
                text = text if "{text}" in planted.element else ""
                sources = [*map(self.page, pages), *([self.at(OWN, SAME_AS_1)] if 1 in pages else [])]
                self.faults.append(Fault(kind, target, tuple(sorted(sources)), text))

    def body_of(self, path: str) -> bytes | None:
        """A page that is well; none if there is none."""
        if path == "/":
            links = "".join(f'<li><a href="/page/{number}">page {number}</a></li>' for number in range(PAGES))
            return f"<!doctype html><title>Planted</title><ul>{links}</ul>".encode()
        first, _, rest = path.partition("?")[0].removeprefix("/").partition("/")
        if first != "page" or not rest.isdecimal() or int(rest) >= PAGES:
            return None
        elements = "\n".join(self._elements[int(rest)])
        title = escape(f"Page {rest}")
        body = f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title><body>{_SOUND}\n{elements}"
        return body.replace("{port}", str(self.port)).encode()


class _Handler(BaseHTTPRequestHandler):
    """Answers by the first part of the path."""

    planted: PlantedSite
    protocol_version = "HTTP/1.1"
    timeout = 30  # of a connection that is kept, and says nothing

    def do_GET(self) -> None:
        host = self.connection.getsockname()[0]
        self.planted.requests.append(f"{host}{self.path}")
        first, _, rest = self.path.removeprefix("/").partition("/")
        body = self.planted.body_of(self.path) if host == OWN else None
        if body is not None:
            self._answer(200, body)
        elif first == "hanging":
            self.planted.is_over.wait()
            self.close_connection = True
        elif first == "short":
            self._answer(200, b"<!doctype html><p>The rest is", announced=5000)
            self.close_connection = True
        elif first in ("moved", "old"):
            self._answer(301, location=f"/was-here/{rest}" if rest else "/page/0")
        elif first == "circle":
            number, _, side = rest.partition("/")
            self._answer(302, location=f"/circle/{number}/{'b' if side == 'a' else 'a'}")
        elif first == "further":
            number, _, step = rest.partition("/")
            self._answer(302, location=f"/further/{number}/{int(step) + 1}")
        elif self.path.partition("?")[0] in ("/good", "/good.png", "/frame"):
            self._answer(200, b"" if first == "good.png" else b"<!doctype html><title>good</title>")
        else:
            gone = first == "missing" and int(rest) % 2
            self._answer({"broken": 500, "private": 403}.get(first, 410 if gone else 404))

    def do_HEAD(self) -> None:
        self.do_GET()

    def _answer(self, status: int, body: bytes = b"", *, location: str = "", announced: int | None = None) -> None:
        self.send_response(status)
        self.send_header("LinkChecker", "welcome")  # who is called so may ask without pauses
        kind = "image/png" if self.path.partition("?")[0].endswith(".png") else "text/html; charset=utf-8"
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body) if announced is None else announced))
        if location:
            self.send_header("Location", location)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except ConnectionError:  # the client has left
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """It writes to standard error otherwise."""
