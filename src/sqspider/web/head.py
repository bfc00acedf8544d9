"""The head of an answer: what its headers say, and whether what came is an answer to us at all."""

from __future__ import annotations

from collections.abc import Iterator

from sqspider.record import Reason
from sqspider.transport import Exchange
from sqspider.web.errors import PROXY_AUTHENTICATION_REQUIRED, Trouble

Headers = tuple[tuple[str, str], ...]


def header_of(headers: Headers, name: str) -> str | None:
    """The first header of a name, in any case."""
    return next(values_of(headers, name), None)


def values_of(headers: Headers, name: str) -> Iterator[str]:
    """All headers of a name, in any case."""
    name = name.lower()
    return (value for key, value in headers if key.lower() == name)


def content_encoding_of(exchange: Exchange) -> str | None:
    """What a body is coded with: the lines of a list are one list (RFC 9110 section 5.3)."""
    if "content-encoding" not in exchange.header_names:
        return None
    return ", ".join(values_of(exchange.headers, "content-encoding")) or None


def check_head(exchange: Exchange, proxy: str | None) -> None:
    """Raises :class:`Trouble` where a head is no answer to our request, or is not the host's but the proxy's."""
    if "transfer-encoding" in exchange.header_names:
        _check_codings(exchange.headers)
    if exchange.http_status == PROXY_AUTHENTICATION_REQUIRED and proxy is not None:
        raise Trouble(Reason.PROXY_UNUSABLE, "the proxy wants a user name and a password: HTTP status 407")


def _check_codings(headers: Headers) -> None:
    """We asked for no transfer coding (RFC 9112 section 7.4): under another one the framing, or something packed, would
    be taken for the body."""
    values = values_of(headers, "transfer-encoding")
    codings = {coding.strip().lower() for value in values for coding in value.split(",")}
    if codings != {"chunked"} and codings != {"identity"}:
        coding = ", ".join(sorted(codings))[:100]
        raise Trouble(Reason.BAD_RESPONSE, f"the transfer coding {coding!r} was not asked for")
