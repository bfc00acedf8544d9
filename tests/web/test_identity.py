"""Who we are on the net: SOCKS proxies, trusted certificates, a certificate of our own."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

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


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files with which something is wrong, and the good ones."""
    folder, authority = tmp_path_factory.mktemp("files"), trustme.CA()
    first, second = authority.issue_cert("a.example"), authority.issue_cert("b.example")
    first.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    first.private_key_pem.write_to_path(folder / "key.pem")
    second.private_key_pem.write_to_path(folder / "other.pem")
    key = serialization.load_pem_private_key(first.private_key_pem.bytes(), None)
    locked = serialization.BestAvailableEncryption(b"secret")
    forms = serialization.PrivateFormat
    for name, form in (("locked.pem", forms.PKCS8), ("locked-as-of-old.pem", forms.TraditionalOpenSSL)):
        pem = key.private_bytes(serialization.Encoding.PEM, form, locked)
        (folder / name).write_bytes(pem)
    (folder / "locked-both.pem").write_bytes(first.cert_chain_pems[0].bytes() + (folder / "locked.pem").read_bytes())
    (folder / "empty.pem").write_text("")
    (folder / "text.pem").write_text("no PEM")
    for name in ("cert.pem", "key.pem"):
        lines = (folder / name).read_text().splitlines()
        (folder / f"broken-{name}").write_text("\n".join([*lines[:3], *lines[4:]]))
    (folder / "folder").mkdir()
    return folder


NO_FILE = {
    "absent.pem": "there is no file '{}'$",
    "folder": "'{}' is a folder: name a file",
    "cert.pem/within": r"'{}' cannot be read \(Not a directory\)$",
    "nul\0.pem": ".* is no path of a file",
}


@pytest.mark.parametrize(
    ("named", "says"),
    [
        *(({field: name}, f"^{field}: {says}") for field in ("ca_file", "client_cert") for name, says in NO_FILE.items()),
        *(({"client_cert": "cert.pem", "client_key": name}, f"^client_key: {says}") for name, says in NO_FILE.items()),
        ({"ca_file": "empty.pem"}, "^ca_file: '{}' holds no certificate: name"),
        ({"ca_file": "text.pem"}, "^ca_file: '{}' holds no certificate: name"),
        ({"ca_file": "key.pem"}, "^ca_file: '{}' holds no certificate: name"),
        ({"ca_file": "broken-cert.pem"}, "^ca_file: a certificate in '{}' is broken .*: get"),
        ({"client_key": "key.pem"}, "^client_key: of no use"),
        ({"client_cert": "text.pem"}, "^client_cert: '{}' holds no certificate: name"),
        ({"client_cert": "key.pem"}, "^client_cert: '{}' holds no certificate: name"),
        ({"client_cert": "cert.pem"}, "^client_cert: '{}' holds no private key: name the file of its key"),
        ({"client_cert": "cert.pem", "client_key": "text.pem"}, "^client_key: '{}' holds no private key: name"),
        ({"client_cert": "cert.pem", "client_key": "cert.pem"}, "^client_key: '{}' holds no private key: name"),
        ({"client_cert": "cert.pem", "client_key": "other.pem"}, "^client_key: the key in '{}' is not that of .*cert.pem"),
        ({"client_cert": "cert.pem", "client_key": "locked.pem"}, "^client_key: the key in '{}' is under a password.*pkey"),
        ({"client_cert": "cert.pem", "client_key": "locked-as-of-old.pem"}, "^client_key: the key in '{}' is under a pass"),
        ({"client_cert": "locked-both.pem"}, "^client_cert: the key in '{}' is under a password"),
        ({"client_cert": "broken-cert.pem", "client_key": "key.pem"}, "^client_cert: what .* holds is broken .*: get"),
        ({"client_cert": "cert.pem", "client_key": "broken-key.pem"}, "^client_cert: what .*broken-key.pem' holds is broken"),
    ],
)  # fmt: skip
def test_certificates_that_cannot_be_used_are_refused_at_once(files: Path, named: dict[str, str], says: str) -> None:
    """With which file it was, what was wrong, and what to do."""
    paths = {field: str(files / name) for field, name in named.items()}
    with pytest.raises(ValueError, match=says.replace("{}", re.escape(list(paths.values())[-1]))) as raised:
        FetchOptions(**paths)  # type: ignore[arg-type]
    assert "Errno" not in str(raised.value)


def test_a_pair_that_belongs_together_is_taken_and_a_pipe_is_not(files: Path, tmp_path: Path) -> None:
    FetchOptions(client_cert=str(files / "cert.pem"), client_key=str(files / "key.pem"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match=r"^ca_file: '.*' is no file, but a device or pipe"):
        FetchOptions(ca_file=str(tmp_path / "pipe"))
    with pytest.raises(TypeError, match=r"^ca_file: a path as a text, not 5"):
        FetchOptions(ca_file=5)  # type: ignore[arg-type]
