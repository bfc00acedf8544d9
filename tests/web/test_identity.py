"""Who we are on the net: SOCKS proxies, trusted certificates, a certificate of our own."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from sqspider.record import Reason
from sqspider.web.fetch import Fetched, Fetcher
from sqspider.web.options import FetchOptions

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi"


class Socks:
    """A SOCKS5 server (RFC 1928, RFC 1929) that plays the host, too."""

    def __init__(self, reply: int = 0, log_in: bytes = b"") -> None:
        self.reply = reply
        self.log_in = log_in  # NAME:PASSWORD that it wants
        self.asked: list[tuple[int, bytes]] = []  # type and address

    @asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as server:
            yield server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._talk(reader, writer)
        except asyncio.IncompleteReadError:
            pass  # it has left
        finally:
            writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly((await reader.readexactly(2))[1])
        writer.write(b"\5\2" if self.log_in else b"\5\0")
        if self.log_in:
            name = await reader.readexactly((await reader.readexactly(2))[1])
            password = await reader.readexactly((await reader.readexactly(1))[0])
            writer.write(b"\1\0" if name + b":" + password == self.log_in else b"\1\1")
        kind = (await reader.readexactly(4))[3]
        length = {1: 4, 4: 16}.get(kind) or (await reader.readexactly(1))[0]
        self.asked.append((kind, await reader.readexactly(length)))
        await reader.readexactly(2)
        writer.write(bytes((5, self.reply, 0, 1, 0, 0, 0, 0, 0, 0)))
        if not self.reply:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(ANSWER)
        await writer.drain()


class Fixed:
    """A resolver with one answer."""

    def __init__(self, address: str) -> None:
        self._address = address

    async def resolve(self, name: str) -> list[str]:
        del name
        return [self._address]


async def fetched(url: str, options: FetchOptions, address: str = "8.8.8.8") -> Fetched:
    async with Fetcher(options, resolver=Fixed(address)) as fetcher:
        return await fetcher.fetch(url)


async def test_socks_goes_where_we_looked_and_nowhere_private() -> None:
    socks = Socks()
    async with socks.running() as port:
        options = FetchOptions(proxy=f"socks5://127.0.0.1:{port}", timeout_seconds=60.0)
        assert (await fetched("http://h.example/", options)).body == b"hi"
        assert socks.asked == [(1, bytes((8, 8, 8, 8)))]
        for url in ("http://h.example/", "http://10.0.0.1/"):
            assert (await fetched(url, options, "10.0.0.1")).reason is Reason.PRIVATE_ADDRESS
    assert len(socks.asked) == 1


async def test_a_name_is_left_to_socks5h_with_who_we_are() -> None:
    socks = Socks(log_in=b"me@x:a/b")
    async with socks.running() as port:
        options = FetchOptions(proxy=f"socks5h://me%40x:a%2Fb@127.0.0.1:{port}", timeout_seconds=60.0)
        assert (await fetched("http://h.example/", options)).body == b"hi"
        wrong = FetchOptions(proxy=f"socks5h://me:no@127.0.0.1:{port}", timeout_seconds=60.0)
        assert (await fetched("http://h.example/", wrong)).reason is Reason.PROXY_UNUSABLE
    assert socks.asked[0] == (3, b"h.example")


@pytest.mark.parametrize("reply", range(1, 9))
async def test_what_socks_says_of_the_host_is_the_hosts(reply: int) -> None:
    async with Socks(reply).running() as port:
        options = FetchOptions(proxy=f"socks5h://127.0.0.1:{port}", timeout_seconds=60.0)
        reason = (await fetched("http://h.example/", options)).reason
    assert reason is (Reason.UNREACHABLE if reply in (3, 4, 5, 6) else Reason.PROXY_UNUSABLE)


async def test_certificates_of_a_file_are_trusted_and_a_host_is_shown_ours(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    ours = authority.issue_cert("me.example")
    ours.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(ANSWER)
        await writer.drain()
        writer.close()

    trusted, both = str(tmp_path / "ca.pem"), str(tmp_path / "both.pem")
    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/"
        for options, is_good in (
            (FetchOptions(allow_private=True, ca_file=trusted, client_cert=both), True),
            (FetchOptions(allow_private=True, ca_file=trusted), False),
            (FetchOptions(allow_private=True, client_cert=both, client_key=both), False),
        ):
            assert ((await fetched(url, options, "127.0.0.1")).body == b"hi") is is_good


def test_certificates_that_cannot_be_used_are_refused_at_once(tmp_path: Path) -> None:
    authority, empty = trustme.CA(), tmp_path / "empty.pem"
    empty.write_text("")
    first, second = authority.issue_cert("a.example"), authority.issue_cert("b.example")
    first.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    second.private_key_pem.write_to_path(tmp_path / "key.pem")
    cert, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"ca_file": str(empty)}, "^ca_file: name a file"),
        ({"ca_file": str(tmp_path / "no.pem")}, "^ca_file: .* cannot be read"),
        ({"client_key": key}, "^client_key: of no use"),
        ({"client_cert": cert, "client_key": key}, "^client_cert: .* cannot be used together"),
        ({"client_cert": cert}, "^client_cert: .* cannot be used together"),
        ({"client_cert": str(tmp_path / "no.pem")}, "^client_cert: .* cannot be read"),
    )
    for fields, says in cases:
        with pytest.raises(ValueError, match=says):
            FetchOptions(**fields)
