"""The head of an answer: its status and headers as they came, and whether what came is HTTP at all."""

from __future__ import annotations

from typing import NamedTuple

import aiohttp

from sqspider.record import Reason
from sqspider.web.errors import PROXY_AUTHENTICATION_REQUIRED, Trouble


class Head(NamedTuple):
    """As the server wrote it."""

    http_status: int
    headers: tuple[tuple[str, str], ...]


def header_of(headers: tuple[tuple[str, str], ...], name: str) -> str | None:
    """The first header of a name, in any case."""
    return next((value for key, value in headers if key.lower() == name.lower()), None)


def head_of(response: aiohttp.ClientResponse, proxy: str | None) -> Head:
    """The head of an answer. Raises :class:`Trouble` where it is none, or is not the host's but the proxy's."""
    if why := _why_not_http(response):
        raise Trouble(Reason.BAD_RESPONSE, why)
    if response.status == PROXY_AUTHENTICATION_REQUIRED and proxy is not None:
        raise Trouble(Reason.PROXY_UNUSABLE, "the proxy wants a user name and a password: HTTP status 407")
    headers = ((name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers)
    return Head(response.status, tuple(headers))


def _why_not_http(response: aiohttp.ClientResponse) -> str | None:
    """What aiohttp lets pass. We asked for no transfer coding (RFC 9112 section 7.4): under any other
    than ``chunked`` it would take the framing, or something packed, for the body."""
    codings = {
        coding.strip().lower()
        for value in response.headers.getall("Transfer-Encoding", ())
        for coding in value.split(",")
    }
    if codings and codings != {"chunked"} and codings != {"identity"}:
        return f"the transfer coding {', '.join(sorted(codings))[:100]!r} was not asked for"
    return "there is a NUL in the status line" if "\0" in (response.reason or "") else None
