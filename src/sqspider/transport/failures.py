"""What libcurl's codes mean. Its messages are looked at only where one code stands for different things."""

from __future__ import annotations

import re
from typing import Final

import pycurl

from sqspider.transport import Failure

_FAILURES: Final = {
    pycurl.E_UNSUPPORTED_PROTOCOL: Failure.NOT_HTTP,  # HTTP/0.9, or what is no HTTP at all
    pycurl.E_URL_MALFORMAT: Failure.BAD_URL,
    pycurl.E_COULDNT_RESOLVE_PROXY: Failure.PROXY,
    pycurl.E_COULDNT_RESOLVE_HOST: Failure.NAME_LOOKUP,
    pycurl.E_COULDNT_CONNECT: Failure.NO_CONNECTION,
    8: Failure.NOT_HTTP,  # CURLE_WEIRD_SERVER_REPLY
    pycurl.E_HTTP2: Failure.NOT_HTTP2,
    92: Failure.NOT_HTTP2,  # CURLE_HTTP2_STREAM
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

_HTTP2_FAULT: Final = re.compile(r"\[HTTP2\]|nghttp2 ")  # that libcurl has found; some have codes of other troubles
_STREAM_RESET: Final = "reset by server"  # of a stream of HTTP/2


def failure_of(code: int, text: str, *, is_head_whole: bool) -> Failure:
    """What a code and its message mean; ``is_head_whole``: of the answer, whose body was coming."""
    failure = _FAILURES.get(code, Failure.UNKNOWN)
    if failure is Failure.NOT_HTTP2 or _HTTP2_FAULT.match(text):
        return _of_http2(text, is_head_whole=is_head_whole)
    if failure is not Failure.BROKEN:
        return failure
    if _CHUNKS.search(text):
        return Failure.BAD_FRAMING
    return Failure.SHORT_BODY if is_head_whole and _TLS_END in text else Failure.BROKEN


def _of_http2(text: str, *, is_head_whole: bool) -> Failure:
    if _STREAM_RESET in text:
        return Failure.STREAM_RESET
    if is_head_whole:
        return Failure.BAD_FRAMING
    return Failure.NOT_HTTP2 if text else Failure.NO_ANSWER  # libcurl has no word for a connection that just ends


def behind_a_proxy(failure: Failure, http_status: int, *, is_tunnel: bool) -> tuple[Failure, str]:
    """Whose failure it is, where nothing has led to the host yet, and what is to be said of it.

    ``http_status``: the proxy's answer for a tunnel, which https takes; zero without one.
    """
    if failure not in _ON_THE_WAY or 200 <= http_status < 300:  # it does lead there
        return failure, ""
    if http_status:
        is_known = http_status != _PROXY_AUTHENTICATION_REQUIRED
        return (Failure.PROXY_REFUSED if is_known else Failure.PROXY), f"HTTP status {http_status}"
    if is_tunnel and failure is Failure.CONNECT_TIMEOUT:
        return Failure.PROXY_SILENT, ""
    return Failure.PROXY, ""


# Of CURLproxycode: the connection is refused, the host or its network is not reached, the TTL has expired: codes 3 to 6
# of RFC 1928 section 6.
_OF_THE_HOST: Final = frozenset({19, 21, 22, 24})


def behind_socks(failure: Failure, code: int) -> Failure:
    """As :func:`behind_a_proxy`, for SOCKS. ``code``: libcurl's, of what the proxy said.

    Whatever fails once it leads there (TLS) is the host's; a time that runs out may be either's.
    """
    if failure is Failure.PROXY and code in _OF_THE_HOST:
        return Failure.PROXY_REFUSED
    if failure is Failure.CONNECT_TIMEOUT:
        return Failure.PROXY_SILENT
    return Failure.PROXY if failure is Failure.NO_CONNECTION else failure
