"""One request after another by an easy handle of libcurl: what it is told, and what it calls back.

What libcurl does by itself and we do not want is off: redirects, cookies, decoding, proxies of the environment, names,
asking again where a kept connection turns out dead. https://curl.se/libcurl/c/easy_setopt_options.html
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import socket
import ssl
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

import pycurl

from sqspider.transport import ENOUGH, PAUSE, Exchange, Failure, Receiver, descriptors
from sqspider.transport.failures import behind_a_proxy, behind_socks, failure_of
from sqspider.transport.heads import ENDS, headers_in, http_status_in, target_of

CheckAddress = Callable[[str], str | None]
"""Why an IP address must not be connected to; none: it may be."""

IDLE_SECONDS: Final = 15
BUFFER_BYTES: Final = 128 * 1024  # that are read at a time; all requests have one buffer together
HELD_UP_SECONDS: Final = 1.0  # that a clock rings too late, at most, where the event loop is not held up
_SWITCHING_PROTOCOLS: Final = 101  # RFC 9110 section 15.2.2: an end, for we ask for no other protocol


class CurlOptions(NamedTuple):
    """What holds for every request of a transport: its identity on the net."""

    check_address: CheckAddress | None = None  # none: every address will do
    proxy: str | None = None
    certificates: str | None = None  # a file (PEM) or folder of those that are trusted; none: the system's
    client_cert: str | None = None  # files (PEM): what is shown to hosts that ask for it
    client_key: str | None = None  # none: it lies with the certificate
    most_idle: int = 64  # connections that are kept


class Connection(NamedTuple):
    """A connection, by its ends: the other address and port, and our port."""

    address: str
    port: int
    own_port: int


class Kept(NamedTuple):
    """What is known of a connection that is kept."""

    descriptor: int
    tls: str  # see :class:`Exchange`: libcurl tells it of a new one alone


class Owner(Protocol):
    """Whose easy handle it is."""

    def take(self, connection: Connection) -> Kept | None:
        """A kept connection, if it may carry a request."""

    def abort(self, line: Line, failure: Failure | None) -> None:
        """End an exchange that is under way."""


class _Opened:
    """A descriptor for libcurl to copy."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)


class Line:
    """An easy handle with its callbacks, for one request after another. No callback raises."""

    def __init__(self, owner: Owner, options: CurlOptions, loop: asyncio.AbstractEventLoop) -> None:
        self._owner = owner
        self._options = options
        self._loop = loop
        self.easy = easy = pycurl.Curl()
        self._usual: tuple[Any, ...] | None = None  # what seldom changes from one request to another
        self._had_document = False  # the request before, on the same easy handle
        self._had_method: str | None = None  # likewise
        self._ended = 0  # requests so far
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (pycurl.PATH_AS_IS, 1),
            (pycurl.HTTP09_ALLOWED, 0),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.PROXY, self._options.proxy or ""),
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            (pycurl.DNS_CACHE_TIMEOUT, 600),  # longer than a request takes: what is asked is given with it
            (pycurl.MAXAGE_CONN, IDLE_SECONDS),
            (pycurl.TCP_NODELAY, 1),
            (pycurl.BUFFERSIZE, BUFFER_BYTES),
            (pycurl.OPENSOCKETFUNCTION, self._open),
            (pycurl.PREREQFUNCTION, self._connected),
            (pycurl.HEADERFUNCTION, self._take_head),
            (pycurl.WRITEFUNCTION, self._take_body),
            (pycurl.DEBUGFUNCTION, self._take_note),
        ):
            easy.setopt(option, value)
        _set_certificates(easy, options)

    def begin(self, exchange: Exchange, receiver: Receiver, started: float) -> None:
        self.exchange: Any = exchange
        self.connection: Connection | None = None  # that the request goes over
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.raised: Exception | None = None  # by whoever was called back: that is its own fault, and no site's
        self.is_turned_away = False  # from a kept connection that is not clean
        self.has_two_framings = False
        self._is_tls = exchange.request.url.startswith("https:")
        self._is_last = False  # over its connection, which libcurl closes then
        self._receiver: Any = receiver
        self._started = started
        self._is_opened = False  # for this request
        self._head: list[bytes] | None = None  # where its lines go, while they are the host's
        self._head_room = exchange.request.max_head_bytes
        self._is_head_whole = False
        self._is_enough = False
        self._is_asked = False
        self._until = started + exchange.request.timeout_seconds
        self._due = self._until  # the moment at which the clock rings
        self._clock = self._loop.call_later(self._until - time.monotonic(), self._expire)  # a look-up took its part
        self._left = 0.0  # of the time, while paused
        # Not with the exchange itself: that would hold all of it until the next collection of garbage.
        exchange.resume = functools.partial(self._resume, self._ended)

    def set_up(self, authority: str, scheme: str, addresses: tuple[str, ...]) -> None:
        """Tell libcurl what is new."""
        request = self.exchange.request
        easy = self.easy
        easy.setopt(pycurl.URL, request.url)
        if addresses:
            name = authority.rpartition(":")[0] if ":" in authority else authority
            port = authority.rpartition(":")[2] if ":" in authority else "443" if scheme == "https" else "80"
            listed = ",".join(f"[{address}]" if ":" in address else address for address in addresses)
            easy.setopt(pycurl.RESOLVE, [f"+{name}:{port}:{listed}"])
        connect_seconds = min(request.connect_seconds, request.timeout_seconds)
        usual = (request.headers, request.is_fresh, request.keeps_request_head, connect_seconds, request.http2)
        if usual != self._usual:
            self._usual = usual
            easy.setopt(pycurl.HTTPHEADER, request.headers)
            easy.setopt(pycurl.FRESH_CONNECT, int(request.is_fresh))
            easy.setopt(pycurl.FORBID_REUSE, int(request.is_fresh))
            easy.setopt(pycurl.VERBOSE, int(request.keeps_request_head))
            easy.setopt(
                pycurl.HTTP_VERSION,
                pycurl.CURL_HTTP_VERSION_2TLS if request.http2 else pycurl.CURL_HTTP_VERSION_1_1,
            )
            easy.setopt(pycurl.CONNECTTIMEOUT_MS, round(connect_seconds * 1000))
        # libcurl's parser drops a question mark with nothing behind it, and writes %2f in capitals.
        is_whole = scheme == "http" and (self._options.proxy or "").startswith("http")
        easy.setopt(pycurl.REQUEST_TARGET, request.url if is_whole else target_of(request.url))
        if request.document is not None:
            easy.setopt(pycurl.POST, 1)
            easy.setopt(pycurl.POSTFIELDS, request.document)
        elif self._had_document or self._had_method is not None:
            easy.setopt(pycurl.HTTPGET, 1)
        self._had_document = request.document is not None
        self._set_method(request.method)

    def _set_method(self, method: str | None) -> None:
        """``HEAD`` has to be known to libcurl: it would wait for a body."""
        if method == "HEAD":
            self.easy.setopt(pycurl.NOBODY, 1)
        elif method is not None:
            self.easy.setopt(pycurl.CUSTOMREQUEST, method)
        if method in (None, "HEAD") and self._had_method not in (None, "HEAD"):
            self.easy.unsetopt(pycurl.CUSTOMREQUEST)
        self._had_method = method

    def ask_afresh(self, *, is_left_open: bool) -> None:
        """Once more, for nothing was written: over a connection of its own making.

        ``is_left_open``: so is the connection that it was turned away from, as libcurl does over HTTP/2. It would give
        that one to the next request, too: this one goes there again, once, and is the last one.
        """
        self.is_turned_away = False
        self._is_last = is_left_open and not self._is_last
        self.easy.setopt(pycurl.FORBID_REUSE, int(self._is_last or self.exchange.request.is_fresh))
        self.easy.setopt(pycurl.FRESH_CONNECT, int(not self._is_last))
        self._usual = None

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def stop_clock(self) -> None:
        self._clock.cancel()

    def end(self) -> None:
        """Forget the request, and what it holds."""
        if self._had_document:
            self.easy.setopt(pycurl.POSTFIELDS, b"")  # pycurl holds on to it, and it may be megabytes
        self._ended += 1
        self.exchange = self._receiver = _NOTHING

    def note_failure(self, code: int, text: str) -> None:
        """What libcurl's code means, unless it is known better."""
        exchange = self.exchange
        exchange.is_whole = code == 0 and self._is_head_whole
        if exchange.failure is not None or self._is_enough:
            return
        if code == 0:  # also where the connection was closed amid the head
            exchange.failure = None if self._is_head_whole else Failure.NO_ANSWER
            return
        exchange.errno = self.easy.getinfo(pycurl.OS_ERRNO)
        self._fail(failure_of(code, text, is_head_whole=self._is_head_whole), text)

    def _set_clock(self, seconds: float) -> None:
        self._clock.cancel()
        self._due = time.monotonic() + seconds
        self._clock = self._loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        if time.monotonic() > self._due + HELD_UP_SECONDS:  # by us, or the machine slept: what came since is to be read
            self._set_clock(HELD_UP_SECONDS)
            return
        self._fail(Failure.CONNECT_TIMEOUT if self.exchange.is_connecting else Failure.TIMEOUT, "")
        self._owner.abort(self, self.exchange.failure)

    def _fail(self, failure: Failure, text: str) -> None:
        exchange = self.exchange
        if self._options.proxy is not None and exchange.is_connecting:
            if self._options.proxy.startswith("socks"):
                failure, said = behind_socks(failure, self.easy.getinfo(pycurl.PROXY_ERROR)), ""
            else:
                http_status = self.easy.getinfo(pycurl.HTTP_CONNECTCODE)
                is_tunnel = exchange.request.url.startswith("https:")
                failure, said = behind_a_proxy(failure, http_status, is_tunnel=is_tunnel)
            text = said or text
        exchange.failure, exchange.detail = failure, text

    def _resume(self, ended: int, *, is_wanted: bool) -> None:
        if self._ended != ended:  # it is over
            return
        if not is_wanted:
            self._owner.abort(self, None)
            return
        self._until = time.monotonic() + self._left
        self._set_clock(self._left)
        self.easy.pause(pycurl.PAUSE_CONT)

    # Callbacks of libcurl

    def _open(self, _purpose: int, address: Any) -> Any:
        if self._is_asked:  # the kept connection was dead, and libcurl would ask again by itself
            self.exchange.failure = self._not_taken()
            return pycurl.SOCKET_BAD
        family, kind, protocol, where = address
        check = self._options.check_address
        if check is not None and self._options.proxy is None and (why := check(where[0])):
            self.exchange.failure, self.exchange.detail = Failure.ADDRESS_REFUSED, why
            return pycurl.SOCKET_BAD
        try:
            opened = _Opened(socket.socket(family, kind, protocol).detach())
        except OSError as error:
            self.exchange.failure, self.exchange.errno = Failure.OWN_SHORTAGE, error.errno or 0
            return pycurl.SOCKET_BAD
        most = descriptors.limit()
        if most is not None and opened.fileno() >= most - descriptors.SPARE:  # numbers are given out from below
            self.exchange.failure, self.exchange.errno = Failure.OWN_SHORTAGE, errno.EMFILE
            return pycurl.SOCKET_BAD
        self._is_opened = True
        return opened

    def _connected(self, address: str, _own_address: str, port: int, own_port: int) -> int:
        """Between connected and written, on kept connections, too."""
        try:
            return int(pycurl.PREREQFUNC_OK if self._may_write(address, port, own_port) else pycurl.PREREQFUNC_ABORT)
        except Exception as error:  # noqa: BLE001 - raised where the exchange is waited for
            self.raised = error
            return int(pycurl.PREREQFUNC_ABORT)

    def _may_write(self, address: str, port: int, own_port: int) -> bool:
        exchange = self.exchange
        if self._is_asked:  # the same as in `_open`, over another one that was kept
            exchange.failure = self._not_taken()
            return False
        if exchange.failure is Failure.ADDRESS_REFUSED:  # one of several addresses: what such a name says is not asked
            return False
        connection = Connection(address, port, own_port)
        kept = None if self._is_opened else self._owner.take(connection)
        if kept is None and not self._is_opened:
            self.is_turned_away = True
            return False
        check = self._options.check_address
        if check is not None and self._options.proxy is None and (why := check(address)):
            exchange.failure, exchange.detail = Failure.ADDRESS_REFUSED, why
            return False
        gate = exchange.request.gate
        if gate is not None and not gate():
            exchange.failure = Failure.GATE
            return False
        self.connection = connection
        self._is_asked = True
        self._head = exchange.head
        exchange.failure = None  # of another address
        exchange.address = address if self._options.proxy is None else ""
        exchange.tls = kept.tls if kept is not None else exchange.tls
        exchange.is_kept = not self._is_opened
        silent = exchange.request.silent_seconds
        if exchange.is_kept and silent is not None:
            self._set_clock(min(self._until - time.monotonic(), silent))
        exchange.is_connecting = False
        exchange.sent_seconds = time.monotonic() - self._started
        return True

    def _not_taken(self) -> Failure:
        """Why libcurl would ask again. On a new connection it does so only where HTTP/2 says that the request was not
        taken (RFC 9113 section 8.7), or is to be made by HTTP/1.1."""
        return Failure.STALE if self.exchange.is_kept else Failure.REFUSED

    def _take_head(self, line: bytes) -> int | None:
        head = self._head
        if head is None:  # of a proxy's CONNECT, or a trailer
            if self._is_head_whole:
                self._take_trailer(line)
            return None
        if not head:
            exchange = self.exchange
            exchange.first_byte_seconds = time.monotonic() - self._started
            if exchange.is_kept and exchange.request.silent_seconds is not None:
                self._set_clock(self._until - time.monotonic())
        head.append(line)
        self._head_room -= len(line)
        if self._head_room < 0:
            self.exchange.failure = Failure.HEAD_TOO_LARGE
            return 0
        if line not in ENDS:
            return None
        try:
            return None if self._is_body_wanted(head) else 0
        except Exception as error:  # noqa: BLE001 - as in `_connected`
            self.raised = error
            return 0

    def _take_trailer(self, line: bytes) -> None:
        self._head_room -= len(line)
        if self._head_room >= 0 and line not in ENDS:
            self.exchange.trailers.append(line)

    def _is_body_wanted(self, head: list[bytes]) -> bool:
        exchange = self.exchange
        http_status = http_status_in(head[0])
        if http_status is None:
            exchange.failure = Failure.NOT_HTTP
            return False
        if http_status < 200 and http_status != _SWITCHING_PROTOCOLS:  # an interim answer (RFC 9110 section 15.2)
            head.clear()
            return True
        self._head = None
        self._is_head_whole = True
        exchange.http_status = http_status
        exchange.protocol = head[0].partition(b" ")[0].decode("latin-1")
        exchange.headers = headers_in(head)
        exchange.header_names = names = frozenset(name.lower() for name, _ in exchange.headers)
        # Chunks beside a length: whoever sent both may mean either, and is not asked again over that connection
        # (RFC 9112 section 6.3).
        self.has_two_framings = "transfer-encoding" in names and "content-length" in names
        self._is_enough = not self._receiver.head(exchange) or http_status == _SWITCHING_PROTOCOLS
        return not self._is_enough

    def _take_body(self, piece: bytes) -> int | None:
        try:
            word = self._receiver.body(piece)
        except Exception as error:  # noqa: BLE001 - as in `_connected`
            self.raised = error
            return 0
        if word == ENOUGH:
            self._is_enough = True
            return 0
        if word == PAUSE:
            self._left = max(0.0, self._until - time.monotonic())
            self._clock.cancel()
            self.easy.pause(pycurl.PAUSE_RECV)
        return None

    def _take_note(self, kind: int, data: bytes) -> None:
        """What libcurl tells of itself; asked for where the request's head is to be kept."""
        if kind == pycurl.INFOTYPE_HEADER_OUT and not self.exchange.is_connecting:
            self.exchange.request_head += data  # what does not go out at once comes in parts
        elif kind == pycurl.INFOTYPE_TEXT and data.startswith(_TLS_NOTE) and self._is_tls:  # else a proxy's
            self.exchange.tls = data.removeprefix(_TLS_NOTE).decode("latin-1").strip()


_NOTHING: Final = None
_TLS_NOTE: Final = b"SSL connection using "


def _set_certificates(easy: pycurl.Curl, options: CurlOptions) -> None:
    system = ssl.get_default_verify_paths()  # by SSL_CERT_FILE and SSL_CERT_DIR, too; what is not there is none
    trusted = options.certificates or system.cafile or system.capath
    if options.certificates:  # pycurl and libcurl name the system's file, which beside a folder would count, too
        easy.unsetopt(pycurl.CAINFO)
        easy.unsetopt(pycurl.PROXY_CAINFO)
    if trusted:
        is_folder = os.path.isdir(trusted)
        easy.setopt(pycurl.CAPATH if is_folder else pycurl.CAINFO, trusted)
        easy.setopt(pycurl.PROXY_CAPATH if is_folder else pycurl.PROXY_CAINFO, trusted)
    else:  # Windows, and builds of Python that bring none along
        easy.setopt(pycurl.SSL_OPTIONS, pycurl.SSLOPT_NATIVE_CA)
        easy.setopt(pycurl.PROXY_SSL_OPTIONS, pycurl.SSLOPT_NATIVE_CA)
    if options.client_cert is not None:
        easy.setopt(pycurl.SSLCERT, options.client_cert)
        easy.setopt(pycurl.SSLKEY, options.client_key or options.client_cert)
