"""A server that answers as it is told, and what takes an answer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqspider.transport import GO_ON, Exchange, Request
from sqspider.transport.curl import CurlOptions, CurlTransport
from sqspider.transport.names import Names

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


class Peer:
    """A connection as the server has it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.requests = 0

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def end(self) -> None:
        self.writer.close()


class Server:
    """Notes what it is asked, and answers with ``answer``: bytes, or a function of the connection that sends."""

    def __init__(self, answer: bytes | Callable[[Peer], None] = HELLO) -> None:
        self.answer = answer
        self.peers: list[Peer] = []
        self.heads: list[bytes] = []
        self.was_asked = asyncio.Event()
        self.port = 0

    @property
    def targets(self) -> list[bytes]:
        return [head.split()[1] for head in self.heads]

    def url(self, path: str = "", host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}/{path}"

    @asynccontextmanager
    async def running(self, host: str = "127.0.0.1") -> AsyncIterator[Server]:
        server = await asyncio.start_server(self._serve, host, 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for peer in self.peers:
                peer.end()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        self.peers.append(peer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                peer.requests += 1
                self.heads.append(head)
                self.was_asked.set()
                if isinstance(self.answer, bytes):
                    peer.send(self.answer)
                else:
                    self.answer(peer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has left, or the test is over
        finally:
            peer.end()


class Taken:
    """Takes an answer whole."""

    def __init__(self, word: int = GO_ON) -> None:
        self.pieces: list[bytes] = []
        self.word = word
        self.began = asyncio.Event()

    @property
    def whole(self) -> bytes:
        return b"".join(self.pieces)

    def head(self, exchange: Exchange) -> bool:
        del exchange
        return True

    def body(self, piece: bytes) -> int:
        self.pieces.append(piece)
        self.began.set()
        return self.word


class Answers:
    """A resolver with answers of its own, one after another; the last one stays."""

    def __init__(self, *answers: list[str]) -> None:
        self._answers = list(answers)
        self.asked: list[str] = []

    async def resolve(self, name: str) -> list[str]:
        self.asked.append(name)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@contextmanager
def transport(options: CurlOptions | None = None, names: Names | None = None) -> Iterator[CurlTransport]:
    made = CurlTransport(options or CurlOptions(), names or Names(Answers(["127.0.0.1"]), allow_private=True))
    try:
        yield made
    finally:
        made.close()


async def ask(carrier: CurlTransport, url: str, seconds: float = 60.0) -> tuple[Exchange, bytes]:
    taken = Taken()
    exchange = await carrier.exchange(Request(url, timeout_seconds=seconds, connect_seconds=seconds), taken)
    return exchange, taken.whole


def open_descriptors() -> int:
    return len(os.listdir("/dev/fd"))


async def until(condition: Callable[[], bool]) -> None:
    """Let the others run until something holds."""
    while not condition():
        await asyncio.sleep(0.001)
