"""The one reason for whatever goes wrong with a request, by what the transport says of it."""

from __future__ import annotations

import errno
import re
from typing import Final

from sqspider.record import Reason
from sqspider.transport import Exchange, Failure

PROXY_AUTHENTICATION_REQUIRED: Final = 407  # RFC 9110 section 15.5.8: the proxy's word, and no host's


class Trouble(Exception):  # noqa: N818 - carries an outcome to the fetcher, no error to anybody
    """A request ends with this reason."""

    def __init__(self, reason: Reason, detail: str) -> None:
        self.reason = reason
        self.detail = detail


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
_REASONS: Final = {
    Failure.NAME_UNKNOWN: (Reason.DNS_NOT_FOUND, "the host name does not exist"),
    Failure.NAME_LOOKUP: (Reason.DNS_FAILURE, "the host name could not be looked up"),
    Failure.NO_CONNECTION: (Reason.UNREACHABLE, "the host cannot be reached"),
    Failure.CONNECT_TIMEOUT: (Reason.CONNECT_TIMEOUT, "no connection in time"),
    Failure.BAD_URL: (Reason.BAD_URL, "the client library cannot ask for this URL"),
    Failure.TIMEOUT: (Reason.TIMEOUT, "not complete within the limit of the fetch"),
    Failure.BROKEN: (Reason.CONNECTION_RESET, "the connection broke"),
    Failure.NO_ANSWER: (Reason.CONNECTION_RESET, "the server hung up without an answer"),
    Failure.STALE: (Reason.CONNECTION_RESET, "the connection had been closed"),
    Failure.REFUSED: (Reason.CONNECTION_RESET, "HTTP/2: the server did not take the request"),
    Failure.NOT_HTTP: (Reason.BAD_RESPONSE, "the answer is not HTTP"),
    Failure.HEAD_TOO_LARGE: (Reason.HEADERS_TOO_LARGE, "the head of the answer is too large"),
    Failure.SHORT_BODY: (Reason.INCOMPLETE_BODY, "the connection was closed before anything of the body came"),
    Failure.BAD_FRAMING: (Reason.BAD_RESPONSE, "the body's framing is broken"),
    Failure.OWN_SHORTAGE: (Reason.OWN_SHORTAGE, "this process can open no more connections"),
}


def classify(exchange: Exchange) -> tuple[Reason, str]:
    """The one reason, and a line for a person, for an exchange that failed."""
    failure = exchange.failure
    match failure:
        case Failure.ADDRESS_REFUSED:
            return Reason.PRIVATE_ADDRESS, exchange.detail
        case Failure.TLS:
            return Reason.TLS_ERROR, f"the TLS handshake failed: {exchange.detail}"
        case Failure.CERTIFICATE:
            return Reason.TLS_ERROR, f"the certificate is not valid: {_in_few_words(exchange.detail)}"
        case Failure.PROXY:
            return Reason.PROXY_UNUSABLE, f"the proxy cannot be used: {exchange.detail}"
        case Failure.PROXY_REFUSED:
            return Reason.UNREACHABLE, f"the proxy cannot connect to it: {exchange.detail}"
        case Failure.NOT_HTTP2:
            return Reason.BAD_RESPONSE, f"HTTP/2 does not work with it: {exchange.detail}"
        case Failure.STREAM_RESET:
            return Reason.CONNECTION_RESET, exchange.detail
        case Failure.PROXY_SILENT:
            return Reason.NO_ROUTE, "the proxy does not say in time whether it leads there"
        case Failure.NO_CONNECTION | Failure.BROKEN | Failure.OWN_SHORTAGE:
            reason, detail = _OS_REASONS.get(exchange.errno, _REASONS[failure])
            if failure is Failure.OWN_SHORTAGE and reason is not Reason.OWN_SHORTAGE:
                reason, detail = _REASONS[failure]
        case None | Failure.UNKNOWN | Failure.GATE:
            return Reason.INTERNAL_ERROR, f"{exchange.detail}: see the worker's log"
        case _:
            reason, detail = _REASONS[failure]
    if exchange.is_connecting and reason is Reason.CONNECTION_RESET:  # in a TLS handshake
        return Reason.UNREACHABLE, f"{detail} before it was asked for anything"
    return reason, detail


_AROUND_A_VERDICT: Final = re.compile(r"^SSL(?: certificate OpenSSL verify result)?: | \(\d+\)$")


def _in_few_words(said: str) -> str:
    """A verdict on a certificate, without what stands around it."""
    return _AROUND_A_VERDICT.sub("", said)
