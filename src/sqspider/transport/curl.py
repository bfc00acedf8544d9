"""HTTP by libcurl, its multi-socket interface on the running event loop: no thread, and no wait but the loop's.

What libcurl does by itself and we do not want is off: redirects, cookies, decoding, proxies of the environment, asking
again where a kept connection turns out dead. https://curl.se/libcurl/c/libcurl-multi.html
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
    pycurl.E_ABORTED_BY_CALLBACK: Failure.GATE,
    97: Failure.PROXY,  # CURLE_PROXY
    100: Failure.HEAD_TOO_LARGE,  # CURLE_TOO_LARGE
    56: Failure.BROKEN,
    **dict.fromkeys(
        (
            pycurl.E_SSL_CONNECT_ERROR,
            pycurl.E_PEER_FAILED_VERIFICATION,
            pycurl.E_SSL_CERTPROBLEM,
            pycurl.E_SSL_CIPHER,
            pycurl.E_SSL_CACERT_BADFILE,
            pycurl.E_SSL_ISSUER_ERROR,
            pycurl.E_SSL_INVALIDCERTSTATUS,
        ),
        Failure.TLS,
    ),
}


class CurlOptions(NamedTuple):
    """What holds for every request of a transport: its identity on the net."""

    check_address: CheckAddress | None = None  # none: every address will do
    proxy: str | None = None
    ca_file: str | None = None  # whose certificates are trusted; none: those of the system
    most_idle: int = 64  # connections that are kept


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
        # Kept connections by whom they lead to and our port: their descriptor. The latest last, as libcurl has them.
        self._idle: OrderedDict[tuple[str, int], int] = OrderedDict()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for descriptor, what in list(self._watched.items()):
            self._unwatch(descriptor, what)
        self._watched.clear()
        self._idle.clear()
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
            whom = self._options.proxy or f"{scheme}://{authority}"
            await self._carry(exchange, receiver, whom, authority, scheme, addresses, started)
            while exchange.failure is Failure.DIRTY:  # nothing was written, and that connection is closed
                exchange.failure, exchange.is_kept = None, False
                await self._carry(exchange, receiver, whom, authority, scheme, addresses, started)
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
        self, exchange: Exchange, receiver: Receiver, whom: str, authority: str, scheme: str,
        addresses: tuple[str, ...], started: float,
    ) -> None:  # fmt: skip
        line = self._lines.pop() if self._lines else _Line(self)
        line.begin(exchange, receiver, whom, started)
        line.set_up(authority, scheme, addresses)
        self._busy[line.easy] = line
        self._multi.add_handle(line.easy)
        self._act(pycurl.SOCKET_TIMEOUT, 0)  # at once, and not in the loop's next round
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

    def abort(self, line: _Line, failure: Failure | None) -> None:
        """End an exchange that is under way, from outside of libcurl's callbacks."""
        line.exchange.failure = failure
        self._let_go(line)
        line.finish()

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
        self._note_idle(line)
        self._let_go(line)
        line.note_failure(code, text)
        line.finish()

    # Kept connections

    def _note_idle(self, line: _Line) -> None:
        """Remember the connection that a request leaves behind, if it does."""
        descriptor = line.easy.getinfo(pycurl.ACTIVESOCKET)
        if descriptor < 0 or line.exchange.request.is_fresh or not line.port:
            return
        self._idle[line.whom, line.port] = descriptor
        if len(self._idle) > 4 * self._options.most_idle:  # libcurl keeps fewer: what it closed is not told
            self._idle.popitem(last=False)

    def take_from_idle(self, whom: str, port: int) -> int | None:
        """The descriptor of a connection, known by our port, that is in use again; none: it is new."""
        return self._idle.pop((whom, port), None)


def _has_something(descriptor: int) -> bool:
    """Whether bytes, or an end, wait at a connection that nobody has asked anything."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


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
        ca_file = self._options.ca_file or ssl.get_default_verify_paths().cafile
        if ca_file:
            easy.setopt(pycurl.CAINFO, ca_file)

    def begin(self, exchange: Exchange, receiver: Receiver, whom: str, started: float) -> None:
        self.exchange: Any = exchange
        self.whom = whom
        self.port = 0  # ours, of the connection
        self.done: asyncio.Future[None] = self._loop.create_future()
        self._receiver: Any = receiver
        self._started = started
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
            self._change(pycurl.RESOLVE, [f"+{name}:{port}:{listed}"])
        self._change(pycurl.HTTPHEADER, list(request.headers))
        self._change(pycurl.FRESH_CONNECT, int(request.is_fresh))
        self._change(pycurl.FORBID_REUSE, int(request.is_fresh))
        self._change(pycurl.VERBOSE, int(request.keeps_request_head))
        self._change(pycurl.CONNECTTIMEOUT_MS, round(min(request.connect_seconds, request.timeout_seconds) * 1000))
        # libcurl's parser drops a question mark with nothing behind it, and writes %2f in capitals.
        is_whole = scheme == "http" and (self._options.proxy or "").startswith("http")
        easy.setopt(pycurl.REQUEST_TARGET, request.url if is_whole else _target_of(request.url))
        if request.document is not None:
            easy.setopt(pycurl.POST, 1)
            easy.setopt(pycurl.POSTFIELDS, request.document)

    def _change(self, option: int, value: Any) -> None:
        if self._set.get(option) != value:
            self.easy.setopt(option, value)
            self._set[option] = value

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
        if code == 0 or exchange.failure is not None or self._is_enough:
            return
        exchange.detail, exchange.errno = text, self.easy.getinfo(pycurl.OS_ERRNO)
        exchange.failure = _FAILURES.get(code, Failure.UNKNOWN)

    def _expire(self) -> None:
        self._transport.abort(self, Failure.CONNECT_TIMEOUT if self.exchange.is_connecting else Failure.TIMEOUT)

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
        return opened

    def _connected(self, address: str, _own_address: str, _port: int, own_port: int) -> int:
        """Between connected and written, on kept connections, too."""
        exchange = self.exchange
        if self._is_asked:  # the same, over another one that was kept
            exchange.failure = Failure.STALE
            return int(pycurl.PREREQFUNC_ABORT)
        exchange.address, self.port = address, own_port
        kept = self._transport.take_from_idle(self.whom, own_port)
        exchange.is_kept = kept is not None
        if kept is not None and _has_something(kept):
            # Dead, or an answer that nobody asked for: it would be taken for this request's.
            exchange.failure = Failure.DIRTY
            return int(pycurl.PREREQFUNC_ABORT)
        check = self._options.check_address
        if check is not None and self._options.proxy is None and (why := check(address)):
            exchange.failure, exchange.detail = Failure.ADDRESS_REFUSED, why
            return int(pycurl.PREREQFUNC_ABORT)
        gate = exchange.request.gate
        if gate is not None and not gate():
            exchange.failure = Failure.GATE
            return int(pycurl.PREREQFUNC_ABORT)
        self._is_asked = True
        exchange.is_connecting = False
        exchange.sent_seconds = self._loop.time() - self._started
        return int(pycurl.PREREQFUNC_OK)

    def _take_head(self, line: bytes) -> int | None:
        exchange = self.exchange
        if exchange.is_connecting or self._is_head_whole:  # of a proxy's CONNECT; trailers
            return None
        if not exchange.head:
            exchange.first_byte_seconds = self._loop.time() - self._started
        exchange.head.append(line)
        self._head_bytes += len(line)
        if self._head_bytes > exchange.request.max_head_bytes:
            exchange.failure = Failure.HEAD_TOO_LARGE
            return 0
        if line not in (b"\r\n", b"\n"):
            return None
        said = _STATUS.match(exchange.head[0])
        if said is None:
            exchange.failure = Failure.NOT_HTTP
            return 0
        exchange.http_status = int(said[1])
        if exchange.http_status < 200:  # an interim answer (RFC 9110 section 15.2)
            exchange.head.clear()
            return None
        self._is_head_whole = True
        exchange.protocol = exchange.head[0].partition(b" ")[0].decode("latin-1")
        exchange.headers = _headers_in(exchange.head)
        if self._receiver.head(exchange):
            return None
        self._is_enough = True
        return 0

    def _take_body(self, piece: bytes) -> int | None:
        word = self._receiver.body(piece)
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
_STATUS: Final = re.compile(rb"HTTP/[0-9.]+[ \t]+([0-9]{3})")
_TLS_NOTE: Final = b"SSL connection using "
_NAME_UNKNOWN: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


def _headers_in(head: list[bytes]) -> tuple[tuple[str, str], ...]:
    pairs = (line.partition(b":") for line in head[1:-1])
    return tuple(
        (name.strip().decode("latin-1"), value.strip().decode("latin-1")) for name, colon, value in pairs if colon
    )


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
