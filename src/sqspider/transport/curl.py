"""HTTP by libcurl, its multi-socket interface on the running event loop: no thread, and no wait but the loop's.

Connections, names and the loop are here; one request is in ``line``. https://curl.se/libcurl/c/libcurl-multi.html
"""

from __future__ import annotations

import asyncio
import select
import socket
import time
from collections import OrderedDict
from typing import Any, Final

import pycurl

from sqspider.transport import Exchange, Failure, Receiver, Request
from sqspider.transport.addresses import AddressRefusedError
from sqspider.transport.line import Connection, Kept, Line
from sqspider.transport.line import CurlOptions as CurlOptions  # said again: they belong together
from sqspider.transport.names import Names

_NO_CHANGE: Final = -2  # libcurl says -1 for no timer
_MAX_LINES: Final = 64  # easy handles kept for further requests
_NAME_UNKNOWN: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


def speaks_http2() -> bool:
    """Whether libcurl was built with what it takes."""
    return bool(pycurl.version_info()[4] & pycurl.VERSION_HTTP2)


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
        multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_NOTHING)  # over HTTP/2, too: a request has its connection alone
        self._watched: dict[int, int] = {}  # descriptors, and what is waited for at them
        self._timer: asyncio.Handle | None = None
        self._wanted = _NO_CHANGE  # milliseconds, of the timer
        self._is_acting = False
        self._lines: list[Line] = []  # not in use
        self._busy: dict[Any, Line] = {}
        self._kept: OrderedDict[Connection, Kept] = OrderedDict()  # the oldest first

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
        started = time.monotonic()  # the loop's own time stands still within a round
        scheme, _, rest = request.url.partition("://")
        authority = rest.partition("/")[0].partition("?")[0]
        try:
            addresses = await self._addresses(authority, request)
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
        exchange.end_seconds = time.monotonic() - started
        return exchange

    async def _addresses(self, authority: str, request: Request) -> tuple[str, ...]:
        """What a name leads to, if it is one that we look up."""
        if self._options.proxy is not None and not self._options.proxy.startswith("socks5://"):
            return ()
        name = _name_in(authority)
        if name is None:
            return ()
        known = self._names.known(name, self._loop.time())
        if known is not None:
            return known
        async with asyncio.timeout(min(request.connect_seconds, request.timeout_seconds)):
            return await self._names.look_up(name)

    async def _carry(
        self, exchange: Exchange, receiver: Receiver, authority: str, scheme: str, addresses: tuple[str, ...],
        started: float,
    ) -> None:  # fmt: skip
        line = self._lines.pop() if self._lines else Line(self, self._options, self._loop)
        line.begin(exchange, receiver, started)
        line.set_up(authority, scheme, addresses)
        self._is_acting = True  # until we act
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

    def abort(self, line: Line, failure: Failure | None) -> None:
        """End an exchange that is under way, from outside of libcurl's callbacks."""
        line.exchange.failure = failure
        self._let_go(line)
        line.finish()

    def _add(self, line: Line) -> None:
        self._busy[line.easy] = line
        self._multi.add_handle(line.easy)

    def _let_go(self, line: Line) -> None:
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
        """Note what libcurl wants: while it acts it may change its mind several times."""
        self._wanted = milliseconds
        if not self._is_acting:
            self._apply_timer()

    def _apply_timer(self) -> None:
        milliseconds, self._wanted = self._wanted, _NO_CHANGE
        if milliseconds == _NO_CHANGE:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if milliseconds >= 0:
            self._timer = self._loop.call_later(milliseconds / 1000, self._act, pycurl.SOCKET_TIMEOUT, 0)

    def _act(self, descriptor: int, what: int) -> None:
        self._is_acting = True
        self._multi.socket_action(descriptor, what)
        left = 1
        while left:
            left, good, bad = self._multi.info_read()
            for easy in good:
                self._ended(easy, 0, "")
            for easy, code, text in bad:
                self._ended(easy, code, text)
        self._is_acting = False
        self._apply_timer()

    def _ended(self, easy: Any, code: int, text: str) -> None:
        line = self._busy[easy]
        descriptor = easy.getinfo(pycurl.ACTIVESOCKET)
        self._let_go(line)
        if line.is_turned_away:
            line.ask_afresh(is_left_open=descriptor >= 0)
            self._add(line)
            return
        if code == 0 and descriptor >= 0:
            self._note_kept(line, descriptor)
        line.note_failure(code, text)
        line.finish()

    # Kept connections

    def _note_kept(self, line: Line, descriptor: int) -> None:
        """Remember the connection that a request leaves behind."""
        if line.connection is None or line.has_two_framings:
            return
        self._kept[line.connection] = Kept(descriptor, line.exchange.tls)
        if len(self._kept) > self._options.most_idle:
            self._kept.popitem(last=False)

    def take(self, connection: Connection) -> Kept | None:
        """A kept connection, if it may carry a request; it is in use from now on.

        Not where bytes, or an end, wait at it: an answer that nobody asked for would be taken for the next one. Nor
        where it is not known, after an answer that left it in doubt.
        """
        kept = self._kept.pop(connection, None)
        return kept if kept is not None and not _is_readable(kept.descriptor) else None


if hasattr(select, "poll"):

    def _is_readable(descriptor: int) -> bool:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(0))

else:  # Windows

    def _is_readable(descriptor: int) -> bool:
        return bool(select.select([descriptor], (), (), 0)[0])


def _name_in(authority: str) -> str | None:
    """The host of an authority, if it is a name and no address."""
    if authority.startswith("["):
        return None
    host = authority.partition(":")[0]
    last = host.rstrip(".").rpartition(".")[2]
    return None if last.isdecimal() else host
