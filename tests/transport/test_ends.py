"""Every exchange ends, whatever the server, the receiver or who waits does; and nothing is left of it."""

from __future__ import annotations

import asyncio
import time
import tracemalloc

import pytest

from sqspider.transport import ENOUGH, GO_ON, PAUSE, Exchange, Failure, Request
from sqspider.transport.curl import CurlTransport
from sqspider.transport.easy import BUFFER_BYTES
from sqspider.transport.line import HELD_UP_SECONDS
from sqspider.transport.names import Names

from .kit import HELLO, Peer, Server, Taken, ask, open_descriptors, transport, until

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
ANSWERS = {
    "a page": HELLO,
    "surplus": HELLO + b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "a folded line": HEAD + b"X: a\r\n b\r\nContent-Length: 2\r\n\r\nhi",
    "chunks": CHUNKED + b"5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nX: y\r\n\r\n",
    "chunks with bare line feeds": CHUNKED + b"5\nhello\n0\n\n",
    "two framings": HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "broken chunks": CHUNKED + b"2\r\nhi\r\nzz\r\n",
    "a chunk too long": CHUNKED + b"12345678123456789\r\nhi",
    "chunks without an end": CHUNKED + b"2\r\nhi\r\n",
    "a short body": HEAD + b"Content-Length: 9\r\n\r\nhi",
    "no length": HEAD + b"\r\nhi",
    "no body": b"HTTP/1.1 204 No\r\nContent-Length: 2\r\n\r\nhi",
    "interim answers": b"HTTP/1.1 103 Hints\r\nA: b\r\n\r\nHTTP/1.1 100 C\r\n\r\n" + HELLO,
    "an upgrade": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\nbytes",
    "NUL": HEAD + b"X: a\0b\r\n\r\nhi",
    "two lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\nhi!",
    "equal lengths": HEAD + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nhi",
    "another coding": HEAD + b"Transfer-Encoding: gzip\r\n\r\nhi",
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "a page of HTTP/0.9": b"<p>hello",
    "bare line feeds": b"HTTP/1.0 200 OK\nA: b\n\nhi",
    "half a head": HEAD + b"Content-Le",
    "nothing": b"",
}


async def outcome_of(carrier: CurlTransport, url: str) -> tuple[object, ...]:
    exchange, body = await ask(carrier, url)
    return exchange.failure, exchange.http_status, exchange.headers, b"".join(exchange.head), body


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_ends_alike_wherever_it_is_split(name: str) -> None:
    whole, at, is_read = ANSWERS[name], 0, asyncio.Event()

    def answer(peer: Peer) -> None:
        if not at:
            peer.send(whole)
            peer.end()
            return
        peer.send(whole[:at])
        rest = asyncio.get_running_loop().create_task(send_the_rest(peer))
        tasks.add(rest)

    async def send_the_rest(peer: Peer) -> None:
        await is_read.wait()
        peer.send(whole[at:])
        peer.end()

    tasks: set[asyncio.Task[None]] = set()
    server = Server(answer)
    async with server.running():
        with transport() as carrier:
            expected = await outcome_of(carrier, server.url())
            for at in range(1, len(whole)):
                is_read.clear()
                server.was_asked.clear()
                asking = asyncio.create_task(outcome_of(carrier, server.url()))
                await server.was_asked.wait()
                for _ in range(3):  # the loop has both ends: what was sent is read in the rounds that follow
                    await asyncio.sleep(0)
                is_read.set()
                assert await asking == expected, (whole[:at], whole[at:])
    assert expected[0] is not Failure.UNKNOWN


@pytest.mark.parametrize(
    ("name", "failure", "body"),
    [
        ("half a head", Failure.NO_ANSWER, b""),
        ("nothing", Failure.NO_ANSWER, b""),
        ("no HTTP", Failure.NOT_HTTP, b""),
        ("broken chunks", Failure.BAD_FRAMING, b"hi"),
        ("a short body", Failure.SHORT_BODY, b"hi"),
        ("chunks without an end", Failure.SHORT_BODY, b"hi"),
        ("two lengths", Failure.NOT_HTTP, b""),
        ("another coding", Failure.BAD_FRAMING, b""),
        ("an upgrade", None, b""),
        ("no body", None, b""),
        ("interim answers", None, b"hello"),
    ],
)
async def test_an_answer_ends_as_it_should(name: str, failure: Failure | None, body: bytes) -> None:
    def answer(peer: Peer) -> None:
        peer.send(ANSWERS[name])
        peer.end()

    server = Server(answer)
    async with server.running():
        with transport() as carrier:
            exchange, taken = await ask(carrier, server.url())
    assert (exchange.failure, taken) == (failure, body), exchange.detail


async def endless(peer: Peer, first: bytes, then: bytes) -> None:
    peer.send(first)
    try:
        while True:
            peer.send(then)
            await peer.writer.drain()
    except (ConnectionError, asyncio.CancelledError):
        peer.end()


@pytest.mark.parametrize(
    ("first", "then", "failure"),
    [
        (b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100, Failure.HEAD_TOO_LARGE),
        (HEAD, b"X: y\r\n" * 100, Failure.HEAD_TOO_LARGE),
        (HEAD + b"X: ", b"y" * 65_536, Failure.HEAD_TOO_LARGE),
        (b"HTTP/1.1 200 ", b"y" * 65_536, Failure.HEAD_TOO_LARGE),
        (CHUNKED + b"0\r\n", b"X: y\r\n" * 100, Failure.HEAD_TOO_LARGE),
        (CHUNKED + b"0\r\nX: ", b"y" * 65_536, Failure.HEAD_TOO_LARGE),
        (CHUNKED + b"5;", b"y" * 65_536, Failure.TIMEOUT),
    ],
    ids=["1xx", "lines", "one line", "a status line", "trailers", "one trailer", "a chunk extension"],
)
async def test_what_has_no_end_is_ended_in_bounded_memory(first: bytes, then: bytes, failure: Failure) -> None:
    senders = []
    server = Server(lambda peer: senders.append(asyncio.create_task(endless(peer, first, then))))
    async with server.running():
        with transport() as carrier:
            tracemalloc.start()
            exchange, _ = await ask(carrier, server.url(), 0.5 if failure is Failure.TIMEOUT else 60.0)
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)
    assert exchange.failure is failure
    assert peak < 4_000_000


async def test_a_time_limit_ends_it_in_time() -> None:
    server = Server(lambda peer: peer.send(HEAD + b"Content-Length: 9\r\n\r\nhi"))
    async with server.running():
        with transport() as carrier:
            started = time.monotonic()
            exchange, body = await ask(carrier, server.url(), 0.2)
            took = time.monotonic() - started
    assert (exchange.failure, body) == (Failure.TIMEOUT, b"hi")
    assert took > 0.19
    assert exchange.end_seconds == pytest.approx(took, abs=0.05)


async def test_the_time_that_a_look_up_takes_is_within_the_limit() -> None:
    class Slow:
        async def resolve(self, name: str) -> list[str]:
            del name
            await asyncio.sleep(2.0)
            return ["127.0.0.1"]

    async with Server(lambda _: None).running() as server:
        with transport(names=Names(Slow(), allow_private=True)) as carrier:
            exchange, _ = await ask(carrier, server.url(host="slow.example"), 3.0)
    assert exchange.failure is Failure.TIMEOUT
    assert 3.0 <= exchange.end_seconds + 0.01 < 4.9  # it would be 5


async def test_an_answer_that_came_while_we_were_held_up_is_no_timeout() -> None:
    def answer(peer: Peer) -> None:
        peer.send(HELLO)
        time.sleep(HELD_UP_SECONDS + 1.5)

    async with Server(answer).running() as server:
        with transport() as carrier:
            exchange, body = await ask(carrier, server.url(), 0.5)
    assert (exchange.failure, body) == (None, b"hello")


async def test_time_that_is_paused_does_not_count() -> None:
    """And no byte comes meanwhile, but what was read before, nor twice."""
    body = bytes(range(256)) * 40_000

    class Pausing(Taken):
        exchange: Exchange

        def head(self, exchange: Exchange) -> bool:
            self.exchange = exchange
            return super().head(exchange)

        def body(self, piece: bytes) -> int:
            super().body(piece)
            return PAUSE if len(self.pieces) == 1 else GO_ON

    server = Server(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    async with server.running():
        with transport() as carrier:
            taken = Pausing()
            asking = asyncio.create_task(carrier.exchange(Request(server.url(), timeout_seconds=0.5), taken))
            await taken.began.wait()
            await asyncio.sleep(0.7)  # longer than the limit
            assert len(taken.whole) <= BUFFER_BYTES
            assert not asking.done()
            taken.exchange.resume(is_wanted=True)
            assert (await asking).failure is None
            taken.exchange.resume(is_wanted=True)  # it is over: that is nothing
    assert taken.whole == body


async def test_who_wants_no_more_gets_no_more() -> None:
    server = Server(lambda peer: peer.send(HEAD + b"Content-Length: 1000000\r\n\r\nhi"))
    async with server.running():
        with transport() as carrier:
            taken = Taken(ENOUGH)
            exchange = await carrier.exchange(Request(server.url()), taken)
            assert (exchange.failure, taken.whole) == (None, b"hi")
            paused = Taken(PAUSE)
            asking = asyncio.create_task(carrier.exchange(Request(server.url()), paused))
            await paused.began.wait()
            line = next(iter(carrier._busy.values()))
            line.exchange.resume(is_wanted=False)
            assert (await asking).failure is None
    assert paused.whole == b"hi"
    assert len(server.peers) == 2


@pytest.mark.parametrize("where", ["head", "body", "gate"])
async def test_what_a_receiver_or_a_gate_raises_is_raised_and_no_failure_of_the_site(where: str) -> None:
    class Raising(Taken):
        def head(self, exchange: Exchange) -> bool:
            if where == "head":
                raise LookupError("our own fault")
            return super().head(exchange)

        def body(self, piece: bytes) -> int:
            if where == "body":
                raise LookupError("our own fault")
            return super().body(piece)

    def gate() -> bool:
        if where == "gate":
            raise LookupError("our own fault")
        return True

    server = Server()
    async with server.running():
        with transport() as carrier:
            with pytest.raises(LookupError, match="our own fault"):
                await carrier.exchange(Request(server.url(), gate=gate), Raising())
            assert (await ask(carrier, server.url()))[1] == b"hello"


async def test_a_gate_that_says_no_lets_nothing_out() -> None:
    server = Server()
    async with server.running():
        with transport() as carrier:
            await ask(carrier, server.url("first"))
            exchange = await carrier.exchange(Request(server.url("held"), gate=lambda: False), Taken())
            assert exchange.failure is Failure.GATE
            await ask(carrier, server.url("last"))
    assert server.targets == [b"/first", b"/last"]


@pytest.mark.parametrize("rounds", range(12))
async def test_whoever_is_cancelled_leaves_nothing_and_harms_no_other(rounds: int) -> None:
    """At each of the moments of a request, from its first round of the loop on."""
    server = Server(lambda peer: peer.send(HEAD + b"Content-Length: 1000000\r\n\r\nhi"))
    async with server.running():
        with transport() as carrier:
            asking = asyncio.create_task(carrier.exchange(Request(server.url()), Taken()))
            for _ in range(rounds):
                await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            assert (carrier._busy, carrier._watched, carrier._kept) == ({}, {}, {})
            server.answer = HELLO
            assert (await ask(carrier, server.url()))[1] == b"hello"


async def test_ten_thousand_requests_leave_nothing_behind() -> None:
    server = Server()
    async with server.running():
        with transport() as carrier:
            await ask(carrier, server.url())
            before = open_descriptors()

            async def some() -> None:
                for number in range(625):
                    await ask(carrier, server.url(str(number)))

            await asyncio.gather(*(some() for _ in range(16)))
            assert carrier._busy == {}
            assert len(carrier._lines) <= 16
            assert len(carrier._kept) <= 16
            assert open_descriptors() <= before + 2 * 15  # both ends of the connections that are kept
            assert len(server.peers) <= 17
        assert len(server.heads) == 10_001


async def test_the_request_and_the_answer_are_kept_as_they_were_sent() -> None:
    head = b"HTTP/1.1 200  Fine\r\nX-a:  b \r\nx-A:\tc\r\nCONTENT-length: 2\r\n\r\n"
    server = Server(head + b"hi")
    async with server.running():
        with transport() as carrier:
            request = Request(server.url("a%2fb?"), ("X: y",), keeps_request_head=True)
            exchange = await carrier.exchange(request, Taken())
    assert b"".join(exchange.head) == head
    assert [exchange.request_head] == server.heads
    assert server.targets == [b"/a%2fb?"]
    assert (exchange.protocol, exchange.address) == ("HTTP/1.1", "127.0.0.1")
    assert 0 < exchange.sent_seconds <= exchange.first_byte_seconds <= exchange.end_seconds


async def test_folded_lines_are_one_and_nothing_else_of_them_is_changed() -> None:
    """By libcurl: if it begins to show what they were, the seam's words are to be put right."""
    server = Server(HEAD + b"X-a:  b\r\n  c \r\n\td  \r\nContent-Length: 2\r\n\r\nhi")
    async with server.running():
        with transport() as carrier:
            exchange, _ = await ask(carrier, server.url())
    assert exchange.head == [HEAD, b"X-a:  b c d  \r\n", b"Content-Length: 2\r\n", b"\r\n"]


async def test_closing_ends_what_is_kept() -> None:
    server = Server()
    async with server.running():
        with transport() as carrier:
            await ask(carrier, server.url())
        await until(lambda: server.peers[0].reader.at_eof())
