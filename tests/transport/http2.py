"""A server of HTTP/2 over TLS that answers as it is told: by the rules, or frame by frame against them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

import trustme
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamReset, WindowUpdated
from h2.exceptions import ProtocolError

from .kit import HELLO

Fields = Sequence[tuple[str, str]]
OK: Final[Fields] = ((":status", "200"),)
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = (
    0,
    1,
    3,
    4,
    5,
    6,
    7,
    8,
    9,
)
END_STREAM, END_HEADERS = 1, 4
INTERNAL_ERROR, REFUSED_STREAM, ENHANCE_YOUR_CALM, HTTP_1_1_REQUIRED = 2, 7, 11, 13
STATUS_200: Final = b"\x88"  # of HPACK's table: a whole header block (RFC 7541 appendix A)

LEFT: Final = (OSError, RuntimeError, ProtocolError)
"""What sending raises once the client has left: the system, uvloop, or h2, by what it was told."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame as it is on the wire (RFC 9113 section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def field(name: bytes, value: bytes) -> bytes:
    """A field that is written out, of fewer than 127 bytes each (RFC 7541 section 6.2.2)."""
    return b"\0" + bytes((len(name),)) + name + bytes((len(value),)) + value


class Peer2:
    """A connection as the server has it."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self.writer = writer
        self.h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
        self.streams: list[int] = []  # that were asked for
        self.resets: list[int] = []  # streams that the client gave up
        self.has_left = asyncio.Event()
        self._bodies: dict[int, list[bytes]] = {}  # pieces that wait for room in the client's window

    def send(self, data: bytes = b"") -> None:
        """What h2 has to send, and then bytes past all rules."""
        self.writer.write(self.h2.data_to_send() + data)

    def answer(self, stream: int, body: bytes, fields: Fields = OK, piece: int = 16_384) -> None:
        """A whole answer, its body in frames of ``piece`` bytes."""
        self.h2.send_headers(stream, fields)
        self._bodies[stream] = [body[at : at + piece] for at in range(0, len(body), piece)] or [b""]
        self.send_bodies()

    def send_bodies(self) -> None:
        for stream, pieces in list(self._bodies.items()):
            while pieces and len(pieces[0]) <= self.h2.local_flow_control_window(stream):
                self.h2.send_data(stream, pieces.pop(0), end_stream=not pieces)
            if not pieces:
                del self._bodies[stream]
        self.send()

    def left(self, stream: int) -> int:
        """How many bytes of a body wait for room in the client's window."""
        return sum(map(len, self._bodies.get(stream, ())))

    def begin(self, stream: int, body: bytes = b"", fields: Fields = OK) -> None:
        """The head of an answer and the beginning of its body."""
        self.h2.send_headers(stream, fields)
        self.h2.send_data(stream, body)
        self.send()

    def reset(self, stream: int, code: int) -> None:
        self.send(frame(RST_STREAM, 0, stream, code.to_bytes(4, "big")))

    def go_away(self, code: int = 0, last: int = 0) -> None:
        self.send(frame(GOAWAY, 0, 0, last.to_bytes(4, "big") + code.to_bytes(4, "big")))

    def end(self) -> None:
        self.send()
        self.writer.close()


class Http2Server:
    """Notes what it is asked, and answers with ``answer``: a body, or a function of connection and stream that sends.

    Whoever does not choose HTTP/2 gets ``HELLO`` by HTTP/1.1.
    """

    def __init__(self, answer: bytes | Callable[[Peer2, int], None] = b"hello") -> None:
        self.answer = answer
        self.peers: list[Peer2] = []
        self.requests: list[dict[str, str]] = []
        self.old_heads: list[bytes] = []  # of requests by HTTP/1.1
        self.was_asked = asyncio.Event()
        self.port = 0
        self.authority = trustme.CA()

    @property
    def targets(self) -> list[str]:
        return [request[":path"] for request in self.requests]

    def url(self, path: str = "") -> str:
        return f"https://localhost:{self.port}/{path}"

    @asynccontextmanager
    async def running(self, *protocols: str) -> AsyncIterator[str]:
        """With the file of the authority that it is to be trusted by."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_alpn_protocols(protocols or ("h2", "http/1.1"))
        self.authority.issue_cert("localhost").configure_cert(context)
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        try:
            with self.authority.cert_pem.tempfile() as trusted:
                yield trusted
        finally:
            server.close()
            for peer in self.peers:
                with suppress(AttributeError):  # CPython before 3.11.3, if the client has left
                    peer.writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer2(writer)
        self.peers.append(peer)
        try:
            if writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2":
                await self._talk(peer, reader)
            else:
                while True:
                    self.old_heads.append(await reader.readuntil(b"\r\n\r\n"))
                    writer.write(HELLO)
        except (*LEFT, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has left, or the test is over
        finally:
            peer.has_left.set()
            writer.close()

    async def _talk(self, peer: Peer2, reader: asyncio.StreamReader) -> None:
        peer.h2.initiate_connection()
        peer.send()
        while data := await reader.read(65_536):
            for event in peer.h2.receive_data(data):
                if isinstance(event, RequestReceived):
                    self._take(peer, event)
                elif isinstance(event, StreamReset):
                    peer.resets.append(event.stream_id or 0)
                elif isinstance(event, WindowUpdated):
                    peer.send_bodies()
            peer.send()

    def _take(self, peer: Peer2, event: RequestReceived) -> None:
        stream = event.stream_id or 0
        self.requests.append({str(name): str(value) for name, value in event.headers or ()})
        peer.streams.append(stream)
        self.was_asked.set()
        if isinstance(self.answer, bytes):
            peer.answer(stream, self.answer)
        else:
            self.answer(peer, stream)
