"""The one reason for whatever goes wrong with a request: what aiohttp and all that is below it raise is told apart."""

from __future__ import annotations

import errno
import re
import socket
import ssl
from typing import Final

import aiohttp
from aiohttp import http_exceptions
from yarl import URL

from sqspider.record import Reason
from sqspider.web.guard import AddressRefusedError

PROXY_AUTHENTICATION_REQUIRED: Final = 407  # RFC 9110 section 15.5.8: the proxy's word, and no host's


class Trouble(Exception):  # noqa: N818 - carries an outcome to the fetcher, no error to anybody
    """A request ends with this reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail


_TOO_LARGE: Final = re.compile("Too many|Got more than")  # aiohttp gives these no type of their own
_ERRNO: Final = re.compile(r"\[Errno (\d+)\]")
_OS_REASONS: Final = {
    errno.ECONNREFUSED: (Reason.CONNECTION_REFUSED, "nobody listens there"),
    errno.ECONNRESET: (Reason.CONNECTION_RESET, "the connection was reset"),
    errno.EPIPE: (Reason.CONNECTION_RESET, "the connection was closed"),
    errno.ETIMEDOUT: (Reason.CONNECT_TIMEOUT, "no connection in time"),
    errno.ENETUNREACH: (Reason.NO_ROUTE, "there is no way to its network from here"),
    errno.EHOSTUNREACH: (Reason.NO_ROUTE, "there is no way to it from here"),
    errno.ENETDOWN: (Reason.NO_ROUTE, "the network of this machine is down"),
    errno.EMFILE: (Reason.OWN_SHORTAGE, "this process may open no more files and connections (ulimit -n)"),
    errno.ENFILE: (Reason.OWN_SHORTAGE, "this machine can open no more files and connections"),
    errno.ENOBUFS: (Reason.OWN_SHORTAGE, "this machine has no room for another connection"),
    errno.ENOMEM: (Reason.OWN_SHORTAGE, "this machine has no memory left"),
}
_NAME_UNKNOWN: Final = frozenset({socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)})


def classify(
    error: BaseException, *, is_connecting: bool, proxy: str | None = None, url: str = ""
) -> tuple[Reason, str]:
    """The one reason, and a line for a person, for whatever aiohttp and what is below it raises.

    ``is_connecting``: no request has been made, so that no URL can have failed. ``proxy``: what was asked
    through it for ``url``; that it cannot be reached is no trouble of the host's.
    """
    reason, detail = _classified(error, is_connecting=is_connecting, proxy=proxy, url=url)
    if is_connecting and reason is Reason.CONNECTION_RESET:  # in a TLS handshake
        return Reason.UNREACHABLE, f"{detail} before it was asked for anything"
    return reason, detail


def _classified(error: BaseException, *, is_connecting: bool, proxy: str | None, url: str) -> tuple[Reason, str]:
    cause = getattr(error, "os_error", error)  # below what aiohttp says
    if isinstance(cause, AddressRefusedError):
        return Reason.PRIVATE_ADDRESS, str(cause)
    if isinstance(cause, OSError) and not isinstance(cause, socket.gaierror):  # whose numbers mean something else
        found = _os_reason(cause, Reason.INTERNAL_ERROR, "")
        if found[0] is Reason.OWN_SHORTAGE:
            return found
    if proxy is not None and is_connecting and (why := _why_no_proxy(error, proxy, url)):
        return Reason.PROXY_UNUSABLE, why
    match error:
        case aiohttp.ClientConnectorDNSError():
            if getattr(error.os_error, "errno", None) in _NAME_UNKNOWN:
                return Reason.DNS_NOT_FOUND, "the host name does not exist"
            return Reason.DNS_FAILURE, "the host name could not be looked up"
        case aiohttp.ClientSSLError() | ssl.SSLError():
            return Reason.TLS_ERROR, _tls_detail(error)
        case aiohttp.ServerFingerprintMismatch():
            return Reason.TLS_ERROR, "the certificate is another one"
        case aiohttp.ConnectionTimeoutError():
            return Reason.CONNECT_TIMEOUT, "no connection in time"
        case TimeoutError():  # aiohttp's own are among them
            if is_connecting:
                return Reason.CONNECT_TIMEOUT, "no connection within the limit of the fetch"
            return Reason.TIMEOUT, "not complete within the limit of the fetch"
        case aiohttp.ClientHttpProxyError():
            return Reason.UNREACHABLE, f"the proxy cannot connect to it: HTTP status {error.status}"
        case aiohttp.ServerDisconnectedError():
            return Reason.CONNECTION_RESET, "the server hung up without an answer"
        case aiohttp.ClientConnectorError():
            return _os_reason(error.os_error, Reason.UNREACHABLE, "the host cannot be reached")
        case aiohttp.ClientPayloadError():
            text = str(error)
            if "ransferEncoding" in text and "Not enough data" not in text:
                return Reason.BAD_RESPONSE, "the body's framing is broken"
            return Reason.INCOMPLETE_BODY, "the body ended before its announced length"
        case aiohttp.ClientResponseError():
            cause = error.__cause__
            if isinstance(cause, http_exceptions.LineTooLong) or _TOO_LARGE.search(error.message):
                return Reason.HEADERS_TOO_LARGE, "the head of the answer is too large"
            return Reason.BAD_RESPONSE, "the answer is not HTTP"
        case http_exceptions.LineTooLong():
            return Reason.HEADERS_TOO_LARGE, "the head of the answer is too large"
        case aiohttp.InvalidURL():
            return Reason.BAD_URL, "the client library cannot ask for this URL"
        case ConnectionError() | aiohttp.ClientOSError() | OSError():
            return _os_reason(error, Reason.CONNECTION_RESET, "the connection broke")
        case aiohttp.ClientError() | http_exceptions.HttpProcessingError() | ValueError() | OverflowError():
            return Reason.BAD_RESPONSE, "the answer is not HTTP"
    return Reason.INTERNAL_ERROR, f"{type(error).__name__}: see the worker's log"


def _why_no_proxy(error: BaseException, proxy: str, url: str) -> str | None:
    """Why the proxy cannot be used, if it is the proxy that cannot. (Behind a tunnel, which ``https`` takes, a
    time limit may be that of either; then it is taken for the host's.)"""
    match error:
        case aiohttp.ClientHttpProxyError(status=status):
            wants_a_name = status == PROXY_AUTHENTICATION_REQUIRED
            return "the proxy wants a user name and a password: HTTP status 407" if wants_a_name else None
        case aiohttp.ClientProxyConnectionError():
            return "the proxy cannot be reached"
        case aiohttp.ClientConnectorDNSError():
            return "the proxy's name cannot be looked up"  # those of hosts the proxy looks up itself
        case aiohttp.ClientConnectorError(host=host):
            return "the proxy cannot be connected to" if host == URL(proxy).host else None
        case TimeoutError():
            return None if url.startswith("https:") else "no connection to the proxy in time"
    return None


def _os_reason(error: BaseException, otherwise: Reason, detail: str) -> tuple[Reason, str]:
    """By the error number; several addresses may have failed with the same one."""
    number = getattr(error, "errno", None)
    if number is None:
        numbers = set(_ERRNO.findall(str(error)))
        number = int(numbers.pop()) if len(numbers) == 1 else None
        if isinstance(error, ConnectionResetError):  # asyncio's own, in a TLS handshake, has no number
            number = errno.ECONNRESET
    return _OS_REASONS.get(number or 0, (otherwise, detail))


def _tls_detail(error: BaseException) -> str:
    certificate = getattr(error, "certificate_error", None) or getattr(error, "os_error", None) or error
    verify = getattr(certificate, "verify_message", "")
    if verify:
        return f"the certificate is not valid: {verify}"
    reason = getattr(certificate, "reason", None)
    return f"the TLS handshake failed: {reason}" if reason else "the TLS handshake failed"
