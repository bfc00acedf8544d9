"""HTTP by libcurl, its multi-socket interface on the running event loop: no thread, and no wait but the loop's.

What libcurl does by itself and we do not want is off: redirects, cookies, decoding, proxies of the environment, names,
asking again where a kept connection turns out dead. https://curl.se/libcurl/c/libcurl-multi.html
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import re
import select
import socket
import ssl
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import pycurl

from sqspider.transport import ENOUGH, PAUSE, Exchange, Failure, Receiver, Request, descriptors
from sqspider.transport.addresses import AddressRefusedError
from sqspider.transport.names import Names

CheckAddress = Callable[[str], str | None]
"""Why an IP address must not be connected to; none: it may be."""

IDLE_SECONDS: Final = 15
_MAX_LINES: Final = 64  # easy handles kept for further requests
_SWITCHING_PROTOCOLS: Final = 101  # RFC 9110 section 15.2.2: an end, for we ask for no other protocol

_FAILURES: Final = {
    pycurl.E_UNSUPPORTED_PROTOCOL: Failure.NOT_HTTP,  # HTTP/0.9, or what is no HTTP at all
    pycurl.E_URL_MALFORMAT: Failure.BAD_URL,
    pycurl.E_COULDNT_RESOLVE_PROXY: Failure.PROXY,
    pycurl.E_COULDNT_RESOLVE_HOST: Failure.NAME_LOOKUP,
    pycurl.E_COULDNT_CONNECT: Failure.NO_CONNECTION,
    8: Failure.NOT_HTTP,  # CURLE_WEIRD_SERVER_REPLY
    pycurl.E_HTTP2: Failure.NOT_HTTP,
    92: Failure.NOT_HTTP,  # CURLE_HTTP2_STREAM
    pycurl.E_PARTIAL_FILE: Failure.SHORT_BODY,
    pycurl.E_OUT_OF_MEMORY: Failure.OWN_SHORTAGE,
    pycurl.E_OPERATION_TIMEDOUT: Failure.CONNECT_TIMEOUT,  # of connecting: the rest of the time is counted here
    pycurl.E_GOT_NOTHING: Failure.NO_ANSWER,
    pycurl.E_SEND_ERROR: Failure.BROKEN,
    pycurl.E_RECV_ERROR: Failure.BROKEN,
    pycurl.E_BAD_CONTENT_ENCODING: Failure.BAD_FRAMING,  # of transfer codings; content codings are not libcurl's here
    97: Failure.PROXY,  # CURLE_PROXY
    100: Failure.HEAD_TOO_LARGE,  # CURLE_TOO_LARGE
    pycurl.E_SSL_CONNECT_ERROR: Failure.TLS,
    pycurl.E_PEER_FAILED_VERIFICATION: Failure.CERTIFICATE,
    pycurl.E_SSL_INVALIDCERTSTATUS: Failure.CERTIFICATE,
}
_ON_THE_WAY: Final = frozenset(
    {
        Failure.NO_CONNECTION,
        Failure.CONNECT_TIMEOUT,
        Failure.BROKEN,
        Failure.NO_ANSWER,
        Failure.NOT_HTTP,
        Failure.TLS,
        Failure.CERTIFICATE,
    }
)
"""What may fail before anything leads to the host."""
_PROXY_AUTHENTICATION_REQUIRED: Final = 407  # RFC 9110 section 15.5.8
_CHUNKS: Final = re.compile(r"\bchunk", re.IGNORECASE)
"""What a message says of chunks whose framing is broken; its code is that of a connection that breaks."""
_TLS_END: Final = "unexpected eof"  # the connection was closed, and TLS was not: as a message says it, under that code


class CurlOptions(NamedTuple):
    """What holds for every request of a transport: its identity on the net."""

    check_address: CheckAddress | None = None  # none: every address will do
    proxy: str | None = None
    certificates: str | None = None  # a file (PEM) or folder of those that are trusted; none: the system's
    most_idle: int = 64  # connections that are kept


class _Connection(NamedTuple):
    """A connection, by its ends: the other address and port, and our port."""

    address: str
    port: int
    own_port: int


class CurlTransport:
    """A transport over one pool of connections. Made within a running loop, and closed there."""

    def __init__(self, options: CurlOptions, names: Names) -> None:
        self._options = options
        self._names = names
        self._loop = asyncio.get_running_loop()
        self._multi = multi = pycurl.CurlMulti()
        multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        multi.setopt(pycurl.M_MAXCONNECTS, options.most_idle)
        self._watched: dict[int, int] = {}  # descriptors, and what is waited for at them
        self._timer: asyncio.Handle | None = None
        self._lines: list[_Line] = []  # not in use
        self._busy: dict[Any, _Line] = {}
        self._kept: OrderedDict[_Connection, int] = OrderedDict()  # and their descriptors; the oldest first

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for descriptor, what in list(self._watched.items()):
            self._unwatch(descriptor, what)
        self._watched.clear()
        self._kept.clear()
        self._multi.close()
        for line in self._lines:
            line.easy.close()
        self._lines.clear()

    async def exchange(self, request: Request, receiver: Receiver) -> Exchange:
        exchange = Exchange(request)
        started = self._loop.time()
        scheme, _, rest = request.url.partition("://")
        authority = rest.partition("/")[0].partition("?")[0]
        try:
            addresses = await self._addresses(authority, request, started)
        except AddressRefusedError as error:
            exchange.failure, exchange.detail = Failure.ADDRESS_REFUSED, str(error)
        except TimeoutError:
            exchange.failure = Failure.CONNECT_TIMEOUT
        except socket.gaierror as error:
            is_unknown = error.errno in _NAME_UNKNOWN
            exchange.failure = Failure.NAME_UNKNOWN if is_unknown else Failure.NAME_LOOKUP
            exchange.detail = error.strerror or ""
        except OSError as error:
            exchange.failure, exchange.errno = Failure.NAME_LOOKUP, error.errno or 0
        else:
            await self._carry(exchange, receiver, authority, scheme, addresses, started)
        exchange.end_seconds = self._loop.time() - started
        return exchange

    async def _addresses(self, authority: str, request: Request, started: float) -> tuple[str, ...]:
        """What a name leads to, if it is one that we look up."""
        if self._options.proxy is not None and not self._options.proxy.startswith("socks5://"):
            return ()
        name = _name_in(authority)
        if name is None:
            return ()
        known = self._names.known(name, started)
        if known is not None:
            return known
        async with asyncio.timeout(min(request.connect_seconds, request.timeout_seconds)):
            return await self._names.look_up(name)

    async def _carry(
        self, exchange: Exchange, receiver: Receiver, authority: str, scheme: str, addresses: tuple[str, ...],
        started: float,
    ) -> None:  # fmt: skip
        line = self._lines.pop() if self._lines else _Line(self)
        line.begin(exchange, receiver, started)
        line.set_up(authority, scheme, addresses)
        self._add(line)
        # At once: a kept connection is looked at now, and what comes on it from now on comes after the request.
        self._act(pycurl.SOCKET_TIMEOUT, 0)
        try:
            await line.done
        finally:
            line.stop_clock()
            if line.easy in self._busy:  # cancelled: its connection goes with it
                self._let_go(line)
                line.easy.close()
            else:
                line.end()
                if len(self._lines) < _MAX_LINES:
                    self._lines.append(line)
                else:
                    line.easy.close()
        if line.raised is not None:
            raise line.raised

    def abort(self, line: _Line, failure: Failure | None) -> None:
        """End an exchange that is under way, from outside of libcurl's callbacks."""
        line.exchange.failure = failure
        self._let_go(line)
        line.finish()

    def _add(self, line: _Line) -> None:
        self._busy[line.easy] = line
        self._multi.add_handle(line.easy)

    def _let_go(self, line: _Line) -> None:
        del self._busy[line.easy]
        self._multi.remove_handle(line.easy)

    # The loop and libcurl

    def _watch(self, what: int, descriptor: int, _multi: Any, _data: Any) -> None:
        before = self._watched.pop(descriptor, 0)
        after = 0 if what == pycurl.POLL_REMOVE else what  # POLL_IN and POLL_OUT are bits
        if after:
            self._watched[descriptor] = after
        self._unwatch(descriptor, before & ~after)
        if after & ~before & pycurl.POLL_IN:
            self._loop.add_reader(descriptor, self._act, descriptor, pycurl.CSELECT_IN)
        if after & ~before & pycurl.POLL_OUT:
            self._loop.add_writer(descriptor, self._act, descriptor, pycurl.CSELECT_OUT)

    def _unwatch(self, descriptor: int, what: int) -> None:
        if what & pycurl.POLL_IN:
            self._loop.remove_reader(descriptor)
        if what & pycurl.POLL_OUT:
            self._loop.remove_writer(descriptor)

    def _set_timer(self, milliseconds: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if milliseconds == 0:
            self._timer = self._loop.call_soon(self._act, pycurl.SOCKET_TIMEOUT, 0)
        elif milliseconds > 0:
            self._timer = self._loop.call_later(milliseconds / 1000, self._act, pycurl.SOCKET_TIMEOUT, 0)

    def _act(self, descriptor: int, what: int) -> None:
        self._multi.socket_action(descriptor, what)
        while True:
            left, good, bad = self._multi.info_read()
            for easy in good:
                self._ended(easy, 0, "")
            for easy, code, text in bad:
                self._ended(easy, code, text)
            if not left:
                return

    def _ended(self, easy: Any, code: int, text: str) -> None:
        line = self._busy[easy]
        self._note_kept(line)
        self._let_go(line)
        if line.is_turned_away:
            line.ask_afresh()
            self._add(line)
            return
        line.note_failure(code, text)
        line.finish()

    # Kept connections

    def _note_kept(self, line: _Line) -> None:
        """Remember the connection that a request leaves behind, if it does."""
        descriptor = line.easy.getinfo(pycurl.ACTIVESOCKET)
        if descriptor < 0 or line.connection is None or line.has_two_framings:
            return
        self._kept[line.connection] = descriptor
        if len(self._kept) > self._options.most_idle:
            self._kept.popitem(last=False)

    def is_clean(self, connection: _Connection) -> bool:
        """Whether a kept connection may carry a request; it is in use from now on.

        Not where bytes, or an end, wait at it: an answer that nobody asked for would be taken for the next one. Nor
        where it is not known, after an answer that left it in doubt.
        """
        descriptor = self._kept.pop(connection, None)
        return descriptor is not None and not _is_readable(descriptor)


if hasattr(select, "poll"):

    def _is_readable(descriptor: int) -> bool:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

else:  # Windows

    def _is_readable(descriptor: int) -> bool:
        return bool(select.select([descriptor], (), (), 0)[0])


class _Opened:
    """A descriptor for libcurl to copy."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        return self._descriptor

    def __del__(self) -> None:
        os.close(self._descriptor)


class _Line:
    """An easy handle with its callbacks, for one request after another. No callback raises."""

    def __init__(self, transport: CurlTransport) -> None:
        self._transport = transport
        self._loop = transport._loop
        self._options = transport._options
        self.easy = easy = pycurl.Curl()
        self._set: dict[int, Any] = {}  # options that change from one request to another
        for option, value in (
            (pycurl.NOSIGNAL, 1),
            (pycurl.PATH_AS_IS, 1),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_1_1),
            (pycurl.HTTP09_ALLOWED, 0),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.PROXY, self._options.proxy or ""),
            (pycurl.NETRC, pycurl.NETRC_IGNORED),
            (pycurl.DNS_CACHE_TIMEOUT, 600),  # longer than a request takes: what is asked is given with it
            (pycurl.MAXAGE_CONN, IDLE_SECONDS),
            (pycurl.TCP_NODELAY, 1),
            (pycurl.OPENSOCKETFUNCTION, self._open),
            (pycurl.PREREQFUNCTION, self._connected),
            (pycurl.HEADERFUNCTION, self._take_head),
            (pycurl.WRITEFUNCTION, self._take_body),
            (pycurl.DEBUGFUNCTION, self._take_note),
        ):
            easy.setopt(option, value)
        trusted = self._options.certificates or ssl.get_default_verify_paths().cafile
        if trusted:
            easy.setopt(pycurl.CAPATH if os.path.isdir(trusted) else pycurl.CAINFO, trusted)

    def begin(self, exchange: Exchange, receiver: Receiver, started: float) -> None:
        self.exchange: Any = exchange
        self.connection: _Connection | None = None  # that the request goes over
        self.done: asyncio.Future[None] = self._loop.create_future()
        self.raised: Exception | None = None  # by whoever was called back: that is its own fault, and no site's
        self.is_turned_away = False  # from a kept connection that is not clean
        self.has_two_framings = False
        self._receiver: Any = receiver
        self._started = started
        self._is_opened = False  # for this request
        self._head_bytes = 0
        self._is_head_whole = False
        self._is_enough = False
        self._is_asked = False
        self._until = started + exchange.request.timeout_seconds
        self._clock = self._loop.call_at(self._until, self._expire)
        self._left = 0.0  # of the time, while paused
        exchange.resume = functools.partial(self._resume, exchange)

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
        self._change(pycurl.HTTPHEADER, request.headers)
        self._change(pycurl.FRESH_CONNECT, int(request.is_fresh))
        self._change(pycurl.FORBID_REUSE, int(request.is_fresh))
        self._change(pycurl.VERBOSE, int(request.keeps_request_head))
        self._change(pycurl.CONNECTTIMEOUT_MS, round(min(request.connect_seconds, request.timeout_seconds) * 1000))
        # libcurl's parser drops a question mark with nothing behind it, and writes %2f in capitals.
        is_whole = scheme == "http" and (self._options.proxy or "").startswith("http")
        easy.setopt(pycurl.REQUEST_TARGET, request.url if is_whole else _target_of(request.url))
        if request.document is not None:
            easy.setopt(pycurl.POSTFIELDS, request.document)  # and by that it is a POST

    def _change(self, option: int, value: Any) -> None:
        if self._set.get(option) != value:
            self.easy.setopt(option, value)
            self._set[option] = value

    def ask_afresh(self) -> None:
        """Once more, for nothing was written: over a connection of its own making."""
        self.is_turned_away = False
        self._change(pycurl.FRESH_CONNECT, 1)

    def finish(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def stop_clock(self) -> None:
        self._clock.cancel()

    def end(self) -> None:
        """Forget the request, and what it holds."""
        self.exchange = self._receiver = _NOTHING

    def note_failure(self, code: int, text: str) -> None:
        """What libcurl's code means, unless it is known better."""
        exchange = self.exchange
        if exchange.failure is not None or self._is_enough:
            return
        if code == 0:  # also where the connection was closed amid the head
            exchange.failure = None if self._is_head_whole else Failure.NO_ANSWER
            return
        exchange.detail, exchange.errno = text, self.easy.getinfo(pycurl.OS_ERRNO)
        failure = _FAILURES.get(code, Failure.UNKNOWN)
        if failure is Failure.BROKEN and _CHUNKS.search(text):
            failure = Failure.BAD_FRAMING
        elif failure is Failure.BROKEN and _TLS_END in text and self._is_head_whole:
            failure = Failure.SHORT_BODY
        exchange.failure = failure
        self._tell_proxy_from_host()

    def _expire(self) -> None:
        exchange = self.exchange
        exchange.failure = Failure.CONNECT_TIMEOUT if exchange.is_connecting else Failure.TIMEOUT
        self._tell_proxy_from_host()
        self._transport.abort(self, exchange.failure)

    def _tell_proxy_from_host(self) -> None:
        """What fails before a proxy has led to the host is the proxy's failure."""
        exchange = self.exchange
        if self._options.proxy is None or not exchange.is_connecting or exchange.failure not in _ON_THE_WAY:
            return
        http_status = self.easy.getinfo(
            pycurl.HTTP_CONNECTCODE
        )  # of a tunnel, which https takes; zero without an answer
        if 200 <= http_status < 300:
            return  # it does lead there
        if http_status and http_status != _PROXY_AUTHENTICATION_REQUIRED:
            exchange.failure, exchange.detail = Failure.PROXY_REFUSED, f"HTTP status {http_status}"
        elif exchange.failure is Failure.CONNECT_TIMEOUT and exchange.request.url.startswith("https:"):
            pass  # it may be either's, and is taken for the host's
        else:
            exchange.failure = Failure.PROXY
            exchange.detail = f"HTTP status {http_status}" if http_status else exchange.detail

    def _set_clock(self, until: float) -> None:
        self._clock.cancel()
        self._clock = self._loop.call_at(until, self._expire)

    def _resume(self, exchange: Exchange, *, is_wanted: bool) -> None:
        if self.exchange is not exchange:  # it is over
            return
        if not is_wanted:
            self._transport.abort(self, None)
            return
        self._until = self._loop.time() + self._left
        self._clock = self._loop.call_at(self._until, self._expire)
        self.easy.pause(pycurl.PAUSE_CONT)

    # Callbacks of libcurl

    def _open(self, _purpose: int, address: Any) -> Any:
        if self._is_asked:  # the kept connection was dead, and libcurl would ask again by itself
            self.exchange.failure = Failure.STALE
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
            exchange.failure = Failure.STALE
            return False
        if exchange.failure is Failure.ADDRESS_REFUSED:  # one of several addresses: what such a name says is not asked
            return False
        connection = _Connection(address, port, own_port)
        if not self._is_opened and not self._transport.is_clean(connection):
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
        exchange.failure = None  # of another address
        exchange.address = address
        exchange.is_kept = not self._is_opened
        if exchange.is_kept and exchange.request.silent_seconds is not None:
            self._set_clock(min(self._until, self._loop.time() + exchange.request.silent_seconds))
        exchange.is_connecting = False
        exchange.sent_seconds = self._loop.time() - self._started
        return True

    def _take_head(self, line: bytes) -> int | None:
        try:
            return None if self._is_head_wanted(line) else 0
        except Exception as error:  # noqa: BLE001 - as in `_connected`
            self.raised = error
            return 0

    def _is_head_wanted(self, line: bytes) -> bool:
        exchange = self.exchange
        if exchange.is_connecting or self._is_head_whole:  # of a proxy's CONNECT; trailers
            return True
        if not exchange.head:
            exchange.first_byte_seconds = self._loop.time() - self._started
            if exchange.is_kept and exchange.request.silent_seconds is not None:
                self._set_clock(self._until)
        exchange.head.append(line)
        self._head_bytes += len(line)
        if self._head_bytes > exchange.request.max_head_bytes:
            exchange.failure = Failure.HEAD_TOO_LARGE
            return False
        if line not in (b"\r\n", b"\n"):
            return True
        said = _STATUS.match(exchange.head[0])
        if said is None:
            exchange.failure = Failure.NOT_HTTP
            return False
        http_status = int(said[1])
        if http_status < 200 and http_status != _SWITCHING_PROTOCOLS:  # an interim answer (RFC 9110 section 15.2)
            exchange.head.clear()
            return True
        self._is_head_whole = True
        exchange.http_status = http_status
        exchange.protocol = exchange.head[0].partition(b" ")[0].decode("latin-1")
        exchange.headers = _headers_in(exchange.head)
        self.has_two_framings = _has_two_framings(exchange.headers)
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
            self._left = max(0.0, self._until - self._loop.time())
            self._clock.cancel()
            self.easy.pause(pycurl.PAUSE_RECV)
        return None

    def _take_note(self, kind: int, data: bytes) -> None:
        """What libcurl tells of itself; asked for where the request's head is to be kept."""
        if kind == pycurl.INFOTYPE_HEADER_OUT and not self.exchange.is_connecting:
            self.exchange.request_head = data
        elif kind == pycurl.INFOTYPE_TEXT and data.startswith(_TLS_NOTE):
            self.exchange.tls = data.removeprefix(_TLS_NOTE).decode("latin-1").strip()


_NOTHING: Final = None
_STATUS: Final = re.compile(rb"HTTP/[0-9.]+[ \t]+([0-9]{3})(?![0-9])", re.IGNORECASE)
_TLS_NOTE: Final = b"SSL connection using "
_NAME_UNKNOWN: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


def _headers_in(head: list[bytes]) -> tuple[tuple[str, str], ...]:
    pairs = (line.partition(b":") for line in head[1:-1])
    return tuple(
        (name.strip().decode("latin-1"), value.strip().decode("latin-1")) for name, colon, value in pairs if colon
    )


def _has_two_framings(headers: tuple[tuple[str, str], ...]) -> bool:
    """Chunks beside a length: whoever sent both may mean either, and is not asked again over that connection
    (RFC 9112 section 6.3)."""
    names = {name.lower() for name, _ in headers}
    return "transfer-encoding" in names and "content-length" in names


def _name_in(authority: str) -> str | None:
    """The host of an authority, if it is a name and no address."""
    if authority.startswith("["):
        return None
    host = authority.partition(":")[0]
    last = host.rstrip(".").rpartition(".")[2]
    return None if last.isdecimal() else host


def _target_of(url: str) -> str:
    rest = url.partition("://")[2]
    at = min((found for found in (rest.find("/"), rest.find("?")) if found >= 0), default=len(rest))
    return rest[at:] if rest[at : at + 1] == "/" else f"/{rest[at:]}"
