"""Which connections carry a request: kept ones that are clean, in number, and to addresses that were looked at."""

from __future__ import annotations

import asyncio
import select
import socket
import ssl
from contextlib import closing

import pytest
import trustme

from sqspider.transport import Failure, Request
from sqspider.transport.addresses import AddressRefusedError
from sqspider.transport.curl import CurlOptions, CurlTransport
from sqspider.transport.names import Names, SystemResolver

from .kit import HELLO, Answers, Peer, Server, Taken, ask, open_descriptors, transport, until

SECOND = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nWRONG"


async def until_it_arrives(carrier: CurlTransport) -> None:
    """Wait until something waits at the kept connection."""

    def arrived() -> bool:
        poll = select.poll()
        for kept in carrier._kept.values():
            poll.register(kept.descriptor, select.POLLIN)
        return bool(poll.poll(0))

    await until(arrived)


async def test_a_connection_is_kept_and_used_again() -> None:
    server = Server()
    async with server.running():
        with transport() as carrier:
            found = [await ask(carrier, server.url(path)) for path in "abc"]
    assert [exchange.is_kept for exchange, _ in found] == [False, True, True]
    assert len(server.peers) == 1


async def test_what_is_asked_after_a_document_was_sent_carries_none() -> None:
    server = Server()
    async with server.running():
        with transport() as carrier:
            await carrier.exchange(Request(server.url("a"), document=b""), Taken())
            await ask(carrier, server.url("b"))
    assert [head.split()[0] for head in server.heads] == [b"POST", b"GET"]
    assert b"content-" not in server.heads[1].lower()


@pytest.mark.parametrize(
    "surplus",
    [SECOND, b"x", b"\r\n", None],
    ids=["a whole answer", "a byte", "an empty line", "an end"],
)
async def test_what_waits_at_a_kept_connection_harms_no_next_page(surplus: bytes | None) -> None:
    server = Server()
    async with server.running():
        with transport() as carrier:
            for number in range(3):  # libcurl looks at its connections by itself only once a second
                exchange, body = await ask(carrier, server.url(str(number)))
                assert (exchange.failure, exchange.is_kept, body) == (None, False, b"hello")
                peer = server.peers[-1]
                if surplus is None:
                    peer.end()
                else:
                    peer.send(surplus)
                await until_it_arrives(carrier)
    assert server.targets == [b"/0", b"/1", b"/2"]
    assert len(server.peers) == 3


@pytest.mark.parametrize("surplus", [SECOND, b"", None], ids=["a whole answer", "a close alert", "an end"])
async def test_what_waits_under_tls_harms_no_next_page(surplus: bytes | None) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    peers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(writer)
        try:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(HELLO)
            await reader.readuntil(b"\r\n\r\n")
            writer.write(SECOND)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass

    with authority.cert_pem.tempfile() as trusted:
        async with await asyncio.start_server(serve, "localhost", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            names = Names(Answers([server.sockets[0].getsockname()[0]]), allow_private=True)
            with transport(CurlOptions(certificates=trusted), names) as carrier:
                for number in range(2):
                    exchange, body = await ask(carrier, f"https://localhost:{port}/{number}")
                    assert (exchange.failure, body) == (None, b"hello"), exchange.detail
                    if surplus:
                        peers[-1].write(surplus)
                    elif surplus is None:
                        peers[-1].transport.abort()
                    else:
                        peers[-1].close()
                    await until_it_arrives(carrier)
            for writer in peers:
                writer.transport.abort()
    assert len(peers) == 2


@pytest.mark.parametrize("parts", [1, 2], ids=["in one packet", "in two"])
async def test_surplus_bytes_harm_neither_this_page_nor_the_next(parts: int) -> None:
    def answer(peer: Peer) -> None:
        peer.send(HELLO if parts == 2 else HELLO + b"surplus")
        if parts == 2:
            peer.send(b"surplus")

    server = Server(answer)
    async with server.running():
        with transport() as carrier:
            for number in range(3):
                exchange, body = await ask(carrier, server.url(str(number)))
                assert (exchange.failure, body) == (None, b"hello")
    assert server.targets == [b"/0", b"/1", b"/2"]


async def test_chunks_beside_a_length_win_and_their_connection_is_not_used_again() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
    server = Server(head + b"5\r\nhello\r\n0\r\n\r\n")
    async with server.running():
        with transport() as carrier:
            for _ in range(2):
                exchange, body = await ask(carrier, server.url())
                assert (exchange.failure, body) == (None, b"hello")
    assert len(server.peers) == 2


async def test_a_request_is_never_made_twice() -> None:
    """libcurl would ask again where a kept connection ends without an answer."""

    def answer(peer: Peer) -> None:
        if peer.requests == 1:
            peer.send(HELLO)
        else:
            peer.end()

    server = Server(answer)
    async with server.running():
        with transport() as carrier:
            await asyncio.gather(ask(carrier, server.url("a")), ask(carrier, server.url("b")))  # two kept ones
            exchange, _ = await ask(carrier, server.url("c"))
    assert (exchange.failure, exchange.is_kept) == (Failure.STALE, True)
    assert sorted(server.targets) == [b"/a", b"/b", b"/c"]
    assert len(server.peers) == 2


async def test_kept_connections_are_bounded() -> None:
    server = Server()
    async with server.running("0.0.0.0"):
        before = open_descriptors()
        with transport(CurlOptions(most_idle=8)) as carrier:
            for number in range(1, 61):
                exchange, _ = await ask(carrier, server.url(host=f"127.0.1.{number}"))
                assert exchange.failure is None
            await until(lambda: sum(not peer.reader.at_eof() for peer in server.peers) <= 8)
            ours = open_descriptors() - before - sum(not peer.writer.is_closing() for peer in server.peers)
            assert ours <= 8 + 3  # and what the loop and libcurl have for themselves
            assert len(carrier._kept) <= 8


async def test_an_address_is_looked_at_before_each_request_on_kept_connections_too() -> None:
    allowed = True
    server = Server()
    async with server.running():
        options = CurlOptions(check_address=lambda address: None if allowed else f"{address} is not wanted")
        with transport(options) as carrier:
            assert (await ask(carrier, server.url()))[0].failure is None
            allowed = False
            exchange, _ = await ask(carrier, server.url("second"))
    assert (exchange.failure, exchange.detail) == (Failure.ADDRESS_REFUSED, "127.0.0.1 is not wanted")
    assert (server.targets, len(server.peers)) == ([b"/"], 1)


@pytest.mark.parametrize("refused", ["127.0.0.1", "127.0.0.2"])
async def test_one_refused_address_of_several_is_hidden_by_no_other(refused: str) -> None:
    server = Server()
    async with server.running("0.0.0.0"):
        names = Names(Answers(["127.0.0.1", "127.0.0.2"]), allow_private=True)
        check = CurlOptions(check_address=lambda address: "no" if address == refused else None)
        with transport(check, names) as carrier:
            exchange, _ = await ask(carrier, server.url(host="two.example"))
    if refused == "127.0.0.1":  # the first: the second one may be connected to, and is not asked
        assert (exchange.failure, server.heads) == (Failure.ADDRESS_REFUSED, [])
    else:
        assert (exchange.failure, exchange.address) == (None, "127.0.0.1")


async def test_a_refused_address_is_not_masked_by_one_where_nobody_listens() -> None:
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        names = Names(Answers(["127.0.0.1", "127.0.0.2"]), allow_private=True)
        check = CurlOptions(check_address=lambda address: "no" if address == "127.0.0.1" else None)
        with transport(check, names) as carrier:
            exchange, _ = await ask(carrier, f"http://two.example:{port}/")
    assert exchange.failure is Failure.ADDRESS_REFUSED


async def test_an_address_at_which_nobody_listens_gives_way_to_the_next() -> None:
    server = Server()
    async with server.running():
        names = Names(Answers(["::1", "127.0.0.9", "127.0.0.1"]), allow_private=True)
        with transport(names=names) as carrier:
            exchange, body = await ask(carrier, server.url(host="three.example"))
    assert (exchange.failure, exchange.address, body) == (None, "127.0.0.1", b"hello")


async def test_a_name_is_asked_for_once_a_minute_whoever_asks() -> None:
    resolver = Answers(["127.0.0.1"])
    server = Server()
    async with server.running():
        with transport(names=Names(resolver, allow_private=True)) as carrier:
            url = server.url(host="one.example")
            await asyncio.gather(*(ask(carrier, url) for _ in range(5)))
            await ask(carrier, url)
    assert resolver.asked == ["one.example"]
    assert len(server.heads) == 6


async def test_a_name_with_one_private_address_is_refused_whole() -> None:
    names = Names(Answers(["93.184.216.34", "10.0.0.1"]), allow_private=False)
    with pytest.raises(AddressRefusedError, match=r"two\.example resolves to 10\.0\.0\.1"):
        await names.look_up("two.example")
    assert names.known("two.example", 0.0) is None


async def test_the_systems_resolver_answers_and_fails_as_the_system_does() -> None:
    resolver = SystemResolver()
    assert set(await resolver.resolve("localhost")) <= {"127.0.0.1", "::1"}
    with pytest.raises(socket.gaierror):
        await resolver.resolve("no-such-host.invalid")
    resolver.close()


async def test_who_leaves_while_a_name_is_looked_up_leaves_nothing_behind() -> None:
    asked = asyncio.Event()

    class Silent:
        async def resolve(self, name: str) -> list[str]:
            del name
            asked.set()
            await asyncio.Event().wait()
            return []

    names = Names(Silent(), allow_private=True)
    with transport(names=names) as carrier:
        task = asyncio.create_task(carrier.exchange(Request("http://slow.example/"), Taken()))
        await asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        names.close()
        await until(lambda: len(asyncio.all_tasks()) == 1)
    assert names._asking == {}


async def test_a_name_that_takes_too_long_is_no_connection_in_time() -> None:
    class Silent:
        async def resolve(self, name: str) -> list[str]:
            del name
            await asyncio.Event().wait()
            return []

    names = Names(Silent(), allow_private=True)
    with transport(names=names) as carrier:
        exchange, _ = await ask(carrier, "http://slow.example/", seconds=0.05)
    names.close()
    assert exchange.failure is Failure.CONNECT_TIMEOUT
