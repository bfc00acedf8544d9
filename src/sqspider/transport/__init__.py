"""The seam to the network: one request in, one :class:`Exchange` out, with all that was on the wire.

Who is asked when, what an answer means and how a body is decoded is not known here; nor is it known to others
which library speaks HTTP (``curl``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

GO_ON: Final = 0
PAUSE: Final = 1  # no more for now, but what was read already: `Exchange.resume` goes on
ENOUGH: Final = 2  # the rest is not wanted


class Failure(StrEnum):
    """What kept an exchange from its end. Nothing is said here of whose fault it is."""

    NAME_UNKNOWN = "name_unknown"  # a name that does not exist
    NAME_LOOKUP = "name_lookup"  # the look-up itself failed
    ADDRESS_REFUSED = "address_refused"  # the caller's word on an address was no
    GATE = "gate"  # the caller's last word was no: nothing was written
    NO_CONNECTION = "no_connection"  # `Exchange.errno` says why, where the system did
    CONNECT_TIMEOUT = "connect_timeout"
    TLS = "tls"
    CERTIFICATE = "certificate"  # it does not prove that the host is who it should be
    PROXY = "proxy"  # the proxy cannot be used
    PROXY_REFUSED = "proxy_refused"  # the proxy can, and does not lead there
    PROXY_SILENT = "proxy_silent"  # it did not say in time whether it leads there: it may wait for the host
    BAD_URL = "bad_url"  # the library cannot ask for it
    TIMEOUT = "timeout"  # after the request was written
    BROKEN = "broken"  # the connection broke
    NO_ANSWER = "no_answer"  # the connection was closed before a byte came
    STALE = "stale"  # the same, on a connection that was kept
    REFUSED = "refused"  # HTTP/2: the request was not taken, or is to be made by HTTP/1.1
    STREAM_RESET = "stream_reset"  # HTTP/2: the server took its answer back, before or amid it
    NOT_HTTP = "not_http"
    NOT_HTTP2 = "not_http2"  # HTTP/2: what came in place of a head is against its rules, or says that we are
    HEAD_TOO_LARGE = "head_too_large"
    BAD_FRAMING = "bad_framing"  # of a body
    SHORT_BODY = "short_body"  # it ended before its announced length, or amid its chunks
    OWN_SHORTAGE = "own_shortage"  # descriptors, memory: of this process or machine
    UNKNOWN = "unknown"  # a code of the library that is in no table


class Request(NamedTuple):
    """What is asked for, and under which limits."""

    url: str  # canonical; what the request line says is this, to the letter
    headers: Sequence[str] = ()  # "Name: value", besides Host
    document: bytes | None = None  # a body, which makes it a POST; without one it is a GET
    timeout_seconds: float = 10.0  # from the first byte of work to the last one; time that is paused does not count
    connect_seconds: float = 5.0  # of it, for name, connection and TLS
    max_head_bytes: int = 256 * 1024
    silent_seconds: float | None = None  # until the first byte of the answer, on a connection that was kept
    is_fresh: bool = False  # on a connection of its own, which nobody uses afterwards
    http2: bool = False  # under TLS, by HTTP/2 where the server speaks it
    gate: Callable[[], bool] | None = None  # asked when the connection is there, before the request is written to it
    keeps_request_head: bool = False  # note the request head as it was sent
    method: str | None = None  # another than GET, or than POST where there is a document


class Resume(Protocol):
    """Goes on with an exchange that is paused."""

    def __call__(self, *, is_wanted: bool) -> None:
        """``is_wanted``: whether the rest is; otherwise the exchange ends here."""


class Exchange:
    """One request and what came of it."""

    def __init__(self, request: Request) -> None:
        self.request = request
        # As sent; only where the request asks for it. What is sent over HTTP/2 is no text: this is what it stands for,
        # with HTTP/2 in the request line, Host in place of :authority, and names in the case in which we wrote them.
        self.request_head = b""
        # Status line and header lines with their ends, byte for byte; but folded ones (RFC 9112 section 5.2) come as
        # one, with a blank in place of each fold: libcurl shows nobody what they were. Over HTTP/2: "HTTP/2 200 ", and
        # the fields as lines, in their order and with their bytes.
        self.head: list[bytes] = []
        self.http_status: int | None = None  # once the head is whole
        self.headers: tuple[tuple[str, str], ...] = ()  # of the head, decoded as Latin-1
        self.header_names: frozenset[str] = frozenset()  # in lower case
        self.address = ""  # of the host; empty behind a proxy, which alone knows it
        self.protocol = ""  # "HTTP/1.1", "HTTP/2"
        # Version, cipher and more, as libcurl says them ("TLSv1.3 / TLS_AES_256_GCM_SHA384 / x25519 / ..."); only where
        # the request asks for its head, and only of the host's, not of a proxy's.
        self.tls = ""
        # Fields behind the body, as lines with their ends (RFC 9112 section 7.1.2), as far as `max_head_bytes` go.
        self.trailers: list[bytes] = []
        self.is_whole = False  # the answer came to its end
        self.is_connecting = True  # nothing was written yet
        self.is_kept = False  # its connection had served another request before
        # Seconds since the exchange began; zero: it did not come to that.
        self.sent_seconds = 0.0  # connected, and the request written
        self.first_byte_seconds = 0.0
        self.end_seconds = 0.0
        self.failure: Failure | None = None
        self.detail = ""  # what the library or the system says of the failure, for a person
        self.errno = 0  # the system's number, where it gave one
        self.resume: Resume  # goes on after PAUSE


class Receiver(Protocol):
    """Takes an answer as it comes. Must not raise."""

    def head(self, exchange: Exchange) -> bool:
        """The head is whole: whether the body is wanted."""

    def body(self, piece: bytes) -> int:
        """A piece of the body as it came, without its framing (transfer coding), before any content coding is
        removed: :data:`GO_ON`, :data:`PAUSE` (this piece is taken) or :data:`ENOUGH`."""


class Transport(Protocol):
    """Carries requests, over one pool of connections that nobody else uses."""

    async def exchange(self, request: Request, receiver: Receiver) -> Exchange:
        """Ask once, and never again by itself. Raises nothing but for being cancelled; all else is a
        :class:`Failure`."""

    def close(self) -> None:
        """Let go of every connection. No exchange may be under way."""
