"""What is asked for, over one connection after another: no request has anything of the one before it."""

from __future__ import annotations

import itertools
import sys

import pycurl
from aiohttp import web

from sqspider.transport import Request

from .kit import Taken, transport

KINDS = (("GET", None), ("POST", b"sent"), ("PUT", b"put"), ("PUT", b""), ("HEAD", None), ("DELETE", None))


async def test_each_method_may_follow_each() -> None:
    asked: list[tuple[str, bytes]] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        asked.append((request.method, await request.read()))
        return web.Response(text="hello")

    app = web.Application()
    app.add_routes([web.route("*", "/", answer)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    order = [kind for pair in itertools.product(KINDS, repeat=2) for kind in pair]
    with transport() as carrier:
        for method, document in order:
            taken = Taken()
            named = None if method in ("GET", "POST") else method
            exchange = await carrier.exchange(Request(url, document=document, method=named), taken)
            assert (exchange.failure, exchange.http_status) == (None, 200), (method, exchange.detail)
            assert taken.whole == (b"" if method == "HEAD" else b"hello")
    await runner.cleanup()
    assert asked == [(method, document or b"") for method, document in order]


def test_pycurl_lets_go_of_a_document_once_another_one_is_set() -> None:
    """What the transport relies on, that lets go of megabytes as soon as they are sent."""
    easy, document = pycurl.Curl(), bytes(1000)
    before = sys.getrefcount(document)
    easy.setopt(pycurl.POSTFIELDS, document)
    assert sys.getrefcount(document) == before + 1
    easy.setopt(pycurl.POSTFIELDS, b"")
    assert sys.getrefcount(document) == before
    easy.close()
