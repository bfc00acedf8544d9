"""What goes to AWS by HTTP and what comes back: headers, connections, proxies, and what an answer's absence means."""

from __future__ import annotations

import asyncio
import base64
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from sqspider.frontier.aws.credentials import Keys
from sqspider.frontier.aws.network import Network
from sqspider.frontier.aws.signing import Signer
from sqspider.frontier.aws.transport import SQS, HttpTransport, NoAnswerError, Sent

ANSWER = b"HTTP/1.1 200 OK\r\nDate: Mon, 30 Nov 2026 06:00:00 GMT\r\nX-Amzn-RequestId: 1\r\nContent-Length: 2\r\n\r\n{}"
KEYS = Keys("the-key", "the-secret", "the-token")
DOCUMENT = b'{"QueueUrl": "queue"}'
LONG = b'{"QueueUrl": "' + b"x" * 1_100_000 + b'"}'  # for so much libcurl asks leave first (Expect: 100-continue)


def sent_to(endpoint: str, document: bytes = DOCUMENT) -> Sent:
    headers = Signer("r").sign(SQS, "ReceiveMessage", endpoint, document, KEYS, 1_000_000_000.0)
    return Sent(SQS, "ReceiveMessage", endpoint, headers, document, wait_seconds=0.0, is_alone=False)


@asynccontextmanager
async def transport_to(endpoint: str, network: Network | None = None) -> AsyncIterator[HttpTransport]:
    transport = HttpTransport({SQS: endpoint}, network=network or Network(), clock=lambda: 0.0)
    try:
        yield transport
    finally:
        await transport.close()


class Server:
    """Answers each request with the same bytes."""

    def __init__(self, answer: bytes = ANSWER) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self.documents: list[bytes] = []

    @asynccontextmanager
    async def serving(self, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        """Its port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                self.heads.append(head)
                length = head.lower().partition(b"content-length: ")[2]
                if length:  # a proxy that is asked for a tunnel gets no document
                    self.documents.append(await reader.readexactly(int(length.split()[0])))
                writer.write(self.answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass  # the client has left
        finally:
            writer.close()


@pytest.mark.parametrize("document", [DOCUMENT, LONG], ids=["short", "long"])
async def test_nothing_is_sent_but_what_is_signed_and_how_long_it_is(document: bytes) -> None:
    server = Server()
    async with server.serving() as port, transport_to(f"http://127.0.0.1:{port}/") as transport:
        sent = sent_to(f"http://127.0.0.1:{port}/", document)
        received = await transport.post(sent)
    line, *lines = server.heads[0].decode().removesuffix("\r\n\r\n").split("\r\n")
    assert line == "POST / HTTP/1.1"
    written = sorted((name.lower(), value) for name, value in (header.split(": ", 1) for header in lines))
    assert written == sorted([*sent.headers.items(), ("content-length", str(len(document)))])
    assert server.documents == [document]
    assert (received.status, received.document) == (200, b"{}")
    assert received.headers["x-amzn-requestid"] == "1"
    assert received.headers["date"] == "Mon, 30 Nov 2026 06:00:00 GMT"


@pytest.fixture
def deaf_port() -> Iterator[int]:
    """A port that takes no connection: its queue of them is full."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]
        for filler in fillers:
            filler.close()


async def failure_of(endpoint: str, network: Network | None = None) -> NoAnswerError:
    async with transport_to(endpoint, network) as transport:
        with pytest.raises(NoAnswerError) as failure:
            await transport.post(sent_to(endpoint))
    for secret in (KEYS.secret_access_key, "the-token", "the-password", "Signature"):
        assert secret not in str(failure.value)
    return failure.value


async def test_what_was_never_written_cannot_have_arrived(deaf_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused = await failure_of(f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert not refused.may_have_arrived
    assert not (await failure_of("http://nowhere.invalid/")).may_have_arrived
    monkeypatch.setattr("sqspider.frontier.aws.transport.CONNECT_SECONDS", 0.2)
    assert not (await failure_of(f"http://127.0.0.1:{deaf_port}/")).may_have_arrived


async def test_a_certificate_that_is_not_trusted_is_sent_nothing(tmp_path: Path) -> None:
    server, tls, _ = server_with_certificate(tmp_path)
    async with server.serving(tls) as port:
        failure = await failure_of(f"https://127.0.0.1:{port}/")
    assert not failure.may_have_arrived
    assert not server.heads


@pytest.mark.parametrize(
    "answer",
    [b"", b"no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", b"HTTP/1.1 200 OK\r\nContent-Le"],
    ids=["none", "no HTTP", "cut short", "cut in its head"],
)
async def test_what_was_written_may_have_arrived_whatever_is_answered(answer: bytes) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(len(DOCUMENT))
        writer.write(answer)
        writer.close()

    serving = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}/"
    assert (await failure_of(endpoint)).may_have_arrived
    serving.close()


async def test_what_is_not_answered_in_time_may_have_arrived(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqspider.frontier.aws.transport.ANSWER_SECONDS", -4.5)  # with those to connect: half a second
    server = Server(b"HTTP/1.1 100 Continue\r\n\r\n")
    async with server.serving() as port:
        assert (await failure_of(f"http://127.0.0.1:{port}/")).may_have_arrived


async def test_a_kept_connection_that_ended_meanwhile_costs_nothing() -> None:
    """What ends before it is used is seen, and another connection carries the request: asked once, answered once."""
    ended = asyncio.Event()
    heads = 0

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heads
        await reader.readuntil(b"\r\n\r\n")
        heads += 1
        await reader.readexactly(len(DOCUMENT))
        writer.write(ANSWER)
        writer.close()
        await writer.wait_closed()
        ended.set()

    serving = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    endpoint = f"http://127.0.0.1:{serving.sockets[0].getsockname()[1]}/"
    async with transport_to(endpoint) as transport:
        for asked in (1, 2):
            ended.clear()
            assert (await transport.post(sent_to(endpoint))).status == 200
            await ended.wait()
            assert heads == asked
    serving.close()


async def test_a_look_up_that_nobody_waits_for_ends_with_the_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, may_answer = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def look_up(*_: object, **__: object) -> list[object]:
        loop.call_soon_threadsafe(asked.set)
        may_answer.wait()
        return []

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    async with transport_to("http://sqs.example/") as transport:
        asking = asyncio.create_task(transport.post(sent_to("http://sqs.example/")))
        await asked.wait()
        asking.cancel()
        await asyncio.wait([asking])
        looking = asyncio.all_tasks() - {asyncio.current_task()}
        assert looking
    await asyncio.wait(looking, timeout=5.0)
    assert all(task.cancelled() for task in looking)
    may_answer.set()


async def test_a_proxy_gets_its_credentials_and_no_header_of_ours() -> None:
    proxy = Server(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
    async with proxy.serving() as port:
        network = Network.read({"HTTPS_PROXY": f"http://us%40er:the-password@127.0.0.1:{port}"})
        failure = await failure_of("https://sqs.r.amazonaws.com/", network)
    head = proxy.heads[0].decode()
    credentials = base64.b64encode(b"us@er:the-password").decode()
    assert head.startswith("CONNECT sqs.r.amazonaws.com:443 HTTP/1.1\r\n")
    assert f"Proxy-Authorization: Basic {credentials}\r\n" in head
    assert "x-amz" not in head.lower()
    assert "AWS4" not in head
    assert not failure.may_have_arrived
    assert "407" in str(failure)


def server_with_certificate(folder: Path) -> tuple[Server, ssl.SSLContext, Path]:
    authority = trustme.CA()
    bundle = folder / "bundle.pem"
    authority.cert_pem.write_to_path(str(bundle))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    return Server(), tls, bundle


def as_file(bundle: Path) -> Path:
    return bundle


def as_folder(bundle: Path) -> Path:
    """As ``openssl rehash`` makes it: certificates by the hash of their subject."""
    folder = bundle.parent / "folder"
    folder.mkdir()
    hashed = subprocess.run(
        ["openssl", "x509", "-noout", "-hash", "-in", str(bundle)], check=True, capture_output=True, text=True
    ).stdout.strip()
    (folder / f"{hashed}.0").write_bytes(bundle.read_bytes())
    return folder


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="a folder of certificates takes openssl")


@pytest.mark.parametrize("kind", [as_file, pytest.param(as_folder, marks=needs_openssl)])
async def test_certificates_of_ones_own_are_trusted_and_no_others(
    kind: Callable[[Path], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.mkdir()
    theirs.mkdir()
    server, tls, bundle = server_with_certificate(mine)
    network = Network.read({"AWS_CA_BUNDLE": str(kind(bundle))})
    async with server.serving(tls) as port, transport_to(f"https://127.0.0.1:{port}/", network) as transport:
        assert (await transport.post(sent_to(f"https://127.0.0.1:{port}/"))).status == 200
    other, other_tls, other_bundle = server_with_certificate(theirs)
    monkeypatch.setenv("SSL_CERT_FILE", str(other_bundle))  # the system's, which a bundle of one's own replaces
    async with other.serving(other_tls) as port:
        assert not (await failure_of(f"https://127.0.0.1:{port}/", network)).may_have_arrived
        async with transport_to(f"https://127.0.0.1:{port}/") as transport:
            assert (await transport.post(sent_to(f"https://127.0.0.1:{port}/"))).status == 200


ASK = """
import asyncio, sys
from sqspider.frontier.aws.network import Network
from tests.aws.test_transport import SQS, sent_to, transport_to
async def ask(endpoint, bundle):
    async with transport_to(endpoint, Network.read({"AWS_CA_BUNDLE": bundle})) as transport:
        try:
            print((await transport.post(sent_to(endpoint))).status)
        except Exception as error:
            print(error)
asyncio.run(ask(*sys.argv[1:]))
"""


@pytest.fixture
def system() -> str:
    """The file of the system's certificates, where another can be put in its place for a process."""
    path = ssl.get_default_verify_paths().cafile or ""
    if not path or shutil.which("unshare") is None:
        pytest.skip("no file of certificates, or none that can be replaced")
    if subprocess.run(["unshare", "-rm", "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("no namespaces for whoever runs this")
    return path


@needs_openssl
async def test_beside_a_folder_of_certificates_the_systems_are_not_trusted(system: str, tmp_path: Path) -> None:
    """Where the file of the system's certificates, which libcurl is told of by its binding, holds one of ours."""
    mine, theirs = tmp_path / "mine", tmp_path / "theirs"
    mine.mkdir()
    theirs.mkdir()
    folder = as_folder(server_with_certificate(mine)[2])
    server, tls, bundle = server_with_certificate(theirs)

    async def ask(port: int, bundle_of_ones_own: str) -> str:
        asking = await asyncio.create_subprocess_exec(
            "unshare", "-rm", "sh", "-c", 'mount --bind "$1" "$2" && shift 2 && exec "$@"', "sh", str(bundle), system,
            sys.executable, "-c", ASK, f"https://127.0.0.1:{port}/", bundle_of_ones_own,
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        return (await asking.communicate())[0].decode()

    async with server.serving(tls) as port:
        assert await ask(port, "") == "200\n"
        assert "certificate" in await ask(port, str(folder))
